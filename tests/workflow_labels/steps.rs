//! The steps of the workflow, from the first connection to the ranked classifiers, as they are the same for every source of data.

use crate::client::Client;
use crate::database::{Kind, Objects};
use crate::devices::{DEVICES, OF_2023, OF_KIND};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How a source wants its SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL, and the built-in tables, which understand the same.
    Standard,
    MySql,
}

impl From<Kind> for Dialect {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Postgres => Self::Standard,
            Kind::MariaDb => Self::MySql,
        }
    }
}

impl Dialect {
    /// The length of a session in seconds.
    fn seconds(self) -> &'static str {
        match self {
            Self::Standard => "EXTRACT(EPOCH FROM (end_time - start_time))",
            Self::MySql => "TIMESTAMPDIFF(SECOND, start_time, end_time)",
        }
    }

    pub fn rule(self) -> String {
        format!(
            "WITH connections AS (SELECT mac_address, SUM(CASE WHEN {} / 3600 <= 2 THEN 1 ELSE 0 END) * 1.0 / COUNT(*) AS connection_count, \
             COUNT(DISTINCT(space_id)) AS distinct_ap FROM user_location_trajectory WHERE mac_address IN (:index_values) \
             GROUP BY mac_address) SELECT mac_address, connection_count, distinct_ap FROM connections;",
            self.seconds()
        )
    }

    /// Name, columns, and what is selected beside the key.
    fn features(self) -> [(&'static str, &'static [&'static str], String); 5] {
        [
            ("mean_session_duration", &["mean_interval"], format!("AVG({}) AS mean_interval", self.seconds())),
            ("total_connections", &["total_conn"], "COUNT(*) AS total_conn".to_owned()),
            ("num_days_connected", &["num_days"], "COUNT(DISTINCT DATE(start_time)) AS num_days".to_owned()),
            ("start_end_dates", &["start_date", "end_date"], "MIN(start_time) AS start_date, MAX(end_time) AS end_date".to_owned()),
            ("unique_ap", &["unique_ap"], "COUNT(DISTINCT space_id) AS unique_ap".to_owned()),
        ]
    }
}

pub const INDEX: &str = "SELECT DISTINCT mac_address FROM user_location_trajectory LIMIT 5000";
pub const STATIC_CODE: &str = "STATIC = 1\nABSTAIN = -1\n\ndef labeling_function(row):\n    if row['connection_count'] >= 0.8 and \
    row['distinct_ap'] == 1:\n        return STATIC\n    return ABSTAIN";
const LAPTOP_CODE: &str = "def labeling_function(row):\n    return LAPTOP if row['connection_count'] < 0.5 else ABSTAIN";
const PHONE_CODE: &str = "def labeling_function(row):\n    if row['distinct_ap'] > 2:\n        return PHONE\n    return ABSTAIN";

/// Concept 1 with its three values, by their usual numbers.
pub fn concept(client: Client<'_>) {
    let new = json!({"name": "device_classification", "description": "Classify devices by usage pattern"});
    assert_eq!(client.make("/concepts", &new)["c_id"], 1);
    client.refused(400, Method::POST, "/concepts", &new);
    let values = [("STATIC", "Intermittent static device"), ("LAPTOP", "Weekday 9AM-9PM connections"), ("PHONE", "Short daily sessions")];
    for (number, (name, description)) in values.iter().enumerate() {
        let value = client.make("/concepts/1/values", &json!({"name": name, "description": description}));
        assert_eq!(value["cv_id"], number + 1);
    }
    client.patch("/concepts/1/values/3", &json!({"display_order": 1}));
    let names = |values: &Value| values.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&client.get("/concepts/1/values")), ["PHONE", "STATIC", "LAPTOP"]);
    client.patch("/concepts/1/values/3", &json!({"display_order": null}));
    assert_eq!(names(&client.get("/concepts/1/values")), ["STATIC", "LAPTOP", "PHONE"]);
}

/// Index 1 of all devices; with a rule refused before it is materialised, and a template that keeps those of one year.
pub fn indexes(client: Client<'_>, dialect: Dialect, conn_id: u64, objects: Option<&Objects>) {
    let indexes = "/concepts/1/indexes";
    let index = client.make(indexes, &json!({"name": "unique_mac_addresses", "conn_id": conn_id, "sql_query": INDEX}));
    assert_eq!((&index["index_id"], &index["is_materialized"]), (&json!(1), &json!(false)));
    client.refused(400, Method::POST, indexes, &json!({"name": "x", "conn_id": conn_id, "sql_query": "DELETE FROM x"}));
    let rule = json!({"name": "early", "index_id": 1, "sql_query": dialect.rule()});
    assert!(client.refused(400, Method::POST, "/concepts/1/rules", &rule).contains("must be materialized"));

    let made = client.materialize("/concepts/1/indexes/1");
    assert_eq!(made["row_count"], DEVICES);
    if let Some(objects) = objects {
        assert!(made["storage_path"].as_str().unwrap().ends_with("/indexes/index_1/data.parquet"), "{made}");
        assert_eq!(objects.table(&made["storage_path"]), (vec!["mac_address".to_owned()], DEVICES as u64));
    }

    let of_year = "SELECT DISTINCT mac_address FROM user_location_trajectory WHERE EXTRACT(YEAR FROM start_time) = {{ year }}";
    let templated =
        |name: &str, params: Value| json!({"name": name, "conn_id": conn_id, "sql_query": of_year, "query_template_params": params});
    let index = client.make(indexes, &templated("user_activity_2024", json!({"year": 2024})));
    assert_eq!(index["index_id"], 2);
    assert_eq!(client.materialize("/concepts/1/indexes/2")["row_count"], DEVICES - OF_2023);
    client.patch("/concepts/1/indexes/2", &json!({"query_template_params": {"year": 2023}}));
    assert_eq!(client.materialize("/concepts/1/indexes/2")["row_count"], OF_2023);
    client.make(indexes, &templated("without", json!({})));
    let run = client.post("/concepts/1/indexes/3/materialize", &Value::Null);
    let failed = client.run(&run["dagster_run_id"], "FAILURE");
    assert!(failed["error_message"].as_str().unwrap().contains("year"), "{failed}");
    assert_eq!(client.get("/concepts/1/indexes/3")["is_materialized"], false);
    client.delete("/concepts/1/indexes/3");
    client.delete("/concepts/1/indexes/2");
}

/// Rule 1 over index 1; changed, and made again.
pub fn rules(client: Client<'_>, dialect: Dialect, objects: Option<&Objects>) {
    let rule = json!({"name": "static_short_irregular_sessions_rule", "index_id": 1, "index_column": "mac_address",
        "sql_query": dialect.rule()});
    assert_eq!(client.make("/concepts/1/rules", &rule)["r_id"], 1);
    let rule = "/concepts/1/rules/1";
    let made = client.materialize(rule);
    assert_eq!(made["row_count"], DEVICES);
    if let Some(objects) = objects {
        let columns = ["mac_address", "connection_count", "distinct_ap"].map(str::to_owned).to_vec();
        assert_eq!(objects.table(&made["storage_path"]), (columns, DEVICES as u64));
    }
    assert_eq!(client.patch(rule, &json!({"name": "n2"}))["is_materialized"], true);
    let unmade = client.patch(rule, &json!({"sql_query": dialect.rule()}));
    assert_eq!([&unmade["is_materialized"], &unmade["row_count"], &unmade["storage_path"]], [&json!(false), &Value::Null, &Value::Null]);
    client.materialize(rule);
    assert!(client.refused(400, Method::DELETE, "/concepts/1/indexes/1", &Value::Null).contains("in use by rule 'n2'"));
}

/// Function 1 as the text has it: refused in several forms, approved, toggled.
pub fn functions(client: Client<'_>) {
    let functions = "/concepts/1/labeling-functions";
    let template = client.get(&format!("{functions}/template?applicable_cv_ids=1&applicable_cv_ids=2&applicable_cv_ids=3"));
    let code = template["code"].as_str().unwrap();
    for line in ["STATIC = 1", "LAPTOP = 2", "PHONE = 3", "ABSTAIN = -1", "def labeling_function(row):"] {
        assert!(code.lines().any(|found| found == line), "{line} in {code}");
    }
    let new = |name: &str, code: &str, imports: Value, ids: Value| json!({"name": name, "rule_id": 1, "applicable_cv_ids": ids, "code": code, "allowed_imports": imports});
    let made = client.make(functions, &new("static_short_irregular_sessions_lf", STATIC_CODE, json!([]), json!([1, 2, 3])));
    let fields = ["lf_id", "is_active", "requires_approval", "version"].map(|name| made[name].clone());
    assert_eq!(fields, [json!(1), json!(false), json!(true), json!(1)]);
    let os = new("os", "import os\ndef labeling_function(row):\n    return -1", json!([]), json!([1]));
    client.refused(400, Method::POST, functions, &os);
    client.refused(400, Method::POST, functions, &new("numpy", STATIC_CODE, json!(["numpy"]), json!([1])));
    client.refused(404, Method::POST, functions, &new("unknown", STATIC_CODE, json!([]), json!([99])));

    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {}});
    assert!(client.refused(400, Method::POST, "/concepts/1/snorkel/run", &run).contains("static_short_irregular_sessions_lf"));
    let one = format!("{functions}/1");
    assert_eq!(client.post(&format!("{one}/approve"), &Value::Null)["is_active"], true);
    client.refused(400, Method::POST, &format!("{one}/approve"), &Value::Null);
    assert_eq!(client.post(&format!("{one}/toggle"), &Value::Null)["is_active"], false);
    assert_eq!(client.post(&format!("{one}/toggle"), &Value::Null)["is_active"], true);
    for path in ["/concepts/1/rules/1", "/concepts/1/values/1"] {
        assert!(client.refused(400, Method::DELETE, path, &Value::Null).contains("in use by labeling function"), "{path}");
    }
}

/// What a label model can be made of: index and rule 1.
pub fn catalog(client: Client<'_>) {
    let catalog = client.get("/concepts/1/catalog/materialized");
    for (kind, name) in [("indexes", "unique_mac_addresses"), ("rules", "n2")] {
        let assets = catalog[kind].as_array().unwrap();
        let [asset] = assets.as_slice() else { panic!("{catalog}") };
        assert_eq!([&asset["id"], &asset["name"], &asset["row_count"]], [&json!(1), &json!(name), &json!(DEVICES)]);
    }
    let counts = json!({"total": 1, "materialized": 1, "unmaterialized": 0, "total_rows": DEVICES});
    let summary = json!({"total_assets": 2, "materialized_assets": 2, "total_data_rows": 2 * DEVICES});
    assert_eq!(client.get("/concepts/1/catalog/stats"), json!({"concept_id": 1, "indexes": counts, "rules": counts, "summary": summary}));
}

/// A job over all devices with these functions, once it is completed, and its results.
pub fn snorkel(client: Client<'_>, functions: &[u64], settings: &Value) -> (Value, Value) {
    let run = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": functions, "snorkel": settings});
    let job = client.make("/concepts/1/snorkel/run", &run);
    assert_eq!(job["status"], "RUNNING", "{job}");
    let path = format!("/concepts/1/snorkel/jobs/{}", job["job_id"]);
    let done = client.job(&path);
    assert_eq!(done["status"], "COMPLETED", "{done}");
    client.run(&done["dagster_run_id"], "SUCCESS");
    let results = client.get(&format!("{path}/results"));
    assert_eq!(results["status"], "SUCCESS", "{results}");
    (done, results)
}

/// The label model of the one function of the text.
pub fn first_label_model(client: Client<'_>, objects: Option<&Objects>) {
    let wrong = json!({"selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1], "snorkel": {"output_type": "foo"}});
    client.refused(400, Method::POST, "/concepts/1/snorkel/run", &wrong);
    let (job, results) = snorkel(client, &[1], &json!({"epochs": 100, "lr": 0.01, "output_type": "softmax"}));
    assert_eq!(job["config"], json!({"epochs": 100, "lr": 0.01, "sample_size": null}));
    let predictions = &results["predictions"];
    let probabilities = predictions["probabilities"].as_array().unwrap();
    assert_eq!(probabilities.len(), DEVICES);
    for row in probabilities {
        let sum: f64 = row.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{row}");
    }
    let ids: Vec<u64> = predictions["sample_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids, (0..DEVICES as u64).collect::<Vec<_>>());
    assert_eq!(results["label_matrix_class_distribution"]["STATIC"], OF_KIND);
    assert_eq!(results["label_matrix_class_distribution"]["ABSTAIN"], DEVICES - OF_KIND);
    let metrics = client.get("/concepts/1/labeling-functions/1/metrics");
    assert_eq!((&metrics["metrics_available"], &metrics["conflicts"]), (&json!(true), &json!(0)));
    assert!((metrics["coverage"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-3, "{metrics}");
    if let Some(objects) = objects {
        assert!(results["result_path"].as_str().unwrap().ends_with(&format!("/snorkel_results/job_{}/results.parquet", job["job_id"])));
        assert_eq!(objects.table(&results["result_path"]).1, DEVICES as u64);
    }
}

/// Two further functions, and a version of the first: functions 2, 3 and 4.
pub fn more_functions(client: Client<'_>) {
    let functions = "/concepts/1/labeling-functions";
    for (name, code) in [("laptop_lf", LAPTOP_CODE), ("phone_lf", PHONE_CODE)] {
        let new = json!({"name": name, "rule_id": 1, "applicable_cv_ids": [1, 2, 3], "code": code});
        let id = client.make(functions, &new)["lf_id"].clone();
        client.post(&format!("{functions}/{id}/approve"), &Value::Null);
    }
    let config = json!({"lf_config": {"code": STATIC_CODE.replace("0.8", "0.9"), "allowed_imports": []}});
    let version = client.make(&format!("{functions}/1/versions"), &config);
    assert_eq!([&version["lf_id"], &version["version"], &version["parent_lf_id"]], [&json!(4), &json!(2), &json!(1)]);
    assert_eq!(version["name"], "static_short_irregular_sessions_lf_v2");
    let parent = client.get(&format!("{functions}/1"));
    assert!(parent["deprecated_at"].is_string() && parent["deprecated_by_lf_id"] == 4 && parent["is_active"] == false, "{parent}");
    for id in [1, 4] {
        let chain = client.get(&format!("{functions}/{id}/versions"));
        let ids: Vec<&Value> = chain.as_array().unwrap().iter().map(|lf| &lf["lf_id"]).collect();
        assert_eq!(ids, [&json!(1), &json!(4)]);
    }
    client.post(&format!("{functions}/4/approve"), &Value::Null);
}

/// The label model of three functions that vote on all devices and never disagree. Gives the job's number.
pub fn label_model(client: Client<'_>) -> u64 {
    let (job, results) = snorkel(client, &[2, 3, 4], &json!({}));
    let expected = json!({"STATIC": OF_KIND, "LAPTOP": OF_KIND, "PHONE": OF_KIND});
    for distribution in ["label_matrix_class_distribution", "model_class_distribution"] {
        for (name, number) in expected.as_object().unwrap() {
            assert_eq!(&results[distribution][name], number, "{distribution}: {results}");
        }
    }
    let stats = &results["overall_stats"];
    assert_eq!([&stats["n_samples"], &stats["n_lfs"], &stats["cardinality"]], [&json!(DEVICES), &json!(3), &json!(3)]);
    job["job_id"].as_u64().unwrap()
}

/// Features 1 to 5; classifiers are refused before they are made.
pub fn features(client: Client<'_>, dialect: Dialect, snorkel_job: u64) {
    for (number, (name, columns, select)) in dialect.features().into_iter().enumerate() {
        let sql = format!("SELECT mac_address, {select} FROM user_ap_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address");
        let new = json!({"name": name, "index_id": 1, "sql_query": sql, "index_column": "mac_address", "columns": columns, "level": 1});
        let feature = client.make("/concepts/1/features", &new);
        assert_eq!((&feature["feature_id"], &feature["is_materialized"]), (&json!(number + 1), &json!(false)));
    }
    let run = classifier_run(snorkel_job, &json!({}));
    client.refused(400, Method::POST, "/concepts/1/classifiers/run", &run);
    for id in 1..=5 {
        assert_eq!(client.materialize(&format!("/concepts/1/features/{id}"))["row_count"], DEVICES);
    }
    assert_eq!(client.get("/concepts/1/catalog/stats")["summary"]["total_assets"], 2, "features are not counted");
}

pub fn classifier_run(snorkel_job: u64, config: &Value) -> Value {
    json!({"snorkel_job_id": snorkel_job, "feature_ids": [1, 2, 3, 4, 5], "config": config})
}

/// Classifiers on the labels of a job, which tell the kinds apart by their habits.
pub fn classifiers(client: Client<'_>, snorkel_job: u64) {
    let config = json!({"threshold_method": "max_confidence", "threshold_value": 0.7, "min_labels_per_class": 10, "imbalance_factor": 3.0,
        "test_size": 0.2, "random_state": 42});
    let path = "/concepts/1/classifiers/run";
    client.refused(400, Method::POST, path, &classifier_run(snorkel_job, &json!({"threshold_method": "x"})));
    let job = client.make(path, &classifier_run(snorkel_job, &config));
    assert_eq!(job["status"], "RUNNING", "{job}");
    let path = format!("/concepts/1/classifiers/jobs/{}", job["job_id"]);
    let done = client.job(&path);
    assert_eq!(done["status"], "COMPLETED", "{done}");
    let results = client.get(&format!("{path}/results"));
    let names: BTreeSet<&str> = results.as_object().unwrap().keys().map(String::as_str).collect();
    for name in ["job_id", "status", "filtering_stats", "model_scores", "num_models_trained", "config_used"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    let stats = &results["filtering_stats"];
    let (before, after) = (stats["samples_before_filter"].as_u64().unwrap(), stats["samples_after_filter"].as_u64().unwrap());
    assert!(before == DEVICES as u64 && (2..=before).contains(&after), "{stats}");
    let rate = (after as f64 / before as f64 * 1e4).round() / 1e4;
    assert_eq!(stats["filter_retention_rate"].as_f64(), Some(rate));
    let sizes: Vec<u64> = stats["class_distribution_after_filter"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).collect();
    assert!(sizes.len() == 3 && *sizes.iter().max().unwrap() <= 3 * sizes.iter().min().unwrap(), "{stats}");
    let scores = results["model_scores"].as_array().unwrap();
    let accuracy: Vec<f64> = scores.iter().map(|score| score["Accuracy"].as_f64().unwrap()).collect();
    assert!(accuracy.is_sorted_by(|a, b| a >= b) && accuracy.len() >= 28, "{accuracy:?}");
    assert!(accuracy[0] > 0.95, "kinds that differ this much are told apart: {}", results["model_scores"][0]);
    assert_eq!(results["num_models_trained"], scores.len());
    for (name, value) in config.as_object().unwrap() {
        assert_eq!(&results["config_used"][name], value);
    }
}
