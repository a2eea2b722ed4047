//! The program itself is what labelling functions are interpreted by.

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use desireline_labelling::{Function, Runtime, RuntimeConfig, Source, Tier};
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_desireline");

#[test]
fn the_program_interprets_labelling_functions() {
    let code = "def labeling_function(row):\n    for limit in [3]:\n        return 1 if row['x'] > limit else -1\n";
    let function = Function::new(Source { code: code.to_owned(), applicable: vec![1], ..Source::default() }).expect("a function");
    assert_eq!(*function.tier(), Tier::Interpreted { construct: "for".to_owned(), line: 2 });
    let runtime = Runtime::new(RuntimeConfig { worker: Some(PROGRAM.into()), ..RuntimeConfig::default() });
    let numbers = Arc::new(Int64Array::from(vec![Some(1), Some(5), None])) as ArrayRef;
    let rows = RecordBatch::try_from_iter_with_nullable([("x", numbers, true)]).expect("rows");
    let outcome = runtime.evaluate(&function, &rows).expect("votes");
    assert_eq!(outcome.votes, [-1, 1, -1]);
    assert_eq!(outcome.faults.len(), 1, "{:?}", outcome.faults);
}

#[test]
fn the_command_is_for_the_service_alone() {
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).output().expect("the program runs");
    let help = run(&["--help"]);
    assert!(help.status.success() && !String::from_utf8_lossy(&help.stdout).contains("worker"), "{help:?}");
    assert_eq!(run(&["worker"]).status.code(), Some(2));
    assert_eq!(run(&["worker", "much", "long"]).status.code(), Some(2));
}
