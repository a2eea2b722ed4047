//! One worker's devices, and what rows and commands of the log do to them.
//!
//! A row of a batch finds its device, changes its [`Track`], and leaves differences of cells behind. Rows of one device in one batch share
//! the look at the days that they touch. Devices live on the worker that their key hash names, so the answer does not depend on the number
//! of workers, and a hall full of devices is the work of all of them.

mod asked;

use super::query::Standing;
use super::track::{Day, Deltas, Held, Track, days};
use crate::views::sessions::SessionsState;
use crate::views::sessions::source::Counts;
use desireline_records::wifi::{clock_at, effective_end};
use desireline_records::{
    Control, Event, EventId, Micros, Reopen, SealStays, SealedStay, SourceId, SourceSettings, SpaceId, Stay, user_hash,
};
use ecow::EcoString;
use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A WiFi session on its way to the worker that keeps its device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StayRow {
    pub source: SourceId,
    /// The position in its batch: log order.
    pub row: u32,
    pub hash: u64,
    pub late: bool,
    pub start: Micros,
    pub stay: Stay,
    pub device: EcoString,
}

impl StayRow {
    pub fn of(event: &Event, stay: Stay, row: u32, hash: u64) -> Self {
        let device = event.user.clone();
        Self { source: event.source, row, hash, late: event.late, start: event.time, stay, device }
    }
}

/// The state of one device as a row of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    pub device: EcoString,
    pub randomized: bool,
    /// Sessions; of open ones the end is where they are taken to last.
    pub stays: Vec<SealedStay>,
    /// Late rows, in log order: start and what they say.
    pub pending: Vec<(Micros, Stay)>,
    /// Sessions that were taken back.
    pub deleted: Vec<(Micros, SpaceId)>,
}

#[derive(Debug, Default)]
struct Device {
    hash: u64,
    name: EcoString,
    randomized: bool,
    track: Track,
    pending: Vec<(Micros, Stay)>,
    deleted: BTreeSet<(Micros, SpaceId)>,
}

impl Device {
    fn is_gone(&self) -> bool {
        self.track.is_empty() && self.pending.is_empty() && self.deleted.is_empty()
    }
}

/// What a batch changed.
#[derive(Default)]
pub struct Outcome {
    pub deltas: Deltas,
    pub duplicates: Vec<u32>,
    pub late: Vec<u32>,
}

/// The days of a device as they were before a batch touched them.
#[derive(Default)]
struct Touched {
    before: Vec<Day>,
}

impl Touched {
    fn touch(&mut self, track: &Track, from: Micros, to: Micros, standing: &Standing) {
        for day in days(from, to.saturating_add(standing.settings.move_gap)) {
            if !self.before.iter().any(|known| known.day == day) {
                self.before.push(track.day(day, &standing.settings));
            }
        }
    }

    fn settle(self, device: &Device, standing: &Standing, out: &mut Deltas) {
        for before in self.before {
            before.change_to(&device.track.day(before.day, &standing.settings), device.randomized, out);
        }
    }
}

#[derive(Default)]
pub struct Devices {
    slots: Vec<Device>,
    free: Vec<u32>,
    table: HashTable<u32>,
    /// Open sessions that grow with the clock.
    growing: BTreeSet<(u32, Micros, SpaceId)>,
    stays: usize,
    /// Of these, how many in each space.
    by_space: HashMap<SpaceId, usize>,
    pending: usize,
    /// What is the same on every worker.
    pub standing: Standing,
}

impl Devices {
    /// Applies the rows of a batch, in log order; counts them with their source.
    pub fn apply(&mut self, rows: &[StayRow], sessions: &mut SessionsState, out: &mut Outcome) {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|at| (rows[*at as usize].hash, *at));
        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let first = &rows[*first as usize];
            let same = |at: &&u32| rows[**at as usize].hash == first.hash && rows[**at as usize].device == first.device;
            let len = rest.iter().take_while(same).count();
            let (mine, others) = rest.split_at(len);
            rest = others;
            let slot = self.slot(first.hash, &first.device, first.stay.randomized);
            let counts = &mut sessions.source(first.source).counts;
            let mut touched = Touched::default();
            for at in mine {
                let row = &rows[*at as usize];
                counts.received += 1;
                if row.late || self.standing.late_before.is_some_and(|before| row.start < before) {
                    counts.late_unmarked += u64::from(!row.late);
                    counts.pending += 1;
                    self.pending += 1;
                    self.slots[slot as usize].pending.push((row.start, row.stay));
                    out.late.push(row.row);
                } else if self.row(slot, row.start, row.stay, &mut touched, &mut out.deltas) {
                    counts.applied += 1;
                } else {
                    counts.duplicate += 1;
                    out.duplicates.push(row.row);
                }
            }
            touched.settle(&self.slots[slot as usize], &self.standing, &mut out.deltas);
            self.drop_if_gone(slot);
        }
    }

    /// Applies one row; answers whether it changed anything.
    fn row(&mut self, slot: u32, start: Micros, stay: Stay, touched: &mut Touched, out: &mut Deltas) -> bool {
        let device = &self.slots[slot as usize];
        if device.deleted.contains(&(start, stay.space)) {
            return false;
        }
        let known = device.track.find(start, stay.space);
        match (known, stay.end) {
            (Some(_), None) => return false,
            (Some(held), Some(end)) if !held.open && held.end == end => return false,
            _ => {}
        }
        let end = effective_end(start, stay.end, self.standing.clock, self.standing.settings.max_open);
        let held = Held::new(start, end, stay.space, stay.end.is_none());
        self.set(slot, known, Some(held), touched, out);
        true
    }

    /// Replaces a session by another of the same identity, or by none, or puts a new one.
    fn set(&mut self, slot: u32, before: Option<Held>, after: Option<Held>, touched: &mut Touched, out: &mut Deltas) {
        let Standing { settings, clock, .. } = &self.standing;
        let device = &mut self.slots[slot as usize];
        match (before, after) {
            // Only what lies between the ends is different.
            (Some(a), Some(b)) => touched.touch(&device.track, a.end.min(b.end), a.end.max(b.end), &self.standing),
            (Some(one), None) | (None, Some(one)) => touched.touch(&device.track, one.start, one.end, &self.standing),
            (None, None) => return,
        }
        if let Some(held) = before {
            device.track.take(held.start, held.space);
            self.growing.remove(&(slot, held.start, held.space));
            device.track.bins(&held, after.as_ref(), -1, device.randomized, settings, out);
        }
        if let Some(held) = after {
            device.track.bins(&held, before.as_ref(), 1, device.randomized, settings, out);
            device.track.put(held);
            if held.open && *clock < held.start.saturating_add(settings.max_open) {
                self.growing.insert((slot, held.start, held.space));
            }
        }
        match (before, after) {
            (Some(held), None) => self.note(held.space, -1),
            (None, Some(held)) => self.note(held.space, 1),
            _ => {}
        }
    }

    /// A session has come into memory, or left it.
    fn note(&mut self, space: SpaceId, by: isize) {
        self.stays = self.stays.saturating_add_signed(by);
        let of_space = self.by_space.entry(space).or_default();
        *of_space = of_space.saturating_add_signed(by);
        if *of_space == 0 {
            self.by_space.remove(&space);
        }
    }

    /// A command of the log.
    pub fn control(&mut self, control: &Control, sessions: &mut SessionsState, out: &mut Outcome) {
        match control {
            Control::Settings(settings) => self.configure(settings, &mut out.deltas),
            Control::SealFrom(from) => self.standing.late_before = Some(from.boundary).max(self.standing.late_before),
            Control::SealStays(seal) => self.seal(seal),
            Control::ReplaceStays(replace) => {
                let standing = &mut self.standing;
                replace.apply(&mut standing.cold_stays, &mut standing.cold_cells);
                standing.retained_from = replace.retained_from.max(standing.retained_from);
            }
            Control::Reopen(reopen) => self.reopen(reopen, sessions, &mut out.deltas),
            Control::DeleteEvent { source, id } if self.is_mine(*source) => self.delete(*id, sessions, &mut out.deltas),
            Control::Erase(erase) if self.is_mine(erase.source) && !erase.user.is_empty() => {
                self.erase(&erase.user, sessions, &mut out.deltas);
            }
            _ => {}
        }
    }

    fn is_mine(&self, source: SourceId) -> bool {
        self.standing.source == Some(source)
    }

    fn configure(&mut self, settings: &SourceSettings, out: &mut Deltas) {
        let Some(wifi) = &settings.wifi else { return };
        self.standing.source = Some(settings.source);
        if self.standing.settings == *wifi {
            return;
        }
        self.count_open(-1, out);
        self.standing.settings = wifi.clone();
        self.growing.clear();
        for (slot, device) in (0..).zip(&mut self.slots) {
            let open: Vec<Held> = device.track.iter().filter(|held| held.open).copied().collect();
            for held in open {
                device.track.take(held.start, held.space);
                let end = effective_end(held.start, None, self.standing.clock, wifi.max_open);
                device.track.put(Held::new(held.start, end, held.space, true));
                self.growing.insert((slot, held.start, held.space));
            }
        }
        self.count_open(1, out);
    }

    /// Counts everything in memory, as far as it is not sealed: sealed cells stay what they were under the settings of their time.
    fn count_open(&self, sign: i64, out: &mut Deltas) {
        let open = self.standing.boundary.unwrap_or(Micros::MIN);
        for device in &self.slots {
            for (key, cell) in device.track.whole(device.randomized, &self.standing.settings) {
                if key.time >= open {
                    out.entry(key).or_default().add(if sign < 0 { cell.negated() } else { cell });
                }
            }
        }
    }

    /// The log's clock has moved: open sessions last longer.
    pub fn tick(&mut self, now: Micros, out: &mut Deltas) {
        let clock = clock_at(now);
        if clock <= self.standing.clock {
            return;
        }
        self.standing.clock = clock;
        let max_open = self.standing.settings.max_open;
        let growing: Vec<(u32, Micros, SpaceId)> = self.growing.iter().copied().collect();
        for (slot, start, space) in growing {
            let Some(held) = self.slots[slot as usize].track.find(start, space) else { continue };
            let grown = Held::new(start, effective_end(start, None, clock, max_open), space, true);
            if grown.end != held.end {
                let mut touched = Touched::default();
                self.set(slot, Some(held), Some(grown), &mut touched, out);
                touched.settle(&self.slots[slot as usize], &self.standing, out);
            } else if clock >= start.saturating_add(max_open) {
                self.growing.remove(&(slot, start, space));
            }
        }
    }

    /// Whether a session can leave memory: nothing admissible can change a cell of its any more, nor does it decide one of a later session.
    fn is_sealable(&self, held: &Held, boundary: Micros) -> bool {
        let grows = held.open && held.end < held.start.saturating_add(self.standing.settings.max_open);
        !grows && held.end.saturating_add(self.standing.settings.move_gap) < boundary
    }

    fn seal(&mut self, seal: &SealStays) {
        let first = self.standing.cold_cells.is_empty() && self.standing.boundary.is_none();
        self.standing.late_before = Some(seal.boundary).max(self.standing.late_before);
        self.standing.boundary = Some(seal.boundary).max(self.standing.boundary);
        self.standing.cold_stays.extend(seal.stays.iter().cloned());
        self.standing.cold_cells.extend(seal.cells.iter().cloned());
        let kept = &mut self.standing.sealed_intervals;
        if first {
            kept.clone_from(&seal.intervals);
        } else {
            kept.retain(|interval| seal.intervals.contains(interval));
        }
        for slot in 0..self.slots.len() as u32 {
            let mut device = std::mem::take(&mut self.slots[slot as usize]);
            let leaving: Vec<Held> = device.track.iter().filter(|held| self.is_sealable(held, seal.boundary)).copied().collect();
            if !leaving.is_empty() {
                device.track.retain(|held| !self.is_sealable(held, seal.boundary));
                leaving.iter().for_each(|held| self.note(held.space, -1));
            }
            device.deleted.retain(|(start, _)| *start >= seal.boundary);
            self.slots[slot as usize] = device;
            self.drop_if_gone(slot);
        }
    }

    fn reopen(&mut self, reopen: &Reopen, sessions: &mut SessionsState, out: &mut Deltas) {
        for reopened in reopen.devices.iter().filter(|device| !device.device.is_empty()) {
            let hash = user_hash(reopen.source, &reopened.device);
            if !sessions.owns(hash) {
                continue;
            }
            let slot = self.slot(hash, &reopened.device, reopened.randomized);
            for stay in &reopened.stays {
                let device = &mut self.slots[slot as usize];
                if stay.deleted {
                    device.deleted.insert((stay.start, stay.space));
                    continue;
                }
                let known = device.track.find(stay.start, stay.space).is_some() || device.deleted.contains(&(stay.start, stay.space));
                if !known {
                    device.track.put(Held::new(stay.start, stay.end, stay.space, stay.open));
                    self.note(stay.space, 1);
                }
            }
            let pending = std::mem::take(&mut self.slots[slot as usize].pending);
            self.pending -= pending.len();
            let mut touched = Touched::default();
            for (start, stay) in pending {
                let applied = self.row(slot, start, stay, &mut touched, out);
                let counts: &mut Counts = &mut sessions.source(reopen.source).counts;
                counts.pending -= 1;
                *if applied { &mut counts.applied } else { &mut counts.duplicate } += 1;
            }
            touched.settle(&self.slots[slot as usize], &self.standing, out);
            self.drop_if_gone(slot);
        }
    }

    fn delete(&mut self, id: EventId, sessions: &mut SessionsState, out: &mut Deltas) {
        let (Some(source), Some((slot, held))) = (self.standing.source, self.with_id(id)) else { return };
        let mut touched = Touched::default();
        self.set(slot, Some(held), None, &mut touched, out);
        touched.settle(&self.slots[slot as usize], &self.standing, out);
        self.slots[slot as usize].deleted.insert((held.start, held.space));
        sessions.source(source).counts.deleted += 1;
    }

    /// The session that has the id. Not one that began on a sealed day, though memory may have it: what else its device did on that day
    /// is not known here.
    fn with_id(&self, id: EventId) -> Option<(u32, Held)> {
        let open = self.standing.late_before.unwrap_or(Micros::MIN);
        let of_device = |(slot, device): (u32, &Device)| {
            let mut sessions = device.track.iter().filter(|held| held.start >= open);
            let hit = sessions.find(|held| EventId::stay(&device.name, held.space, held.start) == id)?;
            Some((slot, *hit))
        };
        (0..).zip(&self.slots).find_map(of_device)
    }

    pub fn has(&self, source: SourceId, id: EventId) -> bool {
        self.is_mine(source) && self.with_id(id).is_some()
    }

    fn erase(&mut self, device: &EcoString, sessions: &mut SessionsState, out: &mut Deltas) {
        let Some(source) = self.standing.source else { return };
        let Some(slot) = self.find(user_hash(source, device), device) else { return };
        let mut gone = std::mem::take(&mut self.slots[slot as usize]);
        for (key, cell) in gone.track.whole(gone.randomized, &self.standing.settings) {
            out.entry(key).or_default().add(cell.negated());
        }
        gone.track.iter().for_each(|held| self.note(held.space, -1));
        let counts = &mut sessions.source(source).counts;
        counts.deleted += gone.track.len() as u64;
        counts.pending -= gone.pending.len() as u64;
        counts.late += gone.pending.len() as u64;
        self.pending -= gone.pending.len();
        self.growing.retain(|(of, ..)| *of != slot);
        gone.track = Track::default();
        gone.pending.clear();
        gone.deleted.clear();
        self.slots[slot as usize] = gone;
        self.drop_if_gone(slot);
    }

    fn find(&self, hash: u64, device: &str) -> Option<u32> {
        let same = |slot: &u32| self.slots[*slot as usize].hash == hash && self.slots[*slot as usize].name == device;
        self.table.find(hash, same).copied()
    }

    /// Where a device is kept; a new one gets a place.
    fn slot(&mut self, hash: u64, device: &EcoString, randomized: bool) -> u32 {
        if let Some(slot) = self.find(hash, device) {
            return slot;
        }
        let new = Device { hash, name: device.clone(), randomized, ..Device::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                (self.slots.len() - 1) as u32
            }
        };
        self.table.insert_unique(hash, slot, |slot| self.slots[*slot as usize].hash);
        slot
    }

    fn drop_if_gone(&mut self, slot: u32) {
        let device = &self.slots[slot as usize];
        if !device.is_gone() || device.name.is_empty() {
            return;
        }
        let hash = device.hash;
        if let Ok(entry) = self.table.find_entry(hash, |known| *known == slot) {
            entry.remove();
        }
        self.slots[slot as usize] = Device::default();
        self.free.push(slot);
    }

    /// Devices in memory.
    fn devices(&self) -> impl Iterator<Item = &Device> {
        self.slots.iter().filter(|device| !device.name.is_empty())
    }
}

fn taken_back(start: Micros, space: SpaceId) -> SealedStay {
    SealedStay { start, end: start, space, open: false, deleted: true }
}
