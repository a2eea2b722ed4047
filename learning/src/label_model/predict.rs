//! Probabilities and classes of rows.

use super::model::LabelModel;
use super::{ABSTAIN, LabelModelError};
use desireline_votes::{Shape, Votes};

/// Classes whose probability is less than this below the largest are tied with it.
pub const TIE_WINDOW: f64 = 1e-5;

/// Rows that are worked on together: their sums stay in the processor's cache while column after column is added.
const BLOCK_ROWS: usize = 256;

/// What to say of a row whose best classes are tied.
#[derive(Clone, Copy)]
pub enum TieBreak<'a> {
    /// Nothing: [`ABSTAIN`].
    Abstain,
    /// The function is given the row's position and how many classes are tied, at least 2, and answers which of them to say, counted
    /// from 0 in ascending order of classes; modulo their number. Snorkel's "random" is the SHA-1 of the decimal position.
    Pick(&'a dyn Fn(u64, usize) -> usize),
}

/// A model made ready for predicting: the logarithms of its table.
#[derive(Clone, Debug)]
pub struct Predictor {
    shape: Shape,
    /// The logarithm of the class balance.
    start: Vec<f64>,
    /// For each labeling function `k + 1` rows of k: zeros for abstention, then the logarithms for each vote.
    table: Vec<f64>,
}

impl LabelModel {
    /// Computes the logarithms that predictions need: `m k^2` of them.
    pub fn predictor(&self) -> Predictor {
        let classes = self.classes();
        let mut table = Vec::with_capacity(self.lfs() * (classes + 1) * classes);
        for votes in self.table().chunks_exact(classes * classes) {
            table.extend(std::iter::repeat_n(0.0, classes));
            table.extend(votes.iter().map(|chance| f64::from(chance.ln())));
        }
        Predictor { shape: self.shape(), start: self.balance().iter().map(|share| share.ln()).collect(), table }
    }
}

impl Predictor {
    /// The probabilities of the k classes given one row of m votes; they sum to 1. Abstentions say nothing: a row of them has the
    /// class balance.
    ///
    /// Errors: [`LabelModelError::WrongWidth`], [`LabelModelError::LabelOutOfRange`].
    pub fn predict_proba(&self, row: &[i8]) -> Result<Vec<f64>, LabelModelError> {
        self.shape.check_row(row)?;
        let mut sums = self.start.clone();
        for (lf, vote) in row.iter().enumerate() {
            add(&mut sums, self.logarithms(lf, *vote));
        }
        softmax(&mut sums);
        Ok(sums)
    }

    /// The same for every row of a matrix, to the same bits: row-major, n rows of k.
    ///
    /// Errors: [`LabelModelError::WrongWidth`], [`LabelModelError::LabelOutOfRange`].
    pub fn predict_proba_all(&self, votes: &Votes<'_>) -> Result<Vec<f64>, LabelModelError> {
        self.shape.check(votes)?;
        let classes = self.shape.classes;
        let mut sums = vec![0.0; votes.rows() * classes];
        for (block, rows) in sums.chunks_mut(BLOCK_ROWS * classes).enumerate() {
            for row in rows.chunks_exact_mut(classes) {
                row.copy_from_slice(&self.start);
            }
            let first = block * BLOCK_ROWS;
            for (lf, column) in votes.columns.iter().enumerate() {
                for (row, vote) in rows.chunks_exact_mut(classes).zip(&column[first..]) {
                    add(row, self.logarithms(lf, *vote));
                }
            }
            rows.chunks_exact_mut(classes).for_each(softmax);
        }
        Ok(sums)
    }

    /// The most likely class of one row, which is at position `index` of whatever it is part of.
    ///
    /// Errors: as [`Predictor::predict_proba`].
    pub fn predict(&self, row: &[i8], index: u64, ties: TieBreak<'_>) -> Result<i8, LabelModelError> {
        Ok(ties.decide(&self.predict_proba(row)?, index))
    }

    /// The most likely class of every row of a matrix.
    ///
    /// Errors: as [`Predictor::predict_proba_all`].
    pub fn predict_all(&self, votes: &Votes<'_>, ties: TieBreak<'_>) -> Result<Vec<i8>, LabelModelError> {
        Ok(ties.decide_all(&self.predict_proba_all(votes)?, self.shape.classes))
    }

    fn logarithms(&self, lf: usize, vote: i8) -> &[f64] {
        let classes = self.shape.classes;
        // Votes are at least -1 once they are checked.
        let at = (lf * (classes + 1) + (i32::from(vote) + 1) as usize) * classes;
        &self.table[at..at + classes]
    }
}

impl TieBreak<'_> {
    /// The class with the largest of `probabilities`, of the row at position `index`.
    pub fn decide(self, probabilities: &[f64], index: u64) -> i8 {
        let most = probabilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut tied = (0i8..).zip(probabilities).filter(|(_, p)| most - **p < TIE_WINDOW).map(|(class, _)| class);
        let count = tied.clone().count();
        match self {
            _ if count == 1 => tied.next().unwrap_or(ABSTAIN),
            Self::Pick(pick) if count > 1 => tied.nth(pick(index, count) % count).unwrap_or(ABSTAIN),
            _ => ABSTAIN,
        }
    }

    /// The same for rows of `classes` probabilities each, at the positions from 0.
    pub fn decide_all(self, probabilities: &[f64], classes: usize) -> Vec<i8> {
        (0..).zip(probabilities.chunks_exact(classes.max(1))).map(|(index, row)| self.decide(row, index)).collect()
    }
}

/// How predictions compare with the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Rows whose prediction is right.
    pub correct: u64,
    /// Rows with a prediction.
    pub decided: u64,
    /// Rows without one.
    pub abstained: u64,
}

impl Score {
    /// The share of predictions that are right, of those that were made: Snorkel's accuracy. Nothing when none was.
    pub fn accuracy(&self) -> Option<f64> {
        (self.decided > 0).then(|| self.correct as f64 / self.decided as f64)
    }
}

/// Compares predictions with gold labels, row by row. Rows whose gold label is [`ABSTAIN`] are left out.
///
/// Errors: [`LabelModelError::WrongWidth`] when there are not as many of the one as of the other.
pub fn score(predictions: &[i8], gold: &[i8]) -> Result<Score, LabelModelError> {
    if predictions.len() != gold.len() {
        return Err(LabelModelError::WrongWidth { given: predictions.len(), expected: gold.len() });
    }
    let mut score = Score::default();
    for (said, truth) in predictions.iter().zip(gold).filter(|(_, truth)| **truth != ABSTAIN) {
        score.decided += u64::from(*said != ABSTAIN);
        score.abstained += u64::from(*said == ABSTAIN);
        score.correct += u64::from(said == truth);
    }
    Ok(score)
}

fn add(sums: &mut [f64], logarithms: &[f64]) {
    for (sum, logarithm) in sums.iter_mut().zip(logarithms) {
        *sum += logarithm;
    }
}

/// Turns logarithms into probabilities. The largest is taken away first, so that any number of votes can be added up.
fn softmax(row: &mut [f64]) {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}
