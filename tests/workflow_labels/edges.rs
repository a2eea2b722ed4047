//! What the workflow does at its edges: numbers that are not 1, 2, 3, votes that disagree, jobs that are cancelled, labels that nobody is sure of.

use crate::client::Client;
use crate::database::{Database, Kind};
use crate::live::send;
use crate::steps::{self, Dialect, STATIC_CODE};
use crate::support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

/// A server with the sessions of the devices, concept 1 with index 1 and rule 1, and the classes.
fn furnished() -> Server {
    let server = Server::new().start();
    send(&server.http);
    steps::concept(Client(&server.http));
    steps::indexes(Client(&server.http), Dialect::Standard, 0, None);
    steps::rules(Client(&server.http), Dialect::Standard, None);
    server
}

#[test]
fn names_of_classes_are_their_numbers_whatever_the_code_says() {
    let server = Server::new().start();
    let client = Client(&server.http);
    send(&server.http);
    client.make("/concepts", &json!({"name": "before"}));
    (0..10).for_each(|n| drop(client.make("/concepts/1/values", &json!({"name": format!("V{n}")}))));
    client.make("/concepts", &json!({"name": "device_classification"}));
    for (number, name) in ["STATIC", "LAPTOP", "PHONE"].iter().enumerate() {
        assert_eq!(client.make("/concepts/2/values", &json!({"name": name}))["cv_id"], number + 11);
    }
    client.make("/concepts/2/indexes", &json!({"name": "i", "conn_id": 0, "sql_query": steps::INDEX}));
    client.materialize("/concepts/2/indexes/1");
    client.make("/concepts/2/rules", &json!({"name": "r", "index_id": 1, "sql_query": Dialect::Standard.rule()}));
    client.materialize("/concepts/2/rules/1");
    client.make(
        "/concepts/2/labeling-functions",
        &json!({"name": "f", "rule_id": 1, "applicable_cv_ids": [11, 12, 13], "code": STATIC_CODE}),
    );
    client.post("/concepts/2/labeling-functions/1/approve", &Value::Null);
    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {"output_type": "hard_labels"}});
    client.make("/concepts/2/snorkel/run", &run);
    assert_eq!(client.job("/concepts/2/snorkel/jobs/1")["status"], "COMPLETED");
    let results = client.get("/concepts/2/snorkel/jobs/1/results");
    assert_eq!(results["lf_summary"][0]["polarity"], json!([11]), "{}", results["lf_summary"]);
    let labels = results["predictions"]["labels"].as_array().unwrap();
    assert_eq!(labels.iter().filter(|label| **label == 11).count(), 100);
}

#[test]
fn votes_that_disagree_are_counted() {
    let Some(database) = Database::new(Kind::Postgres) else { return };
    database.run("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 10) AS n");
    let server = Server::new().start();
    let client = Client(&server.http);
    client.make("/database-connections", &database.connection("db", "x"));
    client.make("/concepts", &json!({"name": "c"}));
    ["STATIC", "LAPTOP", "PHONE"].iter().for_each(|name| drop(client.make("/concepts/1/values", &json!({"name": name}))));
    client.make("/concepts/1/indexes", &json!({"name": "i", "conn_id": 1, "sql_query": "SELECT n FROM numbers ORDER BY n"}));
    client.materialize("/concepts/1/indexes/1");
    let rule = json!({"name": "r", "index_id": 1, "sql_query": "SELECT n, n AS value FROM numbers WHERE n IN (:index_values)"});
    client.make("/concepts/1/rules", &rule);
    client.materialize("/concepts/1/rules/1");
    for (name, class, low, high) in [("a", "STATIC", 1, 6), ("b", "LAPTOP", 5, 8), ("c", "PHONE", 9, 10)] {
        let code = format!("def labeling_function(row):\n    return {class} if {low} <= row['value'] <= {high} else ABSTAIN");
        let id =
            client
                .make("/concepts/1/labeling-functions", &json!({"name": name, "rule_id": 1, "applicable_cv_ids": [1, 2, 3], "code": code}))
                ["lf_id"]
                .clone();
        client.post(&format!("/concepts/1/labeling-functions/{id}/approve"), &Value::Null);
    }
    let (_, results) = steps::snorkel(client, &[1, 2, 3], &json!({}));
    let summary = results["lf_summary"].as_array().unwrap();
    for (lf, (coverage, overlaps, conflicts)) in summary.iter().zip([(0.6, 0.2, 0.2), (0.4, 0.2, 0.2), (0.2, 0.0, 0.0)]) {
        assert_eq!([&lf["coverage"], &lf["overlaps"], &lf["conflicts"]], [&json!(coverage), &json!(overlaps), &json!(conflicts)]);
    }
    let conflicts: Vec<Value> =
        (1..=3).map(|id| client.get(&format!("/concepts/1/labeling-functions/{id}/metrics"))["conflicts"].clone()).collect();
    assert_eq!(conflicts, [json!(2), json!(2), json!(0)]);
    assert_eq!(results["label_matrix_class_distribution"]["ABSTAIN"], 2, "rows 5 and 6 are ties");
}

#[test]
fn a_cancelled_job_stays_cancelled_and_a_finished_one_is_not_cancelled() {
    let Some(database) = Database::new(Kind::Postgres) else { return };
    let server = Server::new().config("[runs]\nconcurrency = 1\n").start();
    let client = Client(&server.http);
    send(&server.http);
    steps::concept(client);
    steps::indexes(client, Dialect::Standard, 0, None);
    steps::rules(client, Dialect::Standard, None);
    steps::functions(client);
    client.make("/database-connections", &database.connection("db", "x"));
    // Holds the only slot, so that the job is surely not done when it is cancelled.
    let slow = "SELECT count(*) AS n FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b";
    let index = client.make("/concepts/1/indexes", &json!({"name": "slow", "conn_id": 1, "sql_query": slow}))["index_id"].clone();
    let holding = client.post(&format!("/concepts/1/indexes/{index}/materialize"), &Value::Null)["dagster_run_id"].clone();
    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {}});
    let job = client.make("/concepts/1/snorkel/run", &run);
    let path = format!("/concepts/1/snorkel/jobs/{}", job["job_id"]);
    let early = client.get(&format!("{path}/results"));
    assert_eq!(early["message"], format!("Job is {}. Results not available yet.", early["status"].as_str().unwrap()));
    let refused = client.refused(400, Method::POST, "/concepts/1/classifiers/run", &steps::classifier_run(1, &json!({})));
    assert!(!refused.is_empty());
    let cancelled = client.post(&format!("{path}/cancel"), &Value::Null);
    assert!(cancelled["status"] == "CANCELLED" && cancelled["completed_at"].is_string(), "{cancelled}");
    client.run(&job["dagster_run_id"], "CANCELLED");
    client.post(&format!("/dagster/runs/{}/cancel", holding.as_str().unwrap()), &Value::Null);
    client.run(&holding, "CANCELLED");
    assert!(client.refused(400, Method::POST, &format!("{path}/cancel"), &Value::Null).contains("CANCELLED"));

    let (done, _) = steps::snorkel(client, &[1], &json!({}));
    let other = format!("/concepts/1/snorkel/jobs/{}", done["job_id"]);
    assert!(client.refused(400, Method::POST, &format!("{other}/cancel"), &Value::Null).contains("COMPLETED"));
    assert_eq!(client.get(&path), cancelled, "nothing came after it");
    client.delete(&other);
    client.refused(404, Method::GET, &other, &Value::Null);
}

#[test]
fn labels_that_nobody_is_sure_of_train_nothing_and_say_so() {
    let server = furnished();
    let client = Client(&server.http);
    let silent =
        json!({"name": "silent", "rule_id": 1, "applicable_cv_ids": [1, 2, 3], "code": "def labeling_function(row):\n    return ABSTAIN"});
    client.make("/concepts/1/labeling-functions", &silent);
    client.post("/concepts/1/labeling-functions/1/approve", &Value::Null);
    let (job, _) = steps::snorkel(client, &[1], &json!({}));
    let job = job["job_id"].as_u64().unwrap();
    steps::features(client, Dialect::Standard, job);
    let run = client.make("/concepts/1/classifiers/run", &steps::classifier_run(job, &json!({"threshold_method": "entropy"})));
    let done = client.job(&format!("/concepts/1/classifiers/jobs/{}", run["job_id"]));
    assert_eq!(done["status"], "FAILED", "{done}");
    assert!(done["error_message"].as_str().unwrap().contains('2'), "fewer than 2 samples remain: {done}");
    let results = client.get(&format!("/concepts/1/classifiers/jobs/{}/results", run["job_id"]));
    assert!(results["status"] == "FAILED" && results["message"].is_string(), "{results}");
}

#[test]
fn everything_of_another_concept_is_not_found() {
    let server = furnished();
    let client = Client(&server.http);
    steps::functions(client);
    steps::first_label_model(client, None);
    client.make("/concepts", &json!({"name": "other"}));
    for path in ["values/1", "indexes/1", "rules/1", "labeling-functions/1", "snorkel/jobs/1"] {
        client.get(&format!("/concepts/1/{path}"));
        for c_id in [2, 9] {
            client.refused(404, Method::GET, &format!("/concepts/{c_id}/{path}"), &Value::Null);
            client.refused(404, Method::DELETE, &format!("/concepts/{c_id}/{path}"), &Value::Null);
        }
    }
    for path in [
        "indexes/1/materialize",
        "rules/1/materialize",
        "labeling-functions/1/approve",
        "labeling-functions/1/toggle",
        "snorkel/jobs/1/cancel",
    ] {
        client.refused(404, Method::POST, &format!("/concepts/2/{path}"), &Value::Null);
    }
    for path in ["values", "indexes", "rules", "features", "labeling-functions", "snorkel/jobs", "classifiers/jobs", "catalog"] {
        client.refused(404, Method::GET, &format!("/concepts/9/{path}"), &Value::Null);
        client.get(&format!("/concepts/2/{path}"));
    }
    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {}});
    client.refused(404, Method::POST, "/concepts/2/snorkel/run", &run);
}
