//! Datasets over sessions that a test makes up, a log in memory and objects in a folder. Nothing sleeps: tests wait for conditions.

use super::book::Documents;
use super::plan::tests::{campus, space};
use super::*;
use crate::runs::{RetryPolicy, RunStatus, RunStore, RunsConfig};
use crate::service::{Document, ServiceError};
use async_trait::async_trait;
use desireline_connectors::bins::Bin;
use desireline_dataflows::engine::Changes;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::{DAY, HOUR};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use tempfile::TempDir;
use tokio::sync::Semaphore;

const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps what is recorded, and can refuse.
#[derive(Default)]
struct Log {
    documents: Mutex<BTreeMap<(EcoString, EcoString), Value>>,
    runs: Mutex<BTreeMap<String, Value>>,
    commits: AtomicUsize,
    refuses: AtomicBool,
}

impl Log {
    fn of(&self, kind: &str) -> Vec<(EcoString, Value)> {
        let documents = self.documents.lock().unwrap();
        documents.iter().filter(|((k, _), _)| k == kind).map(|((_, key), body)| (key.clone(), body.clone())).collect()
    }
}

#[async_trait]
impl Documents for Log {
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
        tokio::task::yield_now().await;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(ServiceError::Unavailable("disk full".to_owned()));
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        let mut known = self.documents.lock().unwrap();
        for Document { kind, key, body } in documents {
            match body {
                Value::Null => drop(known.remove(&(kind, key))),
                body => drop(known.insert((kind, key), body)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RunStore for Log {
    async fn record(&self, run_id: &str, body: Value) -> Result<(), ServiceError> {
        self.runs.lock().unwrap().insert(run_id.to_owned(), body);
        Ok(())
    }
}

/// What a question ends in.
#[derive(Clone, Debug, Default)]
enum Mood {
    #[default]
    Well,
    Down,
    Broken,
    /// The root can be asked for, nothing else.
    Slow,
}

/// Spaces, and one device in each given bin of a space.
struct Fake {
    spaces: Mutex<Vec<Space>>,
    bins: Mutex<BTreeSet<(SpaceId, Micros)>>,
    mood: Mutex<Mood>,
    counts: AtomicUsize,
    /// Closed: counting waits.
    gate: Semaphore,
}

impl Fake {
    fn new(bins: &[(SpaceId, Micros)]) -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS >> 4);
        let (spaces, bins) = (Mutex::new(campus()), Mutex::new(bins.iter().copied().collect()));
        Self { spaces, bins, mood: Mutex::default(), counts: AtomicUsize::new(0), gate }
    }

    fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn act(&self) -> Result<(), SessionsError> {
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Well => Ok(()),
            Mood::Down => Err(SessionsError::Unavailable("nobody there".to_owned())),
            Mood::Broken => Err(SessionsError::Refused("relation \"user_ap_trajectory\" does not exist".to_owned())),
            Mood::Slow => std::future::pending().await,
        }
    }
}

async fn limited<T>(limit: Option<Duration>, work: impl Future<Output = Result<T, SessionsError>>) -> Result<T, SessionsError> {
    match limit {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or(Err(SessionsError::Unavailable("took long".to_owned()))),
    }
}

#[async_trait]
impl Sessions for Fake {
    fn is_live(&self) -> bool {
        false
    }

    async fn space(&self, id: SpaceId, _: Duration) -> Result<Option<Space>, SessionsError> {
        if !matches!(*self.mood.lock().unwrap(), Mood::Slow) {
            self.act().await?;
        }
        Ok(self.spaces.lock().unwrap().iter().find(|space| space.space_id == id).cloned())
    }

    async fn search(&self, _: Option<&str>, _: usize, _: usize, _: Duration) -> Result<Vec<Space>, SessionsError> {
        Ok(self.spaces.lock().unwrap().clone())
    }

    async fn roots(&self, _: Duration) -> Result<Vec<Space>, SessionsError> {
        Ok(Vec::new())
    }

    async fn children(&self, _: SpaceId, _: Duration) -> Result<Vec<Space>, SessionsError> {
        Ok(Vec::new())
    }

    async fn subtree(&self, _: SpaceId, limit: Option<Duration>) -> Result<Vec<Space>, SessionsError> {
        limited(limit, self.act()).await?;
        Ok(self.spaces.lock().unwrap().clone())
    }

    async fn discover(&self, _: SpaceId, range: Range, limit: Option<Duration>) -> Result<Discovery, SessionsError> {
        limited(limit, self.act()).await?;
        let bins = self.bins.lock().unwrap();
        let times = || bins.iter().map(|(_, time)| *time);
        let bounds = times().min().zip(times().max().map(|last| last + HOUR));
        let mut active = Active::new();
        if let Some((start, end)) = range.settle(bounds) {
            for window in record::windows(start, end, range.chunk_days) {
                let spaces: BTreeSet<SpaceId> = bins.iter().filter(|(_, t)| (window.0..window.1).contains(t)).map(|(s, _)| *s).collect();
                if !spaces.is_empty() {
                    active.insert(window, spaces);
                }
            }
        }
        Ok(Discovery { bounds, active })
    }

    async fn own(&self, space: SpaceId, _: u32, window: (Micros, Micros)) -> Result<Counted, SessionsError> {
        self.gate.acquire().await.expect("never closed").forget();
        self.act().await?;
        self.counts.fetch_add(1, Ordering::SeqCst);
        let bins = self.bins.lock().unwrap();
        let own = bins.iter().filter(|(id, time)| *id == space && (window.0..window.1).contains(time));
        let bins: Vec<Bin> = own.map(|(_, time)| (*time, 1)).collect();
        Ok(Counted { bins, as_of: None })
    }

    async fn wholes(&self, _: &[SpaceId], _: u32, _: (Micros, Micros)) -> Result<Option<Vec<Counted>>, SessionsError> {
        Ok(None)
    }

    fn tree(&self) -> Result<Option<Tree>, SessionsError> {
        Ok(None)
    }

    fn follow(&self, _: usize) -> Result<Option<Changes>, SessionsError> {
        Ok(None)
    }
}

struct World {
    occupancy: Occupancy,
    runs: Runs,
    log: Arc<Log>,
    fake: Arc<Fake>,
    folder: Arc<TempDir>,
}

impl World {
    fn new(bins: &[(SpaceId, Micros)]) -> Self {
        Self::begin(Arc::default(), Arc::new(Fake::new(bins)), Arc::new(tempfile::tempdir().unwrap()))
    }

    fn begin(log: Arc<Log>, fake: Arc<Fake>, folder: Arc<TempDir>) -> Self {
        let quick = RetryPolicy { retries: 2, delay: Duration::from_millis(1), jitter: 0.0, constant: true };
        let config = OccupancyConfig {
            answer_within: Duration::from_millis(100),
            retries: quick,
            pause: Duration::from_millis(5),
            chunks_max: 50,
            rows_max: 3,
            ..OccupancyConfig::default()
        };
        let runs = Runs::new(RunsConfig::default(), Arc::clone(&log) as Arc<dyn RunStore>);
        let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).unwrap();
        let sessions: Arc<dyn Sessions> = Arc::clone(&fake) as _;
        let occupancy = Occupancy::new(config, sessions, store, runs.clone(), Arc::clone(&log) as Arc<dyn Documents>);
        let recorded: Vec<(String, Value)> = log.runs.lock().unwrap().clone().into_iter().collect();
        runs.restore(recorded);
        occupancy.begin(|kind| log.of(kind));
        Self { occupancy, runs, log, fake, folder }
    }

    /// The server stops in an orderly way, and another takes its place.
    async fn restart(self) -> Self {
        self.occupancy.stop().await;
        self.runs.stop().await;
        Self::begin(self.log, self.fake, self.folder)
    }

    async fn create(&self, root: SpaceId, days: std::ops::Range<i64>) -> Dataset {
        self.occupancy.create(request(root, days)).await.unwrap()
    }

    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    async fn wait(&self, id: u64, state: State) -> Results {
        let look = async || self.occupancy.results(id, None).await.ok().filter(|results| results.state == state);
        self.until(state.word(), look).await
    }

    async fn rows(&self, id: u64) -> Vec<Bin> {
        self.wait(id, State::Completed).await.rows.unwrap().rows
    }

    fn run_count(&self) -> usize {
        self.runs.list(1_000, None).len()
    }
}

fn request(root: SpaceId, days: std::ops::Range<i64>) -> NewDataset {
    NewDataset {
        name: "d".to_owned(),
        root_space_id: root,
        start_time: Some(days.start * DAY),
        end_time: Some(days.end * DAY),
        interval_seconds: 3_600,
        chunk_days: 1,
        ..NewDataset::default()
    }
}

#[tokio::test]
async fn rooms_are_added_up_and_only_new_windows_are_counted() {
    let world = World::new(&[(1000, 0), (1001, 0), (1000, HOUR), (1010, DAY)]);
    let d1 = world.create(10, 0..1).await;
    assert_eq!((d1.state, d1.dataset_id), (State::Running, 1));
    assert_eq!(world.rows(1).await, [(0, 2), (HOUR, 1)]);
    assert_eq!(world.run_count(), 4);
    world.create(10, 0..2).await;
    assert_eq!(world.rows(2).await, [(0, 2), (HOUR, 1), (DAY, 1)]);
    assert_eq!((world.run_count(), world.fake.counts.load(Ordering::SeqCst)), (7, 3));
    let d3 = world.create(10, 1..2).await;
    assert_eq!((d3.state, d3.row_count), (State::Completed, Some(1)));
    let floor = world.create(100, 0..1).await;
    assert_eq!((floor.state, world.run_count()), (State::Completed, 7), "a floor was counted on the way");
}

#[tokio::test]
async fn a_chunk_that_changes_opens_those_that_added_it_up() {
    let world = World::new(&[(1000, 0)]);
    world.create(1, 0..1).await;
    assert_eq!(world.rows(1).await, [(0, 1)]);
    world.fake.bins.lock().unwrap().extend([(1010, HOUR), (1000, 2 * HOUR)]);
    world.create(10, 0..1).await;
    assert_eq!(world.rows(2).await, [(0, 1), (HOUR, 1)], "the new room, not the new session of the old one");
    let campus = async || world.occupancy.results(1, None).await.unwrap().rows.filter(|rows| rows.total == 2);
    world.until("the campus", campus).await;
    let forced = NewDataset { force_overwrite: true, ..request(10, 0..1) };
    let id = world.occupancy.create(forced).await.unwrap().dataset_id;
    assert_eq!(world.rows(id).await, [(0, 1), (HOUR, 1), (2 * HOUR, 1)]);
}

#[tokio::test]
async fn a_failure_is_told_at_once_and_can_be_tried_again() {
    let world = World::new(&[(1000, 0), (1010, DAY)]);
    // Planned first, then everything breaks.
    let gate = world.fake.gate.forget_permits(Semaphore::MAX_PERMITS);
    world.create(10, 0..2).await;
    world.fake.feel(Mood::Broken);
    world.fake.gate.add_permits(gate);
    let failed = world.wait(1, State::Failed).await;
    assert_eq!(failed.error.as_deref(), Some("Source chunk SQL failed: relation \"user_ap_trajectory\" does not exist"));
    assert_eq!((failed.completed_chunks, failed.total_chunks), (0, 2));
    let dataset = world.occupancy.get(1).unwrap();
    assert_eq!((dataset.state, dataset.error), (State::Failed, failed.error));
    world.until("both to fail", async || (world.runs.list(9, Some(RunStatus::Failure)).len() == 2).then_some(())).await;
    let all_failed =
        async || (world.occupancy.inner.book.read().chunks.values().filter(|c| c.state == State::Failed).count() == 2).then_some(());
    world.until("both chunks to fail", all_failed).await;
    world.fake.feel(Mood::Well);
    let nothing = world.occupancy.retry(1, Some(101)).await.unwrap();
    assert_eq!(nothing, Retried { reset: 1, resubmitted: 1 }, "only below the floor");
    assert_eq!(world.occupancy.get(1).unwrap().state, State::Failed, "another one is still failed");
    assert_eq!(world.occupancy.retry(1, None).await.unwrap().reset, 1);
    assert_eq!(world.rows(1).await, [(0, 1), (DAY, 1)]);
    assert_eq!(world.occupancy.get(1).unwrap().error, None);
}

#[tokio::test]
async fn an_outage_is_waited_for_and_a_slow_walk_goes_on_behind_the_answer() {
    let world = World::new(&[(1000, 0)]);
    world.fake.feel(Mood::Down);
    let refused = world.occupancy.create(request(10, 0..1)).await.unwrap_err();
    assert_eq!((refused.code(), world.log.commits.load(Ordering::SeqCst)), ("database_unavailable", 0), "no record is left");
    world.fake.feel(Mood::Slow);
    let begun = Instant::now();
    let pending = world.create(10, 0..1).await;
    assert!(begun.elapsed() < Duration::from_secs(1) && pending.state == State::Pending && pending.dataset_id == 1);
    let results = world.occupancy.results(1, None).await.unwrap();
    assert_eq!((results.state, results.completed_chunks, results.total_chunks), (State::Pending, 0, 1));
    world.fake.feel(Mood::Well);
    // The walk that hangs belongs to a server that goes; the next one walks again.
    let world = world.restart().await;
    assert_eq!(world.rows(1).await, [(0, 1)]);

    // Broken for good: the dataset says so, and is planned again when it is told to.
    let breaks = NewDataset { interval_seconds: 900, ..request(10, 0..1) };
    world.fake.feel(Mood::Slow);
    let id = world.occupancy.create(breaks).await.unwrap().dataset_id;
    world.fake.feel(Mood::Broken);
    let world = world.restart().await;
    let failed = world.wait(id, State::Failed).await;
    assert!(failed.error.unwrap().starts_with("Space discovery SQL failed: relation"));
    world.fake.feel(Mood::Well);
    assert_eq!(world.occupancy.retry(id, None).await.unwrap(), Retried { reset: 0, resubmitted: 1 });
    assert_eq!(world.rows(id).await, [(0, 1)]);
}

#[tokio::test]
async fn a_cancelled_run_fails_its_chunk() {
    let world = World::new(&[(1000, 0)]);
    let gate = world.fake.gate.forget_permits(Semaphore::MAX_PERMITS);
    world.create(1000, 0..1).await;
    let run = world.until("the run", async || world.runs.list(1, Some(RunStatus::Started)).pop()).await;
    assert_eq!(run.job_name, SOURCE_JOB);
    world.runs.cancel(&run.run_id).await.unwrap();
    assert_eq!(world.wait(1, State::Failed).await.error.as_deref(), Some("the run was cancelled"));
    world.fake.gate.add_permits(gate);
    world.occupancy.retry(1, None).await.unwrap();
    assert_eq!(world.rows(1).await, [(0, 1)]);
}

#[tokio::test]
async fn a_restart_goes_on_with_what_was_not_counted() {
    let world = World::new(&[(1000, 0), (1001, 0), (1010, DAY)]);
    let gate = world.fake.gate.forget_permits(Semaphore::MAX_PERMITS);
    world.create(10, 0..2).await;
    world.until("runs", async || (world.run_count() == 3).then_some(())).await;
    let world = world.restart().await;
    assert_eq!(world.occupancy.results(1, None).await.unwrap().state, State::Running);
    world.fake.gate.add_permits(gate);
    assert_eq!(world.rows(1).await, [(0, 2), (DAY, 1)]);
    assert_eq!(world.run_count(), 7, "the runs of before are gone on with: three rooms, two floors, a building on two days");
    assert!(world.runs.list(99, None).iter().all(|run| run.status == RunStatus::Success));

    // A crash between the object and its record: the chunk waits, although its run has succeeded.
    let mut documents = std::mem::take(&mut *world.log.documents.lock().unwrap());
    for ((kind, _), body) in &mut documents {
        if kind == shelf::CHUNK && body["space_id"] == 1000 {
            (body["state"], body["content"]) = ("PENDING".into(), Value::Null);
        }
        if kind == shelf::DATASET {
            body["state"] = "RUNNING".into();
        }
    }
    *world.log.documents.lock().unwrap() = documents;
    let world = world.restart().await;
    assert_eq!(world.rows(1).await, [(0, 2), (DAY, 1)]);
}

#[tokio::test]
async fn numbers_are_not_given_twice_and_a_log_that_refuses_leaves_nothing() {
    let world = World::new(&[]);
    let empty = world.create(20, 0..1).await;
    assert_eq!((empty.state, empty.row_count), (State::Completed, Some(0)));
    world.create(20, 0..1).await;
    world.occupancy.delete(2).await.unwrap();
    assert_eq!(world.occupancy.delete(2).await.unwrap_err().code(), "not_found");
    world.log.refuses.store(true, Ordering::SeqCst);
    assert_eq!(world.occupancy.create(request(20, 0..1)).await.unwrap_err().code(), "unavailable");
    assert_eq!(world.occupancy.list(0, 9).unwrap().len(), 1);
    world.log.refuses.store(false, Ordering::SeqCst);
    let world = world.restart().await;
    let third = world.create(20, 0..1).await.dataset_id;
    let listed: Vec<u64> = world.occupancy.list(0, 9).unwrap().into_iter().map(|dataset| dataset.dataset_id).collect();
    assert_eq!((third, listed), (3, vec![3, 1]));
    assert_eq!(world.log.of(shelf::SUBTREE).len(), 2, "nothing of the deleted one is left");
}

#[tokio::test]
async fn limits_are_told_with_the_field_at_fault() {
    let world = World::new(&(0..60).map(|day| (1000, day * DAY)).collect::<Vec<_>>());
    let field = |error: OccupancyError| match error {
        OccupancyError::Invalid { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(world.occupancy.create(request(1000, 0..60)).await.unwrap_err()), "chunk_days");
    assert_eq!(field(world.occupancy.create(request(10, 0..30)).await.unwrap_err()), "root_space_id");
    world.fake.spaces.lock().unwrap().push(space(1, Some(10)));
    assert_eq!(field(world.occupancy.create(request(10, 0..1)).await.unwrap_err()), "root_space_id");
    assert_eq!(world.occupancy.create(request(7, 0..1)).await.unwrap_err().code(), "not_found");
    world.create(1000, 0..5).await;
    let results = world.wait(1, State::Completed).await.rows.unwrap();
    assert_eq!((results.rows.len(), results.total), (3, 5), "an answer has at most so many rows");
    assert_eq!(field(world.occupancy.results(1, Some(1)).await.unwrap_err()), "space_id");
    assert_eq!(world.occupancy.results(9, None).await.unwrap_err().code(), "not_found");
}

#[tokio::test]
async fn chunks_go_when_nobody_needs_them_and_not_before() {
    let world = World::new(&[(1000, 0), (1010, 0), (1001, DAY)]);
    world.create(10, 0..2).await;
    world.create(100, 0..1).await;
    world.wait(1, State::Completed).await;
    world.wait(2, State::Completed).await;
    assert_eq!(world.occupancy.cleanup(0).await.unwrap(), 0);
    world.occupancy.delete(1).await.unwrap();
    assert_eq!(world.occupancy.cleanup(HOUR).await.unwrap(), 0, "too young");
    let objects = || walk(&world.folder.path().join("occupancy"));
    assert_eq!(objects(), 8);
    assert_eq!(world.occupancy.cleanup(-HOUR).await.unwrap(), 6, "the floor and its room are needed on the first day");
    assert_eq!(objects(), 2);
    assert_eq!(world.rows(2).await, [(0, 1)]);
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}
