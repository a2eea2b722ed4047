//! Group commit: from requests to durable batches, and on to the views.
//!
//! Requests wait in one queue. The committer takes what is there (until it has `rows_max` rows or the oldest has waited
//! `age_max`), makes one batch of it at the next logical time, makes that durable, and only then hands it to the workers and
//! answers. While a batch is being written the next one gathers, so the group grows with the load by itself.
//!
//! Promises:
//! * an answer follows the durable segment, never the other way round;
//! * rows of one request are in one batch, requests of one connector keep their order;
//! * a request that cannot be made durable is answered with an error, and nothing of it is ever applied;
//! * at most `queue_rows_max` rows wait for the log or the views.
//!
//! When the log cannot be written but could be later (disk full, read-only folder), nothing is taken, every request is
//! `Unavailable`, and each tick tries again; the first one that succeeds opens the door. When the log is lost (fenced by another
//! server, an append whose outcome nobody knows) the committer stops for good. Queries go on in both cases.

use super::fold::LogFold;
use super::{Inner, Receipt, ServiceError};
use desireline_connectors::log::{LogError, LogWriter};
use desireline_dataflows::Applied;
use desireline_records::time::now_micros;
use desireline_records::{Batch, Control, Event, LogicalTime, Micros, PartitionKey, PartitionState, Position, Progress, SourceId, Token};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// The partition of rows that come by HTTP.
pub const HTTP_PARTITION: &str = "http";

/// Sources that one deployment may have.
pub const SOURCES_MAX: usize = 10_000;

pub type DurableReply = oneshot::Sender<Result<Token, ServiceError>>;
pub type AppliedReply = oneshot::Sender<Result<Receipt, ServiceError>>;

pub enum Reply {
    /// Answer when it is durable.
    Durable(DurableReply),
    /// Answer when the views have it.
    Applied(AppliedReply),
}

impl Reply {
    fn refuse(self, error: ServiceError) {
        match self {
            Self::Durable(reply) => drop(reply.send(Err(error))),
            Self::Applied(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Rows on their way into the log.
pub struct Request {
    pub progress: Progress,
    pub reply: Reply,
    pub since: Instant,
    /// Places in the queue, held until the views have the rows.
    pub permit: OwnedSemaphorePermit,
}

/// A durable batch on its way to the workers.
pub struct Durable {
    pub batch: Arc<Batch>,
    waiting: Vec<Waiting>,
}

impl Durable {
    /// A batch of the replay: nobody waits for it.
    pub fn replayed(batch: Batch) -> Self {
        Self { batch: Arc::new(batch), waiting: Vec::new() }
    }
}

struct Waiting {
    rows: Range<u32>,
    reply: Option<AppliedReply>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

pub struct Committer {
    inner: Arc<Inner>,
    writer: LogWriter,
    requests: mpsc::Receiver<Request>,
    views: mpsc::Sender<Durable>,
    /// When each partition last had rows, for idleness; not part of the log.
    active: HashMap<(SourceId, PartitionKey), Instant>,
    last_tick: Instant,
}

impl Committer {
    pub fn new(inner: Arc<Inner>, writer: LogWriter, requests: mpsc::Receiver<Request>, views: mpsc::Sender<Durable>) -> Self {
        let last_tick = Instant::now();
        Self { inner, writer, requests, views, active: HashMap::new(), last_tick }
    }

    /// Commits until the queue is closed or the log is lost.
    pub async fn run(mut self) {
        loop {
            let Some(group) = self.gather().await else { break };
            match self.commit(group).await {
                Ok(()) => self.inner.log_works(),
                Err(error) if self.writer.is_open() => self.inner.log_interrupted(&error),
                Err(error) => {
                    self.inner.log_lost(&error);
                    self.refuse_rest(&error).await;
                    break;
                }
            }
        }
    }

    /// The next group of requests; an empty group when it is time for a tick; nothing when the service stops.
    async fn gather(&mut self) -> Option<Vec<Request>> {
        let config = self.inner.config.commit.clone();
        let next_tick = self.last_tick + config.tick_every;
        let first = tokio::select! {
            request = self.requests.recv() => request?,
            () = tokio::time::sleep_until(next_tick.into()) => return Some(Vec::new()),
        };
        let deadline = first.since + config.age_max;
        let mut rows = first.progress.events.len();
        let mut group = vec![first];
        while rows < config.rows_max {
            let next = match self.requests.try_recv() {
                Ok(request) => request,
                Err(_) if Instant::now() >= deadline => break,
                Err(_) => match tokio::time::timeout_at(deadline.into(), self.requests.recv()).await {
                    Ok(Some(request)) => request,
                    Ok(None) | Err(_) => break,
                },
            };
            rows += next.progress.events.len();
            group.push(next);
        }
        Some(group)
    }

    async fn commit(&mut self, group: Vec<Request>) -> Result<(), LogError> {
        if let Err(error) = self.record_new_sources(&group).await {
            group.into_iter().for_each(|request| request.reply.refuse(unwritable(&error)));
            return Err(error);
        }
        let mut batch = Batch::default();
        let (mut durable, mut waiting) = (Vec::new(), Vec::new());
        let mut by_http: BTreeMap<SourceId, (i64, Option<Micros>)> = BTreeMap::new();
        let mut reached: BTreeMap<(SourceId, PartitionKey), i64> = BTreeMap::new();
        for request in group {
            if let Err(error) = self.check_positions(&mut reached, &request.progress.positions) {
                request.reply.refuse(error);
                continue;
            }
            let from = batch.events.len() as u32;
            if request.progress.positions.is_empty() {
                count_rows(&mut by_http, &request.progress.events);
            }
            let Progress { mut events, mut dead_letters, mut controls, mut positions } = request.progress;
            batch.events.append(&mut events);
            batch.dead_letters.append(&mut dead_letters);
            batch.controls.append(&mut controls);
            batch.positions.append(&mut positions);
            let mut wait = Waiting { rows: from..batch.events.len() as u32, reply: None, since: request.since, _permit: request.permit };
            match request.reply {
                Reply::Durable(reply) => durable.push(reply),
                Reply::Applied(reply) => wait.reply = Some(reply),
            }
            waiting.push(wait);
        }
        merge_positions(&mut batch.positions);
        batch.positions.extend(http_positions(&self.inner.fold.read().expect(super::NO_PANIC), by_http));
        self.note_activity(&mut batch);
        let token = match self.append(&mut batch).await {
            Ok(token) => token,
            Err(error) => {
                durable.into_iter().for_each(|reply| drop(reply.send(Err(unwritable(&error)))));
                waiting.into_iter().filter_map(|w| w.reply).for_each(|reply| drop(reply.send(Err(unwritable(&error)))));
                return Err(error);
            }
        };
        for reply in durable {
            drop(reply.send(Ok(token)));
        }
        self.hand_over(Durable { batch: Arc::new(batch), waiting }).await;
        Ok(())
    }

    /// Rows must continue where the log stands: a connector that repeats what is durable already, or leaves something out, has
    /// to ask for the position again.
    fn check_positions(&self, reached: &mut BTreeMap<(SourceId, PartitionKey), i64>, positions: &[Position]) -> Result<(), ServiceError> {
        let fold = self.inner.fold.read().expect(super::NO_PANIC);
        for position in positions {
            let key = (position.source, position.partition.clone());
            let durable = fold.sources.get(&position.source).and_then(|s| s.partitions.get(&position.partition)).map(|p| p.position);
            if let Some(at) = reached.get(&key).copied().or(durable).filter(|at| *at != position.before) {
                let detail = format!("partition {} stands at {at}, the rows begin at {}", position.partition, position.before);
                return Err(ServiceError::Conflict(detail));
            }
        }
        reached.extend(positions.iter().map(|p| ((p.source, p.partition.clone()), p.after)));
        Ok(())
    }

    /// Gives the batch its time and makes it durable.
    async fn append(&mut self, batch: &mut Batch) -> Result<Token, LogError> {
        let now = now_micros();
        if self.last_tick.elapsed() >= self.inner.config.commit.tick_every {
            batch.tick = Some(now);
            self.last_tick = Instant::now();
        }
        let clock = u64::try_from(now / 1_000).unwrap_or(0);
        batch.time = clock.max(self.writer.last_time() + 1);
        self.inner.fold.read().expect(super::NO_PANIC).complete(batch);
        let appended = self.writer.append(batch).await?;
        self.inner.fold.write().expect(super::NO_PANIC).apply(batch);
        self.inner.note_commit(batch, appended.bytes);
        Ok(batch.token())
    }

    async fn hand_over(&self, durable: Durable) {
        if self.views.send(durable).await.is_err() {
            tracing::error!("the views have stopped; committed rows will be seen after a restart");
        }
    }

    /// Rows of a source only ever follow its settings: sources that the log has not met get theirs in a batch of their own.
    async fn record_new_sources(&mut self, group: &[Request]) -> Result<(), LogError> {
        let mut met = BTreeSet::new();
        let mut told = BTreeSet::new();
        for request in group {
            let progress = &request.progress;
            let mut last = None;
            for event in progress.events.iter().filter(|event| last.replace(event.source) != Some(event.source)) {
                met.insert(event.source);
            }
            met.extend(progress.dead_letters.iter().map(|letter| letter.source));
            told.extend(progress.controls.iter().filter_map(|c| if let Control::Settings(s) = c { Some(s.source) } else { None }));
        }
        let new: Vec<SourceId> = {
            let fold = self.inner.fold.read().expect(super::NO_PANIC);
            met.difference(&told).copied().filter(|source| !fold.sources.get(source).is_some_and(|s| s.recorded)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let key = new.contains(&self.inner.config.wifi_ingest.source).then(|| self.inner.key_record()).flatten();
        let settings = new.into_iter().map(|source| Control::Settings(self.inner.settings_of(source)));
        let mut batch = Batch { controls: settings.chain(key).collect(), ..Batch::default() };
        self.append(&mut batch).await?;
        self.hand_over(Durable::replayed(batch)).await;
        Ok(())
    }

    /// Keeps the partitions' idleness: those with rows become active, those without for a while idle. Only matters, and is only
    /// recorded, where a source has several.
    fn note_activity(&mut self, batch: &mut Batch) {
        let now = Instant::now();
        let fold = self.inner.fold.read().expect(super::NO_PANIC);
        for position in &batch.positions {
            self.active.insert((position.source, position.partition.clone()), now);
            let known = fold.sources.get(&position.source).and_then(|s| s.partitions.get(&position.partition));
            if known.is_some_and(|p| p.idle) {
                let (source, partition) = (position.source, position.partition.clone());
                batch.controls.push(Control::Partition(PartitionState::Active { source, partition }));
            }
        }
        if self.last_tick.elapsed() < self.inner.config.commit.tick_every {
            return;
        }
        // Loads that are over have left the log's partitions.
        let lives = |(source, partition): &(SourceId, PartitionKey)| {
            fold.sources.get(source).is_some_and(|s| s.partitions.contains_key(partition))
                || batch.positions.iter().any(|p| p.partition == *partition)
        };
        self.active.retain(|key, _| lives(key));
        for (source, state) in fold.sources.iter().filter(|(_, s)| s.partitions.len() > 1) {
            for (partition, _) in state.partitions.iter().filter(|(_, p)| !p.idle && !p.held) {
                let last = *self.active.entry((*source, partition.clone())).or_insert(now);
                if now.duration_since(last) >= self.inner.config.commit.idle_after {
                    let (source, partition) = (*source, partition.clone());
                    batch.controls.push(Control::Partition(PartitionState::Idle { source, partition }));
                }
            }
        }
    }

    /// The log is lost: nobody must wait for ever.
    async fn refuse_rest(&mut self, error: &LogError) {
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            request.reply.refuse(unwritable(error));
        }
    }
}

fn unwritable(error: &LogError) -> ServiceError {
    ServiceError::Unavailable(format!("the log cannot be written: {error} ({})", error.hint()))
}

/// One position per partition: requests of one group that continue each other become one range.
fn merge_positions(positions: &mut Vec<Position>) {
    let mut merged: BTreeMap<(SourceId, PartitionKey), Position> = BTreeMap::new();
    for position in positions.drain(..) {
        match merged.get_mut(&(position.source, position.partition.clone())) {
            Some(known) => {
                known.after = position.after;
                known.max_time = known.max_time.max(position.max_time);
            }
            None => {
                merged.insert((position.source, position.partition.clone()), position);
            }
        }
    }
    positions.extend(merged.into_values());
}

/// Hands durable batches to the workers, on a thread of its own because that blocks while they are busy.
pub fn apply_durable(inner: &Arc<Inner>, mut durable: mpsc::Receiver<Durable>) {
    while let Some(Durable { batch, waiting }) = durable.blocking_recv() {
        let done = inner.clone();
        let token = batch.token();
        let submitted = inner.engine.submit(batch, move |applied| {
            done.note_applied(applied.time);
            answer(&done, token, waiting, &applied);
        });
        if let Err(error) = submitted {
            tracing::error!(%error, "a durable batch could not be handed to the views");
            inner.views_lost(&error.to_string());
            return;
        }
    }
}

/// Tells everybody who waits for the views what became of their rows.
fn answer(inner: &Inner, token: Token, waiting: Vec<Waiting>, applied: &Applied) {
    for wait in waiting {
        let range = |rows: &[u32]| rows.partition_point(|r| *r < wait.rows.end) - rows.partition_point(|r| *r < wait.rows.start);
        let duplicates = range(&applied.duplicates) as u64;
        let inserted = (wait.rows.len() as u64).saturating_sub(duplicates);
        inner.latency.record(wait.since.elapsed());
        if let Some(reply) = wait.reply {
            drop(reply.send(Ok(Receipt { token, inserted, duplicates })));
        }
    }
}

/// Rows without a position of their own, per source: how many, and their largest time.
fn count_rows(rows: &mut BTreeMap<SourceId, (i64, Option<Micros>)>, events: &[Event]) {
    for event in events {
        let entry = rows.entry(event.source).or_default();
        entry.0 += 1;
        entry.1 = Some(event.time).max(entry.1);
    }
}

/// The position of rows that come by HTTP is their count, so that their times take part in the watermark.
fn http_positions(fold: &LogFold, rows: BTreeMap<SourceId, (i64, Option<Micros>)>) -> Vec<Position> {
    let position = |(source, (count, max_time)): (SourceId, (i64, Option<Micros>))| {
        let before = fold.sources.get(&source).and_then(|s| s.partitions.get(HTTP_PARTITION)).map_or(0, |p| p.position);
        Position { source, partition: HTTP_PARTITION.into(), before, after: before + count, max_time }
    };
    rows.into_iter().map(position).collect()
}

/// Latencies of the last minute, for the status.
#[derive(Default)]
pub struct Latencies {
    recent: std::sync::Mutex<std::collections::VecDeque<(Instant, f64)>>,
}

/// Latencies kept, at most; above it the oldest go first.
const LATENCIES_MAX: usize = 20_000;

impl Latencies {
    pub fn record(&self, latency: Duration) {
        let mut recent = self.recent.lock().expect(super::NO_PANIC);
        if recent.len() >= LATENCIES_MAX {
            recent.pop_front();
        }
        recent.push_back((Instant::now(), latency.as_secs_f64() * 1e3));
    }

    /// (p50, p99) in milliseconds; zeros when there were none.
    pub fn quantiles(&self) -> (f64, f64) {
        let mut recent = self.recent.lock().expect(super::NO_PANIC);
        while recent.front().is_some_and(|(at, _)| at.elapsed() > Duration::from_secs(60)) {
            recent.pop_front();
        }
        let mut values: Vec<f64> = recent.iter().map(|(_, ms)| *ms).collect();
        drop(recent);
        values.sort_by(f64::total_cmp);
        let at = |q: f64| values.get(((values.len() as f64 * q) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0);
        (at(0.5), at(0.99))
    }
}

/// Events committed per second, over the last ten.
#[derive(Default)]
pub struct Rate {
    seconds: std::sync::Mutex<std::collections::VecDeque<(u64, u64)>>,
}

impl Rate {
    pub fn add(&self, time: LogicalTime, events: u64) {
        let mut seconds = self.seconds.lock().expect(super::NO_PANIC);
        let second = time / 1_000;
        match seconds.back_mut() {
            Some((last, count)) if *last == second => *count += events,
            _ => seconds.push_back((second, events)),
        }
        while seconds.len() > 11 {
            seconds.pop_front();
        }
    }

    pub fn per_second(&self, now: Micros) -> f64 {
        let now = u64::try_from(now / 1_000_000).unwrap_or(0);
        let seconds = self.seconds.lock().expect(super::NO_PANIC);
        seconds.iter().filter(|(second, _)| *second < now && *second + 10 >= now).map(|(_, count)| *count as f64).sum::<f64>() / 10.0
    }
}
