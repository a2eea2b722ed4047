//! `desireline log`: looks into the log. Reading needs no lock and harms no server that is running on it.

mod cat;
mod listing;
mod verify;

use super::ConfigArgs;
use super::block_on;
use super::failure::{Exit, Failure};
use super::lock::local_folder;
use super::until_interrupted;
use crate::config::mapping;
use clap::{Args, Subcommand};
use desireline_connectors::log::{LogError, LogReader};
use desireline_connectors::store::{Store, StoreError};

#[derive(Args, Debug)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand, Debug)]
enum LogCommand {
    /// List the objects of the log
    Ls(listing::ListArgs),
    /// Read everything and check checksums, numbers, times and positions
    Verify(verify::VerifyArgs),
    /// Print rows as JSON lines
    Cat(cat::CatArgs),
}

pub fn run(args: &LogArgs) -> Result<(), Failure> {
    match &args.command {
        LogCommand::Ls(args) => block_on(until_interrupted(listing::run(args))),
        LogCommand::Verify(args) => block_on(until_interrupted(verify::run(args))),
        LogCommand::Cat(args) => block_on(until_interrupted(cat::run(args))),
    }
}

/// The log that the configuration names. A folder that is not there is not made.
pub fn open(args: &ConfigArgs) -> Result<LogReader, Failure> {
    let config = args.load()?;
    let url = mapping::store_url(&config);
    if let Some(folder) = local_folder(&url)
        && !folder.is_dir()
    {
        return Err(Failure::new(Exit::Unavailable, format!("there is no data folder {}", folder.display()))
            .hint("name the server's folder with --data DIR, or its configuration with --config FILE"));
    }
    let store = Store::open(&url, &config.data.store_options.0)?;
    Ok(LogReader::open(store, 0))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Unavailable, error.to_string()).detail(format!("code: {}", error.code())).hint(error.hint())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let exit = match error {
            LogError::Damaged { .. } | LogError::Gap { .. } | LogError::Version { .. } => Exit::Found,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error.to_string()).detail(format!("code: {}", error.code())).hint(error.hint())
    }
}

#[cfg(test)]
mod tests;
