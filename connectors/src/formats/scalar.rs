//! Single values: how text, numbers and times are read out of JSON tokens and CSV cells, without a detour over floats.

use super::{Malformed, PROPERTIES_DEPTH_MAX};
use desireline_records::{Fixed4, Micros, time};
use ecow::eco_format;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Seconds since 1970 above this are taken to be milliseconds (as seconds it would be the year 5138).
const SECONDS_MAX: Micros = 100_000_000_000 * time::SECOND;

/// Reads an object into a struct; arrays, which serde would read by position, are refused.
pub(super) fn object<'a, T: Deserialize<'a>>(field: &'static str, text: &'a str) -> Result<T, Malformed> {
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Malformed::new(field, if field.is_empty() { "the payload is not a JSON object" } else { "must be a JSON object" }));
    }
    serde_json::from_str(text).map_err(|error| Malformed::new(field, eco_format!("is not readable as JSON: {error}")))
}

/// A string, or the digits of a number; absent and null are empty.
pub(super) fn text<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, Malformed> {
    let Some(raw) = raw else { return Ok(Cow::Borrowed("")) };
    let token = raw.get();
    match token.as_bytes().first() {
        Some(b'"') => string(field, token),
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(token)),
        _ => Err(Malformed::new(field, "must be a string or a number")),
    }
}

/// As [`text`], for fields whose emptiness and absence differ.
pub(super) fn optional_text<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Malformed> {
    raw.map(|_| text(field, raw)).transpose()
}

fn string<'a>(field: &'static str, token: &'a str) -> Result<Cow<'a, str>, Malformed> {
    let inner = &token[1..token.len() - 1];
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    let owned: String =
        serde_json::from_str(token).map_err(|error| Malformed::new(field, eco_format!("is not a readable string: {error}")))?;
    Ok(Cow::Owned(owned))
}

/// A decimal number or the text of one; empty text is absent.
pub(crate) fn parse_value(field: &'static str, text: &str) -> Result<Option<Fixed4>, Malformed> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|()| Malformed::new(field, "must be a decimal number of at most 14 digits before the point"))
}

pub(super) fn value(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Fixed4>, Malformed> {
    parse_value(field, &text(field, raw)?)
}

/// Seconds since 1970 with or without a fraction, milliseconds when the number is too large for seconds, or RFC 3339.
pub fn parse_time_flexible(field: &'static str, text: &str) -> Result<Option<Micros>, Malformed> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = match parse_scaled(text, 6) {
        Some(micros) if micros <= SECONDS_MAX => return Ok(Some(micros)),
        Some(_) => None,
        None => time::parse_time(text),
    };
    seconds
        .or_else(|| parse_scaled(text, 3))
        .map(Some)
        .ok_or_else(|| Malformed::new(field, "must be seconds or milliseconds since 1970, or a time as in RFC 3339"))
}

pub(super) fn flexible_time(field: &'static str, raw: Option<&RawValue>) -> Result<Option<Micros>, Malformed> {
    parse_time_flexible(field, &text(field, raw)?)
}

/// The number times ten to the power of `decimals`, rounded half away from zero; `None` when it is no number or does not fit.
pub(crate) fn parse_scaled(text: &str, decimals: u32) -> Option<i64> {
    let bytes = text.as_bytes();
    if !bytes.is_empty() && bytes.len() <= 12 && bytes.iter().all(u8::is_ascii_digit) {
        let whole = bytes.iter().fold(0i64, |sum, b| sum * 10 + i64::from(b - b'0'));
        return whole.checked_mul(10i64.pow(decimals));
    }
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return parse_scientific(text, decimals);
    }
    let mut sum = 0i64;
    for b in whole.bytes() {
        sum = sum.checked_mul(10)?.checked_add(i64::from(b - b'0'))?;
    }
    let mut rest = fraction.bytes();
    for _ in 0..decimals {
        sum = sum.checked_mul(10)?.checked_add(rest.next().map_or(0, |b| i64::from(b - b'0')))?;
    }
    if rest.next().is_some_and(|b| b >= b'5') {
        sum = sum.checked_add(1)?;
    }
    Some(if negative { -sum } else { sum })
}

fn parse_scientific(text: &str, decimals: u32) -> Option<i64> {
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return None; // `nan`, `inf` and other words that a float would accept.
    }
    let scaled = (text.parse::<f64>().ok()? * 10f64.powi(decimals as i32)).round();
    (scaled.is_finite() && scaled.abs() < 9.0e18).then_some(scaled as i64)
}

/// A JSON object as text, checked as deeply as a reader of it will look; `{}` and null are empty.
pub fn check_properties(text: &str) -> Result<&str, Malformed> {
    const FIELD: &str = "properties";
    let text = text.trim();
    if text.is_empty() || text == "null" || text == "{}" {
        return Ok("");
    }
    if !text.starts_with('{') {
        return Err(Malformed::new(FIELD, "must be a JSON object"));
    }
    if depth(text) > PROPERTIES_DEPTH_MAX {
        return Err(Malformed::new(FIELD, eco_format!("is nested deeper than {PROPERTIES_DEPTH_MAX} levels")));
    }
    // An escape can spell half of a surrogate pair, which only decoding notices.
    if memchr::memmem::find(text.as_bytes(), b"\\u").is_some() {
        serde_json::from_str::<serde_json::Value>(text)
            .map_err(|error| Malformed::new(FIELD, eco_format!("is not readable as JSON: {error}")))?;
    }
    Ok(text)
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for b in text.bytes() {
        if in_string {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match b {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_exact() {
        for (text, decimals, expected) in [
            ("1433221332117", 3, Some(1_433_221_332_117_000)),
            ("1700000000.123456", 6, Some(1_700_000_000_123_456)),
            ("1700000000.1234565", 6, Some(1_700_000_000_123_457)),
            ("-1.5", 3, Some(-1_500)),
            (".5", 1, Some(5)),
            ("5.", 1, Some(50)),
            ("1e3", 3, Some(1_000_000)),
            ("", 3, None),
            ("-", 3, None),
            (".", 3, None),
            ("nan", 3, None),
            ("inf", 3, None),
            ("1e300", 3, None),
            ("99999999999999999999", 3, None),
            ("12x", 3, None),
            ("\u{661}", 3, None),
        ] {
            assert_eq!(parse_scaled(text, decimals), expected, "{text}");
        }
    }

    #[test]
    fn times_come_in_three_spellings() {
        let at = Some(1_700_000_000_500_000);
        for text in ["1700000000.5", "1700000000500", " 1700000000.5 ", "2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20.500"] {
            assert_eq!(parse_time_flexible("timestamp", text), Ok(at), "{text}");
        }
        assert_eq!(parse_time_flexible("timestamp", "100000000000"), Ok(Some(100_000_000_000_000_000)), "still seconds");
        assert_eq!(parse_time_flexible("timestamp", "100000000001"), Ok(Some(100_000_000_001_000)), "milliseconds");
        assert_eq!(parse_time_flexible("timestamp", ""), Ok(None));
        for text in ["soon", "99999999999999999999999", "-"] {
            assert_eq!(parse_time_flexible("timestamp", text).expect_err(text).field, "timestamp");
        }
    }

    #[test]
    fn properties_are_objects_of_bounded_depth() {
        assert_eq!(check_properties("{}"), Ok(""));
        assert_eq!(check_properties(r#"{"a":"[[[["}"#), Ok(r#"{"a":"[[[["}"#));
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(check_properties(&nested(PROPERTIES_DEPTH_MAX)).is_ok());
        for bad in [nested(PROPERTIES_DEPTH_MAX + 1), "[]".into(), "7".into(), r#"{"a":"\ud800"}"#.into()] {
            assert_eq!(check_properties(&bad).expect_err("refused").field, "properties");
        }
        assert!(check_properties(r#"{"a":"\ud83d\ude00"}"#).is_ok(), "a whole pair");
    }
}
