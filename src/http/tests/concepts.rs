//! The catalog of concepts on the real service: exact answers, what is refused, what goes with what, and what a restart finds.

use super::real::Real;
use crate::concepts::record::{Index, Record, Rule};
use crate::http::config::HttpConfig;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tower::ServiceExt;

/// A real service with nothing in it.
pub(super) struct Site(Real);

impl Site {
    pub(super) async fn new() -> Self {
        Self(Real::set(HttpConfig::default(), &[]).await)
    }

    /// The status, and the body where there is one.
    pub(super) async fn ask(&self, method: Method, uri: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(uri).header("host", "localhost").header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.0.router.clone().oneshot(request.body(body).expect("a request")).await.expect("infallible");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 8 << 20).await.expect("a body");
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") })
    }

    pub(super) async fn get(&self, uri: &str) -> Value {
        let (status, body) = self.ask(Method::GET, uri, &Value::Null).await;
        assert_eq!(status, 200, "{uri}: {body}");
        body
    }

    /// What is made, which must be possible.
    pub(super) async fn post(&self, uri: &str, body: Value) -> Value {
        let (status, reply) = self.ask(Method::POST, uri, &body).await;
        assert_eq!(status, 201, "{uri} {body}: {reply}");
        reply
    }

    async fn patch(&self, uri: &str, body: Value) -> Value {
        let (status, reply) = self.ask(Method::PATCH, uri, &body).await;
        assert_eq!(status, 200, "{uri} {body}: {reply}");
        reply
    }

    async fn delete(&self, uri: &str) {
        let (status, reply) = self.ask(Method::DELETE, uri, &Value::Null).await;
        assert_eq!((status, &reply), (204, &Value::Null), "{uri}");
    }

    /// Status, code and detail of what must be an error.
    async fn refused(&self, method: Method, uri: &str, body: Value) -> (u16, String, String) {
        let (status, reply) = self.ask(method.clone(), uri, &body).await;
        assert!(status >= 400, "{method} {uri} {body}: {reply}");
        let text = |name: &str| reply[name].as_str().expect("a text").to_owned();
        (status, text("code"), text("detail"))
    }

    /// As if a run had materialised an index or a rule.
    async fn materialize(&self, index_id: u64, r_id: Option<u64>, rows: u64) {
        let book = self.0.concepts.book().expect("it has begun").clone();
        let change = book.change(9, move |draft| {
            let made = |folder: String| crate::concepts::record::Materialized {
                is_materialized: true,
                materialized_at: Some(1_700_000_000_000_000),
                row_count: Some(rows),
                storage_path: Some(format!("s3://bucket/{folder}/data.parquet")),
                ..Default::default()
            };
            let folder = |kind, id| crate::concepts::folder(kind, id).expect("it has objects");
            match r_id {
                Some(id) => {
                    let rule = Rule::clone(draft.get::<Rule>(id)?);
                    draft.put(Rule { materialized: made(folder(Rule::KIND, id)), ..rule });
                }
                None => {
                    let index = Index::clone(draft.get::<Index>(index_id)?);
                    draft.put(Index { materialized: made(folder(Index::KIND, index_id)), ..index });
                }
            }
            Ok(())
        });
        change.await.expect("it is there");
    }

    /// A concept with a value, a connection, an index (materialised), a rule and a feature, all with the number 1.
    async fn furnished() -> Self {
        let site = Self::new().await;
        site.post("/database-connections", connection("db")).await;
        site.post("/concepts", json!({"name": "c"})).await;
        site.post("/concepts/1/values", json!({"name": "STATIC"})).await;
        site.post("/concepts/1/indexes", json!({"name": "i", "conn_id": 1, "sql_query": "SELECT a FROM b"})).await;
        site.materialize(1, None, 300).await;
        site.post("/concepts/1/rules", json!({"name": "r", "index_id": 1, "sql_query": RULE})).await;
        site.post("/concepts/1/features", json!({"name": "f", "index_id": 1, "sql_query": RULE})).await;
        site
    }
}

const RULE: &str = "SELECT a, COUNT(*) AS n FROM b WHERE a IN (:index_values) GROUP BY a";

fn connection(name: &str) -> Value {
    json!({"name": name, "connection_type": "postgresql", "host": "localhost", "port": 5432, "database": "tippers", "user": "dbuser",
        "password": "s3cret-password"})
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|entry| entry["name"].as_str().expect("a name")).collect()
}

/// Takes out what depends on the clock.
fn timeless(mut value: Value) -> Value {
    for name in ["created_at", "updated_at"] {
        if let Some(time) = value.get_mut(name) {
            assert!(time.as_str().is_some_and(|text| text.ends_with('Z') && text.starts_with("20")), "{time}");
            *time = json!("now");
        }
    }
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_without_showing_its_password() {
    let site = Site::new().await;
    let made = site.post("/database-connections", connection("tippers_db")).await;
    let shown = json!({"conn_id": 1, "name": "tippers_db", "connection_type": "postgresql", "host": "localhost", "port": 5432,
        "database": "tippers", "user": "dbuser", "created_at": "now"});
    assert_eq!(timeless(made), shown);
    assert_eq!(timeless(site.get("/database-connections/1").await), shown);
    let taken = site.refused(Method::POST, "/database-connections", connection("tippers_db")).await;
    assert_eq!(taken, (400, "invalid".into(), "Database connection with name 'tippers_db' already exists".into()));
    let missing = site.refused(Method::GET, "/database-connections/7", Value::Null).await;
    assert_eq!(missing, (404, "not_found".into(), "Database connection with ID 7 not found".into()));

    let changed = site.patch("/database-connections/1", json!({"host": "new-host", "port": 5433})).await;
    assert_eq!((&changed["host"], &changed["port"], &changed["user"]), (&json!("new-host"), &json!(5433), &json!("dbuser")));
    site.post("/database-connections", connection("other")).await;
    let taken = site.refused(Method::PATCH, "/database-connections/2", json!({"name": "tippers_db"})).await;
    assert_eq!(taken.2, "Database connection with name 'tippers_db' already exists");
    site.patch("/database-connections/2", json!({"name": "other", "password": "another-password"})).await;
    let concepts = &site.0.concepts;
    let password = concepts.password(&concepts.connection(2).expect("kept")).expect("it can be decrypted");
    assert_eq!((password.0.as_str(), format!("{password:?}").as_str()), ("another-password", "(hidden)"));
    let kept = format!("{:?}{:?}", concepts.connection(1).expect("kept"), site.0.service.documents("database_connection"));
    assert!(kept.contains("v1.") && !kept.contains("s3cret-password") && !kept.contains("another-password"), "{kept}");

    assert_eq!(names(&site.get("/database-connections").await), ["live", "tippers_db", "other"]);
    assert_eq!(names(&site.get("/database-connections/?skip=1&limit=1").await), ["tippers_db"]);
    site.delete("/database-connections/2").await;
    assert_eq!(site.refused(Method::DELETE, "/database-connections/2", Value::Null).await.0, 404);
    assert_eq!(site.post("/database-connections/", connection("third")).await["conn_id"], 3, "numbers are given once");
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_connection_is_there_and_stays_as_it_is() {
    let site = Site::new().await;
    let live = json!({"conn_id": 0, "name": "live", "connection_type": "live", "host": "", "port": 0, "database": "desireline", "user": "",
        "created_at": "1970-01-01T00:00:00Z"});
    assert_eq!(site.get("/database-connections").await, json!([live]));
    assert_eq!(site.get("/database-connections/0").await, live);
    for method in [Method::PATCH, Method::DELETE] {
        let body = if method == Method::PATCH { json!({"host": "x"}) } else { Value::Null };
        let (status, code, detail) = site.refused(method, "/database-connections/0", body).await;
        assert!((status, code.as_str()) == (400, "refused") && detail.contains("'live' is built in"), "{detail}");
    }
    assert_eq!(site.refused(Method::POST, "/database-connections", connection("live")).await.0, 400);
    site.post("/concepts", json!({"name": "c"})).await;
    let index = json!({"name": "i", "conn_id": 0, "sql_query": "SELECT DISTINCT mac_address FROM user_location_trajectory"});
    assert_eq!(site.post("/concepts/1/indexes", index).await["conn_id"], 0);
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_a_connection_is_told() {
    let site = Site::new().await;
    let (status, reply) =
        site.ask(Method::POST, "/database-connections", &json!({"name": "", "port": 70_000, "user": 7, "host": null})).await;
    assert_eq!((status, &reply["code"]), (400, &json!("invalid")));
    let fields: BTreeSet<&str> =
        reply["errors"].as_array().expect("errors").iter().map(|e| e["field"].as_str().expect("a field")).collect();
    assert_eq!(fields, BTreeSet::from(["name", "connection_type", "host", "port", "database", "user", "password"]));
    for (body, detail) in [
        (json!({"password": null}), "password: must not be null"),
        (json!({"name": null}), "name: must not be null"),
        (json!({"host": ""}), "host: must not be empty"),
        (json!({"port": 0}), "port: must be an integer between 1 and 65535"),
        (json!({"password": "x".repeat(1_025)}), "password: is longer than 1024 bytes"),
    ] {
        assert_eq!(site.refused(Method::PATCH, "/database-connections/1", body).await.2, detail);
    }
    let without = json!({"name": "n", "connection_type": "oracle", "host": "h", "port": 1, "database": "d", "user": "u", "password": ""});
    assert_eq!(site.post("/database-connections", without).await["connection_type"], "oracle", "kept, though nothing can connect to it");
    assert_eq!(site.refused(Method::GET, "/database-connections/-1", Value::Null).await.0, 404);
    assert_eq!(site.refused(Method::GET, "/database-connections/x", Value::Null).await.0, 400);
    assert_eq!(site.refused(Method::GET, "/database-connections?skip=-1", Value::Null).await.0, 400);
    assert_eq!(site.refused(Method::GET, "/database-connections?limit=0", Value::Null).await.0, 400);
    assert_eq!(site.get("/database-connections?limit=99999999999999999999").await.as_array().map(Vec::len), Some(2));
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concepts_and_their_values_are_made_changed_and_removed() {
    let site = Site::new().await;
    let made = site.post("/concepts", json!({"name": "device_classification", "description": "by pattern"})).await;
    let shown = json!({"c_id": 1, "name": "device_classification", "description": "by pattern", "created_at": "now", "updated_at": "now"});
    assert_eq!(timeless(made), shown);
    assert_eq!(site.post("/concepts/", json!({"name": "other", "description": null})).await["description"], Value::Null);
    let taken = site.refused(Method::POST, "/concepts", json!({"name": "other"})).await;
    assert_eq!(taken, (400, "invalid".into(), "Concept with name 'other' already exists".into()));
    assert_eq!(site.refused(Method::GET, "/concepts/9", Value::Null).await.2, "Concept with ID 9 not found");
    let before = site.get("/concepts/1").await;
    let changed = site.patch("/concepts/1", json!({"description": ""})).await;
    assert_eq!((&changed["name"], &changed["description"]), (&before["name"], &json!("")));
    assert!(changed["updated_at"].as_str() > before["updated_at"].as_str() && changed["created_at"] == before["created_at"]);
    assert_eq!(site.patch("/concepts/1", json!({"description": null})).await["description"], Value::Null);
    assert_eq!(site.refused(Method::PATCH, "/concepts/1", json!({"name": "other"})).await.0, 400);
    assert_eq!(site.patch("/concepts/1", json!({"name": "device_classification"})).await["c_id"], 1, "its own name is free for it");
    assert_eq!(names(&site.get("/concepts?skip=1").await), ["other"]);

    let value = site.post("/concepts/1/values", json!({"name": "STATIC", "description": "d", "display_order": 2})).await;
    let shown = json!({"cv_id": 1, "c_id": 1, "name": "STATIC", "description": "d", "display_order": 2, "created_at": "now"});
    assert_eq!(timeless(value), shown);
    for (name, order) in [("LAPTOP", Value::Null), ("PHONE", json!(-1)), ("CAR", json!(2)), ("BIKE", Value::Null)] {
        site.post("/concepts/1/values", json!({"name": name, "display_order": order})).await;
    }
    assert_eq!(names(&site.get("/concepts/1/values").await), ["PHONE", "STATIC", "CAR", "LAPTOP", "BIKE"]);
    let taken = site.refused(Method::POST, "/concepts/1/values", json!({"name": "CAR"})).await;
    assert_eq!((taken.0, taken.2.contains("'CAR' already exists")), (400, true));
    assert_eq!(site.post("/concepts/2/values", json!({"name": "CAR"})).await["cv_id"], 6, "unique in its concept only");
    let changed = site.patch("/concepts/1/values/1", json!({"display_order": null, "description": "e"})).await;
    assert_eq!((&changed["display_order"], &changed["description"], &changed["name"]), (&Value::Null, &json!("e"), &json!("STATIC")));
    assert_eq!(site.refused(Method::GET, "/concepts/2/values/1", Value::Null).await.2, "Concept value with ID 1 not found");
    site.delete("/concepts/1/values/4").await;
    assert_eq!(names(&site.get("/concepts/1/values/").await), ["PHONE", "STATIC", "LAPTOP", "BIKE"]);
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_has_the_fields_of_old_and_refuses_what_is_no_query() {
    let site = Site::new().await;
    site.post("/database-connections", connection("db")).await;
    site.post("/concepts", json!({"name": "c"})).await;
    let new = json!({"name": "user_activity_2024", "conn_id": 1, "sql_query": "SELECT user_id FROM user_events WHERE year = {{ year }}",
        "query_template_params": {"year": 2024}, "partition_type": "time", "partition_config": {"column": "activity_date"}});
    let made = timeless(site.post("/concepts/1/indexes", new.clone()).await);
    let mut shown = json!({"index_id": 1, "c_id": 1, "storage_path": null, "is_materialized": false, "materialized_at": null,
        "row_count": null, "column_stats": null, "created_at": "now", "updated_at": "now"});
    shown.as_object_mut().expect("an object").extend(new.as_object().expect("an object").clone());
    assert_eq!(made, shown);
    let create = |name: &str, conn_id: i64, sql: &str| json!({"name": name, "conn_id": conn_id, "sql_query": sql});
    let no_query = "SQL query must be a SELECT statement or CTE (WITH clause)";
    for (body, status, detail) in [
        (create("x", 1, "DELETE FROM x"), 400, no_query),
        (create("x", 1, " update x"), 400, no_query),
        (create("x", 9, "SELECT 1"), 404, "Database connection with ID 9 not found"),
        (create("user_activity_2024", 1, "SELECT 1"), 400, "Index with name 'user_activity_2024' already exists in this concept"),
    ] {
        let refused = site.refused(Method::POST, "/concepts/1/indexes", body).await;
        assert_eq!((refused.0, refused.2.as_str()), (status, detail));
    }
    for sql in ["SELECT 1; DROP TABLE x", "WITH x AS (DELETE FROM y RETURNING a) SELECT a FROM x"] {
        assert_eq!(site.refused(Method::POST, "/concepts/1/indexes", create("x", 1, sql)).await.0, 400, "{sql}");
    }
    for field in ["partition_type", "query_template_params", "partition_config"] {
        let mut body = create("x", 1, "SELECT 1");
        body[field] = json!("monthly");
        let refused = site.refused(Method::POST, "/concepts/1/indexes", body).await;
        assert!(refused.0 == 400 && refused.2.starts_with(field), "{refused:?}");
    }
    assert_eq!(site.post("/concepts/1/indexes/", create("lower", 1, "\n with a as (select 1 as b) select b from a;")).await["index_id"], 2);
    assert_eq!(names(&site.get("/concepts/1/indexes?skip=1&limit=5").await), ["lower"]);
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_query_or_other_parameters_unmake_an_index_and_nothing_else_does() {
    let site = Site::furnished().await;
    let made = site.get("/concepts/1/indexes/1").await;
    assert_eq!((&made["is_materialized"], &made["row_count"]), (&json!(true), &json!(300)));
    assert_eq!(made["storage_path"], "s3://bucket/indexes/index_1/data.parquet");
    assert_eq!(made["materialized_at"], "2023-11-14T22:13:20Z");
    let partition = json!({"name": "j", "conn_id": 0, "partition_type": "id_range", "partition_config": {}});
    let kept = site.patch("/concepts/1/indexes/1", partition).await;
    assert_eq!((&kept["is_materialized"], &kept["conn_id"], &kept["name"]), (&json!(true), &json!(0), &json!("j")));
    for body in
        [json!({"query_template_params": {"year": 1}}), json!({"sql_query": "SELECT c FROM d"}), json!({"query_template_params": null})]
    {
        site.materialize(1, None, 300).await;
        let unmade = site.patch("/concepts/1/indexes/1", body).await;
        let fields = ["is_materialized", "materialized_at", "row_count", "storage_path"].map(|name| unmade[name].clone());
        assert_eq!(fields, [json!(false), Value::Null, Value::Null, Value::Null]);
    }
    assert_eq!(site.refused(Method::PATCH, "/concepts/1/indexes/1", json!({"conn_id": 7})).await.0, 404);
    assert_eq!(site.refused(Method::PATCH, "/concepts/1/indexes/1", json!({"sql_query": "DROP TABLE x"})).await.0, 400);
    let rule = site.patch("/concepts/1/rules/1", json!({"name": "n2", "index_column": "a"})).await;
    assert_eq!((&rule["name"], &rule["index_column"]), (&json!("n2"), &json!("a")));
    site.materialize(1, Some(1), 40).await;
    site.post("/concepts/1/indexes", json!({"name": "k", "conn_id": 1, "sql_query": "SELECT 1"})).await;
    let moved = site.patch("/concepts/1/rules/1", json!({"index_id": 2, "index_column": null})).await;
    assert_eq!((&moved["index_id"], &moved["is_materialized"], &moved["index_column"]), (&json!(2), &json!(true), &Value::Null));
    assert_eq!(site.patch("/concepts/1/rules/1", json!({"sql_query": RULE})).await["is_materialized"], false);
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_needs_a_materialised_index_of_its_concept_and_a_feature_any_of_it() {
    let site = Site::furnished().await;
    site.post("/concepts", json!({"name": "d"})).await;
    site.post("/concepts/2/indexes", json!({"name": "i", "conn_id": 1, "sql_query": "SELECT 1"})).await;
    let body = |index_id: u64| json!({"name": "x", "index_id": index_id, "sql_query": RULE});
    for path in ["rules", "features"] {
        let uri = format!("/concepts/1/{path}");
        assert_eq!(site.refused(Method::POST, &uri, body(9)).await.2, "Index with ID 9 not found");
        let foreign = site.refused(Method::POST, &uri, body(2)).await;
        assert_eq!((foreign.0, foreign.2.as_str()), (400, "Index with ID 2 does not belong to concept 1"));
        assert_eq!(site.refused(Method::POST, &uri, json!({"name": "x", "index_id": 1, "sql_query": "VACUUM"})).await.0, 400);
    }
    let unmade = site.refused(Method::POST, "/concepts/2/rules", body(2)).await;
    assert_eq!((unmade.0, unmade.2.as_str()), (400, "Index with ID 2 must be materialized before creating rules"));
    assert_eq!(site.post("/concepts/2/features", body(2)).await["feature_id"], 2);

    let rule = site.get("/concepts/1/rules/1").await;
    let fields = [
        "r_id",
        "c_id",
        "index_id",
        "name",
        "sql_query",
        "index_column",
        "query_template_params",
        "partition_type",
        "partition_config",
        "storage_path",
        "is_materialized",
        "materialized_at",
        "row_count",
        "column_stats",
        "created_at",
        "updated_at",
    ];
    assert_eq!(keys(&rule), BTreeSet::from(fields));
    let new = json!({"name": "mean_session_duration", "index_id": 1, "sql_query": RULE, "index_column": "mac_address",
        "columns": ["mean_interval"], "description": "in seconds", "level": 1});
    let feature = site.post("/concepts/1/features", new.clone()).await;
    new.as_object().expect("an object").iter().for_each(|(name, value)| assert_eq!(&feature[name], value));
    let mut expected = BTreeSet::from(fields);
    expected.remove("r_id");
    expected.extend(["feature_id", "description", "columns", "level"]);
    assert_eq!(keys(&feature), expected);
    let changed = site.patch("/concepts/1/features/3", json!({"columns": null, "level": null, "description": "x", "index_id": 2})).await;
    assert_eq!((&changed["columns"], &changed["level"], &changed["index_id"]), (&Value::Null, &Value::Null, &json!(1)));
    assert_eq!(site.refused(Method::PATCH, "/concepts/1/features/3", json!({"columns": [1]})).await.2, "columns: must be a list of texts");
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_need_stays_and_they_are_named() {
    let site = Site::furnished().await;
    let refused = async |uri: &str| site.refused(Method::DELETE, uri, Value::Null).await;
    let in_use = |detail: &str| (400, "in_use".to_owned(), detail.to_owned());
    assert_eq!(refused("/database-connections/1").await, in_use("Database connection 'db' is in use by index 'i' (1)"));
    assert_eq!(refused("/concepts/1/indexes/1").await, in_use("Index 'i' is in use by rule 'r' (1), feature 'f' (1)"));
    for n in 0..6 {
        site.post("/concepts/1/features", json!({"name": format!("g{n}"), "index_id": 1, "sql_query": RULE})).await;
    }
    site.delete("/concepts/1/rules/1").await;
    let (_, _, detail) = refused("/concepts/1/indexes/1").await;
    assert!(detail.ends_with("feature 'g3' (5) and 2 more"), "{detail}");
    for id in 1..=7 {
        site.delete(&format!("/concepts/1/features/{id}")).await;
    }
    site.delete("/concepts/1/indexes/1").await;
    site.delete("/concepts/1/values/1").await;
    site.delete("/database-connections/1").await;
    assert_eq!(site.get("/concepts/1/catalog").await, json!({"indexes": [], "rules": []}));
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concept_goes_with_everything_that_belongs_to_it_and_its_objects() {
    let site = Site::furnished().await;
    let store = site.0.store.clone();
    for object in ["indexes/index_1/data.parquet", "indexes/index_10/data.parquet", "rules/rule_1/data.parquet"] {
        store.replace(object, "rows".into()).await.expect("written");
    }
    site.post("/concepts", json!({"name": "d"})).await;
    site.delete("/concepts/1").await;
    for path in [
        "",
        "/values",
        "/values/1",
        "/indexes",
        "/indexes/1",
        "/rules",
        "/rules/1",
        "/features",
        "/features/1",
        "/catalog",
        "/catalog/materialized",
        "/catalog/stats",
    ] {
        let missing = site.refused(Method::GET, &format!("/concepts/1{path}"), Value::Null).await;
        assert_eq!((missing.0, missing.2.as_str()), (404, "Concept with ID 1 not found"), "{path}");
    }
    let documents = ["concept", "concept_value", "concept_index", "concept_rule", "concept_feature"];
    let left: usize = documents.iter().map(|kind| site.0.service.documents(kind).len()).sum();
    assert_eq!(left, 1, "the other concept");
    let begun = std::time::Instant::now();
    loop {
        let left: Vec<String> = store.list("", None).await.expect("a list").into_iter().map(|object| object.name).collect();
        if left == ["indexes/index_10/data.parquet"] {
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "{left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    site.delete("/database-connections/1").await;
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_resource_is_found_in_its_own_concept_alone() {
    let site = Site::furnished().await;
    site.post("/concepts", json!({"name": "d"})).await;
    for (path, name) in [("values", "Concept value"), ("indexes", "Index"), ("rules", "Rule"), ("features", "Feature")] {
        for (c_id, what) in [(2, format!("{name} with ID 1 not found")), (7, "Concept with ID 7 not found".to_owned())] {
            let uri = format!("/concepts/{c_id}/{path}/1");
            for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({"name": "x"})), (Method::DELETE, Value::Null)] {
                let missing = site.refused(method.clone(), &uri, body).await;
                assert_eq!((missing.0, missing.2.as_str()), (404, what.as_str()), "{method} {uri}");
            }
        }
        assert_eq!(site.get(&format!("/concepts/2/{path}")).await, json!([]));
        let body = json!({"name": "x", "index_id": 1, "conn_id": 1, "sql_query": "SELECT 1"});
        for (method, body) in [(Method::GET, Value::Null), (Method::POST, body)] {
            let missing = site.refused(method, &format!("/concepts/7/{path}"), body).await;
            assert_eq!((missing.0, missing.2.as_str()), (404, "Concept with ID 7 not found"));
        }
        assert_eq!(site.get(&format!("/concepts/1/{path}/1")).await["c_id"], 1, "nothing was changed by way of another");
    }
    site.0.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_counts_indexes_and_rules() {
    let site = Site::furnished().await;
    site.materialize(1, Some(1), 40).await;
    site.post("/concepts/1/rules", json!({"name": "s", "index_id": 1, "sql_query": RULE})).await;
    site.post("/concepts/1/indexes", json!({"name": "j", "conn_id": 1, "sql_query": "SELECT 1"})).await;
    let asset = |id: u64, name: &str, rows: Option<u64>, folder: &str| {
        let path = rows.map(|_| format!("s3://bucket/{folder}_{id}/data.parquet"));
        json!({"id": id, "name": name, "is_materialized": rows.is_some(), "row_count": rows, "storage_path": path})
    };
    let (index, rule) = (asset(1, "i", Some(300), "indexes/index"), asset(1, "r", Some(40), "rules/rule"));
    let all = json!({"indexes": [index, asset(2, "j", None, "")], "rules": [rule, asset(2, "s", None, "")]});
    assert_eq!(site.get("/concepts/1/catalog").await, all);
    assert_eq!(site.get("/concepts/1/catalog/materialized").await, json!({"indexes": [index], "rules": [rule]}));
    let counts = |rows: u64| json!({"total": 2, "materialized": 1, "unmaterialized": 1, "total_rows": rows});
    let stats = json!({"concept_id": 1, "indexes": counts(300), "rules": counts(40),
        "summary": {"total_assets": 4, "materialized_assets": 2, "total_data_rows": 340}});
    assert_eq!(site.get("/concepts/1/catalog/stats").await, stats);
    site.0.service.stop().await;
}
