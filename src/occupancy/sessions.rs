//! Where sessions and spaces come from: an external database, or this server's own log.

use super::error::SessionsError;
use super::plan::Active;
use async_trait::async_trait;
use desireline_connectors::bins::Bin;
use desireline_dataflows::engine::Changes;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{LogicalTime, Micros, Space, SpaceId};
use std::time::Duration;

/// What a walk of a subtree found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovery {
    /// Earliest start and latest end of the subtree's sessions, where a bound was not given and there are any.
    pub bounds: Option<(Micros, Micros)>,
    /// The spaces of the subtree with sessions, by window; empty while the range is not known.
    pub active: Active,
}

/// The range and the windows of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: Option<Micros>,
    pub end: Option<Micros>,
    pub chunk_days: u32,
}

impl Range {
    /// The range that is left when absent bounds are taken from the sessions; nothing when it would be empty.
    pub fn settle(&self, bounds: Option<(Micros, Micros)>) -> Option<(Micros, Micros)> {
        let start = self.start.or(bounds.map(|(first, _)| first))?;
        let end = self.end.or(bounds.map(|(_, last)| last))?;
        (start < end).then_some((start, end))
    }
}

/// What was counted of one space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Without zeros, ascending.
    pub bins: Vec<Bin>,
    /// The logical time at which that was true (live).
    pub as_of: Option<LogicalTime>,
}

/// Spaces and their sessions. Every question takes at most as long as its `limit`, where it has one.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Whether the log is what is read: then chunks follow what changes there.
    fn is_live(&self) -> bool;

    async fn space(&self, id: SpaceId, limit: Duration) -> Result<Option<Space>, SessionsError>;

    /// Spaces whose name contains the text in whatever case, by name; those without a name last.
    async fn search(&self, text: Option<&str>, skip: usize, rows_max: usize, limit: Duration) -> Result<Vec<Space>, SessionsError>;

    /// Spaces without a parent.
    async fn roots(&self, limit: Duration) -> Result<Vec<Space>, SessionsError>;

    async fn children(&self, id: SpaceId, limit: Duration) -> Result<Vec<Space>, SessionsError>;

    /// A space and everything below it, in no particular order; nothing for an unknown one. Ends where links go round.
    async fn subtree(&self, id: SpaceId, limit: Option<Duration>) -> Result<Vec<Space>, SessionsError>;

    /// Which of the spaces below `root` (and itself) have sessions when.
    async fn discover(&self, root: SpaceId, range: Range, limit: Option<Duration>) -> Result<Discovery, SessionsError>;

    /// Distinct devices of the space itself, by bin.
    async fn own(&self, space: SpaceId, interval_seconds: u32, window: (Micros, Micros)) -> Result<Counted, SessionsError>;

    /// The numbers of spaces with everything below them, in their order, all of one time; where they are known without the chunks of
    /// children. Spaces that are not there have none.
    async fn wholes(
        &self,
        spaces: &[SpaceId],
        interval_seconds: u32,
        window: (Micros, Micros),
    ) -> Result<Option<Vec<Counted>>, SessionsError>;

    /// The space tree as it stands (live).
    fn tree(&self) -> Result<Option<Tree>, SessionsError>;

    /// What changes from now on in spaces and in what is counted of them (live).
    fn follow(&self, rows_max: usize) -> Result<Option<Changes>, SessionsError>;
}

/// By name, those without one last.
pub(super) fn by_name(spaces: &mut [Space]) {
    spaces.sort_by(|a, b| (a.space_name.is_none(), &a.space_name, a.space_id).cmp(&(b.space_name.is_none(), &b.space_name, b.space_id)));
}
