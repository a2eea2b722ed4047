//! SQL over the tables of a running service: whatever came in whatever order, was corrected, taken back, erased or sealed, the tables have the
//! rows that the slow reference counts from the log.

use super::service_wifi::{base, device, put_spaces, reference, send, session, until_applied, until_sealed, wifi_config};
use super::{all_sessions, config, sealing_settings, start, ten_hours, until};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_cast::display::array_value_to_string;
use desireline::config::schema;
use desireline::live::LiveConnection;
use desireline::service::*;
use desireline_records::time::{DAY, HOUR, MINUTE, now_micros};
use desireline_records::{EventId, Micros};
use desireline_sql::live::{Class, LiveError};
use desireline_sql::statement::{Dialect, check};
use futures::StreamExt;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn connection(service: &Service) -> LiveConnection {
    let config = schema::Live {
        rows_read_max: 100_000,
        rows_max: 100_000,
        memory_max: desireline::config::values::Size(256 << 20),
        deadline: Duration::from_secs(60),
    };
    LiveConnection::new(service.clone(), &config)
}

/// The rows of an answer, cells joined by a bar, and its time.
async fn ask(service: &Service, sql: &str, keys: Option<&[&str]>) -> (u64, Vec<String>) {
    let keys = keys.map(|keys| Arc::new(StringArray::from(keys.to_vec())) as ArrayRef);
    let statement = check(sql, Dialect::Live).expect("a query");
    let (as_of, _, mut stream) = connection(service).query(&statement, keys).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap_or_else(|error| panic!("{sql}: {}", LiveError::of(error)));
        let cell = |column: &ArrayRef, row| {
            if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).expect("can be shown") }
        };
        rows.extend((0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| cell(column, row)).collect::<Vec<_>>().join("|")));
    }
    (as_of, rows)
}

const TRAJECTORY: &str = "SELECT mac_address, EXTRACT(EPOCH FROM start_time)::bigint AS start, space_id, \
                          EXTRACT(EPOCH FROM end_time)::bigint AS ends FROM user_location_trajectory";

/// All sessions, and those of some devices, against the log.
async fn compare_stays(service: &Service, folder: &Path, context: &str) {
    let second = |time: Micros| time / 1_000_000;
    let told = |((device, start, space), end): ((ecow::EcoString, Micros, i32), Option<Micros>)| {
        let end = end.map_or_else(|| "-".to_owned(), |end| second(end).to_string());
        format!("{device}|{}|{space}|{end}", second(start))
    };
    let expected: BTreeSet<String> = reference(folder).await.occupancy().stays().into_iter().map(told).collect();
    let (_, found) = ask(service, TRAJECTORY, None).await;
    assert_eq!(found.len(), found.iter().collect::<BTreeSet<_>>().len(), "{context}: each session once");
    assert!(found.iter().cloned().collect::<BTreeSet<_>>() == expected, "{context}: {} of {}", found.len(), expected.len());
    let some: Vec<String> = [1, 3, 7, 99].map(device).to_vec();
    let names: Vec<&str> = some.iter().map(String::as_str).collect();
    let keyed = TRAJECTORY.replace("user_location_trajectory", "user_ap_trajectory WHERE mac_address IN (:index_values)");
    let (_, found) = ask(service, &keyed, Some(&names)).await;
    let of_some: BTreeSet<String> = expected.into_iter().filter(|row| names.iter().any(|name| row.starts_with(name))).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), of_some, "{context}: by key");
}

#[tokio::test(flavor = "multi_thread")]
async fn trajectories_are_the_sessions_that_count_wherever_they_lie() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(wifi_config(folder.path())).await;
    put_spaces(&service).await;
    // Out of order, one that is closed later, one that is corrected, one that stays open, and rows that say nothing new.
    let day = now_micros().div_euclid(DAY) * DAY - DAY;
    send(&service, vec![session(&device(1), 2, day + 5 * HOUR, None), session(&device(1), 1, day + HOUR, Some(HOUR))]).await;
    send(&service, vec![session(&device(1), 2, day + 5 * HOUR, Some(HOUR)), session(&device(3), 4, day, Some(MINUTE))]).await;
    send(&service, vec![session(&device(3), 4, day, Some(9 * MINUTE)), session(&device(3), 4, day, None)]).await;
    send(&service, vec![session(&device(7), 4, day + HOUR, None)]).await;
    compare_stays(&service, folder.path(), "in memory").await;
    let taken_back = EventId::stay(&device(1), 1, day + HOUR);
    service.delete_event(2_000, taken_back).await.expect("deleted");
    compare_stays(&service, folder.path(), "one was taken back").await;

    super::service_wifi::send_days(&service, base(), 6).await;
    until_sealed(&service, base() + 4 * DAY).await;
    compare_stays(&service, folder.path(), "sealed").await;
    let late = base() + 2 * DAY;
    send(&service, vec![session(&device(3), 5, late + 9 * MINUTE, Some(HOUR)), session(&device(99), 1, late + HOUR, Some(HOUR))]).await;
    until_applied(&service).await;
    compare_stays(&service, folder.path(), "late rows").await;
    service.erase_device(2_000, &[device(7).into()]).await.expect("erased");
    let (_, gone) = ask(&service, &format!("{TRAJECTORY} WHERE mac_address = '{}'", device(7)), None).await;
    assert_eq!(gone, Vec::<String>::new());
    let (_, spaces) = ask(&service, "SELECT space_id, space_name, parent_space_id FROM space WHERE space_id < 2", None).await;
    assert_eq!(spaces, ["0|space 0|-", "1|space 1|0"]);
    service.stop().await;
    let service = start(wifi_config(folder.path())).await;
    let (_, gone) = ask(&service, &format!("{TRAJECTORY} WHERE mac_address = '{}'", device(7)), None).await;
    assert_eq!(gone, Vec::<String>::new(), "after a restart");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_features_answer_what_a_person_computes() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(wifi_config(folder.path())).await;
    put_spaces(&service).await;
    let day = now_micros().div_euclid(DAY) * DAY - DAY;
    let (a, b) = (device(1), device(2));
    let rows = vec![
        session(&a, 1, day + HOUR, Some(30 * MINUTE)),
        session(&a, 2, day + 3 * HOUR, Some(3 * HOUR)),
        session(&b, 1, day - DAY, Some(HOUR)),
        session(&b, 1, day + 2 * HOUR, None),
    ];
    send(&service, rows).await;
    let rule = "WITH connections AS (SELECT mac_address, SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 THEN 1 \
                ELSE 0 END) * 1.0 / COUNT(*) AS connection_count, COUNT(DISTINCT(space_id)) AS distinct_ap FROM user_location_trajectory \
                WHERE mac_address IN (:index_values) GROUP BY mac_address) SELECT connection_count, distinct_ap, mac_address FROM \
                connections ORDER BY distinct_ap DESC;";
    let keys: [&str; 3] = [&a, &b, "nobody"];
    let (as_of, found) = ask(&service, rule, Some(&keys)).await;
    assert_eq!(found, [format!("0.5|2|{a}"), format!("0.5|1|{b}")]);
    assert_eq!(as_of, *service.as_of().borrow(), "nothing has happened since");
    let feature = "SELECT COUNT(*) AS total_conn, COUNT(DISTINCT DATE(start_time)) AS num_days, AVG(EXTRACT(EPOCH FROM (end_time - \
                   start_time))) AS mean_interval FROM user_ap_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address \
                   ORDER BY mean_interval";
    assert_eq!(ask(&service, feature, Some(&keys)).await.1, ["2|2|3600.0", "2|1|6300.0"]);
    let named = "SELECT COUNT(DISTINCT s.space_name) AS n FROM user_ap_trajectory t JOIN space s USING (space_id) \
                 WHERE t.mac_address IN (:index_values) GROUP BY t.mac_address ORDER BY n";
    assert_eq!(ask(&service, named, Some(&keys)).await.1, ["1", "2"]);

    let connection = connection(&service);
    let (class, _) = connection.classify(&check(rule, Dialect::Live).expect("a query")).await.expect("a class");
    let tables = vec!["user_location_trajectory".to_owned()];
    assert_eq!(class, Class::KeyLocal { key: "mac_address".into(), column: "mac_address".into(), tables });
    let nowhere = check("SELECT sensor_id FROM user_ap_trajectory", Dialect::Live).expect("a query");
    let (class, reason) = connection.classify(&nowhere).await.expect("a class");
    assert!(matches!(class, Class::Refused { .. }) && reason.contains("sensor_id"), "{reason}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_journeys_and_events_of_users_agree_with_the_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(config(folder.path(), sealing_settings())).await;
    ten_hours(&service, now_micros() - 11 * HOUR).await;
    until(&service, "sealing", |source| source.sealed_sessions > 0).await;
    let listed = all_sessions(&service).await;
    assert!(listed.iter().any(|row| row.sealed) && listed.iter().any(|row| !row.sealed));
    let told = |row: &SessionRow| {
        let start = row.start / 1_000_000;
        format!("{}|{}|{}|{start}|{}|{}|{}", row.source, row.user, row.session_number, row.event_count, row.views, row.transactions)
    };
    let columns = "source_id, user_id, number, FLOOR(EXTRACT(EPOCH FROM start_time))::bigint AS start, events, views, transactions";
    let expected: BTreeSet<String> = listed.iter().map(told).collect();
    let (_, found) = ask(&service, &format!("SELECT {columns} FROM sessions"), None).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    let keyed = format!("SELECT {columns} FROM sessions WHERE user_id IN (:index_values)");
    let (_, found) = ask(&service, &keyed, Some(&["user-3", "user-17", "nobody"])).await;
    let of_two: BTreeSet<String> = expected.into_iter().filter(|row| row.contains("|user-3|") || row.contains("|user-17|")).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), of_two);

    // Two tables of one user, at one time: the journey is the sum of the sessions, and open sessions have their events.
    let wrong = "SELECT j.user_id FROM journeys j JOIN (SELECT user_id, SUM(views) AS views, COUNT(*) AS sessions, SUM(value) AS value \
                 FROM sessions GROUP BY user_id) s ON s.user_id = j.user_id WHERE s.views <> j.views OR s.sessions <> j.sessions OR \
                 s.value <> j.value";
    assert_eq!(ask(&service, wrong, None).await.1, Vec::<String>::new());
    let counted = "SELECT COUNT(*) AS users, SUM(transactions) > 0 AS bought FROM journeys";
    assert_eq!(ask(&service, counted, None).await.1, ["20|true"]);
    let torn = "SELECT e.user_id FROM (SELECT user_id, session_number, COUNT(*) AS n FROM events GROUP BY 1, 2) e JOIN sessions s \
                ON s.user_id = e.user_id AND s.number = e.session_number WHERE s.events <> e.n";
    assert_eq!(ask(&service, torn, None).await.1, Vec::<String>::new());
    let value = "SELECT MIN(value) AS least, MAX(value) AS most, MIN(page) AS page FROM events WHERE event_type = 'transaction' AND \
                 user_id IN (:index_values)";
    let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    assert_eq!(ask(&service, value, Some(&users)).await.1, ["12.5|12.5|/p"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_reads_too_much_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(wifi_config(folder.path())).await;
    let day = now_micros().div_euclid(DAY) * DAY - DAY;
    send(&service, (0..30).map(|n| session(&device(n), 1, day + HOUR, Some(HOUR))).collect()).await;
    let few = schema::Live {
        rows_read_max: 20,
        rows_max: 20,
        memory_max: desireline::config::values::Size(64 << 20),
        deadline: Duration::from_secs(60),
    };
    let connection = LiveConnection::new(service.clone(), &few);
    let all = check("SELECT COUNT(*) AS n FROM user_ap_trajectory", Dialect::Live).expect("a query");
    let error = connection.query(&all, None).await.map(|_| ()).expect_err("too many");
    assert_eq!(error.code(), "sql_rows_read", "{error}");
    let one = check("SELECT space_id FROM user_ap_trajectory WHERE mac_address IN (:index_values)", Dialect::Live).expect("a query");
    let keys: ArrayRef = Arc::new(StringArray::from(vec![device(4)]));
    assert!(connection.query(&one, Some(keys)).await.is_ok(), "the rows of a key are few");
    service.stop().await;
}
