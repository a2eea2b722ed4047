//! Workers, started when they are needed and ended when they misbehave.
//!
//! At most `workers_max` run at once; who needs one more waits. A worker is lent to one evaluation at a time. While it is lent, a
//! watchdog ends it at the deadline of its current frame, which unblocks whatever the parent is doing with its pipes: a worker that
//! neither reads nor answers holds nobody up for longer. A worker that died, was ended, or answered something unexpected is not used
//! again; the next evaluation starts a new one, in a few milliseconds.
//!
//! A worker's processor time is limited by the system for its whole life, so it is retired when half of that is used.

use crate::evaluate::{EvaluateError, RuntimeConfig};
use crate::worker::main::BUDGET_BYTES;
use crate::worker::protocol::{self, Answer, Load, Started};
use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From its start to its first word.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// The worker's own clock ends first and knows the line; the watchdog is for a worker that does not look at it.
const GRACE: Duration = Duration::from_millis(500);
/// How much of a dead worker's last words is read.
const LAST_WORDS_BYTES_MAX: u64 = 2048;

#[derive(Debug)]
pub struct Pool {
    config: RuntimeConfig,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Worker>,
    /// Idle and lent.
    workers: usize,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    loaded: Option<u64>,
    cpu: Duration,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is changed in two steps under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub fn new(config: RuntimeConfig) -> Self {
        Self { config, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Lends a worker to `work`, which has the function loaded.
    pub fn with<T>(
        &self,
        function: u64,
        load: &Load,
        work: impl FnOnce(&mut Lent<'_>) -> Result<T, EvaluateError>,
    ) -> Result<T, EvaluateError> {
        let idle = self.acquire(function);
        let outcome = self.lend(idle, function, load, work);
        match outcome {
            Ok((worker, value)) => {
                self.release(worker);
                Ok(value)
            }
            Err(error) => {
                self.release(None);
                Err(error)
            }
        }
    }

    fn acquire(&self, function: u64) -> Option<Worker> {
        let mut state = lock(&self.state);
        loop {
            if let Some(at) = state.idle.iter().position(|worker| worker.loaded == Some(function)) {
                return Some(state.idle.swap_remove(at));
            }
            if state.workers < self.config.workers_max.max(1) {
                state.workers += 1;
                return None;
            }
            if let Some(worker) = state.idle.pop() {
                return Some(worker);
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn release(&self, worker: Option<Worker>) {
        let mut state = lock(&self.state);
        match worker {
            Some(worker) => state.idle.push(worker),
            None => state.workers -= 1,
        }
        drop(state);
        self.freed.notify_one();
    }

    fn lend<T>(
        &self,
        idle: Option<Worker>,
        function: u64,
        load: &Load,
        work: impl FnOnce(&mut Lent<'_>) -> Result<T, EvaluateError>,
    ) -> Result<(Option<Worker>, T), EvaluateError> {
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.start()?,
        };
        let watch = Arc::new(Watch::default());
        let pid = rustix::process::Pid::from_child(&worker.child);
        let value = std::thread::scope(|scope| {
            let watching = Arc::clone(&watch);
            // The process is waited for only after this thread has ended, so its number is its own until then.
            let guard = std::thread::Builder::new().name("labelling-watchdog".to_owned()).spawn_scoped(scope, move || {
                watching.run(|| {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                });
            });
            if let Err(error) = guard {
                return Err(EvaluateError::Unavailable(format!("no thread to watch a worker: {error}")));
            }
            let mut lent = Lent { worker: &mut worker, watch: &watch, config: &self.config };
            let outcome = lent.prepare(function, load).and_then(|()| work(&mut lent));
            watch.end();
            outcome
        })?;
        let spent = worker.cpu > Duration::from_secs(self.config.worker_cpu_seconds_max / 2);
        Ok(((!spent).then_some(worker), value))
    }

    fn start(&self) -> Result<Worker, EvaluateError> {
        let unavailable = |error: &dyn std::fmt::Display| EvaluateError::Unavailable(format!("a worker cannot be started: {error}"));
        let program =
            self.config.worker.clone().map_or_else(std::env::current_exe, Ok::<PathBuf, _>).map_err(|error| unavailable(&error))?;
        let mut command = Command::new(program);
        command.args(&self.config.worker_arguments);
        command.arg(self.config.memory_bytes_max.to_string()).arg(self.config.worker_cpu_seconds_max.to_string());
        command.env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| unavailable(&error))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(unavailable(&"it has no pipes")) };
        Ok(Worker { child, stdin, stdout: BufReader::new(stdout), stderr, loaded: None, cpu: Duration::MAX })
    }
}

/// The deadline of what a worker is doing.
#[derive(Debug, Default)]
struct Watch {
    state: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Watched {
    deadline: Option<Instant>,
    ended: bool,
    fired: bool,
}

impl Watch {
    fn set(&self, deadline: Option<Instant>) {
        lock(&self.state).deadline = deadline;
        self.changed.notify_all();
    }

    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }

    fn fired(&self) -> bool {
        lock(&self.state).fired
    }

    fn run(&self, end_worker: impl FnOnce()) {
        let mut state = lock(&self.state);
        while !state.ended {
            let left = state.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => {
                    state.fired = true;
                    return end_worker();
                }
                Some(left) => state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A worker with its function loaded, for one evaluation.
pub struct Lent<'a> {
    worker: &'a mut Worker,
    watch: &'a Watch,
    config: &'a RuntimeConfig,
}

impl Lent<'_> {
    fn prepare(&mut self, function: u64, load: &Load) -> Result<(), EvaluateError> {
        if self.worker.cpu == Duration::MAX {
            self.watch.set(Some(Instant::now() + START_DEADLINE));
            let started = self.receive::<Started>(protocol::STARTED);
            self.watch.set(None);
            started.map_err(|error| EvaluateError::Unavailable(format!("a worker did not start: {error}")))?;
            self.worker.cpu = Duration::ZERO;
        }
        if self.worker.loaded == Some(function) {
            return Ok(());
        }
        let payload = serde_json::to_vec(load).map_err(|error| EvaluateError::Crashed(error.to_string()))?;
        let answer = self.ask(protocol::LOAD, &payload)?;
        if let Some(error) = answer.error {
            return Err(EvaluateError::Crashed(error));
        }
        self.worker.loaded = Some(function);
        Ok(())
    }

    /// The votes for some rows, and the processor time that they took.
    pub fn votes(&mut self, rows: &RecordBatch) -> Result<(Answer, Duration), EvaluateError> {
        let millis = u64::try_from(self.config.deadline.as_millis()).unwrap_or(u64::MAX);
        let mut payload = Vec::from(millis.to_le_bytes());
        debug_assert_eq!(payload.len(), BUDGET_BYTES);
        let written = StreamWriter::try_new(&mut payload, rows.schema_ref()).and_then(|mut writer| {
            writer.write(rows)?;
            writer.finish()
        });
        written.map_err(|error| EvaluateError::Crashed(format!("rows cannot be written: {error}")))?;
        let before = self.worker.cpu;
        let answer = self.ask(protocol::ROWS, &payload)?;
        if let Some(line) = answer.late {
            return Err(EvaluateError::Deadline { line: (line > 0).then_some(line) });
        }
        if let Some(error) = answer.error {
            return Err(EvaluateError::Crashed(error));
        }
        if answer.votes.len() != rows.num_rows() {
            return Err(EvaluateError::Crashed(format!("{} votes for {} rows", answer.votes.len(), rows.num_rows())));
        }
        Ok((answer, self.worker.cpu.saturating_sub(before)))
    }

    fn ask(&mut self, tag: u8, payload: &[u8]) -> Result<Answer, EvaluateError> {
        self.watch.set(Some(Instant::now() + self.config.deadline + GRACE));
        let written = protocol::write(&mut self.worker.stdin, tag, payload);
        let answer = match written {
            Ok(()) => self.receive::<Answer>(protocol::ANSWER),
            Err(error) => Err(error.to_string()),
        };
        self.watch.set(None);
        match answer {
            Ok(answer) => {
                self.worker.cpu = Duration::from_nanos(answer.cpu_nanos);
                Ok(answer)
            }
            Err(_) if self.watch.fired() => Err(EvaluateError::Deadline { line: None }),
            Err(error) => Err(EvaluateError::Crashed(self.last_words(&error))),
        }
    }

    fn receive<T: serde::de::DeserializeOwned>(&mut self, expected: u8) -> Result<T, String> {
        match protocol::read(&mut self.worker.stdout, protocol::ANSWER_BYTES_MAX) {
            Ok(Some((tag, payload))) if tag == expected => serde_json::from_slice(&payload).map_err(|error| error.to_string()),
            Ok(Some((tag, _))) => Err(format!("it answered with the tag {tag}")),
            Ok(None) => Err(self.last_words("it ended")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What a worker that failed wrote to standard error, which it has to end for.
    fn last_words(&mut self, error: &str) -> String {
        let _ = self.worker.child.kill();
        let mut words = Vec::new();
        let _ = (&mut self.worker.stderr).take(LAST_WORDS_BYTES_MAX).read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().map(str::trim).find(|line| !line.is_empty());
        match last {
            Some(last) if last.contains("memory allocation") => "it needed more memory than the limit".to_owned(),
            Some(last) => format!("{error}: {last}"),
            None => error.to_owned(),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _ = self.worker.stdin.flush();
    }
}
