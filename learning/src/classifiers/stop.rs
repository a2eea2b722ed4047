//! How a long fit learns that nobody waits for it any more.
//!
//! Every loop that can last asks [`Stop::check`] at least every few milliseconds of its work. This crate has no clock: a deadline is a
//! reading of a clock that the caller gives, on which the fit only calls.

use super::ModelError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A clock's reading: time since any fixed moment, by the wall or of the calling thread's processor time.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A flag and any number of deadlines; the default never stops anything. Clones share the flag.
#[derive(Clone, Default)]
pub struct Stop {
    cancelled: Arc<AtomicBool>,
    deadlines: Vec<(Clock, Duration)>,
}

/// What ended a fit early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Cancelled,
    DeadlinePassed,
}

impl StopReason {
    /// Stable and machine readable.
    pub fn code(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::DeadlinePassed => "deadline_passed",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled before it was done",
            Self::DeadlinePassed => "stopped at its time limit",
        })
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("cancelled", &self.cancelled).field("deadlines", &self.deadlines.len()).finish()
    }
}

impl Stop {
    /// Stops when `cancelled` is set.
    pub fn new(cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled, deadlines: Vec::new() }
    }

    /// Stops, besides, when `clock` reads `at` or later.
    #[must_use]
    pub fn with_deadline(&self, clock: &Clock, at: Duration) -> Self {
        let mut narrower = self.clone();
        narrower.deadlines.push((Arc::clone(clock), at));
        narrower
    }

    /// Sets the flag that all clones share.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Why to stop now, if so.
    pub fn reason(&self) -> Option<StopReason> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Some(StopReason::Cancelled);
        }
        self.deadlines.iter().any(|(clock, at)| clock() >= *at).then_some(StopReason::DeadlinePassed)
    }

    /// [`ModelError::Stopped`] when there is a reason to stop.
    pub fn check(&self) -> Result<(), ModelError> {
        self.reason().map_or(Ok(()), |reason| Err(ModelError::Stopped(reason)))
    }
}

/// Asks a [`Stop`] once in a while, for loops whose turns are too short to read a clock at each.
pub(super) struct Pace<'a> {
    stop: &'a Stop,
    /// Values looked at since it was asked.
    values: usize,
}

/// Values looked at between two questions: about a quarter of a millisecond, in which reading even a slow clock is nothing.
const VALUES_PER_CHECK: usize = 1 << 16;

impl<'a> Pace<'a> {
    pub(super) fn new(stop: &'a Stop) -> Self {
        Self { stop, values: VALUES_PER_CHECK }
    }

    /// Counts work that is about to be done; the first time and then now and again it asks.
    pub(super) fn walk(&mut self, values: usize) -> Result<(), ModelError> {
        self.values = self.values.saturating_add(values);
        if self.values < VALUES_PER_CHECK {
            return Ok(());
        }
        self.values = 0;
        self.stop.check()
    }
}
