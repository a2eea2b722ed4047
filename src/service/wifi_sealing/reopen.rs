//! Devices with late rows: their sealed sessions come back into memory, and the rows are applied.

use super::{Inner, NO_PANIC, Sealed, ServiceError, unreadable};
use desireline_connectors::cold::{self, ColdStay};
use desireline_dataflows::views::occupancy::query::{OccupancyQuery, Standing};
use desireline_records::{Control, LogicalTime, Reopen, ReopenedDevice, SealedStay, Token};
use ecow::EcoString;
use std::collections::BTreeMap;

/// A record has at most this many sessions, or one device.
const RECORD_STAYS_MAX: usize = 50_000;
/// Sessions that come back into memory between two seals, and then the rest of the devices that were read together with the last.
pub(super) const STAYS_MAX: usize = 500_000;
/// Devices whose sessions are read from the parts together.
const READ_DEVICES_MAX: usize = 64;

/// A device: its key hash and its name.
pub(super) type DeviceKey = (u64, EcoString);

impl Inner {
    /// Reopens devices with pending rows: those with the lowest key hashes, at most `wifi.reopen_devices_max`. Answers whether others wait.
    pub(super) async fn reopen_pending(&self) -> Result<bool, ServiceError> {
        // Nothing is late before days are sealed.
        if self.wifi_sealed().is_none_or(|sealed| sealed.begun().is_none()) {
            return Ok(false);
        }
        if self.pending().await?.1.is_empty() {
            return Ok(false);
        }
        let _history = self.history.lock().await;
        self.settled().await?;
        let Some(sealed) = self.wifi_sealed() else { return Ok(false) };
        let (standing, mut devices) = self.pending().await?;
        let first = devices.first().cloned();
        devices.truncate(self.config.occupancy.sealing.reopen_devices_max);
        self.reopen(&sealed, &standing, devices, STAYS_MAX).await?;
        // Devices may wait for the next seal, or have got rows again meanwhile.
        let (_, waiting) = self.pending().await?;
        Ok(!waiting.is_empty() && waiting.first() != first.as_ref())
    }

    /// Devices with pending rows, by key hash.
    async fn pending(&self) -> Result<(std::sync::Arc<Standing>, Vec<DeviceKey>), ServiceError> {
        let devices_max = self.config.occupancy.sealing.reopen_devices_max;
        let (_, standing, answers) = self.ask_occupancy(OccupancyQuery::Pending { devices_max }).await?;
        let pending = answers.into_iter().flat_map(|answer| answer.pending);
        let mut devices: Vec<DeviceKey> = pending.map(|device| (device.hash, device.device)).collect();
        devices.sort_unstable();
        self.wifi_sealing.gauges.lock().expect(NO_PANIC).pending_devices = devices.len();
        Ok((standing, devices))
    }

    /// How many devices have pending rows, and at what time: none that came by then is pending when there are none.
    pub(super) async fn pending_at(&self) -> Result<(LogicalTime, usize), ServiceError> {
        let (as_of, _, answers) = self.ask_occupancy(OccupancyQuery::Pending { devices_max: 1 }).await?;
        Ok((as_of, answers.iter().map(|answer| answer.pending.len()).sum()))
    }

    /// Brings back all sealed sessions of some devices, and waits until their pending rows are applied. Leaves devices out when there are
    /// more than `stays_max` such sessions in memory. The history lock must be held.
    pub(super) async fn reopen(
        &self,
        sealed: &Sealed,
        standing: &Standing,
        devices: Vec<DeviceKey>,
        stays_max: usize,
    ) -> Result<(), ServiceError> {
        let erasures = standing.erasures();
        let mut record = Record::default();
        let mut last = None;
        for devices in devices.chunks(READ_DEVICES_MAX) {
            let away: Vec<DeviceKey> = {
                let reopened = self.wifi_sealing.reopened.lock().expect(NO_PANIC);
                if reopened.stays + record.stays >= stays_max {
                    break;
                }
                devices.iter().filter(|(_, device)| !reopened.devices.contains(device)).cloned().collect()
            };
            let rows = cold::read_devices(&self.store, &sealed.stays, &away).await.map_err(unreadable)?;
            let mut by_device: BTreeMap<DeviceKey, (bool, Vec<SealedStay>)> =
                devices.iter().map(|device| (device.clone(), Default::default())).collect();
            for ColdStay { key_hash, device, randomized, stay, exported_at } in rows {
                let counts = erasures.spare(&device, exported_at);
                if let (true, Some(known)) = (counts, by_device.get_mut(&(key_hash, device))) {
                    known.0 |= randomized;
                    known.1.push(stay);
                }
            }
            for ((_, device), (randomized, stays)) in by_device {
                if record.stays + stays.len() > RECORD_STAYS_MAX && !record.devices.is_empty() {
                    last = Some(self.commit_reopen(sealed, std::mem::take(&mut record)).await?);
                }
                record.stays += stays.len();
                record.devices.push(ReopenedDevice { device, randomized, stays });
            }
        }
        if !record.devices.is_empty() {
            last = Some(self.commit_reopen(sealed, record).await?);
        }
        match last {
            Some(token) => self.wait_applied(token.time, self.config.peek_deadline).await,
            None => Ok(()),
        }
    }

    async fn commit_reopen(&self, sealed: &Sealed, record: Record) -> Result<Token, ServiceError> {
        let names: Vec<EcoString> = record.devices.iter().map(|device| device.device.clone()).collect();
        let (devices, stays) = (names.len(), record.stays);
        self.wifi_sealing.reopened.lock().expect(NO_PANIC).unsealed = true;
        let token = self.commit_control(Control::Reopen(Reopen { source: sealed.source, devices: record.devices })).await?;
        let mut reopened = self.wifi_sealing.reopened.lock().expect(NO_PANIC);
        reopened.stays += stays;
        reopened.devices.extend(names);
        self.wifi_sealing.gauges.lock().expect(NO_PANIC).reopened_devices += devices as u64;
        tracing::debug!(devices, stays, "devices with late WiFi sessions were reopened");
        Ok(token)
    }
}

/// A record that is being filled.
#[derive(Default)]
struct Record {
    devices: Vec<ReopenedDevice>,
    stays: usize,
}
