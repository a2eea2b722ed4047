//! Events passed on: each accepted event of a source, once, to a topic that others read.
//!
//! A message is one event as browser trackers send it:
//!
//! ```json
//! {"client_id":"c1","session_id":"s1","user_id":"u1","page":"/p/1","event_type":"pageview","properties":{},"timestamp":1700000000.25}
//! ```
//!
//! What an event does not have is `null` (`page` is empty, `properties` is `{}`); a user who was taken from the session or the client
//! is none here. The key is the session, else the user, so that the events of a session lie in one partition, by changesets in the order
//! of their acceptance and within one in the order of their times.
//!
//! # What it promises
//! Each event exactly once, for consumers that read committed messages: events and the time up to which they were passed on are one
//! transaction. The state stands in `<topic_prefix>projections-forward` under the key `kafka-forward`.
//!
//! A forward that is new begins with the present. So it does after `desireline projection rebuild kafka-forward`, and when its state is lost:
//! what was accepted up to then is not passed on, and nothing is passed on twice.
//!
//! Programs that were configured by `KAFKA_BROKERS` (or `KAFKA_BOOTSTRAP_SERVERS`), `KAFKA_TOPIC` and `KAFKA_ENABLED` set instead
//! `projection.kafka.brokers`, `projection.kafka.forward_topic`, and, to turn it on, `projection.kafka.forward_source`.
//!
//! # Known limitations
//! - An event that is deleted, or whose user is erased, stays in the topic until the topic's retention removes it. One that is
//!   deleted before it was passed on is not passed on.
//! - What an event says outside of these fields (its value, its item) is passed on only where its properties say it.
//! - An event that is larger than `message.max.bytes` is left out and counted.

use super::super::changeset::Changeset;
use super::super::target::{Applied, CatchUp, Standing, Target, TargetError};
use super::rows::{json, raw, some};
use super::state::{self, Ledger, LedgerConfig, Printing};
use crate::http::wire::UserId;
use async_trait::async_trait;
use desireline_connectors::kafka::transactions::{Record, Topic, WriterConfig};
use desireline_dataflows::changes::{View, ViewRow, Views};
use desireline_records::time::SECOND;
use desireline_records::{Event, LogicalTime, SourceId};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct KafkaForwardConfig {
    /// Its transactional id must not be that of another target.
    pub writer: WriterConfig,
    pub source: SourceId,
    pub topic: String,
    /// Written in front of the name of the topic with the state.
    pub topic_prefix: String,
    /// Of topics that are created.
    pub partitions: u32,
    pub replication: u32,
    pub gather: Duration,
}

pub struct KafkaForward {
    source: SourceId,
    gather: Duration,
    topic: Arc<Topic>,
    ledger: Ledger,
    /// What comes now was there before the forward began.
    fresh: bool,
}

impl KafkaForward {
    /// Does not connect yet.
    pub fn new(config: KafkaForwardConfig) -> Result<Self, TargetError> {
        let replication = config.replication;
        let topic = Arc::new(Topic { name: config.topic, partitions: config.partitions, replication, compacted: false });
        let name = format!("{}projections-forward", config.topic_prefix);
        let ledger = Ledger::new(LedgerConfig {
            name: "kafka-forward",
            definition: format!("events 1 of source {} to {}", config.source, topic.name),
            writer: config.writer,
            state_topic: Arc::new(Topic { name, partitions: 1, replication, compacted: true }),
            topics: vec![topic.clone()],
            rows_must_be_there: false,
        })?;
        Ok(Self { source: config.source, gather: config.gather, topic, ledger, fresh: false })
    }
}

#[async_trait]
impl Target for KafkaForward {
    fn name(&self) -> &str {
        "kafka-forward"
    }

    fn views(&self) -> Views {
        View::Events.into()
    }

    /// Nothing that was missed is left out, but a forward that begins does not need what there was.
    fn catch_up(&self) -> CatchUp {
        if self.fresh { CatchUp::Present } else { CatchUp::History }
    }

    /// What was passed on is not taken back.
    fn keeps_users(&self) -> bool {
        false
    }

    fn gather(&self) -> Duration {
        self.gather
    }

    async fn open(&mut self, epoch: u64) -> Result<Standing, TargetError> {
        let standing = self.ledger.open(epoch).await?;
        self.fresh = standing == Standing::Fresh;
        Ok(standing)
    }

    async fn begin_rebuild(&mut self) -> Result<(), TargetError> {
        self.fresh = true;
        self.ledger.commit(Vec::new(), |state| (state.applied, state.complete) = (0, false)).await.map(drop)
    }

    async fn apply(&mut self, changes: &Changeset) -> Result<Applied, TargetError> {
        let mut sources = self.ledger.sources()?;
        state::note_sources(&mut sources, changes);
        let mut records = Vec::new();
        if !self.fresh {
            let printing = sources.get(&self.source).copied().unwrap_or_default();
            let mut events: Vec<&Event> = changes.put().filter_map(|row| new_event(row, self.source)).collect();
            events.sort_by_key(|event| (event.time, event.id));
            records.extend(events.into_iter().map(|event| message(&self.topic, event, printing)));
        }
        let (rows, time) = (records.len() as u64, changes.time);
        let refused = self.ledger.commit(records, |state| (state.applied, state.sources) = (time, sources)).await?;
        Ok(Applied { rows: rows.saturating_sub(refused), refused })
    }

    async fn finish_rebuild(&mut self, time: LogicalTime) -> Result<(), TargetError> {
        self.ledger.commit(Vec::new(), |state| (state.applied, state.complete) = (time, true)).await?;
        self.fresh = false;
        Ok(())
    }

    async fn check(&mut self) -> Result<(), TargetError> {
        // A topic that is gone is created again by the next open; what was passed on is not passed on again.
        self.ledger.check().await.map_err(not_lost)
    }
}

fn not_lost(error: TargetError) -> TargetError {
    match error {
        TargetError::Lost(text) => TargetError::Unavailable(text),
        error => error,
    }
}

/// The event of a row that is new: later changes of it come without their event.
fn new_event(row: &ViewRow, source: SourceId) -> Option<&Event> {
    let ViewRow::Event { content, .. } = row else { return None };
    content.0.as_deref().filter(|event| event.source == source)
}

#[derive(Serialize)]
struct Forwarded<'a> {
    client_id: Option<&'a str>,
    session_id: Option<&'a str>,
    user_id: Option<UserId>,
    page: &'a str,
    event_type: &'a str,
    properties: &'a RawValue,
    /// Seconds since 1970.
    timestamp: f64,
}

fn message(topic: &Arc<Topic>, event: &Event, printing: Printing) -> Record {
    let extra = event.extra.as_deref();
    let session_id = extra.and_then(|extra| some(&extra.session_id));
    let client_id = extra.and_then(|extra| some(&extra.client_id));
    let none: &RawValue = raw("{}").expect("an empty object is JSON");
    // An event without a user belongs to its session, else to its client.
    let anonymous = session_id.or(client_id) == Some(event.user.as_str());
    let forwarded = Forwarded {
        client_id,
        session_id,
        user_id: (!anonymous).then(|| UserId::new(&event.user, printing.user_id_type)),
        page: &event.page,
        event_type: &event.event_type,
        properties: extra.and_then(|extra| raw(&extra.properties)).unwrap_or(none),
        timestamp: event.time as f64 / SECOND as f64,
    };
    let key = session_id.unwrap_or(&event.user).as_bytes().to_vec();
    Record { topic: topic.clone(), key, payload: Some(json(&forwarded)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::{EventExtra, EventId, Fixed4, Movement, UserIdType};

    fn event(user: &str, extra: Option<EventExtra>) -> Event {
        Event {
            source: 1,
            movement: Movement::View,
            late: false,
            time: 1_700_000_000_250_000,
            id: EventId::explicit("a"),
            value: Fixed4(0),
            user: user.into(),
            event_type: "pageview".into(),
            page: "/p/1".into(),
            item: "".into(),
            extra: extra.map(Box::new),
            stay: None,
        }
    }

    fn printed(event: &Event, user_id_type: UserIdType) -> (String, String) {
        let topic = Arc::new(Topic { name: "t".into(), partitions: 1, replication: 1, compacted: false });
        let record = message(&topic, event, Printing { user_id_type, transaction_value: false });
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(record.key), text(record.payload.expect("an event")))
    }

    #[test]
    fn an_event_is_printed_as_trackers_send_it() {
        let extra = EventExtra {
            client_id: "c1".into(),
            session_id: "s1".into(),
            properties: r#"{"b": 1,"a":[ ]}"#.into(),
            ..EventExtra::default()
        };
        let (key, value) = printed(&event("u1", Some(extra)), UserIdType::String);
        assert_eq!(key, "s1");
        assert_eq!(
            value,
            r#"{"client_id":"c1","session_id":"s1","user_id":"u1","page":"/p/1","event_type":"pageview","properties":{"b": 1,"a":[ ]},"timestamp":1700000000.25}"#
        );
        let (key, value) = printed(&event("7", None), UserIdType::Int);
        assert_eq!(key, "7");
        assert!(value.contains(r#""session_id":null,"user_id":7,"#) && value.contains(r#""properties":{}"#), "{value}");
    }

    #[test]
    fn who_was_taken_from_session_or_client_is_nobody() {
        let extra =
            |client: &str, session: &str| EventExtra { client_id: client.into(), session_id: session.into(), ..EventExtra::default() };
        for (user, extra, nobody) in [("s", extra("c", "s"), true), ("c", extra("c", ""), true), ("c", extra("c", "s"), false)] {
            let (_, value) = printed(&event(user, Some(extra)), UserIdType::String);
            assert_eq!(value.contains(r#""user_id":null"#), nobody, "{value}");
        }
    }
}
