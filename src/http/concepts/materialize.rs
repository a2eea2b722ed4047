//! `POST …/materialize` of indexes, rules and features, and the test of a connection.

use super::asked::path_id;
use crate::concepts::record::{Concept, Connection, Feature, Index, Rule};
use crate::http::AppState;
use crate::http::body::NoBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The word for a run that has been taken.
const STARTED: &str = "STARTED";

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct IndexRun {
    index_id: u64,
    dagster_run_id: String,
    /// `STARTED`
    status: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct RuleRun {
    r_id: u64,
    dagster_run_id: String,
    /// `STARTED`
    status: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct FeatureRun {
    feature_id: u64,
    dagster_run_id: String,
    /// `STARTED`
    status: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ConnectionTest {
    /// `success` or `failed`
    status: String,
    /// What the database or its driver says, after the kind of the error; never the password.
    message: String,
}

/// Begins a run that asks an index's query and keeps its rows.
#[utoipa::path(post, path = "/concepts/{c_id}/indexes/{index_id}/materialize", tag = "concepts", operation_id = "materialize_index",
    params(("c_id" = i64, Path), ("index_id" = i64, Path)),
    responses((status = 200, description = "taken; the run says how it goes", body = IndexRun)))]
pub(super) async fn index(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<IndexRun>, ApiError> {
    let (c_id, index_id) = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Index>(&mut params, "index_id")?);
    params.finish()?;
    let run = state.concepts()?.materialize_index(c_id, index_id).await?;
    Ok(Json(IndexRun { index_id, dagster_run_id: run.to_string(), status: STARTED.to_owned() }))
}

/// Begins a run that asks a rule's query for the values of its index, which must be materialised, and keeps its rows.
#[utoipa::path(post, path = "/concepts/{c_id}/rules/{r_id}/materialize", tag = "concepts", operation_id = "materialize_rule",
    params(("c_id" = i64, Path), ("r_id" = i64, Path)),
    responses((status = 200, description = "taken; the run says how it goes", body = RuleRun),
        (status = 400, description = "its index is not materialised", body = ErrorBody)))]
pub(super) async fn rule(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<RuleRun>, ApiError> {
    let (c_id, r_id) = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Rule>(&mut params, "r_id")?);
    params.finish()?;
    let run = state.concepts()?.materialize_rule(c_id, r_id).await?;
    Ok(Json(RuleRun { r_id, dagster_run_id: run.to_string(), status: STARTED.to_owned() }))
}

/// Begins a run that asks a feature's query for the values of its index, which must be materialised, and keeps its rows.
#[utoipa::path(post, path = "/concepts/{c_id}/features/{feature_id}/materialize", tag = "concepts", operation_id = "materialize_feature",
    params(("c_id" = i64, Path), ("feature_id" = i64, Path)),
    responses((status = 200, description = "taken; the run says how it goes", body = FeatureRun),
        (status = 400, description = "its index is not materialised", body = ErrorBody)))]
pub(super) async fn feature(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<FeatureRun>, ApiError> {
    let (c_id, feature_id) = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Feature>(&mut params, "feature_id")?);
    params.finish()?;
    let run = state.concepts()?.materialize_feature(c_id, feature_id).await?;
    Ok(Json(FeatureRun { feature_id, dagster_run_id: run.to_string(), status: STARTED.to_owned() }))
}

/// Connects, asks for 1, and tells how that went.
#[utoipa::path(post, path = "/database-connections/{conn_id}/test", tag = "concepts", operation_id = "test_connection",
    params(("conn_id" = i64, Path)),
    responses((status = 200, description = "how it went: a failure is an answer, too", body = ConnectionTest)))]
pub(super) async fn test(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<ConnectionTest>, ApiError> {
    let conn_id = path_id::<Connection>(&mut params, "conn_id")?;
    params.finish()?;
    let (status, message) = match state.concepts()?.test_connection(conn_id).await? {
        Ok(()) => ("success", "Connection successful".to_owned()),
        Err(message) => ("failed", message),
    };
    Ok(Json(ConnectionTest { status: status.to_owned(), message }))
}
