//! Writing cold parts.

use super::rows::{ColdSession, KEY_HASH, SCHEMA, to_batch};
use super::{ColdError, FOLDER};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use desireline_records::{ColdPart, Micros, SourceId};
use ecow::{EcoString, eco_format};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

const GROUP_ROWS: usize = 16_384;
const PAGE_ROWS: usize = 1_024;
/// Rows that are turned into columns together.
const CHUNK_ROWS: usize = GROUP_ROWS;
const PUT_ATTEMPTS_MAX: u32 = 8;

/// Builds one part in memory; rows must come sorted.
pub struct PartWriter {
    writer: ArrowWriter<Vec<u8>>,
    pending: Vec<ColdSession>,
    rows: u64,
    hashes: (u64, u64),
    times: (Micros, Micros),
}

fn encode_error(error: impl std::fmt::Display) -> ColdError {
    ColdError::Encode(error.to_string())
}

impl PartWriter {
    pub fn new() -> Result<Self, ColdError> {
        let sorting = |index| SortingColumn { column_idx: index, descending: false, nulls_first: false };
        let mut properties = WriterProperties::builder()
            .set_created_by("desireline".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encode_error)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_statistics_enabled(ColumnPath::from(KEY_HASH), EnabledStatistics::Page)
            .set_sorting_columns(Some(vec![sorting(1), sorting(2), sorting(3)]));
        // Values that hardly repeat gain nothing from a dictionary, and a point read would have to fetch it.
        for column in [KEY_HASH, "user", "start", "end", "first_event_id", "value"] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
        }
        for column in [KEY_HASH, "start", "end"] {
            properties = properties.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
        }
        let writer = ArrowWriter::try_new(Vec::new(), SCHEMA.clone(), Some(properties.build())).map_err(encode_error)?;
        let (hashes, times) = ((u64::MAX, 0), (Micros::MAX, Micros::MIN));
        Ok(Self { writer, pending: Vec::new(), rows: 0, hashes, times })
    }

    pub fn push(&mut self, row: ColdSession) -> Result<(), ColdError> {
        self.rows += 1;
        self.hashes = (self.hashes.0.min(row.key_hash), self.hashes.1.max(row.key_hash));
        self.times = (self.times.0.min(row.start), self.times.1.max(row.end));
        self.pending.push(row);
        if self.pending.len() >= CHUNK_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn flush(&mut self) -> Result<(), ColdError> {
        if !self.pending.is_empty() {
            let batch = to_batch(&self.pending).map_err(encode_error)?;
            self.writer.write(&batch).map_err(encode_error)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// The part's bytes, and its entry once it is stored.
    pub fn finish(mut self, source: SourceId) -> Result<(ColdPart, Bytes), ColdError> {
        if self.rows == 0 {
            return Err(ColdError::Empty);
        }
        self.flush()?;
        let bytes = Bytes::from(self.writer.into_inner().map_err(encode_error)?);
        let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
        let part = ColdPart {
            name: name(source, hash),
            rows: self.rows,
            bytes: bytes.len() as u64,
            hash_min: self.hashes.0,
            hash_max: self.hashes.1,
            time_min: self.times.0,
            time_max: self.times.1,
            block_sums: bytes.chunks(ColdPart::BLOCK_BYTES as usize).map(crc32c::crc32c).collect(),
        };
        Ok((part, bytes))
    }
}

/// Whether an object's content is what its name says.
pub fn is_named_by(name: &str, bytes: &[u8]) -> bool {
    name.ends_with(&format!("/{:032x}.parquet", xxhash_rust::xxh3::xxh3_128(bytes)))
}

fn name(source: SourceId, hash: u128) -> EcoString {
    eco_format!("{FOLDER}/sessions/{source}/{hash:032x}.parquet")
}

/// Writes one part. The rows may come in any order; there must be at least one.
pub async fn write_part(store: &Store, source: SourceId, mut rows: Vec<ColdSession>) -> Result<ColdPart, ColdError> {
    let encode = move || {
        rows.sort_unstable_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        let mut writer = PartWriter::new()?;
        rows.into_iter().try_for_each(|row| writer.push(row))?;
        writer.finish(source)
    };
    let (part, bytes) = blocking(encode).await?;
    put(store, &part, bytes).await?;
    Ok(part)
}

/// Stores a part under the name of its content; that it is there already is as good.
pub async fn put(store: &Store, part: &ColdPart, bytes: Bytes) -> Result<(), ColdError> {
    let mut attempt = 1;
    loop {
        match store.put_if_absent(&part.name, vec![bytes.clone()]).await {
            Ok(_) => return Ok(()),
            Err(error @ StoreError::Unavailable { .. }) if attempt < PUT_ATTEMPTS_MAX => {
                tracing::warn!(object = part.name.as_str(), %error, attempt, "a cold part could not be written; trying again");
                store.pause(attempt).await;
            }
            Err(error) => return Err(error.into()),
        }
        attempt += 1;
    }
}

/// CPU work away from the runtime's threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ColdError> + Send + 'static) -> Result<T, ColdError> {
    tokio::task::spawn_blocking(work).await.map_err(encode_error)?
}
