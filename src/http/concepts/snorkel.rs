//! Snorkel jobs over HTTP. What they do stands in [`crate::concepts`].

use super::functions::LfError;
use super::reading::{body, floats, id, number, numbers, page};
use super::time_text;
use crate::concepts::Concepts;
use crate::concepts::record::{Balance, JobStatus, OutputType, SnorkelConfig as Config, SnorkelJob as Record};
use crate::concepts::snorkel::{LfResult, NewSnorkelJob, OverallStats, Predictions, Results};
use crate::http::AppState;
use crate::http::body::{JsonBody, NoBody};
use crate::http::error::ApiError;
use crate::http::fields::Fields;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Rules, and functions, that one request names.
const SELECTED_MAX: usize = 1_000;
/// Classes of a balance.
const CLASSES_MAX: usize = 64;
const EPOCHS: u32 = 100;
const LR: f64 = 0.01;
const LR_MIN: f64 = 1e-9;
const LR_MAX: f64 = 1_000.0;
const L2_MAX: f64 = 1_000.0;
/// Predictions of one page.
pub(super) const PREDICTIONS: usize = 10_000;
const PREDICTIONS_MAX: usize = 100_000;

/// How the label model is fitted.
#[derive(Deserialize, ToSchema)]
#[schema(as = SnorkelSettings)]
#[allow(dead_code)]
pub(super) struct SettingsBody {
    /// 100 when absent.
    #[schema(required = false, minimum = 1, maximum = 1_000_000)]
    epochs: Option<u32>,
    /// The learning rate; 0.01 when absent.
    #[schema(required = false, minimum = 0.000000001, maximum = 1000)]
    lr: Option<f64>,
    /// So many things are drawn to fit on; all of them when absent. Everything is predicted in any case.
    #[schema(required = false, minimum = 1)]
    sample_size: Option<i64>,
    /// `softmax` or `hard_labels`; `softmax` when absent.
    #[schema(required = false, pattern = "^(softmax|hard_labels)$")]
    output_type: Option<String>,
    /// 123 when absent.
    #[schema(required = false, minimum = 0)]
    seed: Option<u32>,
    /// The share of each class by ascending number of its value, or `"estimate"`; uniform when absent.
    #[schema(required = false)]
    class_balance: Option<Value>,
    /// 0 when absent.
    #[schema(required = false, minimum = 0, maximum = 1000)]
    l2: Option<f64>,
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewSnorkelJob)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
pub(super) struct RunBody {
    selected_index: u64,
    #[schema(required = false)]
    selected_rules: Option<Vec<u64>>,
    #[schema(rename = "selectedLFs", min_items = 1)]
    #[serde(rename = "selectedLFs")]
    selected_lfs: Vec<u64>,
    #[schema(required = false, value_type = Option<SettingsBody>)]
    snorkel: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum JobStatusWord {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl From<JobStatus> for JobStatusWord {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Pending => Self::Pending,
            JobStatus::Running => Self::Running,
            JobStatus::Completed => Self::Completed,
            JobStatus::Failed => Self::Failed,
            JobStatus::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputTypeWord {
    Softmax,
    HardLabels,
}

impl From<OutputType> for OutputTypeWord {
    fn from(output: OutputType) -> Self {
        match output {
            OutputType::Softmax => Self::Softmax,
            OutputType::HardLabels => Self::HardLabels,
        }
    }
}

/// As it was asked for, with the defaults filled in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SnorkelConfig {
    epochs: u32,
    lr: f64,
    sample_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    seed: Option<u32>,
    /// A list of shares, or `"estimate"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    class_balance: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    l2: Option<f64>,
}

impl From<&Config> for SnorkelConfig {
    fn from(config: &Config) -> Self {
        let balance = |balance: &Balance| match balance {
            Balance::Estimate => Value::from("estimate"),
            Balance::Given(shares) => Value::from(shares.clone()),
        };
        Self {
            epochs: config.epochs,
            lr: config.lr,
            sample_size: config.sample_size,
            seed: config.seed,
            class_balance: config.class_balance.as_ref().map(balance),
            l2: config.l2,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct SnorkelJob {
    job_id: u64,
    c_id: u64,
    index_id: u64,
    rule_ids: Vec<u64>,
    lf_ids: Vec<u64>,
    config: SnorkelConfig,
    output_type: OutputTypeWord,
    dagster_run_id: Option<String>,
    status: JobStatusWord,
    /// Where the labels lie, once it is completed.
    result_path: Option<String>,
    error_message: Option<String>,
    /// RFC 3339.
    created_at: String,
    completed_at: Option<String>,
}

impl From<&Record> for SnorkelJob {
    fn from(job: &Record) -> Self {
        Self {
            job_id: job.job_id,
            c_id: job.c_id,
            index_id: job.index_id,
            rule_ids: job.rule_ids.clone(),
            lf_ids: job.lf_ids.clone(),
            config: (&job.config).into(),
            output_type: job.output_type.into(),
            dagster_run_id: job.dagster_run_id.clone(),
            status: job.status.into(),
            result_path: job.result_path.clone(),
            error_message: job.error_message.clone(),
            created_at: time_text(job.created_at),
            completed_at: job.completed_at.map(time_text),
        }
    }
}

fn read_run(fields: &mut Fields<'_>) -> NewSnorkelJob {
    let index_id = number(fields, "selectedIndex");
    let index_id = fields.require("selectedIndex", index_id).unwrap_or_default();
    let rule_ids = numbers(fields, "selectedRules", SELECTED_MAX).unwrap_or_default();
    let lf_ids = numbers(fields, "selectedLFs", SELECTED_MAX);
    let lf_ids = fields.require("selectedLFs", lf_ids).unwrap_or_default();
    let (config, output_type) = match fields.raw("snorkel").map(Fields::of) {
        None => read_settings(&mut Fields::of_nothing()),
        Some(Ok(mut own)) => {
            let settings = read_settings(&mut own);
            own.finish().err().unwrap_or_default().into_iter().for_each(|(field, detail)| fields.note(field, detail));
            settings
        }
        Some(Err((_, detail))) => {
            fields.note("snorkel", detail);
            read_settings(&mut Fields::of_nothing())
        }
    };
    NewSnorkelJob { index_id, rule_ids, lf_ids, config, output_type }
}

fn read_settings(fields: &mut Fields<'_>) -> (Config, String) {
    let epochs = fields.integer("epochs", 1, 1_000_000).and_then(|epochs| u32::try_from(epochs).ok());
    let class_balance = match fields.raw("class_balance").map(|raw| raw.get()) {
        None => None,
        Some("\"estimate\"") => Some(Balance::Estimate),
        Some(_) => {
            let shares = floats(fields, "class_balance", CLASSES_MAX);
            if shares.as_ref().is_some_and(|shares| shares.iter().any(|share| !(1e-6..=1.0).contains(share))) {
                fields.note("class_balance", "must be \"estimate\" or a list of shares above 0 and at most 1");
            }
            shares.map(Balance::Given)
        }
    };
    let config = Config {
        epochs: epochs.unwrap_or(EPOCHS),
        lr: fields.number("lr", LR_MIN, LR_MAX).unwrap_or(LR),
        sample_size: fields.integer("sample_size", 1, i64::MAX).map(i64::unsigned_abs),
        class_balance,
        seed: fields.integer("seed", 0, u32::MAX.into()).and_then(|seed| u32::try_from(seed).ok()),
        l2: fields.number("l2", 0.0, L2_MAX),
    };
    (config, fields.text("output_type", 64).map_or_else(|| "softmax".to_owned(), |word| word.into_owned()))
}

/// Has functions vote on an index and weighs their votes; answers before that is done.
#[utoipa::path(post, path = "/concepts/{c_id}/snorkel/run", tag = "concepts", operation_id = "run_snorkel",
    params(("c_id" = i64, Path)), request_body = RunBody,
    responses((status = 201, description = "recorded, and at work", body = SnorkelJob),
        (status = 404, description = "there is no such concept, index, rule or function", body = crate::http::ErrorBody)))]
pub(super) async fn run(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<SnorkelJob>), ApiError> {
    let c_id = id(&mut params, "c_id");
    params.finish()?;
    let new = body(&bytes, read_run)?;
    let job = state.concepts()?.run_snorkel(c_id, new).await?;
    Ok((StatusCode::CREATED, Json(job.as_ref().into())))
}

/// The jobs of a concept, the newest first.
#[utoipa::path(get, path = "/concepts/{c_id}/snorkel/jobs", tag = "concepts", operation_id = "snorkel_jobs",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "the newest first", body = Vec<SnorkelJob>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<SnorkelJob>>, ApiError> {
    let c_id = id(&mut params, "c_id");
    let (skip, limit) = page(&mut params, state.config.page_max);
    params.finish()?;
    Ok(Json(state.concepts()?.snorkel_jobs(c_id, skip, limit)?.iter().map(|job| job.as_ref().into()).collect()))
}

fn ids(params: &mut Params) -> (u64, u64) {
    (id(params, "c_id"), id(params, "job_id"))
}

/// One job.
#[utoipa::path(get, path = "/concepts/{c_id}/snorkel/jobs/{job_id}", tag = "concepts", operation_id = "snorkel_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = SnorkelJob)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<SnorkelJob>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.snorkel_job(c_id, job_id)?.as_ref().into()))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfSummaryRow {
    lf_id: u64,
    name: String,
    /// The numbers of the values that it votes for, ascending.
    polarity: Vec<i64>,
    /// The share of things that it votes on.
    coverage: f64,
    /// The share of things that it and another function vote on.
    overlaps: f64,
    /// The share of things that it votes on and whose votes are not all the same.
    conflicts: f64,
    n_votes: u64,
    /// The estimated share of its votes that are right; null of a function that never votes.
    learned_weight: Option<f64>,
    /// Of `learned_weight`; null where nothing was learned, or where it would take too long to find out.
    standard_error: Option<f64>,
    /// False where there were too few functions to learn from.
    learned: bool,
    errors: Vec<LfError>,
    /// Why it abstains everywhere.
    failure: Option<String>,
}

impl From<LfResult> for LfSummaryRow {
    fn from(lf: LfResult) -> Self {
        Self {
            lf_id: lf.lf_id,
            name: lf.name,
            polarity: lf.polarity,
            coverage: lf.coverage,
            overlaps: lf.overlaps,
            conflicts: lf.conflicts,
            n_votes: lf.n_votes,
            learned_weight: lf.learned_weight,
            standard_error: lf.standard_error,
            learned: lf.learned,
            errors: lf.errors.into_iter().map(LfError::from).collect(),
            failure: lf.failure,
        }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SnorkelOverallStats {
    n_samples: u64,
    n_lfs: u64,
    cardinality: u64,
    total_coverage: f64,
    mean_lf_coverage: f64,
    mean_lf_overlaps: f64,
    mean_lf_conflicts: f64,
}

impl From<OverallStats> for SnorkelOverallStats {
    fn from(stats: OverallStats) -> Self {
        Self {
            n_samples: stats.n_samples,
            n_lfs: stats.n_lfs,
            cardinality: stats.cardinality,
            total_coverage: stats.total_coverage,
            mean_lf_coverage: stats.mean_lf_coverage,
            mean_lf_overlaps: stats.mean_lf_overlaps,
            mean_lf_conflicts: stats.mean_lf_conflicts,
        }
    }
}

/// Rows in the order of the index.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct SnorkelPredictions {
    /// Positions in the index.
    sample_ids: Vec<i64>,
    entity_ids: Vec<Value>,
    /// By class; see `cv_id_to_index`.
    probabilities: Vec<Vec<f64>>,
    /// The numbers of values, -1 for none.
    labels: Vec<i64>,
    /// The `offset` of the next page; null on the last one.
    next_offset: Option<u64>,
}

/// How far a job is, or, once it is completed, what it found.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct SnorkelResults {
    job_id: u64,
    /// `SUCCESS` once it is completed; the status of the job before.
    status: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    output_type: Option<OutputTypeWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    result_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    lf_summary: Option<Vec<LfSummaryRow>>,
    /// Things by what most of their votes say; ties and silence under `ABSTAIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    label_matrix_class_distribution: Option<BTreeMap<String, u64>>,
    /// Things by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    model_class_distribution: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    overall_stats: Option<SnorkelOverallStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    cv_id_to_index: Option<BTreeMap<u64, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    cv_id_to_name: Option<BTreeMap<u64, String>>,
    /// Shares of the classes that were fitted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    class_balance: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    predictions: Option<SnorkelPredictions>,
}

fn ready(job: &Record, results: Results, page: Predictions, offset: usize) -> SnorkelResults {
    let (shown, total) = (page.labels.len(), results.overall_stats.n_samples);
    let next = offset.saturating_add(shown) as u64;
    let message = format!("{total} samples labelled; predictions {offset} to {next} are here, all of them at result_path");
    SnorkelResults {
        job_id: job.job_id,
        status: "SUCCESS".to_owned(),
        message,
        output_type: Some(job.output_type.into()),
        result_path: job.result_path.clone(),
        lf_summary: Some(results.lf_summary.into_iter().map(LfSummaryRow::from).collect()),
        label_matrix_class_distribution: Some(results.label_matrix_class_distribution),
        model_class_distribution: Some(results.model_class_distribution),
        overall_stats: Some(results.overall_stats.into()),
        cv_id_to_index: Some(results.cv_id_to_index),
        cv_id_to_name: Some(results.cv_id_to_name),
        class_balance: Some(results.class_balance),
        predictions: Some(SnorkelPredictions {
            sample_ids: page.sample_ids,
            entity_ids: page.entity_ids,
            probabilities: page.probabilities,
            labels: page.labels,
            next_offset: (shown > 0 && next < total).then_some(next),
        }),
    }
}

/// What a job found; what it is doing while it has found nothing yet.
#[utoipa::path(get, path = "/concepts/{c_id}/snorkel/jobs/{job_id}/results", tag = "concepts", operation_id = "snorkel_results",
    params(("c_id" = i64, Path), ("job_id" = i64, Path),
        ("limit" = Option<u64>, Query, minimum = 1, description = "predictions; 10,000 when absent, at most 100,000"),
        ("offset" = Option<u64>, Query, description = "so many predictions are passed over")),
    responses((status = 200, description = "labels once they are complete", body = SnorkelResults)))]
pub(super) async fn results(State(state): State<AppState>, mut params: Params) -> Result<Json<SnorkelResults>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    let limit = params.limit(PREDICTIONS, PREDICTIONS_MAX);
    let offset = params.integer::<i64>("offset", 0, i64::MAX).and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
    params.finish()?;
    let concepts = state.concepts()?;
    let job = concepts.snorkel_job(c_id, job_id)?;
    if job.status != JobStatus::Completed {
        return Ok(Json(SnorkelResults {
            job_id,
            status: job.status.word().to_owned(),
            message: waiting(job.status),
            ..SnorkelResults::default()
        }));
    }
    let results = Concepts::snorkel_results(&job)?;
    let page = concepts.snorkel_predictions(&job, offset, limit).await?;
    Ok(Json(ready(&job, results, page, offset)))
}

/// What is said of a job without results.
pub(super) fn waiting(status: JobStatus) -> String {
    format!("Job is {}. Results not available yet.", status.word())
}

/// Removes a job with its labels, unless classifiers were trained on them.
#[utoipa::path(delete, path = "/concepts/{c_id}/snorkel/jobs/{job_id}", tag = "concepts", operation_id = "delete_snorkel_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    state.concepts()?.delete_snorkel_job(c_id, job_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a job that waits or works, and its run.
#[utoipa::path(post, path = "/concepts/{c_id}/snorkel/jobs/{job_id}/cancel", tag = "concepts", operation_id = "cancel_snorkel_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 200, description = "it never changes again", body = SnorkelJob)))]
pub(super) async fn cancel(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<SnorkelJob>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.cancel_snorkel_job(c_id, job_id).await?.as_ref().into()))
}
