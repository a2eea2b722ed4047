//! Labelling functions tried out before they are saved.
//!
//! What it promises:
//! - The code is judged, compiled and run exactly as a saved one would be, on rows of the rule as they were materialised; nothing is kept.
//! - At most [`ROWS_MAX`] rows, by default [`ROWS`]: all of them, or some stretches that lie evenly over the table, always the same.
//! - At most `labelling.tests_at_once` at the same time. Who has to wait longer than some seconds is asked to come again.

use super::cells;
use super::functions::{self, NewCode};
use super::join::Rows;
use super::record::{Id, LfRuntime, Rule, Value};
use super::snorkel::{blocking, first_column, rounded};
use super::voting::{Faults, RowFault};
use super::{ConceptError, Concepts, join, tables};
use crate::runs::{RunError, RunErrorDomain};
use arrow_array::RecordBatch;
use desireline_labelling::{EvaluateError, Function, Runtime};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows that are tried when nothing else is said.
pub const ROWS: usize = 1_000;
pub const ROWS_MAX: usize = 100_000;
const BLOCKS: usize = 32;
/// Rows that are shown.
const SHOWN: usize = 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTrial {
    pub rule_id: Id,
    pub applicable_cv_ids: Vec<Id>,
    pub code: NewCode,
    pub sample_size: usize,
}

/// A row with its vote.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: Json,
    /// The number of a value, or -1.
    pub vote: i64,
    pub row: Map<String, Json>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub runtime: LfRuntime,
    pub rows: u64,
    /// By the names of values; `ABSTAIN` for none.
    pub votes: BTreeMap<String, u64>,
    /// The share of rows with a vote.
    pub coverage: f64,
    pub errors: Vec<RowFault>,
    pub rows_per_second: f64,
    pub sample: Vec<Shown>,
}

impl Concepts {
    pub async fn test_function(&self, c_id: Id, trial: NewTrial) -> Result<Trial, ConceptError> {
        let shelf = self.book()?.read();
        let rule = shelf.get_in::<Rule>(c_id, trial.rule_id)?.clone();
        functions::check_values(&shelf, c_id, &trial.applicable_cv_ids)?;
        if !rule.materialized.is_materialized {
            let detail = format!("Rule '{}' is not materialized. Please materialize it first.", rule.name);
            return Err(ConceptError::Refused(detail));
        }
        let (function, runtime) = self.function_of(&shelf, c_id, &trial.applicable_cv_ids, &trial.code).await?;
        let waiting = tokio::time::timeout(PATIENCE, self.inner.tests.clone().acquire_owned()).await;
        let busy = || ConceptError::Busy("other labeling functions are being tested; try again soon".to_owned());
        let permit = waiting.map_err(|_| busy())?.map_err(|_| busy())?;
        let object = format!("rules/rule_{}/data.parquet", rule.r_id);
        let read = tables::read(self.store(), &object).await;
        let (schema, batches) = read.map_err(|error| ConceptError::Objects(error.message))?;
        let table = Rows { name: format!("rule '{}'", rule.name), schema, batches };
        let names = trial.applicable_cv_ids.iter().filter_map(|id| shelf.find::<Value>(*id));
        let names: BTreeMap<i64, String> = names.map(|value| (functions::number(value.cv_id), value.name.clone())).collect();
        let column = match rule.index_column.clone() {
            Some(column) if table.column(&column).is_ok() => column,
            _ => first_column(&table).map_err(|error| ConceptError::Refused(error.message))?,
        };
        let evaluator = self.inner.labelling.clone();
        let tried = blocking(move || {
            let _permit = permit;
            attempt(&evaluator, &function, &table, &column, trial.sample_size)
        });
        let tried = tried.await.map_err(|error| failed(&error))??;
        let mut votes: BTreeMap<String, u64> = names.values().map(|name| (name.clone(), 0)).collect();
        votes.insert("ABSTAIN".to_owned(), 0);
        for vote in &tried.votes {
            let name = names.get(vote).map_or("ABSTAIN", String::as_str);
            *votes.entry(name.to_owned()).or_default() += 1;
        }
        let rows = tried.votes.len();
        let voted = tried.votes.iter().filter(|vote| names.contains_key(vote)).count();
        Ok(Trial {
            runtime,
            rows: rows as u64,
            votes,
            coverage: if rows == 0 { 0.0 } else { rounded(voted as f64 / rows as f64) },
            errors: tried.faults.told(),
            rows_per_second: (rows as f64 / tried.took.as_secs_f64().max(1e-9)).round(),
            sample: tried.sample,
        })
    }
}

fn failed(error: &RunError) -> ConceptError {
    if error.domain == RunErrorDomain::Stopped {
        return ConceptError::NotReady("the server is stopping");
    }
    ConceptError::Service(crate::service::ServiceError::Internal(error.message.clone()))
}

struct Tried {
    votes: Vec<i64>,
    faults: Faults,
    took: Duration,
    sample: Vec<Shown>,
}

/// Stretches of rows: all, or so many that lie evenly over the table.
fn stretches(rows: &Rows, wanted: usize) -> Vec<RecordBatch> {
    let total = rows.count();
    if total <= wanted {
        return rows.batches.clone();
    }
    let (blocks, left_out) = (BLOCKS.min(wanted).max(1), total - wanted);
    let mut found = Vec::with_capacity(blocks);
    for block in 0..blocks {
        let (begin, end) = (block * wanted / blocks, (block + 1) * wanted / blocks);
        // What is left out lies between the stretches, so that the first and the last row are seen.
        let (mut from, mut left) = (begin + block * left_out / (blocks - 1).max(1), end - begin);
        for batch in &rows.batches {
            if from >= batch.num_rows() {
                from -= batch.num_rows();
                continue;
            }
            let own = left.min(batch.num_rows() - from);
            found.push(batch.slice(from, own));
            (from, left) = (0, left - own);
            if left == 0 {
                break;
            }
        }
    }
    found
}

fn attempt(runtime: &Runtime, function: &Function, table: &Rows, column: &str, sample_size: usize) -> Result<Tried, ConceptError> {
    let batches = stretches(table, sample_size.clamp(1, ROWS_MAX));
    let key = table.column(column).map_err(|error: join::NoColumn| ConceptError::Refused(error.to_string()))?;
    let (mut votes, mut faults, begun) = (Vec::new(), Faults::default(), Instant::now());
    for batch in &batches {
        match runtime.evaluate(function, batch) {
            Ok(outcome) => {
                faults.add(&outcome.faults);
                votes.extend(outcome.votes);
            }
            Err(EvaluateError::Unavailable(detail)) => return Err(ConceptError::Busy(detail)),
            Err(error) => return Err(ConceptError::invalid("code", error.to_string())),
        }
    }
    let took = begun.elapsed();
    let step = (votes.len() / SHOWN).max(1);
    let places = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let shown = places.zip(&votes).step_by(step).take(SHOWN);
    let sample =
        shown.map(|((batch, row), vote)| Shown { key: cells::json(batch.column(key), row), vote: *vote, row: cells::row_json(batch, row) });
    Ok(Tried { sample: sample.collect(), votes, faults, took })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concepts::join::tests::rows;
    use arrow_array::Int64Array;
    use std::sync::Arc;

    #[test]
    fn a_sample_lies_evenly_and_has_exactly_so_many_rows() {
        let table = rows("rule 'r'", vec![("id", Arc::new(Int64Array::from_iter_values(0..10_000)))]);
        let ids = |wanted: usize| -> Vec<i64> {
            let shown = |batch: RecordBatch| {
                (0..batch.num_rows()).filter_map(move |row| cells::json(batch.column(0), row).as_i64()).collect::<Vec<_>>()
            };
            stretches(&table, wanted).into_iter().flat_map(shown).collect()
        };
        for wanted in [1, 31, 33, 1_000, 9_999] {
            let found = ids(wanted);
            assert_eq!(found.len(), wanted);
            assert!(found.is_sorted_by(|a, b| a < b), "no row twice, {wanted}");
        }
        assert!(ids(1_000).last().is_some_and(|last| *last > 9_600), "the end of the table is seen, too");
        assert_eq!(ids(10_000), ids(20_000));
    }
}
