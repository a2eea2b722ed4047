//! WiFi sessions as a client sends them.

use super::fake::{Mood, Site, request};
use crate::http::config::HttpConfig;
use axum::body::Body;
use axum::http::Method;
use desireline_records::time::{now_micros, parse_time};
use desireline_records::{DeadLetterKind, EventId};
use serde_json::json;

const MAC: &str = "00:1b:44:11:3a:b7";
/// As the validator of these tests has it.
const DEVICE: &str = "7b:a3:11:44:b1:00";

fn site() -> Site {
    Site::new(HttpConfig::default())
}

#[tokio::test]
async fn sessions_are_answered_as_events_are() {
    let site = site();
    let body = json!({ "sessions": [
        { "mac_address": MAC, "space_id": 7, "sensor_id": "ap", "start_time": "2025-01-06T09:00:00Z", "end_time": "2025-01-06T10:00:00Z" },
        { "mac_address": MAC, "space_id": 7, "start_time": "2025-01-06T09:00:00Z", "end_time": "2025-01-06T08:00:00Z" },
        7,
        { "mac_address": "laptop", "space_id": "8", "start_time": 1_736_154_000 },
    ] });
    let answer = site.post("/api/wifi-sessions", &body.to_string()).await;
    let reply = answer.json();
    assert_eq!((answer.status.as_u16(), &reply["inserted"], &reply["duplicates"]), (200, &json!(2), &json!(0)));
    let rejected: Vec<_> = reply["rejected"].as_array().expect("a list").iter().map(|r| (r["index"].clone(), r["field"].clone())).collect();
    assert_eq!(rejected, [(json!(1), json!("end_time")), (json!(2), json!(""))]);
    let start = parse_time("2025-01-06T09:00:00Z").expect("a time");
    assert_eq!(reply["ids"], json!([EventId::stay(DEVICE, 7, start).to_string(), EventId::stay("potpal", 8, start).to_string()]));
    assert!(reply["token"].is_string());
    let events = site.fake.events.lock().expect("lock");
    let devices: Vec<_> = events.iter().map(|event| (event.source, event.user.as_str())).collect();
    assert_eq!(devices, [(2_000, DEVICE), (2_000, "potpal")], "what is kept of their ids");
}

#[tokio::test]
async fn one_session_and_lines_are_understood() {
    let site = site();
    let one = format!(r#"{{"mac_address":"{MAC}","space_id":7,"start_time":1736154000}}"#);
    assert_eq!(site.post("/api/wifi-sessions", &one).await.json()["inserted"], 1);
    let lines = format!("{one}\n\n{}\nbroken\n", one.replace(":7,", ":8,"));
    let lines = request(Method::POST, "/api/wifi-sessions").header("content-type", "application/x-ndjson").body(Body::from(lines));
    let reply = site.send(lines.expect("a request")).await.json();
    assert_eq!((&reply["inserted"], &reply["rejected"][0]["index"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn no_address_is_told_or_kept() {
    let site = site();
    let ahead = now_micros() / 1_000_000 + 86_400;
    let body = json!({ "sessions": [
        { "mac_address": MAC, "space_id": MAC, "start_time": 5 },
        { "mac_address": MAC, "space_id": 7, "start_time": ahead },
        { "mac_address": [MAC], "space_id": 7, "start_time": 5 },
    ] });
    let answer = site.post("/api/wifi-sessions", &body.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned)), (400, Some("invalid".into())));
    assert!(!String::from_utf8_lossy(&answer.bytes).contains(MAC));
    let letters = site.fake.letters.lock().expect("lock");
    assert!(letters.len() == 3 && !format!("{letters:?}").contains(MAC), "{letters:?}");
    let users: Vec<_> = letters.iter().map(|letter| (letter.kind, letter.source, letter.user.as_str())).collect();
    let [malformed, quarantined] = [DeadLetterKind::Malformed, DeadLetterKind::Quarantined];
    assert_eq!(users, [(malformed, 2_000, DEVICE), (quarantined, 2_000, DEVICE), (malformed, 2_000, "")]);
}

#[tokio::test]
async fn what_is_no_batch_or_too_much_is_refused() {
    let site = Site::new(HttpConfig { batch_sessions_max: 2, ..HttpConfig::default() });
    for (body, status, code) in [
        ("{}", 400, "invalid"),
        (r#"{"sessions":[]}"#, 400, "invalid"),
        (r#"{"sessions":7}"#, 400, "invalid"),
        (r#"{"sessions":[1"#, 400, "malformed"),
        (r#"{"sessions":[1,2,3]}"#, 413, "too_many_events"),
    ] {
        let answer = site.post("/api/wifi-sessions", body).await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (status, Some(code)), "{body}");
    }
    assert!(site.fake.letters.lock().expect("lock").is_empty(), "nothing of it is kept");
    site.fake.feel(Mood::Busy);
    let answer = site.post("/api/wifi-sessions", r#"{"mac_address":"m","space_id":1,"start_time":5}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "3"));
}

#[tokio::test]
async fn clicks_are_not_taken_for_sessions() {
    let site = site();
    let answer = site.post("/api/ingest", r#"{"user_id":"u","source_id":2000}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["errors"][0]["field"]), (400, &json!("source_id")));
}

#[tokio::test]
async fn a_device_is_erased_by_its_address() {
    let site = site();
    let erase = |mac: &str| site.send(request(Method::DELETE, &format!("/api/macs/{mac}")).body(Body::empty()).expect("a request"));
    let answer = erase("00:1B:44:11:3A:B7").await;
    assert_eq!(answer.status, 202);
    let reply = answer.json();
    assert_eq!((&reply["detail"], &reply["run_ids"]), (&json!("erased"), &json!(["erasure-1", "erasure-2"])));
    assert_eq!(*site.fake.deleted.lock().expect("lock"), ["00:1B:44:11:3A:B7"]);
    let unknown = erase("nobody").await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["code"].as_str().map(str::to_owned)), (404, Some("not_found".into())));
}
