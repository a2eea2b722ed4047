//! Few parts, and none of what retention says is to go.

use super::{Inner, NO_PANIC, Sealed, ServiceError, unreadable};
use desireline_connectors::cold::{self, MergeStays, PART_ROWS_MAX, holds_devices};
use desireline_records::time::{DAY, floor};
use desireline_records::{ColdPart, Control, LogicalTime, Micros, ReplaceStays};
use ecow::EcoString;

/// Parts of at least this many rows are merged with no other.
const LARGE_ROWS: u64 = PART_ROWS_MAX as u64 / 2;

impl Inner {
    /// Removes what is too old, and merges parts when there are too many.
    pub(super) async fn keep_up(&self) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        if let Some(from) = self.retained_from(&sealed) {
            let _history = self.history.lock().await;
            self.forget_before(from).await?;
        }
        let parts_max = self.config.sealing.parts_max.max(1);
        if sealed.stays.len() > parts_max || sealed.cells.len() > parts_max {
            let _history = self.history.lock().await;
            self.merge_neighbours(parts_max).await?;
        }
        Ok(())
    }

    /// The day from which sessions are kept, when that has moved on.
    fn retained_from(&self, sealed: &Sealed) -> Option<Micros> {
        let retention = self.config.occupancy.sealing.retention?;
        let now = self.fold.read().expect(NO_PANIC).last_tick?;
        let from = floor(now.saturating_sub(retention), DAY).min(sealed.boundary?);
        (Some(from) > sealed.retained_from && !sealed.stays.is_empty()).then_some(from)
    }

    async fn forget_before(&self, from: Micros) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        // Every version of a session that ended before lies in one of these.
        let old: Vec<ColdPart> = sealed.stays.iter().filter(|part| part.time_min < from).cloned().collect();
        let leave_out = MergeStays { retained_from: Some(from), ..MergeStays::default() };
        let stays = cold::merge_stays(&self.store, sealed.source, &old, leave_out).await.map_err(unreadable)?;
        let before: u64 = old.iter().map(|part| part.rows).sum();
        let replaced = Replaced { stays: (old, stays), ..Replaced::default() };
        let after = replaced.stays.1.iter().map(|part| part.rows).sum();
        self.replace_stays(&sealed, replaced, Some(from), true).await?;
        tracing::info!(rows = before.saturating_sub(after), "sealed WiFi sessions were removed by retention");
        Ok(())
    }

    async fn merge_neighbours(&self, parts_max: usize) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        let mut replaced = Replaced::default();
        for group in neighbours(&sealed.stays, parts_max) {
            let merged = cold::merge_stays(&self.store, sealed.source, &group, MergeStays::default()).await.map_err(unreadable)?;
            replaced.stays.0.extend(group);
            replaced.stays.1.extend(merged);
        }
        for group in neighbours(&sealed.cells, parts_max) {
            let merged = cold::merge_cells(&self.store, sealed.source, &group).await.map_err(unreadable)?;
            replaced.cells.0.extend(group);
            replaced.cells.1.extend(merged);
        }
        self.replace_stays(&sealed, replaced, None, true).await
    }

    /// Rewrites the parts that have sessions of these devices (key hash, device) exported up to a time, without them. The history lock
    /// must be held.
    pub(in super::super) async fn drop_devices(&self, devices: &[(u64, EcoString, LogicalTime)]) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        let mut replaced = Replaced::default();
        for part in &sealed.stays {
            if !holds_devices(&self.store, part, devices).await.map_err(unreadable)? {
                continue;
            }
            let leave_out = MergeStays { drop: devices, ..MergeStays::default() };
            let rest = cold::merge_stays(&self.store, sealed.source, std::slice::from_ref(part), leave_out).await.map_err(unreadable)?;
            replaced.stays.0.push(part.clone());
            replaced.stays.1.extend(rest);
        }
        self.replace_stays(&sealed, replaced, None, false).await
    }

    async fn replace_stays(
        &self,
        sealed: &Sealed,
        replaced: Replaced,
        retained_from: Option<Micros>,
        delete_later: bool,
    ) -> Result<(), ServiceError> {
        let (stays, cells) = (replaced.stays, replaced.cells);
        // The same rows are the same object: it stays.
        let is_in = |parts: &[ColdPart], part: &ColdPart| parts.iter().any(|other| other.name == part.name);
        let gone = |(old, new): &(Vec<ColdPart>, Vec<ColdPart>)| -> Vec<EcoString> {
            old.iter().filter(|part| !is_in(new, part)).map(|part| part.name.clone()).collect()
        };
        let removed: Vec<EcoString> = gone(&stays).into_iter().chain(gone(&cells)).collect();
        if removed.is_empty() && retained_from.is_none() {
            return Ok(());
        }
        let new = |(old, new): (Vec<ColdPart>, Vec<ColdPart>)| new.into_iter().filter(|part| !is_in(&old, part)).collect();
        let (source, stays, cells) = (sealed.source, new(stays), new(cells));
        let replace = ReplaceStays { source, removed: removed.clone(), stays, cells, retained_from };
        let token = self.commit_control(Control::ReplaceStays(replace)).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        if delete_later {
            self.delete_later(removed);
        }
        Ok(())
    }
}

/// Parts and what comes in their place.
#[derive(Default)]
struct Replaced {
    stays: (Vec<ColdPart>, Vec<ColdPart>),
    cells: (Vec<ColdPart>, Vec<ColdPart>),
}

/// Runs of parts, in the order of time, that are to become one each, so that about half of `parts_max` remain. None when there are few.
fn neighbours(parts: &[ColdPart], parts_max: usize) -> Vec<Vec<ColdPart>> {
    if parts.len() <= parts_max {
        return Vec::new();
    }
    let mut parts = parts.to_vec();
    parts.sort_by_key(|part| (part.time_min, part.time_max));
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    // Two runs side by side have more rows than this, or they would be one.
    let rows_max = rows.div_ceil((parts_max as u64 / 4).max(1)).min(LARGE_ROWS);
    let mut runs: Vec<Vec<ColdPart>> = vec![Vec::new()];
    let mut in_run = 0;
    for part in parts {
        if in_run + part.rows > rows_max {
            runs.push(Vec::new());
            in_run = 0;
        }
        in_run += part.rows;
        if let Some(run) = runs.last_mut() {
            run.push(part);
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecow::eco_format;

    fn part(number: i64, rows: u64) -> ColdPart {
        let name = eco_format!("{number}");
        ColdPart { name, rows, bytes: 1, hash_min: 0, hash_max: 1, time_min: number, time_max: number + 1, block_sums: Default::default() }
    }

    #[test]
    fn neighbours_in_time_become_one_part_and_large_ones_stay() {
        let small: Vec<ColdPart> = (0..9).rev().map(|number| part(number, 10)).collect();
        assert!(neighbours(&small, 9).is_empty());
        let runs = neighbours(&small, 8);
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4], "the ninth stays as it is");
        assert!(runs.concat().is_sorted_by_key(|part| part.time_min));
        assert_eq!(neighbours(&small, 2).iter().map(Vec::len).collect::<Vec<_>>(), [9]);
        let large: Vec<ColdPart> = (0..9).map(|number| part(number, LARGE_ROWS)).collect();
        assert!(neighbours(&large, 2).is_empty(), "merging them would bring nothing");
        // A year of days: many small ones follow few large ones.
        let mut parts: Vec<ColdPart> = (0..40).map(|number| part(number, 100)).collect();
        for day in 40..400 {
            parts.push(part(day, 100));
            for run in neighbours(&parts, 64) {
                parts.retain(|part| !run.contains(part));
                parts.push(part_of(&run));
            }
            assert!(parts.len() <= 64, "day {day}: {}", parts.len());
            assert_eq!(parts.iter().map(|part| part.rows).sum::<u64>(), (day as u64 + 1) * 100);
        }
    }

    fn part_of(run: &[ColdPart]) -> ColdPart {
        part(run[0].time_min, run.iter().map(|part| part.rows).sum())
    }
}
