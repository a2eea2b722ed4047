//! From bytes to records: where one ends, whether it needs unquoting, and what to do when it never ends.
//!
//! One buffer of 256 KiB is filled and sliced. A line without a quote is a record as it lies; only records with quotes go
//! through the quoting rules (csv-core) into a second buffer.

use super::columns::COLUMNS_MAX;
use csv_core::ReadRecordResult;
use std::io::{self, Read};

/// The longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;
/// Of a record that is too long, this much is kept for its dead letter.
const KEPT_BYTES: usize = desireline_records::limits::DEAD_LETTER_PAYLOAD;

/// What a record is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// No quotes: the fields are what stands between the commas of `bytes`.
    Plain,
    /// `text` holds the fields one after the other, the ends of which are in `ends`.
    Quoted { text: &'a [u8], ends: &'a [usize] },
    /// Longer than [`RECORD_BYTES_MAX`]; `bytes` are its beginning.
    TooLong,
    /// A quote that is not closed within [`RECORD_BYTES_MAX`]; `bytes` is the line it stands in.
    Unclosed,
    /// More than [`COLUMNS_MAX`] fields.
    TooWide,
}

pub(super) struct Record<'a> {
    /// The physical line, from 1, on which it begins.
    pub line: u64,
    /// As it stands in the file, without its end of line.
    pub bytes: &'a [u8],
    pub shape: Shape<'a>,
}

pub(super) struct Records<R> {
    input: R,
    buffer: Box<[u8]>,
    /// What is read but not yet consumed.
    start: usize,
    end: usize,
    eof: bool,
    /// The first quote at or after `start`, or `end`; must be looked for again when it lies before `start`.
    quote: usize,
    line: u64,
    csv: csv_core::Reader,
    unquoted: Box<[u8]>,
    ends: Box<[usize]>,
    kept: Vec<u8>,
}

/// A record by positions: what [`Records::find`] decides before anything is borrowed.
enum Found {
    End,
    Line { start: usize, end: usize },
    Quoted { start: usize, end: usize, text: usize, fields: usize },
    TooLong,
    Unclosed { start: usize, end: usize },
    TooWide { start: usize, end: usize },
}

impl<R: Read> Records<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            eof: false,
            quote: 0,
            line: 0,
            csv: csv_core::Reader::new(),
            unquoted: vec![0; RECORD_BYTES_MAX + 1].into_boxed_slice(),
            ends: vec![0; COLUMNS_MAX].into_boxed_slice(),
            kept: Vec::new(),
        }
    }

    /// Drops a byte order mark at the very beginning.
    pub fn skip_bom(&mut self) -> io::Result<()> {
        while self.end - self.start < 3 && !self.eof {
            self.fill()?;
        }
        if self.buffer[self.start..self.end].starts_with(b"\xef\xbb\xbf") {
            self.start += 3;
        }
        Ok(())
    }

    /// The next record that is not an empty line, or `None` at the end.
    pub fn advance(&mut self) -> io::Result<Option<Record<'_>>> {
        let mut line;
        let found = loop {
            line = self.line + 1;
            match self.find()? {
                Found::Line { start, end } if start == end => {}
                found => break found,
            }
        };
        let record = |bytes, shape| Ok(Some(Record { line, bytes, shape }));
        match found {
            Found::End => Ok(None),
            Found::Line { start, end } => record(&self.buffer[start..end], Shape::Plain),
            Found::Quoted { start, end, text, fields } => {
                record(&self.buffer[start..end], Shape::Quoted { text: &self.unquoted[..text], ends: &self.ends[..fields] })
            }
            Found::TooLong => record(&self.kept, Shape::TooLong),
            Found::Unclosed { start, end } => record(&self.buffer[start..end], Shape::Unclosed),
            Found::TooWide { start, end } => record(&self.buffer[start..end], Shape::TooWide),
        }
    }

    /// Finds and consumes the next record.
    fn find(&mut self) -> io::Result<Found> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.start + searched..self.end]) {
                return self.line_to(self.start + searched + at, 1);
            }
            searched = self.end - self.start;
            if searched > RECORD_BYTES_MAX {
                return self.drop_long_line();
            }
            if self.eof {
                return if searched == 0 { Ok(Found::End) } else { self.line_to(self.end, 0) };
            }
            self.fill()?;
        }
    }

    /// The line from `start` to `newline`, which `terminator` bytes end; or the quoted record that begins with it.
    fn line_to(&mut self, newline: usize, terminator: usize) -> io::Result<Found> {
        if self.quote < self.start {
            self.quote = memchr::memchr(b'"', &self.buffer[self.start..self.end]).map_or(self.end, |at| self.start + at);
        }
        if self.quote < newline {
            return self.quoted(newline - self.start);
        }
        let start = self.start;
        self.start = newline + terminator;
        self.line += 1;
        if newline - start > RECORD_BYTES_MAX {
            self.kept.clear();
            self.kept.extend_from_slice(&self.buffer[start..start + KEPT_BYTES]);
            return Ok(Found::TooLong);
        }
        Ok(Found::Line { start, end: self.without_cr(start, newline) })
    }

    /// A record with quotes, which may reach over several lines. Its first line is `line_length` bytes long.
    fn quoted(&mut self, line_length: usize) -> io::Result<Found> {
        while self.end - self.start < RECORD_BYTES_MAX && !self.eof {
            self.fill()?;
        }
        let start = self.start;
        let window = &self.buffer[start..self.end.min(start + RECORD_BYTES_MAX)];
        self.csv.reset();
        let (mut result, read, mut written, mut fields) = self.csv.read_record(window, &mut self.unquoted, &mut self.ends);
        if result == ReadRecordResult::InputEmpty && self.eof && read == window.len() && start + read == self.end {
            // A last line without an end: it gets one. Inside an open quote that ends nothing.
            let (last, _, more, ends) = self.csv.read_record(b"\n", &mut self.unquoted[written..], &mut self.ends[fields..]);
            (result, written, fields) = (last, written + more, fields + ends);
        }
        if result == ReadRecordResult::Record {
            self.start = start + read;
            let bytes = &self.buffer[start..self.start];
            self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
            let end = match bytes {
                [.., b'\r', b'\n'] => self.start - 2,
                [.., b'\n' | b'\r'] => self.start - 1,
                _ => self.start,
            };
            if bytes.last() != Some(&b'\n') {
                // The parser stops at `\r`, or at the end of the file: what is left of the line end is consumed here.
                self.line += 1;
                if self.start < self.end && self.buffer[self.start] == b'\n' {
                    self.start += 1;
                }
            }
            return Ok(Found::Quoted { start, end, text: written, fields });
        }
        let newline = start + line_length;
        self.start = (newline + 1).min(self.end);
        self.line += 1;
        let end = self.without_cr(start, newline);
        Ok(match result {
            ReadRecordResult::OutputEndsFull => Found::TooWide { start, end },
            _ => Found::Unclosed { start, end },
        })
    }

    fn without_cr(&self, start: usize, end: usize) -> usize {
        if end > start && self.buffer[end - 1] == b'\r' { end - 1 } else { end }
    }

    /// Passes over a line that is longer than a record may be, keeping its beginning.
    fn drop_long_line(&mut self) -> io::Result<Found> {
        self.kept.clear();
        self.kept.extend_from_slice(&self.buffer[self.start..self.start + KEPT_BYTES]);
        self.line += 1;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.start..self.end]) {
                self.start += at + 1;
                return Ok(Found::TooLong);
            }
            self.start = self.end;
            if self.eof {
                return Ok(Found::TooLong);
            }
            self.fill()?;
        }
    }

    /// Moves what is left to the front and reads more.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.eof = read == 0;
        self.end += read;
        self.quote = memchr::memchr(b'"', &self.buffer[..self.end]).unwrap_or(self.end);
        Ok(())
    }
}

impl<'a> Record<'a> {
    /// The fields of a sound record, as bytes; only the header needs them this way.
    pub fn fields(&self) -> Vec<&'a [u8]> {
        match self.shape {
            Shape::Plain => self.bytes.split(|b| *b == b',').collect(),
            Shape::Quoted { text, ends } => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                starts.zip(ends).map(|(from, to)| &text[from..*to]).collect()
            }
            Shape::TooLong | Shape::Unclosed | Shape::TooWide => Vec::new(),
        }
    }
}
