//! Parquet: views as datasets on an object store, for DuckDB, pandas, Spark and the like.
//!
//! | view | files | one row per |
//! |---|---|---|
//! | events | `events/day=YYYY-MM-DD/data.parquet` | event, by its own time |
//! | sessions | `sessions/day=…/data.parquet` | session, by its start |
//! | minutes | `minutes/day=…/data.parquet` | minute, page and event type |
//! | journeys | `journeys/part-00.parquet` … `part-15.parquet` | user |
//! | context | `context/part-00.parquet` … `part-15.parquet` | user |
//! | clusters | `clusters/part-00.parquet` | cluster |
//! | catalog | `items/`, `products/`, `users/`, each `part-00.parquet` … `part-15.parquet` | item, product, user |
//!
//! Days are those of UTC. The columns stand in `docs/parquet.md`. Files are corrected in place: late and corrected
//! rows rewrite the days that they belong to, and those only. How that is atomic, exactly once and fenced is told in
//! [`desireline_connectors::dataset`].
//!
//! # Write amplification
//! A changeset rewrites every file that it touches, whole. Changes gather for `projection.parquet.gather` (a minute) first. Live events
//! touch the file of today of events, sessions and minutes, and up to 16 files of journeys: with a gather of g seconds and d bytes in
//! those, about d / g bytes per second are read and written. A rebuild gathers 200,000 rows before it writes.
//!
//! # Recovery
//! A target that is behind gets what it missed from the log. Files that have vanished, that have another size than they were written
//! with or that cannot be read are noticed ([`TargetError::Lost`]), and everything is built again; readers see the old files meanwhile.
//!
//! # Known limitations
//! - The tables' folders belong to the server: other `.parquet` files in them go with the next rebuild.
//! - An empty changeset is recorded at most once per gather: after a crash a little more of the log is read again.
//! - The paths of a journey grow with its user's sessions; a row is held in memory while it changes.

mod edits;
mod tables;

use super::changeset::Changeset;
use super::target::{Applied, CatchUp, Standing, Target, TargetError};
use async_trait::async_trait;
use desireline_connectors::dataset::{Commit, DatasetError, Datasets, Opened, Table};
use desireline_connectors::store::{Store, StoreError};
use desireline_dataflows::changes::{View, Views};
use desireline_records::LogicalTime;
use edits::{Edits, Settings};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Changes when rows are made in another way though columns stay the same.
const RULES: &str = "1";
/// Rows of a rebuild that gather before files are written.
const REBUILD_ROWS: usize = 200_000;
/// The files of a remote store are listed at most so often.
const LIST_EVERY: Duration = Duration::from_secs(60);

pub use tables::tables as tables_of;

#[derive(Clone)]
pub struct ParquetTargetConfig {
    /// A folder or `s3://bucket/prefix`.
    pub url: String,
    /// Options of the object store, by object_store's names.
    pub store_options: BTreeMap<String, String>,
    /// Views that become datasets.
    pub views: Views,
    pub gather: Duration,
}

pub struct ParquetTarget {
    config: ParquetTargetConfig,
    open: Option<Open>,
}

/// What there is of an open target.
struct Open {
    datasets: Datasets,
    local: bool,
    settings: Settings,
    /// Of a rebuild: what has gathered.
    gathered: Option<(Edits, LogicalTime)>,
    recorded: Instant,
    checked: Instant,
}

impl ParquetTarget {
    /// Does not look at the store yet.
    pub fn new(config: ParquetTargetConfig) -> Self {
        Self { config, open: None }
    }

    fn tables(&self) -> Vec<&'static Table> {
        self.config.views.iter().flat_map(|view| tables::tables(view).iter().copied()).collect()
    }

    fn opened(&mut self) -> Result<&mut Open, TargetError> {
        self.open.as_mut().ok_or_else(|| TargetError::Unavailable("the datasets are not open".to_owned()))
    }

    /// Brings the files to a time, in one commit.
    async fn commit(&mut self, edits: Edits, time: LogicalTime) -> Result<u64, TargetError> {
        let tables = self.tables();
        let open = self.opened()?;
        let (files, touched, resolve) = edits.into_parts(&tables, &open.settings);
        let notes = serde_json::to_value(&open.settings).map_err(|error| TargetError::Refused(error.to_string()))?;
        let rows = open.datasets.commit(Commit { time, notes, files, touched, resolve }).await.map_err(failed)?;
        open.recorded = Instant::now();
        Ok(rows)
    }

    /// Writes what a rebuild has gathered.
    async fn flush(&mut self) -> Result<u64, TargetError> {
        let gathered = self.opened()?.gathered.as_mut().map(|gathered| (std::mem::take(&mut gathered.0), gathered.1));
        match gathered {
            Some((edits, time)) => self.commit(edits, time).await,
            None => Ok(0),
        }
    }

    async fn try_apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let (views, gather) = (self.config.views, self.config.gather);
        let open = self.opened()?;
        let mut edits = match &mut open.gathered {
            Some((edits, time)) => {
                edits.add(changes, views, &mut open.settings);
                *time = changes.time;
                let full = edits.rows() >= REBUILD_ROWS;
                let rows = if full { self.flush().await? } else { 0 };
                return Ok(Applied { rows, refused: 0 });
            }
            None if changes.is_empty() && open.recorded.elapsed() < gather => return Ok(Applied::default()),
            None => Edits::default(),
        };
        edits.add(changes, views, &mut open.settings);
        Ok(Applied { rows: self.commit(edits, changes.time).await?, refused: 0 })
    }
}

/// What a failure of the datasets is to a follower.
fn failed(error: DatasetError) -> TargetError {
    let text = error.to_string();
    match error {
        DatasetError::Store(StoreError::Unavailable { .. }) | DatasetError::Changed { .. } => TargetError::Unavailable(text),
        DatasetError::Store(StoreError::NotFound { .. }) | DatasetError::Damaged { .. } => TargetError::Lost(text),
        DatasetError::Store(error) => TargetError::Refused(format!("{text}; {}", error.hint())),
        DatasetError::Fenced { own, newer } => TargetError::Fenced { own, newer },
        DatasetError::Version { .. } | DatasetError::Encode(_) => TargetError::Refused(text),
    }
}

#[async_trait]
impl Target for ParquetTarget {
    fn name(&self) -> &str {
        "parquet"
    }

    /// The paths of journeys are sessions.
    fn views(&self) -> Views {
        let views = self.config.views;
        if views.has(View::Journeys) { views.and(View::Sessions.into()) } else { views }
    }

    fn catch_up(&self) -> CatchUp {
        CatchUp::History
    }

    fn gather(&self) -> Duration {
        self.config.gather
    }

    fn rows_max(&self) -> usize {
        REBUILD_ROWS
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        self.open = None;
        let (url, options) = (self.config.url.clone(), self.config.store_options.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&url, &options)).await;
        let store = opened.map_err(|error| TargetError::Unavailable(error.to_string()))?.map_err(|error| failed(error.into()))?;
        let local = store.is_local();
        let (datasets, opened) = Datasets::open(store, &self.tables(), RULES, epoch).await.map_err(failed)?;
        let (standing, settings) = match opened {
            Opened::At(time, notes) => match serde_json::from_value(notes) {
                Ok(settings) => (Standing::At(time), settings),
                Err(_) => (Standing::Fresh, Settings::new()),
            },
            Opened::Fresh => (Standing::Fresh, Settings::new()),
        };
        let now = Instant::now();
        self.open = Some(Open { datasets, local, settings, gathered: None, recorded: now, checked: now });
        Ok(standing)
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        let open = self.opened()?;
        open.datasets.begin_rebuild().await.map_err(failed)?;
        open.settings.clear();
        open.gathered = Some((Edits::default(), 0));
        Ok(())
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let applied = self.try_apply(changes).await;
        if applied.is_err() {
            // What is known of the files may be wrong now: only opening them again tells.
            self.open = None;
        }
        applied
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        self.flush().await?;
        let open = self.opened()?;
        let notes = serde_json::to_value(&open.settings).map_err(|error| TargetError::Refused(error.to_string()))?;
        open.datasets.finish_rebuild(time, notes).await.map_err(failed)?;
        open.gathered = None;
        Ok(())
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        let open = self.opened()?;
        if !open.local && open.checked.elapsed() < LIST_EVERY {
            return Ok(());
        }
        open.checked = Instant::now();
        open.datasets.check().await.map_err(failed)
    }
}
