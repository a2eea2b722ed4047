//! Datasets of the log through whatever happens to it: days that are sealed, small numbers that may not be shown, and a random history
//! against the answers of `/api/occupancy`.

use crate::campus::{Objects, unique};
use crate::client::Client;
use crate::live::{Site, put_spaces};
use crate::support::random::Random;
use crate::support::wait::{DEADLINE, eventually, eventually_true};
use serde_json::{Value, json};

fn objects() -> Objects {
    Objects::folder(&std::env::temp_dir().join(unique("objects")))
}

const OCTOBER: (&str, &str) = ("2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z");

#[test]
fn a_late_session_of_a_sealed_day_corrects_the_chunks_of_that_day() {
    let site = Site::with(objects(), "100ms", "[wifi]\nhorizon = \"1d\"\nreopen_every = \"100ms\"\n[sealing]\nevery = \"100ms\"\n");
    let client = site.client();
    site.send(&[(1010, "now", "2026-01-10 08:00", "2026-01-10 08:30")]);
    eventually("all days but the last to be sealed", DEADLINE, || {
        let wifi = site.server.http.get_json("/api/status")["wifi"].clone();
        if wifi["sealing"]["sealed_before"].is_string() && wifi["sessions"] == 1 { Ok(()) } else { Err(wifi.to_string()) }
    });
    let dataset = client.create("d", OCTOBER, &json!({}));
    let halves = client.create("halves", OCTOBER, &json!({"interval_seconds": 1800}));
    client.wait_rows(&dataset, None, &[("2024-10-05T09:00:00", 3), ("2024-10-05T10:00:00", 2)]);
    let before = [("2024-10-05T09:00:00", 2), ("2024-10-05T09:30:00", 3), ("2024-10-05T10:00:00", 2), ("2024-10-05T10:30:00", 1)];
    client.wait_rows(&halves, None, &before);
    site.send(&[(1010, "late", "2024-10-05 10:40", "2024-10-05 11:10")]);
    let late = ("2024-10-05T11:00:00", 1);
    client.wait_rows(&dataset, None, &[("2024-10-05T09:00:00", 3), ("2024-10-05T10:00:00", 3), late]);
    client.wait_rows(&dataset, Some(1010), &[("2024-10-05T10:00:00", 1), late]);
    client.wait_rows(&halves, None, &[before[0], before[1], before[2], ("2024-10-05T10:30:00", 2), late]);
}

#[test]
fn what_may_not_be_shown_is_not_in_the_files() {
    let site = Site::with(objects(), "100ms", "[wifi]\nk_anonymity = 2\n");
    let client = site.client();
    let dataset = client.create("d", OCTOBER, &json!({}));
    let both = [("2024-10-05T09:00:00", 2), ("2024-10-05T10:00:00", 2)];
    assert_eq!(client.rows(&dataset, Some(1000)), crate::client::rows(&both));
    assert_eq!(client.rows(&dataset, Some(1001)), [], "one device is too few");
    assert_eq!(client.rows(&dataset, None), crate::client::rows(&[("2024-10-05T09:00:00", 3), both[1]]), "of the building it counts");
    let object = site.objects.bins("occupancy/spaces/1001/3600/chunk_20240914T000000_20241014T000000.parquet");
    assert_eq!(object, []);
}

/// Something happens: sessions, corrections of them, a room that moves, a device that is erased.
fn happen(site: &Site, random: &mut Random) {
    const ROOMS: [i32; 5] = [1000, 1001, 1010, 100, 20];
    match random.below(10) {
        0 => {
            let (room, parent) = (ROOMS[random.below(3) as usize], [10, 100, 101, 20][random.below(4) as usize]);
            put_spaces(&site.server.http, &[json!({"space_id": room, "space_name": "moved", "parent_space_id": parent})]);
        }
        1 => {
            let status = site.server.http.delete(&format!("/api/macs/m{}", random.below(6))).status;
            assert!([202, 404].contains(&status), "{status}");
        }
        _ => {
            for _ in 0..=random.below(4) {
                let (mac, room) = (format!("m{}", random.below(6)), ROOMS[random.below(5) as usize]);
                // Few starts, so that sessions are met again with other ends.
                let (day, hour, length) = (1 + random.below(3) * 20, random.below(24), 1 + random.below(40));
                let start =
                    chrono::NaiveDate::from_ymd_opt(2024, 10, 1).unwrap().and_hms_opt(hour as u32, 10, 0).unwrap() + chrono::Days::new(day);
                let end = start + chrono::Duration::minutes(length as i64 * 7);
                let text = |time: chrono::NaiveDateTime| time.format("%Y-%m-%d %H:%M").to_string();
                site.send(&[(room, &mac, &text(start), &text(end))]);
            }
        }
    }
}

/// The rows of every space that a dataset should have; how many.
fn compare(client: &Client<'_>, dataset: &Value, seconds: u32) -> Result<usize, String> {
    let http = client.0;
    let mut compared = 0;
    for space in http.get_json("/spaces/1/subtree").as_array().unwrap() {
        let space = space["space_id"].as_i64().unwrap();
        let path = format!("/api/occupancy?space_id={space}&interval_seconds={seconds}&from=2024-10-01T00:00:00Z&to=2024-12-30T00:00:00Z");
        let row = |row: &Value| format!("{} {}", &row["interval_begin_time"].as_str().unwrap()[..19], row["number_connections"]);
        let wanted: Vec<String> = http.get_json(&path)["rows"].as_array().unwrap().iter().map(row).collect();
        let reply = http.get(&format!("/occupancy/datasets/{}/results?space_id={space}", dataset["dataset_id"]));
        if reply.status != 200 {
            return Err(format!("space {space}: {}", reply.text()));
        }
        let results = reply.json();
        let found: Vec<String> = results["rows"].as_array().into_iter().flatten().map(row).collect();
        if results["status"] != "COMPLETED" || found != wanted {
            return Err(format!("space {space}, {seconds}: {wanted:?} but {results}"));
        }
        compared += wanted.len();
    }
    Ok(compared)
}

#[test]
fn a_random_history_is_followed_by_every_chunk() {
    for seed in [1, 2, 3] {
        let mut site = Site::with(objects(), "100ms", "");
        let mut random = Random(seed);
        let range = ("2024-10-01T00:00:00Z", "2024-12-30T00:00:00Z");
        let mut datasets = Vec::new();
        for round in 0..6 {
            (0..8).for_each(|_| happen(&site, &mut random));
            let client = site.client();
            if round < 3 {
                let (seconds, days) = [(3_600, 30), (900, 7), (1_800, 45)][round];
                let more = json!({"root_space_id": 1, "interval_seconds": seconds, "chunk_days": days});
                datasets.push((client.create("random", range, &more), seconds));
            }
            for (dataset, seconds) in &datasets {
                let what = format!("seed {seed}, round {round}: the same numbers");
                let compared = eventually(&what, DEADLINE, || compare(&client, dataset, *seconds));
                assert!(compared > 20, "only {compared} rows");
            }
            if round == 4 {
                happen(&site, &mut random);
                site.server.crash();
            }
        }
        let client = site.client();
        eventually_true("all runs to have ended", DEADLINE, || client.runs().iter().all(|run| run["status"] == "SUCCESS"));
    }
}
