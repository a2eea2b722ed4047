//! Opening, taking over, refusing, listing, erasing.

use super::*;
use crate::log::{LetterFilter, ObjectKind, PurgeStays, PurgeUser};
use desireline_records::{CatalogEntry, Person, Purged, Reopen, ReopenedDevice, SealedStay};
use std::sync::Arc;

fn local() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
    (folder, store)
}

#[tokio::test]
async fn a_log_is_reopened_where_it_ended() {
    let (_folder, store) = local();
    let (writer, mut source, mut written) = fill(&store, 4, 5, 8).await;
    assert_eq!((writer.epoch(), writer.last_time()), (1, source.time));
    let second = LogWriter::open(store.clone(), config()).await.expect_err("the folder is locked");
    assert_eq!(second.code(), "store_locked");
    writer.compactor().run_once().await.expect("compacts");
    drop(writer);
    let mut writer = LogWriter::open(store.clone(), config()).await.expect("opens");
    assert_eq!((writer.epoch(), writer.last_time()), (2, source.time));
    let stale = Batch { time: source.time, ..Batch::default() };
    assert_eq!(writer.append(&stale).await.expect_err("stale").code(), "log_time_not_increasing");
    written.push(source.batch(8));
    writer.append(written.last().expect("a batch")).await.expect("appends");
    assert_eq!(read_all(&writer.reader()).await.expect("reads"), written);
    let kinds: Vec<ObjectKind> = writer.reader().segments().await.expect("lists").iter().map(|info| info.kind).collect();
    assert_eq!(kinds, [ObjectKind::Part, ObjectKind::Fence, ObjectKind::Segment]);
    assert_eq!(writer.reader().last_time().await.expect("reads"), source.time);
    assert!(writer.reader().size().await.expect("lists").bytes > 500);
}

#[tokio::test]
async fn a_zombie_is_fenced_and_stays_fenced() {
    let store = memory_store();
    let (mut zombie, mut source, mut written) = fill(&store, 4, 2, 8).await;
    let mut writer = LogWriter::open(store.clone(), config()).await.expect("takes over");
    for _ in 0..2 {
        let batch = source.batch(8);
        assert_eq!(zombie.append(&batch).await.expect_err("fenced").code(), "log_fenced");
        assert!(!zombie.is_open());
        writer.append(&batch).await.expect("appends");
        written.push(batch);
        writer.compactor().run_once().await.expect("compacts");
    }
    assert_eq!(read_all(&zombie.reader()).await.expect("a fenced server still reads"), written);
}

#[tokio::test]
async fn a_log_from_the_future_is_refused() {
    fn early() -> LogicalTime {
        939
    }
    fn late() -> LogicalTime {
        1_000
    }
    let store = memory_store();
    let mut writer = LogWriter::open(store.clone(), LogConfig { clock: Some(late), ..config() }).await.expect("opens");
    writer.append(&Batch { time: 61_000, ..Batch::default() }).await.expect("appends");
    let refused = LogWriter::open(store.clone(), LogConfig { clock: Some(early), ..config() }).await.expect_err("ahead");
    assert_eq!(refused.code(), "log_clock_behind");
    LogWriter::open(store, LogConfig { clock: Some(late), ..config() }).await.expect("a minute is allowed");
}

#[tokio::test]
async fn a_crashed_upload_is_no_error() {
    let (folder, store) = local();
    let (writer, source, mut written) = fill(&store, 4, 3, 8).await;
    drop(writer);
    let next = folder.path().join("log/0/00000000000000000005.seg#1");
    std::fs::write(&next, b"DESIRLOG half a segm").expect("writes");
    let reader = LogReader::open(store.clone(), 0);
    assert_eq!(read_all(&reader).await.expect("reads"), written);
    let mut writer = LogWriter::open(store, config()).await.expect("opens");
    assert!(!next.exists());
    let batch = Batch { time: source.time + 1, ..Batch::default() };
    writer.append(&batch).await.expect("appends");
    written.push(batch);
    assert_eq!(read_all(&writer.reader()).await.expect("reads"), written);
}

#[tokio::test]
async fn compaction_keeps_the_number_of_objects_bounded() {
    let store = memory_store();
    let (mut writer, mut source, mut written) = fill(&store, 4, 0, 0).await;
    for _ in 0..400 {
        written.push(source.batch(5));
        writer.append(written.last().expect("a batch")).await.expect("appends");
        writer.compactor().run_once().await.expect("compacts");
    }
    let size = writer.reader().size().await.expect("lists");
    assert!(size.objects < 20, "{size:?}");
    let found = read_all(&writer.reader()).await.expect("reads");
    assert_eq!(found.len(), written.len());
    for (found, written) in found.iter().zip(&written) {
        assert_eq!(found, written);
    }
}

#[tokio::test]
async fn dead_letters_and_late_events_are_listed_newest_first() {
    let store = memory_store();
    let (writer, _, written) = fill(&store, 21, 25, 12).await;
    let mut expected: Vec<(LogicalTime, u32, u32, DeadLetterKind)> = Vec::new();
    for batch in &written {
        let events = batch.events.iter().enumerate().filter(|(_, event)| event.late);
        expected.extend(events.map(|(row, event)| (batch.time, row as u32, event.source, DeadLetterKind::Late)));
        let first = batch.events.len();
        let letters = batch.dead_letters.iter().enumerate();
        expected.extend(letters.map(|(row, letter)| (batch.time, (first + row) as u32, letter.source, letter.kind)));
    }
    expected.reverse();
    for _ in 0..2 {
        let reader = writer.reader();
        for source in [None, Some(1)] {
            for kind in [None, Some(DeadLetterKind::Late), Some(DeadLetterKind::Invalid)] {
                let wanted = expected.iter().filter(|(_, _, s, k)| source.is_none_or(|x| x == *s) && kind.is_none_or(|x| x == *k));
                let wanted: Vec<(LogicalTime, u32)> = wanted.map(|(time, row, ..)| (*time, *row)).collect();
                let mut found = Vec::new();
                loop {
                    let page = reader.dead_letters(LetterFilter { source, kind }, found.last().copied(), 3).await.expect("lists");
                    found.extend(page.iter().map(|row| (row.time, row.row)));
                    if page.len() < 3 {
                        break;
                    }
                }
                assert_eq!(found, wanted, "{source:?} {kind:?}");
            }
        }
        let all = reader.dead_letters(LetterFilter::default(), None, 10_000).await.expect("lists");
        for row in &all {
            assert_eq!(reader.dead_letter(&row.id()).await.expect("reads").as_ref(), Some(row));
            assert_eq!(row.event.is_some(), row.letter.kind == DeadLetterKind::Late);
        }
        assert_eq!(reader.dead_letter("5-0").await.expect("reads"), None);
        writer.compactor().run_once().await.expect("compacts");
    }
}

#[tokio::test]
async fn after_an_erasure_no_object_names_the_user() {
    for seed in 0..12 {
        let (folder, store) = local();
        // Users of the shop are numbers.
        let user = "7700990077889955001";
        let mut writer = LogWriter::open(store.clone(), config()).await.expect("opens");
        let mut source = Source::new(seed);
        let mut expected = Vec::new();
        let ours = |event: &Event| event.source == 1 && event.user == user;
        let person = |id: i64| CatalogEntry::Person(Arc::new(Person { id, username: Some(format!("name of {id}").into()) }));
        for number in 0..20 {
            let mut batch = source.batch(20);
            if number % 5 == 3 {
                batch.controls.push(Control::Catalog(person(user.parse().expect("a number"))));
                batch.controls.push(Control::Catalog(person(number as i64)));
            }
            for (row, event) in batch.events.iter_mut().enumerate() {
                if (row as u64 + number).is_multiple_of(3 + seed) {
                    (event.source, event.user) = (1, user.into());
                }
            }
            if let Some(letter) = batch.dead_letters.first_mut().filter(|_| number % 2 == 0) {
                (letter.source, letter.user) = (1, user.into());
            }
            writer.append(&batch).await.expect("appends");
            batch.events.retain(|event| !ours(event));
            batch.dead_letters.retain(|letter| letter.source != 1 || letter.user != user);
            for control in &mut batch.controls {
                if matches!(control, Control::Catalog(CatalogEntry::Person(person)) if person.id.to_string() == user) {
                    *control = Control::Removed;
                }
            }
            expected.push(batch);
            if number % 7 == 6 {
                writer.compactor().run_once().await.expect("compacts");
            }
        }
        let mut erase = Batch { time: source.time + 1, ..Batch::default() };
        let record = EraseUser { source: 1, user: user.into(), requested_at: 1, sealed_minutes: Vec::new(), purged: None };
        erase.controls.push(Control::Erase(record.clone()));
        writer.append(&erase).await.expect("appends");
        let back = Batch { time: source.time + 9, events: vec![event(&mut source.random)], ..Batch::default() };
        writer.append(&back).await.expect("appends");
        let purged = Purged { applied: 7, ..Purged::default() };
        let users = [PurgeUser { source: 1, user: user.into(), until: erase.time, purged, in_catalog: true }];
        let report = writer.compactor().purge(&users).await.expect("purges");
        assert!(report.rows_removed > 0, "seed {seed}");
        erase.controls = vec![Control::Erase(EraseUser { user: "".into(), purged: Some(purged), ..record })];
        expected.extend([erase, back]);
        assert_eq!(read_all(&writer.reader()).await.expect("reads"), expected, "seed {seed}");
        assert_eq!(grep(folder.path(), user.as_bytes()), Vec::<String>::new(), "seed {seed}");
        assert!(writer.reader().verify(|_| {}).await.expect("verifies").is_clean(), "seed {seed}");
        let again = writer.compactor().purge(&users).await.expect("purges");
        assert_eq!((again.manifest, again.rows_removed), (None, 0), "once is enough");
    }
}

#[tokio::test]
async fn each_erasure_of_a_user_who_came_back_keeps_its_own_counts() {
    let store = memory_store();
    let mut writer = LogWriter::open(store, config()).await.expect("opens");
    let mut random = Random::new(1);
    for time in 1..=6 {
        let mut batch = Batch { time, ..Batch::default() };
        if time % 2 == 1 {
            batch.events.push(Event { source: 1, user: "ann".into(), ..event(&mut random) });
        } else {
            let record = EraseUser { source: 1, user: "ann".into(), requested_at: 0, sealed_minutes: Vec::new(), purged: None };
            batch.controls.push(Control::Erase(record));
        }
        writer.append(&batch).await.expect("appends");
    }
    // The erasures of 2 and 6 are carried out; the record of 4 falls under the latter, which is not its own.
    let counted = |until: LogicalTime| Purged { applied: until, ..Purged::default() };
    let user = |until| PurgeUser { source: 1, user: "ann".into(), until, purged: counted(until), in_catalog: false };
    assert_eq!(writer.compactor().purge(&[user(6), user(2)]).await.expect("purges").rows_removed, 3);
    let controls: Vec<Control> = read_all(&writer.reader()).await.expect("reads").into_iter().flat_map(|batch| batch.controls).collect();
    let purged = controls.iter().map(|control| match control {
        Control::Erase(erase) if erase.user.is_empty() => erase.purged.map(|purged| purged.applied),
        _ => None,
    });
    assert_eq!(purged.collect::<Vec<_>>(), [Some(2), Some(0), Some(6)]);
}

/// Files whose bytes, decompressed where they can be read as an object, contain the text.
fn grep(folder: &std::path::Path, text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(grep(&path, text));
            continue;
        }
        let bytes = std::fs::read(&path).expect("reads");
        let mut contains = bytes.windows(text.len()).any(|window| window == text);
        if let Ok(object) = crate::log::object::Object::parse("x", bytes.into()) {
            let mut frames = crate::log::frames::Frames::of(object).expect("reads");
            while frames.peek().is_some() {
                let mut batch = Batch::default();
                frames.read_into(&mut batch, &crate::log::frames::Skips::new()).expect("reads");
                let all = format!("{batch:?}");
                contains |= all.as_bytes().windows(text.len()).any(|window| window == text);
            }
        }
        if contains {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_reader_notices_that_an_erasure_rewrote_what_it_is_reading() {
    let store = memory_store();
    let (writer, source, _) = fill(&store, 9, 8, 20).await;
    let reader = writer.reader();
    let (mut scan, _) = crate::log::reader::begin(reader.shared.clone(), 0).await.expect("begins");
    scan.next().await.expect("reads").expect("an object");
    let users = [PurgeUser { source: 1, user: "ann".into(), until: source.time, purged: Purged::default(), in_catalog: false }];
    assert!(writer.compactor().purge(&users).await.expect("purges").rows_removed > 0);
    let error = loop {
        match scan.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the scan ended as if nothing had happened"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "log_rewritten");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_erased_device_leaves_the_records_that_brought_it_back() {
    let store = memory_store();
    let mut writer = LogWriter::open(store, config()).await.expect("opens");
    let stay = SealedStay { start: 5, end: 9, space: 3, open: false, deleted: false };
    let device = |name: &str| ReopenedDevice { device: name.into(), randomized: false, stays: vec![stay.clone()] };
    let reopen = |source, names: &[&str]| Control::Reopen(Reopen { source, devices: names.iter().map(|name| device(name)).collect() });
    for (time, control) in [(1, reopen(1, &["ann", "bob"])), (2, reopen(2, &["ann"])), (3, reopen(1, &["bob"])), (4, reopen(1, &["ann"]))] {
        writer.append(&Batch { time, controls: vec![control], ..Batch::default() }).await.expect("appends");
    }
    let users = [PurgeUser { source: 1, user: "ann".into(), until: 3, purged: Purged::default(), in_catalog: false }];
    writer.compactor().purge(&users).await.expect("purges");
    let controls: Vec<Control> = read_all(&writer.reader()).await.expect("reads").into_iter().flat_map(|batch| batch.controls).collect();
    let nobody = ReopenedDevice { device: EcoString::new(), randomized: false, stays: Vec::new() };
    let first = Control::Reopen(Reopen { source: 1, devices: vec![nobody, device("bob")] });
    assert_eq!(controls, [first, reopen(2, &["ann"]), reopen(1, &["bob"]), reopen(1, &["ann"])], "the last one came after the erasure");
}

#[tokio::test]
async fn old_sessions_leave_the_log_and_their_counts_stay() {
    let store = memory_store();
    let mut writer = LogWriter::open(store, config()).await.expect("opens");
    let mut random = Random::new(3);
    let stay = |start| SealedStay { start, end: start + 1, space: 3, open: false, deleted: false };
    let reopened = |starts: &[i64]| {
        let devices =
            vec![ReopenedDevice { device: "ann".into(), randomized: true, stays: starts.iter().map(|start| stay(*start)).collect() }];
        vec![Control::Reopen(Reopen { source: 7, devices })]
    };
    let nobody =
        |source, purged| vec![Control::Erase(EraseUser { source, user: "".into(), requested_at: 0, sealed_minutes: Vec::new(), purged })];
    let event = |random: &mut Random, source, time| Event { source, time, ..event(random) };
    let (counted, others) = (Purged { applied: 3, ..Purged::default() }, Purged { late: 9, ..Purged::default() });
    let batches = vec![
        Batch {
            time: 1,
            events: vec![event(&mut random, 7, 99), event(&mut random, 7, 100), event(&mut random, 8, 5)],
            ..Batch::default()
        },
        Batch { time: 2, controls: reopened(&[50, 100]), ..Batch::default() },
        Batch { time: 3, events: vec![event(&mut random, 7, 20)], ..Batch::default() },
        Batch { time: 4, events: vec![event(&mut random, 7, 21)], controls: nobody(7, Some(others)), ..Batch::default() },
        Batch { time: 5, controls: nobody(7, Some(Purged::default())), ..Batch::default() },
        Batch { time: 6, controls: reopened(&[50]), ..Batch::default() },
    ];
    for batch in &batches {
        writer.append(batch).await.expect("appends");
    }
    let stays = PurgeStays { source: 7, start_before: 100, until: 3, record: 5, purged: counted };
    assert_eq!(writer.compactor().purge_stays(stays.clone()).await.expect("purges").rows_removed, 2);
    let mut expected = batches;
    expected[0].events.remove(0);
    expected[1].controls = reopened(&[100]);
    expected[2].events.clear();
    expected[4].controls = nobody(7, Some(counted));
    assert_eq!(read_all(&writer.reader()).await.expect("reads"), expected);
    assert_eq!(writer.compactor().purge_stays(stays).await.expect("purges").rows_removed, 0);
    assert_eq!(read_all(&writer.reader()).await.expect("reads"), expected, "once more changes nothing");
    assert!(writer.reader().verify(|_| {}).await.expect("verifies").is_clean());
}
