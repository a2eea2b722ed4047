//! Why a statement over live tables has no answer.

use thiserror::Error;

/// Texts are for whoever wrote the SQL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LiveError {
    /// Unknown tables, columns or functions, types that do not fit, words that are not understood.
    #[error("{0}")]
    Refused(String),
    /// The statement asks for `:index_values`, and there are none.
    #[error("the query has `:index_values`, and no index gives any")]
    NoKeys,
    /// The rows led to an error: a division by zero, a text that is no number.
    #[error("the query failed: {0}")]
    Failed(String),
    #[error("the query reads more than {most} rows (live.rows_read_max)")]
    TooManyRowsRead { most: usize },
    #[error("the query has more than {most} rows (live.rows_max)")]
    TooManyRows { most: usize },
    #[error("the query needs more memory than it may have, {bytes} bytes (live.memory_max): {detail}")]
    Memory { bytes: usize, detail: String },
    #[error("the query took longer than {millis} ms (live.deadline)")]
    Deadline { millis: u64 },
    /// The tables cannot be read now.
    #[error("the live tables cannot be read: {detail}")]
    Unavailable { detail: String, retryable: bool },
}

impl LiveError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "sql_refused",
            Self::NoKeys => "sql_no_keys",
            Self::Failed(_) => "sql_failed",
            Self::TooManyRowsRead { .. } => "sql_rows_read",
            Self::TooManyRows { .. } => "sql_rows",
            Self::Memory { .. } => "sql_memory",
            Self::Deadline { .. } => "sql_deadline",
            Self::Unavailable { .. } => "sql_unavailable",
        }
    }

    /// Whether the same statement may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Unavailable { retryable: true, .. })
    }
}
