//! Whatever is called key-local gives, for some keys and for the others, together what it gives for all keys.
//!
//! Random statements over random rows: some of them are global, and say nothing here; a run must have seen many that are not.

use crate::support::{Memory, batch, checked, class, rows_of, stays, texts};
use desireline_sql::live::{Class, Limits, restrict};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::sync::Arc;

const DEVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn rows() -> impl Strategy<Value = Arc<Memory>> {
    let row = (0..DEVICES.len(), 9..13i32, 0..72i64, prop::option::of(0..6i64));
    prop::collection::vec(row, 0..40).prop_map(|mut rows| {
        rows.sort_unstable();
        rows.dedup();
        let hour = 3_600_000_000;
        let whole = |(device, space, start, length): &(usize, i32, i64, Option<i64>)| {
            let start = 1_728_000_000_000_000 + start * hour;
            (DEVICES[*device].to_owned(), *space, start, length.map(|length| start + length * hour))
        };
        Memory::new(stays(&rows.iter().map(whole).collect::<Vec<_>>()))
    })
}

fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(choices)
}

/// Something with the columns `k` (often the key), `s` and `t`.
fn relation() -> impl Strategy<Value = String> {
    let table = || one_of(&["user_location_trajectory", "user_ap_trajectory"]);
    let base = (table(), one_of(&["", " WHERE space_id > 10", " WHERE mac_address IN (:index_values)"]))
        .prop_map(|(table, filter)| format!("SELECT mac_address AS k, space_id AS s, start_time AS t FROM {table}{filter}"));
    base.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (
                inner.clone(),
                one_of(&["k IN (:index_values)", "s > 10", "s IN (SELECT space_id FROM space WHERE capacity > 60)", "k > 'b'"])
            )
                .prop_map(|(r, filter)| format!("SELECT k, s, t FROM ({r}) AS r WHERE {filter}")),
            (
                inner.clone(),
                one_of(&["COUNT(*)", "COUNT(DISTINCT s)", "MAX(s)", "SUM(s)"]),
                one_of(&["k", "k, t", "s"]),
                one_of(&["", " HAVING COUNT(*) > 1"])
            )
                .prop_map(|(r, aggregate, by, having)| {
                    let key = if by == "s" { "MIN(k) AS k" } else { "k" };
                    format!("SELECT {key}, {aggregate} AS s, MIN(t) AS t FROM ({r}) AS r GROUP BY {by}{having}")
                }),
            (
                inner.clone(),
                inner.clone(),
                one_of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]),
                one_of(&["a.k = b.k", "a.s = b.s", "a.k = b.k AND a.s < b.s", "a.t = b.t AND a.k = b.k"]),
                one_of(&["a.k", "b.k"])
            )
                .prop_map(|(a, b, join, on, key)| format!(
                    "SELECT {key} AS k, a.s + COALESCE(b.s, 0) AS s, b.t AS t FROM ({a}) AS a {join} ({b}) AS b ON {on}"
                )),
            (inner.clone(), inner.clone(), one_of(&["EXISTS", "NOT EXISTS"]), one_of(&["b.k = a.k", "b.s = a.s"])).prop_map(
                |(a, b, exists, on)| format!("SELECT k, s, t FROM ({a}) AS a WHERE {exists} (SELECT 1 FROM ({b}) AS b WHERE {on})")
            ),
            (inner.clone(), inner.clone(), one_of(&["IN", "NOT IN"]), one_of(&["k", "s"]))
                .prop_map(|(a, b, within, of)| format!("SELECT k, s, t FROM ({a}) AS a WHERE {of} {within} (SELECT {of} FROM ({b}) AS b)")),
            (inner.clone(), inner.clone(), one_of(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]))
                .prop_map(|(a, b, set)| format!("SELECT k, s, t FROM (({a}) {set} ({b})) AS u")),
            (inner.clone(), one_of(&["JOIN", "LEFT JOIN", "RIGHT JOIN"])).prop_map(|(r, join)| format!(
                "SELECT k, COALESCE(capacity, s) AS s, t FROM ({r}) AS r {join} space ON space.space_id = r.s"
            )),
            (
                inner.clone(),
                one_of(&[
                    "SUM(s) OVER (PARTITION BY k)",
                    "RANK() OVER (PARTITION BY k ORDER BY t)",
                    "COUNT(*) OVER (ORDER BY t)",
                    "MAX(s) OVER (PARTITION BY s)"
                ])
            )
                .prop_map(|(r, window)| format!("SELECT k, {window} AS s, t FROM ({r}) AS r")),
            inner.clone().prop_map(|r| format!("SELECT DISTINCT k, s, t FROM ({r}) AS r")),
            inner.clone().prop_map(|r| format!("SELECT k, s, t FROM ({r}) AS r ORDER BY k, s, t LIMIT 3")),
            inner.prop_map(|r| format!("WITH w AS ({r}) SELECT x.k, x.s, y.t FROM w AS x JOIN w AS y ON x.k = y.k")),
        ]
    })
}

#[test]
fn a_key_local_statement_can_be_evaluated_key_by_key() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (local, global) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 250, failure_persistence: None, max_shrink_iters: 300, ..Config::default() });
    let of = |memory: &Arc<Memory>, sql: &str, keys: Vec<&str>| -> Vec<String> {
        let answered = runtime.block_on(batch(memory, &checked(sql), Some(texts(keys)), &Limits::default()));
        rows_of(&answered.unwrap_or_else(|error| panic!("{sql}: {error}")))
    };
    let outcome = runner.run(&(rows(), relation(), 0u8..64), |(memory, sql, chosen)| {
        let statement = match runtime.block_on(class(&memory, &sql)) {
            Class::KeyLocal { column, .. } | Class::SideTable { column, .. } => restrict(&checked(&sql), &column).expect("a statement"),
            Class::Global { .. } => {
                global.set(global.get() + 1);
                return Ok(());
            }
            Class::Refused { reason } => return Err(TestCaseError::fail(format!("{sql}: {reason}"))),
        };
        local.set(local.get() + 1);
        let sql = statement.with(":index_values");
        let is_chosen = |n: usize| chosen >> n & 1 == 1;
        let part = |wanted: bool| (0..DEVICES.len()).filter(|n| is_chosen(*n) == wanted).map(|n| DEVICES[n]).collect::<Vec<_>>();
        let all = of(&memory, &sql, DEVICES.to_vec());
        let mut parts = of(&memory, &sql, part(true));
        parts.extend(of(&memory, &sql, part(false)));
        let mut all = all;
        all.sort();
        parts.sort();
        prop_assert_eq!(all, parts, "{}", sql);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(local.get() > 40 && global.get() > 40, "{} local, {} global", local.get(), global.get());
}
