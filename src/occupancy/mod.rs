//! Occupancy datasets: how many devices were in the spaces of a building over a stretch of time, as Parquet objects that others read.
//!
//! A *dataset* asks for the bins of one space and of everything below it. It consists of *chunks*: the bins of one space in one window of
//! so many days, aligned to 1970-01-01. A chunk is one object, shared by all datasets with the same width of bins and the same windows.
//! A *source* chunk counts the distinct devices of the space itself, a *derived* one adds up those of its children (a sum over rooms, not
//! distinct over rooms), and one that is both does both.
//!
//! What it promises:
//! - **At once.** A request for a dataset is answered within a second: it walks the subtree and plans the chunks, at most for
//!   [`OccupancyConfig::answer_within`]; what takes longer is planned in the background, and the dataset is PENDING meanwhile. When the
//!   database cannot even be asked for the root, the request fails and nothing is left behind.
//! - **Once.** A completed chunk is not counted again, whoever asks for it, with these exceptions: its children have become more, or
//!   say something else; `force_overwrite`; and in live mode what changes in the log (see [`Sessions::is_live`]).
//! - **Whole.** A space is a source when it has sessions anywhere in the *window*. So the chunk of a building never lacks a room because of
//!   who asked for it first, and one that was counted before a room had sessions is opened again.
//! - **Durable.** Datasets and chunks are records of the log. After a crash runs go on, and chunks that nobody counts are begun anew.
//!   Numbers of datasets are never given twice.
//! - **Told.** A chunk that fails says why, and so does every dataset that needs it, at once. A GET never changes anything.
//!
//! # Format
//! Objects lie at `occupancy/spaces/{space_id}/{interval_seconds}/chunk_{start}_{end}.parquet` (see [`desireline_connectors::bins`]) and are
//! replaced whole. Records are documents of the kinds `occupancy_dataset`, `occupancy_chunk`, `occupancy_subtree` and `occupancy_numbers`.
//!
//! # How it works
//! `book` has the records (`shelf`) and changes them; `plan` says which chunks a dataset needs; `jobs` is the work of one run; `keeper` begins
//! runs and finishes datasets; `external` and `live` are the two places that sessions come from.
//!
//! # Known limitations
//! - A chunk whose room has moved to another building in an external database stays as it was counted until it is forced.
//! - A space that was met in a cycle of parent links cannot be the root of a dataset.
//! - An object that was deleted by hand is noticed when it is read; `force_overwrite` makes it again.

mod answers;
mod book;
pub mod config;
mod dirty;
mod error;
mod external;
mod jobs;
mod keeper;
mod live;
mod plan;
mod record;
mod refresh;
mod sessions;
mod shelf;
#[cfg(test)]
mod tests;

pub use answers::{Results, Rows, plain_time};
pub use book::Documents;
pub use config::OccupancyConfig;
pub use error::{OccupancyError, SessionsError};
pub use external::External;
pub use jobs::{DERIVED_JOB, SOURCE_JOB};
pub use live::Live;
pub use plan::Active;
pub use record::{Dataset, State};
pub use sessions::{Counted, Discovery, Range, Sessions};

use crate::runs::{RunId, Runs};
use book::{Book, Draft};
use desireline_connectors::bins::BinsError;
use desireline_connectors::store::Store;
use desireline_records::time::now_micros;
use desireline_records::{Micros, Space, SpaceId};
use ecow::EcoString;
use jobs::ChunkJob;
use plan::{Hierarchy, Planned};
use record::ChunkKey;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn now() -> Micros {
    now_micros()
}

/// A dataset as it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewDataset {
    pub name: String,
    pub description: Option<String>,
    pub root_space_id: SpaceId,
    /// Inclusive; the earliest start of a session of the subtree when absent.
    pub start_time: Option<Micros>,
    /// Exclusive; the latest end of a session of the subtree when absent.
    pub end_time: Option<Micros>,
    pub interval_seconds: u32,
    pub chunk_days: u32,
    /// Counts completed chunks again.
    pub force_overwrite: bool,
}

/// What a retry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// Failed chunks that wait again.
    pub reset: u64,
    /// Runs that follow from that, of chunks or of the plan.
    pub resubmitted: u64,
}

struct Inner {
    config: OccupancyConfig,
    sessions: Arc<dyn Sessions>,
    store: Store,
    runs: Runs,
    book: Arc<Book>,
    has_begun: AtomicBool,
    /// The chunks that have a run now: its id, and the opening that it counts for.
    running: Mutex<Running>,
    /// Held by the run that counts several chunks (live).
    together: tokio::sync::Mutex<()>,
    /// Who holds the lock of an object is the only one who writes it.
    objects: [tokio::sync::Mutex<()>; OBJECT_LOCKS],
}

type Running = BTreeMap<ChunkKey, (RunId, u32)>;

/// Locks that all objects share.
const OBJECT_LOCKS: usize = 64;

/// A cheap handle to the datasets of a server.
#[derive(Clone)]
pub struct Occupancy {
    inner: Arc<Inner>,
    stop: CancellationToken,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Occupancy {
    /// Makes its jobs known; before the runs are restored. Takes requests about datasets once [`Occupancy::begin`] has been called.
    pub fn new(config: OccupancyConfig, sessions: Arc<dyn Sessions>, store: Store, runs: Runs, documents: Arc<dyn Documents>) -> Self {
        let book = Arc::new(Book::new(documents));
        let (has_begun, objects) = (AtomicBool::new(false), std::array::from_fn(|_| tokio::sync::Mutex::default()));
        let (running, together) = (Mutex::default(), tokio::sync::Mutex::default());
        let inner = Arc::new(Inner { config, sessions, store, runs, book, has_begun, running, together, objects });
        for name in [SOURCE_JOB, DERIVED_JOB] {
            inner.runs.register(name, Arc::new(ChunkJob(Arc::clone(&inner))));
        }
        Self { inner, stop: CancellationToken::new(), tasks: Arc::default() }
    }

    /// Takes up what the log has and goes on with it; once the runs have been restored. `documents` gives those of a kind.
    pub fn begin(&self, documents: impl Fn(&str) -> Vec<(EcoString, Value)>) {
        let mut pages = shelf::Shelf::default();
        for kind in [shelf::NUMBERS, shelf::SUBTREE, shelf::DATASET, shelf::CHUNK] {
            for (key, body) in documents(kind) {
                if let Err(error) = pages.load(kind, &key, body) {
                    tracing::warn!(kind, key = key.as_str(), %error, "a record of occupancy datasets cannot be read and is left alone");
                }
            }
        }
        self.inner.book.load(pages);
        self.inner.has_begun.store(true, Ordering::Release);
        let mut tasks = vec![tokio::spawn(keeper::keep(Arc::clone(&self.inner), self.stop.clone()))];
        if self.inner.sessions.is_live() {
            tasks.push(tokio::spawn(refresh::refresh(Arc::clone(&self.inner), self.stop.clone())));
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }

    /// Begins nothing any more; before the runs stop.
    pub async fn stop(&self) {
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of occupancy datasets ended by a panic");
            }
        }
    }

    fn open(&self) -> Result<(), OccupancyError> {
        let has_begun = self.inner.has_begun.load(Ordering::Acquire);
        if has_begun { Ok(()) } else { Err(OccupancyError::NotReady("the datasets of the log have not been read yet")) }
    }

    /// Records a dataset and plans its chunks; answers before they are counted.
    pub async fn create(&self, new: NewDataset) -> Result<Dataset, OccupancyError> {
        self.open()?;
        let inner = &self.inner;
        let (begun, within) = (Instant::now(), inner.config.answer_within);
        if inner.sessions.space(new.root_space_id, within).await?.is_none() {
            return Err(OccupancyError::space_not_found(new.root_space_id.into()));
        }
        let mut dataset = unplanned(&new, now());
        dataset.windows_within(inner.config.chunks_max)?;
        let left = within.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let plan = match inner.plan(&dataset, Some(left)).await {
            Ok(plan) => Some(plan),
            // The background says what is wrong, or that it only took long.
            Err(OccupancyError::Database(error)) => {
                tracing::info!(%error, "a dataset is planned in the background");
                None
            }
            Err(error) => return Err(error),
        };
        let id = inner.book.change(now(), move |draft| {
            dataset.dataset_id = draft.next_dataset();
            let id = dataset.dataset_id;
            match plan {
                Some(plan) => plan.apply(draft, dataset),
                None => draft.put_dataset(dataset),
            }
            Ok(id)
        });
        let id = id.await?;
        if inner.is_complete(id) {
            // Everything is there already, or there is nothing: the answer says so if it can be known now.
            let finished = tokio::time::timeout(within.saturating_sub(begun.elapsed()), inner.finish(id)).await;
            if let Ok(Err(error)) = finished {
                tracing::warn!(dataset = id, %error, "a dataset could not be finished at once");
            }
        }
        self.get(id)
    }

    /// Those that were made last first.
    pub fn list(&self, skip: usize, rows_max: usize) -> Result<Vec<Dataset>, OccupancyError> {
        self.open()?;
        Ok(self.inner.book.read().datasets.values().rev().skip(skip).take(rows_max).cloned().collect())
    }

    pub fn get(&self, id: u64) -> Result<Dataset, OccupancyError> {
        self.open()?;
        self.inner.book.read().datasets.get(&id).cloned().ok_or_else(|| OccupancyError::dataset_not_found(id))
    }

    /// The bins of a space of the dataset, the root's without one, or how far they are.
    pub async fn results(&self, id: u64, space_id: Option<SpaceId>) -> Result<Results, OccupancyError> {
        self.open()?;
        self.inner.results(id, space_id).await
    }

    /// Removes the record of a dataset. Its chunks and their objects stay.
    pub async fn delete(&self, id: u64) -> Result<(), OccupancyError> {
        self.open()?;
        self.inner.book.change(now(), move |draft| draft.remove_dataset(id)).await
    }

    /// Has the failed chunks of a dataset counted again, or those in the subtree of one of its spaces; one that could not be planned is
    /// planned again.
    pub async fn retry(&self, id: u64, space_id: Option<SpaceId>) -> Result<Retried, OccupancyError> {
        self.open()?;
        let retried = self.inner.book.change(now(), move |draft| {
            let dataset = draft.dataset(id)?.clone();
            if dataset.state == State::Failed && !draft.is_planned(id) {
                draft.put_dataset(Dataset { state: State::Pending, error: None, ..dataset });
                return Ok(Retried { reset: 0, resubmitted: 1 });
            }
            let reset = draft.reset_failed(id, space_id.unwrap_or(dataset.root_space_id))?;
            Ok(Retried { reset, resubmitted: reset })
        });
        retried.await
    }

    /// Removes chunks that no dataset needs any more and that were finished longer ago than `max_age`, and their objects. How many.
    pub async fn cleanup(&self, max_age: Micros) -> Result<u64, OccupancyError> {
        self.open()?;
        let inner = &self.inner;
        let now = now();
        let before = now.saturating_sub(max_age);
        let removed = inner.book.change(now, move |draft| Ok(draft.remove_unused(before))).await?;
        for key in &removed {
            let _alone = inner.alone(key).await;
            if !inner.book.read().chunks.contains_key(key) {
                inner.store.delete(&key.object()).await.map_err(BinsError::from)?;
            }
        }
        Ok(removed.len() as u64)
    }

    /// Spaces whose name contains a text, by name.
    pub async fn spaces(&self, search: Option<&str>, skip: usize, rows_max: usize) -> Result<Vec<Space>, OccupancyError> {
        Ok(self.inner.sessions.search(search, skip, rows_max, self.inner.config.browse_within).await?)
    }

    pub async fn root_spaces(&self) -> Result<Vec<Space>, OccupancyError> {
        Ok(self.inner.sessions.roots(self.inner.config.browse_within).await?)
    }

    pub async fn space(&self, id: SpaceId) -> Result<Space, OccupancyError> {
        let found = self.inner.sessions.space(id, self.inner.config.browse_within).await?;
        found.ok_or_else(|| OccupancyError::space_not_found(id.into()))
    }

    /// Direct children, by name; none of an unknown space.
    pub async fn space_children(&self, id: SpaceId) -> Result<Vec<Space>, OccupancyError> {
        Ok(self.inner.sessions.children(id, self.inner.config.browse_within).await?)
    }

    /// A space and everything below it, by name; nothing for an unknown one.
    pub async fn space_subtree(&self, id: SpaceId) -> Result<Vec<Space>, OccupancyError> {
        let mut spaces = self.inner.sessions.subtree(id, Some(self.inner.config.browse_within)).await?;
        sessions::by_name(&mut spaces);
        Ok(spaces)
    }
}

/// A dataset of which nothing is known yet but what was asked for.
fn unplanned(new: &NewDataset, now: Micros) -> Dataset {
    Dataset {
        dataset_id: 0,
        name: new.name.clone(),
        description: new.description.clone(),
        root_space_id: new.root_space_id,
        start_time: new.start_time.unwrap_or(now),
        end_time: new.end_time.unwrap_or(now),
        asked: (new.start_time, new.end_time),
        interval_seconds: new.interval_seconds,
        chunk_days: new.chunk_days,
        force_overwrite: new.force_overwrite,
        state: State::Pending,
        has_range: new.start_time.is_some() && new.end_time.is_some(),
        storage_path: None,
        row_count: None,
        column_stats: None,
        error: None,
        created_at: now,
        completed_at: None,
    }
}

impl Dataset {
    fn windows_within(&self, chunks_max: usize) -> Result<(), OccupancyError> {
        let windows = self.windows().count();
        let detail = || format!("makes {windows} windows of the range, but a dataset may have at most {chunks_max} chunks");
        if windows > chunks_max { Err(OccupancyError::Invalid { field: "chunk_days", detail: detail() }) } else { Ok(()) }
    }
}

/// What a dataset consists of.
struct Plan {
    hierarchy: Hierarchy,
    /// Nothing when there are no sessions to take absent bounds from.
    range: Option<(Micros, Micros)>,
    chunks: Vec<Planned>,
}

impl Plan {
    fn apply(self, draft: &mut Draft<'_>, mut dataset: Dataset) {
        dataset.has_range = self.range.is_some();
        match self.range {
            Some((start, end)) => {
                (dataset.start_time, dataset.end_time) = (start, end);
                dataset.state = State::Running;
                draft.want(&self.chunks, dataset.force_overwrite);
            }
            None => {
                dataset.state = State::Completed;
                (dataset.row_count, dataset.completed_at) = (Some(0), Some(draft.now));
            }
        }
        draft.put_hierarchy(dataset.dataset_id, Arc::new(self.hierarchy));
        draft.put_dataset(dataset);
    }
}

impl Inner {
    async fn plan(&self, dataset: &Dataset, limit: Option<Duration>) -> Result<Plan, OccupancyError> {
        let begun = Instant::now();
        let left = || limit.map(|limit| limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1)));
        let root = dataset.root_space_id;
        let invalid = |detail: String| OccupancyError::Invalid { field: "root_space_id", detail };
        let hierarchy = match Hierarchy::of(root, self.sessions.subtree(root, left()).await?) {
            Ok(Some(hierarchy)) => hierarchy,
            Ok(None) => return Err(OccupancyError::space_not_found(root.into())),
            Err(cycle) => {
                let cycle: Vec<String> = cycle.iter().map(SpaceId::to_string).collect();
                return Err(invalid(format!("lies in a cycle of parents: {}", cycle.join(" in "))));
            }
        };
        let range = Range { start: dataset.asked.0, end: dataset.asked.1, chunk_days: dataset.chunk_days };
        let discovery = self.sessions.discover(root, range, left()).await?;
        let range = range.settle(discovery.bounds);
        let chunks = plan::plan(&hierarchy, &discovery.active, dataset.interval_seconds);
        let chunks_max = self.config.chunks_max;
        if chunks.len() > chunks_max {
            let detail = format!("needs {} chunks for this range, but a dataset may have at most {chunks_max}", chunks.len());
            return Err(invalid(detail));
        }
        Ok(Plan { hierarchy, range, chunks })
    }

    /// Plans a dataset that is pending, however long it takes. Ends when it is planned or has failed.
    async fn plan_in_background(&self, id: u64) {
        let mut failures = 0;
        loop {
            let Some(dataset) = self.book.read().datasets.get(&id).filter(|d| d.state == State::Pending).cloned() else { return };
            let planned = self.plan(&dataset, None).await;
            let changed = match planned {
                Ok(plan) => {
                    let apply = move |draft: &mut Draft<'_>| {
                        let dataset = draft.dataset(id)?.clone();
                        plan.apply(draft, dataset);
                        Ok(())
                    };
                    self.book.change(now(), apply).await
                }
                Err(OccupancyError::Service(error)) => Err(error.into()),
                Err(error) => {
                    failures += 1;
                    let retries = self.config.retries;
                    if matches!(error, OccupancyError::Database(SessionsError::Unavailable(_))) && failures <= retries.retries {
                        tokio::time::sleep(retries.pause(failures, 0.5)).await;
                        continue;
                    }
                    let text = match error {
                        OccupancyError::Database(error) => format!("Space discovery SQL failed: {error}"),
                        other => other.to_string(),
                    };
                    let fail = move |draft: &mut Draft<'_>| {
                        let failed = Dataset { state: State::Failed, error: Some(text), ..draft.dataset(id)?.clone() };
                        draft.put_dataset(failed);
                        Ok(())
                    };
                    self.book.change(now(), fail).await
                }
            };
            match changed {
                Ok(()) | Err(OccupancyError::NotFound(_)) => return,
                Err(error) => {
                    tracing::warn!(dataset = id, %error, "the plan of a dataset could not be recorded; it is tried again");
                    tokio::time::sleep(self.config.pause).await;
                }
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else writes the object of a chunk.
    async fn alone(&self, key: &ChunkKey) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        self.objects[hasher.finish() as usize % OBJECT_LOCKS].lock().await
    }

    fn is_complete(&self, id: u64) -> bool {
        let shelf = self.book.read();
        shelf.datasets.get(&id).is_some_and(|dataset| dataset.state == State::Running && shelf.is_complete(dataset, dataset.root_space_id))
    }
}
