//! Makes an orderly stream look like a real one: some rows arrive late, some arrive twice.
//!
//! Rows come in by the time at which they happened and go out by the time at which they arrive. At most [`PENDING_MAX`] rows
//! are held back; beyond that late rows arrive at once.

use super::random::Random;
use desireline_records::Micros;
use desireline_records::time::{HOUR, MINUTE, SECOND};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Late rows arrive up to this long after they happened.
pub const LATE_MAX: Micros = 2 * HOUR;
/// A second copy arrives up to this long after the first.
pub const REPEAT_MAX: Micros = MINUTE;
/// Rows held back at most, about 100 MB of them.
pub const PENDING_MAX: usize = 1_000_000;

/// What can be held back and repeated.
pub trait Arriving: Clone {
    fn arrival(&self) -> Micros;
    fn set_arrival(&mut self, arrival: Micros);
    fn mark_duplicate(&mut self);
}

/// Rows in the order of their arrival.
pub struct Disturb<I: Iterator>
where
    I::Item: Arriving,
{
    rows: I,
    next: Option<I::Item>,
    pending: BinaryHeap<Reverse<Pending<I::Item>>>,
    random: Random,
    late: f64,
    duplicates: f64,
    sequence: u64,
}

/// Ordered by arrival, then by the order in which it was held back.
struct Pending<T> {
    arrival: Micros,
    sequence: u64,
    row: T,
}

impl<T> PartialEq for Pending<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Pending<T> {}

impl<T> PartialOrd for Pending<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Pending<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrival, self.sequence).cmp(&(other.arrival, other.sequence))
    }
}

impl<I: Iterator> Disturb<I>
where
    I::Item: Arriving,
{
    /// `late` and `duplicates` are shares of the rows, 0 to 1.
    pub fn new(rows: I, seed: u64, late: f64, duplicates: f64) -> Self {
        let random = Random::new(seed, 0xD157);
        Self { rows, next: None, pending: BinaryHeap::new(), random, late, duplicates, sequence: 0 }
    }

    /// When the next row arrives; `None` at the end.
    pub fn next_arrival(&mut self) -> Option<Micros> {
        self.fill();
        let held = self.pending.peek().map(|p| p.0.arrival);
        let fresh = self.next.as_ref().map(Arriving::arrival);
        match (held, fresh) {
            (Some(held), Some(fresh)) => Some(held.min(fresh)),
            (held, fresh) => held.or(fresh),
        }
    }

    /// Pulls rows until one arrives in time; late ones go aside.
    fn fill(&mut self) {
        while self.next.is_none() {
            let Some(mut row) = self.rows.next() else { return };
            let happened = row.arrival();
            let room = self.pending.len() < PENDING_MAX;
            if self.late > 0.0 && self.random.chance(self.late) && room {
                let arrival = happened + self.random.between(SECOND, LATE_MAX);
                row.set_arrival(arrival);
                self.repeat(&row);
                self.hold(row);
                // Whatever is held may be due before the next fresh row is known to come.
                continue;
            }
            self.repeat(&row);
            self.next = Some(row);
        }
    }

    fn repeat(&mut self, row: &I::Item) {
        if self.duplicates > 0.0 && self.random.chance(self.duplicates) && self.pending.len() < PENDING_MAX {
            let mut copy = row.clone();
            copy.set_arrival(row.arrival() + self.random.between(0, REPEAT_MAX));
            copy.mark_duplicate();
            self.hold(copy);
        }
    }

    fn hold(&mut self, row: I::Item) {
        self.sequence += 1;
        self.pending.push(Reverse(Pending { arrival: row.arrival(), sequence: self.sequence, row }));
    }
}

impl<I: Iterator> Iterator for Disturb<I>
where
    I::Item: Arriving,
{
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.fill();
        let held_first = match (self.pending.peek(), &self.next) {
            (Some(held), Some(fresh)) => held.0.arrival < fresh.arrival(),
            (held, _) => held.is_some(),
        };
        if held_first { self.pending.pop().map(|p| p.0.row) } else { self.next.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        time: Micros,
        arrival: Micros,
        duplicate: bool,
    }

    impl Arriving for Row {
        fn arrival(&self) -> Micros {
            self.arrival
        }
        fn set_arrival(&mut self, arrival: Micros) {
            self.arrival = arrival;
        }
        fn mark_duplicate(&mut self) {
            self.duplicate = true;
        }
    }

    fn rows(n: i64) -> impl Iterator<Item = Row> {
        (0..n).map(|i| Row { time: i * SECOND, arrival: i * SECOND, duplicate: false })
    }

    #[test]
    fn shares_are_kept_and_arrivals_ordered() {
        let out: Vec<Row> = Disturb::new(rows(50_000), 7, 0.1, 0.05).collect();
        let duplicates = out.iter().filter(|r| r.duplicate).count();
        let late = out.iter().filter(|r| !r.duplicate && r.arrival > r.time).count();
        assert_eq!(out.len(), 50_000 + duplicates);
        assert!((2_200..2_800).contains(&duplicates), "{duplicates}");
        assert!((4_600..5_400).contains(&late), "{late}");
        assert!(out.is_sorted_by_key(|r| r.arrival));
        assert!(out.iter().all(|r| r.arrival - r.time <= LATE_MAX + REPEAT_MAX));
    }

    #[test]
    fn nothing_is_disturbed_at_zero_shares() {
        let mut disturb = Disturb::new(rows(10), 7, 0.0, 0.0);
        assert_eq!(disturb.next_arrival(), Some(0));
        assert_eq!(disturb.by_ref().count(), 10);
        assert_eq!(disturb.next_arrival(), None);
    }
}
