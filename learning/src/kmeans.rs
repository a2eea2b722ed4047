//! Mini-batch k-means for journeys: six features per user, a handful of clusters, fitted again and again on samples.
//!
//! # What it promises
//! * **Incremental.** A fit starts from the previous centroids and weights; it costs `passes` steps per `batch_rows` rows of the
//!   sample (about 0.1 µs per row, cluster and pass), whatever came before.
//! * **Deterministic.** The same sample (as a set, in any order), previous model and settings give the same bits.
//! * **Total.** Every finite sample gives finite centroids: equal rows, one row, more clusters than rows, values up to the largest
//!   float (magnitudes are cut at [`FEATURE_MAX`], so that no square overflows). Only an empty sample, a value that is not a
//!   number and zero clusters are refused, with [`FitError`].
//!
//! # The method
//! Sculley's mini-batch k-means ("Web-scale k-means clustering", WWW 2010) in the form that scikit-learn's
//! `MiniBatchKMeans.partial_fit` computes with `reassignment_ratio = 0`: each row of a batch goes to the nearest centroid as it
//! stood before the batch; a centroid becomes the weighted mean of itself (weight: the rows it has ever seen) and its rows of the
//! batch. The start is k-means++ (Arthur and Vassilvitskii, 2007).
//!
//! Both are `linfa-clustering`'s: its `fit_with` draws the first centroids ([`STARTS`] times, the start with the least inertia
//! wins) from the first batch and does every step. A previous model is handed to it through its serde form, the way it offers to
//! restore a saved model with its counts. Two things it has no words for are done here:
//! * *Order.* The sample is sorted and then shuffled by the seed, so that the order of arrival cannot matter while every batch is
//!   still a fair draw.
//! * *Growth.* With fewer distinct rows than clusters there are as many centroids as distinct rows; when a later sample has more,
//!   the missing centroids are drawn from it by the k-means++ rule, given those that stand.
//!
//! # Known limitations
//! * Weights only grow, so old centroids move slower and slower; [`Centroids::limit_weights`] lets old rows fade.
//! * No reassignment: a centroid that no row is near any more stays where it is, with its weight.
//! * Features are not scaled; the dimension with the largest spread (usually views) dominates, as in the original pipeline.

use linfa::DatasetBase;
use linfa::prelude::{FitWith, ParamGuard};
use linfa_clustering::{IncrKMeansError, KMeans, KMeansInit};
use linfa_nn::distance::L2Dist;
use ndarray::Array2;
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// views, carts, transactions, sessions, views per session, purchase ratio.
pub const FEATURES: usize = 6;

/// Larger magnitudes are cut here before a fit. The square of a distance between such points, summed over 10^9 rows, is finite.
pub const FEATURE_MAX: f64 = 1e140;

/// How often k-means++ is drawn at a first fit; the start with the least inertia is taken.
pub const STARTS: usize = 10;

/// A model: where the clusters are and how many rows each has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Centroids {
    /// In the order of cluster ids.
    pub centroids: Vec<[f64; FEATURES]>,
    /// One per centroid: the rows that it is the mean of, counted once per pass.
    pub weights: Vec<f64>,
}

impl Centroids {
    /// Cuts every weight at `weight_max`: what was seen longer ago than about that many rows per cluster fades.
    #[must_use]
    pub fn limit_weights(mut self, weight_max: f64) -> Self {
        for weight in &mut self.weights {
            *weight = weight.min(weight_max.max(0.0));
        }
        self
    }

    fn is_sound(&self) -> bool {
        let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
        self.centroids.len() == self.weights.len()
            && self.centroids.iter().all(|c| finite(c))
            && finite(&self.weights)
            && self.weights.iter().all(|w| *w >= 0.0)
    }
}

/// How to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KMeansSettings {
    /// The number of clusters wanted, at least 1.
    pub clusters: u16,
    /// Fixes every draw.
    pub seed: u64,
    /// How often the sample is gone through; 0 counts as 1.
    pub passes: u32,
    /// Rows of one mini-batch; 0 counts as 1. The first batch of a first fit is also where k-means++ draws from.
    pub batch_rows: usize,
}

/// Why there is no model. None of these goes away by trying again with the same input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FitError {
    #[error("the sample is empty")]
    EmptySample,
    #[error("the number of clusters must be at least 1")]
    NoClusters,
    #[error("row {row} of the sample has a feature that is not a finite number")]
    NotFinite { row: usize },
    #[error("the previous model is damaged: {0}")]
    BadModel(String),
}

impl FitError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptySample => "empty_sample",
            Self::NoClusters => "no_clusters",
            Self::NotFinite { .. } => "not_finite",
            Self::BadModel(_) => "bad_model",
        }
    }
}

type Model = KMeans<f64, L2Dist>;

/// Fits on a sample, from `previous` if there is one.
///
/// The result has `min(clusters, distinct rows)` centroids or as many as `previous` has, whichever is more. A previous model with
/// more centroids than `clusters` belongs to another cluster count and is not used.
pub fn fit(previous: Option<&Centroids>, sample: &[[f64; FEATURES]], settings: &KMeansSettings) -> Result<Centroids, FitError> {
    if settings.clusters == 0 {
        return Err(FitError::NoClusters);
    }
    let clusters = usize::from(settings.clusters);
    let mut rng = Xoshiro256Plus::seed_from_u64(settings.seed);
    let (rows, distinct) = canonical(sample, &mut rng)?;
    let batch_rows = settings.batch_rows.clamp(1, rows.len());
    let previous = previous.filter(|p| !p.centroids.is_empty() && p.centroids.len() <= clusters);
    let (mut model, mut done) = match previous {
        Some(previous) => (previous.clone(), 0),
        // The first step is part of the start.
        None => (start(&rows[..batch_rows], clusters, settings.seed)?, batch_rows),
    };
    grow(&mut model, &rows, clusters.min(distinct), &mut rng);
    for _ in 0..settings.passes.max(1) {
        for batch in rows[done..].chunks(batch_rows) {
            model = step(&model, batch)?;
        }
        done = 0;
    }
    Ok(model)
}

/// One mini-batch step: the count-weighted update of the centroids by the rows of `batch`, in which their order does not matter
/// beyond rounding.
pub fn step(model: &Centroids, batch: &[[f64; FEATURES]]) -> Result<Centroids, FitError> {
    if batch.is_empty() {
        return Err(FitError::EmptySample);
    }
    if let Some(row) = batch.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        return Err(FitError::NotFinite { row });
    }
    let restored = restore(model)?;
    let params = KMeans::params(model.centroids.len()).check().map_err(|e| FitError::BadModel(e.to_string()))?;
    take(params.fit_with(Some(restored), &DatasetBase::from(matrix(batch))))
}

/// The index of the nearest centroid by Euclidean distance, the lowest on a tie; `None` without centroids.
pub fn nearest(centroids: &[[f64; FEATURES]], point: &[f64; FEATURES]) -> Option<u16> {
    let mut best: Option<(u16, f64)> = None;
    for (index, centroid) in (0..=u16::MAX).zip(centroids) {
        let distance = square_distance(centroid, point);
        if best.is_none_or(|(_, least)| distance < least) {
            best = Some((index, distance));
        }
    }
    best.map(|(index, _)| index)
}

/// How far the centroid that moved most has moved. Infinite when the models have different numbers of centroids.
pub fn shift(a: &Centroids, b: &Centroids) -> f64 {
    if a.centroids.len() != b.centroids.len() {
        return f64::INFINITY;
    }
    a.centroids.iter().zip(&b.centroids).map(|(x, y)| square_distance(x, y).sqrt()).fold(0.0, f64::max)
}

fn square_distance(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The sample in an order that depends on its content and the seed alone, and the number of its distinct rows.
fn canonical(sample: &[[f64; FEATURES]], rng: &mut Xoshiro256Plus) -> Result<(Vec<[f64; FEATURES]>, usize), FitError> {
    if sample.is_empty() {
        return Err(FitError::EmptySample);
    }
    let mut rows = Vec::with_capacity(sample.len());
    for (index, row) in sample.iter().enumerate() {
        if row.iter().any(|v| !v.is_finite()) {
            return Err(FitError::NotFinite { row: index });
        }
        // Adding zero turns -0.0 into 0.0, which compares equal to it but sorts elsewhere.
        rows.push(row.map(|v| v.clamp(-FEATURE_MAX, FEATURE_MAX) + 0.0));
    }
    rows.sort_unstable_by(|a, b| {
        let unequal = a.iter().zip(b).map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne());
        unequal.unwrap_or(std::cmp::Ordering::Equal)
    });
    let distinct = 1 + rows.windows(2).filter(|pair| pair[0] != pair[1]).count();
    for last in (1..rows.len()).rev() {
        let other = ((u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        rows.swap(last, other);
    }
    Ok((rows, distinct))
}

/// k-means++ on the first batch and one step with it.
fn start(batch: &[[f64; FEATURES]], clusters: usize, seed: u64) -> Result<Centroids, FitError> {
    let mut distinct: Vec<&[f64; FEATURES]> = Vec::with_capacity(clusters);
    for row in batch {
        if distinct.len() == clusters {
            break;
        }
        if !distinct.contains(&row) {
            distinct.push(row);
        }
    }
    let params = KMeans::params_with_rng(distinct.len(), Xoshiro256Plus::seed_from_u64(seed))
        .init_method(KMeansInit::KMeansPlusPlus)
        .n_runs(STARTS)
        .check()
        .map_err(|e| FitError::BadModel(e.to_string()))?;
    let mut model = take(params.fit_with(None, &DatasetBase::from(matrix(batch))))?;
    // Rows so close that the square of their distance is 0 are drawn as one row twice: keep the first of them.
    let mut kept = Centroids::default();
    for (centroid, weight) in model.centroids.drain(..).zip(model.weights.drain(..)) {
        if !kept.centroids.contains(&centroid) {
            kept.centroids.push(centroid);
            kept.weights.push(weight);
        }
    }
    Ok(kept)
}

/// Adds centroids from the sample by the k-means++ rule (a row's chance is the square of its distance to the nearest centroid)
/// until there are `wanted`, or until every row lies on a centroid.
fn grow(model: &mut Centroids, rows: &[[f64; FEATURES]], wanted: usize, rng: &mut Xoshiro256Plus) {
    if model.centroids.len() >= wanted {
        return;
    }
    let nearest_square =
        |row: &[f64; FEATURES], model: &Centroids| model.centroids.iter().map(|c| square_distance(c, row)).fold(f64::INFINITY, f64::min);
    let mut squares: Vec<f64> = rows.iter().map(|row| nearest_square(row, model)).collect();
    while model.centroids.len() < wanted {
        let total: f64 = squares.iter().sum();
        if total <= 0.0 {
            return;
        }
        let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * total;
        // Rounding may leave a rest beyond the last row: then the last row with a chance is taken.
        let mut drawn = None;
        for (index, square) in squares.iter().enumerate().filter(|(_, square)| **square > 0.0) {
            drawn = Some(index);
            left -= square;
            if left < 0.0 {
                break;
            }
        }
        let Some(drawn) = drawn else { return };
        let centroid = rows[drawn];
        for (square, row) in squares.iter_mut().zip(rows) {
            *square = square.min(square_distance(&centroid, row));
        }
        model.centroids.push(centroid);
        model.weights.push(0.0);
    }
}

fn matrix(rows: &[[f64; FEATURES]]) -> Array2<f64> {
    Array2::from_shape_fn((rows.len(), FEATURES), |(row, feature)| rows[row][feature])
}

/// linfa's model with our centroids and weights.
fn restore(model: &Centroids) -> Result<Model, FitError> {
    if model.centroids.is_empty() || !model.is_sound() {
        return Err(FitError::BadModel("centroids and weights must be finite and of one length above 0".into()));
    }
    let flat: Vec<f64> = model.centroids.iter().flatten().copied().collect();
    serde_json::from_value(serde_json::json!({
        "centroids": { "v": 1, "dim": [model.centroids.len(), FEATURES], "data": flat },
        "cluster_count": { "v": 1, "dim": [model.weights.len()], "data": model.weights },
        "inertia": 0.0,
        "dist_fn": null,
    }))
    .map_err(|e| FitError::BadModel(e.to_string()))
}

/// Our model out of what linfa answers; not having converged is no failure of a step.
fn take(answer: Result<Model, IncrKMeansError<Model>>) -> Result<Centroids, FitError> {
    let model = match answer {
        Ok(model) | Err(IncrKMeansError::NotConverged(model)) => model,
        Err(error) => return Err(FitError::BadModel(error.to_string())),
    };
    let mut centroids = Vec::with_capacity(model.centroids().nrows());
    for row in model.centroids().rows() {
        let mut centroid = [0.0; FEATURES];
        for (to, from) in centroid.iter_mut().zip(row) {
            *to = *from;
        }
        centroids.push(centroid);
    }
    let taken = Centroids { centroids, weights: model.cluster_count().to_vec() };
    if taken.is_sound() { Ok(taken) } else { Err(FitError::BadModel("a step left the finite numbers".into())) }
}
