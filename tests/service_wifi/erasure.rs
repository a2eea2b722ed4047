//! Erasure of devices whose sessions are sealed: as if they had never been there.

use super::*;

/// Waits until nothing is left to be erased.
async fn until_erased(service: &Service) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !service.status().await.expect("a status").erasures.is_empty() {
        assert!(Instant::now() < deadline, "the erasure is still pending");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The answers of a service that never met these devices.
async fn cells_without(devices: &[String], folder: &Path) -> BTreeMap<CellKey, Cell> {
    reference_without(devices, folder).await.occupancy().cells()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_device_leaves_no_trace_in_numbers_or_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.compaction.every = Duration::from_secs(3_600);
    let service = start(config.clone()).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    // Late rows: the log has records that bring back its sealed sessions.
    send(&service, vec![session(&device(7), 1, base() + 5 * HOUR, Some(HOUR)), session(&device(8), 1, base() + 5 * HOUR, Some(HOUR))])
        .await;
    until_applied(&service).await;
    let before = counters(&service).await;
    let expected = cells_without(&[device(7), device(13)], folder.path()).await;
    assert!(!files_with(folder.path(), &device(8)).is_empty(), "records can be searched");

    let devices: Vec<EcoString> = vec![device(7).into(), device(13).into(), "nobody".into()];
    let (_, runs) = service.erase_device(SOURCE, &devices).await.expect("erased");
    assert_eq!(runs.len(), 2, "{runs:?}");
    same(&expected, &cells(&service).await, "at once");
    let nobody = service.erase_device(SOURCE, &["nobody".into()]).await;
    assert!(matches!(nobody, Err(ServiceError::NotFound(_))), "{nobody:?}");
    until_erased(&service).await;
    same(&expected, &cells(&service).await, "after the log was rewritten");
    compare_series(&service, folder.path(), "erased", &[Measure::Devices(7_200), Measure::Devices(3_600)]).await;
    let after = counters(&service).await;
    assert_eq!(
        (after.received, after.applied, after.duplicate),
        (before.received, before.applied, before.duplicate),
        "nothing is lost count of"
    );
    assert!(after.deleted >= 61, "{after:?}");
    service.stop().await;
    for name in [device(7), device(13)] {
        assert_eq!(files_with(folder.path(), &name), Vec::<String>::new(), "{name}");
    }

    let service = start(config).await;
    same(&expected, &cells(&service).await, "after a restart");
    assert_eq!(counters(&service).await, after);
    let gone = service.erase_user(SOURCE, &device(7)).await;
    assert!(matches!(gone, Err(ServiceError::NotFound(_))), "{gone:?}");
    // It comes back as a stranger.
    send(&service, vec![session(&device(7), 1, base() + 6 * HOUR, Some(HOUR)), session(&device(7), 1, base() + 6 * DAY, Some(HOUR))]).await;
    until_applied(&service).await;
    compare(&service, folder.path(), "back again").await;
    service.stop().await;
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_taken_up_again_after_a_restart_in_the_middle() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(wifi_config(folder.path())).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    service.stop().await;
    let expected = cells_without(&[device(7)], folder.path()).await;
    // The device is reopened and the log says that it is erased, but what that takes back of sealed cells lies in memory only.
    let mut unsealed = idle_config(folder.path());
    unsealed.occupancy.sealing.reopen_every = Duration::from_millis(20);
    unsealed.compaction.every = Duration::from_secs(3_600);
    let service = start(unsealed.clone()).await;
    send(&service, vec![session(&device(7), 1, base() + 5 * HOUR, Some(HOUR))]).await;
    until_applied(&service).await;
    let (user, requested_at) = (device(7).into(), now_micros());
    let erase = desireline_records::EraseUser { source: SOURCE, user, requested_at, sealed_minutes: Vec::new(), purged: None };
    let token = service.commit(Progress { controls: vec![Control::Erase(erase)], ..Progress::default() }).await.expect("committed");
    service.wait_applied(token, Duration::from_secs(10)).await.expect("applied");
    same(&expected, &cells(&service).await, "at once");
    let before = counters(&service).await;
    service.stop().await;
    assert!(!files_with(folder.path(), &device(7)).is_empty());

    unsealed.compaction.every = Duration::from_millis(100);
    let service = start(unsealed.clone()).await;
    until_erased(&service).await;
    same(&expected, &cells(&service).await, "taken up again");
    assert_eq!(counters(&service).await, before);
    service.stop().await;
    assert_eq!(files_with(folder.path(), &device(7)), Vec::<String>::new());
    let service = start(unsealed).await;
    same(&expected, &cells(&service).await, "after another restart");
    assert_eq!(counters(&service).await, before);
    service.stop().await;
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_pending_rows_only_can_be_erased() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.occupancy.sealing.reopen_every = Duration::from_secs(3_600);
    let service = start(config).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    let expected = cells(&service).await;
    send(&service, vec![session("late-comer", 1, base() + HOUR, Some(HOUR))]).await;
    assert_eq!(counters(&service).await.pending, 1);
    service.erase_user(SOURCE, "late-comer").await.expect("erased");
    assert_eq!(counters(&service).await.pending, 0);
    same(&expected, &cells(&service).await, "as before");
    until_erased(&service).await;
    service.stop().await;
    assert_eq!(files_with(folder.path(), "late-comer"), Vec::<String>::new());
    verified(folder.path()).await;
}
