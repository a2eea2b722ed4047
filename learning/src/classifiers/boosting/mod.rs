//! Gradient boosting: one second-order histogram booster for `XGBClassifier`, `LGBMClassifier`, `GradientBoostingClassifier`,
//! `HistGradientBoostingClassifier` and `XGBRFClassifier`.
//!
//! | model | rounds, rate | a tree grows | until | leaves |
//! |---|---|---|---|---|
//! | `XGBClassifier` | 100, 0.3 | by depth | depth 6; children of hessian 1 | λ = 1 |
//! | `LGBMClassifier` | 100, 0.1 | where the gain is most | 31 leaves; children of 20 rows and hessian 0.001 | λ = 0 |
//! | `HistGradientBoostingClassifier` | 100, 0.1 | where the gain is most | 31 leaves; children of 20 rows and hessian 0.001 | λ = 0 |
//! | `GradientBoostingClassifier` | 100, 0.1 | by depth, by the residuals' squares alone | depth 3 | λ = 0 |
//! | `XGBRFClassifier` | 1 round of 100 trees, 1 | by depth, on 4 rows and at every node 4 columns of 5 | depth 6; children of hessian 1 | λ = 10⁻⁵ |
//!
//! Every round fits, for each class (for the second one alone when there are two), a tree to the gradient and the hessian of the
//! log-loss at the current scores, which begin with the logarithms of the shares of the classes. Chen and Guestrin, "XGBoost" (KDD
//! 2016); Ke et al., "LightGBM" (NIPS 2017); Friedman, "Greedy function approximation" (2001).
//!
//! A column is cut into at most 255 bins once per fit: between all distinct values if there are as few, else at quantiles. A node adds
//! up gradients, hessians and rows per bin, its larger child's histogram is the difference to its smaller one's.
//!
//! # Why this is our own
//! Bindings to the reference libraries would bring C++ builds into a program that is Rust alone; of the boosters in Rust the complete
//! one names no licence, and `smartcore`'s is a regressor that sorts every column at every node. A histogram booster with what the bank
//! needs (to be stopped between nodes, the same for a seed everywhere, stored in the form of all other trees) is three short files.
//!
//! # Known limitations
//! * Missing values and categories are the preparation's matter; there is no default direction.
//! * No early stopping: with more than 10,000 rows scikit-learn's histogram booster holds back a tenth of them and may end before its
//!   hundredth round.
//! * `GradientBoostingClassifier` looks for thresholds in bins, where scikit-learn looks between all values.

mod bins;
mod grow;

use super::draw::Draw;
use super::train::{Classify, Train, fault_of, sigmoid, softmax};
use super::tree::Tree;
use super::{Kind, ModelError};
use bins::Bins;
use grow::{Grower, Growth};
use serde::{Deserialize, Serialize};

/// Below this a hessian is taken for this.
const HESSIAN_MIN: f64 = 1e-16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Boosted {
    /// Scores before the first round: one per class, or one for the second of two.
    base: Vec<f64>,
    /// Round by round, one tree per score.
    trees: Vec<Tree>,
    /// Share of the gain that each column brought.
    importances: Vec<f64>,
}

/// What the models differ in.
struct Settings {
    rounds: usize,
    /// Trees per score and round, which are averaged.
    parallel: usize,
    rate: f64,
    /// Chance of a row to take part in a tree.
    rows_share: f64,
    /// With three classes or more, the hessian is this times p (1 - p).
    hessian_factor: f64,
    growth: Growth,
}

fn settings(train: &Train) -> Settings {
    let classes = train.classes as f64;
    let redundant = classes / (classes - 1.0);
    let by_depth = Growth {
        depth_max: 6,
        leaves_max: usize::MAX,
        l2: 1.0,
        hessian_min: 1.0,
        rows_min: 1,
        by_squares: false,
        columns_max: train.columns,
    };
    let by_gain = Growth { depth_max: usize::MAX, leaves_max: 31, l2: 0.0, hessian_min: 1e-3, rows_min: 20, ..by_depth };
    let plain = Settings { rounds: 100, parallel: 1, rate: 0.1, rows_share: 1.0, hessian_factor: 1.0, growth: by_gain };
    match train.kind {
        Kind::XGBClassifier => Settings { rate: 0.3, hessian_factor: 2.0, growth: by_depth, ..plain },
        Kind::XGBRFClassifier => {
            let columns_max = ((train.columns as f64 * 0.8) as usize).max(1);
            let growth = Growth { l2: 1e-5, columns_max, ..by_depth };
            Settings { rounds: 1, parallel: 100, rate: 1.0, rows_share: 0.8, hessian_factor: 2.0, growth }
        }
        Kind::GradientBoostingClassifier => {
            let growth = Growth { depth_max: 3, l2: 0.0, hessian_min: 0.0, by_squares: true, ..by_depth };
            Settings { hessian_factor: redundant, growth, ..plain }
        }
        Kind::LGBMClassifier => Settings { hessian_factor: redundant, ..plain },
        _ => plain,
    }
}

impl Boosted {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let settings = settings(train);
        let bins = Bins::new(train)?;
        let base: Vec<f64> = match train.shares()[..] {
            [first, second] => vec![(second / first).ln()],
            ref shares => shares.iter().map(|share| share.ln()).collect(),
        };
        let width = base.len();
        let mut scores: Vec<f64> = base.iter().copied().cycle().take(train.rows * width).collect();
        let mut model = Self { base, trees: Vec::new(), importances: vec![0.0; train.columns] };
        let mut slopes = vec![(0.0, 0.0); train.rows];
        let mut probabilities = vec![0.0; train.rows * width];
        for _ in 0..settings.rounds {
            probabilities.copy_from_slice(&scores);
            probabilities.chunks_exact_mut(width).for_each(chances);
            for _ in 0..settings.parallel {
                for plane in 0..width {
                    slope(train, &probabilities, plane, width, settings.hessian_factor, &mut slopes);
                    let mut draw = Draw::new(train.seed, model.trees.len() as u64);
                    let rows = (0..train.rows as u32).filter(|_| settings.rows_share >= 1.0 || draw.unit() < settings.rows_share);
                    let grower = Grower::new(&bins, &slopes, settings.growth, rows.collect(), draw, train.stop);
                    let rate = settings.rate / settings.parallel as f64;
                    let tree = grower.grow(rate, &mut model.importances, |row, value| scores[row * width + plane] += value)?;
                    model.trees.push(tree);
                }
            }
        }
        let total: f64 = model.importances.iter().sum();
        if total > 0.0 {
            model.importances.iter_mut().for_each(|share| *share /= total);
        }
        Ok(model)
    }

    pub(super) fn importances(&self) -> &[f64] {
        &self.importances
    }
}

/// Scores of a row to probabilities: of the second class if there is one score.
fn chances(scores: &mut [f64]) {
    match scores {
        [score] => *score = sigmoid(*score),
        scores => softmax(scores),
    }
}

/// Gradient and hessian of the log-loss by one score.
fn slope(train: &Train, probabilities: &[f64], plane: usize, width: usize, factor: f64, slopes: &mut [(f64, f64)]) {
    let (class, factor) = if width == 1 { (1, 1.0) } else { (plane, factor) };
    for ((to, label), chances) in slopes.iter_mut().zip(&train.labels).zip(probabilities.chunks_exact(width)) {
        let chance = chances[plane];
        let target = if *label == class { 1.0 } else { 0.0 };
        *to = (chance - target, (factor * chance * (1.0 - chance)).max(HESSIAN_MIN));
    }
}

impl Classify for Boosted {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let width = self.base.len();
        scores[..width].copy_from_slice(&self.base);
        for round in self.trees.chunks_exact(width) {
            for (score, tree) in scores.iter_mut().zip(round) {
                *score += tree.leaf(row, 1)[0];
            }
        }
        if width == 1 {
            (scores[0], scores[1]) = (sigmoid(-scores[0]), sigmoid(scores[0]));
        } else {
            softmax(scores);
        }
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let width = if classes == 2 { 1 } else { classes };
        if self.trees.is_empty() || !self.trees.len().is_multiple_of(width) {
            return Some("trees that are not one per class and round".into());
        }
        fault_of("base", &self.base, Some(width))
            .or_else(|| fault_of("importances", &self.importances, Some(columns)))
            .or_else(|| self.trees.iter().find_map(|tree| tree.fault(columns, 1)))
    }
}
