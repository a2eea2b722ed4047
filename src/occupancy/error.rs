//! What can go wrong with datasets.

use crate::service::ServiceError;
use desireline_connectors::bins::BinsError;
use thiserror::Error;

/// Why sessions or spaces cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionsError {
    /// The same may work later.
    #[error("{0}")]
    Unavailable(String),
    /// It will not until somebody does something about it.
    #[error("{0}")]
    Refused(String),
}

impl SessionsError {
    pub fn text(&self) -> &str {
        match self {
            Self::Unavailable(text) | Self::Refused(text) => text,
        }
    }
}

/// Why a request about datasets or spaces is refused.
#[derive(Debug, Error)]
pub enum OccupancyError {
    #[error("{detail}")]
    Invalid { field: &'static str, detail: String },
    #[error("{0}")]
    NotFound(String),
    /// The database of sessions and spaces cannot be asked now.
    #[error("the database of spaces and sessions cannot be asked: {0}")]
    Database(#[from] SessionsError),
    /// The object of a chunk cannot be read.
    #[error("{0}")]
    Objects(String),
    /// The log's datasets have not been read yet, or the server is stopping.
    #[error("datasets cannot be taken: {0}")]
    NotReady(&'static str),
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl OccupancyError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Database(_) => "database_unavailable",
            Self::Objects(_) => "objects_unavailable",
            Self::NotReady(_) => "not_ready",
            Self::Service(error) => error.code(),
        }
    }

    pub(super) fn dataset_not_found(id: u64) -> Self {
        Self::NotFound(format!("Occupancy dataset {id} not found"))
    }

    pub(super) fn space_not_found(id: i64) -> Self {
        Self::NotFound(format!("Space {id} not found"))
    }
}

impl From<BinsError> for OccupancyError {
    fn from(error: BinsError) -> Self {
        Self::Objects(error.to_string())
    }
}
