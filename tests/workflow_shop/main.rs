//! The click-stream job as its users live through it: files, HTTP and Kafka in, sessions, journeys, clusters and minutes out.
//!
//! Every test starts the real binary. Expected values are written down by hand, from the definition of sessions (an event more
//! than 20 minutes after its session's first one opens a new session) and of the six features of a journey.

mod ingest;
#[path = "../support/mod.rs"]
mod support;
mod tables;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use support::command::desireline;
use support::http::Http;
use support::kafka::Kafka;
use support::model::{MINUTE_MS, counter, pages, source_status};
use support::server::Server;
use support::wait::{DEADLINE, eventually};

/// 2023-11-14T22:13:20Z.
const T: i64 = 1_700_000_000_000;

/// Two visitors. The first views, adds to the cart and buys within 15 minutes, and views again after an hour. The second views
/// at 0, 20 and 41 minutes: exactly 20 minutes still belong to the session.
fn first_file() -> String {
    let rows: [(i64, u32, &str, u32, &str); 7] = [
        (0, 1, "view", 10, ""),
        (10, 1, "addtocart", 10, ""),
        (15, 1, "transaction", 10, "77"),
        (60, 1, "view", 11, ""),
        (0, 2, "view", 10, ""),
        (20, 2, "view", 11, ""),
        (41, 2, "view", 12, ""),
    ];
    file(&rows)
}

fn file(rows: &[(i64, u32, &str, u32, &str)]) -> String {
    let mut text = "timestamp,visitorid,event,itemid,transactionid\n".to_owned();
    for (minute, visitor, event, item, transaction) in rows {
        text.push_str(&format!("{},{visitor},{event},{item},{transaction}\n", T + minute * MINUTE_MS));
    }
    text
}

/// The rows of the first file as messages, and one new event of the first visitor.
fn first_messages() -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for line in first_file().lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let message = json!({ "timestamp": fields[0], "visitorid": fields[1], "event": fields[2], "itemid": fields[3],
            "transactionid": fields[4] });
        messages.push(message.to_string());
    }
    messages.push(json!({ "timestamp": T + 61 * MINUTE_MS, "visitorid": 1, "event": "view", "itemid": 12 }).to_string());
    messages
}

fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// Loads a file through `POST /trigger` and returns the finished run.
#[track_caller]
fn load(http: &Http, source: u32, path: &Path, initial: bool) -> Value {
    let body = json!({ "source_id": source, "events_path": path, "is_initial_flow": initial });
    let begin = Instant::now();
    let reply = http.post_json("/trigger", &body).expect_status(200);
    assert!(begin.elapsed() < Duration::from_secs(5), "the reply does not wait for the run");
    assert_eq!(reply.json(), json!({ "detail": "started" }));
    finished(http, reply.header("x-desireline-run-id"))
}

#[track_caller]
fn finished(http: &Http, run: &str) -> Value {
    eventually("the run to end", Duration::from_secs(240), || {
        let run = http.get_json(&format!("/dagster/runs/{run}"));
        if ["SUCCESS", "FAILURE", "CANCELLED"].contains(&run["status"].as_str().expect("a status")) { Ok(run) } else { Err(run) }
    })
}

#[track_caller]
fn expect_success(run: &Value) {
    assert_eq!(run["status"], "SUCCESS", "{run}");
}

/// (start in minutes after T, end, events) of a visitor's sessions.
#[track_caller]
fn sessions_of(http: &Http, source: u32, user: &str) -> Vec<(i64, i64, u64)> {
    let rows = pages(http, &format!("/api/sessions?source_id={source}&user_id={user}"), "sessions");
    let minute = |value: &Value| {
        let time = DateTime::parse_from_rfc3339(value.as_str().expect("a time")).expect("RFC 3339");
        (time.timestamp_millis() - T) / MINUTE_MS
    };
    let numbers: Vec<u64> = rows.iter().map(|row| row["session_number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>(), "dense and in order");
    rows.iter().map(|row| (minute(&row["start"]), minute(&row["end"]), row["event_count"].as_u64().expect("a count"))).collect()
}

#[track_caller]
fn journey_of(http: &Http, source: u32, user: &str) -> Value {
    let mut rows = pages(http, &format!("/api/journeys?source_id={source}&user_id={user}"), "journeys");
    assert_eq!(rows.len(), 1, "one journey of {user}: {rows:?}");
    rows.remove(0)
}

#[test]
fn a_file_becomes_sessions_journeys_and_clusters() {
    let server = Server::new().start();
    let http = &server.http;
    assert_eq!(http.get("/health").expect_status(200).json()["status"], "healthy");
    let path = server.folder().join("ev1.csv");
    fs::write(&path, first_file()).expect("the file can be written");
    let run = load(http, 1, &path, true);
    expect_success(&run);
    assert_eq!((&run["result"]["rows"], &run["result"]["new"]), (&json!(7), &json!(7)), "{run}");

    let view = http.get_json("/view?source_id=1");
    let view = view.as_array().expect("an array");
    let ids: Vec<u64> = view.iter().map(|row| row["id"].as_u64().expect("a number")).collect();
    assert!(ids.is_sorted() && !ids.is_empty(), "{view:?}");
    assert_eq!(view.iter().map(|row| row["users"].as_u64().expect("a number")).sum::<u64>(), 2);
    assert!(view.iter().all(|row| row["centroid"].as_array().is_some_and(|c| c.len() == 6 && c.iter().all(Value::is_number))));
    let verbose = http.get_json("/view?source_id=1&verbose=true");
    let mut users: Vec<i64> = Vec::new();
    for row in verbose.as_array().expect("an array") {
        let members: Vec<i64> = row["users"].as_array().expect("a list").iter().map(|user| user.as_i64().expect("a number")).collect();
        assert!(members.is_sorted(), "{row}");
        users.extend(members);
    }
    users.sort_unstable();
    assert_eq!(users, [1, 2]);

    assert_eq!(sessions_of(http, 1, "1"), [(0, 15, 3), (60, 60, 1)]);
    assert_eq!(sessions_of(http, 1, "2"), [(0, 20, 2), (41, 41, 1)]);
    let first = journey_of(http, 1, "1");
    assert_eq!((&first["state"], &first["paths"]), (&json!([2.0, 1.0, 1.0]), &json!([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])));
    assert_eq!(first["features"], json!([2.0, 1.0, 1.0, 2.0, 1.0, 0.5]));
    assert_eq!(first["user_id"], 1, "visitors of a file are numbers");
    let second = journey_of(http, 1, "2");
    assert_eq!((&second["state"], &second["paths"]), (&json!([3.0, 0.0, 0.0]), &json!([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])));
    assert_eq!(second["features"], json!([3.0, 0.0, 0.0, 2.0, 1.5, 0.0]));
    assert!(first["cluster_id"].is_u64() && second["cluster_id"].is_u64(), "{first} {second}");

    // The same file again changes nothing.
    let run = load(http, 1, &path, true);
    expect_success(&run);
    assert_eq!((&run["result"]["new"], &run["result"]["duplicates"]), (&json!(0), &json!(7)), "{run}");
    let status = http.get_json("/api/status");
    assert_eq!((counter(&status, 1, "applied"), counter(&status, 1, "duplicate"), counter(&status, 1, "conflict")), (7, 7, 0));
    assert_eq!(journey_of(http, 1, "1")["state"], json!([2.0, 1.0, 1.0]));

    // The same visitors of another source are other users.
    expect_success(&load(http, 3, &path, true));
    assert_eq!(sessions_of(http, 3, "1"), sessions_of(http, 1, "1"));
    assert_eq!(http.get_json("/api/clusters?source_id=3")["users"], 2);
    assert_eq!(http.get_json("/api/clusters?source_id=1")["users"], 2);
}

#[test]
fn features_of_hand_computed_journeys() {
    let server = Server::new().start();
    // Visitor 1: (3, 1, 0) and (1, 0, 1); visitor 2: a purchase without a view.
    let rows = [
        (0, 1, "view", 1, ""),
        (1, 1, "view", 2, ""),
        (2, 1, "view", 3, ""),
        (3, 1, "addtocart", 3, ""),
        (100, 1, "view", 3, ""),
        (101, 1, "transaction", 3, "5"),
        (0, 2, "transaction", 3, "6"),
    ];
    let path = server.folder().join("features.csv");
    fs::write(&path, file(&rows)).expect("the file can be written");
    expect_success(&load(&server.http, 4, &path, true));
    let first = journey_of(&server.http, 4, "1");
    assert_eq!((&first["state"], &first["paths"]), (&json!([4.0, 1.0, 1.0]), &json!([[3.0, 1.0, 0.0], [1.0, 0.0, 1.0]])));
    assert_eq!(first["features"], json!([4.0, 1.0, 1.0, 2.0, 2.0, 0.25]));
    let second = journey_of(&server.http, 4, "2");
    assert_eq!(second["features"], json!([0.0, 0.0, 1.0, 1.0, 0.0, 1.0]));
}

#[test]
fn a_changed_session_rule_cuts_the_open_sessions_again() {
    let config = |rule: &str| format!("[[source]]\nname = \"two\"\nsource_id = 2\nsession_rule = \"{rule}\"\nuser_id_type = \"int\"\n");
    let mut server = Server::new().config(config("from_first")).start();
    let path = server.folder().join("ev2.csv");
    fs::write(&path, file(&[(0, 5, "view", 1, ""), (15, 5, "view", 2, ""), (30, 5, "view", 3, "")])).expect("written");
    expect_success(&load(&server.http, 2, &path, true));
    assert_eq!(sessions_of(&server.http, 2, "5"), [(0, 15, 2), (30, 30, 1)]);
    for (rule, sessions) in [("gap", vec![(0, 30, 3)]), ("from_first", vec![(0, 15, 2), (30, 30, 1)])] {
        assert!(server.stop().success());
        server.set_config(config(rule));
        server.start_again();
        eventually(rule, DEADLINE, || {
            let seen = sessions_of(&server.http, 2, "5");
            if seen == sessions { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

#[test]
fn mistakes_are_answered_and_stop_nothing() {
    let server = Server::new().start();
    let http = &server.http;
    for body in [
        json!({ "source_id": "x" }),
        json!({ "source_id": "x", "events_path": "a.csv" }),
        json!({ "source_id": 1 }),
        json!({ "source_id": -1, "events_path": "a.csv" }),
        json!([]),
    ] {
        let error = http.post_json("/trigger", &body).expect_status(400).json();
        assert!(error["detail"].is_string() && error["code"].is_string(), "{error}");
    }
    http.get("/view").expect_status(400);
    http.get("/view?source_id=x").expect_status(400);
    assert_eq!(http.get_json("/view?source_id=999"), json!([]));

    let missing = server.folder().join("missing.csv");
    let run = load(http, 1, &missing, true);
    assert_eq!(run["status"], "FAILURE", "{run}");
    assert!(run["error_message"].as_str().is_some_and(|text| text.ends_with("cannot be parsed")), "{run}");
    assert!(run["end_time"].is_string(), "{run}");
    let logs = http.get_json(&format!("/dagster/runs/{}/logs", run["run_id"].as_str().expect("an id")));
    assert!(logs["logs"].as_array().expect("a list").iter().any(|line| line["level"] == "ERROR"), "{logs}");

    // An unknown word is rejected, the rest of the file counts.
    let path = server.folder().join("foo.csv");
    fs::write(&path, file(&[(0, 1, "view", 1, ""), (1, 1, "foo", 1, ""), (2, 1, "view", 2, "")])).expect("written");
    expect_success(&load(http, 1, &path, false));
    let status = http.get_json("/api/status");
    assert_eq!((counter(&status, 1, "applied"), counter(&status, 1, "rejected"), counter(&status, 1, "received")), (2, 1, 3));
    let letters = pages(http, "/api/dead-letters?source_id=1", "dead_letters");
    assert_eq!((letters.len(), &letters[0]["field"], &letters[0]["user_id"]), (1, &json!("event"), &json!("1")), "{letters:?}");
    assert!(letters[0]["origin"].as_str().is_some_and(|origin| origin.ends_with(":3")), "the third line of the file: {letters:?}");
}

#[test]
fn what_a_file_brought_counts_once_when_kafka_brings_it_again() {
    let Some(kafka) = Kafka::from_env() else { return };
    let (topic, idle) = (kafka.create_topic("events-topic", 1), kafka.create_topic("idle-topic", 1));
    let source = |name: &str, id: u32, topic: &str| {
        let brokers = kafka.brokers();
        format!(
            "[[source]]\nname = \"{name}\"\nsource_id = {id}\nkind = \"kafka\"\nformat = \"ampelios\"\nbrokers = [\"{brokers}\"]\n\
             topics = [\"{topic}\"]\nrefresh_every = \"500ms\"\n"
        )
    };
    let config = format!("{}{}", source("shop", 1, &topic), source("idle", 2, &idle));
    let server = Server::new().config(config).start();
    let http = &server.http;
    let path = server.folder().join("ev1.csv");
    fs::write(&path, first_file()).expect("the file can be written");
    expect_success(&load(http, 1, &path, true));

    let messages = first_messages();
    assert_eq!(kafka.produce(&topic, &messages), 8);
    let status = eventually("all messages to be taken", DEADLINE, || {
        let status = http.get_json("/api/status");
        if counter(&status, 1, "received") == 15 { Ok(status) } else { Err(status) }
    });
    assert_eq!((counter(&status, 1, "applied"), counter(&status, 1, "duplicate"), counter(&status, 1, "conflict")), (8, 7, 0));
    let journey = journey_of(http, 1, "1");
    assert_eq!(journey["state"], json!([3.0, 1.0, 1.0]));
    assert_eq!(journey["paths"].as_array().and_then(|paths| paths.last()), Some(&json!([2.0, 0.0, 0.0])));
    assert!(journey["cluster_id"].is_u64(), "{journey}");

    // A topic on which nothing happens holds nobody back: what comes by HTTP and by the other topic is visible at one time.
    let event = json!({ "source_id": 5, "user_id": "u", "event_type": "view", "event_id": "e1" });
    let token = http.post_json("/api/ingest", &event).expect_status(200).json()["token"].as_str().expect("a token").to_owned();
    let fresh = json!({ "timestamp": now_ms(), "visitorid": 9, "event": "view", "itemid": 1 }).to_string();
    kafka.produce(&topic, [fresh]);
    eventually("the event to be visible", DEADLINE, || {
        let seen = pages(http, &format!("/api/sessions?source_id=1&user_id=9&at_least={token}"), "sessions");
        if seen.len() == 1 { Ok(()) } else { Err(seen.len()) }
    });
    let status = http.get_json("/api/status");
    assert_eq!(counter(&status, 5, "applied"), 1);
    assert!(source_status(&status, 1)["partitions"].as_array().expect("a list").iter().any(|p| p["position"] == 9), "{status}");
}

#[test]
fn a_dead_letter_can_be_replayed_once_its_reason_is_gone() {
    let config = |words: &str| format!("[ingest]\nwords_view = [\"view\"{words}]\n");
    let mut server = Server::new().config(config("")).start();
    let path = server.folder().join("words.csv");
    fs::write(&path, file(&[(0, 1, "view", 1, ""), (1, 1, "look", 2, "")])).expect("written");
    expect_success(&load(&server.http, 1, &path, false));
    let letters = pages(&server.http, "/api/dead-letters?source_id=1&kind=invalid", "dead_letters");
    assert_eq!(letters.len(), 1, "{letters:?}");
    let replay = format!("/api/dead-letters/{}/replay", letters[0]["id"].as_str().expect("an id"));
    let refused = server.http.send(Method::POST, &replay, &[], Vec::new());
    assert!((400..500).contains(&refused.status), "still an unknown word: {} {}", refused.status, refused.text());

    assert!(server.stop().success());
    server.set_config(config(", \"look\""));
    server.start_again();
    let reply = server.http.send(Method::POST, &replay, &[], Vec::new()).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["duplicates"]), (&json!(1), &json!(0)));
    assert_eq!(journey_of(&server.http, 1, "1")["state"], json!([2.0, 0.0, 0.0]));
    server.http.send(Method::POST, "/api/dead-letters/nothing/replay", &[], Vec::new()).expect_status(404);
}

#[test]
fn every_endpoint_answers_while_a_large_file_loads() {
    const ROWS: u64 = 300_000;
    let server = Server::new().start();
    let http = &server.http;
    let path = server.folder().join("large.csv");
    let rows = ROWS.to_string();
    let to = path.display().to_string();
    desireline(server.folder(), &["generate", "clickstream", "--shape", "retailrocket", "--events", &rows, "--to", &to]).expect_code(0);
    let small = server.folder().join("ev1.csv");
    fs::write(&small, first_file()).expect("written");
    let body = json!({ "source_id": 1, "events_path": path, "is_initial_flow": true });
    let run = http.post_json("/trigger", &body).expect_status(200).header("x-desireline-run-id").to_owned();
    let paths = [
        "/health",
        "/api/health",
        "/ready",
        "/view?source_id=1",
        "/view?source_id=1&verbose=true",
        "/api/sessions?source_id=1",
        "/api/journeys?source_id=1&limit=1000",
        "/api/clusters?source_id=1",
        "/api/metrics/aggregates?minutes=60",
        "/api/status",
        "/api/dead-letters",
        "/metrics",
        "/dagster/runs",
        "/dagster/assets",
        "/dagster/health",
        "/dashboard",
        "/openapi.json",
    ];
    let mut took: Vec<(Duration, &str)> = Vec::new();
    let mut rounds = 0;
    let end = loop {
        for path in paths {
            let begin = Instant::now();
            http.get(path).expect_status(200);
            took.push((begin.elapsed(), path));
        }
        let begin = Instant::now();
        let event = json!({ "source_id": 2, "user_id": "u", "event_id": format!("during-{rounds}"), "event_type": "view" });
        http.post_json("/api/ingest", &event).expect_status(200);
        took.push((begin.elapsed(), "/api/ingest"));
        rounds += 1;
        let run = http.get_json(&format!("/dagster/runs/{run}"));
        if run["status"] != "PENDING" && run["status"] != "STARTED" {
            break run;
        }
    };
    expect_success(&end);
    took.sort_unstable();
    let at = |share: f64| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
    println!(
        "{} answers in {rounds} rounds while {ROWS} rows were loaded: p50 {:?}, p99 {:?}, slowest {:?}",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let status = http.get_json("/api/status");
    assert_eq!(counter(&status, 1, "received"), ROWS);
    assert_eq!(counter(&status, 2, "applied"), rounds);
    let clustered: u64 =
        (http.get_json("/view?source_id=1").as_array().expect("an array").iter()).map(|row| row["users"].as_u64().expect("a number")).sum();
    assert_eq!(json!(clustered), source_status(&status, 1)["users"]);
}
