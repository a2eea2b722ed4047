//! What the server counts about itself, in the Prometheus text format at `/metrics`.
//!
//! Two kinds of numbers stand here. What happens in this process (requests, latencies, panics, runs) is counted as it happens by
//! typed methods of [`Metrics`]; what the service knows anyway (the counters of every source, the log, the queues) is read from
//! one [`Status`] at each scrape, so that a scrape is consistent in itself and costs nothing in between.
//!
//! The conservation law is exported, not only its terms: `desireline_source_unbalanced` is 1 for a source whose counters do not
//! add up, and `desireline_invariant_violations_total` counts such observations. Alert on either.
//!
//! Cardinality is bounded: routes are templates, never raw paths; sources and partitions are as many as are configured.

mod projections;
mod wifi;

use crate::projections::ProjectionStatus;
use crate::service::{LabelsStatus, SourceStatus, Status};
use desireline_records::time;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt::{self, Error};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

/// Counters of this process, and the way to print all of them.
pub struct Metrics {
    registry: Registry,
    status: Arc<StatusCollector>,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    panics: Counter,
    timeouts: Counter,
    refused: Counter,
    subscribers: Gauge,
    resyncs: Counter,
    corrections: Counter,
    violations: Counter,
    behind: Counter,
    behind_told: Mutex<Option<Instant>>,
}

/// What the scheduler knows about its runs.
#[derive(Clone, Debug, Default)]
pub struct RunNumbers {
    /// How often runs of each job have entered each status: (job, status, times).
    pub totals: Vec<(String, &'static str, u64)>,
    pub waiting: usize,
    pub working: usize,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// How often the log is told that Redis is behind.
const BEHIND_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Seconds; from a cached health check to a large export.
const LATENCY_BUCKETS_S: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("desireline");
        let requests = Family::default();
        let new_histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS_S);
        let latency = Family::new_with_constructor(new_histogram);
        let (under_way, subscribers) = (Gauge::default(), Gauge::default());
        let (panics, timeouts, refused) = (Counter::default(), Counter::default(), Counter::default());
        let (resyncs, corrections, violations) = (Counter::default(), Counter::default(), Counter::default());
        registry.register("http_requests", "Requests answered, by route and status", requests.clone());
        registry.register("http_request_duration_seconds", "From the head of the request to the head of the answer", latency.clone());
        registry.register("http_requests_under_way", "Requests being worked on", under_way.clone());
        registry.register("http_panics", "Handlers that panicked and were answered with 500", panics.clone());
        registry.register("http_timeouts", "Requests answered with 503 because they took too long", timeouts.clone());
        registry.register("http_refused", "Requests answered with 429 because too many were under way", refused.clone());
        registry.register("live_subscribers", "Open streams of /api/live", subscribers.clone());
        registry.register("live_resyncs", "Slow subscribers that were sent a new snapshot", resyncs.clone());
        registry.register("live_corrections", "Cells of closed minutes seen to change", corrections.clone());
        registry.register("invariant_violations", "Observations of a source whose counters do not add up", violations.clone());
        let behind = Counter::default();
        registry.register("interactions_redis_behind", "Answers of POST /api/event that did not wait for Redis any longer", behind.clone());
        let status = Arc::new(StatusCollector::default());
        registry.register_collector(Box::new(status.clone()));
        let behind_told = Mutex::default();
        Self {
            registry,
            status,
            requests,
            latency,
            under_way,
            panics,
            timeouts,
            refused,
            subscribers,
            resyncs,
            corrections,
            violations,
            behind,
            behind_told,
        }
    }
}

impl Metrics {
    pub fn request_began(&self) {
        self.under_way.inc();
    }

    pub fn request_ended(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.under_way.dec();
        self.requests.get_or_create(&RequestLabels { method: method.into(), route: route.into(), status }).inc();
        self.latency.get_or_create(&RouteLabels { method: method.into(), route: route.into() }).observe(took.as_secs_f64());
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }

    pub fn timed_out(&self) {
        self.timeouts.inc();
    }

    pub fn refused(&self) {
        self.refused.inc();
    }

    pub fn subscribers(&self, count: usize) {
        self.subscribers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn resynced(&self) {
        self.resyncs.inc();
    }

    pub fn corrected(&self, cells: u64) {
        self.corrections.inc_by(cells);
    }

    /// An interaction was answered before Redis had it. The log is told at most every ten seconds.
    pub fn redis_is_behind(&self) {
        self.behind.inc();
        let mut told = self.behind_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= BEHIND_TOLD_EVERY) {
            *told = Some(Instant::now());
            drop(told);
            tracing::warn!(answers = self.behind.get(), "interactions are answered before Redis has them; it follows by itself");
        }
    }

    /// Everything, in the text format, with the service's own numbers as of `status`.
    pub fn print(&self, status: Option<Status>, runs: RunNumbers, projections: Vec<ProjectionStatus>) -> String {
        if let Some(status) = &status {
            for source in status.sources.iter().filter(|source| !source.counters.balanced()) {
                self.violations.inc();
                tracing::error!(source_id = source.source_id, counters = ?source.counters, "the counters of a source do not add up");
            }
        }
        *self.status.latest.lock().unwrap_or_else(PoisonError::into_inner) = Latest { status, runs, projections };
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

/// The resident memory of this process in bytes; 0 where `/proc` does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes()
}

fn page_bytes() -> u64 {
    // AT_PAGESZ (6) in the auxiliary vector: pairs of native words.
    const WORD: usize = size_of::<usize>();
    let words = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| usize::from_ne_bytes(bytes.try_into().expect("chunks have the size of a word"));
    let pairs = words.chunks_exact(2 * WORD).map(|pair| (word(&pair[..WORD]), word(&pair[WORD..])));
    pairs.into_iter().find(|(key, _)| *key == 6).map_or(4_096, |(_, value)| value as u64)
}

#[derive(Debug, Default)]
struct StatusCollector {
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    status: Option<Status>,
    runs: RunNumbers,
    projections: Vec<ProjectionStatus>,
}

type SourceNumber = (&'static str, &'static str, fn(&SourceStatus) -> u64);
type StatusNumber = (&'static str, &'static str, fn(&Status) -> f64);

/// Counters of each source; with `_total` appended by the format.
const SOURCE_COUNTERS: [SourceNumber; 9] = [
    ("source_received", "Rows received", |s| s.counters.received),
    ("source_applied", "Rows applied to the views", |s| s.counters.applied),
    ("source_duplicate", "Rows that repeat an earlier one", |s| s.counters.duplicate),
    ("source_conflict", "Duplicates whose payload differs", |s| s.counters.conflict),
    ("source_late", "Rows behind the horizon", |s| s.counters.late),
    ("source_quarantined", "Rows from too far in the future", |s| s.counters.quarantined),
    ("source_rejected", "Rows that are no events", |s| s.counters.rejected),
    ("source_deleted", "Applied rows retracted later", |s| s.counters.deleted),
    ("source_sealed_sessions", "Sessions moved to cold parts", |s| s.sealed_sessions),
];

const SOURCE_GAUGES: [SourceNumber; 7] = [
    ("source_pending", "Rows that wait for their history", |s| s.counters.pending),
    ("source_unbalanced", "1 when received = applied + duplicate + late + pending + quarantined + rejected does not hold", |s| {
        u64::from(!s.counters.balanced())
    }),
    ("source_users", "Users known", |s| s.users),
    ("source_open_sessions", "Sessions in memory", |s| s.open_sessions),
    ("source_open_events", "Events in memory", |s| s.open_events),
    ("source_model_version", "Version of the cluster model in force", |s| s.model_version),
    ("source_cold_parts", "Objects of sealed sessions", |s| s.cold_parts.len() as u64),
];

const STATUS_GAUGES: [StatusNumber; 19] = [
    ("ready", "1 when the log has been replayed", |s| f64::from(u8::from(s.ready))),
    ("catching_up", "1 while the views lag the log by more than usual", |s| f64::from(u8::from(s.catching_up))),
    ("replay_progress", "Share of the log replayed at start-up", |s| s.replay_progress),
    ("as_of_seconds", "The logical time at which queries are answered", |s| s.as_of as f64 / 1e3),
    ("as_of_lag_seconds", "By how much the views lag the last commit", |s| s.committed.saturating_sub(s.as_of) as f64 / 1e3),
    ("start_time_seconds", "When the service started", |s| s.started_at as f64 / time::SECOND as f64),
    ("workers", "Threads that maintain the views", |s| s.workers as f64),
    ("queue_rows", "Rows that wait for the log or the views", |s| s.queue_depth as f64),
    ("queue_capacity_rows", "Rows above which ingest is refused", |s| s.queue_capacity as f64),
    ("events_per_second", "Rows committed per second, lately", |s| s.events_per_second),
    ("visible_latency_p50_seconds", "Ingest to visible, median of the last minute", |s| s.latency_p50_ms / 1e3),
    ("visible_latency_p99_seconds", "Ingest to visible, 99th percentile of the last minute", |s| s.latency_p99_ms / 1e3),
    ("log_segments", "Objects of the log", |s| s.log.segments as f64),
    ("log_bytes", "Bytes of the log", |s| s.log.bytes as f64),
    ("log_writable", "0 when the log cannot be written", |s| f64::from(u8::from(s.log.writable))),
    ("engine_users", "Users in memory", |s| s.engine.users as f64),
    ("engine_minute_cells", "Cells of the minutes view", |s| s.engine.minute_cells as f64),
    ("erasures_open", "Erasures whose rows have not yet left log and cold parts", |s| s.erasures.len() as f64),
    ("erasures_overdue", "Erasures past their deadline", |s| {
        s.erasures.iter().filter(|erasure| erasure.deadline < time::now_micros()).count() as f64
    }),
];

type StatusCount = (&'static str, &'static str, fn(&Status) -> u64);

/// Counters of the engine; with `_total` appended by the format.
const STATUS_COUNTERS: [StatusCount; 4] = [
    ("engine_expensive_recuts", "Re-cuts of users with very many open events", |s| s.engine.expensive_recuts),
    ("engine_users_moved", "Users that moved from one cluster to another", |s| s.engine.users_moved),
    ("engine_stale_models", "Cluster models that did not follow the one in force", |s| s.engine.stale_models),
    ("engine_late_unmarked", "Rows behind the seal boundary that were not marked late: 0 unless an invariant broke", |s| {
        s.engine.late_unmarked
    }),
];

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        gauge(&mut encoder, "resident_memory_bytes", "Resident memory of the process", resident_bytes() as f64)?;
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        encode_runs(&mut encoder, &latest.runs)?;
        projections::encode(&mut encoder, &latest.projections)?;
        let Some(status) = latest.status.as_ref() else {
            return Ok(());
        };
        for (name, help, read) in STATUS_GAUGES {
            gauge(&mut encoder, name, help, read(status))?;
        }
        for (name, help, read) in STATUS_COUNTERS {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(read(status)).encode(metric)?;
        }
        for (name, help, read) in SOURCE_COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for source in &status.sources {
                ConstCounter::new(read(source)).encode_in(&mut metric, source)?;
            }
        }
        for (name, help, read) in SOURCE_GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for source in &status.sources {
                ConstGauge::new(read(source) as f64).encode_in(&mut metric, source)?;
            }
        }
        wifi::encode(&mut encoder, &status.wifi)?;
        encode_labels(&mut encoder, &status.labels)?;
        encode_watermarks(&mut encoder, &status.sources)?;
        encode_partitions(&mut encoder, &status.sources)
    }
}

fn encode_labels(encoder: &mut DescriptorEncoder<'_>, labels: &LabelsStatus) -> Result<(), Error> {
    gauge(encoder, "label_matrices", "Live label matrices", labels.matrices as f64)?;
    gauge(encoder, "label_rows", "Rows of live label matrices", labels.rows as f64)?;
    gauge(encoder, "label_combinations", "Combinations of votes in memory, by worker", labels.combinations as f64)?;
    gauge(encoder, "label_waiting_keys", "Changed keys that were not evaluated yet", labels.waiting_keys as f64)
}

fn encode_runs(encoder: &mut DescriptorEncoder<'_>, runs: &RunNumbers) -> Result<(), Error> {
    gauge(encoder, "runs_waiting", "Runs that wait for a slot, their turn or other runs", runs.waiting as f64)?;
    gauge(encoder, "runs_working", "Runs that work", runs.working as f64)?;
    let help = "Runs that entered a status, by job";
    let mut metric = encoder.encode_descriptor("runs", help, None, MetricType::Counter)?;
    for (job, status, times) in &runs.totals {
        let labels = [("job", job.as_str()), ("status", status)];
        ConstCounter::new(*times).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_watermarks(encoder: &mut DescriptorEncoder<'_>, sources: &[SourceStatus]) -> Result<(), Error> {
    let help = "Event time up to which a source is complete";
    let mut metric = encoder.encode_descriptor("source_watermark_seconds", help, None, MetricType::Gauge)?;
    for source in sources {
        if let Some(watermark) = source.watermark {
            ConstGauge::new(watermark as f64 / time::SECOND as f64).encode_in(&mut metric, source)?;
        }
    }
    Ok(())
}

fn encode_partitions(encoder: &mut DescriptorEncoder<'_>, sources: &[SourceStatus]) -> Result<(), Error> {
    type PartitionNumber = (&'static str, &'static str, fn(&crate::service::PartitionStatus) -> Option<f64>);
    let numbers: [PartitionNumber; 3] = [
        ("partition_lag_rows", "Rows between the durable position and the end of the partition", |p| p.lag.map(|lag| lag as f64)),
        ("partition_position", "Next position to read", |p| Some(p.position as f64)),
        ("partition_stopped", "1 when a partition waits for somebody to act", |p| Some(f64::from(u8::from(p.error.is_some())))),
    ];
    for (name, help, read) in numbers {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for source in sources {
            // One position per uploaded file would grow without bound; files are runs and have their own progress.
            for partition in source.partitions.iter().filter(|p| !p.partition.starts_with("file:")) {
                let labels = [
                    ("source_id", source.source_id.to_string()),
                    ("name", source.name.clone()),
                    ("partition", partition.partition.to_string()),
                ];
                if let Some(value) = read(partition) {
                    metric.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn gauge_of(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: f64) -> Result<(), Error> {
    ConstGauge::new(value).encode(metric.encode_family(&labels)?)
}

/// Prints a number under the labels of its source.
trait EncodeIn {
    fn encode_in(&self, metric: &mut MetricEncoder<'_>, source: &SourceStatus) -> Result<(), Error>;
}

impl<M: EncodeMetric> EncodeIn for M {
    fn encode_in(&self, metric: &mut MetricEncoder<'_>, source: &SourceStatus) -> Result<(), Error> {
        let labels = [("source_id", source.source_id.to_string()), ("name", source.name.clone())];
        self.encode(metric.encode_family(&labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{AlertCounts, EngineStatus, LogStatus, PartitionStatus, SourceCounters, WifiStatus};
    use desireline_dataflows::views::occupancy::query::WifiStats;

    fn status(counters: SourceCounters) -> Status {
        let partition = |name: &str, lag| PartitionStatus {
            partition: name.into(),
            position: 42,
            max_event_time: None,
            idle: false,
            held: false,
            lag,
            error: None,
        };
        let source = SourceStatus {
            source_id: 7,
            name: "a \"shop\"".into(),
            counters,
            balanced: counters.balanced(),
            watermark: Some(1_700_000_000_000_000),
            partitions: vec![partition("kafka:clicks/0", Some(5)), partition("file:abc", None)],
            users: 3,
            open_sessions: 2,
            open_events: 9,
            sealed_sessions: 0,
            sealed_before: None,
            model_version: 1,
            cold_parts: vec![],
        };
        Status {
            as_of: 900,
            committed: 1_400,
            ready: true,
            catching_up: false,
            replay_progress: 1.0,
            started_at: 0,
            workers: 2,
            queue_depth: 1,
            queue_capacity: 10,
            memory_bytes: 0,
            latency_p50_ms: 2.0,
            latency_p99_ms: 9.0,
            events_per_second: 3.0,
            log: LogStatus { segments: 4, bytes: 100, writable: true, ..LogStatus::default() },
            sources: vec![source],
            erasures: vec![],
            engine: EngineStatus::default(),
            wifi: WifiStatus {
                memory: WifiStats { spaces: 5, open: 3, ..WifiStats::default() },
                alerts: AlertCounts { given: 2, ..AlertCounts::default() },
                ..WifiStatus::default()
            },
            labels: LabelsStatus { matrices: 1, rows: 7, ..LabelsStatus::default() },
        }
    }

    #[test]
    fn a_scrape_shows_the_sources_and_the_process() {
        let metrics = Metrics::default();
        metrics.request_began();
        metrics.request_ended("GET", "/view", 200, Duration::from_millis(3));
        let balanced = SourceCounters { received: 10, applied: 8, duplicate: 1, rejected: 1, ..SourceCounters::default() };
        let runs = RunNumbers { totals: vec![("ingest".into(), "SUCCESS", 1)], waiting: 0, working: 2 };
        let text = metrics.print(Some(status(balanced)), runs, Vec::new());
        for line in [
            "desireline_http_requests_total{method=\"GET\",route=\"/view\",status=\"200\"} 1",
            "desireline_source_received_total{source_id=\"7\",name=\"a \\\"shop\\\"\"} 10",
            "desireline_source_unbalanced{source_id=\"7\",name=\"a \\\"shop\\\"\"} 0.0",
            "desireline_as_of_lag_seconds 0.5",
            "desireline_partition_lag_rows{source_id=\"7\",name=\"a \\\"shop\\\"\",partition=\"kafka:clicks/0\"} 5.0",
            "desireline_log_segments 4.0",
            "desireline_runs_total{job=\"ingest\",status=\"SUCCESS\"} 1",
            "desireline_runs_working 2.0",
            "desireline_invariant_violations_total 0",
            "desireline_spaces 5.0",
            "desireline_wifi_open_sessions 3.0",
            "desireline_label_rows 7.0",
            "desireline_alerts_given_total 2",
            "desireline_wifi_sealed_before_seconds NaN",
        ] {
            assert!(text.lines().any(|l| l == line), "missing: {line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("file:abc"), "files would grow the labels without bound");
    }

    #[test]
    fn a_broken_conservation_law_is_counted() {
        let metrics = Metrics::default();
        let lost = SourceCounters { received: 10, applied: 8, ..SourceCounters::default() };
        let text = metrics.print(Some(status(lost)), RunNumbers::default(), Vec::new());
        assert!(text.contains("desireline_source_unbalanced{source_id=\"7\",name=\"a \\\"shop\\\"\"} 1.0"), "{text}");
        assert!(text.contains("desireline_invariant_violations_total 1"), "{text}");
    }

    #[test]
    fn without_a_status_the_process_is_still_shown() {
        let text = Metrics::default().print(None, RunNumbers::default(), Vec::new());
        let line = text.lines().find(|l| l.starts_with("desireline_resident_memory_bytes ")).expect("memory");
        let bytes: f64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        assert!(bytes > 1e6, "{bytes}");
    }
}
