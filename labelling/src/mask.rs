//! A set of rows of a batch, a bit each.

/// Rows of a batch: small enough that a handful of columns stays in the processor's cache, large enough that what is done once per batch
/// does not count.
pub const BATCH_ROWS: usize = 4096;
pub const WORDS: usize = BATCH_ROWS / 64;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    pub words: [u64; WORDS],
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.rows()).finish()
    }
}

impl Mask {
    pub const EMPTY: Self = Self { words: [0; WORDS] };

    /// Rows 0 to `rows`, at most [`BATCH_ROWS`].
    pub fn first(rows: usize) -> Self {
        let mut mask = Self::EMPTY;
        for (index, word) in mask.words.iter_mut().enumerate() {
            let left = rows.saturating_sub(index * 64);
            *word = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        }
        mask
    }

    /// `bit` of each row below `rows`.
    #[inline(always)]
    pub fn collect(rows: usize, bit: impl Fn(usize) -> bool) -> Self {
        let mut mask = Self::EMPTY;
        for (index, word) in mask.words.iter_mut().enumerate().take(rows.div_ceil(64)) {
            let start = index * 64;
            let end = rows.min(start + 64);
            let mut bits = 0;
            for row in start..end {
                bits |= u64::from(bit(row)) << (row - start);
            }
            *word = bits;
        }
        mask
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub fn has(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    pub fn insert(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |left, right| left & !right)
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let mut mask = Self::EMPTY;
        for ((out, left), right) in mask.words.iter_mut().zip(&self.words).zip(&other.words) {
            *out = combine(*left, *right);
        }
        mask
    }

    /// In ascending order.
    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_rows() {
        for rows in [0, 1, 63, 64, 65, 4095, BATCH_ROWS] {
            let mask = Mask::first(rows);
            assert_eq!(mask.count(), rows as u64);
            assert_eq!(mask, Mask::collect(rows, |_| true));
            assert_eq!(mask.rows().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
        }
        let even = Mask::collect(100, |row| row % 2 == 0);
        assert_eq!(even.without(&Mask::first(10)).rows().next(), Some(10));
        assert!(even.has(98) && !even.has(99) && !even.has(100));
    }
}
