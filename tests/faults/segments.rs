//! Bytes of the log that are not what was written: found and named by `log verify`, and by the server that would start on them.

use std::fs;
use std::path::{Path, PathBuf};

use desireline::generate::random::Random;

use crate::support::command::{Ended, desireline};
use crate::support::model::{MINUTE_MS, Model, Observed, Rule, source_status};
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, eventually};
use crate::{clicks, ingest};

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = (fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

fn verify(server: &Server) -> Ended {
    desireline(server.folder(), &["log", "verify", "--data", &server.data().display().to_string()])
}

/// Starts the server on a damaged log and demands that it ends, naming the damage.
#[track_caller]
fn must_refuse(server: &mut Server, words: &[&str]) {
    let before = server.logs().len();
    server.spawn();
    let status = server.wait_exit();
    assert!(matches!(status.code(), Some(4 | 5)), "{status}");
    let said = server.logs().split_off(before);
    for word in words {
        assert!(said.contains(word), "nothing about `{word}` in:\n{said}");
    }
}

#[test]
fn a_flipped_torn_or_missing_object_is_named_and_nothing_is_skipped() {
    let config = "[log]\ncompaction_every = \"200ms\"\ncompaction_segments_min = 30\n[logging]\nlevel = \"warn\"\n";
    let mut server = Server::new().config(config).start();
    let rows = clicks("bytes", 120);
    let mut model = Model::new(Rule::FromFirst);
    for batch in rows.chunks(3) {
        ingest(&server.http, 1, batch).expect_status(200);
    }
    rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    let (log, part) = (server.data().join("log/0"), server.data().join("log/0/part"));
    eventually("a compaction", DEADLINE, || if files(&part, "part").is_empty() { Err("none yet") } else { Ok(()) });
    // Some segments after the last part.
    for batch in clicks("after", 12).chunks(3) {
        ingest(&server.http, 1, batch).expect_status(200);
        batch.iter().for_each(|(id, click)| assert!(model.add(id.clone(), click.clone())));
    }
    assert!(server.stop().success());
    verify(&server).expect_code(0);

    let seed = chrono::Utc::now().timestamp_millis() as u64;
    println!("seed {seed}");
    let mut random = Random::new(seed, 1);
    let segments = files(&log, "seg");
    let parts = files(&part, "part");
    let manifests = files(&log.join("manifest"), "json");
    assert!(segments.len() >= 4 && !parts.is_empty() && !manifests.is_empty(), "{segments:?} {parts:?} {manifests:?}");
    let victims: Vec<&PathBuf> = [&segments[segments.len() - 3], &segments[segments.len() - 1], &parts[0]].to_vec();
    for (number, victim) in victims.iter().cycle().take(24).enumerate() {
        let good = fs::read(victim).expect("the object can be read");
        let at = random.below(good.len() as u64) as usize;
        let mut bad = good.clone();
        let what = if number % 4 == 3 {
            bad.truncate(at);
            format!("{} cut at byte {at} of {}", name(victim), good.len())
        } else {
            bad[at] ^= 1 << random.below(8);
            format!("{} flipped at byte {at} of {}", name(victim), good.len())
        };
        fs::write(victim, &bad).expect("the object can be written");
        let ended = verify(&server);
        assert_eq!(ended.code, Some(4), "{what}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(&name(victim)), "{what}: {}", ended.stderr);
        if number < 6 {
            must_refuse(&mut server, &[&name(victim)]);
        }
        fs::write(victim, &good).expect("the object can be written");
        if number < 6 {
            verify(&server).expect_code(0);
        }
    }

    // A manifest says what is part of the log.
    let manifest = manifests.last().expect("there is one");
    let good = fs::read(manifest).expect("the manifest can be read");
    fs::write(manifest, &good[..good.len() / 2]).expect("the manifest can be written");
    assert!(matches!(verify(&server).code, Some(4 | 5)));
    must_refuse(&mut server, &[&name(manifest)]);
    fs::write(manifest, &good).expect("the manifest can be written");

    // A gap: the segment between two others is gone. The servers that refused have left fences behind.
    let missing = &segments[segments.len() - 2];
    let good = fs::read(missing).expect("the object can be read");
    fs::remove_file(missing).expect("the object can be removed");
    let number = name(missing).trim_end_matches(".seg").trim_start_matches('0').to_owned();
    let ended = verify(&server).expect_code(4);
    assert!(ended.stderr.contains(&number), "{}", ended.stderr);
    must_refuse(&mut server, &[&number]);
    fs::write(missing, &good).expect("the object can be written");

    // What a crash leaves of an upload is no error.
    fs::write(log.join(format!("{}#1", name(missing))), b"half").expect("a staged file can be written");
    verify(&server).expect_code(0);
    server.start_again();
    Observed::of(&server.http, 1).must_equal(&model, "with everything back in place");
    assert!(files(&log, "seg#1").is_empty());
}

#[test]
fn a_flipped_byte_of_a_cold_part_is_named_and_never_answered_as_data() {
    let config = "[sealing]\nevery = \"200ms\"\n[logging]\nlevel = \"warn\"\n\
        [[source]]\nname = \"cold\"\nsource_id = 1\nhorizon = \"10m\"\nlateness = \"5m\"\n";
    let mut server = Server::new().config(config).start();
    let mut model = Model::new(Rule::FromFirst);
    // An hour and a half of events; those of one user are a few minutes apart.
    for (number, rows) in clicks("cold", 90).chunks(5).enumerate() {
        let mut rows = rows.to_vec();
        rows.iter_mut().for_each(|(_, click)| click.time_ms += number as i64 * 5 * MINUTE_MS);
        ingest(&server.http, 1, &rows).expect_status(200);
        rows.into_iter().for_each(|(id, click)| assert!(model.add(id, click)));
    }
    eventually("sessions to be sealed", DEADLINE, || {
        let status = server.http.get_json("/api/status");
        if source_status(&status, 1)["sealed_sessions"].as_u64() > Some(5) { Ok(()) } else { Err(status) }
    });
    let right = server.http.get("/api/sessions?source_id=1&limit=1000").expect_status(200).json()["sessions"].clone();
    Observed::of(&server.http, 1).must_equal(&model, "before");
    assert!(server.stop().success());
    verify(&server).expect_code(0);

    let parts = files(&server.data().join("cold/sessions/1"), "parquet");
    let seed = chrono::Utc::now().timestamp_millis() as u64;
    println!("seed {seed}");
    let mut random = Random::new(seed, 1);
    for number in 0..16 {
        let victim = random.pick(&parts);
        let good = fs::read(victim).expect("the part can be read");
        let mut bad = good.clone();
        let at = random.below(good.len() as u64) as usize;
        bad[at] ^= 1 << random.below(8);
        fs::write(victim, &bad).expect("the part can be written");
        let ended = verify(&server);
        let what = format!("{} flipped at byte {at} of {}", name(victim), good.len());
        assert_eq!(ended.code, Some(4), "{what}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(&name(victim)), "{what}: {}", ended.stderr);
        if number < 4 {
            server.start_again();
            let reply = server.http.get("/api/sessions?source_id=1&limit=1000");
            match reply.status {
                200 => assert_eq!(reply.json()["sessions"], right, "{what}"),
                _ => assert!(reply.status == 503 && reply.text().contains(&name(victim)), "{what}: {} {}", reply.status, reply.text()),
            }
            assert!(server.stop().success());
        }
        fs::write(victim, &good).expect("the part can be written");
    }
    server.start_again();
    Observed::of(&server.http, 1).must_equal(&model, "with everything back in place");
}
