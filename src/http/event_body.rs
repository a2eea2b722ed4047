//! The description of an event for the OpenAPI document, as exact as a schema can be.
//!
//! Nothing here reads an event: `desireline_connectors::formats` does, and the validator of `desireline_records` judges what it
//! read. The two are held together by the conformance test, which sends what this description permits and what it forbids.
//!
//! Known limitations: lengths are counted in bytes when an event is judged and in characters by a schema; that a time must not lie in
//! the future, or that properties are nested at most 64 deep, no schema can say.

use desireline_records::limits;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder, Type};

/// One event. Unknown fields are ignored; null, and where nothing else is said the empty string, mean absent.
#[derive(ToSchema)]
#[schema(as = Event)]
#[allow(dead_code)]
pub(super) struct EventBody {
    #[schema(schema_with = event_id)]
    event_id: Option<String>,
    #[schema(minimum = 0, maximum = 2147483647, default = 0)]
    source_id: Option<i64>,
    #[schema(schema_with = user_id)]
    user_id: Option<String>,
    #[schema(schema_with = id)]
    session_id: Option<String>,
    #[schema(schema_with = id)]
    client_id: Option<String>,
    #[schema(schema_with = event_type)]
    event_type: Option<String>,
    #[schema(schema_with = page)]
    page: Option<String>,
    #[schema(schema_with = id)]
    item_id: Option<String>,
    #[schema(schema_with = id)]
    transaction_id: Option<String>,
    #[schema(schema_with = value)]
    value: Option<f64>,
    #[schema(schema_with = timestamp)]
    timestamp: Option<String>,
    /// Anything else, kept with the event.
    #[schema(value_type = Option<Object>)]
    properties: Option<serde_json::Value>,
}

/// Several events. NDJSON bodies hold one event per line instead.
#[derive(ToSchema, Deserialize)]
#[schema(as = Batch)]
#[allow(dead_code)]
pub(super) struct BatchBody {
    #[schema(min_items = 1, value_type = Vec<EventBody>)]
    events: Vec<serde_json::Value>,
}

pub(super) const WITHOUT_NUL: &str = "^[^\\u0000]*$";

pub(super) fn types(types: &[Type]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(types.iter().cloned().collect::<SchemaType>())
}

/// A string, or a number whose digits are taken as they stand.
fn text(bytes_max: usize) -> ObjectBuilder {
    types(&[Type::String, Type::Number, Type::Null]).max_length(Some(bytes_max)).pattern(Some(WITHOUT_NUL))
}

fn id() -> Object {
    text(limits::USER).build()
}

fn user_id() -> Object {
    text(limits::USER).description(Some("Without it the session id, else the client id stands for the user.")).build()
}

fn event_id() -> Object {
    let description = "An idempotency key; one is made when absent. The same key of the same user and source counts once.";
    text(limits::EVENT_ID).pattern(Some("^([^~\\u0000][^\\u0000]*)?$")).description(Some(description)).build()
}

fn event_type() -> Object {
    text(limits::EVENT_TYPE).min_length(Some(1)).default(Some("pageview".into())).build()
}

fn page() -> Object {
    text(limits::PAGE).build()
}

fn value() -> Object {
    let units_max = (limits::VALUE_MAX / 10_000) as f64;
    types(&[Type::Number, Type::String, Type::Null])
        .minimum(Some(-units_max))
        .maximum(Some(units_max))
        .pattern(Some("^([+-]?[0-9]{1,12}([.][0-9]*)?)?$"))
        .description(Some("A number, or a decimal string; four decimals are kept."))
        .build()
}

fn timestamp() -> Object {
    let millis_max = (limits::TIME_MAX / 1_000) as f64;
    types(&[Type::Number, Type::String, Type::Null])
        .minimum(Some(0.0))
        .exclusive_maximum(Some(millis_max))
        .description(Some("Seconds since 1970 (milliseconds above 10^11), or RFC 3339. Absent: the time of arrival."))
        .build()
}
