//! How good predictions are: accuracy, balanced accuracy, F1 weighted by the classes' rows, and the confusion behind them.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Shares in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of rows whose class was found.
    pub accuracy: f64,
    /// Mean over the classes that have rows of the share found.
    pub balanced_accuracy: f64,
    /// Mean over the classes, weighted by their rows, of 2 × found / (predicted + present); 0 for a class neither predicted nor present.
    pub f1_weighted: f64,
    /// `confusion[class][predicted]` in rows.
    pub confusion: Vec<Vec<u64>>,
}

/// Scores of predictions against labels. Labels and predictions of no class (not below `classes`) count as wrong; without rows all is 0.
pub fn score(labels: &[usize], predictions: &[usize], classes: usize) -> Scores {
    let mut confusion = vec![vec![0u64; classes]; classes];
    for (label, predicted) in labels.iter().zip(predictions) {
        if let Some(cell) = confusion.get_mut(*label).and_then(|row| row.get_mut(*predicted)) {
            *cell += 1;
        }
    }
    let rows = labels.len().max(1) as f64;
    let found: u64 = (0..classes).map(|class| confusion[class][class]).sum();
    let (mut recalls, mut present_classes, mut f1) = (0.0, 0u32, 0.0);
    for class in 0..classes {
        let hit = confusion[class][class] as f64;
        let present = labels.iter().filter(|label| **label == class).count() as f64;
        let predicted = confusion.iter().map(|row| row[class]).sum::<u64>() as f64;
        if present > 0.0 {
            recalls += hit / present;
            present_classes += 1;
            f1 += 2.0 * hit / (predicted + present) * present / rows;
        }
    }
    let balanced_accuracy = if present_classes == 0 { 0.0 } else { recalls / f64::from(present_classes) };
    Scores { accuracy: found as f64 / rows, balanced_accuracy, f1_weighted: f1, confusion }
}

impl Scores {
    /// The better one first: by accuracy, then by balanced accuracy; what is not a number comes last.
    pub fn rank(&self, other: &Self) -> Ordering {
        let key = |value: f64| if value.is_nan() { f64::NEG_INFINITY } else { value };
        let by = |a: f64, b: f64| key(b).total_cmp(&key(a));
        by(self.accuracy, other.accuracy).then(by(self.balanced_accuracy, other.balanced_accuracy))
    }
}

/// To four decimals, the nearest of them, as the service shows shares.
pub fn round4(share: f64) -> f64 {
    format!("{share:.4}").parse().unwrap_or(share)
}
