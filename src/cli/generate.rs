//! `desireline generate`: synthetic events, deterministic for a seed.

use super::failure::{Exit, Failure};
use super::progress::{self, Unit};
use super::{block_on, until_interrupted};
use crate::generate::{self, Format, GenerateError, GenerateOptions, Kind, Report, Shape, Target};
use clap::Args;
use desireline_records::{Micros, time};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline generate clickstream --events 100000 --to events.csv
  desireline generate clickstream --rate 200 --events 0 --late 0.02 --to http://127.0.0.1:8000
  desireline generate clickstream --events 1000000 --to kafka://127.0.0.1:9092/clicks
  desireline generate spaces --to http://127.0.0.1:8000
  desireline generate wifi --rate 100 --events 0 --open 0.3 --to kafka://127.0.0.1:9092/wifi-sessions
  desireline generate wifi --events 10 --to -

The same options give the same rows. Without a rate, rows come as fast as they are taken.")]
pub struct GenerateArgs {
    /// What to make: clickstream, wifi, spaces (the tree of the wifi sessions) or transactions
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Rows to make; 0 for an endless stream
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Rows per second; 0 for as fast as possible
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Seed of the randomness
    #[arg(long, default_value_t = 24)]
    seed: u64,
    /// Users, devices or customers
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Share of the rows that come late, up to two hours
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    late: f64,
    /// Share of the rows that come twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    duplicates: f64,
    /// Share of the wifi sessions that are also sent when they begin, without an end
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    open: f64,
    /// Where to: http://HOST:PORT, kafka://BROKER/TOPIC, FILE.csv, another file for JSON lines, or - for standard output
    #[arg(long, value_name = "TARGET", default_value = "-")]
    to: Target,
    /// Form of the rows: ampelios, clickstream or desireline [default: ampelios for .csv, else desireline]
    #[arg(long)]
    format: Option<Format>,
    /// Shape of the clickstream: shop or retailrocket (a .csv file in the shape of that public data set)
    #[arg(long, default_value = "shop")]
    shape: Shape,
    /// Source that the events belong to
    #[arg(long, default_value_t = 0)]
    source_id: u32,
    /// Time of the first row [default: now with a rate, else a fixed day]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    start: Option<Micros>,
    /// Rows in one request or write
    #[arg(long, default_value_t = 1_000)]
    batch_rows: usize,
    /// Requests under way at once
    #[arg(long, default_value_t = 4)]
    requests: usize,
    /// Access token, for servers that want one
    #[arg(long, env = "DESIRELINE_TOKEN", hide_env_values = true, value_name = "SECRET")]
    token: Option<String>,
    /// Further options of librdkafka
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = parse_property)]
    properties: Vec<(String, String)>,
}

fn parse_time(text: &str) -> Result<Micros, String> {
    time::parse_time(text).ok_or_else(|| "is not a time like 2026-01-31T12:00:00Z".to_owned())
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
    pair.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).ok_or_else(|| "is not NAME=VALUE".to_owned())
}

impl GenerateArgs {
    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            events: self.events,
            rate: self.rate,
            seed: self.seed,
            users: self.users,
            late: self.late,
            duplicates: self.duplicates,
            open: self.open,
            start: self.start,
            format: self.format,
            shape: self.shape,
            source_id: self.source_id,
            batch_rows: self.batch_rows,
            requests_max: self.requests,
            token: self.token.clone(),
            kafka: self.properties.clone(),
            ..GenerateOptions::new(self.kind, self.to.clone())
        }
    }
}

pub fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let options = args.options();
    let total = (options.events > 0).then_some(options.events);
    let bar = progress::bar(total, Unit::Rows, &args.kind.to_string());
    let drawn = bar.clone();
    let work = async move { generate::run(options, move |progress| drawn.set_position(progress.rows)).await.map_err(Failure::from) };
    let report = block_on(until_interrupted(work))?;
    bar.finish_and_clear();
    eprintln!("{}", summary(&report, &args.to));
    if report.rejected > 0 { Err(Failure::new(Exit::Found, format!("the server rejected {} rows", report.rejected))) } else { Ok(()) }
}

fn summary(report: &Report, to: &Target) -> String {
    let mut text = format!("{} rows, {} bytes to {to}", report.rows, report.bytes);
    if matches!(to, Target::Http(_)) {
        text.push_str(&format!(": {} new, {} duplicates, {} rejected", report.inserted, report.duplicates, report.rejected));
        if report.retries > 0 {
            text.push_str(&format!("; {} requests made again", report.retries));
        }
    }
    text
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let exit = if error.is_retryable() { Exit::Unavailable } else { Exit::Failed };
        let hint = match &error {
            GenerateError::Option { .. } => "see `desireline generate --help`",
            GenerateError::Unreachable { .. } => "start a server with `desireline serve`",
            _ => return Self::new(exit, error.to_string()),
        };
        Self::new(exit, error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<GenerateArgs, clap::Error> {
        let cli = Cli::try_parse_from(format!("desireline generate {line}").split_whitespace())?;
        match cli.command {
            Command::Generate(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_options() {
        let args = parse("wifi --events 10 --seed 3 --to kafka://a:9092/t --property a.b=c=d --start 2026-01-01").expect("parses");
        let options = args.options();
        assert_eq!((options.kind, options.events, options.seed), (Kind::Wifi, 10, 3));
        assert_eq!(options.to, Target::Kafka { brokers: "a:9092".into(), topic: "t".into() });
        assert_eq!(options.kafka, [("a.b".to_owned(), "c=d".to_owned())]);
        assert!(options.start.is_some());
        assert_eq!(parse("clickstream").expect("parses").options(), GenerateOptions::new(Kind::Clickstream, Target::Stdout));
        for line in ["", "books", "wifi --to ftp://x", "wifi --start soon", "wifi --property x", "clickstream --format xml"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("events.csv");
        run(&parse(&format!("clickstream --events 50 --users 5 --to {}", path.display())).expect("parses")).expect("written");
        assert_eq!(std::fs::read_to_string(path).expect("readable").lines().count(), 51);
        let failure = run(&parse(&format!("clickstream --late 2 --to {}", folder.path().join("x").display())).expect("parses"));
        assert_eq!(failure.expect_err("late is a share").exit, Exit::Failed);
    }
}
