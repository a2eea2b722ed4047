//! WiFi sessions before the log: total, like everything here, and the only place where a device's id becomes what is kept of it.
//!
//! An id that is a MAC address in any of its usual spellings is brought into one form (lower case, colons) before anything else, so that
//! spellings of one address are one device. Any other id is opaque: it is taken as it is, or refused under
//! [`WifiRules::strict_mac`]. With [`WifiRules::pseudonyms`] the normal form is then replaced, before an event exists that could carry it.
//!
//! A session may be without length and may be open; it may not end before it starts, be longer than [`WifiRules::max_session`], or lie
//! outside of the years 1970 to 2200. One that starts or ends further ahead than [`Validator::max_future`] is quarantined: it may be
//! replayed when its time has come.

use super::{Rejection, Validator, check_text};
use crate::time::{SECOND, format_rfc3339};
use crate::wifi::{is_randomized, parse_mac};
use crate::{DeadLetterKind, Event, Micros, RawDevice, RawStay, SourceId, SpaceId, Stay, WifiSession, limits};
use ecow::{EcoString, eco_format};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Replaces the ids of devices by names that say nothing without a secret.
pub trait Pseudonyms: Send + Sync + fmt::Debug {
    /// The same for the same id, as long as the secret is the same.
    fn pseudonym(&self, id: &str) -> EcoString;
}

/// What WiFi sessions are held to.
#[derive(Clone, Debug)]
pub struct WifiRules {
    /// The source that they are rows of, and the only one.
    pub source: SourceId,
    /// A longer session is refused.
    pub max_session: Micros,
    /// Ids that are no MAC addresses are refused.
    pub strict_mac: bool,
    /// Absent: ids are kept.
    pub pseudonyms: Option<Arc<dyn Pseudonyms>>,
}

impl WifiRules {
    /// What is kept of an id: itself in its normal form, or its pseudonym.
    pub fn device(&self, id: &str) -> EcoString {
        let (normal, _) = normal_id(id);
        match &self.pseudonyms {
            Some(pseudonyms) => pseudonyms.pseudonym(&normal),
            None => EcoString::from(normal.as_ref()),
        }
    }
}

/// The one form of an id, and whether it is an address that the device has made up.
pub fn normal_id(id: &str) -> (Cow<'_, str>, bool) {
    let id = id.trim();
    match parse_mac(id) {
        Some(mac) => {
            let [a, b, c, d, e, f] = mac;
            (format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}").into(), is_randomized(mac))
        }
        None => (id.into(), false),
    }
}

impl Validator {
    /// Checks one session of `source`.
    pub fn validate_stay(&self, source: SourceId, raw: &RawStay<'_>, now: Micros) -> Result<Event, Rejection> {
        let Some(rules) = &self.wifi else {
            return Err(Rejection::invalid(
                "source_id",
                "WiFi sessions are not taken: this server has no key for the pseudonyms of their devices, as its log says",
            ));
        };
        if source != rules.source {
            return Err(Rejection::invalid("source_id", eco_format!("must be {}, the source of WiFi sessions", rules.source)));
        }
        let (device, randomized) = self.check_device(rules, &raw.device)?;
        check_text("sensor_id", &raw.sensor, limits::ITEM)?;
        let space = raw.space.ok_or_else(|| Rejection::invalid("space_id", "is required"))?;
        let space = SpaceId::try_from(space).map_err(|_| Rejection::invalid("space_id", "must be an integer of 32 bits"))?;
        let start = raw.start.ok_or_else(|| Rejection::invalid("start_time", "is required"))?;
        let start = self.check_time("start_time", start, now)?;
        let end = raw.end.map(|end| self.check_end(rules, start, end, now)).transpose()?;
        let stay = Stay { end, space, randomized };
        Ok(WifiSession { source, device, sensor: EcoString::from(raw.sensor.as_ref()), start, stay }.into_event())
    }

    fn check_device(&self, rules: &WifiRules, device: &RawDevice<'_>) -> Result<(EcoString, bool), Rejection> {
        const FIELD: &str = "mac_address";
        match device {
            RawDevice::Id(id) => {
                check_text(FIELD, id, limits::USER)?;
                if id.trim().is_empty() {
                    return Err(Rejection::invalid(FIELD, "is required"));
                }
                if rules.strict_mac && parse_mac(id.trim()).is_none() {
                    return Err(Rejection::invalid(FIELD, "must be a MAC address, such as 00:1b:44:11:3a:b7"));
                }
                Ok((rules.device(id), normal_id(id).1))
            }
            RawDevice::Replaced { device, randomized } => {
                check_text(FIELD, device, limits::USER)?;
                if device.is_empty() {
                    return Err(Rejection::invalid(FIELD, "is required"));
                }
                Ok((EcoString::from(device.as_ref()), *randomized))
            }
        }
    }

    fn check_end(&self, rules: &WifiRules, start: Micros, end: Micros, now: Micros) -> Result<Micros, Rejection> {
        const FIELD: &str = "end_time";
        if !(limits::TIME_MIN..limits::TIME_MAX).contains(&end) {
            return Err(Rejection::invalid(FIELD, "must lie between the years 1970 and 2200"));
        }
        if end < start {
            return Err(Rejection::invalid(FIELD, eco_format!("lies before the start, {}", format_rfc3339(start))));
        }
        if end - start > rules.max_session {
            let detail = eco_format!("makes the session longer than {} s, which is the limit", rules.max_session / SECOND);
            return Err(Rejection::invalid(FIELD, detail));
        }
        if end > now.saturating_add(self.max_future) {
            let detail = eco_format!("lies {} s in the future", (end - now) / SECOND);
            return Err(Rejection { kind: DeadLetterKind::Quarantined, field: FIELD, detail });
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR, MINUTE};
    use crate::{EventId, RawEvent};

    const NOW: Micros = 1_700_000_000_000_000;

    #[derive(Debug)]
    struct Reversed;

    impl Pseudonyms for Reversed {
        fn pseudonym(&self, id: &str) -> EcoString {
            id.chars().rev().collect()
        }
    }

    fn validator(strict_mac: bool, keyed: bool) -> Validator {
        let pseudonyms = keyed.then(|| Arc::new(Reversed) as Arc<dyn Pseudonyms>);
        let wifi = WifiRules { source: 2_000, max_session: 31 * DAY, strict_mac, pseudonyms };
        Validator { wifi: Some(wifi), ..Validator::default() }
    }

    fn raw() -> RawStay<'static> {
        RawStay {
            device: RawDevice::Id("00:1B:44:11:3A:B7".into()),
            space: Some(7),
            sensor: "ap-1".into(),
            start: Some(NOW - HOUR),
            end: Some(NOW),
        }
    }

    fn check(raw: &RawStay<'_>) -> Result<Event, Rejection> {
        validator(false, false).validate_stay(2_000, raw, NOW)
    }

    #[test]
    fn a_good_session_becomes_an_event() {
        let event = check(&raw()).expect("valid");
        let stay = Stay { end: Some(NOW), space: 7, randomized: false };
        assert_eq!(
            (event.user.as_str(), event.item.as_str(), event.time, event.stay),
            ("00:1b:44:11:3a:b7", "ap-1", NOW - HOUR, Some(stay))
        );
        assert_eq!(event.id, EventId::stay(&event.user, 7, NOW - HOUR));
        let open = check(&RawStay { end: None, sensor: "".into(), ..raw() }).expect("valid");
        assert_eq!((open.stay.and_then(|stay| stay.end), open.id), (None, event.id), "one identity, open or closed");
        let instant = check(&RawStay { end: Some(NOW - HOUR), ..raw() }).expect("without length");
        assert_eq!(instant.stay.and_then(|stay| stay.end), Some(instant.time));
    }

    #[test]
    fn each_fault_names_its_field() {
        let long = "x".repeat(3_000);
        let id = |id: &str| RawStay { device: RawDevice::Id(id.to_owned().into()), ..raw() };
        let replaced =
            |device: &str| RawStay { device: RawDevice::Replaced { device: device.to_owned().into(), randomized: false }, ..raw() };
        let cases: Vec<(&str, RawStay<'_>)> = vec![
            ("mac_address", id("")),
            ("mac_address", id("  ")),
            ("mac_address", id(&long)),
            ("mac_address", id("a\0b")),
            ("mac_address", replaced("")),
            ("mac_address", replaced(&long)),
            ("space_id", RawStay { space: None, ..raw() }),
            ("space_id", RawStay { space: Some(1 << 31), ..raw() }),
            ("space_id", RawStay { space: Some(i64::MIN), ..raw() }),
            ("sensor_id", RawStay { sensor: long.as_str().into(), ..raw() }),
            ("sensor_id", RawStay { sensor: "a\0".into(), ..raw() }),
            ("start_time", RawStay { start: None, ..raw() }),
            ("start_time", RawStay { start: Some(-1), ..raw() }),
            ("start_time", RawStay { start: Some(limits::TIME_MAX), ..raw() }),
            ("start_time", RawStay { start: Some(Micros::MAX), end: None, ..raw() }),
            ("end_time", RawStay { end: Some(NOW - HOUR - 1), ..raw() }),
            ("end_time", RawStay { end: Some(Micros::MIN), ..raw() }),
            ("end_time", RawStay { end: Some(Micros::MAX), ..raw() }),
            ("end_time", RawStay { start: Some(NOW - 31 * DAY - 1), ..raw() }),
        ];
        for (field, raw) in cases {
            let rejection = check(&raw).expect_err(field);
            assert_eq!((rejection.field, rejection.kind), (field, DeadLetterKind::Invalid), "{raw:?}");
        }
        assert!(check(&RawStay { start: Some(NOW - 31 * DAY), ..raw() }).is_ok(), "as long as may be");
    }

    #[test]
    fn what_lies_ahead_is_quarantined() {
        for (field, raw) in [
            ("start_time", RawStay { start: Some(NOW + 6 * MINUTE), end: None, ..raw() }),
            ("end_time", RawStay { end: Some(NOW + 6 * MINUTE), ..raw() }),
        ] {
            let rejection = check(&raw).expect_err(field);
            assert_eq!((rejection.field, rejection.kind), (field, DeadLetterKind::Quarantined));
            assert!(validator(false, false).validate_stay(2_000, &raw, NOW + HOUR).is_ok(), "its time has come");
        }
        assert!(check(&RawStay { end: Some(NOW + 5 * MINUTE), ..raw() }).is_ok());
    }

    #[test]
    fn spellings_of_an_address_are_one_device() {
        let device = |id: &str, keyed| {
            let raw = RawStay { device: RawDevice::Id(id.to_owned().into()), ..raw() };
            let event = validator(false, keyed).validate_stay(2_000, &raw, NOW).expect("valid");
            (event.user.to_string(), event.stay.expect("a stay").randomized)
        };
        for spelling in ["da:a1:19:00:ff:01", " DA-A1-19-00-FF-01 ", "daa1.1900.ff01", "DAA11900FF01"] {
            assert_eq!(device(spelling, false), ("da:a1:19:00:ff:01".to_owned(), true), "{spelling}");
            assert_eq!(device(spelling, true), ("10:ff:00:91:1a:ad".to_owned(), true), "{spelling}");
        }
        assert_eq!(device("Laptop-7", false), ("Laptop-7".to_owned(), false), "opaque");
        assert_eq!(device("Laptop-7", true), ("7-potpaL".to_owned(), false));
    }

    #[test]
    fn strictness_refuses_opaque_ids_only() {
        let opaque = RawStay { device: RawDevice::Id("laptop".into()), ..raw() };
        assert_eq!(validator(true, true).validate_stay(2_000, &opaque, NOW).expect_err("opaque").field, "mac_address");
        assert!(validator(true, true).validate_stay(2_000, &raw(), NOW).is_ok());
        let replaced = RawStay { device: RawDevice::Replaced { device: "p1".into(), randomized: true }, ..raw() };
        let event = validator(true, true).validate_stay(2_000, &replaced, NOW).expect("replaced before");
        assert_eq!((event.user.as_str(), event.stay.expect("a stay").randomized), ("p1", true));
    }

    #[test]
    fn sessions_and_events_have_sources_of_their_own() {
        let validator = validator(false, false);
        assert_eq!(validator.validate_stay(1, &raw(), NOW).expect_err("another source").field, "source_id");
        assert_eq!(Validator::default().validate_stay(2_000, &raw(), NOW).expect_err("no rules").field, "source_id");
        let click = RawEvent { source: 2_000, user: "u".into(), event_type: "view".into(), ..RawEvent::default() };
        assert_eq!(validator.validate(&click, NOW, EcoString::new).expect_err("a click").field, "source_id");
        assert!(validator.validate(&RawEvent { source: 1_999, ..click }, NOW, || "id".into()).is_ok());
    }
}
