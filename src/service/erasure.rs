//! Erasure of a user: from every view at once, from log, cold parts and dead letters by a deadline.
//!
//! Users of the shop also leave its catalog. Users of WiFi sessions are devices, whose sealed sessions come back into memory first
//! ([`super::wifi_sealing`]).
//!
//! At once: an `Erase` record retracts the user's open events, its sealed sessions and their minutes (re-read from the log, since
//! views hold no sealed events), and its journey. Later, in the background: the log is rewritten without the user's rows and dead
//! letters, and the record itself forgets who it was about, keeping only what the rows had been counted as; the cold parts are
//! rewritten likewise. Until both are done the erasure is pending: it is shown in the status, and resumed after a restart, because
//! the record still names the user.
//!
//! Models are not unlearned: centroids keep what they took from the user's journey, as one among many.

use super::fold::PendingErasure;
use super::wifi_sealing::Rows;
use super::{ErasureStatus, Inner, NO_PANIC, Service, ServiceError};
use desireline_connectors::log::{Compactor, LogError, PurgeUser};
use desireline_dataflows::query::{Answer, Query, UserQuery};
use desireline_dataflows::reference::Reference;
use desireline_records::time::now_micros;
use desireline_records::{Batch, Control, DeadLetterKind, EraseUser, Event, LogicalTime, MinuteCount, Purged, SourceId, Token, user_hash};
use ecow::EcoString;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Queries that began before an erasure may still be reading a replaced cold part for so long; later ones begin again.
const READERS_GRACE: Duration = Duration::from_secs(2);
/// Rows decoded at once while history is re-read.
const SCAN_ROWS: usize = 32_768;

impl Service {
    /// Erases a user from every view at once. The physical erasure goes on in the background; its id is returned.
    pub async fn erase_user(&self, source: SourceId, user: &str) -> Result<(Token, String), ServiceError> {
        let inner = &self.inner;
        inner.must_be_ready()?;
        let _history = inner.history.lock().await;
        let user = EcoString::from(user);
        if inner.has_devices(source) {
            let (token, ids) = inner.erase_devices(source, &[user]).await?;
            return Ok((token, ids.into_iter().next().unwrap_or_else(|| erasure_id(token.time))));
        }
        let committed = inner.committed.load(std::sync::atomic::Ordering::Acquire);
        inner.wait_applied(committed, inner.config.peek_deadline).await?;
        let sealed = inner.sealed_sessions_of(source, &user).await?;
        let facts = match sealed {
            Some(0) => Facts::default(),
            // With sealed sessions, or nothing open at all: only the log can tell.
            _ => inner.facts(source, &user, LogicalTime::MAX).await?,
        };
        let in_catalog = inner.keeps_contexts(source) && user.parse().is_ok_and(|id| self.with_catalog(|c| c.person(id).is_some()));
        if sealed.is_none() && !facts.mentioned && !in_catalog {
            return Err(ServiceError::NotFound(format!("source {source} has no user with this id")));
        }
        let erase = EraseUser { source, user, requested_at: now_micros(), sealed_minutes: facts.sealed_minutes, purged: None };
        let token = inner.commit_control(Control::Erase(erase)).await?;
        inner.wait_applied(token.time, inner.config.peek_deadline).await?;
        inner.maintain.notify_one();
        Ok((token, erasure_id(token.time)))
    }
}

pub(super) fn erasure_id(time: LogicalTime) -> String {
    format!("erasure-{time}")
}

fn unreadable(error: LogError) -> ServiceError {
    ServiceError::Unavailable(format!("the log cannot be read: {error}"))
}

/// What the log says about one user.
#[derive(Default)]
struct Facts {
    /// Any row, late or dead ones included.
    mentioned: bool,
    sealed_minutes: Vec<MinuteCount>,
    counts: Purged,
}

impl Inner {
    /// How many sealed sessions the views have of a user; nothing when they do not know it.
    async fn sealed_sessions_of(&self, source: SourceId, user: &EcoString) -> Result<Option<u64>, ServiceError> {
        let query = UserQuery { source: Some(source), user: Some(user.clone()), sessions_max: 1, users_max: 1, ..UserQuery::default() };
        let (_, parts) = self.ask(Query::Users(query)).await?;
        Ok(parts.iter().find_map(|part| match part {
            Answer::Users { users, .. } => users.first().map(|user| user.sealed_sessions),
            _ => None,
        }))
    }

    /// Whether the users of a source are those of the catalog.
    fn keeps_contexts(&self, source: SourceId) -> bool {
        self.fold.read().expect(NO_PANIC).sources.get(&source).is_some_and(|s| s.settings.context.is_some())
    }

    /// Those of some users of whom the log has any row, late or dead ones included.
    pub(super) async fn mentioned(&self, source: SourceId, users: &BTreeSet<EcoString>) -> Result<BTreeSet<EcoString>, ServiceError> {
        let mut found = BTreeSet::new();
        let mut batches = self.reader.batches(0, SCAN_ROWS);
        while found.len() < users.len()
            && let Some(batch) = batches.next().await
        {
            let batch = batch.map_err(unreadable)?;
            let of_events = batch.events.iter().map(|event| (event.source, &event.user));
            let named = of_events.chain(batch.dead_letters.iter().map(|letter| (letter.source, &letter.user)));
            found.extend(named.filter(|(of, user)| *of == source && users.contains(*user)).map(|(_, user)| user.clone()));
        }
        Ok(found)
    }

    /// Re-reads the log for one user, up to a time.
    async fn facts(&self, source: SourceId, user: &EcoString, until: LogicalTime) -> Result<Facts, ServiceError> {
        let mut reference = Reference::default();
        let mut facts = Facts::default();
        let mut batches = self.reader.batches(0, SCAN_ROWS);
        while let Some(batch) = batches.next().await {
            let mut batch = batch.map_err(unreadable)?;
            if batch.time > until {
                break;
            }
            let mine = |event: &Event| event.source == source && event.user == *user;
            batch.events.retain(mine);
            batch.dead_letters.retain(|letter| letter.source == source && letter.user == *user);
            // Earlier erasures that were carried out are about others, or about rows that are gone.
            batch.controls.retain(|control| !matches!(control, Control::Erase(erase) if erase.user != *user));
            facts.mentioned |= !batch.events.is_empty() || !batch.dead_letters.is_empty();
            for letter in &batch.dead_letters {
                match letter.kind {
                    DeadLetterKind::Quarantined => facts.counts.quarantined += 1,
                    _ => facts.counts.rejected += 1,
                }
            }
            batch.dead_letters.clear();
            reference.apply(&Batch { events: batch.events, controls: batch.controls, ..Batch::default() });
        }
        if let Some(counts) = reference.counts().get(&source) {
            facts.counts.applied = counts.applied;
            facts.counts.duplicate = counts.duplicate;
            facts.counts.conflict = counts.conflict;
            facts.counts.late = counts.late;
            facts.counts.deleted = counts.deleted;
        }
        if self.has_devices(source) {
            let recount = self.recount(source, Rows::OfDevice(user.clone()), until).await?.counts;
            facts.counts = Purged { quarantined: facts.counts.quarantined, rejected: facts.counts.rejected, ..recount };
        }
        facts.sealed_minutes = reference.sealed_minutes(source, user);
        Ok(facts)
    }

    /// Carries out what is pending. Each target is tried again until it is done.
    pub(super) async fn carry_out_erasures(&self, compactor: &Compactor) {
        let pending: Vec<PendingErasure> = self.fold.read().expect(NO_PANIC).erasures.clone();
        if pending.is_empty() {
            return;
        }
        let carried_out = match self.carry_out(compactor, &pending).await {
            Ok(()) => self.sweep_erased().await,
            Err(error) => Err(error),
        };
        if let Err(error) = carried_out {
            tracing::error!(%error, "an erasure could not be carried out yet; it will be tried again");
            let mut errors = self.erasure_errors.lock().expect(NO_PANIC);
            pending.iter().for_each(|erasure| drop(errors.insert(erasure.time, error.to_string())));
        }
    }

    /// Parts that were replaced lately, by whatever, may hold an erased user: they do not keep their usual grace.
    async fn sweep_erased(&self) -> Result<(), ServiceError> {
        tokio::time::sleep(READERS_GRACE).await;
        self.sweep_cold().await.map(drop)
    }

    async fn carry_out(&self, compactor: &Compactor, pending: &[PendingErasure]) -> Result<(), ServiceError> {
        let _history = self.history.lock().await;
        let mut by_source: BTreeMap<SourceId, Vec<(u64, EcoString, LogicalTime)>> = BTreeMap::new();
        for PendingErasure { erase, time } in pending {
            let user = (user_hash(erase.source, &erase.user), erase.user.clone(), *time);
            by_source.entry(erase.source).or_default().push(user);
        }
        for (source, users) in &by_source {
            self.rewrite_cold(*source, Some(users)).await?;
            if self.has_devices(*source) {
                // What the erasure has taken back of sealed cells: a replay of the rest of the log would not find it.
                self.flush_residuals().await?;
                self.drop_devices(users).await?;
            }
        }
        // The log last: as long as its records name the users, an interrupted erasure is taken up again.
        let mut purge = Vec::new();
        let mut earlier: BTreeMap<(SourceId, EcoString), Purged> = BTreeMap::new();
        for PendingErasure { erase, time } in pending {
            let counts = self.facts(erase.source, &erase.user, *time).await?.counts;
            // A user who came back and was erased again: each record counts the rows since the one before.
            let before = earlier.insert((erase.source, erase.user.clone()), counts).unwrap_or_default();
            let purged = counts.since(&before);
            let in_catalog = self.keeps_contexts(erase.source);
            purge.push(PurgeUser { source: erase.source, user: erase.user.clone(), until: *time, purged, in_catalog });
        }
        compactor.purge(&purge).await.map_err(|e| ServiceError::Unavailable(format!("the log cannot be rewritten: {e}")))?;
        let done: Vec<LogicalTime> = pending.iter().map(|erasure| erasure.time).collect();
        self.fold.write().expect(NO_PANIC).erasures.retain(|erasure| !done.contains(&erasure.time));
        self.erasure_errors.lock().expect(NO_PANIC).retain(|time, _| !done.contains(time));
        tracing::info!(erasures = done.len(), "erased users have left log, dead letters and cold parts");
        Ok(())
    }

    pub(super) fn erasure_statuses(&self) -> Vec<ErasureStatus> {
        let fold = self.fold.read().expect(NO_PANIC);
        let errors = self.erasure_errors.lock().expect(NO_PANIC);
        let deadline = i64::try_from(self.config.erasure_deadline.as_micros()).unwrap_or(i64::MAX);
        let status = |PendingErasure { erase, time }: &PendingErasure| ErasureStatus {
            id: erasure_id(*time),
            source_id: erase.source,
            requested_at: erase.requested_at,
            deadline: erase.requested_at.saturating_add(deadline),
            log_done: false,
            cold_parts_done: fold.sources.get(&erase.source).is_none_or(|s| s.cold.is_empty() && s.cold_stays.is_empty()),
            error: errors.get(time).cloned(),
        };
        fold.erasures.iter().map(status).collect()
    }
}
