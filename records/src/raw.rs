//! What a format parser hands to the validator: named fields, nothing checked yet.

use crate::{EventId, Fixed4, Micros};
use std::borrow::Cow;

/// A parsed but unvalidated event. Empty strings stand for absent fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawEvent<'a> {
    pub source: i64,
    /// Absent means: the time of arrival.
    pub time: Option<Micros>,
    pub user: Cow<'a, str>,
    pub session_id: Cow<'a, str>,
    pub client_id: Cow<'a, str>,
    pub event_type: Cow<'a, str>,
    pub page: Cow<'a, str>,
    pub item: Cow<'a, str>,
    pub transaction_id: Cow<'a, str>,
    /// An idempotency key given by the client.
    pub event_id: Cow<'a, str>,
    pub value: Option<Fixed4>,
    /// A JSON object as text.
    pub properties: Cow<'a, str>,
    /// The identity to use when there is no `event_id`: a row or a position.
    pub derived_id: Option<EventId>,
    /// The event word must stand for a movement (the format `ampelios`).
    pub strict_words: bool,
}

/// A parsed but unvalidated WiFi session.
#[derive(Clone, Debug, PartialEq)]
pub struct RawStay<'a> {
    pub device: RawDevice<'a>,
    pub space: Option<i64>,
    /// Empty when there is none.
    pub sensor: Cow<'a, str>,
    pub start: Option<Micros>,
    /// Absent while the session is open.
    pub end: Option<Micros>,
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq)]
pub enum RawDevice<'a> {
    /// An id as it came, in any spelling.
    Id(Cow<'a, str>),
    /// What an id was replaced by earlier. Never from outside: who could send it could speak for any device.
    Replaced { device: Cow<'a, str>, randomized: bool },
}
