//! Sealing: sessions that can no longer change leave memory for cold parts.
//!
//! For each source with a horizon, every `sealing.every`: choose a boundary (the watermark less the horizon, never ahead of what
//! is late already), wait until the views have every batch committed so far, write every session that ended before it to cold
//! parts, and only then append the `Seal` record that lets the views forget them. Between the export and the record nothing can
//! change those sessions: no admissible row lies before the boundary, and deletions, erasures and changes of settings wait.
//!
//! A crash after the parts and before the record leaves parts that nothing names. They are harmless, since only named parts are
//! read, and are deleted at the next start; the next attempt writes parts of its own.
//!
//! Cold parts of a source are merged when there are more than `sealing.parts_max`. Parts that were replaced are deleted only
//! [`GRACE`] later, because a query may still be reading them.

use super::{Inner, NO_PANIC, ServiceError};
use desireline_connectors::cold::{self, ColdSession};
use desireline_dataflows::query::{Answer, Query, SealableSession};
use desireline_records::time::MINUTE;
use desireline_records::{ColdPart, Control, Horizon, LogicalTime, Micros, Seal, SourceId};
use ecow::EcoString;
use std::sync::Arc;
use std::time::Duration;

/// How long replaced cold parts stay readable.
pub const GRACE: Duration = Duration::from_secs(60);
/// A boundary moves by at least this much, so that seals stay rare.
const STEP_MIN: Micros = MINUTE;
/// Slices of the key hashes in which sessions are exported: bounds what is in memory at once.
const SLICES: u64 = 16;

impl Inner {
    /// Seals what can be sealed, until the service stops.
    pub async fn seal_loop(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.config.sealing.every) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            for (source, boundary) in self.sealable() {
                if let Err(error) = self.seal(source, boundary).await {
                    tracing::warn!(source, %error, "a source could not be sealed; it will be tried again");
                }
            }
            for source in self.crowded() {
                if let Err(error) = self.merge_cold(source).await {
                    tracing::warn!(source, %error, "cold parts could not be merged; it will be tried again");
                }
            }
        }
    }

    /// Sources whose boundary can move on.
    fn sealable(&self) -> Vec<(SourceId, Micros)> {
        let fold = self.fold.read().expect(NO_PANIC);
        let mut due = Vec::new();
        for (source, state) in &fold.sources {
            // WiFi sessions are sealed by days, in another way.
            if state.settings.wifi.is_some() {
                continue;
            }
            let (Horizon::After(horizon), Some(watermark), Some(late_before)) =
                (state.settings.horizon, state.watermark, state.late_before)
            else {
                continue;
            };
            let boundary = watermark.saturating_sub(horizon).min(late_before);
            if state.boundary.is_none_or(|last| boundary >= last + STEP_MIN) {
                due.push((*source, boundary));
            }
        }
        due
    }

    /// Sources with more cold parts than they should have.
    fn crowded(&self) -> Vec<SourceId> {
        let fold = self.fold.read().expect(NO_PANIC);
        fold.sources.iter().filter(|(_, s)| s.cold.len() > self.config.sealing.parts_max.max(1)).map(|(id, _)| *id).collect()
    }

    async fn seal(&self, source: SourceId, boundary: Micros) -> Result<(), ServiceError> {
        let _history = self.history.lock().await;
        let committed = self.committed.load(std::sync::atomic::Ordering::Acquire);
        self.wait_applied(committed, self.config.peek_deadline).await?;
        let mut parts = Vec::new();
        for slice in 0..SLICES {
            let width = u64::MAX / SLICES + 1;
            let hash_from = slice * width;
            let hash_to = hash_from + (width - 1);
            let (as_of, answers) = self.ask(Query::Sealable { source, boundary, hash_from, hash_to }).await?;
            let mut rows: Vec<SealableSession> = Vec::new();
            for answer in answers {
                if let Answer::Sealable(part) = answer {
                    rows.extend(part);
                }
            }
            if !rows.is_empty() {
                let rows = rows.into_iter().map(|row| cold_session(source, row, as_of)).collect();
                parts.push(cold::write_part(&self.store, source, rows).await.map_err(cold_error)?);
            }
        }
        if parts.is_empty() && self.fold.read().expect(NO_PANIC).sources.get(&source).is_some_and(|s| s.boundary.is_some()) {
            // Nothing ended; a record would only say that time passed.
            return Ok(());
        }
        let sessions: u64 = parts.iter().map(|part| part.rows).sum();
        let token = self.commit_control(Control::Seal(Seal { source, boundary, parts })).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        tracing::info!(source, sessions, boundary = desireline_records::time::format_rfc3339(boundary), "sessions were sealed");
        Ok(())
    }

    async fn merge_cold(&self, source: SourceId) -> Result<(), ServiceError> {
        let _history = self.history.lock().await;
        self.rewrite_cold(source, None).await
    }

    /// Merges all cold parts of a source into few, without the given users' rows. The history lock must be held.
    pub(super) async fn rewrite_cold(
        &self,
        source: SourceId,
        drop_users: Option<&[(u64, EcoString, LogicalTime)]>,
    ) -> Result<(), ServiceError> {
        let old: Vec<ColdPart> = self.fold.read().expect(NO_PANIC).sources.get(&source).map_or_else(Vec::new, |s| s.cold.clone());
        if old.is_empty() {
            return Ok(());
        }
        let added = cold::merge_parts(&self.store, source, &old, drop_users).await.map_err(cold_error)?;
        let removed: Vec<EcoString> =
            old.iter().map(|part| part.name.clone()).filter(|name| !added.iter().any(|part| part.name == *name)).collect();
        if removed.is_empty() {
            return Ok(());
        }
        let added = added.into_iter().filter(|part| !old.iter().any(|o| o.name == part.name)).collect();
        let token = self.commit_control(Control::ReplaceCold { source, removed: removed.clone(), added }).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        if drop_users.is_none() {
            self.delete_later(removed);
        }
        Ok(())
    }

    /// Queries may still be reading parts that were replaced.
    pub(super) fn delete_later(&self, names: Vec<EcoString>) {
        let store = self.store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            for name in names {
                if let Err(error) = store.delete(&name).await {
                    tracing::warn!(%name, %error, "a replaced cold part could not be deleted; it is deleted after the next start");
                }
            }
        });
    }

    /// Deletes cold parts that no record names: left by a crash between writing and recording, or replaced before one.
    pub(super) async fn sweep_cold(&self) -> Result<u64, ServiceError> {
        let _history = self.history.lock().await;
        let listed = self.store.list(cold::FOLDER, None).await.map_err(|e| ServiceError::Unavailable(e.to_string()))?;
        let named: std::collections::BTreeSet<EcoString> = {
            let fold = self.fold.read().expect(NO_PANIC);
            let parts = fold.sources.values().flat_map(|s| s.cold.iter().chain(&s.cold_stays).chain(&s.cold_cells));
            parts.map(|part| part.name.clone()).collect()
        };
        let mut deleted = 0;
        for object in listed.iter().filter(|object| !named.contains(object.name.as_str())) {
            self.store.delete(&object.name).await.map_err(|e| ServiceError::Unavailable(e.to_string()))?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

fn cold_error(error: cold::ColdError) -> ServiceError {
    ServiceError::Unavailable(format!("cold parts: {error}"))
}

fn cold_session(source: SourceId, row: SealableSession, exported_at: LogicalTime) -> ColdSession {
    let SealableSession { user, hash, session } = row;
    ColdSession {
        source,
        key_hash: hash,
        user,
        start: session.start,
        end: session.end,
        first_event: session.first_event,
        event_count: session.events as u32,
        views: session.path.views as u32,
        carts: session.path.carts as u32,
        transactions: session.path.transactions as u32,
        value: session.path.value(),
        exported_at,
    }
}
