//! What a run is: plain values, as they are listed and as they stand in the log.

use super::error::RunError;
use desireline_records::Micros;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// 32 hex digits, made at random.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::rng().random::<u128>()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RunId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunStatus {
    /// Waits for a slot, for its turn, or for the runs it depends on.
    Pending,
    /// Works, or waits between two attempts.
    Started,
    Success,
    Failure,
    Cancelled,
}

impl RunStatus {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Started, Self::Success, Self::Failure, Self::Cancelled];

    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The run never changes again.
    pub fn finished(self) -> bool {
        !matches!(self, Self::Pending | Self::Started)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for RunStatus {
    type Err = super::RunsError;

    /// Case does not matter; any other word is [`super::RunsError::UnknownStatus`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|status| status.word().eq_ignore_ascii_case(text));
        found.ok_or_else(|| super::RunsError::UnknownStatus(text.chars().take(64).collect()))
    }
}

/// How often, and after which pause, failed work is tried again. Only errors of the domain `external` are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts after the first one.
    pub retries: u32,
    /// The pause before the second attempt; each later pause is twice the one before, at most [`RetryPolicy::DELAY_MAX`].
    pub delay: Duration,
    /// The share of the pause by which it is lengthened or shortened at random, 0..=1.
    pub jitter: f64,
    /// Every pause is as long as the first one.
    pub constant: bool,
}

impl RetryPolicy {
    pub const NEVER: Self = Self { retries: 0, delay: Duration::ZERO, jitter: 0.0, constant: true };
    pub const DELAY_MAX: Duration = Duration::from_secs(300);

    /// `retries` attempts more, always the same pause apart.
    pub const fn every(retries: u32, delay: Duration, jitter: f64) -> Self {
        Self { retries, delay, jitter, constant: true }
    }

    /// The pause after the `failures`-th failure (1, 2, …); `random` is uniform in 0..1.
    pub fn pause(&self, failures: u32, random: f64) -> Duration {
        let doublings = if self.constant { 0 } else { failures.saturating_sub(1).min(20) };
        let base = self.delay.saturating_mul(1 << doublings).min(Self::DELAY_MAX);
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        base.mul_f64((1.0 + jitter * (2.0 * random - 1.0)).max(0.0))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::NEVER
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct NewRun {
    /// A job registered by [`super::Runs::register`].
    pub job_name: String,
    pub params: Value,
    /// Runs with the same key go one after another, in the order of submission.
    pub serial_key: Option<String>,
    /// Begins only after these have succeeded; fails when one of them does not.
    pub depends_on: Vec<RunId>,
    pub retries: RetryPolicy,
    /// For one attempt; without it an attempt may take as long as it likes.
    pub timeout: Option<Duration>,
}

/// How far the work has come, in its own unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    pub done: u64,
    /// 0 when it is not known.
    pub total: u64,
    pub unit: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    Info,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub timestamp: Micros,
    pub level: LogLevel,
    pub message: String,
    /// The step that speaks; absent when the scheduler does.
    pub step_key: Option<String>,
}

/// Everything about a run but its log lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub run_id: RunId,
    /// The order of submission.
    pub number: u64,
    pub job_name: String,
    pub params: Value,
    pub serial_key: Option<String>,
    pub depends_on: Vec<RunId>,
    pub retries: RetryPolicy,
    pub timeout: Option<Duration>,
    pub status: RunStatus,
    /// Attempts begun, restarts of the server included.
    pub attempt: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Restarts of the server in the middle of the work.
    pub interruptions: u32,
    pub created_at: Micros,
    pub start_time: Option<Micros>,
    pub end_time: Option<Micros>,
    pub error: Option<RunError>,
    /// What the job answered, unless that was `null`.
    pub result: Option<Value>,
    pub progress: Option<RunProgress>,
    pub checkpoint: Option<Value>,
    /// The work has stopped and has been tidied up after. A cancelled run is not settled until then.
    pub settled: bool,
}

impl RunRecord {
    /// What `error_message` says.
    pub fn error_message(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.message.as_str())
    }
}

/// The format of [`RecordedRun`] that this release writes. It reads this one and no other.
pub(super) const FORMAT: u16 = 1;

/// A run as it stands in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedRun {
    pub format: u16,
    #[serde(flatten)]
    pub record: RunRecord,
    /// The newest lines.
    pub logs: Vec<LogLine>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let (a, b) = (RunId::random(), RunId::random());
        assert_ne!(a, b);
        assert!(a.as_str().len() == 32 && a.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()), "{a}");
    }

    #[test]
    fn statuses_are_read_by_their_words_only() {
        for status in RunStatus::ALL {
            assert_eq!(status.word().parse::<RunStatus>().expect("a word"), status);
            assert_eq!(serde_json::to_value(status).expect("json"), status.word());
        }
        assert_eq!("success".parse::<RunStatus>().expect("a word"), RunStatus::Success);
        let error = "DONE".parse::<RunStatus>().expect_err("unknown");
        assert_eq!(error.code(), "unknown_run_status");
        assert!(error.to_string().contains("DONE") && error.to_string().contains("PENDING"), "{error}");
    }

    #[test]
    fn pauses_stay_within_their_jitter() {
        let policy = RetryPolicy::every(3, Duration::from_secs(5), 0.2);
        assert_eq!(policy.pause(1, 0.0), Duration::from_secs(4));
        assert_eq!(policy.pause(3, 0.5), Duration::from_secs(5));
        assert!(policy.pause(2, 0.999_999) <= Duration::from_secs(6));
        let doubling = RetryPolicy { constant: false, jitter: 0.0, ..policy };
        assert_eq!([1, 2, 3].map(|n| doubling.pause(n, 0.3).as_secs()), [5, 10, 20]);
        assert_eq!(doubling.pause(u32::MAX, 0.9), RetryPolicy::DELAY_MAX);
        let broken = RetryPolicy { jitter: f64::NAN, ..policy };
        assert_eq!(broken.pause(1, 0.9), Duration::from_secs(5));
    }
}
