//! Retention, merging, and memory on an endless stream.

use super::*;
use desireline_connectors::cold;

fn stays_in(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("cold/stays/2000")).map_or(0, |entries| entries.count())
}

/// The rows of the log, and the sessions of records that brought some back, that began before a time.
async fn older_than(folder: &Path, before: Micros) -> usize {
    let store = Store::open(&folder.display().to_string(), &BTreeMap::new()).expect("a store");
    'again: loop {
        let mut batches = LogReader::open(store.clone(), 0).batches(0, 10_000);
        let mut found = 0;
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Err(error) if error.is_retryable() => continue 'again,
                batch => batch.expect("the log can be read"),
            };
            found += batch.events.iter().filter(|event| event.time < before).count();
            for control in batch.controls {
                let Control::Reopen(reopen) = control else { continue };
                found += reopen.devices.iter().flat_map(|device| &device.stays).filter(|stay| stay.start < before).count();
            }
        }
        return found;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_sessions_and_keeps_what_was_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.wifi_ingest.max_session = DAY;
    let service = start(config.clone()).await;
    put_spaces(&service).await;
    send_days(&service, base(), 8).await;
    until_sealed(&service, base() + 6 * DAY).await;
    send(&service, vec![session(&device(2), 1, base() + 5 * HOUR, Some(MINUTE)), session(&device(3), 1, base() + 5 * HOUR, None)]).await;
    until_applied(&service).await;
    let (before, counted) = (cells(&service).await, counters(&service).await);
    let sessions = service.wifi_sealing_status().sealed_stays;
    service.stop().await;
    assert!(older_than(folder.path(), base() + 2 * DAY).await > 200);

    config.occupancy.sealing.retention = Some(now_micros() - (base() + 4 * DAY + HOUR));
    let service = start(config.clone()).await;
    let status = until(&service, "retention", |status| status.retained_from.is_some()).await;
    let from = status.retained_from.expect("just seen");
    assert!([base() + 4 * DAY, base() + 5 * DAY].contains(&from), "whole days");
    assert!(status.sealed_stays < sessions && status.sealed_stays > 0, "{status:?}");
    same(&before, &cells(&service).await, "what was counted stays");
    // The log follows, by the length of a session later.
    let deadline = Instant::now() + Duration::from_secs(30);
    while older_than(folder.path(), from - DAY).await > 0 {
        assert!(Instant::now() < deadline, "old rows stay in the log");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(older_than(folder.path(), from).await > 50, "the others stay");
    same(&before, &cells(&service).await, "what was counted still stays");
    assert_eq!(counters(&service).await, counted);
    service.stop().await;

    let service = start(config).await;
    same(&before, &cells(&service).await, "after a restart");
    assert_eq!(counters(&service).await, counted);
    // A session of a day that is gone is not kept any longer than until it is sealed.
    send(&service, vec![session(&device(1), 1, base() + HOUR, Some(MINUTE))]).await;
    until_applied(&service).await;
    let seals = service.wifi_sealing_status().seals;
    until(&service, "the flush", |status| status.seals > seals).await;
    service.stop().await;
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
        largest = largest.max(service.status().await.expect("a status").wifi.memory.stays);
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
