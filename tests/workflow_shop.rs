//! The click-stream job as its users live through it: files, HTTP and Kafka in, sessions, journeys, clusters and minutes out.
//!
//! Every test starts the real binary. Expected values are written down by hand, from the definition of sessions (an event more
//! than 20 minutes after its session's first one opens a new session) and of the six features of a journey.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use support::command::desireline;
use support::http::{Http, Reply};
use support::kafka::Kafka;
use support::model::{Click, HOUR_MS, MINUTE_MS, Model, Observed, Rule, counter, pages, source_status};
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

fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// Loads a file through `POST /trigger` and returns the finished run.
#[track_caller]
fn load(http: &Http, source: u32, path: &Path, initial: bool) -> Value {
    let body = json!({ "source_id": source, "events_path": path, "is_initial_flow": initial });
    let begin = Instant::now();
    let reply = http.post_json("/trigger", &body).expect_status(200);
    assert!(begin.elapsed() < Duration::from_secs(1), "the reply does not wait for the run");
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

    let mut messages: Vec<String> = Vec::new();
    for line in first_file().lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let message = json!({ "timestamp": fields[0], "visitorid": fields[1], "event": fields[2], "itemid": fields[3],
            "transactionid": fields[4] });
        messages.push(message.to_string());
    }
    messages.push(json!({ "timestamp": T + 61 * MINUTE_MS, "visitorid": 1, "event": "view", "itemid": 12 }).to_string());
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

/// Sends one body under a content type, compressed or not.
fn post(http: &Http, path: &str, kind: &str, body: &str, gzip: bool) -> Reply {
    if !gzip {
        return http.send(Method::POST, path, &[("content-type", kind)], body.as_bytes().to_vec());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).expect("writing to memory");
    let bytes = encoder.finish().expect("writing to memory");
    http.send(Method::POST, path, &[("content-type", kind), ("content-encoding", "gzip")], bytes)
}

#[test]
fn every_form_of_ingest_is_durable_visible_and_counted() {
    let mut server = Server::new().start();
    let http = &server.http;
    let base = now_ms() - 3 * HOUR_MS;
    let mut model = Model::new(Rule::FromFirst);
    let mut sent = 0;
    let mut event = |user: &str, minute: i64, kind: &str, value: i64| {
        sent += 1;
        let (id, time_ms) = (format!("e{sent}"), base + minute * MINUTE_MS);
        let click =
            Click { user: user.to_owned(), time_ms, event_type: kind.to_owned(), page: format!("/p/{}", sent % 3), value: value * 10_000 };
        let body = json!({ "event_id": id, "user_id": user, "event_type": kind, "page": click.page, "timestamp": time_ms, "value": value });
        assert!(model.add(id, click));
        body
    };

    // One event, to the default source; its token makes it visible at once.
    let single = http.post_json("/api/ingest", &event("ann", 0, "view", 0)).expect_status(200).json();
    assert_eq!(single["event_id"], "e1");
    let token = single["token"].as_str().expect("a token").to_owned();
    let seen = http.get(&format!("/api/journeys?source_id=0&user_id=ann&at_least={token}")).expect_status(200);
    assert!(seen.header("x-desireline-as-of").parse::<u64>().is_ok());
    assert_eq!(seen.json()["journeys"][0]["state"], json!([1.0, 0.0, 0.0]));

    // The same event again is no new one.
    let again = json!({ "event_id": "e1", "user_id": "ann", "event_type": "view", "page": "/p/1", "timestamp": base });
    http.post_json("/api/ingest", &again).expect_status(200);

    let batch = json!({ "events": [event("ann", 5, "addtocart", 0), event("bob", 6, "purchase", 30), event("ann", 40, "search", 0)] });
    let reply = post(http, "/api/ingest-batch", "application/json", &batch.to_string(), false).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["duplicates"], &reply["ids"]), (&json!(3), &json!(0), &json!(["e2", "e3", "e4"])));
    let reply = post(http, "/api/ingest-batch", "application/json", &batch.to_string(), true).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["duplicates"]), (&json!(0), &json!(3)), "compressed, and repeated");
    let lines = format!("{}\n\n{}\n", event("bob", 70, "view", 0), event("cid", 71, "purchase", 12));
    let reply = post(http, "/api/ingest-batch", "application/x-ndjson", &lines, true).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["ids"]), (&json!(2), &json!(["e5", "e6"])));

    // A partly bad batch keeps its good rows; a wholly bad one is refused; both leave dead letters.
    let mixed = json!({ "events": [event("cid", 72, "view", 0), { "user_id": "dan", "timestamp": "tomorrow" }, 17,
        { "user_id": "eve", "timestamp": now_ms() + HOUR_MS }] });
    let reply = http.post_json("/api/ingest-batch", &mixed).expect_status(200).json();
    assert_eq!(reply["inserted"], 1);
    let places: Vec<(u64, &str)> = (reply["rejected"].as_array().expect("a list").iter())
        .map(|refused| (refused["index"].as_u64().expect("an index"), refused["field"].as_str().expect("a field")))
        .collect();
    assert_eq!(places, [(1, "timestamp"), (2, ""), (3, "timestamp")], "{reply}");
    let error = http.post_json("/api/ingest-batch", &json!({ "events": [{ "value": [] }] })).expect_status(400).json();
    assert_eq!(error["rejected"].as_array().map(Vec::len), Some(1), "{error}");
    let status = http.get_json("/api/status");
    let refused = counter(&status, 0, "rejected") + counter(&status, 0, "quarantined");
    assert_eq!((counter(&status, 0, "applied"), counter(&status, 0, "duplicate")), (model.len(), 4), "{status}");
    assert_eq!((refused, counter(&status, 0, "quarantined")), (1 + places.len() as u64, 1));
    assert_eq!(source_status(&status, 0)["balanced"], true);
    Observed::of(http, 0).must_equal(&model, "before a restart");

    // Killed and started again, everything is as it was, and what was sent before is still known.
    server.crash();
    Observed::of(&server.http, 0).must_equal(&model, "after a crash");
    server.http.get(&format!("/api/sessions?at_least={token}")).expect_status(200);
    let reply = server.http.post_json("/api/ingest-batch", &batch).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["duplicates"]), (&json!(0), &json!(3)));
    let after = server.http.get_json("/api/status");
    assert_eq!(counter(&after, 0, "received"), counter(&status, 0, "received") + 3);
    assert!(server.stop().success());
    server.start_again();
    Observed::of(&server.http, 0).must_equal(&model, "after a polite restart");
}

#[test]
fn a_late_event_corrects_its_minute_and_a_deleted_one_leaves_every_view() {
    let server = Server::new().start();
    let http = &server.http;
    let mut model = Model::new(Rule::FromFirst);
    let begin = (now_ms() - HOUR_MS) / MINUTE_MS * MINUTE_MS;
    let mut ingest = |id: &str, offset_ms: i64, kind: &str, value: i64| {
        let click =
            Click { user: "u".into(), time_ms: begin + offset_ms, event_type: kind.into(), page: "/late".into(), value: value * 10_000 };
        let body = json!({ "source_id": 7, "event_id": id, "user_id": "u", "event_type": kind, "page": "/late",
            "timestamp": click.time_ms, "value": value });
        http.post_json("/api/ingest", &body).expect_status(200);
        model.add(id, click);
        Observed::of(http, 7).must_equal(&model, id);
    };
    ingest("first", 30 * MINUTE_MS, "view", 0);
    ingest("second", 31 * MINUTE_MS, "purchase", 20);
    // Each of these re-cuts what was there: before it, between, and joining it.
    ingest("late-before", 5 * MINUTE_MS, "view", 0);
    ingest("late-between", 24 * MINUTE_MS, "purchase", 7);
    ingest("late-same-minute", 30 * MINUTE_MS + 1, "view", 0);
    assert_eq!(model.minutes()[&(begin + 30 * MINUTE_MS, "/late".into(), "view".into())], (2, 0));

    for id in ["late-between", "first"] {
        let reply = http.delete(&format!("/api/events/7/{id}")).expect_status(200).json();
        model.clicks.remove(&("u".to_owned(), id.to_owned()));
        http.get(&format!("/api/sessions?source_id=7&at_least={}", reply["token"].as_str().expect("a token"))).expect_status(200);
        Observed::of(http, 7).must_equal(&model, "after a deletion");
        http.delete(&format!("/api/events/7/{id}")).expect_status(404);
        // The id stays known: the same event does not come back by a repeated request.
        let body = json!({ "source_id": 7, "event_id": id, "user_id": "u", "event_type": "view", "timestamp": begin });
        http.post_json("/api/ingest", &body).expect_status(200);
        Observed::of(http, 7).must_equal(&model, "after a repetition of what was deleted");
    }
    let status = http.get_json("/api/status");
    assert_eq!((counter(&status, 7, "deleted"), counter(&status, 7, "duplicate")), (2, 2));
    assert_eq!(source_status(&status, 7)["balanced"], true);
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

/// All files under a folder that contain some bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What compaction deletes meanwhile contains nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).is_ok_and(|content| content.windows(bytes.len()).any(|window| window == bytes)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn an_erased_user_leaves_every_view_at_once_and_then_every_file() {
    let config = "[log]\ncompaction_every = \"200ms\"\n[sealing]\nevery = \"200ms\"\n\
        [[source]]\nname = \"cold\"\nsource_id = 2\nhorizon = \"1h\"\nlateness = \"30m\"\n";
    let mut server = Server::new().config(config).start();
    let http = &server.http;
    let base = now_ms() - 10 * HOUR_MS;
    let mut model = Model::new(Rule::FromFirst);
    let mut number = 0;
    for (minute, user) in [(0, "erase-me-4711"), (1, "stays"), (2, "erase-me-4711"), (60, "stays"), (240, "stays"), (241, "erase-me-4711")]
    {
        number += 1;
        let click = Click { user: user.into(), time_ms: base + minute * MINUTE_MS, event_type: "view".into(), page: "/x".into(), value: 0 };
        let body = json!({ "source_id": 2, "event_id": format!("id-{user}-{number}"), "user_id": user, "event_type": "view", "page": "/x",
            "timestamp": click.time_ms, "properties": { "note": user } });
        http.post_json("/api/ingest", &body).expect_status(200);
        model.add(number.to_string(), click);
    }
    // A dead letter of the user as well.
    http.post_json("/api/ingest", &json!({ "source_id": 2, "user_id": "erase-me-4711", "value": "much" })).expect_status(400);
    eventually("old sessions to be sealed", DEADLINE, || {
        let seen = Observed::of(http, 2);
        if seen.sealed >= 3 { Ok(()) } else { Err(seen.sealed) }
    });
    Observed::of(http, 2).must_equal(&model, "before the erasure");
    assert!(!files_with(server.data(), b"erase-me-4711").is_empty(), "the log has the user in plain text");

    let reply = http.delete("/api/users/2/erase-me-4711").expect_status(202).json();
    assert_eq!(reply["detail"], "erased");
    model.clicks.retain(|(user, _), _| user != "erase-me-4711");
    Observed::of(http, 2).must_equal(&model, "at once");
    eventually("the user's bytes to be gone from every file", Duration::from_secs(90), || {
        let found = files_with(server.data(), b"erase-me-4711");
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
    eventually("the erasure to be done", DEADLINE, || {
        let erasures = http.get_json("/api/status")["erasures"].clone();
        if erasures == json!([]) { Ok(()) } else { Err(erasures) }
    });
    assert_eq!(pages(http, "/api/dead-letters?source_id=2", "dead_letters"), Vec::<Value>::new());
    http.delete("/api/users/2/nobody").expect_status(404);
    let before = http.get_json("/api/status");
    assert_eq!((counter(&before, 2, "received"), counter(&before, 2, "deleted")), (7, 3));

    server.crash();
    Observed::of(&server.http, 2).must_equal(&model, "after a crash");
    let after = server.http.get_json("/api/status");
    assert_eq!(source_status(&after, 2)["counters"], source_status(&before, 2)["counters"]);
    assert!(server.stop().success());
    // Parts are compressed: only reading them tells that the rows are gone.
    let data = server.data().display().to_string();
    let cat = desireline(server.folder(), &["log", "cat", "--only", "events,dead-letters,controls", "--data", &data]).expect_code(0);
    assert!(cat.stdout.contains("stays") && !cat.stdout.contains("erase-me-4711"), "{}", cat.stdout);
    desireline(server.folder(), &["log", "verify", "--data", &data]).expect_code(0);
}

#[test]
fn a_full_queue_refuses_and_takes_nothing_of_what_it_refuses() {
    let server = Server::new().config("[engine]\nqueue_rows_max = 10\ncommit_rows_max = 10\ncommit_age_max = \"2s\"\n").start();
    let http = &server.http;
    // One row less than would be committed at once.
    let events: Vec<Value> = (0..9).map(|n| json!({ "event_id": format!("first-{n}"), "user_id": "u", "event_type": "view" })).collect();
    let extra = json!({ "events": [{ "event_id": "a", "user_id": "u" }, { "event_id": "b", "user_id": "u" }] });
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| http.post_json("/api/ingest-batch", &json!({ "events": events })));
        eventually("the queue to be full", DEADLINE, || {
            let depth = http.get_json("/api/status")["queue_depth"].clone();
            if depth == 9 { Ok(()) } else { Err(depth) }
        });
        let refused = http.post_json("/api/ingest-batch", &extra).expect_status(429);
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{:?}", refused.headers);
        assert_eq!(refused.json()["code"], "busy");
        let reply = filling.join().expect("the request was answered").expect_status(200).json();
        assert_eq!(reply["inserted"], 9);
    });
    assert_eq!(counter(&http.get_json("/api/status"), 0, "received"), 9, "nothing of the refused request was taken");
    http.post_json("/api/ingest-batch", &extra).expect_status(200);
    assert_eq!(counter(&http.get_json("/api/status"), 0, "applied"), 11);
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
