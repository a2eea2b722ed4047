//! Which columns a model's answers hang on.
//!
//! Permutation importance (Breiman, "Random Forests", 2001): the accuracy lost when a column's values are shuffled among the rows, as
//! a mean over several shuffles. It is measured on rows that the model was not fitted on, and is the same measure for every model. Of
//! columns that say the same, each looks less important than both are.

use super::draw::Draw;
use super::stop::Stop;
use super::{Model, ModelError, Table};
use serde::{Deserialize, Serialize};

/// Shuffles of each column.
pub const REPEATS: u32 = 5;

/// Accuracy lost without a column; below 0 when its values mislead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    pub column: String,
    /// Over the shuffles.
    pub mean: f64,
    /// Over the shuffles; divides by their number.
    pub deviation: f64,
}

/// For each column, in the order of the table. Costs columns × `repeats` predictions of the table (0 repeats count as 1).
pub fn importances(
    model: &Model,
    table: &Table,
    labels: &[usize],
    repeats: u32,
    seed: u64,
    stop: &Stop,
) -> Result<Vec<Importance>, ModelError> {
    if labels.len() != table.rows() {
        return Err(ModelError::LabelCount { labels: labels.len(), rows: table.rows() });
    }
    let accuracy = |table: &Table| -> Result<f64, ModelError> {
        let predicted = model.predict_until(table, stop)?;
        let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    };
    let whole = accuracy(table)?;
    let mut shuffled = table.clone();
    let columns = table.columns();
    let mut found = Vec::with_capacity(columns);
    for (column, name) in table.names().iter().enumerate() {
        let own: Vec<f64> = table.values().iter().skip(column).step_by(columns).copied().collect();
        let mut draw = Draw::new(seed, column as u64);
        let mut losses = Vec::with_capacity(repeats.max(1) as usize);
        for _ in 0..repeats.max(1) {
            let mut values = own.clone();
            draw.shuffle(&mut values);
            put(&mut shuffled, column, &values);
            losses.push(whole - accuracy(&shuffled)?);
        }
        put(&mut shuffled, column, &own);
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let variance = losses.iter().map(|loss| (loss - mean) * (loss - mean)).sum::<f64>() / losses.len() as f64;
        found.push(Importance { column: name.clone(), mean, deviation: variance.sqrt() });
    }
    Ok(found)
}

fn put(table: &mut Table, column: usize, values: &[f64]) {
    let columns = table.columns();
    for (to, value) in table.values_mut().iter_mut().skip(column).step_by(columns).zip(values) {
        *to = *value;
    }
}
