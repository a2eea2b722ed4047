//! Queries of the views. Each answers at one logical time, which stands in a header and in the body.
//!
//! `/view` has the body that its clients know, an array, so its time stands in the header alone.

use super::AppState;
use super::error::ApiError;
use super::frame::AS_OF;
use super::params::Params;
use super::wire::*;
use crate::service::{JourneysQuery, SessionsQuery};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use desireline_records::{LogicalTime, limits, time};
use serde::Serialize;

/// Rows of a listing that names no limit.
pub(super) const PAGE_DEFAULT: usize = 100;
/// One day.
const MINUTES_MAX: i64 = 1_440;

/// A body with its logical time in the header.
pub(super) fn at<T: Serialize>(as_of: LogicalTime, body: T) -> Response {
    let mut response = axum::Json(body).into_response();
    response.headers_mut().insert(AS_OF, HeaderValue::from(as_of));
    response
}

/// The clusters of a source: their users (how many, or with `verbose=true` which) and centroids.
#[utoipa::path(get, path = "/view", tag = "views", operation_id = "view",
    params(("source_id" = i32, Query, minimum = 0), ("verbose" = Option<bool>, Query, description = "list the users instead of counting them"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "by id; clusters without users are left out; an unknown source has none", body = [ViewCluster])))]
pub(super) async fn view(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let source = params.source();
    let source = params.require("source_id", source).unwrap_or_default();
    let verbose = params.flag("verbose").unwrap_or(false);
    let at_least = params.at_least();
    params.finish()?;
    if !verbose {
        let answer = state.backend.clusters(source, at_least).await?;
        let row = |c: crate::service::ClusterRow| ViewCluster { id: c.cluster_id, users: ViewUsers::Count(c.users), centroid: c.centroid };
        return Ok(at(answer.as_of, answer.value.clusters.into_iter().map(row).collect::<Vec<_>>()));
    }
    let answer = state.backend.cluster_members(source, at_least).await?;
    let kind = answer.value.user_id_type;
    let row = |c: crate::service::ClusterMembers| {
        let mut users: Vec<UserId> = c.users.iter().map(|user| UserId::new(user, kind)).collect();
        users.sort_unstable();
        ViewCluster { id: c.cluster_id, users: ViewUsers::Ids(users), centroid: c.centroid }
    };
    Ok(at(answer.as_of, answer.value.clusters.into_iter().map(row).collect::<Vec<_>>()))
}

/// The clusters of a source with their sizes and centroids.
#[utoipa::path(get, path = "/api/clusters", tag = "views", operation_id = "clusters",
    params(("source_id" = i32, Query, minimum = 0),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "an unknown source has no clusters", body = ClustersReply)))]
pub(super) async fn clusters(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let source = params.source();
    let source_id = params.require("source_id", source).unwrap_or_default();
    let at_least = params.at_least();
    params.finish()?;
    let answer = state.backend.clusters(source_id, at_least).await?;
    let (as_of, value) = (answer.as_of, answer.value);
    let clusters = value.clusters.into_iter().map(Cluster::from).collect();
    Ok(at(as_of, ClustersReply { as_of, source_id, model_version: value.model_version, users: value.users, clusters }))
}

/// Sessions, by source, user and number.
#[utoipa::path(get, path = "/api/sessions", tag = "views", operation_id = "sessions",
    params(("source_id" = Option<i32>, Query, minimum = 0), ("user_id" = Option<String>, Query, max_length = 256),
        ("from" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "sessions that end at or after this time"),
        ("to" = Option<chrono::DateTime<chrono::Utc>>, Query, description = "sessions that begin before this time"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "one page", body = SessionsReply)))]
pub(super) async fn sessions(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let query = SessionsQuery {
        source: params.source(),
        user: user(&mut params),
        from: params.time("from"),
        to: params.time("to"),
        limit: params.limit(PAGE_DEFAULT, state.config.page_max),
        cursor: params.text("cursor"),
        at_least: params.at_least(),
    };
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from > to
    {
        params.mistake("to", "must not lie before `from`");
    }
    params.finish()?;
    let answer = state.backend.sessions(query).await?;
    let (as_of, page) = (answer.as_of, answer.value);
    let sessions = page.rows.into_iter().map(Session::from).collect();
    Ok(at(as_of, SessionsReply { as_of, sessions, next_cursor: page.next_cursor }))
}

/// Journeys, by source and user.
#[utoipa::path(get, path = "/api/journeys", tag = "views", operation_id = "journeys",
    params(("source_id" = Option<i32>, Query, minimum = 0), ("user_id" = Option<String>, Query, max_length = 256),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "one page", body = JourneysReply)))]
pub(super) async fn journeys(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let query = JourneysQuery {
        source: params.source(),
        user: user(&mut params),
        limit: params.limit(PAGE_DEFAULT, state.config.page_max),
        cursor: params.text("cursor"),
        at_least: params.at_least(),
    };
    params.finish()?;
    let answer = state.backend.journeys(query).await?;
    let (as_of, page) = (answer.as_of, answer.value);
    let journeys = page.rows.into_iter().map(Journey::from).collect();
    Ok(at(as_of, JourneysReply { as_of, journeys, next_cursor: page.next_cursor }))
}

fn user(params: &mut Params) -> Option<ecow::EcoString> {
    let user = params.text("user_id")?;
    if user.len() > limits::USER {
        params.mistake("user_id", format!("is longer than {} bytes", limits::USER));
        return None;
    }
    Some(user.into())
}

/// Counts and revenue per minute, page and event type.
#[utoipa::path(get, path = "/api/metrics/aggregates", tag = "views", operation_id = "aggregates",
    params(("minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "how far back; 60 when absent"),
        ("source_id" = Option<i32>, Query, minimum = 0, description = "all sources when absent"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "the windows that ended within the last `minutes`, or have not ended; oldest first", body = AggregatesReply)))]
pub(super) async fn aggregates(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let minutes = params.integer("minutes", 1, MINUTES_MAX).unwrap_or(60);
    let source = params.source();
    let at_least = params.at_least();
    params.finish()?;
    let from = time::now_micros() - minutes * time::MINUTE;
    let answer = state.backend.minutes(source, from, at_least).await?;
    let (as_of, rows) = (answer.as_of, answer.value);
    Ok(at(as_of, AggregatesReply { as_of, items: rows.into_iter().map(MinuteItem::from).collect() }))
}
