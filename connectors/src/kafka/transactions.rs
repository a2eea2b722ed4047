//! Topics that one writer fills by transactions, and reads back.
//!
//! # What it promises
//! - **All or nothing.** The records of a [`Transactions::commit`] become visible together to consumers that read committed messages
//!   (`isolation.level=read_committed`, the default of librdkafka and not that of Java clients), or never.
//! - **One writer** for a [`WriterConfig::transactional_id`]. [`Transactions::claim`] ends whatever an earlier writer of that name has
//!   begun, and shuts it out: its next commit fails with [`WriterError::Fenced`]. After a claim nothing is under way, so that what
//!   [`Transactions::read`] finds is final.
//! - **An unknown outcome is not guessed.** A commit that is not answered in time is [`WriterError::Unavailable`]; the writer then
//!   has to claim its name again, which decides the transaction, and to read what became of it.
//! - **Order.** Records of a key lie in one partition (murmur2, as Java clients choose it), in the order in which they are given.
//! - **Bounded.** Every operation has a time limit; librdkafka's queue holds at most 64 MiB (`queue.buffering.max.kbytes`). Reading holds
//!   one message at a time, and 16 MiB of librdkafka's.
//! - **Nobody waits for a closing client.** All work is done on one thread of the writer's own, in the order in which it is asked for, also
//!   when the one who asked waits no longer.
//!
//! A message that is larger than `message.max.bytes` is not sent. In a compacted topic a tombstone takes its place, so that no older
//! message of its key stands for it.
//!
//! # Known limitations
//! - A topic that is deleted and created anew by somebody else between two looks is not told from the old one.
//! - An existing topic keeps its settings. One that is to be compacted and is not is refused, if the broker lets the writer ask for them.
//! - librdkafka finds partitions that are added later within `topic.metadata.refresh.interval.ms`; keys move when they come.

mod error;
mod reading;
mod session;
mod topics;

pub use error::WriterError;

use super::client;
use rdkafka::ClientConfig;
use session::Session;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Who writes.
#[derive(Clone)]
pub struct WriterConfig {
    /// `host:port`, separated by commas.
    pub brokers: String,
    pub transactional_id: String,
    /// Further settings of librdkafka, by its names. May contain passwords.
    pub properties: BTreeMap<String, String>,
}

/// Settings that no user may change, since promises depend on them.
const OWN_PROPERTIES: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "transactional.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "isolation.level",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.partition.eof",
    "allow.auto.create.topics",
];

impl WriterConfig {
    /// Everything that is wrong with the settings, without connecting to anything.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.brokers.trim().is_empty() {
            mistakes.push("brokers must not be empty".to_owned());
        }
        if self.transactional_id.is_empty() {
            mistakes.push("transactional_id must not be empty".to_owned());
        }
        for key in self.properties.keys().filter(|key| OWN_PROPERTIES.contains(&key.as_str())) {
            mistakes.push(format!("properties must not set `{key}`: exactly-once writing depends on it"));
        }
        if mistakes.is_empty()
            && let Err(error) = self.producer().create_native_config()
        {
            mistakes.push(WriterError::of("properties", &error).to_string());
        }
        mistakes
    }

    fn common(&self, client: &mut ClientConfig) {
        for (key, value) in &self.properties {
            client.set(key, value);
        }
        client.set("bootstrap.servers", &self.brokers);
    }

    fn producer(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "desireline")
            .set("compression.type", "zstd")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "1")
            .set("queue.buffering.max.kbytes", "65536")
            .set("reconnect.backoff.max.ms", "5000")
            .set("transaction.timeout.ms", "60000");
        self.common(&mut client);
        client.set("transactional.id", &self.transactional_id).set("enable.idempotence", "true").set("acks", "all");
        client
    }

    fn consumer(&self, committed: bool) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "desireline")
            .set("queued.max.messages.kbytes", "16384")
            // Topics are read to their end, which a broker would tell only after waiting for more.
            .set("fetch.wait.max.ms", "5")
            .set("reconnect.backoff.max.ms", "5000");
        self.common(&mut client);
        client
            .set("group.id", &self.transactional_id)
            .set("isolation.level", if committed { "read_committed" } else { "read_uncommitted" })
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false");
        client
    }
}

/// A topic that is written, and how it is created if it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: u32,
    pub replication: u32,
    /// Of each key the last message is kept. Otherwise the broker's own settings decide.
    pub compacted: bool,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: Arc<Topic>,
    pub key: Vec<u8>,
    /// Nothing: a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Gets keys and payloads, each partition's in order.
pub type Visit = Box<dyn FnMut(&[u8], Option<&[u8]>) + Send>;

/// Where partitions end, or are to be read from.
pub type Offsets = BTreeMap<i32, i64>;

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// The one writer of its name.
pub struct Transactions {
    jobs: mpsc::Sender<Job>,
}

impl Transactions {
    /// Connects to nothing yet.
    pub fn new(config: WriterConfig) -> Result<Self, WriterError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(WriterError::Refused(mistakes.join("; ")));
        }
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || {
            let mut session = Session::new(config);
            queue.iter().for_each(|job| job(&mut session));
        };
        let thread = std::thread::Builder::new().name("kafka-writer".into()).spawn(work);
        thread.map_err(|error| WriterError::Unavailable(format!("no thread for the Kafka writer: {error}")))?;
        Ok(Self { jobs })
    }

    async fn run<T, J>(&self, job: J) -> Result<T, WriterError>
    where
        T: Send + 'static,
        J: FnOnce(&mut Session) -> Result<T, WriterError> + Send + 'static,
    {
        let ended = || WriterError::Unavailable("the thread of the Kafka writer has ended".into());
        let (sender, answer) = oneshot::channel();
        // Who has asked may wait no longer.
        let job = Box::new(move |session: &mut Session| drop(sender.send(job(session))));
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Creates the topics that are not there, and answers their names.
    pub async fn create_missing(&self, topics: Vec<Arc<Topic>>) -> Result<Vec<String>, WriterError> {
        let runtime = Handle::current();
        self.run(move |session| session.create_missing(&topics, &runtime)).await
    }

    /// The topics that are not there.
    pub async fn missing(&self, topics: Vec<Arc<Topic>>) -> Result<Vec<String>, WriterError> {
        self.run(move |session| session.missing(&topics)).await
    }

    /// Becomes the one writer of its name.
    pub async fn claim(&self) -> Result<(), WriterError> {
        self.run(Session::claim).await
    }

    /// Sends records in one transaction. Answers how many were too large to be sent. After an error the name must be claimed again.
    pub async fn commit(&self, records: Vec<Record>) -> Result<u64, WriterError> {
        self.run(move |session| session.commit(&records)).await
    }

    /// Where a topic's partitions end.
    pub async fn ends(&self, topic: Arc<Topic>) -> Result<Offsets, WriterError> {
        self.run(move |session| session.ends(&topic)).await
    }

    /// Visits all committed messages of a topic, of each partition from the given offset or its beginning on. Fails when a transaction of
    /// somebody else is open for long: what lies behind it could not be seen.
    pub async fn read(&self, topic: Arc<Topic>, from: Offsets, visit: Visit) -> Result<(), WriterError> {
        self.run(move |session| session.read(&topic, &from, true, visit)).await
    }

    /// Visits the committed messages of a topic, up to the first transaction that is still open.
    pub async fn peek(&self, topic: Arc<Topic>, visit: Visit) -> Result<(), WriterError> {
        self.run(move |session| session.read(&topic, &Offsets::new(), false, visit)).await
    }

    /// For tests of recovery: sends records and stops short of the end of their transaction.
    #[doc(hidden)]
    pub async fn send_only(&self, records: Vec<Record>) -> Result<u64, WriterError> {
        self.run(move |session| session.send(&records)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut properties = BTreeMap::from([("acks".to_owned(), "1".to_owned()), ("transactional.id".to_owned(), "x".to_owned())]);
        let config = WriterConfig { brokers: " ".into(), transactional_id: String::new(), properties: properties.clone() };
        assert_eq!(config.mistakes().len(), 4, "{:?}", config.mistakes());
        properties.clear();
        let mut config = WriterConfig { brokers: "localhost:9092".into(), transactional_id: "x".into(), properties };
        assert_eq!(config.mistakes(), Vec::<String>::new());
        config.properties.insert("linger.mss".into(), "1".into());
        assert!(config.mistakes()[0].contains("linger.mss"), "{:?}", config.mistakes());
    }
}
