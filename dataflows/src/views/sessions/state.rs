//! One worker's users: their open histories, what was sealed of them, and the counts of every source.

use super::history::{Cut, History, OpenEvent};
use super::kinds::Kinds;
use crate::changes::{ChangeLog, View, ViewRow};
use crate::views::journeys::{Journey, UserKey};
use crate::views::minutes::{MinuteUpdate, minute_of};
use desireline_records::{
    ColdPart, Control, DeadLetterKind, EraseUser, Event, EventId, LogicalTime, Micros, Movement, Purged, Seal, SealedSession, SourceId,
    SourceSettings,
};
use ecow::EcoString;
use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An event on its way to the worker that keeps its user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub source: SourceId,
    pub movement: Movement,
    pub late: bool,
    /// The position in its batch: log order.
    pub row: u32,
    pub payload: u32,
    pub time: Micros,
    pub id: EventId,
    pub value: i64,
    pub hash: u64,
    pub user: EcoString,
    pub page: EcoString,
    pub event_type: EcoString,
}

impl Row {
    pub fn of(event: &Event, row: u32, hash: u64) -> Self {
        Self {
            source: event.source,
            movement: event.movement,
            late: event.late,
            row,
            payload: event.payload_hash(),
            time: event.time,
            id: event.id,
            value: if event.movement == Movement::Transaction { event.value.0 } else { 0 },
            hash,
            user: event.user.clone(),
            page: event.page.clone(),
            event_type: event.event_type.clone(),
        }
    }
}

/// What remains in memory of a user's sealed sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    pub events: u64,
    pub journey: Journey,
}

#[derive(Debug, Default)]
pub struct User {
    pub source: SourceId,
    pub hash: u64,
    pub name: EcoString,
    pub history: History,
    pub sealed: Option<Box<Sealed>>,
    /// Ids of deleted events and their times, until their part of the history is sealed.
    pub deleted: Option<Box<HashMap<EventId, Micros>>>,
}

impl User {
    pub fn sealed_sessions(&self) -> u64 {
        self.sealed.as_ref().map_or(0, |s| s.journey.sessions as u64)
    }

    fn is_gone(&self) -> bool {
        self.history.is_empty() && self.sealed.is_none() && self.deleted.is_none()
    }
}

/// Counts of one source on one worker; they add up over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    pub applied: u64,
    pub duplicate: u64,
    pub conflict: u64,
    pub late: u64,
    pub quarantined: u64,
    pub rejected: u64,
    pub deleted: u64,
    /// Rows that were not marked late although their part of the history is sealed: always 0 unless an invariant broke.
    pub late_unmarked: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.late += other.late;
        self.quarantined += other.quarantined;
        self.rejected += other.rejected;
        self.deleted += other.deleted;
        self.late_unmarked += other.late_unmarked;
    }

    fn add_purged(&mut self, purged: &Purged) {
        self.applied += purged.applied;
        self.duplicate += purged.duplicate;
        self.conflict += purged.conflict;
        self.late += purged.late;
        self.quarantined += purged.quarantined;
        self.rejected += purged.rejected;
        self.deleted += purged.deleted;
        self.received += purged.applied + purged.duplicate + purged.late + purged.quarantined + purged.rejected;
    }
}

/// What a worker knows of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState {
    pub settings: SourceSettings,
    pub counts: Counts,
    /// Users with at least one session, open or sealed.
    pub users: u64,
    pub open_sessions: u64,
    pub open_events: u64,
    pub sealed_sessions: u64,
    pub boundary: Option<Micros>,
    pub cold: Vec<ColdPart>,
    /// Users erased, and when: cold rows from before do not count, until the parts have been rewritten.
    pub erased: BTreeMap<EcoString, LogicalTime>,
}

impl SourceState {
    fn new(source: SourceId) -> Self {
        Self {
            settings: SourceSettings::defaults(source),
            counts: Counts::default(),
            users: 0,
            open_sessions: 0,
            open_events: 0,
            sealed_sessions: 0,
            boundary: None,
            cold: Vec::new(),
            erased: BTreeMap::new(),
        }
    }

    pub fn cut(&self) -> Cut {
        Cut { rule: self.settings.session_rule, limit: self.settings.session_limit }
    }
}

/// What one batch changed, for the views behind this one.
#[derive(Default)]
pub struct Outcome {
    pub journeys: Vec<(UserKey, Journey)>,
    minutes: HashMap<(SourceId, Micros, u32), (i64, i128)>,
    pub sealed_minutes: Vec<MinuteUpdate>,
    /// Batch positions of rows that were duplicates.
    pub duplicates: Vec<u32>,
    /// Batch positions of rows that were late.
    pub late: Vec<u32>,
}

/// How many buckets listings divide the key hashes into.
pub const BUCKETS: usize = 256;

pub fn bucket_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

pub struct SessionsState {
    pub users: Vec<User>,
    free: Vec<u32>,
    gone: Vec<u32>,
    table: HashTable<u32>,
    /// Slots by the top byte of the key hash, so that listings need not sort everybody.
    buckets: Vec<Vec<u32>>,
    pub kinds: Kinds,
    pub sources: BTreeMap<SourceId, SourceState>,
    pub max_open_events: usize,
    /// Re-cuts of users with more open events than `max_open_events`.
    pub expensive_recuts: u64,
    /// This worker and how many there are.
    pub worker: usize,
    pub peers: usize,
    order: Vec<u64>,
}

impl SessionsState {
    pub fn new(worker: usize, peers: usize, max_open_events: usize) -> Self {
        Self {
            users: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
            table: HashTable::new(),
            buckets: vec![Vec::new(); BUCKETS],
            kinds: Kinds::default(),
            sources: BTreeMap::new(),
            max_open_events,
            expensive_recuts: 0,
            worker,
            peers,
            order: Vec::new(),
        }
    }

    pub fn owns(&self, hash: u64) -> bool {
        hash % self.peers as u64 == self.worker as u64
    }

    pub fn source(&mut self, source: SourceId) -> &mut SourceState {
        self.sources.entry(source).or_insert_with(|| SourceState::new(source))
    }

    pub fn find(&self, hash: u64, source: SourceId, user: &str) -> Option<u32> {
        self.table.find(hash, |slot| same(&self.users[*slot as usize], hash, source, user)).copied()
    }

    pub fn bucket(&self, bucket: usize) -> &[u32] {
        &self.buckets[bucket]
    }

    pub fn user_count(&self) -> usize {
        self.table.len()
    }

    fn slot(&mut self, hash: u64, source: SourceId, user: &EcoString) -> u32 {
        if let Some(slot) = self.find(hash, source, user) {
            return slot;
        }
        let fresh = User { source, hash, name: user.clone(), ..User::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.users[slot as usize] = fresh;
                slot
            }
            None => {
                self.users.push(fresh);
                (self.users.len() - 1) as u32
            }
        };
        let users = &self.users;
        self.table.insert_unique(hash, slot, |slot| users[*slot as usize].hash);
        self.buckets[bucket_of(hash)].push(slot);
        slot
    }

    /// Users without a trace are dropped between batches, so that the views behind can still name them.
    fn drop_if_gone(&mut self, slot: u32) {
        if self.users[slot as usize].is_gone() {
            self.gone.push(slot);
        }
    }

    /// Frees the slots of users that are gone. Called before each batch.
    pub fn reap(&mut self) {
        let mut gone = std::mem::take(&mut self.gone);
        gone.sort_unstable();
        gone.dedup();
        gone.into_iter().for_each(|slot| self.free_slot(slot));
    }

    fn free_slot(&mut self, slot: u32) {
        let user = &self.users[slot as usize];
        if !user.is_gone() {
            return;
        }
        let hash = user.hash;
        if let Ok(entry) = self.table.find_entry(hash, |s| *s == slot) {
            entry.remove();
        }
        let bucket = &mut self.buckets[bucket_of(hash)];
        if let Some(at) = bucket.iter().position(|s| *s == slot) {
            bucket.swap_remove(at);
        }
        self.users[slot as usize] = User::default();
        self.free.push(slot);
    }

    /// Counts the dead letters of a batch. Called on one worker only.
    pub fn count_dead_letters(&mut self, letters: impl Iterator<Item = (SourceId, DeadLetterKind)>) {
        for (source, kind) in letters {
            let counts = &mut self.source(source).counts;
            counts.received += 1;
            match kind {
                DeadLetterKind::Quarantined => counts.quarantined += 1,
                DeadLetterKind::Malformed | DeadLetterKind::Invalid | DeadLetterKind::Late => counts.rejected += 1,
            }
        }
    }

    /// Applies the rows of one batch: one pass per user.
    pub fn apply(&mut self, rows: &[Row], time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        for (at, row) in rows.iter().enumerate() {
            let slot = self.slot(row.hash, row.source, &row.user);
            order.push((u64::from(slot) << 32) | at as u64);
        }
        order.sort_unstable();
        let mut fresh = Vec::new();
        for group in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            let slot = (group[0] >> 32) as u32;
            self.apply_user(slot, group.iter().map(|g| &rows[(*g & 0xffff_ffff) as usize]), &mut fresh, time, changes, out);
        }
        self.order = order;
    }

    fn apply_user<'r>(
        &mut self,
        slot: u32,
        rows: impl Iterator<Item = &'r Row>,
        fresh: &mut Vec<OpenEvent>,
        time: LogicalTime,
        changes: &mut ChangeLog,
        out: &mut Outcome,
    ) {
        fresh.clear();
        let user = &mut self.users[slot as usize];
        let source_id = user.source;
        let source = self.sources.entry(source_id).or_insert_with(|| SourceState::new(source_id));
        let mut journey = Journey::default();
        let mut value = 0i128;
        let mut seen: Option<HashMap<EventId, u32>> = None;
        for row in rows {
            source.counts.received += 1;
            let behind = source.boundary.is_some_and(|boundary| row.time < boundary);
            if row.late || behind {
                source.counts.late += 1;
                source.counts.late_unmarked += u64::from(!row.late);
                out.late.push(row.row);
                continue;
            }
            if fresh.len() == SEEN_ABOVE && seen.is_none() {
                seen = Some(fresh.iter().map(|e: &OpenEvent| (e.id, e.payload)).collect());
            }
            if let Some(conflict) = known(user, fresh, seen.as_ref(), row) {
                source.counts.duplicate += 1;
                source.counts.conflict += u64::from(conflict);
                out.duplicates.push(row.row);
                continue;
            }
            source.counts.applied += 1;
            let kind = self.kinds.acquire(&row.page, &row.event_type, row.movement);
            fresh.push(OpenEvent { time: row.time, id: row.id, value: row.value, kind, payload: row.payload });
            if let Some(seen) = &mut seen {
                seen.insert(row.id, row.payload);
            }
            step(&mut journey, row.movement, 1);
            value += i128::from(row.value);
            let cell = out.minutes.entry((source_id, minute_of(row.time), kind)).or_default();
            cell.0 += 1;
            cell.1 += i128::from(row.value);
        }
        if fresh.is_empty() {
            self.drop_if_gone(slot);
            return;
        }
        if fresh.len() > 1 {
            fresh.sort_unstable_by_key(|e| (e.time, e.id));
        }
        let cut = source.cut();
        let followed = changes.sessions.then(|| SessionDiff::before(user, &self.kinds, fresh[0].time));
        let had = user.history.sessions();
        if had == 0 && user.sealed.is_none() {
            source.users += 1;
        }
        user.history.insert(fresh, cut);
        let sessions = user.history.sessions();
        source.open_events += fresh.len() as u64;
        source.open_sessions = source.open_sessions + sessions as u64 - had as u64;
        self.expensive_recuts += u64::from(user.history.events().len() > self.max_open_events);
        journey.sessions = sessions as i64 - had as i64;
        journey.set_value(value);
        out.journeys.push((UserKey { source: source_id, slot }, journey));
        if let Some(diff) = followed {
            diff.after(user, &self.kinds, time, changes);
        }
    }

    /// Takes events of a user back and keeps every count right. Returns them.
    fn take_back(
        &mut self,
        slot: u32,
        pick: impl FnMut(&OpenEvent) -> bool,
        time: LogicalTime,
        changes: &mut ChangeLog,
        out: &mut Outcome,
    ) -> Vec<OpenEvent> {
        let user = &mut self.users[slot as usize];
        let source_id = user.source;
        let source = self.sources.entry(source_id).or_insert_with(|| SourceState::new(source_id));
        let followed = changes.sessions.then(|| SessionDiff::before(user, &self.kinds, Micros::MIN));
        let had = user.history.sessions();
        let removed = user.history.remove(pick, source.cut());
        if removed.is_empty() {
            return removed;
        }
        let mut journey = Journey::default();
        let mut value = 0i128;
        for event in &removed {
            step(&mut journey, self.kinds.movement(event.kind), -1);
            value -= i128::from(event.value);
            let cell = out.minutes.entry((source_id, minute_of(event.time), event.kind)).or_default();
            cell.0 -= 1;
            cell.1 -= i128::from(event.value);
            self.kinds.release(event.kind);
        }
        let sessions = user.history.sessions();
        journey.sessions = sessions as i64 - had as i64;
        journey.set_value(value);
        out.journeys.push((UserKey { source: source_id, slot }, journey));
        source.open_events -= removed.len() as u64;
        source.open_sessions = source.open_sessions + sessions as u64 - had as u64;
        source.counts.deleted += removed.len() as u64;
        if sessions == 0 && user.sealed.is_none() {
            source.users -= 1;
        }
        if let Some(diff) = followed {
            diff.after(user, &self.kinds, time, changes);
        }
        removed
    }

    /// Applies the controls of one batch, in order. Deletions that follow one another share one pass over the users.
    pub fn control(&mut self, controls: &[Control], time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        let mut deletions: BTreeMap<SourceId, Vec<EventId>> = BTreeMap::new();
        for control in controls {
            if let Control::DeleteEvent { source, id } = control {
                deletions.entry(*source).or_default().push(*id);
                continue;
            }
            self.delete(std::mem::take(&mut deletions), time, changes, out);
            match control {
                Control::Settings(settings) => self.set(settings, time, changes, out),
                Control::Erase(erase) => self.erase(erase, time, changes, out),
                Control::Seal(seal) => self.seal(seal),
                Control::ReplaceCold { source, removed, added } => self.replace_cold(*source, removed, added),
                Control::DeleteEvent { .. } | Control::Model(_) | Control::Partition(_) | Control::SkipRow { .. } | Control::Run { .. } => {
                }
            }
        }
        self.delete(deletions, time, changes, out);
    }

    fn slots_of(&self, source: SourceId) -> Vec<u32> {
        let of_source = |slot: &u32| self.users[*slot as usize].source == source;
        self.table.iter().copied().filter(of_source).collect()
    }

    fn set(&mut self, settings: &SourceSettings, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        let source = self.source(settings.source);
        let before = source.cut();
        source.settings = settings.clone();
        let cut = source.cut();
        if before == cut {
            return;
        }
        for slot in self.slots_of(settings.source) {
            let user = &mut self.users[slot as usize];
            let followed = changes.sessions.then(|| SessionDiff::before(user, &self.kinds, Micros::MIN));
            let had = user.history.sessions() as i64;
            user.history.recut_all(cut);
            let sessions = user.history.sessions() as i64;
            if sessions != had {
                out.journeys.push((UserKey { source: settings.source, slot }, Journey::of_sessions(sessions - had)));
            }
            if let Some(diff) = followed {
                diff.after(user, &self.kinds, time, changes);
            }
            let source = self.source(settings.source);
            source.open_sessions = (source.open_sessions as i64 + sessions - had) as u64;
        }
    }

    fn delete(&mut self, deletions: BTreeMap<SourceId, Vec<EventId>>, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        for (source, mut ids) in deletions {
            ids.sort_unstable();
            for slot in self.slots_of(source) {
                let hit = |e: &OpenEvent| ids.binary_search(&e.id).is_ok();
                if !self.users[slot as usize].history.events().iter().any(hit) {
                    continue;
                }
                let removed = self.take_back(slot, hit, time, changes, out);
                let deleted = self.users[slot as usize].deleted.get_or_insert_default();
                deleted.extend(removed.iter().map(|e| (e.id, e.time)));
            }
        }
    }

    fn erase(&mut self, erase: &EraseUser, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        if erase.user.is_empty() {
            // Carried out physically: the rows are gone from the log, only their counts remain.
            if let (Some(purged), 0) = (&erase.purged, self.worker) {
                self.source(erase.source).counts.add_purged(purged);
            }
            return;
        }
        self.source(erase.source).erased.insert(erase.user.clone(), time);
        let hash = desireline_records::user_hash(erase.source, &erase.user);
        if !self.owns(hash) {
            return;
        }
        out.sealed_minutes.extend(erase.sealed_minutes.iter().map(|cell| MinuteUpdate::retracting(erase.source, cell)));
        if changes.sessions {
            for s in &erase.sealed_sessions {
                changes.push(View::Sessions, time, sealed_row(erase, s), -1);
            }
        }
        let Some(slot) = self.find(hash, erase.source, &erase.user) else { return };
        let sealed = self.users[slot as usize].sealed.take();
        self.users[slot as usize].deleted = None;
        let open = !self.users[slot as usize].history.is_empty();
        self.take_back(slot, |_| true, time, changes, out);
        if let Some(sealed) = sealed {
            out.journeys.push((UserKey { source: erase.source, slot }, sealed.journey.negated()));
            let source = self.source(erase.source);
            source.sealed_sessions -= sealed.journey.sessions as u64;
            source.counts.deleted += sealed.events;
            source.users -= u64::from(!open);
        }
        self.drop_if_gone(slot);
    }

    fn seal(&mut self, seal: &Seal) {
        let source = self.source(seal.source);
        source.boundary = Some(source.boundary.map_or(seal.boundary, |b| b.max(seal.boundary)));
        source.cold.extend(seal.parts.iter().cloned());
        let limit = source.settings.session_limit;
        for slot in self.slots_of(seal.source) {
            let user = &mut self.users[slot as usize];
            if let Some(deleted) = &mut user.deleted {
                deleted.retain(|_, time| *time + limit >= seal.boundary);
                if deleted.is_empty() {
                    user.deleted = None;
                }
            }
            let sessions = sealable(&user.history, limit, seal.boundary);
            if sessions > 0 {
                let removed = user.history.seal(sessions);
                let sealed = user.sealed.get_or_insert_default();
                sealed.events += removed.len() as u64;
                let mut journey = Journey::of_sessions(sessions as i64);
                let mut value = 0i128;
                for event in &removed {
                    step(&mut journey, self.kinds.movement(event.kind), 1);
                    value += i128::from(event.value);
                    self.kinds.release(event.kind);
                }
                journey.set_value(value);
                sealed.journey.add(&journey);
                let source = self.source(seal.source);
                source.open_events -= removed.len() as u64;
                source.open_sessions -= sessions as u64;
                source.sealed_sessions += sessions as u64;
            }
            self.drop_if_gone(slot);
        }
    }

    fn replace_cold(&mut self, source: SourceId, removed: &[EcoString], added: &[ColdPart]) {
        let cold = &mut self.source(source).cold;
        cold.retain(|part| !removed.contains(&part.name));
        cold.extend(added.iter().cloned());
    }

    /// The minute changes of a batch, by text.
    pub fn minute_updates(&self, out: &mut Outcome) -> Vec<MinuteUpdate> {
        let mut updates = std::mem::take(&mut out.sealed_minutes);
        updates.extend(out.minutes.drain().filter(|(_, cell)| *cell != (0, 0)).map(|((source, minute, kind), (count, revenue))| {
            let kind = self.kinds.get(kind);
            MinuteUpdate { source, minute, page: kind.page.clone(), event_type: kind.event_type.clone(), count, revenue }
        }));
        updates
    }

    /// Puts an imported user in place and returns its key and whole journey.
    pub fn restore(&mut self, row: super::UserRow) -> (UserKey, Journey) {
        let hash = desireline_records::user_hash(row.source, &row.user);
        let slot = self.slot(hash, row.source, &row.user);
        let events: Vec<OpenEvent> = row
            .events
            .iter()
            .map(|e| OpenEvent {
                time: e.time,
                id: e.id,
                value: e.value,
                kind: self.kinds.acquire(&e.page, &e.event_type, e.movement),
                payload: e.payload,
            })
            .collect();
        let cut = self.source(row.source).cut();
        let user = &mut self.users[slot as usize];
        user.history.insert(&events, cut);
        user.sealed = row.sealed.map(Box::new);
        let (sessions, sealed) = (user.history.sessions() as u64, user.sealed_sessions());
        let source = self.sources.entry(row.source).or_insert_with(|| SourceState::new(row.source));
        source.users += u64::from(sessions + sealed > 0);
        source.open_sessions += sessions;
        source.open_events += events.len() as u64;
        source.sealed_sessions += sealed;
        user.deleted = (!row.deleted.is_empty()).then(|| Box::new(row.deleted.into_iter().collect()));
        let mut journey = user.sealed.as_ref().map_or_else(Journey::default, |s| s.journey);
        journey.add(&open_journey(&user.history, &self.kinds));
        (UserKey { source: row.source, slot }, journey)
    }
}

fn same(user: &User, hash: u64, source: SourceId, name: &str) -> bool {
    user.hash == hash && user.source == source && user.name == name
}

/// With more new events of one user in a batch than this, duplicates among them are looked up by hash.
const SEEN_ABOVE: usize = 24;

/// Whether the row repeats a known event, and if so whether it contradicts it.
fn known(user: &User, fresh: &[OpenEvent], seen: Option<&HashMap<EventId, u32>>, row: &Row) -> Option<bool> {
    if let Some(event) = user.history.find(row.id) {
        return Some(event.payload != row.payload);
    }
    let payload = match seen {
        Some(seen) => seen.get(&row.id).copied(),
        None => fresh.iter().find(|e| e.id == row.id).map(|e| e.payload),
    };
    if let Some(payload) = payload {
        return Some(payload != row.payload);
    }
    user.deleted.as_ref().filter(|deleted| deleted.contains_key(&row.id)).map(|_| false)
}

/// Moves a journey by one event, without its value.
pub fn step(journey: &mut Journey, movement: Movement, sign: i64) {
    match movement {
        Movement::View => journey.views += sign,
        Movement::Cart => journey.carts += sign,
        Movement::Transaction => journey.transactions += sign,
        Movement::None => {}
    }
}

/// How many sessions from the front ended long enough before the boundary.
pub fn sealable(history: &History, limit: Micros, boundary: Micros) -> usize {
    let ended = |n: &usize| history.session(*n).last().is_some_and(|e| e.time + limit < boundary);
    (0..history.sessions()).take_while(ended).count()
}

/// The sum over the open sessions.
pub fn open_journey(history: &History, kinds: &Kinds) -> Journey {
    let mut journey = path(history.events(), kinds);
    journey.sessions = history.sessions() as i64;
    journey
}

/// The sum over the events of one session.
pub fn path(events: &[OpenEvent], kinds: &Kinds) -> Journey {
    let mut journey = Journey::of_sessions(1);
    let mut value = 0i128;
    for event in events {
        step(&mut journey, kinds.movement(event.kind), 1);
        value += i128::from(event.value);
    }
    journey.set_value(value);
    journey
}

/// The session rows that a change may touch, before and after it.
struct SessionDiff {
    rows: Vec<ViewRow>,
    from: usize,
}

impl SessionDiff {
    fn before(user: &User, kinds: &Kinds, time: Micros) -> Self {
        let from = user.history.first_touched(time);
        Self { rows: session_rows(user, kinds, from), from }
    }

    fn after(self, user: &User, kinds: &Kinds, time: LogicalTime, changes: &mut ChangeLog) {
        let before: BTreeSet<ViewRow> = self.rows.into_iter().collect();
        let after: BTreeSet<ViewRow> = session_rows(user, kinds, self.from).into_iter().collect();
        for row in before.difference(&after) {
            changes.push(View::Sessions, time, row.clone(), -1);
        }
        for row in after.difference(&before) {
            changes.push(View::Sessions, time, row.clone(), 1);
        }
    }
}

fn sealed_row(erase: &EraseUser, session: &SealedSession) -> ViewRow {
    ViewRow::Session {
        source: erase.source,
        user: erase.user.clone(),
        first_event: session.first_event,
        start: session.start,
        end: session.end,
        events: session.events,
        views: session.views,
        carts: session.carts,
        transactions: session.transactions,
        value: session.value,
    }
}

/// The open sessions of a user as rows of the view, from a number on.
pub fn session_rows(user: &User, kinds: &Kinds, from: usize) -> Vec<ViewRow> {
    (from..user.history.sessions())
        .map(|n| {
            let events = user.history.session(n);
            let path = path(events, kinds);
            ViewRow::Session {
                source: user.source,
                user: user.name.clone(),
                first_event: events[0].id,
                start: events[0].time,
                end: events[events.len() - 1].time,
                events: events.len() as u32,
                views: path.views as u32,
                carts: path.carts as u32,
                transactions: path.transactions as u32,
                value: path.value(),
            }
        })
        .collect()
}
