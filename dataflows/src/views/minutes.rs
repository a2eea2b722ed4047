//! Minutes: how many events of each type each page had in each minute, and their revenue.
//!
//! Tumbling one-minute windows on event time, half open and aligned to the epoch, per (source, page, event type). Fed by what
//! the sessions view accepts and retracts, so duplicates never count and a late or deleted event corrects its old minute.
//! Cells are spread over the workers by key hash; a cell that falls back to zero disappears.
//!
//! Memory: cells older than the seal boundary less [`KEPT`] leave memory when their source is sealed. That changes no answer
//! that is asked for (aggregates reach back 24 hours); a later change to such a cell (an erasure) goes to the change stream
//! only, as a shift.

use crate::changes::{SharedChangeLog, View, ViewRow};
use crate::engine::ControlIn;
use crate::views::closed::at_closed_times;
use crate::views::sessions::kinds::Kinds;
use desireline_records::time::{HOUR, MINUTE};
use desireline_records::{Control, LogicalTime, Micros, MinuteCount, Movement, SourceId};
use ecow::EcoString;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How long minutes stay in memory behind the seal boundary.
pub const KEPT: Micros = 25 * HOUR;

/// The start of the minute that holds a time.
pub fn minute_of(time: Micros) -> Micros {
    time.div_euclid(MINUTE) * MINUTE
}

/// A change of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinuteUpdate {
    pub source: SourceId,
    pub minute: Micros,
    pub page: EcoString,
    pub event_type: EcoString,
    pub count: i64,
    /// Ten-thousandths.
    pub revenue: i128,
}

impl MinuteUpdate {
    /// A cell's contribution, taken back.
    pub fn retracting(source: SourceId, cell: &MinuteCount) -> Self {
        Self {
            source,
            minute: cell.minute,
            page: cell.page.clone(),
            event_type: cell.event_type.clone(),
            count: -cell.count,
            revenue: -cell.revenue,
        }
    }

    /// The same in every process.
    fn route(&self) -> u64 {
        let seed = xxh3_64_with_seed(self.event_type.as_bytes(), self.minute as u64 ^ (u64::from(self.source) << 40));
        xxh3_64_with_seed(self.page.as_bytes(), seed)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub count: i64,
    pub revenue: i128,
}

/// A [`Cell`] in 24 bytes: the revenue in two halves.
#[derive(Clone, Copy, Default)]
struct Packed {
    count: i64,
    revenue_high: i64,
    revenue_low: u64,
}

impl Packed {
    fn cell(self) -> Cell {
        Cell { count: self.count, revenue: (i128::from(self.revenue_high) << 64) | i128::from(self.revenue_low) }
    }

    fn of(cell: Cell) -> Self {
        Self { count: cell.count, revenue_high: (cell.revenue >> 64) as i64, revenue_low: cell.revenue as u64 }
    }
}

/// The cells of one minute, by the number of their page and event type.
type Cells = HashMap<u32, Packed>;

/// One worker's share of the view.
#[derive(Default)]
pub struct MinutesState {
    minutes: BTreeMap<(Micros, SourceId), Cells>,
    /// Pages and event types, counted once per cell.
    kinds: Kinds,
    /// Minutes before these have left memory.
    evicted: HashMap<SourceId, Micros>,
    cells: usize,
}

pub type SharedMinutes = Rc<RefCell<MinutesState>>;

impl MinutesState {
    /// Applies a change. Returns the cell before and after, or nothing when the minute has left memory.
    fn apply(&mut self, update: &MinuteUpdate) -> Option<(Cell, Cell)> {
        if self.evicted.get(&update.source).is_some_and(|before| update.minute < *before) {
            return None;
        }
        let kind = self.kinds.acquire(&update.page, &update.event_type, Movement::None);
        let minute = self.minutes.entry((update.minute, update.source)).or_default();
        let held = minute.len();
        let packed = minute.entry(kind).or_default();
        let before = packed.cell();
        let after = Cell { count: before.count + update.count, revenue: before.revenue + update.revenue };
        *packed = Packed::of(after);
        self.cells += minute.len() - held;
        if minute.len() == held {
            self.kinds.release(kind);
        }
        if after == Cell::default() {
            minute.remove(&kind);
            self.kinds.release(kind);
            self.cells -= 1;
            if minute.is_empty() {
                self.minutes.remove(&(update.minute, update.source));
            }
        }
        Some((before, after))
    }

    fn evict(&mut self, source: SourceId, boundary: Micros) {
        let before = minute_of(boundary.saturating_sub(KEPT));
        let evicted = self.evicted.entry(source).or_insert(0);
        *evicted = before.max(*evicted);
        let before = *evicted;
        let old: Vec<_> = self.minutes.range(..(before, 0)).map(|(key, _)| *key).filter(|key| key.1 == source).collect();
        for key in old {
            let cells = self.minutes.remove(&key).unwrap_or_default();
            self.cells -= cells.len();
            cells.keys().for_each(|kind| self.kinds.release(*kind));
        }
    }

    /// Cells whose window ends at or after `from`, in order of their minutes.
    pub fn since(&self, source: Option<SourceId>, from: Micros) -> impl Iterator<Item = MinuteUpdate> + '_ {
        let first = (Bound::Included((minute_of(from.saturating_sub(MINUTE).max(0)), 0)), Bound::Unbounded);
        self.minutes
            .range(first)
            .filter(move |((minute, s), _)| minute + MINUTE >= from && source.is_none_or(|source| source == *s))
            .flat_map(|((minute, source), cells)| {
                cells.iter().map(|(kind, packed)| {
                    let (kind, cell) = (self.kinds.get(*kind), packed.cell());
                    MinuteUpdate {
                        source: *source,
                        minute: *minute,
                        page: kind.page.clone(),
                        event_type: kind.event_type.clone(),
                        count: cell.count,
                        revenue: cell.revenue,
                    }
                })
            })
    }

    pub fn evicted(&self) -> impl Iterator<Item = (SourceId, Micros)> + '_ {
        self.evicted.iter().map(|(source, before)| (*source, *before))
    }

    pub fn restore_evicted(&mut self, source: SourceId, before: Micros) {
        self.evicted.insert(source, before);
    }

    pub fn cells(&self) -> usize {
        self.cells
    }
}

fn row_of(update: &MinuteUpdate, cell: Cell) -> Option<ViewRow> {
    (cell != Cell::default()).then(|| ViewRow::Minute {
        source: update.source,
        minute: update.minute,
        page: update.page.clone(),
        event_type: update.event_type.clone(),
        count: cell.count,
        revenue: cell.revenue,
    })
}

fn shift_of(update: &MinuteUpdate) -> ViewRow {
    let MinuteUpdate { source, minute, page, event_type, count, revenue } = update.clone();
    ViewRow::MinuteShift { source, minute, page, event_type, count, revenue }
}

/// The dataflow: changes by cell, controls in order with them. The output carries no data, only progress.
pub fn build<'scope>(
    updates: StreamVec<'scope, LogicalTime, MinuteUpdate>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    state: SharedMinutes,
    changes: SharedChangeLog,
) -> StreamVec<'scope, LogicalTime, ()> {
    at_closed_times(updates, controls, Exchange::new(MinuteUpdate::route), "Minutes", move |time, updates, controls| {
        work(&mut state.borrow_mut(), &changes, time, &updates, &controls);
    })
}

fn work(state: &mut MinutesState, changes: &SharedChangeLog, time: LogicalTime, updates: &[MinuteUpdate], controls: &[ControlIn]) {
    let mut changes = changes.borrow_mut();
    for update in updates {
        let applied = state.apply(update);
        if !changes.follows(View::Minutes) {
            continue;
        }
        match applied {
            Some((before, after)) => changes.replace(time, row_of(update, before), row_of(update, after)),
            None => changes.push(time, shift_of(update), 1),
        }
    }
    for control in controls {
        if let ControlIn::Logged(Control::Seal(seal)) = control {
            state.evict(seal.source, seal.boundary);
        }
    }
    state.kinds.sweep();
}
