//! The description of WiFi sessions for the OpenAPI document, as exact as a schema can be; see [`super::event_body`].
//!
//! Known limitations: that a session must not end before it starts, be too long, or lie in the future, no schema can say.

use super::event_body::{WITHOUT_NUL, types};
use desireline_records::limits;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

/// One association of a device with an access point. Unknown fields are ignored; null and the empty string mean absent.
#[derive(ToSchema)]
#[schema(as = WifiSession)]
#[allow(dead_code)]
pub(super) struct SessionBody {
    #[schema(schema_with = mac_address)]
    mac_address: String,
    #[schema(schema_with = space_id)]
    space_id: i64,
    #[schema(schema_with = sensor_id)]
    sensor_id: Option<String>,
    #[schema(schema_with = start_time)]
    start_time: String,
    #[schema(schema_with = end_time)]
    end_time: Option<String>,
}

/// Several sessions, or one by itself. NDJSON bodies hold one session per line instead.
#[derive(ToSchema, Deserialize)]
#[serde(untagged)]
#[schema(as = WifiSessions)]
#[allow(dead_code)]
pub(super) enum SessionsBody {
    Several {
        #[schema(min_items = 1, value_type = Vec<SessionBody>)]
        sessions: Vec<serde_json::Value>,
    },
    #[schema(value_type = SessionBody)]
    One(serde_json::Value),
}

fn mac_address() -> Object {
    let description = "A MAC address in any usual spelling, or another id that is one device's own.";
    let pattern = "^[^\\u0000]*[A-Za-z0-9][^\\u0000]*$";
    let any = types(&[Type::String, Type::Number]).min_length(Some(1)).max_length(Some(limits::USER));
    any.pattern(Some(pattern)).description(Some(description)).build()
}

fn space_id() -> Object {
    let range = types(&[Type::Integer, Type::String]).minimum(Some(f64::from(i32::MIN))).maximum(Some(f64::from(i32::MAX)));
    range.pattern(Some("^-?[0-9]{1,9}$")).description(Some("The space, also one that is not known yet.")).build()
}

fn sensor_id() -> Object {
    types(&[Type::String, Type::Number, Type::Null]).max_length(Some(limits::ITEM)).pattern(Some(WITHOUT_NUL)).build()
}

fn time(types: SchemaType, description: &str) -> Object {
    let millis_max = (limits::TIME_MAX / 1_000) as f64;
    let range = ObjectBuilder::new().schema_type(types).minimum(Some(0.0)).exclusive_maximum(Some(millis_max));
    range.description(Some(description)).build()
}

fn start_time() -> Object {
    time(
        [Type::Number, Type::String].into_iter().collect(),
        "Seconds since 1970 (milliseconds above 10^11), or RFC 3339; without a zone: UTC.",
    )
}

fn end_time() -> Object {
    time([Type::Number, Type::String, Type::Null].into_iter().collect(), "Likewise. Absent: the session is open; a later row closes it.")
}
