//! What the service answers, as plain values: the HTTP layer, the dashboard and the CLI print them, nothing else.

use super::{AlertCounts, WifiSealingStatus};
use desireline_dataflows::views::occupancy::query::WifiStats;
use desireline_records::{ColdPart, DeadLetterKind, LogicalTime, Micros, SourceId, Token, UserIdType};
use ecow::EcoString;
use serde::Serialize;
use thiserror::Error;

/// An answer and the logical time at which it was true.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub as_of: LogicalTime,
    pub value: T,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Opaque; absent on the last page.
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct SessionsQuery {
    pub source: Option<SourceId>,
    pub user: Option<EcoString>,
    /// Sessions that overlap `[from, to)`.
    pub from: Option<Micros>,
    pub to: Option<Micros>,
    pub limit: usize,
    pub cursor: Option<String>,
    pub at_least: Option<Token>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    pub source: SourceId,
    pub user: EcoString,
    pub user_id_type: UserIdType,
    pub session_number: u64,
    pub start: Micros,
    pub end: Micros,
    pub event_count: u64,
    pub views: u64,
    pub carts: u64,
    pub transactions: u64,
    /// Sum of the values of its transactions, in ten-thousandths.
    pub value: i128,
    pub sealed: bool,
}

#[derive(Clone, Debug, Default)]
pub struct JourneysQuery {
    pub source: Option<SourceId>,
    pub user: Option<EcoString>,
    pub limit: usize,
    pub cursor: Option<String>,
    pub at_least: Option<Token>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct JourneyRow {
    pub source: SourceId,
    pub user: EcoString,
    pub user_id_type: UserIdType,
    /// (views, carts, transactions or their value).
    pub state: [f64; 3],
    /// The same for each session, in order.
    pub paths: Vec<[f64; 3]>,
    pub session_count: u64,
    /// views, carts, transactions, sessions, views per session, purchase ratio.
    pub features: [f64; 6],
    pub cluster_id: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterRow {
    pub cluster_id: u16,
    pub users: u64,
    pub centroid: [f64; 6],
}

/// A cluster with all its users (verbose `/view`), ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterMembers {
    pub cluster_id: u16,
    pub users: Vec<EcoString>,
    pub centroid: [f64; 6],
}

#[derive(Clone, Debug, PartialEq)]
pub struct Clusters<R> {
    pub user_id_type: UserIdType,
    /// 0 before the first training.
    pub model_version: u64,
    /// By cluster id; clusters without users are left out.
    pub clusters: Vec<R>,
    /// Users of the source, whether assigned or not.
    pub users: u64,
}

/// One cell of the minutes view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinuteRow {
    pub source: SourceId,
    pub window_start: Micros,
    pub page: EcoString,
    pub event_type: EcoString,
    pub count: i64,
    /// Ten-thousandths.
    pub revenue: i128,
}

/// The conservation law of one source: `received = applied + duplicate + late + pending + quarantined + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceCounters {
    pub received: u64,
    pub applied: u64,
    pub duplicate: u64,
    /// Duplicates whose payload differed; contained in `duplicate`.
    pub conflict: u64,
    pub late: u64,
    pub pending: u64,
    pub quarantined: u64,
    pub rejected: u64,
    /// Applied events that were retracted later, by deletion or erasure.
    pub deleted: u64,
}

impl SourceCounters {
    pub fn balanced(&self) -> bool {
        self.received == self.applied + self.duplicate + self.late + self.pending + self.quarantined + self.rejected
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    pub partition: EcoString,
    /// Next position to read.
    pub position: i64,
    pub max_event_time: Option<Micros>,
    pub idle: bool,
    pub held: bool,
    /// Rows between the position and the end of the partition, when the connector knows it.
    pub lag: Option<i64>,
    /// Set when the partition has stopped until somebody acts.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    pub source_id: SourceId,
    pub name: String,
    pub counters: SourceCounters,
    pub balanced: bool,
    pub watermark: Option<Micros>,
    pub partitions: Vec<PartitionStatus>,
    pub users: u64,
    pub open_sessions: u64,
    pub open_events: u64,
    pub sealed_sessions: u64,
    pub sealed_before: Option<Micros>,
    pub model_version: u64,
    pub cold_parts: Vec<ColdPart>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct LogStatus {
    pub segments: u64,
    pub bytes: u64,
    pub last_time: LogicalTime,
    pub epoch: u64,
    pub writable: bool,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub as_of: LogicalTime,
    /// The last committed time: `as_of` lags it by what the views have yet to work.
    pub committed: LogicalTime,
    pub ready: bool,
    pub catching_up: bool,
    /// Progress of the replay at start-up, 0..1.
    pub replay_progress: f64,
    pub started_at: Micros,
    pub workers: usize,
    pub queue_depth: usize,
    pub queue_capacity: usize,
    pub memory_bytes: u64,
    /// Ingest to visible, of the last minute, in milliseconds.
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub events_per_second: f64,
    pub log: LogStatus,
    pub sources: Vec<SourceStatus>,
    /// Erasures whose rows have not yet left log and cold parts.
    pub erasures: Vec<ErasureStatus>,
    pub engine: EngineStatus,
    #[serde(skip)]
    pub wifi: WifiStatus,
    #[serde(skip)]
    pub labels: LabelsStatus,
}

/// Live label matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelsStatus {
    pub matrices: u64,
    /// Of all matrices.
    pub rows: u64,
    /// Combinations of votes that are told apart, on each worker.
    pub combinations: u64,
    /// Keys that have changed and were not evaluated yet.
    pub waiting_keys: u64,
}

/// WiFi sessions, spaces and alerts.
#[derive(Clone, Debug, Default)]
pub struct WifiStatus {
    pub memory: WifiStats,
    pub alerts: AlertCounts,
    pub sealing: WifiSealingStatus,
}

/// An erasure: from every view the user is gone; this is about what lies on disk.
#[derive(Clone, Debug, Serialize)]
pub struct ErasureStatus {
    pub id: String,
    pub source_id: SourceId,
    pub requested_at: Micros,
    pub deadline: Micros,
    /// Log segments and dead letters.
    pub log_done: bool,
    pub cold_parts_done: bool,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct EngineStatus {
    pub users: u64,
    pub minute_cells: u64,
    /// Distinct (page, event type) pairs of open events.
    pub kinds: u64,
    /// Re-cuts of users above `engine.max_open_events`.
    pub expensive_recuts: u64,
    /// Users that moved from one cluster to another.
    pub users_moved: u64,
    /// Cluster models that did not follow the one in force.
    pub stale_models: u64,
    /// Rows behind the seal boundary that were not marked late: 0 unless an invariant broke.
    pub late_unmarked: u64,
}

#[derive(Clone, Debug)]
pub struct DeadLettersQuery {
    pub source: Option<SourceId>,
    pub kind: Option<DeadLetterKind>,
    pub limit: usize,
    pub cursor: Option<String>,
}

/// A dead letter and the id by which it can be replayed.
#[derive(Clone, Debug)]
pub struct DeadLetterRow {
    pub id: String,
    pub letter: desireline_records::DeadLetter,
}

/// What became of one ingest request. Returned only after everything accepted is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub token: Token,
    /// Rows newly seen and rows that repeat an earlier one. Judged against open state when the batch was applied.
    pub inserted: u64,
    pub duplicates: u64,
}

/// Errors of the service, by domain. `code` is stable and machine readable.
#[derive(Debug, Error)]
pub enum ServiceError {
    #[error("{detail}")]
    Invalid { field: &'static str, detail: String },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    /// The dataflow lags or the queue is full: try again.
    #[error("the server is busy; try again in {retry_after_s} s")]
    Busy { retry_after_s: u64 },
    /// Not replayed yet, or the token lies beyond what this server has seen in time.
    #[error("{0}")]
    NotReady(String),
    /// The log cannot be written (disk full, fenced by another server, read-only).
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl ServiceError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Busy { .. } => "busy",
            Self::NotReady(_) => "not_ready",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

/// What a training did.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Journeys in the sample.
    pub journeys: u64,
    /// The version in force afterwards; unchanged when the centroids moved less than `clusters.min_shift`.
    pub version: u64,
    pub published: bool,
}
