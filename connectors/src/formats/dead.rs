//! Dead letters: what is kept of a payload that is no event, and whose it was.
//!
//! The payload is kept as it came, cut at [`limits::DEAD_LETTER_PAYLOAD`] bytes with broken UTF-8 replaced, together with the
//! format by which it can be read again. The user it speaks of is looked for even in payloads that are not JSON any more,
//! since erasing a user must find them: the first of `user_id`, `visitorid`, `session_id`, `client_id` that stands before a
//! string or number.
//!
//! A payload of WiFi sessions is kept as [`super::wifi::kept`] has it: without the device's address, where addresses are replaced.
//!
//! # Known limitations
//! - A payload longer than the limit cannot be replayed.
//! - In broken payloads a user id with escapes is found in its escaped spelling.

use super::{Format, Malformed, wifi};
use desireline_records::validate::{Rejection, Validator};
use desireline_records::{DeadLetter, DeadLetterKind, Micros, SourceId, limits};
use ecow::EcoString;

/// Why a payload was refused: it could not be parsed, or what it says cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed(Malformed),
    Rejected(Rejection),
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl Refusal {
    pub fn kind(&self) -> DeadLetterKind {
        match self {
            Self::Malformed(_) => DeadLetterKind::Malformed,
            Self::Rejected(rejection) => rejection.kind,
        }
    }

    /// Empty when the whole payload is at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.field,
            Self::Rejected(rejection) => rejection.field,
        }
    }

    pub fn detail(&self) -> &EcoString {
        match self {
            Self::Malformed(malformed) => &malformed.detail,
            Self::Rejected(rejection) => &rejection.detail,
        }
    }
}

/// The dead letter of a payload that `validator` or its format refused. `origin` says where it came from: `topic/partition/offset`, `file:line`, `http`.
pub fn to_dead_letter(
    validator: &Validator,
    source: SourceId,
    format: Format,
    at: Micros,
    origin: impl Into<EcoString>,
    refusal: impl Into<Refusal>,
    payload: &[u8],
) -> DeadLetter {
    let refusal = refusal.into();
    let kept = match format {
        Format::Wifi => wifi::kept(validator.wifi.as_ref(), payload),
        _ => Kept { user: readable_user(payload), format: format.word(), payload: cut(payload, limits::DEAD_LETTER_PAYLOAD) },
    };
    DeadLetter {
        source,
        kind: refusal.kind(),
        at,
        user: kept.user,
        field: refusal.field().into(),
        detail: refusal.detail().clone(),
        origin: origin.into(),
        format: kept.format.into(),
        payload: kept.payload,
    }
}

/// What is kept of a payload that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub user: EcoString,
    /// The format by which `payload` can be read again.
    pub format: &'static str,
    pub payload: EcoString,
}

/// The text of `bytes`, at most `limit` bytes of it, whole characters only.
pub(super) fn cut(bytes: &[u8], limit: usize) -> EcoString {
    // A broken byte becomes a character of three: what is left is cut again.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]);
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    EcoString::from(&text[..end])
}

/// The user that a payload speaks of, as far as that can be read; empty otherwise.
pub fn readable_user(payload: &[u8]) -> EcoString {
    let keys = ["\"user_id\"", "\"visitorid\"", "\"session_id\"", "\"client_id\""];
    keys.into_iter().find_map(|key| readable(key, payload)).unwrap_or_default()
}

/// The string or number that stands behind a key, written with its quotes.
pub(super) fn readable(key: &str, payload: &[u8]) -> Option<EcoString> {
    let payload = &payload[..payload.len().min(super::PAYLOAD_BYTES_MAX)];
    memchr::memmem::find_iter(payload, key).find_map(|at| token_after(&payload[at + key.len()..]))
}

/// The source that a payload names, as far as that can be read: under which the dead letter of a sender who may choose is kept,
/// since erasing a user looks there.
pub fn readable_source(payload: &[u8]) -> Option<SourceId> {
    let token = readable("\"source_id\"", payload)?;
    let source = token.parse::<i64>().ok().filter(|source| (0..=limits::SOURCE_MAX).contains(source))?;
    SourceId::try_from(source).ok()
}

/// The string or number after `:`.
fn token_after(rest: &[u8]) -> Option<EcoString> {
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let token = match rest.first()? {
        b'"' => {
            let mut end = 1;
            while *rest.get(end)? != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            match serde_json::from_slice::<String>(&rest[..=end]) {
                Ok(text) => text.into(),
                Err(_) => cut(&rest[1..end], limits::USER),
            }
        }
        b'-' | b'0'..=b'9' => {
            let end = rest.iter().position(|b| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).unwrap_or(rest.len());
            cut(&rest[..end], limits::USER)
        }
        _ => return None,
    };
    let token = cut(token.trim().as_bytes(), limits::USER);
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_found_in_sound_and_broken_payloads() {
        for (payload, user) in [
            (&br#"{"user_id":"u1","client_id":"c"}"#[..], "u1"),
            (br#"{"client_id":"c", "user_id" : 77, "page""#, "77"),
            (br#"{"user_id":null,"session_id":"s","client_id":"c"}"#, "s"),
            (br#"{"user_id":"","client_id":"c"}"#, "c"),
            (br#"{"event":{"user_id":"inner"},"metadata""#, "inner"),
            (br#"{"visitorid":"42 ","timestamp":"x"}"#, "42"),
            (b"{\"user_id\":\"a\xff\",\"page\":", "a\u{fffd}"),
            (br#"{"user_id":"a\"b"}"#, "a\"b"),
            (br#"{"user_id":"unended"#, ""),
            (br#"{"user_id":"unended\"#, ""),
            (br#"{"user_id"#, ""),
            (b"", ""),
        ] {
            assert_eq!(readable_user(payload), user, "{}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn the_source_is_found_in_sound_and_broken_payloads() {
        for (payload, source) in [
            (&br#"{"source_id":2,"value":"much"}"#[..], Some(2)),
            (br#"{"page":1,"source_id" : "7""#, Some(7)),
            (br#"{"source_id":-1}"#, None),
            (br#"{"source_id":2147483648}"#, None),
            (br#"{"source_id":1.5}"#, None),
            (br#"{"source_id":null}"#, None),
            (b"", None),
        ] {
            assert_eq!(readable_source(payload), source, "{}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn payloads_are_cut_at_a_character() {
        let long = format!("{{\"user_id\":\"u\",\"x\":\"{}\"}}", "\u{e9}".repeat(limits::DEAD_LETTER_PAYLOAD));
        let (validator, refusal) = (Validator::default(), Malformed::new("x", "is long"));
        let letter = to_dead_letter(&validator, 3, Format::Clickstream, 5, "t/0/9", refusal, long.as_bytes());
        assert!(letter.payload.len() <= limits::DEAD_LETTER_PAYLOAD && letter.payload.len() > limits::DEAD_LETTER_PAYLOAD - 4);
        assert_eq!((letter.user.as_str(), letter.field.as_str(), letter.detail.as_str()), ("u", "x", "is long"));
        assert_eq!((letter.kind, letter.format.as_str(), letter.origin.as_str()), (DeadLetterKind::Malformed, "clickstream", "t/0/9"));
        let broken = to_dead_letter(&validator, 3, Format::Ampelios, 5, "http", Malformed::new("", "is no UTF-8"), &[0xff; 5_000]);
        assert!(broken.payload.len() <= limits::DEAD_LETTER_PAYLOAD);
    }

    #[test]
    fn a_rejection_keeps_its_kind() {
        let rejection = Rejection { kind: DeadLetterKind::Quarantined, field: "timestamp", detail: "lies ahead".into() };
        let letter = to_dead_letter(&Validator::default(), 1, Format::Desireline, 5, "http", rejection, b"{}");
        assert_eq!((letter.kind, letter.field.as_str(), letter.user.as_str()), (DeadLetterKind::Quarantined, "timestamp", ""));
    }
}
