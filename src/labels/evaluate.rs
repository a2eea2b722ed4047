//! Evaluation: what queries and functions say of some things now.
//!
//! Each query is answered at one logical time; the least of them is the time of the features. A row that comes in between is dirty again
//! afterwards, so it does no harm that another query has seen it already.

use super::wanted::Wanted;
use crate::concepts::join::{At, Entities, NoColumn, Rows, join};
use crate::concepts::{cells, voting};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use desireline_labelling::{Function, Runtime};
use desireline_records::LogicalTime;
use desireline_records::labels::{Bytes, RuleRows};
use desireline_sql::SqlError;
use desireline_sql::live::{Limits, LiveError, Tables, query};
use desireline_sql::statement::Checked;
use ecow::EcoString;
use futures::TryStreamExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Failure {
    #[error("{what}: {error}")]
    Query { what: String, error: SqlError },
    #[error(transparent)]
    Column(#[from] NoColumn),
    /// A function that failed as a whole.
    #[error("labeling function {lf_id}: {detail}")]
    Function { lf_id: u64, detail: String },
    /// Functions cannot be run now.
    #[error("labeling functions cannot be run: {0}")]
    Unavailable(String),
    #[error("the index has more than {0} things")]
    TooMany(usize),
    #[error("{0}")]
    Internal(String),
}

impl From<arrow_schema::ArrowError> for Failure {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Things with their keys: as text, which is how a matrix calls them, and as the values that queries are given.
pub struct Things {
    pub keys: Vec<EcoString>,
    pub values: ArrayRef,
}

impl Things {
    /// Things by text, as the values of a column of this type.
    pub fn of_keys(keys: Vec<EcoString>, kind: &DataType) -> Result<Self, Failure> {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(keys.iter().map(EcoString::as_str)));
        let values = cast(&texts, kind)?;
        Ok(Self { keys, values })
    }

    /// The `n`-th and the following ones.
    pub fn slice(&self, at: usize, length: usize) -> Self {
        let length = length.min(self.keys.len() - at);
        Self { keys: self.keys[at..at + length].to_vec(), values: self.values.slice(at, length) }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

/// A rule, its rows, and which of them is about each thing.
type RuleAnswer = (u64, Rows, Vec<Option<At>>);

/// What was found out about some things.
pub struct Evaluated {
    pub features_as_of: LogicalTime,
    /// One vote per column for each thing, row by row.
    pub votes: Vec<i8>,
    /// The rows of each rule, and which of them is about each thing.
    rules: Vec<RuleAnswer>,
}

/// Answers a query whole.
async fn ask(
    tables: &Arc<dyn Tables>,
    what: String,
    statement: &Checked,
    keys: Option<ArrayRef>,
    limits: &Limits,
) -> Result<(LogicalTime, Rows), Failure> {
    let failed = |error| Failure::Query { what: what.clone(), error };
    let keys = if statement.has_index_values() { keys } else { None };
    let (as_of, schema, stream) = query(tables, statement, keys, limits).await.map_err(failed)?;
    let batches: Result<Vec<RecordBatch>, _> = stream.try_collect().await;
    let batches = batches.map_err(|error| failed(LiveError::of(&error).into()))?;
    Ok((as_of, Rows { name: what.clone(), schema, batches }))
}

/// The things that the index has now: all of them, or of some keys those that it has.
pub async fn things(
    tables: &Arc<dyn Tables>,
    wanted: &Wanted,
    restricted: Option<(&Checked, ArrayRef)>,
    limits: &Limits,
    things_max: usize,
) -> Result<(LogicalTime, Things), Failure> {
    let what = format!("index '{}'", wanted.index.name);
    let (statement, keys) = match restricted {
        Some((statement, keys)) => (statement, Some(keys)),
        None => (&wanted.statement, None),
    };
    let (as_of, rows) = ask(tables, what, statement, keys, limits).await?;
    let column = wanted.index_column.clone().or_else(|| rows.schema.fields().first().map(|field| field.name().clone()));
    let column = column.ok_or_else(|| Failure::Internal("the index has no columns".to_owned()))?;
    let found = Entities::new(rows, &column)?;
    if found.len() > things_max {
        return Err(Failure::TooMany(things_max));
    }
    let arrays: Vec<&dyn Array> = found.index.batches.iter().map(|batch| batch.column(found.column).as_ref()).collect();
    let kind = found.index.schema.field(found.column).data_type().clone();
    let all = if arrays.is_empty() { arrow_array::new_empty_array(&kind) } else { arrow_select::concat::concat(&arrays)? };
    let starts: Vec<usize> =
        found.index.batches.iter().scan(0, |sum, batch| Some(std::mem::replace(sum, *sum + batch.num_rows()))).collect();
    let places = found.rows.iter().map(|(batch, row)| (starts[*batch as usize] + *row as usize) as u64);
    let values = arrow_select::take::take(&all, &arrow_array::UInt64Array::from_iter_values(places), None)?;
    let texts = cast(&values, &DataType::Utf8)?;
    let texts = texts.as_any().downcast_ref::<StringArray>().ok_or_else(|| Failure::Internal("keys are no text".to_owned()))?;
    let keys = texts.iter().map(|text| EcoString::from(text.unwrap_or_default())).collect();
    Ok((as_of, Things { keys, values }))
}

/// Asks every query and every function about some things.
pub async fn evaluate(
    tables: &Arc<dyn Tables>,
    wanted: &Arc<Wanted>,
    runtime: &Arc<Runtime>,
    things: &Things,
    limits: &Limits,
    threads: usize,
) -> Result<Evaluated, Failure> {
    let mut features_as_of = LogicalTime::MAX;
    let mut asked = Vec::with_capacity(wanted.rules.len());
    for rule in &wanted.rules {
        let what = format!("rule '{}'", rule.name);
        let (as_of, rows) = ask(tables, what, &rule.statement, Some(Arc::clone(&things.values)), limits).await?;
        features_as_of = features_as_of.min(as_of);
        asked.push((rule.r_id, rows));
    }
    let (wanted, runtime, values) = (Arc::clone(wanted), Arc::clone(runtime), Arc::clone(&things.values));
    let judged = tokio::task::spawn_blocking(move || judge(&wanted, &runtime, asked, &values, threads)).await;
    let (votes, rules) = judged.map_err(|_| Failure::Internal("the evaluation panicked".to_owned()))??;
    Ok(Evaluated { features_as_of, votes, rules })
}

type Judged = (Vec<i8>, Vec<RuleAnswer>);

fn judge(wanted: &Wanted, runtime: &Runtime, asked: Vec<(u64, Rows)>, values: &ArrayRef, threads: usize) -> Result<Judged, Failure> {
    let columns = wanted.columns.len();
    let mut votes = vec![voting::ABSTAIN; values.len() * columns];
    let mut rules = Vec::with_capacity(asked.len());
    let keys: Vec<Option<cells::Key<'_>>> = (0..values.len()).map(|row| cells::key(values.as_ref(), row)).collect();
    for (at, (r_id, rows)) in asked.into_iter().enumerate() {
        let column = match &wanted.index_column {
            Some(column) => column.clone(),
            None => rows.schema.fields().first().map(|field| field.name().clone()).unwrap_or_default(),
        };
        let joined = join(&keys, &rows, &column)?;
        let own: Vec<usize> = (0..columns).filter(|column| wanted.columns[*column].rule == at).collect();
        let functions: Vec<&Function> = own.iter().map(|column| &wanted.columns[*column].function).collect();
        let never = AtomicBool::new(false);
        let said = voting::vote(runtime, &functions, &wanted.classes, &rows, &joined, threads, &never, &|_| ());
        for (column, said) in own.into_iter().zip(said) {
            if let Some(outage) = said.outage {
                return Err(Failure::Unavailable(outage));
            }
            if let Some(detail) = said.failure {
                return Err(Failure::Function { lf_id: wanted.columns[column].lf_id, detail });
            }
            for (row, vote) in said.votes.into_iter().enumerate() {
                votes[row * columns + column] = vote;
            }
        }
        rules.push((r_id, rows, joined.rows));
    }
    Ok((votes, rules))
}

impl Evaluated {
    pub fn votes_of(&self, thing: usize, columns: usize) -> &[i8] {
        &self.votes[thing * columns..(thing + 1) * columns]
    }

    /// The rows of some things as they are logged.
    pub fn logged(&self, things: &[usize]) -> Result<Vec<RuleRows>, Failure> {
        let mut logged = Vec::with_capacity(self.rules.len());
        for (rule, rows, places) in &self.rules {
            let starts: Vec<usize> =
                rows.batches.iter().scan(0, |sum, batch| Some(std::mem::replace(sum, *sum + batch.num_rows()))).collect();
            let place = |thing: &usize| places[*thing].map(|(batch, row)| (starts[batch as usize] + row as usize) as u64);
            let wanted = arrow_array::UInt64Array::from_iter_values(things.iter().filter_map(place));
            let all = concat_batches(&rows.schema, &rows.batches)?;
            let taken = take_record_batch(&all, &wanted)?;
            let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
            let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema, options)?;
            writer.write(&taken)?;
            logged.push(RuleRows { rule: *rule, arrow: Bytes(writer.into_inner()?.into()) });
        }
        Ok(logged)
    }
}
