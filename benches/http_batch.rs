//! What an event costs that comes in large requests.
//!
//! The work: clicks of the synthetic shop, made beforehand, in requests of 1,000 to `POST /api/ingest-batch`, four under way at
//! once, into the real binary on a local data folder: parsing, validation, the durable log and every view. The limit is 150,000
//! events per CPU-second of the server's process (all threads, user and system). First, what the idle server holds in memory;
//! the limit is 100 MiB.
//!
//! `cargo bench --bench http_batch`. `DESIRELINE_BENCH_EVENTS` (500,000), `DESIRELINE_BENCH_BATCH` (1,000).

#[path = "../tests/support/mod.rs"]
mod support;

use desireline::generate::{Format, Generated, Shop, ShopSettings};
use desireline_records::time::now_micros;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::http::Http;
use support::server::Server;
use support::wait::eventually;

const LIMIT_EVENTS_PER_CPU_S: f64 = 150_000.0;
const LIMIT_IDLE_MIB: f64 = 100.0;
const CLIENTS: usize = 4;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn bodies(events: usize, batch: usize) -> Vec<Vec<u8>> {
    let now = now_micros();
    let start = now - 3_600_000_000;
    let settings = ShopSettings {
        rate: events as f64 / 3_000.0,
        rhythm: false,
        late: 0.0,
        duplicates: 0.0,
        ..ShopSettings::new(now as u64, 10_000, start)
    };
    let shop = Shop::open(settings);
    let mut shop = shop.take(events).peekable();
    let mut bodies = Vec::new();
    while shop.peek().is_some() {
        let mut body = String::from("{\"events\":[");
        for (index, event) in shop.by_ref().take(batch).enumerate() {
            if index > 0 {
                body.push(',');
            }
            event.json(Format::Desireline, &mut body);
        }
        body.push_str("]}");
        bodies.push(body.into_bytes());
    }
    bodies
}

fn main() {
    let (events, batch) = (setting("DESIRELINE_BENCH_EVENTS", 500_000), setting("DESIRELINE_BENCH_BATCH", 1_000));
    let server = Server::new().start();
    let idle = server.resident_bytes() as f64 / f64::from(1 << 20);
    println!("idle: {idle:.0} MiB resident of {LIMIT_IDLE_MIB} ({:.2})\n", idle / LIMIT_IDLE_MIB);
    let bodies = bodies(events, batch);
    let (next, accepted, busy) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (begin, cpu) = (Instant::now(), server.cpu_seconds());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client = Http::new(server.base());
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    accepted.fetch_add(send(&client, body, &busy), Ordering::Relaxed);
                }
            });
        }
    });
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), server.cpu_seconds() - cpu);
    assert_eq!(accepted.load(Ordering::Relaxed), events, "every event is accepted");
    let rate = events as f64 / cpu;
    println!("| {events} events in requests of {batch} | events / CPU-s | limit / measured | wall s | CPU s | MiB | answers 429 |");
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {CLIENTS} clients | {rate:.0} | {:.2} | {wall:.1} | {cpu:.1} | {:.0} | {} |",
        LIMIT_EVENTS_PER_CPU_S / rate,
        server.resident_bytes() as f64 / f64::from(1 << 20),
        busy.load(Ordering::Relaxed)
    );
}

/// Sends a body until it is taken; how many events were new.
fn send(client: &Http, body: &[u8], busy: &AtomicUsize) -> usize {
    eventually("a request to be taken", Duration::from_secs(60), || {
        let headers = [("content-type", "application/json")];
        let reply = client.send(reqwest::Method::POST, "/api/ingest-batch", &headers, body.to_vec());
        match reply.status {
            200 => Ok(reply.json().get("inserted").and_then(Value::as_u64).expect("a count") as usize),
            429 => Err(format!("busy {} times", busy.fetch_add(1, Ordering::Relaxed) + 1)),
            other => panic!("status {other}: {}", reply.text()),
        }
    })
}
