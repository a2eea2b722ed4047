//! What an event was, shared: each distinct (page, event type, movement) is stored once, with a count of its users.
//!
//! An open event then needs four bytes for its page and type, and memory stays flat on an endless stream of new pages.

use desireline_records::Movement;
use ecow::EcoString;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub page: EcoString,
    pub event_type: EcoString,
    pub movement: Movement,
}

#[derive(Default)]
pub struct Kinds {
    entries: Vec<(Kind, u32)>,
    table: HashTable<u32>,
    free: Vec<u32>,
    /// Kinds whose count fell to zero; they are dropped in `sweep`, so that a number stays valid within one batch.
    unused: Vec<u32>,
    hasher: hashbrown::DefaultHashBuilder,
}

impl Kinds {
    pub fn get(&self, number: u32) -> &Kind {
        &self.entries[number as usize].0
    }

    pub fn movement(&self, number: u32) -> Movement {
        self.entries[number as usize].0.movement
    }

    /// How many distinct kinds are in use.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// The number of a kind, counted once more.
    pub fn acquire(&mut self, page: &EcoString, event_type: &EcoString, movement: Movement) -> u32 {
        let hash = hash_of(&self.hasher, page, event_type, movement);
        let entries = &self.entries;
        let found = self.table.find(hash, |n| {
            let kind = &entries[*n as usize].0;
            kind.event_type == *event_type && kind.movement == movement && kind.page == *page
        });
        if let Some(number) = found {
            let number = *number;
            self.entries[number as usize].1 += 1;
            return number;
        }
        let kind = Kind { page: page.clone(), event_type: event_type.clone(), movement };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = (kind, 1);
                number
            }
            None => {
                self.entries.push((kind, 1));
                (self.entries.len() - 1) as u32
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.table.insert_unique(hash, number, |n| {
            let kind = &entries[*n as usize].0;
            hash_of(hasher, &kind.page, &kind.event_type, kind.movement)
        });
        number
    }

    /// Counts a kind once less.
    pub fn release(&mut self, number: u32) {
        let count = &mut self.entries[number as usize].1;
        *count -= 1;
        if *count == 0 {
            self.unused.push(number);
        }
    }

    /// Drops the kinds that nobody uses any more. Called between batches.
    pub fn sweep(&mut self) {
        self.unused.sort_unstable();
        self.unused.dedup();
        while let Some(number) = self.unused.pop() {
            let (kind, count) = &self.entries[number as usize];
            if *count > 0 {
                continue;
            }
            let hash = hash_of(&self.hasher, &kind.page, &kind.event_type, kind.movement);
            if let Ok(entry) = self.table.find_entry(hash, |n| *n == number) {
                entry.remove();
            }
            self.entries[number as usize].0 = Kind::default();
            self.free.push(number);
        }
    }
}

fn hash_of(hasher: &hashbrown::DefaultHashBuilder, page: &str, event_type: &str, movement: Movement) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(page.as_bytes());
    state.write_u8(0xff);
    state.write(event_type.as_bytes());
    state.write_u8(movement as u8);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_lives_as_long_as_its_users() {
        let mut kinds = Kinds::default();
        let a = kinds.acquire(&"/a".into(), &"view".into(), Movement::View);
        let b = kinds.acquire(&"/b".into(), &"view".into(), Movement::View);
        assert_eq!(kinds.acquire(&"/a".into(), &"view".into(), Movement::View), a);
        assert_ne!(a, b);
        kinds.release(a);
        kinds.sweep();
        assert_eq!(kinds.count(), 2);
        kinds.release(a);
        assert_eq!(kinds.get(a).page, "/a", "a number stays valid until the sweep");
        kinds.sweep();
        assert_eq!(kinds.count(), 1);
        assert_eq!(kinds.acquire(&"/c".into(), &"view".into(), Movement::View), a, "numbers are used again");
        assert_eq!(kinds.get(b).page, "/b");
    }
}
