//! Classifier jobs: a bank of models trained on the labels of a Snorkel job and the features of its things.
//!
//! What it promises:
//! - Labels are those that the Snorkel job has written; every thing is joined with its row of the index and of every feature, if there is one
//!   (see `join`; what becomes of the columns stands in `columns`).
//! - The same tables and settings give the same models, also when a run begins anew after a crash.
//! - Results are entered in one commit, after the best model has been written. Predictions of a completed job are made with that one.
//! - A job ends FAILED, with the reason, when too few labels, classes or features are left to learn from.
//!
//! # Format
//! `classifier_results/job_{id}/model.json`: the model with its features, their means and deviations, and its classes
//! ([`super::bank::Exported`]). Everything else that is known stands in the job's record ([`BankResults`]).
//!
//! # Known limitations
//! - Labels, index and features are held in memory while they are joined.
//! - Predictions for things that are named read the tables of the features anew.

use super::bank::{self, Bank, BankConfig, BankError, BankResults, Exported, Labels, Predicted, Training};
use super::book::Shelf;
use super::cells::{self, Key};
use super::columns::{self, Source};
use super::jobs::StopOnDrop;
use super::join::{self, Entities, NoColumn, Rows};
use super::record::{ClassifierJob, Feature, Id, Index, JobStatus, OutputType, SnorkelJob};
use super::snorkel::{Results, blocking, first_column, gone};
use super::{ConceptError, Concepts, Inner};
use crate::runs::{Job, LogLevel, RunContext, RunError};
use async_trait::async_trait;
use desireline_learning::classifiers::{Clock, Entry, Kind, Stop, Table};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// Features of one job.
pub const FEATURES_MAX: usize = 1_000;
/// Models that are kept in memory for predictions, the last ones asked for.
const MODELS_KEPT: usize = 4;

/// A job as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewClassifierJob {
    pub snorkel_job_id: Id,
    pub feature_ids: Vec<Id>,
    pub config: BankConfig,
}

/// Models that were read, the last ones asked for.
#[derive(Default)]
pub(super) struct Models(Mutex<VecDeque<(Id, Arc<Exported>)>>);

impl Models {
    fn get(&self, job_id: Id) -> Option<Arc<Exported>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(id, _)| *id == job_id).map(|(_, model)| Arc::clone(model))
    }

    fn keep(&self, job_id: Id, model: &Arc<Exported>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(id, _)| *id != job_id);
        kept.push_front((job_id, Arc::clone(model)));
        kept.truncate(MODELS_KEPT);
    }
}

impl Concepts {
    /// Checks in this order: the Snorkel job, features, threshold method.
    pub async fn run_classifiers(&self, c_id: Id, new: NewClassifierJob) -> Result<Arc<ClassifierJob>, ConceptError> {
        let runs = self.runs().clone();
        self.start_job(move |draft| {
            let snorkel = draft.get_in::<SnorkelJob>(c_id, new.snorkel_job_id)?;
            let status = super::jobs::shown(&runs, snorkel).status;
            if status != JobStatus::Completed {
                let detail = format!("Snorkel job {} is not completed (status: {})", new.snorkel_job_id, status.word());
                return Err(ConceptError::Refused(detail));
            }
            check_features(draft, c_id, &new.feature_ids)?;
            if new.config.method().is_none() {
                let detail = "threshold_method must be 'entropy' or 'max_confidence'";
                return Err(ConceptError::invalid("config.threshold_method", detail));
            }
            Ok(ClassifierJob {
                job_id: draft.next_id::<ClassifierJob>(),
                c_id,
                snorkel_job_id: new.snorkel_job_id,
                feature_ids: new.feature_ids,
                // A configuration is plain data.
                config: serde_json::to_value(&new.config).expect("a configuration is always JSON"),
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
    pub fn classifier_jobs(&self, c_id: Id, skip: usize, limit: usize) -> Result<Vec<Arc<ClassifierJob>>, ConceptError> {
        self.jobs(c_id, skip, limit)
    }

    pub fn classifier_job(&self, c_id: Id, job_id: Id) -> Result<Arc<ClassifierJob>, ConceptError> {
        self.job(c_id, job_id)
    }

    pub async fn cancel_classifier_job(&self, c_id: Id, job_id: Id) -> Result<Arc<ClassifierJob>, ConceptError> {
        self.cancel_job(c_id, job_id).await
    }

    pub async fn delete_classifier_job(&self, c_id: Id, job_id: Id) -> Result<(), ConceptError> {
        self.delete_job::<ClassifierJob>(c_id, job_id, |_| Ok(())).await
    }

    /// What a completed job found.
    pub fn classifier_results(job: &ClassifierJob) -> Result<BankResults, ConceptError> {
        let missing = || ConceptError::Objects(format!("Classifier job {} has no results", job.job_id));
        let results = job.results.as_ref().ok_or_else(missing)?;
        BankResults::deserialize(results).map_err(|error| ConceptError::Objects(format!("the results cannot be read: {error}")))
    }

    /// The best model of a completed job.
    pub async fn classifier_model(&self, job: &ClassifierJob) -> Result<Arc<Exported>, ConceptError> {
        if job.status != JobStatus::Completed {
            let detail = format!("Classifier job {} is not completed (status: {})", job.job_id, job.status.word());
            return Err(ConceptError::Refused(detail));
        }
        if let Some(model) = self.inner.models.get(job.job_id) {
            return Ok(model);
        }
        if Self::classifier_results(job)?.exported_model.is_none() {
            return Err(ConceptError::Refused("No model of this job was small enough to be kept".to_owned()));
        }
        let bytes = self.store().get(&object(job.job_id)).await.map_err(|error| ConceptError::Objects(error.to_string()))?;
        let model = blocking(move || Exported::from_json(&bytes)).await.map_err(|error| ConceptError::Objects(error.message))?;
        let model = Arc::new(model.map_err(|error| ConceptError::Objects(format!("the model cannot be read: {error}")))?);
        self.inner.models.keep(job.job_id, &model);
        Ok(model)
    }

    /// Predicts rows whose values are in the order of the model's features.
    pub async fn predict(&self, model: Arc<Exported>, rows: Vec<Vec<Option<f64>>>) -> Result<Vec<Predicted>, ConceptError> {
        let names: Vec<String> = model.features.iter().map(|feature| feature.name.clone()).collect();
        let values = rows.iter().flatten().map(|value| value.unwrap_or(f64::NAN)).collect();
        let table = Table::new(names, rows.len(), values).map_err(|error| ConceptError::invalid("rows", error.to_string()))?;
        say(model, table).await
    }

    /// Predicts things by what the tables of the features have of them now.
    pub async fn predict_entities(
        &self,
        job: &ClassifierJob,
        model: Arc<Exported>,
        entity_ids: Vec<Json>,
    ) -> Result<Vec<Predicted>, ConceptError> {
        let shelf = self.book()?.read();
        let unreadable = |error: RunError| ConceptError::Objects(error.message);
        let snorkel = shelf.get_in::<SnorkelJob>(job.c_id, job.snorkel_job_id)?.clone();
        let results = Self::snorkel_results(&snorkel)?;
        let tables = self.inner.tables(&shelf, &snorkel, &results, &job.feature_ids).await.map_err(unreadable)?;
        let features = model.features.clone();
        let found = blocking(move || {
            let wanted = tables.find(&entity_ids)?;
            let sources = tables.sources(&results.entity_column).map_err(|error| ConceptError::Refused(error.to_string()))?;
            columns::table(&sources, &features, &wanted).map_err(|error| ConceptError::Refused(error.to_string()))
        });
        let table = found.await.map_err(unreadable)??;
        say(model, table).await
    }
}

async fn say(model: Arc<Exported>, table: Table) -> Result<Vec<Predicted>, ConceptError> {
    let said = blocking(move || model.predict(&table)).await.map_err(|error| ConceptError::Objects(error.message))?;
    said.map_err(|error| ConceptError::Refused(error.to_string()))
}

fn check_features(shelf: &Shelf, c_id: Id, feature_ids: &[Id]) -> Result<(), ConceptError> {
    let distinct: BTreeSet<Id> = feature_ids.iter().copied().collect();
    let own = |id: &Id| shelf.find::<Feature>(*id).filter(|feature| feature.c_id == c_id);
    let missing: Vec<String> = distinct.iter().filter(|id| own(id).is_none()).map(Id::to_string).collect();
    if !missing.is_empty() {
        return Err(ConceptError::NotFound(format!("Feature IDs [{}] not found for concept {c_id}", missing.join(", "))));
    }
    if distinct.is_empty() || distinct.len() < feature_ids.len() || distinct.len() > FEATURES_MAX {
        return Err(ConceptError::invalid("feature_ids", format!("must name 1 to {FEATURES_MAX} features, none of them twice")));
    }
    let waiting = distinct.iter().filter_map(own).filter(|feature| !feature.materialized.is_materialized);
    let waiting: Vec<String> = waiting.map(|feature| format!("'{}'", feature.name)).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    Err(ConceptError::Refused(format!("Features are not materialized: {}. Please materialize them first.", waiting.join(", "))))
}

fn object(job_id: Id) -> String {
    format!("classifier_results/job_{job_id}/model.json")
}

/// The work of a run.
pub(super) struct ClassifierPipeline(pub Weak<Inner>);

#[async_trait]
impl Job for ClassifierPipeline {
    async fn run(&self, ctx: RunContext, params: &Json) -> Result<Json, RunError> {
        let inner = self.0.upgrade().ok_or_else(RunError::stopped)?;
        let job = inner.open_job::<ClassifierJob>(params)?;
        inner.work::<ClassifierJob>(&ctx, job.job_id, inner.classify(&ctx, &job)).await
    }

    fn resumable(&self) -> bool {
        true
    }
}

/// Everything that is known of the things of a Snorkel job.
struct Tables {
    /// Its labels; the things are its rows.
    things: Entities,
    index: Rows,
    features: Vec<(Id, Option<String>, Rows)>,
}

const ENTITY: &str = "entity_id";

impl Tables {
    /// Where the things with these ids stand.
    fn find(&self, entity_ids: &[Json]) -> Result<Vec<usize>, ConceptError> {
        let known: HashMap<String, usize> = (0..self.things.len()).map(|row| (shown(&self.id(row)), row)).collect();
        let place = |id: &Json| {
            let missing = || ConceptError::invalid("entity_ids", format!("there is no {} among the things of this job", shown(id)));
            known.get(&shown(id)).copied().ok_or_else(missing)
        };
        entity_ids.iter().map(place).collect()
    }

    fn id(&self, row: usize) -> Json {
        let at = self.things.rows[row];
        cells::json(self.things.index.array(at, self.things.column), at.1 as usize)
    }

    /// Index and features, joined with the things. A feature whose column of keys is not that of the things is joined by what the index has in it.
    fn sources(self, entity_column: &str) -> Result<Vec<Source>, NoColumn> {
        let index = self.things.join(&self.index, ENTITY, entity_column)?;
        let mut sources = Vec::with_capacity(self.features.len() + 1);
        for (feature_id, column, rows) in self.features {
            let key = column.unwrap_or_else(|| entity_column.to_owned());
            let joined = if key == entity_column {
                self.things.join(&rows, ENTITY, &key)?
            } else {
                let place = self.index.column(&key)?;
                let keys: Vec<Option<Key<'_>>> = index.rows.iter().map(|at| self.index.key((*at)?, place)).collect();
                join::join(&keys, &rows, &key)?
            };
            sources.push(Source { feature_id: Some(feature_id), rows, joined, key });
        }
        sources.insert(0, Source { feature_id: None, rows: self.index, joined: index, key: entity_column.to_owned() });
        Ok(sources)
    }
}

/// Ids are compared as they are shown.
fn shown(id: &Json) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

impl Inner {
    async fn classify(&self, ctx: &RunContext, job: &ClassifierJob) -> Result<Json, RunError> {
        let shelf = self.book.read();
        let snorkel = shelf.get_in::<SnorkelJob>(job.c_id, job.snorkel_job_id).map_err(|error| gone(&error))?.clone();
        let results = Concepts::snorkel_results(&snorkel).map_err(|error| gone(&error))?;
        let config = BankConfig::deserialize(&job.config).map_err(|error| RunError::user("config", error.to_string()))?;
        let tables = self.tables(&shelf, &snorkel, &results, &job.feature_ids).await?;
        let (stop, told, threads, model_time_max) =
            (StopOnDrop::default(), ctx.clone(), self.training.threads, self.training.model_time_max);
        let flag = stop.flag();
        let trained = blocking(move || {
            let labels = labels(&tables.things, &results, snorkel.output_type);
            let sources = tables.sources(&results.entity_column).map_err(|error| BankError::NoFeatures(error.to_string()))?;
            let repeated: u64 = sources.iter().map(|source| source.joined.repeated).sum();
            if repeated > 0 {
                let message =
                    format!("{repeated} rows of index and features have a key that another row has; the first in canonical order counts");
                told.log(LogLevel::Warning, "join", message);
            }
            let (begun, done, total) = (Instant::now(), AtomicU64::new(0), Kind::ALL.len() as u64);
            let clock: Clock = Arc::new(move || begun.elapsed());
            let on_done = |entry: &Entry| {
                tell(&told, entry);
                told.progress(done.fetch_add(1, Ordering::Relaxed) + 1, total, "models");
            };
            let training = Training { threads, stop: Stop::new(flag), clock, model_time_max, on_done: &on_done };
            bank::train(&Kind::ALL, &labels, &sources, &config, &training)
        });
        let bank = trained.await?.map_err(|error| RunError::user(error.code(), error.to_string()))?;
        drop(stop);
        self.enter_bank(ctx, job, bank).await
    }

    async fn enter_bank(&self, ctx: &RunContext, job: &ClassifierJob, bank: Bank) -> Result<Json, RunError> {
        let Bank { results, model } = bank;
        if let Some(threshold) = Some(results.threshold_used).filter(|used| Some(*used) != job.config["threshold_value"].as_f64()) {
            let message = format!("the threshold was lowered to {threshold:.2} for the sake of classes with few labels");
            ctx.log(LogLevel::Warning, "select", message);
        }
        let object = object(job.job_id);
        if let Some(bytes) = model {
            let written = self.store.replace(&object, bytes.into()).await;
            written.map_err(|error| {
                let text = error.to_string();
                if error.is_retryable() { RunError::external(error.code(), text) } else { RunError::user(error.code(), text) }
            })?;
        }
        let (path, trained) = (self.shown_path(&object), results.model_scores.len());
        let best = results.model_scores.first().map(|score| score.model.clone());
        // Results are plain data with text as keys.
        let results = serde_json::to_value(results).expect("results are always JSON");
        let enter = move |_: &mut super::Draft, job: &mut ClassifierJob| {
            (job.result_path, job.results) = (Some(path), Some(results));
        };
        self.complete::<ClassifierJob>(ctx, job.job_id, enter).await?;
        Ok(json!({"job_id": job.job_id, "num_models_trained": trained, "best": best}))
    }

    async fn tables(&self, shelf: &Shelf, snorkel: &SnorkelJob, results: &Results, feature_ids: &[Id]) -> Result<Tables, RunError> {
        let labels = self.read_labels(snorkel.job_id).await?;
        let things = Entities::new(labels, ENTITY).map_err(|error| RunError::user("no_column", error.to_string()))?;
        let index = shelf.get_in::<Index>(snorkel.c_id, snorkel.index_id).map_err(|error| gone(&error))?;
        let index_object = format!("indexes/index_{}/data.parquet", index.index_id);
        let index = self.read_rows(format!("index '{}'", index.name), &index_object).await?;
        index.column(&results.entity_column).map_err(|error| RunError::user("no_column", error.to_string()))?;
        let default = first_column(&index)?;
        let mut features = Vec::with_capacity(feature_ids.len());
        for id in feature_ids {
            let feature = shelf.get_in::<Feature>(snorkel.c_id, *id).map_err(|error| gone(&error))?;
            if !feature.materialized.is_materialized {
                let message = format!("Feature '{}' is not materialized. Please materialize it first.", feature.name);
                return Err(RunError::user("not_materialized", message));
            }
            let object = format!("features/feature_{id}/data.parquet");
            let column = feature.index_column.clone().unwrap_or_else(|| default.clone());
            features.push((*id, Some(column), self.read_rows(format!("feature '{}'", feature.name), &object).await?));
        }
        Ok(Tables { things, index, features })
    }
}

/// What a Snorkel job has written, as it is selected from.
fn labels(things: &Entities, results: &Results, output: OutputType) -> Labels {
    let place: BTreeMap<i64, i64> = results.cv_id_to_index.iter().map(|(id, at)| (*id as i64, *at as i64)).collect();
    let column = |name: &str| things.index.column(name).ok();
    let (label, probs) = (column("label"), column("probs"));
    let mut labels = Vec::with_capacity(things.len());
    let mut probabilities = Vec::with_capacity(things.len() * results.cv_ids.len());
    for at in &things.rows {
        let row = at.1 as usize;
        let cv_id = label.and_then(|column| cells::json(things.index.array(*at, column), row).as_i64());
        labels.push(cv_id.and_then(|cv_id| place.get(&cv_id)).copied().unwrap_or(-1));
        probabilities.extend(probs.and_then(|column| cells::numbers(things.index.array(*at, column), row)).unwrap_or_default());
    }
    let names = results.cv_ids.iter().map(|id| results.cv_id_to_name.get(id).cloned().unwrap_or_else(|| id.to_string())).collect();
    let probabilities = (output == OutputType::Softmax).then_some(probabilities);
    Labels { labels, probabilities, names, cv_ids: results.cv_ids.clone() }
}

/// What the run's log says of a model.
fn tell(ctx: &RunContext, entry: &Entry) {
    let (name, seconds) = (entry.kind.name(), entry.time.as_secs_f64());
    match &entry.outcome {
        Ok(trained) => {
            let message = format!("{name}: accuracy {:.4}, {seconds:.2} s", trained.scores.accuracy);
            ctx.log(LogLevel::Info, "train", message);
        }
        Err(error) => ctx.log(LogLevel::Warning, "train", format!("{name} is left out: {error}")),
    }
}
