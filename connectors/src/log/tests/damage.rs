//! No flipped bit and no truncation passes unnoticed, and none panics.

use super::*;
use crate::log::frames::{Frames, Skips};
use crate::log::object::{self, Object};
use bytes::Bytes;

/// Reads an object to the last row.
fn read(bytes: Vec<u8>) -> Result<Vec<Batch>, LogError> {
    let mut frames = Frames::of(Object::parse("damaged", Bytes::from(bytes))?)?;
    let mut all = Vec::new();
    while frames.peek().is_some() {
        let mut batch = Batch::default();
        frames.read_into(&mut batch, &Skips::new())?;
        all.push(batch);
    }
    Ok(all)
}

async fn objects() -> Vec<Vec<u8>> {
    let store = memory_store();
    let (writer, mut source, _) = fill(&store, 11, 5, 4).await;
    writer.compactor().run_once().await.expect("compacts");
    let part = store.list(&writer.reader().part_folder(), None).await.expect("lists").pop().expect("a part");
    let mut batch = source.batch(6);
    while batch.events.is_empty() || batch.dead_letters.is_empty() || batch.controls.is_empty() {
        batch = source.batch(6);
    }
    let (_, chunks) = object::encode_segment(&batch, 1, object::Writer::default()).expect("encodes");
    let segment = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let fence = store.get("log/0/00000000000000000001.seg").await.expect("the fence stays").to_vec();
    vec![segment, fence, store.get(&part.name).await.expect("reads").to_vec()]
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    for bytes in objects().await {
        assert!(read(bytes.clone()).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let error = read(damaged).expect_err("a flipped bit");
            assert!(matches!(error.code(), "log_damaged" | "log_version"), "byte {at}: {error}");
        }
    }
}

#[tokio::test]
async fn every_truncation_and_every_addition_is_noticed() {
    for bytes in objects().await {
        for end in 0..bytes.len() {
            assert_eq!(read(bytes[..end].to_vec()).expect_err("truncated").code(), "log_damaged", "at {end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(read(longer).expect_err("longer").code(), "log_damaged");
    }
}

#[tokio::test]
async fn random_bytes_never_panic() {
    let mut random = Random::new(99);
    for bytes in objects().await {
        for _ in 0..2_000 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(8) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] = random.next() as u8;
            }
            if damaged != bytes {
                assert!(read(damaged).is_err());
            }
        }
    }
}

#[tokio::test]
async fn verify_names_the_damaged_object_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
    let (writer, ..) = fill(&store, 2, 6, 10).await;
    let path = folder.path().join("log/0/00000000000000000003.seg");
    let mut bytes = std::fs::read(&path).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    let mut steps = 0;
    let report = writer.reader().verify(|_| steps += 1).await.expect("verifies");
    assert_eq!((report.problem_count, report.problems[0].code, steps), (1, "log_damaged", 7));
    assert!(report.problems[0].object.ends_with("3.seg"), "{report:?}");
    let error = read_all(&writer.reader()).await.expect_err("a replay stops there");
    assert!(error.to_string().contains("00000000000000000003.seg"), "{error}");
    std::fs::remove_file(&path).expect("removes");
    assert_eq!(read_all(&LogReader::open(store, 0)).await.expect_err("a hole").code(), "log_gap");
}
