//! Parquet objects of bins: what one space counted in one window of time.
//!
//! Two columns, without nulls, in the order of the first: `interval_begin_time` (microseconds, without a zone: UTC is meant, and pandas reads
//! a plain `datetime64`) and `number_connections` (64 bits). An object is replaced whole, so a reader sees its old content or its new one.
//! The same bins always give the same bytes.
//!
//! Known limitations: an object is held in memory whole, some bytes per bin; ten years of quarters of an hour are 350,640 bins.

use crate::store::{Store, StoreError};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use desireline_records::Micros;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

/// A bin's begin, and what was counted in it.
pub type Bin = (Micros, i64);

#[derive(Debug, Error)]
pub enum BinsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{object} is not what was written there: {detail}")]
    Damaged { object: String, detail: String },
    #[error("the bins cannot be written as Parquet: {0}")]
    Encode(String),
}

impl BinsError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged { .. } => "bins_damaged",
            Self::Encode(_) => "bins_encode",
        }
    }

    /// Whether the same may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

/// Tells contents apart.
pub fn fingerprint(bins: &[Bin]) -> u64 {
    let mut hash = Xxh3::new();
    for (begin, count) in bins {
        hash.update(&begin.to_le_bytes());
        hash.update(&count.to_le_bytes());
    }
    hash.digest()
}

fn schema() -> SchemaRef {
    let time = Field::new("interval_begin_time", DataType::Timestamp(TimeUnit::Microsecond, None), false);
    Arc::new(Schema::new(vec![time, Field::new("number_connections", DataType::Int64, false)]))
}

/// The bytes of an object.
pub fn encode(bins: &[Bin]) -> Result<Bytes, BinsError> {
    let failed = |error: &dyn std::fmt::Display| BinsError::Encode(error.to_string());
    let properties = WriterProperties::builder()
        .set_created_by("desireline".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(|e| failed(&e))?))
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .build();
    let times = TimestampMicrosecondArray::from_iter_values(bins.iter().map(|(begin, _)| *begin));
    let counts = Int64Array::from_iter_values(bins.iter().map(|(_, count)| *count));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(times), Arc::new(counts)]).map_err(|e| failed(&e))?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).map_err(|e| failed(&e))?;
    writer.write(&batch).map_err(|e| failed(&e))?;
    Ok(writer.into_inner().map_err(|e| failed(&e))?.into())
}

/// The bins of an object; `object` is its name, for errors.
pub fn decode(object: &str, bytes: Bytes) -> Result<Vec<Bin>, BinsError> {
    let damaged = |detail: String| BinsError::Damaged { object: object.to_owned(), detail };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| damaged(e.to_string()))?;
    let is_ours = |found: &Schema| {
        let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
        found.fields().len() == 2 && found.fields().iter().zip(schema().fields()).all(same)
    };
    if !is_ours(reader.schema()) {
        return Err(damaged(format!("its columns are {:?}", reader.schema().fields())));
    }
    let mut bins = Vec::new();
    for batch in reader.build().map_err(|e| damaged(e.to_string()))? {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        let (times, counts) = (batch.column(0).as_primitive::<TimestampMicrosecondType>(), batch.column(1).as_primitive::<Int64Type>());
        if times.null_count() + counts.null_count() > 0 {
            return Err(damaged("it has nulls".to_owned()));
        }
        bins.extend(times.values().iter().copied().zip(counts.values().iter().copied()));
    }
    Ok(bins)
}

/// Writes an object, over an older one of its name.
pub async fn write(store: &Store, object: &str, bins: &[Bin]) -> Result<(), BinsError> {
    store.replace(object, encode(bins)?).await?;
    Ok(())
}

pub async fn read(store: &Store, object: &str) -> Result<Vec<Bin>, BinsError> {
    decode(object, store.get(object).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::HOUR;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn what_was_written_is_read_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).unwrap();
        for bins in [vec![(HOUR, 3), (2 * HOUR, i64::MAX)], Vec::new(), (0..100_000).map(|at| (at * HOUR, at)).collect()] {
            write(&store, "a/b.parquet", &bins).await.unwrap();
            assert_eq!(read(&store, "a/b.parquet").await.unwrap(), bins);
        }
        assert_eq!(read(&store, "a/c.parquet").await.unwrap_err().code(), "store_not_found");
    }

    #[test]
    fn the_same_bins_are_the_same_bytes_and_others_are_not() {
        let bins = [(0, 1), (HOUR, 2)];
        assert_eq!(encode(&bins).unwrap(), encode(&bins).unwrap());
        assert_eq!(fingerprint(&bins), fingerprint(&bins));
        assert_ne!(fingerprint(&bins), fingerprint(&[(0, 2), (HOUR, 1)]));
        assert_ne!(fingerprint(&bins), fingerprint(&bins[..1]));
    }

    #[test]
    fn damage_is_named() {
        let bytes = encode(&[(0, 1)]).unwrap();
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let error = decode("o", bytes.slice(..cut)).unwrap_err();
            assert!(error.code() == "bins_damaged" && error.to_string().starts_with("o "), "{error}");
        }
    }
}
