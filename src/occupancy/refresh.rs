//! Keeping completed chunks true in live mode: sessions that come late, are corrected or erased, and rooms that move.
//!
//! A follower notes which spaces changed on which days. Every `refresh_every` the chunks of these spaces, and of all above them, are counted
//! again, many in one question, and the objects that say something else are replaced. A space that has sessions in a window for the
//! first time gets its chunk on the way. A chunk stays completed meanwhile: readers see its old object or its new one.
//!
//! After a restart, and when more changed than could be noted, all chunks are looked at once. A dataset that takes over completed chunks
//! has them looked at before it is completed itself, so it never shows less than the log had when it was asked for.
//!
//! Known limitation: bins of a width that is not kept are looked at again when those that are kept change; two changes in one moment that
//! cancel each other out there are seen with the next change of that day.

use super::book::Outcome;
use super::dirty::{Days, Dirty};
use super::error::{OccupancyError, SessionsError};
use super::plan::{self, Hierarchy};
use super::record::{Chunk, ChunkKey, Dataset, State};
use super::sessions::{Counted, Range};
use super::{Inner, now};
use desireline_connectors::bins;
use desireline_dataflows::engine::{Changes, Next};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::SpaceId;
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Changes that may wait for the follower.
const QUEUE_ROWS_MAX: usize = 262_144;
/// How often they are taken.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Spaces of one question.
const SPACES_AT_ONCE: usize = 64;
const WRITES_AT_ONCE: usize = 8;

struct Refresher {
    inner: Arc<Inner>,
    changes: Option<Changes>,
    tree: Tree,
    dirty: Dirty,
}

/// Follows the log until it is told to stop.
pub async fn refresh(inner: Arc<Inner>, stop: CancellationToken) {
    let every = inner.config.refresh_every;
    let mut refresher = Refresher { inner, changes: None, tree: Tree::default(), dirty: Dirty::everything() };
    let mut last: Option<Instant> = None;
    loop {
        match refresher.drain() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(%error, "changes of occupancy cannot be followed; it is tried again"),
        }
        if refresher.changes.is_some() && !refresher.dirty.is_empty() && last.is_none_or(|last| last.elapsed() >= every) {
            let dirty = std::mem::take(&mut refresher.dirty);
            let left = tokio::select! {
                () = stop.cancelled() => return,
                left = refresher.inner.look_again(&dirty) => left,
            };
            match left {
                Ok(left) => refresher.dirty.merge(left),
                Err(error) => {
                    tracing::warn!(%error, "chunks could not be counted again; it is tried again");
                    refresher.dirty.merge(dirty);
                }
            }
            last = Some(Instant::now());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DRAIN_EVERY.min(every)) => {}
        }
    }
}

impl Refresher {
    /// Takes what has changed. False when the views have stopped.
    fn drain(&mut self) -> Result<bool, SessionsError> {
        let is_idle = {
            let shelf = self.inner.book.read();
            shelf.datasets.is_empty() && shelf.chunks.is_empty()
        };
        if is_idle {
            // Nobody has anything that could become wrong; following costs the views something.
            self.changes = None;
            return Ok(true);
        }
        if self.changes.is_none() {
            self.changes = self.inner.sessions.follow(QUEUE_ROWS_MAX)?;
            // What the tree has more than the stream begins with comes again, and does no harm.
            self.tree = self.inner.sessions.tree()?.unwrap_or_default();
            self.dirty = Dirty::everything();
        }
        loop {
            match self.changes.as_ref().and_then(Changes::try_next) {
                None => return Ok(true),
                Some(Next::Changes(changes)) => changes.iter().for_each(|change| self.dirty.note(change, &mut self.tree)),
                Some(Next::Closed(_)) => {}
                Some(Next::Lost) => {
                    tracing::warn!("more changes of occupancy waited than may; all chunks are looked at again");
                    self.changes = None;
                    return Ok(true);
                }
                Some(Next::End) => return Ok(false),
            }
        }
    }
}

impl Inner {
    /// Counts again what is dirty. What could not be judged now, because it is being counted anyway, is left.
    pub(super) async fn look_again(&self, dirty: &Dirty) -> Result<Dirty, OccupancyError> {
        let Some(tree) = self.sessions.tree()? else { return Ok(Dirty::default()) };
        if dirty.tree {
            self.update_subtrees(&tree).await?;
        }
        let keys = if dirty.everything { self.all_keys(&tree).await? } else { self.touched_keys(dirty, &tree) };
        let mut left = Dirty::default();
        let mut looked = Vec::new();
        {
            let shelf = self.book.read();
            for key in keys.into_iter().filter(|key| tree.contains(key.space_id)) {
                match shelf.chunks.get(&key).map(|chunk| chunk.state) {
                    None | Some(State::Completed) => looked.push(key),
                    // A run may have asked before the change.
                    Some(State::Pending | State::Running) => left.add(key.space_id, key.start),
                    Some(State::Failed) => {}
                }
            }
        }
        self.recheck(looked, &tree).await?;
        Ok(left)
    }

    /// The chunks that there are, and those that datasets lack.
    async fn all_keys(&self, tree: &Tree) -> Result<BTreeSet<ChunkKey>, OccupancyError> {
        let (mut keys, datasets): (BTreeSet<ChunkKey>, Vec<Dataset>) = {
            let shelf = self.book.read();
            let datasets = shelf.datasets.values().filter(|dataset| is_planned(dataset)).cloned().collect();
            (shelf.chunks.keys().copied().collect(), datasets)
        };
        for dataset in datasets {
            let Some(hierarchy) = subtree(tree, dataset.root_space_id) else { continue };
            let range = Range { start: Some(dataset.start_time), end: Some(dataset.end_time), chunk_days: dataset.chunk_days };
            let active = self.sessions.discover(dataset.root_space_id, range, None).await?.active;
            keys.extend(plan::plan(&hierarchy, &active, dataset.interval_seconds).into_iter().map(|planned| planned.key));
        }
        Ok(keys)
    }

    /// The same, of what is dirty.
    fn touched_keys(&self, dirty: &Dirty, tree: &Tree) -> BTreeSet<ChunkKey> {
        let touched = dirty.paths(tree);
        let shelf = self.book.read();
        let is_touched = |days: &[Arc<Days>], key: &ChunkKey| days.iter().any(|days| days.touch(key.start, key.end));
        let mut keys = BTreeSet::new();
        for window in shelf.windows() {
            let of_window = touched.iter().filter(|(_, days)| is_touched(days, &window)).map(|(space, _)| window.of_space(*space));
            keys.extend(of_window.filter(|key| shelf.chunks.contains_key(key)));
        }
        for dataset in shelf.datasets.values().filter(|dataset| is_planned(dataset)) {
            let Some(hierarchy) = shelf.hierarchies.get(&dataset.dataset_id) else { continue };
            for (space, days) in touched.iter().filter(|(space, _)| hierarchy.contains(**space)) {
                let windows = dataset.windows().map(|window| dataset.chunk_of(*space, window));
                keys.extend(windows.filter(|key| is_touched(days, key)));
            }
        }
        keys
    }

    /// Counts completed and missing chunks, and replaces the objects that say something else.
    pub(super) async fn recheck(&self, keys: Vec<ChunkKey>, tree: &Tree) -> Result<(), OccupancyError> {
        let mut windows: BTreeMap<ChunkKey, Vec<SpaceId>> = BTreeMap::new();
        for key in keys {
            windows.entry(key.of_space(SpaceId::MIN)).or_default().push(key.space_id);
        }
        let mut changed = Vec::new();
        for (window, mut spaces) in windows {
            spaces.sort_by_cached_key(|space| std::cmp::Reverse(tree.ancestors(*space).len()));
            for spaces in spaces.chunks(SPACES_AT_ONCE) {
                let asked = self.sessions.wholes(spaces, window.interval_seconds, (window.start, window.end)).await?;
                let counted = spaces.iter().map(|space| window.of_space(*space)).zip(asked.unwrap_or_default()).collect();
                changed.extend(self.replace(counted, tree).await?);
            }
        }
        self.count_rows_again(&changed).await
    }

    /// Enters what was counted where it is new. The chunks that have changed.
    async fn replace(&self, counted: Vec<(ChunkKey, Counted)>, tree: &Tree) -> Result<Vec<ChunkKey>, OccupancyError> {
        let writes = counted.into_iter().map(|(key, counted)| self.replace_object(key, counted));
        let written: Vec<_> = futures::stream::iter(writes).buffered(WRITES_AT_ONCE).try_collect().await?;
        let written: Vec<_> = written.into_iter().flatten().collect();
        if written.is_empty() {
            return Ok(Vec::new());
        }
        let parents: BTreeMap<SpaceId, SpaceId> =
            written.iter().filter_map(|(key, ..)| Some((key.space_id, tree.get(key.space_id)?.parent_space_id?))).collect();
        let entered = move |draft: &mut super::Draft<'_>| {
            let mut changed = Vec::new();
            for (key, opening, outcome) in written {
                if !draft.refresh(&key, opening, outcome) {
                    continue;
                }
                if let (None, Some(parent)) = (opening, parents.get(&key.space_id)) {
                    draft.add_child(&key.of_space(*parent), key.space_id);
                }
                changed.push(key);
            }
            Ok(changed)
        };
        self.book.change(now(), entered).await
    }

    async fn replace_object(&self, key: ChunkKey, counted: Counted) -> Result<Option<(ChunkKey, Option<u32>, Outcome)>, OccupancyError> {
        let content = bins::fingerprint(&counted.bins);
        let _alone = self.alone(&key).await;
        let opening = {
            let shelf = self.book.read();
            match shelf.chunks.get(&key) {
                Some(chunk) if !chunk.is_completed() || chunk.content == Some(content) => return Ok(None),
                None if counted.bins.is_empty() => return Ok(None),
                known => known.map(|chunk| chunk.opening),
            }
        };
        bins::write(&self.store, &key.object(), &counted.bins).await?;
        let rows = counted.bins.len() as u64;
        Ok(Some((key, opening, Outcome { content, rows, as_of: counted.as_of, ..Outcome::default() })))
    }

    /// The subtrees of datasets, as the tree now has them.
    async fn update_subtrees(&self, tree: &Tree) -> Result<(), OccupancyError> {
        let other: Vec<(u64, Arc<Hierarchy>)> = {
            let shelf = self.book.read();
            let now = |(id, known): (&u64, &Arc<Hierarchy>)| {
                let dataset = shelf.datasets.get(id)?;
                let now = subtree(tree, dataset.root_space_id)?;
                (now != **known).then(|| (*id, Arc::new(now)))
            };
            shelf.hierarchies.iter().filter_map(now).collect()
        };
        let put = move |draft: &mut super::Draft<'_>| {
            for (id, hierarchy) in other {
                if draft.dataset(id).is_ok() {
                    draft.put_hierarchy(id, hierarchy);
                }
            }
            Ok(())
        };
        self.book.change(now(), put).await
    }

    /// The completed datasets whose root is among the chunks.
    async fn count_rows_again(&self, changed: &[ChunkKey]) -> Result<(), OccupancyError> {
        let ids: Vec<u64> = {
            let shelf = self.book.read();
            let is_root =
                |dataset: &&Dataset| changed.iter().any(|key| key.space_id == dataset.root_space_id && dataset.has_window_of(key));
            shelf.datasets.values().filter(|d| d.state == State::Completed).filter(is_root).map(|dataset| dataset.dataset_id).collect()
        };
        for id in ids {
            self.describe(id).await?;
        }
        Ok(())
    }

    /// Looks at the chunks that a dataset has taken over.
    pub(super) async fn look_at_reused(&self, dataset: &Dataset) -> Result<(), OccupancyError> {
        let Some(tree) = self.sessions.tree()? else { return Ok(()) };
        let keys: Vec<ChunkKey> = {
            let shelf = self.book.read();
            let Some(hierarchy) = shelf.hierarchies.get(&dataset.dataset_id) else { return Ok(()) };
            let is_reused = |chunk: &&Chunk| {
                let before = chunk.completed_at.is_some_and(|at| at <= dataset.created_at);
                before && chunk.is_completed() && hierarchy.contains(chunk.key.space_id) && tree.contains(chunk.key.space_id)
            };
            let all = dataset.windows().flat_map(|window| shelf.window(dataset.interval_seconds, window));
            all.filter(is_reused).map(|chunk| chunk.key).collect()
        };
        self.recheck(keys, &tree).await
    }
}

fn is_planned(dataset: &Dataset) -> bool {
    dataset.has_range && matches!(dataset.state, State::Running | State::Completed)
}

fn subtree(tree: &Tree, root: SpaceId) -> Option<Hierarchy> {
    let spaces = tree.subtree(root)?.into_iter().filter_map(|id| tree.get(id).cloned());
    Hierarchy::of(root, spaces).ok().flatten()
}
