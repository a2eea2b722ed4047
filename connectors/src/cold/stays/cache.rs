//! Reading cells, by row groups that are decoded once and kept as narrow columns.

use super::super::ColdError;
use super::super::files::PartFile;
use super::super::rows::has_columns_of;
use super::cells::{COUNT, ColdCell, MEASURE, MICROS, OTHER, RANDOMIZED, SPACE, TIME, space_order};
use super::numbers::Numbers;
use crate::store::Store;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use desireline_records::{Cell, CellKey, ColdPart, Measure, Micros, SpaceId};
use ecow::EcoString;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex};

/// Row groups that are fetched and decoded at once by one reader.
const READS_AT_ONCE: usize = 8;
/// Sums are added up in a table of all times when it has at most this many places; otherwise in a tree of those that are met.
const TABLE_MAX: i64 = 1 << 20;

/// A row group: cells of one measure, in order of (space, time, other).
#[derive(Debug)]
struct Block {
    /// The rows of each space.
    spaces: Vec<(SpaceId, Range<u32>)>,
    /// `time = base + unit * times[row]`.
    base: Micros,
    unit: Micros,
    times: Numbers,
    other: Numbers,
    count: Numbers,
    randomized: Numbers,
    micros: Numbers,
}

impl Block {
    fn of(batches: &[RecordBatch], unit: Micros) -> Self {
        let numbers = |index: usize| {
            let column = |batch: &RecordBatch| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
            Numbers::of(batches.iter().flat_map(column).collect())
        };
        let ids = |index: usize| batches.iter().flat_map(move |batch| batch.column(index).as_primitive::<Int32Type>().values().to_vec());
        let time = |batch: &RecordBatch| batch.column(TIME).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let times: Vec<Micros> = batches.iter().flat_map(time).collect();
        let base = times.iter().copied().min().unwrap_or(0);
        let unit = if times.iter().all(|time| (time - base) % unit == 0) { unit } else { 1 };
        let mut spaces: Vec<(SpaceId, Range<u32>)> = Vec::new();
        for (row, space) in (0..).zip(ids(SPACE)) {
            match spaces.last_mut() {
                Some((last, rows)) if *last == space => rows.end = row + 1,
                _ => spaces.push((space, row..row + 1)),
            }
        }
        Self {
            spaces,
            base,
            unit,
            times: Numbers::of(times.into_iter().map(|time| (time - base) / unit).collect()),
            other: Numbers::of(ids(OTHER).map(i64::from).collect()),
            count: numbers(COUNT),
            randomized: numbers(RANDOMIZED),
            micros: numbers(MICROS),
        }
    }

    fn bytes(&self) -> usize {
        let columns = [&self.times, &self.other, &self.count, &self.randomized, &self.micros];
        columns.iter().map(|column| column.bytes()).sum::<usize>()
            + self.spaces.len() * size_of::<(SpaceId, Range<u32>)>()
            + size_of::<Self>()
    }

    fn time(&self, row: usize) -> Micros {
        self.base + self.unit * self.times.at(row)
    }

    fn cell(&self, row: usize) -> Cell {
        Cell { count: self.count.at(row), randomized: self.randomized.at(row), micros: self.micros.at(row) }
    }

    /// The rows of a space with times in `[from, to)`.
    fn rows(&self, space: &Range<u32>, from: Micros, to: Micros) -> Range<usize> {
        let (start, end) = (space.start as usize, space.end as usize);
        let first_at = |time: Micros| {
            let (mut low, mut high) = (start, end);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.time(middle) < time { low = middle + 1 } else { high = middle }
            }
            low
        };
        let first = first_at(from);
        first..first_at(to).max(first)
    }

    /// The rows of spaces that are wanted; of all, if none is named.
    fn wanted<'a>(&'a self, spaces: &'a BTreeSet<SpaceId>) -> impl Iterator<Item = &'a (SpaceId, Range<u32>)> {
        self.spaces.iter().filter(|(space, _)| spaces.is_empty() || spaces.contains(space))
    }
}

type BlockKey = (EcoString, usize);

/// The least recently used blocks leave first.
#[derive(Default)]
struct Blocks {
    entries: HashMap<BlockKey, (Arc<Block>, usize, u64)>,
    /// By last use.
    order: BTreeMap<u64, BlockKey>,
    bytes: usize,
    clock: u64,
    hits: u64,
    misses: u64,
}

impl Blocks {
    fn get(&mut self, key: &BlockKey) -> Option<Arc<Block>> {
        self.clock += 1;
        let Some((block, _, used)) = self.entries.get_mut(key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.order.remove(used);
        *used = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(block.clone())
    }

    fn insert(&mut self, key: BlockKey, block: Arc<Block>, bytes_max: usize) {
        let bytes = block.bytes();
        if bytes > bytes_max {
            return;
        }
        self.clock += 1;
        if let Some((_, replaced, used)) = self.entries.insert(key.clone(), (block, bytes, self.clock)) {
            self.bytes -= replaced;
            self.order.remove(&used);
        }
        self.order.insert(self.clock, key);
        self.bytes += bytes;
        while self.bytes > bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |(_, bytes, _)| bytes);
        }
    }
}

/// What a cache holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellCacheStats {
    pub bytes: usize,
    pub bytes_max: usize,
    pub blocks: usize,
    pub hits: u64,
    pub misses: u64,
}

/// Sealed cells that readers have met, up to a number of bytes. Of the parts of one store.
pub struct CellCache {
    blocks: Mutex<Blocks>,
    bytes_max: usize,
}

/// Which cells.
struct Wanted<'a> {
    measure: Measure,
    /// All, if empty.
    spaces: &'a BTreeSet<SpaceId>,
    from: Micros,
    to: Micros,
}

impl Wanted<'_> {
    fn meets_times(&self, times: &RangeInclusive<Micros>) -> bool {
        *times.start() < self.to && *times.end() >= self.from
    }

    fn meets_part(&self, part: &ColdPart) -> bool {
        let has = |(first, last): (SpaceId, SpaceId)| space_order(first) <= part.hash_max && space_order(last) >= part.hash_min;
        let ends = self.spaces.first().copied().zip(self.spaces.last().copied());
        self.meets_times(&(part.time_min..=part.time_max)) && ends.is_none_or(has)
    }

    fn meets_group(&self, group: &RowGroupMetaData) -> Result<bool, String> {
        let measures = bounds(group, MEASURE)?;
        if !measures.contains(&i64::from(self.measure.code())) {
            return Ok(false);
        }
        if measures.start() != measures.end() {
            return Err("a row group has cells of several measures".to_owned());
        }
        let spaces = bounds(group, SPACE)?;
        let spaces = *spaces.start() as SpaceId..=*spaces.end() as SpaceId;
        let in_space = self.spaces.is_empty() || self.spaces.range(spaces).next().is_some();
        Ok(in_space && self.meets_times(&bounds(group, TIME)?))
    }
}

/// The least and the greatest number in a column of a row group.
fn bounds(group: &RowGroupMetaData, column: usize) -> Result<RangeInclusive<i64>, String> {
    let bounds = match group.columns().get(column).and_then(|column| column.statistics()) {
        Some(Statistics::Int32(of)) => of.min_opt().copied().map(i64::from).zip(of.max_opt().copied().map(i64::from)),
        Some(Statistics::Int64(of)) => of.min_opt().copied().zip(of.max_opt().copied()),
        _ => None,
    };
    bounds.map(|(min, max)| min..=max).ok_or_else(|| "a row group has no bounds".to_owned())
}

impl CellCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { blocks: Mutex::default(), bytes_max }
    }

    /// The cells of a measure in some spaces (in all, if none is named) with times in `[from, to)`, added up over parts, in order of
    /// (space, time, other); those that add up to nothing are left out.
    pub async fn read_cells(
        &self,
        store: &Store,
        parts: &[ColdPart],
        measure: Measure,
        spaces: &BTreeSet<SpaceId>,
        from: Micros,
        to: Micros,
    ) -> Result<Vec<(CellKey, Cell)>, ColdError> {
        let wanted = Wanted { measure, spaces, from, to };
        let blocks = self.blocks(store, parts, &wanted).await?;
        let mut by_space: BTreeMap<SpaceId, Vec<(&Block, Range<usize>)>> = BTreeMap::new();
        for block in &blocks {
            for (space, rows) in block.wanted(spaces) {
                let rows = block.rows(rows, from, to);
                if !rows.is_empty() {
                    by_space.entry(*space).or_default().push((block, rows));
                }
            }
        }
        let rows = by_space.values().flatten().map(|(_, rows)| rows.len()).sum();
        let mut found = Vec::with_capacity(rows);
        for (space, mut pieces) in by_space {
            // Parts mostly follow one another in time.
            pieces.sort_by_key(|(block, rows)| block.time(rows.start));
            let first = found.len();
            for (block, rows) in pieces {
                let key = |row| CellKey { space, measure, time: block.time(row), other: block.other.at(row) as i32 };
                found.extend(rows.map(|row| (key(row), block.cell(row))));
            }
            add_up_from(&mut found, first);
        }
        Ok(found)
    }

    /// For each group of spaces the sum of a measure over them, by time in `[from, to)`, ascending; what adds up to nothing is left out.
    pub async fn read_sums(
        &self,
        store: &Store,
        parts: &[ColdPart],
        measure: Measure,
        groups: &[BTreeSet<SpaceId>],
        from: Micros,
        to: Micros,
    ) -> Result<Vec<Vec<(Micros, Cell)>>, ColdError> {
        let spaces: BTreeSet<SpaceId> = groups.iter().flatten().copied().collect();
        if spaces.is_empty() {
            return Ok(vec![Vec::new(); groups.len()]);
        }
        let wanted = Wanted { measure, spaces: &spaces, from, to };
        let blocks = self.blocks(store, parts, &wanted).await?;
        let width = measure.width();
        let first = parts.iter().map(|part| part.time_min).min().unwrap_or(0).max(from).div_euclid(width);
        let last = parts.iter().map(|part| part.time_max).max().unwrap_or(0).min(to).div_euclid(width);
        let mut table = vec![Cell::ZERO; if last - first < TABLE_MAX { (last - first + 1).max(0) as usize } else { 0 }];
        let mut sums = Vec::with_capacity(groups.len());
        for group in groups.iter() {
            let mut tree: BTreeMap<Micros, Cell> = BTreeMap::new();
            for block in blocks.iter().filter(|_| !group.is_empty()) {
                for (_, rows) in block.wanted(group) {
                    for row in block.rows(rows, from, to) {
                        let (time, cell) = (block.time(row), block.cell(row));
                        let place = if time % width == 0 { table.get_mut((time.div_euclid(width) - first) as usize) } else { None };
                        place.unwrap_or_else(|| tree.entry(time).or_default()).add(cell);
                    }
                }
            }
            let of_table = table.iter_mut().enumerate().map(|(at, cell)| ((first + at as i64) * width, std::mem::take(cell)));
            let mut sum: Vec<(Micros, Cell)> = of_table.chain(tree).filter(|(_, cell)| !cell.is_zero()).collect();
            sum.sort_unstable_by_key(|(time, _)| *time);
            sums.push(sum);
        }
        Ok(sums)
    }

    pub fn stats(&self) -> CellCacheStats {
        let blocks = self.lock();
        let (bytes, bytes_max) = (blocks.bytes, self.bytes_max);
        CellCacheStats { bytes, bytes_max, blocks: blocks.entries.len(), hits: blocks.hits, misses: blocks.misses }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The row groups that may hold what is wanted.
    async fn blocks(&self, store: &Store, parts: &[ColdPart], wanted: &Wanted<'_>) -> Result<Vec<Arc<Block>>, ColdError> {
        let files: Vec<(EcoString, PartFile)> =
            parts.iter().filter(|part| wanted.meets_part(part)).map(|part| (part.name.clone(), PartFile::of(store, part))).collect();
        let opened = futures::stream::iter(files).map(|(name, mut file)| async move {
            let metadata = file.metadata().await?;
            Ok::<_, ColdError>((name, file, metadata))
        });
        let opened: Vec<_> = opened.buffered(READS_AT_ONCE).try_collect().await?;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for (name, file, metadata) in opened {
            for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
                if !wanted.meets_group(group).map_err(|detail| file.damaged(detail))? {
                    continue;
                }
                match self.lock().get(&(name.clone(), index)) {
                    Some(block) => found.push(block),
                    None => missing.push(((name.clone(), index), file.clone(), metadata.clone())),
                }
            }
        }
        let unit = wanted.measure.width();
        let read = missing.into_iter().map(|(key, file, metadata)| async move {
            let group = key.1;
            let decoded = tokio::spawn(async move { decode(file, metadata, group, unit).await }).await;
            let block = Arc::new(decoded.map_err(|error| ColdError::Encode(error.to_string()))??);
            self.lock().insert(key, block.clone(), self.bytes_max);
            Ok::<_, ColdError>(block)
        });
        let read: Vec<Arc<Block>> = futures::stream::iter(read).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        found.extend(read);
        Ok(found)
    }
}

async fn decode(file: PartFile, metadata: ArrowReaderMetadata, group: usize, unit: Micros) -> Result<Block, ColdError> {
    let rows = metadata.metadata().row_group(group).num_rows();
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(file.clone(), metadata)
        .with_row_groups(vec![group])
        .with_batch_size(rows.clamp(1, 1 << 20) as usize)
        .build()
        .map_err(|error| file.error(error))?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|error| file.error(error))?;
    batches.iter().try_for_each(has_columns_of::<ColdCell>).map_err(|detail| file.damaged(detail))?;
    Ok(Block::of(&batches, unit))
}

/// Puts the cells from a position on in order, one per key, without those that are zero.
fn add_up_from(cells: &mut Vec<(CellKey, Cell)>, first: usize) {
    let tail = &mut cells[first..];
    if !tail.is_sorted_by(|a, b| a.0 < b.0) {
        tail.sort_by_key(|(key, _)| *key);
    }
    let mut kept = first;
    for at in first..cells.len() {
        if kept > first && cells[kept - 1].0 == cells[at].0 {
            let cell = cells[at].1;
            cells[kept - 1].1.add(cell);
        } else {
            if kept > first && cells[kept - 1].1.is_zero() {
                kept -= 1;
            }
            cells[kept] = cells[at];
            kept += 1;
        }
    }
    if kept > first && cells[kept - 1].1.is_zero() {
        kept -= 1;
    }
    cells.truncate(kept);
}
