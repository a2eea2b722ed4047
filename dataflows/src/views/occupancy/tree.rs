//! The space tree: which spaces lie in which.
//!
//! A changing collection: the last record of an id counts, whatever its order with parents and children. A space whose parent is not known
//! is an orphan and stands as a root until the parent comes. Cycles are refused before the log ([`Tree::cycle`]); should one stand there all the
//! same, every walk visits a space once and ends.

use desireline_records::{Space, SpaceId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    spaces: BTreeMap<SpaceId, Space>,
    children: BTreeMap<SpaceId, BTreeSet<SpaceId>>,
}

impl Tree {
    /// Puts a space in its place; answers what stood there.
    pub fn put(&mut self, space: Space) -> Option<Space> {
        let before = self.remove(space.space_id);
        if let Some(parent) = space.parent_space_id {
            self.children.entry(parent).or_default().insert(space.space_id);
        }
        self.spaces.insert(space.space_id, space);
        before
    }

    pub fn remove(&mut self, id: SpaceId) -> Option<Space> {
        let space = self.spaces.remove(&id)?;
        if let Some(parent) = space.parent_space_id
            && let Some(children) = self.children.get_mut(&parent)
        {
            children.remove(&id);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
        Some(space)
    }

    pub fn get(&self, id: SpaceId) -> Option<&Space> {
        self.spaces.get(&id)
    }

    pub fn contains(&self, id: SpaceId) -> bool {
        self.spaces.contains_key(&id)
    }

    /// In order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values()
    }

    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// Direct children, in order of ids. An id that is not known may have some: orphans.
    pub fn children(&self, id: SpaceId) -> impl Iterator<Item = &Space> {
        self.children.get(&id).into_iter().flatten().filter_map(|child| self.spaces.get(child))
    }

    /// A known space and everything below it, the space first; nothing for an unknown one.
    pub fn subtree(&self, root: SpaceId) -> Option<Vec<SpaceId>> {
        self.spaces.get(&root)?;
        let mut met = BTreeSet::from([root]);
        let mut found = vec![root];
        let mut next = 0;
        while let Some(id) = found.get(next).copied() {
            next += 1;
            found.extend(self.children(id).map(|child| child.space_id).filter(|child| met.insert(*child)));
        }
        Some(found)
    }

    /// The known spaces above one, from its parent to its root.
    pub fn ancestors(&self, id: SpaceId) -> Vec<SpaceId> {
        let mut found = Vec::new();
        let mut at = id;
        while let Some(parent) = self.spaces.get(&at).and_then(|space| space.parent_space_id) {
            if !self.spaces.contains_key(&parent) || parent == id || found.contains(&parent) {
                break;
            }
            found.push(parent);
            at = parent;
        }
        found
    }

    /// Spaces without a parent, orphans among them.
    pub fn roots(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values().filter(|space| space.parent_space_id.is_none_or(|parent| !self.spaces.contains_key(&parent)))
    }

    /// Spaces whose parent is not known.
    pub fn orphans(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values().filter(|space| space.parent_space_id.is_some_and(|parent| !self.spaces.contains_key(&parent)))
    }

    /// The ids of a cycle that there would be with these spaces put into the tree, if any.
    pub fn cycle(&self, put: &[Space]) -> Option<Vec<SpaceId>> {
        let new: BTreeMap<SpaceId, Option<SpaceId>> = put.iter().map(|space| (space.space_id, space.parent_space_id)).collect();
        let parent = |id: SpaceId| match new.get(&id) {
            Some(parent) => *parent,
            None => self.spaces.get(&id).and_then(|space| space.parent_space_id),
        };
        let mut harmless = BTreeSet::new();
        for start in new.keys() {
            let mut path = vec![*start];
            let mut on_path = BTreeSet::from([*start]);
            while let Some(next) = parent(path[path.len() - 1]).filter(|next| !harmless.contains(next)) {
                if !on_path.insert(next) {
                    let from = path.iter().position(|id| *id == next).unwrap_or(0);
                    return Some(path.split_off(from));
                }
                path.push(next);
            }
            harmless.extend(path);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: SpaceId, parent: Option<SpaceId>) -> Space {
        Space { space_id: id, space_name: None, parent_space_id: parent, building_room: None, capacity: None }
    }

    fn tree() -> Tree {
        let mut tree = Tree::default();
        for (id, parent) in [(1000, Some(100)), (100, Some(10)), (10, Some(1)), (1, None), (101, Some(10)), (7, Some(6))] {
            tree.put(space(id, parent));
        }
        tree
    }

    #[test]
    fn a_subtree_is_found_whatever_the_order_of_its_records() {
        assert_eq!(tree().subtree(10), Some(vec![10, 100, 101, 1000]));
        assert_eq!(tree().subtree(6), None, "named as a parent only");
        assert_eq!(tree().ancestors(1000), [100, 10, 1]);
        assert_eq!(tree().orphans().map(|s| s.space_id).collect::<Vec<_>>(), [7]);
        assert_eq!(tree().roots().map(|s| s.space_id).collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn a_moved_space_leaves_its_old_place() {
        let mut tree = tree();
        assert_eq!(tree.put(space(1000, Some(101))), Some(space(1000, Some(100))));
        assert_eq!(tree.subtree(100), Some(vec![100]));
        assert_eq!(tree.subtree(101), Some(vec![101, 1000]));
        tree.remove(101);
        assert_eq!(tree.orphans().map(|s| s.space_id).collect::<Vec<_>>(), [7, 1000]);
    }

    #[test]
    fn a_cycle_is_named_before_it_is_made() {
        assert_eq!(tree().cycle(&[space(1, Some(1000))]).map(|c| c.len()), Some(4));
        assert_eq!(tree().cycle(&[space(5, Some(5))]), Some(vec![5]));
        assert_eq!(tree().cycle(&[space(5, Some(6)), space(6, Some(5))]).map(|c| c.len()), Some(2));
        assert_eq!(tree().cycle(&[space(1, Some(6)), space(1000, Some(10))]), None);
        // Two records that undo a cycle together are none.
        assert_eq!(tree().cycle(&[space(1, Some(1000)), space(1000, None)]), None);
    }

    #[test]
    fn every_walk_ends_even_in_a_cycle() {
        let mut tree = tree();
        tree.put(space(1, Some(1000)));
        assert_eq!(tree.subtree(10).map(|s| s.len()), Some(5));
        assert_eq!(tree.ancestors(1000), [100, 10, 1]);
    }
}
