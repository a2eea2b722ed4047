//! The keeper: begins the runs of chunks whose turn it is, and finishes what ended.
//!
//! It is what `occupancy_space_chunk_sensor` was, without its pause of 30 s: it wakes with every change of the book and of the runs, so
//! a floor is added up as soon as its last room is counted. At most `runs_max` runs of chunks wait or work at the same time; the rest
//! waits in the book.
//!
//! After a restart it takes up the runs that the log has of chunks that still wait: one that goes on is waited for, one that failed after the
//! chunk was opened has failed the chunk. All others are begun anew.

use super::jobs::{ChunkParams, DERIVED_JOB, SOURCE_JOB, new_run};
use super::record::{Chunk, ChunkKey, State};
use super::{Inner, now};
use crate::runs::{RunRecord, RunStatus, RunsError};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs of the log that are looked through at the start.
const RUNS_MAX: usize = 100_000;

/// How long changes gather before they are looked at.
const GATHER: Duration = Duration::from_millis(2);

struct Keeper {
    inner: Arc<Inner>,
    /// Datasets that are being planned or finished by tasks of their own.
    busy: BTreeSet<u64>,
    tasks: JoinSet<u64>,
    /// Something could not be done and is to be tried again.
    is_tried_again: bool,
}

/// Keeps chunks and datasets going until it is told to stop.
pub async fn keep(inner: Arc<Inner>, stop: CancellationToken) {
    let (mut runs, mut book) = (inner.runs.watch(), inner.book.watch());
    let mut keeper = Keeper { inner, busy: BTreeSet::new(), tasks: JoinSet::new(), is_tried_again: false };
    keeper.adopt().await;
    loop {
        runs.borrow_and_update();
        book.borrow_and_update();
        keeper.is_tried_again = false;
        keeper.end_runs().await;
        keeper.begin_runs(&stop).await;
        keeper.begin_tasks();
        let pause = keeper.inner.config.pause;
        // Changes come in flocks.
        tokio::time::sleep(GATHER).await;
        let again = keeper.is_tried_again;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = runs.changed() => if changed.is_err() { return },
            changed = book.changed() => if changed.is_err() { return },
            Some(done) = keeper.tasks.join_next() => keeper.end_task(done),
            () = tokio::time::sleep(pause), if again => {}
        }
    }
}

impl Keeper {
    /// Takes up the runs that the log has.
    async fn adopt(&mut self) {
        let mut seen = BTreeSet::new();
        for run in self.inner.runs.list(RUNS_MAX, None) {
            if ![SOURCE_JOB, DERIVED_JOB].contains(&run.job_name.as_str()) {
                continue;
            }
            let Ok(ChunkParams { key, opening }) = ChunkParams::deserialize(&run.params) else { continue };
            let is_wanted = self.inner.book.read().chunks.get(&key).is_some_and(|c| c.state == State::Pending && c.opening == opening);
            // The newest run of a chunk comes first.
            if !is_wanted || !seen.insert(key) {
                continue;
            }
            match run.status {
                RunStatus::Pending | RunStatus::Started => drop(self.inner.running().insert(key, (run.run_id, opening))),
                RunStatus::Failure | RunStatus::Cancelled => self.fail(key, opening, &run).await,
                RunStatus::Success => {}
            }
        }
    }

    /// The chunks of runs that have not succeeded fail.
    async fn end_runs(&mut self) {
        let running = self.inner.running().clone();
        for (key, (id, opening)) in running {
            match self.inner.runs.status(&id) {
                Some(status) if !status.finished() => continue,
                Some(RunStatus::Success) | None => {}
                Some(_) => {
                    if let Ok(run) = self.inner.runs.get(&id) {
                        self.fail(key, opening, &run).await;
                    }
                }
            }
            self.inner.running().remove(&key);
        }
    }

    async fn fail(&mut self, key: ChunkKey, opening: u32, run: &RunRecord) {
        let message = match run.status {
            RunStatus::Cancelled => "the run was cancelled",
            _ => run.error_message().unwrap_or("the run failed"),
        };
        let (run_id, message) = (Some(run.run_id.to_string()), message.to_owned());
        let failed = self.inner.book.change(now(), move |draft| {
            draft.fail(&key, opening, run_id, &message);
            Ok(())
        });
        if let Err(error) = failed.await {
            tracing::warn!(%error, chunk = key.document(), "the failure of a chunk could not be recorded");
        }
    }

    async fn begin_runs(&mut self, stop: &CancellationToken) {
        let ready: Vec<_> = {
            let (running, shelf) = (self.inner.running(), self.inner.book.read());
            let room = self.inner.config.runs_max.saturating_sub(running.len());
            let waiting = shelf.ready.iter().filter(|key| !running.contains_key(key)).take(room);
            let run = |chunk: &Chunk| (chunk.key, chunk.opening, new_run(chunk, &self.inner));
            waiting.filter_map(|key| shelf.chunks.get(key)).map(run).collect()
        };
        if stop.is_cancelled() {
            return;
        }
        // Together, so that they are made durable together.
        let runs = &self.inner.runs;
        let submit = |(key, opening, run)| async move { (key, opening, runs.submit(run).await) };
        for (key, opening, submitted) in futures::future::join_all(ready.into_iter().map(submit)).await {
            match submitted {
                Ok(id) => drop(self.inner.running().insert(key, (id, opening))),
                Err(RunsError::NotReady(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, chunk = key.document(), "a run of a chunk could not be submitted");
                    self.is_tried_again = true;
                }
            }
        }
    }

    /// Datasets that wait for their plan, and those whose chunks are all there.
    fn begin_tasks(&mut self) {
        let shelf = self.inner.book.read();
        for dataset in shelf.datasets.values() {
            if self.busy.contains(&dataset.dataset_id) {
                continue;
            }
            let id = dataset.dataset_id;
            let inner = Arc::clone(&self.inner);
            match dataset.state {
                State::Pending => drop(self.tasks.spawn(async move {
                    inner.plan_in_background(id).await;
                    id
                })),
                State::Running if shelf.is_complete(dataset, dataset.root_space_id) => drop(self.tasks.spawn(async move {
                    if let Err(error) = inner.finish(id).await {
                        tracing::warn!(dataset = id, %error, "a dataset could not be finished; it is tried again");
                        tokio::time::sleep(inner.config.pause).await;
                    }
                    id
                })),
                _ => continue,
            }
            self.busy.insert(id);
        }
    }

    fn end_task(&mut self, done: Result<u64, tokio::task::JoinError>) {
        match done {
            Ok(id) => drop(self.busy.remove(&id)),
            Err(error) => {
                tracing::error!(%error, "a task of a dataset ended by a panic");
                self.busy.clear();
            }
        }
    }
}
