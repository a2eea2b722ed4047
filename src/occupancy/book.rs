//! The book of datasets and chunks: what the log has of them, and how it changes.
//!
//! A change is drafted against the book as it is, made durable, and only then entered: what is read here is in the log. Changes go one after
//! another. Whatever somebody asks for is one commit, so a dataset is never there without its chunks; only above [`DOCUMENTS_MAX`]
//! records the chunks go first, in several.

use super::error::OccupancyError;
use super::plan::{Hierarchy, Planned};
use super::record::{Chunk, ChunkKey, Dataset, SpaceType, State};
use super::shelf::{Changes, Shelf};
use crate::service::{Document, Service, ServiceError};
use async_trait::async_trait;
use desireline_records::{LogicalTime, Micros, SpaceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// Documents of one commit.
const DOCUMENTS_MAX: usize = 10_000;

/// Where the book is made durable.
#[async_trait]
pub trait Documents: Send + Sync + 'static {
    /// All of them or none.
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError>;
}

#[async_trait]
impl Documents for Service {
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
        self.put_documents(documents).await.map(drop)
    }
}

/// What a run has counted.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub content: u64,
    pub rows: u64,
    /// The content of each child that was added up.
    pub children: BTreeMap<SpaceId, u64>,
    pub as_of: Option<LogicalTime>,
    pub run_id: Option<String>,
}

/// A change in the making.
pub struct Draft<'a> {
    shelf: &'a Shelf,
    changes: Changes,
    pub now: Micros,
}

impl Draft<'_> {
    pub fn dataset(&self, id: u64) -> Result<&Dataset, OccupancyError> {
        let found = match self.changes.datasets.get(&id) {
            Some(changed) => changed.as_ref(),
            None => self.shelf.datasets.get(&id),
        };
        found.ok_or_else(|| OccupancyError::dataset_not_found(id))
    }

    pub fn put_dataset(&mut self, dataset: Dataset) {
        self.changes.datasets.insert(dataset.dataset_id, Some(dataset));
    }

    pub fn remove_dataset(&mut self, id: u64) -> Result<(), OccupancyError> {
        self.dataset(id)?;
        self.changes.datasets.insert(id, None);
        Ok(())
    }

    pub fn put_hierarchy(&mut self, id: u64, hierarchy: Arc<Hierarchy>) {
        self.changes.hierarchies.insert(id, hierarchy);
    }

    /// Whether it is known what the dataset consists of.
    pub fn is_planned(&self, id: u64) -> bool {
        self.changes.hierarchies.contains_key(&id) || self.shelf.hierarchies.contains_key(&id)
    }

    pub fn next_dataset(&mut self) -> u64 {
        self.changes.numbers.dataset += 1;
        self.changes.numbers.dataset - 1
    }

    pub fn chunk(&self, key: &ChunkKey) -> Option<&Chunk> {
        match self.changes.chunks.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.shelf.chunks.get(key),
        }
    }

    /// Removes the records of chunks that nobody needs; which they were.
    pub fn remove_unused(&mut self, before: Micros) -> BTreeSet<ChunkKey> {
        let unused = self.shelf.unused(before);
        self.changes.chunks.extend(unused.iter().map(|key| (*key, None)));
        unused
    }

    pub fn put_chunk(&mut self, chunk: Chunk) {
        self.changes.chunks.insert(chunk.key, Some(chunk));
    }

    /// Has the chunks counted that are not, or not as they are needed now. `planned` has children before their parents.
    pub fn want(&mut self, planned: &[Planned], force: bool) {
        for plan in planned {
            let Some(known) = self.chunk(&plan.key) else {
                let chunk = self.new_chunk(plan);
                self.put_chunk(chunk);
                continue;
            };
            let is_other = |child: &SpaceId| {
                let added = known.children.get(child).copied().flatten();
                let now = self.chunk(&plan.key.of_space(*child));
                now.is_some_and(|now| !now.is_completed() || (added.is_some() && now.content != added))
            };
            let is_new = |child: &SpaceId| !known.children.contains_key(child);
            let grown = plan.children.iter().any(is_new) || (plan.space_type.has_own() && !known.space_type.has_own());
            let open = match known.state {
                State::Completed => grown || force || plan.children.iter().any(is_other),
                State::Failed => true,
                State::Pending | State::Running => grown,
            };
            if open {
                let mut chunk = known.clone();
                chunk.space_type = plan.space_type;
                chunk.children = plan.children.iter().map(|child| (*child, None)).collect();
                chunk.open(self.now);
                self.put_chunk(chunk);
            }
        }
    }

    fn new_chunk(&mut self, plan: &Planned) -> Chunk {
        self.changes.numbers.chunk += 1;
        Chunk {
            chunk_id: self.changes.numbers.chunk - 1,
            key: plan.key,
            space_type: plan.space_type,
            children: plan.children.iter().map(|child| (*child, None)).collect(),
            state: State::Pending,
            opening: 1,
            opened_at: self.now,
            run_id: None,
            error: None,
            content: None,
            rows: 0,
            as_of: None,
            created_at: self.now,
            completed_at: None,
        }
    }

    /// Enters what a run has counted, unless the chunk has been opened again since the run began, or a child has. Parents that have added
    /// up other content of this chunk are opened again.
    pub fn complete(&mut self, key: &ChunkKey, opening: u32, outcome: Outcome) -> bool {
        let Some(known) = self.chunk(key).filter(|chunk| chunk.state == State::Pending && chunk.opening == opening) else { return false };
        let is_current = |(child, content): (&SpaceId, &u64)| {
            self.chunk(&key.of_space(*child)).is_some_and(|child| child.is_completed() && child.content == Some(*content))
        };
        if !outcome.children.iter().all(is_current) {
            return false;
        }
        let mut chunk = known.clone();
        chunk.state = State::Completed;
        (chunk.content, chunk.rows, chunk.as_of) = (Some(outcome.content), outcome.rows, outcome.as_of);
        chunk.completed_at = Some(self.now);
        chunk.run_id = outcome.run_id;
        chunk.children.iter_mut().for_each(|(child, content)| *content = outcome.children.get(child).copied());
        self.put_chunk(chunk);
        for parent in self.shelf.parents.get(key).into_iter().flatten() {
            let parent = self.chunk(&key.of_space(*parent)).filter(|parent| {
                parent.is_completed() && parent.children.get(&key.space_id).is_some_and(|added| added.is_some_and(|c| c != outcome.content))
            });
            if let Some(mut parent) = parent.cloned() {
                parent.open(self.now);
                self.put_chunk(parent);
            }
        }
        true
    }

    /// Enters other content of a completed chunk, or, without an opening, a chunk that nobody had planned; the object is there already.
    /// Not when the chunk has been opened since.
    pub fn refresh(&mut self, key: &ChunkKey, opening: Option<u32>, outcome: Outcome) -> bool {
        let mut chunk = match (self.chunk(key), opening) {
            (Some(known), Some(opening)) if known.is_completed() && known.opening == opening => known.clone(),
            (None, None) => self.new_chunk(&Planned { key: *key, space_type: SpaceType::Source, children: BTreeSet::new() }),
            _ => return false,
        };
        chunk.state = State::Completed;
        (chunk.content, chunk.rows, chunk.as_of) = (Some(outcome.content), outcome.rows, outcome.as_of);
        chunk.completed_at = Some(self.now);
        self.put_chunk(chunk);
        true
    }

    /// A chunk has one more child that contributes.
    pub fn add_child(&mut self, key: &ChunkKey, child: SpaceId) {
        let Some(mut chunk) = self.chunk(key).filter(|chunk| !chunk.children.contains_key(&child)).cloned() else { return };
        chunk.children.insert(child, None);
        self.put_chunk(chunk);
    }

    pub fn fail(&mut self, key: &ChunkKey, opening: u32, run_id: Option<String>, message: &str) {
        let Some(known) = self.chunk(key).filter(|chunk| chunk.state == State::Pending && chunk.opening == opening) else { return };
        let chunk = Chunk { state: State::Failed, error: Some(message.to_owned()), run_id, ..known.clone() };
        self.put_chunk(chunk);
    }

    /// Opens the failed chunks of a dataset's windows and subtree; how many there were.
    pub fn reset_failed(&mut self, id: u64, space_id: SpaceId) -> Result<u64, OccupancyError> {
        let dataset = self.dataset(id)?.clone();
        let hierarchy = self.shelf.hierarchies.get(&id).cloned();
        let within = |chunk: &&Chunk| hierarchy.as_ref().is_some_and(|all| all.is_within(chunk.key.space_id, space_id));
        let all = dataset.windows().flat_map(|window| self.shelf.window(dataset.interval_seconds, window));
        let failed: Vec<Chunk> = all.filter(|chunk| chunk.state == State::Failed).filter(within).cloned().collect();
        let count = failed.len() as u64;
        for mut chunk in failed {
            chunk.open(self.now);
            self.put_chunk(chunk);
        }
        Ok(count)
    }

    /// A dataset fails with its first chunk, also one that was completed before, and runs again when none of them is failed any more.
    fn judge_datasets(&mut self) {
        let touched: Vec<Chunk> = self.changes.chunks.values().flatten().cloned().collect();
        let ids: BTreeSet<u64> = self.shelf.datasets.keys().chain(self.changes.datasets.keys()).copied().collect();
        for id in ids {
            let Ok(dataset) = self.dataset(id) else { continue };
            if dataset.state == State::Pending || !dataset.has_range {
                continue;
            }
            let hierarchy = self.changes.hierarchies.get(&id).or_else(|| self.shelf.hierarchies.get(&id));
            let Some(hierarchy) = hierarchy else { continue };
            let own = |chunk: &&Chunk| dataset.has_window_of(&chunk.key) && hierarchy.contains(chunk.key.space_id);
            let mut touched = touched.iter().filter(own).peekable();
            if touched.peek().is_none() && !self.changes.datasets.contains_key(&id) {
                continue;
            }
            let mut error = touched.find(|chunk| chunk.state == State::Failed).map(|chunk| chunk.error.clone().unwrap_or_default());
            if error.is_none() && dataset.state == State::Failed {
                error = self.any_failed(dataset, hierarchy);
            }
            let state = match (&error, dataset.state) {
                (Some(_), _) => State::Failed,
                (None, State::Failed) => State::Running,
                (None, as_it_is) => as_it_is,
            };
            if state != dataset.state {
                let judged = Dataset { state, error, ..dataset.clone() };
                self.put_dataset(judged);
            }
        }
    }

    fn any_failed(&self, dataset: &Dataset, hierarchy: &Hierarchy) -> Option<String> {
        let all = dataset.windows().flat_map(|window| self.shelf.window(dataset.interval_seconds, window));
        let now = all.filter_map(|chunk| self.chunk(&chunk.key));
        let mut failed = now.filter(|chunk| chunk.state == State::Failed && hierarchy.contains(chunk.key.space_id));
        failed.next().map(|chunk| chunk.error.clone().unwrap_or_default())
    }
}

/// The book of a server.
pub struct Book {
    documents: Arc<dyn Documents>,
    shelf: RwLock<Shelf>,
    writing: Arc<tokio::sync::Mutex<()>>,
    changes: watch::Sender<u64>,
}

impl Book {
    pub fn new(documents: Arc<dyn Documents>) -> Self {
        Self { documents, shelf: RwLock::default(), writing: Arc::default(), changes: watch::Sender::new(0) }
    }

    /// Takes up what the log has.
    pub fn load(&self, shelf: Shelf) {
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = shelf;
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves with every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Drafts a change, makes it durable and enters it. What was begun is finished, also when the caller goes away.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        now: Micros,
        draft: impl FnOnce(&mut Draft<'_>) -> Result<T, OccupancyError>,
    ) -> Result<T, OccupancyError> {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let (value, changes) = {
            let shelf = self.read();
            let changes =
                Changes { datasets: BTreeMap::new(), hierarchies: BTreeMap::new(), chunks: BTreeMap::new(), numbers: shelf.numbers };
            let mut drafted = Draft { shelf: &shelf, changes, now };
            let value = draft(&mut drafted)?;
            drafted.judge_datasets();
            (value, drafted.changes)
        };
        if changes.is_empty() {
            return Ok(value);
        }
        let book = Arc::clone(self);
        let entered = tokio::spawn(async move {
            let mut documents = changes.documents();
            while !documents.is_empty() {
                let rest = documents.split_off(documents.len().min(DOCUMENTS_MAX));
                book.documents.put(documents).await?;
                documents = rest;
            }
            book.shelf.write().unwrap_or_else(PoisonError::into_inner).enter(changes);
            drop(writing);
            book.changes.send_modify(|changes| *changes += 1);
            Ok::<(), ServiceError>(())
        });
        entered.await.map_err(|_| OccupancyError::NotReady("the server is stopping"))??;
        Ok(value)
    }
}
