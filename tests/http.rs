//! The live stream of the real binary: a correction of an old minute reaches a subscriber with what it was before, a reconnect
//! goes on where it stopped, and an orderly stop ends the stream.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::server::Server;

/// One server-sent event.
#[derive(Debug)]
struct Frame {
    event: String,
    id: String,
    data: Value,
}

/// A subscriber that reads frames off a socket.
struct Watcher {
    reader: BufReader<TcpStream>,
}

impl Watcher {
    fn new(port: u16, last_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let last = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /api/live?source_id=3 HTTP/1.1\r\nhost: localhost\r\n{last}\r\n").expect("sent");
        Self { reader: BufReader::new(stream) }
    }

    /// The next frame; `None` once the server has ended the stream.
    fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame { event: String::new(), id: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("a line within 20 s") == 0 {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                frame.event = event.trim().to_owned();
            } else if let Some(id) = line.strip_prefix("id: ") {
                frame.id = id.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                frame.data = serde_json::from_str(data.trim()).expect("a frame is JSON");
                return Some(frame);
            }
        }
    }

    /// The next cell of the minute `window` that is no part of a snapshot, and the id of its frame.
    fn change_of(&mut self, window: &str) -> (Value, String) {
        loop {
            let frame = self.next().expect("the stream goes on");
            if frame.event == "minutes" && frame.data["snapshot"] == false {
                let cells = frame.data["cells"].as_array().expect("cells");
                if let Some(cell) = cells.iter().find(|cell| cell["window_start"] == window) {
                    return (cell.clone(), frame.id);
                }
            }
        }
    }
}

/// The start of the minute that lies so many minutes back.
fn window(minutes_ago: i64) -> chrono::DateTime<chrono::Utc> {
    let minute = chrono::Utc::now().timestamp() / 60 - minutes_ago;
    chrono::DateTime::from_timestamp(minute * 60, 0).expect("a time")
}

fn printed(window: chrono::DateTime<chrono::Utc>) -> String {
    window.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[test]
fn a_late_event_is_a_correction_on_the_live_stream() {
    let mut server = Server::new().start();
    let (old, middle, recent) = (window(20), window(6), window(4));
    let event = |user: &str, at: chrono::DateTime<chrono::Utc>| json!({"source_id": 3, "user_id": user, "page": "/p", "event_type": "view", "timestamp": at.timestamp()});
    let batch = json!({"events": [event("a", old), event("b", middle), event("c", recent)]});
    server.http.post_json("/api/ingest-batch", &batch).expect_status(200);

    let mut watcher = Watcher::new(server.port(), None);
    let first = watcher.next().expect("a frame");
    assert_eq!(first.event, "status");
    assert_eq!(first.data["sources"].as_array().map(Vec::len), Some(1), "one source is watched");
    let snapshot = watcher.next().expect("a frame");
    assert_eq!((snapshot.event.as_str(), &snapshot.data["snapshot"]), ("minutes", &json!(true)));
    assert_eq!(snapshot.data["cells"].as_array().map(Vec::len), Some(3));

    server.http.post_json("/api/ingest", &event("late", old)).expect_status(200);
    let (cell, id) = watcher.change_of(&printed(old));
    assert_eq!((&cell["before"], &cell["count"], &cell["correction"]), (&json!(1), &json!(2), &json!(true)));

    server.http.post_json("/api/ingest", &event("d", recent)).expect_status(200);
    let (cell, _) = watcher.change_of(&printed(recent));
    assert_eq!((&cell["before"], &cell["correction"]), (&json!(1), &json!(false)), "a recent minute is still filling");

    let mut resumed = Watcher::new(server.port(), Some(&id));
    let (cell, _) = resumed.change_of(&printed(recent));
    assert_eq!(cell["count"], 2, "a reconnect gets what followed");

    server.stop();
    while watcher.next().is_some() {}
}
