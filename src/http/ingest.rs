//! Events over HTTP: one, or many in one body.
//!
//! The reply comes after everything accepted is durable and applied, so its counts are final and its token is already
//! visible. Refused events become dead letters in the same commit. A body that is no batch at all (not JSON, no `events`)
//! is answered with 400 and leaves nothing behind.
//!
//! Cost: one pass over the body finds the events, a second one reads each in place (strings are borrowed from the body); what
//! is allocated is the event itself and its id. Large bodies are read on a blocking thread, so that a large batch
//! delays nobody's query.
//!
//! Known limitations: the events of one body share one arrival time; an event larger than 1 MiB is refused.

use super::AppState;
use super::body::{BodyKind, DataBody, JsonBody, reading};
use super::error::{ApiError, ErrorBody, FieldError};
use super::event_body::{BatchBody, EventBody};
use super::ids::{IdMaker, random_uuid};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use desireline_connectors::formats::{self, Format, Malformed, Refusal};
use desireline_records::validate::Validator;
use desireline_records::{DeadLetter, Event, Micros, SourceId, limits, time};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The source of events that name none.
const DEFAULT_SOURCE: SourceId = 0;

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct IngestReply {
    /// The id that was given or made.
    #[schema(value_type = String)]
    pub event_id: EcoString,
    /// For `at_least` in queries.
    pub token: String,
}

/// An event of a batch, or another entry of a list, that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectedEvent {
    /// Its place in the batch, from 0. NDJSON: the line, blank ones not counted.
    pub index: usize,
    /// Empty when the whole event is at fault.
    pub field: Cow<'static, str>,
    pub detail: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchReply {
    /// Events newly seen.
    pub inserted: u64,
    /// Events seen before.
    pub duplicates: u64,
    pub rejected: Vec<RejectedEvent>,
    /// Of the accepted events, in their order.
    #[schema(value_type = Vec<String>)]
    pub ids: Vec<EcoString>,
    /// For `at_least` in queries.
    pub token: String,
}

/// Takes one event.
#[utoipa::path(post, path = "/api/ingest", tag = "ingest", request_body = EventBody, operation_id = "ingest",
    responses((status = 200, description = "durable and applied", body = IngestReply)))]
pub(super) async fn ingest(State(state): State<AppState>, JsonBody(bytes): JsonBody) -> Result<Json<IngestReply>, ApiError> {
    // What is no JSON at all is nobody's event: it is answered, but not kept.
    let event: &RawValue = serde_json::from_slice(&bytes).map_err(|e| ApiError::malformed(format!("the body is not JSON: {e}")))?;
    let mut reading = Reading::new(&state);
    reading.read(0, event.get().as_bytes());
    let Read { events, dead_letters, mut ids, mut rejected } = reading.done;
    let receipt = state.backend.ingest(events, dead_letters).await?;
    if let Some(rejected) = rejected.pop() {
        return Err(match rejected.field.as_ref() {
            "" => ApiError::malformed(rejected.detail),
            _ => ApiError::invalid(vec![FieldError::new(rejected.field, rejected.detail)]),
        });
    }
    let event_id = ids.pop().ok_or_else(|| ApiError::internal("an accepted event has no id"))?;
    Ok(Json(IngestReply { event_id, token: receipt.token.to_string() }))
}

/// Takes many events: `{"events": [...]}`, or one per line as NDJSON.
#[utoipa::path(post, path = "/api/ingest-batch", tag = "ingest", operation_id = "ingest_batch",
    request_body(description = "the events", content((BatchBody = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "what was accepted is durable and applied", body = BatchReply),
        (status = 400, description = "not a batch, or nothing in it was accepted", body = ErrorBody)))]
pub(super) async fn ingest_batch(State(state): State<AppState>, body: DataBody) -> Result<Json<BatchReply>, ApiError> {
    let reader = state.clone();
    let read = reading(body.bytes.len(), move || read_batch(&reader, &body)).await??;
    answer(&state, read).await
}

/// Makes durable what was read of a batch, and tells what became of it.
pub(super) async fn answer(state: &AppState, read: Read) -> Result<Json<BatchReply>, ApiError> {
    let accepted = read.events.len();
    let receipt = state.backend.ingest(read.events, read.dead_letters).await?;
    if accepted == 0 {
        let mut error = ApiError::new(StatusCode::BAD_REQUEST, "invalid", "no event of the batch was accepted");
        error.rejected = read.rejected;
        return Err(error);
    }
    Ok(Json(BatchReply {
        inserted: receipt.inserted,
        duplicates: receipt.duplicates,
        rejected: read.rejected,
        ids: read.ids,
        token: receipt.token.to_string(),
    }))
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

fn read_batch(state: &AppState, body: &DataBody) -> Result<Read, ApiError> {
    let rows = |bytes| serde_json::from_slice(bytes).map(|batch: Batch<'_>| batch.events);
    let events = split(body.kind, &body.bytes, "events", rows)?;
    between(events.len(), state.config.batch_events_max, "events")?;
    let mut reading = Reading::new(state);
    reading.done = Read::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        reading.read(index, event);
    }
    Ok(reading.done)
}

/// A batch holds something, and not too much.
pub(super) fn between(rows: usize, rows_max: usize, what: &'static str) -> Result<(), ApiError> {
    if rows == 0 {
        return Err(ApiError::invalid_field(what, format!("must hold at least one of the {what}")));
    }
    if rows > rows_max {
        let detail = format!("a batch may have at most {rows_max} {what}, not {rows}");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", detail));
    }
    Ok(())
}

/// Finds the rows of a body without looking into them: in JSON `rows` does, which knows them to lie in `field`.
pub(super) fn split<'a>(
    kind: BodyKind,
    bytes: &'a Bytes,
    field: &'static str,
    rows: impl FnOnce(&'a [u8]) -> serde_json::Result<Vec<&'a RawValue>>,
) -> Result<Vec<&'a [u8]>, ApiError> {
    match kind {
        BodyKind::Ndjson => {
            let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            Ok(lines.filter(|line| !line.is_empty()).collect())
        }
        BodyKind::Json => {
            let rows = rows(bytes).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => {
                    ApiError::invalid_field(field, format!("a body {{\"{field}\": [...]}} is expected: {error}"))
                }
                _ => ApiError::malformed(format!("the body is not JSON: {error}")),
            })?;
            Ok(rows.into_iter().map(|row| row.get().as_bytes()).collect())
        }
    }
}

/// What became of the rows of a body.
#[derive(Debug, Default)]
pub(super) struct Read {
    events: Vec<Event>,
    dead_letters: Vec<DeadLetter>,
    ids: Vec<EcoString>,
    rejected: Vec<RejectedEvent>,
}

impl Read {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { events: Vec::with_capacity(rows), ids: Vec::with_capacity(rows), ..Self::default() }
    }

    pub(super) fn accept(&mut self, event: Event) {
        self.ids.push(event.reference());
        self.events.push(event);
    }

    pub(super) fn refuse(&mut self, index: usize, refusal: &Refusal, letter: DeadLetter) {
        self.rejected.push(RejectedEvent { index, field: refusal.field().into(), detail: refusal.detail().to_string() });
        self.dead_letters.push(letter);
    }
}

struct Reading<'a> {
    validator: std::sync::Arc<Validator>,
    ids: &'a IdMaker,
    now: Micros,
    done: Read,
}

impl<'a> Reading<'a> {
    fn new(state: &'a AppState) -> Self {
        Self { validator: state.backend.validator(), ids: &state.ids, now: time::now_micros(), done: Read::default() }
    }

    fn read(&mut self, index: usize, payload: &[u8]) {
        match self.event(payload) {
            Ok(event) => self.done.accept(event),
            Err((source, refusal)) => {
                let (validator, format) = (&self.validator, Format::Desireline);
                let letter = formats::to_dead_letter(validator, source, format, self.now, "http", refusal.clone(), payload);
                self.done.refuse(index, &refusal, letter);
            }
        }
    }

    fn event(&self, payload: &[u8]) -> Result<Event, (SourceId, Refusal)> {
        let parsed = formats::parse_with_body_source(Format::Desireline, DEFAULT_SOURCE, payload);
        let named = || formats::readable_source(payload).unwrap_or(DEFAULT_SOURCE);
        let mut raw = parsed.map_err(|malformed: Malformed| (named(), malformed.into()))?;
        formats::complete_anonymous(&mut raw, self.now, random_uuid);
        self.validator.validate(&raw, self.now, || self.ids.make(self.now)).map_err(|rejection| {
            let source = if (0..=limits::SOURCE_MAX).contains(&raw.source) { raw.source as SourceId } else { DEFAULT_SOURCE };
            (source, rejection.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(kind: BodyKind, bytes: &Bytes) -> Result<Vec<&[u8]>, ApiError> {
        super::split(kind, bytes, "events", |bytes| serde_json::from_slice(bytes).map(|batch: Batch<'_>| batch.events))
    }

    #[test]
    fn events_are_set_apart_in_both_forms() {
        let json = Bytes::from_static(br#"{"other":1,"events":[{"a":1}, 7 ,"x"],"more":[]}"#);
        assert_eq!(split(BodyKind::Json, &json).expect("a batch"), [&b"{\"a\":1}"[..], b"7", b"\"x\""]);
        let lines = Bytes::from_static(b"{\"a\":1}\r\n\n  \n7");
        assert_eq!(split(BodyKind::Ndjson, &lines).expect("lines"), [&b"{\"a\":1}"[..], b"7"]);
    }

    #[test]
    fn what_is_no_batch_is_told_apart_from_what_is_no_json() {
        let code = |text: &'static str| split(BodyKind::Json, &Bytes::from_static(text.as_bytes())).map(|_| ()).map_err(|e| e.code);
        assert_eq!(code(r#"{"events":{}}"#), Err("invalid"));
        assert_eq!(code(r#"{}"#), Err("invalid"));
        assert_eq!(code(r#"[]"#), Err("invalid"));
        assert_eq!(code(r#"{"events":[1,2"#), Err("malformed"));
        assert_eq!(code(""), Err("malformed"));
    }
}
