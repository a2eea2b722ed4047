//! Where each partition stands, and whether it may be read: decisions only, no I/O.

use super::Start;
use super::client::Bounds;
use desireline_records::PartitionKey;
use std::collections::{BTreeMap, BTreeSet};

/// What a topic's run remembers from one session to the next.
#[derive(Default)]
pub(super) struct Memory {
    /// Partitions that must not be read, with the log's position at which they were stopped.
    pub stopped: BTreeMap<i32, Stop>,
    /// Successful commits: tells a session that got somewhere from one that did not.
    pub commits: u64,
    /// Something was reported about the topic as a whole, and has not been taken back.
    pub reported: bool,
    /// The partitions there were when the topic was first seen, and whether the log knew any of them.
    first: Option<(BTreeSet<i32>, bool)>,
}

impl Memory {
    /// Keeps the first look at the topic.
    pub fn first_look(&mut self, partitions: impl Iterator<Item = i32>, known_to_log: impl FnOnce() -> bool) {
        self.first.get_or_insert_with(|| (partitions.collect(), known_to_log()));
    }

    /// Whether a partition without a position came later than the reading of its topic.
    pub fn is_new(&self, partition: i32) -> bool {
        self.first.as_ref().is_some_and(|(partitions, known)| *known || !partitions.contains(&partition))
    }
}

/// Why a partition is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// Nothing changes until the log's position is another.
    pub position: Option<i64>,
    pub reason: String,
}

/// A partition that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    pub key: PartitionKey,
    /// The next offset to be gathered.
    pub next: i64,
    /// Up to where it is durable.
    pub committed: i64,
    /// Everything that the broker had has been gathered.
    pub at_end: bool,
    /// The latest accepted event time of this run.
    pub max_time: Option<desireline_records::Micros>,
}

/// What to do with a partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Read {
        offset: i64,
        /// The log does not know the offset yet and must, before anything else is read.
        record: bool,
    },
    Stop(Stop),
}

/// Decides about a partition that is not being read. `new` says that it came later than the reading of its topic.
pub(super) fn decide(position: Option<i64>, bounds: Bounds, start: Start, new: bool, stopped: Option<&Stop>) -> Decision {
    if let Some(stop) = stopped.filter(|stop| stop.position == position) {
        return Decision::Stop(stop.clone());
    }
    let Bounds { low, high } = bounds;
    let reason = match position {
        None if start == Start::Latest && !new => return Decision::Read { offset: high, record: true },
        None => return Decision::Read { offset: low, record: false },
        Some(at) if at < low => format!(
            "position {at} lies before the oldest message {low}: the topic's retention has removed messages that were never read; \
             reset the partition's position to go on"
        ),
        Some(at) if at > high => beyond(at, high),
        Some(at) => return Decision::Read { offset: at, record: false },
    };
    Decision::Stop(Stop { position, reason })
}

/// The reason for which a partition that has been read up to `at` ends at `high`.
pub(super) fn beyond(at: i64, high: i64) -> String {
    format!(
        "position {at} lies beyond the end {high}: the topic was created anew or has lost messages; \
         reset the partition's position to go on"
    )
}

/// Offsets between a position and the end. One offset behind the last message is the mark that ends a transaction.
pub(super) fn lag(next: i64, high: i64, at_end: bool) -> i64 {
    let offsets = (high - next).max(0);
    if at_end && offsets == 1 { 0 } else { offsets }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { low: 10, high: 20 };

    #[test]
    fn positions_inside_the_bounds_are_read_on() {
        for at in [10, 15, 20] {
            assert_eq!(decide(Some(at), BOUNDS, Start::Latest, true, None), Decision::Read { offset: at, record: false });
        }
    }

    #[test]
    fn unknown_partitions_begin_where_the_start_says_unless_they_are_new() {
        assert_eq!(decide(None, BOUNDS, Start::Earliest, false, None), Decision::Read { offset: 10, record: false });
        assert_eq!(decide(None, BOUNDS, Start::Latest, false, None), Decision::Read { offset: 20, record: true });
        assert_eq!(decide(None, BOUNDS, Start::Latest, true, None), Decision::Read { offset: 10, record: false });
    }

    #[test]
    fn a_partition_is_new_when_the_topic_was_seen_without_it() {
        let mut memory = Memory::default();
        assert!(!memory.is_new(0));
        memory.first_look([0, 1].into_iter(), || false);
        memory.first_look([0, 1, 2].into_iter(), || true);
        assert_eq!([0, 1, 2].map(|id| memory.is_new(id)), [false, false, true]);
        let mut memory = Memory::default();
        memory.first_look([0].into_iter(), || true);
        assert!(memory.is_new(0), "the log knew the topic, but not this partition");
    }

    #[test]
    fn positions_outside_stop_until_they_change() {
        for (at, word) in [(9, "retention"), (21, "created anew")] {
            let Decision::Stop(stop) = decide(Some(at), BOUNDS, Start::Earliest, true, None) else { panic!("{at} is outside") };
            assert!(stop.reason.contains(word) && stop.reason.contains(&at.to_string()), "{}", stop.reason);
            let wider = Bounds { low: 0, high: 100 };
            assert_eq!(decide(Some(at), wider, Start::Earliest, true, Some(&stop)), Decision::Stop(stop.clone()), "growth heals nothing");
            assert_eq!(decide(Some(12), wider, Start::Earliest, true, Some(&stop)), Decision::Read { offset: 12, record: false });
        }
    }

    #[test]
    fn the_mark_of_a_transaction_is_no_lag() {
        assert_eq!([lag(5, 9, false), lag(5, 6, false), lag(5, 6, true), lag(5, 7, true), lag(5, 3, true)], [4, 1, 0, 2, 0]);
    }
}
