//! A topic that is told what happens: messages one after the other, each until a broker has it.
//!
//! It promises:
//! - **At least once, in order.** A message is tried until the brokers have acknowledged it (`acks=all`, an idempotent producer), with a pause
//!   between tries that doubles up to `PAUSE_MAX`; the next one comes after it. A try whose outcome is unknown is made again.
//! - Messages of one key lie in one partition (murmur2, as Java clients choose it).
//! - **Nobody waits for it** but the task that sends. One message is under way.
//!
//! The topic is not created here: brokers that create topics by themselves do so, others refuse until somebody has.
//!
//! # Known limitation
//! A message that the brokers refuse for good (larger than they take) is dropped, with a line in the log of the server.

use super::{KafkaError, client};
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::BTreeMap;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// One try.
const DELIVERY_WAIT: Duration = Duration::from_secs(30);

/// Sends to one topic.
pub struct Messages {
    producer: FutureProducer<client::Context>,
    topic: String,
}

impl Messages {
    /// Does not connect yet. `brokers`: `host:port`, separated by commas; `properties`: further settings of librdkafka.
    pub fn new(brokers: &str, topic: &str, properties: &BTreeMap<String, String>) -> Result<Self, KafkaError> {
        let mut settings = ClientConfig::new();
        settings
            .set("client.id", "desireline")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "1")
            .set("queue.buffering.max.kbytes", "1024")
            .set("reconnect.backoff.max.ms", "5000");
        for (key, value) in properties {
            settings.set(key, value);
        }
        settings
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", DELIVERY_WAIT.as_millis().to_string());
        let producer = settings.create_with_context(client::Context).map_err(|error| KafkaError::Client(error.to_string()))?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Returns when the brokers have the message; `false` when they never will.
    pub async fn send(&self, key: &str, payload: &[u8]) -> bool {
        let mut pause = PAUSE_MIN;
        loop {
            let record = FutureRecord::to(&self.topic).key(key).payload(payload);
            let error = match self.producer.send(record, DELIVERY_WAIT).await {
                Ok(_) => return true,
                Err((error, _)) => error,
            };
            if error.rdkafka_error_code().is_some_and(is_final) {
                tracing::error!(topic = self.topic, "a message is dropped: {error}");
                return false;
            }
            tracing::warn!(topic = self.topic, "a message was not taken, it is tried again: {error}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What no further try can change.
fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::Fatal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_pass_is_tried_again() {
        assert!(is_final(RDKafkaErrorCode::MessageSizeTooLarge));
        for code in [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::UnknownTopicOrPartition, RDKafkaErrorCode::BrokerTransportFailure]
        {
            assert!(!is_final(code), "{code}");
        }
    }

    #[tokio::test]
    async fn settings_are_judged_without_a_broker() {
        let wrong = BTreeMap::from([("no.such.setting".to_owned(), "1".to_owned())]);
        assert!(matches!(Messages::new("localhost:1", "alerts", &wrong), Err(KafkaError::Client(_))));
        let messages = Messages::new("localhost:1", "alerts", &BTreeMap::new()).expect("it does not connect");
        let sent = tokio::time::timeout(Duration::from_millis(50), messages.send("1", b"{}")).await;
        assert!(sent.is_err(), "nobody is there, so it is still trying");
    }
}
