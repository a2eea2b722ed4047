//! The settings of concepts, and the limits that are none.

use super::extraction::ExtractionConfig;
use super::training::TrainingConfig;
use super::vault::KeySource;
use crate::config::Config;

/// Every setting, with its default.
#[derive(Clone, Debug, Default)]
pub struct ConceptsConfig {
    /// The keys that encrypt passwords of connections (none).
    pub keys: KeySource,
    /// Labelling functions and what is learned from them.
    pub training: TrainingConfig,
    /// What queries may take.
    pub extraction: ExtractionConfig,
}

impl ConceptsConfig {
    pub fn of(config: &Config) -> Self {
        Self { keys: KeySource::of(config), training: TrainingConfig::of(config), extraction: ExtractionConfig::of(config) }
    }
}
