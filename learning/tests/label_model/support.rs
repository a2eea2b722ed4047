//! Cases and how to make their label matrices.

use desireline_learning::label_model::{ABSTAIN, ClassBalance, FitConfig, Statistic, Votes};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A label matrix that owns its columns, with the true classes.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub columns: Vec<Vec<i8>>,
    pub truth: Vec<i8>,
    pub classes: usize,
}

impl Matrix {
    pub fn votes(&self) -> Votes<'_> {
        Votes::new(self.columns.iter().map(Vec::as_slice).collect()).expect("columns of one length")
    }

    pub fn row(&self, index: usize) -> Vec<i8> {
        self.columns.iter().map(|column| column[index]).collect()
    }

    pub fn rows(&self) -> usize {
        self.truth.len()
    }

    pub fn statistic(&self) -> Statistic {
        Statistic::of(&self.votes(), self.classes).expect("labels in range")
    }

    /// With the gold labels of all rows.
    pub fn graded(&self) -> Statistic {
        let mut statistic = self.statistic();
        for index in 0..self.rows() {
            statistic.grade(&self.row(index), self.truth[index], 1).expect("labels in range");
        }
        statistic
    }

    /// The rows from `start` on, at most `rows` of them.
    pub fn part(&self, start: usize, rows: usize) -> Self {
        let cut = |column: &Vec<i8>| column.iter().skip(start).take(rows).copied().collect();
        Self { columns: self.columns.iter().map(cut).collect(), truth: cut(&self.truth), classes: self.classes }
    }
}

/// What stands in a cell of stored votes: a digit, or a dot for an abstention.
pub fn labels(text: &str) -> Vec<i8> {
    let label = |byte: u8| if byte == b'.' { ABSTAIN } else { i8::try_from(byte - b'0').expect("a digit") };
    text.bytes().map(label).collect()
}

/// A function of a generated matrix: accuracy, propensity, the classes it votes for, the function it copies and how often.
pub type Function = (f64, f64, Vec<i8>, Option<(usize, f64)>);

#[derive(Deserialize)]
pub struct Case {
    pub rows: usize,
    pub classes: usize,
    pub seed: u64,
    pub balance: Vec<f64>,
    pub lfs: Vec<Function>,
    /// The upper half of C with its diagonal, row by row.
    pub counts: Vec<i64>,
    pub summary: StoredSummary,
    pub runs: Vec<Run>,
    pub majority: Option<StoredMajority>,
    #[serde(default)]
    pub sweep: Vec<Sweep>,
}

/// Polarity, coverage, overlaps, conflicts, correct, incorrect, accuracy, normalized overlaps and conflicts.
pub type StoredLf = (Vec<u8>, f64, f64, f64, i64, i64, f64, f64, f64);

#[derive(Deserialize)]
pub struct StoredSummary {
    pub lfs: Vec<StoredLf>,
    pub totals: [f64; 3],
}

#[derive(Deserialize)]
pub struct StoredMajority {
    pub predictions: String,
    pub probabilities: Vec<f64>,
}

/// A fit of the reference library.
#[derive(Deserialize)]
pub struct Run {
    pub epochs: u32,
    pub options: Options,
    pub r: f64,
    pub floor: Option<f64>,
    pub gold: Option<String>,
    pub order: Option<Vec<usize>>,
    pub table: Vec<f32>,
    pub weights: Vec<f64>,
    pub conditional_probs_last: Vec<f32>,
    #[serde(default)]
    pub losses: Vec<(usize, f32)>,
    pub accuracy: Option<f64>,
    pub abstained: f64,
    pub pred_counts: Option<BTreeMap<i8, usize>>,
    pub mean_proba: Vec<f64>,
    /// Of the first rows.
    pub probabilities: Vec<f64>,
    pub predictions: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub lr: Option<f64>,
    pub seed: Option<u32>,
    pub class_balance: Option<Vec<f64>>,
    pub l2: Option<f64>,
    pub mu_eps: Option<f64>,
    pub prec_init: Option<Vec<f64>>,
}

/// How the reference library's weights vary with the seed.
#[derive(Deserialize)]
pub struct Sweep {
    pub epochs: u32,
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    pub accuracy_min: f64,
    pub seeds: Vec<u32>,
    pub r: Vec<f64>,
    pub weights: Vec<Vec<f64>>,
}

impl Run {
    /// Our configuration for it: with its seed if one was given, else with its start scale.
    pub fn config(&self) -> FitConfig {
        let default = FitConfig::default();
        FitConfig {
            epochs: self.epochs,
            learning_rate: self.options.lr.unwrap_or(default.learning_rate),
            l2: self.options.l2.unwrap_or(default.l2),
            seed: self.options.seed.unwrap_or(default.seed),
            start_scale: self.options.seed.is_none().then_some(self.r),
            start_precision: self.options.prec_init.clone().unwrap_or(default.start_precision),
            floor: self.options.mu_eps,
            balance: match (&self.options.class_balance, &self.gold) {
                (Some(shares), _) => ClassBalance::Given(shares.clone()),
                (None, Some(_)) => ClassBalance::Gold,
                (None, None) => ClassBalance::Uniform,
            },
            tolerance: None,
        }
    }
}

pub const CASES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

pub fn case(name: &str) -> Case {
    let text = match name {
        "a" => include_str!("../data/label_model/a.json"),
        "b" => include_str!("../data/label_model/b.json"),
        "c" => include_str!("../data/label_model/c.json"),
        "d" => include_str!("../data/label_model/d.json"),
        "e" => include_str!("../data/label_model/e.json"),
        "f" => include_str!("../data/label_model/f.json"),
        "g" => include_str!("../data/label_model/g.json"),
        "big" => include_str!("../data/label_model/big.json"),
        other => panic!("no case {other}"),
    };
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Case {
    pub fn matrix(&self) -> Matrix {
        self.matrix_of(self.seed, self.rows)
    }

    /// The same functions on other rows.
    pub fn matrix_of(&self, seed: u64, rows: usize) -> Matrix {
        generate(seed, rows, &self.balance, &self.lfs)
    }
}

/// The uniform numbers of one stream.
fn uniform(seed: u64, stream: u64, rows: usize) -> impl Iterator<Item = f64> {
    let key = mix(mix(seed).wrapping_add(stream));
    let word = move |index: u64| mix(key.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    (0..rows as u64).map(move |index| (word(index) >> 11) as f64 * 2f64.powi(-53))
}

fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A label matrix in which the label model is true, but for functions that copy.
pub fn generate(seed: u64, rows: usize, balance: &[f64], functions: &[Function]) -> Matrix {
    let classes = balance.len();
    let mut sum = 0.0;
    let cumulative: Vec<f64> = balance
        .iter()
        .map(|share| {
            sum += share;
            sum
        })
        .collect();
    let class = |unit: f64| cumulative.iter().filter(|c| unit >= **c).count().min(classes - 1) as i8;
    let truth: Vec<i8> = uniform(seed, 0, rows).map(class).collect();
    let mut columns: Vec<Vec<i8>> = Vec::new();
    for (lf, (accuracy, propensity, polarity, copies)) in functions.iter().enumerate() {
        let stream = |kind: u64| uniform(seed, 1000 + 4 * lf as u64 + kind, rows);
        let mut column = Vec::with_capacity(rows);
        for (((vote, right), wrong), truth) in stream(0).zip(stream(1)).zip(stream(2)).zip(&truth) {
            let other = ((wrong * (classes - 1) as f64).floor() as i8).min(classes as i8 - 2);
            let proposed = if right < *accuracy { *truth } else { other + i8::from(other >= *truth) };
            column.push(if vote < *propensity && polarity.contains(&proposed) { proposed } else { ABSTAIN });
        }
        if let Some((source, chance)) = copies {
            for ((vote, copied), unit) in column.iter_mut().zip(&columns[*source]).zip(stream(3)) {
                if unit < *chance {
                    *vote = *copied;
                }
            }
        }
        columns.push(column);
    }
    Matrix { columns, truth, classes }
}

/// A case with stored votes.
#[derive(Deserialize)]
pub struct EdgeCase {
    pub name: String,
    pub votes: String,
    pub gold: String,
    pub classes: usize,
    pub lfs: usize,
    pub run: Option<Run>,
    pub summary: Option<StoredSummary>,
    pub error: Option<String>,
    pub lr: Option<f64>,
}

impl EdgeCase {
    pub fn matrix(&self) -> Matrix {
        let votes = labels(&self.votes);
        let columns = (0..self.lfs).map(|lf| votes.iter().skip(lf).step_by(self.lfs).copied().collect()).collect();
        Matrix { columns, truth: labels(&self.gold), classes: self.classes }
    }
}

pub fn edge_cases() -> Vec<EdgeCase> {
    serde_json::from_str(include_str!("../data/label_model/edge.json")).expect("stored cases")
}

pub fn edge_case(name: &str) -> EdgeCase {
    edge_cases().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"))
}

/// The largest difference between numbers of two lists of one length.
pub fn furthest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
