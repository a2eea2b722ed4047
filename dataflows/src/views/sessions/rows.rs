//! From events to sessions as rows, and to moves of a journey.

use super::history::{History, OpenEvent};
use super::kinds::Kinds;
use super::state::User;
use crate::changes::{ChangeLog, Content, View, ViewRow};
use crate::views::journeys::Journey;
use desireline_records::{EventId, LogicalTime, Micros, Movement};
use std::cmp::Ordering;
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

/// What a change of a user may touch, before and after it, for followers.
pub struct UserDiff {
    sessions: Vec<ViewRow>,
    /// (time, id, session number) in order, when events are followed.
    events: Vec<(Micros, EventId, u32)>,
    from: usize,
}

impl UserDiff {
    /// What stands from the session on that a change at or after `time` can touch; nothing when nobody follows.
    pub fn before(user: &User, kinds: &Kinds, time: Micros, changes: &ChangeLog) -> Option<Self> {
        if !changes.follows(View::Sessions) && !changes.follows(View::Events) {
            return None;
        }
        let from = user.history.first_touched(time);
        let (sessions, events) = standing(user, kinds, from, changes);
        Some(Self { sessions, events, from })
    }

    /// Emits the differences. `place` gives the place of a new event in its batch.
    pub fn after(self, user: &User, kinds: &Kinds, time: LogicalTime, changes: &mut ChangeLog, place: impl Fn(EventId) -> Option<u32>) {
        let (sessions, events) = standing(user, kinds, self.from, changes);
        let before: BTreeSet<ViewRow> = self.sessions.into_iter().collect();
        let after: BTreeSet<ViewRow> = sessions.into_iter().collect();
        for row in before.difference(&after) {
            changes.push(time, row.clone(), -1);
        }
        for row in after.difference(&before) {
            changes.push(time, row.clone(), 1);
        }
        let (mut old, mut new) = (self.events.into_iter().peekable(), events.into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => (a.0, a.1).cmp(&(b.0, b.1)),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let come = if order.is_ge() { new.next() } else { None };
            if gone == come {
                continue;
            }
            if let Some(gone) = gone {
                changes.push(time, event_row(user, gone), -1);
            }
            match come {
                Some(come) if gone.is_none() => match place(come.1) {
                    Some(place) => changes.push_event(time, event_row(user, come), place),
                    None => changes.push(time, event_row(user, come), 1),
                },
                Some(come) => changes.push(time, event_row(user, come), 1),
                None => {}
            }
        }
    }
}

type Standing = (Vec<ViewRow>, Vec<(Micros, EventId, u32)>);

fn standing(user: &User, kinds: &Kinds, from: usize, changes: &ChangeLog) -> Standing {
    let sessions = if changes.follows(View::Sessions) { session_rows(user, kinds, from) } else { Vec::new() };
    let events = if changes.follows(View::Events) { numbered(user, from).collect() } else { Vec::new() };
    (sessions, events)
}

/// The open events of a user with the numbers of their sessions, from a session on.
fn numbered(user: &User, from: usize) -> impl Iterator<Item = (Micros, EventId, u32)> {
    let sealed = user.sealed_sessions() as u32;
    (from..user.history.sessions())
        .flat_map(move |n| user.history.session(n).iter().map(move |event| (event.time, event.id, sealed + n as u32 + 1)))
}

fn event_row(user: &User, (time, id, session): (Micros, EventId, u32)) -> ViewRow {
    ViewRow::Event { source: user.source, user: user.name.clone(), id, time, session, content: Content::default() }
}

/// The open events of a user as rows of the view, without what they say.
pub fn event_rows(user: &User) -> impl Iterator<Item = ViewRow> {
    numbered(user, 0).map(|event| event_row(user, event))
}

/// The open sessions of a user as rows of the view, from a number on.
pub fn session_rows(user: &User, kinds: &Kinds, from: usize) -> Vec<ViewRow> {
    let sealed = user.sealed_sessions() as u32;
    (from..user.history.sessions())
        .map(|n| {
            let events = user.history.session(n);
            let path = path(events, kinds);
            ViewRow::Session {
                source: user.source,
                user: user.name.clone(),
                number: sealed + n as u32 + 1,
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
