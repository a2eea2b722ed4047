//! Alerts of the real binary: a room that fills up is told to a topic, and brokers that are not there hinder nothing.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::http::Http;
use support::kafka::Kafka;
use support::server::Server;
use support::wait::{DEADLINE, eventually};

fn put_spaces(http: &Http, spaces: &Value) {
    let body = json!({ "spaces": spaces }).to_string().into_bytes();
    http.send(Method::PUT, "/api/spaces", &[("content-type", "application/json")], body).expect_status(200);
}

/// Open sessions that have begun a minute ago.
fn arrive(http: &Http, devices: std::ops::Range<u32>, space: u32) {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs() - 60;
    let session = |device: u32| json!({"mac_address": format!("00:1b:44:11:3a:{device:02x}"), "space_id": space, "start_time": begun});
    http.post_json("/api/wifi-sessions", &json!({"sessions": devices.map(session).collect::<Vec<_>>()})).expect_status(200);
}

fn alerts(http: &Http) -> [u64; 3] {
    let status = http.get_json("/api/status");
    ["given", "delivered", "missed"].map(|name| status["wifi"]["alerts"][name].as_u64().expect("a number"))
}

#[test]
fn a_full_room_is_told_to_a_topic() {
    let Some(kafka) = Kafka::from_env() else { return };
    let topic = kafka.create_topic("occupancy-alerts", 2);
    let config = format!("[wifi]\nalert_brokers = [\"{}\"]\nalert_topic = \"{topic}\"\nalert_percent = [50]\n", kafka.brokers());
    let server = Server::new().config(config).start();
    put_spaces(
        &server.http,
        &json!([{"space_id": 1, "capacity": 10}, {"space_id": 10, "parent_space_id": 1, "space_name": "Hall", "capacity": 4}]),
    );
    arrive(&server.http, 0..1, 10);
    arrive(&server.http, 0..5, 10);
    let told = eventually("both alerts", DEADLINE, || {
        let told = kafka.read_all(&topic);
        if told.len() == 2 { Ok(told) } else { Err(format!("{} messages; {:?}", told.len(), alerts(&server.http))) }
    });
    let mut told: Vec<(String, Value)> = told
        .into_iter()
        .map(|message| {
            let key = String::from_utf8(message.key.expect("a key")).expect("text");
            (key, serde_json::from_slice(&message.payload).expect("JSON"))
        })
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!([&told[0].0, &told[1].0], ["1", "10"]);
    let hall = &told[1].1;
    let brief = ["event", "space_name", "capacity", "threshold_percent", "direction"].map(|name| hall[name].clone());
    assert_eq!(brief, [json!("occupancy_change"), json!("Hall"), json!(4), json!(50), json!("up")]);
    assert!(hall["number_connections"].as_u64().is_some_and(|number| (2..=5).contains(&number)), "{hall}");
    eventually("their count", DEADLINE, || {
        if alerts(&server.http) == [2, 2, 0] { Ok(()) } else { Err(format!("{:?}", alerts(&server.http))) }
    });
    kafka.delete_topic(&topic);
}

#[test]
fn brokers_that_are_not_there_hinder_nothing() {
    let config = "[wifi]\nalert_brokers = [\"127.0.0.1:1\"]\nalert_percent = [100]\n";
    let mut server = Server::new().config(config).start();
    put_spaces(&server.http, &json!([{"space_id": 10, "capacity": 1}]));
    arrive(&server.http, 0..3, 10);
    eventually(
        "the alert",
        DEADLINE,
        || if alerts(&server.http) == [1, 0, 0] { Ok(()) } else { Err(format!("{:?}", alerts(&server.http))) },
    );
    let now = server.http.get_json("/api/occupancy/now");
    assert_eq!((&now["spaces"][0]["space_id"], &now["spaces"][0]["number_connections"]), (&json!(10), &json!(3)));
    let begun = Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
