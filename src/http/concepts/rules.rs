//! `/concepts/{c_id}/rules`: queries that say what labelling functions see of the things of an index.

use super::asked::{filled, id, nullable, page, path_id, read, required, sql, sql_change, text};
use super::queries::{MadeOfIt, PartitionWord, QueryText};
use super::time_text;
use crate::concepts::limits::NAME_BYTES_MAX;
use crate::concepts::record::{Concept, Id, Rule};
use crate::concepts::{NewRule, RuleChange};
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
#[schema(as = NewRule)]
#[allow(dead_code)]
pub(super) struct RuleBody {
    /// No other rule of the concept has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// An index of the same concept that is materialised.
    #[schema(minimum = 0, maximum = 9223372036854775807_i64)]
    index_id: i64,
    /// A SELECT or WITH query; `:index_values` stands for the values of the index.
    #[schema(min_length = 1, max_length = 100000, pattern = r"^\s*([Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])")]
    sql_query: String,
    /// With parameters the query is a template: `{{ name }}` stands for the value of `name`.
    #[schema(required = false, value_type = Option<Object>)]
    query_template_params: Option<Map<String, Value>>,
    #[schema(required = false)]
    partition_type: Option<PartitionWord>,
    #[schema(required = false, value_type = Option<Object>)]
    partition_config: Option<Map<String, Value>>,
    /// The column of the index whose values are put in; the first one when absent.
    #[schema(required = false, max_length = 255)]
    index_column: Option<String>,
}

/// Fields that are absent stay as they are.
#[derive(Deserialize, ToSchema)]
#[schema(as = RuleChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, value_type = i64, minimum = 0, maximum = 9223372036854775807_i64)]
    index_id: Option<i64>,
    #[schema(required = false, value_type = String, min_length = 1, max_length = 100000,
        pattern = r"^\s*([Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])")]
    sql_query: Option<String>,
    #[schema(required = false, value_type = Option<Object>)]
    query_template_params: Option<Map<String, Value>>,
    #[schema(required = false)]
    partition_type: Option<PartitionWord>,
    #[schema(required = false, value_type = Option<Object>)]
    partition_config: Option<Map<String, Value>>,
    #[schema(required = false, max_length = 255)]
    index_column: Option<String>,
}

fn column(fields: &mut Fields<'_>) -> Option<String> {
    text(fields, "index_column", NAME_BYTES_MAX)
}

fn new(fields: &mut Fields<'_>) -> NewRule {
    let (name, index_id) = (filled(fields, "name", NAME_BYTES_MAX), id(fields, "index_id"));
    NewRule {
        name: required(fields, "name", name),
        index_id: required(fields, "index_id", index_id),
        sql: sql(fields),
        index_column: column(fields).filter(|column| !column.is_empty()),
    }
}

fn change(fields: &mut Fields<'_>) -> RuleChange {
    RuleChange {
        name: filled(fields, "name", NAME_BYTES_MAX),
        index_id: id(fields, "index_id"),
        sql: sql_change(fields),
        index_column: nullable(fields, "index_column", column).map(|column| column.filter(|column| !column.is_empty())),
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Rule)]
pub(super) struct RuleReply {
    r_id: u64,
    c_id: u64,
    index_id: u64,
    name: String,
    #[serde(flatten)]
    query: QueryText,
    index_column: Option<String>,
    #[serde(flatten)]
    made: MadeOfIt,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl From<&Rule> for RuleReply {
    fn from(rule: &Rule) -> Self {
        let Rule { r_id, c_id, index_id, name, sql, index_column, materialized, created_at, updated_at } = rule.clone();
        let (created_at, updated_at) = (time_text(created_at), time_text(updated_at));
        Self { r_id, c_id, index_id, name, query: sql.into(), index_column, made: materialized.into(), created_at, updated_at }
    }
}

fn ids(mut params: Params) -> Result<(Id, Id), ApiError> {
    let ids = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Rule>(&mut params, "r_id")?);
    params.finish()?;
    Ok(ids)
}

/// Makes a rule of a concept; its index must be materialised.
#[utoipa::path(post, path = "/concepts/{c_id}/rules", tag = "concepts", operation_id = "create_rule",
    params(("c_id" = i64, Path)), request_body = RuleBody,
    responses((status = 201, description = "made; it has no rows yet", body = RuleReply)))]
pub(super) async fn create(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<RuleReply>), ApiError> {
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    let rule = state.concepts()?.create_rule(c_id, read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*rule).into())))
}

/// The rules of a concept.
#[utoipa::path(get, path = "/concepts/{c_id}/rules", tag = "concepts", operation_id = "rules",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by number", body = Vec<RuleReply>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<RuleReply>>, ApiError> {
    let (skip, limit) = page(&state, &mut params);
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(Json(state.concepts()?.rules(c_id, skip, limit)?.iter().map(|rule| (&**rule).into()).collect()))
}

/// One rule.
#[utoipa::path(get, path = "/concepts/{c_id}/rules/{r_id}", tag = "concepts", operation_id = "rule",
    params(("c_id" = i64, Path), ("r_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = RuleReply)))]
pub(super) async fn get(State(state): State<AppState>, params: Params) -> Result<Json<RuleReply>, ApiError> {
    let (c_id, r_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.rule(c_id, r_id)?).into()))
}

/// Changes the fields that are given. With another query or other parameters it has no rows until it is materialised again.
#[utoipa::path(patch, path = "/concepts/{c_id}/rules/{r_id}", tag = "concepts", operation_id = "change_rule",
    params(("c_id" = i64, Path), ("r_id" = i64, Path)), request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = RuleReply)))]
pub(super) async fn patch(State(state): State<AppState>, params: Params, JsonBody(bytes): JsonBody) -> Result<Json<RuleReply>, ApiError> {
    let (c_id, r_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.change_rule(c_id, r_id, read(&bytes, change)?).await?).into()))
}

/// Removes a rule that no labelling function reads.
#[utoipa::path(delete, path = "/concepts/{c_id}/rules/{r_id}", tag = "concepts", operation_id = "delete_rule",
    params(("c_id" = i64, Path), ("r_id" = i64, Path)),
    responses((status = 204, description = "it is gone; its rows go a little later")))]
pub(super) async fn delete(State(state): State<AppState>, params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, r_id) = ids(params)?;
    state.concepts()?.delete_rule(c_id, r_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
