//! Queries of users, as indexes, rules and features have them: when one is taken, and what a change of it means.

use super::book::Shelf;
use super::connections::connection;
use super::error::ConceptError;
use super::record::{Connection, Feature, Id, Index, LIVE_CONNECTION, Materialized, PartitionType, Rule, Sql};
use super::{Concepts, Draft};
use desireline_records::Micros;
use desireline_sql::statement::{self, Dialect, NOT_A_QUERY};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// What is to be changed of a query; the rest stays. The inner nothing is null.
#[derive(Clone, Debug, Default)]
pub struct SqlChange {
    pub sql_query: Option<String>,
    pub query_template_params: Option<Option<Map<String, Json>>>,
    pub partition_type: Option<Option<PartitionType>>,
    pub partition_config: Option<Option<Map<String, Json>>>,
}

impl SqlChange {
    /// Whether what was made of the query no longer counts. A query that is given again, though it is the same, is made again.
    pub fn resets(&self) -> bool {
        self.sql_query.is_some() || self.query_template_params.is_some()
    }

    pub(super) fn apply(self, sql: &mut Sql, materialized: &mut Materialized, now: Micros) {
        if self.resets() {
            *materialized = unmade(now);
        }
        if let Some(query) = self.sql_query {
            sql.sql_query = query;
        }
        if let Some(params) = self.query_template_params {
            sql.query_template_params = params;
        }
        if let Some(kind) = self.partition_type {
            sql.partition_type = kind;
        }
        if let Some(config) = self.partition_config {
            sql.partition_config = config;
        }
    }
}

/// Nothing is made of the query as it is from now on: runs that began before change nothing.
fn unmade(now: Micros) -> Materialized {
    Materialized { run_started_at: Some(now), ..Materialized::default() }
}

/// The dialect of a connection; nothing for a type that cannot be connected to.
pub fn dialect(connection: &Connection) -> Option<Dialect> {
    match connection.connection_type.as_str() {
        _ if connection.conn_id == LIVE_CONNECTION => Some(Dialect::Live),
        "postgresql" | "postgres" => Some(Dialect::Postgres),
        "mysql" | "mariadb" => Some(Dialect::MySql),
        _ => None,
    }
}

/// Whether a text is rendered before it is a query.
fn is_template(sql: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|begin| sql.contains(begin))
}

/// Whether a query may be kept for a connection; a template is judged by its beginning, until it is rendered.
pub fn check_sql(sql: &str, dialect: Option<Dialect>) -> Result<(), ConceptError> {
    let text = sql.trim_start();
    let begins = |word: &str| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    if !begins("SELECT") && !begins("WITH") {
        return Err(ConceptError::invalid("sql_query", NOT_A_QUERY));
    }
    match dialect.filter(|_| !is_template(sql)) {
        Some(dialect) => statement::check(sql, dialect).map(drop).map_err(|error| ConceptError::invalid("sql_query", error.to_string())),
        None => Ok(()),
    }
}

/// The index of a rule or feature: it must be one of the same concept.
pub(super) fn index_of(shelf: &Shelf, c_id: Id, index_id: Id) -> Result<&Arc<Index>, ConceptError> {
    let index = shelf.get::<Index>(index_id)?;
    let refuse = || ConceptError::invalid("index_id", format!("Index with ID {index_id} does not belong to concept {c_id}"));
    if index.c_id == c_id { Ok(index) } else { Err(refuse()) }
}

/// What runs the queries over an index.
pub(super) fn dialect_of(shelf: &Shelf, index: &Index) -> Option<Dialect> {
    // The connection of an index cannot be deleted.
    connection(shelf, index.conn_id).ok().and_then(|connection| dialect(connection))
}

impl Concepts {
    /// Parsing takes its time.
    pub(super) async fn check_sql(&self, sql: String, dialect: Option<Dialect>) -> Result<(), ConceptError> {
        let checked = tokio::task::spawn_blocking(move || check_sql(&sql, dialect)).await;
        checked.map_err(|_| ConceptError::NotReady("the server is stopping"))?
    }
}

/// The rules and features of an index.
pub(super) fn of_index(draft: &Draft, index: &Index) -> Vec<String> {
    use super::removal::user;
    let rules = draft.of_concept::<Rule>(index.c_id).filter(|rule| rule.index_id == index.index_id);
    let features = draft.of_concept::<Feature>(index.c_id).filter(|feature| feature.index_id == index.index_id);
    rules.map(|rule| user(&**rule, &rule.name)).chain(features.map(|feature| user(&**feature, &feature.name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queries_are_kept_and_templates_are_judged_later() {
        let everywhere = [Some(Dialect::Postgres), Some(Dialect::MySql), Some(Dialect::Live), None];
        for sql in ["SELECT 1", "  select a from b", "\n\tWith x AS (SELECT 1 AS a) SELECT a FROM x;"] {
            everywhere.iter().for_each(|dialect| check_sql(sql, *dialect).expect(sql));
        }
        for sql in ["", "DELETE FROM x", "SELEC 1", "(SELECT 1)", "-- a\nSELECT 1", "é", "sel"] {
            for dialect in everywhere {
                let error = check_sql(sql, dialect).expect_err(sql);
                assert_eq!((error.code(), error.to_string().as_str()), ("invalid", NOT_A_QUERY), "{sql}");
            }
        }
        for sql in ["SELECT 1; DELETE FROM x", "WITH x AS (DELETE FROM y RETURNING *) SELECT * FROM x"] {
            assert!(check_sql(sql, Some(Dialect::Postgres)).is_err(), "{sql}");
            assert!(check_sql(sql, None).is_ok(), "nobody knows what this type understands");
        }
        let template = "SELECT a FROM b WHERE {% if year %}year = {{ year }}{% endif %}; {# a second statement #} DROP TABLE b";
        assert!(check_sql(template, Some(Dialect::Postgres)).is_ok(), "judged once it is rendered");
    }

    #[test]
    fn a_change_of_the_query_or_its_parameters_unmakes_and_nothing_else_does() {
        let sql = || Sql {
            sql_query: "SELECT 1".to_owned(),
            query_template_params: Some(Map::new()),
            partition_type: Some(PartitionType::Time),
            partition_config: None,
        };
        let made = || Materialized { is_materialized: true, row_count: Some(3), run_started_at: Some(1), ..Materialized::default() };
        let change = |change: SqlChange| {
            let (mut sql, mut materialized) = (sql(), made());
            change.apply(&mut sql, &mut materialized, 9);
            (sql, materialized)
        };
        assert_eq!(change(SqlChange::default()), (sql(), made()));
        let (changed, materialized) = change(SqlChange { partition_type: Some(None), ..SqlChange::default() });
        assert_eq!((changed.partition_type, materialized), (None, made()));
        for reset in [
            SqlChange { sql_query: Some("SELECT 1".to_owned()), ..SqlChange::default() },
            SqlChange { query_template_params: Some(None), ..SqlChange::default() },
        ] {
            assert_eq!(change(reset).1, unmade(9), "and runs that began before 9 are too old");
        }
    }
}
