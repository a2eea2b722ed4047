//! The router as a client sees it, in front of a backend that does as it is told, and in front of the real service.

mod concepts;
mod contract;
pub(in crate::http) mod fake;
mod fuzz;
mod labels;
mod labels_jobs;
mod live_labels;
mod materialize;
mod occupancy;
mod real;
mod real_occupancy;
mod real_shop;
mod rerank;
mod serving;
mod shop;
mod wifi_sessions;
mod wire;
