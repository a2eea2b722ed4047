//! Occupancy: how many devices were in which space, when; how long they stayed; where they went.
//!
//! WiFi sessions become *cells*: numbers of one measure of one space at one time ([`desireline_records::Measure`]). Two hand-written timely
//! operators, one behind the other:
//!
//! ```text
//!  rows ──(by device)──► Devices: sessions in memory ──(differences of cells, by space)──► Cells: sums
//!  controls ─────────────────┴──────────────────────────────────────────────────────────────┴─► (also the space tree)
//! ```
//!
//! *Devices* ([`devices`], [`track`]) keeps the sessions of each device and finds what a row changes. It is partitioned by device, so a
//! space with ten thousand devices is the work of all workers; what reaches the worker of the space is one difference per cell and batch.
//! *Cells* ([`cells`]) adds them up. A space's occupancy is its own plus that of all spaces below it, not distinct over them; it is summed
//! over the tree when it is asked for, so that moving a space corrects its whole history at once.
//!
//! Promises:
//! * the answer depends on what the log says of each session alone, never on batches or the number of workers;
//! * of the rows of one (device, space, start), an end closes an open session and a later end corrects an earlier one; an open row never
//!   opens a closed session again;
//! * an open session lasts to the end of the quarter of an hour under way (by the ticks of the log), at most `max_open`;
//! * an update costs the days and bins that it touches;
//! * sealing changes no answer, and a late row is applied exactly when its device has been reopened.
//!
//! Sealing: what lies before a boundary (the begin of a day) leaves memory for cold parts. Numbers add up over memory and parts, so
//! whatever changes a sealed cell afterwards stays in memory as a difference, until the next seal takes it along. Rows for sealed days wait
//! ([`query::OccupancyQuery::Pending`]) until a `Reopen` record has brought their device's sealed sessions back.
//!
//! Known limitations: one source of WiFi sessions per deployment. Sealed cells keep the gaps and bins of the settings under which they
//! were counted. Deleting a session by id walks all devices; one that began on a sealed day cannot be deleted alone, only erased with its
//! device. A device with very many sessions on one day costs their number per batch.

pub mod answer;
pub mod cells;
pub mod devices;
pub mod query;
pub mod track;
pub mod tree;

use crate::changes::{SharedChangeLog, View, ViewRow};
use crate::engine::ControlIn;
use crate::views::closed::at_closed_times;
use crate::views::sessions::{SharedSessions, SharedVerdicts};
use cells::Cells;
use desireline_records::{Cell, CellKey, Control, LogicalTime};
use devices::{Devices, Outcome, StayRow};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::Operator;

pub type SharedDevices = Rc<RefCell<Devices>>;
pub type SharedCells = Rc<RefCell<Cells>>;

/// The dataflow: sessions by device, cells by space, controls in order with them. The output carries no data, only progress.
pub fn build<'scope>(
    rows: StreamVec<'scope, LogicalTime, StayRow>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    devices: SharedDevices,
    cells: SharedCells,
    sessions: SharedSessions,
    changes: SharedChangeLog,
    verdicts: SharedVerdicts,
) -> StreamVec<'scope, LogicalTime, ()> {
    let worker = sessions.borrow().worker;
    let deltas = by_device(rows, controls.clone(), devices, sessions, verdicts);
    let by_space = Exchange::new(|(key, _): &(CellKey, Cell)| u64::from(key.space.unsigned_abs()));
    at_closed_times(deltas, controls, by_space, "Occupancy", move |time, deltas, controls| {
        let (cells, changes) = (&mut cells.borrow_mut(), &mut changes.borrow_mut());
        cells.add(&deltas, time, changes);
        for control in controls {
            match control {
                ControlIn::Logged(Control::Space(space)) => {
                    let before = cells.tree.put(space.clone()).map(|space| ViewRow::Space(Arc::new(space)));
                    if worker == 0 && changes.follows(View::Spaces) {
                        changes.replace(time, before, Some(ViewRow::Space(Arc::new(space))));
                    }
                }
                ControlIn::Logged(Control::SpaceRemoved { space_id }) => {
                    let before = cells.tree.remove(space_id).map(|space| ViewRow::Space(Arc::new(space)));
                    if worker == 0 && changes.follows(View::Spaces) {
                        changes.replace(time, before, None);
                    }
                }
                ControlIn::Logged(Control::SealStays(seal)) => cells.seal(seal.boundary),
                ControlIn::ImportSpaces(spaces) => spaces.into_iter().for_each(|space| drop(cells.tree.put(space))),
                ControlIn::ImportStanding(standing) => cells.restore_boundary(standing.boundary),
                _ => {}
            }
        }
    })
}

fn by_device<'scope>(
    rows: StreamVec<'scope, LogicalTime, StayRow>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    devices: SharedDevices,
    sessions: SharedSessions,
    verdicts: SharedVerdicts,
) -> StreamVec<'scope, LogicalTime, (CellKey, Cell)> {
    let by_device = Exchange::new(|row: &StayRow| row.hash);
    let mut stash: BTreeMap<LogicalTime, (Option<_>, Vec<StayRow>, Vec<ControlIn>)> = BTreeMap::new();
    rows.binary_frontier::<_, CapacityContainerBuilder<Vec<(CellKey, Cell)>>, _, _, _, _>(
        controls,
        by_device,
        Pipeline,
        "Devices",
        move |_capability, _info| {
            move |(rows, rows_frontier), (controls, controls_frontier), output| {
                rows.for_each(|cap, data| {
                    let entry = stash.entry(*cap.time()).or_default();
                    entry.1.append(data);
                    entry.0.get_or_insert_with(|| cap.retain(0));
                });
                controls.for_each(|cap, data| {
                    let entry = stash.entry(*cap.time()).or_default();
                    entry.2.append(data);
                    entry.0.get_or_insert_with(|| cap.retain(0));
                });
                while let Some(entry) = stash.first_entry() {
                    let time = *entry.key();
                    if rows_frontier.less_equal(&time) || controls_frontier.less_equal(&time) {
                        break;
                    }
                    let (cap, mut rows, controls) = entry.remove();
                    rows.sort_unstable_by_key(|row| row.row);
                    let out = work(&mut devices.borrow_mut(), &sessions, &rows, controls);
                    if let Some(cap) = cap {
                        output.session(&cap).give_iterator(out.deltas.into_iter().filter(|(_, cell)| !cell.is_zero()));
                    }
                    let mut verdicts = verdicts.borrow_mut();
                    verdicts.duplicates.extend(out.duplicates);
                    verdicts.late.extend(out.late);
                }
            }
        },
    )
}

fn work(devices: &mut Devices, sessions: &SharedSessions, rows: &[StayRow], controls: Vec<ControlIn>) -> Outcome {
    let mut out = Outcome::default();
    let sessions = &mut sessions.borrow_mut();
    devices.apply(rows, sessions, &mut out);
    for control in controls {
        match control {
            ControlIn::Logged(control) => devices.control(&control, sessions, &mut out),
            ControlIn::Tick(now) => devices.tick(now, &mut out.deltas),
            ControlIn::ImportStanding(standing) => devices.standing = *standing,
            ControlIn::ImportDevices(rows) => devices.restore(rows),
            ControlIn::ImportCells(cells) => out.deltas.extend(cells),
            _ => {}
        }
    }
    out
}
