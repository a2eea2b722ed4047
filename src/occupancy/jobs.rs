//! The work of one run: counting one chunk and writing its object.
//!
//! The object is replaced before the chunk is entered as completed. A crash in between leaves the chunk pending, and the next run writes
//! the same again; so runs are idempotent, and go on after a restart.
//!
//! In live mode the runs of one window that wait at the same time are counted together, by whichever works first: one question, one commit.
//! The others end with it, or find their work done.

use super::book::Outcome;
use super::error::SessionsError;
use super::record::{Chunk, ChunkKey, State};
use super::sessions::Counted;
use super::{Inner, now};
use crate::runs::{Job, LogLevel, NewRun, RunContext, RunError};
use async_trait::async_trait;
use desireline_connectors::bins::{self, Bin, BinsError};
use desireline_records::SpaceId;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const SOURCE_JOB: &str = "materialize_source_chunk_job";
pub const DERIVED_JOB: &str = "materialize_derived_chunk_job";
/// In the logs of derived chunks' runs: who saw that their children were there. See `keeper`.
pub const SENSOR: &str = "occupancy_space_chunk_sensor";

/// Objects of children that are read together.
const READS_AT_ONCE: usize = 8;
const WRITES_AT_ONCE: usize = 64;
/// Chunks that are counted together.
const CHUNKS_TOGETHER: usize = 256;

/// The parameters of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkParams {
    #[serde(flatten)]
    pub key: ChunkKey,
    pub opening: u32,
}

pub struct ChunkJob(pub Arc<Inner>);

/// A chunk whose object is written.
struct Done {
    chunk: Chunk,
    run_id: String,
    counted: Counted,
    /// The content of each child that was added up.
    children: BTreeMap<SpaceId, u64>,
}

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
        if let Some(chunk) = self.wanted(params).filter(|chunk| !chunk.children.is_empty()) {
            ctx.log(LogLevel::Info, SENSOR, format!("the chunks of all {} children are completed", chunk.children.len()));
        }
        if self.sessions.is_live() {
            self.count_together(ctx, params).await?;
        } else if let Some(chunk) = self.wanted(params) {
            let (counted, children) = self.count(&chunk).await?;
            self.write(&chunk.key, &counted).await?;
            self.complete(vec![Done { chunk, run_id: ctx.run_id().to_string(), counted, children }]).await?;
        }
        let shelf = self.book.read();
        let own = |chunk: &&Chunk| chunk.is_completed() && chunk.run_id.as_deref() == Some(ctx.run_id().as_str());
        let Some(chunk) = shelf.chunks.get(&params.key).filter(own) else {
            return Ok(json!({"skipped": "the chunk does not wait for this run"}));
        };
        let (message, result) = written(&chunk.key, chunk.rows);
        ctx.log(LogLevel::Info, "", message);
        Ok(result)
    }

    /// The chunk, if it waits for this run.
    fn wanted(&self, params: &ChunkParams) -> Option<Chunk> {
        let is_wanted = |chunk: &&Chunk| chunk.state == State::Pending && chunk.opening == params.opening;
        self.book.read().chunks.get(&params.key).filter(is_wanted).cloned()
    }

    /// Counts this chunk and others of its window whose runs wait.
    async fn count_together(&self, ctx: &RunContext, params: &ChunkParams) -> Result<(), RunError> {
        let _one_at_a_time = self.together.lock().await;
        let Some(own) = self.wanted(params) else { return Ok(()) };
        let mut wave = vec![(own, ctx.run_id().clone())];
        {
            let (running, shelf) = (self.running(), self.book.read());
            let from = params.key.of_space(SpaceId::MIN)..=params.key.of_space(SpaceId::MAX);
            for (key, (run_id, opening)) in running.range(from).filter(|(key, _)| **key != params.key) {
                let chunk = shelf.chunks.get(key).filter(|chunk| chunk.opening == *opening && shelf.is_ready(chunk));
                wave.extend(chunk.filter(|_| wave.len() < CHUNKS_TOGETHER).map(|chunk| (chunk.clone(), run_id.clone())));
            }
        }
        let spaces: Vec<SpaceId> = wave.iter().map(|(chunk, _)| chunk.key.space_id).collect();
        let (key, kind) = (&params.key, kind(&wave[0].0));
        let counted = self.sessions.wholes(&spaces, key.interval_seconds, (key.start, key.end)).await;
        let counted = counted.map_err(|error| sessions_failed(kind, true, error))?.unwrap_or_default();
        let writes: Vec<BoxFuture<'_, Result<(), RunError>>> =
            wave.iter().zip(&counted).map(|((chunk, _), counted)| self.write(&chunk.key, counted).boxed()).collect();
        let () = futures::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect().await?;
        let ends = wave.iter().zip(&counted).skip(1).map(|((chunk, run_id), counted)| {
            let (message, result) = written(&chunk.key, counted.bins.len() as u64);
            (run_id.clone(), message, result)
        });
        let ends = ends.collect();
        let done = wave.into_iter().zip(counted);
        let done = done.map(|((chunk, run_id), counted)| Done { chunk, run_id: run_id.to_string(), counted, children: BTreeMap::new() });
        self.complete(done.collect()).await?;
        self.runs.finish_waiting(ends);
        Ok(())
    }

    async fn write(&self, key: &ChunkKey, counted: &Counted) -> Result<(), RunError> {
        let _alone = self.alone(key).await;
        bins::write(&self.store, &key.object(), &counted.bins).await.map_err(|error| objects_failed(&error))
    }

    /// Enters what was counted and written.
    async fn complete(&self, done: Vec<Done>) -> Result<(), RunError> {
        let enter = move |draft: &mut super::Draft<'_>| {
            for Done { chunk, run_id, counted, children } in done {
                let (content, rows) = (bins::fingerprint(&counted.bins), counted.bins.len() as u64);
                let outcome = Outcome { content, rows, children, as_of: counted.as_of, run_id: Some(run_id) };
                draft.complete(&chunk.key, chunk.opening, outcome);
            }
            Ok(())
        };
        self.book.change(now(), enter).await.map_err(|error| RunError::external(error.code(), error.to_string()))
    }

    /// The chunk's bins, and the content of each child that was added up.
    async fn count(&self, chunk: &Chunk) -> Result<(Counted, BTreeMap<SpaceId, u64>), RunError> {
        let (key, window) = (&chunk.key, (chunk.key.start, chunk.key.end));
        let failed = |error: SessionsError| sessions_failed(kind(chunk), false, error);
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

/// What a run says in the end: a line of log, and its result.
fn written(key: &ChunkKey, rows: u64) -> (String, Value) {
    let object = key.object();
    (format!("{rows} bins written to {object}"), json!({"rows": rows, "object": object}))
}

fn kind(chunk: &Chunk) -> &'static str {
    if chunk.children.is_empty() { "Source" } else { "Derived" }
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
