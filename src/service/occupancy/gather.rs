//! Asking the workers, and adding what lies in cold parts.

use super::dwell::VisitDay;
use super::flows::{self, Flow, FlowsPer};
use super::presence::{self, Presence};
use super::sums::Sums;
use super::{OccupancyNow, Series, SeriesRequest, SpaceNow, width};
use crate::service::{At, Inner, NO_PANIC, ServiceError};
use desireline_connectors::cold::ColdError;
use desireline_connectors::cold::stays::{self, ColdStay};
use desireline_dataflows::views::occupancy::query::{OccupancyAnswer, OccupancyQuery, Standing};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::{DAY, HOUR, floor, now_micros};
use desireline_records::wifi::clock_at;
use desireline_records::{Cell, CellKey, LogicalTime, Measure, Micros, SpaceId, WifiSettings};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;

/// How often visits are asked for until nothing has changed in between.
const VISITS_TRIES: u32 = 5;

/// The workers' parts of an answer.
struct Parts {
    as_of: LogicalTime,
    standing: Arc<Standing>,
    subtrees: Vec<Option<Vec<SpaceId>>>,
    answers: Vec<OccupancyAnswer>,
}

impl Parts {
    /// The spaces under each root; an error that names the roots that are not known.
    fn known(&mut self, roots: &[SpaceId]) -> Result<Vec<Vec<SpaceId>>, ServiceError> {
        let mut subtrees = std::mem::take(&mut self.subtrees);
        subtrees.resize(roots.len(), None);
        let unknown: Vec<String> =
            roots.iter().zip(&subtrees).filter(|(_, subtree)| subtree.is_none()).map(|(root, _)| root.to_string()).collect();
        match unknown.len() {
            0 => Ok(subtrees.into_iter().flatten().collect()),
            1 => Err(ServiceError::NotFound(format!("there is no space {}", unknown[0]))),
            _ => Err(ServiceError::NotFound(format!("there are no spaces {}", unknown.join(", ")))),
        }
    }

    /// Whether cells from this time on are in memory alone.
    fn is_open(&self, from: Micros) -> bool {
        self.standing.boundary.is_none_or(|boundary| from >= boundary)
    }

    /// Whether memory and cold parts have these bins.
    fn has(&self, measure: Measure, from: Micros) -> bool {
        let Measure::Devices(interval) = measure else { return true };
        let standing = &self.standing;
        let sealed = standing.cold_cells.is_empty() || self.is_open(from) || standing.sealed_intervals.contains(&interval);
        standing.settings.keeps(interval) && sealed
    }
}

impl Inner {
    pub(super) fn wifi_settings(&self) -> WifiSettings {
        let recorded = self.fold.read().expect(NO_PANIC).sources.values().find_map(|source| source.settings.wifi.clone());
        let configured = || self.config.sources.iter().map(|(_, s)| s).chain(&self.config.implied).find_map(|s| s.wifi.clone());
        recorded.or_else(configured).unwrap_or_default()
    }

    /// The narrowest bins that are kept, in seconds.
    pub(in crate::service) fn narrowest(&self) -> u32 {
        self.wifi_settings().narrowest()
    }

    /// The time to which open sessions last, by the log's last tick.
    pub(super) fn clock(&self) -> Micros {
        clock_at(self.fold.read().expect(NO_PANIC).last_tick.unwrap_or_else(now_micros))
    }

    /// The begin of the bin that is running.
    pub(in crate::service) fn running_bin(&self, width: Micros) -> Micros {
        floor(self.clock() - 1, width)
    }

    async fn occupancy(&self, query: OccupancyQuery) -> Result<Parts, ServiceError> {
        let (as_of, standing, mut answers) = self.ask_occupancy(query).await?;
        // Those of the first worker; the others have none.
        let subtrees = answers.iter_mut().map(|answer| std::mem::take(&mut answer.subtrees)).find(|of| !of.is_empty());
        Ok(Parts { as_of, standing, subtrees: subtrees.unwrap_or_default(), answers })
    }

    pub(super) async fn series(self: &Arc<Self>, request: &SeriesRequest) -> Result<At<Vec<Series>>, ServiceError> {
        again_if_replaced(|| self.series_once(request)).await
    }

    async fn series_once(self: &Arc<Self>, request: &SeriesRequest) -> Result<At<Vec<Series>>, ServiceError> {
        let SeriesRequest { roots, measure, from, to, .. } = request;
        let (measure, from, to) = (*measure, *from, *to);
        match measure {
            Measure::Devices(interval) if !self.wifi_settings().keeps(interval) => return self.counted(roots, interval, from, to).await,
            _ => {}
        }
        let mut parts = self.occupancy(OccupancyQuery::Series { roots: roots.clone(), measure, from, to }).await?;
        let subtrees = parts.known(roots)?;
        if let Measure::Devices(interval) = measure
            && !parts.has(measure, from)
        {
            return self.counted(roots, interval, from, to).await;
        }
        let as_of = parts.as_of;
        let (inner, roots) = (self.clone(), roots.clone());
        let series = self.working(move || async move {
            let mut sums = Sums::several(roots.len(), from, to, measure.width());
            if !parts.is_open(from) && !parts.standing.cold_cells.is_empty() {
                let groups: Vec<BTreeSet<SpaceId>> = subtrees.into_iter().map(|spaces| spaces.into_iter().collect()).collect();
                let cells = &parts.standing.cold_cells;
                let cold = inner.cell_cache.read_sums(&inner.store, cells, measure, &groups, from, to).await.map_err(unreadable)?;
                add_all(&mut sums, cold);
            }
            for answer in parts.answers {
                add_all(&mut sums, answer.series);
            }
            Ok(finish(&roots, sums))
        });
        Ok(At { as_of, value: series.await? })
    }

    /// Bins of any width, from the sessions.
    async fn counted(
        self: &Arc<Self>,
        roots: &[SpaceId],
        interval: u32,
        from: Micros,
        to: Micros,
    ) -> Result<At<Vec<Series>>, ServiceError> {
        let query = OccupancyQuery::Presence { roots: roots.to_vec(), interval, from, to };
        let mut parts = self.occupancy(query).await?;
        let subtrees = parts.known(roots)?;
        let standing = parts.standing.clone();
        if let Some(retained) = standing.retained_from.filter(|retained| from < *retained) {
            let detail = format!(
                "bins of {interval} s are counted from the sessions, which are kept from {} on; bins that were kept reach back further",
                desireline_records::time::format_rfc3339(retained)
            );
            return Err(ServiceError::Invalid { field: "from", detail });
        }
        let as_of = parts.as_of;
        let (inner, roots) = (self.clone(), roots.to_vec());
        let series = self.working(move || async move {
            let width = width(interval);
            let mut sums = Sums::several(roots.len(), from, to, width);
            let mut memory = Vec::new();
            for answer in parts.answers {
                add_all(&mut sums, answer.series);
                let of_memory = |s: desireline_dataflows::views::occupancy::query::DeviceStay| Presence {
                    device: s.device,
                    randomized: s.randomized,
                    stay: s.stay,
                };
                memory.extend(answer.stays.into_iter().map(of_memory));
            }
            if let Some(boundary) = standing.boundary.filter(|boundary| from < *boundary) {
                let mut roots_of: HashMap<SpaceId, Vec<usize>> = HashMap::new();
                for (root, spaces) in subtrees.iter().enumerate() {
                    spaces.iter().for_each(|space| roots_of.entry(*space).or_default().push(root));
                }
                let spaces: BTreeSet<SpaceId> = roots_of.keys().copied().collect();
                let until = to.saturating_add(width).min(boundary);
                let cold = stays::read_stays(&inner.store, &standing.cold_stays, &spaces, from, until).await.map_err(unreadable)?;
                inner.few_enough(memory.len() + cold.len())?;
                let sessions = presence::newest_of(memory, unerased(cold, &standing));
                presence::count(&sessions, &roots_of, &mut sums, width, boundary);
            }
            Ok(finish(&roots, sums))
        });
        Ok(At { as_of, value: series.await? })
    }

    fn few_enough(&self, sessions: usize) -> Result<(), ServiceError> {
        let most = self.config.peek_rows_max;
        if sessions <= most {
            return Ok(());
        }
        let detail =
            format!("{sessions} sessions would have to be counted, more than {most} (engine.peek_rows_max); ask for a shorter range");
        Err(ServiceError::Invalid { field: "from", detail })
    }

    pub(in crate::service) async fn cells(
        self: &Arc<Self>,
        root: Option<SpaceId>,
        measure: Measure,
        from: Micros,
        to: Micros,
    ) -> Result<At<Vec<(CellKey, Cell)>>, ServiceError> {
        again_if_replaced(|| self.cells_once(root, measure, from, to)).await
    }

    async fn cells_once(
        self: &Arc<Self>,
        root: Option<SpaceId>,
        measure: Measure,
        from: Micros,
        to: Micros,
    ) -> Result<At<Vec<(CellKey, Cell)>>, ServiceError> {
        let mut parts = self.occupancy(OccupancyQuery::Cells { root, measure, from, to }).await?;
        let roots: Vec<SpaceId> = root.into_iter().collect();
        let spaces: BTreeSet<SpaceId> = parts.known(&roots)?.into_iter().flatten().collect();
        let as_of = parts.as_of;
        let inner = self.clone();
        let cells = self.working(move || async move {
            let memory = parts.answers.iter_mut().flat_map(|answer| std::mem::take(&mut answer.cells));
            let mut sums: BTreeMap<CellKey, Cell> = memory.collect();
            if !parts.is_open(from) && !parts.standing.cold_cells.is_empty() {
                let cold = &parts.standing.cold_cells;
                let cold = inner.cell_cache.read_cells(&inner.store, cold, measure, &spaces, from, to).await.map_err(unreadable)?;
                if sums.is_empty() {
                    return Ok(cold);
                }
                cold.into_iter().for_each(|(key, cell)| sums.entry(key).or_default().add(cell));
            }
            Ok(sums.into_iter().filter(|(_, cell)| !cell.is_zero()).collect())
        });
        Ok(At { as_of, value: cells.await? })
    }

    pub(super) async fn occupancy_now(self: &Arc<Self>) -> Result<At<OccupancyNow>, ServiceError> {
        let interval_seconds = self.wifi_settings().narrowest();
        let measure = Measure::Devices(interval_seconds);
        let begin = self.running_bin(measure.width());
        let At { as_of, value: cells } = self.cells(None, measure, begin - measure.width(), begin + measure.width()).await?;
        let tree = self.fold.read().expect(NO_PANIC).spaces.clone();
        let spaces = self.working(move || async move {
            let of = |time: Micros| sums_up(&tree, cells.iter().filter(|(key, _)| key.time == time).map(|(key, cell)| (key.space, *cell)));
            let (running, last) = (of(begin), of(begin - measure.width()));
            let cell = |sums: &HashMap<SpaceId, Cell>, id: SpaceId| sums.get(&id).copied().unwrap_or_default();
            let now = |space: &desireline_records::Space| SpaceNow {
                space: space.clone(),
                running: cell(&running, space.space_id),
                last: cell(&last, space.space_id),
            };
            Ok(tree.iter().map(now).collect())
        });
        Ok(At { as_of, value: OccupancyNow { interval_seconds, begin, spaces: spaces.await? } })
    }

    pub(super) async fn visits(self: &Arc<Self>, space: SpaceId, from: Micros, to: Micros) -> Result<At<Vec<VisitDay>>, ServiceError> {
        let from = floor(from, DAY);
        let ask = |measure| {
            let inner = self.clone();
            async move { inner.series(&SeriesRequest { roots: vec![space], measure, from, to, at_least: None }).await }
        };
        let mut tries = 0;
        let (as_of, visits, visitors, lengths) = loop {
            let visits = ask(Measure::Visits).await?;
            let lengths = self.cells(Some(space), Measure::Dwell, from, to).await?;
            let visitors = if self.wifi_settings().keeps(86_400) { Some(ask(Measure::Devices(86_400)).await?) } else { None };
            tries += 1;
            let is_of_one_time = visits.as_of == lengths.as_of && visitors.as_ref().is_none_or(|at| at.as_of == visits.as_of);
            if is_of_one_time || tries == VISITS_TRIES {
                break (visits.as_of, visits.value, visitors, lengths.value);
            }
        };
        let privacy = self.config.occupancy.privacy;
        let rows = |series: Vec<Series>| series.into_iter().flat_map(|series| series.rows).collect::<BTreeMap<Micros, Cell>>();
        let (visits, visitors) = (rows(visits), visitors.map(|at| rows(at.value)));
        let mut buckets: BTreeMap<Micros, BTreeMap<i32, i64>> = BTreeMap::new();
        for (key, cell) in lengths {
            *buckets.entry(key.time).or_default().entry(key.other).or_default() += privacy.counted(cell);
        }
        let days: BTreeSet<Micros> = visits.keys().chain(visitors.iter().flat_map(|days| days.keys())).copied().collect();
        let day = |day: Micros| {
            let lengths: Vec<(i32, i64)> = buckets.get(&day).into_iter().flatten().map(|(bucket, count)| (*bucket, *count)).collect();
            let visitors = visitors.as_ref().map(|of| of.get(&day).copied().unwrap_or_default());
            VisitDay::of(day, visits.get(&day).copied().unwrap_or_default(), visitors, &lengths, privacy)
        };
        Ok(At { as_of, value: days.into_iter().map(day).collect() })
    }

    pub(super) async fn flows(
        self: &Arc<Self>,
        root: Option<SpaceId>,
        from: Micros,
        to: Micros,
        per: FlowsPer,
    ) -> Result<At<Vec<Flow>>, ServiceError> {
        let At { as_of, value: moves } = self.cells(None, Measure::Moves, floor(from, HOUR), to).await?;
        let tree = self.fold.read().expect(NO_PANIC).spaces.clone();
        if let Some(root) = root.filter(|root| !tree.contains(*root)) {
            return Err(ServiceError::NotFound(format!("there is no space {root}")));
        }
        let privacy = self.config.occupancy.privacy;
        let flows = self.working(move || async move { Ok(flows::lift(&tree, root, &moves, per, privacy)) });
        Ok(At { as_of, value: flows.await? })
    }

    /// Works something out on a thread where that hinders nobody, within the deadline of questions.
    async fn working<T: Send + 'static, W: Future<Output = Result<T, ServiceError>>>(
        &self,
        work: impl FnOnce() -> W + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (runtime, deadline) = (tokio::runtime::Handle::current(), self.config.peek_deadline);
        let worked = tokio::task::spawn_blocking(move || runtime.block_on(async { tokio::time::timeout(deadline, work()).await }));
        match worked.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ServiceError::NotReady(format!("no answer within {} ms; ask for a shorter range", deadline.as_millis()))),
            Err(error) => Err(ServiceError::Internal(error.to_string())),
        }
    }
}

/// Cold parts may be replaced between the question and their reading: then once more.
async fn again_if_replaced<T, F: Future<Output = Result<T, ServiceError>>>(ask: impl Fn() -> F) -> Result<T, ServiceError> {
    match ask().await {
        Err(ServiceError::Unavailable(_)) => ask().await,
        answer => answer,
    }
}

pub(in crate::service) fn unreadable(error: ColdError) -> ServiceError {
    ServiceError::Unavailable(format!("sealed sessions cannot be read: {error}"))
}

fn add_all(sums: &mut [Sums], series: Vec<Vec<(Micros, Cell)>>) {
    for (sums, rows) in sums.iter_mut().zip(series) {
        rows.into_iter().for_each(|(time, cell)| sums.add(time, cell));
    }
}

fn finish(roots: &[SpaceId], sums: Vec<Sums>) -> Vec<Series> {
    roots.iter().zip(sums).map(|(root, sums)| Series { root: *root, rows: sums.rows() }).collect()
}

/// Sealed sessions, without those of devices that were erased after they were exported.
fn unerased(cold: Vec<ColdStay>, standing: &Standing) -> Vec<Presence> {
    let erasures = standing.erasures();
    let kept = cold.into_iter().filter(|row| erasures.spare(&row.device, row.exported_at));
    kept.map(|row| Presence { device: row.device, randomized: row.randomized, stay: row.stay }).collect()
}

/// Numbers of spaces, summed up the tree.
pub(super) fn sums_up(tree: &Tree, own: impl Iterator<Item = (SpaceId, Cell)>) -> HashMap<SpaceId, Cell> {
    let mut sums: HashMap<SpaceId, Cell> = HashMap::new();
    for (space, cell) in own.filter(|(space, _)| tree.contains(*space)) {
        sums.entry(space).or_default().add(cell);
        for above in tree.ancestors(space) {
            sums.entry(above).or_default().add(cell);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::{SealedStay, Space};

    fn one(count: i64) -> Cell {
        Cell { count, randomized: 0, micros: 0 }
    }

    #[test]
    fn numbers_are_summed_up_the_tree_and_unknown_spaces_count_nowhere() {
        let mut tree = Tree::default();
        for (id, parent) in [(1, None), (10, Some(1)), (100, Some(10)), (101, Some(10)), (7, Some(6))] {
            tree.put(Space { space_id: id, space_name: None, parent_space_id: parent, building_room: None, capacity: None });
        }
        let sums = sums_up(&tree, [(100, one(2)), (101, one(3)), (10, one(1)), (7, one(9)), (55, one(99))].into_iter());
        let number = |id| sums.get(&id).map(|cell| cell.count);
        assert_eq!([1, 10, 100, 101, 7, 6, 55].map(number), [Some(6), Some(6), Some(2), Some(3), Some(9), None, None]);
    }

    #[test]
    fn sessions_of_an_erased_device_count_when_they_came_after_it() {
        let stay = SealedStay { start: 0, end: 1, space: 1, open: false, deleted: false };
        let cold =
            |device: &str, exported_at| ColdStay { key_hash: 1, device: device.into(), randomized: false, stay: stay.clone(), exported_at };
        let standing = Standing { erased: vec![("a".into(), 10)], ..Standing::default() };
        let kept = unerased(vec![cold("a", 10), cold("a", 11), cold("b", 3)], &standing);
        assert_eq!(kept.iter().map(|p| p.device.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn every_root_that_is_not_known_is_named() {
        let mut parts = Parts { as_of: 1, standing: Arc::default(), subtrees: vec![None, Some(vec![2]), None], answers: Vec::new() };
        let error = parts.known(&[1, 2, 3]).expect_err("two are missing");
        assert_eq!((error.code(), error.to_string().as_str()), ("not_found", "there are no spaces 1, 3"));
    }

    #[test]
    fn bins_are_had_where_memory_and_every_part_have_them() {
        let mut standing = Standing { boundary: Some(10 * DAY), sealed_intervals: vec![900, 3_600], ..Standing::default() };
        let parts =
            |standing: &Standing| Parts { as_of: 1, standing: Arc::new(standing.clone()), subtrees: Vec::new(), answers: Vec::new() };
        let has = |standing: &Standing, interval, from| parts(standing).has(Measure::Devices(interval), from);
        assert!(has(&standing, 86_400, 0), "no part has any cells");
        standing.cold_cells = vec![desireline_records::ColdPart {
            name: "p".into(),
            rows: 1,
            bytes: 1,
            hash_min: 0,
            hash_max: 0,
            time_min: 0,
            time_max: 0,
            block_sums: Arc::default(),
        }];
        assert!(has(&standing, 3_600, 0) && !has(&standing, 86_400, 0) && !has(&standing, 1_800, 0));
        assert!(has(&standing, 86_400, 10 * DAY), "memory has all from the boundary on");
        assert!(parts(&standing).has(Measure::Moves, 0));
    }
}
