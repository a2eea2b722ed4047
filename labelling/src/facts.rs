//! What a labelling function does with its row, read off its tree before either tier is chosen.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{CmpOp, Expr, ExprAttribute, ExprContext, Stmt, StmtFunctionDef};
use ruff_text_size::{Ranged, TextRange};
use std::collections::BTreeSet;

/// Methods of a row; every other attribute is a column.
const ROW_METHODS: &[&str] = &["get", "keys", "values", "items"];

#[derive(Debug, Default)]
pub struct Facts {
    /// Columns named in the code, in order.
    pub columns: BTreeSet<String>,
    /// The row goes where its columns are not named: to another function, into a loop.
    pub whole_row: bool,
    /// The parameter is given another value, or an inner function uses its name for something else.
    pub rebound: bool,
    /// `row.name`, which the interpreter is given as `row['name']`.
    pub attributes: Vec<(TextRange, String)>,
}

pub fn facts(function: &StmtFunctionDef, row: &str) -> Facts {
    let mut walk = Walk { row, facts: Facts::default() };
    walk.visit_body(&function.body);
    walk.facts
}

struct Walk<'r> {
    row: &'r str,
    facts: Facts,
}

impl Walk<'_> {
    fn is_row(&self, expression: &Expr) -> bool {
        is_name(expression, self.row)
    }

    /// A use that names its column: true when there is nothing of it left to look at.
    fn named(&mut self, expression: &Expr) -> bool {
        match expression {
            Expr::Subscript(subscript) if self.is_row(&subscript.value) && matches!(subscript.ctx, ExprContext::Load) => {
                self.literal(&subscript.slice)
            }
            Expr::Attribute(attribute) if self.is_row(&attribute.value) => self.attribute(attribute),
            Expr::Call(call) => match get_of(expression, self.row) {
                Some((column, default)) => {
                    self.facts.columns.insert(column.to_owned());
                    if let Some(default) = default {
                        self.visit_expr(default);
                    }
                    let _ = call;
                    true
                }
                None => false,
            },
            Expr::Compare(compare) => match (&*compare.ops, &*compare.comparators) {
                ([CmpOp::In | CmpOp::NotIn], [right]) if self.is_row(right) => self.literal(&compare.left),
                _ => false,
            },
            _ => false,
        }
    }

    fn literal(&mut self, expression: &Expr) -> bool {
        let Expr::StringLiteral(literal) = expression else { return false };
        self.facts.columns.insert(literal.value.to_str().to_owned());
        true
    }

    fn attribute(&mut self, attribute: &ExprAttribute) -> bool {
        let name = attribute.attr.as_str();
        if ROW_METHODS.contains(&name) || !matches!(attribute.ctx, ExprContext::Load) {
            return false;
        }
        self.facts.columns.insert(name.to_owned());
        self.facts.attributes.push((attribute.range, name.to_owned()));
        true
    }
}

/// The column and the default of `row.get('column', default)`.
pub fn get_of<'e>(expression: &'e Expr, row: &str) -> Option<(&'e str, Option<&'e Expr>)> {
    let Expr::Call(call) = expression else { return None };
    let Expr::Attribute(attribute) = &*call.func else { return None };
    if !is_name(&attribute.value, row) || attribute.attr.as_str() != "get" || !call.arguments.keywords.is_empty() {
        return None;
    }
    match &*call.arguments.args {
        [Expr::StringLiteral(column)] => Some((column.value.to_str(), None)),
        [Expr::StringLiteral(column), default] if !default.is_starred_expr() => Some((column.value.to_str(), Some(default))),
        _ => None,
    }
}

pub fn is_name(expression: &Expr, name: &str) -> bool {
    matches!(expression, Expr::Name(found) if found.id.as_str() == name)
}

impl<'a> Visitor<'a> for Walk<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if self.named(expression) {
            return;
        }
        if let Expr::Name(name) = expression
            && name.id.as_str() == self.row
        {
            match name.ctx {
                ExprContext::Load => self.facts.whole_row = true,
                _ => self.facts.rebound = true,
            }
        }
        walk_expr(self, expression);
    }

    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if let Stmt::FunctionDef(function) = statement
            && function.name.as_str() == self.row
        {
            self.facts.rebound = true;
        }
        walk_stmt(self, statement);
    }

    fn visit_parameter(&mut self, parameter: &'a ruff_python_ast::Parameter) {
        if parameter.name.as_str() == self.row {
            self.facts.rebound = true;
        }
    }

    fn visit_except_handler(&mut self, handler: &'a ruff_python_ast::ExceptHandler) {
        let ruff_python_ast::ExceptHandler::ExceptHandler(inner) = handler;
        if inner.name.as_ref().is_some_and(|name| name.as_str() == self.row) {
            self.facts.rebound = true;
        }
        ruff_python_ast::visitor::walk_except_handler(self, handler);
    }

    fn visit_alias(&mut self, alias: &'a ruff_python_ast::Alias) {
        if alias.asname.as_ref().unwrap_or(&alias.name).as_str() == self.row {
            self.facts.rebound = true;
        }
        let _ = alias.range();
    }
}
