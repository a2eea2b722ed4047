//! The live stream: one task watches the views for everybody who watches the page.
//!
//! *What it promises.* However many subscribers there are, the service is asked once per look; without any it is not asked
//! at all. A look takes at most a tenth of the time (the pause grows with the work), so watching never slows ingest down by
//! much. A subscriber sees every change in order, or is told `resync` and gets a snapshot; it is never shown a mixture.
//!
//! *How.* The hub keeps what it saw last (the picture) and a ring of the newest frames, both behind one lock; whoever joins
//! takes the picture and its place in the broadcast under that lock, so nothing is lost or repeated in between. Frames are
//! numbered; `Last-Event-ID` finds a place in the ring as long as the hub has watched without a break.
//!
//! *Limits.* Subscribers, frames a slow one may lag behind, and cells in a snapshot are settings ([`LiveConfig`]).
//!
//! # Known limitations
//! - The view is compared, not followed: two opposite changes within one look are not seen.
//! - `corrections_per_minute` counts what the hub has seen, so it begins at 0 with the first subscriber.

mod cells;
mod frames;
mod occupancy;
pub(super) mod subscription;

use super::backend::{Backend, Followers};
use super::config::LiveConfig;
use super::error::ApiError;
use super::wire::{Cluster, StatusReply};
use crate::metrics::Metrics;
use crate::service::{OccupancyChange, Status};
use axum::http::StatusCode;
use cells::Cells;
use desireline_records::{LogicalTime, Micros, SourceId, time};
use frames::{Body, ClustersFrame, MinutesFrame, SourceClusters, StatusFrame};
use futures::FutureExt;
use occupancy::Occupied;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, watch};

/// How far back the cells of the stream reach.
const SPAN: Micros = time::HOUR;
/// Status and clusters are looked at this often.
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// One look may take this part of the time between two.
const SHARE: u32 = 10;

/// A frame and its place in the stream.
#[derive(Debug)]
struct Frame {
    number: u64,
    body: Body,
}

/// What the hub saw last.
#[derive(Default)]
struct Picture {
    /// There was a first look: what is missing now is not to be had yet.
    looked: bool,
    as_of: LogicalTime,
    status: Option<Box<StatusFrame>>,
    cells: Option<Cells>,
    clusters: BTreeMap<SourceId, SourceClusters>,
    /// The time at which the spaces were looked at, and what was there.
    occupied: Option<(LogicalTime, Occupied)>,
    /// When corrected cells were seen, and how many.
    corrections: VecDeque<(Instant, u64)>,
}

struct State {
    subscribers: usize,
    /// The task is running.
    watching: bool,
    /// Changes with every break in watching: numbers of different eras cannot be compared.
    era: u64,
    /// The number of the newest frame.
    number: u64,
    ring: VecDeque<Arc<Frame>>,
    picture: Picture,
}

/// The one hub of a server.
pub struct LiveHub {
    backend: Arc<dyn Backend>,
    followers: Arc<dyn Followers>,
    metrics: Arc<Metrics>,
    config: LiveConfig,
    state: Mutex<State>,
    frames: broadcast::Sender<Arc<Frame>>,
    /// Looks finished, ever.
    looks: watch::Sender<u64>,
    closed: watch::Sender<bool>,
}

impl LiveHub {
    pub fn new(backend: Arc<dyn Backend>, followers: Arc<dyn Followers>, metrics: Arc<Metrics>, config: LiveConfig) -> Arc<Self> {
        let state = State {
            subscribers: 0,
            watching: false,
            era: rand::random::<u64>() >> 16,
            number: 0,
            ring: VecDeque::new(),
            picture: Picture::default(),
        };
        Arc::new(Self {
            backend,
            followers,
            metrics,
            frames: broadcast::Sender::new(config.queue_frames.max(1)),
            config,
            state: Mutex::new(state),
            looks: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        })
    }

    /// Ends all streams, so that a shutdown need not wait for them.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a subscriber in, or refuses it.
    fn join(self: &Arc<Self>) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.subscribers >= self.config.subscribers_max {
            let detail = format!("{} streams are open already", state.subscribers);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail).retry(5));
        }
        state.subscribers += 1;
        self.metrics.subscribers(state.subscribers);
        if !state.watching {
            state.watching = true;
            tokio::spawn(Arc::clone(self).keep_watching());
        }
        Ok(())
    }

    fn leave(&self) {
        let mut state = self.lock();
        state.subscribers -= 1;
        self.metrics.subscribers(state.subscribers);
    }

    /// A look that panics must not leave the subscribers without a hub.
    async fn keep_watching(self: Arc<Self>) {
        while AssertUnwindSafe(self.watch()).catch_unwind().await.is_err() {
            self.metrics.panicked();
            tracing::error!("looking at the views for the live stream panicked");
            tokio::time::sleep(SLOW_EVERY).await;
        }
    }

    /// Looks at the views until nobody watches.
    async fn watch(&self) {
        let mut slow_at: Option<Instant> = None;
        let mut closed = self.closed.subscribe();
        let mut alerts = self.backend.alerts();
        loop {
            let began = Instant::now();
            let is_slow_due = slow_at.is_none_or(|at| began.duration_since(at) >= SLOW_EVERY);
            if is_slow_due {
                slow_at = Some(began);
                self.look_at_status().await;
            }
            self.look_at_minutes().await;
            self.look_at_spaces().await;
            self.pass_on(&mut alerts);
            self.lock().picture.looked = true;
            self.looks.send_modify(|looks| *looks += 1);
            let pause = self.config.poll_every.max(began.elapsed() * SHARE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = closed.wait_for(|closed| *closed) => return,
            }
            let mut state = self.lock();
            if state.subscribers == 0 {
                state.watching = false;
                state.era += 1;
                state.ring.clear();
                state.picture = Picture::default();
                return;
            }
        }
    }

    async fn look_at_status(&self) {
        // Before the replay has finished there is a status, but no view: the page shows the progress.
        let Ok(status) = self.backend.status().await else { return };
        let clusters = self.look_at_clusters(&status).await;
        let mut state = self.lock();
        let as_of = status.as_of;
        let frame = Box::new(StatusFrame {
            status: StatusReply::new(status, self.followers.list()),
            corrections_per_minute: state.picture.corrections_per_minute(),
        });
        state.picture.status = Some(frame.clone());
        self.publish(&mut state, Body::Status(frame));
        let changed: Vec<SourceClusters> =
            clusters.into_iter().filter(|(source, now)| state.picture.clusters.get(source) != Some(now)).map(|(_, now)| now).collect();
        if !changed.is_empty() {
            state.picture.clusters.extend(changed.iter().map(|now| (now.source_id, now.clone())));
            self.publish(&mut state, Body::Clusters(ClustersFrame { as_of, sources: changed }));
        }
    }

    async fn look_at_clusters(&self, status: &Status) -> BTreeMap<SourceId, SourceClusters> {
        let mut seen = BTreeMap::new();
        if !self.backend.ready() {
            return seen;
        }
        for source in status.sources.iter().map(|source| source.source_id) {
            let Ok(answer) = self.backend.clusters(source, None).await else { continue };
            let value = answer.value;
            let clusters = value.clusters.into_iter().map(Cluster::from).collect();
            seen.insert(source, SourceClusters { source_id: source, model_version: value.model_version, users: value.users, clusters });
        }
        seen
    }

    async fn look_at_minutes(&self) {
        if !self.backend.ready() {
            return;
        }
        // Without a new batch nothing can have changed.
        let is_known = |state: &State| state.picture.cells.is_some() && state.picture.as_of == self.backend.as_of();
        if is_known(&self.lock()) {
            return;
        }
        let from = time::now_micros() - SPAN;
        let Ok(answer) = self.backend.minutes(None, from, None).await else { return };
        let newer = Cells::new(answer.value, self.config.cells_max);
        let mut state = self.lock();
        state.picture.as_of = answer.as_of;
        let Some(older) = state.picture.cells.take() else {
            // Whoever came before the views were ready waits for this.
            let (truncated, cells) = (newer.truncated, newer.snapshot(None));
            state.picture.cells = Some(newer);
            let corrections_per_minute = state.picture.corrections_per_minute();
            let frame = MinutesFrame { as_of: answer.as_of, snapshot: true, truncated, corrections_per_minute, cells };
            return self.publish(&mut state, Body::Minutes(frame));
        };
        let cells = older.changes(&newer, from - time::MINUTE);
        state.picture.cells = Some(newer);
        if cells.is_empty() {
            return;
        }
        let corrected = cells.iter().filter(|cell| cell.correction).count() as u64;
        if corrected > 0 {
            self.metrics.corrected(corrected);
            state.picture.corrections.push_back((Instant::now(), corrected));
        }
        let corrections_per_minute = state.picture.corrections_per_minute();
        let frame = MinutesFrame { as_of: answer.as_of, snapshot: false, truncated: false, corrections_per_minute, cells };
        self.publish(&mut state, Body::Minutes(frame));
    }

    async fn look_at_spaces(&self) {
        let is_known = |state: &State| state.picture.occupied.as_ref().is_some_and(|(as_of, _)| *as_of == self.backend.as_of());
        if !self.backend.ready() || is_known(&self.lock()) {
            return;
        }
        let Ok(answer) = self.backend.occupancy_now(None).await else { return };
        let newer = Occupied::new(answer.value, self.backend.privacy(), self.config.cells_max);
        let mut state = self.lock();
        let older = state.picture.occupied.take();
        let older = older.map(|(_, older)| older).filter(|older| older.has_spaces);
        // Where there never was a space nobody is told of any.
        let frame = match &older {
            Some(older) => Some(older.frame(answer.as_of, Some(&newer))),
            None => newer.has_spaces.then(|| newer.frame(answer.as_of, None)),
        };
        let moved = older.is_none_or(|older| older.begin != newer.begin);
        state.picture.occupied = Some((answer.as_of, newer));
        if let Some(frame) = frame.filter(|frame| frame.snapshot || moved || !frame.cells.is_empty()) {
            self.publish(&mut state, Body::Occupancy(frame));
        }
    }

    /// Alerts since the last look.
    fn pass_on(&self, alerts: &mut broadcast::Receiver<Arc<OccupancyChange>>) {
        loop {
            match alerts.try_recv() {
                Ok(change) => self.publish(&mut self.lock(), Body::OccupancyChange(change)),
                Err(TryRecvError::Lagged(missed)) => tracing::warn!(missed, "alerts were not shown live: too many came at once"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn publish(&self, state: &mut State, body: Body) {
        state.number += 1;
        let frame = Arc::new(Frame { number: state.number, body });
        if state.ring.len() >= self.config.queue_frames.max(1) {
            state.ring.pop_front();
        }
        state.ring.push_back(Arc::clone(&frame));
        // Nobody listening is no error: the subscriber that woke the hub takes the picture.
        let _ = self.frames.send(frame);
    }
}

impl Picture {
    fn corrections_per_minute(&mut self) -> u64 {
        while self.corrections.front().is_some_and(|(at, _)| at.elapsed() > Duration::from_secs(60)) {
            self.corrections.pop_front();
        }
        self.corrections.iter().map(|(_, cells)| cells).sum()
    }

    /// The frames that show everything at once.
    fn frames(&mut self, source: Option<SourceId>) -> Vec<Body> {
        let mut bodies: Vec<Body> = self.status.iter().cloned().map(Body::Status).collect();
        let corrections_per_minute = self.corrections_per_minute();
        if let Some(cells) = &self.cells {
            let (as_of, truncated) = (self.as_of, cells.truncated);
            bodies.push(Body::Minutes(MinutesFrame {
                as_of,
                snapshot: true,
                truncated,
                corrections_per_minute,
                cells: cells.snapshot(source),
            }));
        }
        if !self.clusters.is_empty() {
            let sources = self.clusters.values().cloned().collect();
            bodies.push(Body::Clusters(ClustersFrame { as_of: self.as_of, sources }));
        }
        if let Some((as_of, occupied)) = self.occupied.as_ref().filter(|(_, occupied)| occupied.has_spaces) {
            bodies.push(Body::Occupancy(occupied.frame(*as_of, None)));
        }
        bodies
    }
}

#[cfg(test)]
mod tests;
