//! What some rows of the log were counted as: applied, duplicate, taken back.
//!
//! Rows that leave the log leave their counts behind, or the counts of a source would not add up. What a row was counted as depends on
//! what was known of its session at the time, so the rows are worked off once more, by the views themselves, with all records that have a
//! say in it. Sessions do not influence one another's counts, so those of the others can be left out.

use super::{Inner, ServiceError};
use desireline_connectors::log::LogError;
use desireline_dataflows::query::{Answer, Query, merge_sources};
use desireline_dataflows::{Engine, EngineConfig, EngineError};
use desireline_records::{Batch, Control, Event, LogicalTime, Micros, Purged, SourceId};
use ecow::EcoString;
use futures::StreamExt;
use std::sync::Arc;

/// Rows decoded at once while the log is read.
const SCAN_ROWS: usize = 32_768;

/// Which rows.
#[derive(Clone, Debug)]
pub(in super::super) enum Rows {
    OfDevice(EcoString),
    /// Of sessions that began before a time.
    Before(Micros),
}

#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Recount {
    pub rows: u64,
    /// Sessions in records that brought some back.
    pub reopened: u64,
    pub counts: Purged,
}

impl Rows {
    fn has(&self, device: &EcoString, start: Micros) -> bool {
        match self {
            Self::OfDevice(one) => one == device,
            Self::Before(before) => start < *before,
        }
    }

    /// The part of a batch that has a say in what the rows are counted as.
    fn part_of(&self, batch: Batch, source: SourceId, recount: &mut Recount) -> Batch {
        let Batch { time, mut events, controls, tick, .. } = batch;
        events.retain(|event: &Event| event.source == source && self.has(&event.user, event.time));
        recount.rows += events.len() as u64;
        let controls = controls.into_iter().filter_map(|control| self.part_of_control(control, source, recount)).collect();
        Batch { time, events, controls, tick, ..Batch::default() }
    }

    fn part_of_control(&self, control: Control, source: SourceId, recount: &mut Recount) -> Option<Control> {
        Some(match control {
            Control::Settings(settings) if settings.source == source => Control::Settings(settings),
            Control::SealFrom(from) => Control::SealFrom(from),
            Control::SealStays(mut seal) => {
                (seal.stays, seal.cells) = (Vec::new(), Vec::new());
                Control::SealStays(seal)
            }
            Control::Reopen(mut reopen) => {
                for named in &mut reopen.devices {
                    named.stays.retain(|stay| self.has(&named.device, stay.start));
                    recount.reopened += named.stays.len() as u64;
                }
                Control::Reopen(reopen)
            }
            Control::DeleteEvent { source: of, id } if of == source => Control::DeleteEvent { source, id },
            // Counts of rows that have left before stay where they are.
            Control::Erase(erase) if erase.source == source && !erase.user.is_empty() => Control::Erase(erase),
            _ => return None,
        })
    }
}

impl Inner {
    /// What rows of the source of WiFi sessions were counted as up to a logical time.
    pub(in super::super) async fn recount(&self, source: SourceId, rows: Rows, until: LogicalTime) -> Result<Recount, ServiceError> {
        let (runtime, mut batches) = (tokio::runtime::Handle::current(), self.reader.batches_ending(0, SCAN_ROWS, vec![until]));
        let working = tokio::task::spawn_blocking(move || {
            let engine = Engine::start(EngineConfig { workers: 1, ..EngineConfig::default() }).map_err(failed)?;
            let mut recount = Recount::default();
            while let Some(batch) = runtime.block_on(batches.next()) {
                let batch = batch.map_err(unreadable)?;
                if batch.time > until {
                    break;
                }
                engine.submit(Arc::new(rows.part_of(batch, source, &mut recount)), drop).map_err(failed)?;
            }
            let (_, answers) = engine.ask(Query::Overview).map_err(failed)?;
            engine.stop();
            let sources =
                answers.into_iter().flat_map(|answer| if let Answer::Overview { sources, .. } = answer { sources } else { Vec::new() });
            if let Some((_, state)) = merge_sources(sources).into_iter().find(|(id, _)| *id == source) {
                let counts = state.counts;
                (recount.counts.applied, recount.counts.duplicate) = (counts.applied, counts.duplicate);
                (recount.counts.late, recount.counts.deleted) = (counts.late, counts.deleted);
            }
            Ok(recount)
        });
        working.await.map_err(|error| ServiceError::Internal(error.to_string()))?
    }
}

fn unreadable(error: LogError) -> ServiceError {
    ServiceError::Unavailable(format!("the log cannot be read: {error}"))
}

fn failed(error: EngineError) -> ServiceError {
    ServiceError::Internal(error.to_string())
}
