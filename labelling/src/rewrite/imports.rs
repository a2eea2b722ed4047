//! Imports: `statistics` is bound to the prelude, and what is imported from `re` is remembered.

use super::Walk;
use super::syntax::is_search;
use ruff_python_ast::Stmt;
use ruff_text_size::Ranged;
use std::fmt::Write as _;

impl Walk<'_, '_> {
    pub(super) fn import(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Import(import) if import.names.iter().any(|alias| alias.name.as_str() == "statistics") => {
                let others = import.names.iter().filter(|alias| alias.name.as_str() != "statistics");
                let others: Vec<_> = others
                    .map(|alias| match &alias.asname {
                        Some(bound) => format!("{} as {bound}", alias.name),
                        None => alias.name.to_string(),
                    })
                    .collect();
                let text = if others.is_empty() { "pass".to_owned() } else { format!("import {}", others.join(", ")) };
                self.replace(import.range, text);
            }
            Stmt::ImportFrom(import) if import.module.as_ref().is_some_and(|module| module.as_str() == "statistics") => {
                let mut text = String::new();
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    match self.need(&format!("__dl_statistics_{}", alias.name)) {
                        Some(function) => {
                            let _ = write!(text, "{}{bound} = {function}", if text.is_empty() { "" } else { "; " });
                        }
                        None => self.refused(alias.start(), &format!("statistics.{}", alias.name), "see the list of supported functions"),
                    }
                }
                self.replace(import.range, text);
            }
            Stmt::ImportFrom(import) if import.module.as_ref().is_some_and(|module| module.as_str() == "re") => {
                for alias in &import.names {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    match alias.name.as_str() {
                        name if is_search(name) => {
                            self.from_re.insert(bound.to_string(), name.to_owned());
                        }
                        "escape" | "I" | "IGNORECASE" | "S" | "DOTALL" | "Pattern" | "Match" => {}
                        other => self.refused(alias.start(), &format!("{other} from re"), "import re itself"),
                    }
                }
            }
            Stmt::ImportFrom(import) if import.module.as_ref().is_some_and(|module| module.as_str() == "math") => {
                for alias in &import.names {
                    if matches!(alias.name.as_str(), "hypot" | "fsum" | "dist" | "sumprod" | "fma") {
                        self.refused(alias.start(), &format!("math.{}", alias.name), "use math.sqrt or sum");
                    }
                }
            }
            _ => {}
        }
    }
}
