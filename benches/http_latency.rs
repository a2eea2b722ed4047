//! HTTP event to visible in a query, under steady load.
//!
//! The work: clicks of the synthetic shop at 2,000 events per second, in requests of 10 to `POST /api/ingest-batch`; after each
//! reply, one `GET /api/sessions` of the request's last user with `at_least` set to the reply's token, which must show a session.
//! The limit it is measured against, on an idle machine with two cores: p50 15 ms and p99 50 ms from sending to visible.
//!
//! Requests leave by the clock, whether or not earlier ones have been answered, and are timed from when they should have left:
//! a server that stalls is charged for the requests that it kept waiting.
//!
//! `cargo bench --bench http_latency` starts the real binary on a data folder of its own; `DESIRELINE_BENCH_URL` names a server
//! that is up already. Further variables: `DESIRELINE_BENCH_RATE` (events per second), `DESIRELINE_BENCH_BATCH` (events per
//! request), `DESIRELINE_BENCH_SECONDS`, `DESIRELINE_TOKEN`.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use desireline::generate::{Format, Generated, GeneratedEvent, Shop, ShopSettings};
use desireline_records::time::now_micros;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Not counted: connections are opened and caches filled.
const WARM_UP: Duration = Duration::from_secs(3);
const UNDER_WAY_MAX: usize = 512;
/// The limits, in milliseconds.
const VISIBLE_P50_MS: f64 = 15.0;
const VISIBLE_P99_MS: f64 = 50.0;

#[derive(Clone)]
struct Server {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Milliseconds from when the request should have left.
struct Sample {
    acknowledged: f64,
    visible: f64,
}

fn setting<T: FromStr<Err: Display>>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|error: T::Err| anyhow::anyhow!("{name}: {error}")),
        Err(_) => Ok(default),
    }
}

impl Server {
    fn with_token(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn probe(self, due: Instant, events: Vec<GeneratedEvent>) -> Result<Sample> {
        let mut body = String::from("{\"events\":[");
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            event.json(Format::Desireline, &mut body);
        }
        body.push_str("]}");
        let post = self.client.post(format!("{}/api/ingest-batch", self.base)).header("content-type", "application/json").body(body);
        let reply = self.with_token(post).send().await?.error_for_status()?.json::<serde_json::Value>().await?;
        let acknowledged = due.elapsed();
        let token = reply["token"].as_str().context("a reply without a token")?;
        let last = events.last().context("an empty batch")?;
        let url = format!("{}/api/sessions?source_id=0&user_id={}&limit=1&at_least={token}", self.base, last.user_id());
        let answer = self.with_token(self.client.get(url)).send().await?.error_for_status()?.json::<serde_json::Value>().await?;
        ensure!(answer["sessions"].as_array().is_some_and(|rows| !rows.is_empty()), "a write was not visible: {answer}");
        Ok(Sample { acknowledged: acknowledged.as_secs_f64() * 1e3, visible: due.elapsed().as_secs_f64() * 1e3 })
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

async fn measure(base: String) -> Result<()> {
    let rate: f64 = setting("DESIRELINE_BENCH_RATE", 2_000.0)?;
    let batch: usize = setting("DESIRELINE_BENCH_BATCH", 10)?;
    let seconds: u64 = setting("DESIRELINE_BENCH_SECONDS", 20)?;
    ensure!(rate > 0.0 && batch > 0 && seconds > 0, "rate, batch and seconds must be above 0");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let server = Server { client, base, token: std::env::var("DESIRELINE_TOKEN").ok() };
    // A seed of its own, so that a repeated run does not send the same events.
    let seed = now_micros() as u64;
    let mut shop =
        Shop::open(ShopSettings { rate, rhythm: false, late: 0.0, duplicates: 0.0, ..ShopSettings::new(seed, 10_000, now_micros()) });

    let started = Instant::now();
    let end = WARM_UP + Duration::from_secs(seconds);
    let (mut under_way, mut samples, mut failures) = (JoinSet::new(), Vec::new(), Vec::new());
    for request in 0u32.. {
        let offset = Duration::from_secs_f64(f64::from(request) * batch as f64 / rate);
        if offset >= end {
            break;
        }
        let due = started + offset;
        sleep_until(due).await;
        while under_way.len() >= UNDER_WAY_MAX {
            settle(under_way.join_next().await, &mut samples, &mut failures);
        }
        while let Some(done) = under_way.try_join_next() {
            settle(Some(done), &mut samples, &mut failures);
        }
        let (server, events) = (server.clone(), shop.by_ref().take(batch).collect());
        let counts = offset >= WARM_UP;
        under_way.spawn(async move { (counts, server.probe(due, events).await) });
    }
    while let Some(done) = under_way.join_next().await {
        settle(Some(done), &mut samples, &mut failures);
    }
    let sent_for = started.elapsed().as_secs_f64() - WARM_UP.as_secs_f64();
    report(&samples, (samples.len() * batch) as f64 / sent_for, rate);
    if let Some(first) = failures.first() {
        anyhow::bail!("{} requests failed, the first: {first:#}", failures.len());
    }
    Ok(())
}

type Done = Option<Result<(bool, Result<Sample>), tokio::task::JoinError>>;

fn settle(done: Done, samples: &mut Vec<Sample>, failures: &mut Vec<anyhow::Error>) {
    match done {
        Some(Ok((true, Ok(sample)))) => samples.push(sample),
        Some(Ok((_, Err(error)))) => failures.push(error),
        Some(Err(error)) => failures.push(error.into()),
        Some(Ok((false, Ok(_)))) | None => {}
    }
}

fn report(samples: &[Sample], achieved: f64, wanted: f64) {
    println!("| from sending to | p50 ms | p99 ms | max ms | p50 / limit | p99 / limit |");
    println!("|---|---|---|---|---|---|");
    let line = |name: &str, of: fn(&Sample) -> f64, limits: bool| {
        let mut times: Vec<f64> = samples.iter().map(of).collect();
        times.sort_by(f64::total_cmp);
        let at =
            |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        let ratios = if limits { format!("{:.2} | {:.2}", p50 / VISIBLE_P50_MS, p99 / VISIBLE_P99_MS) } else { "- | -".into() };
        println!("| {name} | {p50:.1} | {p99:.1} | {max:.1} | {ratios} |");
    };
    line("acknowledged (durable)", |s| s.acknowledged, false);
    line("visible with at_least", |s| s.visible, true);
    println!("\n{} requests counted; {achieved:.0} events per second of {wanted:.0} wanted", samples.len());
}
