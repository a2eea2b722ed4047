//! Why SQL of a user is refused, or has failed.

use thiserror::Error;

/// Texts are for whoever wrote the SQL: they name the variable, the line or the column.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SqlError {
    /// The template cannot be rendered with these parameters.
    #[error("the template of the SQL query, line {line}: {detail}")]
    Template { line: usize, detail: String },
    /// The text is not one statement that only reads.
    #[error("{0}")]
    Statement(String),
    /// A query over live tables has no answer.
    #[error(transparent)]
    Live(#[from] crate::live::LiveError),
}

impl SqlError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Template { .. } => "sql_template",
            Self::Statement(_) => "sql_statement",
            Self::Live(error) => error.code(),
        }
    }
}
