//! `desireline projection`: how projections of a running server stand, and orders to them.

use super::client::{Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::progress::{Unit, bar};
use super::{block_on, out, until_interrupted};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline projection ls
  desireline projection rebuild postgres --wait
  desireline projection pause redis

A projection keeps a target (PostgreSQL, Redis, Kafka, Parquet) true to the views. `pause` lets the target be; it stays paused over restarts, \
and catches up when it is resumed. `rebuild` builds its rows anew from the log, beside the old ones, which readers see until it is done.")]
pub struct ProjectionArgs {
    #[command(subcommand)]
    command: ProjectionCommand,
}

#[derive(Subcommand, Debug)]
enum ProjectionCommand {
    /// List the projections: state, applied time, lag
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Build the rows of a target anew
    Rebuild {
        /// Its name, such as `postgres`
        name: String,
        /// Wait until it is complete
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Stop writing to a target, also after restarts
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Write to a target again
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// How often a rebuild is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub fn run(args: &ProjectionArgs) -> Result<(), Failure> {
    match &args.command {
        ProjectionCommand::Ls { json, server } => block_on(until_interrupted(list(server, *json))),
        ProjectionCommand::Rebuild { name, wait, server } => block_on(until_interrupted(rebuild(server, name, *wait))),
        ProjectionCommand::Pause { name, server } => block_on(until_interrupted(order(server, name, "pause"))),
        ProjectionCommand::Resume { name, server } => block_on(until_interrupted(order(server, name, "resume"))),
    }
}

async fn list(server: &ServerArgs, json: bool) -> Result<(), Failure> {
    let answer = Client::new(server)?.get("/api/projections").await?;
    if json {
        out(&format!("{answer:#}\n"));
        return Ok(());
    }
    let rows = answer["projections"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        out("no projection is configured\n");
        return Ok(());
    }
    out(&table(rows));
    Ok(())
}

fn table(rows: &[Value]) -> String {
    let mut text = format!("{:<16} {:<12} {:>10} {:>10} {:>12} {:>8}  {}\n", "NAME", "STATE", "LAG", "WAITING", "ROWS", "REFUSED", "VIEWS");
    for row in rows {
        let lag = row["lag_ms"].as_u64().map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1e3));
        let words = row["views"].as_array().into_iter().flatten().filter_map(Value::as_str);
        text += &format!(
            "{:<16} {:<12} {lag:>10} {:>10} {:>12} {:>8}  {}\n",
            row["name"].as_str().unwrap_or_default(),
            row["state"].as_str().unwrap_or_default(),
            row["lag_rows"].as_u64().unwrap_or_default(),
            row["rows_applied"].as_u64().unwrap_or_default(),
            row["rows_refused"].as_u64().unwrap_or_default(),
            words.collect::<Vec<_>>().join(","),
        );
        if let Some(error) = row["error"].as_str() {
            text += &format!("    {error}\n");
        }
    }
    text
}

async fn order(server: &ServerArgs, name: &str, order: &str) -> Result<(), Failure> {
    Client::new(server)?.post(&path(name, order), &json!({}), "x-request-id").await?;
    out(&format!("{name}: {order} ordered\n"));
    Ok(())
}

async fn rebuild(server: &ServerArgs, name: &str, wait: bool) -> Result<(), Failure> {
    let client = Client::new(server)?;
    let before = find(&client, name).await?;
    client.post(&path(name, "rebuild"), &json!({}), "x-request-id").await?;
    if !wait {
        out(&format!("{name}: rebuild ordered\n"));
        return Ok(());
    }
    let bar = bar(None, Unit::Rows, name);
    let applied = before["rows_applied"].as_u64().unwrap_or_default();
    loop {
        let row = find(&client, name).await?;
        let state = row["state"].as_str().unwrap_or_default();
        bar.set_message(format!("{name}: {state}"));
        bar.set_position(row["rows_applied"].as_u64().unwrap_or_default().saturating_sub(applied));
        if state == "live" && row["since"] != before["since"] {
            bar.finish_and_clear();
            out(&format!("{name}: complete\n"));
            return Ok(());
        }
        if let (true, Some(error)) = (state == "failing", row["error"].as_str()) {
            bar.finish_and_clear();
            let hint = "the server goes on trying; `desireline projection ls` shows how it stands";
            return Err(Failure::new(Exit::Unavailable, format!("{name} is not complete")).detail(error).hint(hint));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    let answer = client.get("/api/projections").await?;
    let rows = answer["projections"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["name"] == name).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("the server has no projection {name}")).hint("`desireline projection ls` lists those it has")
    })
}

fn path(name: &str, order: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/api/projections/{name}/{order}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_wrong() {
        let rows = [
            json!({ "name": "postgres", "state": "failing", "lag_ms": 61_500, "lag_rows": 12, "rows_applied": 7, "rows_refused": 1,
                "views": ["events", "sessions"], "error": "connection refused" }),
            json!({ "name": "redis", "state": "live", "lag_ms": null, "lag_rows": 0, "rows_applied": 0, "rows_refused": 0, "views": [] }),
        ];
        let text = table(&rows);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["postgres", "failing", "61.5", "s", "12", "7", "1", "events,sessions"]);
        assert_eq!(lines[2], ["connection", "refused"]);
        assert_eq!(lines[3], ["redis", "live", "-", "0", "0", "0"]);
    }
}
