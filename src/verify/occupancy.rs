//! Verification of occupancy: every cell, counted again from the sessions in the log.
//!
//! Not compared: cells of days whose sessions have left by retention, since they cannot be counted again, and sealed bins of a width that
//! was not kept when they were sealed, since nobody is answered from them.

use super::{Local, VerifyError};
use desireline_connectors::cold::CellCache;
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::views::occupancy::query::{OccupancyQuery, Standing};
use desireline_records::time::DAY;
use desireline_records::wifi::INTERVALS;
use desireline_records::{Cell, CellKey, Measure, Micros};
use std::collections::{BTreeMap, BTreeSet};

pub type Cells = BTreeMap<CellKey, Cell>;

/// All times, with room for sums.
const ALWAYS: (Micros, Micros) = (Micros::MIN / 2, Micros::MAX / 2);

/// Whether a cell is answered from cells, and can be counted from the log that is left.
pub fn is_comparable(key: &CellKey, standing: &Standing) -> bool {
    let answered = match key.measure {
        Measure::Devices(interval) => {
            standing.boundary.is_none_or(|boundary| key.time >= boundary) || standing.sealed_intervals.contains(&interval)
        }
        _ => true,
    };
    // A session on a day may reach into it from the day before, and a move may come from there.
    answered && standing.retained_from.is_none_or(|from| key.time >= from + 2 * DAY)
}

impl Local {
    /// Every comparable cell of the views, in memory and in cold parts; and what they stand for.
    pub(super) async fn cells(&self) -> Result<(Cells, Standing), VerifyError> {
        let mut cells = Cells::new();
        let mut standing = Standing::default();
        let measures = INTERVALS.map(Measure::Devices).into_iter().chain([Measure::Visits, Measure::Dwell, Measure::Moves]);
        let cache = CellCache::new(0);
        for measure in measures {
            let query = OccupancyQuery::Cells { root: None, measure, from: ALWAYS.0, to: ALWAYS.1 };
            let (_, parts) = self.ask(Query::Occupancy(query)).await?;
            for part in parts {
                let Answer::Occupancy(part) = part else { continue };
                part.cells.into_iter().for_each(|(key, cell)| cells.entry(key).or_default().add(cell));
                if let Some(first) = part.standing {
                    standing = (*first).clone();
                }
            }
            let sealed = cache.read_cells(&self.store, &standing.cold_cells, measure, &BTreeSet::new(), ALWAYS.0, ALWAYS.1).await;
            let sealed = sealed.map_err(|error| VerifyError::Cold(error.to_string()))?;
            sealed.into_iter().for_each(|(key, cell)| cells.entry(key).or_default().add(cell));
        }
        cells.retain(|key, cell| !cell.is_zero() && is_comparable(key, &standing));
        Ok((cells, standing))
    }
}
