//! Classifier jobs over HTTP. What they are stands in [`crate::concepts`].

use super::reading::{body, id, number, numbers, page};
use super::snorkel::{JobStatusWord, waiting};
use super::time_text;
use crate::concepts::Concepts;
use crate::concepts::bank::{self, BankConfig, BankResults, FilteringStats};
use crate::concepts::classifiers::{FEATURES_MAX, NewClassifierJob};
use crate::concepts::record::{ClassifierJob as Record, JobStatus};
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

/// Imbalance of classes that can be allowed; more is no limit.
const IMBALANCE_MAX: f64 = 1e9;
const COUNT_MAX: i64 = 1_000_000_000;

/// What labels are learned from, and how.
#[derive(Deserialize, ToSchema)]
#[schema(as = ClassifierSettings)]
#[allow(dead_code)]
pub(super) struct SettingsBody {
    /// `max_confidence` or `entropy`; `max_confidence` when absent.
    #[schema(required = false, pattern = "^(max_confidence|entropy)$")]
    threshold_method: Option<String>,
    /// Labels that are less sure are left out; lowered where a class would be left with too few. 0.7 when absent.
    #[schema(required = false, minimum = 0, maximum = 1)]
    threshold_value: Option<f64>,
    /// 10 when absent.
    #[schema(required = false, minimum = 0, maximum = 1_000_000_000)]
    min_labels_per_class: Option<i64>,
    /// The largest class has at most so many times the labels of the smallest; 3 when absent.
    #[schema(required = false, minimum = 1, maximum = 1_000_000_000)]
    imbalance_factor: Option<f64>,
    /// The share of samples that models are judged by; 0.2 when absent.
    #[schema(required = false, minimum = 0.01, maximum = 0.99)]
    test_size: Option<f64>,
    /// 42 when absent.
    #[schema(required = false, minimum = 0)]
    random_state: Option<i64>,
    /// Kept, and without effect.
    #[schema(required = false, minimum = 1, maximum = 1_000_000_000)]
    n_estimators: Option<i64>,
    /// Kept, and without effect.
    #[schema(required = false, minimum = 1, maximum = 1_000_000_000)]
    max_depth: Option<i64>,
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewClassifierJob)]
#[allow(dead_code)]
pub(super) struct RunBody {
    /// The job whose labels are learned from; it must be completed.
    snorkel_job_id: u64,
    #[schema(min_items = 1)]
    feature_ids: Vec<u64>,
    /// May be empty.
    config: SettingsBody,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct ClassifierJob {
    job_id: u64,
    c_id: u64,
    snorkel_job_id: u64,
    feature_ids: Vec<u64>,
    /// As it was asked for, with the defaults filled in.
    #[schema(value_type = Object)]
    config: Value,
    dagster_run_id: Option<String>,
    status: JobStatusWord,
    /// Where the best model lies, once it is completed.
    result_path: Option<String>,
    error_message: Option<String>,
    /// RFC 3339.
    created_at: String,
    completed_at: Option<String>,
}

impl From<&Record> for ClassifierJob {
    fn from(job: &Record) -> Self {
        Self {
            job_id: job.job_id,
            c_id: job.c_id,
            snorkel_job_id: job.snorkel_job_id,
            feature_ids: job.feature_ids.clone(),
            config: job.config.clone(),
            dagster_run_id: job.dagster_run_id.clone(),
            status: job.status.into(),
            result_path: job.result_path.clone(),
            error_message: job.error_message.clone(),
            created_at: time_text(job.created_at),
            completed_at: job.completed_at.map(time_text),
        }
    }
}

fn read_run(fields: &mut Fields<'_>) -> NewClassifierJob {
    let snorkel_job_id = number(fields, "snorkel_job_id");
    let snorkel_job_id = fields.require("snorkel_job_id", snorkel_job_id).unwrap_or_default();
    let feature_ids = numbers(fields, "feature_ids", FEATURES_MAX);
    let feature_ids = fields.require("feature_ids", feature_ids).unwrap_or_default();
    let raw = fields.raw("config");
    let config = match fields.require("config", raw).map(Fields::of) {
        None => BankConfig::default(),
        Some(Ok(mut own)) => {
            let config = read_config(&mut own);
            own.finish().err().unwrap_or_default().into_iter().for_each(|(field, detail)| fields.note(field, detail));
            config
        }
        Some(Err((_, detail))) => {
            fields.note("config", detail);
            BankConfig::default()
        }
    };
    NewClassifierJob { snorkel_job_id, feature_ids, config }
}

fn read_config(fields: &mut Fields<'_>) -> BankConfig {
    let defaults = BankConfig::default();
    let count = |fields: &mut Fields<'_>, name, min| fields.integer(name, min, COUNT_MAX).map(i64::unsigned_abs);
    BankConfig {
        threshold_method: fields.text("threshold_method", 64).map_or(defaults.threshold_method, |word| word.into_owned()),
        threshold_value: fields.number("threshold_value", 0.0, 1.0).unwrap_or(defaults.threshold_value),
        min_labels_per_class: count(fields, "min_labels_per_class", 0)
            .map_or(defaults.min_labels_per_class, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        imbalance_factor: fields.number("imbalance_factor", 1.0, IMBALANCE_MAX).unwrap_or(defaults.imbalance_factor),
        test_size: fields.number("test_size", 0.01, 0.99).unwrap_or(defaults.test_size),
        random_state: fields.integer("random_state", 0, i64::MAX).map_or(defaults.random_state, i64::unsigned_abs),
        n_estimators: count(fields, "n_estimators", 1),
        max_depth: count(fields, "max_depth", 1),
    }
}

/// Trains a bank of classifiers on the labels of a Snorkel job; answers before that is done.
#[utoipa::path(post, path = "/concepts/{c_id}/classifiers/run", tag = "concepts", operation_id = "run_classifiers",
    params(("c_id" = i64, Path)), request_body = RunBody,
    responses((status = 201, description = "recorded, and at work", body = ClassifierJob),
        (status = 404, description = "there is no such concept, Snorkel job or feature", body = crate::http::ErrorBody)))]
pub(super) async fn run(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<ClassifierJob>), ApiError> {
    let c_id = id(&mut params, "c_id");
    params.finish()?;
    let new = body(&bytes, read_run)?;
    let job = state.concepts()?.run_classifiers(c_id, new).await?;
    Ok((StatusCode::CREATED, Json(job.as_ref().into())))
}

/// The jobs of a concept, the newest first.
#[utoipa::path(get, path = "/concepts/{c_id}/classifiers/jobs", tag = "concepts", operation_id = "classifier_jobs",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it")),
    responses((status = 200, description = "the newest first", body = Vec<ClassifierJob>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<ClassifierJob>>, ApiError> {
    let c_id = id(&mut params, "c_id");
    let (skip, limit) = page(&mut params, state.config.page_max);
    params.finish()?;
    Ok(Json(state.concepts()?.classifier_jobs(c_id, skip, limit)?.iter().map(|job| job.as_ref().into()).collect()))
}

pub(super) fn ids(params: &mut Params) -> (u64, u64) {
    (id(params, "c_id"), id(params, "job_id"))
}

/// One job.
#[utoipa::path(get, path = "/concepts/{c_id}/classifiers/jobs/{job_id}", tag = "concepts", operation_id = "classifier_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = ClassifierJob)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<ClassifierJob>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.classifier_job(c_id, job_id)?.as_ref().into()))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ClassifierFilteringStats {
    samples_before_filter: u64,
    samples_after_filter: u64,
    confidence_before_filter: f64,
    confidence_after_filter: f64,
    filter_retention_rate: f64,
    class_distribution_after_filter: BTreeMap<String, u64>,
}

impl From<FilteringStats> for ClassifierFilteringStats {
    fn from(stats: FilteringStats) -> Self {
        Self {
            samples_before_filter: stats.samples_before_filter,
            samples_after_filter: stats.samples_after_filter,
            confidence_before_filter: stats.confidence_before_filter,
            confidence_after_filter: stats.confidence_after_filter,
            filter_retention_rate: stats.filter_retention_rate,
            class_distribution_after_filter: stats.class_distribution_after_filter,
        }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ModelScore {
    #[serde(rename = "Model")]
    model: String,
    #[serde(rename = "Accuracy")]
    accuracy: f64,
    #[serde(rename = "Balanced Accuracy")]
    balanced_accuracy: f64,
    /// Weighted.
    #[serde(rename = "F1 Score")]
    f1_score: f64,
    /// Seconds.
    #[serde(rename = "Time Taken")]
    time_taken: f64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct FailedModel {
    #[serde(rename = "Model")]
    model: String,
    error: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct FeatureImportance {
    feature: String,
    /// The accuracy that the best model loses without it.
    importance: f64,
}

/// How far a job is, or, once it is completed, what it found.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ClassifierResults {
    job_id: u64,
    #[schema(value_type = JobStatusWord)]
    status: String,
    /// While there is nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    filtering_stats: Option<ClassifierFilteringStats>,
    /// The best first: by accuracy, then balanced accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    model_scores: Option<Vec<ModelScore>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    num_models_trained: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<Object>)]
    config_used: Option<Value>,
    /// Models that could not be trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    failed_models: Option<Vec<FailedModel>>,
    /// Of the best model, the most important first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    feature_importances: Option<Vec<FeatureImportance>>,
    /// What `threshold_value` was lowered to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    threshold_used: Option<f64>,
    /// `stratified`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    split: Option<String>,
    /// The model that predictions are made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    exported_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    features: Option<Vec<String>>,
}

fn ready(job: &Record, results: BankResults) -> ClassifierResults {
    let score = |score: bank::ModelScore| ModelScore {
        model: score.model,
        accuracy: score.accuracy,
        balanced_accuracy: score.balanced_accuracy,
        f1_score: score.f1_score,
        time_taken: score.time_taken,
    };
    let failed = |failed: bank::FailedModel| FailedModel { model: failed.model, error: failed.error };
    let importance = |own: bank::FeatureImportance| FeatureImportance { feature: own.feature, importance: own.importance };
    ClassifierResults {
        job_id: job.job_id,
        status: job.status.word().to_owned(),
        message: None,
        filtering_stats: Some(results.filtering_stats.into()),
        num_models_trained: Some(results.model_scores.len() as u64),
        model_scores: Some(results.model_scores.into_iter().map(score).collect()),
        config_used: Some(job.config.clone()),
        failed_models: Some(results.failed_models.into_iter().map(failed).collect()),
        feature_importances: Some(results.feature_importances.into_iter().map(importance).collect()),
        threshold_used: Some(results.threshold_used),
        split: Some(results.split_note.unwrap_or_else(|| "stratified".to_owned())),
        exported_model: results.exported_model,
        features: Some(results.features.into_iter().map(|feature| feature.name).collect()),
    }
}

/// What a job found; what it is doing while it has found nothing yet.
#[utoipa::path(get, path = "/concepts/{c_id}/classifiers/jobs/{job_id}/results", tag = "concepts", operation_id = "classifier_results",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 200, description = "the ranking once it is complete", body = ClassifierResults)))]
pub(super) async fn results(State(state): State<AppState>, mut params: Params) -> Result<Json<ClassifierResults>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    let job = state.concepts()?.classifier_job(c_id, job_id)?;
    if job.status == JobStatus::Completed {
        return Ok(Json(ready(&job, Concepts::classifier_results(&job)?)));
    }
    let (status, message) = (job.status.word().to_owned(), Some(waiting(job.status)));
    Ok(Json(ClassifierResults { job_id, status, message, ..ClassifierResults::default() }))
}

/// Removes a job with its model.
#[utoipa::path(delete, path = "/concepts/{c_id}/classifiers/jobs/{job_id}", tag = "concepts", operation_id = "delete_classifier_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    state.concepts()?.delete_classifier_job(c_id, job_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a job that waits or works, and its run.
#[utoipa::path(post, path = "/concepts/{c_id}/classifiers/jobs/{job_id}/cancel", tag = "concepts", operation_id = "cancel_classifier_job",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)),
    responses((status = 200, description = "it never changes again", body = ClassifierJob)))]
pub(super) async fn cancel(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<ClassifierJob>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.cancel_classifier_job(c_id, job_id).await?.as_ref().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_have_defaults_and_limits() {
        let read = |text: &str| {
            let mut fields = Fields::read(text.as_bytes()).expect("an object");
            let new = read_run(&mut fields);
            fields.finish().map(|()| new).map_err(|mistakes| mistakes.into_iter().map(|(field, _)| field).collect::<Vec<_>>())
        };
        let new = read(r#"{"snorkel_job_id":1,"feature_ids":[2],"config":{}}"#).expect("valid");
        assert_eq!(new.config, BankConfig::default());
        let shown = serde_json::to_value(&new.config).expect("json");
        let text = json!({"threshold_method": "max_confidence", "threshold_value": 0.7, "min_labels_per_class": 10,
            "imbalance_factor": 3.0, "test_size": 0.2, "random_state": 42});
        assert_eq!(shown, text);
        assert_eq!(read("{}").expect_err("nothing"), ["snorkel_job_id", "feature_ids", "config"]);
        let wrong = r#"{"snorkel_job_id":1,"feature_ids":["x"],"config":{"test_size":1,"imbalance_factor":0,"threshold_value":2}}"#;
        assert_eq!(read(wrong).expect_err("mistakes"), ["feature_ids", "threshold_value", "imbalance_factor", "test_size"]);
    }
}
