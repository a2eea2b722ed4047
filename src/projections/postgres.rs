//! The postgres target.
