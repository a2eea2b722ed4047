//! Projections: what other tools read, kept true by followers of the views.

pub mod changeset;
pub mod kafka;
pub mod parquet;
pub mod postgres;
pub mod redis;
pub mod target;

pub use changeset::Changeset;
pub use target::{Applied, CatchUp, Standing, Target, TargetError};
