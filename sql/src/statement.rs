//! Statements: the text of a user is one query that only reads, and where the values of an index go.
//!
//! [`check`] accepts one `SELECT` or `WITH … SELECT`, with or without a `;` at its end. It refuses a second statement, a `WITH` that
//! writes, `SELECT INTO`, locking clauses, and comments that MySQL would run.
//!
//! This is the first guard and gives the early, clear message. The real one is the database: the statement runs alone, in a transaction
//! that is read only, under a timeout, as a role that the owner of the connection chose. So text that the parser here does not know is
//! no reason to refuse a query that PostgreSQL or MySQL may well understand: then only its words are looked at. For the built-in tables
//! there is no second opinion, and what cannot be parsed is refused with its place.
//!
//! `:index_values` is found outside of texts, names in quotes, comments and casts (`::index_values`), any number of times up to
//! [`PLACEHOLDERS_MAX`]. The pieces around it put it between parentheses of its own, so a list or a query can be written there:
//! `IN :index_values` becomes `IN (` and `)`, `IN (:index_values)` stays.

use crate::SqlError;
use crate::lexer::{Kind, Token, place_of, tokens};
use datafusion::sql::sqlparser::ast::{Query, Select, SetExpr, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::{GenericDialect, MySqlDialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use std::ops::ControlFlow;

/// A rendered query, at most.
pub const SQL_BYTES_MAX: usize = 1 << 20;
pub const PLACEHOLDERS_MAX: usize = 16;
/// Signs and connecting words of a query that is parsed: each may make its tree one level deeper.
const DEPTH_MAX: usize = 2_000;
/// For a tree of that depth, also in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

/// What is said about a text that is no query at all.
pub const NOT_A_QUERY: &str = "SQL query must be a SELECT statement or CTE (WITH clause)";

/// Who will run the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    MySql,
    Live,
}

/// A statement that only reads, in pieces around `:index_values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pieces: Vec<String>,
}

impl Checked {
    /// The text; between any two pieces belong the values, as a list or as a query.
    pub fn pieces(&self) -> &[String] {
        &self.pieces
    }

    pub fn has_index_values(&self) -> bool {
        self.pieces.len() > 1
    }

    /// The whole text, with this in the place of the values.
    pub fn with(&self, values: &str) -> String {
        self.pieces.join(values)
    }
}

/// Whether a text, or a template of one, begins as a query does. All that can be said before it is rendered.
pub fn check_begin(sql: &str) -> Result<(), SqlError> {
    let text = sql.trim_start();
    let word = &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())];
    if word.eq_ignore_ascii_case("SELECT") || word.eq_ignore_ascii_case("WITH") { Ok(()) } else { Err(not_a_query()) }
}

fn not_a_query() -> SqlError {
    SqlError::Statement(NOT_A_QUERY.to_owned())
}

/// Takes a rendered text apart, if it is one statement that only reads.
pub fn check(sql: &str, dialect: Dialect) -> Result<Checked, SqlError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(SqlError::Statement(format!("the SQL query has {} bytes; {SQL_BYTES_MAX} are the most", sql.len())));
    }
    let mut tokens = tokens(sql, dialect)?;
    if let Some(end) = tokens.iter().position(|token| token.kind == Kind::Sign(';')) {
        if let Some(second) = tokens[end..].iter().find(|token| token.kind != Kind::Sign(';')) {
            let place = place_of(sql, second.range.start);
            return Err(SqlError::Statement(format!("{place}: the SQL query must be one statement; another begins here")));
        }
        tokens.truncate(end);
    }
    if !tokens.first().is_some_and(|first| first.is_word(sql, "SELECT") || first.is_word(sql, "WITH")) {
        return Err(not_a_query());
    }
    look_at_words(sql, &tokens)?;
    let checked = Checked { pieces: pieces(sql, &tokens)? };
    let is_deep = tokens.iter().filter(|token| deepens(sql, token)).count() > DEPTH_MAX;
    match if is_deep { Err("it is nested too deeply".to_owned()) } else { parse(&checked.with("NULL"), dialect)? } {
        Ok(()) => Ok(checked),
        Err(detail) if dialect == Dialect::Live => Err(SqlError::Statement(format!("the SQL query cannot be read: {detail}"))),
        Err(_) => Ok(checked),
    }
}

fn deepens(sql: &str, token: &Token) -> bool {
    match token.kind {
        Kind::Sign(sign) => sign != ',' && sign != '.',
        Kind::Word => ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT", "JOIN"].iter().any(|word| token.is_word(sql, word)),
        _ => false,
    }
}

/// The text between the first token and the last, cut at the place-holders.
fn pieces(sql: &str, tokens: &[Token]) -> Result<Vec<String>, SqlError> {
    let end = tokens.last().map_or(0, |last| last.range.end);
    let (mut pieces, mut from, mut close) = (Vec::new(), tokens[0].range.start, "");
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::IndexValues) {
        let is = |at: Option<usize>, sign: char| at.and_then(|at| tokens.get(at)).is_some_and(|token| token.kind == Kind::Sign(sign));
        let has_own = is(at.checked_sub(1), '(') && is(Some(at + 1), ')');
        pieces.push(format!("{close}{}{}", &sql[from..token.range.start], if has_own { "" } else { "(" }));
        (from, close) = (token.range.end, if has_own { "" } else { ")" });
    }
    pieces.push(format!("{close}{}", &sql[from..end]));
    if pieces.len() > PLACEHOLDERS_MAX + 1 {
        return Err(SqlError::Statement(format!("the SQL query has :index_values more than {PLACEHOLDERS_MAX} times")));
    }
    Ok(pieces)
}

/// Refuses what writes or locks by the words that it takes to say so.
fn look_at_words(sql: &str, tokens: &[Token]) -> Result<(), SqlError> {
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word) {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let is_name = |token: &Token| token.kind == Kind::Sign('.') || token.is_word(sql, "AS");
        if before.is_some_and(is_name) && !after_materialized(sql, tokens, at) {
            continue;
        }
        let next_is = |words: &[&str]| tokens.get(at + 1).is_some_and(|next| words.iter().any(|word| next.is_word(sql, word)));
        let next_is_name = tokens.get(at + 1).is_some_and(|next| matches!(next.kind, Kind::Word | Kind::Quoted));
        let begins = before.is_some_and(|before| matches!(before.kind, Kind::Sign('(' | ')')));
        let word = token.text(sql).to_ascii_uppercase();
        let found = match word.as_str() {
            "INTO" => "INTO",
            "INSERT" | "REPLACE" | "MERGE" if begins && next_is_name => word.as_str(),
            "DELETE" if begins && next_is(&["FROM"]) => "DELETE",
            "UPDATE" if begins && next_is_name => "UPDATE",
            "FOR" if next_is(&["UPDATE", "SHARE", "NO", "KEY"]) => "a lock",
            "LOCK" if next_is(&["IN"]) => "a lock",
            _ => continue,
        };
        return Err(writes(&format!("{}: ", place_of(sql, token.range.start)), found));
    }
    Ok(())
}

/// `WITH x AS MATERIALIZED (`: the word behind AS names nothing.
fn after_materialized(sql: &str, tokens: &[Token], at: usize) -> bool {
    tokens[at].is_word(sql, "MATERIALIZED") || tokens[at].is_word(sql, "NOT")
}

fn writes(place: &str, what: &str) -> SqlError {
    SqlError::Statement(format!("{place}the SQL query must only read; it has {what}"))
}

/// Refuses what is parsed and writes; what cannot be parsed is the inner error.
fn parse(sql: &str, dialect: Dialect) -> Result<Result<(), String>, SqlError> {
    let work = || {
        let parser = match dialect {
            Dialect::Postgres => Parser::new(&PostgreSqlDialect {}),
            Dialect::MySql => Parser::new(&MySqlDialect {}),
            Dialect::Live => Parser::new(&GenericDialect {}),
        };
        let statements = parser.with_recursion_limit(DEPTH_MAX).try_with_sql(sql).and_then(|mut parser| parser.parse_statements());
        let statements = match statements {
            Ok(statements) => statements,
            Err(ParserError::RecursionLimitExceeded) => return Ok(Err("it is nested too deeply".to_owned())),
            Err(ParserError::TokenizerError(detail) | ParserError::ParserError(detail)) => return Ok(Err(detail)),
        };
        match statements.as_slice() {
            [statement] => match statement.visit(&mut OnlyReads) {
                ControlFlow::Continue(()) => Ok(Ok(())),
                ControlFlow::Break(what) => Err(writes("", what)),
            },
            _ => Ok(Err("it is not one statement".to_owned())),
        }
    };
    // Trees are walked and dropped by recursion.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Ok(Err("the parser gave up".to_owned())),
            Err(error) => Ok(Err(error.to_string())),
        }
    })
}

struct OnlyReads;

impl Visitor for OnlyReads {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        if !query.locks.is_empty() {
            return ControlFlow::Break("a lock");
        }
        match query.body.as_ref() {
            SetExpr::Insert(_) => ControlFlow::Break("INSERT"),
            SetExpr::Update(_) => ControlFlow::Break("UPDATE"),
            SetExpr::Delete(_) => ControlFlow::Break("DELETE"),
            SetExpr::Merge(_) => ControlFlow::Break("MERGE"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<&'static str> {
        if select.into.is_some() { ControlFlow::Break("INTO") } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<&'static str> {
        if matches!(statement, Statement::Query(_)) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break("a statement that is no query")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Dialect; 3] = [Dialect::Postgres, Dialect::MySql, Dialect::Live];

    fn accepted(sql: &str, dialect: Dialect) -> Checked {
        check(sql, dialect).unwrap_or_else(|error| panic!("{dialect:?}: {sql}: {error}"))
    }

    #[test]
    fn queries_are_accepted_and_the_end_is_cut_off() {
        for dialect in ALL {
            for sql in [
                "SELECT 1",
                "  select 1 ;; ",
                "-- a comment\nSELECT a -- another ; DELETE\n;",
                "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
                "SELECT 'a;b', \"c;d\" FROM t WHERE x = 'DELETE FROM y; INTO'",
                "SELECT mac_address, SUM(CASE WHEN EXTRACT(EPOCH FROM (end_time - start_time)) / 3600 <= 2 THEN 1 ELSE 0 END) * 1.0 / \
                 COUNT(*) AS connection_count, COUNT(DISTINCT(space_id)) AS distinct_ap FROM user_location_trajectory \
                 WHERE mac_address IN (:index_values) GROUP BY mac_address",
                "SELECT 1 UNION ALL (SELECT 2 EXCEPT SELECT 3)",
                "SELECT substring(a, 2), replace(a, 'x', 'y') AS insert FROM t",
            ] {
                let text = accepted(sql, dialect).with("?");
                assert!(!text.ends_with(';') && !text.contains("--"), "{text}");
            }
        }
        assert_eq!(accepted("/* a */ SELECT 1 ; -- b", Dialect::Postgres).pieces(), ["SELECT 1"]);
    }

    #[test]
    fn what_the_parser_does_not_know_is_left_to_the_database() {
        for (dialect, sql) in [
            (Dialect::Postgres, "SELECT a FROM t WHERE a @@@ 'x' AND b <#> c"),
            (Dialect::Postgres, "SELECT delete, update FROM audit"),
            (Dialect::Postgres, "SELECT count(*) AS delete FROM JSON_TABLE(a, '$[*]' COLUMNS (b int PATH '$.b')) AS update"),
            (Dialect::Postgres, "WITH x AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x"),
            (Dialect::MySql, "SELECT STRAIGHT_JOIN a FROM t FORCE INDEX (i) PROCEDURE ANALYSE()"),
        ] {
            accepted(sql, dialect);
        }
        let deep = format!("SELECT {}1", "1 + ".repeat(100_000));
        accepted(&deep, Dialect::Postgres);
        let error = check(&deep, Dialect::Live).expect_err("deep").to_string();
        assert!(error.contains("too deeply"), "{error}");
        let error = check("SELECT a FROM t WHERE a @@@ ~", Dialect::Live).expect_err("no second opinion").to_string();
        assert!(error.contains("Line: 1"), "{error}");
    }

    #[test]
    fn trees_of_any_depth_are_parsed_or_left() {
        let parens = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
        for depth in [10, 500, 999, 1_500, 100_000] {
            accepted(&parens(depth), Dialect::Postgres);
            accepted(&format!("SELECT 1{}", " UNION SELECT 1".repeat(depth.min(50_000))), Dialect::Postgres);
            accepted(&format!("SELECT a FROM t WHERE a{}", " AND a".repeat(depth)), Dialect::Postgres);
        }
    }

    #[test]
    fn what_is_no_query_is_refused_in_the_words_of_the_service() {
        for sql in
            ["", " ", "DROP TABLE t", "INSERT INTO t VALUES (1)", "VALUES (1)", "TABLE t", "SELECTED", "(SELECT 1)", "EXPLAIN SELECT 1"]
        {
            for dialect in ALL {
                let error = check(sql, dialect).expect_err(sql);
                assert_eq!((error.code(), error.to_string().as_str()), ("sql_statement", NOT_A_QUERY), "{sql}");
            }
            assert_eq!(check_begin(sql).expect_err(sql).to_string(), NOT_A_QUERY);
        }
        for sql in ["SELECT 1", "\n with x as (select 1) select 1", "SELECT{{ x }}"] {
            check_begin(sql).expect(sql);
        }
    }

    #[test]
    fn a_second_statement_is_refused_with_its_place() {
        for sql in ["SELECT 1; SELECT 2", "SELECT 1;\nDROP TABLE t;", "SELECT ';' ; DELETE FROM t -- x"] {
            for dialect in ALL {
                let error = check(sql, dialect).expect_err(sql).to_string();
                assert!(error.contains("one statement") && error.starts_with("line "), "{error}");
            }
        }
        check("SELECT 'a\\'; DROP TABLE t; -- '", Dialect::Postgres).expect_err("a backslash ends no quote in PostgreSQL");
        accepted("SELECT 'a\\'; DROP TABLE t; -- '", Dialect::MySql);
    }

    #[test]
    fn what_writes_or_locks_is_refused() {
        for (sql, what) in [
            ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "DELETE"),
            ("WITH x AS MATERIALIZED (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x", "INSERT"),
            ("WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x", "UPDATE"),
            ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE"),
            ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "INSERT"),
            ("WITH x AS (SELECT 1) UPDATE t SET a = 1", "UPDATE"),
            ("WITH x AS (MERGE INTO t USING s ON a = b WHEN MATCHED THEN DELETE RETURNING a) SELECT 1", "MERGE"),
            ("SELECT a INTO t FROM u", "INTO"),
            ("SELECT a FROM u INTO OUTFILE '/tmp/x'", "INTO"),
            ("SELECT 1 UNION SELECT a INTO t FROM u", "INTO"),
            ("SELECT a FROM t FOR UPDATE", "a lock"),
            ("SELECT a FROM t FOR NO KEY UPDATE SKIP LOCKED", "a lock"),
            ("SELECT a FROM (SELECT a FROM t FOR SHARE) x", "a lock"),
            ("SELECT a FROM t LOCK IN SHARE MODE", "a lock"),
            // Where the parser gives up, the words remain.
            ("WITH x AS (DELETE FROM t RETURNING a @@@ b) SELECT * FROM x", "DELETE"),
            ("WITH x AS (UPDATE t SET a = a @@@ b RETURNING a) SELECT * FROM x", "UPDATE"),
        ] {
            for dialect in ALL {
                let error = check(sql, dialect).expect_err(sql).to_string();
                assert!(error.contains("only read") && error.contains(what), "{sql}: {error}");
            }
        }
    }

    #[test]
    fn index_values_are_found_where_they_mean_values() {
        for (sql, pieces) in [
            ("SELECT a FROM t WHERE a IN (:index_values) AND b = 1;", &["SELECT a FROM t WHERE a IN (", ") AND b = 1"][..]),
            ("SELECT a FROM t WHERE a IN :index_values", &["SELECT a FROM t WHERE a IN (", ")"]),
            ("SELECT a FROM t WHERE a NOT IN ( :index_values )", &["SELECT a FROM t WHERE a NOT IN ( ", " )"]),
            ("SELECT a FROM t WHERE a IN (:index_values) OR b IN (:index_values)", &["SELECT a FROM t WHERE a IN (", ") OR b IN (", ")"]),
            ("SELECT a FROM t WHERE a IN (:index_values, 'x')", &["SELECT a FROM t WHERE a IN ((", "), 'x')"]),
            ("SELECT ':index_values', \":index_values\" FROM t -- :index_values", &["SELECT ':index_values', \":index_values\" FROM t"]),
            ("SELECT a::index_values, /* :index_values */ b FROM t", &["SELECT a::index_values, /* :index_values */ b FROM t"]),
        ] {
            let checked = accepted(sql, Dialect::Postgres);
            assert_eq!(checked.pieces(), pieces, "{sql}");
            assert_eq!(checked.has_index_values(), pieces.len() > 1);
        }
        accepted("SELECT a[1:index_values_too] FROM t", Dialect::Postgres);
        let many = format!("SELECT {}1", ":index_values, ".repeat(PLACEHOLDERS_MAX + 1));
        assert!(check(&many, Dialect::Postgres).expect_err("many").to_string().contains("16 times"));
        let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
        assert!(check(&long, Dialect::Postgres).expect_err("long").to_string().contains("bytes"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(sql in "(SELECT |WITH )([a-z'\"$;:/*\\-# \\\\(),=\n]|:index_values|E'|INTO |SELECT ){0,24}") {
            for dialect in ALL {
                if let Ok(checked) = check(&sql, dialect) {
                    prop_assert!(checked.pieces().len() > usize::from(checked.has_index_values()));
                    // What is accepted stays accepted, and stays the same.
                    let again = check(&checked.with(":index_values"), dialect);
                    prop_assert_eq!(again.map(|again| again.pieces().len()), Ok(checked.pieces().len()));
                }
            }
        }
    }
}
