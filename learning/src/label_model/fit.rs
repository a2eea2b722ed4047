//! The fit: gradient descent on how well a table of conditional probabilities explains the counts of pairs.
//!
//! With O = C / n, P the diagonal matrix of the class balance p and μ the table (m k rows, k columns), the loss is
//!
//! ```text
//! R = O - μ P μ'  outside of the k x k blocks on the diagonal, 0 in them      (pairs of different functions)
//! s = μ p - diag(O)                                                            (single functions)
//! loss = |R|^2 + |s|^2 + l2^2 |μ - μ0|^2
//! ```
//!
//! and its gradient `-4 R μ P + 2 s p' + 2 l2^2 (μ - μ0)`. Each epoch is one step with momentum; with `l2` above 0 the optimizer
//! lets μ decay by it too. The descent starts at `r μ0`, where μ0 assumes that every function is right in a given share of its
//! votes and r is one random number. Afterwards μ is clamped into (0, 1) and its columns are put in order (`symmetry.rs`).
//!
//! All of this is in `f32`, as in the reference, whose parameters it reproduces to rounding.

use super::LabelModelError;
use super::balance::{CHANCE_MIN, ClassBalance};
use super::model::{Fitted, LabelModel};
use super::random::first_uniform;
use super::symmetry::break_symmetry;
use desireline_votes::Statistic;
use serde::{Deserialize, Serialize};

/// Fewer labeling functions cannot be told apart by how they agree.
pub const LFS_MIN: usize = 3;

/// Most epochs of one fit; the loss of each is kept.
pub const EPOCHS_MAX: u32 = 1_000_000;

const MOMENTUM: f32 = 0.9;

/// How to fit. The default is Snorkel's, with the seed 123 where Snorkel draws one per process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitConfig {
    /// Steps of the descent (100), at most [`EPOCHS_MAX`].
    pub epochs: u32,
    /// The step's size (0.01), above 0.
    pub learning_rate: f64,
    /// Strength of the pull towards the start (0), at least 0.
    pub l2: f64,
    /// Fixes the start (123).
    pub seed: u32,
    /// The start's scale r in place of the one that follows from the seed, in [0, 1].
    pub start_scale: Option<f64>,
    /// In which share of its votes a function is right at the start: one number for all (0.7 alone), or one for each.
    pub start_precision: Vec<f64>,
    /// The table is kept in `[floor, 1 - floor]`, from [`CHANCE_MIN`] to below 0.5; by default the smaller of 0.01 and the largest power of
    /// ten that is at most 1/n.
    pub floor: Option<f64>,
    /// Where the shares of the classes come from (uniform).
    pub balance: ClassBalance,
    /// The descent ends before `epochs` when neither its momentum nor its slope would move any entry of the table by more than
    /// this (never), above 0. 10^-6 is about as fine as `f32` allows.
    pub tolerance: Option<f64>,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self {
            epochs: 100,
            learning_rate: 0.01,
            l2: 0.0,
            seed: 123,
            start_scale: None,
            start_precision: vec![0.7],
            floor: None,
            balance: ClassBalance::Uniform,
            tolerance: None,
        }
    }
}

impl FitConfig {
    fn check(&self, lfs: usize) -> Result<(), LabelModelError> {
        let precisions = self.start_precision.len();
        if precisions != 1 && precisions != lfs {
            return Err(LabelModelError::WrongWidth { given: precisions, expected: lfs });
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let rules = [
            (self.epochs <= EPOCHS_MAX, "epochs", "must be at most 1,000,000"),
            (positive(self.learning_rate), "learning_rate", "must be a number above 0"),
            (self.l2 >= 0.0 && self.l2.is_finite(), "l2", "must be a number of at least 0"),
            (self.start_scale.is_none_or(share), "start_scale", "must be between 0 and 1"),
            (self.start_precision.iter().all(|p| share(*p)), "start_precision", "must be between 0 and 1"),
            (self.floor.is_none_or(|floor| (CHANCE_MIN..0.5).contains(&floor)), "floor", "must be from 1e-30 to below 0.5"),
            (self.tolerance.is_none_or(positive), "tolerance", "must be a number above 0"),
        ];
        match rules.into_iter().find(|(kept, ..)| !kept) {
            Some((_, name, must)) => Err(LabelModelError::BadSetting { name, must }),
            None => Ok(()),
        }
    }
}

/// Fits the label model to a statistic.
///
/// Errors: [`LabelModelError::TooFewLfs`] below [`LFS_MIN`], `NoRows`, `NegativeCounts`, `BadSetting`, `WrongWidth` (of
/// `start_precision`), `ClassBalanceLength`, `ClassBalanceRange`, `ClassBalanceNoGold`, and `Diverged` when the loss leaves the
/// finite numbers (Snorkel goes on when it is infinite).
pub fn fit(statistic: &Statistic, config: &FitConfig) -> Result<LabelModel, LabelModelError> {
    fit_moments(statistic, &Moments::of(statistic)?, config)
}

/// The statistic as shares of the rows, which a fit works on.
pub(super) struct Moments {
    /// O: symmetric, row-major, `m k` rows and columns; 0 in the blocks on the diagonal.
    pub pairs: Vec<f32>,
    /// The diagonal of O.
    pub votes: Vec<f32>,
    /// Rows for each combination of what the three groups say.
    pub thirds: Vec<f64>,
}

impl Moments {
    pub(super) fn of(statistic: &Statistic) -> Result<Self, LabelModelError> {
        if statistic.lfs() < LFS_MIN {
            return Err(LabelModelError::TooFewLfs { lfs: statistic.lfs(), least: LFS_MIN });
        }
        statistic.check_counts()?;
        if statistic.rows() == 0 {
            return Err(LabelModelError::NoRows);
        }
        let (layout, classes) = (statistic.layout(), statistic.classes());
        let (indicators, rows) = (layout.shape.indicators(), statistic.rows() as f64);
        let share = |count: &i64| (*count as f64 / rows) as f32;
        let counts = statistic.section(layout.pairs());
        let mut pairs = vec![0.0; indicators * indicators];
        for one in 0..indicators {
            let lf = one / classes;
            let start = layout.pair_row_start(lf, one % classes);
            for (other, count) in ((lf + 1) * classes..).zip(&counts[start..start + layout.pair_row_length(lf)]) {
                pairs[one * indicators + other] = share(count);
                pairs[other * indicators + one] = share(count);
            }
        }
        Ok(Self {
            pairs,
            votes: statistic.section(layout.votes()).iter().map(share).collect(),
            thirds: statistic.section(layout.thirds()).iter().map(|count| *count as f64).collect(),
        })
    }
}

/// Fits to moments that are those of `statistic`, or near them.
pub(super) fn fit_moments(statistic: &Statistic, moments: &Moments, config: &FitConfig) -> Result<LabelModel, LabelModelError> {
    config.check(statistic.lfs())?;
    let balance = config.balance.shares(statistic, &moments.thirds)?;
    let scale = config.start_scale.unwrap_or_else(|| first_uniform(config.seed));
    let mut descent = Descent::new(moments, &balance, config, scale);
    let converged = descent.run(config)?;
    let floor = config.floor.unwrap_or_else(|| default_floor(statistic.rows()));
    let mut table = descent.row_major();
    for value in &mut table {
        *value = value.clamp(floor as f32, (1.0 - floor) as f32);
    }
    let order = break_symmetry(&mut table, &balance);
    let coverage = moments.votes.chunks_exact(statistic.classes()).map(|votes| votes.iter().map(|v| f64::from(*v)).sum()).collect();
    Ok(LabelModel::new(Fitted {
        lfs: statistic.lfs(),
        classes: statistic.classes(),
        rows: statistic.rows().unsigned_abs(),
        balance,
        table,
        coverage,
        order,
        losses: descent.losses,
        converged,
    }))
}

/// The smaller of 0.01 and 10^-e, where 10^e is the least power of ten that is at least the number of rows.
fn default_floor(rows: i64) -> f64 {
    let mut floor_digits = 0;
    let mut power = 1i64;
    while power < rows {
        power = power.saturating_mul(10);
        floor_digits += 1;
    }
    0.01f64.min(10f64.powi(-floor_digits))
}

/// μ on its way. Tables are column-major here, so that the inner loops run over indicators.
struct Descent<'a> {
    moments: &'a Moments,
    classes: usize,
    indicators: usize,
    balance: Vec<f32>,
    l2: f32,
    start: Vec<f32>,
    table: Vec<f32>,
    velocity: Vec<f32>,
    gradient: Vec<f32>,
    losses: Vec<f32>,
}

impl<'a> Descent<'a> {
    fn new(moments: &'a Moments, balance: &[f64], config: &FitConfig, scale: f64) -> Self {
        let (classes, indicators) = (balance.len(), moments.votes.len());
        let balance: Vec<f32> = balance.iter().map(|share| *share as f32).collect();
        let mut start = vec![0.0; indicators * classes];
        for (indicator, votes) in moments.votes.iter().enumerate() {
            let (lf, class) = (indicator / classes, indicator % classes);
            let precision = config.start_precision[lf % config.start_precision.len()] as f32;
            start[class * indicators + indicator] = (votes * precision / balance[class]).clamp(0.0, 1.0);
        }
        let table = start.iter().map(|value| value * scale as f32).collect();
        let zeros = vec![0.0; start.len()];
        Self {
            moments,
            classes,
            indicators,
            balance,
            l2: config.l2 as f32,
            start,
            table,
            velocity: zeros.clone(),
            gradient: zeros,
            losses: Vec::with_capacity(config.epochs as usize),
        }
    }

    /// Goes down until the epochs are over or, which is the answer, until it has converged.
    fn run(&mut self, config: &FitConfig) -> Result<bool, LabelModelError> {
        let rate = config.learning_rate as f32;
        for epoch in 1..=config.epochs {
            let loss = self.slope();
            if !loss.is_finite() {
                return Err(LabelModelError::Diverged { epoch, learning_rate: config.learning_rate });
            }
            self.losses.push(loss);
            let (moved, slope) = self.step(rate);
            if config.tolerance.is_some_and(|tolerance| f64::from(moved.max(slope)) < tolerance) {
                return Ok(true);
            }
        }
        if self.table.iter().all(|value| value.is_finite()) {
            Ok(false)
        } else {
            Err(LabelModelError::Diverged { epoch: config.epochs, learning_rate: config.learning_rate })
        }
    }

    /// Sets the gradient at the present table and answers the loss there.
    fn slope(&mut self) -> f32 {
        let (d, k) = (self.indicators, self.classes);
        let mut residual = vec![0.0f32; d];
        let mut loss = 0.0;
        for one in 0..d {
            residual.copy_from_slice(&self.moments.pairs[one * d..(one + 1) * d]);
            for (column, share) in self.table.chunks_exact(d).zip(&self.balance) {
                let weight = column[one] * share;
                for (rest, value) in residual.iter_mut().zip(column) {
                    *rest -= weight * value;
                }
            }
            let own = one / k * k;
            residual[own..own + k].fill(0.0);
            loss += dot(&residual, &residual);

            let explained: f32 = self.table.chunks_exact(d).zip(&self.balance).map(|(column, share)| column[one] * share).sum();
            let excess = explained - self.moments.votes[one];
            loss += excess * excess;
            for ((column, share), gradient) in self.table.chunks_exact(d).zip(&self.balance).zip(self.gradient.chunks_exact_mut(d)) {
                gradient[one] = -4.0 * share * dot(&residual, column) + 2.0 * excess * share;
            }
        }
        if self.l2 > 0.0 {
            let squared = self.l2 * self.l2;
            for ((gradient, value), start) in self.gradient.iter_mut().zip(&self.table).zip(&self.start) {
                let away = value - start;
                loss += squared * away * away;
                *gradient += 2.0 * squared * away + self.l2 * value;
            }
        }
        loss
    }

    /// One step with momentum. Answers the largest change of an entry, and the largest change that the slope alone would lead to.
    fn step(&mut self, rate: f32) -> (f32, f32) {
        let (mut moved, mut slope) = (0.0f32, 0.0f32);
        for ((value, velocity), gradient) in self.table.iter_mut().zip(&mut self.velocity).zip(&self.gradient) {
            *velocity = MOMENTUM * *velocity + gradient;
            *value -= rate * *velocity;
            moved = moved.max((rate * *velocity).abs());
            slope = slope.max((rate * gradient).abs());
        }
        (moved, slope / (1.0 - MOMENTUM))
    }

    fn row_major(&self) -> Vec<f32> {
        let columns = |indicator: usize| self.table.iter().skip(indicator).step_by(self.indicators).copied();
        (0..self.indicators).flat_map(columns).collect()
    }
}

/// The sum of products, in eight partial sums so that it is computed eight at a time.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (wide_a, wide_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = wide_a.remainder().iter().zip(wide_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in wide_a.zip(wide_b) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
