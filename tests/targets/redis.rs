//! The Redis target, against a real Redis: what stands under which key and until when, who may write, and what becomes of lost keys.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod server;

use crate::support::wait::{DEADLINE, eventually_true};
use desireline::projections::redis::{RedisTarget, RedisTargetConfig};
use desireline::projections::{Applied, CatchUp, Changeset, Standing, Target, TargetError};
use desireline_connectors::redis::RedisConfig;
use desireline_dataflows::changes::{Change, ContextRow, ViewRow};
use desireline_records::time::{SECOND, now_micros};
use desireline_records::{LogicalTime, Micros, SourceId};
use redis::Commands;
use server::Space;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SOURCE: SourceId = 1_000;

fn target(url: &str, prefix: &str) -> RedisTarget {
    target_within(Duration::from_secs(10), url, prefix)
}

fn target_within(connect_timeout: Duration, url: &str, prefix: &str) -> RedisTarget {
    let redis = RedisConfig { url: url.into(), connect_timeout, response_timeout: DEADLINE, pipeline_max: 100 };
    RedisTarget::new(RedisTargetConfig { redis, key_prefix: prefix.into(), source: SOURCE }).expect("a good URL")
}

/// A target with nothing in it, ready for changes after time 1.
async fn opened(space: &Space) -> RedisTarget {
    let mut target = target(&space.url, &space.prefix);
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    target.begin_rebuild().await.unwrap();
    target.finish_rebuild(1).await.unwrap();
    target
}

fn context(user: &str, items: &[&str], categories: &[(&str, u64)], last_active: Micros, ttl: Micros) -> ContextRow {
    ContextRow {
        source: SOURCE,
        user: user.into(),
        recent_items: items.iter().map(|item| (*item).into()).collect(),
        recent_categories: categories.iter().map(|(category, count)| ((*category).into(), *count)).collect(),
        last_active,
        expires_at: last_active + ttl,
        categories_expire_at: last_active + ttl,
    }
}

fn set(time: LogicalTime, changes: impl IntoIterator<Item = (ViewRow, i64)>) -> Changeset {
    let mut set = Changeset { time, ..Changeset::default() };
    changes.into_iter().for_each(|(row, diff)| set.add(Change { time, row, diff }));
    set
}

fn put(row: ContextRow) -> (ViewRow, i64) {
    (ViewRow::Context(Arc::new(row)), 1)
}

fn taken(row: ContextRow) -> (ViewRow, i64) {
    (ViewRow::Context(Arc::new(row)), -1)
}

const TTL: Micros = 900 * SECOND;

#[tokio::test]
async fn a_context_stands_under_three_keys_until_it_ends() {
    let Some(mut space) = Space::new() else { return };
    let mut target = opened(&space).await;
    assert_eq!((target.catch_up(), target.gather()), (CatchUp::Snapshot, Duration::ZERO));
    let now = now_micros();
    let items: Vec<String> = (0..20).rev().map(|n| format!("B{n:02}")).collect();
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    let mut row = context("7", &items, &[("Books", 3), ("Món ăn", 1)], now, TTL);
    row.categories_expire_at = now + 300 * SECOND;
    let applied = target.apply(&set(10, [put(row.clone()), put(context("-8", &["X", "X"], &[], now, TTL))])).await.unwrap();
    assert_eq!(applied, Applied { rows: 2, refused: 0 });

    let listed: Vec<String> = space.connection.lrange(space.key("user:7:recent_items"), 0, -1).unwrap();
    assert_eq!(listed, items, "newest first");
    let categories: HashMap<String, u64> = space.connection.hgetall(space.key("user:7:recent_categories")).unwrap();
    assert_eq!(categories, HashMap::from([("Books".into(), 3), ("Món ăn".into(), 1)]));
    let last_active: String = space.connection.get(space.key("user:7:last_active")).unwrap();
    assert_eq!(last_active, (now / SECOND).to_string());
    let keys = ["user:-8:last_active", "user:-8:recent_items", "user:7:last_active", "user:7:recent_categories", "user:7:recent_items"];
    assert_eq!(space.keys("user:*"), keys, "no category, no hash");
    for (key, seconds) in [("user:7:recent_items", 900), ("user:7:last_active", 900), ("user:7:recent_categories", 300)] {
        let left: i64 = space.connection.pttl(space.key(key)).unwrap();
        assert!((seconds * 1_000 - 30_000..=seconds * 1_000).contains(&left), "{key} expires in {left} ms");
    }

    // The next event: a shorter list replaces the longer one.
    target.apply(&set(11, [taken(row), put(context("7", &["NEW"], &[("Toys", 1)], now, TTL))])).await.unwrap();
    let listed: Vec<String> = space.connection.lrange(space.key("user:7:recent_items"), 0, -1).unwrap();
    assert_eq!(listed, ["NEW"]);
    let categories: HashMap<String, u64> = space.connection.hgetall(space.key("user:7:recent_categories")).unwrap();
    assert_eq!(categories, HashMap::from([("Toys".into(), 1)]));
    let left: i64 = space.connection.pttl(space.key("user:7:recent_categories")).unwrap();
    assert!(left > 800_000, "{left}");
}

#[tokio::test]
async fn keys_go_with_their_context_their_row_or_their_user() {
    let Some(mut space) = Space::new() else { return };
    let mut target = opened(&space).await;
    let now = now_micros();
    let old = context("1", &["A"], &[("C", 1)], now - TTL, TTL);
    let short = context("2", &["A"], &[("C", 1)], now, 2 * SECOND);
    let stays = context("3", &["A"], &[("C", 1)], now, TTL);
    let gone = context("4", &["A"], &[("C", 1)], now, TTL);
    let erased = context("5", &["A"], &[("C", 1)], now, TTL);
    let mut foreign = context("9", &["A"], &[("C", 1)], now, TTL);
    foreign.source = 7;
    target.apply(&set(10, [&old, &short, &stays, &gone, &erased, &foreign].map(|row| put(row.clone())))).await.unwrap();
    assert!(space.keys("user:1:*").is_empty(), "ended before it was written");
    assert!(space.keys("user:9:*").is_empty(), "another source's");
    assert_eq!(space.keys("user:[345]:*").len(), 9);
    eventually_true("a context of two seconds to end", DEADLINE, || space.keys("user:2:*").is_empty());
    assert!(now_micros() >= now + 2 * SECOND);

    let erase = |user: &str| (ViewRow::Erased { source: SOURCE, user: user.into() }, -1);
    target.apply(&set(11, [taken(gone), erase("5"), erase("77")])).await.unwrap();
    assert_eq!(space.keys("user:[45]:*"), Vec::<String>::new());
    // Somebody who comes again after an erasure, in the same changeset.
    target.apply(&set(12, [erase("3"), put(context("3", &["B"], &[], now, TTL))])).await.unwrap();
    assert_eq!(space.keys("user:*"), ["user:3:last_active", "user:3:recent_items"]);
}

#[tokio::test]
async fn the_time_is_recorded_and_gone_on_from() {
    let Some(mut space) = Space::new() else { return };
    let mut first = opened(&space).await;
    first.apply(&set(10, [put(context("1", &["A"], &[], now_micros(), TTL))])).await.unwrap();
    first.apply(&set(20, [])).await.unwrap();
    assert_eq!(space.state("applied").as_deref(), Some("20"));
    // More than one call's worth of users, and more than one pipeline's.
    let users: Vec<String> = (0..333).map(|n| n.to_string()).collect();
    let many = users.iter().map(|user| put(context(user, &["A", "B"], &[("C", 2)], now_micros(), TTL)));
    assert_eq!(first.apply(&set(30, many)).await.unwrap().rows, 333);
    assert_eq!((space.keys("user:*").len(), space.state("applied").as_deref()), (999, Some("30")));

    let mut again = target(&space.url, &space.prefix);
    assert_eq!(again.open(1).await.unwrap(), Standing::At(30));
    again.check().await.unwrap();
    // Another source is another definition.
    let config = RedisConfig { url: space.url.clone(), connect_timeout: DEADLINE, response_timeout: DEADLINE, pipeline_max: 1 };
    let other = RedisTargetConfig { redis: config, key_prefix: space.prefix.clone(), source: 5 };
    assert_eq!(RedisTarget::new(other).unwrap().open(2).await.unwrap(), Standing::Fresh);
}

#[tokio::test]
async fn an_older_server_cannot_write() {
    let Some(mut space) = Space::new() else { return };
    let mut old = opened(&space).await;
    old.apply(&set(10, [])).await.unwrap();
    let mut new = target(&space.url, &space.prefix);
    assert_eq!(new.open(2).await.unwrap(), Standing::At(10));
    let row = put(context("1", &["A"], &[], now_micros(), TTL));
    for outcome in [old.apply(&set(11, [row])).await.map(drop), old.open(1).await.map(drop)] {
        assert!(matches!(outcome, Err(TargetError::Fenced { own: 1, newer: 2 })), "{outcome:?}");
    }
    assert!(space.keys("user:*").is_empty());
    new.apply(&set(11, [])).await.unwrap();
}

#[tokio::test]
async fn keys_that_are_lost_are_noticed_and_written_again() {
    let Some(mut space) = Space::new() else { return };
    let mut target = opened(&space).await;
    let row = || put(context("1", &["A"], &[], now_micros(), TTL));
    target.apply(&set(10, [row()])).await.unwrap();
    target.check().await.unwrap();
    let _: () = space.connection.del(space.key("desireline:projection")).unwrap();
    assert!(matches!(target.check().await, Err(TargetError::Lost(_))), "noticed while nothing changes");
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    let outcome = target.apply(&set(11, [])).await;
    outcome.expect("changes of a rebuild that has not said so are still the writer's own");

    // An older copy of the data has come back.
    target.begin_rebuild().await.unwrap();
    target.finish_rebuild(20).await.unwrap();
    let _: () = space.connection.hset(space.key("desireline:projection"), "applied", "15").unwrap();
    let outcome = target.apply(&set(21, [row()])).await;
    assert!(matches!(outcome, Err(TargetError::Lost(_))), "{outcome:?}");
    assert_eq!(target.open(1).await.unwrap(), Standing::At(15), "it is gone on from there");
}

#[tokio::test]
async fn a_rebuild_leaves_the_keys_of_its_contexts_and_those_of_others() {
    let Some(mut space) = Space::new() else { return };
    let mut target = opened(&space).await;
    let now = now_micros();
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    target.apply(&set(10, many.iter().map(|user| put(context(user, &["OLD"], &[("C", 1)], now, TTL))))).await.unwrap();
    let others = ["user:1:cart", "user:x:recent_items", "user:0001:last_active", "users", "else:user:5:last_active"];
    for key in others {
        let _: () = space.connection.set(space.key(key), "theirs").unwrap();
    }
    target.begin_rebuild().await.unwrap();
    assert_eq!(space.keys("user:*:recent_items").len(), 201, "readers see the old rows meanwhile");
    target.apply(&set(5, [put(context("1", &["NEW"], &[], now, TTL)), put(context("500", &["NEW"], &[], now, TTL))])).await.unwrap();

    // A server that ends here begins the rebuild again.
    let mut successor = self::target(&space.url, &space.prefix);
    assert_eq!(successor.open(2).await.unwrap(), Standing::Fresh);
    successor.begin_rebuild().await.unwrap();
    let rows = [context("1", &["NEW"], &[], now, TTL), context("2", &["ENDED"], &[], now - TTL, TTL)];
    assert_eq!(successor.apply(&set(5, rows.map(put))).await.unwrap().rows, 1, "what has ended is not written");
    successor.finish_rebuild(40).await.unwrap();
    let mut expected: Vec<&str> =
        others.into_iter().chain(["user:1:recent_items", "user:1:last_active", "desireline:projection"]).collect();
    expected.sort_unstable();
    assert_eq!(space.keys("*"), expected);
    assert_eq!(successor.open(2).await.unwrap(), Standing::At(40));
}

#[tokio::test]
async fn a_broken_connection_and_forgotten_scripts_cost_nothing() {
    let Some(server) = server::Server::start(&[]) else { return };
    let mut space = server.space();
    let mut target = opened(&space).await;
    let row = |item: &str| put(context("1", &[item], &[], now_micros(), TTL));
    target.apply(&set(10, [row("A")])).await.unwrap();
    let killed: u64 =
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").query(&mut space.connection).unwrap();
    assert_eq!(killed, 1);
    target.apply(&set(11, [row("B")])).await.expect("a new connection is made");
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut space.connection).unwrap();
    target.apply(&set(12, [row("C")])).await.expect("the scripts are loaded again");
    let listed: Vec<String> = space.connection.lrange(space.key("user:1:recent_items"), 0, -1).unwrap();
    assert_eq!((listed, space.state("applied").as_deref()), (vec!["C".to_owned()], Some("12")));

    let _: () = redis::cmd("FLUSHALL").query(&mut space.connection).unwrap();
    let outcome = target.apply(&set(13, [row("D")])).await;
    assert!(matches!(outcome, Err(TargetError::Lost(_))), "{outcome:?}");
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
}

#[tokio::test]
async fn a_server_that_was_away_comes_back_empty() {
    let Some(mut server) = server::Server::start(&[]) else { return };
    let space = server.space();
    let mut target = opened(&space).await;
    server.kill();
    let row = || put(context("1", &["A"], &[], now_micros(), TTL));
    for outcome in [target.apply(&set(10, [row()])).await.map(drop), target.open(1).await.map(drop)] {
        assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{outcome:?}");
    }
    server.again();
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);

    // The same, but nobody tried meanwhile.
    target.begin_rebuild().await.unwrap();
    target.finish_rebuild(10).await.unwrap();
    server.kill();
    server.again();
    let outcome = target.check().await;
    assert!(matches!(outcome, Err(TargetError::Unavailable(_) | TargetError::Lost(_))), "{outcome:?}");
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
}

#[tokio::test]
async fn what_somebody_must_change_is_said() {
    let Some(server) = server::Server::start(&["--requirepass", "the-pass-word"]) else { return };
    for url in [server.url.clone(), server.url.replace("redis://", "redis://:wrong-word@")] {
        let outcome = target(&url, "").open(1).await;
        let Err(TargetError::Refused(text)) = outcome else { panic!("{outcome:?}") };
        assert!(!text.contains("-word"), "{text}");
    }
    let outcome = target_within(Duration::from_millis(200), &server.url.replace("redis://", "rediss://"), "").open(1).await;
    assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "no TLS there: {outcome:?}");
    let url = server.url.replace("redis://", "redis://:the-pass-word@");
    let mut target = target(&url, "");
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    target.begin_rebuild().await.unwrap();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").query(&mut connection).unwrap();
    let outcome = target.apply(&set(2, [put(context("1", &["A"], &[], now_micros(), TTL))])).await;
    let Err(TargetError::Refused(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("OOM"), "{text}");
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").query(&mut connection).unwrap();
    // A replica that was the primary a moment ago.
    target.open(1).await.unwrap();
    let _: () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg("1").query(&mut connection).unwrap();
    let outcome = target.apply(&set(2, [put(context("1", &["A"], &[], now_micros(), TTL))])).await;
    assert!(matches!(outcome, Err(TargetError::Unavailable(_))), "{outcome:?}");
}
