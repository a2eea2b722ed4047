//! Occupancy against its slow reference, on seeded random histories.
//!
//! A history is a plan: rows (new sessions, open ones, corrections, repeats, late ones for sealed days), ticks, edits of the space tree,
//! deletions, erasures, seals and reopenings. Seals and reopenings ask the engine, as the server does: what leaves memory goes into a
//! store of the test, and answers are put together from both. Each plan is run with 1 to 3 workers, with other batch sizes, and with an
//! export and import in the middle; cells, sums over the tree, bins that are not kept, counts and change streams are compared with the
//! reference. A failing seed is printed; put it into `KNOWN_SEEDS`.
//!
//! `DESIRELINE_HISTORIES` sets how many histories are run (default 320).

#[path = "histories/random.rs"]
mod random;

use desireline_dataflows::changes::{View, ViewRow, Views};
use desireline_dataflows::engine::{Changes, Next, Start};
use desireline_dataflows::query::{Answer, Query, merge_sources};
use desireline_dataflows::reference::Reference;
use desireline_dataflows::views::occupancy::query::{DeviceStay, OccupancyAnswer, OccupancyQuery};
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::time::{DAY, HOUR, MINUTE, SECOND};
use desireline_records::wifi::{self, INTERVALS};
use desireline_records::{
    Batch, Cell, CellKey, Control, EraseUser, Event, LogicalTime, Measure, Micros, Reopen, ReopenedDevice, SealFrom, SealStays, SealedStay,
    SourceSettings, Space, SpaceId, Stay, WifiSession, WifiSettings, user_hash,
};
use ecow::{EcoString, eco_format};
use random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Seeds that once failed.
const KNOWN_SEEDS: &[u64] = &[];
const SOURCE: u32 = 9;
/// The histories begin here: some day.
const T0: Micros = 20_000 * DAY;

#[derive(Clone, Debug)]
enum Step {
    /// Rows as (device, start, stay).
    Rows(Vec<(EcoString, Micros, Stay)>),
    Tick(Micros),
    Spaces(Vec<Control>),
    Settings(WifiSettings),
    /// Deletes the n-th session.
    Delete(u64),
    Erase(EcoString),
    Seal(Micros),
    Reopen,
}

fn settings(random: &mut Random) -> WifiSettings {
    let mut intervals: Vec<u32> = INTERVALS.into_iter().filter(|_| random.chance(40)).collect();
    if intervals.is_empty() {
        intervals.push(3_600);
    }
    WifiSettings {
        max_open: [2 * HOUR, 12 * HOUR, 30 * HOUR][random.below(3) as usize],
        intervals,
        visit_gap: [0, 10 * MINUTE, 2 * HOUR][random.below(3) as usize],
        move_gap: [0, 20 * MINUTE, 3 * HOUR][random.below(3) as usize],
    }
}

fn device(n: u64) -> (EcoString, bool) {
    (eco_format!("d{n}"), n % 3 == 1)
}

fn plan(seed: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let mut steps = vec![Step::Settings(settings(&mut random))];
    let mut now = T0 + 6 * HOUR;
    let mut sealed = false;
    let mut sent: Vec<(EcoString, Micros, Stay)> = Vec::new();
    for _ in 0..30 + random.below(30) {
        now += (random.below(10) as i64) * HOUR / 2;
        match random.below(20) {
            0..=9 => {
                let rows = (0..1 + random.below(25)).map(|_| row(&mut random, now, &mut sent)).collect();
                steps.push(Step::Rows(rows));
            }
            10 | 11 => steps.push(Step::Tick(now + (random.below(3_600) as i64 - 1_800) * SECOND)),
            12..=14 => steps.push(Step::Spaces((0..1 + random.below(3)).map(|_| space(&mut random)).collect())),
            15 if !sealed && random.chance(50) => steps.push(Step::Settings(settings(&mut random))),
            15 => {
                steps.push(Step::Delete(random.next()));
                steps.push(Step::Delete(random.next()));
            }
            16 => steps.push(Step::Erase(device(random.below(12)).0)),
            17 | 18 if !seed.is_multiple_of(4) => {
                sealed = true;
                // The clock is never behind what is sealed.
                steps.push(Step::Tick(now));
                steps.push(Step::Seal((now - random.below(40) as i64 * HOUR).div_euclid(DAY) * DAY));
            }
            _ => steps.push(Step::Reopen),
        }
    }
    steps.push(Step::Reopen);
    steps
}

fn row(random: &mut Random, now: Micros, sent: &mut Vec<(EcoString, Micros, Stay)>) -> (EcoString, Micros, Stay) {
    if !sent.is_empty() && random.chance(30) {
        // A repeat, a closing or a correction of an earlier row.
        let at = random.below(sent.len() as u64) as usize;
        let (device, start, stay) = &mut sent[at];
        match random.below(4) {
            0 => {}
            1 => stay.end = None,
            _ => stay.end = Some(*start + random.below(1_600) as i64 * MINUTE / 2),
        }
        return (device.clone(), *start, *stay);
    }
    let (device, randomized) = if random.chance(50) { device(random.below(3)) } else { device(random.below(12)) };
    let delay = match random.below(10) {
        0..=5 => random.below(60),
        6..=8 => random.below(600),
        _ => random.below(4_000),
    } as i64;
    // On the quarter most times: edges of bins, equal starts, sessions that touch.
    let grain = if random.chance(70) { 15 * MINUTE } else { SECOND };
    let start = (now - delay * MINUTE).div_euclid(grain) * grain;
    let length = match random.below(10) {
        0 => 0,
        1..=7 => random.below(9) as i64 * 15 * MINUTE,
        8 => random.below(200) as i64 * MINUTE,
        _ => random.below(3_000) as i64 * MINUTE,
    };
    let end = (!random.chance(15)).then_some(start + length);
    let row = (device, start, Stay { end, space: random.below(9) as SpaceId, randomized });
    sent.push(row.clone());
    row
}

/// Puts or removes a node of a tree of nine; parents have smaller ids, so that there are no cycles, but orphans.
fn space(random: &mut Random) -> Control {
    let space_id = random.below(9) as SpaceId;
    if random.chance(15) {
        return Control::SpaceRemoved { space_id };
    }
    let parent_space_id = (space_id > 0 && random.chance(85)).then(|| random.below(space_id as u64) as SpaceId);
    let space_name = Some(eco_format!("space {space_id}"));
    Control::Space(Space { space_id, space_name, parent_space_id, building_room: None, capacity: None })
}

/// What the server keeps beside the engine: sealed sessions (with the time of their export) and sealed cells.
#[derive(Default)]
struct Cold {
    stays: BTreeMap<(EcoString, Micros, SpaceId), (LogicalTime, DeviceStay)>,
    cells: BTreeMap<CellKey, Cell>,
    erased: BTreeMap<EcoString, LogicalTime>,
}

impl Cold {
    fn of_device<'a>(&'a self, device: &'a EcoString) -> impl Iterator<Item = SealedStay> + 'a {
        self.known().filter(move |stay| stay.device == *device).map(|stay| stay.stay.clone())
    }

    /// Sealed sessions, also those that were taken back, of devices as they are since they were last erased.
    fn known(&self) -> impl Iterator<Item = &DeviceStay> {
        let counts = |(at, stay): &&(LogicalTime, DeviceStay)| self.erased.get(&stay.device).is_none_or(|e| e < at);
        self.stays.values().filter(counts).map(|(_, stay)| stay)
    }
}

/// Runs a plan as the server would.
struct Run {
    engine: Engine,
    workers: usize,
    reference: Reference,
    cold: Cold,
    time: LogicalTime,
    late_before: Micros,
    settings: WifiSettings,
    batch_rows: usize,
    stream: Option<Followed>,
    context: String,
}

impl Run {
    fn new(workers: usize, batch_rows: usize, follow: bool, context: String) -> Self {
        let engine = start(workers);
        let stream = follow.then(|| Followed::new(&engine));
        Self {
            engine,
            workers,
            reference: Reference::default(),
            cold: Cold::default(),
            time: 0,
            late_before: Micros::MIN,
            settings: WifiSettings::default(),
            batch_rows,
            stream,
            context,
        }
    }

    fn commit(&mut self, mut batch: Batch) {
        self.time += 1;
        batch.time = self.time;
        self.reference.apply(&batch);
        self.engine.submit(Arc::new(batch), drop).expect("the engine takes batches");
    }

    fn control(&mut self, control: Control) {
        self.commit(Batch { controls: vec![control], ..Batch::default() });
    }

    fn ask(&self, query: OccupancyQuery) -> Vec<OccupancyAnswer> {
        let (_, parts) = self.engine.ask(Query::Occupancy(query)).expect("an answer");
        let part = |answer| if let Answer::Occupancy(answer) = answer { answer } else { panic!("not about occupancy") };
        parts.into_iter().map(part).collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Rows(rows) => {
                for rows in rows.chunks(self.batch_rows) {
                    let events = rows.iter().map(|(device, start, stay)| self.event(device, *start, *stay)).collect();
                    self.commit(Batch { events, ..Batch::default() });
                }
            }
            Step::Tick(now) => self.commit(Batch { tick: Some(*now), ..Batch::default() }),
            Step::Spaces(controls) => self.commit(Batch { controls: controls.clone(), ..Batch::default() }),
            Step::Settings(wifi) => {
                self.settings = wifi.clone();
                self.control(Control::Settings(SourceSettings { wifi: Some(wifi.clone()), ..SourceSettings::defaults(SOURCE) }));
            }
            Step::Delete(n) => {
                // One that began on a sealed day stays, whether memory has it or not.
                let ids = self.reference.occupancy().ids();
                if let Some(id) = ids.get(*n as usize % ids.len().max(1)) {
                    self.control(Control::DeleteEvent { source: SOURCE, id: *id });
                }
            }
            Step::Erase(device) => self.erase(device),
            Step::Seal(boundary) if *boundary > self.late_before => {
                self.late_before = *boundary;
                self.control(Control::SealFrom(SealFrom { source: SOURCE, boundary: *boundary }));
                self.seal();
            }
            Step::Seal(_) => self.seal(),
            Step::Reopen => self.reopen_pending(),
        }
    }

    fn event(&self, device: &EcoString, start: Micros, stay: Stay) -> Event {
        let session = WifiSession { source: SOURCE, device: device.clone(), sensor: EcoString::new(), start, stay };
        Event { late: start < self.late_before, ..session.into_event() }
    }

    /// Exports what lies before the boundary, and lets memory forget it.
    fn seal(&mut self) {
        if self.late_before == Micros::MIN {
            return;
        }
        let boundary = self.late_before;
        for part in self.ask(OccupancyQuery::Sealable { boundary, hash_from: 0, hash_to: u64::MAX }) {
            for stay in part.stays {
                self.cold.stays.insert((stay.device.clone(), stay.stay.start, stay.stay.space), (self.time, stay));
            }
        }
        for part in self.ask(OccupancyQuery::SealableCells { boundary }) {
            for (key, cell) in part.cells {
                self.cold.cells.entry(key).or_default().add(cell);
            }
        }
        let (stays, cells, intervals) = (Vec::new(), Vec::new(), self.settings.intervals.clone());
        self.control(Control::SealStays(SealStays { source: SOURCE, boundary, stays, cells, intervals }));
    }

    fn reopened(&self, device: &EcoString) -> ReopenedDevice {
        let randomized = self.cold.stays.values().any(|(_, stay)| stay.device == *device && stay.randomized);
        let known = self.reference.occupancy().devices().any(|known| known == device);
        let randomized = randomized || known && device[1..].parse::<u64>().is_ok_and(|n| n % 3 == 1);
        ReopenedDevice { device: device.clone(), randomized, stays: self.cold.of_device(device).collect() }
    }

    fn reopen_pending(&mut self) {
        let parts = self.ask(OccupancyQuery::Pending { devices_max: 100 });
        let devices: Vec<ReopenedDevice> = parts.iter().flat_map(|part| &part.pending).map(|p| self.reopened(&p.device)).collect();
        if !devices.is_empty() {
            self.control(Control::Reopen(Reopen { source: SOURCE, devices }));
        }
        let pending: usize = self.ask(OccupancyQuery::Pending { devices_max: 100 }).iter().map(|part| part.pending.len()).sum();
        assert_eq!(pending, 0, "{}: nothing is pending after all devices were reopened", self.context);
    }

    fn erase(&mut self, device: &EcoString) {
        let reopened = self.reopened(device);
        self.control(Control::Reopen(Reopen { source: SOURCE, devices: vec![reopened] }));
        self.control(Control::Erase(EraseUser {
            source: SOURCE,
            user: device.clone(),
            requested_at: 0,
            sealed_minutes: Vec::new(),
            purged: None,
        }));
        self.cold.erased.insert(device.clone(), self.time);
        self.seal();
    }

    fn restart(&mut self) {
        let (time, parts) = self.engine.ask(Query::Export).expect("an export");
        let rows = parts.into_iter().flat_map(|part| if let Answer::Export(rows) = part { rows } else { panic!("not an export") });
        let rows: Vec<_> = rows.collect();
        self.engine = start(self.workers % 3 + 1);
        self.engine.import(time, &rows).expect("state can be imported");
        self.stream = None;
    }

    fn compare(&mut self, at: &str) {
        let context = format!("{}, {at}", self.context);
        let expected = self.reference.occupancy().cells();
        let mut found = self.cold.cells.clone();
        let measures: BTreeSet<Measure> = self.settings.intervals.iter().map(|i| Measure::Devices(*i)).chain(OTHERS).collect();
        for measure in &measures {
            for part in self.ask(OccupancyQuery::Cells { root: None, measure: *measure, from: Micros::MIN / 2, to: Micros::MAX / 2 }) {
                part.cells.into_iter().for_each(|(key, cell)| found.entry(key).or_default().add(cell));
            }
        }
        found.retain(|_, cell| !cell.is_zero());
        same(&expected, &found, &context);
        self.compare_sums(&expected, &context);
        self.compare_on_demand(&context);
        self.compare_stays(&context);
        self.compare_counts(&context);
        if let Some(stream) = &mut self.stream {
            stream.take(self.late_before, &context);
            let open: BTreeMap<CellKey, Cell> = expected.clone();
            let mut followed = stream.cells.clone();
            followed.retain(|_, cell| !cell.is_zero());
            same(&open, &followed, &format!("{context}, as followed"));
            let spaces: Vec<&Space> = stream.spaces.values().collect();
            assert_eq!(spaces, self.reference.occupancy().spaces().collect::<Vec<_>>(), "{context}: spaces as followed");
        }
    }

    /// Sums over the tree, for every space.
    fn compare_sums(&self, expected: &BTreeMap<CellKey, Cell>, context: &str) {
        let measure = Measure::Devices(self.settings.intervals[0]);
        let roots: Vec<SpaceId> = (0..9).collect();
        let parts = self.ask(OccupancyQuery::Series { roots: roots.clone(), measure, from: Micros::MIN / 2, to: Micros::MAX / 2 });
        let subtrees = parts.iter().find(|part| part.standing.is_some()).map(|part| part.subtrees.clone()).expect("the first worker knows");
        for root in roots {
            let mut sums: BTreeMap<Micros, Cell> = BTreeMap::new();
            for (time, cell) in parts.iter().flat_map(|part| &part.series[root as usize]) {
                sums.entry(*time).or_default().add(*cell);
            }
            let below = subtrees[root as usize].clone().unwrap_or_default();
            for (key, cell) in self.cold.cells.iter().filter(|(key, _)| key.measure == measure && below.contains(&key.space)) {
                sums.entry(key.time).or_default().add(*cell);
            }
            sums.retain(|_, cell| !cell.is_zero());
            same(&self.reference.occupancy().series(expected, root, measure), &sums, &format!("{context}: the sum of space {root}"));
        }
    }

    /// Bins that are not kept, counted from sessions in memory and sealed ones.
    fn compare_on_demand(&self, context: &str) {
        let interval = INTERVALS.into_iter().find(|i| !self.settings.intervals.contains(i)).unwrap_or(900);
        let (from, to) = (T0 - 10 * DAY, T0 + 60 * DAY);
        let reference = self.reference.occupancy();
        let roots: Vec<SpaceId> = reference.spaces().map(|space| space.space_id).collect();
        let parts = self.ask(OccupancyQuery::Presence { roots: roots.clone(), interval, from, to });
        let first = parts.iter().find(|part| part.standing.is_some()).expect("the first worker knows");
        let boundary = first.standing.as_ref().and_then(|standing| standing.boundary).unwrap_or(Micros::MIN);
        let mut sealed: BTreeMap<(EcoString, SpaceId, Micros), (bool, SealedStay)> = BTreeMap::new();
        let hot = parts.iter().flat_map(|part| &part.stays);
        for stay in self.cold.known().chain(hot) {
            sealed.insert((stay.device.clone(), stay.stay.space, stay.stay.start), (stay.randomized, stay.stay.clone()));
        }
        sealed.retain(|_, (_, stay)| !stay.deleted);
        let mut early: BTreeSet<(CellKey, EcoString, bool)> = BTreeSet::new();
        for ((device, space, _), (randomized, stay)) in sealed {
            let width = i64::from(interval) * SECOND;
            for bin in wifi::bins(stay.start, stay.end, width).filter(|bin| bin * width < boundary) {
                let key = CellKey { space, measure: Measure::Devices(interval), time: bin * width, other: 0 };
                early.insert((key, device.clone(), randomized));
            }
        }
        let expected = reference.bins(interval);
        for (at, root) in roots.iter().enumerate() {
            let mut sums: BTreeMap<Micros, Cell> = BTreeMap::new();
            for (time, cell) in parts.iter().flat_map(|part| &part.series[at]) {
                assert!(*time >= boundary, "{context}: only what is not sealed");
                sums.entry(*time).or_default().add(*cell);
            }
            let below = first.subtrees[at].clone().expect("a known space");
            for (key, _, randomized) in early.iter().filter(|(key, ..)| below.contains(&key.space)) {
                sums.entry(key.time).or_default().add(Cell { count: 1, randomized: i64::from(*randomized), micros: 0 });
            }
            let expected = reference.series(&expected, *root, Measure::Devices(interval));
            same(&expected, &sums, &format!("{context}: {interval} s in space {root}"));
        }
    }

    /// Sessions in memory and sealed ones, of all devices and of some.
    fn compare_stays(&self, context: &str) {
        let expected = self.reference.occupancy().stays();
        let every_other: Arc<[EcoString]> = self.reference.occupancy().devices().step_by(2).chain([&"nobody".into()]).cloned().collect();
        for devices in [None, Some(every_other)] {
            let wanted = |device: &EcoString| devices.as_ref().is_none_or(|devices| devices.contains(device));
            let parts = self.ask(OccupancyQuery::Stays { devices: devices.clone(), stays_max: usize::MAX });
            assert!(parts.iter().all(|part| !part.cut));
            let hot = parts.iter().flat_map(|part| &part.stays);
            assert!(hot.clone().all(|stay| wanted(&stay.device)), "{context}: only those that are asked for");
            let sealed = self.cold.known().filter(|stay| wanted(&stay.device));
            let all = sealed.chain(hot).map(|stay| ((stay.device.clone(), stay.stay.start, stay.stay.space), stay.stay.clone()));
            let mut found: BTreeMap<_, SealedStay> = all.collect();
            found.retain(|_, stay| !stay.deleted);
            let found: BTreeMap<_, _> = found.into_iter().map(|(key, stay)| (key, (!stay.open).then_some(stay.end))).collect();
            let expected: BTreeMap<_, _> = expected.iter().filter(|((device, ..), _)| wanted(device)).collect();
            assert_eq!(found.iter().collect::<BTreeMap<_, _>>(), expected, "{context}: sessions");
        }
        let few = self.ask(OccupancyQuery::Stays { devices: None, stays_max: 1 });
        assert!(few.iter().all(|part| part.stays.len() <= 1), "{context}: no more than asked for");
    }

    fn compare_counts(&self, context: &str) {
        let (_, parts) = self.engine.ask(Query::Overview).expect("an answer");
        let mut stats = Vec::new();
        let mut sources = Vec::new();
        for part in parts {
            let Answer::Overview { sources: part, worker, .. } = part else { panic!("not an overview") };
            sources.extend(part);
            stats.push(worker.wifi);
        }
        let merged: BTreeMap<u32, _> = merge_sources(sources.into_iter()).into_iter().collect();
        let (counts, facts) = (&merged[&SOURCE].counts, &self.reference.counts()[&SOURCE]);
        let got = [counts.received, counts.applied, counts.duplicate, counts.pending, counts.late, counts.deleted];
        assert_eq!(got, [facts.received, facts.applied, facts.duplicate, facts.pending, facts.late, facts.deleted], "{context}: counts");
        assert_eq!(counts.received, counts.applied + counts.duplicate + counts.pending + counts.late, "{context}: conservation");
        assert_eq!(counts.late_unmarked, 0, "{context}");
        assert_eq!(stats.iter().map(|s| s.pending as u64).sum::<u64>(), counts.pending, "{context}: pending rows");
        assert_eq!(stats.iter().map(|s| s.spaces).sum::<usize>(), self.reference.occupancy().spaces().count(), "{context}: spaces");
    }
}

const OTHERS: [Measure; 3] = [Measure::Visits, Measure::Dwell, Measure::Moves];

/// Fails with the first few cells that differ.
fn same<K: Ord + std::fmt::Debug>(expected: &BTreeMap<K, Cell>, found: &BTreeMap<K, Cell>, context: &str) {
    let lacking: Vec<_> = expected.iter().filter(|(key, cell)| found.get(key) != Some(cell)).take(5).collect();
    let extra: Vec<_> = found.iter().filter(|(key, cell)| expected.get(key) != Some(cell)).take(5).collect();
    assert!(lacking.is_empty() && extra.is_empty(), "{context}: expected {lacking:#?}\nfound {extra:#?}");
}

fn start(workers: usize) -> Engine {
    Engine::start(EngineConfig { workers, ..EngineConfig::default() }).expect("the engine starts")
}

/// Cells and spaces as a follower has them.
struct Followed {
    stream: Changes,
    cells: BTreeMap<CellKey, Cell>,
    spaces: BTreeMap<SpaceId, Space>,
}

impl Followed {
    fn new(engine: &Engine) -> Self {
        let views: Views = [View::Occupancy, View::Spaces].into_iter().collect();
        let stream = engine.subscribe(views, Start::Snapshot, usize::MAX).expect("a stream");
        Self { stream, cells: BTreeMap::new(), spaces: BTreeMap::new() }
    }

    fn take(&mut self, sealed: Micros, context: &str) {
        while let Some(next) = self.stream.try_next() {
            let Next::Changes(changes) = next else { continue };
            for change in changes {
                match change.row {
                    ViewRow::Cell { key, cell } if change.diff < 0 => {
                        assert_eq!(self.cells.remove(&key), Some(cell), "{context}: what goes was there");
                    }
                    ViewRow::Cell { key, cell } => assert_eq!(self.cells.insert(key, cell), None, "{context}: one row per key"),
                    ViewRow::CellShift { key, .. } if key.time >= sealed => panic!("{context}: {key:?} is not sealed"),
                    ViewRow::CellShift { key, cell } => self.cells.entry(key).or_default().add(cell),
                    ViewRow::Space(space) if change.diff < 0 => {
                        assert_eq!(self.spaces.remove(&space.space_id).as_ref(), Some(space.as_ref()), "{context}");
                    }
                    ViewRow::Space(space) => drop(self.spaces.insert(space.space_id, (*space).clone())),
                    ViewRow::Source(_) | ViewRow::Erased { .. } => {}
                    other => panic!("{context}: a row of another view: {other:?}"),
                }
            }
        }
    }
}

fn histories_to_run() -> u64 {
    std::env::var("DESIRELINE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(320)
}

fn run(seed: u64, workers: usize, batch_rows: usize, restart: bool, stride: usize) -> Run {
    let steps = plan(seed);
    let context = format!("seed {seed}, {workers} workers, batches of {batch_rows}, restart {restart}");
    let mut run = Run::new(workers, batch_rows, !restart, context);
    for (at, step) in steps.iter().enumerate() {
        run.step(step);
        if restart && at == steps.len() / 2 {
            run.restart();
            run.compare("right after the import");
        }
        if at % stride == stride - 1 {
            run.compare(&format!("after step {at}: {step:?}"));
        }
    }
    run.compare("at the end");
    run
}

#[test]
fn occupancy_equals_its_reference() {
    for seed in KNOWN_SEEDS.iter().copied().chain(0..histories_to_run() / 2) {
        run(seed, 1 + (seed % 3) as usize, 1_000, seed % 4 == 1, 6);
    }
}

#[test]
fn other_batch_sizes_give_the_same_occupancy() {
    for seed in 0..histories_to_run() / 8 {
        for batch_rows in [1, 4] {
            run(seed, 1 + (seed % 3) as usize, batch_rows, false, usize::MAX);
        }
    }
}

/// A session that ended just as long before the boundary as a move may take still decides where a device came from.
#[test]
fn a_session_is_kept_as_long_as_a_move_may_come_from_it() {
    let mut run = Run::new(1, 1_000, false, "a move over the boundary".to_owned());
    run.step(&Step::Settings(WifiSettings { move_gap: HOUR, ..WifiSettings::default() }));
    let stay = |end: Micros, space| Stay { end: Some(end), space, randomized: false };
    let boundary = T0 + DAY;
    run.step(&Step::Rows(vec![("d0".into(), boundary - 2 * HOUR, stay(boundary - HOUR, 1))]));
    run.step(&Step::Tick(boundary + DAY));
    run.step(&Step::Seal(boundary));
    run.step(&Step::Rows(vec![("d0".into(), boundary, stay(boundary + HOUR, 2))]));
    run.compare("after the arrival");
    assert!(run.reference.occupancy().cells().keys().any(|key| key.measure == Measure::Moves && key.space == 1 && key.other == 2));
}

/// Whatever was sealed and forgotten, memory holds no more than what can still change.
#[test]
fn what_is_sealed_leaves_memory() {
    let mut run = Run::new(2, 1_000, false, "an endless stream".to_owned());
    run.step(&Step::Settings(WifiSettings::default()));
    let mut largest = 0;
    for day in 0..30 {
        let rows = (0..200).map(|n| {
            let start = T0 + day * DAY + n * 7 * MINUTE;
            let end = Some(start + HOUR);
            (device(n as u64 % 12).0, start, Stay { end, space: (n % 5) as SpaceId, randomized: false })
        });
        run.step(&Step::Rows(rows.collect()));
        run.step(&Step::Tick(T0 + (day + 1) * DAY));
        run.step(&Step::Seal(T0 + (day - 1) * DAY));
        let (_, parts) = run.engine.ask(Query::Overview).expect("an answer");
        let stats =
            parts.iter().map(|part| if let Answer::Overview { worker, .. } = part { worker.wifi } else { panic!("not an overview") });
        let (stays, cells) = stats.fold((0, 0), |sum, s| (sum.0 + s.stays, sum.1 + s.cells));
        largest = largest.max(stays);
        assert!(stays <= 3 * 200 && cells < 3 * 5 * 130, "day {day}: {stays} sessions and {cells} cells in memory");
    }
    assert!(largest >= 200, "a day's sessions are in memory");
    assert!(run.cold.stays.len() > 27 * 200, "whole days were sealed: {}", run.cold.stays.len());
    run.compare("at the end");
    let hash = user_hash(SOURCE, "d1");
    assert!(run.cold.stays.values().any(|(_, stay)| stay.hash == hash), "sealed sessions name their key hash");
}
