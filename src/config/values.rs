//! The types a setting can have: how each is read, what is allowed, how its default is written.

use super::tree::{Kind, Node};
use desireline_connectors::formats::Format;
use desireline_connectors::kafka::Start;
use desireline_dataflows::changes::View;
use desireline_records::{Horizon, Micros, SessionRule, UserIdType};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type of settings.
pub trait Setting: Sized {
    /// Completes the sentence "must be …".
    fn allowed() -> String;

    /// From the text of one plain value.
    fn parse(text: &str) -> Option<Self>;

    fn read(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } => Self::parse(text),
            _ => None,
        }
    }

    /// The value when a setting may be left out.
    fn unset() -> Option<Self> {
        None
    }

    /// The text of a default or an example, as TOML.
    fn toml(text: &str) -> String {
        format!("{text:?}")
    }

    /// Whether it lies between two bounds, both inclusive. Types without an order have no bounds.
    fn within(&self, low: &str, high: &str) -> bool {
        let _ = (low, high);
        true
    }
}

macro_rules! ordered {
    () => {
        fn within(&self, low: &str, high: &str) -> bool {
            Self::parse(low).is_none_or(|low| *self >= low) && Self::parse(high).is_none_or(|high| *self <= high)
        }
    };
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn allowed() -> String {
                "a whole number".to_owned()
            }
            fn parse(text: &str) -> Option<Self> {
                text.trim().replace('_', "").parse().ok()
            }
            fn toml(text: &str) -> String {
                text.to_owned()
            }
            ordered!();
        }
    )*};
}

whole_numbers!(u16, u32, u64, usize);

impl Setting for f64 {
    fn allowed() -> String {
        "a number".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|number: &f64| number.is_finite())
    }
    fn toml(text: &str) -> String {
        text.to_owned()
    }
    ordered!();
}

impl Setting for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
    fn toml(text: &str) -> String {
        text.to_owned()
    }
}

impl Setting for String {
    fn allowed() -> String {
        "text in quotes, not empty".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
    fn read(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, bare: false } => Self::parse(text),
            _ => None,
        }
    }
}

/// Text that may hold a password and is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Setting for Secret {
    fn allowed() -> String {
        String::allowed()
    }
    fn parse(text: &str) -> Option<Self> {
        String::parse(text).map(Self)
    }
    fn read(node: &Node) -> Option<Self> {
        String::read(node).map(Self)
    }
}

impl Setting for PathBuf {
    fn allowed() -> String {
        "a path in quotes".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    }
}

impl Setting for SocketAddr {
    fn allowed() -> String {
        "an address and a port, such as \"127.0.0.1:8000\" or \"[::1]:8000\"".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        local.as_deref().unwrap_or(text).parse().ok()
    }
}

/// Splits `20m` into its number and its unit.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..end].replace('_', "").parse().ok()?;
    Some((number, text[end..].trim()))
}

impl Setting for Duration {
    fn allowed() -> String {
        "a duration such as \"250ms\", \"5s\", \"20m\", \"6h\" or \"7d\"".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "" if number == 0.0 => 1.0,
            _ => return None,
        };
        // A century is longer than any setting and far from overflow.
        (number * seconds <= 3.2e9).then(|| Duration::from_micros((number * seconds * 1e6).round() as u64))
    }
    ordered!();
}

/// Microseconds of event time.
pub fn micros(duration: Duration) -> Micros {
    // `Duration::parse` bounds a duration to a century.
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

impl Setting for Horizon {
    fn allowed() -> String {
        "\"off\" or a duration such as \"30d\"".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "off" => Some(Self::Off),
            text => Duration::parse(text).map(|duration| Self::After(micros(duration))),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for Size {
    fn allowed() -> String {
        "a size such as \"512KiB\", \"64MiB\" or \"2GiB\"".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor: u64 = match unit {
            "B" | "" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        let bytes = number * factor as f64;
        (bytes <= 1e15).then_some(Self(bytes.round() as u64))
    }
    ordered!();
}

/// The status of an answer to an ill-formed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidationStatus(pub u16);

/// Settings with a few words to choose from.
macro_rules! words {
    ($type:ty, $quoted:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl Setting for $type {
            fn allowed() -> String {
                let words = [$($word),+].map(|word| if $quoted { format!("{word:?}") } else { word.to_owned() });
                match words.split_last() {
                    Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                    _ => words.concat(),
                }
            }
            fn parse(text: &str) -> Option<Self> {
                match text.trim() {
                    $($word => Some($value),)+
                    _ => None,
                }
            }
            fn toml(text: &str) -> String {
                if $quoted { format!("{text:?}") } else { text.to_owned() }
            }
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Rows come by HTTP or from files; nothing is read by the server itself.
    Push,
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessScope {
    Ingest,
    Read,
    Admin,
}

/// What becomes of an interaction with an unknown item or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPolicy {
    Stub,
    Reject,
}

/// What becomes of devices with randomised addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomizedPolicy {
    Count,
    Exclude,
}

/// What becomes of MAC addresses before the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudonymPolicy {
    Keyed,
    Off,
}

/// What occupancy datasets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OccupancySource {
    Live,
    External,
}

/// A set of constants of re-ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RerankProfile {
    Code,
    Readme,
    SystemDoc,
}

words!(SessionRule, true, "from_first" => Self::FromFirst, "gap" => Self::Gap);
words!(UserIdType, true, "string" => Self::String, "int" => Self::Int);
words!(ValidationStatus, false, "400" => Self(400), "422" => Self(422));
words!(LogFormat, true, "text" => Self::Text, "json" => Self::Json);
words!(Level, true, "error" => Self::Error, "warn" => Self::Warn, "info" => Self::Info, "debug" => Self::Debug, "trace" => Self::Trace);
words!(SourceKind, true, "push" => Self::Push, "kafka" => Self::Kafka);
words!(Format, true, "ampelios" => Self::Ampelios, "clickstream" => Self::Clickstream, "desireline" => Self::Desireline, "wifi" => Self::Wifi);
words!(Start, true, "earliest" => Self::Earliest, "latest" => Self::Latest);
words!(AccessScope, true, "ingest" => Self::Ingest, "read" => Self::Read, "admin" => Self::Admin);

words!(RandomizedPolicy, true, "count" => Self::Count, "exclude" => Self::Exclude);
words!(PseudonymPolicy, true, "keyed" => Self::Keyed, "off" => Self::Off);
words!(OccupancySource, true, "live" => Self::Live, "external" => Self::External);
words!(UnknownPolicy, true, "stub" => Self::Stub, "reject" => Self::Reject);
words!(RerankProfile, true, "code" => Self::Code, "readme" => Self::Readme, "system_doc" => Self::SystemDoc);
words!(
    View, true,
    "events" => Self::Events, "sessions" => Self::Sessions, "journeys" => Self::Journeys, "clusters" => Self::Clusters,
    "minutes" => Self::Minutes, "context" => Self::Context, "catalog" => Self::Catalog,
);

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl AccessScope {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// May be left out; an empty text in a higher layer unsets it again.
impl<T: Setting> Setting for Option<T> {
    fn allowed() -> String {
        T::allowed()
    }
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }
    fn read(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text.is_empty() => Some(None),
            _ => T::read(node).map(Some),
        }
    }
    fn unset() -> Option<Self> {
        Some(None)
    }
    fn toml(text: &str) -> String {
        T::toml(text)
    }
    fn within(&self, low: &str, high: &str) -> bool {
        self.as_ref().is_none_or(|value| value.within(low, high))
    }
}

/// A list of a file, or words between commas.
impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list, each entry {}", T::allowed())
    }
    fn parse(text: &str) -> Option<Self> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(T::parse).collect()
    }
    fn read(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => items.iter().map(T::read).collect(),
            Kind::Scalar { text, bare: false } => Self::parse(text),
            _ => None,
        }
    }
    fn toml(text: &str) -> String {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        format!("[{}]", words.map(T::toml).collect::<Vec<_>>().join(", "))
    }
}

/// Names and values that are handed on as they are. Values may be secrets and are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "(hidden)"))).finish()
    }
}

impl Setting for Options {
    fn allowed() -> String {
        "a table of names and plain values, such as { name = \"value\" }".to_owned()
    }
    /// `name=value` between commas.
    fn parse(text: &str) -> Option<Self> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())));
        pairs.collect::<Option<_>>().map(Self)
    }
    fn read(node: &Node) -> Option<Self> {
        let mut all = BTreeMap::new();
        match &node.kind {
            Kind::Table(_) => collect(node, "", &mut all)?,
            Kind::Scalar { text, .. } => return Self::parse(text),
            Kind::List(_) => return None,
        }
        Some(Self(all))
    }
    fn toml(text: &str) -> String {
        let pairs = Self::parse(text).unwrap_or_default().0;
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
    }
}

/// Unquoted dotted names (`sasl.username = …`) are nested tables in TOML.
fn collect(node: &Node, prefix: &str, into: &mut BTreeMap<String, String>) -> Option<()> {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            into.insert(prefix.to_owned(), text.clone());
        }
        Kind::List(_) => return None,
        Kind::Table(children) => {
            for (name, child) in children {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(child, &name, into)?;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases =
            [("250ms", 250_000), ("5s", 5_000_000), ("20m", 1_200_000_000), ("1.5h", 5_400_000_000), ("7d", 604_800_000_000), ("0", 0)];
        for (text, expected) in cases {
            assert_eq!(Duration::parse(text).map(micros), Some(expected), "{text}");
        }
        for text in ["", "5", "5 weeks", "s", "-5s", "1e9d", "999999999d", "nan", "5s5"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [("64MiB", 64 << 20), ("512 KiB", 512 << 10), ("100", 100), ("1.5kB", 1_500), ("2GiB", 2 << 30)];
        for (text, expected) in cases {
            assert_eq!(Size::parse(text), Some(Size(expected)), "{text}");
        }
        for text in ["", "MiB", "-1", "5 lightyears", "9999999TiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        assert!(5u64.within("5", "6") && 6u64.within("5", "6") && !7u64.within("5", "6"));
        assert!(!Duration::from_secs(1).within("2s", "3s"));
        assert!(None::<u64>.within("5", "6") && !Some(7u64).within("5", "6"));
    }

    #[test]
    fn words_say_what_is_allowed() {
        assert_eq!(SessionRule::allowed(), "\"from_first\" or \"gap\"");
        assert_eq!(ValidationStatus::allowed(), "400 or 422");
        assert_eq!(AccessScope::allowed(), "\"ingest\", \"read\" or \"admin\"");
    }

    #[test]
    fn dotted_names_are_joined_and_values_hidden() {
        let tree = super::super::tree::parse("x", "p = { sasl.password = \"s3cret\", \"a.b\" = 5 }").expect("parses");
        let Kind::Table(children) = tree.kind else { panic!("a table") };
        let options = Options::read(&children["p"]).expect("options");
        assert_eq!(options.0["sasl.password"], "s3cret");
        assert_eq!(options.0["a.b"], "5");
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
