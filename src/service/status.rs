//! The status: what is going on, and whether the numbers can be trusted.

use super::{
    EngineStatus, Inner, LabelsStatus, LogStatus, NO_PANIC, PartitionReport, PartitionStatus, Service, ServiceError, SourceCounters,
    SourceStatus, Status, WifiStatus,
};
use desireline_connectors::log::LogSize;
use desireline_dataflows::query::{Answer, Query, merge_sources};
use desireline_dataflows::views::occupancy::query::WifiStats;
use desireline_dataflows::views::sessions::source::{Counts, SourceState};
use desireline_records::SourceId;
use desireline_records::time::now_micros;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the size of the log is good for; listing a remote store costs requests.
const LOG_SIZE_FRESH: Duration = Duration::from_secs(10);

impl Service {
    pub async fn status(&self) -> Result<Status, ServiceError> {
        let inner = &self.inner;
        let (as_of, parts) = inner.ask(Query::Overview).await?;
        let mut engine = EngineStatus::default();
        let mut labels = LabelsStatus { waiting_keys: self.label_work_len() as u64, ..LabelsStatus::default() };
        let (mut states, mut versions, mut wifi) = (Vec::new(), BTreeMap::new(), WifiStats::default());
        for part in parts {
            let Answer::Overview { sources, models, worker } = part else { continue };
            engine.users += worker.users as u64;
            engine.minute_cells += worker.minute_cells as u64;
            engine.kinds += worker.kinds as u64;
            engine.expensive_recuts += worker.expensive_recuts;
            engine.users_moved += worker.users_moved;
            // Every worker sees every model.
            engine.stale_models = engine.stale_models.max(worker.stale_models);
            states.extend(sources);
            wifi.add(&worker.wifi);
            let (matrices, rows, combinations) = worker.labels;
            labels.matrices = matrices as u64;
            labels.rows += rows as u64;
            labels.combinations += combinations as u64;
            versions.extend(models.iter().map(|m| ((m.source, m.clusters), m.version)));
        }
        let sources = inner.source_statuses(merge_sources(states.into_iter()), &versions, &mut engine);
        let (latency_p50_ms, latency_p99_ms) = inner.latency.quantiles();
        let free = inner.queue.available_permits();
        let capacity = inner.config.commit.queue_rows_max.max(1);
        let ready = self.ready();
        Ok(Status {
            as_of,
            committed: inner.committed.load(Ordering::Acquire),
            ready,
            catching_up: !ready,
            replay_progress: if ready { 1.0 } else { inner.replay_progress() },
            started_at: inner.started_at,
            workers: inner.engine.workers(),
            queue_depth: capacity.saturating_sub(free),
            queue_capacity: capacity,
            memory_bytes: resident_bytes(),
            latency_p50_ms,
            latency_p99_ms,
            events_per_second: inner.rate.per_second(now_micros()),
            log: inner.log_status().await,
            sources,
            erasures: inner.erasure_statuses(),
            engine,
            wifi: WifiStatus { memory: wifi, alerts: inner.alerts.counts(), sealing: self.wifi_sealing_status() },
            labels,
        })
    }
}

impl Inner {
    fn source_statuses(
        &self,
        states: Vec<(SourceId, SourceState)>,
        versions: &BTreeMap<(SourceId, u16), u64>,
        engine: &mut EngineStatus,
    ) -> Vec<SourceStatus> {
        let fold = self.fold.read().expect(NO_PANIC);
        let reports = self.reports.lock().expect(NO_PANIC);
        let mut all = Vec::new();
        for (id, state) in states {
            engine.late_unmarked += state.counts.late_unmarked;
            let counters = counters(&state.counts);
            let known = fold.sources.get(&id);
            let name =
                self.config.sources.iter().find(|(_, s)| s.source == id).map_or_else(|| format!("source-{id}"), |(name, _)| name.clone());
            let mut partitions: Vec<PartitionStatus> = known.map_or_else(Vec::new, |source| {
                let status = |(partition, p): (&ecow::EcoString, &super::fold::PartitionFold)| {
                    let report = reports.get(&(id, partition.clone())).cloned().unwrap_or_default();
                    PartitionStatus {
                        partition: partition.clone(),
                        position: p.position,
                        max_event_time: p.max_time,
                        idle: p.idle,
                        held: p.held,
                        lag: report.lag,
                        error: report.error,
                    }
                };
                source.partitions.iter().map(status).collect()
            });
            partitions.extend(unread(&reports, id, known));
            all.push(SourceStatus {
                source_id: id,
                name,
                counters,
                balanced: counters.balanced(),
                watermark: known.and_then(|s| s.watermark),
                partitions,
                users: state.users,
                open_sessions: state.open_sessions,
                open_events: state.open_events,
                sealed_sessions: state.sealed_sessions,
                sealed_before: state.boundary,
                model_version: versions.get(&(id, state.settings.clusters)).copied().unwrap_or(0),
                cold_parts: state.cold,
            });
        }
        all
    }

    fn replay_progress(&self) -> f64 {
        let (first, at, target) =
            (self.replay.first.load(Ordering::Acquire), self.replay.at.load(Ordering::Acquire), self.replay.target.load(Ordering::Acquire));
        if target <= first { 0.0 } else { (at.saturating_sub(first)) as f64 / (target - first) as f64 }
    }

    async fn log_status(&self) -> LogStatus {
        let size = self.log_size().await;
        let error = self.log_error.lock().expect(NO_PANIC).clone();
        LogStatus {
            segments: size.objects,
            bytes: size.bytes,
            last_time: self.committed.load(Ordering::Acquire),
            epoch: self.epoch,
            writable: error.is_none(),
            error,
        }
    }

    async fn log_size(&self) -> LogSize {
        let known = *self.log_size.lock().expect(NO_PANIC);
        if let Some((at, size)) = known.filter(|(at, _)| at.elapsed() < LOG_SIZE_FRESH) {
            let _ = at;
            return size;
        }
        let size = match self.reader.size().await {
            Ok(size) => size,
            Err(error) => {
                tracing::warn!(%error, "the log cannot be listed");
                known.map_or_else(LogSize::default, |(_, size)| size)
            }
        };
        *self.log_size.lock().expect(NO_PANIC) = Some((Instant::now(), size));
        size
    }
}

/// What is wrong with partitions and topics of which the log has nothing yet: a broker that cannot be reached, a topic that does
/// not exist.
fn unread<'a>(
    reports: &'a BTreeMap<(SourceId, ecow::EcoString), PartitionReport>,
    id: SourceId,
    known: Option<&'a super::SourceFold>,
) -> impl Iterator<Item = PartitionStatus> + 'a {
    let of_source = reports.iter().filter(move |((source, _), report)| *source == id && report.error.is_some());
    let unknown = of_source.filter(move |((_, partition), _)| known.is_none_or(|source| !source.partitions.contains_key(partition)));
    unknown.map(|((_, partition), report)| PartitionStatus {
        partition: partition.clone(),
        position: 0,
        max_event_time: None,
        idle: true,
        held: false,
        lag: report.lag,
        error: report.error.clone(),
    })
}

fn counters(counts: &Counts) -> SourceCounters {
    SourceCounters {
        received: counts.received,
        applied: counts.applied,
        duplicate: counts.duplicate,
        conflict: counts.conflict,
        late: counts.late,
        pending: counts.pending,
        quarantined: counts.quarantined,
        rejected: counts.rejected,
        deleted: counts.deleted,
    }
}

/// Resident memory of this process; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
