//! Sealing of WiFi sessions: whole days leave memory for cold parts, and come back, device by device, when a late row asks for it.
//!
//! One loop per service, for the one source of WiFi sessions:
//! - **Seal** ([`seal`]), every `sealing.every`. The boundary S is the begin of the day (UTC) in which the watermark less the horizon lies,
//!   never ahead of the log's clock. A record says that rows for days before S wait from here on ([`SealFrom`](desireline_records::SealFrom));
//!   then sessions and cells are read from the views and written to parts; then a record lets the views forget them
//!   ([`SealStays`](desireline_records::SealStays)). In between nothing can change what was read: rows that could are pending, and
//!   whatever else could holds the same lock. Followers and answers see no difference. A long time is sealed week by week.
//! - **Reopen** ([`reopen`]), every `wifi.reopen_every`. Devices with pending rows get their sealed sessions back into memory, and the rows
//!   are applied as if they had come in time. Half a million sessions (and a few devices more) come back at most between two
//!   seals; other devices wait for the next one. What that changes of sealed cells is a difference in memory, which the next seal writes to
//!   a part of its own, even when the boundary has not moved.
//! - **Upkeep** ([`upkeep`]). Above `sealing.parts_max` parts are merged with their neighbours in time. Sessions that ended before
//!   `wifi.retention` leave the parts, and later the log ([`forget`]), for good; what was counted of them stays.
//! - **Erasure** ([`erase`]) takes a device back out of everything that was counted, exactly, sealed or not.
//!
//! # Recovery
//! Records are written only after the parts that they name. After a crash anywhere the log says what is sealed, parts that no record names
//! are deleted at the next start ([`super::sealing`]), and the next pass goes on: between the two records rows for the days in question
//! stay pending, and nothing is lost or counted twice.
//!
//! # Known limitations
//! - The cells of one step (a week, or a sixtieth of a longer time) are read from the views at once: as much memory again as they take there.
//! - A late row for sessions that retention has removed counts as if they had not been there, and an erasure of their device does not take
//!   back what was counted of them.
//! - Dead letters of WiFi sessions are kept, whatever the retention; erasing their device removes them.
//! - Sessions of sealed days can only be deleted by id while their device is reopened.

mod erase;
mod forget;
mod recount;
mod reopen;
mod seal;
mod upkeep;

pub(super) use recount::Rows;

use super::{Inner, NO_PANIC, Service, ServiceError};
use desireline_connectors::cold::{CellCacheStats, ColdError};
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::views::occupancy::query::{OccupancyAnswer, OccupancyQuery, Standing};
use desireline_records::time::now_micros;
use desireline_records::{ColdPart, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How soon devices are reopened that had to wait for others.
const REOPEN_AGAIN: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WifiSealingConfig {
    /// How often pending rows are looked at.
    pub reopen_every: Duration,
    /// Devices whose sealed sessions come back into memory together.
    pub reopen_devices_max: usize,
    /// Sealed sessions that ended longer ago leave the cold parts.
    pub retention: Option<Micros>,
}

impl Default for WifiSealingConfig {
    fn default() -> Self {
        Self { reopen_every: Duration::from_secs(5), reopen_devices_max: 1_000, retention: None }
    }
}

/// What sealing has done and has to do.
#[derive(Clone, Debug, Default)]
pub struct WifiSealingStatus {
    /// Rows that begin before this are pending.
    pub late_before: Option<Micros>,
    /// Days before this are sealed.
    pub sealed_before: Option<Micros>,
    /// Sessions that ended before this are gone, by retention.
    pub retained_from: Option<Micros>,
    pub stays_parts: usize,
    pub cells_parts: usize,
    /// Rows of the parts: sessions, with earlier versions of some, and cells, with differences of some.
    pub sealed_stays: u64,
    pub sealed_cells: u64,
    /// Of all parts.
    pub bytes: u64,
    /// Devices with pending rows when they were last looked at, `wifi.reopen_devices_max` per worker at most.
    pub pending_devices: usize,
    /// Since the start of the service.
    pub reopened_devices: u64,
    pub seals: u64,
    pub last_sealed_at: Option<Micros>,
    /// What went wrong in the last pass.
    pub last_error: Option<String>,
    pub cell_cache: CellCacheStats,
}

/// Gauges, and what the loop remembers from one pass to the next.
#[derive(Default)]
pub(super) struct State {
    gauges: Mutex<Gauges>,
    reopened: Mutex<Reopened>,
    /// The log has no rows of sessions that began before this, as far as this service knows.
    forgotten: Mutex<Option<Micros>>,
}

/// What has come back into memory since the last seal.
#[derive(Default)]
struct Reopened {
    /// Devices all of whose sealed sessions are in memory.
    devices: HashSet<EcoString>,
    stays: usize,
    /// Something is in memory that a seal would let go.
    unsealed: bool,
}

#[derive(Default)]
struct Gauges {
    pending_devices: usize,
    reopened_devices: u64,
    seals: u64,
    last_sealed_at: Option<Micros>,
    errors: [Option<String>; 2],
}

/// What the log says about the source of WiFi sessions.
#[derive(Clone, Debug)]
struct Sealed {
    source: SourceId,
    late_before: Option<Micros>,
    boundary: Option<Micros>,
    retained_from: Option<Micros>,
    intervals: Vec<u32>,
    stays: Vec<ColdPart>,
    cells: Vec<ColdPart>,
}

impl Sealed {
    /// Up to where a seal reaches at least: what was announced is carried out.
    fn begun(&self) -> Option<Micros> {
        self.late_before.max(self.boundary)
    }
}

impl Service {
    /// The state of the sealing of WiFi sessions; empty without a source of them.
    pub fn wifi_sealing_status(&self) -> WifiSealingStatus {
        let inner = &self.inner;
        let gauges = inner.wifi_sealing.gauges.lock().expect(NO_PANIC);
        let mut status = WifiSealingStatus {
            pending_devices: gauges.pending_devices,
            reopened_devices: gauges.reopened_devices,
            seals: gauges.seals,
            last_sealed_at: gauges.last_sealed_at,
            last_error: gauges.errors.iter().flatten().next().cloned(),
            cell_cache: inner.cell_cache.stats(),
            ..WifiSealingStatus::default()
        };
        drop(gauges);
        if let Some(sealed) = inner.wifi_sealed() {
            let rows = |parts: &[ColdPart]| parts.iter().map(|part| part.rows).sum();
            (status.late_before, status.sealed_before, status.retained_from) = (sealed.late_before, sealed.boundary, sealed.retained_from);
            (status.stays_parts, status.cells_parts) = (sealed.stays.len(), sealed.cells.len());
            (status.sealed_stays, status.sealed_cells) = (rows(&sealed.stays), rows(&sealed.cells));
            status.bytes = sealed.stays.iter().chain(&sealed.cells).map(|part| part.bytes).sum();
        }
        status
    }
}

impl Inner {
    /// Seals, reopens and keeps up, until the service stops.
    pub(super) async fn wifi_loop(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        let config = &self.config.occupancy.sealing;
        let mut seal_at = Instant::now() + self.config.sealing.every;
        let mut reopen_at = Instant::now() + config.reopen_every;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(seal_at.min(reopen_at).into()) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if Instant::now() >= reopen_at {
                let passed = self.reopen_pending().await;
                let wait = if matches!(passed, Ok(true)) { config.reopen_every.min(REOPEN_AGAIN) } else { config.reopen_every };
                self.note_pass(0, "late WiFi sessions could not be applied yet", passed.map(drop));
                reopen_at = Instant::now() + wait;
            }
            if self.wifi_sealing.reopened.lock().expect(NO_PANIC).stays >= reopen::STAYS_MAX {
                seal_at = Instant::now();
            }
            if Instant::now() >= seal_at {
                let passed = match self.seal_stays().await {
                    Ok(()) => self.keep_up().await,
                    failed => failed,
                };
                self.note_pass(1, "WiFi sessions could not be sealed", passed);
                seal_at = Instant::now() + self.config.sealing.every;
            }
        }
    }

    fn note_pass(&self, kind: usize, what: &str, passed: Result<(), ServiceError>) {
        if let Err(error) = &passed {
            tracing::warn!(%error, "{what}; it will be tried again");
        }
        self.wifi_sealing.gauges.lock().expect(NO_PANIC).errors[kind] = passed.err().map(|error| error.to_string());
    }

    /// Nothing before the log has the settings of the source.
    fn wifi_sealed(&self) -> Option<Sealed> {
        let fold = self.fold.read().expect(NO_PANIC);
        let (source, state) = fold.sources.iter().find(|(_, state)| state.recorded && state.settings.wifi.is_some())?;
        Some(Sealed {
            source: *source,
            late_before: state.late_before,
            boundary: state.boundary,
            retained_from: state.retained_from,
            intervals: state.settings.wifi.as_ref().map(|wifi| wifi.intervals.clone()).unwrap_or_default(),
            stays: state.cold_stays.clone(),
            cells: state.cold_cells.clone(),
        })
    }

    /// Waits until the views have all that was committed.
    async fn settled(&self) -> Result<(), ServiceError> {
        self.wait_applied(self.committed.load(Ordering::Acquire), self.config.peek_deadline).await
    }

    /// The workers' parts of an answer, and what the first one says of everything.
    pub(super) async fn ask_occupancy(
        &self,
        query: OccupancyQuery,
    ) -> Result<(LogicalTime, Arc<Standing>, Vec<OccupancyAnswer>), ServiceError> {
        let (as_of, parts) = self.ask(Query::Occupancy(query)).await?;
        let mut standing = Arc::default();
        let mut answers = Vec::with_capacity(parts.len());
        for part in parts {
            if let Answer::Occupancy(mut answer) = part {
                standing = answer.standing.take().unwrap_or(standing);
                answers.push(answer);
            }
        }
        Ok((as_of, standing, answers))
    }
}

fn unreadable(error: ColdError) -> ServiceError {
    ServiceError::Unavailable(format!("cold parts: {error}"))
}
