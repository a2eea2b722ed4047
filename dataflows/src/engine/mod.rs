//! The engine: timely worker threads that keep the views current with the log.
//!
//! One total order of commands (batches, peeks, subscriptions) goes to every worker. A worker feeds a batch at its logical time,
//! steps until the whole dataflow has passed that time, and only then takes the next command. So between two commands the state
//! of every operator of every worker stands at exactly one closed time, the same everywhere: a peek needs no versions, and
//! answers of several views agree.
//!
//! Promises:
//! * `as_of` moves on only when all workers have closed a time; it never runs backwards.
//! * Bounded: [`EngineConfig::queue_batches`] batches wait; `submit` blocks when there are as many, and the log in front of it waits.
//!   Asking never blocks, and a question waits only for the batch under way (see `queue.rs`).
//! * No I/O, no clock, no randomness: the same batches give the same answers.
//!
//! Known limitations: one process (workers read batches from shared memory; the operators already exchange by key). A large peek
//! holds its worker for its whole length (members of a cluster: about 30 ms per million users).

mod answer;
mod queue;
mod worker;

use crate::changes::{Change, Views};
use crate::query::{Answer, Query};
use crate::state::{Import, StateError, StateRow};
use crate::views::context::StepsRow;
use crate::views::labels::{LabelRow, MatrixHead};
use crate::views::minutes::MinuteUpdate;
use crate::views::occupancy::devices::DeviceRow;
use crate::views::occupancy::query::Standing;
use crate::views::sessions::UserRow;
use desireline_records::{Batch, CatalogEntry, Cell, CellKey, ClusterModel, Control, DeadLetterKind, LogicalTime, Micros, SourceId, Space};
use queue::Queue;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use thiserror::Error;

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Timely worker threads, at least 1.
    pub workers: usize,
    /// Batches that wait while another is being worked off.
    pub queue_batches: usize,
    /// Open events of one user above which a re-cut counts as expensive.
    pub max_open_events: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { workers: 1, queue_batches: 4, max_open_events: 100_000 }
    }
}

#[derive(Debug, Error)]
pub enum EngineError {
    #[error("the engine has stopped")]
    Stopped,
    #[error("the workers cannot be started: {0}")]
    Start(String),
    #[error("batch {given} does not follow {last}: logical times must increase")]
    Order { given: LogicalTime, last: LogicalTime },
    #[error(transparent)]
    State(#[from] StateError),
}

/// A control as it enters the dataflow: from the log, or from an import.
#[derive(Clone, Debug)]
pub enum ControlIn {
    Logged(Control),
    /// Source and kind of the dead letters of a batch; on the first worker only.
    DeadLetters(Vec<(SourceId, DeadLetterKind)>),
    ImportUsers(Vec<UserRow>),
    ImportMinutes(Vec<MinuteUpdate>),
    ImportModels(Vec<ClusterModel>),
    ImportCatalog(Vec<CatalogEntry>),
    ImportContexts(Vec<StepsRow>),
    /// Time has passed. On every worker.
    Tick(Micros),
    ImportStanding(Box<Standing>),
    ImportDevices(Vec<DeviceRow>),
    ImportCells(Vec<(CellKey, Cell)>),
    ImportSpaces(Vec<Space>),
    /// On every worker.
    ImportMatrices(Vec<MatrixHead>),
    /// On every worker, which takes what it keeps.
    ImportLabelRows(Arc<[LabelRow]>),
}

/// What became of a batch, told once all workers have closed its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub time: LogicalTime,
    /// Positions in the batch of rows that repeat an earlier one, ascending.
    pub duplicates: Vec<u32>,
    /// Positions of rows that were late, ascending.
    pub late: Vec<u32>,
}

type OnApplied = Box<dyn FnOnce(Applied) + Send>;
type OnAnswer = Box<dyn FnOnce(LogicalTime, Vec<Answer>) + Send>;

/// A batch on its way to the workers, with the key hash of every row.
pub(crate) struct Work {
    batch: Arc<Batch>,
    hashes: Vec<u64>,
    gather: Mutex<Applied>,
    waiting: AtomicUsize,
    done: Mutex<Option<OnApplied>>,
}

pub(crate) struct Peek {
    query: Query,
    parts: Mutex<Vec<Option<Answer>>>,
    waiting: AtomicUsize,
    done: Mutex<Option<OnAnswer>>,
}

#[derive(Clone)]
pub(crate) struct Subscription {
    views: Views,
    start: Start,
    to: Sender<Message>,
    state: Arc<Stream>,
}

/// What a stream of changes begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The rows of the views now, then their changes.
    Snapshot,
    /// The changes after this time. The subscriber knows what was before.
    After(LogicalTime),
    /// The changes from now on. The settings of the sources and the time that is closed now come first.
    Now,
}

pub(crate) enum Message {
    Changes(Vec<Change>),
    Closed(LogicalTime),
}

/// What both ends of a stream know.
pub(crate) struct Stream {
    rows_max: usize,
    /// Rows sent and not yet taken.
    waiting: AtomicUsize,
    /// Workers that have not begun yet.
    beginning: AtomicUsize,
    lost: std::sync::atomic::AtomicBool,
}

#[derive(Clone)]
pub(crate) enum Command {
    Batch(Arc<Work>),
    Peek(Arc<Peek>),
    Subscribe(Subscription),
    Import(LogicalTime, Arc<Import>, Arc<Work>),
}

impl Command {
    /// The logical time that the command brings, if any.
    pub fn time(&self) -> Option<LogicalTime> {
        match self {
            Self::Batch(work) => Some(work.batch.time),
            Self::Import(time, ..) => Some(*time),
            Self::Peek(_) | Self::Subscribe(_) => None,
        }
    }

    pub fn is_batch(&self) -> bool {
        self.time().is_some()
    }
}

/// Changes of some views. See [`crate::changes`].
pub struct Changes {
    from: Receiver<Message>,
    state: Arc<Stream>,
}

/// What a follower gets when it asks for changes.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Some of the changes of one time, from one worker.
    Changes(Vec<Change>),
    /// Whatever changed up to this time has been given.
    Closed(LogicalTime),
    /// The follower was too slow: what comes after the last closed time it has to find elsewhere.
    Lost,
    /// The engine has stopped.
    End,
}

impl Changes {
    /// Waits for what is next.
    pub fn next(&self) -> Next {
        match self.from.recv() {
            Ok(message) => self.took(message),
            Err(_) => self.ended(),
        }
    }

    /// What is there now, without waiting.
    pub fn try_next(&self) -> Option<Next> {
        match self.from.try_recv() {
            Ok(message) => Some(self.took(message)),
            // The workers let a lost stream go with the next batch, which may be long in coming.
            Err(std::sync::mpsc::TryRecvError::Empty) => self.state.lost.load(Ordering::Acquire).then_some(Next::Lost),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(self.ended()),
        }
    }

    /// Rows that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.state.waiting.load(Ordering::Acquire)
    }

    fn took(&self, message: Message) -> Next {
        match message {
            Message::Changes(changes) => {
                self.state.waiting.fetch_sub(changes.len(), Ordering::AcqRel);
                Next::Changes(changes)
            }
            Message::Closed(time) => Next::Closed(time),
        }
    }

    fn ended(&self) -> Next {
        if self.state.lost.load(Ordering::Acquire) { Next::Lost } else { Next::End }
    }
}

const NO_PANIC: &str = "no code panics while it holds this lock";

/// The handle to the workers. Dropping it stops them.
pub struct Engine {
    queue: Arc<Queue>,
    as_of: Arc<AtomicU64>,
    workers: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let workers = config.workers.max(1);
        let queue = Arc::new(Queue::new(workers, config.queue_batches + 1));
        let as_of = Arc::new(AtomicU64::new(0));
        let shared = worker::Shared { as_of: as_of.clone(), queue: queue.clone(), config };
        let (started, start): (Sender<Result<(), String>>, _) = channel();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker::run(workers, shared, started))
            .map_err(|e| EngineError::Start(e.to_string()))?;
        start.recv().map_err(|e| EngineError::Start(e.to_string()))?.map_err(EngineError::Start)?;
        Ok(Self { queue, as_of, workers, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a batch to the workers; blocks while there are too many. `done` is called once its time is closed.
    pub fn submit(&self, batch: Arc<Batch>, done: impl FnOnce(Applied) + Send + 'static) -> Result<(), EngineError> {
        let hashes = batch.events.iter().map(desireline_records::Event::user_hash).collect();
        let time = batch.time;
        let work = self.work(batch, hashes, Box::new(done));
        self.queue.submit(Command::Batch(work), time)
    }

    /// Starts from exported state instead of the history up to `time`. Only before the first batch.
    pub fn import(&self, time: LogicalTime, rows: &[StateRow]) -> Result<(), EngineError> {
        let import = Arc::new(Import::read(rows)?);
        let work = self.work(Arc::new(Batch { time, ..Batch::default() }), Vec::new(), Box::new(drop));
        self.queue.submit(Command::Import(time, import, work), time)
    }

    /// Asks every worker at a time that is closed soon, before batches that still wait. `done` gets that time and the workers' parts.
    pub fn peek(&self, query: Query, done: impl FnOnce(LogicalTime, Vec<Answer>) + Send + 'static) -> Result<(), EngineError> {
        self.question(query, true, done)
    }

    fn question(
        &self,
        query: Query,
        overtaking: bool,
        done: impl FnOnce(LogicalTime, Vec<Answer>) + Send + 'static,
    ) -> Result<(), EngineError> {
        let peek = Peek {
            query,
            parts: Mutex::new((0..self.workers).map(|_| None).collect()),
            waiting: AtomicUsize::new(self.workers),
            done: Mutex::new(Some(Box::new(done))),
        };
        self.queue.ask(Command::Peek(Arc::new(peek)), overtaking)
    }

    /// Asks, in order with the batches submitted so far, and waits.
    pub fn ask(&self, query: Query) -> Result<(LogicalTime, Vec<Answer>), EngineError> {
        let (to, from) = sync_channel(1);
        self.question(query, false, move |time, parts| drop(to.send((time, parts))))?;
        from.recv().map_err(|_| EngineError::Stopped)
    }

    /// Follows views. At most `rows_max` changes wait to be taken (a snapshot comes whole); with more the stream is lost.
    pub fn subscribe(&self, views: impl Into<Views>, start: Start, rows_max: usize) -> Result<Changes, EngineError> {
        let (to, from) = channel();
        let lost = std::sync::atomic::AtomicBool::new(false);
        let state = Arc::new(Stream { rows_max, waiting: AtomicUsize::new(0), beginning: AtomicUsize::new(self.workers), lost });
        let subscription = Subscription { views: views.into(), start, to, state: state.clone() };
        self.queue.ask(Command::Subscribe(subscription), false)?;
        Ok(Changes { from, state })
    }

    /// The time at which a peek would be answered if nothing were waiting.
    pub fn as_of(&self) -> LogicalTime {
        self.as_of.load(Ordering::Acquire)
    }

    /// Batches submitted and not yet closed.
    pub fn queued(&self) -> usize {
        self.queue.batches()
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Works off what was submitted and stops the workers.
    pub fn stop(&self) {
        self.queue.stop();
        let thread = self.thread.lock().expect(NO_PANIC).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread ended by a panic");
        }
    }

    fn work(&self, batch: Arc<Batch>, hashes: Vec<u64>, done: OnApplied) -> Arc<Work> {
        let gather = Mutex::new(Applied { time: batch.time, ..Applied::default() });
        Arc::new(Work { batch, hashes, gather, waiting: AtomicUsize::new(self.workers), done: Mutex::new(Some(done)) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(time: LogicalTime) -> Arc<Work> {
        Arc::new(Work {
            batch: Arc::new(Batch { time, ..Batch::default() }),
            hashes: Vec::new(),
            gather: Mutex::default(),
            waiting: AtomicUsize::new(1),
            done: Mutex::new(None),
        })
    }

    pub fn batch(time: LogicalTime) -> Command {
        Command::Batch(work(time))
    }

    pub fn question() -> Command {
        let (parts, waiting) = (Mutex::default(), AtomicUsize::new(1));
        Command::Peek(Arc::new(Peek { query: Query::Overview, parts, waiting, done: Mutex::new(None) }))
    }
}
