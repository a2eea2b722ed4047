//! Export and import of state: what a snapshot will be made of.
//!
//! Every stateful operator can give its state at a closed time as rows, and take such rows instead of the history before that
//! time: `import(T)` followed by the rest of the log equals a full replay. Rows are versioned, independent of slots and workers,
//! and carry the key hash they are partitioned by, so another number of workers can read them.
//!
//! Format: [`StateRow::body`] is postcard of one of the types below, by `operator` and `version`. An unknown pair is refused.

use crate::engine::ControlIn;
use crate::views::catalog::Catalog;
use crate::views::clusters::ClustersState;
use crate::views::context::{ContextState, StepsRow};
use crate::views::labels::{LabelRow, Labels, MatrixHead};
use crate::views::minutes::{MinuteUpdate, MinutesState};
use crate::views::occupancy::cells::Cells;
use crate::views::occupancy::devices::{DeviceRow, Devices};
use crate::views::occupancy::query::Standing;
use crate::views::sessions::source::Counts;
use crate::views::sessions::state::BUCKETS;
use crate::views::sessions::{EventRow, SessionsState, UserRow};
use desireline_records::{CatalogEntry, Cell, CellKey, ClusterModel, ColdPart, LogicalTime, Micros, SourceSettings, Space};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operator {
    /// One row per source: settings, counts, boundary, cold parts.
    Sources,
    /// One row per user.
    Sessions,
    /// One row per cell.
    Minutes,
    /// One row per (source, number of clusters).
    Clusters,
    /// One row per user with a context.
    Contexts,
    /// One row per entry.
    Catalog,
    /// What every worker knows of WiFi sessions: one row.
    Wifi,
    /// One row per device.
    Devices,
    /// One row per cell.
    Cells,
    /// One row per space.
    Spaces,
    /// One row per label matrix.
    Matrices,
    /// One row per thing of a label matrix.
    Labels,
}

/// The version of each operator's rows.
pub const VERSION: u16 = 3;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateRow {
    pub operator: Operator,
    pub version: u16,
    pub key_hash: u64,
    pub body: Vec<u8>,
}

#[derive(Debug, Error)]
pub enum StateError {
    #[error("state rows of {operator:?} have version {version}; this release reads version {VERSION}")]
    Version { operator: Operator, version: u16 },
    #[error("a state row of {operator:?} cannot be read: {source}")]
    Unreadable { operator: Operator, source: postcard::Error },
    #[error("a state row of {operator:?} cannot be read: {source}")]
    Damaged { operator: Operator, source: serde_json::Error },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SourceRow {
    settings: SourceSettings,
    counts: Counts,
    boundary: Option<Micros>,
    cold: Vec<ColdPart>,
    erased: Vec<(EcoString, LogicalTime)>,
    minutes_evicted: Option<Micros>,
}

fn row(operator: Operator, key_hash: u64, body: &impl Serialize) -> StateRow {
    let body = postcard::to_stdvec(body).expect("state rows hold only serialisable values");
    StateRow { operator, version: VERSION, key_hash, body }
}

/// One worker's state. Counts of sources are exported per worker and add up on import.
pub fn export(
    sessions: &SessionsState,
    minutes: &MinutesState,
    clusters: &ClustersState,
    contexts: &ContextState,
    catalog: &Catalog,
) -> Vec<StateRow> {
    let mut rows = Vec::new();
    for (source, state) in &sessions.sources {
        let body = SourceRow {
            settings: state.settings.clone(),
            counts: state.counts,
            boundary: state.boundary,
            cold: state.cold.clone(),
            erased: state.erased.iter().map(|(user, at)| (user.clone(), *at)).collect(),
            minutes_evicted: minutes.evicted().find(|(s, _)| s == source).map(|(_, before)| before),
        };
        rows.push(row(Operator::Sources, u64::from(*source), &body));
    }
    for bucket in 0..BUCKETS {
        for slot in sessions.bucket(bucket) {
            let user = &sessions.users[*slot as usize];
            let events = user.history.events().iter().map(|e| {
                let kind = sessions.kinds.get(e.kind);
                EventRow {
                    time: e.time,
                    id: e.id,
                    value: e.value,
                    payload: e.payload,
                    movement: kind.movement,
                    page: kind.page.clone(),
                    event_type: kind.event_type.clone(),
                }
            });
            let mut deleted: Vec<_> = user.deleted.iter().flat_map(|d| d.iter().map(|(id, time)| (*id, *time))).collect();
            deleted.sort_unstable();
            let body = UserRow {
                source: user.source,
                user: user.name.clone(),
                events: events.collect(),
                sealed: user.sealed.as_deref().cloned(),
                deleted,
            };
            rows.push(row(Operator::Sessions, user.hash, &body));
        }
    }
    rows.extend(minutes.since(None, Micros::MIN).map(|cell| row(Operator::Minutes, 0, &cell)));
    if sessions.worker == 0 {
        rows.extend(clusters.models().map(|model| row(Operator::Clusters, u64::from(model.source), model.as_ref())));
        rows.extend(catalog.entries().map(|entry| row(Operator::Catalog, 0, &entry)));
    }
    rows.extend(contexts.steps().map(|(key, steps)| {
        let user = &sessions.users[key.slot as usize];
        let body = StepsRow { source: key.source, user: user.name.clone(), steps: steps.clone() };
        row(Operator::Contexts, user.hash, &body)
    }));
    rows
}

/// One worker's state of WiFi sessions and spaces.
pub fn export_wifi(sessions: &SessionsState, devices: &Devices, cells: &Cells) -> Vec<StateRow> {
    let mut rows: Vec<StateRow> = devices.export().map(|(hash, device)| row(Operator::Devices, hash, &device)).collect();
    rows.extend(cells.before(Micros::MAX).into_iter().map(|cell| row(Operator::Cells, 0, &cell)));
    if sessions.worker == 0 {
        rows.push(row(Operator::Wifi, 0, &devices.standing));
        rows.extend(cells.tree.iter().map(|space| row(Operator::Spaces, 0, space)));
    }
    rows
}

/// One worker's state of label matrices. Models are JSON, which only describes itself: heads are written as such.
pub fn export_labels(labels: &Labels, first: bool) -> Vec<StateRow> {
    let mut rows: Vec<StateRow> = labels.export_rows().map(|(hash, label)| row(Operator::Labels, hash, &label)).collect();
    if first {
        let text = |head| serde_json::to_string(&head).expect("a matrix and its model are JSON");
        rows.extend(labels.export_heads().map(|head| row(Operator::Matrices, 0, &text(head))));
    }
    rows
}

/// State rows, sorted out for import.
#[derive(Default)]
pub(crate) struct Import {
    sources: Vec<SourceRow>,
    pub users: Vec<UserRow>,
    pub minutes: Vec<MinuteUpdate>,
    pub models: Vec<ClusterModel>,
    contexts: Vec<StepsRow>,
    catalog: Vec<CatalogEntry>,
    standing: Standing,
    devices: Vec<DeviceRow>,
    cells: Vec<(CellKey, Cell)>,
    spaces: Vec<Space>,
    matrices: Vec<MatrixHead>,
    labels: Vec<LabelRow>,
}

impl Import {
    pub fn read(rows: &[StateRow]) -> Result<Self, StateError> {
        let mut import = Self::default();
        for row in rows {
            let operator = row.operator;
            if row.version != VERSION {
                return Err(StateError::Version { operator, version: row.version });
            }
            let unreadable = |source| StateError::Unreadable { operator, source };
            match operator {
                Operator::Sources => import.sources.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Sessions => import.users.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Minutes => import.minutes.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Contexts => import.contexts.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Catalog => import.catalog.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Wifi => import.standing = postcard::from_bytes(&row.body).map_err(unreadable)?,
                Operator::Devices => import.devices.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Cells => import.cells.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Spaces => import.spaces.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Matrices => {
                    let text: String = postcard::from_bytes(&row.body).map_err(unreadable)?;
                    import.matrices.push(serde_json::from_str(&text).map_err(|source| StateError::Damaged { operator, source })?);
                }
                Operator::Labels => import.labels.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
                Operator::Clusters => import.models.push(postcard::from_bytes(&row.body).map_err(unreadable)?),
            }
        }
        Ok(import)
    }

    /// What stands outside the dataflow's inputs: per-source state, on every worker; counts on the first only.
    pub fn restore_sources(&self, sessions: &mut SessionsState, minutes: &mut MinutesState) {
        let counting = sessions.worker == 0;
        for row in &self.sources {
            let state = sessions.source(row.settings.source);
            state.settings = row.settings.clone();
            state.boundary = row.boundary.max(state.boundary);
            state.cold = row.cold.clone();
            state.erased.extend(row.erased.iter().cloned());
            if counting {
                state.counts.add(&row.counts);
            }
            if let Some(before) = row.minutes_evicted {
                minutes.restore_evicted(row.settings.source, before);
            }
        }
    }

    /// The part that belongs to one worker, as inputs of the dataflow.
    pub fn inputs(&self, owns: impl Fn(u64) -> bool, first: bool) -> Vec<ControlIn> {
        let mine = |user: &&UserRow| owns(desireline_records::user_hash(user.source, &user.user));
        let mut inputs = vec![ControlIn::ImportUsers(self.users.iter().filter(mine).cloned().collect())];
        let mine = |row: &&StepsRow| owns(desireline_records::user_hash(row.source, &row.user));
        inputs.push(ControlIn::ImportContexts(self.contexts.iter().filter(mine).cloned().collect()));
        inputs.push(ControlIn::ImportCatalog(self.catalog.clone()));
        inputs.push(ControlIn::ImportStanding(Box::new(self.standing.clone())));
        if let Some(source) = self.standing.source {
            let mine = |row: &&DeviceRow| owns(desireline_records::user_hash(source, &row.device));
            inputs.push(ControlIn::ImportDevices(self.devices.iter().filter(mine).cloned().collect()));
        }
        inputs.push(ControlIn::ImportMatrices(self.matrices.clone()));
        inputs.push(ControlIn::ImportLabelRows(self.labels.as_slice().into()));
        inputs.push(ControlIn::ImportSpaces(self.spaces.clone()));
        if first {
            inputs.push(ControlIn::ImportMinutes(self.minutes.clone()));
            inputs.push(ControlIn::ImportCells(self.cells.clone()));
        }
        inputs.push(ControlIn::ImportModels(self.models.clone()));
        inputs
    }
}
