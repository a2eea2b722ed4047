//! `desireline log reset` and `log skip`: commands that are themselves records of the log. They need the log for themselves, so
//! the server must be stopped.

use super::super::failure::Failure;
use super::super::stack::Stack;
use super::super::{ConfigArgs, logging, out};
use crate::config::values::Level;
use clap::Args;
use desireline_records::{Control, LogicalTime, Progress, SourceId, Token};

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  desireline log reset --source-id 1 --partition kafka:clicks/0 --position 1200 --data ./desireline-data

For a partition that has stopped because its position lies outside of what the broker holds (retention, or a topic that was
created anew). `GET /api/status` names it. Stop the server first.")]
pub struct ResetArgs {
    /// Source that reads the partition
    #[arg(long, value_name = "N")]
    source_id: SourceId,
    /// Name of the partition, such as kafka:TOPIC/0
    #[arg(long)]
    partition: String,
    /// The next position to read
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    position: i64,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  desireline log skip --at 1790000000123 --row 17 --data ./desireline-data

`desireline log cat` prints `at`; rows of a batch count from 0. An operator's last resort. Stop the server first.")]
pub struct SkipArgs {
    /// Logical time of the row's batch
    #[arg(long, value_name = "TIME")]
    at: LogicalTime,
    /// Number of the row in its batch
    #[arg(long)]
    row: u32,
    #[command(flatten)]
    config: ConfigArgs,
}

pub async fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let stack = open(&args.config).await?;
    let outcome = stack.service.reset_partition(args.source_id, &args.partition, args.position).await;
    stack.stop().await;
    told(outcome?, &format!("{} of source {} goes on at {}", args.partition, args.source_id, args.position));
    Ok(())
}

pub async fn skip(args: &SkipArgs) -> Result<(), Failure> {
    let stack = open(&args.config).await?;
    let controls = vec![Control::SkipRow { time: args.at, row: args.row }];
    let outcome = stack.service.commit(Progress { controls, ..Progress::default() }).await;
    stack.stop().await;
    told(
        outcome?,
        &format!("row {} of {} is skipped by every replay from here on; projections keep it until they are rebuilt", args.row, args.at),
    );
    Ok(())
}

async fn open(args: &ConfigArgs) -> Result<Stack, Failure> {
    super::folder_exists(args)?;
    let mut config = args.load()?;
    config.logging.level = config.logging.level.min(Level::Warn);
    logging::start(&config.logging);
    let stack = Stack::start(&config).await?;
    let replayed = stack.service.wait_ready().await;
    if let Err(error) = replayed {
        stack.stop().await;
        return Err(error.into());
    }
    Ok(stack)
}

fn told(token: Token, text: &str) {
    out(&format!("{text} (recorded as {token})\n"));
}
