//! What does a label matrix cost, from its records to a model?
//!
//! Declared experiments, in processor time of all threads of the process, the best of several runs, each as a ratio to its limit.
//!
//! | experiment | the work | the limit |
//! |---|---|---|
//! | `load` | 1,000,000 rows of 10 functions and 3 classes as records of 10,000, through the engine, until their statistic is there | 0.5 s: 2 million rows a second |
//! | `load-skewed` | the same where functions vote on a tenth of the rows, so that combinations of votes come back | 0.5 s |
//! | `change` | other votes of 1,000 of these rows, until a model fitted on the new statistic is there | 20 ms |
//! | `page` | a page of 100 rows with the counts of every combination of the skewed matrix, and their labels | 20 ms |
//!
//! `cargo bench --bench labels [-- NAME…]`. With `DESIRELINE_BENCH_GATE=1` a ratio above 1 is a failure.

use desireline::labels::Fitted;
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::views::labels::query::{LabelsAnswer, LabelsQuery, MatrixFacts, merge_facts, merge_rows};
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::labels::{MATRIX_ROWS_MAX, Votes};
use desireline_records::{Batch, Control, Matrix, MatrixRows};
use ecow::{EcoString, eco_format};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

const ROWS: usize = 1_000_000;
const FUNCTIONS: usize = 10;
const CLASSES: usize = 3;
const RUNS: usize = 3;

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Processor time of the whole process so far, in seconds.
fn seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("the system tells processor time");
    let fields: Vec<&str> = text.rsplit_once(") ").expect("a command in brackets").1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
    ticks / 100.0
}

fn records(share: f64) -> Vec<Arc<MatrixRows>> {
    let mut random = Random(7);
    let mut record = |at: usize| {
        let keys: Vec<EcoString> = (at..at + MATRIX_ROWS_MAX).map(|n| eco_format!("{:016x}{n:016x}", n * 0x9e37)).collect();
        let mut votes = Vec::with_capacity(keys.len() * FUNCTIONS);
        for _ in 0..keys.len() {
            let truth = (random.unit() * CLASSES as f64) as i8;
            votes.extend((0..FUNCTIONS).map(|_| match (random.unit() < share, random.unit() < 0.8) {
                (false, _) => -1,
                (true, true) => truth,
                (true, false) => (random.unit() * CLASSES as f64) as i8,
            }));
        }
        let (votes, gone, rows) = (Votes(votes), Vec::new(), Vec::new());
        Arc::new(MatrixRows { matrix: 1, generation: 1, features_as_of: 1, through: 1, keys, votes, gone, rows })
    };
    (0..ROWS).step_by(MATRIX_ROWS_MAX).map(&mut record).collect()
}

struct Loaded {
    engine: Engine,
    time: u64,
}

impl Loaded {
    fn new(workers: usize) -> Self {
        let engine = Engine::start(EngineConfig { workers, ..EngineConfig::default() }).expect("the engine starts");
        let mut loaded = Self { engine, time: 0 };
        let (functions, classes) = ((0..FUNCTIONS as u64).collect(), (0..CLASSES as u64).collect());
        let matrix = Matrix { matrix: 1, generation: 1, concept: 1, index: 1, functions, classes, definition: "d".into() };
        loaded.submit(Control::Matrix(Arc::new(matrix)));
        loaded
    }

    fn submit(&mut self, control: Control) {
        self.time += 1;
        let batch = Batch { time: self.time, controls: vec![control], ..Batch::default() };
        self.engine.submit(Arc::new(batch), drop).expect("it runs");
    }

    fn ask(&self, query: LabelsQuery) -> Vec<LabelsAnswer> {
        let (_, parts) = self.engine.ask(Query::Labels(query)).expect("an answer");
        let part = |part| if let Answer::Labels(answer) = part { answer } else { panic!("another answer") };
        parts.into_iter().map(part).collect()
    }

    fn facts(&self, combinations_max: usize) -> MatrixFacts {
        let parts = self.ask(LabelsQuery::Matrix { matrix: 1, combinations_max });
        merge_facts(parts.into_iter().flat_map(|part| part.matrices)).pop().expect("the matrix")
    }
}

fn load(records: &[Arc<MatrixRows>]) -> Loaded {
    let mut loaded = Loaded::new(1);
    records.iter().for_each(|record| loaded.submit(Control::MatrixRows(Arc::clone(record))));
    assert_eq!(loaded.facts(0).statistic.rows(), ROWS as i64, "everything was counted");
    loaded
}

fn best_of(runs: usize, mut work: impl FnMut() -> f64) -> f64 {
    (0..runs).map(|_| work()).fold(f64::INFINITY, f64::min)
}

fn measure(name: &str) -> (f64, f64) {
    match name {
        "load" | "load-skewed" => {
            let records = records(if name == "load" { 0.5 } else { 0.1 });
            let work = || {
                let before = seconds();
                let loaded = load(&records);
                let took = seconds() - before;
                drop(loaded);
                took
            };
            (best_of(RUNS, work), 0.5)
        }
        "change" => {
            let records = records(0.5);
            let mut loaded = load(&records);
            // Ticks of the clock are coarse: many changes are one figure.
            const CHANGES: usize = 50;
            let changed: Vec<Arc<MatrixRows>> = (0..CHANGES)
                .map(|n| {
                    let from = &records[n];
                    let (keys, votes) = (from.keys[..1_000].to_vec(), records[n + 1].votes.0[..1_000 * FUNCTIONS].to_vec());
                    Arc::new(MatrixRows { keys, votes: Votes(votes), ..MatrixRows::clone(from) })
                })
                .collect();
            let before = seconds();
            for change in changed {
                loaded.submit(Control::MatrixRows(change));
                black_box(Fitted::fit(&loaded.facts(0).statistic).expect("a model"));
            }
            ((seconds() - before) / CHANGES as f64, 0.02)
        }
        "page" => {
            const PAGES: usize = 50;
            let loaded = load(&records(0.1));
            let posterior = Fitted::fit(&loaded.facts(0).statistic).expect("a model").posterior();
            let before = seconds();
            for _ in 0..PAGES {
                let parts = loaded.ask(LabelsQuery::Rows { matrix: 1, after: None, rows_max: 100, disputed_only: false });
                assert_eq!(merge_rows(parts, 100).0.len(), 100);
                let counted = loaded.facts(usize::MAX).combinations.expect("there is no limit");
                for votes in counted.keys() {
                    black_box(posterior.label(votes, &posterior.probabilities(votes)));
                }
            }
            ((seconds() - before) / PAGES as f64, 0.02)
        }
        name => panic!("there is no experiment {name:?}"),
    }
}

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let all = ["load", "load-skewed", "change", "page"].map(str::to_owned);
    let wanted = if named.is_empty() { all.to_vec() } else { named };
    let gate = std::env::var("DESIRELINE_BENCH_GATE").is_ok_and(|gate| gate == "1");
    let mut missed = false;
    for name in wanted {
        let (took, limit) = measure(&name);
        println!("{name:12} {:10.3} ms   {:.2} of its limit of {:.0} ms", took * 1e3, took / limit, limit * 1e3);
        missed |= took > limit;
    }
    if gate && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
