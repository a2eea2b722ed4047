//! Votes: labelling functions asked about the rows of their rules.
//!
//! What it promises:
//! - One byte per function and thing: the class, or -1. What a rule's rows take in memory is given back before the next rule is read.
//! - A row on which a function fails, and a value that it may not return, is an abstention, counted by its kind and line. A function that
//!   fails as a whole abstains everywhere, and says why; the others are not touched by it.
//! - Functions of one rule are asked side by side, on so many threads as are given.

use super::join::{At, Joined, Rows};
use super::record::Id;
use desireline_labelling::{EvaluateError, Fault, FaultKind, Function, Runtime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Rows that are asked about together.
const BATCH_ROWS: usize = 8_192;
/// Kinds of faults of one function that are told.
const FAULTS_MAX: usize = 10;
/// Letters of a fault's message that are told.
const MESSAGE_MAX: usize = 300;
/// The vote of a function that says nothing.
pub const ABSTAIN: i8 = desireline_votes::ABSTAIN;

/// The classes of a label model: the numbers of concept values, ascending. A class is a place in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(Vec<Id>);

impl Classes {
    pub fn new(cv_ids: impl IntoIterator<Item = Id>) -> Self {
        let distinct: std::collections::BTreeSet<Id> = cv_ids.into_iter().collect();
        Self(distinct.into_iter().collect())
    }

    pub fn cv_ids(&self) -> &[Id] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class of a vote. Votes for what is no class abstain.
    fn class(&self, vote: i64) -> i8 {
        let place = u64::try_from(vote).ok().and_then(|cv_id| self.0.binary_search(&cv_id).ok());
        place.and_then(|place| i8::try_from(place).ok()).unwrap_or(ABSTAIN)
    }

    /// The number of a class's value; -1 of none.
    pub fn cv_id(&self, class: i8) -> i64 {
        let cv_id = usize::try_from(class).ok().and_then(|class| self.0.get(class));
        cv_id.map_or(i64::from(ABSTAIN), |cv_id| super::functions::number(*cv_id))
    }
}

/// What went wrong in rows of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFault {
    /// `exception`, `undeclared`, `not_an_integer`, `none` or `limit`.
    pub kind: String,
    pub line: Option<u32>,
    pub message: String,
    pub rows: u64,
}

/// What one function says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// One per thing.
    pub votes: Vec<i8>,
    pub faults: Vec<RowFault>,
    /// Why it abstains everywhere.
    pub failure: Option<String>,
    /// Why it could not be asked, which is not its fault.
    pub outage: Option<String>,
}

/// How results and replies call a fault.
pub fn word(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Exception => "exception",
        FaultKind::Undeclared => "undeclared",
        FaultKind::NotAnInteger => "not_an_integer",
        FaultKind::None_ => "none",
        FaultKind::Limit => "limit",
    }
}

/// Faults by kind, line and message.
#[derive(Default)]
pub struct Faults(BTreeMap<(String, Option<u32>, String), u64>);

impl Faults {
    pub fn add(&mut self, faults: &[Fault]) {
        for fault in faults {
            let key = (word(fault.kind).to_owned(), fault.line, fault.message.chars().take(MESSAGE_MAX).collect());
            if self.0.len() < FAULTS_MAX || self.0.contains_key(&key) {
                *self.0.entry(key).or_default() += fault.rows;
            }
        }
    }

    /// The most frequent first.
    pub fn told(self) -> Vec<RowFault> {
        let fault = |((kind, line, message), rows)| RowFault { kind, line, message, rows };
        let mut faults: Vec<RowFault> = self.0.into_iter().map(fault).collect();
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.rows));
        faults
    }
}

/// Asks the functions of one rule. Blocks; `done` hears of every batch with its number of rows.
pub fn vote(
    runtime: &Runtime,
    functions: &[&Function],
    classes: &Classes,
    rule: &Rows,
    joined: &Joined,
    threads: usize,
    stop: &AtomicBool,
    done: &(dyn Fn(usize) + Sync),
) -> Vec<Said> {
    let (next, said) = (AtomicUsize::new(0), Mutex::new(vec![Said::default(); functions.len()]));
    let ask = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(function) = functions.get(at) else { return };
            let answer = vote_one(runtime, function, classes, rule, joined, stop, done);
            said.lock().unwrap_or_else(PoisonError::into_inner)[at] = answer;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(functions.len()) {
            scope.spawn(ask);
        }
        ask();
    });
    said.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn vote_one(
    runtime: &Runtime,
    function: &Function,
    classes: &Classes,
    rule: &Rows,
    joined: &Joined,
    stop: &AtomicBool,
    done: &dyn Fn(usize),
) -> Said {
    let mut faults = Faults::default();
    let mut by_row: Vec<Vec<i8>> = Vec::with_capacity(rule.batches.len());
    for batch in &rule.batches {
        let mut votes = Vec::with_capacity(batch.num_rows());
        for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            if stop.load(Ordering::Relaxed) {
                return silent(joined, "stopped".to_owned());
            }
            let rows = batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start));
            match runtime.evaluate(function, &rows) {
                Ok(outcome) => {
                    faults.add(&outcome.faults);
                    votes.extend(outcome.votes.iter().map(|vote| classes.class(*vote)));
                }
                Err(EvaluateError::Unavailable(detail)) => return Said { outage: Some(detail), ..silent(joined, String::new()) },
                Err(error) => return silent(joined, error.to_string()),
            }
            done(rows.num_rows());
        }
        by_row.push(votes);
    }
    let vote = |at: &Option<At>| at.map_or(ABSTAIN, |(batch, row)| by_row[batch as usize][row as usize]);
    Said { votes: joined.rows.iter().map(vote).collect(), faults: faults.told(), failure: None, outage: None }
}

/// Says nothing, and why.
pub fn silent(joined: &Joined, failure: String) -> Said {
    Said { votes: vec![ABSTAIN; joined.rows.len()], faults: Vec::new(), failure: Some(failure), outage: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_values_by_ascending_number() {
        let classes = Classes::new([13, 11, 12, 11]);
        assert_eq!((classes.cv_ids(), classes.len()), ([11, 12, 13].as_slice(), 3));
        assert_eq!([11, 13, 10, -1, i64::MIN].map(|vote| classes.class(vote)), [0, 2, -1, -1, -1]);
        assert_eq!([0, 2, 3, -1].map(|class| classes.cv_id(class)), [11, 13, -1, -1]);
    }

    #[test]
    fn faults_are_added_up_and_the_most_frequent_come_first() {
        let fault = |line, rows| Fault { kind: FaultKind::Exception, line: Some(line), message: "m".repeat(1_000), rows, first_row: 0 };
        let mut faults = Faults::default();
        faults.add(&[fault(1, 2), fault(2, 3)]);
        faults.add(&[fault(1, 5)]);
        faults.add(&(10..100).map(|line| fault(line, 1)).collect::<Vec<_>>());
        let told = faults.told();
        assert_eq!((told.len(), told[0].line, told[0].rows, told[0].message.len()), (FAULTS_MAX, Some(1), 7, MESSAGE_MAX));
    }
}
