//! Tables of any columns as single Parquet objects: what a query gave, for whoever works on it next.
//!
//! [`write()`] takes batches as they come, [`read`] gives them back, [`Scan`] gives them one by one.
//!
//! What it promises:
//! - An object is there whole or not at all: it is uploaded in pieces and becomes visible, in the place of an older one, at its end. An
//!   error or a dropped future leaves the older one.
//! - Memory is flat: a row group of at most [`GROUP_ROWS`] rows or [`GROUP_BYTES`], 8 MiB on their way to the store, and the counts of
//!   the columns' values (`stats`).
//! - The same batches give the same bytes.
//!
//! # Format
//! Parquet with zstd, and the Arrow schema in its footer. A table may have no rows; it has columns.
//!
//! # Known limitations
//! - An upload that a crash cut off leaves pieces in a remote store; its rules for unfinished uploads remove them.

mod distinct;
mod stats;

pub use distinct::distinct;
pub use stats::Statistics;

use crate::footer::{self, external};
use crate::store::{Store, StoreError, Upload};
use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use futures::{FutureExt, pin_mut};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Map, Value};
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Rows of a row group.
pub const GROUP_ROWS: usize = 131_072;
/// Bytes of a row group, encoded, after which it is closed.
pub const GROUP_BYTES: usize = 32 << 20;
/// Rows of a batch that is read.
pub const BATCH_ROWS: usize = 8_192;

#[derive(Debug, Error)]
pub enum TableError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{object} is not what was written there: {detail}")]
    Damaged { object: String, detail: String },
    #[error("{object} has no column `{column}`; it has {available}")]
    NoColumn { object: String, column: String, available: String },
    #[error("the rows cannot be written as Parquet: {0}")]
    Encode(String),
    #[error("the table gets larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
}

impl TableError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged { .. } => "table_damaged",
            Self::NoColumn { .. } => "no_column",
            Self::Encode(_) => "table_encode",
            Self::TooLarge { .. } => "table_too_large",
        }
    }

    /// Whether the same may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

/// Why a table was not written: it could not be, or its rows ended with an error.
#[derive(Debug, Error)]
pub enum WriteError<E> {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("{0}")]
    Rows(E),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Of the object.
    pub bytes_max: u64,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self { bytes_max: 100 << 30 }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct TableFacts {
    pub rows: u64,
    pub bytes: u64,
    /// By column; see [`Statistics`].
    pub column_stats: Value,
}

/// Turns batches into bytes, and counts.
struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    statistics: Vec<Statistics>,
    rows: u64,
}

fn encode(error: impl std::fmt::Display) -> TableError {
    TableError::Encode(error.to_string())
}

impl Encoder {
    fn new(schema: SchemaRef) -> Result<Self, TableError> {
        let properties = WriterProperties::builder()
            .set_created_by("desireline".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(encode)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(encode)?;
        let statistics = schema.fields().iter().map(|field| Statistics::new(field.data_type())).collect();
        Ok(Self { writer, schema, statistics, rows: 0 })
    }

    /// Gives the bytes that are ready.
    fn push(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, TableError> {
        self.rows += batch.num_rows() as u64;
        for (statistics, column) in self.statistics.iter_mut().zip(batch.columns()) {
            statistics.add(column);
        }
        self.writer.write(batch).map_err(encode)?;
        if self.writer.in_progress_size() > GROUP_BYTES {
            self.writer.flush().map_err(encode)?;
        }
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn finish(mut self) -> Result<(Vec<u8>, u64, Value), TableError> {
        self.writer.finish().map_err(encode)?;
        let rest = std::mem::take(self.writer.inner_mut());
        let columns = self.schema.fields().iter().zip(&self.statistics);
        let stats: Map<String, Value> = columns.map(|(field, statistics)| (field.name().clone(), statistics.to_json())).collect();
        Ok((rest, self.rows, Value::Object(stats)))
    }
}

/// Encoding takes milliseconds, which no other task shall wait for.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, TableError> + Send + 'static) -> Result<T, TableError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(encode(error)))
}

/// Writes a table, over an older one of its name.
pub async fn write<E>(
    store: &Store,
    object: &str,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, E>>,
    limits: TableLimits,
) -> Result<TableFacts, WriteError<E>> {
    let mut upload = store.upload(object);
    match fill(&mut upload, schema, batches, limits).await {
        Ok((rows, column_stats)) => {
            let bytes = upload.finish().await.map_err(TableError::from)?;
            Ok(TableFacts { rows, bytes, column_stats })
        }
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

async fn fill<E>(
    upload: &mut Upload,
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, E>>,
    limits: TableLimits,
) -> Result<(u64, Value), WriteError<E>> {
    pin_mut!(batches);
    let mut encoder = Encoder::new(schema)?;
    let mut bytes = 0_u64;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(WriteError::Rows)?;
        let (back, ready) = aside(move || {
            let ready = encoder.push(&batch)?;
            Ok((encoder, ready))
        })
        .await?;
        encoder = back;
        send(upload, &ready, &mut bytes, limits).await?;
    }
    let (rest, rows, column_stats) = aside(move || encoder.finish()).await?;
    send(upload, &rest, &mut bytes, limits).await?;
    Ok((rows, column_stats))
}

async fn send(upload: &mut Upload, ready: &[u8], bytes: &mut u64, limits: TableLimits) -> Result<(), TableError> {
    *bytes += ready.len() as u64;
    if *bytes > limits.bytes_max {
        return Err(TableError::TooLarge { bytes_max: limits.bytes_max });
    }
    if ready.is_empty() { Ok(()) } else { Ok(upload.write(ready).await?) }
}

#[derive(Clone)]
struct ObjectBytes {
    store: Store,
    object: String,
    bytes: u64,
}

impl ObjectBytes {
    /// A failure of the store stays what it is; anything else is damage.
    fn error(&self, error: ParquetError) -> TableError {
        let inner = match error {
            ParquetError::External(inner) => inner,
            other => return self.damaged(&other),
        };
        // Once more around it, when it comes out of a stream.
        match inner.downcast::<StoreError>() {
            Ok(error) => TableError::Store(*error),
            Err(inner) => match inner.downcast::<ArrowError>() {
                Ok(error) => self.damaged(&*error),
                Err(other) => self.damaged(&*other),
            },
        }
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> TableError {
        TableError::Damaged { object: self.object.clone(), detail: error.to_string() }
    }
}

impl AsyncFileReader for ObjectBytes {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let bytes = self.store.get_range(&self.object, range.clone()).await.map_err(external)?;
            if bytes.len() as u64 != range.end - range.start {
                return Err(ParquetError::EOF(format!("it ends before byte {}", range.end)));
            }
            Ok(bytes)
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

/// A table that can be read.
pub struct Scan {
    bytes: ObjectBytes,
    metadata: ArrowReaderMetadata,
}

impl Scan {
    pub async fn open(store: &Store, object: &str) -> Result<Self, TableError> {
        let bytes = store.info(object).await?.bytes;
        let mut bytes = ObjectBytes { store: store.clone(), object: object.to_owned(), bytes };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = ArrowReaderMetadata::load_async(&mut bytes, options).await.map_err(|error| bytes.error(error))?;
        Ok(Self { bytes, metadata })
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or_default()
    }

    /// The batches in their order, with all columns or with these, in the order of the table.
    pub fn batches(
        &self,
        columns: Option<&[String]>,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, TableError>>), TableError> {
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone());
        let mut schema = self.schema().clone();
        if let Some(columns) = columns {
            let mut wanted = columns.iter().map(|column| self.position(column)).collect::<Result<Vec<_>, _>>()?;
            wanted.sort_unstable();
            wanted.dedup();
            let found = schema.project(&wanted).map_err(|error| self.bytes.damaged(&error))?;
            let mask = ProjectionMask::roots(self.metadata.metadata().file_metadata().schema_descr(), wanted);
            (schema, builder) = (Arc::new(found), builder.with_projection(mask));
        }
        let bytes = self.bytes.clone();
        let stream = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| bytes.error(error))?;
        Ok((schema, stream.map_err(move |error| bytes.error(error)).boxed()))
    }

    fn position(&self, column: &str) -> Result<usize, TableError> {
        let fields = self.schema().fields();
        fields.iter().position(|field| field.name() == column).ok_or_else(|| {
            let available = fields.iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
            TableError::NoColumn { object: self.bytes.object.clone(), column: column.to_owned(), available }
        })
    }
}

/// A whole table, or these columns of it, in the order of the table.
pub async fn read(store: &Store, object: &str, columns: Option<&[String]>) -> Result<(SchemaRef, Vec<RecordBatch>), TableError> {
    let (schema, batches) = Scan::open(store, object).await?.batches(columns)?;
    Ok((schema, batches.try_collect().await?))
}
