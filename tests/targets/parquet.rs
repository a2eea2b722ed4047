//! The Parquet target against the slow reference of the views: random histories through a real engine, in changesets of random size,
//! on a folder and on an object store, read back by ourselves, by DuckDB and by pandas.
//!
//! Crashes at each single step of a commit are tested where commits are made: `connectors/src/dataset/tests`.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod disk;
mod expected;
#[path = "../../dataflows/tests/histories/mod.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod histories;
mod killed;
mod readers;

use crate::support::random::{self, Random};
use crate::support::services;
use desireline::projections::parquet::{ParquetTarget, ParquetTargetConfig, tables_of};
use desireline::projections::{Applied, Changeset, Standing, Target, TargetError};
use desireline_connectors::dataset::{Table, read_file};
use desireline_connectors::store::Store;
use desireline_dataflows::changes::{Change, View};
use desireline_dataflows::engine::{Next, Start};
use desireline_dataflows::reference::Reference;
use desireline_dataflows::{Engine, EngineConfig};
use desireline_records::{Batch, Control, Fixed4, LogicalTime, Micros, Movement, SourceSettings};
use expected::Files;
use histories::Options;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A history as followers see it: the changes of each time, and the batches behind them.
pub struct Story {
    pub batches: Vec<Batch>,
    pub changes: Vec<(LogicalTime, Vec<Change>)>,
}

/// Draws event time out, so that a history of hours spans days and minutes leave memory.
fn stretch(batch: &mut Batch, factor: Micros) {
    batch.events.iter_mut().for_each(|event| event.time *= factor);
    for control in &mut batch.controls {
        if let Control::Seal(seal) = control {
            seal.boundary *= factor;
        }
    }
}

impl Story {
    pub fn of(batches: impl IntoIterator<Item = Batch>) -> Self {
        let engine = Engine::start(EngineConfig { workers: 2, ..EngineConfig::default() }).unwrap();
        let views: desireline_dataflows::changes::Views = View::ALL.into_iter().collect();
        let stream = engine.subscribe(views, Start::After(0), 10_000_000).unwrap();
        let mut reference = Reference::default();
        let mut story = Self { batches: Vec::new(), changes: Vec::new() };
        for mut batch in batches {
            for control in &mut batch.controls {
                if let Control::Erase(erase) = control {
                    erase.sealed_minutes = reference.sealed_minutes(erase.source, &erase.user);
                }
            }
            reference.apply(&batch);
            engine.submit(Arc::new(batch.clone()), drop).unwrap();
            story.batches.push(batch);
            let mut of_time = Vec::new();
            loop {
                match stream.next() {
                    Next::Changes(changes) => of_time.extend(changes),
                    Next::Closed(time) => break story.changes.push((time, of_time)),
                    other => panic!("the stream ended: {other:?}"),
                }
            }
        }
        story
    }

    pub fn random(seed: u64) -> Self {
        let mut batches = histories::random(seed, &Options::from_seed(seed)).batches;
        let factor = [1, 7, 20][(seed % 3) as usize];
        batches.iter_mut().for_each(|batch| stretch(batch, factor));
        Self::of(batches)
    }

    pub fn last(&self) -> LogicalTime {
        self.batches.last().map_or(0, |batch| batch.time)
    }

    pub fn expected(&self, time: LogicalTime, views: &[View]) -> Files {
        let mut reference = Reference::default();
        self.batches.iter().filter(|batch| batch.time <= time).for_each(|batch| reference.apply(batch));
        expected::files(&reference, views)
    }

    /// What changes after a time, up to another.
    pub fn changeset(&self, after: LogicalTime, to: LogicalTime) -> Changeset {
        let mut set = Changeset { time: to, ..Changeset::default() };
        for (_, changes) in self.changes.iter().filter(|(time, _)| (after + 1..=to).contains(time)) {
            changes.iter().for_each(|change| set.add(change.clone()));
        }
        set
    }
}

/// Where datasets lie in a test.
#[derive(Clone)]
struct Site {
    url: String,
    options: BTreeMap<String, String>,
}

impl Site {
    fn folder(folder: &Path) -> Self {
        Self { url: folder.display().to_string(), options: BTreeMap::new() }
    }

    fn s3(s3: &services::S3, name: &str) -> Self {
        let unique = format!("parquet-{}-{}-{name}", std::process::id(), chrono::Utc::now().timestamp_micros());
        let options = [
            ("aws_endpoint", s3.endpoint.as_str()),
            ("aws_access_key_id", &s3.access_key),
            ("aws_secret_access_key", &s3.secret_key),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { url: format!("s3://{}/{unique}", s3.bucket), options }
    }

    fn target(&self, views: &[View]) -> ParquetTarget {
        let (url, store_options) = (self.url.clone(), self.options.clone());
        ParquetTarget::new(ParquetTargetConfig { url, store_options, views: views.iter().copied().collect(), gather: Duration::ZERO })
    }

    fn store(&self) -> Store {
        Store::open(&self.url, &self.options).unwrap()
    }

    /// Every row of every file, as readers see them.
    async fn read(&self, views: &[View]) -> Files {
        let store = self.store();
        let mut files = Files::new();
        let tables = views.iter().flat_map(|view| tables_of(*view).iter().copied());
        for table in tables.collect::<Vec<&'static Table>>() {
            for object in store.list(table.name, None).await.unwrap() {
                let rows = read_file(&store, table, &object.name).await.unwrap().rows;
                assert!(!rows.is_empty(), "{} has no rows", object.name);
                let of_a_day = object.name.contains("/day=");
                let name = if of_a_day { object.name } else { format!("{}/*", table.name) };
                files.entry(name).or_default().extend(rows);
            }
        }
        let by_key = |rows: &mut Vec<_>| rows.sort_by_cached_key(|row| format!("{row:?}"));
        files.iter_mut().filter(|(name, _)| name.ends_with("/*")).for_each(|(_, rows)| by_key(rows));
        files
    }

    async fn compare(&self, story: &Story, time: LogicalTime, views: &[View], context: &str) {
        let found = self.read(views).await;
        let mut expected = story.expected(time, views);
        let by_key = |rows: &mut Vec<_>| rows.sort_by_cached_key(|row| format!("{row:?}"));
        expected.iter_mut().filter(|(name, _)| name.ends_with("/*")).for_each(|(_, rows)| by_key(rows));
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{context}: the files at {time}");
        for (name, rows) in expected {
            for (found, row) in found[&name].iter().zip(&rows) {
                assert_eq!(found, row, "{context}: a row of {name} at {time}");
            }
            assert_eq!(found[&name].len(), rows.len(), "{context}: the rows of {name} at {time}");
        }
    }
}

/// A target whose datasets are built from the beginning of a story to a time.
async fn built(site: &Site, story: &Story, to: LogicalTime, views: &[View]) -> ParquetTarget {
    let mut target = site.target(views);
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    rebuild(&mut target, story, to).await;
    target
}

async fn rebuild(target: &mut ParquetTarget, story: &Story, to: LogicalTime) {
    target.begin_rebuild().await.unwrap();
    let middle = to / 2;
    target.apply(&story.changeset(0, middle)).await.unwrap();
    target.apply(&story.changeset(middle, to)).await.unwrap();
    target.finish_rebuild(to).await.unwrap();
}

/// Follows a story to its end in random strides. Servers come and go: some are gone before they learn that a changeset was applied, and
/// the next one begins where the datasets say.
async fn follow(site: &Site, story: &Story, seed: u64, strides: u64) {
    let (mut random, last) = (Random(seed), story.last());
    let (mut at, mut epoch) = (random.below(last / 3), 1);
    let mut target = built(site, story, at, &View::ALL).await;
    while at < last {
        let next = (at + 1 + random.below(last / strides + 1)).min(last);
        target.apply(&story.changeset(at, next)).await.unwrap();
        at = next;
        let context = format!("seed {seed}");
        if random.below(3) == 0 {
            site.compare(story, at, &View::ALL, &context).await;
        }
        if random.below(3) == 0 {
            epoch += random.below(2);
            target = site.target(&View::ALL);
            assert_eq!(target.open(epoch).await.unwrap(), Standing::At(at), "{context}");
        }
    }
    target.check().await.unwrap();
    site.compare(story, last, &View::ALL, &format!("seed {seed}, at the end")).await;
}

#[tokio::test]
async fn the_datasets_are_what_the_views_are() {
    for seed in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        follow(&Site::folder(folder.path()), &Story::random(seed), seed, 4).await;
    }
}

#[tokio::test]
async fn the_datasets_are_what_the_views_are_on_an_object_store() {
    let Some(s3) = services::s3() else { return };
    for seed in 2..3 {
        follow(&Site::s3(&s3, &seed.to_string()), &Story::random(seed), seed, 2).await;
    }
}

#[tokio::test]
async fn a_rebuild_ends_with_the_same_files_and_leaves_nothing_else() {
    let story = Story::random(5);
    let folder = tempfile::tempdir().unwrap();
    let site = Site::folder(folder.path());
    let mut target = built(&site, &story, story.last() / 2, &View::ALL).await;
    target.begin_rebuild().await.unwrap();
    target.apply(&story.changeset(0, story.last())).await.unwrap();
    site.compare(&story, story.last() / 2, &View::ALL, "before the end of the rebuild").await;
    // The server dies: what it had written aside is of no use.
    let mut target = site.target(&View::ALL);
    assert_eq!(target.open(2).await.unwrap(), Standing::Fresh);
    rebuild(&mut target, &story, story.last()).await;
    site.compare(&story, story.last(), &View::ALL, "after it").await;
    let mut again = site.target(&View::ALL);
    assert_eq!(again.open(3).await.unwrap(), Standing::At(story.last()));
    let hidden = site.store().list("_desireline", None).await.unwrap();
    assert_eq!(hidden.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["_desireline/state.json"]);
}

/// Fewer views: their datasets go with the next build. Another set is another definition.
#[tokio::test]
async fn datasets_that_are_not_wanted_any_more_go() {
    let story = Story::random(1);
    let folder = tempfile::tempdir().unwrap();
    let site = Site::folder(folder.path());
    drop(built(&site, &story, story.last(), &View::ALL).await);
    let views = [View::Journeys, View::Minutes];
    drop(built(&site, &story, story.last(), &views).await);
    site.compare(&story, story.last(), &views, "fewer views").await;
    let left = site.read(&View::ALL).await;
    assert!(left.keys().all(|name| name.starts_with("journeys") || name.starts_with("minutes")), "{:?}", left.keys());
}

const DAY: Micros = 24 * 3_600 * 1_000_000;
/// 2024-03-01.
const BEGIN: Micros = 19_783 * DAY;

/// Five users, each with an event on each of four days; then what `more` adds.
fn four_days(more: impl IntoIterator<Item = Batch>) -> Story {
    let events = (0..20i64).map(|n| {
        let (user, day) = (n % 5, n / 5);
        histories::event(1, &format!("u{user}"), &format!("e{n}"), BEGIN + day * DAY + 3_600_000_000 * n)
    });
    let first = Batch { time: 1, events: events.collect(), ..Batch::default() };
    Story::of([first].into_iter().chain(more))
}

/// The tags or times of the files, to see which were written.
async fn versions(site: &Site) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for dataset in ["events", "sessions", "minutes"] {
        for object in site.store().list(dataset, None).await.unwrap() {
            versions.insert(object.name.clone(), format!("{:?}", object.tag));
        }
    }
    versions
}

#[tokio::test]
async fn late_rows_rewrite_the_files_of_their_days_and_no_others() {
    let late = histories::event(1, "u2", "late", BEGIN + DAY + 1_000_000);
    let story = four_days([Batch { time: 2, events: vec![late], ..Batch::default() }]);
    let views = [View::Events, View::Sessions, View::Minutes];
    let folder = tempfile::tempdir().unwrap();
    let site = Site::folder(folder.path());
    let mut target = built(&site, &story, 1, &views).await;
    let before = versions(&site).await;
    assert!(before.contains_key("events/day=2024-03-01/data.parquet"), "{before:?}");
    let applied = target.apply(&story.changeset(1, 2)).await.unwrap();
    assert!(applied.rows >= 3, "{applied:?}");
    site.compare(&story, 2, &views, "a late row").await;
    let after = versions(&site).await;
    let rewritten: Vec<&str> = after.iter().filter(|(name, tag)| before.get(*name) != Some(tag)).map(|(name, _)| name.as_str()).collect();
    // Later sessions of the user have another number now, and so have their events.
    let renumbered = |name: &&str| !name.contains("03-02");
    let own: Vec<&str> = rewritten.iter().copied().filter(|name| !renumbered(name)).collect();
    let day = ["events", "minutes", "sessions"].map(|dataset| format!("{dataset}/day=2024-03-02/data.parquet"));
    assert_eq!(own, day);
    assert!(rewritten.iter().all(|name| !(name.contains("03-01") || name.starts_with("minutes") && renumbered(name))), "{rewritten:?}");
    assert_eq!(target.apply(&story.changeset(2, 2)).await.unwrap(), Applied::default(), "nothing more has changed");
    assert_eq!(versions(&site).await, after);
}

/// A setting that rows are printed by prints all of them again, and is remembered by the next server.
#[tokio::test]
async fn journeys_follow_the_settings_of_their_source() {
    let purchase = |id: &str, day: Micros| {
        let mut event = histories::event(1, "u1", id, BEGIN + day * DAY);
        (event.movement, event.value) = (Movement::Transaction, Fixed4(125_000));
        event
    };
    let settings = |transaction_value| Control::Settings(SourceSettings { transaction_value, ..SourceSettings::defaults(1) });
    let story = four_days([
        Batch { time: 2, events: vec![purchase("a", 8)], ..Batch::default() },
        Batch { time: 3, controls: vec![settings(true)], ..Batch::default() },
        Batch { time: 4, events: vec![purchase("b", 9)], ..Batch::default() },
        Batch { time: 5, controls: vec![settings(false)], ..Batch::default() },
    ]);
    let folder = tempfile::tempdir().unwrap();
    let (site, views) = (Site::folder(folder.path()), [View::Journeys]);
    drop(built(&site, &story, 2, &views).await);
    for time in 3..=5 {
        let mut target = site.target(&views);
        assert_eq!(target.open(time).await.unwrap(), Standing::At(time - 1));
        target.apply(&story.changeset(time - 1, time)).await.unwrap();
        site.compare(&story, time, &views, "settings").await;
        let journeys = site.read(&views).await.remove("journeys/*").unwrap();
        let printed = journeys.iter().any(|row| format!("{:?}", row[2]).contains(if time == 3 { "12.5" } else { "25.0" }));
        assert_eq!(printed, time < 5, "at {time}: {journeys:?}");
    }
}

/// Everything of an erased user goes, also sealed sessions, which only the files have.
#[tokio::test]
async fn an_erased_user_is_in_no_file() {
    let seal = Control::Seal(desireline_records::Seal { source: 1, boundary: BEGIN + 10 * DAY, parts: Vec::new() });
    let erase = Control::Erase(desireline_records::EraseUser {
        source: 1,
        user: "u3".into(),
        requested_at: BEGIN,
        sealed_minutes: Vec::new(),
        purged: None,
    });
    let back = histories::event(1, "u3", "again", BEGIN + 11 * DAY);
    let story = four_days([
        Batch { time: 2, controls: vec![seal], ..Batch::default() },
        Batch { time: 3, controls: vec![erase], ..Batch::default() },
        Batch { time: 4, events: vec![back], ..Batch::default() },
    ]);
    for together in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::folder(folder.path());
        let mut target = built(&site, &story, 2, &View::ALL).await;
        if !together {
            target.apply(&story.changeset(2, 3)).await.unwrap();
            site.compare(&story, 3, &View::ALL, "erased").await;
            for (name, rows) in site.read(&View::ALL).await {
                assert!(!format!("{rows:?}").contains("\"u3\""), "{name} has the user");
            }
        }
        let from = if together { 2 } else { 3 };
        target.apply(&story.changeset(from, 4)).await.unwrap();
        site.compare(&story, 4, &View::ALL, "erased and back again").await;
    }
}

#[tokio::test]
async fn a_second_server_takes_over_and_a_lost_file_is_told() {
    let story = Story::random(8);
    let folder = tempfile::tempdir().unwrap();
    let mut sites = vec![Site::folder(folder.path())];
    sites.extend(services::s3().map(|s3| Site::s3(&s3, "fence")));
    for site in sites {
        let half = story.last() / 2;
        let mut old = built(&site, &story, half, &View::ALL).await;
        let mut new = site.target(&View::ALL);
        assert_eq!(new.open(2).await.unwrap(), Standing::At(half));
        let refused = old.apply(&story.changeset(half, story.last())).await.unwrap_err();
        assert!(matches!(refused, TargetError::Fenced { own: 1, newer: 2 }), "{refused}");
        new.apply(&story.changeset(half, story.last())).await.unwrap();
        site.compare(&story, story.last(), &View::ALL, &site.url).await;

        let store = site.store();
        let file = store.list("events", None).await.unwrap().remove(0);
        store.delete(&file.name).await.unwrap();
        let mut next = site.target(&View::ALL);
        assert_eq!(next.open(2).await.unwrap(), Standing::Fresh, "{} is gone", file.name);
        if site.options.is_empty() {
            let lost = new.check().await.unwrap_err();
            assert!(matches!(&lost, TargetError::Lost(detail) if detail.contains(&file.name)), "{lost}");
        }
        rebuild(&mut next, &story, story.last()).await;
        site.compare(&story, story.last(), &View::ALL, "built again").await;
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_no_loss() {
    let site = Site {
        url: "s3://nowhere".to_owned(),
        options: [
            ("aws_endpoint", "http://127.0.0.1:9"),
            ("aws_allow_http", "true"),
            ("aws_access_key_id", "x"),
            ("aws_secret_access_key", "x"),
            ("aws_region", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let refused = Site::folder(&file.join("below")).target(&View::ALL).open(1).await.unwrap_err();
    assert_eq!(refused.code(), "refused", "{refused}");
    let mut target = site.target(&View::ALL);
    let open = tokio::time::timeout(Duration::from_secs(20), target.open(1)).await;
    assert!(!matches!(open, Ok(Ok(_))), "nobody answers there");
    assert_eq!(target.apply(&Changeset::default()).await.unwrap_err().code(), "unavailable");
}
