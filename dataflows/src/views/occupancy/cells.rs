//! What is counted, by space: the sums of what devices' workers found, as far as they are in memory.
//!
//! A space lives on the worker that its number names. A cell is the sum of all differences that came for it since it was last sealed:
//! before the sealed boundary that is a difference to what cold parts have. Cells that are zero are not kept.

use super::tree::Tree;
use crate::changes::{ChangeLog, View, ViewRow};
use desireline_records::{Cell, CellKey, LogicalTime, Measure, Micros, SpaceId};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The cells of one space and measure, by (time, other).
type Series = BTreeMap<(Micros, i32), Cell>;

/// Times of a sum that stand in a table; of more, only those that there are.
const SLOTS_MAX: i64 = 1 << 20;

#[derive(Default)]
pub struct Cells {
    spaces: HashMap<(SpaceId, Measure), Series>,
    cells: usize,
    /// Cells before this lie in cold parts.
    boundary: Option<Micros>,
    pub tree: Tree,
}

impl Cells {
    /// Adds differences, and tells followers what became of the cells.
    pub fn add(&mut self, deltas: &[(CellKey, Cell)], time: LogicalTime, changes: &mut ChangeLog) {
        let followed = changes.follows(View::Occupancy);
        for (key, delta) in deltas.iter().filter(|(_, delta)| !delta.is_zero()) {
            let series = self.spaces.entry((key.space, key.measure)).or_default();
            let cell = series.entry((key.time, key.other)).or_insert_with(|| {
                self.cells += 1;
                Cell::ZERO
            });
            let before = *cell;
            cell.add(*delta);
            let after = *cell;
            if after.is_zero() {
                series.remove(&(key.time, key.other));
                self.cells -= 1;
            }
            if !followed {
                continue;
            }
            if self.boundary.is_some_and(|boundary| key.time < boundary) {
                changes.push(time, ViewRow::CellShift { key: *key, cell: *delta }, 1);
            } else {
                let row = |cell: Cell| (!cell.is_zero()).then_some(ViewRow::Cell { key: *key, cell });
                changes.replace(time, row(before), row(after));
            }
        }
    }

    /// Cells before the boundary lie in cold parts now.
    pub fn seal(&mut self, boundary: Micros) {
        self.boundary = Some(boundary).max(self.boundary);
        for series in self.spaces.values_mut() {
            let open = series.split_off(&(boundary, i32::MIN));
            self.cells -= series.len();
            *series = open;
        }
        self.spaces.retain(|_, series| !series.is_empty());
    }

    pub fn restore_boundary(&mut self, boundary: Option<Micros>) {
        self.boundary = boundary.max(self.boundary);
    }

    pub fn len(&self) -> usize {
        self.cells
    }

    pub fn is_empty(&self) -> bool {
        self.cells == 0
    }

    /// The sum of a measure over some spaces, by time.
    pub fn sum(&self, spaces: &[SpaceId], measure: Measure, from: Micros, to: Micros) -> Vec<(Micros, Cell)> {
        let kept: Vec<&Series> = spaces.iter().filter_map(|space| self.spaces.get(&(*space, measure))).collect();
        let first = kept.iter().filter_map(|series| range(series, from, to).next()).map(|(time, ..)| time).min();
        let last = kept.iter().filter_map(|series| range(series, from, to).next_back()).map(|(time, ..)| time).max();
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        let width = measure.width();
        let cells = kept.iter().flat_map(|series| range(series, from, to));
        let slots = (last - first) / width + 1;
        if slots > SLOTS_MAX {
            let mut sums: BTreeMap<Micros, Cell> = BTreeMap::new();
            cells.for_each(|(time, _, cell)| sums.entry(time).or_default().add(cell));
            return sums.into_iter().filter(|(_, cell)| !cell.is_zero()).collect();
        }
        let mut sums = vec![Cell::ZERO; slots as usize];
        cells.for_each(|(time, _, cell)| sums[((time - first) / width) as usize].add(cell));
        let times = (0..).map(|slot| first + slot * width);
        times.zip(sums).filter(|(_, cell)| !cell.is_zero()).collect()
    }

    /// Single cells, ascending: of some spaces, or of all.
    pub fn select(&self, spaces: Option<&[SpaceId]>, measure: Measure, from: Micros, to: Micros) -> Vec<(CellKey, Cell)> {
        let mut wanted: Vec<SpaceId> = match spaces {
            Some(spaces) => spaces.to_vec(),
            None => self.spaces.keys().filter(|(_, of)| *of == measure).map(|(space, _)| *space).collect(),
        };
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Vec::new();
        for space in wanted {
            let Some(series) = self.spaces.get(&(space, measure)) else { continue };
            found.extend(range(series, from, to).map(|(time, other, cell)| (CellKey { space, measure, time, other }, cell)));
        }
        found
    }

    /// Every cell before a time, ascending.
    pub fn before(&self, boundary: Micros) -> Vec<(CellKey, Cell)> {
        let mut found: Vec<(CellKey, Cell)> = Vec::new();
        for ((space, measure), series) in &self.spaces {
            let cells = series.range(..(boundary, i32::MIN));
            found.extend(
                cells.map(|((time, other), cell)| (CellKey { space: *space, measure: *measure, time: *time, other: *other }, *cell)),
            );
        }
        found.sort_unstable();
        found
    }

    /// For a new follower: cells that are not sealed, and differences to those that are.
    pub fn rows(&self) -> Vec<ViewRow> {
        let row = |(key, cell): (CellKey, Cell)| match self.boundary {
            Some(boundary) if key.time < boundary => ViewRow::CellShift { key, cell },
            _ => ViewRow::Cell { key, cell },
        };
        self.before(Micros::MAX).into_iter().map(row).collect()
    }

    pub fn space_rows(&self) -> Vec<ViewRow> {
        self.tree.iter().map(|space| ViewRow::Space(Arc::new(space.clone()))).collect()
    }
}

fn range(series: &Series, from: Micros, to: Micros) -> impl DoubleEndedIterator<Item = (Micros, i32, Cell)> {
    let to = to.max(from);
    series.range((from, i32::MIN)..(to, i32::MIN)).map(|((time, other), cell)| (*time, *other, *cell))
}
