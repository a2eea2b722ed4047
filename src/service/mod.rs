//! The service: everything the server can do, behind one handle, without HTTP.
//!
//! ```text
//!  connectors, HTTP ──► queue ──► committer ──► log (durable) ──► engine ──► answers
//!                        (rows)    commit.rs     connectors        dataflows   queries.rs
//!                                      ▲
//!              settings, models, seals, erasures (training.rs, sealing.rs, erasure.rs)
//! ```
//!
//! *Architecture invariant:* whatever changes an answer passes the committer and is in the log before a view sees it. This module
//! keeps nothing of its own that a restart would lose, except gauges.

mod alerts;
mod commit;
pub mod config;
mod devices;
mod documents;
mod erasure;
mod fold;
mod labels;
mod maintenance;
pub mod occupancy;
mod queries;
mod sealing;
mod shop;
mod spaces;
mod start;
mod status;
pub mod tables;
mod touched;
mod training;
pub mod types;
mod wifi_sealing;

pub use alerts::{AlertCounts, OccupancyChange, WAITING_MAX as ALERTS_WAITING_MAX};
pub use commit::HTTP_PARTITION;
pub use config::*;
pub use devices::{KEY_KIND, KEYS_PARTITION, WifiIngestConfig};
pub use documents::Document;
pub use fold::{LogFold, SourceFold};
pub use labels::MatrixPage;
pub use occupancy::{OccupancyConfig, OccupancyNow, Privacy, Series, SeriesRequest, Shown, SpaceNow};
pub use start::Begin;
pub(crate) use start::REPLAY_ROWS;
pub use touched::{Touched, Waiting, Wide};
pub use types::*;
pub use wifi_sealing::{WifiSealingConfig, WifiSealingStatus};

use commit::{Latencies, Rate, Reply, Request};
use desireline_connectors::cold::CellCache;
use desireline_connectors::log::{LogError, LogReader};
use desireline_connectors::store::Store;
use desireline_dataflows::changes::Views;
use desireline_dataflows::engine::{Changes, Start};
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::{Engine, EngineError};
use desireline_records::validate::Validator;
use desireline_records::{
    Batch, Control, DeadLetter, Event, EventId, LogicalTime, Micros, Position, Progress, SourceId, SourceSettings, Token, UserIdType,
};
use ecow::EcoString;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

const NO_PANIC: &str = "no code panics while it holds this lock";

/// A cheap handle to the running service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

/// What connectors last said about a partition.
#[derive(Clone, Debug, Default)]
struct PartitionReport {
    lag: Option<i64>,
    error: Option<String>,
}

struct Inner {
    config: ServiceConfig,
    store: Store,
    reader: LogReader,
    engine: Engine,
    validator: Arc<Validator>,
    /// Of pseudonyms of devices.
    keys: Option<Arc<crate::privacy::Keys>>,
    fold: RwLock<LogFold>,
    /// Closed when the service stops.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    queue: Arc<Semaphore>,
    as_of: watch::Sender<LogicalTime>,
    ready: AtomicBool,
    committed: AtomicU64,
    replay: ReplayProgress,
    /// One change of history at a time per service: a deletion, a seal, an erasure, a change of settings.
    history: tokio::sync::Mutex<()>,
    training: tokio::sync::Mutex<()>,
    /// One writer of the space tree at a time.
    spaces: tokio::sync::Mutex<()>,
    /// Sealed cells that questions have met.
    cell_cache: CellCache,
    alerts: alerts::Alerts,
    wifi_sealing: wifi_sealing::State,
    trained: Mutex<HashMap<SourceId, training::LastTraining>>,
    reports: Mutex<BTreeMap<(SourceId, EcoString), PartitionReport>>,
    latency: Latencies,
    rate: Rate,
    log_error: Mutex<Option<String>>,
    /// Whether what `log_error` says can pass.
    log_interrupted: AtomicBool,
    log_bytes_appended: AtomicU64,
    log_size: Mutex<Option<(Instant, desireline_connectors::log::LogSize)>>,
    epoch: u64,
    started_at: Micros,
    erasure_errors: Mutex<BTreeMap<LogicalTime, String>>,
    maintain: tokio::sync::Notify,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct ReplayProgress {
    /// The log's last time when the replay began.
    target: AtomicU64,
    first: AtomicU64,
    at: AtomicU64,
}

impl Service {
    /// Makes rows durable (group commit) and waits until they are applied, so that the receipt can count duplicates.
    /// `Busy` when the queues are full: nothing was taken.
    pub async fn ingest(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Receipt, ServiceError> {
        self.inner.offer(events, dead_letters, Reply::Applied).await
    }

    /// Makes rows durable (group commit) without waiting for the views. `Busy` when the queues are full: nothing was taken.
    pub async fn take(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Token, ServiceError> {
        self.inner.offer(events, dead_letters, Reply::Durable).await
    }

    /// For connectors: makes rows and positions durable together. Waits while the queues are full instead of answering `Busy`.
    pub async fn commit(&self, progress: Progress) -> Result<Token, ServiceError> {
        self.inner.must_be_ready()?;
        self.inner.check_sources(&progress.events)?;
        self.inner.commit(progress).await
    }

    /// Waits until a query sees the token's batch.
    pub async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError> {
        self.inner.wait_applied(token.time, deadline).await
    }

    /// Where reading of a partition goes on: the durable position, when it was ever read.
    pub fn position(&self, source: SourceId, partition: &str) -> Option<Position> {
        let fold = self.inner.fold.read().expect(NO_PANIC);
        let state = fold.sources.get(&source)?.partitions.get(partition)?;
        let (before, after, max_time) = (state.position, state.position, state.max_time);
        Some(Position { source, partition: partition.into(), before, after, max_time })
    }

    /// The validator in force, for connectors that parse.
    pub fn validator(&self) -> Arc<Validator> {
        self.inner.validator.clone()
    }

    /// Makes sure that a source has settings in the log before its first rows. Sources with settings of their own in the
    /// configuration, or already in the log, keep them; a new one gets the defaults with this type of user id.
    pub async fn introduce_source(&self, source: SourceId, user_id_type: UserIdType) -> Result<(), ServiceError> {
        self.inner.must_be_ready()?;
        let known = self.inner.fold.read().expect(NO_PANIC).sources.get(&source).is_some_and(|s| s.recorded);
        if known {
            return Ok(());
        }
        let mut settings = self.inner.settings_of(source);
        let config = &self.inner.config;
        if !config.sources.iter().map(|(_, s)| s).chain(&config.implied).any(|s| s.source == source) {
            settings.user_id_type = user_id_type;
        }
        self.inner.commit_control(Control::Settings(settings)).await.map(drop)
    }

    /// Says where a stopped partition goes on.
    pub async fn reset_partition(&self, source: SourceId, partition: &str, position: i64) -> Result<Token, ServiceError> {
        let partition = partition.into();
        let state = desireline_records::PartitionState::Reset { source, partition, position };
        self.inner.commit_control(Control::Partition(state)).await
    }

    /// Records the state of a run; the last record of a run id counts.
    pub async fn record_run(&self, run_id: &str, body: serde_json::Value) -> Result<(), ServiceError> {
        self.inner.commit_control(Control::Run { run_id: run_id.into(), body }).await.map(drop)
    }

    /// The runs as the log has them; complete once `ready`.
    pub fn recorded_runs(&self) -> Vec<(EcoString, serde_json::Value)> {
        let fold = self.inner.fold.read().expect(NO_PANIC);
        fold.runs.iter().map(|(id, body)| (id.clone(), body.clone())).collect()
    }

    /// What connectors know about their partitions (lag, errors), shown in the status.
    pub fn report_partition(&self, source: SourceId, partition: &str, lag: Option<i64>, error: Option<String>) {
        let mut reports = self.inner.reports.lock().expect(NO_PANIC);
        let report = reports.entry((source, partition.into())).or_default();
        if let Some(error) = error.as_ref().filter(|error| report.error.as_ref() != Some(*error)) {
            tracing::error!(source, partition, %error, "a partition has stopped");
        }
        *report = PartitionReport { lag, error };
    }

    /// Retracts one event. `NotFound` when no open event has the id.
    pub async fn delete_event(&self, source: SourceId, id: EventId) -> Result<Token, ServiceError> {
        self.inner.must_be_ready()?;
        let _history = self.inner.history.lock().await;
        let (_, parts) = self.inner.ask(Query::FindEvent { source, id }).await?;
        if !parts.iter().any(|part| matches!(part, Answer::FindEvent(true))) {
            let detail =
                format!("source {source} has no open event with this id; events of sealed sessions can only be erased with their user");
            return Err(ServiceError::NotFound(detail));
        }
        let token = self.inner.commit_control(Control::DeleteEvent { source, id }).await?;
        self.inner.wait_applied(token.time, self.inner.config.peek_deadline).await?;
        Ok(token)
    }

    /// The time at which queries are answered now. Moves on with every applied batch.
    pub fn as_of(&self) -> watch::Receiver<LogicalTime> {
        self.inner.as_of.subscribe()
    }

    /// Whether the log has been replayed.
    pub fn ready(&self) -> bool {
        self.inner.ready.load(Ordering::Acquire)
    }

    /// Waits until the log has been replayed.
    pub async fn wait_ready(&self) -> Result<(), ServiceError> {
        let mut as_of = self.inner.as_of.subscribe();
        while !self.ready() {
            if let Some(error) = self.inner.log_error.lock().expect(NO_PANIC).clone() {
                return Err(ServiceError::Unavailable(error));
            }
            drop(tokio::time::timeout(Duration::from_millis(50), as_of.changed()).await);
        }
        Ok(())
    }

    /// Follows the changes of views; see [`desireline_dataflows::changes`].
    pub fn follow(&self, views: Views, start: Start, rows_max: usize) -> Result<Changes, ServiceError> {
        self.inner.engine.subscribe(views, start, rows_max).map_err(|error| self.inner.engine_error(&error))
    }
}

impl Inner {
    fn must_be_ready(&self) -> Result<(), ServiceError> {
        if let Some(error) = self.log_error.lock().expect(NO_PANIC).as_ref() {
            return Err(ServiceError::Unavailable(error.clone()));
        }
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(ServiceError::NotReady("the log is being replayed; see /api/status for the progress".to_owned()))
    }

    /// Places of a request in the queue. A request larger than the queue takes all of it.
    fn places(&self, rows: usize) -> u32 {
        u32::try_from(rows.clamp(1, self.config.commit.queue_rows_max.max(1))).unwrap_or(u32::MAX)
    }

    fn check_sources(&self, events: &[Event]) -> Result<(), ServiceError> {
        let fold = self.fold.read().expect(NO_PANIC);
        if fold.sources.len() < commit::SOURCES_MAX || events.iter().all(|event| fold.sources.contains_key(&event.source)) {
            return Ok(());
        }
        let detail = format!("there are {} sources already, which is the limit", commit::SOURCES_MAX);
        Err(ServiceError::Invalid { field: "source_id", detail })
    }

    /// Rows that are taken only if there is room for them now.
    async fn offer<T>(
        &self,
        events: Vec<Event>,
        dead_letters: Vec<DeadLetter>,
        reply: impl FnOnce(oneshot::Sender<Result<T, ServiceError>>) -> Reply,
    ) -> Result<T, ServiceError> {
        self.must_be_ready()?;
        self.check_sources(&events)?;
        let rows = self.places(events.len() + dead_letters.len());
        let permit = self.queue.clone().try_acquire_many_owned(rows).map_err(|_| ServiceError::Busy { retry_after_s: 1 })?;
        let (to, answer) = oneshot::channel();
        self.request(Progress { events, dead_letters, ..Progress::default() }, reply(to), permit).await?;
        answer.await.map_err(|_| ServiceError::Unavailable("the service is stopping".to_owned()))?
    }

    async fn commit(&self, progress: Progress) -> Result<Token, ServiceError> {
        let rows = self.places(progress.events.len() + progress.dead_letters.len());
        let permit = self.queue.clone().acquire_many_owned(rows).await;
        let permit = permit.map_err(|_| ServiceError::Unavailable("the service is stopping".to_owned()))?;
        let (reply, answer) = oneshot::channel();
        self.request(progress, Reply::Durable(reply), permit).await?;
        answer.await.map_err(|_| ServiceError::Unavailable("the service is stopping".to_owned()))?
    }

    async fn commit_control(&self, control: Control) -> Result<Token, ServiceError> {
        self.must_be_ready()?;
        self.commit(Progress { controls: vec![control], ..Progress::default() }).await
    }

    async fn request(&self, progress: Progress, reply: Reply, permit: tokio::sync::OwnedSemaphorePermit) -> Result<(), ServiceError> {
        let stopped = || match self.log_error.lock().expect(NO_PANIC).as_ref() {
            Some(error) => ServiceError::Unavailable(error.clone()),
            None => ServiceError::Unavailable("the service is stopping".to_owned()),
        };
        let sender = self.requests.lock().expect(NO_PANIC).clone().ok_or_else(stopped)?;
        sender.send(Request { progress, reply, since: Instant::now(), permit }).await.map_err(|_| stopped())
    }

    async fn wait_applied(&self, time: LogicalTime, deadline: Duration) -> Result<(), ServiceError> {
        let mut as_of = self.as_of.subscribe();
        match tokio::time::timeout(deadline, as_of.wait_for(|now| *now >= time)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ServiceError::NotReady(format!("the write was not visible within {} ms", deadline.as_millis()))),
        }
    }

    /// Asks the workers; see [`Query`].
    async fn ask(&self, query: Query) -> Result<(LogicalTime, Vec<Answer>), ServiceError> {
        let (to, answer) = oneshot::channel();
        let asked = move |inner: &Self| inner.engine.peek(query, move |time, parts| drop(to.send((time, parts))));
        asked(self).map_err(|error| self.engine_error(&error))?;
        match tokio::time::timeout(self.config.peek_deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ServiceError::Unavailable("the views have stopped".to_owned())),
            Err(_) => Err(ServiceError::NotReady(format!("no answer within {} ms", self.config.peek_deadline.as_millis()))),
        }
    }

    fn engine_error(&self, error: &EngineError) -> ServiceError {
        match error {
            EngineError::Stopped => ServiceError::Unavailable("the views have stopped".to_owned()),
            error => ServiceError::Internal(error.to_string()),
        }
    }

    /// The settings that a source has by configuration.
    fn settings_of(&self, source: SourceId) -> SourceSettings {
        let own = self.config.sources.iter().find(|(_, settings)| settings.source == source);
        let own = own.map(|(_, settings)| settings).or_else(|| self.config.implied.iter().find(|settings| settings.source == source));
        own.map_or_else(|| SourceSettings { source, ..self.config.source_defaults.clone() }, SourceSettings::clone)
    }

    fn note_commit(&self, batch: &Batch, bytes: u64) {
        self.committed.store(batch.time, Ordering::Release);
        self.log_bytes_appended.fetch_add(bytes, Ordering::Relaxed);
        self.rate.add(batch.time, batch.events.len() as u64);
    }

    fn note_applied(&self, time: LogicalTime) {
        self.as_of.send_if_modified(|now| {
            let moved = time > *now;
            *now = time.max(*now);
            moved
        });
    }

    /// Nothing was written, and writing is tried again with every tick.
    fn log_interrupted(&self, error: &LogError) {
        let mut shown = self.log_error.lock().expect(NO_PANIC);
        if !self.log_interrupted.swap(true, Ordering::AcqRel) {
            tracing::error!(code = error.code(), %error, "the log cannot be written; this server only answers queries until it can");
        }
        *shown = Some(format!("the log cannot be written: {error} ({}); it is tried again", error.hint()));
    }

    fn log_works(&self) {
        let mut shown = self.log_error.lock().expect(NO_PANIC);
        if self.log_interrupted.swap(false, Ordering::AcqRel) {
            *shown = None;
            tracing::info!("the log can be written again");
        }
    }

    fn log_lost(&self, error: &LogError) {
        let detail = format!("the log cannot be written: {error} ({})", error.hint());
        tracing::error!(code = error.code(), %error, "the log is lost; this server only answers queries from now on");
        let mut shown = self.log_error.lock().expect(NO_PANIC);
        self.log_interrupted.store(false, Ordering::Release);
        *shown = Some(format!("{detail}; restart this server"));
    }

    fn views_lost(&self, detail: &str) {
        let mut shown = self.log_error.lock().expect(NO_PANIC);
        self.log_interrupted.store(false, Ordering::Release);
        shown.get_or_insert(format!("the views have stopped: {detail}"));
    }
}
