//! Visits and how long they were.
//!
//! The mean is exact: all time spent, by the number of visits. Median and 90th percentile are estimated from the histogram of
//! [`DWELL_BUCKETS`]: the bucket in which the visit of that rank lies, and in it a straight line from its lower to its upper end. The
//! open last bucket is taken to end at twice its lower end. So they are off by at most the width of a bucket. A visit over midnight
//! counts on both days, each time with the part that lies on the day.
//!
//! Numbers of a space with others below it are sums: who was in two rooms made two visits and is two visitors.

use super::Privacy;
use desireline_records::time::SECOND;
use desireline_records::wifi::DWELL_BUCKETS;
use desireline_records::{Cell, Micros};

/// In seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DwellTimes {
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
}

/// A day (UTC). Absent numbers are withheld, or not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct VisitDay {
    pub day: Micros,
    pub visits: Option<i64>,
    /// Distinct devices per space, if bins of a day are kept.
    pub visitors: Option<i64>,
    /// Of the visits, those of devices with randomised addresses.
    pub randomized: Option<i64>,
    pub dwell: Option<DwellTimes>,
}

impl VisitDay {
    /// `lengths` are the buckets of the day, by number.
    pub fn of(day: Micros, visits: Cell, visitors: Option<Cell>, lengths: &[(i32, i64)], privacy: Privacy) -> Self {
        let shown = privacy.show(visits);
        let dwell = shown.number.and_then(|_| {
            let rank = |share| at_rank(lengths, share);
            let mean = (visits.count > 0).then(|| visits.micros as f64 / visits.count as f64 / SECOND as f64)?;
            Some(DwellTimes { mean, median: rank(0.5)?, p90: rank(0.9)? })
        });
        let visitors = visitors.and_then(|cell| privacy.show(cell).number);
        Self { day, visits: shown.number, visitors, randomized: shown.randomized, dwell }
    }
}

/// The ends of a bucket, in seconds.
fn ends(bucket: i32) -> (f64, f64) {
    let end = |at: i32| usize::try_from(at).ok().and_then(|at| DWELL_BUCKETS.get(at)).map(|micros| *micros as f64 / SECOND as f64);
    let lower = end(bucket - 1).unwrap_or(0.0);
    (lower, end(bucket).unwrap_or(2.0 * lower))
}

/// The length, in seconds, below which this share of the visits lies.
fn at_rank(lengths: &[(i32, i64)], share: f64) -> Option<f64> {
    let mut buckets: Vec<(i32, i64)> = lengths.iter().copied().filter(|(_, count)| *count > 0).collect();
    buckets.sort_unstable();
    let all: i64 = buckets.iter().map(|(_, count)| count).sum();
    let wanted = share * all as f64;
    let mut before = 0_i64;
    for (bucket, count) in buckets {
        if (before + count) as f64 >= wanted {
            let (lower, upper) = ends(bucket);
            return Some(lower + (upper - lower) * (wanted - before as f64) / count as f64);
        }
        before += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::{HOUR, MINUTE};
    use desireline_records::wifi::dwell_bucket;

    #[test]
    fn a_rank_lies_on_a_line_within_its_bucket() {
        // Ten visits between five and ten minutes, ten between half an hour and an hour.
        let lengths = [(dwell_bucket(45 * MINUTE), 10), (dwell_bucket(7 * MINUTE), 10)];
        assert_eq!(at_rank(&lengths, 0.25), Some(450.0));
        assert_eq!(at_rank(&lengths, 0.5), Some(600.0), "the end of the lower bucket");
        assert_eq!(at_rank(&lengths, 0.9), Some(1_800.0 + 0.8 * 1_800.0));
        assert_eq!(at_rank(&[], 0.5), None);
    }

    #[test]
    fn the_last_bucket_ends_at_twice_its_begin() {
        assert_eq!(ends(0), (0.0, 60.0));
        assert_eq!(ends(11), (57_600.0, 115_200.0));
        assert_eq!(at_rank(&[(11, 2)], 0.5), Some(86_400.0));
    }

    #[test]
    fn a_day_has_its_mean_and_hides_what_is_few() {
        let visits = Cell { count: 4, randomized: 1, micros: 2 * HOUR };
        let lengths = [(dwell_bucket(30 * MINUTE), 4)];
        let day = VisitDay::of(0, visits, Some(Cell { count: 3, randomized: 0, micros: 0 }), &lengths, Privacy::default());
        assert_eq!((day.visits, day.visitors, day.randomized), (Some(4), Some(3), Some(1)));
        assert_eq!(day.dwell.map(|dwell| (dwell.mean, dwell.median)), Some((1_800.0, 1_350.0)));
        let hidden = VisitDay::of(0, visits, None, &lengths, Privacy { exclude_randomized: false, k: 5 });
        assert_eq!((hidden.visits, hidden.visitors, hidden.dwell), (None, None, None));
        let empty = VisitDay::of(0, Cell::ZERO, None, &[], Privacy::default());
        assert_eq!((empty.visits, empty.dwell), (Some(0), None));
    }
}
