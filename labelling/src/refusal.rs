//! Why a text is not accepted as a labelling function.

use std::fmt;

/// Said when a function is saved; `message` is a sentence for people, `code` is for programs and stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    /// From 1.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// What was refused: `eval(`, `class`, `import os`.
    pub construct: String,
    pub message: String,
}

pub const SYNTAX: &str = "lf_syntax";
pub const TOO_LARGE: &str = "lf_too_large";
pub const DISALLOWED: &str = "lf_disallowed";
pub const IMPORT: &str = "lf_import";
pub const NO_FUNCTION: &str = "lf_no_function";
pub const UNSUPPORTED: &str = "lf_unsupported";

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(out, "{} (line {line}, column {column})", self.message),
            (Some(line), None) => write!(out, "{} (line {line})", self.message),
            _ => out.write_str(&self.message),
        }
    }
}

impl std::error::Error for Refusal {}
