//! The same workflow on `live`: the sessions are sent to the server itself, and its own tables are asked.

use crate::client::Client;
use crate::devices::{self, DEVICES};
use crate::steps::{self, Dialect};
use crate::support::http::Http;
use crate::support::server::Server;
use serde_json::{Value, json};

/// Sends all sessions.
pub fn send(http: &Http) {
    send_some(http, usize::MAX);
}

/// Sends the first of them.
pub fn send_some(http: &Http, sessions_max: usize) {
    let session = |s: &devices::Session| {
        json!({"mac_address": s.mac, "space_id": s.space, "sensor_id": "s1",
        "start_time": format!("{}Z", s.start.format("%Y-%m-%dT%H:%M:%S")), "end_time": format!("{}Z", s.end.format("%Y-%m-%dT%H:%M:%S"))})
    };
    let sessions: Vec<Value> = devices::sessions().iter().take(sessions_max).map(session).collect();
    for part in sessions.chunks(2_000) {
        let reply = http.post_json("/api/wifi-sessions", &json!({"sessions": part})).expect_status(200).json();
        assert_eq!(reply["rejected"], json!([]), "{reply}");
    }
}

#[test]
fn the_whole_workflow_on_the_servers_own_tables() {
    let server = Server::new().start();
    let client = Client(&server.http);
    send(&server.http);
    let live = client.get("/database-connections/0");
    assert_eq!((&live["name"], &live["connection_type"]), (&json!("live"), &json!("live")));
    let works = json!({"status": "success", "message": "Connection successful"});
    assert_eq!(client.post("/database-connections/0/test", &Value::Null), works);
    steps::concept(client);
    steps::indexes(client, Dialect::Standard, 0, None);
    steps::rules(client, Dialect::Standard, None);
    steps::functions(client);
    steps::catalog(client);
    steps::first_label_model(client, None);
    steps::more_functions(client);
    let job = steps::label_model(client);
    steps::features(client, Dialect::Standard, job);
    steps::classifiers(client, job);
    assert_eq!(client.get("/concepts/1/indexes/1")["row_count"], DEVICES);
    client.delete("/concepts/1");
}
