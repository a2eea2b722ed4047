//! The command line.
//!
//! Results go to standard output; progress, logs and errors go to standard error. Errors have a first line that says what
//! failed, details, and a hint at what to do. Colour and progress bars appear on a terminal only.
//!
//! Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 the configuration has mistakes; 4 done, and it found damage,
//! differences or rejected rows; 5 a server, a folder or a store is not available; 130 interrupted.

pub mod check;
pub mod client;
pub mod connections;
pub mod failure;
pub mod generate;
pub mod ingest;
pub mod limits;
pub mod lock;
pub mod log;
pub mod logging;
pub mod progress;
pub mod projection;
pub mod serve;
pub mod stack;
pub mod token;
pub mod verify;
pub mod wifi;
pub mod worker;

use crate::config::{Config, Inputs};
use clap::{Args, Parser, Subcommand};
use failure::{Exit, Failure};
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(
    name = "desireline",
    version,
    about = "Behavioural analytics that is always current and always right",
    long_about = "Behavioural analytics that is always current and always right: sessions, journeys, clusters and \
per-minute aggregates as incrementally maintained views over one durable log.",
    after_help = "\
Examples:
  desireline serve --demo                         a server that feeds itself; open http://127.0.0.1:8000/dashboard
  desireline generate clickstream --events 10000 --to events.csv
  desireline ingest events.csv --source-id 1      load a file into the running server
  desireline check --config desireline.toml       find every mistake of a configuration

Exit codes: 0 done; 1 failed; 2 wrong command line; 3 mistakes in the configuration; 4 done, but found damage, differences
or rejected rows; 5 a server, a folder or a store is not available; 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the server
    Serve(serve::ServeArgs),
    /// Make synthetic events: clicks, WiFi sessions and their spaces, or transactions
    Generate(generate::GenerateArgs),
    /// Load a CSV file
    Ingest(ingest::IngestArgs),
    /// Look into the log: list, verify or print it
    Log(log::LogArgs),
    /// Check the configuration and report every mistake
    Check(check::CheckArgs),
    /// Recompute every view from the log and compare
    Verify(verify::VerifyArgs),
    /// List, pause, resume or rebuild what other tools read: PostgreSQL, Redis, Kafka, Parquet
    Projection(projection::ProjectionArgs),
    /// Keys of the pseudonyms of WiFi devices
    Wifi(wifi::WifiArgs),
    /// The key of the passwords of database connections
    Connections(connections::ConnectionsArgs),
    /// Make access tokens
    Token(token::TokenArgs),
    /// Print the version
    Version,
    /// Run labelling functions for the server that started this process
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// Flags of every command that reads the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// The configuration file [default: ./desireline.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder, instead of `data.dir`
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ConfigArgs {
    /// The layers of the configuration, with the flags given here on top.
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::from_process(self.config.clone());
        inputs.flag("data.dir", "--data", self.data.as_ref().map(|dir| dir.display().to_string()));
        if self.data.is_some() {
            // A folder named on the command line is where the log is.
            inputs.flag("data.store_url", "--data", Some(""));
        }
        inputs
    }

    pub fn load(&self) -> Result<Config, Failure> {
        Ok(crate::config::load(&self.inputs())?)
    }
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Worker(args) = &cli.command {
        return worker::run(args);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Projection(args) => projection::run(&args),
        Command::Wifi(args) => wifi::run(&args),
        Command::Connections(args) => connections::run(&args),
        Command::Token(args) => token::run(&args),
        // Runs before anything of the service does; see `main`.
        Command::Worker(_) => Ok(()),
        Command::Version => {
            out(&format!("desireline {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}

/// Runs asynchronous work on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, "no threads could be started").detail(error))?;
    runtime.block_on(work)
}

/// Stops work at the first Ctrl-C.
pub async fn until_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

/// Writes a result to standard output. A reader that has gone away (`| head`) ends the process quietly.
#[expect(clippy::disallowed_methods, reason = "nobody reads any more; what is open elsewhere is as safe as in a crash")]
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
