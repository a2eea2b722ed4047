//! Templates: the parameters of a query, put into its text before anything else happens with it.
//!
//! `WHERE year = {{ year }}` with `{"year": 2024}` becomes `WHERE year = 2024`. The language is Jinja's: `{{ … }}` with filters,
//! `{% if %}`, `{% for %}`, `{% raw %}` and comments.
//!
//! What it promises:
//! - A variable that is not among the parameters is an error that names it and its line, never an empty text. `{{ x | default(1) }}` and
//!   `{% if x is defined %}` ask whether there is one.
//! - Values go into the text as they are: whoever writes the parameters writes SQL. The values of an index never come here; they are
//!   bound to the finished statement, and braces in them mean nothing. What comes out still has to pass [`crate::statement::check`].
//! - Rendering ends, and soon: at most [`FUEL`] instructions, a template of [`SOURCE_BYTES_MAX`], parameters of [`PARAMS_BYTES_MAX`],
//!   and [`OUTPUT_BYTES_MAX`] of output. It reads no file, no environment and no clock.
//!
//! Filters: `abs`, `count`, `d`, `default`, `first`, `float`, `int`, `join`, `last`, `length`, `list`, `lower`, `max`, `min`, `replace`,
//! `round`, `sort`, `sqltext`, `trim`, `unique`, `upper`. `sqltext` makes a text constant: `{{ name | sqltext }}` gives `'O''Brien'`.
//! Tests: `defined`, `undefined`, `none`, `number`, `string`, `sequence`, `in`. Functions: `range`, of at most [`RANGE_MAX`].
//!
//! Known limitations:
//! - No `set`, macros, blocks or includes, no recursive loops, no `~`; loops within loops are at most [`LOOPS_MAX`] deep. What grows texts
//!   without writing them could fill the memory before a limit on the output were reached.
//! - A list is written in brackets and with double quotes, as Python would nearly do; no database understands that. Use a loop or `join`.
//! - `true`, `false` and `none` are lower case.

use crate::SqlError;
use crate::lexer::line_of;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value as Variable, filters, functions, tests as predicates};
use serde_json::{Map, Value};
use std::io::{self, Write};

pub const SOURCE_BYTES_MAX: usize = 64 << 10;
pub const PARAMS_BYTES_MAX: usize = 256 << 10;
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Instructions of the template engine; a pass of a small loop takes about ten.
pub const FUEL: u64 = 500_000;
/// Elements of a `range`.
pub const RANGE_MAX: usize = 10_000;
/// Loops within loops.
pub const LOOPS_MAX: usize = 4;
/// Additions and multiplications between a pair of braces: with texts each of them makes a longer one.
const SUMS_MAX: usize = 8;
/// Texts that a filter makes.
const TEXT_BYTES_MAX: usize = OUTPUT_BYTES_MAX;

/// The text of a query with its parameters in it.
pub fn render(sql: &str, params: &Map<String, Value>) -> Result<String, SqlError> {
    let refused = |line: usize, detail: String| Err(SqlError::Template { line, detail });
    if sql.len() > SOURCE_BYTES_MAX {
        return refused(1, format!("it has {} bytes; {SOURCE_BYTES_MAX} are the most", sql.len()));
    }
    if !sql.contains('{') {
        return Ok(sql.to_owned());
    }
    let bytes = params.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
    if bytes > PARAMS_BYTES_MAX {
        return refused(1, format!("the parameters have about {bytes} bytes; {PARAMS_BYTES_MAX} are the most"));
    }
    if let Err((at, detail)) = look_over(sql) {
        return refused(line_of(sql, at), detail);
    }
    let environment = environment();
    let template = environment.template_from_str(sql).map_err(|error| explain(sql, &error, &[]))?;
    let mut output = Limited(Vec::new());
    template.render_captured_to(Variable::from_serialize(params), &mut output).map_err(|error| {
        let mut missing: Vec<String> = template.undeclared_variables(false).into_iter().filter(|name| !params.contains_key(name)).collect();
        missing.retain(|name| name != "range");
        missing.sort();
        explain(sql, &error, &missing)
    })?;
    Ok(String::from_utf8(output.0).expect("the engine writes text"))
}

/// Bytes of a value, about.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 16,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + 16,
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>() + 16,
        _ => 16,
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("count", filters::length);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("join", join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("list", filters::list);
    environment.add_filter("lower", |text: Variable| Ok::<_, Error>(scalar(&text)?.to_lowercase()));
    environment.add_filter("max", |state: &State, values: Variable| filters::max(state, scalars(values)?));
    environment.add_filter("min", |state: &State, values: Variable| filters::min(state, scalars(values)?));
    environment.add_filter("replace", replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("sort", |state: &State, values: Variable, how: Kwargs| filters::sort(state, scalars(values)?, how));
    environment.add_filter("sqltext", |text: Variable| Ok::<_, Error>(format!("'{}'", scalar(&text)?.replace('\'', "''"))));
    environment.add_filter("trim", |text: Variable| Ok::<_, Error>(scalar(&text)?.trim().to_owned()));
    environment.add_filter("unique", |state: &State, values: Variable, how: Kwargs| filters::unique(state, scalars(values)?, how));
    environment.add_filter("upper", |text: Variable| Ok::<_, Error>(scalar(&text)?.to_uppercase()));
    environment.add_test("defined", predicates::is_defined);
    environment.add_test("in", predicates::is_in);
    environment.add_test("none", predicates::is_none);
    environment.add_test("number", predicates::is_number);
    environment.add_test("sequence", predicates::is_sequence);
    environment.add_test("string", predicates::is_string);
    environment.add_test("undefined", predicates::is_undefined);
    environment.add_function("range", range);
    environment
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// A text, number or truth value as text.
fn scalar(value: &Variable) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        other => Err(invalid(format!("a text or a number is wanted here, not {other}"))),
    }
}

/// Values that are texts or numbers, each.
fn scalars(values: Variable) -> Result<Variable, Error> {
    values.try_iter()?.try_for_each(|value| scalar(&value).map(drop))?;
    Ok(values)
}

fn join(values: Variable, between: Option<&str>) -> Result<String, Error> {
    let mut joined = String::new();
    for (at, value) in values.try_iter()?.enumerate() {
        joined.push_str(if at == 0 { "" } else { between.unwrap_or_default() });
        joined.push_str(&scalar(&value)?);
        if joined.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    Ok(joined)
}

fn replace(text: Variable, from: &str, to: &str) -> Result<String, Error> {
    let text = scalar(&text)?;
    let count = text.matches(from).count();
    match (text.len() + count * to.len()).saturating_sub(count * from.len()) {
        bytes if bytes > TEXT_BYTES_MAX => Err(too_long()),
        _ => Ok(text.replace(from, to)),
    }
}

fn too_long() -> Error {
    invalid(format!("a text gets longer than {TEXT_BYTES_MAX} bytes"))
}

fn range(from: isize, to: Option<isize>, step: Option<isize>) -> Result<Variable, Error> {
    let values = functions::range(from, to, step)?;
    match values.len() {
        Some(count) if count > RANGE_MAX => Err(invalid(format!("a range has {RANGE_MAX} elements at most"))),
        _ => Ok(values),
    }
}

/// Output up to the limit.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other(format!("the rendered query is longer than {OUTPUT_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's error in the words of whoever wrote the template; with the variables that have no parameter.
fn explain(sql: &str, error: &Error, missing: &[String]) -> SqlError {
    let part = error.range().and_then(|range| sql.get(range)).map(str::trim).unwrap_or_default();
    let detail = match error.kind() {
        ErrorKind::UndefinedError if !missing.is_empty() && !missing.iter().any(|name| part.contains(name.as_str())) => {
            format!("`{}` is undefined: no parameter gives it a value", missing.join("`, `"))
        }
        ErrorKind::UndefinedError => format!("`{part}` is undefined: no parameter gives it a value"),
        ErrorKind::OutOfFuel => format!("it takes more than {FUEL} steps"),
        ErrorKind::WriteFailure => format!("the rendered query is longer than {OUTPUT_BYTES_MAX} bytes"),
        kind => {
            let detail = error.detail().map_or_else(|| kind.to_string(), str::to_owned);
            if part.is_empty() { detail } else { format!("`{part}`: {detail}") }
        }
    };
    SqlError::Template { line: error.line().unwrap_or(1), detail }
}

/// Refuses what has no place in a template, with the byte where it stands.
fn look_over(sql: &str) -> Result<(), (usize, String)> {
    let (mut at, mut loops) = (0, 0_usize);
    while let Some(found) = sql[at..].find('{') {
        let begin = at + found;
        let end = match sql.as_bytes().get(begin + 1) {
            Some(b'#') => sql[begin..].find("#}").map(|end| begin + end + 2),
            Some(b'{') => Some(look_into(sql, begin + 2, "}}", false)?),
            Some(b'%') => {
                let inside = begin + 2 + usize::from(matches!(sql.as_bytes().get(begin + 2), Some(b'-' | b'+')));
                let word = sql[inside..].trim_start();
                let word = &word[..word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len())];
                match word {
                    "if" | "elif" | "else" | "endif" => {}
                    "for" if loops < LOOPS_MAX => loops += 1,
                    "for" => return Err((begin, format!("loops within loops are at most {LOOPS_MAX} deep"))),
                    "endfor" => loops = loops.saturating_sub(1),
                    "raw" => {
                        let Some(end) = sql[begin..].find("endraw") else { return Ok(()) };
                        at = begin + end;
                        continue;
                    }
                    _ => return Err((begin, format!("`{{% {word} %}}` is not available; if, for and raw are"))),
                }
                Some(look_into(sql, inside, "%}", word == "for")?)
            }
            _ => Some(begin + 1),
        };
        // What is never closed is the engine's to complain about.
        let Some(end) = end else { return Ok(()) };
        at = end;
    }
    Ok(())
}

/// Looks between a pair of braces. Gives where they end.
fn look_into(sql: &str, begin: usize, close: &str, is_loop: bool) -> Result<usize, (usize, String)> {
    let bytes = sql.as_bytes();
    let (mut at, mut sums) = (begin, 0);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
            }
            b'~' => return Err((at, "`~` is not available: write one pair of braces after the other".to_owned())),
            b'+' | b'*' if bytes[at..].starts_with(b"+%}") || is_loop && at == begin => {}
            b'+' | b'*' if is_loop => return Err((at, "a loop goes over a list as it is, without sums".to_owned())),
            b'+' | b'*' => {
                sums += 1;
                if sums > SUMS_MAX {
                    return Err((at, format!("more than {SUMS_MAX} sums between a pair of braces")));
                }
            }
            b'r' if is_loop && sql[at..].starts_with("recursive") => return Err((at, "loops are not recursive here".to_owned())),
            _ if bytes[at..].starts_with(close.as_bytes()) => return Ok(at + close.len()),
            _ => {}
        }
        at += 1;
    }
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn rendered(sql: &str, value: Value) -> String {
        render(sql, &params(value)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    #[test]
    fn variables_filters_branches_and_loops_are_put_in() {
        assert_eq!(rendered("SELECT user_id FROM user_events WHERE year = {{ year }}", json!({"year": 2024})), {
            "SELECT user_id FROM user_events WHERE year = 2024"
        });
        assert_eq!(rendered("SELECT '{{ a }}', {{ b.c[1] }}\n", json!({"a": "<it's>", "b": {"c": [1, 2.5]}})), "SELECT '<it's>', 2.5\n");
        assert_eq!(rendered("SELECT {{ name | sqltext }}", json!({"name": "O'Brien"})), "SELECT 'O''Brien'");
        let optional = "SELECT 1{% if floor is defined %} WHERE floor = {{ floor }}{% endif %} LIMIT {{ rows | default(10) }}";
        assert_eq!(rendered(optional, json!({})), "SELECT 1 LIMIT 10");
        assert_eq!(rendered(optional, json!({"floor": 3})), "SELECT 1 WHERE floor = 3 LIMIT 10");
        let list =
            "IN ({% for s in spaces %}{{ s }}{% if not loop.last %}, {% endif %}{% endfor %}) {{ spaces | join(',') }} {{ 2 * h + 1 }}";
        assert_eq!(rendered(list, json!({"spaces": [7, 8], "h": 3})), "IN (7, 8) 7,8 7");
        assert_eq!(rendered("{# {{ no }} #}SELECT '{% raw %}{{ x }}{% endraw %}' {%- if true %} x{%+ endif -%}  ", json!({})), {
            "SELECT '{{ x }}' x"
        });
    }

    #[test]
    fn a_text_without_braces_stays_as_it_is() {
        let sql = "SELECT '#', a::json -> 'x' FROM t -- 100 %\n";
        assert_eq!(rendered(sql, json!({"unused": 1})), sql);
        assert_eq!(rendered("SELECT '{a,b}'::text[]", json!({})), "SELECT '{a,b}'::text[]");
    }

    #[test]
    fn what_is_undefined_is_named_with_its_line() {
        for (sql, name, line, given) in [
            ("SELECT 1\nWHERE year = {{ year }}", "`year`", 2, json!({})),
            ("SELECT {{ a.b }}", "a.b", 1, json!({"a": {}})),
            ("SELECT\n\n{{ nothing | upper }}", "nothing", 3, json!({})),
            ("SELECT {% for x in many %}{{ x }}{% endfor %}", "many", 1, json!({})),
            ("SELECT {{ year + gap }}", "gap", 1, json!({"year": 1})),
        ] {
            let error = render(sql, &params(given)).expect_err(sql);
            assert_eq!(error.code(), "sql_template");
            let SqlError::Template { line: found, detail } = &error else { panic!("{error}") };
            assert!(detail.contains(name) && *found == line, "{sql}: {error}");
        }
    }

    #[test]
    fn a_template_that_cannot_be_read_names_its_line() {
        for sql in ["SELECT 1\n{{ x", "SELECT 1\n{% if x %}", "SELECT 1\n{{ x | nofilter }}", "SELECT 1\n{% for x %}{% endfor %}"] {
            let error = render(sql, &params(json!({"x": 1}))).expect_err(sql);
            assert!(error.to_string().contains("line 2"), "{sql}: {error}");
        }
    }

    #[test]
    fn what_would_grow_without_bounds_is_refused() {
        let nested = |depth: usize| "{% for a in range(10000) %}".repeat(depth) + "x" + &"{% endfor %}".repeat(depth);
        for (sql, reason) in [
            (nested(2), "steps"),
            (nested(5), "at most 4 deep"),
            ("{{ 'x' * 2000000 }}".to_owned(), "longer than"),
            ("{% for a in range(9000) %}{{ text }}{% endfor %}".to_owned(), "longer than"),
            ("{% set a = 'x' %}".to_owned(), "not available"),
            ("{% macro m() %}{% endmacro %}".to_owned(), "not available"),
            ("{% include 'x' %}".to_owned(), "not available"),
            ("{{ text ~ text }}".to_owned(), "not available"),
            ("{% for a in [text] recursive %}{{ loop([a]) }}{% endfor %}".to_owned(), "recursive"),
            ("{% for a in text * 9 %}{% endfor %}".to_owned(), "without sums"),
            ("{{ text + text + text + text + text + text + text + text + text + text }}".to_owned(), "more than 8 sums"),
            ("{{ range(10001) | list }}".to_owned(), "10000 elements"),
            ("{{ text | replace('a', text) | replace('a', text) | replace('a', text) }}".to_owned(), "longer than"),
            ("x".repeat(SOURCE_BYTES_MAX) + "{{ 1 }}", "bytes"),
        ] {
            let error = render(&sql, &params(json!({"text": "a".repeat(1000)}))).expect_err(&sql[..sql.len().min(80)]);
            assert!(error.to_string().contains(reason), "{error}");
        }
        let error = render("{{ a }}", &params(json!({"a": "x".repeat(PARAMS_BYTES_MAX)}))).expect_err("large");
        assert!(error.to_string().contains("parameters"), "{error}");
    }

    #[test]
    fn values_are_text_and_not_templates() {
        assert_eq!(rendered("SELECT '{{ a }}'", json!({"a": "{{ b }}{% for %}"})), "SELECT '{{ b }}{% for %}'");
    }

    #[test]
    fn no_file_clock_or_environment_is_in_reach() {
        for sql in ["{{ now() }}", "{{ debug() }}", "{{ a.__class__ }}", "{{ self }}", "{{ namespace() }}", "{{ a.upper() }}"] {
            assert!(render(sql, &params(json!({"a": "x"}))).is_err(), "{sql}");
        }
    }

    #[test]
    fn unused_arguments_are_refused() {
        let error = render("{{ [1] | join(',', 2) }}", &Map::new()).expect_err("too many arguments");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
