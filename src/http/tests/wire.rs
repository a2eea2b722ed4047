//! The bodies: what goes in, what comes out.

use super::fake::{Mood, Site, request};
use crate::http::config::HttpConfig;
use axum::body::Body;
use axum::http::Method;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;

fn site() -> Site {
    Site::new(HttpConfig::default())
}

#[tokio::test]
async fn one_event_goes_in_and_its_id_and_token_come_back() {
    let site = site();
    let answer = site.post("/api/ingest", r#"{"client_id":"c","event_type":"purchase","value":12.5,"source_id":3}"#).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["event_id"].as_str().expect("an id").len(), 24);
    assert_eq!(body["token"], "d1-0-3e8");
    let events = site.fake.events.lock().expect("lock").clone();
    assert_eq!((events[0].source, events[0].user.as_str(), events[0].value.to_string().as_str()), (3, "c", "12.5000"));

    let answer = site.post("/api/ingest", r#"{"user_id":"u","event_id":"order-1"}"#).await;
    assert_eq!(answer.json()["event_id"], "order-1");
    let answer = site.post("/api/ingest", r#"{"page":"/"}"#).await;
    assert_eq!(answer.status, 200, "an anonymous visit gets a session of its own");
}

#[tokio::test]
async fn a_bad_event_names_its_field_and_becomes_a_dead_letter() {
    let site = site();
    let answer = site.post("/api/ingest", r#"{"user_id":"u","timestamp":-5}"#).await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!((body["code"].as_str(), body["errors"][0]["field"].as_str()), (Some("invalid"), Some("timestamp")));
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    let letters = site.fake.letters.lock().expect("lock").clone();
    assert_eq!((letters[0].user.as_str(), letters[0].origin.as_str(), letters[0].format.as_str()), ("u", "http", "desireline"));

    let answer = site.post("/api/ingest", "{not json").await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned)), (400, Some("malformed".into())));
    assert_eq!(site.fake.letters.lock().expect("lock").len(), 1, "what is no JSON is not kept");
}

#[tokio::test]
async fn a_partly_bad_batch_is_accepted_in_part() {
    let site = site();
    let answer = site
        .post(
            "/api/ingest-batch",
            r#"{"events":[{"user_id":"a","event_id":"1"},{"user_id":7,"value":"x"},5,{"user_id":"b","event_id":"2"}]}"#,
        )
        .await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!((&body["inserted"], &body["duplicates"], &body["ids"]), (&json!(2), &json!(0), &json!(["1", "2"])));
    let places: Vec<_> = body["rejected"].as_array().expect("a list").iter().map(|r| (r["index"].clone(), r["field"].clone())).collect();
    assert_eq!(places, [(json!(1), json!("value")), (json!(2), json!(""))]);
    assert_eq!(site.fake.letters.lock().expect("lock").len(), 2);
}

#[tokio::test]
async fn a_wholly_bad_batch_is_an_error_that_says_why() {
    let site = site();
    let answer = site.post("/api/ingest-batch", r#"{"events":[{"user_id":"a","timestamp":"never"}]}"#).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["rejected"][0]["field"], "timestamp");
    assert_eq!(site.fake.letters.lock().expect("lock").len(), 1);
    assert_eq!(site.post("/api/ingest-batch", r#"{"events":[]}"#).await.json()["errors"][0]["field"], "events");
    assert_eq!(site.post("/api/ingest-batch", r#"{"events":7}"#).await.json()["code"], "invalid");
}

#[tokio::test]
async fn lines_and_gzip_are_understood() {
    let site = site();
    let lines = "{\"user_id\":\"a\"}\n\n{\"user_id\":\"b\"}\nbroken\n";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(lines.as_bytes()).expect("memory");
    let gzip = encoder.finish().expect("memory");
    let request =
        request(Method::POST, "/api/ingest-batch").header("content-type", "application/x-ndjson").header("content-encoding", "gzip");
    let answer = site.send(request.body(Body::from(gzip)).expect("a request")).await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.json()["inserted"], &answer.json()["rejected"][0]["index"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn a_large_batch_is_read_whole_and_its_limit_is_kept() {
    let site = site();
    let events = |n: usize| format!("{{\"events\":[{}]}}", vec![r#"{"user_id":"somebody","page":"/p/1"}"#; n].join(","));
    let answer = site.post("/api/ingest-batch", &events(10_000)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["inserted"]), (200, &json!(10_000)));
    let ids: std::collections::HashSet<String> =
        answer.json()["ids"].as_array().expect("ids").iter().map(|id| id.as_str().expect("text").to_owned()).collect();
    assert_eq!(ids.len(), 10_000);
    let answer = site.post("/api/ingest-batch", &events(10_001)).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned)), (413, Some("too_many_events".into())));
}

#[tokio::test]
async fn under_pressure_nothing_is_taken_and_the_client_is_told_when_to_return() {
    let site = site();
    site.fake.feel(Mood::Busy);
    for (path, body) in [("/api/ingest", r#"{"user_id":"u"}"#), ("/api/ingest-batch", r#"{"events":[{"user_id":"u"}]}"#)] {
        let answer = site.post(path, body).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "3"));
        assert_eq!(answer.json()["code"], "busy");
    }
    assert!(site.fake.events.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn the_view_has_the_body_its_clients_know() {
    let site = site();
    let answer = site.get("/view?source_id=1").await;
    assert_eq!(answer.json(), json!([{"id": 2, "users": 2, "centroid": [4.0, 1.0, 1.0, 2.0, 2.0, 0.25]}]));
    assert_eq!(answer.header("x-desireline-as-of"), "1000");
    let answer = site.get("/view?source_id=1&verbose=true").await;
    assert_eq!(answer.json()[0]["users"], json!([9, 10, "guest"]), "integers ascend as numbers");
    assert_eq!(site.get("/view?source_id=999").await.json(), json!([]));
    assert_eq!(site.get("/view").await.json()["errors"][0], json!({"field": "source_id", "detail": "is required"}));
    assert_eq!(site.get("/view?source_id=true").await.status, 400);
}

#[tokio::test]
async fn listings_carry_their_time_and_their_page() {
    let site = site();
    let body = site
        .get("/api/sessions?source_id=1&user_id=7&from=2023-11-14&to=2023-11-15T00:00:00Z&limit=99999&cursor=c&at_least=d1-0-a")
        .await
        .json();
    assert_eq!((&body["as_of"], &body["next_cursor"]), (&json!(1000), &json!("next")));
    assert_eq!(
        body["sessions"][0],
        json!({"source_id": 1, "user_id": 7, "session_number": 1, "start": "2023-11-14T22:13:20.000Z", "end": "2023-11-14T22:14:20.000Z",
            "event_count": 3, "views": 1, "carts": 1, "transactions": 1, "value": 12.5, "sealed": false})
    );
    let query = site.fake.sessions.lock().expect("lock").clone().expect("asked");
    assert_eq!((query.source, query.user.as_deref(), query.limit, query.cursor.as_deref()), (Some(1), Some("7"), 10_000, Some("c")));
    assert_eq!((query.from, query.at_least.map(|t| t.time)), (Some(1_699_920_000_000_000), Some(10)));
    assert_eq!(site.get("/api/sessions?from=2024-01-02&to=2024-01-01").await.json()["errors"][0]["field"], "to");

    let body = site.get("/api/journeys").await.json();
    assert_eq!(
        body,
        json!({"as_of": 1000, "next_cursor": null, "journeys": [{"source_id": 1, "user_id": "u", "state": [2.0, 1.0, 1.0],
            "paths": [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], "session_count": 2, "features": [2.0, 1.0, 1.0, 2.0, 1.0, 0.5], "cluster_id": null}]})
    );
    let body = site.get("/api/clusters?source_id=1").await.json();
    assert_eq!((&body["users"], &body["clusters"][0]["cluster_id"], &body["model_version"]), (&json!(2), &json!(2), &json!(1)));
}

#[tokio::test]
async fn aggregates_print_their_windows() {
    let site = site();
    let minute = desireline_records::time::now_micros() / 60_000_000 * 60_000_000;
    let row = |start, count| crate::service::MinuteRow {
        source: 1,
        window_start: start,
        page: "/p".into(),
        event_type: "view".into(),
        count,
        revenue: 5_000,
    };
    site.fake.set_minutes(vec![row(minute - 7_200_000_000, 1), row(minute, 4)]);
    let body = site.get("/api/metrics/aggregates?minutes=60").await.json();
    let items = body["items"].as_array().expect("items");
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0]["count"], &items[0]["revenue"], &items[0]["page"]), (&json!(4), &json!(0.5), &json!("/p")));
    let time = |field: &str| desireline_records::time::parse_time(items[0][field].as_str().expect("text")).expect("a time");
    assert_eq!((time("window_start"), time("window_end")), (minute, minute + 60_000_000));
    for bad in ["0", "1441", "x", "-1", "1.5"] {
        assert_eq!(site.get(&format!("/api/metrics/aggregates?minutes={bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn health_speaks_to_both_kinds_of_clients() {
    let site = site();
    assert_eq!(site.get("/health").await.json(), json!({"status": "healthy"}));
    for (accept, plain) in [("text/plain", true), ("text/plain, application/json", false), ("*/*", false)] {
        let answer = site.send(request(Method::GET, "/health").header("accept", accept).body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.bytes == "Healthy", plain, "{accept}");
    }
    assert_eq!(site.get("/api/health").await.json(), json!({"status": "ok", "engine": "python"}));
    assert_eq!(site.get("/ready").await.json(), json!({"ready": true, "as_of": 1000}));
    site.fake.not_ready.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = site.get("/ready").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn status_and_metrics_tell_the_same() {
    let site = site();
    let body = site.get("/api/status?at_least=d1-0-5").await.json();
    assert_eq!(site.fake.waited.lock().expect("lock").len(), 1);
    assert_eq!((&body["sources"][0]["balanced"], &body["sources"][0]["watermark"]), (&json!(true), &json!("2023-11-14T22:13:20.000Z")));
    assert_eq!((&body["sources"][0]["cold_parts"], &body["log"]["writable"]), (&json!({"parts": 0, "rows": 0, "bytes": 0}), &json!(true)));
    let answer = site.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.bytes.to_vec()).expect("text");
    assert!(text.contains("desireline_source_received_total{source_id=\"1\",name=\"source-1\"} 3"), "{text}");
    assert!(text.contains("desireline_http_requests_total{method=\"GET\",route=\"/api/status\",status=\"200\"} 1"), "{text}");
}

#[tokio::test]
async fn dead_letters_are_listed_and_a_missing_one_cannot_be_replayed() {
    let site = site();
    site.post("/api/ingest", r#"{"user_id":"u","value":"x"}"#).await;
    let body = site.get("/api/dead-letters?kind=malformed").await.json();
    assert_eq!((&body["dead_letters"][0]["field"], &body["dead_letters"][0]["user_id"]), (&json!("value"), &json!("u")));
    assert_eq!(site.get("/api/dead-letters?kind=late").await.json()["dead_letters"], json!([]));
    assert_eq!(site.get("/api/dead-letters?kind=other").await.status, 400);
    let replay = request(Method::POST, "/api/dead-letters/zzz/replay").body(Body::empty()).expect("a request");
    let answer = site.send(replay).await;
    assert_eq!((answer.status.as_u16(), answer.json()["detail"].as_str().map(str::to_owned)), (404, Some("no dead letter zzz".into())));
}

#[tokio::test]
async fn events_and_users_are_deleted_by_path() {
    let site = site();
    let delete = |uri: &str| request(Method::DELETE, uri).body(Body::empty()).expect("a request");
    let answer = site.send(delete("/api/events/3/order%2F1")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"detail": "deleted", "token": "d1-0-3e8"})));
    let answer = site.send(delete("/api/users/3/a%20b")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"detail": "erased", "token": "d1-0-3e8", "run_id": "run-1"})));
    let deleted = site.fake.deleted.lock().expect("lock").clone();
    assert_eq!(deleted, [format!("3 {}", desireline_records::EventId::explicit("order/1")), "3 a b".to_owned()]);
    assert_eq!(site.send(delete("/api/users/x/u")).await.json()["errors"][0]["field"], "source_id");
    assert_eq!(site.send(delete("/api/users/1/%00")).await.status, 400);
    assert_eq!(site.send(delete("/api/users/1/%ff")).await.status, 400);
}

#[tokio::test]
async fn runs_are_listed_looked_at_and_cancelled() {
    let site = site();
    assert_eq!(site.get("/dagster/runs?limit=20&status_filter=").await.json(), json!({"runs": []}));
    assert_eq!(site.get("/dagster/runs?status_filter=DONE").await.json()["errors"][0]["field"], "status_filter");
    for path in ["/dagster/runs/abc", "/dagster/runs/abc/logs"] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    let cancel = request(Method::POST, "/dagster/runs/abc/cancel").body(Body::empty()).expect("a request");
    assert_eq!(site.send(cancel).await.status, 404);
    assert_eq!(site.get("/dagster/health").await.json(), json!({"status": "healthy", "dagster_host": "127.0.0.1", "dagster_port": "8000"}));
    let assets = site.get("/dagster/assets").await.json();
    assert_eq!(assets["assets"].as_array().map(Vec::len), Some(10));
}
