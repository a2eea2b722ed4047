//! Batches over HTTP, each repeated with the same ids until it is answered; deletions and erasures in between; queries that must see
//! what was acknowledged.
//!
//! Source `PUSH` keeps everything open. Source `SEALED` runs through 19 hours of event time while the test lasts, so that its
//! sessions are sealed all the time; rows far behind are late there. A few batches are given up after one attempt: whether they
//! were taken is for the server to know, but it must be all or nothing.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::Utc;
use desireline::generate::random::Random;
use reqwest::Method;
use serde_json::{Value, json};

use crate::feed::{Answered, Caller, Context, click_json};
use crate::support::model::{Click, HOUR_MS, MINUTE_MS, Model, Observed, Rule, Session};
use crate::{CLICKS, PUSH, SEALED};

const PACE: Duration = Duration::from_millis(15);
const SEALED_SPAN_MS: i64 = 19 * HOUR_MS;
const SEALED_STEP_MS: i64 = 10 * MINUTE_MS;
/// Steps between the first event of a user that will be erased and its erasure.
const ERASED_AFTER: u64 = 60;

/// A request that was given up.
pub struct Maybe {
    pub user: String,
    pub clicks: Vec<(String, Click)>,
}

pub struct Sent {
    pub push: Model,
    pub sealed: Model,
    pub maybe: Vec<Maybe>,
    /// Events that were applied and are gone, by deletion or erasure.
    pub push_gone: u64,
    pub sealed_gone: u64,
    /// Rows that were acknowledged, but are late.
    pub late: u64,
    /// Users that must be found nowhere.
    pub erased: Vec<String>,
    /// Events that Kafka brings, too.
    pub cross: Vec<(String, Click)>,
    pub rows: u64,
}

struct Feed<'a> {
    context: &'a Context<'a>,
    caller: Caller<'a>,
    random: Random,
    sent: Sent,
    /// Everything that source `PUSH` has acknowledged, the deleted included.
    known: Vec<(String, Click)>,
    doomed: VecDeque<(u64, String)>,
    sealed_at: i64,
    sealed_begin: i64,
    steps: u64,
    ids: u64,
    token: String,
}

pub fn feed(context: &Context<'_>) -> Sent {
    let begin = Utc::now().timestamp_millis() - 20 * HOUR_MS;
    let (push, sealed) = (Model::new(Rule::Gap), Model::new(Rule::FromFirst));
    let sent =
        Sent { push, sealed, maybe: Vec::new(), push_gone: 0, sealed_gone: 0, late: 0, erased: Vec::new(), cross: Vec::new(), rows: 0 };
    let mut feed = Feed {
        context,
        caller: Caller::new(context),
        random: Random::new(context.seed, 4),
        sent,
        known: Vec::new(),
        doomed: VecDeque::new(),
        sealed_at: begin,
        sealed_begin: begin,
        steps: 0,
        ids: 0,
        token: String::new(),
    };
    while !context.stop.stopped_within(PACE) {
        feed.step();
    }
    // However short the test was, there is something to be sealed.
    while feed.sealed_at < begin + 6 * HOUR_MS {
        feed.seal();
    }
    while let Some((_, user)) = feed.doomed.pop_front() {
        feed.erase(user);
    }
    feed.sent
}

impl Feed<'_> {
    fn step(&mut self) {
        self.steps += 1;
        if self.doomed.front().is_some_and(|(at, _)| at + ERASED_AFTER <= self.steps) {
            let (_, user) = self.doomed.pop_front().expect("there is one");
            return self.erase(user);
        }
        match self.random.below(100) {
            0..50 => self.push(),
            50..70 => self.seal(),
            70..78 => self.cross(),
            78..82 => self.give_up(),
            82..88 => self.delete(),
            88..91 => self.doom(),
            _ => self.look(),
        }
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("h{}", self.ids)
    }

    fn click(&mut self, user: String, time_ms: i64) -> Click {
        let event_type = (*self.random.pick(&["view", "pageview", "addtocart", "purchase", "search"])).to_owned();
        Click { user, time_ms, event_type, page: format!("/h/{}", self.random.below(5)), value: self.random.between(0, 900_000) }
    }

    /// Sends rows until they are acknowledged; answers how many were new, unless an attempt before may have been taken.
    #[track_caller]
    fn send(&mut self, source: u64, rows: &[(String, Click)]) -> Option<u64> {
        let events: Vec<Value> = rows.iter().map(|(id, click)| click_json(source, Some(id), click)).collect();
        let (kind, body) = if self.random.chance(0.5) {
            ("application/json", json!({ "events": events }).to_string())
        } else {
            ("application/x-ndjson", events.iter().map(|event| format!("{event}\n")).collect())
        };
        let Answered { reply, uncertain } = self.caller.persist(&Method::POST, "/api/ingest-batch", kind, &body);
        let reply = reply.expect_status(200).json();
        let count = |name: &str| reply[name].as_u64().expect("a count");
        assert_eq!(count("inserted") + count("duplicates"), rows.len() as u64, "{reply}");
        assert_eq!(reply["ids"], json!(rows.iter().map(|(id, _)| id).collect::<Vec<_>>()));
        self.token = reply["token"].as_str().expect("a token").to_owned();
        self.sent.rows += rows.len() as u64;
        (!uncertain).then(|| count("inserted"))
    }

    /// Fresh rows, and some that were sent before.
    fn push(&mut self) {
        let mut rows = Vec::new();
        let mut fresh = 0;
        for _ in 0..self.random.below(30) + 1 {
            if self.random.chance(0.1) && !self.known.is_empty() {
                rows.push(self.random.pick(&self.known).clone());
                continue;
            }
            let (id, user) = (self.id(), format!("p{}", self.random.below(200)));
            let time_ms = Utc::now().timestamp_millis() - self.random.between(0, 3 * HOUR_MS);
            rows.push((id, self.click(user, time_ms)));
            fresh += 1;
        }
        let inserted = self.send(PUSH, &rows);
        assert!(inserted.is_none_or(|inserted| inserted == fresh), "{inserted:?} instead of {fresh} rows were new");
        for (id, click) in rows {
            // Ids count upwards: what is not newer than the last known one was a repetition.
            if self.known.last().is_none_or(|(last, _)| sequence(&id) > sequence(last)) {
                self.known.push((id.clone(), click.clone()));
                self.sent.push.add(id, click);
            }
        }
    }

    /// A step forward in event time, with rows up to half an hour behind it.
    fn seal(&mut self) {
        // From the beginning on there is something to be sealed.
        let slot = self.sealed_begin + (SEALED_SPAN_MS as f64 * (self.context.progress() + 0.2).min(1.0)) as i64;
        self.sealed_at = (self.sealed_at + SEALED_STEP_MS).min(slot).max(self.sealed_at);
        let late = self.sent.sealed.len() > 0 && self.random.chance(0.1);
        let mut rows = Vec::new();
        for _ in 0..self.random.below(10) + 1 {
            let (id, user) = (self.id(), format!("s{}", self.random.below(60)));
            let back = if late { 5 * HOUR_MS } else { self.random.between(0, 30 * MINUTE_MS) };
            let user = if late { "late".to_owned() } else { user };
            rows.push((id, self.click(user, self.sealed_at - back)));
        }
        self.send(SEALED, &rows);
        if late {
            self.sent.late += rows.len() as u64;
        } else {
            rows.into_iter().for_each(|(id, click)| assert!(self.sent.sealed.add(id, click)));
        }
    }

    /// The same events by both ways.
    fn cross(&mut self) {
        let recent = self.context.recent.lock().expect("no feed fails while it holds this");
        if recent.is_empty() {
            return;
        }
        let rows: Vec<(String, Click)> = (0..self.random.below(8) + 1).map(|_| self.random.pick(&recent).clone()).collect();
        drop(recent);
        self.send(CLICKS, &rows);
        self.sent.cross.extend(rows);
    }

    fn give_up(&mut self) {
        let user = format!("maybe-{}", self.steps);
        let rows: Vec<(String, Click)> = (0..self.random.below(20) + 1)
            .map(|_| {
                let time_ms = Utc::now().timestamp_millis() - self.random.between(0, HOUR_MS);
                (self.id(), self.click(user.clone(), time_ms))
            })
            .collect();
        let events: Vec<Value> = rows.iter().map(|(id, click)| click_json(PUSH, Some(id), click)).collect();
        match self.caller.once(&Method::POST, "/api/ingest-batch", "application/json", &json!({ "events": events }).to_string()) {
            Ok(reply) if reply.status == 200 => rows.into_iter().for_each(|(id, click)| assert!(self.sent.push.add(id, click))),
            Ok(reply) if reply.status == 429 => {}
            _ => self.sent.maybe.push(Maybe { user, clicks: rows }),
        }
    }

    fn delete(&mut self) {
        if self.known.is_empty() {
            return;
        }
        let (id, click) = self.random.pick(&self.known).clone();
        let Answered { reply, uncertain } = self.caller.persist(&Method::DELETE, &format!("/api/events/{PUSH}/{id}"), "", "");
        if self.sent.push.clicks.remove(&(click.user, id)).is_some() {
            self.sent.push_gone += 1;
            assert!(reply.status == 200 || (uncertain && reply.status == 404), "{}: {}", reply.status, reply.text());
        } else {
            assert_eq!(reply.status, 404, "it was deleted before");
        }
    }

    /// A user that will be erased later, in both sources.
    fn doom(&mut self) {
        let user = format!("erased-{}-{:x}", self.steps, self.context.seed);
        for source in [PUSH, SEALED] {
            let rows: Vec<(String, Click)> = (0..4)
                .map(|n| {
                    let time_ms = if source == PUSH { Utc::now().timestamp_millis() } else { self.sealed_at } - n * MINUTE_MS;
                    (self.id(), self.click(user.clone(), time_ms))
                })
                .collect();
            self.send(source, &rows);
            let model = if source == PUSH { &mut self.sent.push } else { &mut self.sent.sealed };
            rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
        }
        self.doomed.push_back((self.steps, user));
    }

    fn erase(&mut self, user: String) {
        for source in [PUSH, SEALED] {
            let Answered { reply, uncertain } = self.caller.persist(&Method::DELETE, &format!("/api/users/{source}/{user}"), "", "");
            assert!(reply.status == 202 || (uncertain && reply.status == 404), "{}: {}", reply.status, reply.text());
            let model = if source == PUSH { &mut self.sent.push } else { &mut self.sent.sealed };
            let before = model.len();
            model.clicks.retain(|(owner, _), _| *owner != user);
            let gone = before - model.len();
            if source == PUSH {
                self.sent.push_gone += gone
            } else {
                self.sent.sealed_gone += gone
            };
        }
        self.sent.erased.push(user);
    }

    /// One user, as of the last acknowledgement: nobody else writes to these sources.
    fn look(&mut self) {
        let (source, model) = if self.random.chance(0.5) { (PUSH, &self.sent.push) } else { (SEALED, &self.sent.sealed) };
        let users: Vec<&String> = model.clicks.keys().map(|(user, _)| user).collect();
        if users.is_empty() {
            return;
        }
        let user = (*self.random.pick(&users)).clone();
        let mut own = model.clone();
        own.clicks.retain(|(owner, _), _| *owner == user);
        let answer = self.caller.get(&format!("/api/sessions?source_id={source}&user_id={user}&limit=10000&at_least={}", self.token));
        let expected: Vec<Session> = own.sessions().into_values().collect();
        assert_eq!(Observed::sessions_in(&answer), expected, "{user} of source {source} at {}", self.token);
    }
}

fn sequence(id: &str) -> u64 {
    id[1..].parse().expect("ids are counted")
}
