//! What to generate and where it goes; every mistake has a sentence.

use desireline_records::{Micros, SourceId, limits};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Clickstream,
    Wifi,
    /// The space tree of the WiFi sessions' campus.
    Spaces,
    Transactions,
}

/// What the clicks look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Visitors with personas in a shop with pages.
    #[default]
    Shop,
    /// A file with the proportions of the RetailRocket data set.
    RetailRocket,
}

/// The form of a click.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `timestamp,visitorid,event,itemid,transactionid`.
    Ampelios,
    /// The flat message of the topic `clickstream.events`.
    Clickstream,
    /// The body of `POST /api/ingest`.
    #[default]
    Desireline,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Stdout,
    File(PathBuf),
    /// The server's base address, without a path.
    Http(String),
    Kafka {
        brokers: String,
        topic: String,
    },
}

/// Everything a run needs. Begin with [`GenerateOptions::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    pub kind: Kind,
    pub to: Target,
    /// Rows to send, copies included; 0: until stopped.
    pub events: u64,
    /// Rows per second; 0: as fast as possible.
    pub rate: f64,
    pub seed: u64,
    /// Users, people on the campus, or customers.
    pub users: u32,
    /// Share of the rows that arrive up to two hours late.
    pub late: f64,
    /// Share of the rows that arrive twice.
    pub duplicates: f64,
    /// Share of the WiFi sessions that are also told when they begin, without an end.
    pub open: f64,
    /// Time of the first row.
    pub start: Option<Micros>,
    /// Absent: `ampelios` for `.csv` files, `desireline` elsewhere.
    pub format: Option<Format>,
    pub shape: Shape,
    /// Stamped on clicks in the format `desireline`.
    pub source_id: SourceId,
    /// Rows per request, flush or wait.
    pub batch_rows: usize,
    /// Requests under way at once. With more than 1, batches may overtake one another.
    pub requests_max: usize,
    /// How often one batch is tried again before the run fails.
    pub retries_max: u32,
    /// The longest wait before a batch is tried again.
    pub retry_wait_max: Duration,
    /// The bearer token of a server that wants one.
    pub token: Option<String>,
    /// More settings of the Kafka client, by librdkafka's names.
    pub kafka: Vec<(String, String)>,
}

impl GenerateOptions {
    /// 100,000 rows of seed 24 and 10,000 users as fast as possible, in order, each once.
    pub fn new(kind: Kind, to: Target) -> Self {
        Self {
            kind,
            to,
            events: 100_000,
            rate: 0.0,
            seed: 24,
            users: 10_000,
            late: 0.0,
            duplicates: 0.0,
            open: 0.0,
            start: None,
            format: None,
            shape: Shape::Shop,
            source_id: 0,
            batch_rows: 1_000,
            requests_max: 4,
            retries_max: 20,
            retry_wait_max: Duration::from_secs(30),
            token: None,
            kafka: Vec::new(),
        }
    }

    /// The format in force.
    pub fn format(&self) -> Format {
        let default = if self.is_csv() { Format::Ampelios } else { Format::Desireline };
        self.format.unwrap_or(default)
    }

    /// WiFi sessions as they happen, not of a day long past.
    pub(crate) fn is_live_campus(&self) -> bool {
        self.kind == Kind::Wifi && self.rate > 0.0 && self.start.is_none()
    }

    pub(crate) fn is_csv(&self) -> bool {
        matches!(&self.to, Target::File(path) if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")))
    }

    /// Refuses what cannot be done, before anything is opened.
    pub fn check(&self) -> Result<(), GenerateError> {
        let refuse = |option: &'static str, detail: String| Err(GenerateError::Option { option, detail });
        for (option, share) in [("late", self.late), ("duplicates", self.duplicates), ("open", self.open)] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(option, format!("is a share from 0 to 1, not {share}"));
            }
        }
        if !(0.0..=1e7).contains(&self.rate) {
            return refuse("rate", format!("is from 0 to 10,000,000 rows per second, not {}", self.rate));
        }
        if self.users == 0 || self.users > 50_000_000 {
            return refuse("users", "is from 1 to 50,000,000".into());
        }
        if self.batch_rows == 0 || self.batch_rows > 100_000 {
            return refuse("batch_rows", "is from 1 to 100,000".into());
        }
        if self.requests_max == 0 || self.requests_max > 256 {
            return refuse("requests_max", "is from 1 to 256".into());
        }
        if i64::from(self.source_id) > limits::SOURCE_MAX {
            return refuse("source_id", format!("is at most {}", limits::SOURCE_MAX));
        }
        if self.start.is_some_and(|at| !(limits::TIME_MIN..limits::TIME_MAX).contains(&at)) {
            return refuse("start", "lies between the years 1970 and 2200".into());
        }
        if self.events == 0 && matches!(self.to, Target::File(_)) {
            return refuse("events", "must be given for a file: it has an end".into());
        }
        if self.is_csv() && self.format() != Format::Ampelios {
            return refuse(
                "format",
                format!("a .csv file has the columns of `ampelios`, not of `{}`; write a .ndjson file", self.format()),
            );
        }
        if self.open > 0.0 && self.kind != Kind::Wifi {
            return refuse("open", "is for WiFi sessions".into());
        }
        if self.is_live_campus() {
            let most = super::wifi::live_rate_max(self.users, self.open, self.duplicates);
            if self.rate > most {
                return refuse("rate", format!("is at most {most:.0} for a campus of {} people; raise the number of users", self.users));
            }
        }
        if matches!(self.to, Target::Http(_)) && self.kind == Kind::Transactions {
            return refuse("to", format!("the server takes no {} over HTTP; write a file or a topic", self.kind));
        }
        if matches!(self.to, Target::Http(_)) && self.format() != Format::Desireline {
            return refuse("format", "requests are made in the format `desireline`".into());
        }
        if self.shape == Shape::RetailRocket {
            if self.kind != Kind::Clickstream || !matches!(self.to, Target::File(_)) || self.format() != Format::Ampelios {
                return refuse("shape", "`retailrocket` is a .csv file of clicks".into());
            }
            if self.late > 0.0 || self.duplicates > 0.0 || self.rate > 0.0 {
                return refuse("shape", "`retailrocket` comes shuffled and as fast as possible: no late, duplicates or rate".into());
            }
        }
        Ok(())
    }
}

/// Why a run did not finish.
#[derive(Debug, Error)]
pub enum GenerateError {
    #[error("{option} {detail}")]
    Option { option: &'static str, detail: String },
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: std::io::Error },
    /// The server is there and says no.
    #[error("the server refused a batch with status {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("gave up on a batch after {attempts} attempts: {last}")]
    Unreachable { attempts: u32, last: String },
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

impl GenerateError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Option { .. } => "option",
            Self::Write { .. } => "write",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Kafka(_) => "kafka",
        }
    }

    /// The same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Kafka(_))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdout);
        }
        if let Some(rest) = text.strip_prefix("kafka://") {
            return match rest.split_once('/') {
                Some((brokers, topic)) if !brokers.is_empty() && !topic.is_empty() && !topic.contains('/') => {
                    Ok(Self::Kafka { brokers: brokers.into(), topic: topic.into() })
                }
                _ => Err("write kafka://broker:port[,broker:port]/topic".into()),
            };
        }
        if text.starts_with("https://") {
            return Err("https is not supported; send to http:// on the same machine".into());
        }
        if text.starts_with("http://") {
            let base = text.trim_end_matches('/');
            return match url::Url::parse(base) {
                Ok(url) if url.has_host() && url.path() == "/" && url.query().is_none() => Ok(Self::Http(base.into())),
                Ok(_) => Err("write the server's address without a path: http://host:port".into()),
                Err(error) => Err(format!("is no address: {error}")),
            };
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(format!("`{scheme}` is none of http, kafka")),
            None if text.is_empty() => Err("is empty".into()),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
            Self::Http(base) => f.write_str(base),
            Self::Kafka { brokers, topic } => write!(f, "kafka://{brokers}/{topic}"),
        }
    }
}

/// Words for an enum, both ways.
macro_rules! words {
    ($type:ident: $($word:literal => $variant:ident),+ $(,)?) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

words!(Kind: "clickstream" => Clickstream, "wifi" => Wifi, "spaces" => Spaces, "transactions" => Transactions);
words!(Shape: "shop" => Shop, "retailrocket" => RetailRocket);
words!(Format: "ampelios" => Ampelios, "clickstream" => Clickstream, "desireline" => Desireline);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_printed() {
        for text in ["-", "out/events.csv", "http://127.0.0.1:8000", "kafka://a:9092,b:9092/clicks"] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
        assert_eq!("http://localhost:8000/".parse(), Ok(Target::Http("http://localhost:8000".into())));
        for text in ["", "kafka://a:9092", "kafka:///t", "kafka://a/t/u", "https://a", "ftp://a", "http://", "http://a/b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_read_and_printed() {
        assert_eq!("wifi".parse(), Ok(Kind::Wifi));
        assert_eq!(Shape::RetailRocket.to_string(), "retailrocket");
        assert_eq!("csv".parse::<Format>(), Err("`csv` is none of ampelios, clickstream, desireline".into()));
    }

    #[test]
    fn impossible_options_are_named() {
        let file = |name: &str| GenerateOptions::new(Kind::Clickstream, Target::File(name.into()));
        let http = |kind| GenerateOptions::new(kind, Target::Http("http://h".into()));
        let cases = [
            ("late", GenerateOptions { late: 1.5, ..file("a.csv") }),
            ("duplicates", GenerateOptions { duplicates: f64::NAN, ..file("a.csv") }),
            ("rate", GenerateOptions { rate: -1.0, ..file("a.csv") }),
            ("users", GenerateOptions { users: 0, ..file("a.csv") }),
            ("batch_rows", GenerateOptions { batch_rows: 0, ..file("a.csv") }),
            ("requests_max", GenerateOptions { requests_max: 0, ..file("a.csv") }),
            ("source_id", GenerateOptions { source_id: u32::MAX, ..file("a.csv") }),
            ("start", GenerateOptions { start: Some(-1), ..file("a.csv") }),
            ("events", GenerateOptions { events: 0, ..file("a.csv") }),
            ("format", GenerateOptions { format: Some(Format::Desireline), ..file("a.CSV") }),
            ("format", GenerateOptions { format: Some(Format::Ampelios), ..http(Kind::Clickstream) }),
            ("to", http(Kind::Transactions)),
            ("open", GenerateOptions { open: 0.5, ..http(Kind::Clickstream) }),
            ("open", GenerateOptions { open: 1.5, ..http(Kind::Wifi) }),
            ("rate", GenerateOptions { rate: 1_000.0, users: 10, ..http(Kind::Wifi) }),
            ("shape", GenerateOptions { shape: Shape::RetailRocket, ..file("a.ndjson") }),
            ("shape", GenerateOptions { shape: Shape::RetailRocket, rate: 1.0, ..file("a.csv") }),
        ];
        for (named, options) in cases {
            match options.check() {
                Err(GenerateError::Option { option, .. }) => assert_eq!(option, named),
                other => panic!("{named}: {other:?}"),
            }
        }
        assert!(file("a.csv").check().is_ok());
        assert!(GenerateOptions { open: 0.5, ..http(Kind::Wifi) }.check().is_ok());
    }
}
