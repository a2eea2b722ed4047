//! Cold parts: sealed sessions as immutable Parquet objects, `cold/sessions/<source>/<content hash>.parquet`.
//!
//! What it promises:
//! - A part is sorted by (key hash, user, start), in row groups of 16 Ki rows and pages of 1 Ki rows with statistics and a
//!   page index. Reading one user fetches the footer (once, then cached) and one or two pages per column,
//!   about 20 KB; a remote store is asked for neighbouring ranges together, at most a row group (about 300 KB).
//! - The name comes from the content: the same rows give the same object, and writing it again changes nothing.
//! - Merging works in pages and rows, not in parts: memory is bounded by the part being written (`PART_ROWS_MAX` rows, about
//!   40 bytes each compressed) and one row group per part being read. The result is several parts with disjoint key
//!   hashes when one would be too large.
//!
//! Columns: `source_id` u32, `key_hash` u64, `user` text, `start` and `end` timestamp (µs, UTC), `first_event_id` 16 bytes,
//! `event_count`, `views`, `carts`, `transactions` u32, `value` decimal(38, 4), `exported_at` u64 (logical time). Any Parquet
//! reader can open them.
//!
//! # Known limitations
//! - Parquet pages carry no checksums of their own here; a torn object is refused by its footer, a flipped byte within
//!   a page by the zstd frame or the row count in most but not all cases.
//! - Two users with the same key hash share pages; rows are told apart by the user id.

mod files;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod write;

pub use read::{merge_parts, read_range, read_user};
pub use rows::ColdSession;
pub use write::write_part;

use crate::store::StoreError;
use thiserror::Error;

/// Where cold parts lie.
pub const FOLDER: &str = "cold";
/// A merge begins a new part after this many rows (and the end of a key hash).
pub const PART_ROWS_MAX: usize = 2_000_000;

#[derive(Debug, Error)]
pub enum ColdError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{object} cannot be read: {detail}")]
    Damaged { object: String, detail: String },
    #[error("a cold part needs at least one row")]
    Empty,
    #[error("writing a cold part: {0}")]
    Encode(String),
}

impl ColdError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged { .. } => "cold_damaged",
            Self::Empty => "cold_empty",
            Self::Encode(_) => "cold_encode",
        }
    }

    /// Whether the same call may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}
