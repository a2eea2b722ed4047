//! Topics of a real Kafka: made under unique names, filled, cut short, deleted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::services;
use super::wait::{DEADLINE, eventually};

/// A real Kafka.
pub struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    producer: Mutex<BaseProducer<Deliveries>>,
    runtime: tokio::runtime::Runtime,
}

/// A message as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// A message to be sent; without a partition the key's hash decides.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// Notes the first message that the broker did not take.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failure.lock().unwrap().get_or_insert_with(|| error.clone());
        }
    }
}

impl Outgoing {
    pub fn new(payload: impl Into<Vec<u8>>) -> Outgoing {
        Outgoing { payload: payload.into(), ..Outgoing::default() }
    }

    pub fn to(mut self, partition: i32) -> Outgoing {
        self.partition = Some(partition);
        self
    }

    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Outgoing {
        self.key = Some(key.into());
        self
    }

    pub fn at_ms(mut self, timestamp_ms: i64) -> Outgoing {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl Kafka {
    /// The Kafka of the environment; `None` after reporting the test as skipped.
    #[track_caller]
    pub fn from_env() -> Option<Kafka> {
        services::kafka().map(Kafka::at)
    }

    /// The Kafka at a list of brokers.
    pub fn at(brokers: impl Into<String>) -> Kafka {
        let brokers = brokers.into();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers);
        let admin = config.create().expect("an admin client can be made");
        let producer = Mutex::new(producer(&brokers));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Kafka { brokers, admin, producer, runtime: runtime.expect("a runtime can be built") }
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A name that no other test and no earlier run has used.
    pub fn unique_name(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
        format!("{prefix}-{}-{now}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Make a topic under a unique name and return the name.
    #[track_caller]
    pub fn create_topic(&self, prefix: &str, partitions: i32) -> String {
        let name = self.unique_name(prefix);
        self.create_named_topic(&name, partitions, &[]);
        name
    }

    /// Make a topic, with settings such as `("retention.ms", "1000")`; returns when every partition has a leader.
    #[track_caller]
    pub fn create_named_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = self.runtime.block_on(self.admin.create_topics([&topic], &options())).expect("the broker answers");
        for result in made {
            result.unwrap_or_else(|(topic, error)| panic!("{topic} could not be made: {error}"));
        }
        self.wait_leaders(name, partitions);
    }

    /// Delete a topic; returns when the broker no longer knows it, and the producer has forgotten it.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let deleted = self.runtime.block_on(self.admin.delete_topics(&[name], &options())).expect("the broker answers");
        for result in deleted {
            result.unwrap_or_else(|(topic, error)| panic!("{topic} could not be deleted: {error}"));
        }
        let client = self.consumer();
        eventually("the topic to be gone", DEADLINE, || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5)).map_err(|error| error.to_string())?;
            let present = metadata.topics().iter().any(|topic| topic.name() == name && topic.error().is_none());
            if present { Err("still there".to_owned()) } else { Ok(()) }
        });
        // A producer remembers the number of partitions for a while, and would choose one that a smaller successor does not have.
        *self.producer.lock().unwrap_or_else(PoisonError::into_inner) = producer(&self.brokers);
    }

    /// Raise the number of partitions.
    #[track_caller]
    pub fn grow_topic(&self, name: &str, partitions: i32) {
        let count = usize::try_from(partitions).expect("a positive number");
        let grown = self.runtime.block_on(self.admin.create_partitions([&NewPartitions::new(name, count)], &options()));
        for result in grown.expect("the broker answers") {
            result.unwrap_or_else(|(topic, error)| panic!("{topic} could not grow: {error}"));
        }
        self.wait_leaders(name, partitions);
    }

    /// Delete what lies before `offset` in a partition, as retention would.
    #[track_caller]
    pub fn delete_before(&self, name: &str, partition: i32, offset: i64) {
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(name, partition, Offset::Offset(offset)).expect("a valid offset");
        self.runtime.block_on(self.admin.delete_records(&positions, &options())).expect("the broker answers");
        assert_eq!(self.bounds(name, partition).0, offset, "the partition begins where it was cut");
    }

    /// Send payloads, spread by the producer; returns when the broker has taken all of them.
    #[track_caller]
    pub fn produce<P: AsRef<[u8]>>(&self, topic: &str, payloads: impl IntoIterator<Item = P>) -> u64 {
        self.send(topic, payloads.into_iter().map(|payload| Outgoing::new(payload.as_ref())))
    }

    /// Send messages; returns their number when the broker has taken all of them.
    #[track_caller]
    pub fn send(&self, topic: &str, messages: impl IntoIterator<Item = Outgoing>) -> u64 {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for message in messages {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(&message.payload);
            record.key = message.key.as_deref();
            record.partition = message.partition;
            record.timestamp = message.timestamp_ms;
            while let Err((error, refused)) = producer.send(record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                    "the producer refused a message: {error}"
                );
                producer.poll(Duration::from_millis(50));
                record = refused;
            }
            count += 1;
            if count % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(Duration::from_secs(60)).expect("the broker takes everything within a minute");
        if let Some(error) = producer.context().failure.lock().unwrap().take() {
            panic!("a message was not delivered: {error}");
        }
        count
    }

    /// The first and the next offset of a partition.
    #[track_caller]
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let client = self.consumer();
        eventually("the bounds of a partition", DEADLINE, || client.fetch_watermarks(topic, partition, Duration::from_secs(5)))
    }

    /// Everything that lies in a topic now, by partition and offset.
    #[track_caller]
    pub fn read_all(&self, topic: &str) -> Vec<Stored> {
        let client = self.consumer();
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the broker answers");
        let mut stored = Vec::new();
        for partition in metadata.topics()[0].partitions() {
            let (begin, end) = self.bounds(topic, partition.id());
            if begin < end {
                read_partition(&client, topic, partition.id(), begin, end, &mut stored);
            }
        }
        stored.sort_by_key(|message| (message.partition, message.offset));
        stored
    }

    /// The offset that a consumer group has committed for a partition, if any.
    #[track_caller]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", group);
        let client: BaseConsumer = config.create().expect("a consumer can be made");
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let answer = client.committed_offsets(asked, Duration::from_secs(10)).expect("the broker answers");
        match answer.find_partition(topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn consumer(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "desireline-tests").set("enable.auto.commit", "false");
        config.create().expect("a consumer can be made")
    }

    #[track_caller]
    fn wait_leaders(&self, topic: &str, partitions: i32) {
        let client = self.consumer();
        for partition in 0..partitions {
            eventually("a partition to have a leader", DEADLINE, || {
                client.fetch_watermarks(topic, partition, Duration::from_secs(5)).map(|_| ())
            });
        }
    }
}

fn producer(brokers: &str) -> BaseProducer<Deliveries> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    config.set("linger.ms", "5").set("message.timeout.ms", "60000");
    config.create_with_context(Deliveries::default()).expect("a producer can be made")
}

#[track_caller]
fn read_partition(client: &BaseConsumer, topic: &str, partition: i32, begin: i64, end: i64, stored: &mut Vec<Stored>) {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(begin)).expect("a valid offset");
    client.assign(&assignment).expect("a partition can be assigned");
    let mut next = begin;
    while next < end {
        let message = eventually("a message", DEADLINE, || match client.poll(Duration::from_secs(1)) {
            Some(result) => result.map_err(|error| error.to_string()),
            None => Err("nothing".to_owned()),
        });
        next = message.offset() + 1;
        stored.push(Stored {
            partition,
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().unwrap_or_default().to_vec(),
        });
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(Duration::from_secs(30))).operation_timeout(Some(Duration::from_secs(30)))
}
