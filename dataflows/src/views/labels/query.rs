//! Questions about label matrices, and the workers' parts of the answers.

use super::Labels;
use super::matrix::{BUCKETS, MatrixRow, MatrixState, bucket_of, first_hash};
use desireline_records::{LogicalTime, Matrix, MatrixId, MatrixModel};
use desireline_votes::{ABSTAIN, Statistic};
use ecow::EcoString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows that one worker looks at for one page, before it answers with what it has.
const LOOKED_MAX: usize = 50_000;

#[derive(Clone, Debug)]
pub enum LabelsQuery {
    /// Every matrix with its numbers; how often each combination of votes occurs where there are at most so many on each worker.
    Matrices { combinations_max: usize },
    /// One of them.
    Matrix { matrix: MatrixId, combinations_max: usize },
    /// Rows in order of (hash, key), behind a place.
    Rows { matrix: MatrixId, after: Option<After>, rows_max: usize, disputed_only: bool },
    /// The rows of some things.
    Keys { matrix: MatrixId, keys: Arc<[EcoString]> },
}

/// Where a listing goes on: behind this thing, or with this hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub hash: u64,
    pub key: Option<EcoString>,
}

impl After {
    fn is_before(&self, hash: u64, key: &EcoString) -> bool {
        hash > self.hash || hash == self.hash && self.key.as_ref().is_none_or(|after| key > after)
    }
}

/// A matrix as a whole: one worker's part, or all of them added up.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixFacts {
    pub definition: Arc<Matrix>,
    pub model: Option<Arc<MatrixModel>>,
    /// The version of the last model, of whatever generation.
    pub models: u64,
    /// Whatever changed up to this time has been evaluated.
    pub through: LogicalTime,
    pub rows: u64,
    pub statistic: Statistic,
    /// How many rows have which votes; nothing when there are too many combinations.
    pub combinations: Option<BTreeMap<Box<[i8]>, i64>>,
}

#[derive(Clone, Debug, Default)]
pub struct LabelsAnswer {
    pub matrices: Vec<MatrixFacts>,
    pub rows: Vec<MatrixRow>,
    /// Every row with a smaller hash was looked at; absent when all were.
    pub looked_to: Option<u64>,
}

/// Whether votes contradict each other.
pub fn disputed(votes: &[i8]) -> bool {
    let mut voting = votes.iter().filter(|vote| **vote != ABSTAIN);
    voting.next().is_some_and(|first| voting.any(|vote| vote != first))
}

fn facts(state: &MatrixState, combinations_max: usize) -> MatrixFacts {
    MatrixFacts {
        definition: Arc::clone(state.definition()),
        model: state.model().cloned(),
        models: state.models(),
        through: state.through(),
        rows: state.rows() as u64,
        statistic: state.statistic().clone(),
        combinations: state.counted(combinations_max).map(|counted| counted.into_iter().collect()),
    }
}

/// One worker's part.
pub fn answer(labels: &Labels, query: &LabelsQuery) -> LabelsAnswer {
    let of = |matrix: &MatrixId| labels.get(*matrix);
    match query {
        LabelsQuery::Matrices { combinations_max } => {
            let matrices = labels.matrices.values().map(|state| facts(state, *combinations_max)).collect();
            LabelsAnswer { matrices, ..LabelsAnswer::default() }
        }
        LabelsQuery::Matrix { matrix, combinations_max } => {
            let matrices = of(matrix).map(|state| facts(state, *combinations_max)).into_iter().collect();
            LabelsAnswer { matrices, ..LabelsAnswer::default() }
        }
        LabelsQuery::Rows { matrix, after, rows_max, disputed_only } => {
            let Some(state) = of(matrix) else { return LabelsAnswer::default() };
            let (rows, looked_to) = page(state, after.as_ref(), *rows_max, *disputed_only);
            LabelsAnswer { matrices: vec![facts(state, 0)], rows, looked_to }
        }
        LabelsQuery::Keys { matrix, keys } => {
            let Some(state) = of(matrix) else { return LabelsAnswer::default() };
            let rows = keys.iter().filter_map(|key| state.find(key)).collect();
            LabelsAnswer { matrices: vec![facts(state, 0)], rows, looked_to: None }
        }
    }
}

fn page(state: &MatrixState, after: Option<&After>, rows_max: usize, disputed_only: bool) -> (Vec<MatrixRow>, Option<u64>) {
    let (mut found, mut looked) = (Vec::new(), 0);
    for bucket in after.map_or(0, |after| bucket_of(after.hash))..BUCKETS {
        let wanted = |hash: u64, key: &EcoString, votes: &[i8]| {
            after.is_none_or(|after| after.is_before(hash, key)) && (!disputed_only || disputed(votes))
        };
        let (rows, of_bucket) = state.bucket(bucket, wanted);
        found.extend(rows);
        looked += of_bucket;
        if (found.len() >= rows_max || looked >= LOOKED_MAX) && bucket + 1 < BUCKETS {
            return (found, Some(first_hash(bucket + 1)));
        }
    }
    (found, None)
}

/// Adds the workers' parts of each matrix up.
pub fn merge_facts(parts: impl IntoIterator<Item = MatrixFacts>) -> Vec<MatrixFacts> {
    let mut merged: BTreeMap<MatrixId, MatrixFacts> = BTreeMap::new();
    for part in parts {
        let Some(sum) = merged.get_mut(&part.definition.matrix) else {
            merged.insert(part.definition.matrix, part);
            continue;
        };
        sum.rows += part.rows;
        sum.statistic.merge(&part.statistic, 1).expect("the workers have the same definition at one time");
        sum.combinations = match (sum.combinations.take(), part.combinations) {
            (Some(mut sum), Some(part)) => {
                part.into_iter().for_each(|(votes, rows)| *sum.entry(votes).or_default() += rows);
                Some(sum)
            }
            _ => None,
        };
    }
    merged.into_values().collect()
}

/// Puts the workers' parts of a page together: at most `rows_max` rows, and where to go on.
pub fn merge_rows(parts: Vec<LabelsAnswer>, rows_max: usize) -> (Vec<MatrixRow>, Option<After>) {
    let bound = parts.iter().filter_map(|part| part.looked_to).min();
    let mut rows: Vec<MatrixRow> = parts.into_iter().flat_map(|part| part.rows).collect();
    rows.retain(|row| bound.is_none_or(|bound| row.hash < bound));
    rows.sort_unstable_by(|a, b| (a.hash, &a.key).cmp(&(b.hash, &b.key)));
    if rows.len() > rows_max {
        rows.truncate(rows_max);
        let next = rows.last().map(|row| After { hash: row.hash, key: Some(row.key.clone()) });
        return (rows, next);
    }
    (rows, bound.map(|hash| After { hash, key: None }))
}
