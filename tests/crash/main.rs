//! The real binary on a real Kafka, killed (SIGKILL) again and again while everything goes on at once.
//!
//! # What goes on
//! | feed | what it sends | sources |
//! |---|---|---|
//! | `kafka` | two topics: events with and without ids, in disorder, repeated, malformed, ten years ahead | 1, 2 |
//! | `http` | batches that are repeated with the same ids until they are answered, some that are given up; deletions; erasures | 1, 3, 4 |
//! | `files` | one growing file, loaded by `POST /trigger` over and over | 5 |
//!
//! Meanwhile the server compacts its log, seals source 4 and erases users, as often as its settings allow. Half of the kills come at
//! random; the others are aimed at what is being written: a part of the log, a cold part, a segment, a file that is being loaded.
//!
//! # What must hold
//! Acknowledged ⊆ applied ⊆ sent, each exactly once. At the end every session, journey, minute and counter is compared with
//! [`Model`], a recomputation from what the feeds sent; a request that was given up is there as a whole or not at all; no run is left
//! over; no byte of an erased user is left; `log verify` and `verify` find nothing.
//!
//! `DESIRELINE_KILLS` (50) says how often; `DESIRELINE_SEED` chooses the randomness. The seed decides what is sent and roughly when
//! the kills come, not how the two meet: a failure may need several runs of its seed.

mod aim;
mod feed;
mod files;
mod http;
mod kafka;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use desireline::generate::random::Random;
use feed::Context;
use serde_json::{Value, json};
use support::command::desireline;
use support::kafka::Kafka;
use support::model::{Model, Observed, counter, source_status};
use support::server::Server;
use support::wait::{DEADLINE, Stop, eventually};

const CLICKS: u64 = 1;
const SHOP: u64 = 2;
const PUSH: u64 = 3;
const SEALED: u64 = 4;
const FILE: u64 = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

fn config(kafka: &Kafka, topics: &kafka::Topics) -> String {
    let brokers = kafka.brokers();
    let kafka::Topics { clicks, shop } = topics;
    format!(
        r#"
[log]
compaction_every = "300ms"
compaction_segments_min = 16
compaction_part_max = "1MiB"
[sealing]
every = "300ms"
parts_max = 4
[clusters]
min_interval = "2s"
[ingest]
file_chunk_rows = 200
[runs]
interruptions_max = 1000
[logging]
level = "warn"
[[source]]
name = "clicks"
source_id = {CLICKS}
kind = "kafka"
format = "desireline"
brokers = ["{brokers}"]
topics = ["{clicks}"]
refresh_every = "500ms"
[[source]]
name = "shop"
source_id = {SHOP}
kind = "kafka"
format = "ampelios"
brokers = ["{brokers}"]
topics = ["{shop}"]
refresh_every = "500ms"
batch_rows_max = 100
[[source]]
name = "push"
source_id = {PUSH}
session_rule = "gap"
[[source]]
name = "sealed"
source_id = {SEALED}
horizon = "2h"
lateness = "1h"
"#
    )
}

/// Stops the feeds also when the test fails in between.
struct StopAtEnd<'a>(&'a Stop);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn killed_again_and_again_it_loses_nothing_and_counts_nothing_twice() {
    let Some(kafka) = Kafka::from_env() else { return };
    let kills = number("DESIRELINE_KILLS", 50);
    let seed = number("DESIRELINE_SEED", Utc::now().timestamp_millis() as u64);
    println!("DESIRELINE_SEED={seed} DESIRELINE_KILLS={kills}");
    let topics = kafka::Topics { clicks: kafka.create_topic("crash-clicks", 3), shop: kafka.create_topic("crash-shop", 2) };
    let mut server = Server::new().config(config(&kafka, &topics)).start();
    let (base, folder) = (server.base(), server.folder().to_owned());
    let (stop, done) = (Stop::default(), AtomicU64::new(0));
    let context = Context::new(&base, seed, &stop, &done, kills);

    let (from_kafka, from_http, from_files) = std::thread::scope(|scope| {
        let _stop_at_end = StopAtEnd(&stop);
        let to_kafka = scope.spawn(|| kafka::feed(&context, &kafka, &topics));
        let by_http = scope.spawn(|| http::feed(&context));
        let by_file = scope.spawn(|| files::feed(&context, &folder));
        let mut random = Random::new(seed, 1);
        let mut aims = BTreeMap::<&str, u32>::new();
        // A feed that fails ends early.
        let failed = || to_kafka.is_finished() || by_http.is_finished();
        while done.load(Ordering::Relaxed) < kills && !failed() {
            let aim = aim::wait(&mut random, server.data(), &stop);
            server.kill();
            *aims.entry(aim).or_default() += 1;
            if random.chance(0.25) {
                // Once more, while it starts.
                server.spawn();
                stop.stopped_within(Duration::from_millis(random.below(400)));
                server.kill();
                done.fetch_add(1, Ordering::Relaxed);
            }
            server.start_again();
            done.fetch_add(1, Ordering::Relaxed);
        }
        stop.stop();
        println!("killed: {aims:?}");
        (to_kafka.join().expect("the feed ends"), by_http.join().expect("the feed ends"), by_file.join().expect("the feed ends"))
    });
    println!(
        "sent: {} messages, {} events by HTTP, {} rows of {} loads",
        from_kafka.clicks.messages + from_kafka.shop.messages,
        from_http.rows,
        from_files.rows_read,
        from_files.loads
    );

    println!("{} of {} loads were interrupted and taken up again", resumed(&server), from_files.loads);
    eventually("every message to be taken", DEADLINE, || taken(&server, &kafka, &topics));
    eventually("sessions to be sealed", DEADLINE, || {
        let status = server.http.get_json("/api/status");
        if source_status(&status, SEALED)["sealed_sessions"].as_u64() > Some(0) { Ok(()) } else { Err(status) }
    });
    let expected = Expected::new(&from_kafka, from_http, &from_files, &Observed::of(&server.http, PUSH));
    expected.compare(&server, "after the last kill");
    erased_bytes_vanish(&server, &expected.erased);
    let counters = all_counters(&server);
    assert!(server.stop().success());

    let (data, config) = (server.data().display().to_string(), folder.join("desireline.toml").display().to_string());
    desireline(&folder, &["log", "verify", "--data", &data]).expect_code(0);
    desireline(&folder, &["verify", "--data", &data, "--config", &config]).expect_code(0);
    let cat = desireline(&folder, &["log", "cat", "--only", "events,dead-letters,controls", "--data", &data]).expect_code(0).stdout;
    for user in &expected.erased {
        assert!(!cat.contains(user), "the log still has {user}");
    }
    server.start_again();
    expected.compare(&server, "after a polite restart");
    assert_eq!(all_counters(&server), counters);
}

/// Whether the log's positions are the topics' ends.
fn taken(server: &Server, kafka: &Kafka, topics: &kafka::Topics) -> Result<(), String> {
    let status = server.http.get_json("/api/status");
    for (source, topic, partitions) in [(CLICKS, &topics.clicks, 3), (SHOP, &topics.shop, 2)] {
        for partition in 0..partitions {
            let (end, name) = (kafka.bounds(topic, partition).1, format!("kafka:{topic}/{partition}"));
            let position = position(&status, source, &name);
            if end > 0 && position != Some(end) {
                return Err(format!("{name} is at {position:?} of {end}"));
            }
        }
    }
    Ok(())
}

/// Runs that needed more than one attempt.
fn resumed(server: &Server) -> usize {
    let runs = server.http.get_json("/dagster/runs?limit=1000");
    runs["runs"].as_array().expect("a list").iter().filter(|run| run["attempt"].as_u64() > Some(1)).count()
}

fn position(status: &Value, source: u64, partition: &str) -> Option<i64> {
    let partitions = source_status(status, source)["partitions"].as_array().expect("a list");
    partitions.iter().find(|item| item["partition"] == partition).and_then(|item| item["position"].as_i64())
}

fn all_counters(server: &Server) -> Vec<Value> {
    let status = server.http.get_json("/api/status");
    [CLICKS, SHOP, PUSH, SEALED, FILE].map(|source| source_status(&status, source)["counters"].clone()).to_vec()
}

/// What the server must say.
struct Expected {
    models: Vec<(u64, Model)>,
    /// Exact counters, by source and name.
    counters: Vec<(u64, &'static str, u64)>,
    /// Messages of the topic of source 1: the rest of what it received came by HTTP.
    clicks_messages: u64,
    late_min: u64,
    erased: Vec<String>,
    loads: u64,
}

impl Expected {
    fn new(from_kafka: &kafka::Sent, from_http: http::Sent, from_files: &files::Sent, seen: &Observed) -> Expected {
        let http::Sent { mut push, sealed, maybe, push_gone, sealed_gone, late, erased, cross, .. } = from_http;
        // What was given up is there as a whole, or not at all; what is there now takes part in the comparison.
        for batch in maybe {
            if seen.sessions.keys().any(|(user, _)| *user == batch.user) {
                for (id, click) in batch.clicks {
                    push.add(id, click);
                }
            }
        }
        let mut clicks = from_kafka.clicks.model.clone();
        for (id, click) in cross {
            clicks.add(id, click);
        }
        let mut counters = vec![
            (CLICKS, "applied", clicks.len()),
            (CLICKS, "rejected", from_kafka.clicks.rejected),
            (CLICKS, "quarantined", from_kafka.clicks.quarantined),
            (SHOP, "received", from_kafka.shop.messages),
            (SHOP, "applied", from_kafka.shop.model.len()),
            (SHOP, "duplicate", from_kafka.shop.duplicates),
            (SHOP, "rejected", from_kafka.shop.rejected),
            (PUSH, "applied", push.len() + push_gone),
            (PUSH, "deleted", push_gone),
            (SEALED, "applied", sealed.len() + sealed_gone),
            (SEALED, "deleted", sealed_gone),
            (FILE, "applied", from_files.model.len()),
            (FILE, "received", from_files.rows_read),
            (FILE, "rejected", from_files.rejected_read),
        ];
        counters.extend([CLICKS, SHOP, PUSH, FILE].map(|source| (source, "late", 0)));
        counters.extend([CLICKS, SHOP, PUSH, SEALED, FILE].map(|source| (source, "conflict", 0)));
        let models =
            vec![(CLICKS, clicks), (SHOP, from_kafka.shop.model.clone()), (PUSH, push), (SEALED, sealed), (FILE, from_files.model.clone())];
        Expected { models, counters, clicks_messages: from_kafka.clicks.messages, late_min: late, erased, loads: from_files.loads }
    }

    #[track_caller]
    fn compare(&self, server: &Server, when: &str) {
        for (source, model) in &self.models {
            let observed = Observed::of(&server.http, *source);
            observed.must_equal(model, &format!("source {source} {when}"));
            assert!(*source != SEALED || observed.sealed > 0, "nothing was ever sealed");
            labels_are_right(server, *source, &observed);
        }
        let status = server.http.get_json("/api/status");
        let wrong: Vec<String> = (self.counters.iter())
            .filter(|(source, name, value)| counter(&status, *source, name) != *value)
            .map(|(source, name, value)| format!("source {source}: {name} is {} instead of {value}", counter(&status, *source, name)))
            .collect();
        assert!(wrong.is_empty(), "{when}: {wrong:#?}\n{status}");
        for (source, _) in &self.models {
            assert_eq!(source_status(&status, *source)["balanced"], true, "{status}");
        }
        assert!(counter(&status, SEALED, "late") >= self.late_min, "{status}");
        let by_http = position(&status, CLICKS, "http").unwrap_or(0);
        assert_eq!(counter(&status, CLICKS, "received"), self.clicks_messages + by_http.cast_unsigned(), "{status}");
        assert_eq!(status["engine"]["late_unmarked"], 0);
        let runs = server.http.get_json("/dagster/runs?limit=1000");
        for run in runs["runs"].as_array().expect("a list") {
            assert_eq!(run["status"], "SUCCESS", "{run}");
        }
        assert_eq!(runs["runs"].as_array().map(Vec::len), Some(self.loads as usize), "{runs}");
    }
}

/// Every user has the cluster whose centroid is nearest, and the sizes add up.
#[track_caller]
fn labels_are_right(server: &Server, source: u64, observed: &Observed) {
    let (clusters, labels) = eventually("one model for a while", DEADLINE, || {
        let before = server.http.get_json(&format!("/api/clusters?source_id={source}"));
        let labels = Observed::of(&server.http, source).labels;
        let after = server.http.get_json(&format!("/api/clusters?source_id={source}"));
        if before["model_version"] == after["model_version"] { Ok((after, labels)) } else { Err(after) }
    });
    assert_eq!(clusters["users"], json!(observed.journeys.len()), "{clusters}");
    if clusters["model_version"] == 0 {
        return;
    }
    let list = clusters["clusters"].as_array().expect("a list");
    let mut sizes = BTreeMap::<u64, u64>::new();
    for (user, journey) in &observed.journeys {
        let distance = |cluster: &Value| -> f64 {
            let centroid = cluster["centroid"].as_array().expect("a list");
            centroid.iter().zip(journey.features).map(|(at, feature)| (at.as_f64().expect("a number") - feature).powi(2)).sum()
        };
        let label = labels[user].unwrap_or_else(|| panic!("{user} has no cluster"));
        let own = list.iter().find(|cluster| cluster["cluster_id"] == label).expect("a cluster with a user is listed");
        let nearest = list.iter().map(distance).fold(f64::INFINITY, f64::min);
        assert!(distance(own) <= nearest * (1.0 + 1e-12), "{user} is in {label}: {clusters}");
        *sizes.entry(label).or_default() += 1;
    }
    for cluster in list {
        assert_eq!(cluster["users"], json!(sizes.get(&cluster["cluster_id"].as_u64().expect("a number"))), "{clusters}");
    }
}

/// Erasures come to their end, and then no file has the users any more.
#[track_caller]
fn erased_bytes_vanish(server: &Server, users: &[String]) {
    eventually("all erasures to be carried out", DEADLINE, || {
        let erasures = server.http.get_json("/api/status")["erasures"].clone();
        if erasures == json!([]) { Ok(()) } else { Err(erasures) }
    });
    eventually("the bytes of erased users to be gone", DEADLINE, || {
        let mut found = Vec::new();
        search(server.data(), users, &mut found);
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

fn search(folder: &Path, words: &[String], found: &mut Vec<String>) {
    // Files that compaction deletes meanwhile contain nothing.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            search(&path, words, found);
            continue;
        }
        let content = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        found.extend(words.iter().filter(|word| text.contains(word.as_str())).map(|word| format!("{word} in {}", path.display())));
    }
}
