//! One file: reading it in the order of its rows, and writing one.

use super::columns;
use super::error::DatasetError;
use super::values::{Column, Key, Kind, Row, Table, Value};
use crate::footer::{self, external};
use crate::store::{Store, StoreError, Upload};
use arrow_array::RecordBatch;
use arrow_select::coalesce::BatchCoalescer;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, RowGroupMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of one step of reading, merging and encoding.
pub const CHUNK_ROWS: usize = 8_192;
/// Rows of a row group: what a reader and a writer hold of a file.
pub const GROUP_ROWS: usize = 8 * CHUNK_ROWS;

#[derive(Clone)]
struct FileBytes {
    store: Store,
    name: String,
    bytes: u64,
}

impl FileBytes {
    /// A failure of the store stays what it is; anything else is damage.
    fn error(&self, error: ParquetError) -> DatasetError {
        match error {
            ParquetError::External(inner) => match inner.downcast::<StoreError>() {
                Ok(error) => DatasetError::Store(*error),
                Err(other) => self.damaged(other.to_string()),
            },
            other => self.damaged(other.to_string()),
        }
    }

    fn damaged(&self, detail: String) -> DatasetError {
        DatasetError::Damaged { object: self.name.clone(), detail }
    }
}

impl AsyncFileReader for FileBytes {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let bytes = self.store.get_range(&self.name, range.clone()).await.map_err(external)?;
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

/// A file that can be read.
pub struct DatasetFile {
    bytes: FileBytes,
    table: &'static Table,
    metadata: ArrowReaderMetadata,
}

impl DatasetFile {
    pub async fn open(store: &Store, table: &'static Table, name: &str, bytes: u64) -> Result<Self, DatasetError> {
        let mut bytes = FileBytes { store: store.clone(), name: name.to_owned(), bytes };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = ArrowReaderMetadata::load_async(&mut bytes, options).await.map_err(|error| bytes.error(error))?;
        Ok(Self { bytes, table, metadata })
    }

    fn notes(&self) -> BTreeMap<String, String> {
        let notes = self.metadata.metadata().file_metadata().key_value_metadata();
        notes.into_iter().flatten().filter_map(|note| Some((note.key.clone(), note.value.clone()?))).collect()
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> Result<Chunks, DatasetError> {
        let groups = (0..self.metadata.metadata().num_row_groups()).collect();
        let stream = self.stream(groups, ProjectionMask::all())?;
        Ok(Chunks { table: self.table, bytes: self.bytes.clone(), stream })
    }

    fn stream(&self, groups: Vec<usize>, columns: ProjectionMask) -> Result<ParquetRecordBatchStream<FileBytes>, DatasetError> {
        ParquetRecordBatchStreamBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
            .with_row_groups(groups)
            .with_projection(columns)
            .with_batch_size(CHUNK_ROWS)
            .build()
            .map_err(|error| self.bytes.error(error))
    }

    /// Whether a row begins with one of the prefixes, which are sorted and equally long. Reads the columns of the prefixes, of the row
    /// groups that may have them.
    pub async fn has_any(&self, prefixes: &[Key]) -> Result<bool, DatasetError> {
        let columns = prefixes.first().map_or(0, |prefix| prefix.0.len());
        let groups = self.metadata.metadata().row_groups();
        let wanted = (0..groups.len()).filter(|at| prefixes.iter().any(|prefix| may_hold(&groups[*at], prefix))).collect::<Vec<_>>();
        if wanted.is_empty() {
            return Ok(false);
        }
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let mut stream = self.stream(wanted, ProjectionMask::roots(schema, 0..columns))?;
        let part = Table { key: columns, columns: &self.table.columns[..columns], ..*self.table };
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| self.bytes.error(error))?;
            columns::matches(&part, &batch).map_err(|detail| self.bytes.damaged(detail))?;
            let (keys, rows) = (columns::KeyColumns::of(&part, &batch), batch.num_rows());
            let has = |prefix: &Key| {
                let at = keys.lower_bound(0, rows, prefix);
                at < rows && keys.order(at, prefix).is_eq()
            };
            if prefixes.iter().any(has) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the statistics of a row group leave room for rows that begin with a prefix.
fn may_hold(group: &RowGroupMetaData, prefix: &Key) -> bool {
    prefix.0.iter().zip(group.columns()).all(|(value, column)| match (column.statistics(), value) {
        (Some(Statistics::Int64(bounds)), Value::Int(value) | Value::Time(value)) => {
            bounds.min_opt().is_none_or(|min| min <= value) && bounds.max_opt().is_none_or(|max| value <= max)
        }
        (Some(Statistics::ByteArray(bounds)), Value::Text(value)) => {
            bounds.min_opt().is_none_or(|min| min.data() <= value.as_bytes())
                && bounds.max_opt().is_none_or(|max| value.as_bytes() <= max.data())
        }
        _ => true,
    })
}

/// The rows of a file, some thousands at a time.
pub struct Chunks {
    table: &'static Table,
    bytes: FileBytes,
    stream: ParquetRecordBatchStream<FileBytes>,
}

impl Chunks {
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        let Some(batch) = self.stream.next().await else { return Ok(None) };
        let batch = batch.map_err(|error| self.bytes.error(error))?;
        columns::matches(self.table, &batch).map_err(|detail| self.bytes.damaged(detail))?;
        Ok(Some(batch))
    }
}

/// A whole file in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// What the file says about itself.
    pub notes: BTreeMap<String, String>,
    pub rows: Vec<Row>,
}

/// Reads a whole file: for tests and small files.
pub async fn read_file(store: &Store, table: &'static Table, name: &str) -> Result<Content, DatasetError> {
    let bytes = store.info(name).await?.bytes;
    let file = DatasetFile::open(store, table, name, bytes).await?;
    let mut chunks = file.chunks()?;
    let mut rows = Vec::new();
    while let Some(batch) = chunks.next().await? {
        rows.extend((0..batch.num_rows()).map(|at| columns::row(table, &batch, at)));
    }
    Ok(Content { notes: file.notes(), rows })
}

/// What the encoder has written and the upload has not taken yet.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn encode_error(error: impl std::fmt::Display) -> DatasetError {
    DatasetError::Encode(error.to_string())
}

/// Turns batches into the bytes of a file; the same rows and notes always into the same bytes, however they are divided.
pub struct Encoder {
    writer: ArrowWriter<Sink>,
    chunks: BatchCoalescer,
    sink: Sink,
    rows: u64,
}

impl Encoder {
    pub fn new(table: &'static Table, notes: &BTreeMap<String, String>) -> Result<Self, DatasetError> {
        let sink = Sink::default();
        let writer = ArrowWriter::try_new(sink.clone(), table.schema(), Some(properties(table, notes)?)).map_err(encode_error)?;
        Ok(Self { writer, chunks: BatchCoalescer::new(table.schema(), CHUNK_ROWS), sink, rows: 0 })
    }

    pub fn push(&mut self, batch: RecordBatch) -> Result<(), DatasetError> {
        self.rows += batch.num_rows() as u64;
        self.chunks.push_batch(batch).map_err(encode_error)?;
        self.drain()
    }

    fn drain(&mut self) -> Result<(), DatasetError> {
        while let Some(chunk) = self.chunks.next_completed_batch() {
            self.writer.write(&chunk).map_err(encode_error)?;
        }
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that are ready.
    pub fn take(&mut self) -> Vec<u8> {
        self.sink.take()
    }

    /// The rest of the bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, DatasetError> {
        self.chunks.finish_buffered_batch().map_err(encode_error)?;
        self.drain()?;
        self.writer.finish().map_err(encode_error)?;
        Ok(self.sink.take())
    }
}

fn properties(table: &Table, notes: &BTreeMap<String, String>) -> Result<WriterProperties, DatasetError> {
    let sorting = |index: usize| SortingColumn { column_idx: index as i32, descending: false, nulls_first: false };
    let notes = notes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_created_by("desireline".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encode_error)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(notes))
        .set_sorting_columns(Some((0..table.key).map(sorting).collect()));
    for column in table.columns {
        let path = || ColumnPath::from(column.name);
        if column.distinct {
            properties = properties.set_column_dictionary_enabled(path(), false);
        }
        if column.kind == Kind::Time {
            properties = properties.set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED);
        }
    }
    for column in &table.columns[..table.key] {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column.name), EnabledStatistics::Page);
    }
    Ok(properties.build())
}

/// Sends what an encoder has ready on its way.
pub async fn send(encoder: &mut Encoder, upload: &mut Upload) -> Result<(), DatasetError> {
    let ready = encoder.take();
    if !ready.is_empty() {
        upload.write(&ready).await?;
    }
    Ok(())
}

/// The columns by name and type, for a definition.
pub fn describe(table: &Table) -> String {
    let column = |column: &Column| {
        let null = if column.optional { "?" } else { "" };
        format!("{} {}{null}", column.name, column.kind.data_type())
    };
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    format!("{}({}; key {})", table.name, columns.join(", "), table.key)
}
