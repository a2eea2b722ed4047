//! `desireline log`: looks into the log. Listing, printing and verifying need no lock and harm no server that is running on it;
//! commands that repair need the log for themselves.

mod cat;
mod listing;
mod repair;
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
    /// Say where a stopped partition goes on
    Reset(repair::ResetArgs),
    /// Leave one row out of every later replay
    Skip(repair::SkipArgs),
}

pub fn run(args: &LogArgs) -> Result<(), Failure> {
    match &args.command {
        LogCommand::Ls(args) => block_on(until_interrupted(listing::run(args))),
        LogCommand::Verify(args) => block_on(until_interrupted(verify::run(args))),
        LogCommand::Cat(args) => block_on(until_interrupted(cat::run(args))),
        LogCommand::Reset(args) => block_on(repair::reset(args)),
        LogCommand::Skip(args) => block_on(repair::skip(args)),
    }
}

/// The log that the configuration names.
pub fn open(args: &ConfigArgs) -> Result<LogReader, Failure> {
    Ok(LogReader::open(store(args)?, 0))
}

/// The store that the configuration names.
pub fn store(args: &ConfigArgs) -> Result<Store, Failure> {
    folder_exists(args)?;
    let config = args.load()?;
    Ok(Store::open(&mapping::store_url(&config), &config.data.store_options.0)?)
}

/// A folder that is not there is a mistake of the command line; it is not made.
pub(super) fn folder_exists(args: &ConfigArgs) -> Result<(), Failure> {
    let folder = local_folder(&mapping::store_url(&args.load()?));
    match folder.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => Err(Failure::new(Exit::Unavailable, format!("there is no data folder {}", folder.display()))
            .hint("name the server's folder with --data DIR, or its configuration with --config FILE")),
    }
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
