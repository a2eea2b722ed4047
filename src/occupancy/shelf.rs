//! The pages of the book: all datasets and chunks, what is ready to be counted, and how each stands in the log.

use super::plan::Hierarchy;
use super::record::{Chunk, ChunkKey, Dataset, State};
use crate::service::Document;
use desireline_records::{Micros, SpaceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const DATASET: &str = "occupancy_dataset";
pub const CHUNK: &str = "occupancy_chunk";
/// The subtree of a dataset as it was when its chunks were planned.
pub const SUBTREE: &str = "occupancy_subtree";
/// The numbers that are given next; never given twice.
pub const NUMBERS: &str = "occupancy_numbers";

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub dataset: u64,
    pub chunk: u64,
}

/// The book's pages.
pub struct Shelf {
    pub datasets: BTreeMap<u64, Dataset>,
    pub hierarchies: BTreeMap<u64, Arc<Hierarchy>>,
    pub chunks: BTreeMap<ChunkKey, Chunk>,
    /// The spaces whose chunks of the same window add up a chunk.
    pub parents: BTreeMap<ChunkKey, BTreeSet<SpaceId>>,
    /// Pending chunks whose children are completed.
    pub ready: BTreeSet<ChunkKey>,
    pub numbers: Numbers,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            datasets: BTreeMap::new(),
            hierarchies: BTreeMap::new(),
            chunks: BTreeMap::new(),
            parents: BTreeMap::new(),
            ready: BTreeSet::new(),
            numbers: Numbers { dataset: 1, chunk: 1 },
        }
    }
}

impl Shelf {
    /// Takes up a document of the log. Says why it cannot.
    pub fn load(&mut self, kind: &str, key: &str, body: Value) -> Result<(), serde_json::Error> {
        match kind {
            DATASET => {
                let dataset: Dataset = serde_json::from_value(body)?;
                self.numbers.dataset = self.numbers.dataset.max(dataset.dataset_id + 1);
                self.datasets.insert(dataset.dataset_id, dataset);
            }
            CHUNK => {
                let chunk: Chunk = serde_json::from_value(body)?;
                self.numbers.chunk = self.numbers.chunk.max(chunk.chunk_id + 1);
                self.enter_chunk(chunk);
            }
            SUBTREE => {
                let pairs: Vec<(SpaceId, Option<SpaceId>)> = serde_json::from_value(body)?;
                self.hierarchies.insert(key.parse().unwrap_or_default(), Arc::new(Hierarchy::from_pairs(pairs)));
            }
            _ => {
                let numbers: Numbers = serde_json::from_value(body)?;
                self.numbers.dataset = self.numbers.dataset.max(numbers.dataset);
                self.numbers.chunk = self.numbers.chunk.max(numbers.chunk);
            }
        }
        Ok(())
    }

    pub fn is_ready(&self, chunk: &Chunk) -> bool {
        let completed = |space: &SpaceId| self.chunks.get(&chunk.key.of_space(*space)).is_none_or(Chunk::is_completed);
        chunk.state == State::Pending && chunk.children.keys().all(completed)
    }

    fn judge_ready(&mut self, key: ChunkKey) {
        let is_ready = self.chunks.get(&key).is_some_and(|chunk| self.is_ready(chunk));
        if is_ready {
            self.ready.insert(key)
        } else {
            self.ready.remove(&key)
        };
    }

    fn enter_chunk(&mut self, chunk: Chunk) {
        let key = chunk.key;
        self.forget_children(&key);
        for child in chunk.children.keys() {
            self.parents.entry(key.of_space(*child)).or_default().insert(key.space_id);
        }
        self.chunks.insert(key, chunk);
        self.judge_ready(key);
        for parent in self.parents.get(&key).cloned().unwrap_or_default() {
            self.judge_ready(key.of_space(parent));
        }
    }

    fn forget_children(&mut self, key: &ChunkKey) {
        let Some(before) = self.chunks.get(key) else { return };
        for child in before.children.keys() {
            let child = key.of_space(*child);
            if let Some(parents) = self.parents.get_mut(&child) {
                parents.remove(&key.space_id);
                if parents.is_empty() {
                    self.parents.remove(&child);
                }
            }
        }
    }

    pub fn enter(&mut self, changes: Changes) {
        self.numbers = changes.numbers;
        for (id, dataset) in changes.datasets {
            match dataset {
                Some(dataset) => drop(self.datasets.insert(id, dataset)),
                None => {
                    self.datasets.remove(&id);
                    self.hierarchies.remove(&id);
                }
            }
        }
        self.hierarchies.extend(changes.hierarchies);
        for (key, chunk) in changes.chunks {
            match chunk {
                Some(chunk) => self.enter_chunk(chunk),
                None => {
                    self.forget_children(&key);
                    self.chunks.remove(&key);
                    self.ready.remove(&key);
                }
            }
        }
    }

    /// The chunks of a window.
    pub fn window(&self, interval_seconds: u32, (start, end): (Micros, Micros)) -> impl Iterator<Item = &Chunk> {
        let key = |space_id| ChunkKey { interval_seconds, start, end, space_id };
        self.chunks.range(key(SpaceId::MIN)..=key(SpaceId::MAX)).map(|(_, chunk)| chunk)
    }

    /// Every window that has chunks, as the least key in it could be.
    pub fn windows(&self) -> impl Iterator<Item = ChunkKey> {
        let least = |key: &ChunkKey| key.of_space(SpaceId::MIN);
        let first = self.chunks.keys().next().map(least);
        std::iter::successors(first, move |window| {
            let behind = (std::ops::Bound::Excluded(window.of_space(SpaceId::MAX)), std::ops::Bound::Unbounded);
            self.chunks.range(behind).next().map(|(key, _)| least(key))
        })
    }

    /// Chunks that no dataset needs and no chunk of another adds up, finished before a time.
    pub fn unused(&self, before: Micros) -> BTreeSet<ChunkKey> {
        let is_needed = |key: &ChunkKey| {
            let contains = |id: &u64| self.hierarchies.get(id).is_some_and(|spaces| spaces.contains(key.space_id));
            self.datasets.iter().any(|(id, dataset)| dataset.has_window_of(key) && contains(id))
        };
        let is_old = |chunk: &Chunk| match chunk.state {
            State::Completed => chunk.completed_at.is_some_and(|at| at < before),
            State::Failed => chunk.opened_at < before,
            State::Pending | State::Running => false,
        };
        let mut unused: BTreeSet<ChunkKey> =
            self.chunks.values().filter(|chunk| is_old(chunk)).map(|chunk| chunk.key).filter(|key| !is_needed(key)).collect();
        loop {
            let is_added_up = |key: &ChunkKey| {
                self.parents.get(key).into_iter().flatten().any(|parent| {
                    let parent = key.of_space(*parent);
                    self.chunks.contains_key(&parent) && !unused.contains(&parent)
                })
            };
            let kept: BTreeSet<ChunkKey> = unused.iter().filter(|key| is_added_up(key)).copied().collect();
            if kept.is_empty() {
                return unused;
            }
            unused.retain(|key| !kept.contains(key));
        }
    }

    /// Whether every chunk of a space is there that its dataset needs.
    pub fn is_complete(&self, dataset: &Dataset, space_id: SpaceId) -> bool {
        let completed = |window| self.chunks.get(&dataset.chunk_of(space_id, window)).is_none_or(Chunk::is_completed);
        dataset.state != State::Pending && dataset.windows().all(completed)
    }

    /// The first failed chunk of a dataset in the subtree of a space.
    pub fn first_failed(&self, dataset: &Dataset, space_id: SpaceId) -> Option<&Chunk> {
        let hierarchy = self.hierarchies.get(&dataset.dataset_id)?;
        let failed = |chunk: &&Chunk| chunk.state == State::Failed && hierarchy.is_within(chunk.key.space_id, space_id);
        dataset.windows().find_map(|window| self.window(dataset.interval_seconds, window).find(failed))
    }
}

/// What a draft amounts to.
pub(super) struct Changes {
    pub datasets: BTreeMap<u64, Option<Dataset>>,
    pub hierarchies: BTreeMap<u64, Arc<Hierarchy>>,
    pub chunks: BTreeMap<ChunkKey, Option<Chunk>>,
    pub numbers: Numbers,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.datasets.is_empty() && self.hierarchies.is_empty() && self.chunks.is_empty()
    }

    /// Chunks first.
    pub fn documents(&self) -> Vec<Document> {
        let document = |kind: &str, key: String, body: Value| Document { kind: kind.into(), key: key.into(), body };
        let chunks = self.chunks.iter().map(|(key, chunk)| document(CHUNK, key.document(), json!(chunk)));
        let mut all: Vec<Document> = chunks.collect();
        all.push(document(NUMBERS, "next".to_owned(), json!(self.numbers)));
        for (id, dataset) in &self.datasets {
            all.push(document(DATASET, id.to_string(), json!(dataset)));
            if dataset.is_none() {
                all.push(document(SUBTREE, id.to_string(), Value::Null));
            }
        }
        all.extend(self.hierarchies.iter().map(|(id, hierarchy)| document(SUBTREE, id.to_string(), json!(hierarchy.pairs()))));
        all
    }
}
