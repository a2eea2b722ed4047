//! What does a vote cost?
//!
//! Declared experiments: each of ten functions votes on the same rows three times, compiled, by the interpreter in its worker, and by
//! `DataFrame.apply` of pandas, all in one run on one machine. Cost is processor time, ours with the worker's, and the votes must be equal.
//!
//! | functions | compiled, at least | interpreted, at least |
//! |---|---|---|
//! | five of comparisons and boolean logic | 500 times the rate of pandas | 2.5 times |
//! | two with `math`, two with `re`, one with `datetime` | 30 times | 2.5 times |
//!
//! `cargo bench -p desireline-labelling --bench functions [-- NAME…]` needs the Python environment of `scripts/pydata` for pandas.
//! `DESIRELINE_BENCH_ROWS` is the number of rows that are compiled (1,000,000); pandas and the interpreter vote on the first tenth.
//! A ratio below its limit is a failure.

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use desireline_labelling::{Function, Module, Outcome, Runtime, RuntimeConfig, Source, Tier, worker_main};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

const SIMPLE_TIMES: f64 = 500.0;
const RICH_TIMES: f64 = 30.0;
const INTERPRETED_TIMES: f64 = 2.5;
const RUNS: usize = 5;

const FUNCTIONS: &[(&str, f64, &str)] = &[
    (
        "static",
        SIMPLE_TIMES,
        "STATIC = 1\nABSTAIN = -1\n\ndef labeling_function(row):\n    if row['connection_count'] >= 0.8 and row['distinct_ap'] == 1:\n        return STATIC\n    return ABSTAIN\n",
    ),
    (
        "phone",
        SIMPLE_TIMES,
        "PHONE = 3\nABSTAIN = -1\n\ndef labeling_function(row):\n    if row['distinct_ap'] > 5 or (row['connection_count'] < 0.3 and row['num_days'] > 10):\n        return PHONE\n    return ABSTAIN\n",
    ),
    (
        "grades",
        SIMPLE_TIMES,
        "def labeling_function(row):\n    if row['distinct_ap'] <= 2:\n        return 1\n    elif row['distinct_ap'] <= 6:\n        return 2\n    return 3\n",
    ),
    ("between", SIMPLE_TIMES, "def labeling_function(row):\n    return 2 if 0.25 <= row['connection_count'] < 0.75 else -1\n"),
    (
        "neither",
        SIMPLE_TIMES,
        "def labeling_function(row):\n    if not (row['num_days'] > 3 and row['connection_count'] != 1.0):\n        return 1\n    return -1\n",
    ),
    (
        "logarithm",
        RICH_TIMES,
        "import math\n\ndef labeling_function(row):\n    if math.log(row['total'] + 1.0) > 5.0:\n        return 3\n    return -1\n",
    ),
    (
        "distance",
        RICH_TIMES,
        "import math\n\ndef labeling_function(row):\n    if math.sqrt(row['num_days'] ** 2 + row['distinct_ap'] ** 2) > 12.5:\n        return 2\n    return 1\n",
    ),
    (
        "vendor",
        RICH_TIMES,
        "import re\n\ndef labeling_function(row):\n    if re.match(r'^(Apple|Samsung)-', row['name']):\n        return 3\n    return -1\n",
    ),
    (
        "numbered",
        RICH_TIMES,
        "import re\n\ndef labeling_function(row):\n    if re.search(r'-\\d{3}[05]$', row['name']):\n        return 2\n    return -1\n",
    ),
    (
        "night",
        RICH_TIMES,
        "import datetime\n\ndef labeling_function(row):\n    if row['seen'].hour < 6 or row['seen'].weekday() >= 5:\n        return 1\n    return -1\n",
    ),
];

struct Rows {
    connection_count: Vec<f64>,
    distinct_ap: Vec<i64>,
    num_days: Vec<i64>,
    total: Vec<f64>,
    name: Vec<String>,
    seen: Vec<i64>,
}

/// The same rows every time.
fn generate(count: usize) -> Rows {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let vendors = ["Apple", "Samsung", "Dell", "Lenovo"];
    let mut rows = Rows { connection_count: vec![], distinct_ap: vec![], num_days: vec![], total: vec![], name: vec![], seen: vec![] };
    for _ in 0..count {
        rows.connection_count.push(random(1_001) as f64 / 1_000.0);
        rows.distinct_ap.push(1 + random(10) as i64);
        rows.num_days.push(random(30) as i64);
        rows.total.push(random(1_000) as f64 / 4.0);
        rows.name.push(format!("{}-{:04}", vendors[random(4) as usize], random(10_000)));
        // Seconds of 2024.
        rows.seen.push(1_704_067_200 + random(366 * 86_400) as i64);
    }
    rows
}

impl Rows {
    fn batch(&self) -> RecordBatch {
        let seen: Vec<i64> = self.seen.iter().map(|seconds| seconds * 1_000_000).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("connection_count", Arc::new(Float64Array::from(self.connection_count.clone()))),
            ("distinct_ap", Arc::new(Int64Array::from(self.distinct_ap.clone()))),
            ("num_days", Arc::new(Int64Array::from(self.num_days.clone()))),
            ("total", Arc::new(Float64Array::from(self.total.clone()))),
            ("name", Arc::new(StringArray::from(self.name.clone()))),
            ("seen", Arc::new(TimestampMicrosecondArray::from(seen))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    fn csv(&self, count: usize) -> String {
        let mut text = String::from("connection_count,distinct_ap,num_days,total,name,seen\n");
        for row in 0..count {
            let (days, seconds) = (self.seen[row].div_euclid(86_400), self.seen[row].rem_euclid(86_400));
            let date = chrono::NaiveDate::default() + chrono::TimeDelta::days(days);
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let (count, points, days) = (self.connection_count[row], self.distinct_ap[row], self.num_days[row]);
            let (total, name) = (self.total[row], &self.name[row]);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{count},{points},{days},{total},{name},{date} {hour:02}:{minute:02}:{second:02}");
        }
        text
    }
}

fn function(code: &str) -> Function {
    let allowed_imports = Module::ALL.into_iter().collect();
    let source = Source { code: code.to_owned(), allowed_imports, constants: Vec::new(), applicable: vec![1, 2, 3] };
    Function::new(source).expect("a function")
}

/// Votes and processor time of pandas, by name.
fn pandas(folder: &Path, rows: &Rows, count: usize) -> HashMap<String, (f64, Vec<i64>)> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join("rows.csv"), rows.csv(count)).expect("rows");
    for (name, _, code) in FUNCTIONS {
        std::fs::write(folder.join(format!("{name}.py")), code).expect("a function");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("../scripts/pydata"));
    let output = command.arg("run").arg(root.join("benches/functions.py")).arg(folder).output().expect("scripts/pydata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds: HashMap<String, f64> = serde_json::from_slice(&output.stdout).expect("times");
    let votes = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("{name}.votes"))).expect("votes");
        text.lines().map(|vote| vote.parse().expect("a vote")).collect()
    };
    seconds.into_iter().map(|(name, seconds)| (name.clone(), (seconds, votes(&name)))).collect()
}

/// The cheapest of several runs.
fn best(run: impl Fn() -> Outcome, runs: usize) -> (Duration, Vec<i64>) {
    let outcomes = (0..runs).map(|_| run());
    let best = outcomes.min_by_key(|outcome| outcome.cpu).expect("at least one run");
    assert!(best.faults.is_empty(), "{:?}", best.faults);
    (best.cpu, best.votes)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "worker") {
        return worker_main();
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let count = std::env::var("DESIRELINE_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000usize);
    let few = (count / 10).max(1);
    let rows = generate(count);
    let batch = rows.batch();
    let folder = std::env::temp_dir().join(format!("desireline-bench-functions-{}", std::process::id()));
    let theirs = pandas(&folder, &rows, few);
    let _ = std::fs::remove_dir_all(&folder);
    let runtime = Runtime::new(RuntimeConfig::default());
    let mut failed = false;
    println!(
        "| function | pandas | compiled | times, of at least | interpreted | times, of at least {INTERPRETED_TIMES} |\n|---|---|---|---|---|---|"
    );
    for (name, limit, code) in FUNCTIONS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let function = function(code);
        assert_eq!(*function.tier(), Tier::Compiled, "{name}");
        let (seconds, votes) = &theirs[*name];
        let pandas_rate = few as f64 / seconds;
        let (compiled, ours) = best(|| runtime.evaluate(&function, &batch).expect("votes"), RUNS);
        let first = batch.slice(0, few);
        let (interpreted, slowly) = best(|| runtime.evaluate_interpreted(&function, &first).expect("votes"), 2);
        assert_eq!(ours[..few], votes[..], "{name}: compiled and pandas vote the same");
        assert_eq!(slowly, *votes, "{name}: interpreted and pandas vote the same");
        let compiled_rate = count as f64 / compiled.as_secs_f64();
        let interpreted_rate = few as f64 / interpreted.as_secs_f64();
        let times = (compiled_rate / pandas_rate, interpreted_rate / pandas_rate);
        println!(
            "| {name} | {:.2} M/s | {:.1} M/s | {:.0} of {limit} | {:.2} M/s | {:.1} |",
            pandas_rate / 1e6,
            compiled_rate / 1e6,
            times.0,
            interpreted_rate / 1e6,
            times.1
        );
        failed |= times.0 < *limit || times.1 < INTERPRETED_TIMES;
    }
    ExitCode::from(u8::from(failed))
}
