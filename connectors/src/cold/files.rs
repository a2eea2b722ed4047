//! Opening cold parts: footers, cached, and byte ranges of the store as Parquet wants them.

use super::ColdError;
use crate::footer::{self, external};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use desireline_records::ColdPart;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};

/// Bytes of footers kept in memory by this process, at most.
const FOOTER_BYTES_MAX: usize = 32 << 20;

/// The least recently used footers leave first. Keys are (store, object): a content hash names one content, but stores differ.
#[derive(Default)]
struct Footers {
    entries: HashMap<(String, String), (ArrowReaderMetadata, usize, u64)>,
    bytes: usize,
    clock: u64,
}

static FOOTERS: LazyLock<Mutex<Footers>> = LazyLock::new(Mutex::default);

impl Footers {
    fn get(&mut self, key: &(String, String)) -> Option<ArrowReaderMetadata> {
        self.clock += 1;
        let clock = self.clock;
        self.entries.get_mut(key).map(|(metadata, _, used)| {
            *used = clock;
            metadata.clone()
        })
    }

    fn insert(&mut self, key: (String, String), metadata: ArrowReaderMetadata) {
        let bytes = metadata.metadata().memory_size();
        while self.bytes + bytes > FOOTER_BYTES_MAX
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, (_, _, used))| *used).map(|(key, _)| key.clone())
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |(_, bytes, _)| bytes);
        }
        self.clock += 1;
        self.bytes += bytes;
        if let Some((_, replaced, _)) = self.entries.insert(key, (metadata, bytes, self.clock)) {
            self.bytes -= replaced;
        }
    }
}

/// A part as Parquet's reader sees it.
#[derive(Clone)]
pub struct PartFile {
    store: Store,
    name: String,
    bytes: u64,
    block_sums: Arc<[u32]>,
}

impl PartFile {
    pub fn of(store: &Store, part: &ColdPart) -> Self {
        let block_sums = part.block_sums.clone();
        Self { store: store.clone(), name: part.name.to_string(), bytes: part.bytes, block_sums }
    }

    /// The footer with the page index, from memory if possible.
    pub async fn metadata(&mut self) -> Result<ArrowReaderMetadata, ColdError> {
        let key = (self.store.name().to_owned(), self.name.clone());
        let cached = FOOTERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&key);
        if let Some(metadata) = cached {
            return Ok(metadata);
        }
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let loaded = ArrowReaderMetadata::load_async(self, options).await.map_err(|error| self.error(error))?;
        FOOTERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key, loaded.clone());
        Ok(loaded)
    }

    /// A failure of the store stays what it is; anything else is damage.
    pub fn error(&self, error: ParquetError) -> ColdError {
        match error {
            ParquetError::External(inner) => match inner.downcast::<StoreError>() {
                Ok(error) => ColdError::Store(*error),
                Err(other) => self.damaged(other.to_string()),
            },
            other => self.damaged(other.to_string()),
        }
    }

    /// The whole blocks around a range: only they can be checked.
    fn blocks_around(&self, range: &Range<u64>) -> Range<u64> {
        let block = ColdPart::BLOCK_BYTES;
        range.start / block * block..range.end.div_ceil(block).saturating_mul(block).min(self.bytes).max(range.end)
    }

    /// Checks the blocks that were read, and gives the range that was wanted of them.
    fn checked(&self, wanted: &Range<u64>, read: &Range<u64>, bytes: &Bytes) -> parquet::errors::Result<Bytes> {
        if bytes.len() as u64 != read.end - read.start {
            return Err(ParquetError::EOF(format!("{} bytes instead of {} from byte {}", bytes.len(), read.end - read.start, read.start)));
        }
        let first = read.start / ColdPart::BLOCK_BYTES;
        for (block, content) in (first..).zip(bytes.chunks(ColdPart::BLOCK_BYTES as usize)) {
            let sum = usize::try_from(block).ok().and_then(|block| self.block_sums.get(block));
            if sum != Some(&crc32c::crc32c(content)) {
                let at = block * ColdPart::BLOCK_BYTES;
                return Err(ParquetError::General(format!("the checksum of bytes {at}..{} does not match", at + content.len() as u64)));
            }
        }
        let from = (wanted.start - read.start) as usize;
        Ok(bytes.slice(from..from + (wanted.end - wanted.start) as usize))
    }

    pub fn damaged(&self, detail: String) -> ColdError {
        ColdError::Damaged { object: self.name.clone(), detail }
    }
}

impl AsyncFileReader for PartFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let read = self.blocks_around(&range);
            let bytes = self.store.get_range(&self.name, read.clone()).await.map_err(external)?;
            self.checked(&range, &read, &bytes)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            let reads: Vec<Range<u64>> = ranges.iter().map(|range| self.blocks_around(range)).collect();
            let read = self.store.get_ranges(&self.name, &reads).await.map_err(external)?;
            ranges.iter().zip(&reads).zip(&read).map(|((range, read), bytes)| self.checked(range, read, bytes)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let bytes = self.bytes;
        footer::read(self, bytes, options).boxed()
    }
}
