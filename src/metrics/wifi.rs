//! The numbers of WiFi sessions, spaces and alerts, of one status at each scrape.

use super::gauge;
use crate::service::WifiStatus;
use desireline_records::time;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt::Error;

type Number = (&'static str, &'static str, fn(&WifiStatus) -> f64);
type Count = (&'static str, &'static str, fn(&WifiStatus) -> u64);

const GAUGES: [Number; 14] = [
    ("wifi_devices", "Devices in memory", |w| w.memory.devices as f64),
    ("wifi_sessions", "WiFi sessions in memory", |w| w.memory.stays as f64),
    ("wifi_open_sessions", "WiFi sessions that are not closed and still grow", |w| w.memory.open as f64),
    ("wifi_cells", "Numbers of spaces in memory", |w| w.memory.cells as f64),
    ("wifi_pending_rows", "Rows of sealed days that wait for the history of their device", |w| w.memory.pending as f64),
    ("wifi_unknown_space_sessions", "WiFi sessions in memory whose space is not known", |w| w.memory.unknown_space as f64),
    ("spaces", "Spaces of the tree", |w| w.memory.spaces as f64),
    ("space_orphans", "Spaces whose parent is not known", |w| w.memory.orphans as f64),
    ("wifi_sealed_sessions", "WiFi sessions in cold parts", |w| w.sealing.sealed_stays as f64),
    ("wifi_sealed_cells", "Numbers of spaces in cold parts", |w| w.sealing.sealed_cells as f64),
    ("wifi_cold_bytes", "Bytes of cold parts of WiFi sessions", |w| w.sealing.bytes as f64),
    ("wifi_sealed_before_seconds", "Days before this are sealed", |w| {
        w.sealing.sealed_before.map_or(f64::NAN, |at| at as f64 / time::SECOND as f64)
    }),
    ("wifi_sealing_failing", "1 when the last seal or reopening failed", |w| f64::from(u8::from(w.sealing.last_error.is_some()))),
    ("wifi_cell_cache_bytes", "Sealed numbers of spaces in memory", |w| w.sealing.cell_cache.bytes as f64),
];

/// With `_total` appended by the format.
const COUNTERS: [Count; 7] = [
    ("alerts_given", "Alerts: spaces that crossed a share of their capacity", |w| w.alerts.given),
    ("alerts_delivered", "Alerts that the brokers have accepted", |w| w.alerts.delivered),
    ("alerts_missed", "Alerts that were not sent to the brokers because too many waited", |w| w.alerts.missed),
    ("wifi_reopened_devices", "Devices whose sealed sessions came back for late rows", |w| w.sealing.reopened_devices),
    ("wifi_seals", "Seals of WiFi sessions", |w| w.sealing.seals),
    ("wifi_cell_cache_hits", "Row groups of sealed numbers found in memory", |w| w.sealing.cell_cache.hits),
    ("wifi_cell_cache_misses", "Row groups of sealed numbers that had to be read", |w| w.sealing.cell_cache.misses),
];

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, wifi: &WifiStatus) -> Result<(), Error> {
    for (name, help, read) in GAUGES {
        gauge(encoder, name, help, read(wifi))?;
    }
    for (name, help, read) in COUNTERS {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(read(wifi)).encode(metric)?;
    }
    Ok(())
}
