//! The views: one file (or folder) each, with the dataflow, its row type and its essay.

pub mod catalog;
mod closed;
pub mod clusters;
pub mod context;
pub mod journeys;
pub mod labels;
pub mod minutes;
pub mod occupancy;
pub mod sessions;
