//! Small questions about expressions.

use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{Expr, Operator};

/// Of floats, the interpreter rounds the quotient where Python takes the rest away first, and has powers that are none; of large integers
/// it rounds twice.
pub fn helper(op: Operator) -> Option<&'static str> {
    match op {
        Operator::FloorDiv => Some("__dl_floordiv"),
        Operator::Pow => Some("__dl_pow"),
        Operator::Div => Some("__dl_div"),
        _ => None,
    }
}

/// `re.M` anywhere in the flags.
pub fn names_lines(expression: &Expr) -> bool {
    match expression {
        Expr::Attribute(attribute) => matches!(attribute.attr.as_str(), "M" | "MULTILINE"),
        Expr::BinOp(operation) => names_lines(&operation.left) || names_lines(&operation.right),
        _ => false,
    }
}

/// As a literal of Python on one line.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for letter in text.chars() {
        match letter {
            '\\' | '\'' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            _ => quoted.push(letter),
        }
    }
    quoted + "'"
}

pub fn function_names_inside(expression: &Expr) -> bool {
    struct Find(bool);
    impl<'a> Visitor<'a> for Find {
        fn visit_expr(&mut self, expression: &'a Expr) {
            self.0 |= matches!(expression, Expr::Named(_));
            walk_expr(self, expression);
        }
    }
    let mut find = Find(false);
    find.visit_expr(expression);
    find.0
}

pub fn text_literal(expression: &Expr) -> bool {
    expression.is_string_literal_expr() || expression.is_f_string_expr()
}

/// A literal sequence with `math.nan` or `float('nan')` among its items.
pub fn holds_nan(expression: &Expr) -> bool {
    let items = match expression {
        Expr::Tuple(tuple) => &tuple.elts,
        Expr::List(list) => &list.elts,
        Expr::Set(set) => &set.elts,
        _ => return false,
    };
    items.iter().any(|item| match item {
        Expr::Attribute(attribute) => attribute.attr.as_str() == "nan",
        Expr::Name(name) => name.id.as_str() == "nan",
        Expr::Call(call) => matches!(&*call.func, Expr::Name(name) if name.id.as_str() == "float"),
        _ => false,
    })
}

/// Functions of `re` that take a pattern.
pub fn is_search(name: &str) -> bool {
    matches!(name, "match" | "search" | "fullmatch" | "findall" | "finditer" | "split" | "sub" | "subn" | "compile")
}

/// Functions that use up their argument before they return, so that a list does as well as a generator.
pub fn consumes(function: &Expr) -> bool {
    match function {
        Expr::Name(name) => {
            let all = ["all", "any", "dict", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"];
            all.contains(&name.id.as_str())
        }
        Expr::Attribute(attribute) => {
            attribute.attr.as_str() == "join" || matches!(&*attribute.value, Expr::Name(name) if name.id.as_str() == "statistics")
        }
        _ => false,
    }
}
