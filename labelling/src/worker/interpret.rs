//! Rows through the interpreter.
//!
//! One run of the script makes the calls for [`RUN_ROWS`] rows where nothing that a call does outlasts it; else each row has a run of its
//! own, so that a vote never depends on the rows before. A row that raises is run once more alone, for the exception and its line.
//!
//! Limits that a repetition would meet in the same place (depth of calls, the size of one value) are faults of the row. Running out of
//! time is not one: it ends the whole evaluation.

use super::protocol::{self, Answer, Fault, FaultKind, Faults, Load};
use super::rows::Rows;
use crate::rewrite::{self, Script};
use arrow_array::RecordBatch;
use monty::MontyRun;
use monty_types::{CompileOptions, ExcType, MontyException, MontyObject, PrintWriter, ResourceLimits, ResourceTracker};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Rows of one run: enough that what a run begins with, such as compiling its patterns, does not count.
const RUN_ROWS: usize = 1024;
/// Size of one value that the code makes, in bytes.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Calls within each other, as in Python.
const CALLS_MAX: usize = 1000;

pub struct Interpreter {
    script: Script,
    applicable: Vec<i64>,
    single: MontyRun,
    /// Many calls in one run, for rows with these columns.
    batch: RefCell<Option<(Vec<String>, MontyRun)>>,
}

/// The code's own time is up, in this line.
pub struct Late(pub Option<u32>);

impl Interpreter {
    pub fn new(load: Load) -> Result<Self, (Option<u32>, String)> {
        let single = compile(rewrite::single(&load.script), vec!["__dl_row".to_owned()]);
        let single = single.map_err(|error| (line(&error, &load.script), error.summary()))?;
        Ok(Self { applicable: load.applicable, single, batch: RefCell::default(), script: load.script })
    }

    pub fn votes(&self, batch: &RecordBatch, until: Instant) -> Result<Answer, Late> {
        let rows = Rows::of(batch);
        let mut faults = Faults::default();
        let mut votes = Vec::with_capacity(batch.num_rows());
        for start in (0..batch.num_rows()).step_by(RUN_ROWS) {
            let end = batch.num_rows().min(start + RUN_ROWS);
            let together = self.together(&rows, start..end, until)?;
            for row in start..end {
                let returned = together.as_ref().and_then(|votes| votes.get(row - start));
                let vote = match returned {
                    Some(value) if !is_empty_tuple(value) => self.vote(value),
                    _ => self.alone(&rows, row, until)?,
                };
                votes.push(vote.unwrap_or_else(|fault| {
                    faults.add(Fault { first_row: row as u64, ..fault });
                    crate::source::ABSTAIN
                }));
            }
        }
        Ok(Answer { votes, faults: faults.into_sorted(), ..Answer::default() })
    }

    /// What the function returns for each row; `None` when they have to be run one by one.
    fn together(&self, rows: &Rows<'_>, range: std::ops::Range<usize>, until: Instant) -> Result<Option<Vec<MontyObject>>, Late> {
        if !self.script.batches {
            return Ok(None);
        }
        let mut batch = self.batch.borrow_mut();
        if batch.as_ref().is_none_or(|(names, _)| names != rows.names()) {
            let (text, inputs) = rewrite::batch(&self.script, rows.names());
            *batch = compile(text, inputs).ok().map(|run| (rows.names().to_vec(), run));
        }
        let Some((_, run)) = &*batch else { return Ok(None) };
        let Some(columns) = rows.columns(range) else { return Ok(None) };
        match execute(run, columns, until) {
            Ok(MontyObject::List(votes)) => Ok(Some(votes)),
            Ok(_) => Ok(None),
            Err(error) if late(&error) => Err(Late(line(&error, &self.script))),
            Err(_) => Ok(None),
        }
    }

    fn alone(&self, rows: &Rows<'_>, row: usize, until: Instant) -> Result<Result<i64, Fault>, Late> {
        let values = match rows.row(row) {
            Ok(values) => values,
            Err(message) => return Ok(Err(fault(FaultKind::Limit, None, message))),
        };
        match execute(&self.single, vec![values], until) {
            Ok(value) => Ok(self.vote(&value)),
            Err(error) if late(&error) => Err(Late(line(&error, &self.script))),
            Err(error) => Ok(Err(raised(&error, &self.script))),
        }
    }

    fn vote(&self, value: &MontyObject) -> Result<i64, Fault> {
        let vote = match value {
            MontyObject::Int(id) => protocol::vote_of_int(*id, &self.applicable),
            MontyObject::Float(id) => protocol::vote_of_float(*id, &self.applicable),
            MontyObject::BigInt(_) => Err((FaultKind::Undeclared, "returned an integer beyond 64 bits".to_owned())),
            MontyObject::None => Err(protocol::vote_of_none()),
            other => Err(protocol::vote_of_other(type_name(other))),
        };
        vote.map_err(|(kind, message)| fault(kind, None, message))
    }
}

fn compile(text: String, inputs: Vec<String>) -> Result<MontyRun, MontyException> {
    MontyRun::new(text, "lf.py", inputs, CompileOptions::default())
}

fn execute(run: &MontyRun, inputs: Vec<MontyObject>, until: Instant) -> Result<MontyObject, MontyException> {
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let limits = ResourceLimits::default().max_duration(left).max_memory(VALUE_BYTES_MAX).max_recursion_depth(CALLS_MAX);
    run.run(inputs, ResourceTracker::new(limits), PrintWriter::Disabled)
}

fn fault(kind: FaultKind, line: Option<u32>, message: String) -> Fault {
    Fault { kind, line, message, rows: 1, first_row: 0 }
}

fn is_empty_tuple(value: &MontyObject) -> bool {
    matches!(value, MontyObject::Tuple(items) if items.is_empty())
}

fn late(error: &MontyException) -> bool {
    error.exc_type() == ExcType::TimeoutError && error.message().is_some_and(|message| message.starts_with("time limit exceeded"))
}

/// The last line of the user's text that the error came through.
fn line(error: &MontyException, script: &Script) -> Option<u32> {
    let lines = error.traceback().iter().rev().map(|frame| frame.start.line);
    let mut of_user = lines.filter_map(|line| line.checked_sub(script.lines_before).filter(|&line| line >= 1 && line <= script.lines));
    of_user.next()
}

fn raised(error: &MontyException, script: &Script) -> Fault {
    let message = error.summary();
    let limit = match error.exc_type() {
        // Not Python's doing: it has all of these.
        ExcType::MemoryError | ExcType::NotImplementedError => true,
        ExcType::TypeError => unlike_python(&message),
        _ => false,
    };
    fault(if limit { FaultKind::Limit } else { FaultKind::Exception }, line(error, script), message)
}

/// Arithmetic with a `bool` or of spans, `%` of a text, an integer beyond 64 bits as a float or rounded: Python has them all.
fn unlike_python(message: &str) -> bool {
    if message.ends_with("real number, not 'int'") || message.ends_with("real number, not int") {
        return true;
    }
    let numbers = ["'int'", "'float'", "'bool'", "'datetime.timedelta'"];
    let mut kinds = message.split_once("for ").map_or("", |(_, rest)| rest).split_whitespace().filter(|word| word.starts_with('\''));
    let operands = message.contains("unsupported operand type") || message.contains("bad operand type");
    let all_numbers = operands && kinds.all(|kind| numbers.contains(&kind));
    all_numbers || message.contains("for %: 'str'") || message.contains("type int doesn't define __round__")
}

fn type_name(value: &MontyObject) -> &'static str {
    match value {
        MontyObject::Bool(_) => "bool",
        MontyObject::String(_) => "str",
        MontyObject::List(_) => "list",
        MontyObject::Tuple(_) => "tuple",
        MontyObject::Dict(_) => "dict",
        MontyObject::DateTime(_) => "datetime.datetime",
        _ => "another kind",
    }
}
