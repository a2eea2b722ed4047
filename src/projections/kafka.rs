//! The kafka target.
