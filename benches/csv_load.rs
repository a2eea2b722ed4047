//! A file through `POST /trigger`, end to end: the real binary, with parsing, the durable log, every view, and clustering.
//!
//! The work: 2,756,101 rows in the shape of the RetailRocket data set, loaded once into an empty server on a local data folder.
//! Measured is the processor time of the server's process (all threads, user and system) from the request until every row is in
//! the views, and until the run with its clustering has ended; the limit is 600,000 rows per CPU-second. Meanwhile a client asks
//! one endpoint after the other, at most 50 a second; the limit is a p99 of 100 ms. Last, memory after the load, and how long
//! the same server takes to be ready again on the log.
//!
//! `cargo bench --bench csv_load`. `DESIRELINE_BENCH_ROWS` scales the file, `DESIRELINE_BENCH_SHAPE=shop` takes clicks
//! of 100,000 users of the synthetic shop instead, `DESIRELINE_BENCH_CONFIG` is the text of a
//! configuration to try, `DESIRELINE_BENCH_QUIET=1` leaves the endpoints alone.

#[path = "../tests/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::server::Server;
use support::wait::{Stop, eventually};

const ROWS: u64 = 2_756_101;
const LIMIT_ROWS_PER_CPU_S: f64 = 600_000.0;
const LIMIT_P99_MS: f64 = 100.0;
const PACE: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(900);
const ENDPOINTS: [&str; 9] = [
    "/health",
    "/ready",
    "/api/status",
    "/api/sessions?source_id=1&limit=20",
    "/api/journeys?source_id=1&user_id=1000",
    "/api/clusters?source_id=1",
    "/api/metrics/aggregates?minutes=60",
    "/dagster/runs",
    "/metrics",
];

fn main() {
    let rows = std::env::var("DESIRELINE_BENCH_ROWS").ok().map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let config = std::env::var("DESIRELINE_BENCH_CONFIG").unwrap_or_default();
    let shape = std::env::var("DESIRELINE_BENCH_SHAPE").unwrap_or_else(|_| "retailrocket".to_owned());
    let mut server = Server::new().config(config).ready_deadline(DEADLINE).start();
    let idle = server.resident_bytes();
    let file = server.folder().join("events.csv");
    let generated = std::process::Command::new(env!("CARGO_BIN_EXE_desireline"))
        .args(["generate", "clickstream", "--shape", &shape, "--users", "100000", "--events", &rows.to_string(), "--to"])
        .arg(&file)
        .output()
        .expect("the generator runs");
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));

    let (begin, cpu) = (Instant::now(), server.cpu_seconds());
    let request = json!({"source_id": 1, "events_path": file, "is_initial_flow": true});
    let run = server.http.post_json("/trigger", &request).expect_status(200).json();
    let done = Stop::default();
    let samples: Mutex<Vec<(usize, f64)>> = Mutex::default();
    let quiet = std::env::var("DESIRELINE_BENCH_QUIET").is_ok();
    let (viewed, ended) = std::thread::scope(|scope| {
        scope.spawn(|| poll(&server, &done, quiet, &samples));
        let viewed = eventually("all rows to be in the views", DEADLINE, || match applied(&server) {
            count if count >= rows => Ok((begin.elapsed(), server.cpu_seconds() - cpu)),
            count => Err(format!("{count} rows of {rows}; the run is {run}")),
        });
        eventually("the run to end", DEADLINE, || {
            let runs = server.http.get_json("/dagster/runs").to_string();
            if runs.contains("SUCCESS") { Ok(()) } else { Err(runs) }
        });
        done.stop();
        (viewed, (begin.elapsed(), server.cpu_seconds() - cpu))
    });
    println!("| {rows} rows | rows / CPU-s | limit / measured | wall s | CPU s |\n|---|---|---|---|---|");
    for (name, (wall, cpu)) in [("to the views", viewed), ("to the end of clustering", ended)] {
        let rate = rows as f64 / cpu;
        println!("| {name} | {rate:.0} | {:.2} | {:.1} | {cpu:.1} |", LIMIT_ROWS_PER_CPU_S / rate, wall.as_secs_f64());
    }
    latencies(samples.into_inner().expect("no client panicked"));
    memory_and_restart(&mut server, idle);
}

fn applied(server: &Server) -> u64 {
    let status = server.http.get_json("/api/status");
    let find = |source: &Value| source["source_id"].as_u64() == Some(1);
    let source = status["sources"].as_array().and_then(|sources| sources.iter().find(|s| find(s)).cloned()).unwrap_or_default();
    ["applied", "duplicate", "quarantined", "rejected"].iter().filter_map(|name| source["counters"][name].as_u64()).sum()
}

/// Asks every endpoint in turn.
fn poll(server: &Server, done: &Stop, quiet: bool, samples: &Mutex<Vec<(usize, f64)>>) {
    let client = support::http::Http::new(server.base());
    for endpoint in (0..ENDPOINTS.len()).cycle() {
        if quiet || done.stopped_within(PACE) {
            return;
        }
        let asked = Instant::now();
        let reply = client.get(ENDPOINTS[endpoint]);
        assert!(reply.status < 500 && reply.status != 429, "{} answers {}: {}", ENDPOINTS[endpoint], reply.status, reply.text());
        samples.lock().expect("no client panicked").push((endpoint, asked.elapsed().as_secs_f64() * 1e3));
    }
}

fn latencies(samples: Vec<(usize, f64)>) {
    println!("\n| endpoint during the load | answers | p50 ms | p99 ms | max ms | p99 / limit |\n|---|---|---|---|---|---|");
    let line = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times.get(((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
        println!("| {name} | {} | {:.1} | {:.1} | {:.1} | {:.2} |", times.len(), at(0.5), at(0.99), at(1.0), at(0.99) / LIMIT_P99_MS);
    };
    for (index, endpoint) in ENDPOINTS.iter().enumerate() {
        line(endpoint, samples.iter().filter(|(of, _)| *of == index).map(|(_, ms)| *ms).collect());
    }
    line("all", samples.into_iter().map(|(_, ms)| ms).collect());
}

fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a living process has a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("VmHWM is a number of kB") << 10
}

fn memory_and_restart(server: &mut Server, idle: u64) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "\nmemory: idle {:.0} MiB, peak {:.0} MiB, after the load {:.0} MiB",
        mib(idle),
        mib(peak_bytes(server)),
        mib(server.resident_bytes())
    );
    server.stop();
    let begin = Instant::now();
    server.start_again();
    let (ready, cpu, peak) = (begin.elapsed().as_secs_f64(), server.cpu_seconds(), peak_bytes(server));
    println!(
        "restart: ready after {ready:.1} s ({cpu:.1} CPU-s), peak {:.0} MiB, then {:.0} MiB: {:.2} times",
        mib(peak),
        mib(server.resident_bytes()),
        peak as f64 / server.resident_bytes() as f64
    );
}
