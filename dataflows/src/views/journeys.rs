//! Journeys: where each user has come to, over all sessions.
//!
//! A session is a path of moves from (0, 0, 0): a view is (+1, 0, 0), a cart (0, +1, 0), a transaction (0, 0, +1), or
//! (0, 0, +value) with `transaction_value`. A user's journey is the sum of its sessions. Sums of integers do not depend on
//! order, so the journey is a *difference type*: the sessions view emits differences, an arrangement keyed by user
//! accumulates them, and the accumulated difference IS the journey. Sealing a session changes nothing here.
//!
//! Keys are (source, slot): the slot is the number of the user in the sessions view of the same worker, so the arrangement
//! never moves data between workers, and all users of one source are neighbours.

use desireline_records::SourceId;
use desireline_records::fixed::sum_to_f64;
use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::chunker::ContainerChunker;
use differential_dataflow::trace::implementations::{KeyBatcher, KeyBuilder, KeySpine};
use differential_dataflow::trace::{Cursor, TraceReader};
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;

/// The sum of some sessions. Also the change of such a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Journey {
    pub views: i64,
    pub carts: i64,
    pub transactions: i64,
    pub sessions: i64,
    /// Sum of transaction values in ten-thousandths, as two halves of an `i128` (which would double the padding).
    value_high: i64,
    value_low: u64,
}

impl Journey {
    pub fn new(views: i64, carts: i64, transactions: i64, sessions: i64, value: i128) -> Self {
        Self { views, carts, transactions, sessions, value_high: (value >> 64) as i64, value_low: value as u64 }
    }

    /// So many sessions without moves.
    pub fn of_sessions(sessions: i64) -> Self {
        Self::new(0, 0, 0, sessions, 0)
    }

    pub fn value(&self) -> i128 {
        (i128::from(self.value_high) << 64) | i128::from(self.value_low)
    }

    pub fn set_value(&mut self, value: i128) {
        self.value_high = (value >> 64) as i64;
        self.value_low = value as u64;
    }

    pub fn add(&mut self, other: &Self) {
        self.views += other.views;
        self.carts += other.carts;
        self.transactions += other.transactions;
        self.sessions += other.sessions;
        if other.value_high != 0 || other.value_low != 0 {
            self.set_value(self.value() + other.value());
        }
    }

    pub fn negated(&self) -> Self {
        let mut negated =
            Self { views: -self.views, carts: -self.carts, transactions: -self.transactions, sessions: -self.sessions, ..Self::default() };
        negated.set_value(-self.value());
        negated
    }

    /// The final coordinates.
    pub fn state(&self, transaction_value: bool) -> [f64; 3] {
        let transactions = if transaction_value { sum_to_f64(self.value()) } else { self.transactions as f64 };
        [self.views as f64, self.carts as f64, transactions]
    }

    /// The six features: views, carts, transactions, sessions, mean views per session, and the purchase ratio: mean
    /// transactions per session over mean views per session, or the former alone when there are no views.
    pub fn features(&self, transaction_value: bool) -> [f64; 6] {
        let [views, carts, transactions] = self.state(transaction_value);
        let sessions = self.sessions as f64;
        if self.sessions <= 0 {
            return [views, carts, transactions, sessions, 0.0, 0.0];
        }
        let (mean_views, mean_buys) = (views / sessions, transactions / sessions);
        let ratio = if self.views == 0 { mean_buys } else { mean_buys / mean_views };
        [views, carts, transactions, sessions, mean_views, ratio]
    }
}

impl IsZero for Journey {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Semigroup for Journey {
    fn plus_equals(&mut self, other: &Self) {
        self.add(other);
    }
}

impl Monoid for Journey {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Journey {
    fn negate(&mut self) {
        *self = self.negated();
    }
}

impl Multiply<isize> for Journey {
    type Output = Self;

    fn multiply(self, times: &isize) -> Self {
        let times = *times as i64;
        let mut product = Self {
            views: self.views * times,
            carts: self.carts * times,
            transactions: self.transactions * times,
            sessions: self.sessions * times,
            ..Self::default()
        };
        product.set_value(self.value() * i128::from(times));
        product
    }
}

/// A user as the arrangements of one worker know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserKey {
    pub source: SourceId,
    pub slot: u32,
}

pub type JourneysTrace = TraceAgent<KeySpine<UserKey, u64, Journey>>;

/// A change of one user's journey, as the sessions view emits it.
pub type JourneyUpdate = ((UserKey, ()), u64, Journey);

/// Arranges journey changes by user, where they are.
pub fn arrange<'scope>(changes: StreamVec<'scope, u64, JourneyUpdate>) -> Arranged<'scope, JourneysTrace> {
    arrange_core::<_, _, ContainerChunker<Vec<JourneyUpdate>>, KeyBatcher<_, _, _>, KeyBuilder<_, _, _>, KeySpine<_, _, _>>(
        changes, Pipeline, "Journeys",
    )
}

/// The journey of one user, now. The trace must be read between batches, when all its times are closed.
pub fn read(trace: &mut JourneysTrace, key: UserKey) -> Journey {
    let (mut cursor, storage) = trace.cursor();
    cursor.seek_key(&storage, &key);
    let mut journey = Journey::default();
    if cursor.get_key(&storage) == Some(&key) {
        cursor.map_times(&storage, |_, change| journey.add(change));
    }
    journey
}

/// All users of a source, in slot order.
pub fn scan(trace: &mut JourneysTrace, source: SourceId, mut each: impl FnMut(UserKey, &Journey)) {
    let (mut cursor, storage) = trace.cursor();
    cursor.seek_key(&storage, &UserKey { source, slot: 0 });
    while let Some(key) = cursor.get_key(&storage).copied().filter(|key| key.source == source) {
        let mut journey = Journey::default();
        cursor.map_times(&storage, |_, change| journey.add(change));
        if !journey.is_zero() {
            each(key, &journey);
        }
        cursor.step_key(&storage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_by_hand() {
        assert_eq!(Journey::new(2, 1, 1, 2, 0).features(false), [2.0, 1.0, 1.0, 2.0, 1.0, 0.5]);
        assert_eq!(Journey::new(3, 0, 0, 2, 0).features(false), [3.0, 0.0, 0.0, 2.0, 1.5, 0.0]);
        assert_eq!(Journey::new(4, 1, 1, 2, 0).features(false), [4.0, 1.0, 1.0, 2.0, 2.0, 0.25]);
        assert_eq!(Journey::new(0, 0, 1, 1, 0).features(false)[5], 1.0);
        assert_eq!(Journey::new(2, 0, 1, 1, 125_000).features(true), [2.0, 0.0, 12.5, 1.0, 2.0, 6.25]);
    }

    #[test]
    fn values_add_up_beyond_64_bits_and_below_zero() {
        let mut sum = Journey::default();
        for _ in 0..2_000 {
            sum.add(&Journey::new(0, 0, 1, 0, 10_000_000_000_000_000));
        }
        assert_eq!(sum.value(), 20_000_000_000_000_000_000);
        sum.add(&sum.negated());
        assert!(sum.is_zero());
        sum.add(&Journey::new(0, 0, 0, 0, -5));
        assert_eq!((sum.value(), sum.multiply(&-3).value()), (-5, 15));
    }
}
