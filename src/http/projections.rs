//! The projections: how each stands, and orders to one of them. The same as `desireline projection …`.

use super::AppState;
use super::body::NoBody;
use super::error::ApiError;
use super::params::Params;
use super::wire::rfc3339;
use crate::projections::ProjectionStatus;
use axum::Json;
use axum::extract::State;
use desireline_records::LogicalTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest name of a projection, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// How a projection stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectionItem {
    pub name: String,
    /// `starting`, `catching_up`, `rebuilding`, `live`, `paused`, `failing` or `fenced`.
    pub state: String,
    /// The views that it follows.
    pub views: Vec<String>,
    /// The logical time, ms, up to which the target has everything; null before the target was first reached.
    pub applied: Option<LogicalTime>,
    /// How far that is behind the views, in milliseconds.
    pub lag_ms: Option<u64>,
    /// Changes that wait in memory.
    pub lag_rows: u64,
    /// Rows put or taken away since the start of the server.
    pub rows_applied: u64,
    /// Rows that the target itself refused since the start of the server.
    pub rows_refused: u64,
    /// Failures since the start of the server.
    pub failures: u64,
    /// What is wrong now.
    pub error: Option<String>,
    /// Since when it is in this state, RFC 3339.
    pub since: String,
}

impl From<ProjectionStatus> for ProjectionItem {
    fn from(status: ProjectionStatus) -> Self {
        Self {
            name: status.name,
            state: status.state.word().to_owned(),
            views: status.views.into_iter().map(str::to_owned).collect(),
            applied: status.applied,
            lag_ms: status.lag_ms,
            lag_rows: status.lag_rows,
            rows_applied: status.rows_applied,
            rows_refused: status.rows_refused,
            failures: status.failures,
            error: status.error,
            since: rfc3339(status.since),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectionsReply {
    /// By name.
    pub projections: Vec<ProjectionItem>,
}

/// How the projections stand.
#[utoipa::path(get, path = "/api/projections", tag = "operations", operation_id = "projections",
    responses((status = 200, description = "by name; none when none is configured", body = ProjectionsReply)))]
pub(super) async fn list(State(state): State<AppState>) -> Json<ProjectionsReply> {
    Json(ProjectionsReply { projections: state.followers.list().into_iter().map(ProjectionItem::from).collect() })
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct OrderReply {
    /// What was ordered: `rebuild`, `paused` or `resumed`.
    detail: String,
}

fn name(mut params: Params) -> Result<String, ApiError> {
    let name = params.segment("name", NAME_BYTES_MAX);
    params.finish().map(|()| name)
}

fn ordered(detail: &str) -> Json<OrderReply> {
    Json(OrderReply { detail: detail.to_owned() })
}

/// Has the target's rows built anew, beside the old ones.
#[utoipa::path(post, path = "/api/projections/{name}/rebuild", tag = "operations", operation_id = "rebuild_projection",
    params(("name" = String, Path, min_length = 1, max_length = 64)),
    responses((status = 200, description = "ordered; `/api/projections` shows how it goes", body = OrderReply)))]
pub(super) async fn rebuild(State(state): State<AppState>, params: Params, _: NoBody) -> Result<Json<OrderReply>, ApiError> {
    state.followers.rebuild(&name(params)?).await?;
    Ok(ordered("rebuild"))
}

/// Stops writing to the target, also over restarts, until it is resumed.
#[utoipa::path(post, path = "/api/projections/{name}/pause", tag = "operations", operation_id = "pause_projection",
    params(("name" = String, Path, min_length = 1, max_length = 64)),
    responses((status = 200, description = "durable", body = OrderReply)))]
pub(super) async fn pause(State(state): State<AppState>, params: Params, _: NoBody) -> Result<Json<OrderReply>, ApiError> {
    state.followers.pause(&name(params)?, true).await?;
    Ok(ordered("paused"))
}

/// Goes on where a projection was paused.
#[utoipa::path(post, path = "/api/projections/{name}/resume", tag = "operations", operation_id = "resume_projection",
    params(("name" = String, Path, min_length = 1, max_length = 64)),
    responses((status = 200, description = "durable", body = OrderReply)))]
pub(super) async fn resume(State(state): State<AppState>, params: Params, _: NoBody) -> Result<Json<OrderReply>, ApiError> {
    state.followers.pause(&name(params)?, false).await?;
    Ok(ordered("resumed"))
}
