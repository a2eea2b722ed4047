//! `/concepts`.

use super::asked::{filled, nullable, page, path_id, read, required, text};
use super::time_text;
use crate::concepts::limits::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX};
use crate::concepts::record;
use crate::concepts::{ConceptChange, NewConcept};
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
#[schema(as = NewConcept)]
#[allow(dead_code)]
pub(super) struct ConceptBody {
    /// No other concept has it.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
}

/// Fields that are absent stay as they are.
#[derive(Deserialize, ToSchema)]
#[schema(as = ConceptChange)]
#[allow(dead_code)]
pub(super) struct ChangeBody {
    #[schema(required = false, value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(required = false, max_length = 8192)]
    description: Option<String>,
}

fn new(fields: &mut Fields<'_>) -> NewConcept {
    let name = filled(fields, "name", NAME_BYTES_MAX);
    NewConcept { name: required(fields, "name", name), description: text(fields, "description", DESCRIPTION_BYTES_MAX) }
}

fn change(fields: &mut Fields<'_>) -> ConceptChange {
    let name = filled(fields, "name", NAME_BYTES_MAX);
    ConceptChange { name, description: nullable(fields, "description", |fields| text(fields, "description", DESCRIPTION_BYTES_MAX)) }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Concept {
    c_id: u64,
    name: String,
    description: Option<String>,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl From<&record::Concept> for Concept {
    fn from(concept: &record::Concept) -> Self {
        let record::Concept { c_id, name, description, created_at, updated_at } = concept.clone();
        Self { c_id, name, description, created_at: time_text(created_at), updated_at: time_text(updated_at) }
    }
}

/// Makes a concept.
#[utoipa::path(post, path = "/concepts", tag = "concepts", operation_id = "create_concept", request_body = ConceptBody,
    responses((status = 201, description = "made", body = Concept)))]
pub(super) async fn create(State(state): State<AppState>, JsonBody(bytes): JsonBody) -> Result<(StatusCode, Json<Concept>), ApiError> {
    let concept = state.concepts()?.create_concept(read(&bytes, new)?).await?;
    Ok((StatusCode::CREATED, Json((&*concept).into())))
}

/// The concepts.
#[utoipa::path(get, path = "/concepts", tag = "concepts", operation_id = "concepts",
    params(("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by number", body = Vec<Concept>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<Concept>>, ApiError> {
    let (skip, limit) = page(&state, &mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.concepts(skip, limit)?.iter().map(|concept| (&**concept).into()).collect()))
}

/// One concept.
#[utoipa::path(get, path = "/concepts/{c_id}", tag = "concepts", operation_id = "concept", params(("c_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = Concept)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<Concept>, ApiError> {
    let id = path_id::<record::Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(Json((&*state.concepts()?.concept(id)?).into()))
}

/// Changes the fields that are given.
#[utoipa::path(patch, path = "/concepts/{c_id}", tag = "concepts", operation_id = "change_concept", params(("c_id" = i64, Path)),
    request_body = ChangeBody,
    responses((status = 200, description = "as it now is", body = Concept)))]
pub(super) async fn patch(State(state): State<AppState>, mut params: Params, JsonBody(bytes): JsonBody) -> Result<Json<Concept>, ApiError> {
    let id = path_id::<record::Concept>(&mut params, "c_id")?;
    params.finish()?;
    Ok(Json((&*state.concepts()?.change_concept(id, read(&bytes, change)?).await?).into()))
}

/// Removes a concept with everything that belongs to it; its runs are cancelled, and its objects are deleted a little later.
#[utoipa::path(delete, path = "/concepts/{c_id}", tag = "concepts", operation_id = "delete_concept", params(("c_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let id = path_id::<record::Concept>(&mut params, "c_id")?;
    params.finish()?;
    state.concepts()?.delete_concept(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
