//! What is asked of devices: gauges, what can leave memory, who waits, who was there; and their state as rows.

use super::{Device, DeviceRow, Devices, Held, taken_back};
use crate::views::occupancy::query::{DeviceAnswer, DeviceStay, PendingDevice};
use desireline_records::{Micros, SealedStay, SpaceId, user_hash};
use ecow::EcoString;

impl Devices {
    /// Devices, sessions, growing ones, pending rows.
    pub fn sizes(&self) -> (usize, usize, usize, usize) {
        (self.table.len(), self.stays, self.growing.len(), self.pending)
    }

    /// Sessions in memory in spaces that are not `known`.
    pub fn outside(&self, known: impl Fn(SpaceId) -> bool) -> usize {
        self.by_space.iter().filter(|(space, _)| !known(**space)).map(|(_, stays)| stays).sum()
    }

    pub fn sealable(&self, boundary: Micros, hash_from: u64, hash_to: u64) -> Vec<DeviceStay> {
        let mut found = Vec::new();
        for device in self.devices().filter(|device| (hash_from..=hash_to).contains(&device.hash)) {
            let stay = |stay| DeviceStay { hash: device.hash, device: device.name.clone(), randomized: device.randomized, stay };
            found.extend(device.track.iter().filter(|held| self.is_sealable(held, boundary)).map(|held| stay(held.sealed())));
            let deleted = device.deleted.iter().filter(|(start, _)| *start < boundary);
            found.extend(deleted.map(|(start, space)| stay(taken_back(*start, *space))));
        }
        found.sort_unstable_by(|a, b| (a.hash, &a.device, &a.stay).cmp(&(b.hash, &b.device, &b.stay)));
        found
    }

    pub fn with_pending(&self, devices_max: usize) -> Vec<PendingDevice> {
        let waiting = self.devices().filter(|device| !device.pending.is_empty());
        let pending = |device: &Device| PendingDevice { hash: device.hash, device: device.name.clone(), rows: device.pending.len() };
        let mut found: Vec<PendingDevice> = waiting.map(pending).collect();
        found.sort_unstable_by(|a, b| (a.hash, &a.device).cmp(&(b.hash, &b.device)));
        found.truncate(devices_max);
        found
    }

    pub fn device(&self, device: &EcoString) -> Option<DeviceAnswer> {
        let slot = self.find(user_hash(self.standing.source?, device), device)?;
        let device = &self.slots[slot as usize];
        let stays = device.track.iter().map(Held::sealed).collect();
        Some(DeviceAnswer { randomized: device.randomized, stays, pending: device.pending.len() })
    }

    /// What is in memory of some devices (of all, if none are named), also sessions that were taken back; and whether there is more than
    /// `stays_max` of it.
    pub fn stays(&self, named: Option<&[EcoString]>, stays_max: usize) -> (Vec<DeviceStay>, bool) {
        let mut found = Vec::new();
        let mut all = self.devices();
        let source = self.standing.source.unwrap_or_default();
        let mut named = named.map(|named| named.iter().filter_map(|name| self.find(user_hash(source, name), name)));
        let mut next = || match &mut named {
            Some(slots) => slots.next().map(|slot| &self.slots[slot as usize]),
            None => all.next(),
        };
        while let Some(device) = next() {
            if found.len() + device.track.len() + device.deleted.len() > stays_max {
                return (found, true);
            }
            let stay = |stay| DeviceStay { hash: device.hash, device: device.name.clone(), randomized: device.randomized, stay };
            found.extend(device.track.iter().map(|held| stay(held.sealed())));
            found.extend(device.deleted.iter().map(|(start, space)| stay(taken_back(*start, *space))));
        }
        (found, false)
    }

    /// Sessions in spaces that `wanted` names, and that touch `[from, to)`, by device: (device, its sessions by space and start). Also
    /// those that were taken back, which cold parts may still have.
    pub fn present(
        &self,
        wanted: impl Fn(SpaceId) -> bool,
        from: Micros,
        to: Micros,
        mut each: impl FnMut(u64, &EcoString, bool, &mut Vec<SealedStay>),
    ) {
        let mut stays = Vec::new();
        for device in self.devices() {
            let touching = device.track.iter().filter(|held| held.start < to && held.end >= from && wanted(held.space));
            stays.extend(touching.map(Held::sealed));
            let deleted = device.deleted.iter().filter(|(start, space)| *start < to && wanted(*space));
            stays.extend(deleted.map(|(start, space)| taken_back(*start, *space)));
            if !stays.is_empty() {
                stays.sort_unstable_by_key(|stay| (stay.space, stay.start));
                each(device.hash, &device.name, device.randomized, &mut stays);
                stays.clear();
            }
        }
    }

    pub fn export(&self) -> impl Iterator<Item = (u64, DeviceRow)> {
        self.devices().map(|device| {
            let row = DeviceRow {
                device: device.name.clone(),
                randomized: device.randomized,
                stays: device.track.iter().map(Held::sealed).collect(),
                pending: device.pending.clone(),
                deleted: device.deleted.iter().copied().collect(),
            };
            (device.hash, row)
        })
    }

    pub fn restore(&mut self, rows: Vec<DeviceRow>) {
        let Some(source) = self.standing.source else { return };
        for row in rows {
            let slot = self.slot(user_hash(source, &row.device), &row.device, row.randomized);
            let device = &mut self.slots[slot as usize];
            for stay in &row.stays {
                device.track.put(Held::new(stay.start, stay.end, stay.space, stay.open));
                if stay.open && self.standing.clock < stay.start.saturating_add(self.standing.settings.max_open) {
                    self.growing.insert((slot, stay.start, stay.space));
                }
            }
            self.pending += row.pending.len();
            device.pending = row.pending;
            device.deleted = row.deleted.into_iter().collect();
            row.stays.iter().for_each(|stay| self.note(stay.space, 1));
        }
    }
}
