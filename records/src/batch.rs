//! What is committed together: the content of one segment of the log.

use crate::{Control, DeadLetter, Event, LogicalTime, Micros, ShardId, SourceId, Token};
use ecow::EcoString;
use serde::{Deserialize, Serialize};

/// Names one ordered stream of rows within a source: `kafka:<topic>/<partition>`, `http`, `file:<fingerprint>`.
pub type PartitionKey = EcoString;

/// The rows `[before, after)` of one partition that a batch covers, and how far that partition has come.
///
/// Ingest is exactly once because the position is durable in the same object as the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub source: SourceId,
    pub partition: PartitionKey,
    pub before: i64,
    pub after: i64,
    /// The largest accepted event time the partition has ever had, when it has had any.
    pub max_time: Option<Micros>,
}

/// Rows on their way into the log, from one connector or request; they become part of exactly one batch.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub events: Vec<Event>,
    pub dead_letters: Vec<DeadLetter>,
    pub controls: Vec<Control>,
    pub positions: Vec<Position>,
}

/// A durable batch at its logical time.
///
/// A replay may hand over several batches of the log merged into one, as long as no control record stands between their rows:
/// `time` is then the time of the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub shard: ShardId,
    pub time: LogicalTime,
    /// In log order. Controls take effect after the batch's events; a batch with controls is never merged with another.
    pub events: Vec<Event>,
    pub dead_letters: Vec<DeadLetter>,
    pub controls: Vec<Control>,
    pub positions: Vec<Position>,
    /// The watermark of every source whose watermark moved, after this batch.
    pub watermarks: Vec<(SourceId, Micros)>,
    /// Time passed: the wall clock at the commit, every few seconds.
    pub tick: Option<Micros>,
}

impl Batch {
    pub fn token(&self) -> Token {
        Token { shard: self.shard, time: self.time }
    }

    /// Rows, of whatever kind.
    pub fn len(&self) -> usize {
        self.events.len() + self.dead_letters.len() + self.controls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
