//! `LabelPropagation` and `LabelSpreading`: a row's classes are those of the rows around it, weighted by exp(-20 d²).
//!
//! When every training row has a label, propagation (Zhu and Ghahramani, 2002) leaves the labels as they are. Spreading (Zhou et al.,
//! 2004) lets a row keep four fifths of its own label and take the rest from the others, at most 30 times or until the changes add up to
//! less than 0.001. With a weight that falls this fast both are close to the nearest neighbour; where even the nearest row's weight
//! underflows, weights relative to it are taken, so that there is an answer everywhere.
//!
//! Spreading holds half of the matrix of rows by rows, in four bytes each: 200 MB at [`super::kind::PROPAGATION_ROWS_MAX`].

use super::ModelError;
use super::linalg::square_distance;
use super::train::{Classify, Train, fault_of};
use serde::{Deserialize, Serialize};

const GAMMA: f64 = 20.0;
/// What a row takes from the others.
const TAKEN: f64 = 0.2;
const ROUNDS_MAX: usize = 30;
const TOLERANCE: f64 = 1e-3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Propagation {
    /// Row by row.
    rows: Vec<f64>,
    /// Row by row, a share per class.
    shares: Vec<f64>,
}

impl Propagation {
    pub(super) fn propagate(train: &Train) -> Self {
        Self { rows: train.values.clone(), shares: labels(train) }
    }

    pub(super) fn spread(train: &Train) -> Result<Self, ModelError> {
        let affinity = Affinity::new(train)?;
        let fixed = labels(train);
        let mut shares = fixed.clone();
        let mut before = vec![0.0; shares.len()];
        for _ in 0..ROUNDS_MAX {
            let change: f64 = shares.iter().zip(&before).map(|(a, b): (&f64, &f64)| (a - b).abs()).sum();
            if change < TOLERANCE {
                break;
            }
            std::mem::swap(&mut before, &mut shares);
            affinity.take(train, &before, &mut shares)?;
            for (share, own) in shares.iter_mut().zip(&fixed) {
                *share = TAKEN * *share + (1.0 - TAKEN) * own;
            }
        }
        for row in shares.chunks_exact_mut(train.classes) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|share| *share /= sum);
        }
        Ok(Self { rows: train.values.clone(), shares })
    }
}

/// 1 for a row's class, 0 for the others.
fn labels(train: &Train) -> Vec<f64> {
    let mut shares = vec![0.0; train.rows * train.classes];
    for (row, label) in train.labels.iter().enumerate() {
        shares[row * train.classes + label] = 1.0;
    }
    shares
}

/// w / √(dᵢ dⱼ) for each pair of different rows, with d the sum of a row's weights.
struct Affinity {
    /// Row by row, for the rows before it.
    triangle: Vec<f32>,
}

impl Affinity {
    fn new(train: &Train) -> Result<Self, ModelError> {
        let rows = train.rows;
        let mut triangle = Vec::with_capacity(rows * rows.saturating_sub(1) / 2);
        let mut sums = vec![0.0; rows];
        for row in 0..rows {
            train.stop.check()?;
            for other in 0..row {
                let exponent = -GAMMA * square_distance(train.row(row), train.row(other));
                let weight = exponent.exp();
                sums[row] += weight;
                sums[other] += weight;
                triangle.push(exponent as f32);
            }
        }
        // A row without a neighbour takes nothing.
        let logs: Vec<f64> = sums.into_iter().map(|sum: f64| if sum > 0.0 { -0.5 * sum.ln() } else { 0.0 }).collect();
        let mut entries = triangle.iter_mut();
        for row in 0..rows {
            train.stop.check()?;
            for (log, entry) in logs[..row].iter().zip(entries.by_ref()) {
                *entry = (f64::from(*entry) + logs[row] + log).exp() as f32;
            }
        }
        Ok(Self { triangle })
    }

    /// What every row is given by the others.
    fn take(&self, train: &Train, shares: &[f64], taken: &mut [f64]) -> Result<(), ModelError> {
        let classes = train.classes;
        taken.fill(0.0);
        let mut entries = self.triangle.iter();
        for row in 0..train.rows {
            train.stop.check()?;
            let (before, own) = taken.split_at_mut(row * classes);
            let own_shares = &shares[row * classes..(row + 1) * classes];
            let pairs = shares.chunks_exact(classes).zip(before.chunks_exact_mut(classes)).zip(entries.by_ref());
            for ((other_shares, other), entry) in pairs.filter(|(_, entry)| **entry > 0.0) {
                let entry = f64::from(*entry);
                for class in 0..classes {
                    own[class] += entry * other_shares[class];
                    other[class] += entry * own_shares[class];
                }
            }
        }
        Ok(())
    }
}

impl Classify for Propagation {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let classes = scores.len();
        let distances: Vec<f64> = self.rows.chunks_exact(row.len()).map(|other| square_distance(other, row)).collect();
        let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
        scores.fill(0.0);
        for (distance, shares) in distances.iter().zip(self.shares.chunks_exact(classes)) {
            let exponent = GAMMA * (least - distance);
            // Beyond this the weight is nothing beside the nearest row's.
            if exponent > -50.0 {
                let weight = exponent.exp();
                scores.iter_mut().zip(shares).for_each(|(score, share)| *score += weight * share);
            }
        }
        let sum: f64 = scores.iter().sum();
        scores.iter_mut().for_each(|score| *score /= sum);
    }

    fn values_per_row(&self) -> usize {
        self.rows.len()
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let rows = self.shares.len() / classes;
        if rows == 0 || self.shares.iter().any(|share| *share < 0.0) {
            return Some("shares that are none".into());
        }
        fault_of("shares", &self.shares, rows.checked_mul(classes)).or_else(|| fault_of("rows", &self.rows, rows.checked_mul(columns)))
    }
}
