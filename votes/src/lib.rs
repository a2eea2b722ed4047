//! Label matrices: what labelling functions say of rows, and the counts that everything else is made from.
//!
//! The view that keeps a matrix current (`dataflows/`) and the fit that explains it (`learning/`) share nothing but these counts: the view
//! adds and takes away rows, the fit reads integers. So this crate is small, pure and known to both.
//!
//! | file | what |
//! |---|---|
//! | `votes.rs` | what a vote is, and matrices of them by column |
//! | `statistic.rs`, `bulk.rs` | the sufficient statistic, by row and by column |
//! | `summary.rs` | coverage, overlaps, conflicts and accuracy of each labelling function |
//! | `error.rs` | why there is no statistic, model or answer |

mod bulk;
mod error;
mod statistic;
mod summary;
mod votes;

pub use error::LabelModelError;
pub use statistic::{Layout, Statistic, THIRDS, verdict};
pub use summary::{LfSummary, Summary};
pub use votes::{ABSTAIN, CLASSES_MAX, INDICATORS_MAX, Shape, Votes};
