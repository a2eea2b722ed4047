//! Kafka topics: from messages to rows of the log, each exactly once.
//!
//! # What it promises
//! - **Exactly once, without the broker's help.** Where reading goes on is decided by the position that is durable in the log
//!   together with the rows ([`Sink::position`]), never by a committed offset. Partitions are assigned, not subscribed: no
//!   rebalance can take them away or hand them out twice. A message is in the log once, or not yet.
//! - **Order.** Rows of a partition reach the log in offset order. One commit is in flight at a time; messages that arrive
//!   meanwhile gather in the next batch, so a slow log makes larger batches, not more of them.
//! - **No hole is crossed in silence.** The positions of a partition are contiguous (`before` is the previous `after`), also over
//!   offsets that compaction or transactions left empty. A position outside of what the broker holds (retention overtook it,
//!   or the topic was created anew) stops that partition, says so through [`Sink::report`], and nothing but a changed
//!   [`Sink::position`], a logged command, starts it again. The topic's other partitions go on.
//! - **Every message is answered**: an event or a dead letter, tombstones included. Keys are ignored.
//! - **Bounded memory**: one batch ([`KafkaConfig::batch_rows_max`], [`KafkaConfig::batch_bytes_max`]) gathering, one in flight,
//!   and librdkafka's queue (`queued.max.messages.kbytes`, 32 MiB unless set otherwise in [`KafkaConfig::properties`]). When the
//!   sink waits, gathering stops, that queue fills up, and librdkafka stops fetching.
//! - **Patience.** Brokers that are down are tried for ever, with back-off (0.25 s doubling to 15 s), and reported meanwhile.
//!
//! # Identity
//! A message's `event_id` when it has one, the normalised row in the format `ampelios`, else topic, partition and offset: what
//! is read again after a crash is the same event. A message without a time takes the time stamp Kafka gave it.
//!
//! # Recovery
//! Every start, and every failure whose outcome is unknown, throws away what was gathered, asks the sink for its positions and
//! assigns the partitions there. There is no other state.
//!
//! # Partitions come and go
//! Every [`KafkaConfig::refresh_every`] the topic's partitions and their bounds are asked for. A partition that appears later is read
//! from its beginning, whatever [`KafkaConfig::start`] says, since its messages were produced after the reading began. A
//! topic that does not exist (yet, or any more) is reported and waited for.
//!
//! # Known limitations
//! - A topic that is created anew and has grown beyond the old position before anybody looks cannot be told from the old one.
//! - After a reset to offsets that were read before, a message without an id at the same offset and of the same user as an old one
//!   is taken for that one; it is counted as a duplicate, and as a conflict when it says something else.
//! - Lag counts offsets, not messages: compacted and aborted ones are included. A single offset behind the last message, the
//!   usual end of a transaction, counts as none.
//! - Dead letters are forwarded to [`KafkaConfig::dead_letter_topic`] at most once, from a queue of 1,024 that drops when it is
//!   full; the log has them all.
//! - A message larger than 1 MiB is a dead letter.

mod batch;
mod client;
mod forward;
pub mod messages;
mod partitions;
mod session;
pub mod transactions;

use crate::formats::Format;
use desireline_records::validate::Validator;
use desireline_records::{EventId, PartitionKey, Progress, ShardId, SourceId};
use ecow::eco_format;
use partitions::Memory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Where a partition that the log knows nothing of begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message the broker has.
    #[default]
    Earliest,
    /// With what comes from now on. The choice is made durable at once, so that a restart does not make it again.
    Latest,
}

/// One topic as a source.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    pub topic: String,
    pub source: SourceId,
    pub format: Format,
    /// Offsets are committed to this group after they are durable, for tools that watch the lag. `desireline` unless given.
    pub group_id: Option<String>,
    pub start: Start,
    /// A batch is committed when it has this many rows …
    pub batch_rows_max: usize,
    /// … or this many bytes of payload …
    pub batch_bytes_max: usize,
    /// … or its first row is this old.
    pub batch_age_max: Duration,
    /// How often partitions, bounds and lag are looked at.
    pub refresh_every: Duration,
    /// Further settings of librdkafka, by its names.
    pub properties: BTreeMap<String, String>,
    /// Messages that became dead letters are also produced here, with the reason in headers.
    pub dead_letter_topic: Option<String>,
    /// Partition p is read by the shard p modulo `shards`.
    pub shard: ShardId,
    pub shards: u16,
}

impl KafkaConfig {
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>, source: SourceId, format: Format) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            source,
            format,
            group_id: None,
            start: Start::Earliest,
            batch_rows_max: 16_384,
            batch_bytes_max: 16 << 20,
            batch_age_max: Duration::from_millis(5),
            refresh_every: Duration::from_secs(5),
            properties: BTreeMap::new(),
            dead_letter_topic: None,
            shard: 0,
            shards: 1,
        }
    }

    /// Everything that is wrong with the settings, without connecting to anything.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |wrong: bool, text: &str| {
            if wrong {
                mistakes.push(text.to_owned());
            }
        };
        check(self.brokers.trim().is_empty(), "brokers must not be empty");
        check(self.topic.is_empty(), "topic must not be empty");
        check(self.topic.contains(['/', ',', ' ']), "topic must be one topic's name");
        check(self.group_id.as_deref() == Some(""), "group_id must not be empty");
        check(self.batch_rows_max == 0, "batch_rows_max must be at least 1");
        check(self.batch_bytes_max == 0, "batch_bytes_max must be at least 1");
        check(self.refresh_every.is_zero(), "refresh_every must be more than zero");
        check(self.shards == 0 || self.shard >= self.shards, "shard must be less than shards");
        check(self.dead_letter_topic.as_ref() == Some(&self.topic), "dead_letter_topic must be another topic");
        for key in self.properties.keys().filter(|key| client::OWN_PROPERTIES.contains(&key.as_str())) {
            mistakes.push(format!("properties must not set `{key}`: exactly-once reading depends on it"));
        }
        if mistakes.is_empty()
            && let Err(error) = client::client_config(self).create_native_config()
        {
            mistakes.push(format!("properties: {error}"));
        }
        mistakes
    }

    /// How the log names a partition of this topic: `kafka:<topic>/<partition>`.
    pub fn partition_key(&self, partition: i32) -> PartitionKey {
        eco_format!("kafka:{}/{partition}", self.topic)
    }

    /// The name under which what concerns the whole topic is reported: `kafka:<topic>`.
    pub fn topic_key(&self) -> PartitionKey {
        eco_format!("kafka:{}", self.topic)
    }
}

/// What the consumer needs of the service.
#[async_trait::async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Makes rows and positions durable together; waits while the service is busy. A `Progress` may hold positions only.
    async fn commit(&self, progress: Progress) -> Result<(), SinkError>;

    /// The offset at which reading of a partition goes on. Once a commit has returned, it is that commit's `after`, unless a
    /// command has set another.
    fn position(&self, source: SourceId, partition: &str) -> Option<i64>;

    /// What is to be said about a partition now: its lag, where known, and what keeps it from being read.
    fn report(&self, source: SourceId, partition: &str, lag: Option<i64>, error: Option<String>);

    /// The validator in force.
    fn validator(&self) -> Arc<Validator>;
}

/// Why a commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SinkError {
    /// It may or may not have become durable; reading starts over from the positions of the log.
    #[error("{0}")]
    Retry(String),
    /// The service is going down, or the log is no longer this server's to write.
    #[error("{0}")]
    Closed(String),
}

/// Why reading a topic has ended.
#[derive(Debug, Error)]
pub enum KafkaError {
    #[error("the Kafka source is not configured right: {}", .0.join("; "))]
    Config(Vec<String>),
    #[error("the Kafka client cannot be created: {0}")]
    Client(String),
    #[error("the log takes no rows: {0}")]
    Sink(String),
}

impl KafkaError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "kafka_config",
            Self::Client(_) => "kafka_client",
            Self::Sink(_) => "kafka_sink",
        }
    }

    /// Whether running again may succeed without anybody's doing. Broker failures never end a run, so: no.
    pub fn retryable(&self) -> bool {
        false
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Reads a topic until `stop` becomes true (or its sender is gone), or until the sink is closed.
///
/// On `stop`, a commit in flight is waited for; what was only gathered is dropped, to be read again.
pub async fn run(config: KafkaConfig, sink: Arc<dyn Sink>, mut stop: watch::Receiver<bool>) -> Result<(), KafkaError> {
    let mistakes = config.mistakes();
    if !mistakes.is_empty() {
        return Err(KafkaError::Config(mistakes));
    }
    let forwarder = config.dead_letter_topic.as_deref().map(|topic| forward::Forwarder::start(&config, topic)).transpose()?;
    let mut memory = Memory::default();
    let mut backoff = BACKOFF_MIN;
    loop {
        let committed_before = memory.commits;
        let reason = match session::run(&config, &sink, &mut memory, forwarder.as_ref(), &mut stop).await? {
            session::End::Stopped => return Ok(()),
            session::End::Restart(reason) => reason,
        };
        backoff = if memory.commits > committed_before { BACKOFF_MIN } else { backoff };
        tracing::warn!(topic = config.topic, reason, backoff_ms = backoff.as_millis(), "reading a Kafka topic starts over");
        memory.reported = true;
        sink.report(config.source, &config.topic_key(), None, Some(reason));
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// The derived identity of the message that a dead letter with this origin (`topic/partition/offset`) was.
pub fn identity_of_origin(origin: &str) -> Option<EventId> {
    let mut parts = origin.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
    Some(EventId::position(topic, partition.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut config = KafkaConfig::new(" ", "a/b", 1, Format::Desireline);
        config.batch_rows_max = 0;
        config.shard = 2;
        config.dead_letter_topic = Some("a/b".into());
        config.properties.insert("enable.auto.commit".into(), "true".into());
        assert_eq!(config.mistakes().len(), 6, "{:?}", config.mistakes());
        let mut config = KafkaConfig::new("localhost:9092", "clicks", 1, Format::Desireline);
        assert_eq!(config.mistakes(), Vec::<String>::new());
        config.properties.insert("fetch.wait.max.mss".into(), "1".into());
        assert!(config.mistakes()[0].contains("fetch.wait.max.mss"), "{:?}", config.mistakes());
    }

    #[test]
    fn a_dead_letters_origin_names_its_identity() {
        assert_eq!(identity_of_origin("a.b/3/77"), Some(EventId::position("a.b", 3, 77)));
        for origin in ["http", "file.csv:7", "t/x/1", "t/1", ""] {
            assert_eq!(identity_of_origin(origin), None, "{origin}");
        }
    }
}
