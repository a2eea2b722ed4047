//! The row of a part of sealed WiFi sessions, and its columns.

use super::super::rows::{ColdRow, Hashes, KEY_HASH, RowFilter, ascending, schema_of, time_column, time_type};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use desireline_records::{LogicalTime, Micros, SealedStay, SpaceId};
use ecow::EcoString;
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// A WiFi session outside of memory, as it was at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdStay {
    /// [`desireline_records::user_hash`] of source and device.
    pub key_hash: u64,
    pub device: EcoString,
    /// Of the device: its address was made up by it.
    pub randomized: bool,
    pub stay: SealedStay,
    /// The time at which it was read from the views.
    pub exported_at: LogicalTime,
}

impl ColdStay {
    /// Whether both are versions of one session.
    pub fn same_session(&self, other: &Self) -> bool {
        let identity = |of: &Self| (of.key_hash, of.stay.start, of.stay.space);
        identity(self) == identity(other) && self.device == other.device
    }

    pub fn same_device(&self, other: &Self) -> bool {
        self.key_hash == other.key_hash && self.device == other.device
    }
}

/// Which sessions a reader wants. All versions of a session fare alike.
#[derive(Clone)]
pub struct StayFilter {
    pub hashes: Hashes,
    /// All spaces, if absent.
    pub spaces: Option<Arc<BTreeSet<SpaceId>>>,
    pub start_before: Micros,
}

impl StayFilter {
    pub const ALL: Self = Self { hashes: Hashes::All, spaces: None, start_before: Micros::MAX };
}

impl RowFilter for StayFilter {
    fn hashes(&self) -> &Hashes {
        &self.hashes
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema_of([
        (KEY_HASH, DataType::UInt64),
        ("device", DataType::Utf8),
        ("randomized", DataType::Boolean),
        ("start", time_type()),
        ("end", time_type()),
        ("space", DataType::Int32),
        ("open", DataType::Boolean),
        ("deleted", DataType::Boolean),
        ("exported_at", DataType::UInt64),
    ])
});

impl ColdRow for ColdStay {
    const FOLDER: &'static str = "stays";
    const GROUP_ROWS: usize = 16_384;
    const PAGE_ROWS: usize = 1_024;
    /// Of the versions of a session the newest comes first.
    type Key<'a> = (u64, &'a str, Micros, SpaceId, Reverse<LogicalTime>);
    type Filter = StayFilter;

    fn sort_key(&self) -> Self::Key<'_> {
        (self.key_hash, &self.device, self.stay.start, self.stay.space, Reverse(self.exported_at))
    }

    fn hash(&self) -> u64 {
        self.key_hash
    }

    fn times(&self) -> (Micros, Micros) {
        (self.stay.start, self.stay.end)
    }

    fn parts_between(&self, next: &Self) -> bool {
        self.key_hash != next.key_hash
    }

    fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    fn properties(mut builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(KEY_HASH), EnabledStatistics::Page);
        builder = builder.set_sorting_columns(Some([0, 1, 3].map(ascending).to_vec()));
        for column in [KEY_HASH, "start", "end"] {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
            builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        builder
    }

    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
        let flags = |flag: fn(&Self) -> bool| Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(flag(row))))) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.key_hash))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.device.as_str()))),
            flags(|row| row.randomized),
            time_column(rows.iter().map(|row| row.stay.start)),
            time_column(rows.iter().map(|row| row.stay.end)),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.stay.space))),
            flags(|row| row.stay.open),
            flags(|row| row.stay.deleted),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.exported_at))),
        ];
        RecordBatch::try_new(Self::schema(), columns)
    }

    fn from_batch(batch: &RecordBatch, filter: &StayFilter) -> Vec<Self> {
        let flags = |index: usize| batch.column(index).as_boolean();
        let times = |index: usize| batch.column(index).as_primitive::<TimestampMicrosecondType>();
        let numbers = |index: usize| batch.column(index).as_primitive::<UInt64Type>();
        let (hashes, exported, spaces) = (numbers(0), numbers(8), batch.column(5).as_primitive::<Int32Type>());
        let (devices, starts, ends) = (batch.column(1).as_string::<i32>(), times(3), times(4));
        let (randomized, open, deleted) = (flags(2), flags(6), flags(7));
        let mut found = Vec::new();
        for row in 0..batch.num_rows() {
            let (hash, space, start) = (hashes.value(row), spaces.value(row), starts.value(row));
            let in_space = filter.spaces.as_ref().is_none_or(|wanted| wanted.contains(&space));
            if !in_space || start >= filter.start_before || !filter.hashes.has(hash) {
                continue;
            }
            found.push(Self {
                key_hash: hash,
                device: devices.value(row).into(),
                randomized: randomized.value(row),
                stay: SealedStay { start, end: ends.value(row), space, open: open.value(row), deleted: deleted.value(row) },
                exported_at: exported.value(row),
            });
        }
        found
    }
}
