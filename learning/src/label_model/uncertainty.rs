//! Standard errors of the weights, which the reference does not give.
//!
//! Two methods, for what one has:
//! * [`jackknife`], for a table kept in parts (by a hash of the row's key, say): fit without each part in turn and see how much
//!   the weights differ. The delete-a-group jackknife (Quenouille 1949, Tukey 1958; Shao and Tu, "The jackknife and bootstrap",
//!   1995) assumes nothing of the model, so it is right when labeling functions are correlated too. With g parts it costs g fits.
//! * [`simulated_errors`], for one statistic: disturb it as much as chance would and fit again. The size and the shape of the
//!   disturbance come from rows simulated from the fitted model (the parametric bootstrap, Efron and Tibshirani, "An introduction to
//!   the bootstrap", 1993, with fewer rows than there were, as in Bickel, Götze and van Zwet 1997): the difference between the moments of
//!   two simulated samples of b rows, times the root of `b / 2n`, varies around 0 as the moments of n rows vary around theirs.
//!   It takes the model for true, so correlations among labeling functions make it too small.
//!
//! A draw costs two samples and a fit: half a millisecond for 10 functions and 3 classes; where the class balance is estimated, up
//! to a second more with many classes.
//!
//! Both measure how a fit varies from sample to sample, for the given epochs and seed; neither knows its bias.

use super::fit::{FitConfig, Moments, fit, fit_moments};
use super::model::LabelModel;
use super::{ABSTAIN, LabelModelError};
use desireline_votes::{Statistic, Votes};
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// The standard error of each labeling function's weight, from the parts of a divided table; nothing where the weight is nothing.
///
/// Each row of the table must be in one part, chosen independently of its votes; about 10 to 50 parts of similar size are
/// good. Errors: as [`fit`], also of the table without one of its parts; `BadSetting` below two parts, `OtherShape`.
pub fn jackknife(parts: &[Statistic], config: &FitConfig) -> Result<Vec<Option<f64>>, LabelModelError> {
    let [first, others @ ..] = parts else { return Err(TOO_FEW_PARTS) };
    if others.is_empty() {
        return Err(TOO_FEW_PARTS);
    }
    let mut whole = first.clone();
    for part in others {
        whole.merge(part, 1)?;
    }
    let mut spread = Spread::new(&fit(&whole, config)?);
    for part in parts {
        let mut rest = whole.clone();
        rest.merge(part, -1)?;
        spread.add(&fit(&rest, config)?);
    }
    let groups = parts.len() as f64;
    Ok(spread.errors(|squares| squares * (groups - 1.0) / groups))
}

const TOO_FEW_PARTS: LabelModelError = LabelModelError::BadSetting { name: "parts", must: "must be at least two" };

/// How to simulate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationConfig {
    /// How often to disturb and fit again (50), from 2 to 10,000. The errors themselves are then off by about `1 / sqrt(2 draws)`.
    pub draws: u32,
    /// Rows of a simulated sample at most (2,000), from 1 to 1,000,000. There are never more than there were.
    pub rows_max: u32,
    /// Fixes every draw (123).
    pub seed: u64,
}

impl Default for SimulationConfig {
    fn default() -> Self {
        Self { draws: 50, rows_max: 2_000, seed: 123 }
    }
}

/// The standard error of each labeling function's weight, from one statistic; nothing where the weight is nothing.
///
/// Errors: as [`fit`], also of a disturbed statistic; `BadSetting`.
pub fn simulated_errors(
    statistic: &Statistic,
    config: &FitConfig,
    simulation: &SimulationConfig,
) -> Result<Vec<Option<f64>>, LabelModelError> {
    if !(2..=10_000).contains(&simulation.draws) {
        return Err(LabelModelError::BadSetting { name: "draws", must: "must be from 2 to 10,000" });
    }
    if !(1..=1_000_000).contains(&simulation.rows_max) {
        return Err(LabelModelError::BadSetting { name: "rows_max", must: "must be from 1 to 1,000,000" });
    }
    let moments = Moments::of(statistic)?;
    let model = fit_moments(statistic, &moments, config)?;
    let rows = statistic.rows().min(i64::from(simulation.rows_max));
    let scale = (rows as f64 / (2.0 * statistic.rows() as f64)).sqrt();
    let mut source = Simulated::new(&model, rows as usize, simulation.seed);
    let mut spread = Spread::new(&model);
    for _ in 0..simulation.draws {
        let (plus, minus) = (source.sample()?, source.sample()?);
        let disturbed = disturb(&moments, &plus, &minus, scale, statistic.rows() as f64 / rows as f64);
        spread.add(&fit_moments(statistic, &disturbed, config)?);
    }
    let draws = f64::from(simulation.draws);
    Ok(spread.errors(|squares| squares / (draws - 1.0)))
}

/// `moments` plus the scaled difference of two samples'. The table of thirds is in rows, so that its differences are `rows_ratio`
/// times as large. No share of votes and no count falls below 0, and what is 0 is no chance but a rule and stays 0.
fn disturb(moments: &Moments, plus: &Moments, minus: &Moments, scale: f64, rows_ratio: f64) -> Moments {
    let shares = |base: &[f32], plus: &[f32], minus: &[f32]| -> Vec<f32> {
        base.iter().zip(plus.iter().zip(minus)).map(|(base, (plus, minus))| base + scale as f32 * (plus - minus)).collect()
    };
    let thirds = moments.thirds.iter().zip(plus.thirds.iter().zip(&minus.thirds));
    Moments {
        pairs: shares(&moments.pairs, &plus.pairs, &minus.pairs),
        votes: shares(&moments.votes, &plus.votes, &minus.votes).iter().map(|share| share.max(0.0)).collect(),
        thirds: thirds.map(|(base, (plus, minus))| (base + scale * rows_ratio * (plus - minus)).max(0.0)).collect(),
    }
}

/// Weights of several fits around a centre, for each labeling function.
struct Spread {
    defined: Vec<bool>,
    fits: Vec<Vec<f64>>,
}

impl Spread {
    fn new(model: &LabelModel) -> Self {
        let defined: Vec<bool> = model.weights().iter().map(Option::is_some).collect();
        Self { fits: vec![Vec::new(); defined.len()], defined }
    }

    fn add(&mut self, model: &LabelModel) {
        for (fits, weight) in self.fits.iter_mut().zip(model.weights()) {
            fits.extend(weight);
        }
    }

    /// The root of what `scale` makes of the sum of squared deviations from the mean.
    fn errors(self, scale: impl Fn(f64) -> f64) -> Vec<Option<f64>> {
        let error = |(fits, defined): (Vec<f64>, bool)| {
            let mean = fits.iter().sum::<f64>() / fits.len().max(1) as f64;
            let squares: f64 = fits.iter().map(|weight| (weight - mean) * (weight - mean)).sum();
            defined.then(|| scale(squares).sqrt())
        };
        self.fits.into_iter().zip(self.defined).map(error).collect()
    }
}

/// A source of label matrices in which the model is true.
struct Simulated {
    lfs: usize,
    classes: usize,
    rows: usize,
    random: Xoshiro256Plus,
    /// Sums of the class balance up to each class.
    balance: Vec<f64>,
    /// For each labeling function and class the sums of the chances of the votes up to each; the rest abstains.
    votes: Vec<f64>,
    columns: Vec<Vec<i8>>,
}

impl Simulated {
    fn new(model: &LabelModel, rows: usize, seed: u64) -> Self {
        let (lfs, classes) = (model.lfs(), model.classes());
        let mut votes = Vec::with_capacity(lfs * classes * classes);
        for lf in 0..lfs {
            let table = &model.table()[lf * classes * classes..];
            // A function that never votes does not begin to because its chances were clamped away from 0.
            let never = model.coverage()[lf] == 0.0;
            for class in 0..classes {
                let chances = (0..classes).map(|vote| if never { 0.0 } else { f64::from(table[vote * classes + class]) });
                votes.extend(cumulative(chances.collect(), false));
            }
        }
        Self {
            lfs,
            classes,
            rows,
            random: Xoshiro256Plus::seed_from_u64(seed),
            balance: cumulative(model.balance().to_vec(), true),
            votes,
            columns: vec![Vec::with_capacity(rows); lfs],
        }
    }

    fn sample(&mut self) -> Result<Moments, LabelModelError> {
        self.columns.iter_mut().for_each(Vec::clear);
        for _ in 0..self.rows {
            let class = draw(&mut self.random, &self.balance).min(self.classes - 1);
            for lf in 0..self.lfs {
                let start = (lf * self.classes + class) * self.classes;
                let vote = draw(&mut self.random, &self.votes[start..start + self.classes]);
                self.columns[lf].push(if vote < self.classes { vote as i8 } else { ABSTAIN });
            }
        }
        let votes = Votes::new(self.columns.iter().map(Vec::as_slice).collect())?;
        Moments::of(&Statistic::of(&votes, self.classes)?)
    }
}

/// The sums of the first chances; scaled to end at 1 if they exceed it or, with `whole`, in any case.
fn cumulative(mut chances: Vec<f64>, whole: bool) -> Vec<f64> {
    let mut sum = 0.0;
    for chance in &mut chances {
        sum += *chance;
        *chance = sum;
    }
    if sum > 1.0 || whole {
        chances.iter_mut().for_each(|chance| *chance /= sum);
    }
    chances
}

/// The first index whose cumulative chance exceeds a uniform number, or their number.
fn draw(random: &mut Xoshiro256Plus, cumulative: &[f64]) -> usize {
    let unit = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    cumulative.iter().take_while(|chance| **chance <= unit).count()
}
