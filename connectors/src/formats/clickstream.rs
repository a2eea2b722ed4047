//! The format `clickstream`: page events as a browser tracker or a shop's backend forwards them.
//!
//! Two shapes are read, told apart by an `event` that is an object:
//!
//! ```json
//! {"client_id":"c1","session_id":"s1","user_id":"u1","page":"/p/1","event_type":"pageview","properties":{},"timestamp":1700000000.25}
//! {"event":{"_id":"65f0…","client_id":"c1", "occurred_at":"2023-11-14T22:13:20Z"},"metadata":{"version":"2.0"}}
//! ```
//!
//! Reading is lenient: every field may be absent, ids may be numbers, any event word will do, and `event_type` defaults to
//! `pageview`. Times are seconds with a fraction, milliseconds when above 10^11, or RFC 3339; `occurred_at` is used when
//! there is no `timestamp`. `_id` (a string, or `{"$oid": …}`) is the event's id when there is no `event_id`. A value that is
//! not given is taken from `properties.total_amount`, an item from `properties.product_id`.
//!
//! # Known limitations
//! - A `total_amount` that is no number, or a `product_id` that is neither text nor number, counts as absent: properties are
//!   free-form, and the event itself is sound.
//! - `total_amount` is taken for every event word; it counts as revenue only when the word stands for a transaction.

use super::scalar::{self, object};
use super::{Malformed, NO_SOURCE};
use desireline_records::RawEvent;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How many characters of the user id a made-up session id ends with.
pub(crate) const SESSION_USER_CHARS: usize = 6;

/// A flat event: the union of what `clickstream` and `desireline` know.
#[derive(Deserialize)]
pub(super) struct Flat<'a> {
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    page: Option<&'a RawValue>,
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    occurred_at: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "_id")]
    document_id: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    transaction_id: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    source_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

pub(super) fn parse(text: &str) -> Result<RawEvent<'_>, Malformed> {
    let flat: Flat<'_> = object("", text)?;
    match flat.event {
        Some(inner) if inner.get().starts_with('{') => object::<Flat<'_>>("event", inner.get())?.into_raw(),
        _ => flat.into_raw(),
    }
}

impl<'a> Flat<'a> {
    pub(super) fn into_raw(self) -> Result<RawEvent<'a>, Malformed> {
        let mut time = scalar::flexible_time("timestamp", self.timestamp)?;
        if time.is_none() {
            time = scalar::flexible_time("occurred_at", self.occurred_at)?;
        }
        let mut event_id = scalar::text("event_id", self.event_id)?;
        if event_id.is_empty() {
            event_id = document_id(self.document_id)?;
        }
        let mut raw = RawEvent {
            source: source_id(self.source_id)?,
            time,
            user: scalar::text("user_id", self.user_id)?,
            session_id: scalar::text("session_id", self.session_id)?,
            client_id: scalar::text("client_id", self.client_id)?,
            event_type: scalar::optional_text("event_type", self.event_type)?.unwrap_or(Cow::Borrowed("pageview")),
            page: scalar::text("page", self.page)?,
            item: scalar::text("item_id", self.item_id)?,
            transaction_id: scalar::text("transaction_id", self.transaction_id)?,
            event_id,
            value: scalar::value("value", self.value)?,
            properties: scalar::check_properties(self.properties.map_or("", RawValue::get))?.into(),
            derived_id: None,
            strict_words: false,
        };
        from_properties(&mut raw)?;
        Ok(raw)
    }
}

fn source_id(raw: Option<&RawValue>) -> Result<i64, Malformed> {
    const FIELD: &str = "source_id";
    let text = scalar::text(FIELD, raw)?;
    if text.is_empty() {
        return Ok(NO_SOURCE);
    }
    match text.parse::<i64>() {
        Ok(id) if id >= 0 => Ok(id),
        _ => Err(Malformed::new(FIELD, "must be a whole number, not negative")),
    }
}

/// A document store prints its ids as text or as `{"$oid": text}`.
fn document_id(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Malformed> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow, rename = "$oid")]
        id: &'a RawValue,
    }
    match raw {
        Some(token) if token.get().starts_with('{') => scalar::text("_id", Some(object::<Wrapped<'_>>("_id", token.get())?.id)),
        _ => scalar::text("_id", raw),
    }
}

/// Fills item and value from the properties where they are absent.
pub(crate) fn from_properties(raw: &mut RawEvent<'_>) -> Result<(), Malformed> {
    #[derive(Deserialize)]
    struct Known<'a> {
        #[serde(borrow)]
        total_amount: Option<&'a RawValue>,
        #[serde(borrow)]
        product_id: Option<&'a RawValue>,
    }
    let bytes = raw.properties.as_bytes();
    let needed = |name: &str| memchr::memmem::find(bytes, name.as_bytes()).is_some();
    let wanted = (raw.value.is_none() && needed("total_amount")) || (raw.item.is_empty() && needed("product_id"));
    if !wanted {
        return Ok(());
    }
    let known: Known<'_> = object("properties", &raw.properties)?;
    let value = known.total_amount.and_then(|token| scalar::value("total_amount", Some(token)).ok().flatten());
    let item = scalar::text("product_id", known.product_id).map(Cow::into_owned).unwrap_or_default();
    raw.value = raw.value.or(value);
    if raw.item.is_empty() {
        raw.item = item.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Format, parse};
    use super::*;
    use desireline_records::Fixed4;

    fn read(payload: &str) -> RawEvent<'_> {
        parse(Format::Clickstream, 1, payload.as_bytes()).expect(payload)
    }

    const FLAT: &str = r#"{"client_id":"c1","session_id":"s1","user_id":"u1","page":"/cart","event_type":"purchase",
        "properties":{"total_amount":59.99,"product_id":"p7","items":[{"a":1}]},"timestamp":1700000000.25}"#;

    #[test]
    fn a_flat_event() {
        let raw = read(FLAT);
        assert_eq!((raw.client_id.as_ref(), raw.session_id.as_ref(), raw.user.as_ref()), ("c1", "s1", "u1"));
        assert_eq!((raw.page.as_ref(), raw.event_type.as_ref(), raw.time), ("/cart", "purchase", Some(1_700_000_000_250_000)));
        assert_eq!((raw.value, raw.item.as_ref()), (Some(Fixed4(599_900)), "p7"));
        assert_eq!(raw.properties, r#"{"total_amount":59.99,"product_id":"p7","items":[{"a":1}]}"#);
        assert!(matches!(raw.page, Cow::Borrowed(_)) && matches!(raw.properties, Cow::Borrowed(_)));
        assert_eq!((raw.derived_id, raw.strict_words), (None, false));
    }

    #[test]
    fn an_enveloped_event_reads_like_its_inside() {
        let enveloped = format!(r#"{{"metadata":{{"version":"2.0"}},"event":{FLAT}}}"#);
        assert_eq!(read(&enveloped), read(FLAT));
        let raw = read(r#"{"event":{"_id":"65f","user_id":7,"occurred_at":"2023-11-14T22:13:20Z"},"metadata":{}}"#);
        assert_eq!((raw.event_id.as_ref(), raw.user.as_ref(), raw.time), ("65f", "7", Some(1_700_000_000_000_000)));
        assert_eq!(read(r#"{"event":{"_id":{"$oid":"abc"}}}"#).event_id, "abc");
    }

    #[test]
    fn everything_has_a_default() {
        let raw = read("{}");
        assert_eq!((raw.event_type.as_ref(), raw.time, raw.properties.as_ref()), ("pageview", None, ""));
        assert_eq!(read(r#"{"event_type":null,"properties":null,"user_id":null}"#), raw);
    }

    #[test]
    fn given_values_win_over_properties() {
        let raw = read(r#"{"value":"1.5","item_id":9,"properties":{"total_amount":2,"product_id":"p"}}"#);
        assert_eq!((raw.value, raw.item.as_ref()), (Some(Fixed4(15_000)), "9"));
        let raw = read(r#"{"properties":{"total_amount":"much","product_id":["p"]}}"#);
        assert_eq!((raw.value, raw.item.as_ref()), (None, ""));
        let raw = read(r#"{"properties":{"product_id":"a\"b"}}"#);
        assert_eq!(raw.item, "a\"b");
    }

    #[test]
    fn escapes_are_decoded_and_halves_refused() {
        assert_eq!(read(r#"{"page":"\/p\u00e9\ud83d\ude00"}"#).page, "/p\u{e9}\u{1f600}");
        for (field, payload) in [
            ("page", r#"{"page":"\ud83d"}"#),
            ("page", r#"{"page":["/"]}"#),
            ("user_id", r#"{"user_id":{"a":1}}"#),
            ("properties", r#"{"properties":[1]}"#),
            ("properties", r#"{"properties":{"product_id":1,"product_id":2}}"#),
            ("timestamp", r#"{"timestamp":"tomorrow"}"#),
            ("timestamp", r#"{"timestamp":false}"#),
            ("event", r#"{"event":{"page":1,"page":2}}"#),
            ("", r#"{"page":1,"page":2}"#),
            ("", "{\"page\":\"a\nb\"}"),
        ] {
            assert_eq!(parse(Format::Clickstream, 1, payload.as_bytes()).expect_err(payload).field, field, "{payload}");
        }
    }
}
