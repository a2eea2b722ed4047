//! Checks the whole log: every checksum, every row readable, numbers and times without gaps or steps back, and the
//! positions of every source partition joining up.

use super::error::LogError;
use super::frames::{Frames, Skips};
use super::manifest::{Live, Manifest, Snapshot, segment_name};
use super::object::{Counts, Object, ObjectKind};
use super::offload;
use super::scan::{Piece, Shared, pieces};
use crate::store::Tag;
use desireline_records::{Batch, Control, LogicalTime, PartitionKey, PartitionState, SourceId};
use std::collections::HashMap;

/// Problems told one by one; further ones are only counted.
const PROBLEMS_MAX: usize = 100;
/// Starts over when compaction replaces objects under way, at most this often.
const RESTARTS_MAX: u32 = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    pub objects_done: u64,
    pub objects: u64,
    pub bytes_done: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub object: String,
    /// The code of [`LogError`], or `log_numbers`, `log_times`, `log_positions`, `log_fence`.
    pub code: &'static str,
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub objects: u64,
    pub bytes: u64,
    pub batches: u64,
    pub counts: Counts,
    pub last_time: LogicalTime,
    /// The first hundred.
    pub problems: Vec<Problem>,
    pub problem_count: u64,
}

impl VerifyReport {
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn problem(&mut self, object: &str, code: &'static str, detail: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { object: object.to_owned(), code, detail });
        }
    }
}

/// What is known so far.
#[derive(Debug, Default)]
struct Checker {
    report: VerifyReport,
    last_seq: u64,
    positions: HashMap<(SourceId, PartitionKey), i64>,
}

pub async fn verify(shared: &Shared, mut progress: impl FnMut(VerifyProgress)) -> Result<VerifyReport, LogError> {
    let mut restarts = 0;
    loop {
        let snapshot = shared.snapshot().await?;
        match verify_snapshot(shared, &snapshot, &mut progress).await {
            Err(LogError::Store(error)) if error.is_not_found() && restarts < RESTARTS_MAX => {
                restarts += 1;
                if shared.snapshot().await?.manifest.number == snapshot.manifest.number {
                    return Err(error.into());
                }
            }
            other => return other,
        }
    }
}

async fn verify_snapshot(
    shared: &Shared,
    snapshot: &Snapshot,
    progress: &mut impl FnMut(VerifyProgress),
) -> Result<VerifyReport, LogError> {
    let mut checker = Checker::default();
    let mut done = VerifyProgress { objects: pieces(snapshot).count() as u64, ..VerifyProgress::default() };
    for piece in pieces(snapshot) {
        let (name, read) = match &piece {
            Piece::Part(info) => (info.name.clone(), shared.part(info).await),
            Piece::Segment(live) => (segment_name(shared.shard, live.seq), shared.segment(live).await),
        };
        match read {
            Ok(object) => {
                let (bytes, fences) = (object.byte_len(), fences_within(&snapshot.manifest, &piece));
                checker = offload(bytes, move || Ok(checker.object(object, &fences))).await?;
                done.bytes_done += bytes;
            }
            Err(LogError::Store(error)) => return Err(error.into()),
            Err(error) => checker.damage(&name, &error, piece.seq_last()),
        }
        done.objects_done += 1;
        progress(done);
    }
    for seq in &snapshot.manifest.fences {
        check_fence(shared, *seq, &mut checker.report).await?;
    }
    Ok(checker.report)
}

fn fences_within(manifest: &Manifest, piece: &Piece) -> Vec<u64> {
    let range = piece.seq_first()..=piece.seq_last();
    manifest.fences.iter().copied().filter(|seq| range.contains(seq)).collect()
}

async fn check_fence(shared: &Shared, seq: u64, report: &mut VerifyReport) -> Result<(), LogError> {
    let name = segment_name(shared.shard, seq);
    let fence = Live { seq, bytes: 0, tag: Tag::default() };
    match shared.segment(&fence).await {
        Ok(object) if object.header.kind == ObjectKind::Fence => {}
        Ok(object) => report.problem(&name, "log_fence", format!("it is a {:?} instead of a fence", object.header.kind)),
        Err(LogError::Store(error)) if error.is_not_found() => {
            report.problem(&name, "log_fence", "the fence is missing; a stopped server could write there".to_owned());
        }
        Err(LogError::Store(error)) => return Err(error.into()),
        Err(error) => report.problem(&name, error.code(), error.to_string()),
    }
    Ok(())
}

impl Checker {
    fn object(mut self, object: Object, fences: &[u64]) -> Self {
        let (name, header) = (object.name.clone(), &object.header);
        self.report.objects += 1;
        self.report.bytes += object.byte_len();
        if header.seq_first != self.last_seq + 1 {
            self.report.problem(&name, "log_numbers", format!("number {} follows {}", header.seq_first, self.last_seq));
        }
        let seq_last = header.seq_last;
        let mut expected = (header.seq_first..=seq_last).filter(|seq| fences.binary_search(seq).is_err());
        if header.kind != ObjectKind::Fence && !header.frames.iter().map(|frame| frame.seq).eq(expected.by_ref()) {
            self.report.problem(&name, "log_numbers", "its batches are not those of its numbers".to_owned());
        }
        if header.time_last < self.report.last_time {
            let detail = format!("its last time {} lies before {}", header.time_last, self.report.last_time);
            self.report.problem(&name, "log_times", detail);
        }
        if let Err(error) = self.frames(object) {
            self.damage(&name, &error, seq_last);
        }
        self.last_seq = seq_last;
        self
    }

    fn frames(&mut self, object: Object) -> Result<(), LogError> {
        let mut frames = Frames::of(object)?;
        let name = frames.object().name.clone();
        while frames.peek().is_some() {
            let mut batch = Batch::default();
            frames.read_into(&mut batch, &Skips::new())?;
            if batch.time <= self.report.last_time {
                let detail = format!("time {} follows {}", batch.time, self.report.last_time);
                self.report.problem(&name, "log_times", detail);
            }
            self.report.last_time = self.report.last_time.max(batch.time);
            self.report.batches += 1;
            self.report.counts.add(Counts {
                events: batch.events.len() as u64,
                late: batch.events.iter().filter(|event| event.late).count() as u64,
                dead_letters: batch.dead_letters.len() as u64,
                controls: batch.controls.len() as u64,
            });
            self.positions(&name, &batch);
        }
        Ok(())
    }

    fn positions(&mut self, name: &str, batch: &Batch) {
        for position in &batch.positions {
            let known = self.positions.insert((position.source, position.partition.clone()), position.after);
            if position.after < position.before || known.is_some_and(|known| known != position.before) {
                let detail = format!(
                    "source {} partition {} at time {}: [{}, {}) follows {known:?}",
                    position.source, position.partition, batch.time, position.before, position.after
                );
                self.report.problem(name, "log_positions", detail);
            }
        }
        for control in &batch.controls {
            if let Control::Partition(PartitionState::Reset { source, partition, position }) = control {
                self.positions.insert((*source, partition.clone()), *position);
            }
        }
    }

    fn damage(&mut self, name: &str, error: &LogError, seq_last: u64) {
        self.report.problem(name, error.code(), error.to_string());
        self.last_seq = seq_last;
        // What the damaged object said about positions is unknown.
        self.positions.clear();
    }
}
