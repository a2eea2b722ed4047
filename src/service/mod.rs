//! The service: everything the server can do, behind one handle, without HTTP.

pub mod config;
pub mod types;

pub use config::*;
pub use types::*;

use desireline_records::{DeadLetter, Event, EventId, LogicalTime, Micros, SourceId, Token};
use tokio::sync::watch;

/// A cheap handle to the running service.
#[derive(Clone)]
pub struct Service {}

#[allow(unused_variables)]
impl Service {
    /// Starts everything behind the handle: opens (and fences) the log, replays it, starts the workers and the committer.
    /// Returns at once with the replay under way; `ready` tells when it has finished.
    pub async fn start(config: ServiceConfig) -> Result<Self, ServiceError> {
        unimplemented!()
    }

    /// Stops taking work, commits what was taken, stops the workers.
    pub async fn stop(&self) {
        unimplemented!()
    }

    /// For connectors: makes rows and positions durable together. Waits while the queues are full instead of answering `Busy`.
    pub async fn commit(&self, progress: Progress) -> Result<Token, ServiceError> {
        unimplemented!()
    }

    /// Waits until a query sees the token's batch.
    pub async fn wait_applied(&self, token: Token, deadline: Duration) -> Result<(), ServiceError> {
        unimplemented!()
    }

    /// Where reading of a partition goes on: the durable position, when it was ever read.
    pub fn position(&self, source: SourceId, partition: &str) -> Option<Position> {
        unimplemented!()
    }

    /// The validator in force, for connectors that parse.
    pub fn validator(&self) -> Arc<Validator> {
        unimplemented!()
    }

    /// Fits the source's clusters on a sample of its journeys and publishes the model. `passes` is 2 for an initial flow.
    pub async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError> {
        unimplemented!()
    }

    /// Records the state of a run; the last record of a run id counts.
    pub async fn record_run(&self, run_id: &str, body: serde_json::Value) -> Result<(), ServiceError> {
        unimplemented!()
    }

    /// The runs as the log has them; complete once `ready`.
    pub fn recorded_runs(&self) -> Vec<(EcoString, serde_json::Value)> {
        unimplemented!()
    }

    /// What connectors know about their partitions (lag, errors), shown in the status.
    pub fn report_partition(&self, source: SourceId, partition: &str, lag: Option<i64>, error: Option<String>) {
        unimplemented!()
    }

    /// Makes rows durable (group commit) and waits until they are applied, so that the receipt can count duplicates.
    /// `Busy` when the queues are full: nothing was taken.
    pub async fn ingest(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Receipt, ServiceError> {
        unimplemented!()
    }

    pub async fn sessions(&self, query: SessionsQuery) -> Result<At<Page<SessionRow>>, ServiceError> {
        unimplemented!()
    }

    pub async fn journeys(&self, query: JourneysQuery) -> Result<At<Page<JourneyRow>>, ServiceError> {
        unimplemented!()
    }

    /// Cluster sizes and centroids; unknown sources answer with no clusters.
    pub async fn clusters(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterRow>>, ServiceError> {
        unimplemented!()
    }

    pub async fn cluster_members(&self, source: SourceId, at_least: Option<Token>) -> Result<At<Clusters<ClusterMembers>>, ServiceError> {
        unimplemented!()
    }

    /// Cells of the minutes view with `window_start + 1 min >= from`, by (window, page, event type, source).
    pub async fn minutes(
        &self,
        source: Option<SourceId>,
        from: Micros,
        at_least: Option<Token>,
    ) -> Result<At<Vec<MinuteRow>>, ServiceError> {
        unimplemented!()
    }

    pub async fn status(&self) -> Result<Status, ServiceError> {
        unimplemented!()
    }

    pub async fn dead_letters(&self, query: DeadLettersQuery) -> Result<At<Page<DeadLetterRow>>, ServiceError> {
        unimplemented!()
    }

    /// Validates and ingests a dead letter again. `NotFound` when there is none with this id.
    pub async fn replay_dead_letter(&self, id: &str) -> Result<Receipt, ServiceError> {
        unimplemented!()
    }

    /// Retracts one event. `NotFound` when no open event has the id.
    pub async fn delete_event(&self, source: SourceId, id: EventId) -> Result<Token, ServiceError> {
        unimplemented!()
    }

    /// Erases a user from every view at once; the physical erasure goes on as a run whose id is returned.
    pub async fn erase_user(&self, source: SourceId, user: &str) -> Result<(Token, String), ServiceError> {
        unimplemented!()
    }

    /// The time at which queries are answered now. Moves on with every applied batch.
    pub fn as_of(&self) -> watch::Receiver<LogicalTime> {
        unimplemented!()
    }

    pub fn ready(&self) -> bool {
        unimplemented!()
    }
}
