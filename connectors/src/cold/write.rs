//! Writing cold parts.

use super::rows::{ColdRow, ColdSession};
use super::{ColdError, FOLDER, PART_ROWS_MAX};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use desireline_records::{ColdPart, Micros, SourceId};
use ecow::{EcoString, eco_format};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Rows that are turned into columns together.
const CHUNK_ROWS: usize = 16_384;
const PUT_ATTEMPTS_MAX: u32 = 8;
/// Tells parts with the same rows apart.
const PART_KEY: &str = "desireline.part";

/// Builds one part in memory; rows must come sorted.
struct PartWriter<R> {
    writer: ArrowWriter<Vec<u8>>,
    pending: Vec<R>,
    rows: u64,
    group: u32,
    hashes: (u64, u64),
    times: (Micros, Micros),
}

fn encode_error(error: impl std::fmt::Display) -> ColdError {
    ColdError::Encode(error.to_string())
}

impl<R: ColdRow> PartWriter<R> {
    fn new() -> Result<Self, ColdError> {
        let mut properties = WriterProperties::builder()
            .set_created_by("desireline".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encode_error)?))
            .set_max_row_group_row_count(Some(R::GROUP_ROWS))
            .set_data_page_row_count_limit(R::PAGE_ROWS)
            .set_write_batch_size(R::PAGE_ROWS)
            .set_statistics_enabled(EnabledStatistics::Chunk);
        if R::EVERY_PART_COUNTS {
            let own = KeyValue::new(PART_KEY.to_owned(), format!("{:032x}", rand::random::<u128>()));
            properties = properties.set_key_value_metadata(Some(vec![own]));
        }
        let properties = R::properties(properties).build();
        let writer = ArrowWriter::try_new(Vec::new(), R::schema(), Some(properties)).map_err(encode_error)?;
        let (hashes, times) = ((u64::MAX, 0), (Micros::MAX, Micros::MIN));
        Ok(Self { writer, pending: Vec::new(), rows: 0, group: 0, hashes, times })
    }

    fn push(&mut self, row: R) -> Result<(), ColdError> {
        if row.group() != self.group {
            self.flush()?;
            self.writer.flush().map_err(encode_error)?;
            self.group = row.group();
        }
        let ((hash, (start, end)), rows) = ((row.hash(), row.times()), self.rows + 1);
        self.rows = rows;
        self.hashes = (self.hashes.0.min(hash), self.hashes.1.max(hash));
        self.times = (self.times.0.min(start), self.times.1.max(end));
        self.pending.push(row);
        if self.pending.len() >= CHUNK_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ColdError> {
        if !self.pending.is_empty() {
            let batch = R::to_batch(&self.pending).map_err(encode_error)?;
            self.writer.write(&batch).map_err(encode_error)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// The part's bytes, and its entry once it is stored.
    fn finish(mut self, source: SourceId) -> Result<(ColdPart, Bytes), ColdError> {
        if self.rows == 0 {
            return Err(ColdError::Empty);
        }
        self.flush()?;
        let bytes = Bytes::from(self.writer.into_inner().map_err(encode_error)?);
        let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
        let part = ColdPart {
            name: name::<R>(source, hash),
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

fn name<R: ColdRow>(source: SourceId, hash: u128) -> EcoString {
    eco_format!("{FOLDER}/{}/{source}/{hash:032x}.parquet", R::FOLDER)
}

/// Writes one part. The rows may come in any order; there must be at least one.
pub async fn write_part(store: &Store, source: SourceId, mut rows: Vec<ColdSession>) -> Result<ColdPart, ColdError> {
    let encode = move || {
        sort(&mut rows);
        let mut writer = PartWriter::new()?;
        rows.into_iter().try_for_each(|row| writer.push(row))?;
        writer.finish(source)
    };
    let (part, bytes) = blocking(encode).await?;
    put(store, &part, bytes).await?;
    Ok(part)
}

pub fn sort<R: ColdRow>(rows: &mut [R]) {
    rows.sort_unstable_by(|a, b| a.sort_key().cmp(&b.sort_key()));
}

/// Writes sorted rows as they come: parts of at most [`PART_ROWS_MAX`] rows, and then the rest of what must not be parted.
pub struct PartsWriter<R> {
    store: Store,
    source: SourceId,
    rows_max: u64,
    /// Absent while a part is being encoded elsewhere, and before the first row.
    part: Option<PartWriter<R>>,
    pending: Vec<R>,
    last: Option<R>,
    written: Vec<ColdPart>,
}

impl<R: ColdRow> PartsWriter<R> {
    pub fn new(store: &Store, source: SourceId) -> Self {
        Self::of_parts(store, source, PART_ROWS_MAX)
    }

    pub fn of_parts(store: &Store, source: SourceId, rows_max: usize) -> Self {
        let (store, rows_max) = (store.clone(), rows_max as u64);
        Self { store, source, rows_max, part: None, pending: Vec::new(), last: None, written: Vec::new() }
    }

    pub async fn push(&mut self, row: R) -> Result<(), ColdError> {
        let rows = self.part.as_ref().map_or(0, |part| part.rows) + self.pending.len() as u64;
        if rows >= self.rows_max && self.pending.last().or(self.last.as_ref()).is_none_or(|last| last.parts_between(&row)) {
            self.close().await?;
        }
        self.pending.push(row);
        if self.pending.len() >= CHUNK_ROWS {
            self.encode().await?;
        }
        Ok(())
    }

    /// The parts; none without a row.
    pub async fn finish(mut self) -> Result<Vec<ColdPart>, ColdError> {
        self.close().await?;
        Ok(self.written)
    }

    async fn encode(&mut self) -> Result<(), ColdError> {
        self.last = self.pending.last().cloned();
        let (part, rows) = (self.part.take(), std::mem::take(&mut self.pending));
        let encoded = blocking(move || {
            let mut part = part.map_or_else(PartWriter::new, Ok)?;
            rows.into_iter().try_for_each(|row| part.push(row))?;
            Ok(part)
        });
        self.part = Some(encoded.await?);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ColdError> {
        if !self.pending.is_empty() {
            self.encode().await?;
        }
        let (Some(full), source) = (self.part.take(), self.source) else { return Ok(()) };
        let (part, bytes) = blocking(move || full.finish(source)).await?;
        put(&self.store, &part, bytes).await?;
        self.written.push(part);
        Ok(())
    }
}

/// Stores a part under the name of its content; that it is there already is as good.
async fn put(store: &Store, part: &ColdPart, bytes: Bytes) -> Result<(), ColdError> {
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
