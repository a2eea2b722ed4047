//! What the status says about WiFi sessions, spaces and alerts.

use super::wire::rfc3339;
use crate::service::{AlertCounts, WifiStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// WiFi sessions and spaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct WifiItem {
    /// In memory.
    pub devices: u64,
    /// In memory.
    pub sessions: u64,
    /// Of these, not closed and still growing.
    pub open: u64,
    /// Numbers in memory: of spaces by bins, visits, moves.
    pub cells: u64,
    /// Rows of sealed days that wait until the history of their device has been read.
    pub pending: u64,
    /// Sessions in memory whose space is not known.
    pub unknown_space: u64,
    pub spaces: u64,
    /// Spaces whose parent is not known.
    pub orphans: u64,
    pub alerts: AlertsItem,
    pub sealing: WifiSealingItem,
}

/// Since the server began.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AlertsItem {
    pub given: u64,
    /// Of these, accepted by the brokers.
    pub delivered: u64,
    /// … and not sent to them because too many waited.
    pub missed: u64,
}

impl From<AlertCounts> for AlertsItem {
    fn from(AlertCounts { given, delivered, missed }: AlertCounts) -> Self {
        Self { given, delivered, missed }
    }
}

/// What of WiFi sessions has left memory. Times are RFC 3339.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct WifiSealingItem {
    /// Rows that begin before this are pending.
    pub late_before: Option<String>,
    /// Days before this are sealed.
    pub sealed_before: Option<String>,
    /// Sessions that ended before this are gone, by retention.
    pub retained_from: Option<String>,
    pub parts: u64,
    pub sessions: u64,
    pub cells: u64,
    pub bytes: u64,
    /// Devices with pending rows, when they were last looked at.
    pub pending_devices: u64,
    /// Since the server began.
    pub reopened_devices: u64,
    pub seals: u64,
    pub last_sealed_at: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
    /// Sealed cells in memory.
    pub cache_bytes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
}

impl From<WifiStatus> for WifiItem {
    fn from(wifi: WifiStatus) -> Self {
        let (memory, sealing) = (wifi.memory, wifi.sealing);
        let sealing = WifiSealingItem {
            late_before: sealing.late_before.map(rfc3339),
            sealed_before: sealing.sealed_before.map(rfc3339),
            retained_from: sealing.retained_from.map(rfc3339),
            parts: (sealing.stays_parts + sealing.cells_parts) as u64,
            sessions: sealing.sealed_stays,
            cells: sealing.sealed_cells,
            bytes: sealing.bytes,
            pending_devices: sealing.pending_devices as u64,
            reopened_devices: sealing.reopened_devices,
            seals: sealing.seals,
            last_sealed_at: sealing.last_sealed_at.map(rfc3339),
            error: sealing.last_error,
            cache_bytes: sealing.cell_cache.bytes as u64,
            cache_hits: sealing.cell_cache.hits,
            cache_misses: sealing.cell_cache.misses,
        };
        Self {
            devices: memory.devices as u64,
            sessions: memory.stays as u64,
            open: memory.open as u64,
            cells: memory.cells as u64,
            pending: memory.pending as u64,
            unknown_space: memory.unknown_space as u64,
            spaces: memory.spaces as u64,
            orphans: memory.orphans as u64,
            alerts: wifi.alerts.into(),
            sealing,
        }
    }
}
