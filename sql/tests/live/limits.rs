//! Limits, and lists of keys of any length.

use crate::support::{Memory, Stay, batch, checked, failure, stays, texts};
use desireline_sql::live::{Limits, LiveError, Tables, query};
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ALL: &str = "SELECT mac_address, space_id FROM user_location_trajectory";

fn many(rows: usize) -> Arc<Memory> {
    let rows: Vec<_> = (0..rows).map(|n| (format!("device-{n:06}"), (n % 50) as i32, n as i64 * 1_000_000, None)).collect();
    Memory::new(stays(&rows))
}

async fn error(memory: &Arc<Memory>, sql: &str, limits: &Limits) -> LiveError {
    batch(memory, &checked(sql), None, limits).await.expect_err("a limit")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_read_and_rows_answered_are_limited() {
    let memory = many(300);
    let limits = Limits { rows_read_max: 299, ..Limits::default() };
    assert_eq!(error(&memory, ALL, &limits).await, LiveError::TooManyRowsRead { most: 299 });
    let limits = Limits { rows_max: 299, ..Limits::default() };
    assert_eq!(error(&memory, ALL, &limits).await, LiveError::TooManyRows { most: 299 });
    let exact = Limits { rows_read_max: 300, rows_max: 300, ..Limits::default() };
    assert_eq!(batch(&memory, &checked(ALL), None, &exact).await.expect("no limit is met").num_rows(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_limited() {
    let memory = many(20_000);
    let limits = Limits { memory_bytes_max: 100_000, ..Limits::default() };
    let sql = "SELECT mac_address, COUNT(*) AS n FROM user_location_trajectory GROUP BY mac_address";
    assert!(matches!(error(&memory, sql, &limits).await, LiveError::Memory { bytes: 100_000, .. }));
    // Nothing is written to disk instead.
    let sorted = "SELECT mac_address, start_time FROM user_location_trajectory ORDER BY start_time DESC";
    assert!(matches!(error(&memory, sorted, &limits).await, LiveError::Memory { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_at_its_deadline_and_when_nobody_wants_it() {
    let memory = many(30_000);
    let endless = "SELECT COUNT(*) AS n FROM user_location_trajectory a, user_location_trajectory b, user_location_trajectory c WHERE \
                   a.space_id + b.space_id > c.space_id";
    let limits = Limits { deadline: Duration::from_millis(200), ..Limits::default() };
    let since = Instant::now();
    assert_eq!(error(&memory, endless, &limits).await, LiveError::Deadline { millis: 200 });
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());

    // The thread of a query has the tables; when it has ended nobody else does.
    let tables: Arc<dyn Tables> = memory.clone();
    let (_, _, stream) = query(&tables, &checked(endless), None, &Limits::default()).await.expect("it begins");
    drop((stream, tables));
    let until = Instant::now() + Duration::from_secs(30);
    while Arc::strong_count(&memory) > 1 {
        assert!(Instant::now() < until, "the query goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_keys_are_looked_up_at_once() {
    let memory = many(100_000);
    let names: Vec<String> = (50_000..150_000).map(|n| format!("device-{n:06}")).collect();
    let sql = checked("SELECT mac_address, COUNT(*) AS n FROM user_location_trajectory WHERE mac_address IN (:index_values) GROUP BY 1");
    let since = Instant::now();
    let keys = texts(names.iter().map(String::as_str));
    let found = batch(&memory, &sql, Some(keys), &Limits::default()).await.expect("an answer");
    assert_eq!(found.num_rows(), 50_000);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_rows_has_columns() {
    let memory = Memory::of(&[] as &[Stay<'_>]);
    let statement = checked("SELECT mac_address, COUNT(*) AS n FROM user_location_trajectory GROUP BY 1");
    let found = batch(&memory, &statement, None, &Limits::default()).await.expect("an answer");
    let names: Vec<_> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!((found.num_rows(), names), (0, vec!["mac_address".to_owned(), "n".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_statements_are_answered_or_refused_but_end_nothing() {
    let memory = many(3);
    let long = format!("SELECT {} AS n FROM space WHERE space_id = 1", vec!["1"; 900].join(" + "));
    assert_eq!(batch(&memory, &checked(&long), None, &Limits::default()).await.expect("an answer").num_rows(), 1);
    let wide = format!("SELECT space_id FROM space WHERE {}", vec!["space_id = 1"; 400].join(" OR "));
    assert_eq!(batch(&memory, &checked(&wide), None, &Limits::default()).await.expect("an answer").num_rows(), 1);
    let error = failure(&memory, "SELECT (SELECT space_id FROM space) AS n FROM space", None).await;
    assert!(matches!(error, LiveError::Failed(_)), "a query for one value that has four: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_read_slowly() {
    let memory = many(60_000);
    let tables: Arc<dyn Tables> = memory.clone();
    let (_, _, mut stream) = query(&tables, &checked(ALL), None, &Limits::default()).await.expect("it begins");
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        tokio::task::yield_now().await;
        rows += batch.expect("a batch").num_rows();
    }
    assert_eq!(rows, 60_000);
}
