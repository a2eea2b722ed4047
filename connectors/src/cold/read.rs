//! Reading and merging cold parts.

use super::files::PartFile;
use super::rows::{ColdSession, KEY_HASH, from_batch};
use super::write::{PartWriter, blocking, put};
use super::{ColdError, PART_ROWS_MAX};
use crate::store::Store;
use desireline_records::{ColdPart, LogicalTime, SourceId};
use ecow::EcoString;
use futures::StreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::{Range, RangeInclusive};

/// Rows decoded together.
const BATCH_ROWS: usize = 4_096;
/// Rows that a merge hands to the encoder together.
const ENCODE_ROWS: usize = 16_384;

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
    for part in parts.iter().filter(|part| (part.hash_min..=part.hash_max).contains(&key_hash)) {
        let Some(mut rows) = PartRows::open(store, part, key_hash..=key_hash).await? else { continue };
        while let Some(row) = rows.next().await? {
            if row.source == source && row.user == user && row.exported_at > exported_after {
                found.push(row);
            }
        }
    }
    found.sort_unstable_by(|a, b| a.sort_key().cmp(&b.sort_key()));
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
    let mut merge = Merge::open(store, parts, hash_from..=hash_to).await?;
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
    let mut dropped: HashMap<(u64, &str), LogicalTime> = HashMap::new();
    for (hash, user, until) in drop_users.unwrap_or_default() {
        let entry = dropped.entry((*hash, user.as_str())).or_insert(*until);
        *entry = (*entry).max(*until);
    }
    let drops = |row: &ColdSession| dropped.get(&(row.key_hash, row.user.as_str())).is_some_and(|until| row.exported_at <= *until);
    let mut merge = Merge::open(store, parts, 0..=u64::MAX).await?;
    let mut written = Vec::new();
    let mut writer = PartWriter::new()?;
    let mut pending: Vec<ColdSession> = Vec::with_capacity(ENCODE_ROWS);
    let mut last_hash = 0;
    while let Some(row) = merge.next().await? {
        if drops(&row) {
            continue;
        }
        let total = writer.rows() as usize + pending.len();
        if total >= PART_ROWS_MAX && row.key_hash != last_hash {
            writer = encode(writer, std::mem::take(&mut pending)).await?;
            let full = std::mem::replace(&mut writer, PartWriter::new()?);
            written.push(store_part(store, source, full).await?);
        }
        last_hash = row.key_hash;
        pending.push(row);
        if pending.len() >= ENCODE_ROWS {
            writer = encode(writer, std::mem::take(&mut pending)).await?;
        }
    }
    writer = encode(writer, pending).await?;
    if writer.rows() > 0 {
        written.push(store_part(store, source, writer).await?);
    }
    Ok(written)
}

async fn encode(mut writer: PartWriter, rows: Vec<ColdSession>) -> Result<PartWriter, ColdError> {
    blocking(move || {
        rows.into_iter().try_for_each(|row| writer.push(row))?;
        Ok(writer)
    })
    .await
}

async fn store_part(store: &Store, source: SourceId, writer: PartWriter) -> Result<ColdPart, ColdError> {
    let (part, bytes) = blocking(move || writer.finish(source)).await?;
    put(store, &part, bytes).await?;
    Ok(part)
}

/// The rows of one part within a range of key hashes, in order.
struct PartRows {
    file: PartFile,
    stream: ParquetRecordBatchStream<PartFile>,
    hashes: RangeInclusive<u64>,
    ready: VecDeque<ColdSession>,
}

impl PartRows {
    /// `None` when statistics say that there are no such rows.
    async fn open(store: &Store, part: &ColdPart, hashes: RangeInclusive<u64>) -> Result<Option<Self>, ColdError> {
        let mut file = PartFile::of(store, part);
        let metadata = file.metadata().await?;
        let (groups, selection) = select(&metadata, &hashes).map_err(|detail| file.damaged(detail))?;
        if groups.is_empty() {
            return Ok(None);
        }
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata)
            .with_row_groups(groups)
            .with_row_selection(selection)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| file.error(error))?;
        Ok(Some(Self { file, stream, hashes, ready: VecDeque::new() }))
    }

    async fn next(&mut self) -> Result<Option<ColdSession>, ColdError> {
        while self.ready.is_empty() {
            let Some(batch) = self.stream.next().await else { return Ok(None) };
            let batch = batch.map_err(|error| self.file.error(error))?;
            let hashes = &self.hashes;
            self.ready = from_batch(&batch, |hash, _| hashes.contains(&hash)).map_err(|detail| self.file.damaged(detail))?.into();
        }
        Ok(self.ready.pop_front())
    }
}

/// The row groups, and the pages within them, whose key hashes may lie in the range.
fn select(metadata: &ArrowReaderMetadata, hashes: &RangeInclusive<u64>) -> Result<(Vec<usize>, RowSelection), String> {
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
            if *min as u64 <= *hashes.end() && *max as u64 >= *hashes.start() {
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
struct Merge {
    parts: Vec<PartRows>,
    heads: BinaryHeap<Reverse<Head>>,
}

/// The next row of a part.
struct Head(ColdSession, usize);

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.sort_key().cmp(&other.0.sort_key()).then(self.1.cmp(&other.1))
    }
}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Head {}

impl Merge {
    async fn open(store: &Store, parts: &[ColdPart], hashes: RangeInclusive<u64>) -> Result<Self, ColdError> {
        let mut merge = Self { parts: Vec::new(), heads: BinaryHeap::new() };
        for part in parts.iter().filter(|part| part.hash_min <= *hashes.end() && part.hash_max >= *hashes.start()) {
            let Some(mut rows) = PartRows::open(store, part, hashes.clone()).await? else { continue };
            if let Some(first) = rows.next().await? {
                merge.heads.push(Reverse(Head(first, merge.parts.len())));
                merge.parts.push(rows);
            }
        }
        Ok(merge)
    }

    async fn next(&mut self) -> Result<Option<ColdSession>, ColdError> {
        let Some(Reverse(Head(row, part))) = self.heads.pop() else { return Ok(None) };
        if let Some(following) = self.parts[part].next().await? {
            self.heads.push(Reverse(Head(following, part)));
        }
        Ok(Some(row))
    }
}
