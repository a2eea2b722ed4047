//! Health, status and metrics of the server; dead letters; deletion and erasure.

use super::AppState;
use super::body::NoBody;
use super::error::ApiError;
use super::frame::timeout_error;
use super::params::Params;
use super::queries::{PAGE_DEFAULT, at};
use super::wire::{DeadLetterItem, DeadLettersReply, StatusReply};
use crate::service::{DeadLettersQuery, ServiceError};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use desireline_records::{DeadLetterKind, EventId, LogicalTime, Token, limits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Health {
    /// `healthy`.
    status: String,
}

/// The process lives. Clients that accept plain text but no JSON are told so in one word.
#[utoipa::path(get, path = "/health", tag = "operations", operation_id = "health",
    responses((status = 200, description = "alive", content((Health = "application/json"), (String = "text/plain")))))]
pub(super) async fn health(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") && !accept.contains("json") {
        return "Healthy".into_response();
    }
    axum::Json(Health { status: "healthy".to_owned() }).into_response()
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ApiHealth {
    /// `ok`.
    status: String,
    /// `python`: the direct engine, in the words that its clients know.
    engine: String,
}

/// The process lives, in the words of the click-stream API.
#[utoipa::path(get, path = "/api/health", tag = "operations", operation_id = "api_health",
    responses((status = 200, description = "alive", body = ApiHealth)))]
pub(super) async fn api_health() -> axum::Json<ApiHealth> {
    axum::Json(ApiHealth { status: "ok".to_owned(), engine: "python".to_owned() })
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
    as_of: LogicalTime,
}

/// Whether the log has been replayed, answers are current and runs can be taken.
#[utoipa::path(get, path = "/ready", tag = "operations", operation_id = "ready",
    responses((status = 200, description = "ready", body = Ready)))]
pub(super) async fn ready(State(state): State<AppState>) -> Result<Response, ApiError> {
    if !state.backend.ready() || !state.runs.restored() {
        return Err(ServiceError::NotReady("the log is being replayed".to_owned()).into());
    }
    // A server whose log is lost still answers queries, but must get no more traffic.
    if let Some(error) = state.backend.status().await?.log.error {
        return Err(ServiceError::Unavailable(error).into());
    }
    let as_of = state.backend.as_of();
    Ok(at(as_of, Ready { ready: true, as_of }))
}

/// Progress, counters, limits and health of everything.
#[utoipa::path(get, path = "/api/status", tag = "operations", operation_id = "status",
    params(("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "as of one time", body = StatusReply)))]
pub(super) async fn status(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let at_least = params.at_least();
    params.finish()?;
    wait(&state, at_least).await?;
    let status = state.backend.status().await?;
    Ok(at(status.as_of, StatusReply::new(status, state.followers.list())))
}

/// Waits for a token where the service's operation takes none.
async fn wait(state: &AppState, at_least: Option<Token>) -> Result<(), ApiError> {
    let Some(token) = at_least else {
        return Ok(());
    };
    let deadline = state.config.request_timeout;
    match tokio::time::timeout(deadline, state.backend.wait_applied(token, deadline)).await {
        Ok(applied) => Ok(applied?),
        Err(_) => Err(timeout_error(deadline)),
    }
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, description = "one scrape", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    // A server that is replaying still tells about itself.
    let status = state.backend.status().await.ok();
    let text = state.metrics.print(status, state.run_numbers(), state.followers.list());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

const KINDS: [&str; 4] = ["malformed", "invalid", "quarantined", "late"];

/// Rows that could not be accepted, newest first.
#[utoipa::path(get, path = "/api/dead-letters", tag = "operations", operation_id = "dead_letters",
    params(("source_id" = Option<i32>, Query, minimum = 0), ("kind" = Option<KindWord>, Query),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "one page", body = DeadLettersReply)))]
pub(super) async fn dead_letters(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let query = DeadLettersQuery {
        source: params.source(),
        kind: params.word("kind", &KINDS, |word| DeadLetterKind::ALL.into_iter().find(|kind| kind.word() == word)),
        limit: params.limit(PAGE_DEFAULT, state.config.page_max),
        cursor: params.text("cursor"),
    };
    let at_least = params.at_least();
    params.finish()?;
    wait(&state, at_least).await?;
    let answer = state.backend.dead_letters(query).await?;
    let (as_of, page) = (answer.as_of, answer.value);
    let dead_letters = page.rows.into_iter().map(DeadLetterItem::from).collect();
    Ok(at(as_of, DeadLettersReply { as_of, dead_letters, next_cursor: page.next_cursor }))
}

#[derive(ToSchema)]
#[schema(as = DeadLetterKind, rename_all = "snake_case")]
#[allow(dead_code)]
pub(super) enum KindWord {
    Malformed,
    Invalid,
    Quarantined,
    Late,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ReplayReply {
    inserted: u64,
    duplicates: u64,
    /// For `at_least` in queries.
    token: String,
}

/// Validates and ingests a dead letter again.
#[utoipa::path(post, path = "/api/dead-letters/{id}/replay", tag = "operations", operation_id = "replay_dead_letter",
    params(("id" = String, Path, min_length = 1)),
    responses((status = 200, description = "accepted now", body = ReplayReply)))]
pub(super) async fn replay(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<axum::Json<ReplayReply>, ApiError> {
    let id = params.segment("id", 1_024);
    params.finish()?;
    let receipt = state.backend.replay_dead_letter(&id).await?;
    Ok(axum::Json(ReplayReply { inserted: receipt.inserted, duplicates: receipt.duplicates, token: receipt.token.to_string() }))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct DeleteReply {
    /// `deleted`.
    detail: String,
    /// For `at_least` in queries.
    token: String,
}

/// Retracts one event from every view.
#[utoipa::path(delete, path = "/api/events/{source_id}/{event_id}", tag = "operations", operation_id = "delete_event",
    params(("source_id" = i32, Path, minimum = 0), ("event_id" = String, Path, min_length = 1, max_length = 256)),
    responses((status = 200, description = "retracted", body = DeleteReply)))]
pub(super) async fn delete_event(
    State(state): State<AppState>,
    mut params: Params,
    _: NoBody,
) -> Result<axum::Json<DeleteReply>, ApiError> {
    let source = params.source_segment();
    let reference = params.segment("event_id", limits::EVENT_ID);
    params.finish()?;
    let token = state.backend.delete_event(source, EventId::from_reference(&reference)).await?;
    Ok(axum::Json(DeleteReply { detail: "deleted".to_owned(), token: token.to_string() }))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct EraseReply {
    /// `erased`: no view shows the user any more.
    detail: String,
    /// For `at_least` in queries.
    token: String,
    /// The run that removes the rows from storage; see `/dagster/runs/{run_id}`.
    run_id: String,
}

/// Erases a user: at once from every view, and by the deadline from log, cold parts and dead letters.
#[utoipa::path(delete, path = "/api/users/{source_id}/{user_id}", tag = "operations", operation_id = "erase_user",
    params(("source_id" = i32, Path, minimum = 0), ("user_id" = String, Path, min_length = 1, max_length = 256)),
    responses((status = 202, description = "gone from the views; the storage follows", body = EraseReply)))]
pub(super) async fn erase_user(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Response, ApiError> {
    let source = params.source_segment();
    let user = params.segment("user_id", limits::USER);
    params.finish()?;
    let (token, run_id) = state.backend.erase_user(source, &user).await?;
    let reply = EraseReply { detail: "erased".to_owned(), token: token.to_string(), run_id };
    Ok((StatusCode::ACCEPTED, axum::Json(reply)).into_response())
}
