//! Label matrices, the slow way: the last record of each thing in a map, everything else counted from that when asked.

use desireline_records::{Control, Matrix, MatrixId, MatrixModel};
use desireline_votes::Statistic;
use ecow::EcoString;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct ReferenceMatrix {
    pub definition: Arc<Matrix>,
    pub model: Option<Arc<MatrixModel>>,
    pub models: u64,
    /// Votes by key, and the time of the features.
    pub rows: BTreeMap<EcoString, (Vec<i8>, u64)>,
}

impl ReferenceMatrix {
    pub fn statistic(&self) -> Option<Statistic> {
        let mut statistic = Statistic::new(self.definition.functions.len(), self.definition.classes.len()).ok()?;
        for (votes, _) in self.rows.values() {
            statistic.add(votes, 1).ok()?;
        }
        Some(statistic)
    }

    pub fn combinations(&self) -> BTreeMap<Box<[i8]>, i64> {
        let mut counted: BTreeMap<Box<[i8]>, i64> = BTreeMap::new();
        for (votes, _) in self.rows.values() {
            *counted.entry(votes.as_slice().into()).or_default() += 1;
        }
        counted
    }
}

#[derive(Clone, Debug, Default)]
pub struct Matrices {
    pub matrices: BTreeMap<MatrixId, ReferenceMatrix>,
}

impl Matrices {
    pub fn apply(&mut self, control: &Control) {
        match control {
            Control::Matrix(matrix) => {
                let models = match self.matrices.get(&matrix.matrix) {
                    Some(known) if known.definition.generation >= matrix.generation => return,
                    Some(known) => known.models,
                    None => 0,
                };
                if Statistic::new(matrix.functions.len(), matrix.classes.len()).is_ok() {
                    let begun = ReferenceMatrix { definition: matrix.clone(), model: None, models, rows: BTreeMap::new() };
                    self.matrices.insert(matrix.matrix, begun);
                }
            }
            Control::MatrixRemoved { matrix } => drop(self.matrices.remove(matrix)),
            Control::MatrixRows(rows) => {
                let Some(known) = self.matrices.get_mut(&rows.matrix) else { return };
                let columns = known.definition.functions.len();
                let classes = known.definition.classes.len() as i64;
                let is_vote = |vote: &i8| (-1..classes).contains(&i64::from(*vote));
                let fits = rows.votes.0.len() == rows.keys.len() * columns && rows.votes.0.iter().all(is_vote);
                if rows.generation != known.definition.generation || !fits {
                    return;
                }
                for (at, key) in rows.keys.iter().enumerate() {
                    let votes = rows.votes.0[at * columns..(at + 1) * columns].to_vec();
                    known.rows.insert(key.clone(), (votes, rows.features_as_of));
                }
                rows.gone.iter().for_each(|key| drop(known.rows.remove(key)));
            }
            Control::MatrixModel(model) => {
                let Some(known) = self.matrices.get_mut(&model.matrix) else { return };
                if model.generation == known.definition.generation && model.version == known.models + 1 {
                    known.models = model.version;
                    known.model = Some(model.clone());
                }
            }
            Control::Erase(erase) if !erase.user.is_empty() => {
                self.matrices.values_mut().for_each(|known| drop(known.rows.remove(&erase.user)));
            }
            _ => {}
        }
    }
}
