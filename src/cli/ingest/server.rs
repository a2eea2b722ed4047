//! Lets the server read the file, and watches the run.

use super::super::client::Client;
use super::super::failure::{Exit, Failure};
use super::super::progress::{self, Unit};
use super::offline::{describe, refused};
use super::{IngestArgs, Outcome};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How often the run is looked at.
const POLL_EVERY: Duration = Duration::from_millis(250);

pub async fn run(args: &IngestArgs, file: &Path, client: &Client) -> Result<Outcome, Failure> {
    let Some(path) = file.to_str() else {
        return Err(Failure::new(Exit::Failed, "the file's path is not UTF-8").hint("send its rows with --stream"));
    };
    let mut request = json!({ "source_id": args.source_id, "events_path": path, "is_initial_flow": args.initial });
    if args.format.word() != "ampelios" {
        request["format"] = Value::from(args.format.word());
    }
    let (_, run_id) = client.post("/trigger", &request, "x-desireline-run-id").await?;
    let run_id = run_id.ok_or_else(|| Failure::new(Exit::Failed, "the server did not say which run loads the file"))?;
    let bar = progress::bar(Some(0), Unit::Bytes, &format!("run {}", &run_id[..run_id.len().min(8)]));
    let outcome = tokio::select! {
        outcome = watch(client, &run_id, &bar) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "no longer watching; the server goes on with the load")
            .hint(format!("stop it with: curl -X POST {}/dagster/runs/{run_id}/cancel", client.base()))),
    };
    bar.finish_and_clear();
    outcome
}

async fn watch(client: &Client, run_id: &str, bar: &ProgressBar) -> Result<Outcome, Failure> {
    loop {
        let run = client.get(&format!("/dagster/runs/{run_id}")).await?;
        let number = |name: &str| run.pointer(&format!("/progress/{name}")).and_then(Value::as_u64);
        if let (Some(done), Some(total)) = (number("done"), number("total")) {
            bar.set_length(total);
            bar.set_position(done);
        }
        match run["status"].as_str() {
            Some("SUCCESS") => {
                let result = &run["result"];
                return Ok(Outcome { text: describe(result), rejected: refused(result), ..Outcome::default() });
            }
            Some("FAILURE") => {
                let message = run["error_message"].as_str().unwrap_or("the run failed");
                return Err(Failure::new(Exit::Failed, message)
                    .detail(format!("run {run_id}"))
                    .hint("a server may read files in its `ingest.allowed_folders` only; --stream sends the rows from here"));
            }
            Some("CANCELLED") => return Err(Failure::new(Exit::Failed, format!("run {run_id} was cancelled"))),
            _ => tokio::time::sleep(POLL_EVERY).await,
        }
    }
}
