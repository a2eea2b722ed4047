//! A campus: WiFi sessions of devices in rooms, and the plain loop that counts them.

use super::workload::Random;
use desireline_records::time::{DAY, HOUR, MINUTE, SECOND};
use desireline_records::wifi::bins;
use desireline_records::{
    Batch, Cell, CellKey, Control, Event, Horizon, Measure, Micros, SourceSettings, SpaceId, Stay, WifiSession, WifiSettings,
};
use ecow::{EcoString, eco_format};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

pub const SOURCE: u32 = 2_000;
const DEVICES: u64 = 50_000;
pub const ROOMS: u64 = 500;
/// Sessions of 50,000 devices in a month: 1 M, as on a campus of that size.
const SESSIONS_PER_DAY: f64 = 1_000_000.0 / 30.0;
/// 2020-01-01.
const BEGIN: Micros = 1_577_836_800 * SECOND;

pub fn settings(horizon: Horizon) -> Arc<Batch> {
    let settings = SourceSettings { wifi: Some(WifiSettings::default()), horizon, ..SourceSettings::defaults(SOURCE) };
    Arc::new(Batch { time: 1, controls: vec![Control::Settings(settings)], ..Batch::default() })
}

/// Sessions in the order of their arrival, which is at their end: 5 % arrive up to two hours later, 1 % twice. Rooms are chosen by rank:
/// the largest hall has one session in forty.
pub struct Campus {
    random: Random,
    devices: Vec<EcoString>,
    shares: Vec<f64>,
    now: Micros,
    arriving: BinaryHeap<Reverse<Arrival>>,
}

/// When a session is told, then its device, room, start and end.
type Arrival = (Micros, u32, SpaceId, Micros, Micros);

impl Campus {
    pub fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let shares = (1..=ROOMS)
            .map(|rank| {
                sum += (rank as f64).powf(-0.6);
                sum
            })
            .collect();
        let devices = (0..DEVICES).map(|n| eco_format!("p{:032x}", u128::from(n) * 0x9e37_79b9_7f4a_7c15_f39c_0c11)).collect();
        Self { random: Random(seed), devices, shares, now: BEGIN, arriving: BinaryHeap::new() }
    }

    pub fn now(&self) -> Micros {
        self.now
    }

    fn room(&mut self) -> SpaceId {
        let at = self.random.unit() * self.shares[self.shares.len() - 1];
        self.shares.partition_point(|share| *share < at) as SpaceId
    }

    fn begin_one(&mut self) {
        // Twice as many by day as at night.
        let hour = self.now.rem_euclid(DAY) / HOUR;
        let busy = if (8..20).contains(&hour) { 4.0 / 3.0 } else { 2.0 / 3.0 };
        let gap = DAY as f64 / (SESSIONS_PER_DAY * busy);
        self.now += (gap * 2.0 * self.random.unit()) as Micros;
        let device = self.random.below(DEVICES) as u32;
        let length = (1 + self.random.below(11)) as Micros * 5 * MINUTE + self.random.below(300) as Micros * SECOND;
        let length = if self.random.below(20) == 0 { length * 8 } else { length };
        let (start, end, room) = (self.now, self.now + length, self.room());
        let arrival = if self.random.below(20) == 0 { end + self.random.below(7_200) as Micros * SECOND } else { end };
        self.arriving.push(Reverse((arrival, device, room, start, end)));
        if self.random.below(100) == 0 {
            self.arriving.push(Reverse((arrival + MINUTE, device, room, start, end)));
        }
    }

    fn event(&self, device: u32, space: SpaceId, start: Micros, end: Micros) -> Event {
        let stay = Stay { end: Some(end), space, randomized: device.is_multiple_of(3) };
        let device = self.devices[device as usize].clone();
        WifiSession { source: SOURCE, device, sensor: EcoString::new(), start, stay }.into_event()
    }

    /// New sessions that began up to `span` ago.
    pub fn late(&mut self, count: usize, span: Micros) -> Vec<Event> {
        let mut one = || {
            let device = self.random.below(DEVICES) as u32;
            let start = self.now - self.random.below(span as u64) as Micros;
            let room = self.room();
            let length = self.random.below(3_600) as Micros * SECOND;
            self.event(device, room, start, start + length)
        };
        (0..count).map(|_| one()).collect()
    }
}

impl Iterator for Campus {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while self.arriving.peek().is_none_or(|Reverse(first)| first.0 > self.now) {
            self.begin_one();
        }
        let Reverse((_, device, room, start, end)) = self.arriving.pop()?;
        Some(self.event(device, room, start, end))
    }
}

/// The limit: a loop that keeps, for every bin of the three widths, how many sessions each device has in it.
#[derive(Default)]
pub struct PlainCampus {
    devices: HashMap<EcoString, u32>,
    sessions: HashMap<(u32, SpaceId, Micros), Micros>,
    present: HashMap<(u32, SpaceId, i64, u32), u32>,
    bins: HashMap<(u32, SpaceId, i64), (i64, i64)>,
}

impl PlainCampus {
    pub fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            let Some(Stay { end: Some(end), space, randomized }) = event.stay else { continue };
            let next = self.devices.len() as u32;
            let device = *self.devices.entry(event.user.clone()).or_insert(next);
            if self.sessions.insert((device, space, event.time), end).is_some() {
                continue;
            }
            for seconds in [900, 3_600, 86_400] {
                for bin in bins(event.time, end, i64::from(seconds) * SECOND) {
                    let sessions = self.present.entry((seconds, space, bin, device)).or_default();
                    *sessions += 1;
                    if *sessions == 1 {
                        let cell = self.bins.entry((seconds, space, bin)).or_default();
                        cell.0 += 1;
                        cell.1 += i64::from(randomized);
                    }
                }
            }
        }
    }

    /// Every bin, in order.
    pub fn cells(&self) -> Vec<(CellKey, Cell)> {
        let cell = |(&(seconds, space, bin), &(count, randomized)): (&(u32, SpaceId, i64), &(i64, i64))| {
            let time = bin * i64::from(seconds) * SECOND;
            (CellKey { space, measure: Measure::Devices(seconds), time, other: 0 }, Cell { count, randomized, micros: 0 })
        };
        let mut cells: Vec<(CellKey, Cell)> = self.bins.iter().map(cell).collect();
        cells.sort_unstable();
        cells
    }
}
