//! A declared experiment: the tables in PostgreSQL, filled and followed, against plain binary `COPY` of the same rows.
//!
//! *Work.* A history of clicks (default 200,000 events of 20,000 users within ten days, in order of time) runs through an engine.
//! *Load*: every row of its views once (events, sessions, journeys, minutes), in changesets of about 50,000, into empty tables.
//! *Follow*: the history as it happens, in eight parts; rows are put, changed and taken away.
//! *Drip*: 200 changesets of the rows of ten events each, as they come while people click.
//! *Limit.* Plain `COPY` of the rows that the tables have in the end, in binary and at once, into empty tables of the same columns and
//! indexes; it knows no keys, no time and computes nothing.
//! *Measured.* Wall time of `Target::apply`, the processor time of this process meanwhile (that of the database is not in it), and the
//! ratio of the load's wall time to that of `COPY`, best of three rounds of each in the same run.
//!
//! `DATABASE_URL=… cargo bench --bench postgres`, with `EVENTS=…` for another size. Wanted: a ratio of at most 3, and at least 40,000
//! changed rows per second of our processor time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on says why by panicking")]

use bytes::Bytes;
use desireline::projections::postgres::{PostgresConfig, PostgresTarget, Schemas};
use desireline::projections::{Changeset, Target};
use desireline_dataflows::changes::{Change, View, Views};
use desireline_dataflows::engine::{Next, Start};
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::time::{DAY, MINUTE};
use desireline_records::{Batch, Control, Event, EventId, Fixed4, Movement, SourceSettings, UserIdType};
use futures::{SinkExt, TryStreamExt, pin_mut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const ROUNDS: usize = 3;
const CHANGESET_ROWS: usize = 50_000;
const TABLES: [&str; 4] = ["events", "sessions", "user_journey", "aggregates_minute"];

fn batches(events: u64, parts: u64) -> Vec<Batch> {
    let settings = SourceSettings { user_id_type: UserIdType::Int, ..SourceSettings::defaults(1) };
    let mut all = vec![Batch { time: 1, controls: vec![Control::Settings(settings)], ..Batch::default() }];
    let (users, mut random) = ((events / 10).max(1), 1_u64);
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let step = 10 * DAY / events.max(1) as i64;
    let event = |at: u64, next: &mut dyn FnMut() -> u64| {
        let (word, movement) = [("view", Movement::View), ("addtocart", Movement::Cart), ("transaction", Movement::Transaction)]
            [(next() % 20).saturating_sub(17) as usize];
        Event {
            source: 1,
            movement,
            late: false,
            time: 1_700_000_000_000_000 + at as i64 * step + (next() % 1_000) as i64 * (MINUTE / 1_000),
            id: EventId::row(&at.to_le_bytes(), 0),
            value: Fixed4((next() % 1_000_000) as i64),
            user: (next() % users).to_string().into(),
            event_type: word.into(),
            page: "".into(),
            item: (next() % 10_000).to_string().into(),
            extra: None,
            stay: None,
        }
    };
    let part = events.div_ceil(parts).max(1);
    for from in (0..events).step_by(part as usize) {
        let events = (from..(from + part).min(events)).map(|at| event(at, &mut next)).collect();
        all.push(Batch { time: all.len() as u64 + 1, events, ..Batch::default() });
    }
    all
}

/// The changes of every batch.
fn changes(batches: Vec<Batch>) -> Vec<Vec<Change>> {
    let engine = Engine::start(EngineConfig::default()).unwrap();
    let views: Views = [View::Events, View::Sessions, View::Journeys, View::Clusters, View::Minutes].into_iter().collect();
    let stream = engine.subscribe(views, Start::After(0), usize::MAX).unwrap();
    let mut all = Vec::new();
    for batch in batches {
        engine.submit(Arc::new(batch), drop).unwrap();
        let mut of_time = Vec::new();
        loop {
            match stream.next() {
                Next::Changes(changes) => of_time.extend(changes),
                Next::Closed(_) => break all.push(of_time),
                other => panic!("the stream ended: {other:?}"),
            }
        }
    }
    all
}

fn followed(changes: &[Vec<Change>]) -> Vec<Changeset> {
    let set = |changes: &Vec<Change>| {
        let mut set = Changeset::default();
        changes.iter().for_each(|change| set.add(change.clone()));
        set
    };
    changes.iter().map(set).collect()
}

/// Every row that stands in the end, once.
fn loaded(changes: &[Vec<Change>]) -> Vec<Changeset> {
    let mut whole = Changeset::default();
    changes.iter().flatten().for_each(|change| whole.add(change.clone()));
    let mut rows: Vec<_> = whole.rows.into_iter().filter(|(_, row)| row.is_some()).collect();
    rows.sort_by(|a, b| (a.0.user().is_none(), a.0.user()).cmp(&(b.0.user().is_none(), b.0.user())).then_with(|| a.0.cmp(&b.0)));
    let settings = changes[0].iter().map(|change| (change.row.key(), Some(change.row.clone())));
    let mut sets = vec![Changeset { rows: settings.collect(), ..Changeset::default() }];
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        sets.push(Changeset { rows: rows.by_ref().take(CHANGESET_ROWS).collect(), ..Changeset::default() });
    }
    sets
}

#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    processor: Duration,
    rows: u64,
}

/// Of all threads that there are; none ends meanwhile.
fn processor() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.flatten().map(of_task).sum())
}

async fn fill(url: &str, sets: &mut [Changeset]) -> (Took, Schemas) {
    let schemas = schemas();
    let config = PostgresConfig {
        name: "bench".to_owned(),
        url: url.to_owned(),
        tls_ca: None,
        schemas: schemas.clone(),
        pool_max: 2,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(300),
        lock_timeout: Duration::from_secs(5),
        gather: Duration::ZERO,
        attempts_max: 3,
        rows_max: CHANGESET_ROWS,
    };
    let mut target = PostgresTarget::new(config).unwrap();
    target.open(1).await.unwrap();
    target.begin_rebuild().await.unwrap();
    let (begin, used) = (Instant::now(), processor());
    let mut rows = 0;
    for (at, set) in sets.iter_mut().enumerate() {
        set.time = at as u64 + 1;
        let applied = target.apply(set).await.unwrap();
        assert_eq!(applied.refused, 0);
        rows += applied.rows;
    }
    target.finish_rebuild(sets.len() as u64).await.unwrap();
    (Took { wall: begin.elapsed(), processor: processor() - used, rows }, schemas)
}

fn schemas() -> Schemas {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let schema = format!("bench_{now:x}");
    Schemas { ampelios: schema.clone(), interactions: schema.clone(), clickstream: schema.clone(), desireline: schema }
}

/// Plain copies of what the tables have; how long they take.
async fn copy(client: &Client, schema: &str) -> Took {
    let mut took = Took { wall: Duration::ZERO, processor: Duration::ZERO, rows: 0 };
    for table in TABLES {
        let mut rows: Vec<Bytes> = Vec::new();
        let out = client.copy_out(&format!("COPY {schema}.{table} TO STDOUT (FORMAT binary)")).await.unwrap();
        pin_mut!(out);
        while let Some(chunk) = out.try_next().await.unwrap() {
            rows.push(chunk);
        }
        client.batch_execute(&format!("CREATE TABLE {schema}.plain_{table} (LIKE {schema}.{table} INCLUDING ALL)")).await.unwrap();
        // As large pieces as ours.
        let rows = Bytes::from(rows.concat());
        let (begin, used) = (Instant::now(), processor());
        let sink = client.copy_in(&format!("COPY {schema}.plain_{table} FROM STDIN (FORMAT binary)")).await.unwrap();
        pin_mut!(sink);
        for at in (0..rows.len()).step_by(256 << 10) {
            sink.send(rows.slice(at..(at + (256 << 10)).min(rows.len()))).await.unwrap();
        }
        took.rows += sink.finish().await.unwrap();
        took.wall += begin.elapsed();
        took.processor += processor() - used;
        client.batch_execute(&format!("DROP TABLE {schema}.plain_{table}")).await.unwrap();
    }
    took
}

fn say(what: &str, took: Took) {
    let (wall, processor) = (took.wall.as_secs_f64(), took.processor.as_secs_f64());
    let per_second = took.rows as f64 / wall;
    println!(
        "{what}: {} rows, {wall:.2} s ({per_second:.0} rows/s), {:.0} rows per processor second of ours",
        took.rows,
        took.rows as f64 / processor
    );
}

#[tokio::main]
async fn main() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("skipped: DATABASE_URL is not set");
        return;
    };
    let events = std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut drips = followed(&changes(batches(2_000, 200)));
    let changes = changes(batches(events, 8));
    let (mut loads, mut follows) = (loaded(&changes), followed(&changes));
    let (mut best, mut plain, mut follow, mut drip) = (None::<Took>, None::<Took>, None::<Took>, None::<Took>);
    let better = |best: &mut Option<Took>, took: Took| {
        if best.is_none_or(|known| took.wall < known.wall) {
            *best = Some(took);
        }
    };
    for _ in 0..ROUNDS {
        let (took, schemas) = fill(&url, &mut loads).await;
        better(&mut best, took);
        better(&mut plain, copy(&client, &schemas.desireline).await);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", schemas.desireline)).await.unwrap();
        let (took, schemas) = fill(&url, &mut follows).await;
        better(&mut follow, took);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", schemas.desireline)).await.unwrap();
        let (took, schemas) = fill(&url, &mut drips).await;
        better(&mut drip, took);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", schemas.desireline)).await.unwrap();
    }
    let (best, plain, follow, drip) = (best.unwrap(), plain.unwrap(), follow.unwrap(), drip.unwrap());
    say("plain COPY", plain);
    say("load", best);
    say("follow", follow);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0 / drips.len() as f64;
    println!("drip: {:.2} ms a changeset, of which {:.2} ms our processor time", milliseconds(drip.wall), milliseconds(drip.processor));
    println!("load: {:.2} times the wall time of plain COPY of the same rows", best.wall.as_secs_f64() / plain.wall.as_secs_f64());
}
