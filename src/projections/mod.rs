//! Projections: what other tools read, kept true by followers of the views.
//!
//! PostgreSQL, Redis, Kafka and Parquet each have a *target* (one folder each, all by the contract in [`target`]) and a *follower*
//! (`follower`) that is its only writer. A follower takes the change streams of its target's views, consolidates them ([`changeset`])
//! and applies them with the time at which they are true. What is configured follows from the server's start on: a target that can be
//! reached within [`OPEN_WITHIN`] takes part in the replay of the log from the time that it knows; others read the log themselves once
//! they can (`replay`).

pub mod changeset;
mod configured;
mod follower;
mod handle;
pub mod kafka;
pub mod parquet;
pub mod postgres;
pub mod redis;
mod replay;
mod streaming;
pub mod target;
#[cfg(test)]
mod tests;

pub use changeset::Changeset;
pub use configured::{ConfiguredError, configured};
pub use follower::FollowerConfig;
pub use handle::{FollowerState, ProjectionStatus, Projections};
pub use target::{Applied, CatchUp, Standing, Target, TargetError};

use crate::service::Service;
use desireline_dataflows::engine::Start;
use desireline_records::LogicalTime;
use follower::Follower;
use futures::StreamExt;
use handle::Shared;
use std::sync::Arc;
use std::time::Duration;
use streaming::Streaming;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the start of the server waits for a target.
pub const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// Followers that have not begun.
pub struct Prepared {
    projections: Projections,
    /// Times at which the replay of the log must stop over.
    pub ends: Vec<LogicalTime>,
    followers: Vec<Follower>,
}

/// Asks the targets where they stand, and follows the views from there on. Call it before the service begins its replay.
pub async fn prepare(service: &Service, targets: Vec<Box<dyn Target>>, config: &FollowerConfig, stop: &CancellationToken) -> Prepared {
    let replays = Arc::new(Semaphore::new(1));
    let open = |mut target: Box<dyn Target>| async {
        let opened = tokio::time::timeout(OPEN_WITHIN, target.open(service.epoch())).await;
        let known = match opened {
            Ok(Ok(Standing::At(known))) => Some(known),
            Ok(Ok(Standing::Fresh) | Err(_)) | Err(_) => None,
        };
        (target, known)
    };
    let opened: Vec<_> = futures::stream::iter(targets).map(open).buffered(8).collect().await;
    let mut ends = Vec::new();
    let followers: Vec<Follower> = opened
        .into_iter()
        .map(|(target, known)| {
            let stream = known.and_then(|known| {
                let live = service.follow(target.views(), Start::After(known), config.queue_rows_max).ok()?;
                ends.push(known);
                Some(Streaming::from(live, known))
            });
            Follower {
                shared: Arc::new(Shared::new(target.name(), target.views())),
                service: service.clone(),
                target,
                config: config.clone(),
                replays: replays.clone(),
                stop: stop.clone(),
                stream: stream.unwrap_or_default(),
                rebuild: false,
                kept: None,
            }
        })
        .collect();
    let projections = Projections::new(service.clone(), followers.iter().map(|follower| follower.shared.clone()));
    Prepared { projections, ends, followers }
}

impl Prepared {
    /// Begins to follow, until the stop given above.
    pub fn begin(self, tasks: &mut JoinSet<()>) -> Projections {
        for follower in self.followers {
            tasks.spawn(follower.run());
        }
        self.projections
    }
}
