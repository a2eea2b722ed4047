//! `KNeighborsClassifier`: the class of most of the five nearest rows by Euclidean distance, each with one voice.
//!
//! The model is its rows; every prediction goes over all of them, which costs rows times columns multiplications and no index to build
//! or store. With fewer than five rows all of them vote. Of rows at the same distance the first in the model's order vote, of classes
//! with as many voices the first wins.

use super::linalg::square_distance;
use super::train::{Classify, Train, fault_of};
use serde::{Deserialize, Serialize};

const NEIGHBOURS: usize = 5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Neighbours {
    /// Row by row.
    rows: Vec<f64>,
    labels: Vec<usize>,
}

impl Neighbours {
    pub(super) fn fit(train: &Train) -> Self {
        Self { rows: train.values.clone(), labels: train.labels.clone() }
    }
}

impl Classify for Neighbours {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        // The nearest so far, ascending by distance.
        let mut nearest: [(f64, usize); NEIGHBOURS] = [(f64::INFINITY, usize::MAX); NEIGHBOURS];
        for (other, label) in self.rows.chunks_exact(row.len()).zip(&self.labels) {
            let distance = square_distance(other, row);
            if distance < nearest[NEIGHBOURS - 1].0 {
                let at = nearest.partition_point(|(known, _)| *known <= distance);
                nearest.copy_within(at..NEIGHBOURS - 1, at + 1);
                nearest[at] = (distance, *label);
            }
        }
        scores.fill(0.0);
        let voices = nearest.iter().filter(|(_, label)| *label != usize::MAX).count().max(1);
        for (_, label) in nearest.iter().filter(|(_, label)| *label != usize::MAX) {
            scores[*label] += 1.0 / voices as f64;
        }
    }

    fn values_per_row(&self) -> usize {
        self.rows.len()
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let strange = self.labels.iter().any(|label| *label >= classes);
        if strange || self.labels.is_empty() {
            return Some("labels that are no classes".into());
        }
        fault_of("rows", &self.rows, self.labels.len().checked_mul(columns))
    }
}
