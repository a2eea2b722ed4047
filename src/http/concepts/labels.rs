//! Live labels over HTTP. What they are stands in [`crate::labels`].

use super::reading::id;
use super::time_text;
use crate::concepts::record::Id;
use crate::http::AppState;
use crate::http::error::{ApiError, FieldError};
use crate::http::params::Params;
use crate::http::queries::{PAGE_DEFAULT, at};
use crate::labels::{Asked, Function, LabelRow, LiveAnswer, ModelFacts, PlanFacts};
use axum::extract::State;
use axum::response::Response;
use desireline_dataflows::views::labels::query::After;
use desireline_records::LogicalTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A label matrix and the labels that follow from it, at one logical time.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LiveLabelsReply {
    as_of: LogicalTime,
    matrix: LabelMatrix,
    rows: Vec<LiveLabelRow>,
    /// The `cursor` of the next page; null on the last one. A page may have fewer rows than its limit.
    next_cursor: Option<String>,
    totals: LabelTotals,
    /// One per column of the matrix.
    lfs: Vec<LiveFunction>,
    /// Null until one has been fitted.
    model: Option<LiveModel>,
    state: LabelStateWord,
    /// Why it is paused.
    reason: Option<String>,
    plans: Vec<QueryPlan>,
}

/// The columns and classes of a matrix.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LabelMatrix {
    index_id: u64,
    lf_ids: Vec<u64>,
    cv_ids: Vec<u64>,
    /// Counts up when queries, functions or values change; 0 while there is none.
    version: u64,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LiveLabelRow {
    key: String,
    /// By function: the number of a value, -1 for an abstention.
    votes: Vec<i64>,
    /// By value; empty before there is a model.
    probabilities: Vec<f64>,
    /// The number of a value, -1 for none.
    label: i64,
    /// The logical time of the features that were voted on.
    features_as_of: LogicalTime,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LabelTotals {
    rows: u64,
    /// Rows by the number of their label; null when the votes are too various to be counted.
    labelled: Option<BTreeMap<String, u64>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LiveFunction {
    lf_id: u64,
    name: String,
    /// Shares of all rows.
    coverage: f64,
    overlaps: f64,
    conflicts: f64,
    votes: u64,
    /// Null of a function that never votes, and before there is a model.
    learned_weight: Option<f64>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct LiveModel {
    version: u64,
    /// RFC 3339.
    trained_at: String,
    /// Rows.
    trained_on: u64,
    /// The shares of the values.
    balance: Vec<f64>,
    /// False with fewer than three functions: each counts as right in 0.7 of its votes.
    learned: bool,
}

/// `current`: everything in the log has been evaluated. `catching_up`: something waits. `evaluating`: everything is evaluated anew.
/// `paused`: see `reason`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LabelStateWord {
    Current,
    CatchingUp,
    Evaluating,
    Paused,
}

/// How a change reaches the answer of a query.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct QueryPlan {
    kind: QueryKindWord,
    id: u64,
    class: PlanClassWord,
    reason: String,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum QueryKindWord {
    Index,
    Rule,
}

/// `key_local`: changed keys alone are asked for. `side_table`: likewise, and a change of a table without keys is a whole evaluation.
/// `global`: every change is, at a bounded cadence. `refused`: there is no answer.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PlanClassWord {
    KeyLocal,
    SideTable,
    Global,
    Refused,
}

impl From<LabelRow> for LiveLabelRow {
    fn from(row: LabelRow) -> Self {
        let LabelRow { key, votes, probabilities, label, features_as_of } = row;
        Self { key: key.into(), votes, probabilities, label, features_as_of }
    }
}

impl From<Function> for LiveFunction {
    fn from(function: Function) -> Self {
        let Function { lf_id, name, coverage, overlaps, conflicts, votes, learned_weight } = function;
        Self { lf_id, name, coverage, overlaps, conflicts, votes, learned_weight }
    }
}

impl From<ModelFacts> for LiveModel {
    fn from(model: ModelFacts) -> Self {
        let ModelFacts { version, fitted_at, rows, balance, learned } = model;
        Self { version, trained_at: time_text(fitted_at), trained_on: rows, balance, learned }
    }
}

impl From<PlanFacts> for QueryPlan {
    fn from(plan: PlanFacts) -> Self {
        let kind = if plan.kind == "index" { QueryKindWord::Index } else { QueryKindWord::Rule };
        let class = match plan.class {
            "key_local" => PlanClassWord::KeyLocal,
            "side_table" => PlanClassWord::SideTable,
            "global" => PlanClassWord::Global,
            _ => PlanClassWord::Refused,
        };
        Self { kind, id: plan.id, class, reason: plan.reason }
    }
}

fn state_word(state: &str) -> LabelStateWord {
    match state {
        "current" => LabelStateWord::Current,
        "evaluating" => LabelStateWord::Evaluating,
        "paused" => LabelStateWord::Paused,
        _ => LabelStateWord::CatchingUp,
    }
}

fn reply(as_of: LogicalTime, answer: LiveAnswer) -> LiveLabelsReply {
    let text = |labelled: BTreeMap<i64, u64>| labelled.into_iter().map(|(cv_id, rows)| (cv_id.to_string(), rows)).collect();
    LiveLabelsReply {
        as_of,
        matrix: LabelMatrix { index_id: answer.index_id, lf_ids: answer.lf_ids, cv_ids: answer.cv_ids, version: answer.generation },
        rows: answer.rows.into_iter().map(LiveLabelRow::from).collect(),
        next_cursor: answer.next.as_ref().map(cursor),
        totals: LabelTotals { rows: answer.totals.rows, labelled: answer.totals.labelled.map(text) },
        lfs: answer.functions.into_iter().map(LiveFunction::from).collect(),
        model: answer.model.map(LiveModel::from),
        state: state_word(answer.state),
        reason: answer.reason,
        plans: answer.plans.into_iter().map(QueryPlan::from).collect(),
    }
}

fn cursor(after: &After) -> String {
    let key = after.key.as_ref().map(|key| format!(".{key}")).unwrap_or_default();
    format!("{:016x}{key}", after.hash)
}

fn after(cursor: &str) -> Option<After> {
    let hash = u64::from_str_radix(cursor.get(..16)?, 16).ok()?;
    match cursor.get(16..)? {
        "" => Some(After { hash, key: None }),
        key => Some(After { hash, key: Some(key.strip_prefix('.')?.into()) }),
    }
}

/// Labels of the things of an index on the `live` connection, always current: the votes of the active functions, what a label model makes
/// of them, how often functions vote, overlap and disagree.
#[utoipa::path(get, path = "/concepts/{c_id}/labels/live", tag = "concepts", operation_id = "live_labels",
    params(("c_id" = i64, Path), ("index_id" = Option<i64>, Query, minimum = 0, description = "one of the concept's; the first on the `live` connection when absent"),
        ("limit" = Option<i64>, Query, minimum = 1, description = "rows; 100 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("conflicts_only" = Option<bool>, Query, description = "rows on which functions contradict each other"),
        ("at_least" = Option<String>, Query, description = "a token; the answer contains that write", pattern = "^d1-0-[0-9a-f]{1,10}$")),
    responses((status = 200, description = "in an order that does not change", body = LiveLabelsReply)))]
pub(super) async fn live(State(state): State<AppState>, mut params: Params) -> Result<Response, ApiError> {
    let c_id = id(&mut params, "c_id");
    let index_id = params.integer("index_id", 0, i64::MAX).and_then(|id| Id::try_from(id).ok());
    let limit = params.limit(PAGE_DEFAULT, state.config.page_max);
    let given = params.text("cursor");
    let disputed_only = params.flag("conflicts_only").unwrap_or(false);
    let at_least = params.at_least();
    params.finish()?;
    let after = match given.as_deref() {
        None => None,
        Some(text) => {
            let wrong = || ApiError::invalid(vec![FieldError::new("cursor", "is not a next_cursor of this list")]);
            Some(after(text).ok_or_else(wrong)?)
        }
    };
    let answer = state.labels()?.answer(c_id, Asked { index_id, after, limit, disputed_only, at_least }).await?;
    Ok(at(answer.as_of, reply(answer.as_of, answer.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for key in [None, Some("a.b"), Some(" ü")] {
            let place = After { hash: 0x0123_4567_89ab_cdef, key: key.map(Into::into) };
            assert_eq!(after(&cursor(&place)), Some(place));
        }
        for text in ["", "x", "0123456789abcde", "0123456789abcdefkey", "0123456789abcdeg.k", "äääääääää"] {
            assert_eq!(after(text), None, "{text}");
        }
    }
}
