//! Parts of cells: rows, columns, writing and merging.

use super::super::ColdError;
use super::super::read::Merge;
use super::super::rows::{ColdRow, Hashes, ascending, schema_of, time_column, time_type};
use super::super::write::PartsWriter;
use crate::store::Store;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use desireline_records::{Cell, CellKey, ColdPart, Micros, SourceId, SpaceId};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::sync::{Arc, LazyLock};

/// Columns of a part of cells, by position.
pub const MEASURE: usize = 0;
pub const SPACE: usize = 1;
pub const TIME: usize = 2;
pub const OTHER: usize = 3;
pub const COUNT: usize = 4;
pub const RANDOMIZED: usize = 5;
pub const MICROS: usize = 6;

/// A row of a part of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdCell {
    /// [`Measure::code`].
    measure: u32,
    space: SpaceId,
    time: Micros,
    other: i32,
    cell: Cell,
}

/// Numbers of spaces as what bounds a part: in the same order, and never negative.
pub fn space_order(space: SpaceId) -> u64 {
    u64::from(space as u32 ^ 1 << 31)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema_of([
        ("measure", DataType::UInt32),
        ("space", DataType::Int32),
        ("time", time_type()),
        ("other", DataType::Int32),
        ("count", DataType::Int64),
        ("randomized", DataType::Int64),
        ("micros", DataType::Int64),
    ])
});

impl ColdRow for ColdCell {
    const FOLDER: &'static str = "cells";
    const GROUP_ROWS: usize = 65_536;
    const PAGE_ROWS: usize = 16_384;
    const EVERY_PART_COUNTS: bool = true;
    type Key<'a> = (u32, SpaceId, Micros, i32);
    type Filter = Hashes;

    fn sort_key(&self) -> Self::Key<'_> {
        (self.measure, self.space, self.time, self.other)
    }

    fn hash(&self) -> u64 {
        space_order(self.space)
    }

    fn times(&self) -> (Micros, Micros) {
        (self.time, self.time)
    }

    fn group(&self) -> u32 {
        self.measure
    }

    fn parts_between(&self, _: &Self) -> bool {
        true
    }

    fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    fn properties(mut builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        builder = builder.set_column_statistics_enabled(ColumnPath::from("space"), EnabledStatistics::Page);
        builder = builder.set_sorting_columns(Some([0, 1, 2, 3].map(ascending).to_vec()));
        builder = builder.set_column_dictionary_enabled(ColumnPath::from("time"), false);
        builder.set_column_encoding(ColumnPath::from("time"), Encoding::DELTA_BINARY_PACKED)
    }

    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        let numbers = |number: fn(&Self) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(number))) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.measure))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.space))),
            time_column(rows.iter().map(|row| row.time)),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.other))),
            numbers(|row| row.cell.count),
            numbers(|row| row.cell.randomized),
            numbers(|row| row.cell.micros),
        ];
        RecordBatch::try_new(Self::schema(), columns)
    }

    fn from_batch(batch: &RecordBatch, _: &Hashes) -> Vec<Self> {
        let numbers = |index: usize| batch.column(index).as_primitive::<Int64Type>();
        let ids = |index: usize| batch.column(index).as_primitive::<Int32Type>();
        let measures = batch.column(MEASURE).as_primitive::<UInt32Type>();
        let times = batch.column(TIME).as_primitive::<TimestampMicrosecondType>();
        let (spaces, others) = (ids(SPACE), ids(OTHER));
        let (counts, randomized, micros) = (numbers(COUNT), numbers(RANDOMIZED), numbers(MICROS));
        let row = |row: usize| Self {
            measure: measures.value(row),
            space: spaces.value(row),
            time: times.value(row),
            other: others.value(row),
            cell: Cell { count: counts.value(row), randomized: randomized.value(row), micros: micros.value(row) },
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

impl ColdCell {
    fn of(key: CellKey, cell: Cell) -> Self {
        Self { measure: key.measure.code(), space: key.space, time: key.time, other: key.other, cell }
    }
}

/// Adds up neighbours of one key, and drops those that add up to nothing.
struct Sums {
    writer: PartsWriter<ColdCell>,
    sum: Option<ColdCell>,
}

impl Sums {
    fn new(store: &Store, source: SourceId) -> Self {
        Self { writer: PartsWriter::new(store, source), sum: None }
    }

    async fn push(&mut self, row: ColdCell) -> Result<(), ColdError> {
        match &mut self.sum {
            Some(sum) if sum.sort_key() == row.sort_key() => sum.cell.add(row.cell),
            sum => {
                if let Some(full) = sum.replace(row).filter(|sum| !sum.cell.is_zero()) {
                    self.writer.push(full).await?;
                }
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<ColdPart>, ColdError> {
        if let Some(last) = self.sum.take().filter(|sum| !sum.cell.is_zero()) {
            self.writer.push(last).await?;
        }
        self.writer.finish().await
    }
}

/// Writes differences of cells as parts; nothing when there are none but zeros. They may come in any order.
pub async fn write_cells(store: &Store, source: SourceId, cells: Vec<(CellKey, Cell)>) -> Result<Vec<ColdPart>, ColdError> {
    let mut rows: Vec<ColdCell> = cells.into_iter().map(|(key, cell)| ColdCell::of(key, cell)).collect();
    super::super::write::sort(&mut rows);
    let mut sums = Sums::new(store, source);
    for row in rows {
        sums.push(row).await?;
    }
    sums.finish().await
}

/// Replaces parts by fewer ones with the same sums. No part comes back when all add up to nothing.
pub async fn merge_cells(store: &Store, source: SourceId, parts: &[ColdPart]) -> Result<Vec<ColdPart>, ColdError> {
    let mut merge = Merge::<ColdCell>::open(store, parts, Hashes::All).await?;
    let mut sums = Sums::new(store, source);
    while let Some(row) = merge.next().await? {
        sums.push(row).await?;
    }
    sums.finish().await
}
