//! The one total validator before the log.
//!
//! Total: for every input it answers with an [`Event`] that no view can choke on, or with a [`Rejection`] that names the
//! field. It reads no clock; the caller says what time it is.

pub mod wifi;

pub use wifi::{Pseudonyms, WifiRules};

use crate::time::SECOND;
use crate::words::Words;
use crate::{DeadLetterKind, Event, EventExtra, EventId, Fixed4, Micros, Movement, RawEvent, ids, limits};
use ecow::{EcoString, eco_format};

#[derive(Clone, Debug)]
pub struct Validator {
    pub words: Words,
    /// Event times further ahead of the commit than this are quarantined.
    pub max_future: Micros,
    /// What WiFi sessions are held to; without it none is taken.
    pub wifi: Option<WifiRules>,
}

impl Default for Validator {
    fn default() -> Self {
        Self { words: Words::default(), max_future: 300 * SECOND, wifi: None }
    }
}

/// Why a row is refused, with the field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// [`DeadLetterKind::Invalid`] or [`DeadLetterKind::Quarantined`].
    pub kind: DeadLetterKind,
    pub field: &'static str,
    pub detail: EcoString,
}

impl Rejection {
    pub fn invalid(field: &'static str, detail: impl Into<EcoString>) -> Self {
        Self { kind: DeadLetterKind::Invalid, field, detail: detail.into() }
    }
}

impl Validator {
    /// `unique_id` is asked for an id only when the event brings no identity of its own.
    pub fn validate(&self, raw: &RawEvent<'_>, now: Micros, unique_id: impl FnOnce() -> EcoString) -> Result<Event, Rejection> {
        if raw.source < 0 || raw.source > limits::SOURCE_MAX {
            return Err(Rejection::invalid("source_id", eco_format!("must be between 0 and {}", limits::SOURCE_MAX)));
        }
        if self.wifi.as_ref().is_some_and(|wifi| i64::from(wifi.source) == raw.source) {
            return Err(Rejection::invalid("source_id", "names the source of WiFi sessions, which takes nothing else"));
        }
        for (field, text, limit) in [
            ("user_id", &raw.user, limits::USER),
            ("session_id", &raw.session_id, limits::SESSION_ID),
            ("client_id", &raw.client_id, limits::CLIENT_ID),
            ("event_type", &raw.event_type, limits::EVENT_TYPE),
            ("page", &raw.page, limits::PAGE),
            ("item_id", &raw.item, limits::ITEM),
            ("transaction_id", &raw.transaction_id, limits::TRANSACTION_ID),
            ("event_id", &raw.event_id, limits::EVENT_ID),
            ("properties", &raw.properties, limits::PROPERTIES),
        ] {
            check_text(field, text, limit)?;
        }
        let event_type: &str = &raw.event_type;
        if event_type.is_empty() {
            return Err(Rejection::invalid("event_type", "is required"));
        }
        let movement = self.words.movement(event_type);
        if raw.strict_words && movement == Movement::None {
            return Err(Rejection::invalid("event", eco_format!("unknown event word `{event_type}`")));
        }
        let Some(user) = [&raw.user, &raw.session_id, &raw.client_id].into_iter().find(|id| !id.is_empty()) else {
            return Err(Rejection::invalid("user_id", "one of user_id, session_id and client_id is required"));
        };
        let value = raw.value.unwrap_or(Fixed4(0));
        if value.0.unsigned_abs() > limits::VALUE_MAX as u64 {
            return Err(Rejection::invalid("value", "must be at most 10^12 in magnitude"));
        }
        if raw.event_id.starts_with(ids::DERIVED_PREFIX) {
            return Err(Rejection::invalid("event_id", "must not start with `~`"));
        }
        let time = self.check_time("timestamp", raw.time.unwrap_or(now), now)?;
        let event_id: EcoString = match (&raw.event_id, raw.derived_id) {
            (id, _) if !id.is_empty() => own(id),
            (_, Some(_)) => EcoString::new(),
            (_, None) => unique_id(),
        };
        let id = if event_id.is_empty() { raw.derived_id.unwrap_or_default() } else { EventId::explicit(&event_id) };
        let rare = [&raw.client_id, &raw.session_id, &raw.transaction_id, &raw.properties];
        let has_extra = !event_id.is_empty() || rare.iter().any(|text| !text.is_empty());
        Ok(Event {
            source: raw.source as u32,
            movement,
            late: false,
            time,
            id,
            value,
            user: own(user),
            event_type: own(&raw.event_type),
            page: own(&raw.page),
            item: own(&raw.item),
            extra: has_extra.then(|| {
                Box::new(EventExtra {
                    event_id,
                    client_id: own(&raw.client_id),
                    session_id: own(&raw.session_id),
                    transaction_id: own(&raw.transaction_id),
                    properties: own(&raw.properties),
                })
            }),
            stay: None,
        })
    }

    fn check_time(&self, field: &'static str, time: Micros, now: Micros) -> Result<Micros, Rejection> {
        if !(limits::TIME_MIN..limits::TIME_MAX).contains(&time) {
            return Err(Rejection::invalid(field, "must lie between the years 1970 and 2200"));
        }
        if time > now.saturating_add(self.max_future) {
            let detail = eco_format!("lies {} s in the future", (time - now) / SECOND);
            return Err(Rejection { kind: DeadLetterKind::Quarantined, field, detail });
        }
        Ok(time)
    }
}

fn own(text: &str) -> EcoString {
    EcoString::from(text)
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), Rejection> {
    if text.len() > limit {
        return Err(Rejection::invalid(field, eco_format!("is longer than {limit} bytes")));
    }
    if text.bytes().any(|b| b == 0) {
        return Err(Rejection::invalid(field, "contains a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::HOUR;

    const NOW: Micros = 1_700_000_000_000_000;

    fn raw() -> RawEvent<'static> {
        RawEvent { source: 1, time: Some(NOW), user: "7".into(), event_type: "view".into(), ..RawEvent::default() }
    }

    fn check(raw: &RawEvent<'_>) -> Result<Event, Rejection> {
        Validator::default().validate(raw, NOW, || "generated".into())
    }

    #[test]
    fn a_good_row_becomes_an_event() {
        let event = check(&raw()).expect("valid");
        assert_eq!((event.source, event.movement, event.user.as_str()), (1, Movement::View, "7"));
        assert_eq!(event.reference(), "generated");
    }

    #[test]
    fn each_fault_names_its_field() {
        let long = "x".repeat(3_000);
        let cases: Vec<(&str, RawEvent<'_>)> = vec![
            ("source_id", RawEvent { source: -1, ..raw() }),
            ("source_id", RawEvent { source: 1 << 40, ..raw() }),
            ("timestamp", RawEvent { time: Some(-1), ..raw() }),
            ("timestamp", RawEvent { time: Some(limits::TIME_MAX), ..raw() }),
            ("event_type", RawEvent { event_type: "".into(), ..raw() }),
            ("event", RawEvent { event_type: "foo".into(), strict_words: true, ..raw() }),
            ("user_id", RawEvent { user: "".into(), ..raw() }),
            ("user_id", RawEvent { user: long.as_str().into(), ..raw() }),
            ("user_id", RawEvent { user: "a\0b".into(), ..raw() }),
            ("page", RawEvent { page: long.as_str().into(), ..raw() }),
            ("value", RawEvent { value: Some(Fixed4(i64::MIN + 1)), ..raw() }),
            ("event_id", RawEvent { event_id: "~x".into(), ..raw() }),
        ];
        for (field, raw) in cases {
            let rejection = check(&raw).expect_err(field);
            assert_eq!((rejection.field, rejection.kind), (field, DeadLetterKind::Invalid));
        }
    }

    #[test]
    fn a_clock_far_ahead_is_quarantined() {
        assert!(check(&RawEvent { time: Some(NOW + 299 * SECOND), ..raw() }).is_ok());
        let rejection = check(&RawEvent { time: Some(NOW + HOUR), ..raw() }).expect_err("future");
        assert_eq!(rejection.kind, DeadLetterKind::Quarantined);
    }

    #[test]
    fn an_unknown_word_moves_nothing_and_a_missing_user_has_stand_ins() {
        let event = check(&RawEvent { event_type: "search".into(), ..raw() }).expect("valid");
        assert_eq!(event.movement, Movement::None);
        let event = check(&RawEvent { user: "".into(), client_id: "c".into(), ..raw() }).expect("valid");
        assert_eq!(event.user, "c");
        let event = check(&RawEvent { user: "".into(), client_id: "c".into(), session_id: "s".into(), ..raw() });
        assert_eq!(event.expect("valid").user, "s");
    }

    #[test]
    fn identity_prefers_the_clients_id_over_the_derived_one() {
        let row = EventId::row(b"x", 0);
        assert_eq!(check(&RawEvent { derived_id: Some(row), ..raw() }).expect("valid").id, row);
        let both = RawEvent { derived_id: Some(row), event_id: "e1".into(), ..raw() };
        assert_eq!(check(&both).expect("valid").id, EventId::explicit("e1"));
    }
}
