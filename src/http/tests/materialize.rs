//! Materialisation on the real service: from queries in a real PostgreSQL, a real MariaDB and live tables to tables and records.

use super::real::Real;
use crate::http::config::HttpConfig;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use desireline_connectors::store::Store;
use desireline_connectors::table;
use desireline_sql::SqlError;
use desireline_sql::live::{Limits, LogicalTime, TableRequest, Tables};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tower::ServiceExt;

static NAMES: AtomicU32 = AtomicU32::new(0);

fn name() -> String {
    format!("extraction_test_{}_{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

fn variable(name: &str) -> Option<url::Url> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(!std::env::var("DESIRELINE_TEST_SERVICES").is_ok_and(|value| value == "required"), "{name} is missing");
        eprintln!("skipped, for want of {name}");
    }
    value.map(|value| value.parse().expect("a URL"))
}

/// A service with a concept.
struct Site(Real);

impl Site {
    async fn new() -> Self {
        let site = Self(Real::set(HttpConfig::default(), &[]).await);
        site.post("/concepts", json!({"name": "devices"})).await;
        site
    }

    async fn ask(&self, method: Method, uri: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(uri).header("host", "localhost").header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.0.router.clone().oneshot(request.body(body).expect("a request")).await.expect("infallible");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 8 << 20).await.expect("a body");
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") })
    }

    async fn expect(&self, method: Method, uri: &str, body: Value, status: u16) -> Value {
        let (found, reply) = self.ask(method, uri, &body).await;
        assert_eq!(found, status, "{uri} {body}: {reply}");
        reply
    }

    async fn get(&self, uri: &str) -> Value {
        self.expect(Method::GET, uri, Value::Null, 200).await
    }

    async fn post(&self, uri: &str, body: Value) -> Value {
        self.expect(Method::POST, uri, body, 201).await
    }

    /// A connection to where a URL leads. Gives its number.
    async fn connect(&self, kind: &str, url: &url::Url) -> u64 {
        let body = json!({
            "name": name(), "connection_type": kind, "host": url.host_str(), "port": url.port(),
            "database": url.path().trim_start_matches('/'), "user": url.username(), "password": url.password().unwrap_or("secret-word"),
        });
        self.post("/database-connections", body).await["conn_id"].as_u64().expect("a number")
    }

    async fn index(&self, conn_id: u64, sql: &str, params: Value) -> String {
        let body = json!({"name": name(), "conn_id": conn_id, "sql_query": sql, "query_template_params": params});
        format!("/concepts/1/indexes/{}", self.post("/concepts/1/indexes", body).await["index_id"])
    }

    async fn rule(&self, index: &str, sql: &str, column: Value) -> String {
        let index_id: u64 = index.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a number");
        let body = json!({"name": name(), "index_id": index_id, "sql_query": sql, "index_column": column});
        format!("/concepts/1/rules/{}", self.post("/concepts/1/rules", body).await["r_id"])
    }

    async fn begin(&self, record: &str) -> String {
        let reply = self.expect(Method::POST, &format!("{record}/materialize"), Value::Null, 200).await;
        assert_eq!(reply["status"], "STARTED");
        assert_eq!(reply.as_object().expect("an object").len(), 3);
        reply["dagster_run_id"].as_str().expect("a run").to_owned()
    }

    async fn until(&self, run: &str, is_wanted: impl Fn(&str) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.get(&format!("/dagster/runs/{run}")).await;
            if is_wanted(found["status"].as_str().expect("a word")) {
                return found;
            }
            assert!(Instant::now() < deadline, "{found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Materialises a record and gives it.
    async fn materialized(&self, record: &str) -> Value {
        let run = self.begin(record).await;
        let ended = self.until(&run, |status| !["PENDING", "STARTED"].contains(&status)).await;
        assert_eq!(ended["status"], "SUCCESS", "{ended}");
        self.get(record).await
    }

    /// Why a materialisation fails.
    async fn failed(&self, record: &str) -> String {
        let run = self.begin(record).await;
        let ended = self.until(&run, |status| !["PENDING", "STARTED"].contains(&status)).await;
        assert_eq!(ended["status"], "FAILURE", "{ended}");
        assert_eq!(self.get(record).await["is_materialized"], false);
        ended["error_message"].as_str().expect("a reason").to_owned()
    }

    /// The rows of a record's table.
    async fn table(&self, record: &Value) -> RecordBatch {
        let path = record["storage_path"].as_str().expect("a path");
        let (folder, object) =
            path.split_at(path.find("/indexes/").or(path.find("/rules/")).or(path.find("/features/")).expect("a folder"));
        let store = Store::open(folder, &std::collections::BTreeMap::new()).expect("opens");
        let (_, batches) = table::read(&store, object.trim_start_matches('/'), None).await.expect("reads");
        batches.into_iter().next().expect("rows")
    }
}

const SESSIONS: &str = "(mac_address varchar(17), space_id int, start_time timestamp, end_time timestamp)";
const ROWS: &str = "('a', 1, '2024-01-01 10:00:00', '2024-01-01 11:00:00'), ('a', 2, '2024-01-01 12:00:00', '2024-01-01 15:00:00'), \
    ('it''s', 1, '2024-01-02 10:00:00', '2024-01-02 10:30:00'), (NULL, 1, '2024-01-02 10:00:00', '2024-01-02 10:30:00'), \
    ('{{ c }}', 3, '2025-01-02 10:00:00', '2025-01-02 10:30:00')";

async fn postgres(url: &url::Url) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_workflow_of_queries_runs_in_postgres() {
    let Some(url) = variable("DATABASE_URL") else { return };
    let (site, client, table) = (Site::new().await, postgres(&url).await, name());
    client.batch_execute(&format!("CREATE TABLE {table} {SESSIONS}; INSERT INTO {table} VALUES {ROWS}")).await.expect("creates");
    let conn_id = site.connect("postgresql", &url).await;
    let tested = site.expect(Method::POST, &format!("/database-connections/{conn_id}/test"), Value::Null, 200).await;
    assert_eq!(tested, json!({"status": "success", "message": "Connection successful"}));

    let sql = format!("SELECT mac_address, space_id FROM {table} WHERE start_time < '{{{{ year }}}}-01-01' ORDER BY start_time, space_id;");
    let index = site.index(conn_id, &sql, json!({"year": 2025})).await;
    let body = json!({"name": "early", "index_id": 1, "sql_query": "SELECT 1"});
    let early = site.expect(Method::POST, "/concepts/1/rules", body, 400).await;
    assert!(early["detail"].as_str().expect("a text").contains("must be materialized"), "{early}");
    let record = site.materialized(&index).await;
    assert_eq!((&record["is_materialized"], &record["row_count"]), (&json!(true), &json!(4)));
    assert!(record["storage_path"].as_str().expect("a path").ends_with("/indexes/index_1/data.parquet"), "{record}");
    assert_eq!(record["column_stats"]["mac_address"], {
        json!({"dtype": "object", "null_count": 1, "unique_count": 2, "top_values": {"a": 2, "it's": 1}})
    });
    assert_eq!(record["column_stats"]["space_id"]["mean"], 1.25);

    let sql = format!(
        "WITH connections AS (SELECT mac_address, SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 THEN 1 ELSE 0 END) \
         * 1.0 / COUNT(*) AS connection_count, COUNT(DISTINCT(space_id)) AS distinct_ap FROM {table} WHERE mac_address IN (:index_values) \
         GROUP BY mac_address) SELECT mac_address, connection_count, distinct_ap FROM connections ORDER BY 1;"
    );
    let rule = site.rule(&index, &sql, Value::Null).await;
    let record = site.materialized(&rule).await;
    assert_eq!(record["row_count"], 2);
    let rows = site.table(&record).await;
    assert_eq!(rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "it's"]);
    assert_eq!(rows.column(1).as_primitive::<arrow_array::types::Float64Type>().values(), &[0.5, 1.0]);

    let body = json!({"name": "all", "index_id": 1, "index_column": "space_id",
        "sql_query": format!("SELECT count(*) AS n FROM {table} WHERE space_id IN (:index_values)")});
    let feature = format!("/concepts/1/features/{}", site.post("/concepts/1/features", body).await["feature_id"]);
    assert_eq!(site.table(&site.materialized(&feature).await).await.column(0).as_primitive::<arrow_array::types::Int64Type>().value(0), 4);
    client.batch_execute(&format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn a_workflow_of_queries_runs_in_mariadb() {
    let Some(url) = variable("MARIADB_URL") else { return };
    let (site, table) = (Site::new().await, name());
    let mut conn = mysql_async::Conn::from_url(url.as_str()).await.expect("connects");
    conn.query_drop(format!("CREATE TABLE {table} {}", SESSIONS.replace("timestamp", "datetime"))).await.expect("creates");
    conn.query_drop(format!("INSERT INTO {table} VALUES {ROWS}")).await.expect("inserts");
    let conn_id = site.connect("mysql", &url).await;
    let tested = site.expect(Method::POST, &format!("/database-connections/{conn_id}/test"), Value::Null, 200).await;
    assert_eq!(tested["status"], "success", "{tested}");
    let index = site.index(conn_id, &format!("SELECT mac_address FROM {table}"), Value::Null).await;
    assert_eq!(site.materialized(&index).await["row_count"], 5);
    let sql = format!("SELECT mac_address, COUNT(*) AS n FROM {table} WHERE mac_address IN (:index_values) GROUP BY mac_address");
    let rule = site.rule(&index, &sql, json!("mac_address")).await;
    assert_eq!(site.materialized(&rule).await["row_count"], 3);
    conn.query_drop(format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn what_cannot_be_asked_fails_with_its_reason() {
    let Some(url) = variable("DATABASE_URL") else { return };
    let site = Site::new().await;
    let conn_id = site.connect("postgresql", &url).await;
    for (sql, params, reason) in [
        ("SELECT 1 AS a\nWHERE 1 = {{ year }}", json!({"month": 1}), "line 2: `year` is undefined"),
        ("SELECT a FROM no_such_table", Value::Null, "no_such_table"),
        ("WITH x AS (SELECT {{ a }}) DELETE FROM t", json!({"a": 1}), "only read"),
        ("SELECT 1; SELECT {{ a }}", json!({"a": 1}), "one statement"),
        ("SELECT :index_values", Value::Null, "no index"),
        ("SELECT point(1, 2) AS place", Value::Null, "`place`"),
    ] {
        let index = site.index(conn_id, sql, params).await;
        let error = site.failed(&index).await;
        assert!(error.contains(reason), "{sql}: {error}");
    }
    let index = site.index(conn_id, "SELECT 'x' AS a, 1 AS b", Value::Null).await;
    site.materialized(&index).await;
    let rule = site.rule(&index, "SELECT 1 WHERE 'x' IN (:index_values)", json!("c")).await;
    let error = site.failed(&rule).await;
    assert!(error.contains("Column 'c' not found") && error.contains("a, b"), "{error}");
}

#[tokio::test]
async fn nothing_is_asked_for_an_index_without_values() {
    let Some(url) = variable("DATABASE_URL") else { return };
    let site = Site::new().await;
    let conn_id = site.connect("postgresql", &url).await;
    let index = site.index(conn_id, "SELECT NULL::text AS mac FROM generate_series(1, 3)", Value::Null).await;
    assert_eq!(site.materialized(&index).await["row_count"], 3);
    let rule = site.rule(&index, "SELECT a FROM no_such_table WHERE a IN (:index_values)", Value::Null).await;
    let record = site.materialized(&rule).await;
    assert_eq!((&record["row_count"], &record["column_stats"]["mac"]["null_count"]), (&json!(0), &json!(0)), "{record}");
}

/// Waits until a statement with this tag runs, or does not.
async fn statement(client: &tokio_postgres::Client, tag: &str, runs: bool) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid() AND state = 'active'";
    let deadline = Instant::now() + Duration::from_secs(20);
    while (client.query_one(sql, &[&tag]).await.expect("answers").get::<_, i64>(0) > 0) != runs {
        assert!(Instant::now() < deadline, "the statement should {}run", if runs { "" } else { "not " });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cancelled_run_cancels_its_statement() {
    let Some(url) = variable("DATABASE_URL") else { return };
    let (site, client, tag) = (Site::new().await, postgres(&url).await, name());
    let conn_id = site.connect("postgresql", &url).await;
    let index = site.index(conn_id, &format!("SELECT /* {tag} */ pg_sleep(600)"), Value::Null).await;
    let run = site.begin(&index).await;
    statement(&client, &tag, true).await;
    site.expect(Method::POST, &format!("/dagster/runs/{run}/cancel"), Value::Null, 200).await;
    statement(&client, &tag, false).await;
    assert_eq!(site.until(&run, |status| status != "STARTED").await["status"], "CANCELLED");
    assert_eq!(site.get(&index).await["is_materialized"], false);
}

#[tokio::test]
async fn rows_of_a_query_that_was_changed_meanwhile_do_not_count() {
    let Some(url) = variable("DATABASE_URL") else { return };
    let (site, client, tag) = (Site::new().await, postgres(&url).await, name());
    let conn_id = site.connect("postgresql", &url).await;
    let lock = NAMES.fetch_add(1, Ordering::Relaxed) as i32;
    client.execute("SELECT pg_advisory_lock($1, $2)", &[&(std::process::id() as i32), &lock]).await.expect("locks");
    let sql = format!("SELECT /* {tag} */ 1 AS a FROM (SELECT pg_advisory_lock({}, {lock})) x", std::process::id());
    let index = site.index(conn_id, &sql, Value::Null).await;
    let run = site.begin(&index).await;
    statement(&client, &tag, true).await;
    site.expect(Method::PATCH, &index, json!({"sql_query": "SELECT 1 AS b UNION ALL SELECT 2"}), 200).await;
    let newer = site.begin(&index).await;
    client.execute("SELECT pg_advisory_unlock_all()", &[]).await.expect("unlocks");
    assert_eq!(site.until(&run, |status| status != "STARTED").await["status"], "SUCCESS");
    assert_eq!(site.until(&newer, |status| !["PENDING", "STARTED"].contains(&status)).await["status"], "SUCCESS");
    let record = site.get(&index).await;
    assert_eq!((&record["row_count"], record["column_stats"].get("b").is_some()), (&json!(2), true), "{record}");
}

#[tokio::test]
async fn an_outage_is_waited_out_and_a_mistake_is_not() {
    let site = Site::new().await;
    let nowhere: url::Url = "postgres://u@127.0.0.1:1/d".parse().expect("a URL");
    let conn_id = site.connect("postgresql", &nowhere).await;
    let tested = site.expect(Method::POST, &format!("/database-connections/{conn_id}/test"), Value::Null, 200).await;
    let message = tested["message"].as_str().expect("a text");
    assert!(tested["status"] == "failed" && message.starts_with("OperationalError: ") && !message.contains("secret-word"), "{message}");
    let index = site.index(conn_id, "SELECT 1 AS a", Value::Null).await;
    let run = site.begin(&index).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let logs = site.get(&format!("/dagster/runs/{run}/logs")).await.to_string();
        assert!(!logs.contains("secret-word"), "{logs}");
        if logs.contains("database_unavailable") {
            break;
        }
        assert!(Instant::now() < deadline, "{logs}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.get(&format!("/dagster/runs/{run}")).await["status"], "STARTED");
    site.expect(Method::POST, &format!("/dagster/runs/{run}/cancel"), Value::Null, 200).await;

    let conn_id = site.connect("oracle", &nowhere).await;
    let tested = site.expect(Method::POST, &format!("/database-connections/{conn_id}/test"), Value::Null, 200).await;
    assert_eq!(tested, json!({"status": "failed", "message": "ValueError: Unsupported connection type: oracle"}));
    let index = site.index(conn_id, "SELECT 1 AS a", Value::Null).await;
    assert!(site.failed(&index).await.contains("Unsupported connection type: oracle"));
}

/// One table, at one time.
struct Visits;

#[async_trait]
impl Tables for Visits {
    fn schema(&self, table: &str) -> Option<SchemaRef> {
        (table == "visits").then(|| visits().schema())
    }

    fn names(&self) -> Vec<String> {
        vec!["visits".to_owned()]
    }

    fn key_column(&self, _: &str) -> Option<&str> {
        Some("mac")
    }

    async fn read(&self, tables: &[TableRequest]) -> Result<(LogicalTime, Vec<Vec<RecordBatch>>), SqlError> {
        Ok((1_700_000_000_000, tables.iter().map(|_| vec![visits()]).collect()))
    }
}

fn visits() -> RecordBatch {
    let macs: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
    let rooms: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    RecordBatch::try_from_iter([("mac", macs), ("room", rooms)]).expect("columns of one length")
}

#[tokio::test]
async fn live_tables_are_asked_without_a_database() {
    let site = Site::new().await;
    site.0.concepts.set_live(Arc::new(Visits), Limits::default());
    let tested = site.expect(Method::POST, "/database-connections/0/test", Value::Null, 200).await;
    assert_eq!(tested["status"], "success");
    let index = site.index(0, "SELECT DISTINCT mac FROM visits ORDER BY mac", Value::Null).await;
    assert_eq!(site.materialized(&index).await["row_count"], 2);
    let rule =
        site.rule(&index, "SELECT mac, COUNT(*) AS n FROM visits WHERE mac IN (:index_values) GROUP BY mac ORDER BY mac", Value::Null);
    let record = site.materialized(&rule.await).await;
    assert_eq!(record["row_count"], 2);
    assert_eq!(record["column_stats"]["n"]["max"], 2);
    let index = site.index(0, "SELECT nothing FROM visits", Value::Null).await;
    assert!(site.failed(&index).await.contains("nothing"));
}

#[tokio::test]
async fn what_is_not_there_cannot_be_materialized() {
    let site = Site::new().await;
    for path in [
        "/concepts/1/indexes/7/materialize",
        "/concepts/9/indexes/1/materialize",
        "/concepts/1/rules/7/materialize",
        "/concepts/1/features/7/materialize",
        "/database-connections/7/test",
    ] {
        let reply = site.expect(Method::POST, path, Value::Null, 404).await;
        assert!(reply["detail"].as_str().expect("a text").contains("not found"), "{reply}");
    }
}
