//! The log as a stream of batches: fetched ahead, decoded beside the runtime, merged where that changes nothing.
//!
//! Two stages with bounded queues between them: a task fetches objects (at most one waits), a blocking thread decodes
//! them (at most two batches wait). So a replay holds about three objects and three merged batches in memory, whatever
//! the length of the log.

use super::error::LogError;
use super::frames::{Frames, Skips};
use super::scan::{Scan, Scanned};
use desireline_records::{Batch, LogicalTime};
use futures::Stream;
use tokio::sync::mpsc;

const OBJECTS_AHEAD: usize = 1;
const BATCHES_AHEAD: usize = 2;

/// Neighbouring batches without controls become one, up to `rows_max` rows (0: every batch stays by itself).
#[derive(Debug)]
pub struct Merger {
    rows_max: usize,
    after: LogicalTime,
    /// Ascending times at which a batch must end.
    ends: Vec<LogicalTime>,
    pending: Batch,
    /// The number of the last frame in `pending`.
    last: Option<u64>,
}

impl Merger {
    pub fn new(after: LogicalTime, rows_max: usize, mut ends: Vec<LogicalTime>) -> Self {
        ends.sort_unstable();
        Self { rows_max, after, ends, pending: Batch::default(), last: None }
    }

    /// Whether a batch has to end between the pending one and this time.
    fn divided(&self, time: LogicalTime) -> bool {
        let before = self.ends.partition_point(|end| *end < self.pending.time);
        self.ends.get(before).is_some_and(|end| *end < time)
    }

    pub fn flush(&mut self) -> Option<Batch> {
        self.last.take().map(|_| std::mem::take(&mut self.pending))
    }

    /// Hands the batches of an object that are complete to `emit`, which answers whether to go on.
    pub fn object(&mut self, scanned: Scanned, skips: &Skips, mut emit: impl FnMut(Batch) -> bool) -> Result<bool, LogError> {
        let mut frames = Frames::of(scanned.object)?;
        while let Some(frame) = frames.peek() {
            if frame.seq < scanned.seq_from || frame.time <= self.after {
                frames.pass()?;
                continue;
            }
            let (seq, alone) = (frame.seq, frame.controls > 0);
            let rows = frame.events as usize + frame.dead_letters as usize;
            let neighbour = self.last.is_some_and(|last| last + 1 == seq);
            let fits = self.rows_max > 0 && self.pending.len() + rows <= self.rows_max;
            let divided = self.last.is_some() && self.divided(frame.time);
            if (alone || !neighbour || !fits || divided)
                && let Some(batch) = self.flush()
                && !emit(batch)
            {
                return Ok(false);
            }
            frames.read_into(&mut self.pending, skips)?;
            self.last = Some(seq);
            if alone
                && let Some(batch) = self.flush()
                && !emit(batch)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Runs `decode` on a blocking thread over every object of the scan; what it sends comes out of the stream.
pub fn pipeline<T, D>(scan: impl Future<Output = Result<(Scan, D), LogError>> + Send + 'static) -> impl Stream<Item = Result<T, LogError>>
where
    T: Send + 'static,
    D: Decode<T>,
{
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    tokio::spawn(async move {
        let (mut scan, mut decode) = match scan.await {
            Ok(begun) => begun,
            Err(error) => {
                sender.send(Err(error)).await.ok();
                return;
            }
        };
        let (objects, mut fetched) = mpsc::channel::<Result<Scanned, LogError>>(OBJECTS_AHEAD);
        tokio::task::spawn_blocking(move || {
            while let Some(object) = fetched.blocking_recv() {
                let decoded = object.and_then(|object| decode.object(object, &mut |item| sender.blocking_send(Ok(item)).is_ok()));
                match decoded {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        sender.blocking_send(Err(error)).ok();
                        return;
                    }
                }
            }
            if let Some(last) = decode.finish() {
                sender.blocking_send(Ok(last)).ok();
            }
        });
        loop {
            match scan.next().await {
                Ok(None) => return,
                Ok(Some(object)) => {
                    if objects.send(Ok(object)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    objects.send(Err(error)).await.ok();
                    return;
                }
            }
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

/// What a replay makes of the objects.
pub trait Decode<T>: Send + 'static {
    /// Answers whether to go on.
    fn object(&mut self, scanned: Scanned, emit: &mut dyn FnMut(T) -> bool) -> Result<bool, LogError>;

    fn finish(&mut self) -> Option<T> {
        None
    }
}

/// Merged batches.
pub struct Batches {
    pub merger: Merger,
    pub skips: Skips,
}

impl Decode<Batch> for Batches {
    fn object(&mut self, scanned: Scanned, emit: &mut dyn FnMut(Batch) -> bool) -> Result<bool, LogError> {
        self.merger.object(scanned, &self.skips, emit)
    }

    fn finish(&mut self) -> Option<Batch> {
        self.merger.flush()
    }
}
