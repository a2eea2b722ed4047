//! Events passed on: each once, in order, from the present on.

use super::topics::Topics;
use super::{T0, erased, set, writer};
use desireline::projections::kafka::forward::{KafkaForward, KafkaForwardConfig};
use desireline::projections::{Applied, CatchUp, Standing, Target, TargetError};
use desireline_dataflows::changes::{Content, ViewRow};
use desireline_records::{Event, EventExtra, EventId, Fixed4, Movement, SourceId};
use std::sync::Arc;
use std::time::Duration;

fn target_of(topics: &Topics) -> KafkaForward {
    let config = KafkaForwardConfig {
        writer: writer(topics, "forward"),
        source: 1,
        topic: topics.name("clickstream.events"),
        topic_prefix: topics.prefix.clone(),
        partitions: 2,
        replication: 1,
        gather: Duration::ZERO,
    };
    KafkaForward::new(config).expect("good settings")
}

fn row(source: SourceId, user: &str, seconds: i64, session: u32, new: bool) -> ViewRow {
    let (id, time) = (EventId::explicit(&format!("{user}{seconds}")), T0 + seconds * 1_000_000);
    let event = Event {
        source,
        movement: Movement::View,
        late: false,
        time,
        id,
        value: Fixed4(0),
        user: user.into(),
        event_type: "pageview".into(),
        page: "/".into(),
        item: "".into(),
        extra: Some(Box::new(EventExtra { session_id: format!("session-{user}").into(), ..EventExtra::default() })),
        stay: None,
    };
    let content = Content(new.then(|| Arc::new(event)));
    ViewRow::Event { source, user: user.into(), id, time, session, content }
}

fn new(user: &str, seconds: i64) -> (ViewRow, i64) {
    (row(1, user, seconds, 1, true), 1)
}

/// (key, seconds after T0) of what was passed on, by partitions in order.
fn passed_on(topics: &Topics) -> Vec<(String, i64)> {
    let seconds = |value: &serde_json::Value| value["timestamp"].as_f64().unwrap() as i64 - T0 / 1_000_000;
    topics.messages("clickstream.events").into_iter().map(|(key, value)| (key, seconds(&value.unwrap()))).collect()
}

async fn opened(topics: &Topics) -> KafkaForward {
    let mut target = target_of(topics);
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    assert_eq!(target.catch_up(), CatchUp::Present, "it does not need what there was");
    target.begin_rebuild().await.unwrap();
    target.apply(&set(5, [new("before", 0)])).await.unwrap();
    target.finish_rebuild(5).await.unwrap();
    assert_eq!(target.catch_up(), CatchUp::History, "from now on it needs all");
    target
}

#[test]
fn new_events_of_the_source_are_passed_on_once() {
    Topics::with(async |topics| {
        let mut target = opened(topics).await;
        let renumbered = [(row(1, "a", 1, 1, false), -1), (row(1, "a", 1, 2, false), 1)];
        let changes = [new("a", 2), new("a", 1), new("a", 3), (row(2, "other", 1, 1, true), 1)].into_iter().chain(renumbered);
        assert_eq!(target.apply(&set(10, changes)).await.unwrap(), Applied { rows: 3, refused: 0 });
        // Later changes of events that were passed on, an erasure, and an event that came and went.
        let changes = [
            (row(1, "a", 2, 1, false), -1),
            (row(1, "a", 2, 5, false), 1),
            (row(1, "a", 3, 1, false), -1),
            erased("nobody"),
            new("gone", 1),
            (row(1, "gone", 1, 1, false), -1),
            new("a", 4),
        ];
        assert_eq!(target.apply(&set(11, changes)).await.unwrap().rows, 1);
        let expected: Vec<(String, i64)> = (1..=4).map(|n| ("session-a".to_owned(), n)).collect();
        assert_eq!(passed_on(topics), expected, "in the order of the session");
        let (_, value) = topics.messages("clickstream.events").remove(0);
        let expected = serde_json::json!({"client_id": null, "session_id": "session-a", "user_id": "a", "page": "/", "event_type": "pageview",
        "properties": {}, "timestamp": 1_700_000_001.0});
        assert_eq!(value, Some(expected));
    });
}

#[test]
fn neither_a_restart_nor_a_rebuild_repeats_an_event() {
    Topics::with(async |topics| {
        let mut target = opened(topics).await;
        target.apply(&set(10, [new("a", 1)])).await.unwrap();
        // A writer that was shut out: its event is not there, and comes with the next one's.
        let mut next = target_of(topics);
        assert_eq!(next.open(2).await.unwrap(), Standing::At(10));
        let outcome = target.apply(&set(11, [new("a", 2)])).await;
        assert!(matches!(outcome, Err(TargetError::Fenced { own: 1, newer: 2 })), "{outcome:?}");
        assert_eq!(passed_on(topics).len(), 1);
        next.apply(&set(12, [new("a", 2), new("a", 3)])).await.unwrap();
        assert_eq!(next.open(2).await.unwrap(), Standing::At(12));
        next.begin_rebuild().await.unwrap();
        next.apply(&set(12, [new("a", 1), new("a", 2), new("a", 3), new("a", 4)])).await.unwrap();
        next.finish_rebuild(13).await.unwrap();
        next.apply(&set(14, [new("a", 5)])).await.unwrap();
        let seconds: Vec<i64> = passed_on(topics).into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(seconds, [1, 2, 3, 5]);

        // The topic is deleted: it is made again, and what was passed on stays passed on.
        topics.delete("clickstream.events");
        let outcome = next.check().await;
        assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{outcome:?}");
        assert_eq!(next.open(2).await.unwrap(), Standing::At(14));
        next.apply(&set(15, [new("a", 6)])).await.unwrap();
        let seconds: Vec<i64> = passed_on(topics).into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(seconds, [6]);
    });
}
