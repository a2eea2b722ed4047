//! The service: everything the server can do, behind one handle, without HTTP.

pub mod types;

pub use types::*;

use desireline_records::{Event, DeadLetter, EventId, LogicalTime, Micros, SourceId, Token};
use tokio::sync::watch;

/// A cheap handle to the running service.
#[derive(Clone)]
pub struct Service {}

#[allow(unused_variables)]
impl Service {
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
    pub async fn minutes(&self, source: Option<SourceId>, from: Micros, at_least: Option<Token>) -> Result<At<Vec<MinuteRow>>, ServiceError> {
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
