//! Sessions and spaces of this server's own log.
//!
//! A chunk is the series of its space over its window, as `/api/occupancy` has it: own numbers and those of everything below, summed up at
//! one logical time, by the tree as it stands. So a derived chunk needs none of its children's objects. What may not be shown
//! ([`crate::service::Privacy`]) is not written either.

use super::error::SessionsError;
use super::plan::Active;
use super::sessions::{Counted, Discovery, Range, Sessions, by_name};
use crate::service::{SeriesRequest, Service, ServiceError};
use async_trait::async_trait;
use desireline_connectors::bins::Bin;
use desireline_dataflows::changes::View;
use desireline_dataflows::engine::{Changes, Start};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::DAY;
use desireline_records::{Cell, Measure, Micros, Space, SpaceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub struct Live {
    service: Service,
}

impl Live {
    pub fn new(service: Service) -> Self {
        Self { service }
    }

    fn read<T>(&self, read: impl FnOnce(&Tree) -> T) -> Result<T, SessionsError> {
        if self.service.ready() {
            return Ok(self.service.with_tree(read));
        }
        Err(SessionsError::Unavailable("the log is being replayed".to_owned()))
    }

    /// The days on which spaces of a subtree have sessions.
    async fn days(&self, root: SpaceId, from: Micros, to: Micros) -> Result<Vec<(SpaceId, Micros)>, SessionsError> {
        let cells = self.service.cells(Some(root), Measure::Visits, from, to, None).await.map_err(sessions_error)?.value;
        Ok(cells.into_iter().filter(|(_, cell)| cell.count > 0).map(|(key, _)| (key.space, key.time)).collect())
    }

    /// The narrowest kept bins with anybody in them, on one day.
    async fn edges(&self, root: SpaceId, day: Micros) -> Result<Option<(Micros, Micros)>, SessionsError> {
        let measure = Measure::Devices(self.service.narrowest_interval());
        let cells = self.service.cells(Some(root), measure, day, day + DAY, None).await.map_err(sessions_error)?.value;
        let times: BTreeSet<Micros> = cells.into_iter().filter(|(_, cell)| cell.count > 0).map(|(key, _)| key.time).collect();
        Ok(times.first().zip(times.last()).map(|(first, last)| (*first, last + measure.width())))
    }

    /// As far as bins tell: the begin of the first one and the end of the last.
    async fn bounds(&self, root: SpaceId) -> Result<Option<(Micros, Micros)>, SessionsError> {
        let days: BTreeSet<Micros> = self.days(root, Micros::MIN, Micros::MAX).await?.into_iter().map(|(_, day)| day).collect();
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(None) };
        let from = self.edges(root, *first).await?.map_or(*first, |(from, _)| from);
        let to = self.edges(root, *last).await?.map_or(last + DAY, |(_, to)| to);
        Ok(Some((from, to)))
    }
}

fn sessions_error(error: ServiceError) -> SessionsError {
    match error {
        ServiceError::Busy { .. } | ServiceError::NotReady(_) | ServiceError::Unavailable(_) => {
            SessionsError::Unavailable(error.to_string())
        }
        error => SessionsError::Refused(error.to_string()),
    }
}

#[async_trait]
impl Sessions for Live {
    fn is_live(&self) -> bool {
        true
    }

    async fn space(&self, id: SpaceId, _: Duration) -> Result<Option<Space>, SessionsError> {
        self.read(|tree| tree.get(id).cloned())
    }

    async fn search(&self, text: Option<&str>, skip: usize, rows_max: usize, _: Duration) -> Result<Vec<Space>, SessionsError> {
        let wanted = text.map(str::to_lowercase);
        let matches = |space: &&Space| match (&wanted, &space.space_name) {
            (None, _) => true,
            (Some(wanted), Some(name)) => name.to_lowercase().contains(wanted),
            (Some(_), None) => false,
        };
        let mut found: Vec<Space> = self.read(|tree| tree.iter().filter(matches).cloned().collect())?;
        by_name(&mut found);
        Ok(found.into_iter().skip(skip).take(rows_max).collect())
    }

    async fn roots(&self, _: Duration) -> Result<Vec<Space>, SessionsError> {
        let mut found: Vec<Space> = self.read(|tree| tree.roots().cloned().collect())?;
        by_name(&mut found);
        Ok(found)
    }

    async fn children(&self, id: SpaceId, _: Duration) -> Result<Vec<Space>, SessionsError> {
        let mut found: Vec<Space> = self.read(|tree| tree.children(id).cloned().collect())?;
        by_name(&mut found);
        Ok(found)
    }

    async fn subtree(&self, id: SpaceId, _: Option<Duration>) -> Result<Vec<Space>, SessionsError> {
        self.read(|tree| tree.subtree(id).unwrap_or_default().into_iter().filter_map(|id| tree.get(id).cloned()).collect())
    }

    async fn discover(&self, root: SpaceId, range: Range, _: Option<Duration>) -> Result<Discovery, SessionsError> {
        let bounds = if range.start.is_some() && range.end.is_some() { None } else { self.bounds(root).await? };
        let Some((start, end)) = range.settle(bounds) else { return Ok(Discovery { bounds, active: Active::new() }) };
        let width = i64::from(range.chunk_days) * DAY;
        let (first, last) = (start.div_euclid(width), (end - 1).div_euclid(width));
        let mut active = Active::new();
        for (space, day) in self.days(root, first * width, (last + 1) * width).await? {
            let window = day.div_euclid(width);
            active.entry((window * width, (window + 1) * width)).or_default().insert(space);
        }
        Ok(Discovery { bounds, active })
    }

    async fn own(&self, space: SpaceId, interval_seconds: u32, window: (Micros, Micros)) -> Result<Counted, SessionsError> {
        let counted = self.wholes(&[space], interval_seconds, window).await?;
        Ok(counted.into_iter().flatten().next().unwrap_or_default())
    }

    async fn wholes(
        &self,
        spaces: &[SpaceId],
        interval_seconds: u32,
        (from, to): (Micros, Micros),
    ) -> Result<Option<Vec<Counted>>, SessionsError> {
        let roots: Vec<SpaceId> = self.read(|tree| spaces.iter().copied().filter(|id| tree.contains(*id)).collect())?;
        if roots.is_empty() {
            return Ok(Some(vec![Counted::default(); spaces.len()]));
        }
        let request = SeriesRequest { roots, measure: Measure::Devices(interval_seconds), from, to, at_least: None };
        let answer = self.service.series(request).await.map_err(sessions_error)?;
        let privacy = self.service.privacy();
        let shown = |(begin, cell): (Micros, Cell)| Some((begin, privacy.show(cell).number?)).filter(|(_, number)| *number > 0);
        let mut found: BTreeMap<SpaceId, Vec<Bin>> =
            answer.value.into_iter().map(|series| (series.root, series.rows.into_iter().filter_map(shown).collect())).collect();
        let counted = |id: &SpaceId| Counted { bins: found.remove(id).unwrap_or_default(), as_of: Some(answer.as_of) };
        Ok(Some(spaces.iter().map(counted).collect()))
    }

    fn tree(&self) -> Result<Option<Tree>, SessionsError> {
        self.read(Tree::clone).map(Some)
    }

    fn follow(&self, rows_max: usize) -> Result<Option<Changes>, SessionsError> {
        let views = [View::Occupancy, View::Spaces].into_iter().collect();
        self.service.follow(views, Start::Now, rows_max).map(Some).map_err(sessions_error)
    }
}
