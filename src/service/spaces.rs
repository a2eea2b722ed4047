//! The space tree: which spaces lie in which, as the log has them.
//!
//! It promises:
//! - **All or nothing**: a request with a mistake changes nothing. One of up to [`SPACES_PER_COMMIT`] spaces is one record batch, so nobody
//!   ever sees a part of it, not even after a crash; a larger one becomes durable in several steps.
//! - **No cycles**: the links that a request makes are judged together with those that stand, one writer at a time, so that two requests
//!   cannot make a cycle between them.
//! - **Any order**: a space may come before its parent. It is an orphan meanwhile and stands as a root; who writes is told the orphans.
//! - A space with children is not removed. One without leaves the tree; what was counted in it stays, and counts again when the space comes back.
//!
//! A request that its client gives up is carried out to its end all the same.

use super::{Inner, NO_PANIC, Service, ServiceError};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{Control, Progress, Space, SpaceId, Token};
use std::sync::Arc;

/// Spaces that one commit takes; more are divided.
const SPACES_PER_COMMIT: usize = 50_000;
/// Ids that an error or an answer names.
const NAMED_MAX: usize = 1_000;

impl Service {
    /// Makes spaces durable, in place of those with the same ids, and waits until every view knows them. Answers the orphans of the whole tree
    /// afterwards (at most 1,000). Of two with one id the later counts.
    pub async fn put_spaces(&self, spaces: Vec<Space>) -> Result<(Token, Vec<SpaceId>), ServiceError> {
        let inner = self.inner.clone();
        to_its_end(async move { inner.put_spaces(spaces).await }).await
    }

    /// `NotFound`, or `Conflict` while it has children.
    pub async fn remove_space(&self, id: SpaceId) -> Result<Token, ServiceError> {
        let inner = self.inner.clone();
        to_its_end(async move { inner.remove_space(id).await }).await
    }

    /// Reads the tree as the log has it. Short: commits wait meanwhile.
    pub fn with_tree<T>(&self, read: impl FnOnce(&Tree) -> T) -> T {
        read(&self.inner.fold.read().expect(NO_PANIC).spaces)
    }
}

/// The lock must be held until the log has what was decided under it.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T, ServiceError>> + Send + 'static) -> Result<T, ServiceError> {
    tokio::spawn(work).await.map_err(|error| ServiceError::Internal(error.to_string()))?
}

/// What is wrong with putting these spaces into the tree.
fn check(tree: &Tree, spaces: &[Space], spaces_max: usize) -> Result<(), ServiceError> {
    let invalid = |detail: String| Err(ServiceError::Invalid { field: "spaces", detail });
    if spaces.is_empty() {
        return invalid("must hold at least one space".to_owned());
    }
    let new: std::collections::BTreeSet<SpaceId> = spaces.iter().map(|s| s.space_id).filter(|id| !tree.contains(*id)).collect();
    if tree.len() + new.len() > spaces_max {
        return invalid(format!("would make {} spaces, more than {spaces_max} (wifi.spaces_max)", tree.len() + new.len()));
    }
    if let Some(cycle) = tree.cycle(spaces) {
        return invalid(format!("would make a cycle of the spaces {}", named(&cycle)));
    }
    Ok(())
}

fn named(ids: &[SpaceId]) -> String {
    let mut text = ids.iter().take(20).map(SpaceId::to_string).collect::<Vec<_>>().join(", ");
    if ids.len() > 20 {
        text.push_str(&format!(" and {} more", ids.len() - 20));
    }
    text
}

impl Inner {
    async fn put_spaces(self: Arc<Self>, spaces: Vec<Space>) -> Result<(Token, Vec<SpaceId>), ServiceError> {
        self.must_be_ready()?;
        let _one_writer = self.spaces.lock().await;
        check(&self.fold.read().expect(NO_PANIC).spaces, &spaces, self.config.occupancy.spaces_max)?;
        let mut token = Token { shard: 0, time: 0 };
        for chunk in spaces.chunks(SPACES_PER_COMMIT) {
            let controls = chunk.iter().cloned().map(Control::Space).collect();
            token = self.commit(Progress { controls, ..Progress::default() }).await?;
        }
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        let orphans = self.fold.read().expect(NO_PANIC).spaces.orphans().map(|space| space.space_id).take(NAMED_MAX).collect();
        Ok((token, orphans))
    }

    async fn remove_space(self: Arc<Self>, id: SpaceId) -> Result<Token, ServiceError> {
        self.must_be_ready()?;
        let _one_writer = self.spaces.lock().await;
        {
            let fold = self.fold.read().expect(NO_PANIC);
            if !fold.spaces.contains(id) {
                return Err(ServiceError::NotFound(format!("there is no space {id}")));
            }
            let children: Vec<SpaceId> = fold.spaces.children(id).map(|space| space.space_id).collect();
            if !children.is_empty() {
                return Err(ServiceError::Conflict(format!("space {id} has children: {}", named(&children))));
            }
        }
        let token = self.commit_control(Control::SpaceRemoved { space_id: id }).await?;
        self.wait_applied(token.time, self.config.peek_deadline).await?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(id: SpaceId, parent: Option<SpaceId>) -> Space {
        Space { space_id: id, space_name: None, parent_space_id: parent, building_room: None, capacity: None }
    }

    #[test]
    fn a_request_is_judged_whole_before_anything_is_written() {
        let mut tree = Tree::default();
        [space(1, None), space(10, Some(1))].into_iter().for_each(|space| drop(tree.put(space)));
        let refused = |spaces: &[Space], max| check(&tree, spaces, max).expect_err("refused").to_string();
        assert_eq!(refused(&[], 9), "must hold at least one space");
        assert_eq!(refused(&[space(2, None), space(1, Some(10))], 9), "would make a cycle of the spaces 1, 10");
        assert_eq!(refused(&[space(2, None), space(3, None)], 3), "would make 4 spaces, more than 3 (wifi.spaces_max)");
        assert!(check(&tree, &[space(2, None), space(2, Some(1)), space(10, None)], 3).is_ok(), "two of them are one, one stands already");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(named(&[1, 2]), "1, 2");
        assert!(named(&(0..100).collect::<Vec<_>>()).ends_with("18, 19 and 80 more"));
    }
}
