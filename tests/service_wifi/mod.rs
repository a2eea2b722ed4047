//! Sealing of WiFi sessions, end to end: whatever is sealed, reopened, corrected or erased, the service answers what the slow reference
//! counts from the log.

mod erasure;
mod histories;
mod upkeep;

use super::{config, files_with, start, verified};
use desireline::service::*;
use desireline_connectors::log::LogReader;
use desireline_connectors::store::Store;
use desireline_dataflows::reference::Reference;
use desireline_records::time::{DAY, HOUR, MINUTE, now_micros};
use desireline_records::{
    Cell, CellKey, Control, Event, EventId, Horizon, Measure, Micros, Progress, SealFrom, SourceSettings, Space, SpaceId, Stay,
    WifiSession, WifiSettings,
};
use ecow::{EcoString, eco_format};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const SOURCE: u32 = 2_000;
const SPACES: SpaceId = 6;
const KEPT: [Measure; 6] =
    [Measure::Devices(900), Measure::Devices(3_600), Measure::Devices(86_400), Measure::Visits, Measure::Dwell, Measure::Moves];
/// All times, with room for sums.
const ALWAYS: (Micros, Micros) = (Micros::MIN / 2, Micros::MAX / 2);

/// A day in the past: nothing is open any more, whatever the clock says.
pub fn base() -> Micros {
    now_micros().div_euclid(DAY) * DAY - 30 * DAY
}

fn wifi_settings(horizon: Horizon) -> SourceSettings {
    SourceSettings { horizon, wifi: Some(WifiSettings::default()), ..SourceSettings::defaults(SOURCE) }
}

/// Sealed at once behind a day, reopened at once.
pub fn wifi_config(folder: &Path) -> ServiceConfig {
    let mut config = config(folder, wifi_settings(Horizon::After(DAY)));
    config.occupancy.sealing.reopen_every = Duration::from_millis(20);
    config
}

/// Neither sealed nor reopened by itself.
fn idle_config(folder: &Path) -> ServiceConfig {
    let mut config = wifi_config(folder);
    config.sealing.every = Duration::from_secs(3_600);
    config.occupancy.sealing.reopen_every = Duration::from_secs(3_600);
    config
}

/// The name of a device: none is part of another, nor of two.
pub fn device(number: u64) -> String {
    format!("{:016x}", (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

pub fn session(device: &str, space: SpaceId, start: Micros, length: Option<Micros>) -> Event {
    let stay = Stay { end: length.map(|length| start + length), space, randomized: device.ends_with('3') };
    WifiSession { source: SOURCE, device: device.into(), sensor: "ap".into(), start, stay }.into_event()
}

pub async fn send(service: &Service, events: Vec<Event>) -> Receipt {
    service.ingest(events, Vec::new()).await.expect("ingested")
}

/// A building with rooms.
pub async fn put_spaces(service: &Service) {
    let space = |space_id: SpaceId| Space {
        space_id,
        space_name: Some(eco_format!("space {space_id}")),
        parent_space_id: (space_id > 0).then_some(0),
        building_room: None,
        capacity: None,
    };
    service.put_spaces((0..SPACES).map(space).collect()).await.expect("spaces");
}

/// Days of twenty devices that wander about, some of them over midnight.
pub async fn send_days(service: &Service, from: Micros, days: i64) {
    for day in 0..days {
        let mut rows = Vec::new();
        for number in 0..20 {
            for visit in 0..5 {
                let start = from + day * DAY + visit * (4 * HOUR + 7 * MINUTE) + number as i64 * 3 * MINUTE;
                let length = (visit * 41 + number as i64 * 13) % 100 * 4 * MINUTE;
                let space = ((number as i64 + visit + day) % i64::from(SPACES)) as SpaceId;
                rows.push(session(&device(number), space, start, Some(length)));
            }
        }
        send(service, rows).await;
    }
}

/// Waits until the sealing is as it should be.
async fn until(service: &Service, what: &str, condition: impl Fn(&WifiSealingStatus) -> bool) -> WifiSealingStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = service.wifi_sealing_status();
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} did not happen: {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn until_sealed(service: &Service, before: Micros) -> WifiSealingStatus {
    until(service, "sealing", |status| status.sealed_before >= Some(before)).await
}

async fn counters(service: &Service) -> SourceCounters {
    let status = service.status().await.expect("a status");
    let source = status.sources.into_iter().find(|source| source.source_id == SOURCE).expect("the source is known");
    assert!(source.balanced, "{:?}", source.counters);
    source.counters
}

/// Waits until no row is pending.
pub async fn until_applied(service: &Service) -> SourceCounters {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let counters = counters(service).await;
        if counters.pending == 0 {
            return counters;
        }
        assert!(Instant::now() < deadline, "rows stay pending: {counters:?}, {:?}", service.wifi_sealing_status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every kept cell of the service.
async fn cells(service: &Service) -> BTreeMap<CellKey, Cell> {
    let mut cells = BTreeMap::new();
    for measure in KEPT {
        cells.extend(service.cells(None, measure, ALWAYS.0, ALWAYS.1, None).await.expect("cells").value);
    }
    cells
}

/// What the log says, counted slowly.
pub async fn reference(folder: &Path) -> Reference {
    reference_without(&[], folder).await
}

/// The same as if some devices had never been there.
async fn reference_without(devices: &[String], folder: &Path) -> Reference {
    let store = Store::open(&folder.display().to_string(), &BTreeMap::new()).expect("a store");
    'again: loop {
        let mut reference = Reference::default();
        let mut batches = LogReader::open(store.clone(), 0).batches(0, 10_000);
        while let Some(batch) = batches.next().await {
            let mut batch = match batch {
                Err(error) if error.is_retryable() => continue 'again,
                batch => batch.expect("the log can be read"),
            };
            batch.events.retain(|event| !devices.iter().any(|device| event.user == device.as_str()));
            reference.apply(&batch);
        }
        return reference;
    }
}

/// Fails with the first few cells that differ.
fn same(expected: &BTreeMap<CellKey, Cell>, found: &BTreeMap<CellKey, Cell>, context: &str) {
    let lacking: Vec<_> = expected.iter().filter(|(key, cell)| found.get(key) != Some(cell)).take(5).collect();
    let extra: Vec<_> = found.iter().filter(|(key, cell)| expected.get(key) != Some(cell)).take(5).collect();
    assert!(lacking.is_empty() && extra.is_empty(), "{context}: expected {lacking:#?}\nfound {extra:#?}");
}

/// Cells, sums over the building, and bins of a width that is not kept, against the log.
async fn compare(service: &Service, folder: &Path, context: &str) {
    let reference = reference(folder).await;
    let occupancy = reference.occupancy();
    let expected = occupancy.cells();
    assert!(!expected.is_empty(), "{context}: something is counted");
    same(&expected, &cells(service).await, context);
    compare_series(service, folder, context, &KEPT).await;
    compare_series(service, folder, context, &[Measure::Devices(7_200)]).await;
}

async fn compare_series(service: &Service, folder: &Path, context: &str, measures: &[Measure]) {
    let reference = reference(folder).await;
    let occupancy = reference.occupancy();
    let kept = occupancy.cells();
    let roots: Vec<SpaceId> = (0..SPACES).collect();
    for measure in measures {
        let expected = match measure {
            Measure::Devices(interval) if !KEPT.contains(measure) => occupancy.bins(*interval),
            _ => kept.clone(),
        };
        // Bins that are not kept are counted from few sessions at a time.
        let (from, days) = (base() - 8 * DAY, 48);
        let mut found: Vec<BTreeMap<Micros, Cell>> = vec![BTreeMap::new(); roots.len()];
        for day in (0..days).step_by(8) {
            let (from, to) = (from + day * DAY, from + (day + 8) * DAY);
            let request = SeriesRequest { roots: roots.clone(), measure: *measure, from, to, at_least: None };
            for series in service.series(request).await.expect("series").value {
                found[series.root as usize].extend(series.rows);
            }
        }
        for root in &roots {
            let mut expected = occupancy.series(&expected, *root, *measure);
            expected.retain(|_, cell| !cell.is_zero());
            assert!(found[*root as usize] == expected, "{context}: {measure:?} of space {root}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_changes_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(idle_config(folder.path())).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    compare(&service, folder.path(), "before").await;
    let before = cells(&service).await;
    service.stop().await;

    let service = start(wifi_config(folder.path())).await;
    let status = until_sealed(&service, base() + 4 * DAY).await;
    assert_eq!(
        (status.sealed_before, status.late_before),
        (Some(base() + 4 * DAY), Some(base() + 4 * DAY)),
        "whole days, behind the horizon"
    );
    assert!(status.sealed_stays > 300 && status.sealed_cells > 1_000 && status.bytes > 0, "{status:?}");
    same(&before, &cells(&service).await, "after sealing");
    compare(&service, folder.path(), "sealed").await;
    send_days(&service, base() + 6 * DAY, 3).await;
    until_sealed(&service, base() + 7 * DAY).await;
    compare(&service, folder.path(), "sealed again").await;
    service.stop().await;

    let service = start(wifi_config(folder.path())).await;
    compare(&service, folder.path(), "after a restart").await;
    assert_eq!(service.wifi_sealing_status().sealed_before, Some(base() + 7 * DAY));
    service.stop().await;
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_wait_and_then_count_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(wifi_config(folder.path())).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    let sealed = until_sealed(&service, base() + 4 * DAY).await;
    let day = base() + 2 * DAY;
    let known = session(&device(1), 3, day + 3 * MINUTE, Some(52 * MINUTE));
    let rows = vec![
        // Known already, once more; then shorter, longer, and of no length.
        known.clone(),
        session(&device(2), 4, day + 6 * MINUTE, Some(MINUTE)),
        session(&device(3), 5, day + 9 * MINUTE, Some(19 * HOUR)),
        session(&device(4), 0, day + 12 * MINUTE, Some(0)),
        // New ones, of a device that is known and of one that is not; one that stays open.
        session(&device(5), 1, day + 5 * HOUR, Some(2 * HOUR)),
        session("stranger", 2, day + 23 * HOUR, Some(3 * HOUR)),
        session(&device(6), 4, day + 3 * HOUR, None),
        session(&device(6), 4, day + 3 * HOUR, None),
    ];
    let count = rows.len() as u64;
    send(&service, rows).await;
    let counters = until_applied(&service).await;
    assert_eq!((counters.received, counters.late), (600 + count, 0));
    assert_eq!(counters.duplicate, 2, "the repeated one, and the open one once more");
    compare(&service, folder.path(), "late rows").await;
    // What they changed of sealed days goes into parts.
    let residuals = until(&service, "the flush", |status| status.cells_parts > 0 && status.seals > sealed.seals).await;
    assert_eq!(residuals.sealed_before, sealed.sealed_before);
    compare(&service, folder.path(), "flushed").await;
    // A correction of a correction, then the first end again.
    send(&service, vec![session(&device(3), 5, day + 9 * MINUTE, Some(HOUR))]).await;
    until_applied(&service).await;
    compare(&service, folder.path(), "corrected again").await;
    assert!(service.wifi_sealing_status().reopened_devices >= 7);
    service.stop().await;
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_sealed_week_by_week() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(idle_config(folder.path())).await;
    put_spaces(&service).await;
    let days = (0..26).flat_map(|day| (0..5).map(move |number| (day, number)));
    let rows =
        days.map(|(day, number)| session(&device(number), (day % 5) as SpaceId, base() + day * DAY + HOUR, Some(number as i64 * 9 * HOUR)));
    send(&service, rows.collect()).await;
    service.stop().await;
    let mut config = wifi_config(folder.path());
    config.sealing.parts_max = 64;
    let service = start(config).await;
    let status = until(&service, "sealing", |status| status.sealed_before >= Some(base() + 24 * DAY) && status.seals >= 4).await;
    assert_eq!((status.seals, status.stays_parts, status.cells_parts), (4, 4, 4), "after 7, 14, 21 and 24 days");
    compare(&service, folder.path(), "sealed").await;
    service.stop().await;
    verified(folder.path()).await;
}

/// Many devices at once are reopened one after another, without waiting for the next look at them.
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_wait_for_others_are_reopened_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.occupancy.sealing.reopen_devices_max = 1;
    config.occupancy.sealing.reopen_every = Duration::from_secs(3);
    let service = start(config).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    let begun = Instant::now();
    send(&service, (0..12).map(|number| session(&device(number), 1, base() + HOUR, Some(HOUR))).collect()).await;
    until_applied(&service).await;
    assert!(begun.elapsed() < Duration::from_secs(12), "one every three seconds would take half a minute");
    compare(&service, folder.path(), "reopened one by one").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_was_interrupted_is_carried_out_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(idle_config(folder.path())).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    // The first half of a seal: what is written between the records has no name yet.
    let boundary = base() + 4 * DAY;
    let begun = Control::SealFrom(SealFrom { source: SOURCE, boundary });
    let token = service.commit(Progress { controls: vec![begun], ..Progress::default() }).await.expect("committed");
    service.wait_applied(token, Duration::from_secs(10)).await.expect("applied");
    let orphan = (CellKey { space: 1, measure: Measure::Visits, time: base(), other: 0 }, Cell { count: 1_000, ..Cell::ZERO });
    let store = Store::open(&folder.path().display().to_string(), &BTreeMap::new()).expect("a store");
    let orphans = desireline_connectors::cold::write_cells(&store, SOURCE, vec![orphan]).await.expect("written");
    send(&service, vec![session(&device(1), 1, base() + DAY + 9 * HOUR, Some(HOUR)), session("new", 1, base() + HOUR, Some(DAY))]).await;
    assert_eq!(counters(&service).await.pending, 2, "they are late from the first record on");
    service.stop().await;

    let service = start(idle_config(folder.path())).await;
    assert_eq!(counters(&service).await.pending, 2);
    assert_eq!(service.wifi_sealing_status().late_before, Some(boundary));
    service.stop().await;
    let service = start(wifi_config(folder.path())).await;
    let status = until_sealed(&service, boundary).await;
    assert_eq!(status.sealed_before, Some(boundary));
    until_applied(&service).await;
    compare(&service, folder.path(), "carried out").await;
    service.stop().await;
    assert!(!folder.path().join(orphans[0].name.as_str()).exists(), "parts that nothing names are deleted");
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_horizon_nothing_is_sealed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = wifi_config(folder.path());
    config.sources = vec![("wifi".to_owned(), wifi_settings(Horizon::Off))];
    let service = start(config).await;
    put_spaces(&service).await;
    send_days(&service, base(), 6).await;
    send(&service, vec![session(&device(1), 1, base() - DAY, Some(HOUR))]).await;
    assert_eq!(counters(&service).await.pending, 0);
    compare(&service, folder.path(), "in memory").await;
    assert_eq!(service.wifi_sealing_status().sealed_before, None);
    service.stop().await;
}
