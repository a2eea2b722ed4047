//! One worker: the dataflow of all views, and the loop that feeds it.

use super::queue::Queue;
use super::{Command, ControlIn, EngineConfig, Message, Peek, Start, Subscription, Work, answer};
use crate::changes::{Change, ChangeLog, SharedChangeLog, ViewRow, Views as ViewSet};
use crate::state::Import;
use crate::views::catalog::SharedCatalog;
use crate::views::clusters::{self, SharedClusters};
use crate::views::context::{self, SharedContexts};
use crate::views::journeys::{self, JourneysTrace};
use crate::views::labels::{self, Labels, SharedLabels};
use crate::views::minutes::{self, SharedMinutes};
use crate::views::occupancy::devices::StayRow;
use crate::views::occupancy::{self, SharedCells, SharedDevices};
use crate::views::sessions::{self, Row, SessionsState, SharedSessions, SharedVerdicts};
use desireline_records::{Control, LogicalTime};
use differential_dataflow::trace::{ExertionLogic, TraceReader};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use timely::dataflow::operators::vec::input::Handle as InputHandle;
use timely::dataflow::operators::{Input, Probe, probe};
use timely::progress::Antichain;
use timely::worker::Worker;

/// What all workers of the process share.
#[derive(Clone)]
pub(super) struct Shared {
    pub as_of: Arc<AtomicU64>,
    pub queue: Arc<Queue>,
    pub config: EngineConfig,
}

/// Runs all workers until their queues are closed.
pub(super) fn run(workers: usize, shared: Shared, started: Sender<Result<(), String>>) {
    let mut config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    config.worker.set::<ExertionLogic>("differential/default_exert_logic".to_owned(), Arc::new(idle_effort));
    let queue = shared.queue.clone();
    let guards = timely::execute(config, move |worker| {
        let mut views = Views::build(worker, shared.clone());
        while let Some(command) = next(worker, &shared.queue) {
            views.obey(worker, command);
        }
    });
    match guards {
        Ok(guards) => {
            drop(started.send(Ok(())));
            for result in guards.join() {
                if let Err(error) = result {
                    tracing::error!(%error, "a worker of the engine ended by a panic");
                }
            }
        }
        Err(error) => drop(started.send(Err(error))),
    }
    queue.abandon();
}

/// How much an idle worker merges an arrangement, given (level, batches, updates) of each of its levels: merges that have begun
/// go on, and new ones begin only when half of all updates lie outside the largest batch. Merging every small batch into the
/// largest at once would make an update cost as much as the whole arrangement.
fn idle_effort(levels: &[(usize, usize, usize)]) -> Option<usize> {
    const UPDATES: usize = 10_000;
    let merging = levels.iter().any(|(_, batches, _)| *batches > 1);
    let all: usize = levels.iter().map(|(_, _, updates)| updates).sum();
    let largest = levels.iter().map(|(_, _, updates)| *updates).max().unwrap_or(0);
    (merging || (all - largest) * 2 > all).then_some(UPDATES)
}

/// The next command; while there is none the worker merges its arrangements a little, then sleeps.
fn next(worker: &mut Worker, queue: &Queue) -> Option<Command> {
    for _ in 0..64 {
        if let Some(command) = queue.try_next(worker.index()) {
            return Some(command);
        }
        if !worker.step() {
            break;
        }
    }
    queue.next(worker.index())
}

/// The views of one worker and the ends of its dataflow.
pub(super) struct Views {
    pub sessions: SharedSessions,
    pub minutes: SharedMinutes,
    pub clusters: SharedClusters,
    pub contexts: SharedContexts,
    pub catalog: SharedCatalog,
    pub journeys: JourneysTrace,
    pub devices: SharedDevices,
    pub cells: SharedCells,
    pub labels: SharedLabels,
    changes: SharedChangeLog,
    verdicts: SharedVerdicts,
    rows: InputHandle<LogicalTime, Row>,
    stays: InputHandle<LogicalTime, StayRow>,
    controls: InputHandle<LogicalTime, ControlIn>,
    probe: probe::Handle<LogicalTime>,
    subscriptions: Vec<Subscription>,
    shared: Shared,
    /// The time at which everything stands.
    closed: LogicalTime,
    index: usize,
}

impl Views {
    fn build(worker: &mut Worker, shared: Shared) -> Self {
        let (index, peers) = (worker.index(), worker.peers());
        let sessions: SharedSessions = Rc::new(RefCell::new(SessionsState::new(index, peers, shared.config.max_open_events)));
        let minutes = SharedMinutes::default();
        let clusters = SharedClusters::default();
        let (contexts, catalog) = (SharedContexts::default(), SharedCatalog::default());
        let (devices, cells) = (SharedDevices::default(), SharedCells::default());
        let labels: SharedLabels = Rc::new(RefCell::new(Labels::new(index, peers)));
        let changes: SharedChangeLog = Rc::new(RefCell::new(ChangeLog::default()));
        let verdicts = SharedVerdicts::default();
        let probe = probe::Handle::new();
        let (rows, stays, controls, journeys) = worker.dataflow::<LogicalTime, _, _>(|scope| {
            let (rows_in, rows) = scope.new_input::<Vec<Row>>();
            let (stays_in, stays) = scope.new_input::<Vec<StayRow>>();
            let (controls_in, controls) = scope.new_input::<Vec<ControlIn>>();
            let outputs = sessions::build(scope, rows, controls.clone(), sessions.clone(), changes.clone(), verdicts.clone());
            let arranged = journeys::arrange(outputs.journeys);
            let trace = arranged.trace.clone();
            clusters::build(arranged, controls.clone(), clusters.clone(), sessions.clone(), changes.clone()).probe_with(&probe);
            minutes::build(outputs.minutes, controls.clone(), minutes.clone(), changes.clone()).probe_with(&probe);
            occupancy::build(stays, controls.clone(), devices.clone(), cells.clone(), sessions.clone(), changes.clone(), verdicts.clone())
                .probe_with(&probe);
            labels::build(controls.clone(), labels.clone()).probe_with(&probe);
            context::build(outputs.contexts, controls, contexts.clone(), catalog.clone(), sessions.clone(), changes.clone())
                .probe_with(&probe);
            (rows_in, stays_in, controls_in, trace)
        });
        let (subscriptions, closed) = (Vec::new(), 0);
        Self {
            sessions,
            minutes,
            clusters,
            contexts,
            catalog,
            journeys,
            devices,
            cells,
            labels,
            changes,
            verdicts,
            rows,
            stays,
            controls,
            probe,
            subscriptions,
            shared,
            closed,
            index,
        }
    }

    /// The time at which everything stands.
    pub fn closed(&self) -> LogicalTime {
        self.closed
    }

    fn obey(&mut self, worker: &mut Worker, command: Command) {
        match command {
            Command::Batch(work) => {
                self.feed(&work);
                self.close(worker, &work);
            }
            Command::Peek(peek) => self.answer(&peek),
            Command::Subscribe(subscription) => self.subscribe(subscription),
            Command::Import(time, import, work) => {
                self.import(time, &import);
                self.close(worker, &work);
            }
        }
    }

    /// Feeds this worker's share of a batch: the rows of the users it keeps, and every control.
    fn feed(&mut self, work: &Work) {
        let batch = &work.batch;
        self.follow(batch.time);
        self.rows.advance_to(batch.time);
        self.stays.advance_to(batch.time);
        self.controls.advance_to(batch.time);
        let peers = self.sessions.borrow().peers as u64;
        for (at, (event, hash)) in batch.events.iter().zip(&work.hashes).enumerate() {
            if peers != 1 && hash % peers != self.index as u64 {
                continue;
            }
            match event.stay {
                Some(stay) => self.stays.send(StayRow::of(event, stay, at as u32, *hash)),
                None => self.rows.send(Row::of(event, at as u32, *hash)),
            }
        }
        if self.index == 0 && !batch.dead_letters.is_empty() {
            let letters = batch.dead_letters.iter().map(|letter| (letter.source, letter.kind)).collect();
            self.controls.send(ControlIn::DeadLetters(letters));
        }
        let of_views = |c: &&Control| {
            !matches!(
                c,
                Control::Partition(_)
                    | Control::SkipRow { .. }
                    | Control::Run { .. }
                    | Control::Document { .. }
                    | Control::Projection { .. }
                    | Control::Removed
            )
        };
        batch.controls.iter().filter(of_views).for_each(|control| self.controls.send(ControlIn::Logged(control.clone())));
        if let Some(tick) = batch.tick {
            self.controls.send(ControlIn::Tick(tick));
        }
    }

    fn import(&mut self, time: LogicalTime, import: &Import) {
        self.rows.advance_to(time);
        self.stays.advance_to(time);
        self.controls.advance_to(time);
        import.restore_sources(&mut self.sessions.borrow_mut(), &mut self.minutes.borrow_mut());
        let sessions = self.sessions.borrow();
        let inputs = import.inputs(|hash| sessions.owns(hash), self.index == 0);
        drop(sessions);
        inputs.into_iter().for_each(|input| self.controls.send(input));
    }

    /// Steps until every view of every worker has passed the batch's time.
    fn close(&mut self, worker: &mut Worker, work: &Work) {
        let time = work.batch.time;
        self.rows.advance_to(time + 1);
        self.stays.advance_to(time + 1);
        self.controls.advance_to(time + 1);
        let probe = &self.probe;
        worker.step_or_park_while(Some(Duration::from_millis(1)), || probe.less_equal(&time));
        self.closed = time;
        let frontier = Antichain::from_elem(time + 1);
        self.journeys.set_logical_compaction(frontier.borrow());
        self.journeys.set_physical_compaction(frontier.borrow());
        self.publish(work);
        let mut verdicts = std::mem::take(&mut *self.verdicts.borrow_mut());
        let mut applied = work.gather.lock().expect("no worker panics while it gathers");
        applied.duplicates.append(&mut verdicts.duplicates);
        applied.late.append(&mut verdicts.late);
        if work.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut applied = std::mem::take(&mut *applied);
            applied.duplicates.sort_unstable();
            applied.late.sort_unstable();
            // Every worker has published the time before it counted itself off.
            self.subscriptions.retain(|subscription| !subscription.start.sees(time) || mark(subscription, time));
            self.shared.as_of.fetch_max(time, Ordering::AcqRel);
            self.shared.queue.closed();
            if let Some(done) = work.done.lock().expect("no worker panics while it gathers").take() {
                done(applied);
            }
        }
    }

    fn answer(&mut self, peek: &Peek) {
        let part = answer::answer(self, &peek.query);
        peek.parts.lock().expect("no worker panics while it answers")[self.index] = Some(part);
        if peek.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let parts = std::mem::take(&mut *peek.parts.lock().expect("no worker panics while it answers"));
            if let Some(done) = peek.done.lock().expect("no worker panics while it answers").take() {
                done(self.closed, parts.into_iter().flatten().collect());
            }
        }
    }

    fn subscribe(&mut self, subscription: Subscription) {
        if !matches!(subscription.start, Start::After(_)) {
            let time = self.closed;
            let mut rows = match subscription.start {
                Start::Snapshot => answer::snapshot(self, subscription.views),
                _ => Vec::new(),
            };
            if self.index == 0 {
                let sessions = self.sessions.borrow();
                rows.extend(sessions.sources.values().map(|source| ViewRow::Source(Arc::new(source.settings.clone()))));
            }
            let snapshot: Vec<Change> = rows.into_iter().map(|row| Change { time, row, diff: 1 }).collect();
            // A snapshot comes whole, however large.
            subscription.state.waiting.fetch_add(snapshot.len(), Ordering::AcqRel);
            if !snapshot.is_empty() {
                drop(subscription.to.send(Message::Changes(snapshot)));
            }
        }
        if subscription.state.beginning.fetch_sub(1, Ordering::AcqRel) == 1 && !matches!(subscription.start, Start::After(_)) {
            drop(subscription.to.send(Message::Closed(self.closed)));
        }
        self.subscriptions.push(subscription);
    }

    /// What the operators have to note down at the time that begins.
    fn follow(&mut self, time: LogicalTime) {
        self.subscriptions.retain(|subscription| !subscription.state.lost.load(Ordering::Acquire));
        let seeing = self.subscriptions.iter().filter(|subscription| subscription.start.sees(time));
        let views = seeing.map(|subscription| subscription.views).fold(ViewSet::default(), ViewSet::and);
        self.changes.borrow_mut().follow(views);
    }

    /// Sends the changes of the time just closed to their followers; drops followers that are gone or too slow.
    fn publish(&mut self, work: &Work) {
        let changes = self.changes.borrow_mut().take(|row| work.batch.events.get(row as usize).cloned());
        if changes.is_empty() {
            return;
        }
        let time = work.batch.time;
        self.subscriptions.retain(|subscription| {
            if !subscription.start.sees(time) {
                return true;
            }
            let mine = |change: &&Change| change.row.view().is_none_or(|view| subscription.views.has(view));
            let of_views: Vec<Change> = changes.iter().filter(mine).cloned().collect();
            of_views.is_empty() || deliver(subscription, of_views)
        });
    }
}

impl Start {
    fn sees(self, time: LogicalTime) -> bool {
        match self {
            Self::Snapshot | Self::Now => true,
            Self::After(known) => time > known,
        }
    }
}

/// Whether the follower is still there and keeps up on every worker.
fn deliver(subscription: &Subscription, changes: Vec<Change>) -> bool {
    let state = &subscription.state;
    if state.lost.load(Ordering::Acquire) {
        return false;
    }
    let rows = changes.len();
    let waiting = state.waiting.fetch_add(rows, Ordering::AcqRel);
    // An empty queue takes any group: one batch may be larger than the bound.
    let fits = waiting == 0 || waiting + rows <= state.rows_max;
    if fits && subscription.to.send(Message::Changes(changes)).is_ok() {
        return true;
    }
    state.waiting.fetch_sub(rows, Ordering::AcqRel);
    state.lost.store(true, Ordering::Release);
    false
}

/// Says that a time is complete, unless a worker lost the stream at it.
fn mark(subscription: &Subscription, time: LogicalTime) -> bool {
    if subscription.state.lost.load(Ordering::Acquire) {
        return false;
    }
    subscription.to.send(Message::Closed(time)).is_ok()
}
