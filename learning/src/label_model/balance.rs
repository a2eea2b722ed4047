//! The class balance: how large a share of the rows belongs to each class.
//!
//! # Estimating it
//! How often pairs of votes occur does not determine the balance: for a whole range of balances there are tables that explain the
//! pairs equally well. Triples do determine it (Allman, Matias and Rhodes, "Identifiability of parameters in latent structure models",
//! Annals of Statistics 2009, from Kruskal 1977). Counting all triples would cost m^3 k^3, so the labeling functions are put into
//! three groups (index modulo 3). Given the class, what the groups say by majority is independent, because the functions are, and
//! the `(k+1)^3` combinations, which the statistic counts, are all that is needed: a latent class model with three observations
//! of `k + 1` values.
//!
//! It is fitted by expectation maximization (Dempster, Laird and Rubin 1977; for labelers, Dawid and Skene, "Maximum likelihood
//! estimation of observer error-rates using the EM algorithm", 1979) from the majority vote as the start, which also decides
//! which class is which. The majority vote is the prior too, worth [`PRIOR_ROWS`] rows of known class: votes that tell little (few
//! of them, or hardly better than chance) leave its shares as they are. What a group says of a class has a prior of two rows, one
//! right and one spread evenly.
//!
//! # Known limitations
//! * The estimate depends on which function has which index, through the groups.
//! * It needs rows on which all three groups speak. Ten functions that vote on half of the rows and are right in two thirds to nine
//!   tenths of their votes give shares to 0.02 from 50,000 rows; twelve that vote on a hundredth to a tenth of them give
//!   little more than the majority vote from 4,000.
//! * It is good when functions are independent and better than chance, and when each class is voted for in at least two groups.
//!   Copies of a function in different groups are taken as confirmation.

use super::LabelModelError;
use desireline_votes::{Shape, Statistic, THIRDS, verdict};
use serde::{Deserialize, Serialize};

/// No share of a class and no entry of a table may be smaller: it must not become 0 in `f32`.
pub const CHANCE_MIN: f64 = 1e-30;

/// Where a fit takes the class balance from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassBalance {
    /// Every class has the share 1/k: Snorkel's default.
    #[default]
    Uniform,
    /// The shares of the k classes, each from [`CHANCE_MIN`] to 1. They are taken as they are, also when they do not sum to 1.
    Given(Vec<f64>),
    /// The shares of the gold labels noted by [`Statistic::grade`]; each class must have one.
    Gold,
    /// Estimated from what the labeling functions say together.
    Estimate,
}

/// Steps of expectation maximization at most.
const STEPS_MAX: usize = 20_000;

/// Responsibilities computed at most, which bounds the steps where there are many classes.
const WORK_MAX: usize = 50_000_000;

/// The shares that the majority vote gives weigh as much as this many rows whose class is known.
const PRIOR_ROWS: f64 = 20.0;

/// The estimate stands when no share changes by more than this in one step.
const SHARE_TOLERANCE: f64 = 1e-10;

impl ClassBalance {
    /// The k shares. `thirds` is the table that `statistic` holds, or one that was disturbed to see what follows.
    pub(super) fn shares(&self, statistic: &Statistic, thirds: &[f64]) -> Result<Vec<f64>, LabelModelError> {
        let classes = statistic.classes();
        match self {
            Self::Uniform => Ok(vec![1.0 / classes as f64; classes]),
            Self::Given(shares) => check_given(shares, classes),
            Self::Gold => {
                let shares = statistic.gold_balance().ok_or(LabelModelError::ClassBalanceNoGold { class: 0 })?;
                match shares.iter().position(|share| *share <= 0.0) {
                    Some(class) => Err(LabelModelError::ClassBalanceNoGold { class }),
                    None => Ok(shares),
                }
            }
            Self::Estimate => Ok(Mixture::new(statistic.layout().shape, thirds).estimate()),
        }
    }
}

fn check_given(shares: &[f64], classes: usize) -> Result<Vec<f64>, LabelModelError> {
    if shares.len() != classes {
        return Err(LabelModelError::ClassBalanceLength { given: shares.len(), classes });
    }
    // A share that is no number is in no range.
    match shares.iter().position(|share| !(CHANCE_MIN..=1.0).contains(share)) {
        Some(class) => Err(LabelModelError::ClassBalanceRange { class, share: shares[class] }),
        None => Ok(shares.to_vec()),
    }
}

/// A combination of what the three groups say and how often it was seen.
struct Cell {
    said: [usize; THIRDS],
    rows: f64,
}

/// The latent class model of the table of thirds.
struct Mixture {
    classes: usize,
    cells: Vec<Cell>,
    /// The rows that each class has before any is seen.
    prior: Vec<f64>,
    shares: Vec<f64>,
    /// P(group g says a | class c) at `(g * (k+1) + a) * k + c`.
    table: Vec<f64>,
}

impl Mixture {
    fn new(shape: Shape, thirds: &[f64]) -> Self {
        let (classes, choices) = (shape.classes, shape.classes + 1);
        let cell = |(index, rows): (usize, &f64)| Cell {
            said: [index / choices / choices, index / choices % choices, index % choices],
            rows: *rows,
        };
        let cells = thirds.iter().enumerate().filter(|(_, rows)| **rows > 0.0).map(cell).collect();
        Self { classes, cells, prior: vec![1.0; classes], shares: vec![0.0; classes], table: vec![0.0; THIRDS * choices * classes] }
    }

    fn estimate(mut self) -> Vec<f64> {
        self.maximize(|mixture, cell, weights| mixture.majority_start(cell, weights));
        self.prior = self.majority();
        let steps = (WORK_MAX / (self.cells.len() * self.classes).max(1)).clamp(50, STEPS_MAX);
        for _ in 0..steps {
            let before = self.shares.clone();
            self.maximize(|mixture, cell, weights| mixture.posterior(cell, weights));
            let change = self.shares.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if change < SHARE_TOLERANCE {
                break;
            }
        }
        self.shares
    }

    /// Classes weigh as much as groups say them, and a little each.
    fn majority_start(&self, cell: &Cell, weights: &mut [f64]) {
        weights.fill(0.1 / self.classes as f64);
        for said in cell.said.iter().filter(|said| **said < self.classes) {
            weights[*said] += 1.0;
        }
    }

    /// How rows divide on which one class is said by more groups than any other, as the rows of the prior.
    fn majority(&self) -> Vec<f64> {
        let mut shares = vec![1.0; self.classes];
        for cell in &self.cells {
            let mut tally = vec![0; self.classes];
            cell.said.iter().filter(|said| **said < self.classes).for_each(|said| tally[*said] += 1);
            if let Some(share) = shares.get_mut(verdict(&tally)) {
                *share += cell.rows;
            }
        }
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| share / sum * PRIOR_ROWS).collect()
    }

    fn posterior(&self, cell: &Cell, weights: &mut [f64]) {
        weights.copy_from_slice(&self.shares);
        for (group, said) in cell.said.iter().enumerate() {
            let row = (group * (self.classes + 1) + said) * self.classes;
            for (weight, chance) in weights.iter_mut().zip(&self.table[row..row + self.classes]) {
                *weight *= chance;
            }
        }
    }

    /// Shares and table that make the cells most likely, given how each cell is divided among the classes.
    fn maximize(&mut self, divide: impl Fn(&Self, &Cell, &mut [f64])) {
        let (classes, choices) = (self.classes, self.classes + 1);
        let mut shares = self.prior.clone();
        let mut table = vec![1.0 / choices as f64; THIRDS * choices * classes];
        for group in 0..THIRDS {
            for class in 0..classes {
                table[(group * choices + class) * classes + class] += 1.0;
            }
        }
        let mut weights = vec![0.0; classes];
        for cell in &self.cells {
            divide(self, cell, &mut weights);
            let sum: f64 = weights.iter().sum();
            // Chances are bounded below by the prior, so three of them cannot make the sum 0.
            let scale = cell.rows / sum;
            for (class, weight) in weights.iter().enumerate() {
                shares[class] += weight * scale;
                for (group, said) in cell.said.iter().enumerate() {
                    table[(group * choices + said) * classes + class] += weight * scale;
                }
            }
        }
        for group in table.chunks_exact_mut(choices * classes) {
            for class in 0..classes {
                let sum: f64 = group.iter().skip(class).step_by(classes).sum();
                group.iter_mut().skip(class).step_by(classes).for_each(|chance| *chance /= sum);
            }
        }
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        (self.shares, self.table) = (shares, table);
    }
}
