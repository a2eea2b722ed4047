//! What can go wrong with datasets.

use crate::store::StoreError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum DatasetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{object} cannot be read: {detail}")]
    Damaged { object: String, detail: String },
    #[error("a newer server (epoch {newer}) writes to these datasets; this one has epoch {own}")]
    Fenced { own: u64, newer: u64 },
    #[error("{object} was written by a newer version (format {found})")]
    Version { object: String, found: u64 },
    #[error("somebody else has changed {object}")]
    Changed { object: String },
    #[error("writing a dataset: {0}")]
    Encode(String),
}

impl DatasetError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged { .. } => "dataset_damaged",
            Self::Fenced { .. } => "dataset_fenced",
            Self::Version { .. } => "dataset_version",
            Self::Changed { .. } => "dataset_changed",
            Self::Encode(_) => "dataset_encode",
        }
    }

    /// Whether the same may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Changed { .. } => true,
            _ => false,
        }
    }
}
