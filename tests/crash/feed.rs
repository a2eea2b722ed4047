//! What the feeds share: the address of the server, when to stop, and requests that are repeated until they are answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::http::{Http, Reply};
use crate::support::model::Click;
use crate::support::wait::Stop;

/// A server that does not answer for this long is not coming back.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Context<'a> {
    pub base: String,
    pub seed: u64,
    pub stop: &'a Stop,
    kills_done: &'a AtomicU64,
    kills: u64,
    /// Events with ids that are on their way through Kafka: the HTTP feed sends some of them, too.
    pub recent: Mutex<Vec<(String, Click)>>,
}

impl<'a> Context<'a> {
    pub fn new(base: &str, seed: u64, stop: &'a Stop, kills_done: &'a AtomicU64, kills: u64) -> Context<'a> {
        Context { base: base.to_owned(), seed, stop, kills_done, kills: kills.max(1), recent: Mutex::default() }
    }

    /// How much of the test is over, 0 to 1.
    pub fn progress(&self) -> f64 {
        (self.kills_done.load(Ordering::Relaxed) as f64 / self.kills as f64).min(1.0)
    }
}

/// A client that does not take a crash for an answer.
pub struct Caller<'a> {
    context: &'a Context<'a>,
    pub http: Http,
}

/// A definite answer, and whether an attempt before it may have been carried out.
pub struct Answered {
    pub reply: Reply,
    pub uncertain: bool,
}

impl<'a> Caller<'a> {
    pub fn new(context: &'a Context<'a>) -> Caller<'a> {
        Caller { context, http: Http::new(context.base.clone()) }
    }

    /// Sends the same request until it is answered with success, or refused for good.
    #[track_caller]
    pub fn persist(&self, method: &Method, path: &str, kind: &str, body: &str) -> Answered {
        let begin = Instant::now();
        let mut uncertain = false;
        loop {
            let answer = self.once(method, path, kind, body);
            match answer {
                Ok(reply) if !matches!(reply.status, 429 | 500..=599) => return Answered { reply, uncertain },
                // Nothing was taken.
                Ok(reply) if reply.status == 429 => {}
                Ok(reply) => {
                    assert_eq!(reply.status, 503, "{method} {path}: {}", reply.text());
                    uncertain = true;
                }
                Err(_) => uncertain = true,
            }
            assert!(begin.elapsed() < PATIENCE, "{method} {path} was not answered for {PATIENCE:?}");
            self.context.stop.stopped_within(Duration::from_millis(10));
        }
    }

    pub fn once(&self, method: &Method, path: &str, kind: &str, body: &str) -> Result<Reply, reqwest::Error> {
        let headers = [("content-type", kind)];
        let headers = if kind.is_empty() { &[][..] } else { &headers[..] };
        self.http.try_send(method.clone(), path, headers, body.as_bytes().to_vec())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.persist(&Method::GET, path, "", "").reply.expect_status(200).json()
    }
}

/// An event as the format `desireline` has it.
pub fn click_json(source: u64, id: Option<&str>, click: &Click) -> Value {
    let mut body = json!({ "source_id": source, "user_id": click.user, "event_type": click.event_type, "page": click.page,
        "timestamp": click.time_ms, "value": decimal(click.value) });
    if let Some(id) = id {
        body["event_id"] = json!(id);
    }
    body
}

/// Ten-thousandths as a decimal number.
pub fn decimal(value: i64) -> String {
    format!("{}.{:04}", value / 10_000, value % 10_000)
}
