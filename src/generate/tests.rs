//! Whole runs: into files, a small HTTP server that pushes back, and a mock Kafka cluster.

use super::*;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use desireline_connectors::csv::{CsvOptions, CsvReader};
use desireline_connectors::formats;
use desireline_records::time::DAY;
use desireline_records::validate::{Validator, WifiRules};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn to_file(kind: Kind, path: &Path, events: u64) -> GenerateOptions {
    GenerateOptions { events, users: 500, ..GenerateOptions::new(kind, Target::File(path.into())) }
}

#[tokio::test]
async fn files_have_a_header_and_the_rows_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, header) in [
        (Kind::Clickstream, "timestamp,visitorid,event,itemid,transactionid"),
        (Kind::Wifi, "mac_address,space_id,sensor_id,start_time,end_time"),
        (Kind::Transactions, "transaction_id,timestamp,customer_id,customer_email,"),
    ] {
        let path = folder.path().join(format!("{kind}.csv"));
        let mut seen = Vec::new();
        let report = run(to_file(kind, &path, 2_500), |p| seen.push(p)).await.expect("a run");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with(header), "{text:.100}");
        assert_eq!(text.lines().count(), 2_501);
        assert_eq!((report.rows, report.bytes), (2_500, text.len() as u64));
        let rows: Vec<u64> = seen.iter().map(|p| p.rows).collect();
        assert_eq!(rows, [1_000, 2_000, 2_500]);
        assert!(seen.iter().all(|p| p.rows_total == 2_500));
    }
}

#[tokio::test]
async fn a_run_repeats_itself_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (folder.path().join("a.ndjson"), folder.path().join("b.ndjson"));
    for path in [&a, &b] {
        let options = GenerateOptions { late: 0.05, duplicates: 0.05, ..to_file(Kind::Clickstream, path, 3_000) };
        run(options, |_| ()).await.expect("a run");
    }
    let text = std::fs::read(&a).expect("a file");
    assert_eq!(text, std::fs::read(&b).expect("a file"));
    for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let row: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        assert!(row["event_id"].is_string());
    }
}

#[tokio::test]
async fn the_retailrocket_shape_is_written_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.csv");
    let options = GenerateOptions { shape: Shape::RetailRocket, ..to_file(Kind::Clickstream, &path, 100_000) };
    let report = run(options, |_| ()).await.expect("a run");
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!((text.lines().count(), report.rows, report.bytes), (100_001, 100_000, text.len() as u64));
}

#[tokio::test]
async fn what_cannot_be_written_is_named() {
    let path = Path::new("/nowhere/at/all.csv");
    let error = run(to_file(Kind::Clickstream, path, 10), |_| ()).await.expect_err("no such folder");
    assert_eq!((error.code(), error.is_retryable()), ("write", false));
    assert!(error.to_string().contains("/nowhere/at/all.csv"), "{error}");
    let options = GenerateOptions { late: 2.0, ..to_file(Kind::Clickstream, path, 10) };
    assert_eq!(run(options, |_| ()).await.expect_err("late").code(), "option");
}

/// Every form of a click is read by the server's own parsers as the same event.
#[tokio::test]
async fn the_servers_parsers_read_every_form() {
    let events: Vec<GeneratedEvent> = Shop::new(24, 100, START_DEFAULT).take(2_000).collect();
    for event in &events {
        for (format, parsed_as) in [
            (Format::Desireline, formats::Format::Desireline),
            (Format::Clickstream, formats::Format::Clickstream),
            (Format::Ampelios, formats::Format::Ampelios),
        ] {
            let mut text = String::new();
            event.json(format, &mut text);
            let raw = formats::parse(parsed_as, 0, text.as_bytes()).expect("the format's own parser");
            let expected = event.to_raw();
            assert_eq!((raw.time, &raw.user), (expected.time, &expected.user), "{format}");
            match format {
                Format::Desireline => assert_eq!(raw, expected),
                Format::Clickstream => {
                    assert_eq!((&raw.page, &raw.event_type, &raw.properties), (&expected.page, &expected.event_type, &expected.properties));
                }
                Format::Ampelios => assert_eq!((&raw.item, raw.event_type.as_ref()), (&expected.item, event.ampelios_word())),
            }
        }
    }
}

/// Every form of a WiFi session is read by the server's own parsers as the same session, whether it is open or closed.
#[tokio::test]
async fn the_servers_parsers_read_wifi_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let wifi = WifiRules { source: 2_000, max_session: DAY, strict_mac: true, pseudonyms: None };
    let validator = Validator { wifi: Some(wifi), ..Validator::default() };
    let [csv, lines] = ["wifi.csv", "wifi.ndjson"].map(|name| folder.path().join(name));
    for path in [&csv, &lines] {
        run(GenerateOptions { open: 0.4, late: 0.1, duplicates: 0.1, ..to_file(Kind::Wifi, path, 3_000) }, |_| ()).await.expect("a run");
    }
    let text = std::fs::read_to_string(&lines).expect("a file");
    let read = |line: &str| formats::wifi::read(&validator, 2_000, line.as_bytes(), now_micros()).expect("a session");
    let sent: Vec<_> = text.lines().map(read).collect();
    let mut reader = CsvReader::open(&csv, CsvOptions::new(2_000, formats::Format::Wifi)).expect("a readable file");
    let mut loaded = Vec::new();
    while let Some(chunk) = reader.next_chunk(&validator, now_micros()).expect("rows") {
        assert_eq!(chunk.progress.dead_letters, []);
        loaded.extend(chunk.progress.events);
    }
    assert_eq!(sent, loaded);
    let open = sent.iter().filter(|event| event.stay.is_some_and(|stay| stay.end.is_none())).count();
    assert!((700..1_100).contains(&open), "{open} of {}", sent.len());
}

#[tokio::test]
async fn a_live_campus_is_told_as_it_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("live.ndjson");
    let before = now_micros();
    let options = GenerateOptions {
        events: 200,
        users: 20_000,
        rate: 400.0,
        open: 0.5,
        ..GenerateOptions::new(Kind::Wifi, Target::File(path.clone()))
    };
    let report = run(options, |_| ()).await.expect("a run");
    let after = now_micros();
    assert_eq!(report.rows, 200);
    let wifi = WifiRules { source: 2_000, max_session: DAY, strict_mac: true, pseudonyms: None };
    let validator = Validator { wifi: Some(wifi), max_future: 0, ..Validator::default() };
    for line in std::fs::read_to_string(&path).expect("a file").lines() {
        let event = formats::wifi::read(&validator, 2_000, line.as_bytes(), after).expect("nothing lies in the future");
        let told = event.stay.and_then(|stay| stay.end).unwrap_or(event.time);
        assert!(told >= before, "{line}");
    }
}

#[tokio::test]
async fn the_servers_csv_reader_takes_both_shapes() {
    let folder = tempfile::tempdir().expect("a folder");
    for shape in [Shape::Shop, Shape::RetailRocket] {
        let path = folder.path().join(format!("{shape}.csv"));
        run(GenerateOptions { shape, ..to_file(Kind::Clickstream, &path, 20_000) }, |_| ()).await.expect("a run");
        let mut reader = CsvReader::open(&path, CsvOptions::new(1, formats::Format::Ampelios)).expect("a readable file");
        let (mut events, mut refused) = (0, 0);
        while let Some(chunk) = reader.next_chunk(&Validator::default(), now_micros()).expect("rows") {
            events += chunk.progress.events.len();
            refused += chunk.progress.dead_letters.len();
        }
        assert_eq!((events, refused), (20_000, 0), "{shape}");
    }
}

/// What the small server has seen and what it answers.
#[derive(Default)]
struct Seen {
    /// Answers to give before it takes batches.
    answers: Vec<(StatusCode, Option<&'static str>)>,
    requests: u64,
    ids: Vec<String>,
    authorization: Option<String>,
}

type Shared = Arc<Mutex<Seen>>;

async fn ingest(State(seen): State<Shared>, headers: HeaderMap, body: bytes::Bytes) -> axum::response::Response {
    let mut seen = seen.lock().expect("no panic while locked");
    seen.requests += 1;
    seen.authorization = headers.get("authorization").map(|v| v.to_str().expect("ASCII").into());
    if let Some((status, retry_after)) = seen.answers.pop() {
        let headers: Vec<(&str, &str)> = retry_after.iter().map(|s| ("retry-after", *s)).collect();
        let mut response = (status, "not now").into_response();
        for (name, value) in headers {
            response.headers_mut().insert("retry-after", value.parse().expect(name));
        }
        return response;
    }
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let events = body["events"].as_array().expect("a list");
    let before: HashSet<String> = seen.ids.iter().cloned().collect();
    let ids: Vec<String> = events.iter().map(|e| e["event_id"].as_str().expect("an id").to_string()).collect();
    let fresh: HashSet<&String> = ids.iter().filter(|id| !before.contains(*id)).collect();
    let (inserted, duplicates) = (fresh.len(), ids.len() - fresh.len());
    seen.ids.extend(ids);
    let reply = serde_json::json!({"inserted": inserted, "duplicates": duplicates, "rejected": [], "ids": [], "token": "d1-0-1"});
    reply.to_string().into_response()
}

async fn server(answers: Vec<(StatusCode, Option<&'static str>)>) -> (Target, Shared) {
    let seen: Shared = Arc::new(Mutex::new(Seen { answers, ..Seen::default() }));
    let app = Router::new().route("/api/ingest-batch", post(ingest)).with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Target::Http(base), seen)
}

#[tokio::test]
async fn http_batches_carry_ids_and_count_duplicates() {
    let (to, seen) = server(Vec::new()).await;
    let options = GenerateOptions {
        events: 2_500,
        duplicates: 0.1,
        requests_max: 1,
        token: Some("secret".into()),
        ..GenerateOptions::new(Kind::Clickstream, to)
    };
    let report = run(options, |_| ()).await.expect("a run");
    let seen = seen.lock().expect("no panic while locked");
    assert_eq!((seen.requests, seen.ids.len(), report.rows, report.retries), (3, 2_500, 2_500, 0));
    assert_eq!(report.inserted + report.duplicates, 2_500);
    assert!(report.duplicates > 100, "{report:?}");
    assert_eq!(seen.authorization.as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn a_server_under_pressure_is_given_the_time_it_asks_for() {
    // Popped from the end: 429 first, then 503 without a time.
    let answers = vec![(StatusCode::SERVICE_UNAVAILABLE, None), (StatusCode::TOO_MANY_REQUESTS, Some("1"))];
    let (to, seen) = server(answers).await;
    let started = Instant::now();
    let options = GenerateOptions { events: 100, requests_max: 1, ..GenerateOptions::new(Kind::Clickstream, to) };
    let report = run(options, |_| ()).await.expect("a run");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!((report.rows, report.inserted, report.retries), (100, 100, 2));
    assert_eq!(seen.lock().expect("no panic while locked").requests, 3);
}

#[tokio::test]
async fn a_refusal_ends_the_run_and_an_absent_server_too() {
    let (to, _) = server(vec![(StatusCode::UNAUTHORIZED, None)]).await;
    let options = GenerateOptions { events: 100, ..GenerateOptions::new(Kind::Clickstream, to) };
    match run(options, |_| ()).await {
        Err(GenerateError::Refused { status: 401, body }) => assert_eq!(body, "not now"),
        other => panic!("{other:?}"),
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let options = GenerateOptions { events: 10, retries_max: 1, ..GenerateOptions::new(Kind::Clickstream, Target::Http(base)) };
    let error = run(options, |_| ()).await.expect_err("nobody listens");
    assert_eq!((error.code(), error.is_retryable()), ("unreachable", true));
}

#[tokio::test]
async fn a_rate_is_kept() {
    let (to, _) = server(Vec::new()).await;
    let options = GenerateOptions { events: 200, rate: 400.0, ..GenerateOptions::new(Kind::Clickstream, to) };
    let started = Instant::now();
    run(options, |_| ()).await.expect("a run");
    assert!((450..5_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_messages_arrive_once_and_keyed_by_user() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("clicks", 3, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let to = Target::Kafka { brokers: brokers.clone(), topic: "clicks".into() };
    let options = GenerateOptions { events: 2_000, users: 50, ..GenerateOptions::new(Kind::Clickstream, to) };
    let report = run(options, |_| ()).await.expect("a run");
    assert_eq!(report.rows, 2_000);

    let rows = tokio::task::spawn_blocking(move || read(&brokers, "clicks", 3, 2_000)).await.expect("a reader");
    let mut ids = HashSet::new();
    let mut partition_of = std::collections::HashMap::new();
    for (partition, key, body) in rows {
        let row: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(row["user_id"], key.as_str());
        assert_eq!(*partition_of.entry(key).or_insert(partition), partition, "a user stays in its partition");
        assert!(ids.insert(row["event_id"].to_string()));
    }
    assert_eq!(ids.len(), 2_000);
}

/// Messages of a topic from its beginning, until `wanted` are there or half a minute is over.
fn read(brokers: &str, topic: &str, partitions: i32, wanted: usize) -> Vec<(i32, String, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let mut rows = Vec::new();
    while rows.len() < wanted && std::time::Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a message");
            let key = String::from_utf8(message.key().expect("a key").to_vec()).expect("UTF-8");
            rows.push((message.partition(), key, message.payload().expect("a body").to_vec()));
        }
    }
    rows
}
