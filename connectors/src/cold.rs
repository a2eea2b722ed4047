//! Cold parts: sealed sessions as immutable Parquet objects, `cold/sessions/<source>/<content hash>.parquet`; and those of WiFi sessions,
//! with what was counted of them ([`stays`]), which are written, checked, read and merged by the same code.
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
//! # Checksums
//! A part's record in the log holds a crc32c for each KiB of the object. Reads are widened to whole blocks and checked before
//! Parquet sees a byte, so a flipped or missing byte is refused with the part's name, never answered as data. The name is the
//! hash of the content: [`verify_all`] checks every part without the log.
//!
//! # Known limitations
//! - Two users with the same key hash share pages; rows are told apart by the user id.

mod files;
mod read;
mod rows;
pub mod stays;
#[cfg(test)]
mod tests;
mod write;

pub use read::{merge_parts, read_range, read_user};
pub use rows::ColdSession;
pub use stays::{
    CellCache, CellCacheStats, ColdStay, MergeStays, StaysWriter, holds_devices, merge_cells, merge_stays, read_devices, read_stays,
    write_cells, write_stays,
};
pub use write::write_part;

use crate::store::Store;

/// Reads every part of the store and compares its content with its name. Returns how many were read, and the damaged ones.
pub async fn verify_all(store: &Store) -> Result<(u64, Vec<String>), ColdError> {
    let (mut read, mut damaged) = (0, Vec::new());
    for object in store.list(FOLDER, None).await? {
        let bytes = store.get(&object.name).await?;
        read += 1;
        if !write::is_named_by(&object.name, &bytes) {
            damaged.push(object.name);
        }
    }
    Ok((read, damaged))
}

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
