//! The redis target.
