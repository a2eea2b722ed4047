//! What changed between two looks at the minutes view.
//!
//! A change is a *correction* when its window is not one of the two newest of its source: the current minute and the one
//! before it are still filling, older ones only move when something late, repeated, corrected or deleted came in.
//!
//! Cells that leave because their window left the hour are no changes; neither are the first cells of a source.

use crate::service::MinuteRow;
use desireline_records::{Micros, SourceId, fixed, time};
use ecow::EcoString;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// The order in which cells are sent.
type Key = (Micros, EcoString, EcoString, SourceId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums {
    count: i64,
    revenue: i128,
}

/// One cell as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    pub source_id: SourceId,
    pub window_start: String,
    pub page: EcoString,
    pub event_type: EcoString,
    pub count: i64,
    pub revenue: f64,
    /// The count before; absent for a new cell and in snapshots.
    pub before: Option<i64>,
    pub revenue_before: Option<f64>,
    pub correction: bool,
}

impl Cell {
    fn new(key: &Key, sums: Sums, before: Option<Sums>, correction: bool) -> Self {
        Self {
            source_id: key.3,
            window_start: time::format_rfc3339(key.0),
            page: key.1.clone(),
            event_type: key.2.clone(),
            count: sums.count,
            revenue: fixed::sum_to_f64(sums.revenue),
            before: before.map(|sums| sums.count),
            revenue_before: before.map(|sums| fixed::sum_to_f64(sums.revenue)),
            correction,
        }
    }
}

/// The cells of the last hour, as last seen.
#[derive(Debug, Default)]
pub(super) struct Cells {
    cells: BTreeMap<Key, Sums>,
    /// Older windows were left out to keep within the limit.
    pub truncated: bool,
}

impl Cells {
    /// Takes the rows of the view from `from` on, at most `cells_max` of them, the newest windows first to be kept.
    pub fn new(rows: Vec<MinuteRow>, cells_max: usize) -> Self {
        let sums = |row: &MinuteRow| Sums { count: row.count, revenue: row.revenue };
        let mut cells: BTreeMap<Key, Sums> = rows
            .into_iter()
            .map(|row| (sums(&row), (row.window_start, row.page, row.event_type, row.source)))
            .map(|(s, k)| (k, s))
            .collect();
        let truncated = cells.len() > cells_max;
        if truncated {
            // Whole windows only, or the oldest one would seem to shrink.
            let first_kept = cells.keys().rev().nth(cells_max).map_or(Micros::MAX, |key| key.0.saturating_add(1));
            cells = cells.split_off(&(first_kept, EcoString::new(), EcoString::new(), 0));
        }
        Self { cells, truncated }
    }

    pub fn snapshot(&self, source: Option<SourceId>) -> Vec<Cell> {
        let wanted = self.cells.iter().filter(|(key, _)| source.is_none_or(|source| key.3 == source));
        wanted.map(|(key, sums)| Cell::new(key, *sums, None, false)).collect()
    }

    /// What differs in `newer`, within the windows from `from` on.
    pub fn changes(&self, newer: &Self, from: Micros) -> Vec<Cell> {
        let newest = newer.second_newest_windows();
        let known: HashMap<SourceId, ()> = self.cells.keys().map(|key| (key.3, ())).collect();
        let is_correction = |key: &Key| known.contains_key(&key.3) && newest.get(&key.3).is_none_or(|second| key.0 < *second);
        // What was cut off on either side is not known, so it did not change.
        let first = |cells: &Self| if cells.truncated { cells.cells.keys().next().map_or(Micros::MAX, |key| key.0) } else { Micros::MIN };
        let from = from.max(first(self)).max(first(newer));
        let mut changes = Vec::new();
        for (key, sums) in newer.cells.iter().filter(|(key, _)| key.0 >= from) {
            let before = self.cells.get(key).copied();
            if before != Some(*sums) {
                changes.push(Cell::new(key, *sums, before, is_correction(key)));
            }
        }
        for (key, before) in self.cells.iter().filter(|(key, _)| key.0 >= from && !newer.cells.contains_key(*key)) {
            let nothing = Sums { count: 0, revenue: 0 };
            changes.push(Cell::new(key, nothing, Some(*before), is_correction(key)));
        }
        changes
    }

    /// The second newest window of each source, or its only one.
    fn second_newest_windows(&self) -> HashMap<SourceId, Micros> {
        let mut newest: HashMap<SourceId, (Micros, Option<Micros>)> = HashMap::new();
        for key in self.cells.keys().rev() {
            let entry = newest.entry(key.3).or_insert((key.0, None));
            if entry.1.is_none() && key.0 < entry.0 {
                entry.1 = Some(key.0);
            }
        }
        newest.into_iter().map(|(source, (first, second))| (source, second.unwrap_or(first))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::MINUTE;

    const T: Micros = 1_700_000_040_000_000;

    fn row(source: SourceId, minute: i64, page: &str, count: i64) -> MinuteRow {
        let revenue = i128::from(count) * 10_000;
        MinuteRow { source, window_start: T + minute * MINUTE, page: page.into(), event_type: "view".into(), count, revenue }
    }

    fn cells(rows: &[MinuteRow]) -> Cells {
        Cells::new(rows.to_vec(), 1_000)
    }

    #[test]
    fn only_changed_cells_are_sent_with_what_they_were() {
        let old = cells(&[row(1, 0, "/a", 1), row(1, 1, "/a", 2), row(1, 2, "/a", 3)]);
        let new = cells(&[row(1, 0, "/a", 1), row(1, 1, "/a", 5), row(1, 2, "/a", 3), row(1, 2, "/b", 1)]);
        let changes = old.changes(&new, 0);
        let brief: Vec<_> = changes.iter().map(|c| (c.page.as_str(), c.count, c.before, c.revenue_before, c.correction)).collect();
        assert_eq!(brief, [("/a", 5, Some(2), Some(2.0), false), ("/b", 1, None, None, false)]);
        assert!(new.changes(&new, 0).is_empty());
    }

    #[test]
    fn a_change_behind_the_two_newest_windows_is_a_correction() {
        let old = cells(&[row(1, 0, "/a", 1), row(1, 1, "/a", 2), row(1, 2, "/a", 3)]);
        let new = cells(&[row(1, 0, "/a", 4), row(1, 0, "/late", 1), row(1, 1, "/a", 2), row(1, 2, "/a", 3), row(1, 3, "/a", 1)]);
        let flags: Vec<_> = old.changes(&new, 0).iter().map(|c| (c.page.to_string(), c.before, c.correction)).collect();
        assert_eq!(flags, [("/a".into(), Some(1), true), ("/late".into(), None, true), ("/a".into(), None, false)]);
    }

    #[test]
    fn newest_is_meant_per_source_and_a_new_source_corrects_nothing() {
        let old = cells(&[row(1, 0, "/a", 1), row(1, 1, "/a", 1)]);
        let new = cells(&[row(1, 0, "/a", 2), row(1, 1, "/a", 1), row(2, -30, "/x", 1), row(2, 9, "/x", 1), row(2, 10, "/x", 1)]);
        assert!(old.changes(&new, 0).iter().all(|c| !c.correction));
    }

    #[test]
    fn a_vanished_cell_is_sent_as_zero_unless_its_window_has_left() {
        let old = cells(&[row(1, 0, "/a", 1), row(1, 1, "/a", 2), row(1, 2, "/a", 1), row(1, 3, "/a", 1)]);
        let new = cells(&[row(1, 2, "/a", 1), row(1, 3, "/a", 1)]);
        let changes = old.changes(&new, T + MINUTE);
        let brief: Vec<_> = changes.iter().map(|c| (c.count, c.revenue, c.before, c.correction)).collect();
        assert_eq!(brief, [(0, 0.0, Some(2), true)]);
    }

    #[test]
    fn beyond_the_limit_whole_old_windows_are_left_out() {
        let rows: Vec<MinuteRow> = (0..10).flat_map(|minute| ["/a", "/b", "/c"].map(|page| row(1, minute, page, 1))).collect();
        let kept = Cells::new(rows.clone(), 7);
        assert!(kept.truncated);
        let windows: Vec<String> = kept.snapshot(None).into_iter().map(|c| c.window_start).collect();
        assert_eq!(windows.len(), 6, "two windows of three cells");
        assert!(kept.changes(&Cells::new(rows, 1_000), 0).is_empty(), "what was cut off did not change");
    }

    #[test]
    fn a_snapshot_can_be_of_one_source() {
        let all = cells(&[row(1, 0, "/a", 1), row(2, 0, "/a", 1)]);
        assert_eq!(all.snapshot(None).len(), 2);
        assert!(all.snapshot(Some(2)).iter().all(|c| c.source_id == 2 && c.before.is_none()));
    }
}
