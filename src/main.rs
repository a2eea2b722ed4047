//! The binary `desireline`; everything is in the library, where tests and benches can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    desireline::cli::main()
}
