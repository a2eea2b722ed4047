//! Minimising a smooth convex function of many variables.
//!
//! The limited-memory quasi-Newton method of Liu and Nocedal ("On the limited memory BFGS method for large scale optimization", 1989)
//! with a search along each direction that halves the step until the function falls enough. It needs nothing but values and gradients,
//! and asks `stop` before every one of them.

use super::ModelError;
use super::linalg::dot;
use super::stop::Stop;
use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that stand for the second derivatives.
const MEMORY: usize = 10;
/// Share of the fall promised by the slope that a step must bring.
const FALL: f64 = 1e-4;
const HALVINGS_MAX: usize = 40;

/// When to be content.
pub(super) struct Until {
    /// No entry of the gradient is larger.
    pub gradient_max: f64,
    pub iterations_max: usize,
}

/// One remembered step: the step, the gradient's change along it, and 1 over their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

/// Moves `at` to the minimum of `function`, which answers its value and writes its gradient.
pub(super) fn minimise(
    at: &mut Vec<f64>,
    until: &Until,
    stop: &Stop,
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Result<(), ModelError> {
    let mut gradient = vec![0.0; at.len()];
    let mut value = function(at, &mut gradient);
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let (mut next, mut next_gradient) = (at.clone(), gradient.clone());
    for _ in 0..until.iterations_max {
        if gradient.iter().all(|entry| entry.abs() <= until.gradient_max) {
            break;
        }
        let mut direction = descent(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            memory.clear();
            direction = gradient.iter().map(|entry| -entry).collect();
            slope = -dot(&gradient, &gradient);
        }
        let mut length = if memory.is_empty() { 1.0 / slope.abs().sqrt().max(1.0) } else { 1.0 };
        let mut fell = false;
        for _ in 0..HALVINGS_MAX {
            stop.check()?;
            for ((to, from), along) in next.iter_mut().zip(at.iter()).zip(&direction) {
                *to = from + length * along;
            }
            let reached = function(&next, &mut next_gradient);
            if reached <= value + FALL * length * slope {
                value = reached;
                fell = true;
                break;
            }
            length *= 0.5;
        }
        // No step falls any further: the minimum, as far as rounding lets it be known.
        if !fell {
            break;
        }
        remember(&mut memory, at, &next, &gradient, &next_gradient);
        std::mem::swap(at, &mut next);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
    Ok(())
}

fn remember(memory: &mut VecDeque<Pair>, from: &[f64], to: &[f64], before: &[f64], after: &[f64]) {
    let step: Vec<f64> = to.iter().zip(from).map(|(a, b)| a - b).collect();
    let change: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    let product = dot(&step, &change);
    // Along a flat or rounded piece there is nothing to learn about the curvature.
    if product > 1e-12 * dot(&change, &change) {
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.push_back(Pair { step, change, inverse: 1.0 / product });
    }
}

/// The gradient, turned round and stretched by what the memory says of the second derivatives.
fn descent(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = pair.inverse * dot(&pair.step, &direction);
        add(&mut direction, &pair.change, -share);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &last.change));
        direction.iter_mut().for_each(|entry| *entry *= scale);
    }
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = pair.inverse * dot(&pair.change, &direction);
        add(&mut direction, &pair.step, share - back);
    }
    direction
}

fn add(to: &mut [f64], from: &[f64], times: f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += times * from;
    }
}
