//! Functions, and what becomes of rows that are given to them.
//!
//! An evaluation gives a vote for every row, or fails as a whole. Compiled functions go over the rows in batches; rows that a batch left
//! to the other tier are collected and interpreted together at the end. Interpreted functions see only the columns that their code names,
//! unless they hand the row on, so that no more is sent to the worker than is read.

use crate::check;
use crate::columns::Column;
use crate::facts::{self, Facts};
use crate::ir::Program;
use crate::lower::{self, Unsupported};
use crate::machine::{Machine, State};
use crate::mask::BATCH_ROWS;
use crate::parse;
use crate::pool::Pool;
use crate::refusal::{self, Refusal};
use crate::rewrite;
use crate::source::{ABSTAIN, Source};
use crate::worker::protocol::{Fault, Faults, Load};
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rows of one frame to a worker.
const FRAME_ROWS: usize = 8192;
/// Memory of the rows of one frame, where rows are long.
const FRAME_BYTES: usize = 16 * 1024 * 1024;

/// How a function is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// As operations on whole columns.
    Compiled,
    /// By the interpreter in a worker, because of this in the code.
    Interpreted { construct: String, line: u32 },
}

/// A labelling function that was accepted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Function {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Tells workers whether they have it loaded.
    number: u64,
    tier: Tier,
    program: Option<Program>,
    columns: Vec<String>,
    whole_row: bool,
    load: Load,
}

static FUNCTIONS: AtomicU64 = AtomicU64::new(0);

impl Function {
    pub fn new(source: Source) -> Result<Self, Refusal> {
        let inner = parse::with_tree(&source.code, |tree, places| {
            let definition = check::check(tree, &source, places)?;
            let row = check::parameter(&definition.parameters).unwrap_or("row");
            let facts = facts::facts(definition, row);
            let script = rewrite::script(tree, &source, &facts, places)?;
            interpretable(&script)?;
            let (program, tier) = match lower::lower(tree, definition, &source, &facts, places) {
                Ok(program) => (Some(program), Tier::Compiled),
                Err(Unsupported { construct, line }) => (None, Tier::Interpreted { construct, line }),
            };
            let Facts { columns, whole_row, rebound, .. } = facts;
            let load = Load { script, applicable: source.applicable.clone() };
            let number = FUNCTIONS.fetch_add(1, Ordering::Relaxed);
            Ok(Inner { number, tier, program, columns: columns.into_iter().collect(), whole_row: whole_row || rebound, load })
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn tier(&self) -> &Tier {
        &self.inner.tier
    }

    /// The columns that the code names, in order. A function that hands its whole row on may read others.
    pub fn columns(&self) -> Vec<String> {
        self.inner.columns.clone()
    }
}

/// What the interpreter itself cannot read is found out when a function is saved, not when it runs.
fn interpretable(script: &rewrite::Script) -> Result<(), Refusal> {
    let load = Load { script: script.clone(), applicable: Vec::new() };
    match crate::worker::interpret::Interpreter::new(load) {
        Ok(_) => Ok(()),
        Err((line, message)) => {
            let construct = message.split(": ").last().unwrap_or(&message).to_owned();
            Err(Refusal { code: refusal::UNSUPPORTED, line, column: None, construct, message })
        }
    }
}

#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The program that is started as a worker; `None` is the running program.
    pub worker: Option<PathBuf>,
    /// Its first arguments.
    pub worker_arguments: Vec<String>,
    /// Workers at once.
    pub workers_max: usize,
    /// Memory of a worker beyond its program.
    pub memory_bytes_max: u64,
    /// Processor time of a worker in its life.
    pub worker_cpu_seconds_max: u64,
    /// How long a function may take for one batch of rows.
    pub deadline: Duration,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            worker: None,
            worker_arguments: vec!["worker".to_owned()],
            workers_max: 2,
            memory_bytes_max: 512 * 1024 * 1024,
            worker_cpu_seconds_max: 3600,
            deadline: Duration::from_secs(10),
        }
    }
}

/// An evaluation without votes. None of these is a property of single rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// Ran for longer than the deadline of a batch.
    #[error("the function did not end within its time{}", at_line(*line))]
    Deadline { line: Option<u32> },
    /// The worker died or gave no sense: what the code did to it, most often too much memory.
    #[error("the function's worker failed: {0}")]
    Crashed(String),
    /// No worker; the function is not to blame.
    #[error("{0}")]
    Unavailable(String),
}

fn at_line(line: Option<u32>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}

impl EvaluateError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "lf_deadline",
            Self::Crashed(_) => "lf_crashed",
            Self::Unavailable(_) => "lf_unavailable",
        }
    }
}

/// Votes of one function on some rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// An id that the function declares, or [`ABSTAIN`], for each row.
    pub votes: Vec<i64>,
    /// Why rows abstain that did not return [`ABSTAIN`].
    pub faults: Vec<Fault>,
    /// Processor time, ours and the workers'.
    pub cpu: Duration,
}

/// Evaluates functions; blocks its caller.
#[derive(Debug)]
pub struct Runtime {
    pool: Pool,
    deadline: Duration,
}

impl Runtime {
    pub fn new(config: RuntimeConfig) -> Self {
        Self { deadline: config.deadline, pool: Pool::new(config) }
    }

    pub fn evaluate(&self, function: &Function, rows: &RecordBatch) -> Result<Outcome, EvaluateError> {
        let started = thread_cpu();
        let mut outcome = match &function.inner.program {
            Some(program) => self.compute(function, program, rows)?,
            None => self.interpret(function, rows)?,
        };
        outcome.cpu += thread_cpu().saturating_sub(started);
        Ok(outcome)
    }

    /// By the interpreter alone, whatever the function's tier is: what both tiers do is compared so.
    pub fn evaluate_interpreted(&self, function: &Function, rows: &RecordBatch) -> Result<Outcome, EvaluateError> {
        self.interpret(function, rows)
    }

    fn compute(&self, function: &Function, program: &Program, rows: &RecordBatch) -> Result<Outcome, EvaluateError> {
        let mut votes = vec![ABSTAIN; rows.num_rows()];
        let mut faults = Faults::default();
        let mut elsewhere = Vec::new();
        let arrays: Vec<_> = program.columns.iter().map(|name| rows.column_by_name(name)).collect();
        for (index, votes) in votes.chunks_mut(BATCH_ROWS).enumerate() {
            let start = index * BATCH_ROWS;
            let slices: Vec<Option<ArrayRef>> = arrays.iter().map(|array| array.map(|array| array.slice(start, votes.len()))).collect();
            let states = program.columns.iter().zip(&slices).map(|(name, slice)| state(name, slice.as_ref(), votes.len())).collect();
            let deadline = Instant::now() + self.deadline;
            let machine = Machine::new(program, states, votes.len(), start as u64, deadline, &mut faults);
            let ran = machine.run(&function.inner.load.applicable, votes);
            if let Some(line) = ran.late {
                return Err(EvaluateError::Deadline { line: Some(line) });
            }
            elsewhere.extend(ran.elsewhere.rows().map(|row| (start + row) as u64));
        }
        let mut outcome = Outcome { votes, faults: Vec::new(), cpu: Duration::ZERO };
        if !elsewhere.is_empty() {
            self.compute_elsewhere(function, rows, elsewhere, &mut outcome, &mut faults)?;
        }
        outcome.faults = faults.into_sorted();
        Ok(outcome)
    }

    /// Rows with integers beyond 64 bits and the like, by the interpreter.
    fn compute_elsewhere(
        &self,
        function: &Function,
        rows: &RecordBatch,
        elsewhere: Vec<u64>,
        outcome: &mut Outcome,
        faults: &mut Faults,
    ) -> Result<(), EvaluateError> {
        let indices = UInt64Array::from(elsewhere);
        let projected = projected(&function.inner, rows);
        let taken = match projected.num_columns() {
            // Nothing is taken of a function that reads no column, but as many rows.
            0 => Ok(projected.slice(0, indices.len())),
            _ => arrow_select::take::take_record_batch(&projected, &indices),
        };
        let taken = taken.map_err(|error| EvaluateError::Crashed(format!("rows cannot be taken: {error}")))?;
        let interpreted = self.interpret(function, &taken)?;
        for (vote, row) in interpreted.votes.into_iter().zip(indices.values()) {
            outcome.votes[*row as usize] = vote;
        }
        for fault in interpreted.faults {
            faults.add(Fault { first_row: indices.value(fault.first_row as usize), ..fault });
        }
        outcome.cpu += interpreted.cpu;
        Ok(())
    }

    fn interpret(&self, function: &Function, rows: &RecordBatch) -> Result<Outcome, EvaluateError> {
        if rows.num_rows() == 0 {
            return Ok(Outcome::default());
        }
        let inner = &*function.inner;
        let rows = projected(inner, rows);
        let bytes_per_row = rows.get_array_memory_size() / rows.num_rows() + 1;
        let step = (FRAME_BYTES / bytes_per_row).clamp(1, FRAME_ROWS);
        self.pool.with(inner.number, &inner.load, |worker| {
            let mut votes = Vec::with_capacity(rows.num_rows());
            let mut faults = Faults::default();
            let mut cpu = Duration::ZERO;
            for start in (0..rows.num_rows()).step_by(step) {
                let part = rows.slice(start, step.min(rows.num_rows() - start));
                let (answer, spent) = worker.votes(&part)?;
                // A worker is believed nothing: only declared ids are votes.
                let declared = |id: &i64| *id == ABSTAIN || inner.load.applicable.contains(id);
                if !answer.votes.iter().all(declared) {
                    return Err(EvaluateError::Crashed("it answered with an id that the function does not declare".to_owned()));
                }
                votes.extend(answer.votes);
                for fault in answer.faults {
                    faults.add(Fault { first_row: fault.first_row + start as u64, ..fault });
                }
                cpu += spent;
            }
            Ok(Outcome { votes, faults: faults.into_sorted(), cpu })
        })
    }
}

fn state<'a>(name: &str, slice: Option<&'a ArrayRef>, len: usize) -> State<'a> {
    match slice {
        Some(array) => State::of(name, &Column::of(array), len),
        None => State::Missing,
    }
}

/// The columns that the function can see.
fn projected(function: &Inner, rows: &RecordBatch) -> RecordBatch {
    if function.whole_row {
        return rows.clone();
    }
    let named = |name: &String| function.columns.iter().any(|column| column == name);
    let schema = rows.schema_ref();
    let indices: Vec<_> = (0..schema.fields().len()).filter(|&index| named(schema.field(index).name())).collect();
    // Indices of the schema's own columns.
    rows.project(&indices).unwrap_or_else(|_| rows.clone())
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
