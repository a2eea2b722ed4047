//! What names mean in a module, as far as the interpreter's text depends on it.

use crate::source::{Module, Source};
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ModModule, Stmt};
use std::collections::{BTreeMap, BTreeSet};

/// The names under which modules are known in the code.
pub fn modules(tree: &ModModule, source: &Source) -> BTreeMap<String, Module> {
    let mut names: BTreeMap<_, _> = source.allowed_imports.iter().map(|module| (module.name().to_owned(), *module)).collect();
    struct Imports<'n>(&'n mut BTreeMap<String, Module>);
    impl<'a> Visitor<'a> for Imports<'_> {
        fn visit_stmt(&mut self, statement: &'a Stmt) {
            if let Stmt::Import(import) = statement {
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    if let Some(module) = Module::parse(alias.name.as_str()) {
                        self.0.insert(bound.to_string(), module);
                    }
                }
            }
            walk_stmt(self, statement);
        }
        fn visit_expr(&mut self, _: &'a Expr) {}
    }
    Imports(&mut names).visit_body(&tree.body);
    names
}

/// Names that the code itself gives a meaning to, anywhere.
pub fn shadowed(tree: &ModModule) -> BTreeSet<String> {
    #[derive(Default)]
    struct Bound(BTreeSet<String>);
    impl<'a> Visitor<'a> for Bound {
        fn visit_stmt(&mut self, statement: &'a Stmt) {
            match statement {
                Stmt::FunctionDef(function) => {
                    self.0.insert(function.name.to_string());
                }
                Stmt::ImportFrom(import) => {
                    for alias in &import.names {
                        self.0.insert(alias.asname.as_ref().unwrap_or(&alias.name).to_string());
                    }
                }
                _ => {}
            }
            walk_stmt(self, statement);
        }
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Name(name) = expression
                && !name.ctx.is_load()
            {
                self.0.insert(name.id.to_string());
            }
            walk_expr(self, expression);
        }
        fn visit_parameter(&mut self, parameter: &'a ruff_python_ast::Parameter) {
            self.0.insert(parameter.name.to_string());
        }
        fn visit_except_handler(&mut self, handler: &'a ruff_python_ast::ExceptHandler) {
            let ruff_python_ast::ExceptHandler::ExceptHandler(inner) = handler;
            self.0.extend(inner.name.as_ref().map(ToString::to_string));
            ruff_python_ast::visitor::walk_except_handler(self, handler);
        }
    }
    let mut bound = Bound::default();
    bound.visit_body(&tree.body);
    bound.0
}

/// Whether the module has nothing that a call could change: constants, functions without defaults, imports.
pub fn stateless(tree: &ModModule) -> bool {
    fn constant(expression: &Expr) -> bool {
        match expression {
            Expr::Tuple(tuple) => tuple.elts.iter().all(constant),
            Expr::UnaryOp(unary) => constant(&unary.operand),
            Expr::BinOp(binary) => constant(&binary.left) && constant(&binary.right),
            Expr::Name(_) => true,
            // Patterns and moments do not change.
            Expr::Call(call) => matches!(&*call.func, Expr::Attribute(_)) && call.arguments.args.iter().all(constant),
            Expr::Attribute(attribute) => constant(&attribute.value),
            other => other.is_literal_expr(),
        }
    }
    tree.body.iter().all(|statement| match statement {
        Stmt::Import(_) | Stmt::ImportFrom(_) | Stmt::Pass(_) => true,
        Stmt::Expr(inner) => inner.value.is_literal_expr(),
        Stmt::Assign(assign) => assign.targets.iter().all(Expr::is_name_expr) && constant(&assign.value),
        Stmt::AnnAssign(assign) => assign.target.is_name_expr() && assign.value.as_deref().is_none_or(constant),
        Stmt::FunctionDef(function) => function.parameters.iter_non_variadic_params().all(|parameter| parameter.default.is_none()),
        _ => false,
    })
}

/// The name of every attribute in the code.
pub fn attributes(tree: &ModModule) -> BTreeSet<String> {
    struct Attributes(BTreeSet<String>);
    impl<'a> Visitor<'a> for Attributes {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Attribute(attribute) = expression {
                self.0.insert(attribute.attr.to_string());
            }
            walk_expr(self, expression);
        }
    }
    let mut attributes = Attributes(BTreeSet::new());
    attributes.visit_body(&tree.body);
    attributes.0
}
