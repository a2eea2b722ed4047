//! Occupancy: how many devices were in which space, when.

pub mod query;
pub mod tree;
