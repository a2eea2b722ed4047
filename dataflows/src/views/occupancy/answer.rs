//! How a worker answers questions about spaces.

use super::cells::Cells;
use super::devices::Devices;
use super::query::{DeviceStay, OccupancyAnswer, OccupancyQuery, Standing, WifiStats};
use crate::views::sessions::SessionsState;
use desireline_records::time::SECOND;
use desireline_records::wifi::distinct_bins;
use desireline_records::{Cell, Micros, SealedStay, SpaceId};
use ecow::EcoString;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn answer(devices: &Devices, cells: &Cells, sessions: &SessionsState, query: &OccupancyQuery) -> OccupancyAnswer {
    let first = sessions.worker == 0;
    let mut answer = OccupancyAnswer::default();
    if first {
        let mut standing = devices.standing.clone();
        let erased = standing.source.and_then(|source| sessions.sources.get(&source));
        standing.erased = erased.iter().flat_map(|state| &state.erased).map(|(device, at)| (device.clone(), *at)).collect();
        if matches!(query, OccupancyQuery::Tree) {
            standing.spaces = cells.tree.iter().cloned().collect();
        }
        answer.standing = Some(Arc::new(standing));
    }
    match query {
        OccupancyQuery::Series { roots, measure, from, to } => {
            let subtrees = subtrees(cells, roots);
            let sum = |spaces: &Option<Vec<SpaceId>>| cells.sum(spaces.as_deref().unwrap_or_default(), *measure, *from, *to);
            answer.series = subtrees.iter().map(sum).collect();
            answer.subtrees = if first { subtrees } else { Vec::new() };
        }
        OccupancyQuery::Cells { root, measure, from, to } => {
            let spaces = root.map(|root| cells.tree.subtree(root).unwrap_or_default());
            answer.cells = cells.select(spaces.as_deref(), *measure, *from, *to);
            if let (true, Some(root)) = (first, root) {
                answer.subtrees = subtrees(cells, &[*root]);
            }
        }
        OccupancyQuery::Presence { roots, interval, from, to } => {
            let subtrees = subtrees(cells, roots);
            let mut counting = Counting::new(&subtrees, &devices.standing, *interval, *from, *to);
            counting.count(devices);
            answer.series = counting.series();
            answer.stays = counting.stays;
            answer.subtrees = if first { subtrees } else { Vec::new() };
        }
        OccupancyQuery::Tree => {}
        OccupancyQuery::Sealable { boundary, hash_from, hash_to } => answer.stays = devices.sealable(*boundary, *hash_from, *hash_to),
        OccupancyQuery::SealableCells { boundary } => answer.cells = cells.before(*boundary),
        OccupancyQuery::Pending { devices_max } => answer.pending = devices.with_pending(*devices_max),
        OccupancyQuery::Device { device } => answer.device = devices.device(device),
        OccupancyQuery::Stays { devices: named, stays_max } => (answer.stays, answer.cut) = devices.stays(named.as_deref(), *stays_max),
    }
    answer
}

fn subtrees(cells: &Cells, roots: &[SpaceId]) -> Vec<Option<Vec<SpaceId>>> {
    roots.iter().map(|root| cells.tree.subtree(*root)).collect()
}

/// Devices in bins of any width, counted from sessions.
struct Counting {
    /// The roots (by their place in the question) that a space belongs to.
    roots_of: HashMap<SpaceId, Vec<usize>>,
    roots: usize,
    sums: HashMap<(usize, Micros), Cell>,
    stays: Vec<DeviceStay>,
    width: Micros,
    from: Micros,
    to: Micros,
    /// Earlier bins are counted by the asker, together with sealed sessions.
    boundary: Micros,
}

impl Counting {
    fn new(subtrees: &[Option<Vec<SpaceId>>], standing: &Standing, interval: u32, from: Micros, to: Micros) -> Self {
        let mut roots_of: HashMap<SpaceId, Vec<usize>> = HashMap::new();
        for (root, spaces) in subtrees.iter().enumerate() {
            spaces.iter().flatten().for_each(|space| roots_of.entry(*space).or_default().push(root));
        }
        Self {
            roots_of,
            roots: subtrees.len(),
            sums: HashMap::new(),
            stays: Vec::new(),
            width: i64::from(interval).max(1) * SECOND,
            from,
            to,
            boundary: standing.boundary.unwrap_or(Micros::MIN),
        }
    }

    fn count(&mut self, devices: &Devices) {
        let roots_of = std::mem::take(&mut self.roots_of);
        let (from, to) = (self.from, self.to.saturating_add(self.width));
        devices.present(
            |space| roots_of.contains_key(&space),
            from,
            to,
            |hash, device, randomized, stays| self.device((hash, device, randomized), stays, &roots_of),
        );
    }

    fn device(
        &mut self,
        (hash, device, randomized): (u64, &EcoString, bool),
        stays: &[SealedStay],
        roots_of: &HashMap<SpaceId, Vec<usize>>,
    ) {
        for of_space in stays.chunk_by(|a, b| a.space == b.space) {
            let roots = &roots_of[&of_space[0].space];
            let spans = of_space.iter().filter(|stay| !stay.deleted).map(|stay| (stay.start, stay.end));
            distinct_bins(spans, self.width, |bin| {
                if bin >= self.from.max(self.boundary) && bin < self.to {
                    roots.iter().for_each(|root| self.sums.entry((*root, bin)).or_default().add(Cell::one(randomized)));
                }
            });
        }
        let early = stays.iter().filter(|stay| stay.start < self.boundary);
        self.stays.extend(early.map(|stay| DeviceStay { hash, device: device.clone(), randomized, stay: stay.clone() }));
    }

    fn series(&mut self) -> Vec<Vec<(Micros, Cell)>> {
        let mut series: Vec<BTreeMap<Micros, Cell>> = vec![BTreeMap::new(); self.roots];
        for ((root, time), cell) in self.sums.drain() {
            series[root].insert(time, cell);
        }
        series.into_iter().map(|series| series.into_iter().collect()).collect()
    }
}

/// Gauges of the worker.
pub fn stats(devices: &Devices, cells: &Cells, first: bool) -> WifiStats {
    let (of_devices, stays, open, pending) = devices.sizes();
    WifiStats {
        devices: of_devices,
        stays,
        open,
        cells: cells.len(),
        pending,
        unknown_space: devices.outside(|space| cells.tree.contains(space)),
        spaces: if first { cells.tree.len() } else { 0 },
        orphans: if first { cells.tree.orphans().count() } else { 0 },
    }
}
