//! Change streams: what followers of a view consume.
//!
//! A follower subscribes to one view and gets, first, the view's rows at the time of its subscription (each with
//! difference +1), then every change `(row, time, ±1)` in time order. While nobody subscribes to a view its operators
//! produce no rows at all. Streams are bounded: a follower that falls behind loses its subscription and must start over
//! from a new snapshot.

use crate::views::journeys::Journey;
use desireline_records::{EventId, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use std::cell::RefCell;
use std::rc::Rc;

/// The views that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    Sessions,
    Journeys,
    Minutes,
}

/// A row of a view, as followers see it. Rows are told apart by all their fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViewRow {
    Session {
        source: SourceId,
        user: EcoString,
        /// A session's identity is its first event.
        first_event: EventId,
        start: Micros,
        end: Micros,
        events: u32,
        views: u32,
        carts: u32,
        transactions: u32,
        value: i128,
    },
    Journey {
        source: SourceId,
        user: EcoString,
        journey: Journey,
        cluster: Option<u16>,
    },
    Minute {
        source: SourceId,
        minute: Micros,
        page: EcoString,
        event_type: EcoString,
        count: i64,
        revenue: i128,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub time: LogicalTime,
    pub row: ViewRow,
    /// +1 or -1.
    pub diff: i64,
}

/// Where the operators of one worker put changes until the worker sends them on, at the close of each time.
#[derive(Default)]
pub struct ChangeLog {
    pub sessions: bool,
    pub journeys: bool,
    pub minutes: bool,
    pending: Vec<(View, Change)>,
}

pub type SharedChangeLog = Rc<RefCell<ChangeLog>>;

impl ChangeLog {
    pub fn follow(&mut self, view: View, on: bool) {
        match view {
            View::Sessions => self.sessions = on,
            View::Journeys => self.journeys = on,
            View::Minutes => self.minutes = on,
        }
    }

    pub fn push(&mut self, view: View, time: LogicalTime, row: ViewRow, diff: i64) {
        self.pending.push((view, Change { time, row, diff }));
    }

    /// A replaced row, unless nothing is different.
    pub fn replace(&mut self, view: View, time: LogicalTime, before: Option<ViewRow>, after: Option<ViewRow>) {
        if before == after {
            return;
        }
        if let Some(row) = before {
            self.push(view, time, row, -1);
        }
        if let Some(row) = after {
            self.push(view, time, row, 1);
        }
    }

    pub fn take(&mut self) -> Vec<(View, Change)> {
        std::mem::take(&mut self.pending)
    }
}
