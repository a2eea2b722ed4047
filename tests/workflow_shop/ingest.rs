//! Events over HTTP: every form of them, read back, corrected, deleted, erased, refused.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};

use crate::now_ms;
use crate::support::command::desireline;
use crate::support::http::{Http, Reply};
use crate::support::model::{Click, HOUR_MS, MINUTE_MS, Model, Observed, Rule, counter, pages, source_status};
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, eventually};

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
    let server = Server::new().config("[engine]\nqueue_rows_max = 10\ncommit_rows_max = 10\ncommit_age_max = \"4s\"\n").start();
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
