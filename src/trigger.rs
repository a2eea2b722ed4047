//! `POST /trigger`: a file of events becomes events, journeys and clusters, as one run of the job [`JOB_NAME`].
//!
//! What it promises:
//! - **Repeatable.** Rows have an identity of their own: the same file again adds nothing, a file that has grown adds its new
//!   rows. Two runs for one source go one after the other.
//! - **Resumable.** The rows of a chunk and the number of rows read become durable together, under the partition
//!   `file:<run id>`. After a restart, or after the log refused, reading goes on behind the last durable row.
//! - **Held.** From before the first row until after the last the source's watermark stands still, so that no row of the file
//!   is late because of another. The hold is given back however the run ends, also when that takes a restart.
//! - **Bounded.** Three chunks of rows in memory: one that is committed, one that is ready and one that is being read, on a
//!   thread of its own. A commit waits while the queues are full.
//! - **Confined.** The file has to lie in one of the allowed folders, all links followed.
//!
//! # Steps
//! | step | does | tried again |
//! |---|---|---|
//! | `save_events` | reads the file into the log, waits until the views have it | once, after 2 s |
//! | `load_journeys` | says how many journeys there are | 3 times, 5 s apart, within 90 s each |
//! | `cluster_journeys` | trains the clusters on all journeys, in two passes for an initial flow | likewise |
//!
//! In the format `ampelios` user ids are numbers: a source that nothing is known of is introduced as such.
//!
//! Each leaves a record `{status, message, count}` in the run's result, with the status `success` or `skipped`. An error ends
//! the run. Rows that cannot be accepted are dead letters and end nothing.
//!
//! # Recovery
//! The checkpoint has the step that the run is in, the counters of the source before the first row and the fingerprint of the
//! file. A file that has changed between two attempts fails the run; a new run finds out by itself which rows are new.
//!
//! # Known limitations
//! - How many rows were new is the difference of the source's counters: rows that reach the source by other ways during the
//!   load are counted with them, up to the number of rows in the file.
//! - Between the check of the path and the opening of the file its folder could be exchanged by somebody with access to it.
//! - A run that is cancelled leaves the rows that it has loaded.

mod files;
mod target;
#[cfg(test)]
mod tests;

pub use target::{LoadTarget, SourceCounts};

use crate::runs::{Job, LogLevel, NewRun, RetryPolicy, RunContext, RunError, RunId, Runs, RunsError, StepPolicy};
use crate::service::{ServiceError, SourceCounters};
use async_trait::async_trait;
use desireline_connectors::csv::{CsvChunk, CsvError, CsvOptions, CsvReader, fingerprint, spawn_reader};
use desireline_connectors::formats::Format;
use desireline_records::time::now_micros;
use desireline_records::{Control, PartitionKey, PartitionState, Progress, SourceId, Token, UserIdType};
use ecow::eco_format;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The name under which the job is registered and its runs are listed.
pub const JOB_NAME: &str = "ingest_csv_job";

const SAVE: &str = "save_events";
const LOAD: &str = "load_journeys";
const CLUSTER: &str = "cluster_journeys";

/// While rows that are durable already are passed over: after so many, whether to go on is asked.
const SKIP_ROWS: u64 = 262_144;

/// What is asked for; also the parameters of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerRequest {
    pub source_id: SourceId,
    pub events_path: String,
    /// The first run for this site: the clusters are trained in two passes.
    #[serde(default)]
    pub is_initial_flow: bool,
    #[serde(default = "ampelios")]
    pub format: Format,
}

fn ampelios() -> Format {
    Format::Ampelios
}

/// The settings of the job.
#[derive(Clone, Debug)]
pub struct TriggerConfig {
    /// Folders from which files may be read.
    pub allowed_folders: Vec<PathBuf>,
    /// Rows in one commit (50,000).
    pub chunk_rows: usize,
    /// Rows in one file, at most (500 million).
    pub rows_max: u64,
    /// One more try after 2 s; no time limit.
    pub save: StepPolicy,
    /// Three more tries, 5 s apart with a jitter of 0.2, within 90 s each; also while the views take the rows in.
    pub load: StepPolicy,
}

impl Default for TriggerConfig {
    fn default() -> Self {
        Self {
            allowed_folders: Vec::new(),
            chunk_rows: 50_000,
            rows_max: 500_000_000,
            save: StepPolicy { retries: RetryPolicy::every(1, Duration::from_secs(2), 0.0), timeout: None },
            load: StepPolicy { retries: RetryPolicy::every(3, Duration::from_secs(5), 0.2), timeout: Some(Duration::from_secs(90)) },
        }
    }
}

/// Submits a run; it may wait for others of its source. Whether the file can be read shows in the run.
pub async fn trigger(runs: &Runs, request: TriggerRequest) -> Result<RunId, RunsError> {
    let params = json!(request);
    let serial_key = Some(format!("source:{}", request.source_id));
    runs.submit(NewRun { job_name: JOB_NAME.to_owned(), params, serial_key, ..NewRun::default() }).await
}

/// Makes the job known.
pub fn register(runs: &Runs, config: TriggerConfig, target: Arc<dyn LoadTarget>) {
    runs.register(JOB_NAME, Arc::new(IngestCsv { config, target }));
}

struct IngestCsv {
    config: TriggerConfig,
    target: Arc<dyn LoadTarget>,
}

/// The note that a run makes for its next attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
enum Note {
    /// The hold has been asked for, or is about to be.
    Holding,
    Loading {
        file: String,
        before: Counts,
    },
    /// All rows are durable and the hold is given back; `token` is the last batch.
    Loaded {
        before: Counts,
        rows: u64,
        token: String,
    },
}

/// What the source's counters said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    applied: u64,
    duplicate: u64,
    refused: u64,
}

impl From<SourceCounters> for Counts {
    fn from(counters: SourceCounters) -> Self {
        let SourceCounters { applied, duplicate, quarantined, rejected, .. } = counters;
        Self { applied, duplicate, refused: quarantined + rejected }
    }
}

/// What a step answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct StepResult {
    status: &'static str,
    message: String,
    count: u64,
}

impl StepResult {
    fn new(status: &'static str, message: impl Into<String>, count: u64) -> Self {
        Self { status, message: message.into(), count }
    }

    fn no_journeys() -> Self {
        Self::new("skipped", "WiFi sessions make no journeys", 0)
    }
}

#[async_trait]
impl Job for IngestCsv {
    async fn run(&self, ctx: RunContext, params: &Value) -> Result<Value, RunError> {
        let load = Load::new(self, &ctx, params)?;
        let (before, rows, token) = match note(&ctx)? {
            Some(Note::Loaded { before, rows, token }) => (before, rows, token),
            _ => load.save_events().await?,
        };
        load.wait_applied(&token).await?;
        let saved = load.saved(before, rows).await?;
        let (journeys, clusters) = match load.request.format {
            Format::Wifi => (StepResult::no_journeys(), StepResult::no_journeys()),
            _ => (load.load_journeys(saved.new).await?, load.cluster_journeys().await?),
        };
        Ok(json!({
            "source_id": load.request.source_id,
            "rows": rows,
            "new": saved.new,
            "duplicates": saved.duplicates,
            "refused": saved.refused,
            SAVE: saved.result,
            LOAD: journeys,
            CLUSTER: clusters,
        }))
    }

    fn resumable(&self) -> bool {
        true
    }

    /// Gives the hold back.
    async fn settle(&self, ctx: RunContext, params: &Value) -> Result<(), RunError> {
        match note(&ctx)? {
            None | Some(Note::Loaded { .. }) => Ok(()),
            Some(_) => Load::new(self, &ctx, params)?.release().await.map(drop),
        }
    }
}

fn note(ctx: &RunContext) -> Result<Option<Note>, RunError> {
    let unreadable = |error| RunError::internal("checkpoint", format!("the checkpoint cannot be read: {error}"));
    ctx.last_checkpoint().map(serde_json::from_value).transpose().map_err(unreadable)
}

/// What became of the rows.
struct Saved {
    new: u64,
    duplicates: u64,
    refused: u64,
    result: StepResult,
}

/// One attempt at one file.
struct Load<'a> {
    config: &'a TriggerConfig,
    target: &'a dyn LoadTarget,
    ctx: &'a RunContext,
    request: TriggerRequest,
    partition: PartitionKey,
}

impl<'a> Load<'a> {
    fn new(job: &'a IngestCsv, ctx: &'a RunContext, params: &Value) -> Result<Self, RunError> {
        let unreadable = |error| RunError::user("params", format!("the parameters cannot be read: {error}"));
        let request = TriggerRequest::deserialize(params).map_err(unreadable)?;
        let wifi = job.target.validator().wifi.as_ref().map(|rules| rules.source);
        if (request.format == Format::Wifi) != (wifi == Some(request.source_id)) {
            let source = wifi.map_or_else(|| "none".to_owned(), |source| source.to_string());
            let message = format!("WiFi sessions, and nothing else, belong to the source of `wifi.source_id`, which is {source}");
            return Err(RunError::user("source", message));
        }
        let partition = eco_format!("file:{}", ctx.run_id());
        Ok(Self { config: &job.config, target: &*job.target, ctx, request, partition })
    }

    /// Answers the counters before, the number of rows and the token of the last batch.
    async fn save_events(&self) -> Result<(Counts, u64, String), RunError> {
        let (before, rows) = self.ctx.step(SAVE, &self.config.save, || self.load_file()).await?;
        let token = self.ctx.step(SAVE, &self.config.save, || self.release()).await?.to_string();
        self.ctx.checkpoint(json!(Note::Loaded { before, rows, token: token.clone() })).await?;
        self.ctx.log(LogLevel::Info, SAVE, format!("{rows} rows read and durable"));
        Ok((before, rows, token))
    }

    /// One try: from wherever the log has the file to its end.
    async fn load_file(&self) -> Result<(Counts, u64), RunError> {
        let durable = self.target.rows_durable(self.request.source_id, &self.partition).unwrap_or(0);
        let (reader, file) = self.open(durable).await?;
        let before = match note(self.ctx)? {
            Some(Note::Loading { file: known, .. }) if known != file => {
                let message = format!("{} has changed while it was being loaded; trigger it again", self.request.events_path);
                return Err(RunError::user("file_changed", message));
            }
            Some(Note::Loading { before, .. }) => before,
            _ => self.hold(file).await?,
        };
        if durable > 0 {
            self.ctx.log(LogLevel::Info, SAVE, format!("goes on after {durable} rows"));
        }
        let rows = self.commit_chunks(reader, durable).await?;
        Ok((before, rows))
    }

    async fn open(&self, skip: u64) -> Result<(CsvReader, String), RunError> {
        let mut options = CsvOptions::new(self.request.source_id, self.request.format);
        options.chunk_rows = self.config.chunk_rows.max(1);
        options.rows_max = self.config.rows_max;
        options.partition = Some(self.partition.clone());
        let (name, folders, ctx) = (self.request.events_path.clone(), self.config.allowed_folders.clone(), self.ctx.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let path = files::allowed_file(&name, &folders)?;
            let file = fingerprint(&path).map_err(|_| files::cannot_be_parsed(&name))?;
            let mut reader = CsvReader::open(&path, options).map_err(|error| unreadable(&name, &error))?;
            while reader.rows() < skip {
                ctx.check()?;
                let passed = reader.skip_rows(SKIP_ROWS.min(skip - reader.rows())).map_err(|error| unreadable(&name, &error))?;
                if passed == 0 {
                    break;
                }
            }
            Ok((reader, file.to_string()))
        });
        opened.await.map_err(|error| RunError::internal("panicked", format!("the file reader panicked: {error}")))?
    }

    /// Stops the watermark, and answers the counters when everything before that has been applied.
    async fn hold(&self, file: String) -> Result<Counts, RunError> {
        self.ctx.checkpoint(json!(Note::Holding)).await?;
        let source = self.request.source_id;
        if self.request.format == Format::Ampelios {
            self.target.introduce_source(source, UserIdType::Int).await?;
        }
        let hold = PartitionState::Hold { source, partition: self.partition.clone() };
        let controls = vec![Control::Partition(hold)];
        let token = self.target.commit(Progress { controls, ..Progress::default() }).await?;
        self.wait_applied(&token.to_string()).await?;
        let before = self.counters().await?.into();
        self.ctx.checkpoint(json!(Note::Loading { file, before })).await?;
        Ok(before)
    }

    /// The next chunk is read while this one is committed.
    async fn commit_chunks(&self, reader: CsvReader, durable: u64) -> Result<u64, RunError> {
        let started = |error| RunError::external("thread", format!("no thread for the file reader: {error}"));
        let mut chunks = spawn_reader(reader, self.target.validator(), now_micros, 1).map_err(started)?;
        let mut rows = durable;
        while let Some(chunk) = chunks.recv().await {
            let chunk: CsvChunk = chunk.map_err(|error| unreadable(&self.request.events_path, &error))?;
            self.target.commit(chunk.progress).await.map_err(try_again)?;
            rows = chunk.rows;
            self.ctx.progress(chunk.bytes_read, chunk.bytes_total, "bytes");
        }
        Ok(rows)
    }

    /// The watermark moves again, and does not wait for this file any more.
    async fn release(&self) -> Result<Token, RunError> {
        let (source, partition) = (self.request.source_id, self.partition.clone());
        let release = PartitionState::Release { source, partition: partition.clone() };
        let idle = PartitionState::Idle { source, partition };
        let controls = vec![Control::Partition(release), Control::Partition(idle)];
        Ok(self.target.commit(Progress { controls, ..Progress::default() }).await?)
    }

    async fn wait_applied(&self, token: &str) -> Result<(), RunError> {
        let token: Token = token.parse().map_err(|()| RunError::internal("checkpoint", "the checkpoint has no token"))?;
        let wait = || async { Ok(self.target.wait_applied(token, self.apply_deadline()).await?) };
        self.ctx.step(SAVE, &self.config.load, wait).await
    }

    fn apply_deadline(&self) -> Duration {
        self.config.load.timeout.unwrap_or(Duration::from_secs(90))
    }

    async fn counters(&self) -> Result<SourceCounters, RunError> {
        Ok(self.target.source_counts(self.request.source_id).await?.map(|known| known.counters).unwrap_or_default())
    }

    async fn saved(&self, before: Counts, rows: u64) -> Result<Saved, RunError> {
        let counters = self.ctx.step(SAVE, &self.config.load, || self.counters()).await?;
        let after = Counts::from(counters);
        let new = after.applied.saturating_sub(before.applied).min(rows);
        let duplicates = after.duplicate.saturating_sub(before.duplicate).min(rows - new);
        let refused = after.refused.saturating_sub(before.refused).min(rows - new - duplicates);
        let details: Vec<String> = [(duplicates, "known already"), (refused, "refused")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!(", {count} {word}"))
            .collect();
        let result = if new == 0 && duplicates > 0 {
            StepResult::new("skipped", "Already parsed results", after.applied)
        } else {
            StepResult::new("success", format!("{new} events loaded"), new)
        };
        self.say(SAVE, &result, &details.concat());
        Ok(Saved { new, duplicates, refused, result })
    }

    async fn load_journeys(&self, new: u64) -> Result<StepResult, RunError> {
        let users = self.ctx.step(LOAD, &self.config.load, || self.users()).await?;
        let result = match new {
            0 => StepResult::new("skipped", "Ran out of unprocessed events", 0),
            _ => StepResult::new("success", format!("{users} user journeys written"), users),
        };
        self.say(LOAD, &result, "");
        Ok(result)
    }

    async fn users(&self) -> Result<u64, RunError> {
        Ok(self.target.source_counts(self.request.source_id).await?.map_or(0, |known| known.users))
    }

    async fn cluster_journeys(&self) -> Result<StepResult, RunError> {
        let passes = if self.request.is_initial_flow { 2 } else { 1 };
        let train = || async {
            let users = self.users().await?;
            if users == 0 {
                return Ok((StepResult::new("skipped", "Ran out of unclustered user journeys", 0), String::new()));
            }
            let report = self.target.train(self.request.source_id, passes).await?;
            let what = if report.published { "new" } else { "unchanged" };
            let details = format!("; model {} is {what}, trained on {} journeys", report.version, report.journeys);
            Ok((StepResult::new("success", format!("{users} user journeys clustered"), users), details))
        };
        let (result, details) = self.ctx.step(CLUSTER, &self.config.load, train).await?;
        self.say(CLUSTER, &result, &details);
        Ok(result)
    }

    fn say(&self, step_key: &str, result: &StepResult, details: &str) {
        self.ctx.log(LogLevel::Info, step_key, format!("{}: {}{details}", result.status, result.message));
    }
}

/// The position is not what the reader thought, because an earlier commit got through after all: the next try finds out.
fn try_again(error: ServiceError) -> RunError {
    match error {
        ServiceError::Conflict(detail) => RunError::external("conflict", detail),
        other => other.into(),
    }
}

fn unreadable(path: &str, error: &CsvError) -> RunError {
    let message = match error {
        CsvError::Header { detail, .. } => format!("{detail}: {path} cannot be parsed"),
        CsvError::TooManyRows { rows_max, .. } => format!("more than {rows_max} rows: {path} cannot be parsed"),
        CsvError::Io { source, .. } => format!("{source}: {path} cannot be parsed"),
    };
    if error.retryable() { RunError::external(error.code(), message) } else { RunError::user(error.code(), message) }
}
