//! The views of a running server, asked over HTTP.

use super::{Counters, JourneyLine, Lines, Observed, SessionLine, Slice, VerifyError};
use crate::cli::client::Client;
use crate::http::wire::{AggregatesReply, JourneysReply, SessionsReply, StatusReply, UserId};
use desireline_records::time::{MINUTE, now_micros, parse_time};
use desireline_records::{LogicalTime, Micros, SourceId};
use ecow::EcoString;
use serde::de::DeserializeOwned;

/// Rows of one page.
const PAGE: usize = 10_000;
/// How far back minutes can be asked for, less a margin for the time that the comparison takes.
const MINUTES_BACK: i64 = 1_440;
const MARGIN: i64 = 30;

pub struct Remote {
    client: Client,
    before: Vec<(SourceId, Counters)>,
    minutes_from: Micros,
}

impl Remote {
    pub fn new(client: Client) -> Self {
        Self { client, before: Vec::new(), minutes_from: 0 }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, VerifyError> {
        let value = self.client.get(path).await.map_err(|failure| VerifyError::Server(failure.primary))?;
        serde_json::from_value(value).map_err(|error| VerifyError::Server(format!("{path}: {error}")))
    }

    async fn counters(&self) -> Result<(LogicalTime, Vec<(SourceId, Counters)>), VerifyError> {
        let status: StatusReply = self.get("/api/status").await?;
        let counters = status.sources.iter().map(|source| {
            let c = &source.counters;
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
            (source.source_id, counters)
        });
        Ok((status.as_of, counters.collect()))
    }
}

fn text(id: UserId) -> EcoString {
    match id {
        UserId::Int(number) => ecow::eco_format!("{number}"),
        UserId::Text(text) => text.into(),
    }
}

fn micros(text: &str) -> Result<Micros, VerifyError> {
    parse_time(text).ok_or_else(|| VerifyError::Server(format!("`{text}` is not a time")))
}

impl Observed for Remote {
    async fn begin(&mut self) -> Result<LogicalTime, VerifyError> {
        let (as_of, counters) = self.counters().await?;
        self.before = counters;
        self.minutes_from = now_micros() - (MINUTES_BACK - MARGIN) * MINUTE;
        Ok(as_of)
    }

    async fn users(&mut self, slice: Slice) -> Result<Lines, VerifyError> {
        let mut lines = Lines::default();
        let mut cursor = String::new();
        loop {
            let page: SessionsReply = self.get(&format!("/api/sessions?limit={PAGE}{cursor}")).await?;
            for session in page.sessions {
                let user = text(session.user_id);
                if !slice.holds(session.source_id, &user) {
                    continue;
                }
                let line = SessionLine {
                    start: micros(&session.start)?,
                    end: micros(&session.end)?,
                    events: session.event_count,
                    views: session.views,
                    carts: session.carts,
                    transactions: session.transactions,
                    value: session.value,
                    sealed: session.sealed,
                };
                lines.sessions.entry((session.source_id, user)).or_default().push(line);
            }
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        cursor.clear();
        loop {
            let page: JourneysReply = self.get(&format!("/api/journeys?limit={PAGE}{cursor}")).await?;
            for journey in page.journeys {
                let user = text(journey.user_id);
                if !slice.holds(journey.source_id, &user) {
                    continue;
                }
                let line = JourneyLine {
                    state: journey.state,
                    paths: journey.paths,
                    sessions: journey.session_count,
                    features: journey.features,
                    cluster: journey.cluster_id,
                };
                lines.journeys.insert((journey.source_id, user), line);
            }
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(lines),
            }
        }
    }

    async fn totals(&mut self) -> Result<Lines, VerifyError> {
        let mut lines = Lines::default();
        let reply: AggregatesReply = self.get(&format!("/api/metrics/aggregates?minutes={MINUTES_BACK}")).await?;
        for item in reply.items {
            let key = (item.source_id, micros(&item.window_start)?, item.page.into(), item.event_type.into());
            lines.minutes.insert(key, (item.count, item.revenue));
        }
        lines.counts = self.counters().await?.1.into_iter().collect();
        Ok(lines)
    }

    fn minutes_range(&self) -> (Micros, Micros) {
        (self.minutes_from, Micros::MAX)
    }

    async fn end(&mut self, _until: LogicalTime) -> Result<(), VerifyError> {
        let (_, after) = self.counters().await?;
        if after == self.before { Ok(()) } else { Err(VerifyError::Moving) }
    }
}
