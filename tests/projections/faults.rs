//! What databases, networks and second servers do.

use crate::support::command::desireline;
use crate::support::server::Server;
use crate::support::services;
use crate::support::wait::{DEADLINE, eventually};
use crate::{Rig, progress, projection, send, under_load};
use std::process::Command;

/// How many messages of an apply are tried, in case applies become longer than they are.
const POINTS_MAX: u64 = 60;

/// The server dies before the first, the second, … message of an exchange with the database, whichever side sends it, until a
/// whole apply has passed.
#[test]
fn a_server_killed_at_any_point_of_an_apply_goes_on_from_there() {
    let Some(mut rig) = Rig::new() else { return };
    (0..60).for_each(|_| assert!(send(&rig.server.http)));
    rig.caught_up("postgres");
    let mut point = 1;
    loop {
        let pid = rig.server.pid();
        rig.postgres.cut_after(point, move || {
            Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill can be run");
        });
        let before = rig.postgres.pieces();
        // The cut may come while this is being sent.
        let sent = (0..9).filter(|_| send(&rig.server.http)).count();
        let died = rig.postgres.has_cut() || {
            let committed = rig.server.http.try_send(reqwest::Method::GET, "/api/status", &[], Vec::new());
            let committed = committed.ok().and_then(|reply| reply.json()["committed"].as_u64());
            eventually("the cut, or the end of the apply", DEADLINE, || {
                if rig.postgres.has_cut() {
                    return Ok(true);
                }
                let row = rig.server.http.try_send(reqwest::Method::GET, "/api/projections", &[], Vec::new());
                let row = row.map_err(|error| error.to_string())?.json();
                let applied = row["projections"].as_array().into_iter().flatten().find(|row| row["name"] == "postgres");
                let applied = applied.and_then(|row| row["applied"].as_u64());
                if applied >= committed { Ok(false) } else { Err(format!("{row}")) }
            })
        };
        if died {
            rig.server.kill();
            rig.server.start_again();
            rig.caught_up("postgres");
        }
        // Nine requests are applied in a few transactions; when a cut lies beyond all their messages, every point has been met.
        if !died && rig.postgres.pieces() - before < point || point >= POINTS_MAX {
            assert!(point > 5, "an apply has more messages than that; {sent} requests were sent");
            break;
        }
        point += 1;
    }
    rig.compare();
}

#[test]
fn databases_that_are_killed_or_emptied_are_complete_again() {
    let Some(mut rig) = Rig::new() else { return };
    if !services::ours("postgres") || !services::ours("redis") {
        services::note_skipped("a database and a cache that were started by scripts/services");
        return;
    }
    under_load(&rig, true, || {
        progress(&rig, "postgres", 50);
        assert!(services::control("kill", "postgres"));
        eventually("the outage to be noticed", DEADLINE, || {
            let row = projection(&rig.server.http, "postgres");
            if row["state"] == "failing" && row["error"].is_string() { Ok(()) } else { Err(row) }
        });
        // Redis is not disturbed by the other's outage.
        progress(&rig, "redis", 20);
        assert!(services::control("start", "postgres"));
        progress(&rig, "postgres", 50);
        assert!(services::control("kill", "redis"));
        progress(&rig, "postgres", 50);
        assert!(services::control("start", "redis"));
        progress(&rig, "redis", 20);
    });
    // The connection of the test itself went down with the server.
    let url = services::postgres().expect("it was there");
    let client = rig.runtime.block_on(crate::tables::connect(&url));
    rig.site.as_mut().expect("a site").client = client;
    rig.compare();
    let mut redis = redis::Client::open(services::redis().expect("it was there")).expect("a URL").get_connection().expect("Redis answers");
    under_load(&rig, true, || {
        progress(&rig, "redis", 20);
        redis::cmd("FLUSHALL").exec(&mut redis).expect("flushed");
        progress(&rig, "redis", 20);
    });
    rig.compare();
}

#[test]
fn networks_that_refuse_or_hang_lose_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    under_load(&rig, true, || {
        progress(&rig, "postgres", 50);
        for proxy in [&rig.postgres, &rig.redis] {
            proxy.refuse();
        }
        progress_of_log(&rig, 60);
        for proxy in [&rig.postgres, &rig.redis] {
            proxy.pass();
        }
        progress(&rig, "postgres", 50);
        for proxy in [&rig.postgres, &rig.redis] {
            proxy.stall();
        }
        progress_of_log(&rig, 60);
        for proxy in [&rig.postgres, &rig.redis] {
            proxy.pass();
        }
        progress(&rig, "postgres", 50);
    });
    rig.compare();
}

/// Waits until the server has taken so many more events.
fn progress_of_log(rig: &Rig, events: u64) {
    let received = || {
        let status = rig.server.http.get_json("/api/status");
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().filter_map(|source| source["counters"]["received"].as_u64()).sum::<u64>()
    };
    let before = received();
    eventually("events to be taken", DEADLINE, || {
        let now = received();
        if now >= before + events { Ok(()) } else { Err(now) }
    });
}

#[test]
fn a_lock_on_a_table_and_a_full_disk_are_waited_out() {
    let Some(mut rig) = Rig::new() else { return };
    under_load(&rig, true, || {
        progress(&rig, "postgres", 50);
        let (events, logs) = (rig.site().table("events"), rig.site().table("interaction_logs"));
        rig.runtime.block_on(rig.site().run(&format!("BEGIN; LOCK TABLE {events}, {logs} IN ACCESS EXCLUSIVE MODE")));
        wait_failing(&rig, "lock");
        progress_of_log(&rig, 60);
        rig.runtime.block_on(rig.site().run("ROLLBACK"));
        progress(&rig, "postgres", 50);
        // What the database says when its disk is full.
        let schema = format!("\"{}\"", rig.site().schemas.ampelios);
        rig.runtime.block_on(rig.site().run(&format!(
            "CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
             CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {events} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.full()"
        )));
        wait_failing(&rig, "No space left");
        progress_of_log(&rig, 60);
        rig.runtime.block_on(rig.site().run(&format!("DROP TRIGGER full_disk ON {events}; DROP FUNCTION {schema}.full()")));
        progress(&rig, "postgres", 50);
    });
    assert_eq!(projection(&rig.server.http, "postgres")["rows_refused"], 0, "an outage refuses no row");
    rig.compare();
}

fn wait_failing(rig: &Rig, words: &str) {
    eventually("the trouble to be told", DEADLINE, || {
        let row = projection(&rig.server.http, "postgres");
        let told = row["state"] == "failing" && row["error"].as_str().is_some_and(|error| error.contains(words));
        if told { Ok(()) } else { Err(row) }
    });
}

#[test]
fn tables_that_were_dropped_come_back_complete() {
    let Some(mut rig) = Rig::new() else { return };
    under_load(&rig, true, || {
        progress(&rig, "postgres", 50);
        for table in ["events", "sessions", "interaction_logs", "aggregates_minute"] {
            let table = rig.site().table(table);
            rig.runtime.block_on(rig.site().run(&format!("DROP TABLE {table} CASCADE")));
        }
        progress(&rig, "postgres", 100);
    });
    rig.compare();
}

/// A copy of the data is started elsewhere: it is the newer server, and the older one must not write any more.
#[test]
fn of_two_servers_the_newer_one_writes() {
    let Some(mut rig) = Rig::new() else { return };
    (0..90).for_each(|_| assert!(send(&rig.server.http)));
    rig.caught_up("postgres");
    let config = std::fs::read_to_string(rig.server.folder().join("desireline.toml")).expect("the configuration");
    let copy = tempfile::tempdir().expect("a folder");
    let copied = copy.path().join("data");
    let status = Command::new("cp").arg("-r").arg(rig.server.data()).arg(&copied).status().expect("cp can be run");
    assert!(status.success());
    let newer = Server::new().config(config).data(copied).start();
    eventually("the newer server to follow", DEADLINE, || {
        let row = projection(&newer.http, "postgres");
        if row["state"] == "live" { Ok(()) } else { Err(row) }
    });
    // The older one still takes events, into its own log.
    (0..30).for_each(|_| assert!(send(&rig.server.http)));
    for name in ["postgres", "redis"] {
        eventually("the older server to be fenced", DEADLINE, || {
            let row = projection(&rig.server.http, name);
            if row["state"] == "fenced" { Ok(()) } else { Err(row) }
        });
    }
    (0..30).for_each(|_| assert!(send(&newer.http)));
    rig.server.kill();
    rig.server = newer;
    rig.compare();
}

/// Changes that do not fit into the queue are read from the log.
#[test]
fn what_an_outage_piles_up_is_read_from_the_log() {
    let Some(mut rig) = Rig::new() else { return };
    let config = std::fs::read_to_string(rig.server.folder().join("desireline.toml")).expect("the configuration");
    rig.server.set_config(config.replace("[projections]\n", "[projections]\nqueue_rows_max = 20\nbatch_rows_max = 30\n"));
    assert!(rig.server.stop().success());
    rig.server.start_again();
    rig.caught_up("postgres");
    rig.postgres.refuse();
    (0..300).for_each(|_| assert!(send(&rig.server.http)));
    let memory = projection(&rig.server.http, "postgres")["lag_rows"].as_u64().expect("a count");
    assert!(memory < 1_000, "{memory} rows wait");
    rig.postgres.pass();
    rig.compare();
    assert!(rig.server.logs().contains("reads the log"), "the log was read");
}

#[test]
fn a_rebuild_by_command_leaves_readers_their_rows() {
    let Some(mut rig) = Rig::new() else { return };
    (0..90).for_each(|_| assert!(send(&rig.server.http)));
    rig.caught_up("postgres");
    let table = rig.site().table("events");
    let count = || rig.runtime.block_on(rig.site().number(&format!("SELECT count(*) FROM {table}")));
    let before = count();
    // Somebody damages the rows.
    rig.runtime.block_on(rig.site().run(&format!(
        "UPDATE {table} SET sessionnumber = 99 WHERE _id IN (SELECT _id FROM {table} LIMIT 3); \
         DELETE FROM {table} WHERE _id IN (SELECT _id FROM {table} ORDER BY _id DESC LIMIT 2)"
    )));
    let base = rig.server.base();
    let run = |arguments: &[&str]| desireline(rig.server.folder(), &[&["projection"], arguments, &["--url", &base]].concat());
    run(&["rebuild", "postgres", "--wait"]).expect_code(0);
    assert_eq!(count(), before);
    let listed = run(&["ls"]).expect_code(0).stdout;
    assert!(listed.contains("postgres") && listed.contains("live"), "{listed}");
    let wrong = run(&["pause", "postgers"]);
    assert!(wrong.code != Some(0) && wrong.stderr.contains("postgers") && wrong.stderr.contains("redis"), "{wrong:?}");
    rig.compare();
}

/// A pause must hold while nobody looks, and end when it is told.
#[test]
fn a_paused_projection_leaves_its_target_alone() {
    let Some(mut rig) = Rig::new() else { return };
    (0..40).for_each(|_| assert!(send(&rig.server.http)));
    rig.caught_up("postgres");
    let base = rig.server.base();
    let folder = rig.server.folder().to_owned();
    let order = |word: &str| desireline(&folder, &["projection", word, "postgres", "--url", &base]).expect_code(0);
    order("pause");
    eventually("the pause", DEADLINE, || {
        let row = projection(&rig.server.http, "postgres");
        if row["state"] == "paused" { Ok(()) } else { Err(row) }
    });
    let pieces = rig.postgres.pieces();
    (0..40).for_each(|_| assert!(send(&rig.server.http)));
    rig.caught_up("redis");
    assert_eq!(rig.postgres.pieces(), pieces, "nothing is said to the database");
    order("resume");
    rig.compare();
}
