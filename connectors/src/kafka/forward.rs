//! Dead letters on a topic of their own: the message as it came, with the reason in its headers. WiFi sessions go there as the log
//! keeps them: where addresses are replaced, no address leaves this process.
//!
//! Headers: `reason` (text), `kind`, `field`, `source_id`, `topic`, `partition`, `offset`. Delivery is at most once, from a bounded
//! queue, and never holds up reading; what is dropped is counted in the log of the server.

use super::{KafkaConfig, KafkaError, client};
use crate::formats::Refusal;
use futures::StreamExt;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const QUEUE_MESSAGES: usize = 1_024;
const DELIVERY_WAIT: Duration = Duration::from_secs(30);

/// On their way to the broker at once.
const CONCURRENT_MESSAGES: usize = 64;

/// A message that became a dead letter.
pub(super) struct Rejected {
    pub payload: Vec<u8>,
    headers: [(&'static str, String); 7],
}

impl Rejected {
    pub fn new(config: &KafkaConfig, partition: i32, offset: i64, refusal: &Refusal, payload: &[u8]) -> Self {
        let headers = [
            ("reason", refusal.detail().to_string()),
            ("kind", refusal.kind().word().to_owned()),
            ("field", refusal.field().to_owned()),
            ("source_id", config.source.to_string()),
            ("topic", config.topic.clone()),
            ("partition", partition.to_string()),
            ("offset", offset.to_string()),
        ];
        Self { payload: payload.to_vec(), headers }
    }
}

async fn produce(producer: &FutureProducer<client::Context>, topic: &str, rejected: Rejected) {
    let headers = OwnedHeaders::new_with_capacity(rejected.headers.len());
    let headers = rejected.headers.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    let record = FutureRecord::<(), _>::to(topic).payload(&rejected.payload).headers(headers);
    if let Err((error, _)) = producer.send(record, DELIVERY_WAIT).await {
        tracing::warn!(topic, "a dead letter was not forwarded: {error}");
    }
}

/// Produces dead letters in the background. Dropping it ends that once the queue is empty.
pub(super) struct Forwarder {
    queue: mpsc::Sender<Rejected>,
    dropped: AtomicU64,
}

impl Forwarder {
    pub fn start(config: &KafkaConfig, topic: &str) -> Result<Self, KafkaError> {
        let mut settings = client::client_config(config);
        for consumer_only in client::CONSUMER_PROPERTIES {
            settings.remove(consumer_only);
        }
        settings.set("message.timeout.ms", DELIVERY_WAIT.as_millis().to_string());
        let producer: FutureProducer<client::Context> =
            settings.create_with_context(client::Context).map_err(|error| KafkaError::Client(error.to_string()))?;
        let (queue, messages) = mpsc::channel::<Rejected>(QUEUE_MESSAGES);
        let topic = topic.to_owned();
        tokio::spawn(async move {
            let messages = futures::stream::unfold(messages, |mut messages| async { messages.recv().await.map(|next| (next, messages)) });
            messages.for_each_concurrent(CONCURRENT_MESSAGES, |rejected| produce(&producer, &topic, rejected)).await;
        });
        Ok(Self { queue, dropped: AtomicU64::new(0) })
    }

    pub fn forward(&self, rejected: Vec<Rejected>) {
        let refused = rejected.into_iter().filter_map(|rejected| self.queue.try_send(rejected).err()).count() as u64;
        if refused > 0 {
            let dropped = self.dropped.fetch_add(refused, Ordering::Relaxed) + refused;
            tracing::warn!(dropped, "dead letters were not forwarded: the queue is full");
        }
    }
}
