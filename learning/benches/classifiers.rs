//! What does the classifier bank cost?
//!
//! A declared experiment. The work: every model of the bank fitted to 3,500 rows of ten columns in three classes and asked for 1,500
//! more, as a classifier job does with its defaults. The limit is a multiple of a plain loop's time in the same process, which measures
//! the distance of every pair of the 3,500 rows, twice over (122 million multiplications, about 50 ms): 100 times for all models
//! together, 25 times for any one of them. For comparison: scikit-learn, LightGBM and XGBoost, through lazypredict, need 11.7
//! CPU-seconds for 27 of these models on these rows.
//!
//! Figures are processor time where the system tells it, else the clock's; the plain loop's is the best of several runs, a model's that
//! of its one fit and prediction.
//!
//! `cargo bench -p desireline-learning --bench classifiers [-- NAME…]`. With `DESIRELINE_BENCH_GATE=1` a ratio above 1 is a failure.

use desireline_learning::classifiers::prepare::{Imputation, Preparation};
use desireline_learning::classifiers::{BankData, BankSettings, Clock, Kind, Stop, Table, train_bank};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TRAIN_ROWS: usize = 3_500;
const TEST_ROWS: usize = 1_500;
const COLUMNS: usize = 10;
const CLASSES: usize = 3;
const LOOPS_MAX: f64 = 100.0;
const LOOPS_PER_MODEL_MAX: f64 = 25.0;
const RUNS: usize = 5;

/// The stored case: values and classes, the rows for training first.
fn rows() -> (Vec<f64>, Vec<usize>) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classifiers/a.csv")).expect("the stored case");
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let (row, label) = line.rsplit_once(',').expect("a class behind the values");
        values.extend(row.split(',').map(|value| value.parse::<f64>().expect("a number") * 1e-4));
        labels.push(label.parse().expect("a class"));
    }
    assert_eq!((values.len(), labels.len()), ((TRAIN_ROWS + TEST_ROWS) * COLUMNS, TRAIN_ROWS + TEST_ROWS));
    (values, labels)
}

fn table(values: &[f64]) -> Table {
    let names = (0..COLUMNS).map(|column| format!("x{column}")).collect();
    Table::new(names, values.len() / COLUMNS, values.to_vec()).expect("rows of ten")
}

/// Processor time of the thread that asks, or the clock's.
fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
        nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
    })
}

/// The distance of every pair of rows, twice over.
fn plain_loop(table: &Table) -> f64 {
    let mut sum = 0.0;
    for row in 0..table.rows() {
        for other in 0..table.rows() {
            sum += table.row(row).iter().zip(table.row(other)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        }
    }
    sum
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let gated = std::env::var("DESIRELINE_BENCH_GATE").is_ok_and(|value| value == "1");
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| wanted.is_empty() || wanted.iter().any(|name| name == kind.name())).collect();
    let (values, labels) = rows();
    let (train, test) = values.split_at(TRAIN_ROWS * COLUMNS);
    let preparation = Preparation::fit(&table(train), Imputation::Mean).expect("finite rows");
    let scaled = |values: &[f64]| preparation.apply(&table(values)).expect("the same columns");
    let (train, test) = (scaled(train), scaled(test));
    let (train_labels, test_labels) = labels.split_at(TRAIN_ROWS);
    let clock = clock();
    let unit = (0..RUNS).map(|_| {
        let before = clock();
        black_box(plain_loop(&train));
        clock().saturating_sub(before).as_secs_f64()
    });
    let unit = unit.fold(f64::INFINITY, f64::min);
    let data = BankData { train: &train, train_labels, test: &test, test_labels, classes: CLASSES };
    // Deadlines would be asked for by reading the system's file; here nothing is stopped.
    let settings = BankSettings { threads: 1, seed: 42, stop: Stop::default(), clock, model_time_max: None };
    let entries = train_bank(&kinds, &data, &settings, &|_| ());
    println!("one plain loop: {:.1} ms\n\n| model | CPU time | limit | ratio | accuracy |\n|---|---|---|---|---|", unit * 1e3);
    let mut failed = false;
    let mut line = |name: &str, seconds: f64, loops: f64, accuracy: String| {
        let limit = loops * unit;
        println!("| {name} | {:.1} ms | {:.0} ms | {:.2} | {accuracy} |", seconds * 1e3, limit * 1e3, seconds / limit);
        failed |= gated && seconds > limit;
    };
    for entry in &entries {
        let trained = entry.outcome.as_ref().expect("every model takes these rows");
        line(entry.kind.name(), entry.time.as_secs_f64(), LOOPS_PER_MODEL_MAX, format!("{:.4}", trained.scores.accuracy));
    }
    line("together", entries.iter().map(|entry| entry.time.as_secs_f64()).sum(), LOOPS_MAX, String::new());
    ExitCode::from(u8::from(failed))
}
