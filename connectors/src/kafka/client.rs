//! The librdkafka client: its settings, and the questions asked of the broker.

use super::KafkaConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) type Client = StreamConsumer<Context>;

/// Settings that no user may change, since promises depend on them.
pub(super) const OWN_PROPERTIES: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "allow.auto.create.topics",
];

/// What a producer does not know.
pub(super) const CONSUMER_PROPERTIES: &[&str] = &[
    "group.id",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.error.backoff.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "allow.auto.create.topics",
];

pub(super) fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("client.id", "desireline")
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.error.backoff.ms", "250")
        .set("reconnect.backoff.max.ms", "5000");
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    client
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", config.group_id.as_deref().unwrap_or("desireline"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false");
    client
}

/// Sends librdkafka's own messages to the log of the server.
pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        // Only tools that watch the group care.
        if let Err(error) = result {
            tracing::debug!("offsets were not committed to the group: {error}");
        }
    }
}

/// `[low, high)` are the offsets that a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub low: i64,
    pub high: i64,
}

/// What the broker says about the topic. A partition whose bounds could not be asked for has none.
#[derive(Debug)]
pub(super) struct Probe {
    pub partitions: BTreeMap<i32, Option<Bounds>>,
}

#[derive(Debug, Clone)]
pub(super) struct ProbeError {
    pub detail: String,
    /// The broker answered, and the topic is not there.
    pub missing: bool,
}

const METADATA_WAIT: Duration = Duration::from_secs(5);
const BOUNDS_WAIT: Duration = Duration::from_secs(5);
/// For all partitions together: a broker that does not answer for some must not hide what it answered for others.
const PROBE_WAIT: Duration = Duration::from_secs(15);

/// Asks for the partitions that this shard reads and for their bounds. Blocks.
fn probe(client: &Client, config: &KafkaConfig) -> Result<Probe, ProbeError> {
    let unreachable = |detail: String| ProbeError { detail, missing: false };
    let metadata =
        client.fetch_metadata(Some(&config.topic), METADATA_WAIT).map_err(|error| unreachable(format!("no broker answers: {error}")))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == config.topic);
    match topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            return Err(ProbeError { detail: "the topic does not exist".into(), missing: true });
        }
        Some(error) => return Err(unreachable(format!("the topic cannot be read: {error}"))),
        None => {}
    }
    let Some(topic) = topic.filter(|topic| !topic.partitions().is_empty()) else {
        return Err(ProbeError { detail: "the topic does not exist".into(), missing: true });
    };
    let deadline = Instant::now() + PROBE_WAIT;
    let own =
        topic.partitions().iter().map(|p| p.id()).filter(|id| *id >= 0 && *id as u32 % u32::from(config.shards) == u32::from(config.shard));
    let bounds = |id: i32| {
        let wait = BOUNDS_WAIT.min(deadline.saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return None;
        }
        match client.fetch_watermarks(&config.topic, id, wait) {
            Ok((low, high)) if low >= 0 && high >= low => Some(Bounds { low, high }),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(topic = config.topic, partition = id, "the bounds of a partition are not known: {error}");
                None
            }
        }
    };
    Ok(Probe { partitions: own.map(|id| (id, bounds(id))).collect() })
}

/// A client that is closed on a thread of its own: closing waits for brokers, for up to a minute when none answers, and neither
/// a session nor the end of the server may wait for that.
pub(super) struct Owned(Option<Arc<Client>>);

impl Owned {
    pub fn new(client: Client) -> Self {
        Self(Some(Arc::new(client)))
    }

    pub fn share(&self) -> Arc<Client> {
        self.0.clone().expect("it is there until it is dropped")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let client = self.0.take();
        if let Err(error) = std::thread::Builder::new().name("kafka-close".into()).spawn(move || drop(client)) {
            tracing::debug!("a Kafka client is closed in place: {error}");
        }
    }
}

/// Asks on a thread of its own, which nobody has to wait for.
pub(super) fn ask(client: Arc<Client>, config: KafkaConfig) -> oneshot::Receiver<Result<Probe, ProbeError>> {
    let (sender, answer) = oneshot::channel();
    let asking = std::thread::Builder::new().name("kafka-probe".into()).spawn(move || {
        let probe = probe(&client, &config);
        drop(client);
        // Nobody waits for it any more when the session has ended.
        let _ = sender.send(probe);
    });
    if let Err(error) = asking {
        // The receiver finds the sender gone and reports that.
        tracing::warn!("no thread for asking the broker: {error}");
    }
    answer
}
