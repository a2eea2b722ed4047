//! Calls: builtins, methods, members of modules, functions of the code.

use super::expressions::time_field;
use super::{Global, Lowered, Lowering, Scope};
use crate::facts;
use crate::ir::{Builtin, Expr, Line, MathFunction, Scalar, StrMethod};
use crate::pattern::{self, Flags, Method};
use crate::python;
use crate::source::Module;
use ruff_python_ast as ast;
use std::sync::Arc;

impl<'a> Lowering<'a, '_, '_> {
    pub(super) fn call(&mut self, call: &'a ast::ExprCall, scope: &Scope) -> Lowered<Expr> {
        if let Some(row) = scope.row.as_deref() {
            let expression = ast::Expr::Call(call.clone());
            if let Some((column, default)) = facts::get_of(&expression, row) {
                let column = self.column_index(column);
                let default = match default {
                    // Of the call itself, not of its copy, which does not live long enough.
                    Some(_) => self.expression(&call.arguments.args[1], scope)?,
                    None => self.at(call, Expr::Const(Scalar::None)),
                };
                return Ok(Expr::Get { column, default: Box::new(default) });
            }
        }
        if let Some((module, member)) = self.member(&call.func, scope) {
            return self.member_call(call, module, &member, scope);
        }
        match &*call.func {
            ast::Expr::Name(name) => self.named_call(call, name, scope),
            ast::Expr::Attribute(attribute) => self.method(call, attribute, scope),
            other => Err(self.unsupported(other, "a call of a computed function")),
        }
    }

    fn arguments(&mut self, call: &'a ast::ExprCall, scope: &Scope) -> Lowered<Vec<Line<Expr>>> {
        if let Some(keyword) = call.arguments.keywords.first() {
            return Err(self.unsupported(keyword, "an argument by name"));
        }
        if let Some(starred) = call.arguments.args.iter().find(|argument| argument.is_starred_expr()) {
            return Err(self.unsupported(starred, "unpacking"));
        }
        call.arguments.args.iter().map(|argument| self.expression(argument, scope)).collect()
    }

    fn named_call(&mut self, call: &'a ast::ExprCall, name: &ast::ExprName, scope: &Scope) -> Lowered<Expr> {
        let text = name.id.as_str();
        if scope.local(text).is_some() {
            return Err(self.unsupported(call, "a call of a local"));
        }
        match self.globals.get(text) {
            Some(Global::Function(function)) => {
                let function = *function;
                let arguments = self.arguments(call, scope)?;
                let index = self.function(function, call)?;
                if self.functions[index].parameters != arguments.len() {
                    return Err(self.unsupported(call, format!("a call of {text} with another number of arguments")));
                }
                return Ok(Expr::User(index, arguments));
            }
            Some(_) => return Err(self.unsupported(call, format!("a call of {text}"))),
            None => {}
        }
        let (builtin, counts) = match text {
            "abs" => (Builtin::Abs, 1..=1),
            "bool" => (Builtin::Bool, 1..=1),
            "float" => (Builtin::Float, 1..=1),
            "int" => (Builtin::Int, 1..=1),
            "len" => (Builtin::Len, 1..=1),
            "max" => (Builtin::Max, 2..=64),
            "min" => (Builtin::Min, 2..=64),
            "round" => (Builtin::Round, 1..=2),
            "str" => (Builtin::Str, 1..=1),
            _ => return Err(self.unsupported(call, format!("{text}()"))),
        };
        let arguments = self.arguments(call, scope)?;
        if !counts.contains(&arguments.len()) {
            return Err(self.unsupported(call, format!("{text}() of {} arguments", arguments.len())));
        }
        if let (Builtin::Round, Some(digits)) = (builtin, arguments.get(1))
            && !matches!(digits.of, Expr::Const(Scalar::Int(0..=300)))
        {
            return Err(self.unsupported(call, "round() to a computed or negative number of digits"));
        }
        Ok(Expr::Call(builtin, arguments))
    }

    fn method(&mut self, call: &'a ast::ExprCall, attribute: &'a ast::ExprAttribute, scope: &Scope) -> Lowered<Expr> {
        let name = attribute.attr.as_str();
        if let ast::Expr::Name(pattern) = &*attribute.value
            && scope.local(pattern.id.as_str()).is_none()
            && let Some(Global::Pattern(pattern, flags)) = self.globals.get(pattern.id.as_str())
        {
            let (pattern, flags) = (pattern.clone(), *flags);
            let (Some(method), Ok(arguments)) = (search_method(name), <[_; 1]>::try_from(self.arguments(call, scope)?)) else {
                return Err(self.unsupported(call, format!("the method {name} of a pattern")));
            };
            let [subject] = arguments;
            return self.search(call, &pattern, flags, method, subject);
        }
        if let Some((field, true)) = time_field(name)
            && call.arguments.is_empty()
        {
            return Ok(Expr::Time(field, Box::new(self.expression(&attribute.value, scope)?)));
        }
        let (method, counts) = match name {
            "count" => (StrMethod::Count, 1..=1),
            "endswith" => (StrMethod::EndsWith, 1..=1),
            "find" => (StrMethod::Find, 1..=1),
            "isalpha" => (StrMethod::IsAlpha, 0..=0),
            "isdigit" => (StrMethod::IsDigit, 0..=0),
            "lower" => (StrMethod::Lower, 0..=0),
            "lstrip" => (StrMethod::LStrip, 0..=1),
            "replace" => (StrMethod::Replace, 2..=2),
            "rstrip" => (StrMethod::RStrip, 0..=1),
            "startswith" => (StrMethod::StartsWith, 1..=1),
            "strip" => (StrMethod::Strip, 0..=1),
            "upper" => (StrMethod::Upper, 0..=0),
            _ => return Err(self.unsupported(call, format!("the method .{name}()"))),
        };
        let mut arguments = Vec::new();
        for argument in &*call.arguments.args {
            // Several prefixes are a tuple of texts.
            arguments.push(match super::sequence_kind(argument) {
                Some((kind, items)) if matches!(method, StrMethod::StartsWith | StrMethod::EndsWith) => {
                    let sequence = self.sequence(kind, items)?;
                    self.at(argument, Expr::Const(sequence))
                }
                _ => self.expression(argument, scope)?,
            });
        }
        let constant = arguments.iter().all(|argument| argument_allowed(method, &argument.of));
        if !call.arguments.keywords.is_empty() || !counts.contains(&arguments.len()) || !constant {
            return Err(self.unsupported(call, format!("these arguments of .{name}()")));
        }
        Ok(Expr::Str(method, Box::new(self.expression(&attribute.value, scope)?), arguments))
    }

    fn member_call(&mut self, call: &'a ast::ExprCall, module: Module, member: &str, scope: &Scope) -> Lowered<Expr> {
        match module {
            Module::Math => {
                let arguments = self.arguments(call, scope)?;
                match math_function(member, arguments.len()) {
                    Some(function) => Ok(Expr::Math(function, arguments)),
                    None => Err(self.unsupported(call, format!("math.{member}"))),
                }
            }
            Module::Re => self.re_call(call, member, scope),
            Module::Datetime => self.moment(call, member, scope),
            Module::Statistics => Err(self.unsupported(call, format!("statistics.{member}"))),
        }
    }

    fn re_call(&mut self, call: &'a ast::ExprCall, member: &str, scope: &Scope) -> Lowered<Expr> {
        let Some(method) = search_method(member) else { return Err(self.unsupported(call, format!("re.{member}"))) };
        let mut positional = call.arguments.args.iter();
        let (Some(pattern), Some(subject)) = (positional.next(), positional.next()) else {
            return Err(self.unsupported(call, format!("these arguments of re.{member}")));
        };
        let by_name = match &*call.arguments.keywords {
            [] => None,
            [keyword] if keyword.arg.as_ref().is_some_and(|name| name.as_str() == "flags") => Some(&keyword.value),
            [keyword, ..] => return Err(self.unsupported(keyword, "an argument by name")),
        };
        let flags = match positional.next().or(by_name) {
            Some(flags) => self.flags(flags, scope).ok_or_else(|| self.unsupported(flags, "these flags"))?,
            None => Flags::default(),
        };
        let Expr::Const(Scalar::Str(text)) = self.expression(pattern, scope)?.of else {
            return Err(self.unsupported(pattern, "a computed pattern"));
        };
        let subject = self.expression(subject, scope)?;
        self.search(call, &text, flags, method, subject)
    }

    fn search(&mut self, call: &ast::ExprCall, text: &str, flags: Flags, method: Method, subject: Line<Expr>) -> Lowered<Expr> {
        match pattern::compile(text, flags, method) {
            Some(pattern) => Ok(Expr::Search(Arc::new(pattern), Box::new(subject))),
            None => Err(self.unsupported(call, "this regular expression")),
        }
    }

    /// `re.compile` of a literal pattern.
    pub(super) fn compiled_pattern(&mut self, value: &ast::Expr) -> Option<(String, Flags)> {
        let ast::Expr::Call(call) = value else { return None };
        let scope = Scope::default();
        let (Module::Re, "compile") = self.member(&call.func, &scope).as_ref().map(|(module, member)| (*module, member.as_str()))? else {
            return None;
        };
        match &*call.arguments.args {
            [ast::Expr::StringLiteral(text)] => Some((text.value.to_str().to_owned(), Flags::default())),
            [ast::Expr::StringLiteral(text), flags] => Some((text.value.to_str().to_owned(), self.flags(flags, &scope)?)),
            _ => None,
        }
    }

    fn flags(&self, expression: &ast::Expr, scope: &Scope) -> Option<Flags> {
        if let ast::Expr::BinOp(operation) = expression {
            let (left, right) = (self.flags(&operation.left, scope)?, self.flags(&operation.right, scope)?);
            return (operation.op == ast::Operator::BitOr).then_some(Flags {
                ignore_case: left.ignore_case || right.ignore_case,
                dot_all: left.dot_all || right.dot_all,
                multi_line: left.multi_line || right.multi_line,
            });
        }
        let (module, member) = self.member(expression, scope)?;
        match (module, member.as_str()) {
            (Module::Re, "I" | "IGNORECASE") => Some(Flags { ignore_case: true, ..Flags::default() }),
            (Module::Re, "S" | "DOTALL") => Some(Flags { dot_all: true, ..Flags::default() }),
            (Module::Re, "M" | "MULTILINE") => Some(Flags { multi_line: true, ..Flags::default() }),
            _ => None,
        }
    }

    /// Constant moments, dates and spans.
    fn moment(&mut self, call: &'a ast::ExprCall, member: &str, scope: &Scope) -> Lowered<Expr> {
        let mut positional = Vec::new();
        for argument in &*call.arguments.args {
            positional.push(self.integer(argument, scope)?);
        }
        let mut named = Vec::new();
        let mut aware = false;
        for keyword in &*call.arguments.keywords {
            let name = keyword.arg.as_ref().map(|name| name.as_str()).unwrap_or_default();
            if name == "tzinfo" {
                let utc = self
                    .member(&keyword.value, scope)
                    .is_some_and(|(module, member)| module == Module::Datetime && matches!(member.as_str(), "timezone.utc" | "UTC"));
                if !utc {
                    return Err(self.unsupported(keyword, "a time zone other than UTC"));
                }
                aware = true;
            } else {
                named.push((name, self.integer(&keyword.value, scope)?));
            }
        }
        let scalar = match member {
            "datetime" => python::moment(&positional, &named).map(|micros| Scalar::Datetime { micros, aware }),
            "date" if !aware => python::date(&positional, &named).map(Scalar::Date),
            "timedelta" if !aware => python::delta(&positional, &named).map(Scalar::Delta),
            _ => None,
        };
        scalar.map(Expr::Const).ok_or_else(|| self.unsupported(call, format!("datetime.{member}() of these arguments")))
    }

    fn integer(&mut self, expression: &'a ast::Expr, scope: &Scope) -> Lowered<i64> {
        match self.expression(expression, scope)?.of {
            Expr::Const(Scalar::Int(value)) => Ok(value),
            _ => Err(self.unsupported(expression, "a computed moment")),
        }
    }
}

/// Arguments of methods are constants: a column as a prefix is for the other tier.
fn argument_allowed(method: StrMethod, argument: &Expr) -> bool {
    match argument {
        Expr::Const(Scalar::Str(text)) => !(text.is_empty() && matches!(method, StrMethod::Replace)),
        Expr::Const(Scalar::None) => matches!(method, StrMethod::Strip | StrMethod::LStrip | StrMethod::RStrip),
        Expr::Const(Scalar::Sequence(crate::ir::SequenceKind::Tuple, items)) => items.iter().all(|item| matches!(item, Scalar::Str(_))),
        _ => false,
    }
}

fn search_method(name: &str) -> Option<Method> {
    match name {
        "match" => Some(Method::Match),
        "search" => Some(Method::Search),
        "fullmatch" => Some(Method::FullMatch),
        _ => None,
    }
}

fn math_function(name: &str, arguments: usize) -> Option<MathFunction> {
    Some(match (name, arguments) {
        ("atan", 1) => MathFunction::Atan,
        ("atan2", 2) => MathFunction::Atan2,
        ("ceil", 1) => MathFunction::Ceil,
        ("copysign", 2) => MathFunction::CopySign,
        ("cos", 1) => MathFunction::Cos,
        ("degrees", 1) => MathFunction::Degrees,
        ("exp", 1) => MathFunction::Exp,
        ("fabs", 1) => MathFunction::Fabs,
        ("floor", 1) => MathFunction::Floor,
        ("fmod", 2) => MathFunction::Fmod,
        ("isfinite", 1) => MathFunction::IsFinite,
        ("isinf", 1) => MathFunction::IsInf,
        ("isnan", 1) => MathFunction::IsNan,
        ("log", 1) => MathFunction::Log,
        ("log10", 1) => MathFunction::Log10,
        ("log1p", 1) => MathFunction::Log1p,
        ("log2", 1) => MathFunction::Log2,
        ("pow", 2) => MathFunction::Pow,
        ("radians", 1) => MathFunction::Radians,
        ("sin", 1) => MathFunction::Sin,
        ("sqrt", 1) => MathFunction::Sqrt,
        ("tan", 1) => MathFunction::Tan,
        ("tanh", 1) => MathFunction::Tanh,
        ("trunc", 1) => MathFunction::Trunc,
        _ => return None,
    })
}
