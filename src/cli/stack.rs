//! What stands under both a server and an offline load: the lock, the service, the scheduler of runs with its jobs.

use super::failure::{Exit, Failure};
use super::lock::{DataLock, local_folder};
use crate::config::{Config, mapping};
use crate::runs::Runs;
use crate::service::Service;
use crate::trigger;
use std::sync::Arc;

pub struct Stack {
    pub service: Service,
    pub runs: Runs,
    /// Released last.
    _lock: Option<DataLock>,
}

impl Stack {
    /// Opens the log and begins its replay; [`Stack::restore`] finishes the start.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let service_config = mapping::service(config);
        let lock = local_folder(&service_config.store_url).map(|folder| DataLock::acquire(&folder)).transpose()?;
        let store = service_config.store_url.clone();
        let service = Service::start(service_config).await.map_err(|error| {
            let failure = Failure::from(error);
            Failure { exit: Exit::Unavailable, ..Failure::new(failure.exit, format!("the log at {store} cannot be opened")) }
                .detail(&failure.primary)
                .hint("`desireline log ls` and `desireline log verify` show what is there")
        })?;
        let runs = Runs::new(mapping::runs(config), Arc::new(service.clone()));
        trigger::register(&runs, mapping::trigger(config), Arc::new(service.clone()));
        Ok(Self { service, runs, _lock: lock })
    }

    /// Waits for the replay and takes up the runs that it brought.
    pub async fn restore(&self) -> Result<(), Failure> {
        let replayed = self.service.wait_ready().await;
        replayed.map_err(|error| Failure::new(Exit::Unavailable, "the log cannot be replayed").detail(error))?;
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

    /// Runs first: they write to the service.
    pub async fn stop(self) {
        self.runs.stop().await;
        self.service.stop().await;
    }
}
