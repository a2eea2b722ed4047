//! What a labelling function may name, import and do, whichever tier runs it.
//!
//! The sandbox does not depend on this check: a function that got past it meets an interpreter without files, network or processes, in
//! a process that has none either. The check says early and by line what would only fail later, and it keeps out what the interpreter
//! would do otherwise than Python.

use crate::parse::Places;
use crate::refusal::{self, Refusal};
use crate::rewrite;
use crate::source::{Module, Source};
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ModModule, Parameters, Stmt, StmtFunctionDef, StmtImport, StmtImportFrom};
use ruff_text_size::{Ranged, TextSize};
use std::collections::BTreeSet;

/// What every labelling function is called.
pub const FUNCTION: &str = "labeling_function";

/// Builtins that reach out of a function or into the interpreter; those that were always called are quoted with their parenthesis.
const DISALLOWED_NAMES: &[(&str, &str)] = &[
    ("eval", "eval("),
    ("exec", "exec("),
    ("compile", "compile("),
    ("open", "open("),
    ("file", "file("),
    ("input", "input("),
    ("globals", "globals("),
    ("locals", "locals("),
    ("vars", "vars("),
    ("dir", "dir("),
    ("getattr", "getattr("),
    ("setattr", "setattr("),
    ("delattr", "delattr("),
    ("hasattr", "hasattr("),
    ("breakpoint", "breakpoint("),
    ("memoryview", "memoryview("),
    ("super", "super("),
    ("type", "type("),
    ("id", "id("),
    ("hash", "hash("),
    ("exit", "exit("),
    ("quit", "quit("),
    ("help", "help("),
];

/// Of these, names that code may use for something of its own: nothing of the interpreter is behind them then.
const ORDINARY_WORDS: &[&str] = &["dir", "exit", "file", "hash", "help", "id", "input", "quit", "type", "vars"];

const DISALLOWED_MODULES: &[&str] = &["os", "sys", "subprocess"];

/// What the interpreter lacks or does in another way, by the name of the attribute.
const UNSUPPORTED_ATTRIBUTES: &[(&str, &str)] = &[
    ("now", "a vote may depend on the row only, not on the time"),
    ("utcnow", "a vote may depend on the row only, not on the time"),
    ("today", "a vote may depend on the row only, not on the time"),
    ("format_map", "use an f-string"),
    ("casefold", "use lower()"),
    ("center", "use an f-string with ^"),
    ("ctime", "use isoformat()"),
    ("toordinal", "subtract two dates"),
    ("lgamma", "its last digits would not be Python's"),
    ("cbrt", "its last digits would not be Python's"),
    ("prod", "use a loop"),
];

/// Reads the whole tree; the definition of the function when all is well.
pub fn check<'a>(tree: &'a ModModule, source: &Source, places: &Places<'_>) -> Result<&'a StmtFunctionDef, Refusal> {
    let mut walk = Walk { places, source, own: rewrite::shadowed(tree), refusal: None };
    walk.visit_body(&tree.body);
    if let Some(refusal) = walk.refusal {
        return Err(refusal);
    }
    let mut defined = None;
    for statement in &tree.body {
        if let Stmt::FunctionDef(function) = statement
            && function.name.as_str() == FUNCTION
        {
            defined = Some(function);
        }
    }
    let Some(function) = defined else {
        let message = format!("the code must define {FUNCTION}(row) at its top level");
        return Err(Refusal { code: refusal::NO_FUNCTION, line: None, column: None, construct: FUNCTION.to_owned(), message });
    };
    if parameter(&function.parameters).is_none() {
        let message = format!("{FUNCTION} must take one positional parameter, the row");
        return Err(places.refuse(function.start(), refusal::NO_FUNCTION, FUNCTION, message));
    }
    Ok(function)
}

/// The name of the one parameter that a call with one row fills.
pub fn parameter(parameters: &Parameters) -> Option<&str> {
    let mut positional = parameters.posonlyargs.iter().chain(&parameters.args);
    let first = positional.next()?;
    let alone = positional.next().is_none() && parameters.kwonlyargs.is_empty();
    let plain = parameters.vararg.is_none() && parameters.kwarg.is_none() && first.default.is_none();
    (alone && plain).then(|| first.parameter.name.as_str())
}

struct Walk<'s, 'p> {
    places: &'s Places<'p>,
    source: &'s Source,
    /// Names that the code gives a meaning to.
    own: BTreeSet<String>,
    refusal: Option<Refusal>,
}

impl Walk<'_, '_> {
    fn refuse(&mut self, at: TextSize, code: &'static str, construct: &str, message: String) {
        if self.refusal.is_none() {
            self.refusal = Some(self.places.refuse(at, code, construct, message));
        }
    }

    fn disallow(&mut self, at: TextSize, keyword: &str) {
        self.refuse(at, refusal::DISALLOWED, keyword, format!("Disallowed keyword '{keyword}' found in custom code"));
    }

    fn unsupported(&mut self, at: TextSize, construct: &str, why: &str) {
        self.refuse(at, refusal::UNSUPPORTED, construct, format!("{construct} is not supported in labelling functions: {why}"));
    }

    fn import(&mut self, at: TextSize, name: &str) {
        let root = name.split('.').next().unwrap_or(name);
        if DISALLOWED_MODULES.contains(&root) {
            return self.disallow(at, &format!("import {root}"));
        }
        let allowed = Module::parse(name).is_some_and(|module| self.source.allowed_imports.contains(&module));
        if !allowed {
            self.refuse(at, refusal::IMPORT, &format!("import {name}"), format!("Module '{name}' is not in allowed imports list"));
        }
    }

    fn imports(&mut self, statement: &StmtImport) {
        for alias in &statement.names {
            self.import(statement.start(), alias.name.as_str());
            let bound = alias.asname.as_ref().unwrap_or(&alias.name);
            self.binding(bound.start(), bound.as_str());
        }
    }

    fn imports_from(&mut self, statement: &StmtImportFrom) {
        let at = statement.start();
        let Some(module) = statement.module.as_ref().filter(|_| statement.level == 0) else {
            return self.unsupported(at, "a relative import", "there is no package");
        };
        self.import(at, module.as_str());
        for alias in &statement.names {
            if alias.name.as_str() == "*" {
                return self.unsupported(at, "import *", "name what you need");
            }
            self.attribute(alias.start(), alias.name.as_str());
            let bound = alias.asname.as_ref().unwrap_or(&alias.name);
            self.binding(bound.start(), bound.as_str());
        }
    }

    /// A name that the code gives a meaning to.
    fn binding(&mut self, at: TextSize, name: &str) {
        if is_dunder(name) {
            self.disallow(at, name);
        }
    }

    fn name(&mut self, at: TextSize, name: &str) {
        if is_dunder(name) {
            return self.disallow(at, name);
        }
        if ORDINARY_WORDS.contains(&name) && self.own.contains(name) {
            return;
        }
        if let Some((_, keyword)) = DISALLOWED_NAMES.iter().find(|(disallowed, _)| *disallowed == name) {
            self.disallow(at, keyword);
        }
    }

    fn attribute(&mut self, at: TextSize, name: &str) {
        if name.starts_with('_') {
            return self.disallow(at, name);
        }
        if let Some((_, why)) = UNSUPPORTED_ATTRIBUTES.iter().find(|(unsupported, _)| *unsupported == name) {
            self.unsupported(at, &format!(".{name}"), why);
        }
    }
}

fn is_dunder(name: &str) -> bool {
    name.starts_with("__")
}

/// Statements that neither tier runs, with the reason.
fn unsupported_statement(statement: &Stmt) -> Option<(&'static str, &'static str)> {
    match statement {
        Stmt::ClassDef(_) => Some(("class", "use functions and tuples")),
        Stmt::Delete(_) => Some(("del", "assign another value")),
        Stmt::TypeAlias(_) => Some(("type", "types have no effect here")),
        Stmt::With(_) => Some(("with", "there is nothing to open")),
        Stmt::Match(_) => Some(("match", "use if and elif")),
        Stmt::Global(_) => Some(("global", "a vote may depend on its row only")),
        Stmt::Nonlocal(_) => Some(("nonlocal", "return the value")),
        Stmt::Try(inner) if inner.is_star => Some(("except*", "use except")),
        Stmt::For(inner) if inner.is_async => Some(("async", "there is nothing to wait for")),
        Stmt::FunctionDef(inner) if inner.is_async => Some(("async", "there is nothing to wait for")),
        Stmt::FunctionDef(inner) if !inner.decorator_list.is_empty() => Some(("a decorator", "call the function")),
        Stmt::FunctionDef(inner) if inner.type_params.is_some() => Some(("type parameters", "types have no effect here")),
        Stmt::IpyEscapeCommand(_) => Some(("an escape command", "this is no notebook")),
        _ => None,
    }
}

fn unsupported_expression(expression: &Expr) -> Option<(&'static str, &'static str)> {
    match expression {
        Expr::Await(_) => Some(("await", "there is nothing to wait for")),
        Expr::Yield(_) | Expr::YieldFrom(_) => Some(("yield", "return a list")),
        Expr::TString(_) => Some(("a template string", "use an f-string")),
        Expr::IpyEscapeCommand(_) => Some(("an escape command", "this is no notebook")),
        Expr::NumberLiteral(number) if number.value.is_complex() => Some(("a complex number", "use real numbers")),
        _ => None,
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if self.refusal.is_some() {
            return;
        }
        if let Some((construct, why)) = unsupported_statement(statement) {
            return self.unsupported(statement.start(), construct, why);
        }
        match statement {
            Stmt::Import(import) => self.imports(import),
            Stmt::ImportFrom(import) => self.imports_from(import),
            Stmt::FunctionDef(function) => {
                self.binding(function.name.start(), function.name.as_str());
                walk_stmt(self, statement);
            }
            _ => walk_stmt(self, statement),
        }
    }

    fn visit_parameter(&mut self, parameter: &'a ruff_python_ast::Parameter) {
        self.binding(parameter.start(), parameter.name.as_str());
        ruff_python_ast::visitor::walk_parameter(self, parameter);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if self.refusal.is_some() {
            return;
        }
        if let Some((construct, why)) = unsupported_expression(expression) {
            return self.unsupported(expression.start(), construct, why);
        }
        match expression {
            Expr::Name(name) => self.name(name.start(), name.id.as_str()),
            Expr::Attribute(attribute) => self.attribute(attribute.attr.start(), attribute.attr.as_str()),
            _ => {}
        }
        walk_expr(self, expression);
    }
}
