//! What a fit reads, and what its result can do.

use super::draw::Draw;
use super::stop::Stop;
use super::{Kind, ModelError, Table};
use std::cmp::Ordering;

/// Rows and classes in an order that depends on their content and the seed alone: sorted, then shuffled. Whatever a fit does with it,
/// the order of arrival cannot matter. Every class from 0 on has at least one row.
pub(super) struct Train<'a> {
    pub kind: Kind,
    /// Row by row.
    pub values: Vec<f64>,
    pub rows: usize,
    pub columns: usize,
    pub labels: Vec<usize>,
    pub classes: usize,
    pub seed: u64,
    pub stop: &'a Stop,
}

impl<'a> Train<'a> {
    pub(super) fn new(kind: Kind, table: &Table, labels: &[usize], classes: usize, seed: u64, stop: &'a Stop) -> Self {
        let columns = table.columns();
        let mut order: Vec<usize> = (0..table.rows()).collect();
        order.sort_unstable_by(|a, b| {
            let unequal = table.row(*a).iter().zip(table.row(*b)).map(|(x, y)| (x + 0.0).total_cmp(&(y + 0.0))).find(|order| order.is_ne());
            unequal.unwrap_or(Ordering::Equal).then(labels[*a].cmp(&labels[*b]))
        });
        Draw::new(seed, u64::MAX).shuffle(&mut order);
        let mut values = Vec::with_capacity(order.len() * columns);
        for row in &order {
            // Adding zero turns -0.0 into 0.0, which compares equal to it but sorts elsewhere.
            values.extend(table.row(*row).iter().map(|value| value + 0.0));
        }
        let labels = order.iter().map(|row| labels[*row]).collect();
        Self { kind, values, rows: order.len(), columns, labels, classes, seed, stop }
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Rows with their classes.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[f64], usize)> {
        self.values.chunks_exact(self.columns).zip(self.labels.iter().copied())
    }

    /// Rows of each class.
    pub(super) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for label in &self.labels {
            counts[*label] += 1;
        }
        counts
    }

    /// Share of each class.
    pub(super) fn shares(&self) -> Vec<f64> {
        self.counts().into_iter().map(|count| count as f64 / self.rows as f64).collect()
    }

    /// The mean of each column within each class, class by class.
    pub(super) fn means(&self) -> Vec<f64> {
        let mut means = vec![0.0; self.classes * self.columns];
        for (row, label) in self.pairs() {
            for (mean, value) in means[label * self.columns..].iter_mut().zip(row) {
                *mean += value;
            }
        }
        for (mean, count) in means.chunks_exact_mut(self.columns).zip(self.counts()) {
            mean.iter_mut().for_each(|sum| *sum /= count as f64);
        }
        means
    }

    /// The rows named, as a fit of their own.
    pub(super) fn part(&self, rows: &[usize]) -> Train<'a> {
        let mut values = Vec::with_capacity(rows.len() * self.columns);
        for row in rows {
            values.extend_from_slice(self.row(*row));
        }
        let labels = rows.iter().map(|row| self.labels[*row]).collect();
        Train { values, labels, rows: rows.len(), ..*self }
    }

    /// As many folds of equal size, or as many as the smallest class has rows, in each of which every class has its share.
    pub(super) fn folds(&self, folds: usize) -> Result<Vec<Fold>, ModelError> {
        let fewest = self.counts().into_iter().min().unwrap_or(0);
        let folds = folds.min(fewest);
        if folds < 2 {
            return Err(self.degenerate("cross-validation needs at least two rows of every class"));
        }
        let mut seen = vec![0; self.classes];
        let mut parts = vec![Fold::default(); folds];
        for (row, label) in self.labels.iter().enumerate() {
            // Classes begin with different parts, so that their rests do not all go to the first one.
            let own = (seen[*label] + label) % folds;
            seen[*label] += 1;
            for (at, part) in parts.iter_mut().enumerate() {
                if at == own { part.held.push(row) } else { part.fitted.push(row) }
            }
        }
        Ok(parts)
    }

    pub(super) fn degenerate(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Degenerate { kind: self.kind, detail: detail.into() }
    }
}

/// One part of a cross-validation.
#[derive(Clone, Default)]
pub(super) struct Fold {
    /// Rows to fit on: those of all other parts.
    pub fitted: Vec<usize>,
    /// The part's own rows.
    pub held: Vec<usize>,
}

/// What a row's scores cost in most families, with the surroundings.
const VALUES_PER_ROW: usize = 256;

/// A fitted model of one family.
pub(super) trait Classify {
    /// One number per class; the first of the highest is the class. Probabilities if [`Classify::probabilistic`].
    fn scores(&self, row: &[f64], scores: &mut [f64]);

    fn probabilistic(&self) -> bool {
        true
    }

    /// Values looked at for one row, coarsely.
    fn values_per_row(&self) -> usize {
        VALUES_PER_ROW
    }

    /// What does not fit together in a stored model, if anything.
    fn fault(&self, columns: usize, classes: usize) -> Option<String>;
}

/// The first of the highest scores.
pub(super) fn highest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// Turns logarithms of anything proportional to probabilities into probabilities.
pub(super) fn softmax(scores: &mut [f64]) {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// 1 / (1 + e^-x), without overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let small = x.exp();
        small / (1.0 + small)
    }
}

/// Says what is wrong unless there are `wanted` finite numbers.
pub(super) fn fault_of(what: &str, values: &[f64], wanted: Option<usize>) -> Option<String> {
    if wanted != Some(values.len()) {
        return Some(format!("{what}: {} numbers, where {} are needed", values.len(), wanted.unwrap_or(usize::MAX)));
    }
    let sound = values.iter().all(|value| value.is_finite());
    (!sound).then(|| format!("{what}: a number that is not finite"))
}
