//! Frames between the service and its workers.
//!
//! A frame is a length (four bytes, little-endian, of what follows), a tag and a payload. In the order of a conversation:
//!
//! | tag | from | payload |
//! |---|---|---|
//! | `L` | service | JSON [`Load`]: the function that the following rows are for |
//! | `R` | service | an Arrow IPC stream with one batch of rows |
//! | `S` | worker | JSON [`Started`], once, when it is locked down |
//! | `A` | worker | JSON [`Answer`] for `L` and for `R` |
//!
//! The worker answers each frame before it reads the next. Votes are part of the answer, a number for each row; a fault is a kind, a
//! line, a message and its rows. Every length is checked against a limit before anything is allocated, on both sides.

use crate::rewrite::Script;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

pub const LOAD: u8 = b'L';
pub const ROWS: u8 = b'R';
pub const STARTED: u8 = b'S';
pub const ANSWER: u8 = b'A';

/// A frame of the service; rows are cut so that they stay far below.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// An answer is a few bytes for each row and a bounded number of faults.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Different faults of one answer; further ones are counted as the last.
pub const FAULTS_MAX: usize = 64;
pub const MESSAGE_CHARS_MAX: usize = 300;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub script: Script,
    pub applicable: Vec<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What the kernel keeps the worker to, for the log.
    pub seccomp: bool,
    pub landlock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FaultKind {
    /// The code raised an exception.
    Exception,
    /// An id that the function does not declare.
    Undeclared,
    /// Neither an integer nor a float with an integral value.
    NotAnInteger,
    /// `None`, as of a function that ends without `return`.
    None_,
    /// A limit, or something that neither tier does as Python would.
    Limit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    pub line: Option<u32>,
    pub message: String,
    /// How many rows.
    pub rows: u64,
    /// The first of them, from 0.
    pub first_row: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub votes: Vec<i64>,
    pub faults: Vec<Fault>,
    /// Processor time of the worker since it started.
    pub cpu_nanos: u64,
    /// The code ran out of time by itself, in this line.
    pub late: Option<u32>,
    /// The function could not be loaded, or the rows not be read.
    pub error: Option<String>,
}

pub fn write(out: &mut impl Write, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len() + 1).map_err(|_| io::Error::other("a frame of more than 4 GiB"))?;
    let mut head = [0; 5];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = tag;
    out.write_all(&head)?;
    out.write_all(payload)?;
    out.flush()
}

/// `None` at the end of the conversation.
pub fn read(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes, of at most {bytes_max}")));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    let tag = frame.remove(0);
    Ok(Some((tag, frame)))
}

/// Faults by kind, line and exception, in a bounded number.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        // Messages may quote values: the first one stands for all of the same exception in the same line.
        let same =
            |other: &&mut Fault| other.kind == fault.kind && other.line == fault.line && heading(&other.message) == heading(&fault.message);
        if let Some(known) = self.list.iter_mut().find(same) {
            known.rows += fault.rows;
            if fault.first_row < known.first_row {
                known.first_row = fault.first_row;
                known.message = fault.message;
            }
            return;
        }
        if self.list.len() < FAULTS_MAX {
            let message = fault.message.chars().take(MESSAGE_CHARS_MAX).collect();
            self.list.push(Fault { message, ..fault });
        } else if let Some(last) = self.list.last_mut() {
            last.rows += fault.rows;
        }
    }

    pub fn into_sorted(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|fault| (fault.first_row, fault.line, fault.kind));
        self.list
    }
}

/// `ValueError` of `ValueError: could not convert …`.
fn heading(message: &str) -> &str {
    message.split(':').next().unwrap_or(message)
}

/// A vote as the function returned it, or why it is none.
pub fn vote_of_int(id: i64, applicable: &[i64]) -> Result<i64, (FaultKind, String)> {
    if id == crate::source::ABSTAIN || applicable.contains(&id) {
        Ok(id)
    } else {
        Err((FaultKind::Undeclared, format!("returned {id}, which is not one of the function's values")))
    }
}

pub fn vote_of_float(value: f64, applicable: &[i64]) -> Result<i64, (FaultKind, String)> {
    // Floats below 2^63 with an integral value are exact as integers.
    if value.fract() == 0.0 && value.abs() < 9.2e18 {
        vote_of_int(value as i64, applicable)
    } else {
        Err((FaultKind::NotAnInteger, "returned a float that is no integer".to_owned()))
    }
}

pub fn vote_of_none() -> (FaultKind, String) {
    (FaultKind::None_, "returned None".to_owned())
}

pub fn vote_of_other(type_name: &str) -> (FaultKind, String) {
    (FaultKind::NotAnInteger, format!("returned a value of type {type_name}"))
}
