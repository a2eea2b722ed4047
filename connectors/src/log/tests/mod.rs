//! Tests of the log as a whole, and what they share: random batches and ways to read everything.

mod damage;
mod lifecycle;
mod model;
mod round_trip;
mod speed;

use super::{CompactionLimits, LogConfig, LogError, LogReader, LogWriter};
use crate::store::{Store, StoreLimits};
use desireline_records::{
    Batch, ColdPart, Control, DeadLetter, DeadLetterKind, EraseUser, Event, EventExtra, EventId, Fixed4, LogicalTime, Movement,
    PartitionState, Position, Seal, SourceSettings, Stay,
};
use ecow::EcoString;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A small generator of our own, so that a seed means the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn text(&mut self, words: &[&str]) -> EcoString {
        words[self.below(words.len() as u64) as usize].into()
    }
}

pub fn memory_store() -> Store {
    let limits = StoreLimits { attempts_max: 1, backoff: Duration::ZERO, ..StoreLimits::default() };
    Store::from_objects(Arc::new(InMemory::new()), limits, false)
}

pub fn config() -> LogConfig {
    LogConfig { compaction: CompactionLimits { segments_min: 4, part_bytes_max: 1 << 20 }, ..LogConfig::new(0) }
}

pub fn event(random: &mut Random) -> Event {
    let extra = random.chance(30).then(|| {
        Box::new(EventExtra {
            event_id: random.text(&["", "e-1", "an-event-id-longer-than-inline"]),
            client_id: random.text(&["", "c"]),
            session_id: random.text(&["", "sess"]),
            transaction_id: random.text(&["", "t9"]),
            properties: random.text(&["", "{\"a\":1}"]),
        })
    });
    Event {
        source: random.below(3) as u32,
        movement: Movement::from_code(random.below(4) as u8).expect("a code"),
        late: random.chance(10),
        time: random.below(1 << 50) as i64,
        id: EventId([random.next(), random.next()]),
        value: Fixed4(random.next() as i64 >> 10),
        user: random.text(&["1", "42", "ann", "bob", "Ünïcode user with a long name", "carol"]),
        event_type: random.text(&["view", "addtocart", "transaction"]),
        page: random.text(&["", "/", "/a/long/page/name?with=query&and=more"]),
        item: random.text(&["", "item7"]),
        extra,
        stay: random.chance(20).then(|| Stay {
            end: random.chance(50).then(|| random.below(1 << 50) as i64),
            space: random.next() as i32,
            randomized: random.chance(50),
        }),
    }
}

pub fn letter(random: &mut Random) -> DeadLetter {
    DeadLetter {
        source: random.below(3) as u32,
        kind: DeadLetterKind::ALL[random.below(3) as usize],
        at: random.below(1 << 50) as i64,
        user: random.text(&["", "ann", "bob"]),
        field: random.text(&["", "timestamp"]),
        detail: random.text(&["is bad", "is worse"]),
        origin: random.text(&["topic/0/17", "http"]),
        format: random.text(&["ampelios", "clickstream"]),
        payload: random.text(&["", "{", "a,b,c"]),
    }
}

fn control(random: &mut Random) -> Control {
    let source = random.below(3) as u32;
    match random.below(6) {
        0 => Control::Settings(SourceSettings::defaults(source)),
        1 => Control::DeleteEvent { source, id: EventId([random.next(), 1]) },
        2 => Control::Erase(EraseUser {
            source,
            user: random.text(&["ann", "bob"]),
            requested_at: 5,
            sealed_minutes: Vec::new(),
            purged: None,
        }),
        3 => Control::Seal(Seal {
            source,
            boundary: 77,
            parts: vec![ColdPart {
                name: "cold/x".into(),
                rows: 1,
                bytes: 2,
                hash_min: 3,
                hash_max: u64::MAX,
                time_min: -1,
                time_max: i64::MAX,
                block_sums: vec![1, 2].into(),
            }],
        }),
        4 => Control::Partition(PartitionState::Idle { source, partition: "p/0".into() }),
        _ => Control::Run { run_id: "r".into(), body: serde_json::json!({"state": "STARTED", "n": [1, 2.5, null]}) },
    }
}

/// Makes batches whose times increase and whose positions join up.
pub struct Source {
    pub random: Random,
    pub time: LogicalTime,
    positions: BTreeMap<(u32, EcoString), i64>,
}

impl Source {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), time: 1_000, positions: BTreeMap::new() }
    }

    pub fn batch(&mut self, rows_max: u64) -> Batch {
        let random = &mut self.random;
        self.time += 1 + random.below(50);
        let rows = random.below(rows_max + 1);
        let mut batch = Batch { time: self.time, ..Batch::default() };
        batch.events = (0..rows).map(|_| event(random)).collect();
        if random.chance(30) {
            batch.dead_letters = (0..1 + random.below(4)).map(|_| letter(random)).collect();
        }
        if random.chance(15) {
            batch.controls = (0..1 + random.below(2)).map(|_| control(random)).collect();
        }
        for partition in ["kafka:a/0", "kafka:a/1", "http"] {
            if random.chance(50) {
                let source = random.below(2) as u32;
                let known = self.positions.entry((source, partition.into())).or_insert(0);
                let before = *known;
                *known += random.below(9) as i64;
                let max_time = random.chance(80).then_some(*known * 10);
                batch.positions.push(Position { source, partition: partition.into(), before, after: *known, max_time });
            }
        }
        if random.chance(40) {
            batch.watermarks.push((random.below(3) as u32, self.time as i64 * 7));
        }
        batch.tick = random.chance(30).then_some(self.time as i64 * 1_000);
        batch
    }
}

/// Everything in the log, batch by batch.
pub async fn read_all(reader: &LogReader) -> Result<Vec<Batch>, LogError> {
    reader.batches(0, 0).try_collect().await
}

pub async fn fill(store: &Store, seed: u64, batches: usize, rows_max: u64) -> (LogWriter, Source, Vec<Batch>) {
    let mut writer = LogWriter::open(store.clone(), config()).await.expect("opens");
    let mut source = Source::new(seed);
    let mut written = Vec::new();
    for _ in 0..batches {
        let batch = source.batch(rows_max);
        writer.append(&batch).await.expect("appends");
        written.push(batch);
    }
    (writer, source, written)
}
