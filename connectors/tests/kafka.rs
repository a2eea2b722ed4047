//! Reading topics: exactly once, in order, and never over a hole in silence.
//!
//! Every test runs against librdkafka's mock cluster, which speaks the protocol over real sockets in this process. When
//! `KAFKA_BROKERS` is set the same tests run against those brokers, each with topics of its own. What the mock cannot do
//! (adding partitions, deleting topics) is tested only there; what only it can do (taking brokers down) only here.

#[path = "kafka/support.rs"]
mod support;

use desireline_connectors::formats::Format;
use desireline_connectors::kafka::{KafkaError, Start};
use desireline_records::{DeadLetterKind, EventId};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Cluster, MemorySink, Outcome, Run, config, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_partitions_are_read_once_across_restarts() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("twelve", 12).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    for round in 0..3 {
        producer.events(&topic, 12, round * 100, 100).await;
        let run = Run::start(config(&cluster, &topic), sink.clone());
        eventually("all rows of the round", || sink.rows() == (round as usize + 1) * 1_200).await;
        run.stop().await.expect("stops");
    }
    sink.assert_exactly_once(3_600);
    assert_eq!(sink.positions(), (0..12).map(|p| (format!("kafka:{topic}/{p}"), 300)).collect::<BTreeMap<_, _>>());
    assert!(sink.in_order(), "the rows of a partition come in its order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_commits_lose_and_repeat_nothing() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("failing", 3).await;
    let sink = MemorySink::new();
    cluster.producer().events(&topic, 3, 0, 400).await;
    sink.script([Outcome::Fine, Outcome::FailBefore, Outcome::Fine, Outcome::FailAfter, Outcome::FailAfter, Outcome::FailBefore]);
    let mut config = config(&cluster, &topic);
    config.batch_rows_max = 50;
    let run = Run::start(config, sink.clone());
    eventually("all rows in spite of failures", || sink.rows() == 1_200).await;
    run.stop().await.expect("stops");
    assert!(sink.scripted() == 0, "every failure was met");
    sink.assert_exactly_once(1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_at_any_moment_loses_and_repeats_nothing() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("dying", 4).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    let mut config = config(&cluster, &topic);
    (config.batch_rows_max, config.batch_age_max) = (7, Duration::from_millis(1));
    for round in 0..15 {
        producer.events(&topic, 4, round * 20, 20).await;
        let run = Run::start(config.clone(), sink.clone());
        // Dies in the middle of the round, with a commit in flight as often as not.
        let goal = round as usize * 80 + (round as usize * 13) % 60;
        eventually("part of the round", || sink.rows() > goal).await;
        run.kill().await;
    }
    let run = Run::start(config, sink.clone());
    eventually("everything", || sink.rows() == 1_200).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(1_200);
    assert!(sink.in_order());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_without_messages_are_passed_over() {
    let Some(cluster) = Cluster::real() else {
        assert!(std::env::var("KAFKA_BROKERS").is_err(), "only a real broker leaves marks of transactions");
        return;
    };
    let topic = cluster.topic("gaps", 1).await;
    let sink = MemorySink::new();
    cluster.transactions(&topic, &[true, false, true, false, true]).await;
    let run = Run::start(config(&cluster, &topic), sink.clone());
    let key = format!("kafka:{topic}/0");
    eventually("the committed ones", || sink.rows() == 15).await;
    eventually("no lag", || sink.lag(&key) == Some(0)).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(15);
    assert_eq!(sink.positions()[&key], 29, "five times five messages, and the marks between them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_sink_ends_the_run() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("closed", 1).await;
    let sink = MemorySink::new();
    cluster.producer().events(&topic, 1, 0, 5).await;
    sink.script([Outcome::Closed]);
    let error = Run::start(config(&cluster, &topic), sink).ended().await.expect_err("the sink is closed");
    assert!(matches!(&error, KafkaError::Sink(reason) if reason == "fenced"), "{error}");
    assert_eq!(error.code(), "kafka_sink");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_out_of_bounds_stops_its_partition_only_until_it_is_reset() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("bounds", 3).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    producer.events(&topic, 3, 0, 50).await;
    let stopped = format!("kafka:{topic}/1");
    sink.set_position(&stopped, 1_000);
    let run = Run::start(config(&cluster, &topic), sink.clone());
    eventually("the other partitions", || sink.rows() == 100).await;
    eventually("the error", || sink.error(&stopped).is_some_and(|error| error.contains("position 1000") && error.contains("end 50"))).await;
    assert_eq!(sink.error(&format!("kafka:{topic}/0")), None);
    producer.events(&topic, 3, 50, 50).await;
    eventually("the other partitions go on", || sink.rows() == 200).await;
    assert!(sink.error(&stopped).is_some());
    sink.set_position(&stopped, 20);
    eventually("the partition from its new position", || sink.rows() == 280).await;
    eventually("no error", || sink.error(&stopped).is_none()).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(280);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_a_running_partition_is_followed() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("moved", 1).await;
    let sink = MemorySink::new();
    cluster.producer().events(&topic, 1, 0, 30).await;
    let run = Run::start(config(&cluster, &topic), sink.clone());
    eventually("all rows", || sink.rows() == 30).await;
    sink.set_position(&format!("kafka:{topic}/0"), 10);
    eventually("twenty rows again", || sink.rows() == 50).await;
    run.stop().await.expect("stops");
    assert_eq!(sink.distinct_rows(), 30, "read again, they are the same events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_retention_removed_are_not_skipped_in_silence() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("retention", 1).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    producer.events(&topic, 1, 0, 10).await;
    let key = format!("kafka:{topic}/0");
    sink.set_position(&key, 5);
    cluster.delete_before(&topic, 0, &producer).await;
    let run = Run::start(config(&cluster, &topic), sink.clone());
    eventually("the error", || sink.error(&key).is_some_and(|error| error.contains("position 5") && error.contains("retention"))).await;
    assert_eq!(sink.rows(), 0);
    run.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_becomes_a_dead_letter_and_is_forwarded() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("letters", 1).await;
    let dead = cluster.topic("letters-dead", 1).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    for payload in [Some("{\"user_id\":\"a\",\"n\":0}"), Some("{broken"), None, Some("{\"page\":\"/\"}"), Some("{\"user_id\":\"b\"}")] {
        producer.send(&topic, 0, payload.map(str::as_bytes)).await;
    }
    producer.send(&topic, 0, Some(b"{\"user_id\":\"\xff\"}")).await;
    let mut config = config(&cluster, &topic);
    config.dead_letter_topic = Some(dead.clone());
    let run = Run::start(config, sink.clone());
    eventually("two events, four letters", || (sink.events().len(), sink.dead_letters().len()) == (2, 4)).await;
    let letters: Vec<_> = sink.dead_letters().into_iter().map(|l| (l.kind, l.origin.to_string(), l.field.to_string())).collect();
    let (malformed, origin) = (DeadLetterKind::Malformed, |offset: i64| format!("{topic}/0/{offset}"));
    assert_eq!(
        letters,
        [
            (malformed, origin(1), String::new()),
            (malformed, origin(2), String::new()),
            (DeadLetterKind::Invalid, origin(3), "user_id".into()),
            (malformed, origin(5), String::new()),
        ]
    );
    let forwarded = cluster.read(&dead, 4).await;
    run.stop().await.expect("stops");
    let of_offset = |offset: &str| forwarded.iter().find(|message| message.headers["offset"] == offset).expect("it was forwarded");
    assert_eq!(of_offset("1").payload, b"{broken");
    let invalid = &of_offset("3").headers;
    assert_eq!((invalid["reason"].as_str(), invalid["kind"].as_str()), (sink.dead_letters()[2].detail.as_str(), "invalid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_is_decided_once_and_durably() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("latest", 2).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    producer.events(&topic, 2, 0, 10).await;
    let mut config = config(&cluster, &topic);
    config.start = Start::Latest;
    let run = Run::start(config.clone(), sink.clone());
    eventually("durable positions", || sink.positions().values().eq([&10, &10])).await;
    run.stop().await.expect("stops");
    producer.events(&topic, 2, 10, 10).await;
    let run = Run::start(config, sink.clone());
    eventually("what came in between", || sink.rows() == 20).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_comes_later_is_waited_for() {
    let cluster = Cluster::start().await;
    let topic = cluster.name("later");
    let sink = MemorySink::new();
    let run = Run::start(config(&cluster, &topic), sink.clone());
    let key = format!("kafka:{topic}");
    eventually("the report", || sink.error(&key).is_some_and(|error| error.contains("does not exist"))).await;
    cluster.create(&topic, 2).await;
    cluster.producer().events(&topic, 2, 0, 5).await;
    eventually("its rows", || sink.rows() == 10).await;
    eventually("no error", || sink.error(&key).is_none()).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_log_stops_the_reading() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("pressure", 1).await;
    let sink = MemorySink::new();
    cluster.producer().events(&topic, 1, 0, 1_000).await;
    let mut config = config(&cluster, &topic);
    config.batch_rows_max = 10;
    sink.close_gate();
    let run = Run::start(config, sink.clone());
    eventually("a commit that waits", || sink.waiting() == 1).await;
    let lag = || sink.lag(&format!("kafka:{topic}/0"));
    eventually("lag that stands still", || lag() == Some(980)).await;
    assert_eq!((sink.rows(), sink.waiting()), (0, 1), "one batch in flight, one gathered");
    sink.open_gate();
    eventually("everything", || sink.rows() == 1_000).await;
    eventually("no lag", || lag() == Some(0)).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(1_000);
    assert!(sink.largest_commit() <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_the_partitions() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("shards", 5).await;
    cluster.producer().events(&topic, 5, 0, 20).await;
    let sinks = [MemorySink::new(), MemorySink::new()];
    let runs = [0, 1].map(|shard| {
        let mut config = config(&cluster, &topic);
        (config.shard, config.shards) = (shard, 2);
        Run::start(config, sinks[usize::from(shard)].clone())
    });
    eventually("three and two partitions", || [sinks[0].rows(), sinks[1].rows()] == [60, 40]).await;
    for run in runs {
        run.stop().await.expect("stops");
    }
    assert_eq!(sinks[1].positions().keys().cloned().collect::<Vec<_>>(), [format!("kafka:{topic}/1"), format!("kafka:{topic}/3")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shop_rows_are_the_same_events_as_in_a_file() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("rows", 1).await;
    let sink = MemorySink::new();
    let row = br#"{"timestamp":"1433221332117","visitorid":"257597","event":"view","itemid":"355908","transactionid":""}"#;
    let producer = cluster.producer();
    producer.send(&topic, 0, Some(row)).await;
    producer.send(&topic, 0, Some(br#"{"timestamp":"1433221332117","visitorid":"1","event":"jump"}"#)).await;
    let mut config = config(&cluster, &topic);
    config.format = Format::Ampelios;
    let run = Run::start(config, sink.clone());
    eventually("a row and a letter", || (sink.events().len(), sink.dead_letters().len()) == (1, 1)).await;
    run.stop().await.expect("stops");
    assert_eq!(sink.events()[0].id, EventId::row(b"1433221332117,257597,view,355908,", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_go_down_come_back() {
    let cluster = Cluster::start_mock();
    let topic = cluster.topic("down", 2).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    producer.events(&topic, 2, 0, 10).await;
    let run = Run::start(config(&cluster, &topic), sink.clone());
    eventually("the first rows", || sink.rows() == 20).await;
    cluster.brokers(false);
    eventually("the report", || sink.error(&format!("kafka:{topic}/0")).is_some()).await;
    cluster.brokers(true);
    producer.events(&topic, 2, 10, 10).await;
    eventually("the rest", || sink.rows() == 40).await;
    eventually("no error", || sink.error(&format!("kafka:{topic}/0")).is_none()).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_come_later_are_read_from_their_beginning() {
    let Some(cluster) = Cluster::real() else {
        assert!(std::env::var("KAFKA_BROKERS").is_err(), "only a real broker can add partitions");
        return;
    };
    let topic = cluster.topic("grows", 1).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    let mut config = config(&cluster, &topic);
    config.start = Start::Latest;
    let run = Run::start(config, sink.clone());
    eventually("the first partition", || sink.positions().len() == 1).await;
    cluster.grow(&topic, 3).await;
    producer.events(&topic, 3, 0, 10).await;
    eventually("all three", || sink.rows() == 30).await;
    run.stop().await.expect("stops");
    sink.assert_exactly_once(30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_anew_stops_until_it_is_reset() {
    let Some(cluster) = Cluster::real() else {
        assert!(std::env::var("KAFKA_BROKERS").is_err(), "only a real broker can delete topics");
        return;
    };
    let topic = cluster.topic("anew", 1).await;
    let sink = MemorySink::new();
    let producer = cluster.producer();
    producer.events(&topic, 1, 0, 50).await;
    let run = Run::start(config(&cluster, &topic), sink.clone());
    eventually("the first rows", || sink.rows() == 50).await;
    cluster.delete(&topic).await;
    let key = format!("kafka:{topic}/0");
    eventually("the topic is missed", || sink.error(&key).is_some()).await;
    cluster.create(&topic, 1).await;
    cluster.producer().events(&topic, 1, 100, 5).await;
    eventually("the partition stops", || sink.error(&key).is_some_and(|error| error.contains("created anew"))).await;
    sink.set_position(&key, 0);
    eventually("the new rows", || sink.rows() == 55).await;
    run.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_promises_depend_on_are_refused() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("config", 1).await;
    let mut wrong = config(&cluster, &topic);
    wrong.properties.insert("auto.offset.reset".into(), "latest".into());
    let error = Run::start(wrong, MemorySink::new()).ended().await.expect_err("refused");
    assert_eq!((error.code(), error.retryable()), ("kafka_config", false));
}
