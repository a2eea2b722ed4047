//! `desireline worker`: the process in which the service runs labelling functions that it does not compile.
//!
//! For the service alone, which starts it with an empty environment and three pipes. The command gives up files, network and further
//! processes before it reads anything, and ends when its input does.

use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub struct WorkerArgs {
    /// Memory beyond the program, in bytes
    #[arg(value_name = "MEMORY_BYTES")]
    _memory_bytes: u64,
    /// Processor time in its life, in seconds
    #[arg(value_name = "CPU_SECONDS")]
    _cpu_seconds: u64,
}

/// The arguments were read by clap for its errors; the worker reads them by itself.
pub fn run(_: &WorkerArgs) -> ExitCode {
    desireline_labelling::worker_main()
}
