//! Labelling functions.
