//! The database goes away, is locked, is read-only, or belongs to somebody else.

use super::history::{self, Random};
use super::tables::{Site, assert_same, connect};
use super::{Time, apply_all, build, changes_of, changeset, expected, fresh};
use crate::support::services;
use crate::support::wait::DEADLINE;
use desireline::projections::postgres::PostgresTarget;
use desireline::projections::{Changeset, Standing, Target, TargetError};
use desireline_connectors::postgres::{Database, Options};
use desireline_records::Batch;
use std::time::{Duration, Instant};

const SPLIT: usize = 12;

/// A target that has the first part of a history.
async fn begun(site: &Site, seed: u64) -> (PostgresTarget, Vec<Batch>, Vec<Time>) {
    let batches = history::random(seed, 25);
    let changes = changes_of(&batches);
    let mut target = fresh(site, 1).await;
    build(&mut target, &changes[..SPLIT], &mut Random(seed)).await;
    (target, batches, changes)
}

async fn until(what: &str, site: &Site, query: &str) {
    let begin = Instant::now();
    while site.rows(query).await.is_empty() {
        assert!(begin.elapsed() < DEADLINE, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_leaves_all_or_nothing() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let (target, batches, changes) = begun(&site, 11).await;
    drop(target);
    let before = expected(&batches[..SPLIT]);
    let rest = changeset(&changes[SPLIT..]);
    // The transaction has staged its rows and waits for the last table when its backend is ended.
    let holder = connect(&url).await;
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", site.table("aggregates_minute"))).await.unwrap();
    let mut config = site.config();
    config.lock_timeout = DEADLINE;
    let mut target = PostgresTarget::new(config).unwrap();
    assert_eq!(target.open(1).await.unwrap(), Standing::At(changes[SPLIT - 1].0));
    let waiting = format!("FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'", site.schemas.ampelios);
    let applying = tokio::spawn(async move {
        let result = target.apply(&rest).await;
        (target, rest, result)
    });
    until("the transaction", &site, &format!("SELECT pid {waiting}")).await;
    site.rows(&format!("SELECT pg_terminate_backend(pid) {waiting}")).await;
    let (mut target, rest, result) = applying.await.unwrap();
    assert_eq!(result.unwrap_err().code(), "unavailable");
    drop(holder);
    assert_same(&site.tables().await, &before, "nothing of it is there");
    assert_eq!(target.open(1).await.unwrap(), Standing::At(changes[SPLIT - 1].0));
    target.apply(&rest).await.unwrap();
    assert_same(&site.tables().await, &expected(&batches), "applied again");
    site.drop_all().await;
}

#[tokio::test]
async fn what_is_applied_is_never_applied_again() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let (mut target, batches, changes) = begun(&site, 12).await;
    let mut twin = PostgresTarget::new(site.config()).unwrap();
    twin.open(1).await.unwrap();
    // The commit went through, and nobody was told: to the twin its own time is still the one before.
    target.apply(&changeset(&changes[SPLIT..20])).await.unwrap();
    let error = twin.apply(&changeset(&changes[SPLIT..])).await.unwrap_err();
    assert_eq!(error.code(), "unavailable", "{error}");
    assert_same(&site.tables().await, &expected(&batches[..20]), "nothing twice");
    assert_eq!(twin.open(1).await.unwrap(), Standing::At(changes[19].0));
    twin.apply(&changeset(&changes[20..])).await.unwrap();
    // An empty changeset moves the time alone.
    twin.apply(&Changeset { time: 10_000, ..Changeset::default() }).await.unwrap();
    assert_same(&site.tables().await, &expected(&batches), "gone on");
    assert_eq!(twin.open(1).await.unwrap(), Standing::At(10_000));
    site.drop_all().await;
}

#[tokio::test]
async fn an_older_server_cannot_write() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let (mut old, batches, changes) = begun(&site, 13).await;
    let mut new = PostgresTarget::new(site.config()).unwrap();
    assert_eq!(new.open(2).await.unwrap(), Standing::At(changes[SPLIT - 1].0));
    let fenced = |result: Result<(), TargetError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, TargetError::Fenced { own: 1, newer: 2 }), "{error}");
    };
    fenced(old.apply(&changeset(&changes[SPLIT..])).await.map(drop));
    fenced(old.begin_rebuild().await);
    fenced(old.finish_rebuild(99).await);
    fenced(old.open(1).await.map(drop));
    assert_same(&site.tables().await, &expected(&batches[..SPLIT]), "the older one changed nothing");
    apply_all(&mut new, &changes[SPLIT..], &mut Random(1)).await;
    assert_same(&site.tables().await, &expected(&batches), "the newer one goes on");
    site.drop_all().await;
}

#[tokio::test]
async fn a_lock_is_waited_for_and_then_tried_again() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let (mut target, batches, changes) = begun(&site, 14).await;
    let holder = connect(&url).await;
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {} IN SHARE MODE", site.table("sessions"))).await.unwrap();
    for _ in 0..2 {
        let error = target.apply(&changeset(&changes[SPLIT..])).await.unwrap_err();
        assert!(error.code() == "unavailable" && error.to_string().contains("55P03"), "{error}");
        assert_eq!(target.open(1).await.unwrap(), Standing::At(changes[SPLIT - 1].0));
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    let applied = target.apply(&changeset(&changes[SPLIT..])).await.unwrap();
    assert_eq!(applied.refused, 0, "a lock refuses no row");
    assert_same(&site.tables().await, &expected(&batches), "after the lock");
    site.drop_all().await;
}

#[tokio::test]
async fn a_read_only_database_is_an_outage() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let (_, batches, changes) = begun(&site, 15).await;
    let mut config = site.config();
    let separator = if url.contains('?') { '&' } else { '?' };
    config.url = format!("{url}{separator}options=-c%20default_transaction_read_only%3Don");
    let mut target = PostgresTarget::new(config).unwrap();
    let error = target.open(2).await.unwrap_err();
    assert!(error.code() == "unavailable" && error.to_string().contains("25006"), "{error}");
    // The recorded epoch is as it was, and the writable database goes on.
    let mut target = PostgresTarget::new(site.config()).unwrap();
    assert_eq!(target.open(1).await.unwrap(), Standing::At(changes[SPLIT - 1].0));
    apply_all(&mut target, &changes[SPLIT..], &mut Random(3)).await;
    assert_same(&site.tables().await, &expected(&batches), "writable again");
    site.drop_all().await;
}

#[tokio::test]
async fn nobody_there_is_an_outage_and_never_shows_the_password() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let mut config = site.config();
    config.url = "postgres://somebody:secret@127.0.0.1:9/nowhere".to_owned();
    let error = PostgresTarget::new(config).unwrap().open(1).await.unwrap_err();
    assert!(error.code() == "unavailable" && !error.to_string().contains("secret"), "{error}");
    let mut config = site.config();
    config.url = format!("{}/no_such_database", url.rsplit_once('/').unwrap().0);
    let error = PostgresTarget::new(config).unwrap().open(1).await.unwrap_err();
    assert!(error.code() == "refused" && error.to_string().contains("3D000"), "{error}");
    site.drop_all().await;
}

#[tokio::test]
async fn required_tls_is_never_left_out() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    if site.rows("SHOW ssl").await != [["off"]] {
        services::note_skipped("a PostgreSQL without TLS");
        return;
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    for (mode, works) in [("disable", true), ("prefer", true), ("require", false)] {
        let mut config = site.config();
        config.url = format!("{url}{separator}sslmode={mode}");
        let opened = PostgresTarget::new(config).unwrap().open(1).await;
        assert_eq!(opened.is_ok(), works, "{mode}: {opened:?}");
    }
    site.drop_all().await;
}

#[tokio::test]
async fn tables_that_are_somebody_elses_are_refused() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    site.run(&format!("CREATE SCHEMA {0}; CREATE TABLE {0}.users (id bigint PRIMARY KEY, name text)", site.schemas.interactions)).await;
    let error = PostgresTarget::new(site.config()).unwrap().open(1).await.unwrap_err();
    assert!(error.code() == "refused" && error.to_string().contains("users"), "{error}");
    assert_eq!(
        site.number(&format!("SELECT count(*) FROM pg_class WHERE relnamespace = '{}'::regnamespace", site.schemas.interactions)).await,
        2
    );
    site.drop_all().await;
}

#[tokio::test]
async fn a_role_without_rights_is_refused_and_can_write_tables_that_are_there() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let role = format!("{}_writer", site.schemas.ampelios);
    site.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let mut config = site.config();
    config.url = url.replacen("desireline@", &format!("{role}@"), 1);
    let error = PostgresTarget::new(config.clone()).unwrap().open(1).await.unwrap_err();
    assert!(error.code() == "refused" && error.to_string().contains("42501"), "{error}");
    // Somebody with more rights makes the tables.
    drop(fresh(&site, 1).await);
    for schema in [&site.schemas.ampelios, &site.schemas.interactions, &site.schemas.desireline] {
        let schema = format!("\"{}\"", schema.replace('"', "\"\""));
        let right = if schema.contains("d\"\"") { "USAGE, CREATE" } else { "USAGE" };
        site.run(&format!("GRANT {right} ON SCHEMA {schema} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")).await;
    }
    let batches = history::random(16, 12);
    let changes = changes_of(&batches);
    let mut target = PostgresTarget::new(config).unwrap();
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    build(&mut target, &changes, &mut Random(2)).await;
    assert_same(&site.tables().await, &expected(&batches), "written by a role that may not create");
    drop(target);
    site.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    site.drop_all().await;
}

#[tokio::test]
async fn servers_that_start_at_once_make_the_tables_once() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let mut opening = Vec::new();
    for _ in 0..4 {
        let mut config = site.config();
        config.lock_timeout = DEADLINE;
        opening.push(tokio::spawn(async move { PostgresTarget::new(config).unwrap().open(7).await }));
    }
    for open in opening {
        assert_eq!(open.await.unwrap().unwrap(), Standing::Fresh);
    }
    site.drop_all().await;
}

#[tokio::test]
async fn a_connection_dropped_in_a_transaction_is_given_to_nobody() {
    let Some(url) = services::postgres() else { return };
    let options = Options {
        url,
        tls_ca: None,
        application_name: "desireline test".to_owned(),
        pool_max: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_millis(200),
        lock_timeout: Duration::from_secs(1),
    };
    let database = Database::new(&options).unwrap();
    let mut connection = database.connection().await.unwrap();
    let process = connection.rows("SELECT pg_backend_pid()").await.unwrap();
    drop(connection);
    let mut connection = database.connection().await.unwrap();
    assert_eq!(connection.rows("SELECT pg_backend_pid()").await.unwrap(), process, "at rest it is used again");
    connection.begin("SELECT 1").await.unwrap();
    drop(connection);
    let mut connection = database.connection().await.unwrap();
    assert_ne!(connection.rows("SELECT pg_backend_pid()").await.unwrap(), process);
    let error = connection.run("SELECT pg_sleep(10)").await.unwrap_err();
    assert!(error.code() == "unavailable" && error.to_string().contains("57014"), "{error}");
}
