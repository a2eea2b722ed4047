//! Text to syntax tree, within limits.
//!
//! A hostile text is short and its tree deep: each further parenthesis, sign or operator is one level, and whoever walks the tree by
//! recursion falls off the stack. So the parser itself stops at [`NESTING_MAX`] levels, and operators that chain without nesting, which
//! it reads in a loop, are counted afterwards by a walk that descends no further than that. All of it, and the release of the tree,
//! happens on a thread with a stack for the deepest tree that [`SOURCE_BYTES_MAX`] bytes can make.

use crate::refusal::{self, Refusal};
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_pattern, walk_stmt};
use ruff_python_ast::{Expr, ModModule, Pattern, Stmt};
use ruff_python_parser::{Mode, ParseErrorType, ParseOptions, parse_unchecked};
use ruff_text_size::{Ranged, TextSize};

/// Length of a labelling function's text.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Statements and expressions.
pub const NODES_MAX: usize = 10_000;
/// Levels of statements and expressions within each other.
pub const NESTING_MAX: usize = 100;

/// The parser counts several levels for one of ours.
const PARSER_NESTING_MAX: u16 = 4 * NESTING_MAX as u16;
/// Only address space until it is used: [`SOURCE_BYTES_MAX`] operators in a row make a tree that takes about a kilobyte per level to
/// release.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Lines and columns of places in a text.
pub struct Places<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let ends = bytes.iter().enumerate();
        // A carriage return ends a line by itself, too, unless a line feed follows.
        let ends = ends.filter(|&(at, &byte)| byte == b'\n' || (byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')));
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, line_starts }
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    /// From 1.
    pub fn line(&self, at: TextSize) -> u32 {
        let at = at.to_usize();
        u32::try_from(self.line_starts.partition_point(|&start| start <= at)).unwrap_or(u32::MAX)
    }

    /// From 1, in characters.
    fn column(&self, at: TextSize) -> u32 {
        let start = self.line_starts[self.line(at) as usize - 1];
        let before = self.text.get(start..at.to_usize()).map_or(0, |text| text.chars().count());
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    pub fn refuse(&self, at: TextSize, code: &'static str, construct: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { code, line: Some(self.line(at)), column: Some(self.column(at)), construct: construct.into(), message: message.into() }
    }
}

/// Parses a text and gives its tree to `then`, on a thread with a large stack.
pub fn with_tree<T: Send>(code: &str, then: impl FnOnce(&ModModule, &Places<'_>) -> Result<T, Refusal> + Send) -> Result<T, Refusal> {
    if code.len() > SOURCE_BYTES_MAX {
        let message = format!("the code has {} bytes; at most {SOURCE_BYTES_MAX} are allowed", code.len());
        return Err(Refusal { code: refusal::TOO_LARGE, line: None, column: None, construct: "code".to_owned(), message });
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("labelling-parse".to_owned()).stack_size(STACK_BYTES);
        let spawned = builder.spawn_scoped(scope, || parse(code, then));
        let thread = spawned.map_err(|error| Refusal {
            code: refusal::TOO_LARGE,
            line: None,
            column: None,
            construct: "code".to_owned(),
            message: format!("the code cannot be parsed: no thread with a stack of {STACK_BYTES} bytes: {error}"),
        })?;
        thread.join().unwrap_or_else(|_| {
            Err(Refusal {
                code: refusal::SYNTAX,
                line: None,
                column: None,
                construct: "code".to_owned(),
                message: "the parser failed on this code".to_owned(),
            })
        })
    })
}

fn parse<T>(code: &str, then: impl FnOnce(&ModModule, &Places<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let places = Places::new(code);
    let options = ParseOptions::from(Mode::Module).with_max_recursion_depth(PARSER_NESTING_MAX);
    let parsed = parse_unchecked(code, options);
    let deep = parsed.errors().iter().find(|error| matches!(error.error, ParseErrorType::RecursionLimitExceeded));
    if let Some(error) = deep {
        return Err(too_deep(&places, error.location.start()));
    }
    if let Some(error) = parsed.errors().first() {
        let message = format!("syntax error: {}", error.error);
        return Err(places.refuse(error.location.start(), refusal::SYNTAX, "syntax error", message));
    }
    if let Some(error) = parsed.unsupported_syntax_errors().first() {
        let message = format!("syntax error: {error}");
        return Err(places.refuse(error.range.start(), refusal::SYNTAX, "syntax error", message));
    }
    let Some(module) = parsed.try_into_module() else {
        return Err(places.refuse(TextSize::new(0), refusal::SYNTAX, "code", "syntax error: not a module"));
    };
    let tree = module.syntax();
    let mut measure = Measure { nodes: 0, depth: 0, too_deep: None, too_many: None };
    measure.visit_body(&tree.body);
    if let Some(at) = measure.too_deep {
        return Err(too_deep(&places, at));
    }
    if let Some(at) = measure.too_many {
        let message = format!("the code has more than {NODES_MAX} statements and expressions");
        return Err(places.refuse(at, refusal::TOO_LARGE, "code", message));
    }
    then(tree, &places)
}

fn too_deep(places: &Places<'_>, at: TextSize) -> Refusal {
    let message = format!("expressions or statements are nested, or operators chained, more than {NESTING_MAX} levels deep");
    places.refuse(at, refusal::TOO_LARGE, "nesting", message)
}

struct Measure {
    nodes: usize,
    depth: usize,
    too_deep: Option<TextSize>,
    too_many: Option<TextSize>,
}

impl Measure {
    fn enter(&mut self, at: TextSize, descend: impl FnOnce(&mut Self)) {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.too_many.get_or_insert(at);
        }
        if self.depth >= NESTING_MAX {
            self.too_deep.get_or_insert(at);
        }
        if self.too_deep.is_none() && self.too_many.is_none() {
            self.depth += 1;
            descend(self);
            self.depth -= 1;
        }
    }
}

impl<'a> Visitor<'a> for Measure {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.enter(statement.start(), |measure| walk_stmt(measure, statement));
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        self.enter(expression.start(), |measure| walk_expr(measure, expression));
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        self.enter(pattern.start(), |measure| walk_pattern(measure, pattern));
    }
}
