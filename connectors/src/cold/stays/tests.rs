//! Parts of WiFi sessions and cells against plain collections.

use super::*;
use crate::cold::rows::ColdRow;
use crate::cold::write::PartsWriter;
use crate::store::StoreLimits;
use desireline_records::time::{DAY, HOUR};
use desireline_records::{Cell, CellKey, LogicalTime, Measure, Micros, SealedStay, SpaceId, user_hash};
use ecow::{EcoString, eco_format};
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

const SOURCE: u32 = 2000;
const ALL: (Micros, Micros) = (Micros::MIN, Micros::MAX);

fn memory() -> Store {
    Store::from_objects(Arc::new(InMemory::new()), StoreLimits::default(), false)
}

fn stay(device: u32, start: Micros, length: Micros, space: SpaceId, exported_at: LogicalTime) -> ColdStay {
    let device = eco_format!("device{device}");
    let key_hash = user_hash(SOURCE, &device);
    let stay = SealedStay { start, end: start + length, space, open: false, deleted: false };
    ColdStay { key_hash, randomized: device.ends_with('7'), device, stay, exported_at }
}

/// Versions of sessions in parts, and what they say together.
#[derive(Default)]
struct Sessions {
    parts: Vec<ColdPart>,
    newest: BTreeMap<(u64, EcoString, Micros, SpaceId), ColdStay>,
}

impl Sessions {
    async fn write(&mut self, store: &Store, stays: Vec<ColdStay>) {
        for stay in &stays {
            let key = (stay.key_hash, stay.device.clone(), stay.stay.start, stay.stay.space);
            let older = self.newest.get(&key).is_none_or(|known| known.exported_at < stay.exported_at);
            if older {
                self.newest.insert(key, stay.clone());
            }
        }
        self.parts.extend(write_stays(store, SOURCE, stays).await.expect("writes"));
    }

    fn expected(&self, wanted: impl Fn(&ColdStay) -> bool) -> Vec<ColdStay> {
        self.newest.values().filter(|stay| !stay.stay.deleted && wanted(stay)).cloned().collect()
    }

    /// Days of sessions of 60 devices, and later versions of some of them: longer, shorter or taken back.
    async fn random(store: &Store, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sessions = Self::default();
        for day in 0..12 {
            let mut rows = Vec::new();
            for _ in 0..200 {
                let start = day * DAY + random.random_range(0..24) * HOUR;
                let length = random.random_range(0..30) * HOUR;
                rows.push(stay(random.random_range(0..60), start, length, random.random_range(0..5), 10 + day as u64));
            }
            let known: Vec<ColdStay> = sessions.newest.values().cloned().collect();
            for _ in 0..known.len().min(40) {
                let mut again = known[random.random_range(0..known.len())].clone();
                again.stay.end = again.stay.start + random.random_range(0..60) * HOUR;
                again.stay.deleted = random.random_range(0..3) == 0;
                again.exported_at = 10 + day as u64;
                rows.push(again);
            }
            rows.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
            rows.dedup_by(|b, a| a.same_session(b));
            sessions.write(store, rows).await;
        }
        sessions
    }

    async fn compare(&self, store: &Store, parts: &[ColdPart]) {
        for (from, to) in
            [ALL, (0, DAY), (3 * DAY + HOUR, 3 * DAY + 2 * HOUR), (5 * DAY, 9 * DAY), (11 * DAY, 40 * DAY), (40 * DAY, 41 * DAY)]
        {
            for spaces in [BTreeSet::new(), BTreeSet::from([1]), BTreeSet::from([0, 4, 77])] {
                let overlaps = |s: &ColdStay| s.stay.start < to && (s.stay.end > from || s.stay.start >= from);
                let expected = self.expected(|s| overlaps(s) && (spaces.is_empty() || spaces.contains(&s.stay.space)));
                assert_eq!(read_stays(store, parts, &spaces, from, to).await.expect("reads"), expected, "{from}..{to} {spaces:?}");
            }
        }
        let devices: Vec<(u64, EcoString)> =
            ["device3", "device7", "device41", "nobody"].map(|name| (user_hash(SOURCE, name), name.into())).to_vec();
        let of_devices = |s: &&ColdStay| devices.iter().any(|(_, device)| *device == s.device);
        let expected: Vec<ColdStay> = self.newest.values().filter(of_devices).cloned().collect();
        assert!(expected.iter().any(|s| s.stay.deleted), "what was taken back is known");
        assert_eq!(read_devices(store, parts, &devices).await.expect("reads"), expected);
    }
}

#[tokio::test]
async fn of_the_versions_of_a_session_the_newest_counts_wherever_it_lies() {
    for seed in 0..4 {
        let store = memory();
        let sessions = Sessions::random(&store, seed).await;
        sessions.compare(&store, &sessions.parts).await;
        let reversed: Vec<ColdPart> = sessions.parts.iter().rev().cloned().collect();
        sessions.compare(&store, &reversed).await;
    }
}

#[tokio::test]
async fn a_version_outside_of_the_range_hides_the_one_inside() {
    let store = memory();
    let mut sessions = Sessions::default();
    sessions.write(&store, vec![stay(1, HOUR, 10 * HOUR, 5, 1)]).await;
    sessions.write(&store, vec![stay(1, HOUR, HOUR, 5, 2)]).await;
    assert!(read_stays(&store, &sessions.parts, &BTreeSet::new(), 4 * HOUR, 5 * HOUR).await.expect("reads").is_empty());
    assert_eq!(read_stays(&store, &sessions.parts, &BTreeSet::from([5]), HOUR, 2 * HOUR).await.expect("reads").len(), 1);
    assert!(
        read_stays(&store, &sessions.parts, &BTreeSet::new(), 2 * HOUR, 3 * HOUR).await.expect("reads").is_empty(),
        "the end is exclusive"
    );
}

#[tokio::test]
async fn an_entry_bounds_its_sessions() {
    let store = memory();
    let rows = vec![stay(1, HOUR, 10 * HOUR, 5, 1), stay(2, 2 * HOUR, HOUR, -5, 1)];
    let hashes = [rows[0].key_hash, rows[1].key_hash];
    let parts = write_stays(&store, SOURCE, rows.clone()).await.expect("writes");
    assert_eq!(parts.len(), 1);
    assert!(parts[0].name.starts_with("cold/stays/2000/"), "{}", parts[0].name);
    assert_eq!((parts[0].rows, parts[0].time_min, parts[0].time_max), (2, HOUR, 11 * HOUR));
    assert_eq!((parts[0].hash_min, parts[0].hash_max), (hashes[0].min(hashes[1]), hashes[0].max(hashes[1])));
    assert_eq!(write_stays(&store, SOURCE, rows).await.expect("writes"), parts, "the same sessions are the same object");
    assert_eq!(write_stays(&store, SOURCE, Vec::new()).await.expect("writes"), []);
}

#[tokio::test]
async fn merging_changes_no_answer() {
    let store = memory();
    let mut sessions = Sessions::random(&store, 9).await;
    let merged = merge_stays(&store, SOURCE, &sessions.parts[3..7], MergeStays::default()).await.expect("merges");
    let mut parts = sessions.parts.clone();
    parts.splice(3..7, merged);
    assert_eq!(parts.len(), 9);
    sessions.compare(&store, &parts).await;
    let all = merge_stays(&store, SOURCE, &parts, MergeStays::default()).await.expect("merges");
    assert_eq!(all.iter().map(|part| part.rows).sum::<u64>(), sessions.newest.len() as u64);
    sessions.compare(&store, &all).await;

    // A device leaves with what was exported up to a time.
    let drop = [(user_hash(SOURCE, "device9"), EcoString::from("device9"), 15), (user_hash(SOURCE, "device3"), "device3".into(), 10)];
    assert!(holds_devices(&store, &all[0], &drop).await.expect("reads"));
    let rest = merge_stays(&store, SOURCE, &all, MergeStays { drop: &drop, ..MergeStays::default() }).await.expect("merges");
    let gone = |s: &ColdStay| drop.iter().any(|(_, device, until)| *device == s.device && s.exported_at <= *until);
    sessions.newest.retain(|_, s| !gone(s));
    let found = read_stays(&store, &rest, &BTreeSet::new(), ALL.0, ALL.1).await.expect("reads");
    assert_eq!(found, sessions.expected(|_| true));
    assert!(!holds_devices(&store, &rest[0], &drop).await.expect("reads"));

    // Sessions that ended before a time leave.
    let leave_out = MergeStays { retained_from: Some(6 * DAY), ..MergeStays::default() };
    let rest = merge_stays(&store, SOURCE, &rest, leave_out).await.expect("merges");
    let before = sessions.newest.len();
    sessions.newest.retain(|_, s| s.stay.end >= 6 * DAY);
    assert!(sessions.newest.len() < before);
    let found = read_stays(&store, &rest, &BTreeSet::new(), ALL.0, ALL.1).await.expect("reads");
    assert_eq!(found, sessions.expected(|_| true));
    let leave_out = MergeStays { retained_from: Some(Micros::MAX), ..MergeStays::default() };
    assert_eq!(merge_stays(&store, SOURCE, &rest, leave_out).await.expect("merges"), []);
}

#[tokio::test]
async fn many_rows_are_several_parts_and_a_device_is_in_one_of_them() {
    let store = memory();
    let mut rows: Vec<ColdStay> = (0..4_000).map(|n| stay(n % 40, i64::from(n) * HOUR, HOUR, 1, 5)).collect();
    rows.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let mut writer = PartsWriter::of_parts(&store, SOURCE, 1_000);
    for row in rows.clone() {
        writer.push(row).await.expect("writes");
    }
    let parts = writer.finish().await.expect("writes");
    assert_eq!(parts.len(), 4);
    assert!(parts.windows(2).all(|two| two[0].hash_max < two[1].hash_min));
    assert_eq!(read_stays(&store, &parts, &BTreeSet::new(), ALL.0, ALL.1).await.expect("reads"), rows);
}

fn key(space: SpaceId, measure: Measure, time: Micros, other: i32) -> CellKey {
    CellKey { space, measure, time, other }
}

/// Differences in parts, and their sums.
#[derive(Default)]
struct Cells {
    parts: Vec<ColdPart>,
    sums: BTreeMap<CellKey, Cell>,
}

const MEASURES: [Measure; 5] = [Measure::Devices(900), Measure::Devices(3_600), Measure::Visits, Measure::Dwell, Measure::Moves];

impl Cells {
    async fn write(&mut self, store: &Store, cells: Vec<(CellKey, Cell)>) {
        cells.iter().for_each(|(key, cell)| self.sums.entry(*key).or_default().add(*cell));
        self.parts.extend(write_cells(store, SOURCE, cells).await.expect("writes"));
    }

    async fn random(store: &Store, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cells = Self::default();
        for day in 0..8 {
            let mut rows = Vec::new();
            for _ in 0..600 {
                let measure = MEASURES[random.random_range(0..MEASURES.len())];
                let day = if random.random_range(0..10) == 0 { random.random_range(0..8) } else { day };
                let time = day * DAY + random.random_range(0..DAY / measure.width()) * measure.width();
                let space = [i32::MIN, -3, 0, 1, 2, 40, i32::MAX][random.random_range(0..7)];
                let other = if measure == Measure::Moves { random.random_range(-2..3) } else { 0 };
                let big = if random.random_range(0..20) == 0 { 1 << 40 } else { 1 };
                let cell = Cell {
                    count: random.random_range(-1..=1),
                    randomized: random.random_range(0..2),
                    micros: big * random.random_range(-9..9),
                };
                rows.push((key(space, measure, time, other), cell));
            }
            // What was counted before is taken back in part.
            let taken_back: Vec<_> = cells.sums.iter().step_by(7).map(|(key, cell)| (*key, cell.negated())).collect();
            rows.extend(taken_back);
            cells.write(store, rows).await;
        }
        cells
    }

    async fn compare(&self, store: &Store, parts: &[ColdPart], cache: &CellCache) {
        for measure in MEASURES {
            for (from, to) in [ALL, (2 * DAY, 3 * DAY), (5 * DAY + HOUR, 5 * DAY + 3 * HOUR), (90 * DAY, 91 * DAY)] {
                for spaces in [BTreeSet::new(), BTreeSet::from([-3, 40]), BTreeSet::from([i32::MIN, i32::MAX]), BTreeSet::from([7])] {
                    let wanted = |key: &CellKey| {
                        key.measure == measure && (from..to).contains(&key.time) && (spaces.is_empty() || spaces.contains(&key.space))
                    };
                    let expected: Vec<(CellKey, Cell)> =
                        self.sums.iter().filter(|(key, cell)| wanted(key) && !cell.is_zero()).map(|(key, cell)| (*key, *cell)).collect();
                    assert_eq!(cache.read_cells(store, parts, measure, &spaces, from, to).await.expect("reads"), expected);
                    let mut sum: BTreeMap<Micros, Cell> = BTreeMap::new();
                    expected.iter().filter(|_| !spaces.is_empty()).for_each(|(key, cell)| sum.entry(key.time).or_default().add(*cell));
                    let groups = [spaces.clone(), BTreeSet::from([99]), spaces.clone()];
                    let sums = cache.read_sums(store, parts, measure, &groups, from, to).await.expect("reads");
                    let sum: Vec<(Micros, Cell)> = sum.into_iter().filter(|(_, cell)| !cell.is_zero()).collect();
                    assert_eq!(sums, [sum.clone(), Vec::new(), sum]);
                }
            }
        }
    }
}

#[tokio::test]
async fn cells_add_up_over_parts() {
    for (seed, bytes_max) in [(1, usize::MAX), (2, 0), (3, 6_000)] {
        let store = memory();
        let cells = Cells::random(&store, seed).await;
        let cache = CellCache::new(bytes_max);
        cells.compare(&store, &cells.parts, &cache).await;
        let stats = cache.stats();
        assert!(stats.bytes <= bytes_max, "{stats:?}");
        assert_eq!((stats.hits > 0, stats.blocks > 0), (bytes_max > 0, bytes_max > 0), "{stats:?}");
        let merged = merge_cells(&store, SOURCE, &cells.parts).await.expect("merges");
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].rows, cells.sums.values().filter(|cell| !cell.is_zero()).count() as u64);
        cells.compare(&store, &merged, &cache).await;
        assert!(cache.stats().bytes <= bytes_max);
    }
}

#[tokio::test]
async fn equal_differences_count_twice() {
    let store = memory();
    let mut cells = Cells::default();
    let once = vec![(key(1, Measure::Visits, 0, 0), Cell { count: 1, randomized: 0, micros: 5 })];
    cells.write(&store, once.clone()).await;
    cells.write(&store, once.clone()).await;
    assert_ne!(cells.parts[0].name, cells.parts[1].name);
    assert_eq!((cells.parts[0].hash_min, cells.parts[0].hash_max), (space_order(1), space_order(1)));
    let cache = CellCache::new(1 << 20);
    let found = cache.read_cells(&store, &cells.parts, Measure::Visits, &BTreeSet::new(), 0, 1).await.expect("reads");
    assert_eq!(found, [(once[0].0, Cell { count: 2, randomized: 0, micros: 10 })]);
    let back = vec![(once[0].0, found[0].1.negated())];
    cells.write(&store, back).await;
    assert!(cache.read_cells(&store, &cells.parts, Measure::Visits, &BTreeSet::new(), 0, 1).await.expect("reads").is_empty());
    assert_eq!(merge_cells(&store, SOURCE, &cells.parts).await.expect("merges"), [], "nothing is left");
    assert_eq!(write_cells(&store, SOURCE, vec![(once[0].0, Cell::ZERO)]).await.expect("writes"), []);
    assert!(space_order(i32::MIN) < space_order(-1) && space_order(-1) < space_order(0) && space_order(0) < space_order(i32::MAX));
}

#[tokio::test]
async fn the_least_recently_used_leave_the_cache_first() {
    let store = memory();
    let mut cells = Cells::default();
    for day in 0..4 {
        let hours =
            (0..24).map(|hour| (key(1, Measure::Devices(3_600), day * DAY + hour * HOUR, 0), Cell { count: 1 + hour, ..Cell::ZERO }));
        cells.write(&store, hours.collect()).await;
    }
    let measure = CellCache::new(usize::MAX);
    let read = async |cache: &CellCache, day: i64| {
        let found = cache.read_cells(&store, &cells.parts, Measure::Devices(3_600), &BTreeSet::new(), day * DAY, (day + 1) * DAY).await;
        assert_eq!(found.expect("reads").len(), 24);
        cache.stats()
    };
    let one = read(&measure, 0).await.bytes;
    let cache = CellCache::new(2 * one);
    for (day, hits) in [(0, 0), (1, 0), (0, 1), (2, 1), (0, 2), (1, 2), (0, 3)] {
        let stats = read(&cache, day).await;
        assert_eq!(stats.hits, hits, "day {day}");
        assert!(stats.bytes <= 2 * one && stats.blocks <= 2);
    }
}

#[tokio::test]
async fn damage_is_refused() {
    let good = memory();
    let mut cells = Cells::default();
    let rows = (0..50).map(|hour| (key(hour % 3, Measure::Devices(3_600), i64::from(hour) * HOUR, 0), Cell { count: 1, ..Cell::ZERO }));
    cells.write(&good, rows.collect()).await;
    let mut sessions = Sessions::default();
    sessions.write(&good, (0..50).map(|n| stay(n, i64::from(n) * HOUR, HOUR, 1, 1)).collect()).await;
    for part in [&cells.parts[0], &sessions.parts[0]] {
        let bytes = good.get(&part.name).await.expect("reads");
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let store = memory();
            store.put_if_absent(&part.name, vec![flipped.into()]).await.expect("puts");
            let parts = std::slice::from_ref(part);
            let error = if part.name.contains("cells") {
                // A reader looks at what it needs; a merge at everything.
                let read = CellCache::new(1 << 20).read_cells(&store, parts, Measure::Devices(3_600), &BTreeSet::new(), ALL.0, ALL.1).await;
                assert!(read.is_err() || read.is_ok_and(|found| found.len() == 50));
                merge_cells(&store, SOURCE, parts).await.expect_err("a flipped bit is never answered")
            } else {
                read_stays(&store, parts, &BTreeSet::new(), ALL.0, ALL.1).await.expect_err("a flipped bit is never answered")
            };
            assert_eq!(error.code(), "cold_damaged", "byte {at}: {error}");
        }
    }
}

/// Prints how long reading a building for a year takes; asserts only that it is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_building_for_a_year_is_read_from_many_parts() {
    const SPACES: i32 = 500;
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
    let measure = Measure::Devices(3_600);
    let mut parts = Vec::new();
    // Rooms are used in a quarter of the hours: 1.1 million cells.
    for month in 0..24 {
        let hours = (0..8_760 / 24).filter(|hour| hour % 4 == 0).map(|hour| (month * 365 + hour) * HOUR);
        let cell = |space: i32, time: Micros| {
            (key(space, measure, time, 0), Cell { count: i64::from(space % 40) + 1, randomized: i64::from(space % 7), micros: 0 })
        };
        let cells = hours.flat_map(|time| (0..SPACES).map(move |space| cell(space, time))).collect();
        parts.extend(write_cells(&store, SOURCE, cells).await.expect("writes"));
    }
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let building: BTreeSet<SpaceId> = (100..200).collect();
    for (name, parts) in [("24 parts", parts.clone()), ("merged", merge_cells(&store, SOURCE, &parts).await.expect("merges"))] {
        let cache = CellCache::new(64 << 20);
        for run in ["cold", "warm"] {
            let begun = Instant::now();
            let sums = cache.read_sums(&store, &parts, measure, std::slice::from_ref(&building), 0, 366 * DAY).await.expect("reads");
            let summed = begun.elapsed();
            let found = cache.read_cells(&store, &parts, measure, &building, 0, 366 * DAY).await.expect("reads");
            let read = begun.elapsed() - summed;
            println!("{name}, {run}: {rows} cells, sums in {summed:?}, {} cells in {read:?}, {:?}", found.len(), cache.stats());
            assert_eq!(found.len() as u64, rows / 5);
            assert_eq!(sums[0].len(), 24 * 92);
            assert_eq!(sums[0][0].1.count, building.iter().map(|space| i64::from(space % 40) + 1).sum::<i64>());
        }
    }
}
