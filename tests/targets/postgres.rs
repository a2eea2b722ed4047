//! The tables in PostgreSQL, row by row, against a model of plain loops; and what happens when the database does not play along.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod faults;
mod history;
mod model;
mod rebuilds;
mod refusals;
mod tables;

use crate::support::services;
use desireline::projections::postgres::PostgresTarget;
use desireline::projections::{Changeset, Standing, Target};
use desireline_dataflows::changes::{Change, View};
use desireline_dataflows::engine::{Next, Start};
use desireline_dataflows::reference::Reference;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::{Batch, LogicalTime};
use history::Random;
use model::{Model, Tables};
use std::sync::Arc;
use tables::{Site, assert_same};

/// The changes of one time.
type Time = (LogicalTime, Vec<Change>);

/// The changes of each time of a history.
fn changes_of(batches: &[Batch]) -> Vec<Time> {
    let engine = Engine::start(EngineConfig { workers: 2, ..EngineConfig::default() }).unwrap();
    let views: desireline_dataflows::changes::Views =
        [View::Events, View::Sessions, View::Journeys, View::Clusters, View::Minutes, View::Catalog].into_iter().collect();
    let stream = engine.subscribe(views, Start::After(0), 10_000_000).unwrap();
    let mut all = Vec::new();
    for batch in batches {
        engine.submit(Arc::new(batch.clone()), drop).unwrap();
        let mut of_time = Vec::new();
        loop {
            match stream.next() {
                Next::Changes(changes) => of_time.extend(changes),
                Next::Closed(time) => break all.push((time, std::mem::take(&mut of_time))),
                other => panic!("the stream ended: {other:?}"),
            }
        }
    }
    all
}

/// What the tables must hold after these batches.
fn expected(batches: &[Batch]) -> Tables {
    let mut reference = Reference::default();
    batches.iter().for_each(|batch| reference.apply(batch));
    Model::of(&reference).tables()
}

/// One changeset of several times.
fn changeset(times: &[Time]) -> Changeset {
    let mut set = Changeset::default();
    for (time, changes) in times {
        changes.iter().for_each(|change| set.add(change.clone()));
        set.time = *time;
    }
    set
}

async fn fresh(site: &Site, epoch: u64) -> PostgresTarget {
    let mut target = PostgresTarget::new(site.config()).unwrap();
    assert_eq!(target.open(epoch).await.unwrap(), Standing::Fresh);
    target
}

/// Builds the target from the whole history, in changesets of random size.
async fn build(target: &mut PostgresTarget, changes: &[Time], random: &mut Random) {
    target.begin_rebuild().await.unwrap();
    apply_all(target, changes, random).await;
    target.finish_rebuild(changes.last().unwrap().0).await.unwrap();
}

async fn apply_all(target: &mut PostgresTarget, mut changes: &[Time], random: &mut Random) {
    while !changes.is_empty() {
        let (front, back) = changes.split_at((1 + random.below(6) as usize).min(changes.len()));
        target.apply(&changeset(front)).await.unwrap();
        changes = back;
    }
}

#[tokio::test]
async fn every_table_is_what_the_views_are() {
    let Some(url) = services::postgres() else { return };
    for seed in 0..6 {
        let site = Site::new(&url).await;
        let batches = history::random(seed, 40);
        let changes = changes_of(&batches);
        let mut random = Random(seed);
        let mut target = fresh(&site, 1).await;
        // The first part is a build, the rest is followed.
        let (front, back) = changes.split_at(10);
        build(&mut target, front, &mut random).await;
        assert_same(&site.tables().await, &expected(&batches[..10]), &format!("seed {seed}, built"));
        apply_all(&mut target, back, &mut random).await;
        let expected = expected(&batches);
        let found = site.tables().await;
        assert_same(&found, &expected, &format!("seed {seed}, followed"));
        assert!(found.values().all(|rows| !rows.is_empty()), "seed {seed}: a table without rows proves nothing");
        assert_eq!(target.open(2).await.unwrap(), Standing::At(changes.last().unwrap().0));
        // Built anew beside the old rows.
        build(&mut target, &changes, &mut random).await;
        assert_same(&site.tables().await, &expected, &format!("seed {seed}, built again"));
        site.drop_all().await;
    }
}
