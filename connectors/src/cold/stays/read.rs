//! Reading and merging parts of sealed WiFi sessions: of the versions of a session the newest counts.

use super::super::ColdError;
use super::super::read::{Dropped, Merge, PartRows};
use super::super::rows::Hashes;
use super::super::write::PartsWriter;
use super::rows::{ColdStay, StayFilter};
use crate::store::Store;
use desireline_records::{ColdPart, LogicalTime, Micros, SourceId, SpaceId};
use ecow::EcoString;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Sessions of some spaces (of all, if none is named) that overlap `[from, to)`, in the order of parts; those taken back are left out.
pub async fn read_stays(
    store: &Store,
    parts: &[ColdPart],
    spaces: &BTreeSet<SpaceId>,
    from: Micros,
    to: Micros,
) -> Result<Vec<ColdStay>, ColdError> {
    let overlaps = |part: &&ColdPart| part.time_min < to && part.time_max >= from;
    let Some(earliest) = parts.iter().filter(overlaps).map(|part| part.time_min).min() else { return Ok(Vec::new()) };
    // A newer version may have ended before the range. It begins when the older one does, so its part reaches that far.
    let wanted = parts.iter().filter(|part| part.time_min < to && part.time_max >= earliest);
    let spaces = (!spaces.is_empty()).then(|| Arc::new(spaces.clone()));
    let mut newest = Newest::open(store, wanted, StayFilter { spaces, start_before: to, ..StayFilter::ALL }).await?;
    let mut found = Vec::new();
    while let Some(row) = newest.next().await? {
        if !row.stay.deleted && (row.stay.end > from || row.stay.start >= from) {
            found.push(row);
        }
    }
    Ok(found)
}

/// Every sealed session of some devices (key hash, device), in the order of parts; also those taken back, marked as such: rows for them are
/// known.
pub async fn read_devices(store: &Store, parts: &[ColdPart], devices: &[(u64, EcoString)]) -> Result<Vec<ColdStay>, ColdError> {
    let wanted: HashSet<(u64, &str)> = devices.iter().map(|(hash, device)| (*hash, device.as_str())).collect();
    let mut newest =
        Newest::open(store, parts, StayFilter { hashes: hashes_of(devices.iter().map(|(hash, _)| *hash)), ..StayFilter::ALL }).await?;
    let mut found = Vec::new();
    while let Some(row) = newest.next().await? {
        if wanted.contains(&(row.key_hash, row.device.as_str())) {
            found.push(row);
        }
    }
    Ok(found)
}

/// Whether a part has any session of these devices (key hash, device) that was exported up to the device's time.
pub async fn holds_devices(store: &Store, part: &ColdPart, devices: &[(u64, EcoString, LogicalTime)]) -> Result<bool, ColdError> {
    let hashes = hashes_of(devices.iter().map(|(hash, ..)| *hash));
    if !hashes.meets(part.hash_min, part.hash_max) {
        return Ok(false);
    }
    let sought = Dropped::of(devices);
    let Some(mut rows) = PartRows::<ColdStay>::open(store, part, StayFilter { hashes, ..StayFilter::ALL }).await? else { return Ok(false) };
    while let Some(row) = rows.next().await? {
        if sought.has(row.key_hash, &row.device, row.exported_at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a merge of sessions leaves out besides versions that are not the newest. What was taken back stays: it hides what other parts say.
#[derive(Clone, Copy, Default)]
pub struct MergeStays<'a> {
    /// Devices (key hash, device) with all that was exported up to a time.
    pub drop: &'a [(u64, EcoString, LogicalTime)],
    /// Sessions that ended before this. All parts that begin before it must be among those that are merged: what is left out here would
    /// not hide an older version elsewhere.
    pub retained_from: Option<Micros>,
}

/// Replaces parts by fewer ones that say the same, or less. No part comes back when no session is left.
pub async fn merge_stays(
    store: &Store,
    source: SourceId,
    parts: &[ColdPart],
    leave_out: MergeStays<'_>,
) -> Result<Vec<ColdPart>, ColdError> {
    let dropped = Dropped::of(leave_out.drop);
    let mut newest = Newest::open(store, parts, StayFilter::ALL).await?;
    let mut writer = PartsWriter::new(store, source);
    while let Some(row) = newest.next().await? {
        let gone = leave_out.retained_from.is_some_and(|from| row.stay.end < from);
        if gone || dropped.has(row.key_hash, &row.device, row.exported_at) {
            continue;
        }
        writer.push(row).await?;
    }
    writer.finish().await
}

fn hashes_of(hashes: impl Iterator<Item = u64>) -> Hashes {
    let sorted: BTreeSet<u64> = hashes.collect();
    Hashes::Some(sorted.into_iter().collect())
}

/// The newest version of each session, in order.
struct Newest {
    merge: Merge<ColdStay>,
    last: Option<ColdStay>,
}

impl Newest {
    async fn open<'a>(store: &Store, parts: impl IntoIterator<Item = &'a ColdPart>, filter: StayFilter) -> Result<Self, ColdError> {
        Ok(Self { merge: Merge::open(store, parts, filter).await?, last: None })
    }

    async fn next(&mut self) -> Result<Option<ColdStay>, ColdError> {
        while let Some(row) = self.merge.next().await? {
            if self.last.as_ref().is_none_or(|last| !last.same_session(&row)) {
                self.last = Some(row.clone());
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}
