//! Tests that are their own worker: a program that runs the tests, or, when it is started so, serves as the interpreter's process.

use arrow_array::{ArrayRef, RecordBatch};
use desireline_labelling::{Function, Module, Refusal, Runtime, RuntimeConfig, Source, worker_main};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub type Test = (&'static str, fn());

/// Runs the tests whose names contain the first argument, as the usual runner does, or the worker.
pub fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "worker") {
        return worker_main();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| name.contains(&filter)).collect();
    let mut failed = Vec::new();
    let begun = Instant::now();
    for (name, test) in &chosen {
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {} ({} ms)", if passed { "ok" } else { "FAILED" }, started.elapsed().as_millis());
        if !passed {
            failed.push(*name);
        }
    }
    // As the usual runner says it.
    let (word, passed, skipped) =
        (if failed.is_empty() { "ok" } else { "FAILED" }, chosen.len() - failed.len(), tests.len() - chosen.len());
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; {skipped} filtered out; finished in {seconds:.2}s",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn config() -> RuntimeConfig {
    RuntimeConfig { deadline: Duration::from_secs(20), ..RuntimeConfig::default() }
}

pub fn runtime() -> Runtime {
    Runtime::new(config())
}

/// A function that may use every module and return 1, 2 and 3.
pub fn source(code: &str) -> Source {
    Source {
        code: code.to_owned(),
        allowed_imports: Module::ALL.into_iter().collect(),
        constants: vec![("YES".to_owned(), 1), ("NO".to_owned(), 2), ("MAYBE".to_owned(), 3)],
        applicable: vec![1, 2, 3],
    }
}

pub fn function(code: &str) -> Result<Function, Refusal> {
    Function::new(source(code))
}

pub fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("columns of one length")
}
