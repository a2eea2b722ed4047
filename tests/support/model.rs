//! What the views must say, computed anew from what was sent: plain loops over a map, written for the tests alone. Nothing here
//! uses a line of the server's.
//!
//! A [`Model`] holds the events of one source by identity. [`Model::sessions`], [`Model::journeys`] and [`Model::minutes`] compute
//! the views from them by sorting and walking; [`Observed`] asks a server for the same through its API; [`difference`] names the
//! first rows in which two maps differ.
//!
//! What it can catch: rows lost, doubled or altered on any way into the log, wrong cuts, stale views after a restart, rows that
//! survive their deletion. What it cannot: events that the test itself believes to have sent differently.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use chrono::DateTime;
use serde_json::Value;

use super::http::Http;

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// How far back `/api/metrics/aggregates` can look.
pub const MINUTES_MAX: i64 = 1_440;

/// Which gap opens a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Measured from the session's first event.
    FromFirst,
    /// Measured from the event before.
    Gap,
}

/// One event as a client means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    pub user: String,
    pub time_ms: i64,
    pub event_type: String,
    pub page: String,
    /// Ten-thousandths.
    pub value: i64,
}

/// The events of one source that count, by user and identity.
#[derive(Clone, Debug)]
pub struct Model {
    pub rule: Rule,
    pub limit_ms: i64,
    pub clicks: BTreeMap<(String, String), Click>,
}

/// A session as a listing shows it, without what follows from its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub start_ms: i64,
    pub end_ms: i64,
    pub events: u64,
    pub views: u64,
    pub carts: u64,
    pub transactions: u64,
    pub value: i64,
}

/// By user and number.
pub type Sessions = BTreeMap<(String, u64), Session>;

/// A journey as a listing shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    pub state: [f64; 3],
    pub paths: Vec<[f64; 3]>,
    pub features: [f64; 6],
}

pub type Journeys = BTreeMap<String, Journey>;

/// (window's begin in ms, page, event type) → (count, revenue in ten-thousandths).
pub type Minutes = BTreeMap<(i64, String, String), (i64, i64)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Move {
    View,
    Cart,
    Transaction,
    None,
}

impl Click {
    fn movement(&self) -> Move {
        match self.event_type.as_str() {
            "view" | "pageview" | "product_view" => Move::View,
            "addtocart" | "add_to_cart" => Move::Cart,
            "transaction" | "purchase" => Move::Transaction,
            _ => Move::None,
        }
    }

    fn revenue(&self) -> i64 {
        if self.movement() == Move::Transaction { self.value } else { 0 }
    }
}

impl Model {
    pub fn new(rule: Rule) -> Model {
        Model { rule, limit_ms: 20 * MINUTE_MS, clicks: BTreeMap::new() }
    }

    /// Takes an event; one that is there already stays as it was. True when it was new.
    pub fn add(&mut self, identity: impl Into<String>, click: Click) -> bool {
        match self.clicks.entry((click.user.clone(), identity.into())) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(click);
                true
            }
        }
    }

    pub fn sessions(&self) -> Sessions {
        let mut by_user: BTreeMap<&str, Vec<&Click>> = BTreeMap::new();
        for click in self.clicks.values() {
            by_user.entry(&click.user).or_default().push(click);
        }
        let mut sessions = Sessions::new();
        for (user, mut clicks) in by_user {
            clicks.sort_by_key(|click| click.time_ms);
            let mut number = 0;
            let (mut first, mut before) = (0, 0);
            for click in clicks {
                let since = if self.rule == Rule::FromFirst { first } else { before };
                if number == 0 || click.time_ms - since > self.limit_ms {
                    number += 1;
                    first = click.time_ms;
                }
                before = click.time_ms;
                let empty = Session { start_ms: first, end_ms: first, events: 0, views: 0, carts: 0, transactions: 0, value: 0 };
                let session = sessions.entry((user.to_owned(), number)).or_insert(empty);
                session.end_ms = click.time_ms;
                session.events += 1;
                match click.movement() {
                    Move::View => session.views += 1,
                    Move::Cart => session.carts += 1,
                    Move::Transaction => session.transactions += 1,
                    Move::None => {}
                }
                session.value += click.revenue();
            }
        }
        sessions
    }

    pub fn journeys(&self) -> Journeys {
        let mut journeys = Journeys::new();
        for ((user, _), session) in self.sessions() {
            let path = [session.views as f64, session.carts as f64, session.transactions as f64];
            let journey = journeys.entry(user).or_insert_with(|| Journey { state: [0.0; 3], paths: Vec::new(), features: [0.0; 6] });
            for (sum, part) in journey.state.iter_mut().zip(path) {
                *sum += part;
            }
            journey.paths.push(path);
        }
        for journey in journeys.values_mut() {
            let ([views, carts, buys], sessions) = (journey.state, journey.paths.len() as f64);
            let ratio = if views == 0.0 { buys / sessions } else { (buys / sessions) / (views / sessions) };
            journey.features = [views, carts, buys, sessions, views / sessions, ratio];
        }
        journeys
    }

    pub fn minutes(&self) -> Minutes {
        let mut minutes = Minutes::new();
        for click in self.clicks.values() {
            let window = click.time_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
            let cell = minutes.entry((window, click.page.clone(), click.event_type.clone())).or_default();
            cell.0 += 1;
            cell.1 += click.revenue();
        }
        minutes
    }

    pub fn len(&self) -> u64 {
        self.clicks.len() as u64
    }
}

/// What a server says about one source.
#[derive(Clone, Debug)]
pub struct Observed {
    pub sessions: Sessions,
    /// How many of the sessions come from cold parts.
    pub sealed: u64,
    pub journeys: Journeys,
    pub labels: BTreeMap<String, Option<u64>>,
    pub minutes: Minutes,
}

impl Observed {
    /// Asks for everything; the source must be at rest, since a listing of several pages is not of one time.
    #[track_caller]
    pub fn of(http: &Http, source: u64) -> Observed {
        let (mut sessions, mut sealed) = (Sessions::new(), 0);
        for row in pages(http, &format!("/api/sessions?source_id={source}&limit=10000"), "sessions") {
            let key = (text(&row["user_id"]), whole(&row["session_number"]));
            sealed += u64::from(row["sealed"] == true);
            assert!(sessions.insert(key.clone(), session(&row)).is_none(), "a session is listed twice: {key:?}");
        }
        let (mut journeys, mut labels) = (Journeys::new(), BTreeMap::new());
        for row in pages(http, &format!("/api/journeys?source_id={source}&limit=10000"), "journeys") {
            let user = text(&row["user_id"]);
            let paths: Vec<[f64; 3]> = row["paths"].as_array().expect("a list").iter().map(floats).collect();
            assert_eq!(whole(&row["session_count"]), paths.len() as u64, "{row}");
            labels.insert(user.clone(), row["cluster_id"].as_u64());
            let journey = Journey { state: floats(&row["state"]), paths, features: floats(&row["features"]) };
            assert!(journeys.insert(user.clone(), journey).is_none(), "a journey is listed twice: {user}");
        }
        let mut minutes = Minutes::new();
        let answer = http.get_json(&format!("/api/metrics/aggregates?source_id={source}&minutes={MINUTES_MAX}"));
        for item in answer["items"].as_array().expect("a list") {
            let key = (time_ms(&item["window_start"]), text(&item["page"]), text(&item["event_type"]));
            let cell = (item["count"].as_i64().expect("a count"), ten_thousandths(&item["revenue"]));
            assert!(minutes.insert(key.clone(), cell).is_none(), "a cell is listed twice: {key:?}");
        }
        Observed { sessions, sealed, journeys, labels, minutes }
    }

    /// The sessions of one answer, in its order.
    #[track_caller]
    pub fn sessions_in(answer: &Value) -> Vec<Session> {
        answer["sessions"].as_array().expect("a list").iter().map(session).collect()
    }

    /// Demands that every view says what the model says.
    #[track_caller]
    pub fn must_equal(&self, model: &Model, what: &str) {
        let differences = [
            difference("sessions", &model.sessions(), &self.sessions),
            difference("journeys", &model.journeys(), &self.journeys),
            difference("minutes", &model.minutes(), &self.minutes),
        ];
        assert!(differences.iter().all(String::is_empty), "{what}:\n{}", differences.concat());
    }
}

#[track_caller]
fn session(row: &Value) -> Session {
    Session {
        start_ms: time_ms(&row["start"]),
        end_ms: time_ms(&row["end"]),
        events: whole(&row["event_count"]),
        views: whole(&row["views"]),
        carts: whole(&row["carts"]),
        transactions: whole(&row["transactions"]),
        value: ten_thousandths(&row["value"]),
    }
}

/// The counters of a source.
#[track_caller]
pub fn counter(status: &Value, source: u64, name: &str) -> u64 {
    whole(&source_status(status, source)["counters"][name])
}

/// The part of `/api/status` about one source.
#[track_caller]
pub fn source_status(status: &Value, source: u64) -> &Value {
    let sources = status["sources"].as_array().expect("a list");
    sources.iter().find(|item| item["source_id"] == source).unwrap_or_else(|| panic!("no source {source} in {status}"))
}

/// The first differences between what must be and what is, one per line; nothing when there are none.
pub fn difference<K: Ord + Debug, V: PartialEq + Debug>(what: &str, expected: &BTreeMap<K, V>, seen: &BTreeMap<K, V>) -> String {
    const SHOWN: usize = 5;
    let keys: std::collections::BTreeSet<&K> = expected.keys().chain(seen.keys()).collect();
    let different: Vec<&K> = keys.into_iter().filter(|key| expected.get(key) != seen.get(key)).collect();
    let mut text = String::new();
    if !different.is_empty() {
        let _ = writeln!(text, "{what}: {} of {} rows differ", different.len(), expected.len());
    }
    for key in different.iter().take(SHOWN) {
        let _ = writeln!(text, "  {key:?}: expected {:?}, seen {:?}", expected.get(key), seen.get(key));
    }
    text
}

/// All rows of a listing.
#[track_caller]
pub fn pages(http: &Http, path: &str, field: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page = http.get_json(&format!("{path}{cursor}"));
        rows.append(page[field].as_array_mut().expect("a list"));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

/// A string, or a number as a string.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[track_caller]
fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a whole number, not {value}"))
}

#[track_caller]
fn time_ms(value: &Value) -> i64 {
    let text = value.as_str().expect("a time");
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).timestamp_millis()
}

#[track_caller]
fn ten_thousandths(value: &Value) -> i64 {
    (value.as_f64().expect("a number") * 10_000.0).round() as i64
}

#[track_caller]
fn floats<const N: usize>(value: &Value) -> [f64; N] {
    let list: Vec<f64> = value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect();
    list.try_into().expect("as many numbers as documented")
}
