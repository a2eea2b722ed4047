//! Parts of sealed WiFi sessions, `cold/stays/<source>/<content hash>.parquet`, and of what was counted of them,
//! `cold/cells/<source>/<content hash>.parquet`.
//!
//! What it promises:
//! - *Sessions* are sorted by (key hash, device, start, space). A session may lie in several parts: of its versions the one that was
//!   exported last counts, and one that was taken back hides all before it. Readers never see more than one version, wherever the
//!   others lie and whatever time a version says: a version that leaves the range that is asked for still hides the older one inside.
//! - *Cells* are sorted by (measure, space, time, other), and add up over parts: a part holds differences. Every part of cells is an
//!   object of its own, even when another one says the same, since both count. Each measure has row groups of its own, so a reader
//!   touches nothing of the others.
//! - [`CellCache`] reads cells by row groups (64 Ki rows, some 90 rooms of a month of hours): it decodes the groups whose statistics meet
//!   the spaces and times that are wanted, and keeps them as columns of the narrowest integers, about 8 bytes per cell, up to a number of
//!   bytes. A building (100 of 500 rooms) for a year of hours takes about 10 ms from memory.
//! - Merging reads rows in order and holds one row group per part; the parts it writes have at most [`super::PART_ROWS_MAX`] rows.
//!
//! Columns of sessions: `key_hash` u64, `device` text, `randomized` bool, `start` and `end` timestamp (µs, UTC), `space` i32, `open` and
//! `deleted` bool, `exported_at` u64 (logical time). Columns of cells: `measure` u32, `space` i32, `time` timestamp (µs, UTC), `other` i32,
//! `count`, `randomized`, `micros` i64. `measure` is a width in seconds, or a small number ([`desireline_records::Measure::code`]).
//!
//! In the entry of a part of cells, `hash_min` and `hash_max` bound the spaces ([`space_order`]), and `time_min` and `time_max` the times
//! of its cells. In the entry of a part of sessions they are what they are for any sessions: key hashes, earliest start, latest end.
//!
//! # Recovery
//! Parts are checked as they are read ([`super`]); damage is refused with the part's name. The cache holds nothing that is not in parts.
//!
//! # Known limitations
//! - Sessions of a range of times are found by the times of whole parts: within a part they are sorted by device. Parts are merged with
//!   their neighbours in time, so that a range meets few of them.
//! - Two readers that miss the same row group at once both decode it.

mod cache;
mod cells;
mod numbers;
mod read;
mod rows;
#[cfg(test)]
mod tests;

pub use cache::{CellCache, CellCacheStats};
pub use cells::{merge_cells, space_order, write_cells};
pub use read::{MergeStays, holds_devices, merge_stays, read_devices, read_stays};
pub use rows::ColdStay;

use super::ColdError;
use super::write::PartsWriter;
use crate::store::Store;
use desireline_records::{ColdPart, SourceId};

/// Writes sessions as parts; nothing without sessions. They may come in any order.
pub async fn write_stays(store: &Store, source: SourceId, mut stays: Vec<ColdStay>) -> Result<Vec<ColdPart>, ColdError> {
    super::write::sort(&mut stays);
    let mut writer = StaysWriter::new(store, source);
    writer.push(stays).await?;
    writer.finish().await
}

/// Writes sessions that come in order, slice by slice.
pub struct StaysWriter(PartsWriter<ColdStay>);

impl StaysWriter {
    pub fn new(store: &Store, source: SourceId) -> Self {
        Self(PartsWriter::new(store, source))
    }

    /// Sessions in the order of parts, none of them before one of an earlier call.
    pub async fn push(&mut self, stays: Vec<ColdStay>) -> Result<(), ColdError> {
        for stay in stays {
            self.0.push(stay).await?;
        }
        Ok(())
    }

    /// The parts; none without a session.
    pub async fn finish(self) -> Result<Vec<ColdPart>, ColdError> {
        self.0.finish().await
    }
}
