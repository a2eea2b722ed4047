use super::super::{Cli, Command};
use super::*;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

fn parse(line: &str) -> Result<IngestArgs, clap::Error> {
    match Cli::try_parse_from(format!("desireline ingest {line}").split_whitespace())?.command {
        Command::Ingest(args) => Ok(args),
        other => panic!("{other:?}"),
    }
}

/// What a server remembers.
#[derive(Default)]
struct Seen {
    ids: BTreeSet<String>,
    bodies: Vec<Value>,
    polls: u32,
    /// Batches that are still accepted.
    batches_left: u32,
}

type Shared = Arc<Mutex<Seen>>;

async fn batch(State(seen): State<Shared>, body: String) -> Response {
    let mut seen = seen.lock().expect("not poisoned");
    if seen.batches_left == 0 {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"detail": "gone", "code": "internal"}))).into_response();
    }
    seen.batches_left -= 1;
    let rows: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let fresh = rows.iter().filter(|row| seen.ids.insert(row["event_id"].as_str().expect("an id").to_owned())).count();
    let duplicates = rows.len() - fresh;
    seen.bodies.extend(rows);
    Json(json!({"inserted": fresh, "duplicates": duplicates, "rejected": [], "ids": []})).into_response()
}

async fn sessions(State(seen): State<Shared>, body: String) -> Json<Value> {
    let rows: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = rows.len();
    seen.lock().expect("not poisoned").bodies.extend(rows);
    Json(json!({"inserted": count, "duplicates": 0, "rejected": [], "ids": []}))
}

async fn trigger(State(seen): State<Shared>, Json(body): Json<Value>) -> Response {
    seen.lock().expect("not poisoned").bodies.push(body);
    ([("x-desireline-run-id", "r1")], Json(json!({"detail": "started"}))).into_response()
}

async fn run_state(State(seen): State<Shared>) -> Json<Value> {
    let mut seen = seen.lock().expect("not poisoned");
    seen.polls += 1;
    let result = json!({"rows": 3, "new": 2, "duplicates": 0, "refused": 1});
    Json(match seen.polls {
        1 => json!({"status": "STARTED", "progress": {"done": 1, "total": 3, "unit": "bytes"}}),
        _ => json!({"status": "SUCCESS", "result": result}),
    })
}

/// A server that remembers, on a thread of its own.
fn server(batches: u32) -> (String, Shared) {
    let seen = Shared::default();
    seen.lock().expect("not poisoned").batches_left = batches;
    let app = axum::Router::new()
        .route("/api/ingest-batch", post(batch))
        .route("/api/wifi-sessions", post(sessions))
        .route("/trigger", post(trigger))
        .route("/dagster/runs/r1", get(run_state))
        .with_state(Arc::clone(&seen));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, app).await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
        })
    });
    (format!("http://{address}"), seen)
}

fn file(rows: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("events.csv");
    let rows: String = (0..rows).map(|row| format!("{},{},view,{},\n", 1_700_000_000_000u64 + row as u64, row % 7, row % 3)).collect();
    std::fs::write(&path, format!("timestamp,visitorid,event,itemid,transactionid\n{rows}")).expect("written");
    (folder, path)
}

#[test]
fn streaming_sends_every_row_once_with_the_same_ids() {
    let (url, seen) = server(u32::MAX);
    let (_folder, path) = file(12_000);
    let args = parse(&format!("{} --source-id 4 --stream --url {url}", path.display())).expect("parses");
    run(&args).expect("loaded");
    run(&args).expect("loaded again");
    let seen = seen.lock().expect("not poisoned");
    assert_eq!((seen.ids.len(), seen.bodies.len()), (12_000, 24_000));
    let first = &seen.bodies[0];
    assert_eq!((&first["source_id"], &first["user_id"], &first["event_type"]), (&json!(4), &json!("0"), &json!("view")));
    assert_eq!(first["timestamp"], "2023-11-14T22:13:20.000Z");
    assert!(!path.with_extension("csv.ingest-progress").exists());
}

#[test]
fn an_interrupted_stream_goes_on_behind_what_was_acknowledged() {
    let (url, seen) = server(1);
    let (_folder, path) = file(12_000);
    let args = parse(&format!("{} --source-id 4 --stream --url {url}", path.display())).expect("parses");
    assert_eq!(run(&args).expect_err("the server failed").exit, Exit::Unavailable);
    assert!(path.with_extension("csv.ingest-progress").exists());
    seen.lock().expect("not poisoned").batches_left = u32::MAX;
    run(&args).expect("loaded");
    let seen = seen.lock().expect("not poisoned");
    assert_eq!((seen.ids.len(), seen.bodies.len()), (12_000, 12_000));
}

#[test]
fn rows_that_cannot_be_sent_are_told() {
    let (url, _) = server(u32::MAX);
    let (_folder, path) = file(2);
    let content = std::fs::read_to_string(&path).expect("readable") + "1700000000000,1,dance,,\n";
    std::fs::write(&path, content).expect("written");
    let failure = run(&parse(&format!("{} --source-id 4 --stream --url {url}", path.display())).expect("parses")).expect_err("one is bad");
    assert_eq!(failure.exit, Exit::Found);
    assert!(failure.detail[0].contains("events.csv:4") && failure.detail[0].contains("dance"), "{failure:?}");
}

#[test]
fn a_local_server_reads_the_file_itself() {
    let (url, seen) = server(0);
    let (_folder, path) = file(3);
    let args = parse(&format!("{} --source-id 4 --initial --url {url}", path.display())).expect("parses");
    let failure = run(&args).expect_err("one was rejected");
    assert_eq!((failure.exit, failure.primary.as_str()), (Exit::Found, "1 rows were rejected"));
    let seen = seen.lock().expect("not poisoned");
    let path = path.canonicalize().expect("exists").display().to_string();
    assert_eq!(seen.bodies, [json!({"source_id": 4, "events_path": path, "is_initial_flow": true})]);
}

#[test]
fn what_is_no_file_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, word) in [(folder.path().to_owned(), "folder"), (folder.path().join("x.csv"), "cannot be read")] {
        let failure = run(&parse(&format!("{} --source-id 4", path.display())).expect("parses")).expect_err("no file");
        assert!(failure.primary.contains(word), "{failure:?}");
    }
    for line in ["", "x.csv", "x.csv --source-id -1", "x.csv --source-id 4 --stream --data d", "x.csv --source-id 4 --format xml"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn wifi_sessions_are_streamed_to_where_they_belong() {
    let (url, seen) = server(9);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("wifi.csv");
    let rows = "00:1B:44:11:3A:B7,7,ap,2025-01-06T09:00:00Z,2025-01-06T10:00:00Z\nlaptop,8,,1736154000,\nlaptop,x,,1736154000,\n";
    std::fs::write(&path, format!("mac_address,space_id,sensor_id,start_time,end_time\n{rows}")).expect("written");
    let line = format!("{} --source-id 2000 --format wifi --stream --url {url}", path.display());
    let failure = run(&parse(&line).expect("parses")).expect_err("one is bad");
    assert_eq!(failure.exit, Exit::Found);
    let sent = seen.lock().expect("not poisoned").bodies.clone();
    let closed = json!({ "mac_address": "00:1b:44:11:3a:b7", "space_id": 7, "sensor_id": "ap",
        "start_time": "2025-01-06T09:00:00.000Z", "end_time": "2025-01-06T10:00:00.000Z" });
    let open = json!({ "mac_address": "laptop", "space_id": 8, "start_time": "2025-01-06T09:00:00.000Z", "end_time": null });
    assert_eq!(sent, [closed, open]);
}
