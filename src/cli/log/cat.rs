//! `desireline log cat`: rows of the log as JSON lines, in log order.

use super::super::failure::Failure;
use super::super::{ConfigArgs, out};
use clap::{Args, ValueEnum};
use desireline_records::time::{format_rfc3339, parse_time};
use desireline_records::{Batch, Control, DeadLetter, Event, EventExtra, LogicalTime, Micros, SourceId};
use ecow::EcoString;
use futures::StreamExt;
use serde_json::{Map, Value, json};

/// Output is written when this much has gathered.
const WRITE_BYTES: usize = 1 << 20;

#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  desireline log cat --source-id 1 --user 42
  desireline log cat --from 2026-01-31 --to 2026-02-01 --limit 100
  desireline log cat --only dead-letters | jq -r .detail

Each line has `at`, the logical time of its batch in milliseconds.")]
pub struct CatArgs {
    /// Rows of this source
    #[arg(long, value_name = "N")]
    source_id: Option<SourceId>,
    /// Rows of this user
    #[arg(long)]
    user: Option<EcoString>,
    /// Events at or after this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Micros>,
    /// Events before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Micros>,
    /// Rows of these kinds
    #[arg(long, value_delimiter = ',', default_values_t = [RowKind::Events])]
    only: Vec<RowKind>,
    /// Stop after this many rows
    #[arg(long)]
    limit: Option<u64>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RowKind {
    Events,
    DeadLetters,
    /// Commands and results: settings, deletions, models, runs
    Controls,
}

impl std::fmt::Display for RowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "events",
            Self::DeadLetters => "dead-letters",
            Self::Controls => "controls",
        })
    }
}

fn time(text: &str) -> Result<Micros, String> {
    parse_time(text).ok_or_else(|| "is not a time like 2026-01-31T12:00:00Z or 2026-01-31".to_owned())
}

pub async fn run(args: &CatArgs) -> Result<(), Failure> {
    let reader = super::open(&args.config)?;
    // Without merging every row keeps the time of its own batch.
    let mut batches = reader.batches(0, 0);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut text = String::new();
    while let Some(batch) = batches.next().await {
        for row in args.rows(&batch?) {
            if left == 0 {
                break;
            }
            left -= 1;
            text.push_str(&row.to_string());
            text.push('\n');
        }
        if left == 0 || text.len() > WRITE_BYTES {
            out(&std::mem::take(&mut text));
        }
        if left == 0 {
            break;
        }
    }
    out(&text);
    Ok(())
}

impl CatArgs {
    /// The rows of a batch that are asked for.
    fn rows<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = Value> + 'a {
        let at = batch.time;
        let wants = |kind| self.only.contains(&kind);
        let events = batch.events.iter().filter(move |event| wants(RowKind::Events) && self.event(event)).map(move |row| event(row, at));
        let letters = batch.dead_letters.iter().filter(move |letter| wants(RowKind::DeadLetters) && self.letter(letter));
        let controls = batch.controls.iter().filter(move |_| wants(RowKind::Controls));
        events.chain(letters.map(move |row| letter(row, at))).chain(controls.map(move |row| control(row, at)))
    }

    fn event(&self, event: &Event) -> bool {
        self.of(event.source, &event.user) && self.from.is_none_or(|from| event.time >= from) && self.to.is_none_or(|to| event.time < to)
    }

    /// A dead letter may have no time of its own; it is judged by when it was refused.
    fn letter(&self, letter: &DeadLetter) -> bool {
        self.of(letter.source, &letter.user) && self.from.is_none_or(|from| letter.at >= from) && self.to.is_none_or(|to| letter.at < to)
    }

    fn of(&self, source: SourceId, user: &str) -> bool {
        self.source_id.is_none_or(|wanted| wanted == source) && self.user.as_ref().is_none_or(|wanted| wanted == user)
    }
}

fn event(event: &Event, at: LogicalTime) -> Value {
    let mut row = Map::new();
    row.insert("at".into(), at.into());
    row.insert("kind".into(), "event".into());
    row.insert("source_id".into(), event.source.into());
    row.insert("event_id".into(), event.reference().as_str().into());
    row.insert("timestamp".into(), format_rfc3339(event.time).into());
    row.insert("user_id".into(), event.user.as_str().into());
    row.insert("event_type".into(), event.event_type.as_str().into());
    let none = EventExtra::default();
    let extra = event.extra.as_deref().unwrap_or(&none);
    let texts = [
        ("page", &event.page),
        ("item_id", &event.item),
        ("client_id", &extra.client_id),
        ("session_id", &extra.session_id),
        ("transaction_id", &extra.transaction_id),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        row.insert(name.into(), text.as_str().into());
    }
    if let Some(stay) = &event.stay {
        row.insert("space_id".into(), stay.space.into());
        row.insert("end_time".into(), stay.end.map_or(Value::Null, |end| format_rfc3339(end).into()));
        row.insert("randomized".into(), stay.randomized.into());
    }
    if event.value.0 != 0 {
        row.insert("value".into(), event.value.to_string().into());
    }
    if !extra.properties.is_empty() {
        let properties = serde_json::from_str(&extra.properties);
        row.insert("properties".into(), properties.unwrap_or_else(|_| extra.properties.as_str().into()));
    }
    if event.late {
        row.insert("late".into(), true.into());
    }
    Value::Object(row)
}

fn letter(letter: &DeadLetter, at: LogicalTime) -> Value {
    json!({
        "at": at, "kind": "dead_letter", "source_id": letter.source, "reason": letter.kind.word(),
        "refused_at": format_rfc3339(letter.at), "user_id": letter.user, "field": letter.field, "detail": letter.detail,
        "origin": letter.origin, "format": letter.format, "payload": letter.payload,
    })
}

fn control(control: &Control, at: LogicalTime) -> Value {
    // A control that cannot be shown as JSON is still named.
    let body = serde_json::to_value(control).unwrap_or(Value::Null);
    json!({ "at": at, "kind": "control", "control": control.word(), "body": body })
}

/// What a command line prints, for tests.
#[cfg(test)]
pub(super) fn printed(folder: &std::path::Path, flags: &str) -> Vec<Value> {
    use super::super::{Cli, Command, block_on};
    use super::{LogArgs, LogCommand};
    use clap::Parser;
    let line = format!("desireline log cat --config /dev/null --data {} {flags}", folder.display());
    let Command::Log(LogArgs { command: LogCommand::Cat(args) }) = Cli::parse_from(line.split_whitespace()).command else {
        panic!("{line}");
    };
    let work = async {
        let mut batches = super::open(&args.config)?.batches(0, 0);
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            rows.extend(args.rows(&batch?));
        }
        Ok(rows)
    };
    block_on(work).expect("readable")
}
