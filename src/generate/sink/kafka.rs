//! Messages to a topic through an idempotent producer: the broker drops what a retry sends twice, and the order within a partition
//! is kept. A batch counts once every message of it is acknowledged by all replicas.

use super::{Format, GenerateError, GenerateOptions, Generated, Report};
use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use std::time::Duration;

/// How long the client's queue may stay full.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(60);

pub struct Kafka {
    producer: FutureProducer,
    topic: String,
    format: Format,
    messages: Vec<(String, String)>,
    report: Report,
}

impl Kafka {
    pub fn new(brokers: &str, topic: &str, options: &GenerateOptions) -> Result<Self, GenerateError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("compression.type", "gzip")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "60000");
        for (name, value) in &options.kafka {
            config.set(name, value);
        }
        let producer = config.create()?;
        Ok(Self { producer, topic: topic.into(), format: options.format(), messages: Vec::new(), report: Report::default() })
    }

    pub fn push<E: Generated>(&mut self, row: &E) {
        let mut body = String::with_capacity(320);
        row.json(self.format, &mut body);
        self.messages.push((row.key(), body));
    }

    pub async fn flush(&mut self) -> Result<(), GenerateError> {
        let sends = self.messages.iter().map(|(key, body)| {
            let record = FutureRecord::to(&self.topic).key(key).payload(body);
            let send = self.producer.send(record, Timeout::After(QUEUE_WAIT_MAX));
            async move { send.await.map_err(|(error, _)| error) }
        });
        try_join_all(sends).await.map_err(|error: KafkaError| error)?;
        self.report.rows += self.messages.len() as u64;
        self.report.bytes += self.messages.iter().map(|(_, body)| body.len() as u64).sum::<u64>();
        self.messages.clear();
        Ok(())
    }

    pub fn finish(self) -> Report {
        self.report
    }
}
