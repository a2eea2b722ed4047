//! Restarts and crashes in the middle: nothing is lost, nothing stays half done, and the key of the passwords may change between two starts.

use crate::client::Client;
use crate::database::{Database, Kind, unique};
use crate::external::{connect, holding};
use crate::live::send;
use crate::steps::{self, Dialect};
use crate::support::command;
use crate::support::server::Server;
use serde_json::{Value, json};

/// All records of the concept, and the connections.
fn everything(client: Client<'_>) -> Value {
    let parts = ["values", "indexes", "rules", "features", "labeling-functions", "snorkel/jobs", "classifiers/jobs", "catalog/stats"];
    let mut all = json!({"connections": client.get("/database-connections"), "concepts": client.get("/concepts")});
    parts.iter().for_each(|part| all[part] = client.get(&format!("/concepts/1/{part}")));
    all
}

#[test]
fn a_crash_between_any_two_steps_changes_nothing() {
    let mut server = Server::new().start();
    send(&server.http);
    let dialect = Dialect::Standard;
    steps::concept(Client(&server.http));
    let crash = |server: &mut Server| {
        let before = everything(Client(&server.http));
        server.crash();
        assert_eq!(everything(Client(&server.http)), before);
    };
    crash(&mut server);
    steps::indexes(Client(&server.http), dialect, 0, None);
    crash(&mut server);
    steps::rules(Client(&server.http), dialect, None);
    steps::functions(Client(&server.http));
    crash(&mut server);
    steps::first_label_model(Client(&server.http), None);
    steps::more_functions(Client(&server.http));
    crash(&mut server);
    let job = steps::label_model(Client(&server.http));
    let results = Client(&server.http).get(&format!("/concepts/1/snorkel/jobs/{job}/results"));
    crash(&mut server);
    assert_eq!(Client(&server.http).get(&format!("/concepts/1/snorkel/jobs/{job}/results")), results);
    steps::features(Client(&server.http), dialect, job);
    server.stop();
    server.start_again();
    steps::classifiers(Client(&server.http), job);
    crash(&mut server);
}

#[test]
fn a_crash_while_something_runs_leaves_nothing_running_for_ever() {
    let mut server = Server::new().start();
    send(&server.http);
    let dialect = Dialect::Standard;
    steps::concept(Client(&server.http));
    steps::indexes(Client(&server.http), dialect, 0, None);
    for round in 0..4 {
        // Crashes as soon as the run is accepted: it is anywhere between waiting and done.
        let started = Client(&server.http).post("/concepts/1/indexes/1/materialize", &Value::Null);
        server.crash();
        let client = Client(&server.http);
        let run = client.run(&started["dagster_run_id"], "SUCCESS");
        assert_eq!(client.get("/concepts/1/indexes/1")["is_materialized"], true, "round {round}: {run}");
    }
    steps::rules(Client(&server.http), dialect, None);
    steps::functions(Client(&server.http));
    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {}});
    let job = Client(&server.http).make("/concepts/1/snorkel/run", &run);
    server.crash();
    let client = Client(&server.http);
    let done = client.job(&format!("/concepts/1/snorkel/jobs/{}", job["job_id"]));
    let told = done["status"] == "COMPLETED" || (done["status"] == "FAILED" && done["error_message"].is_string());
    assert!(told && done["completed_at"].is_string(), "{done}");
}

#[test]
fn the_key_of_the_passwords_is_changed_and_a_lost_one_is_missed() {
    let Some(database) = Database::new(Kind::Postgres) else { return };
    let mut server = Server::new().start();
    connect(Client(&server.http), &server, &database);
    let secret = unique("another");
    Client(&server.http).make("/database-connections", &database.connection("second", &secret));
    let key = server.data().join("concepts.key");
    let before = std::fs::read_to_string(&key).unwrap();
    server.stop();

    let data = server.data().display().to_string();
    let rotated = command::desireline(server.folder(), &["connections", "rotate-key", "--data", &data]).expect_code(0);
    assert!(rotated.stdout.trim().len() == 16 && rotated.stderr.contains("2 passwords"), "{rotated:?}");
    let after = std::fs::read_to_string(&key).unwrap();
    assert!(after != before && after.lines().count() == 1);
    server.start_again();
    let client = Client(&server.http);
    let works = json!({"status": "success", "message": "Connection successful"});
    [1, 2].iter().for_each(|id| assert_eq!(client.post(&format!("/database-connections/{id}/test"), &Value::Null), works));

    server.stop();
    std::fs::remove_file(&key).unwrap();
    server.start_again();
    let client = Client(&server.http);
    let failed = client.post("/database-connections/2/test", &Value::Null);
    assert!(failed["status"] == "failed" && failed["message"].as_str().unwrap().contains("concepts.key"), "{failed}");
    let detail = client.refused(503, reqwest::Method::POST, "/database-connections", &database.connection("third", "x"));
    assert!(detail.contains("concepts.key") && !key.exists(), "{detail}");
    assert!(server.logs().contains("a connection cannot be used"), "{}", server.logs());
    assert_eq!(holding(server.folder(), &secret), Vec::<String>::new());
}
