//! What stands under both a server and an offline load: the lock, the service, the scheduler of runs with its jobs.

use super::failure::{Exit, Failure};
use super::lock::{DataLock, local_folder};
use crate::concepts::{Concepts, ConceptsConfig};
use crate::config::{Config, mapping};
use crate::labels::{LabelsConfig, LiveLabels};
use crate::live::LiveConnection;
use crate::occupancy::{self, Occupancy};
use crate::projections::{self, Projections, Target};
use crate::runs::Runs;
use crate::service::Service;
use crate::trigger;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long followers may take to give their targets what they have.
const FOLLOWERS_GRACE: Duration = Duration::from_secs(5);

pub struct Stack {
    pub service: Service,
    pub runs: Runs,
    pub projections: Projections,
    pub occupancy: Occupancy,
    pub concepts: Concepts,
    pub labels: LiveLabels,
    followers: JoinSet<()>,
    followers_stop: CancellationToken,
    /// Released last.
    _lock: Option<DataLock>,
}

impl Stack {
    /// Opens the log and begins its replay; [`Stack::restore`] finishes the start. Nothing follows the views.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        Self::with_targets(config, Vec::new()).await
    }

    /// The same, with projections into `targets`.
    pub async fn with_targets(config: &Config, targets: Vec<Box<dyn Target>>) -> Result<Self, Failure> {
        let external = occupancy::config::external(config)?;
        let service_config = mapping::service(config);
        let lock = local_folder(&service_config.store_url).map(|folder| DataLock::acquire(&folder)).transpose()?;
        let store = service_config.store_url.clone();
        let (service, begin) = Service::open(service_config).await.map_err(|error| {
            let failure = Failure::from(error);
            Failure { exit: Exit::Unavailable, ..Failure::new(failure.exit, format!("the log at {store} cannot be opened")) }
                .detail(&failure.primary)
                .hint("`desireline log ls` and `desireline log verify` show what is there")
        })?;
        let runs = Runs::new(mapping::runs(config), Arc::new(service.clone()));
        trigger::register(&runs, mapping::trigger(config), Arc::new(service.clone()));
        let sessions = external.unwrap_or_else(|| Arc::new(occupancy::Live::new(service.clone())));
        let objects = occupancy::config::store(config)?;
        let limits = occupancy::config::limits(config);
        let concepts = Concepts::new(ConceptsConfig::of(config), objects.clone(), runs.clone(), Arc::new(service.clone()));
        let live = LiveConnection::new(service.clone(), &config.live);
        concepts.set_live(Arc::clone(live.tables()), live.limits().clone());
        let labels =
            LiveLabels::new(LabelsConfig::of(config, live.limits()), service.clone(), concepts.clone(), runs.clone(), live.tables());
        let occupancy = Occupancy::new(limits, sessions, objects, runs.clone(), Arc::new(service.clone()));
        let followers_stop = CancellationToken::new();
        let mut followers = JoinSet::new();
        let prepared = projections::prepare(&service, targets, &mapping::followers(config), &followers_stop).await;
        begin.begin(prepared.ends.clone());
        let projections = prepared.begin(&mut followers);
        Ok(Self { service, runs, projections, occupancy, concepts, labels, followers, followers_stop, _lock: lock })
    }

    /// Waits for the replay and takes up the runs that it brought.
    pub async fn restore(&self) -> Result<(), Failure> {
        let replayed = self.service.wait_ready().await;
        replayed.map_err(|error| Failure::new(Exit::Unavailable, "the log cannot be replayed").detail(error))?;
        self.concepts.begin(|kind| self.service.documents(kind));
        let restored = self.runs.restore(self.service.recorded_runs());
        tracing::info!(
            waiting = restored.waiting,
            resumed = restored.resumed,
            interrupted = restored.interrupted,
            finished = restored.finished,
            "runs restored"
        );
        Ok(())
    }

    /// Runs first: they write to the service. Then the followers, which give their targets what they have.
    pub async fn stop(mut self) {
        self.occupancy.stop().await;
        self.labels.stop().await;
        self.runs.stop().await;
        self.followers_stop.cancel();
        let ended = tokio::time::timeout(FOLLOWERS_GRACE, async { while self.followers.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("a projection did not end in time; its target goes on from where it stands");
            self.followers.shutdown().await;
        }
        self.service.stop().await;
    }
}
