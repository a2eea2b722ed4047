//! The router as a client sees it, in front of a backend that does as it is told.

mod contract;
pub(in crate::http) mod fake;
mod wire;
