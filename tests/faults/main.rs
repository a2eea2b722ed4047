//! Faults around the real binary: brokers that restart, topics that are cut short or made anew, clocks that are wrong, disks that
//! are full, folders that cannot be written, servers that share a log, bytes that are not what was written.
//!
//! What is asked in each case: nothing acknowledged is lost, nothing counts twice, what stops says so clearly, everything else goes
//! on, and what was repaired works again.
//!
//! Tests that need Kafka run one after another, because one of them takes the broker away.

mod kafka;
mod segments;
mod servers;
mod storage;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::http::{Http, Reply};
use support::model::Click;

/// `count` events with ids of their own, a second apart and of a few users, and as the format `desireline` has them.
pub fn clicks(prefix: &str, count: usize) -> Vec<(String, Click)> {
    let begin = chrono::Utc::now().timestamp_millis() - 2 * support::model::HOUR_MS;
    let click = |n: usize| Click {
        user: format!("{prefix}-user-{}", n % 5),
        time_ms: begin + n as i64 * 1_000,
        event_type: ["view", "purchase", "addtocart"][n % 3].to_owned(),
        page: format!("/{prefix}"),
        value: 10_000 * n as i64,
    };
    (0..count).map(|n| (format!("{prefix}-{n}"), click(n))).collect()
}

pub fn body(source: u64, id: &str, click: &Click) -> Value {
    json!({ "source_id": source, "event_id": id, "user_id": click.user, "event_type": click.event_type, "page": click.page,
        "timestamp": click.time_ms, "value": click.value / 10_000 })
}

/// Sends events as one batch.
pub fn ingest(http: &Http, source: u64, rows: &[(String, Click)]) -> Reply {
    let events: Vec<Value> = rows.iter().map(|(id, click)| body(source, id, click)).collect();
    http.post_json("/api/ingest-batch", &json!({ "events": events }))
}
