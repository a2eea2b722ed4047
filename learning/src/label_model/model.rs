//! A fitted label model and what it says of the labeling functions.

use super::LabelModelError;
use desireline_votes::Shape;
use serde::{Deserialize, Serialize};

/// Weights are kept in `[WEIGHT_MIN, 1]`.
const WEIGHT_MIN: f64 = 1e-6;

/// A fitted label model: a value, which can be stored and read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fitted", into = "Fitted")]
pub struct LabelModel {
    fitted: Fitted,
}

/// The fields of a model, as they are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fitted {
    pub lfs: usize,
    pub classes: usize,
    pub rows: u64,
    pub balance: Vec<f64>,
    pub table: Vec<f32>,
    pub coverage: Vec<f64>,
    pub order: Vec<usize>,
    pub losses: Vec<f32>,
    pub converged: bool,
}

impl From<LabelModel> for Fitted {
    fn from(model: LabelModel) -> Self {
        model.fitted
    }
}

impl TryFrom<Fitted> for LabelModel {
    type Error = LabelModelError;

    fn try_from(fitted: Fitted) -> Result<Self, LabelModelError> {
        let shape = Shape::new(fitted.lfs, fitted.classes)?;
        let sized = fitted.balance.len() == shape.classes
            && fitted.coverage.len() == shape.lfs
            && fitted.order.len() == shape.classes
            && fitted.table.len() == shape.indicators() * shape.classes;
        let chances = fitted.table.iter().all(|chance| *chance > 0.0 && *chance <= 1.0);
        let shares = fitted.balance.iter().all(|share| *share > 0.0 && *share <= 1.0);
        let covered = fitted.coverage.iter().all(|share| (0.0..=1.0001).contains(share));
        if sized && chances && shares && covered {
            Ok(Self { fitted })
        } else {
            Err(LabelModelError::Damaged("a label model's parts do not fit together or are no probabilities"))
        }
    }
}

impl LabelModel {
    pub(super) fn new(fitted: Fitted) -> Self {
        Self { fitted }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape { lfs: self.fitted.lfs, classes: self.fitted.classes }
    }

    /// The number of labeling functions, m.
    pub fn lfs(&self) -> usize {
        self.fitted.lfs
    }

    /// The number of classes, k.
    pub fn classes(&self) -> usize {
        self.fitted.classes
    }

    /// The number of rows that it was fitted on.
    pub fn rows(&self) -> u64 {
        self.fitted.rows
    }

    /// The share of each of the k classes that it was fitted with.
    pub fn balance(&self) -> &[f64] {
        &self.fitted.balance
    }

    /// μ: row-major, `m k` rows (labeling function j, vote y at `j * k + y`) of k columns; entry (j, y, c) estimates
    /// P(function j votes y | class c). Nothing makes the entries of one function and class sum to at most 1.
    pub fn table(&self) -> &[f32] {
        &self.fitted.table
    }

    /// P(labeling function `lf` votes y | class c), as `k + 1` rows of k columns: abstention first, then the classes. What is
    /// said of abstention is 1 minus the rest, which may be below 0.
    ///
    /// # Panics
    /// When there is no such labeling function.
    pub fn conditional_probs(&self, lf: usize) -> Vec<Vec<f32>> {
        let classes = self.fitted.classes;
        let votes = &self.fitted.table[lf * classes * classes..(lf + 1) * classes * classes];
        let abstains = (0..classes).map(|class| 1.0 - votes.iter().skip(class).step_by(classes).sum::<f32>()).collect();
        std::iter::once(abstains).chain(votes.chunks_exact(classes).map(<[f32]>::to_vec)).collect()
    }

    /// For each labeling function how precise it is: the estimated share of its votes that are right, in `[10^-6, 1]`. Nothing for
    /// a function that never votes, where Snorkel reports 1. Reported only; predictions use the table.
    pub fn weights(&self) -> Vec<Option<f64>> {
        (0..self.fitted.lfs).map(|lf| self.weight(lf)).collect()
    }

    fn weight(&self, lf: usize) -> Option<f64> {
        let (classes, coverage) = (self.fitted.classes, self.fitted.coverage[lf]);
        let votes = &self.fitted.table[lf * classes * classes..];
        let right: f64 = self.fitted.balance.iter().enumerate().map(|(c, share)| f64::from(votes[c * classes + c]) * share).sum();
        (coverage > 0.0).then(|| (right / coverage).clamp(WEIGHT_MIN, 1.0))
    }

    /// The share of rows that each labeling function voted on.
    pub fn coverage(&self) -> &[f64] {
        &self.fitted.coverage
    }

    /// Which column of the descent became which class: `order[class] = column`.
    pub fn order(&self) -> &[usize] {
        &self.fitted.order
    }

    /// The loss before each epoch's step, as many as there were epochs.
    pub fn losses(&self) -> &[f32] {
        &self.fitted.losses
    }

    /// Whether the descent ended because of its tolerance, before the last epoch.
    pub fn converged(&self) -> bool {
        self.fitted.converged
    }
}
