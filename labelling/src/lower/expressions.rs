//! Expressions, but for calls.

use super::{Global, Lowered, Lowering, Scope, sequence_kind};
use crate::ir::{CompareOp, Expr, Line, Scalar, SequenceKind, TimeField, UnaryOp};
use crate::machine;
use crate::source::Module;
use ruff_python_ast as ast;

/// The items of a literal sequence.
pub fn items(expression: &ast::Expr) -> Option<(SequenceKind, &[ast::Expr])> {
    sequence_kind(expression)
}

impl<'a> Lowering<'a, '_, '_> {
    pub(super) fn expression(&mut self, expression: &'a ast::Expr, scope: &Scope) -> Lowered<Line<Expr>> {
        let lowered = self.unfolded(expression, scope)?;
        let lowered = self.at(expression, lowered);
        Ok(match machine::constant(&lowered) {
            Some(scalar) => Line { line: lowered.line, of: Expr::Const(scalar) },
            None => lowered,
        })
    }

    fn boxed(&mut self, expression: &'a ast::Expr, scope: &Scope) -> Lowered<Box<Line<Expr>>> {
        self.expression(expression, scope).map(Box::new)
    }

    fn unfolded(&mut self, expression: &'a ast::Expr, scope: &Scope) -> Lowered<Expr> {
        match expression {
            ast::Expr::StringLiteral(literal) => Ok(Expr::Const(Scalar::Str(literal.value.to_str().into()))),
            ast::Expr::BooleanLiteral(literal) => Ok(Expr::Const(Scalar::Bool(literal.value))),
            ast::Expr::NoneLiteral(_) => Ok(Expr::Const(Scalar::None)),
            ast::Expr::NumberLiteral(literal) => match &literal.value {
                ast::Number::Int(value) => match value.as_i64() {
                    Some(value) => Ok(Expr::Const(Scalar::Int(value))),
                    None => Err(self.unsupported(expression, "an integer beyond 64 bits")),
                },
                ast::Number::Float(value) => Ok(Expr::Const(Scalar::Float(*value))),
                ast::Number::Complex { .. } => Err(self.unsupported(expression, "a complex number")),
            },
            ast::Expr::Name(name) => self.name(name, scope),
            ast::Expr::Subscript(subscript) => match &*subscript.slice {
                ast::Expr::StringLiteral(literal) if scope.is_row(&subscript.value) => Ok(self.column(literal.value.to_str())),
                _ => Err(self.unsupported(expression, "an item or a slice")),
            },
            ast::Expr::Attribute(attribute) => self.attribute(attribute, scope),
            ast::Expr::BoolOp(operation) => {
                let values = operation.values.iter().map(|value| self.expression(value, scope)).collect::<Lowered<Vec<_>>>()?;
                Ok(match operation.op {
                    ast::BoolOp::And => Expr::And(values),
                    ast::BoolOp::Or => Expr::Or(values),
                })
            }
            ast::Expr::UnaryOp(operation) => {
                let operand = self.boxed(&operation.operand, scope)?;
                match operation.op {
                    ast::UnaryOp::Not => Ok(Expr::Not(operand)),
                    ast::UnaryOp::USub => Ok(Expr::Unary(UnaryOp::Neg, operand)),
                    ast::UnaryOp::UAdd => Ok(Expr::Unary(UnaryOp::Pos, operand)),
                    ast::UnaryOp::Invert => Err(self.unsupported(expression, "the operator ~")),
                }
            }
            ast::Expr::BinOp(operation) => {
                let op = self.operator(operation.op, expression)?;
                Ok(Expr::Binary(op, self.boxed(&operation.left, scope)?, self.boxed(&operation.right, scope)?))
            }
            ast::Expr::If(inner) => Ok(Expr::If {
                test: self.boxed(&inner.test, scope)?,
                then: self.boxed(&inner.body, scope)?,
                or_else: self.boxed(&inner.orelse, scope)?,
            }),
            ast::Expr::Compare(compare) => self.compare(compare, scope),
            ast::Expr::Call(call) => self.call(call, scope),
            other => Err(self.unsupported(other, expression_name(other))),
        }
    }

    fn name(&mut self, name: &ast::ExprName, scope: &Scope) -> Lowered<Expr> {
        let text = name.id.as_str();
        if let Some(local) = scope.local(text) {
            return Ok(Expr::Local(local));
        }
        if scope.row.as_deref() == Some(text) {
            return Err(self.unsupported(name, "the row as a value"));
        }
        match self.globals.get(text) {
            // A sequence is only ever searched, see `compare`.
            Some(Global::Const(Scalar::Sequence(..))) => Err(self.unsupported(name, "a sequence as a value")),
            Some(Global::Const(scalar)) => Ok(Expr::Const(scalar.clone())),
            Some(Global::Member(Module::Math, member)) => match math_constant(member) {
                Some(value) => Ok(Expr::Const(Scalar::Float(value))),
                None => Err(self.unsupported(name, "a function as a value")),
            },
            Some(_) => Err(self.unsupported(name, "a function or module as a value")),
            None => Err(self.unsupported(name, format!("the name {text}"))),
        }
    }

    pub(super) fn column_index(&mut self, name: &str) -> usize {
        self.columns.iter().position(|column| column == name).unwrap_or_else(|| {
            self.columns.push(name.to_owned());
            self.columns.len() - 1
        })
    }

    fn column(&mut self, name: &str) -> Expr {
        Expr::Column { column: self.column_index(name) }
    }

    /// The module that a name or an attribute stands for, and what of it.
    pub(super) fn member(&self, expression: &ast::Expr, scope: &Scope) -> Option<(Module, String)> {
        match expression {
            ast::Expr::Name(name) if scope.local(name.id.as_str()).is_none() => match self.globals.get(name.id.as_str()) {
                Some(Global::Member(module, member)) => Some((*module, member.clone())),
                _ => None,
            },
            ast::Expr::Attribute(attribute) => {
                let member = attribute.attr.as_str();
                if let ast::Expr::Name(name) = &*attribute.value
                    && scope.local(name.id.as_str()).is_none()
                    && let Some(Global::Module(module)) = self.globals.get(name.id.as_str())
                {
                    return Some((*module, member.to_owned()));
                }
                let (module, outer) = self.member(&attribute.value, scope)?;
                Some((module, format!("{outer}.{member}")))
            }
            _ => None,
        }
    }

    fn attribute(&mut self, attribute: &'a ast::ExprAttribute, scope: &Scope) -> Lowered<Expr> {
        let name = attribute.attr.as_str();
        if scope.is_row(&attribute.value) {
            return match name {
                "get" | "keys" | "values" | "items" => Err(self.unsupported(attribute, format!("row.{name}"))),
                _ => Ok(self.column(name)),
            };
        }
        if let Some((module, member)) = self.member(&ast::Expr::Attribute(attribute.clone()), scope) {
            return match (module, math_constant(&member)) {
                (Module::Math, Some(value)) => Ok(Expr::Const(Scalar::Float(value))),
                _ => Err(self.unsupported(attribute, format!("{}.{member}", module.name()))),
            };
        }
        match time_field(name) {
            Some((field, false)) => Ok(Expr::Time(field, self.boxed(&attribute.value, scope)?)),
            _ => Err(self.unsupported(attribute, format!("the attribute .{name}"))),
        }
    }

    fn compare(&mut self, compare: &'a ast::ExprCompare, scope: &Scope) -> Lowered<Expr> {
        // `'x' in row` stands alone: the row is no value.
        if let ([op @ (ast::CmpOp::In | ast::CmpOp::NotIn)], [right]) = (&*compare.ops, &*compare.comparators)
            && scope.is_row(right)
        {
            let ast::Expr::StringLiteral(name) = &*compare.left else {
                return Err(self.unsupported(compare, "a computed column name"));
            };
            let has = Expr::Has { column: self.column_index(name.value.to_str()) };
            return Ok(match op {
                ast::CmpOp::In => has,
                _ => Expr::Not(Box::new(self.at(compare, has))),
            });
        }
        let left = self.boxed(&compare.left, scope)?;
        let mut rest = Vec::with_capacity(compare.ops.len());
        for (op, operand) in compare.ops.iter().zip(&*compare.comparators) {
            let op = compare_op(*op);
            let right = match op {
                CompareOp::In | CompareOp::NotIn => self.container(operand, scope)?,
                CompareOp::Is | CompareOp::IsNot if !is_singleton(operand) => {
                    return Err(self.unsupported(operand, "is with anything but None, True or False"));
                }
                _ => self.expression(operand, scope)?,
            };
            rest.push((op, right));
        }
        if rest.len() > 1 && rest.iter().any(|(_, right)| matches!(&right.of, Expr::Const(Scalar::Sequence(..)))) {
            return Err(self.unsupported(compare, "a chain with in"));
        }
        Ok(Expr::Compare(left, rest))
    }

    /// What is searched: a literal sequence, a constant that is one, or a text.
    fn container(&mut self, expression: &'a ast::Expr, scope: &Scope) -> Lowered<Line<Expr>> {
        if let Some((kind, items)) = items(expression) {
            let sequence = self.sequence_in(kind, items, scope)?;
            return Ok(self.at(expression, Expr::Const(sequence)));
        }
        if let ast::Expr::Name(name) = expression
            && scope.local(name.id.as_str()).is_none()
            && let Some(Global::Const(sequence @ Scalar::Sequence(..))) = self.globals.get(name.id.as_str())
        {
            return Ok(self.at(expression, Expr::Const(sequence.clone())));
        }
        self.expression(expression, scope)
    }

    pub(super) fn sequence(&mut self, kind: SequenceKind, items: &'a [ast::Expr]) -> Lowered<Scalar> {
        self.sequence_in(kind, items, &Scope::default())
    }

    fn sequence_in(&mut self, kind: SequenceKind, items: &'a [ast::Expr], scope: &Scope) -> Lowered<Scalar> {
        let mut scalars = Vec::with_capacity(items.len());
        for item in items {
            match self.expression(item, scope)?.of {
                Expr::Const(Scalar::Float(value)) if value.is_nan() => return Err(self.unsupported(item, "nan in a sequence")),
                Expr::Const(scalar) => scalars.push(scalar),
                _ => return Err(self.unsupported(item, "a sequence of computed values")),
            }
        }
        Ok(Scalar::Sequence(kind, scalars.into()))
    }
}

fn is_singleton(expression: &ast::Expr) -> bool {
    matches!(expression, ast::Expr::NoneLiteral(_) | ast::Expr::BooleanLiteral(_))
}

fn compare_op(op: ast::CmpOp) -> CompareOp {
    match op {
        ast::CmpOp::Eq => CompareOp::Eq,
        ast::CmpOp::NotEq => CompareOp::NotEq,
        ast::CmpOp::Lt => CompareOp::Lt,
        ast::CmpOp::LtE => CompareOp::LtE,
        ast::CmpOp::Gt => CompareOp::Gt,
        ast::CmpOp::GtE => CompareOp::GtE,
        ast::CmpOp::In => CompareOp::In,
        ast::CmpOp::NotIn => CompareOp::NotIn,
        ast::CmpOp::Is => CompareOp::Is,
        ast::CmpOp::IsNot => CompareOp::IsNot,
    }
}

fn math_constant(name: &str) -> Option<f64> {
    match name {
        "pi" => Some(std::f64::consts::PI),
        "e" => Some(std::f64::consts::E),
        "tau" => Some(std::f64::consts::TAU),
        "inf" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}

/// A field, and whether it is called.
pub fn time_field(name: &str) -> Option<(TimeField, bool)> {
    Some(match name {
        "date" => (TimeField::Date, true),
        "day" => (TimeField::Day, false),
        "days" => (TimeField::Days, false),
        "hour" => (TimeField::Hour, false),
        "isoweekday" => (TimeField::IsoWeekday, true),
        "microsecond" => (TimeField::Microsecond, false),
        "microseconds" => (TimeField::Microseconds, false),
        "minute" => (TimeField::Minute, false),
        "month" => (TimeField::Month, false),
        "second" => (TimeField::Second, false),
        "seconds" => (TimeField::Seconds, false),
        "total_seconds" => (TimeField::TotalSeconds, true),
        "weekday" => (TimeField::Weekday, true),
        "year" => (TimeField::Year, false),
        _ => return None,
    })
}

fn expression_name(expression: &ast::Expr) -> &'static str {
    match expression {
        ast::Expr::FString(_) => "an f-string",
        ast::Expr::Lambda(_) => "lambda",
        ast::Expr::ListComp(_) | ast::Expr::SetComp(_) | ast::Expr::DictComp(_) => "a comprehension",
        ast::Expr::Generator(_) => "a generator expression",
        ast::Expr::Tuple(_) | ast::Expr::List(_) | ast::Expr::Set(_) => "a sequence as a value",
        ast::Expr::Dict(_) => "a dictionary",
        ast::Expr::Named(_) => ":=",
        ast::Expr::BytesLiteral(_) => "bytes",
        ast::Expr::Starred(_) => "unpacking",
        ast::Expr::Slice(_) => "a slice",
        _ => "an expression",
    }
}
