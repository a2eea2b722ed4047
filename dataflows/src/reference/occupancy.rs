//! The slow twin of occupancy: all sessions of all devices in ordinary maps, and every cell counted from them by walking over everything.
//!
//! It never seals: what it says is what memory and cold parts together must say. It shares no code with the view but the names of cells
//! and the buckets of lengths of stay.

use desireline_records::time::{DAY, HOUR, SECOND};
use desireline_records::wifi::dwell_bucket;
use desireline_records::{Cell, CellKey, Control, Event, EventId, Measure, Micros, Reopen, SourceId, Space, SpaceId, Stay, WifiSettings};
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet};

use super::CountFacts;

#[derive(Clone, Debug, Default)]
struct Device {
    randomized: bool,
    /// By (start, space); the end of a closed one.
    sessions: BTreeMap<(Micros, SpaceId), Option<Micros>>,
    deleted: BTreeSet<(Micros, SpaceId)>,
    pending: Vec<(Micros, Stay)>,
}

#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    source: Option<SourceId>,
    settings: WifiSettings,
    devices: BTreeMap<EcoString, Device>,
    spaces: BTreeMap<SpaceId, Space>,
    last_tick: Micros,
    /// Sessions that begin before this cannot be taken back alone.
    late_before: Micros,
}

/// A session with both ends.
#[derive(Clone, Copy)]
struct Whole {
    start: Micros,
    end: Micros,
    space: SpaceId,
}

impl Occupancy {
    pub fn row(&mut self, event: &Event, stay: Stay, counts: &mut CountFacts) {
        counts.received += 1;
        let device = self.devices.entry(event.user.clone()).or_insert_with(|| Device { randomized: stay.randomized, ..Device::default() });
        if event.late {
            counts.pending += 1;
            device.pending.push((event.time, stay));
        } else {
            apply(device, event.time, stay, counts);
        }
    }

    pub fn tick(&mut self, now: Micros) {
        self.last_tick = self.last_tick.max(now);
    }

    pub fn control(&mut self, control: &Control, counts: &mut CountFacts) {
        match control {
            Control::Settings(settings) => {
                if let Some(wifi) = &settings.wifi {
                    (self.source, self.settings) = (Some(settings.source), wifi.clone());
                }
            }
            Control::SealFrom(from) => self.late_before = self.late_before.max(from.boundary),
            Control::Space(space) => drop(self.spaces.insert(space.space_id, space.clone())),
            Control::SpaceRemoved { space_id } => drop(self.spaces.remove(space_id)),
            Control::Reopen(reopen) => self.reopen(reopen, counts),
            Control::DeleteEvent { source, id } if self.source == Some(*source) => self.delete(*id, counts),
            Control::Erase(erase) if self.source == Some(erase.source) => {
                if let Some(device) = self.devices.remove(&erase.user) {
                    counts.deleted += device.sessions.len() as u64;
                    counts.late += device.pending.len() as u64;
                    counts.pending -= device.pending.len() as u64;
                }
            }
            _ => {}
        }
    }

    fn reopen(&mut self, reopen: &Reopen, counts: &mut CountFacts) {
        for named in &reopen.devices {
            let Some(device) = self.devices.get_mut(&named.device) else { continue };
            for (start, stay) in std::mem::take(&mut device.pending) {
                counts.pending -= 1;
                apply(device, start, stay, counts);
            }
        }
    }

    fn delete(&mut self, id: EventId, counts: &mut CountFacts) {
        for (name, device) in &mut self.devices {
            let mut open = device.sessions.keys().filter(|(start, _)| *start >= self.late_before);
            let hit = open.find(|(start, space)| EventId::stay(name, *space, *start) == id).copied();
            if let Some(key) = hit {
                device.sessions.remove(&key);
                device.deleted.insert(key);
                counts.deleted += 1;
            }
        }
    }

    /// Until when an open session lasts: to the end of the quarter of an hour in which the log's clock stands.
    fn end_of_open(&self, start: Micros) -> Micros {
        let quarter = 900 * SECOND;
        let mut until = self.last_tick - self.last_tick.rem_euclid(quarter);
        if until < self.last_tick {
            until += quarter;
        }
        start.max(until.min(start + self.settings.max_open))
    }

    fn sessions(&self, device: &Device) -> Vec<Whole> {
        let whole = |((start, space), end): (&(Micros, SpaceId), &Option<Micros>)| Whole {
            start: *start,
            end: end.unwrap_or_else(|| self.end_of_open(*start)),
            space: *space,
        };
        device.sessions.iter().map(whole).collect()
    }

    /// Every cell that is not zero.
    pub fn cells(&self) -> BTreeMap<CellKey, Cell> {
        let mut cells: BTreeMap<CellKey, Cell> = BTreeMap::new();
        for device in self.devices.values() {
            let sessions = self.sessions(device);
            let mut found: Vec<(CellKey, Micros)> = Vec::new();
            for seconds in &self.settings.intervals {
                found.extend(bins_of(&sessions, *seconds).into_iter().map(|key| (key, 0)));
            }
            found.extend(visits_of(&sessions, self.settings.visit_gap));
            found.extend(moves_of(&sessions, self.settings.move_gap));
            for (key, micros) in found {
                let cell = cells.entry(key).or_default();
                cell.count += 1;
                cell.randomized += i64::from(device.randomized);
                cell.micros += micros;
            }
        }
        cells
    }

    /// Distinct devices per space and bin, of any width.
    pub fn bins(&self, seconds: u32) -> BTreeMap<CellKey, Cell> {
        let mut cells: BTreeMap<CellKey, Cell> = BTreeMap::new();
        for device in self.devices.values() {
            for key in bins_of(&self.sessions(device), seconds) {
                let cell = cells.entry(key).or_default();
                cell.count += 1;
                cell.randomized += i64::from(device.randomized);
            }
        }
        cells
    }

    /// Whether a space is another, or lies below it.
    fn lies_in(&self, space: SpaceId, root: SpaceId) -> bool {
        let mut at = space;
        for _ in 0..=self.spaces.len() {
            if !self.spaces.contains_key(&at) {
                return false;
            }
            if at == root {
                return true;
            }
            let Some(parent) = self.spaces[&at].parent_space_id else { return false };
            at = parent;
        }
        false
    }

    /// The sum of cells over a space and all below it, by time.
    pub fn series(&self, cells: &BTreeMap<CellKey, Cell>, root: SpaceId, measure: Measure) -> BTreeMap<Micros, Cell> {
        let mut sums: BTreeMap<Micros, Cell> = BTreeMap::new();
        for (key, cell) in cells.iter().filter(|(key, _)| key.measure == measure && self.lies_in(key.space, root)) {
            sums.entry(key.time).or_default().add(*cell);
        }
        sums
    }

    pub fn spaces(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values()
    }

    /// The ids of all sessions.
    pub fn ids(&self) -> Vec<EventId> {
        let of_device = |(name, device): (&EcoString, &Device)| -> Vec<EventId> {
            device.sessions.keys().map(|(start, space)| EventId::stay(name, *space, *start)).collect()
        };
        self.devices.iter().flat_map(of_device).collect()
    }

    /// All sessions: (device, start, space), and the ends of those that were closed.
    pub fn stays(&self) -> BTreeMap<(EcoString, Micros, SpaceId), Option<Micros>> {
        let of_device = |(name, device): (&EcoString, &Device)| -> Vec<_> {
            device.sessions.iter().map(|((start, space), end)| ((name.clone(), *start, *space), *end)).collect()
        };
        self.devices.iter().flat_map(of_device).collect()
    }

    pub fn devices(&self) -> impl Iterator<Item = &EcoString> {
        self.devices.keys()
    }
}

fn apply(device: &mut Device, start: Micros, stay: Stay, counts: &mut CountFacts) {
    let key = (start, stay.space);
    let news = match device.sessions.get(&key) {
        _ if device.deleted.contains(&key) => false,
        None => true,
        Some(_) if stay.end.is_none() => false,
        Some(end) => *end != stay.end,
    };
    if news {
        counts.applied += 1;
        device.sessions.insert(key, stay.end);
    } else {
        counts.duplicate += 1;
    }
}

fn bins_of(sessions: &[Whole], seconds: u32) -> BTreeSet<CellKey> {
    let width = i64::from(seconds) * SECOND;
    let mut found = BTreeSet::new();
    for session in sessions {
        let mut begin = (session.start / width - 1) * width;
        while begin <= session.end {
            if session.start < begin + width && session.end > begin {
                found.insert(CellKey { space: session.space, measure: Measure::Devices(seconds), time: begin, other: 0 });
            }
            begin += width;
        }
    }
    found
}

fn visits_of(sessions: &[Whole], gap: Micros) -> Vec<(CellKey, Micros)> {
    let spaces: BTreeSet<SpaceId> = sessions.iter().map(|s| s.space).collect();
    let days: BTreeSet<Micros> = sessions.iter().flat_map(|s| s.start / DAY..=s.end / DAY).collect();
    let mut found = Vec::new();
    for (space, day) in spaces.iter().flat_map(|space| days.iter().map(move |day| (*space, *day * DAY))) {
        let on_day = |s: &&Whole| s.space == space && s.start < day + DAY && (s.end > day || s.start >= day);
        let mut parts: Vec<(Micros, Micros)> = sessions.iter().filter(on_day).map(|s| (s.start.max(day), s.end.min(day + DAY))).collect();
        parts.sort_unstable();
        let mut visits: Vec<(Micros, Micros)> = Vec::new();
        for (from, to) in parts {
            match visits.last_mut() {
                Some(last) if from - last.1 <= gap => last.1 = last.1.max(to),
                _ => visits.push((from, to)),
            }
        }
        for (from, to) in visits {
            found.push((CellKey { space, measure: Measure::Visits, time: day, other: 0 }, to - from));
            found.push((CellKey { space, measure: Measure::Dwell, time: day, other: dwell_bucket(to - from) }, 0));
        }
    }
    found
}

fn moves_of(sessions: &[Whole], gap: Micros) -> Vec<(CellKey, Micros)> {
    let mut found = Vec::new();
    for to in sessions {
        let earlier = sessions.iter().filter(|s| (s.start, s.space) < (to.start, to.space) && s.end >= to.start - gap);
        if let Some(from) = earlier.max_by_key(|s| (s.start, s.space)).filter(|from| from.space != to.space) {
            found.push((CellKey { space: from.space, measure: Measure::Moves, time: to.start / HOUR * HOUR, other: to.space }, 0));
        }
    }
    found
}
