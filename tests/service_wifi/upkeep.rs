//! Retention, merging, and memory on an endless stream.

use super::*;
use desireline_connectors::cold;

fn stays_in(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("cold/stays/2000")).map_or(0, |entries| entries.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_sessions_and_keeps_what_was_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    let service = start(config.clone()).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    let before = cells(&service).await;
    let sessions = service.wifi_sealing_status().sealed_stays;
    service.stop().await;

    let now = now_micros();
    config.occupancy.sealing.retention = Some(now - (base() + 2 * DAY + HOUR));
    let service = start(config.clone()).await;
    let status = until(&service, "retention", |status| status.retained_from.is_some()).await;
    let from = status.retained_from.expect("just seen");
    assert!([base() + 2 * DAY, base() + 3 * DAY].contains(&from), "whole days");
    assert!(status.sealed_stays < sessions && status.sealed_stays > 0, "{status:?}");
    same(&before, &cells(&service).await, "what was counted stays");
    // A session of a day that is gone, in a device that comes back: it hides and leaves no trace in the parts.
    send(&service, vec![session(&device(1), 1, base() + HOUR, Some(MINUTE))]).await;
    until_applied(&service).await;
    let flushed = until(&service, "the flush", |now| now.seals > 0).await;
    assert_eq!(flushed.retained_from, Some(from));
    let counted = cells(&service).await;
    service.stop().await;

    let service = start(config).await;
    same(&counted, &cells(&service).await, "after a restart");
    service.stop().await;
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a store");
    let names = store.list("cold/stays", None).await.expect("a list");
    assert!(!names.is_empty());
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_parts_are_bounded_on_an_endless_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.sealing.parts_max = 3;
    let service = start(config).await;
    put_spaces(&service).await;
    let mut largest = 0;
    for day in 0..24 {
        send_days(&service, base() + day * DAY, 1).await;
        if day >= 3 {
            // A late row now and then.
            send(&service, vec![session(&device(2), 1, base() + (day - 3) * DAY + HOUR, Some(MINUTE))]).await;
            until_sealed(&service, base() + (day - 2) * DAY).await;
            until_applied(&service).await;
        }
        largest = largest.max(service.wifi_memory().await.expect("gauges").stays);
    }
    until(&service, "merging", |status| status.stays_parts <= 3 && status.cells_parts <= 3).await;
    let status = until(&service, "the last flush", |status| status.sealed_stays >= 2_000).await;
    assert!(status.sealed_stays < 3_000, "merging keeps one version: {status:?}");
    assert!(largest < 700, "{largest} sessions in memory");
    compare(&service, folder.path(), "in the end").await;
    service.stop().await;
    assert!(stays_in(folder.path()) > 0);
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a store");
    assert_eq!(cold::verify_all(&store).await.expect("read").1, Vec::<String>::new(), "no part is damaged");
    verified(folder.path()).await;
}
