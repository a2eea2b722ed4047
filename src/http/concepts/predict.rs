//! Predictions over HTTP: by the best model of a classifier job, for rows that are given or for things by their names.

use super::classifiers::ids;
use crate::concepts::bank::{Exported, Predicted};
use crate::concepts::columns::{Column, FeatureType};
use crate::http::AppState;
use crate::http::body::{JsonBody, reading};
use crate::http::error::{ApiError, FieldError};
use crate::http::fields::unreadable;
use crate::http::params::Params;
use axum::Json;
use axum::extract::State;
use desireline_records::time::parse_time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Rows, or things, of one prediction.
const ROWS_MAX: usize = 10_000;
/// Mistakes of one body that are named.
const MISTAKES_MAX: usize = 100;

/// Either rows or things.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPrediction)]
#[allow(dead_code)]
pub(super) struct PredictBody {
    /// All features of the model by their names: numbers, times (RFC 3339 or seconds since 1970), true or false; null where there is none.
    #[schema(required = false, min_items = 1, max_items = 10_000, value_type = Option<Vec<Object>>)]
    rows: Option<Vec<Map<String, Value>>>,
    /// Things of the Snorkel job; what the features have of them now is taken.
    #[schema(required = false, min_items = 1, max_items = 10_000)]
    entity_ids: Option<Vec<Value>>,
}

enum Ask {
    Rows(Vec<Map<String, Value>>),
    Entities(Vec<Value>),
}

#[derive(Deserialize)]
struct Read {
    rows: Option<Vec<Map<String, Value>>>,
    entity_ids: Option<Vec<Value>>,
}

fn read_ask(bytes: &[u8]) -> Result<Ask, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
    if !value.is_object() {
        return Err(ApiError::malformed("the body is not a JSON object"));
    }
    let read = Read::deserialize(value).map_err(|_| ApiError::invalid_field("rows", "must be a list of objects, or entity_ids a list"))?;
    let (ask, field, count) = match (read.rows, read.entity_ids) {
        (Some(rows), None) => {
            let count = rows.len();
            (Ask::Rows(rows), "rows", count)
        }
        (None, Some(ids)) => {
            let count = ids.len();
            (Ask::Entities(ids), "entity_ids", count)
        }
        (Some(_), Some(_)) => return Err(ApiError::invalid_field("entity_ids", "is not taken together with rows")),
        (None, None) => return Err(ApiError::invalid_field("rows", "is required, or entity_ids instead")),
    };
    if count == 0 || count > ROWS_MAX {
        return Err(ApiError::invalid_field(field, format!("must have 1 to {ROWS_MAX} entries")));
    }
    Ok(ask)
}

/// The values of a row in the order of the model's features. What is missing or no value is named.
fn read_row(at: usize, row: &Map<String, Value>, features: &[Column], mistakes: &mut Vec<FieldError>) -> Vec<Option<f64>> {
    let mut note = |name: &str, detail: &str| {
        if mistakes.len() < MISTAKES_MAX {
            mistakes.push(FieldError::new(format!("rows[{at}].{name}"), detail));
        }
    };
    let value = |feature: &Column| match row.get(&feature.name) {
        None => {
            note(&feature.name, "is required");
            None
        }
        Some(Value::Null) => None,
        Some(given) => {
            let number = read_value(given, feature.feature_type);
            if number.is_none() {
                note(&feature.name, "must be a number, for a time RFC 3339, for a truth value true or false, or null");
            }
            number
        }
    };
    features.iter().map(value).collect()
}

fn read_value(value: &Value, feature_type: FeatureType) -> Option<f64> {
    match (value, feature_type) {
        (Value::Number(number), _) => number.as_f64().filter(|number| number.is_finite()),
        (Value::Bool(truth), FeatureType::Flag) => Some(f64::from(u8::from(*truth))),
        (Value::String(text), FeatureType::Time) => parse_time(text).map(|micros| micros as f64 / 1e6),
        _ => None,
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ClassifierPrediction {
    /// The number of a value.
    label: u64,
    name: String,
    /// By the names of values; null of a model that knows none.
    probabilities: Option<BTreeMap<String, f64>>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct ClassifierPredictions {
    model: String,
    /// In the order of what was asked for.
    predictions: Vec<ClassifierPrediction>,
}

fn said(model: &Exported, predicted: Vec<Predicted>) -> ClassifierPredictions {
    let one = |own: Predicted| ClassifierPrediction { label: own.cv_id, name: own.name, probabilities: own.probabilities };
    ClassifierPredictions { model: model.model.kind().name().to_owned(), predictions: predicted.into_iter().map(one).collect() }
}

/// Predicts with the best model of a completed job.
#[utoipa::path(post, path = "/concepts/{c_id}/classifiers/jobs/{job_id}/predict", tag = "concepts", operation_id = "predict",
    params(("c_id" = i64, Path), ("job_id" = i64, Path)), request_body = PredictBody,
    responses((status = 200, description = "a class for each row or thing", body = ClassifierPredictions),
        (status = 404, description = "there is no such job", body = crate::http::ErrorBody)))]
pub(super) async fn predict(
    State(state): State<AppState>,
    mut params: Params,
    JsonBody(bytes): JsonBody,
) -> Result<Json<ClassifierPredictions>, ApiError> {
    let (c_id, job_id) = ids(&mut params);
    params.finish()?;
    let ask = reading(bytes.len(), move || read_ask(&bytes)).await??;
    let concepts = state.concepts()?;
    let job = concepts.classifier_job(c_id, job_id)?;
    let model = concepts.classifier_model(&job).await?;
    let predicted = match ask {
        Ask::Rows(rows) => {
            let mut mistakes = Vec::new();
            let values = rows.iter().enumerate().map(|(at, row)| read_row(at, row, &model.features, &mut mistakes)).collect();
            if !mistakes.is_empty() {
                return Err(ApiError::invalid(mistakes));
            }
            concepts.predict(model.clone(), values).await?
        }
        Ask::Entities(ids) => concepts.predict_entities(&job, model.clone(), ids).await?,
    };
    Ok(Json(said(&model, predicted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns() -> Vec<Column> {
        let column = |name: &str, feature_type| Column { name: name.into(), feature_id: Some(1), column: name.into(), feature_type };
        vec![column("n", FeatureType::Number), column("at", FeatureType::Time), column("is_on", FeatureType::Flag)]
    }

    #[test]
    fn a_row_has_every_feature_or_says_which_is_missing() {
        let mut mistakes = Vec::new();
        let row = |value: Value| value.as_object().cloned().expect("an object");
        let good = row(json!({"n": 2, "at": "1970-01-01T00:01:00Z", "is_on": true, "more": "x"}));
        assert_eq!(read_row(0, &good, &columns(), &mut mistakes), [Some(2.0), Some(60.0), Some(1.0)]);
        assert_eq!(read_row(0, &row(json!({"n": null, "at": 60, "is_on": 0})), &columns(), &mut mistakes), [None, Some(60.0), Some(0.0)]);
        assert_eq!(mistakes, []);
        read_row(1, &row(json!({"n": "2", "is_on": "yes"})), &columns(), &mut mistakes);
        let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_ref()).collect();
        assert_eq!(fields, ["rows[1].n", "rows[1].at", "rows[1].is_on"]);
    }
}
