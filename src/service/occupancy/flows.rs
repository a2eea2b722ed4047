//! Flows: who went from where to where.
//!
//! A move is counted from the space that a device left to the one in which it appeared, in the hour of its arrival. Asked of a space, moves
//! are lifted to its direct children: both ends are taken for the child in whose subtree they lie (for the space itself, where it has
//! devices of its own). Moves within one child are none; an end outside of the space is *elsewhere*. Without a space the children are the
//! roots of the tree, and spaces that are not known are elsewhere.

use super::{Privacy, Shown};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{Cell, CellKey, Micros, SpaceId};
use std::collections::{BTreeMap, HashMap};

/// How moves are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowsPer {
    #[default]
    Range,
    /// By the hour of arrival.
    Hour,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Of [`FlowsPer::Hour`].
    pub time: Option<Micros>,
    /// Absent ends are elsewhere.
    pub from: Option<SpaceId>,
    pub to: Option<SpaceId>,
    pub shown: Shown,
}

/// To which child of `root` each space belongs.
fn children(tree: &Tree, root: Option<SpaceId>) -> HashMap<SpaceId, SpaceId> {
    let tops: Vec<SpaceId> = match root {
        Some(root) => tree.children(root).map(|child| child.space_id).collect(),
        None => tree.roots().map(|space| space.space_id).collect(),
    };
    let mut child_of: HashMap<SpaceId, SpaceId> = root.into_iter().map(|root| (root, root)).collect();
    for top in tops {
        for space in tree.subtree(top).unwrap_or_default() {
            // Where links run in a circle the first way down counts.
            child_of.entry(space).or_insert(top);
        }
    }
    child_of
}

/// When, from where, to where.
type Ends = (Option<Micros>, Option<SpaceId>, Option<SpaceId>);

/// Largest first within a time, then by their ends; flows of which nothing may be shown are there without a number.
pub(super) fn lift(tree: &Tree, root: Option<SpaceId>, moves: &[(CellKey, Cell)], per: FlowsPer, privacy: Privacy) -> Vec<Flow> {
    let child_of = children(tree, root);
    let mut sums: BTreeMap<Ends, Cell> = BTreeMap::new();
    for (key, cell) in moves {
        let (from, to) = (child_of.get(&key.space).copied(), child_of.get(&key.other).copied());
        if from != to {
            let time = (per == FlowsPer::Hour).then_some(key.time);
            sums.entry((time, from, to)).or_default().add(*cell);
        }
    }
    let flow = |((time, from, to), cell): (Ends, Cell)| Flow { time, from, to, shown: privacy.show(cell) };
    let mut flows: Vec<Flow> = sums.into_iter().map(flow).filter(|flow| !flow.shown.is_empty()).collect();
    // The order must not tell what is withheld.
    flows.sort_by_key(|flow| (flow.time, -flow.shown.number.unwrap_or(0), flow.from, flow.to));
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::HOUR;
    use desireline_records::{Measure, Space};

    /// 1 ─ 10 ─ (100, 101), 1 ─ 11; 2 stands alone.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        for (id, parent) in [(1, None), (10, Some(1)), (11, Some(1)), (100, Some(10)), (101, Some(10)), (2, None)] {
            tree.put(Space { space_id: id, space_name: None, parent_space_id: parent, building_room: None, capacity: None });
        }
        tree
    }

    fn moved(from: SpaceId, to: SpaceId, hour: i64, count: i64) -> (CellKey, Cell) {
        let key = CellKey { space: from, measure: Measure::Moves, time: hour * HOUR, other: to };
        (key, Cell { count, randomized: 0, micros: 0 })
    }

    /// With the hour in place of the time.
    fn flows(root: Option<SpaceId>, per: FlowsPer, k: u32) -> Vec<(Ends, Option<i64>)> {
        let moves =
            [moved(100, 101, 9, 7), moved(100, 11, 9, 2), moved(101, 11, 10, 3), moved(11, 2, 9, 4), moved(2, 1, 9, 1), moved(2, 77, 9, 6)];
        let privacy = Privacy { exclude_randomized: false, k };
        let flows = lift(&tree(), root, &moves, per, privacy);
        flows.into_iter().map(|flow| ((flow.time.map(|time| time / HOUR), flow.from, flow.to), flow.shown.number)).collect()
    }

    #[test]
    fn moves_are_lifted_to_the_children() {
        let range = flows(Some(1), FlowsPer::Range, 0);
        assert_eq!(
            range,
            [((None, Some(10), Some(11)), Some(5)), ((None, Some(11), None), Some(4)), ((None, None, Some(1)), Some(1))],
            "the space itself is an end where it has devices of its own"
        );
        assert_eq!(flows(Some(10), FlowsPer::Range, 0)[0], ((None, Some(100), Some(101)), Some(7)));
        assert_eq!(flows(Some(2), FlowsPer::Range, 0), [((None, Some(2), None), Some(7)), ((None, None, Some(2)), Some(4))]);
    }

    #[test]
    fn without_a_space_the_roots_are_the_children() {
        let roots = flows(None, FlowsPer::Range, 0);
        assert_eq!(roots, [((None, Some(2), None), Some(6)), ((None, Some(1), Some(2)), Some(4)), ((None, Some(2), Some(1)), Some(1))]);
    }

    #[test]
    fn hours_are_told_apart_and_few_are_withheld() {
        let hours = flows(Some(1), FlowsPer::Hour, 3);
        assert_eq!(
            hours,
            [
                ((Some(9), Some(11), None), Some(4)),
                ((Some(9), None, Some(1)), None),
                ((Some(9), Some(10), Some(11)), None),
                ((Some(10), Some(10), Some(11)), Some(3))
            ]
        );
    }
}
