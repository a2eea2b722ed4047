//! The narrow door between HTTP and the service: what the handlers call, so that they can be tested against a backend that
//! is busy, broken or slow at will.

use crate::projections::{ProjectionStatus, Projections};
use crate::service::occupancy::{Flow, FlowsPer, Typical, VisitDay};
use crate::service::*;
use async_trait::async_trait;
use desireline_dataflows::changes::ContextRow;
use desireline_dataflows::views::catalog::Catalog;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::validate::Validator;
use desireline_records::{CatalogEntry, DeadLetter, Event, EventId, LogicalTime, Micros, SourceId, Space, SpaceId, Token};
use ecow::EcoString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// The operations of [`Service`] that are reachable over HTTP; each behaves as documented there.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn ingest(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Receipt, ServiceError>;
    /// As `ingest`, but the answer does not wait for the views.
    async fn take(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Token, ServiceError>;
    async fn put_catalog(&self, entries: Vec<CatalogEntry>) -> Result<Token, ServiceError>;
    /// Reads the catalog. Short: commits wait meanwhile.
    fn read_catalog(&self, read: &mut dyn FnMut(&Catalog));
    async fn context(&self, source: SourceId, user: EcoString, at_least: Option<Token>) -> Result<At<Option<ContextRow>>, ServiceError>;
    async fn put_spaces(&self, spaces: Vec<Space>) -> Result<(Token, Vec<SpaceId>), ServiceError>;
    async fn remove_space(&self, id: SpaceId) -> Result<Token, ServiceError>;
    /// Reads the space tree. Short: commits wait meanwhile.
    fn read_tree(&self, read: &mut dyn FnMut(&Tree));
    async fn series(&self, request: SeriesRequest) -> Result<At<Vec<Series>>, ServiceError>;
    async fn occupancy_now(&self, at_least: Option<Token>) -> Result<At<OccupancyNow>, ServiceError>;
    async fn typical(&self, space: SpaceId, weeks: u32, at_least: Option<Token>) -> Result<At<Typical>, ServiceError>;
    async fn visits(&self, space: SpaceId, from: Micros, to: Micros, at_least: Option<Token>) -> Result<At<Vec<VisitDay>>, ServiceError>;
    async fn flows(
        &self,
        root: Option<SpaceId>,
        from: Micros,
        to: Micros,
        per: FlowsPer,
        at_least: Option<Token>,
    ) -> Result<At<Vec<Flow>>, ServiceError>;
    fn privacy(&self) -> Privacy;
    /// Alerts from now on.
    fn alerts(&self) -> Receiver<Arc<OccupancyChange>>;
    async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError>;
    async fn sessions(&self, query: SessionsQuery) -> Result<At<Page<SessionRow>>, ServiceError>;
    async fn journeys(&self, query: JourneysQuery) -> Result<At<Page<JourneyRow>>, ServiceError>;
    async fn clusters(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterRow>>, ServiceError>;
    async fn cluster_members(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterMembers>>, ServiceError>;
    async fn minutes(&self, source: Option<SourceId>, from: Micros, at_least: Option<Token>) -> Result<At<Vec<MinuteRow>>, ServiceError>;
    async fn status(&self) -> Result<Status, ServiceError>;
    async fn dead_letters(&self, query: DeadLettersQuery) -> Result<At<Page<DeadLetterRow>>, ServiceError>;
    async fn replay_dead_letter(&self, id: &str) -> Result<Receipt, ServiceError>;
    async fn delete_event(&self, source: SourceId, id: EventId) -> Result<Token, ServiceError>;
    async fn erase_user(&self, source: SourceId, user: &str) -> Result<(Token, String), ServiceError>;
    async fn erase_mac(&self, id: &str) -> Result<(Token, Vec<String>), ServiceError>;
    /// `NotFound` when the log does not know the partition.
    async fn reset_partition(&self, source: SourceId, partition: &str, position: i64) -> Result<Token, ServiceError>;
    fn validator(&self) -> Arc<Validator>;
    fn as_of(&self) -> LogicalTime;
    fn ready(&self) -> bool;
}

#[async_trait]
impl Backend for Service {
    async fn ingest(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Receipt, ServiceError> {
        self.ingest(events, dead_letters).await
    }

    async fn take(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Token, ServiceError> {
        self.take(events, dead_letters).await
    }

    async fn put_catalog(&self, entries: Vec<CatalogEntry>) -> Result<Token, ServiceError> {
        self.put_catalog(entries).await
    }

    fn read_catalog(&self, read: &mut dyn FnMut(&Catalog)) {
        self.with_catalog(read);
    }

    async fn context(&self, source: SourceId, user: EcoString, at_least: Option<Token>) -> Result<At<Option<ContextRow>>, ServiceError> {
        self.context(source, user, at_least).await
    }

    async fn put_spaces(&self, spaces: Vec<Space>) -> Result<(Token, Vec<SpaceId>), ServiceError> {
        self.put_spaces(spaces).await
    }

    async fn remove_space(&self, id: SpaceId) -> Result<Token, ServiceError> {
        self.remove_space(id).await
    }

    fn read_tree(&self, read: &mut dyn FnMut(&Tree)) {
        self.with_tree(read);
    }

    async fn series(&self, request: SeriesRequest) -> Result<At<Vec<Series>>, ServiceError> {
        self.series(request).await
    }

    async fn occupancy_now(&self, at_least: Option<Token>) -> Result<At<OccupancyNow>, ServiceError> {
        self.occupancy_now(at_least).await
    }

    async fn typical(&self, space: SpaceId, weeks: u32, at_least: Option<Token>) -> Result<At<Typical>, ServiceError> {
        self.typical(space, weeks, at_least).await
    }

    async fn visits(&self, space: SpaceId, from: Micros, to: Micros, at_least: Option<Token>) -> Result<At<Vec<VisitDay>>, ServiceError> {
        self.visits(space, from, to, at_least).await
    }

    async fn flows(
        &self,
        root: Option<SpaceId>,
        from: Micros,
        to: Micros,
        per: FlowsPer,
        at_least: Option<Token>,
    ) -> Result<At<Vec<Flow>>, ServiceError> {
        self.flows(root, from, to, per, at_least).await
    }

    fn privacy(&self) -> Privacy {
        self.privacy()
    }

    fn alerts(&self) -> Receiver<Arc<OccupancyChange>> {
        self.alerts()
    }

    async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError> {
        self.wait_applied(token, deadline).await
    }

    async fn sessions(&self, query: SessionsQuery) -> Result<At<Page<SessionRow>>, ServiceError> {
        self.sessions(query).await
    }

    async fn journeys(&self, query: JourneysQuery) -> Result<At<Page<JourneyRow>>, ServiceError> {
        self.journeys(query).await
    }

    async fn clusters(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterRow>>, ServiceError> {
        self.clusters(source, at_least).await
    }

    async fn cluster_members(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterMembers>>, ServiceError> {
        self.cluster_members(source, at_least).await
    }

    async fn minutes(&self, source: Option<SourceId>, from: Micros, at_least: Option<Token>) -> Result<At<Vec<MinuteRow>>, ServiceError> {
        self.minutes(source, from, at_least).await
    }

    async fn status(&self) -> Result<Status, ServiceError> {
        self.status().await
    }

    async fn dead_letters(&self, query: DeadLettersQuery) -> Result<At<Page<DeadLetterRow>>, ServiceError> {
        self.dead_letters(query).await
    }

    async fn replay_dead_letter(&self, id: &str) -> Result<Receipt, ServiceError> {
        self.replay_dead_letter(id).await
    }

    async fn delete_event(&self, source: SourceId, id: EventId) -> Result<Token, ServiceError> {
        self.delete_event(source, id).await
    }

    async fn erase_user(&self, source: SourceId, user: &str) -> Result<(Token, String), ServiceError> {
        self.erase_user(source, user).await
    }

    async fn erase_mac(&self, id: &str) -> Result<(Token, Vec<String>), ServiceError> {
        self.erase_mac(id).await
    }

    async fn reset_partition(&self, source: SourceId, partition: &str, position: i64) -> Result<Token, ServiceError> {
        // A mistyped name must not become a partition. Only Kafka's are read from a position.
        if !partition.starts_with("kafka:") || self.position(source, partition).is_none() {
            return Err(ServiceError::NotFound(format!("source {source} has no Kafka partition {partition}")));
        }
        self.reset_partition(source, partition, position).await
    }

    fn validator(&self) -> Arc<Validator> {
        self.validator()
    }

    fn as_of(&self) -> LogicalTime {
        *self.as_of().borrow()
    }

    fn ready(&self) -> bool {
        self.ready()
    }
}

/// The followers of the views, as [`Projections`] has them.
#[async_trait]
pub trait Followers: Send + Sync + 'static {
    fn list(&self) -> Vec<ProjectionStatus>;
    async fn rebuild(&self, name: &str) -> Result<(), ServiceError>;
    async fn pause(&self, name: &str, paused: bool) -> Result<(), ServiceError>;
    async fn wait_passed(&self, name: &str, token: Token, deadline: Duration) -> bool;
}

#[async_trait]
impl Followers for Projections {
    fn list(&self) -> Vec<ProjectionStatus> {
        self.list()
    }

    async fn rebuild(&self, name: &str) -> Result<(), ServiceError> {
        self.rebuild(name).await
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<(), ServiceError> {
        self.pause(name, paused).await
    }

    async fn wait_passed(&self, name: &str, token: Token, deadline: Duration) -> bool {
        self.wait_passed(name, token, deadline).await
    }
}
