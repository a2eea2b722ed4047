//! Query parameters and path segments: read by name, all mistakes reported at once.
//!
//! Unknown parameters are ignored, so that a client's cache buster or a parameter of a later release does no harm; a
//! known one that is given twice is a mistake. An empty value means absent, as HTML forms send it.

use super::error::{ApiError, FieldError};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use desireline_records::{Micros, SourceId, Token, limits, time};
use std::fmt::Display;
use std::str::FromStr;

/// The parameters of one request. Getters note mistakes; [`Params::finish`] reports them.
#[derive(Debug, Default)]
pub struct Params {
    query: Vec<(String, String)>,
    path: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

/// Longest value of a parameter, in bytes; longer than every id and cursor.
const VALUE_BYTES_MAX: usize = 4_096;

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|e| ApiError::malformed(e.body_text()))?;
        let mut params = Self::from_query(parts.uri.query().unwrap_or_default());
        params.path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(params)
    }
}

impl Params {
    pub fn from_query(query: &str) -> Self {
        let query = url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Self { query, ..Self::default() }
    }

    fn note(&mut self, field: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(field, detail));
    }

    /// The value as text; absent when missing or empty.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.query.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
        let value = values.next()?.clone();
        if values.next().is_some() {
            self.note(name, "is given twice");
            return None;
        }
        if value.len() > VALUE_BYTES_MAX {
            self.note(name, format!("is longer than {VALUE_BYTES_MAX} bytes"));
            return None;
        }
        if value.contains('\0') {
            self.note(name, "contains a NUL character");
            return None;
        }
        (!value.is_empty()).then_some(value)
    }

    fn read<T>(&mut self, name: &'static str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.note(name, expected);
        }
        value
    }

    pub fn require<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.errors.iter().any(|e| e.field == name) {
            self.note(name, "is required");
        }
        value
    }

    /// A whole number in `min..=max`.
    pub fn integer<T: FromStr + PartialOrd + Display + Copy>(&mut self, name: &'static str, min: T, max: T) -> Option<T> {
        let expected = format!("must be an integer between {min} and {max}");
        self.read(name, &expected, |text| canonical_integer(text)?.parse().ok().filter(|n| *n >= min && *n <= max))
    }

    /// Integers of a parameter that is given once for each; absent when it is not given at all.
    pub fn integers(&mut self, name: &'static str, count_max: usize) -> Option<Vec<i64>> {
        let values = self.query.iter().filter(|(n, value)| n == name && !value.is_empty());
        let numbers: Option<Vec<i64>> = values.map(|(_, value)| canonical_integer(value)?.parse().ok()).collect();
        match numbers {
            Some(numbers) if numbers.len() > count_max => self.note(name, format!("is given more than {count_max} times")),
            Some(numbers) => return (!numbers.is_empty()).then_some(numbers),
            None => self.note(name, "must be an integer of 64 bits, once for each"),
        }
        None
    }

    pub fn source(&mut self) -> Option<SourceId> {
        self.integer::<i64>("source_id", 0, limits::SOURCE_MAX).and_then(|id| SourceId::try_from(id).ok())
    }

    /// `true` or `false`, also `1` or `0`.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "must be true or false", |text| match text {
            "true" | "True" | "1" => Some(true),
            "false" | "False" | "0" => Some(false),
            _ => None,
        })
    }

    /// RFC 3339, a time without zone (UTC), or a date.
    pub fn time(&mut self, name: &'static str) -> Option<Micros> {
        // In a query string an unescaped `+` reads as a space; a zone offset is meant.
        self.read(name, "must be a time like 2026-01-31T12:00:00Z", |text| {
            time::parse_time(&text.replacen(' ', "+", 1)).or_else(|| time::parse_time(text))
        })
    }

    pub fn at_least(&mut self) -> Option<Token> {
        self.read("at_least", "must be a token from an ingest reply", |text| text.parse().ok())
    }

    /// One of some words.
    pub fn word<T>(&mut self, name: &'static str, words: &[&str], read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let expected = format!("must be one of {}", words.join(", "));
        self.read(name, &expected, read)
    }

    /// At least 1; above `max` it is lowered to it.
    pub fn limit(&mut self, default: usize, max: usize) -> usize {
        let read = |text: &str| {
            let digits = canonical_integer(text)?;
            if digits.starts_with('-') || digits == "0" {
                return None;
            }
            Some(digits.parse::<usize>().unwrap_or(usize::MAX))
        };
        self.read("limit", "must be an integer of at least 1", read).unwrap_or(default).min(max)
    }

    /// A path segment, which the route guarantees to be there.
    pub fn segment(&mut self, name: &'static str, bytes_max: usize) -> String {
        let value = self.path.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default();
        if value.is_empty() || value.len() > bytes_max || value.contains('\0') {
            self.note(name, format!("must be 1 to {bytes_max} bytes long, without NUL characters"));
        }
        value
    }

    pub fn source_segment(&mut self) -> SourceId {
        let text = self.path.iter().find(|(n, _)| n == "source_id").map(|(_, value)| value.as_str()).unwrap_or_default();
        let id = canonical_integer(text).and_then(|digits| digits.parse::<i64>().ok()).filter(|id| (0..=limits::SOURCE_MAX).contains(id));
        if id.is_none() {
            self.note("source_id", format!("must be an integer between 0 and {}", limits::SOURCE_MAX));
        }
        id.and_then(|id| SourceId::try_from(id).ok()).unwrap_or_default()
    }

    /// A path segment that is an integer of 64 bits.
    pub fn integer_segment(&mut self, name: &'static str) -> i64 {
        let text = self.path.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default();
        let number = canonical_integer(text).and_then(|digits| digits.parse().ok());
        if number.is_none() {
            self.note(name, "must be an integer of 64 bits");
        }
        number.unwrap_or_default()
    }

    /// A mistake that only the handler can see.
    pub fn mistake(&mut self, field: &'static str, detail: impl Into<String>) {
        self.note(field, detail);
    }

    pub fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.errors)) }
    }
}

/// Digits with an optional minus; leading zeros and a plus sign are not numbers of JSON and not of ours.
fn canonical_integer(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    (canonical && text != "-0").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_reported_at_once_with_their_fields() {
        let mut params = Params::from_query("source_id=x&verbose=maybe&at_least=zzz&from=yesterday&limit=0&a=1&a=2");
        assert_eq!(params.source(), None);
        assert_eq!(params.flag("verbose"), None);
        assert_eq!(params.at_least(), None);
        assert_eq!(params.time("from"), None);
        assert_eq!(params.limit(20, 100), 20);
        assert_eq!(params.text("a"), None);
        let missing = params.text("user_id");
        params.require("user_id", missing);
        let error = params.finish().expect_err("mistakes");
        let fields: Vec<&str> = error.errors.iter().map(|e| e.field.as_ref()).collect();
        assert_eq!(fields, ["source_id", "verbose", "at_least", "from", "limit", "a", "user_id"]);
        assert_eq!(error.status, 400);
    }

    #[test]
    fn good_values_are_read() {
        let query =
            "source_id=2147483647&verbose=true&at_least=d1-0-ff&from=1970-01-02&to=1970-01-01T01:00:00%2B01:00&limit=99999999999999999999";
        let mut params = Params::from_query(query);
        assert_eq!(params.source(), Some(i32::MAX as u32));
        assert_eq!(params.flag("verbose"), Some(true));
        assert_eq!(params.at_least(), Some(Token { shard: 0, time: 255 }));
        assert_eq!(params.time("from"), Some(time::DAY));
        assert_eq!(params.time("to"), Some(0));
        assert_eq!(params.limit(20, 100), 100, "a limit above the largest page is lowered to it");
        assert!(params.finish().is_ok());
    }

    #[test]
    fn an_offset_whose_plus_was_not_escaped_is_understood() {
        let mut params = Params::from_query("to=1970-01-01T01:00:00+01:00&from=1970-01-01+00:00:01");
        assert_eq!(params.time("to"), Some(0));
        assert_eq!(params.time("from"), Some(time::SECOND));
    }

    #[test]
    fn numbers_out_of_range_or_in_odd_spelling_are_refused() {
        for text in ["-1", "2147483648", "1.0", "1e3", "+1", "007", "-0", "99999999999999999999", "٣"] {
            let mut params = Params::from_query("");
            params.query.push(("source_id".into(), text.into()));
            assert_eq!(params.source(), None, "{text}");
            assert!(params.finish().is_err(), "{text}");
        }
    }

    #[test]
    fn a_parameter_of_many_is_given_once_for_each() {
        let mut params = Params::from_query("a=1&b=7&a=-2&c=1&c=x&d=&e=1&e=2&e=3");
        assert_eq!((params.integers("a", 9), params.integers("b", 9), params.integers("d", 9)), (Some(vec![1, -2]), Some(vec![7]), None));
        assert_eq!((params.integers("c", 9), params.integers("e", 2)), (None, None));
        let error = params.finish().expect_err("mistakes");
        assert_eq!(error.errors.iter().map(|e| e.field.as_ref()).collect::<Vec<_>>(), ["c", "e"]);
    }

    #[test]
    fn an_empty_value_is_an_absent_one() {
        let mut params = Params::from_query("source_id=&limit=");
        assert_eq!(params.source(), None);
        assert_eq!(params.limit(7, 10), 7);
        assert!(params.finish().is_ok());
    }
}
