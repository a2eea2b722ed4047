//! `/concepts/{c_id}/features`: queries that say what classifiers see of the things of an index.

use super::asked::{filled, id, nullable, page, path_id, read, required, sql, sql_change, text};
use super::queries::{MadeOfIt, PartitionWord, QueryText};
use super::time_text;
use crate::concepts::limits::{COLUMNS_MAX, DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX};
use crate::concepts::record::{Concept, Feature, Id};
use crate::concepts::{FeatureChange, NewFeature};
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
#[schema(as = NewFeature)]
#[allow(dead_code)]
pub(super) struct FeatureBody {
    /// No other feature of the concept has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// An index of the same concept. It need not be materialised yet.
    #[schema(minimum = 0, maximum = 9223372036854775807_i64)]
    index_id: i64,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
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
    /// The columns that the query is expected to give.
    #[schema(required = false, max_items = 1000)]
    columns: Option<Vec<String>>,
    /// Where it is shown.
    #[schema(required = false)]
    level: Option<i64>,
}

/// Fields that are absent stay as they are. The index cannot be changed.
#[derive(Deserialize, ToSchema)]
#[schema(as = FeatureChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
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
    #[schema(required = false, max_items = 1000)]
    columns: Option<Vec<String>>,
    #[schema(required = false)]
    level: Option<i64>,
}

fn column(fields: &mut Fields<'_>) -> Option<String> {
    text(fields, "index_column", NAME_BYTES_MAX)
}

fn description(fields: &mut Fields<'_>) -> Option<String> {
    text(fields, "description", DESCRIPTION_BYTES_MAX)
}

fn level(fields: &mut Fields<'_>) -> Option<i64> {
    fields.integer("level", i64::MIN, i64::MAX)
}

fn columns(fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let list = fields.list("columns")?;
    let names: Option<Vec<String>> = list.iter().map(|name| serde_json::from_str(name.get()).ok()).collect();
    let fits = |name: &String| name.len() <= NAME_BYTES_MAX && !name.contains('\0');
    match names {
        Some(names) if names.len() > COLUMNS_MAX => fields.note("columns", format!("has more than {COLUMNS_MAX} names")),
        Some(names) if names.iter().all(fits) => return Some(names),
        Some(_) => fields.note("columns", format!("has a name with a NUL character or of more than {NAME_BYTES_MAX} bytes")),
        None => fields.note("columns", "must be a list of texts"),
    }
    None
}

fn new(fields: &mut Fields<'_>) -> NewFeature {
    let (name, index_id) = (filled(fields, "name", NAME_BYTES_MAX), id(fields, "index_id"));
    NewFeature {
        name: required(fields, "name", name),
        index_id: required(fields, "index_id", index_id),
        description: description(fields),
        sql: sql(fields),
        index_column: column(fields).filter(|column| !column.is_empty()),
        columns: columns(fields),
        level: level(fields),
    }
}

fn change(fields: &mut Fields<'_>) -> FeatureChange {
    FeatureChange {
        name: filled(fields, "name", NAME_BYTES_MAX),
        description: nullable(fields, "description", description),
        sql: sql_change(fields),
        index_column: nullable(fields, "index_column", column).map(|column| column.filter(|column| !column.is_empty())),
        columns: nullable(fields, "columns", columns),
        level: nullable(fields, "level", level),
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Feature)]
pub(super) struct FeatureReply {
    feature_id: u64,
    c_id: u64,
    index_id: u64,
    name: String,
    description: Option<String>,
    #[serde(flatten)]
    query: QueryText,
    index_column: Option<String>,
    columns: Option<Vec<String>>,
    level: Option<i64>,
    #[serde(flatten)]
    made: MadeOfIt,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl From<&Feature> for FeatureReply {
    fn from(feature: &Feature) -> Self {
        let feature = feature.clone();
        Self {
            feature_id: feature.feature_id,
            c_id: feature.c_id,
            index_id: feature.index_id,
            name: feature.name,
            description: feature.description,
            query: feature.sql.into(),
            index_column: feature.index_column,
            columns: feature.columns,
            level: feature.level,
            made: feature.materialized.into(),
            created_at: time_text(feature.created_at),
            updated_at: time_text(feature.updated_at),
        }
    }
}

fn ids(mut params: Params) -> Result<(Id, Id), ApiError> {
    let ids = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Feature>(&mut params, "feature_id")?);
    params.finish()?;
    Ok(ids)
}

/// Makes a feature of a concept.
#[utoipa::path(post, path = "/concepts/{c_id}/features", tag = "concepts", operation_id = "create_feature",
    params(("c_id" = i64, Path)), request_body = FeatureBody,
    responses((status = 201, description = "made; it has no rows yet", body = FeatureReply)))]
pub(super) async fn create(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<FeatureReply>), ApiError> {
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    let feature = state.concepts()?.create_feature(c_id, read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*feature).into())))
}

/// The features of a concept.
#[utoipa::path(get, path = "/concepts/{c_id}/features", tag = "concepts", operation_id = "features",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by number", body = Vec<FeatureReply>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<FeatureReply>>, ApiError> {
    let (skip, limit) = page(&state, &mut params);
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(Json(state.concepts()?.features(c_id, skip, limit)?.iter().map(|feature| (&**feature).into()).collect()))
}

/// One feature.
#[utoipa::path(get, path = "/concepts/{c_id}/features/{feature_id}", tag = "concepts", operation_id = "feature",
    params(("c_id" = i64, Path), ("feature_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = FeatureReply)))]
pub(super) async fn get(State(state): State<AppState>, params: Params) -> Result<Json<FeatureReply>, ApiError> {
    let (c_id, feature_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.feature(c_id, feature_id)?).into()))
}

/// Changes the fields that are given. With another query or other parameters it has no rows until it is materialised again.
#[utoipa::path(patch, path = "/concepts/{c_id}/features/{feature_id}", tag = "concepts", operation_id = "change_feature",
    params(("c_id" = i64, Path), ("feature_id" = i64, Path)), request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = FeatureReply)))]
pub(super) async fn patch(
    State(state): State<AppState>,
    params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<FeatureReply>, ApiError> {
    let (c_id, feature_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.change_feature(c_id, feature_id, read(&bytes, change)?).await?).into()))
}

/// Removes a feature on which no classifier is being trained.
#[utoipa::path(delete, path = "/concepts/{c_id}/features/{feature_id}", tag = "concepts", operation_id = "delete_feature",
    params(("c_id" = i64, Path), ("feature_id" = i64, Path)),
    responses((status = 204, description = "it is gone; its rows go a little later")))]
pub(super) async fn delete(State(state): State<AppState>, params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, feature_id) = ids(params)?;
    state.concepts()?.delete_feature(c_id, feature_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
