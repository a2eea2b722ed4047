//! Tree to program: the part of Python that is compiled.
//!
//! Names are resolved here, once: locals to places, names of the module to their values, functions of the code to bodies, modules'
//! members to operations. Whatever is not known to be done exactly as Python does it makes the whole function interpreted, and is named
//! with its line for the user.
//!
//! What only depends on constants is computed here, by the same kernels that compute columns.

use crate::check::parameter;
use crate::facts::{Facts, is_name};
use crate::ir::{BinaryOp, Body, Line, Program, Scalar, Stmt};
use crate::ir::{Expr, SequenceKind};
use crate::parse::Places;
use crate::pattern::Flags;
use crate::rewrite;
use crate::source::{Module, Source};
use ruff_python_ast as ast;
use ruff_text_size::Ranged;
use std::collections::HashMap;

mod calls;
mod expressions;

/// The construct that makes a function interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    pub construct: String,
    pub line: u32,
}

/// Levels of statements, expressions and called functions within each other: what is deeper takes more stack than a thread may have.
const DEPTH_MAX: usize = 64;

type Lowered<T> = Result<T, Unsupported>;

/// What a name of the module means when the function is called.
#[derive(Clone, Debug)]
enum Global<'a> {
    Const(Scalar),
    Function(&'a ast::StmtFunctionDef),
    Module(Module),
    /// A name imported from a module.
    Member(Module, String),
    /// What `re.compile` was given.
    Pattern(String, Flags),
}

pub fn lower(
    tree: &ast::ModModule,
    definition: &ast::StmtFunctionDef,
    source: &Source,
    facts: &Facts,
    places: &Places<'_>,
) -> Lowered<Program> {
    let mut lowering = Lowering {
        places,
        columns: facts.columns.iter().cloned().collect(),
        globals: HashMap::new(),
        functions: Vec::new(),
        lowered: HashMap::new(),
        lowering: Vec::new(),
    };
    lowering.module(tree, source)?;
    let row = parameter(&definition.parameters).filter(|_| !facts.rebound);
    let Some(row) = row else { return Err(lowering.unsupported(definition, "another value for the row's name")) };
    let main = lowering.body(definition, Some(row))?;
    let mut depths = Vec::with_capacity(lowering.functions.len());
    for function in &lowering.functions {
        depths.push(function.depth(&depths));
    }
    if main.depth(&depths) > DEPTH_MAX {
        return Err(lowering.unsupported(definition, "calls and expressions within each other more than 64 levels deep"));
    }
    Ok(Program { columns: lowering.columns, functions: lowering.functions, main })
}

struct Lowering<'a, 'p, 't> {
    places: &'p Places<'t>,
    columns: Vec<String>,
    globals: HashMap<String, Global<'a>>,
    functions: Vec<Body>,
    /// Where functions are in `functions`, by where they are in the text.
    lowered: HashMap<u32, usize>,
    /// Those that are being lowered: one that is met again calls itself.
    lowering: Vec<u32>,
}

/// Names within a function.
#[derive(Default)]
struct Scope {
    locals: Vec<String>,
    row: Option<String>,
}

impl Scope {
    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().position(|local| local == name)
    }

    fn is_row(&self, expression: &ast::Expr) -> bool {
        self.row.as_deref().is_some_and(|row| is_name(expression, row))
    }

    fn declare(&mut self, name: &str) -> usize {
        self.local(name).unwrap_or_else(|| {
            self.locals.push(name.to_owned());
            self.locals.len() - 1
        })
    }
}

impl<'a> Lowering<'a, '_, '_> {
    fn unsupported(&self, at: &impl Ranged, construct: impl Into<String>) -> Unsupported {
        Unsupported { construct: construct.into(), line: self.places.line(at.start()) }
    }

    fn at<T>(&self, at: &impl Ranged, of: T) -> Line<T> {
        Line { line: self.places.line(at.start()), of }
    }

    fn module(&mut self, tree: &'a ast::ModModule, source: &Source) -> Lowered<()> {
        for module in &source.allowed_imports {
            self.globals.insert(module.name().to_owned(), Global::Module(*module));
        }
        for statement in &tree.body {
            self.top_level(statement)?;
        }
        for (name, id) in rewrite::constants(source) {
            self.globals.insert(name, Global::Const(Scalar::Int(id)));
        }
        Ok(())
    }

    fn top_level(&mut self, statement: &'a ast::Stmt) -> Lowered<()> {
        match statement {
            ast::Stmt::Pass(_) => {}
            ast::Stmt::Expr(inner) if inner.value.is_literal_expr() => {}
            ast::Stmt::FunctionDef(function) => {
                self.globals.insert(function.name.to_string(), Global::Function(function));
            }
            ast::Stmt::Import(import) => {
                for alias in &import.names {
                    let Some(module) = Module::parse(alias.name.as_str()) else { continue };
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.globals.insert(bound.to_string(), Global::Module(module));
                }
            }
            ast::Stmt::ImportFrom(import) => {
                let module = import.module.as_ref().and_then(|module| Module::parse(module.as_str()));
                let Some(module) = module else { return Err(self.unsupported(import, "an import")) };
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.globals.insert(bound.to_string(), Global::Member(module, alias.name.to_string()));
                }
            }
            ast::Stmt::Assign(assign) => {
                let value = self.global_value(&assign.value)?;
                for target in &assign.targets {
                    let ast::Expr::Name(name) = target else { return Err(self.unsupported(target, "unpacking")) };
                    self.globals.insert(name.id.to_string(), value.clone());
                }
            }
            ast::Stmt::AnnAssign(assign) => {
                let (ast::Expr::Name(name), Some(value)) = (&*assign.target, assign.value.as_deref()) else {
                    return Err(self.unsupported(assign, "a declaration"));
                };
                let value = self.global_value(value)?;
                self.globals.insert(name.id.to_string(), value);
            }
            other => return Err(self.unsupported(other, format!("{} at the top level", statement_name(other)))),
        }
        Ok(())
    }

    fn global_value(&mut self, value: &'a ast::Expr) -> Lowered<Global<'a>> {
        if let Some((pattern, flags)) = self.compiled_pattern(value) {
            return Ok(Global::Pattern(pattern, flags));
        }
        if let Some(items) = expressions::items(value) {
            return Ok(Global::Const(self.sequence(items.0, items.1)?));
        }
        match self.expression(value, &Scope::default())?.of {
            Expr::Const(scalar) => Ok(Global::Const(scalar)),
            _ => Err(self.unsupported(value, "a computed value at the top level")),
        }
    }

    fn body(&mut self, function: &'a ast::StmtFunctionDef, row: Option<&str>) -> Lowered<Body> {
        let mut scope = Scope { locals: Vec::new(), row: row.map(str::to_owned) };
        let parameters = &function.parameters;
        let plain = parameters.vararg.is_none() && parameters.kwarg.is_none() && parameters.kwonlyargs.is_empty();
        if !plain || parameters.iter_non_variadic_params().any(|parameter| parameter.default.is_some()) {
            return Err(self.unsupported(function, "defaults, * or ** in parameters"));
        }
        if row.is_none() {
            for parameter in parameters.posonlyargs.iter().chain(&parameters.args) {
                scope.declare(parameter.parameter.name.as_str());
            }
        }
        let count = scope.locals.len();
        declare(&function.body, &mut scope);
        let statements = self.statements(&function.body, &scope)?;
        Ok(Body { parameters: count, locals: scope.locals, statements })
    }

    /// The place of a function of the code, lowered when it is first called.
    fn function(&mut self, function: &'a ast::StmtFunctionDef, at: &impl Ranged) -> Lowered<usize> {
        let key = function.range.start().to_u32();
        if let Some(&index) = self.lowered.get(&key) {
            return Ok(index);
        }
        if self.lowering.contains(&key) {
            return Err(self.unsupported(at, "a function that calls itself"));
        }
        self.lowering.push(key);
        let body = self.body(function, None)?;
        self.lowering.pop();
        self.functions.push(body);
        self.lowered.insert(key, self.functions.len() - 1);
        Ok(self.functions.len() - 1)
    }

    fn statements(&mut self, statements: &'a [ast::Stmt], scope: &Scope) -> Lowered<Vec<Stmt>> {
        let mut lowered = Vec::with_capacity(statements.len());
        for statement in statements {
            self.statement(statement, scope, &mut lowered)?;
        }
        Ok(lowered)
    }

    fn statement(&mut self, statement: &'a ast::Stmt, scope: &Scope, into: &mut Vec<Stmt>) -> Lowered<()> {
        match statement {
            ast::Stmt::Pass(_) => {}
            ast::Stmt::Expr(inner) if inner.value.is_literal_expr() => {}
            ast::Stmt::Expr(inner) => into.push(Stmt::Evaluate(self.expression(&inner.value, scope)?)),
            ast::Stmt::Return(inner) => {
                let value = match inner.value.as_deref() {
                    Some(value) => self.expression(value, scope)?,
                    None => self.at(inner, Expr::Const(Scalar::None)),
                };
                into.push(Stmt::Return(value));
            }
            ast::Stmt::Assign(assign) => {
                let mut value = self.expression(&assign.value, scope)?;
                for target in &assign.targets {
                    let local = self.target(target, scope)?;
                    let next = Line { line: value.line, of: Expr::Local(local) };
                    into.push(Stmt::Assign(local, std::mem::replace(&mut value, next)));
                }
            }
            ast::Stmt::AnnAssign(assign) => {
                if let Some(value) = assign.value.as_deref() {
                    let value = self.expression(value, scope)?;
                    into.push(Stmt::Assign(self.target(&assign.target, scope)?, value));
                }
            }
            ast::Stmt::AugAssign(assign) => {
                let local = self.target(&assign.target, scope)?;
                let op = self.operator(assign.op, assign)?;
                let left = self.at(assign, Expr::Local(local));
                let right = self.expression(&assign.value, scope)?;
                let value = self.at(assign, Expr::Binary(op, Box::new(left), Box::new(right)));
                into.push(Stmt::Assign(local, value));
            }
            ast::Stmt::If(inner) => {
                let mut branches = vec![(self.expression(&inner.test, scope)?, self.statements(&inner.body, scope)?)];
                let mut otherwise = Vec::new();
                for clause in &inner.elif_else_clauses {
                    match &clause.test {
                        Some(test) => branches.push((self.expression(test, scope)?, self.statements(&clause.body, scope)?)),
                        None => otherwise = self.statements(&clause.body, scope)?,
                    }
                }
                into.push(Stmt::If(branches, otherwise));
            }
            other => return Err(self.unsupported(other, statement_name(other))),
        }
        Ok(())
    }

    fn target(&self, target: &ast::Expr, scope: &Scope) -> Lowered<usize> {
        let ast::Expr::Name(name) = target else { return Err(self.unsupported(target, "unpacking, or assigning to an item")) };
        scope.local(name.id.as_str()).ok_or_else(|| self.unsupported(target, "a name"))
    }

    fn operator(&self, op: ast::Operator, at: &impl Ranged) -> Lowered<BinaryOp> {
        match op {
            ast::Operator::Add => Ok(BinaryOp::Add),
            ast::Operator::Sub => Ok(BinaryOp::Sub),
            ast::Operator::Mult => Ok(BinaryOp::Mul),
            ast::Operator::Div => Ok(BinaryOp::Div),
            ast::Operator::FloorDiv => Ok(BinaryOp::FloorDiv),
            ast::Operator::Mod => Ok(BinaryOp::Mod),
            ast::Operator::Pow => Ok(BinaryOp::Pow),
            other => Err(self.unsupported(at, format!("the operator {}", other.as_str()))),
        }
    }
}

/// Names that statements of a function give values to.
fn declare(statements: &[ast::Stmt], scope: &mut Scope) {
    for statement in statements {
        match statement {
            ast::Stmt::Assign(assign) => assign.targets.iter().for_each(|target| declare_target(target, scope)),
            ast::Stmt::AnnAssign(assign) => declare_target(&assign.target, scope),
            ast::Stmt::AugAssign(assign) => declare_target(&assign.target, scope),
            ast::Stmt::If(inner) => {
                declare(&inner.body, scope);
                inner.elif_else_clauses.iter().for_each(|clause| declare(&clause.body, scope));
            }
            // Every other statement that binds a name makes the function interpreted.
            _ => {}
        }
    }
}

fn declare_target(target: &ast::Expr, scope: &mut Scope) {
    if let ast::Expr::Name(name) = target {
        scope.declare(name.id.as_str());
    }
}

fn statement_name(statement: &ast::Stmt) -> &'static str {
    match statement {
        ast::Stmt::For(_) => "for",
        ast::Stmt::While(_) => "while",
        ast::Stmt::Try(_) => "try",
        ast::Stmt::Raise(_) => "raise",
        ast::Stmt::Assert(_) => "assert",
        ast::Stmt::FunctionDef(_) => "a function within the function",
        ast::Stmt::Import(_) | ast::Stmt::ImportFrom(_) => "an import within the function",
        ast::Stmt::If(_) => "if",
        ast::Stmt::Expr(_) => "a call",
        _ => "a statement",
    }
}

/// One of each sequence that the compiled tier knows.
fn sequence_kind(expression: &ast::Expr) -> Option<(SequenceKind, &[ast::Expr])> {
    match expression {
        ast::Expr::Tuple(tuple) => Some((SequenceKind::Tuple, &tuple.elts)),
        ast::Expr::List(list) => Some((SequenceKind::List, &list.elts)),
        ast::Expr::Set(set) => Some((SequenceKind::Set, &set.elts)),
        _ => None,
    }
}
