//! What can be said of labeling functions before any fit.

use super::statistic::{CONFLICTED, COVERED, OVERLAPPED, Statistic};
use serde::Serialize;

/// One labeling function. Shares are of all rows, as Snorkel's are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LfSummary {
    /// The classes that it votes for, ascending.
    pub polarity: Vec<u8>,
    /// The share of rows that it votes on.
    pub coverage: f64,
    /// The share of rows that it and at least one other function vote on.
    pub overlaps: f64,
    /// The share of rows that it votes on and whose votes are not all the same.
    pub conflicts: f64,
    /// `overlaps / coverage`; 0 without coverage.
    pub overlaps_normalized: f64,
    /// `conflicts / overlaps`; 0 without overlaps.
    pub conflicts_normalized: f64,
    /// Votes on graded rows that are the gold label.
    pub correct: i64,
    /// Votes on graded rows that are not.
    pub incorrect: i64,
    /// `correct / (correct + incorrect)`; nothing without a graded vote, where Snorkel reports 0.
    pub accuracy: Option<f64>,
}

/// All labeling functions, and the rows as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The number of rows.
    pub rows: i64,
    /// One per labeling function.
    pub lfs: Vec<LfSummary>,
    /// The share of rows with a vote.
    pub label_coverage: f64,
    /// The share of rows with more than one vote.
    pub label_overlap: f64,
    /// The share of rows with different votes.
    pub label_conflict: f64,
}

impl Statistic {
    /// Coverage, overlaps, conflicts and, of graded rows, accuracy. Without rows every share is 0.
    pub fn summary(&self) -> Summary {
        let (layout, rows) = (self.layout(), self.rows());
        let total = |index: usize| share(self.section(index..index + 1)[0], rows);
        let lfs = (0..self.lfs()).map(|lf| {
            let one = |section: std::ops::Range<usize>| self.section(section)[lf];
            let votes = &self.section(layout.votes())[lf * self.classes()..(lf + 1) * self.classes()];
            let covered: i64 = votes.iter().sum();
            let (overlaps, conflicts) = (one(layout.overlaps()), one(layout.conflicts()));
            let (correct, incorrect) = (one(layout.correct()), one(layout.incorrect()));
            let graded = correct + incorrect;
            LfSummary {
                polarity: (0u8..).zip(votes).filter(|(_, votes)| **votes > 0).map(|(class, _)| class).collect(),
                coverage: share(covered, rows),
                overlaps: share(overlaps, rows),
                conflicts: share(conflicts, rows),
                overlaps_normalized: share(overlaps, covered),
                conflicts_normalized: share(conflicts, overlaps),
                correct,
                incorrect,
                accuracy: (graded > 0).then(|| share(correct, graded)),
            }
        });
        Summary {
            rows,
            lfs: lfs.collect(),
            label_coverage: total(COVERED),
            label_overlap: total(OVERLAPPED),
            label_conflict: total(CONFLICTED),
        }
    }
}

fn share(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
