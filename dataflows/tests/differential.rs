//! The views against their slow reference, on seeded random histories.
//!
//! Each history is a list of batches with disorder, duplicates (same and conflicting payloads), late and future rows, equal
//! timestamps, deletions, erasures, seals, model versions and changes of settings. It is run with 1 to 3 workers, in the
//! original and in other batchings, with and without an export and import in the middle, and every view is compared after
//! several prefixes. A failing seed is printed; put it into `KNOWN_SEEDS`.
//!
//! `DESIRELINE_HISTORIES` sets how many histories are run (default 320).

mod histories;
#[path = "histories/random.rs"]
mod random;

use desireline_dataflows::changes::{Change, RowKey, View, ViewRow, Views};
use desireline_dataflows::engine::{Changes, Next, Start};
use desireline_dataflows::query::{Answer, HistoriesQuery, Query, UserQuery, merge_sources};
use desireline_dataflows::reference::Reference;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::{Batch, Control, Event, LogicalTime, SourceId};
use ecow::EcoString;
use histories::{History, Options};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Seeds that once failed.
const KNOWN_SEEDS: &[u64] = &[];

fn engine(workers: usize) -> Engine {
    Engine::start(EngineConfig { workers, ..EngineConfig::default() }).expect("the engine starts")
}

fn submit(engine: &Engine, batch: &Batch) {
    engine.submit(Arc::new(batch.clone()), drop).expect("the engine takes batches");
}

/// Compares every view at the engine's present time with the reference.
fn compare(engine: &Engine, reference: &Reference, context: &str) {
    compare_users(engine, reference, context);
    compare_histories(engine, reference, context);
    compare_minutes(engine, reference, context);
    compare_sources(engine, reference, context);
    compare_contexts(engine, reference, context);
}

fn compare_contexts(engine: &Engine, reference: &Reference, context: &str) {
    for expected in reference.contexts() {
        let query = Query::Context { source: expected.source, user: expected.user.clone() };
        let (_, parts) = engine.ask(query).expect("an answer");
        let rows: Vec<_> = parts.into_iter().filter_map(|part| if let Answer::Context(row) = part { row } else { None }).collect();
        assert_eq!(rows, [expected], "{context}: a context");
    }
    let (_, parts) = engine.ask(Query::Overview).expect("an answer");
    let catalogs = parts.iter().map(|part| if let Answer::Overview { worker, .. } = part { worker.catalog } else { (0, 0, 0) });
    let (items, products, people) = catalogs.fold((0, 0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1, sum.2 + part.2));
    assert_eq!(items + products + people, reference.catalog().len(), "{context}: the catalog");
}

fn all_users(engine: &Engine) -> Vec<desireline_dataflows::query::UserAnswer> {
    let query = UserQuery { sessions_max: usize::MAX, users_max: usize::MAX, ..UserQuery::default() };
    let (_, parts) = engine.ask(Query::Users(query)).expect("an answer");
    let mut users = Vec::new();
    for part in parts {
        let Answer::Users { users: part, looked_to, .. } = part else { panic!("not users") };
        assert_eq!(looked_to, None);
        users.extend(part);
    }
    users
}

fn compare_users(engine: &Engine, reference: &Reference, context: &str) {
    let mut sessions = reference.sessions();
    let mut journeys = reference.journeys();
    let labels = reference.labels();
    for user in all_users(engine) {
        let key = (user.source, user.user.clone());
        let expected = sessions.remove(&key).unwrap_or_default();
        let sealed = expected.iter().filter(|s| s.sealed).count();
        assert_eq!(user.sealed_sessions, sealed as u64, "{context}: sealed sessions of {key:?}");
        assert_eq!(user.sessions.len(), expected.len() - sealed, "{context}: open sessions of {key:?}");
        for (open, fact) in user.sessions.iter().zip(&expected[sealed..]) {
            let path = &open.path;
            let got = (open.first_event, open.start, open.end, open.events, path.views, path.carts, path.transactions, path.value());
            let want = (fact.first_event, fact.start, fact.end, fact.events, fact.views, fact.carts, fact.transactions, fact.value);
            assert_eq!(got, want, "{context}: a session of {key:?}");
        }
        assert_eq!(Some(user.journey), journeys.remove(&key), "{context}: the journey of {key:?}");
        assert_eq!(user.cluster, labels.get(&key).copied(), "{context}: the cluster of {key:?}");
    }
    assert!(sessions.is_empty(), "{context}: users without an answer: {:?}", sessions.keys());
}

/// Everything of all users, and of some, at the same time as something else.
fn compare_histories(engine: &Engine, reference: &Reference, context: &str) {
    let users = all_users(engine);
    let mut events: BTreeMap<(SourceId, EcoString), Vec<_>> = BTreeMap::new();
    for (event, session) in reference.events() {
        let told = (event.time, event.id, event.event_type.clone(), event.page.clone(), u64::from(session));
        events.entry((event.source, event.user.clone())).or_default().push(told);
    }
    let some: Arc<[EcoString]> = users.iter().step_by(2).map(|user| user.user.clone()).collect();
    for named in [None, Some(some)] {
        let query = HistoriesQuery { users: named.clone(), events: true, rows_max: usize::MAX };
        let (_, parts) = engine.ask(Query::All(vec![Query::Histories(query), Query::Overview])).expect("an answer");
        let mut found = Vec::new();
        for part in parts {
            let Answer::All(part) = part else { panic!("not several answers") };
            let [Answer::Histories { users, complete: true, .. }, Answer::Overview { .. }] = &part[..] else { panic!("not these two") };
            found.extend(users.iter().cloned());
        }
        let mut expected: Vec<_> = users.iter().filter(|user| named.as_ref().is_none_or(|named| named.contains(&user.user))).collect();
        found.sort_by(|a, b| (a.answer.source, &a.answer.user).cmp(&(b.answer.source, &b.answer.user)));
        expected.sort_by(|a, b| (a.source, &a.user).cmp(&(b.source, &b.user)));
        assert_eq!(found.iter().map(|user| &user.answer).collect::<Vec<_>>(), expected, "{context}: histories");
        for user in found {
            let told = user.events.into_iter().map(|event| (event.time, event.id, event.event_type, event.page, event.session));
            let mut expected = events.get(&(user.answer.source, user.answer.user.clone())).cloned().unwrap_or_default();
            expected.retain(|(.., session)| *session > user.answer.sealed_sessions);
            expected.sort();
            assert_eq!(told.collect::<Vec<_>>(), expected, "{context}: events of {}", user.answer.user);
        }
    }
}

fn compare_minutes(engine: &Engine, reference: &Reference, context: &str) {
    let (_, parts) = engine.ask(Query::Minutes { source: None, from: 0 }).expect("an answer");
    let mut cells = BTreeMap::new();
    for part in parts {
        let Answer::Minutes(part) = part else { panic!("not minutes") };
        for cell in part {
            let key = (cell.source, cell.minute, cell.page, cell.event_type);
            assert!(cells.insert(key, (cell.count, cell.revenue)).is_none(), "{context}: a cell on two workers");
        }
    }
    // The histories span less than a day, so no minute leaves memory.
    assert_eq!(cells, reference.minutes(), "{context}: minutes");
}

fn compare_sources(engine: &Engine, reference: &Reference, context: &str) {
    let (_, parts) = engine.ask(Query::Overview).expect("an answer");
    let mut sources = Vec::new();
    for part in parts {
        let Answer::Overview { sources: part, .. } = part else { panic!("not an overview") };
        sources.extend(part);
    }
    let merged: BTreeMap<SourceId, _> = merge_sources(sources.into_iter()).into_iter().collect();
    let sessions = reference.sessions();
    let versions = reference.model_versions();
    for (id, facts) in reference.counts() {
        let state = &merged[&id];
        let counts = &state.counts;
        let got = (counts.received, counts.applied, counts.duplicate, counts.conflict, counts.late);
        assert_eq!(got, (facts.received, facts.applied, facts.duplicate, facts.conflict, facts.late), "{context}: counts of {id}");
        let got = (counts.quarantined, counts.rejected, counts.deleted);
        assert_eq!(got, (facts.quarantined, facts.rejected, facts.deleted), "{context}: counts of {id}");
        let sum = counts.applied + counts.duplicate + counts.late + counts.quarantined + counts.rejected;
        assert_eq!(counts.received, sum, "{context}: conservation in {id}");
        let of_source = || sessions.iter().filter(|((source, _), _)| *source == id).flat_map(|(_, s)| s);
        assert_eq!(state.users, sessions.keys().filter(|k| k.0 == id).count() as u64, "{context}: users of {id}");
        assert_eq!(state.open_sessions, of_source().filter(|s| !s.sealed).count() as u64, "{context}: open sessions of {id}");
        assert_eq!(state.sealed_sessions, of_source().filter(|s| s.sealed).count() as u64, "{context}: sealed sessions of {id}");
        assert_eq!(state.open_events, of_source().filter(|s| !s.sealed).map(|s| s.events).sum::<u64>(), "{context}: open events of {id}");
        compare_clusters(engine, reference, id, versions[&id], context);
    }
}

fn compare_clusters(engine: &Engine, reference: &Reference, source: SourceId, version: u64, context: &str) {
    let (_, parts) = engine.ask(Query::Clusters { source }).expect("an answer");
    let mut sizes: BTreeMap<u16, u64> = BTreeMap::new();
    for part in parts {
        let Answer::Clusters { model, sizes: part, .. } = part else { panic!("not clusters") };
        assert_eq!(model.map_or(0, |m| m.version), version, "{context}: model version of {source}");
        for (cluster, size) in part.into_iter().enumerate().filter(|(_, size)| *size > 0) {
            *sizes.entry(cluster as u16).or_default() += size;
        }
    }
    let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
    for ((s, _), label) in reference.labels() {
        if s == source {
            *expected.entry(label).or_default() += 1;
        }
    }
    assert_eq!(sizes, expected, "{context}: cluster sizes of {source}");
}

/// Fills in what an erasure must say about sealed events, as the server does before it appends one.
fn complete(batch: &Batch, reference: &Reference) -> Batch {
    let mut batch = batch.clone();
    for control in &mut batch.controls {
        if let Control::Erase(erase) = control {
            erase.sealed_minutes = reference.sealed_minutes(erase.source, &erase.user);
        }
    }
    batch
}

/// Runs a history and compares after every `stride` batches and at the end.
fn run(history: &History, workers: usize, stride: usize, restart_at: Option<usize>, context: &str) {
    let mut engine = engine(workers);
    let mut reference = Reference::default();
    for (at, batch) in history.batches.iter().enumerate() {
        let batch = complete(batch, &reference);
        reference.apply(&batch);
        submit(&engine, &batch);
        if restart_at == Some(at) {
            let (time, parts) = engine.ask(Query::Export).expect("an export");
            let rows: Vec<_> = parts
                .into_iter()
                .flat_map(|part| match part {
                    Answer::Export(rows) => rows,
                    _ => panic!("not an export"),
                })
                .collect();
            engine = self::engine(workers % 3 + 1);
            engine.import(time, &rows).expect("state can be imported");
            compare(&engine, &reference, &format!("{context}, right after import at {at}"));
        }
        if at % stride == stride - 1 {
            compare(&engine, &reference, &format!("{context}, batch {at}"));
        }
    }
    compare(&engine, &reference, &format!("{context}, at the end"));
}

fn histories_to_run() -> u64 {
    std::env::var("DESIRELINE_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(320)
}

#[test]
fn every_view_equals_its_reference() {
    let seeds = KNOWN_SEEDS.iter().copied().chain(0..histories_to_run());
    for seed in seeds {
        let history = histories::random(seed, &Options::from_seed(seed));
        let workers = 1 + (seed % 3) as usize;
        let restart = seed.is_multiple_of(4).then_some(history.batches.len() / 2);
        run(&history, workers, 7, restart, &format!("seed {seed}, {workers} workers, restart {restart:?}"));
    }
}

/// The batching must not matter: rows of one history, re-cut into other batches between its controls, end in the same state.
#[test]
fn other_batch_sizes_give_the_same_answers() {
    for seed in 0..histories_to_run() / 8 {
        let history = histories::random(seed, &Options::from_seed(seed));
        for rows in [1, 3, 1_000] {
            let recut = histories::rebatch(&history, rows);
            run(&recut, 1 + (seed % 3) as usize, usize::MAX, None, &format!("seed {seed}, batches of {rows}"));
        }
    }
}

/// Rows of a stream, put together.
#[derive(Default)]
struct Followed {
    rows: BTreeMap<RowKey, ViewRow>,
    /// The events behind rows, as they came with them.
    contents: BTreeMap<RowKey, Arc<Event>>,
    closed: LogicalTime,
    open: Vec<Change>,
}

impl Followed {
    /// Takes what is there; every change is checked against what was known.
    fn take(&mut self, stream: &Changes, context: &str) {
        while let Some(next) = stream.try_next() {
            match next {
                Next::Changes(changes) => self.open.extend(changes),
                Next::Closed(time) => {
                    assert!(time >= self.closed, "{context}: times run on");
                    self.closed = time;
                    std::mem::take(&mut self.open).into_iter().for_each(|change| self.apply(change, context));
                }
                other => panic!("{context}: {other:?}"),
            }
        }
        assert!(self.open.is_empty(), "{context}: every time is closed");
    }

    fn apply(&mut self, change: Change, context: &str) {
        let Change { time, row, diff } = change;
        assert!(time <= self.closed && diff.abs() == 1, "{context}");
        let key = row.key();
        if let ViewRow::Erased { source, user } = &row {
            self.rows.retain(|key, _| key.user() != Some((*source, user)));
            return;
        }
        if let ViewRow::Event { content, .. } = &row
            && let Some(event) = &content.0
        {
            self.contents.insert(key.clone(), event.clone());
        }
        let source_row = matches!(row, ViewRow::Source(_));
        if diff > 0 {
            let before = self.rows.insert(key, row);
            assert!(before.is_none() || source_row, "{context}: a row is put over {before:?}");
        } else {
            // Rows of an erased user may be gone already.
            let before = self.rows.remove(&key);
            assert!(before.is_none() || before.as_ref() == Some(&row), "{context}: {row:?} is taken away, but there is {before:?}");
        }
    }
}

/// A stream of all views from the beginning, and one that begins in the middle knowing what the first one had then, add up to the views
/// at the end; and so does a snapshot with the changes behind it, as far as there were no sealed rows before it.
#[test]
fn change_streams_add_up_to_the_views() {
    let all: Views = View::ALL.into_iter().collect();
    for seed in 0..histories_to_run() / 4 {
        let history = histories::random(seed, &Options::from_seed(seed));
        let middle = history.batches.len() / 3;
        let known = history.batches[middle - 1].time;
        let engine = engine(1 + (seed % 3) as usize);
        let context = format!("seed {seed}");
        let whole = engine.subscribe(all, Start::After(0), usize::MAX).expect("a stream");
        let later = engine.subscribe(all, Start::After(known), usize::MAX).expect("a stream");
        let mut reference = Reference::default();
        let (mut from_start, mut from_middle) = (Followed::default(), Followed::default());
        for (at, batch) in history.batches.iter().enumerate() {
            let batch = complete(batch, &reference);
            reference.apply(&batch);
            submit(&engine, &batch);
            if at % 5 == 4 || at == middle - 1 {
                let (time, _) = engine.ask(Query::Overview).expect("an answer");
                from_start.take(&whole, &context);
                assert_eq!(from_start.closed, time, "{context}");
                compare_streamed(&from_start, &reference, &format!("{context}, batch {at}"));
            }
            if at == middle - 1 {
                assert!(later.try_next().is_none(), "{context}: nothing of what is known is told");
                from_middle.rows = from_start.rows.clone();
                from_middle.contents = from_start.contents.clone();
            }
        }
        let (time, _) = engine.ask(Query::Overview).expect("an answer");
        from_start.take(&whole, &context);
        from_middle.take(&later, &context);
        assert_eq!((from_start.closed, from_middle.closed), (time, time), "{context}");
        compare_streamed(&from_start, &reference, &context);
        compare_streamed(&from_middle, &reference, &context);
    }
}

fn compare_streamed(followed: &Followed, reference: &Reference, context: &str) {
    let mut expected = reference.rows();
    expected.sort();
    let mut got: Vec<&ViewRow> = followed.rows.values().filter(|row| !matches!(row, ViewRow::Source(_))).collect();
    got.sort();
    for (got, want) in got.iter().zip(&expected) {
        assert_eq!(*got, want, "{context}");
    }
    assert_eq!(got.len(), expected.len(), "{context}: rows");
    for (event, _) in reference.events() {
        let key = RowKey::Event(event.source, event.user.clone(), event.time, event.id);
        assert_eq!(followed.contents.get(&key).map(|e| &**e), Some(&event), "{context}: the event behind a row");
    }
}

/// What a snapshot says is what a stream from the beginning has put together by then, for what is open.
#[test]
fn snapshots_are_the_sum_of_the_changes_before_them() {
    for seed in 0..histories_to_run() / 16 {
        let history = histories::random(seed, &Options { seals: false, ..Options::from_seed(seed) });
        let engine = engine(1 + (seed % 3) as usize);
        let views: Views = View::ALL.into_iter().collect();
        let whole = engine.subscribe(views, Start::After(0), usize::MAX).expect("a stream");
        let mut reference = Reference::default();
        for batch in &history.batches {
            reference.apply(batch);
            submit(&engine, batch);
        }
        let snapshot = engine.subscribe(views, Start::Snapshot, 1).expect("a stream");
        let now = engine.subscribe(views, Start::Now, 1).expect("a stream");
        let (time, _) = engine.ask(Query::Overview).expect("an answer");
        let (mut changed, mut snapped) = (Followed::default(), Followed { closed: time, ..Followed::default() });
        changed.take(&whole, "changes");
        snapped.take(&snapshot, "snapshot");
        let begins = |next: Option<Next>| match next {
            Some(Next::Changes(changes)) => changes.iter().all(|change| matches!(change.row, ViewRow::Source(_))),
            _ => false,
        };
        assert!(begins(now.try_next()), "the settings of the sources");
        assert_eq!(now.try_next(), Some(Next::Closed(time)));
        // Contexts that have expired by the log's time are not part of a snapshot; these histories lie at the log's beginning.
        assert_eq!(snapped.rows, changed.rows, "seed {seed}");
    }
}

/// A follower that never reads loses its stream instead of holding memory; what it was given is complete up to the last closed time.
#[test]
fn a_slow_follower_loses_its_stream() {
    let options = Options { seals: false, erasures: false, ..Options::from_seed(1) };
    let history = histories::random(1, &options);
    for workers in 1..=3 {
        let engine = engine(workers);
        let stream = engine.subscribe(View::Sessions, Start::After(0), 20).expect("a stream");
        for batch in &history.batches {
            submit(&engine, batch);
        }
        engine.ask(Query::Overview).expect("an answer");
        assert!(stream.waiting() <= 20 + 40 * workers, "{} rows wait", stream.waiting());
        let mut followed = Followed::default();
        let end = loop {
            // The loss is told once what was sent is taken, though no further batch comes.
            match stream.try_next().expect("something is there") {
                Next::Changes(changes) => followed.open.extend(changes),
                Next::Closed(time) => {
                    followed.closed = time;
                    std::mem::take(&mut followed.open).into_iter().for_each(|change| followed.apply(change, "slow"));
                }
                end => break end,
            }
        };
        assert_eq!(end, Next::Lost);
        let mut reference = Reference::default();
        history.batches.iter().filter(|batch| batch.time <= followed.closed).for_each(|batch| reference.apply(batch));
        let sessions = reference.rows().into_iter().filter(|row| matches!(row, ViewRow::Session { .. }));
        let got: Vec<ViewRow> = followed.rows.into_values().filter(|row| !matches!(row, ViewRow::Source(_))).collect();
        let mut want: Vec<ViewRow> = sessions.collect();
        want.sort_by_key(ViewRow::key);
        assert!(followed.closed > 0 && got == want, "{workers} workers, up to {}", followed.closed);
    }
}

/// A listing in pages meets every user once, whatever the page size and the number of workers.
#[test]
fn listings_meet_every_user_once() {
    let history = histories::random(5, &Options::from_seed(5));
    for workers in 1..=3 {
        let engine = engine(workers);
        history.batches.iter().for_each(|batch| submit(&engine, batch));
        let all: Vec<_> = sorted_keys(all_users(&engine).into_iter().map(|u| (u.hash, u.source, u.user)).collect());
        assert!(all.len() > 10);
        for page in [1, 2, 7] {
            let mut after = None;
            let mut met = Vec::new();
            loop {
                let query = UserQuery { after: after.clone(), sessions_max: page, users_max: 5, ..UserQuery::default() };
                let (_, parts) = engine.ask(Query::Users(query)).expect("an answer");
                let (users, more) = desireline_dataflows::query::merge_users(parts);
                met.extend(users.iter().map(|u| (u.hash, u.source, u.user.clone())));
                match more {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(met, all, "{workers} workers, pages of {page}");
        }
    }
}

fn sorted_keys(mut keys: Vec<(u64, SourceId, EcoString)>) -> Vec<(u64, SourceId, EcoString)> {
    keys.sort();
    keys
}

/// The verdict on every row of a batch comes back with it.
#[test]
fn duplicates_and_late_rows_are_reported_by_position() {
    let engine = engine(2);
    let event = |user: &str, id: &str, late: bool| Event { late, ..histories::event(1, user, id, 1_000_000) };
    let batch = Batch {
        time: 1,
        events: vec![event("a", "1", false), event("b", "1", false), event("a", "1", false), event("c", "9", true)],
        ..Batch::default()
    };
    let (to, from) = std::sync::mpsc::channel();
    engine.submit(Arc::new(batch), move |applied| to.send(applied).expect("the test waits")).expect("submitted");
    let applied = from.recv().expect("applied");
    assert_eq!((applied.duplicates, applied.late), (vec![2], vec![3]));
}
