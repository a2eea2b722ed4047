//! Waiting for a condition, with a deadline. The only place of the tests that sleeps.

use std::fmt::Display;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long things may take that take a moment on an idle machine; generous, because it is only ever spent on failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Try `attempt` until it succeeds and return its value; panic after `deadline` with the last error.
///
/// Polls every 5 ms at first and every 100 ms later.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if begin.elapsed() >= deadline => panic!("waited {deadline:?} for {what}; last seen: {error}"),
            Err(_) => {}
        }
        pause_for(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

/// Like [`eventually`], for a plain condition.
#[track_caller]
pub fn eventually_true(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually(what, deadline, || if condition() { Ok(()) } else { Err("not yet") });
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn pause_for(duration: Duration) {
    std::thread::sleep(duration);
}

/// Tells threads that feed a server when to stop, and paces them until then.
#[derive(Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// True at once when it has been stopped, false when it has not been after `pace`.
    pub fn stopped_within(&self, pace: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self.changed.wait_timeout_while(stopped, pace, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}
