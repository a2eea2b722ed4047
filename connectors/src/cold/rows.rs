//! What kinds of rows cold parts have ([`ColdRow`]), and the row of a sealed click session with its columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use desireline_records::{EventId, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use parquet::basic::Encoding;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

/// A kind of rows that parts are written of. What a part, a merge and a reader do is the same for all kinds.
pub trait ColdRow: Clone + Send + Sync + 'static {
    /// The folder of its parts.
    const FOLDER: &'static str;
    const GROUP_ROWS: usize;
    const PAGE_ROWS: usize;
    /// Two equal lists of rows are two parts, not one under one name: numbers that add up.
    const EVERY_PART_COUNTS: bool = false;
    /// The order of rows within and across parts.
    type Key<'a>: Ord;
    /// Which rows a reader wants.
    type Filter: RowFilter;

    fn sort_key(&self) -> Self::Key<'_>;
    /// What a part's entry bounds: a key hash, or something of the same order as the rows.
    fn hash(&self) -> u64;
    /// Earliest and latest time of the row.
    fn times(&self) -> (Micros, Micros);
    /// Rows of different groups do not share a row group.
    fn group(&self) -> u32 {
        0
    }
    /// Whether these neighbours may lie in different parts of one merge.
    fn parts_between(&self, next: &Self) -> bool;
    fn schema() -> SchemaRef;
    /// Encodings, statistics and sorting of its columns.
    fn properties(builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder;
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError>;
    /// The rows of a batch that a filter lets through. The batch has the columns of the schema.
    fn from_batch(batch: &RecordBatch, filter: &Self::Filter) -> Vec<Self>;
}

/// What a reader wants of a kind of rows.
pub trait RowFilter: Clone + Send + Sync + 'static {
    fn hashes(&self) -> &Hashes;
}

/// A set of key hashes.
#[derive(Clone, Debug)]
pub enum Hashes {
    All,
    Range(RangeInclusive<u64>),
    /// Ascending.
    Some(Arc<[u64]>),
}

impl Hashes {
    pub fn has(&self, hash: u64) -> bool {
        self.meets(hash, hash)
    }

    /// Whether one of them lies in a range, ends included.
    pub fn meets(&self, min: u64, max: u64) -> bool {
        match self {
            Self::All => true,
            Self::Range(range) => min <= *range.end() && max >= *range.start(),
            Self::Some(hashes) => hashes.get(hashes.partition_point(|hash| *hash < min)).is_some_and(|hash| *hash <= max),
        }
    }
}

impl RowFilter for Hashes {
    fn hashes(&self) -> &Hashes {
        self
    }
}

/// Times as they stand in parts.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn time_column(times: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// A schema without optional columns.
pub fn schema_of<const N: usize>(columns: [(&str, DataType); N]) -> SchemaRef {
    Arc::new(Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, false)).to_vec()))
}

/// Whether a batch has the columns of a kind of rows.
pub fn has_columns_of<R: ColdRow>(batch: &RecordBatch) -> Result<(), String> {
    let schema = R::schema();
    let same = batch.num_columns() == schema.fields().len()
        && batch.schema().fields().iter().zip(schema.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if same { Ok(()) } else { Err(format!("its columns are {:?}", batch.schema().fields())) }
}

/// A session that can no longer change.
#[derive(Clone, Debug, PartialEq)]
pub struct ColdSession {
    pub source: SourceId,
    /// [`desireline_records::user_hash`] of source and user.
    pub key_hash: u64,
    pub user: EcoString,
    pub start: Micros,
    pub end: Micros,
    pub first_event: EventId,
    pub event_count: u32,
    pub views: u32,
    pub carts: u32,
    pub transactions: u32,
    /// Ten-thousandths; at most 38 digits.
    pub value: i128,
    /// The time at which it was read from the views.
    pub exported_at: LogicalTime,
}

pub const KEY_HASH: &str = "key_hash";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema_of([
        ("source_id", DataType::UInt32),
        (KEY_HASH, DataType::UInt64),
        ("user", DataType::Utf8),
        ("start", time_type()),
        ("end", time_type()),
        ("first_event_id", DataType::FixedSizeBinary(16)),
        ("event_count", DataType::UInt32),
        ("views", DataType::UInt32),
        ("carts", DataType::UInt32),
        ("transactions", DataType::UInt32),
        ("value", DataType::Decimal128(38, 4)),
        ("exported_at", DataType::UInt64),
    ])
});

impl ColdRow for ColdSession {
    const FOLDER: &'static str = "sessions";
    const GROUP_ROWS: usize = 16_384;
    const PAGE_ROWS: usize = 1_024;
    type Key<'a> = (u64, &'a str, Micros, EventId);
    type Filter = Hashes;

    fn sort_key(&self) -> Self::Key<'_> {
        (self.key_hash, &self.user, self.start, self.first_event)
    }

    fn hash(&self) -> u64 {
        self.key_hash
    }

    fn times(&self) -> (Micros, Micros) {
        (self.start, self.end)
    }

    fn parts_between(&self, next: &Self) -> bool {
        self.key_hash != next.key_hash
    }

    fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    fn properties(mut builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(KEY_HASH), EnabledStatistics::Page);
        builder = builder.set_sorting_columns(Some([1, 2, 3].map(ascending).to_vec()));
        // Values that hardly repeat gain nothing from a dictionary, and a point read would have to fetch it.
        for column in [KEY_HASH, "user", "start", "end", "first_event_id", "value"] {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
        }
        for column in [KEY_HASH, "start", "end"] {
            builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        builder
    }

    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        let numbers = |number: fn(&Self) -> u32| Arc::new(UInt32Array::from_iter_values(rows.iter().map(number))) as ArrayRef;
        let ids: Vec<u8> = rows.iter().flat_map(|row| row.first_event.to_bytes()).collect();
        let values = Decimal128Array::from_iter_values(rows.iter().map(|row| row.value)).with_precision_and_scale(38, 4)?;
        let columns: Vec<ArrayRef> = vec![
            numbers(|row| row.source),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.key_hash))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.user.as_str()))),
            time_column(rows.iter().map(|row| row.start)),
            time_column(rows.iter().map(|row| row.end)),
            Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(ids), None)?),
            numbers(|row| row.event_count),
            numbers(|row| row.views),
            numbers(|row| row.carts),
            numbers(|row| row.transactions),
            Arc::new(values),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.exported_at))),
        ];
        RecordBatch::try_new(Self::schema(), columns)
    }

    fn from_batch(batch: &RecordBatch, filter: &Hashes) -> Vec<Self> {
        let column = |index: usize| batch.column(index);
        let numbers = |index: usize| column(index).as_primitive::<UInt32Type>();
        let times = |index: usize| column(index).as_primitive::<TimestampMicrosecondType>();
        let (hashes, users) = (column(1).as_primitive::<UInt64Type>(), column(2).as_string::<i32>());
        let (ids, values) = (column(5).as_fixed_size_binary(), column(10).as_primitive::<Decimal128Type>());
        let exported = column(11).as_primitive::<UInt64Type>();
        let mut found = Vec::new();
        for row in (0..batch.num_rows()).filter(|row| filter.has(hashes.value(*row))) {
            let mut id = [0; 16];
            id.copy_from_slice(ids.value(row));
            found.push(Self {
                source: numbers(0).value(row),
                key_hash: hashes.value(row),
                user: users.value(row).into(),
                start: times(3).value(row),
                end: times(4).value(row),
                first_event: EventId::from_bytes(id),
                event_count: numbers(6).value(row),
                views: numbers(7).value(row),
                carts: numbers(8).value(row),
                transactions: numbers(9).value(row),
                value: values.value(row),
                exported_at: exported.value(row),
            });
        }
        found
    }
}

/// A column by which rows are sorted.
pub fn ascending(column: i32) -> SortingColumn {
    SortingColumn { column_idx: column, descending: false, nulls_first: false }
}
