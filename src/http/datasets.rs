//! Occupancy datasets: asked for, listed, read, tried again. What they are stands in `crate::occupancy`.

use super::AppState;
use super::body::{JsonBody, NoBody};
use super::error::{ApiError, FieldError};
use super::fields::{Fields, unreadable};
use super::params::Params;
use crate::occupancy::{self, NewDataset, OccupancyError, Results, plain_time};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat};
use desireline_records::wifi::INTERVALS;
use desireline_records::{Micros, SpaceId, limits, time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Longest name and description, in bytes.
const NAME_BYTES_MAX: usize = 255;
const DESCRIPTION_BYTES_MAX: usize = 8_192;
/// Ten years.
const CHUNK_DAYS_MAX: i64 = 3_653;
const CHUNK_DAYS: i64 = 30;
const INTERVAL_SECONDS: i64 = 3_600;

impl From<OccupancyError> for ApiError {
    fn from(error: OccupancyError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            OccupancyError::Invalid { field, detail } => Self::invalid_field(field, detail),
            OccupancyError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, code, detail),
            OccupancyError::Database(_) | OccupancyError::Objects(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(5),
            OccupancyError::NotReady(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry(1),
            OccupancyError::Service(error) => error.into(),
        }
    }
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewOccupancyDataset)]
#[allow(dead_code)]
pub(super) struct DatasetBody {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
    /// Occupancy is computed for this space and everything below it.
    root_space_id: i32,
    /// Inclusive; RFC 3339, UTC without a zone. The earliest session of the subtree when absent.
    #[schema(required = false)]
    start_time: Option<String>,
    /// Exclusive. The latest end of a session of the subtree when absent.
    #[schema(required = false)]
    end_time: Option<String>,
    /// 900, 1800, 3600, 7200, 14400, 28800 or 86400; 3600 when absent.
    #[schema(required = false, value_type = Option<super::occupancy::IntervalWord>)]
    interval_seconds: Option<i64>,
    /// Width of the windows that datasets share, in days; 30 when absent.
    #[schema(required = false, minimum = 1, maximum = 3653)]
    chunk_days: Option<i64>,
    /// Counts chunks again that are completed.
    #[schema(required = false)]
    force_overwrite: Option<bool>,
}

fn read_dataset(bytes: &[u8]) -> Result<NewDataset, ApiError> {
    let mut fields = Fields::read(bytes).map_err(|error| unreadable(&error))?;
    let name = fields.text("name", NAME_BYTES_MAX);
    let name = fields.require("name", name).unwrap_or_default().into_owned();
    let description = fields.text("description", DESCRIPTION_BYTES_MAX).map(|text| text.into_owned());
    let root = fields.integer("root_space_id", SpaceId::MIN.into(), SpaceId::MAX.into());
    let root_space_id = fields.require("root_space_id", root).and_then(|id| SpaceId::try_from(id).ok()).unwrap_or_default();
    let start_time = read_time(&mut fields, "start_time");
    let end_time = read_time(&mut fields, "end_time");
    if let (Some(start), Some(end)) = (start_time, end_time)
        && end <= start
    {
        fields.note("end_time", "must be after start_time");
    }
    let interval = fields.integer("interval_seconds", i64::MIN, i64::MAX).unwrap_or(INTERVAL_SECONDS);
    let interval_seconds = u32::try_from(interval).ok().filter(|seconds| INTERVALS.contains(seconds));
    if interval_seconds.is_none() {
        fields.note("interval_seconds", format!("must be one of {}", INTERVALS.map(|seconds| seconds.to_string()).join(", ")));
    }
    let chunk_days = fields.integer("chunk_days", 1, CHUNK_DAYS_MAX).unwrap_or(CHUNK_DAYS);
    let force_overwrite = fields.flag("force_overwrite").unwrap_or(false);
    let named = |(field, detail)| FieldError::new(field, detail);
    fields.finish().map_err(|mistakes| ApiError::invalid(mistakes.into_iter().map(named).collect()))?;
    Ok(NewDataset {
        name,
        description,
        root_space_id,
        start_time,
        end_time,
        interval_seconds: interval_seconds.unwrap_or_default(),
        chunk_days: u32::try_from(chunk_days).unwrap_or_default(),
        force_overwrite,
    })
}

fn read_time(fields: &mut Fields<'_>, name: &'static str) -> Option<Micros> {
    let text = fields.text(name, 64)?;
    let time = time::parse_time(&text).filter(|time| (0..=limits::TIME_MAX).contains(time));
    if time.is_none() {
        fields.note(name, "must be a time like 2024-09-01T00:00:00Z, between 1970 and 2200");
    }
    time
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DatasetStatusWord {
    Pending,
    Running,
    Completed,
    Failed,
}

impl From<occupancy::State> for DatasetStatusWord {
    fn from(state: occupancy::State) -> Self {
        match state {
            occupancy::State::Pending => Self::Pending,
            occupancy::State::Running => Self::Running,
            occupancy::State::Completed => Self::Completed,
            occupancy::State::Failed => Self::Failed,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct OccupancyDataset {
    dataset_id: u64,
    name: String,
    description: Option<String>,
    root_space_id: i32,
    /// RFC 3339.
    start_time: String,
    /// RFC 3339.
    end_time: String,
    interval_seconds: u32,
    chunk_days: u32,
    status: DatasetStatusWord,
    /// Always null: a dataset has a run for each of its chunks.
    dagster_run_id: Option<String>,
    /// Where the chunks of the root lie; null until it is completed.
    storage_path: Option<String>,
    /// Rows of the root; null until it is completed.
    row_count: Option<u64>,
    #[schema(value_type = Option<Object>)]
    column_stats: Option<Value>,
    error_message: Option<String>,
    /// RFC 3339.
    created_at: String,
    completed_at: Option<String>,
}

/// A time as clients of datasets know it: with a fraction only where there is one.
fn utc(time: Micros) -> String {
    DateTime::from_timestamp_micros(time).unwrap_or_default().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl From<occupancy::Dataset> for OccupancyDataset {
    fn from(dataset: occupancy::Dataset) -> Self {
        Self {
            dataset_id: dataset.dataset_id,
            name: dataset.name,
            description: dataset.description,
            root_space_id: dataset.root_space_id,
            start_time: utc(dataset.start_time),
            end_time: utc(dataset.end_time),
            interval_seconds: dataset.interval_seconds,
            chunk_days: dataset.chunk_days,
            status: dataset.state.into(),
            dagster_run_id: None,
            storage_path: dataset.storage_path,
            row_count: dataset.row_count,
            column_stats: dataset.column_stats,
            error_message: dataset.error,
            created_at: utc(dataset.created_at),
            completed_at: dataset.completed_at.map(utc),
        }
    }
}

/// Asks for the occupancy of a space and everything below it; answers before it is counted.
#[utoipa::path(post, path = "/occupancy/datasets", tag = "occupancy", operation_id = "create_occupancy_dataset", request_body = DatasetBody,
    responses((status = 201, description = "recorded; COMPLETED where there is nothing to count", body = OccupancyDataset),
        (status = 404, description = "there is no such space", body = super::error::ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<OccupancyDataset>), ApiError> {
    let new = read_dataset(&bytes)?;
    let dataset = state.occupancy()?.create(new).await?;
    Ok((StatusCode::CREATED, Json(dataset.into())))
}

/// The datasets, the newest first.
#[utoipa::path(get, path = "/occupancy/datasets", tag = "occupancy", operation_id = "occupancy_datasets",
    params(("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "the newest first", body = Vec<OccupancyDataset>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<OccupancyDataset>>, ApiError> {
    let skip = skip(&mut params);
    let limit = params.limit(100, state.config.page_max);
    params.finish()?;
    Ok(Json(state.occupancy()?.list(skip, limit)?.into_iter().map(OccupancyDataset::from).collect()))
}

pub(super) fn skip(params: &mut Params) -> usize {
    params.integer::<i64>("skip", 0, i64::MAX).and_then(|skip| usize::try_from(skip).ok()).unwrap_or(0)
}

/// One dataset.
#[utoipa::path(get, path = "/occupancy/datasets/{dataset_id}", tag = "occupancy", operation_id = "occupancy_dataset",
    params(("dataset_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = OccupancyDataset)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<OccupancyDataset>, ApiError> {
    let id = dataset_id(&mut params);
    params.finish()?;
    Ok(Json(state.occupancy()?.get(id)?.into()))
}

/// Numbers that no dataset has are not found, whatever they are.
fn dataset_id(params: &mut Params) -> u64 {
    u64::try_from(params.integer_segment("dataset_id")).unwrap_or_default()
}

fn space_id(params: &mut Params) -> Option<SpaceId> {
    params.integer("space_id", SpaceId::MIN, SpaceId::MAX)
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct OccupancyRow {
    /// The begin of the bin, UTC.
    interval_begin_time: String,
    /// Devices in the space; in one with others below it, the sum over them.
    number_connections: i64,
}

/// How far a space is, or, once all its chunks are completed, its rows.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub(super) struct OccupancyResults {
    dataset_id: u64,
    space_id: i32,
    #[schema(value_type = DatasetStatusWord)]
    status: String,
    /// The first chunk that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    error: Option<String>,
    /// While it is not known yet what the dataset consists of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    message: Option<String>,
    completed_chunks: usize,
    total_chunks: usize,
    /// Of the rows given: at most 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    row_count: Option<usize>,
    /// Of all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    total_rows: Option<u64>,
    /// In the order of time; bins without devices are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    rows: Option<Vec<OccupancyRow>>,
}

impl From<Results> for OccupancyResults {
    fn from(results: Results) -> Self {
        let row = |(begin, number_connections)| OccupancyRow { interval_begin_time: plain_time(begin), number_connections };
        let pending = "the dataset is being planned".to_owned();
        Self {
            dataset_id: results.dataset_id,
            space_id: results.space_id,
            status: results.state.word().to_owned(),
            error: results.error,
            message: (results.state == occupancy::State::Pending).then_some(pending),
            completed_chunks: results.completed_chunks,
            total_chunks: results.total_chunks,
            row_count: results.rows.as_ref().map(|rows| rows.rows.len()),
            total_rows: results.rows.as_ref().map(|rows| rows.total),
            rows: results.rows.map(|rows| rows.rows.into_iter().map(row).collect()),
        }
    }
}

/// The occupancy of one space of a dataset.
#[utoipa::path(get, path = "/occupancy/datasets/{dataset_id}/results", tag = "occupancy", operation_id = "occupancy_results",
    params(("dataset_id" = i64, Path), ("space_id" = Option<i32>, Query, description = "the root when absent")),
    responses((status = 200, description = "rows once they are complete", body = OccupancyResults)))]
pub(super) async fn results(State(state): State<AppState>, mut params: Params) -> Result<Json<OccupancyResults>, ApiError> {
    let (id, space) = (dataset_id(&mut params), space_id(&mut params));
    params.finish()?;
    Ok(Json(state.occupancy()?.results(id, space).await?.into()))
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct RetryReply {
    /// Failed chunks that wait again.
    reset: u64,
    /// Runs that follow from that.
    resubmitted: u64,
    /// Chunks that could not be set to wait again; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<String>,
}

/// Has the failed chunks of a dataset counted again.
#[utoipa::path(post, path = "/occupancy/datasets/{dataset_id}/retry", tag = "occupancy", operation_id = "retry_occupancy_dataset",
    params(("dataset_id" = i64, Path), ("space_id" = Option<i32>, Query, description = "only in the subtree of this space")),
    responses((status = 200, description = "what was failed waits again", body = RetryReply)))]
pub(super) async fn retry(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<RetryReply>, ApiError> {
    let (id, space) = (dataset_id(&mut params), space_id(&mut params));
    params.finish()?;
    let retried = state.occupancy()?.retry(id, space).await?;
    Ok(Json(RetryReply { reset: retried.reset, resubmitted: retried.resubmitted, errors: Vec::new() }))
}

/// Removes the record of a dataset; its chunks and their objects stay for others.
#[utoipa::path(delete, path = "/occupancy/datasets/{dataset_id}", tag = "occupancy", operation_id = "delete_occupancy_dataset",
    params(("dataset_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let id = dataset_id(&mut params);
    params.finish()?;
    state.occupancy()?.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CleanupReply {
    /// Chunks that are gone, with their objects.
    deleted_chunks: u64,
}

/// Hours of a year and more.
const AGE_HOURS_MAX: i64 = 1_000_000;

/// Removes chunks that no dataset needs any more, with their objects.
#[utoipa::path(delete, path = "/occupancy/cleanup", tag = "occupancy", operation_id = "clean_up_occupancy",
    params(("max_age_hours" = Option<i64>, Query, minimum = 0, maximum = 1000000,
        description = "chunks that were finished later are kept; 24 when absent")),
    responses((status = 200, description = "they are gone", body = CleanupReply)))]
pub(super) async fn cleanup(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<CleanupReply>, ApiError> {
    let hours = params.integer::<i64>("max_age_hours", 0, AGE_HOURS_MAX).unwrap_or(24);
    params.finish()?;
    let deleted_chunks = state.occupancy()?.cleanup(hours * time::HOUR).await?;
    Ok(Json(CleanupReply { deleted_chunks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<NewDataset, Vec<String>> {
        read_dataset(body.to_string().as_bytes())
            .map_err(|error| error.errors.into_iter().map(|e| format!("{}: {}", e.field, e.detail)).collect())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let new = read(json!({"name": "d", "root_space_id": 7, "chunk_days": null, "description": ""})).expect("valid");
        let expected = NewDataset { name: "d".into(), root_space_id: 7, interval_seconds: 3_600, chunk_days: 30, ..NewDataset::default() };
        assert_eq!(new, expected);
    }

    #[test]
    fn all_mistakes_are_told_with_their_fields() {
        let body = json!({"start_time": "2024-10-02T00:00:00", "end_time": "2024-10-02T00:00:00Z", "interval_seconds": 60, "chunk_days": 0,
            "root_space_id": 3_000_000_000i64});
        let mistakes = read(body).expect_err("mistakes");
        let fields: Vec<&str> = mistakes.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(fields, ["name", "root_space_id", "end_time", "interval_seconds", "chunk_days"]);
        assert!(mistakes[3].contains("900, 1800, 3600, 7200, 14400, 28800, 86400"), "{}", mistakes[3]);
        assert_eq!(read(json!({"name": "d", "root_space_id": 1, "start_time": "1969-12-31"})).expect_err("too early").len(), 1);
    }

    #[test]
    fn times_are_printed_as_clients_know_them() {
        assert_eq!(utc(1_725_148_800_000_000), "2024-09-01T00:00:00Z");
        assert_eq!(plain_time(1_725_148_800_000_000), "2024-09-01T00:00:00");
        assert_eq!(utc(1_725_148_800_500_000), "2024-09-01T00:00:00.500Z");
    }
}
