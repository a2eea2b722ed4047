//! Live labels over the real service: sessions in, votes and labels out, against votes that are counted by hand from the sessions.

use super::real::Real;
use crate::http::config::HttpConfig;
use axum::http::Method;
use desireline_records::Micros;
use desireline_records::time::{DAY, HOUR, MINUTE, format_rfc3339};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);
/// Some midnight.
const T0: Micros = 20_000 * DAY;
/// Addresses are kept as they are, and everything happens soon.
const SETTINGS: [(&str, &str); 5] = [
    ("wifi.pseudonyms", "off"),
    ("labels.every", "10ms"),
    ("labels.full_every", "100ms"),
    ("labels.refit_every", "10ms"),
    ("labels.refit_share", "0"),
];

const INDEX: &str = "SELECT DISTINCT mac_address FROM user_location_trajectory";
const SHORT: &str = "WITH c AS (SELECT mac_address, SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 THEN 1 ELSE 0 END) * 1.0 / COUNT(*) AS short_share, \
    COUNT(DISTINCT(space_id)) AS spaces FROM user_location_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address) \
    SELECT mac_address, short_share, spaces FROM c;";
const DAYS: &str = "SELECT mac_address, COUNT(DISTINCT DATE(start_time)) AS days, COUNT(*) AS n FROM user_ap_trajectory \
    WHERE mac_address IN (:index_values) GROUP BY mac_address";

/// One of a device: space, start, end.
type Session = (i32, Micros, Option<Micros>);
/// Sessions as (device, space, start) with their ends, as they count.
type Sessions = BTreeMap<(u64, i32, Micros), Option<Micros>>;

struct Lab {
    real: Real,
    sessions: Sessions,
}

fn mac(device: u64) -> String {
    format!("02:00:00:00:{:02x}:{:02x}", device / 256, device % 256)
}

impl Lab {
    async fn new() -> Self {
        let settings: Vec<(&'static str, &str)> = SETTINGS.to_vec();
        Self { real: Real::set(HttpConfig::default(), &settings).await, sessions: Sessions::new() }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, reply) = self.real.ask(Method::POST, path, &body.to_string()).await;
        assert!((200..300).contains(&status), "{path}: {status} {reply}");
        reply
    }

    /// The concept with its values, and an index with two rules; materialised, since rules and functions want that.
    async fn concept(&self) {
        self.post("/concepts", json!({"name": "kinds"})).await;
        for name in ["STATIC", "LAPTOP", "PHONE"] {
            self.post("/concepts/1/values", json!({"name": name})).await;
        }
        self.post("/concepts/1/indexes", json!({"name": "devices", "conn_id": 0, "sql_query": INDEX})).await;
        self.finished(&self.post("/concepts/1/indexes/1/materialize", json!({})).await).await;
        for (name, sql) in [("short", SHORT), ("days", DAYS)] {
            self.post("/concepts/1/rules", json!({"name": name, "index_id": 1, "index_column": "mac_address", "sql_query": sql})).await;
        }
    }

    async fn finished(&self, reply: &Value) {
        let run = reply["dagster_run_id"].as_str().expect("a run");
        let begun = Instant::now();
        loop {
            let run = self.real.get(&format!("/dagster/runs/{run}")).await;
            match run["status"].as_str() {
                Some("SUCCESS") => return,
                Some("PENDING" | "STARTED") => {}
                _ => panic!("{run}"),
            }
            assert!(begun.elapsed() < WITHIN, "{run}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn function(&self, name: &str, rule: u64, body: &str) -> u64 {
        let code = format!("def labeling_function(row):\n    {body}\n    return ABSTAIN\n");
        let made = json!({"name": name, "rule_id": rule, "applicable_cv_ids": [1, 2, 3], "code": code, "allowed_imports": []});
        let lf_id = self.post("/concepts/1/labeling-functions", made).await["lf_id"].as_u64().expect("a number");
        self.post(&format!("/concepts/1/labeling-functions/{lf_id}/approve"), json!({})).await;
        lf_id
    }

    async fn three_functions(&self) {
        self.function("short", 1, "if row['short_share'] >= 0.8 and row['spaces'] == 1: return STATIC").await;
        self.function("days", 2, "if row['days'] >= 3: return LAPTOP").await;
        self.function("many", 2, "if row['n'] >= 4: return PHONE").await;
    }

    async fn send(&mut self, rows: &[(u64, i32, Micros, Option<Micros>)]) -> String {
        let row = |(device, space, start, end): &(u64, i32, Micros, Option<Micros>)| json!({"mac_address": mac(*device), "space_id": space, "start_time": format_rfc3339(*start), "end_time": end.map(format_rfc3339)});
        let sessions: Vec<Value> = rows.iter().map(row).collect();
        let reply = self.post("/api/wifi-sessions", json!({"sessions": sessions})).await;
        assert_eq!(reply["rejected"], json!([]), "{reply}");
        for (device, space, start, end) in rows {
            let known = self.sessions.entry((*device, *space, *start)).or_insert(None);
            *known = end.or(*known);
        }
        reply["token"].as_str().expect("a token").to_owned()
    }

    /// Waits until everything that was sent has been evaluated; the whole matrix then.
    async fn current(&self, query: &str, token: &str) -> (Value, BTreeMap<String, Value>) {
        let begun = Instant::now();
        loop {
            let uri = format!("/concepts/1/labels/live?limit=7{query}&at_least={token}");
            let first = self.real.get(&uri).await;
            if first["state"] == "current" && (!first["model"].is_null() || first["totals"]["rows"] == 0) {
                let (mut rows, mut page) = (BTreeMap::new(), first.clone());
                // Pages are of the time at which each is read; with another model in between they do not belong together.
                while page["model"]["version"] == first["model"]["version"] {
                    for row in page["rows"].as_array().expect("rows") {
                        let key = row["key"].as_str().expect("a key").to_owned();
                        assert!(rows.insert(key, row.clone()).is_none(), "no row is on two pages");
                    }
                    let Some(cursor) = page["next_cursor"].as_str() else { return (first, rows) };
                    let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
                    page = self.real.get(&format!("/concepts/1/labels/live?limit=7{query}&cursor={cursor}")).await;
                }
            }
            assert!(begun.elapsed() < WITHIN, "{first}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The votes that the three functions have to give.
    fn expected(&self) -> BTreeMap<String, Vec<i64>> {
        let mut by_device: BTreeMap<u64, Vec<Session>> = BTreeMap::new();
        for ((device, space, start), end) in &self.sessions {
            by_device.entry(*device).or_default().push((*space, *start, *end));
        }
        let votes = |(device, sessions): (u64, Vec<Session>)| {
            let short = sessions.iter().filter(|(_, start, end)| end.is_some_and(|end| (end - start) as f64 / HOUR as f64 <= 2.0)).count();
            let share = short as f64 / sessions.len() as f64;
            let distinct = |of: &dyn Fn(&Session) -> i64| sessions.iter().map(of).collect::<std::collections::BTreeSet<i64>>().len();
            let (spaces, days) = (distinct(&|session| session.0.into()), distinct(&|session| session.1.div_euclid(DAY)));
            let vote = |is: bool, value: i64| if is { value } else { -1 };
            (mac(device), vec![vote(share >= 0.8 && spaces == 1, 1), vote(days >= 3, 2), vote(sessions.len() >= 4, 3)])
        };
        by_device.into_iter().map(votes).collect()
    }

    async fn compare(&self, token: &str, context: &str) -> Value {
        let (answer, rows) = self.current("", token).await;
        let expected = self.expected();
        let found: BTreeMap<String, Vec<i64>> =
            rows.iter().map(|(key, row)| (key.clone(), serde_json::from_value(row["votes"].clone()).expect("votes"))).collect();
        assert_eq!(found, expected, "{context}");
        assert_eq!(answer["totals"]["rows"], json!(expected.len()), "{context}");
        // The counts are those of the rows, and so are the labels.
        for (at, lf) in answer["lfs"].as_array().expect("functions").iter().enumerate() {
            let votes = expected.values().filter(|votes| votes[at] != -1).count();
            assert_eq!(lf["votes"], json!(votes), "{context}: {lf}");
        }
        let mut labelled: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows.values() {
            *labelled.entry(row["label"].to_string()).or_default() += 1;
            let probabilities: Vec<f64> = serde_json::from_value(row["probabilities"].clone()).expect("numbers");
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{context}: {row}");
        }
        let counted: BTreeMap<String, u64> = serde_json::from_value(answer["totals"]["labelled"].clone()).expect("counts");
        let counted: BTreeMap<String, u64> = counted.into_iter().filter(|(_, rows)| *rows > 0).collect();
        assert_eq!(counted, labelled, "{context}: labels are counted as they are given");
        let (_, disputed) = self.current("&conflicts_only=true", token).await;
        let contradict = |votes: &Vec<i64>| votes.iter().filter(|vote| **vote != -1).collect::<std::collections::BTreeSet<_>>().len() > 1;
        let expected: Vec<&String> = expected.iter().filter(|(_, votes)| contradict(votes)).map(|(key, _)| key).collect();
        assert_eq!(disputed.keys().collect::<Vec<_>>(), expected, "{context}: contradictions");
        answer
    }
}

/// Sessions of some devices in disorder: new ones, open ones, ends that come later, corrections.
fn rows(random: &mut Xoshiro256PlusPlus, known: &Sessions, count: usize) -> Vec<(u64, i32, Micros, Option<Micros>)> {
    let mut rows = Vec::new();
    let mut met: std::collections::BTreeSet<(u64, i32, Micros)> = std::collections::BTreeSet::new();
    while rows.len() < count {
        let old = known.keys().nth(random.random_range(0..known.len().max(1)));
        let (device, space, start) = match old {
            Some(old) if random.random_bool(0.3) => *old,
            _ => {
                let start = T0 + random.random_range(0..4) * DAY + random.random_range(0..90) * 10 * MINUTE;
                (random.random_range(0..40), random.random_range(1..3), start)
            }
        };
        if met.insert((device, space, start)) {
            let end = random.random_bool(0.8).then(|| start + random.random_range(1..50) * 5 * MINUTE);
            rows.push((device, space, start, end));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_and_labels_follow_the_sessions() {
    let mut lab = Lab::new().await;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
    let first = rows(&mut random, &lab.sessions, 60);
    lab.send(&first).await;
    lab.concept().await;
    lab.three_functions().await;
    let mut answer = Value::Null;
    for round in 0..6 {
        let more = rows(&mut random, &lab.sessions, 25);
        let token = lab.send(&more).await;
        answer = lab.compare(&token, &format!("round {round}")).await;
    }
    let classes: Vec<&str> = answer["plans"].as_array().expect("plans").iter().filter_map(|plan| plan["class"].as_str()).collect();
    assert_eq!(classes, ["key_local"; 3], "{answer}");
    assert_eq!((&answer["matrix"]["lf_ids"], &answer["matrix"]["cv_ids"]), (&json!([1, 2, 3]), &json!([1, 2, 3])));
    assert_eq!(answer["model"]["learned"], json!(true));

    // A device that is erased is gone from the matrix.
    let (status, reply) = lab.real.ask(Method::DELETE, &format!("/api/macs/{}", mac(3)), "").await;
    assert_eq!(status, 202, "{reply}");
    lab.sessions.retain(|(device, ..), _| *device != 3);
    lab.compare(reply["token"].as_str().expect("a token"), "after an erasure").await;

    // Another function is another matrix, with all votes anew.
    let version = answer["matrix"]["version"].as_u64().expect("a number");
    lab.post("/concepts/1/labeling-functions/3/toggle", json!({})).await;
    let begun = Instant::now();
    let (two, rows) = loop {
        let (answer, rows) = lab.current("", reply["token"].as_str().expect("a token")).await;
        if answer["matrix"]["lf_ids"] == json!([1, 2]) {
            break (answer, rows);
        }
        assert!(begun.elapsed() < WITHIN, "{answer}");
    };
    assert!(two["matrix"]["version"].as_u64() > Some(version) && two["model"]["learned"] == json!(false), "{two}");
    let expected = lab.expected();
    assert!(rows.iter().all(|(key, row)| row["votes"] == json!(expected[key][..2])), "{rows:?}");
    assert_eq!(rows.len(), expected.len());
    lab.real.service.stop().await;
}

/// An index with a limit is no question of single keys: new things come with the next whole evaluation, known ones at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_does_not_go_by_keys_is_asked_whole() {
    let mut lab = Lab::new().await;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let first = rows(&mut random, &lab.sessions, 30);
    lab.send(&first).await;
    lab.concept().await;
    let limited = json!({"sql_query": format!("{INDEX} LIMIT 5000")});
    let (status, reply) = lab.real.ask(Method::PATCH, "/concepts/1/indexes/1", &limited.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    lab.three_functions().await;
    for round in 0..3 {
        let more = rows(&mut random, &lab.sessions, 20);
        let token = lab.send(&more).await;
        let answer = lab.compare(&token, &format!("round {round}")).await;
        assert_eq!(answer["plans"][0]["class"], "global", "{answer}");
    }
    lab.real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_says_why() {
    let lab = Lab::new().await;
    assert_eq!(lab.real.ask(Method::GET, "/concepts/1/labels/live", "").await.0, 404);
    lab.post("/concepts", json!({"name": "kinds"})).await;
    let (status, reply) = lab.real.ask(Method::GET, "/concepts/1/labels/live", "").await;
    assert_eq!((status, reply["code"].as_str()), (404, Some("not_found")), "{reply}");
    lab.post("/concepts/1/values", json!({"name": "A"})).await;
    lab.post("/concepts/1/indexes", json!({"name": "devices", "conn_id": 0, "sql_query": INDEX})).await;
    let answer = lab.real.get("/concepts/1/labels/live").await;
    assert_eq!((&answer["state"], &answer["rows"], &answer["model"]), (&json!("paused"), &json!([]), &Value::Null));
    assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains("no active labeling function")), "{answer}");
    for (query, field) in
        [("cursor=x", "cursor"), ("limit=0", "limit"), ("index_id=x", "index_id"), ("conflicts_only=maybe", "conflicts_only")]
    {
        let (status, reply) = lab.real.ask(Method::GET, &format!("/concepts/1/labels/live?{query}"), "").await;
        assert_eq!((status, reply["errors"][0]["field"].as_str()), (400, Some(field)), "{reply}");
    }
    assert_eq!(lab.real.ask(Method::GET, "/concepts/1/labels/live?index_id=9", "").await.0, 404);
    lab.real.service.stop().await;
}
