//! What is usual: the number of devices by hour of the week.
//!
//! The weeks end with the begin of the running hour and reach back from there, so every hour of the week has one value for each. A week
//! without any device at all is taken for one in which nothing was recorded and left out; within the others an hour without devices is 0.
//! Median and percentiles are by nearest rank: the value at place ⌈p·n⌉ of the sorted ones, so each is a number that was there.

use super::Privacy;
use desireline_records::time::{DAY, HOUR};
use desireline_records::{Cell, Micros};

pub const WEEK: Micros = 7 * DAY;
const HOURS: usize = 168;
/// The epoch was a Thursday; hour 0 of a week is Monday 00:00 UTC.
const EPOCH_WEEKDAY: Micros = 3 * DAY;

/// One hour of the week. Absent numbers are withheld; without data all are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    pub median: Option<i64>,
    pub p10: Option<i64>,
    pub p90: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    pub time: Micros,
    pub number: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typical {
    pub from: Micros,
    pub to: Micros,
    /// Weeks with any data.
    pub weeks: u32,
    /// From Monday 00:00 UTC.
    pub hours: Vec<Hour>,
    /// The fullest hour of all; the first of several.
    pub peak: Option<Peak>,
}

impl Typical {
    /// Of hourly sums in the `weeks` weeks before `to`, which is the begin of an hour.
    pub fn of(rows: &[(Micros, Cell)], to: Micros, weeks: u32, privacy: Privacy) -> Self {
        let from = to - i64::from(weeks) * WEEK;
        let mut values = vec![vec![0_i64; HOURS]; weeks as usize];
        let mut has_data = vec![false; weeks as usize];
        let mut peak: Option<Peak> = None;
        for (time, cell) in rows.iter().filter(|(time, _)| (from..to).contains(time)) {
            let number = privacy.counted(*cell);
            let week = ((time - from) / WEEK) as usize;
            values[week][hour_of_week(*time)] = number;
            has_data[week] |= number > 0;
            if number > peak.map_or(0, |peak| peak.number) {
                peak = Some(Peak { time: *time, number });
            }
        }
        let kept: Vec<&Vec<i64>> = values.iter().zip(&has_data).filter(|(_, has_data)| **has_data).map(|(week, _)| week).collect();
        let hours = (0..HOURS).map(|hour| {
            let mut of_hour: Vec<i64> = kept.iter().map(|week| week[hour]).collect();
            of_hour.sort_unstable();
            let at = |percent| nearest_rank(&of_hour, percent).and_then(|number| privacy.number(number));
            Hour { median: at(50), p10: at(10), p90: at(90) }
        });
        let peak = peak.filter(|peak| privacy.number(peak.number).is_some());
        Self { from, to, weeks: kept.len() as u32, hours: hours.collect(), peak }
    }
}

/// 0 is Monday 00:00 UTC.
pub fn hour_of_week(time: Micros) -> usize {
    ((time + EPOCH_WEEKDAY).rem_euclid(WEEK) / HOUR) as usize
}

/// Of ascending values.
fn nearest_rank(sorted: &[i64], percent: usize) -> Option<i64> {
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::parse_time;

    fn at(text: &str) -> Micros {
        parse_time(text).expect("a time")
    }

    fn row(text: &str, count: i64) -> (Micros, Cell) {
        (at(text), Cell { count, randomized: 1, micros: 0 })
    }

    #[test]
    fn a_week_begins_on_monday_at_midnight() {
        assert_eq!(hour_of_week(at("2024-10-07T00:00:00Z")), 0);
        assert_eq!(hour_of_week(at("2024-10-06T23:00:00Z")), 167);
        assert_eq!(hour_of_week(at("2024-10-05T09:00:00Z")), 5 * 24 + 9);
        assert_eq!(hour_of_week(at("1969-12-29T00:00:00Z")), 0, "also before the epoch");
    }

    #[test]
    fn ranks_are_values_that_were_there() {
        let values: Vec<i64> = (1..=10).collect();
        assert_eq!([10, 50, 90].map(|p| nearest_rank(&values, p)), [Some(1), Some(5), Some(9)]);
        assert_eq!([10, 50, 90].map(|p| nearest_rank(&[7], p)), [Some(7); 3]);
        assert_eq!([10, 50, 90].map(|p| nearest_rank(&[1, 2, 3], p)), [Some(1), Some(2), Some(3)]);
        assert_eq!(nearest_rank(&[], 50), None);
    }

    #[test]
    fn hours_are_compared_over_weeks_with_data() {
        // Mondays at nine, in three of four weeks; the second week has nothing at all.
        let rows = [row("2024-09-02T09:00:00Z", 4), row("2024-09-16T09:00:00Z", 8), row("2024-09-23T10:00:00Z", 5)];
        let to = at("2024-09-25T12:00:00Z");
        let typical = Typical::of(&rows, to, 4, Privacy::default());
        assert_eq!((typical.weeks, typical.from), (3, at("2024-08-28T12:00:00Z")));
        assert_eq!(typical.hours.len(), 168);
        assert_eq!(typical.hours[9], Hour { median: Some(4), p10: Some(0), p90: Some(8) });
        assert_eq!(typical.hours[10], Hour { median: Some(0), p10: Some(0), p90: Some(5) });
        assert_eq!(typical.hours[11], Hour { median: Some(0), p10: Some(0), p90: Some(0) });
        assert_eq!(typical.peak, Some(Peak { time: at("2024-09-16T09:00:00Z"), number: 8 }));
    }

    #[test]
    fn rows_outside_of_the_weeks_do_not_count() {
        let rows = [row("2024-09-25T12:00:00Z", 9), row("2024-09-18T11:00:00Z", 9)];
        let typical = Typical::of(&rows, at("2024-09-25T12:00:00Z"), 1, Privacy::default());
        assert_eq!((typical.weeks, typical.peak), (0, None));
        assert!(typical.hours.iter().all(|hour| hour.median.is_none()));
    }

    #[test]
    fn what_may_not_be_shown_is_not() {
        let rows = [row("2024-09-23T09:00:00Z", 4)];
        let to = at("2024-09-25T12:00:00Z");
        let typical = Typical::of(&rows, to, 1, Privacy { exclude_randomized: true, k: 4 });
        assert_eq!((typical.hours[9].median, typical.hours[10].median, typical.peak), (None, Some(0), None));
        let typical = Typical::of(&rows, to, 1, Privacy { exclude_randomized: true, k: 0 });
        assert_eq!(typical.hours[9].median, Some(3));
    }
}
