//! Label matrices that follow the views: what the log says of them.
//!
//! A matrix has a column for each labelling function and a row for each thing of an index. [`Matrix`] begins a *generation*: its columns and
//! classes, no rows. [`MatrixRows`] says what became of some things: what the rules' queries gave for them, and how the functions vote on
//! that; a later record of the same thing replaces an earlier one. [`MatrixModel`] is a label model fitted on the counts of a generation;
//! labels follow it at once. Records of another generation than the one in force change nothing, so nobody has to take back what was
//! evaluated for functions that have changed since.

use crate::{LogicalTime, Micros};
use ecow::EcoString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// The number of a label matrix.
pub type MatrixId = u64;

/// Most things of one [`MatrixRows`] record.
pub const MATRIX_ROWS_MAX: usize = 10_000;

/// A matrix begins, or begins anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    pub matrix: MatrixId,
    /// 1, 2, …; takes effect only when it is larger than the one in force.
    pub generation: u64,
    pub concept: u64,
    pub index: u64,
    /// The labelling functions, by column.
    pub functions: Vec<u64>,
    /// The concept values that votes mean, ascending: vote 0 is the first.
    pub classes: Vec<u64>,
    /// What rows and votes are a function of besides the data: another text, another generation.
    pub definition: EcoString,
}

/// The things of a matrix that were evaluated together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixRows {
    pub matrix: MatrixId,
    pub generation: u64,
    /// The logical time of the views that the rows were read from.
    pub features_as_of: LogicalTime,
    /// Whatever changed up to this time has been evaluated.
    pub through: LogicalTime,
    /// The things by their keys.
    pub keys: Vec<EcoString>,
    /// One vote per column for each key, row by row: a class, -1 for an abstention.
    pub votes: Votes,
    /// Things that the index does not have any more.
    pub gone: Vec<EcoString>,
    /// What the rules' queries gave for the keys.
    pub rows: Vec<RuleRows>,
}

/// Rows of one rule, as an Arrow IPC stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRows {
    pub rule: u64,
    pub arrow: Bytes,
}

/// A label model; takes effect only when it is of the generation in force and follows the version in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixModel {
    pub matrix: MatrixId,
    pub generation: u64,
    /// 1, 2, … over all generations.
    pub version: u64,
    /// Rows and votes that it was fitted on.
    pub rows: u64,
    pub votes: u64,
    pub fitted_at: Micros,
    /// The model itself, as the learning crate writes it.
    pub model: serde_json::Value,
}

/// Bytes, written as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Arc<[u8]>);

/// Votes, written as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes(pub Vec<i8>);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let sign = ALPHABET[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let signs = text.as_bytes();
    if !signs.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(signs.len() / 4 * 3);
    for (at, chunk) in signs.chunks_exact(4).enumerate() {
        let is_last = (at + 1) * 4 == signs.len();
        let padding = chunk.iter().rev().take_while(|sign| **sign == b'=').count();
        if padding > 2 || (padding > 0 && !is_last) {
            return None;
        }
        let mut word = 0u32;
        for sign in &chunk[..4 - padding] {
            word = word << 6 | value(*sign)?;
        }
        word <<= 6 * padding as u32;
        bytes.extend(&word.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

fn value(sign: u8) -> Option<u32> {
    Some(u32::from(match sign {
        b'A'..=b'Z' => sign - b'A',
        b'a'..=b'z' => sign - b'a' + 26,
        b'0'..=b'9' => sign - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).ok_or_else(|| serde::de::Error::custom("not base64"))
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer).map(|bytes| Self(bytes.into()))
    }
}

impl Serialize for Votes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().map(|vote| *vote as u8).collect();
        serializer.serialize_str(&encode(&bytes))
    }
}

impl<'de> Deserialize<'de> for Votes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer).map(|bytes| Self(bytes.into_iter().map(|byte| byte as i8).collect()))
    }
}

impl MatrixRows {
    /// The votes of each key.
    pub fn by_key(&self, columns: usize) -> impl Iterator<Item = (&EcoString, &[i8])> {
        self.keys.iter().zip(self.votes.0.chunks_exact(columns.max(1)))
    }

    /// Takes a thing out, as if it had never been evaluated. What the queries gave goes for all of them.
    pub fn forget(&mut self, key: &str) -> bool {
        let columns = self.votes.0.len() / self.keys.len().max(1);
        let Some(at) = self.keys.iter().position(|known| known == key) else {
            let before = self.gone.len();
            self.gone.retain(|gone| gone != key);
            return self.gone.len() != before;
        };
        self.keys.remove(at);
        self.votes.0.drain(at * columns..(at + 1) * columns);
        self.rows.clear();
        true
    }

    pub fn names(&self, key: &str) -> bool {
        self.keys.iter().chain(&self.gone).any(|known| known == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> MatrixRows {
        MatrixRows {
            matrix: 1,
            generation: 1,
            features_as_of: 5,
            through: 4,
            keys: vec!["a".into(), "b".into()],
            votes: Votes(vec![-1, 0, 2, 1, -1, -1]),
            gone: vec!["c".into()],
            rows: vec![RuleRows { rule: 3, arrow: Bytes(vec![0, 255, 7].into()) }],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = serde_json::to_string(&rows()).expect("it is JSON");
        assert!(text.contains("\"votes\":\"/wACAf//\"") && text.contains("\"AP8H\""), "{text}");
        assert_eq!(serde_json::from_str::<MatrixRows>(&text).expect("it is what was written"), rows());
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(73)).collect();
            assert_eq!(decode(&encode(&bytes)).as_ref(), Some(&bytes));
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["A", "AAA", "A===", "====", "AA=A", "AAA=AAAA", "AA A", "ä==="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn a_forgotten_thing_leaves_no_trace() {
        let mut rows = rows();
        assert!(rows.names("a") && rows.forget("a") && !rows.names("a"));
        assert_eq!((rows.votes.0.as_slice(), rows.rows.len()), ([1, -1, -1].as_slice(), 0));
        assert!(rows.forget("c") && !rows.forget("c"));
        assert_eq!(rows.by_key(3).collect::<Vec<_>>(), [(&"b".into(), [1, -1, -1].as_slice())]);
    }
}
