//! Snorkel jobs: what labelling functions say of the things of an index, weighed into one label each.
//!
//! What it promises:
//! - One row per thing of the index, in the index's order; `sample_id` is its position. Every function is asked about the rows of its own
//!   rule, whatever rules were selected; a thing without a row there is one that it abstains on.
//! - The classes are the values that any of the functions may vote for, by ascending number.
//! - The same tables, functions and settings give the same results, to the bit, also when a run begins anew after a crash.
//! - Results and what they say of the functions are entered in one commit, after their object has been written.
//! - A function that cannot be compiled any more or fails as a whole abstains; results and log say so, and the job goes on.
//!
//! # Format
//! `snorkel_results/job_{id}/results.parquet`, a row per thing: `sample_id` (64 bits), `entity_id` (text, or 64 bits where keys are whole
//! numbers), `probs` (a list of doubles, by class; of a hard label 1 and 0), `label` (the number of a value, -1 for none) and
//! `confidence`. What else is known stands in the job's record ([`Results`]).
//!
//! # Known limitations
//! - Index, votes and probabilities are held in memory: about `16 + m + 8 k` bytes for a thing, m functions and k classes, and the rows
//!   of one rule at a time.
//! - A page of predictions reads all pages before it.

use super::book::Shelf;
use super::jobs::StopOnDrop;
use super::join::{Entities, Rows};
use super::label::{self, Labelled};
use super::record::{ClassifierJob, Id, Index, JobStatus, LabelingFunction, LfConfig, OutputType, Rule, SnorkelConfig, SnorkelJob};
use super::results::{batches, results};
use super::voting::{self, Classes, Said};
use super::{ConceptError, Concepts, Draft, Inner, functions, removal, tables};
use crate::runs::{Job, LogLevel, RunContext, RunError};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use async_trait::async_trait;
use desireline_labelling::Function;
use desireline_learning::label_model::{LabelModelError, Votes};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

pub(super) use super::results::rounded;
pub use super::results::{LfResult, OverallStats, Predictions, Results};

/// Functions of one job.
const LFS_MAX: usize = 1_000;

/// A job as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSnorkelJob {
    pub index_id: Id,
    pub rule_ids: Vec<Id>,
    pub lf_ids: Vec<Id>,
    pub config: SnorkelConfig,
    /// Judged after everything else.
    pub output_type: String,
}

impl Concepts {
    /// Checks in this order: index, rules, functions, output type; then what they are together.
    pub async fn run_snorkel(&self, c_id: Id, new: NewSnorkelJob) -> Result<Arc<SnorkelJob>, ConceptError> {
        self.start_job(move |draft| {
            check_selection(draft, c_id, &new)?;
            let output_type = match new.output_type.as_str() {
                "softmax" => OutputType::Softmax,
                "hard_labels" => OutputType::HardLabels,
                _ => return Err(ConceptError::invalid("snorkel.output_type", "output_type must be 'softmax' or 'hard_labels'")),
            };
            check_together(draft, c_id, &new)?;
            Ok(SnorkelJob {
                job_id: draft.next_id::<SnorkelJob>(),
                c_id,
                index_id: new.index_id,
                rule_ids: new.rule_ids,
                lf_ids: new.lf_ids,
                config: new.config,
                output_type,
                dagster_run_id: None,
                status: JobStatus::Running,
                result_path: None,
                error_message: None,
                results: None,
                created_at: draft.now,
                completed_at: None,
            })
        })
        .await
    }

    /// The newest first.
    pub fn snorkel_jobs(&self, c_id: Id, skip: usize, limit: usize) -> Result<Vec<Arc<SnorkelJob>>, ConceptError> {
        self.jobs(c_id, skip, limit)
    }

    pub fn snorkel_job(&self, c_id: Id, job_id: Id) -> Result<Arc<SnorkelJob>, ConceptError> {
        self.job(c_id, job_id)
    }

    pub async fn cancel_snorkel_job(&self, c_id: Id, job_id: Id) -> Result<Arc<SnorkelJob>, ConceptError> {
        self.cancel_job(c_id, job_id).await
    }

    /// Refused while classifiers were trained on its labels.
    pub async fn delete_snorkel_job(&self, c_id: Id, job_id: Id) -> Result<(), ConceptError> {
        let check = move |draft: &Draft| {
            let users = draft.of_concept::<ClassifierJob>(c_id).filter(|job| job.snorkel_job_id == job_id);
            removal::in_use(&format!("Snorkel job with ID {job_id}"), users.map(|job| removal::nameless(job.as_ref())))
        };
        self.delete_job::<SnorkelJob>(c_id, job_id, check).await
    }

    /// What a completed job found, without its predictions.
    pub fn snorkel_results(job: &SnorkelJob) -> Result<Results, ConceptError> {
        let missing = || ConceptError::Objects(format!("Snorkel job {} has no results", job.job_id));
        let results = job.results.as_ref().ok_or_else(missing)?;
        Results::deserialize(results).map_err(|error| ConceptError::Objects(format!("the results cannot be read: {error}")))
    }

    /// Predictions of a completed job, in the order of the index.
    pub async fn snorkel_predictions(&self, job: &SnorkelJob, offset: usize, limit: usize) -> Result<Predictions, ConceptError> {
        let read = tables::page(self.store(), &object(job.job_id), offset, limit).await;
        let batches = read.map_err(|error| ConceptError::Objects(error.message))?;
        let mut page = Predictions::default();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                page.read(batch, row).ok_or_else(|| damaged(job.job_id))?;
            }
        }
        Ok(page)
    }
}

fn damaged(job_id: Id) -> ConceptError {
    ConceptError::Objects(format!("the results of Snorkel job {job_id} are not what was written there"))
}

fn check_selection(shelf: &Shelf, c_id: Id, new: &NewSnorkelJob) -> Result<(), ConceptError> {
    let index = shelf.get_in::<Index>(c_id, new.index_id)?;
    if !index.materialized.is_materialized {
        let detail = format!("Index '{}' is not materialized. Please materialize it first.", index.name);
        return Err(ConceptError::Refused(detail));
    }
    let rules: Vec<&Arc<Rule>> = new.rule_ids.iter().map(|id| shelf.get_in::<Rule>(c_id, *id)).collect::<Result<_, _>>()?;
    check_materialized(&rules)?;
    let functions = new.lf_ids.iter().map(|id| shelf.get_in::<LabelingFunction>(c_id, *id)).collect::<Result<Vec<_>, _>>()?;
    let inactive: Vec<String> = functions.iter().filter(|lf| !lf.is_active).map(|lf| format!("'{}'", lf.name)).collect();
    if inactive.is_empty() {
        return Ok(());
    }
    Err(ConceptError::Refused(format!("Labeling functions are not active: {}. Please approve them first.", inactive.join(", "))))
}

fn check_materialized(rules: &[&Arc<Rule>]) -> Result<(), ConceptError> {
    let missing: Vec<String> =
        rules.iter().filter(|rule| !rule.materialized.is_materialized).map(|rule| format!("'{}'", rule.name)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(ConceptError::Refused(format!("Rule {one} is not materialized. Please materialize it first."))),
        more => Err(ConceptError::Refused(format!("Rules {} are not materialized. Please materialize them first.", more.join(", ")))),
    }
}

/// The rules that the functions are asked about must have rows, and there must be a model for so many functions and classes.
fn check_together(shelf: &Shelf, c_id: Id, new: &NewSnorkelJob) -> Result<(), ConceptError> {
    if new.lf_ids.is_empty() || new.lf_ids.len() > LFS_MAX {
        return Err(ConceptError::invalid("selectedLFs", format!("must name 1 to {LFS_MAX} labeling functions")));
    }
    if new.lf_ids.iter().collect::<BTreeSet<_>>().len() < new.lf_ids.len() {
        return Err(ConceptError::invalid("selectedLFs", "names a labeling function twice"));
    }
    let functions = new.lf_ids.iter().map(|id| shelf.get_in::<LabelingFunction>(c_id, *id)).collect::<Result<Vec<_>, _>>()?;
    let rule_ids: BTreeSet<Id> = functions.iter().map(|lf| lf.rule_id).collect();
    let rules: Vec<&Arc<Rule>> = rule_ids.iter().map(|id| shelf.get_in::<Rule>(c_id, *id)).collect::<Result<_, _>>()?;
    check_materialized(&rules)?;
    let classes = Classes::new(functions.iter().flat_map(|lf| lf.applicable_cv_ids.iter().copied()));
    label::check(&new.config, functions.len(), classes.len()).map_err(|(field, detail)| ConceptError::invalid(field, detail))
}

/// The work of a run.
pub(super) struct SnorkelPipeline(pub Weak<Inner>);

#[async_trait]
impl Job for SnorkelPipeline {
    async fn run(&self, ctx: RunContext, params: &Json) -> Result<Json, RunError> {
        let inner = self.0.upgrade().ok_or_else(RunError::stopped)?;
        let job = inner.open_job::<SnorkelJob>(params)?;
        inner.work::<SnorkelJob>(&ctx, job.job_id, inner.train(&ctx, &job)).await
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// A function with what it needs.
struct Asked {
    lf: Arc<LabelingFunction>,
    rule: Arc<Rule>,
    function: Result<Function, String>,
}

impl Inner {
    async fn train(&self, ctx: &RunContext, job: &SnorkelJob) -> Result<Json, RunError> {
        let shelf = self.book.read();
        let (asked, classes) = asked(&shelf, job)?;
        let rules: Vec<&Arc<Rule>> = asked.iter().map(|asked| &asked.rule).collect();
        let entities = Arc::new(self.entities(&shelf, job.index_id, &rules).await?);
        ctx.log(LogLevel::Info, "index", format!("{} things", entities.len()));
        let said = self.collect_votes(ctx, &entities, &asked, &classes).await?;
        let config = job.config.clone();
        let (output, class_count) = (job.output_type, classes.len());
        let (labelled, said) = blocking(move || {
            let votes = Votes::new(said.iter().map(|said| said.votes.as_slice()).collect());
            votes.and_then(|votes| label::label(&votes, class_count, &config, output)).map(|labelled| (labelled, said))
        })
        .await?
        .map_err(|error| model_failed(&error))?;
        let fitted = match labelled.is_learned {
            true => format!("a label model of {} functions was fitted on {} things", asked.len(), labelled.fitted_rows),
            false => format!("{} functions are too few to learn from; each counts as right in 0.7 of its votes", asked.len()),
        };
        ctx.log(LogLevel::Info, "fit", fitted);
        let functions: Vec<&LabelingFunction> = asked.iter().map(|asked| asked.lf.as_ref()).collect();
        let results = results(&shelf, &entities, &functions, &said, &labelled, &classes);
        self.write_labels(job, &entities, &labelled, &classes).await?;
        self.enter_labels(ctx, job, &asked, &labelled, &results).await?;
        Ok(json!({"job_id": job.job_id, "n_samples": entities.len(), "result_path": object(job.job_id)}))
    }

    /// The things of an index, by the column that the rules agree on, else its first one.
    async fn entities(&self, shelf: &Shelf, index_id: Id, rules: &[&Arc<Rule>]) -> Result<Entities, RunError> {
        let index = shelf.get::<Index>(index_id).map_err(|error| gone(&error))?;
        let name = format!("index '{}'", index.name);
        let rows = self.read_rows(name, &format!("indexes/index_{index_id}/data.parquet")).await?;
        let named: BTreeSet<Option<&String>> = rules.iter().map(|rule| rule.index_column.as_ref()).collect();
        let column = match named.iter().next() {
            Some(Some(column)) if named.len() == 1 => (*column).clone(),
            _ => first_column(&rows)?,
        };
        blocking(move || Entities::new(rows, &column)).await?.map_err(|error| RunError::user("no_column", error.to_string()))
    }

    /// The votes of all functions, rule by rule.
    async fn collect_votes(
        &self,
        ctx: &RunContext,
        entities: &Arc<Entities>,
        asked: &[Asked],
        classes: &Classes,
    ) -> Result<Vec<Said>, RunError> {
        let mut said = vec![Said::default(); asked.len()];
        let rules: BTreeMap<Id, &Arc<Rule>> = asked.iter().map(|asked| (asked.rule.r_id, &asked.rule)).collect();
        let total = rules.values().map(|rule| rule.materialized.row_count.unwrap_or_default()).sum::<u64>();
        let done = Arc::new(AtomicU64::new(0));
        for (rule_id, rule) in rules {
            let own: Vec<usize> = (0..asked.len()).filter(|at| asked[*at].rule.r_id == rule_id).collect();
            let rows = self.read_rows(format!("rule '{}'", rule.name), &format!("rules/rule_{rule_id}/data.parquet")).await?;
            let column = match &rule.index_column {
                Some(column) => column.clone(),
                None => first_column(&entities.index)?,
            };
            let functions: Vec<Option<Function>> = own.iter().map(|at| asked[*at].function.as_ref().ok().cloned()).collect();
            let (stop, entities, classes, ctx_of_rows) = (StopOnDrop::default(), Arc::clone(entities), classes.clone(), ctx.clone());
            let (runtime, threads, flag, done) = (Arc::clone(&self.labelling), self.training.threads, stop.flag(), Arc::clone(&done));
            let own_functions = functions.iter().flatten().count().max(1) as u64;
            let answers = blocking(move || {
                let joined = entities.join(&rows, &column, &column)?;
                let able: Vec<&Function> = functions.iter().flatten().collect();
                let heard = |rows: usize| {
                    let sum = done.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
                    ctx_of_rows.progress((sum / own_functions).min(total), total, "rows");
                };
                let mut answers = voting::vote(&runtime, &able, &classes, &rows, &joined, threads, &flag, &heard).into_iter();
                let all = functions.iter().map(|function| match function {
                    Some(_) => answers.next().unwrap_or_default(),
                    None => voting::silent(&joined, String::new()),
                });
                Ok((all.collect::<Vec<Said>>(), joined.repeated))
            });
            let answers: Result<_, super::join::NoColumn> = answers.await?;
            let (answers, repeated) = answers.map_err(|error| RunError::user("no_column", error.to_string()))?;
            if repeated > 0 {
                let message = format!("rule '{}' has {repeated} rows more than keys; the first in canonical order counts", rule.name);
                ctx.log(LogLevel::Warning, "votes", message);
            }
            if let Some(outage) = answers.iter().find_map(|answer| answer.outage.as_ref()) {
                return Err(RunError::external("lf_unavailable", outage.clone()));
            }
            for (at, mut answer) in own.into_iter().zip(answers) {
                if let Err(refusal) = &asked[at].function {
                    answer.failure = Some(refusal.clone());
                }
                tell(ctx, &asked[at].lf, &answer);
                said[at] = answer;
            }
        }
        Ok(said)
    }

    async fn write_labels(
        &self,
        job: &SnorkelJob,
        entities: &Arc<Entities>,
        labelled: &Labelled,
        classes: &Classes,
    ) -> Result<(), RunError> {
        let batches = batches(entities, labelled, classes).map_err(|error| RunError::internal("encode", error.to_string()))?;
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        tables::write(&self.store, &object(job.job_id), schema, batches).await
    }

    async fn enter_labels(
        &self,
        ctx: &RunContext,
        job: &SnorkelJob,
        asked: &[Asked],
        labelled: &Labelled,
        results: &Results,
    ) -> Result<(), RunError> {
        let path = self.shown_path(&object(job.job_id));
        // Results are plain data with text and numbers as keys.
        let results = serde_json::to_value(results).expect("results are always JSON");
        let judged: Vec<(Id, LfConfig, label::Judged)> = asked
            .iter()
            .zip(&labelled.functions)
            .map(|(asked, judged)| (asked.lf.lf_id, asked.lf.lf_config.clone(), judged.clone()))
            .collect();
        let enter = move |draft: &mut Draft, job: &mut SnorkelJob| {
            (job.result_path, job.results) = (Some(path), Some(results));
            for (lf_id, lf_config, judged) in judged {
                // What is known of other code says nothing of what the function has become meanwhile.
                let Some(lf) = draft.find::<LabelingFunction>(lf_id).filter(|lf| lf.lf_config == lf_config) else { continue };
                let mut lf = LabelingFunction::clone(lf);
                lf.estimated_accuracy = judged.weight.map(rounded);
                lf.coverage = Some(rounded(judged.coverage));
                lf.conflicts = Some(judged.disputed);
                draft.put(lf);
            }
        };
        self.complete::<SnorkelJob>(ctx, job.job_id, enter).await
    }

    /// The labels of a completed job.
    pub(super) async fn read_labels(&self, job_id: Id) -> Result<Rows, RunError> {
        self.read_rows(format!("labels of Snorkel job {job_id}"), &object(job_id)).await
    }

    /// A table that a query has made.
    pub(super) async fn read_rows(&self, name: String, object: &str) -> Result<Rows, RunError> {
        let (schema, batches) = tables::read(&self.store, object).await?;
        Ok(Rows { name, schema, batches })
    }

    /// The address of an object, as it is shown.
    pub(super) fn shown_path(&self, object: &str) -> String {
        format!("{}/{object}", self.store.name().trim_end_matches('/'))
    }
}

pub(super) fn gone(error: &ConceptError) -> RunError {
    RunError::user(error.code(), error.to_string())
}

fn model_failed(error: &LabelModelError) -> RunError {
    match error {
        LabelModelError::NoRows => RunError::user(error.code(), "the index has no things to label"),
        error => RunError::user(error.code(), format!("the label model cannot be fitted: {error}")),
    }
}

pub(super) fn first_column(rows: &Rows) -> Result<String, RunError> {
    let first = rows.schema.fields().first().map(|field| field.name().clone());
    first.ok_or_else(|| RunError::user("no_column", format!("{} has no columns", rows.name)))
}

/// Work on a thread that may take its time.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(_) => RunError::internal("panicked", "the computation panicked"),
        Err(_) => RunError::stopped(),
    })
}

fn object(job_id: Id) -> String {
    format!("snorkel_results/job_{job_id}/results.parquet")
}

/// The functions of a job as they are now, in its order, and the classes that they vote for.
fn asked(shelf: &Shelf, job: &SnorkelJob) -> Result<(Vec<Asked>, Classes), RunError> {
    let mut asked = Vec::with_capacity(job.lf_ids.len());
    for lf_id in &job.lf_ids {
        let lf = Arc::clone(shelf.get_in::<LabelingFunction>(job.c_id, *lf_id).map_err(|error| gone(&error))?);
        let rule = Arc::clone(shelf.get_in::<Rule>(job.c_id, lf.rule_id).map_err(|error| gone(&error))?);
        if !rule.materialized.is_materialized {
            let message = format!("Rule '{}' is not materialized. Please materialize it first.", rule.name);
            return Err(RunError::user("not_materialized", message));
        }
        let LfConfig { code, allowed_imports } = &lf.lf_config;
        let source = functions::source(shelf, job.c_id, &lf.applicable_cv_ids, code, allowed_imports).map_err(|error| gone(&error))?;
        let function = Function::new(source).map_err(|refusal| functions::refused(&refusal).to_string());
        asked.push(Asked { lf, rule, function });
    }
    let classes = Classes::new(asked.iter().flat_map(|asked| asked.lf.applicable_cv_ids.iter().copied()));
    Ok((asked, classes))
}

/// What the run's log says of a function.
fn tell(ctx: &RunContext, lf: &LabelingFunction, said: &Said) {
    if let Some(failure) = &said.failure {
        ctx.log(LogLevel::Error, "votes", format!("labeling function '{}' abstains everywhere: {failure}", lf.name));
    }
    for fault in &said.faults {
        let line = fault.line.map(|line| format!(" in line {line}")).unwrap_or_default();
        let message = format!("labeling function '{}' abstains on {} rows: {}{line}: {}", lf.name, fault.rows, fault.kind, fault.message);
        ctx.log(LogLevel::Warning, "votes", message);
    }
}
