//! What has changed in the log since chunks were counted: which spaces, on which days.

use desireline_dataflows::changes::{Change, ViewRow};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::DAY;
use desireline_records::{Micros, SpaceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Days of one space that are told apart; more are all days.
const DAYS_MAX: usize = 4_096;
/// Spaces that are told apart; more are everything.
const SPACES_MAX: usize = 200_000;

/// The days of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Days {
    /// By their begins.
    Some(BTreeSet<Micros>),
    All,
}

impl Days {
    /// Whether some of them lie in a window.
    pub fn touch(&self, start: Micros, end: Micros) -> bool {
        match self {
            Self::Some(days) => days.range(start..end).next().is_some(),
            Self::All => true,
        }
    }
}

/// What is to be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Nobody knows what has changed.
    pub everything: bool,
    /// Spaces whose own numbers, or whose children, have changed.
    pub spaces: BTreeMap<SpaceId, Days>,
    /// Spaces have come, gone or moved.
    pub tree: bool,
}

impl Dirty {
    pub fn everything() -> Self {
        Self { everything: true, tree: true, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        !self.everything && !self.tree && self.spaces.is_empty()
    }

    pub fn add(&mut self, space: SpaceId, day: Micros) {
        if self.spaces.len() >= SPACES_MAX && !self.spaces.contains_key(&space) {
            self.everything = true;
            return;
        }
        if let Days::Some(days) = self.spaces.entry(space).or_insert_with(|| Days::Some(BTreeSet::new())) {
            days.insert(day.div_euclid(DAY) * DAY);
            if days.len() > DAYS_MAX {
                self.spaces.insert(space, Days::All);
            }
        }
    }

    pub fn add_all_days(&mut self, space: SpaceId) {
        self.spaces.insert(space, Days::All);
        self.everything |= self.spaces.len() > SPACES_MAX;
    }

    pub fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.tree |= other.tree;
        for (space, days) in other.spaces {
            match days {
                Days::All => self.add_all_days(space),
                Days::Some(days) => days.into_iter().for_each(|day| self.add(space, day)),
            }
        }
    }

    /// Notes what a change says. `tree` is the tree before it, and afterwards the one behind it.
    pub fn note(&mut self, change: &Change, tree: &mut Tree) {
        match &change.row {
            ViewRow::Cell { key, .. } | ViewRow::CellShift { key, .. } => self.add(key.space, key.time),
            ViewRow::Space(space) => {
                self.tree = true;
                let id = space.space_id;
                let above = |tree: &Tree| tree.get(id).and_then(|space| space.parent_space_id);
                let before = above(tree);
                match change.diff > 0 {
                    true => drop(tree.put((**space).clone())),
                    false if tree.get(id) == Some(&**space) => drop(tree.remove(id)),
                    false => {}
                }
                for parent in [before, above(tree), Some(id)].into_iter().flatten() {
                    self.add_all_days(parent);
                }
            }
            _ => {}
        }
    }

    /// The spaces whose sums may be others, with those above the ones that have changed; each with its days.
    pub fn paths(&self, tree: &Tree) -> BTreeMap<SpaceId, Vec<Arc<Days>>> {
        let mut touched: BTreeMap<SpaceId, Vec<Arc<Days>>> = BTreeMap::new();
        for (space, days) in &self.spaces {
            let days = Arc::new(days.clone());
            for id in std::iter::once(*space).chain(tree.ancestors(*space)) {
                touched.entry(id).or_default().push(Arc::clone(&days));
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{campus, space};
    use super::*;
    use desireline_records::{Cell, CellKey, Measure, Space};

    fn tree() -> Tree {
        let mut tree = Tree::default();
        campus().into_iter().for_each(|space| drop(tree.put(space)));
        tree
    }

    fn cell(space: SpaceId, time: Micros) -> Change {
        let key = CellKey { space, measure: Measure::Devices(900), time, other: 0 };
        Change { row: ViewRow::Cell { key, cell: Cell::default() }, time: 1, diff: 1 }
    }

    fn moved(space: Space, diff: i64) -> Change {
        Change { row: ViewRow::Space(Arc::new(space)), time: 1, diff }
    }

    #[test]
    fn a_change_touches_everything_above_it_on_its_day() {
        let mut dirty = Dirty::default();
        assert!(dirty.is_empty());
        dirty.note(&cell(1000, 3 * DAY + 5), &mut tree());
        dirty.note(&cell(101, 5 * DAY), &mut tree());
        let paths = dirty.paths(&tree());
        assert_eq!(paths.keys().copied().collect::<Vec<_>>(), [1, 10, 100, 101, 1000]);
        let touch = |space: SpaceId, start: i64, end: i64| paths[&space].iter().any(|days| days.touch(start * DAY, end * DAY));
        assert!(touch(1000, 3, 4) && !touch(1000, 4, 30) && touch(10, 5, 6) && touch(10, 0, 4) && !touch(100, 5, 6));
    }

    #[test]
    fn a_move_touches_where_it_was_and_where_it_is() {
        let (mut dirty, mut tree) = (Dirty::default(), tree());
        dirty.note(&moved(space(1001, Some(100)), -1), &mut tree);
        dirty.note(&moved(space(1001, Some(20)), 1), &mut tree);
        assert!(dirty.tree);
        assert_eq!(tree.ancestors(1001), [20]);
        let paths = dirty.paths(&tree);
        assert_eq!(paths.keys().copied().collect::<Vec<_>>(), [1, 10, 20, 100, 1001]);
        assert!(paths[&10].iter().all(|days| **days == Days::All));
    }

    #[test]
    fn what_cannot_be_told_apart_is_everything() {
        let mut dirty = Dirty::default();
        for day in 0..=DAYS_MAX as i64 {
            dirty.add(7, day * DAY);
        }
        assert_eq!(dirty.spaces[&7], Days::All);
        for space in 0..=SPACES_MAX as SpaceId {
            dirty.add(space, 0);
        }
        assert!(dirty.everything && dirty.spaces.len() == SPACES_MAX);
    }
}
