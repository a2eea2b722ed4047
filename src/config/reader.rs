//! Reads typed sections out of the merged tree and collects every mistake on the way.
//!
//! A section is declared once, by the macro `settings!`: each setting's name, type, documentation, default and bounds stand
//! together. The struct, the reading, the checks and the documented file all come from that one place.

use super::tree::{Kind, Node, Origin};
use super::values::Setting;
use std::collections::BTreeMap;

/// What is known of one setting.
pub struct Field {
    pub name: &'static str,
    /// Lines of documentation.
    pub doc: &'static [&'static str],
    pub default: Default,
    /// Both inclusive.
    pub bounds: Option<(&'static str, &'static str)>,
    /// What its type allows.
    pub allowed: fn() -> String,
    /// Its text as TOML.
    pub toml: fn(&str) -> String,
}

/// What holds when nobody sets it; always as text that the setting's type parses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    Value(&'static str),
    /// Left out; the text is an example.
    Unset(&'static str),
    /// Must be set; the text is an example.
    Required(&'static str),
}

impl Field {
    /// Completes "must be …".
    pub fn allowed(&self) -> String {
        let allowed = (self.allowed)();
        match self.bounds {
            Some((low, high)) => format!("{allowed}, from {low} to {high}"),
            None => allowed,
        }
    }

    pub fn is_secret(&self) -> bool {
        ["hash", "properties", "store_options", "url"].contains(&self.name)
    }
}

/// A table of the configuration.
pub trait Section: Sized {
    const ABOUT: &'static [&'static str];
    const FIELDS: &'static [Field];

    fn read(reader: &mut Reader<'_>) -> Self;

    fn field(name: &str) -> &'static Field {
        Self::FIELDS.iter().find(|field| field.name == name).expect("a field is read by the name it is declared with")
    }
}

/// Declares sections. Each setting is `name: Type = default "text";`, `= unset "example";` or `= required "example";`,
/// optionally followed by `in "low"..="high"` before the semicolon.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])*
        $section:ident {$(
            $(#[doc = $doc:literal])*
            $field:ident: $type:ty = $how:ident $text:literal $(in $low:literal ..= $high:literal)?;
        )*}
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {$(
            $(#[doc = $doc])*
            pub $field: $type,
        )*}

        impl $crate::config::reader::Section for $section {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const FIELDS: &'static [$crate::config::reader::Field] = &[$(
                $crate::config::reader::Field {
                    name: stringify!($field),
                    doc: &[$($doc),*],
                    default: $crate::config::reader::settings!(@how $how $text),
                    bounds: $crate::config::reader::settings!(@bounds $($low, $high)?),
                    allowed: <$type as $crate::config::values::Setting>::allowed,
                    toml: <$type as $crate::config::values::Setting>::toml,
                },
            )*];

            fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Self {
                Self {$(
                    $field: reader.field(<Self as $crate::config::reader::Section>::field(stringify!($field))),
                )*}
            }
        }
    )*};
    (@how default $text:literal) => { $crate::config::reader::Default::Value($text) };
    (@how unset $text:literal) => { $crate::config::reader::Default::Unset($text) };
    (@how required $text:literal) => { $crate::config::reader::Default::Required($text) };
    (@bounds) => { None };
    (@bounds $low:literal, $high:literal) => { Some(($low, $high)) };
}

pub(super) use settings;

/// One mistake of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `engine.workers` or `source[0].topics`; empty for a syntax error.
    pub path: String,
    /// As written; absent for a missing value, hidden for a secret.
    pub value: Option<String>,
    /// What is wrong and what is allowed.
    pub detail: String,
    pub origin: Origin,
    pub hint: Option<String>,
}

/// The origin and the text of every value that was set, by its path.
pub type Settled = BTreeMap<String, (Origin, Option<String>)>;

/// Reads one table, setting by setting.
pub struct Reader<'a> {
    path: String,
    origin: Origin,
    children: BTreeMap<String, Node>,
    known: Vec<&'static str>,
    mistakes: &'a mut Vec<Mistake>,
    settled: &'a mut Settled,
}

impl<'a> Reader<'a> {
    pub fn new(path: String, node: Option<Node>, mistakes: &'a mut Vec<Mistake>, settled: &'a mut Settled) -> Self {
        let (origin, children) = match node {
            None => (Origin::Default, BTreeMap::new()),
            Some(Node { origin, kind: Kind::Table(children) }) => (origin, children),
            Some(node) => {
                mistakes.push(Mistake {
                    path: path.clone(),
                    value: Some(node.shown()),
                    detail: format!("must be a table, written as [{path}] on a line of its own"),
                    origin: node.origin.clone(),
                    hint: None,
                });
                (node.origin, BTreeMap::new())
            }
        };
        Self { path, origin, children, known: Vec::new(), mistakes, settled }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value in force; after a mistake, the default, so that reading goes on.
    pub fn field<T: Setting>(&mut self, field: &'static Field) -> T {
        self.known.push(field.name);
        let path = self.key(field.name);
        let Some(node) = self.children.remove(field.name) else {
            return self.absent(field, path);
        };
        let shown = if field.is_secret() { "(hidden)".to_owned() } else { node.shown() };
        self.settled.insert(path.clone(), (node.origin.clone(), Some(shown.clone())));
        let value = T::read(&node).filter(|value| field.bounds.is_none_or(|(low, high)| value.within(low, high)));
        value.unwrap_or_else(|| {
            let detail = format!("must be {}", field.allowed());
            self.mistakes.push(Mistake { path, value: Some(shown), detail, origin: node.origin, hint: None });
            fallback(field)
        })
    }

    fn absent<T: Setting>(&mut self, field: &'static Field, path: String) -> T {
        if let Default::Required(example) = field.default {
            let detail = format!("is required: {}", field.allowed());
            let hint = Some(format!("for example: {} = {}", field.name, (field.toml)(example)));
            self.mistakes.push(Mistake { path, value: None, detail, origin: self.origin.clone(), hint });
        }
        fallback(field)
    }

    /// A child table or list, for the caller to read.
    pub fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        self.children.remove(name)
    }

    /// Whatever is left over is unknown.
    pub fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        for (name, node) in &self.children {
            let near = self.known.iter().map(|known| (strsim::damerau_levenshtein(known, name), *known)).min();
            let near = near.filter(|(distance, known)| *distance <= 2.max(known.len() / 4));
            let hint = near
                .filter(|(distance, _)| *distance <= 1)
                .map(|(_, known)| format!("did you mean `{known}`?"))
                .or_else(|| elsewhere(name).map(|place| format!("did you mean `{place}`?")))
                .or_else(|| near.map(|(_, known)| format!("did you mean `{known}`?")));
            self.mistakes.push(Mistake {
                path: self.key(name),
                value: None,
                detail: "is not a setting".to_owned(),
                origin: node.origin.clone(),
                hint,
            });
        }
    }
}

fn fallback<T: Setting>(field: &'static Field) -> T {
    let value = match field.default {
        Default::Value(text) | Default::Required(text) => T::parse(text),
        Default::Unset(_) => T::unset(),
    };
    value.expect("a test reads the default of every setting")
}

/// A section as it is when nobody sets anything.
pub fn defaults<S: Section>() -> S {
    let (mut mistakes, mut settled) = (Vec::new(), Settled::new());
    S::read(&mut Reader::new(String::new(), None, &mut mistakes, &mut settled))
}
