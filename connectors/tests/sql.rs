//! Queries in a real PostgreSQL and a real MariaDB: types, keys, limits, and what must not happen.
//!
//! They need both: `scripts/test` starts them and sets the variables. Without them each test says on stderr that it was skipped; with
//! `DESIRELINE_TEST_SERVICES=required` that is a failure. By hand: `eval "$(scripts/services start postgres mariadb)"` and
//! `cargo test -p desireline-connectors --test sql`.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;
use desireline_connectors::sql::{Kind, QueryLimits, SqlError, Target, ping, query};
use futures::{StreamExt, TryStreamExt};
use mysql_async::prelude::Queryable;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use url::Url;

static NAMES: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has.
fn name() -> String {
    format!("sql_test_{}_{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

fn variable(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    if value.is_none() {
        assert!(std::env::var("DESIRELINE_TEST_SERVICES").unwrap_or_default() != "required", "{variable} is not set");
        // Past the test harness's capture, so that nobody takes a skipped test for a passed one.
        writeln!(std::io::stderr(), "SKIPPED: {variable} is not set; scripts/test sets it").expect("stderr is open");
    }
    value
}

fn target_of(kind: Kind, url: &str) -> Target {
    let url = Url::parse(url).expect("a URL");
    Target {
        kind,
        host: url.host_str().expect("a host").to_owned(),
        port: url.port().expect("a port"),
        database: url.path().trim_start_matches('/').to_owned(),
        user: url.username().to_owned(),
        password: url.password().unwrap_or("secret-word").to_owned(),
    }
}

/// A database, and a connection beside the one that is tested.
struct Postgres {
    target: Target,
    client: tokio_postgres::Client,
}

async fn postgres() -> Option<Postgres> {
    let url = variable("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    Some(Postgres { target: target_of(Kind::Postgres, &url), client })
}

struct MariaDb {
    target: Target,
    conn: mysql_async::Conn,
}

async fn mariadb() -> Option<MariaDb> {
    let url = variable("MARIADB_URL")?;
    let conn = mysql_async::Conn::from_url(&url).await.expect("connects");
    Some(MariaDb { target: target_of(Kind::MySql, &url), conn })
}

fn pieces(sql: &str) -> Vec<String> {
    sql.split(":index_values").map(str::to_owned).collect()
}

async fn all(target: &Target, sql: &str, keys: Option<ArrayRef>, limits: &QueryLimits) -> Result<RecordBatch, SqlError> {
    let (schema, rows): (SchemaRef, _) = query(target, &pieces(sql), keys, limits).await?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    Ok(concat_batches(&schema, &batches).expect("one schema"))
}

async fn rows(target: &Target, sql: &str) -> RecordBatch {
    all(target, sql, None, &QueryLimits::default()).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn refused(target: &Target, sql: &str) -> SqlError {
    all(target, sql, None, &QueryLimits::default()).await.expect_err(sql)
}

fn text(batch: &RecordBatch, column: usize) -> &str {
    batch.column(column).as_string::<i32>().value(0)
}

fn float(batch: &RecordBatch, column: usize) -> f64 {
    batch.column(column).as_primitive::<Float64Type>().value(0)
}

fn int(batch: &RecordBatch, column: usize) -> i64 {
    batch.column(column).as_primitive::<Int64Type>().value(0)
}

/// Waits until a question is answered with yes.
async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn postgres_gives_its_types() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let mood = name();
    client.batch_execute(&format!("CREATE TYPE {mood} AS ENUM ('calm', 'loud')")).await.expect("creates");
    let batch = rows(
        &target,
        &format!(
            "SELECT true, 1::int2, 2::int4, 3::int8, 0.1::float4, 0.2::float8, 12345.678::numeric, 'a'::text, 'b'::varchar(9), \
             'c'::char(3), '00000000-0000-0000-0000-00000000002a'::uuid, '{{\"x\": 1}}'::json, '{{\"y\":2}}'::jsonb, 'calm'::{mood}, \
             '\\x00ff'::bytea, '2024-01-02'::date, '01:02:03.5'::time, '2024-01-02 03:04:05.000006'::timestamp, \
             '2024-01-02 03:04:05+01'::timestamptz, '1 day 00:00:01.5'::interval, 'aa:bb:cc:dd:ee:ff'::macaddr, '10.0.0.1'::inet, \
             NULL::int4, NULL, 'infinity'::timestamp, 'NaN'::numeric, current_setting('TimeZone')"
        ),
    )
    .await;
    client.batch_execute(&format!("DROP TYPE {mood}")).await.expect("drops");
    assert!(batch.column(0).as_boolean().value(0));
    assert_eq!([1, 2, 3].map(|at| int(&batch, at)), [1, 2, 3]);
    assert_eq!([4, 5, 6, 19].map(|at| float(&batch, at)), [0.1, 0.2, 12_345.678, 86_401.5]);
    let texts = ["a", "b", "c  ", "00000000-0000-0000-0000-00000000002a", "{\"x\": 1}", "{\"y\": 2}", "calm"];
    assert_eq!([7, 8, 9, 10, 11, 12, 13].map(|at| text(&batch, at)), texts);
    assert_eq!(batch.column(14).as_binary::<i32>().value(0), [0, 255]);
    assert_eq!(batch.column(15).as_primitive::<Date32Type>().value(0), 19_724);
    assert_eq!(batch.column(16).as_primitive::<Time64MicrosecondType>().value(0), 3_723_500_000);
    assert_eq!(batch.column(17).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_164_645_000_006);
    assert_eq!(batch.column(18).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_161_045_000_000);
    assert_eq!(batch.column(17).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(batch.column(18).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!([20, 21].map(|at| text(&batch, at)), ["aa:bb:cc:dd:ee:ff", "10.0.0.1"]);
    assert!([22, 23, 24].iter().all(|at| batch.column(*at).is_null(0)));
    assert!(float(&batch, 25).is_nan());
    assert_eq!(text(&batch, 26), "UTC");
    let names: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).take(3).collect();
    assert_eq!(names, ["?column?", "int2", "int4"]);
}

#[tokio::test]
async fn postgres_names_what_it_cannot_give() {
    let Some(Postgres { target, .. }) = postgres().await else { return };
    let batch = rows(&target, "SELECT 1 AS a, 2 AS b, 3 AS a").await;
    assert_eq!(batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["a", "b", "a_2"]);
    let error = refused(&target, "SELECT 1 AS a, point(1, 2) AS place").await;
    assert_eq!(error, SqlError::Unsupported { column: "place".to_owned(), type_name: "point".to_owned() });
    assert_eq!(refused(&target, "SELECT nothing FROM nowhere").await.code(), "database_missing");
    assert_eq!(refused(&target, "SELECT FROM WHERE").await.code(), "database_invalid");
    assert_eq!(refused(&target, "SELECT 1 / (i - 3) FROM generate_series(1, 5) i").await.code(), "database_data");
    let empty = rows(&target, "SELECT 1 AS a WHERE false").await;
    assert_eq!((empty.num_rows(), empty.num_columns()), (0, 1));
}

/// Texts that would do harm if they were more than data.
fn strange_keys() -> ArrayRef {
    Arc::new(StringArray::from(vec![
        Some("it's"),
        Some("\"quoted\""),
        Some("back\\slash"),
        Some("{{ braces }}"),
        Some("'); DROP TABLE t; --"),
        Some(""),
        Some("{a,b}"),
        Some("é\u{1f600}"),
        None,
        Some("NULL"),
        Some("new\nline"),
        Some(":index_values"),
    ]))
}

#[tokio::test]
async fn postgres_takes_keys_as_data_of_the_type_of_the_column() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let table = name();
    client.batch_execute(&format!("CREATE TABLE {table} (t text, i int4, u uuid, n numeric)")).await.expect("creates");
    let keys = strange_keys();
    for key in keys.as_string::<i32>().iter().flatten() {
        client
            .execute(&format!("INSERT INTO {table} VALUES ($1, length($1::text), gen_random_uuid(), 1.5)"), &[&key])
            .await
            .expect("inserts");
    }
    client.batch_execute(&format!("INSERT INTO {table} VALUES ('other', 100, NULL, 2), (NULL, NULL, NULL, NULL)")).await.expect("inserts");
    let limits = QueryLimits::default();
    let ask = |sql: String, keys: ArrayRef| {
        let (target, limits) = (target.clone(), limits.clone());
        async move { int(&all(&target, &sql, Some(keys), &limits).await.unwrap_or_else(|error| panic!("{sql}: {error}")), 0) }
    };
    assert_eq!(ask(format!("SELECT count(*) FROM {table} WHERE t IN (:index_values)"), keys.clone()).await, 11);
    assert_eq!(ask(format!("SELECT count(*) FROM {table} WHERE t NOT IN (:index_values)"), keys.clone()).await, 1);
    let twice = format!("SELECT count(*) FROM {table} WHERE t IN (:index_values) AND t = ANY (:index_values)");
    assert_eq!(ask(twice, keys.clone()).await, 11);
    assert_eq!(ask(format!("SELECT count(*) FROM {table} a JOIN (:index_values) AS k (v) ON k.v = a.t"), keys).await, 11);
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![100, 0, 7]));
    assert_eq!(ask(format!("SELECT count(*) FROM {table} WHERE i IN (:index_values)"), ints.clone()).await, 2);
    assert_eq!(ask(format!("SELECT count(*) FROM {table} WHERE n * 50 IN (:index_values)"), ints).await, 1);
    // What was read of this column as text finds its rows again.
    let uuids = rows(&target, &format!("SELECT u FROM {table} WHERE u IS NOT NULL")).await.column(0).clone();
    assert_eq!(ask(format!("SELECT count(*) FROM {table} WHERE u IN (:index_values)"), uuids).await, 11);
    client.batch_execute(&format!("DROP TABLE {table}")).await.expect("drops");
}

fn many_keys() -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..100_000).map(|at| format!("{:012x}", at * 3))))
}

#[tokio::test]
async fn postgres_takes_a_hundred_thousand_keys() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let table = name();
    let make = format!("CREATE TABLE {table} AS SELECT lpad(to_hex(i), 12, '0') AS m, i FROM generate_series(0, 200000) i");
    client.batch_execute(&make).await.expect("creates");
    let sql = format!("SELECT m, count(*) AS c FROM {table} WHERE m IN (:index_values) GROUP BY m");
    let batch = all(&target, &sql, Some(many_keys()), &QueryLimits::default()).await.expect("answers");
    assert_eq!(batch.num_rows(), 200_000 / 3 + 1);
    client.batch_execute(&format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn postgres_only_reads_and_only_one_statement() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let table = name();
    client.batch_execute(&format!("CREATE TABLE {table} (a int); INSERT INTO {table} VALUES (1)")).await.expect("creates");
    for sql in [
        format!("WITH x AS (DELETE FROM {table} RETURNING a) SELECT * FROM x"),
        format!("SELECT 1; DROP TABLE {table}"),
        format!("SELECT 1; COMMIT; DROP TABLE {table}"),
        format!("DELETE FROM {table}"),
        format!("SELECT a INTO {table}_2 FROM {table}"),
        format!("SELECT a FROM {table} FOR UPDATE"),
        "SELECT set_config('transaction_read_only', 'off', false)".to_owned(),
        "COMMIT".to_owned(),
    ] {
        let error = refused(&target, &sql).await;
        assert!(!error.is_retryable(), "{sql}: {error}");
    }
    let left = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.expect("answers").get::<_, i64>(0);
    assert_eq!(left, 1);
    client.batch_execute(&format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn postgres_ends_what_takes_too_long_or_gives_too_much() {
    let Some(Postgres { target, .. }) = postgres().await else { return };
    let begin = Instant::now();
    let limits = QueryLimits { statement_timeout: Duration::from_millis(200), ..QueryLimits::default() };
    let error = all(&target, "SELECT pg_sleep(600)", None, &limits).await.expect_err("it sleeps");
    assert!(error.code() == "database_timed_out" && !error.is_retryable(), "{error}");
    let limits = QueryLimits { rows_max: 100_000, ..QueryLimits::default() };
    let error = all(&target, "SELECT generate_series(1, 1000000000000)", None, &limits).await.expect_err("it is large");
    assert!(error.code() == "result_too_large" && error.to_string().contains("100000 rows"), "{error}");
    let limits = QueryLimits { bytes_max: 10_000_000, ..QueryLimits::default() };
    let error = all(&target, "SELECT repeat('x', 1000000), generate_series(1, 1000000)", None, &limits).await.expect_err("it is large");
    assert!(error.code() == "result_too_large" && error.to_string().contains("10000000 bytes"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn postgres_hears_of_a_stream_that_is_dropped() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let tag = name();
    let active = || async {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid() AND state = 'active'";
        client.query_one(sql, &[&tag]).await.expect("answers").get::<_, i64>(0) > 0
    };
    let (asked, sql) = (target.clone(), format!("SELECT /* {tag} */ pg_sleep(600)"));
    let asking = tokio::spawn(async move { all(&asked, &sql, None, &QueryLimits::default()).await });
    eventually("the statement runs", active).await;
    asking.abort();
    eventually("the statement is cancelled", || async { !active().await }).await;
    let sql = format!("SELECT /* {tag} */ generate_series(1, 1000000000)");
    let (_, mut stream) = query(&target, &[sql], None, &QueryLimits::default()).await.expect("begins");
    stream.next().await.expect("there are rows").expect("they are read");
    assert!(active().await);
    drop(stream);
    eventually("the statement is cancelled", || async { !active().await }).await;
}

#[tokio::test]
async fn a_postgres_that_goes_away_in_the_middle_is_an_outage() {
    let Some(Postgres { target, client }) = postgres().await else { return };
    let tag = name();
    let sql = format!("SELECT /* {tag} */ generate_series(1, 1000000000), repeat('x', 100)");
    let (_, mut stream) = query(&target, &[sql], None, &QueryLimits::default()).await.expect("begins");
    assert_eq!(stream.next().await.expect("there are rows").expect("they are read").num_rows(), 8_192);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()";
    client.query(kill, &[&tag]).await.expect("kills");
    let error = loop {
        if let Err(error) = stream.next().await.expect("it does not just end") {
            break error;
        }
    };
    assert!(error.code() == "database_unavailable" && error.is_retryable(), "{error}");
    assert!(stream.next().await.is_none());
}

async fn is_without_the_password(target: &Target, code: &str, class: &str) {
    let limits = QueryLimits { connect_timeout: Duration::from_secs(5), ..QueryLimits::default() };
    let error = ping(target, &limits).await.expect_err("it cannot work");
    assert_eq!((error.code(), error.class()), (code, class), "{error}");
    let texts = format!("{error} {error:?} {target:?}");
    assert!(!texts.contains("secret-word"), "{texts}");
}

#[tokio::test]
async fn postgres_is_tested_and_no_error_has_the_password() {
    let Some(Postgres { target, .. }) = postgres().await else { return };
    ping(&target, &QueryLimits::default()).await.expect("answers");
    let wrong = |change: &dyn Fn(&mut Target)| {
        let mut wrong = Target { password: "secret-word".to_owned(), ..target.clone() };
        change(&mut wrong);
        wrong
    };
    is_without_the_password(&wrong(&|target| target.port = 1), "database_unavailable", "OperationalError").await;
    is_without_the_password(&wrong(&|target| target.database = "nowhere".to_owned()), "database_denied", "OperationalError").await;
    is_without_the_password(&wrong(&|target| target.user = "nobody".to_owned()), "database_denied", "OperationalError").await;
    is_without_the_password(&wrong(&|target| target.host = "no.such.host.invalid".to_owned()), "database_unavailable", "OperationalError")
        .await;
}

#[tokio::test]
async fn mariadb_gives_its_types() {
    let Some(MariaDb { target, mut conn }) = mariadb().await else { return };
    let table = name();
    let make = format!(
        "CREATE TABLE {table} (a TINYINT(1), b SMALLINT, c INT, d BIGINT, e BIGINT UNSIGNED, f FLOAT, g DOUBLE, h DECIMAL(12, 3), \
         i VARCHAR(20), j TEXT, k ENUM('calm', 'loud'), l JSON, m VARBINARY(4), n DATE, o DATETIME(6), p TIMESTAMP(6) NULL, q TIME(1), \
         r YEAR, s BIT(9), t INT, u INT UNSIGNED) CHARACTER SET utf8mb4"
    );
    conn.query_drop(make).await.expect("creates");
    conn.query_drop("SET time_zone = '+00:00'").await.expect("sets");
    let values = format!(
        "INSERT INTO {table} VALUES (1, -2, 3, 4, 18446744073709551615, 0.1, 0.2, 12345.678, 'a', 'é', 'calm', '{{\"x\": 1}}', X'00ff', \
         '2024-01-02', '2024-01-02 03:04:05.000006', '2024-01-02 03:04:05', '-25:00:01.5', 2024, b'100000001', NULL, 4294967295)"
    );
    conn.query_drop(values).await.expect("inserts");
    let batch = rows(&target, &format!("SELECT *, 1 AS a, NULL, @@time_zone FROM {table}")).await;
    conn.query_drop(format!("DROP TABLE {table}")).await.expect("drops");
    assert_eq!([0, 1, 2, 3, 17, 20].map(|at| int(&batch, at)), [1, -2, 3, 4, 2024, 4_294_967_295]);
    assert_eq!([4, 18].map(|at| batch.column(at).as_primitive::<UInt64Type>().value(0)), [u64::MAX, 257]);
    assert_eq!([5, 6, 7, 16].map(|at| float(&batch, at)), [0.1, 0.2, 12_345.678, -90_001.5]);
    assert_eq!([8, 9, 10, 11].map(|at| text(&batch, at)), ["a", "é", "calm", "{\"x\": 1}"]);
    assert_eq!(batch.column(12).as_binary::<i32>().value(0), [0, 255]);
    assert_eq!(batch.column(13).as_primitive::<Date32Type>().value(0), 19_724);
    assert_eq!(batch.column(14).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_164_645_000_006);
    assert_eq!(batch.column(15).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_164_645_000_000);
    assert_eq!(batch.column(15).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert!(batch.column(19).is_null(0) && batch.column(22).is_null(0));
    assert_eq!(batch.schema_ref().field(21).name(), "a_2");
    assert_eq!(text(&batch, 23), "+00:00");
}

#[tokio::test]
async fn mariadb_takes_keys_as_data() {
    let Some(MariaDb { target, mut conn }) = mariadb().await else { return };
    let table = name();
    let make = format!("CREATE TABLE {table} (t VARCHAR(100) CHARACTER SET utf8mb4, l VARCHAR(20) CHARACTER SET latin1, i INT)");
    conn.query_drop(make).await.expect("creates");
    let keys = strange_keys();
    for key in keys.as_string::<i32>().iter().flatten() {
        conn.exec_drop(format!("INSERT INTO {table} VALUES (?, 'é', CHAR_LENGTH(?))"), (key, key)).await.expect("inserts");
    }
    conn.query_drop(format!("INSERT INTO {table} VALUES ('other', 'b', 100), (NULL, NULL, NULL)")).await.expect("inserts");
    let limits = QueryLimits::default();
    let ask = |sql: String, keys: ArrayRef| {
        let (target, limits) = (target.clone(), limits.clone());
        async move { int(&all(&target, &sql, Some(keys), &limits).await.unwrap_or_else(|error| panic!("{sql}: {error}")), 0) }
    };
    assert_eq!(ask(format!("SELECT COUNT(*) FROM {table} WHERE t IN (:index_values)"), keys.clone()).await, 11);
    assert_eq!(ask(format!("SELECT COUNT(*) FROM {table} WHERE t NOT IN (:index_values)"), keys.clone()).await, 1);
    let twice = format!("SELECT COUNT(*) FROM {table} WHERE t IN (:index_values) AND t IN (:index_values)");
    assert_eq!(ask(twice, keys).await, 11);
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![100, 0, 7]));
    assert_eq!(ask(format!("SELECT COUNT(*) FROM {table} WHERE i IN (:index_values)"), ints).await, 2);
    // Another character set than that of the connection.
    let accents: ArrayRef = Arc::new(StringArray::from(vec!["é", "z"]));
    assert_eq!(ask(format!("SELECT COUNT(*) FROM {table} WHERE l IN (:index_values)"), accents).await, 11);
    let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
    assert_eq!(ask(format!("SELECT COUNT(*) FROM {table} WHERE t NOT IN (:index_values)"), none).await, 13);
    conn.query_drop(format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn mariadb_takes_a_hundred_thousand_keys() {
    let Some(MariaDb { target, mut conn }) = mariadb().await else { return };
    let table = name();
    let make = format!("CREATE TABLE {table} AS SELECT LPAD(LOWER(HEX(seq)), 12, '0') AS m, seq FROM seq_0_to_200000");
    conn.query_drop(make).await.expect("creates");
    let sql = format!("SELECT m, COUNT(*) AS c FROM {table} WHERE m IN (:index_values) GROUP BY m");
    let batch = all(&target, &sql, Some(many_keys()), &QueryLimits::default()).await.expect("answers");
    assert_eq!(batch.num_rows(), 200_000 / 3 + 1);
    conn.query_drop(format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn mariadb_only_reads_and_only_one_statement() {
    let Some(MariaDb { target, mut conn }) = mariadb().await else { return };
    let table = name();
    conn.query_drop(format!("CREATE TABLE {table} (a INT)")).await.expect("creates");
    conn.query_drop(format!("INSERT INTO {table} VALUES (1)")).await.expect("inserts");
    for sql in [
        format!("SELECT 1; DROP TABLE {table}"),
        format!("DELETE FROM {table}"),
        format!("DELETE FROM {table} RETURNING a"),
        format!("SELECT * FROM {table} WHERE a = ?"),
        format!("SELECT a FROM {table} INTO OUTFILE '/tmp/{table}'"),
    ] {
        let error = refused(&target, &sql).await;
        assert!(!error.is_retryable(), "{sql}: {error}");
    }
    let left: Option<i64> = conn.query_first(format!("SELECT COUNT(*) FROM {table}")).await.expect("answers");
    assert_eq!(left, Some(1));
    conn.query_drop(format!("DROP TABLE {table}")).await.expect("drops");
}

#[tokio::test]
async fn mariadb_ends_what_takes_too_long_or_gives_too_much() {
    let Some(MariaDb { target, .. }) = mariadb().await else { return };
    let begin = Instant::now();
    let limits = QueryLimits { statement_timeout: Duration::from_millis(200), ..QueryLimits::default() };
    let error = all(&target, "SELECT SLEEP(600) FROM seq_1_to_1000", None, &limits).await.expect_err("it sleeps");
    assert!(error.code() == "database_timed_out" && !error.is_retryable(), "{error}");
    let limits = QueryLimits { rows_max: 100_000, ..QueryLimits::default() };
    let error = all(&target, "SELECT seq FROM seq_1_to_1000000000", None, &limits).await.expect_err("it is large");
    assert!(error.code() == "result_too_large" && error.to_string().contains("100000 rows"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn mariadb_hears_of_a_stream_that_is_dropped() {
    let Some(MariaDb { target, conn }) = mariadb().await else { return };
    let tag = name();
    let conn = Arc::new(tokio::sync::Mutex::new(conn));
    let active = || {
        let (conn, tag) = (Arc::clone(&conn), tag.clone());
        async move {
            let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE ? AND id <> CONNECTION_ID()";
            let count: Option<i64> = conn.lock().await.exec_first(sql, (format!("%{tag}%"),)).await.expect("answers");
            count.unwrap_or_default() > 0
        }
    };
    let sql = format!("SELECT '{tag}', SLEEP(600)");
    let (_, stream) = query(&target, &[sql], None, &QueryLimits::default()).await.expect("begins");
    eventually("the statement runs", &active).await;
    drop(stream);
    eventually("the statement is cancelled", || async { !active().await }).await;
}

#[tokio::test]
async fn a_mariadb_that_goes_away_in_the_middle_is_an_outage() {
    let Some(MariaDb { target, mut conn }) = mariadb().await else { return };
    let tag = name();
    let sql = format!("SELECT '{tag}', seq FROM seq_1_to_1000000000");
    let (_, mut stream) = query(&target, &[sql], None, &QueryLimits::default()).await.expect("begins");
    assert_eq!(stream.next().await.expect("there are rows").expect("they are read").num_rows(), 8_192);
    let find = "SELECT id FROM information_schema.processlist WHERE info LIKE ? AND id <> CONNECTION_ID()";
    let ids: Vec<u64> = conn.exec(find, (format!("%{tag}%"),)).await.expect("answers");
    for id in ids {
        conn.query_drop(format!("KILL CONNECTION {id}")).await.expect("kills");
    }
    let error = loop {
        if let Err(error) = stream.next().await.expect("it does not just end") {
            break error;
        }
    };
    assert!(error.code() == "database_unavailable" && error.is_retryable(), "{error}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn mariadb_is_tested_and_no_error_has_the_password() {
    let Some(MariaDb { target, .. }) = mariadb().await else { return };
    ping(&target, &QueryLimits::default()).await.expect("answers");
    let wrong = |change: &dyn Fn(&mut Target)| {
        let mut wrong = Target { password: "secret-word".to_owned(), ..target.clone() };
        change(&mut wrong);
        wrong
    };
    is_without_the_password(&wrong(&|_| ()), "database_denied", "OperationalError").await;
    is_without_the_password(&wrong(&|target| target.port = 1), "database_unavailable", "OperationalError").await;
    let nowhere = Target { database: "nowhere".to_owned(), ..target.clone() };
    is_without_the_password(&nowhere, "database_denied", "OperationalError").await;
}

#[tokio::test]
async fn a_statement_with_a_place_for_keys_needs_keys() {
    let target = target_of(Kind::Postgres, "postgres://u@127.0.0.1:1/d");
    for (sql, keys) in [("SELECT :index_values", None), ("SELECT 1", Some(strange_keys()))] {
        let error = all(&target, sql, keys, &QueryLimits::default()).await.expect_err(sql);
        assert_eq!(error.code(), "database_invalid");
    }
}
