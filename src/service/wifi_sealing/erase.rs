//! Erasure of devices: what was counted of them is taken back exactly, also from sealed cells.
//!
//! A device is reopened with all its sealed sessions first, so that the erase record finds everything that was ever counted. What that takes
//! back from sealed cells is a difference in memory, and is written to a part at once: once the device's rows have left the log, a replay
//! would not find it any more.

use super::reopen::DeviceKey;
use super::{Inner, Service, ServiceError, unreadable};
use desireline_connectors::cold;
use desireline_dataflows::views::occupancy::query::OccupancyQuery;
use desireline_records::time::now_micros;
use desireline_records::{Control, EraseUser, SourceId, Token, user_hash};
use ecow::EcoString;
use std::collections::BTreeSet;

impl Service {
    /// Erases devices from every view at once. The physical erasure goes on in the background; its ids are returned. `NotFound` when none
    /// of them is known.
    pub async fn erase_device(&self, source: SourceId, devices: &[EcoString]) -> Result<(Token, Vec<String>), ServiceError> {
        self.inner.must_be_ready()?;
        let _history = self.inner.history.lock().await;
        self.inner.erase_devices(source, devices).await
    }
}

impl Inner {
    /// Whether the users of a source are devices.
    pub(in super::super) fn has_devices(&self, source: SourceId) -> bool {
        self.wifi_sealed().is_some_and(|sealed| sealed.source == source)
    }

    /// The history lock must be held.
    pub(in super::super) async fn erase_devices(
        &self,
        source: SourceId,
        devices: &[EcoString],
    ) -> Result<(Token, Vec<String>), ServiceError> {
        self.settled().await?;
        let unknown = || ServiceError::NotFound(format!("source {source} has no device with this id"));
        let sealed = self.wifi_sealed().filter(|sealed| sealed.source == source).ok_or_else(unknown)?;
        let devices: BTreeSet<DeviceKey> =
            devices.iter().filter(|device| !device.is_empty()).map(|device| (user_hash(source, device), device.clone())).collect();
        let devices: Vec<DeviceKey> = devices.into_iter().collect();
        let (_, standing, _) = self.ask_occupancy(OccupancyQuery::Pending { devices_max: 0 }).await?;
        let mut known = self.known_devices(source, &devices).await?;
        let erasures = standing.erasures();
        for stay in cold::read_devices(&self.store, &sealed.stays, &devices).await.map_err(unreadable)? {
            if erasures.spare(&stay.device, stay.exported_at) {
                known.insert(stay.device);
            }
        }
        let rest: BTreeSet<EcoString> =
            devices.iter().map(|(_, device)| device).filter(|device| !known.contains(*device)).cloned().collect();
        if !rest.is_empty() {
            known.extend(self.mentioned(source, &rest).await?);
        }
        let devices: Vec<DeviceKey> = devices.into_iter().filter(|(_, device)| known.contains(device)).collect();
        if sealed.begun().is_some() {
            self.reopen(&sealed, &standing, devices.clone(), usize::MAX).await?;
        }
        let mut last = None;
        let mut ids = Vec::new();
        for (_, user) in devices {
            let erase = EraseUser { source, user, requested_at: now_micros(), sealed_minutes: Vec::new(), purged: None };
            let token = self.commit_control(Control::Erase(erase)).await?;
            ids.push(super::super::erasure::erasure_id(token.time));
            last = Some(token);
        }
        let token = last.ok_or_else(unknown)?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        self.maintain.notify_one();
        self.flush_residuals().await?;
        Ok((token, ids))
    }

    /// Writes what has changed of sealed days to parts. The history lock must be held.
    pub(in super::super) async fn flush_residuals(&self) -> Result<(), ServiceError> {
        match self.wifi_sealed().and_then(|sealed| sealed.begun()) {
            Some(boundary) => self.seal_to(boundary, false).await,
            None => Ok(()),
        }
    }

    /// Those of the devices that are in memory.
    async fn known_devices(&self, source: SourceId, devices: &[DeviceKey]) -> Result<BTreeSet<EcoString>, ServiceError> {
        let mut known = BTreeSet::new();
        for (_, device) in devices {
            let (_, standing, answers) = self.ask_occupancy(OccupancyQuery::Device { device: device.clone() }).await?;
            if standing.source == Some(source) && answers.iter().any(|answer| answer.device.is_some()) {
                known.insert(device.clone());
            }
        }
        Ok(known)
    }
}
