//! The limits of live labels.

use crate::config::Config;
use desireline_sql::live::Limits;
use std::time::Duration;

/// Every limit, with its default.
#[derive(Clone, Debug)]
pub struct LabelsConfig {
    /// How long changes are gathered before they are evaluated (500 ms).
    pub every: Duration,
    /// Things that are evaluated together (5,000).
    pub keys_max: usize,
    /// How often global queries, and those that read something which has changed as a whole, are evaluated at most (1 min).
    pub full_every: Duration,
    /// A model is fitted when this share of the rows has other votes than the last one saw (0.01).
    pub refit_share: f64,
    /// … and not before this time has passed since (10 s).
    pub refit_every: Duration,
    /// Things of one index (1,000,000).
    pub things_max: usize,
    /// Combinations of votes that are told apart when labels are counted (65,536).
    pub combinations_max: usize,
    /// Threads that labelling functions are asked on (2).
    pub threads: usize,
    /// Of each query.
    pub limits: Limits,
}

impl Default for LabelsConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(500),
            keys_max: 5_000,
            full_every: Duration::from_secs(60),
            refit_share: 0.01,
            refit_every: Duration::from_secs(10),
            things_max: 1_000_000,
            combinations_max: 65_536,
            threads: 2,
            limits: Limits::default(),
        }
    }
}

impl LabelsConfig {
    /// As set, with the limits of queries over live tables.
    pub fn of(config: &Config, limits: &Limits) -> Self {
        let own = &config.labels;
        Self {
            every: own.every,
            keys_max: own.keys_max,
            full_every: own.full_every,
            refit_share: own.refit_share,
            refit_every: own.refit_every,
            things_max: own.things_max,
            limits: limits.clone(),
            ..Self::default()
        }
    }
}
