//! The space tree over HTTP.
//!
//! Spaces are written as the catalog's entries are ([`super::catalog`]): one, a list under `spaces`, or one per line, whole or not at all.
//! A space replaces what stood under its `space_id`; moving one takes everything below it along, and its history.

use super::AppState;
use super::body::DataBody;
use super::catalog::{WORD_BYTES_MAX, read_body, text};
use super::error::ApiError;
use super::fields::Fields;
use super::params::Params;
use super::queries::at;
use super::spaces_body::SpacesBody;
use super::wire::rfc3339;
use crate::service::{ServiceError, Shown};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{LogicalTime, Space, SpaceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Children that one answer lists.
const CHILDREN_MAX: usize = 1_000;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SpacesReply {
    accepted: usize,
    /// For `at_least` in queries.
    token: String,
    /// Spaces of the whole tree whose parent is not known (yet); at most 1,000.
    orphans: Vec<SpaceId>,
}

/// Puts spaces into the tree, in place of those with the same `space_id`.
#[utoipa::path(put, path = "/api/spaces", tag = "occupancy", operation_id = "put_spaces",
    request_body(description = "one space, or several", content((SpacesBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "durable, and known to every view", body = SpacesReply)))]
pub(super) async fn put_spaces(State(state): State<AppState>, body: DataBody) -> Result<Json<SpacesReply>, ApiError> {
    let spaces = read_body(body, "spaces", state.config.interactions.catalog_entries_max, read_space).await?;
    let accepted = spaces.len();
    let (token, orphans) = state.backend.put_spaces(spaces).await?;
    Ok(Json(SpacesReply { accepted, token: token.to_string(), orphans }))
}

fn read_space(fields: &mut Fields<'_>) -> Space {
    let id = |fields: &mut Fields<'_>, name| fields.integer(name, SpaceId::MIN.into(), SpaceId::MAX.into()).map(|id| id as SpaceId);
    let space_id = id(fields, "space_id");
    Space {
        space_id: fields.require("space_id", space_id).unwrap_or_default(),
        space_name: text(fields, "space_name", WORD_BYTES_MAX),
        parent_space_id: id(fields, "parent_space_id"),
        building_room: text(fields, "building_room", WORD_BYTES_MAX),
        capacity: fields.integer("capacity", 1, u32::MAX.into()).map(|capacity| capacity as u32),
    }
}

/// A space next to another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SpaceLink {
    space_id: SpaceId,
    #[schema(value_type = Option<String>)]
    space_name: Option<EcoString>,
}

impl From<&Space> for SpaceLink {
    fn from(space: &Space) -> Self {
        Self { space_id: space.space_id, space_name: space.space_name.clone() }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SpaceReply {
    as_of: LogicalTime,
    space_id: SpaceId,
    #[schema(value_type = Option<String>)]
    space_name: Option<EcoString>,
    parent_space_id: Option<SpaceId>,
    #[schema(value_type = Option<String>)]
    building_room: Option<EcoString>,
    capacity: Option<u32>,
    /// Its parent is not known.
    orphan: bool,
    /// By id; at most 1,000.
    children: Vec<SpaceLink>,
    children_count: usize,
    /// From its parent to its root.
    ancestors: Vec<SpaceLink>,
    /// Of the running bin; RFC 3339.
    interval_begin_time: String,
    interval_seconds: u32,
    /// In the running bin, with all spaces below; null where it is too small to be shown.
    number_connections: Option<i64>,
    randomized: Option<i64>,
}

impl SpaceReply {
    fn of(tree: &Tree, id: SpaceId) -> Option<Self> {
        let space = tree.get(id)?;
        let children: Vec<SpaceLink> = tree.children(id).take(CHILDREN_MAX).map(SpaceLink::from).collect();
        Some(Self {
            as_of: 0,
            space_id: id,
            space_name: space.space_name.clone(),
            parent_space_id: space.parent_space_id,
            building_room: space.building_room.clone(),
            capacity: space.capacity,
            orphan: space.parent_space_id.is_some_and(|parent| !tree.contains(parent)),
            children_count: tree.children(id).count(),
            children,
            ancestors: tree.ancestors(id).into_iter().filter_map(|id| tree.get(id)).map(SpaceLink::from).collect(),
            interval_begin_time: String::new(),
            interval_seconds: 0,
            number_connections: None,
            randomized: None,
        })
    }
}

/// A path segment that is the number of a space.
fn segment(params: &mut Params) -> SpaceId {
    let id = params.integer_segment("space_id");
    if SpaceId::try_from(id).is_err() {
        params.mistake("space_id", format!("must be an integer between {} and {}", SpaceId::MIN, SpaceId::MAX));
    }
    SpaceId::try_from(id).unwrap_or_default()
}

/// A space with its place in the tree and its number now.
#[utoipa::path(get, path = "/api/spaces/{space_id}", tag = "occupancy", operation_id = "space",
    params(("space_id" = i32, Path)), responses((status = 200, description = "as it stands", body = SpaceReply)))]
pub(super) async fn space(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let id = segment(&mut params);
    params.finish()?;
    if !state.backend.ready() {
        return Err(ServiceError::NotReady("the log is being replayed".to_owned()).into());
    }
    let mut found = None;
    state.backend.read_tree(&mut |tree| found = SpaceReply::of(tree, id));
    let mut reply = found.ok_or_else(|| ApiError::not_found(format!("there is no space {id}")))?;
    let answer = state.backend.occupancy_now(None).await?;
    let now = answer.value.spaces.into_iter().find(|now| now.space.space_id == id);
    let shown = now.map_or(Shown { number: Some(0), randomized: Some(0) }, |now| state.backend.privacy().show(now.running));
    reply.as_of = answer.as_of;
    (reply.number_connections, reply.randomized) = (shown.number, shown.randomized);
    (reply.interval_begin_time, reply.interval_seconds) = (rfc3339(answer.value.begin), answer.value.interval_seconds);
    Ok(at(answer.as_of, reply))
}

/// Takes a space without children out of the tree.
#[utoipa::path(delete, path = "/api/spaces/{space_id}", tag = "occupancy", operation_id = "remove_space",
    params(("space_id" = i32, Path)), responses((status = 204, description = "it is gone; what was counted in it stays")))]
pub(super) async fn remove(State(state): State<AppState>, mut params: Params) -> Result<StatusCode, ApiError> {
    let id = segment(&mut params);
    params.finish()?;
    state.backend.remove_space(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
