//! Classes of statements, and what is read for each.

use crate::support::{Memory, SAME_STAYS, SPACES, STAYS, answer, checked, class, texts};
use desireline_sql::live::{Class, Tables, classify, restrict};
use std::sync::Arc;

fn memory() -> Arc<Memory> {
    Memory::of(&[
        ("a", 10, "2024-10-05 09:00", Some("2024-10-05 09:30")),
        ("a", 11, "2024-10-05 10:00", Some("2024-10-05 13:00")),
        ("b", 10, "2024-10-06 23:15", Some("2024-10-08 00:15")),
    ])
}

fn local(column: &str, tables: &[&str]) -> Class {
    Class::KeyLocal { key: "mac_address".into(), column: column.into(), tables: tables.iter().map(|table| (*table).to_owned()).collect() }
}

const T: &str = "user_location_trajectory";
const IN: &str = "WHERE mac_address IN (:index_values)";

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_within_a_key_is_key_local() {
    let memory = memory();
    for sql in [
        format!("SELECT mac_address, COUNT(*) AS n FROM {T} {IN} GROUP BY mac_address"),
        format!("SELECT mac_address, COUNT(DISTINCT space_id) AS n FROM {T} {IN} GROUP BY mac_address HAVING COUNT(*) > 1"),
        format!("WITH x AS (SELECT * FROM {T} {IN}) SELECT mac_address, AVG(space_id) AS m, MAX(start_time) AS l FROM x GROUP BY 1"),
        format!("WITH x AS (SELECT mac_address, COUNT(*) AS n FROM {T} GROUP BY mac_address) SELECT mac_address, n FROM x {IN}"),
        format!("SELECT DISTINCT mac_address, space_id FROM {T} {IN} ORDER BY mac_address"),
        format!(
            "SELECT t.mac_address, n FROM {T} t JOIN (SELECT mac_address, COUNT(*) AS n FROM {T} {IN} GROUP BY mac_address) c \
                 ON c.mac_address = t.mac_address"
        ),
        format!("SELECT mac_address, SUM(space_id) OVER (PARTITION BY mac_address ORDER BY start_time) AS s FROM {T} {IN}"),
        format!("SELECT mac_address, RANK() OVER (PARTITION BY mac_address, space_id ORDER BY start_time) AS s FROM {T} {IN}"),
        format!(
            "SELECT mac_address FROM {T} {IN} AND EXISTS (SELECT 1 FROM {T} o WHERE o.mac_address = {T}.mac_address AND o.space_id = 11)"
        ),
        format!("SELECT mac_address, space_id FROM {T} {IN} UNION ALL SELECT mac_address, 0 FROM {T} {IN}"),
        format!("SELECT mac_address FROM {T} WHERE mac_address = ANY(:index_values) AND space_id > 3"),
        format!(
            "SELECT a.mac_address FROM {T} a LEFT JOIN {T} b ON a.mac_address = b.mac_address AND b.space_id = 11 \
                 WHERE a.mac_address IN (:index_values) AND b.mac_address IS NULL"
        ),
    ] {
        assert_eq!(class(&memory, &sql).await, local("mac_address", &[STAYS]), "{sql}");
        answer(&memory, &sql, Some(texts(["a", "z"]))).await;
        assert_eq!(memory.last_read(), [(STAYS.to_owned(), Some(2))], "{sql}");
    }
    let both = format!(
        "SELECT a.mac_address AS device FROM {T} a JOIN user_ap_trajectory b ON a.mac_address = b.mac_address \
                        WHERE b.mac_address IN (:index_values)"
    );
    assert_eq!(class(&memory, &both).await, local("device", &[SAME_STAYS, STAYS]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_classified_without_keys_and_can_be_restricted() {
    let memory = memory();
    for (sql, expected) in [
        (format!("SELECT DISTINCT mac_address FROM {T}"), ["a", "b"].to_vec()),
        (format!("SELECT mac_address FROM {T} GROUP BY mac_address HAVING COUNT(*) > 1"), vec!["a"]),
        (
            format!("SELECT mac_address AS device, MIN(start_time)::date AS first FROM {T} WHERE space_id = 10 GROUP BY 1;"),
            vec!["a | 2024-10-05", "b | 2024-10-06"],
        ),
    ] {
        let Class::KeyLocal { column, .. } = class(&memory, &sql).await else { panic!("{sql}") };
        assert_eq!(answer(&memory, &sql, None).await, expected, "{sql}");
        assert_eq!(memory.last_read(), [(STAYS.to_owned(), None)]);
        let restricted = restrict(&checked(&sql), &column).expect("can be restricted");
        assert!(restricted.has_index_values());
        let sql = restricted.with(":index_values");
        assert_eq!(class(&memory, &sql).await, local(&column, &[STAYS]));
        let of_b: Vec<&str> = expected.into_iter().filter(|row| row.starts_with('b')).collect();
        assert_eq!(answer(&memory, &sql, Some(texts(["b"]))).await, of_b, "{sql}");
        assert_eq!(memory.last_read(), [(STAYS.to_owned(), Some(1))]);
    }
    let with_keys = checked(&format!("SELECT mac_address FROM {T} {IN}"));
    assert_eq!(restrict(&with_keys, "mac_address"), Ok(with_keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_keys_is_read_whole() {
    let memory = memory();
    for sql in [
        format!(
            "SELECT t.mac_address, COUNT(*) AS n FROM {T} t JOIN space s ON s.space_id = t.space_id WHERE s.capacity > 100 AND \
                 t.mac_address IN (:index_values) GROUP BY t.mac_address"
        ),
        format!("SELECT t.mac_address, s.space_name FROM {T} t LEFT JOIN space s ON s.space_id = t.space_id {IN}"),
        format!("SELECT mac_address FROM {T} {IN} AND space_id IN (SELECT space_id FROM space WHERE parent_space_id = 1)"),
        format!("SELECT mac_address, (SELECT MAX(capacity) FROM space) AS most FROM {T} {IN}"),
    ] {
        let side = Class::SideTable {
            key: "mac_address".into(),
            column: "mac_address".into(),
            tables: vec![STAYS.into()],
            side: vec![SPACES.into()],
        };
        assert_eq!(class(&memory, &sql).await, side, "{sql}");
        answer(&memory, &sql, Some(texts(["a"]))).await;
        assert_eq!(memory.last_read(), [(SPACES.to_owned(), None), (STAYS.to_owned(), Some(1))], "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_at_other_keys_is_global_and_says_why() {
    let memory = memory();
    for (sql, why) in [
        (format!("SELECT mac_address FROM {T} {IN} LIMIT 5"), "LIMIT"),
        (format!("SELECT DISTINCT mac_address FROM {T} LIMIT 5000"), "LIMIT"),
        (format!("SELECT mac_address FROM {T} {IN} ORDER BY start_time LIMIT 5"), "LIMIT"),
        (format!("SELECT COUNT(*) AS n FROM {T} {IN}"), "grouped"),
        (format!("SELECT space_id, COUNT(*) AS n FROM {T} {IN} GROUP BY space_id"), "grouped"),
        (format!("SELECT mac_address, COUNT(*) AS n FROM {T} {IN} GROUP BY ROLLUP (mac_address)"), "grouping sets"),
        (format!("SELECT mac_address, COUNT(*) OVER () AS n FROM {T} {IN}"), "partitioned"),
        (format!("SELECT mac_address, ROW_NUMBER() OVER (PARTITION BY mac_address ORDER BY start_time) AS n FROM {T} {IN}"), "row_number"),
        (format!("SELECT mac_address, LAG(space_id) OVER (PARTITION BY mac_address ORDER BY start_time) AS n FROM {T} {IN}"), "lag"),
        (format!("SELECT mac_address, ARRAY_AGG(space_id) AS n FROM {T} {IN} GROUP BY mac_address"), "array_agg"),
        (format!("SELECT mac_address FROM {T} {IN} AND start_time > NOW() - INTERVAL '7 days'"), "now"),
        (format!("SELECT mac_address, CURRENT_DATE AS d FROM {T} {IN}"), "current_date"),
        (
            format!("SELECT a.mac_address FROM {T} a JOIN {T} b ON a.space_id = b.space_id WHERE a.mac_address IN (:index_values)"),
            "different keys",
        ),
        (format!("SELECT mac_address FROM {T} {IN} AND space_id > (SELECT AVG(space_id) FROM {T})"), "key"),
        (format!("SELECT mac_address FROM {T} {IN} AND space_id NOT IN (SELECT space_id FROM {T} WHERE space_id > 11)"), "key"),
        (format!("SELECT mac_address FROM {T} WHERE mac_address NOT IN (:index_values)"), "restricts something else"),
        (format!("SELECT mac_address FROM {T} {IN} OR space_id = 10"), "restricts something else"),
        (format!("SELECT mac_address FROM {T} WHERE space_id IN (:index_values)"), "restricts something else"),
        (format!("SELECT space_id FROM {T} {IN}"), "no column"),
        (format!("SELECT UPPER(mac_address) AS mac_address FROM {T} {IN}"), "no column"),
        (
            format!(
                "SELECT s.space_id, t.mac_address FROM space s LEFT JOIN {T} t ON s.space_id = t.space_id AND t.mac_address IN (:index_values)"
            ),
            "outer side",
        ),
        (
            format!(
                "SELECT a.mac_address FROM {T} a LEFT JOIN {T} b ON a.mac_address = b.mac_address AND b.mac_address IN (:index_values)"
            ),
            "not everything",
        ),
        (format!("SELECT mac_address FROM {T} {IN} UNION ALL SELECT space_name FROM space"), "union"),
        ("SELECT space_id FROM space".to_owned(), "no table whose rows have keys"),
        (
            format!(
                "WITH RECURSIVE r AS (SELECT mac_address FROM {T} {IN} UNION ALL SELECT mac_address FROM r WHERE 1 = 0) SELECT * FROM r"
            ),
            "recursive",
        ),
    ] {
        match class(&memory, &sql).await {
            Class::Global { reason } => assert!(reason.contains(why), "{sql}: {reason}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_planned_is_refused_and_the_reason_is_for_people() {
    let memory = memory();
    for (sql, why) in [
        ("SELECT mac_address FROM nowhere", "nowhere"),
        ("SELECT nothing FROM space", "nothing"),
        ("SELECT mac_address, random() AS r FROM user_location_trajectory", "random"),
        ("SELECT mac_address + 1 AS r FROM user_location_trajectory", "Utf8 + Int64"),
    ] {
        match class(&memory, sql).await {
            Class::Refused { reason } => assert!(reason.contains(why), "{sql}: {reason}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let tables: Arc<dyn Tables> = memory;
    let (_, reason) = classify(&tables, &checked(&format!("SELECT mac_address FROM {T} {IN}"))).await.expect("a class");
    assert!(reason.starts_with("key-local: the rows of a `mac_address`"), "{reason}");
}
