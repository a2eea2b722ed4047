//! The runs of live labels: a whole evaluation of a matrix, and a fit of its label model.

use super::evaluate::{Evaluated, Failure, Things, evaluate, things};
use super::fitted::Fitted;
use super::wanted::Wanted;
use super::{Inner, Live};
use crate::concepts::record::{Id, LabelingFunction};
use crate::runs::{Job, LogLevel, NewRun, RunContext, RunError};
use crate::service::ServiceError;
use async_trait::async_trait;
use desireline_dataflows::views::labels::query::{After, MatrixFacts};
use desireline_records::labels::{MATRIX_ROWS_MAX, Votes};
use desireline_records::time::now_micros;
use desireline_records::{Control, LogicalTime, MatrixId, MatrixModel, MatrixRows};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Evaluates a matrix from the beginning.
pub const EVALUATE_JOB: &str = "evaluate_label_matrix_job";
/// Fits its label model anew.
pub const REFIT_JOB: &str = "label_model_refit_job";

/// Rows of a matrix that are compared with the index at a time.
const PAGE_ROWS: usize = 20_000;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Params {
    index_id: MatrixId,
    generation: u64,
}

pub(super) fn register(inner: &Arc<Inner>) {
    inner.runs.register(EVALUATE_JOB, Arc::new(Evaluate(Arc::downgrade(inner))));
    inner.runs.register(REFIT_JOB, Arc::new(Refit(Arc::downgrade(inner))));
}

impl Inner {
    /// Has a run begun for a matrix.
    pub(super) async fn submit(&self, job_name: &str, matrix: MatrixId, generation: u64) -> Result<(), String> {
        let run = NewRun {
            job_name: job_name.to_owned(),
            params: json!(Params { index_id: matrix, generation }),
            serial_key: Some(format!("labels/{matrix}")),
            ..NewRun::default()
        };
        self.runs.submit(run).await.map(drop).map_err(|error| error.to_string())
    }
}

impl From<Failure> for RunError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::Unavailable(_) => Self::external("lf_unavailable", text),
            Failure::Query { error, .. } => Self::user(error.code(), text),
            Failure::Column(_) => Self::user("no_column", text),
            Failure::Function { .. } => Self::user("lf_failed", text),
            Failure::TooMany(_) => Self::user("too_many", text),
            Failure::Internal(_) => Self::internal("evaluation", text),
        }
    }
}

fn unavailable(error: &ServiceError) -> RunError {
    RunError::external("log", error.to_string())
}

/// However a run ends, the keeper hears of it.
struct Ended<'a> {
    inner: &'a Inner,
    params: Params,
    end: fn(&mut Live),
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.inner.with(self.params.index_id, self.params.generation, self.end);
        self.inner.moved.notify_one();
    }
}

fn params(params: &Json) -> Result<Params, RunError> {
    serde_json::from_value(params.clone()).map_err(|error| RunError::internal("params", error.to_string()))
}

/// The matrix has become another one since the run was asked for.
fn superseded() -> Json {
    json!({"superseded": true})
}

struct Evaluate(Weak<Inner>);

#[async_trait]
impl Job for Evaluate {
    async fn run(&self, ctx: RunContext, given: &Json) -> Result<Json, RunError> {
        let inner = self.0.upgrade().ok_or_else(RunError::stopped)?;
        let params = params(given)?;
        let Some(wanted) = inner.with(params.index_id, params.generation, |live| Arc::clone(&live.wanted)) else { return Ok(superseded()) };
        let end = |live: &mut Live| {
            live.evaluating = false;
            live.whole_at = Some(Instant::now());
        };
        let _ended = Ended { inner: &inner, params, end };
        match inner.whole(&ctx, &wanted, params.generation).await {
            Ok((through, things)) => {
                inner.with(params.index_id, params.generation, |live| {
                    live.through = through.max(live.through);
                    live.whole_wanted = false;
                    live.pause = super::Pause::default();
                });
                Ok(json!({"index_id": params.index_id, "things": things, "as_of": through}))
            }
            Err(error) => {
                let text = error.to_string();
                inner.with(params.index_id, params.generation, |live| live.pause.failed(&text));
                Err(error)
            }
        }
    }

    fn resumable(&self) -> bool {
        false
    }
}

impl Inner {
    /// Evaluates every thing of the index; since when, and how many.
    async fn whole(&self, ctx: &RunContext, wanted: &Arc<Wanted>, generation: u64) -> Result<(LogicalTime, usize), RunError> {
        let limits = &self.config.limits;
        let (as_of, all) = self.told(wanted, things(&self.tables, wanted, None, limits, self.config.things_max).await).await?;
        ctx.log(LogLevel::Info, "index", format!("{} things at {as_of}", all.len()));
        // A query that does not go by keys is answered once, for all of them.
        let chunk = if wanted.rules.iter().all(|rule| rule.statement.has_index_values()) && self.goes_by_keys(wanted.matrix) {
            self.config.keys_max
        } else {
            all.len().max(1)
        };
        let before = self.service.matrix(wanted.matrix, 0).await.map_err(|error| unavailable(&error))?.value;
        let known = before.map_or(0, |facts| facts.through);
        let mut through = as_of;
        for at in (0..all.len()).step_by(chunk) {
            ctx.check()?;
            let part = all.slice(at, chunk);
            let threads = self.config.threads;
            let done = evaluate(&self.tables, wanted, self.concepts.labelling(), &part, limits, threads).await;
            let evaluated = self.told(wanted, done).await?;
            through = through.min(evaluated.features_as_of);
            self.log(wanted, generation, &part, &evaluated, Vec::new(), known).await?;
            ctx.progress((at + part.len()) as u64, all.len() as u64, "things");
        }
        let gone = self.gone(wanted.matrix, &all.keys).await?;
        if !gone.is_empty() {
            ctx.log(LogLevel::Info, "index", format!("{} things are gone", gone.len()));
        }
        for gone in gone.chunks(MATRIX_ROWS_MAX) {
            self.record(wanted, generation, as_of, gone.to_vec(), known).await?;
        }
        self.record(wanted, generation, as_of, Vec::new(), through).await?;
        Ok((through, all.len()))
    }

    /// A function that fails as a whole is not asked again until somebody looks at it.
    pub(super) async fn told<T>(&self, wanted: &Wanted, done: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(Failure::Function { lf_id, detail }) = &done {
            tracing::warn!(lf_id, concept = wanted.concept, detail, "a labeling function is deactivated: it failed as a whole");
            let lf_id: Id = *lf_id;
            if let Ok(book) = self.concepts.book() {
                let changed = book.change(crate::concepts::now(), move |draft| {
                    if let Some(lf) = draft.find::<LabelingFunction>(lf_id).filter(|lf| lf.is_active) {
                        let changed = LabelingFunction { is_active: false, updated_at: draft.now, ..LabelingFunction::clone(lf) };
                        draft.put(changed);
                    }
                    Ok(())
                });
                if let Err(error) = changed.await {
                    tracing::warn!(%error, lf_id, "the labeling function could not be deactivated");
                }
            }
        }
        done
    }

    /// Logs the things whose votes are not what the matrix has of them, and what is gone. Whether there was anything.
    pub(super) async fn log(
        &self,
        wanted: &Wanted,
        generation: u64,
        things: &Things,
        evaluated: &Evaluated,
        gone: Vec<EcoString>,
        through: LogicalTime,
    ) -> Result<bool, RunError> {
        let columns = wanted.columns.len();
        let known = self.service.matrix_rows(wanted.matrix, things.keys.as_slice().into()).await.map_err(|error| unavailable(&error))?;
        let known: HashMap<&EcoString, &[i8]> = known.iter().map(|row| (&row.key, row.facts.votes.as_ref())).collect();
        let is_other = |thing: &usize| known.get(&things.keys[*thing]) != Some(&evaluated.votes_of(*thing, columns));
        let changed: Vec<usize> = (0..things.len()).filter(is_other).collect();
        if changed.is_empty() && gone.is_empty() {
            return Ok(false);
        }
        let mut gone = Some(gone);
        let parts: Vec<&[usize]> = if changed.is_empty() { vec![&[]] } else { changed.chunks(MATRIX_ROWS_MAX).collect() };
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            let rows = MatrixRows {
                matrix: wanted.matrix,
                generation,
                features_as_of: evaluated.features_as_of,
                // Only once everything is in the log has everything been evaluated.
                through: if at == last { through } else { 0 },
                keys: part.iter().map(|thing| things.keys[*thing].clone()).collect(),
                votes: Votes(part.iter().flat_map(|thing| evaluated.votes_of(*thing, columns)).copied().collect()),
                gone: gone.take().unwrap_or_default(),
                rows: if part.is_empty() { Vec::new() } else { evaluated.logged(part)? },
            };
            self.commit(rows).await?;
        }
        Ok(true)
    }

    pub(super) async fn record(
        &self,
        wanted: &Wanted,
        generation: u64,
        features_as_of: LogicalTime,
        gone: Vec<EcoString>,
        through: LogicalTime,
    ) -> Result<(), RunError> {
        let (matrix, keys, votes, rows) = (wanted.matrix, Vec::new(), Votes::default(), Vec::new());
        self.commit(MatrixRows { matrix, generation, features_as_of, through, keys, votes, gone, rows }).await
    }

    async fn commit(&self, rows: MatrixRows) -> Result<(), RunError> {
        let token = self.service.put_matrix(vec![Control::MatrixRows(Arc::new(rows))]).await.map_err(|error| unavailable(&error))?;
        // What is compared next sees it.
        let deadline = std::time::Duration::from_secs(60);
        self.service.wait_applied(token, deadline).await.map_err(|error| unavailable(&error))
    }

    /// Things of the matrix that are not among these.
    async fn gone(&self, matrix: MatrixId, keys: &[EcoString]) -> Result<Vec<EcoString>, RunError> {
        let kept: HashSet<&EcoString> = keys.iter().collect();
        let (mut gone, mut after): (Vec<EcoString>, Option<After>) = (Vec::new(), None);
        loop {
            let page = self.service.matrix_page(matrix, after, PAGE_ROWS, false, 0, None).await.map_err(|error| unavailable(&error))?;
            let Some(page) = page.value else { return Ok(gone) };
            gone.extend(page.rows.into_iter().map(|row| row.key).filter(|key| !kept.contains(key)));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(gone),
            }
        }
    }
}

struct Refit(Weak<Inner>);

#[async_trait]
impl Job for Refit {
    async fn run(&self, ctx: RunContext, given: &Json) -> Result<Json, RunError> {
        let inner = self.0.upgrade().ok_or_else(RunError::stopped)?;
        let params = params(given)?;
        let end = |live: &mut Live| {
            live.refitting = false;
            live.refit_at = Some(Instant::now());
        };
        let _ended = Ended { inner: &inner, params, end };
        let facts = inner.service.matrix(params.index_id, 0).await.map_err(|error| unavailable(&error))?.value;
        let Some(facts) = facts.filter(|facts| facts.definition.generation == params.generation) else { return Ok(superseded()) };
        let model = refit(facts).await?;
        let (version, rows) = (model.version, model.rows);
        ctx.log(LogLevel::Info, "fit", format!("version {version} on {rows} rows"));
        let control = Control::MatrixModel(Arc::new(model));
        inner.service.put_matrix(vec![control]).await.map_err(|error| unavailable(&error))?;
        Ok(json!({"index_id": params.index_id, "version": version, "rows": rows}))
    }

    fn resumable(&self) -> bool {
        false
    }
}

/// The next model of a matrix.
async fn refit(facts: MatrixFacts) -> Result<MatrixModel, RunError> {
    let fitted = tokio::task::spawn_blocking(move || (Fitted::fit(&facts.statistic), facts)).await;
    let (fitted, facts) = fitted.map_err(|_| RunError::internal("panicked", "the fit panicked"))?;
    let fitted = fitted.map_err(|error| RunError::user(error.code(), error.to_string()))?;
    let model = serde_json::to_value(&fitted).map_err(|error| RunError::internal("encode", error.to_string()))?;
    Ok(MatrixModel {
        matrix: facts.definition.matrix,
        generation: facts.definition.generation,
        version: facts.models + 1,
        rows: facts.rows,
        votes: fitted.votes.iter().sum::<i64>().unsigned_abs(),
        fitted_at: now_micros(),
        model,
    })
}
