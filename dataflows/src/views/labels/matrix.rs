//! One matrix, as far as one worker keeps its rows.

use super::{LabelRow, MatrixHead, key_hash};
use desireline_records::{LogicalTime, Matrix, MatrixModel, MatrixRows};
use desireline_votes::{ABSTAIN, Statistic};
use ecow::EcoString;
use hashbrown::HashMap;
use std::sync::Arc;

/// Rows lie in so many maps, by the upper bits of their hash.
pub const BUCKETS: usize = 256;

/// The bucket of a hash, and the first hash of a bucket.
pub fn bucket_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

pub fn first_hash(bucket: usize) -> u64 {
    (bucket as u64) << 56
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Which combination of votes it has.
    combination: u32,
    features_as_of: LogicalTime,
}

/// A combination of votes and how many rows have it.
struct Combination {
    votes: Box<[i8]>,
    rows: i64,
    /// Rows that the statistic does not know yet, or not any more.
    unsettled: i64,
}

/// A row as it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRow {
    pub hash: u64,
    pub key: EcoString,
    pub facts: RowFacts,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RowFacts {
    pub votes: Box<[i8]>,
    pub features_as_of: LogicalTime,
}

pub struct MatrixState {
    definition: Arc<Matrix>,
    rows: Vec<HashMap<EcoString, Row>>,
    row_count: usize,
    combinations: Vec<Combination>,
    by_votes: HashMap<Box<[i8]>, u32>,
    /// Combinations without rows, to be used again.
    free: Vec<u32>,
    /// Combinations with something unsettled.
    touched: Vec<u32>,
    statistic: Statistic,
    model: Option<Arc<MatrixModel>>,
    models: u64,
    through: LogicalTime,
}

impl MatrixState {
    /// Nothing when there can be no such matrix.
    pub fn new(definition: Arc<Matrix>, models: u64) -> Option<Self> {
        let statistic = Statistic::new(definition.functions.len(), definition.classes.len()).ok()?;
        Some(Self {
            definition,
            rows: (0..BUCKETS).map(|_| HashMap::new()).collect(),
            row_count: 0,
            combinations: Vec::new(),
            by_votes: HashMap::new(),
            free: Vec::new(),
            touched: Vec::new(),
            statistic,
            model: None,
            models,
            through: 0,
        })
    }

    pub fn definition(&self) -> &Arc<Matrix> {
        &self.definition
    }

    pub fn model(&self) -> Option<&Arc<MatrixModel>> {
        self.model.as_ref()
    }

    /// The version of the last model, of whatever generation.
    pub fn models(&self) -> u64 {
        self.models
    }

    pub fn through(&self) -> LogicalTime {
        self.through
    }

    pub fn rows(&self) -> usize {
        self.row_count
    }

    pub fn combinations(&self) -> usize {
        self.by_votes.len()
    }

    pub fn statistic(&self) -> &Statistic {
        &self.statistic
    }

    fn fits(&self, rows: &MatrixRows) -> bool {
        let classes = self.definition.classes.len() as i64;
        let in_range = |vote: &i8| *vote == ABSTAIN || (0..classes).contains(&i64::from(*vote));
        rows.generation == self.definition.generation
            && rows.votes.0.len() == rows.keys.len() * self.definition.functions.len()
            && rows.votes.0.iter().all(in_range)
    }

    /// Takes up what was evaluated, as far as this worker keeps it.
    pub fn apply(&mut self, rows: &MatrixRows, owns: impl Fn(u64) -> bool) {
        if !self.fits(rows) {
            return;
        }
        self.through = self.through.max(rows.through);
        let matrix = self.definition.matrix;
        // Rows that come together often vote alike.
        let mut last: Option<(&[i8], u32)> = None;
        for (key, votes) in rows.by_key(self.definition.functions.len()) {
            let hash = key_hash(matrix, key);
            if !owns(hash) {
                continue;
            }
            let combination = match last {
                Some((same, combination)) if same == votes => combination,
                _ => self.combination(votes),
            };
            last = Some((votes, combination));
            self.put(key, hash, Row { combination, features_as_of: rows.features_as_of });
        }
        for key in &rows.gone {
            let hash = key_hash(matrix, key);
            if owns(hash) {
                self.forget(key, hash);
            }
        }
    }

    fn combination(&mut self, votes: &[i8]) -> u32 {
        if let Some(known) = self.by_votes.get(votes) {
            return *known;
        }
        let made = Combination { votes: votes.into(), rows: 0, unsettled: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.combinations[number as usize] = made;
                number
            }
            None => {
                self.combinations.push(made);
                u32::try_from(self.combinations.len() - 1).expect("there are fewer combinations than rows, and those fit in memory")
            }
        };
        self.by_votes.insert(votes.into(), number);
        number
    }

    fn count(&mut self, number: u32, rows: i64) {
        let combination = &mut self.combinations[number as usize];
        if combination.unsettled == 0 {
            self.touched.push(number);
        }
        combination.rows += rows;
        combination.unsettled += rows;
    }

    fn put(&mut self, key: &EcoString, hash: u64, row: Row) {
        let before = self.rows[bucket_of(hash)].insert(key.clone(), row);
        match before {
            Some(before) if before.combination == row.combination => {}
            Some(before) => {
                self.count(before.combination, -1);
                self.count(row.combination, 1);
            }
            None => {
                self.row_count += 1;
                self.count(row.combination, 1);
            }
        }
    }

    /// A thing is not there any more.
    pub fn forget(&mut self, key: &str, hash: u64) {
        if let Some(before) = self.rows[bucket_of(hash)].remove(key) {
            self.row_count -= 1;
            self.count(before.combination, -1);
        }
    }

    /// Brings the statistic up to the rows.
    pub fn settle(&mut self) {
        for number in std::mem::take(&mut self.touched) {
            let combination = &mut self.combinations[number as usize];
            let rows = std::mem::take(&mut combination.unsettled);
            // The votes were checked when they came.
            self.statistic.add(&combination.votes, rows).expect("a combination has the shape of its matrix");
            if combination.rows == 0 && self.by_votes.remove(&combination.votes).is_some() {
                self.free.push(number);
            }
        }
    }

    /// Takes a model that was fitted on this generation, as the successor of the last one.
    pub fn take_model(&mut self, model: &Arc<MatrixModel>) {
        if model.generation == self.definition.generation && model.version == self.models + 1 {
            self.models = model.version;
            self.model = Some(Arc::clone(model));
        }
    }

    fn row(&self, row: Row) -> RowFacts {
        let votes = self.combinations[row.combination as usize].votes.clone();
        RowFacts { votes, features_as_of: row.features_as_of }
    }

    pub fn find(&self, key: &str) -> Option<MatrixRow> {
        let hash = key_hash(self.definition.matrix, key);
        let (key, row) = self.rows[bucket_of(hash)].get_key_value(key)?;
        Some(MatrixRow { hash, key: key.clone(), facts: self.row(*row) })
    }

    /// The rows of a bucket that are wanted, in order of (hash, key), and how many were looked at.
    pub fn bucket(&self, bucket: usize, wanted: impl Fn(u64, &EcoString, &[i8]) -> bool) -> (Vec<MatrixRow>, usize) {
        let rows = &self.rows[bucket];
        let matrix = self.definition.matrix;
        let mut found: Vec<MatrixRow> = Vec::new();
        for (key, row) in rows {
            let hash = key_hash(matrix, key);
            if wanted(hash, key, &self.combinations[row.combination as usize].votes) {
                found.push(MatrixRow { hash, key: key.clone(), facts: self.row(*row) });
            }
        }
        found.sort_unstable_by(|a, b| (a.hash, &a.key).cmp(&(b.hash, &b.key)));
        (found, rows.len())
    }

    /// Every combination of votes with its rows, unless there are more than so many.
    pub fn counted(&self, combinations_max: usize) -> Option<Vec<(Box<[i8]>, i64)>> {
        let counted = self.combinations.iter().filter(|combination| combination.rows != 0);
        (self.by_votes.len() <= combinations_max).then(|| counted.map(|one| (one.votes.clone(), one.rows)).collect())
    }

    pub fn head(&self) -> MatrixHead {
        MatrixHead { matrix: Arc::clone(&self.definition), model: self.model.clone(), models: self.models, through: self.through }
    }

    pub fn restore_head(&mut self, model: Option<Arc<MatrixModel>>, through: LogicalTime) {
        (self.model, self.through) = (model, through);
    }

    pub fn restore_row(&mut self, row: &LabelRow, hash: u64) {
        if row.votes.len() == self.definition.functions.len() {
            let combination = self.combination(&row.votes);
            self.put(&row.key, hash, Row { combination, features_as_of: row.features_as_of });
        }
    }

    pub fn export(&self) -> impl Iterator<Item = (u64, LabelRow)> + '_ {
        let matrix = self.definition.matrix;
        self.rows.iter().flatten().map(move |(key, row)| {
            let RowFacts { votes, features_as_of } = self.row(*row);
            (key_hash(matrix, key), LabelRow { matrix, key: key.clone(), votes: votes.into_vec(), features_as_of })
        })
    }
}
