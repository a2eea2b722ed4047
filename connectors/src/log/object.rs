//! The bytes of one object of the log: a fence, a segment or a part.
//!
//! ```text
//! 0   8  magic `DESIRLOG`
//! 8   2  format version, little endian (as all numbers)
//! 10  2  reserved, 0
//! 12  4  length of the header
//! 16     header: postcard, zero-padded so that what follows is aligned to 8 bytes
//!     4  crc32c of everything before
//!        sections, one after the other: Arrow IPC streams of events or dead letters, JSON lines of controls
//! ```
//! The header names every section with its offset (from the first section), length and crc32c, so each byte of the object
//! is under exactly one checksum, and the object's length is known. A section's rows belong to the *frames* in order: a
//! frame is one committed batch (logical time, row counts, positions, watermarks, tick). A fence has no frame, a segment
//! has one, a part (made by compaction) has many; that is their only difference, apart from parts being compressed.

use super::columns::{self, EventColumns, LetterColumns};
use super::error::LogError;
use bytes::Bytes;
use desireline_records::{Batch, Control, LogicalTime, Micros, PartitionKey, ShardId, SourceId};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"DESIRLOG";
pub const FORMAT_VERSION: u16 = 1;
const PREFIX: usize = 16;
/// A header longer than this is not believed.
const HEADER_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A writer has opened the log here.
    Fence,
    /// One batch.
    Segment,
    /// Many batches, compacted.
    Part,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub events: u64,
    /// Of the events, those behind their source's horizon.
    pub late: u64,
    pub dead_letters: u64,
    pub controls: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.events += other.events;
        self.late += other.late;
        self.dead_letters += other.dead_letters;
        self.controls += other.controls;
    }
}

/// Who wrote an object, and which of its attempts it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub epoch: u64,
    pub nonce: u64,
    pub append: u64,
}

/// One committed batch, without its rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub seq: u64,
    pub time: LogicalTime,
    pub events: u32,
    pub dead_letters: u32,
    pub controls: u32,
    /// (index into the header's partitions, before, after, largest event time).
    pub positions: Vec<(u32, i64, i64, Option<Micros>)>,
    pub watermarks: Vec<(SourceId, Micros)>,
    pub tick: Option<Micros>,
    /// Numbers of the rows that an erasure has removed, ascending, as they were in the original batch.
    pub removed: Vec<u32>,
}

impl Frame {
    /// The number that row `kept` (counted among those still here) had in the original batch.
    pub fn original_row(&self, kept: u32) -> u32 {
        let mut row = kept;
        for removed in &self.removed {
            if *removed > row {
                break;
            }
            row += 1;
        }
        row
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SectionKind {
    Events,
    DeadLetters,
    Controls,
}

impl SectionKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::DeadLetters => "dead letters",
            Self::Controls => "controls",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub kind: SectionKind,
    /// From the first section's first byte.
    pub offset: u64,
    pub bytes: u64,
    pub crc: u32,
    pub rows: u32,
    /// Of an events section: its late rows.
    pub late: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub kind: ObjectKind,
    pub shard: ShardId,
    pub seq_first: u64,
    pub seq_last: u64,
    pub writer: Writer,
    /// Of a fence: both are the last time before it.
    pub time_first: LogicalTime,
    pub time_last: LogicalTime,
    pub event_time: Option<(Micros, Micros)>,
    pub counts: Counts,
    /// Rows (logical time, row number) that a control in here takes out of every replay.
    pub skips: Vec<(LogicalTime, u32)>,
    pub partitions: Vec<(SourceId, PartitionKey)>,
    pub frames: Vec<Frame>,
    pub sections: Vec<Section>,
}

impl Header {
    pub fn fence(shard: ShardId, seq: u64, writer: Writer, last: LogicalTime) -> Self {
        Self {
            kind: ObjectKind::Fence,
            shard,
            seq_first: seq,
            seq_last: seq,
            writer,
            time_first: last,
            time_last: last,
            event_time: None,
            counts: Counts::default(),
            skips: Vec::new(),
            partitions: Vec::new(),
            frames: Vec::new(),
            sections: Vec::new(),
        }
    }

    pub fn partition(&mut self, source: SourceId, partition: &PartitionKey) -> u32 {
        let found = self.partitions.iter().position(|(s, p)| *s == source && p == partition);
        found.unwrap_or_else(|| {
            self.partitions.push((source, partition.clone()));
            self.partitions.len() - 1
        }) as u32
    }

    /// Widens the range of event times.
    pub fn cover_times(&mut self, times: Option<(Micros, Micros)>) {
        if let Some((min, max)) = times {
            let (old_min, old_max) = self.event_time.unwrap_or((min, max));
            self.event_time = Some((old_min.min(min), old_max.max(max)));
        }
    }

    /// Bytes of the whole object, given where its sections begin.
    pub fn object_len(&self, sections_at: u64) -> u64 {
        self.sections.iter().map(|section| section.bytes).sum::<u64>() + sections_at
    }
}

/// Sections under construction.
#[derive(Debug, Default)]
pub struct Sections {
    pub list: Vec<Section>,
    pub bytes: Vec<Bytes>,
    pub len: u64,
}

impl Sections {
    pub fn push(&mut self, kind: SectionKind, bytes: Vec<u8>, rows: usize, late: usize) {
        let section = Section {
            kind,
            offset: self.len,
            bytes: bytes.len() as u64,
            crc: crc32c::crc32c(&bytes),
            rows: rows as u32,
            late: late as u32,
        };
        self.len += section.bytes;
        self.list.push(section);
        self.bytes.push(bytes.into());
    }
}

/// Header and sections as the chunks of one object.
pub fn assemble(mut header: Header, sections: Sections) -> Result<Vec<Bytes>, LogError> {
    header.sections = sections.list;
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    let mut bytes = postcard::to_extend(&header, bytes).map_err(|error| LogError::Task(format!("header: {error}")))?;
    while (bytes.len() + 4) % 8 != 0 {
        bytes.push(0);
    }
    let header_len = (bytes.len() - PREFIX) as u32;
    bytes[12..16].copy_from_slice(&header_len.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let mut chunks = vec![Bytes::from(bytes)];
    chunks.extend(sections.bytes);
    Ok(chunks)
}

/// One batch as a segment.
pub fn encode_segment(batch: &Batch, seq: u64, writer: Writer) -> Result<(Header, Vec<Bytes>), LogError> {
    let internal = |error: arrow_schema::ArrowError| LogError::Task(format!("encoding a segment: {error}"));
    let mut header = Header::fence(batch.shard, seq, writer, batch.time);
    header.kind = ObjectKind::Segment;
    let mut sections = Sections::default();
    let mut rest = batch.events.as_slice();
    while !rest.is_empty() {
        let (block, tail) = rest.split_at(columns::block_len(rest, columns::event_text_len));
        let late = block.iter().filter(|event| event.late).count();
        let bytes = columns::batch_to_bytes(&columns::events_to_batch(block).map_err(internal)?, false).map_err(internal)?;
        sections.push(SectionKind::Events, bytes, block.len(), late);
        header.counts.late += late as u64;
        rest = tail;
    }
    let mut rest = batch.dead_letters.as_slice();
    while !rest.is_empty() {
        let (block, tail) = rest.split_at(columns::block_len(rest, columns::letter_text_len));
        let bytes = columns::batch_to_bytes(&columns::letters_to_batch(block).map_err(internal)?, false).map_err(internal)?;
        sections.push(SectionKind::DeadLetters, bytes, block.len(), 0);
        rest = tail;
    }
    if !batch.controls.is_empty() {
        sections.push(SectionKind::Controls, controls_to_bytes(&batch.controls)?, batch.controls.len(), 0);
    }
    let times = |event: &desireline_records::Event| event.time;
    header.event_time = batch.events.iter().map(times).min().zip(batch.events.iter().map(times).max());
    header.counts.events = batch.events.len() as u64;
    header.counts.dead_letters = batch.dead_letters.len() as u64;
    header.counts.controls = batch.controls.len() as u64;
    header.skips = skips(&batch.controls).collect();
    let positions = batch.positions.iter().map(|p| (header.partition(p.source, &p.partition), p.before, p.after, p.max_time)).collect();
    header.frames.push(Frame {
        seq,
        time: batch.time,
        events: batch.events.len() as u32,
        dead_letters: batch.dead_letters.len() as u32,
        controls: batch.controls.len() as u32,
        positions,
        watermarks: batch.watermarks.clone(),
        tick: batch.tick,
        removed: Vec::new(),
    });
    let chunks = assemble(header.clone(), sections)?;
    Ok((header, chunks))
}

pub fn skips(controls: &[Control]) -> impl Iterator<Item = (LogicalTime, u32)> {
    controls.iter().filter_map(|control| match control {
        Control::SkipRow { time, row } => Some((*time, *row)),
        _ => None,
    })
}

pub fn controls_to_bytes(controls: &[Control]) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::new();
    for control in controls {
        serde_json::to_writer(&mut bytes, control).map_err(|error| LogError::Task(format!("encoding a control: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// What the first bytes of an object say.
#[derive(Debug)]
pub enum Head {
    Complete {
        header: Box<Header>,
        sections_at: u64,
    },
    /// The header goes on up to this byte.
    Needs(u64),
}

/// Reads the header from an object's first bytes; `complete` says that there are no further ones.
pub fn parse_head(object: &str, bytes: &[u8], complete: bool) -> Result<Head, LogError> {
    let damaged =
        |section, offset: usize, detail: String| LogError::Damaged { object: object.to_owned(), section, offset: offset as u64, detail };
    if bytes.len() < PREFIX {
        return Err(damaged("prefix", bytes.len(), format!("it ends after {} bytes", bytes.len())));
    }
    if &bytes[..8] != MAGIC {
        return Err(damaged("prefix", 0, "it is not an object of the log".to_owned()));
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    let header_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let end = PREFIX.saturating_add(header_len);
    if version != FORMAT_VERSION {
        return Err(LogError::Version { object: object.to_owned(), found: version, known: FORMAT_VERSION });
    }
    if header_len > HEADER_BYTES_MAX {
        return Err(damaged("prefix", 12, format!("the header claims {header_len} bytes")));
    }
    if bytes.len() < end + 4 {
        if complete {
            return Err(damaged("header", bytes.len(), "it ends within the header".to_owned()));
        }
        return Ok(Head::Needs(end as u64 + 4));
    }
    let stored = u32::from_le_bytes([bytes[end], bytes[end + 1], bytes[end + 2], bytes[end + 3]]);
    let computed = crc32c::crc32c(&bytes[..end]);
    if stored != computed {
        return Err(damaged("header", 0, format!("checksum {computed:08x} instead of {stored:08x}")));
    }
    let (header, _padding) = postcard::take_from_bytes::<Header>(&bytes[PREFIX..end])
        .map_err(|error| damaged("header", PREFIX, format!("cannot be read: {error}")))?;
    Ok(Head::Complete { header: Box::new(header), sections_at: end as u64 + 4 })
}

/// An object in memory, its header read, its sections not yet.
#[derive(Debug)]
pub struct Object {
    pub name: String,
    pub header: Header,
    sections_at: usize,
    bytes: Bytes,
}

impl Object {
    pub fn parse(name: &str, bytes: Bytes) -> Result<Self, LogError> {
        let Head::Complete { header, sections_at } = parse_head(name, &bytes, true)? else {
            unreachable!("a complete object needs no further bytes");
        };
        let expected = header.object_len(sections_at);
        if bytes.len() as u64 != expected {
            return Err(LogError::Damaged {
                object: name.to_owned(),
                section: "sections",
                offset: expected.min(bytes.len() as u64),
                detail: format!("it has {} bytes instead of {expected}", bytes.len()),
            });
        }
        Ok(Self { name: name.to_owned(), header: *header, sections_at: sections_at as usize, bytes })
    }

    pub fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn damaged(&self, section: &Section, detail: impl Into<String>) -> LogError {
        LogError::Damaged {
            object: self.name.clone(),
            section: section.kind.word(),
            offset: self.sections_at as u64 + section.offset,
            detail: detail.into(),
        }
    }

    pub fn sections(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        self.header.sections.iter().filter(move |section| section.kind == kind)
    }

    /// The verified bytes of a section.
    pub fn section_bytes(&self, section: &Section) -> Result<Bytes, LogError> {
        let start = self.sections_at + section.offset as usize;
        let bytes = self.bytes.slice(start..start + section.bytes as usize);
        let computed = crc32c::crc32c(&bytes);
        if computed != section.crc {
            return Err(self.damaged(section, format!("checksum {computed:08x} instead of {:08x}", section.crc)));
        }
        Ok(bytes)
    }

    pub fn batch(&self, section: &Section) -> Result<arrow_array::RecordBatch, LogError> {
        let bytes = self.section_bytes(section)?;
        let batch = columns::batch_from_bytes(bytes).map_err(|detail| self.damaged(section, detail))?;
        if batch.num_rows() != section.rows as usize {
            return Err(self.damaged(section, format!("it has {} rows instead of {}", batch.num_rows(), section.rows)));
        }
        Ok(batch)
    }

    pub fn events(&self, section: &Section) -> Result<EventColumns, LogError> {
        EventColumns::of(&self.batch(section)?).map_err(|detail| self.damaged(section, detail))
    }

    pub fn letters(&self, section: &Section) -> Result<LetterColumns, LogError> {
        LetterColumns::of(&self.batch(section)?).map_err(|detail| self.damaged(section, detail))
    }

    /// All controls, in frame order.
    pub fn controls(&self) -> Result<Vec<Control>, LogError> {
        let mut all = Vec::new();
        for section in self.sections(SectionKind::Controls) {
            let bytes = self.section_bytes(section)?;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                all.push(serde_json::from_slice(line).map_err(|error| self.damaged(section, error.to_string()))?);
            }
        }
        Ok(all)
    }
}
