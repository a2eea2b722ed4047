//! Runs, in the words that clients of an orchestrator know: `/dagster/*`, and `POST /trigger` that starts one.

use super::AppState;
use super::body::{JsonBody, NoBody};
use super::error::{ApiError, FieldError};
use super::params::Params;
use super::wire::rfc3339;
use crate::runs::{LogLevel, LogLine, RunId, RunRecord, RunStatus, RunsError};
use crate::service::ServiceError;
use crate::trigger::TriggerRequest;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use desireline_connectors::formats::Format;
use desireline_records::{SourceId, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> Self {
        let retry = error.retry_after_s();
        let (status, detail) = (run_status(&error), error.to_string());
        let api = match error {
            RunsError::UnknownStatus(_) => Self::invalid_field("status_filter", detail),
            RunsError::Store(ServiceError::Internal(_)) => Self::internal(detail),
            other => Self::new(status, other.code(), detail),
        };
        match retry {
            Some(seconds) => api.retry(seconds.max(1)),
            None => api,
        }
    }
}

fn run_status(error: &RunsError) -> StatusCode {
    match error {
        RunsError::NotFound(_) => StatusCode::NOT_FOUND,
        RunsError::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
        RunsError::NotReady(_) | RunsError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        RunsError::NotCancellable { .. }
        | RunsError::UnknownStatus(_)
        | RunsError::UnknownJob(_)
        | RunsError::UnknownDependency(_)
        | RunsError::TooLarge { .. }
        | RunsError::TooManyDependencies(_) => StatusCode::BAD_REQUEST,
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum RunStatusWord {
    Pending,
    Started,
    Success,
    Failure,
    Cancelled,
}

impl From<RunStatus> for RunStatusWord {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Pending => Self::Pending,
            RunStatus::Started => Self::Started,
            RunStatus::Success => Self::Success,
            RunStatus::Failure => Self::Failure,
            RunStatus::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Progress {
    done: u64,
    /// 0 when it is not known.
    total: u64,
    unit: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Run {
    run_id: String,
    job_name: String,
    status: RunStatusWord,
    /// RFC 3339; null until it works.
    start_time: Option<String>,
    /// RFC 3339; null until it has finished.
    end_time: Option<String>,
    error_message: Option<String>,
    /// RFC 3339.
    created_at: String,
    /// Attempts begun.
    attempt: u32,
    progress: Option<Progress>,
    /// What the job answered.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
}

impl From<RunRecord> for Run {
    fn from(run: RunRecord) -> Self {
        Self {
            error_message: run.error_message().map(str::to_owned),
            run_id: run.run_id.to_string(),
            job_name: run.job_name,
            status: run.status.into(),
            start_time: run.start_time.map(rfc3339),
            end_time: run.end_time.map(rfc3339),
            created_at: rfc3339(run.created_at),
            attempt: run.attempt,
            progress: run.progress.map(|p| Progress { done: p.done, total: p.total, unit: p.unit }),
            result: run.result,
        }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct RunsReply {
    /// The newest first.
    runs: Vec<Run>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct CancelReply {
    run_id: String,
    status: RunStatusWord,
    message: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct RunLogLine {
    /// RFC 3339.
    timestamp: String,
    /// `INFO`, `WARNING` or `ERROR`.
    level: String,
    message: String,
    /// Null when the scheduler speaks.
    step_key: Option<String>,
}

impl From<LogLine> for RunLogLine {
    fn from(line: LogLine) -> Self {
        let level = match line.level {
            LogLevel::Info => "INFO",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
        };
        Self { timestamp: rfc3339(line.timestamp), level: level.to_owned(), message: line.message, step_key: line.step_key }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct RunLogsReply {
    run_id: String,
    /// The newest lines, oldest first.
    logs: Vec<RunLogLine>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct AssetItem {
    /// `<source id>/<view>`.
    asset_key: String,
    /// RFC 3339; null while the view has no rows.
    last_materialization: Option<String>,
    is_materialized: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct AssetsReply {
    assets: Vec<AssetItem>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SchedulerHealth {
    /// `healthy` or `unhealthy`.
    status: String,
    dagster_host: String,
    /// A string, as its clients expect.
    dagster_port: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    error: Option<String>,
}

/// Runs, the newest first.
#[utoipa::path(get, path = "/dagster/runs", tag = "runs", operation_id = "runs",
    params(("limit" = Option<u64>, Query, minimum = 1, description = "20 when absent; above the largest page it is lowered to it"),
        ("status_filter" = Option<RunStatusWord>, Query)),
    responses((status = 200, description = "the newest first", body = RunsReply)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<RunsReply>, ApiError> {
    let limit = params.limit(20, state.config.page_max);
    let words = RunStatus::ALL.map(RunStatus::word);
    let status = params.word("status_filter", &words, |word| word.parse::<RunStatus>().ok());
    params.finish()?;
    restored(&state)?;
    Ok(Json(RunsReply { runs: state.runs.list(limit, status).into_iter().map(Run::from).collect() }))
}

/// One run.
#[utoipa::path(get, path = "/dagster/runs/{run_id}", tag = "runs", operation_id = "run",
    params(("run_id" = String, Path, min_length = 1)),
    responses((status = 200, description = "as it is now", body = Run)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<Run>, ApiError> {
    let id = run_id(&mut params);
    params.finish()?;
    restored(&state)?;
    Ok(Json(state.runs.get(&id)?.into()))
}

/// What a run has said.
#[utoipa::path(get, path = "/dagster/runs/{run_id}/logs", tag = "runs", operation_id = "run_logs",
    params(("run_id" = String, Path, min_length = 1),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "the newest lines, oldest first", body = RunLogsReply)))]
pub(super) async fn logs(State(state): State<AppState>, mut params: Params) -> Result<Json<RunLogsReply>, ApiError> {
    let id = run_id(&mut params);
    let limit = params.limit(100, state.config.page_max);
    params.finish()?;
    restored(&state)?;
    let logs = state.runs.logs(&id, limit)?.into_iter().map(RunLogLine::from).collect();
    Ok(Json(RunLogsReply { run_id: id.to_string(), logs }))
}

/// Stops a run for good; only from PENDING and STARTED.
#[utoipa::path(post, path = "/dagster/runs/{run_id}/cancel", tag = "runs", operation_id = "cancel_run",
    params(("run_id" = String, Path, min_length = 1)),
    responses((status = 200, description = "it never changes again", body = CancelReply)))]
pub(super) async fn cancel(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<CancelReply>, ApiError> {
    let id = run_id(&mut params);
    params.finish()?;
    restored(&state)?;
    let run = state.runs.cancel(&id).await?;
    let message = "Run cancelled successfully".to_owned();
    Ok(Json(CancelReply { run_id: id.to_string(), status: run.status.into(), message }))
}

/// Until the log's runs have been read, nobody must be told that there are none.
fn restored(state: &AppState) -> Result<(), RunsError> {
    if state.runs.restored() { Ok(()) } else { Err(RunsError::NotReady("the runs of the log have not been read yet")) }
}

fn run_id(params: &mut Params) -> RunId {
    RunId::from(params.segment("run_id", 256).as_str())
}

/// The views, as assets that are materialized all the time.
#[utoipa::path(get, path = "/dagster/assets", tag = "runs", operation_id = "assets",
    responses((status = 200, description = "five views for each source", body = AssetsReply)))]
pub(super) async fn assets(State(state): State<AppState>) -> Result<Json<AssetsReply>, ApiError> {
    let status = state.backend.status().await?;
    let item = |asset: crate::runs::Asset| AssetItem {
        asset_key: asset.asset_key,
        last_materialization: asset.last_materialization,
        is_materialized: asset.is_materialized,
    };
    Ok(Json(AssetsReply { assets: crate::runs::assets(&status).into_iter().map(item).collect() }))
}

/// Whether runs can be taken and recorded.
#[utoipa::path(get, path = "/dagster/health", tag = "runs", operation_id = "runs_health",
    responses((status = 200, description = "the scheduler of this server", body = SchedulerHealth)))]
pub(super) async fn health(State(state): State<AppState>) -> Json<SchedulerHealth> {
    let address = state.config.listen;
    let health = state.runs.health(&address.ip().to_string(), address.port());
    Json(SchedulerHealth {
        status: health.status.to_owned(),
        dagster_host: health.dagster_host,
        dagster_port: health.dagster_port,
        error: health.error,
    })
}

/// A file of events on the server, to be loaded as a run.
#[derive(Deserialize, ToSchema)]
#[schema(as = Trigger)]
#[allow(dead_code)]
pub(super) struct TriggerBody {
    #[schema(minimum = 0, maximum = 2147483647)]
    source_id: i64,
    /// Inside one of the allowed folders; whether it can be read shows in the run.
    #[schema(min_length = 1, max_length = 4096, pattern = "^[^\\u0000]+$")]
    events_path: String,
    /// The first run for this site: the clusters are trained in two passes.
    #[schema(required = false)]
    is_initial_flow: Option<bool>,
    /// `ampelios` when absent.
    #[schema(value_type = Option<FormatWord>, required = false)]
    format: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = Format, rename_all = "snake_case")]
#[allow(dead_code)]
pub(super) enum FormatWord {
    Ampelios,
    Clickstream,
    Desireline,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct TriggerReply {
    /// `started`.
    detail: String,
}

const RUN_ID: HeaderName = HeaderName::from_static("x-desireline-run-id");

/// Starts the whole pipeline for a file: events, journeys, clusters. The reply does not wait for it.
#[utoipa::path(post, path = "/trigger", tag = "runs", operation_id = "trigger", request_body = TriggerBody,
    responses((status = 200, description = "accepted and durable; the run's id stands in the header", body = TriggerReply,
        headers(("x-desireline-run-id" = String, description = "see `/dagster/runs/{run_id}`")))))]
pub(super) async fn trigger(State(state): State<AppState>, JsonBody(bytes): JsonBody) -> Result<Response, ApiError> {
    let request = read_trigger(&bytes)?;
    let run_id = crate::trigger::trigger(&state.runs, request).await?;
    let mut response = Json(TriggerReply { detail: "started".to_owned() }).into_response();
    if let Ok(value) = HeaderValue::from_str(run_id.as_str()) {
        response.headers_mut().insert(RUN_ID, value);
    }
    Ok(response)
}

/// Longest path of Linux.
const PATH_BYTES_MAX: usize = 4_096;

fn read_trigger(bytes: &[u8]) -> Result<TriggerRequest, ApiError> {
    let body: Value = serde_json::from_slice(bytes).map_err(|e| ApiError::malformed(format!("the body is not JSON: {e}")))?;
    let Value::Object(fields) = body else {
        return Err(ApiError::malformed("the body is not a JSON object"));
    };
    let mut errors = Vec::new();
    let mut note = |field: &'static str, detail: String| errors.push(FieldError::new(field, detail));
    let source_id = match fields.get("source_id") {
        None => Err("is required".to_owned()),
        Some(value) => {
            let id = value.as_i64().filter(|id| (0..=limits::SOURCE_MAX).contains(id)).and_then(|id| SourceId::try_from(id).ok());
            id.ok_or_else(|| format!("must be an integer between 0 and {}", limits::SOURCE_MAX))
        }
    };
    let source_id = source_id.map_err(|detail| note("source_id", detail)).unwrap_or_default();
    let events_path = match fields.get("events_path") {
        None => Err("is required".to_owned()),
        Some(Value::String(path)) if (1..=PATH_BYTES_MAX).contains(&path.len()) && !path.contains('\0') => Ok(path.clone()),
        Some(_) => Err(format!("must be a string of 1 to {PATH_BYTES_MAX} bytes without NUL characters")),
    };
    let events_path = events_path.map_err(|detail| note("events_path", detail)).unwrap_or_default();
    let is_initial_flow = match fields.get("is_initial_flow") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            note("is_initial_flow", "must be true or false".to_owned());
            false
        }
    };
    let format = match fields.get("format") {
        None | Some(Value::Null) => Ok(Format::Ampelios),
        Some(Value::String(word)) => word.parse::<Format>().map_err(|e| e.to_string()),
        Some(_) => Err("must be the name of a format".to_owned()),
    };
    let format = format.map_err(|detail| note("format", detail)).unwrap_or(Format::Ampelios);
    if errors.is_empty() { Ok(TriggerRequest { source_id, events_path, is_initial_flow, format }) } else { Err(ApiError::invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_a_trigger_are_told_at_once() {
        let error = read_trigger(br#"{"source_id":"x","is_initial_flow":7,"format":"xml"}"#).expect_err("mistakes");
        let fields: Vec<&str> = error.errors.iter().map(|e| e.field.as_ref()).collect();
        assert_eq!(fields, ["source_id", "events_path", "is_initial_flow", "format"]);
        for body in ["", "[]", "7", "{", "\"x\""] {
            assert_eq!(read_trigger(body.as_bytes()).expect_err(body).code, "malformed");
        }
        for source in ["-1", "1.5", "2147483648", "null", "true", "1e3"] {
            let body = format!("{{\"source_id\":{source},\"events_path\":\"a\"}}");
            assert_eq!(read_trigger(body.as_bytes()).expect_err(source).errors[0].field, "source_id");
        }
    }

    #[test]
    fn the_flag_may_be_absent_or_null() {
        for flag in ["", ",\"is_initial_flow\":null", ",\"is_initial_flow\":false,\"other\":1"] {
            let body = format!("{{\"source_id\":1,\"events_path\":\"events.csv\"{flag}}}");
            let request = read_trigger(body.as_bytes()).expect(flag);
            assert_eq!((request.source_id, request.events_path.as_str(), request.is_initial_flow), (1, "events.csv", false));
            assert_eq!(request.format, Format::Ampelios);
        }
    }

    #[test]
    fn errors_about_runs_have_their_statuses() {
        let status = |error: RunsError| ApiError::from(error).status.as_u16();
        assert_eq!(status(RunsError::NotFound(RunId::from("x"))), 404);
        assert_eq!(status(RunsError::NotCancellable { status: RunStatus::Success }), 400);
        assert_eq!(status(RunsError::UnknownStatus("x".into())), 400);
        let full = ApiError::from(RunsError::QueueFull { waiting: 3, retry_after_s: 9 });
        assert_eq!((full.status.as_u16(), full.retry_after_s), (429, Some(9)));
        assert_eq!(ApiError::from(RunsError::NotReady("replaying")).retry_after_s, Some(1));
    }
}
