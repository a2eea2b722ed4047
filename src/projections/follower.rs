//! A follower: keeps one target true.
//!
//! ```text
//!  views ──► queue (bounded) ──► gathering ──► under way ──► target
//!    ▲                          (consolidated)  (one transaction)
//!    └── lost, or behind: the log, by a private engine (replay.rs)
//! ```
//!
//! It promises:
//! - **Exactly once.** A changeset and its time reach the target together. After a failure the target says where it stands, which
//!   tells whether the changeset under way was applied; changes go on from there.
//! - **In nobody's way.** Ingest and queries never wait for a target. Changes wait in a queue of `queue_rows_max` rows; beyond that the stream
//!   is given up, and what was missed is read from the log when the target takes rows again.
//! - **One writer.** The target refuses a server whose epoch is older than the one it has recorded.
//! - **It comes back by itself**: failures are tried again for ever, with a pause that doubles and varies at random.
//!
//! A target that stands at a time ahead of the log belongs to another log: nothing is written to it until an operator orders a rebuild.
//!
//! Known limitations: a row that an operator had skipped in the log (`desireline log skip`) stays in targets that have it, until a rebuild.

use super::changeset::Changeset;
use super::handle::{FollowerState, Orders, Shared};
use super::replay::{Replay, ReplayError, Step};
use super::streaming::Streaming;
use super::target::{CatchUp, Standing, Target, TargetError};
use crate::service::{Service, ServiceError};
use desireline_dataflows::changes::Change;
use desireline_dataflows::engine::{Changes, Next, Start};
use desireline_records::LogicalTime;
use rand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub struct FollowerConfig {
    pub queue_rows_max: usize,
    pub batch_rows_max: usize,
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub check_every: Duration,
}

/// An idle target is told the time at most so often.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// A target that falls behind again within this time goes on with the engine that it had.
const KEEP_REPLAY: Duration = Duration::from_secs(10);

pub(super) struct Follower {
    pub service: Service,
    pub shared: Arc<Shared>,
    pub target: Box<dyn Target>,
    pub config: FollowerConfig,
    /// Replays under way, of all followers together.
    pub replays: Arc<Semaphore>,
    pub stop: CancellationToken,
    pub stream: Streaming,
    /// The target's rows have to be built anew.
    pub rebuild: bool,
    /// The engine of the last catch-up, for a while.
    pub kept: Option<Kept>,
}

/// A private engine that may be needed again.
pub(super) struct Kept {
    replay: Replay,
    permit: OwnedSemaphorePermit,
    since: Instant,
}

/// Why following ended without a failure.
enum Ended {
    Stopped,
    Ordered,
}

enum Failure {
    Target(TargetError),
    Replay(ReplayError),
    Service(ServiceError),
    Ended(Ended),
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::Replay(error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl Follower {
    pub async fn run(mut self) {
        // Only then it is known who is paused, and which erasures the log has forgotten.
        if self.begun().await.is_none() {
            return;
        }
        let mut orders = self.shared.orders.subscribe();
        let (mut failures, mut rebuilds) = (0u32, 0u64);
        loop {
            let order = *orders.borrow_and_update();
            self.rebuild |= order.rebuilds > rebuilds;
            rebuilds = order.rebuilds;
            if order.paused {
                self.shared.enter(FollowerState::Paused);
                self.stream.reset(0);
                self.kept = None;
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    _ = orders.changed() => continue,
                }
            }
            let begun = Instant::now();
            let failure = match self.follow(&mut orders).await {
                Err(failure) => failure,
                Ok(ended) => Failure::Ended(ended),
            };
            if begun.elapsed() > self.config.retry_max {
                failures = 0;
            }
            match self.judge(failure) {
                Verdict::Stop => return,
                Verdict::Again => continue,
                Verdict::Rebuild => self.rebuild = true,
                Verdict::Pause => {}
            }
            let pause = self.pause(failures);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                _ = orders.changed() => orders.mark_changed(),
            }
        }
    }

    /// Waits for the replay of the log, and takes over what it says of this projection.
    async fn begun(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                ready = self.service.wait_ready() => if ready.is_ok() { break },
                () = self.stop.cancelled() => return None,
            }
            // The log cannot be read: whoever runs the server is told by others.
            tokio::select! {
                () = tokio::time::sleep(self.config.retry_max) => {}
                () = self.stop.cancelled() => return None,
            }
        }
        let paused = self.service.projection_paused(&self.shared.name);
        self.shared.orders.send_modify(|orders| orders.paused |= paused);
        Some(())
    }

    fn judge(&mut self, failure: Failure) -> Verdict {
        let (error, state, verdict) = match failure {
            Failure::Ended(Ended::Stopped) => return Verdict::Stop,
            Failure::Ended(Ended::Ordered) => return Verdict::Again,
            Failure::Target(error @ TargetError::Fenced { .. }) => (error.to_string(), FollowerState::Fenced, Verdict::Pause),
            Failure::Target(TargetError::Lost(detail)) => (detail, FollowerState::Failing, Verdict::Rebuild),
            Failure::Target(error) => (error.to_string(), FollowerState::Failing, Verdict::Pause),
            Failure::Replay(ReplayError::Erased) => (ReplayError::Erased.to_string(), FollowerState::Failing, Verdict::Rebuild),
            Failure::Replay(error) => (error.to_string(), FollowerState::Failing, Verdict::Pause),
            Failure::Service(error) => (error.to_string(), FollowerState::Failing, Verdict::Pause),
        };
        // Others may need theirs meanwhile.
        self.kept = None;
        let mut told = false;
        self.shared.note(|status| {
            status.failures += 1;
            told = status.error.as_deref() == Some(error.as_str());
            status.error = Some(error.clone());
        });
        if !told {
            tracing::warn!(projection = %self.shared.name, %error, "the projection's target failed; it is tried again");
        }
        self.shared.enter(state);
        verdict
    }

    /// Doubles with every failure, between half and the whole.
    fn pause(&self, failures: u32) -> Duration {
        let whole = self.config.retry_min.saturating_mul(1u32 << failures.min(20)).min(self.config.retry_max);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Opens the target, brings it up to date and follows, until something fails or is ordered.
    async fn follow(&mut self, orders: &mut watch::Receiver<Orders>) -> Result<Ended, Failure> {
        if self.shared.state() == FollowerState::Paused {
            self.shared.enter(FollowerState::Starting);
        }
        let standing = self.target.open(self.service.epoch()).await?;
        let known = match standing {
            Standing::At(known) if !self.rebuild => Some(known).filter(|known| !self.forgotten(*known)),
            Standing::At(_) | Standing::Fresh => None,
        };
        match known {
            Some(known) if known > self.service.last_committed() => {
                return Err(Failure::Target(TargetError::Refused(format!(
                    "the target stands at {known}, but this log ends at {}: it belongs to another log; order a rebuild to overwrite it",
                    self.service.last_committed()
                ))));
            }
            Some(known) => self.resume(known, orders).await?,
            None => self.build(orders).await?,
        }
        self.shared.enter(FollowerState::Live);
        self.live(orders).await
    }

    /// Whether the target may have rows of a user whom the log does not name any more.
    fn forgotten(&self, known: LogicalTime) -> bool {
        self.target.keeps_users() && self.service.erased_until() > known
    }

    /// Goes on from what the target knows: with what waits in memory if that fits, else with the log.
    async fn resume(&mut self, known: LogicalTime, orders: &mut watch::Receiver<Orders>) -> Result<(), Failure> {
        let stream = &mut self.stream;
        if stream.under_way.as_ref().is_some_and(|changes| changes.time == known) {
            stream.under_way = None;
            stream.base = known;
        }
        if stream.live.is_none() || stream.base != known {
            self.go_on_from(known, orders).await?;
        }
        if self.stream.under_way.is_none() {
            self.shared.pass(self.stream.base);
        }
        Ok(())
    }

    /// Brings the target up to date from a time that it has, without what waits in memory.
    async fn go_on_from(&mut self, known: LogicalTime, orders: &mut watch::Receiver<Orders>) -> Result<(), Failure> {
        self.stream.reset(known);
        if self.target.catch_up() == CatchUp::Snapshot {
            return self.build(orders).await;
        }
        self.shared.enter(FollowerState::CatchingUp);
        self.catch_up(orders).await
    }

    /// Builds the target's rows anew.
    async fn build(&mut self, orders: &mut watch::Receiver<Orders>) -> Result<(), Failure> {
        self.shared.enter(FollowerState::Rebuilding);
        tracing::info!(projection = %self.shared.name, "the projection is built anew");
        self.target.begin_rebuild().await?;
        self.stream.reset(0);
        self.kept = None;
        match self.target.catch_up() {
            CatchUp::History => self.catch_up(orders).await?,
            CatchUp::Snapshot => self.snapshot().await?,
            CatchUp::Present => self.present().await?,
        }
        self.flush().await?;
        let time = self.stream.at();
        self.target.finish_rebuild(time).await?;
        self.stream.base = time;
        self.rebuild = false;
        self.shared.pass(time);
        tracing::info!(projection = %self.shared.name, time, "the projection is complete");
        Ok(())
    }

    async fn present(&mut self) -> Result<(), Failure> {
        let live = self.service.follow(self.shared.views, Start::Now, self.config.queue_rows_max)?;
        let (live, now, settings) = begin(live).await?;
        self.stream.add(now, settings);
        self.stream.live = Some(live);
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<(), Failure> {
        let live = self.service.follow(self.shared.views, Start::Snapshot, self.config.queue_rows_max)?;
        self.stream.live = Some(live);
        let mut as_of = self.service.as_of();
        loop {
            let lost = self.drain()?;
            if self.stream.begun {
                return Ok(());
            }
            if lost {
                return Err(ReplayError::Stopped.into());
            }
            tokio::select! {
                _ = as_of.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
                () = self.stop.cancelled() => return Err(Failure::Ended(Ended::Stopped)),
            }
        }
    }

    /// Reads what is behind `self.stream` from the log and ends with a live stream that goes on from there.
    async fn catch_up(&mut self, orders: &mut watch::Receiver<Orders>) -> Result<(), Failure> {
        let known = self.stream.at();
        let Kept { mut replay, permit, .. } = match self.kept.take().filter(|kept| kept.replay.at() <= known) {
            Some(mut kept) => {
                kept.replay.knows(known);
                kept
            }
            None => self.replay(known).await?,
        };
        tracing::info!(projection = %self.shared.name, known, from = replay.at(), "the projection reads the log");
        replay.go_on(None);
        while let Some(step) = replay.next().await? {
            self.step(step, orders).await?;
        }
        // From here on the live stream has everything new; what lies between is little.
        let live = self.service.follow(self.shared.views, Start::Now, self.config.queue_rows_max)?;
        let (live, now, _) = begin(live).await?;
        if now > replay.at() {
            replay.go_on(Some(now));
            while let Some(step) = replay.next().await? {
                self.step(step, orders).await?;
            }
        }
        self.stream.live = Some(live);
        // The log may have been ahead of the views.
        self.stream.taken = now.max(replay.at());
        self.stream.gathering.time = self.stream.taken;
        self.kept = Some(Kept { replay, permit, since: Instant::now() });
        Ok(())
    }

    /// A private engine, once no other follower has one.
    async fn replay(&mut self, known: LogicalTime) -> Result<Kept, Failure> {
        let permit = tokio::select! {
            permit = self.replays.clone().acquire_owned() => permit.map_err(|_| Failure::Ended(Ended::Stopped))?,
            () = self.stop.cancelled() => return Err(Failure::Ended(Ended::Stopped)),
        };
        let replay = Replay::new(self.service.clone(), self.shared.views, known, self.target.keeps_users())?;
        Ok(Kept { replay, permit, since: Instant::now() })
    }

    async fn step(&mut self, step: Step, orders: &watch::Receiver<Orders>) -> Result<(), Failure> {
        if self.stop.is_cancelled() {
            return Err(Failure::Ended(Ended::Stopped));
        }
        if orders.has_changed().unwrap_or(true) {
            return Err(Failure::Ended(Ended::Ordered));
        }
        self.stream.add(step.time, step.changes);
        if self.stream.gathering.len() >= self.rows_max() {
            self.apply().await?;
        }
        Ok(())
    }

    async fn live(&mut self, orders: &mut watch::Receiver<Orders>) -> Result<Ended, Failure> {
        let mut as_of = self.service.as_of();
        let mut checked = Instant::now();
        let mut recorded = Instant::now();
        loop {
            as_of.borrow_and_update();
            self.kept.take_if(|kept| kept.since.elapsed() > KEEP_REPLAY);
            let lost = self.drain()?;
            let full = self.stream.gathering.len() >= self.rows_max();
            self.note_lag();
            if self.stream.under_way.is_some() || self.due() || lost {
                self.flush().await?;
                (checked, recorded) = (Instant::now(), Instant::now());
            } else if self.stream.gathering.is_empty() {
                self.idle(&mut recorded).await?;
            }
            if lost {
                tracing::warn!(projection = %self.shared.name, "more changes waited than may; the rest is read from the log");
                self.go_on_from(self.stream.base, orders).await?;
                self.shared.enter(FollowerState::Live);
                continue;
            }
            if checked.elapsed() >= self.config.check_every {
                self.target.check().await?;
                checked = Instant::now();
            }
            if orders.has_changed().unwrap_or(true) {
                self.flush().await?;
                return Ok(Ended::Ordered);
            }
            if full && !self.stop.is_cancelled() {
                // More may wait than went into one changeset.
                tokio::task::yield_now().await;
                continue;
            }
            let until_due = self.stream.since.map_or(self.config.check_every, |since| self.target.gather().saturating_sub(since.elapsed()));
            tokio::select! {
                _ = as_of.changed() => {}
                () = tokio::time::sleep(until_due.min(self.config.check_every)) => {}
                _ = orders.changed() => orders.mark_changed(),
                () = self.stop.cancelled() => {
                    self.flush().await?;
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Nothing of what this target follows has changed: it has the present time without being told, and is told now and then.
    async fn idle(&mut self, recorded: &mut Instant) -> Result<(), Failure> {
        let at = self.stream.at();
        if at > *self.shared.passed.borrow() {
            self.shared.pass(at);
        }
        if at > self.stream.base && recorded.elapsed() >= RECORD_EVERY {
            self.apply().await?;
            *recorded = Instant::now();
        }
        Ok(())
    }

    /// Takes what waits, up to about one changeset. Answers whether the stream is lost.
    fn drain(&mut self) -> Result<bool, Failure> {
        let rows_max = self.rows_max();
        self.stream.drain(rows_max).ok_or(Failure::Ended(Ended::Stopped))
    }

    fn rows_max(&self) -> usize {
        self.config.batch_rows_max.min(self.target.rows_max()).max(1)
    }

    fn due(&self) -> bool {
        let full = self.stream.gathering.len() >= self.rows_max();
        full || self.stream.since.is_some_and(|since| since.elapsed() >= self.target.gather())
    }

    fn note_lag(&self) {
        let waiting = self.stream.live.as_ref().map_or(0, Changes::waiting) + self.stream.gathering.len();
        self.shared.note(|status| status.lag_rows = waiting as u64);
    }

    /// Applies whatever is complete.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.stream.under_way.is_some() {
            self.apply().await?;
        }
        if self.stream.at() > self.stream.base || !self.stream.gathering.is_empty() {
            self.apply().await?;
        }
        Ok(())
    }

    /// Gives the target the next changeset: the one that failed before, else what has gathered.
    async fn apply(&mut self) -> Result<(), Failure> {
        let stream = &mut self.stream;
        if stream.under_way.is_none() {
            let next = Changeset { time: stream.gathering.time, ..Changeset::default() };
            stream.under_way = Some(std::mem::replace(&mut stream.gathering, next));
            stream.since = None;
        }
        let Some(changes) = &stream.under_way else { return Ok(()) };
        let applied = self.target.apply(changes).await?;
        stream.base = changes.time;
        let building = self.shared.state() == FollowerState::Rebuilding;
        self.shared.note(|status| {
            status.rows_applied += applied.rows;
            status.rows_refused += applied.refused;
        });
        if !building {
            self.shared.pass(stream.base);
        }
        stream.under_way = None;
        Ok(())
    }
}

/// Waits for the time at which a stream begins, and for the settings of the sources then.
async fn begin(live: Changes) -> Result<(Changes, LogicalTime, Vec<Change>), Failure> {
    let begun = tokio::task::spawn_blocking(move || {
        let mut settings = Vec::new();
        loop {
            match live.next() {
                Next::Changes(changes) => settings.extend(changes),
                Next::Closed(now) => return Some((live, now, settings)),
                Next::Lost | Next::End => return None,
            }
        }
    });
    begun.await.ok().flatten().ok_or(Failure::Ended(Ended::Stopped))
}

enum Verdict {
    Stop,
    Again,
    Rebuild,
    Pause,
}
