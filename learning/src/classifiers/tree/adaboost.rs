//! `AdaBoostClassifier`: stumps, each on what the ones before it missed.

use super::Tree;
use super::grow::{Ground, Grower, Growth};
use super::ranks::Ranks;
use crate::classifiers::ModelError;
use crate::classifiers::draw::Draw;
use crate::classifiers::train::{Classify, Train, fault_of, highest, softmax};
use serde::{Deserialize, Serialize};

const STUMPS: usize = 50;
/// A stump that never errs has this voice, and is the last one.
const VOICE_OF_TRUTH: f64 = 1.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::classifiers) struct AdaBoost {
    stumps: Vec<Tree>,
    /// One per stump.
    voices: Vec<f64>,
    importances: Vec<f64>,
}

impl AdaBoost {
    pub(in crate::classifiers) fn fit(train: &Train) -> Result<Self, ModelError> {
        let ranks = Ranks::new(train)?;
        let ground = Ground { ranks: &ranks, labels: &train.labels, classes: train.classes, stop: train.stop };
        let growth = Growth { depth_max: 1, columns_max: train.columns, drawn: false };
        let chance = 1.0 - 1.0 / train.classes as f64;
        let mut weights = vec![1.0 / train.rows as f64; train.rows];
        let mut model = Self { stumps: Vec::new(), voices: Vec::new(), importances: vec![0.0; train.columns] };
        for number in 0..STUMPS {
            let grown = Grower::new(ground, &weights, growth, Draw::new(train.seed, number as u64)).grow()?;
            let missed: Vec<bool> = train.pairs().map(|(row, label)| highest(grown.tree.leaf(row, train.classes)) != label).collect();
            let error: f64 = weights.iter().zip(&missed).filter(|(_, missed)| **missed).map(|(weight, _)| weight).sum();
            if error >= chance && !model.stumps.is_empty() {
                break;
            }
            if error >= chance {
                return Err(train.degenerate("no stump does better than chance"));
            }
            let voice = if error > 0.0 { ((1.0 - error) / error).ln() + ((train.classes - 1) as f64).ln() } else { VOICE_OF_TRUTH };
            for (sum, share) in model.importances.iter_mut().zip(grown.importances) {
                *sum += voice * share;
            }
            model.stumps.push(grown.tree);
            model.voices.push(voice);
            if error <= 0.0 {
                break;
            }
            for (weight, _) in weights.iter_mut().zip(&missed).filter(|(_, missed)| **missed) {
                *weight *= voice.exp();
            }
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        let total: f64 = model.voices.iter().sum();
        model.importances.iter_mut().for_each(|share| *share /= total);
        Ok(model)
    }

    pub(in crate::classifiers) fn importances(&self) -> &[f64] {
        &self.importances
    }
}

impl Classify for AdaBoost {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let others = (scores.len() - 1) as f64;
        let width = scores.len();
        scores.fill(0.0);
        let mut total = 0.0;
        for (stump, voice) in self.stumps.iter().zip(&self.voices) {
            scores[highest(stump.leaf(row, width))] += voice;
            total += voice;
        }
        // Against every other class a voice counts 1 / (classes - 1).
        for score in &mut *scores {
            *score = (*score - (total - *score) / others) / total / others;
        }
        softmax(scores);
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        if self.stumps.is_empty() || self.voices.iter().any(|voice| *voice <= 0.0) {
            return Some("voices that are not above 0".into());
        }
        fault_of("voices", &self.voices, Some(self.stumps.len()))
            .or_else(|| fault_of("importances", &self.importances, Some(columns)))
            .or_else(|| self.stumps.iter().find_map(|tree| tree.fault(columns, classes)))
    }
}
