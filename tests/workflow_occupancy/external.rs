//! Datasets of an external database: a batch, counted once.

use crate::campus::{LATE_SESSION, Objects, Tables, time};
use crate::client::{Client, rows};
use crate::support::server::Server;
use crate::support::services;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// A server between a database and an object store of the test's own.
struct Site {
    tables: Tables,
    objects: Objects,
    server: Server,
}

impl Site {
    fn new() -> Option<Self> {
        let (tables, objects) = (Tables::new()?, Objects::s3()?);
        let server = Server::new().config(objects.config("1h")).env("TIPPERS_DB_URL", tables.url_by_way_of(None)).start();
        Some(Self { tables, objects, server })
    }

    fn client(&self) -> Client<'_> {
        Client(&self.server.http)
    }
}

const OCTOBER: (&str, &str) = ("2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z");

fn names(spaces: &Value) -> Vec<i64> {
    spaces.as_array().unwrap().iter().map(|space| space["space_id"].as_i64().unwrap()).collect()
}

#[test]
fn spaces_are_browsed_by_name_and_by_level() {
    let Some(site) = Site::new() else { return };
    let http = &site.server.http;
    assert_eq!(names(&http.get_json("/spaces?search=ENG")), [10, 100, 101, 1000, 1001, 1010]);
    assert_eq!(names(&http.get_json("/spaces?search=eng&skip=1&limit=2")), [100, 101]);
    assert_eq!(names(&http.get_json("/spaces/10/children")), [100, 101]);
    assert_eq!(names(&http.get_json("/spaces/10/subtree")), [10, 100, 101, 1000, 1001, 1010]);
    assert_eq!(names(&http.get_json("/spaces/roots")), [1, 20]);
    let room = http.get_json("/spaces/1000");
    let expected =
        json!({"space_id": 1000, "space_name": "Engineering Hall - Room 1000", "parent_space_id": 100, "building_room": "EH-1000"});
    assert_eq!(room, expected);
    assert_eq!(http.get("/spaces/999").expect_status(404).json()["code"], "not_found");
    for nobody in ["/spaces?search=nobody", "/spaces?search=%25", "/spaces?search=_", "/spaces/999/children", "/spaces/999/subtree"] {
        assert_eq!(http.get_json(nobody), json!([]), "{nobody}");
    }
    // Spaces without a name are found by no name, and come last; links that go round end the walk.
    site.tables.put_space(5, None, Some(6));
    site.tables.put_space(6, Some("Engine room"), Some(5));
    assert_eq!(names(&http.get_json("/spaces")), [1, 6, 10, 100, 101, 1000, 1001, 1010, 20, 5]);
    assert_eq!(names(&http.get_json("/spaces/6/subtree")), [6, 5]);
    let body = json!({"name": "round", "root_space_id": 5});
    let error = http.post_json("/occupancy/datasets", &body).expect_status(400).json();
    assert!(error["errors"][0]["field"] == "root_space_id" && error["detail"].as_str().unwrap().contains("cycle"), "{error}");
}

#[test]
fn a_building_is_counted_by_room_and_added_up_and_what_is_counted_is_reused() {
    let Some(site) = Site::new() else { return };
    let client = site.client();
    let d1 = client.create("d1", OCTOBER, &json!({"description": "Autumn"}));
    let asked = json!({"dataset_id": 1, "name": "d1", "description": "Autumn", "root_space_id": 10, "start_time": OCTOBER.0,
        "end_time": OCTOBER.1, "interval_seconds": 3600, "chunk_days": 30, "status": "RUNNING", "dagster_run_id": null,
        "storage_path": null, "row_count": null, "column_stats": null, "error_message": null, "completed_at": null});
    for (field, value) in asked.as_object().unwrap() {
        assert_eq!(&d1[field], value, "{field}");
    }
    let done = client.wait(&d1, Some(1000), "COMPLETED");
    assert_eq!((&done["completed_chunks"], &done["total_chunks"]), (&json!(2), &json!(2)));
    let hours = |nine: i64, ten: i64| rows(&[("2024-10-05T09:00:00", nine), ("2024-10-05T10:00:00", ten)]);
    assert_eq!(client.rows(&d1, Some(1000)), hours(2, 2), "not the row of September, which lies in the same window");
    assert_eq!(client.rows(&d1, Some(1001)), rows(&[("2024-10-05T09:00:00", 1)]), "who leaves at ten is not there after ten");
    assert_eq!(client.rows(&d1, Some(100)), hours(3, 2));
    assert_eq!(client.rows(&d1, None), hours(3, 2), "a sum over rooms");
    let empty = client.wait(&d1, Some(101), "COMPLETED");
    assert_eq!((&empty["row_count"], &empty["rows"], &empty["total_chunks"]), (&json!(0), &json!([]), &json!(2)));
    let whole = client.get(&d1);
    assert_eq!((&whole["status"], &whole["row_count"]), (&json!("COMPLETED"), &json!(2)));
    assert_eq!(whole["storage_path"], format!("{}/occupancy/spaces/10/3600/", site.objects.url));
    assert_eq!(whole["column_stats"]["number_connections"]["max"], 3);

    let object = |space: i32| format!("occupancy/spaces/{space}/3600/chunk_20240914T000000_20241014T000000.parquet");
    assert_eq!(site.objects.names(), [object(10), object(100), object(1000), object(1001)]);
    let hour = |text: &str| time(text);
    let room = [(hour("2024-09-20T10:00:00Z"), 1), (hour("2024-10-05T09:00:00Z"), 2), (hour("2024-10-05T10:00:00Z"), 2)];
    assert_eq!(site.objects.bins(&object(1000)), room, "no bins without devices");
    read_by_others(&site.objects, &room);

    // Windows that are there already are not counted again.
    let before = client.runs();
    assert_eq!(before.len(), 4);
    site.tables.add(&[LATE_SESSION]);
    let d2 = client.create("d2", ("2024-10-01T00:00:00Z", "2025-01-01T00:00:00Z"), &json!({}));
    let all = client.rows(&d2, None);
    let late = [("2024-11-15T08:00:00", 1), ("2024-12-14T09:00:00", 1), ("2024-12-20T08:00:00", 1)];
    assert_eq!(all, [hours(3, 2), rows(&late)].concat());
    let new: Vec<Value> = client.runs().into_iter().skip(before.len()).collect();
    let jobs = |name: &str| new.iter().filter(|run| run["job_name"] == name).count();
    assert_eq!((jobs("materialize_source_chunk_job"), jobs("materialize_derived_chunk_job")), (3, 5), "{new:?}");
    assert!(new.iter().all(|run| run["status"] == "SUCCESS"));
    let d3 = client.create("d3", ("2024-11-01T00:00:00Z", "2024-12-01T00:00:00Z"), &json!({}));
    assert_eq!((&d3["status"], &d3["row_count"]), (&json!("COMPLETED"), &json!(1)), "known at once");
    assert_eq!(client.rows(&d3, None), rows(&late[..1]));
    assert_eq!(client.runs().len(), before.len() + new.len(), "no new run");

    // Deleting a dataset leaves its chunks to others; its number is not given again, not even after a restart.
    let listed: Vec<i64> =
        site.server.http.get_json("/occupancy/datasets").as_array().unwrap().iter().map(|d| d["dataset_id"].as_i64().unwrap()).collect();
    assert_eq!(listed, [3, 2, 1], "the newest first");
    client.delete(&d1);
    client.delete(&d3);
    site.server.http.get("/occupancy/datasets/1").expect_status(404);
    site.server.http.delete("/occupancy/datasets/1").expect_status(404);
    let mut site = site;
    site.server.crash();
    let client = site.client();
    assert_eq!(client.rows(&d2, Some(1000)).len(), 4);
    assert_eq!(site.objects.names().len(), 12);
    assert_eq!(client.create("d4", OCTOBER, &json!({}))["dataset_id"], 4);
}

/// DuckDB and pandas read the object of the room as it is meant.
fn read_by_others(objects: &Objects, room: &[(i64, i64)]) {
    if !services::required() {
        return services::note_skipped("duckdb and pandas");
    }
    let folder = tempfile::tempdir().unwrap();
    objects.copy(1000, &folder.path().join("room"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pydata");
    let output = Command::new(script).arg(folder.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = |time: &str, number: &str| json!({"columns": {"interval_begin_time": time, "number_connections": number}, "rows": room});
    assert_eq!(read["duckdb"]["room"], expected("TIMESTAMP", "BIGINT"));
    assert_eq!(read["pandas"]["room"], expected("datetime64[us]", "int64"));
}

#[test]
fn a_building_never_lacks_a_room_because_of_who_asked_first() {
    let Some(site) = Site::new() else { return };
    let client = site.client();
    let halves = json!({"interval_seconds": 1800});
    let e1 = client.create("e1", ("2024-12-13T00:00:00Z", "2024-12-16T00:00:00Z"), &halves);
    assert_eq!(client.rows(&e1, None), rows(&[("2024-12-14T09:00:00", 1)]));
    let campus =
        client.create("campus", ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z"), &json!({"interval_seconds": 1800, "root_space_id": 1}));
    assert_eq!(client.rows(&campus, None), rows(&[("2024-12-14T09:00:00", 1)]));
    site.tables.add(&[LATE_SESSION]);
    let e2 = client.create("e2", ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z"), &halves);
    let both = [("2024-12-14T09:00:00", 1), ("2024-12-20T08:00:00", 1)];
    assert_eq!(client.rows(&e2, None), rows(&both));
    assert_eq!(client.rows(&e2, Some(101)), rows(&both[1..]));
    client.wait_rows(&campus, None, &both);
    assert_eq!(client.rows(&e1, None), rows(&both[..1]), "nothing outside of what was asked for");

    // A space that has sessions of its own and rooms with some has both.
    site.tables.add(&[(100, "zz", "2024-12-14 09:10", "2024-12-14 09:20")]);
    let e3 = client.create("e3", ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z"), &halves);
    client.wait_rows(&e3, Some(100), &[("2024-12-14T09:00:00", 2)]);
    client.wait_rows(&e3, None, &[("2024-12-14T09:00:00", 2), both[1]]);

    // What is completed is not counted again, unless it is forced.
    site.tables.add(&[(1000, "yy", "2024-12-14 09:00", "2024-12-14 09:20")]);
    let e4 = client.create("e4", ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z"), &halves);
    assert_eq!((&e4["status"], client.rows(&e4, Some(1000))), (&json!("COMPLETED"), rows(&both[..1])));
    let e5 =
        client.create("e5", ("2024-12-13T00:00:00Z", "2025-01-01T00:00:00Z"), &json!({"interval_seconds": 1800, "force_overwrite": true}));
    client.wait_rows(&e5, Some(1000), &[("2024-12-14T09:00:00", 2)]);
    client.wait_rows(&e5, None, &[("2024-12-14T09:00:00", 3), both[1]]);
    client.wait_rows(&campus, None, &[("2024-12-14T09:00:00", 3), both[1]]);
}

#[test]
fn mistakes_are_refused_and_what_is_empty_is_complete() {
    let Some(site) = Site::new() else { return };
    let (client, http) = (site.client(), &site.server.http);
    let refused = |body: Value, status: u16| http.post_json("/occupancy/datasets", &body).expect_status(status).json();
    let error = refused(json!({"name": "d", "root_space_id": 10, "interval_seconds": 60}), 400);
    assert_eq!(error["errors"][0]["detail"], "must be one of 900, 1800, 3600, 7200, 14400, 28800, 86400");
    let error = refused(json!({"name": "d", "root_space_id": 10, "start_time": OCTOBER.1, "end_time": OCTOBER.0}), 400);
    assert_eq!(error["errors"][0]["field"], "end_time");
    refused(json!({"name": "d", "root_space_id": 10, "start_time": OCTOBER.0, "end_time": OCTOBER.0}), 400);
    refused(json!({"name": "d", "root_space_id": 999}), 404);
    refused(json!({"root_space_id": 10, "chunk_days": 0}), 400);
    let many =
        refused(json!({"name": "d", "root_space_id": 10, "start_time": "1970-01-01", "end_time": "2199-01-01", "chunk_days": 1}), 201);
    client.delete(&many);
    assert_eq!(http.get("/occupancy/datasets/99/results").expect_status(404).json()["code"], "not_found");

    let empty = client.create("other", OCTOBER, &json!({"root_space_id": 20}));
    assert_eq!((&empty["status"], &empty["row_count"]), (&json!("COMPLETED"), &json!(0)));
    assert_eq!(client.results(&empty, None)["rows"], json!([]));
    let nothing = client.create("nothing", ("", ""), &json!({"root_space_id": 20}));
    assert_eq!((&nothing["status"], &nothing["row_count"]), (&json!("COMPLETED"), &json!(0)));
    assert_eq!(nothing["start_time"], nothing["created_at"]);

    let whole = client.create("whole", ("", ""), &json!({}));
    assert_eq!((&whole["start_time"], &whole["end_time"]), (&json!("2024-09-20T10:00:00Z"), &json!("2024-12-14T09:30:00Z")));
    let all = client.rows(&whole, None);
    assert_eq!((all.len(), all.last().unwrap().0.as_str()), (5, "2024-12-14T09:00:00"), "the last bin is there");
    let error = http.get(&format!("/occupancy/datasets/{}/results?space_id=20", whole["dataset_id"])).expect_status(400).json();
    assert_eq!(error["errors"][0]["field"], "space_id");
    // The same name again is another dataset.
    assert_ne!(client.create("whole", OCTOBER, &json!({}))["dataset_id"], whole["dataset_id"]);
}

#[test]
fn six_hundred_bins_are_shown_five_hundred_at_a_time() {
    let Some(site) = Site::new() else { return };
    let client = site.client();
    site.tables.add(&[(1001, "long", "2023-03-01 00:00", "2023-03-26 00:00"), (1001, "open", "2023-03-02 00:00", "infinity")]);
    site.tables.run(&format!("UPDATE {}.user_ap_trajectory SET end_time = NULL WHERE mac_address = 'open'", site.tables.schema));
    let dataset = client.create("long", ("2023-03-01T00:30:00Z", "2023-03-25T23:30:00Z"), &json!({"root_space_id": 1001, "chunk_days": 7}));
    let results = client.wait(&dataset, None, "COMPLETED");
    let rows = crate::client::rows_of(&results);
    assert_eq!((rows.len(), &results["row_count"], &results["total_rows"]), (500, &json!(500), &json!(600)));
    assert!(rows.is_sorted() && rows.iter().all(|(_, number)| *number == 1), "an open session does not count");
    assert_eq!(rows[0].0, "2023-03-01T00:00:00", "a bin that the range cuts belongs to it");
    assert_eq!(client.get(&dataset)["row_count"], 600);
    assert_eq!(results["total_chunks"], 5);
}

#[test]
fn what_fails_is_told_and_can_be_tried_again() {
    let Some(site) = Site::new() else { return };
    let (client, schema) = (site.client(), &site.tables.schema);
    site.tables.run(&format!("ALTER TABLE {schema}.user_ap_trajectory RENAME COLUMN mac_address TO address"));
    let dataset = client.create("f", OCTOBER, &json!({}));
    let failed = client.wait(&dataset, None, "FAILED");
    let text = failed["error"].as_str().unwrap();
    assert!(text.starts_with("Source chunk SQL failed: column") && text.contains("mac_address"), "{text}");
    assert_eq!((&failed["completed_chunks"], &failed["total_chunks"]), (&json!(1), &json!(2)), "an empty window needs no work");
    assert_eq!(client.get(&dataset)["status"], "FAILED");
    assert_eq!(client.get(&dataset)["error_message"], failed["error"]);
    assert!(client.runs().iter().any(|run| run["status"] == "FAILURE" && run["error_message"] == failed["error"]));
    crate::support::wait::eventually_true("both rooms to fail", crate::support::wait::DEADLINE, || {
        client.runs().iter().filter(|run| run["status"] == "FAILURE").count() == 2
    });
    site.tables.run(&format!("ALTER TABLE {schema}.user_ap_trajectory RENAME COLUMN address TO mac_address"));
    assert_eq!(client.retry(&dataset), json!({"reset": 2, "resubmitted": 2}));
    assert_eq!(client.rows(&dataset, None).len(), 2);
    assert_eq!(client.get(&dataset)["status"], "COMPLETED");
    assert_eq!(client.retry(&dataset), json!({"reset": 0, "resubmitted": 0}));

    // The whole table is gone: it is not even known what to count.
    site.tables.run(&format!("DROP TABLE {schema}.user_ap_trajectory"));
    let dataset = client.create("g", OCTOBER, &json!({"interval_seconds": 900}));
    let failed = client.wait(&dataset, None, "FAILED");
    assert!(failed["error"].as_str().unwrap().contains("relation \"user_ap_trajectory\" does not exist"), "{failed}");
    assert_eq!(failed["total_chunks"], 2);
    site.tables.make_sessions("user_ap_trajectory");
    site.tables.add(&crate::campus::SESSIONS);
    assert_eq!(client.retry(&dataset)["resubmitted"], 1);
    assert_eq!(client.rows(&dataset, Some(1001)).len(), 4);
    let reply = site.server.http.send(Method::DELETE, "/occupancy/datasets/7", &[], Vec::new());
    assert_eq!(reply.status, 404);
}
