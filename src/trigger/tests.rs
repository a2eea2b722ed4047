//! Real files, the real scheduler, and a service in memory that counts as the real one does.

use super::*;
use crate::runs::{RunRecord, RunStatus, RunStore, RunsConfig};
use crate::service::TrainReport;
use desireline_records::EventId;
use desireline_records::validate::Validator;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const DEADLINE: Duration = Duration::from_secs(20);
const T: i64 = 1_700_000_000_000;

#[derive(Default)]
struct Source {
    ids: BTreeSet<(String, EventId)>,
    counters: SourceCounters,
    positions: HashMap<String, i64>,
    user_id_type: Option<UserIdType>,
    model_version: u64,
}

/// The service, as far as a load can tell.
struct Fake {
    sources: Mutex<BTreeMap<SourceId, Source>>,
    /// Control words and row counts, in the order of the commits.
    history: Mutex<Vec<String>>,
    trained: Mutex<Vec<(SourceId, u32)>>,
    time: AtomicUsize,
    /// Every commit of rows takes one; the last fault is for the commit that finds none of its own.
    gate: Semaphore,
    faults: Mutex<Vec<Fault>>,
    /// Two commits for one source at once would be two loads at once.
    busy: AtomicBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Refused,
    /// The log has it, and yet there is an error.
    Ambiguous,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sources: Mutex::default(),
            history: Mutex::default(),
            trained: Mutex::default(),
            time: AtomicUsize::new(1),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            faults: Mutex::default(),
            busy: AtomicBool::new(false),
        })
    }

    fn gated() -> Arc<Self> {
        let fake = Self::new();
        fake.gate.forget_permits(Semaphore::MAX_PERMITS);
        fake
    }

    fn apply(&self, progress: &Progress) -> Result<(), ServiceError> {
        let mut sources = self.sources.lock().expect("no panic");
        for position in &progress.positions {
            let source = sources.entry(position.source).or_default();
            let at = source.positions.entry(position.partition.to_string()).or_default();
            if *at != position.before {
                return Err(ServiceError::Conflict(format!("the partition is at {at}, not at {}", position.before)));
            }
            *at = position.after;
        }
        for event in &progress.events {
            let source = sources.entry(event.source).or_default();
            source.counters.received += 1;
            match source.ids.insert((event.user.to_string(), event.id)) {
                true => source.counters.applied += 1,
                false => source.counters.duplicate += 1,
            }
        }
        for letter in &progress.dead_letters {
            let counters = &mut sources.entry(letter.source).or_default().counters;
            counters.received += 1;
            counters.rejected += 1;
        }
        let mut history = self.history.lock().expect("no panic");
        for control in &progress.controls {
            let word = match control {
                Control::Partition(PartitionState::Hold { .. }) => "hold",
                Control::Partition(PartitionState::Release { .. }) => "release",
                Control::Partition(PartitionState::Idle { .. }) => "idle",
                _ => "other",
            };
            history.push(word.to_owned());
        }
        if !progress.positions.is_empty() {
            history.push(format!("{} rows", progress.events.len() + progress.dead_letters.len()));
        }
        Ok(())
    }

    fn history(&self) -> Vec<String> {
        self.history.lock().expect("no panic").clone()
    }

    fn counters(&self, source: SourceId) -> SourceCounters {
        self.sources.lock().expect("no panic").get(&source).map(|source| source.counters).unwrap_or_default()
    }
}

#[async_trait]
impl LoadTarget for Fake {
    async fn commit(&self, progress: Progress) -> Result<Token, ServiceError> {
        let mut fault = Fault::None;
        if !progress.positions.is_empty() {
            assert!(!self.busy.swap(true, Ordering::SeqCst), "two commits at once");
            let busy = Unset(&self.busy);
            self.gate.acquire().await.expect("open").forget();
            fault = self.faults.lock().expect("no panic").pop().unwrap_or(Fault::None);
            drop(busy);
        }
        if fault == Fault::Refused {
            return Err(ServiceError::Unavailable("disk full".to_owned()));
        }
        self.apply(&progress)?;
        if fault == Fault::Ambiguous {
            return Err(ServiceError::Unavailable("no reply".to_owned()));
        }
        Ok(Token { shard: 0, time: self.time.fetch_add(1, Ordering::SeqCst) as u64 })
    }

    async fn wait_applied(&self, token: Token, _: Duration) -> Result<(), ServiceError> {
        assert!(token.time < self.time.load(Ordering::SeqCst) as u64, "a token of this service");
        Ok(())
    }

    fn rows_durable(&self, source: SourceId, partition: &str) -> Option<u64> {
        let sources = self.sources.lock().expect("no panic");
        sources.get(&source)?.positions.get(partition).map(|at| *at as u64)
    }

    fn validator(&self) -> Arc<Validator> {
        Arc::new(Validator::default())
    }

    async fn introduce_source(&self, source: SourceId, user_id_type: UserIdType) -> Result<(), ServiceError> {
        let mut sources = self.sources.lock().expect("no panic");
        let known = &mut sources.entry(source).or_default().user_id_type;
        if known.replace(user_id_type).is_none() {
            self.history.lock().expect("no panic").push("settings".to_owned());
        }
        Ok(())
    }

    async fn source_counts(&self, source_id: SourceId) -> Result<Option<SourceCounts>, ServiceError> {
        let sources = self.sources.lock().expect("no panic");
        Ok(sources.get(&source_id).map(|source| SourceCounts {
            counters: source.counters,
            users: source.ids.iter().map(|(user, _)| user).collect::<BTreeSet<_>>().len() as u64,
        }))
    }

    async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError> {
        self.trained.lock().expect("no panic").push((source, passes));
        let mut sources = self.sources.lock().expect("no panic");
        let known = sources.entry(source).or_default();
        known.model_version += 1;
        Ok(TrainReport { journeys: 2, version: known.model_version, published: true })
    }
}

struct Unset<'a>(&'a AtomicBool);

impl Drop for Unset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Value>>);

#[async_trait]
impl RunStore for Memory {
    async fn record(&self, run_id: &str, body: Value) -> Result<(), ServiceError> {
        self.0.lock().expect("no panic").insert(run_id.to_owned(), body);
        Ok(())
    }
}

struct World {
    runs: Runs,
    store: Arc<Memory>,
    fake: Arc<Fake>,
    folder: TempDir,
}

impl World {
    fn new(fake: Arc<Fake>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, recorded) = (Arc::new(Memory::default()), Vec::new());
        Self::on(fake, folder, store, recorded)
    }

    fn on(fake: Arc<Fake>, folder: TempDir, store: Arc<Memory>, recorded: Vec<(String, Value)>) -> Self {
        let pause = RetryPolicy::every(1, Duration::from_millis(3), 0.0);
        let config = TriggerConfig {
            allowed_folders: vec![folder.path().to_owned()],
            chunk_rows: 2,
            save: StepPolicy { retries: pause, timeout: None },
            load: StepPolicy { retries: pause, timeout: Some(DEADLINE) },
            ..TriggerConfig::default()
        };
        let runs = Runs::new(RunsConfig::default(), Arc::clone(&store) as Arc<dyn RunStore>);
        register(&runs, config, Arc::clone(&fake) as Arc<dyn LoadTarget>);
        runs.restore(recorded);
        Self { runs, store, fake, folder }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    }

    async fn start(&self, source_id: SourceId, events_path: &str) -> RunId {
        let request = TriggerRequest { source_id, events_path: events_path.to_owned(), is_initial_flow: true, format: Format::Ampelios };
        trigger(&self.runs, request).await.expect("accepted")
    }

    async fn finished(&self, id: &RunId) -> RunRecord {
        tokio::time::timeout(DEADLINE, self.runs.wait(id)).await.expect("in time").expect("known")
    }

    async fn load(&self, source_id: SourceId, events_path: &str) -> RunRecord {
        let id = self.start(source_id, events_path).await;
        self.finished(&id).await
    }

    fn log_of(&self, id: &RunId) -> String {
        let lines = self.runs.logs(id, usize::MAX).expect("known");
        lines.iter().map(|line| format!("{}: {}\n", line.step_key.as_deref().unwrap_or("-"), line.message)).collect()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let mut often = tokio::time::interval(Duration::from_millis(2));
    let holds = async {
        while !condition() {
            often.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, holds).await.is_ok(), "not in time: {what}");
}

/// Two users, seven rows.
fn shop() -> String {
    let minutes = |m: i64| T + m * 60_000;
    let rows = [
        (minutes(0), "1,view,10,"),
        (minutes(10), "1,addtocart,10,"),
        (minutes(15), "1,transaction,10,77"),
        (minutes(60), "1,view,11,"),
        (minutes(0), "2,view,10,"),
        (minutes(20), "2,view,11,"),
        (minutes(41), "2,view,12,"),
    ];
    let lines: String = rows.iter().map(|(at, rest)| format!("{at},{rest}\n")).collect();
    format!("timestamp,visitorid,event,itemid,transactionid\n{lines}")
}

#[tokio::test]
async fn a_file_becomes_events_journeys_and_clusters() {
    let world = World::new(Fake::new());
    let path = world.file("ev1.csv", &shop());
    let record = world.load(1, &path).await;
    assert_eq!((record.status, record.error_message()), (RunStatus::Success, None), "{}", world.log_of(&record.run_id));
    let result = record.result.expect("a result");
    assert_eq!(result[SAVE], json!({"status": "success", "message": "7 events loaded", "count": 7}));
    assert_eq!(result[LOAD], json!({"status": "success", "message": "2 user journeys written", "count": 2}));
    assert_eq!(result[CLUSTER], json!({"status": "success", "message": "2 user journeys clustered", "count": 2}));
    assert_eq!((&result["rows"], &result["new"], &result["refused"]), (&json!(7), &json!(7), &json!(0)));
    let rows = ["settings", "hold", "2 rows", "2 rows", "2 rows", "1 rows", "release", "idle"];
    assert_eq!(world.fake.history(), rows);
    assert_eq!(*world.fake.trained.lock().expect("no panic"), [(1, 2)]);
    let progress = record.progress.expect("progress");
    assert_eq!((progress.done, progress.total, progress.unit.as_str()), (shop().len() as u64, shop().len() as u64, "bytes"));
    let log = world.log_of(&record.run_id);
    for line in ["save_events: success: 7 events loaded", "load_journeys: success: 2", "cluster_journeys: success: 2"] {
        assert!(log.contains(line), "{line} in {log}");
    }
    let sources = world.fake.sources.lock().expect("no panic");
    assert_eq!(sources[&1].user_id_type, Some(UserIdType::Int));
    assert!(sources[&1].positions.contains_key(&format!("file:{}", record.run_id)));
}

#[tokio::test]
async fn the_same_file_again_adds_nothing_and_a_grown_one_its_new_rows() {
    let world = World::new(Fake::new());
    let path = world.file("ev1.csv", &shop());
    world.load(1, &path).await;
    let again = world.load(1, &path).await.result.expect("a result");
    assert_eq!(again[SAVE], json!({"status": "skipped", "message": "Already parsed results", "count": 7}));
    assert_eq!(again[LOAD], json!({"status": "skipped", "message": "Ran out of unprocessed events", "count": 0}));
    assert_eq!(again[CLUSTER]["status"], "success", "journeys that an earlier run has left are clustered");
    assert_eq!((&again["new"], &again["duplicates"]), (&json!(0), &json!(7)));
    assert_eq!(world.fake.counters(1).applied, 7);
    assert_eq!(world.fake.history().iter().filter(|word| *word == "settings").count(), 1);

    world.file("ev1.csv", &format!("{}{},3,view,12,\n", shop(), T));
    let grown = world.load(1, &path).await;
    assert_eq!(grown.result.as_ref().expect("a result")[SAVE]["message"], "1 events loaded");
    assert!(world.log_of(&grown.run_id).contains("1 events loaded, 7 known already"), "{}", world.log_of(&grown.run_id));
    assert_eq!(world.load(3, &path).await.result.expect("a result")["new"], 8, "another source is another");
}

#[tokio::test]
async fn what_cannot_be_read_fails_the_run_and_touches_nothing() {
    let world = World::new(Fake::new());
    let missing = world.folder.path().join("missing.csv").to_string_lossy().into_owned();
    let headless = world.file("headless.csv", "a,b\n1,2\n");
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret.csv");
    std::fs::write(&secret, shop()).expect("a file");
    let folder = world.folder.path().to_string_lossy().into_owned();
    for (path, ending) in [
        (missing.as_str(), "missing.csv cannot be parsed"),
        (headless.as_str(), "headless.csv cannot be parsed"),
        (folder.as_str(), "cannot be parsed"),
        (secret.to_str().expect("text"), "does not lie in one of the allowed folders"),
    ] {
        let record = world.load(1, path).await;
        let message = record.error_message().unwrap_or_default().to_owned();
        assert_eq!((record.status, record.attempt), (RunStatus::Failure, 1), "{path}");
        assert!(message.ends_with(ending), "{message}");
        assert!(world.log_of(&record.run_id).contains("save_events: failed"), "{}", world.log_of(&record.run_id));
    }
    assert_eq!(world.fake.history(), Vec::<String>::new());
}

#[tokio::test]
async fn a_bad_row_is_refused_and_the_rest_is_loaded() {
    let world = World::new(Fake::new());
    let path = world.file("ev.csv", &format!("timestamp,visitorid,event\n{T},1,foo\n{T},1,view\nx,2,view\n"));
    let record = world.load(1, &path).await;
    let result = record.result.expect("a result");
    assert_eq!((&result["new"], &result["refused"], &result["rows"]), (&json!(1), &json!(2), &json!(3)));
    assert!(world.log_of(&record.run_id).contains("1 events loaded, 2 refused"), "{}", world.log_of(&record.run_id));
    assert_eq!(world.fake.counters(1).rejected, 2);
}

#[tokio::test]
async fn a_file_without_rows_has_nothing_to_do() {
    let world = World::new(Fake::new());
    let path = world.file("empty.csv", "timestamp,visitorid,event,itemid,transactionid\n");
    let result = world.load(1, &path).await.result.expect("a result");
    assert_eq!(result[SAVE]["message"], "0 events loaded");
    assert_eq!(result[CLUSTER], json!({"status": "skipped", "message": "Ran out of unclustered user journeys", "count": 0}));
    assert_eq!(*world.fake.trained.lock().expect("no panic"), []);
}

#[tokio::test]
async fn after_a_refused_or_doubtful_commit_reading_goes_on_behind_what_is_durable() {
    for fault in [Fault::Refused, Fault::Ambiguous] {
        let fake = Fake::new();
        *fake.faults.lock().expect("no panic") = vec![fault, Fault::None];
        let world = World::new(fake);
        let record = world.load(1, &world.file("ev.csv", &shop())).await;
        assert_eq!(record.result.as_ref().expect("a result")["new"], 7);
        let counters = world.fake.counters(1);
        assert_eq!((counters.received, counters.applied), (7, 7), "every row once");
        let durable = if fault == Fault::Refused { 2 } else { 4 };
        let log = world.log_of(&record.run_id);
        assert!(log.contains("failed (unavailable)") && log.contains(&format!("goes on after {durable} rows")), "{log}");
        assert_eq!(world.fake.history().iter().filter(|word| *word == "hold").count(), 1);
    }
}

#[tokio::test]
async fn a_log_that_keeps_refusing_fails_the_run_and_the_hold_is_given_back() {
    let fake = Fake::new();
    *fake.faults.lock().expect("no panic") = vec![Fault::Refused; 2];
    let world = World::new(fake);
    let record = world.load(1, &world.file("ev.csv", &shop())).await;
    assert_eq!((record.status, record.error.map(|error| error.code)), (RunStatus::Failure, Some("unavailable".to_owned())));
    assert_eq!(world.fake.history(), ["settings", "hold", "release", "idle"]);
}

#[tokio::test]
async fn a_cancelled_load_stops_and_gives_the_hold_back() {
    let world = World::new(Fake::gated());
    world.fake.gate.add_permits(1);
    let id = world.start(1, &world.file("ev.csv", &shop())).await;
    until("a chunk is durable", || world.fake.counters(1).received == 2).await;
    world.runs.cancel(&id).await.expect("cancelled");
    until("it has settled", || world.runs.get(&id).expect("known").settled).await;
    assert_eq!(world.fake.history(), ["settings", "hold", "2 rows", "release", "idle"]);
    world.fake.gate.add_permits(9);
    let other = world.load(1, &world.file("ev.csv", &shop())).await;
    assert_eq!(other.result.expect("a result")["new"], 5, "the source is free, and what was loaded stays");
    assert_eq!(world.runs.get(&id).expect("known").status, RunStatus::Cancelled);
}

/// A server that is killed after the first chunk, and the next one.
async fn killed_after_one_chunk(change: impl FnOnce(&Path)) -> (World, RunId) {
    let before = World::new(Fake::gated());
    before.fake.gate.add_permits(1);
    let path = before.file("ev.csv", &shop());
    let id = before.start(1, &path).await;
    until("a chunk is durable", || before.fake.counters(1).received == 2).await;
    let recorded: Vec<(String, Value)> = before.store.0.lock().expect("no panic").clone().into_iter().collect();
    change(Path::new(&path));
    let World { fake, folder, runs, .. } = before;
    let next = Fake::new();
    *next.sources.lock().expect("no panic") = std::mem::take(&mut *fake.sources.lock().expect("no panic"));
    next.time.store(fake.time.load(Ordering::SeqCst), Ordering::SeqCst);
    drop(runs);
    (World::on(next, folder, Arc::new(Memory::default()), recorded), id)
}

#[tokio::test]
async fn a_load_goes_on_after_a_restart() {
    let (world, id) = killed_after_one_chunk(|_| {}).await;
    let record = world.finished(&id).await;
    assert_eq!((record.status, record.attempt, record.interruptions), (RunStatus::Success, 2, 1), "{}", world.log_of(&id));
    let result = record.result.expect("a result");
    assert_eq!((&result["rows"], &result["new"], &result["duplicates"]), (&json!(7), &json!(7), &json!(0)));
    assert_eq!(world.fake.history(), ["2 rows", "2 rows", "1 rows", "release", "idle"]);
    assert_eq!(world.fake.counters(1).received, 7);
}

#[tokio::test]
async fn a_file_that_changed_in_between_fails_the_run() {
    let (world, id) = killed_after_one_chunk(|path| std::fs::write(path, shop().replace("view", "addtocart")).expect("a file")).await;
    let record = world.finished(&id).await;
    assert_eq!(record.error.map(|error| error.code).as_deref(), Some("file_changed"));
    assert_eq!(world.fake.history(), ["release", "idle"]);
}

#[tokio::test]
async fn two_runs_for_one_source_go_one_after_the_other() {
    let world = World::new(Fake::gated());
    let path = world.file("ev.csv", &shop());
    let (first, second) = (world.start(1, &path).await, world.start(1, &path).await);
    let other = world.start(2, &world.file("other.csv", "timestamp,visitorid,event\n")).await;
    assert_eq!(world.finished(&other).await.status, RunStatus::Success, "another source does not wait");
    until("the first works", || world.fake.history().iter().any(|word| word == "hold")).await;
    assert_eq!(world.runs.get(&second).expect("known").status, RunStatus::Pending);
    world.fake.gate.add_permits(99);
    assert_eq!(world.finished(&first).await.result.expect("a result")["new"], 7);
    assert_eq!(world.finished(&second).await.result.expect("a result")["new"], 0);
}

#[tokio::test]
async fn a_file_of_another_format_leaves_the_source_as_it_is() {
    let world = World::new(Fake::new());
    let events_path = world.file("ev.csv", "timestamp,user_id,event_type,page\n2023-11-14T22:13:20Z,ann,pageview,/\n");
    let request = TriggerRequest { source_id: 5, events_path, is_initial_flow: false, format: Format::Desireline };
    let id = trigger(&world.runs, request).await.expect("accepted");
    assert_eq!(world.finished(&id).await.status, RunStatus::Success, "{}", world.log_of(&id));
    assert_eq!(world.fake.history(), ["hold", "1 rows", "release", "idle"]);
    assert_eq!(*world.fake.trained.lock().expect("no panic"), [(5, 1)]);
}

#[test]
fn a_request_says_no_more_than_it_has_to() {
    let request: TriggerRequest = serde_json::from_value(json!({"source_id": 1, "events_path": "a.csv"})).expect("a request");
    assert_eq!((request.is_initial_flow, request.format), (false, Format::Ampelios));
}
