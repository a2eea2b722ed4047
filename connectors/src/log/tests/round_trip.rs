//! What goes in comes out: through a segment, through compaction, through merging.

use super::*;
use crate::log::{PurgeUser, object};
use bytes::Bytes;
use desireline_records::Purged;
use futures::StreamExt;

#[tokio::test]
async fn random_batches_come_back_exactly_before_and_after_compaction() {
    for seed in 0..40 {
        let store = memory_store();
        let (mut writer, mut source, mut written) = fill(&store, seed, 12, 20).await;
        assert_eq!(read_all(&writer.reader()).await.expect("reads"), written, "seed {seed}");
        let report = writer.compactor().run_once().await.expect("compacts");
        assert_eq!(report.manifest, Some(1), "seed {seed}");
        assert!(report.objects_deleted >= 12, "seed {seed}: {report:?}");
        assert_eq!(read_all(&writer.reader()).await.expect("reads"), written, "seed {seed}");
        for _ in 0..5 {
            written.push(source.batch(20));
            writer.append(written.last().expect("a batch")).await.expect("appends");
        }
        assert_eq!(read_all(&LogReader::open(store.clone(), 0)).await.expect("reads"), written, "seed {seed}");
        writer.compactor().run_once().await.expect("compacts");
        assert_eq!(read_all(&writer.reader()).await.expect("reads"), written, "seed {seed}");
        assert!(writer.reader().verify(|_| {}).await.expect("verifies").is_clean(), "seed {seed}");
        // A start in the middle hands out exactly the later ones.
        let middle = written[written.len() / 2].time;
        let later: Vec<Batch> = writer.reader().batches(middle, 0).try_collect().await.expect("reads");
        assert_eq!(later, written[written.len() / 2 + 1..], "seed {seed}");
    }
}

/// Merges as the documentation says, the slow way.
fn merged(batches: &[Batch], rows_max: usize) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &batches[index]);
        let fits = all.last().is_some_and(|last| last.len() + batch.len() <= rows_max);
        match all.last_mut() {
            Some(last) if fits && batch.controls.is_empty() && previous.is_some_and(|p| p.controls.is_empty()) => {
                last.time = batch.time;
                last.events.extend(batch.events.clone());
                last.dead_letters.extend(batch.dead_letters.clone());
                for position in &batch.positions {
                    match last.positions.iter_mut().find(|p| p.source == position.source && p.partition == position.partition) {
                        Some(known) => (known.after, known.max_time) = (position.after, position.max_time),
                        None => last.positions.push(position.clone()),
                    }
                }
                for (source, watermark) in &batch.watermarks {
                    last.watermarks.retain(|(known, _)| known != source);
                    last.watermarks.push((*source, *watermark));
                }
                last.tick = batch.tick.or(last.tick);
            }
            _ => all.push(batch.clone()),
        }
    }
    all.iter_mut().for_each(|batch| batch.watermarks.sort_unstable());
    all
}

#[tokio::test]
async fn merging_joins_rows_and_progress_and_stops_at_controls() {
    for seed in 100..120 {
        let store = memory_store();
        let (writer, _, written) = fill(&store, seed, 30, 10).await;
        for rows_max in [1, 25, 1_000_000] {
            let expected = merged(&written, rows_max);
            for compacted in [false, true] {
                if compacted {
                    writer.compactor().run_once().await.expect("compacts");
                }
                let mut found: Vec<Batch> = writer.reader().batches(0, rows_max).try_collect().await.expect("reads");
                found.iter_mut().for_each(|batch| batch.watermarks.sort_unstable());
                assert_eq!(found, expected, "seed {seed}, {rows_max} rows, compacted: {compacted}");
            }
        }
    }
}

#[tokio::test]
async fn a_fence_between_two_batches_keeps_them_apart() {
    let store = memory_store();
    let (writer, mut source, _) = fill(&store, 1, 0, 0).await;
    drop(writer);
    let mut times = Vec::new();
    for _ in 0..2 {
        let mut writer = LogWriter::open(store.clone(), config()).await.expect("opens");
        for _ in 0..2 {
            let mut batch = source.batch(3);
            batch.controls.clear();
            times.push(batch.time);
            writer.append(&batch).await.expect("appends");
        }
    }
    let reader = LogReader::open(store, 0);
    let found: Vec<Batch> = reader.batches(0, 1_000).try_collect().await.expect("reads");
    assert_eq!(found.iter().map(|batch| batch.time).collect::<Vec<_>>(), [times[1], times[3]]);
}

#[tokio::test]
async fn blocks_of_many_rows_are_split_and_joined() {
    let mut random = Random::new(7);
    let events: Vec<Event> = (0..70_000).map(|_| event(&mut random)).collect();
    let batch = Batch { time: 9, events, ..Batch::default() };
    let (header, chunks) = object::encode_segment(&batch, 1, object::Writer::default()).expect("encodes");
    assert_eq!(header.sections.len(), 0, "sections are named in the bytes");
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let parsed = object::Object::parse("x", Bytes::from(bytes)).expect("parses");
    assert_eq!(parsed.header.sections.iter().map(|s| s.rows).collect::<Vec<_>>(), [65_536, 4_464]);
    let store = memory_store();
    let mut writer =
        LogWriter::open(store, LogConfig { compaction: CompactionLimits { segments_min: 1, part_bytes_max: 1 << 30 }, ..config() })
            .await
            .expect("opens");
    writer.append(&batch).await.expect("appends");
    let second = Batch { time: 10, events: batch.events[..100].to_vec(), ..Batch::default() };
    writer.append(&second).await.expect("appends");
    for _ in 0..2 {
        assert!(read_all(&writer.reader()).await.expect("reads") == [batch.clone(), second.clone()]);
        writer.compactor().run_once().await.expect("compacts");
    }
}

#[tokio::test]
async fn a_user_is_found_with_the_time_of_each_row() {
    for seed in 0..10 {
        let store = memory_store();
        let (writer, _, written) = fill(&store, seed, 20, 30).await;
        let expected: Vec<(LogicalTime, Event)> = written
            .iter()
            .flat_map(|batch| batch.events.iter().map(|event| (batch.time, event.clone())))
            .filter(|(_, event)| event.source == 1 && event.user == "ann")
            .collect();
        assert!(!expected.is_empty());
        for _ in 0..2 {
            let found: Vec<Vec<_>> = writer.reader().rows_of_user(1, "ann".into()).try_collect().await.expect("reads");
            assert_eq!(found.concat(), expected, "seed {seed}");
            writer.compactor().run_once().await.expect("compacts");
        }
    }
}

#[tokio::test]
async fn a_skipped_row_is_left_out_wherever_it_lies() {
    let store = memory_store();
    let (mut writer, mut source, mut written) = fill(&store, 3, 6, 10).await;
    let victim = written.iter().position(|batch| batch.events.len() > 2).expect("a batch with rows");
    let time = written[victim].time;
    let letters = written.iter().position(|batch| !batch.dead_letters.is_empty()).expect("a batch with dead letters");
    let row = written[letters].events.len() as u32;
    let skip = vec![Control::SkipRow { time, row: 1 }, Control::SkipRow { time: written[letters].time, row }];
    let mut batch = source.batch(2);
    batch.controls = skip;
    writer.append(&batch).await.expect("appends");
    written.push(batch);
    written[letters].dead_letters.remove(0);
    written[victim].events.remove(1);
    for _ in 0..3 {
        assert_eq!(read_all(&writer.reader()).await.expect("reads"), written);
        writer.compactor().run_once().await.expect("compacts");
    }
    let users = [PurgeUser { source: 0, user: "ann".into(), until: source.time, purged: Purged::default(), in_catalog: false }];
    writer.compactor().purge(&users).await.expect("purges");
    for batch in &mut written {
        batch.events.retain(|event| event.source != 0 || event.user != "ann");
        batch.dead_letters.retain(|letter| letter.source != 0 || letter.user != "ann");
        for control in &mut batch.controls {
            if let Control::Erase(erase) = control
                && erase.source == 0
                && erase.user == "ann"
            {
                (erase.user, erase.purged) = (EcoString::new(), Some(Purged::default()));
            }
        }
    }
    assert_eq!(read_all(&writer.reader()).await.expect("reads"), written);
}

#[tokio::test]
async fn a_dropped_reader_stops_its_replay() {
    let store = memory_store();
    let (writer, ..) = fill(&store, 5, 50, 10).await;
    let mut stream = writer.reader().batches(0, 0);
    assert!(stream.next().await.expect("a batch").is_ok());
    drop(stream);
    assert_eq!(read_all(&writer.reader()).await.expect("reads").len(), 50);
}
