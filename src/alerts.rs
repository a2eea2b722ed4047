//! Alerts on a Kafka topic: each `occupancy_change` as JSON, keyed by the number of its space.
//!
//! It promises: an alert that was taken from the queue is sent until the brokers have it, in order; brokers that are down hinder nothing else.
//! At most [`WAITING_MAX`](crate::service::ALERTS_WAITING_MAX) alerts wait; when more come, the oldest are dropped and counted
//! (`desireline_alerts_missed_total`). What waits when the server stops is lost: an alert says what is now.

use crate::service::{OccupancyChange, Service};
use desireline_connectors::kafka::KafkaError;
use desireline_connectors::kafka::messages::Messages;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Where alerts go.
pub struct AlertTopic {
    messages: Messages,
    waiting: Receiver<Arc<OccupancyChange>>,
    service: Service,
}

impl AlertTopic {
    /// Takes alerts from now on; does not connect yet.
    pub fn open(brokers: &[String], topic: &str, service: &Service) -> Result<Self, KafkaError> {
        let messages = Messages::new(&brokers.join(","), topic, &BTreeMap::new())?;
        Ok(Self { messages, waiting: service.alerts(), service: service.clone() })
    }

    /// Passes alerts on until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.pass_on() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn pass_on(&mut self) {
        loop {
            match self.waiting.recv().await {
                Ok(change) => {
                    let json = serde_json::to_vec(change.as_ref()).expect("it has string keys, so it serialises");
                    let delivered = self.messages.send(&change.space_id.to_string(), &json).await;
                    self.service.count_alerts(u64::from(delivered), u64::from(!delivered));
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "alerts were not sent: too many waited for the brokers");
                    self.service.count_alerts(0, missed);
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
