//! Two servers on one log: on one machine the second is refused, on an object store it takes over and the first stops writing.

use std::collections::BTreeMap;
use std::time::Duration;

use desireline::generate::random::Random;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::command::desireline;
use crate::support::http::Http;
use crate::support::model::{Model, Observed, Rule, counter};
use crate::support::server::Server;
use crate::support::services;
use crate::support::wait::{DEADLINE, Stop, eventually};
use crate::{body, clicks, ingest};

#[test]
fn a_second_server_on_a_local_folder_is_refused_and_the_first_goes_on() {
    let mut first = Server::new().start();
    ingest(&first.http, 1, &clicks("first", 10)).expect_status(200);
    let epoch = first.http.get_json("/api/status")["log"]["epoch"].clone();
    let mut second = Server::new().data(first.data()).build();
    second.spawn();
    let status = second.wait_exit();
    assert_eq!(status.code(), Some(5), "{}", second.logs());
    let said = second.logs();
    assert!(said.contains("another server") && said.contains(&first.pid().to_string()) && said.contains("--data"), "{said}");
    // The same for a command that would need the log for itself.
    let data = first.data().display().to_string();
    let reset = ["log", "reset", "--source-id", "1", "--partition", "kafka:t/0", "--position", "0", "--data", &data];
    let ended = desireline(first.folder(), &reset).expect_code(5);
    assert!(ended.stderr.contains("another server"), "{}", ended.stderr);

    ingest(&first.http, 1, &clicks("later", 10)).expect_status(200);
    let status = first.http.get_json("/api/status");
    assert_eq!((counter(&status, 1, "applied"), &status["log"]["epoch"]), (20, &epoch));
    // The lock dies with its process.
    first.kill();
    second.start_again();
    assert_eq!(counter(&second.http.get_json("/api/status"), 1, "applied"), 20);
}

fn on_s3(s3: &services::S3, prefix: &str) -> String {
    let options = BTreeMap::from([
        ("aws_endpoint", s3.endpoint.as_str()),
        ("aws_access_key_id", &s3.access_key),
        ("aws_secret_access_key", &s3.secret_key),
        ("aws_region", "us-east-1"),
        ("aws_allow_http", "true"),
    ]);
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    format!(
        "[data]\nstore_url = \"s3://{}/{prefix}\"\nstore_options = {{ {} }}\n[engine]\ntick_every = \"500ms\"\n",
        s3.bucket,
        options.join(", ")
    )
}

#[test]
fn a_zombie_on_an_object_store_is_fenced_and_never_writes_again() {
    let Some(s3) = services::s3() else { return };
    let prefix = format!("zombie-{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    let config = on_s3(&s3, &prefix);
    let first = Server::new().config(&config).remote().start();
    let mut model = Model::new(Rule::FromFirst);
    let (before, after, lost) = (clicks("before", 20), clicks("after", 20), clicks("lost", 5));
    ingest(&first.http, 1, &before).expect_status(200);

    // The first one stops as if its machine were suspended, with a request in its hands; the second takes over.
    first.signal("STOP");
    let mut second = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let events: Vec<Value> = lost.iter().map(|(id, click)| body(1, id, click)).collect();
            let body = json!({ "events": events }).to_string().into_bytes();
            first.http.try_send(Method::POST, "/api/ingest-batch", &[("content-type", "application/json")], body)
        });
        let second = Server::new().config(&config).remote().start();
        ingest(&second.http, 1, &after).expect_status(200);
        first.signal("CONT");
        let refused = waiting.join().expect("the thread ends").expect("the zombie answers");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("taken over by another server"), "{}", refused.text());
        assert!(!refused.header("retry-after").is_empty());
        second
    });
    before.into_iter().chain(after).for_each(|(id, click)| assert!(model.add(id, click)));

    // From now on the first one only answers queries, says so, and writes nothing more.
    eventually("the zombie to know", DEADLINE, || {
        let log = first.http.get_json("/api/status")["log"].clone();
        if log["writable"] == false { Ok(()) } else { Err(log) }
    });
    let log = first.http.get_json("/api/status")["log"].clone();
    assert!(log["error"].as_str().is_some_and(|text| text.contains("restart this server")), "{log}");
    first.http.get("/ready").expect_status(503);
    ingest(&first.http, 1, &lost).expect_status(503);
    first.http.delete("/api/events/1/before-0").expect_status(503);
    assert_eq!(first.http.get("/api/sessions?source_id=1").expect_status(200).json()["sessions"].as_array().map(Vec::len), Some(5));

    Observed::of(&second.http, 1).must_equal(&model, "the second server");
    assert!(second.stop().success());
    // The zombie is still running: the log must be as the second one has left it.
    second.start_again();
    Observed::of(&second.http, 1).must_equal(&model, "the second server, started again");
    assert_eq!(counter(&second.http.get_json("/api/status"), 1, "received"), 40);
    assert!(second.stop().success());
    let file = second.folder().join("desireline.toml").display().to_string();
    let verified = desireline(second.folder(), &["log", "verify", "--config", &file]).expect_code(0);
    assert!(verified.stdout.contains("40 events"), "{}", verified.stdout);
}

#[test]
fn a_server_on_an_object_store_that_is_killed_loses_nothing_that_it_acknowledged() {
    let Some(s3) = services::s3() else { return };
    let prefix = format!("killed-{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    let config =
        format!("{}commit_age_max = \"20ms\"\n[log]\ncompaction_every = \"300ms\"\ncompaction_segments_min = 8\n", on_s3(&s3, &prefix));
    let mut server = Server::new().config(config).remote().start();
    let mut model = Model::new(Rule::FromFirst);
    let seed = chrono::Utc::now().timestamp_millis() as u64;
    println!("seed {seed}");
    let mut random = Random::new(seed, 1);
    for round in 0..8 {
        let kill_at = random.below(12);
        for batch in 0..12 {
            let rows = clicks(&format!("b{round}-{batch}"), 10);
            if batch == kill_at {
                // Killed with the request in its hands: it is sent again to the next server, under the same ids.
                std::thread::scope(|scope| {
                    let http = Http::new(server.base());
                    let rows = &rows;
                    let sending = scope.spawn(move || {
                        let events: Vec<Value> = rows.iter().map(|(id, click)| body(1, id, click)).collect();
                        let body = json!({ "events": events }).to_string().into_bytes();
                        http.try_send(Method::POST, "/api/ingest-batch", &[("content-type", "application/json")], body)
                            .map(|reply| reply.status)
                    });
                    Stop::default().stopped_within(Duration::from_millis(random.below(60)));
                    server.kill();
                    let answered = sending.join().expect("the thread ends");
                    assert!(answered.is_err() || answered.is_ok_and(|status| status == 200));
                });
                server.start_again();
            }
            ingest(&server.http, 1, &rows).expect_status(200);
            rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
        }
        Observed::of(&server.http, 1).must_equal(&model, &format!("round {round}"));
    }
    assert_eq!(counter(&server.http.get_json("/api/status"), 1, "applied"), model.len());
    assert!(server.stop().success());
    let file = server.folder().join("desireline.toml").display().to_string();
    desireline(server.folder(), &["log", "verify", "--config", &file]).expect_code(0);
    desireline(server.folder(), &["verify", "--config", &file]).expect_code(0);
}
