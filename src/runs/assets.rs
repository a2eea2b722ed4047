//! The views as assets. A view is always current, so its last materialization is the time at which it answers now.

use crate::service::{SourceStatus, Status};
use desireline_records::time::format_rfc3339;
use desireline_records::{LogicalTime, Micros, SourceId};
use serde::Serialize;

const VIEWS: [&str; 5] = ["events", "sessions", "journeys", "clusters", "minutes"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asset {
    /// `<source id>/<view>`.
    pub asset_key: String,
    /// RFC 3339; absent while the view has no rows.
    pub last_materialization: Option<String>,
    pub is_materialized: bool,
}

/// The views of this release, for every source that the service knows: five each, in the order in which data flows.
pub fn assets(status: &Status) -> Vec<Asset> {
    let filled = |source: &SourceStatus| {
        let applied = source.counters.applied > 0;
        let sessions = source.open_sessions + source.sealed_sessions > 0;
        [applied, sessions, source.users > 0, source.model_version > 0, applied]
    };
    status.sources.iter().flat_map(|source| assets_of(source.source_id, filled(source), status.as_of)).collect()
}

/// `filled`: which of the views have rows.
pub(super) fn assets_of(source: SourceId, filled: [bool; 5], as_of: LogicalTime) -> impl Iterator<Item = Asset> {
    VIEWS.into_iter().zip(filled).map(move |(view, is_materialized)| Asset {
        asset_key: format!("{source}/{view}"),
        last_materialization: is_materialized.then(|| rfc3339(as_of)),
        is_materialized,
    })
}

fn rfc3339(time_ms: LogicalTime) -> String {
    format_rfc3339(Micros::try_from(time_ms).unwrap_or(Micros::MAX).saturating_mul(1_000))
}

/// The answer of `/dagster/health`, in the words that its clients know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunsHealth {
    /// `healthy` or `unhealthy`.
    pub status: &'static str,
    pub dagster_host: String,
    /// A string, as its clients expect.
    pub dagster_port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
