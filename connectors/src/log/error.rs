//! What can go wrong with the log, by kind.

use crate::store::StoreError;
use desireline_records::{LogicalTime, ShardId};
use thiserror::Error;

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The caller gave something that cannot be.
    User,
    /// Storage, clock or another server.
    External,
    /// A promise of this program is broken.
    Internal,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another writer has taken the log over; this one must never write again.
    #[error("the log of shard {shard} was taken over by another server (epoch {epoch} at {object}); this writer has stopped")]
    Fenced { shard: ShardId, epoch: u64, object: String },
    /// Whether the last batch is in the log is unknown; only opening the log again can tell.
    #[error("{object}: it is unknown whether the batch was written ({detail}); the writer has stopped")]
    Indeterminate { object: String, detail: String },
    #[error("the log's last time {last} lies more than {limit_ms} ms ahead of the clock {now}")]
    ClockBehind { last: LogicalTime, now: LogicalTime, limit_ms: u64 },
    #[error("logical time {time} does not follow {last}")]
    TimeNotIncreasing { last: LogicalTime, time: LogicalTime },
    /// Bytes are not what was written.
    #[error("{object} is damaged in its {section} at byte {offset}: {detail}")]
    Damaged { object: String, section: &'static str, offset: u64, detail: String },
    #[error("{object} has format version {found}; this program knows version {known}")]
    Version { object: String, found: u16, known: u16 },
    /// Segments are missing.
    #[error("the log of shard {shard} has no segment {missing}, but later ones")]
    Gap { shard: ShardId, missing: u64 },
    /// A physical erasure took place under a reader.
    #[error("the log was rewritten by an erasure while it was being read; begin again")]
    Rewritten,
    /// Somebody else published a manifest first.
    #[error("manifest {manifest} was published by another compactor")]
    CompactionLost { manifest: u64 },
    #[error("a task of the log stopped unexpectedly: {0}")]
    Task(String),
}

impl LogError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Fenced { .. } => "log_fenced",
            Self::Indeterminate { .. } => "log_indeterminate",
            Self::ClockBehind { .. } => "log_clock_behind",
            Self::TimeNotIncreasing { .. } => "log_time_not_increasing",
            Self::Damaged { .. } => "log_damaged",
            Self::Version { .. } => "log_version",
            Self::Gap { .. } => "log_gap",
            Self::Rewritten => "log_rewritten",
            Self::CompactionLost { .. } => "log_compaction_lost",
            Self::Task(_) => "log_task",
        }
    }

    pub fn domain(&self) -> Domain {
        match self {
            Self::TimeNotIncreasing { .. } | Self::Task(_) => Domain::Internal,
            Self::Store(StoreError::Config { .. }) => Domain::User,
            _ => Domain::External,
        }
    }

    /// Whether the same call may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Rewritten | Self::CompactionLost { .. } => true,
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Fenced { .. } => "two servers run on one log; stop this one",
            Self::Indeterminate { .. } => "restart the server once the store answers again; nothing acknowledged is lost",
            Self::ClockBehind { .. } => "set the clock of this machine; the log was written by one that was ahead",
            Self::Damaged { .. } | Self::Gap { .. } => {
                "restore the named object from a backup; `log verify` lists everything that is damaged"
            }
            Self::Version { .. } => "the log was written by a newer release; run that one",
            Self::Rewritten | Self::CompactionLost { .. } => "the operation can be repeated",
            Self::TimeNotIncreasing { .. } | Self::Task(_) => "this is a defect of the program; please report it",
        }
    }
}
