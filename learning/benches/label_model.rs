//! What does the label model cost?
//!
//! Declared experiments. Figures are processor time where the system tells it, else the clock's, the best of several runs, and
//! each is given as a ratio to its limit.
//!
//! | experiment | the work | the limit |
//! |---|---|---|
//! | `columns` | the statistic of 1,000,000 rows, 10 functions, 3 classes, from columns | 0.5 s: 2 million rows a second |
//! | `rows` | the same row by row, as a view that follows single changes does | 0.5 s |
//! | `wide` | the statistic of 100,000 rows, 100 functions, 2 classes, each voting on half of the rows | 0.25 s |
//! | `sparse` | the same with 1,000 functions, each voting on a hundredth of the rows | 0.5 s |
//! | `fits` | 100 fits of 100 epochs to the first statistic | 100 ms |
//! | `fit-25x5` | 500 epochs for 25 functions and 5 classes | 200 ms |
//! | `fit-largest` | 10 epochs for 2,048 functions and 2 classes | 2 s |
//! | `predict` | class probabilities of the 1,000,000 rows | 0.25 s |
//! | `errors` | standard errors of the ten weights by simulation, 50 draws | 250 ms |
//!
//! `cargo bench -p desireline-learning --bench label_model [-- NAME…]`. With `DESIRELINE_BENCH_GATE=1` a ratio above 1 is a failure.

use desireline_learning::label_model::{ABSTAIN, FitConfig, INDICATORS_MAX, SimulationConfig, Statistic, Votes, fit, simulated_errors};
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

const RUNS: usize = 5;

/// Votes that are right four times in five, of functions that each vote on `share` of the rows.
fn matrix(rows: usize, lfs: usize, classes: u64, share: f64) -> Vec<Vec<i8>> {
    let mut random = Xoshiro256Plus::seed_from_u64(7);
    let mut unit = move || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let truth: Vec<i8> = (0..rows).map(|_| (unit() * classes as f64) as i8).collect();
    let mut vote = |truth: &i8| match (unit() < share, unit() < 0.8) {
        (false, _) => ABSTAIN,
        (true, true) => *truth,
        (true, false) => (unit() * classes as f64) as i8,
    };
    (0..lfs).map(|_| truth.iter().map(&mut vote).collect()).collect()
}

fn votes(columns: &[Vec<i8>]) -> Votes<'_> {
    Votes::new(columns.iter().map(Vec::as_slice).collect()).expect("columns of one length")
}

fn of(columns: &[Vec<i8>], classes: usize) -> Statistic {
    Statistic::of(&votes(columns), classes).expect("labels in range")
}

/// Processor time of this thread so far, in seconds, or the clock's.
fn seconds(start: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanos.map_or_else(|| start.elapsed().as_secs_f64(), |nanos| nanos * 1e-9)
}

fn best_of<T>(mut work: impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    let timed = (0..RUNS).map(|_| {
        let before = seconds(start);
        black_box(work());
        seconds(start) - before
    });
    timed.fold(f64::INFINITY, f64::min)
}

fn row_by_row(columns: &[Vec<i8>], classes: usize) -> Statistic {
    let mut statistic = Statistic::new(columns.len(), classes).expect("a small shape");
    let mut row = vec![ABSTAIN; columns.len()];
    for index in 0..columns[0].len() {
        for (vote, column) in row.iter_mut().zip(columns) {
            *vote = column[index];
        }
        statistic.add(&row, 1).expect("labels in range");
    }
    statistic
}

fn measure(name: &str) -> (f64, f64) {
    let million = || matrix(1_000_000, 10, 3, 0.5);
    match name {
        "columns" => {
            let columns = million();
            (best_of(|| of(&columns, 3)), 0.5)
        }
        "rows" => {
            let columns = million();
            assert_eq!(row_by_row(&columns, 3), of(&columns, 3), "both ways count the same");
            (best_of(|| row_by_row(&columns, 3)), 0.5)
        }
        "wide" => {
            let columns = matrix(100_000, 100, 2, 0.5);
            (best_of(|| of(&columns, 2)), 0.25)
        }
        "sparse" => {
            let columns = matrix(100_000, 1_000, 2, 0.01);
            (best_of(|| of(&columns, 2)), 0.5)
        }
        "fits" => {
            let statistic = of(&million(), 3);
            let work =
                || (0..100).map(|seed| fit(&statistic, &FitConfig { seed, ..FitConfig::default() }).expect("a model")).collect::<Vec<_>>();
            (best_of(work), 0.1)
        }
        "fit-25x5" => {
            let statistic = of(&matrix(20_000, 25, 5, 0.5), 5);
            let config = FitConfig { epochs: 500, ..FitConfig::default() };
            (best_of(|| fit(&statistic, &config).expect("a model")), 0.2)
        }
        "fit-largest" => {
            let statistic = of(&matrix(1_000, INDICATORS_MAX / 2, 2, 0.5), 2);
            let config = FitConfig { epochs: 10, learning_rate: 1e-5, ..FitConfig::default() };
            (best_of(|| fit(&statistic, &config).expect("a model")), 2.0)
        }
        "predict" => {
            let columns = million();
            let predictor = fit(&of(&columns, 3), &FitConfig::default()).expect("a model").predictor();
            (best_of(|| predictor.predict_proba_all(&votes(&columns)).expect("labels in range")), 0.25)
        }
        "errors" => {
            let statistic = of(&million(), 3);
            let work = || simulated_errors(&statistic, &FitConfig::default(), &SimulationConfig::default()).expect("errors");
            (best_of(work), 0.25)
        }
        other => panic!("no experiment is named {other}"),
    }
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let gated = std::env::var("DESIRELINE_BENCH_GATE").is_ok_and(|value| value == "1");
    let mut failed = false;
    println!("| experiment | measured | limit | ratio |\n|---|---|---|---|");
    for name in ["columns", "rows", "wide", "sparse", "fits", "fit-25x5", "fit-largest", "predict", "errors"] {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let (measured, limit) = measure(name);
        println!("| {name} | {:.2} ms | {:.0} ms | {:.2} |", measured * 1e3, limit * 1e3, measured / limit);
        failed |= gated && measured > limit;
    }
    ExitCode::from(u8::from(failed))
}
