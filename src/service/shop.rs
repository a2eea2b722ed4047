//! The shop behind the events: its catalog, and what its users did lately.

use super::{At, NO_PANIC, Service, ServiceError};
use desireline_dataflows::changes::ContextRow;
use desireline_dataflows::query::{Answer, Query};
use desireline_dataflows::views::catalog::Catalog;
use desireline_records::{CatalogEntry, Control, LogicalTime, Progress, SourceId, Token};
use ecow::EcoString;

/// Entries that one commit takes; more are divided.
const ENTRIES_PER_COMMIT: usize = 10_000;

impl Service {
    /// Makes entries of the catalog durable and waits until every view knows them. A later entry of a key replaces an earlier one.
    pub async fn put_catalog(&self, entries: Vec<CatalogEntry>) -> Result<Token, ServiceError> {
        self.inner.must_be_ready()?;
        let mut token = Err(ServiceError::Invalid { field: "items", detail: "must hold at least one entry".to_owned() });
        for chunk in entries.chunks(ENTRIES_PER_COMMIT) {
            let controls = chunk.iter().cloned().map(Control::Catalog).collect();
            token = self.inner.commit(Progress { controls, ..Progress::default() }).await;
            if token.is_err() {
                break;
            }
        }
        let token = token?;
        self.inner.wait_applied(token.time, self.inner.config.peek_deadline).await?;
        Ok(token)
    }

    /// Reads the catalog as the log has it. Short: commits wait meanwhile.
    pub fn with_catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.inner.fold.read().expect(NO_PANIC).catalog)
    }

    /// What a user did lately; nothing when the source keeps no contexts or the user has none. Whether it has expired is for the
    /// caller to see.
    pub async fn context(
        &self,
        source: SourceId,
        user: EcoString,
        at_least: Option<Token>,
    ) -> Result<At<Option<ContextRow>>, ServiceError> {
        self.inner.must_be_ready()?;
        if let Some(token) = at_least {
            self.inner.wait_applied(token.time, self.inner.config.peek_deadline).await?;
        }
        let (as_of, parts) = self.inner.ask(Query::Context { source, user }).await?;
        let row = parts.into_iter().find_map(|part| if let Answer::Context(row) = part { row } else { None });
        Ok(At { as_of, value: row })
    }
}

/// What projections need.
impl Service {
    /// Whether an operator has paused the projection.
    pub fn projection_paused(&self, name: &str) -> bool {
        self.inner.fold.read().expect(NO_PANIC).paused_projections.contains(name)
    }

    /// Pauses or resumes a projection, also over restarts.
    pub async fn pause_projection(&self, name: &str, paused: bool) -> Result<Token, ServiceError> {
        self.inner.commit_control(Control::Projection { name: name.into(), paused }).await
    }

    /// The epoch of this server's hold on the log: larger than that of every server before it.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The time of the last erasure whose user the log does not name any more.
    pub fn erased_until(&self) -> LogicalTime {
        self.inner.fold.read().expect(NO_PANIC).erased_until
    }

    /// The time of the last durable batch.
    pub fn last_committed(&self) -> LogicalTime {
        self.inner.committed.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Reads the log; for followers that have to catch up.
    pub fn log_reader(&self) -> desireline_connectors::log::LogReader {
        self.inner.reader.clone()
    }

    /// What a private engine needs to be like the server's own.
    pub fn engine_config(&self) -> desireline_dataflows::EngineConfig {
        desireline_dataflows::EngineConfig { workers: 1, max_open_events: self.inner.config.max_open_events, ..Default::default() }
    }
}
