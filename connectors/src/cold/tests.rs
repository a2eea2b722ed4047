//! Cold parts against plain vectors.

use super::rows::ColdRow;
use super::*;
use crate::store::{Store, StoreLimits};
use desireline_records::{ColdPart, EventId, user_hash};
use ecow::{EcoString, eco_format};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore};
use object_store::{PutMultipartOptions, PutOptions, PutPayload, PutResult};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn session(source: u32, user: u32, number: i64) -> ColdSession {
    let name = eco_format!("user{user}");
    let start = 1_700_000_000_000_000 + number * 1_000_000_000 + i64::from(user);
    ColdSession {
        source,
        key_hash: user_hash(source, &name),
        user: name,
        start,
        end: start + 5_000_000,
        first_event: EventId([u64::from(user), number as u64]),
        event_count: 7,
        views: 4,
        carts: 2,
        transactions: 1,
        value: if user == 3 { -170_000_000_000_000_000_000_000 } else { i128::from(number) * 12_345 },
        exported_at: 100 + number as u64,
    }
}

fn local() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("opens");
    (folder, store)
}

fn sorted(mut rows: Vec<ColdSession>) -> Vec<ColdSession> {
    rows.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    rows
}

/// Sessions of 200 users in four parts.
async fn parts(store: &Store) -> (Vec<ColdSession>, Vec<ColdPart>) {
    let mut all = Vec::new();
    let mut parts = Vec::new();
    for part in 0..4 {
        let rows: Vec<ColdSession> = (0..200).flat_map(|user| (0..3).map(move |n| session(1, user, part * 3 + n))).collect();
        all.extend(rows.clone());
        parts.push(write_part(store, 1, rows).await.expect("writes"));
    }
    (sorted(all), parts)
}

#[tokio::test]
async fn one_user_is_read_back_exactly() {
    let (_folder, store) = local();
    let (all, parts) = parts(&store).await;
    for user in [0, 3, 77, 199] {
        let name = eco_format!("user{user}");
        let expected: Vec<ColdSession> = all.iter().filter(|row| row.user == name).cloned().collect();
        let found = read_user(&store, &parts, 1, user_hash(1, &name), &name, 0).await.expect("reads");
        assert_eq!(found, expected);
        assert!(found.is_sorted_by_key(|row| row.start));
        let later: Vec<ColdSession> = expected.into_iter().filter(|row| row.exported_at > 104).collect();
        assert_eq!(read_user(&store, &parts, 1, user_hash(1, &name), &name, 104).await.expect("reads"), later);
    }
    assert!(read_user(&store, &parts, 1, user_hash(1, "nobody"), "nobody", 0).await.expect("reads").is_empty());
    let hash = user_hash(1, "user5");
    assert!(read_user(&store, &parts, 1, hash, "another with the same hash", 0).await.expect("reads").is_empty());
}

#[tokio::test]
async fn the_same_rows_are_the_same_object() {
    let (_folder, store) = local();
    let rows: Vec<ColdSession> = (0..50).map(|user| session(1, user, 0)).collect();
    let part = write_part(&store, 1, rows.clone()).await.expect("writes");
    let reversed = rows.iter().rev().cloned().collect();
    assert_eq!(write_part(&store, 1, reversed).await.expect("writes"), part);
    let listed = store.list("cold/sessions/1", None).await.expect("lists");
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].bytes), (1, part.name.as_str(), part.bytes));
    assert_eq!((part.rows, part.time_min, part.time_max), (50, rows[0].start, rows[49].end));
    assert_eq!(part.hash_min, rows.iter().map(|row| row.key_hash).min().expect("rows"));
    assert_eq!(part.hash_max, rows.iter().map(|row| row.key_hash).max().expect("rows"));
    assert_eq!(write_part(&store, 1, Vec::new()).await.expect_err("no rows").code(), "cold_empty");
}

#[tokio::test]
async fn a_range_is_merged_and_never_cuts_a_key_hash() {
    let (_folder, store) = local();
    let (all, parts) = parts(&store).await;
    assert_eq!(read_range(&store, &parts, 0, u64::MAX, usize::MAX).await.expect("reads"), all);
    // Page by page, the listing is complete and has no row twice.
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let page = read_range(&store, &parts, from, u64::MAX, 100).await.expect("reads");
        assert!(page.len() <= 100 + 12);
        let Some(last) = page.last() else { break };
        from = last.key_hash + 1;
        found.extend(page);
    }
    assert_eq!(found, all);
    let (low, high) = (all[300].key_hash, all[900].key_hash);
    let expected: Vec<ColdSession> = all.iter().filter(|row| (low..=high).contains(&row.key_hash)).cloned().collect();
    assert_eq!(read_range(&store, &parts, low, high, usize::MAX).await.expect("reads"), expected);
}

#[tokio::test]
async fn merging_keeps_every_row_but_those_of_the_dropped() {
    let (_folder, store) = local();
    let (all, parts) = parts(&store).await;
    let merged = merge_parts(&store, 1, &parts, None).await.expect("merges");
    assert_eq!((merged.len(), merged[0].rows), (1, all.len() as u64));
    assert_eq!(read_range(&store, &merged, 0, u64::MAX, usize::MAX).await.expect("reads"), all);
    assert_eq!(merge_parts(&store, 1, &merged, None).await.expect("merges"), merged, "merging one part gives itself");
    let drops: Vec<(u64, EcoString, u64)> =
        vec![(user_hash(1, "user5"), "user5".into(), u64::MAX), (user_hash(1, "user6"), "user6".into(), 103)];
    let dropped = merge_parts(&store, 1, &merged, Some(&drops)).await.expect("merges");
    let kept: Vec<ColdSession> =
        all.iter().filter(|row| row.user != "user5" && (row.user != "user6" || row.exported_at > 103)).cloned().collect();
    assert_eq!(kept.len(), all.len() - 12 - 4);
    assert_eq!(read_range(&store, &dropped, 0, u64::MAX, usize::MAX).await.expect("reads"), kept);
    let everybody: Vec<(u64, EcoString, u64)> = all.iter().map(|row| (row.key_hash, row.user.clone(), u64::MAX)).collect();
    assert!(merge_parts(&store, 1, &dropped, Some(&everybody)).await.expect("merges").is_empty());
}

#[tokio::test]
async fn damage_is_an_error_and_never_a_panic() {
    let (folder, store) = local();
    let rows: Vec<ColdSession> = (0..30).map(|user| session(1, user, 0)).collect();
    let part = write_part(&store, 1, rows.clone()).await.expect("writes");
    let bytes = std::fs::read(folder.path().join(part.name.as_str())).expect("reads");
    for end in (0..bytes.len()).step_by(37) {
        let store = Store::from_objects(Arc::new(InMemory::new()), StoreLimits::default(), false);
        store.put_if_absent(&part.name, vec![bytes[..end].to_vec().into()]).await.expect("puts");
        // Footers are cached by store and name; a torn object must not hide behind a good one's footer.
        let torn = ColdPart { name: part.name.clone(), ..part.clone() };
        let error = read_range(&store, &[torn], 0, u64::MAX, 100).await;
        assert!(error.is_err() || error.is_ok_and(|found| found == sorted(rows.clone())), "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let store = Store::from_objects(Arc::new(InMemory::new()), StoreLimits::default(), false);
        store.put_if_absent(&part.name, vec![flipped.into()]).await.expect("puts");
        let error = read_range(&store, std::slice::from_ref(&part), 0, u64::MAX, 100).await.expect_err("a flipped bit is never answered");
        assert!(matches!(&error, ColdError::Damaged { object, .. } if *object == part.name), "byte {at}: {error}");
        assert_eq!(verify_all(&store).await.expect("reads"), (1, vec![part.name.to_string()]));
    }
    assert_eq!(verify_all(&store).await.expect("reads"), (1, vec![]));
    store.delete(&part.name).await.expect("deletes");
    let missing = ColdPart { name: "cold/sessions/1/missing.parquet".into(), ..part };
    assert_eq!(read_range(&store, &[missing], 0, u64::MAX, 100).await.expect_err("missing").code(), "store_not_found");
}

/// Counts the bytes that are read.
#[derive(Debug)]
struct Counting(InMemory, Arc<AtomicU64>);

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.0.put_opts(path, payload, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let found = self.0.get_opts(path, options).await?;
        self.1.fetch_add(found.range.end - found.range.start, Ordering::Relaxed);
        Ok(found)
    }
    /// As the local store does it: exactly the ranges.
    async fn get_ranges(&self, path: &Path, ranges: &[std::ops::Range<u64>]) -> object_store::Result<Vec<bytes::Bytes>> {
        let mut found = Vec::new();
        for range in ranges {
            let options = GetOptions { range: Some(object_store::GetRange::Bounded(range.clone())), ..GetOptions::default() };
            found.push(self.get_opts(path, options).await?.bytes().await?);
        }
        Ok(found)
    }
    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_point_read_touches_few_bytes() {
    let read = Arc::new(AtomicU64::new(0));
    let store = Store::from_objects(Arc::new(Counting(InMemory::new(), read.clone())), StoreLimits::default(), false);
    let rows: Vec<ColdSession> = (0..50_000).map(|user| session(1, user, 0)).collect();
    let part = write_part(&store, 1, rows).await.expect("writes");
    let hash = user_hash(1, "user777");
    assert_eq!(read_user(&store, std::slice::from_ref(&part), 1, hash, "user777", 0).await.expect("reads").len(), 1);
    let first = read.swap(0, Ordering::Relaxed);
    assert_eq!(read_user(&store, std::slice::from_ref(&part), 1, hash, "user777", 0).await.expect("reads").len(), 1);
    let second = read.load(Ordering::Relaxed);
    assert!(second < first, "the footer is cached: {first} bytes, then {second}");
    assert!(second < part.bytes / 20, "{second} of {} bytes", part.bytes);
}
