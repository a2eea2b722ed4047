//! Redis: the context of each user under the keys that shops read.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `user:{user_id}:recent_items` | list | items, newest first, 20 unless `interactions.context_items` says otherwise |
//! | `user:{user_id}:recent_categories` | hash | events per category; not there while no category is known |
//! | `user:{user_id}:last_active` | string | time of the last event, whole seconds since 1970 |
//!
//! in front of which stands `projection.redis.key_prefix`, if one is set. A user's three keys are replaced together, and expire when
//! its context ends (the categories when theirs do): by event time, not by the time of writing. How the keys are written, and how a
//! Redis that has lost them is noticed, is told in [`desireline_connectors::redis`]; the state is the hash `desireline:projection`.
//!
//! # Recovery
//! Redis keeps only what is current, so a target that is behind, new or emptied gets the contexts that there are now. Keys of ours
//! whose users are not among them are found by a scan and removed at the end of a rebuild; of other keys none is touched, nor one of
//! that shape whose user is no integer (all keys of ours expire by themselves). Memory of a rebuild: 8 bytes and a bit per user.
//!
//! # Known limitations
//! - Keys have no source. Of several sources that keep contexts one is written.
//! - A rebuild's scan goes through the whole database, 1,000 keys at a time.
//! - No Redis Cluster; keys that the server evicts are not missed.

use super::changeset::Changeset;
use super::target::{Applied, CatchUp, Standing, Target, TargetError};
use async_trait::async_trait;
use desireline_connectors::redis::{Claimed, Entry, Group, RedisConfig, RedisError, Value, Writer, literal};
use desireline_dataflows::changes::{ContextRow, RowKey, View, ViewRow, Views};
use desireline_records::time::{SECOND, now_micros};
use desireline_records::{LogicalTime, Micros, SourceId};
use std::collections::HashSet;

/// Changes when the keys or what they hold do.
const FORMAT: &str = "contexts 1";

const RECENT_ITEMS: &str = "recent_items";
const RECENT_CATEGORIES: &str = "recent_categories";
const LAST_ACTIVE: &str = "last_active";

#[derive(Clone)]
pub struct RedisTargetConfig {
    pub redis: RedisConfig,
    /// Written in front of every key.
    pub key_prefix: String,
    /// The source whose contexts are written.
    pub source: SourceId,
}

pub struct RedisTarget {
    writer: Writer,
    keys: Keys,
    source: SourceId,
    epoch: u64,
    /// Users written since a rebuild began.
    rebuilt: Option<HashSet<i64>>,
}

impl RedisTarget {
    /// Does not connect yet.
    pub fn new(config: RedisTargetConfig) -> Result<Self, TargetError> {
        let keys = Keys { prefix: config.key_prefix };
        let writer = Writer::new(config.redis, keys.state()).map_err(|error| of_redis(error, 0))?;
        Ok(Self { writer, keys, source: config.source, epoch: 0, rebuilt: None })
    }

    fn definition(&self) -> String {
        format!("{FORMAT} of source {}", self.source)
    }

    fn failed(&self) -> impl Fn(RedisError) -> TargetError + use<> {
        let own = self.epoch;
        move |error| of_redis(error, own)
    }

    /// What a changeset does to keys, and the users that have some afterwards.
    fn groups(&self, changes: &Changeset) -> Vec<Group> {
        let own = |source: SourceId, user: &str| {
            let again = RowKey::Context(source, user.into());
            source == self.source && !changes.rows.contains_key(&again)
        };
        let erased = changes.erased.iter().filter(|(source, user)| own(*source, user)).map(|(_, user)| self.keys.none(user));
        let taken = changes.taken().filter_map(|key| match key {
            RowKey::Context(source, user) if *source == self.source => Some(self.keys.none(user)),
            _ => None,
        });
        // A rebuild has many contexts that ended long ago; their keys are strangers at its end.
        let ended = if self.rebuilt.is_some() { now_micros() } else { Micros::MIN };
        let put = changes.put().filter_map(|row| match row {
            ViewRow::Context(row) if row.source == self.source && row.expires_at > ended => Some(self.keys.all(row)),
            _ => None,
        });
        erased.chain(taken).chain(put).collect()
    }

    fn note_rebuilt(&mut self, changes: &Changeset) {
        let Some(rebuilt) = &mut self.rebuilt else { return };
        let now = now_micros();
        for row in changes.put() {
            if let ViewRow::Context(row) = row
                && row.expires_at > now
                && let Some(user) = integer(&row.user)
            {
                rebuilt.insert(user);
            }
        }
    }

    /// Removes keys of ours whose users a rebuild has not written.
    async fn remove_strangers(&mut self, known: &HashSet<i64>) -> Result<u64, TargetError> {
        let (mut cursor, mut removed) = (0, 0);
        loop {
            let (next, found) = self.writer.scan(&self.keys.pattern(), cursor).await.map_err(self.failed())?;
            let strangers = found.iter().filter_map(|key| std::str::from_utf8(key).ok());
            let strangers = strangers.filter(|key| self.keys.user(key).is_some_and(|user| !known.contains(&user)));
            let groups: Vec<Group> = strangers.map(|key| vec![Entry::absent(key.to_owned())]).collect();
            if !groups.is_empty() {
                self.writer.write(&groups, None).await.map_err(self.failed())?;
                removed += groups.len() as u64;
            }
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    }
}

#[async_trait]
impl Target for RedisTarget {
    fn name(&self) -> &str {
        "redis"
    }

    fn views(&self) -> Views {
        View::Context.into()
    }

    fn catch_up(&self) -> CatchUp {
        CatchUp::Snapshot
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        (self.epoch, self.rebuilt) = (epoch, None);
        let claimed = self.writer.claim(&self.definition(), epoch).await.map_err(self.failed())?;
        Ok(match claimed {
            Claimed::At(time) => Standing::At(time),
            Claimed::Fresh => Standing::Fresh,
        })
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        self.rebuilt = Some(HashSet::new());
        self.writer.begin().await.map_err(self.failed())
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let groups = self.groups(changes);
        self.writer.write(&groups, Some(changes.time)).await.map_err(self.failed())?;
        self.note_rebuilt(changes);
        Ok(Applied { rows: groups.len() as u64, refused: 0 })
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        let known = self.rebuilt.take().unwrap_or_default();
        let removed = self.remove_strangers(&known).await?;
        tracing::info!(users = known.len(), removed, "the contexts in Redis have been written anew");
        self.writer.complete(time).await.map_err(self.failed())
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        self.writer.check().await.map_err(self.failed())
    }
}

/// Names of keys.
struct Keys {
    prefix: String,
}

impl Keys {
    fn state(&self) -> String {
        format!("{}desireline:projection", self.prefix)
    }

    fn of(&self, user: &str, what: &str) -> String {
        format!("{}user:{user}:{what}", self.prefix)
    }

    /// Matches all keys of ours, and others.
    fn pattern(&self) -> String {
        format!("{}user:*", literal(&self.prefix))
    }

    /// Whose key it is, if it is one of ours.
    fn user(&self, key: &str) -> Option<i64> {
        let (user, what) = key.strip_prefix(&self.prefix)?.strip_prefix("user:")?.split_once(':')?;
        [RECENT_ITEMS, RECENT_CATEGORIES, LAST_ACTIVE].contains(&what).then(|| integer(user))?
    }

    fn none(&self, user: &str) -> Group {
        [RECENT_ITEMS, RECENT_CATEGORIES, LAST_ACTIVE].map(|what| Entry::absent(self.of(user, what))).into()
    }

    fn all(&self, row: &ContextRow) -> Group {
        let entry = |what, value, expires_at| Entry { key: self.of(&row.user, what), value, expires_at_ms: milliseconds(expires_at) };
        let items = row.recent_items.iter().map(ToString::to_string).collect();
        let categories = row.recent_categories.iter().map(|(category, count)| (category.to_string(), count.to_string())).collect();
        let last_active = row.last_active.div_euclid(SECOND).to_string();
        vec![
            entry(RECENT_ITEMS, Value::List(items), row.expires_at),
            entry(RECENT_CATEGORIES, Value::Hash(categories), row.categories_expire_at),
            entry(LAST_ACTIVE, Value::Text(last_active), row.expires_at),
        ]
    }
}

fn milliseconds(time: Micros) -> i64 {
    time.div_euclid(1_000)
}

/// Of a canonical decimal integer.
fn integer(user: &str) -> Option<i64> {
    user.parse().ok().filter(|number: &i64| number.to_string() == user)
}

fn of_redis(error: RedisError, own: u64) -> TargetError {
    match error {
        RedisError::Unavailable(text) => TargetError::Unavailable(text),
        RedisError::NoScript => TargetError::Unavailable(error.to_string()),
        RedisError::Refused(text) => TargetError::Refused(text),
        RedisError::Fenced { newer } => TargetError::Fenced { own, newer },
        RedisError::Lost(text) => TargetError::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_three_shapes_are_ours() {
        let keys = Keys { prefix: "shop:".into() };
        for (key, user) in [
            ("shop:user:7:recent_items", Some(7)),
            ("shop:user:-7:recent_categories", Some(-7)),
            ("shop:user:7:last_active", Some(7)),
            ("user:7:last_active", None),
            ("shop:user:07:last_active", None),
            ("shop:user:x:last_active", None),
            ("shop:user:7:cart", None),
            ("shop:user:7:cart:recent_items", None),
            ("shop:user:7", None),
        ] {
            assert_eq!(keys.user(key), user, "{key}");
        }
        assert_eq!(Keys { prefix: "a*".into() }.pattern(), "a\\*user:*");
    }

    #[test]
    fn seconds_and_milliseconds_are_rounded_down() {
        let row = ContextRow {
            source: 1,
            user: "7".into(),
            recent_items: vec!["B".into(), "A".into()],
            recent_categories: Vec::new(),
            last_active: 1_999_999,
            expires_at: 901_999_999,
            categories_expire_at: 901_999_999,
        };
        let group = Keys { prefix: String::new() }.all(&row);
        let key = |what: &str| format!("user:7:{what}");
        let entry = |what, value| Entry { key: key(what), value, expires_at_ms: 901_999 };
        let expected = [
            entry(RECENT_ITEMS, Value::List(vec!["B".into(), "A".into()])),
            entry(RECENT_CATEGORIES, Value::Hash(Vec::new())),
            entry(LAST_ACTIVE, Value::Text("1".into())),
        ];
        assert_eq!(group, expected);
    }
}
