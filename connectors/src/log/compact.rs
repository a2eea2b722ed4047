//! Compaction: many small segments become few large parts, and nothing else changes.
//!
//! A run builds new parts for manifest n + 1, publishes that manifest (create if absent: of two compactors one wins), and
//! only then deletes. Deletion looks at the newest manifest alone, as listed: segments it covers (fences stay), parts of
//! its or an earlier number that it does not name, earlier manifests. So a compactor that was asleep for an hour can at
//! worst publish a number that nobody looks at any more; it never deletes what the newest manifest needs.
//!
//! Parts grow geometrically: a run merges the trailing parts that are at most four times as large as what follows them, up
//! to half of `part_bytes_max`. A row is rewritten a few times at most, and the number of parts is logarithmic plus the
//! log's size divided by `part_bytes_max`.
//!
//! # Known limitations
//! - One part is held in memory while it is built (`part_bytes_max`, and one object beside it).
//! - Fences are never deleted: one small object per start of a server.

use super::error::LogError;
use super::manifest::{self, Live, Manifest, PartInfo, Snapshot, folder, manifest_name, part_name};
use super::object::ObjectKind;
use super::part::PartBuilder;
use super::purge::{self, Purge, PurgeStays, PurgeUser};
use super::scan::{Piece, Shared};
use super::{CompactionLimits, offload};
use crate::store::{Put, StoreError};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

const PUT_ATTEMPTS_MAX: u32 = 8;
const DELETES_AT_ONCE: usize = 16;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// The manifest that was published, if any.
    pub manifest: Option<u64>,
    /// Objects that were merged or rewritten.
    pub objects_merged: u64,
    pub parts_written: u64,
    pub bytes_written: u64,
    /// Rows that an erasure removed.
    pub rows_removed: u64,
    /// Objects that were no longer needed.
    pub objects_deleted: u64,
}

/// Compacts one shard. Any number may exist; at most one at a time makes progress.
#[derive(Clone, Debug)]
pub struct Compactor {
    shared: Arc<Shared>,
    limits: CompactionLimits,
}

/// What happens to a piece of the log in a new manifest.
enum Step {
    Keep(PartInfo),
    Merge(Piece),
    /// The piece becomes a part of its own.
    Rewrite(Piece),
}

impl Compactor {
    pub fn new(shared: Arc<Shared>, limits: CompactionLimits) -> Self {
        Self { shared, limits }
    }

    /// Merges when there is enough to merge, and deletes what is no longer needed.
    pub async fn run_once(&self) -> Result<CompactionReport, LogError> {
        let snapshot = self.shared.snapshot().await?;
        let mut report = CompactionReport::default();
        if snapshot.live.len() >= self.limits.segments_min.max(1) {
            let steps = self.plan(&snapshot);
            self.rebuild(&snapshot, steps, None, &mut report).await?;
        }
        report.objects_deleted = self.collect_garbage().await?;
        Ok(report)
    }

    /// Removes every row of these users up to their `until`, blanks their erase records, and deletes the objects that held
    /// the rows. Afterwards no object of the log names the users, unless they came back later.
    pub async fn purge(&self, users: &[PurgeUser]) -> Result<CompactionReport, LogError> {
        self.rewrite(Purge::of(users)).await
    }

    /// Removes WiFi sessions that began before a time, from rows and from records that brought them back, and writes what they had been
    /// counted as into a record.
    pub async fn purge_stays(&self, stays: PurgeStays) -> Result<CompactionReport, LogError> {
        self.rewrite(Purge::of_stays(stays)).await
    }

    async fn rewrite(&self, purge: Purge) -> Result<CompactionReport, LogError> {
        let mut report = CompactionReport::default();
        let snapshot = self.shared.snapshot().await?;
        let (purge, affected) = purge::find(&self.shared, &snapshot, purge).await?;
        if !affected.is_empty() {
            let steps = purge_steps(&snapshot, &affected);
            self.rebuild(&snapshot, steps, Some(Arc::new(purge)), &mut report).await?;
        }
        report.objects_deleted = self.collect_garbage().await?;
        for folder in [folder(self.shared.shard), manifest::part_folder(self.shared.shard), manifest::manifest_folder(self.shared.shard)] {
            self.shared.store.sync_folder(&folder).await?;
        }
        Ok(report)
    }

    fn plan(&self, snapshot: &Snapshot) -> Vec<Step> {
        let parts = &snapshot.manifest.parts;
        // Segments are not compressed; parts are.
        let mut following = snapshot.live.iter().map(|live| live.bytes).sum::<u64>() / 4;
        let mut keep = parts.len();
        while let Some(part) = parts[..keep].last() {
            if part.bytes > self.limits.part_bytes_max / 2 || part.bytes > following.saturating_mul(4) {
                break;
            }
            following += part.bytes;
            keep -= 1;
        }
        let kept = parts[..keep].iter().cloned().map(Step::Keep);
        let merged = parts[keep..].iter().cloned().map(|part| Step::Merge(Piece::Part(part)));
        kept.chain(merged).chain(snapshot.live.iter().cloned().map(|live| Step::Merge(Piece::Segment(live)))).collect()
    }

    /// Builds the parts of the next manifest and publishes it.
    async fn rebuild(
        &self,
        base: &Snapshot,
        steps: Vec<Step>,
        purge: Option<Arc<Purge>>,
        report: &mut CompactionReport,
    ) -> Result<(), LogError> {
        let shard = self.shared.shard;
        let mut next = base.manifest.clone();
        next.number += 1;
        next.rewrites += u64::from(purge.is_some());
        next.parts.clear();
        let mut builder = PartBuilder::new(shard);
        for step in steps {
            let (piece, alone) = match step {
                Step::Keep(info) => {
                    builder = self.close(builder, &mut next, report).await?;
                    next.parts.push(info);
                    continue;
                }
                Step::Merge(piece) => (piece, false),
                Step::Rewrite(piece) => (piece, true),
            };
            if alone {
                builder = self.close(builder, &mut next, report).await?;
            }
            let object = match &piece {
                Piece::Part(info) => self.shared.part(info).await,
                Piece::Segment(live) => self.shared.segment(live).await,
            };
            let object = object.map_err(|error| match error {
                LogError::Store(StoreError::NotFound { .. }) => LogError::CompactionLost { manifest: next.number },
                other => other,
            })?;
            if let Piece::Segment(Live { seq, .. }) = piece {
                let header = &object.header;
                (next.covered_to, next.last_time, next.epoch) = (seq, header.time_last, header.writer.epoch);
                next.skips.extend(&header.skips);
                if header.kind == ObjectKind::Fence {
                    next.fences.push(seq);
                }
            }
            let filter = purge.clone();
            let removed;
            (builder, removed) = offload(object.byte_len(), move || {
                let removed = builder.push(&object, filter.as_deref())?;
                Ok((builder, removed))
            })
            .await?;
            report.rows_removed += removed;
            report.objects_merged += 1;
            if alone || builder.bytes() >= self.limits.part_bytes_max {
                builder = self.close(builder, &mut next, report).await?;
            }
        }
        self.close(builder, &mut next, report).await?;
        self.publish(&next).await?;
        report.manifest = Some(next.number);
        self.shared.forget(next.covered_to);
        tracing::info!(shard, manifest = next.number, parts = next.parts.len(), covered_to = next.covered_to, "the log was compacted");
        Ok(())
    }

    /// Stores what the builder holds and answers an empty one.
    async fn close(&self, builder: PartBuilder, next: &mut Manifest, report: &mut CompactionReport) -> Result<PartBuilder, LogError> {
        let shard = self.shared.shard;
        if builder.is_empty() {
            return Ok(builder);
        }
        let number = next.number;
        let seq_first = next.parts.last().map_or(1, |part| part.seq_last + 1);
        let name = part_name(shard, number, seq_first, rand::random());
        let (info, chunks) = offload(builder.bytes(), move || builder.finish(name)).await?;
        // The name is used once: whatever has it is ours.
        self.put(&info.name, chunks).await?;
        report.parts_written += 1;
        report.bytes_written += info.bytes;
        next.parts.push(info);
        Ok(PartBuilder::new(shard))
    }

    async fn put(&self, name: &str, chunks: Vec<Bytes>) -> Result<Put, LogError> {
        let mut attempt = 1;
        loop {
            match self.shared.store.put_if_absent(name, chunks.clone()).await {
                Ok(put) => return Ok(put),
                Err(error) if error.is_retryable() && attempt < PUT_ATTEMPTS_MAX => self.shared.store.pause(attempt).await,
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        }
    }

    async fn publish(&self, next: &Manifest) -> Result<(), LogError> {
        let name = manifest_name(self.shared.shard, next.number);
        let bytes = next.encode()?;
        let lost = LogError::CompactionLost { manifest: next.number };
        match self.put(&name, vec![bytes.clone()]).await? {
            Put::Created => Ok(()),
            // Ours, from an attempt that went unanswered, or another compactor's.
            Put::Exists => match self.shared.store.get(&name).await {
                Ok(found) if found == bytes => Ok(()),
                Ok(_) | Err(StoreError::NotFound { .. }) => Err(lost),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Deletes what the newest manifest has made superfluous.
    async fn collect_garbage(&self) -> Result<u64, LogError> {
        let shard = self.shared.shard;
        let number = manifest::newest_manifest(&self.shared.store, shard).await?;
        let newest = match manifest::read_manifest(&self.shared.store, shard, number).await {
            // An even newer one has been published; its compactor collects.
            Err(LogError::Store(error)) if error.is_not_found() => return Ok(0),
            other => other?,
        };
        let listed = self.shared.store.list(&folder(shard), None).await?;
        let garbage = listed.into_iter().filter(|info| is_garbage(&newest, &info.name));
        let deleted: Vec<()> = futures::stream::iter(garbage.map(|info| info.name).collect::<Vec<_>>())
            .map(|name| async move { self.shared.store.delete(&name).await })
            .buffer_unordered(DELETES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(deleted.len() as u64)
    }
}

fn is_garbage(newest: &Manifest, name: &str) -> bool {
    let shard = newest.shard;
    if let Some(seq) = manifest::parse_segment(shard, name) {
        return seq <= newest.covered_to && newest.fences.binary_search(&seq).is_err();
    }
    if let Some(number) = manifest::parse_part(shard, name) {
        return number <= newest.number && newest.parts.iter().all(|part| part.name != name);
    }
    manifest::parse_manifest(shard, name).is_some_and(|number| number < newest.number)
}

/// Affected parts are rewritten one by one; segments become parts up to the last affected one.
fn purge_steps(snapshot: &Snapshot, affected: &[u64]) -> Vec<Step> {
    let is_affected = |piece: &Piece| affected.binary_search(&piece.seq_first()).is_ok();
    let parts = snapshot.manifest.parts.iter().map(|info| match Piece::Part(info.clone()) {
        piece if is_affected(&piece) => Step::Rewrite(piece),
        _ => Step::Keep(info.clone()),
    });
    let last = affected.last().copied().unwrap_or(0);
    let live = snapshot.live.iter().take_while(|live| live.seq <= last).cloned();
    parts.chain(live.map(|live| Step::Merge(Piece::Segment(live)))).collect()
}
