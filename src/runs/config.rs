//! The limits of runs. The file format and its documentation live in `crate::config`.

use std::time::Duration;

/// Every limit of the scheduler, with its default.
#[derive(Clone, Debug, PartialEq)]
pub struct RunsConfig {
    /// Runs that work at the same time (2).
    pub concurrency: usize,
    /// Runs that wait; more are refused (1,000).
    pub queue_max: usize,
    /// Finished runs kept in memory, the newest (10,000).
    pub finished_max: usize,
    /// Log lines kept of a run that works, the newest (10,000).
    pub log_lines_max: usize,
    /// Log lines recorded with a run, and kept in memory once it has finished, the newest (200).
    pub log_lines_recorded_max: usize,
    /// Log lines kept of all finished runs together; the oldest runs lose theirs first (200,000).
    pub log_lines_finished_max: usize,
    /// Parameters, result and checkpoint of a run, each as JSON (64 KiB).
    pub value_bytes_max: usize,
    /// After a cancel, a timeout or at shutdown: how long work may take to stop by itself before it is dropped (10 s).
    pub stop_grace: Duration,
    /// How long tidying up after a run may take, per try (30 s).
    pub settle_timeout: Duration,
    /// How long a reply waits for a change to be durable (10 s).
    pub record_timeout: Duration,
    /// The pause after the log refused a record (1 s).
    pub record_retry: Duration,
    /// A resumable run that restarts of the server have interrupted this often fails (5).
    pub interruptions_max: u32,
}

impl Default for RunsConfig {
    fn default() -> Self {
        Self {
            concurrency: 2,
            queue_max: 1_000,
            finished_max: 10_000,
            log_lines_max: 10_000,
            log_lines_recorded_max: 200,
            log_lines_finished_max: 200_000,
            value_bytes_max: 64 * 1024,
            stop_grace: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(30),
            record_timeout: Duration::from_secs(10),
            record_retry: Duration::from_secs(1),
            interruptions_max: 5,
        }
    }
}
