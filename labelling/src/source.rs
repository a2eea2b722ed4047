//! What a user hands in: the text of a labelling function and what it may use and return.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The vote of a function that does not know.
pub const ABSTAIN: i64 = -1;

/// A module that a labelling function may be allowed to import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    Re,
    Datetime,
    Math,
    Statistics,
}

impl Module {
    pub const ALL: [Self; 4] = [Self::Re, Self::Datetime, Self::Math, Self::Statistics];

    pub fn name(self) -> &'static str {
        match self {
            Self::Re => "re",
            Self::Datetime => "datetime",
            Self::Math => "math",
            Self::Statistics => "statistics",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }
}

/// The text of a labelling function with its surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub code: String,
    pub allowed_imports: BTreeSet<Module>,
    /// Names and ids of the concept's values. They over-ride what the code assigns to these names; `ABSTAIN` is always one of them.
    /// A name that is no Python identifier is read as [`constant_name`] writes it.
    pub constants: Vec<(String, i64)>,
    /// The ids that the function may return, besides [`ABSTAIN`].
    pub applicable: Vec<i64>,
}

/// The name of a concept value as code writes it: in upper case, whatever is no letter, digit or underscore as `_`.
pub fn constant_name(value: &str) -> String {
    let upper = value.to_uppercase();
    let mut name: String = upper.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '_' }).collect();
    if name.chars().next().is_none_or(|first| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// The text that a labelling function starts with when none was given: a line for each value and a function that abstains.
pub fn template(values: &[(String, i64)]) -> String {
    let mut text = String::new();
    for (name, id) in values {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} = {id}", constant_name(name));
    }
    text.push_str("ABSTAIN = -1\n\ndef labeling_function(row):\n    # TODO: implement voting logic\n");
    text.push_str("    # Available columns: row['column_name']\n    # Example: return ");
    text.push_str(&values.first().map_or_else(|| "ABSTAIN".to_owned(), |(name, _)| constant_name(name)));
    text.push_str(" if condition met\n    return ABSTAIN");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_a_line_for_each_value_and_abstains() {
        let values = [("Static".to_owned(), 1), ("laptop".to_owned(), 2), ("Smart phone".to_owned(), 3)];
        let expected = "STATIC = 1\nLAPTOP = 2\nSMART_PHONE = 3\nABSTAIN = -1\n\ndef labeling_function(row):\n    # TODO: implement voting logic\n    # Available columns: row['column_name']\n    # Example: return STATIC if condition met\n    return ABSTAIN";
        assert_eq!(template(&values), expected);
    }

    #[test]
    fn names_become_identifiers() {
        assert_eq!(constant_name("iPhone-13 pro"), "IPHONE_13_PRO");
        assert_eq!(constant_name("2nd"), "_2ND");
        assert_eq!(constant_name(""), "_");
    }
}
