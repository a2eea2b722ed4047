//! `MLPClassifier`: one hidden layer of 100 rectified units.
//!
//! Fitted by Adam (Kingma and Ba, 2015) with rate 0.001 on batches of up to 200 rows in an order drawn anew for every pass, log-loss
//! plus 0.0001 / 2 of the squares of the weights; at most 200 passes, and ten in a row in which the loss does not fall by 0.0001 end it.

use super::ModelError;
use super::draw::Draw;
use super::linalg::dot;
use super::train::{Classify, Train, fault_of, sigmoid, softmax};
use serde::{Deserialize, Serialize};

const HIDDEN: usize = 100;
const BATCH_ROWS: usize = 200;
const PASSES_MAX: usize = 200;
const PATIENCE: u32 = 10;
const TOLERANCE: f64 = 1e-4;
const RATE: f64 = 1e-3;
const PENALTY: f64 = 1e-4;
const FIRST_DECAY: f64 = 0.9;
const SECOND_DECAY: f64 = 0.999;

/// All parameters in one vector: column by column its weights to the hidden units, their biases, output by output its weights from
/// them, the outputs' biases. Two classes have one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layers {
    parameters: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Shape {
    columns: usize,
    outputs: usize,
}

impl Shape {
    fn new(columns: usize, classes: usize) -> Self {
        Self { columns, outputs: if classes == 2 { 1 } else { classes } }
    }

    fn len(self) -> Option<usize> {
        let first = self.columns.checked_add(1)?.checked_mul(HIDDEN)?;
        first.checked_add(self.outputs.checked_mul(HIDDEN + 1)?)
    }

    /// Where the hidden biases, the second weights and the outputs' biases begin.
    fn places(self) -> (usize, usize, usize) {
        let biases = self.columns * HIDDEN;
        (biases, biases + HIDDEN, biases + HIDDEN + self.outputs * HIDDEN)
    }

    /// The outputs' probabilities, with the hidden units on the way.
    fn forward(self, parameters: &[f64], row: &[f64], hidden: &mut [f64], outputs: &mut [f64]) {
        let (biases, second, ends) = self.places();
        hidden.copy_from_slice(&parameters[biases..second]);
        for (value, weights) in row.iter().zip(parameters.chunks_exact(HIDDEN)) {
            hidden.iter_mut().zip(weights).for_each(|(unit, weight)| *unit += value * weight);
        }
        hidden.iter_mut().for_each(|unit| *unit = unit.max(0.0));
        let weights = parameters[second..ends].chunks_exact(HIDDEN).zip(&parameters[ends..]);
        for (output, (weights, bias)) in outputs.iter_mut().zip(weights) {
            *output = dot(weights, hidden) + bias;
        }
        match outputs {
            [output] => *output = sigmoid(*output),
            outputs => softmax(outputs),
        }
    }

    /// Adds a row's gradient to `gradient`, given the outputs' errors, which are its slopes.
    fn backward(self, parameters: &[f64], row: &[f64], hidden: &[f64], errors: &[f64], back: &mut [f64], gradient: &mut [f64]) {
        let (biases, second, ends) = self.places();
        back.fill(0.0);
        for (output, error) in errors.iter().enumerate() {
            let weights = second + output * HIDDEN..second + (output + 1) * HIDDEN;
            back.iter_mut().zip(&parameters[weights.clone()]).for_each(|(to, weight)| *to += error * weight);
            gradient[weights].iter_mut().zip(hidden).for_each(|(to, unit)| *to += error * unit);
            gradient[ends + output] += error;
        }
        back.iter_mut().zip(hidden).for_each(|(to, unit)| *to = if *unit > 0.0 { *to } else { 0.0 });
        for (value, slopes) in row.iter().zip(gradient.chunks_exact_mut(HIDDEN)) {
            slopes.iter_mut().zip(&*back).for_each(|(to, slope)| *to += value * slope);
        }
        gradient[biases..second].iter_mut().zip(&*back).for_each(|(to, slope)| *to += slope);
    }
}

/// The running means of Adam.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, parameters: &mut [f64], gradient: &[f64]) {
        self.steps += 1;
        let rate = RATE * (1.0 - SECOND_DECAY.powi(self.steps)).sqrt() / (1.0 - FIRST_DECAY.powi(self.steps));
        let means = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, slope), (first, second)) in parameters.iter_mut().zip(gradient).zip(means) {
            *first = FIRST_DECAY * *first + (1.0 - FIRST_DECAY) * slope;
            *second = SECOND_DECAY * *second + (1.0 - SECOND_DECAY) * slope * slope;
            *parameter -= rate * *first / (second.sqrt() + 1e-8);
        }
    }
}

impl Layers {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let shape = Shape::new(train.columns, train.classes);
        let length = shape.len().ok_or_else(|| train.degenerate("too many columns"))?;
        let mut draw = Draw::new(train.seed, 0);
        let mut parameters = begin(shape, length, &mut draw);
        let mut adam = Adam { first: vec![0.0; length], second: vec![0.0; length], steps: 0 };
        let mut order: Vec<usize> = (0..train.rows).collect();
        let (mut gradient, mut hidden, mut back) = (vec![0.0; length], vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        let mut outputs = vec![0.0; shape.outputs];
        let (mut least, mut patience) = (f64::INFINITY, 0);
        for _ in 0..PASSES_MAX {
            draw.shuffle(&mut order);
            let mut total = 0.0;
            for batch in order.chunks(BATCH_ROWS) {
                train.stop.check()?;
                gradient.fill(0.0);
                for row in batch {
                    let (values, label) = (train.row(*row), train.labels[*row]);
                    shape.forward(&parameters, values, &mut hidden, &mut outputs);
                    total += errors(&mut outputs, label);
                    shape.backward(&parameters, values, &hidden, &outputs, &mut back, &mut gradient);
                }
                total += 0.5 * penalise(shape, &parameters, &mut gradient);
                gradient.iter_mut().for_each(|slope| *slope /= batch.len() as f64);
                adam.step(&mut parameters, &gradient);
            }
            let loss = total / train.rows as f64;
            patience = if loss > least - TOLERANCE { patience + 1 } else { 0 };
            least = least.min(loss);
            if patience > PATIENCE {
                break;
            }
        }
        Ok(Self { parameters })
    }
}

/// Parameters drawn as far around 0 as keeps the spread of the values through a layer (Glorot and Bengio, 2010).
fn begin(shape: Shape, length: usize, draw: &mut Draw) -> Vec<f64> {
    let (_, second, _) = shape.places();
    let bound = |sum: usize| (6.0 / sum as f64).sqrt();
    let bounds = (bound(shape.columns + HIDDEN), bound(HIDDEN + shape.outputs));
    (0..length).map(|at| (2.0 * draw.unit() - 1.0) * if at < second { bounds.0 } else { bounds.1 }).collect()
}

/// Turns the outputs into their errors and answers the row's loss.
fn errors(outputs: &mut [f64], label: usize) -> f64 {
    if let [output] = outputs {
        let chance = if label == 1 { *output } else { 1.0 - *output };
        *output -= label as f64;
        return -chance.max(f64::EPSILON).ln();
    }
    let loss = -outputs[label].max(f64::EPSILON).ln();
    outputs[label] -= 1.0;
    loss
}

/// Adds the penalty's gradient and answers the penalty, both for one batch.
fn penalise(shape: Shape, parameters: &[f64], gradient: &mut [f64]) -> f64 {
    let (biases, second, ends) = shape.places();
    let mut squares = 0.0;
    for range in [0..biases, second..ends] {
        for (to, weight) in gradient[range.clone()].iter_mut().zip(&parameters[range]) {
            *to += PENALTY * weight;
            squares += weight * weight;
        }
    }
    PENALTY * squares
}

impl Classify for Layers {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let shape = Shape::new(row.len(), scores.len());
        let mut hidden = vec![0.0; HIDDEN];
        shape.forward(&self.parameters, row, &mut hidden, &mut scores[..shape.outputs]);
        if shape.outputs == 1 {
            (scores[0], scores[1]) = (1.0 - scores[0], scores[0]);
        }
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        fault_of("parameters", &self.parameters, Shape::new(columns, classes).len())
    }
}
