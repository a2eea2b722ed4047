//! WiFi sessions over HTTP: many in one body, or one; and the erasure of a device by its address.
//!
//! What is sent here is answered exactly as events are ([`super::ingest`]). Addresses go no further than the validator: neither the log of
//! requests nor a dead letter shows one, where they are replaced.

use super::AppState;
use super::body::{DataBody, NoBody, reading};
use super::error::{ApiError, ErrorBody};
use super::ingest::{BatchReply, Read, answer, between, split};
use super::params::Params;
use super::wifi_body::SessionsBody;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use desireline_connectors::formats::{self, Format};
use desireline_records::{limits, time};
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Takes WiFi sessions: `{"sessions": [...]}`, one session, or one per line as NDJSON.
#[utoipa::path(post, path = "/api/wifi-sessions", tag = "ingest", operation_id = "wifi_sessions",
    request_body(description = "the sessions", content((SessionsBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "what was accepted is durable and applied", body = BatchReply),
        (status = 400, description = "no sessions, or none of them was accepted", body = ErrorBody)))]
pub(super) async fn wifi_sessions(State(state): State<AppState>, body: DataBody) -> Result<Json<BatchReply>, ApiError> {
    let reader = state.clone();
    let read = reading(body.bytes.len(), move || read_sessions(&reader, &body)).await??;
    answer(&state, read).await
}

#[derive(Deserialize)]
struct Sessions<'a> {
    #[serde(borrow)]
    sessions: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    mac_address: Option<&'a RawValue>,
}

/// The sessions of a JSON body; a body that is one itself stands alone.
fn sessions(bytes: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    let body: Sessions<'_> = serde_json::from_slice(bytes)?;
    match (body.sessions, body.mac_address) {
        (Some(sessions), _) => Ok(sessions),
        (None, Some(_)) => Ok(vec![serde_json::from_slice(bytes)?]),
        (None, None) => Err(serde_json::Error::missing_field("sessions")),
    }
}

fn read_sessions(state: &AppState, body: &DataBody) -> Result<Read, ApiError> {
    let payloads = split(body.kind, &body.bytes, "sessions", sessions)?;
    between(payloads.len(), state.config.batch_sessions_max, "sessions")?;
    let (validator, now) = (state.backend.validator(), time::now_micros());
    // A server that takes no sessions refuses each of them.
    let source = validator.wifi.as_ref().map_or(0, |rules| rules.source);
    let mut read = Read::with_capacity(payloads.len());
    for (index, payload) in payloads.into_iter().enumerate() {
        match formats::wifi::read(&validator, source, payload, now) {
            Ok(event) => read.accept(event),
            Err(refusal) => {
                let letter = formats::to_dead_letter(&validator, source, Format::Wifi, now, "http", refusal.clone(), payload);
                read.refuse(index, &refusal, letter);
            }
        }
    }
    Ok(read)
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct EraseDeviceReply {
    /// `erased`: no view shows the device any more.
    detail: String,
    /// For `at_least` in queries.
    token: String,
    /// The runs that remove its rows from storage, one for each name that it had; see `/dagster/runs/{run_id}`.
    run_ids: Vec<String>,
}

/// Erases a device by its MAC address, or whatever id it was sent with: under every key that its pseudonyms were made with, at once from
/// every view, and by the deadline from log, cold parts and dead letters.
#[utoipa::path(delete, path = "/api/macs/{mac}", tag = "operations", operation_id = "erase_mac",
    params(("mac" = String, Path, min_length = 1, max_length = 256)),
    responses((status = 202, description = "gone from the views; the storage follows", body = EraseDeviceReply)))]
pub(super) async fn erase_mac(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Response, ApiError> {
    let id = params.segment("mac", limits::USER);
    params.finish()?;
    let (token, run_ids) = state.backend.erase_mac(&id).await?;
    let reply = EraseDeviceReply { detail: "erased".to_owned(), token: token.to_string(), run_ids };
    Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
}

#[cfg(test)]
mod tests {
    use super::super::body::BodyKind;
    use super::*;
    use bytes::Bytes;

    fn texts(kind: BodyKind, text: &'static str) -> Result<Vec<String>, &'static str> {
        let bytes = Bytes::from_static(text.as_bytes());
        let split = split(kind, &bytes, "sessions", sessions).map_err(|error| error.code);
        split.map(|parts| parts.into_iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect())
    }

    #[test]
    fn sessions_come_in_a_list_alone_or_in_lines() {
        let two = Ok(vec![r#"{"a":1}"#.to_owned(), "7".to_owned()]);
        assert_eq!(texts(BodyKind::Json, r#"{"mac_address":1,"sessions":[{"a":1}, 7 ]}"#), two);
        assert_eq!(texts(BodyKind::Json, r#" {"mac_address":"m"} "#), Ok(vec![r#"{"mac_address":"m"}"#.to_owned()]));
        assert_eq!(texts(BodyKind::Ndjson, "{\"a\":1}\r\n\n7"), two);
        for body in ["{}", "[]", r#"{"sessions":{}}"#, r#"{"events":[]}"#, r#"{"sessions":null}"#] {
            assert_eq!(texts(BodyKind::Json, body), Err("invalid"), "{body}");
        }
        assert_eq!(texts(BodyKind::Json, r#"{"sessions":[1"#), Err("malformed"));
    }
}
