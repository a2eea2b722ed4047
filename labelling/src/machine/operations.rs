//! Operators, builtins and methods, type by type.

use super::{Locals, Machine};
use crate::ir::{BinaryOp, Body, Builtin, CompareOp, Expr, Line, MathFunction, Pattern, Scalar, StrMethod, TimeField, UnaryOp};
use crate::kernels::{self, Computed, Number, each, floats, ints};
use crate::mask::Mask;
use crate::mathematics;
use crate::python::{self, Trouble};
use crate::temporal::{self, Kind};
use crate::text;
use crate::vector::{NONE, Value, Vector};
use std::borrow::Cow;

impl<'p, 'a> Machine<'p, 'a> {
    pub(super) fn operation(&mut self, expression: &'p Line<Expr>, active: &mut Mask, scope: (&'p Body, &Locals<'a>)) -> Value<'a> {
        let line = expression.line;
        match &expression.of {
            Expr::Unary(op, operand) => {
                let value = self.value(operand, active, scope);
                self.map(value, line, active, |machine, vector, rows| machine.unary(*op, vector, rows))
            }
            Expr::Binary(op, left, right) => {
                let left = self.value(left, active, scope);
                let right = self.value(right, active, scope);
                self.zip(&left, &right, line, active, |machine, left, right, rows| machine.binary(*op, left, right, rows))
            }
            Expr::Call(builtin @ (Builtin::Max | Builtin::Min), arguments) => self.extreme(*builtin, arguments, line, active, scope),
            Expr::Call(builtin, arguments) => {
                let value = self.value(&arguments[0], active, scope);
                let digits = match arguments.get(1).map(|digits| &digits.of) {
                    Some(Expr::Const(Scalar::Int(digits))) => usize::try_from(*digits).ok(),
                    _ => None,
                };
                if *builtin == Builtin::Bool {
                    let holds = self.truth_of(&value);
                    return Value::one(*active, Vector::Bool(holds));
                }
                self.map(value, line, active, |machine, vector, rows| machine.builtin(*builtin, digits, vector, rows))
            }
            Expr::Str(method, subject, arguments) => {
                let value = self.value(subject, active, scope);
                self.map(value, line, active, |machine, vector, rows| match vector.texts() {
                    Some(texts) => Ok(text::method(*method, &texts, arguments, rows, machine.len, &mut machine.text_bytes_left)),
                    None => Err(no_attribute(vector, str_method_name(*method))),
                })
            }
            Expr::Time(field, subject) => {
                let value = self.value(subject, active, scope);
                self.map(value, line, active, |machine, vector, rows| {
                    let computed = temporal::field(*field, vector, rows, machine.len);
                    computed.ok_or_else(|| no_attribute(vector, time_field_name(*field)))
                })
            }
            Expr::Math(function, arguments) => self.math(*function, arguments, line, active, scope),
            Expr::Search(pattern, subject) => {
                let value = self.value(subject, active, scope);
                self.search(pattern, value, line, active)
            }
            _ => Value::default(),
        }
    }

    fn search(&mut self, pattern: &Pattern, value: Value<'a>, line: u32, active: &mut Mask) -> Value<'a> {
        let mut found = Value::default();
        for (rows, vector) in value.pieces {
            let Some(texts) = vector.texts() else {
                let message = format!("TypeError: expected string or bytes-like object, got '{}'", vector.type_name());
                self.raise(line, &rows, message, active);
                continue;
            };
            let (mut matches, mut long, mut foreign) = (Mask::EMPTY, Mask::EMPTY, Mask::EMPTY);
            let rows = rows.and(active);
            for (index, row) in rows.rows().enumerate() {
                let text = texts.at(row);
                if index % SEARCHES_PER_LOOK == 0 && self.out_of_time(line, active) {
                    return Value::default();
                }
                if text.len() > SEARCHED_BYTES_MAX {
                    long.insert(row);
                } else if pattern.ascii_only && !text.is_ascii() {
                    foreign.insert(row);
                } else if pattern.regex.is_match(text) {
                    matches.insert(row);
                }
            }
            self.give_away(&long, active);
            self.raise(line, &foreign, "NotImplementedError: \\b or ignoring case in a text that is not ASCII", active);
            found.push(matches, Vector::Match);
            found.push(rows.and(active).without(&matches), NONE);
        }
        found
    }

    /// An operation of one value, a type at a time. `Err` is what all rows of that type raise.
    fn map(
        &mut self,
        value: Value<'a>,
        line: u32,
        active: &mut Mask,
        mut of: impl FnMut(&mut Self, &Vector<'a>, &Mask) -> Result<Computed<'a>, Failure>,
    ) -> Value<'a> {
        let mut mapped = Value::default();
        for (rows, vector) in value.pieces {
            let rows = rows.and(active);
            if rows.is_empty() {
                continue;
            }
            match of(self, &vector, &rows) {
                Ok(computed) => mapped.extend(self.take(computed, line, &rows, active)),
                Err(failure) => self.fail(failure, line, &rows, active),
            }
        }
        mapped.compact(self.len)
    }

    fn fail(&mut self, failure: Failure, line: u32, rows: &Mask, active: &mut Mask) {
        match failure {
            Failure::Raises(message) => self.raise(line, rows, message, active),
            Failure::Elsewhere => self.give_away(rows, active),
        }
    }

    /// An operation of two values, for each two types that meet in a row.
    fn zip(
        &mut self,
        left: &Value<'a>,
        right: &Value<'a>,
        line: u32,
        active: &mut Mask,
        of: impl Fn(&mut Self, &Vector<'a>, &Vector<'a>, &Mask) -> Result<Computed<'a>, Failure>,
    ) -> Value<'a> {
        let mut zipped = Value::default();
        for (left_rows, left) in &left.pieces {
            for (right_rows, right) in &right.pieces {
                let rows = left_rows.and(right_rows).and(active);
                if rows.is_empty() {
                    continue;
                }
                match of(self, left, right, &rows) {
                    Ok(computed) => zipped.extend(self.take(computed, line, &rows, active)),
                    Err(failure) => self.fail(failure, line, &rows, active),
                }
            }
        }
        zipped.compact(self.len)
    }

    fn unary(&mut self, op: UnaryOp, vector: &Vector<'a>, rows: &Mask) -> Result<Computed<'a>, Failure> {
        let zero = Vector::Const(Scalar::Int(0));
        match (op, Number::of(vector, self.len)) {
            // 0.0 - 0.0 is not -0.0, so floats are turned by themselves.
            (UnaryOp::Neg, Some(Number::Float(side))) => Ok(each(rows, self.len, |row| Ok(-side.at(row)), floats)),
            (UnaryOp::Neg, Some(_)) => self.binary(BinaryOp::Sub, &zero, vector, rows),
            (UnaryOp::Pos, Some(Number::Float(side))) => Ok(each(rows, self.len, |row| Ok(side.at(row)), floats)),
            (UnaryOp::Pos, Some(_)) => self.binary(BinaryOp::Add, &zero, vector, rows),
            (_, None) if temporal::kind(vector) == Some(Kind::Delta) => Err(Failure::Elsewhere),
            (op, None) => {
                let symbol = if op == UnaryOp::Neg { "-" } else { "+" };
                Err(Failure::Raises(format!("TypeError: bad operand type for unary {symbol}: '{}'", vector.type_name())))
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &Vector<'a>, right: &Vector<'a>, rows: &Mask) -> Result<Computed<'a>, Failure> {
        let len = self.len;
        if let (Some(left), Some(right)) = (Number::of(left, len), Number::of(right, len)) {
            return Ok(kernels::arithmetic(op, left, right, rows, len));
        }
        let (left_name, right_name) = (left.type_name(), right.type_name());
        if let Some(computed) = temporal::arithmetic(op, left, right, rows, len) {
            return Ok(computed);
        }
        match (op, left_name, right_name) {
            (BinaryOp::Add, "str", "str") => return Ok(self.concatenated(left, right, rows)),
            (BinaryOp::Mod, "str", _) => return Err(Failure::Raises("NotImplementedError: % formatting".to_owned())),
            // A repeated text, a multiple of a span, a naive and an aware moment: exact in the other tier.
            (BinaryOp::Mul, "str", "int" | "bool") | (BinaryOp::Mul, "int" | "bool", "str") => return Err(Failure::Elsewhere),
            (_, "datetime.timedelta", _) | (_, _, "datetime.timedelta") => return Err(Failure::Elsewhere),
            (BinaryOp::Sub, "datetime.datetime", "datetime.datetime") => {
                return Err(Failure::Raises("TypeError: can't subtract offset-naive and offset-aware datetimes".to_owned()));
            }
            (BinaryOp::Add, "str", _) => {
                return Err(Failure::Raises(format!("TypeError: can only concatenate str (not \"{right_name}\") to str")));
            }
            _ => {}
        }
        let symbol = op.symbol();
        Err(Failure::Raises(format!("TypeError: unsupported operand type(s) for {symbol}: '{left_name}' and '{right_name}'")))
    }

    fn concatenated(&mut self, left: &Vector<'a>, right: &Vector<'a>, rows: &Mask) -> Computed<'a> {
        let (Some(left), Some(right)) = (left.texts(), right.texts()) else { return Computed::of(NONE) };
        let budget = &mut self.text_bytes_left;
        let join = |row: usize| {
            let (left, right) = (left.at(row), right.at(row));
            text::made(left.len() + right.len(), budget)?;
            Ok(Cow::Owned(format!("{left}{right}")))
        };
        each(rows, self.len, join, |values| Vector::Str(values.into()))
    }

    fn builtin(&mut self, builtin: Builtin, digits: Option<usize>, vector: &Vector<'a>, rows: &Mask) -> Result<Computed<'a>, Failure> {
        let len = self.len;
        let number = Number::of(vector, len);
        let text = vector.texts();
        let raises = |message: String| Err(Failure::Raises(message));
        let name = vector.type_name();
        match (builtin, number, text) {
            (Builtin::Abs, Some(Number::Float(side)), _) => Ok(each(rows, len, |row| Ok(side.at(row).abs()), floats)),
            (Builtin::Abs, Some(Number::Int(side)), _) => {
                Ok(each(rows, len, |row| side.at(row).checked_abs().ok_or(Trouble::Elsewhere), ints))
            }
            (Builtin::Abs, None, _) if name == "datetime.timedelta" => Err(Failure::Elsewhere),
            (Builtin::Abs, None, _) => raises(format!("TypeError: bad operand type for abs(): '{name}'")),
            (Builtin::Float, Some(number), _) => {
                let side = number.floats();
                Ok(each(rows, len, |row| Ok(side.at(row)), floats))
            }
            (Builtin::Float, None, Some(texts)) => Ok(each(rows, len, |row| python::parse_float(texts.at(row)), floats)),
            (Builtin::Float, None, None) => raises(format!("TypeError: float() argument must be a string or a real number, not '{name}'")),
            (Builtin::Int, Some(Number::Int(side)), _) => Ok(each(rows, len, |row| Ok(side.at(row)), ints)),
            (Builtin::Int, Some(Number::Float(side)), _) => Ok(each(rows, len, |row| python::to_int(side.at(row)), ints)),
            (Builtin::Int, None, Some(texts)) => Ok(each(rows, len, |row| python::parse_int(texts.at(row)), ints)),
            (Builtin::Int, None, None) => {
                raises(format!("TypeError: int() argument must be a string, a bytes-like object or a real number, not '{name}'"))
            }
            (Builtin::Len, None, Some(texts)) => Ok(each(rows, len, |row| Ok(text::length(texts.at(row))), ints)),
            (Builtin::Len, ..) => raises(format!("TypeError: object of type '{name}' has no len()")),
            (Builtin::Round, Some(Number::Int(side)), _) => Ok(each(rows, len, |row| Ok(side.at(row)), ints)),
            (Builtin::Round, Some(Number::Float(side)), _) => Ok(match digits {
                Some(digits) => each(rows, len, |row| Ok(python::round_to(side.at(row), digits)), floats),
                None => each(rows, len, |row| python::to_int(side.at(row).round_ties_even()), ints),
            }),
            (Builtin::Round, None, _) => raises(format!("TypeError: type {name} doesn't define __round__ method")),
            (Builtin::Str, number, texts) => self.written(vector, number, texts.is_some(), rows),
            (Builtin::Bool | Builtin::Max | Builtin::Min, ..) => Err(Failure::Elsewhere),
        }
    }

    fn written(&mut self, vector: &Vector<'a>, number: Option<Number<'a>>, text: bool, rows: &Mask) -> Result<Computed<'a>, Failure> {
        let strings = |values: Vec<Cow<'a, str>>| Vector::Str(values.into());
        let len = self.len;
        match (vector, number) {
            (vector, _) if text => Ok(Computed::of(vector.clone())),
            (vector, _) if vector.is_none() => Ok(Computed::of(Vector::Const(Scalar::Str("None".into())))),
            (vector, Some(Number::Int(side))) => {
                let truth = vector.type_name() == "bool";
                let write = |value: i64| match (truth, value) {
                    (true, 0) => Cow::Borrowed("False"),
                    (true, _) => Cow::Borrowed("True"),
                    (false, value) => Cow::Owned(value.to_string()),
                };
                Ok(each(rows, len, |row| Ok(write(side.at(row))), strings))
            }
            (_, Some(Number::Float(side))) => Ok(each(rows, len, |row| Ok(Cow::Owned(python::float_text(side.at(row)))), strings)),
            _ => Err(Failure::Elsewhere),
        }
    }

    /// The first of the largest or smallest.
    fn extreme(
        &mut self,
        builtin: Builtin,
        arguments: &'p [Line<Expr>],
        line: u32,
        active: &mut Mask,
        scope: (&'p Body, &Locals<'a>),
    ) -> Value<'a> {
        let op = if builtin == Builtin::Max { CompareOp::Gt } else { CompareOp::Lt };
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.value(argument, active, scope));
        }
        let mut values = values.into_iter();
        let mut best = values.next().unwrap_or_default();
        for value in values {
            let better = self.compare(op, &value, &best, line, active);
            let mut next = best.only(&active.without(&better));
            next.extend(value.only(&better));
            best = next.compact(self.len);
        }
        best.only(active)
    }

    fn math(
        &mut self,
        function: MathFunction,
        arguments: &'p [Line<Expr>],
        line: u32,
        active: &mut Mask,
        scope: (&'p Body, &Locals<'a>),
    ) -> Value<'a> {
        let numbers = |machine: &Self, vectors: &[&Vector<'a>]| {
            let number = |vector: &&Vector<'a>| {
                Number::of(vector, machine.len)
                    .ok_or_else(|| Failure::Raises(format!("TypeError: must be real number, not {}", vector.type_name())))
            };
            vectors.iter().map(number).collect::<Result<Vec<_>, _>>()
        };
        let first = self.value(&arguments[0], active, scope);
        let Some(second) = arguments.get(1) else {
            return self.map(first, line, active, |machine, vector, rows| {
                Ok(mathematics::evaluate(function, numbers(machine, &[vector])?, rows, machine.len))
            });
        };
        let second = self.value(second, active, scope);
        self.zip(&first, &second, line, active, |machine, left, right, rows| {
            Ok(mathematics::evaluate(function, numbers(machine, &[left, right])?, rows, machine.len))
        })
    }

    /// The rows in which a chain of comparisons holds.
    pub(super) fn chain(
        &mut self,
        first: &'p Line<Expr>,
        rest: &'p [(CompareOp, Line<Expr>)],
        line: u32,
        active: &mut Mask,
        scope: (&'p Body, &Locals<'a>),
    ) -> Mask {
        let mut left = self.value(first, active, scope);
        let mut rows = *active;
        for (op, operand) in rest {
            if rows.is_empty() {
                break;
            }
            let before = rows;
            let right = self.value(operand, &mut rows, scope);
            let holds = self.compare(*op, &left, &right, line, &mut rows);
            *active = active.without(&before.without(&rows));
            rows = holds;
            left = right;
        }
        rows
    }

    fn compare(&mut self, op: CompareOp, left: &Value<'a>, right: &Value<'a>, line: u32, active: &mut Mask) -> Mask {
        let mut all = Mask::EMPTY;
        for (left_rows, left) in &left.pieces {
            for (right_rows, right) in &right.pieces {
                let rows = left_rows.and(right_rows).and(active);
                if rows.is_empty() {
                    continue;
                }
                match self.compare_vectors(op, left, right, &rows) {
                    Ok(holds) => all = all.or(&holds.and(&rows)),
                    Err(failure) => self.fail(failure, line, &rows, active),
                }
            }
        }
        all.and(active)
    }

    fn compare_vectors(&mut self, op: CompareOp, left: &Vector<'a>, right: &Vector<'a>, rows: &Mask) -> Result<Mask, Failure> {
        match op {
            CompareOp::Is => return Ok(self.is(left, right)),
            CompareOp::IsNot => return Ok(rows.without(&self.is(left, right))),
            CompareOp::In => return self.contains(left, right, rows),
            CompareOp::NotIn => return Ok(rows.without(&self.contains(left, right, rows)?)),
            _ => {}
        }
        let len = self.len;
        if let (Some(left), Some(right)) = (Number::of(left, len), Number::of(right, len)) {
            return Ok(kernels::compare_numbers(op, &left, &right));
        }
        if let Some(holds) = compare_texts(op, left, right, len) {
            return Ok(holds);
        }
        let (left_name, right_name) = (left.type_name(), right.type_name());
        let kinds = (temporal::kind(left), temporal::kind(right));
        if let (Some(of_left), Some(of_right)) = kinds
            && of_left == of_right
        {
            return Ok(kernels::compare_sides(op, &temporal::side(left, len), &temporal::side(right, len)));
        }
        let same = left.is_none() && right.is_none() || matches!((left, right), (Vector::Match, Vector::Match));
        match (op, kinds) {
            (CompareOp::Eq | CompareOp::NotEq, _) if matches!(left, Vector::Match) && same => Err(Failure::Elsewhere),
            (CompareOp::Eq, _) => Ok(if same { *rows } else { Mask::EMPTY }),
            (CompareOp::NotEq, _) => Ok(if same { Mask::EMPTY } else { *rows }),
            (_, (Some(Kind::Datetime { .. }), Some(Kind::Datetime { .. }))) => {
                Err(Failure::Raises("TypeError: can't compare offset-naive and offset-aware datetimes".to_owned()))
            }
            (_, (Some(Kind::Datetime { .. }), Some(Kind::Date))) | (_, (Some(Kind::Date), Some(Kind::Datetime { .. }))) => {
                Err(Failure::Raises(format!("TypeError: can't compare {left_name} to {right_name}")))
            }
            _ => {
                let symbol = op.symbol();
                Err(Failure::Raises(format!("TypeError: '{symbol}' not supported between instances of '{left_name}' and '{right_name}'")))
            }
        }
    }

    fn is(&self, left: &Vector<'a>, right: &Vector<'a>) -> Mask {
        let all = Mask::first(self.len);
        match right {
            Vector::Const(Scalar::None) if left.is_none() => all,
            Vector::Const(Scalar::Bool(value)) if left.type_name() == "bool" => {
                let truth = left.bools(self.len);
                if *value { truth } else { all.without(&truth) }
            }
            _ => Mask::EMPTY,
        }
    }

    fn contains(&mut self, item: &Vector<'a>, container: &Vector<'a>, rows: &Mask) -> Result<Mask, Failure> {
        let (item_name, container_name) = (item.type_name(), container.type_name());
        match container {
            Vector::Const(Scalar::Sequence(_, items)) => {
                let mut found = Mask::EMPTY;
                for scalar in items.iter() {
                    let equal = self.compare_vectors(CompareOp::Eq, item, &Vector::Const(scalar.clone()), rows)?;
                    found = found.or(&equal);
                }
                Ok(found)
            }
            Vector::Str(_) | Vector::Const(Scalar::Str(_)) if item_name == "str" => {
                let (Some(items), Some(texts)) = (item.texts(), container.texts()) else { return Ok(Mask::EMPTY) };
                Ok(Mask::collect(self.len, |row| rows.has(row) && texts.at(row).contains(items.at(row))))
            }
            Vector::Str(_) | Vector::Const(Scalar::Str(_)) => {
                Err(Failure::Raises(format!("TypeError: 'in <string>' requires string as left operand, not {item_name}")))
            }
            _ => Err(Failure::Raises(format!("TypeError: argument of type '{container_name}' is not iterable"))),
        }
    }
}

/// Longer texts are searched by the other tier, which can be ended.
const SEARCHED_BYTES_MAX: usize = 64 * 1024;
/// Searches between two looks at the clock.
const SEARCHES_PER_LOOK: usize = 64;

/// What all rows of a type do instead of giving a value.
pub(super) enum Failure {
    Raises(String),
    Elsewhere,
}

/// Texts compare by their code points, and so do their bytes.
fn compare_texts(op: CompareOp, left: &Vector<'_>, right: &Vector<'_>, len: usize) -> Option<Mask> {
    let by = |test: &dyn Fn(usize) -> std::cmp::Ordering| Mask::collect(len, |row| kernels::holds(op, Some(test(row))));
    match (left, right) {
        (Vector::Str(left), Vector::Const(Scalar::Str(right))) => Some(match op {
            CompareOp::Eq => Mask::collect(len, |row| *left[row] == **right),
            CompareOp::NotEq => Mask::collect(len, |row| *left[row] != **right),
            _ => by(&|row| (*left[row]).cmp(&**right)),
        }),
        (Vector::Const(Scalar::Str(left)), Vector::Str(right)) => Some(by(&|row| (**left).cmp(&*right[row]))),
        (Vector::Str(left), Vector::Str(right)) => Some(by(&|row| left[row].cmp(&right[row]))),
        (Vector::Const(Scalar::Str(left)), Vector::Const(Scalar::Str(right))) => Some(by(&|_| left.cmp(right))),
        _ => None,
    }
}

fn no_attribute(vector: &Vector<'_>, name: &str) -> Failure {
    Failure::Raises(format!("AttributeError: '{}' object has no attribute '{name}'", vector.type_name()))
}

fn str_method_name(method: StrMethod) -> &'static str {
    match method {
        StrMethod::Count => "count",
        StrMethod::EndsWith => "endswith",
        StrMethod::Find => "find",
        StrMethod::IsAlpha => "isalpha",
        StrMethod::IsDigit => "isdigit",
        StrMethod::Lower => "lower",
        StrMethod::LStrip => "lstrip",
        StrMethod::Replace => "replace",
        StrMethod::RStrip => "rstrip",
        StrMethod::StartsWith => "startswith",
        StrMethod::Strip => "strip",
        StrMethod::Upper => "upper",
    }
}

fn time_field_name(field: TimeField) -> &'static str {
    match field {
        TimeField::Date => "date",
        TimeField::Day => "day",
        TimeField::Days => "days",
        TimeField::Hour => "hour",
        TimeField::IsoWeekday => "isoweekday",
        TimeField::Microsecond => "microsecond",
        TimeField::Microseconds => "microseconds",
        TimeField::Minute => "minute",
        TimeField::Month => "month",
        TimeField::Second => "second",
        TimeField::Seconds => "seconds",
        TimeField::TotalSeconds => "total_seconds",
        TimeField::Weekday => "weekday",
        TimeField::Year => "year",
    }
}
