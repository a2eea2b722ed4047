//! Formats: from the bytes of one message or row to a [`RawEvent`], or to the reason why they are none.
//!
//! # What it promises
//! - **Pure.** No clock, no randomness, no I/O: the same bytes give the same answer on every machine and at every replay.
//! - **Total.** Every byte string is answered, with an event or with a [`Malformed`] that names the field; none panics. Broken
//!   UTF-8, lone surrogates, repeated keys, numbers beyond every type and nesting without end are all just malformed.
//! - **Exact.** Digits never pass through a float: a value keeps its decimals ([`desireline_records::Fixed4`]) and a time in fractional
//!   seconds keeps its microseconds. Only numbers with an exponent are read as floats.
//! - **Cheap.** Strings are borrowed from the payload unless they contain escapes; nested properties are checked and kept as text.
//!
//! # The formats
//! | name | shape | identity without `event_id` |
//! |---|---|---|
//! | `ampelios` | object with `timestamp,visitorid,event,itemid,transactionid[,value]` | the normalised row, so that a file row and its message are one event |
//! | `clickstream` | flat event, or `{"event":{…},"metadata":{…}}` | its position in the topic, given by the connector |
//! | `desireline` | flat event with `event_id`, `source_id`, `item_id`, `value` | its position in the topic, given by the connector |
//! | `wifi` | object with `mac_address,space_id[,sensor_id],start_time[,end_time]` | device, space and start; see [`wifi`] |
//!
//! Parsing gives names to fields; whether their contents are acceptable is the validator's business. [`complete`] fills in
//! what follows from the time of arrival.
//!
//! # Known limitations
//! - Keys that no format knows are skipped, whatever they hold (inside `properties` they are kept).
//! - A value or time written with an exponent is exact to about 15 digits.

mod ampelios;
mod clickstream;
mod dead;
mod desireline;
mod scalar;
pub mod wifi;

pub use ampelios::AmpeliosRow;
pub(crate) use ampelios::{normalise, push_field};
use clickstream::SESSION_USER_CHARS;
pub(crate) use clickstream::from_properties;
pub use dead::{Kept, Refusal, readable_source, readable_user, to_dead_letter};
pub(crate) use scalar::parse_value;
pub use scalar::{check_properties, parse_time_flexible};

use desireline_records::{Micros, RawEvent, SourceId, time::SECOND};
use ecow::{EcoString, eco_format};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The largest payload that is read, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting accepted inside `properties`.
pub const PROPERTIES_DEPTH_MAX: usize = 64;

/// How the bytes of a source are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Shop rows of five columns; only the words of a movement are accepted.
    Ampelios,
    /// Click events as a browser tracker sends them, flat or enveloped.
    Clickstream,
    /// The JSON of `POST /api/ingest`.
    Desireline,
    /// WiFi sessions, which are no clicks: see [`wifi`].
    Wifi,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Ampelios, Self::Clickstream, Self::Desireline, Self::Wifi];

    /// The name in settings, dead letters and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ampelios => "ampelios",
            Self::Clickstream => "clickstream",
            Self::Desireline => "desireline",
            Self::Wifi => "wifi",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The name is none of [`Format::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown format `{0}`; one of ampelios, clickstream, desireline, wifi is expected")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|f| f.word() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// The bytes are not of the format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{detail}", if field.is_empty() { String::new() } else { format!("{field} ") })]
pub struct Malformed {
    /// The field at fault; empty when the whole payload is.
    pub field: &'static str,
    /// Reads on after the field's name, as in "must be a number".
    pub detail: EcoString,
}

impl Malformed {
    pub fn new(field: &'static str, detail: impl Into<EcoString>) -> Self {
        Self { field, detail: detail.into() }
    }
}

/// Reads one payload of clicks. The event belongs to `default_source`, whatever source the body names.
pub fn parse(format: Format, default_source: SourceId, payload: &[u8]) -> Result<RawEvent<'_>, Malformed> {
    read(format, default_source, payload, false)
}

/// As [`parse`], but a `source_id` in the body wins: for transports whose sender may choose, which is HTTP.
pub fn parse_with_body_source(format: Format, default_source: SourceId, payload: &[u8]) -> Result<RawEvent<'_>, Malformed> {
    read(format, default_source, payload, true)
}

fn read(format: Format, source: SourceId, payload: &[u8], body_source: bool) -> Result<RawEvent<'_>, Malformed> {
    let text = text_of(payload)?;
    let mut raw = match format {
        Format::Ampelios => ampelios::parse(text),
        Format::Clickstream => clickstream::parse(text),
        Format::Desireline => desireline::parse(text),
        Format::Wifi => Err(Malformed::new("", "the payload is a WiFi session, not an event")),
    }?;
    if !body_source || raw.source == NO_SOURCE {
        raw.source = i64::from(source);
    }
    Ok(raw)
}

fn text_of(payload: &[u8]) -> Result<&str, Malformed> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Malformed::new("", eco_format!("the payload is longer than {PAYLOAD_BYTES_MAX} bytes")));
    }
    if payload.is_empty() {
        return Err(Malformed::new("", "the payload is empty"));
    }
    std::str::from_utf8(payload)
        .map_err(|error| Malformed::new("", eco_format!("the payload is not UTF-8 from byte {} on", error.valid_up_to())))
}

/// What the parsers leave in `source` when the body names none. No body can: sources are not negative, and a negative
/// one in a body is refused while parsing.
const NO_SOURCE: i64 = -1;

/// Fills in what follows from the arrival: the time, when the event brings none, and a session id of the form
/// `session_<last six characters of the user id>_<seconds>` when there is a user but no session. Shop rows (`strict_words`)
/// keep having no session id.
///
/// `at` is the time of arrival at the transport: the message's own timestamp in Kafka, the clock for HTTP.
pub fn complete(raw: &mut RawEvent<'_>, at: Micros) {
    let time = *raw.time.get_or_insert(at);
    if !raw.strict_words && raw.session_id.is_empty() && !raw.user.is_empty() {
        let tail = raw.user.char_indices().rev().nth(SESSION_USER_CHARS - 1).map_or(0, |(at, _)| at);
        raw.session_id = format!("session_{}_{}", &raw.user[tail..], time.div_euclid(SECOND)).into();
    }
}

/// As [`complete`]; in addition an event with neither user nor session nor client gets the session id that `anonymous`
/// makes (a random UUID, for HTTP). Elsewhere such an event is refused, since a second delivery must give the same id.
pub fn complete_anonymous(raw: &mut RawEvent<'_>, at: Micros, anonymous: impl FnOnce() -> String) {
    complete(raw, at);
    if raw.user.is_empty() && raw.session_id.is_empty() && raw.client_id.is_empty() && !raw.strict_words {
        raw.session_id = anonymous().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formats_have_one_name_each() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(serde_json::to_string(&format).expect("serialises"), format!("\"{format}\""));
        }
        assert_eq!("csv".parse::<Format>(), Err(UnknownFormat("csv".into())));
    }

    #[test]
    fn what_is_no_object_is_malformed_in_every_format() {
        let deep = "[".repeat(200_000);
        let deep_object = "{\"event\":".repeat(100_000);
        let cases: [&[u8]; 12] =
            [b"", b" ", b"null", b"[]", b"7", b"\"x\"", b"{", b"{}}", b"\xff\xfe", b"{\"a\":NaN}", deep.as_bytes(), deep_object.as_bytes()];
        for format in Format::ALL {
            for payload in cases {
                let error = parse(format, 1, payload).expect_err("malformed");
                assert!(!error.detail.is_empty());
            }
            let array = br#"["c","s","u","/","pageview",{},1700000000,1,2,3,4,5,6,7,8,9]"#;
            assert!(parse(format, 1, array).is_err(), "an array is not read by position");
        }
    }

    #[test]
    fn a_payload_beyond_the_limit_is_refused() {
        let big = format!("{{\"user_id\":\"u\",\"x\":\"{}\"}}", "y".repeat(PAYLOAD_BYTES_MAX));
        assert!(parse(Format::Desireline, 1, big.as_bytes()).expect_err("too long").detail.contains("longer"));
    }

    #[test]
    fn the_body_names_its_source_only_where_it_may() {
        let body = br#"{"user_id":"u","source_id":9}"#;
        assert_eq!(parse(Format::Desireline, 1, body).expect("parses").source, 1);
        assert_eq!(parse_with_body_source(Format::Desireline, 1, body).expect("parses").source, 9);
        assert_eq!(parse_with_body_source(Format::Desireline, 1, br#"{"user_id":"u"}"#).expect("parses").source, 1);
        for bad in
            [&br#"{"user_id":"u","source_id":-1}"#[..], br#"{"user_id":"u","source_id":1.5}"#, br#"{"user_id":"u","source_id":true}"#]
        {
            assert_eq!(parse_with_body_source(Format::Desireline, 1, bad).expect_err("refused").field, "source_id");
        }
    }

    #[test]
    fn a_session_is_made_from_user_and_time() {
        let mut raw = parse(Format::Clickstream, 1, br#"{"user_id":"user-1234567","timestamp":1700000000.9}"#).expect("parses");
        complete(&mut raw, 5);
        assert_eq!((raw.session_id.as_ref(), raw.time), ("session_234567_1700000000", Some(1_700_000_000_900_000)));
        let mut raw = parse(Format::Desireline, 1, "{\"user_id\":\"\u{e9}4\"}".as_bytes()).expect("parses");
        complete(&mut raw, 7_000_000);
        assert_eq!((raw.session_id.as_ref(), raw.time), ("session_\u{e9}4_7", Some(7_000_000)));
        let mut raw = parse(Format::Desireline, 1, br#"{"client_id":"c"}"#).expect("parses");
        complete_anonymous(&mut raw, 0, || "random".into());
        assert_eq!(raw.session_id, "");
        let mut raw = parse(Format::Desireline, 1, br#"{"page":"/"}"#).expect("parses");
        complete(&mut raw, 0);
        assert_eq!(raw.session_id, "", "not without the hook");
        complete_anonymous(&mut raw, 0, || "random".into());
        assert_eq!(raw.session_id, "random");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in Format::ALL {
                let outcome = parse_with_body_source(format, 1, &bytes);
                prop_assert!(outcome.is_ok() || outcome.is_err());
                readable_user(&bytes);
            }
        }

        #[test]
        fn no_object_panics(
            keys in proptest::collection::vec("user_id|visitorid|timestamp|value|event|event_type|properties|_id|source_id|x", 0..6),
            values in proptest::collection::vec(
                "null|true|-?[0-9]{1,25}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?|\"(\\\\u[dD][89a-f][0-9a-f]{2}|[a-z0-9.:T -]|\\\\n|é){0,12}\"|\\{\"total_amount\":(\"x\"|1e999|[0-9.]{1,4})\\}|\\[\\]",
                6,
            ),
        ) {
            let fields: Vec<String> = keys.iter().zip(&values).map(|(k, v)| format!("\"{k}\":{v}")).collect();
            let payload = format!("{{{}}}", fields.join(","));
            for format in Format::ALL {
                if let Ok(mut raw) = parse_with_body_source(format, 1, payload.as_bytes()) {
                    complete_anonymous(&mut raw, 1_700_000_000_000_000, || "r".into());
                    let now = 1_700_000_000_000_000;
                    let outcome = desireline_records::validate::Validator::default().validate(&raw, now, || "id".into());
                    prop_assert!(outcome.is_ok() || outcome.is_err());
                }
                prop_assert!(parse(format, 1, payload.as_bytes()).map(|raw| raw.source == 1).unwrap_or(true));
                readable_user(payload.as_bytes());
            }
        }
    }
}
