//! Occupancy end to end: a year of a building, and a dataset against DuckDB.
//!
//! | experiment | the work | the limit |
//! |---|---|---|
//! | `query` | `GET /api/occupancy` of a building with 100 of 500 rooms, a year of hourly bins, over HTTP from a server that has sealed all but two days, and from one that has sealed nothing | p99 50 ms |
//! | `dataset` | `POST /occupancy/datasets` of 500 rooms and 90 days of hourly bins from the live history, until its results are there | 2 times the wall time in which DuckDB counts the same from one Parquet file |
//!
//! `cargo bench --bench occupancy [-- NAME…]` starts the real binary on a data folder of its own. `DESIRELINE_BENCH_SESSIONS` is the
//! number of sessions of each experiment (3,000,000: 33,000 a day for 90 days, the rate of a campus with 50,000 devices; the year has a
//! quarter of that rate). `dataset` needs the Python environment of `scripts/pydata` for DuckDB.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use desireline_records::Micros;
use desireline_records::time::{DAY, HOUR, MINUTE, SECOND, format_rfc3339, now_micros};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use support::random::Random;
use support::server::Server;
use support::wait::eventually;

const ROOMS: i64 = 500;
const DEVICES: u64 = 50_000;
const QUERY_P99_MS: f64 = 50.0;
const DATASET_TIMES: f64 = 2.0;
/// Rows of one request.
const REQUEST_ROWS: usize = 10_000;

const CAMPUS: i64 = 1;
/// Buildings are 10 … 14, with 100 rooms each: 1000 … 1499.
const BUILDING: i64 = 10;

/// Sessions in the order of their ends, near enough; most by day, one in twenty for hours.
struct Stays {
    random: Random,
    at: Micros,
    gap: Micros,
    left: u64,
}

struct Row {
    device: u64,
    room: i64,
    start: Micros,
    end: Micros,
}

impl Iterator for Stays {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.left = self.left.checked_sub(1)?;
        loop {
            self.at += self.random.below(self.gap as u64) as Micros;
            let hour = self.at.rem_euclid(DAY) / HOUR;
            if (8..20).contains(&hour) || self.random.below(4) == 0 {
                break;
            }
        }
        let length = (5 + self.random.below(55)) as Micros * MINUTE * if self.random.below(20) == 0 { 6 } else { 1 };
        let room = 1_000 + (self.random.below(ROOMS as u64) * self.random.below(ROOMS as u64) / ROOMS as u64) as i64;
        Some(Row { device: self.random.below(DEVICES), room, start: self.at / SECOND * SECOND, end: (self.at + length) / SECOND * SECOND })
    }
}

fn stays(sessions: u64, days: i64, until: Micros) -> Stays {
    let from = until - days * DAY;
    // By night only one in four counts, so that the stretch of time is filled by gaps of this size.
    let gap = 2 * days * DAY * 5 / 8 / sessions.max(1) as Micros;
    Stays { random: Random(11), at: from, gap: gap.max(1), left: sessions }
}

fn mac(device: u64) -> String {
    format!("02:00:00:{:02x}:{:02x}:{:02x}", device >> 16 & 255, device >> 8 & 255, device & 255)
}

fn sessions() -> Result<u64> {
    std::env::var("DESIRELINE_BENCH_SESSIONS").map_or(Ok(3_000_000), |text| text.parse().context("DESIRELINE_BENCH_SESSIONS"))
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("| experiment | measured | limit | ratio |\n|---|---|---|---|");
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("query") {
        query("sealed", "2d")?;
        query("in memory", "off")?;
    }
    if is_wanted("dataset") {
        dataset()?;
    }
    Ok(())
}

fn put_spaces(server: &Server) {
    let space = |id: i64, name: String, parent: Option<i64>| json!({ "space_id": id, "space_name": name, "parent_space_id": parent });
    let mut spaces = vec![space(CAMPUS, "campus".to_owned(), None)];
    spaces.extend((0..5).map(|n| space(BUILDING + n, format!("building {n}"), Some(CAMPUS))));
    spaces.extend((0..ROOMS).map(|n| space(1_000 + n, format!("room {n}"), Some(BUILDING + n / 100))));
    let body = json!({ "spaces": spaces }).to_string().into_bytes();
    server.http.send(reqwest::Method::PUT, "/api/spaces", &[("content-type", "application/json")], body).expect_status(200);
}

/// Sends all sessions; answers the token of the last request.
fn load(server: &Server, rows: impl Iterator<Item = Row>) -> String {
    let mut rows = rows.peekable();
    let mut token = String::new();
    while rows.peek().is_some() {
        let mut body = String::with_capacity(REQUEST_ROWS * 140);
        for Row { device, room, start, end } in rows.by_ref().take(REQUEST_ROWS) {
            let (start, end) = (format_rfc3339(start), format_rfc3339(end));
            writeln!(body, r#"{{"mac_address":"{}","space_id":{room},"start_time":"{start}","end_time":"{end}"}}"#, mac(device))
                .expect("a string can be written");
        }
        let headers = [("content-type", "application/x-ndjson")];
        let reply = eventually("the server to have room", Duration::from_secs(60), || {
            let reply = server.http.send(reqwest::Method::POST, "/api/wifi-sessions", &headers, body.clone().into_bytes());
            if reply.status == 429 { Err("busy".to_owned()) } else { Ok(reply) }
        });
        reply.json()["token"].as_str().expect("a token").clone_into(&mut token);
    }
    token
}

fn query(where_it_lies: &str, horizon: &str) -> Result<()> {
    let config = format!("[wifi]\nhorizon = \"{horizon}\"\n[sealing]\nevery = \"1s\"\n");
    let server = Server::new().config(config).start();
    put_spaces(&server);
    let now = now_micros();
    let begin = Instant::now();
    let count = sessions()?;
    let token = load(&server, stays(count, 365, now));
    server.http.get_json(&format!("/api/occupancy?space_id={CAMPUS}&at_least={token}"));
    let loaded = begin.elapsed().as_secs_f64();
    let most = if horizon == "off" { u64::MAX } else { count / 50 };
    let in_memory = eventually("all but the last days to be sealed", Duration::from_secs(300), || {
        let status: Value = server.http.get_json("/api/status");
        match status["wifi"]["sessions"].as_u64() {
            Some(left) if left <= most => Ok(left),
            left => Err(format!("{left:?} sessions in memory")),
        }
    });
    let to = now.div_euclid(DAY) * DAY;
    let path = format!(
        "/api/occupancy?space_id={BUILDING}&interval_seconds=3600&from={}&to={}",
        format_rfc3339(to - 365 * DAY),
        format_rfc3339(to)
    );
    let first = Instant::now();
    let rows = server.http.get_json(&path)["rows"].as_array().map_or(0, Vec::len);
    let cold = first.elapsed().as_secs_f64() * 1e3;
    ensure!(rows > 365 * 12, "a year of bins, not {rows}");
    let mut times: Vec<f64> = Vec::new();
    for n in 0..300 {
        // Buildings take turns, and the range moves on.
        let path = path.replace(&format!("space_id={BUILDING}"), &format!("space_id={}", BUILDING + n % 5));
        let begin = Instant::now();
        server.http.get(&path).expect_status(200);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "| query, {where_it_lies}: {rows} bins of 100 rooms, {count} sessions, {in_memory} of them in memory (loaded in {loaded:.0} s) | p50 {p50:.1}, p99 {p99:.1} ms; the first {cold:.1} ms | {QUERY_P99_MS} ms | {:.2} |",
        p99 / QUERY_P99_MS
    );
    Ok(())
}

fn dataset() -> Result<()> {
    let server = Server::new().start();
    put_spaces(&server);
    let to = now_micros().div_euclid(DAY) * DAY;
    let count = sessions()?;
    let token = load(&server, stays(count, 90, to));
    server.http.get_json(&format!("/api/occupancy?space_id={CAMPUS}&at_least={token}"));
    let from = to - 90 * DAY;
    let body = json!({ "name": "bench", "root_space_id": CAMPUS, "start_time": format_rfc3339(from), "end_time": format_rfc3339(to),
        "interval_seconds": 3_600, "chunk_days": 30 });
    let begin = Instant::now();
    let made = server.http.post_json("/occupancy/datasets", &body).expect_status(201).json();
    let path = format!("/occupancy/datasets/{}/results", made["dataset_id"]);
    let results = eventually("the dataset", Duration::from_secs(600), || {
        let results = server.http.get_json(&path);
        if results["status"] == "COMPLETED" { Ok(results) } else { Err(results.to_string()) }
    });
    let ours = begin.elapsed().as_secs_f64();
    let folder = tempfile::tempdir()?;
    write_csv(&folder.path().join("sessions.csv"), stays(count, 90, to))?;
    let theirs = duckdb(folder.path())?;
    let times = ours / theirs["seconds"].as_f64().context("seconds")?;
    let first = &results["rows"][0];
    ensure!(first["number_connections"] == theirs["first"], "both count the same: {first} and {theirs}");
    println!(
        "| dataset: {count} sessions, {} chunks a space | {ours:.2} s | {:.2} s x {DATASET_TIMES} (DuckDB) | {:.2} of {DATASET_TIMES} |",
        results["total_chunks"].as_u64().unwrap_or(3),
        theirs["seconds"].as_f64().unwrap_or(f64::NAN),
        times
    );
    Ok(())
}

fn write_csv(path: &Path, rows: impl Iterator<Item = Row>) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "mac,space,start,finish")?;
    for Row { device, room, start, end } in rows {
        writeln!(file, "{device},{room},{},{}", start / SECOND, end / SECOND)?;
    }
    Ok(file.flush()?)
}

/// Counts the same with DuckDB, from Parquet: `{"seconds", "first"}`, the number of the campus in its first bin.
fn duckdb(folder: &Path) -> Result<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = std::process::Command::new(root.join("scripts/pydata"));
    let output = command.arg("run").arg(root.join("benches/occupancy.py")).arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
