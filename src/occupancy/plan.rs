//! Which chunks a dataset consists of: a pure function of the space tree and of who has sessions when.

use super::record::{ChunkKey, SpaceType};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{Micros, Space, SpaceId};
use std::collections::{BTreeMap, BTreeSet};

/// The spaces with sessions of their own, by window.
pub type Active = BTreeMap<(Micros, Micros), BTreeSet<SpaceId>>;

/// A subtree: its spaces and, of each but the root, the parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    parents: BTreeMap<SpaceId, Option<SpaceId>>,
}

impl Hierarchy {
    /// Nothing when the root is not there; a cycle when it lies in one.
    pub fn of(root: SpaceId, spaces: impl IntoIterator<Item = Space>) -> Result<Option<Self>, Vec<SpaceId>> {
        let mut tree = Tree::default();
        spaces.into_iter().for_each(|space| drop(tree.put(space)));
        let Some(subtree) = tree.subtree(root) else { return Ok(None) };
        let members: BTreeSet<SpaceId> = subtree.into_iter().collect();
        let parent = |id: &SpaceId| tree.get(*id).and_then(|space| space.parent_space_id);
        if parent(&root).is_some_and(|parent| members.contains(&parent)) {
            let mut cycle = tree.ancestors(root);
            cycle.insert(0, root);
            return Err(cycle);
        }
        let parents = members.iter().map(|id| (*id, parent(id).filter(|_| *id != root))).collect();
        Ok(Some(Self { parents }))
    }

    pub fn from_pairs(pairs: impl IntoIterator<Item = (SpaceId, Option<SpaceId>)>) -> Self {
        Self { parents: pairs.into_iter().collect() }
    }

    pub fn pairs(&self) -> Vec<(SpaceId, Option<SpaceId>)> {
        self.parents.iter().map(|(id, parent)| (*id, *parent)).collect()
    }

    pub fn contains(&self, id: SpaceId) -> bool {
        self.parents.contains_key(&id)
    }

    fn parent(&self, id: SpaceId) -> Option<SpaceId> {
        self.parents.get(&id).copied().flatten()
    }

    /// Whether `id` is `above` or lies below it.
    pub fn is_within(&self, id: SpaceId, above: SpaceId) -> bool {
        let path = std::iter::successors(Some(id), |at| self.parent(*at));
        path.take(self.parents.len() + 1).any(|at| at == above)
    }

    fn depth(&self, id: SpaceId) -> usize {
        std::iter::successors(Some(id), |at| self.parent(*at)).take(self.parents.len() + 1).count()
    }
}

/// A chunk that a dataset needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub key: ChunkKey,
    pub space_type: SpaceType,
    pub children: BTreeSet<SpaceId>,
}

/// The chunks of a dataset, children before their parents. A source has sessions in the *window*, also where the range asked for is
/// smaller: otherwise the chunk of its parent, which others use too, would lack it for ever.
pub fn plan(hierarchy: &Hierarchy, active: &Active, interval_seconds: u32) -> Vec<Planned> {
    let mut all = Vec::new();
    for ((start, end), sources) in active {
        let mut children: BTreeMap<SpaceId, BTreeSet<SpaceId>> = BTreeMap::new();
        for source in sources.iter().filter(|id| hierarchy.contains(**id)) {
            children.entry(*source).or_default();
            let mut at = *source;
            while let Some(parent) = hierarchy.parent(at) {
                if !children.entry(parent).or_default().insert(at) {
                    break;
                }
                at = parent;
            }
        }
        let mut planned: Vec<Planned> = children
            .into_iter()
            .map(|(space_id, children)| Planned {
                key: ChunkKey { interval_seconds, start: *start, end: *end, space_id },
                space_type: SpaceType::of(sources.contains(&space_id), !children.is_empty()),
                children,
            })
            .collect();
        planned.sort_by_key(|chunk| (std::cmp::Reverse(hierarchy.depth(chunk.key.space_id)), chunk.key));
        all.extend(planned);
    }
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn space(space_id: SpaceId, parent_space_id: Option<SpaceId>) -> Space {
        Space { space_id, space_name: Some(format!("S{space_id}").into()), parent_space_id, building_room: None, capacity: None }
    }

    /// 1 ─ 10 ─ (100 ─ 1000, 1001), (101 ─ 1010); 20.
    pub fn campus() -> Vec<Space> {
        [(1, None), (10, Some(1)), (100, Some(10)), (101, Some(10)), (1000, Some(100)), (1001, Some(100)), (1010, Some(101)), (20, None)]
            .map(|(id, parent)| space(id, parent))
            .into()
    }

    fn active(sources: &[SpaceId]) -> Active {
        Active::from([((0, 10), sources.iter().copied().collect())])
    }

    fn shown(planned: &[Planned]) -> Vec<(SpaceId, SpaceType, Vec<SpaceId>)> {
        planned.iter().map(|chunk| (chunk.key.space_id, chunk.space_type, chunk.children.iter().copied().collect())).collect()
    }

    #[test]
    fn sources_and_what_lies_above_them_inside_the_subtree_children_first() {
        let hierarchy = Hierarchy::of(10, campus()).unwrap().unwrap();
        assert_eq!(hierarchy.pairs().len(), 6);
        let planned = plan(&hierarchy, &active(&[1000, 1001]), 900);
        use SpaceType::*;
        assert_eq!(
            shown(&planned),
            [(1000, Source, vec![]), (1001, Source, vec![]), (100, Derived, vec![1000, 1001]), (10, Derived, vec![100])]
        );
        let planned = plan(&hierarchy, &active(&[10, 100, 1010]), 900);
        assert_eq!(
            shown(&planned),
            [(1010, Source, vec![]), (100, Source, vec![]), (101, Derived, vec![1010]), (10, Both, vec![100, 101])],
            "a space that has sessions and children"
        );
        assert_eq!(plan(&hierarchy, &active(&[20, 1]), 900), [], "what lies outside is nobody's");
    }

    #[test]
    fn who_lies_in_whom() {
        let hierarchy = Hierarchy::of(10, campus()).unwrap().unwrap();
        assert!(hierarchy.is_within(1000, 10) && hierarchy.is_within(1000, 100) && hierarchy.is_within(10, 10));
        assert!(!hierarchy.is_within(1000, 101) && !hierarchy.is_within(10, 1000) && !hierarchy.contains(1));
        assert_eq!(Hierarchy::from_pairs(hierarchy.pairs()), hierarchy);
    }

    #[test]
    fn an_unknown_root_has_no_subtree_and_a_cycle_is_named() {
        assert_eq!(Hierarchy::of(7, campus()), Ok(None));
        let mut spaces = campus();
        spaces[0] = space(1, Some(1000));
        assert_eq!(Hierarchy::of(10, spaces.clone()), Err(vec![10, 1, 1000, 100]));
        assert!(Hierarchy::of(20, spaces).unwrap().is_some());
        assert_eq!(Hierarchy::of(5, [space(5, Some(5))]), Err(vec![5]));
    }
}
