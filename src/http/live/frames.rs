//! The frames of the live stream: see `docs/http.md` for their shapes.

use super::cells::Cell;
use super::occupancy::SpaceCell;
use crate::http::wire::{Cluster, StatusReply};
use crate::service::OccupancyChange;
use desireline_records::{LogicalTime, SourceId};
use serde::Serialize;
use std::sync::Arc;

#[derive(Clone, Debug, Serialize)]
pub(super) struct StatusFrame {
    #[serde(flatten)]
    pub status: StatusReply,
    pub corrections_per_minute: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct MinutesFrame {
    pub as_of: LogicalTime,
    pub snapshot: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    pub corrections_per_minute: u64,
    pub cells: Vec<Cell>,
}

/// The clusters of one source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SourceClusters {
    pub source_id: SourceId,
    pub model_version: u64,
    pub users: u64,
    pub clusters: Vec<Cluster>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ClustersFrame {
    pub as_of: LogicalTime,
    pub sources: Vec<SourceClusters>,
}

/// How many are where: in the running bin and in the one before it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OccupancyFrame {
    pub as_of: LogicalTime,
    pub snapshot: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    pub interval_seconds: u32,
    /// Of the running bin.
    pub interval_begin_time: String,
    pub cells: Vec<SpaceCell>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ResyncFrame {
    pub as_of: LogicalTime,
    pub reason: &'static str,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Status(Box<StatusFrame>),
    Minutes(MinutesFrame),
    Clusters(ClustersFrame),
    Occupancy(OccupancyFrame),
    /// A space crossed a share of its capacity.
    OccupancyChange(Arc<OccupancyChange>),
    Resync(ResyncFrame),
}

impl Body {
    pub fn event(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Minutes(_) => "minutes",
            Self::Clusters(_) => "clusters",
            Self::Occupancy(_) => "occupancy",
            Self::OccupancyChange(change) => change.event,
            Self::Resync(_) => "resync",
        }
    }

    /// The JSON for a subscriber of one source or of all; absent when nothing in it concerns the source.
    pub fn json(&self, source: Option<SourceId>) -> Option<String> {
        let text = match (self, source) {
            (Self::Status(frame), None) => serde_json::to_string(frame),
            (Self::Status(frame), Some(source)) => {
                let mut frame = frame.clone();
                frame.status.sources.retain(|item| item.source_id == source);
                serde_json::to_string(&frame)
            }
            (Self::Minutes(frame), None) => serde_json::to_string(frame),
            (Self::Minutes(frame), Some(source)) => {
                let cells: Vec<Cell> = frame.cells.iter().filter(|cell| cell.source_id == source).cloned().collect();
                if cells.is_empty() && !frame.snapshot {
                    return None;
                }
                serde_json::to_string(&MinutesFrame { cells, ..*frame })
            }
            (Self::Clusters(frame), None) => serde_json::to_string(frame),
            (Self::Clusters(frame), Some(source)) => {
                let sources: Vec<SourceClusters> = frame.sources.iter().filter(|item| item.source_id == source).cloned().collect();
                if sources.is_empty() {
                    return None;
                }
                serde_json::to_string(&ClustersFrame { sources, ..*frame })
            }
            // Spaces are of no source.
            (Self::Occupancy(_) | Self::OccupancyChange(_), Some(_)) => return None,
            (Self::Occupancy(frame), None) => serde_json::to_string(frame),
            (Self::OccupancyChange(change), None) => serde_json::to_string(change.as_ref()),
            (Self::Resync(frame), _) => serde_json::to_string(frame),
        };
        Some(text.expect("frames have string keys and finite shapes, so they serialise"))
    }
}
