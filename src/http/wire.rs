//! The bodies of answers, and how the service's values are printed in them.

use super::projections::ProjectionItem;
use super::wire_wifi::WifiItem;
use crate::projections::ProjectionStatus;
use crate::service::{
    ClusterRow, DeadLetterRow, EngineStatus, ErasureStatus, JourneyRow, MinuteRow, SessionRow, SourceCounters, SourceStatus, Status,
};
use desireline_records::fixed::sum_to_f64;
use desireline_records::{LogicalTime, SourceId, UserIdType, time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user id: a string, or an integer for sources whose ids are integers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum UserId {
    Int(i64),
    Text(String),
}

impl UserId {
    /// Only canonical decimal integers become numbers, so that `007` and `7` stay two users.
    pub fn new(text: &str, kind: UserIdType) -> Self {
        let number = match kind {
            UserIdType::Int => text.parse::<i64>().ok().filter(|n| n.to_string() == text),
            UserIdType::String => None,
        };
        number.map_or_else(|| Self::Text(text.to_owned()), Self::Int)
    }
}

pub fn rfc3339(micros: i64) -> String {
    time::format_rfc3339(micros)
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub source_id: SourceId,
    pub user_id: UserId,
    /// 1, 2, … in the order of time.
    pub session_number: u64,
    /// Its first event, RFC 3339.
    pub start: String,
    /// Its last event, RFC 3339.
    pub end: String,
    pub event_count: u64,
    pub views: u64,
    pub carts: u64,
    pub transactions: u64,
    /// Sum of the values of its transactions.
    pub value: f64,
    /// It lies in a cold part and is final.
    pub sealed: bool,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            source_id: row.source,
            user_id: UserId::new(&row.user, row.user_id_type),
            session_number: row.session_number,
            start: rfc3339(row.start),
            end: rfc3339(row.end),
            event_count: row.event_count,
            views: row.views,
            carts: row.carts,
            transactions: row.transactions,
            value: sum_to_f64(row.value),
            sealed: row.sealed,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionsReply {
    pub as_of: LogicalTime,
    pub sessions: Vec<Session>,
    pub next_cursor: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Journey {
    pub source_id: SourceId,
    pub user_id: UserId,
    /// Views, carts, transactions (or their value).
    pub state: [f64; 3],
    /// The same for each session, in order.
    pub paths: Vec<[f64; 3]>,
    pub session_count: u64,
    /// Views, carts, transactions, sessions, views per session, purchase ratio.
    pub features: [f64; 6],
    pub cluster_id: Option<u16>,
}

impl From<JourneyRow> for Journey {
    fn from(row: JourneyRow) -> Self {
        Self {
            source_id: row.source,
            user_id: UserId::new(&row.user, row.user_id_type),
            state: row.state,
            paths: row.paths,
            session_count: row.session_count,
            features: row.features,
            cluster_id: row.cluster_id,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JourneysReply {
    pub as_of: LogicalTime,
    pub journeys: Vec<Journey>,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    pub cluster_id: u16,
    pub users: u64,
    /// Views, carts, transactions, sessions, views per session, purchase ratio.
    pub centroid: [f64; 6],
}

impl From<ClusterRow> for Cluster {
    fn from(row: ClusterRow) -> Self {
        Self { cluster_id: row.cluster_id, users: row.users, centroid: row.centroid }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClustersReply {
    pub as_of: LogicalTime,
    pub source_id: SourceId,
    /// 0 before the first training.
    pub model_version: u64,
    /// Users of the source, whether assigned or not.
    pub users: u64,
    /// By id; those without users are left out.
    pub clusters: Vec<Cluster>,
}

/// How many users a cluster has, or which.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ViewUsers {
    Count(u64),
    Ids(Vec<UserId>),
}

/// A cluster as `/view` prints it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ViewCluster {
    pub id: u16,
    pub users: ViewUsers,
    /// Views, carts, transactions, sessions, views per session, purchase ratio.
    pub centroid: [f64; 6],
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MinuteItem {
    pub source_id: SourceId,
    /// RFC 3339.
    pub window_start: String,
    /// RFC 3339, exclusive.
    pub window_end: String,
    pub page: String,
    pub event_type: String,
    pub count: i64,
    /// Sum of the values of its transactions.
    pub revenue: f64,
}

impl From<MinuteRow> for MinuteItem {
    fn from(row: MinuteRow) -> Self {
        Self {
            source_id: row.source,
            window_start: rfc3339(row.window_start),
            window_end: rfc3339(row.window_start + time::MINUTE),
            page: row.page.into(),
            event_type: row.event_type.into(),
            count: row.count,
            revenue: sum_to_f64(row.revenue),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AggregatesReply {
    pub as_of: LogicalTime,
    /// Oldest first.
    pub items: Vec<MinuteItem>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterItem {
    /// For the replay.
    pub id: String,
    pub source_id: SourceId,
    /// `malformed`, `invalid`, `quarantined` or `late`.
    pub kind: String,
    /// When it was refused, RFC 3339.
    pub at: String,
    /// Empty when the payload names none.
    pub user_id: String,
    /// Empty when the whole payload is at fault.
    pub field: String,
    pub detail: String,
    /// `topic/partition/offset`, `file:line` or `http`.
    pub origin: String,
    pub format: String,
    /// As it came, cut at 4,096 bytes.
    pub payload: String,
}

impl From<DeadLetterRow> for DeadLetterItem {
    fn from(DeadLetterRow { id, letter }: DeadLetterRow) -> Self {
        Self {
            id,
            source_id: letter.source,
            kind: letter.kind.word().to_owned(),
            at: rfc3339(letter.at),
            user_id: letter.user.into(),
            field: letter.field.into(),
            detail: letter.detail.into(),
            origin: letter.origin.into(),
            format: letter.format.into(),
            payload: letter.payload.into(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLettersReply {
    pub as_of: LogicalTime,
    pub dead_letters: Vec<DeadLetterItem>,
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    pub received: u64,
    pub applied: u64,
    pub duplicate: u64,
    /// Contained in `duplicate`: the payload differed.
    pub conflict: u64,
    pub late: u64,
    pub pending: u64,
    pub quarantined: u64,
    pub rejected: u64,
    /// Contained in `applied`: retracted later.
    pub deleted: u64,
}

impl From<SourceCounters> for Counters {
    fn from(counters: SourceCounters) -> Self {
        let SourceCounters { received, applied, duplicate, conflict, late, pending, quarantined, rejected, deleted } = counters;
        Self { received, applied, duplicate, conflict, late, pending, quarantined, rejected, deleted }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PartitionItem {
    pub partition: String,
    /// Next position to read.
    pub position: i64,
    /// RFC 3339.
    pub max_event_time: Option<String>,
    pub idle: bool,
    pub held: bool,
    /// Rows between the position and the end of the partition.
    pub lag: Option<i64>,
    /// Set when the partition has stopped until somebody acts.
    pub error: Option<String>,
}

/// The sealed sessions of a source, in sum.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ColdParts {
    pub parts: u64,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SourceItem {
    pub source_id: SourceId,
    pub name: String,
    pub counters: Counters,
    /// received = applied + duplicate + late + pending + quarantined + rejected.
    pub balanced: bool,
    /// RFC 3339.
    pub watermark: Option<String>,
    pub partitions: Vec<PartitionItem>,
    pub users: u64,
    pub open_sessions: u64,
    pub open_events: u64,
    pub sealed_sessions: u64,
    /// RFC 3339.
    pub sealed_before: Option<String>,
    pub model_version: u64,
    pub cold_parts: ColdParts,
}

impl From<SourceStatus> for SourceItem {
    fn from(source: SourceStatus) -> Self {
        let partition = |p: crate::service::PartitionStatus| PartitionItem {
            partition: p.partition.into(),
            position: p.position,
            max_event_time: p.max_event_time.map(rfc3339),
            idle: p.idle,
            held: p.held,
            lag: p.lag,
            error: p.error,
        };
        let parts = &source.cold_parts;
        Self {
            source_id: source.source_id,
            name: source.name,
            balanced: source.counters.balanced(),
            counters: source.counters.into(),
            watermark: source.watermark.map(rfc3339),
            cold_parts: ColdParts {
                parts: parts.len() as u64,
                rows: parts.iter().map(|part| part.rows).sum(),
                bytes: parts.iter().map(|part| part.bytes).sum(),
            },
            partitions: source.partitions.into_iter().map(partition).collect(),
            users: source.users,
            open_sessions: source.open_sessions,
            open_events: source.open_events,
            sealed_sessions: source.sealed_sessions,
            sealed_before: source.sealed_before.map(rfc3339),
            model_version: source.model_version,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogItem {
    pub segments: u64,
    pub bytes: u64,
    pub last_time: LogicalTime,
    pub epoch: u64,
    pub writable: bool,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusReply {
    /// Logical time, ms.
    pub as_of: LogicalTime,
    /// The last committed logical time, ms.
    pub committed: LogicalTime,
    pub ready: bool,
    pub catching_up: bool,
    /// 0..1.
    pub replay_progress: f64,
    /// RFC 3339.
    pub started_at: String,
    /// The server's clock, RFC 3339.
    pub now: String,
    pub version: String,
    pub workers: usize,
    pub queue_depth: usize,
    pub queue_capacity: usize,
    pub memory_bytes: u64,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub events_per_second: f64,
    pub log: LogItem,
    pub sources: Vec<SourceItem>,
    /// Erasures whose rows have not yet left log and cold parts.
    pub erasures: Vec<ErasureItem>,
    pub engine: EngineItem,
    /// By name.
    pub projections: Vec<ProjectionItem>,
    pub wifi: WifiItem,
    pub labels: LabelsItem,
}

/// Live label matrices.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LabelsItem {
    pub matrices: u64,
    pub rows: u64,
    /// Changed keys that were not evaluated yet.
    pub waiting_keys: u64,
}

/// An erasure: no view shows the user any more; this is about storage.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErasureItem {
    pub id: String,
    pub source_id: SourceId,
    /// RFC 3339.
    pub requested_at: String,
    /// RFC 3339.
    pub deadline: String,
    /// Log segments and dead letters.
    pub log_done: bool,
    pub cold_parts_done: bool,
    pub error: Option<String>,
}

impl From<ErasureStatus> for ErasureItem {
    fn from(erasure: ErasureStatus) -> Self {
        let ErasureStatus { id, source_id, requested_at, deadline, log_done, cold_parts_done, error } = erasure;
        Self { id, source_id, requested_at: rfc3339(requested_at), deadline: rfc3339(deadline), log_done, cold_parts_done, error }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EngineItem {
    pub users: u64,
    pub minute_cells: u64,
    /// Distinct (page, event type) pairs of open events.
    pub kinds: u64,
    /// Re-cuts of users with very many open events.
    pub expensive_recuts: u64,
    /// Users that moved from one cluster to another.
    pub users_moved: u64,
    /// Cluster models that did not follow the one in force.
    pub stale_models: u64,
    /// Rows behind the seal boundary that were not marked late: 0 unless an invariant broke.
    pub late_unmarked: u64,
}

impl From<EngineStatus> for EngineItem {
    fn from(engine: EngineStatus) -> Self {
        let EngineStatus { users, minute_cells, kinds, expensive_recuts, users_moved, stale_models, late_unmarked } = engine;
        Self { users, minute_cells, kinds, expensive_recuts, users_moved, stale_models, late_unmarked }
    }
}

impl StatusReply {
    pub fn new(status: Status, projections: Vec<ProjectionStatus>) -> Self {
        Self {
            as_of: status.as_of,
            committed: status.committed,
            ready: status.ready,
            catching_up: status.catching_up,
            replay_progress: status.replay_progress,
            started_at: rfc3339(status.started_at),
            now: rfc3339(time::now_micros()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: status.workers,
            queue_depth: status.queue_depth,
            queue_capacity: status.queue_capacity,
            memory_bytes: if status.memory_bytes == 0 { crate::metrics::resident_bytes() } else { status.memory_bytes },
            latency_p50_ms: status.latency_p50_ms,
            latency_p99_ms: status.latency_p99_ms,
            events_per_second: status.events_per_second,
            log: LogItem {
                segments: status.log.segments,
                bytes: status.log.bytes,
                last_time: status.log.last_time,
                epoch: status.log.epoch,
                writable: status.log.writable,
                error: status.log.error,
            },
            sources: status.sources.into_iter().map(SourceItem::from).collect(),
            erasures: status.erasures.into_iter().map(ErasureItem::from).collect(),
            engine: status.engine.into(),
            projections: projections.into_iter().map(ProjectionItem::from).collect(),
            labels: LabelsItem { matrices: status.labels.matrices, rows: status.labels.rows, waiting_keys: status.labels.waiting_keys },
            wifi: status.wifi.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_of_integer_sources_are_numbers() {
        let print = |text, kind| serde_json::to_string(&UserId::new(text, kind)).expect("prints");
        assert_eq!(print("42", UserIdType::Int), "42");
        assert_eq!(print("-7", UserIdType::Int), "-7");
        for text in ["007", "+1", "1.0", "", "x", "99999999999999999999", "-0"] {
            assert_eq!(print(text, UserIdType::Int), format!("\"{text}\""));
        }
        assert_eq!(print("42", UserIdType::String), "\"42\"");
    }

    #[test]
    fn integer_users_are_in_numeric_order() {
        let mut ids: Vec<UserId> = ["10", "9", "x", "-1"].map(|text| UserId::new(text, UserIdType::Int)).to_vec();
        ids.sort();
        assert_eq!(serde_json::to_string(&ids).expect("prints"), r#"[-1,9,10,"x"]"#);
    }
}
