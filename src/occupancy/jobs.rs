//! The work of one run: counting one chunk and writing its object.
//!
//! The object is replaced before the chunk is entered as completed. A crash in between leaves the chunk pending, and the next run writes
//! the same again; so runs are idempotent, and go on after a restart.

use super::book::Outcome;
use super::error::SessionsError;
use super::record::{Chunk, ChunkKey, State};
use super::sessions::Counted;
use super::{Inner, now};
use crate::runs::{Job, LogLevel, NewRun, RunContext, RunError};
use async_trait::async_trait;
use desireline_connectors::bins::{self, Bin, BinsError};
use desireline_records::SpaceId;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const SOURCE_JOB: &str = "materialize_source_chunk_job";
pub const DERIVED_JOB: &str = "materialize_derived_chunk_job";

/// Objects of children that are read together.
const READS_AT_ONCE: usize = 8;

/// The parameters of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkParams {
    #[serde(flatten)]
    pub key: ChunkKey,
    pub opening: u32,
}

pub struct ChunkJob(pub Arc<Inner>);

pub fn new_run(chunk: &Chunk, inner: &Inner) -> NewRun {
    let job = if chunk.children.is_empty() { SOURCE_JOB } else { DERIVED_JOB };
    NewRun {
        job_name: job.to_owned(),
        params: json!(ChunkParams { key: chunk.key, opening: chunk.opening }),
        // Two runs of a chunk must not write its object at the same time.
        serial_key: Some(format!("occupancy:{}", chunk.key.document())),
        retries: inner.config.retries,
        ..NewRun::default()
    }
}

#[async_trait]
impl Job for ChunkJob {
    async fn run(&self, ctx: RunContext, params: &Value) -> Result<Value, RunError> {
        let unreadable = |error| RunError::user("params", format!("the parameters cannot be read: {error}"));
        let params = ChunkParams::deserialize(params).map_err(unreadable)?;
        tokio::select! {
            biased;
            () = ctx.cancelled().cancelled() => Err(RunError::stopped()),
            done = self.0.count_chunk(&ctx, &params) => done,
        }
    }

    fn resumable(&self) -> bool {
        true
    }
}

impl Inner {
    async fn count_chunk(&self, ctx: &RunContext, params: &ChunkParams) -> Result<Value, RunError> {
        let _alone = self.alone(&params.key).await;
        let is_wanted = |chunk: &&Chunk| chunk.state == State::Pending && chunk.opening == params.opening;
        let Some(chunk) = self.book.read().chunks.get(&params.key).filter(is_wanted).cloned() else {
            return Ok(json!({"skipped": "the chunk is not waiting for this run"}));
        };
        let (counted, children) = self.count(&chunk).await?;
        let object = chunk.key.object();
        bins::write(&self.store, &object, &counted.bins).await.map_err(|error| objects_failed(&error))?;
        let rows = counted.bins.len() as u64;
        let run_id = Some(ctx.run_id().to_string());
        let outcome = Outcome { content: bins::fingerprint(&counted.bins), rows, children, as_of: counted.as_of, run_id };
        let (key, opening) = (params.key, params.opening);
        let completed = self.book.change(now(), move |draft| Ok(draft.complete(&key, opening, outcome))).await;
        let completed = completed.map_err(|error| RunError::external(error.code(), error.to_string()))?;
        ctx.log(LogLevel::Info, "", format!("{rows} bins written to {object}"));
        Ok(json!({"rows": rows, "object": object, "completed": completed}))
    }

    /// The chunk's bins, and the content of each child that was added up.
    async fn count(&self, chunk: &Chunk) -> Result<(Counted, BTreeMap<SpaceId, u64>), RunError> {
        let (key, window) = (&chunk.key, (chunk.key.start, chunk.key.end));
        let kind = if chunk.children.is_empty() { "Source" } else { "Derived" };
        let failed = |error: SessionsError| sessions_failed(kind, self.sessions.is_live(), error);
        if let Some(mut whole) = self.sessions.wholes(&[key.space_id], key.interval_seconds, window).await.map_err(failed)? {
            return Ok((whole.pop().unwrap_or_default(), BTreeMap::new()));
        }
        let mut counted = Counted::default();
        if chunk.space_type.has_own() {
            counted = self.sessions.own(key.space_id, key.interval_seconds, window).await.map_err(failed)?;
        }
        if chunk.children.is_empty() {
            return Ok((counted, BTreeMap::new()));
        }
        let mut sums: BTreeMap<i64, i64> = counted.bins.into_iter().collect();
        let mut contents = BTreeMap::new();
        let children: Vec<ChunkKey> = chunk.children.keys().map(|child| key.of_space(*child)).collect();
        let reads = children.into_iter().map(|child| self.child(child));
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some((child, bins)) = reads.try_next().await? {
            contents.insert(child, bins::fingerprint(&bins));
            bins.into_iter().for_each(|(begin, count)| *sums.entry(begin).or_default() += count);
        }
        Ok((Counted { bins: sums.into_iter().collect(), as_of: None }, contents))
    }

    async fn child(&self, key: ChunkKey) -> Result<(SpaceId, Vec<Bin>), RunError> {
        let bins = bins::read(&self.store, &key.object()).await.map_err(|error| objects_failed(&error))?;
        Ok((key.space_id, bins))
    }
}

fn sessions_failed(kind: &str, is_live: bool, error: SessionsError) -> RunError {
    let what = if is_live { "" } else { " SQL" };
    let message = format!("{kind} chunk{what} failed: {}", error.text());
    match error {
        SessionsError::Unavailable(_) => RunError::external("sessions_unavailable", message),
        SessionsError::Refused(_) => RunError::user("sessions_refused", message),
    }
}

fn objects_failed(error: &BinsError) -> RunError {
    let message = format!("Chunk object failed: {error}");
    if error.is_retryable() { RunError::external(error.code(), message) } else { RunError::user(error.code(), message) }
}
