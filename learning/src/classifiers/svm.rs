//! `SVC` and `NuSVC`: support vector machines with the kernel exp(-γ ‖a - b‖²), γ = 1 / (columns × variance of all values), one for every
//! pair of classes; the class with most votes wins, the first on a tie.
//!
//! Sequential minimal optimisation with the second-order choice of pairs of Fan, Chen and Lin ("Working set selection using second order
//! information", 2005), which libsvm uses, until no pair violates the conditions by more than 0.001. `SVC` takes C = 1. `NuSVC` takes
//! ν = 0.5 and is refused when a pair of classes is so unequal that the smaller one has fewer than a quarter of their rows.
//!
//! Rows of the kernel are kept in a cache of 64 MB at most and made anew when they are needed again. There are no probabilities: they
//! would need a cross-validation of their own ([`super::calibration`] has one for the linear machine).

use super::linalg::square_distance;
use super::train::{Classify, Train, fault_of};
use super::{Kind, ModelError};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::rc::Rc;

const CACHE_BYTES: usize = 64 << 20;
const COST: f64 = 1.0;
const NU: f64 = 0.5;
/// Violation of the conditions that is left.
const TOLERANCE: f64 = 1e-3;
const STEPS_MAX: usize = 10_000_000;
/// Least curvature of the objective along a pair.
const CURVATURE_MIN: f64 = 1e-12;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machines {
    gamma: f64,
    /// Support vectors, row by row.
    rows: Vec<f64>,
    machines: Vec<Machine>,
}

/// Decides between two classes: the first if Σ coefficient × kernel + bias is above 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    first: usize,
    second: usize,
    /// Support vectors and their coefficients.
    coefficients: Vec<(u32, f64)>,
    bias: f64,
}

impl Machines {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let count = train.values.len() as f64;
        let mean = train.values.iter().sum::<f64>() / count;
        let variance = train.values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        let gamma = if variance > 0.0 { 1.0 / (train.columns as f64 * variance) } else { 1.0 };
        let mut model = Self { gamma, rows: Vec::new(), machines: Vec::new() };
        // Which support vector a row has become.
        let mut places = vec![u32::MAX; train.rows];
        for first in 0..train.classes {
            for second in first + 1..train.classes {
                let (alphas, bias) = Problem::new(train, gamma, first, second)?.solve()?;
                let mut coefficients = Vec::new();
                for (row, alpha) in alphas {
                    if places[row] == u32::MAX {
                        places[row] = (model.rows.len() / train.columns) as u32;
                        model.rows.extend_from_slice(train.row(row));
                    }
                    coefficients.push((places[row], alpha));
                }
                model.machines.push(Machine { first, second, coefficients, bias });
            }
        }
        Ok(model)
    }
}

impl Classify for Machines {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let kernel: Vec<f64> = self.rows.chunks_exact(row.len()).map(|other| (-self.gamma * square_distance(other, row)).exp()).collect();
        scores.fill(0.0);
        for machine in &self.machines {
            let sum: f64 = machine.coefficients.iter().map(|(at, coefficient)| coefficient * kernel[*at as usize]).sum();
            scores[if sum + machine.bias > 0.0 { machine.first } else { machine.second }] += 1.0;
        }
    }

    fn probabilistic(&self) -> bool {
        false
    }

    fn values_per_row(&self) -> usize {
        self.rows.len()
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let rows = self.rows.len() / columns;
        if let Some(fault) = fault_of("support vectors", &self.rows, rows.checked_mul(columns)) {
            return Some(fault);
        }
        let sound = |machine: &Machine| {
            let fits = |(at, coefficient): &(u32, f64)| (*at as usize) < rows && coefficient.is_finite();
            machine.first < machine.second && machine.second < classes && machine.bias.is_finite() && machine.coefficients.iter().all(fits)
        };
        let complete = self.machines.len() == classes * (classes - 1) / 2 && self.gamma.is_finite() && self.gamma >= 0.0;
        (!complete || !self.machines.iter().all(sound)).then(|| "machines whose parts do not fit together".into())
    }
}

/// One pair of classes.
struct Problem<'a> {
    train: &'a Train<'a>,
    kernel: Kernel<'a>,
    rows: Vec<usize>,
    /// 1 for the first class, -1 for the second.
    signs: Vec<f64>,
    alphas: Vec<f64>,
    /// Sign times the objective's gradient, per row.
    slopes: Vec<f64>,
    /// Whether a step may only exchange between rows of one sign.
    by_sign: bool,
}

/// A step: the rows whose alphas change, and by how much.
struct Step {
    up: usize,
    down: usize,
    violation: f64,
}

impl<'a> Problem<'a> {
    fn new(train: &'a Train, gamma: f64, first: usize, second: usize) -> Result<Self, ModelError> {
        let rows: Vec<usize> = (0..train.rows).filter(|row| train.labels[*row] == first || train.labels[*row] == second).collect();
        let signs: Vec<f64> = rows.iter().map(|row| if train.labels[*row] == first { 1.0 } else { -1.0 }).collect();
        let kernel = Kernel::new(train, &rows, gamma);
        let by_sign = train.kind == Kind::NuSVC;
        let slopes = signs.iter().map(|sign| if by_sign { 0.0 } else { -sign }).collect();
        let mut problem = Self { train, kernel, alphas: vec![0.0; rows.len()], rows, signs, slopes, by_sign };
        if by_sign {
            problem.spread()?;
        }
        Ok(problem)
    }

    /// Gives the rows of each sign alphas that add up to ν / 2 of all rows, as `NuSVC` begins.
    fn spread(&mut self) -> Result<(), ModelError> {
        let share = NU * self.rows.len() as f64 / 2.0;
        for sign in [1.0, -1.0] {
            let mut rest = share;
            for at in 0..self.rows.len() {
                if self.signs[at] == sign && rest > 0.0 {
                    let alpha = rest.min(COST);
                    self.alphas[at] = alpha;
                    rest -= alpha;
                    let row = self.kernel.row(at);
                    for (slope, kernel) in self.slopes.iter_mut().zip(row.iter()) {
                        *slope += sign * alpha * f64::from(*kernel);
                    }
                }
            }
            if rest > 1e-9 {
                return Err(self.train.degenerate("two of its classes are too unequal in size for ν = 0.5"));
            }
            self.train.stop.check()?;
        }
        Ok(())
    }

    /// The rows with their coefficients, and the bias.
    fn solve(mut self) -> Result<(Vec<(usize, f64)>, f64), ModelError> {
        for step in 0..STEPS_MAX {
            if step % 32 == 0 {
                self.train.stop.check()?;
            }
            let Some(step) = self.choose() else { break };
            self.take(&step);
        }
        let (bias, scale) = if self.by_sign {
            let (above, below) = (self.level(|sign| sign > 0.0), self.level(|sign| sign < 0.0));
            let scale = (above - below) / 2.0;
            (-(above + below) / 2.0, if scale > 0.0 { 1.0 / scale } else { 1.0 })
        } else {
            (-self.level(|_| true), 1.0)
        };
        let used = (0..self.rows.len()).filter(|at| self.alphas[*at] > 0.0);
        let coefficients = used.map(|at| (self.rows[at], self.alphas[at] * self.signs[at] * scale)).collect();
        Ok((coefficients, bias * scale))
    }

    fn can_rise(&self, at: usize) -> bool {
        if self.signs[at] > 0.0 { self.alphas[at] < COST } else { self.alphas[at] > 0.0 }
    }

    fn can_fall(&self, at: usize) -> bool {
        if self.signs[at] > 0.0 { self.alphas[at] > 0.0 } else { self.alphas[at] < COST }
    }

    /// The pair that promises the largest fall of the objective; none when the conditions hold.
    fn choose(&mut self) -> Option<Step> {
        // By the sign, or all in the first place.
        let group = |sign: f64, by_sign: bool| usize::from(by_sign && sign < 0.0);
        let mut least: [Option<usize>; 2] = [None, None];
        for at in 0..self.rows.len() {
            let place = &mut least[group(self.signs[at], self.by_sign)];
            if self.can_rise(at) && place.is_none_or(|known| self.slopes[at] < self.slopes[known]) {
                *place = Some(at);
            }
        }
        let kernels = least.map(|up| up.map(|up| self.kernel.row(up)));
        let mut best: Option<(f64, Step)> = None;
        let mut violation = 0.0f64;
        for at in 0..self.rows.len() {
            let place = group(self.signs[at], self.by_sign);
            let (Some(up), Some(kernel)) = (least[place], &kernels[place]) else { continue };
            let difference = self.slopes[at] - self.slopes[up];
            if difference <= 0.0 || !self.can_fall(at) {
                continue;
            }
            violation = violation.max(difference);
            let curvature = (2.0 - 2.0 * f64::from(kernel[at])).max(CURVATURE_MIN);
            let fall = difference * difference / curvature;
            if best.as_ref().is_none_or(|(known, _)| fall > *known) {
                best = Some((fall, Step { up, down: at, violation: difference }));
            }
        }
        best.filter(|_| violation >= TOLERANCE).map(|(_, step)| step)
    }

    fn take(&mut self, step: &Step) {
        let (up, down) = (self.kernel.row(step.up), self.kernel.row(step.down));
        let curvature = (2.0 - 2.0 * f64::from(up[step.down])).max(CURVATURE_MIN);
        let room_up = if self.signs[step.up] > 0.0 { COST - self.alphas[step.up] } else { self.alphas[step.up] };
        let room_down = if self.signs[step.down] > 0.0 { self.alphas[step.down] } else { COST - self.alphas[step.down] };
        let length = (step.violation / curvature).min(room_up).min(room_down);
        self.alphas[step.up] += self.signs[step.up] * length;
        self.alphas[step.down] -= self.signs[step.down] * length;
        // At a bound exactly there, or the row would be looked at for ever.
        if length >= room_up {
            self.alphas[step.up] = if self.signs[step.up] > 0.0 { COST } else { 0.0 };
        }
        if length >= room_down {
            self.alphas[step.down] = if self.signs[step.down] > 0.0 { 0.0 } else { COST };
        }
        for ((slope, up), down) in self.slopes.iter_mut().zip(up.iter()).zip(down.iter()) {
            *slope += length * (f64::from(*up) - f64::from(*down));
        }
    }

    /// The slope at which the rows of these signs are content: the mean over those between the bounds, or the middle of what the bounds allow.
    fn level(&self, of: impl Fn(f64) -> bool) -> f64 {
        let (mut sum, mut free, mut low, mut high) = (0.0, 0u32, f64::NEG_INFINITY, f64::INFINITY);
        for at in (0..self.rows.len()).filter(|at| of(self.signs[*at])) {
            match (self.can_rise(at), self.can_fall(at)) {
                (true, true) => {
                    sum += self.slopes[at];
                    free += 1;
                }
                (true, false) => high = high.min(self.slopes[at]),
                (false, _) => low = low.max(self.slopes[at]),
            }
        }
        match (free, low.is_finite(), high.is_finite()) {
            (1.., _, _) => sum / f64::from(free),
            (_, true, true) => (low + high) / 2.0,
            (_, true, false) => low,
            (_, false, true) => high,
            (_, false, false) => 0.0,
        }
    }
}

/// Rows of the kernel's matrix, made when they are asked for.
struct Kernel<'a> {
    train: &'a Train<'a>,
    members: Vec<usize>,
    gamma: f64,
    rows: Vec<Option<Rc<[f32]>>>,
    /// Rows in memory, the oldest first.
    kept: VecDeque<usize>,
    kept_max: usize,
}

impl<'a> Kernel<'a> {
    fn new(train: &'a Train, members: &[usize], gamma: f64) -> Self {
        let kept_max = (CACHE_BYTES / (4 * members.len().max(1))).max(4);
        Self { train, members: members.to_vec(), gamma, rows: vec![None; members.len()], kept: VecDeque::new(), kept_max }
    }

    fn row(&mut self, at: usize) -> Rc<[f32]> {
        if let Some(row) = &self.rows[at] {
            return Rc::clone(row);
        }
        if self.kept.len() == self.kept_max
            && let Some(oldest) = self.kept.pop_front()
        {
            self.rows[oldest] = None;
        }
        let own = self.train.row(self.members[at]);
        let value = |other: &usize| (-self.gamma * square_distance(own, self.train.row(*other))).exp() as f32;
        let row: Rc<[f32]> = self.members.iter().map(value).collect();
        self.rows[at] = Some(Rc::clone(&row));
        self.kept.push_back(at);
        row
    }
}
