//! Trees that are averaged; a single tree is a forest of one.

use super::Tree;
use super::grow::{Ground, Grower, Growth};
use super::ranks::Ranks;
use crate::classifiers::draw::Draw;
use crate::classifiers::train::{Classify, Train, fault_of};
use crate::classifiers::{Kind, ModelError};
use serde::{Deserialize, Serialize};

/// Nodes on the way to a leaf, coarsely; each is far from the one before it in memory.
const LEVELS: usize = 64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::classifiers) struct Forest {
    trees: Vec<Tree>,
    /// Share of the fall of the impurity that each column brought, averaged over the trees.
    importances: Vec<f64>,
}

impl Forest {
    pub(in crate::classifiers) fn fit(train: &Train) -> Result<Self, ModelError> {
        let root = ((train.columns as f64).sqrt() as usize).max(1);
        let (trees, repeated, columns_max, drawn) = match train.kind {
            Kind::RandomForestClassifier => (100, true, root, false),
            Kind::ExtraTreesClassifier => (100, false, root, true),
            Kind::BaggingClassifier => (10, true, train.columns, false),
            Kind::ExtraTreeClassifier => (1, false, root, true),
            _ => (1, false, train.columns, false),
        };
        let growth = Growth { depth_max: usize::MAX, columns_max, drawn };
        let ranks = Ranks::new(train)?;
        let ground = Ground { ranks: &ranks, labels: &train.labels, classes: train.classes, stop: train.stop };
        let mut forest = Self { trees: Vec::with_capacity(trees), importances: vec![0.0; train.columns] };
        for number in 0..trees {
            let mut draw = Draw::new(train.seed, number as u64);
            let mut weights = vec![if repeated { 0.0 } else { 1.0 }; train.rows];
            if repeated {
                for _ in 0..train.rows {
                    weights[draw.below(train.rows)] += 1.0;
                }
            }
            let grown = Grower::new(ground, &weights, growth, draw).grow()?;
            forest.trees.push(grown.tree);
            for (sum, share) in forest.importances.iter_mut().zip(grown.importances) {
                *sum += share / trees as f64;
            }
        }
        Ok(forest)
    }

    pub(in crate::classifiers) fn importances(&self) -> &[f64] {
        &self.importances
    }
}

impl Classify for Forest {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        scores.fill(0.0);
        let width = scores.len();
        for tree in &self.trees {
            for (score, share) in scores.iter_mut().zip(tree.leaf(row, width)) {
                *score += share;
            }
        }
        scores.iter_mut().for_each(|score| *score /= self.trees.len() as f64);
    }

    fn values_per_row(&self) -> usize {
        self.trees.len() * LEVELS
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        if self.trees.is_empty() {
            return Some("a forest without trees".into());
        }
        fault_of("importances", &self.importances, Some(columns))
            .or_else(|| self.trees.iter().find_map(|tree| tree.fault(columns, classes)))
    }
}
