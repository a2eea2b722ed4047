//! Models that are one plane per class: `LogisticRegression`, `LogisticRegressionCV`, `LinearSVC`, and the form that the ridge, online
//! and discriminant models share.
//!
//! | model | what is minimised over rows with ±1 or class targets | settings |
//! |---|---|---|
//! | `LogisticRegression` | ½‖w‖² + C Σ logistic loss, multinomial from three classes on | C = 1, intercept free |
//! | `LogisticRegressionCV` | the same | C of the best mean accuracy of 5 parts, out of ten from 10⁻⁴ to 10⁴ |
//! | `LinearSVC` | ½‖(w, b)‖² + C Σ max(0, 1 - margin)², one class against the rest | C = 1, the intercept is penalised as well |
//!
//! All are smooth and convex, so the answer does not depend on the way to it: [`super::optimise`] goes there until no entry of the mean
//! gradient is above 10⁻⁶ (10⁻⁴ inside cross-validation), more exactly than the solvers whose defaults they copy.

use super::ModelError;
use super::linalg::dot;
use super::optimise::{Until, minimise};
use super::train::{Classify, Fold, Train, fault_of, highest, sigmoid, softmax};
use serde::{Deserialize, Serialize};

const EXACT: Until = Until { gradient_max: 1e-6, iterations_max: 1_000 };
const COARSE: Until = Until { gradient_max: 1e-4, iterations_max: 200 };
/// Parts of a cross-validation.
pub(super) const FOLDS: usize = 5;

/// What the planes' values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Link {
    /// Logarithms of probabilities, but for a constant.
    Softmax,
    /// Distances: the largest wins.
    Margin,
}

/// A plane per class, or a single one for the second of two classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Linear {
    /// Plane by plane.
    pub weights: Vec<f64>,
    /// One per plane.
    pub intercepts: Vec<f64>,
    pub link: Link,
}

impl Linear {
    /// From planes that each carry their intercept behind their weights.
    pub(super) fn of_planes(planes: &[f64], columns: usize, link: Link) -> Self {
        let (mut weights, mut intercepts) = (Vec::new(), Vec::new());
        for plane in planes.chunks_exact(columns + 1) {
            weights.extend_from_slice(&plane[..columns]);
            intercepts.push(plane[columns]);
        }
        Self { weights, intercepts, link }
    }
}

impl Classify for Linear {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        if let [intercept] = self.intercepts[..] {
            let margin = dot(&self.weights, row) + intercept;
            (scores[0], scores[1]) = match self.link {
                Link::Softmax => (sigmoid(-margin), sigmoid(margin)),
                Link::Margin => (-margin, margin),
            };
            return;
        }
        for ((score, plane), intercept) in scores.iter_mut().zip(self.weights.chunks_exact(row.len())).zip(&self.intercepts) {
            *score = dot(plane, row) + intercept;
        }
        if self.link == Link::Softmax {
            softmax(scores);
        }
    }

    fn probabilistic(&self) -> bool {
        self.link == Link::Softmax
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let planes = if classes == 2 && self.intercepts.len() == 1 { 1 } else { classes };
        fault_of("intercepts", &self.intercepts, Some(planes)).or_else(|| fault_of("weights", &self.weights, planes.checked_mul(columns)))
    }
}

pub(super) fn logistic(train: &Train) -> Result<Linear, ModelError> {
    let mut planes = zeros(train);
    descend_logistic(train, 1.0, &EXACT, &mut planes)?;
    Ok(Linear::of_planes(&planes, train.columns, Link::Softmax))
}

pub(super) fn logistic_cv(train: &Train) -> Result<Linear, ModelError> {
    let strengths: Vec<f64> = (0..10).map(|step| 10f64.powf(-4.0 + 8.0 * f64::from(step) / 9.0)).collect();
    let mut accuracies = vec![0.0; strengths.len()];
    for Fold { fitted, held } in train.folds(FOLDS)? {
        let part = train.part(&fitted);
        let mut planes = zeros(train);
        for (accuracy, strength) in accuracies.iter_mut().zip(&strengths) {
            descend_logistic(&part, *strength, &COARSE, &mut planes)?;
            let model = Linear::of_planes(&planes, train.columns, Link::Softmax);
            let mut scores = vec![0.0; train.classes];
            let right = held.iter().filter(|row| {
                model.scores(train.row(**row), &mut scores);
                highest(&scores) == train.labels[**row]
            });
            *accuracy += right.count() as f64 / held.len() as f64;
        }
    }
    let mut planes = zeros(train);
    descend_logistic(train, strengths[highest(&accuracies)], &EXACT, &mut planes)?;
    Ok(Linear::of_planes(&planes, train.columns, Link::Softmax))
}

/// All planes at 0: one for two classes, else one per class.
fn zeros(train: &Train) -> Vec<f64> {
    let planes = if train.classes == 2 { 1 } else { train.classes };
    vec![0.0; planes * (train.columns + 1)]
}

/// Moves `planes` to the minimum for the strength C.
fn descend_logistic(train: &Train, strength: f64, until: &Until, planes: &mut Vec<f64>) -> Result<(), ModelError> {
    let width = train.columns + 1;
    let single = planes.len() == width;
    let mut scores = vec![0.0; planes.len() / width];
    let inverse = 1.0 / train.rows as f64;
    minimise(planes, until, train.stop, |planes, gradient| {
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (row, label) in train.pairs() {
            for (score, plane) in scores.iter_mut().zip(planes.chunks_exact(width)) {
                *score = dot(&plane[..row.len()], row) + plane[row.len()];
            }
            if single {
                let target = label as f64;
                let signed = if label == 1 { scores[0] } else { -scores[0] };
                // ln(1 + e^-m), without overflow.
                loss += (-signed.abs()).exp().ln_1p() + (-signed).max(0.0);
                scores[0] = sigmoid(scores[0]) - target;
            } else {
                let own = scores[label];
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                loss += most - own + sum.ln();
                softmax(&mut scores);
                scores[label] -= 1.0;
            }
            for (error, slope) in scores.iter().zip(gradient.chunks_exact_mut(width)) {
                add_row(slope, row, error * inverse);
            }
        }
        loss * inverse + penalty(planes, gradient, width, train.columns, inverse / strength)
    })
}

/// Adds `times` the row and its constant 1.
fn add_row(slope: &mut [f64], row: &[f64], times: f64) {
    for (to, value) in slope.iter_mut().zip(row) {
        *to += times * value;
    }
    slope[row.len()] += times;
}

/// Half the square of the first `penalised` entries of each plane, times `weight`, and its gradient.
fn penalty(planes: &[f64], gradient: &mut [f64], width: usize, penalised: usize, weight: f64) -> f64 {
    let mut squares = 0.0;
    for (plane, slope) in planes.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
        for (value, to) in plane[..penalised].iter().zip(slope) {
            squares += value * value;
            *to += weight * value;
        }
    }
    0.5 * weight * squares
}

pub(super) fn linear_svc(train: &Train) -> Result<Linear, ModelError> {
    let first = if train.classes == 2 { 1 } else { 0 };
    let mut planes = Vec::new();
    for class in first..train.classes {
        planes.extend(squared_hinge(train, class)?);
    }
    Ok(Linear::of_planes(&planes, train.columns, Link::Margin))
}

/// The plane of one class against the rest.
fn squared_hinge(train: &Train, class: usize) -> Result<Vec<f64>, ModelError> {
    let width = train.columns + 1;
    let mut plane = vec![0.0; width];
    let inverse = 1.0 / train.rows as f64;
    minimise(&mut plane, &EXACT, train.stop, |plane, gradient| {
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (row, label) in train.pairs() {
            let sign = if label == class { 1.0 } else { -1.0 };
            let lack = 1.0 - sign * (dot(&plane[..row.len()], row) + plane[row.len()]);
            if lack > 0.0 {
                loss += lack * lack;
                add_row(gradient, row, -2.0 * sign * lack * inverse);
            }
        }
        loss * inverse + penalty(plane, gradient, width, width, inverse)
    })?;
    Ok(plane)
}
