//! Training: centroids as records, fitted on a sample of journeys.
//!
//! A training reads the journeys of the users with the lowest key hashes (the same sample for any number of workers), continues
//! from the model in force, and appends the result with the next version; the assignment view takes it by compare and set. One
//! training at a time, none during the replay, not more often than `clusters.min_interval`, only when enough is new, and a model
//! that moved no centroid by `clusters.min_shift` is not published.

use super::{Inner, NO_PANIC, Service, ServiceError, TrainReport};
use desireline_dataflows::query::{Answer, Query, merge_sources};
use desireline_learning::kmeans::{self, Centroids, KMeansSettings};
use desireline_records::time::now_micros;
use desireline_records::{ClusterModel, Control, SourceId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When and on how much a source was last trained, in this process.
#[derive(Clone, Copy, Debug)]
pub struct LastTraining {
    at: Instant,
    applied: u64,
}

/// Rows of one mini-batch step.
const BATCH_ROWS: usize = 10_000;
/// A sample weighs at most this much against the next ones, so that clusters keep following their users.
const WEIGHT_MAX: f64 = 1_000_000.0;
/// How often the sources are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Service {
    /// Fits the source's clusters on a sample of its journeys and publishes the model. `passes` is 2 for an initial flow.
    pub async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError> {
        self.inner.must_be_ready()?;
        self.inner.train(source, passes).await
    }
}

impl Inner {
    async fn train(&self, source: SourceId, passes: u32) -> Result<TrainReport, ServiceError> {
        let _one_at_a_time = self.training.lock().await;
        let settings = self.fold.read().expect(NO_PANIC).sources.get(&source).map(|s| s.settings.clone());
        let Some(settings) = settings else { return Ok(TrainReport { journeys: 0, version: 0, published: false }) };
        let sample = self.sample(source).await?;
        let model = self.model(source).await?;
        let version = model.as_ref().map_or(0, |m| m.version);
        let journeys = sample.len() as u64;
        if sample.is_empty() {
            return Ok(TrainReport { journeys, version, published: false });
        }
        let previous = model.as_ref().map(|m| Centroids { centroids: m.centroids.clone(), weights: m.weights.clone() });
        let fit = KMeansSettings { clusters: settings.clusters, seed: self.config.clusters.seed, passes, batch_rows: BATCH_ROWS };
        let start = previous.clone().map(|p| p.limit_weights(WEIGHT_MAX));
        let fitted = tokio::task::spawn_blocking(move || kmeans::fit(start.as_ref(), &sample, &fit)).await;
        let fitted = fitted.map_err(|e| ServiceError::Internal(e.to_string()))?.map_err(|e| ServiceError::Internal(e.to_string()))?;
        let moved = previous.as_ref().is_none_or(|p| kmeans::shift(p, &fitted) > self.config.clusters.min_shift);
        if !moved {
            return Ok(TrainReport { journeys, version, published: false });
        }
        let model = ClusterModel {
            source,
            clusters: settings.clusters,
            version: version + 1,
            centroids: fitted.centroids,
            weights: fitted.weights,
            trained_on: journeys,
            trained_at: now_micros(),
        };
        let token = self.commit_control(Control::Model(model)).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        tracing::info!(source, version = version + 1, journeys, "a cluster model was published");
        Ok(TrainReport { journeys, version: version + 1, published: true })
    }

    /// Features in the order of key hashes.
    async fn sample(&self, source: SourceId) -> Result<Vec<[f64; 6]>, ServiceError> {
        let users = self.config.clusters.sample_max.max(1);
        let (_, parts) = self.ask(Query::Sample { source, users }).await?;
        let mut sample: Vec<(u64, [f64; 6])> = Vec::new();
        for part in parts {
            if let Answer::Sample(part) = part {
                sample.extend(part);
            }
        }
        sample.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal)));
        sample.truncate(users);
        Ok(sample.into_iter().map(|(_, features)| features).collect())
    }

    async fn model(&self, source: SourceId) -> Result<Option<Arc<ClusterModel>>, ServiceError> {
        let (_, parts) = self.ask(Query::Clusters { source }).await?;
        Ok(parts.into_iter().find_map(|part| if let Answer::Clusters { model, .. } = part { model } else { None }))
    }

    /// Trains sources of which enough is new, until the service stops.
    pub async fn train_loop(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            match self.due().await {
                Ok(due) => {
                    for (source, applied) in due {
                        self.train_now(source, applied).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "sources could not be looked at for training"),
            }
        }
    }

    async fn train_now(&self, source: SourceId, applied: u64) {
        let at = Instant::now();
        if let Err(error) = self.train(source, 1).await {
            tracing::warn!(source, %error, "clusters could not be trained; they will be again later");
        }
        self.trained.lock().expect(NO_PANIC).insert(source, LastTraining { at, applied });
    }

    /// Sources with enough new events since their last training, and with how many. A source that this process has not trained
    /// but that has a model counts as trained when it is first looked at, so that restarts publish nothing.
    async fn due(&self) -> Result<Vec<(SourceId, u64)>, ServiceError> {
        let (_, parts) = self.ask(Query::Overview).await?;
        let (mut states, mut modelled) = (Vec::new(), BTreeSet::new());
        for part in parts {
            let Answer::Overview { sources, models, .. } = part else { continue };
            states.extend(sources);
            modelled.extend(models.iter().map(|model| (model.source, model.clusters)));
        }
        let held: BTreeSet<SourceId> = {
            let fold = self.fold.read().expect(NO_PANIC);
            let held = |s: &super::SourceFold| s.partitions.values().any(|p| p.held);
            fold.sources.iter().filter(|(_, s)| held(s)).map(|(id, _)| *id).collect()
        };
        let mut trained = self.trained.lock().expect(NO_PANIC);
        let config = &self.config.clusters;
        let mut due = Vec::new();
        for (source, state) in merge_sources(states.into_iter()) {
            let applied = state.counts.applied;
            if applied == 0 || held.contains(&source) {
                continue;
            }
            let is_due = match trained.get(&source) {
                Some(last) => {
                    let new = applied.saturating_sub(last.applied);
                    new > 0 && last.at.elapsed() >= config.min_interval && new as f64 >= config.min_changed * last.applied as f64
                }
                None if modelled.contains(&(source, state.settings.clusters)) => {
                    trained.insert(source, LastTraining { at: Instant::now(), applied });
                    false
                }
                None => true,
            };
            if is_due {
                due.push((source, applied));
            }
        }
        Ok(due)
    }
}
