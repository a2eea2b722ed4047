//! Questions to the views and their answers.
//!
//! A peek travels to every worker in order with the batches and is answered by each from its own state at one closed time; the
//! asker puts the parts together. Peeks are bounded: listings stop after a number of rows or of users looked at and say where
//! to go on.

use crate::changes::ContextRow;
use crate::state::StateRow;
use crate::views::journeys::Journey;
use crate::views::labels::query::{LabelsAnswer, LabelsQuery};
use crate::views::minutes::MinuteUpdate;
use crate::views::occupancy::query::{OccupancyAnswer, OccupancyQuery, WifiStats};
use crate::views::sessions::source::{Counts, SourceState};
use desireline_records::{ClusterModel, ColdPart, EventId, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Query {
    /// Users with their open sessions and journey, by key hash.
    Users(UserQuery),
    /// Model, sizes and number of users.
    Clusters { source: SourceId },
    /// Every assigned user with its cluster.
    Members { source: SourceId },
    /// Cells whose window ends at or after `from`.
    Minutes { source: Option<SourceId>, from: Micros },
    /// State of every source, and of this worker.
    Overview,
    /// The journeys of the users with the lowest key hashes: a sample that does not depend on the number of workers.
    Sample { source: SourceId, users: usize },
    /// Sessions with `end + limit < boundary`, of users with key hashes in the range.
    Sealable { source: SourceId, boundary: Micros, hash_from: u64, hash_to: u64 },
    /// Whether an open event has this id.
    FindEvent { source: SourceId, id: EventId },
    /// The open events of one user: (id, time).
    OpenEvents { source: SourceId, user: EcoString },
    /// What a user did lately, in a source that keeps contexts.
    Context { source: SourceId, user: EcoString },
    /// Spaces and who was in them.
    Occupancy(OccupancyQuery),
    /// Users with everything that is in memory of them.
    Histories(HistoriesQuery),
    /// Several questions, answered at one time.
    All(Vec<Query>),
    /// Label matrices.
    Labels(LabelsQuery),
    /// All state as rows, for import into another engine.
    Export,
}

#[derive(Clone, Debug, Default)]
pub struct UserQuery {
    pub source: Option<SourceId>,
    /// One user (in every source, unless one is named) instead of a listing.
    pub user: Option<EcoString>,
    /// Listings go on behind this (key hash, source, user).
    pub after: Option<(u64, SourceId, EcoString)>,
    /// Only users with a session that overlaps `[from, to)`, as far as the open ones tell.
    pub from: Option<Micros>,
    pub to: Option<Micros>,
    /// Listings stop after users with this many sessions.
    pub sessions_max: usize,
    /// … or this many users looked at.
    pub users_max: usize,
}

#[derive(Clone, Debug, Default)]
pub struct HistoriesQuery {
    /// These users, in every source; all of them, if absent.
    pub users: Option<Arc<[EcoString]>>,
    /// Whether open events are wanted, too.
    pub events: bool,
    /// A worker stops after this many rows: users, sessions and events, each counted.
    pub rows_max: usize,
}

/// What memory has of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserHistory {
    pub answer: UserAnswer,
    /// In order of (time, id); empty unless they were asked for.
    pub events: Vec<HeldEvent>,
}

/// An event of an open session.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldEvent {
    pub id: EventId,
    pub time: Micros,
    pub event_type: EcoString,
    pub page: EcoString,
    /// Ten-thousandths; 0 unless the event is a transaction.
    pub value: i64,
    /// The number of its session: 1 for the user's first, sealed ones included.
    pub session: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenSession {
    pub first_event: EventId,
    pub start: Micros,
    pub end: Micros,
    pub events: u64,
    /// Its path; `sessions` is 1.
    pub path: Journey,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UserAnswer {
    pub source: SourceId,
    pub user: EcoString,
    pub hash: u64,
    pub sealed_sessions: u64,
    /// Cold rows exported at or before this time are not this user's any more.
    pub erased_at: LogicalTime,
    pub sessions: Vec<OpenSession>,
    pub journey: Journey,
    pub cluster: Option<u16>,
}

/// A session to be sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct SealableSession {
    pub user: EcoString,
    pub hash: u64,
    pub session: OpenSession,
}

/// One worker's part of an answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// In order of (hash, source, user). `looked_to`: every user with a smaller hash was looked at; absent when all were.
    /// `cold`: the cold parts of the sources of users with sealed sessions.
    Users {
        users: Vec<UserAnswer>,
        looked_to: Option<u64>,
        cold: Vec<(SourceId, Vec<ColdPart>)>,
    },
    Clusters {
        model: Option<Arc<ClusterModel>>,
        sizes: Vec<u64>,
        users: u64,
    },
    Members(Vec<(EcoString, u16)>),
    Minutes(Vec<MinuteUpdate>),
    Overview {
        sources: Vec<(SourceId, SourceState)>,
        models: Vec<Arc<ClusterModel>>,
        worker: WorkerStats,
    },
    /// (key hash, features).
    Sample(Vec<(u64, [f64; 6])>),
    Sealable(Vec<SealableSession>),
    FindEvent(bool),
    OpenEvents(Vec<(EventId, Micros)>),
    Context(Option<ContextRow>),
    Occupancy(OccupancyAnswer),
    Labels(LabelsAnswer),
    /// In order of (hash, source, user). `cold` as above. `complete`: nothing was left out for want of room.
    Histories {
        users: Vec<UserHistory>,
        cold: Vec<(SourceId, Vec<ColdPart>)>,
        complete: bool,
    },
    /// One for each question, in order.
    All(Vec<Answer>),
    Export(Vec<StateRow>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    pub users: usize,
    pub kinds: usize,
    pub minute_cells: usize,
    pub expensive_recuts: u64,
    pub users_moved: u64,
    pub stale_models: u64,
    /// Users with a context.
    pub contexts: usize,
    /// Items, products and users of the catalog; on the first worker.
    pub catalog: (usize, usize, usize),
    pub wifi: WifiStats,
    /// Label matrices (the same on every worker), rows of them, combinations of votes.
    pub labels: (usize, usize, usize),
}

/// Adds up the states of one source over workers; the shared parts are the same everywhere.
pub fn merge_sources(parts: impl Iterator<Item = (SourceId, SourceState)>) -> Vec<(SourceId, SourceState)> {
    let mut merged: std::collections::BTreeMap<SourceId, SourceState> = Default::default();
    for (source, part) in parts {
        match merged.get_mut(&source) {
            None => {
                merged.insert(source, part);
            }
            Some(sum) => {
                let mut counts: Counts = sum.counts;
                counts.add(&part.counts);
                sum.counts = counts;
                sum.users += part.users;
                sum.open_sessions += part.open_sessions;
                sum.open_events += part.open_events;
                sum.sealed_sessions += part.sealed_sessions;
            }
        }
    }
    merged.into_iter().collect()
}

/// Where a listing goes on: behind this (key hash, source, user).
pub type ListCursor = (u64, SourceId, EcoString);

/// Puts the workers' parts of a listing together: users in order, and where to go on.
pub fn merge_users(parts: Vec<Answer>) -> (Vec<UserAnswer>, Option<ListCursor>) {
    let mut users = Vec::new();
    let mut bound: Option<u64> = None;
    for part in parts {
        if let Answer::Users { users: part, looked_to, .. } = part {
            users.extend(part);
            bound = match (bound, looked_to) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    users.retain(|user| bound.is_none_or(|bound| user.hash < bound));
    users.sort_by(|a, b| (a.hash, a.source, &a.user).cmp(&(b.hash, b.source, &b.user)));
    (users, bound.map(|hash| (hash, 0, EcoString::new())))
}
