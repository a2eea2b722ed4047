//! What one device did: its sessions in memory, in order, and the cells that they make.
//!
//! Sessions stand in one list by (start, space); each knows the largest end up to itself (`reach`), so a walk back ends as soon as nothing
//! earlier can matter. A session changes the bins that no other session of its space touches, and the days (of visits and moves) that it
//! touches; nothing else is looked at. Inserting at the end costs the same however long the list is.
//!
//! Rules:
//! * a device is in a bin when a session of its touches it, half open ([`bins`]);
//! * a visit is a run of sessions in one space on one day with at most `visit_gap` between them; it lasts from the first start to the
//!   last end, both cut at midnight (UTC);
//! * a session is an arrival from another space when, of the sessions before it that ended at most `move_gap` before its start, the last
//!   one (by start, then space) was in another space.

use desireline_records::time::{DAY, HOUR};
use desireline_records::wifi::{bins, dwell_bucket};
use desireline_records::{Cell, CellKey, Measure, Micros, SealedStay, SpaceId, WifiSettings};
use hashbrown::HashMap;

/// Differences of cells.
pub type Deltas = HashMap<CellKey, Cell>;

/// A session in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub start: Micros,
    /// Until when it is taken to last.
    pub end: Micros,
    /// The largest end of this session and of those before it.
    reach: Micros,
    pub space: SpaceId,
    /// Not closed by a row yet.
    pub open: bool,
}

impl Held {
    pub fn new(start: Micros, end: Micros, space: SpaceId, open: bool) -> Self {
        Self { start, end, reach: end, space, open }
    }

    pub fn sealed(&self) -> SealedStay {
        SealedStay { start: self.start, end: self.end, space: self.space, open: self.open, deleted: false }
    }

    fn key(&self) -> (Micros, SpaceId) {
        (self.start, self.space)
    }
}

/// The sessions of one device.
#[derive(Clone, Debug, Default)]
pub struct Track {
    held: Vec<Held>,
}

impl Track {
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn find(&self, start: Micros, space: SpaceId) -> Option<Held> {
        self.place(start, space).ok().map(|at| self.held[at])
    }

    fn place(&self, start: Micros, space: SpaceId) -> Result<usize, usize> {
        // Most sessions are the newest of their device.
        if self.held.last().is_none_or(|last| last.key() < (start, space)) {
            return Err(self.held.len());
        }
        self.held.binary_search_by_key(&(start, space), Held::key)
    }

    /// Puts a session in its place, without a thought for cells. There must be none with its (start, space).
    pub fn put(&mut self, held: Held) {
        let at = self.place(held.start, held.space).unwrap_or_else(|at| at);
        self.held.insert(at, held);
        self.reach_from(at);
    }

    pub fn take(&mut self, start: Micros, space: SpaceId) -> Option<Held> {
        let at = self.place(start, space).ok()?;
        let held = self.held.remove(at);
        self.reach_from(at);
        Some(held)
    }

    /// Keeps some of the sessions.
    pub fn retain(&mut self, keep: impl FnMut(&Held) -> bool) {
        self.held.retain(keep);
        self.reach_from(0);
        if self.held.capacity() > 2 * self.held.len() + 8 {
            self.held.shrink_to(self.held.len() + 4);
        }
    }

    fn reach_from(&mut self, at: usize) {
        let mut reach = if at == 0 { Micros::MIN } else { self.held[at - 1].reach };
        for (further, held) in self.held[at..].iter_mut().enumerate() {
            reach = reach.max(held.end);
            if held.reach == reach && further > 0 {
                break;
            }
            held.reach = reach;
        }
    }

    /// Whether a session in the space touches the bin `[from, to)`.
    fn touches(&self, space: SpaceId, from: Micros, to: Micros) -> bool {
        let before = self.held.partition_point(|held| held.start < to);
        let near = self.held[..before].iter().rev().take_while(|held| held.reach > from);
        near.into_iter().any(|held| held.space == space && held.end > from)
    }

    /// What the device's bins gain (or lose, by `sign`) by the bins that `changed` has and `unchanged` has not, with all other sessions in
    /// the list.
    pub fn bins(&self, changed: &Held, unchanged: Option<&Held>, sign: i64, randomized: bool, settings: &WifiSettings, out: &mut Deltas) {
        for seconds in &settings.intervals {
            let measure = Measure::Devices(*seconds);
            let width = measure.width();
            let kept = unchanged.map_or(0..0, |held| bins(held.start, held.end, width));
            for bin in bins(changed.start, changed.end, width).filter(|bin| !kept.contains(bin)) {
                let time = bin * width;
                if !self.touches(changed.space, time, time + width) {
                    let key = CellKey { space: changed.space, measure, time, other: 0 };
                    out.entry(key).or_default().add(one(sign, randomized));
                }
            }
        }
    }

    /// Visits and moves of one day.
    pub fn day(&self, day: Micros, settings: &WifiSettings) -> Day {
        let mut found = Day { day, visits: Vec::new(), moves: Vec::new() };
        let end = day + DAY;
        let before = self.held.partition_point(|held| held.start < end);
        // The earliest session that can touch the day.
        let first = self.held[..before].partition_point(|held| held.reach < day);
        for held in self.held[first..before].iter().filter(|held| held.end > day || held.start >= day) {
            let (from, to) = (held.start.max(day), held.end.min(end));
            let of_space = found.visits.iter_mut().rev().find(|visit| visit.space == held.space);
            match of_space.filter(|visit| from - visit.to <= settings.visit_gap) {
                Some(visit) => visit.to = visit.to.max(to),
                None => found.visits.push(Visit { space: held.space, from, to }),
            }
        }
        let arrived = self.held[..before].partition_point(|held| held.start < day);
        for (at, held) in self.held.iter().enumerate().take(before).skip(arrived) {
            let since = held.start - settings.move_gap;
            let near = self.held[..at].iter().rev().take_while(|earlier| earlier.reach >= since);
            if let Some(from) = near.into_iter().find(|earlier| earlier.end >= since).filter(|from| from.space != held.space) {
                found.moves.push((from.space, held.space, held.start.div_euclid(HOUR) * HOUR));
            }
        }
        found
    }

    /// Every cell of the device, added up.
    pub fn whole(&self, randomized: bool, settings: &WifiSettings) -> Deltas {
        let mut out = Deltas::default();
        for seconds in &settings.intervals {
            let measure = Measure::Devices(*seconds);
            let width = measure.width();
            for held in &self.held {
                for bin in bins(held.start, held.end, width) {
                    let key = CellKey { space: held.space, measure, time: bin * width, other: 0 };
                    out.insert(key, one(1, randomized));
                }
            }
        }
        let mut days: Vec<Micros> = self.held.iter().flat_map(|held| days(held.start, held.end)).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            self.day(day, settings).add_to(&mut out, 1, randomized);
        }
        out
    }
}

fn one(sign: i64, randomized: bool) -> Cell {
    if sign < 0 { Cell::one(randomized).negated() } else { Cell::one(randomized) }
}

/// The begins of the days from one time to another, inclusive.
pub fn days(from: Micros, to: Micros) -> impl Iterator<Item = Micros> {
    (from.div_euclid(DAY)..=to.div_euclid(DAY)).map(|day| day * DAY)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visit {
    space: SpaceId,
    from: Micros,
    to: Micros,
}

/// A device's visits and moves of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    pub day: Micros,
    visits: Vec<Visit>,
    /// (from, to, hour of arrival).
    moves: Vec<(SpaceId, SpaceId, Micros)>,
}

impl Day {
    /// What has become of the day.
    pub fn change_to(&self, after: &Self, randomized: bool, out: &mut Deltas) {
        let (gone, new) = differing(&self.visits, &after.visits);
        gone.iter().for_each(|visit| self.visit(visit, -1, randomized, out));
        new.iter().for_each(|visit| self.visit(visit, 1, randomized, out));
        let (gone, new) = differing(&self.moves, &after.moves);
        gone.iter().for_each(|moved| add_move(moved, -1, randomized, out));
        new.iter().for_each(|moved| add_move(moved, 1, randomized, out));
    }

    pub fn add_to(&self, out: &mut Deltas, sign: i64, randomized: bool) {
        self.visits.iter().for_each(|visit| self.visit(visit, sign, randomized, out));
        self.moves.iter().for_each(|moved| add_move(moved, sign, randomized, out));
    }

    fn visit(&self, visit: &Visit, sign: i64, randomized: bool, out: &mut Deltas) {
        let length = visit.to - visit.from;
        let key = CellKey { space: visit.space, measure: Measure::Visits, time: self.day, other: 0 };
        out.entry(key).or_default().add(Cell { micros: sign * length, ..one(sign, randomized) });
        let key = CellKey { measure: Measure::Dwell, other: dwell_bucket(length), ..key };
        out.entry(key).or_default().add(one(sign, randomized));
    }
}

fn add_move(moved: &(SpaceId, SpaceId, Micros), sign: i64, randomized: bool, out: &mut Deltas) {
    let key = CellKey { space: moved.0, measure: Measure::Moves, time: moved.2, other: moved.1 };
    out.entry(key).or_default().add(one(sign, randomized));
}

/// Both lists without what they begin and end with in common.
fn differing<'a, T: PartialEq>(before: &'a [T], after: &'a [T]) -> (&'a [T], &'a [T]) {
    let same = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[same..], &after[same..]);
    let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    (&before[..before.len() - same], &after[..after.len() - same])
}
