//! What changed between two looks at the running bin and the one before it.
//!
//! Numbers are those of spaces with all that lies below, as they may be shown. When a bin begins, what was running is the last one, and what
//! was last is no longer looked at; neither is a change. At most so many numbers are kept, those of the lowest ids.

use super::frames::OccupancyFrame;
use crate::service::Privacy;
use crate::service::occupancy::{OccupancyNow, width};
use desireline_records::{LogicalTime, Micros, SpaceId, time};
use serde::Serialize;
use std::collections::BTreeMap;

/// A number as it is sent. Absent ones are withheld.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SpaceCell {
    pub space_id: SpaceId,
    pub interval_begin_time: String,
    pub number_connections: Option<i64>,
    /// The number before; absent in snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Option<i64>>,
}

/// The numbers of two bins, as last seen; zeros are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Occupied {
    pub begin: Micros,
    pub interval_seconds: u32,
    numbers: BTreeMap<(Micros, SpaceId), Option<i64>>,
    /// Spaces were left out to keep within the limit.
    pub truncated: bool,
    /// Whether there are any spaces.
    pub has_spaces: bool,
}

impl Occupied {
    pub fn new(now: OccupancyNow, privacy: Privacy, cells_max: usize) -> Self {
        let last = now.begin - width(now.interval_seconds);
        let mut seen = Self { begin: now.begin, interval_seconds: now.interval_seconds, ..Self::default() };
        seen.has_spaces = !now.spaces.is_empty();
        for space in now.spaces {
            for (time, cell) in [(last, space.last), (now.begin, space.running)] {
                let shown = privacy.show(cell);
                if shown.is_empty() {
                    continue;
                }
                if seen.numbers.len() >= cells_max {
                    seen.truncated = true;
                    return seen;
                }
                seen.numbers.insert((time, space.space.space_id), shown.number);
            }
        }
        seen
    }

    /// Everything, or what has become of it in `newer`.
    pub fn frame(&self, as_of: LogicalTime, newer: Option<&Self>) -> OccupancyFrame {
        let shown = newer.unwrap_or(self);
        OccupancyFrame {
            as_of,
            snapshot: newer.is_none(),
            truncated: shown.truncated,
            interval_seconds: shown.interval_seconds,
            interval_begin_time: time::format_rfc3339(shown.begin),
            cells: newer.map_or_else(|| self.snapshot(), |newer| self.changes(newer)),
        }
    }

    pub fn snapshot(&self) -> Vec<SpaceCell> {
        self.numbers.iter().map(|(key, number)| cell(key, *number, None)).collect()
    }

    /// What differs in `newer`, in its two bins.
    pub fn changes(&self, newer: &Self) -> Vec<SpaceCell> {
        let first = newer.begin - width(newer.interval_seconds);
        let mut changes = Vec::new();
        for (key, number) in &newer.numbers {
            let before = self.numbers.get(key).copied().unwrap_or(Some(0));
            if before != *number {
                changes.push(cell(key, *number, Some(before)));
            }
        }
        // What was cut off is not known, so it did not change.
        let gone = self.numbers.iter().filter(|(key, _)| key.0 >= first && !newer.truncated && !newer.numbers.contains_key(*key));
        changes.extend(gone.map(|(key, before)| cell(key, Some(0), Some(*before))));
        changes
    }
}

fn cell((time, space_id): &(Micros, SpaceId), number_connections: Option<i64>, before: Option<Option<i64>>) -> SpaceCell {
    SpaceCell { space_id: *space_id, interval_begin_time: time::format_rfc3339(*time), number_connections, before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::SpaceNow;
    use desireline_records::{Cell, Space};

    const BIN: Micros = 900 * time::SECOND;

    fn seen(begin: Micros, numbers: &[(SpaceId, i64, i64)], k: u32, cells_max: usize) -> Occupied {
        let cell = |count| Cell { count, randomized: 0, micros: 0 };
        let now = |(id, last, running): &(SpaceId, i64, i64)| SpaceNow {
            space: Space { space_id: *id, space_name: None, parent_space_id: None, building_room: None, capacity: None },
            running: cell(*running),
            last: cell(*last),
        };
        let spaces = numbers.iter().map(now).collect();
        Occupied::new(OccupancyNow { interval_seconds: 900, begin, spaces }, Privacy { exclude_randomized: false, k }, cells_max)
    }

    /// Space, minute of the hour, number, and the one before.
    type Brief = (SpaceId, String, Option<i64>, Option<Option<i64>>);

    fn brief(cells: Vec<SpaceCell>) -> Vec<Brief> {
        let minute = |text: String| text[14..16].to_owned();
        cells.into_iter().map(|c| (c.space_id, minute(c.interval_begin_time), c.number_connections, c.before)).collect()
    }

    #[test]
    fn only_what_changed_is_sent_with_what_it_was() {
        let old = seen(BIN, &[(1, 5, 2), (2, 1, 0), (3, 0, 4)], 0, 99);
        let new = seen(BIN, &[(1, 6, 2), (2, 1, 1), (3, 0, 0)], 0, 99);
        let expected = [
            (1, "00".to_owned(), Some(6), Some(Some(5))),
            (2, "15".to_owned(), Some(1), Some(Some(0))),
            (3, "15".to_owned(), Some(0), Some(Some(4))),
        ];
        assert_eq!(brief(old.changes(&new)), expected);
        assert!(new.changes(&new).is_empty());
    }

    #[test]
    fn a_bin_that_is_no_longer_looked_at_did_not_change() {
        let old = seen(BIN, &[(1, 5, 2)], 0, 99);
        let new = seen(2 * BIN, &[(1, 2, 1)], 0, 99);
        assert_eq!(brief(old.changes(&new)), [(1, "30".to_owned(), Some(1), Some(Some(0)))]);
    }

    #[test]
    fn withheld_numbers_change_too_and_say_nothing() {
        let old = seen(BIN, &[(1, 0, 2)], 3, 99);
        assert_eq!(brief(old.snapshot()), [(1, "15".to_owned(), None, None)]);
        assert!(old.changes(&seen(BIN, &[(1, 0, 1)], 3, 99)).is_empty());
        assert_eq!(brief(old.changes(&seen(BIN, &[(1, 0, 3)], 3, 99))), [(1, "15".to_owned(), Some(3), Some(None))]);
    }

    #[test]
    fn beyond_the_limit_spaces_are_left_out() {
        let some = seen(BIN, &[(1, 1, 1), (2, 1, 1)], 0, 3);
        assert!(some.truncated && some.snapshot().len() == 3);
        assert!(seen(BIN, &[(1, 1, 1), (2, 1, 1)], 0, 4).changes(&some).is_empty());
    }
}
