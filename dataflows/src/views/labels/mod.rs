//! Label matrices: how labelling functions vote on the things of an index, and what is counted of that.
//!
//! Rows come evaluated: a follower reads the views, runs queries and functions, and appends what they say ([`MatrixRows`](desireline_records::MatrixRows)). From there on
//! everything is kept current here: which votes each thing has, how often each combination of votes occurs, and the sufficient statistic
//! of the label model (how often each pair of votes occurs), from which a model is fitted without looking at a row again.
//!
//! Promises:
//! * the answer depends on the last record of each thing alone, never on batches or the number of workers;
//! * a record of a generation that is not in force, or of another shape than its matrix, changes nothing;
//! * an erased user leaves every matrix at the time of the erasure;
//! * a changed row costs its two combinations of votes; a combination is counted into the statistic once per record, however many rows have
//!   moved to it.
//!
//! State: a thing is its key and 16 bytes; votes are kept once per combination. A worker keeps the things whose key hash names it, in
//! [`BUCKETS`] buckets by hash, so that a page of a listing looks at few.
//!
//! A label is a function of a row's votes and the model in force: it is computed where it is read, for one combination at a time, so all
//! labels follow a new model at once.

mod matrix;
pub mod query;

pub use matrix::{BUCKETS, MatrixRow, RowFacts};

use crate::engine::ControlIn;
use crate::views::closed::controls_at_closed_times;
use desireline_records::{Control, LogicalTime, Matrix, MatrixId, MatrixModel};
use ecow::EcoString;
use matrix::MatrixState;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::StreamVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub type SharedLabels = Rc<RefCell<Labels>>;

/// What names the worker of a thing, and its place in listings.
pub fn key_hash(matrix: MatrixId, key: &str) -> u64 {
    xxh3_64_with_seed(key.as_bytes(), matrix)
}

/// The matrices, with this worker's rows.
pub struct Labels {
    matrices: BTreeMap<MatrixId, MatrixState>,
    worker: u64,
    peers: u64,
}

/// One row of exported state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRow {
    pub matrix: MatrixId,
    pub key: EcoString,
    pub votes: Vec<i8>,
    pub features_as_of: LogicalTime,
}

/// A matrix without rows, as exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixHead {
    pub matrix: Arc<Matrix>,
    pub model: Option<Arc<MatrixModel>>,
    pub models: u64,
    pub through: LogicalTime,
}

impl Labels {
    pub fn new(worker: usize, peers: usize) -> Self {
        Self { matrices: BTreeMap::new(), worker: worker as u64, peers: peers as u64 }
    }

    fn owns(&self, hash: u64) -> bool {
        self.peers == 1 || hash % self.peers == self.worker
    }

    fn work(&mut self, controls: Vec<ControlIn>) {
        for control in controls {
            match control {
                ControlIn::Logged(Control::Matrix(matrix)) => self.begin(&matrix),
                ControlIn::Logged(Control::MatrixRemoved { matrix }) => drop(self.matrices.remove(&matrix)),
                ControlIn::Logged(Control::MatrixRows(rows)) => {
                    let (worker, peers) = (self.worker, self.peers);
                    let owns = |hash: u64| peers == 1 || hash % peers == worker;
                    if let Some(state) = self.matrices.get_mut(&rows.matrix) {
                        state.apply(&rows, owns);
                    }
                }
                ControlIn::Logged(Control::MatrixModel(model)) => {
                    if let Some(state) = self.matrices.get_mut(&model.matrix) {
                        state.take_model(&model);
                    }
                }
                ControlIn::Logged(Control::Erase(erase)) if !erase.user.is_empty() => {
                    for (id, state) in &mut self.matrices {
                        state.forget(&erase.user, key_hash(*id, &erase.user));
                    }
                }
                ControlIn::ImportMatrices(heads) => heads.into_iter().for_each(|head| self.restore(head)),
                ControlIn::ImportLabelRows(rows) => {
                    for row in rows.iter() {
                        let hash = key_hash(row.matrix, &row.key);
                        if self.owns(hash)
                            && let Some(state) = self.matrices.get_mut(&row.matrix)
                        {
                            state.restore_row(row, hash);
                        }
                    }
                }
                _ => {}
            }
        }
        self.matrices.values_mut().for_each(MatrixState::settle);
    }

    fn begin(&mut self, matrix: &Arc<Matrix>) {
        let before = self.matrices.get(&matrix.matrix);
        if before.is_some_and(|state| state.definition().generation >= matrix.generation) {
            return;
        }
        let models = before.map_or(0, MatrixState::models);
        if let Some(state) = MatrixState::new(Arc::clone(matrix), models) {
            self.matrices.insert(matrix.matrix, state);
        }
    }

    fn restore(&mut self, head: MatrixHead) {
        let id = head.matrix.matrix;
        if let Some(mut state) = MatrixState::new(head.matrix, head.models) {
            state.restore_head(head.model, head.through);
            self.matrices.insert(id, state);
        }
    }

    fn get(&self, matrix: MatrixId) -> Option<&MatrixState> {
        self.matrices.get(&matrix)
    }

    /// The heads are the same on every worker.
    pub fn export_heads(&self) -> impl Iterator<Item = MatrixHead> + '_ {
        self.matrices.values().map(MatrixState::head)
    }

    /// This worker's rows with their key hashes.
    pub fn export_rows(&self) -> impl Iterator<Item = (u64, LabelRow)> + '_ {
        self.matrices.values().flat_map(MatrixState::export)
    }

    /// (matrices, rows of this worker, combinations of votes).
    pub fn counts(&self) -> (usize, usize, usize) {
        let rows = self.matrices.values().map(MatrixState::rows).sum();
        (self.matrices.len(), rows, self.matrices.values().map(MatrixState::combinations).sum())
    }
}

/// The dataflow: everything comes by controls, which every worker has. The output carries no data, only progress.
pub fn build<'scope>(controls: StreamVec<'scope, LogicalTime, ControlIn>, labels: SharedLabels) -> StreamVec<'scope, LogicalTime, ()> {
    controls_at_closed_times(controls, "Labels", move |controls| labels.borrow_mut().work(controls))
}
