//! Models that describe each class by a mean and a spread: `NearestCentroid`, `LinearDiscriminantAnalysis` and
//! `QuadraticDiscriminantAnalysis`.
//!
//! * `NearestCentroid`: the class whose mean is nearest by Euclidean distance, whatever its share. Its probabilities are those of
//!   normal classes of the same size with unit variance.
//! * `LinearDiscriminantAnalysis`: normal classes with one covariance and the shares of the rows. Directions in which the classes do not
//!   spread (constant or copied columns) are left out: those whose standard deviation within classes, after every column is brought to
//!   1, is at most 10⁻⁴.
//! * `QuadraticDiscriminantAnalysis`: normal classes, each with its covariance. Columns that are constant over all rows are left out; a
//!   class that spreads in fewer directions than there are columns left has no density and is refused.

use super::ModelError;
use super::linalg::{add_outer, dot, eigen, mirror, square_distance};
use super::linear::{Linear, Link};
use super::train::{Classify, Train, fault_of, softmax};
use serde::{Deserialize, Serialize};

/// Variance within classes, relative to a column's own, below which a direction counts as one without spread.
const SPREAD_MIN: f64 = 1e-8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Centroids {
    /// Class by class.
    means: Vec<f64>,
}

impl Centroids {
    pub(super) fn fit(train: &Train) -> Self {
        Self { means: train.means() }
    }
}

impl Classify for Centroids {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        for (score, mean) in scores.iter_mut().zip(self.means.chunks_exact(row.len())) {
            *score = -0.5 * square_distance(mean, row);
        }
        softmax(scores);
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        fault_of("means", &self.means, columns.checked_mul(classes))
    }
}

/// Linear discriminant analysis, as planes.
pub(super) fn linear(train: &Train) -> Result<Linear, ModelError> {
    let (columns, classes) = (train.columns, train.classes);
    if train.rows <= classes {
        return Err(train.degenerate("there must be more rows than classes"));
    }
    let means = train.means();
    let mut within = vec![0.0; columns * columns];
    let mut centred = vec![0.0; columns];
    for (at, (row, label)) in train.pairs().enumerate() {
        if at % 1024 == 0 {
            train.stop.check()?;
        }
        centre(&mut centred, row, &means[label * columns..]);
        add_outer(&mut within, &centred, 1.0 / (train.rows - classes) as f64);
    }
    mirror(&mut within, columns);
    let scales: Vec<f64> = (0..columns).map(|at| within[at * columns + at].sqrt()).map(|s| if s > 0.0 { 1.0 / s } else { 0.0 }).collect();
    for row in 0..columns {
        for column in 0..columns {
            within[row * columns + column] *= scales[row] * scales[column];
        }
    }
    let spectrum = eigen(within, columns, train.stop)?;
    let mut planes = Vec::new();
    for (mean, share) in means.chunks_exact(columns).zip(train.shares()) {
        let scaled: Vec<f64> = mean.iter().zip(&scales).map(|(value, scale)| value * scale).collect();
        let mut weights = vec![0.0; columns];
        for (vector, spread) in spectrum.vectors.chunks_exact(columns).zip(&spectrum.values).filter(|(_, spread)| **spread > SPREAD_MIN) {
            let times = dot(vector, &scaled) / spread;
            for ((to, entry), scale) in weights.iter_mut().zip(vector).zip(&scales) {
                *to += times * entry * scale;
            }
        }
        let intercept = share.ln() - 0.5 * dot(&weights, mean);
        planes.extend(weights);
        planes.push(intercept);
    }
    Ok(Linear::of_planes(&planes, columns, Link::Softmax))
}

fn centre(to: &mut [f64], row: &[f64], mean: &[f64]) {
    for ((to, value), mean) in to.iter_mut().zip(row).zip(mean) {
        *to = value - mean;
    }
}

/// A normal density per class, over the columns that are not constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quadratic {
    /// Columns looked at, ascending.
    columns: Vec<usize>,
    /// Class by class.
    means: Vec<f64>,
    /// Class by class, direction by direction: of length 1 / standard deviation.
    directions: Vec<f64>,
    /// Logarithm of the share less that of the determinant's root, per class.
    constants: Vec<f64>,
}

impl Quadratic {
    pub(super) fn fit(train: &Train) -> Result<Self, ModelError> {
        let varies = |column: &usize| train.pairs().any(|(row, _)| row[*column] != train.values[*column]);
        let columns: Vec<usize> = (0..train.columns).filter(varies).collect();
        if columns.is_empty() {
            return Err(train.degenerate("every column is constant"));
        }
        let all_means = train.means();
        let mut model = Self { columns, means: Vec::new(), directions: Vec::new(), constants: Vec::new() };
        let size = model.columns.len();
        for (class, (count, share)) in train.counts().into_iter().zip(train.shares()).enumerate() {
            if count < 2 {
                return Err(train.degenerate(format!("class {class} has a single row")));
            }
            let mean: Vec<f64> = model.columns.iter().map(|column| all_means[class * train.columns + column]).collect();
            let mut covariance = vec![0.0; size * size];
            let mut centred = vec![0.0; size];
            for (at, (row, _)) in train.pairs().filter(|(_, label)| *label == class).enumerate() {
                if at % 1024 == 0 {
                    train.stop.check()?;
                }
                for ((to, column), mean) in centred.iter_mut().zip(&model.columns).zip(&mean) {
                    *to = row[*column] - mean;
                }
                add_outer(&mut covariance, &centred, 1.0 / (count - 1) as f64);
            }
            mirror(&mut covariance, size);
            let trace: f64 = (0..size).map(|at| covariance[at * size + at]).sum();
            let spectrum = eigen(covariance, size, train.stop)?;
            if count <= size || spectrum.values.iter().any(|value| *value <= SPREAD_MIN * 1e-4 * trace) {
                return Err(train.degenerate(format!("the rows of class {class} do not spread in every direction")));
            }
            let logs: f64 = spectrum.values.iter().map(|value| value.ln()).sum();
            model.constants.push(share.ln() - 0.5 * logs);
            for (vector, value) in spectrum.vectors.chunks_exact(size).zip(&spectrum.values) {
                model.directions.extend(vector.iter().map(|entry| entry / value.sqrt()));
            }
            model.means.extend(mean);
        }
        Ok(model)
    }
}

impl Classify for Quadratic {
    fn scores(&self, row: &[f64], scores: &mut [f64]) {
        let size = self.columns.len();
        let classes = self.means.chunks_exact(size).zip(self.directions.chunks_exact(size * size)).zip(&self.constants);
        for (score, ((mean, directions), constant)) in scores.iter_mut().zip(classes) {
            let mut square = 0.0;
            for direction in directions.chunks_exact(size) {
                let entries = direction.iter().zip(&self.columns).zip(mean);
                square += entries.map(|((entry, column), mean)| entry * (row[*column] - mean)).sum::<f64>().powi(2);
            }
            *score = constant - 0.5 * square;
        }
        softmax(scores);
    }

    fn fault(&self, columns: usize, classes: usize) -> Option<String> {
        let size = self.columns.len();
        if size == 0 || self.columns.iter().any(|column| *column >= columns) {
            return Some("a density over columns that the table does not have".into());
        }
        fault_of("means", &self.means, size.checked_mul(classes))
            .or_else(|| fault_of("directions", &self.directions, size.checked_mul(size).and_then(|square| square.checked_mul(classes))))
            .or_else(|| fault_of("constants", &self.constants, Some(classes)))
    }
}
