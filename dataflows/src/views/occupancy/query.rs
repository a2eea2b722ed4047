//! Questions about spaces, and the workers' parts of the answers.
//!
//! A worker answers from what is in memory: cells of the spaces that it keeps, sessions of the devices that it keeps. What is sealed the
//! asker adds from cold parts, which the first worker names ([`Standing`]). Cells add up over workers and parts.

use desireline_records::{Cell, CellKey, ColdPart, LogicalTime, Measure, Micros, SealedStay, SourceId, Space, SpaceId, WifiSettings};
use ecow::EcoString;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum OccupancyQuery {
    /// For each root the sum of a measure over its subtree (its own numbers and those of all spaces below), by time, in `[from, to)`.
    /// Begins and ends are those of cells: a cell is given when its time lies in the range.
    Series { roots: Vec<SpaceId>, measure: Measure, from: Micros, to: Micros },
    /// Single cells of the spaces of a subtree (of every space, without a root): what is needed when `other` counts.
    Cells { root: Option<SpaceId>, measure: Measure, from: Micros, to: Micros },
    /// As `Series` of [`Measure::Devices`], but of any width: counted from the sessions.
    Presence { roots: Vec<SpaceId>, interval: u32, from: Micros, to: Micros },
    /// The space tree, and nothing else.
    Tree,
    /// Sessions that can leave memory at this boundary, of devices with key hashes in the range; also those taken back before it.
    Sealable { boundary: Micros, hash_from: u64, hash_to: u64 },
    /// Cells before the boundary that are not zero.
    SealableCells { boundary: Micros },
    /// Devices with pending rows; at most so many from each worker, lowest key hashes first.
    Pending { devices_max: usize },
    /// What is in memory of one device.
    Device { device: EcoString },
    /// The sessions in memory of some devices, of all, if none are named; a worker stops after so many.
    Stays { devices: Option<Arc<[EcoString]>>, stays_max: usize },
}

/// One worker's part.
#[derive(Clone, Debug, Default)]
pub struct OccupancyAnswer {
    /// One series per root, ascending by time; of `Presence`, only times from the sealed boundary on.
    pub series: Vec<Vec<(Micros, Cell)>>,
    /// Of `Cells` and `SealableCells`, ascending.
    pub cells: Vec<(CellKey, Cell)>,
    /// Of `Presence`: sessions in the subtrees and the range that began before the sealed boundary, also those that were taken back. They
    /// count instead of what cold parts say of the same (device, space, start). Of `Stays` all that are in memory, likewise.
    pub stays: Vec<DeviceStay>,
    /// Of `Stays`: there are more.
    pub cut: bool,
    /// Of `Pending`, in order of key hashes.
    pub pending: Vec<PendingDevice>,
    /// Of `Device`, if the worker keeps it.
    pub device: Option<DeviceAnswer>,
    /// On the first worker.
    pub standing: Option<Arc<Standing>>,
    /// Of `Series` and `Presence`, on the first worker: the spaces of each root's subtree, the root first; nothing if the root is not known.
    pub subtrees: Vec<Option<Vec<SpaceId>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceStay {
    pub hash: u64,
    pub device: EcoString,
    pub randomized: bool,
    pub stay: SealedStay,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDevice {
    pub hash: u64,
    pub device: EcoString,
    pub rows: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceAnswer {
    pub randomized: bool,
    /// In order of (start, space).
    pub stays: Vec<SealedStay>,
    pub pending: usize,
}

/// What is the same on every worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The source of WiFi sessions, once the log has its settings.
    pub source: Option<SourceId>,
    pub settings: WifiSettings,
    /// Sessions that begin before this are pending.
    pub late_before: Option<Micros>,
    /// Cells before this lie in cold parts; memory has differences of them.
    pub boundary: Option<Micros>,
    pub cold_stays: Vec<ColdPart>,
    pub cold_cells: Vec<ColdPart>,
    /// The bins that every cold part has. Others are counted from sessions.
    pub sealed_intervals: Vec<u32>,
    /// Sessions that ended before this are gone, by retention.
    pub retained_from: Option<Micros>,
    /// The time to which open sessions are taken to last.
    pub clock: Micros,
    /// Devices erased, and when: cold sessions exported before do not count.
    pub erased: Vec<(EcoString, LogicalTime)>,
    /// In order of ids; of `Tree` only.
    pub spaces: Vec<Space>,
}

impl Standing {
    /// Which devices were erased.
    pub fn erasures(&self) -> Erasures<'_> {
        Erasures(self.erased.iter().map(|(device, at)| (device.as_str(), *at)).collect())
    }
}

/// Devices that were erased, and when.
pub struct Erasures<'a>(HashMap<&'a str, LogicalTime>);

impl Erasures<'_> {
    /// Whether what was exported of a device at a time still counts.
    pub fn spare(&self, device: &str, exported_at: LogicalTime) -> bool {
        self.0.get(device).is_none_or(|erased_at| exported_at > *erased_at)
    }
}

/// Gauges of one worker; they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WifiStats {
    pub devices: usize,
    /// Sessions in memory.
    pub stays: usize,
    /// Of these, not closed and still growing.
    pub open: usize,
    pub cells: usize,
    /// Rows that wait until the sealed history of their device has been read.
    pub pending: usize,
    /// Sessions in memory whose space is not in the tree.
    pub unknown_space: usize,
    /// Spaces, and those of them whose parent is not known; on the first worker.
    pub spaces: usize,
    pub orphans: usize,
}

impl WifiStats {
    pub fn add(&mut self, other: &Self) {
        self.devices += other.devices;
        self.stays += other.stays;
        self.open += other.open;
        self.cells += other.cells;
        self.pending += other.pending;
        self.unknown_space += other.unknown_space;
        self.spaces += other.spaces;
        self.orphans += other.orphans;
    }
}
