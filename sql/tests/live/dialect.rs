//! What statements mean: those of the workflows, and PostgreSQL's words one by one.

use crate::support::{Memory, answer, failure, texts};
use desireline_sql::live::LiveError;
use std::sync::Arc;

/// Device a: two sessions of 30 minutes and 3 hours in two spaces on one day; b: one of a day and an hour; c: one that is open.
fn memory() -> Arc<Memory> {
    Memory::of(&[
        ("a", 10, "2024-10-05 09:00", Some("2024-10-05 09:30")),
        ("a", 11, "2024-10-05 10:00", Some("2024-10-05 13:00")),
        ("b", 10, "2024-10-06 23:15", Some("2024-10-08 00:15")),
        ("c", 12, "2024-10-07 08:00", None),
    ])
}

const RULE: &str = "WITH connections AS (SELECT mac_address, SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 \
                    THEN 1 ELSE 0 END) * 1.0 / COUNT(*) AS connection_count, COUNT(DISTINCT(space_id)) AS distinct_ap FROM \
                    user_location_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address) SELECT mac_address, \
                    connection_count, distinct_ap FROM connections;";

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_and_the_features_of_the_workflow_run_unchanged() {
    let memory = memory();
    let keys = || Some(texts(["a", "b", "c", "nobody"]));
    assert_eq!(answer(&memory, "SELECT DISTINCT mac_address FROM user_location_trajectory LIMIT 5000", None).await, ["a", "b", "c"]);
    assert_eq!(answer(&memory, RULE, keys()).await, ["a | 0.5 | 2", "b | 0.0 | 1", "c | 0.0 | 1"]);
    let feature = |columns: &str| {
        format!("SELECT mac_address, {columns} FROM user_ap_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address")
    };
    for (columns, expected) in [
        ("AVG(EXTRACT(EPOCH FROM (end_time - start_time))) AS mean_interval", ["a | 6300.0", "b | 90000.0", "c | -"]),
        ("COUNT(*) AS total_conn", ["a | 2", "b | 1", "c | 1"]),
        ("COUNT(*) as visit_count", ["a | 2", "b | 1", "c | 1"]),
        ("COUNT(DISTINCT DATE(start_time)) AS num_days", ["a | 1", "b | 1", "c | 1"]),
        (
            "MIN(start_time)::date AS start_date, MAX(end_time)::date AS end_date",
            ["a | 2024-10-05 | 2024-10-05", "b | 2024-10-06 | 2024-10-08", "c | 2024-10-07 | -"],
        ),
        ("COUNT(DISTINCT space_id) AS unique_ap", ["a | 2", "b | 1", "c | 1"]),
    ] {
        assert_eq!(answer(&memory, &feature(columns), keys()).await, expected, "{columns}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_mean_what_they_mean_in_postgresql() {
    let memory = memory();
    for (expression, expected) in [
        ("EXTRACT(HOUR FROM start_time)", "23.0"),
        ("EXTRACT(DOW FROM start_time)", "0.0"),
        ("EXTRACT(ISODOW FROM start_time)", "7.0"),
        ("date_part('minute', start_time)", "15.0"),
        ("EXTRACT(DAY FROM end_time - start_time)", "1.0"),
        ("EXTRACT(HOUR FROM end_time - start_time)", "1.0"),
        ("EXTRACT(EPOCH FROM INTERVAL '1 day 2 hours')", "93600.0"),
        ("EXTRACT(EPOCH FROM AVG(end_time - start_time) OVER ())", "90000.0"),
        ("DATE(end_time) - DATE(start_time)", "2"),
        ("DATE(start_time) = '2024-10-06'", "true"),
        ("start_time::date", "2024-10-06"),
        ("date_trunc('day', start_time)", "2024-10-06T00:00:00"),
        ("start_time AT TIME ZONE 'UTC' AT TIME ZONE 'America/Los_Angeles'", "2024-10-06T16:15:00"),
        ("EXTRACT(HOUR FROM start_time AT TIME ZONE 'UTC')", "23.0"),
        ("DATE(start_time AT TIME ZONE 'UTC')", "2024-10-06"),
        ("start_time AT TIME ZONE 'UTC' > '2024-10-06 00:00:00'", "true"),
        ("end_time - start_time > INTERVAL '2 hours'", "true"),
        ("end_time - start_time > INTERVAL '2 days'", "false"),
        ("end_time - start_time >= INTERVAL '1 day'", "true"),
        ("end_time - start_time BETWEEN INTERVAL '1 day' AND INTERVAL '25 hours'", "true"),
        ("INTERVAL '1 month' = INTERVAL '30 days' AND INTERVAL '1 day' < INTERVAL '36 hours'", "true"),
        ("start_time + INTERVAL '1 hour'", "2024-10-07T00:15:00"),
        ("start_time BETWEEN '2024-10-06' AND '2024-10-07'", "true"),
        ("start_time > TIMESTAMP '2024-10-06 12:00:00'", "true"),
        ("NOW() - start_time > INTERVAL '1 day'", "true"),
        ("EXTRACT(EPOCH FROM (NOW() - end_time))", "42300.0"),
        ("NOW() AT TIME ZONE 'UTC' > start_time", "true"),
        ("CURRENT_DATE", "2024-10-08"),
        ("now()::timestamp", "2024-10-08T12:00:00"),
        ("(7.0 / 2)::int", "4"),
        ("(-2.5::float8)::int", "-3"),
        ("CAST(EXTRACT(EPOCH FROM (end_time - start_time)) / 7 AS INTEGER)", "12857"),
        ("7 / 2", "3"),
        ("7 / 2.0", "3.5"),
        ("COUNT(*) OVER () * 1.0 / 4", "0.25"),
        ("space_id::text || '!'", "10!"),
        ("space_id::varchar(5)", "10"),
        ("COALESCE(end_time, NOW()) >= end_time", "true"),
        ("CASE WHEN space_id IN (10, 11) THEN 'x' ELSE 'y' END", "x"),
        ("ROUND(2.345::numeric, 2)", "2.35"),
        ("GREATEST(space_id, 3)", "10"),
        ("mac_address ~ '^[a-c]$'", "true"),
        ("mac_address ILIKE 'B%'", "true"),
        ("(SELECT space_name FROM space WHERE space_id = 10)", "library"),
    ] {
        let sql = format!("SELECT {expression} FROM user_location_trajectory WHERE mac_address = 'b'");
        assert_eq!(answer(&memory, &sql, None).await, [expected], "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_mean_what_they_mean_in_postgresql() {
    let memory = memory();
    for (expression, expected) in [
        ("SUM(EXTRACT(EPOCH FROM (end_time - start_time)))", "102600.0"),
        ("EXTRACT(EPOCH FROM SUM(end_time - start_time))", "102600.0"),
        ("EXTRACT(EPOCH FROM AVG(end_time - start_time)) / 60", "570.0"),
        ("EXTRACT(EPOCH FROM MAX(end_time) - MIN(start_time))", "227700.0"),
        ("COUNT(DISTINCT DATE(start_time))", "3"),
        ("COUNT(*) FILTER (WHERE end_time IS NULL)", "1"),
        ("STRING_AGG(mac_address, ',' ORDER BY mac_address, start_time)", "a,a,b,c"),
        ("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY space_id)", "10.5"),
        ("BOOL_OR(space_id = 12)", "true"),
        ("MIN(start_time AT TIME ZONE 'UTC')::date", "2024-10-05"),
        ("AVG(space_id)", "10.75"),
    ] {
        let sql = format!("SELECT {expression} FROM user_location_trajectory");
        assert_eq!(answer(&memory, &sql, None).await, [expected], "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_one_order() {
    let memory = memory();
    let unordered = answer(&memory, "SELECT space_id, mac_address FROM user_location_trajectory", None).await;
    assert_eq!(unordered, ["10 | a", "10 | b", "11 | a", "12 | c"]);
    let ordered = answer(&memory, "SELECT mac_address FROM user_location_trajectory ORDER BY start_time DESC", None).await;
    assert_eq!(ordered, ["c", "b", "a", "a"]);
    let joined = "SELECT t.mac_address, s.space_name FROM user_location_trajectory t JOIN space s ON s.space_id = t.space_id";
    assert_eq!(answer(&memory, joined, None).await, ["a | gym", "a | library", "b | library", "c | -"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_refused_with_its_name() {
    let memory = memory();
    for (sql, name) in [
        ("SELECT a FROM nothing", "nothing"),
        ("SELECT nothing FROM space", "nothing"),
        ("SELECT nothing(space_id) FROM space", "nothing"),
        ("SELECT random() FROM space", "random"),
        ("SELECT uuid() FROM space", "uuid"),
        ("SELECT to_char(start_time, 'HH24') FROM user_ap_trajectory", "to_char"),
        ("SELECT * FROM generate_series(1, 10)", "generate_series"),
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM information_schema.tables", "information_schema"),
        ("SELECT space_id, :index_values FROM space", ":index_values"),
        ("SELECT EXTRACT(DOW FROM end_time - start_time) FROM user_ap_trajectory", "dow"),
        ("SELECT EXTRACT(HOUR FROM mac_address) FROM user_ap_trajectory", "EXTRACT"),
        ("SELECT start_time AT TIME ZONE 'Mars/Olympus' FROM user_ap_trajectory", "Mars/Olympus"),
    ] {
        let error = failure(&memory, sql, Some(texts(["a"]))).await;
        assert!(error.to_string().contains(name), "{sql}: {error}");
    }
    assert_eq!(failure(&memory, RULE, None).await, LiveError::NoKeys);
    let error = failure(&memory, "SELECT 1 / (space_id - 10) FROM space", None).await;
    assert!(matches!(&error, LiveError::Failed(detail) if detail.to_lowercase().contains("divide by zero")), "{error}");
}
