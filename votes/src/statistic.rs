//! The sufficient statistic: what a fit and a summary need of a label matrix, as integers.
//!
//! # What it promises
//! * **Exact.** Counts only; a row is added or taken away by adding or subtracting the same numbers, so neither order nor
//!   batching nor which part of a divided table a row was in can be seen afterwards. Sums are modulo 2^64, so that this holds
//!   even when they overflow.
//! * **Small.** `8 * (k^2 m (m-1) / 2 + (k+1)^3 + (k + 4) m + k + 4)` bytes for m labeling functions and k classes, whatever the
//!   number of rows: 4.4 kB for 10 and 3.
//! * **Cheap.** A row with v votes touches v(v-1)/2 pair counts; whole columns are counted 64 rows at a time (`bulk.rs`).
//!
//! # What it holds
//! * the number of rows, also of those on which all abstain;
//! * C = L'L over the indicators (labeling function, class): how often each votes and how often two vote together;
//! * for the summary: rows that a labeling function votes on together with another one, and those of them in dispute; rows with
//!   a vote, with two, with two that differ;
//! * the table of thirds: the labeling functions with index 0, 1 and 2 modulo 3 are three groups, each of which says the class
//!   that most of its votes are for, or nothing. How often each of the `(k+1)^3` combinations occurs is what the class balance
//!   can be estimated from (`balance.rs`), which pairs alone do not determine;
//! * of rows with a gold label: which labeling functions were right.

use super::bulk;
use super::votes::{Shape, Votes};
use super::{ABSTAIN, LabelModelError};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The groups of labeling functions that the class balance is estimated from.
pub const THIRDS: usize = 3;

pub const ROWS: usize = 0;
pub const COVERED: usize = 1;
pub const OVERLAPPED: usize = 2;
pub const CONFLICTED: usize = 3;
const TOTALS: usize = 4;

/// Where in the counts what stands. All offsets follow from the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub shape: Shape,
}

impl Layout {
    /// How often labeling function j votes y: index `j * k + y`.
    pub fn votes(self) -> Range<usize> {
        TOTALS..TOTALS + self.shape.indicators()
    }

    pub fn overlaps(self) -> Range<usize> {
        let start = self.votes().end;
        start..start + self.shape.lfs
    }

    pub fn conflicts(self) -> Range<usize> {
        let start = self.overlaps().end;
        start..start + self.shape.lfs
    }

    /// The upper half of C without the blocks on its diagonal, row by row.
    pub fn pairs(self) -> Range<usize> {
        let start = self.conflicts().end;
        start..start + self.pair_row_start(self.shape.lfs, 0)
    }

    /// Combination (a, b, c) of what the three groups say, each `0..=k` with k for nothing: index `(a * (k+1) + b) * (k+1) + c`.
    pub fn thirds(self) -> Range<usize> {
        let start = self.pairs().end;
        start..start + (self.shape.classes + 1).pow(THIRDS as u32)
    }

    pub fn correct(self) -> Range<usize> {
        let start = self.thirds().end;
        start..start + self.shape.lfs
    }

    pub fn incorrect(self) -> Range<usize> {
        let start = self.correct().end;
        start..start + self.shape.lfs
    }

    /// Rows with each gold label.
    pub fn gold(self) -> Range<usize> {
        let start = self.incorrect().end;
        start..start + self.shape.classes
    }

    /// Where in the pairs the row of (lf, class) begins: its counts with the indicators of `lf + 1` and all later ones.
    pub fn pair_row_start(self, lf: usize, class: usize) -> usize {
        let Shape { lfs, classes } = self.shape;
        // Above it stand the rows of all labeling functions before, each as long as there are functions after that one.
        let before = (lf * (2 * lfs).saturating_sub(lf + 1)) / 2;
        classes * classes * before + class * self.pair_row_length(lf)
    }

    /// How many indicators come after those of `lf`.
    pub fn pair_row_length(self, lf: usize) -> usize {
        (self.shape.lfs.saturating_sub(lf + 1)) * self.shape.classes
    }

    fn length(self) -> usize {
        self.gold().end
    }
}

/// The statistic of a label matrix, or of the difference of two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Statistic {
    layout: Layout,
    counts: Vec<i64>,
}

/// How a statistic is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    lfs: usize,
    classes: usize,
    counts: Vec<i64>,
}

impl From<Statistic> for Stored {
    fn from(statistic: Statistic) -> Self {
        Self { lfs: statistic.lfs(), classes: statistic.classes(), counts: statistic.counts }
    }
}

impl TryFrom<Stored> for Statistic {
    type Error = LabelModelError;

    fn try_from(stored: Stored) -> Result<Self, LabelModelError> {
        let layout = Layout { shape: Shape::new(stored.lfs, stored.classes)? };
        if stored.counts.len() != layout.length() {
            return Err(LabelModelError::Damaged("a statistic has another number of counts than its shape asks for"));
        }
        Ok(Self { layout, counts: stored.counts })
    }
}

impl Statistic {
    /// The statistic of no rows. Any number of labeling functions can be counted; a fit wants at least three.
    ///
    /// Errors: [`LabelModelError::TooLarge`] above [`CLASSES_MAX`](super::CLASSES_MAX) or [`INDICATORS_MAX`](super::INDICATORS_MAX), `BadSetting` without
    /// functions or classes.
    pub fn new(lfs: usize, classes: usize) -> Result<Self, LabelModelError> {
        let layout = Layout { shape: Shape::new(lfs, classes)? };
        Ok(Self { layout, counts: vec![0; layout.length()] })
    }

    /// The statistic of a whole matrix. Errors: as [`Statistic::new`] and [`Statistic::add_all`].
    pub fn of(votes: &Votes<'_>, classes: usize) -> Result<Self, LabelModelError> {
        let mut statistic = Self::new(votes.lfs(), classes)?;
        statistic.layout.shape.check(votes)?;
        bulk::count(&mut statistic, votes);
        Ok(statistic)
    }

    /// Adds one row of m votes `diff` times; -1 takes it away.
    ///
    /// Errors, and then nothing is counted: [`LabelModelError::WrongWidth`], [`LabelModelError::LabelOutOfRange`].
    pub fn add(&mut self, row: &[i8], diff: i64) -> Result<(), LabelModelError> {
        let Shape { classes, .. } = self.layout.shape;
        self.layout.shape.check_row(row)?;
        let voting: Vec<(usize, usize)> =
            row.iter().enumerate().filter(|(_, vote)| **vote != ABSTAIN).map(|(lf, vote)| (lf, *vote as usize)).collect();
        let mut tallies = vec![0u16; THIRDS * classes];
        for (lf, class) in &voting {
            tallies[(lf % THIRDS) * classes + class] += 1;
        }
        let thirds = tallies.chunks_exact(classes).map(verdict).fold(0, |index, said| index * (classes + 1) + said);
        self.bump(self.layout.thirds().start + thirds, diff);
        self.bump(ROWS, diff);
        self.add_row_facts(&voting, diff);
        self.add_pairs(voting.iter().map(|(lf, class)| lf * classes + class), diff);
        Ok(())
    }

    fn add_row_facts(&mut self, voting: &[(usize, usize)], diff: i64) {
        let Some((_, first)) = voting.first() else { return };
        let overlap = voting.len() > 1;
        let conflict = voting.iter().any(|(_, class)| class != first);
        self.bump(COVERED, diff);
        self.bump(OVERLAPPED, if overlap { diff } else { 0 });
        self.bump(CONFLICTED, if conflict { diff } else { 0 });
        for (lf, class) in voting {
            self.bump(self.layout.votes().start + lf * self.classes() + class, diff);
            self.bump(self.layout.overlaps().start + lf, if overlap { diff } else { 0 });
            self.bump(self.layout.conflicts().start + lf, if conflict { diff } else { 0 });
        }
    }

    /// Counts the pairs among indicators given in ascending order, at most one for each labeling function.
    pub fn add_pairs(&mut self, indicators: impl Iterator<Item = usize> + Clone, diff: i64) {
        let (layout, classes) = (self.layout, self.layout.shape.classes);
        let pairs = &mut self.counts[layout.pairs()];
        let mut later = indicators;
        while let Some(one) = later.next() {
            let (lf, class) = (one / classes, one % classes);
            let start = layout.pair_row_start(lf, class);
            let row = &mut pairs[start..start + layout.pair_row_length(lf)];
            for other in later.clone() {
                let count = &mut row[other - (lf + 1) * classes];
                *count = count.wrapping_add(diff);
            }
        }
    }

    /// Adds the rows of a matrix `diff` times, from columns: about four times as fast as row by row.
    ///
    /// Errors, and then nothing is counted: [`LabelModelError::WrongWidth`], [`LabelModelError::LabelOutOfRange`].
    pub fn add_all(&mut self, votes: &Votes<'_>, diff: i64) -> Result<(), LabelModelError> {
        self.layout.shape.check(votes)?;
        self.merge(&Self::of(votes, self.classes())?, diff)
    }

    /// Notes `diff` times that the truth about a row is the class `gold`. The row itself is counted by [`Statistic::add`], which
    /// may come before or after.
    ///
    /// Errors, and then nothing is counted: [`LabelModelError::WrongWidth`], [`LabelModelError::LabelOutOfRange`] (of `gold`
    /// too, then with the position after the last labeling function).
    pub fn grade(&mut self, row: &[i8], gold: i8, diff: i64) -> Result<(), LabelModelError> {
        let Shape { lfs, classes } = self.layout.shape;
        self.layout.shape.check_row(row)?;
        if gold < 0 || gold as usize >= classes {
            return Err(LabelModelError::LabelOutOfRange { row: 0, lf: lfs, label: gold.into(), classes });
        }
        self.bump(self.layout.gold().start + gold as usize, diff);
        for (lf, vote) in row.iter().enumerate().filter(|(_, vote)| **vote != ABSTAIN) {
            let counted = if *vote == gold { self.layout.correct() } else { self.layout.incorrect() };
            self.bump(counted.start + lf, diff);
        }
        Ok(())
    }

    /// Adds another statistic `diff` times: 1 merges the parts of a divided table, -1 takes a part away.
    ///
    /// Errors: [`LabelModelError::OtherShape`].
    pub fn merge(&mut self, other: &Self, diff: i64) -> Result<(), LabelModelError> {
        if self.layout != other.layout {
            return Err(LabelModelError::OtherShape { this: self.layout.shape.to_string(), other: other.layout.shape.to_string() });
        }
        for (to, from) in self.counts.iter_mut().zip(&other.counts) {
            *to = to.wrapping_add(from.wrapping_mul(diff));
        }
        Ok(())
    }

    /// Whether everything that was added was taken away again.
    pub fn is_zero(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The number of labeling functions, m.
    pub fn lfs(&self) -> usize {
        self.layout.shape.lfs
    }

    /// The number of classes, k.
    pub fn classes(&self) -> usize {
        self.layout.shape.classes
    }

    /// The number of rows, n; below 0 in a difference that takes away.
    pub fn rows(&self) -> i64 {
        self.counts[ROWS]
    }

    /// How often labeling function `lf` votes `class`.
    ///
    /// # Panics
    /// When there is no such labeling function or class.
    pub fn votes(&self, lf: usize, class: usize) -> i64 {
        assert!(lf < self.lfs() && class < self.classes(), "no labeling function {lf} or no class {class}");
        self.section(self.layout.votes())[lf * self.classes() + class]
    }

    /// On how many rows two labeling functions vote two given classes; 0 for two classes of one function.
    ///
    /// # Panics
    /// When there is no such labeling function or class.
    pub fn pair(&self, one: (usize, usize), other: (usize, usize)) -> i64 {
        if one.0 == other.0 {
            let votes = self.votes(one.0, one.1);
            return if one.1 == other.1 { votes } else { 0 };
        }
        let (first, second) = if one.0 < other.0 { (one, other) } else { (other, one) };
        let classes = self.classes();
        assert!(second.0 < self.lfs() && first.1 < classes && second.1 < classes, "no such labeling function or class");
        let at = self.layout.pair_row_start(first.0, first.1) + (second.0 - first.0 - 1) * classes + second.1;
        self.section(self.layout.pairs())[at]
    }

    /// How the gold labels are divided among the classes, k shares that sum to 1; nothing without gold labels.
    pub fn gold_balance(&self) -> Option<Vec<f64>> {
        let gold = self.section(self.layout.gold());
        let sum: i64 = gold.iter().sum();
        (sum > 0).then(|| gold.iter().map(|count| *count as f64 / sum as f64).collect())
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn section(&self, range: Range<usize>) -> &[i64] {
        &self.counts[range]
    }

    pub fn section_mut(&mut self, range: Range<usize>) -> &mut [i64] {
        &mut self.counts[range]
    }

    /// Refuses what no label matrix can have led to: counts below 0, more votes of a function than rows, more pairs than rows.
    pub fn check_counts(&self) -> Result<(), LabelModelError> {
        if self.counts.iter().any(|count| *count < 0) {
            return Err(LabelModelError::NegativeCounts);
        }
        let covered = |votes: &[i64]| votes.iter().try_fold(0i64, |sum, votes| sum.checked_add(*votes));
        let mut functions = self.section(self.layout.votes()).chunks_exact(self.classes());
        let votes_fit = functions.all(|votes| covered(votes).is_some_and(|covered| covered <= self.rows()));
        if votes_fit && self.section(self.layout.pairs()).iter().all(|count| *count <= self.rows()) {
            Ok(())
        } else {
            Err(LabelModelError::Damaged("a statistic counts more votes than it has rows"))
        }
    }

    fn bump(&mut self, index: usize, diff: i64) {
        self.counts[index] = self.counts[index].wrapping_add(diff);
    }
}

/// The class with the most votes, or the number of classes when no single one has.
pub fn verdict(tally: &[u16]) -> usize {
    let (mut best, mut most, mut tied) = (tally.len(), 0, false);
    for (class, votes) in tally.iter().enumerate() {
        if *votes > most {
            (best, most, tied) = (class, *votes, false);
        } else if *votes == most {
            tied = true;
        }
    }
    if tied || most == 0 { tally.len() } else { best }
}
