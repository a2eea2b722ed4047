//! Occupancy as it is asked for: series of a space and all that lies in it, single cells, and what is made of them.
//!
//! What it promises:
//! - **One time.** An answer is true at one logical time: the workers' sums, the space tree by which they were summed up, and the cold parts that the
//!   first worker names are all of that time.
//! - **Sums over the tree.** The number of a space is its own plus those of all spaces below it, by the tree as it stands now: a room that
//!   moves takes its history along.
//! - **Everything counts once.** Cells before the sealed boundary are those of the cold parts plus what memory has of them (a difference); cells
//!   from the boundary on are those of memory.
//! - **Any width of [`INTERVALS`](desireline_records::wifi::INTERVALS).** Bins that are not kept, or were not kept when a part was written, are counted
//!   from the sessions (`presence.rs`): those in memory and those of cold parts, a session in memory instead of what a part says of it.
//!   Bins that begin before `retained_from` are refused then, since their sessions are gone.
//!
//! Work on the CPU that grows with the answer happens off the runtime's threads. A question that is not answered within `engine.peek_deadline`,
//! or has to look at more than `engine.peek_rows_max` sessions, is refused.
//!
//! # Known limitations
//! - Visits are put together from three questions. They are asked again when something changed between them, but not for ever.
//! - The numbers of all spaces now, and flows, are summed up by the tree as the log has it, which may be a moment ahead of the numbers.
//! - Where devices with randomised addresses are excluded, the mean length of visits still has theirs in it.

mod dwell;
mod flows;
mod gather;
mod presence;
mod privacy;
mod sums;
mod typical;

pub use dwell::{DwellTimes, VisitDay};
pub use flows::{Flow, FlowsPer};
pub(super) use gather::unreadable;
pub use privacy::{Privacy, Shown};
pub use typical::{Hour, Peak, Typical};

use super::{At, Service, ServiceError, WifiSealingConfig};
use desireline_records::time::{HOUR, SECOND, floor};
use desireline_records::{Cell, CellKey, Measure, Micros, SpaceId, Token};

/// What answers about occupancy go by, beside the settings of the source.
#[derive(Clone, Debug)]
pub struct OccupancyConfig {
    pub privacy: Privacy,
    /// Most spaces of the tree.
    pub spaces_max: usize,
    /// Memory for sealed cells that questions have met.
    pub cell_cache_bytes: usize,
    /// Shares of a space's capacity that are worth an alert, in percent; ascending.
    pub alert_percent: Vec<u32>,
    /// How sessions leave memory, and come back.
    pub sealing: WifiSealingConfig,
}

impl Default for OccupancyConfig {
    fn default() -> Self {
        let sealing = WifiSealingConfig::default();
        Self { privacy: Privacy::default(), spaces_max: 100_000, cell_cache_bytes: 64 << 20, alert_percent: vec![80, 100], sealing }
    }
}

#[derive(Clone, Debug)]
pub struct SeriesRequest {
    pub roots: Vec<SpaceId>,
    pub measure: Measure,
    /// Cells whose time lies in `[from, to)`.
    pub from: Micros,
    pub to: Micros,
    pub at_least: Option<Token>,
}

/// The sums of a measure over a subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub root: SpaceId,
    /// Ascending by time; cells that are zero are left out.
    pub rows: Vec<(Micros, Cell)>,
}

/// A space and how many are in it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceNow {
    pub space: desireline_records::Space,
    /// In the running bin, and in the one before, with all spaces below.
    pub running: Cell,
    pub last: Cell,
}

/// Every space in the running bin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccupancyNow {
    pub interval_seconds: u32,
    /// The begin of the running bin.
    pub begin: Micros,
    /// In order of ids.
    pub spaces: Vec<SpaceNow>,
}

impl Service {
    /// What of a count may be shown.
    pub fn privacy(&self) -> Privacy {
        self.inner.config.occupancy.privacy
    }

    /// The narrowest bins that are kept, in seconds.
    pub fn narrowest_interval(&self) -> u32 {
        self.inner.narrowest()
    }

    /// One series for each root. `NotFound` names the roots that are not known.
    pub async fn series(&self, request: SeriesRequest) -> Result<At<Vec<Series>>, ServiceError> {
        self.inner.at_least(request.at_least).await?;
        self.inner.series(&request).await
    }

    /// Single cells of the spaces of a subtree, of every space without a root (also of spaces that are not known), in order of their keys.
    pub async fn cells(
        &self,
        root: Option<SpaceId>,
        measure: Measure,
        from: Micros,
        to: Micros,
        at_least: Option<Token>,
    ) -> Result<At<Vec<(CellKey, Cell)>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        self.inner.cells(root, measure, from, to).await
    }

    /// Every space with its number in the running bin and in the one before.
    pub async fn occupancy_now(&self, at_least: Option<Token>) -> Result<At<OccupancyNow>, ServiceError> {
        self.inner.at_least(at_least).await?;
        self.inner.occupancy_now().await
    }

    /// How many there usually are at each hour of the week, over the last `weeks` weeks up to the running hour.
    pub async fn typical(&self, space: SpaceId, weeks: u32, at_least: Option<Token>) -> Result<At<Typical>, ServiceError> {
        let to = floor(self.inner.clock() - 1, HOUR);
        let from = to - i64::from(weeks) * typical::WEEK;
        let request = SeriesRequest { roots: vec![space], measure: Measure::Devices(3_600), from, to, at_least };
        let At { as_of, value } = self.series(request).await?;
        let rows = value.into_iter().next().map(|series| series.rows).unwrap_or_default();
        let privacy = self.privacy();
        Ok(At { as_of, value: Typical::of(&rows, to, weeks, privacy) })
    }

    /// Visits, how long they were, and visitors, for each day of a subtree that overlaps `[from, to)`.
    pub async fn visits(
        &self,
        space: SpaceId,
        from: Micros,
        to: Micros,
        at_least: Option<Token>,
    ) -> Result<At<Vec<VisitDay>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        self.inner.visits(space, from, to).await
    }

    /// Moves between the children of a space (between roots, without one), over the range or by hour of arrival.
    pub async fn flows(
        &self,
        root: Option<SpaceId>,
        from: Micros,
        to: Micros,
        per: FlowsPer,
        at_least: Option<Token>,
    ) -> Result<At<Vec<Flow>>, ServiceError> {
        self.inner.at_least(at_least).await?;
        self.inner.flows(root, from, to, per).await
    }
}

/// A width in seconds as a time.
pub fn width(interval_seconds: u32) -> Micros {
    i64::from(interval_seconds) * SECOND
}
