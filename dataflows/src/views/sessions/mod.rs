//! Sessions: each user's events, cut into sessions.
//!
//! Per (source, user), in order of (event time, event id). Under the rule `from_first` a session ends when an event lies more
//! than the limit after the session's *first* event; under `gap`, when it lies more than the limit after the event *before* it.
//! Both comparisons are strict. A session's identity is its first event; its number is its rank by time, counted from 1.
//!
//! This is a hand-written timely operator: state is one ordered history per user (see [`history`]), and one pass per user and
//! batch. It promises:
//!
//! * the answer depends on the set of accepted events alone, never on their order of arrival, the batches or the number of workers;
//! * the first row in log order of an identity (source, user, event id) counts, later ones are duplicates, and conflicts when
//!   they say something else;
//! * a late row (marked by the committer) changes nothing and is counted;
//! * an update costs O(rows + disturbed sessions), not O(history).
//!
//! What it emits, per batch: changes of journeys (for [`super::journeys`]), changes of minutes (for [`super::minutes`]), of contexts (for
//! [`super::context`]), and, when somebody follows the view, session rows with differences.
//!
//! Sealing: a `Seal` record names a boundary and the cold parts that hold every session with `end + limit < boundary`. Their
//! events leave memory, one summary per user stays, and no view changes. No admissible event can touch them any more, because
//! rows behind the boundary are marked late.
//!
//! Known limitations: deleting an event by id walks the open events of its source (deletions of one batch share one walk); a
//! sealed event cannot be deleted alone, only erased with its user.

mod commands;
pub mod history;
pub mod kinds;
pub mod rows;
pub mod source;
pub mod state;

use crate::changes::SharedChangeLog;
use crate::engine::ControlIn;
use crate::views::context::ContextUpdate;
use crate::views::journeys::JourneyUpdate;
use crate::views::minutes::MinuteUpdate;
use desireline_records::{Control, EventId, LogicalTime, Micros, Movement, SourceId};
use ecow::EcoString;
use serde::{Deserialize, Serialize};
pub use state::{Outcome, Row, Sealed, SessionsState};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

pub type SharedSessions = Rc<RefCell<SessionsState>>;

/// Which rows of a batch were duplicates or late, collected per worker until the batch closes.
#[derive(Default)]
pub struct Verdicts {
    pub duplicates: Vec<u32>,
    pub late: Vec<u32>,
}

pub type SharedVerdicts = Rc<RefCell<Verdicts>>;

/// The state of one user as rows of an export: everything by text and number, nothing by slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserRow {
    pub source: SourceId,
    pub user: EcoString,
    pub events: Vec<EventRow>,
    pub sealed: Option<Sealed>,
    pub deleted: Vec<(EventId, Micros)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    pub time: Micros,
    pub id: EventId,
    pub value: i64,
    pub payload: u32,
    pub movement: Movement,
    pub page: EcoString,
    pub event_type: EcoString,
}

/// What the views behind this one are fed with.
pub struct Outputs<'scope> {
    pub journeys: StreamVec<'scope, LogicalTime, JourneyUpdate>,
    pub minutes: StreamVec<'scope, LogicalTime, MinuteUpdate>,
    pub contexts: StreamVec<'scope, LogicalTime, ContextUpdate>,
}

/// The dataflow: rows by user, controls in order with them.
pub fn build<'scope>(
    scope: Scope<'scope, LogicalTime>,
    rows: StreamVec<'scope, LogicalTime, Row>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    state: SharedSessions,
    changes: SharedChangeLog,
    verdicts: SharedVerdicts,
) -> Outputs<'scope> {
    let mut builder = OperatorBuilder::new("Sessions".to_owned(), scope);
    let mut rows = builder.new_input(rows, Exchange::new(|row: &Row| row.hash));
    let mut controls = builder.new_input(controls, Pipeline);
    let (journeys_out, journeys) = builder.new_output::<Vec<JourneyUpdate>>();
    let (minutes_out, minutes) = builder.new_output::<Vec<MinuteUpdate>>();
    let (contexts_out, contexts) = builder.new_output::<Vec<ContextUpdate>>();
    let (mut journeys_out, mut minutes_out) = (OutputBuilder::from(journeys_out), OutputBuilder::from(minutes_out));
    let mut contexts_out = OutputBuilder::from(contexts_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut stash = BTreeMap::new();
        move |frontiers| {
            rows.for_each(|cap, data| {
                let entry =
                    stash.entry(*cap.time()).or_insert_with(|| (std::array::from_fn(|out| cap.retain(out)), Vec::new(), Vec::new()));
                entry.1.append(data);
            });
            controls.for_each(|cap, data| {
                let entry =
                    stash.entry(*cap.time()).or_insert_with(|| (std::array::from_fn(|out| cap.retain(out)), Vec::new(), Vec::new()));
                entry.2.append(data);
            });
            let (mut journeys_out, mut minutes_out) = (journeys_out.activate(), minutes_out.activate());
            let mut contexts_out = contexts_out.activate();
            while let Some(entry) = stash.first_entry() {
                let time = *entry.key();
                if frontiers.iter().any(|frontier| frontier.less_equal(&time)) {
                    break;
                }
                let ([journeys_cap, minutes_cap, contexts_cap], mut rows, controls): ([_; 3], Vec<Row>, Vec<ControlIn>) = entry.remove();
                if !rows.is_sorted_by_key(|row: &Row| row.row) {
                    rows.sort_by_key(|row| row.row);
                }
                let mut state = state.borrow_mut();
                let mut out = work(&mut state, &rows, controls, time, &changes);
                let mut session = journeys_out.session(&journeys_cap);
                session.give_iterator(out.journeys.drain(..).map(|(key, change)| ((key, ()), time, change)));
                let mut session = minutes_out.session(&minutes_cap);
                session.give_iterator(state.minute_updates(&mut out).into_iter());
                contexts_out.session(&contexts_cap).give_iterator(out.contexts.drain(..));
                state.kinds.sweep();
                let mut verdicts = verdicts.borrow_mut();
                verdicts.duplicates.append(&mut out.duplicates);
                verdicts.late.append(&mut out.late);
            }
        }
    });
    Outputs { journeys, minutes, contexts }
}

fn work(state: &mut SessionsState, rows: &[Row], controls: Vec<ControlIn>, time: LogicalTime, changes: &SharedChangeLog) -> Outcome {
    let mut out = state.outcome();
    let mut changes = changes.borrow_mut();
    state.reap();
    state.apply(rows, time, &mut changes, &mut out);
    let mut logged: Vec<Control> = Vec::new();
    for control in controls {
        match control {
            ControlIn::Logged(control) => logged.push(control),
            ControlIn::DeadLetters(letters) => state.count_dead_letters(letters.into_iter()),
            ControlIn::ImportUsers(users) => {
                for row in users {
                    let (key, journey) = state.restore(row);
                    out.journeys.push((key, journey));
                }
            }
            ControlIn::ImportMinutes(minutes) => out.sealed_minutes.extend(minutes),
            ControlIn::ImportModels(_)
            | ControlIn::ImportCatalog(_)
            | ControlIn::ImportContexts(_)
            | ControlIn::Tick(_)
            | ControlIn::ImportStanding(_)
            | ControlIn::ImportDevices(_)
            | ControlIn::ImportCells(_)
            | ControlIn::ImportSpaces(_)
            | ControlIn::ImportMatrices(_)
            | ControlIn::ImportLabelRows(_) => {}
        }
    }
    state.control(&logged, time, &mut changes, &mut out);
    out
}
