//! From events to sessions as rows, and to moves of a journey.

use super::history::{History, OpenEvent};
use super::kinds::Kinds;
use super::state::User;
use crate::changes::{ChangeLog, View, ViewRow};
use crate::views::journeys::Journey;
use desireline_records::{EraseUser, LogicalTime, Micros, Movement, SealedSession};
use std::collections::BTreeSet;

/// Moves a journey by one event, without its value.
pub fn step(journey: &mut Journey, movement: Movement, sign: i64) {
    match movement {
        Movement::View => journey.views += sign,
        Movement::Cart => journey.carts += sign,
        Movement::Transaction => journey.transactions += sign,
        Movement::None => {}
    }
}

/// How many sessions from the front ended long enough before the boundary.
pub fn sealable(history: &History, limit: Micros, boundary: Micros) -> usize {
    let ended = |n: &usize| history.session(*n).last().is_some_and(|e| e.time + limit < boundary);
    (0..history.sessions()).take_while(ended).count()
}

/// The sum over the open sessions.
pub fn open_journey(history: &History, kinds: &Kinds) -> Journey {
    let mut journey = path(history.events(), kinds);
    journey.sessions = history.sessions() as i64;
    journey
}

/// The sum over the events of one session.
pub fn path(events: &[OpenEvent], kinds: &Kinds) -> Journey {
    let mut journey = Journey::of_sessions(1);
    let mut value = 0i128;
    for event in events {
        step(&mut journey, kinds.movement(event.kind), 1);
        value += i128::from(event.value);
    }
    journey.set_value(value);
    journey
}

/// The session rows that a change may touch, before and after it.
pub struct SessionDiff {
    rows: Vec<ViewRow>,
    from: usize,
}

impl SessionDiff {
    pub fn before(user: &User, kinds: &Kinds, time: Micros) -> Self {
        let from = user.history.first_touched(time);
        Self { rows: session_rows(user, kinds, from), from }
    }

    pub fn after(self, user: &User, kinds: &Kinds, time: LogicalTime, changes: &mut ChangeLog) {
        let before: BTreeSet<ViewRow> = self.rows.into_iter().collect();
        let after: BTreeSet<ViewRow> = session_rows(user, kinds, self.from).into_iter().collect();
        for row in before.difference(&after) {
            changes.push(View::Sessions, time, row.clone(), -1);
        }
        for row in after.difference(&before) {
            changes.push(View::Sessions, time, row.clone(), 1);
        }
    }
}

pub fn sealed_row(erase: &EraseUser, session: &SealedSession) -> ViewRow {
    ViewRow::Session {
        source: erase.source,
        user: erase.user.clone(),
        first_event: session.first_event,
        start: session.start,
        end: session.end,
        events: session.events,
        views: session.views,
        carts: session.carts,
        transactions: session.transactions,
        value: session.value,
    }
}

/// The open sessions of a user as rows of the view, from a number on.
pub fn session_rows(user: &User, kinds: &Kinds, from: usize) -> Vec<ViewRow> {
    (from..user.history.sessions())
        .map(|n| {
            let events = user.history.session(n);
            let path = path(events, kinds);
            ViewRow::Session {
                source: user.source,
                user: user.name.clone(),
                first_event: events[0].id,
                start: events[0].time,
                end: events[events.len() - 1].time,
                events: events.len() as u32,
                views: path.views as u32,
                carts: path.carts as u32,
                transactions: path.transactions as u32,
                value: path.value(),
            }
        })
        .collect()
}
