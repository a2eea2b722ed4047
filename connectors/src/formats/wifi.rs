//! The format `wifi`: one session of a device at an access point.
//!
//! ```json
//! {"mac_address":"00:1b:44:11:3a:b7","space_id":1403,"sensor_id":"ap-1403-2","start_time":"2025-01-06T09:00:00Z","end_time":null}
//! ```
//!
//! `mac_address` and `sensor_id` are text or numbers, `space_id` an integer or its digits. Times are RFC 3339 (without a zone: UTC),
//! seconds, or milliseconds when above 10^11. A session without an end, or with `null`, is open; a later row of the same device, space
//! and start closes it. Other fields are skipped. In CSV the same names stand in the header, and an empty cell is an absent field.
//!
//! # What is kept of a row that was refused
//! Where the ids of devices are replaced, a dead letter does not hold them either:
//! - A row whose `mac_address` can be read is kept with the pseudonym in its place, under the format [`REPLACED`]:
//!   `{"device":"p…","randomized":false,"space_id":1403,…}`, by which it can be replayed. Only the fields of the format are kept, and of
//!   them only what can be read as what it should be, or is short and neither looks like an address nor repeats the id.
//! - Any other row is withheld: its length and a keyed hash stand for it, so that equal ones can be told.
//!
//! [`REPLACED`] is no [`Format`]: nobody outside can send it, so nobody can speak for a device whose pseudonym he has seen.
//!
//! # Known limitations
//! - A row that is withheld cannot be replayed, and the erasure of its device finds it only when its id could be read.
//! - An address that hides in the digits of a time (`"end_time": 112233445566`) is kept as the time that it is.

use super::dead::{Kept, cut, readable};
use super::scalar::{self, object};
use super::{Format, Malformed, Refusal, text_of};
use desireline_records::validate::wifi::normal_id;
use desireline_records::validate::{Pseudonyms, Validator, WifiRules};
use desireline_records::wifi::parse_mac;
use desireline_records::{DeadLetter, Event, Micros, RawDevice, RawStay, SourceId, SpaceId, limits};
use ecow::{EcoString, eco_format};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The format of dead letters whose id has been replaced.
pub const REPLACED: &str = "wifi_replaced";

#[derive(Deserialize)]
struct Session<'a> {
    #[serde(borrow)]
    mac_address: Option<&'a RawValue>,
    #[serde(borrow)]
    space_id: Option<&'a RawValue>,
    #[serde(borrow)]
    sensor_id: Option<&'a RawValue>,
    #[serde(borrow)]
    start_time: Option<&'a RawValue>,
    #[serde(borrow)]
    end_time: Option<&'a RawValue>,
}

/// As [`Session`], after its id has been replaced.
#[derive(Serialize, Deserialize)]
struct Replaced<'a> {
    device: EcoString,
    randomized: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    space_id: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sensor_id: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    start_time: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    end_time: Option<&'a RawValue>,
}

/// Reads and checks one payload.
pub fn read(validator: &Validator, source: SourceId, payload: &[u8], now: Micros) -> Result<Event, Refusal> {
    Ok(validator.validate_stay(source, &parse(payload)?, now)?)
}

/// Reads and checks a dead letter once more; nothing when it is not of this format.
pub fn replay(validator: &Validator, letter: &DeadLetter, now: Micros) -> Option<Result<Event, Refusal>> {
    let payload = letter.payload.as_bytes();
    let again = || {
        let raw = if letter.format == REPLACED { parse_replaced(payload)? } else { parse(payload)? };
        Ok(validator.validate_stay(letter.source, &raw, now)?)
    };
    [REPLACED, Format::Wifi.word()].contains(&letter.format.as_str()).then(again)
}

/// Reads one payload.
pub fn parse(payload: &[u8]) -> Result<RawStay<'_>, Malformed> {
    let session: Session<'_> = object("", text_of(payload)?)?;
    Ok(RawStay {
        device: RawDevice::Id(scalar::text("mac_address", session.mac_address)?),
        space: space("space_id", &scalar::text("space_id", session.space_id)?)?,
        sensor: scalar::text("sensor_id", session.sensor_id)?,
        start: scalar::flexible_time("start_time", session.start_time)?,
        end: scalar::flexible_time("end_time", session.end_time)?,
    })
}

fn parse_replaced(payload: &[u8]) -> Result<RawStay<'_>, Malformed> {
    let session: Replaced<'_> = object("", text_of(payload)?)?;
    Ok(RawStay {
        device: RawDevice::Replaced { device: session.device.to_string().into(), randomized: session.randomized },
        space: space("space_id", &scalar::text("space_id", session.space_id)?)?,
        sensor: scalar::text("sensor_id", session.sensor_id)?,
        start: scalar::flexible_time("start_time", session.start_time)?,
        end: scalar::flexible_time("end_time", session.end_time)?,
    })
}

/// A row of a file; `times` are its start and its end. Absent fields are empty.
pub(crate) fn from_cells<'a>(id: &'a str, space_id: &str, sensor: &'a str, times: [&str; 2]) -> Result<RawStay<'a>, Malformed> {
    Ok(RawStay {
        device: RawDevice::Id(id.into()),
        space: space("space_id", space_id)?,
        sensor: sensor.into(),
        start: scalar::parse_time_flexible("start_time", times[0])?,
        end: scalar::parse_time_flexible("end_time", times[1])?,
    })
}

fn space(field: &'static str, text: &str) -> Result<Option<i64>, Malformed> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Malformed::new(field, "must be an integer")),
    }
}

/// What is kept of a payload that was refused.
pub(super) fn kept(rules: Option<&WifiRules>, payload: &[u8]) -> Kept {
    let id = readable("\"mac_address\"", payload);
    let user = id.zip(rules).map_or_else(EcoString::new, |(id, rules)| rules.device(&id));
    match rules.map(|rules| (rules, rules.pseudonyms.as_deref())) {
        Some((_, None)) => Kept { user, format: Format::Wifi.word(), payload: cut(payload, limits::DEAD_LETTER_PAYLOAD) },
        Some((rules, Some(pseudonyms))) => replaced(rules, payload).unwrap_or_else(|| withheld(pseudonyms, user, payload)),
        // Nobody has said that addresses may be kept.
        None => Kept { user, format: REPLACED, payload: eco_format!("(withheld: {} bytes)", payload.len()) },
    }
}

/// The payload with the pseudonym in the place of the id, when its id can be read.
fn replaced(rules: &WifiRules, payload: &[u8]) -> Option<Kept> {
    let session: Session<'_> = object("", text_of(payload).ok()?).ok()?;
    let id = scalar::text("mac_address", session.mac_address).ok().filter(|id| !id.trim().is_empty())?;
    let device = rules.device(&id);
    let (normal, randomized) = normal_id(&id);
    let time = |text: &str| scalar::parse_time_flexible("", text).is_ok();
    let space = |text: &str| text.trim().parse::<SpaceId>().is_ok();
    let kept = |raw: Option<&'_ RawValue>, reads: &dyn Fn(&str) -> bool| raw.is_none_or(|raw| says_nothing(raw, reads, &id, &normal));
    let keep = |raw, reads: &dyn Fn(&str) -> bool| if kept(raw, reads) { raw } else { serde_json::from_str(WITHHELD).ok() };
    let replaced = Replaced {
        device: device.clone(),
        randomized,
        space_id: keep(session.space_id, &space),
        sensor_id: keep(session.sensor_id, &|_| false),
        start_time: keep(session.start_time, &time),
        end_time: keep(session.end_time, &time),
    };
    let payload = serde_json::to_string(&replaced).ok().filter(|text| text.len() <= limits::DEAD_LETTER_PAYLOAD)?;
    Some(Kept { user: device, format: REPLACED, payload: payload.into() })
}

/// What stands for a field that might give the device away.
const WITHHELD: &str = "\"(withheld)\"";
/// A longer field is withheld.
const FIELD_BYTES_MAX: usize = 128;
/// A shorter id may be part of other words by chance.
const REPEATED_BYTES_MIN: usize = 4;

/// Whether a field can be kept: it reads as what it should be, or at least does not hold the id or another address.
fn says_nothing(raw: &RawValue, reads: &dyn Fn(&str) -> bool, id: &str, normal: &str) -> bool {
    let Ok(text) = scalar::text("", Some(raw)) else { return false };
    if raw.get().len() > FIELD_BYTES_MAX {
        return false;
    }
    let repeats = |id: &str| id.len() >= REPEATED_BYTES_MIN && text.to_ascii_lowercase().contains(&id.to_ascii_lowercase());
    reads(&text) || !(repeats(id.trim()) || repeats(normal) || holds_address(&text))
}

/// Whether a MAC address stands anywhere in a text. Twelve bare digits only count as one when nothing is joined to them.
fn holds_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    let joined = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    (0..bytes.len()).any(|at| {
        [17, 14, 12].into_iter().any(|length| {
            let found = text.get(at..at + length).is_some_and(|part| parse_mac(part).is_some());
            found && (length > 12 || !(joined(at.checked_sub(1)) || joined(Some(at + length))))
        })
    })
}

fn withheld(pseudonyms: &dyn Pseudonyms, user: EcoString, payload: &[u8]) -> Kept {
    let hash = pseudonyms.pseudonym(&format!("payload {}", String::from_utf8_lossy(payload)));
    let payload = eco_format!("(withheld: {} bytes, {hash})", payload.len());
    Kept { user, format: REPLACED, payload }
}

#[cfg(test)]
mod tests;
