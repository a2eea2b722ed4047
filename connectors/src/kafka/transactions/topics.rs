//! Creating topics, and looking whether those that are there will do. Everything here blocks.

use super::session::{PAUSE, Session};
use super::{Topic, WriterError, client};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const ADMIN_WAIT: Duration = Duration::from_secs(10);

/// So late a compacted topic forgets what was overwritten, at the latest.
const COMPACTION_LAG_MS: &str = "86400000";

impl Session {
    pub fn create_missing(&mut self, topics: &[Arc<Topic>], runtime: &Handle) -> Result<Vec<String>, WriterError> {
        let missing = self.missing(topics)?;
        let admin = self.admin()?;
        let (new, old): (Vec<_>, Vec<_>) = topics.iter().partition(|topic| missing.contains(&topic.name));
        check_compaction(&admin, &old, runtime)?;
        if new.is_empty() {
            return Ok(missing);
        }
        let described: Vec<NewTopic<'_>> = new.iter().map(|topic| new_topic(topic)).collect();
        let results = runtime.block_on(admin.create_topics(&described, &options()));
        for result in results.map_err(|error| WriterError::of("creating topics", &error))? {
            match result {
                Ok(name) => tracing::info!(topic = name, "a topic has been created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(WriterError::of_code(&format!("creating the topic {name}: {code}"), code)),
            }
        }
        let deadline = Instant::now() + ADMIN_WAIT;
        for topic in new {
            self.await_leaders(topic, deadline)?;
        }
        Ok(missing)
    }

    fn admin(&self) -> Result<AdminClient<client::Context>, WriterError> {
        let mut config = ClientConfig::new();
        self.config.common(&mut config);
        config.create_with_context(client::Context).map_err(|error| WriterError::of("creating a client", &error))
    }

    fn await_leaders(&mut self, topic: &Topic, deadline: Instant) -> Result<(), WriterError> {
        loop {
            // A broker says who leads a partition before that one knows it.
            match self.ends(topic) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline || matches!(error, WriterError::Refused(_)) => return Err(error),
                Err(_) => std::thread::park_timeout(PAUSE),
            }
        }
    }
}

/// A topic that is not compacted forgets rows that stand. Whoever may not ask for settings has to know.
fn check_compaction(admin: &AdminClient<client::Context>, topics: &[&Arc<Topic>], runtime: &Handle) -> Result<(), WriterError> {
    let asked: Vec<ResourceSpecifier<'_>> =
        topics.iter().filter(|topic| topic.compacted).map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let answers = runtime.block_on(admin.describe_configs(&asked, &options()));
    for answer in answers.map_err(|error| WriterError::of("asking for the settings of topics", &error))? {
        match answer {
            Ok(settings) => {
                if let (OwnedResourceSpecifier::Topic(name), Some(policy)) = (&settings.specifier, wrong_policy(&settings)) {
                    return Err(WriterError::Refused(format!(
                        "the topic {name} has cleanup.policy={policy}: set it to compact, or rows that stand will be removed"
                    )));
                }
            }
            Err(code) => tracing::debug!("the settings of a topic are not known: {code}"),
        }
    }
    Ok(())
}

fn wrong_policy(settings: &ConfigResource) -> Option<&str> {
    let policy = settings.get("cleanup.policy")?.value.as_deref()?;
    (!policy.split(',').any(|word| word.trim() == "compact")).then_some(policy)
}

fn new_topic(topic: &Topic) -> NewTopic<'_> {
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(i32::try_from(topic.replication).unwrap_or(i32::MAX));
    let new = NewTopic::new(&topic.name, partitions, replication);
    match topic.compacted {
        true => new.set("cleanup.policy", "compact").set("max.compaction.lag.ms", COMPACTION_LAG_MS),
        false => new,
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_WAIT)).operation_timeout(Some(ADMIN_WAIT))
}
