//! Event time, logical time and how they are printed and read.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Utc};

/// Event time: microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Logical time: the time of a batch in the log, in milliseconds, strictly increasing. Close to the wall clock, never behind it.
pub type LogicalTime = u64;

pub const SECOND: Micros = 1_000_000;
pub const MINUTE: Micros = 60 * SECOND;
pub const HOUR: Micros = 60 * MINUTE;
pub const DAY: Micros = 24 * HOUR;

/// The last multiple of `width` that is not after a time: the begin of its bin, its hour, its day.
pub fn floor(time: Micros, width: Micros) -> Micros {
    time.div_euclid(width).saturating_mul(width)
}

/// The wall clock in microseconds.
pub fn now_micros() -> Micros {
    Utc::now().timestamp_micros()
}

/// `2026-01-31T12:00:00.000Z`; microseconds are printed only where there are any.
pub fn format_rfc3339(time: Micros) -> String {
    let format = if time % 1_000 == 0 { SecondsFormat::Millis } else { SecondsFormat::Micros };
    match Utc.timestamp_micros(time).single() {
        Some(at) => at.to_rfc3339_opts(format, true),
        None => format!("{time}us"),
    }
}

/// Reads RFC 3339, `YYYY-MM-DDTHH:MM:SS[.f]` without a zone (taken as UTC) or a plain date.
pub fn parse_time(text: &str) -> Option<Micros> {
    let text = text.trim();
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_back() {
        for time in [0, 1, 1_700_000_000_123_456, 1_700_000_000_000_000, -1_000] {
            assert_eq!(parse_time(&format_rfc3339(time)), Some(time));
        }
        assert_eq!(format_rfc3339(1_700_000_000_000_000), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn a_time_without_zone_is_utc() {
        assert_eq!(parse_time("2023-11-14T22:13:20"), Some(1_700_000_000_000_000));
        assert_eq!(parse_time("2023-11-14 22:13:20+01:00"), Some(1_699_996_400_000_000));
        assert_eq!(parse_time("1970-01-02"), Some(DAY));
        assert_eq!(parse_time("yesterday"), None);
    }
}
