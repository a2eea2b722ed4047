//! Where a follower is in the changes: what its target has, what it was given, and what has gathered behind that.

use super::changeset::Changeset;
use desireline_dataflows::changes::Change;
use desireline_dataflows::engine::{Changes, Next};
use desireline_records::LogicalTime;
use std::time::Instant;

/// Where a follower is in the changes.
#[derive(Default)]
pub(super) struct Streaming {
    pub live: Option<Changes>,
    /// The target has everything up to here.
    pub base: LogicalTime,
    /// What the target was given last; kept until it is known to have it.
    pub under_way: Option<Changeset>,
    /// Changes up to here are known from elsewhere.
    pub taken: LogicalTime,
    /// Complete times behind what is under way.
    pub gathering: Changeset,
    /// Since when something gathers.
    pub since: Option<Instant>,
    /// Changes of a time that is not complete yet.
    pub open: Vec<Change>,
    /// Some time was complete: a snapshot is.
    pub begun: bool,
}

impl Streaming {
    /// A stream that goes on from what a target knows.
    pub fn from(live: Changes, known: LogicalTime) -> Self {
        let gathering = Changeset { time: known, ..Changeset::default() };
        Self { live: Some(live), base: known, gathering, ..Self::default() }
    }

    /// Up to which time the changes were taken.
    pub fn at(&self) -> LogicalTime {
        self.gathering.time.max(self.base)
    }

    /// Forgets everything but what the target has.
    pub fn reset(&mut self, known: LogicalTime) {
        *self = Self { base: known, gathering: Changeset { time: known, ..Changeset::default() }, ..Self::default() };
    }

    /// Takes the changes of a complete time.
    pub fn add(&mut self, time: LogicalTime, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.gathering.add(change);
        }
        self.gathering.time = time;
        if !self.gathering.is_empty() && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// Takes what waits, until about `rows_max` rows have gathered. Answers whether the stream is lost; nothing when the views have stopped.
    pub fn drain(&mut self, rows_max: usize) -> Option<bool> {
        while self.gathering.len() < rows_max {
            let Some(live) = &self.live else { return Some(true) };
            match live.try_next() {
                None => return Some(false),
                // The changes of one message are of one time.
                Some(Next::Changes(changes)) if changes.first().is_some_and(|change| change.time <= self.taken) => {}
                Some(Next::Changes(changes)) if self.open.is_empty() => self.open = changes,
                Some(Next::Changes(changes)) => self.open.extend(changes),
                Some(Next::Closed(time)) => {
                    let open = std::mem::take(&mut self.open);
                    self.add(time.max(self.gathering.time), open);
                    self.begun = true;
                }
                Some(Next::Lost) => {
                    self.open.clear();
                    return Some(true);
                }
                Some(Next::End) => return None,
            }
        }
        Some(false)
    }
}
