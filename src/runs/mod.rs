//! Runs: work that outlives the request that asked for it. A registry, a scheduler and their memory.
//!
//! What it promises:
//! - A run that was accepted is durable ([`Runs::submit`] answers after the log has it) and ends as SUCCESS, FAILURE or
//!   CANCELLED, also across restarts: after one, a waiting run waits again; a run that worked is resumed from its last
//!   checkpoint when its job is resumable, and else is a FAILURE. None stays STARTED. An orderly stop lets resumable runs wait;
//!   a run that was cut off by a crash is resumed [`RunsConfig::interruptions_max`] times at most.
//! - At most [`RunsConfig::concurrency`] runs work at the same time; runs with the same serial key go one after another in
//!   the order of submission; a run begins only after all it depends on have succeeded.
//! - A cancelled run never changes again. Its status is CANCELLED, durably, when [`Runs::cancel`] answers; its work stops at
//!   the next await or chunk, and slot and serial key are free once it really has, or has been dropped.
//! - Only errors of the domain `external` are tried again, with a pause that jitters, and the reason stands in the run's log.
//!
//! # How it works
//! The state of all runs is a table behind one lock (`table`): plain data, no awaits. Whatever changes it calls
//! `begin_ready`, which lets every run begin whose turn it is; each gets a supervisor task, and each attempt a task of its own,
//! so that a panic or a job that does not stop harms nothing else (`scheduler`).
//!
//! # Format and recovery
//! A run is recorded as one JSON body: the [`RunRecord`], its newest 200 log lines and a format number; the last record of a
//! run id counts. One recorder task writes them, each run at most once at a time and with the state that it then has: quick
//! changes of one run may share a record, and a record is never older than the one before it. When the log refuses, the
//! recorder tries again for as long as the server runs, and [`Runs::health`] says so. Progress and log lines ride on the next
//! change of state.
//!
//! # Known limitations
//! - A run that waits between two attempts keeps its slot.
//! - A submission whose reply was an error because the log did not answer in time may still have reached the log; such a run
//!   shows up, and works, after a restart. Jobs are idempotent for that reason.
//! - Finished runs above [`RunsConfig::finished_max`] are forgotten by the server, though the log still has them.

mod assets;
pub mod config;
mod context;
mod error;
mod record;
mod scheduler;
mod table;
#[cfg(test)]
mod tests;

pub use assets::{Asset, RunsHealth, assets};
pub use config::RunsConfig;
pub use context::{Job, RunContext, StepPolicy, StopReason};
pub use error::{RunError, RunErrorDomain, RunsError};
pub use record::{LogLevel, LogLine, NewRun, RetryPolicy, RunId, RunProgress, RunRecord, RunStatus};

use crate::service::{Service, ServiceError};
use async_trait::async_trait;
use record::{FORMAT, RecordedRun};
use scheduler::Inner;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;

/// Where runs are made durable.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// The last record of a run id counts.
    async fn record(&self, run_id: &str, body: Value) -> Result<(), ServiceError>;
}

#[async_trait]
impl RunStore for Service {
    async fn record(&self, run_id: &str, body: Value) -> Result<(), ServiceError> {
        self.record_run(run_id, body).await
    }
}

/// What a restart found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Waiting again.
    pub waiting: usize,
    /// Interrupted in their work, and waiting to go on with it.
    pub resumed: usize,
    /// Interrupted, and failed because of it.
    pub interrupted: usize,
    pub finished: usize,
    /// Records of another format, or damaged: reported and left alone.
    pub unreadable: usize,
}

/// A cheap handle to the registry and the scheduler.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

impl Runs {
    /// Must be called within a tokio runtime. Takes runs once [`Runs::restore`] has been called.
    pub fn new(config: RunsConfig, store: Arc<dyn RunStore>) -> Self {
        Self { inner: Inner::new(config, store) }
    }

    /// Makes a job known by its name; before [`Runs::restore`], or its old runs fail.
    pub fn register(&self, job_name: &str, job: Arc<dyn Job>) {
        self.inner.register(job_name, job);
    }

    /// Takes up what the log has, by run id, and opens for new runs. To be called once.
    pub fn restore<K: AsRef<str>>(&self, recorded: impl IntoIterator<Item = (K, Value)>) -> Restored {
        let mut runs = Vec::new();
        let mut found = Restored::default();
        for (run_id, body) in recorded {
            match serde_json::from_value::<RecordedRun>(body) {
                Ok(run) if run.format == FORMAT && run.record.run_id.as_str() == run_id.as_ref() => runs.push(run),
                Ok(run) => {
                    found.unreadable += 1;
                    tracing::warn!(run_id = run_id.as_ref(), format = run.format, "the record of a run is not of this release");
                }
                Err(error) => {
                    found.unreadable += 1;
                    tracing::warn!(run_id = run_id.as_ref(), %error, "the record of a run cannot be read");
                }
            }
        }
        runs.sort_by_key(|run| (run.record.end_time, run.record.number));
        for run in runs {
            self.restore_one(run, &mut found);
        }
        self.inner.restored.send_replace(true);
        self.inner.begin_ready();
        found
    }

    fn restore_one(&self, run: RecordedRun, found: &mut Restored) {
        let RecordedRun { mut record, logs, .. } = run;
        let logs = VecDeque::from(logs);
        let id = record.run_id.clone();
        let token = self.inner.closing.child_token();
        match record.status {
            RunStatus::Pending => {
                found.waiting += 1;
                self.inner.lock().insert(record, logs, token);
            }
            RunStatus::Started => {
                record.interruptions += 1;
                let job = self.inner.job(&record.job_name);
                let goes_on = job.is_some_and(|job| job.resumable()) && record.interruptions <= self.inner.config.interruptions_max;
                if goes_on {
                    found.resumed += 1;
                    record.status = RunStatus::Pending;
                    self.inner.lock().insert(record, logs, token);
                    self.inner.log(&id, LogLevel::Warning, "", "goes on after a restart");
                    self.inner.lock().touch(&id);
                } else {
                    found.interrupted += 1;
                    self.inner.lock().insert(record, logs, token);
                    self.inner.conclude(&id, Err(RunError::external("interrupted", "interrupted by a restart")));
                    self.settle_again(id);
                }
            }
            _ if record.settled => {
                found.finished += 1;
                self.inner.lock().insert_finished(record, logs);
            }
            _ => {
                found.finished += 1;
                self.inner.lock().insert(record, logs, token);
                self.settle_again(id);
            }
        }
    }

    /// The run has its last status, but whether its job has tidied up is not known.
    fn settle_again(&self, id: RunId) {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let settled = match inner.work_of(&id) {
                Some((job, params)) => inner.settle(&id, &job, &params).await,
                None => true,
            };
            if settled {
                inner.finish_settling(&id, false);
            }
        });
    }

    /// Answers once the run is durable. The run does not need the caller to wait for that.
    pub async fn submit(&self, new: NewRun) -> Result<RunId, RunsError> {
        match tokio::spawn(Arc::clone(&self.inner).submit(new)).await {
            Ok(submitted) => submitted,
            Err(_) => Err(RunsError::NotReady("the server is stopping")),
        }
    }

    pub fn get(&self, id: &RunId) -> Result<RunRecord, RunsError> {
        let table = self.inner.lock();
        table.get(id).map(|entry| entry.record.clone()).ok_or_else(|| RunsError::NotFound(id.clone()))
    }

    /// The newest first, at most `limit`.
    pub fn list(&self, limit: usize, status: Option<RunStatus>) -> Vec<RunRecord> {
        let table = self.inner.lock();
        let wanted = table.newest_first().filter(|entry| status.is_none_or(|status| entry.record.status == status));
        wanted.take(limit).map(|entry| entry.record.clone()).collect()
    }

    /// The status alone; nothing for a run that is not known.
    pub fn status(&self, id: &RunId) -> Option<RunStatus> {
        self.inner.lock().get(id).map(|entry| entry.record.status)
    }

    /// The newest `limit` lines, oldest first.
    pub fn logs(&self, id: &RunId, limit: usize) -> Result<Vec<LogLine>, RunsError> {
        let table = self.inner.lock();
        let entry = table.get(id).ok_or_else(|| RunsError::NotFound(id.clone()))?;
        Ok(entry.logs.iter().skip(entry.logs.len().saturating_sub(limit)).cloned().collect())
    }

    /// Ends runs that still wait as successes, each with a line of log and its result, because the work of another run has done theirs.
    /// A run that has begun goes on, and is expected to find nothing to do.
    pub fn finish_waiting(&self, done: Vec<(RunId, String, Value)>) {
        self.inner.finish_waiting(done);
    }

    /// Only from PENDING or STARTED. The run as it then is, for good; answers once that is durable.
    pub async fn cancel(&self, id: &RunId) -> Result<RunRecord, RunsError> {
        match tokio::spawn(Arc::clone(&self.inner).cancel(id.clone())).await {
            Ok(cancelled) => cancelled,
            Err(_) => Err(RunsError::NotReady("the server is stopping")),
        }
    }

    /// Waits until the run has finished.
    pub async fn wait(&self, id: &RunId) -> Result<RunRecord, RunsError> {
        let mut changes = self.watch();
        loop {
            let record = self.get(id)?;
            if record.status.finished() {
                return Ok(record);
            }
            if changes.changed().await.is_err() {
                return Err(RunsError::NotReady("the server is stopping"));
            }
        }
    }

    /// Moves whenever the status of some run may have changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// How often runs of each job have entered each status since the server started, for the metrics.
    pub fn totals(&self) -> Vec<(String, RunStatus, u64)> {
        self.inner.lock().totals()
    }

    /// Whether the log's runs have been taken up, so that new ones can be taken.
    pub fn restored(&self) -> bool {
        *self.inner.restored.borrow()
    }

    /// Runs that wait, and runs that work, now.
    pub fn load(&self) -> (usize, usize) {
        let table = self.inner.lock();
        (table.waiting(), table.working())
    }

    /// `host` and `port` are those at which the server listens.
    pub fn health(&self, host: &str, port: u16) -> RunsHealth {
        let error = self.inner.record_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let status = if error.is_none() { "healthy" } else { "unhealthy" };
        RunsHealth { status, dagster_host: host.to_owned(), dagster_port: port.to_string(), error }
    }

    /// Stops all work without ending the runs: they are taken up again after the restart. To be called before the service stops.
    pub async fn stop(&self) {
        self.inner.stop().await;
    }
}
