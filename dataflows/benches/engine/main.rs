//! What do the views cost?
//!
//! Declared experiments; each is a process of its own, so that one's memory is not another's. Figures are processor time, which
//! a busy machine disturbs less than the clock, and each is given as a ratio to its limit.
//!
//! | experiment | the work | the limit |
//! |---|---|---|
//! | `shop` | sessions, journeys and minutes of 2 M events in batches of 10,000 | 3 times a plain loop over hash maps with the same answers |
//! | `retailrocket` | the same for 2.76 M events of 1.4 M users | likewise |
//! | `late` | batches of 100 new events, up to 2 h or up to 4 weeks old, with 2 M events loaded | 0.3 ms a batch |
//! | `shop-memory`, `retailrocket-memory` | growth of resident memory by the same two streams, nothing sealed | 160 and 240 bytes an event |
//! | `campus` | bins of 15 minutes, an hour and a day, visits and moves of 1 M WiFi sessions of 50,000 devices in 500 rooms | 2.5 times a plain loop that keeps the bins alone |
//! | `campus-late` | batches of 100 new sessions, up to 2 h or up to 4 weeks old, with 1 M sessions loaded | 0.5 ms a batch |
//! | `campus-sealed` | resident memory at half and at the end of an endless stream of WiFi sessions, sealed two days back | 1.1 times |
//! | `sealed` | resident memory at half and at the end of an endless stream with a horizon of 200 minutes | 1.1 times |
//!
//! `cargo bench -p desireline-dataflows --bench engine [-- NAME…]`. `DESIRELINE_BENCH_EVENTS` scales the first five (2,000,000),
//! `DESIRELINE_BENCH_UPDATES` is how many batches `late` has of each age (300),
//! `DESIRELINE_BENCH_SEALED_EVENTS` is the length of the last (4,000,000; the figures in docs/performance.md are for 20,000,000).
//! With `DESIRELINE_BENCH_GATE=1` a ratio above its limit is a failure.

mod campus;
mod meter;
mod plain;
mod workload;

use campus::{Campus, PlainCampus};
use desireline_dataflows::query::{Answer, Query, UserQuery};
use desireline_dataflows::views::occupancy::query::OccupancyQuery;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::time::{DAY, HOUR, MINUTE};
use desireline_records::{Batch, Cell, CellKey, Control, Event, Horizon, Measure, Micros, Seal, SealFrom, SealStays};
use meter::{cpu_seconds, resident_bytes};
use plain::Plain;
use std::process::ExitCode;
use std::sync::Arc;
use workload::{RetailRocket, Shop, batches, settings};

const BATCH_ROWS: usize = 10_000;
const EXPERIMENTS: [&str; 9] =
    ["shop", "retailrocket", "late", "shop-memory", "retailrocket-memory", "sealed", "campus", "campus-late", "campus-sealed"];
/// Tells a process which experiment it is.
const WHICH: &str = "DESIRELINE_BENCH_EXPERIMENT";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn events() -> u64 {
    setting("DESIRELINE_BENCH_EVENTS", 2_000_000)
}

fn main() -> ExitCode {
    if let Ok(which) = std::env::var(WHICH) {
        return run(&which);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("| experiment | measured | limit | ratio |\n|---|---|---|---|");
    let mut failed = false;
    for name in EXPERIMENTS.iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == *name)) {
        let program = std::env::current_exe().expect("a running program has a path");
        let status = std::process::Command::new(program).env(WHICH, name).status().expect("the program can be started");
        failed |= !status.success();
    }
    ExitCode::from(u8::from(failed))
}

fn run(which: &str) -> ExitCode {
    let ratios = match which {
        "shop" => throughput(which, || Shop::new(1).take(events() as usize)),
        "retailrocket" => throughput(which, || RetailRocket::new(1, events() * workload::RETAILROCKET_EVENTS / 2_000_000)),
        "late" => late_updates(),
        "shop-memory" => growth(which, Shop::new(3).take(events() as usize), 160.0),
        "retailrocket-memory" => growth(which, RetailRocket::new(3, events() * workload::RETAILROCKET_EVENTS / 2_000_000), 240.0),
        "sealed" => sealed(),
        "campus" => campus_throughput(),
        "campus-late" => campus_late(),
        "campus-sealed" => campus_sealed(),
        other => panic!("no experiment is named {other}"),
    };
    let beyond = ratios.iter().any(|ratio| *ratio > 1.0);
    let gated = std::env::var("DESIRELINE_BENCH_GATE").is_ok_and(|gate| gate == "1");
    ExitCode::from(u8::from(beyond && gated))
}

/// An engine and the last time it was given.
struct Run {
    engine: Engine,
    last: u64,
}

impl Run {
    fn start(horizon: Horizon) -> Self {
        Self::with(settings(horizon))
    }

    fn with(settings: Arc<Batch>) -> Self {
        let engine = Engine::start(EngineConfig::default()).expect("one worker can be started");
        let mut run = Self { engine, last: 0 };
        run.submit(settings);
        run.wait();
        run
    }

    /// Every bin of the three widths, in order.
    fn bins(&self) -> Vec<(CellKey, Cell)> {
        let mut cells = Vec::new();
        for seconds in [900, 3_600, 86_400] {
            let (root, measure, from, to) = (None, Measure::Devices(seconds), Micros::MIN / 2, Micros::MAX / 2);
            let query = Query::Occupancy(OccupancyQuery::Cells { root, measure, from, to });
            for answer in self.engine.ask(query).expect("the engine runs").1 {
                if let Answer::Occupancy(part) = answer {
                    cells.extend(part.cells);
                }
            }
        }
        cells.sort_unstable();
        cells
    }

    fn submit(&mut self, batch: Arc<Batch>) {
        self.last = batch.time;
        self.engine.submit(batch, drop).expect("the engine runs");
    }

    /// Until everything is applied: a question is answered in order with the batches.
    fn wait(&self) {
        let nobody = UserQuery { user: Some("".into()), ..UserQuery::default() };
        drop(self.engine.ask(Query::Users(nobody)).expect("the engine runs"));
    }

    fn totals(&self) -> [i128; 6] {
        let mut totals = [0i128; 6];
        for answer in self.engine.ask(Query::Overview).expect("the engine runs").1 {
            if let Answer::Overview { sources, worker, .. } = answer {
                for (_, source) in sources {
                    totals[0] += i128::from(source.users);
                    totals[1] += i128::from(source.open_events);
                    totals[2] += i128::from(source.open_sessions);
                }
                totals[5] += worker.minute_cells as i128;
            }
        }
        for answer in self.engine.ask(Query::Minutes { source: None, from: Micros::MIN / 2 }).expect("the engine runs").1 {
            if let Answer::Minutes(cells) = answer {
                totals[4] += cells.iter().map(|cell| cell.revenue).sum::<i128>();
                totals[3] += cells.iter().filter(|c| c.event_type.ends_with("view")).map(|c| i128::from(c.count)).sum::<i128>();
            }
        }
        totals
    }
}

fn throughput<I: Iterator<Item = Event>>(name: &str, stream: impl Fn() -> I) -> Vec<f64> {
    let all: Vec<Arc<Batch>> = batches(stream(), BATCH_ROWS).collect();
    let count: usize = all.iter().map(|batch| batch.events.len()).sum();
    let (mut best_loop, mut best_engine) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let begin = cpu_seconds();
        let mut plain = Plain::default();
        all.iter().for_each(|batch| plain.apply(batch));
        best_loop = best_loop.min(cpu_seconds() - begin);
        let mut run = Run::start(Horizon::Off);
        let begin = cpu_seconds();
        all.iter().for_each(|batch| run.submit(batch.clone()));
        run.wait();
        best_engine = best_engine.min(cpu_seconds() - begin);
        assert_eq!(run.totals(), plain.totals(), "both have the same answers");
    }
    let (times, rate) = (best_engine / best_loop, |seconds: f64| count as f64 / seconds / 1e6);
    let (ours, limit) = (rate(best_engine), rate(best_loop));
    println!("| {name}: {count} events | {ours:.2} M events/CPU-s | {limit:.2} M / 3 (plain loop) | {times:.2} of 3 |");
    vec![times / 3.0]
}

fn late_updates() -> Vec<f64> {
    const LIMIT_MS: f64 = 0.3;
    let mut shop = Shop::new(2);
    let mut run = Run::start(Horizon::Off);
    for batch in batches(shop.by_ref().take(events() as usize), BATCH_ROWS) {
        run.submit(batch);
    }
    run.wait();
    updates(&mut run, "late: 100 events", LIMIT_MS, |span| shop.late(100, span))
}

/// What batches of late rows cost, of two ages.
fn updates(run: &mut Run, what: &str, limit_ms: f64, mut rows: impl FnMut(Micros) -> Vec<Event>) -> Vec<f64> {
    let mut ratios = Vec::new();
    for (name, span) in [("2 h", 2 * HOUR), ("4 weeks", 28 * DAY)] {
        let updates: Vec<Vec<Event>> = (0..setting("DESIRELINE_BENCH_UPDATES", 300)).map(|_| rows(span)).collect();
        let mut costs: Vec<f64> = Vec::new();
        for events in updates {
            let batch = Arc::new(Batch { time: run.last + 1, events, ..Batch::default() });
            let begin = cpu_seconds();
            run.submit(batch);
            run.wait();
            costs.push((cpu_seconds() - begin) * 1e3);
        }
        costs.sort_by(f64::total_cmp);
        let (mean, p50, p99) = (costs.iter().sum::<f64>() / costs.len() as f64, costs[costs.len() / 2], costs[costs.len() * 99 / 100]);
        println!("| {what} up to {name} old | {mean:.3} ms CPU, p50 {p50:.3}, p99 {p99:.3} | {limit_ms} ms | {:.2} |", mean / limit_ms);
        ratios.push(mean / limit_ms);
    }
    ratios
}

fn growth(name: &str, stream: impl Iterator<Item = Event>, limit: f64) -> Vec<f64> {
    let mut run = Run::start(Horizon::Off);
    let Some(before) = resident_bytes() else { return Vec::new() };
    let mut count = 0;
    for batch in batches(stream, BATCH_ROWS) {
        count += batch.events.len();
        run.submit(batch);
    }
    run.wait();
    let Some(after) = resident_bytes() else { return Vec::new() };
    let (grown, users) = (after.saturating_sub(before) as f64, run.totals()[0] as f64);
    let per_event = grown / count as f64;
    println!("| {name} | {per_event:.0} bytes an event, {:.0} a user | {limit} an event | {:.2} |", grown / users, per_event / limit);
    vec![per_event / limit]
}

fn sealed() -> Vec<f64> {
    const LIMIT: f64 = 1.1;
    let horizon = 200 * MINUTE;
    let total = setting("DESIRELINE_BENCH_SEALED_EVENTS", 4_000_000) as usize;
    let mut shop = Shop::new(4);
    let mut run = Run::start(Horizon::After(horizon));
    let (mut sent, mut time, mut half, mut sealed_to) = (0, 2, None, 0);
    let begin = cpu_seconds();
    while sent < total {
        let events: Vec<Event> = shop.by_ref().take(BATCH_ROWS).collect();
        sent += events.len();
        let boundary = shop.now() - horizon;
        let mut batch = Batch { time, events, ..Batch::default() };
        if boundary > sealed_to + 10 * MINUTE {
            batch.controls.push(Control::Seal(Seal { source: 1, boundary, parts: Vec::new() }));
            sealed_to = boundary;
        }
        run.submit(Arc::new(batch));
        time += 1;
        if half.is_none() && sent >= total / 2 {
            run.wait();
            half = resident_bytes();
        }
    }
    run.wait();
    let rate = sent as f64 / (cpu_seconds() - begin) / 1e6;
    let (Some(half), Some(end)) = (half, resident_bytes()) else { return Vec::new() };
    let ratio = end as f64 / half as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "| sealed: {:.0} M and {:.0} M events | {:.1} and {:.1} MiB resident ({rate:.2} M/CPU-s with the stream's making) | {LIMIT} times | {ratio:.2} |",
        sent as f64 / 2e6,
        sent as f64 / 1e6,
        mib(half),
        mib(end)
    );
    vec![ratio / LIMIT]
}

fn sessions() -> u64 {
    events() / 2
}

fn campus_throughput() -> Vec<f64> {
    const LIMIT: f64 = 2.5;
    let all: Vec<Arc<Batch>> = batches(Campus::new(5).take(sessions() as usize), BATCH_ROWS).collect();
    let count: usize = all.iter().map(|batch| batch.events.len()).sum();
    let (mut best_loop, mut best_engine, mut grown) = (f64::INFINITY, f64::INFINITY, 0);
    for _ in 0..3 {
        let begin = cpu_seconds();
        let mut plain = PlainCampus::default();
        all.iter().for_each(|batch| plain.apply(batch));
        best_loop = best_loop.min(cpu_seconds() - begin);
        let before = resident_bytes();
        let mut run = Run::with(campus::settings(Horizon::Off));
        let begin = cpu_seconds();
        all.iter().for_each(|batch| run.submit(batch.clone()));
        run.wait();
        best_engine = best_engine.min(cpu_seconds() - begin);
        grown = grown.max(resident_bytes().zip(before).map_or(0, |(after, before)| after.saturating_sub(before)));
        assert!(run.bins() == plain.cells(), "both have the same bins");
    }
    let (times, rate) = (best_engine / best_loop, |seconds: f64| count as f64 / seconds / 1e6);
    let (ours, limit) = (rate(best_engine), rate(best_loop));
    println!(
        "| campus: {count} sessions | {ours:.2} M sessions/CPU-s ({:.0} bytes a session) | {limit:.2} M / {LIMIT} (plain loop) | {times:.2} of {LIMIT} |",
        grown as f64 / count as f64
    );
    vec![times / LIMIT]
}

fn campus_late() -> Vec<f64> {
    let mut campus = Campus::new(6);
    let mut run = Run::with(campus::settings(Horizon::Off));
    for batch in batches(campus.by_ref().take(sessions() as usize), BATCH_ROWS) {
        run.submit(batch);
    }
    run.wait();
    updates(&mut run, "campus-late: 100 sessions", 0.5, |span| campus.late(100, span))
}

fn campus_sealed() -> Vec<f64> {
    const LIMIT: f64 = 1.1;
    let total = setting("DESIRELINE_BENCH_SEALED_EVENTS", 4_000_000) as usize;
    let mut campus = Campus::new(7);
    let mut run = Run::with(campus::settings(Horizon::After(2 * DAY)));
    let (mut sent, mut time, mut half, mut sealed_to) = (0, 2, None, Micros::MIN);
    while sent < total {
        let events: Vec<Event> = campus.by_ref().take(BATCH_ROWS).collect();
        sent += events.len();
        run.submit(Arc::new(Batch { time, events, tick: Some(campus.now()), ..Batch::default() }));
        let boundary = (campus.now() - 2 * DAY).div_euclid(DAY) * DAY;
        if boundary > sealed_to {
            let (source, intervals) = (campus::SOURCE, vec![900, 3_600, 86_400]);
            let from = Control::SealFrom(SealFrom { source, boundary });
            let seal = Control::SealStays(SealStays { source, boundary, stays: Vec::new(), cells: Vec::new(), intervals });
            run.submit(Arc::new(Batch { time: time + 1, controls: vec![from, seal], ..Batch::default() }));
            sealed_to = boundary;
        }
        time += 2;
        if half.is_none() && sent >= total / 2 {
            run.wait();
            half = resident_bytes();
        }
    }
    run.wait();
    let (Some(half), Some(end)) = (half, resident_bytes()) else { return Vec::new() };
    let ratio = end as f64 / half as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "| campus-sealed: {:.0} M and {:.0} M sessions | {:.1} and {:.1} MiB resident | {LIMIT} times | {ratio:.2} |",
        sent as f64 / 2e6,
        sent as f64 / 1e6,
        mib(half),
        mib(end)
    );
    vec![ratio / LIMIT]
}
