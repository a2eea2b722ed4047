//! One worker's users: their open histories, and what was sealed of them.

use super::history::{History, OpenEvent};
use super::kinds::Kinds;
use super::rows::{UserDiff, open_journey, step};
use super::source::SourceState;
use crate::changes::{ChangeLog, View};
use crate::views::context::{ContextUpdate, Step};
use crate::views::journeys::{Journey, UserKey};
use crate::views::minutes::{MinuteUpdate, minute_of};
use desireline_records::{DeadLetterKind, Event, EventId, LogicalTime, Micros, Movement, SourceId};
use ecow::EcoString;
use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    pub item: EcoString,
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
            item: event.item.clone(),
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

/// Changes of minutes: count and revenue by (source, minute, kind).
type MinuteCells = HashMap<(SourceId, Micros, u32), (i64, i128)>;

/// What one batch changed, for the views behind this one.
#[derive(Default)]
pub struct Outcome {
    pub journeys: Vec<(UserKey, Journey)>,
    minutes: MinuteCells,
    pub sealed_minutes: Vec<MinuteUpdate>,
    pub contexts: Vec<ContextUpdate>,
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
    /// Kept empty between batches, for its allocation.
    minutes: MinuteCells,
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
            minutes: MinuteCells::default(),
        }
    }

    /// Where the changes of the next batch are noted.
    pub fn outcome(&mut self) -> Outcome {
        Outcome { minutes: std::mem::take(&mut self.minutes), ..Outcome::default() }
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

    /// The slots of all users of a source.
    pub(super) fn slots_of(&self, source: SourceId) -> Vec<u32> {
        let of_source = |slot: &u32| self.users[*slot as usize].source == source;
        self.table.iter().copied().filter(of_source).collect()
    }

    /// Users without a trace are dropped between batches, so that the views behind can still name them.
    pub(super) fn drop_if_gone(&mut self, slot: u32) {
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
        let mut places: Option<HashMap<EventId, u32>> = changes.follows(View::Events).then(HashMap::new);
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
            if let Some(places) = &mut places {
                places.insert(row.id, row.row);
            }
            if source.settings.context.is_some() {
                let event = Step { time: row.time, id: row.id, item: row.item.clone() };
                out.contexts.push(ContextUpdate::Seen { source: source_id, slot, event });
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
        let followed = UserDiff::before(user, &self.kinds, fresh[0].time, changes);
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
            diff.after(user, &self.kinds, time, changes, |id| places.as_ref()?.get(&id).copied());
        }
    }

    /// Takes events of a user back and keeps every count right. Returns them.
    pub(super) fn take_back(
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
        let followed = UserDiff::before(user, &self.kinds, Micros::MIN, changes);
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
            if source.settings.context.is_some() {
                out.contexts.push(ContextUpdate::Retracted { source: source_id, slot, time: event.time, id: event.id });
            }
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
            diff.after(user, &self.kinds, time, changes, |_| None);
        }
        removed
    }

    /// The minute changes of a batch, by text.
    pub fn minute_updates(&mut self, out: &mut Outcome) -> Vec<MinuteUpdate> {
        let mut updates = std::mem::take(&mut out.sealed_minutes);
        updates.extend(out.minutes.drain().filter(|(_, cell)| *cell != (0, 0)).map(|((source, minute, kind), (count, revenue))| {
            let kind = self.kinds.get(kind);
            MinuteUpdate { source, minute, page: kind.page.clone(), event_type: kind.event_type.clone(), count, revenue }
        }));
        self.minutes = std::mem::take(&mut out.minutes);
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
