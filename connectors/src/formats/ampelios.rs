//! The format `ampelios`: shop rows as a CSV file and its Kafka topic have them.
//!
//! A message is a JSON object with the names of the CSV header: `timestamp` (milliseconds since 1970), `visitorid`, `event`,
//! `itemid`, `transactionid` and, for transactions, `value`. Values may be strings or numbers: producers that read the CSV
//! send strings throughout. `itemid` and `transactionid` may be missing, empty or null. The event word must be one that
//! stands for a movement; any other is refused by the validator.
//!
//! # Identity
//! The normalised row, ordinal 0: its fields trimmed and joined by commas in the order above, the value as four decimals
//! and only when there is one. A row of a file normalises to the same bytes, so that loading a file and then reading its
//! topic counts every row once. A field that itself contains a comma or a quote is quoted as in CSV, so that no two
//! different rows normalise alike.
//!
//! # Known limitations
//! - Over Kafka, a row that is really repeated counts once: a message does not know its ordinal among equal rows.
//! - Identity is textual: `7` and `07` are different visitors, in a file as in a message.

use super::scalar::{self, object, parse_scaled};
use super::{Malformed, NO_SOURCE};
use desireline_records::{EventId, Fixed4, RawEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    visitorid: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    itemid: Option<&'a RawValue>,
    #[serde(borrow)]
    transactionid: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The six fields as text, trimmed; empty when absent.
#[derive(Clone, Debug, Default)]
pub struct AmpeliosRow<'a> {
    pub timestamp: Cow<'a, str>,
    pub visitor: Cow<'a, str>,
    pub event: Cow<'a, str>,
    pub item: Cow<'a, str>,
    pub transaction: Cow<'a, str>,
    pub value: Option<Fixed4>,
}

pub(super) fn parse(text: &str) -> Result<RawEvent<'_>, Malformed> {
    let body: Body<'_> = object("", text)?;
    let trimmed = |field, raw| scalar::text(field, raw).map(trim);
    let row = AmpeliosRow {
        timestamp: trimmed("timestamp", body.timestamp)?,
        visitor: trimmed("visitorid", body.visitorid)?,
        event: trimmed("event", body.event)?,
        item: trimmed("itemid", body.itemid)?,
        transaction: trimmed("transactionid", body.transactionid)?,
        value: scalar::value("value", body.value)?,
    };
    let mut buffer = Vec::with_capacity(96);
    normalise(&row, &mut buffer);
    row.into_raw(EventId::row(&buffer, 0))
}

fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// Writes the row's normal form, which its identity is the hash of.
pub(crate) fn normalise(row: &AmpeliosRow<'_>, out: &mut Vec<u8>) {
    for (index, field) in [&row.timestamp, &row.visitor, &row.event, &row.item, &row.transaction].into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_field(field, out);
    }
    if let Some(value) = row.value {
        let mut text = ecow::EcoString::new();
        write!(text, ",{value}").expect("writing to a string cannot fail");
        out.extend_from_slice(text.as_bytes());
    }
}

/// One field of a normal form, quoted when it would otherwise be ambiguous.
pub(crate) fn push_field(field: &str, out: &mut Vec<u8>) {
    if memchr::memchr2(b',', b'"', field.as_bytes()).is_none() {
        out.extend_from_slice(field.as_bytes());
        return;
    }
    out.push(b'"');
    for b in field.bytes() {
        if b == b'"' {
            out.push(b);
        }
        out.push(b);
    }
    out.push(b'"');
}

impl<'a> AmpeliosRow<'a> {
    /// The event of the row, which is identified by `id`.
    pub fn into_raw(self, id: EventId) -> Result<RawEvent<'a>, Malformed> {
        if self.timestamp.is_empty() {
            return Err(Malformed::new("timestamp", "is required"));
        }
        let time =
            parse_scaled(&self.timestamp, 3).ok_or_else(|| Malformed::new("timestamp", "must be a number of milliseconds since 1970"))?;
        if self.visitor.is_empty() {
            return Err(Malformed::new("visitorid", "is required"));
        }
        if self.event.is_empty() {
            return Err(Malformed::new("event", "is required"));
        }
        Ok(RawEvent {
            source: NO_SOURCE,
            time: Some(time),
            user: self.visitor,
            event_type: self.event,
            item: self.item,
            transaction_id: self.transaction,
            value: self.value,
            derived_id: Some(id),
            strict_words: true,
            ..RawEvent::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, parse};
    use super::*;

    fn read(payload: &str) -> RawEvent<'_> {
        parse(Format::Ampelios, 3, payload.as_bytes()).expect(payload)
    }

    #[test]
    fn strings_and_numbers_are_the_same_row() {
        let strings = read(
            r#"{"timestamp":"1433221332117","visitorid":"257597","event":"transaction","itemid":"355908","transactionid":"4000","value":" 12.50"}"#,
        );
        let numbers = read(
            r#"{"value":12.5,"event":"transaction","timestamp":1433221332117,"visitorid":257597,"itemid":355908,"transactionid":4000,"extra":[1]}"#,
        );
        assert_eq!(strings, numbers);
        assert_eq!(strings.time, Some(1_433_221_332_117_000));
        assert_eq!((strings.user.as_ref(), strings.item.as_ref(), strings.transaction_id.as_ref()), ("257597", "355908", "4000"));
        assert_eq!((strings.value, strings.strict_words, strings.source), (Some(Fixed4(125_000)), true, 3));
        assert_eq!(strings.derived_id, Some(EventId::row(b"1433221332117,257597,transaction,355908,4000,12.5000", 0)));
    }

    #[test]
    fn absent_empty_and_null_are_one() {
        let bare = read(r#"{"timestamp":1,"visitorid":2,"event":"view"}"#);
        assert_eq!(bare, read(r#"{"timestamp":1,"visitorid":"2 ","event":"view","itemid":"","transactionid":null,"value":""}"#));
        assert_eq!(bare.derived_id, Some(EventId::row(b"1,2,view,,", 0)));
    }

    #[test]
    fn different_rows_never_normalise_alike() {
        let mut seen = std::collections::HashSet::new();
        for (item, transaction) in [("a,b", ""), ("a", "b,"), ("a", "b"), ("\"a", "b\""), ("a,", "b")] {
            let mut buffer = Vec::new();
            normalise(&AmpeliosRow { item: item.into(), transaction: transaction.into(), ..AmpeliosRow::default() }, &mut buffer);
            assert!(seen.insert(buffer), "{item} / {transaction}");
        }
    }

    #[test]
    fn each_fault_names_its_field() {
        for (field, payload) in [
            ("timestamp", r#"{"visitorid":1,"event":"view"}"#),
            ("timestamp", r#"{"timestamp":"2015-06-02","visitorid":1,"event":"view"}"#),
            ("timestamp", r#"{"timestamp":{},"visitorid":1,"event":"view"}"#),
            ("visitorid", r#"{"timestamp":1,"event":"view"}"#),
            ("visitorid", r#"{"timestamp":1,"visitorid":true,"event":"view"}"#),
            ("visitorid", r#"{"timestamp":1,"visitorid":"\udc00","event":"view"}"#),
            ("event", r#"{"timestamp":1,"visitorid":1}"#),
            ("value", r#"{"timestamp":1,"visitorid":1,"event":"view","value":"1e999"}"#),
            ("value", r#"{"timestamp":1,"visitorid":1,"event":"view","value":"nan"}"#),
            ("", r#"{"timestamp":1,"timestamp":2,"visitorid":1,"event":"view"}"#),
        ] {
            assert_eq!(parse(Format::Ampelios, 1, payload.as_bytes()).expect_err(payload).field, field, "{payload}");
        }
    }
}
