//! The server held to its own description, by a tool that knows nothing else about it.
//!
//! `scripts/conformance` reads `/openapi.json` and asks every operation some two thousand times: with what the description permits,
//! with what it forbids, and with one answer fed into the next request. It catches answers of 500, undocumented statuses, headers and
//! bodies, valid requests that are refused and invalid ones that are taken. It cannot catch a well-formed answer that is wrong.
//!
//! What such a crowd leaves behind is data like any other, so afterwards the counts must balance, no handler may have panicked, and a
//! killed server must come back with the same answers.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use support::server::Server;
use support::services;

/// Whether the tool may be asked for: `scripts/test --fast` and plain `cargo test` install nothing.
fn is_wanted() -> bool {
    let services = std::env::var("DESIRELINE_TEST_SERVICES").unwrap_or_default();
    let wanted = !matches!(services.as_str(), "" | "off");
    if !wanted {
        services::skip("schemathesis");
    }
    wanted
}

fn script() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/conformance"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Rows in every view, a dead letter, and runs that ended well and badly, so that answers have something in them.
fn fill(server: &Server) {
    let event = |n: usize| {
        let event_type = ["view", "add_to_cart", "purchase"][n % 3];
        let (user, page) = (format!("u{}", n % 7), format!("/p/{}", n % 5));
        json!({ "source_id": n % 2, "user_id": user, "page": page, "event_type": event_type, "value": n })
    };
    let bad = json!({ "user_id": "u", "timestamp": "never" });
    let events: Vec<Value> = (0..60).map(event).chain([bad]).collect();
    server.http.post_json("/api/ingest-batch", &json!({ "events": events })).expect_status(200);
    let item = json!({ "asin": "B1", "category": "Beauty" }).to_string().into_bytes();
    server.http.send(reqwest::Method::PUT, "/api/items", &[("content-type", "application/json")], item).expect_status(200);
    server.http.post_json("/api/event", &json!({ "user_id": 1, "asin": "B1", "event_type": "view" })).expect_status(200);
    let rows = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,7,view,3,\n";
    std::fs::write(server.folder().join("events.csv"), rows).expect("written");
    for path in ["events.csv", "missing.csv"] {
        server.http.post_json("/trigger", &json!({ "source_id": 3, "events_path": path, "is_initial_flow": true })).expect_status(200);
    }
    support::wait::eventually_true("both runs to end", support::wait::DEADLINE, || {
        let runs = server.http.get_json("/dagster/runs");
        runs["runs"].as_array().is_some_and(|runs| runs.len() == 2 && runs.iter().all(|run| run["end_time"].is_string()))
    });
}

/// What clients see, without what moves by itself.
fn seen(server: &Server) -> Vec<Value> {
    ["/api/sessions?limit=10000", "/api/journeys?limit=10000", "/api/dead-letters?limit=10000", "/dagster/runs?limit=10000"]
        .map(|path| {
            let mut body = server.http.get_json(path);
            body.as_object_mut().expect("an object").remove("as_of");
            body
        })
        .to_vec()
}

fn metric(server: &Server, name: &str) -> String {
    let text = server.http.get("/metrics").expect_status(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} is not measured: {text}"));
    line.trim().to_owned()
}

#[test]
fn the_server_keeps_to_its_description_and_survives_whatever_is_sent() {
    if !is_wanted() {
        return;
    }
    if !script().arg("install").status().expect("scripts/conformance can be run").success() {
        return services::skip("schemathesis");
    }
    let mut server = Server::new().start();
    fill(&server);
    let report = server.folder().join("conformance.txt");
    let status = script().arg(server.base()).arg(&report).status().expect("scripts/conformance can be run");
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    assert!(status.success(), "{text}");
    let description = server.http.get_json("/openapi.json");
    let paths = description["paths"].as_object().expect("paths").values();
    let methods = |path: &Value| ["get", "put", "post", "delete", "patch"].iter().filter(|method| path[**method].is_object()).count();
    let operations: usize = paths.map(methods).sum();
    let selected = format!("{} selected / {operations} total", operations - 1);
    assert!(text.contains(&selected), "all operations but the live stream are asked, {selected}: {text}");

    assert_eq!(metric(&server, "desireline_http_panics_total "), "0");
    let status = server.http.get_json("/api/status");
    for source in status["sources"].as_array().expect("sources") {
        assert_eq!(source["balanced"], true, "{source}");
    }
    let before = seen(&server);
    server.crash();
    assert_eq!(seen(&server), before, "a restart changes no answer");
}
