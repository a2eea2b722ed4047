//! Regular expressions in the code: written again for the interpreter's engine, and those of simple searches compiled once.

use super::syntax::{names_lines, quoted};
use super::{Edit, Piece, Walk};
use crate::pattern;
use crate::source::Module;
use ruff_python_ast::{Expr, ExprCall};
use ruff_text_size::Ranged;

impl Walk<'_, '_> {
    /// A function of `re` whose first argument is a pattern.
    pub(super) fn searches(&self, call: &ExprCall) -> bool {
        match &*call.func {
            Expr::Attribute(attribute) => self.module_of(&attribute.value) == Some(Module::Re) && attribute.attr.as_str() != "escape",
            Expr::Name(name) => self.from_re.contains_key(name.id.as_str()),
            _ => false,
        }
    }

    /// Finds one match after another.
    fn searches_on(&self, call: &ExprCall) -> bool {
        let name = match &*call.func {
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            Expr::Name(name) => self.from_re.get(name.id.as_str()).map_or("", String::as_str),
            _ => "",
        };
        let methods = ["findall", "finditer", "split", "sub", "subn"];
        methods.contains(&name) || (name == "compile" && methods.iter().any(|method| self.methods.contains(*method)))
    }

    fn goes_on(&mut self, call: &ExprCall, pattern: &pattern::Rewritten) {
        if !self.searches_on(call) {
            return;
        }
        if !pattern.consumes {
            self.refused(call.start(), "a pattern that can match nothing, searched on", "use a pattern of at least one letter");
        }
        let splits = self.methods.contains("split") || matches!(&*call.func, Expr::Name(_));
        if pattern.captures && splits {
            self.refused(call.start(), "a split at groups", "use (?:…)");
        }
    }

    /// The name of a compiled pattern, for a call of which only the pattern and the subject matter.
    fn prepared(&mut self, call: &ExprCall, pattern: &str) -> Option<String> {
        let Expr::Attribute(function) = &*call.func else { return None };
        let plain = call.arguments.keywords.is_empty() && call.arguments.args.len() == 2 && !call.arguments.args[1].is_starred_expr();
        let finds = matches!(function.attr.as_str(), "match" | "search" | "fullmatch");
        if !plain || !finds {
            return None;
        }
        let at = self.patterns.iter().position(|known| known == pattern).unwrap_or_else(|| {
            self.patterns.push(pattern.to_owned());
            self.patterns.len() - 1
        });
        Some(format!("__dl_pattern{at}.{}", function.attr))
    }

    fn replace_call(&mut self, call: &ExprCall, function: &str) {
        let subject = call.arguments.args[1].range();
        let pieces = vec![Piece::Text(format!("{function}((")), Piece::Source(subject), Piece::Text("))".to_owned())];
        self.edits.push(Edit { range: call.range(), pieces });
    }

    pub(super) fn pattern(&mut self, call: &ExprCall) {
        let Some(pattern) = call.arguments.args.first() else { return };
        let by_name = call.arguments.keywords.iter().map(|keyword| &keyword.value);
        let lines = call.arguments.args.iter().skip(1).chain(by_name).any(names_lines);
        match pattern {
            Expr::StringLiteral(literal) => match pattern::rewrite(literal.value.to_str(), lines) {
                Some(rewritten) => {
                    self.goes_on(call, &rewritten);
                    match self.prepared(call, &rewritten.text) {
                        Some(name) => self.replace_call(call, &name),
                        None => self.replace(literal.range, quoted(&rewritten.text)),
                    }
                }
                None => self.refused(pattern.start(), "this regular expression", "see the list of supported patterns"),
            },
            _ if self.searches_on(call) => {
                self.refused(pattern.start(), "a pattern that is not written in the call", "write it there, or use re.search");
            }
            _ => {
                let Some(check) = self.need("__dl_pattern") else { return };
                let pieces = vec![Piece::Text(format!("{check}(")), Piece::Source(pattern.range()), Piece::Text(")".to_owned())];
                self.edits.push(Edit { range: pattern.range(), pieces });
            }
        }
    }
}
