//! The columns of a fit as numbers of bins.

use crate::classifiers::ModelError;
use crate::classifiers::train::Train;

pub(super) const BINS_MAX: usize = 255;

pub(super) struct Bins {
    pub columns: usize,
    rows: usize,
    /// Column by column, the bin of each row's value.
    codes: Vec<u8>,
    /// Per column, ascending: the values at most the i-th threshold are in the bins up to i.
    thresholds: Vec<Vec<f64>>,
}

impl Bins {
    pub(super) fn new(train: &Train) -> Result<Self, ModelError> {
        let mut codes = vec![0; train.values.len()];
        let mut thresholds = Vec::with_capacity(train.columns);
        for (column, codes) in codes.chunks_exact_mut(train.rows).enumerate() {
            train.stop.check()?;
            let own = || train.values.iter().skip(column).step_by(train.columns);
            let mut sorted: Vec<f64> = own().copied().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let cuts = cuts(&sorted);
            for (code, value) in codes.iter_mut().zip(own()) {
                *code = cuts.partition_point(|cut| cut < value) as u8;
            }
            thresholds.push(cuts);
        }
        Ok(Self { columns: train.columns, rows: train.rows, codes, thresholds })
    }

    /// Of each row.
    pub(super) fn of(&self, column: usize) -> &[u8] {
        &self.codes[column * self.rows..(column + 1) * self.rows]
    }

    pub(super) fn threshold(&self, column: usize, bin: usize) -> f64 {
        self.thresholds[column][bin]
    }

    /// Bins of the column that any row is in, or could be.
    pub(super) fn count(&self, column: usize) -> usize {
        self.thresholds[column].len() + 1
    }
}

/// Where to cut: halfway between neighbouring distinct values, all of them or those at quantiles.
fn cuts(sorted: &[f64]) -> Vec<f64> {
    let halfway = |low: f64, high: f64| {
        let middle = low * 0.5 + high * 0.5;
        if middle < high { middle } else { low }
    };
    let rises = || sorted.windows(2).enumerate().filter(|(_, pair)| pair[0] < pair[1]);
    if rises().count() < BINS_MAX {
        return rises().map(|(_, pair)| halfway(pair[0], pair[1])).collect();
    }
    let mut cuts = Vec::with_capacity(BINS_MAX - 1);
    let mut next = 1;
    for (before, pair) in rises() {
        // The first rise at or behind the next quantile.
        if (before + 1) * BINS_MAX >= next * sorted.len() {
            cuts.push(halfway(pair[0], pair[1]));
            next = (before + 1) * BINS_MAX / sorted.len() + 1;
        }
    }
    cuts.truncate(BINS_MAX - 1);
    cuts
}
