//! Models that take the columns as independent of each other given the class: `GaussianNB` and `BernoulliNB`.
//!
//! * `GaussianNB`: a normal per class and column; 10⁻⁹ of the largest variance of a column is added to every variance.
//! * `BernoulliNB`: whether a value is above 0, with one row of each kind added to every class.

use super::ModelError;
use super::train::{Classify, Train, fault_of, softmax};
use serde::{Deserialize, Serialize};

/// Share of the largest variance that is added to all.
const SMOOTHING: f64 = 1e-9;
/// Rows of each kind that are added to every class.
const ADDED_ROWS: f64 = 1.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gaussian {
    /// Class by class.
    means: Vec<f64>,
    /// Class by class.
    variances: Vec<f64>,
    /// Logarithm of the share, per class.
    constants: Vec<f64>,
}

impl Gaussian {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let columns = train.columns;
        let means = train.means();
        let mut variances = vec![0.0; means.len()];
        for (row, label) in train.pairs() {
            let own = label * columns..(label + 1) * columns;
            for ((to, value), mean) in variances[own.clone()].iter_mut().zip(row).zip(&means[own]) {
                *to += (value - mean) * (value - mean);
            }
        }
        for (class, count) in train.counts().into_iter().enumerate() {
            variances[class * columns..(class + 1) * columns].iter_mut().for_each(|sum| *sum /= count as f64);
        }
        let most = (0..columns).map(|column| variance(train, column)).fold(0.0, f64::max);
        if most <= 0.0 {
            return Err(train.degenerate("every column is constant"));
        }
        variances.iter_mut().for_each(|value| *value += SMOOTHING * most);
        Ok(Self { means, variances, constants: train.shares().into_iter().map(f64::ln).collect() })
    }
}

/// Of a column over all rows.
fn variance(train: &Train, column: usize) -> f64 {
    let rows = train.rows as f64;
    let values = || train.values.iter().skip(column).step_by(train.columns);
    let mean = values().sum::<f64>() / rows;
    values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / rows
}

impl Classify for Gaussian {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let classes = self.means.chunks_exact(row.len()).zip(self.variances.chunks_exact(row.len())).zip(&self.constants);
        for (score, ((means, variances), constant)) in scores.iter_mut().zip(classes) {
            let parts = row.iter().zip(means).zip(variances);
            let sum: f64 = parts.map(|((value, mean), variance)| variance.ln() + (value - mean) * (value - mean) / variance).sum();
            *score = constant - 0.5 * sum;
        }
        softmax(scores);
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let wanted = columns.checked_mul(classes);
        if self.variances.iter().any(|variance| *variance <= 0.0) {
            return Some("a variance that is not above 0".into());
        }
        fault_of("means", &self.means, wanted)
            .or_else(|| fault_of("variances", &self.variances, wanted))
            .or_else(|| fault_of("constants", &self.constants, Some(classes)))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bernoulli {
    /// Class by class: what a value above 0 adds to the score beyond what another value does.
    weights: Vec<f64>,
    /// Score of a row without a value above 0, per class.
    constants: Vec<f64>,
}

impl Bernoulli {
    pub(super) fn fit(train: &Train) -> Self {
        let columns = train.columns;
        let mut above = vec![0.0; train.classes * columns];
        for (row, label) in train.pairs() {
            for (count, value) in above[label * columns..].iter_mut().zip(row) {
                *count += f64::from(u8::from(*value > 0.0));
            }
        }
        let (mut weights, mut constants) = (Vec::new(), Vec::new());
        for ((counts, rows), share) in above.chunks_exact(columns).zip(train.counts()).zip(train.shares()) {
            let mut constant = share.ln();
            for count in counts {
                let chance = (count + ADDED_ROWS) / (rows as f64 + 2.0 * ADDED_ROWS);
                weights.push(chance.ln() - (-chance).ln_1p());
                constant += (-chance).ln_1p();
            }
            constants.push(constant);
        }
        Self { weights, constants }
    }
}

impl Classify for Bernoulli {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        for ((score, weights), constant) in scores.iter_mut().zip(self.weights.chunks_exact(row.len())).zip(&self.constants) {
            let above = weights.iter().zip(row).filter(|(_, value)| **value > 0.0);
            *score = constant + above.map(|(weight, _)| weight).sum::<f64>();
        }
        softmax(scores);
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        fault_of("weights", &self.weights, columns.checked_mul(classes)).or_else(|| fault_of("constants", &self.constants, Some(classes)))
    }
}
