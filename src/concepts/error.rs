//! Why a request about concepts is refused.

use super::vault::VaultError;
use crate::service::ServiceError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ConceptError {
    /// A field of the request is wrong.
    #[error("{detail}")]
    Invalid { field: &'static str, detail: String },
    /// The request is well formed, but not now: something is not materialised, in use, not approved, taken.
    #[error("{0}")]
    Refused(String),
    /// Others need it.
    #[error("{0}")]
    InUse(String),
    #[error("{0}")]
    NotFound(String),
    /// A password cannot be kept, or cannot be had.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// An object of the store cannot be read or written.
    #[error("{0}")]
    Objects(String),
    /// The log's concepts have not been read yet, or the server is stopping.
    #[error("concepts cannot be taken: {0}")]
    NotReady(&'static str),
    /// Too much at once; the same works later.
    #[error("{0}")]
    Busy(String),
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl ConceptError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Refused(_) => "refused",
            Self::InUse(_) => "in_use",
            Self::NotFound(_) => "not_found",
            Self::Vault(error) => error.code(),
            Self::Objects(_) => "objects_unavailable",
            Self::NotReady(_) => "not_ready",
            Self::Busy(_) => "busy",
            Self::Service(error) => error.code(),
        }
    }

    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }

    pub fn not_found(what: &str, id: u64) -> Self {
        Self::NotFound(format!("{what} with ID {id} not found"))
    }
}
