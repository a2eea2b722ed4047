//! Which users and devices rows have come for, for those who follow single keys: label matrices.
//!
//! What a query says of one key can only change when a row of that key comes, or when something changes that many keys read: the space tree,
//! the catalog, the clusters, the settings. Both are noted here by the logical time of the batch, as long as there are matrices; what every
//! matrix has evaluated is forgotten. A fold over the log, so after a restart exactly that is waiting which nobody had evaluated.
//!
//! Bounded: above [`KEYS_MAX`] keys single ones are not told apart any more, and everything has to be looked at.

use desireline_records::{Batch, Control, LogicalTime, MatrixId};
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// Keys that wait, over all batches.
const KEYS_MAX: usize = 1_000_000;

/// What many keys read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wide {
    /// Nobody knows which keys: a deletion by id, other settings, more keys than are told apart.
    Everything,
    Spaces,
    Catalog,
    Clusters,
    /// Events have left memory with their sealed sessions.
    Sealed,
}

#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Up to which time each matrix has evaluated what changed.
    through: BTreeMap<MatrixId, LogicalTime>,
    /// Keys by batch, oldest first.
    keys: VecDeque<(LogicalTime, Vec<EcoString>)>,
    count: usize,
    /// When the last key came, also if it is forgotten by now.
    last_key: LogicalTime,
    /// When each was last changed.
    wide: BTreeMap<Wide, LogicalTime>,
}

/// What is waiting for a matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub keys: Vec<EcoString>,
    /// Every key touched up to here is among `keys`, or has been evaluated.
    pub through: LogicalTime,
    /// There are more.
    pub more: bool,
    /// When the last key came. It may have been evaluated and be forgotten, and not be seen by the views yet.
    pub last_key: LogicalTime,
    pub wide: BTreeSet<Wide>,
}

impl Touched {
    pub fn apply(&mut self, batch: &Batch) {
        for control in &batch.controls {
            match control {
                Control::Matrix(matrix) => {
                    self.through.insert(matrix.matrix, batch.time);
                }
                Control::MatrixRemoved { matrix } => drop(self.through.remove(matrix)),
                Control::MatrixRows(rows) => {
                    if let Some(through) = self.through.get_mut(&rows.matrix) {
                        *through = rows.through.max(*through);
                    }
                }
                _ => {}
            }
        }
        if self.through.is_empty() {
            (self.keys, self.count) = (VecDeque::new(), 0);
            self.wide.clear();
            return;
        }
        self.note(batch);
        self.prune();
    }

    fn note(&mut self, batch: &Batch) {
        let mut keys: HashSet<&EcoString> = batch.events.iter().map(|event| &event.user).collect();
        for control in &batch.controls {
            match control {
                Control::Erase(erase) if !erase.user.is_empty() => drop(keys.insert(&erase.user)),
                Control::Reopen(reopen) => keys.extend(reopen.devices.iter().map(|device| &device.device)),
                Control::Space(_) | Control::SpaceRemoved { .. } => drop(self.wide.insert(Wide::Spaces, batch.time)),
                Control::Catalog(_) => drop(self.wide.insert(Wide::Catalog, batch.time)),
                Control::Model(_) => drop(self.wide.insert(Wide::Clusters, batch.time)),
                Control::Seal(_) => drop(self.wide.insert(Wide::Sealed, batch.time)),
                Control::DeleteEvent { .. } | Control::Settings(_) | Control::SkipRow { .. } => {
                    self.wide.insert(Wide::Everything, batch.time);
                }
                _ => {}
            }
        }
        if keys.is_empty() {
            return;
        }
        let keys: Vec<EcoString> = keys.into_iter().cloned().collect();
        self.count += keys.len();
        self.last_key = batch.time;
        self.keys.push_back((batch.time, keys));
        if self.count > KEYS_MAX {
            (self.keys, self.count) = (VecDeque::new(), 0);
            self.wide.insert(Wide::Everything, batch.time);
        }
    }

    fn prune(&mut self) {
        let evaluated = self.through.values().copied().min().unwrap_or(LogicalTime::MAX);
        while self.keys.front().is_some_and(|(time, _)| *time <= evaluated) {
            self.count -= self.keys.pop_front().map_or(0, |(_, keys)| keys.len());
        }
    }

    /// What changed after `through`, in the order of the log: whole batches, until there are `keys_max` keys.
    pub fn waiting(&self, through: LogicalTime, last: LogicalTime, keys_max: usize) -> Waiting {
        let wide = self.wide.iter().filter(|(_, time)| **time > through).map(|(wide, _)| *wide).collect();
        let mut waiting = Waiting { through: last, wide, last_key: self.last_key, ..Waiting::default() };
        let mut seen: HashSet<&EcoString> = HashSet::new();
        let from = self.keys.partition_point(|(time, _)| *time <= through);
        let mut reached = through;
        for (time, keys) in self.keys.range(from..) {
            if !seen.is_empty() && seen.len() + keys.len() > keys_max {
                (waiting.more, waiting.through) = (true, reached);
                break;
            }
            seen.extend(keys);
            reached = *time;
        }
        waiting.keys = seen.into_iter().cloned().collect();
        waiting.keys.sort_unstable();
        waiting
    }

    /// How many keys wait for somebody.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::labels::Votes;
    use desireline_records::{Event, EventId, Fixed4, Matrix, MatrixRows, Movement, Space};
    use std::sync::Arc;

    fn event(user: &str) -> Event {
        Event {
            source: 1,
            movement: Movement::View,
            late: false,
            time: 5,
            id: EventId::explicit(user),
            value: Fixed4(0),
            user: user.into(),
            event_type: "view".into(),
            page: "".into(),
            item: "".into(),
            extra: None,
            stay: None,
        }
    }

    fn rows(time: LogicalTime, users: &[&str]) -> Batch {
        Batch { time, events: users.iter().map(|user| event(user)).collect(), ..Batch::default() }
    }

    fn controls(time: LogicalTime, controls: Vec<Control>) -> Batch {
        Batch { time, controls, ..Batch::default() }
    }

    fn matrix(id: MatrixId) -> Control {
        let definition = "d".into();
        let (generation, concept, index, functions, classes) = (1, 1, 1, vec![1], vec![1]);
        Control::Matrix(Arc::new(Matrix { matrix: id, generation, concept, index, functions, classes, definition }))
    }

    fn evaluated(id: MatrixId, through: LogicalTime) -> Control {
        let (keys, gone, rows) = (Vec::new(), Vec::new(), Vec::new());
        let (generation, features_as_of) = (1, through);
        Control::MatrixRows(Arc::new(MatrixRows {
            matrix: id,
            generation,
            features_as_of,
            through,
            keys,
            votes: Votes::default(),
            gone,
            rows,
        }))
    }

    #[test]
    fn keys_wait_until_every_matrix_has_evaluated_them() {
        let mut touched = Touched::default();
        touched.apply(&rows(1, &["before"]));
        assert_eq!(touched.count(), 0, "without a matrix nothing is noted");
        touched.apply(&controls(2, vec![matrix(1), matrix(2)]));
        touched.apply(&rows(3, &["b", "a", "a"]));
        touched.apply(&rows(4, &["c", "a"]));
        let all = touched.waiting(2, 4, 100);
        assert_eq!((all.keys, all.through, all.more), (vec!["a".into(), "b".into(), "c".into()], 4, false));
        let some = touched.waiting(2, 4, 2);
        assert_eq!((some.keys, some.through, some.more), (vec!["a".into(), "b".into()], 3, true));
        touched.apply(&controls(5, vec![evaluated(1, 3)]));
        assert_eq!(touched.count(), 4, "the other matrix needs them");
        touched.apply(&controls(6, vec![evaluated(2, 4)]));
        assert_eq!(touched.waiting(4, 6, 100).last_key, 4, "the views may not have seen what was evaluated");
        assert_eq!((touched.count(), touched.waiting(3, 6, 100).keys), (2, vec!["a".into(), "c".into()]));
        touched.apply(&controls(7, vec![Control::MatrixRemoved { matrix: 1 }, Control::MatrixRemoved { matrix: 2 }]));
        assert_eq!(touched.count(), 0);
    }

    #[test]
    fn what_many_keys_read_is_told_by_its_time() {
        let mut touched = Touched::default();
        touched.apply(&controls(1, vec![matrix(1)]));
        let space = Space { space_id: 1, space_name: None, parent_space_id: None, building_room: None, capacity: None };
        touched.apply(&controls(2, vec![Control::Space(space)]));
        touched.apply(&controls(3, vec![Control::DeleteEvent { source: 1, id: EventId::explicit("x") }]));
        let wide = |through| touched.waiting(through, 3, 10).wide.into_iter().collect::<Vec<_>>();
        assert_eq!((wide(1), wide(2), wide(3)), (vec![Wide::Everything, Wide::Spaces], vec![Wide::Everything], vec![]));
    }

    #[test]
    fn too_many_keys_are_everything() {
        let mut touched = Touched::default();
        touched.apply(&controls(1, vec![matrix(1)]));
        for time in 0..11 {
            let users: Vec<String> = (0..100_000).map(|n| format!("{time} {n}")).collect();
            touched.apply(&rows(2 + time, &users.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        let waiting = touched.waiting(1, 12, 10);
        assert_eq!((touched.count(), waiting.wide.into_iter().collect::<Vec<_>>()), (0, vec![Wide::Everything]));
    }
}
