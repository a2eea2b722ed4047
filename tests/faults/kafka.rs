//! What brokers, topics and producers do wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::command::desireline;
use crate::support::http::Http;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::model::{Click, HOUR_MS, Model, Observed, Rule, counter, source_status};
use crate::support::server::{Server, free_port};
use crate::support::services;
use crate::support::wait::{DEADLINE, Stop, eventually};
use crate::{body, clicks, ingest};

static ALONE: Mutex<()> = Mutex::new(());

/// The broker, for one test at a time.
fn alone() -> Option<(MutexGuard<'static, ()>, Kafka)> {
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Kafka::from_env().map(|kafka| (guard, kafka))
}

fn source(kafka: &Kafka, id: u32, topics: &[&str], more: &str) -> String {
    format!(
        "[[source]]\nname = \"source-{id}\"\nsource_id = {id}\nkind = \"kafka\"\nformat = \"desireline\"\nbrokers = [\"{}\"]\ntopics = {}\n\
         refresh_every = \"300ms\"\n{more}\n",
        kafka.brokers(),
        json!(topics)
    )
}

fn message(id: &str, click: &Click) -> Outgoing {
    Outgoing::new(body(0, id, click).to_string())
}

fn partition<'a>(status: &'a Value, source: u64, name: &str) -> Option<&'a Value> {
    source_status(status, source)["partitions"].as_array()?.iter().find(|item| item["partition"] == name)
}

#[track_caller]
fn wait_received(http: &Http, source: u64, count: u64) -> Value {
    eventually("the messages to be taken", DEADLINE, || {
        let status = http.get_json("/api/status");
        if counter(&status, source, "received") == count { Ok(status) } else { Err(status) }
    })
}

/// Waits until a partition has an error that contains `words`, or none when there are no words.
#[track_caller]
fn wait_error(http: &Http, source: u64, name: &str, words: &str) -> Value {
    eventually("the state of a partition", DEADLINE, || {
        let status = http.get_json("/api/status");
        let error = partition(&status, source, name).map_or(Value::Null, |item| item["error"].clone());
        let as_wanted = if words.is_empty() { error.is_null() } else { error.as_str().is_some_and(|text| text.contains(words)) };
        if as_wanted { Ok(status) } else { Err(format!("{name}: {error}")) }
    })
}

#[test]
fn a_broker_that_dies_mid_stream_costs_nothing() {
    let Some((_alone, kafka)) = alone() else { return };
    if !services::ours("kafka") {
        return services::note_skipped("a kafka that was started by scripts/services");
    }
    let topic = kafka.create_topic("restart", 3);
    let mut server = Server::new().config(source(&kafka, 1, &[&topic], "")).start();
    let stop = Stop::default();
    let mut model = Model::new(Rule::FromFirst);
    let (sent, pushed) = (clicks("stream", 3_000), clicks("meanwhile", 10));
    std::thread::scope(|scope| {
        let feed = scope.spawn(|| {
            let mut count = 0;
            for (n, rows) in sent.chunks(20).enumerate() {
                count += kafka.send(&topic, rows.iter().map(|(id, click)| message(id, click).to(n as i32 % 3)));
                if stop.stopped_within(Duration::from_millis(20)) {
                    break;
                }
            }
            count
        });
        eventually("the stream to flow", DEADLINE, || {
            let received = counter(&server.http.get_json("/api/status"), 1, "received");
            if received >= 100 { Ok(()) } else { Err(received) }
        });
        services::control("kill", "kafka");
        // Without a broker, queries and other ways in go on, and the status says what is wrong.
        eventually("the outage to be reported", DEADLINE, || {
            let status = server.http.get_json("/api/status");
            let partitions = source_status(&status, 1)["partitions"].as_array().expect("a list").clone();
            if partitions.iter().any(|item| item["error"].is_string()) { Ok(()) } else { Err(status) }
        });
        server.http.get("/ready").expect_status(200);
        ingest(&server.http, 2, &pushed).expect_status(200);
        services::control("start", "kafka");
        eventually("the stream to go on", DEADLINE, || if feed.is_finished() { Ok(()) } else { Err("still sending") });
        stop.stop();
        assert_eq!(feed.join().expect("everything was sent"), 3_000);
    });
    sent.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    let status = wait_received(&server.http, 1, 3_000);
    assert_eq!((counter(&status, 1, "applied"), counter(&status, 1, "duplicate")), (3_000, 0));
    Observed::of(&server.http, 1).must_equal(&model, "after the outage");
    for partition in 0..3 {
        wait_error(&server.http, 1, &format!("kafka:{topic}/{partition}"), "");
    }
    server.crash();
    Observed::of(&server.http, 1).must_equal(&model, "after a crash");
    kafka.delete_topic(&topic);
}

#[test]
fn twelve_partitions_are_read_each_once_and_an_idle_one_holds_nobody_back() {
    let Some((_alone, kafka)) = alone() else { return };
    let topic = kafka.create_topic("twelve", 12);
    let config = format!(
        "[engine]\nidle_after = \"1s\"\ntick_every = \"200ms\"\n{}",
        source(&kafka, 1, &[&topic], "horizon = \"12h\"\nlateness = \"12h\"")
    );
    let mut server = Server::new().config(config).start();
    let mut model = Model::new(Rule::FromFirst);
    let rows = clicks("twelve", 2_000);
    // Four partitions stay empty.
    kafka.send(&topic, rows.iter().enumerate().map(|(n, (id, click))| message(id, click).to((n % 8) as i32)));
    rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    wait_received(&server.http, 1, 2_000);
    Observed::of(&server.http, 1).must_equal(&model, "all partitions");

    server.kill();
    let more = clicks("more", 600);
    kafka.send(&topic, more.iter().enumerate().map(|(n, (id, click))| message(id, click).to((n % 12) as i32)));
    more.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    server.start_again();
    let status = wait_received(&server.http, 1, 2_600);
    Observed::of(&server.http, 1).must_equal(&model, "with what came meanwhile");
    for id in 0..12 {
        let name = format!("kafka:{topic}/{id}");
        assert_eq!(partition(&status, 1, &name).map(|item| item["position"].clone()), Some(json!(kafka.bounds(&topic, id).1)), "{name}");
    }

    // One partition goes on alone. The watermark waits for the others only until they count as idle.
    let newest = Utc::now().timestamp_millis();
    let mut number = 0;
    eventually("the watermark to follow the active partition", DEADLINE, || {
        number += 1;
        let click = Click { user: "alone".into(), time_ms: newest, event_type: "view".into(), page: "/alone".into(), value: 0 };
        kafka.send(&topic, [message(&format!("alone-{number}"), &click).to(11)]);
        let watermark = source_status(&server.http.get_json("/api/status"), 1)["watermark"].clone();
        let time = watermark.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|time| time.timestamp_millis());
        if time == Some(newest) { Ok(()) } else { Err(watermark) }
    });
    kafka.delete_topic(&topic);
}

#[test]
fn messages_that_retention_removed_stop_their_partition_alone_until_a_command() {
    let Some((_alone, kafka)) = alone() else { return };
    let topic = kafka.create_topic("retention", 2);
    let mut server = Server::new().config(source(&kafka, 1, &[&topic], "")).start();
    let rows = clicks("retention", 60);
    let mut model = Model::new(Rule::FromFirst);
    let mut send = |range: std::ops::Range<usize>, counts: std::ops::Range<usize>, to: i32| {
        kafka.send(&topic, rows[range].iter().map(|(id, click)| message(id, click).to(to)));
        rows[counts].iter().for_each(|(id, click)| assert!(model.add(id.clone(), click.clone())));
        model.clone()
    };
    send(0..10, 0..10, 0);
    send(10..20, 10..20, 1);
    wait_received(&server.http, 1, 20);
    assert!(server.stop().success());
    // Ten more in partition 0, of which retention removes the first five before anybody has read them.
    send(20..30, 25..30, 0);
    send(30..40, 30..40, 1);
    kafka.delete_before(&topic, 0, 15);
    server.start_again();

    let (stopped, other) = (format!("kafka:{topic}/0"), format!("kafka:{topic}/1"));
    let status = wait_error(&server.http, 1, &stopped, "retention");
    assert_eq!(partition(&status, 1, &stopped).map(|item| item["position"].clone()), Some(json!(10)));
    wait_received(&server.http, 1, 30);
    wait_error(&server.http, 1, &other, "");
    send(40..50, 40..50, 1);
    wait_received(&server.http, 1, 40);

    let reset = |name: &str, position: i64| {
        server.http.post_json("/api/partitions/reset", &json!({ "source_id": 1, "partition": name, "position": position }))
    };
    reset("kafka:elsewhere/0", 0).expect_status(404);
    reset("http", 0).expect_status(404);
    reset(&stopped, -1).expect_status(400);
    reset(&stopped, 15).expect_status(200);
    wait_received(&server.http, 1, 45);
    wait_error(&server.http, 1, &stopped, "");
    let model = send(50..60, 50..60, 0);
    wait_received(&server.http, 1, 55);
    Observed::of(&server.http, 1).must_equal(&model, "after the command");
    server.crash();
    Observed::of(&server.http, 1).must_equal(&model, "after a crash");
    kafka.delete_topic(&topic);
}

#[test]
fn a_topic_that_is_made_anew_stops_and_goes_on_after_a_command() {
    let Some((_alone, kafka)) = alone() else { return };
    let (anew, other) = (kafka.create_topic("anew", 1), kafka.create_topic("other", 1));
    let mut server = Server::new().config(source(&kafka, 1, &[&anew, &other], "")).start();
    let (old, new, beside) = (clicks("old", 20), clicks("new", 5), clicks("beside", 10));
    let mut model = Model::new(Rule::FromFirst);
    let send = |topic: &str, rows: &[(String, Click)]| kafka.send(topic, rows.iter().map(|(id, click)| message(id, click)));
    send(&anew, &old);
    send(&other, &beside[..5]);
    wait_received(&server.http, 1, 25);

    kafka.delete_topic(&anew);
    kafka.create_named_topic(&anew, 1, &[]);
    send(&anew, &new);
    let name = format!("kafka:{anew}/0");
    wait_error(&server.http, 1, &name, "created anew");
    // The other topic of the same source goes on, and a restart changes nothing about the stop.
    send(&other, &beside[5..]);
    wait_received(&server.http, 1, 30);
    server.crash();
    let status = wait_error(&server.http, 1, &name, "created anew");
    assert_eq!(counter(&status, 1, "received"), 30);

    let reset = json!({ "source_id": 1, "partition": name, "position": 0 });
    let token = server.http.post_json("/api/partitions/reset", &reset).expect_status(200).json()["token"].clone();
    assert!(token.as_str().is_some_and(|text| text.starts_with("d1-0-")), "{token}");
    wait_received(&server.http, 1, 35);
    wait_error(&server.http, 1, &name, "");
    for (id, click) in old.into_iter().chain(new).chain(beside) {
        assert!(model.add(id, click));
    }
    Observed::of(&server.http, 1).must_equal(&model, "after the command");
    let data = server.data().display().to_string();
    let log = desireline(server.folder(), &["log", "cat", "--only", "controls", "--data", &data]).expect_code(0).stdout;
    assert!(log.contains("reset"), "the command is a record of the log: {log}");
    kafka.delete_topic(&anew);
    kafka.delete_topic(&other);
}

#[test]
fn a_topic_that_is_not_there_yet_is_reported_and_read_once_it_is() {
    let Some((_alone, kafka)) = alone() else { return };
    let topic = kafka.unique_name("later");
    let nobody = format!("127.0.0.1:{}", free_port());
    let unreachable = source(&Kafka::at(nobody.as_str()), 2, &["anything"], "");
    let server = Server::new().config(format!("{}{unreachable}", source(&kafka, 1, &[&topic], ""))).start();
    wait_error(&server.http, 1, &format!("kafka:{topic}"), "does not exist");
    wait_error(&server.http, 2, "kafka:anything", " ");
    server.http.get("/ready").expect_status(200);
    kafka.create_named_topic(&topic, 2, &[]);
    let rows = clicks("later", 20);
    kafka.send(&topic, rows.iter().map(|(id, click)| message(id, click)));
    wait_received(&server.http, 1, 20);
    wait_error(&server.http, 1, &format!("kafka:{topic}"), "");
    kafka.delete_topic(&topic);
}

#[test]
fn a_producer_whose_clock_is_ten_years_ahead_is_quarantined_and_moves_no_watermark() {
    let Some((_alone, kafka)) = alone() else { return };
    let topic = kafka.create_topic("clock", 1);
    let server = Server::new().config(source(&kafka, 1, &[&topic], "horizon = \"4h\"\nlateness = \"3h\"")).start();
    let rows = clicks("clock", 30);
    let mut model = Model::new(Rule::FromFirst);
    let ahead = |n: usize| {
        let (id, mut click) = rows[n].clone();
        click.time_ms += 3_650 * 24 * HOUR_MS;
        // The message's own time stamp is as wrong as what it says.
        message(&format!("ahead-{id}"), &click).at_ms(click.time_ms)
    };
    kafka.send(&topic, rows[..10].iter().map(|(id, click)| message(id, click)));
    let before = source_status(&wait_received(&server.http, 1, 10), 1)["watermark"].clone();
    kafka.send(&topic, (0..10).map(ahead));
    let status = wait_received(&server.http, 1, 20);
    assert_eq!((counter(&status, 1, "quarantined"), counter(&status, 1, "applied")), (10, 10));
    assert_eq!(source_status(&status, 1)["watermark"], before);
    // An event without a time takes that of its message, which is refused for the same reason.
    kafka.send(&topic, [Outgoing::new(r#"{"user_id":"u","event_type":"view"}"#).at_ms(Utc::now().timestamp_millis() + 24 * HOUR_MS)]);
    assert_eq!(counter(&wait_received(&server.http, 1, 21), 1, "quarantined"), 11);
    // Nobody is late because of it.
    kafka.send(&topic, rows[10..].iter().map(|(id, click)| message(id, click)));
    let status = wait_received(&server.http, 1, 41);
    assert_eq!((counter(&status, 1, "late"), counter(&status, 1, "applied")), (0, 30));
    rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    Observed::of(&server.http, 1).must_equal(&model, "without the quarantined");
    let letters = server.http.get_json("/api/dead-letters?source_id=1&kind=quarantined&limit=100");
    let letters = letters["dead_letters"].as_array().expect("a list");
    assert_eq!(letters.len(), 11);
    assert!(letters.iter().all(|letter| letter["detail"].as_str().is_some_and(|text| text.contains("in the future"))), "{letters:?}");
    kafka.delete_topic(&topic);
}
