//! How one worker answers peeks from its state, between two batches.

mod histories;

use super::worker::Views;
use crate::changes::{ContextRow, View, ViewRow, Views as ViewSet};
use crate::query::{Answer, OpenSession, Query, SealableSession, UserAnswer, UserQuery, WorkerStats};
use crate::state;
use crate::views::clusters;
use crate::views::context;
use crate::views::journeys::{self, UserKey};
use crate::views::labels;
use crate::views::occupancy;
use crate::views::sessions::SessionsState;
use crate::views::sessions::rows::{event_rows, path, sealable, session_rows};
use crate::views::sessions::state::{BUCKETS, User, bucket_of};
use desireline_records::{ColdPart, EventId, Micros, SourceId};
use ecow::EcoString;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn answer(views: &mut Views, query: &Query) -> Answer {
    match query {
        Query::Users(query) => users(views, query),
        Query::Clusters { source } => cluster_sizes(views, *source),
        Query::Members { source } => members(views, *source),
        Query::Minutes { source, from } => Answer::Minutes(views.minutes.borrow().since(*source, *from).collect()),
        Query::Overview => overview(views),
        Query::Sample { source, users } => sample(views, *source, *users),
        Query::Sealable { source, boundary, hash_from, hash_to } => {
            sealable_sessions(&views.sessions.borrow(), *source, *boundary, *hash_from, *hash_to)
        }
        Query::FindEvent { source, id } => {
            Answer::FindEvent(find_event(&views.sessions.borrow(), *source, *id) || views.devices.borrow().has(*source, *id))
        }
        Query::OpenEvents { source, user } => open_events(&views.sessions.borrow(), *source, user),
        Query::Context { source, user } => Answer::Context(self::context(views, *source, user)),
        Query::Occupancy(query) => {
            let answer = occupancy::answer::answer(&views.devices.borrow(), &views.cells.borrow(), &views.sessions.borrow(), query);
            Answer::Occupancy(answer)
        }
        Query::Histories(query) => histories::histories(views, query),
        Query::All(queries) => Answer::All(queries.iter().map(|query| answer(views, query)).collect()),
        Query::Labels(query) => Answer::Labels(labels::query::answer(&views.labels.borrow(), query)),
        Query::Export => {
            let mut rows = state::export(
                &views.sessions.borrow(),
                &views.minutes.borrow(),
                &views.clusters.borrow(),
                &views.contexts.borrow(),
                &views.catalog.borrow(),
            );
            rows.extend(state::export_wifi(&views.sessions.borrow(), &views.devices.borrow(), &views.cells.borrow()));
            rows.extend(state::export_labels(&views.labels.borrow(), views.sessions.borrow().worker == 0));
            Answer::Export(rows)
        }
    }
}

fn users(views: &mut Views, query: &UserQuery) -> Answer {
    let sessions = views.sessions.clone();
    let sessions = sessions.borrow();
    let (slots, looked_to) = match &query.user {
        Some(user) => (find_users(&sessions, query.source, user), None),
        None => list_users(&sessions, query),
    };
    let users: Vec<UserAnswer> = slots.into_iter().map(|slot| user_answer(views, &sessions, slot)).collect();
    let cold = cold_parts_of(users.iter(), &sessions);
    Answer::Users { users, looked_to, cold }
}

/// The cold parts of the sources of users with sealed sessions.
fn cold_parts_of<'a>(users: impl Iterator<Item = &'a UserAnswer>, sessions: &SessionsState) -> Vec<(SourceId, Vec<ColdPart>)> {
    let sealed: BTreeSet<SourceId> = users.filter(|user| user.sealed_sessions > 0).map(|user| user.source).collect();
    sealed.into_iter().filter_map(|source| Some((source, sessions.sources.get(&source)?.cold.clone()))).collect()
}

fn find_users(sessions: &SessionsState, source: Option<SourceId>, user: &EcoString) -> Vec<u32> {
    let sources = sessions.sources.keys().filter(|s| source.is_none_or(|source| source == **s));
    let mut slots: Vec<u32> = sources
        .filter_map(|s| sessions.find(desireline_records::user_hash(*s, user), *s, user))
        .filter(|s| has_rows(sessions, *s))
        .collect();
    slots.sort_unstable_by_key(|slot| sessions.users[*slot as usize].hash);
    slots
}

fn has_rows(sessions: &SessionsState, slot: u32) -> bool {
    let user = &sessions.users[slot as usize];
    !user.history.is_empty() || user.sealed.is_some()
}

/// Users in order of (key hash, source, name), bucket by bucket, until there is enough.
fn list_users(sessions: &SessionsState, query: &UserQuery) -> (Vec<u32>, Option<u64>) {
    let first = query.after.as_ref().map_or(0, |after| bucket_of(after.0));
    let (mut found, mut rows, mut looked, mut last_hash) = (Vec::new(), 0, 0, None);
    for bucket in first..BUCKETS {
        let mut slots: Vec<u32> = sessions.bucket(bucket).to_vec();
        slots.sort_unstable_by_key(|slot| order(&sessions.users[*slot as usize]));
        for slot in slots {
            let user = &sessions.users[slot as usize];
            if query.after.as_ref().is_some_and(|(hash, source, name)| order(user) <= (*hash, *source, name)) {
                continue;
            }
            let enough = rows >= query.sessions_max.max(1) || looked >= query.users_max.max(1);
            if enough && last_hash != Some(user.hash) {
                return (found, Some(user.hash));
            }
            last_hash = Some(user.hash);
            looked += 1;
            if query.source.is_none_or(|source| source == user.source) && has_rows(sessions, slot) && overlaps(user, query) {
                rows += user.history.sessions() + user.sealed_sessions() as usize;
                found.push(slot);
            }
        }
    }
    (found, None)
}

fn order(user: &User) -> (u64, SourceId, &EcoString) {
    (user.hash, user.source, &user.name)
}

/// Whether the user may have a session in the time range. Sealed sessions are not known here, so they may.
fn overlaps(user: &User, query: &UserQuery) -> bool {
    if query.from.is_none() && query.to.is_none() || user.sealed.is_some() {
        return true;
    }
    let (from, to) = (query.from.unwrap_or(Micros::MIN), query.to.unwrap_or(Micros::MAX));
    (0..user.history.sessions()).any(|n| {
        let events = user.history.session(n);
        events[0].time < to && events[events.len() - 1].time >= from
    })
}

fn user_answer(views: &mut Views, sessions: &SessionsState, slot: u32) -> UserAnswer {
    let user = &sessions.users[slot as usize];
    let key = UserKey { source: user.source, slot };
    let erased_at = sessions.sources.get(&user.source).and_then(|s| s.erased.get(&user.name)).copied().unwrap_or(0);
    UserAnswer {
        source: user.source,
        user: user.name.clone(),
        hash: user.hash,
        sealed_sessions: user.sealed_sessions(),
        erased_at,
        sessions: (0..user.history.sessions()).map(|n| open_session(sessions, user, n)).collect(),
        journey: journeys::read(&mut views.journeys, key),
        cluster: views.clusters.borrow().label(slot),
    }
}

fn open_session(sessions: &SessionsState, user: &User, number: usize) -> OpenSession {
    let events = user.history.session(number);
    OpenSession {
        first_event: events[0].id,
        start: events[0].time,
        end: events[events.len() - 1].time,
        events: events.len() as u64,
        path: path(events, &sessions.kinds),
    }
}

fn cluster_sizes(views: &Views, source: SourceId) -> Answer {
    let sessions = views.sessions.borrow();
    let clusters = views.clusters.borrow();
    let state = sessions.sources.get(&source);
    let model = state.and_then(|s| clusters.model(source, s.settings.clusters)).cloned();
    let count = model.as_ref().map_or(0, |m| m.centroids.len());
    let sizes = (0..count).map(|cluster| clusters.size(source, cluster as u16)).collect();
    Answer::Clusters { model, sizes, users: state.map_or(0, |s| s.users) }
}

fn members(views: &Views, source: SourceId) -> Answer {
    let sessions = views.sessions.borrow();
    let clusters = views.clusters.borrow();
    let mut members = Vec::new();
    for (slot, user) in sessions.users.iter().enumerate() {
        if user.source == source
            && let Some(label) = clusters.label(slot as u32)
        {
            members.push((user.name.clone(), label));
        }
    }
    Answer::Members(members)
}

fn overview(views: &Views) -> Answer {
    let sessions = views.sessions.borrow();
    let clusters = views.clusters.borrow();
    Answer::Overview {
        sources: sessions.sources.iter().map(|(source, state)| (*source, state.clone())).collect(),
        models: clusters.models().cloned().collect(),
        worker: WorkerStats {
            users: sessions.user_count(),
            kinds: sessions.kinds.count(),
            minute_cells: views.minutes.borrow().cells(),
            expensive_recuts: sessions.expensive_recuts,
            users_moved: clusters.moved,
            stale_models: clusters.stale_models,
            contexts: views.contexts.borrow().len(),
            labels: views.labels.borrow().counts(),
            wifi: occupancy::answer::stats(&views.devices.borrow(), &views.cells.borrow(), sessions.worker == 0),
            catalog: if sessions.worker == 0 { views.catalog.borrow().counts() } else { (0, 0, 0) },
        },
    }
}

fn sample(views: &mut Views, source: SourceId, limit: usize) -> Answer {
    let sessions = views.sessions.clone();
    let sessions = sessions.borrow();
    let transaction_value = sessions.sources.get(&source).is_some_and(|s| s.settings.transaction_value);
    let mut chosen: Vec<(u64, u32)> = Vec::new();
    for bucket in 0..BUCKETS {
        let of_source = sessions.bucket(bucket).iter().copied().filter(|slot| sessions.users[*slot as usize].source == source);
        chosen.extend(of_source.filter(|slot| has_rows(&sessions, *slot)).map(|slot| (sessions.users[slot as usize].hash, slot)));
        if chosen.len() >= limit {
            break;
        }
    }
    chosen.sort_unstable();
    chosen.truncate(limit);
    let by_slot: hashbrown::HashMap<u32, u64> = chosen.iter().map(|(hash, slot)| (*slot, *hash)).collect();
    let mut features = Vec::with_capacity(chosen.len());
    if chosen.len() * 4 > sessions.user_count() {
        journeys::scan(&mut views.journeys, source, |key, journey| {
            if let Some(hash) = by_slot.get(&key.slot) {
                features.push((*hash, journey.features(transaction_value)));
            }
        });
    } else {
        for (hash, slot) in &chosen {
            let journey = journeys::read(&mut views.journeys, UserKey { source, slot: *slot });
            features.push((*hash, journey.features(transaction_value)));
        }
    }
    Answer::Sample(features)
}

fn sealable_sessions(sessions: &SessionsState, source: SourceId, boundary: Micros, hash_from: u64, hash_to: u64) -> Answer {
    let Some(state) = sessions.sources.get(&source) else { return Answer::Sealable(Vec::new()) };
    let limit = state.settings.session_limit;
    let mut rows = Vec::new();
    for bucket in bucket_of(hash_from)..=bucket_of(hash_to) {
        for slot in sessions.bucket(bucket) {
            let user = &sessions.users[*slot as usize];
            if user.source != source || !(hash_from..=hash_to).contains(&user.hash) {
                continue;
            }
            for number in 0..sealable(&user.history, limit, boundary) {
                rows.push(SealableSession { user: user.name.clone(), hash: user.hash, session: open_session(sessions, user, number) });
            }
        }
    }
    rows.sort_by(|a, b| (a.hash, &a.user, a.session.start).cmp(&(b.hash, &b.user, b.session.start)));
    Answer::Sealable(rows)
}

fn find_event(sessions: &SessionsState, source: SourceId, id: EventId) -> bool {
    sessions.users.iter().any(|user| user.source == source && user.history.find(id).is_some())
}

fn open_events(sessions: &SessionsState, source: SourceId, user: &EcoString) -> Answer {
    let hash = desireline_records::user_hash(source, user);
    let slot = sessions.find(hash, source, user);
    let events = slot.map_or(&[][..], |slot| sessions.users[slot as usize].history.events());
    Answer::OpenEvents(events.iter().map(|e| (e.id, e.time)).collect())
}

fn context(views: &Views, source: SourceId, user: &EcoString) -> Option<ContextRow> {
    let sessions = views.sessions.borrow();
    let settings = sessions.sources.get(&source)?.settings.context?;
    let slot = sessions.find(desireline_records::user_hash(source, user), source, user)?;
    views.contexts.borrow().row(source, slot, user, &settings, &views.catalog.borrow())
}

/// The rows of some views on this worker, for a new follower. Contexts that have expired by the time of the log are left out; rows of
/// events come without what the events say, and only those that are open.
pub(super) fn snapshot(views: &mut Views, followed: ViewSet) -> Vec<ViewRow> {
    followed.iter().flat_map(|view| snapshot_of(views, view)).collect()
}

fn snapshot_of(views: &mut Views, view: View) -> Vec<ViewRow> {
    let sessions = views.sessions.clone();
    let sessions = sessions.borrow();
    match view {
        View::Events => sessions.users.iter().flat_map(event_rows).collect(),
        View::Sessions => sessions.users.iter().flat_map(|user| session_rows(user, &sessions.kinds, 0)).collect(),
        View::Journeys => {
            let mut rows = Vec::new();
            let sources: Vec<SourceId> = sessions.sources.keys().copied().collect();
            for source in sources {
                journeys::scan(&mut views.journeys, source, |key, journey| {
                    let label = views.clusters.borrow().label(key.slot).unwrap_or(clusters::NO_LABEL);
                    rows.extend(clusters::row_of(source, &sessions.users[key.slot as usize].name, journey, label));
                });
            }
            rows
        }
        View::Clusters if sessions.worker == 0 => views.clusters.borrow().centroids().collect(),
        View::Catalog if sessions.worker == 0 => views.catalog.borrow().entries().map(context::row_of).collect(),
        View::Occupancy => views.cells.borrow().rows(),
        View::Spaces if sessions.worker == 0 => views.cells.borrow().space_rows(),
        View::Clusters | View::Catalog | View::Spaces => Vec::new(),
        View::Minutes => views
            .minutes
            .borrow()
            .since(None, 0)
            .map(|c| ViewRow::Minute {
                source: c.source,
                minute: c.minute,
                page: c.page,
                event_type: c.event_type,
                count: c.count,
                revenue: c.revenue,
            })
            .collect(),
        View::Context => {
            let now = i64::try_from(views.closed()).unwrap_or(i64::MAX).saturating_mul(1_000);
            let (contexts, catalog) = (views.contexts.borrow(), views.catalog.borrow());
            let row = |(key, _): (UserKey, _)| {
                let settings = sessions.sources.get(&key.source)?.settings.context?;
                let row = contexts.row(key.source, key.slot, &sessions.users[key.slot as usize].name, &settings, &catalog)?;
                (row.expires_at > now).then(|| ViewRow::Context(Arc::new(row)))
            };
            contexts.steps().filter_map(row).collect()
        }
    }
}
