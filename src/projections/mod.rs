//! Projections: what other tools read, kept true by followers of the views.

pub mod changeset;
mod handle;
pub mod kafka;
pub mod parquet;
pub mod postgres;
pub mod redis;
pub mod target;

pub use changeset::Changeset;
pub use handle::{FollowerState, ProjectionStatus, Projections};
pub use target::{Applied, CatchUp, Standing, Target, TargetError};
