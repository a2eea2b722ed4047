//! `desireline log ls`.

use super::super::failure::Failure;
use super::super::{ConfigArgs, out};
use clap::Args;
use desireline_connectors::log::{ObjectKind, SegmentInfo};
use desireline_records::LogicalTime;
use desireline_records::time::format_rfc3339;
use serde_json::json;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline log ls --data ./desireline-data
  desireline log ls --json | jq .name

A segment holds one batch, a part many of them, compacted; a fence says that a server has opened the log.")]
pub struct ListArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub async fn run(args: &ListArgs) -> Result<(), Failure> {
    let reader = super::open(&args.config)?;
    let segments = reader.segments().await?;
    out(&if args.json { lines(&segments) } else { table(&segments) });
    Ok(())
}

fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Fence => "fence",
        ObjectKind::Segment => "segment",
        ObjectKind::Part => "part",
    }
}

/// A logical time is close to the wall clock, in milliseconds.
fn time(time: LogicalTime) -> String {
    if time == 0 { "-".to_owned() } else { format_rfc3339(i64::try_from(time).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000)) }
}

pub(super) fn lines(segments: &[SegmentInfo]) -> String {
    let line = |info: &SegmentInfo| {
        let value = json!({
            "name": info.name, "kind": word(info.kind), "seq_first": info.seq_first, "seq_last": info.seq_last,
            "time_first": info.time_first, "time_last": info.time_last, "events": info.counts.events, "late": info.counts.late,
            "dead_letters": info.counts.dead_letters, "controls": info.counts.controls, "bytes": info.bytes, "epoch": info.epoch,
        });
        format!("{value}\n")
    };
    segments.iter().map(line).collect()
}

pub(super) fn table(segments: &[SegmentInfo]) -> String {
    let mut text = format!(
        "{:<44} {:<7} {:<24} {:<24} {:>9} {:>6} {:>6} {:>8} {:>11}\n",
        "NAME", "KIND", "FROM", "TO", "EVENTS", "LATE", "DEAD", "CONTROLS", "BYTES"
    );
    for info in segments {
        let counts = info.counts;
        text.push_str(&format!(
            "{:<44} {:<7} {:<24} {:<24} {:>9} {:>6} {:>6} {:>8} {:>11}\n",
            info.name,
            word(info.kind),
            time(info.time_first),
            time(info.time_last),
            counts.events,
            counts.late,
            counts.dead_letters,
            counts.controls,
            info.bytes
        ));
    }
    let bytes: u64 = segments.iter().map(|info| info.bytes).sum();
    let events: u64 = segments.iter().map(|info| info.counts.events).sum();
    text.push_str(&format!("{} objects, {events} events, {bytes} bytes\n", segments.len()));
    text
}
