//! What does it cost to turn a row of a CSV file into a validated event?
//!
//! The work: 200,000 rows in the five-column shop shape, from memory, to events in chunks of 16,384. The limit it is measured
//! against: a loop in the same process that only splits the same bytes into lines and counts fields. Printed is the ratio of
//! the two; the absolute figures depend on the machine.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use desireline_connectors::csv::{CsvOptions, CsvReader};
use desireline_connectors::formats::Format;
use desireline_records::validate::Validator;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::fmt::Write;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::time::Instant;

const ROWS: u64 = 200_000;

fn file() -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(7);
    let mut text = String::from("timestamp,visitorid,event,itemid,transactionid\n");
    for _ in 0..ROWS {
        let (time, visitor, item) = (
            1_430_622_000_000u64 + random.random_range(0..12_000_000_000),
            random.random_range(0..1_400_000),
            random.random_range(0..466_000),
        );
        let row = match random.random_range(0..1_000) {
            0..8 => write!(text, "{time},{visitor},transaction,{item},{}", random.random_range(0..17_000)),
            8..35 => write!(text, "{time},{visitor},addtocart,{item},"),
            _ => write!(text, "{time},{visitor},view,{item},"),
        };
        row.expect("writing to a string cannot fail");
        text.push('\n');
    }
    text.into_bytes()
}

fn split_and_count(file: &[u8]) -> usize {
    file.split(|b| *b == b'\n').map(|line| line.split(|b| *b == b',').count()).sum()
}

fn read(file: &[u8]) -> usize {
    let options = CsvOptions::new(1, Format::Ampelios);
    let length = file.len() as u64;
    let mut reader = CsvReader::from_read(Cursor::new(file.to_vec()), Path::new("bench.csv"), length, options).expect("opens");
    let validator = Validator::default();
    let mut events = 0;
    while let Some(chunk) = reader.next_chunk(&validator, 1_800_000_000_000_000).expect("reads") {
        events += black_box(chunk).progress.events.len();
    }
    events
}

fn best_of(runs: usize, mut work: impl FnMut() -> usize) -> f64 {
    let timed = (0..runs).map(|_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min)
}

fn csv(c: &mut Criterion) {
    let file = file();
    assert_eq!(read(&file) as u64, ROWS, "every row is an event");
    let (ours, limit) = (best_of(5, || read(&file)), best_of(5, || split_and_count(&file)));
    println!(
        "csv: {:.0} ns a row, {:.1} times splitting and counting ({:.0} ns)",
        ours / ROWS as f64 * 1e9,
        ours / limit,
        limit / ROWS as f64 * 1e9
    );
    let mut group = c.benchmark_group("csv");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    group.bench_function("rows_to_events", |b| b.iter(|| read(&file)));
    group.bench_function("split_and_count", |b| b.iter(|| split_and_count(&file)));
    group.finish();
}

criterion_group!(benches, csv);
criterion_main!(benches);
