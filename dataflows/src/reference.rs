//! The slow twin of all views: plain loops over the log, obviously right.
//!
//! [`Reference::apply`] keeps every event it was ever given in ordinary collections and answers by sorting and walking them. It
//! shares no code with the views except the nearest-centroid function and the features of a journey. Tests compare it with the
//! engine on random histories; `desireline verify` compares it with a running or stopped server.
//!
//! What it can catch: wrong cuts, lost or doubled rows, wrong order, stale labels, wrong counts, state that survives an erasure.
//! What it cannot: an error in the log itself (both sides read the same batches), or a wrong feature formula (tested by hand cases).

pub mod labels;
pub mod occupancy;

use crate::changes::{Content, ContextRow, Features, ViewRow};
use crate::views::clusters::nearest;
use crate::views::context::row_of;
use crate::views::journeys::Journey;
use crate::views::minutes::minute_of;
use desireline_records::{
    Batch, CatalogEntry, ClusterModel, Control, DeadLetterKind, EraseUser, Event, EventId, Item, Micros, MinuteCount, Movement, Person,
    Product, Purged, Reopen, SessionRule, SourceId, SourceSettings,
};
use ecow::EcoString;
use labels::Matrices;
use occupancy::Occupancy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionFact {
    pub first_event: EventId,
    pub start: Micros,
    pub end: Micros,
    pub events: u64,
    pub views: i64,
    pub carts: i64,
    pub transactions: i64,
    pub value: i128,
    pub sealed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountFacts {
    pub received: u64,
    pub applied: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub late: u64,
    pub pending: u64,
    pub quarantined: u64,
    pub rejected: u64,
    pub deleted: u64,
}

impl CountFacts {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.late += other.late;
        self.pending += other.pending;
        self.quarantined += other.quarantined;
        self.rejected += other.rejected;
        self.deleted += other.deleted;
    }
}

#[derive(Clone, Debug, Default)]
struct ReferenceUser {
    open: Vec<Event>,
    /// What each open event said, by id.
    payloads: BTreeMap<EventId, u32>,
    sealed: Vec<SessionFact>,
    /// The events of each sealed session.
    sealed_events: Vec<Vec<Event>>,
    deleted: BTreeMap<EventId, Micros>,
}

#[derive(Clone, Debug)]
struct ReferenceSource {
    settings: SourceSettings,
    counts: CountFacts,
    boundary: Option<Micros>,
    models: BTreeMap<u16, ClusterModel>,
}

/// (source, minute, page, event type) → (count, revenue).
pub type MinuteFacts = BTreeMap<(SourceId, Micros, EcoString, EcoString), (i64, i128)>;

/// Everything the log has said so far.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    users: BTreeMap<(SourceId, EcoString), ReferenceUser>,
    sources: BTreeMap<SourceId, ReferenceSource>,
    items: BTreeMap<EcoString, Arc<Item>>,
    products: BTreeMap<EcoString, Arc<Product>>,
    people: BTreeMap<i64, Arc<Person>>,
    occupancy: Occupancy,
    matrices: Matrices,
}

fn source(sources: &mut BTreeMap<SourceId, ReferenceSource>, id: SourceId) -> &mut ReferenceSource {
    sources.entry(id).or_insert_with(|| ReferenceSource {
        settings: SourceSettings::defaults(id),
        counts: CountFacts::default(),
        boundary: None,
        models: BTreeMap::new(),
    })
}

impl Reference {
    /// Applies batches in log order.
    pub fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            self.event(event);
        }
        for letter in &batch.dead_letters {
            let counts = &mut source(&mut self.sources, letter.source).counts;
            counts.received += 1;
            match letter.kind {
                DeadLetterKind::Quarantined => counts.quarantined += 1,
                _ => counts.rejected += 1,
            }
        }
        for control in &batch.controls {
            self.control(control);
        }
        if let Some(tick) = batch.tick {
            self.occupancy.tick(tick);
        }
    }

    /// Spaces, and who was in them.
    pub fn occupancy(&self) -> &Occupancy {
        &self.occupancy
    }

    /// Label matrices.
    pub fn matrices(&self) -> &Matrices {
        &self.matrices
    }

    fn event(&mut self, event: &Event) {
        let source = source(&mut self.sources, event.source);
        if let Some(stay) = event.stay {
            self.occupancy.row(event, stay, &mut source.counts);
            return;
        }
        source.counts.received += 1;
        if event.late || source.boundary.is_some_and(|boundary| event.time < boundary) {
            source.counts.late += 1;
            return;
        }
        let user = self.users.entry((event.source, event.user.clone())).or_default();
        if let Some(first) = user.payloads.get(&event.id) {
            source.counts.duplicate += 1;
            source.counts.conflict += u64::from(*first != event.payload_hash());
        } else if user.deleted.contains_key(&event.id) {
            source.counts.duplicate += 1;
        } else {
            source.counts.applied += 1;
            user.payloads.insert(event.id, event.payload_hash());
            user.open.push(event.clone());
        }
    }

    fn control(&mut self, control: &Control) {
        self.matrices.apply(control);
        let mut counts = CountFacts::default();
        match control {
            Control::Reopen(Reopen { source: id, .. })
            | Control::DeleteEvent { source: id, .. }
            | Control::Erase(EraseUser { source: id, .. }) => {
                self.occupancy.control(control, &mut source(&mut self.sources, *id).counts);
            }
            _ => self.occupancy.control(control, &mut counts),
        }
        match control {
            Control::Settings(settings) => source(&mut self.sources, settings.source).settings = settings.clone(),
            Control::DeleteEvent { source: id, id: event } => {
                let source = source(&mut self.sources, *id);
                for ((_, _), user) in self.users.iter_mut().filter(|((s, _), _)| s == id) {
                    if let Some(at) = user.open.iter().position(|e| e.id == *event) {
                        let gone = user.open.remove(at);
                        user.payloads.remove(&gone.id);
                        user.deleted.insert(gone.id, gone.time);
                        source.counts.deleted += 1;
                    }
                }
            }
            Control::Erase(erase) => {
                let source = source(&mut self.sources, erase.source);
                if let (true, Some(purged)) = (erase.user.is_empty(), &erase.purged) {
                    add_purged(&mut source.counts, purged);
                }
                if let Some(user) = self.users.remove(&(erase.source, erase.user.clone())) {
                    source.counts.deleted += (user.open.len() + user.sealed_events.iter().map(Vec::len).sum::<usize>()) as u64;
                }
                if let (true, Ok(id)) = (source.settings.context.is_some(), erase.user.parse()) {
                    self.people.remove(&id);
                }
            }
            Control::Model(model) => {
                let models = &mut source(&mut self.sources, model.source).models;
                let current = models.get(&model.clusters).map_or(0, |m| m.version);
                if model.version == current + 1 {
                    models.insert(model.clusters, model.clone());
                }
            }
            Control::Seal(seal) => self.seal(seal.source, seal.boundary),
            Control::Catalog(CatalogEntry::Item(item)) => drop(self.items.insert(item.asin.clone(), item.clone())),
            Control::Catalog(CatalogEntry::Product(product)) => drop(self.products.insert(product.parent_asin.clone(), product.clone())),
            Control::Catalog(CatalogEntry::Person(person)) => drop(self.people.insert(person.id, person.clone())),
            Control::Projection { .. }
            | Control::Space(_)
            | Control::SpaceRemoved { .. }
            | Control::SealFrom(_)
            | Control::SealStays(_)
            | Control::ReplaceStays(_)
            | Control::Reopen(_)
            | Control::Document { .. }
            | Control::Matrix(_)
            | Control::MatrixRemoved { .. }
            | Control::MatrixRows(_)
            | Control::MatrixModel(_)
            | Control::Removed
            | Control::ReplaceCold { .. }
            | Control::Partition(_)
            | Control::SkipRow { .. }
            | Control::Run { .. } => {}
        }
    }

    fn seal(&mut self, id: SourceId, boundary: Micros) {
        let source = source(&mut self.sources, id);
        source.boundary = Some(source.boundary.map_or(boundary, |b| b.max(boundary)));
        let limit = source.settings.session_limit;
        for ((_, _), user) in self.users.iter_mut().filter(|((s, _), _)| *s == id) {
            user.deleted.retain(|_, time| *time + limit >= boundary);
            let mut open = Vec::new();
            for session in cut(&user.open, &source.settings) {
                if session[session.len() - 1].time + limit < boundary {
                    user.sealed.push(fact(&session, true));
                    user.sealed_events.push(session);
                } else {
                    open.extend(session);
                }
            }
            user.payloads = open.iter().map(|e| (e.id, e.payload_hash())).collect();
            user.open = open;
        }
    }

    /// The sessions of every user that has any, in order; a session's number is its position here plus one.
    pub fn sessions(&self) -> BTreeMap<(SourceId, EcoString), Vec<SessionFact>> {
        let mut all = BTreeMap::new();
        for ((source, name), user) in &self.users {
            let mut sessions = user.sealed.clone();
            sessions.extend(cut(&user.open, &self.sources[source].settings).iter().map(|session| fact(session, false)));
            if !sessions.is_empty() {
                all.insert((*source, name.clone()), sessions);
            }
        }
        all
    }

    /// Every accepted event with the number of its session.
    pub fn events(&self) -> Vec<(Event, u32)> {
        let mut all = Vec::new();
        for ((source, _), user) in &self.users {
            let open = cut(&user.open, &self.sources[source].settings);
            for (number, session) in (1..).zip(user.sealed_events.iter().chain(&open)) {
                all.extend(session.iter().map(|event| (event.clone(), number)));
            }
        }
        all
    }

    /// The centroids in force.
    pub fn centroids(&self) -> BTreeMap<SourceId, Vec<[f64; 6]>> {
        let in_force = |s: &ReferenceSource| s.models.get(&s.settings.clusters).map(|m| m.centroids.clone());
        self.sources.iter().filter_map(|(id, source)| Some((*id, in_force(source)?))).collect()
    }

    pub fn catalog(&self) -> Vec<CatalogEntry> {
        let items = self.items.values().cloned().map(CatalogEntry::Item);
        let products = self.products.values().cloned().map(CatalogEntry::Product);
        items.chain(products).chain(self.people.values().cloned().map(CatalogEntry::Person)).collect()
    }

    pub fn category(&self, asin: &str) -> Option<EcoString> {
        let item = self.items.get(asin)?;
        let of_product = self.products.get(&item.parent_asin).and_then(|product| product.main_category.clone());
        of_product.or_else(|| item.category.clone())
    }

    /// The context of every user of a source that keeps them, expired or not.
    pub fn contexts(&self) -> Vec<ContextRow> {
        let mut rows = Vec::new();
        for ((source, name), user) in &self.users {
            let Some(settings) = self.sources[source].settings.context else { continue };
            let mut events: Vec<&Event> = user.open.iter().chain(user.sealed_events.iter().flatten()).collect();
            events.sort_by_key(|event| (event.time, event.id));
            let Some(last) = events.last() else { continue };
            let over = |boundary: Micros| user.open.is_empty() && boundary - last.time >= settings.ttl;
            if self.sources[source].boundary.is_some_and(over) {
                continue;
            }
            let run = last_run(&events, settings.ttl);
            let known: Vec<&Event> = events.iter().copied().filter(|event| self.category(&event.item).is_some()).collect();
            let known = if settings.renew_all { run.clone() } else { last_run(&known, settings.ttl) };
            let known_last = known.last().map(|event| event.time).filter(|time| last.time - time < settings.ttl);
            let mut categories = BTreeMap::new();
            for category in known.iter().filter(|_| known_last.is_some()).filter_map(|event| self.category(&event.item)) {
                *categories.entry(category).or_insert(0) += 1;
            }
            rows.push(ContextRow {
                source: *source,
                user: name.clone(),
                recent_items: run.iter().rev().take(settings.items as usize).map(|event| event.item.clone()).collect(),
                recent_categories: categories.into_iter().collect(),
                last_active: last.time,
                expires_at: last.time + settings.ttl,
                categories_expire_at: known_last.map_or(last.time, |time| time + settings.ttl),
            });
        }
        rows
    }

    /// Every row of every view, as followers have them; without the settings of sources.
    pub fn rows(&self) -> Vec<ViewRow> {
        let mut rows = Vec::new();
        rows.extend(self.events().into_iter().map(|(event, session)| {
            let Event { source, user, id, time, .. } = event;
            ViewRow::Event { source, user, id, time, session, content: Content::default() }
        }));
        for (key, sessions) in self.sessions() {
            rows.extend((1..).zip(&sessions).map(|(number, s)| ViewRow::Session {
                source: key.0,
                user: key.1.clone(),
                number,
                first_event: s.first_event,
                start: s.start,
                end: s.end,
                events: s.events as u32,
                views: s.views as u32,
                carts: s.carts as u32,
                transactions: s.transactions as u32,
                value: s.value,
            }));
        }
        let labels = self.labels();
        rows.extend(self.journeys().into_iter().map(|(key, journey)| {
            let cluster = labels.get(&key).copied();
            ViewRow::Journey { source: key.0, user: key.1, journey, cluster }
        }));
        for (source, centroids) in self.centroids() {
            let row = |(cluster, centroid)| ViewRow::Cluster { source, cluster, centroid: Features::of(centroid) };
            rows.extend((0..).zip(centroids).map(row));
        }
        rows.extend(self.minutes().into_iter().map(|((source, minute, page, event_type), (count, revenue))| ViewRow::Minute {
            source,
            minute,
            page,
            event_type,
            count,
            revenue,
        }));
        rows.extend(self.contexts().into_iter().map(|row| ViewRow::Context(Arc::new(row))));
        rows.extend(self.catalog().into_iter().map(row_of));
        rows
    }

    /// The journey of every user that has a session.
    pub fn journeys(&self) -> BTreeMap<(SourceId, EcoString), Journey> {
        let sum = |sessions: &Vec<SessionFact>| {
            let total = |part: fn(&SessionFact) -> i64| sessions.iter().map(part).sum();
            let value = sessions.iter().map(|s| s.value).sum();
            Journey::new(total(|s| s.views), total(|s| s.carts), total(|s| s.transactions), sessions.len() as i64, value)
        };
        self.sessions().iter().map(|(key, sessions)| (key.clone(), sum(sessions))).collect()
    }

    /// The cluster of every user whose source has a model in force.
    pub fn labels(&self) -> BTreeMap<(SourceId, EcoString), u16> {
        let mut labels = BTreeMap::new();
        for ((id, user), journey) in self.journeys() {
            let source = &self.sources[&id];
            if let Some(model) = source.models.get(&source.settings.clusters)
                && let Some(label) = nearest(&model.centroids, &journey.features(source.settings.transaction_value))
            {
                labels.insert((id, user), label);
            }
        }
        labels
    }

    /// Every cell that is not zero.
    pub fn minutes(&self) -> MinuteFacts {
        let mut cells = MinuteFacts::new();
        for user in self.users.values() {
            for event in user.open.iter().chain(user.sealed_events.iter().flatten()) {
                count_minute(&mut cells, event);
            }
        }
        cells
    }

    /// The settings in force and the last seal boundary of every source.
    pub fn sources(&self) -> impl Iterator<Item = (SourceId, &SourceSettings, Option<Micros>)> {
        self.sources.iter().map(|(id, source)| (*id, &source.settings, source.boundary))
    }

    pub fn counts(&self) -> BTreeMap<SourceId, CountFacts> {
        self.sources.iter().map(|(id, source)| (*id, source.counts)).collect()
    }

    /// The version of the model in force, for the number of clusters in force.
    pub fn model_versions(&self) -> BTreeMap<SourceId, u64> {
        let version = |s: &ReferenceSource| s.models.get(&s.settings.clusters).map_or(0, |m| m.version);
        self.sources.iter().map(|(id, source)| (*id, version(source))).collect()
    }

    /// The sealed events of one user, for an erasure: what views no longer hold.
    pub fn sealed_events(&self, source: SourceId, user: &str) -> Vec<Event> {
        self.users.get(&(source, EcoString::from(user))).map_or_else(Vec::new, |user| user.sealed_events.concat())
    }

    /// The same as they were counted per minute.
    pub fn sealed_minutes(&self, source: SourceId, user: &str) -> Vec<MinuteCount> {
        let mut cells = MinuteFacts::new();
        self.sealed_events(source, user).iter().for_each(|event| count_minute(&mut cells, event));
        let count = |((_, minute, page, event_type), (count, revenue))| MinuteCount { minute, page, event_type, count, revenue };
        cells.into_iter().map(count).collect()
    }

    /// Ids of all open events, for tests that delete some.
    pub fn open_ids(&self) -> BTreeSet<(SourceId, EventId)> {
        self.users.iter().flat_map(|((source, _), user)| user.open.iter().map(|e| (*source, e.id))).collect()
    }
}

/// The events at the end that follow one another by less than `ttl`.
fn last_run<'a>(events: &[&'a Event], ttl: Micros) -> Vec<&'a Event> {
    let mut run: Vec<&Event> = Vec::new();
    for event in events {
        if run.last().is_some_and(|before| event.time - before.time >= ttl) {
            run.clear();
        }
        run.push(event);
    }
    run
}

fn count_minute(cells: &mut MinuteFacts, event: &Event) {
    let key = (event.source, minute_of(event.time), event.page.clone(), event.event_type.clone());
    let cell = cells.entry(key).or_default();
    cell.0 += 1;
    cell.1 += i128::from(value_of(event));
}

fn value_of(event: &Event) -> i64 {
    if event.movement == Movement::Transaction { event.value.0 } else { 0 }
}

fn add_purged(counts: &mut CountFacts, purged: &Purged) {
    counts.applied += purged.applied;
    counts.duplicate += purged.duplicate;
    counts.conflict += purged.conflict;
    counts.late += purged.late;
    counts.quarantined += purged.quarantined;
    counts.rejected += purged.rejected;
    counts.deleted += purged.deleted;
    counts.received += purged.applied + purged.duplicate + purged.late + purged.quarantined + purged.rejected;
}

/// Sort, then walk.
fn cut(events: &[Event], settings: &SourceSettings) -> Vec<Vec<Event>> {
    let mut events = events.to_vec();
    events.sort_by_key(|e| (e.time, e.id));
    let mut sessions: Vec<Vec<Event>> = Vec::new();
    for event in events {
        let opens = sessions.last().is_none_or(|session| {
            let since = match settings.session_rule {
                SessionRule::FromFirst => session[0].time,
                SessionRule::Gap => session[session.len() - 1].time,
            };
            event.time - since > settings.session_limit
        });
        if opens {
            sessions.push(Vec::new());
        }
        sessions.last_mut().expect("just pushed").push(event);
    }
    sessions
}

fn fact(session: &[Event], sealed: bool) -> SessionFact {
    let count = |movement| session.iter().filter(|e| e.movement == movement).count() as i64;
    SessionFact {
        first_event: session[0].id,
        start: session[0].time,
        end: session[session.len() - 1].time,
        events: session.len() as u64,
        views: count(Movement::View),
        carts: count(Movement::Cart),
        transactions: count(Movement::Transaction),
        value: session.iter().map(|e| i128::from(value_of(e))).sum(),
        sealed,
    }
}
