//! The Kafka targets, against a real Kafka: what consumers of committed messages see, at every moment at which a server may end.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod forward;
mod random;
mod topics;

use desireline::projections::kafka::{KafkaTarget, KafkaTargetConfig};
use desireline::projections::{Applied, Changeset, Standing, Target, TargetError};
use desireline_connectors::kafka::transactions::{Record, Topic, Transactions, WriterConfig};
use desireline_dataflows::changes::{Change, Content, ContextRow, Features, View, ViewRow, Views};
use desireline_dataflows::views::journeys::Journey;
use desireline_records::{
    CatalogEntry, Event, EventExtra, EventId, Fixed4, Item, LogicalTime, Movement, Person, SourceSettings, UserIdType,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topics::Topics;

const T0: i64 = 1_700_000_000_000_000;

fn writer(topics: &Topics, suffix: &str) -> WriterConfig {
    let transactional_id = format!("{}{suffix}", topics.prefix);
    WriterConfig { brokers: topics.kafka.brokers().to_owned(), transactional_id, properties: BTreeMap::new() }
}

fn target_of(topics: &Topics, views: impl Into<Views>) -> KafkaTarget {
    let config = KafkaTargetConfig {
        writer: writer(topics, "views"),
        views: views.into(),
        topic_prefix: topics.prefix.clone(),
        partitions: 2,
        replication: 1,
        gather: Duration::ZERO,
    };
    KafkaTarget::new(config).expect("good settings")
}

/// A target with nothing in it, ready for changes after time 1.
async fn opened(topics: &Topics, views: impl Into<Views>) -> KafkaTarget {
    let mut target = target_of(topics, views);
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    target.begin_rebuild().await.unwrap();
    target.finish_rebuild(1).await.unwrap();
    target
}

fn set(time: LogicalTime, changes: impl IntoIterator<Item = (ViewRow, i64)>) -> Changeset {
    let mut set = Changeset { time, ..Changeset::default() };
    changes.into_iter().for_each(|(row, diff)| set.add(Change { time, row, diff }));
    set
}

fn session(user: &str, number: u32, events: u32) -> ViewRow {
    let start = T0 + i64::from(number) * 3_600_000_000;
    ViewRow::Session {
        source: 1,
        user: user.into(),
        number,
        first_event: EventId::explicit("a"),
        start,
        end: start + 1_000_000,
        events,
        views: events,
        carts: 0,
        transactions: 1,
        value: 125_001,
    }
}

fn minute(page: &str, count: i64) -> ViewRow {
    let (page, event_type) = (page.into(), "view".into());
    ViewRow::Minute { source: 1, minute: T0, page, event_type, count, revenue: i128::from(count) * 5_000 }
}

fn shift(page: &str, count: i64) -> ViewRow {
    let (page, event_type) = (page.into(), "view".into());
    ViewRow::MinuteShift { source: 1, minute: T0, page, event_type, count, revenue: i128::from(count) * 5_000 }
}

fn event(user: &str, id: &str, session: u32, content: bool) -> ViewRow {
    let event = Event {
        source: 1,
        movement: Movement::View,
        late: false,
        time: T0,
        id: EventId::explicit(id),
        value: Fixed4(15_000),
        user: user.into(),
        event_type: "view".into(),
        page: "/p".into(),
        item: "B1".into(),
        extra: Some(Box::new(EventExtra {
            event_id: id.into(),
            session_id: "s".into(),
            properties: r#"{"a":1}"#.into(),
            ..EventExtra::default()
        })),
        stay: None,
    };
    let content = Content(content.then(|| Arc::new(event)));
    ViewRow::Event { source: 1, user: user.into(), id: EventId::explicit(id), time: T0, session, content }
}

fn erased(user: &str) -> (ViewRow, i64) {
    (ViewRow::Erased { source: 1, user: user.into() }, -1)
}

fn users(table: &BTreeMap<String, Value>) -> Vec<&str> {
    table.values().map(|value| value["user_id"].as_str().unwrap()).collect()
}

#[test]
fn every_view_is_a_topic_of_its_rows() {
    Topics::with(async |topics| {
        let views: Views = View::ALL.into_iter().collect();
        let mut target = opened(topics, views).await;
        let settings = SourceSettings { user_id_type: UserIdType::Int, transaction_value: true, ..SourceSettings::defaults(1) };
        let journey = ViewRow::Journey { source: 1, user: "7".into(), journey: Journey::new(2, 1, 1, 2, 30_000), cluster: Some(3) };
        let context = ContextRow {
            source: 1,
            user: "7".into(),
            recent_items: vec!["B2".into(), "B1".into()],
            recent_categories: vec![("Books".into(), 2)],
            last_active: T0 + 999_999,
            expires_at: T0 + 900_000_000,
            categories_expire_at: T0 + 900_000_000,
        };
        let CatalogEntry::Item(item) = CatalogEntry::Item(Arc::new(Item {
            asin: "B1".into(),
            parent_asin: "P1".into(),
            variant: None,
            primary_image: None,
            category: Some("Books".into()),
        })) else {
            unreachable!()
        };
        let rows = [
            ViewRow::Source(Arc::new(settings)),
            session("7", 1, 3),
            journey,
            ViewRow::Cluster { source: 1, cluster: 3, centroid: Features::of([1.5, 0.0, 0.0, 1.0, 1.5, 0.0]) },
            minute("/p", 3),
            ViewRow::Context(Arc::new(context)),
            ViewRow::Item(item),
            ViewRow::Person(Arc::new(Person { id: 7, username: Some("ann".into()) })),
            event("7", "e1", 1, true),
        ];
        let applied = target.apply(&set(10, rows.map(|row| (row, 1)))).await.unwrap();
        assert_eq!(applied, Applied { rows: 8, refused: 0 });

        let only = |topic: &str| -> (String, Value) {
            let mut table = topics.table(topic);
            assert_eq!(table.len(), 1, "{topic}: {table:?}");
            table.pop_first().unwrap()
        };
        let (key, value) = only("sessions");
        assert_eq!(key, r#"{"source_id":1,"user_id":"7","start":"2023-11-14T23:13:20.000Z"}"#);
        let expected = json!({"as_of": 10, "source_id": 1, "user_id": 7, "session_number": 1, "start": "2023-11-14T23:13:20.000Z",
        "end": "2023-11-14T23:13:21.000Z", "event_count": 3, "views": 3, "carts": 0, "transactions": 1, "value": 12.5001});
        assert_eq!(value, expected);
        let expected = json!({"as_of": 10, "source_id": 1, "user_id": 7, "state": [2.0, 1.0, 3.0], "session_count": 2,
        "features": [2.0, 1.0, 3.0, 2.0, 1.0, 1.5], "cluster_id": 3});
        assert_eq!(only("journeys"), (r#"{"source_id":1,"user_id":"7"}"#.to_owned(), expected));
        let expected = json!({"as_of": 10, "source_id": 1, "cluster_id": 3, "centroid": [1.5, 0.0, 0.0, 1.0, 1.5, 0.0]});
        assert_eq!(only("clusters"), (r#"{"source_id":1,"cluster_id":3}"#.to_owned(), expected));
        let expected = json!({"as_of": 10, "source_id": 1, "window_start": "2023-11-14T22:13:20.000Z", "page": "/p", "event_type": "view",
        "window_end": "2023-11-14T22:14:20.000Z", "count": 3, "revenue": 1.5});
        assert_eq!(only("minutes").1, expected);
        let expected = json!({"as_of": 10, "source_id": 1, "user_id": 7, "recent_items": ["B2", "B1"], "recent_categories": {"Books": 2},
        "last_active": 1_700_000_000, "expires_at": "2023-11-14T22:28:20.000Z"});
        assert_eq!(only("context"), (r#"{"source_id":1,"user_id":"7"}"#.to_owned(), expected));
        let catalog = topics.table("catalog");
        let expected = json!({"as_of": 10, "kind": "item", "asin": "B1", "parent_asin": "P1", "variant": null, "primary_image": null, "category": "Books"});
        assert_eq!(catalog[r#"{"kind":"item","id":"B1"}"#], expected);
        assert_eq!(catalog[r#"{"kind":"user","id":"7"}"#], json!({"as_of": 10, "kind": "user", "id": 7, "username": "ann"}));
        let expected = json!({"as_of": 10, "source_id": 1, "user_id": 7, "event_id": "e1", "timestamp": "2023-11-14T22:13:20.000Z",
        "event_type": "view", "page": "/p", "item_id": "B1", "session_id": "s", "client_id": null, "transaction_id": null, "value": 1.5,
        "properties": {"a": 1}});
        assert_eq!(only("events").1, expected);

        // The number of its session changes: an event stays as it is, and goes when it is taken away.
        target.apply(&set(11, [(event("7", "e1", 1, false), -1), (event("7", "e1", 2, false), 1)])).await.unwrap();
        assert_eq!(only("events").1["as_of"], 10);
        target.apply(&set(12, [(event("7", "e1", 2, false), -1)])).await.unwrap();
        assert!(topics.table("events").is_empty());
    });
}

#[test]
fn changes_of_a_row_keep_their_order_and_end_in_a_tombstone() {
    Topics::with(async |topics| {
        let mut target = opened(topics, View::Sessions).await;
        let names: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
        for (time, events) in [(10, 1), (11, 2), (12, 3)] {
            target.apply(&set(time, names.iter().map(|user| (session(user, 1, events), 1)))).await.unwrap();
        }
        target.apply(&set(13, names[20..].iter().map(|user| (session(user, 1, 3), -1)))).await.unwrap();
        let table = topics.table("sessions");
        assert_eq!(table.len(), 20);
        assert!(table.values().all(|value| value["event_count"] == 3 && value["as_of"] == 12), "{table:?}");
        let partitions = topics.partitions("sessions", "read_committed");
        assert_eq!(partitions.len(), 2);
        assert!(partitions.values().all(|messages| !messages.is_empty()), "keys are spread");
        let of_one: Vec<Option<Value>> =
            topics.messages("sessions").into_iter().filter(|(key, _)| key.contains("\"u30\"")).map(|(_, value)| value).collect();
        let counts: Vec<Option<i64>> =
            of_one.iter().map(|value| value.as_ref().map(|value| value["event_count"].as_i64().unwrap())).collect();
        assert_eq!(counts, [Some(1), Some(2), Some(3), None]);
    });
}

#[test]
fn a_server_that_ends_within_a_transaction_leaves_nothing() {
    Topics::with(async |topics| {
        let mut first = opened(topics, View::Sessions).await;
        first.apply(&set(10, [(session("u", 1, 1), 1)])).await.unwrap();
        drop(first);
        // The same writer, as far as a crash lets it come: sent, not committed.
        let crashed = Transactions::new(writer(topics, "views")).unwrap();
        crashed.claim().await.unwrap();
        let topic = Arc::new(Topic { name: topics.name("sessions"), partitions: 2, replication: 1, compacted: true });
        let key = br#"{"source_id":1,"user_id":"half"}"#.to_vec();
        let state_topic = Arc::new(Topic { name: topics.name("projections"), partitions: 1, replication: 1, compacted: true });
        let state = topics.table("projections")["kafka"].to_string().replace(r#""applied":10"#, r#""applied":11"#);
        let half = Record { topic, key, payload: Some(b"{}".to_vec()) };
        let state = Record { topic: state_topic, key: b"kafka".to_vec(), payload: Some(state.into_bytes()) };
        crashed.send_only(vec![half, state]).await.unwrap();

        let mut second = target_of(topics, View::Sessions);
        assert_eq!(second.open(1).await.unwrap(), Standing::At(10), "what was recorded last");
        second.apply(&set(11, [(session("v", 1, 1), 1)])).await.unwrap();
        assert_eq!(users(&topics.table("sessions")), ["u", "v"]);
        drop(crashed);
        assert_eq!(users(&topics.table("sessions")), ["u", "v"]);
    });
}

#[test]
fn a_newer_server_shuts_the_older_one_out() {
    Topics::with(async |topics| {
        let mut old = opened(topics, View::Sessions).await;
        old.apply(&set(10, [(session("u", 1, 1), 1)])).await.unwrap();
        let mut new = target_of(topics, View::Sessions);
        assert_eq!(new.open(2).await.unwrap(), Standing::At(10));
        for outcome in [old.apply(&set(11, [(session("old", 1, 1), 1)])).await.map(drop), old.open(1).await.map(drop)] {
            assert!(matches!(outcome, Err(TargetError::Fenced { own: 1, newer: 2 })), "{outcome:?}");
        }
        new.apply(&set(11, [(session("new", 1, 1), 1)])).await.expect("the older one's attempts did not shut it out");
        assert_eq!(users(&topics.table("sessions")), ["new", "u"]);

        // Another program under the same transactional id is a mistake, and passes.
        let other = Transactions::new(writer(topics, "views")).unwrap();
        other.claim().await.unwrap();
        let outcome = new.apply(&set(12, [])).await;
        assert!(matches!(&outcome, Err(TargetError::Unavailable(text)) if text.contains("in use elsewhere")), "{outcome:?}");
        assert_eq!(new.open(2).await.unwrap(), Standing::At(11));
    });
}

#[test]
fn a_rebuild_takes_stale_rows_away() {
    Topics::with(async |topics| {
        let views: Views = [View::Sessions, View::Minutes].into_iter().collect();
        let mut target = opened(topics, views).await;
        let rows = [session("stays", 1, 1), session("changes", 1, 1), session("goes", 1, 1), session("erased", 1, 1), minute("/p", 7)];
        target.apply(&set(10, rows.map(|row| (row, 1)))).await.unwrap();

        target.begin_rebuild().await.unwrap();
        assert_eq!(topics.table("sessions").len(), 4, "readers see the old rows meanwhile");
        target.apply(&set(4, [(session("stays", 1, 1), 1), (session("changes", 1, 2), 1), (session("erased", 1, 1), 1)])).await.unwrap();
        // A server that ends here begins again.
        let mut target = target_of(topics, views);
        assert_eq!(target.open(2).await.unwrap(), Standing::Fresh);
        target.begin_rebuild().await.unwrap();
        target.apply(&set(4, [(session("stays", 1, 1), 1), (session("changes", 1, 2), 1), (session("erased", 1, 1), 1)])).await.unwrap();
        target.apply(&set(5, [erased("erased"), (session("again", 1, 1), 1), erased("again-not")])).await.unwrap();
        // A correction of a minute counts from this rebuild's rows, not from those of before it.
        target.apply(&set(6, [(shift("/p", 2), 1)])).await.unwrap();
        target.apply(&set(7, [(shift("/p", 3), 1)])).await.unwrap();
        target.finish_rebuild(20).await.unwrap();
        let table = topics.table("sessions");
        assert_eq!(users(&table), ["again", "changes", "stays"]);
        assert_eq!(table.values().map(|value| value["event_count"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2, 1]);
        let minutes: Vec<Value> = topics.table("minutes").into_values().collect();
        assert_eq!((minutes[0]["count"].as_i64(), minutes[0]["revenue"].as_f64()), (Some(5), Some(2.5)));
        let mut again = target_of(topics, views);
        assert_eq!(again.open(2).await.unwrap(), Standing::At(20));
        // Other views are another definition.
        assert_eq!(target_of(topics, View::Sessions).open(3).await.unwrap(), Standing::Fresh);
    });
}

#[test]
fn minutes_that_have_left_memory_are_corrected() {
    Topics::with(async |topics| {
        let mut target = opened(topics, View::Minutes).await;
        target.apply(&set(10, [(minute("/a", 5), 1), (minute("/b", 2), 1)])).await.unwrap();
        target.apply(&set(11, [(shift("/a", 1), 1), (shift("/a", 2), 1), (shift("/b", -2), 1), (shift("/new", 4), 1)])).await.unwrap();
        let counts = |table: BTreeMap<String, Value>| -> Vec<(String, i64, f64)> {
            let row = |value: &Value| {
                (value["page"].as_str().unwrap().to_owned(), value["count"].as_i64().unwrap(), value["revenue"].as_f64().unwrap())
            };
            table.values().map(row).collect()
        };
        assert_eq!(counts(topics.table("minutes")), [("/a".to_owned(), 8, 4.0), ("/new".to_owned(), 4, 2.0)]);
        // The last row of a minute and its correction in one changeset.
        target.apply(&set(12, [(minute("/a", 8), -1), (minute("/a", 9), 1), (shift("/a", 1), 1), (shift("/b", 1), 1)])).await.unwrap();
        let expected = [("/a".to_owned(), 10, 5.0), ("/b".to_owned(), 1, 0.5), ("/new".to_owned(), 4, 2.0)];
        assert_eq!(counts(topics.table("minutes")), expected);
    });
}

#[test]
fn of_an_erased_user_nothing_stands() {
    Topics::with(async |topics| {
        let views: Views = [View::Sessions, View::Events, View::Journeys].into_iter().collect();
        let mut target = opened(topics, views).await;
        let journey = |user: &str| ViewRow::Journey { source: 1, user: user.into(), journey: Journey::new(1, 0, 0, 1, 0), cluster: None };
        let rows = ["a", "b"].into_iter().flat_map(|user| {
            [session(user, 1, 1), session(user, 2, 1), event(user, "e1", 1, true), event(user, "e2", 2, true), journey(user)]
        });
        target.apply(&set(10, rows.map(|row| (row, 1)))).await.unwrap();
        // Sealed since: no view has them any more, so only the topics know them.
        target.apply(&set(11, [erased("a"), (session("a", 2, 7), 1), erased("unknown")])).await.unwrap();
        let sessions = topics.table("sessions");
        assert_eq!(users(&sessions), ["a", "b", "b"]);
        assert_eq!(sessions.values().next().unwrap()["event_count"], 7, "what came after the erasure");
        for topic in ["events", "journeys"] {
            let table = topics.table(topic);
            assert!(users(&table).iter().all(|user| *user == "b") && !table.is_empty(), "{topic}: {table:?}");
        }
    });
}

#[test]
fn a_topic_that_is_gone_is_noticed_and_filled_again() {
    Topics::with(async |topics| {
        let mut target = opened(topics, View::Sessions).await;
        target.apply(&set(10, [(session("u", 1, 1), 1)])).await.unwrap();
        target.check().await.unwrap();
        topics.delete("sessions");
        let outcome = target.check().await;
        assert!(matches!(&outcome, Err(TargetError::Lost(text)) if text.contains("sessions")), "{outcome:?}");
        assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
        target.begin_rebuild().await.unwrap();
        target.apply(&set(10, [(session("u", 1, 1), 1)])).await.unwrap();
        target.finish_rebuild(11).await.unwrap();
        assert_eq!(users(&topics.table("sessions")), ["u"]);
    });
}

#[test]
fn a_topic_that_forgets_rows_is_refused() {
    Topics::with(async |topics| {
        topics.create("sessions", "delete");
        let outcome = target_of(topics, View::Sessions).open(1).await;
        let Err(TargetError::Refused(text)) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("sessions") && text.contains("cleanup.policy=delete"), "{text}");
        topics.create("journeys", "compact,delete");
        assert_eq!(target_of(topics, View::Journeys).open(1).await.unwrap(), Standing::Fresh);
    });
}

#[tokio::test]
async fn brokers_that_are_not_there_and_wrong_options() {
    let config = KafkaTargetConfig {
        writer: WriterConfig { brokers: "127.0.0.1:1".into(), transactional_id: "x".into(), properties: BTreeMap::new() },
        views: View::Sessions.into(),
        topic_prefix: "x.".into(),
        partitions: 1,
        replication: 1,
        gather: Duration::ZERO,
    };
    let outcome = KafkaTarget::new(config.clone()).unwrap().open(1).await;
    assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{outcome:?}");
    let mut wrong = config;
    wrong.writer.properties.insert("sasl.passwort".into(), "hidden-word".into());
    let Err(TargetError::Refused(text)) = KafkaTarget::new(wrong).map(drop) else { panic!("an option that is none") };
    assert!(!text.contains("hidden-word"), "{text}");
}

#[test]
fn a_row_that_is_too_large_is_left_out() {
    Topics::with(async |topics| {
        let mut target = opened(topics, View::Catalog).await;
        let product = |metadata: usize| {
            let raw_metadata = Some(format!("\"{}\"", "x".repeat(metadata)).into());
            let product = desireline_records::Product {
                parent_asin: "P".into(),
                title: "".into(),
                store: None,
                main_category: None,
                avg_rating: None,
                rating_number: None,
                primary_image: None,
                raw_metadata,
            };
            (ViewRow::Product(Arc::new(product)), 1)
        };
        target.apply(&set(10, [product(10)])).await.unwrap();
        assert_eq!(topics.table("catalog").len(), 1);
        assert_eq!(target.apply(&set(11, [product(2_000_000)])).await.unwrap(), Applied { rows: 0, refused: 1 });
        assert!(topics.table("catalog").is_empty(), "no old row stands for a new one");
    });
}
