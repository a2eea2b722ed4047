//! What goes away in the middle of it: the server, the database.

use crate::campus::{Objects, Tables};
use crate::client::{Client, rows};
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, eventually, eventually_true};
use serde_json::{Value, json};

/// Ten rooms of the first floor, each with its own device in the first hour of each day of a year.
fn fill(tables: &Tables) {
    for room in 1_100..1_110 {
        tables.put_space(room, Some("A room"), Some(100));
    }
    let schema = &tables.schema;
    tables.run(&format!(
        "INSERT INTO {schema}.user_ap_trajectory SELECT 'm' || room, room, 's', day, day + interval '1 hour' \
         FROM generate_series(1100, 1109) room, generate_series(timestamp '2023-01-01', '2023-12-31', '1 day') day"
    ));
}

const YEAR: (&str, &str) = ("2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z");

fn successes(client: &Client<'_>) -> usize {
    client.runs().iter().filter(|run| run["status"] == "SUCCESS").count()
}

/// The whole year is there, and every chunk once.
fn check(client: &Client<'_>, dataset: &Value, objects: &Objects) {
    let results = client.wait(dataset, None, "COMPLETED");
    let found = crate::client::rows_of(&results);
    assert_eq!((found.len(), &results["total_rows"], &results["total_chunks"]), (365, &json!(365), &json!(27)));
    assert!(found.iter().all(|(begin, number)| begin.ends_with("T00:00:00") && *number == 10), "{found:?}");
    assert_eq!(objects.names().len(), 27 * 12);
    assert_eq!(client.rows(dataset, Some(1_105)).len(), 365);
}

#[test]
fn a_server_that_is_killed_again_and_again_counts_everything() {
    let Some(tables) = Tables::new() else { return };
    fill(&tables);
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::folder(folder.path());
    let config = format!("{}[runs]\ninterruptions_max = 100\n", objects.config("1h"));
    let mut server = Server::new().config(config).env("TIPPERS_DB_URL", tables.url_by_way_of(None)).start();
    let dataset = Client(&server.http).create("year", YEAR, &json!({"chunk_days": 14}));
    for round in 1..=3 {
        eventually_true("more chunks", DEADLINE, || successes(&Client(&server.http)) >= round * 60);
        server.crash();
    }
    let client = Client(&server.http);
    check(&client, &dataset, &objects);
    assert_eq!(client.get(&dataset)["row_count"], 365);
    // Asked for again, nothing is left to count.
    let runs = client.runs().len();
    let again = client.create("again", YEAR, &json!({"chunk_days": 14}));
    assert_eq!(client.wait(&again, None, "COMPLETED")["total_rows"], 365);
    assert_eq!(client.runs().len(), runs);
}

#[test]
fn a_database_that_goes_away_is_waited_for() {
    let Some(tables) = Tables::new() else { return };
    fill(&tables);
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::folder(folder.path());
    let proxy = Proxy::new(tables.address());
    let server = Server::new().config(objects.config("1h")).env("TIPPERS_DB_URL", tables.url_by_way_of(Some(proxy.port()))).start();
    let client = Client(&server.http);
    let dataset = client.create("year", YEAR, &json!({"chunk_days": 14}));
    eventually_true("some chunks", DEADLINE, || successes(&client) >= 20);
    proxy.refuse();
    let retried = |runs: &[Value]| runs.iter().any(|run| run["status"] == "STARTED" && run["attempt"].as_u64() >= Some(2));
    eventually("a second attempt", DEADLINE, || {
        let runs = client.runs();
        if retried(&runs) { Ok(()) } else { Err(format!("{:?}", runs.last())) }
    });
    // Nobody gets a dataset meanwhile, and nothing is left of those who asked; what is there is still answered.
    let body = json!({"name": "none", "root_space_id": 10, "start_time": YEAR.0, "end_time": YEAR.1});
    let refused = server.http.post_json("/occupancy/datasets", &body).expect_status(503);
    assert_eq!((refused.json()["code"].as_str(), refused.header("retry-after").is_empty()), (Some("database_unavailable"), false));
    assert!(!refused.text().contains(&tables.url), "the URL is nobody's business");
    server.http.get("/spaces").expect_status(503);
    assert_eq!(server.http.get_json("/occupancy/datasets").as_array().unwrap().len(), 1);
    assert_eq!(client.results(&dataset, None)["status"], "RUNNING");
    proxy.pass();
    check(&client, &dataset, &objects);

    // A database that says nothing: the answer comes all the same.
    proxy.stall();
    let begin = std::time::Instant::now();
    server.http.post_json("/occupancy/datasets", &body).expect_status(503);
    assert!(begin.elapsed().as_secs_f64() < 1.0, "answered after {:?}", begin.elapsed());
    proxy.pass();
    let winter = client.create("winter", ("2024-12-13T00:00:00Z", "2024-12-16T00:00:00Z"), &json!({}));
    assert_eq!(client.rows(&winter, None), rows(&[("2024-12-14T09:00:00", 1)]));
}

#[test]
fn a_slow_walk_does_not_hold_the_answer_up() {
    let Some(tables) = Tables::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::folder(folder.path());
    let schema = &tables.schema;
    // The table is a view that takes two seconds.
    tables.run(&format!(
        "ALTER TABLE {schema}.user_ap_trajectory RENAME TO sessions; \
         CREATE VIEW {schema}.user_ap_trajectory AS SELECT s.* FROM {schema}.sessions s, (SELECT pg_sleep(2)) AS slow"
    ));
    let server = Server::new().config(objects.config("1h")).env("TIPPERS_DB_URL", tables.url_by_way_of(None)).start();
    let client = Client(&server.http);
    let dataset = client.create("slow", ("2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z"), &json!({}));
    assert_eq!(dataset["status"], "PENDING");
    let pending = client.results(&dataset, None);
    assert_eq!((&pending["status"], &pending["total_chunks"]), (&json!("PENDING"), &json!(2)));
    assert!(pending["message"].is_string());
    assert_eq!(client.rows(&dataset, None), rows(&[("2024-10-05T09:00:00", 3), ("2024-10-05T10:00:00", 2)]));
}
