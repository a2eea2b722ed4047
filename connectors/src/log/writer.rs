//! The one writer of a shard.
//!
//! Opening creates a fence at the first free number. A writer that was there before meets the fence with its next append,
//! because that is the first number it does not know, and stops: every append creates exactly the next number, and a
//! number that exists is never written again. There is one create under way at a time. After a timeout or "already
//! exists" the writer reads the object back: its own writer id and attempt mean success, nothing there means trying again,
//! anything else means that the log has another owner.
//!
//! A fence must not take a number that had been used and compacted away between the listing and the create. So after its
//! creation the newest manifest is read: only a fence beyond everything covered counts.
//!
//! When an append ends without knowing (the store does not answer for all attempts, or the caller dropped the call), the
//! object may still appear; the writer then refuses everything, and opening the log anew tells what happened.

use super::compact::Compactor;
use super::error::LogError;
use super::manifest::{Snapshot, folder, segment_name};
use super::object::{self, Header, ObjectKind, Writer};
use super::reader::LogReader;
use super::scan::Shared;
use super::{LogConfig, wall_clock};
use crate::store::{Put, Store, StoreError, StoreLock};
use bytes::Bytes;
use desireline_records::{Batch, LogicalTime};
use std::sync::Arc;

/// Competing appends of a writer about to be fenced that an opening writer runs after, at most.
const FENCE_ATTEMPTS_MAX: u64 = 1_000;

/// A batch that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub seq: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A create is under way, or ended without an answer.
    Unknown,
    Fenced {
        epoch: u64,
    },
}

#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    config: LogConfig,
    _lock: Option<StoreLock>,
    writer: Writer,
    /// The number of the next append.
    next_seq: u64,
    last_time: LogicalTime,
    state: State,
}

/// What lies under the number that was to be created.
enum Created {
    Own,
    Other(Box<Header>),
}

impl LogWriter {
    /// Takes the log over. Refuses when another process on this machine holds it, or when the log is ahead of the clock.
    pub async fn open(store: Store, config: LogConfig) -> Result<Self, LogError> {
        let lock = store.lock(&folder(config.shard))?;
        for unfinished in [folder(config.shard), crate::cold::FOLDER.to_owned()] {
            let removed = store.remove_unfinished(&unfinished)?;
            if removed > 0 {
                tracing::info!(folder = unfinished, removed, "removed uploads that a crash had left unfinished");
            }
        }
        let shared = Shared::new(store, config.shard);
        let nonce = rand::random();
        let mut attempt = 0;
        while attempt < FENCE_ATTEMPTS_MAX {
            attempt += 1;
            let snapshot = shared.snapshot().await?;
            let (last_time, epoch) = match tail(&shared, &snapshot).await {
                Err(LogError::Store(error)) if error.is_not_found() => continue,
                other => other?,
            };
            check_clock(last_time, &config)?;
            let seq = snapshot.last_seq() + 1;
            let writer = Writer { epoch: epoch + 1, nonce, append: attempt };
            let header = Header::fence(config.shard, seq, writer, last_time);
            let chunks = object::assemble(header.clone(), object::Sections::default())?;
            match create(&shared, &header, chunks, config.append_attempts_max).await? {
                Created::Own if shared.snapshot().await?.manifest.covered_to >= seq => {}
                Created::Own => {
                    shared.remember(header);
                    tracing::info!(shard = config.shard, epoch = writer.epoch, seq, last_time, "the log is open for writing");
                    return Ok(Self { shared, config, _lock: lock, writer, next_seq: seq + 1, last_time, state: State::Open });
                }
                Created::Other(other) if other.kind == ObjectKind::Fence && other.writer.epoch > epoch => {
                    return Err(fenced(&shared, other.writer.epoch, seq));
                }
                Created::Other(_) => {}
            }
        }
        Err(fenced(&shared, 0, 0))
    }

    /// The logical time of the last batch in the log.
    pub fn last_time(&self) -> LogicalTime {
        self.last_time
    }

    /// Which opening of the log this is: 1, 2, ….
    pub fn epoch(&self) -> u64 {
        self.writer.epoch
    }

    pub fn reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    pub fn compactor(&self) -> Compactor {
        Compactor::new(self.shared.clone(), self.config.compaction.clone())
    }

    /// Whether appends can still succeed.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Makes a batch durable; it is when this returns. Encoding happens on the calling thread (at most 0.15 µs per event).
    ///
    /// After [`LogError::Fenced`] and [`LogError::Indeterminate`] the writer refuses everything; after any other error the
    /// batch is not in the log and the append can be repeated.
    pub async fn append(&mut self, batch: &Batch) -> Result<Appended, LogError> {
        let name = segment_name(self.config.shard, self.next_seq);
        match self.state {
            State::Open => {}
            State::Fenced { epoch } => return Err(fenced(&self.shared, epoch, self.next_seq)),
            State::Unknown => {
                return Err(LogError::Indeterminate { object: name, detail: "an earlier append ended without an answer".to_owned() });
            }
        }
        if batch.time <= self.last_time {
            return Err(LogError::TimeNotIncreasing { last: self.last_time, time: batch.time });
        }
        self.writer.append += 1;
        let (mut header, chunks) = object::encode_segment(batch, self.next_seq, self.writer)?;
        header.shard = self.config.shard;
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.state = State::Unknown;
        match create(&self.shared, &header, chunks, self.config.append_attempts_max).await {
            Ok(Created::Own) => {
                self.state = State::Open;
                self.shared.remember(header);
                let seq = self.next_seq;
                self.next_seq += 1;
                self.last_time = batch.time;
                Ok(Appended { seq, bytes })
            }
            Ok(Created::Other(other)) => {
                self.state = State::Fenced { epoch: other.writer.epoch };
                tracing::error!(object = name, epoch = other.writer.epoch, "another server has taken the log over");
                Err(fenced(&self.shared, other.writer.epoch, self.next_seq))
            }
            Err(error) => {
                if !matches!(error, LogError::Indeterminate { .. }) {
                    self.state = State::Open;
                }
                Err(error)
            }
        }
    }
}

fn fenced(shared: &Shared, epoch: u64, seq: u64) -> LogError {
    LogError::Fenced { shard: shared.shard, epoch, object: segment_name(shared.shard, seq) }
}

fn check_clock(last: LogicalTime, config: &LogConfig) -> Result<(), LogError> {
    let now = config.clock.map_or_else(wall_clock, |clock| clock());
    let limit_ms = config.clock_ahead_max.as_millis() as u64;
    if last > now.saturating_add(limit_ms) {
        return Err(LogError::ClockBehind { last, now, limit_ms });
    }
    Ok(())
}

/// Logical time and epoch at the end of the log.
async fn tail(shared: &Shared, snapshot: &Snapshot) -> Result<(LogicalTime, u64), LogError> {
    match snapshot.live.last() {
        Some(live) => {
            let header = shared.header(live).await?;
            Ok((header.time_last, header.writer.epoch))
        }
        None => Ok((snapshot.manifest.last_time, snapshot.manifest.epoch)),
    }
}

/// Creates one number and finds out what became of it.
async fn create(shared: &Shared, header: &Header, chunks: Vec<Bytes>, attempts_max: u32) -> Result<Created, LogError> {
    let name = segment_name(shared.shard, header.seq_first);
    // Whether an attempt of this call may still land.
    let mut uncertain = false;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let put = shared.store.put_if_absent(&name, chunks.clone()).await;
        if let Ok(Put::Created) = put {
            return Ok(Created::Own);
        }
        let error = put.err();
        uncertain |= error.as_ref().is_some_and(|error| error.is_retryable() && !shared.store.is_local());
        let unknown = |detail: String| LogError::Indeterminate { object: name.clone(), detail };
        let detail = match shared.header_of(&name).await.map(|(header, _)| header) {
            Ok(found) if found.writer == header.writer => {
                shared.store.sync_folder(&folder(shared.shard)).await.map_err(|error| unknown(error.to_string()))?;
                return Ok(Created::Own);
            }
            // An attempt of an earlier call, which then ended without an answer.
            Ok(found) if found.writer.nonce == header.writer.nonce && found.writer.epoch == header.writer.epoch => {
                return Err(unknown("an earlier attempt was written after all".to_owned()));
            }
            Ok(found) => return Ok(Created::Other(Box::new(found))),
            Err(LogError::Store(StoreError::NotFound { .. })) => match error {
                Some(error) if !uncertain => return Err(error.into()),
                Some(error) => error.to_string(),
                None => "it exists and does not exist".to_owned(),
            },
            Err(read) => {
                uncertain = true;
                read.to_string()
            }
        };
        if attempt >= attempts_max {
            return Err(unknown(detail));
        }
        shared.store.pause(attempt).await;
    }
}
