//! `CalibratedClassifierCV`: linear support vector machines whose margins become probabilities.
//!
//! Five times (less often when a class has fewer rows), a `LinearSVC` is fitted on four fifths of the rows and a sigmoid per class on
//! its margins for the last fifth, with the targets of Platt ("Probabilistic outputs for support vector machines", 1999) that keep it
//! from being certain. The probabilities are the means of the five.

use super::ModelError;
use super::linear::{FOLDS, Linear, linear_svc};
use super::optimise::{Until, minimise};
use super::stop::Stop;
use super::train::{Classify, Fold, Train, fault_of, sigmoid};
use serde::{Deserialize, Serialize};

const EXACT: Until = Until { gradient_max: 1e-7, iterations_max: 200 };

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibrated {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    machine: Linear,
    /// Per margin: slope and offset of the sigmoid.
    slopes: Vec<f64>,
    offsets: Vec<f64>,
}

impl Calibrated {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let mut parts = Vec::new();
        for Fold { fitted, held } in train.folds(FOLDS)? {
            let machine = linear_svc(&train.part(&fitted))?;
            let mut part = Part { machine, slopes: Vec::new(), offsets: Vec::new() };
            let mut scores = vec![0.0; train.classes];
            let first = if train.classes == 2 { 1 } else { 0 };
            let mut margins = vec![Vec::with_capacity(held.len()); train.classes - first];
            for row in &held {
                part.machine.scores(train.row(*row), &mut scores);
                margins.iter_mut().zip(&scores[first..]).for_each(|(all, score)| all.push(*score));
            }
            for (class, margins) in (first..).zip(margins) {
                let positive: Vec<bool> = held.iter().map(|row| train.labels[*row] == class).collect();
                let (slope, offset) = platt(&margins, &positive, train.stop)?;
                part.slopes.push(slope);
                part.offsets.push(offset);
            }
            parts.push(part);
        }
        Ok(Self { parts })
    }
}

/// Slope and offset of the sigmoid that explains best which margins are of the class.
fn platt(margins: &[f64], positive: &[bool], stop: &Stop) -> Result<(f64, f64), ModelError> {
    let ours = positive.iter().filter(|own| **own).count() as f64;
    let others = positive.len() as f64 - ours;
    let (high, low) = ((ours + 1.0) / (ours + 2.0), 1.0 / (others + 2.0));
    let largest = margins.iter().fold(0.0, |most: f64, margin| most.max(margin.abs())).max(f64::MIN_POSITIVE);
    let inverse = 1.0 / margins.len() as f64;
    let mut at = vec![0.0, ((ours + 1.0) / (others + 1.0)).ln()];
    minimise(&mut at, &EXACT, stop, |at, gradient| {
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (margin, own) in margins.iter().zip(positive) {
            // In units of the largest margin the problem is round.
            let (margin, target) = (margin / largest, if *own { high } else { low });
            let score = at[0] * margin + at[1];
            loss += score.max(0.0) - target * score + (-score.abs()).exp().ln_1p();
            let error = (sigmoid(score) - target) * inverse;
            gradient[0] += error * margin;
            gradient[1] += error;
        }
        loss * inverse
    })?;
    Ok((at[0] / largest, at[1]))
}

impl Classify for Calibrated {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let mut own = vec![0.0; scores.len()];
        let even = 1.0 / scores.len() as f64;
        scores.fill(0.0);
        for part in &self.parts {
            part.machine.scores(row, &mut own);
            if let ([slope], [offset]) = (&part.slopes[..], &part.offsets[..]) {
                let margin = slope * own[1] + offset;
                (own[0], own[1]) = (sigmoid(-margin), sigmoid(margin));
            } else {
                for ((score, slope), offset) in own.iter_mut().zip(&part.slopes).zip(&part.offsets) {
                    *score = sigmoid(slope * *score + offset);
                }
            }
            let sum: f64 = own.iter().sum();
            for (score, own) in scores.iter_mut().zip(&own) {
                let share = if sum > 0.0 { own / sum } else { even };
                *score += share / self.parts.len() as f64;
            }
        }
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let margins = if classes == 2 { 1 } else { classes };
        if self.parts.is_empty() {
            return Some("a calibration without parts".into());
        }
        self.parts.iter().find_map(|part| {
            fault_of("slopes", &part.slopes, Some(margins))
                .or_else(|| fault_of("offsets", &part.offsets, Some(margins)))
                .or_else(|| part.machine.fault(columns, classes))
        })
    }
}
