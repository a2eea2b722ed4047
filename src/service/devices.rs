//! Devices of WiFi sessions: by what names the log knows them, and whether the keys of these names are at hand.
//!
//! The log records the fingerprint of each key that rows were written with ([`KEY_KIND`]), with the settings of the source or, after a
//! rotation, at the next start. A key that is recorded but not in the file any more is an error of the source's partition
//! [`KEYS_PARTITION`] in the status until the file has it again: its devices can neither be recognised nor erased by their addresses.

use super::{Inner, NO_PANIC, PartitionReport, Service, ServiceError};
use crate::privacy::Keys;
use desireline_records::time::{format_rfc3339, now_micros};
use desireline_records::validate::wifi::normal_id;
use desireline_records::validate::{Pseudonyms, WifiRules};
use desireline_records::{Control, Micros, Progress, SourceId, Token};
use ecow::EcoString;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Documents of this kind are named by the fingerprint of a key.
pub const KEY_KIND: &str = "mac_key";
/// Under which the status tells of missing keys.
pub const KEYS_PARTITION: &str = "keys";

/// How rows of WiFi sessions are taken.
#[derive(Clone, Debug)]
pub struct WifiIngestConfig {
    pub source: SourceId,
    /// A longer session is refused.
    pub max_session: Micros,
    /// Ids that are no MAC addresses are refused.
    pub strict_mac: bool,
    /// The keys of pseudonyms. Absent: ids are kept.
    pub key_file: Option<PathBuf>,
    /// Somebody counts on sessions: a server that cannot make a key file does not start.
    pub required: bool,
}

impl WifiIngestConfig {
    /// Reads the keys, which the first start makes. Where it cannot and nobody minds, no session is taken.
    pub(super) fn open(&self) -> Result<(Option<WifiRules>, Option<Arc<Keys>>), ServiceError> {
        let keys = match self.key_file.as_deref().map(Keys::open_or_create).transpose() {
            Ok(keys) => keys.map(Arc::new),
            Err(error) if error.is_unwritable() && !self.required => {
                tracing::warn!(%error, "WiFi sessions are not taken: set wifi.key_file to a file that can be written, or that is there");
                return Ok((None, None));
            }
            Err(error) => return Err(ServiceError::Unavailable(error.to_string())),
        };
        let rules = WifiRules {
            source: self.source,
            max_session: self.max_session,
            strict_mac: self.strict_mac,
            pseudonyms: keys.clone().map(|keys| keys as Arc<dyn Pseudonyms>),
        };
        Ok((Some(rules), keys))
    }
}

impl Service {
    /// The names that the log may know a device by: its id, and its pseudonyms under every key.
    pub fn names_of_device(&self, id: &str) -> Vec<EcoString> {
        let (id, _) = normal_id(id);
        let pseudonyms = self.inner.keys.iter().flat_map(|keys| keys.pseudonyms(&id));
        pseudonyms.chain([EcoString::from(id.as_ref())]).collect()
    }

    /// The source of WiFi sessions.
    pub fn wifi_source(&self) -> SourceId {
        self.inner.config.wifi_ingest.source
    }
}

impl Service {
    /// Erases a device by its id, under whatever name the log knows it. `NotFound` when it knows none.
    pub async fn erase_mac(&self, id: &str) -> Result<(Token, Vec<String>), ServiceError> {
        let unknown = |error| match error {
            ServiceError::NotFound(_) => ServiceError::NotFound("no WiFi session of this device is known".to_owned()),
            error => error,
        };
        self.erase_device(self.wifi_source(), &self.names_of_device(id)).await.map_err(unknown)
    }
}

impl Inner {
    /// What the log is to have of the key in force, when it does not have it yet.
    pub(super) fn key_record(&self) -> Option<Control> {
        let fingerprint = self.keys.as_ref()?.fingerprint();
        let fold = self.fold.read().expect(NO_PANIC);
        let known = fold.documents.get(KEY_KIND).is_some_and(|keys| keys.contains_key(fingerprint));
        let body = serde_json::json!({ "since": format_rfc3339(now_micros()) });
        (!known).then(|| Control::Document { kind: KEY_KIND.into(), key: fingerprint.clone(), body })
    }

    /// At the start: records a key that rows will be written with from now on, and tells of keys that are missing.
    pub(super) async fn check_keys(&self) -> Result<(), ServiceError> {
        let source = self.config.wifi_ingest.source;
        let missing: Vec<EcoString> = {
            let here: BTreeSet<&EcoString> = self.keys.iter().flat_map(|keys| keys.fingerprints()).collect();
            let fold = self.fold.read().expect(NO_PANIC);
            let recorded = fold.documents.get(KEY_KIND).into_iter().flat_map(|keys| keys.keys());
            recorded.filter(|fingerprint| !here.contains(fingerprint)).cloned().collect()
        };
        if !missing.is_empty() {
            let error = format!(
                "the key file lacks keys that devices were named with (fingerprints {}): they can neither be recognised nor erased by \
                 their addresses; put the keys back behind the one in force, and restart",
                missing.join(", ")
            );
            tracing::error!(source, "{error}");
            let report = PartitionReport { lag: None, error: Some(error) };
            self.reports.lock().expect(NO_PANIC).insert((source, KEYS_PARTITION.into()), report);
        }
        let met = self.fold.read().expect(NO_PANIC).sources.get(&source).is_some_and(|s| s.recorded);
        match self.key_record().filter(|_| met) {
            Some(record) => self.commit(Progress { controls: vec![record], ..Progress::default() }).await.map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::DAY;

    fn config(key_file: Option<PathBuf>, required: bool) -> WifiIngestConfig {
        WifiIngestConfig { source: 2_000, max_session: DAY, strict_mac: false, key_file, required }
    }

    #[test]
    fn a_key_that_cannot_be_made_stops_those_only_who_count_on_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nowhere = Some(PathBuf::from("/proc/no-such-folder/mac.keys"));
        let (rules, keys) = config(nowhere.clone(), false).open().expect("starts");
        assert!(rules.is_none() && keys.is_none(), "and takes no sessions");
        assert!(matches!(config(nowhere, true).open(), Err(ServiceError::Unavailable(_))));
        let damaged = Some(folder.path().join("damaged"));
        std::fs::write(folder.path().join("damaged"), "not a key").expect("written");
        assert!(config(damaged, false).open().is_err(), "a file that is there has to be a good one");
        let (rules, keys) = config(None, true).open().expect("starts");
        assert!(rules.is_some_and(|rules| rules.pseudonyms.is_none()) && keys.is_none(), "ids are kept");
    }
}
