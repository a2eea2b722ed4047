//! Clusters: which centroid each user's journey is nearest to, now.
//!
//! Centroids are an input: a model trained on a sample of journeys arrives as a log record, versioned per (source, number of
//! clusters), and takes effect only when it follows the version in force. The label of a user is then a function of its journey
//! and the current centroids: when the journey changes that user moves, when a model lands every user of the source moves, at
//! one logical time. Distance is squared Euclidean over the six features; ties go to the lowest cluster.
//!
//! State: two bytes per user (its label) and one size per cluster; journeys are read from their arrangement.

use crate::changes::{Features, SharedChangeLog, View, ViewRow};
use crate::engine::ControlIn;
use crate::views::journeys::{self, Journey, JourneysTrace, UserKey};
use crate::views::sessions::SharedSessions;
use desireline_records::{ClusterModel, Control, LogicalTime, SourceId};
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::{BatchReader, Cursor, TraceReader};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::progress::Antichain;

/// No label: no model yet, or no session.
pub const NO_LABEL: u16 = u16::MAX;

#[derive(Default)]
pub struct ClustersState {
    models: HashMap<(SourceId, u16), Arc<ClusterModel>>,
    /// By slot of the sessions view on the same worker.
    labels: Vec<u16>,
    sizes: HashMap<(SourceId, u16), u64>,
    /// The centroids that followers were told of last.
    in_force: HashMap<SourceId, Vec<Features>>,
    /// Users that moved to another cluster, ever.
    pub moved: u64,
    /// Models that did not follow the version in force.
    pub stale_models: u64,
}

pub type SharedClusters = Rc<RefCell<ClustersState>>;

/// The index of the nearest centroid; ties go to the lowest.
pub fn nearest(centroids: &[[f64; 6]], point: &[f64; 6]) -> Option<u16> {
    let mut best: Option<(f64, u16)> = None;
    for (index, centroid) in centroids.iter().enumerate() {
        let distance: f64 = centroid.iter().zip(point).map(|(c, p)| (c - p) * (c - p)).sum();
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, index as u16));
        }
    }
    best.map(|(_, index)| index)
}

impl ClustersState {
    pub fn label(&self, slot: u32) -> Option<u16> {
        self.labels.get(slot as usize).copied().filter(|label| *label != NO_LABEL)
    }

    pub fn size(&self, source: SourceId, cluster: u16) -> u64 {
        self.sizes.get(&(source, cluster)).copied().unwrap_or(0)
    }

    pub fn model(&self, source: SourceId, clusters: u16) -> Option<&Arc<ClusterModel>> {
        self.models.get(&(source, clusters))
    }

    /// The centroids in force of every source.
    pub fn centroids(&self) -> impl Iterator<Item = ViewRow> {
        self.in_force.iter().flat_map(|(source, centroids)| {
            let row = |(cluster, centroid): (usize, &Features)| ViewRow::Cluster {
                source: *source,
                cluster: cluster as u16,
                centroid: *centroid,
            };
            centroids.iter().enumerate().map(row)
        })
    }

    pub fn models(&self) -> impl Iterator<Item = &Arc<ClusterModel>> {
        self.models.values()
    }

    pub fn restore_model(&mut self, model: ClusterModel) {
        self.models.insert((model.source, model.clusters), Arc::new(model));
    }

    /// Compare and set: a model takes effect only when its version follows the one in force.
    fn accept(&mut self, model: &ClusterModel) -> bool {
        let key = (model.source, model.clusters);
        let current = self.models.get(&key).map_or(0, |m| m.version);
        if model.version != current + 1 {
            self.stale_models += 1;
            return false;
        }
        self.models.insert(key, Arc::new(model.clone()));
        true
    }

    fn relabel(&mut self, key: UserKey, journey: &Journey, model: Option<&ClusterModel>, transaction_value: bool) -> (u16, u16) {
        let slot = key.slot as usize;
        if self.labels.len() <= slot {
            self.labels.resize(slot + 1, NO_LABEL);
        }
        let label = match model {
            Some(model) if journey.sessions > 0 => nearest(&model.centroids, &journey.features(transaction_value)).unwrap_or(NO_LABEL),
            _ => NO_LABEL,
        };
        let before = std::mem::replace(&mut self.labels[slot], label);
        if before != label {
            if before != NO_LABEL {
                *self.sizes.entry((key.source, before)).or_default() -= 1;
                self.moved += u64::from(label != NO_LABEL);
            }
            if label != NO_LABEL {
                *self.sizes.entry((key.source, label)).or_default() += 1;
            }
        }
        (before, label)
    }
}

/// The dataflow: batches of changed journeys, controls in order with them. The output carries no data, only progress.
pub fn build<'scope>(
    journeys: Arranged<'scope, JourneysTrace>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    state: SharedClusters,
    sessions: SharedSessions,
    changes: SharedChangeLog,
) -> StreamVec<'scope, LogicalTime, ()> {
    let mut trace = journeys.trace.clone();
    let mut stash: BTreeMap<LogicalTime, Vec<ControlIn>> = BTreeMap::new();
    let mut lower = Antichain::from_elem(0);
    let mut upper = Antichain::from_elem(0);
    journeys.stream.binary_frontier::<_, CapacityContainerBuilder<Vec<()>>, _, _, _, _>(
        controls,
        Pipeline,
        Pipeline,
        "Clusters",
        move |_capability, _info| {
            move |(batches, journeys_frontier), (controls, controls_frontier), _output| {
                controls.for_each(|cap, data| stash.entry(*cap.time()).or_default().append(data));
                let mut arrived = Vec::new();
                batches.for_each(|_cap, data| {
                    for batch in data.drain(..) {
                        upper.clone_from(batch.upper());
                        arrived.push(batch);
                    }
                });
                let mut view = Work { state: &mut state.borrow_mut(), sessions: &sessions, changes: &changes };
                if !arrived.is_empty() {
                    view.journeys(&mut trace, &lower, arrived);
                    lower.clone_from(&upper);
                }
                trace.advance_upper(&mut upper);
                lower.clone_from(&upper);
                trace.set_logical_compaction(upper.borrow());
                trace.set_physical_compaction(upper.borrow());
                while let Some(entry) = stash.first_entry() {
                    let time = *entry.key();
                    let closed = !journeys_frontier.less_equal(&time) && !controls_frontier.less_equal(&time);
                    if !closed || upper.less_equal(&time) {
                        break;
                    }
                    for control in entry.remove() {
                        view.control(&mut trace, time, control);
                    }
                }
            }
        },
    )
}

struct Work<'a> {
    state: &'a mut ClustersState,
    sessions: &'a SharedSessions,
    changes: &'a SharedChangeLog,
}

impl Work<'_> {
    /// Relabels the users in newly arrived batches.
    fn journeys<B>(&mut self, trace: &mut JourneysTrace, lower: &Antichain<LogicalTime>, batches: Vec<B>)
    where
        JourneysTrace: TraceReader<Batch = B>,
        B: BatchReader + differential_dataflow::trace::Navigable,
        B::Cursor:
            for<'k> Cursor<Storage = B, Key<'k> = &'k UserKey, Diff = Journey, DiffGat<'k> = &'k Journey, TimeGat<'k> = &'k LogicalTime>,
    {
        let followed = self.changes.borrow().follows(View::Journeys);
        if self.state.models.is_empty() && !followed {
            return;
        }
        let (mut fresh, fresh_storage) = cursor_list(batches);
        let Some((mut old, old_storage)) = trace.cursor_through(lower.borrow()) else { return };
        while let Some(key) = fresh.get_key(&fresh_storage) {
            let key = *key;
            let mut journey = Journey::default();
            old.seek_key(&old_storage, &key);
            if old.get_key(&old_storage) == Some(&key) {
                old.map_times(&old_storage, |_, change| journey.add(change));
            }
            let before = journey;
            let mut time = 0;
            fresh.map_times(&fresh_storage, |at, change| {
                journey.add(change);
                time = (*at).max(time);
            });
            self.moved(key, &before, &journey, time, followed);
            fresh.step_key(&fresh_storage);
        }
    }

    fn moved(&mut self, key: UserKey, before: &Journey, after: &Journey, time: LogicalTime, followed: bool) {
        let sessions = self.sessions.borrow();
        let settings = sessions.sources.get(&key.source).map(|s| &s.settings);
        let (clusters, transaction_value) = settings.map_or((0, false), |s| (s.clusters, s.transaction_value));
        let model = self.state.model(key.source, clusters).cloned();
        let (old, new) = self.state.relabel(key, after, model.as_deref(), transaction_value);
        if followed {
            let name = &sessions.users[key.slot as usize].name;
            let row = |journey: &Journey, label| row_of(key.source, name, journey, label);
            self.changes.borrow_mut().replace(time, row(before, old), row(after, new));
        }
    }

    fn control(&mut self, trace: &mut JourneysTrace, time: LogicalTime, control: ControlIn) {
        match control {
            ControlIn::Logged(Control::Model(model)) if self.state.accept(&model) => {
                self.relabel_source(trace, model.source, time);
                self.follow_centroids(model.source, time);
            }
            ControlIn::Logged(Control::Settings(settings)) => {
                self.relabel_source(trace, settings.source, time);
                self.follow_centroids(settings.source, time);
            }
            ControlIn::ImportModels(models) => {
                for model in models {
                    let source = model.source;
                    self.state.restore_model(model);
                    self.relabel_source(trace, source, time);
                    self.follow_centroids(source, time);
                }
            }
            _ => {}
        }
    }

    /// The centroids in force are the same on every worker; one of them tells the followers what is different now.
    fn follow_centroids(&mut self, source: SourceId, time: LogicalTime) {
        let sessions = self.sessions.borrow();
        let clusters = sessions.sources.get(&source).map_or(0, |s| s.settings.clusters);
        let model = self.state.models.get(&(source, clusters));
        let now: Vec<Features> = model.map(|m| m.centroids.iter().map(|c| Features::of(*c)).collect()).unwrap_or_default();
        let before = self.state.in_force.insert(source, now.clone()).unwrap_or_default();
        let mut changes = self.changes.borrow_mut();
        if !changes.follows(View::Clusters) || sessions.worker != 0 {
            return;
        }
        for cluster in 0..before.len().max(now.len()) {
            let row =
                |centroids: &[Features]| Some(ViewRow::Cluster { source, cluster: cluster as u16, centroid: *centroids.get(cluster)? });
            changes.replace(time, row(&before), row(&now));
        }
    }

    /// Every user of a source meets the model in force.
    fn relabel_source(&mut self, trace: &mut JourneysTrace, source: SourceId, time: LogicalTime) {
        let followed = self.changes.borrow().follows(View::Journeys);
        let mut users = Vec::new();
        journeys::scan(trace, source, |key, journey| users.push((key, *journey)));
        for (key, journey) in users {
            self.moved(key, &journey, &journey, time, followed);
        }
    }
}

/// A user without sessions has no row.
pub fn row_of(source: SourceId, user: &ecow::EcoString, journey: &Journey, label: u16) -> Option<ViewRow> {
    (journey.sessions > 0).then(|| ViewRow::Journey {
        source,
        user: user.clone(),
        journey: *journey,
        cluster: Some(label).filter(|label| *label != NO_LABEL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_centroid_wins_and_ties_go_low() {
        let centroids = [[0.0; 6], [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]];
        assert_eq!(nearest(&centroids, &[1.5, 0.0, 0.0, 0.0, 0.0, 0.0]), Some(1));
        assert_eq!(nearest(&centroids, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), Some(0));
        assert_eq!(nearest(&[], &[0.0; 6]), None);
    }

    #[test]
    fn a_model_must_follow_the_one_in_force() {
        let mut state = ClustersState::default();
        let model = |version| ClusterModel {
            source: 1,
            clusters: 5,
            version,
            centroids: vec![[0.0; 6]],
            weights: vec![1.0],
            trained_on: 1,
            trained_at: 0,
        };
        assert!(!state.accept(&model(2)));
        assert!(state.accept(&model(1)));
        assert!(!state.accept(&model(1)));
        assert!(state.accept(&model(2)));
        assert_eq!(state.stale_models, 2);
    }
}
