//! `RidgeClassifier` and `RidgeClassifierCV`: least squares on targets of ±1 with a penalty on the weights, one class against the rest.
//!
//! With centred columns X = U S Vᵀ the weights are V (S² + α)⁻¹ Vᵀ Xᵀ y, from the eigenvectors of XᵀX alone: columns cubed, whatever the
//! number of rows. `RidgeClassifier` takes α = 1. `RidgeClassifierCV` takes that of 0.1, 1 and 10 with the least square of the residuals
//! that each row would have if it were left out, r / (1 - h) with h the row's leverage: two passes over the rows.

use super::ModelError;
use super::linalg::{Eigen, add_outer, dot, eigen, mirror};
use super::linear::{Linear, Link};
use super::train::Train;

const ALPHAS: [f64; 3] = [0.1, 1.0, 10.0];

pub(super) fn ridge(train: &Train) -> Result<Linear, ModelError> {
    let problem = Problem::new(train)?;
    Ok(problem.linear(1.0))
}

pub(super) fn ridge_cv(train: &Train) -> Result<Linear, ModelError> {
    let problem = Problem::new(train)?;
    let mut best = (f64::INFINITY, ALPHAS[0]);
    for alpha in ALPHAS {
        let error = problem.left_out(train, alpha)?;
        if error < best.0 {
            best = (error, alpha);
        }
    }
    Ok(problem.linear(best.1))
}

/// The sufficient numbers of the rows, turned to the eigenvectors of the centred XᵀX.
struct Problem {
    columns: usize,
    means: Vec<f64>,
    spectrum: Eigen,
    /// Per target: Vᵀ Xᵀ (y - mean of y).
    turned: Vec<Vec<f64>>,
    target_means: Vec<f64>,
    /// The class that is +1, per target.
    positive: Vec<usize>,
}

impl Problem {
    fn new(train: &Train) -> Result<Self, ModelError> {
        let columns = train.columns;
        let rows = train.rows as f64;
        let positive: Vec<usize> = if train.classes == 2 { vec![1] } else { (0..train.classes).collect() };
        let mut means = vec![0.0; columns];
        for (row, _) in train.pairs() {
            for (mean, value) in means.iter_mut().zip(row) {
                *mean += value / rows;
            }
        }
        let mut gram = vec![0.0; columns * columns];
        let mut sums = vec![vec![0.0; columns]; positive.len()];
        let mut centred = vec![0.0; columns];
        for (at, (row, label)) in train.pairs().enumerate() {
            if at % 1024 == 0 {
                train.stop.check()?;
            }
            for ((to, value), mean) in centred.iter_mut().zip(row).zip(&means) {
                *to = value - mean;
            }
            add_outer(&mut gram, &centred, 1.0);
            for (sum, class) in sums.iter_mut().zip(&positive) {
                let target = sign(label, *class);
                for (to, value) in sum.iter_mut().zip(&centred) {
                    *to += target * value;
                }
            }
        }
        mirror(&mut gram, columns);
        let spectrum = eigen(gram, columns, train.stop)?;
        let turn = |sum: &Vec<f64>| spectrum.vectors.chunks_exact(columns).map(|vector| dot(vector, sum)).collect();
        let turned = sums.iter().map(turn).collect();
        let shares = train.shares();
        let target_means = positive.iter().map(|class| 2.0 * shares[*class] - 1.0).collect();
        Ok(Self { columns, means, spectrum, turned, target_means, positive })
    }

    fn linear(&self, alpha: f64) -> Linear {
        let mut planes = Vec::new();
        for (turned, target_mean) in self.turned.iter().zip(&self.target_means) {
            let mut weights = vec![0.0; self.columns];
            let vectors = self.spectrum.vectors.chunks_exact(self.columns);
            for ((vector, value), share) in vectors.zip(&self.spectrum.values).zip(turned) {
                let times = share / (value.max(0.0) + alpha);
                weights.iter_mut().zip(vector).for_each(|(to, entry)| *to += times * entry);
            }
            let intercept = target_mean - dot(&weights, &self.means);
            planes.extend(weights);
            planes.push(intercept);
        }
        Linear::of_planes(&planes, self.columns, Link::Margin)
    }

    /// The mean square of what each row is off by when it is not fitted on.
    fn left_out(&self, train: &Train, alpha: f64) -> Result<f64, ModelError> {
        let model = self.linear(alpha);
        let mut sum = 0.0;
        let mut centred = vec![0.0; self.columns];
        for (at, (row, label)) in train.pairs().enumerate() {
            if at % 1024 == 0 {
                train.stop.check()?;
            }
            for ((to, value), mean) in centred.iter_mut().zip(row).zip(&self.means) {
                *to = value - mean;
            }
            let vectors = self.spectrum.vectors.chunks_exact(self.columns);
            let leverage: f64 =
                vectors.zip(&self.spectrum.values).map(|(vector, value)| dot(vector, &centred).powi(2) / (value.max(0.0) + alpha)).sum();
            let rest = (1.0 - leverage - 1.0 / train.rows as f64).max(f64::EPSILON);
            for ((class, plane), intercept) in self.positive.iter().zip(model.weights.chunks_exact(self.columns)).zip(&model.intercepts) {
                let residual = sign(label, *class) - dot(plane, row) - intercept;
                sum += (residual / rest).powi(2);
            }
        }
        Ok(sum / train.rows as f64)
    }
}

fn sign(label: usize, class: usize) -> f64 {
    if label == class { 1.0 } else { -1.0 }
}
