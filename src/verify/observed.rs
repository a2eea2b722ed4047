//! The views of a stopped server: an engine of our own over its log, and its cold parts.

use super::{Counters, JourneyLine, Lines, Observed, SCAN_ROWS, SessionLine, Slice, VerifyError};
use desireline_connectors::cold::{self, ColdSession};
use desireline_connectors::log::LogReader;
use desireline_connectors::store::Store;
use desireline_dataflows::query::{Answer, Query, UserAnswer, UserQuery, merge_sources, merge_users};
use desireline_dataflows::views::journeys::Journey;
use desireline_dataflows::views::sessions::source::SourceState;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::fixed::sum_to_f64;
use desireline_records::{LogicalTime, Micros, SourceId};
use ecow::EcoString;
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Users answered at once.
const PAGE_USERS: usize = 10_000;

pub struct Local {
    reader: LogReader,
    pub(super) store: Store,
    engine: Arc<Engine>,
    sources: BTreeMap<SourceId, SourceState>,
}

type Cold = HashMap<(SourceId, EcoString), Vec<ColdSession>>;

impl Local {
    pub fn new(reader: LogReader, store: Store, workers: usize) -> Result<Self, VerifyError> {
        let engine = Engine::start(EngineConfig { workers, ..EngineConfig::default() })?;
        Ok(Self { reader, store, engine: Arc::new(engine), sources: BTreeMap::new() })
    }

    pub(super) async fn ask(&self, query: Query) -> Result<(LogicalTime, Vec<Answer>), VerifyError> {
        let engine = self.engine.clone();
        let asked = tokio::task::spawn_blocking(move || engine.ask(query)).await;
        Ok(asked.map_err(|error| VerifyError::Server(error.to_string()))??)
    }

    /// The sealed sessions of the users of a slice, from the store.
    async fn cold(&self, slice: Slice) -> Result<Cold, VerifyError> {
        let mut sealed = Cold::new();
        for (source, state) in &self.sources {
            let mut from = 0;
            loop {
                let rows = cold::read_range(&self.store, &state.cold, from, u64::MAX, PAGE_USERS).await;
                let rows = rows.map_err(|error| VerifyError::Cold(error.to_string()))?;
                let last = rows.last().map(|row| row.key_hash);
                for row in rows {
                    let erased = state.erased.get(&row.user).is_some_and(|at| row.exported_at <= *at);
                    if row.source == *source && !erased && slice.holds(row.source, &row.user) {
                        sealed.entry((row.source, row.user.clone())).or_default().push(row);
                    }
                }
                match last.and_then(|hash| hash.checked_add(1)) {
                    Some(next) => from = next,
                    None => break,
                }
            }
        }
        Ok(sealed)
    }
}

impl Observed for Local {
    /// Replays the log into the engine.
    async fn begin(&mut self) -> Result<LogicalTime, VerifyError> {
        let mut batches = self.reader.batches(0, SCAN_ROWS);
        let mut last = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            last = batch.time;
            let engine = self.engine.clone();
            let submitted = tokio::task::spawn_blocking(move || engine.submit(Arc::new(batch), drop)).await;
            submitted.map_err(|error| VerifyError::Server(error.to_string()))??;
        }
        let (_, parts) = self.ask(Query::Overview).await?;
        let states = parts.into_iter().flat_map(|part| if let Answer::Overview { sources, .. } = part { sources } else { Vec::new() });
        self.sources = merge_sources(states).into_iter().collect();
        Ok(last)
    }

    async fn users(&mut self, slice: Slice) -> Result<Lines, VerifyError> {
        let mut lines = Lines::default();
        let mut cold = self.cold(slice).await?;
        let mut after = None;
        loop {
            let query = UserQuery { after: after.clone(), sessions_max: usize::MAX, users_max: PAGE_USERS, ..UserQuery::default() };
            let (_, parts) = self.ask(Query::Users(query)).await?;
            let (users, more) = merge_users(parts);
            for user in users.into_iter().filter(|user| slice.holds(user.source, &user.user)) {
                let key = (user.source, user.user.clone());
                let by_value = self.sources.get(&user.source).is_some_and(|s| s.settings.transaction_value);
                let sealed = cold.remove(&key).unwrap_or_default();
                let (sessions, journey) = user_lines(&user, &sealed, by_value);
                lines.sessions.insert(key.clone(), sessions);
                lines.journeys.insert(key, journey);
            }
            match more {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        // Cold rows of users that no view knows are differences, too.
        for (key, rows) in cold {
            lines.sessions.insert(key, rows.iter().map(cold_line).collect());
        }
        Ok(lines)
    }

    async fn totals(&mut self) -> Result<Lines, VerifyError> {
        let mut lines = Lines::default();
        let (_, parts) = self.ask(Query::Minutes { source: None, from: 0 }).await?;
        for part in parts {
            let Answer::Minutes(cells) = part else { continue };
            for cell in cells {
                let key = (cell.source, cell.minute, cell.page, cell.event_type);
                lines.minutes.insert(key, (cell.count, sum_to_f64(cell.revenue)));
            }
        }
        let (cells, standing) = self.cells().await?;
        (lines.cells, lines.standing) = (cells, Some(standing));
        for (source, state) in &self.sources {
            let c = &state.counts;
            let counters = Counters {
                received: c.received,
                applied: c.applied,
                duplicate: c.duplicate,
                conflict: c.conflict,
                late: c.late,
                pending: c.pending,
                quarantined: c.quarantined,
                rejected: c.rejected,
                deleted: c.deleted,
            };
            lines.counts.insert(*source, counters);
        }
        Ok(lines)
    }

    fn minutes_range(&self) -> (Micros, Micros) {
        (Micros::MIN, Micros::MAX)
    }

    async fn end(&mut self, _until: LogicalTime) -> Result<(), VerifyError> {
        Ok(())
    }
}

fn cold_line(row: &ColdSession) -> SessionLine {
    SessionLine {
        start: row.start,
        end: row.end,
        events: row.event_count.into(),
        views: row.views.into(),
        carts: row.carts.into(),
        transactions: row.transactions.into(),
        value: sum_to_f64(row.value),
        sealed: true,
    }
}

fn user_lines(user: &UserAnswer, sealed: &[ColdSession], by_value: bool) -> (Vec<SessionLine>, JourneyLine) {
    let mut sessions: Vec<SessionLine> = sealed.iter().map(cold_line).collect();
    let path = |row: &ColdSession| Journey::new(row.views.into(), row.carts.into(), row.transactions.into(), 1, row.value).state(by_value);
    let mut paths: Vec<[f64; 3]> = sealed.iter().map(path).collect();
    for open in &user.sessions {
        sessions.push(SessionLine {
            start: open.start,
            end: open.end,
            events: open.events,
            views: open.path.views as u64,
            carts: open.path.carts as u64,
            transactions: open.path.transactions as u64,
            value: sum_to_f64(open.path.value()),
            sealed: false,
        });
        paths.push(open.path.state(by_value));
    }
    let journey = JourneyLine {
        state: user.journey.state(by_value),
        paths,
        sessions: user.journey.sessions as u64,
        features: user.journey.features(by_value),
        cluster: user.cluster,
    };
    (sessions, journey)
}
