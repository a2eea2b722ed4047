//! The durable log of one shard: immutable numbered objects on a [`Store`](crate::store::Store), one writer, any number of readers.
//!
//! # What it promises
//! - A batch is durable when [`LogWriter::append`] returns, and appears exactly once in every later replay, at its logical
//!   time, with its positions, watermarks and late bits exactly as they were committed.
//! - At most one writer makes progress. A newer one takes over by a fence; the older one notices at its next append, which
//!   fails, and never writes again. On one machine a second server is refused outright by a lock.
//! - A reader sees a prefix of the log: never a gap, never half a batch, never an object twice, also while compaction
//!   replaces objects under it.
//! - A flipped byte, a torn or a missing object is an error that names the object, its section and the offset. Nothing is
//!   skipped in silence.
//!
//! In numbers: the budget for encoding or decoding an event is 0.15 µs of one core; a local append of a small batch is one
//! created, synced and linked file (about 0.4 ms), a remote one is one PUT.
//!
//! # Format
//! [`object`] describes the bytes of a segment, [`manifest`] the names and the manifest. One sequence of numbers 1, 2, 3 …
//! is shared by segments (one batch each) and fences (one per opening). Compaction ([`Compactor`]) merges them into parts
//! and says so in a numbered manifest; covered numbers are never used again.
//!
//! # Recovery
//! There is none to do: an object exists as a whole or not at all, and the end of the log is the highest number. An upload
//! that a crash has left unfinished is invisible and removed when the log is opened.
//!
//! # Known limitations
//! - Listing is linear in the number of objects; compaction keeps that bounded.
//! - Compaction keeps about 50 bytes for every batch, besides its rows: a server that commits 200 small batches per second
//!   writes that much more, and an idle one as much per tick.
//! - A batch with two positions of one partition comes back with one that covers both.

mod columns;
mod compact;
mod error;
mod frames;
mod letters;
pub mod manifest;
pub mod object;
mod part;
mod purge;
mod reader;
mod replay;
mod scan;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use compact::{CompactionReport, Compactor};
pub use error::{Domain, LogError};
pub use letters::{LetterFilter, LoggedLetter, parse_id};
pub use object::{Counts, ObjectKind};
pub use purge::{PurgeStays, PurgeUser};
pub use reader::{LogReader, LogSize, SegmentInfo};
pub use verify::{Problem, VerifyProgress, VerifyReport};
pub use writer::{Appended, LogWriter};

use desireline_records::{LogicalTime, ShardId};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct LogConfig {
    pub shard: ShardId,
    /// The log may be this far ahead of the clock when it is opened.
    pub clock_ahead_max: Duration,
    /// Attempts of one append while the store does not answer.
    pub append_attempts_max: u32,
    pub compaction: CompactionLimits,
    /// Milliseconds since 1970; `None` is the wall clock.
    pub clock: Option<fn() -> LogicalTime>,
}

impl LogConfig {
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            clock_ahead_max: Duration::from_secs(60),
            append_attempts_max: 8,
            compaction: CompactionLimits::default(),
            clock: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct CompactionLimits {
    /// Segments are merged when there are at least this many.
    pub segments_min: usize,
    /// A part is closed when it has reached this size.
    pub part_bytes_max: u64,
}

impl Default for CompactionLimits {
    fn default() -> Self {
        Self { segments_min: 64, part_bytes_max: 32 << 20 }
    }
}

fn wall_clock() -> LogicalTime {
    u64::try_from(desireline_records::time::now_micros() / 1_000).unwrap_or(0)
}

/// Work on more bytes than this leaves the runtime's thread.
const INLINE_BYTES_MAX: u64 = 64 << 10;

/// Runs CPU work on a blocking thread when it is more than a little.
async fn offload<T: Send + 'static>(bytes: u64, work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| LogError::Task(error.to_string()))?
}
