//! What a follower writes to: the contract of all targets.
//!
//! A target keeps, beside the rows, where it stands: the hash of its definition, the time up to which everything is applied, and the
//! epoch of the server that wrote it last. [`Target::apply`] changes rows and time together, so that a crash on either side leaves the
//! target at one time or the other; and it refuses to write for a server whose epoch is older than the recorded one.

use super::changeset::Changeset;
use async_trait::async_trait;
use desireline_dataflows::changes::Views;
use desireline_records::LogicalTime;
use std::time::Duration;
use thiserror::Error;

/// Where a target stands when a follower opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has everything up to this time, under the present definition.
    At(LogicalTime),
    /// It has nothing, or nothing that can be gone on with (another definition, a table that was dropped, an unfinished rebuild).
    Fresh,
}

/// How a target that is behind is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// By the changes it missed, read from the log.
    History,
    /// By the rows of its views as they are now: for targets that keep only what is current.
    Snapshot,
    /// Not at all: it needs only what comes from now on, and the settings of the sources.
    Present,
}

#[derive(Clone, Debug, Error)]
pub enum TargetError {
    /// The target does not answer; the same again may work.
    #[error("{0}")]
    Unavailable(String),
    /// A newer server writes to the target.
    #[error("a newer server (epoch {newer}) writes to this target; this one has epoch {own}")]
    Fenced { own: u64, newer: u64 },
    /// What the follower believed to be there is not: it must be built again.
    #[error("{0}")]
    Lost(String),
    /// Somebody has to change something (credentials, rights, a setting) before this can work; it is tried again all the same.
    #[error("{0}")]
    Refused(String),
}

impl TargetError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Fenced { .. } => "fenced",
            Self::Lost(_) => "lost",
            Self::Refused(_) => "refused",
        }
    }
}

/// What became of a changeset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows put or taken away in the target.
    pub rows: u64,
    /// Rows that the target itself refused; it keeps them, with the reason, in its table of dead letters.
    pub refused: u64,
}

/// One target. Used by one follower at a time, never concurrently.
#[async_trait]
pub trait Target: Send + 'static {
    /// `postgres`, `redis` …; unique in a server.
    fn name(&self) -> &str;

    /// The views whose changes it takes.
    fn views(&self) -> Views;

    fn catch_up(&self) -> CatchUp {
        CatchUp::History
    }

    /// Whether it has rows of users, which go when they are erased.
    fn keeps_users(&self) -> bool {
        true
    }

    /// How long changes may gather before they are applied; zero for as soon as they are there.
    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    /// Rows that one changeset should not much exceed.
    fn rows_max(&self) -> usize {
        50_000
    }

    /// Connects (anew), creates or migrates what is missing, claims the target for `epoch`, and says where it stands.
    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError>;

    /// From here on changes begin with an empty target. Readers may see the old rows until [`Target::finish_rebuild`].
    async fn begin_rebuild(&mut self) -> Result<(), TargetError>;

    /// Applies changes and their time together. Also called with an empty changeset, now and then, to record the time.
    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError>;

    /// The changes since [`Target::begin_rebuild`] are the whole of the views at `time`.
    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError>;

    /// Whether the rows are still there; asked now and then while nothing changes.
    async fn check(&mut self) -> Result<(), TargetError> {
        Ok(())
    }
}
