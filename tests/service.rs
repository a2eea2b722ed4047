//! The service without HTTP: sealing, erasure, training and restarts on a log in a temporary folder.

#[path = "../dataflows/tests/histories/random.rs"]
mod random;
mod service_live;
mod service_wifi;

use desireline::service::*;
use desireline::verify::{self, Local};
use desireline_connectors::log::LogReader;
use desireline_connectors::store::Store;
use desireline_records::time::{DAY, HOUR, MINUTE, now_micros};
use desireline_records::words::Words;
use desireline_records::{Event, EventExtra, EventId, Fixed4, Horizon, Micros, Movement, SourceSettings};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

fn config(folder: &Path, settings: SourceSettings) -> ServiceConfig {
    ServiceConfig {
        store_url: folder.display().to_string(),
        store_options: BTreeMap::new(),
        workers: 2,
        commit: CommitConfig {
            rows_max: 5_000,
            age_max: Duration::from_millis(1),
            queue_rows_max: 100_000,
            tick_every: Duration::from_millis(100),
            idle_after: Duration::from_secs(5),
        },
        source_defaults: SourceSettings::defaults(0),
        sources: vec![("shop".to_owned(), settings)],
        implied: Vec::new(),
        words: Words::default(),
        max_future: 5 * MINUTE,
        wifi_ingest: WifiIngestConfig { source: 2_000, max_session: 31 * DAY, strict_mac: false, key_file: None, required: false },
        clusters: ClusterConfig {
            seed: 24,
            sample_max: 10_000,
            min_interval: Duration::from_secs(3_600),
            min_changed: 0.1,
            min_shift: 1e-6,
        },
        sealing: SealingConfig { every: Duration::from_millis(50), parts_max: 2 },
        compaction: CompactionConfig { every: Duration::from_millis(200), segments_min: 8, part_bytes_max: 1 << 20 },
        erasure_deadline: Duration::from_secs(3_600),
        peek_rows_max: 10_000,
        peek_deadline: Duration::from_secs(10),
        max_open_events: 100_000,
        occupancy: OccupancyConfig::default(),
    }
}

fn sealing_settings() -> SourceSettings {
    SourceSettings { horizon: Horizon::After(2 * HOUR), lateness: HOUR, ..SourceSettings::defaults(1) }
}

async fn start(config: ServiceConfig) -> Service {
    let service = Service::start(config).await.expect("the service starts");
    service.wait_ready().await.expect("the log is replayed");
    service
}

fn event(user: &str, id: &str, time: Micros, word: (&str, Movement)) -> Event {
    Event {
        source: 1,
        movement: word.1,
        late: false,
        time,
        id: EventId::explicit(id),
        value: Fixed4(if word.1 == Movement::Transaction { 125_000 } else { 0 }),
        user: user.into(),
        event_type: word.0.into(),
        page: "/p".into(),
        item: "".into(),
        extra: Some(Box::new(EventExtra { event_id: id.into(), ..EventExtra::default() })),
        stay: None,
    }
}

const VIEW: (&str, Movement) = ("view", Movement::View);
const BUY: (&str, Movement) = ("transaction", Movement::Transaction);

/// Waits for a condition on the status of source 1.
async fn until(service: &Service, what: &str, condition: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = service.status().await.expect("a status");
        let source = status.sources.into_iter().find(|s| s.source_id == 1).expect("source 1 is known");
        if condition(&source) {
            return source;
        }
        assert!(Instant::now() < deadline, "{what} did not happen: {source:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ten hours of twenty users, one event every 7 minutes each, in order.
async fn ten_hours(service: &Service, base: Micros) {
    let mut number = 0;
    for step in 0..86 {
        let rows = (0..20).map(|user| {
            number += 1;
            let word = if number % 11 == 0 { BUY } else { VIEW };
            // Pauses between sessions, different for every user.
            let pause = if (step + user) % 5 == 0 { 4 * MINUTE } else { 0 };
            event(&format!("user-{user}"), &format!("e{number}"), base + step * 7 * MINUTE + pause, word)
        });
        service.ingest(rows.collect(), Vec::new()).await.expect("ingested");
    }
}

async fn all_sessions(service: &Service) -> Vec<SessionRow> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = service.sessions(SessionsQuery { limit: 37, cursor, ..SessionsQuery::default() }).await.expect("sessions").value;
        rows.extend(page.rows);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return rows;
        }
    }
}

/// The views of the log in a folder, against the slow reference.
async fn verified(folder: &Path) -> verify::Report {
    let store = Store::open(&folder.display().to_string(), &BTreeMap::new()).expect("a store");
    let reader = LogReader::open(store.clone(), 0);
    let mut local = Local::new(reader.clone(), store, 2).expect("an engine");
    let report = verify::verify(&reader, &mut local, 3, 10, |_| {}).await.expect("verified");
    assert_eq!(report.difference_count, 0, "{:#?}", report.differences);
    report
}

/// Everything under a folder that contains the text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes.windows(text.len()).any(|window| window == text.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_sessions_answer_like_open_ones_and_late_rows_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = now_micros() - 12 * HOUR;
    // The same rows without sealing are the expected answer.
    let plain_folder = tempfile::tempdir().expect("a folder");
    let plain = start(config(plain_folder.path(), SourceSettings::defaults(1))).await;
    ten_hours(&plain, base).await;
    let expected = all_sessions(&plain).await;
    plain.stop().await;

    let service = start(config(folder.path(), sealing_settings())).await;
    ten_hours(&service, base).await;
    let sealed = until(&service, "sealing", |s| s.sealed_sessions > 200 && s.open_events < 800).await;
    assert!(!sealed.cold_parts.is_empty());
    let unsealed = |rows: Vec<SessionRow>| rows.into_iter().map(|row| SessionRow { sealed: false, ..row }).collect::<Vec<_>>();
    let got = all_sessions(&service).await;
    assert!(got.iter().filter(|row| row.sealed).count() > 200);
    assert_eq!(unsealed(got), expected);

    // Cold parts are merged, and nothing changes.
    until(&service, "merging cold parts", |s| s.cold_parts.len() <= 2).await;
    assert_eq!(unsealed(all_sessions(&service).await), expected);

    // Behind the horizon: counted, kept, changes nothing.
    let before = until(&service, "nothing", |_| true).await.counters;
    service.ingest(vec![event("user-3", "too-late", base + MINUTE, VIEW)], Vec::new()).await.expect("ingested");
    let after = until(&service, "a late row", |s| s.counters.late == before.late + 1).await;
    assert_eq!(after.counters.applied, before.applied);
    assert!(after.balanced);
    let letters = service.dead_letters(DeadLettersQuery { source: Some(1), kind: None, limit: 10, cursor: None }).await.expect("letters");
    assert_eq!(letters.value.rows.iter().filter(|row| row.letter.user == "user-3").count(), 1);

    // A restart answers the same.
    service.stop().await;
    let report = verified(folder.path()).await;
    assert_eq!(report.sessions as usize, expected.len());
    let service = start(config(folder.path(), sealing_settings())).await;
    assert_eq!(unsealed(all_sessions(&service).await), expected);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_user_leaves_every_view_at_once_and_every_file_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(config(folder.path(), sealing_settings())).await;
    let base = now_micros() - 12 * HOUR;
    ten_hours(&service, base).await;
    let user = "erase-me-please";
    let rows = (0..60).map(|n| event(user, &format!("x{n}"), base + 9 * HOUR + n * 30 * 1_000_000, if n % 7 == 0 { BUY } else { VIEW }));
    service.ingest(rows.collect(), Vec::new()).await.expect("ingested");
    let minutes_before: i64 = service.minutes(Some(1), 0, None).await.expect("minutes").value.iter().map(|m| m.count).sum();
    // Push the watermark, so that the user's sessions are sealed, then give it an open one.
    service.ingest(vec![event("pusher", "p1", now_micros() - MINUTE, VIEW)], Vec::new()).await.expect("ingested");
    until(&service, "sealing of the user", |s| s.open_events < 100).await;
    service.ingest(vec![event(user, "x-open", now_micros(), VIEW)], Vec::new()).await.expect("ingested");
    let mine = || SessionsQuery { source: Some(1), user: Some(user.into()), limit: 100, ..SessionsQuery::default() };
    let sessions = service.sessions(mine()).await.expect("sessions").value.rows;
    assert!(sessions.iter().any(|s| s.sealed) && sessions.iter().any(|s| !s.sealed), "{sessions:?}");
    assert!(!files_with(folder.path(), user).is_empty());

    let (token, _id) = service.erase_user(1, user).await.expect("erased");
    let after = service.sessions(SessionsQuery { at_least: Some(token), ..mine() }).await.expect("sessions");
    assert_eq!(after.value.rows, []);
    let journeys = JourneysQuery { source: Some(1), user: Some(user.into()), limit: 10, ..JourneysQuery::default() };
    assert_eq!(service.journeys(journeys).await.expect("journeys").value.rows, []);
    let minutes_after: i64 = service.minutes(Some(1), 0, None).await.expect("minutes").value.iter().map(|m| m.count).sum();
    assert_eq!(minutes_after, minutes_before + 1 - 60, "sealed events leave the minutes, too");

    let deadline = Instant::now() + Duration::from_secs(40);
    while !files_with(folder.path(), user).is_empty() {
        assert!(Instant::now() < deadline, "still in {:?}", files_with(folder.path(), user));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = service.status().await.expect("a status");
    assert!(status.erasures.is_empty(), "{:?}", status.erasures);
    let counters = status.sources[0].counters;
    service.stop().await;

    // The counts survive the rows; everything else is as if the user had never been.
    verified(folder.path()).await;
    let service = start(config(folder.path(), sealing_settings())).await;
    let again = service.status().await.expect("a status").sources[0].counters;
    assert_eq!(again, counters);
    assert_eq!(service.sessions(mine()).await.expect("sessions").value.rows, []);

    // The same id may come back as somebody new.
    service.ingest(vec![event(user, "x0", now_micros(), VIEW)], Vec::new()).await.expect("ingested");
    let back = service.sessions(mine()).await.expect("sessions").value.rows;
    assert_eq!((back.len(), back[0].session_number), (1, 1));
    let unknown = service.erase_user(1, "nobody").await;
    assert!(matches!(unknown, Err(ServiceError::NotFound(_))), "{unknown:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_event_is_retracted_and_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(config(folder.path(), SourceSettings::defaults(1))).await;
    let now = now_micros();
    let rows = vec![event("u", "a", now - 30 * MINUTE, VIEW), event("u", "b", now, BUY)];
    let receipt = service.ingest(rows, Vec::new()).await.expect("ingested");
    assert_eq!((receipt.inserted, receipt.duplicates), (2, 0));
    service.delete_event(1, EventId::explicit("a")).await.expect("deleted");
    let mine = || SessionsQuery { source: Some(1), limit: 10, ..SessionsQuery::default() };
    let rows = service.sessions(mine()).await.expect("sessions").value.rows;
    assert_eq!((rows.len(), rows[0].transactions, rows[0].value), (1, 1, 125_000));
    let again = service.ingest(vec![event("u", "a", now - 30 * MINUTE, VIEW)], Vec::new()).await.expect("ingested");
    assert_eq!((again.inserted, again.duplicates), (0, 1));
    assert!(matches!(service.delete_event(1, EventId::explicit("a")).await, Err(ServiceError::NotFound(_))));
    service.stop().await;
    verified(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn training_is_repeatable_and_every_user_has_the_nearest_centroid() {
    let mut centroids = Vec::new();
    for workers in [1, 2] {
        let folder = tempfile::tempdir().expect("a folder");
        let service = start(ServiceConfig { workers, ..config(folder.path(), SourceSettings::defaults(1)) }).await;
        let now = now_micros();
        let rows = (0..300).flat_map(|user| {
            (0..=(user % 9)).map(move |n| {
                let word = if n % 4 == 3 { BUY } else { VIEW };
                event(&format!("user-{user}"), &format!("{user}-{n}"), now - n * 25 * MINUTE, word)
            })
        });
        // Held, so that no training happens by itself before all rows are there.
        let hold = desireline_records::PartitionState::Hold { source: 1, partition: "load".into() };
        let controls = vec![desireline_records::Control::Partition(hold)];
        service.commit(desireline_records::Progress { controls, ..Default::default() }).await.expect("held");
        service.ingest(rows.collect(), Vec::new()).await.expect("ingested");
        let report = service.train(1, 2).await.expect("trained");
        assert!(report.published && report.journeys == 300, "{report:?}");
        let clusters = service.clusters(1, None).await.expect("clusters").value;
        assert_eq!(clusters.clusters.iter().map(|c| c.users).sum::<u64>(), 300);
        let all: Vec<[f64; 6]> = clusters.clusters.iter().map(|c| c.centroid).collect();
        let journeys = service.journeys(JourneysQuery { limit: 1_000, ..JourneysQuery::default() }).await.expect("journeys").value.rows;
        assert_eq!(journeys.len(), 300);
        for journey in &journeys {
            let distance = |c: &[f64; 6]| c.iter().zip(&journey.features).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let own = clusters.clusters.iter().find(|c| Some(c.cluster_id) == journey.cluster_id).expect("a cluster");
            assert!(all.iter().all(|other| distance(&own.centroid) <= distance(other)), "{journey:?}");
        }
        let members = service.cluster_members(1, None).await.expect("members").value;
        let sizes = |c: &ClusterMembers| (c.cluster_id, c.users.len() as u64);
        let counted: Vec<_> = clusters.clusters.iter().map(|c| (c.cluster_id, c.users)).collect();
        assert_eq!(members.clusters.iter().map(sizes).collect::<Vec<_>>(), counted);
        service.stop().await;
        verified(folder.path()).await;
        centroids.push(all);
    }
    assert_eq!(centroids[0], centroids[1], "the number of workers does not matter");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_must_continue_where_the_log_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(config(folder.path(), SourceSettings::defaults(1))).await;
    let position = |before, after| desireline_records::Position { source: 1, partition: "kafka:t/0".into(), before, after, max_time: None };
    let progress = |before, after| desireline_records::Progress { positions: vec![position(before, after)], ..Default::default() };
    service.commit(progress(5, 9)).await.expect("the first rows of a partition may begin anywhere");
    assert_eq!(service.position(1, "kafka:t/0").map(|p| p.after), Some(9));
    for (before, after) in [(5, 9), (8, 12), (10, 11)] {
        let refused = service.commit(progress(before, after)).await;
        assert!(matches!(refused, Err(ServiceError::Conflict(_))), "{before}: {refused:?}");
    }
    service.commit(progress(9, 12)).await.expect("the next rows");
    service.reset_partition(1, "kafka:t/0", 3).await.expect("reset");
    service.commit(progress(3, 4)).await.expect("rows from the reset on");
    service.stop().await;
    let service = start(config(folder.path(), SourceSettings::defaults(1))).await;
    assert_eq!(service.position(1, "kafka:t/0").map(|p| p.after), Some(4));
    service.stop().await;
}
