//! Reading whole topics. Everything here blocks.

use super::session::{METADATA_WAIT, PAUSE, Session};
use super::{Offsets, Topic, Visit, WriterError, client};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// No message for so long means that the broker is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a transaction of somebody else may keep a topic from being read to its end.
const STABLE_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at the clock, at most.
const POLL_WAIT: Duration = Duration::from_millis(200);

impl Session {
    pub fn ends(&mut self, topic: &Topic) -> Result<Offsets, WriterError> {
        let partitions = self.existing(topic)?;
        let consumer = &self.consumers()?.uncommitted;
        partitions.into_iter().map(|id| Ok((id, bounds(consumer, topic, id)?.1))).collect()
    }

    /// `whole`: not only up to the first open transaction.
    pub fn read(&mut self, topic: &Topic, from: &Offsets, whole: bool, visit: Visit) -> Result<(), WriterError> {
        let partitions = self.existing(topic)?;
        let consumers = self.consumers()?;
        let mut positions = Offsets::new();
        for id in partitions {
            let (low, high) = bounds(&consumers.uncommitted, topic, id)?;
            let first = from.get(&id).copied().unwrap_or(low).max(low);
            if first < high {
                if whole {
                    await_stable(&consumers.committed, topic, id, high)?;
                }
                positions.insert(id, first);
            }
        }
        let read = visit_all(&consumers.committed, topic, &positions, visit);
        if read.is_err() {
            self.consumers = None;
        }
        read
    }

    fn existing(&mut self, topic: &Topic) -> Result<Vec<i32>, WriterError> {
        let missing = || WriterError::Missing(format!("the topic {} is not there", topic.name));
        self.partitions(topic)?.ok_or_else(missing)
    }
}

fn bounds(consumer: &BaseConsumer<client::Context>, topic: &Topic, id: i32) -> Result<(i64, i64), WriterError> {
    let doing = || format!("asking for the end of {}/{id}", topic.name);
    consumer.fetch_watermarks(&topic.name, id, METADATA_WAIT).map_err(|error| WriterError::of(&doing(), &error))
}

/// Waits until no transaction is open before `high`: what lies behind an open one cannot be read yet.
fn await_stable(consumer: &BaseConsumer<client::Context>, topic: &Topic, id: i32, high: i64) -> Result<(), WriterError> {
    let deadline = Instant::now() + STABLE_WAIT;
    while bounds(consumer, topic, id)?.1 < high {
        if Instant::now() >= deadline {
            return Err(WriterError::Unavailable(format!("somebody's transaction on {}/{id} does not end", topic.name)));
        }
        std::thread::park_timeout(PAUSE);
    }
    Ok(())
}

fn visit_all(consumer: &BaseConsumer<client::Context>, topic: &Topic, positions: &Offsets, mut visit: Visit) -> Result<(), WriterError> {
    let doing = format!("reading the topic {}", topic.name);
    let failed = |error: KafkaError| WriterError::of(&doing, &error);
    let mut left: BTreeSet<i32> = positions.keys().copied().collect();
    let mut assignment = TopicPartitionList::new();
    for (id, first) in positions {
        assignment.add_partition_offset(&topic.name, *id, Offset::Offset(*first)).map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut heard = Instant::now();
    while !left.is_empty() {
        match consumer.poll(POLL_WAIT) {
            Some(Ok(message)) => visit(message.key().unwrap_or_default(), message.payload()),
            Some(Err(KafkaError::PartitionEOF(id))) => drop(left.remove(&id)),
            None
            | Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure))) => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(WriterError::Unavailable(format!("{doing}: no broker answers")));
                }
                continue;
            }
            Some(Err(error)) => return Err(failed(error)),
        }
        heard = Instant::now();
    }
    consumer.unassign().map_err(failed)
}
