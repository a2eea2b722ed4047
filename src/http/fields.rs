//! The fields of a JSON object in a body: read by name, all mistakes reported at once.
//!
//! What `params` is for queries. Unknown fields are ignored, null and, for texts, the empty string mean absent; a known field that is
//! given twice is a mistake. Values are borrowed from the body, so that an object costs one allocation however many fields are read.
//!
//! Known limitation: a field is looked for one by one, which suits objects of at most some dozens of fields.

use desireline_connectors::formats::check_properties;
use desireline_records::limits;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A mistake and the field it stands in; an empty name means the whole object.
pub(super) type Mistake = (&'static str, String);

/// One object. Getters note mistakes; [`Fields::finish`] reports them.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    mistakes: Vec<Mistake>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'a> Fields<'a> {
    /// Reads an object; otherwise says what is there instead.
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        let Pairs(fields) = serde_json::from_slice(json)?;
        Ok(Self { fields, mistakes: Vec::new() })
    }

    /// As [`Fields::read`], for a value that is known to be JSON.
    pub fn of(value: &'a RawValue) -> Result<Self, Mistake> {
        Self::read(value.get().as_bytes()).map_err(|_| ("", "must be a JSON object".to_owned()))
    }

    /// An object without fields.
    pub fn of_nothing() -> Self {
        Self { fields: Vec::new(), mistakes: Vec::new() }
    }

    pub fn note(&mut self, field: &'static str, detail: impl Into<String>) {
        self.mistakes.push((field, detail.into()));
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_ref())
    }

    pub fn raw(&mut self, name: &'static str) -> Option<&'a RawValue> {
        let mut found = self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| *value);
        let value = found.next()?;
        if found.next().is_some() {
            self.note(name, "is given twice");
            return None;
        }
        (value.get() != "null").then_some(value)
    }

    fn value<T>(&mut self, name: &'static str, expected: impl FnOnce() -> String, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let token = self.raw(name)?.get();
        let value = read(token);
        if value.is_none() {
            self.note(name, expected());
        }
        value
    }

    /// Whether a field is there and says null.
    pub fn is_null(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, value)| n == name && value.get() == "null")
    }

    /// A string of at most so many bytes, without NUL characters; the empty one is absent.
    pub fn text(&mut self, name: &'static str, bytes_max: usize) -> Option<Cow<'a, str>> {
        self.any_text(name, bytes_max).filter(|text| !text.is_empty())
    }

    /// The same, but the empty one is a text like any other.
    pub fn any_text(&mut self, name: &'static str, bytes_max: usize) -> Option<Cow<'a, str>> {
        let text = self.value(name, || "must be a string".to_owned(), string)?;
        if text.len() > bytes_max {
            self.note(name, format!("is longer than {bytes_max} bytes"));
            return None;
        }
        if text.contains('\0') {
            self.note(name, "contains a NUL character");
            return None;
        }
        Some(text)
    }

    pub fn integer(&mut self, name: &'static str, min: i64, max: i64) -> Option<i64> {
        let expected = || match (min, max) {
            (i64::MIN, i64::MAX) => "must be an integer of 64 bits".to_owned(),
            _ => format!("must be an integer between {min} and {max}"),
        };
        self.value(name, expected, |token| whole_number(token).filter(|n| (min..=max).contains(n)))
    }

    pub fn number(&mut self, name: &'static str, min: f64, max: f64) -> Option<f64> {
        let read = |token: &str| serde_json::from_str::<f64>(token).ok().filter(|n| (min..=max).contains(n));
        self.value(name, || format!("must be a number between {min} and {max}"), read)
    }

    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.value(name, || "must be true or false".to_owned(), |token| token.parse().ok())
    }

    /// An object as text, as clickstream properties are judged; the empty one is absent.
    pub fn object(&mut self, name: &'static str) -> Option<&'a str> {
        let text = self.raw(name)?.get();
        match check_properties(text) {
            Ok(text) if text.len() > limits::PROPERTIES => {
                self.note(name, format!("is longer than {} bytes", limits::PROPERTIES));
                None
            }
            Ok(text) => (!text.is_empty()).then_some(text),
            Err(malformed) => {
                self.note(name, malformed.detail);
                None
            }
        }
    }

    pub fn list(&mut self, name: &'static str) -> Option<Vec<&'a RawValue>> {
        self.value(name, || "must be a list".to_owned(), |token| serde_json::from_str(token).ok())
    }

    /// Notes that a field is missing, unless something is wrong with it already.
    pub fn require<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.mistakes.iter().any(|(field, _)| *field == name) {
            self.note(name, "is required");
        }
        value
    }

    pub fn finish(self) -> Result<(), Vec<Mistake>> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.mistakes) }
    }
}

fn string(token: &str) -> Option<Cow<'_, str>> {
    let inner = token.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(token).ok().map(Cow::Owned)
}

/// An integer of 64 bits, also as 7.0 or 7e0, which JSON does not tell from 7; with an exponent as far as floats are exact.
fn whole_number(token: &str) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if token.contains(['e', 'E']) {
        let number: f64 = serde_json::from_str(token).ok()?;
        return (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64);
    }
    let (whole, fraction) = token.split_once('.').unwrap_or((token, ""));
    if fraction.bytes().all(|digit| digit == b'0') { whole.parse().ok() } else { None }
}

/// Why a body is not the JSON that is wanted.
pub(super) fn unreadable(error: &serde_json::Error) -> super::error::ApiError {
    match error.classify() {
        serde_json::error::Category::Data => super::error::ApiError::malformed("the body is not a JSON object"),
        _ => super::error::ApiError::malformed(format!("the body is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields<'_> {
        Fields::read(json.as_bytes()).expect("an object")
    }

    #[test]
    fn good_values_are_read_and_absent_ones_are_no_mistakes() {
        let mut all = fields(r#"{"a":"x","b":"\u00e9","c":7,"d":-1.5,"e":true,"f":{"k":[1]},"g":[1,{}],"n":null,"z":"","\u0061a":1}"#);
        assert_eq!(all.text("a", 1).as_deref(), Some("x"));
        assert_eq!(all.text("b", 2).as_deref(), Some("é"));
        assert_eq!((all.integer("c", 0, 9), all.number("d", -2.0, 2.0), all.flag("e")), (Some(7), Some(-1.5), Some(true)));
        assert_eq!((all.object("f"), all.list("g").map(|list| list.len())), (Some(r#"{"k":[1]}"#), Some(2)));
        assert_eq!((all.text("n", 9), all.text("z", 9), all.integer("nothing", 0, 1)), (None, None, None));
        assert_eq!(all.integer("aa", 0, 1), Some(1), "names are decoded, too");
        assert_eq!(all.any_text("z", 9).as_deref(), Some(""));
        assert!(all.is_null("n") && !all.is_null("z") && !all.is_null("nothing"));
        assert_eq!(all.finish(), Ok(()));
    }

    #[test]
    fn all_mistakes_are_reported_with_their_fields() {
        let mut all = fields(r#"{"a":1,"b":"xx","c":1.5,"d":"1","e":1,"f":[],"g":{},"h":"\u0000","i":1,"i":2,"j":"\ud800"}"#);
        assert!(all.text("a", 9).is_none() && all.text("b", 1).is_none() && all.integer("c", 0, 9).is_none());
        assert!(all.number("d", 0.0, 9.0).is_none() && all.flag("e").is_none() && all.object("f").is_none() && all.list("g").is_none());
        assert!(all.text("h", 9).is_none() && all.integer("i", 0, 9).is_none() && all.text("j", 9).is_none());
        let (missing, wrong) = (all.text("k", 9), all.text("a", 9));
        assert!(all.require("k", missing).is_none() && all.require("a", wrong).is_none());
        let mistakes = all.finish().expect_err("mistakes");
        let names: String = mistakes.iter().map(|(field, _)| *field).collect();
        assert_eq!(names, "abcdefghijak");
        assert_eq!(mistakes.last(), Some(&("k", "is required".to_owned())));
    }

    #[test]
    fn whole_numbers_have_several_spellings_and_one_range() {
        for (token, number) in [
            ("7", 7),
            ("-0", 0),
            ("7.0", 7),
            ("1e3", 1_000),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775807.0", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(whole_number(token), Some(number), "{token}");
        }
        for token in
            ["7.5", "9223372036854775808", "-9223372036854775809", "-9223372036854775809.0", "1e19", "1e18", "\"7\"", "true", "1e400"]
        {
            assert_eq!(whole_number(token), None, "{token}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_apart_from_what_is_no_json() {
        for text in ["[]", "7", "\"x\"", "null"] {
            assert!(Fields::read(text.as_bytes()).expect_err(text).is_data(), "{text}");
        }
        for text in ["", "{", "{}}", "{\"a\":}", "\u{feff}{}"] {
            assert!(!Fields::read(text.as_bytes()).expect_err(text).is_data(), "{text}");
        }
        assert!(Fields::read(b"{\"a\":\"\xff\"}").is_err());
    }
}
