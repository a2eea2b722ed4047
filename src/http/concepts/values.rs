//! `/concepts/{c_id}/values`: the classes that things can be of.

use super::asked::{filled, nullable, path_id, read, required, text};
use super::time_text;
use crate::concepts::limits::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX};
use crate::concepts::record::{Concept, Id, Value};
use crate::concepts::{NewValue, ValueChange};
use crate::http::AppState;
use crate::http::body::{JsonBody, NoBody};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[schema(as = NewConceptValue)]
#[allow(dead_code)]
pub(super) struct ValueBody {
    /// No other value of the concept has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
    #[schema(required = false)]
    display_order: Option<i64>,
}

/// Fields that are absent stay as they are.
#[derive(Deserialize, ToSchema)]
#[schema(as = ConceptValueChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
    #[schema(required = false)]
    display_order: Option<i64>,
}

fn order(fields: &mut Fields<'_>) -> Option<i64> {
    fields.integer("display_order", i64::MIN, i64::MAX)
}

fn new(fields: &mut Fields<'_>) -> NewValue {
    let name = filled(fields, "name", NAME_BYTES_MAX);
    let description = text(fields, "description", DESCRIPTION_BYTES_MAX);
    NewValue { name: required(fields, "name", name), description, display_order: order(fields) }
}

fn change(fields: &mut Fields<'_>) -> ValueChange {
    ValueChange {
        name: filled(fields, "name", NAME_BYTES_MAX),
        description: nullable(fields, "description", |fields| text(fields, "description", DESCRIPTION_BYTES_MAX)),
        display_order: nullable(fields, "display_order", order),
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct ConceptValue {
    cv_id: u64,
    c_id: u64,
    name: String,
    description: Option<String>,
    display_order: Option<i64>,
    /// RFC 3339.
    created_at: String,
}

impl From<&Value> for ConceptValue {
    fn from(value: &Value) -> Self {
        let Value { cv_id, c_id, name, description, display_order, created_at } = value.clone();
        Self { cv_id, c_id, name, description, display_order, created_at: time_text(created_at) }
    }
}

fn ids(mut params: Params) -> Result<(Id, Id), ApiError> {
    let ids = (path_id::<Concept>(&mut params, "c_id")?, path_id::<Value>(&mut params, "cv_id")?);
    params.finish()?;
    Ok(ids)
}

fn concept(mut params: Params) -> Result<Id, ApiError> {
    let c_id = path_id::<Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(c_id)
}

/// Makes a value of a concept.
#[utoipa::path(post, path = "/concepts/{c_id}/values", tag = "concepts", operation_id = "create_concept_value",
    params(("c_id" = i64, Path)), request_body = ValueBody,
    responses((status = 201, description = "made", body = ConceptValue)))]
pub(super) async fn create(
    State(state): State<AppState>,
    params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<ConceptValue>), ApiError> {
    let value = state.concepts()?.create_value(concept(params)?, read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*value).into())))
}

/// The values of a concept.
#[utoipa::path(get, path = "/concepts/{c_id}/values", tag = "concepts", operation_id = "concept_values", params(("c_id" = i64, Path)),
    responses((status = 200, description = "by display order, those without one last, then by number", body = Vec<ConceptValue>)))]
pub(super) async fn list(State(state): State<AppState>, params: Params) -> Result<Json<Vec<ConceptValue>>, ApiError> {
    Ok(Json(state.concepts()?.values(concept(params)?)?.iter().map(|value| (&**value).into()).collect()))
}

/// One value.
#[utoipa::path(get, path = "/concepts/{c_id}/values/{cv_id}", tag = "concepts", operation_id = "concept_value",
    params(("c_id" = i64, Path), ("cv_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = ConceptValue)))]
pub(super) async fn get(State(state): State<AppState>, params: Params) -> Result<Json<ConceptValue>, ApiError> {
    let (c_id, cv_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.value(c_id, cv_id)?).into()))
}

/// Changes the fields that are given.
#[utoipa::path(patch, path = "/concepts/{c_id}/values/{cv_id}", tag = "concepts", operation_id = "change_concept_value",
    params(("c_id" = i64, Path), ("cv_id" = i64, Path)), request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = ConceptValue)))]
pub(super) async fn patch(
    State(state): State<AppState>,
    params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<ConceptValue>, ApiError> {
    let (c_id, cv_id) = ids(params)?;
    Ok(Json((&*state.concepts()?.change_value(c_id, cv_id, read(&bytes, change)?).await?).into()))
}

/// Removes a value that no labelling function may vote for.
#[utoipa::path(delete, path = "/concepts/{c_id}/values/{cv_id}", tag = "concepts", operation_id = "delete_concept_value",
    params(("c_id" = i64, Path), ("cv_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, cv_id) = ids(params)?;
    state.concepts()?.delete_value(c_id, cv_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
