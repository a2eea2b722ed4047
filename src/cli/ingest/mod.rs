//! `desireline ingest`: loads a file.
//!
//! Three ways, all of which count each row once however often they are repeated:
//! - through a server on the same machine, which reads the file itself (`POST /trigger`) and goes on with it after a restart;
//! - `--stream`: the rows are read here and sent in batches (`POST /api/ingest-batch`), to a server that cannot read the file;
//! - `--data DIR`: without a server, straight into the log of that folder.
//!
//! # Recovery
//! Server and offline loads are runs: an interrupted one goes on where it stopped. A streamed load writes how many rows the
//! server has acknowledged to `FILE.ingest-progress`, together with the file's fingerprint, and goes on from there; the note is
//! removed at the end.
//!
//! # Known limitations
//! A row's identity differs between `--stream` and the other two ways (a client may not choose derived ids): the same file loaded
//! in both ways counts twice. Rows that cannot be read are dead letters of a server or offline load; a streamed load only
//! reports them.

mod offline;
mod server;
mod stream;

use super::client::{Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::{ConfigArgs, block_on, out, until_interrupted};
use clap::Args;
use desireline_connectors::formats::Format;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline ingest events.csv --source-id 1
  desireline ingest events.csv.gz --source-id 1 --initial
  desireline ingest events.csv --source-id 1 --stream --url http://10.0.0.5:8000 --token SECRET
  desireline ingest events.csv --source-id 1 --data ./desireline-data

Repeating a load is safe: rows that are already there are counted as duplicates.")]
pub struct IngestArgs {
    /// A CSV file with a header, plain or gzip
    file: PathBuf,
    /// Source that the rows belong to
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=2_147_483_647))]
    source_id: u32,
    /// Form of the rows: ampelios, clickstream, desireline or wifi
    #[arg(long, default_value = "ampelios")]
    format: Format,
    /// First load of a source: clusters are trained in two passes
    #[arg(long)]
    initial: bool,
    /// Read the file here and send its rows, instead of letting the server read it
    #[arg(long, conflicts_with_all = ["data", "config", "initial"])]
    stream: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    text: String,
    rejected: u64,
    /// Why, of the first ones; where they are not kept as dead letters.
    reasons: Vec<String>,
}

pub fn run(args: &IngestArgs) -> Result<(), Failure> {
    let file = readable(&args.file)?;
    let offline = args.config.data.is_some() || args.config.config.is_some();
    let outcome = if offline {
        offline::run(args, &file)?
    } else {
        let client = Client::new(&args.server)?;
        if args.stream || !client.is_local() {
            block_on(until_interrupted(stream::run(args, &file, &client)))?
        } else {
            block_on(server::run(args, &file, &client))?
        }
    };
    out(&format!("{}\n", outcome.text));
    if outcome.rejected == 0 {
        return Ok(());
    }
    let failure = Failure::new(Exit::Found, format!("{} rows were rejected", outcome.rejected));
    if outcome.reasons.is_empty() {
        return Err(failure.hint("they are kept as dead letters with their reasons: GET /api/dead-letters"));
    }
    Err(outcome.reasons.iter().fold(failure, Failure::detail))
}

/// The file's absolute path, as the server will see it.
fn readable(file: &Path) -> Result<PathBuf, Failure> {
    let unreadable = |error| Failure::new(Exit::Failed, format!("{} cannot be read", file.display())).detail(error);
    let path = file.canonicalize().map_err(unreadable)?;
    if path.is_dir() {
        return Err(Failure::new(Exit::Failed, format!("{} is a folder", file.display())).hint("name one file"));
    }
    std::fs::File::open(&path).map_err(unreadable)?;
    Ok(path)
}

#[cfg(test)]
mod tests;
