//! What a shop's users do: `POST /api/event`.
//!
//! The answer comes when the event is durable in the log; the views, and the projections after them, follow by themselves. If contexts
//! are kept in Redis, the answer waits up to `projection.redis.wait_ms` for Redis to have them, so that whoever reads the keys next
//! sees the event. A Redis that is slow or away is a warning in the log and a number in the metrics, never an error; Postgres is
//! never waited for.
//!
//! An interaction is an event of the source `interactions.source_id` like any other: it makes sessions, journeys and minutes. Which of the
//! words are views, carts and transactions is the setting of words; `click` and `rate` move nothing by default. Its value, if it is a
//! purchase, is `metadata.value`, else `metadata.price` times `metadata.quantity` (1 when absent); its page is `metadata.page`. What
//! cannot be read there is no mistake: metadata belong to the client.
//!
//! With `unknown = "reject"` an event of an item or a user that the catalog does not know becomes a dead letter in the format
//! `desireline`, so that it can be replayed when they are known, and the client is answered as always.
//!
//! Cost: the body is read once, in place; what is allocated is the event itself and its id.
//!
//! Known limitations: a second request with the same key comes at another time, so it is counted as a conflict, too. The dead letter of
//! an event with more than about 4,000 bytes of metadata cannot be replayed.

use super::AppState;
use super::body::JsonBody;
use super::error::{ApiError, FieldError};
use super::fields::{Fields, Mistake, unreadable};
use super::interaction_body::InteractionBody;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use desireline_connectors::formats::{Format, parse_time_flexible};
use desireline_records::validate::{Rejection, Validator};
use desireline_records::{DeadLetter, DeadLetterKind, Event, Fixed4, Micros, RawEvent, limits, time};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The words of an interaction and what is said of each.
pub(super) const WORDS: [(&str, &str); 5] = [
    ("view", "Event logged: view"),
    ("click", "Event logged: click"),
    ("add_to_cart", "Event logged: add_to_cart"),
    ("purchase", "Event logged: purchase"),
    ("rate", "Event logged: rate"),
];

/// The name of the projection whose keys are written before the answer.
const REDIS: &str = "redis";

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct InteractionReply {
    /// Always true: the event is durable.
    success: bool,
    /// `Event logged: <event_type>`.
    message: Cow<'static, str>,
    /// The id that was given or made.
    #[schema(value_type = String)]
    event_id: EcoString,
    /// For `at_least` in queries.
    token: String,
}

/// The header `Idempotency-Key`; the same as `event_id` in the body, which wins.
pub(super) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let is_visible = |key: &&str| key.bytes().all(|b| (b' '..=b'~').contains(&b));
        match value.to_str().ok().map(str::trim).filter(is_visible).filter(|key| event_id_fault(key).is_none()) {
            Some("") => Ok(Self(None)),
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => {
                let detail = format!("must be at most {} visible ASCII characters and not begin with `~`", limits::EVENT_ID);
                Err(ApiError::invalid_field("idempotency-key", detail))
            }
        }
    }
}

/// Takes one thing that a user did with an item.
#[utoipa::path(post, path = "/api/event", tag = "shop", request_body = InteractionBody, operation_id = "event",
    params(("idempotency-key" = Option<String>, Header, max_length = 256, pattern = "^([!-}][ -~]*)?$",
        description = "the same as `event_id`, which wins: the same key of the same user counts once")),
    responses((status = 200, description = "durable; the views follow, and Redis usually has it already", body = InteractionReply)))]
pub(super) async fn event(
    State(state): State<AppState>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(bytes): JsonBody,
) -> Result<Json<InteractionReply>, ApiError> {
    let interaction = Interaction::read(&bytes, key.as_deref()).map_err(|fault| match fault {
        Fault::Unreadable(error) => unreadable(&error),
        Fault::Mistakes(mistakes) => {
            ApiError::invalid(mistakes.into_iter().map(|(field, detail)| FieldError::new(field, detail)).collect())
        }
    })?;
    let settings = &state.config.interactions;
    let now = time::now_micros();
    let event = interaction
        .event(&state.backend.validator(), i64::from(settings.source), settings.event_time, now, || state.ids.make(now))
        .map_err(|rejection| ApiError::invalid_field(rejection.field, rejection.detail))?;
    let event_id = event.reference();
    let unknown = if settings.reject_unknown { unknown(&state, &interaction) } else { None };
    let token = match unknown {
        None => state.backend.take(vec![event], Vec::new()).await?,
        Some(field) => state.backend.take(Vec::new(), vec![dead_letter(&event, field, now)]).await?,
    };
    if let Some(wait) = settings.redis_wait
        && !state.followers.wait_passed(REDIS, token, wait).await
    {
        state.metrics.redis_is_behind();
    }
    Ok(Json(InteractionReply { success: true, message: interaction.message.into(), event_id, token: token.to_string() }))
}

/// The field of an interaction that the catalog does not know.
fn unknown(state: &AppState, interaction: &Interaction<'_>) -> Option<&'static str> {
    let (mut item, mut user) = (false, false);
    state.backend.read_catalog(&mut |catalog| {
        item = catalog.item(&interaction.asin).is_some();
        user = catalog.person(interaction.user_id).is_some();
    });
    if !item { Some("asin") } else { (!user).then_some("user_id") }
}

/// A body, read but for what its metadata mean.
#[derive(Debug)]
struct Interaction<'a> {
    user_id: i64,
    asin: Cow<'a, str>,
    event_type: &'static str,
    message: &'static str,
    /// An object that is not empty.
    metadata: Option<&'a str>,
    event_id: Option<Cow<'a, str>>,
}

#[derive(Debug)]
enum Fault {
    Unreadable(serde_json::Error),
    Mistakes(Vec<Mistake>),
}

impl<'a> Interaction<'a> {
    fn read(body: &'a [u8], key: Option<&'a str>) -> Result<Self, Fault> {
        let mut fields = Fields::read(body).map_err(Fault::Unreadable)?;
        let user_id = fields.integer("user_id", i64::MIN, i64::MAX);
        let user_id = fields.require("user_id", user_id);
        let asin = fields.text("asin", limits::ITEM);
        let asin = fields.require("asin", asin);
        let word = fields.text("event_type", limits::PROPERTIES);
        let word = fields.require("event_type", word);
        let known = word.as_deref().and_then(|word| WORDS.iter().find(|(known, _)| *known == word));
        if word.is_some() && known.is_none() {
            fields.note("event_type", "must be one of view, click, add_to_cart, purchase, rate");
        }
        let metadata = fields.object("metadata");
        let event_id = fields.text("event_id", limits::EVENT_ID);
        if let Some(fault) = event_id.as_deref().and_then(event_id_fault) {
            fields.note("event_id", fault);
        }
        fields.finish().map_err(Fault::Mistakes)?;
        let (event_type, message) = known.copied().unwrap_or(WORDS[0]);
        Ok(Self {
            user_id: user_id.unwrap_or_default(),
            asin: asin.unwrap_or_default(),
            event_type,
            message,
            metadata,
            event_id: event_id.or(key.map(Cow::Borrowed)),
        })
    }

    fn event(
        &self,
        validator: &Validator,
        source: i64,
        event_time: bool,
        now: Micros,
        unique_id: impl Fn() -> EcoString,
    ) -> Result<Event, Rejection> {
        // Metadata are the client's own: what cannot be read of them is not there.
        let known: Known<'_> = self.metadata.and_then(|metadata| serde_json::from_str(metadata).ok()).unwrap_or_default();
        let claimed = if event_time { known.time() } else { None };
        let mut raw = RawEvent {
            source,
            time: Some(claimed.unwrap_or(now)),
            user: Cow::Owned(self.user_id.to_string()),
            event_type: Cow::Borrowed(self.event_type),
            page: known.page(),
            item: Cow::Borrowed(&self.asin),
            event_id: Cow::Borrowed(self.event_id.as_deref().unwrap_or_default()),
            value: if self.event_type == "purchase" { known.value() } else { None },
            properties: Cow::Borrowed(self.metadata.unwrap_or_default()),
            ..RawEvent::default()
        };
        match validator.validate(&raw, now, &unique_id) {
            Err(_) if claimed.is_some() => {
                raw.time = Some(now);
                validator.validate(&raw, now, unique_id)
            }
            outcome => outcome,
        }
    }
}

/// Why a text is no id of an event.
fn event_id_fault(id: &str) -> Option<&'static str> {
    if id.len() > limits::EVENT_ID {
        return Some("is longer than 256 bytes");
    }
    id.starts_with(desireline_records::ids::DERIVED_PREFIX).then_some("must not start with `~`")
}

/// The metadata that mean something to the server.
#[derive(Debug, Default, Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    page: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
}

impl<'a> Known<'a> {
    fn page(&self) -> Cow<'a, str> {
        let page: Option<Cow<'a, str>> = self.page.and_then(|page| {
            let token = page.get();
            match token.strip_prefix('"')?.strip_suffix('"')? {
                plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
                _ => serde_json::from_str(token).ok().map(Cow::Owned),
            }
        });
        page.filter(|page| page.len() <= limits::PAGE && !page.contains('\0')).unwrap_or_default()
    }

    fn time(&self) -> Option<Micros> {
        let token = self.timestamp?.get();
        let text: Cow<'_, str> = if token.starts_with('"') { serde_json::from_str(token).ok()? } else { Cow::Borrowed(token) };
        parse_time_flexible("timestamp", &text).ok().flatten()
    }

    fn value(&self) -> Option<Fixed4> {
        let value = decimal(self.value).map(|value| i128::from(value.0)).or_else(|| {
            let (price, quantity) = (decimal(self.price)?, decimal(self.quantity).unwrap_or(Fixed4(10_000)));
            let product = i128::from(price.0) * i128::from(quantity.0);
            Some((product + product.signum() * 5_000) / 10_000)
        })?;
        i64::try_from(value).ok().filter(|value| value.unsigned_abs() <= limits::VALUE_MAX.unsigned_abs()).map(Fixed4)
    }
}

/// A number, or a string that holds one.
fn decimal(value: Option<&RawValue>) -> Option<Fixed4> {
    let token = value?.get();
    token.strip_prefix('"').and_then(|token| token.strip_suffix('"')).unwrap_or(token).parse().ok()
}

/// The event as a body of `POST /api/ingest`.
#[derive(Serialize)]
struct Payload<'a> {
    event_id: EcoString,
    source_id: u32,
    user_id: &'a str,
    event_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    page: &'a str,
    item_id: &'a str,
    value: String,
    /// Decimal seconds: the time to the microsecond.
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a RawValue>,
}

fn dead_letter(event: &Event, field: &'static str, now: Micros) -> DeadLetter {
    let properties = event.extra.as_deref().map(|extra| extra.properties.as_str()).filter(|text| !text.is_empty());
    let payload = Payload {
        event_id: event.reference(),
        source_id: event.source,
        user_id: &event.user,
        event_type: &event.event_type,
        page: &event.page,
        item_id: &event.item,
        value: event.value.to_string(),
        timestamp: format!("{}.{:06}", event.time / time::SECOND, event.time % time::SECOND),
        properties: properties.and_then(|text| serde_json::from_str(text).ok()),
    };
    let payload = serde_json::to_string(&payload).unwrap_or_default();
    let cut = payload.floor_char_boundary(limits::DEAD_LETTER_PAYLOAD);
    DeadLetter {
        source: event.source,
        kind: DeadLetterKind::Invalid,
        at: now,
        user: event.user.clone(),
        field: field.into(),
        detail: if field == "asin" { "the catalog has no such item" } else { "the catalog has no such user" }.into(),
        origin: "http".into(),
        format: Format::Desireline.word().into(),
        payload: payload[..cut].into(),
    }
}
