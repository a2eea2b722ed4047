//! Counting whole columns, 64 rows at a time.
//!
//! Of each block of 64 rows one word per indicator (labeling function, class) is made, whose bit i says whether the function
//! votes the class on row i. Two indicators occur together as often as their words have common bits, so a block costs one `and`
//! and one count of bits for each pair instead of one addition for each pair and row. Blocks with few votes are counted row by
//! row, which is then cheaper.

use super::statistic::{CONFLICTED, COVERED, Layout, OVERLAPPED, ROWS, Statistic, THIRDS, verdict};
use super::votes::Votes;

const BLOCK_ROWS: usize = 64;

/// What one pair of words costs in terms of one pair of votes.
const WORD_COST: usize = 2;

/// Adds the rows of `votes`, whose labels are known to be in range, to `statistic`.
pub(super) fn count(statistic: &mut Statistic, votes: &Votes<'_>) {
    let mut block = Block::new(statistic.layout());
    for start in (0..votes.rows()).step_by(BLOCK_ROWS) {
        let rows = BLOCK_ROWS.min(votes.rows() - start);
        block.read(votes, start, rows);
        block.count_rows(statistic, rows);
        block.count_thirds(statistic, rows);
        block.count_pairs(statistic);
    }
}

struct Block {
    layout: Layout,
    /// One per indicator, and one more where abstentions go.
    words: Vec<u64>,
    /// For each row and third: abstentions, then the votes for each class.
    tallies: Vec<u16>,
    /// For each row its indicators, for blocks with few votes.
    sparse: Vec<Vec<usize>>,
}

impl Block {
    fn new(layout: Layout) -> Self {
        let shape = layout.shape;
        Self {
            layout,
            words: vec![0; shape.indicators() + 1],
            tallies: vec![0; BLOCK_ROWS * THIRDS * (shape.classes + 1)],
            sparse: vec![Vec::new(); BLOCK_ROWS],
        }
    }

    fn read(&mut self, votes: &Votes<'_>, start: usize, rows: usize) {
        let (indicators, classes) = (self.layout.shape.indicators(), self.layout.shape.classes);
        let stride = THIRDS * (classes + 1);
        self.words.fill(0);
        self.tallies.fill(0);
        for (lf, column) in votes.columns.iter().enumerate() {
            let (base, third) = (lf * classes, (lf % THIRDS) * (classes + 1));
            for ((row, vote), tallies) in column[start..start + rows].iter().enumerate().zip(self.tallies.chunks_exact_mut(stride)) {
                let word = if *vote < 0 { indicators } else { base + *vote as usize };
                self.words[word] |= 1 << row;
                tallies[third + (*vote + 1) as usize] += 1;
            }
        }
    }

    fn words(&self) -> &[u64] {
        &self.words[..self.layout.shape.indicators()]
    }

    fn count_rows(&self, statistic: &mut Statistic, rows: usize) {
        let (layout, classes) = (self.layout, self.layout.shape.classes);
        let (mut once, mut twice, mut conflict) = (0u64, 0u64, 0u64);
        for votes in self.words().chunks_exact(classes) {
            let any = votes.iter().fold(0, |any, word| any | word);
            twice |= once & any;
            once |= any;
        }
        let mut said = 0u64;
        for class in 0..classes {
            let any = self.words().iter().skip(class).step_by(classes).fold(0, |any, word| any | word);
            conflict |= said & any;
            said |= any;
        }
        let totals = statistic.section_mut(0..layout.votes().start);
        totals[ROWS] += rows as i64;
        totals[COVERED] += bits(once);
        totals[OVERLAPPED] += bits(twice);
        totals[CONFLICTED] += bits(conflict);
        for (count, word) in statistic.section_mut(layout.votes()).iter_mut().zip(self.words()) {
            *count += bits(*word);
        }
        let any = |lf: usize| self.words[lf * classes..(lf + 1) * classes].iter().fold(0, |any, word| any | word);
        for (lf, count) in statistic.section_mut(layout.overlaps()).iter_mut().enumerate() {
            *count += bits(any(lf) & twice);
        }
        for (lf, count) in statistic.section_mut(layout.conflicts()).iter_mut().enumerate() {
            *count += bits(any(lf) & conflict);
        }
    }

    fn count_thirds(&self, statistic: &mut Statistic, rows: usize) {
        let choices = self.layout.shape.classes + 1;
        let counts = statistic.section_mut(self.layout.thirds());
        for tallies in self.tallies.chunks_exact(THIRDS * choices).take(rows) {
            let index = tallies.chunks_exact(choices).fold(0, |index, third| index * choices + verdict(&third[1..]));
            counts[index] += 1;
        }
    }

    fn count_pairs(&mut self, statistic: &mut Statistic) {
        let indicators = self.layout.shape.indicators();
        let votes: usize = self.words().iter().map(|word| word.count_ones() as usize).sum();
        let used = self.words().iter().filter(|word| **word != 0).count();
        // With votes spread evenly a block has votes^2 / 128 pairs.
        if votes + votes * votes / (2 * BLOCK_ROWS) < WORD_COST * used * indicators / 2 {
            self.count_pairs_by_row(statistic);
        } else {
            self.count_pairs_by_word(statistic);
        }
    }

    fn count_pairs_by_word(&self, statistic: &mut Statistic) {
        let (layout, classes) = (self.layout, self.layout.shape.classes);
        let pairs = statistic.section_mut(layout.pairs());
        for (indicator, word) in self.words().iter().enumerate().filter(|(_, word)| **word != 0) {
            let (lf, class) = (indicator / classes, indicator % classes);
            let start = layout.pair_row_start(lf, class);
            let row = &mut pairs[start..start + layout.pair_row_length(lf)];
            for (count, other) in row.iter_mut().zip(&self.words()[(lf + 1) * classes..]) {
                *count += bits(word & other);
            }
        }
    }

    fn count_pairs_by_row(&mut self, statistic: &mut Statistic) {
        let words = &self.words[..self.layout.shape.indicators()];
        for (indicator, word) in words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                self.sparse[left.trailing_zeros() as usize].push(indicator);
                left &= left - 1;
            }
        }
        for row in &mut self.sparse {
            statistic.add_pairs(row.iter().copied(), 1);
            row.clear();
        }
    }
}

fn bits(word: u64) -> i64 {
    i64::from(word.count_ones())
}
