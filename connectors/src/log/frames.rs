//! Walks the frames of one object: turns rows back into batches, one committed batch after the other.

use super::columns::{EventColumns, LetterColumns};
use super::error::LogError;
use super::object::{Frame, Object, Section, SectionKind};
use desireline_records::{Batch, Control, LogicalTime, Position};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are taken out of every replay, by the logical time of their batch.
pub type Skips = BTreeMap<LogicalTime, BTreeSet<u32>>;

pub fn skips_of(list: impl IntoIterator<Item = (LogicalTime, u32)>) -> Skips {
    let mut skips = Skips::new();
    for (time, row) in list {
        skips.entry(time).or_default().insert(row);
    }
    skips
}

/// A position within the sections of one kind.
#[derive(Debug)]
struct Rows<C> {
    sections: std::vec::IntoIter<Section>,
    current: Option<C>,
    row: usize,
    /// Rows of the current section.
    len: usize,
}

impl<C> Rows<C> {
    fn of(object: &Object, kind: SectionKind) -> Self {
        let sections: Vec<Section> = object.sections(kind).copied().collect();
        Self { sections: sections.into_iter(), current: None, row: 0, len: 0 }
    }

    /// Visits the next `count` rows in runs that lie within one section.
    fn take(
        &mut self,
        object: &Object,
        count: u32,
        open: impl Fn(&Object, &Section) -> Result<C, LogError>,
        mut visit: impl FnMut(&C, std::ops::Range<usize>),
    ) -> Result<(), LogError> {
        let mut left = count as usize;
        while left > 0 {
            if self.row == self.len {
                let section = self.sections.next().ok_or_else(|| rows_missing(object))?;
                self.current = Some(open(object, &section)?);
                (self.row, self.len) = (0, section.rows as usize);
            }
            let run = left.min(self.len - self.row);
            if let Some(current) = &self.current {
                visit(current, self.row..self.row + run);
            }
            self.row += run;
            left -= run;
        }
        Ok(())
    }

    /// Passes over rows; sections that are passed over as a whole are not decoded.
    fn pass(&mut self, object: &Object, count: u32, open: impl Fn(&Object, &Section) -> Result<C, LogError>) -> Result<(), LogError> {
        let mut left = count as usize;
        while left > 0 {
            if self.row == self.len {
                let section = self.sections.next().ok_or_else(|| rows_missing(object))?;
                if section.rows as usize <= left {
                    left -= section.rows as usize;
                    continue;
                }
                self.current = Some(open(object, &section)?);
                (self.row, self.len) = (0, section.rows as usize);
            }
            let run = left.min(self.len - self.row);
            self.row += run;
            left -= run;
        }
        Ok(())
    }
}

fn rows_missing(object: &Object) -> LogError {
    LogError::Damaged {
        object: object.name.clone(),
        section: "header",
        offset: 0,
        detail: "its frames and its sections differ in their numbers of rows".to_owned(),
    }
}

/// Reads an object frame by frame.
#[derive(Debug)]
pub struct Frames {
    object: Object,
    next: usize,
    events: Rows<EventColumns>,
    letters: Rows<LetterColumns>,
    controls: std::vec::IntoIter<Control>,
}

impl Frames {
    pub fn of(object: Object) -> Result<Self, LogError> {
        let controls = object.controls()?;
        let framed = |count: fn(&Frame) -> u32| object.header.frames.iter().map(|frame| u64::from(count(frame))).sum::<u64>();
        let stored = |kind| object.sections(kind).map(|section| u64::from(section.rows)).sum::<u64>();
        let same = framed(|frame| frame.events) == stored(SectionKind::Events)
            && framed(|frame| frame.dead_letters) == stored(SectionKind::DeadLetters)
            && framed(|frame| frame.controls) == controls.len() as u64;
        if !same {
            return Err(rows_missing(&object));
        }
        let (events, letters) = (Rows::of(&object, SectionKind::Events), Rows::of(&object, SectionKind::DeadLetters));
        Ok(Self { object, next: 0, events, letters, controls: controls.into_iter() })
    }

    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The frame that the next call reads or passes over.
    pub fn peek(&self) -> Option<&Frame> {
        self.object.header.frames.get(self.next)
    }

    /// Appends the next frame to `batch`, whose time becomes the frame's.
    pub fn read_into(&mut self, batch: &mut Batch, skips: &Skips) -> Result<(), LogError> {
        let Some(frame) = self.object.header.frames.get(self.next) else { return Ok(()) };
        self.next += 1;
        let skipped = skips.get(&frame.time);
        let keep = |row: u32| skipped.is_none_or(|rows| !rows.contains(&frame.original_row(row)));
        let mut number = 0;
        batch.events.reserve(frame.events as usize);
        let events = &mut batch.events;
        self.events.take(&self.object, frame.events, Object::events, |columns, rows| {
            if skipped.is_none() {
                events.extend(rows.map(|row| columns.event(row)));
                return;
            }
            for row in rows {
                if keep(number) {
                    events.push(columns.event(row));
                }
                number += 1;
            }
        })?;
        let mut number = frame.events;
        let letters = &mut batch.dead_letters;
        self.letters.take(&self.object, frame.dead_letters, Object::letters, |columns, rows| {
            for row in rows {
                if keep(number) {
                    letters.push(columns.letter(row));
                }
                number += 1;
            }
        })?;
        let first_control = frame.events + frame.dead_letters;
        for number in 0..frame.controls {
            let control = self.controls.next().ok_or_else(|| rows_missing(&self.object))?;
            if keep(first_control + number) {
                batch.controls.push(control);
            }
        }
        merge_progress(batch, frame, &self.object);
        Ok(())
    }

    /// Visits the events of the next frame without making them.
    pub fn visit_events(&mut self, mut visit: impl FnMut(&Frame, &EventColumns, usize)) -> Result<(), LogError> {
        let Some(frame) = self.object.header.frames.get(self.next) else { return Ok(()) };
        self.next += 1;
        self.events.take(&self.object, frame.events, Object::events, |columns, rows| rows.for_each(|row| visit(frame, columns, row)))?;
        self.letters.pass(&self.object, frame.dead_letters, Object::letters)
    }

    /// Visits the dead letters of the next frame, and its events when `events` is set, with their numbers among its rows.
    pub fn visit_letters<V>(
        &mut self,
        visitor: &mut V,
        events: bool,
        on_event: impl Fn(&mut V, &Frame, u32, &EventColumns, usize),
        on_letter: impl Fn(&mut V, &Frame, u32, &LetterColumns, usize),
    ) -> Result<(), LogError> {
        let Some(frame) = self.object.header.frames.get(self.next) else { return Ok(()) };
        self.next += 1;
        let mut number = 0;
        if events {
            self.events.take(&self.object, frame.events, Object::events, |columns, rows| {
                for row in rows {
                    on_event(visitor, frame, number, columns, row);
                    number += 1;
                }
            })?;
        }
        number = frame.events;
        self.letters.take(&self.object, frame.dead_letters, Object::letters, |columns, rows| {
            for row in rows {
                on_letter(visitor, frame, number, columns, row);
                number += 1;
            }
        })
    }

    /// Goes past the next frame.
    pub fn pass(&mut self) -> Result<(), LogError> {
        let Some(frame) = self.object.header.frames.get(self.next) else { return Ok(()) };
        self.next += 1;
        self.events.pass(&self.object, frame.events, Object::events)?;
        self.letters.pass(&self.object, frame.dead_letters, Object::letters)?;
        if frame.controls > 0 {
            self.controls.nth(frame.controls as usize - 1);
        }
        Ok(())
    }
}

/// Positions, watermarks and ticks of neighbouring batches combine: the first `before`, the last of everything else.
fn merge_progress(batch: &mut Batch, frame: &Frame, object: &Object) {
    batch.shard = object.header.shard;
    batch.time = frame.time;
    for (index, before, after, max_time) in &frame.positions {
        let Some((source, partition)) = object.header.partitions.get(*index as usize) else { continue };
        let (before, after, max_time) = (*before, *after, *max_time);
        match batch.positions.iter_mut().find(|p| p.source == *source && p.partition == *partition) {
            Some(position) => (position.after, position.max_time) = (after, max_time),
            None => batch.positions.push(Position { source: *source, partition: partition.clone(), before, after, max_time }),
        }
    }
    for (source, watermark) in &frame.watermarks {
        match batch.watermarks.iter_mut().find(|(known, _)| known == source) {
            Some((_, known)) => *known = *watermark,
            None => batch.watermarks.push((*source, *watermark)),
        }
    }
    batch.tick = frame.tick.or(batch.tick);
}
