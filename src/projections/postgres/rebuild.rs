//! Building the tables anew while others read them.
//!
//! Rows gather in shadows (unlogged, in the server's own schema). At the end one transaction compares each table with its shadow and
//! changes only what differs: readers see the old rows or the new ones, never an empty table, and whatever depends on the tables
//! stays. A shadow has the checks and unique indexes of its table, also those that somebody added, so that it refuses the same rows;
//! it has no triggers and no references to other tables. Tables that are empty to begin with are filled directly. A rebuild that ends early begins again.

use super::migrate::target_error;
use super::schema::{Names, TABLES, Table};
use crate::projections::TargetError;
use desireline_connectors::postgres::Connection;

/// Whether nothing is in any table of views.
pub async fn all_empty(connection: &mut Connection, names: &Names) -> Result<bool, TargetError> {
    let tables = TABLES.iter().filter(|table| table.name != "sources");
    let looks: Vec<String> = tables.map(|table| format!("EXISTS (SELECT FROM {})", names.table(table))).collect();
    let rows = connection.rows(&format!("SELECT {}", looks.join(" OR "))).await.map_err(target_error)?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("f"))
}

/// The statements that make empty shadows; only the settings of sources are there from the beginning.
pub fn make_shadows(names: &Names) -> String {
    let shadows = names.shadows();
    let make = |table: &Table| {
        let (live, shadow) = (names.table(table), shadows.table(table));
        format!(
            "DROP TABLE IF EXISTS {shadow}; CREATE UNLOGGED TABLE {shadow} (LIKE {live} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES); "
        )
    };
    let mut statements: String = TABLES.iter().map(make).collect();
    statements.push_str(&format!("INSERT INTO {} SELECT * FROM {}", shadows.fill("{sources}"), names.fill("{sources}")));
    statements
}

pub fn drop_shadows(names: &Names) -> String {
    let shadows = names.shadows();
    TABLES.iter().map(|table| format!("DROP TABLE IF EXISTS {}; ", shadows.table(table))).collect()
}

/// The statements that make every table what its shadow is.
pub fn merge(names: &Names) -> String {
    let shadows = names.shadows();
    let pairs = || TABLES.iter().map(|table| (table, names.table(table), shadows.table(table)));
    let put = pairs().map(|(table, live, shadow)| put(table, &live, &shadow));
    // What refers to others goes first.
    let take = pairs()
        .rev()
        .map(|(table, live, shadow)| format!("DELETE FROM {live} l WHERE NOT EXISTS (SELECT FROM {shadow} s WHERE {}); ", same(table)));
    // Planned with what is in the shadows.
    let analyze = pairs().map(|(_, _, shadow)| format!("ANALYZE {shadow}; "));
    let mut statements = "SET LOCAL statement_timeout = 0; ".to_owned();
    statements.extend(analyze.chain(put).chain(take));
    statements.push_str("SET CONSTRAINTS ALL IMMEDIATE");
    statements
}

fn same(table: &Table) -> String {
    let equal: Vec<String> = table.key.iter().map(|column| format!("l.{column} = s.{column}")).collect();
    equal.join(" AND ")
}

fn put(table: &Table, live: &str, shadow: &str) -> String {
    let list = |prefix: &str, columns: &[&str]| columns.iter().map(|column| format!("{prefix}{column}")).collect::<Vec<_>>().join(", ");
    let all: Vec<&str> = table.key.iter().chain(table.values).copied().collect();
    let sets: Vec<String> = table.values.iter().map(|column| format!("{column} = s.{column}")).collect();
    let order = table.serial.map_or_else(String::new, |serial| format!(" ORDER BY s.{serial}"));
    format!(
        "UPDATE {live} l SET {} FROM {shadow} s WHERE {} AND ({}) IS DISTINCT FROM ({}); \
         INSERT INTO {live} ({}) SELECT {} FROM {shadow} s WHERE NOT EXISTS (SELECT FROM {live} l WHERE {}){order}; ",
        sets.join(", "),
        same(table),
        list("l.", table.values),
        list("s.", table.values),
        list("", &all),
        list("s.", &all),
        same(table),
    )
}
