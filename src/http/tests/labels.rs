//! Labelling functions over HTTP: their lives, their versions, and trials of their code.

use super::fake::{Answer, Site, request};
use crate::concepts::record::*;
use crate::concepts::{Concepts, ConceptsConfig, Documents, TrainingConfig, tables};
use crate::http::config::HttpConfig;
use crate::http::router;
use crate::runs::Runs;
use crate::service::{Document, ServiceError};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Method;
use desireline_connectors::store::Store;
use ecow::EcoString;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tower::ServiceExt;

const WITHIN: Duration = Duration::from_secs(60);

/// A log in memory.
#[derive(Default)]
pub(super) struct Log(Mutex<BTreeMap<(EcoString, EcoString), Json>>);

#[async_trait]
impl Documents for Log {
    async fn put(&self, documents: Vec<Document>) -> Result<(), ServiceError> {
        tokio::task::yield_now().await;
        let mut kept = self.0.lock().expect("no test panics with it");
        for Document { kind, key, body } in documents {
            match body {
                Json::Null => drop(kept.remove(&(kind, key))),
                body => drop(kept.insert((kind, key), body)),
            }
        }
        Ok(())
    }
}

impl Log {
    fn of(&self, kind: &str) -> Vec<(EcoString, Json)> {
        let kept = self.0.lock().expect("no test panics with it");
        kept.iter().filter(|((of, _), _)| of == kind).map(|((_, key), body)| (key.clone(), body.clone())).collect()
    }
}

/// A router over concepts, with objects in a folder. There is the concept 1 with the values 11 STATIC, 12 LAPTOP and 13 PHONE, the
/// index 1, and the rule 1 over it; neither has rows yet.
pub(super) struct Lab {
    pub concepts: Concepts,
    pub runs: Runs,
    pub store: Store,
    pub log: Arc<Log>,
    router: Router,
    _folder: Arc<TempDir>,
}

impl Lab {
    pub async fn new() -> Self {
        Self::with(TrainingConfig::default()).await
    }

    pub async fn with(training: TrainingConfig) -> Self {
        let lab = Self::over(training, Arc::default(), Arc::new(TempDir::new().expect("a folder")));
        lab.enter().await;
        lab
    }

    /// A server that finds a log and objects.
    pub fn over(training: TrainingConfig, log: Arc<Log>, folder: Arc<TempDir>) -> Self {
        let site = Site::new(HttpConfig::default());
        let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a folder");
        let config = ConceptsConfig { training, ..ConceptsConfig::default() };
        let concepts = Concepts::new(config, store.clone(), site.runs.clone(), Arc::clone(&log) as Arc<dyn Documents>);
        concepts.begin(|kind| log.of(kind));
        let router = router(site.state.with_concepts(concepts.clone()));
        Self { concepts, runs: site.runs, store, log, router, _folder: folder }
    }

    /// The same after a restart: its runs are forgotten.
    pub fn again(&self) -> Self {
        Self::over(TrainingConfig::default(), Arc::clone(&self.log), Arc::clone(&self._folder))
    }

    async fn enter(&self) {
        let sql = || Sql { sql_query: "SELECT 1".into(), query_template_params: None, partition_type: None, partition_config: None };
        let entered = self.concepts.book().expect("begun").change(1_000_000, move |draft| {
            draft.put(Concept { c_id: 1, name: "devices".into(), description: None, created_at: 1, updated_at: 1 });
            draft.put(Concept { c_id: 2, name: "other".into(), description: None, created_at: 1, updated_at: 1 });
            for (cv_id, name) in [(11, "STATIC"), (12, "LAPTOP"), (13, "PHONE")] {
                draft.put(Value { cv_id, c_id: 1, name: name.into(), description: None, display_order: None, created_at: 1 });
            }
            draft.put(Value { cv_id: 21, c_id: 2, name: "X".into(), description: None, display_order: None, created_at: 1 });
            let materialized = Materialized::default();
            draft.put(Index {
                index_id: 1,
                c_id: 1,
                conn_id: 0,
                name: "macs".into(),
                sql: sql(),
                materialized: materialized.clone(),
                created_at: 1,
                updated_at: 1,
            });
            for (r_id, c_id) in [(1, 1), (2, 2)] {
                draft.put(Rule {
                    r_id,
                    c_id,
                    index_id: 1,
                    name: format!("rule{r_id}"),
                    sql: sql(),
                    index_column: Some("mac".into()),
                    materialized: materialized.clone(),
                    created_at: 1,
                    updated_at: 1,
                });
            }
            Ok(())
        });
        entered.await.expect("it is kept");
    }

    pub async fn write(&self, object: &str, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
        let batch = batch.expect("columns of one length");
        tables::write(&self.store, object, batch.schema(), vec![batch]).await.expect("a table is written");
    }

    /// Gives the index its things.
    pub async fn index(&self, macs: &[Option<&str>]) {
        self.write("indexes/index_1/data.parquet", vec![("mac", Arc::new(StringArray::from(macs.to_vec())))]).await;
        let entered = self.concepts.book().expect("begun").change(2_000_000, |draft| {
            let mut index = Index::clone(draft.get::<Index>(1)?);
            index.materialized.is_materialized = true;
            draft.put(index);
            Ok(())
        });
        entered.await.expect("it is kept");
    }

    /// Gives the rule rows: of each thing a number.
    pub async fn rule(&self, macs: &[&str], numbers: &[i64]) {
        let columns: Vec<(&str, ArrayRef)> =
            vec![("mac", Arc::new(StringArray::from(macs.to_vec()))), ("n", Arc::new(Int64Array::from(numbers.to_vec())))];
        self.write("rules/rule_1/data.parquet", columns).await;
        let rows = macs.len() as u64;
        let entered = self.concepts.book().expect("begun").change(2_000_000, move |draft| {
            let mut rule = Rule::clone(draft.get::<Rule>(1)?);
            (rule.materialized.is_materialized, rule.materialized.row_count) = (true, Some(rows));
            draft.put(rule);
            Ok(())
        });
        entered.await.expect("it is kept");
    }

    /// A feature with one column of numbers.
    pub async fn feature(&self, feature_id: Id, macs: &[&str], column: &str, numbers: &[Option<f64>]) {
        let columns: Vec<(&str, ArrayRef)> =
            vec![("mac", Arc::new(StringArray::from(macs.to_vec()))), (column, Arc::new(Float64Array::from(numbers.to_vec())))];
        self.write(&format!("features/feature_{feature_id}/data.parquet"), columns).await;
        self.feature_record(feature_id, true).await;
    }

    pub async fn feature_record(&self, feature_id: Id, is_materialized: bool) {
        let entered = self.concepts.book().expect("begun").change(2_000_000, move |draft| {
            draft.put(Feature {
                feature_id,
                c_id: 1,
                index_id: 1,
                name: format!("feature{feature_id}"),
                description: None,
                sql: Sql { sql_query: "SELECT 1".into(), query_template_params: None, partition_type: None, partition_config: None },
                index_column: Some("mac".into()),
                columns: None,
                level: None,
                materialized: Materialized { is_materialized, ..Materialized::default() },
                created_at: 1,
                updated_at: 1,
            });
            Ok(())
        });
        entered.await.expect("it is kept");
    }

    pub async fn send(&self, method: Method, path: &str, body: &Json) -> Answer {
        let builder = request(method, path).header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(builder.body(body).expect("a request")).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.expect("a body");
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// Status and body.
    pub async fn ask(&self, method: Method, path: &str, body: Json) -> (u16, Json) {
        let answer = self.send(method, path, &body).await;
        (answer.status.as_u16(), if answer.bytes.is_empty() { Json::Null } else { answer.json() })
    }

    pub async fn get(&self, path: &str) -> Json {
        let (status, body) = self.ask(Method::GET, path, Json::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Json) -> impl Future<Output = (u16, Json)> {
        self.ask(Method::POST, path, body)
    }

    pub async fn posted(&self, path: &str, body: Json, expected: u16) -> Json {
        let (status, reply) = self.post(path, body).await;
        assert_eq!(status, expected, "{path}: {reply}");
        reply
    }

    /// Saves and approves a function of the rule 1. Answers its number.
    pub async fn approved(&self, name: &str, applicable: &[Id], code: &str) -> Id {
        let body = json!({"name": name, "rule_id": 1, "applicable_cv_ids": applicable, "code": code});
        let lf = self.posted(FUNCTIONS, body, 201).await;
        let lf_id = lf["lf_id"].as_u64().expect("a number");
        self.posted(&format!("{FUNCTIONS}/{lf_id}/approve"), Json::Null, 200).await;
        lf_id
    }

    /// Waits until a job is neither waiting nor at work.
    pub async fn ended(&self, path: &str) -> Json {
        self.until(path, |job| !["PENDING", "RUNNING"].contains(&job["status"].as_str().unwrap_or_default())).await
    }

    pub async fn until(&self, path: &str, holds: impl Fn(&Json) -> bool) -> Json {
        let begun = Instant::now();
        loop {
            let body = self.get(path).await;
            if holds(&body) {
                return body;
            }
            assert!(begun.elapsed() < WITHIN, "{path}: {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) const FUNCTIONS: &str = "/concepts/1/labeling-functions";

/// Code that votes for a value where a condition holds.
pub(super) fn votes_if(condition: &str, value: &str) -> String {
    format!("def labeling_function(row):\n    if {condition}:\n        return {value}\n    return ABSTAIN\n")
}

fn new(name: &str) -> Json {
    json!({"name": name, "rule_id": 1, "applicable_cv_ids": [11, 12], "code": votes_if("row['n'] > 1", "STATIC")})
}

fn with(mut body: Json, changes: Json) -> Json {
    let fields = changes.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

#[tokio::test]
async fn a_function_is_saved_approved_changed_and_removed() {
    let lab = Lab::new().await;
    let lf = lab.posted(FUNCTIONS, new("short"), 201).await;
    let expected = json!({"lf_id": 1, "c_id": 1, "rule_id": 1, "applicable_cv_ids": [11, 12], "name": "short", "version": 1,
        "parent_lf_id": null, "lf_type": "custom", "lf_config": {"code": votes_if("row['n'] > 1", "STATIC"), "allowed_imports": []},
        "is_active": false, "requires_approval": true, "deprecated_at": null, "deprecated_by_lf_id": null, "estimated_accuracy": null,
        "coverage": null, "conflicts": null, "created_at": lf["created_at"], "updated_at": lf["created_at"],
        "runtime": lf["runtime"], "runtime_reason": lf["runtime_reason"]});
    assert_eq!(lf, expected);
    assert!(["compiled", "interpreted"].contains(&lf["runtime"].as_str().expect("a word")));
    assert_eq!(lab.get(&format!("{FUNCTIONS}/1")).await, lf);

    // Neither toggled nor patched into being active before it is approved.
    for (method, path, body) in [(Method::POST, "/1/toggle", Json::Null), (Method::PATCH, "/1", json!({"is_active": true}))] {
        let (status, reply) = lab.ask(method, &format!("{FUNCTIONS}{path}"), body).await;
        assert_eq!((status, &reply["code"]), (400, &json!("refused")), "{reply}");
    }
    let approved = lab.posted(&format!("{FUNCTIONS}/1/approve"), Json::Null, 200).await;
    assert_eq!([&approved["is_active"], &approved["requires_approval"]], [&json!(true), &json!(false)]);
    let again = lab.posted(&format!("{FUNCTIONS}/1/approve"), Json::Null, 400).await;
    assert_eq!(again["detail"], "This labeling function does not require approval");
    for active in [false, true] {
        assert_eq!(lab.posted(&format!("{FUNCTIONS}/1/toggle"), Json::Null, 200).await["is_active"], active);
    }
    lab.posted(FUNCTIONS, new("other"), 201).await;
    let active = lab.get(&format!("{FUNCTIONS}?active_only=true")).await;
    assert_eq!(active.as_array().map(Vec::len), Some(1));
    assert_eq!(lab.get(&format!("{FUNCTIONS}?skip=1&limit=5")).await[0]["name"], "other");

    let metrics = lab.get(&format!("{FUNCTIONS}/1/metrics")).await;
    let none = json!({"lf_id": 1, "name": "short", "version": 1, "estimated_accuracy": null, "coverage": null, "conflicts": null,
        "metrics_available": false});
    assert_eq!(metrics, none);
    assert_eq!(lab.ask(Method::DELETE, &format!("{FUNCTIONS}/1"), Json::Null).await, (204, Json::Null));
    assert_eq!(lab.ask(Method::GET, &format!("{FUNCTIONS}/1"), Json::Null).await.0, 404);
}

#[tokio::test]
async fn other_code_is_another_function_and_waits_for_approval() {
    let lab = Lab::new().await;
    lab.approved("short", &[11], &votes_if("row['n'] > 1", "STATIC")).await;
    let path = format!("{FUNCTIONS}/1");
    let same = lab.ask(Method::PATCH, &path, json!({"lf_config": {"code": votes_if("row['n'] > 1", "STATIC")}, "name": "renamed"})).await;
    assert_eq!((same.0, &same.1["is_active"], &same.1["name"]), (200, &json!(true), &json!("renamed")));
    let code = votes_if("row['n'] > 2", "STATIC");
    let (status, changed) = lab.ask(Method::PATCH, &path, json!({"lf_config": {"code": code, "allowed_imports": ["math"]}})).await;
    assert_eq!((status, &changed["is_active"], &changed["requires_approval"]), (200, &json!(false), &json!(true)));
    assert_eq!(changed["lf_config"], json!({"code": code, "allowed_imports": ["math"]}));
    let (status, refused) = lab.ask(Method::PATCH, &path, json!({"lf_config": {"code": "x = 1"}})).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (400, &json!("code")), "{refused}");
    assert_eq!(lab.get(&path).await["lf_config"]["code"], code, "what is refused changes nothing");
    for (change, field) in [(json!({"name": null}), "name"), (json!({"is_active": null}), "is_active"), (json!({"lf_config": {}}), "code")]
    {
        let (status, refused) = lab.ask(Method::PATCH, &path, change).await;
        assert_eq!((status, &refused["errors"][0]["field"]), (400, &json!(field)), "{refused}");
    }

    let lenient = Lab::with(TrainingConfig { is_toggle_lenient: true, ..TrainingConfig::default() }).await;
    lenient.posted(FUNCTIONS, new("short"), 201).await;
    assert_eq!(lenient.posted(&format!("{path}/toggle"), Json::Null, 200).await["is_active"], true);
    let (_, changed) = lenient.ask(Method::PATCH, &path, json!({"lf_config": {"code": code}})).await;
    assert_eq!(changed["is_active"], true);
}

#[tokio::test]
async fn what_is_wrong_with_a_function_is_told() {
    let lab = Lab::new().await;
    lab.posted(FUNCTIONS, new("taken"), 201).await;
    let cases = [
        (json!({"name": "taken"}), 400, "Labeling function with name 'taken' already exists in this concept"),
        (json!({"rule_id": 2}), 404, "Rule with ID 2 not found"),
        (json!({"rule_id": -1}), 400, "rule_id: must be an integer between 0 and 9223372036854775807"),
        (json!({"applicable_cv_ids": [99, 11, 21]}), 404, "Concept value IDs [21, 99] not found for concept 1"),
        (json!({"applicable_cv_ids": []}), 400, "applicable_cv_ids: must name at least one concept value"),
        (json!({"parent_lf_id": 7}), 404, "Parent labeling function with ID 7 not found"),
        (json!({"allowed_imports": ["numpy"]}), 400, "'numpy' is not one of re, datetime, math, statistics"),
    ];
    for (changes, status, detail) in cases {
        let (found, reply) = lab.post(FUNCTIONS, with(with(new("x"), json!({})), changes.clone())).await;
        assert_eq!((found, reply["detail"].as_str()), (status, Some(detail)), "{changes}");
    }
    for (code, line) in
        [("import os\n\ndef labeling_function(row):\n    return -1\n", 1), ("def labeling_function(row):\n    return )\n", 2)]
    {
        let reply = lab.posted(FUNCTIONS, with(new("x"), json!({"code": code})), 400).await;
        assert_eq!(reply["errors"][0]["field"], "code", "{reply}");
        let detail = reply["errors"][0]["detail"].as_str().expect("a text");
        assert!(detail.starts_with(&format!("line {line}: ")), "{detail}");
    }
    let (status, reply) = lab.post("/concepts/3/labeling-functions", new("x")).await;
    assert_eq!((status, &reply["code"]), (404, &json!("not_found")));
    for path in ["/concepts/2/labeling-functions/1", "/concepts/3/labeling-functions", "/concepts/1/labeling-functions/9/metrics"] {
        assert_eq!(lab.ask(Method::GET, path, Json::Null).await.0, 404, "{path}");
    }
    assert_eq!(lab.post(FUNCTIONS, json!({})).await.1["errors"].as_array().map(Vec::len), Some(3));
    assert_eq!(lab.get(FUNCTIONS).await.as_array().map(Vec::len), Some(1), "nothing of it was kept");
}

#[tokio::test]
async fn without_code_there_is_a_template() {
    let lab = Lab::new().await;
    let template = lab.get(&format!("{FUNCTIONS}/template?applicable_cv_ids=11&applicable_cv_ids=13")).await;
    let code = template["code"].as_str().expect("a text");
    for line in ["STATIC = 11\n", "PHONE = 13\n", "ABSTAIN = -1\n", "def labeling_function(row):\n"] {
        assert!(code.contains(line), "{code}");
    }
    assert_eq!((&template["applicable_cv_ids"], code.contains("LAPTOP")), (&json!([11, 13]), false));
    assert_eq!(lab.get(FUNCTIONS).await, json!([]), "nothing was saved");
    let lf = lab.posted(FUNCTIONS, json!({"name": "empty", "rule_id": 1, "applicable_cv_ids": [11, 13]}), 201).await;
    assert_eq!(lf["lf_config"]["code"], code);
    for (query, status) in [("", 400), ("?applicable_cv_ids=x", 400), ("?applicable_cv_ids=99", 404)] {
        assert_eq!(lab.ask(Method::GET, &format!("{FUNCTIONS}/template{query}"), Json::Null).await.0, status, "{query}");
    }
}

#[tokio::test]
async fn a_new_version_deprecates_its_parent_and_the_chain_is_told_from_any_of_it() {
    let lab = Lab::new().await;
    lab.approved("short", &[11, 12], &votes_if("row['n'] > 1", "STATIC")).await;
    let config = json!({"lf_config": {"code": votes_if("row['n'] > 5", "STATIC"), "allowed_imports": []}});
    let second = lab.posted(&format!("{FUNCTIONS}/1/versions"), config.clone(), 201).await;
    let told = ["lf_id", "version", "parent_lf_id", "is_active", "requires_approval", "rule_id"].map(|field| second[field].clone());
    assert_eq!(told, [json!(2), json!(2), json!(1), json!(false), json!(true), json!(1)]);
    assert_eq!((&second["name"], &second["applicable_cv_ids"]), (&json!("short_v2"), &json!([11, 12])));
    let first = lab.get(&format!("{FUNCTIONS}/1")).await;
    assert_eq!([&first["is_active"], &first["deprecated_by_lf_id"]], [&json!(false), &json!(2)]);
    assert!(first["deprecated_at"].is_string());

    // A second version of the same parent needs a name of its own, and a third generation is one more.
    let taken = lab.posted(&format!("{FUNCTIONS}/1/versions"), config.clone(), 400).await;
    assert_eq!(taken["errors"][0]["field"], "name");
    lab.posted(&format!("{FUNCTIONS}/1/versions"), with(config.clone(), json!({"name": "twin"})), 201).await;
    let third = lab.posted(&format!("{FUNCTIONS}/2/versions"), config.clone(), 201).await;
    assert_eq!((&third["name"], &third["version"]), (&json!("short_v2_v3"), &json!(3)));
    lab.posted(FUNCTIONS, with(new("beside"), json!({"parent_lf_id": 2})), 201).await;
    assert_eq!(lab.get(&format!("{FUNCTIONS}/5")).await["version"], 3, "a parent that was named makes a version, too");
    for id in 1..=5 {
        let chain = lab.get(&format!("{FUNCTIONS}/{id}/versions")).await;
        let ids: Vec<_> = chain.as_array().expect("a list").iter().map(|lf| lf["lf_id"].clone()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5].map(|id| json!(id)), "from {id}");
    }
    assert_eq!(lab.posted(&format!("{FUNCTIONS}/9/versions"), config, 404).await["code"], "not_found");
    assert_eq!(lab.posted(&format!("{FUNCTIONS}/1/versions"), json!({}), 400).await["errors"][0]["field"], "lf_config");

    let (status, refused) = lab.ask(Method::DELETE, &format!("{FUNCTIONS}/2"), Json::Null).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("'short_v2_v3'") && text.contains("'beside'")), "{refused}");
    for id in [4, 5, 2] {
        assert_eq!(lab.ask(Method::DELETE, &format!("{FUNCTIONS}/{id}"), Json::Null).await.0, 204);
    }
    assert_eq!(lab.get(&format!("{FUNCTIONS}/1")).await["deprecated_by_lf_id"], 3, "the last version of it");
    lab.ask(Method::DELETE, &format!("{FUNCTIONS}/3"), Json::Null).await;
    assert_eq!(lab.get(&format!("{FUNCTIONS}/1")).await["deprecated_by_lf_id"], Json::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_is_tried_before_it_is_saved() {
    let lab = Lab::new().await;
    let path = format!("{FUNCTIONS}/test");
    let body = |code: &str| json!({"rule_id": 1, "applicable_cv_ids": [11, 12], "code": code});
    let code = "def labeling_function(row):\n    if row['n'] == 3:\n        return 1 / 0\n    if row['n'] == 4:\n        return 99\n    if row['n'] > 5:\n        return STATIC\n    return ABSTAIN\n";
    let waiting = lab.posted(&path, body(code), 400).await;
    assert_eq!(waiting["detail"], "Rule 'rule1' is not materialized. Please materialize it first.");
    let macs: Vec<String> = (0..40).map(|at| format!("m{at:02}")).collect();
    let macs: Vec<&str> = macs.iter().map(String::as_str).collect();
    lab.rule(&macs, &(0..40).collect::<Vec<i64>>()).await;
    let reply = lab.posted(&path, body(code), 200).await;
    assert_eq!(reply["votes"], json!({"STATIC": 34, "LAPTOP": 0, "ABSTAIN": 6}), "{reply}");
    assert_eq!((&reply["rows"], &reply["coverage"]), (&json!(40), &json!(0.85)));
    let mut errors: Vec<_> =
        reply["errors"].as_array().expect("a list").iter().map(|e| (e["kind"].clone(), e["line"].clone(), e["rows"].clone())).collect();
    errors.sort_by_key(|(kind, ..)| kind.to_string());
    assert_eq!(errors[0], (json!("exception"), json!(3), json!(1)));
    assert_eq!((&errors[1].0, &errors[1].2), (&json!("undeclared"), &json!(1)));
    let sample = reply["sample"].as_array().expect("a list");
    assert_eq!((sample.len(), &sample[0]), (20, &json!({"key": "m00", "vote": -1, "row": {"mac": "m00", "n": 0}})));
    assert!(reply["rows_per_second"].as_f64().is_some_and(|speed| speed > 0.0));

    let few = lab.posted(&path, with(body(code), json!({"sample_size": 7})), 200).await;
    assert_eq!(few["rows"], 7);
    let refused = lab.posted(&path, body("def labeling_function(row):\n    return open('/etc/passwd')\n"), 400).await;
    assert!(refused["errors"][0]["detail"].as_str().is_some_and(|text| text.starts_with("line 2: ")), "{refused}");
    assert_eq!(lab.posted(&path, with(body(code), json!({"sample_size": 0})), 400).await["errors"][0]["field"], "sample_size");
    assert_eq!(lab.get(FUNCTIONS).await, json!([]), "nothing was saved");
}
