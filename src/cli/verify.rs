//! `desireline verify`: every view, recomputed from the log and compared.

use super::client::{Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::progress::{self, Unit};
use super::{ConfigArgs, block_on, out, until_interrupted};
use crate::config::mapping;
use crate::verify::{self, Local, Remote, Report, VerifyError};
use clap::Args;
use desireline_connectors::log::LogReader;
use desireline_connectors::store::Store;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline verify --data ./desireline-data                               the log of a stopped server
  desireline verify --data ./desireline-data --server                      the server that runs on it, at rest

The views are recomputed by plain loops that share no code with the server's, from the log alone, and compared row by row.
Exit code 0: no difference. 4: differences, the first of them printed.")]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Compare what the running server answers, instead of computing its views here
    #[arg(long)]
    server: bool,
    #[command(flatten)]
    client: ServerArgs,
    /// Verify the users in so many slices: less memory, more passes over the log [default: by the size of the log]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    slices: Option<u64>,
    /// Print so many differences
    #[arg(long, value_name = "N", default_value_t = 20)]
    differences: usize,
}

/// Attempts to find a running server at rest.
const ATTEMPTS: u32 = 5;
/// Events per slice: about half a gigabyte.
const EVENTS_PER_SLICE: u64 = 2_500_000;

pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    block_on(until_interrupted(verify(args)))
}

async fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let reader = super::log::open(&args.config)?;
    let slices = match args.slices {
        Some(slices) => slices,
        None => reader.segments().await?.iter().map(|s| s.counts.events).sum::<u64>().div_ceil(EVENTS_PER_SLICE).max(1),
    };
    let report = if args.server { of_server(args, &reader, slices).await? } else { of_log(args, &reader, slices).await? };
    out(&summary(&report));
    if report.difference_count == 0 { Ok(()) } else { Err(differences(&report)) }
}

async fn of_log(args: &VerifyArgs, reader: &LogReader, slices: u64) -> Result<Report, Failure> {
    let config = args.config.load()?;
    let store = Store::open(&mapping::store_url(&config), &config.data.store_options.0)?;
    let mut local = Local::new(reader.clone(), store, config.engine.workers).map_err(failed)?;
    compare(args, reader, &mut local, slices).await.map_err(failed)
}

async fn of_server(args: &VerifyArgs, reader: &LogReader, slices: u64) -> Result<Report, Failure> {
    let mut last = VerifyError::Moving;
    for _ in 0..ATTEMPTS {
        let mut remote = Remote::new(Client::new(&args.client)?);
        match compare(args, reader, &mut remote, slices).await {
            Ok(report) => return Ok(report),
            Err(VerifyError::Moving) => last = VerifyError::Moving,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(last))
}

async fn compare(args: &VerifyArgs, reader: &LogReader, observed: &mut impl verify::Observed, slices: u64) -> Result<Report, VerifyError> {
    let bar = progress::bar(Some(slices), Unit::Rows, "slices");
    let report = verify::verify(reader, observed, slices, args.differences, |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    report
}

fn failed(error: VerifyError) -> Failure {
    let exit = if matches!(error, VerifyError::Server(_) | VerifyError::Moving) { Exit::Unavailable } else { Exit::Failed };
    Failure::new(exit, "the views cannot be verified").detail(error)
}

fn summary(report: &Report) -> String {
    format!(
        "as of {}: {} sources, {} events, {} users, {} sessions, {} minutes, {} cells of occupancy compared; {} differences\n",
        report.as_of, report.sources, report.events, report.users, report.sessions, report.minutes, report.cells, report.difference_count
    )
}

fn differences(report: &Report) -> Failure {
    let failure = Failure::new(Exit::Found, format!("the views differ from the log in {} rows", report.difference_count));
    let failure = report.differences.iter().fold(failure, Failure::detail);
    let unlisted = report.difference_count.saturating_sub(report.differences.len() as u64);
    let failure = if unlisted > 0 { failure.detail(format!("… and {unlisted} more")) } else { failure };
    failure.hint("keep the log: it is the truth; please report this as a defect")
}
