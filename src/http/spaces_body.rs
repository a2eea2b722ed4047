//! The description of spaces for the OpenAPI document. Nothing here reads a body; see [`super::spaces`].

use super::catalog::WORD_BYTES_MAX;
use super::interaction_body::text;
use utoipa::ToSchema;
use utoipa::openapi::Object;

/// A campus, a building, a floor, a room. Unknown fields are ignored; null and the empty string mean absent.
#[derive(ToSchema)]
#[schema(as = CampusSpace)]
#[allow(dead_code)]
pub(super) struct SpaceBody {
    space_id: i32,
    #[schema(schema_with = word)]
    space_name: Option<String>,
    /// What it lies in; a parent that is not known makes it an orphan until the parent comes.
    parent_space_id: Option<i32>,
    #[schema(schema_with = word)]
    building_room: Option<String>,
    /// Devices it is made for.
    #[schema(minimum = 1)]
    capacity: Option<u32>,
}

/// One space, or a list.
#[derive(ToSchema)]
#[schema(as = CampusSpaceOrSpaces)]
#[serde(untagged)]
#[allow(dead_code)]
pub(super) enum SpacesBody {
    One(SpaceBody),
    Several(SeveralSpaces),
}

#[derive(ToSchema)]
#[schema(as = CampusSpaces)]
#[allow(dead_code)]
pub(super) struct SeveralSpaces {
    #[schema(min_items = 1)]
    spaces: Vec<SpaceBody>,
}

fn word() -> Object {
    text(WORD_BYTES_MAX).build()
}
