//! Why there is no statistic, model or answer.

use thiserror::Error;

/// None of these goes away by trying again with the same input.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LabelModelError {
    #[error("a label model needs at least {least} labeling functions, there are {lfs}")]
    TooFewLfs { lfs: usize, least: usize },
    #[error("{lfs} labeling functions and {classes} classes are more than one model holds ({limit})")]
    TooLarge { lfs: usize, classes: usize, limit: &'static str },
    #[error("row {row}: labeling function {lf} says {label}; with {classes} classes a label is -1 (abstain) to {}", classes - 1)]
    LabelOutOfRange { row: usize, lf: usize, label: i64, classes: usize },
    #[error("{given} votes, {expected} are expected")]
    WrongWidth { given: usize, expected: usize },
    #[error("the columns of a vote matrix must be equally long: labeling function {lf} has {given} rows, the first has {expected}")]
    Ragged { lf: usize, given: usize, expected: usize },
    #[error("a statistic of {other} cannot be added to one of {this}")]
    OtherShape { this: String, other: String },
    #[error("there are no rows to fit on")]
    NoRows,
    #[error("a count is negative: more was taken away than was ever added")]
    NegativeCounts,
    #[error("the class balance has {given} entries, there are {classes} classes")]
    ClassBalanceLength { given: usize, classes: usize },
    #[error("the class balance of class {class} is {share}; it must be from 1e-30 to 1")]
    ClassBalanceRange { class: usize, share: f64 },
    #[error("no gold label was given for class {class}, so the balance of the gold labels would be 0 there")]
    ClassBalanceNoGold { class: usize },
    #[error("the loss is not a finite number after {epoch} epochs; a learning rate below {learning_rate} may help")]
    Diverged { epoch: u32, learning_rate: f64 },
    #[error("`{name}` {must}")]
    BadSetting { name: &'static str, must: &'static str },
    #[error("what was stored is damaged: {0}")]
    Damaged(&'static str),
}

impl LabelModelError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooFewLfs { .. } => "too_few_lfs",
            Self::TooLarge { .. } => "too_large",
            Self::LabelOutOfRange { .. } => "label_out_of_range",
            Self::WrongWidth { .. } => "wrong_width",
            Self::Ragged { .. } => "ragged_columns",
            Self::OtherShape { .. } => "other_shape",
            Self::NoRows => "no_rows",
            Self::NegativeCounts => "negative_counts",
            Self::ClassBalanceLength { .. } => "class_balance_length",
            Self::ClassBalanceRange { .. } => "class_balance_range",
            Self::ClassBalanceNoGold { .. } => "class_balance_no_gold",
            Self::Diverged { .. } => "loss_not_finite",
            Self::BadSetting { .. } => "bad_setting",
            Self::Damaged(_) => "damaged",
        }
    }
}
