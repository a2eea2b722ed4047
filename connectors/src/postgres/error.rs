//! What an error of the database means for whoever wanted something from it.

use deadpool_postgres::{HookError, PoolError};
use std::error::Error as _;
use thiserror::Error;
use tokio_postgres::error::SqlState;

/// Texts name the SQLSTATE and the database's own message, never its details (which repeat values of rows) nor the URL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PostgresError {
    /// The database cannot do it now: no connection, shutting down, a lock, a deadlock, no space, read-only. The same again may work.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A value, a constraint or a trigger of the database refuses the rows.
    #[error("the database refuses the data: {0}")]
    Data(String),
    /// A schema, table, column or type is not there.
    #[error("something is missing in the database: {0}")]
    Missing(String),
    /// Credentials or rights.
    #[error("the database denies access: {0}")]
    Denied(String),
    /// A setting is wrong, or the database does not understand the statement.
    #[error("{0}")]
    Invalid(String),
}

impl PostgresError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Data(_) => "data",
            Self::Missing(_) => "missing",
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
        }
    }

    pub(crate) fn of(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::of_state(db.code(), format!("{} ({})", db.message(), db.code().code()));
        }
        let text = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        match text {
            // Raised before anything is sent, and never by chance.
            text if text.starts_with("invalid conf") => {
                Self::Invalid("the URL of the database lacks something, such as the user".to_owned())
            }
            text if text.starts_with("authentication error") => Self::Denied(text),
            text => Self::Unavailable(text),
        }
    }

    fn of_state(state: &SqlState, text: String) -> Self {
        let code = state.code();
        match code.get(..2).unwrap_or_default() {
            _ if ["42P01", "3F000", "42703", "42704", "42883"].contains(&code) => Self::Missing(text),
            _ if ["42501", "3D000"].contains(&code) => Self::Denied(text),
            _ if code == "P0001" => Self::Data(text),
            _ if code == "25006" => Self::Unavailable(text),
            "22" | "23" | "44" | "54" => Self::Data(text),
            "28" => Self::Denied(text),
            "08" | "40" | "53" | "55" | "57" | "58" | "XX" | "25" | "26" | "34" => Self::Unavailable(text),
            _ => Self::Invalid(text),
        }
    }

    pub(super) fn of_pool(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => Self::of(error),
            PoolError::Timeout(_) => Self::Unavailable("no connection in time".to_owned()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_meaning() {
        let meanings = [
            (
                "unavailable",
                &["08006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P03", "25006", "XX000"][..],
            ),
            ("data", &["22003", "22P02", "22021", "22P05", "23502", "23503", "23505", "23514", "54000", "P0001"]),
            ("missing", &["42P01", "3F000", "42703", "42704"]),
            ("denied", &["28P01", "28000", "42501", "3D000"]),
            ("invalid", &["42601", "0A000", "42804"]),
        ];
        for (meaning, states) in meanings {
            for state in states {
                assert_eq!(PostgresError::of_state(&SqlState::from_code(state), String::new()).code(), meaning, "{state}");
            }
        }
    }
}
