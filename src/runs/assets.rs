//! The views as assets. A view is always current, so its last materialization is the time at which it answers now.

use crate::service::Status;
use desireline_records::time::format_rfc3339;
use desireline_records::{LogicalTime, Micros};
use serde::Serialize;

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
    let at = rfc3339(status.as_of);
    let views = status.sources.iter().flat_map(|source| {
        let applied = source.counters.applied > 0;
        let sessions = source.open_sessions + source.sealed_sessions > 0;
        [
            ("events", applied),
            ("sessions", sessions),
            ("journeys", source.users > 0),
            ("clusters", source.model_version > 0),
            ("minutes", applied),
        ]
        .map(|(view, filled)| (source.source_id, view, filled))
    });
    views
        .map(|(source, view, is_materialized)| Asset {
            asset_key: format!("{source}/{view}"),
            last_materialization: is_materialized.then(|| at.clone()),
            is_materialized,
        })
        .collect()
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
