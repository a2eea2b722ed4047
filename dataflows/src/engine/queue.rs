//! The commands of all workers, in one order.
//!
//! Every worker takes every command, each at its own pace and all in the same order. Batches are taken in the order in which they
//! were submitted; a question may overtake those that no worker has taken yet, so that under load it waits for the batch under way
//! and not for the ones behind it. It overtakes others of its kind never, and after [`OVERTAKING_MAX`] questions in a row the next
//! batch has its turn, so that questions cannot hold back what is ingested.

use super::{Command, EngineError};
use desireline_records::LogicalTime;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

/// Questions that overtake the same batch, at most.
const OVERTAKING_MAX: usize = 64;

const NO_PANIC: &str = "no code panics while it holds the commands";

struct State {
    commands: VecDeque<Command>,
    /// The number of the first of `commands`, and for each worker the number of the next that it takes.
    first: u64,
    next: Vec<u64>,
    /// Batches submitted and not yet closed.
    batches: usize,
    last_time: LogicalTime,
    overtaking: usize,
    /// No more commands: the workers end when they have worked off what is there.
    stopped: bool,
    /// The workers have ended.
    gone: bool,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    batches_max: usize,
    /// A command has come, or the queue has stopped.
    more: Condvar,
    /// A batch has been closed, or the workers have ended.
    room: Condvar,
}

impl Queue {
    pub fn new(workers: usize, batches_max: usize) -> Self {
        let state = State {
            commands: VecDeque::new(),
            first: 0,
            next: vec![0; workers],
            batches: 0,
            last_time: 0,
            overtaking: 0,
            stopped: false,
            gone: false,
        };
        Self { state: Mutex::new(state), batches_max, more: Condvar::new(), room: Condvar::new() }
    }

    /// Appends a batch; waits while there are too many.
    pub fn submit(&self, command: Command, time: LogicalTime) -> Result<(), EngineError> {
        let full = |state: &mut State| state.batches >= self.batches_max && !state.stopped && !state.gone;
        let mut state = self.room.wait_while(self.state.lock().expect(NO_PANIC), full).expect(NO_PANIC);
        if state.stopped || state.gone {
            return Err(EngineError::Stopped);
        }
        if time <= state.last_time {
            return Err(EngineError::Order { given: time, last: state.last_time });
        }
        state.last_time = time;
        state.batches += 1;
        state.commands.push_back(command);
        self.more.notify_all();
        Ok(())
    }

    /// Adds a question behind everything that is there, or, with `overtaking`, in front of the batches that nobody has taken.
    pub fn ask(&self, command: Command, overtaking: bool) -> Result<(), EngineError> {
        let mut state = self.state.lock().expect(NO_PANIC);
        if state.stopped || state.gone {
            return Err(EngineError::Stopped);
        }
        let untaken = (state.next.iter().max().copied().unwrap_or(state.first) - state.first) as usize;
        let batch = state.commands.iter().skip(untaken).position(Command::is_batch);
        match batch.filter(|_| overtaking && state.overtaking < OVERTAKING_MAX) {
            Some(batch) => {
                state.overtaking += 1;
                state.commands.insert(untaken + batch, command);
            }
            None => state.commands.push_back(command),
        }
        self.more.notify_all();
        Ok(())
    }

    /// The next command of a worker, if there is one now.
    pub fn try_next(&self, worker: usize) -> Option<Command> {
        Self::take(&mut self.state.lock().expect(NO_PANIC), worker)
    }

    /// The next command of a worker; none when the queue has stopped and is worked off.
    pub fn next(&self, worker: usize) -> Option<Command> {
        let nothing = |state: &mut State| !state.stopped && state.next[worker] - state.first >= state.commands.len() as u64;
        let mut state = self.more.wait_while(self.state.lock().expect(NO_PANIC), nothing).expect(NO_PANIC);
        Self::take(&mut state, worker)
    }

    fn take(state: &mut State, worker: usize) -> Option<Command> {
        let number = state.next[worker];
        let command = state.commands.get((number - state.first) as usize)?.clone();
        if command.is_batch() && state.next.iter().all(|next| *next <= number) {
            state.overtaking = 0;
        }
        state.next[worker] += 1;
        while state.next.iter().all(|next| *next > state.first) {
            state.commands.pop_front();
            state.first += 1;
        }
        Some(command)
    }

    /// A batch has been closed by all workers.
    pub fn closed(&self) {
        self.state.lock().expect(NO_PANIC).batches -= 1;
        self.room.notify_one();
    }

    pub fn stop(&self) {
        self.state.lock().expect(NO_PANIC).stopped = true;
        self.more.notify_all();
        self.room.notify_all();
    }

    /// The workers have ended. What nobody took is dropped, so that those who wait for an answer learn it.
    pub fn abandon(&self) {
        let mut state = self.state.lock().expect(NO_PANIC);
        state.gone = true;
        let dropped = std::mem::take(&mut state.commands);
        drop(state);
        drop(dropped);
        self.room.notify_all();
    }

    pub fn batches(&self) -> usize {
        self.state.lock().expect(NO_PANIC).batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{batch, question};
    use std::sync::Arc;

    fn times(queue: &Queue, worker: usize) -> Vec<Option<LogicalTime>> {
        std::iter::from_fn(|| queue.try_next(worker)).map(|command| command.time()).collect()
    }

    #[test]
    fn a_question_overtakes_only_what_no_worker_has_taken() {
        let queue = Queue::new(2, 10);
        (1..=3).for_each(|time| queue.submit(batch(time), time).expect("in order"));
        assert_eq!(queue.try_next(0).and_then(|command| command.time()), Some(1));
        queue.ask(question(), true).expect("runs");
        queue.ask(question(), false).expect("runs");
        let rest = [None, Some(2), Some(3), None];
        assert_eq!(times(&queue, 0), rest);
        assert_eq!(times(&queue, 1), [&[Some(1)], &rest[..]].concat());
    }

    #[test]
    fn questions_cannot_hold_a_batch_back() {
        let queue = Queue::new(1, 10);
        queue.submit(batch(1), 1).expect("in order");
        (0..OVERTAKING_MAX + 5).for_each(|_| queue.ask(question(), true).expect("runs"));
        let taken = times(&queue, 0);
        assert_eq!(taken.iter().position(Option::is_some), Some(OVERTAKING_MAX));
        assert_eq!(taken.len(), OVERTAKING_MAX + 6);
    }

    #[test]
    fn who_submits_waits_for_room_and_learns_of_the_end() {
        let queue = Arc::new(Queue::new(1, 1));
        queue.submit(batch(1), 1).expect("in order");
        let waiting = {
            let queue = queue.clone();
            std::thread::spawn(move || (queue.submit(batch(2), 2), queue.submit(batch(3), 3)))
        };
        assert_eq!(queue.next(0).and_then(|command| command.time()), Some(1));
        queue.closed();
        assert_eq!(queue.next(0).and_then(|command| command.time()), Some(2), "room for the second");
        queue.abandon();
        let (second, third) = waiting.join().expect("no panic");
        assert!(second.is_ok() && matches!(third, Err(EngineError::Stopped)));
        assert!(queue.submit(batch(4), 4).is_err() && queue.ask(question(), true).is_err());
    }
}
