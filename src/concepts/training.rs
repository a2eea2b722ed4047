//! The settings of labelling functions and of what is learned from them.

use crate::config::Config;
use desireline_labelling::RuntimeConfig;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Every setting, with its default.
#[derive(Clone, Debug)]
pub struct TrainingConfig {
    /// Functions become active without approval (not).
    pub is_toggle_lenient: bool,
    /// Threads on which the models of one job are trained and its functions evaluated (as many as there are cores).
    pub threads: usize,
    /// Functions that are tested at the same time (2).
    pub tests_at_once: usize,
    /// How long one model may be trained (10 min).
    pub model_time_max: Duration,
    /// Workers for functions that are interpreted, and their limits.
    pub runtime: RuntimeConfig,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            is_toggle_lenient: false,
            threads,
            tests_at_once: 2,
            model_time_max: Duration::from_secs(600),
            runtime: RuntimeConfig::default(),
        }
    }
}

impl TrainingConfig {
    pub fn of(config: &Config) -> Self {
        let (own, defaults) = (&config.labelling, Self::default());
        let runtime = RuntimeConfig {
            worker: own.worker.clone(),
            workers_max: own.workers_max,
            memory_bytes_max: own.worker_memory.0,
            deadline: own.batch_deadline,
            ..defaults.runtime
        };
        Self {
            is_toggle_lenient: own.lenient_toggle,
            threads: own.training_threads.unwrap_or(defaults.threads),
            tests_at_once: own.tests_at_once,
            model_time_max: own.model_time_max,
            runtime,
        }
    }
}
