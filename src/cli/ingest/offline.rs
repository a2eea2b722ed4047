//! Loads a file into the log of a folder, without a server.

use super::super::failure::{Exit, Failure};
use super::super::progress::{self, Unit};
use super::super::stack::Stack;
use super::super::{block_on, logging};
use super::{IngestArgs, Outcome};
use crate::config::Config;
use crate::config::values::Level;
use crate::runs::{RunId, RunStatus, Runs};
use crate::trigger::{self, TriggerRequest};
use indicatif::ProgressBar;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn run(args: &IngestArgs, file: &Path) -> Result<Outcome, Failure> {
    let mut config = args.config.load()?;
    config.logging.level = config.logging.level.min(Level::Warn);
    logging::start(&config.logging);
    // Whoever can start this command can read the file anyway.
    config.ingest.allowed_folders = Some(vec![file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)]);
    let request = TriggerRequest {
        source_id: args.source_id,
        events_path: file.display().to_string(),
        is_initial_flow: args.initial,
        format: args.format,
    };
    block_on(load(&config, request))
}

async fn load(config: &Config, request: TriggerRequest) -> Result<Outcome, Failure> {
    let stack = Stack::start(config).await?;
    let outcome = tokio::select! {
        outcome = work(&stack, request) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")
            .hint("what was loaded is durable; the same command goes on from there")),
    };
    stack.stop().await;
    outcome
}

async fn work(stack: &Stack, request: TriggerRequest) -> Result<Outcome, Failure> {
    let bar = progress::bar(Some(0), Unit::Bytes, "loading");
    stack.restore().await?;
    let run = match unfinished(&stack.runs, &request) {
        Some(run) => run,
        None => trigger::trigger(&stack.runs, request).await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?,
    };
    let outcome = watch(&stack.runs, &run, &bar).await;
    bar.finish_and_clear();
    outcome
}

/// A load of the same file that an earlier command left behind, which is going on by now.
fn unfinished(runs: &Runs, request: &TriggerRequest) -> Option<RunId> {
    let wanted = serde_json::to_value(request).ok()?;
    let open = runs.list(usize::MAX, None).into_iter().find(|run| !run.status.finished() && run.params == wanted);
    open.map(|run| run.run_id)
}

async fn watch(runs: &Runs, run: &RunId, bar: &ProgressBar) -> Result<Outcome, Failure> {
    let failed = |error: crate::runs::RunsError| Failure::new(Exit::Failed, error.to_string());
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    let record = loop {
        tokio::select! {
            record = runs.wait(run) => break record.map_err(failed)?,
            _ = ticks.tick() => {
                if let Some(progress) = runs.get(run).map_err(failed)?.progress {
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                }
            }
        }
    };
    match record.status {
        RunStatus::Success => {
            let result = record.result.unwrap_or_default();
            Ok(Outcome { text: describe(&result), rejected: refused(&result), ..Outcome::default() })
        }
        status => Err(Failure::new(Exit::Failed, record.error.map_or_else(|| status.to_string(), |error| error.message))),
    }
}

pub(super) fn refused(result: &Value) -> u64 {
    result["refused"].as_u64().unwrap_or(0)
}

/// One line about a finished load.
pub(super) fn describe(result: &Value) -> String {
    let number = |name: &str| result[name].as_u64().unwrap_or(0);
    format!("{} rows: {} new, {} duplicates, {} rejected", number("rows"), number("new"), number("duplicates"), number("refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_line() {
        let result = serde_json::json!({"rows": 10, "new": 7, "duplicates": 2, "refused": 1});
        assert_eq!(describe(&result), "10 rows: 7 new, 2 duplicates, 1 rejected");
        assert_eq!(refused(&result), 1);
    }
}
