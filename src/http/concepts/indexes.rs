//! `/concepts/{c_id}/indexes`: queries that say which things are looked at.

use super::asked::{filled, id, page, path_id, read, required, sql, sql_change};
use super::queries::{MadeOfIt, PartitionWord, QueryText};
use super::time_text;
use crate::concepts::limits::NAME_BYTES_MAX;
use crate::concepts::record::{Concept, Id, Index};
use crate::concepts::{IndexChange, NewIndex};
use crate::http::AppState;
use crate::http::body::{JsonBody, NoBody};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[schema(as = NewIndex)]
#[allow(dead_code)]
pub(super) struct IndexBody {
    /// No other index of the concept has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// The connection that is asked; 0 is `live`.
    #[schema(minimum = 0, maximum = 9223372036854775807_i64)]
    conn_id: i64,
    /// A SELECT or WITH query.
    #[schema(min_length = 1, max_length = 100000, pattern = r"^\s*([Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])")]
    sql_query: String,
    /// With parameters the query is a template: `{{ name }}` stands for the value of `name`.
    #[schema(required = false, value_type = Option<Object>)]
    query_template_params: Option<Map<String, Value>>,
    #[schema(required = false)]
    partition_type: Option<PartitionWord>,
    #[schema(required = false, value_type = Option<Object>)]
    partition_config: Option<Map<String, Value>>,
}

/// Fields that are absent stay as they are.
#[derive(Deserialize, ToSchema)]
#[schema(as = IndexChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, value_type = i64, minimum = 0, maximum = 9223372036854775807_i64)]
    conn_id: Option<i64>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 100000,
        pattern = r"^\s*([Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])")]
    sql_query: Option<String>,
    #[schema(required = false, value_type = Option<Object>)]
    query_template_params: Option<Map<String, Value>>,
    #[schema(required = false)]
    partition_type: Option<PartitionWord>,
    #[schema(required = false, value_type = Option<Object>)]
    partition_config: Option<Map<String, Value>>,
}

fn new(fields: &mut Fields<'_>) -> NewIndex {
    let (name, conn_id) = (filled(fields, "name", NAME_BYTES_MAX), id(fields, "conn_id"));
    NewIndex { name: required(fields, "name", name), conn_id: required(fields, "conn_id", conn_id), sql: sql(fields) }
}

fn change(fields: &mut Fields<'_>) -> IndexChange {
    IndexChange { name: filled(fields, "name", NAME_BYTES_MAX), conn_id: id(fields, "conn_id"), sql: sql_change(fields) }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Index)]
pub(super) struct IndexReply {
    index_id: u64,
    c_id: u64,
    conn_id: u64,
    name: String,
    #[serde(flatten)]
    query: QueryText,
    #[serde(flatten)]
    made: MadeOfIt,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl From<&Index> for IndexReply {
    fn from(index: &Index) -> Self {
        let Index { index_id, c_id, conn_id, name, sql, materialized, created_at, updated_at } = index.clone();
        let (created_at, updated_at) = (time_text(created_at), time_text(updated_at));
        Self { index_id, c_id, conn_id, name, query: sql.into(), made: materialized.into(), created_at, updated_at }
    }
}

fn ids(mut params: Params) -> Result<(Id, Id), ApiError> {
    let ids = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Index>(&mut params, "index_id")?);
    params.finish()?;
    Ok(ids)
}

/// Makes an index of a concept.
#[utoipa::path(post, path = "/concepts/{c_id}/indexes", tag = "concepts", operation_id = "create_index",
    params(("c_id" = i64, Path)), request_body = IndexBody,
    responses((status = 201, description = "made; it has no rows yet", body = IndexReply)))]
pub(super) async fn create(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<IndexReply>), ApiError> {
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    let index = state.concepts()?.create_index(c_id, read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*index).into())))
}

/// The indexes of a concept.
#[utoipa::path(get, path = "/concepts/{c_id}/indexes", tag = "concepts", operation_id = "indexes",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by number", body = Vec<IndexReply>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<IndexReply>>, ApiError> {
    let (skip, limit) = page(&state, &mut params);
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(Json(state.concepts()?.indexes(c_id, skip, limit)?.iter().map(|index| (&**index).into()).collect()))
}

/// One index.
#[utoipa::path(get, path = "/concepts/{c_id}/indexes/{index_id}", tag = "concepts", operation_id = "index",
    params(("c_id" = i64, Path), ("index_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = IndexReply)))]
pub(super) async fn get(State(state): State<AppState>, params: Params) -> Result<Json<IndexReply>, ApiError> {
    let (c_id, index_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.index(c_id, index_id)?).into()))
}

/// Changes the fields that are given. With another query or other parameters it has no rows until it is materialised again.
#[utoipa::path(patch, path = "/concepts/{c_id}/indexes/{index_id}", tag = "concepts", operation_id = "change_index",
    params(("c_id" = i64, Path), ("index_id" = i64, Path)), request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = IndexReply)))]
pub(super) async fn patch(State(state): State<AppState>, params: Params, JsonBody(bytes): JsonBody) -> Result<Json<IndexReply>, ApiError> {
    let (c_id, index_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.change_index(c_id, index_id, read(&bytes, change)?).await?).into()))
}

/// Removes an index of which no rule, feature or label model is made.
#[utoipa::path(delete, path = "/concepts/{c_id}/indexes/{index_id}", tag = "concepts", operation_id = "delete_index",
    params(("c_id" = i64, Path), ("index_id" = i64, Path)),
    responses((status = 204, description = "it is gone; its rows go a little later")))]
pub(super) async fn delete(State(state): State<AppState>, params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, index_id) = ids(params)?;
    state.concepts()?.delete_index(c_id, index_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
