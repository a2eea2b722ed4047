//! The state of all runs, behind one lock: who waits, who works, what has yet to be recorded. No I/O, no clock, no awaits.

use super::config::RunsConfig;
use super::record::{FORMAT, LogLevel, LogLine, RecordedRun, RunId, RunRecord, RunStatus};
use super::{RunError, RunsError};
use desireline_records::Micros;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use tokio_util::sync::CancellationToken;

/// Longer log messages and step keys are cut.
pub(super) const LOG_MESSAGE_BYTES_MAX: usize = 2_048;

pub(super) struct Entry {
    pub record: RunRecord,
    pub logs: VecDeque<LogLine>,
    /// Fires when the work has to stop.
    pub token: CancellationToken,
    /// Grows with every change that has to become durable; `recorded` follows it.
    pub changed: u64,
    pub recorded: u64,
    dirty: bool,
}

impl Entry {
    fn new(record: RunRecord, logs: VecDeque<LogLine>, token: CancellationToken) -> Self {
        Self { record, logs, token, changed: 0, recorded: 0, dirty: false }
    }

    /// What goes into the log.
    pub fn body(&self, config: &RunsConfig) -> Value {
        let skip = self.logs.len().saturating_sub(config.log_lines_recorded_max);
        let logs = self.logs.iter().skip(skip).cloned().collect();
        let recorded = RecordedRun { format: FORMAT, record: self.record.clone(), logs };
        serde_json::to_value(recorded).expect("a run has string keys and finite numbers only")
    }
}

#[derive(Default)]
pub(super) struct Table {
    runs: HashMap<RunId, Entry>,
    order: BTreeMap<u64, RunId>,
    pending: BTreeSet<u64>,
    /// Of these (and of some that wait no more), those that depend on other runs.
    dependent: BTreeSet<u64>,
    /// Submissions on their way into the log, which count as waiting.
    reserved: usize,
    working: usize,
    busy_keys: HashSet<String>,
    /// Finished and settled, in the order in which they did.
    finished: VecDeque<RunId>,
    dirty: VecDeque<RunId>,
    next_number: u64,
    totals: BTreeMap<(String, RunStatus), u64>,
}

impl Table {
    pub fn get(&self, id: &RunId) -> Option<&Entry> {
        self.runs.get(id)
    }

    pub fn get_mut(&mut self, id: &RunId) -> Option<&mut Entry> {
        self.runs.get_mut(id)
    }

    pub fn working(&self) -> usize {
        self.working
    }

    pub fn waiting(&self) -> usize {
        self.pending.len() + self.reserved
    }

    /// Runs that have entered each status, by job, since the server started.
    pub fn totals(&self) -> Vec<(String, RunStatus, u64)> {
        self.totals.iter().map(|((job, status), count)| (job.clone(), *status, *count)).collect()
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().rev().filter_map(|id| self.runs.get(id))
    }

    /// Takes a place in the queue and a number.
    pub fn reserve(&mut self, depends_on: &[RunId], config: &RunsConfig) -> Result<u64, RunsError> {
        if let Some(unknown) = depends_on.iter().find(|id| !self.runs.contains_key(id)) {
            return Err(RunsError::UnknownDependency(unknown.clone()));
        }
        if self.waiting() >= config.queue_max {
            return Err(RunsError::QueueFull { waiting: self.waiting(), retry_after_s: 10 });
        }
        self.reserved += 1;
        self.next_number += 1;
        Ok(self.next_number)
    }

    pub fn unreserve(&mut self) {
        self.reserved -= 1;
    }

    pub fn insert(&mut self, record: RunRecord, logs: VecDeque<LogLine>, token: CancellationToken) {
        let (id, number) = (record.run_id.clone(), record.number);
        self.next_number = self.next_number.max(number);
        if record.status == RunStatus::Pending {
            self.pending.insert(number);
        }
        if !record.depends_on.is_empty() {
            self.dependent.insert(number);
        }
        self.order.insert(number, id.clone());
        self.runs.insert(id, Entry::new(record, logs, token));
    }

    /// Counts the status that a run has entered.
    pub fn count(&mut self, id: &RunId) {
        if let Some(entry) = self.runs.get(id) {
            *self.totals.entry((entry.record.job_name.clone(), entry.record.status)).or_default() += 1;
        }
    }

    /// The run has changed and has to be recorded; the answer is what `recorded` has to reach.
    pub fn touch(&mut self, id: &RunId) -> u64 {
        let Some(entry) = self.runs.get_mut(id) else { return 0 };
        entry.changed += 1;
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push_back(id.clone());
        }
        entry.changed
    }

    /// Runs to be recorded now, each at most once, with the version that stands in the body.
    pub fn take_dirty(&mut self, limit: usize, config: &RunsConfig) -> Vec<(RunId, u64, Value)> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(id) = self.dirty.pop_front() else { break };
            if let Some(entry) = self.runs.get_mut(&id) {
                entry.dirty = false;
                taken.push((id, entry.changed, entry.body(config)));
            }
        }
        taken
    }

    pub fn clean(&self) -> bool {
        self.runs.values().all(|entry| entry.recorded == entry.changed)
    }

    pub fn mark_recorded(&mut self, id: &RunId, version: u64) {
        if let Some(entry) = self.runs.get_mut(id) {
            entry.recorded = entry.recorded.max(version);
        }
    }

    /// The log refused the record: it is tried again.
    pub fn mark_dirty(&mut self, id: &RunId) {
        if let Some(entry) = self.runs.get_mut(id)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push_back(id.clone());
        }
    }

    pub fn log(&mut self, id: &RunId, line: LogLine, config: &RunsConfig) {
        let Some(entry) = self.runs.get_mut(id) else { return };
        let kept = if entry.record.settled { config.log_lines_recorded_max } else { config.log_lines_max };
        if kept == 0 {
            return;
        }
        while entry.logs.len() >= kept {
            entry.logs.pop_front();
        }
        entry.logs.push_back(line);
    }

    /// Lets every run begin whose turn it is. Fails those whose dependencies did. Answers (begun, failed).
    pub fn begin_ready(&mut self, concurrency: usize, now: Micros) -> (Vec<RunId>, Vec<RunId>) {
        let (mut begun, mut failed) = (Vec::new(), Vec::new());
        if self.working >= concurrency {
            // Nothing can begin, and only what depends on others can fail.
            self.dependent.retain(|number| self.pending.contains(number));
            if self.dependent.is_empty() {
                return (begun, failed);
            }
        }
        let mut keys_waiting: HashSet<String> = HashSet::new();
        // Ascending: a run comes after those it depends on, so one pass carries a failure through a chain.
        for number in self.pending.iter().copied().collect::<Vec<_>>() {
            let Some(id) = self.order.get(&number).cloned() else { continue };
            let Some(entry) = self.runs.get(&id) else { continue };
            let ready = match self.dependencies(&entry.record) {
                Ok(ready) => ready,
                Err(reason) => {
                    self.fail_waiting(&id, reason, now);
                    failed.push(id);
                    continue;
                }
            };
            let key = entry.record.serial_key.clone();
            let turn = key.as_ref().is_none_or(|key| !self.busy_keys.contains(key) && !keys_waiting.contains(key));
            if !ready || !turn || self.working >= concurrency {
                keys_waiting.extend(key);
                continue;
            }
            self.pending.remove(&number);
            self.busy_keys.extend(key);
            self.working += 1;
            let entry = self.runs.get_mut(&id).expect("looked up above");
            entry.record.status = RunStatus::Started;
            entry.record.start_time.get_or_insert(now);
            entry.record.attempt += 1;
            self.count(&id);
            self.touch(&id);
            begun.push(id);
        }
        (begun, failed)
    }

    /// `Ok(true)`: all have succeeded. `Ok(false)`: some have yet to finish.
    fn dependencies(&self, record: &RunRecord) -> Result<bool, String> {
        let mut done = true;
        for id in &record.depends_on {
            match self.runs.get(id).map(|entry| entry.record.status) {
                Some(RunStatus::Success) => {}
                Some(RunStatus::Pending | RunStatus::Started) => done = false,
                Some(status) => return Err(format!("run {id}, on which this run depends, ended as {status}")),
                None => return Err(format!("run {id}, on which this run depends, is not known any more")),
            }
        }
        Ok(done)
    }

    fn fail_waiting(&mut self, id: &RunId, reason: String, now: Micros) {
        self.finish(id, RunStatus::Failure, Err(RunError::user("dependency_failed", reason)), now);
        self.settled(id, false);
    }

    /// Gives the run its last status, unless it has one. The answer says whether it was given.
    pub fn finish(&mut self, id: &RunId, status: RunStatus, outcome: Result<Option<Value>, RunError>, now: Micros) -> bool {
        let Some(entry) = self.runs.get_mut(id) else { return false };
        let record = &mut entry.record;
        if record.status.finished() {
            return false;
        }
        record.status = status;
        record.end_time = Some(now);
        match outcome {
            Ok(result) => record.result = result,
            Err(error) => {
                let message = format!("{status}: {}", error.message);
                record.error = Some(error);
                entry.logs.push_back(LogLine { timestamp: now, level: LogLevel::Error, message, step_key: None });
            }
        }
        let number = record.number;
        self.pending.remove(&number);
        self.count(id);
        self.touch(id);
        true
    }

    /// A run that waits has succeeded without working itself. The answer says whether it had waited.
    pub fn finish_waiting(&mut self, id: &RunId, line: LogLine, result: Value, now: Micros, config: &RunsConfig) -> bool {
        let Some(entry) = self.runs.get_mut(id).filter(|entry| entry.record.status == RunStatus::Pending) else { return false };
        entry.record.start_time.get_or_insert(now);
        entry.record.attempt += 1;
        self.log(id, line, config);
        self.finish(id, RunStatus::Success, Ok(Some(result)), now);
        self.settled(id, false);
        true
    }

    /// The work of a finished run has stopped: nothing more will come of it. `worked`: it held a slot.
    pub fn settled(&mut self, id: &RunId, worked: bool) {
        if worked {
            self.release(id);
        }
        let Some(entry) = self.runs.get_mut(id) else { return };
        if entry.record.settled {
            return;
        }
        entry.record.settled = true;
        self.touch(id);
        self.finished.push_back(id.clone());
    }

    /// The work was cut off in good order by the end of the server: it waits again when it can go on after the restart.
    pub fn interrupted(&mut self, id: &RunId, resumable: bool) {
        self.release(id);
        let Some(entry) = self.runs.get_mut(id) else { return };
        if resumable && entry.record.status == RunStatus::Started {
            entry.record.status = RunStatus::Pending;
            let (number, depends) = (entry.record.number, !entry.record.depends_on.is_empty());
            self.pending.insert(number);
            if depends {
                self.dependent.insert(number);
            }
        }
        self.touch(id);
    }

    /// A finished run as the log has it.
    pub fn insert_finished(&mut self, record: RunRecord, logs: VecDeque<LogLine>) {
        let id = record.run_id.clone();
        self.insert(record, logs, CancellationToken::new());
        self.finished.push_back(id);
    }

    /// Gives slot and key back.
    pub fn release(&mut self, id: &RunId) {
        self.working -= 1;
        if let Some(key) = self.runs.get(id).and_then(|entry| entry.record.serial_key.as_ref()) {
            self.busy_keys.remove(key);
        }
    }

    /// Forgets the oldest finished runs and log lines above the limits. A run that is needed or not yet recorded stays.
    pub fn trim(&mut self, config: &RunsConfig) {
        while self.finished.len() > config.finished_max {
            let Some(oldest) = self.finished.iter().position(|id| self.can_be_forgotten(id)) else { break };
            let id = self.finished.remove(oldest).expect("found above");
            if let Some(entry) = self.runs.remove(&id) {
                self.order.remove(&entry.record.number);
            }
        }
        self.trim_logs(config);
    }

    fn can_be_forgotten(&self, id: &RunId) -> bool {
        let recorded = self.runs.get(id).is_none_or(|entry| entry.recorded == entry.changed);
        let mut waiting = self.pending.iter().filter_map(|number| self.order.get(number)).filter_map(|id| self.runs.get(id));
        recorded && !waiting.any(|entry| entry.record.depends_on.contains(id))
    }

    fn trim_logs(&mut self, config: &RunsConfig) {
        let mut lines = 0;
        for id in self.finished.iter().rev() {
            let Some(entry) = self.runs.get_mut(id) else { continue };
            let room = config.log_lines_finished_max.saturating_sub(lines);
            let kept = config.log_lines_recorded_max.min(room);
            let excess = entry.logs.len().saturating_sub(kept);
            entry.logs.drain(..excess);
            lines += entry.logs.len();
        }
    }
}
