//! The label model against the reference library's numbers, and on input that tries to break it.
//!
//! | file | what |
//! |---|---|
//! | `support.rs` | the cases, and the generator of their label matrices |
//! | `agreement.rs` | fits, predictions, majorities and summaries against Snorkel 0.10.0 (torch 2.15.0, NumPy 2.4.6) |
//! | `edge.rs` | functions that never vote, rows without votes, refusals, very many functions |
//! | `statistic.rs` | the statistic: order, batching, parts, storage, against counting by plain loops |
//! | `fits.rs` | properties of fits, class balance, convergence, standard errors |
//!
//! The label matrices of `data/label_model/{a..g,big}.json` are not stored but made by a portable generator, and their pair counts are
//! compared with the stored ones first. What these tests cannot catch: an error that the reference library has too.

mod agreement;
mod edge;
mod fits;
mod statistic;
mod support;
