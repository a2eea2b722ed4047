//! Labelling functions over HTTP. What they are stands in [`crate::concepts`].

use super::asked::{filled, not_null};
use super::reading::{body, id, number, numbers, page, texts};
use super::time_text;
use crate::concepts::functions::{APPLICABLE_MAX, CODE_BYTES_MAX, FunctionChange, NewCode, NewFunction};
use crate::concepts::limits::NAME_BYTES_MAX;
use crate::concepts::record::LabelingFunction as Record;
use crate::concepts::trial::{self, NewTrial, Trial};
use crate::concepts::voting::RowFault;
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

const IMPORTS_MAX: usize = 16;
const IMPORT_BYTES_MAX: usize = 64;

/// The text of a function, and the modules that it may import.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfConfig {
    /// Python: a function `labeling_function(row)` that returns the number of a value or -1.
    #[schema(min_length = 1, max_length = 100_000)]
    code: String,
    /// Of `re`, `datetime`, `math` and `statistics`; none when absent.
    #[serde(default)]
    #[schema(required = false)]
    allowed_imports: Vec<String>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LabelingFunction {
    lf_id: u64,
    c_id: u64,
    /// The values that it may vote for.
    applicable_cv_ids: Vec<u64>,
    rule_id: u64,
    name: String,
    version: u32,
    parent_lf_id: Option<u64>,
    /// Always `custom`.
    lf_type: String,
    lf_config: LfConfig,
    /// `compiled` or `interpreted`.
    runtime: String,
    /// What keeps it from being compiled.
    runtime_reason: Option<String>,
    is_active: bool,
    requires_approval: bool,
    /// RFC 3339.
    deprecated_at: Option<String>,
    deprecated_by_lf_id: Option<u64>,
    /// The share of its votes that are right, by the last label model.
    estimated_accuracy: Option<f64>,
    /// The share of things that it votes on.
    coverage: Option<f64>,
    /// Things that it votes on and of which another function says something else.
    conflicts: Option<u64>,
    created_at: String,
    updated_at: String,
}

impl From<&Record> for LabelingFunction {
    fn from(lf: &Record) -> Self {
        let runtime = &lf.runtime;
        let line = runtime.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Self {
            lf_id: lf.lf_id,
            c_id: lf.c_id,
            applicable_cv_ids: lf.applicable_cv_ids.clone(),
            rule_id: lf.rule_id,
            name: lf.name.clone(),
            version: lf.version,
            parent_lf_id: lf.parent_lf_id,
            lf_type: "custom".to_owned(),
            lf_config: LfConfig { code: lf.lf_config.code.clone(), allowed_imports: lf.lf_config.allowed_imports.clone() },
            runtime: runtime.runtime.clone(),
            runtime_reason: runtime.reason.as_ref().map(|reason| format!("{line}{reason}")),
            is_active: lf.is_active,
            requires_approval: lf.requires_approval,
            deprecated_at: lf.deprecated_at.map(time_text),
            deprecated_by_lf_id: lf.deprecated_by_lf_id,
            estimated_accuracy: lf.estimated_accuracy,
            coverage: lf.coverage,
            conflicts: lf.conflicts,
            created_at: time_text(lf.created_at),
            updated_at: time_text(lf.updated_at),
        }
    }
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct NewLabelingFunction {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// The rule whose rows it sees.
    rule_id: u64,
    /// The values that it may vote for.
    #[schema(min_items = 1, max_items = 64)]
    applicable_cv_ids: Vec<u64>,
    /// A template when absent.
    #[schema(required = false, max_length = 100_000)]
    code: Option<String>,
    /// Of `re`, `datetime`, `math` and `statistics`.
    #[schema(required = false, max_items = 16)]
    allowed_imports: Option<Vec<String>>,
    /// The function that this one is another version of.
    #[schema(required = false)]
    parent_lf_id: Option<u64>,
}

fn applicable(fields: &mut Fields<'_>) -> Vec<u64> {
    let ids = numbers(fields, "applicable_cv_ids", APPLICABLE_MAX);
    let ids = fields.require("applicable_cv_ids", ids).unwrap_or_else(|| vec![0]);
    if ids.is_empty() {
        fields.note("applicable_cv_ids", "must name at least one concept value");
    }
    ids
}

fn imports(fields: &mut Fields<'_>) -> Vec<String> {
    texts(fields, "allowed_imports", IMPORTS_MAX, IMPORT_BYTES_MAX).unwrap_or_default()
}

fn read_new(fields: &mut Fields<'_>) -> NewFunction {
    let name = fields.text("name", NAME_BYTES_MAX);
    let rule_id = number(fields, "rule_id");
    NewFunction {
        name: fields.require("name", name).unwrap_or_default().into_owned(),
        rule_id: fields.require("rule_id", rule_id).unwrap_or_default(),
        applicable_cv_ids: applicable(fields),
        code: fields.text("code", CODE_BYTES_MAX).map(|code| code.into_owned()),
        allowed_imports: imports(fields),
        parent_lf_id: number(fields, "parent_lf_id"),
    }
}

/// The fields of `lf_config`, which must have code.
fn read_config(fields: &mut Fields<'_>) -> Option<NewCode> {
    let raw = fields.raw("lf_config")?;
    let mut own = match Fields::of(raw) {
        Ok(own) => own,
        Err((_, detail)) => {
            fields.note("lf_config", detail);
            return None;
        }
    };
    let code = own.text("code", CODE_BYTES_MAX);
    let code = own.require("code", code).unwrap_or_default().into_owned();
    let allowed_imports = imports(&mut own);
    for (field, detail) in own.finish().err().unwrap_or_default() {
        fields.note(field, detail);
    }
    Some(NewCode { code, allowed_imports })
}

/// Saves a function; its code is judged, and without code it gets a template. It is inactive until it is approved.
#[utoipa::path(post, path = "/concepts/{c_id}/labeling-functions", tag = "concepts", operation_id = "create_labeling_function",
    params(("c_id" = i64, Path)), request_body = NewLabelingFunction,
    responses((status = 201, description = "it is saved, and waits for approval", body = LabelingFunction),
        (status = 404, description = "there is no such concept, rule, value or parent", body = crate::http::ErrorBody)))]
pub(super) async fn create(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<LabelingFunction>), ApiError> {
    let c_id = id(&mut params, "c_id");
    params.finish()?;
    let new = body(&bytes, read_new)?;
    let lf = state.concepts()?.create_function(c_id, new).await?;
    Ok((StatusCode::CREATED, Json(lf.as_ref().into())))
}

/// The functions of a concept, in the order in which they were made.
#[utoipa::path(get, path = "/concepts/{c_id}/labeling-functions", tag = "concepts", operation_id = "labeling_functions",
    params(("c_id" = i64, Path), ("skip" = Option<u64>, Query, description = "so many are passed over"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "100 when absent; above the largest page it is lowered to it"),
        ("active_only" = Option<bool>, Query, description = "false when absent")),
    responses((status = 200, description = "by their numbers", body = Vec<LabelingFunction>)))]
pub(super) async fn list(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<LabelingFunction>>, ApiError> {
    let c_id = id(&mut params, "c_id");
    let (skip, limit) = page(&mut params, state.config.page_max);
    let active_only = params.flag("active_only").unwrap_or(false);
    params.finish()?;
    let functions = state.concepts()?.functions(c_id, skip, limit, active_only)?;
    Ok(Json(functions.iter().map(|lf| lf.as_ref().into()).collect()))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfTemplate {
    code: String,
    applicable_cv_ids: Vec<u64>,
}

/// The code that a function starts with when none is given. Saves nothing.
#[utoipa::path(get, path = "/concepts/{c_id}/labeling-functions/template", tag = "concepts", operation_id = "labeling_function_template",
    params(("c_id" = i64, Path), ("applicable_cv_ids" = Vec<i64>, Query, description = "once for each value")),
    responses((status = 200, description = "a line for each value, and a function that abstains", body = LfTemplate)))]
pub(super) async fn template(State(state): State<AppState>, mut params: Params) -> Result<Json<LfTemplate>, ApiError> {
    let c_id = id(&mut params, "c_id");
    let ids = params.integers("applicable_cv_ids", APPLICABLE_MAX);
    let ids = params.require("applicable_cv_ids", ids).unwrap_or_default();
    params.finish()?;
    let applicable_cv_ids: Vec<u64> = ids.into_iter().map(|id| u64::try_from(id).unwrap_or_default()).collect();
    let code = state.concepts()?.function_template(c_id, &applicable_cv_ids)?;
    Ok(Json(LfTemplate { code, applicable_cv_ids }))
}

/// One function.
#[utoipa::path(get, path = "/concepts/{c_id}/labeling-functions/{lf_id}", tag = "concepts", operation_id = "labeling_function",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = LabelingFunction)))]
pub(super) async fn get(State(state): State<AppState>, mut params: Params) -> Result<Json<LabelingFunction>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.function(c_id, lf_id)?.as_ref().into()))
}

fn ids(params: &mut Params) -> (u64, u64) {
    (id(params, "c_id"), id(params, "lf_id"))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfMetrics {
    lf_id: u64,
    name: String,
    version: u32,
    estimated_accuracy: Option<f64>,
    coverage: Option<f64>,
    conflicts: Option<u64>,
    /// Whether a label model has judged it.
    metrics_available: bool,
}

/// What the last label model has found out about a function.
#[utoipa::path(get, path = "/concepts/{c_id}/labeling-functions/{lf_id}/metrics", tag = "concepts", operation_id = "labeling_function_metrics",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 200, description = "nulls before the first label model", body = LfMetrics)))]
pub(super) async fn metrics(State(state): State<AppState>, mut params: Params) -> Result<Json<LfMetrics>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    let lf = state.concepts()?.function(c_id, lf_id)?;
    Ok(Json(LfMetrics {
        lf_id,
        name: lf.name.clone(),
        version: lf.version,
        estimated_accuracy: lf.estimated_accuracy,
        coverage: lf.coverage,
        conflicts: lf.conflicts,
        metrics_available: lf.estimated_accuracy.is_some(),
    }))
}

/// What is to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct LabelingFunctionChange {
    #[schema(required = false, min_length = 1, max_length = 255, value_type = String)]
    name: Option<String>,
    /// Refused for a function that has not been approved.
    #[schema(required = false, value_type = bool)]
    is_active: Option<bool>,
    /// Other code makes a function inactive until it is approved again.
    #[schema(required = false, value_type = LfConfig)]
    lf_config: Option<LfConfig>,
}

fn read_change(fields: &mut Fields<'_>) -> FunctionChange {
    FunctionChange {
        name: filled(fields, "name", NAME_BYTES_MAX),
        is_active: not_null(fields, "is_active", |fields| fields.flag("is_active")),
        lf_config: not_null(fields, "lf_config", read_config),
    }
}

/// Changes a function.
#[utoipa::path(patch, path = "/concepts/{c_id}/labeling-functions/{lf_id}", tag = "concepts", operation_id = "change_labeling_function",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)), request_body = LabelingFunctionChange,
    responses((status = 200, description = "as it is now", body = LabelingFunction)))]
pub(super) async fn change(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<LabelingFunction>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    let change = body(&bytes, read_change)?;
    Ok(Json(state.concepts()?.change_function(c_id, lf_id, change).await?.as_ref().into()))
}

/// Removes a function, unless it has versions or a job is at work with it.
#[utoipa::path(delete, path = "/concepts/{c_id}/labeling-functions/{lf_id}", tag = "concepts", operation_id = "delete_labeling_function",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 204, description = "it is gone")))]
pub(super) async fn delete(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<StatusCode, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    state.concepts()?.delete_function(c_id, lf_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Approves a function and makes it active.
#[utoipa::path(post, path = "/concepts/{c_id}/labeling-functions/{lf_id}/approve", tag = "concepts", operation_id = "approve_labeling_function",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = LabelingFunction)))]
pub(super) async fn approve(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<LabelingFunction>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.approve_function(c_id, lf_id).await?.as_ref().into()))
}

/// Makes an active function inactive, and the other way round.
#[utoipa::path(post, path = "/concepts/{c_id}/labeling-functions/{lf_id}/toggle", tag = "concepts", operation_id = "toggle_labeling_function",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 200, description = "as it is now", body = LabelingFunction)))]
pub(super) async fn toggle(State(state): State<AppState>, mut params: Params, _: NoBody) -> Result<Json<LabelingFunction>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.toggle_function(c_id, lf_id).await?.as_ref().into()))
}

#[derive(Deserialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct NewLfVersion {
    lf_config: LfConfig,
    /// `{name of the parent}_v{version}` when absent.
    #[schema(required = false, max_length = 255)]
    name: Option<String>,
}

/// Saves a new version of a function, which takes over its rule and its values, and deprecates the old one.
#[utoipa::path(post, path = "/concepts/{c_id}/labeling-functions/{lf_id}/versions", tag = "concepts", operation_id = "create_lf_version",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)), request_body = NewLfVersion,
    responses((status = 201, description = "it is saved, and waits for approval", body = LabelingFunction),
        (status = 404, description = "there is no such function", body = crate::http::ErrorBody)))]
pub(super) async fn add_version(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<(StatusCode, Json<LabelingFunction>), ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    let (code, name) = body(&bytes, |fields| {
        let code = read_config(fields);
        let code = fields.require("lf_config", code).unwrap_or_default();
        (code, fields.text("name", NAME_BYTES_MAX).map(|name| name.into_owned()))
    })?;
    let lf = state.concepts()?.add_version(c_id, lf_id, code, name).await?;
    Ok((StatusCode::CREATED, Json(lf.as_ref().into())))
}

/// All versions of a function, whichever of them is asked for, from the root on.
#[utoipa::path(get, path = "/concepts/{c_id}/labeling-functions/{lf_id}/versions", tag = "concepts", operation_id = "lf_versions",
    params(("c_id" = i64, Path), ("lf_id" = i64, Path)),
    responses((status = 200, description = "by version and number", body = Vec<LabelingFunction>)))]
pub(super) async fn versions(State(state): State<AppState>, mut params: Params) -> Result<Json<Vec<LabelingFunction>>, ApiError> {
    let (c_id, lf_id) = ids(&mut params);
    params.finish()?;
    Ok(Json(state.concepts()?.versions(c_id, lf_id)?.iter().map(|lf| lf.as_ref().into()).collect()))
}

/// Code that is to be tried.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct LfTest {
    /// The rule on whose rows it is tried; it must be materialized.
    rule_id: u64,
    #[schema(min_items = 1, max_items = 64)]
    applicable_cv_ids: Vec<u64>,
    #[schema(min_length = 1, max_length = 100_000)]
    code: String,
    #[schema(required = false, max_items = 16)]
    allowed_imports: Option<Vec<String>>,
    /// Rows; 1,000 when absent.
    #[schema(required = false, minimum = 1, maximum = 100_000)]
    sample_size: Option<i64>,
}

/// Rows on which a function abstains because something went wrong.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfError {
    line: Option<u32>,
    /// `exception`, `undeclared`, `not_an_integer`, `none` or `limit`.
    kind: String,
    message: String,
    rows: u64,
}

impl From<RowFault> for LfError {
    fn from(fault: RowFault) -> Self {
        Self { line: fault.line, kind: fault.kind, message: fault.message, rows: fault.rows }
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfTestRow {
    /// The thing that the row is about.
    key: Value,
    /// The number of a value, or -1.
    vote: i64,
    #[schema(value_type = Object)]
    row: serde_json::Map<String, Value>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LfTestReply {
    /// `compiled` or `interpreted`.
    runtime: String,
    /// What keeps it from being compiled.
    reason: Option<String>,
    /// Where that stands.
    line: Option<u32>,
    rows: u64,
    /// By the names of values, and `ABSTAIN`.
    votes: BTreeMap<String, u64>,
    /// The share of rows with a vote.
    coverage: f64,
    /// The most frequent first.
    errors: Vec<LfError>,
    rows_per_second: f64,
    /// At most 20 rows, evenly over what was tried.
    sample: Vec<LfTestRow>,
}

impl From<Trial> for LfTestReply {
    fn from(trial: Trial) -> Self {
        let row = |shown: trial::Shown| LfTestRow { key: shown.key, vote: shown.vote, row: shown.row };
        Self {
            runtime: trial.runtime.runtime,
            reason: trial.runtime.reason,
            line: trial.runtime.line,
            rows: trial.rows,
            votes: trial.votes,
            coverage: trial.coverage,
            errors: trial.errors.into_iter().map(LfError::from).collect(),
            rows_per_second: trial.rows_per_second,
            sample: trial.sample.into_iter().map(row).collect(),
        }
    }
}

/// Runs code on a sample of a rule's rows; keeps nothing.
#[utoipa::path(post, path = "/concepts/{c_id}/labeling-functions/test", tag = "concepts", operation_id = "test_labeling_function",
    params(("c_id" = i64, Path)), request_body = LfTest,
    responses((status = 200, description = "what it votes, what goes wrong, how fast it is", body = LfTestReply),
        (status = 404, description = "there is no such concept, rule or value", body = crate::http::ErrorBody)))]
pub(super) async fn test(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<LfTestReply>, ApiError> {
    let c_id = id(&mut params, "c_id");
    params.finish()?;
    let trial = body(&bytes, |fields| {
        let rule_id = number(fields, "rule_id");
        let code = fields.text("code", CODE_BYTES_MAX);
        let rows = fields.integer("sample_size", 1, trial::ROWS_MAX as i64);
        NewTrial {
            rule_id: fields.require("rule_id", rule_id).unwrap_or_default(),
            applicable_cv_ids: applicable(fields),
            code: NewCode { code: fields.require("code", code).unwrap_or_default().into_owned(), allowed_imports: imports(fields) },
            sample_size: rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(trial::ROWS),
        }
    })?;
    Ok(Json(state.concepts()?.test_function(c_id, trial).await?.into()))
}
