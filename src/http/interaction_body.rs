//! The description of an interaction for the OpenAPI document, as exact as a schema can be.
//!
//! Nothing here reads a body; see [`super::interactions`]. Known limitations: as those of [`super::event_body`].

use desireline_records::limits;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder, Type};

/// What a user did with an item. Unknown fields are ignored.
#[derive(ToSchema)]
#[schema(as = Interaction)]
#[allow(dead_code)]
pub(super) struct InteractionBody {
    user_id: i64,
    #[schema(schema_with = asin)]
    asin: String,
    event_type: InteractionWord,
    /// Kept with the event. `value`, or `price` and `quantity`, are the value of a purchase; `page` is its page.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    #[schema(schema_with = event_id)]
    event_id: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = InteractionType, rename_all = "snake_case")]
#[allow(dead_code)]
pub(super) enum InteractionWord {
    View,
    Click,
    AddToCart,
    Purchase,
    Rate,
}

pub(super) const WITHOUT_NUL: &str = "^[^\\u0000]*$";

/// A string that must be there.
pub(super) fn some_text(bytes_max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(bytes_max)).pattern(Some(WITHOUT_NUL))
}

/// A string that may be missing, null or empty.
pub(super) fn text(bytes_max: usize) -> ObjectBuilder {
    let types: SchemaType = [Type::String, Type::Null].into_iter().collect();
    ObjectBuilder::new().schema_type(types).max_length(Some(bytes_max)).pattern(Some(WITHOUT_NUL))
}

fn asin() -> Object {
    some_text(limits::ITEM).build()
}

fn event_id() -> Object {
    let description = "An idempotency key; one is made when absent. The same key of the same user counts once.";
    text(limits::EVENT_ID).pattern(Some("^([^~\\u0000][^\\u0000]*)?$")).description(Some(description)).build()
}
