//! Kafka sources: one reader for each topic of each source.

use crate::config::{Config, mapping};
use crate::service::{Service, ServiceError};
use async_trait::async_trait;
use desireline_connectors::kafka::{self, KafkaConfig, Sink, SinkError};
use desireline_records::validate::Validator;
use desireline_records::{Progress, SourceId};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub fn spawn(config: &Config, service: &Service, feeds: &mut JoinSet<()>, stop: &CancellationToken) {
    let topics = mapping::kafka(config);
    if topics.is_empty() {
        return;
    }
    let (stopped, _) = watch::channel(false);
    for topic in topics {
        feeds.spawn(read(topic, service.clone(), stopped.subscribe()));
    }
    let stop = stop.clone();
    feeds.spawn(async move {
        stop.cancelled().await;
        stopped.send_replace(true);
    });
}

/// Broken brokers end no reader; what does end one needs somebody to act, so it is an error, shown in the status, too.
async fn read(config: KafkaConfig, service: Service, stop: watch::Receiver<bool>) {
    let (source, topic) = (config.source, config.topic_key());
    tracing::info!(source, %topic, "reading");
    match kafka::run(config, Arc::new(ServiceSink(service.clone())), stop).await {
        Ok(()) => tracing::info!(source, %topic, "no longer reading"),
        Err(error) => {
            tracing::error!(source, %topic, code = error.code(), %error, "a topic is no longer read; the server needs a restart");
            service.report_partition(source, &topic, None, Some(error.to_string()));
        }
    }
}

struct ServiceSink(Service);

#[async_trait]
impl Sink for ServiceSink {
    async fn commit(&self, progress: Progress) -> Result<(), SinkError> {
        self.0.commit(progress).await.map(drop).map_err(outcome)
    }

    fn position(&self, source: SourceId, partition: &str) -> Option<i64> {
        self.0.position(source, partition).map(|position| position.after)
    }

    fn report(&self, source: SourceId, partition: &str, lag: Option<i64>, error: Option<String>) {
        self.0.report_partition(source, partition, lag, error);
    }

    fn validator(&self) -> Arc<Validator> {
        self.0.validator()
    }
}

/// A log that cannot be written now may be written again (a full disk); reading starts over from its positions until then.
fn outcome(error: ServiceError) -> SinkError {
    SinkError::Retry(error.to_string())
}
