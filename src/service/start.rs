//! Starting and stopping: open the log, replay it, then take work.

use super::commit::{self, Committer, Durable, Latencies, Rate};
use super::{Inner, LogFold, NO_PANIC, ReplayProgress, Service, ServiceConfig, ServiceError};
use desireline_connectors::cold::CellCache;
use desireline_connectors::log::{CompactionLimits, Compactor, LogConfig, LogError, LogWriter};
use desireline_connectors::store::Store;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::time::now_micros;
use desireline_records::validate::Validator;
use desireline_records::{Control, LogicalTime, Progress};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, watch};

/// The shard of this release.
const SHARD: u16 = 0;
/// Rows of the log that a replay hands to the views at once.
pub(crate) const REPLAY_ROWS: usize = 32_768;
/// Commands waiting per worker. Few, because a query waits behind them.
const ENGINE_QUEUE: usize = 2;
/// Durable batches on their way to the workers.
const DURABLE_QUEUE: usize = 2;
/// Requests waiting for the committer; the rows among them are bounded by `queue_rows_max`.
const REQUEST_QUEUE: usize = 4_096;

fn unavailable(error: &LogError) -> ServiceError {
    ServiceError::Unavailable(format!("{error} ({})", error.hint()))
}

impl Service {
    /// Opens the log and begins; see [`Service::open`] and [`Begin::begin`].
    pub async fn start(config: ServiceConfig) -> Result<Self, ServiceError> {
        let (service, begin) = Self::open(config).await?;
        begin.begin(Vec::new());
        Ok(service)
    }

    /// Opens (and fences) the log and starts the workers, which have nothing to do until [`Begin::begin`]: who follows the views from
    /// a time on subscribes in between.
    pub async fn open(config: ServiceConfig) -> Result<(Self, Begin), ServiceError> {
        let (wifi, keys) = config.wifi_ingest.open()?;
        let store = Store::open(&config.store_url, &config.store_options)
            .map_err(|error| ServiceError::Unavailable(format!("{error} ({})", error.hint())))?;
        let compaction =
            CompactionLimits { segments_min: config.compaction.segments_min, part_bytes_max: config.compaction.part_bytes_max };
        let log = LogConfig { compaction, ..LogConfig::new(SHARD) };
        let writer = LogWriter::open(store.clone(), log).await.map_err(|error| unavailable(&error))?;
        let engine = EngineConfig { workers: config.workers, queue_batches: ENGINE_QUEUE, max_open_events: config.max_open_events };
        let engine = Engine::start(engine).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let validator = Validator { words: config.words.clone(), max_future: config.max_future, wifi };
        let inner = Arc::new(Inner {
            queue: Arc::new(Semaphore::new(config.commit.queue_rows_max.max(1))),
            store,
            reader: writer.reader(),
            engine,
            validator: Arc::new(validator),
            keys,
            fold: RwLock::new(LogFold::default()),
            requests: Mutex::new(Some(requests)),
            as_of: watch::Sender::new(0),
            ready: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            replay: ReplayProgress::default(),
            history: tokio::sync::Mutex::new(()),
            training: tokio::sync::Mutex::new(()),
            spaces: tokio::sync::Mutex::new(()),
            cell_cache: CellCache::new(config.occupancy.cell_cache_bytes),
            alerts: super::alerts::Alerts::default(),
            wifi_sealing: super::wifi_sealing::State::default(),
            trained: Mutex::new(HashMap::new()),
            reports: Mutex::new(BTreeMap::new()),
            latency: Latencies::default(),
            rate: Rate::default(),
            log_error: Mutex::new(None),
            log_interrupted: AtomicBool::new(false),
            log_bytes_appended: AtomicU64::new(0),
            log_size: Mutex::new(None),
            epoch: writer.epoch(),
            started_at: now_micros(),
            erasure_errors: Mutex::new(BTreeMap::new()),
            maintain: tokio::sync::Notify::new(),
            tasks: Mutex::new(Vec::new()),
            stopping: watch::Sender::new(false),
            config,
        });
        Ok((Self { inner: inner.clone() }, Begin { inner, writer, queue }))
    }

    /// Stops taking work, commits what was taken, stops the workers.
    pub async fn stop(&self) {
        self.inner.stopping.send_replace(true);
        drop(self.inner.requests.lock().expect(NO_PANIC).take());
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().expect(NO_PANIC));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the service ended by a panic");
            }
        }
        let inner = self.inner.clone();
        drop(tokio::task::spawn_blocking(move || inner.engine.stop()).await);
    }
}

/// A service that has not begun.
pub struct Begin {
    inner: Arc<Inner>,
    writer: LogWriter,
    queue: mpsc::Receiver<commit::Request>,
}

impl Begin {
    /// The time of the log's last batch.
    pub fn last_time(&self) -> LogicalTime {
        self.writer.last_time()
    }

    /// Begins the replay and returns at once; [`Service::ready`] tells when it has finished. It stops over at the times `ends`, so that
    /// followers who know a view as of one of them can go on from there.
    pub fn begin(self, ends: Vec<LogicalTime>) {
        let Self { inner, writer, queue } = self;
        let task = tokio::spawn(run(inner.clone(), writer, queue, ends));
        inner.tasks.lock().expect(NO_PANIC).push(task);
    }
}

/// Replays the log, then commits until the service stops.
async fn run(inner: Arc<Inner>, writer: LogWriter, queue: mpsc::Receiver<commit::Request>, ends: Vec<LogicalTime>) {
    let (views, durable) = mpsc::channel(DURABLE_QUEUE);
    let applier = inner.clone();
    let applier = tokio::task::spawn_blocking(move || commit::apply_durable(&applier, durable));
    if let Err(error) = replay(&inner, &writer, &views, ends).await {
        inner.log_lost(&error);
        drop(views);
        drop(applier.await);
        return;
    }
    let compactor = writer.compactor();
    let committer = tokio::spawn(Committer::new(inner.clone(), writer, queue, views).run());
    inner.ready.store(true, Ordering::Release);
    let recorded = match record_settings(&inner).await {
        Ok(()) => inner.check_keys().await,
        failed => failed,
    };
    let maintenance = match recorded {
        Ok(()) => Some(maintain(&inner, compactor)),
        Err(error) => {
            tracing::error!(%error, "the settings of the sources could not be recorded");
            None
        }
    };
    for task in [committer, applier].into_iter().chain(maintenance.into_iter().flatten()) {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task of the service ended by a panic");
            inner.views_lost("a task ended by a panic");
        }
    }
}

fn maintain(inner: &Arc<Inner>, compactor: Compactor) -> Vec<tokio::task::JoinHandle<()>> {
    vec![
        tokio::spawn(inner.clone().train_loop()),
        tokio::spawn(inner.clone().seal_loop()),
        tokio::spawn(inner.clone().alert_loop()),
        tokio::spawn(inner.clone().wifi_loop()),
        tokio::spawn(inner.clone().compact_loop(compactor)),
    ]
}

async fn replay(inner: &Arc<Inner>, writer: &LogWriter, views: &mpsc::Sender<Durable>, ends: Vec<LogicalTime>) -> Result<(), LogError> {
    let last = writer.last_time();
    inner.replay.target.store(last, Ordering::Release);
    let mut batches = inner.reader.batches_ending(0, REPLAY_ROWS, ends);
    let mut seen = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        seen = batch.time;
        inner.replay.first.compare_exchange(0, seen, Ordering::AcqRel, Ordering::Acquire).ok();
        inner.replay.at.store(seen, Ordering::Release);
        inner.fold.write().expect(NO_PANIC).apply(&batch);
        if views.send(Durable::replayed(batch)).await.is_err() || *inner.stopping.borrow() {
            return Ok(());
        }
    }
    inner.committed.store(seen, Ordering::Release);
    let mut as_of = inner.as_of.subscribe();
    let mut stopping = inner.stopping.subscribe();
    tokio::select! {
        _ = as_of.wait_for(|now| *now >= seen) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    Ok(())
}

/// Sources of the configuration whose settings the log does not have, or has differently.
async fn record_settings(inner: &Arc<Inner>) -> Result<(), ServiceError> {
    let changed: Vec<Control> = {
        let fold = inner.fold.read().expect(NO_PANIC);
        let same = |settings: &desireline_records::SourceSettings| {
            fold.sources.get(&settings.source).is_some_and(|s| s.recorded && s.settings == *settings)
        };
        let met = |settings: &&desireline_records::SourceSettings| fold.sources.get(&settings.source).is_some_and(|s| s.recorded);
        let implied = inner.config.implied.iter().filter(met);
        let all = inner.config.sources.iter().map(|(_, s)| s).chain(implied);
        all.filter(|s| !same(s)).map(|s| Control::Settings(s.clone())).collect()
    };
    if changed.is_empty() {
        return Ok(());
    }
    let _history = inner.history.lock().await;
    inner.commit(Progress { controls: changed, ..Progress::default() }).await.map(drop)
}
