//! What can go wrong: within a run ([`RunError`]) and with a request about runs ([`RunsError`]).

use super::{RunId, RunStatus};
use crate::service::ServiceError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whose fault it is, and with that what the scheduler does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunErrorDomain {
    /// What was asked for cannot be done; trying again changes nothing.
    User,
    /// Something outside failed (disk, store, network, a queue is full); tried again as the policy allows.
    External,
    /// A mistake in this program; not tried again.
    Internal,
    /// The work stopped because it was told to.
    Stopped,
}

/// Why a run, or an attempt of it, failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RunError {
    pub domain: RunErrorDomain,
    /// Stable and machine readable.
    pub code: String,
    pub message: String,
}

impl RunError {
    pub fn user(code: &str, message: impl Into<String>) -> Self {
        Self { domain: RunErrorDomain::User, code: code.to_owned(), message: message.into() }
    }

    pub fn external(code: &str, message: impl Into<String>) -> Self {
        Self { domain: RunErrorDomain::External, code: code.to_owned(), message: message.into() }
    }

    pub fn internal(code: &str, message: impl Into<String>) -> Self {
        Self { domain: RunErrorDomain::Internal, code: code.to_owned(), message: message.into() }
    }

    /// What a job answers after [`super::RunContext::cancelled`] has fired.
    pub fn stopped() -> Self {
        Self { domain: RunErrorDomain::Stopped, code: "stopped".to_owned(), message: "stopped as it was told to".to_owned() }
    }

    pub fn retryable(&self) -> bool {
        self.domain == RunErrorDomain::External
    }
}

impl From<ServiceError> for RunError {
    fn from(error: ServiceError) -> Self {
        let domain = match &error {
            ServiceError::Invalid { .. } | ServiceError::NotFound(_) | ServiceError::Conflict(_) => RunErrorDomain::User,
            ServiceError::Busy { .. } | ServiceError::NotReady(_) | ServiceError::Unavailable(_) => RunErrorDomain::External,
            ServiceError::Internal(_) => RunErrorDomain::Internal,
        };
        Self { domain, code: error.code().to_owned(), message: error.to_string() }
    }
}

/// Why a request about runs is refused. `code` is stable and machine readable.
#[derive(Debug, Error)]
pub enum RunsError {
    #[error("Run {0} not found")]
    NotFound(RunId),
    #[error("Cannot cancel run with status {status}")]
    NotCancellable { status: RunStatus },
    #[error("unknown run status `{0}`; known are PENDING, STARTED, SUCCESS, FAILURE, CANCELLED")]
    UnknownStatus(String),
    #[error("unknown job `{0}`")]
    UnknownJob(String),
    #[error("the run depends on run {0}, which is not known")]
    UnknownDependency(RunId),
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge { what: &'static str, limit_bytes: usize },
    #[error("a run can depend on at most {0} others")]
    TooManyDependencies(usize),
    #[error("{waiting} runs are waiting already; try again in {retry_after_s} s")]
    QueueFull { waiting: usize, retry_after_s: u64 },
    /// The runs of the log have not been read yet, or the server is stopping.
    #[error("runs cannot be taken: {0}")]
    NotReady(&'static str),
    /// The state of the run could not be made durable.
    #[error("the run cannot be recorded: {0}")]
    Store(#[source] ServiceError),
}

impl RunsError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "run_not_found",
            Self::NotCancellable { .. } => "run_not_cancellable",
            Self::UnknownStatus(_) => "unknown_run_status",
            Self::UnknownJob(_) => "unknown_job",
            Self::UnknownDependency(_) => "unknown_dependency",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyDependencies(_) => "too_many_dependencies",
            Self::QueueFull { .. } => "run_queue_full",
            Self::NotReady(_) => "not_ready",
            Self::Store(_) => "run_not_recorded",
        }
    }

    /// The request may succeed unchanged after this many seconds.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::QueueFull { retry_after_s, .. } => Some(*retry_after_s),
            Self::NotReady(_) => Some(1),
            Self::Store(ServiceError::Busy { retry_after_s }) => Some(*retry_after_s),
            Self::Store(ServiceError::NotReady(_) | ServiceError::Unavailable(_)) => Some(5),
            _ => None,
        }
    }
}
