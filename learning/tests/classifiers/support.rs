//! Stored cases and how to read them.

use desireline_learning::classifiers::prepare::{Imputation, Preparation};
use desireline_learning::classifiers::{Kind, Model, ModelError, Stop, Table, fit};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the reference answered, without its rows.
#[derive(Deserialize)]
pub struct Facts {
    /// Stored values are this many times the values.
    pub scale: f64,
    pub train_rows: usize,
    pub test_rows: usize,
    pub models: BTreeMap<String, Expected>,
}

/// Accepted ranges, from and to, the latter open if there is none.
#[derive(Deserialize)]
pub struct Expected {
    pub family: String,
    pub accuracy: (f64, Option<f64>),
    pub balanced_accuracy: (f64, Option<f64>),
    pub f1_weighted: (f64, Option<f64>),
    /// A digit per test row, for the models with one right answer.
    pub predictions: Option<String>,
}

pub struct Case {
    pub facts: Facts,
    pub train: Table,
    pub train_labels: Vec<usize>,
    pub test: Table,
    pub test_labels: Vec<usize>,
    pub classes: usize,
}

impl Case {
    /// The case with its columns scaled by the training rows.
    pub fn read(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/classifiers");
        let text = |ending: &str| std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).expect("a stored case");
        let facts: Facts = serde_json::from_str(&text("json")).expect("facts");
        let rows = text("csv");
        let mut lines = rows.lines();
        let mut names: Vec<String> = lines.next().expect("a header").split(',').map(str::to_owned).collect();
        names.pop();
        let mut take = |rows: usize| {
            let (mut values, mut labels) = (Vec::new(), Vec::new());
            for line in lines.by_ref().take(rows) {
                let (row, label) = line.rsplit_once(',').expect("a label behind the values");
                values.extend(row.split(',').map(|value| value.parse::<f64>().expect("a number") / facts.scale));
                labels.push(label.parse().expect("a class"));
            }
            (Table::new(names.clone(), labels.len(), values).expect("a table"), labels)
        };
        let (train, train_labels): (Table, Vec<usize>) = take(facts.train_rows);
        let (test, test_labels) = take(facts.test_rows);
        let preparation = Preparation::fit(&train, Imputation::Mean).expect("a preparation");
        let (train, test) = (preparation.apply(&train).expect("train rows"), preparation.apply(&test).expect("test rows"));
        let classes = 1 + train_labels.iter().max().expect("rows");
        Self { facts, train, train_labels, test, test_labels, classes }
    }
}

pub fn names(columns: usize) -> Vec<String> {
    (0..columns).map(|column| format!("x{column}")).collect()
}

/// Unsettled numbers in [0, 1) for a seed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }
}

/// Round clouds of rows, one per class, whose centres are 4 standard deviations of a row apart in the first column and elsewhere at
/// random: every sensible model finds nearly all of them.
pub fn clouds(rows: usize, columns: usize, classes: usize, seed: u64) -> (Table, Vec<usize>) {
    let mut noise = Noise::new(seed);
    let centres: Vec<f64> = (0..classes * columns).map(|at| if at % columns == 0 { 0.0 } else { 6.0 * noise.unit() }).collect();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let class = row % classes;
        for column in 0..columns {
            let shift = if column == 0 { 4.0 * class as f64 } else { centres[class * columns + column] };
            // Twelve uniform numbers less six: all but normal, of variance 1.
            values.push(shift + (0..12).map(|_| noise.unit()).sum::<f64>() - 6.0);
        }
        labels.push(class);
    }
    (Table::new(names(columns), rows, values).expect("a table"), labels)
}

pub fn fitted(kind: Kind, table: &Table, labels: &[usize], classes: usize) -> Result<Model, ModelError> {
    fit(kind, table, labels, classes, 42, &Stop::default())
}
