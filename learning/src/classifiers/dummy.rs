//! `DummyClassifier`: the most frequent class for every row, with the shares of the classes as probabilities. What any other model has
//! to beat.

use super::train::{Classify, Train, fault_of};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dummy {
    shares: Vec<f64>,
}

impl Dummy {
    pub(super) fn fit(train: &Train) -> Self {
        Self { shares: train.shares() }
    }
}

impl Classify for Dummy {
    fn scores(&self, _row: &[f64], scores: &mut [f64]) {
        scores.copy_from_slice(&self.shares);
    }

    fn fault(&self, _columns: usize, classes: usize) -> Option<String> {
        fault_of("shares", &self.shares, Some(classes))
    }
}
