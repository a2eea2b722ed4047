//! Models that go over the rows one by one and move their plane at each: `SGDClassifier`, `Perceptron` and
//! `PassiveAggressiveClassifier`, one class against the rest.
//!
//! | model | a row moves the plane when | by |
//! |---|---|---|
//! | `SGDClassifier` | its margin is at most 1 | 1 / (α (t + t₀)) at step t, with all weights shrunk by α = 10⁻⁴ of that at every row |
//! | `Perceptron` | its margin is at most 0 | 1 |
//! | `PassiveAggressiveClassifier` | its margin is below 1 | what brings it to 1, at most 1 (Crammer et al., 2006, PA-I) |
//!
//! Rows come in an order drawn anew for every pass; there are at most 1,000 passes, and five in a row in which the summed loss does not
//! fall by 0.001 a row end it. The order is seen in the result: these models vary with the seed by several hundredths.

use super::draw::Draw;
use super::linalg::dot;
use super::linear::{Linear, Link};
use super::train::Train;
use super::{Kind, ModelError};

const PASSES_MAX: usize = 1_000;
const PATIENCE: u32 = 5;
/// Fall of the loss per row that counts as one.
const TOLERANCE: f64 = 1e-3;
const ALPHA: f64 = 1e-4;
const AGGRESSIVENESS: f64 = 1.0;

pub(super) fn fit(train: &Train) -> Result<Linear, ModelError> {
    let first = if train.classes == 2 { 1 } else { 0 };
    let mut planes = Vec::new();
    for class in first..train.classes {
        planes.extend(plane(train, class)?);
    }
    Ok(Linear::of_planes(&planes, train.columns, Link::Margin))
}

/// The plane of one class against the rest.
fn plane(train: &Train, class: usize) -> Result<Vec<f64>, ModelError> {
    let mut draw = Draw::new(train.seed, class as u64);
    let mut order: Vec<usize> = (0..train.rows).collect();
    let (mut weights, mut intercept) = (vec![0.0; train.columns], 0.0);
    // The weights are `scale` times these, so that shrinking all of them is one multiplication.
    let mut scale = 1.0;
    let mut step = Steps::new();
    let (mut least, mut patience) = (f64::INFINITY, 0);
    for _ in 0..PASSES_MAX {
        train.stop.check()?;
        draw.shuffle(&mut order);
        let mut total = 0.0;
        for row in &order {
            let values = train.row(*row);
            let sign = if train.labels[*row] == class { 1.0 } else { -1.0 };
            let margin = sign * (scale * dot(&weights, values) + intercept);
            let (loss, by, shrink) = step.next(train.kind, margin, values);
            total += loss;
            scale *= shrink;
            if by > 0.0 {
                let times = sign * by / scale;
                weights.iter_mut().zip(values).for_each(|(weight, value)| *weight += times * value);
                intercept += sign * by;
            }
            if scale < 1e-9 {
                weights.iter_mut().for_each(|weight| *weight *= scale);
                scale = 1.0;
            }
        }
        patience = if total > least - TOLERANCE * train.rows as f64 { patience + 1 } else { 0 };
        least = least.min(total);
        if patience >= PATIENCE {
            break;
        }
    }
    weights.iter_mut().for_each(|weight| *weight *= scale);
    weights.push(intercept);
    Ok(weights)
}

/// How far the plane moves at each row.
struct Steps {
    /// t + t₀ of the falling rate, with t₀ such that the first step is about as long as a typical weight (Bottou, 2010).
    time: f64,
}

impl Steps {
    fn new() -> Self {
        let typical_weight = (1.0 / ALPHA.sqrt()).sqrt();
        Self { time: 1.0 / (typical_weight * ALPHA) }
    }

    /// The loss at this margin, how far to move and by how much to shrink before.
    fn next(&mut self, kind: Kind, margin: f64, values: &[f64]) -> (f64, f64, f64) {
        match kind {
            Kind::Perceptron => ((-margin).max(0.0), if margin <= 0.0 { 1.0 } else { 0.0 }, 1.0),
            Kind::PassiveAggressiveClassifier => {
                let (loss, square) = ((1.0 - margin).max(0.0), dot(values, values));
                (loss, if square > 0.0 { (loss / square).min(AGGRESSIVENESS) } else { 0.0 }, 1.0)
            }
            _ => {
                let rate = 1.0 / (ALPHA * self.time);
                self.time += 1.0;
                ((1.0 - margin).max(0.0), if margin <= 1.0 { rate } else { 0.0 }, 1.0 - (rate * ALPHA).min(1.0 - f64::EPSILON))
            }
        }
    }
}
