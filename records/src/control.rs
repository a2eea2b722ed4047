//! Commands and results that change answers without being rows of data.

use crate::catalog::CatalogEntry;
use crate::{
    EventId, LogicalTime, Matrix, MatrixId, MatrixModel, MatrixRows, Micros, PartitionKey, Reopen, ReplaceStays, SealFrom, SealStays,
    SourceId, SourceSettings, Space, SpaceId,
};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The settings of a source, from here on. Open sessions are cut again under a new rule; sealed ones stay as they are.
    Settings(SourceSettings),
    /// One event is retracted, whoever its user is. Its id is remembered while its user is open.
    DeleteEvent {
        source: SourceId,
        id: EventId,
    },
    Erase(EraseUser),
    Model(ClusterModel),
    Seal(Seal),
    /// Cold parts are replaced by others with the same rows (or, in an erasure, with fewer).
    ReplaceCold {
        source: SourceId,
        removed: Vec<EcoString>,
        added: Vec<ColdPart>,
    },
    Partition(PartitionState),
    /// One row of the log is skipped by every replay from here on; an operator's last resort.
    SkipRow {
        time: LogicalTime,
        row: u32,
    },
    /// The state of a run of the scheduler; the last record of a run id counts.
    Run {
        run_id: EcoString,
        body: serde_json::Value,
    },
    /// An item, a product or a user of the shop; a later entry of the same key replaces it.
    Catalog(CatalogEntry),
    /// An entry of the catalog stood here and was erased.
    Removed,
    /// A node of the space tree; a later record of the same id replaces it.
    Space(Space),
    SpaceRemoved {
        space_id: SpaceId,
    },
    SealFrom(SealFrom),
    SealStays(SealStays),
    ReplaceStays(ReplaceStays),
    Reopen(Reopen),
    /// A record of an interface that keeps its own: the last body of a (kind, key) counts, `null` removes it.
    Document {
        kind: EcoString,
        key: EcoString,
        body: serde_json::Value,
    },
    /// A label matrix begins, or begins anew, without rows.
    Matrix(Arc<Matrix>),
    MatrixRemoved {
        matrix: MatrixId,
    },
    MatrixRows(Arc<MatrixRows>),
    MatrixModel(Arc<MatrixModel>),
    /// An operator pauses or resumes a projection; it stays so over restarts.
    Projection {
        name: EcoString,
        paused: bool,
    },
}

/// A user vanishes from every view at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EraseUser {
    pub source: SourceId,
    /// Empty once the erasure has been carried out physically.
    pub user: EcoString,
    pub requested_at: Micros,
    /// The user's sealed events as counted per minute, re-read from history: views hold open events only and need these to
    /// retract the rest. Emptied once the rows themselves are gone from the log.
    pub sealed_minutes: Vec<MinuteCount>,
    /// What the rows that are gone had been counted as.
    pub purged: Option<Purged>,
}

/// The contribution of some events to one cell of the minutes view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinuteCount {
    pub minute: Micros,
    pub page: EcoString,
    pub event_type: EcoString,
    pub count: i64,
    /// Ten-thousandths.
    pub revenue: i128,
}

/// Counts of rows that compaction has removed; they keep the conservation law true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    pub applied: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub late: u64,
    pub quarantined: u64,
    pub rejected: u64,
    pub deleted: u64,
}

/// Centroids of one source: an input of the assignment view, made by training on a sample of another view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterModel {
    pub source: SourceId,
    /// The configured number of clusters; the model is of this (source, clusters).
    pub clusters: u16,
    /// 1, 2, …; takes effect only when it follows the version in force (compare and set).
    pub version: u64,
    /// Order of the features: views, carts, transactions, sessions, views per session, purchase ratio.
    pub centroids: Vec<[f64; 6]>,
    /// How many journeys each centroid has seen: the weights of the next mini-batch step.
    pub weights: Vec<f64>,
    /// Journeys in the training sample.
    pub trained_on: u64,
    pub trained_at: Micros,
}

/// Sessions that ended long enough before `boundary` leave memory: they lie in `parts`, written before this record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seal {
    pub source: SourceId,
    /// Every session with `end + session_limit < boundary` is sealed. Never moves back.
    pub boundary: Micros,
    pub parts: Vec<ColdPart>,
}

/// One immutable Parquet object of sealed sessions, sorted by (key hash, user, start).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColdPart {
    /// The object's name, relative to the store's root.
    pub name: EcoString,
    pub rows: u64,
    pub bytes: u64,
    pub hash_min: u64,
    pub hash_max: u64,
    /// Earliest start and latest end of its sessions.
    pub time_min: Micros,
    pub time_max: Micros,
    /// crc32c of each [`ColdPart::BLOCK_BYTES`] of the object, checked before a byte of it is believed.
    #[serde(default)]
    pub block_sums: Arc<[u32]>,
}

impl ColdPart {
    /// The unit of its checksums; the last block may be shorter.
    pub const BLOCK_BYTES: u64 = 1 << 10;
}

impl Purged {
    /// What was counted after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            applied: self.applied - earlier.applied,
            duplicate: self.duplicate - earlier.duplicate,
            conflict: self.conflict - earlier.conflict,
            late: self.late - earlier.late,
            quarantined: self.quarantined - earlier.quarantined,
            rejected: self.rejected - earlier.rejected,
            deleted: self.deleted - earlier.deleted,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// Takes part in the watermark (again).
    Active {
        source: SourceId,
        partition: PartitionKey,
    },
    /// Nothing has come for a while: does not hold the watermark back.
    Idle {
        source: SourceId,
        partition: PartitionKey,
    },
    /// A bulk load: the source's watermark stands still until released.
    Hold {
        source: SourceId,
        partition: PartitionKey,
    },
    Release {
        source: SourceId,
        partition: PartitionKey,
    },
    /// After retention or a re-created topic: go on at this position.
    Reset {
        source: SourceId,
        partition: PartitionKey,
        position: i64,
    },
}

impl Control {
    /// One word for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::DeleteEvent { .. } => "delete_event",
            Self::Erase(_) => "erase",
            Self::Model(_) => "model",
            Self::Seal(_) => "seal",
            Self::ReplaceCold { .. } => "replace_cold",
            Self::Partition(_) => "partition",
            Self::SkipRow { .. } => "skip_row",
            Self::Run { .. } => "run",
            Self::Catalog(_) => "catalog",
            Self::Projection { .. } => "projection",
            Self::Removed => "removed",
            Self::Space(_) => "space",
            Self::SpaceRemoved { .. } => "space_removed",
            Self::SealFrom(_) => "seal_from",
            Self::SealStays(_) => "seal_stays",
            Self::ReplaceStays(_) => "replace_stays",
            Self::Reopen(_) => "reopen",
            Self::Document { .. } => "document",
            Self::Matrix(_) => "matrix",
            Self::MatrixRemoved { .. } => "matrix_removed",
            Self::MatrixRows(_) => "matrix_rows",
            Self::MatrixModel(_) => "matrix_model",
        }
    }
}
