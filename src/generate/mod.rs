//! Synthetic streams: clicks of a shop, WiFi sessions of a campus and its spaces, card transactions; for trying the server out, for
//! tests and for load.
//!
//! # What it promises
//! * **Deterministic.** The rows of a kind, seed, start and the other options are the same every time and everywhere. Without a
//!   start it is [`START_DEFAULT`], unless a rate is given: then the rows are of now (and WiFi sessions are told as they happen).
//! * **Idempotent.** Rows carry ids made from the seed and the start, so that a repeated run, or a retried request, counts once. (A WiFi
//!   session is identified by its device, space and start.)
//! * **Bounded.** Memory does not grow with the number of rows; requests under way, retries and rows held back have limits.
//! * Without a rate: above a million rows per second and core for [`Shape::RetailRocket`], several hundred thousand for the rest.
//!
//! # Where rows go
//! | target | rows |
//! |---|---|
//! | `-` | one JSON object per line to standard output |
//! | `FILE.csv` | the columns of `ampelios` (clicks), or of the kind |
//! | other files | one JSON object per line |
//! | `http://…` | `POST /api/ingest-batch` (clicks), `POST /api/wifi-sessions`, `PUT /api/spaces`; 429, 5xx and broken connections are tried again |
//! | `kafka://broker,broker/topic` | one message per row, keyed by user, device or customer; idempotent producer |
//!
//! # Known limitations
//! * In the format `ampelios` a row has no id: the copies that `duplicates` makes are then rows of their own in a file (equal rows
//!   of one file differ by their ordinal).
//! * `http://` only, without TLS.
//! * Files are written from the beginning; an interrupted run leaves a part.

pub mod disturb;
pub mod options;
pub mod random;
pub mod retailrocket;
pub mod shop;
pub mod sink;
pub mod spaces;
pub mod transactions;
pub mod wifi;

pub use options::{Format, GenerateError, GenerateOptions, Kind, Shape, Target};
pub use shop::{GeneratedEvent, Shop, ShopSettings};
pub use sink::Report;
pub use spaces::{Space, spaces};
pub use wifi::{Campus, WifiSession};

use desireline_records::Micros;
use desireline_records::time::now_micros;
use disturb::{Arriving, Disturb};
use sink::Sink;
use std::time::Duration;
use tokio::time::Instant;

/// 2025-01-06T00:00:00Z, a Monday: where a stream begins that is not of now.
pub const START_DEFAULT: Micros = 1_736_121_600_000_000;

/// One row of a stream, and the forms in which it travels.
pub trait Generated: Arriving + Send {
    const CSV_HEADER: &'static str;
    /// Where a server takes these rows over HTTP, if it does.
    const ENDPOINT: Option<Endpoint>;

    /// One line with its line feed.
    fn csv(&self, out: &mut String);

    /// One object, without a line feed. Only clicks have several formats.
    fn json(&self, format: Format, out: &mut String);

    /// What a topic is partitioned by.
    fn key(&self) -> String;
}

/// An operation that takes rows.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub method: reqwest::Method,
    pub path: &'static str,
    /// Of the body, under which the rows lie.
    pub field: &'static str,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub rows: u64,
    /// 0 when there is no end.
    pub rows_total: u64,
}

/// Generates and delivers; `progress` is called after every batch.
///
/// Dropping the future stops the run; rows under way may or may not arrive then.
pub async fn run(options: GenerateOptions, mut progress: impl FnMut(Progress) + Send) -> Result<Report, GenerateError> {
    options.check()?;
    let start = options.start.unwrap_or_else(|| if options.rate > 0.0 { now_micros() } else { START_DEFAULT });
    match options.kind {
        Kind::Clickstream if options.shape == Shape::RetailRocket => retailrocket::run(&options, &mut progress).await,
        Kind::Clickstream => {
            let settings = ShopSettings {
                source: options.source_id,
                rate: if options.rate > 0.0 { options.rate } else { 50.0 },
                late: options.late,
                duplicates: options.duplicates,
                rhythm: options.rate <= 0.0,
                ..ShopSettings::new(options.seed, options.users, start)
            };
            deliver(Shop::open(settings), &options, &mut progress).await
        }
        Kind::Wifi if options.is_live_campus() => {
            let campus = wifi::Campus::live(options.seed, options.users, start, options.rate, options.open, options.duplicates);
            deliver_due(Disturb::new(campus, options.seed, options.late, options.duplicates), &options, &mut progress).await
        }
        Kind::Wifi => {
            let campus = wifi::Campus::new(options.seed, options.users, start).opening(options.open);
            deliver(Disturb::new(campus, options.seed, options.late, options.duplicates), &options, &mut progress).await
        }
        Kind::Spaces => deliver(spaces::spaces().into_iter(), &options, &mut progress).await,
        Kind::Transactions => {
            let rate = if options.rate > 0.0 { options.rate } else { 100.0 };
            let market = transactions::Market::new(options.seed, options.users, start, rate);
            deliver(Disturb::new(market, options.seed, options.late, options.duplicates), &options, &mut progress).await
        }
    }
}

/// Sends rows in batches, at the rate asked for.
async fn deliver<E: Generated>(
    mut rows: impl Iterator<Item = E>,
    options: &GenerateOptions,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Report, GenerateError> {
    let mut sink = Sink::open::<E>(options).await?;
    let started = Instant::now();
    let mut done = 0u64;
    // Twenty batches a second at least, so that a slow stream flows evenly.
    let batch_rows = match options.rate {
        rate if rate > 0.0 => ((rate / 20.0) as u64).clamp(1, options.batch_rows as u64),
        _ => options.batch_rows as u64,
    };
    while options.events == 0 || done < options.events {
        let wanted = if options.events == 0 { batch_rows } else { batch_rows.min(options.events - done) };
        let mut taken = 0;
        for row in rows.by_ref().take(wanted as usize) {
            sink.push(&row);
            taken += 1;
        }
        if taken == 0 {
            break;
        }
        done += taken;
        if !sink.flush().await? {
            break;
        }
        progress(Progress { rows: done, rows_total: options.events });
        if options.rate > 0.0 {
            tokio::time::sleep_until(started + Duration::from_secs_f64(done as f64 / options.rate)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    sink.finish().await
}

/// A stream of now is looked at this often.
const DUE_EVERY: Duration = Duration::from_millis(50);

/// Sends rows when they are due.
async fn deliver_due<I>(
    mut rows: Disturb<I>,
    options: &GenerateOptions,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Report, GenerateError>
where
    I: Iterator,
    I::Item: Generated,
{
    let mut sink = Sink::open::<I::Item>(options).await?;
    let mut done = 0;
    while options.events == 0 || done < options.events {
        let now = now_micros();
        let left = if options.events == 0 { u64::MAX } else { options.events - done };
        let mut taken = 0;
        while taken < left.min(options.batch_rows as u64) && rows.next_arrival().is_some_and(|due| due <= now) {
            let Some(row) = rows.next() else { break };
            sink.push(&row);
            taken += 1;
        }
        done += taken;
        if taken > 0 && !sink.flush().await? {
            break;
        }
        progress(Progress { rows: done, rows_total: options.events });
        match rows.next_arrival() {
            None => break,
            Some(due) if due > now && done != options.events => {
                let wait = Duration::from_micros(u64::try_from(due - now).unwrap_or(0));
                tokio::time::sleep(wait.max(DUE_EVERY)).await;
            }
            Some(_) => tokio::task::yield_now().await,
        }
    }
    sink.finish().await
}

#[cfg(test)]
mod tests;
