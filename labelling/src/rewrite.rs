//! The text that the interpreter is given.
//!
//! The user's text keeps its lines, so that an error's line is the user's. What the interpreter lacks or does otherwise than Python is
//! put right by small replacements within a line, all of them to names that begin with `__dl_`, which no user's code can contain:
//!
//! * `row.x` is `row['x']`;
//! * `any` and `all` of a generator stop at the first item that decides: the interpreter would evaluate all of them first;
//! * `round(x, n)` rounds the exact value, as Python does;
//! * `/` of integers beyond 2^53 rounds once;
//! * `//` and `divmod` of floats take the rest away before they divide, and `**` of floats that is too much raises;
//! * comparisons and `not` as operands of arithmetic are numbers;
//! * `statistics` is a prelude; `import statistics` and `from statistics import mean` bind to it.
//!
//! What cannot be put right is refused: with its line.

use crate::check::FUNCTION;
use crate::facts::Facts;
use crate::parse::Places;
use crate::prelude;
use crate::refusal::{self, Refusal};
use crate::source::{ABSTAIN, Module, Source, constant_name};
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_interpolated_string_element, walk_stmt};
use ruff_python_ast::{Expr, ExprCall, ExprGenerator, InterpolatedStringElement, ModModule, Operator, Stmt, UnaryOp};
use ruff_text_size::{Ranged, TextRange, TextSize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use syntax::{consumes, function_names_inside, helper, holds_nan, is_search, quoted, text_literal};

mod imports;
mod names;
mod patterns;
mod syntax;

pub use names::shadowed;
use names::{attributes, modules, stateless};

/// What the interpreter runs, and how its lines are the user's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Script {
    /// Everything up to the calls: prelude, the user's text, the constants.
    pub text: String,
    /// Lines before the user's text.
    pub lines_before: u32,
    /// Lines of the user's text.
    pub lines: u32,
    /// Nothing that a call does outlasts it, so that one run may make many calls.
    pub batches: bool,
}

enum Piece {
    Text(String),
    Source(TextRange),
}

struct Edit {
    range: TextRange,
    pieces: Vec<Piece>,
}

impl Edit {
    fn wraps(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Source(range) if *range == self.range))
    }
}

pub fn script(tree: &ModModule, source: &Source, facts: &Facts, places: &Places<'_>) -> Result<Script, Refusal> {
    let mut walk = Walk {
        places,
        edits: Vec::new(),
        prelude: BTreeSet::new(),
        modules: modules(tree, source),
        from_re: BTreeMap::new(),
        methods: attributes(tree),
        patterns: Vec::new(),
        called: BTreeSet::new(),
        consumed: BTreeSet::new(),
        shadowed: shadowed(tree),
        refusal: None,
    };
    if !facts.rebound {
        for (range, name) in &facts.attributes {
            let row = TextRange::new(range.start(), range.start());
            // The dot and the name go, the row's name stays.
            let text = &places.text()[range.start().to_usize()..range.end().to_usize()];
            let length = text.find(|letter: char| letter == '.' || letter.is_whitespace()).unwrap_or(text.len());
            let kept = TextRange::at(row.start(), TextSize::try_from(length).unwrap_or_default());
            walk.edits.push(Edit { range: *range, pieces: vec![Piece::Source(kept), Piece::Text(format!("['{name}']"))] });
        }
    }
    walk.visit_body(&tree.body);
    if let Some(refusal) = walk.refusal {
        return Err(refusal);
    }
    let whole = TextRange::new(TextSize::new(0), TextSize::try_from(places.text().len()).unwrap_or_default());
    // What wraps a range comes before what replaces it.
    walk.edits.sort_by_key(|edit| (edit.range.start(), std::cmp::Reverse(edit.range.end()), !edit.wraps()));
    let body = render(places.text(), whole, &walk.edits);
    let mut text = prelude::text(&walk.prelude);
    for module in &source.allowed_imports {
        // As if imported: the old service had them at hand without an import.
        if *module != Module::Statistics {
            let _ = writeln!(text, "import {}", module.name());
        }
    }
    if !walk.patterns.is_empty() {
        text.push_str("import re as __dl_re\n");
    }
    for (at, pattern) in walk.patterns.iter().enumerate() {
        let _ = writeln!(text, "__dl_pattern{at} = __dl_re.compile({})", quoted(pattern));
    }
    let lines_before = lines(&text);
    text.push_str(&body);
    text.push('\n');
    for (name, id) in constants(source) {
        let _ = writeln!(text, "{name} = {id}");
    }
    Ok(Script { text, lines_before, lines: lines(places.text()) + 1, batches: stateless(tree) })
}

/// Names and ids that over-ride what the code assigns.
pub fn constants(source: &Source) -> BTreeMap<String, i64> {
    let named = source.constants.iter().map(|(name, id)| (constant_name(name), *id));
    named.chain([("ABSTAIN".to_owned(), ABSTAIN)]).collect()
}

fn lines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn render(text: &str, range: TextRange, edits: &[Edit]) -> String {
    let mut out = String::new();
    let mut at = range.start();
    let mut index = edits.partition_point(|edit| edit.range.start() < range.start());
    while let Some(edit) = edits.get(index) {
        if edit.range.start() >= range.end() {
            break;
        }
        // An edit of the whole range is what called this.
        if edit.range.start() < at || edit.range.end() > range.end() {
            index += 1;
            continue;
        }
        out.push_str(&text[at.to_usize()..edit.range.start().to_usize()]);
        let inner = &edits[index + 1..];
        let mut replaced = String::new();
        for piece in &edit.pieces {
            match piece {
                Piece::Text(text) => replaced.push_str(text),
                Piece::Source(range) => replaced.push_str(&render(text, *range, inner)),
            }
        }
        let original = &text[edit.range.start().to_usize()..edit.range.end().to_usize()];
        out.push_str(&replaced);
        // All such edits end within parentheses, or replace a single line.
        for _ in lines(&replaced)..lines(original) {
            out.push('\n');
        }
        at = edit.range.end();
        index += 1;
    }
    out.push_str(&text[at.to_usize()..range.end().to_usize()]);
    out
}

struct Walk<'p, 't> {
    places: &'p Places<'t>,
    edits: Vec<Edit>,
    prelude: BTreeSet<&'static str>,
    modules: BTreeMap<String, Module>,
    /// Functions that were imported from `re`.
    from_re: BTreeMap<String, String>,
    /// Every method and attribute in the code.
    methods: BTreeSet<String>,
    /// Patterns that are compiled once.
    patterns: Vec<String>,
    /// Where functions that are called begin, and generators that are used up at once.
    called: BTreeSet<TextSize>,
    consumed: BTreeSet<TextSize>,
    shadowed: BTreeSet<String>,
    refusal: Option<Refusal>,
}

impl Walk<'_, '_> {
    fn refused(&mut self, at: TextSize, construct: &str, why: &str) {
        if self.refusal.is_none() {
            let message = format!("{construct} is not supported in labelling functions: {why}");
            self.refusal = Some(self.places.refuse(at, refusal::UNSUPPORTED, construct, message));
        }
    }

    fn need(&mut self, name: &str) -> Option<&'static str> {
        let name = prelude::find(name)?;
        self.prelude.insert(name);
        Some(name)
    }

    fn replace(&mut self, range: TextRange, text: impl Into<String>) {
        self.edits.push(Edit { range, pieces: vec![Piece::Text(text.into())] });
    }

    fn module_of(&self, expression: &Expr) -> Option<Module> {
        let Expr::Name(name) = expression else { return None };
        self.modules.get(name.id.as_str()).copied().filter(|_| !self.shadowed.contains(name.id.as_str()))
    }

    /// `any(… for x in …)` as a loop that stops.
    fn lazy(&mut self, call: &ExprCall, function: &'static str, generator: &ExprGenerator) {
        let [one] = generator.generators.as_slice() else {
            return self.refused(generator.start(), "a generator over several sequences", "nest loops instead");
        };
        let Expr::Name(target) = &one.target else {
            return self.refused(generator.start(), "a generator with a tuple as its target", "use a loop instead");
        };
        if function_names_inside(&generator.elt) || one.ifs.iter().any(function_names_inside) {
            return self.refused(generator.start(), "a lambda or := within a generator", "use a loop instead");
        }
        let Some(name) = self.need(function) else { return };
        let mut pieces = vec![Piece::Text(format!("{name}(lambda {}: ", target.id))];
        for condition in &one.ifs {
            let (before, after) = if function == "__dl_all" { ("not (", ") or ") } else { ("(", ") and ") };
            pieces.extend([Piece::Text(before.to_owned()), Piece::Source(condition.range()), Piece::Text(after.to_owned())]);
        }
        pieces.extend([Piece::Text("(".to_owned()), Piece::Source(generator.elt.range()), Piece::Text("), (".to_owned())]);
        pieces.extend([Piece::Source(one.iter.range()), Piece::Text(")".to_owned())]);
        // The call's own closing parenthesis stays, and missing lines come before it.
        let range = TextRange::new(call.start(), call.end() - TextSize::new(1));
        self.edits.push(Edit { range, pieces });
    }

    fn call(&mut self, call: &ExprCall) {
        let generator = call.arguments.args.iter().find_map(Expr::as_generator_expr);
        if self.searches(call) {
            self.pattern(call);
        }
        self.called.insert(call.func.start());
        if let Expr::Attribute(method) = &*call.func
            && method.attr.as_str() == "strftime"
            && !matches!(call.arguments.args.first(), Some(Expr::StringLiteral(format)) if !format.value.to_str().contains("%f"))
        {
            self.refused(call.start(), "strftime with %f, or with a format that is not written there", "use .microsecond");
        }
        if let Some(generator) = generator.filter(|_| consumes(&call.func)) {
            self.consumed.insert(generator.start());
        }
        let Expr::Name(function) = &*call.func else {
            return;
        };
        let name = function.id.as_str();
        if self.shadowed.contains(name) {
            return;
        }
        match (name, generator) {
            ("any", Some(generator)) if call.arguments.len() == 1 => self.lazy(call, "__dl_any", generator),
            ("all", Some(generator)) if call.arguments.len() == 1 => self.lazy(call, "__dl_all", generator),
            ("next" | "iter" | "zip" | "enumerate" | "map" | "filter", Some(generator)) => {
                self.refused(generator.start(), "a generator expression here", "use a list in brackets, or a loop");
            }
            ("next" | "iter", None) => self.refused(call.start(), &format!("{name}()"), "use a loop"),
            ("pow", None) if call.arguments.len() == 2 => {
                if let Some(name) = self.need("__dl_pow") {
                    self.replace(function.range, name);
                }
            }
            ("divmod", None) => {
                if let Some(name) = self.need("__dl_divmod") {
                    self.replace(function.range, name);
                }
            }
            ("round", None) if call.arguments.len() > 1 => {
                if let Some(name) = self.need("__dl_round") {
                    self.replace(function.range, name);
                }
            }
            _ => {}
        }
    }

    /// An operation by a function of the prelude.
    fn helped(&mut self, function: Option<&str>, range: TextRange, before: String, left: Piece, right: TextRange) {
        let Some(function) = function.and_then(|function| self.need(function)) else { return };
        let pieces = vec![
            Piece::Text(format!("{before}{function}((")),
            left,
            Piece::Text("), (".to_owned()),
            Piece::Source(right),
            Piece::Text("))".to_owned()),
        ];
        self.edits.push(Edit { range, pieces });
    }

    /// Comparisons count as 0 and 1 in arithmetic.
    fn operand(&mut self, operand: &Expr) {
        let truth = match operand {
            Expr::Compare(_) | Expr::BooleanLiteral(_) => true,
            Expr::UnaryOp(unary) => unary.op == UnaryOp::Not,
            _ => false,
        };
        if truth {
            self.edits.push(Edit {
                range: operand.range(),
                pieces: vec![Piece::Text("int(".to_owned()), Piece::Source(operand.range()), Piece::Text(")".to_owned())],
            });
        }
    }

    fn attribute(&mut self, attribute: &ruff_python_ast::ExprAttribute) {
        let name = attribute.attr.as_str();
        match self.module_of(&attribute.value) {
            Some(Module::Statistics) => match self.need(&format!("__dl_statistics_{name}")) {
                Some(function) => self.replace(attribute.range, function),
                None => self.refused(attribute.start(), &format!("statistics.{name}"), "see the list of supported functions"),
            },
            Some(Module::Math) if matches!(name, "hypot" | "fsum" | "dist" | "sumprod" | "fma") => {
                if name == "fsum"
                    && let Some(function) = self.need("__dl_fsum")
                {
                    return self.replace(attribute.range, function);
                }
                self.refused(attribute.start(), &format!("math.{name}"), "use math.sqrt or sum");
            }
            Some(Module::Re) if is_search(name) && !self.called.contains(&attribute.start()) => {
                self.refused(attribute.start(), &format!("re.{name} other than called"), "call it where it is needed");
            }
            Some(Module::Re) if matches!(name, "A" | "ASCII" | "X" | "VERBOSE" | "L" | "LOCALE" | "DEBUG") => {
                self.refused(attribute.start(), &format!("re.{name}"), "write the pattern out");
            }
            _ if name == "format" && !attribute.value.is_string_literal_expr() => {
                self.refused(attribute.start(), ".format of a text that is not written there", "use an f-string");
            }
            _ => {}
        }
    }

    /// What is put right is put right where it is called by its name; under another one it would not be.
    fn name(&mut self, name: &ruff_python_ast::ExprName) {
        let text = name.id.as_str();
        let module = self.modules.get(text).filter(|module| **module != Module::Datetime);
        if module.is_some() {
            // Names before a dot are not visited.
            self.refused(name.start(), &format!("the name {text} for anything but the module"), "call a function of it");
        }
        let replaced = matches!(text, "any" | "all" | "divmod" | "pow" | "round");
        if (replaced || self.from_re.contains_key(text)) && !self.called.contains(&name.start()) {
            self.refused(name.start(), &format!("{text} other than called"), "call it where it is needed");
        }
        if replaced && self.shadowed.contains(text) {
            self.refused(name.start(), &format!("another meaning of {text}"), "choose another name");
        }
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        self.import(statement);
        if let Stmt::AugAssign(assign) = statement {
            match &*assign.target {
                Expr::Name(name) if helper(assign.op).is_some() => {
                    let left = Piece::Text(name.id.to_string());
                    self.helped(helper(assign.op), assign.range, format!("{} = ", name.id), left, assign.value.range());
                }
                target if helper(assign.op).is_some() => {
                    self.refused(target.start(), &format!("{}= of an item", assign.op.as_str()), "assign the value of the operation");
                }
                _ => self.operand(&assign.value),
            }
        }
        walk_stmt(self, statement);
    }

    fn visit_interpolated_string_element(&mut self, element: &'a InterpolatedStringElement) {
        if let InterpolatedStringElement::Interpolation(inner) = element
            && inner.debug_text.is_some()
        {
            self.refused(inner.range.start(), "= in an f-string", "write the name as text");
        }
        walk_interpolated_string_element(self, element);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Call(call) => self.call(call),
            Expr::Attribute(attribute) => self.attribute(attribute),
            Expr::BinOp(binary) if binary.op == Operator::Mod && text_literal(&binary.left) => {
                self.refused(expression.start(), "% formatting", "use an f-string");
            }
            Expr::BinOp(binary) if helper(binary.op).is_some() => {
                self.operand(&binary.left);
                self.operand(&binary.right);
                let (left, right) = (binary.left.range(), binary.right.range());
                self.helped(helper(binary.op), expression.range(), String::new(), Piece::Source(left), right);
            }
            Expr::BinOp(binary) if !matches!(binary.op, Operator::BitAnd | Operator::BitOr | Operator::BitXor) => {
                self.operand(&binary.left);
                self.operand(&binary.right);
            }
            Expr::UnaryOp(unary) if unary.op != UnaryOp::Not => self.operand(&unary.operand),
            Expr::Compare(compare) => {
                let sequences = compare.comparators.iter().filter(|right| holds_nan(right));
                if let Some(right) = sequences.into_iter().next() {
                    self.refused(right.start(), "a search for nan in a sequence", "use math.isnan");
                }
            }
            Expr::Generator(generator) if !self.consumed.contains(&generator.start()) => {
                self.refused(generator.start(), "a generator expression here", "use a list in brackets, or a loop");
            }
            Expr::Name(name) => self.name(name),
            _ => {}
        }
        if let Expr::Attribute(attribute) = expression
            && self.module_of(&attribute.value).is_some()
        {
            return;
        }
        walk_expr(self, expression);
    }
}

/// What follows the script when one call is made, with the row as `__dl_row`.
pub fn single(script: &Script) -> String {
    format!("{}{FUNCTION}(__dl_row)\n", script.text)
}

/// What follows when many calls are made, and its inputs: a list for each column, and the number of rows. A call that raises gives an empty
/// tuple.
pub fn batch(script: &Script, columns: &[String]) -> (String, Vec<String>) {
    let mut inputs: Vec<_> = (0..columns.len()).map(|index| format!("__dl_column{index}")).collect();
    let items: Vec<_> = (0..columns.len()).map(|index| format!("__dl_item{index}")).collect();
    let (names, sequence) = match inputs.as_slice() {
        [] => ("__dl_item".to_owned(), "range(__dl_count)".to_owned()),
        [one] => (items.join(""), one.clone()),
        several => (items.join(", "), format!("zip({})", several.join(", "))),
    };
    let pairs = columns.iter().zip(&items).map(|(column, item)| format!("{}: {item}", quoted(column)));
    let row = pairs.collect::<Vec<_>>().join(", ");
    let text = format!(
        "{}__dl_votes = []\nfor {names} in {sequence}:\n    try:\n        __dl_votes.append({FUNCTION}({{{row}}}))\n    except BaseException:\n        __dl_votes.append(())\n__dl_votes\n",
        script.text
    );
    inputs.push("__dl_count".to_owned());
    (text, inputs)
}
