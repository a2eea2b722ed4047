//! Functions that mean harm, against the real worker.

mod support;

use arrow_array::{ArrayRef, Int64Array};
use std::process::ExitCode;
use std::sync::Arc;
use support::{Test, rows, runtime, votes};

fn main() -> ExitCode {
    support::main(TESTS)
}

const TESTS: &[Test] = &[("an_ordinary_function_votes", an_ordinary_function_votes)];

fn an_ordinary_function_votes() {
    let rows = rows(vec![("x", Arc::new(Int64Array::from(vec![Some(1), Some(5), None])) as ArrayRef)]);
    let code = "import statistics\nYES = 77\ndef labeling_function(row):\n    for step in range(3):\n        if row.x > step + 2 and round(2.675, 2) == 2.67:\n            return YES\n    return statistics.mean([3, 1])\n";
    let outcome = votes(&runtime(), code, &rows);
    assert_eq!(outcome.votes, [2, 1, -1]);
    assert_eq!(outcome.faults.len(), 1);
    assert_eq!(outcome.faults[0].line, Some(5));
    assert!(outcome.faults[0].message.starts_with("TypeError: '>' not supported"), "{:?}", outcome.faults);
}
