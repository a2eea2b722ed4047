//! The log and the cold parts on a real S3-compatible store over HTTP.
//!
//! They need a server: `scripts/test` starts one and sets the variables. Without them each test says on stderr that it was
//! skipped. By hand: `eval "$(scripts/services start s3)"` and `cargo test -p desireline-connectors --test s3`.

use bytes::Bytes;
use desireline_connectors::cold::{self, ColdSession};
use desireline_connectors::log::{CompactionLimits, LogConfig, LogReader, LogWriter, PurgeUser};
use desireline_connectors::store::{Put, Store};
use desireline_records::{Batch, Event, EventId, Fixed4, Movement, Purged, user_hash};
use ecow::{EcoString, eco_format};
use futures::TryStreamExt;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

static PREFIXES: AtomicU32 = AtomicU32::new(0);

/// Where the server is; `None`, said aloud, when there is none.
fn endpoint() -> Option<String> {
    let endpoint = std::env::var("DESIRELINE_TEST_S3_ENDPOINT").ok();
    if endpoint.is_none() {
        // Past the test harness's capture, so that nobody takes a skipped test for a passed one.
        writeln!(std::io::stderr(), "SKIPPED: DESIRELINE_TEST_S3_ENDPOINT is not set; scripts/test sets it").expect("stderr is open");
    }
    endpoint
}

fn options(endpoint: String, access_key: &str, secret_key: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_access_key_id", access_key),
        ("aws_secret_access_key", secret_key),
        ("aws_region", "us-east-1"),
        ("aws_allow_http", "true"),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A folder of its own in the test bucket.
fn store() -> Option<Store> {
    let endpoint = endpoint()?;
    let key = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set beside the endpoint"));
    let options = options(endpoint, &key("DESIRELINE_TEST_S3_ACCESS_KEY"), &key("DESIRELINE_TEST_S3_SECRET_KEY"));
    let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
    let url = format!("s3://desireline-test/{}-{}-{number}", std::process::id(), desireline_records::time::now_micros());
    Some(Store::open(&url, &options).expect("opens"))
}

fn config() -> LogConfig {
    LogConfig { compaction: CompactionLimits { segments_min: 4, part_bytes_max: 1 << 20 }, ..LogConfig::new(0) }
}

fn batch(time: u64, user: &str) -> Batch {
    let event = |n: u64| Event {
        source: 1,
        movement: Movement::View,
        late: false,
        time: time as i64,
        id: EventId([time, n]),
        value: Fixed4(0),
        user: user.into(),
        event_type: "view".into(),
        page: EcoString::new(),
        item: EcoString::new(),
        extra: None,
        stay: None,
    };
    Batch { time, events: (0..20).map(event).collect(), ..Batch::default() }
}

async fn read(reader: &LogReader) -> Vec<Batch> {
    reader.batches(0, 0).try_collect().await.expect("reads")
}

#[tokio::test]
async fn of_many_creates_of_one_name_exactly_one_wins() {
    let Some(store) = store() else { return };
    for round in 0..10 {
        let name = format!("race/{round}");
        let racers = (0..16).map(|n| {
            let (store, name) = (store.clone(), name.clone());
            async move { store.put_if_absent(&name, vec![Bytes::from(format!("racer {n}"))]).await.expect("answers") }
        });
        let outcomes = join_all(racers).await;
        assert_eq!(outcomes.iter().filter(|put| **put == Put::Created).count(), 1, "round {round}");
        let winner = outcomes.iter().position(|put| *put == Put::Created).expect("one");
        assert_eq!(store.get(&name).await.expect("reads"), format!("racer {winner}"));
    }
}

#[tokio::test]
async fn a_log_lives_on_s3() {
    let Some(store) = store() else { return };
    let mut writer = LogWriter::open(store.clone(), config()).await.expect("opens");
    let mut written = Vec::new();
    for time in 1..=30 {
        written.push(batch(time, if time % 3 == 0 { "ann" } else { "bob" }));
        writer.append(written.last().expect("a batch")).await.expect("appends");
        if time % 10 == 0 {
            writer.compactor().run_once().await.expect("compacts");
        }
    }
    assert_eq!(read(&writer.reader()).await, written);
    assert!(writer.reader().size().await.expect("lists").objects < 6);
    let mut second = LogWriter::open(store.clone(), config()).await.expect("takes over");
    assert_eq!((second.epoch(), second.last_time()), (2, 30));
    assert_eq!(writer.append(&batch(31, "bob")).await.expect_err("a zombie").code(), "log_fenced");
    second.append(&batch(31, "bob")).await.expect("appends");
    let users = [PurgeUser { source: 1, user: "ann".into(), until: 31, purged: Purged::default(), in_catalog: false }];
    assert_eq!(second.compactor().purge(&users).await.expect("purges").rows_removed, 200);
    let left = read(&LogReader::open(store, 0)).await;
    assert_eq!(left.len(), 31);
    assert!(left.iter().flat_map(|batch| &batch.events).all(|event| event.user == "bob"));
    assert!(second.reader().verify(|_| {}).await.expect("verifies").is_clean());
}

#[tokio::test]
async fn of_two_servers_that_open_at_once_at_most_one_goes_on() {
    let Some(store) = store() else { return };
    for round in 0..5 {
        let opened = join_all((0..4).map(|_| LogWriter::open(store.clone(), config()))).await;
        let mut writers: Vec<LogWriter> = opened.into_iter().filter_map(Result::ok).collect();
        assert!(!writers.is_empty(), "round {round}: somebody gets the log");
        let time = writers[0].last_time() + 1;
        let batches: Vec<Batch> = (0..writers.len()).map(|n| batch(time, &format!("writer {n}"))).collect();
        let appends = writers.iter_mut().zip(&batches).map(|(writer, batch)| writer.append(batch));
        let appended = join_all(appends).await;
        assert_eq!(appended.iter().filter(|result| result.is_ok()).count(), 1, "round {round}: {appended:?}");
        assert_eq!(read(&LogReader::open(store.clone(), 0)).await.len(), round + 1);
    }
}

#[tokio::test]
async fn cold_parts_are_read_back_from_s3() {
    let Some(store) = store() else { return };
    let session = |n: u32| {
        let user = eco_format!("user{n}");
        ColdSession {
            source: 1,
            key_hash: user_hash(1, &user),
            user,
            start: i64::from(n),
            end: i64::from(n) + 5,
            first_event: EventId([7, u64::from(n)]),
            event_count: 3,
            views: 2,
            carts: 1,
            transactions: 0,
            value: -12_345,
            exported_at: 9,
        }
    };
    let mut parts = Vec::new();
    for part in 0..3 {
        parts.push(cold::write_part(&store, 1, (part * 1_000..(part + 1) * 1_000).map(session).collect()).await.expect("writes"));
    }
    let merged = cold::merge_parts(&store, 1, &parts, None).await.expect("merges");
    for parts in [&parts, &merged] {
        let found = cold::read_user(&store, parts, 1, user_hash(1, "user1234"), "user1234", 0).await.expect("reads");
        assert_eq!(found, [session(1_234)]);
        assert_eq!(cold::read_range(&store, parts, 0, u64::MAX, usize::MAX).await.expect("reads").len(), 3_000);
    }
}

#[tokio::test]
async fn a_wrong_bucket_is_a_clear_error() {
    let Some(endpoint) = endpoint() else { return };
    let options = options(endpoint, "nobody", "nothing");
    let store = Store::open("s3://no-such-bucket-of-desireline/x", &options).expect("opens");
    let error = LogWriter::open(store, config()).await.expect_err("no bucket");
    assert!(matches!(error.code(), "store_config" | "store_denied"), "{}: {error}", error.code());
}
