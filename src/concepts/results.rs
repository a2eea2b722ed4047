//! What a Snorkel job leaves: the rows of its object, and what its record keeps of them.

use super::book::Shelf;
use super::cells::{self, Key};
use super::join::Entities;
use super::label::{Judged, Labelled};
use super::record::{Id, LabelingFunction, Value};
use super::voting::{self, Classes, RowFault, Said};
use arrow_array::builder::{Float64Builder, ListBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of one batch of an object.
const BATCH_ROWS: usize = 65_536;

/// What is said of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LfResult {
    pub lf_id: Id,
    pub name: String,
    /// The numbers of the values that it votes for, ascending.
    pub polarity: Vec<i64>,
    pub coverage: f64,
    pub overlaps: f64,
    pub conflicts: f64,
    pub n_votes: u64,
    pub learned_weight: Option<f64>,
    /// Of `learned_weight`.
    #[serde(default)]
    pub standard_error: Option<f64>,
    pub learned: bool,
    /// Rows on which it abstains because something went wrong.
    #[serde(default)]
    pub errors: Vec<RowFault>,
    /// Why it abstains everywhere.
    #[serde(default)]
    pub failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverallStats {
    pub n_samples: u64,
    pub n_lfs: u64,
    pub cardinality: u64,
    pub total_coverage: f64,
    pub mean_lf_coverage: f64,
    pub mean_lf_overlaps: f64,
    pub mean_lf_conflicts: f64,
}

/// What the record of a completed job keeps of its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub lf_summary: Vec<LfResult>,
    pub label_matrix_class_distribution: BTreeMap<String, u64>,
    pub model_class_distribution: BTreeMap<String, u64>,
    pub overall_stats: OverallStats,
    /// The classes: the numbers of their values, ascending.
    pub cv_ids: Vec<Id>,
    pub cv_id_to_index: BTreeMap<Id, u64>,
    pub cv_id_to_name: BTreeMap<Id, String>,
    /// Shares of the classes that were fitted with.
    pub class_balance: Vec<f64>,
    /// Things that were fitted on.
    pub n_trained: u64,
    /// The column of the index whose values are the things.
    pub entity_column: String,
}

/// A page of predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    pub sample_ids: Vec<i64>,
    pub entity_ids: Vec<Json>,
    pub probabilities: Vec<Vec<f64>>,
    pub labels: Vec<i64>,
}

impl Predictions {
    /// Nothing for what is not the row of such an object.
    pub fn read(&mut self, batch: &RecordBatch, row: usize) -> Option<()> {
        let column = |name: &str| batch.column_by_name(name);
        self.sample_ids.push(cells::json(column("sample_id")?, row).as_i64()?);
        self.entity_ids.push(cells::json(column("entity_id")?, row));
        self.probabilities.push(cells::numbers(column("probs")?, row)?);
        self.labels.push(cells::json(column("label")?, row).as_i64()?);
        Some(())
    }
}

/// What is shown of shares and scores: four digits after the point.
pub fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// What the record keeps; `functions` are those that were asked, in the order of what they said.
pub fn results(
    shelf: &Shelf,
    entities: &Entities,
    functions: &[&LabelingFunction],
    said: &[Said],
    labelled: &Labelled,
    classes: &Classes,
) -> Results {
    let name = |cv_id: Id| shelf.find::<Value>(cv_id).map_or_else(|| cv_id.to_string(), |value| value.name.clone());
    let names: Vec<String> = classes.cv_ids().iter().map(|cv_id| name(*cv_id)).chain(["ABSTAIN".to_owned()]).collect();
    let distribution = |counts: &[u64]| names.iter().cloned().zip(counts.iter().copied()).collect();
    let summary = |((lf, said), judged): ((&&LabelingFunction, &Said), &Judged)| LfResult {
        lf_id: lf.lf_id,
        name: lf.name.clone(),
        polarity: judged.polarity.iter().map(|class| classes.cv_id(i8::try_from(*class).unwrap_or(voting::ABSTAIN))).collect(),
        coverage: rounded(judged.coverage),
        overlaps: rounded(judged.overlaps),
        conflicts: rounded(judged.conflicts),
        n_votes: judged.votes,
        learned_weight: judged.weight.map(rounded),
        standard_error: judged.weight_error.map(rounded),
        learned: labelled.is_learned,
        errors: said.faults.clone(),
        failure: said.failure.clone(),
    };
    let mean = |of: fn(&Judged) -> f64| rounded(labelled.functions.iter().map(of).sum::<f64>() / labelled.functions.len().max(1) as f64);
    Results {
        lf_summary: functions.iter().zip(said).zip(&labelled.functions).map(summary).collect(),
        label_matrix_class_distribution: distribution(&labelled.majority),
        model_class_distribution: distribution(&labelled.labelled),
        overall_stats: OverallStats {
            n_samples: labelled.labels.len() as u64,
            n_lfs: functions.len() as u64,
            cardinality: classes.len() as u64,
            total_coverage: rounded(labelled.covered),
            mean_lf_coverage: mean(|lf| lf.coverage),
            mean_lf_overlaps: mean(|lf| lf.overlaps),
            mean_lf_conflicts: mean(|lf| lf.conflicts),
        },
        cv_ids: classes.cv_ids().to_vec(),
        cv_id_to_index: classes.cv_ids().iter().copied().zip(0..).collect(),
        cv_id_to_name: classes.cv_ids().iter().map(|cv_id| (*cv_id, name(*cv_id))).collect(),
        class_balance: labelled.balance.clone(),
        n_trained: labelled.fitted_rows as u64,
        entity_column: entities.index.schema.field(entities.column).name().clone(),
    }
}

/// The rows of an object.
pub fn batches(entities: &Entities, labelled: &Labelled, classes: &Classes) -> Result<Vec<RecordBatch>, arrow_schema::ArrowError> {
    let key = |row: usize| entities.index.key(entities.rows[row], entities.column);
    let whole = |row: usize| match key(row) {
        Some(Key::Int(number)) => i64::try_from(number).ok(),
        _ => None,
    };
    let is_whole = (0..entities.len()).all(|row| whole(row).is_some());
    let entity_type = if is_whole { DataType::Int64 } else { DataType::Utf8 };
    let item = Arc::new(Field::new("item", DataType::Float64, false));
    let schema = Arc::new(Schema::new(vec![
        Field::new("sample_id", DataType::Int64, false),
        Field::new("entity_id", entity_type, false),
        Field::new("probs", DataType::List(Arc::clone(&item)), false),
        Field::new("label", DataType::Int64, false),
        Field::new("confidence", DataType::Float64, false),
    ]));
    let batch = |from: usize| {
        let rows = from..(from + BATCH_ROWS).min(entities.len());
        let mut probs = ListBuilder::new(Float64Builder::new()).with_field(Arc::clone(&item));
        for row in rows.clone() {
            probs.values().append_slice(&labelled.probabilities[row * classes.len()..(row + 1) * classes.len()]);
            probs.append(true);
        }
        let text = |row: usize| {
            let at = entities.rows[row];
            let shown = cells::json(entities.index.array(at, entities.column), at.1 as usize);
            shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)
        };
        let entity: ArrayRef = if is_whole {
            Arc::new(Int64Array::from_iter_values(rows.clone().filter_map(whole)))
        } else {
            Arc::new(StringArray::from_iter_values(rows.clone().map(text)))
        };
        RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from_iter_values((0..).skip(rows.start).take(rows.len()))),
                entity,
                Arc::new(probs.finish()),
                Arc::new(Int64Array::from_iter_values(labelled.labels[rows.clone()].iter().map(|label| classes.cv_id(*label)))),
                Arc::new(Float64Array::from_iter_values(labelled.confidence[rows].iter().copied())),
            ],
        )
    };
    (0..entities.len()).step_by(BATCH_ROWS).map(batch).collect()
}
