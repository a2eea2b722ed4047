//! What a job sees of its run.

use super::record::{LogLevel, RetryPolicy, RunId, RunProgress, RunStatus};
use super::scheduler::Inner;
use super::{RunError, RunErrorDomain};
use async_trait::async_trait;
use rand::Rng;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A kind of work, known by its name.
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// One attempt. Has to stop soon after `ctx.cancelled()` fires (and then answer [`RunError::stopped`]); the future is
    /// dropped when it has not done so within the grace period.
    async fn run(&self, ctx: RunContext, params: &Value) -> Result<Value, RunError>;

    /// An attempt that a restart of the server interrupted may be followed by another, which finds the last checkpoint.
    fn resumable(&self) -> bool {
        false
    }

    /// Tidies up after the last attempt, however it ended: in success, failure, a cancel or by being dropped. Called again,
    /// also after a restart, while it is not known to have succeeded: it has to be idempotent.
    async fn settle(&self, _ctx: RunContext, _params: &Value) -> Result<(), RunError> {
        Ok(())
    }
}

/// Why work has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Cancelled,
    /// The attempt has taken too long; another may follow.
    TimedOut,
    /// The server stops; the run goes on after its restart when the job is resumable.
    Shutdown,
}

/// How one step of a job is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepPolicy {
    pub retries: RetryPolicy,
    /// For one try.
    pub timeout: Option<Duration>,
}

/// The job's side of one attempt. Cheap to clone; what an attempt says after it has ended is dropped.
#[derive(Clone)]
pub struct RunContext {
    pub(super) inner: Arc<Inner>,
    pub(super) run_id: RunId,
    pub(super) attempt: u32,
    pub(super) token: CancellationToken,
}

impl RunContext {
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// 1, 2, …; attempts before a restart of the server count.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Fires when the work has to stop.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.token
    }

    /// For loops without awaits: an error once the work has to stop.
    pub fn check(&self) -> Result<(), RunError> {
        if self.token.is_cancelled() { Err(RunError::stopped()) } else { Ok(()) }
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        if !self.token.is_cancelled() {
            return None;
        }
        let status = self.inner.lock().get(&self.run_id).map(|entry| entry.record.status);
        Some(if status == Some(RunStatus::Cancelled) {
            StopReason::Cancelled
        } else if self.inner.closing.is_cancelled() {
            StopReason::Shutdown
        } else {
            StopReason::TimedOut
        })
    }

    /// A line for the reader of the run's log; `step_key` is empty when it belongs to no step.
    pub fn log(&self, level: LogLevel, step_key: &str, message: impl AsRef<str>) {
        self.inner.log(&self.run_id, level, step_key, message.as_ref());
    }

    /// Replaces what was said before; not recorded by itself.
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        let progress = RunProgress { done, total, unit: unit.chars().take(32).collect() };
        let mut table = self.inner.lock();
        if let Some(entry) = table.get_mut(&self.run_id)
            && entry.record.attempt == self.attempt
            && !entry.record.status.finished()
        {
            entry.record.progress = Some(progress);
        }
    }

    /// Makes a note for the next attempt, in place of the last one (`null`: none). When this answers, the note is durable.
    pub async fn checkpoint(&self, value: Value) -> Result<(), RunError> {
        self.inner.check_size("the checkpoint", &value).map_err(|error| RunError::internal(error.code(), error.to_string()))?;
        let version = {
            let mut table = self.inner.lock();
            match table.get_mut(&self.run_id) {
                Some(entry) if entry.record.attempt == self.attempt && !entry.record.status.finished() => {
                    entry.record.checkpoint = (!value.is_null()).then_some(value);
                }
                _ => return Err(RunError::stopped()),
            }
            table.touch(&self.run_id)
        };
        self.inner.wake_recorder.notify_one();
        self.inner.wait_recorded(&self.run_id, version).await.map_err(|error| RunError::external(error.code(), error.to_string()))
    }

    pub fn last_checkpoint(&self) -> Option<Value> {
        self.inner.lock().get(&self.run_id).and_then(|entry| entry.record.checkpoint.clone())
    }

    /// Does a step, trying again after errors from outside. The step is dropped at its next await when the work has to stop.
    pub async fn step<T, W, F>(&self, step_key: &str, policy: &StepPolicy, mut work: W) -> Result<T, RunError>
    where
        W: FnMut() -> F,
        F: Future<Output = Result<T, RunError>>,
    {
        let mut failures = 0;
        loop {
            let tried = tokio::select! {
                biased;
                () = self.token.cancelled() => Err(RunError::stopped()),
                tried = within(policy.timeout, work()) => tried,
            };
            let error = match tried {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            if error.domain == RunErrorDomain::Stopped {
                return Err(error);
            }
            if !error.retryable() || failures > policy.retries.retries {
                self.log(LogLevel::Error, step_key, format!("failed ({}): {error}", error.code));
                return Err(error);
            }
            let pause = policy.retries.pause(failures, rand::rng().random());
            let left = policy.retries.retries - failures + 1;
            let message = format!("failed ({}): {error}; tries left: {left}, the next in {:.1} s", error.code, pause.as_secs_f64());
            self.log(LogLevel::Warning, step_key, message);
            tokio::select! {
                () = self.token.cancelled() => return Err(RunError::stopped()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    match timeout {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(timed_out(limit)),
        },
    }
}

pub(super) fn timed_out(limit: Duration) -> RunError {
    RunError::external("timed_out", format!("took longer than {:.1} s", limit.as_secs_f64()))
}
