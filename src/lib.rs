//! The Desireline server as a library: what `main.rs`, the tests and the benches use.

pub mod alerts;
pub mod cli;
pub mod concepts;
pub mod config;
pub mod dashboard;
pub mod generate;
pub mod http;
pub mod labels;
pub mod live;
pub mod metrics;
pub mod occupancy;
pub mod privacy;
pub mod projections;
pub mod rerank;
pub mod runs;
pub mod service;
#[cfg(test)]
mod testing;
pub mod trigger;
pub mod verify;
