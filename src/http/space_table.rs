//! `/spaces`: the space table as clients of datasets browse it, from the log or from the external database.

use super::AppState;
use super::datasets::skip;
use super::error::ApiError;
use super::params::Params;
use axum::Json;
use axum::extract::State;
use desireline_records::{Space, SpaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SpaceRow {
    space_id: i32,
    space_name: Option<String>,
    /// Null for a root.
    parent_space_id: Option<i32>,
    building_room: Option<String>,
}

impl From<Space> for SpaceRow {
    fn from(space: Space) -> Self {
        Self {
            space_id: space.space_id,
            space_name: space.space_name.map(Into::into),
            parent_space_id: space.parent_space_id,
            building_room: space.building_room.map(Into::into),
        }
    }
}

type Rows = Json<Vec<SpaceRow>>;

fn rows(spaces: Vec<Space>) -> Rows {
    Json(spaces.into_iter().map(SpaceRow::from).collect())
}

/// Ids that no space can have are nobody's.
fn space_id(mut params: Params) -> Result<Option<SpaceId>, ApiError> {
    let id = params.integer_segment("space_id");
    params.finish()?;
    Ok(SpaceId::try_from(id).ok())
}

/// Spaces by name.
#[utoipa::path(get, path = "/spaces", tag = "occupancy", operation_id = "spaces_table",
    params(("search" = Option<String>, Query, description = "part of the name, in whatever case"),
        ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "by name, those without one last", body = Vec<SpaceRow>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Rows, ApiError> {
    let search = params.text("search");
    let skip = skip(&mut params);
    let limit = params.limit(100, state.config.page_max);
    params.finish()?;
    Ok(rows(state.occupancy()?.spaces(search.as_deref(), skip, limit).await?))
}

/// Spaces without a parent, by name.
#[utoipa::path(get, path = "/spaces/roots", tag = "occupancy", operation_id = "root_spaces",
    responses((status = 200, description = "by name", body = Vec<SpaceRow>)))]
pub(super) async fn roots(State(state): State<AppState>) -> Result<Rows, ApiError> {
    Ok(rows(state.occupancy()?.root_spaces().await?))
}

/// One space.
#[utoipa::path(get, path = "/spaces/{space_id}", tag = "occupancy", operation_id = "space_row",
    params(("space_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = SpaceRow)))]
pub(super) async fn get(State(state): State<AppState>, params: Params) -> Result<Json<SpaceRow>, ApiError> {
    let occupancy = state.occupancy()?;
    match space_id(params)? {
        Some(id) => Ok(Json(occupancy.space(id).await?.into())),
        None => Err(ApiError::not_found("there is no such space")),
    }
}

/// The direct children of a space, by name; none of an unknown one.
#[utoipa::path(get, path = "/spaces/{space_id}/children", tag = "occupancy", operation_id = "space_children",
    params(("space_id" = i64, Path)),
    responses((status = 200, description = "one level", body = Vec<SpaceRow>)))]
pub(super) async fn children(State(state): State<AppState>, params: Params) -> Result<Rows, ApiError> {
    let occupancy = state.occupancy()?;
    match space_id(params)? {
        Some(id) => Ok(rows(occupancy.space_children(id).await?)),
        None => Ok(rows(Vec::new())),
    }
}

/// A space and everything below it, by name; nothing for an unknown one.
#[utoipa::path(get, path = "/spaces/{space_id}/subtree", tag = "occupancy", operation_id = "space_subtree",
    params(("space_id" = i64, Path)),
    responses((status = 200, description = "any depth", body = Vec<SpaceRow>)))]
pub(super) async fn subtree(State(state): State<AppState>, params: Params) -> Result<Rows, ApiError> {
    let occupancy = state.occupancy()?;
    match space_id(params)? {
        Some(id) => Ok(rows(occupancy.space_subtree(id).await?)),
        None => Ok(rows(Vec::new())),
    }
}
