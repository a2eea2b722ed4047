//! Why there is no model, no prediction or no selection.

use super::Kind;
use super::stop::StopReason;
use thiserror::Error;

/// Why a model cannot be fitted, read or asked. Nothing but [`ModelError::Stopped`] goes away by trying again with the same input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    #[error("column '{column}' has a value that is not a number, or is too large, in row {row}")]
    NotFinite { column: String, row: usize },
    #[error("a table of {rows} rows and {columns} columns cannot hold {values} values")]
    Shape { rows: usize, columns: usize, values: usize },
    #[error("the table has no {0}")]
    Empty(&'static str),
    #[error("{labels} labels were given for {rows} rows")]
    LabelCount { labels: usize, rows: usize },
    #[error("row {row} has the label {label}, but there are {classes} classes")]
    UnknownLabel { row: usize, label: usize, classes: usize },
    #[error("there are {classes} classes, and a classifier takes at most {classes_max}")]
    TooManyClasses { classes: usize, classes_max: usize },
    #[error("rows of one class were given, and a classifier needs at least two classes")]
    OneClass,
    #[error("{kind} takes at most {rows_max} rows, and {rows} were given")]
    TooManyRows { kind: Kind, rows: usize, rows_max: usize },
    #[error("{kind} cannot be fitted to these rows: {detail}")]
    Degenerate { kind: Kind, detail: String },
    #[error("the model was fitted on the columns [{}], and the table has [{}]", fitted.join(", "), given.join(", "))]
    Columns { fitted: Vec<String>, given: Vec<String> },
    #[error("{0}")]
    Stopped(StopReason),
    #[error("{kind} failed: {detail}")]
    Panicked { kind: Kind, detail: String },
    #[error("the stored model has format version {found}, and this program reads version {known}")]
    Version { found: u32, known: u32 },
    #[error("the stored model is damaged: {0}")]
    Damaged(String),
}

impl ModelError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFinite { .. } => "not_finite",
            Self::Shape { .. } => "bad_shape",
            Self::Empty(_) => "empty_table",
            Self::LabelCount { .. } => "label_count",
            Self::UnknownLabel { .. } => "unknown_label",
            Self::TooManyClasses { .. } => "too_many_classes",
            Self::OneClass => "one_class",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::Degenerate { .. } => "degenerate",
            Self::Columns { .. } => "other_columns",
            Self::Stopped(reason) => reason.code(),
            Self::Panicked { .. } => "panicked",
            Self::Version { .. } => "other_version",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// Why no samples are left to learn from, or none can be split off.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SelectError {
    #[error("{given} {what} were given for {rows} samples of {classes} classes")]
    Shape { what: &'static str, given: usize, rows: usize, classes: usize },
    #[error("sample {row} has the label {label}, but there are {classes} classes")]
    UnknownLabel { row: usize, label: i64, classes: usize },
    #[error(
        "{kept} of {samples} samples are left at a confidence of {threshold} after filtering, and at least 2 are needed; \
         lower the threshold or improve the labels"
    )]
    TooFew { kept: usize, samples: usize, threshold: f64 },
    #[error("{name} must {rule}")]
    Setting { name: &'static str, rule: &'static str },
    #[error("the share of test rows must lie between 0 and 1, not at {0}")]
    TestSize(f64),
    #[error("{rows} rows cannot be split into a part for training and one for testing with a test share of {test_size}")]
    TooFewToSplit { rows: usize, test_size: f64 },
}

impl SelectError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Shape { .. } => "bad_shape",
            Self::UnknownLabel { .. } => "unknown_label",
            Self::TooFew { .. } => "too_few_samples",
            Self::Setting { .. } => "bad_setting",
            Self::TestSize(_) => "bad_test_size",
            Self::TooFewToSplit { .. } => "too_few_to_split",
        }
    }
}
