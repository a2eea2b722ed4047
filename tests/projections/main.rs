//! Projections around the real binary, with the real PostgreSQL and the real Redis behind a proxy: servers killed between any two messages,
//! databases killed, emptied, locked, full or out of reach, two servers at once.
//!
//! What is asked in each case: ingest goes on as if nothing were, and afterwards every row of every table and every key of every context
//! is what the slow reference says, reading the log from its beginning.
//!
//! The tests run one after another, because some of them take a service away.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod faults;
#[path = "../targets/postgres/model.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;
#[path = "../targets/postgres/tables.rs"]
mod tables;

use desireline_connectors::log::LogReader;
use desireline_connectors::store::Store;
use desireline_dataflows::reference::Reference;
use futures::StreamExt;
use model::Model;
use redis::Commands;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::http::Http;
use support::proxy::Proxy;
use support::server::Server;
use support::services;
use support::wait::{DEADLINE, Stop, eventually};
use tables::Site;
use tokio::runtime::Runtime;

static ALONE: Mutex<()> = Mutex::new(());

/// The source whose users are numbers and whose events fill `ampelios.events`.
pub const CLICKS: u32 = 1;
/// The source of interactions.
pub const SHOP: u32 = 1_000;

/// A server whose projections go through proxies.
pub struct Rig {
    pub server: Server,
    pub postgres: Arc<Proxy>,
    pub redis: Arc<Proxy>,
    pub site: Option<Site>,
    pub runtime: Runtime,
    prefix: String,
    redis_url: String,
    _alone: MutexGuard<'static, ()>,
}

/// `host:port` of a URL, and the URL with another.
fn through(url: &str, port: impl Fn(&str) -> u16) -> String {
    let mut parsed = reqwest::Url::parse(url).expect("the service's URL");
    let address = format!("{}:{}", parsed.host_str().expect("a host"), parsed.port().unwrap_or(5432));
    parsed.set_port(Some(port(&address))).expect("a port can be set");
    parsed.set_host(Some("127.0.0.1")).expect("a host can be set");
    parsed.to_string()
}

impl Rig {
    /// Nothing where a service is missing.
    pub fn new() -> Option<Rig> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (postgres_url, redis_url) = (services::postgres()?, services::redis()?);
        let runtime = Runtime::new().expect("a runtime");
        let site = runtime.block_on(Site::new(&postgres_url));
        let proxy = |url: &str| {
            let mut made = None;
            let url = {
                let made = std::cell::RefCell::new(&mut made);
                through(url, |address| {
                    let proxy = Proxy::new(address);
                    let port = proxy.port();
                    **made.borrow_mut() = Some(proxy);
                    port
                })
            };
            (url, Arc::new(made.expect("a proxy")))
        };
        let (url, postgres) = proxy(&postgres_url);
        let (cache, redis) = proxy(&redis_url);
        let prefix = format!("t{}:", site.schemas.ampelios);
        let config = config(&site, &url, &cache, &prefix);
        let server = Server::new().config(config).start();
        Some(Rig { server, postgres, redis, site: Some(site), runtime, prefix, redis_url, _alone: alone })
    }

    pub fn site(&self) -> &Site {
        self.site.as_ref().expect("until it is dropped")
    }

    /// Waits until a projection is live and has everything that is durable now.
    #[track_caller]
    pub fn caught_up(&self, name: &str) {
        let committed = self.server.http.get_json("/api/status")["committed"].as_u64().expect("a time");
        eventually("a projection to catch up", DEADLINE, || {
            let row = projection(&self.server.http, name);
            let done = row["state"] == "live" && row["applied"].as_u64() >= Some(committed);
            if done { Ok(()) } else { Err(row) }
        });
    }

    /// Stops the server, compares everything with the log, and starts again.
    #[track_caller]
    pub fn compare(&mut self) {
        self.caught_up("postgres");
        self.caught_up("redis");
        assert!(self.server.stop().success(), "the server ends cleanly");
        // What the server did by itself since, such as training, its tables may have or not: they are true at the time that they name.
        let applied = format!("SELECT applied FROM {} WHERE name = 'postgres'", self.site().table("projection"));
        let applied = self.runtime.block_on(self.site().number(&applied));
        let reference = self.runtime.block_on(reference(self.server.data(), applied.try_into().expect("a time")));
        let tables = self.runtime.block_on(self.site().tables());
        tables::assert_same(&tables, &Model::of(&reference).tables(), "after the fault");
        assert!(tables["events"].len() + tables["interaction_logs"].len() > 10, "something is compared");
        self.compare_contexts(&reference);
        self.server.start_again();
    }

    /// Keys against contexts that have not expired.
    fn compare_contexts(&self, reference: &Reference) {
        let mut redis = redis::Client::open(self.redis_url.as_str()).expect("a URL").get_connection().expect("Redis answers");
        let now = chrono::Utc::now().timestamp_micros();
        let mut expected = BTreeMap::new();
        // What expires within the moment of the comparison may be there or not.
        for row in reference.contexts().into_iter().filter(|row| row.expires_at > now + 5_000_000) {
            let key = |what: &str| format!("{}user:{}:{what}", self.prefix, row.user);
            let items: Vec<String> = row.recent_items.iter().map(ToString::to_string).collect();
            expected.insert(key("recent_items"), json!(items));
            let categories: BTreeMap<&str, String> = row.recent_categories.iter().map(|(name, n)| (name.as_str(), n.to_string())).collect();
            if !categories.is_empty() {
                expected.insert(key("recent_categories"), json!(categories));
            }
            expected.insert(key("last_active"), json!((row.last_active / 1_000_000).to_string()));
        }
        assert!(!expected.is_empty(), "some context is current");
        let names: Vec<String> = redis.scan_match(format!("{}user:*", self.prefix)).expect("keys").map(|key| key.expect("a key")).collect();
        let mut found = BTreeMap::new();
        for name in names {
            let value = match name.rsplit(':').next() {
                Some("recent_items") => json!(redis.lrange::<_, Vec<String>>(&name, 0, -1).expect("a list")),
                Some("recent_categories") => json!(redis.hgetall::<_, BTreeMap<String, String>>(&name).expect("a hash")),
                _ => json!(redis.get::<_, String>(&name).expect("a text")),
            };
            found.insert(name, value);
        }
        assert_eq!(found, expected);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.postgres.refuse();
        if let (Some(site), false) = (self.site.take(), std::thread::panicking()) {
            self.runtime.block_on(site.drop_all());
        }
    }
}

fn config(site: &Site, postgres: &str, cache: &str, prefix: &str) -> String {
    let schemas = &site.schemas;
    format!(
        "[engine]\ntick_every = \"200ms\"\n\
         [[source]]\nname = \"clicks\"\nsource_id = {CLICKS}\nuser_id_type = \"int\"\n\
         [projections]\nretry_min = \"10ms\"\nretry_max = \"200ms\"\ncheck_every = \"100ms\"\n\
         [projection.postgres]\nurl = {postgres:?}\nschema_ampelios = {:?}\nschema_interactions = {:?}\nschema_clickstream = {:?}\n\
         schema_desireline = {:?}\ngather = \"0ms\"\nlock_timeout = \"200ms\"\nconnect_timeout = \"500ms\"\nstatement_timeout = \"5s\"\n\
         [projection.redis]\nurl = {cache:?}\nkey_prefix = {prefix:?}\nconnect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"\n",
        schemas.ampelios, schemas.interactions, schemas.clickstream, schemas.desireline
    )
}

pub fn projection(http: &Http, name: &str) -> Value {
    let answer = http.get_json("/api/projections");
    let rows = answer["projections"].as_array().expect("a list");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}")).clone()
}

/// The views at a time, recomputed from the log.
async fn reference(data: &std::path::Path, until: u64) -> Reference {
    let store = Store::open(&data.display().to_string(), &BTreeMap::new()).expect("the log's folder");
    let mut reference = Reference::default();
    let mut batches = LogReader::open(store, 0).batches(0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("the log can be read");
        if batch.time <= until {
            reference.apply(&batch);
        }
    }
    reference
}

static SENT: AtomicU64 = AtomicU64::new(0);

/// Sends one request of some kind; answers whether it was taken.
pub fn send(http: &Http) -> bool {
    let n = SENT.fetch_add(1, Ordering::Relaxed);
    let now = chrono::Utc::now().timestamp_millis();
    let (path, method, body) = match n % 9 {
        0..=2 => {
            let words = ["view", "click", "add_to_cart", "purchase", "rate"];
            let metadata = json!({ "page": format!("/{}", n % 5), "n": n });
            let body =
                json!({ "user_id": n % 23, "asin": format!("B{}", n % 31), "event_type": words[(n % 5) as usize], "metadata": metadata });
            ("/api/event".to_owned(), reqwest::Method::POST, body)
        }
        3 => {
            let item = json!({ "asin": format!("B{}", n % 37), "parent_asin": format!("P{}", n % 7), "variant": format!("{n}") });
            ("/api/items".to_owned(), reqwest::Method::PUT, json!({ "items": [item] }))
        }
        4 => {
            let brand = json!({ "brand": format!("brand {}", n % 3) });
            let product = json!({ "parent_asin": format!("P{}", n % 7), "main_category": format!("c{}", n % 4), "raw_metadata": brand });
            ("/api/products".to_owned(), reqwest::Method::PUT, json!({ "products": [product] }))
        }
        5 if n % 4 == 1 && n > 200 => (format!("/api/events/e{}?source_id={CLICKS}", n - 150), reqwest::Method::DELETE, json!({})),
        _ => {
            // Disorder over two hours, and every tenth event twice.
            let event = |n: u64| {
                let word = ["view", "purchase", "addtocart"][(n % 3) as usize];
                json!({ "source_id": CLICKS, "event_id": format!("e{n}"), "user_id": n % 17, "event_type": word,
                    "page": format!("/p{}", n % 4), "item_id": format!("{}", n % 50), "value": n % 100,
                    "timestamp": now - ((n * 7_919) % 7_200) as i64 * 1_000 })
            };
            let events: Vec<Value> = (0..5).map(|_| event(SENT.fetch_add(1, Ordering::Relaxed) / 10 * 9)).chain([event(n)]).collect();
            ("/api/ingest-batch".to_owned(), reqwest::Method::POST, json!({ "events": events }))
        }
    };
    let reply = http.try_send(method, &path, &[("content-type", "application/json")], body.to_string().into_bytes());
    match reply {
        // A deletion may name what is not there.
        Ok(reply) => {
            assert!([200, 202, 404].contains(&reply.status), "{path}: {} {}", reply.status, reply.text());
            true
        }
        Err(_) => false,
    }
}

/// Requests from two threads until the work is done; none of them may be refused unless the server is away.
pub fn under_load<T>(rig: &Rig, server_stays: bool, work: impl FnOnce() -> T) -> T {
    let stop = Stop::default();
    let base = rig.server.base();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let http = Http::new(base.clone());
                    let mut taken = 0;
                    while !stop.stopped_within(Duration::from_millis(5)) {
                        let sent = send(&http);
                        assert!(sent || !server_stays, "a request failed while a target was in trouble");
                        taken += u64::from(sent);
                    }
                    taken
                })
            })
            .collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.stop();
        let taken: u64 = loads.into_iter().map(|load| load.join().expect("the load goes on")).sum();
        assert!(taken > 0, "nothing was sent");
        match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Waits until so many more rows have come into a table's projection.
#[track_caller]
pub fn progress(rig: &Rig, name: &str, rows: u64) {
    let applied = || projection(&rig.server.http, name)["rows_applied"].as_u64().expect("a count");
    let before = applied();
    eventually(
        "rows to be applied",
        DEADLINE,
        || if applied() >= before + rows { Ok(()) } else { Err(projection(&rig.server.http, name)) },
    );
}
