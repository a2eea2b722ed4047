//! Builds one part from the objects it replaces.
//!
//! Rows move as whole Arrow blocks: neighbouring blocks are joined until they hold enough rows, compressed and
//! checksummed. Frames are copied, so every row keeps its logical time, and every batch its positions and watermarks.

use super::columns::{self, BLOCK_ROWS_MAX, BLOCK_TEXT_BYTES, EventColumns, LetterColumns};
use super::error::LogError;
use super::manifest::PartInfo;
use super::object::{self, Frame, Header, Object, ObjectKind, SectionKind, Sections, Writer};
use super::purge::Purge;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use bytes::Bytes;
use desireline_records::{Control, ShardId};

#[derive(Debug)]
pub struct PartBuilder {
    header: Header,
    sections: Sections,
    events: Pending,
    letters: Pending,
    controls: Vec<Control>,
    frame_bytes: u64,
}

/// Blocks that are not written yet.
#[derive(Debug, Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.bytes += batch.get_array_memory_size();
            self.batches.push(batch);
        }
    }

    fn is_full(&self) -> bool {
        self.rows >= BLOCK_ROWS_MAX || self.bytes >= BLOCK_TEXT_BYTES
    }
}

fn internal(error: arrow_schema::ArrowError) -> LogError {
    LogError::Task(format!("building a part: {error}"))
}

impl PartBuilder {
    pub fn new(shard: ShardId) -> Self {
        let mut header = Header::fence(shard, 0, Writer::default(), 0);
        header.kind = ObjectKind::Part;
        Self {
            header,
            sections: Sections::default(),
            events: Pending::default(),
            letters: Pending::default(),
            controls: Vec::new(),
            frame_bytes: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.header.seq_last == 0
    }

    /// Bytes so far; frames, and blocks that wait to be compressed, are estimated.
    pub fn bytes(&self) -> u64 {
        self.sections.len + self.frame_bytes + (self.events.bytes + self.letters.bytes) as u64 / 4
    }

    /// Adds the next object of the log, without the rows that `purge` removes. Answers how many those were.
    pub fn push(&mut self, object: &Object, purge: Option<&Purge>) -> Result<u64, LogError> {
        let source = &object.header;
        if self.is_empty() {
            self.header.seq_first = source.seq_first;
            self.header.time_first = source.time_first;
        }
        self.header.seq_last = source.seq_last;
        self.header.time_last = source.time_last;
        self.header.writer = source.writer;
        self.header.skips.extend(&source.skips);
        let mut frames = source.frames.clone();
        let mut removed = 0;
        removed += self.push_events(object, &mut frames, purge)?;
        removed += self.push_letters(object, &mut frames, purge)?;
        self.push_controls(object, &frames, purge)?;
        for mut frame in frames {
            for position in &mut frame.positions {
                let (source_id, partition) = partition_of(object, position.0)?;
                position.0 = self.header.partition(source_id, &partition);
            }
            frame.removed.sort_unstable();
            let lists = 20 * frame.positions.len() + 10 * frame.watermarks.len() + 3 * frame.removed.len();
            self.frame_bytes += 24 + lists as u64;
            self.header.counts.events += u64::from(frame.events);
            self.header.counts.dead_letters += u64::from(frame.dead_letters);
            self.header.counts.controls += u64::from(frame.controls);
            self.header.frames.push(frame);
        }
        Ok(removed)
    }

    fn push_events(&mut self, object: &Object, frames: &mut [Frame], purge: Option<&Purge>) -> Result<u64, LogError> {
        let mut removed = 0;
        let mut walk = Walk::new(&object.header.frames, |frame| (frame.events, 0));
        for section in object.sections(SectionKind::Events) {
            let mut batch = object.batch(section)?;
            if let Some(purge) = purge {
                let columns = EventColumns::of(&batch).map_err(|detail| object.damaged(section, detail))?;
                let mut keep = Vec::with_capacity(columns.len());
                for row in 0..columns.len() {
                    let (index, number) = walk.next().ok_or_else(|| object.damaged(section, "it has rows of no frame"))?;
                    let hit = purge.hits_event(&columns, row, frames[index].time);
                    keep.push(!hit);
                    if hit {
                        frames[index].removed.push(object.header.frames[index].original_row(number));
                        frames[index].events -= 1;
                        removed += 1;
                    }
                }
                batch = filter(batch, keep)?;
            }
            self.events.push(batch);
            if self.events.is_full() {
                self.flush_events()?;
            }
        }
        Ok(removed)
    }

    fn push_letters(&mut self, object: &Object, frames: &mut [Frame], purge: Option<&Purge>) -> Result<u64, LogError> {
        let mut removed = 0;
        let mut walk = Walk::new(&object.header.frames, |frame| (frame.dead_letters, frame.events));
        for section in object.sections(SectionKind::DeadLetters) {
            let mut batch = object.batch(section)?;
            if let Some(purge) = purge {
                let columns = LetterColumns::of(&batch).map_err(|detail| object.damaged(section, detail))?;
                let mut keep = Vec::with_capacity(columns.len());
                for row in 0..columns.len() {
                    let (index, number) = walk.next().ok_or_else(|| object.damaged(section, "it has rows of no frame"))?;
                    let hit = purge.hits(columns.source(row), columns.user.get(row), frames[index].time);
                    keep.push(!hit);
                    if hit {
                        frames[index].removed.push(object.header.frames[index].original_row(number));
                        frames[index].dead_letters -= 1;
                        removed += 1;
                    }
                }
                batch = filter(batch, keep)?;
            }
            self.letters.push(batch);
            if self.letters.is_full() {
                self.flush_letters()?;
            }
        }
        Ok(removed)
    }

    fn push_controls(&mut self, object: &Object, frames: &[Frame], purge: Option<&Purge>) -> Result<(), LogError> {
        let mut walk = Walk::new(&object.header.frames, |frame| (frame.controls, 0));
        for mut control in object.controls()? {
            let index = walk.next().map_or(0, |(index, _)| index);
            if let (Some(purge), Some(frame)) = (purge, frames.get(index)) {
                purge.rewrite(&mut control, frame.time);
            }
            self.controls.push(control);
        }
        Ok(())
    }

    fn flush_events(&mut self) -> Result<(), LogError> {
        let pending = std::mem::take(&mut self.events);
        if pending.rows == 0 {
            return Ok(());
        }
        let block = columns::concat(&pending.batches).map_err(internal)?;
        let late = block.column_by_name("late").map_or(0, |late| late.as_boolean().true_count());
        if let Some(times) = block.column_by_name("time") {
            let times = times.as_primitive::<Int64Type>().values();
            self.header.cover_times(times.iter().copied().min().zip(times.iter().copied().max()));
        }
        self.header.counts.late += late as u64;
        let bytes = columns::batch_to_bytes(&block, true).map_err(internal)?;
        self.sections.push(SectionKind::Events, bytes, pending.rows, late);
        Ok(())
    }

    fn flush_letters(&mut self) -> Result<(), LogError> {
        let pending = std::mem::take(&mut self.letters);
        if pending.rows == 0 {
            return Ok(());
        }
        let block = columns::concat(&pending.batches).map_err(internal)?;
        let bytes = columns::batch_to_bytes(&block, true).map_err(internal)?;
        self.sections.push(SectionKind::DeadLetters, bytes, pending.rows, 0);
        Ok(())
    }

    /// The part's entry in the manifest, under the given name, and its bytes.
    pub fn finish(mut self, name: String) -> Result<(PartInfo, Vec<Bytes>), LogError> {
        self.flush_events()?;
        self.flush_letters()?;
        if !self.controls.is_empty() {
            let bytes = object::controls_to_bytes(&self.controls)?;
            self.sections.push(SectionKind::Controls, bytes, self.controls.len(), 0);
        }
        let header = self.header;
        let mut info = PartInfo {
            name,
            seq_first: header.seq_first,
            seq_last: header.seq_last,
            time_first: header.time_first,
            time_last: header.time_last,
            event_time: header.event_time,
            counts: header.counts,
            frames: header.frames.len() as u64,
            bytes: 0,
        };
        let chunks = object::assemble(header, self.sections)?;
        info.bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Ok((info, chunks))
    }
}

fn partition_of(object: &Object, index: u32) -> Result<(u32, desireline_records::PartitionKey), LogError> {
    object.header.partitions.get(index as usize).cloned().ok_or_else(|| LogError::Damaged {
        object: object.name.clone(),
        section: "header",
        offset: 0,
        detail: format!("it names no partition {index}"),
    })
}

fn filter(batch: RecordBatch, keep: Vec<bool>) -> Result<RecordBatch, LogError> {
    if keep.iter().all(|keep| *keep) {
        return Ok(batch);
    }
    arrow_select::filter::filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(internal)
}

/// Which frame each row of one kind belongs to, and its number among all the frame's rows.
struct Walk<'a, F> {
    frames: &'a [Frame],
    extent: F,
    index: usize,
    row: u32,
}

impl<'a, F: Fn(&Frame) -> (u32, u32)> Walk<'a, F> {
    /// `extent` answers how many rows of the kind a frame has, and how many rows of other kinds stand before them.
    fn new(frames: &'a [Frame], extent: F) -> Self {
        Self { frames, extent, index: 0, row: 0 }
    }
}

impl<F: Fn(&Frame) -> (u32, u32)> Iterator for Walk<'_, F> {
    type Item = (usize, u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (rows, offset) = (self.extent)(self.frames.get(self.index)?);
            if self.row < rows {
                self.row += 1;
                return Some((self.index, offset + self.row - 1));
            }
            (self.index, self.row) = (self.index + 1, 0);
        }
    }
}
