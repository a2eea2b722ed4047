//! What went wrong with a query in somebody else's database.

use crate::postgres::PostgresError;
use thiserror::Error;

/// Texts come from the database or from here; none of them has the password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SqlError {
    /// No connection, or it broke. The same again may work.
    #[error("{0}")]
    Unavailable(String),
    /// Credentials or rights.
    #[error("{0}")]
    Denied(String),
    /// A table, column or function is not there.
    #[error("{0}")]
    Missing(String),
    /// A value does not fit where the query puts it.
    #[error("{0}")]
    Data(String),
    /// The database does not accept the statement.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    TimedOut(String),
    /// The result is larger than it may be.
    #[error("{0}")]
    TooLarge(String),
    #[error("column `{column}` has the type {type_name}, which cannot be taken over: cast it to text or to a number")]
    Unsupported { column: String, type_name: String },
}

impl SqlError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "database_unavailable",
            Self::Denied(_) => "database_denied",
            Self::Missing(_) => "database_missing",
            Self::Data(_) => "database_data",
            Self::Invalid(_) => "database_invalid",
            Self::TimedOut(_) => "database_timed_out",
            Self::TooLarge(_) => "result_too_large",
            Self::Unsupported { .. } => "column_unsupported",
        }
    }

    /// Whether the same may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The name that Python's database drivers give to errors of this kind.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) | Self::Denied(_) | Self::TimedOut(_) => "OperationalError",
            Self::Missing(_) | Self::Invalid(_) => "ProgrammingError",
            Self::Data(_) | Self::TooLarge(_) => "DataError",
            Self::Unsupported { .. } => "NotSupportedError",
        }
    }
}

impl From<PostgresError> for SqlError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Unavailable(text) => Self::Unavailable(text),
            PostgresError::Data(text) => Self::Data(text),
            PostgresError::Missing(text) => Self::Missing(text),
            PostgresError::Denied(text) => Self::Denied(text),
            PostgresError::Invalid(text) => Self::Invalid(text),
        }
    }
}
