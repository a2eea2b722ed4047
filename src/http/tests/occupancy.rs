//! Spaces and occupancy: what goes in, what comes out, and what is refused.

use super::fake::{Answer, Mood, Site, request};
use super::shop::fields;
use crate::http::config::HttpConfig;
use crate::service::occupancy::{DwellTimes, Flow, VisitDay};
use crate::service::{Privacy, Shown};
use axum::body::Body;
use axum::http::Method;
use desireline_records::time::{DAY, HOUR, MINUTE, parse_time};
use desireline_records::{Cell, Micros, SpaceId};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const NINE: Micros = 1_728_118_800_000_000; // 2024-10-05T09:00:00Z

async fn campus(config: HttpConfig) -> Site {
    let site = Site::new(config);
    let spaces = json!({"spaces": [
        {"space_id": 1, "space_name": "Campus"},
        {"space_id": 10, "space_name": "Engineering", "parent_space_id": 1, "capacity": 40},
        {"space_id": 100, "space_name": "ENG 1", "parent_space_id": 10, "building_room": "E/1"},
        {"space_id": 101, "space_name": null, "parent_space_id": 10},
        {"space_id": 7, "parent_space_id": 6}]});
    let answer = site.put("/api/spaces", "application/json", &spaces.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"accepted": 5, "token": "d1-0-3e8", "orphans": [7]})));
    site
}

fn count(site: &Site, cells: &[(SpaceId, Micros, i64, i64)]) {
    let cell = |(space, time, count, randomized): &(SpaceId, Micros, i64, i64)| {
        (*space, *time, Cell { count: *count, randomized: *randomized, micros: 0 })
    };
    *site.fake.cells.lock().expect("lock") = cells.iter().map(cell).collect();
}

fn asked(site: &Site) -> String {
    site.fake.asked.lock().expect("lock").last().expect("a question").clone()
}

async fn delete(site: &Site, path: &str) -> Answer {
    site.send(request(Method::DELETE, path).body(Body::empty()).expect("a request")).await
}

fn assert_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned)), (status, Some(code.to_owned())));
}

#[tokio::test]
async fn spaces_are_written_in_three_forms_read_and_removed() {
    let site = campus(HttpConfig::default()).await;
    count(&site, &[(100, NINE, 2, 1), (10, NINE, 1, 0)]);
    assert_eq!(site.put("/api/spaces", "application/json", r#"{"space_id":6}"#).await.json()["orphans"], json!([]));
    let lines = "{\"space_id\":8}\n\n{\"space_id\":9,\"parent_space_id\":8}\n";
    assert_eq!(site.put("/api/spaces", "application/x-ndjson", lines).await.json()["accepted"], 2);

    let space = site.get("/api/spaces/10").await;
    assert_eq!(space.header("x-desireline-as-of"), "1000");
    assert_eq!(
        space.json(),
        json!({"as_of": 1000, "space_id": 10, "space_name": "Engineering", "parent_space_id": 1, "building_room": null, "capacity": 40,
            "orphan": false, "children": [{"space_id": 100, "space_name": "ENG 1"}, {"space_id": 101, "space_name": null}],
            "children_count": 2, "ancestors": [{"space_id": 1, "space_name": "Campus"}], "interval_begin_time": "2024-10-05T09:00:00.000Z",
            "interval_seconds": 900, "number_connections": 3, "randomized": 1})
    );
    assert_eq!(site.get("/api/spaces/101").await.json()["number_connections"], 0);
    assert_code(&delete(&site, "/api/spaces/10").await, 409, "conflict");
    let gone = delete(&site, "/api/spaces/101").await;
    assert_eq!((gone.status.as_u16(), gone.bytes.len()), (204, 0));
    for answer in [delete(&site, "/api/spaces/101").await, site.get("/api/spaces/101").await] {
        assert_code(&answer, 404, "not_found");
    }
    assert_eq!(fields(&site.get("/api/spaces/ten").await), ["space_id"]);
    assert_eq!(fields(&delete(&site, "/api/spaces/2147483648").await), ["space_id"]);
    site.fake.not_ready.store(true, Ordering::SeqCst);
    assert_eq!(site.get("/api/spaces/10").await.status, 503);
}

#[tokio::test]
async fn mistakes_in_spaces_are_named_and_nothing_is_taken() {
    let site = Site::new(HttpConfig::default());
    let wrong = r#"{"spaces":[{"space_id":1},{"space_id":"2"},{"space_name":"x"},{"space_id":3,"capacity":0},{"space_id":4,"parent_space_id":2147483648}]}"#;
    let error = site.put("/api/spaces", "application/json", wrong).await.json();
    let rejected: Vec<_> = error["rejected"].as_array().expect("a list").iter().map(|r| (r["index"].clone(), r["field"].clone())).collect();
    let expected = [(1, "space_id"), (2, "space_id"), (3, "capacity"), (4, "parent_space_id")].map(|(at, field)| (json!(at), json!(field)));
    assert_eq!(rejected, expected);
    assert_eq!(site.get("/api/spaces/1").await.status, 404);
    assert_eq!(fields(&site.put("/api/spaces", "application/json", r#"{"spaces":[]}"#).await), ["spaces"]);
    let circle = r#"{"spaces":[{"space_id":1,"parent_space_id":2},{"space_id":2,"parent_space_id":1}]}"#;
    assert_eq!(fields(&site.put("/api/spaces", "application/json", circle).await), ["spaces"]);
    for (body, status) in [("nonsense", 400), ("[]", 400)] {
        assert_eq!(site.put("/api/spaces", "application/json", body).await.status, status, "{body}");
    }
    assert_eq!(site.put("/api/spaces", "text/plain", "{}").await.status, 415);
    site.fake.feel(Mood::Busy);
    assert_code(&site.put("/api/spaces", "application/json", r#"{"space_id":1}"#).await, 429, "busy");
}

#[tokio::test]
async fn a_series_has_every_bin_that_overlaps_the_range_and_has_devices() {
    let site = campus(HttpConfig::default()).await;
    count(&site, &[(100, NINE, 2, 1), (101, NINE, 1, 0), (100, NINE + HOUR, 2, 0), (100, NINE + 2 * HOUR, 0, 0), (100, NINE - HOUR, 9, 0)]);
    let uri = "/api/occupancy?space_id=10&interval_seconds=3600&from=2024-10-05T09:30:00Z&to=2024-10-05T12:00:00Z&at_least=d1-0-5";
    let answer = site.get(uri).await;
    let row = |time: &str, number, randomized| json!({"interval_begin_time": time, "number_connections": number, "randomized": randomized});
    let rows = [row("2024-10-05T09:00:00.000Z", 3, 1), row("2024-10-05T10:00:00.000Z", 2, 0)];
    assert_eq!(answer.json(), json!({"as_of": 1000, "space_id": 10, "interval_seconds": 3600, "rows": rows}));
    assert!(asked(&site).contains("time: 5"), "the token is handed on: {}", asked(&site));

    let cut = site.get(&format!("{uri}&limit=1")).await.json();
    assert_eq!((cut["rows"].as_array().map(Vec::len), &cut["next_from"]), (Some(1), &json!("2024-10-05T10:00:00.000Z")));
    let rest = site.get("/api/occupancy?space_id=10&from=2024-10-05T10:00:00.000Z&to=2024-10-05T12:00:00Z&limit=1").await.json();
    assert_eq!((&rest["rows"], &rest["next_from"]), (&json!([rows[1]]), &Value::Null));
}

#[tokio::test]
async fn without_bounds_it_is_the_last_day() {
    let site = campus(HttpConfig::default()).await;
    assert_eq!(site.get("/api/occupancy?space_id=10").await.json()["rows"], json!([]));
    let question = asked(&site);
    let number = |name: &str| -> i64 {
        let rest = question.split(&format!("{name}: ")).nth(1).expect("a field");
        rest.split([',', ' ']).next().and_then(|digits| digits.parse().ok()).expect("a number")
    };
    assert!((DAY..DAY + HOUR).contains(&(number("to") - number("from"))), "{question}");
    assert!(number("from") % HOUR == 0 && question.contains("Devices(3600)"), "{question}");
}

#[tokio::test]
async fn mistakes_in_questions_are_all_named() {
    let site = campus(HttpConfig::default()).await;
    let wrong = site.get("/api/occupancy?interval_seconds=60&from=2024-10-05&to=2024-10-05&at_least=x&limit=0").await;
    assert_eq!(fields(&wrong), ["space_id", "interval_seconds", "to", "limit", "at_least"]);
    let detail = wrong.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("900, 1800, 3600, 7200, 14400, 28800, 86400"), "{detail}");
    assert_code(&site.get("/api/occupancy?space_id=999").await, 404, "not_found");
    assert_code(&site.get("/api/occupancy/heat?space_id=999").await, 404, "not_found");
    assert_code(&site.get("/api/occupancy/typical?space_id=999").await, 404, "not_found");
    assert_eq!(fields(&site.get("/api/occupancy/heat?space_id=x&interval_seconds=0900").await), ["space_id", "interval_seconds"]);
    let long = site.get("/api/occupancy/heat?interval_seconds=900&from=2024-01-01&to=2024-02-01").await;
    assert_eq!(fields(&long), ["from"]);
    for weeks in ["0", "521", "x"] {
        assert_eq!(fields(&site.get(&format!("/api/occupancy/typical?space_id=10&weeks={weeks}")).await), ["weeks"]);
    }
    assert_eq!(fields(&site.get("/api/visits?from=2000-01-01&to=2024-01-01").await), ["space_id", "from"]);
    assert_eq!(fields(&site.get("/api/flows?per=day&from=2024-01-02&to=2024-01-01").await), ["to", "per"]);
    site.fake.not_ready.store(true, Ordering::SeqCst);
    assert_eq!(site.get("/api/occupancy/heat?space_id=10").await.status, 503);
    site.fake.not_ready.store(false, Ordering::SeqCst);
    site.fake.feel(Mood::Broken);
    for path in ["occupancy?space_id=1", "occupancy/now", "visits?space_id=1", "flows"] {
        assert_eq!(site.get(&format!("/api/{path}")).await.status, 500, "{path}");
    }
}

#[tokio::test]
async fn small_numbers_are_withheld_everywhere_and_counted() {
    let site = campus(HttpConfig::default()).await;
    *site.fake.privacy.lock().expect("lock") = Privacy { exclude_randomized: false, k: 3 };
    count(&site, &[(100, NINE, 2, 0), (100, NINE + HOUR, 9, 1), (100, NINE + 2 * HOUR, 3, 3)]);
    let range = "from=2024-10-05&to=2024-10-06";
    let answer = site.get(&format!("/api/occupancy?space_id=10&{range}")).await.json();
    let rows: Vec<_> =
        answer["rows"].as_array().expect("rows").iter().map(|row| (row["number_connections"].clone(), row["randomized"].clone())).collect();
    assert_eq!((rows, &answer["withheld"]), (vec![(json!(9), Value::Null), (json!(3), json!(3))], &json!(1)));
    let heat = site.get(&format!("/api/occupancy/heat?space_id=100&{range}")).await.json();
    assert_eq!(heat["spaces"][0]["numbers"].as_array().expect("numbers")[8..13], [json!(0), Value::Null, json!(9), json!(3), json!(0)]);
    *site.fake.privacy.lock().expect("lock") = Privacy { exclude_randomized: true, k: 0 };
    let answer = site.get(&format!("/api/occupancy?space_id=10&{range}")).await.json();
    let row = |at: usize| (answer["rows"][at]["number_connections"].clone(), answer["rows"][at]["randomized"].clone());
    assert_eq!([row(0), row(1)], [(json!(2), json!(0)), (json!(8), json!(1))]);
    assert_eq!((answer["rows"].as_array().map(Vec::len), answer.get("withheld")), (Some(2), None), "three made-up addresses are nobody");
}

#[tokio::test]
async fn a_heat_map_has_a_line_for_the_space_and_each_child_without_gaps() {
    let site = campus(HttpConfig::default()).await;
    count(&site, &[(100, NINE, 2, 0), (101, NINE + HOUR, 5, 0)]);
    let uri = "/api/occupancy/heat?space_id=10&from=2024-10-05T09:10:00Z&to=2024-10-05T11:00:00Z";
    let line = |id: i32, name: Value, capacity: Value, has_children, numbers: [i64; 2]| json!({"space_id": id, "space_name": name, "capacity": capacity, "has_children": has_children, "numbers": numbers});
    let spaces = [
        line(10, json!("Engineering"), json!(40), true, [2, 5]),
        line(100, json!("ENG 1"), Value::Null, false, [2, 0]),
        line(101, Value::Null, Value::Null, false, [0, 5]),
    ];
    let begin_times = ["2024-10-05T09:00:00.000Z", "2024-10-05T10:00:00.000Z"];
    let expected = json!({"as_of": 1000, "space_id": 10, "interval_seconds": 3600, "begin_times": begin_times, "spaces": spaces});
    assert_eq!(site.get(uri).await.json(), expected);
    let roots = site.get("/api/occupancy/heat?from=2024-10-05T09:00:00Z&to=2024-10-05T10:00:00Z").await.json();
    let ids: Vec<_> =
        roots["spaces"].as_array().expect("lines").iter().map(|line| (line["space_id"].clone(), line["numbers"].clone())).collect();
    assert_eq!((ids, &roots["space_id"]), (vec![(json!(1), json!([2])), (json!(7), json!([0]))], &Value::Null));
}

#[tokio::test]
async fn now_typical_visits_and_flows_are_printed() {
    let site = campus(HttpConfig::default()).await;
    count(&site, &[(100, NINE, 4, 0), (100, NINE - 15 * MINUTE, 3, 0)]);
    let now = site.get("/api/occupancy/now").await.json();
    assert_eq!((&now["interval_seconds"], &now["interval_begin_time"]), (&json!(900), &json!("2024-10-05T09:00:00.000Z")));
    let space = json!({"space_id": 10, "space_name": "Engineering", "parent_space_id": 1, "capacity": 40, "number_connections": 4, "randomized": 0, "previous": 3});
    assert_eq!(now["spaces"][2], space, "{now}");

    count(&site, &[(100, parse_time("2024-10-02T09:00:00Z").expect("a time"), 6, 0)]);
    let typical = site.get("/api/occupancy/typical?space_id=1&weeks=2").await.json();
    assert_eq!((&typical["weeks"], typical["hours"].as_array().map(Vec::len)), (&json!(1), Some(168)));
    assert_eq!(typical["hours"][2 * 24 + 9], json!({"hour_of_week": 57, "median": 6, "p10": 6, "p90": 6}));
    assert_eq!(typical["peak"], json!({"interval_begin_time": "2024-10-02T09:00:00.000Z", "number_connections": 6}));

    let dwell = Some(DwellTimes { mean: 61.24, median: 60.0, p90: 299.96 });
    let day = VisitDay { day: NINE - 9 * HOUR, visits: Some(3), visitors: None, randomized: Some(0), dwell };
    *site.fake.visits.lock().expect("lock") = vec![day];
    let visits = site.get("/api/visits?space_id=10&from=2024-10-05&to=2024-10-06").await.json();
    let seconds = json!({"mean": 61.2, "median": 60.0, "p90": 300.0});
    assert_eq!(visits["days"], json!([{"date": "2024-10-05", "visits": 3, "visitors": null, "randomized": 0, "dwell_seconds": seconds}]));

    let flow = |time, to| Flow { time, from: Some(100), to, shown: Shown { number: Some(2), randomized: Some(0) } };
    *site.fake.flows.lock().expect("lock") = vec![flow(None, Some(101)), flow(Some(NINE), None)];
    let flows = site.get("/api/flows?space_id=10&per=hour&from=2024-10-05&to=2024-10-06").await.json();
    let row = json!({"from_space_id": 100, "to_space_id": 101, "count": 2, "randomized": 0});
    assert_eq!(flows["flows"][0], row);
    assert_eq!((&flows["flows"][1]["hour"], &flows["flows"][1]["to_space_id"]), (&json!("2024-10-05T09:00:00.000Z"), &Value::Null));
    assert!(asked(&site).ends_with("Hour") && flows.get("truncated").is_none());
    assert_eq!(site.get("/api/flows?limit=1").await.json()["truncated"], true);
}
