//! Sums of cells by time.
//!
//! A year of a building is half a million cells of rooms that become some thousand sums, so up to [`DENSE_MAX`] bins of all series together
//! are rows of memory; more (a question without bounds) are maps of what there is.

use desireline_records::{Cell, Micros};
use std::collections::BTreeMap;

/// Bins that are kept side by side: 24 bytes each.
const DENSE_MAX: i64 = 1 << 21;

pub(super) struct Sums {
    from: Micros,
    to: Micros,
    width: Micros,
    dense: Vec<Cell>,
    sparse: BTreeMap<Micros, Cell>,
}

impl Sums {
    /// Some series of cells whose time lies in `[from, to)`, `width` apart.
    pub fn several(series: usize, from: Micros, to: Micros, width: Micros) -> Vec<Self> {
        let bins_max = DENSE_MAX / (series.max(1) as i64);
        (0..series).map(|_| Self::new(from, to, width, bins_max)).collect()
    }

    fn new(from: Micros, to: Micros, width: Micros, bins_max: i64) -> Self {
        let first = from.div_euclid(width);
        let bins = to.saturating_sub(1).div_euclid(width).saturating_sub(first).saturating_add(1);
        let dense = if (0..=bins_max).contains(&bins) { vec![Cell::ZERO; bins as usize] } else { Vec::new() };
        Self { from, to, width, dense, sparse: BTreeMap::new() }
    }

    /// Cells outside of the range do not count.
    pub fn add(&mut self, time: Micros, cell: Cell) {
        if time < self.from || time >= self.to {
            return;
        }
        if self.dense.is_empty() {
            self.sparse.entry(time).or_default().add(cell);
        } else {
            let at = time.div_euclid(self.width) - self.from.div_euclid(self.width);
            self.dense[at as usize].add(cell);
        }
    }

    /// What is not zero, ascending.
    pub fn rows(self) -> Vec<(Micros, Cell)> {
        let first = self.from.div_euclid(self.width);
        let dense = self.dense.into_iter().zip(first..).map(|(cell, bin)| (bin * self.width, cell));
        dense.chain(self.sparse).filter(|(_, cell)| !cell.is_zero()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(count: i64) -> Cell {
        Cell { count, randomized: 0, micros: 0 }
    }

    fn sums(from: Micros, to: Micros) -> Vec<(Micros, i64)> {
        let [dense, sparse] = [DENSE_MAX, 0].map(|bins_max| sums_in(Sums::new(from, to, 10, bins_max)));
        assert_eq!(dense, sparse);
        dense
    }

    fn sums_in(mut sums: Sums) -> Vec<(Micros, i64)> {
        for (time, count) in [(-10, 1), (0, 2), (10, 3), (10, 4), (20, 5), (20, -5), (30, 7)] {
            sums.add(time, one(count));
        }
        sums.rows().into_iter().map(|(time, cell)| (time, cell.count)).collect()
    }

    #[test]
    fn cells_of_one_time_add_up_within_the_range() {
        assert_eq!(sums(0, 30), [(0, 2), (10, 7)], "twenty is zero, thirty is outside");
        assert_eq!(sums(-10, 31), [(-10, 1), (0, 2), (10, 7), (30, 7)]);
        assert_eq!(sums(5, 11), [(10, 7)], "a cell that began before the range is not in it");
        assert_eq!(sums(10, 10), []);
    }

    #[test]
    fn a_range_without_bounds_is_answered_the_same() {
        assert_eq!(sums(Micros::MIN, Micros::MAX), [(-10, 1), (0, 2), (10, 7), (30, 7)]);
    }
}
