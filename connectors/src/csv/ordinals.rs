//! How often an equal row has been seen before in the file.

use desireline_records::EventId;
use hashbrown::{HashMap, HashTable};

/// Half of the row's identity stands for the row. It is a good hash already, so it is its own hash.
#[derive(Default)]
pub(super) struct Ordinals {
    seen: HashTable<u64>,
    /// Further sightings, of the few rows that have any.
    repeats: HashMap<u64, u32>,
}

impl Ordinals {
    /// 0 for the first row with this identity (that of ordinal 0), then 1, 2, …
    pub fn count(&mut self, id: EventId) -> u32 {
        let hash = id.0[1];
        match self.seen.entry(hash, |seen| *seen == hash, |seen| *seen) {
            hashbrown::hash_table::Entry::Vacant(slot) => {
                slot.insert(hash);
                0
            }
            hashbrown::hash_table::Entry::Occupied(_) => {
                let repeats = self.repeats.entry(hash).or_insert(0);
                *repeats = repeats.saturating_add(1);
                *repeats
            }
        }
    }
}
