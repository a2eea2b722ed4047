//! Sealing days, and what has changed of sealed ones since.

use super::{Inner, NO_PANIC, Reopened, Sealed, ServiceError, now_micros, unreadable};
use desireline_connectors::cold::{self, ColdStay, StaysWriter};
use desireline_dataflows::views::occupancy::query::{DeviceStay, OccupancyQuery};
use desireline_records::time::{DAY, floor, format_rfc3339};
use desireline_records::{Cell, CellKey, Control, Horizon, LogicalTime, Micros, SealFrom, SealStays};

/// So much time is sealed at once: bounds the cells that are read from the views together.
const STEP: Micros = 7 * DAY;
/// Longer steps keep the number of seals below this.
const STEPS_MAX: i64 = 60;
/// Slices of the key hashes in which sessions are read from the views: bounds what is in memory at once.
const SLICES: u64 = 16;

impl Inner {
    /// Seals what can be sealed, and what has changed of sealed days.
    pub(super) async fn seal_stays(&self) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        let due = self.days_due();
        let boundary = due.max(sealed.begun());
        let Some(boundary) = boundary else { return Ok(()) };
        if Some(boundary) > sealed.boundary || self.has_residuals(boundary).await? {
            let _history = self.history.lock().await;
            self.seal_to(boundary, false).await?;
        }
        Ok(())
    }

    /// Up to where days can be sealed now.
    fn days_due(&self) -> Option<Micros> {
        let fold = self.fold.read().expect(NO_PANIC);
        let state = fold.sources.values().find(|state| state.recorded && state.settings.wifi.is_some())?;
        let Horizon::After(horizon) = state.settings.horizon else { return None };
        Some(floor(state.watermark?.saturating_sub(horizon).min(fold.last_tick?), DAY))
    }

    /// Whether memory has anything of sealed days that a part should have.
    async fn has_residuals(&self, boundary: Micros) -> Result<bool, ServiceError> {
        if self.wifi_sealing.reopened.lock().expect(NO_PANIC).unsealed {
            return Ok(true);
        }
        let (_, _, answers) = self.ask_occupancy(OccupancyQuery::SealableCells { boundary }).await?;
        Ok(answers.iter().any(|answer| !answer.cells.is_empty()))
    }

    /// Seals up to a boundary, or, where it stands already, what has changed before it; `always` records a seal even of nothing. The
    /// history lock must be held.
    pub(super) async fn seal_to(&self, boundary: Micros, always: bool) -> Result<(), ServiceError> {
        let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
        let boundary = Some(boundary).max(sealed.begun()).unwrap_or(boundary);
        if sealed.late_before < Some(boundary) {
            self.commit_control(Control::SealFrom(SealFrom { source: sealed.source, boundary })).await?;
        }
        self.settled().await?;
        let from = match sealed.boundary {
            Some(last) => Some(last),
            None => self.earliest_event().await?,
        };
        for step in steps(from, boundary) {
            let Some(sealed) = self.wifi_sealed() else { return Ok(()) };
            self.seal_step(sealed, step, always).await?;
        }
        Ok(())
    }

    /// The begin of the first event of the log, of whatever source.
    async fn earliest_event(&self) -> Result<Option<Micros>, ServiceError> {
        let segments = self.reader.segments().await.map_err(|e| ServiceError::Unavailable(format!("the log cannot be read: {e}")))?;
        Ok(segments.iter().filter_map(|segment| segment.event_time).map(|(first, _)| first).min())
    }

    /// Writes what is before a boundary, and lets the views forget it.
    async fn seal_step(&self, sealed: Sealed, boundary: Micros, always: bool) -> Result<(), ServiceError> {
        let stays = self.export_stays(&sealed, boundary).await?;
        let cells = self.export_cells(&sealed, boundary).await?;
        // From here on nobody knows whether their sessions are in memory.
        self.wifi_sealing.reopened.lock().expect(NO_PANIC).devices.clear();
        if stays.is_empty() && cells.is_empty() && Some(boundary) == sealed.boundary && !always {
            *self.wifi_sealing.reopened.lock().expect(NO_PANIC) = Reopened::default();
            return Ok(());
        }
        let sessions: u64 = stays.iter().map(|part| part.rows).sum();
        let counted: u64 = cells.iter().map(|part| part.rows).sum();
        let seal = SealStays { source: sealed.source, boundary, stays, cells, intervals: sealed.intervals };
        let token = self.commit_control(Control::SealStays(seal)).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        *self.wifi_sealing.reopened.lock().expect(NO_PANIC) = Reopened::default();
        let mut gauges = self.wifi_sealing.gauges.lock().expect(NO_PANIC);
        (gauges.seals, gauges.last_sealed_at) = (gauges.seals + 1, Some(now_micros()));
        tracing::info!(sessions, cells = counted, boundary = format_rfc3339(boundary), "WiFi sessions were sealed");
        Ok(())
    }

    async fn export_stays(&self, sealed: &Sealed, boundary: Micros) -> Result<Vec<desireline_records::ColdPart>, ServiceError> {
        let mut writer = StaysWriter::new(&self.store, sealed.source);
        let width = u64::MAX / SLICES + 1;
        for hash_from in (0..SLICES).map(|slice| slice * width) {
            let query = OccupancyQuery::Sealable { boundary, hash_from, hash_to: hash_from + (width - 1) };
            let (as_of, standing, answers) = self.ask_occupancy(query).await?;
            let stays = answers.into_iter().flat_map(|answer| answer.stays);
            let mut rows: Vec<ColdStay> = stays.map(|stay| exported(stay, as_of, standing.retained_from)).collect();
            rows.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
            writer.push(rows).await.map_err(unreadable)?;
        }
        writer.finish().await.map_err(unreadable)
    }

    async fn export_cells(&self, sealed: &Sealed, boundary: Micros) -> Result<Vec<desireline_records::ColdPart>, ServiceError> {
        let (_, _, answers) = self.ask_occupancy(OccupancyQuery::SealableCells { boundary }).await?;
        let cells: Vec<(CellKey, Cell)> = answers.into_iter().flat_map(|answer| answer.cells).collect();
        cold::write_cells(&self.store, sealed.source, cells).await.map_err(unreadable)
    }
}

/// The boundaries by which a long time is sealed: whole days, the last one where it ends.
fn steps(from: Option<Micros>, to: Micros) -> Vec<Micros> {
    let Some(from) = from.map(|from| floor(from, DAY)).filter(|from| *from < to) else { return vec![to] };
    let width = ((to - from) / STEPS_MAX / DAY * DAY).max(STEP);
    let between = (1..).map(|step| from + step * width).take_while(|step| *step < to);
    between.chain([to]).collect()
}

fn order(stay: &ColdStay) -> (u64, &str, Micros, i32) {
    (stay.key_hash, &stay.device, stay.stay.start, stay.stay.space)
}

/// A session that retention would remove at once hides what earlier parts say of it, and is no more.
fn exported(stay: DeviceStay, exported_at: LogicalTime, retained_from: Option<Micros>) -> ColdStay {
    let DeviceStay { hash, device, randomized, mut stay } = stay;
    stay.deleted |= retained_from.is_some_and(|from| stay.end < from);
    ColdStay { key_hash: hash, device, randomized, stay, exported_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_is_sealed_step_by_step() {
        assert_eq!(steps(None, 9 * DAY), [9 * DAY]);
        assert_eq!(steps(Some(9 * DAY), 9 * DAY), [9 * DAY], "what has changed before it");
        assert_eq!(steps(Some(8 * DAY + 1), 9 * DAY), [9 * DAY]);
        assert_eq!(steps(Some(DAY + 1), 17 * DAY), [8 * DAY, 15 * DAY, 17 * DAY]);
        let long = steps(Some(0), 20_000 * DAY);
        assert!(long.len() as i64 <= STEPS_MAX + 2 && long.is_sorted() && long.iter().all(|step| step % DAY == 0), "{}", long.len());
        assert_eq!(long.last(), Some(&(20_000 * DAY)));
    }
}
