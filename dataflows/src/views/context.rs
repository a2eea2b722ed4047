//! Context: what each user looked at lately, for sources that keep it.
//!
//! A user's context is made of the last run of its events in which each follows the one before by less than the time to live. It holds the
//! newest items (an item as often as it occurs), the number of events per known category, and the time of the last event; it
//! expires one time to live after that. Categories come from the catalog as it is now: an item that becomes known later counts from then
//! on, also in contexts that have it already. When the last event is sealed and too old to be followed by another, the context is gone. With `renew_all` off, categories have a run of their own: only events of a known
//! category begin, continue and renew it.
//!
//! Like sessions, the answer depends on the set of accepted events alone. Fed by what the sessions view accepts and retracts, on the
//! same worker and by the same slots.
//!
//! State: 48 bytes per open event of such a source, and per sealed event of a run that may still go on; of the latter all but the newest
//! are counts per item.
//!
//! Known limitations: a change of the catalog looks at the items of every context while somebody follows them. A longer time to live
//! does not bring back what was forgotten under a shorter one.

use crate::changes::{ContextRow, SharedChangeLog, View, ViewRow};
use crate::engine::ControlIn;
use crate::views::catalog::{Catalog, SharedCatalog};
use crate::views::closed::at_closed_times;
use crate::views::journeys::UserKey;
use crate::views::sessions::SharedSessions;
use desireline_records::{CatalogEntry, ContextSettings, Control, EventId, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;

/// A change of what a user did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ContextUpdate {
    Seen {
        source: SourceId,
        slot: u32,
        event: Step,
    },
    Retracted {
        source: SourceId,
        slot: u32,
        time: Micros,
        id: EventId,
    },
    /// The user's events up to this one are sealed.
    Sealed {
        source: SourceId,
        slot: u32,
        time: Micros,
        id: EventId,
    },
    /// The user was erased.
    Forgotten {
        source: SourceId,
        slot: u32,
    },
}

impl ContextUpdate {
    fn key(&self) -> UserKey {
        match self {
            Self::Seen { source, slot, .. }
            | Self::Retracted { source, slot, .. }
            | Self::Sealed { source, slot, .. }
            | Self::Forgotten { source, slot } => UserKey { source: *source, slot: *slot },
        }
    }
}

/// An event as far as a context needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    pub time: Micros,
    pub id: EventId,
    pub item: EcoString,
}

/// One user's steps, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    steps: Vec<Step>,
    /// Up to here they belong to sealed sessions.
    sealed_until: Option<(Micros, EventId)>,
    /// Sealed steps in front of them that are too old to be listed: (item, how many, the last one).
    folded: BTreeMap<EcoString, (u64, Micros)>,
}

impl Steps {
    fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.folded.is_empty()
    }

    fn insert(&mut self, step: Step) {
        let at = self.steps.partition_point(|known| (known.time, known.id) < (step.time, step.id));
        self.steps.insert(at, step);
    }

    fn remove(&mut self, time: Micros, id: EventId) {
        if let Ok(at) = self.steps.binary_search_by_key(&(time, id), |step| (step.time, step.id)) {
            self.steps.remove(at);
        }
    }

    /// Where the run begins that holds the last of `steps`, given by their times from the back.
    fn run(&self, ttl: Micros, counts: impl Fn(&Step) -> bool) -> Run {
        let mut run = Run { from: self.steps.len(), last: None, first: None };
        for (at, step) in self.steps.iter().enumerate().rev().filter(|(_, step)| counts(step)) {
            if run.first.is_some_and(|first| first - step.time >= ttl) {
                return run;
            }
            run = Run { from: at, last: run.last.or(Some(step.time)), first: Some(step.time) };
        }
        run
    }

    fn row(&self, source: SourceId, user: &EcoString, settings: &ContextSettings, catalog: &Catalog) -> Option<ContextRow> {
        let run = self.run(settings.ttl, |_| true);
        let last_active = run.last?;
        let recent = self.steps[run.from..].iter().rev().take(settings.items as usize).map(|step| step.item.clone());
        let known = match settings.renew_all {
            true => run,
            false => self.run(settings.ttl, |step| catalog.category(&step.item).is_some()).unless_before(last_active - settings.ttl),
        };
        let mut categories: BTreeMap<EcoString, u64> = BTreeMap::new();
        for category in self.steps[known.from.min(self.steps.len())..].iter().filter_map(|step| catalog.category(&step.item)) {
            *categories.entry(category.clone()).or_default() += 1;
        }
        if known.from == 0 && known.first.is_some_and(|first| first - self.folded_last() < settings.ttl) {
            for (item, (count, _)) in &self.folded {
                if let Some(category) = catalog.category(item) {
                    *categories.entry(category.clone()).or_default() += count;
                }
            }
        }
        Some(ContextRow {
            source,
            user: user.clone(),
            recent_items: recent.collect(),
            recent_categories: categories.into_iter().collect(),
            last_active,
            expires_at: last_active + settings.ttl,
            categories_expire_at: known.last.map_or(last_active, |last| last + settings.ttl),
        })
    }

    fn sealed(&self) -> usize {
        self.sealed_until.map_or(0, |until| self.steps.partition_point(|step| (step.time, step.id) <= until))
    }

    /// Whether nothing is open and nothing can follow any more.
    fn is_over(&self, boundary: Micros, settings: &ContextSettings) -> bool {
        let last = self.steps.last().map_or(self.folded_last(), |step| step.time);
        self.sealed() == self.steps.len() && boundary - last >= settings.ttl
    }

    /// Forgets what nothing can bring back into the run. Sealed steps never change, and a later event is at or after the boundary: so
    /// of the sealed steps only the chain up to the last one counts, and only if something can still follow that in time.
    fn seal(&mut self, boundary: Micros, settings: &ContextSettings) {
        let sealed = self.sealed();
        let next = self.steps.get(sealed).map_or(boundary, |step| step.time.min(boundary));
        let last = if sealed > 0 { self.steps[sealed - 1].time } else { self.folded_last() };
        if next - last >= settings.ttl {
            self.steps.drain(..sealed);
            self.folded.clear();
            return;
        }
        let linked = |at: &usize| self.steps[*at].time - self.steps[*at - 1].time < settings.ttl;
        let from = sealed.saturating_sub(1) - (1..sealed).rev().take_while(linked).count();
        if from > 0 || self.steps.first().is_some_and(|first| first.time - self.folded_last() >= settings.ttl) {
            self.folded.clear();
        }
        self.steps.drain(..from);
        if !settings.renew_all {
            return;
        }
        // What is too old to be listed is only counted.
        let listed = self.steps.len().saturating_sub(settings.items as usize);
        for step in self.steps.drain(..(sealed - from).min(listed)) {
            let entry = self.folded.entry(step.item).or_default();
            *entry = (entry.0 + 1, entry.1.max(step.time));
        }
    }

    /// A long time ago when nothing is folded.
    fn folded_last(&self) -> Micros {
        self.folded.values().map(|(_, last)| *last).max().unwrap_or(Micros::MIN / 4)
    }

    fn has_any(&self, items: &HashSet<EcoString>) -> bool {
        self.steps.iter().any(|step| items.contains(&step.item)) || self.folded.keys().any(|item| items.contains(item))
    }
}

#[derive(Clone, Copy)]
struct Run {
    from: usize,
    last: Option<Micros>,
    first: Option<Micros>,
}

impl Run {
    /// No run at all if its last step is at or before `time`.
    fn unless_before(self, time: Micros) -> Self {
        if self.last.is_some_and(|last| last > time) { self } else { Self { from: usize::MAX, last: None, first: None } }
    }
}

/// One worker's contexts, by the slots of its sessions view.
#[derive(Default)]
pub struct ContextState {
    users: HashMap<UserKey, Steps>,
}

pub type SharedContexts = Rc<RefCell<ContextState>>;

/// A user's steps as a row of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsRow {
    pub source: SourceId,
    pub user: EcoString,
    pub steps: Steps,
}

impl ContextState {
    fn apply(&mut self, update: &ContextUpdate) {
        let key = update.key();
        match update {
            ContextUpdate::Seen { event, .. } => self.users.entry(key).or_default().insert(event.clone()),
            ContextUpdate::Retracted { time, id, .. } => {
                if let Some(steps) = self.users.get_mut(&key) {
                    steps.remove(*time, *id);
                    if steps.is_empty() {
                        self.users.remove(&key);
                    }
                }
            }
            ContextUpdate::Sealed { time, id, .. } => {
                if let Some(steps) = self.users.get_mut(&key) {
                    steps.sealed_until = Some((*time, *id));
                }
            }
            ContextUpdate::Forgotten { .. } => drop(self.users.remove(&key)),
        }
    }

    /// The context of one user, whether it has expired or not.
    pub fn row(&self, source: SourceId, slot: u32, user: &EcoString, settings: &ContextSettings, catalog: &Catalog) -> Option<ContextRow> {
        self.users.get(&UserKey { source, slot })?.row(source, user, settings, catalog)
    }

    pub fn steps(&self) -> impl Iterator<Item = (UserKey, &Steps)> {
        self.users.iter().map(|(key, steps)| (*key, steps))
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// The dataflow: changes by user, controls in order with them. The output carries no data, only progress.
pub fn build<'scope>(
    updates: StreamVec<'scope, LogicalTime, ContextUpdate>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    state: SharedContexts,
    catalog: SharedCatalog,
    sessions: SharedSessions,
    changes: SharedChangeLog,
) -> StreamVec<'scope, LogicalTime, ()> {
    at_closed_times(updates, controls, Pipeline, "Context", move |time, updates, controls| {
        let (state, catalog) = (&mut state.borrow_mut(), &mut catalog.borrow_mut());
        let mut work = Work { state, catalog, sessions: &sessions, changes: &changes, time };
        work.updates(&updates);
        work.controls(controls);
    })
}

struct Work<'a> {
    state: &'a mut ContextState,
    catalog: &'a mut Catalog,
    sessions: &'a SharedSessions,
    changes: &'a SharedChangeLog,
    time: LogicalTime,
}

impl Work<'_> {
    fn updates(&mut self, updates: &[ContextUpdate]) {
        if !self.changes.borrow().follows(View::Context) {
            updates.iter().for_each(|update| self.state.apply(update));
            return;
        }
        let keys: HashSet<UserKey> = updates.iter().map(ContextUpdate::key).collect();
        self.change(keys.into_iter().collect(), |work| updates.iter().for_each(|update| work.state.apply(update)));
    }

    /// Emits what a change does to the rows of some users.
    fn change(&mut self, mut keys: Vec<UserKey>, change: impl FnOnce(&mut Self)) {
        keys.sort_unstable();
        let before: Vec<_> = keys.iter().map(|key| self.row(*key)).collect();
        change(self);
        for (key, before) in keys.into_iter().zip(before) {
            let after = self.row(key);
            self.changes.borrow_mut().replace(self.time, before, after);
        }
    }

    fn row(&self, key: UserKey) -> Option<ViewRow> {
        let sessions = self.sessions.borrow();
        let settings = sessions.sources.get(&key.source)?.settings.context?;
        let user = &sessions.users.get(key.slot as usize)?.name;
        let row = self.state.row(key.source, key.slot, user, &settings, self.catalog)?;
        Some(ViewRow::Context(Arc::new(row)))
    }

    fn controls(&mut self, controls: Vec<ControlIn>) {
        let mut entries: Vec<CatalogEntry> = Vec::new();
        for control in controls {
            if let ControlIn::Logged(Control::Catalog(entry)) = control {
                entries.push(entry);
                continue;
            }
            self.entries(std::mem::take(&mut entries));
            match control {
                ControlIn::Logged(Control::Seal(seal)) => self.seal(seal.source, seal.boundary),
                ControlIn::Logged(Control::Erase(erase)) => self.erase(erase.source, &erase.user),
                ControlIn::ImportCatalog(entries) => entries.iter().for_each(|entry| drop(self.catalog.put(entry))),
                ControlIn::ImportContexts(rows) => self.restore(rows),
                _ => {}
            }
        }
        self.entries(entries);
    }

    /// Neighbouring entries of the catalog, together.
    fn entries(&mut self, entries: Vec<CatalogEntry>) {
        if entries.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        if self.changes.borrow().follows(View::Context) {
            let items: HashSet<EcoString> = entries.iter().flat_map(|entry| self.catalog.touched(entry)).cloned().collect();
            touched = self.state.users.iter().filter(|(_, steps)| steps.has_any(&items)).map(|(key, _)| *key).collect();
        }
        self.change(touched, |work| {
            for entry in entries {
                let before = work.catalog.put(&entry);
                work.follow_entry(before, Some(entry));
            }
        });
    }

    /// The catalog is the same on every worker; one of them tells the followers.
    fn follow_entry(&self, before: Option<CatalogEntry>, after: Option<CatalogEntry>) {
        let mut changes = self.changes.borrow_mut();
        if changes.follows(View::Catalog) && self.sessions.borrow().worker == 0 {
            changes.replace(self.time, before.map(row_of), after.map(row_of));
        }
    }

    fn seal(&mut self, source: SourceId, boundary: Micros) {
        let Some(settings) = self.sessions.borrow().sources.get(&source).and_then(|s| s.settings.context) else { return };
        let of_source = self.state.users.iter().filter(|(key, _)| key.source == source);
        let over = of_source.filter(|(_, steps)| steps.is_over(boundary, &settings)).map(|(key, _)| *key).collect::<Vec<_>>();
        let forget = |work: &mut Self| {
            work.state.users.iter_mut().filter(|(key, _)| key.source == source).for_each(|(_, steps)| steps.seal(boundary, &settings));
            work.state.users.retain(|_, steps| !steps.is_empty());
        };
        if self.changes.borrow().follows(View::Context) { self.change(over, forget) } else { forget(self) }
    }

    /// A user of a shop has an entry in its catalog.
    fn erase(&mut self, source: SourceId, user: &str) {
        let keeps_context = self.sessions.borrow().sources.get(&source).is_some_and(|s| s.settings.context.is_some());
        if !keeps_context {
            return;
        }
        if let Some(person) = user.parse().ok().and_then(|id| self.catalog.remove_person(id)) {
            self.follow_entry(Some(CatalogEntry::Person(person)), None);
        }
    }

    fn restore(&mut self, rows: Vec<StepsRow>) {
        let sessions = self.sessions.borrow();
        for row in rows {
            let hash = desireline_records::user_hash(row.source, &row.user);
            if let Some(slot) = sessions.find(hash, row.source, &row.user) {
                self.state.users.insert(UserKey { source: row.source, slot }, row.steps);
            }
        }
    }
}

pub fn row_of(entry: CatalogEntry) -> ViewRow {
    match entry {
        CatalogEntry::Item(item) => ViewRow::Item(item),
        CatalogEntry::Product(product) => ViewRow::Product(product),
        CatalogEntry::Person(person) => ViewRow::Person(person),
    }
}
