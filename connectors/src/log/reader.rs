//! Reading the log: replay, listings, the history of one user, dead letters.

use super::error::LogError;
use super::frames::{Frames, Skips, skips_of};
use super::letters::{LetterFilter, LoggedLetter};
use super::manifest::{Live, Snapshot, folder, part_folder, segment_name};
use super::object::{Counts, ObjectKind};
use super::replay::{self, Batches, Decode, Merger};
use super::scan::{Scan, Scanned, Shared, total};
use super::verify::{self, VerifyProgress, VerifyReport};
use crate::store::Store;
use desireline_records::{Batch, Event, LogicalTime, Micros, ShardId, SourceId};
use ecow::EcoString;
use futures::{Stream, StreamExt, TryStreamExt};
use std::sync::Arc;

/// Requests for headers under way at once.
const HEADERS_AT_ONCE: usize = 16;
/// Rows of one user that are handed out together.
const USER_ROWS_CHUNK: usize = 4_096;

/// One object of the log, for listings.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentInfo {
    pub name: String,
    pub kind: ObjectKind,
    pub seq_first: u64,
    pub seq_last: u64,
    pub time_first: LogicalTime,
    pub time_last: LogicalTime,
    pub event_time: Option<(Micros, Micros)>,
    pub counts: Counts,
    pub bytes: u64,
    /// Of the writer; absent for parts.
    pub epoch: Option<u64>,
}

impl SegmentInfo {
    pub fn rows(&self) -> u64 {
        self.counts.events + self.counts.dead_letters + self.counts.controls
    }
}

/// Objects and bytes of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    pub objects: u64,
    pub bytes: u64,
}

/// Reads one shard of the log; cheap to clone, needs no fence, harms nobody.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// For commands that only read. A running server's own readers come from its writer.
    pub fn open(store: Store, shard: ShardId) -> Self {
        Self { shared: Shared::new(store, shard) }
    }

    /// Everything after `after` (0: everything) up to the log's end at the time of the call, in log order. Neighbouring
    /// batches without controls come merged, up to `merge_rows` rows (0: not at all). Rows named by a `SkipRow` record are left out.
    pub fn batches(&self, after: LogicalTime, merge_rows: usize) -> impl Stream<Item = Result<Batch, LogError>> + Send + Unpin + use<> {
        self.batches_ending(after, merge_rows, Vec::new())
    }

    /// Like [`Self::batches`], but no batch reaches over one of the times `ends`: what was true at such a time is true between two batches.
    pub fn batches_ending(
        &self,
        after: LogicalTime,
        merge_rows: usize,
        ends: Vec<LogicalTime>,
    ) -> impl Stream<Item = Result<Batch, LogError>> + Send + Unpin + use<> {
        let shared = self.shared.clone();
        let begin = async move {
            let (scan, skips) = begin(shared, after).await?;
            Ok((scan, Batches { merger: Merger::new(after, merge_rows, ends), skips }))
        };
        replay::pipeline(begin).boxed()
    }

    /// Every event of one user in log order, each with the logical time of its batch.
    pub fn rows_of_user(
        &self,
        source: SourceId,
        user: EcoString,
    ) -> impl Stream<Item = Result<Vec<(LogicalTime, Event)>, LogError>> + Send + Unpin + use<> {
        let shared = self.shared.clone();
        let begin = async move {
            let (scan, skips) = begin(shared, 0).await?;
            Ok((scan, UserRows { source, user, skips, found: Vec::new() }))
        };
        replay::pipeline(begin).boxed()
    }

    /// Dead letters and late events, the newest first: at most `limit` of those before the row `before`. Reads only
    /// objects that hold some.
    pub async fn dead_letters(
        &self,
        filter: LetterFilter,
        before: Option<(LogicalTime, u32)>,
        limit: usize,
    ) -> Result<Vec<LoggedLetter>, LogError> {
        super::letters::newest(&self.shared, filter, before, limit).await
    }

    /// The dead letter or late event with this id (`<logical time>-<row>`).
    pub async fn dead_letter(&self, id: &str) -> Result<Option<LoggedLetter>, LogError> {
        super::letters::by_id(&self.shared, id).await
    }

    /// All objects in log order.
    pub async fn segments(&self) -> Result<Vec<SegmentInfo>, LogError> {
        let snapshot = self.shared.snapshot().await?;
        let mut all: Vec<SegmentInfo> = snapshot.manifest.parts.iter().map(part_info).collect();
        let live: Vec<SegmentInfo> = futures::stream::iter(snapshot.live.clone())
            .map(|live| self.segment_info(live))
            .buffered(HEADERS_AT_ONCE)
            .try_collect()
            .await?;
        all.extend(live);
        Ok(all)
    }

    async fn segment_info(&self, live: Live) -> Result<SegmentInfo, LogError> {
        let header = self.shared.header(&live).await?;
        let Live { seq, bytes, .. } = live;
        Ok(SegmentInfo {
            name: segment_name(self.shared.shard, seq),
            kind: header.kind,
            seq_first: seq,
            seq_last: seq,
            time_first: header.time_first,
            time_last: header.time_last,
            event_time: header.event_time,
            counts: header.counts,
            bytes,
            epoch: Some(header.writer.epoch),
        })
    }

    /// Reads everything and checks checksums, numbers, times and positions. Damage is reported, not returned as an error.
    pub async fn verify(&self, progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport, LogError> {
        verify::verify(&self.shared, progress).await
    }

    /// How much there is, including what compaction has yet to delete.
    pub async fn size(&self) -> Result<LogSize, LogError> {
        let listed = self.shared.store.list(&folder(self.shared.shard), None).await?;
        let (objects, bytes) = total(&listed);
        Ok(LogSize { objects, bytes })
    }

    /// The time of the last batch in the log; 0 in an empty one.
    pub async fn last_time(&self) -> Result<LogicalTime, LogError> {
        let snapshot = self.shared.snapshot().await?;
        match snapshot.live.last() {
            Some(live) => Ok(self.shared.header(live).await?.time_last),
            None => Ok(snapshot.manifest.last_time),
        }
    }

    /// The names of the compacted parts, for tests and listings.
    pub fn part_folder(&self) -> String {
        part_folder(self.shared.shard)
    }
}

fn part_info(part: &super::manifest::PartInfo) -> SegmentInfo {
    SegmentInfo {
        name: part.name.clone(),
        kind: ObjectKind::Part,
        seq_first: part.seq_first,
        seq_last: part.seq_last,
        time_first: part.time_first,
        time_last: part.time_last,
        event_time: part.event_time,
        counts: part.counts,
        bytes: part.bytes,
        epoch: None,
    }
}

/// A scan together with the rows that it must leave out, which later records name.
pub async fn begin(shared: Arc<Shared>, after: LogicalTime) -> Result<(Scan, Skips), LogError> {
    loop {
        let snapshot = shared.snapshot().await?;
        let begun = async { Ok((Scan::of(shared.clone(), &snapshot, after).await?, skips(&shared, &snapshot).await?)) }.await;
        match begun {
            Err(LogError::Store(error)) if error.is_not_found() => {
                if shared.snapshot().await?.manifest.number == snapshot.manifest.number {
                    return Err(error.into());
                }
            }
            other => return other,
        }
    }
}

async fn skips(shared: &Arc<Shared>, snapshot: &Snapshot) -> Result<Skips, LogError> {
    let headers: Vec<_> = futures::stream::iter(snapshot.live.clone())
        .map(|live| async move { shared.header(&live).await })
        .buffered(HEADERS_AT_ONCE)
        .try_collect()
        .await?;
    let live = headers.iter().flat_map(|header| header.skips.iter().copied());
    Ok(skips_of(snapshot.manifest.skips.iter().copied().chain(live)))
}

struct UserRows {
    source: SourceId,
    user: EcoString,
    skips: Skips,
    found: Vec<(LogicalTime, Event)>,
}

impl Decode<Vec<(LogicalTime, Event)>> for UserRows {
    fn object(&mut self, scanned: Scanned, emit: &mut dyn FnMut(Vec<(LogicalTime, Event)>) -> bool) -> Result<bool, LogError> {
        let mut frames = Frames::of(scanned.object)?;
        while let Some(frame) = frames.peek() {
            if frame.seq < scanned.seq_from {
                frames.pass()?;
                continue;
            }
            let skipped = self.skips.get(&frame.time);
            let (source, user, found) = (self.source, self.user.as_str(), &mut self.found);
            let mut number = 0;
            frames.visit_events(|frame, columns, row| {
                let matches = columns.source(row) == source && columns.user.get(row) == user;
                if matches && skipped.is_none_or(|rows| !rows.contains(&frame.original_row(number))) {
                    found.push((frame.time, columns.event(row)));
                }
                number += 1;
            })?;
            if self.found.len() >= USER_ROWS_CHUNK && !emit(std::mem::take(&mut self.found)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finish(&mut self) -> Option<Vec<(LogicalTime, Event)>> {
        (!self.found.is_empty()).then(|| std::mem::take(&mut self.found))
    }
}
