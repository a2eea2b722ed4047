//! Retention in the log: rows of sessions that the cold parts have no more leave it, too.
//!
//! A row leaves when its session began so long ago that no row of the same session can say that it ended later than what is retained:
//! `wifi.max_session` (or `wifi.max_open`) before it. So of a session all rows leave, or none. The numbers that were counted of them lie in cold
//! parts, and how often rows were counted as what is written into a record ([`PurgeStays`]), so that a replay of what is left
//! gives the same answers:
//! - nothing is pending that leaves, since pending rows are applied first;
//! - a seal is recorded before the log is rewritten: whatever a replay finds different in sealed cells without these rows ends there;
//! - what leaves lies more than a day behind the sealed boundary, so it says nothing of cells and sessions after it.

use super::recount::Rows;
use super::{Inner, NO_PANIC, Sealed, ServiceError};
use desireline_connectors::log::{Compactor, PurgeStays};
use desireline_records::time::{DAY, now_micros};
use desireline_records::{Control, EraseUser, Micros, Purged};
use ecow::EcoString;

impl Inner {
    /// Removes rows of sessions that retention has removed, once for each day that it moves on.
    pub(in super::super) async fn forget_rows(&self, compactor: &Compactor) {
        let Some((sealed, before)) = self.rows_to_forget() else { return };
        match self.forget_rows_before(compactor, &sealed, before).await {
            Ok(true) => *self.wifi_sealing.forgotten.lock().expect(NO_PANIC) = Some(before),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "rows of old WiFi sessions could not be removed from the log; it will be tried again"),
        }
    }

    fn rows_to_forget(&self) -> Option<(Sealed, Micros)> {
        self.config.occupancy.sealing.retention?;
        let sealed = self.wifi_sealed()?;
        let max_open = self.fold.read().expect(NO_PANIC).sources.get(&sealed.source)?.settings.wifi.as_ref()?.max_open;
        let length = self.config.wifi_ingest.max_session.max(max_open);
        let before = sealed.retained_from?.min(sealed.boundary?.saturating_sub(DAY)).saturating_sub(length);
        let done = *self.wifi_sealing.forgotten.lock().expect(NO_PANIC);
        (Some(before) > done).then_some((sealed, before))
    }

    /// Answers whether nothing is left to be removed.
    async fn forget_rows_before(&self, compactor: &Compactor, sealed: &Sealed, before: Micros) -> Result<bool, ServiceError> {
        self.reopen_pending().await?;
        let _history = self.history.lock().await;
        self.settled().await?;
        let (until, pending) = self.pending_at().await?;
        if pending > 0 {
            return Ok(false);
        }
        let old = self.recount(sealed.source, Rows::Before(before), until).await?;
        if old.rows == 0 && old.reopened == 0 {
            return Ok(true);
        }
        let Some(boundary) = sealed.boundary else { return Ok(true) };
        self.seal_to(boundary, true).await?;
        let nobody = EraseUser {
            source: sealed.source,
            user: EcoString::new(),
            requested_at: now_micros(),
            sealed_minutes: Vec::new(),
            purged: Some(Purged::default()),
        };
        let token = self.commit_control(Control::Erase(nobody)).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        let (source, record) = (sealed.source, token.time);
        let stays = PurgeStays { source, start_before: before, until, record, purged: old.counts };
        let report = compactor.purge_stays(stays).await;
        let report = report.map_err(|e| ServiceError::Unavailable(format!("the log cannot be rewritten: {e}")))?;
        tracing::info!(rows = report.rows_removed, "rows of old WiFi sessions were removed from the log by retention");
        Ok(true)
    }
}
