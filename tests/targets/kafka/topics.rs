//! Topics of a test's own in the Kafka of the environment, read as consumers read them.

use crate::support::kafka::Kafka;
use crate::support::wait::DEADLINE;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Names that nobody else uses. The topics are deleted at the end.
pub struct Topics {
    pub kafka: Kafka,
    /// In front of the names of all topics.
    pub prefix: String,
}

/// Key and value of a message.
pub type Pair = (String, Option<Value>);

impl Topics {
    /// Runs a test on topics in the Kafka of the environment, or reports it as skipped.
    #[track_caller]
    pub fn with(test: impl AsyncFnOnce(&Self)) {
        let Some(kafka) = Kafka::from_env() else { return };
        let prefix = format!("{}.", kafka.unique_name("targets"));
        let topics = Self { kafka, prefix };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(test(&topics));
    }

    pub fn create(&self, topic: &str, cleanup_policy: &str) {
        tokio::task::block_in_place(|| self.kafka.create_named_topic(&self.name(topic), 1, &[("cleanup.policy", cleanup_policy)]));
    }

    /// Deletes a topic; returns when the broker no longer knows it.
    pub fn delete(&self, topic: &str) {
        tokio::task::block_in_place(|| self.kafka.delete_topic(&self.name(topic)));
    }

    pub fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The committed messages of a topic, partition by partition, in order.
    #[track_caller]
    pub fn messages(&self, topic: &str) -> Vec<Pair> {
        self.partitions(topic, "read_committed").into_values().flatten().collect()
    }

    /// What a topic says of each key at last.
    #[track_caller]
    pub fn table(&self, topic: &str) -> BTreeMap<String, Value> {
        let last: BTreeMap<String, Option<Value>> = self.messages(topic).into_iter().collect();
        last.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    #[track_caller]
    pub fn partitions(&self, topic: &str, isolation: &str) -> BTreeMap<i32, Vec<Pair>> {
        let name = self.name(topic);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.brokers()).set("group.id", "desireline-tests").set("isolation.level", isolation);
        config.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("fetch.wait.max.ms", "5");
        let client: BaseConsumer = config.create().expect("a consumer can be made");
        let metadata = client.fetch_metadata(Some(&name), Duration::from_secs(10)).expect("the broker answers");
        let mut left: BTreeSet<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        let mut assignment = TopicPartitionList::new();
        for id in &left {
            assignment.add_partition_offset(&name, *id, Offset::Beginning).expect("a valid offset");
        }
        client.assign(&assignment).expect("partitions can be assigned");
        let mut found: BTreeMap<i32, Vec<Pair>> = left.iter().map(|id| (*id, Vec::new())).collect();
        let begun = Instant::now();
        while !left.is_empty() {
            assert!(begun.elapsed() < DEADLINE, "partitions {left:?} of {name} are not read to their end");
            match client.poll(Duration::from_secs(1)) {
                Some(Ok(message)) => {
                    let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).expect("keys are text");
                    let value = message.payload().map(|payload| serde_json::from_slice(payload).expect("values are JSON"));
                    found.get_mut(&message.partition()).expect("an assigned partition").push((key, value));
                }
                Some(Err(KafkaError::PartitionEOF(id))) => drop(left.remove(&id)),
                Some(Err(error)) => panic!("reading {name}: {error}"),
                None => {}
            }
        }
        found
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let config = ClientConfig::new().set("bootstrap.servers", self.kafka.brokers()).clone();
        let Ok(client) = config.create::<BaseConsumer>() else { return };
        let Ok(metadata) = client.fetch_metadata(None, Duration::from_secs(10)) else { return };
        let own: Vec<String> =
            metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| name.starts_with(&self.prefix)).collect();
        if !std::thread::panicking() {
            own.iter().for_each(|name| self.kafka.delete_topic(name));
        }
    }
}
