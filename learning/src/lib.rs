//! Learning: what is fitted on a view's rows, as pure functions. No I/O, no clock, no randomness but that of a given seed.
//!
//! *Architecture invariant:* the answer of a fit depends on the set of rows, the previous model and the settings alone, never on
//! the order in which the rows came, the number of threads or the machine's load.

pub mod classifiers;
pub mod kmeans;
pub mod label_model;

pub use kmeans::{Centroids, FitError, KMeansSettings, fit, nearest, shift, step};
