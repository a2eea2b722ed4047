//! The dataflows: from batches of the log to views that are always current.
//!
//! *Architecture invariant:* nothing in this crate does I/O, reads a clock or draws a random number, and nothing outside it names
//! timely or differential dataflow. Every view is a pure function of the batches given to [`engine::Engine::submit`].
//!
//! Start with [`engine`] for how batches and peeks travel, then read one view: [`views::sessions`], [`views::journeys`],
//! [`views::clusters`], [`views::minutes`]. Each has a slow twin in [`mod@reference`], and the tests compare the two.

pub mod changes;
pub mod engine;
pub mod query;
pub mod reference;
pub mod state;
pub mod views;

pub use engine::{Applied, Engine, EngineConfig, EngineError};
