//! The row of a cold part, and its columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use desireline_records::{EventId, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use std::sync::{Arc, LazyLock};

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

/// The order of rows within and across parts.
pub type SortKey<'a> = (u64, &'a str, Micros, EventId);

impl ColdSession {
    pub fn sort_key(&self) -> SortKey<'_> {
        (self.key_hash, &self.user, self.start, self.first_event)
    }
}

pub const KEY_HASH: &str = "key_hash";

pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("source_id", DataType::UInt32),
        (KEY_HASH, DataType::UInt64),
        ("user", DataType::Utf8),
        ("start", time()),
        ("end", time()),
        ("first_event_id", DataType::FixedSizeBinary(16)),
        ("event_count", DataType::UInt32),
        ("views", DataType::UInt32),
        ("carts", DataType::UInt32),
        ("transactions", DataType::UInt32),
        ("value", DataType::Decimal128(38, 4)),
        ("exported_at", DataType::UInt64),
    ];
    Arc::new(Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type, false)).to_vec()))
});

pub fn to_batch(rows: &[ColdSession]) -> Result<RecordBatch, ArrowError> {
    let numbers = |number: fn(&ColdSession) -> u32| Arc::new(UInt32Array::from_iter_values(rows.iter().map(number))) as ArrayRef;
    let times = |time: fn(&ColdSession) -> Micros| {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(time)).with_timezone("UTC")) as ArrayRef
    };
    let ids: Vec<u8> = rows.iter().flat_map(|row| row.first_event.to_bytes()).collect();
    let values = Decimal128Array::from_iter_values(rows.iter().map(|row| row.value)).with_precision_and_scale(38, 4)?;
    let columns: Vec<ArrayRef> = vec![
        numbers(|row| row.source),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.key_hash))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.user.as_str()))),
        times(|row| row.start),
        times(|row| row.end),
        Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(ids), None)?),
        numbers(|row| row.event_count),
        numbers(|row| row.views),
        numbers(|row| row.carts),
        numbers(|row| row.transactions),
        Arc::new(values),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.exported_at))),
    ];
    RecordBatch::try_new(SCHEMA.clone(), columns)
}

/// The rows of a batch that `wanted` (key hash, user) names.
pub fn from_batch(batch: &RecordBatch, wanted: impl Fn(u64, &str) -> bool) -> Result<Vec<ColdSession>, String> {
    let same = batch.num_columns() == SCHEMA.fields().len()
        && batch.schema().fields().iter().zip(SCHEMA.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if !same {
        return Err(format!("its columns are {:?}", batch.schema().fields()));
    }
    let column = |index: usize| batch.column(index);
    let numbers = |index: usize| column(index).as_primitive::<UInt32Type>();
    let times = |index: usize| column(index).as_primitive::<TimestampMicrosecondType>();
    let (hashes, users) = (column(1).as_primitive::<UInt64Type>(), column(2).as_string::<i32>());
    let (ids, values) = (column(5).as_fixed_size_binary(), column(10).as_primitive::<Decimal128Type>());
    let exported = column(11).as_primitive::<UInt64Type>();
    let mut found = Vec::new();
    for row in 0..batch.num_rows() {
        if !wanted(hashes.value(row), users.value(row)) {
            continue;
        }
        let mut id = [0; 16];
        id.copy_from_slice(ids.value(row));
        found.push(ColdSession {
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
    Ok(found)
}
