//! Gathering messages into what is committed together.

use super::KafkaConfig;
use super::forward::Rejected;
use super::partitions::Reading;
use crate::formats::{self, Format, Malformed, Refusal};
use desireline_records::validate::Validator;
use desireline_records::{Event, EventId, Micros, Position, Progress};
use ecow::{EcoString, eco_format};
use rdkafka::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Rows and the positions they bring.
#[derive(Default)]
pub(super) struct Batch {
    pub progress: Progress,
    /// By partition: from where to where.
    spans: BTreeMap<i32, Span>,
    /// Messages to forward once they are durable as dead letters.
    pub rejected: Vec<Rejected>,
    bytes: usize,
    /// When its first row came.
    pub opened: Option<Instant>,
    validator: Option<Arc<Validator>>,
}

struct Span {
    key: EcoString,
    before: i64,
    after: i64,
    max_time: Option<Micros>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn full(&self, config: &KafkaConfig) -> bool {
        self.progress.events.len() + self.progress.dead_letters.len() >= config.batch_rows_max || self.bytes >= config.batch_bytes_max
    }

    /// Takes the next message of a partition.
    pub fn push(
        &mut self,
        config: &KafkaConfig,
        validator: impl FnOnce() -> Arc<Validator>,
        partition: &mut Reading,
        message: &impl Message,
        now: Micros,
    ) {
        self.opened.get_or_insert_with(Instant::now);
        let validator = self.validator.get_or_insert_with(validator);
        let payload = message.payload().unwrap_or_default();
        self.bytes += payload.len();
        let arrived = message.timestamp().to_millis().and_then(|millis| millis.checked_mul(1_000)).unwrap_or(now);
        match read(config, validator, message, arrived, now) {
            Ok(event) => {
                partition.max_time = partition.max_time.max(Some(event.time));
                self.progress.events.push(event);
            }
            Err(refusal) => {
                let (id, offset) = (message.partition(), message.offset());
                let origin = eco_format!("{}/{id}/{offset}", config.topic);
                let forwarded = config.dead_letter_topic.as_ref().map(|_| refusal.clone());
                let letter = formats::to_dead_letter(validator, config.source, config.format, now, origin, refusal, payload);
                if let Some(refusal) = forwarded {
                    // What the log does not keep of a device is not passed on either.
                    let payload = if config.format == Format::Wifi { letter.payload.as_bytes() } else { payload };
                    self.rejected.push(Rejected::new(config, id, offset, &refusal, payload));
                }
                self.progress.dead_letters.push(letter);
            }
        }
        self.advance(partition, message.partition(), message.offset() + 1);
    }

    /// Records that a partition has come to `after`, with or without a row.
    pub fn advance(&mut self, partition: &mut Reading, id: i32, after: i64) {
        let span =
            self.spans.entry(id).or_insert_with(|| Span { key: partition.key.clone(), before: partition.next, after, max_time: None });
        (span.after, span.max_time) = (after, partition.max_time);
        partition.next = after;
    }

    /// What to commit, and how far each partition is then.
    pub fn finish(mut self, config: &KafkaConfig) -> (Progress, BTreeMap<i32, i64>, Vec<Rejected>) {
        let after = self.spans.iter().map(|(id, span)| (*id, span.after)).collect();
        self.progress.positions = self
            .spans
            .into_values()
            .map(|span| Position {
                source: config.source,
                partition: span.key,
                before: span.before,
                after: span.after,
                max_time: span.max_time,
            })
            .collect();
        (self.progress, after, self.rejected)
    }
}

fn read(config: &KafkaConfig, validator: &Validator, message: &impl Message, arrived: Micros, now: Micros) -> Result<Event, Refusal> {
    let payload = message.payload().ok_or_else(|| Malformed::new("", "the message has no payload (a tombstone)"))?;
    if config.format == Format::Wifi {
        return formats::wifi::read(validator, config.source, payload, now);
    }
    let mut raw = formats::parse(config.format, config.source, payload)?;
    formats::complete(&mut raw, arrived);
    raw.derived_id.get_or_insert_with(|| EventId::position(&config.topic, message.partition(), message.offset()));
    // The identity is derived, so no id is ever asked for.
    Ok(validator.validate(&raw, now, EcoString::new)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::DAY;
    use desireline_records::validate::{Pseudonyms, WifiRules};
    use desireline_records::{DeadLetterKind, Fixed4};
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    const NOW: Micros = 1_700_000_000_000_000;

    fn message(offset: i64, payload: Option<&str>) -> OwnedMessage {
        let payload = payload.map(|text| text.as_bytes().to_vec());
        OwnedMessage::new(payload, None, "clicks".into(), Timestamp::CreateTime(NOW / 1_000 - 60_000), 3, offset, None)
    }

    fn reading(next: i64) -> Reading {
        Reading { key: "kafka:clicks/3".into(), next, committed: next, at_end: false, max_time: None }
    }

    #[test]
    fn every_message_is_a_row_and_positions_reach_over_gaps() {
        let mut config = KafkaConfig::new("b", "clicks", 4, Format::Clickstream);
        config.dead_letter_topic = Some("dead".into());
        let mut partition = reading(5);
        let mut batch = Batch::default();
        for (offset, payload) in [
            (7, Some(r#"{"user_id":"u","event_type":"purchase","value":2,"timestamp":1699999990}"#)),
            (8, None),
            (9, Some("{")),
            (12, Some(r#"{"user_id":"u","event_id":"e"}"#)),
        ] {
            batch.push(&config, Arc::default, &mut partition, &message(offset, payload), NOW);
        }
        assert_eq!(partition.next, 13);
        let (progress, after, rejected) = batch.finish(&config);
        let [first, second] = &progress.events[..] else { panic!("two events") };
        assert_eq!((first.id, first.value, first.source), (EventId::position("clicks", 3, 7), Fixed4(20_000), 4));
        assert_eq!((second.id, second.time), (EventId::explicit("e"), NOW - 60_000_000), "the message's own time stamp");
        let letters: Vec<_> = progress.dead_letters.iter().map(|l| (l.kind, l.origin.as_str(), l.payload.as_str())).collect();
        let malformed = DeadLetterKind::Malformed;
        assert_eq!(letters, [(malformed, "clicks/3/8", ""), (malformed, "clicks/3/9", "{")]);
        assert_eq!(rejected.len(), 2);
        let position = Position { source: 4, partition: "kafka:clicks/3".into(), before: 5, after: 13, max_time: Some(NOW - 10_000_000) };
        assert_eq!((progress.positions, after), (vec![position], [(3, 13)].into()));
    }

    #[test]
    fn shop_rows_are_identified_by_what_they_say() {
        let config = KafkaConfig::new("b", "events-topic", 1, Format::Ampelios);
        let row = r#"{"timestamp":"5","visitorid":"7","event":"view","itemid":"9","transactionid":""}"#;
        let mut batch = Batch::default();
        batch.push(&config, Arc::default, &mut reading(0), &message(0, Some(row)), NOW);
        assert_eq!(batch.progress.events[0].id, EventId::row(b"5,7,view,9,", 0));
    }

    #[derive(Debug)]
    struct Reversed;

    impl Pseudonyms for Reversed {
        fn pseudonym(&self, id: &str) -> EcoString {
            id.chars().rev().collect()
        }
    }

    #[test]
    fn what_is_kept_and_passed_on_of_wifi_sessions_names_no_address() {
        let wifi = WifiRules { source: 4, max_session: DAY, strict_mac: false, pseudonyms: Some(Arc::new(Reversed)) };
        let validator = Arc::new(Validator { wifi: Some(wifi), ..Validator::default() });
        let mut config = KafkaConfig::new("b", "wifi-sessions", 4, Format::Wifi);
        config.dead_letter_topic = Some("dead".into());
        let mut batch = Batch::default();
        for (offset, payload) in [
            r#"{"mac_address":"00:1B:44:11:3A:B7","space_id":7,"start_time":1699999000}"#,
            r#"{"mac_address":"00:1B:44:11:3A:B7","space_id":7,"start_time":1699999000,"end_time":5}"#,
            r#"{"mac_address":"00:1B:44:11:3A:B7","space_id":"#,
        ]
        .into_iter()
        .enumerate()
        {
            batch.push(&config, || validator.clone(), &mut reading(0), &message(offset as i64, Some(payload)), NOW);
        }
        batch.push(&config, || validator.clone(), &mut reading(0), &message(3, None), NOW);
        let (progress, _, rejected) = batch.finish(&config);
        assert_eq!(progress.events.iter().map(|event| event.user.as_str()).collect::<Vec<_>>(), ["7b:a3:11:44:b1:00"]);
        assert_eq!((progress.dead_letters.len(), rejected.len()), (3, 3));
        for (letter, passed) in progress.dead_letters.iter().zip(&rejected) {
            assert_eq!(letter.payload.as_bytes(), passed.payload, "the log and the topic have the same");
            assert!(!format!("{letter:?}").to_lowercase().contains("00:1b:44"), "{letter:?}");
        }
    }

    #[test]
    fn a_batch_is_full_by_rows_or_by_bytes() {
        let mut config = KafkaConfig::new("b", "t", 1, Format::Clickstream);
        (config.batch_rows_max, config.batch_bytes_max) = (3, 50);
        let mut partition = reading(0);
        let mut batch = Batch::default();
        batch.push(&config, Arc::default, &mut partition, &message(0, Some("{}")), NOW);
        batch.push(&config, Arc::default, &mut partition, &message(1, Some("{\"user_id\":1}")), NOW);
        assert!(!batch.full(&config));
        batch.push(&config, Arc::default, &mut partition, &message(2, Some("{}")), NOW);
        assert!(batch.full(&config));
        let mut batch = Batch::default();
        batch.push(&config, Arc::default, &mut partition, &message(3, Some(&"x".repeat(50))), NOW);
        assert!(batch.full(&config));
    }
}
