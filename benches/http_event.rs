//! Interactions over HTTP, one request each, under steady load.
//!
//! The work: 3,000 `POST /api/event` per second by 10,000 users, from a second process, each with metadata as a shop's pages send
//! them. The limit it is measured against, on an idle machine with two cores: p50 5 ms and p99 25 ms from sending to the answer,
//! which is durable.
//!
//! Requests leave by the clock, whether or not earlier ones have been answered, and are timed from when they should have left:
//! a server that stalls is charged for the requests that it kept waiting.
//!
//! `cargo bench --bench http_event` starts the real binary on a data folder of its own; `DESIRELINE_BENCH_URL` names a server that is
//! up already, for instance one with Redis and PostgreSQL behind it. Further variables: `DESIRELINE_BENCH_RATE` (requests per second),
//! `DESIRELINE_BENCH_SECONDS`, `DESIRELINE_TOKEN`.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Not counted: connections are opened and caches filled.
const WARM_UP: Duration = Duration::from_secs(3);
const UNDER_WAY_MAX: usize = 512;
const USERS: u32 = 10_000;
const ITEMS: u32 = 5_000;
/// The limits, in milliseconds.
const P50_MS: f64 = 5.0;
const P99_MS: f64 = 25.0;

fn setting<T: FromStr<Err: Display>>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|error: T::Err| anyhow::anyhow!("{name}: {error}")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    if let Ok(base) = std::env::var("DESIRELINE_BENCH_URL") {
        return tokio::runtime::Runtime::new()?.block_on(measure(base.trim_end_matches('/').to_owned()));
    }
    let server = support::server::Server::new().start();
    let cpu = server.cpu_seconds();
    tokio::runtime::Runtime::new()?.block_on(measure(server.base()))?;
    let (cpu, resident) = (server.cpu_seconds() - cpu, server.resident_bytes() >> 20);
    println!("the server took {cpu:.1} s of processor time and holds {resident} MiB");
    Ok(())
}

/// A request's number decides what it says; the same numbers give the same shop.
fn body(number: u32) -> String {
    let word = ["view", "view", "view", "click", "add_to_cart", "rate", "view", "purchase"][number as usize % 8];
    let (user, item) = (number.wrapping_mul(2_654_435_761) % USERS, number.wrapping_mul(40_503) % ITEMS);
    format!(
        r#"{{"user_id":{user},"asin":"B{item:09}","event_type":"{word}","metadata":{{"page":"product_detail","timestamp":"2026-01-01T00:00:00Z","price":19.99,"quantity":1}}}}"#
    )
}

async fn send(request: reqwest::RequestBuilder, due: Instant) -> Result<f64> {
    let reply = request.send().await?.error_for_status()?.bytes().await?;
    let took = due.elapsed();
    ensure!(reply.starts_with(br#"{"success":true"#), "not logged: {}", String::from_utf8_lossy(&reply));
    Ok(took.as_secs_f64() * 1e3)
}

async fn measure(base: String) -> Result<()> {
    let rate: f64 = setting("DESIRELINE_BENCH_RATE", 3_000.0)?;
    let seconds: u64 = setting("DESIRELINE_BENCH_SECONDS", 20)?;
    ensure!(rate > 0.0 && seconds > 0, "rate and seconds must be above 0");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let token = std::env::var("DESIRELINE_TOKEN").ok();
    let url = format!("{base}/api/event");

    let started = Instant::now();
    let end = WARM_UP + Duration::from_secs(seconds);
    let mut under_way = JoinSet::new();
    let mut times = Vec::new();
    let mut settle = |done: Result<(bool, Result<f64>), tokio::task::JoinError>| -> Result<()> {
        let (counts, took) = done.context("a request's task ended")?;
        let took = took?;
        times.extend(counts.then_some(took));
        Ok(())
    };
    for number in 0u32.. {
        let offset = Duration::from_secs_f64(f64::from(number) / rate);
        if offset >= end {
            break;
        }
        let due = started + offset;
        sleep_until(due).await;
        while under_way.len() >= UNDER_WAY_MAX {
            under_way.join_next().await.map_or(Ok(()), &mut settle)?;
        }
        while let Some(done) = under_way.try_join_next() {
            settle(done)?;
        }
        let mut request = client.post(&url).header("content-type", "application/json").body(body(number));
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let counts = offset >= WARM_UP;
        under_way.spawn(async move { (counts, send(request, due).await) });
    }
    while let Some(done) = under_way.join_next().await {
        settle(done)?;
    }
    let sent_for = started.elapsed().as_secs_f64() - WARM_UP.as_secs_f64();
    report(times, sent_for, rate);
    Ok(())
}

fn report(mut times: Vec<f64>, sent_for: f64, wanted: f64) {
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!("| from sending to | p50 ms | p99 ms | max ms | p50 / limit | p99 / limit |");
    println!("|---|---|---|---|---|---|");
    println!("| answered (durable) | {p50:.1} | {p99:.1} | {max:.1} | {:.2} | {:.2} |", p50 / P50_MS, p99 / P99_MS);
    println!("\n{} requests counted; {:.0} per second of {wanted:.0} wanted", times.len(), times.len() as f64 / sent_for);
}
