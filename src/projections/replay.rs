//! Reading what a target has missed from the log: a private engine, fed with the log's own history at the pace of the target.
//!
//! Views are functions of the log, so an engine that reads it from the beginning makes the same changes as the server's own did. Those up
//! to the time that the target knows are never made into rows. While the target takes one batch, the next one is worked off.
//!
//! Cost: the CPU of a replay and, while it goes on, the memory of a second set of views. One at a time per server. A target that falls
//! behind again soon goes on with the same engine.
//!
//! An erasure that has been carried out leaves nothing in the log by which a target could tell whose rows have to go: a target that
//! has not passed it is built anew ([`ReplayError::Erased`]).

use crate::service::{REPLAY_ROWS, Service};
use desireline_connectors::log::LogError;
use desireline_dataflows::changes::{Change, Views};
use desireline_dataflows::engine::{Changes, Next, Start};
use desireline_dataflows::{Engine, EngineError};
use desireline_records::{Batch, Control, LogicalTime};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use thiserror::Error;
use tokio::task::JoinHandle;

#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("users were erased whom the target may still have; their names are gone from the log")]
    Erased,
    #[error("the engine of the replay has stopped")]
    Stopped,
}

/// What one batch changed.
pub struct Step {
    pub time: LogicalTime,
    pub changes: Vec<Change>,
}

struct Private {
    engine: Engine,
    changes: Changes,
}

type Working = JoinHandle<Result<(Private, Option<Step>), ReplayError>>;

pub struct Replay {
    service: Service,
    /// What the target knew when the private engine began: up to here it makes no rows.
    begun: LogicalTime,
    /// What the target knows.
    known: LogicalTime,
    keeps_users: bool,
    /// How far the private engine has come.
    at: LogicalTime,
    private: Option<Private>,
    batches: Option<BoxStream<'static, Result<Batch, LogError>>>,
    until: LogicalTime,
    /// The batch that is being worked off.
    working: Option<Working>,
}

impl Replay {
    /// With `keeps_users` an erasure that the log has forgotten is an error.
    pub fn new(service: Service, views: Views, known: LogicalTime, keeps_users: bool) -> Result<Self, ReplayError> {
        let engine = Engine::start(service.engine_config())?;
        // Not bounded by rows: it is fed one batch at a time.
        let changes = engine.subscribe(views, Start::After(known), usize::MAX)?;
        let private = Some(Private { engine, changes });
        Ok(Self { service, begun: known, known, keeps_users, at: 0, private, batches: None, until: 0, working: None })
    }

    pub fn at(&self) -> LogicalTime {
        self.at
    }

    /// The target has come to know more, from elsewhere.
    pub fn knows(&mut self, known: LogicalTime) {
        self.known = self.known.max(known);
    }

    /// Goes on to the end of the log as it is now, or to `until` exactly, which must be the time of a batch.
    pub fn go_on(&mut self, until: Option<LogicalTime>) {
        let ends = std::iter::once(self.known).chain(until).collect();
        self.batches = Some(self.service.log_reader().batches_ending(self.at, REPLAY_ROWS, ends).boxed());
        self.until = until.unwrap_or(LogicalTime::MAX);
    }

    /// The changes of the next batch behind what is known; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Step>, ReplayError> {
        while let Some(batches) = &mut self.batches {
            let batch = batches.next().await.transpose()?.filter(|batch| batch.time <= self.until);
            let step = self.finish().await?;
            match batch {
                Some(batch) => {
                    self.at = batch.time;
                    self.working = Some(self.begin(batch)?);
                }
                None => self.batches = None,
            }
            if step.is_some() {
                return Ok(step);
            }
        }
        Ok(None)
    }

    fn begin(&mut self, batch: Batch) -> Result<Working, ReplayError> {
        let (begun, known) = (self.begun, self.known);
        let purged = |control: &Control| matches!(control, Control::Erase(erase) if erase.user.is_empty());
        if self.keeps_users && known > 0 && batch.time > known && batch.controls.iter().any(purged) {
            return Err(ReplayError::Erased);
        }
        let private = self.private.take().ok_or(ReplayError::Stopped)?;
        Ok(tokio::task::spawn_blocking(move || {
            let time = batch.time;
            private.engine.submit(Arc::new(batch), drop)?;
            let step = (time > begun).then(|| private.wait(time)).transpose()?;
            Ok((private, step.filter(|_| time > known)))
        }))
    }

    async fn finish(&mut self) -> Result<Option<Step>, ReplayError> {
        let Some(task) = self.working.take() else { return Ok(None) };
        let (private, step) = task.await.map_err(|_| ReplayError::Stopped)??;
        self.private = Some(private);
        Ok(step)
    }
}

impl Private {
    /// Gathers the changes of a time until it is closed.
    fn wait(&self, time: LogicalTime) -> Result<Step, ReplayError> {
        let mut changes = Vec::new();
        loop {
            match self.changes.next() {
                Next::Changes(more) if changes.is_empty() => changes = more,
                Next::Changes(more) => changes.extend(more),
                Next::Closed(closed) if closed >= time => return Ok(Step { time, changes }),
                Next::Closed(_) => {}
                Next::Lost | Next::End => return Err(ReplayError::Stopped),
            }
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // Stopping an engine waits for its threads.
        if let (Some(private), Ok(runtime)) = (self.private.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(private));
        }
    }
}
