//! From the words of a statement to those that the engine has: the same meaning, said otherwise.
//!
//! | in the statement | becomes |
//! |---|---|
//! | `x IN (:index_values)`, `x = ANY(:index_values)` | a look into the hash table of keys |
//! | `EXTRACT(part FROM x)`, `DATE_PART('part', x)` | a function that knows dates, times, differences of times and intervals |
//! | `DATE(x)` | `CAST(x AS DATE)` |
//! | `x AT TIME ZONE 'zone'` | a function: on with the zone, or off |
//! | `x::int`, `CAST(x AS BIGINT)` | the same of the rounded value |
//!
use super::LiveError;
use super::functions::{AT_TIME_ZONE, EXTRACT, NOT_OFFERED, PREFIX, ROUNDED};
use super::keys::IS_KEY;
use super::time::Part;
use crate::statement::Checked;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, Statement, UnaryOperator, Value, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// How deeply a statement may be nested: what has passed the check of statements is not refused for its depth here.
const DEPTH_MAX: usize = 2_000;

/// Stands for `:index_values` while the text is parsed.
const VALUES: &str = "$desireline_index_values";

/// A statement with its own words replaced.
pub struct Rewritten {
    pub statement: Statement,
    /// Whether it says in what order its rows come.
    pub is_ordered: bool,
}

pub fn rewrite(statement: &Checked) -> Result<Rewritten, LiveError> {
    let refused = |detail: String| LiveError::Refused(format!("the SQL query cannot be read: {detail}"));
    let text = statement.pieces().join(VALUES);
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).try_with_sql(&text);
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(|error| refused(error.to_string()))?;
    let (Some(mut statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(refused("it is not one statement".to_owned()));
    };
    let is_ordered = match &statement {
        Statement::Query(query) => orders(query),
        _ => return Err(refused("it is not a query".to_owned())),
    };
    match visit_expressions_mut(&mut statement, |expr| match expression(expr) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }) {
        ControlFlow::Continue(()) => Ok(Rewritten { statement, is_ordered }),
        ControlFlow::Break(error) => Err(error),
    }
}

fn orders(query: &Query) -> bool {
    query.order_by.is_some()
}

/// One expression, whose parts have been rewritten already.
fn expression(expr: &mut Expr) -> Result<(), LiveError> {
    let taken = |expr: &mut Expr| std::mem::replace(expr, Expr::value(Value::Null));
    match expr {
        Expr::InList { expr: asked, list, negated } if list.iter().any(is_values) => {
            let [_] = &list[..] else { return Err(misplaced()) };
            let (asked, negated) = (taken(asked), *negated);
            let is_key = call(IS_KEY, [asked]);
            *expr = if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(is_key) } } else { is_key };
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } if is_values(right) => {
            let asked = taken(left);
            *expr = call(IS_KEY, [asked]);
        }
        Expr::Extract { field, expr: of, .. } => {
            let of = taken(of);
            *expr = extract(&field.to_string(), of)?;
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            let (timestamp, zone) = (taken(timestamp), taken(time_zone));
            *expr = call(AT_TIME_ZONE, [timestamp, zone]);
        }
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: of, data_type, .. } if is_integer(data_type) => {
            let value = taken(of);
            **of = call(ROUNDED, [value]);
        }
        Expr::Function(function) => {
            if let Some(replaced) = called(function)? {
                *expr = replaced;
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_values(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(&value.value, Value::Placeholder(name) if name == VALUES),
        Expr::Nested(inner) => is_values(inner),
        _ => false,
    }
}

/// What is said about `:index_values` elsewhere.
pub fn misplaced() -> LiveError {
    LiveError::Refused("on the live connection `:index_values` stands in `IN (:index_values)` alone".to_owned())
}

/// Whether a place-holder of the engine's stands for `:index_values`.
pub fn is_placeholder(id: &str) -> bool {
    id == VALUES
}

/// What a call of a function becomes, if anything.
fn called(function: &mut Function) -> Result<Option<Expr>, LiveError> {
    let name = function.name.to_string().to_ascii_lowercase();
    if name.starts_with(PREFIX) || NOT_OFFERED.contains(&name.as_str()) {
        return Err(LiveError::Refused(format!("the live connection has no function `{name}`")));
    }
    let FunctionArguments::List(arguments) = &mut function.args else { return Ok(None) };
    match (name.as_str(), &mut arguments.args[..]) {
        ("date", [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))]) => {
            let of = Box::new(std::mem::replace(of, Expr::value(Value::Null)));
            Ok(Some(Expr::Cast { kind: CastKind::Cast, expr: of, data_type: DataType::Date, array: false, format: None }))
        }
        ("date_part", [FunctionArg::Unnamed(FunctionArgExpr::Expr(part)), FunctionArg::Unnamed(FunctionArgExpr::Expr(of))]) => {
            let of = std::mem::replace(of, Expr::value(Value::Null));
            Ok(Some(extract(&part.to_string(), of)?))
        }
        _ => Ok(None),
    }
}

fn extract(part: &str, of: Expr) -> Result<Expr, LiveError> {
    let part = part.trim_matches(['\'', '"']).to_ascii_lowercase();
    if Part::parse(&part).is_none() {
        return Err(LiveError::Refused(format!("the live connection cannot extract `{part}`")));
    }
    Ok(call(EXTRACT, [Expr::value(Value::SingleQuotedString(part)), of]))
}

fn is_integer(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::SmallInt(_)
            | DataType::Int2(_)
            | DataType::Int(_)
            | DataType::Integer(_)
            | DataType::Int4(_)
            | DataType::BigInt(_)
            | DataType::Int8(_)
    )
}

fn call<const N: usize>(name: &str, arguments: [Expr; N]) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Dialect, check};

    fn rewritten(sql: &str) -> String {
        rewrite(&check(sql, Dialect::Live).expect("a query")).expect("can be read").statement.to_string()
    }

    fn refused(sql: &str) -> String {
        match rewrite(&check(sql, Dialect::Live).expect("a query")) {
            Err(error) => error.to_string(),
            Ok(rewritten) => panic!("{}", rewritten.statement),
        }
    }

    #[test]
    fn words_of_postgresql_become_calls() {
        for (sql, expected) in [
            ("SELECT a FROM t WHERE a IN (:index_values)", "SELECT a FROM t WHERE desireline_is_key(a)"),
            ("SELECT a FROM t WHERE a NOT IN (:index_values)", "SELECT a FROM t WHERE NOT desireline_is_key(a)"),
            ("SELECT a FROM t WHERE a = ANY(:index_values)", "SELECT a FROM t WHERE desireline_is_key(a)"),
            ("SELECT EXTRACT(EPOCH FROM (b - a))", "SELECT desireline_extract('epoch', (b - a))"),
            ("SELECT date_part('hour', a)", "SELECT desireline_extract('hour', a)"),
            ("SELECT DATE(a)", "SELECT CAST(a AS DATE)"),
            ("SELECT EXTRACT(dow FROM a AT TIME ZONE 'UTC')", "SELECT desireline_extract('dow', desireline_at_time_zone(a, 'UTC'))"),
            ("SELECT a::int, CAST(b AS bigint)", "SELECT desireline_rounded(a)::INT, CAST(desireline_rounded(b) AS BIGINT)"),
            ("SELECT a::text", "SELECT a::TEXT"),
            (
                "WITH x AS (SELECT DATE(a) AS d FROM t WHERE a IN (:index_values)) SELECT COUNT(DISTINCT(d)) FROM x;",
                "WITH x AS (SELECT CAST(a AS DATE) AS d FROM t WHERE desireline_is_key(a)) SELECT COUNT(DISTINCT (d)) FROM x",
            ),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused_by_name() {
        assert!(refused("SELECT to_char(a, 'HH24') FROM t").contains("`to_char`"));
        assert!(refused("SELECT desireline_is_key(a) FROM t").contains("`desireline_is_key`"));
        assert!(refused("SELECT EXTRACT(fortnight FROM a) FROM t").contains("`fortnight`"));
        assert!(refused("SELECT a FROM t WHERE a IN (:index_values, 'x')").contains(":index_values"));
    }

    #[test]
    fn only_the_statement_itself_orders_its_rows() {
        let ordered = |sql: &str| rewrite(&check(sql, Dialect::Live).expect("a query")).expect("can be read").is_ordered;
        assert!(ordered("SELECT a FROM t ORDER BY a"));
        assert!(!ordered("SELECT a FROM (SELECT a FROM t ORDER BY a) AS x"));
    }
}
