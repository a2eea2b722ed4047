//! A campus on the real service: sessions and spaces in, numbers out, while rooms move, sessions are corrected and days are sealed.

use super::real::Real;
use crate::http::config::{HttpConfig, LiveConfig};
use axum::body::Body;
use axum::http::{Method, Request};
use desireline_records::time::{DAY, HOUR, MINUTE, format_rfc3339, now_micros, parse_time};
use desireline_records::{Micros, SpaceId};
use futures::StreamExt;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tower::ServiceExt;

const WITHIN: Duration = Duration::from_secs(30);

impl Real {
    async fn campus(settings: &[(&'static str, &str)]) -> Self {
        let live = LiveConfig { poll_every: Duration::from_millis(5), ..LiveConfig::default() };
        Self::set(HttpConfig { live, ..HttpConfig::default() }, settings).await
    }

    async fn spaces(&self, spaces: &[(SpaceId, Option<SpaceId>, Option<u32>)]) -> Value {
        let space = |(id, parent, capacity): &(SpaceId, Option<SpaceId>, Option<u32>)| json!({"space_id": id, "space_name": format!("S{id}"), "parent_space_id": parent, "capacity": capacity});
        let spaces: Vec<Value> = spaces.iter().map(space).collect();
        let (status, reply) = self.ask(Method::PUT, "/api/spaces", &json!({"spaces": spaces}).to_string()).await;
        assert_eq!(status, 200, "{reply}");
        reply
    }

    /// Answers the token.
    async fn stays(&self, stays: &[(&str, SpaceId, Micros, Option<Micros>)]) -> String {
        let stay = |(mac, space, start, end): &(&str, SpaceId, Micros, Option<Micros>)| json!({"mac_address": mac, "space_id": space, "start_time": format_rfc3339(*start), "end_time": end.map(format_rfc3339)});
        let sessions: Vec<Value> = stays.iter().map(stay).collect();
        let (status, reply) = self.ask(Method::POST, "/api/wifi-sessions", &json!({"sessions": sessions}).to_string()).await;
        assert_eq!((status, &reply["rejected"]), (200, &json!([])), "{reply}");
        reply["token"].as_str().expect("a token").to_owned()
    }

    /// (begin, number) of the bins of a space.
    async fn bins(&self, space: SpaceId, query: &str) -> Vec<(String, i64)> {
        let answer = self.get(&format!("/api/occupancy?space_id={space}&{query}")).await;
        let row = |row: &Value| {
            (row["interval_begin_time"].as_str().expect("a time")[..16].to_owned(), row["number_connections"].as_i64().expect("a number"))
        };
        answer["rows"].as_array().expect("rows").iter().map(row).collect()
    }

    async fn wifi(&self) -> Value {
        self.get("/api/status").await["wifi"].clone()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let wifi = self.wifi().await;
            if holds(&wifi) {
                return;
            }
            assert!(begun.elapsed() < WITHIN, "{what}: {wifi}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn at(text: &str) -> Micros {
    parse_time(text).expect("a time")
}

const TREE: [(SpaceId, Option<SpaceId>, Option<u32>); 6] =
    [(1, None, None), (10, Some(1), None), (100, Some(10), None), (1000, Some(100), None), (1001, Some(100), None), (101, Some(10), None)];

async fn text_sessions(real: &Real) -> String {
    let day = |time: &str| at(&format!("2024-10-05T{time}:00Z"));
    real.stays(&[
        ("aa", 1000, day("09:10"), Some(day("09:50"))),
        ("aa", 1000, day("09:55"), Some(day("10:05"))),
        ("bb", 1000, day("09:30"), Some(day("11:00"))),
        ("aa", 1001, day("09:00"), Some(day("10:00"))),
        ("dd", 1010, day("08:00"), Some(day("08:30"))),
    ])
    .await
}

const DAY_OF_TEXT: &str = "from=2024-10-05&to=2024-10-06";

fn rows(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(time, number)| (format!("2024-10-05T{time}"), *number)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_sums_over_the_tree_of_now() {
    let real = Real::campus(&[]).await;
    assert_eq!(real.spaces(&TREE).await["orphans"], json!([]));
    let token = text_sessions(&real).await;
    let query = format!("{DAY_OF_TEXT}&at_least={token}");
    assert_eq!(real.bins(1000, &query).await, rows(&[("09:00", 2), ("10:00", 2)]));
    assert_eq!(real.bins(1001, &query).await, rows(&[("09:00", 1)]), "half open: it ends as the next bin begins");
    assert_eq!(real.bins(100, &query).await, rows(&[("09:00", 3), ("10:00", 2)]), "a sum over rooms, not distinct");
    assert_eq!(real.bins(1, &query).await, real.bins(100, &query).await);
    let halves = [("09:00", 2), ("09:30", 3), ("10:00", 2), ("10:30", 1)];
    assert_eq!(real.bins(100, &format!("{query}&interval_seconds=1800")).await, rows(&halves), "a width that is not kept is counted");
    assert_eq!(real.ask(Method::GET, "/api/occupancy?space_id=1010", "").await.0, 404);

    // A room that comes later had its people all the time, and a room that moves takes its history along.
    assert_eq!(real.wifi().await["unknown_space"], 1);
    let token = real.spaces(&[(1010, Some(101), None), (1001, Some(101), None)]).await["token"].as_str().expect("a token").to_owned();
    let query = format!("{DAY_OF_TEXT}&at_least={token}");
    assert_eq!(real.bins(101, &query).await, rows(&[("08:00", 1), ("09:00", 1)]));
    assert_eq!(real.bins(100, &query).await, rows(&[("09:00", 2), ("10:00", 2)]));
    assert_eq!(real.bins(10, &query).await, rows(&[("08:00", 1), ("09:00", 3), ("10:00", 2)]));

    let heat = real.get("/api/occupancy/heat?space_id=10&from=2024-10-05T08:00:00Z&to=2024-10-05T11:00:00Z").await;
    let lines: Vec<_> =
        heat["spaces"].as_array().expect("lines").iter().map(|line| (line["space_id"].clone(), line["numbers"].clone())).collect();
    assert_eq!(lines, [(json!(10), json!([1, 3, 2])), (json!(100), json!([0, 2, 2])), (json!(101), json!([1, 1, 0]))]);

    let visits = real.get(&format!("/api/visits?space_id=10&{DAY_OF_TEXT}")).await;
    let day = &visits["days"][0];
    assert_eq!([&day["date"], &day["visits"], &day["visitors"]], [&json!("2024-10-05"), &json!(4), &json!(4)], "{visits}");
    // aa: 50 min with its gap, 60 min in the other room; bb 90; dd 30.
    assert_eq!(visits["days"][0]["dwell_seconds"]["mean"], json!((55.0 + 60.0 + 90.0 + 30.0) * 60.0 / 4.0));
    let (status, body) = real.ask(Method::DELETE, "/api/spaces/100", "").await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")));
    let circle = real.ask(Method::PUT, "/api/spaces", r#"{"space_id":1,"parent_space_id":1000}"#).await;
    assert!(circle.0 == 400 && circle.1["detail"].as_str().is_some_and(|detail| detail.contains("1, 1000, 100, 10")), "{}", circle.1);
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_between_rooms_flows_between_their_floors() {
    let real = Real::campus(&[]).await;
    real.spaces(&TREE).await;
    let hour = at("2024-10-05T09:00:00Z");
    let token = real
        .stays(&[
            ("aa", 1000, hour, Some(hour + 10 * MINUTE)),
            ("aa", 101, hour + 20 * MINUTE, Some(hour + 30 * MINUTE)),
            ("bb", 1000, hour, Some(hour + 10 * MINUTE)),
            ("bb", 1001, hour + 20 * MINUTE, Some(hour + 30 * MINUTE)),
            ("cc", 1000, hour, Some(hour + 10 * MINUTE)),
            ("cc", 101, hour + 3 * HOUR, Some(hour + 4 * HOUR)),
        ])
        .await;
    let flow = |from, to| json!({"from_space_id": from, "to_space_id": to, "count": 1, "randomized": 0});
    let between = |space: &str| format!("/api/flows?{space}{DAY_OF_TEXT}&at_least={token}");
    assert_eq!(real.get(&between("space_id=10&")).await["flows"], json!([flow(json!(100), json!(101))]), "three hours later is no move");
    let floor = real.get(&between("space_id=100&")).await["flows"].clone();
    assert_eq!(floor, json!([flow(json!(1000), Value::Null), flow(json!(1000), json!(1001))]));
    assert_eq!(real.get(&between("")).await["flows"], json!([]));
    let hours = real.get(&format!("{}&per=hour", between("space_id=10&"))).await;
    assert_eq!(hours["flows"][0]["hour"], "2024-10-05T09:00:00.000Z");
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_session_fills_the_running_bin_until_it_is_closed() {
    let real = Real::campus(&[("engine.tick_every", "100ms")]).await;
    real.spaces(&TREE).await;
    // Within one bin, whatever the clock shows.
    let start = (now_micros() - 40 * MINUTE).div_euclid(15 * MINUTE) * 15 * MINUTE + MINUTE;
    real.stays(&[("aa", 1000, start, None), ("bb", 1001, start, None)]).await;
    let number = async |id: i64| {
        let now = real.get("/api/occupancy/now").await;
        let space = now["spaces"].as_array().expect("spaces").iter().find(|space| space["space_id"] == id).expect("there").clone();
        space["number_connections"].as_i64().expect("a number")
    };
    let begun = Instant::now();
    while number(10).await != 2 {
        assert!(begun.elapsed() < WITHIN, "the log's clock brings the running bin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(real.wifi().await["open"], 2);
    let token = real.stays(&[("aa", 1000, start, Some(start + MINUTE))]).await;
    let space = real.get(&format!("/api/spaces/1000?at_least={token}")).await;
    assert_eq!((number(10).await, number(1000).await, &space["number_connections"]), (1, 0, &json!(0)));
    let again = real.get(&format!("/api/occupancy?space_id=1000&interval_seconds=900&at_least={token}")).await;
    assert_eq!(again["rows"].as_array().map(Vec::len), Some(1), "a minute is in one bin: {again}");
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_room_is_told_live() {
    let real = Real::campus(&[("engine.tick_every", "100ms")]).await;
    real.spaces(&[(1, None, Some(4)), (10, Some(1), Some(2)), (11, Some(1), None)]).await;
    let mut listener = real.service.alerts();
    let request = Request::builder().uri("/api/live").header("host", "localhost").body(Body::empty()).expect("a request");
    let mut stream = real.router.clone().oneshot(request).await.expect("infallible").into_body().into_data_stream();
    let start = now_micros() - MINUTE;
    real.stays(&[("aa", 10, start, None), ("bb", 11, start, None)]).await;
    real.stays(&[("cc", 10, start, None)]).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let change = tokio::time::timeout(WITHIN, listener.recv()).await.expect("in time").expect("an alert");
        told.push((change.space_id, change.threshold_percent, change.direction, change.number_connections, change.percent));
    }
    // Both shares of the room at once; the floor has three of four.
    assert_eq!(told, [(10, 80, "up", Some(2), Some(100.0)), (10, 100, "up", Some(2), Some(100.0))]);
    let mut seen = String::new();
    let begun = Instant::now();
    while !(seen.contains("event: occupancy_change\n") && seen.contains("event: occupancy\n")) {
        assert!(begun.elapsed() < WITHIN, "{seen}");
        let chunk = tokio::time::timeout(WITHIN, stream.next()).await.expect("in time").expect("data").expect("data");
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    let frame = seen.split("event: occupancy_change\n").nth(1).and_then(|rest| rest.split("data: ").nth(1)).expect("a frame");
    let alert: Value = serde_json::from_str(frame.lines().next().expect("a line")).expect("JSON");
    assert_eq!([&alert["event"], &alert["space_id"], &alert["capacity"]], [&json!("occupancy_change"), &json!(10), &json!(2)]);
    assert_eq!(real.wifi().await["alerts"]["given"], 2);
    real.service.stop().await;
}

/// What a campus answers, in many ways.
async fn answers(real: &Real, token: &str) -> Vec<Value> {
    let range = "from=2024-10-01&to=2024-10-08";
    let mut uris = vec![format!("/api/flows?space_id=1&{range}&per=hour"), format!("/api/visits?space_id=1&{range}")];
    for (space, interval) in [(1, 900), (100, 1_800), (1, 3_600), (1000, 14_400), (1, 86_400), (10, 28_800)] {
        uris.push(format!("/api/occupancy?space_id={space}&interval_seconds={interval}&{range}"));
    }
    let mut answers = Vec::new();
    for uri in uris {
        let mut answer = real.get(&format!("{uri}&at_least={token}")).await;
        answer.as_object_mut().expect("an object").remove("as_of");
        answers.push(answer);
    }
    answers
}

fn random_stays(seed: u64, from: Micros, to: Micros, count: usize) -> Vec<(String, SpaceId, Micros, Option<Micros>)> {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let stay = |_| {
        let start = random.random_range(from..to) / MINUTE * MINUTE;
        let space = [1000, 1001, 101, 100][random.random_range(0..4)];
        let device = format!("{:02x}:00:00:00:00:{:02x}", [0, 2][random.random_range(0..2)], random.random_range(0..20));
        (device, space, start, Some(start + random.random_range(1..300) * MINUTE))
    };
    (0..count).map(stay).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_days_answer_as_they_did_and_late_rows_correct_them() {
    let (open, sealing) = (
        Real::campus(&[]).await,
        Real::campus(&[
            ("wifi.horizon", "1d"),
            ("sealing.every", "100ms"),
            ("wifi.reopen_every", "100ms"),
            ("wifi.intervals", "900, 3600, 86400"),
        ])
        .await,
    );
    let first = random_stays(1, at("2024-10-01"), at("2024-10-05"), 400);
    let late = random_stays(2, at("2024-10-01"), at("2024-10-04"), 60);
    let last = [("ff".to_owned(), 1000, at("2024-10-06T12:00:00Z"), Some(at("2024-10-06T13:00:00Z")))];
    let mut tokens = Vec::new();
    for real in [&open, &sealing] {
        real.spaces(&TREE).await;
        for stays in [&first[..], &last[..]] {
            let stays: Vec<_> = stays.iter().map(|(mac, space, start, end)| (mac.as_str(), *space, *start, *end)).collect();
            tokens = vec![real.stays(&stays).await];
        }
    }
    let sealed = at("2024-10-05");
    sealing
        .until("sealed", |wifi| wifi["sealing"]["sealed_before"].as_str().and_then(parse_time).is_some_and(|before| before >= sealed))
        .await;
    assert!(sealing.wifi().await["sealing"]["sessions"].as_u64().is_some_and(|rows| rows > 300));
    assert!(sealing.wifi().await["cells"].as_u64() < open.wifi().await["cells"].as_u64());
    let token = tokens.pop().expect("a token");
    let expected = answers(&open, "d1-0-1").await;
    for (was, is) in expected.iter().zip(answers(&sealing, &token).await) {
        assert_eq!(is, *was);
    }
    // Rows for sealed days wait for the history of their devices, then count as if they had always been there.
    for real in [&open, &sealing] {
        let stays: Vec<_> = late.iter().map(|(mac, space, start, end)| (mac.as_str(), *space, *start, *end)).collect();
        real.stays(&stays).await;
        real.until("reopened", |wifi| wifi["pending"] == 0).await;
    }
    let corrected = answers(&open, "d1-0-1").await;
    assert_ne!(corrected, expected);
    for (was, is) in corrected.iter().zip(answers(&sealing, "d1-0-1").await) {
        assert_eq!(is, *was);
    }
    assert!(sealing.wifi().await["sealing"]["reopened_devices"].as_u64().is_some_and(|devices| devices > 0));
    for real in [open, sealing] {
        real.service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_usual_comes_from_past_weeks() {
    let real = Real::campus(&[]).await;
    real.spaces(&TREE).await;
    let hour = now_micros() / HOUR * HOUR;
    let week = |weeks: i64, devices: usize| -> Vec<(String, SpaceId, Micros, Option<Micros>)> {
        let begin = hour - weeks * 7 * DAY - 2 * HOUR;
        (0..devices).map(|device| (format!("m{device}"), 1000, begin + MINUTE, Some(begin + 2 * MINUTE))).collect()
    };
    let mut token = String::new();
    for stays in [week(1, 2), week(2, 5), week(4, 9)] {
        let stays: Vec<_> = stays.iter().map(|(mac, space, start, end)| (mac.as_str(), *space, *start, *end)).collect();
        token = real.stays(&stays).await;
    }
    let typical = real.get(&format!("/api/occupancy/typical?space_id=10&weeks=6&at_least={token}")).await;
    assert_eq!((&typical["weeks"], &typical["peak"]["number_connections"]), (&json!(3), &json!(9)), "{typical}");
    let at_work: Vec<&Value> = typical["hours"].as_array().expect("hours").iter().filter(|hour| hour["p90"] != 0).collect();
    assert_eq!(at_work.len(), 1, "{at_work:?}");
    assert_eq!([&at_work[0]["median"], &at_work[0]["p10"], &at_work[0]["p90"]], [&json!(5), &json!(2), &json!(9)]);
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_requests_cannot_make_a_circle_between_them() {
    let real = Real::campus(&[("wifi.spaces_max", "3")]).await;
    for _ in 0..10 {
        real.spaces(&[(1, None, None), (2, None, None)]).await;
        let put = |id: i32, parent: i32| {
            let body = json!({"space_id": id, "parent_space_id": parent}).to_string();
            let real = &real;
            async move { real.ask(Method::PUT, "/api/spaces", &body).await.0 }
        };
        let (one, other) = tokio::join!(put(1, 2), put(2, 1));
        assert_eq!([one, other].iter().filter(|status| **status == 200).count(), 1, "{one} {other}");
    }
    let (status, body) = real.ask(Method::PUT, "/api/spaces", r#"{"spaces":[{"space_id":3},{"space_id":4}]}"#).await;
    assert_eq!((status, &body["errors"][0]["field"]), (400, &json!("spaces")), "one more than may be: {body}");
    assert_eq!(real.ask(Method::GET, "/api/spaces/3", "").await.0, 404, "and none of them was taken");
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_bins_outlive_their_sessions_and_others_are_refused() {
    let settings = [("wifi.horizon", "1d"), ("wifi.retention", "1d"), ("sealing.every", "100ms"), ("wifi.k_anonymity", "2")];
    let real = Real::campus(&settings).await;
    real.spaces(&TREE).await;
    text_sessions(&real).await;
    let later = at("2024-10-20T12:00:00Z");
    let token = real.stays(&[("zz", 1000, later, Some(later + HOUR))]).await;
    real.until("retained", |wifi| wifi["sealing"]["retained_from"].is_string()).await;
    let kept = real.get(&format!("/api/occupancy?space_id=100&{DAY_OF_TEXT}&at_least={token}")).await;
    let numbers: Vec<&Value> = kept["rows"].as_array().expect("rows").iter().map(|row| &row["number_connections"]).collect();
    assert_eq!((numbers, &kept["withheld"]), (vec![&json!(3), &json!(2)], &json!(0)));
    let room = real.get(&format!("/api/occupancy?space_id=1001&{DAY_OF_TEXT}")).await;
    assert_eq!((&room["rows"], &room["withheld"]), (&json!([]), &json!(1)), "one is too few to be shown");
    let (status, body) = real.ask(Method::GET, &format!("/api/occupancy?space_id=100&interval_seconds=1800&{DAY_OF_TEXT}"), "").await;
    assert_eq!((status, &body["errors"][0]["field"]), (400, &json!("from")), "{body}");
    let since = real.get("/api/occupancy?space_id=100&interval_seconds=1800&from=2024-10-20T12:00:00Z&to=2024-10-21").await;
    assert_eq!(since["withheld"], 2, "these are still counted");
    real.service.stop().await;
}
