//! Followers over a real service, with a target that is a map in memory and fails in every way that it may.

use super::*;
use crate::config::{Config, mapping};
use crate::service::Service;
use async_trait::async_trait;
use desireline_dataflows::changes::{RowKey, View, ViewRow, Views};
use desireline_dataflows::reference::Reference;
use desireline_records::time::{MINUTE, SECOND, now_micros};
use desireline_records::{
    CatalogEntry, ContextSettings, DeadLetter, Event, EventId, Fixed4, Item, LogicalTime, Micros, Movement, SourceId, SourceSettings, Token,
};
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SHOP: SourceId = 7;

/// What the target keeps, whichever server writes to it.
#[derive(Default)]
struct Memory {
    rows: BTreeMap<RowKey, ViewRow>,
    shadow: Option<BTreeMap<RowKey, ViewRow>>,
    applied: Option<LogicalTime>,
    epoch: u64,
    rebuilds: u32,
    /// Percent of calls that fail.
    failing: u32,
    random: Option<StdRng>,
    /// The rows vanish: the next check says so.
    dropped: bool,
    /// How long a changeset takes.
    takes: Duration,
}

struct MemoryTarget {
    memory: Arc<Mutex<Memory>>,
    epoch: u64,
    catch_up: CatchUp,
    views: Views,
}

impl MemoryTarget {
    fn boxed(memory: &Arc<Mutex<Memory>>) -> Box<dyn Target> {
        Box::new(Self { memory: memory.clone(), epoch: 0, catch_up: CatchUp::History, views: View::ALL.into_iter().collect() })
    }
}

impl Memory {
    fn fails(&mut self) -> bool {
        let random = self.random.get_or_insert_with(|| StdRng::seed_from_u64(1));
        random.random_range(0..100) < self.failing
    }

    fn failure<T>(&mut self) -> Result<T, TargetError> {
        Err(TargetError::Unavailable("a fault of the test".to_owned()))
    }

    fn put(&mut self, changes: &Changeset) {
        let rows = self.shadow.as_mut().unwrap_or(&mut self.rows);
        rows.retain(|key, _| key.user().is_none_or(|(source, user)| !changes.erased.contains(&(source, user.clone()))));
        for key in changes.taken() {
            rows.remove(key);
        }
        for row in changes.put() {
            if let ViewRow::Event { content, .. } = row {
                assert!(content.0.is_some() || rows.contains_key(&row.key()), "an event that is only renumbered must be there: {row:?}");
            }
            rows.insert(row.key(), row.clone());
        }
        self.applied = Some(changes.time);
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn name(&self) -> &str {
        "memory"
    }

    fn views(&self) -> Views {
        self.views
    }

    fn catch_up(&self) -> CatchUp {
        self.catch_up
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        let mut memory = self.memory.lock().unwrap();
        if memory.fails() {
            return memory.failure();
        }
        if memory.epoch > epoch {
            return Err(TargetError::Fenced { own: epoch, newer: memory.epoch });
        }
        (memory.epoch, self.epoch) = (epoch, epoch);
        if std::mem::take(&mut memory.dropped) {
            memory.applied = None;
        }
        // A rebuild that was not finished starts over.
        let unfinished = memory.shadow.take().is_some();
        Ok(memory.applied.filter(|_| !unfinished).map_or(Standing::Fresh, Standing::At))
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        let mut memory = self.memory.lock().unwrap();
        memory.shadow = Some(BTreeMap::new());
        memory.rebuilds += 1;
        Ok(())
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let takes = self.memory.lock().unwrap().takes;
        tokio::time::sleep(takes).await;
        let mut memory = self.memory.lock().unwrap();
        if memory.epoch > self.epoch {
            return Err(TargetError::Fenced { own: self.epoch, newer: memory.epoch });
        }
        if memory.dropped {
            return Err(TargetError::Lost("the rows are gone".to_owned()));
        }
        if memory.fails() {
            return memory.failure();
        }
        assert!(memory.shadow.is_some() || memory.applied.is_some_and(|applied| applied <= changes.time), "times run on");
        memory.put(changes);
        // Applied, but nobody learns of it.
        if memory.fails() { memory.failure() } else { Ok(Applied { rows: changes.len() as u64, refused: 0 }) }
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        let mut memory = self.memory.lock().unwrap();
        if memory.fails() {
            return memory.failure();
        }
        memory.rows = memory.shadow.take().expect("a rebuild began");
        memory.applied = Some(time);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        let memory = self.memory.lock().unwrap();
        if memory.dropped { Err(TargetError::Lost("the rows are gone".to_owned())) } else { Ok(()) }
    }
}

/// A service with one follower.
struct Running {
    service: Service,
    projections: Projections,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

fn quick() -> FollowerConfig {
    FollowerConfig {
        queue_rows_max: 100,
        batch_rows_max: 40,
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(10),
        check_every: Duration::from_millis(20),
    }
}

async fn start(folder: &Path, target: Box<dyn Target>) -> Running {
    let mut config = Config::default();
    config.data.dir = folder.to_owned();
    config.engine.tick_every = Duration::from_millis(100);
    config.erasure.deadline = Duration::from_secs(3_600);
    let mut settings = mapping::service(&config);
    let context = Some(ContextSettings { items: 3, ..ContextSettings::default() });
    settings.sources = vec![("shop".to_owned(), SourceSettings { context, ..SourceSettings::defaults(SHOP) })];
    let (service, begin) = Service::open(settings).await.expect("the service opens");
    let stop = CancellationToken::new();
    let prepared = prepare(&service, vec![target], &quick(), &stop).await;
    begin.begin(prepared.ends.clone());
    let mut tasks = JoinSet::new();
    let projections = prepared.begin(&mut tasks);
    service.wait_ready().await.expect("the log is replayed");
    Running { service, projections, tasks, stop }
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no follower panics");
        }
        self.service.stop().await;
    }

    fn status(&self) -> ProjectionStatus {
        self.projections.list().remove(0)
    }

    async fn until(&self, what: &str, condition: impl Fn(&ProjectionStatus) -> bool) -> ProjectionStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what} did not happen: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the target has everything, and compares it with the slow reference over the log.
    async fn compare(&self, memory: &Arc<Mutex<Memory>>) {
        memory.lock().unwrap().failing = 0;
        let last = self.service.last_committed();
        self.until("catching up", |status| status.state == FollowerState::Live && status.applied.is_some_and(|applied| applied >= last))
            .await;
        // The server goes on by itself: it trains. The target is true at the time that it has.
        let (rows, applied) = {
            let memory = memory.lock().unwrap();
            (memory.rows.clone(), memory.applied.expect("a time"))
        };
        let mut reference = Reference::default();
        let mut batches = self.service.log_reader().batches(0, 0);
        while let Some(batch) = batches.next().await {
            let batch = batch.expect("the log can be read");
            if batch.time <= applied {
                reference.apply(&batch);
            }
        }
        let mut expected = reference.rows();
        expected.sort_by_key(ViewRow::key);
        let got: Vec<&ViewRow> = rows.values().filter(|row| !matches!(row, ViewRow::Source(_))).collect();
        for (got, want) in got.iter().zip(&expected) {
            assert_eq!(*got, want);
        }
        assert_eq!(got.len(), expected.len());
    }
}

fn event(random: &mut StdRng, now: Micros) -> Event {
    let number = random.random_range(0..400);
    let word = [("view", Movement::View), ("purchase", Movement::Transaction), ("rate", Movement::None)][number % 3];
    Event {
        source: SHOP,
        movement: word.1,
        late: false,
        // An id says what the event is, so that repeats are duplicates; times lie in disorder.
        time: now - (number as i64 * 37 % 180) * MINUTE - (number as i64 % 7) * SECOND,
        id: EventId::explicit(&format!("e{number}")),
        value: Fixed4(number as i64 * 10_000),
        user: format!("{}", number % 17).into(),
        event_type: word.0.into(),
        page: format!("/{}", number % 5).into(),
        item: format!("i{}", number % 9).into(),
        extra: None,
        stay: None,
    }
}

/// Some writes of every kind.
async fn write(service: &Service, random: &mut StdRng, now: Micros, rounds: usize) {
    for _ in 0..rounds {
        match random.random_range(2..20) {
            4 | 5 => {
                let id = EventId::explicit(&format!("e{}", random.random_range(0..400)));
                // Most ids are not there, or not any more.
                drop(service.delete_event(SHOP, id).await);
            }
            2 | 3 => {
                let asin = format!("i{}", random.random_range(0..9)).into();
                let category = Some(format!("c{}", random.random_range(0..3)).into());
                let item = Item { asin, parent_asin: "p".into(), variant: None, primary_image: None, category };
                service.put_catalog(vec![CatalogEntry::Item(Arc::new(item))]).await.expect("kept");
            }
            _ => {
                let events = (0..random.random_range(1..30)).map(|_| event(random, now)).collect();
                service.ingest(events, Vec::<DeadLetter>::new()).await.expect("ingested");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_the_target_ends_up_true() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(Mutex::new(Memory { random: Some(StdRng::seed_from_u64(seed)), ..Memory::default() }));
        let mut random = StdRng::seed_from_u64(seed);
        let now = now_micros() - MINUTE;
        for _ in 0..3 {
            let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
            memory.lock().unwrap().failing = 15;
            write(&running.service, &mut random, now, 20).await;
            let user = random.random_range(0..17).to_string();
            running.service.erase_user(SHOP, &user).await.expect("erased");
            write(&running.service, &mut random, now, 20).await;
            if seed % 2 == 0 {
                running.compare(&memory).await;
            }
            // Otherwise it is stopped wherever the follower is.
            running.stop().await;
        }
        let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
        running.compare(&memory).await;
        running.stop().await;
    }
}

/// The queue overflows again and again, and each time the rest comes from the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_slower_than_what_comes_is_true_in_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    running.until("being live", |status| status.state == FollowerState::Live).await;
    memory.lock().unwrap().takes = Duration::from_millis(30);
    let (mut random, now) = (StdRng::seed_from_u64(21), now_micros() - MINUTE);
    let mut behind = 0;
    for _ in 0..10 {
        for _ in 0..12 {
            let events = (0..20).map(|_| event(&mut random, now)).collect();
            running.service.ingest(events, Vec::new()).await.expect("ingested");
        }
        behind += u32::from(running.status().state == FollowerState::CatchingUp);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(behind > 0, "it fell behind");
    running.compare(&memory).await;
    assert_eq!((memory.lock().unwrap().rebuilds, running.status().failures), (1, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_target_stands_without_building_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut random = StdRng::seed_from_u64(3);
    let now = now_micros() - MINUTE;
    for round in 0..3 {
        let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
        let events = (0..30).map(|_| event(&mut random, now)).collect();
        running.service.ingest(events, Vec::new()).await.expect("ingested");
        running.compare(&memory).await;
        assert_eq!((memory.lock().unwrap().rebuilds, running.status().failures), (1, 0), "round {round}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_target_misses_comes_from_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut random = StdRng::seed_from_u64(9);
    let now = now_micros() - MINUTE;
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    write(&running.service, &mut random, now, 10).await;
    running.compare(&memory).await;
    running.projections.pause("memory", true).await.expect("paused");
    running.until("a pause", |status| status.state == FollowerState::Paused).await;
    let stands = memory.lock().unwrap().applied;
    let refused = running.projections.rebuild("memory").await.expect_err("it is paused");
    assert_eq!(refused.code(), "conflict");
    write(&running.service, &mut random, now, 10).await;
    running.stop().await;
    // It is paused over a restart.
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    running.until("a pause", |status| status.state == FollowerState::Paused).await;
    assert_eq!(memory.lock().unwrap().applied, stands);
    assert!(!running.projections.wait_passed("memory", Token { shard: 0, time: LogicalTime::MAX }, Duration::from_secs(30)).await);
    running.projections.pause("memory", false).await.expect("resumed");
    running.compare(&memory).await;
    assert_eq!(memory.lock().unwrap().rebuilds, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_vanish_are_built_anew_and_so_is_what_an_operator_orders() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut random = StdRng::seed_from_u64(5);
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    write(&running.service, &mut random, now_micros() - MINUTE, 10).await;
    running.compare(&memory).await;
    {
        let mut memory = memory.lock().unwrap();
        memory.rows.clear();
        memory.dropped = true;
    }
    running.until("a rebuild", |_| memory.lock().unwrap().rebuilds == 2).await;
    running.compare(&memory).await;
    memory.lock().unwrap().rows.clear();
    running.projections.rebuild("memory").await.expect("ordered");
    running.until("a rebuild", |_| memory.lock().unwrap().rebuilds == 3).await;
    running.compare(&memory).await;
    assert_eq!(running.projections.rebuild("other").await.expect_err("no such projection").code(), "not_found");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_cannot_write() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let memory = Arc::new(Mutex::new(Memory::default()));
    let running = start(folders[0].path(), MemoryTarget::boxed(&memory)).await;
    running.compare(&memory).await;
    let newer = running.service.epoch() + 1;
    memory.lock().unwrap().epoch = newer;
    let stands = memory.lock().unwrap().applied;
    let mut random = StdRng::seed_from_u64(5);
    write(&running.service, &mut random, now_micros() - MINUTE, 3).await;
    let status = running.until("fencing", |status| status.state == FollowerState::Fenced).await;
    assert!(status.error.is_some_and(|error| error.contains(&format!("epoch {newer}"))));
    assert_eq!(memory.lock().unwrap().applied, stands);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_another_log_is_left_alone_until_a_rebuild_is_ordered() {
    let folder = tempfile::tempdir().expect("a folder");
    let ahead = u64::try_from(now_micros() / 1_000).expect("now") + 3_600_000;
    let memory = Arc::new(Mutex::new(Memory { applied: Some(ahead), ..Memory::default() }));
    let stranger = ViewRow::Erased { source: 1, user: "stranger".into() };
    memory.lock().unwrap().rows.insert(stranger.key(), stranger);
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    let status = running.until("a refusal", |status| status.state == FollowerState::Failing).await;
    assert!(status.error.is_some_and(|error| error.contains("another log")));
    assert_eq!(memory.lock().unwrap().rows.len(), 1);
    running.projections.rebuild("memory").await.expect("ordered");
    running.compare(&memory).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_target_has_what_is_current() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let target = || {
        let (memory, catch_up, views) = (memory.clone(), CatchUp::Snapshot, Views::from(View::Context));
        Box::new(MemoryTarget { memory, epoch: 0, catch_up, views }) as Box<dyn Target>
    };
    let running = start(folder.path(), target()).await;
    let mut random = StdRng::seed_from_u64(5);
    let events: Vec<Event> = (0..200).map(|_| Event { time: now_micros() - SECOND, ..event(&mut random, now_micros()) }).collect();
    let receipt = running.service.ingest(events, Vec::new()).await.expect("ingested");
    running.until("being live", |status| status.state == FollowerState::Live).await;
    assert!(running.projections.wait_passed("memory", receipt.token, Duration::from_secs(10)).await);
    let contexts = || {
        let memory = memory.lock().unwrap();
        memory.rows.values().filter(|row| matches!(row, ViewRow::Context(_))).cloned().collect::<Vec<_>>()
    };
    let before = contexts();
    assert_eq!(before.len(), 17);
    running.projections.rebuild("memory").await.expect("ordered");
    running.until("a rebuild", |status| memory.lock().unwrap().rebuilds == 2 && status.state == FollowerState::Live).await;
    assert_eq!(contexts(), before);
    running.stop().await;
}

/// Once an erasure has been carried out the log cannot tell whose rows a target that missed it has to give up.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_missed_an_erasure_is_built_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut random = StdRng::seed_from_u64(11);
    let running = start(folder.path(), MemoryTarget::boxed(&memory)).await;
    let events = (0..60).map(|_| event(&mut random, now_micros())).collect();
    running.service.ingest(events, Vec::new()).await.expect("ingested");
    running.compare(&memory).await;
    running.projections.pause("memory", true).await.expect("paused");
    running.until("a pause", |status| status.state == FollowerState::Paused).await;
    running.service.erase_user(SHOP, "3").await.expect("erased");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !running.service.status().await.expect("a status").erasures.is_empty() {
        assert!(Instant::now() < deadline, "the erasure is not carried out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.projections.pause("memory", false).await.expect("resumed");
    running.compare(&memory).await;
    let memory = memory.lock().unwrap();
    assert_eq!(memory.rebuilds, 2);
    assert!(memory.rows.keys().all(|key| key.user().is_none_or(|(_, user)| user != "3")));
}
