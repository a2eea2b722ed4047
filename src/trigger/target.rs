//! What a load needs of the service, and nothing more of it.

use crate::service::{Service, ServiceError, SourceCounters, TrainReport};
use async_trait::async_trait;
use desireline_records::validate::Validator;
use desireline_records::{Progress, SourceId, Token, UserIdType};
use std::sync::Arc;
use std::time::Duration;

/// What is known of a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceCounts {
    pub counters: SourceCounters,
    pub users: u64,
}

/// Where rows go.
#[async_trait]
pub trait LoadTarget: Send + Sync + 'static {
    /// Makes rows, positions and controls durable together; waits while the queues are full.
    async fn commit(&self, progress: Progress) -> Result<Token, ServiceError>;

    /// Waits until answers see the token's batch.
    async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError>;

    /// How many rows of the partition are durable; absent when it was never read.
    fn rows_durable(&self, source: SourceId, partition: &str) -> Option<u64>;

    fn validator(&self) -> Arc<Validator>;

    /// Gives a source that has no settings yet the usual ones, with this type of user id.
    async fn introduce_source(&self, source: SourceId, user_id_type: UserIdType) -> Result<(), ServiceError>;

    /// As it is answered now; absent when nothing is known of the source.
    async fn source_counts(&self, source: SourceId) -> Result<Option<SourceCounts>, ServiceError>;

    /// Fits the clusters of the source, and answers once their assignment is visible.
    async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError>;
}

#[async_trait]
impl LoadTarget for Service {
    async fn commit(&self, progress: Progress) -> Result<Token, ServiceError> {
        Service::commit(self, progress).await
    }

    async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError> {
        Service::wait_applied(self, token, deadline).await
    }

    fn rows_durable(&self, source: SourceId, partition: &str) -> Option<u64> {
        self.position(source, partition).map(|position| u64::try_from(position.after).unwrap_or(0))
    }

    fn validator(&self) -> Arc<Validator> {
        Service::validator(self)
    }

    async fn introduce_source(&self, source: SourceId, user_id_type: UserIdType) -> Result<(), ServiceError> {
        Service::introduce_source(self, source, user_id_type).await
    }

    async fn source_counts(&self, source: SourceId) -> Result<Option<SourceCounts>, ServiceError> {
        let status = self.status().await?;
        let known = status.sources.into_iter().find(|known| known.source_id == source);
        Ok(known.map(|known| SourceCounts { counters: known.counters, users: known.users }))
    }

    async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError> {
        Service::train(self, source, passes).await
    }
}
