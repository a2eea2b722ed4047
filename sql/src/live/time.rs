//! Parts of times and of lengths of time, as PostgreSQL counts them.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// What `EXTRACT` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Epoch,
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Dow,
    IsoDow,
    Doy,
    Week,
    Month,
    Quarter,
    Year,
    IsoYear,
    Decade,
    Century,
    Millennium,
}

impl Part {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.trim_matches(['\'', '"']).to_ascii_lowercase().as_str() {
            "epoch" => Self::Epoch,
            "microsecond" | "microseconds" => Self::Microseconds,
            "millisecond" | "milliseconds" => Self::Milliseconds,
            "second" | "seconds" => Self::Second,
            "minute" | "minutes" => Self::Minute,
            "hour" | "hours" => Self::Hour,
            "day" | "days" => Self::Day,
            "dow" | "dayofweek" => Self::Dow,
            "isodow" => Self::IsoDow,
            "doy" | "dayofyear" => Self::Doy,
            "week" | "weeks" => Self::Week,
            "month" | "months" => Self::Month,
            "quarter" => Self::Quarter,
            "year" | "years" => Self::Year,
            "isoyear" => Self::IsoYear,
            "decade" | "decades" => Self::Decade,
            "century" | "centuries" => Self::Century,
            "millennium" | "millenniums" => Self::Millennium,
            _ => return None,
        })
    }

    /// The part of a point in time (UTC), given in microseconds since 1970.
    pub fn of_time(self, micros: i64) -> Option<f64> {
        if self == Self::Epoch {
            return Some(seconds(micros));
        }
        let time: NaiveDateTime = DateTime::from_timestamp_micros(micros)?.naive_utc();
        let year = f64::from(time.year());
        let in_minute = micros.rem_euclid(60 * SECOND);
        Some(match self {
            Self::Epoch => return None,
            Self::Microseconds => in_minute as f64,
            Self::Milliseconds => in_minute as f64 / 1e3,
            Self::Second => seconds(in_minute),
            Self::Minute => f64::from(time.minute()),
            Self::Hour => f64::from(time.hour()),
            Self::Day => f64::from(time.day()),
            Self::Dow => f64::from(time.weekday().num_days_from_sunday()),
            Self::IsoDow => f64::from(time.weekday().number_from_monday()),
            Self::Doy => f64::from(time.ordinal()),
            Self::Week => f64::from(time.iso_week().week()),
            Self::Month => f64::from(time.month()),
            Self::Quarter => f64::from(time.month().div_ceil(3)),
            Self::Year => year,
            Self::IsoYear => f64::from(time.iso_week().year()),
            Self::Decade => (year / 10.0).floor(),
            Self::Century => (year / 100.0).ceil(),
            Self::Millennium => (year / 1_000.0).ceil(),
        })
    }

    /// The part of a length of time. Some parts, such as the day of the week, have no meaning.
    pub fn of_length(self, length: Length) -> Option<f64> {
        let Length { months, days, micros } = length;
        let in_minute = micros % (60 * SECOND);
        Some(match self {
            Self::Epoch => {
                let of_months = f64::from(months / 12) * 365.25 * 86_400.0 + f64::from(months % 12) * 30.0 * 86_400.0;
                // Whole days and microseconds are added as integers, as long as they fit.
                match days.checked_mul(DAY).and_then(|days| days.checked_add(micros)) {
                    Some(sum) => of_months + seconds(sum),
                    None => of_months + days as f64 * 86_400.0 + seconds(micros),
                }
            }
            Self::Microseconds => in_minute as f64,
            Self::Milliseconds => in_minute as f64 / 1e3,
            Self::Second => seconds(in_minute),
            Self::Minute => (micros / (60 * SECOND) % 60) as f64,
            Self::Hour => (micros / (3_600 * SECOND)) as f64,
            Self::Day => days as f64,
            Self::Month => f64::from(months % 12),
            Self::Quarter => f64::from(months % 12 / 3 + 1),
            Self::Year => f64::from(months / 12),
            Self::Decade => f64::from(months / 120),
            Self::Century => f64::from(months / 1_200),
            Self::Millennium => f64::from(months / 12_000),
            Self::Dow | Self::IsoDow | Self::Doy | Self::Week | Self::IsoYear => return None,
        })
    }

    pub fn is_of_lengths(self) -> bool {
        self.of_length(Length::default()).is_some()
    }
}

/// Months, days and microseconds, which do not make one another up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Length {
    pub months: i32,
    pub days: i64,
    pub micros: i64,
}

impl Length {
    /// The difference of two times: whole days, and what is left of the last one.
    pub fn between(micros: i64) -> Self {
        Self { months: 0, days: micros / DAY, micros: micros % DAY }
    }

    /// All of it, a month being 30 days and a day 24 hours; nothing beyond some 290,000 years.
    pub fn all_micros(self) -> Option<i64> {
        let days = i64::from(self.months).checked_mul(30)?.checked_add(self.days)?;
        days.checked_mul(DAY)?.checked_add(self.micros)
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600 * SECOND;

    fn at(text: &str) -> i64 {
        text.parse::<NaiveDateTime>().expect("a time").and_utc().timestamp_micros()
    }

    #[test]
    fn parts_of_times() {
        let time = at("2024-10-06T09:05:07.250");
        let part = |word: &str| Part::parse(word).expect("a part").of_time(time).expect("a number");
        let parts = ["epoch", "year", "month", "day", "hour", "minute", "second", "dow", "isodow", "doy", "week", "quarter"].map(part);
        assert_eq!(parts, [1_728_205_507.25, 2024.0, 10.0, 6.0, 9.0, 5.0, 7.25, 0.0, 7.0, 280.0, 40.0, 4.0]);
        assert_eq!(["MILLISECONDS", "decade", "century", "millennium"].map(part), [7_250.0, 202.0, 21.0, 3.0]);
        assert_eq!(Part::IsoYear.of_time(at("2024-12-30T00:00:00")), Some(2025.0));
        assert_eq!(Part::Second.of_time(-1), Some(59.999_999), "before 1970");
        assert_eq!(Part::parse("fortnight"), None);
    }

    #[test]
    fn parts_of_lengths() {
        let length = Length::between(50 * HOUR + 90 * SECOND);
        let part = |part: Part| part.of_length(length);
        assert_eq!([Part::Epoch, Part::Day, Part::Hour, Part::Minute, Part::Second].map(part), [180_090.0, 2.0, 2.0, 1.0, 30.0].map(Some));
        assert_eq!(Part::Hour.of_length(Length::between(-25 * HOUR)), Some(-1.0));
        assert_eq!(Part::Epoch.of_length(Length { months: 13, days: 1, micros: 0 }), Some((365.25 + 30.0 + 1.0) * 86_400.0));
        assert!(!Part::Dow.is_of_lengths() && Part::Epoch.is_of_lengths());
    }
}
