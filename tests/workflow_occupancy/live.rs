//! Datasets of the log: the same campus, sent by HTTP, and what is corrected afterwards.

use crate::campus::{LATE_SESSION, Objects, SESSIONS, SPACES, time, unique};
use crate::client::{Client, Rows, rows};
use crate::support::http::Http;
use crate::support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

const OCTOBER: (&str, &str) = ("2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z");
const WINTER: (&str, &str) = ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z");

pub struct Site {
    pub objects: Objects,
    pub server: Server,
}

impl Site {
    fn new(objects: Objects, refresh_every: &str) -> Self {
        Self::with(objects, refresh_every, "")
    }

    /// With further settings. The campus and its sessions are there.
    pub fn with(objects: Objects, refresh_every: &str, settings: &str) -> Self {
        let config = format!("{}{settings}", objects.config(refresh_every));
        let site = Self { objects, server: Server::new().config(config).start() };
        let space = |(id, name, parent): &(i32, Option<&str>, Option<i32>)| json!({"space_id": id, "space_name": name, "parent_space_id": parent, "building_room": format!("EH-{id}")});
        put_spaces(&site.server.http, &SPACES.iter().map(space).collect::<Vec<_>>());
        site.send(&SESSIONS);
        site
    }

    fn folder() -> Self {
        Self::new(Objects::folder(&std::env::temp_dir().join(unique("objects"))), "100ms")
    }

    pub fn client(&self) -> Client<'_> {
        Client(&self.server.http)
    }

    pub fn send(&self, sessions: &[(i32, &str, &str, &str)]) {
        let instant = |text: &str| json!((!text.is_empty()).then(|| format!("{}:00Z", text.replace(' ', "T"))));
        let session = |(space, mac, start, end): &(i32, &str, &str, &str)| json!({"mac_address": mac, "space_id": space, "sensor_id": "s1", "start_time": instant(start), "end_time": instant(end)});
        let body = json!({"sessions": sessions.iter().map(session).collect::<Vec<_>>()});
        self.server.http.post_json("/api/wifi-sessions", &body).expect_status(200);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !self.objects.url.contains("://") {
            let _ = std::fs::remove_dir_all(&self.objects.url);
        }
    }
}

pub fn put_spaces(http: &Http, spaces: &[Value]) {
    let body = json!({ "spaces": spaces }).to_string().into_bytes();
    http.send(Method::PUT, "/api/spaces", &[("content-type", "application/json")], body).expect_status(200);
}

fn hours(nine: i64, ten: i64) -> Rows {
    rows(&[("2024-10-05T09:00:00", nine), ("2024-10-05T10:00:00", ten)])
}

#[test]
fn the_same_campus_has_the_same_numbers() {
    let Some(objects) = Objects::s3() else { return };
    let site = Site::new(objects, "100ms");
    let (client, http) = (site.client(), &site.server.http);
    let names = |path: &str| http.get_json(path).as_array().unwrap().iter().map(|s| s["space_id"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(names("/spaces?search=ENG"), [10, 100, 101, 1000, 1001, 1010]);
    assert_eq!(names("/spaces/10/children"), [100, 101]);
    assert_eq!(names("/spaces/10/subtree"), [10, 100, 101, 1000, 1001, 1010]);
    assert_eq!(names("/spaces/roots"), [1, 20]);
    http.get("/spaces/999").expect_status(404);
    assert_eq!(http.get_json("/spaces/999/subtree"), json!([]));

    let d1 = client.create("d1", OCTOBER, &json!({}));
    assert_eq!(d1["status"], "RUNNING");
    assert_eq!(client.rows(&d1, Some(1000)), hours(2, 2));
    assert_eq!(client.rows(&d1, Some(1001)), rows(&[("2024-10-05T09:00:00", 1)]));
    assert_eq!(client.rows(&d1, Some(100)), hours(3, 2));
    assert_eq!(client.rows(&d1, None), hours(3, 2));
    assert_eq!(client.rows(&d1, Some(1010)), []);
    let done = client.results(&d1, None);
    assert_eq!((&done["completed_chunks"], &done["total_chunks"]), (&json!(2), &json!(2)));
    let object = |space: i32| format!("occupancy/spaces/{space}/3600/chunk_20240914T000000_20241014T000000.parquet");
    assert_eq!(site.objects.names(), [object(10), object(100), object(1000), object(1001)]);
    let hour = |text: &str| time(text);
    let room = [(hour("2024-09-20T10:00:00Z"), 1), (hour("2024-10-05T09:00:00Z"), 2), (hour("2024-10-05T10:00:00Z"), 2)];
    assert_eq!(site.objects.bins(&object(1000)), room);

    let before = client.runs().len();
    let d2 = client.create("d2", ("2024-10-01T00:00:00Z", "2025-01-01T00:00:00Z"), &json!({}));
    assert_eq!(client.rows(&d2, None).len(), 4);
    let after = client.runs();
    assert!(after[before..].iter().all(|run| run["status"] == "SUCCESS"));
    assert_eq!(after.len() - before, 6, "a room, a floor and a building in two windows");
    let d3 = client.create("d3", ("2024-11-01T00:00:00Z", "2024-12-01T00:00:00Z"), &json!({}));
    assert_eq!(client.rows(&d3, None), rows(&[("2024-11-15T08:00:00", 1)]));
    assert_eq!(client.runs().len(), after.len(), "no new run");

    let empty = client.create("other", OCTOBER, &json!({"root_space_id": 20}));
    assert_eq!((&empty["status"], &empty["row_count"]), (&json!("COMPLETED"), &json!(0)));
    let nothing = client.create("nothing", ("", ""), &json!({"root_space_id": 20}));
    assert_eq!((&nothing["status"], &nothing["row_count"]), (&json!("COMPLETED"), &json!(0)));
    let whole = client.create("whole", ("", ""), &json!({}));
    assert_eq!((&whole["start_time"], &whole["end_time"]), (&json!("2024-09-20T10:00:00Z"), &json!("2024-12-14T09:30:00Z")));
    assert_eq!(client.rows(&whole, None).len(), 5);
    http.post_json("/occupancy/datasets", &json!({"name": "d", "root_space_id": 999})).expect_status(404);

    // A width that is not kept is counted from the sessions.
    let halves = client.create("halves", OCTOBER, &json!({"interval_seconds": 1800}));
    let expected = [("2024-10-05T09:00:00", 2), ("2024-10-05T09:30:00", 3), ("2024-10-05T10:00:00", 2), ("2024-10-05T10:30:00", 1)];
    assert_eq!(client.rows(&halves, None), rows(&expected));
}

#[test]
fn what_is_corrected_is_corrected_in_completed_chunks() {
    let site = Site::folder();
    let (client, http) = (site.client(), &site.server.http);
    let d1 = client.create("d1", OCTOBER, &json!({}));
    let winter = client.create("winter", WINTER, &json!({}));
    assert_eq!((client.rows(&d1, None), client.rows(&winter, None)), (hours(3, 2), rows(&[("2024-12-14T09:00:00", 1)])));
    let runs = client.runs().len();

    // One more device in an hour that is over.
    site.send(&[(1001, "new", "2024-10-05 09:20", "2024-10-05 09:40")]);
    client.wait_rows(&d1, Some(1001), &[("2024-10-05T09:00:00", 2)]);
    client.wait_rows(&d1, None, &[("2024-10-05T09:00:00", 4), ("2024-10-05T10:00:00", 2)]);
    let object = site.objects.bins("occupancy/spaces/1001/3600/chunk_20240914T000000_20241014T000000.parquet");
    assert_eq!(object, [(time("2024-10-05T09:00:00Z"), 2)], "the object says the same");
    // It turns out to have stayed until ten past ten.
    site.send(&[(1001, "new", "2024-10-05 09:20", "2024-10-05 10:10")]);
    client.wait_rows(&d1, Some(1001), &[("2024-10-05T09:00:00", 2), ("2024-10-05T10:00:00", 1)]);
    client.wait_rows(&d1, None, &[("2024-10-05T09:00:00", 4), ("2024-10-05T10:00:00", 3)]);

    // A room has its first session in a window that is completed.
    site.send(&[LATE_SESSION]);
    let both = [("2024-12-14T09:00:00", 1), ("2024-12-20T08:00:00", 1)];
    client.wait_rows(&winter, None, &both);
    client.wait_rows(&winter, Some(1010), &both[1..]);
    client.wait_rows(&winter, Some(101), &both[1..]);
    assert_eq!(client.get(&winter)["status"], "COMPLETED");
    crate::support::wait::eventually_true("the number of rows", crate::support::wait::DEADLINE, || client.get(&winter)["row_count"] == 2);

    // The room moves to the other building, and takes its history along.
    let other = client.create("other", OCTOBER, &json!({"root_space_id": 20}));
    assert_eq!(other["row_count"], 0);
    put_spaces(http, &[json!({"space_id": 1001, "space_name": "Room 1001", "parent_space_id": 20})]);
    client.wait_rows(&d1, None, &[("2024-10-05T09:00:00", 2), ("2024-10-05T10:00:00", 2)]);
    client.wait_rows(&other, None, &[("2024-10-05T09:00:00", 2), ("2024-10-05T10:00:00", 1)]);
    client.wait_rows(&other, Some(1001), &[("2024-10-05T09:00:00", 2), ("2024-10-05T10:00:00", 1)]);
    http.get(&format!("/occupancy/datasets/{}/results?space_id=1001", d1["dataset_id"])).expect_status(400);

    // A device that is erased leaves what was counted of it.
    http.delete("/api/macs/bb").expect_status(202);
    client.wait_rows(&d1, Some(1000), &[("2024-10-05T09:00:00", 1), ("2024-10-05T10:00:00", 1)]);
    client.wait_rows(&d1, None, &[("2024-10-05T09:00:00", 1), ("2024-10-05T10:00:00", 1)]);
    assert_eq!(client.runs().len(), runs, "corrections need no runs");
}

#[test]
fn a_dataset_never_shows_less_than_the_log_had_when_it_was_asked_for() {
    let site = Site::new(Objects::folder(&std::env::temp_dir().join(unique("objects"))), "1h");
    let client = site.client();
    let halves = json!({"interval_seconds": 1800});
    let e1 = client.create("e1", ("2024-12-13T00:00:00Z", "2024-12-16T00:00:00Z"), &halves);
    assert_eq!(client.rows(&e1, None), rows(&[("2024-12-14T09:00:00", 1)]));
    for round in 0..10 {
        let mac = format!("m{round}");
        site.send(&[(1010, &mac, "2024-12-20 08:00", "2024-12-20 08:30")]);
        let e2 = client.create("e2", WINTER, &halves);
        assert_eq!(client.rows(&e2, None), rows(&[("2024-12-14T09:00:00", 1), ("2024-12-20T08:00:00", round + 1)]));
        assert_eq!(client.rows(&e2, Some(101)), rows(&[("2024-12-20T08:00:00", round + 1)]));
    }
}

#[test]
fn what_changed_before_a_crash_is_right_after_it() {
    let mut site = Site::folder();
    let dataset = site.client().create("d", OCTOBER, &json!({}));
    assert_eq!(site.client().rows(&dataset, None), hours(3, 2));
    let late = site.client().create("late", WINTER, &json!({}));
    assert_eq!(site.client().rows(&late, None).len(), 1);
    site.send(&[(1001, "new", "2024-10-05 09:20", "2024-10-05 09:40"), LATE_SESSION]);
    site.server.crash();
    site.client().wait_rows(&dataset, None, &[("2024-10-05T09:00:00", 4), ("2024-10-05T10:00:00", 2)]);
    site.client().wait_rows(&late, None, &[("2024-12-14T09:00:00", 1), ("2024-12-20T08:00:00", 1)]);
    site.client().wait_rows(&late, Some(1010), &[("2024-12-20T08:00:00", 1)]);
}
