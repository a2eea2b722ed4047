//! The merged tree of what was configured, each leaf with the place it came from.
//!
//! Values stay text until a typed setting reads them, so that a value from the environment and one from a file are read by
//! the same code and a mistake can be shown as it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    File {
        path: Arc<str>,
        line: usize,
    },
    Environment(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "the built-in defaults"),
            Self::File { path, line } => write!(f, "{path}, line {line}"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag(flag) => write!(f, "the flag {flag}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub origin: Origin,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// `bare` is set for numbers and truth values of a file, which stand without quotes.
    Scalar {
        text: String,
        bare: bool,
    },
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub fn table(origin: Origin) -> Self {
        Self { origin, kind: Kind::Table(BTreeMap::new()) }
    }

    pub fn text(origin: Origin, text: &str) -> Self {
        Self { origin, kind: Kind::Scalar { text: text.to_owned(), bare: false } }
    }

    /// One line for people, cut at 80 characters.
    pub fn shown(&self) -> String {
        let full = match &self.kind {
            Kind::Scalar { text, bare: true } => text.clone(),
            Kind::Scalar { text, bare: false } => format!("\"{text}\""),
            Kind::List(nodes) => format!("[{}]", nodes.iter().map(Self::shown).collect::<Vec<_>>().join(", ")),
            Kind::Table(_) => "a table".to_owned(),
        };
        match full.char_indices().nth(80) {
            Some((cut, _)) => format!("{}…", &full[..cut]),
            None => full,
        }
    }

    /// Puts `text` at `path`, which may lead through tables and, by number, through lists of tables. On failure answers
    /// with the part of the path that cannot be followed.
    pub fn set(&mut self, path: &[String], text: &str, origin: &Origin) -> Result<(), String> {
        let Some((head, rest)) = path.split_first() else {
            *self = Self::text(origin.clone(), text);
            return Ok(());
        };
        if let (Kind::Table(children), Ok(0)) = (&self.kind, head.parse::<usize>())
            && children.is_empty()
        {
            self.kind = Kind::List(Vec::new());
        }
        match &mut self.kind {
            Kind::Table(children) => {
                let child = children.entry(head.clone()).or_insert_with(|| Self::table(origin.clone()));
                child.set(rest, text, origin)
            }
            Kind::List(items) => match head.parse::<usize>() {
                Ok(index) if index <= items.len() => {
                    if index == items.len() {
                        items.push(Self::table(origin.clone()));
                    }
                    items[index].set(rest, text, origin)
                }
                _ => Err(format!("`{head}` must be the number of an entry, from 0 to {}", items.len())),
            },
            Kind::Scalar { .. } => Err(format!("`{head}` cannot be set inside a plain value")),
        }
    }
}

/// A syntax error of the file.
#[derive(Clone, Debug)]
pub struct Syntax {
    pub line: usize,
    pub detail: String,
}

/// Reads a TOML document, with all of its syntax errors.
pub fn parse(path: &str, content: &str) -> Result<Node, Vec<Syntax>> {
    let lines = Lines::of(content);
    let (table, errors) = DeTable::parse_recoverable(content);
    if !errors.is_empty() {
        let describe = |error: &toml::de::Error| Syntax { line: lines.line(error.span()), detail: error.message().to_owned() };
        let mut errors: Vec<Syntax> = errors.iter().map(describe).collect();
        errors.sort_by_key(|error| error.line);
        return Err(errors);
    }
    let path: Arc<str> = Arc::from(path);
    let origin = |span: Range<usize>| Origin::File { path: path.clone(), line: lines.line(Some(span)) };
    Ok(convert_table(table.get_ref(), table.span(), &origin))
}

fn convert_table(table: &DeTable<'_>, span: Range<usize>, origin: &impl Fn(Range<usize>) -> Origin) -> Node {
    let child = |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        (key.get_ref().to_string(), convert(value.get_ref(), value.span(), origin))
    };
    Node { origin: origin(span), kind: Kind::Table(table.iter().map(child).collect()) }
}

fn convert(value: &DeValue<'_>, span: Range<usize>, origin: &impl Fn(Range<usize>) -> Origin) -> Node {
    let bare = |text: String| Kind::Scalar { text, bare: true };
    let kind = match value {
        DeValue::String(text) => Kind::Scalar { text: text.to_string(), bare: false },
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => bare(number.to_string()),
            Err(_) => bare(number.to_string()),
        },
        DeValue::Float(number) => bare(number.as_str().to_owned()),
        DeValue::Boolean(truth) => bare(truth.to_string()),
        DeValue::Datetime(time) => bare(time.to_string()),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| convert(item.get_ref(), item.span(), origin)).collect()),
        DeValue::Table(table) => return convert_table(table, span, origin),
    };
    Node { origin: origin(span), kind }
}

/// The offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(content: &str) -> Self {
        Self(std::iter::once(0).chain(content.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Counted from 1.
    fn line(&self, span: Option<Range<usize>>) -> usize {
        let at = span.map_or(0, |span| span.start);
        self.0.partition_point(|&start| start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    fn get<'a>(node: &'a Node, at: &str) -> &'a Node {
        path(at).iter().fold(node, |node, key| match &node.kind {
            Kind::Table(children) => &children[key],
            Kind::List(items) => &items[key.parse::<usize>().expect("a number")],
            Kind::Scalar { .. } => panic!("{key} in a scalar"),
        })
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree = parse("a.toml", "[server]\n\nlisten = \"x\"\n[[source]]\nname = \"s\"\n").expect("parses");
        let file = |line| Origin::File { path: "a.toml".into(), line };
        assert_eq!(get(&tree, "server.listen").origin, file(3));
        assert_eq!(get(&tree, "source.0.name").origin, file(5));
    }

    #[test]
    fn all_syntax_errors_are_reported() {
        let errors = parse("a.toml", "a = \nb = 1\nc = = 2\n").expect_err("broken");
        assert!(errors.len() >= 2, "{errors:?}");
        assert_eq!((errors[0].line, errors[errors.len() - 1].line), (1, 3));
    }

    #[test]
    fn overrides_reach_into_lists() {
        let mut tree = parse("a.toml", "[[source]]\nname = \"s\"\n").expect("parses");
        let env = Origin::Environment("E".into());
        tree.set(&path("source.0.name"), "t", &env).expect("exists");
        tree.set(&path("source.1.name"), "u", &env).expect("appended");
        tree.set(&path("access.token.0.name"), "v", &env).expect("made");
        assert_eq!(get(&tree, "source.0.name").shown(), "\"t\"");
        assert_eq!(get(&tree, "source.1.name").origin, env);
        assert_eq!(get(&tree, "access.token.0.name").shown(), "\"v\"");
        assert!(tree.set(&path("source.7.name"), "x", &env).is_err());
        assert!(tree.set(&path("source.0.name.x"), "x", &env).is_err());
    }

    #[test]
    fn numbers_are_normalised() {
        let tree = parse("a.toml", "a = 1_000\nb = 0x10\nc = 1.5\n").expect("parses");
        assert_eq!((get(&tree, "a").shown(), get(&tree, "b").shown(), get(&tree, "c").shown()), ("1000".into(), "16".into(), "1.5".into()));
    }
}
