//! A declared experiment: a rule's rows out of PostgreSQL into a table on the object store, against the query alone.
//!
//! *Work.* A table of sessions (default 1,000,000 rows of 200,000 devices) and an index of half of the devices (default 100,000 keys).
//! *Rule*: per device the number of sessions, of spaces, and the share of short ones: one row per key. *Rows*: every session of the keys,
//! with two texts, two times and a number: as many rows as the database can give.
//! *Limit.* The same statement with the same keys by the same driver in the same process, whose rows are counted and dropped.
//! *Measured.* Wall time from the call to the finished object, the processor time of this process beyond that of the limit in parts of the
//! limit's wall time, and how much the peak of resident memory grows; best of three rounds of each.
//!
//! `DATABASE_URL=… cargo bench -p desireline-connectors --bench extraction`, with `ROWS=…` and `KEYS=…` for other sizes. Wanted for the
//! rule: wall time and processor time within 1.20 of the limit, and a peak that does not grow with the rows of the table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on says why by panicking")]

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, StringArray};
use desireline_connectors::sql::{Kind, QueryLimits, Target, query};
use desireline_connectors::store::Store;
use desireline_connectors::table::{self, TableLimits};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};
use url::Url;

const ROUNDS: usize = 3;

const RULE: &str = "SELECT mac_address, COUNT(*) AS sessions, COUNT(DISTINCT space_id) AS distinct_ap, \
    SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 THEN 1 ELSE 0 END) * 1.0 / COUNT(*) AS short \
    FROM extraction_bench WHERE mac_address IN (:index_values) GROUP BY mac_address";
const ROWS: &str =
    "SELECT mac_address, space_name, start_time, end_time, space_id FROM extraction_bench WHERE mac_address IN (:index_values)";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// The peak of resident memory in MiB, and from now on a new one.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1_024.0
}

#[derive(Clone, Copy)]
struct Round {
    wall: Duration,
    cpu: f64,
    rows: u64,
    peak_mib: f64,
}

/// The best of some rounds.
async fn best<F: Future<Output = u64>>(mut work: impl FnMut() -> F) -> Round {
    let mut best: Option<Round> = None;
    for _ in 0..ROUNDS {
        peak_mib();
        let (begin, begin_cpu) = (Instant::now(), cpu());
        let rows = work().await;
        let round = Round { wall: begin.elapsed(), cpu: cpu() - begin_cpu, rows, peak_mib: peak_mib() };
        if best.is_none_or(|best| round.wall < best.wall) {
            best = Some(round);
        }
    }
    best.unwrap()
}

/// The limit: the rows are counted.
async fn plain(client: &Client, sql: &str, keys: &[&str]) -> u64 {
    let sql = sql.replace("IN (:index_values)", "= ANY ($1)");
    let statement = client.prepare(&sql).await.unwrap();
    let rows = client.query_raw(&statement, [keys]).await.unwrap();
    rows.try_fold(0, |count, row| async move { Ok(count + u64::from(!row.is_empty())) }).await.unwrap()
}

async fn extracted(target: &Target, store: &Store, sql: &str, keys: ArrayRef) -> u64 {
    let pieces: Vec<String> = sql.split(":index_values").map(str::to_owned).collect();
    let (schema, rows) = query(target, &pieces, Some(keys), &QueryLimits::default()).await.unwrap();
    table::write(store, "rules/rule_1/data.parquet", schema, rows, TableLimits::default()).await.unwrap().rows
}

async fn run(url: &str) {
    let (rows, keys) = (number("ROWS", 1_000_000), number("KEYS", 100_000));
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let schema = format!("extraction_bench_{}", std::process::id());
    let make = format!(
        "SET client_min_messages = warning; CREATE SCHEMA {schema}; SET search_path = {schema}; \
         CREATE UNLOGGED TABLE extraction_bench AS SELECT 'aa:bb:' || lpad(to_hex(i::bigint * 7919 % {devices}), 8, '0') AS mac_address, \
         'Room ' || i % 500 AS space_name, timestamp '2024-01-01' + i * interval '1 second' AS start_time, \
         timestamp '2024-01-01' + (i + i % 20000) * interval '1 second' AS end_time, i % 500 AS space_id \
         FROM generate_series(1, {rows}) i; ANALYZE extraction_bench",
        devices = 2 * keys
    );
    client.batch_execute(&make).await.unwrap();
    let texts = StringArray::from_iter_values((0..keys).map(|at| format!("aa:bb:{:08x}", 2 * at)));
    let url = Url::parse(url).unwrap();
    let target = Target {
        kind: Kind::Postgres,
        host: url.host_str().unwrap().to_owned(),
        port: url.port().unwrap_or(5432),
        database: url.path().trim_start_matches('/').to_owned(),
        user: url.username().to_owned(),
        password: url.password().unwrap_or_default().to_owned(),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).unwrap();
    println!("{rows} rows, {keys} keys");
    let array: ArrayRef = Arc::new(texts);
    for (name, sql) in [("rule", RULE), ("rows", ROWS)] {
        let sql = sql.replace("extraction_bench", &format!("{schema}.extraction_bench"));
        let keys: Vec<&str> = array.as_string::<i32>().iter().flatten().collect();
        let limit = best(|| plain(&client, &sql, &keys)).await;
        let ours = best(|| extracted(&target, &store, &sql, array.clone())).await;
        assert_eq!(limit.rows, ours.rows);
        let (wall, limit_wall) = (ours.wall.as_secs_f64(), limit.wall.as_secs_f64());
        println!(
            "{name}: {} rows; wall {wall:.2} s against {limit_wall:.2} s: {:.2} (wanted of the rule: 1.20); processor {:.2} s against {:.2} s: \
             {:+.2} of the query; peak {:.0} MiB against {:.0} MiB",
            ours.rows,
            wall / limit_wall,
            ours.cpu,
            limit.cpu,
            (ours.cpu - limit.cpu) / limit_wall,
            ours.peak_mib,
            limit.peak_mib,
        );
    }
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
}

fn main() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("skipped: DATABASE_URL is not set");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(&url));
}
