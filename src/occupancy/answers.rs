//! What is answered about a dataset: how far it is, or its rows out of the objects.

use super::record::{Chunk, ChunkKey, Dataset, State, folder};
use super::{Inner, OccupancyError, now};
use chrono::DateTime;
use desireline_connectors::bins::{self, Bin};
use desireline_records::{Micros, SpaceId};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Objects that are read together.
const READS_AT_ONCE: usize = 8;

/// How a space of a dataset stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    pub dataset_id: u64,
    pub space_id: SpaceId,
    pub state: State,
    pub error: Option<String>,
    pub completed_chunks: usize,
    pub total_chunks: usize,
    /// Once all chunks are completed.
    pub rows: Option<Rows>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Ascending, at most as many as one answer may have.
    pub rows: Vec<Bin>,
    /// How many there are.
    pub total: u64,
}

/// A completed chunk that has rows.
struct Piece {
    key: ChunkKey,
    rows: u64,
    /// All of its bins belong to the dataset.
    is_inner: bool,
}

impl Inner {
    pub(super) async fn results(&self, id: u64, space_id: Option<SpaceId>) -> Result<Results, OccupancyError> {
        let (results, pieces, dataset) = {
            let shelf = self.book.read();
            let dataset = shelf.datasets.get(&id).ok_or_else(|| OccupancyError::dataset_not_found(id))?;
            let space_id = space_id.unwrap_or(dataset.root_space_id);
            let hierarchy = shelf.hierarchies.get(&id);
            if hierarchy.is_some_and(|spaces| !spaces.contains(space_id)) {
                return Err(OccupancyError::Invalid { field: "space_id", detail: "must be within the dataset's subtree".to_owned() });
            }
            let all = &shelf.chunks;
            let chunks = |space_id: SpaceId| dataset.windows().map(move |window| chunk_of(all, dataset, space_id, window));
            let has_any = chunks(space_id).any(|chunk| chunk.is_some());
            // A space without sessions is done when the root is.
            let counted = if has_any { space_id } else { dataset.root_space_id };
            let total_chunks = chunks(counted).count();
            let completed_chunks = chunks(counted).filter(|chunk| chunk.is_none_or(Chunk::is_completed)).count();
            let failed = (dataset.state == State::Failed).then(|| shelf.first_failed(dataset, space_id)).flatten();
            let failed = failed.map(|chunk| chunk.error.clone().unwrap_or_default());
            let is_planned = hierarchy.is_some();
            let state = match dataset.state {
                State::Pending => State::Pending,
                State::Failed if !is_planned => State::Failed,
                _ if failed.is_some() => State::Failed,
                // The root is done with its dataset; live, so is everything: chunks that were there before are looked at again first.
                State::Running if space_id == dataset.root_space_id || self.sessions.is_live() => State::Running,
                _ if completed_chunks == total_chunks => State::Completed,
                _ => State::Running,
            };
            let error = if state == State::Failed { failed.or_else(|| dataset.error.clone()) } else { None };
            let completed_chunks = if is_planned { completed_chunks } else { 0 };
            let results = Results { dataset_id: id, space_id, state, error, completed_chunks, total_chunks, rows: None };
            if state != State::Completed {
                return Ok(results);
            }
            let pieces: Vec<Piece> = chunks(space_id).flatten().filter_map(|chunk| Piece::of(chunk, dataset)).collect();
            (results, pieces, dataset.clone())
        };
        let rows = self.rows(&dataset, pieces, self.config.rows_max).await?;
        Ok(Results { rows: Some(rows), ..results })
    }

    /// Reads only what is to be shown, and the windows that the range cuts.
    async fn rows(&self, dataset: &Dataset, pieces: Vec<Piece>, rows_max: usize) -> Result<Rows, OccupancyError> {
        let mut rows = Rows::default();
        let (mut wanted, mut ahead) = (Vec::new(), 0);
        for piece in pieces {
            if ahead >= rows_max as u64 && piece.is_inner {
                rows.total += piece.rows;
                continue;
            }
            ahead += if piece.is_inner { piece.rows } else { 0 };
            wanted.push(piece.key);
        }
        let reads = wanted.into_iter().map(|key| async move { bins::read(&self.store, &key.object()).await });
        let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some(bins) = reads.try_next().await? {
            let own: Vec<Bin> = bins.into_iter().filter(|(begin, _)| dataset.has_bin(*begin)).collect();
            rows.total += own.len() as u64;
            let room = rows_max.saturating_sub(rows.rows.len());
            rows.rows.extend(own.into_iter().take(room));
        }
        Ok(rows)
    }

    /// Completes a dataset whose chunks are all there: says how many rows the root has, and where they lie.
    pub(super) async fn finish(&self, id: u64) -> Result<(), OccupancyError> {
        let Some(dataset) = self.book.read().datasets.get(&id).filter(|d| d.state == State::Running).cloned() else { return Ok(()) };
        if !self.is_complete(id) {
            return Ok(());
        }
        if self.sessions.is_live() {
            self.look_at_reused(&dataset).await?;
        }
        self.describe(id).await
    }

    /// Says of a dataset whose root is complete, and which is so by that, how many rows the root has, and what they are like.
    pub(super) async fn describe(&self, id: u64) -> Result<(), OccupancyError> {
        let (dataset, pieces) = {
            let shelf = self.book.read();
            let Some(dataset) = shelf.datasets.get(&id).filter(|d| matches!(d.state, State::Running | State::Completed)) else {
                return Ok(());
            };
            let chunks = dataset.windows().filter_map(|window| chunk_of(&shelf.chunks, dataset, dataset.root_space_id, window));
            (dataset.clone(), chunks.filter_map(|chunk| Piece::of(chunk, dataset)).collect())
        };
        let Rows { rows, total } = self.rows(&dataset, pieces, usize::MAX).await?;
        let path = self.path(&folder(dataset.root_space_id, dataset.interval_seconds));
        let stats = column_stats(&rows);
        let describe = move |draft: &mut super::Draft<'_>| {
            let dataset = draft.dataset(id)?.clone();
            let mut root = dataset.windows().filter_map(|window| draft.chunk(&dataset.chunk_of(dataset.root_space_id, window)));
            if !matches!(dataset.state, State::Running | State::Completed) || !root.all(Chunk::is_completed) {
                return Ok(());
            }
            let completed_at = dataset.completed_at.or(Some(draft.now));
            let (row_count, storage_path) = (Some(total), Some(path));
            draft.put_dataset(Dataset { state: State::Completed, row_count, column_stats: stats, storage_path, completed_at, ..dataset });
            Ok(())
        };
        self.book.change(now(), describe).await
    }

    /// The full path or URL of an object or folder.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.store.name().trim_end_matches('/'))
    }
}

fn chunk_of<'a>(
    chunks: &'a BTreeMap<ChunkKey, Chunk>,
    dataset: &Dataset,
    space_id: SpaceId,
    window: (Micros, Micros),
) -> Option<&'a Chunk> {
    chunks.get(&dataset.chunk_of(space_id, window))
}

impl Piece {
    fn of(chunk: &Chunk, dataset: &Dataset) -> Option<Self> {
        let is_inner = dataset.has_bin(chunk.key.start) && dataset.has_bin(chunk.key.end - chunk.key.width());
        (chunk.rows > 0).then_some(Self { key: chunk.key, rows: chunk.rows, is_inner })
    }
}

/// What the columns of the root's rows are like; nothing without rows.
fn column_stats(rows: &[Bin]) -> Option<Value> {
    let ((first, _), (last, _)) = (rows.first()?, rows.last()?);
    let count = rows.len() as f64;
    let mean = rows.iter().map(|(_, number)| *number as f64).sum::<f64>() / count;
    let squares: f64 = rows.iter().map(|(_, number)| (*number as f64 - mean).powi(2)).sum();
    // Of a sample, as pandas has it: a single value has none.
    let std = (rows.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    Some(json!({
        "interval_begin_time": {"dtype": "datetime64[us]", "null_count": 0, "min": plain_time(*first), "max": plain_time(*last)},
        "number_connections": {
            "dtype": "int64",
            "null_count": 0,
            "min": rows.iter().map(|(_, number)| number).min(),
            "max": rows.iter().map(|(_, number)| number).max(),
            "mean": mean,
            "std": std,
        },
    }))
}

/// A time in UTC without its zone, as bins are printed.
pub fn plain_time(time: Micros) -> String {
    DateTime::from_timestamp_micros(time).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::HOUR;

    #[test]
    fn columns_are_described_as_pandas_would() {
        let stats = column_stats(&[(0, 1), (HOUR, 3)]).expect("rows");
        assert_eq!(
            stats["number_connections"],
            json!({"dtype": "int64", "null_count": 0, "min": 1, "max": 3, "mean": 2.0, "std": 2f64.sqrt()})
        );
        assert_eq!(stats["interval_begin_time"]["max"], "1970-01-01T01:00:00");
        assert_eq!(column_stats(&[(0, 1)]).expect("a row")["number_connections"]["std"], Value::Null);
        assert_eq!(column_stats(&[]), None);
    }
}
