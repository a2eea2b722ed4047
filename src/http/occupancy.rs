//! Occupancy over HTTP: how many devices were in which space, when; what is usual; who stayed how long and went where.
//!
//! A number is that of the space and of all spaces below it, at the tree of now. Times are UTC; a range `[from, to)` means every bin that
//! overlaps it, and without bounds it ends now. What may not be shown is withheld by one rule ([`Privacy`](crate::service::Privacy)).
//!
//! Limits: rows of a page as for every listing (`http.max_page`); a heat map has at most [`HEAT_BINS_MAX`] bins and [`HEAT_NUMBERS_MAX`]
//! numbers, visits are of at most [`DAYS_MAX`] days.

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::occupancy_reply::*;
use super::params::Params;
use super::queries::at;
use super::wire::rfc3339;
use crate::service::occupancy::{FlowsPer, width};
use crate::service::{SeriesRequest, ServiceError};
use axum::extract::State;
use axum::response::Response;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::{DAY, HOUR, floor, now_micros};
use desireline_records::wifi::INTERVALS;
use desireline_records::{Measure, Micros, Space, SpaceId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

/// Bins of one heat map.
const HEAT_BINS_MAX: i64 = 2_000;
/// … times spaces.
const HEAT_NUMBERS_MAX: usize = 1_000_000;
/// Days of one question about visits or flows.
const DAYS_MAX: i64 = 3_660;
/// Weeks that can be compared.
const WEEKS_MAX: u32 = 520;
const WEEKS_DEFAULT: u32 = 8;
const INTERVAL_DEFAULT: u32 = 3_600;

fn space_id(params: &mut Params) -> Option<SpaceId> {
    params.integer("space_id", SpaceId::MIN, SpaceId::MAX)
}

fn required_space_id(params: &mut Params) -> SpaceId {
    let id = space_id(params);
    params.require("space_id", id).unwrap_or_default()
}

fn interval(params: &mut Params) -> u32 {
    let words = INTERVALS.map(|seconds| seconds.to_string());
    let words = words.each_ref().map(String::as_str);
    let read = |text: &str| words.iter().position(|word| *word == text).map(|at| INTERVALS[at]);
    params.word("interval_seconds", &words, read).unwrap_or(INTERVAL_DEFAULT)
}

/// `from` and `to`; without them the last `span` up to now.
fn range(params: &mut Params, span: Micros) -> (Micros, Micros) {
    let (from, to) = (params.time("from"), params.time("to"));
    let to = to.unwrap_or_else(now_micros);
    let from = from.unwrap_or_else(|| to.saturating_sub(span));
    if from >= to {
        params.mistake("to", "must lie after `from`");
    }
    (from, to)
}

/// How many devices were in a space, by bins.
#[utoipa::path(get, path = "/api/occupancy", tag = "occupancy", operation_id = "occupancy",
    params(("space_id" = i32, Query),
        ("interval_seconds" = Option<super::occupancy::IntervalWord>, Query, description = "3600 when absent"),
        ("from" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "a day before `to` when absent"),
        ("to" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "now when absent"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "the largest page when absent, or above it"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "every bin that overlaps the range and has devices", body = OccupancyReply),
        (status = 404, description = "there is no such space", body = ErrorBody)))]
pub(super) async fn occupancy(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let space_id = required_space_id(&mut params);
    let interval_seconds = interval(&mut params);
    let (from, to) = range(&mut params, DAY);
    let max = params.limit(state.config.page_max, state.config.page_max);
    let at_least = params.at_least();
    params.finish()?;
    let from = floor(from, width(interval_seconds));
    let request = SeriesRequest { roots: vec![space_id], measure: Measure::Devices(interval_seconds), from, to, at_least };
    let answer = state.backend.series(request).await?;
    let rows = answer.value.first().map_or(&[][..], |series| &series.rows[..]);
    Ok(at(answer.as_of, OccupancyReply::new(answer.as_of, space_id, interval_seconds, rows, state.backend.privacy(), max)))
}

/// The numbers of a space and of its children, bin by bin, without gaps.
#[utoipa::path(get, path = "/api/occupancy/heat", tag = "occupancy", operation_id = "occupancy_heat",
    params(("space_id" = Option<i32>, Query, description = "the roots when absent"),
        ("interval_seconds" = Option<super::occupancy::IntervalWord>, Query, description = "3600 when absent"),
        ("from" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "a day before `to` when absent"),
        ("to" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "now when absent"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "at most 2,000 bins", body = HeatReply),
        (status = 404, description = "there is no such space", body = ErrorBody)))]
pub(super) async fn heat(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let space_id = space_id(&mut params);
    let interval_seconds = interval(&mut params);
    let (from, to) = range(&mut params, DAY);
    let at_least = params.at_least();
    let width = width(interval_seconds);
    let from = floor(from, width);
    let bins = to.saturating_sub(from).saturating_add(width - 1) / width;
    if bins > HEAT_BINS_MAX {
        params.mistake("from", format!("a heat map has at most {HEAT_BINS_MAX} bins, not {bins}"));
    }
    params.finish()?;
    if !state.backend.ready() {
        return Err(ServiceError::NotReady("the log is being replayed".to_owned()).into());
    }
    if let Some(token) = at_least {
        state.backend.wait_applied(token, state.config.request_timeout).await?;
    }
    let mut lines = Vec::new();
    let mut is_known = true;
    state.backend.read_tree(&mut |tree| {
        let itself = space_id.map(|id| tree.get(id));
        is_known = !matches!(itself, Some(None));
        let below: Vec<&Space> = space_id.map_or_else(|| tree.roots().collect(), |id| tree.children(id).collect());
        lines = itself.flatten().into_iter().chain(below).map(|space| line(tree, space)).collect();
    });
    if let Some(id) = space_id.filter(|_| !is_known) {
        return Err(ApiError::not_found(format!("there is no space {id}")));
    }
    if lines.len().saturating_mul(bins.max(0) as usize) > HEAT_NUMBERS_MAX {
        let detail = format!("{bins} bins of {} spaces are more than {HEAT_NUMBERS_MAX} numbers", lines.len());
        return Err(ApiError::invalid_field("from", detail));
    }
    let roots = lines.iter().map(|line| line.space_id).collect();
    let request = SeriesRequest { roots, measure: Measure::Devices(interval_seconds), from, to, at_least };
    let answer = state.backend.series(request).await?;
    let privacy = state.backend.privacy();
    for (line, series) in lines.iter_mut().zip(answer.value) {
        let cells: BTreeMap<_, _> = series.rows.into_iter().collect();
        let number = |bin: i64| cells.get(&(from + bin * width)).map_or(Some(0), |cell| privacy.show(*cell).number);
        line.numbers = (0..bins).map(number).collect();
    }
    let begin_times = (0..bins).map(|bin| rfc3339(from + bin * width)).collect();
    Ok(at(answer.as_of, HeatReply { as_of: answer.as_of, space_id, interval_seconds, begin_times, spaces: lines }))
}

fn line(tree: &Tree, space: &Space) -> HeatSpace {
    HeatSpace {
        space_id: space.space_id,
        space_name: space.space_name.clone(),
        capacity: space.capacity,
        has_children: tree.children(space.space_id).next().is_some(),
        numbers: Vec::new(),
    }
}

/// What is usual at each hour of the week, over the weeks before now.
#[utoipa::path(get, path = "/api/occupancy/typical", tag = "occupancy", operation_id = "occupancy_typical",
    params(("space_id" = i32, Query),
        ("weeks" = Option<u32>, Query, minimum = 1, maximum = 520, description = "8 when absent"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "168 hours", body = TypicalReply),
        (status = 404, description = "there is no such space", body = ErrorBody)))]
pub(super) async fn typical(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let space_id = required_space_id(&mut params);
    let weeks = params.integer("weeks", 1, WEEKS_MAX).unwrap_or(WEEKS_DEFAULT);
    let at_least = params.at_least();
    params.finish()?;
    let answer = state.backend.typical(space_id, weeks, at_least).await?;
    Ok(at(answer.as_of, TypicalReply::new(answer.as_of, space_id, answer.value)))
}

/// Every space with its number in the running bin.
#[utoipa::path(get, path = "/api/occupancy/now", tag = "occupancy", operation_id = "occupancy_now",
    params(("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "in bins of the narrowest width that is kept", body = NowReply)))]
pub(super) async fn now(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let at_least = params.at_least();
    params.finish()?;
    let answer = state.backend.occupancy_now(at_least).await?;
    Ok(at(answer.as_of, NowReply::new(answer.as_of, answer.value, state.backend.privacy())))
}

/// Visits by day, and how long they were.
#[utoipa::path(get, path = "/api/visits", tag = "occupancy", operation_id = "visits",
    params(("space_id" = i32, Query),
        ("from" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "30 days before `to` when absent"),
        ("to" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "now when absent"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "every day (UTC) that overlaps the range and has visits", body = VisitsReply),
        (status = 404, description = "there is no such space", body = ErrorBody)))]
pub(super) async fn visits(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let space_id = required_space_id(&mut params);
    let (from, to) = days(&mut params, 30 * DAY);
    let at_least = params.at_least();
    params.finish()?;
    let answer = state.backend.visits(space_id, from, to, at_least).await?;
    let days = answer.value.into_iter().map(VisitsDay::from).collect();
    Ok(at(answer.as_of, VisitsReply { as_of: answer.as_of, space_id, days }))
}

fn days(params: &mut Params, span: Micros) -> (Micros, Micros) {
    let (from, to) = range(params, span);
    if to.saturating_sub(from) > DAYS_MAX * DAY {
        params.mistake("from", format!("a question may be of at most {DAYS_MAX} days"));
    }
    (from, to)
}

/// Who went from where to where, between the children of a space.
#[utoipa::path(get, path = "/api/flows", tag = "occupancy", operation_id = "flows",
    params(("space_id" = Option<i32>, Query, description = "between roots when absent"),
        ("from" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "a day before `to` when absent"),
        ("to" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "now when absent"),
        ("per" = Option<super::occupancy::PerWord>, Query, description = "summed over the range (when absent), or by hour of arrival"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "the largest page when absent, or above it"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "moves in hours that overlap the range", body = FlowsReply),
        (status = 404, description = "there is no such space", body = ErrorBody)))]
pub(super) async fn flows(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let space_id = space_id(&mut params);
    let (from, to) = days(&mut params, 24 * HOUR);
    let per = params.word("per", &["range", "hour"], |word| match word {
        "range" => Some(FlowsPer::Range),
        "hour" => Some(FlowsPer::Hour),
        _ => None,
    });
    let max = params.limit(state.config.page_max, state.config.page_max);
    let at_least = params.at_least();
    params.finish()?;
    let answer = state.backend.flows(space_id, from, to, per.unwrap_or_default(), at_least).await?;
    let mut flows = answer.value;
    let truncated = flows.len() > max;
    flows.truncate(max);
    let flows = flows.into_iter().map(FlowRow::from).collect();
    Ok(at(answer.as_of, FlowsReply { as_of: answer.as_of, space_id, flows, truncated }))
}

/// How flows are added up.
#[derive(ToSchema)]
#[schema(as = FlowsPer, rename_all = "snake_case")]
#[allow(dead_code)]
pub(super) enum PerWord {
    Range,
    Hour,
}

/// A width of bins, in seconds.
pub(super) struct IntervalWord;

impl PartialSchema for IntervalWord {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some(INTERVALS)).into()
    }
}

impl ToSchema for IntervalWord {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("IntervalSeconds")
    }
}
