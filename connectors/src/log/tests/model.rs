//! The real protocol code under thousands of random schedules.
//!
//! Writers, compactors (which also erase) and readers run against one simulated store, each as if in a process of its own.
//! Every store operation is a point where another actor may go on, where the actor may crash, and where the operation may
//! fail: before its effect, after its effect, or with its effect delayed to any later moment (a request that is still on
//! its way when its sender has given up). Listings are not atomic: their two halves are taken at different moments.
//!
//! Checked in every schedule:
//! - no acknowledged batch is lost, none appears twice, none was never appended; acknowledged numbers are never shared and
//!   epochs never go back along them (a fenced writer makes no progress);
//! - every completed read is a prefix of the final log and holds whatever was acknowledged before it began;
//! - an erasure that was reported done leaves no row of its user, also after late requests have landed;
//! - no reader ever reports damage, a gap or anything else that is not the injected failure.
//!
//! It cannot catch errors of the real stores (a create that is not atomic) nor of fsync. A failing seed is printed; run it
//! alone with `DESIRELINE_MODEL_SEED=<seed>`.

use super::*;
use crate::log::frames::Skips;
use crate::log::reader;
use crate::log::replay::Merger;
use crate::log::{Compactor, PurgeUser};
use desireline_records::Purged;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt};
use object_store::{PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Schedules of one test run; `DESIRELINE_MODEL_SCHEDULES` asks for more.
const SCHEDULES: u64 = 300;
const STEPS: u64 = 500;
/// Schedules that once found something: a reader on an old listing took a late request's object for the one listed.
const KNOWN_SEEDS: [u64; 1] = [1_598];
const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// Which batch: (writer, number).
type Id = (u64, u64);

#[derive(Debug, Default)]
struct World {
    random: Option<Random>,
    faults: bool,
    delayed: Vec<(Path, PutPayload)>,
    clock: LogicalTime,
    writers: u64,
    /// Everything that was ever handed to an append.
    tried: BTreeMap<Id, LogicalTime>,
    /// In the order of acknowledgement: (number, epoch, batch).
    acked: Vec<(u64, u64, Id)>,
    /// Erasures begun, and those reported done: (user, until).
    erasing: Vec<(usize, LogicalTime)>,
    erased: Vec<(usize, LogicalTime)>,
    /// Completed reads: acknowledged when it began, erased when it began, and what it saw.
    reads: Vec<Read>,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Read {
    acked: usize,
    erased: usize,
    saw: Vec<(LogicalTime, Option<Id>)>,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Random")
    }
}

impl World {
    fn random(&mut self) -> &mut Random {
        self.random.as_mut().expect("the world was seeded")
    }

    fn fails(&mut self, percent: u64) -> bool {
        self.faults && self.random().chance(percent)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

#[derive(Clone, Debug)]
struct Sim {
    objects: Arc<InMemory>,
    world: Arc<Mutex<World>>,
}

impl std::fmt::Display for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sim")
    }
}

/// Lets the schedule choose who goes on.
struct Gate(bool);

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "sim", source: "no answer".into() }
}

impl Sim {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no actor panics while it holds the world")
    }

    async fn land(&self, path: &Path, payload: PutPayload) -> object_store::Result<PutResult> {
        self.objects.put_opts(path, payload, PutOptions { mode: PutMode::Create, ..PutOptions::default() }).await
    }
}

#[async_trait::async_trait]
impl ObjectStore for Sim {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        assert!(matches!(options.mode, PutMode::Create), "the log only ever creates");
        Gate(false).await;
        let fate = if self.world().faults { self.world().random().below(100) } else { 99 };
        match fate {
            0..4 => return Err(lost()),
            4..8 => {
                self.world().delayed.push((path.clone(), payload));
                return Err(lost());
            }
            8..10 => {
                let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
                return Err(object_store::Error::Generic { store: "sim", source });
            }
            _ => {}
        }
        let result = self.land(path, payload).await;
        // After the effect, before the answer: others may go on, the sender may die.
        Gate(false).await;
        if fate < 15 { Err(lost()) } else { result }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        unreachable!("the log writes objects whole")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        Gate(false).await;
        if self.world().fails(3) {
            return Err(lost());
        }
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        let sim = self.clone();
        paths
            .then(move |path| {
                let sim = sim.clone();
                async move {
                    Gate(false).await;
                    let path = path?;
                    if sim.world().fails(5) {
                        return Err(lost());
                    }
                    sim.objects.delete(&path).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (sim, prefix) = (self.clone(), prefix.cloned());
        async move {
            Gate(false).await;
            if sim.world().fails(3) {
                return stream::iter(vec![Err(lost())]);
            }
            let first: Vec<ObjectMeta> = sim.objects.list(prefix.as_ref()).try_collect().await.expect("memory lists");
            Gate(false).await;
            let second: Vec<ObjectMeta> = sim.objects.list(prefix.as_ref()).try_collect().await.expect("memory lists");
            let cut = sim.world().random().below(first.len() as u64 + 1) as usize;
            let pivot = first.get(cut).map(|meta| meta.location.clone());
            let early = |meta: &ObjectMeta| pivot.as_ref().is_none_or(|pivot| meta.location < *pivot);
            let both = first.into_iter().filter(|meta| early(meta)).chain(second.into_iter().filter(|meta| !early(meta)));
            stream::iter(both.map(Ok).collect::<Vec<_>>())
        }
        .flatten_stream()
        .boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        unreachable!("not used")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        unreachable!("not used")
    }
}

fn store(sim: &Sim) -> Store {
    let limits = StoreLimits { attempts_max: 2, backoff: Duration::ZERO, ..StoreLimits::default() };
    Store::from_objects(Arc::new(sim.clone()), limits, false)
}

fn config_of(attempts: u32) -> LogConfig {
    LogConfig { append_attempts_max: attempts, ..tiny() }
}

fn tiny() -> LogConfig {
    let compaction = CompactionLimits { segments_min: 2, part_bytes_max: 2_000 };
    LogConfig { append_attempts_max: 3, compaction, clock: Some(|| 1_000_000), ..LogConfig::new(0) }
}

fn user_of(id: Id) -> usize {
    (id.1 % 3) as usize
}

fn batch_of(id: Id, time: LogicalTime) -> Batch {
    let row = Event {
        source: 1,
        movement: Movement::None,
        late: false,
        time: time as i64,
        id: EventId([id.0, id.1]),
        value: Fixed4(0),
        user: USERS[user_of(id)].into(),
        event_type: "view".into(),
        page: EcoString::new(),
        item: EcoString::new(),
        extra: None,
        stay: None,
    };
    Batch { time, events: vec![row], ..Batch::default() }
}

/// A server's life: opens the log, appends until it is told to stop, and starts again as another one.
async fn writer(sim: Sim) {
    loop {
        let attempts = 1 + sim.world().random().below(3) as u32;
        let Ok(mut log) = LogWriter::open(store(&sim), config_of(attempts)).await else { continue };
        let number = {
            let mut world = sim.world();
            world.count("opened");
            world.writers += 1;
            world.writers
        };
        for n in 0.. {
            let id = (number, n);
            let batch = {
                let mut world = sim.world();
                world.clock += 1;
                let time = world.clock.max(log.last_time() + 1);
                world.tried.insert(id, time);
                batch_of(id, time)
            };
            match log.append(&batch).await {
                Ok(appended) => {
                    let mut world = sim.world();
                    world.acked.push((appended.seq, log.epoch(), id));
                    world.count("acknowledged");
                }
                Err(error) if log.is_open() => {
                    sim.world().tried.remove(&id);
                    assert_eq!(error.code(), "store_no_space");
                }
                Err(error) => {
                    let what = if error.code() == "log_fenced" { "fenced" } else { "unknown" };
                    sim.world().count(what);
                    break;
                }
            }
        }
    }
}

async fn compactor(sim: Sim) {
    loop {
        let shared = LogReader::open(store(&sim), 0).shared;
        let compactor = Compactor::new(shared, tiny().compaction);
        let erasure = {
            let world = sim.world();
            let acked = world.acked.last().map(|(_, _, id)| *id).filter(|_| world.clock.is_multiple_of(3));
            acked.map(|id| (user_of(id), world.tried[&id]))
        };
        match erasure {
            Some((user, until)) => {
                sim.world().erasing.push((user, until));
                let users = [PurgeUser { source: 1, user: USERS[user].into(), until, purged: Purged::default(), in_catalog: false }];
                if compactor.purge(&users).await.is_ok() {
                    let mut world = sim.world();
                    world.erased.push((user, until));
                    world.count("erased");
                }
            }
            None => {
                if compactor.run_once().await.is_ok_and(|report| report.manifest.is_some()) {
                    sim.world().count("compacted");
                }
            }
        }
    }
}

async fn read(sim: &Sim) -> Result<Vec<(LogicalTime, Option<Id>)>, LogError> {
    let reader = LogReader::open(store(sim), 0);
    let (mut scan, _) = reader::begin(reader.shared, 0).await?;
    let mut merger = Merger::new(0, 0, Vec::new());
    let mut batches = Vec::new();
    while let Some(object) = scan.next().await? {
        merger.object(object, &Skips::new(), |batch| {
            batches.push(batch);
            true
        })?;
    }
    batches.extend(merger.flush());
    Ok(batches.iter().map(|batch| (batch.time, batch.events.first().map(|event| (event.id.0[0], event.id.0[1])))).collect())
}

async fn reader(sim: Sim) {
    loop {
        let (acked, erased) = {
            let world = sim.world();
            (world.acked.len(), world.erased.len())
        };
        match read(&sim).await {
            Ok(saw) => {
                let mut world = sim.world();
                world.reads.push(Read { acked, erased, saw });
                world.count("read");
            }
            Err(error) if matches!(error.code(), "store_unavailable" | "log_rewritten") => {}
            Err(error) => sim.world().violations.push(format!("a reader failed: {error}")),
        }
    }
}

type Actor = Pin<Box<dyn Future<Output = ()>>>;

fn spawn(sim: &Sim, role: usize) -> Actor {
    match role {
        0..2 => Box::pin(writer(sim.clone())),
        2..4 => Box::pin(compactor(sim.clone())),
        _ => Box::pin(reader(sim.clone())),
    }
}

fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

/// One schedule; answers how often what happened.
fn schedule(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut chooser = Random::new(seed);
    let world = World { random: Some(Random::new(seed ^ 0xABCD)), faults: !seed.is_multiple_of(4), clock: 10, ..World::default() };
    let sim = Sim { objects: Arc::new(InMemory::new()), world: Arc::new(Mutex::new(world)) };
    let mut actors: Vec<Actor> = (0..6).map(|role| spawn(&sim, role)).collect();
    // Some actors are favoured for a while, so that others sleep through whole histories.
    let mut favoured = 0;
    for step in 0..STEPS {
        if step % 40 == 0 {
            favoured = chooser.below(6);
        }
        match chooser.below(100) {
            0..3 => land_one(&sim, &mut chooser),
            3 => {
                let role = chooser.below(6) as usize;
                actors[role] = spawn(&sim, role);
                sim.world().count("crashed");
            }
            _ => {
                let role = if chooser.chance(40) { favoured } else { chooser.below(6) } as usize;
                let polled = actors[role].as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending(), "actors never end");
            }
        }
    }
    drop(actors);
    sim.world().faults = false;
    while !sim.world().delayed.is_empty() {
        land_one(&sim, &mut chooser);
    }
    let result = finish(check(&sim));
    let mut world = sim.world();
    result.map(|()| std::mem::take(&mut world.counts))
}

fn land_one(sim: &Sim, chooser: &mut Random) {
    let mut world = sim.world();
    if world.delayed.is_empty() {
        return;
    }
    let index = chooser.below(world.delayed.len() as u64) as usize;
    let (path, payload) = world.delayed.swap_remove(index);
    world.count("landed late");
    drop(world);
    finish(sim.land(&path, payload)).ok();
}

async fn check(sim: &Sim) -> Result<(), String> {
    let fail = |error: LogError| format!("at the end: {error}");
    let end = read(sim).await.map_err(fail)?;
    check_log(&sim.world(), &end)?;
    // A last server and a last compaction find everything in order.
    let mut log = LogWriter::open(store(sim), tiny()).await.map_err(fail)?;
    let time = log.last_time() + 1;
    log.append(&batch_of((1 << 40, 1), time)).await.map_err(fail)?;
    log.compactor().run_once().await.map_err(fail)?;
    let report = log.reader().verify(|_| {}).await.map_err(fail)?;
    if !report.is_clean() {
        return Err(format!("verify: {:?}", report.problems));
    }
    let last = read(sim).await.map_err(fail)?;
    if last[..end.len()] != end[..] || last.len() != end.len() + 1 {
        return Err(format!("the last compaction changed the log: {end:?} became {last:?}"));
    }
    // Whatever was erased is in no object any more, late arrivals included.
    let erased: BTreeSet<(usize, LogicalTime)> = sim.world().erased.iter().copied().collect();
    let listed: Vec<ObjectMeta> = sim.objects.list(None).try_collect().await.map_err(|error| error.to_string())?;
    for meta in listed {
        let bytes = sim.objects.get(&meta.location).await.map_err(|error| error.to_string())?.bytes().await;
        let name = meta.location.to_string();
        let Ok(object) = crate::log::object::Object::parse(&name, bytes.map_err(|error| error.to_string())?) else { continue };
        let mut frames = crate::log::frames::Frames::of(object).map_err(fail)?;
        while frames.peek().is_some() {
            let mut batch = Batch::default();
            frames.read_into(&mut batch, &Skips::new()).map_err(fail)?;
            for event in &batch.events {
                let hit = erased.iter().any(|(user, until)| USERS[*user] == event.user && batch.time <= *until);
                if hit {
                    return Err(format!("{name} still holds a row of {} at {}", event.user, batch.time));
                }
            }
        }
    }
    Ok(())
}

fn check_log(world: &World, end: &[(LogicalTime, Option<Id>)]) -> Result<(), String> {
    if let Some(violation) = world.violations.first() {
        return Err(violation.clone());
    }
    let gone = |list: &[(usize, LogicalTime)], id: Id, time| list.iter().any(|(user, until)| *user == user_of(id) && time <= *until);
    let by_time: BTreeMap<LogicalTime, Vec<Id>> = world.tried.iter().fold(BTreeMap::new(), |mut map, (id, time)| {
        map.entry(*time).or_insert_with(Vec::new).push(*id);
        map
    });
    if !end.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(format!("times do not increase: {end:?}"));
    }
    for (time, id) in end {
        let candidates = by_time.get(time).ok_or_else(|| format!("nobody appended a batch at {time}"))?;
        match id {
            Some(id) if !candidates.contains(id) => return Err(format!("batch {id:?} was not appended at {time}")),
            Some(id) if gone(&world.erased, *id, *time) => return Err(format!("the row of {id:?} was erased")),
            None if !candidates.iter().any(|id| gone(&world.erasing, *id, *time)) => return Err(format!("the row at {time} is lost")),
            _ => {}
        }
    }
    let holds = |log: &[(LogicalTime, Option<Id>)], id: Id| {
        let time = world.tried[&id];
        log.iter().any(|(t, found)| *t == time && found.is_none_or(|found| found == id))
    };
    let mut acked = world.acked.clone();
    acked.sort_unstable();
    for pair in acked.windows(2) {
        if pair[0].0 == pair[1].0 || pair[0].1 > pair[1].1 {
            return Err(format!("numbers or epochs of {:?} and {:?}", pair[0], pair[1]));
        }
    }
    if let Some((seq, epoch, id)) = acked.iter().find(|(_, _, id)| !holds(end, *id)) {
        return Err(format!("batch {id:?}, acknowledged as number {seq} in epoch {epoch}, is lost"));
    }
    for read in &world.reads {
        let times = |log: &[(LogicalTime, Option<Id>)]| log.iter().map(|(time, _)| *time).collect::<Vec<_>>();
        let saw = times(&read.saw);
        if !times(end).starts_with(&saw) {
            return Err(format!("a read saw {saw:?}, which is no prefix of {:?}", times(end)));
        }
        if let Some((_, _, id)) = world.acked[..read.acked].iter().find(|(_, _, id)| !holds(&read.saw, *id)) {
            return Err(format!("a read did not see {id:?}, acknowledged before it began"));
        }
        let erased = &world.erased[..read.erased];
        if let Some((time, Some(id))) = read.saw.iter().find(|(time, id)| id.is_some_and(|id| gone(erased, id, *time))) {
            return Err(format!("a read saw {id:?} at {time}, erased before it began"));
        }
    }
    Ok(())
}

#[test]
fn every_schedule_keeps_the_promises() {
    let alone = std::env::var("DESIRELINE_MODEL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let schedules = std::env::var("DESIRELINE_MODEL_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(SCHEDULES);
    let seeds: Vec<u64> = alone.map_or_else(|| (0..schedules).chain(KNOWN_SEEDS).collect(), |seed| vec![seed]);
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds {
        match schedule(seed) {
            Ok(counts) => counts.into_iter().for_each(|(what, count)| *totals.entry(what).or_default() += count),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    println!("{totals:?}");
    if alone.is_none() {
        for what in ["opened", "acknowledged", "fenced", "unknown", "compacted", "erased", "read", "crashed", "landed late"] {
            assert!(totals.get(what).is_some_and(|count| *count > schedules / 5), "the schedules hardly ever reach `{what}`: {totals:?}");
        }
    }
}
