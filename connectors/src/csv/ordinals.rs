//! How often an equal row has been seen before in the file.
//!
//! A table of 64-bit hashes with open addressing, 8 bytes a slot and between 3/8 and 3/4 full. The slot comes from the upper
//! bits of the hash, so that doubling the table walks both the old and the new one in order. Rows are counted in blocks:
//! the slots of a whole block are touched before the first is looked at, so that the waits for memory, which are the
//! price of a large table, overlap.

use desireline_records::EventId;
use hashbrown::HashMap;
use std::hint::black_box;

/// Rows that are counted together.
pub(super) const BLOCK: usize = 32;

/// Half of a row's identity stands for the row. It is a good hash already, so it is its own hash.
pub(super) struct Ordinals {
    /// 0 marks a free slot. Its length is a power of two.
    slots: Vec<u64>,
    used: usize,
    /// Further sightings, of the few rows that have any.
    repeats: HashMap<u64, u32>,
}

impl Default for Ordinals {
    fn default() -> Self {
        Self { slots: vec![0; 1 << 12], used: 0, repeats: HashMap::new() }
    }
}

impl Ordinals {
    /// For each row, by its identity of ordinal 0: 0 when it is the first of its kind, then 1, 2, … At most [`BLOCK`] rows at once.
    pub fn count(&mut self, ids: &[EventId]) -> [u32; BLOCK] {
        if (self.used + ids.len()) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let mut touched = 0;
        for id in ids {
            touched ^= self.slots[self.home(key(*id))];
        }
        black_box(touched);
        let mut ordinals = [0; BLOCK];
        for (ordinal, id) in ordinals.iter_mut().zip(ids) {
            *ordinal = self.count_one(key(*id));
        }
        ordinals
    }

    fn home(&self, key: u64) -> usize {
        (key >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn count_one(&mut self, key: u64) -> u32 {
        let mut at = self.home(key);
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = key;
                    self.used += 1;
                    return 0;
                }
                seen if seen == key => {
                    let repeats = self.repeats.entry(key).or_insert(0);
                    *repeats = repeats.saturating_add(1);
                    return *repeats;
                }
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    fn grow(&mut self) {
        let slots = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, slots);
        for key in old.into_iter().filter(|key| *key != 0) {
            let mut at = self.home(key);
            while self.slots[at] != 0 {
                at = (at + 1) & (self.slots.len() - 1);
            }
            self.slots[at] = key;
        }
    }
}

fn key(id: EventId) -> u64 {
    id.0[1].max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn counts_like_a_map(rows in proptest::collection::vec(prop_oneof![0u64..40, any::<u64>()], 0..10_000), block in 1usize..=BLOCK) {
            let mut ordinals = Ordinals::default();
            let mut seen: HashMap<u64, u32> = HashMap::new();
            for rows in rows.chunks(block) {
                let ids: Vec<_> = rows.iter().map(|row| EventId([0, row.max(&1).rotate_left(7)])).collect();
                let counted = ordinals.count(&ids);
                for (row, ordinal) in rows.iter().zip(counted) {
                    let expected = seen.entry(*row.max(&1)).and_modify(|n| *n += 1).or_insert(0);
                    prop_assert_eq!(ordinal, *expected);
                }
            }
        }
    }
}
