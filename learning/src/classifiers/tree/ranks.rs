//! The columns of a fit as ranks of their distinct values.

use crate::classifiers::ModelError;
use crate::classifiers::train::Train;

pub(super) struct Ranks {
    pub columns: usize,
    pub rows: usize,
    /// Column by column, the rank of each row's value.
    ranks: Vec<u32>,
    /// Per column, its distinct values, ascending.
    values: Vec<Vec<f64>>,
}

impl Ranks {
    pub(super) fn new(train: &Train) -> Result<Self, ModelError> {
        let mut ranks = vec![0; train.values.len()];
        let mut values = Vec::with_capacity(train.columns);
        for (column, ranks) in ranks.chunks_exact_mut(train.rows).enumerate() {
            train.stop.check()?;
            let own = || train.values.iter().skip(column).step_by(train.columns);
            let mut distinct: Vec<f64> = own().copied().collect();
            distinct.sort_unstable_by(f64::total_cmp);
            distinct.dedup();
            for (rank, value) in ranks.iter_mut().zip(own()) {
                *rank = distinct.partition_point(|known| known < value) as u32;
            }
            values.push(distinct);
        }
        Ok(Self { columns: train.columns, rows: train.rows, ranks, values })
    }

    /// Of each row.
    pub(super) fn of(&self, column: usize) -> &[u32] {
        &self.ranks[column * self.rows..(column + 1) * self.rows]
    }

    pub(super) fn value(&self, column: usize, rank: u32) -> f64 {
        self.values[column][rank as usize]
    }

    /// How many of the column's distinct values are at most `threshold`.
    pub(super) fn below(&self, column: usize, threshold: f64) -> u32 {
        self.values[column].partition_point(|value| *value <= threshold) as u32
    }

    /// Halfway between the values of two ranks, and below the higher one whatever the rounding.
    pub(super) fn between(&self, column: usize, low: u32, high: u32) -> f64 {
        let (low, high) = (self.value(column, low), self.value(column, high));
        let middle = low * 0.5 + high * 0.5;
        if middle < high { middle } else { low }
    }
}
