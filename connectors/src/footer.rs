//! The footer of a Parquet object, for whoever reads one from a store.

use crate::store::StoreError;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::sync::Arc;

/// Read from the end of an object first; larger footers take a second read.
const PREFETCH: usize = 64 << 10;

/// Reads the footer of an object of so many bytes.
pub async fn read(reader: &mut impl AsyncFileReader, bytes: u64, options: Option<&ArrowReaderOptions>) -> Result<Arc<ParquetMetaData>> {
    let footer = ParquetMetaDataReader::new().with_arrow_reader_options(options).with_prefetch_hint(Some(PREFETCH.min(bytes as usize)));
    Ok(Arc::new(footer.load_and_finish(reader, bytes).await?))
}

/// A failure of the store, on its way through Parquet's reader.
pub fn external(error: StoreError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
