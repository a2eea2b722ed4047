//! The producer and its transactions. Everything here blocks.

use super::{Record, Topic, WriterConfig, WriterError, client};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) const METADATA_WAIT: Duration = Duration::from_secs(5);
const CLAIM_WAIT: Duration = Duration::from_secs(20);
const COMMIT_WAIT: Duration = Duration::from_secs(30);
const ABORT_WAIT: Duration = Duration::from_secs(5);
/// How long deliveries are listened for at a time; the client does not return earlier.
const POLL: Duration = Duration::from_millis(1);
/// Between two looks at something that takes a moment.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Session {
    pub config: WriterConfig,
    /// There from a claim to the first error.
    producer: Option<BaseProducer<Deliveries>>,
    pub consumers: Option<Consumers>,
}

/// Clients for asking and reading, kept while they are of use.
pub(super) struct Consumers {
    pub committed: BaseConsumer<client::Context>,
    pub uncommitted: BaseConsumer<client::Context>,
}

/// Notes the first message that the broker did not take.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn take(&self) -> Option<KafkaError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::Context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::Context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

impl Session {
    pub fn new(config: WriterConfig) -> Self {
        Self { config, producer: None, consumers: None }
    }

    pub fn consumers(&mut self) -> Result<&Consumers, WriterError> {
        if self.consumers.is_none() {
            let create = |committed| {
                let consumer = self.config.consumer(committed).create_with_context(client::Context);
                consumer.map_err(|error| WriterError::of("creating a client", &error))
            };
            self.consumers = Some(Consumers { committed: create(true)?, uncommitted: create(false)? });
        }
        Ok(self.consumers.as_ref().expect("it has just been made"))
    }

    /// The number of partitions of a topic; none if it is not there.
    pub fn partitions(&mut self, topic: &Topic) -> Result<Option<Vec<i32>>, WriterError> {
        let doing = format!("asking for the topic {}", topic.name);
        let metadata = self.consumers()?.committed.fetch_metadata(Some(&topic.name), METADATA_WAIT);
        let metadata = metadata.map_err(|error| WriterError::of(&doing, &error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic.name) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Some(code) => return Err(WriterError::of_code(&format!("{doing}: {code}"), code)),
            None if found.partitions().is_empty() => return Ok(None),
            None => {}
        }
        if found.partitions().iter().any(|partition| partition.leader() < 0) {
            return Err(WriterError::Unavailable(format!("{doing}: a partition has no leader")));
        }
        Ok(Some(found.partitions().iter().map(|partition| partition.id()).collect()))
    }

    pub fn missing(&mut self, topics: &[Arc<Topic>]) -> Result<Vec<String>, WriterError> {
        let mut missing = Vec::new();
        for topic in topics {
            if self.partitions(topic)?.is_none() {
                missing.push(topic.name.clone());
            }
        }
        Ok(missing)
    }

    pub fn claim(&mut self) -> Result<(), WriterError> {
        self.producer = None;
        let name = &self.config.transactional_id;
        let producer: BaseProducer<Deliveries> = self
            .config
            .producer()
            .create_with_context(Deliveries::default())
            .map_err(|error| WriterError::of("creating a producer", &error))?;
        let claimed = producer.init_transactions(CLAIM_WAIT);
        claimed.map_err(|error| WriterError::of(&format!("claiming the transactional id {name}"), &error))?;
        self.producer = Some(producer);
        Ok(())
    }

    pub fn commit(&mut self, records: &[Record]) -> Result<u64, WriterError> {
        let begun = Instant::now();
        let refused = self.send(records)?;
        let producer = self.producer.take().ok_or_else(unclaimed)?;
        // Committing flushes by steps of 100 ms.
        while producer.in_flight_count() > 0 && begun.elapsed() < COMMIT_WAIT {
            producer.poll(POLL);
        }
        loop {
            let left = COMMIT_WAIT.saturating_sub(begun.elapsed());
            match producer.commit_transaction(left) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {}
                Err(error) => {
                    let why = self.failed("committing", &producer, error);
                    return Err(why);
                }
            }
        }
        self.producer = Some(producer);
        Ok(refused)
    }

    /// Begins a transaction and hands its records to the client.
    pub fn send(&mut self, records: &[Record]) -> Result<u64, WriterError> {
        let producer = self.producer.take().ok_or_else(unclaimed)?;
        match send_all(&producer, records) {
            Ok(refused) => {
                self.producer = Some(producer);
                Ok(refused)
            }
            Err(error) => Err(self.failed("sending", &producer, error)),
        }
    }

    /// Gives a transaction up, so that it is in nobody's way. If that fails, too, the next claim does it.
    fn failed(&self, doing: &str, producer: &BaseProducer<Deliveries>, error: KafkaError) -> WriterError {
        let told = WriterError::of(doing, &error);
        // The reason, where a message was not taken; without an abort its outcome is told by the purge of the queue.
        let delivery = producer.context().take().map(|error| WriterError::of(doing, &error));
        if !matches!(told, WriterError::Fenced(_))
            && let Err(error) = producer.abort_transaction(ABORT_WAIT)
        {
            tracing::debug!("a transaction was not aborted: {error}");
        }
        match delivery {
            Some(delivery) if told.retryable() => delivery,
            _ => told,
        }
    }
}

fn unclaimed() -> WriterError {
    WriterError::Unavailable("the transactional id is not claimed".into())
}

fn send_all(producer: &BaseProducer<Deliveries>, records: &[Record]) -> Result<u64, KafkaError> {
    let deadline = Instant::now() + COMMIT_WAIT;
    drop(producer.context().take());
    producer.begin_transaction()?;
    let mut refused = 0;
    for record in records {
        match send_one(producer, record, record.payload.as_deref(), deadline) {
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)) => {
                refused += 1;
                tracing::warn!(topic = record.topic.name, "a row is larger than message.max.bytes and is left out");
                if record.topic.compacted {
                    send_one(producer, record, None, deadline)?;
                }
            }
            sent => sent?,
        }
    }
    Ok(refused)
}

fn send_one(producer: &BaseProducer<Deliveries>, record: &Record, payload: Option<&[u8]>, deadline: Instant) -> Result<(), KafkaError> {
    loop {
        let mut message = BaseRecord::<[u8], [u8]>::to(&record.topic.name).key(&record.key);
        message.payload = payload;
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if Instant::now() < deadline => {
                producer.poll(POLL);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
