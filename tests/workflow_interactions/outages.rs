//! Redis and PostgreSQL stop, lose their rows, and come back; the server is killed. No request notices, nothing is lost or doubled.

use crate::stores::Stores;
use crate::support::command::desireline;
use crate::support::server::Server;
use crate::support::services;
use crate::support::wait::{DEADLINE, eventually, eventually_true};
use crate::{fill_catalog, projection, send, services_go, services_stay, wait_logged};
use serde_json::json;
use std::time::{Duration, Instant};

/// Starts a service again, also when the test fails.
struct Stopped(&'static str);

impl Stopped {
    fn now(name: &'static str) -> Option<Self> {
        services::control("kill", name).then_some(Self(name))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        services::control("start", self.0);
    }
}

/// Half of so many requests took no longer than this.
fn median(server: &Server, requests: usize, user: i64) -> Duration {
    let mut times: Vec<Duration> = (0..requests)
        .map(|_| {
            let begin = Instant::now();
            send(&server.http, user, "B1", "view");
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[requests / 2]
}

fn state(server: &Server, name: &str) -> String {
    projection(&server.http.get_json("/api/projections"), name)["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_outage_of_redis_is_no_error() {
    let _services = services_go();
    let Some(stores) = Stores::new() else { return };
    let config = stores.config().replace("wait_ms = 10000", "wait_ms = 50");
    let server = Server::new().config(config).start();
    fill_catalog(&server.http);
    send(&server.http, 1, "B1", "view");
    wait_logged(&stores, 1);
    let Some(stopped) = Stopped::now("redis") else { return };
    for _ in 0..3 {
        assert_eq!(send(&server.http, 1, "B2", "click")["success"], true);
    }
    wait_logged(&stores, 4);
    let answer = server.http.get_json("/api/context/1");
    assert_eq!(answer["recent_items"], json!(["B2", "B2", "B2", "B1"]), "the context needs no Redis");
    let behind = server.http.get("/metrics").expect_status(200).text();
    let behind = behind.lines().find(|line| line.starts_with("desireline_interactions_redis_behind_total")).unwrap_or_default();
    assert!(behind.ends_with(" 3"), "the answers that did not wait are counted: {behind}");
    eventually_true("the failure to show", DEADLINE, || state(&server, "redis") == "failing");
    drop(stopped);
    eventually("the context in Redis", DEADLINE, || match stores.try_context(1) {
        Ok(context) if context.recent_items == ["B2", "B2", "B2", "B1"] && context.recent_categories["Skin"] == 3 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    eventually_true("the projection to be well", DEADLINE, || state(&server, "redis") == "live");
}

#[test]
fn an_outage_of_postgres_is_neither_an_error_nor_a_delay_nor_a_loss() {
    let _services = services_go();
    let Some(stores) = Stores::new() else { return };
    let mut server = Server::new().config(stores.config()).start();
    fill_catalog(&server.http);
    let usual = median(&server, 100, 1);
    wait_logged(&stores, 100);
    let Some(stopped) = Stopped::now("postgres") else { return };
    let without = median(&server, 100, 1);
    assert!(without < usual * 4 + Duration::from_millis(20), "{without:?} instead of {usual:?}");
    eventually_true("the failure to show", DEADLINE, || state(&server, "postgres") == "failing");
    // The server dies, too, and begins while the database is still away.
    server.crash();
    for _ in 0..10 {
        send(&server.http, 2, "B3", "purchase");
    }
    drop(stopped);
    wait_logged(&stores, 210);
    let mut expected = vec![(1, "B1".to_owned(), "view".to_owned()); 200];
    expected.extend(vec![(2, "B3".to_owned(), "purchase".to_owned()); 10]);
    assert_eq!(stores.logged_keys(), expected, "every event once");
    let refused = stores.query(&format!("SELECT count(*) FROM {}", stores.schema().replace("interactions", "desireline.refused_rows")));
    assert_eq!(refused.unwrap(), [[Some("0".to_owned())]], "an outage makes no dead letters");
    eventually_true("the projection to be well", DEADLINE, || state(&server, "postgres") == "live");
}

#[test]
fn a_killed_server_leaves_every_event_once() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let mut server = Server::new().config(stores.config()).start();
    fill_catalog(&server.http);
    let mut sent = 0;
    for round in 0..3 {
        for _ in 0..20 + round {
            send(&server.http, round, "B1", "view");
            sent += 1;
        }
        server.crash();
    }
    send(&server.http, 9, "B2", "view");
    let rows = wait_logged(&stores, sent + 1);
    for round in 0..3 {
        assert_eq!(rows.iter().filter(|row| row.user == round).count(), 20 + round as usize, "user {round}");
        let context = stores.context(round);
        assert_eq!(context.recent_items, vec!["B1"; 20]);
        assert_eq!(context.recent_categories["Beauty"], 20 + round as u64);
    }
}

#[test]
fn lost_tables_and_keys_come_back() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let server = Server::new().config(stores.config()).start();
    fill_catalog(&server.http);
    for user in [1, 1, 2] {
        send(&server.http, user, "B1", "view");
    }
    let before = wait_logged(&stores, 3);
    // Nobody tells the server.
    stores.query(&format!("DROP SCHEMA {} CASCADE", stores.schema())).unwrap();
    let after = wait_logged(&stores, 3);
    assert_eq!(after, before);
    // Rows that somebody has changed by hand are only seen to when the rows are built anew.
    stores.query(&format!("DELETE FROM {}.interaction_logs WHERE user_id = 1", stores.schema())).unwrap();
    stores.forget(1);
    assert_eq!(stores.logged().len(), 1);
    for name in ["postgres", "redis"] {
        desireline(server.folder(), &["projection", "rebuild", name, "--wait", "--url", &server.base()]).expect_code(0);
    }
    assert_eq!(stores.logged(), before);
    assert_eq!(stores.context(1).recent_items, ["B1", "B1"]);
    let listed = desireline(server.folder(), &["projection", "ls", "--url", &server.base()]).expect_code(0);
    assert!(listed.stdout.contains("postgres") && listed.stdout.contains("redis"), "{}", listed.stdout);
}

/// A projection that is paused lets its target be, over restarts, and then catches up.
#[test]
fn a_paused_projection_waits_for_its_operator() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let mut server = Server::new().config(stores.config()).start();
    fill_catalog(&server.http);
    send(&server.http, 1, "B1", "view");
    wait_logged(&stores, 1);
    let order = |server: &Server, what: &str| {
        desireline(server.folder(), &["projection", what, "postgres", "--url", &server.base()]).expect_code(0);
    };
    order(&server, "pause");
    eventually_true("the pause", DEADLINE, || state(&server, "postgres") == "paused");
    send(&server.http, 1, "B2", "view");
    server.crash();
    eventually_true("the pause", DEADLINE, || state(&server, "postgres") == "paused");
    send(&server.http, 1, "B3", "view");
    assert_eq!(stores.context(1).recent_items, ["B3", "B2", "B1"], "the other projection goes on");
    assert_eq!(stores.logged().len(), 1);
    order(&server, "resume");
    let asins: Vec<String> = wait_logged(&stores, 3).into_iter().map(|row| row.asin).collect();
    assert_eq!(asins, ["B1", "B2", "B3"]);
}
