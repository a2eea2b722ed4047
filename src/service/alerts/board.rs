//! Which spaces stand above which share of their capacity. A value: no clock, no views.
//!
//! # When an alert is given
//! Numbers are those of the running bin of the narrowest width that is kept, with all spaces below.
//! - **Up**, as soon as the number reaches the share.
//! - **Down**, when the bin is over and its number was at least [`HYSTERESIS_PERCENT`] points of the capacity below the share; within the bin
//!   only if the number had reached the share in this bin and was corrected downwards. A bin that has just begun is nearly empty, which
//!   means nothing.
//!
//! So a space that hovers around a share is told of once upwards, and downwards when it has really left it. Each way is told at most once per
//! space, share and bin. A bin that is over gives no alert any more, whatever is corrected in it. What stood above a share when the board began
//! is taken for told.

use crate::service::occupancy::Privacy;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{Cell, Micros, Space, SpaceId};
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Points of the capacity below a share at which a space has left it.
pub const HYSTERESIS_PERCENT: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Up,
    Down,
}

/// A space crossed a share of its capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub space_id: SpaceId,
    pub space_name: Option<EcoString>,
    /// The begin of the bin.
    pub begin: Micros,
    /// Absent where it may not be shown.
    pub number: Option<i64>,
    pub capacity: u32,
    pub threshold_percent: u32,
    pub direction: Direction,
}

/// A share of a space's capacity.
type Share = (SpaceId, u32);

#[derive(Default)]
pub struct Board {
    percent: Vec<u32>,
    privacy: Privacy,
    begin: Micros,
    tree: Tree,
    own: HashMap<SpaceId, Cell>,
    /// With all spaces below.
    sums: HashMap<SpaceId, Cell>,
    /// Spaces with a capacity.
    limited: BTreeMap<SpaceId, u32>,
    /// Of these, those whose number or capacity has changed since the last look.
    touched: BTreeSet<SpaceId>,
    above: BTreeSet<Share>,
    /// Reached within the running bin.
    reached: BTreeSet<Share>,
    told: BTreeSet<(Share, Direction)>,
}

impl Board {
    pub fn new(percent: Vec<u32>, privacy: Privacy) -> Self {
        Self { percent, privacy, ..Self::default() }
    }

    /// The begin of the bin that is running.
    pub fn begin(&self) -> Micros {
        self.begin
    }

    /// Whether any space has a capacity.
    pub fn is_needed(&self) -> bool {
        !self.limited.is_empty()
    }

    /// What stands above a share already has been told of.
    pub fn take_for_told(&mut self, tree: &Tree, own: impl IntoIterator<Item = (SpaceId, Cell)>) {
        self.load(self.begin, tree.clone(), own);
        for share in self.shares(self.limited.keys()) {
            if self.reaches(share) {
                self.above.insert(share);
            }
        }
    }

    /// The tree and the numbers of the bin that is running now.
    pub fn load(&mut self, begin: Micros, tree: Tree, own: impl IntoIterator<Item = (SpaceId, Cell)>) {
        if begin != self.begin {
            self.reached.clear();
            self.told.clear();
        }
        self.begin = begin;
        self.limited = tree.iter().filter_map(|space| Some((space.space_id, space.capacity?))).collect();
        self.tree = tree;
        self.own.clear();
        own.into_iter().for_each(|(space, cell)| self.own.entry(space).or_default().add(cell));
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.sums.clear();
        let own: Vec<(SpaceId, Cell)> = self.own.iter().map(|(space, cell)| (*space, *cell)).collect();
        own.into_iter().for_each(|(space, cell)| self.lift(space, cell));
        let limited = &self.limited;
        self.touched = limited.keys().copied().collect();
        self.above.retain(|(space, _)| limited.contains_key(space));
    }

    fn lift(&mut self, space: SpaceId, cell: Cell) {
        if !self.tree.contains(space) {
            return;
        }
        for space in std::iter::once(space).chain(self.tree.ancestors(space)) {
            self.sums.entry(space).or_default().add(cell);
            if self.limited.contains_key(&space) {
                self.touched.insert(space);
            }
        }
    }

    /// A difference of a space's own number in the running bin.
    pub fn add(&mut self, space: SpaceId, cell: Cell) {
        self.own.entry(space).or_default().add(cell);
        self.lift(space, cell);
    }

    /// Spaces that have come, changed or gone, in this order.
    pub fn change_tree(&mut self, changes: impl IntoIterator<Item = Result<Space, SpaceId>>) {
        for change in changes {
            match change {
                Ok(space) => {
                    match space.capacity {
                        Some(capacity) => self.limited.insert(space.space_id, capacity),
                        None => self.limited.remove(&space.space_id),
                    };
                    self.tree.put(space);
                }
                Err(gone) => {
                    self.tree.remove(gone);
                    self.limited.remove(&gone);
                }
            }
        }
        self.sum_up();
    }

    fn shares<'a>(&self, spaces: impl Iterator<Item = &'a SpaceId>) -> Vec<Share> {
        spaces.flat_map(|space| self.percent.iter().map(|percent| (*space, *percent))).collect()
    }

    /// The number of a space as it counts, in hundredths of a device; and its capacity.
    fn standing(&self, space: SpaceId) -> (i128, i128) {
        let number = self.privacy.counted(self.sums.get(&space).copied().unwrap_or_default());
        (i128::from(number) * 100, i128::from(self.limited.get(&space).copied().unwrap_or(u32::MAX)))
    }

    /// What may not be shown reaches nothing: an alert would nearly tell it.
    fn reaches(&self, (space, percent): Share) -> bool {
        let (number, capacity) = self.standing(space);
        number > 0 && number >= capacity * i128::from(percent) && self.shown(space).is_some()
    }

    fn shown(&self, space: SpaceId) -> Option<i64> {
        self.privacy.show(self.sums.get(&space).copied().unwrap_or_default()).number
    }

    fn has_left(&self, (space, percent): Share) -> bool {
        let (number, capacity) = self.standing(space);
        // The lowest shares must be left by zero, at least.
        number < capacity * i128::from(percent.saturating_sub(HYSTERESIS_PERCENT)) || number <= 0
    }

    /// What has been crossed in the running bin since the last look.
    pub fn look(&mut self) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        let touched = std::mem::take(&mut self.touched);
        for share in self.shares(touched.iter()) {
            if self.reaches(share) {
                self.reached.insert(share);
                if self.above.insert(share) {
                    crossings.extend(self.tell(share, Direction::Up));
                }
            } else if self.reached.contains(&share) && self.has_left(share) && self.above.remove(&share) {
                crossings.extend(self.tell(share, Direction::Down));
            }
        }
        crossings
    }

    /// The running bin is over.
    pub fn end_bin(&mut self) -> Vec<Crossing> {
        let mut crossings = self.look();
        for share in self.above.clone() {
            if self.has_left(share) {
                self.above.remove(&share);
                crossings.extend(self.tell(share, Direction::Down));
            }
        }
        crossings
    }

    fn tell(&mut self, share: Share, direction: Direction) -> Option<Crossing> {
        if !self.told.insert((share, direction)) {
            return None;
        }
        let (space_id, threshold_percent) = share;
        let number = self.shown(space_id);
        let space_name = self.tree.get(space_id).and_then(|space| space.space_name.clone());
        let capacity = self.limited.get(&space_id).copied()?;
        Some(Crossing { space_id, space_name, begin: self.begin, number, capacity, threshold_percent, direction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: SpaceId, parent: Option<SpaceId>, capacity: Option<u32>) -> Space {
        Space { space_id: id, space_name: None, parent_space_id: parent, building_room: None, capacity }
    }

    /// A floor of 10 with two rooms, one of them of 4.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        for space in [space(100, None, Some(10)), space(1, Some(100), Some(4)), space(2, Some(100), None)] {
            tree.put(space);
        }
        tree
    }

    fn devices(count: i64) -> Cell {
        Cell { count, randomized: 0, micros: 0 }
    }

    fn board() -> Board {
        let mut board = Board::new(vec![50, 100], Privacy::default());
        board.load(0, tree(), []);
        board
    }

    fn brief(crossings: Vec<Crossing>) -> Vec<(SpaceId, u32, Direction, Option<i64>)> {
        crossings.into_iter().map(|c| (c.space_id, c.threshold_percent, c.direction, c.number)).collect()
    }

    use Direction::{Down, Up};

    #[test]
    fn a_share_is_told_of_when_it_is_reached_and_once() {
        let mut board = board();
        board.add(1, devices(1));
        assert_eq!(board.look(), []);
        board.add(1, devices(1));
        assert_eq!(brief(board.look()), [(1, 50, Up, Some(2))]);
        board.add(2, devices(3));
        assert_eq!(brief(board.look()), [(100, 50, Up, Some(5))], "rooms count for their floor");
        board.add(1, devices(3));
        assert_eq!(brief(board.look()), [(1, 100, Up, Some(5))]);
        assert_eq!(board.look(), []);
    }

    #[test]
    fn a_new_bin_begins_empty_and_that_is_no_fall() {
        let mut board = board();
        board.add(1, devices(4));
        assert_eq!(board.look().len(), 2);
        assert_eq!(board.end_bin(), []);
        board.load(900, tree(), []);
        assert_eq!(board.look(), [], "people are still there; the bin has only begun");
        board.add(1, devices(4));
        assert_eq!(board.look(), [], "nor do they come anew");
        assert_eq!(board.end_bin(), []);
        board.load(1_800, tree(), [(1, devices(1))]);
        assert_eq!(board.look(), []);
        assert_eq!(brief(board.end_bin()), [(1, 50, Down, Some(1)), (1, 100, Down, Some(1))]);
        board.load(2_700, tree(), [(1, devices(2))]);
        assert_eq!(brief(board.look()), [(1, 50, Up, Some(2))]);
    }

    #[test]
    fn a_correction_within_the_bin_is_a_fall_and_each_way_is_told_once() {
        let mut board = board();
        for (change, expected) in [(4, 2), (-3, 2), (3, 0), (-4, 0)] {
            board.add(1, devices(change));
            assert_eq!(board.look().len(), expected, "{change}");
        }
    }

    #[test]
    fn whoever_hovers_around_a_share_has_not_left_it() {
        let mut board = Board::new(vec![50], Privacy::default());
        let mut tree = Tree::default();
        tree.put(space(1, None, Some(100)));
        board.load(0, tree.clone(), [(1, devices(50))]);
        assert_eq!(board.look().len(), 1);
        for (bin, number, expected) in [(1, 49, 0), (2, 45, 0), (3, 51, 0), (4, 44, 1), (5, 49, 0), (6, 50, 1)] {
            board.load(bin, tree.clone(), [(1, devices(number))]);
            assert_eq!(board.look().len() + board.end_bin().len(), expected, "bin {bin}");
        }
    }

    #[test]
    fn what_stood_there_at_the_beginning_is_not_told() {
        let mut board = Board::new(vec![50, 100], Privacy::default());
        board.take_for_told(&tree(), [(1, devices(2))]);
        board.load(900, tree(), [(1, devices(2))]);
        assert_eq!(board.look(), []);
        board.add(1, devices(2));
        assert_eq!(brief(board.look()), [(1, 100, Up, Some(4))]);
    }

    #[test]
    fn a_moved_room_and_a_new_capacity_are_crossings_like_any_other() {
        let mut board = board();
        board.load(0, tree(), [(1, devices(1)), (2, devices(9))]);
        assert_eq!(brief(board.look()), [(100, 50, Up, Some(10)), (100, 100, Up, Some(10))]);
        board.change_tree([Ok(space(2, None, Some(18)))]);
        assert_eq!(brief(board.look()), [(2, 50, Up, Some(9)), (100, 50, Down, Some(1)), (100, 100, Down, Some(1))]);
        board.change_tree([Err(2), Ok(space(1, Some(100), Some(1)))]);
        assert_eq!(brief(board.look()), [(1, 50, Up, Some(1)), (1, 100, Up, Some(1))]);
        board.change_tree([Ok(space(1, Some(100), None)), Ok(space(100, None, None))]);
        assert!(!board.is_needed() && board.look().is_empty());
    }

    #[test]
    fn what_may_not_be_shown_gives_no_alert_upwards_and_no_number_downwards() {
        let mut board = Board::new(vec![50], Privacy { exclude_randomized: true, k: 3 });
        board.load(0, tree(), [(1, Cell { count: 4, randomized: 2, micros: 0 })]);
        assert_eq!(board.look(), [], "two of four count, and two are too few to be told");
        board.add(2, devices(5));
        assert_eq!(brief(board.look()), [(100, 50, Up, Some(7))]);
        board.load(900, tree(), [(2, devices(2))]);
        assert_eq!(brief(board.end_bin()), [(100, 50, Down, None)]);
    }
}
