//! CSV files: from the bytes of a file to events and dead letters, chunk by chunk.
//!
//! # What it promises
//! - **Streaming.** Memory is one read buffer of 256 KiB, one chunk of rows, and about 16 bytes for each row of the file (see
//!   *Ordinals*). Files may be larger than memory as long as that holds; [`CsvOptions::rows_max`] is the limit.
//! - **Every row is answered.** A record becomes an event or a dead letter, and counts as one row either way. Empty lines are
//!   no rows. Reading never stops at a bad row; it stops only when the file cannot be read or its header does not fit.
//! - **The same file gives the same rows.** Row numbers, ordinals and identities depend on the bytes alone, so a load that was
//!   interrupted goes on with [`CsvReader::skip_rows`], and a file loaded twice counts once.
//! - **Fast.** A row of the five-column shop format costs a few hundred nanoseconds, validation included; rows without quotes
//!   are sliced where they lie. `benches/csv.rs` compares with a loop that only splits lines.
//!
//! # The format
//! RFC 4180 with what files out there need: a byte order mark, `\n` or `\r\n`, quoted fields with line breaks, gzip (told by
//! its first two bytes, members may be concatenated). The first record names the columns, in any order; unknown columns are
//! ignored, missing optional ones are empty, a short row is padded with empty fields and a long one cut. Which names are
//! known depends on the [`Format`]; other names can be mapped onto them by [`CsvOptions::columns`].
//!
//! Records longer than 64 KiB, records that are not UTF-8 and quotes that are never closed are dead letters. After an
//! unclosed quote, reading goes on at the next physical line, so that one bad quote costs one line.
//!
//! # Identity and ordinals
//! A row without an `event_id` is identified by its normalised fields and its ordinal among the equal rows before it in the
//! file. The reader remembers 64 bits of every row's hash in an open-addressing table that is between 3/8 and 3/4 full: 11 to 21
//! bytes a row. Two different rows whose 64 bits agree (once in 10^7 files of a million rows) only get another ordinal, the
//! same at every reading. A WiFi session is identified by what it says (device, space, start), so nothing is remembered of it.
//!
//! # Recovery
//! The position of a file is its number of rows read. Nothing else is needed: [`fingerprint`] names the file.
//!
//! # Known limitations
//! - Files without a header are refused, with the names that were expected.
//! - The separator is the comma.
//! - A dead letter's payload is the row as JSON in the source's format, by which it can be read again; its ordinal is lost, so
//!   of several equal quarantined rows a replay brings back one.

mod columns;
mod ordinals;
mod records;
mod rows;
#[cfg(test)]
mod tests;

pub use records::RECORD_BYTES_MAX;

use crate::formats::{self, Format, Refusal};
use columns::Columns;
use desireline_records::validate::Validator;
use desireline_records::{Micros, PartitionKey, Position, Progress, SourceId};
use ecow::{EcoString, eco_format};
use flate2::bufread::MultiGzDecoder;
use records::Records;
use rows::Block;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::sync::mpsc;

/// What to read and how.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    pub source: SourceId,
    pub format: Format,
    /// Rows in a chunk, at most.
    pub chunk_rows: usize,
    /// Rows in a file, at most: bounds the memory for ordinals.
    pub rows_max: u64,
    /// File columns by other names: from the name in the file to the name of the format.
    pub columns: BTreeMap<String, String>,
    /// Where given, every chunk carries the position of this partition, in rows.
    pub partition: Option<PartitionKey>,
}

impl CsvOptions {
    pub fn new(source: SourceId, format: Format) -> Self {
        Self { source, format, chunk_rows: 16_384, rows_max: 500_000_000, columns: BTreeMap::new(), partition: None }
    }
}

/// Why a file cannot be read (any further).
#[derive(Debug, Error)]
pub enum CsvError {
    #[error("{} cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {detail}", path.display())]
    Header { path: PathBuf, detail: String },
    #[error("{} has more than {rows_max} rows; split it or raise the limit", path.display())]
    TooManyRows { path: PathBuf, rows_max: u64 },
}

impl CsvError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "csv_io",
            Self::Header { .. } => "csv_header",
            Self::TooManyRows { .. } => "csv_too_many_rows",
        }
    }

    /// Whether another attempt may succeed without anybody's doing: never for what the file itself says.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut),
            Self::Header { .. } | Self::TooManyRows { .. } => false,
        }
    }
}

/// Some rows of a file, in order.
#[derive(Debug)]
pub struct CsvChunk {
    /// Events, dead letters and, where asked for, the position.
    pub progress: Progress,
    /// Rows read since the start of the file, skipped ones included.
    pub rows: u64,
    /// Bytes of the file read so far, as stored, and its size; for progress bars.
    pub bytes_read: u64,
    pub bytes_total: u64,
}

type Input = Box<dyn Read + Send>;

/// A file being read.
pub struct CsvReader {
    path: PathBuf,
    name: EcoString,
    options: CsvOptions,
    columns: Columns,
    records: Records<Input>,
    block: Block,
    rows: u64,
    max_time: Option<Micros>,
    bytes_read: Arc<AtomicU64>,
    bytes_total: u64,
}

impl CsvReader {
    /// Opens the file and reads its header.
    pub fn open(path: impl AsRef<Path>, options: CsvOptions) -> Result<Self, CsvError> {
        let path = path.as_ref();
        let fail = |source| CsvError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let bytes_total = file.metadata().map_err(fail)?.len();
        Self::from_read(file, path, bytes_total, options)
    }

    /// As [`CsvReader::open`] for bytes from anywhere; `path` only names them in errors and origins.
    pub fn from_read(input: impl Read + Send + 'static, path: &Path, bytes_total: u64, options: CsvOptions) -> Result<Self, CsvError> {
        let fail = |source| CsvError::Io { path: path.to_owned(), source };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut counted = BufReader::with_capacity(128 << 10, Counted { inner: input, bytes: bytes_read.clone() });
        let gzip = counted.fill_buf().map_err(fail)?.starts_with(&[0x1f, 0x8b]);
        let input: Input = if gzip { Box::new(MultiGzDecoder::new(counted)) } else { Box::new(counted) };
        let mut records = Records::new(input);
        let columns = Columns::read(&mut records, options.format, &options.columns)
            .map_err(fail)?
            .map_err(|detail| CsvError::Header { path: path.to_owned(), detail })?;
        let name = path.file_name().map_or_else(|| "file".into(), |name| EcoString::from(name.to_string_lossy().as_ref()));
        Ok(Self {
            path: path.to_owned(),
            name,
            options,
            columns,
            records,
            block: Block::default(),
            rows: 0,
            max_time: None,
            bytes_read,
            bytes_total,
        })
    }

    /// Rows read so far, skipped ones included.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Passes over `count` rows, or as many as there are, remembering them for the ordinals of later rows. Returns how many it passed.
    pub fn skip_rows(&mut self, count: u64) -> Result<u64, CsvError> {
        let mut passed = 0;
        while passed < count {
            let Some(record) = self.records.advance().map_err(|source| CsvError::Io { path: self.path.clone(), source })? else { break };
            passed += 1;
            self.rows += 1;
            if let Ok(row) = self.columns.row(&record) {
                self.block.skip(&row, self.options.format);
            }
            if self.block.full() {
                self.block.count(&mut []);
            }
        }
        self.block.count(&mut []);
        Ok(passed)
    }

    /// The next rows, or `None` at the end of the file. `now` is the clock, by which times in the future are told.
    pub fn next_chunk(&mut self, validator: &Validator, now: Micros) -> Result<Option<CsvChunk>, CsvError> {
        let before = self.rows;
        let mut events = Vec::with_capacity(self.options.chunk_rows);
        let mut dead_letters = Vec::new();
        while self.rows - before < self.options.chunk_rows as u64 {
            let Some(record) = self.records.advance().map_err(|source| CsvError::Io { path: self.path.clone(), source })? else { break };
            if self.rows >= self.options.rows_max {
                return Err(CsvError::TooManyRows { path: self.path.clone(), rows_max: self.options.rows_max });
            }
            self.rows += 1;
            let letter = |refusal: Refusal, payload: &[u8]| {
                let origin = eco_format!("{}:{}", self.name, record.line);
                formats::to_dead_letter(validator, self.options.source, self.options.format, now, origin, refusal, payload)
            };
            match self.columns.row(&record) {
                Ok(row) => match self.block.read(&row, &self.options, validator, now, events.len()) {
                    Ok(event) => {
                        self.max_time = self.max_time.max(Some(event.time));
                        events.push(event);
                    }
                    Err(refusal) => dead_letters.push(letter(refusal, row.to_json(self.options.format).as_bytes())),
                },
                Err(malformed) => dead_letters.push(letter(malformed.into(), record.bytes)),
            }
            if self.block.full() {
                self.block.count(&mut events);
            }
        }
        self.block.count(&mut events);
        if self.rows == before {
            return Ok(None);
        }
        let position = self.options.partition.clone().map(|partition| Position {
            source: self.options.source,
            partition,
            before: before as i64,
            after: self.rows as i64,
            max_time: self.max_time,
        });
        let progress = Progress { events, dead_letters, controls: Vec::new(), positions: position.into_iter().collect() };
        let bytes_read = self.bytes_read.load(Ordering::Relaxed);
        Ok(Some(CsvChunk { progress, rows: self.rows, bytes_read, bytes_total: self.bytes_total }))
    }
}

/// Names a file by its size, its time of change and samples of its content: a resumed load recognises the file it was reading,
/// and a file that has grown or was corrected is another one. Reads at most 192 KiB.
pub fn fingerprint(path: impl AsRef<Path>) -> io::Result<PartitionKey> {
    const SAMPLE: u64 = 8 << 10;
    const SAMPLES: u64 = 24;
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let length = metadata.len();
    let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&length.to_le_bytes());
    hash.update(&changed.as_nanos().to_le_bytes());
    for sample in 0..SAMPLES {
        let at = length.saturating_sub(SAMPLE) / (SAMPLES - 1) * sample;
        file.seek(SeekFrom::Start(if sample + 1 == SAMPLES { length.saturating_sub(SAMPLE) } else { at }))?;
        let mut bytes = Vec::with_capacity(SAMPLE as usize);
        (&mut file).take(SAMPLE).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(eco_format!("file:{:032x}", hash.digest128()))
}

/// Reads on a thread of its own, `chunks` chunks ahead at most. The thread ends with the file, with the first error, or when
/// the receiver is dropped. `clock` gives the time for each chunk.
pub fn spawn_reader(
    mut reader: CsvReader,
    validator: Arc<Validator>,
    clock: impl Fn() -> Micros + Send + 'static,
    chunks: usize,
) -> io::Result<mpsc::Receiver<Result<CsvChunk, CsvError>>> {
    let (sender, receiver) = mpsc::channel(chunks.max(1));
    std::thread::Builder::new().name("csv".into()).spawn(move || {
        while let Some(outcome) = reader.next_chunk(&validator, clock()).transpose() {
            let failed = outcome.is_err();
            if sender.blocking_send(outcome).is_err() || failed {
                break;
            }
        }
    })?;
    Ok(receiver)
}

struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
