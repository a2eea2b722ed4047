//! Kafka: views as compacted topics of JSON, and events passed on.
//!
//! # Topics
//! Each view of `projection.kafka.views` is a topic, `<topic_prefix><view>`. A message's key names a row, its value is the row as it
//! is now (fields as in the answers of the HTTP API) with `as_of`, the logical time at which it became so; a tombstone says that there
//! is no such row any more. Keys are spelled exactly so, that compaction may compare them:
//!
//! | topic | key |
//! |---|---|
//! | `sessions` | `{"source_id":1,"user_id":"u","start":"2026-01-31T12:00:00.000Z"}` |
//! | `journeys`, `context` | `{"source_id":1,"user_id":"u"}` |
//! | `clusters` | `{"source_id":1,"cluster_id":0}` |
//! | `minutes` | `{"source_id":1,"window_start":"…","page":"/","event_type":"view"}` |
//! | `catalog` | `{"kind":"item","id":"B1"}`, also of the kinds `product` and `user` |
//! | `events` | `{"source_id":1,"user_id":"u","timestamp":"…","event_id":"~…"}` |
//!
//! In a key a user is always text; in a value it is a number where the source's ids are. An event's value does not have the number of its
//! session, which changes with other events: `sessions` has begin and end of each.
//!
//! # How
//! A changeset is one transaction ([`desireline_connectors::kafka::transactions`]), and so is what it leaves in the topic
//! `<topic_prefix>projections` (`state.rs`): consumers that read committed messages see the view at one time or at a later one, and each
//! change once. A server that is newer shuts an older one out by the transactional id, and an older one does not even try when it
//! finds a newer epoch recorded.
//!
//! # Rebuild
//! All rows are sent again over the old ones, in as many transactions as it takes. What was sent is remembered by a hash of its key (16
//! bytes a row and the table's slack); at the end the topics are read, and keys that were not sent get a tombstone. Two keys with one
//! hash of 64 bits would leave a stale row: for ten million rows the chance is one in 300,000.
//!
//! # Erasure
//! Rows of an erased user, also of sealed sessions, are found by reading the topics' keys, and get tombstones. The values are gone
//! when the broker has compacted the topic; topics that the server creates have `max.compaction.lag.ms` of a day.
//!
//! # Events passed on
//! [`forward::KafkaForward`] is a target of its own, so that a rebuild of the views never sends an event twice.
//!
//! # Known limitations
//! - A correction of a minute that has left memory, and an erasure, read a topic from its beginning to its end: seconds for a million rows.
//! - Rows are printed by the settings of their source that are in force when they are sent; a change of `user_id_type` or
//!   `transaction_value` shows in older rows after a rebuild.
//! - Revenues beyond 900 billion lose their last decimals when a minute is corrected that has left memory.
//! - The topic of a view that is no longer configured stays as it is.
//! - During a rebuild readers see old and new rows side by side.

pub mod forward;
mod rebuild;
mod rows;
mod state;

use super::changeset::Changeset;
use super::target::{Applied, Standing, Target, TargetError};
use async_trait::async_trait;
use desireline_connectors::kafka::transactions::{Offsets, Record, Topic, Visit, WriterConfig};
use desireline_dataflows::changes::{RowKey, View, ViewRow, Views};
use desireline_records::{LogicalTime, SourceId};
use ecow::EcoString;
use rebuild::Rebuild;
use state::{Ledger, LedgerConfig, Sources};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Changes when keys or values do.
const FORMAT: &str = "views 1";

/// Tombstones of one transaction of an erasure or at the end of a rebuild.
const TOMBSTONES_MAX: usize = 100_000;

#[derive(Clone)]
pub struct KafkaTargetConfig {
    pub writer: WriterConfig,
    /// Views that become topics.
    pub views: Views,
    /// Written in front of the names of topics.
    pub topic_prefix: String,
    /// Of topics that are created.
    pub partitions: u32,
    pub replication: u32,
    pub gather: Duration,
}

pub struct KafkaTarget {
    config: KafkaTargetConfig,
    topics: BTreeMap<View, Arc<Topic>>,
    ledger: Ledger,
    rebuild: Option<Rebuild>,
}

impl KafkaTarget {
    /// Does not connect yet.
    pub fn new(config: KafkaTargetConfig) -> Result<Self, TargetError> {
        let topic = |name: &str, partitions| {
            let name = format!("{}{name}", config.topic_prefix);
            Arc::new(Topic { name, partitions, replication: config.replication, compacted: true })
        };
        let topics: BTreeMap<View, _> = config.views.iter().map(|view| (view, topic(view.word(), config.partitions))).collect();
        let words: Vec<&str> = config.views.iter().map(View::word).collect();
        let ledger = Ledger::new(LedgerConfig {
            name: "kafka",
            definition: format!("{FORMAT}: {}", words.join(", ")),
            writer: config.writer.clone(),
            state_topic: topic("projections", 1),
            topics: topics.values().cloned().collect(),
            rows_must_be_there: true,
        })?;
        Ok(Self { topics, ledger, rebuild: None, config })
    }

    async fn try_apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let mut sources = self.ledger.sources()?;
        state::note_sources(&mut sources, changes);
        let mut records = self.erased(changes).await?;
        for key in changes.taken() {
            records.extend(self.tombstone(key));
        }
        for row in changes.put() {
            records.extend(self.message(row, changes.time, &sources));
        }
        records.extend(self.shifted(changes).await?);
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.note(&records, &changes.erased);
        }
        let rows = records.len() as u64;
        let time = changes.time;
        let refused = self.ledger.commit(records, |state| (state.applied, state.sources) = (time, sources)).await?;
        Ok(Applied { rows: rows.saturating_sub(refused), refused })
    }

    fn message(&self, row: &ViewRow, as_of: LogicalTime, sources: &Sources) -> Option<Record> {
        let key = row.key();
        let topic = self.topics.get(&key.view()?)?.clone();
        let payload = rows::value(row, as_of, sources)?;
        Some(Record { topic, key: rows::key(&key)?, payload: Some(payload) })
    }

    fn tombstone(&self, key: &RowKey) -> Option<Record> {
        let topic = self.topics.get(&key.view()?)?.clone();
        Some(Record { topic, key: rows::key(key)?, payload: None })
    }

    /// Tombstones of the rows of erased users. A rebuild sees to it at its end.
    async fn erased(&self, changes: &Changeset) -> Result<Vec<Record>, TargetError> {
        if changes.erased.is_empty() || self.rebuild.is_some() {
            return Ok(Vec::new());
        }
        let again: HashSet<Vec<u8>> = changes.put().filter_map(|row| rows::key(&row.key())).collect();
        let mut records = Vec::new();
        for topic in self.user_topics() {
            let (erased, again) = (changes.erased.clone(), again.clone());
            let owned = move |key: &[u8]| rows::owner(key).is_some_and(|owner| erased.contains(&owner)) && !again.contains(key);
            let keys = self.standing_keys(topic, owned).await?;
            records.extend(keys.into_iter().map(|key| Record { topic: topic.clone(), key, payload: None }));
        }
        Ok(records)
    }

    /// Topics whose rows belong to users.
    fn user_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let of_users = [View::Events, View::Sessions, View::Journeys, View::Context];
        of_users.into_iter().filter_map(|view| self.topics.get(&view))
    }

    /// Keys of a topic that fit, and under which there is something now.
    async fn standing_keys(
        &self,
        topic: &Arc<Topic>,
        fits: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Result<BTreeSet<Vec<u8>>, TargetError> {
        let found = Arc::new(Mutex::new(BTreeSet::new()));
        let keys = found.clone();
        let visit: Visit = Box::new(move |key, payload| {
            if fits(key) {
                let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = if payload.is_some() { keys.insert(key.to_vec()) } else { keys.remove(key) };
            }
        });
        self.ledger.read(topic, Offsets::new(), visit).await?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(found)
    }

    /// Corrections of minutes, on top of what the topic has of them.
    async fn shifted(&self, changes: &Changeset) -> Result<Vec<Record>, TargetError> {
        let Some(topic) = self.topics.get(&View::Minutes) else { return Ok(Vec::new()) };
        let shifts: HashMap<Vec<u8>, &ViewRow> = changes
            .put()
            .filter(|row| matches!(row, ViewRow::MinuteShift { .. }))
            .filter_map(|row| Some((rows::key(&row.key())?, row)))
            .collect();
        if shifts.is_empty() {
            return Ok(Vec::new());
        }
        let known = Arc::new(Mutex::new(HashMap::<Vec<u8>, Option<(i64, i128)>>::new()));
        let (found, wanted) = (known.clone(), shifts.keys().cloned().collect::<HashSet<_>>());
        let visit: Visit = Box::new(move |key, payload| {
            if wanted.contains(key) {
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_vec(), payload.and_then(rows::minute_cell));
            }
        });
        let from = self.rebuild.as_ref().map_or_else(Offsets::new, |rebuild| rebuild.minutes_from.clone());
        self.ledger.read(topic, from, visit).await?;
        let known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));
        let records = shifts.into_iter().map(|(key, shift)| {
            let before = rows::minute_before(changes, shift).unwrap_or_else(|| known.get(&key).copied().flatten());
            let payload = rows::shifted_minute(shift, before.unwrap_or_default(), changes.time);
            Record { topic: topic.clone(), key, payload }
        });
        Ok(records.collect())
    }

    /// Sends tombstones for what the topics hold and the rebuild has not sent.
    async fn remove_stale(&mut self, rebuild: Rebuild) -> Result<u64, TargetError> {
        let rebuild = Arc::new(Mutex::new(rebuild));
        let mut removed = 0;
        for topic in self.topics.values() {
            loop {
                let shared = rebuild.clone();
                let name = topic.name.clone();
                let visit: Visit = Box::new(move |key, payload| {
                    if payload.is_some() {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).judge(&name, key, TOMBSTONES_MAX);
                    }
                });
                self.ledger.read(topic, Offsets::new(), visit).await?;
                let stale = rebuild.lock().unwrap_or_else(PoisonError::into_inner).take_stale();
                let found = stale.len();
                let records = stale.into_iter().map(|key| Record { topic: topic.clone(), key, payload: None }).collect();
                self.ledger.commit(records, |_| {}).await?;
                removed += found as u64;
                if found < TOMBSTONES_MAX {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

#[async_trait]
impl Target for KafkaTarget {
    fn name(&self) -> &str {
        "kafka"
    }

    fn views(&self) -> Views {
        self.config.views
    }

    fn gather(&self) -> Duration {
        self.config.gather
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        self.rebuild = None;
        self.ledger.open(epoch).await
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        let minutes_from = match self.topics.get(&View::Minutes) {
            Some(topic) => self.ledger.ends(topic).await?,
            None => Offsets::new(),
        };
        self.rebuild = Some(Rebuild::new(minutes_from));
        self.ledger.commit(Vec::new(), |state| (state.applied, state.complete) = (0, false)).await.map(drop)
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        self.try_apply(changes).await
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        if let Some(rebuild) = self.rebuild.take() {
            let removed = self.remove_stale(rebuild).await?;
            tracing::info!(removed, "the topics of the views have been written anew");
        }
        self.ledger.commit(Vec::new(), |state| (state.applied, state.complete) = (time, true)).await.map(drop)
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        self.ledger.check().await
    }
}

/// A user of a source.
type Owner = (SourceId, EcoString);
