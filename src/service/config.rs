//! The settings of the service, validated and complete. The file format and its defaults live in `crate::config`.

use super::WifiIngestConfig;
use super::occupancy::OccupancyConfig;
use desireline_records::words::Words;
use desireline_records::{Micros, SourceSettings};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Where log and cold parts lie: a folder, or a URL like `s3://bucket/prefix`.
    pub store_url: String,
    /// Options of the object store (endpoint, keys), by object_store's names.
    pub store_options: BTreeMap<String, String>,
    /// Timely worker threads.
    pub workers: usize,
    pub commit: CommitConfig,
    /// Settings of a source that has none of its own.
    pub source_defaults: SourceSettings,
    /// Sources with settings of their own, and their names.
    pub sources: Vec<(String, SourceSettings)>,
    /// Settings of sources that are recorded only once they have rows.
    pub implied: Vec<SourceSettings>,
    pub words: Words,
    pub max_future: Micros,
    pub wifi_ingest: WifiIngestConfig,
    pub clusters: ClusterConfig,
    pub sealing: SealingConfig,
    pub compaction: CompactionConfig,
    /// How long after an erasure its rows may still lie in log, cold parts and dead letters.
    pub erasure_deadline: Duration,
    pub peek_rows_max: usize,
    pub peek_deadline: Duration,
    /// Open events per user above which re-cuts are counted as expensive.
    pub max_open_events: usize,
    pub occupancy: OccupancyConfig,
}

#[derive(Clone, Debug)]
pub struct CommitConfig {
    /// A segment is closed when it has this many rows …
    pub rows_max: usize,
    /// … or is this old.
    pub age_max: Duration,
    /// Rows waiting for the log or for the views; above it HTTP answers 429 and connectors wait.
    pub queue_rows_max: usize,
    /// How often the log records that time passes.
    pub tick_every: Duration,
    /// A partition without rows for this long does not hold the watermark back.
    pub idle_after: Duration,
}

#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub seed: u64,
    /// Journeys in a training sample, at most.
    pub sample_max: usize,
    /// At least this long between two trainings of a source.
    pub min_interval: Duration,
    /// Training waits until this share of the source's events is new since the last one.
    pub min_changed: f64,
    /// No new model version when no centroid moved further than this (Euclidean).
    pub min_shift: f64,
}

#[derive(Clone, Debug)]
pub struct SealingConfig {
    /// How often sources with a horizon are looked at.
    pub every: Duration,
    /// Cold parts of a source are merged above this number.
    pub parts_max: usize,
}

#[derive(Clone, Debug)]
pub struct CompactionConfig {
    pub every: Duration,
    /// Small segments are merged when there are at least this many …
    pub segments_min: usize,
    /// … into parts of at most this size.
    pub part_bytes_max: u64,
}
