//! Removal: what stands in its way, and what goes with it.
//!
//! Records go in one commit. Their runs are cancelled and their objects deleted after it, in the background and as well as it goes: what
//! cannot be deleted is told in the log, and harms nobody, because numbers are never given twice.
//!
//! # Known limitations
//! - Objects of records that were removed just before a crash stay.

use super::Concepts;
use super::book::{Draft, Shelved};
use super::error::ConceptError;
use super::record::{ClassifierJob, Id, Kind, Record, SnorkelJob};
use crate::runs::{RunId, RunStatus, Runs, RunsError};
use desireline_connectors::store::Store;

/// Users that a refusal names.
const NAMED_MAX: usize = 5;

/// The folder of a record's objects; also the serial key of the runs that write there. Nothing for a kind without objects.
pub fn folder(kind: Kind, id: Id) -> Option<String> {
    let name = match kind {
        Kind::Index => "indexes/index",
        Kind::Rule => "rules/rule",
        Kind::Feature => "features/feature",
        Kind::SnorkelJob => "snorkel_results/job",
        Kind::ClassifierJob => "classifier_results/job",
        Kind::Connection | Kind::Concept | Kind::Value | Kind::LabelingFunction => return None,
    };
    Some(format!("{name}_{id}"))
}

/// How a refusal calls a user.
pub(super) fn user<R: Record>(record: &R, name: &str) -> String {
    format!("{} '{name}' ({})", R::NAME.to_lowercase(), record.id())
}

/// The same of a record without a name.
pub(super) fn nameless<R: Record>(record: &R) -> String {
    format!("{} {}", R::NAME.to_lowercase(), record.id())
}

/// Refuses when there are users, and names them.
pub(super) fn in_use(what: &str, users: impl Iterator<Item = String>) -> Result<(), ConceptError> {
    let mut users = users;
    let named: Vec<String> = users.by_ref().take(NAMED_MAX).collect();
    let more = match users.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if named.is_empty() { Ok(()) } else { Err(ConceptError::InUse(format!("{what} is in use by {}{more}", named.join(", ")))) }
}

/// What is left of removed records.
#[derive(Debug, Default)]
pub struct Leftovers {
    folders: Vec<String>,
    runs: Vec<RunId>,
}

impl Leftovers {
    /// Removes a record from the draft and notes what it leaves.
    pub fn remove<R: Shelved>(&mut self, draft: &mut Draft, id: Id) {
        self.folders.extend(folder(R::KIND, id));
        draft.remove::<R>(id);
    }

    pub fn remove_snorkel_job(&mut self, draft: &mut Draft, job: &SnorkelJob) {
        self.runs.extend(job.dagster_run_id.as_deref().filter(|_| job.status.is_open()).map(RunId::from));
        self.remove::<SnorkelJob>(draft, job.job_id);
    }

    pub fn remove_classifier_job(&mut self, draft: &mut Draft, job: &ClassifierJob) {
        self.runs.extend(job.dagster_run_id.as_deref().filter(|_| job.status.is_open()).map(RunId::from));
        self.remove::<ClassifierJob>(draft, job.job_id);
    }

    async fn clear(mut self, store: Store, runs: Runs) {
        let open = [RunStatus::Pending, RunStatus::Started].map(|status| runs.list(usize::MAX, Some(status)));
        let of_folders = open.into_iter().flatten().filter(|run| run.serial_key.as_ref().is_some_and(|key| self.folders.contains(key)));
        self.runs.extend(of_folders.map(|run| run.run_id));
        for id in &self.runs {
            match runs.cancel(id).await {
                Ok(_) | Err(RunsError::NotFound(_) | RunsError::NotCancellable { .. }) => {}
                Err(error) => tracing::warn!(run_id = %id, %error, "the run of a removed record could not be cancelled"),
            }
        }
        for folder in &self.folders {
            let objects = match store.list(&format!("{folder}/"), None).await {
                Ok(objects) => objects,
                Err(error) => {
                    tracing::warn!(folder, %error, "objects of a removed record could not be listed; they stay");
                    continue;
                }
            };
            for object in objects {
                match store.delete(&object.name).await {
                    Err(error) if !error.is_not_found() => {
                        tracing::warn!(object = object.name, %error, "an object of a removed record could not be deleted; it stays");
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Concepts {
    /// Cancels the runs of what was removed and deletes its objects, without waiting for it.
    pub(super) fn clear(&self, leftovers: Leftovers) {
        tokio::spawn(leftovers.clear(self.store().clone(), self.runs().clone()));
    }
}
