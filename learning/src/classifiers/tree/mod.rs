//! Trees of decisions, alone and in crowds: one exact builder for `DecisionTreeClassifier`, `ExtraTreeClassifier`,
//! `RandomForestClassifier`, `ExtraTreesClassifier`, `BaggingClassifier` and the stumps of `AdaBoostClassifier`; and the stored form
//! that the boosted trees share.
//!
//! | model | trees | each on | a node looks at | thresholds |
//! |---|---|---|---|---|
//! | `DecisionTreeClassifier` | 1 | all rows | all columns | the best |
//! | `ExtraTreeClassifier` | 1 | all rows | √columns | one drawn per column |
//! | `RandomForestClassifier` | 100 | as many rows, drawn with repetition | √columns | the best |
//! | `ExtraTreesClassifier` | 100 | all rows | √columns | one drawn per column |
//! | `BaggingClassifier` | 10 | as many rows, drawn with repetition | all columns | the best |
//! | `AdaBoostClassifier` | up to 50 stumps | all rows, those missed so far counting more | all columns | the best |
//!
//! All split by the Gini impurity until every leaf is of one class or of equal rows. Crowds average the shares of classes in the
//! leaves; AdaBoost (Zhu, Zou, Rosset, Hastie, "Multi-class AdaBoost", 2009) adds up voices by how seldom a stump errs.
//!
//! # The method
//! Every column is replaced by the ranks of its distinct values once per fit. A node sorts pairs of rank and row packed into one word
//! per column it looks at, and scans them: every threshold between two distinct values is considered, at rows times the logarithm of
//! rows per level, whatever the spread of the values.
//!
//! # Known limitations
//! Sorting at every node is what gives exact thresholds; from about a million rows on the histograms of [`super::boosting`] are faster.

mod adaboost;
mod forest;
mod grow;
mod ranks;

use super::train::fault_of;
use serde::{Deserialize, Serialize};

pub(super) use adaboost::AdaBoost;
pub(super) use forest::Forest;

/// A node: its right child, or 0 at a leaf; the column asked, or at a leaf its number, which counts the leaves before it; the threshold. The left child follows its
/// parent. A row goes left when its value is at most the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Node(pub u32, pub u32, pub f64);

/// Nodes from the root on, each followed by all of its left side and then its right side, so that every way through it ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// Leaf by leaf.
    pub leaves: Vec<f64>,
}

impl Tree {
    /// The numbers of the row's leaf, of which each has `width`.
    pub(super) fn leaf(&self, row: &[f64], width: usize) -> &[f64] {
        let mut at = 0;
        loop {
            let Node(right, what, threshold) = self.nodes[at];
            if right == 0 {
                return &self.leaves[what as usize * width..(what as usize + 1) * width];
            }
            at = if row[what as usize] <= threshold { at + 1 } else { right as usize };
        }
    }

    /// What does not fit together for rows of so many columns and leaves of so many numbers.
    pub(super) fn fault(&self, columns: usize, width: usize) -> Option<String> {
        let mut leaves = 0;
        for (at, Node(right, what, threshold)) in self.nodes.iter().enumerate() {
            let (right, what) = (*right as usize, *what as usize);
            let sound = if right == 0 {
                leaves += 1;
                what == leaves - 1
            } else {
                right > at + 1 && right < self.nodes.len() && what < columns && threshold.is_finite()
            };
            if !sound {
                return Some("a tree whose nodes do not fit together".into());
            }
        }
        // A node with children has a later one, so the last node is a leaf: no way runs off the end.
        if leaves == 0 {
            return Some("a tree without leaves".into());
        }
        fault_of("leaves", &self.leaves, width.checked_mul(leaves))
    }
}
