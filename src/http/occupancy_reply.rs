//! The bodies of answers about occupancy.

use super::wire::rfc3339;
use crate::service::SpaceNow;
use crate::service::occupancy::{Flow, Hour, OccupancyNow, Privacy, Typical, VisitDay};
use desireline_records::{Cell, LogicalTime, Micros, SpaceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many there were in a bin.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct OccupancyBin {
    /// RFC 3339; aligned to the epoch.
    pub interval_begin_time: String,
    /// Distinct devices per space, summed up over all spaces below.
    pub number_connections: i64,
    /// Of devices with randomised addresses; null where that may not be shown.
    pub randomized: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct OccupancyReply {
    pub as_of: LogicalTime,
    pub space_id: SpaceId,
    pub interval_seconds: u32,
    /// By time; bins without devices are left out.
    pub rows: Vec<OccupancyBin>,
    /// Bins that were left out because their numbers are too small to be shown; only where a setting withholds any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withheld: Option<usize>,
    /// There is more: the same question from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_from: Option<String>,
}

impl OccupancyReply {
    pub fn new(
        as_of: LogicalTime,
        space_id: SpaceId,
        interval_seconds: u32,
        cells: &[(Micros, Cell)],
        privacy: Privacy,
        max: usize,
    ) -> Self {
        let mut reply = Self { as_of, space_id, interval_seconds, rows: Vec::new(), withheld: None, next_from: None };
        let mut withheld = 0;
        for (time, cell) in cells {
            let shown = privacy.show(*cell);
            if shown.is_empty() {
                continue;
            }
            if reply.rows.len() == max {
                reply.next_from = Some(rfc3339(*time));
                break;
            }
            match shown.number {
                Some(number_connections) => {
                    reply.rows.push(OccupancyBin { interval_begin_time: rfc3339(*time), number_connections, randomized: shown.randomized })
                }
                None => withheld += 1,
            }
        }
        reply.withheld = privacy.withholds().then_some(withheld);
        reply
    }
}

/// One line of a heat map.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct HeatSpace {
    pub space_id: SpaceId,
    #[schema(value_type = Option<String>)]
    pub space_name: Option<EcoString>,
    pub capacity: Option<u32>,
    pub has_children: bool,
    /// One for each of `begin_times`; null where the number is too small to be shown.
    pub numbers: Vec<Option<i64>>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct HeatReply {
    pub as_of: LogicalTime,
    /// Null when the roots were asked for.
    pub space_id: Option<SpaceId>,
    pub interval_seconds: u32,
    /// RFC 3339.
    pub begin_times: Vec<String>,
    /// The space itself first, then its children by id.
    pub spaces: Vec<HeatSpace>,
}

/// An hour of the week. Null where there are no data, or a number is too small to be shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TypicalHour {
    /// 0 is Monday 00:00 UTC.
    pub hour_of_week: usize,
    pub median: Option<i64>,
    /// 10th and 90th percentile, by nearest rank.
    pub p10: Option<i64>,
    pub p90: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TypicalPeak {
    /// RFC 3339.
    pub interval_begin_time: String,
    pub number_connections: i64,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TypicalReply {
    pub as_of: LogicalTime,
    pub space_id: SpaceId,
    /// RFC 3339; the weeks that were looked at.
    pub from: String,
    pub to: String,
    /// Of these, those with any data.
    pub weeks: u32,
    /// All 168.
    pub hours: Vec<TypicalHour>,
    /// The fullest hour.
    pub peak: Option<TypicalPeak>,
}

impl TypicalReply {
    pub fn new(as_of: LogicalTime, space_id: SpaceId, typical: Typical) -> Self {
        let hour = |(hour_of_week, Hour { median, p10, p90 })| TypicalHour { hour_of_week, median, p10, p90 };
        let peak = typical.peak.map(|peak| TypicalPeak { interval_begin_time: rfc3339(peak.time), number_connections: peak.number });
        let hours = typical.hours.into_iter().enumerate().map(hour).collect();
        Self { as_of, space_id, from: rfc3339(typical.from), to: rfc3339(typical.to), weeks: typical.weeks, hours, peak }
    }
}

/// A space in the running bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct NowSpace {
    pub space_id: SpaceId,
    #[schema(value_type = Option<String>)]
    pub space_name: Option<EcoString>,
    pub parent_space_id: Option<SpaceId>,
    pub capacity: Option<u32>,
    /// With all spaces below; null where it is too small to be shown.
    pub number_connections: Option<i64>,
    pub randomized: Option<i64>,
    /// The number of the bin before.
    pub previous: Option<i64>,
}

impl NowSpace {
    pub fn new(now: SpaceNow, privacy: Privacy) -> Self {
        let shown = privacy.show(now.running);
        Self {
            space_id: now.space.space_id,
            space_name: now.space.space_name,
            parent_space_id: now.space.parent_space_id,
            capacity: now.space.capacity,
            number_connections: shown.number,
            randomized: shown.randomized,
            previous: privacy.show(now.last).number,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct NowReply {
    pub as_of: LogicalTime,
    /// The narrowest bins that are kept.
    pub interval_seconds: u32,
    /// Of the running bin; RFC 3339.
    pub interval_begin_time: String,
    /// Every space, by id.
    pub spaces: Vec<NowSpace>,
}

impl NowReply {
    pub fn new(as_of: LogicalTime, now: OccupancyNow, privacy: Privacy) -> Self {
        Self {
            as_of,
            interval_seconds: now.interval_seconds,
            interval_begin_time: rfc3339(now.begin),
            spaces: now.spaces.into_iter().map(|space| NowSpace::new(space, privacy)).collect(),
        }
    }
}

/// In seconds. The mean is exact; the others are estimated from a histogram.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct DwellSeconds {
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
}

/// Null where a number is too small to be shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct VisitsDay {
    /// UTC.
    pub date: String,
    pub visits: Option<i64>,
    /// Distinct devices per space; null where bins of a day are not kept.
    pub visitors: Option<i64>,
    /// Visits of devices with randomised addresses.
    pub randomized: Option<i64>,
    pub dwell_seconds: Option<DwellSeconds>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct VisitsReply {
    pub as_of: LogicalTime,
    pub space_id: SpaceId,
    /// By date; days without visits are left out.
    pub days: Vec<VisitsDay>,
}

impl From<VisitDay> for VisitsDay {
    fn from(day: VisitDay) -> Self {
        let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
        let dwell = day.dwell.map(|d| DwellSeconds { mean: tenths(d.mean), median: tenths(d.median), p90: tenths(d.p90) });
        let date = rfc3339(day.day).chars().take(10).collect();
        Self { date, visits: day.visits, visitors: day.visitors, randomized: day.randomized, dwell_seconds: dwell }
    }
}

/// Moves from one child to another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct FlowRow {
    /// The hour of arrival, RFC 3339; with `per=hour` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// Null: elsewhere.
    pub from_space_id: Option<SpaceId>,
    pub to_space_id: Option<SpaceId>,
    /// Null where a number is too small to be shown.
    pub count: Option<i64>,
    pub randomized: Option<i64>,
}

impl From<Flow> for FlowRow {
    fn from(flow: Flow) -> Self {
        Self {
            hour: flow.time.map(rfc3339),
            from_space_id: flow.from,
            to_space_id: flow.to,
            count: flow.shown.number,
            randomized: flow.shown.randomized,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct FlowsReply {
    pub as_of: LogicalTime,
    /// Null when moves between roots were asked for.
    pub space_id: Option<SpaceId>,
    /// By hour, largest first.
    pub flows: Vec<FlowRow>,
    /// There were more than fit on a page.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}
