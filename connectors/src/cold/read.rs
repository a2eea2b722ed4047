//! Reading and merging cold parts.

use super::ColdError;
use super::files::PartFile;
use super::rows::{ColdRow, ColdSession, Hashes, KEY_HASH, RowFilter, has_columns_of};
use super::write::{PartsWriter, sort};
use crate::store::Store;
use desireline_records::{ColdPart, LogicalTime, SourceId};
use ecow::EcoString;
use futures::StreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::Range;

/// Rows decoded together.
const BATCH_ROWS: usize = 4_096;

/// The sealed sessions of one user that were exported after `exported_after`, by start.
pub async fn read_user(
    store: &Store,
    parts: &[ColdPart],
    source: SourceId,
    key_hash: u64,
    user: &str,
    exported_after: LogicalTime,
) -> Result<Vec<ColdSession>, ColdError> {
    let mut found = Vec::new();
    let holds_hash = |part: &&ColdPart| (part.hash_min..=part.hash_max).contains(&key_hash);
    for part in parts.iter().filter(holds_hash).collect::<Vec<_>>() {
        let Some(mut rows) = PartRows::<ColdSession>::open(store, part, Hashes::Range(key_hash..=key_hash)).await? else { continue };
        while let Some(row) = rows.next().await? {
            if row.source == source && row.user == user && row.exported_at > exported_after {
                found.push(row);
            }
        }
    }
    sort(&mut found);
    Ok(found)
}

/// Rows with key hashes in `hash_from..=hash_to`, sorted: at least the first `limit` of them, and then the rest of the last
/// key hash, so that a listing goes on with the next hash.
pub async fn read_range(
    store: &Store,
    parts: &[ColdPart],
    hash_from: u64,
    hash_to: u64,
    limit: usize,
) -> Result<Vec<ColdSession>, ColdError> {
    let mut merge = Merge::<ColdSession>::open(store, parts, Hashes::Range(hash_from..=hash_to)).await?;
    let mut found: Vec<ColdSession> = Vec::new();
    while let Some(row) = merge.next().await? {
        if found.len() >= limit && found.last().is_none_or(|last| last.key_hash != row.key_hash) {
            break;
        }
        found.push(row);
    }
    Ok(found)
}

/// Replaces parts of a source by fewer ones with the same rows, without those of the users in `drop_users` (key hash, user,
/// exported up to this time). No part comes back when no row is left; several with disjoint key hashes when there are many.
pub async fn merge_parts(
    store: &Store,
    source: SourceId,
    parts: &[ColdPart],
    drop_users: Option<&[(u64, EcoString, LogicalTime)]>,
) -> Result<Vec<ColdPart>, ColdError> {
    let dropped = Dropped::of(drop_users.unwrap_or_default());
    let mut merge = Merge::<ColdSession>::open(store, parts, Hashes::All).await?;
    let mut writer = PartsWriter::new(store, source);
    while let Some(row) = merge.next().await? {
        if !dropped.has(row.key_hash, &row.user, row.exported_at) {
            writer.push(row).await?;
        }
    }
    writer.finish().await
}

/// Users whose rows leave, if they were exported up to a time.
pub struct Dropped<'a>(HashMap<(u64, &'a str), LogicalTime>);

impl<'a> Dropped<'a> {
    pub fn of(users: &'a [(u64, EcoString, LogicalTime)]) -> Self {
        let mut dropped: HashMap<(u64, &str), LogicalTime> = HashMap::new();
        for (hash, user, until) in users {
            let entry = dropped.entry((*hash, user.as_str())).or_insert(*until);
            *entry = (*entry).max(*until);
        }
        Self(dropped)
    }

    pub fn has(&self, hash: u64, user: &str, exported_at: LogicalTime) -> bool {
        self.0.get(&(hash, user)).is_some_and(|until| exported_at <= *until)
    }
}

/// The rows of one part that a filter lets through, in order.
pub struct PartRows<R: ColdRow> {
    file: PartFile,
    stream: ParquetRecordBatchStream<PartFile>,
    filter: R::Filter,
    ready: VecDeque<R>,
}

impl<R: ColdRow> PartRows<R> {
    /// `None` when statistics say that there are no such rows.
    pub async fn open(store: &Store, part: &ColdPart, filter: R::Filter) -> Result<Option<Self>, ColdError> {
        let mut file = PartFile::of(store, part);
        let metadata = file.metadata().await?;
        let selected = match filter.hashes() {
            Hashes::All => None,
            hashes => Some(select(&metadata, hashes).map_err(|detail| file.damaged(detail))?),
        };
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata).with_batch_size(BATCH_ROWS);
        if let Some((groups, selection)) = selected {
            if groups.is_empty() {
                return Ok(None);
            }
            builder = builder.with_row_groups(groups).with_row_selection(selection);
        }
        let stream = builder.build().map_err(|error| file.error(error))?;
        Ok(Some(Self { file, stream, filter, ready: VecDeque::new() }))
    }

    pub async fn next(&mut self) -> Result<Option<R>, ColdError> {
        while self.ready.is_empty() {
            let Some(batch) = self.stream.next().await else { return Ok(None) };
            let batch = batch.map_err(|error| self.file.error(error))?;
            has_columns_of::<R>(&batch).map_err(|detail| self.file.damaged(detail))?;
            self.ready = R::from_batch(&batch, &self.filter).into();
        }
        Ok(self.ready.pop_front())
    }
}

/// The row groups, and the pages within them, whose key hashes may lie in the range.
fn select(metadata: &ArrowReaderMetadata, hashes: &Hashes) -> Result<(Vec<usize>, RowSelection), String> {
    let metadata = metadata.metadata();
    let schema = metadata.file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| column.name() == KEY_HASH).ok_or("it has no column `key_hash`")?;
    let mut groups = Vec::new();
    let mut selectors = Vec::new();
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let pages = metadata.column_index().and_then(|all| all.get(index)?.get(column));
        let places = metadata.offset_index().and_then(|all| all.get(index)?.get(column));
        let (Some(ColumnIndexMetaData::INT64(pages)), Some(places)) = (pages, places) else {
            return Err("it has no page index".to_owned());
        };
        let starts: Vec<i64> = places.page_locations().iter().map(|place| place.first_row_index).collect();
        let rows = group.num_rows();
        let mut wanted: Vec<Range<usize>> = Vec::new();
        for (page, start) in starts.iter().enumerate() {
            let end = starts.get(page + 1).copied().unwrap_or(rows);
            // Parquet stores unsigned numbers in signed ones of the same bits.
            let (Some(min), Some(max)) = (pages.min_value(page), pages.max_value(page)) else {
                return Err("its page index has no bounds".to_owned());
            };
            if hashes.meets(*min as u64, *max as u64) {
                wanted.push(*start as usize..end as usize);
            }
        }
        if !wanted.is_empty() {
            groups.push(index);
            let mut at = 0;
            for range in wanted {
                selectors.push(RowSelector::skip(range.start - at));
                selectors.push(RowSelector::select(range.len()));
                at = range.end;
            }
            selectors.push(RowSelector::skip(rows as usize - at));
        }
    }
    Ok((groups, RowSelection::from(selectors)))
}

/// Several parts as one sorted sequence.
pub struct Merge<R: ColdRow> {
    parts: Vec<PartRows<R>>,
    heads: BinaryHeap<Reverse<Head<R>>>,
}

/// The next row of a part.
struct Head<R>(R, usize);

impl<R: ColdRow> Ord for Head<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.sort_key().cmp(&other.0.sort_key()).then(self.1.cmp(&other.1))
    }
}
impl<R: ColdRow> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R: ColdRow> PartialEq for Head<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<R: ColdRow> Eq for Head<R> {}

impl<R: ColdRow> Merge<R> {
    pub async fn open<'a>(store: &Store, parts: impl IntoIterator<Item = &'a ColdPart>, filter: R::Filter) -> Result<Self, ColdError> {
        let mut merge = Self { parts: Vec::new(), heads: BinaryHeap::new() };
        let met: Vec<&ColdPart> = parts.into_iter().filter(|part| filter.hashes().meets(part.hash_min, part.hash_max)).collect();
        for part in met {
            let Some(mut rows) = PartRows::open(store, part, filter.clone()).await? else { continue };
            if let Some(first) = rows.next().await? {
                merge.heads.push(Reverse(Head(first, merge.parts.len())));
                merge.parts.push(rows);
            }
        }
        Ok(merge)
    }

    pub async fn next(&mut self) -> Result<Option<R>, ColdError> {
        let Some(Reverse(Head(row, part))) = self.heads.pop() else { return Ok(None) };
        if let Some(following) = self.parts[part].next().await? {
            self.heads.push(Reverse(Head(following, part)));
        }
        Ok(Some(row))
    }
}
