//! What a worker knows of a source: its settings in force, its counts, its gauges.

use super::history::Cut;
use desireline_records::{ColdPart, LogicalTime, Micros, Purged, SourceId, SourceSettings};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts of one source on one worker; they add up over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    pub applied: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub late: u64,
    /// Late, but waiting to be applied when the sealed history has been read.
    pub pending: u64,
    pub quarantined: u64,
    pub rejected: u64,
    pub deleted: u64,
    /// Rows that were not marked late although their part of the history is sealed: always 0 unless an invariant broke.
    pub late_unmarked: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.late += other.late;
        self.pending += other.pending;
        self.quarantined += other.quarantined;
        self.rejected += other.rejected;
        self.deleted += other.deleted;
        self.late_unmarked += other.late_unmarked;
    }

    pub(super) fn add_purged(&mut self, purged: &Purged) {
        self.applied += purged.applied;
        self.duplicate += purged.duplicate;
        self.conflict += purged.conflict;
        self.late += purged.late;
        self.quarantined += purged.quarantined;
        self.rejected += purged.rejected;
        self.deleted += purged.deleted;
        self.received += purged.applied + purged.duplicate + purged.late + purged.quarantined + purged.rejected;
    }
}

/// What a worker knows of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState {
    pub settings: SourceSettings,
    pub counts: Counts,
    /// Users with at least one session, open or sealed.
    pub users: u64,
    pub open_sessions: u64,
    pub open_events: u64,
    pub sealed_sessions: u64,
    pub boundary: Option<Micros>,
    pub cold: Vec<ColdPart>,
    /// Users erased, and when: cold rows from before do not count, until the parts have been rewritten.
    pub erased: BTreeMap<EcoString, LogicalTime>,
}

impl SourceState {
    pub(super) fn new(source: SourceId) -> Self {
        Self {
            settings: SourceSettings::defaults(source),
            counts: Counts::default(),
            users: 0,
            open_sessions: 0,
            open_events: 0,
            sealed_sessions: 0,
            boundary: None,
            cold: Vec::new(),
            erased: BTreeMap::new(),
        }
    }

    pub fn cut(&self) -> Cut {
        Cut { rule: self.settings.session_rule, limit: self.settings.session_limit }
    }
}
