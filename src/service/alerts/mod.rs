//! Alerts: a space crosses a share of its capacity ([`board`] says when).
//!
//! One task follows the views of occupancy and of spaces, while any space has a capacity. It begins with the numbers of the running bin, adds
//! the changes that come, and takes the numbers afresh with every new bin. A stream that is lost, because more changes waited than
//! [`QUEUE_ROWS_MAX`], is begun anew the same way: what was crossed meanwhile is told then.
//!
//! An alert goes to whoever listens ([`Service::alerts`]): the live stream, and the topic of [`crate::alerts`]. Nobody waits for a listener;
//! one that falls more than [`WAITING_MAX`] alerts behind misses the oldest of them and is told how many.
//!
//! # Known limitations
//! - What stands above a share when the server begins is taken for told before. (A space that is given a capacity later is told of.)
//! - Alerts are looked for a few times a second: a number that crosses a share and comes back within that time crosses nothing.

mod board;

pub use board::{Crossing, Direction};

use super::occupancy::width;
use super::{Inner, NO_PANIC, Service, ServiceError};
use board::Board;
use desireline_dataflows::changes::{Change, View, ViewRow, Views};
use desireline_dataflows::engine::{Changes, Next, Start};
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::{format_rfc3339, now_micros};
use desireline_records::{Cell, LogicalTime, Measure, Micros, Space, SpaceId};
use ecow::EcoString;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;

/// Changes that may wait for the task.
const QUEUE_ROWS_MAX: usize = 200_000;
/// Alerts that may wait for a listener.
pub const WAITING_MAX: usize = 1_024;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// Between looks for a space with a capacity, and after a failure.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// An alert as listeners get it: its JSON is what they print.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OccupancyChange {
    /// Always `occupancy_change`.
    pub event: &'static str,
    pub space_id: SpaceId,
    pub space_name: Option<EcoString>,
    pub interval_begin_time: String,
    /// Absent where it may not be shown, and with it the percentage.
    pub number_connections: Option<i64>,
    pub capacity: u32,
    pub percent: Option<f64>,
    pub threshold_percent: u32,
    pub direction: &'static str,
    /// When it was seen.
    pub at: String,
}

impl OccupancyChange {
    fn new(crossing: Crossing, at: Micros) -> Self {
        let tenths = |number: i64| (number as f64 * 1_000.0 / f64::from(crossing.capacity)).round() / 10.0;
        Self {
            event: "occupancy_change",
            space_id: crossing.space_id,
            space_name: crossing.space_name,
            interval_begin_time: format_rfc3339(crossing.begin),
            number_connections: crossing.number,
            capacity: crossing.capacity,
            percent: crossing.number.map(tenths),
            threshold_percent: crossing.threshold_percent,
            direction: match crossing.direction {
                Direction::Up => "up",
                Direction::Down => "down",
            },
            at: format_rfc3339(at),
        }
    }
}

/// Where alerts go, and how many there were.
pub(super) struct Alerts {
    to: broadcast::Sender<Arc<OccupancyChange>>,
    given: AtomicU64,
    delivered: AtomicU64,
    missed: AtomicU64,
}

impl Default for Alerts {
    fn default() -> Self {
        let (given, delivered, missed) = Default::default();
        Self { to: broadcast::Sender::new(WAITING_MAX), given, delivered, missed }
    }
}

/// Counted since the server began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AlertCounts {
    pub given: u64,
    /// Of these, accepted by the brokers.
    pub delivered: u64,
    /// … and not sent to them because too many waited.
    pub missed: u64,
}

impl Service {
    /// Alerts from now on.
    pub fn alerts(&self) -> broadcast::Receiver<Arc<OccupancyChange>> {
        self.inner.alerts.to.subscribe()
    }

    /// For whoever passes alerts on.
    pub fn count_alerts(&self, delivered: u64, missed: u64) {
        self.inner.alerts.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.inner.alerts.missed.fetch_add(missed, Ordering::Relaxed);
    }
}

impl Alerts {
    pub fn counts(&self) -> AlertCounts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        AlertCounts { given: read(&self.given), delivered: read(&self.delivered), missed: read(&self.missed) }
    }

    fn give(&self, crossings: Vec<Crossing>) {
        for crossing in crossings {
            self.given.fetch_add(1, Ordering::Relaxed);
            let change = OccupancyChange::new(crossing, now_micros());
            tracing::info!(space_id = change.space_id, direction = change.direction, percent = ?change.percent, "a space crossed a share of its capacity");
            // Nobody listening is no error.
            drop(self.to.send(Arc::new(change)));
        }
    }
}

/// Why following has ended.
enum Ended {
    Stopped,
    /// The stream is lost, or no space has a capacity any more.
    Again,
}

impl Inner {
    /// Gives alerts until the service stops.
    pub(super) async fn alert_loop(self: Arc<Self>) {
        let occupancy = &self.config.occupancy;
        if occupancy.alert_percent.is_empty() {
            return;
        }
        let mut stopping = self.stopping.subscribe();
        let mut board = Board::new(occupancy.alert_percent.clone(), occupancy.privacy);
        let mut at_start = self.has_capacities();
        loop {
            if self.has_capacities() {
                match self.follow_occupancy(&mut board, &mut at_start).await {
                    Ok(Ended::Stopped) => return,
                    Ok(Ended::Again) => {}
                    Err(error) => tracing::warn!(%error, "alerts are not given at the moment; it is tried again"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(IDLE_PAUSE) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn has_capacities(&self) -> bool {
        self.fold.read().expect(NO_PANIC).spaces.iter().any(|space| space.capacity.is_some())
    }

    async fn follow_occupancy(self: &Arc<Self>, board: &mut Board, at_start: &mut bool) -> Result<Ended, ServiceError> {
        let views = Views::from(View::Occupancy).and(View::Spaces.into());
        let changes = self.engine.subscribe(views, Start::Now, QUEUE_ROWS_MAX).map_err(|error| self.engine_error(&error))?;
        let Some(changes) = first_closed(changes).await else { return Ok(Ended::Again) };
        let interval = self.narrowest();
        let measure = Measure::Devices(interval);
        let mut begin = self.running_bin(width(interval));
        let (mut known, cells) = self.own_numbers(measure, begin).await?;
        if std::mem::take(at_start) {
            // Whoever was there in the bin before is there still.
            let (_, last) = self.own_numbers(measure, begin - measure.width()).await?;
            board.take_for_told(&self.tree(), last);
            board.take_for_told(&self.tree(), cells.iter().copied());
        } else if board.begin() != begin {
            self.alerts.give(board.end_bin());
        }
        board.load(begin, self.tree(), cells);
        let mut stopping = self.stopping.subscribe();
        let mut as_of = self.as_of.subscribe();
        let mut stream = Taken::default();
        loop {
            as_of.borrow_and_update();
            if stream.drain(&changes).is_none() {
                return Ok(Ended::Again);
            }
            stream.hand_over(board, measure, begin, known);
            self.alerts.give(board.look());
            let now = self.running_bin(measure.width());
            if now > begin {
                self.alerts.give(board.end_bin());
                begin = now;
                let cells;
                (known, cells) = self.own_numbers(measure, begin).await?;
                board.load(begin, self.tree(), cells);
            }
            if !board.is_needed() {
                return Ok(Ended::Again);
            }
            tokio::select! {
                () = tokio::time::sleep(IDLE_PAUSE) => {}
                _ = as_of.changed() => {}
                _ = stopping.wait_for(|stop| *stop) => return Ok(Ended::Stopped),
            }
            // What comes at once is looked at together.
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn tree(&self) -> Tree {
        self.fold.read().expect(NO_PANIC).spaces.clone()
    }

    /// What each space has itself in a bin, and when that was so.
    async fn own_numbers(self: &Arc<Self>, measure: Measure, begin: Micros) -> Result<(LogicalTime, Vec<(SpaceId, Cell)>), ServiceError> {
        let cells = self.cells(None, measure, begin, begin + measure.width()).await?;
        Ok((cells.as_of, cells.value.into_iter().map(|(key, cell)| (key.space, cell)).collect()))
    }
}

/// Waits until the stream has begun; nothing when the views have stopped.
async fn first_closed(changes: Changes) -> Option<Changes> {
    let waited = tokio::task::spawn_blocking(move || {
        loop {
            match changes.next() {
                Next::Changes(_) => {}
                Next::Closed(_) => return Some(changes),
                Next::Lost | Next::End => return None,
            }
        }
    });
    waited.await.ok().flatten()
}

/// Changes of complete times, and those of the time that is under way.
#[derive(Default)]
struct Taken {
    complete: Vec<Change>,
    open: Vec<Change>,
}

impl Taken {
    /// Takes what waits; nothing when the stream is lost or has ended.
    fn drain(&mut self, changes: &Changes) -> Option<()> {
        while let Some(next) = changes.try_next() {
            match next {
                Next::Changes(changes) => self.open.extend(changes),
                Next::Closed(_) => self.complete.append(&mut self.open),
                Next::Lost | Next::End => return None,
            }
        }
        Some(())
    }

    /// Cells that changed by `known` are in the board already.
    fn hand_over(&mut self, board: &mut Board, measure: Measure, begin: Micros, known: LogicalTime) {
        let mut spaces: Vec<Result<Space, SpaceId>> = Vec::new();
        for Change { time, row, diff } in self.complete.drain(..) {
            match row {
                ViewRow::Cell { key, cell } | ViewRow::CellShift { key, cell }
                    if key.measure == measure && key.time == begin && time > known =>
                {
                    board.add(key.space, if diff > 0 { cell } else { cell.negated() });
                }
                ViewRow::Space(space) => {
                    spaces.push(if diff > 0 { Ok(Space::clone(&space)) } else { Err(space.space_id) });
                }
                _ => {}
            }
        }
        if !spaces.is_empty() {
            board.change_tree(spaces);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::CellKey;

    fn crossing(number: Option<i64>) -> Crossing {
        let space_name = Some("Hall".into());
        Crossing { space_id: 3, space_name, begin: 900_000_000, number, capacity: 30, threshold_percent: 80, direction: Direction::Up }
    }

    #[test]
    fn an_alert_prints_what_was_crossed() {
        let json = serde_json::to_value(OccupancyChange::new(crossing(Some(25)), 960_000_000)).expect("JSON");
        let expected = serde_json::json!({"event": "occupancy_change", "space_id": 3, "space_name": "Hall",
            "interval_begin_time": "1970-01-01T00:15:00.000Z", "number_connections": 25, "capacity": 30, "percent": 83.3,
            "threshold_percent": 80, "direction": "up", "at": "1970-01-01T00:16:00.000Z"});
        assert_eq!(json, expected);
        let hidden = serde_json::to_value(OccupancyChange::new(crossing(None), 0)).expect("JSON");
        assert!(hidden["number_connections"].is_null() && hidden["percent"].is_null());
    }

    #[test]
    fn alerts_are_counted_and_nobody_needs_to_listen() {
        let alerts = Alerts::default();
        alerts.give(vec![crossing(Some(25)); 2]);
        assert_eq!(alerts.counts(), AlertCounts { given: 2, ..AlertCounts::default() });
        let mut listener = alerts.to.subscribe();
        alerts.give(vec![crossing(Some(30)); WAITING_MAX + 1]);
        assert!(matches!(listener.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
        assert_eq!(listener.try_recv().expect("the next").percent, Some(100.0));
    }

    #[test]
    fn only_changes_of_the_running_bin_that_are_not_known_count() {
        let mut board = Board::new(vec![100], Default::default());
        let mut tree = Tree::default();
        tree.put(Space { space_id: 1, space_name: None, parent_space_id: None, building_room: None, capacity: Some(3) });
        board.load(900, tree, [(1, Cell { count: 1, ..Cell::ZERO })]);
        let change = |time, at, measure, count, diff| {
            let (key, cell) = (CellKey { space: 1, measure, time: at, other: 0 }, Cell { count, ..Cell::ZERO });
            Change { time, row: ViewRow::Cell { key, cell }, diff }
        };
        let measure = Measure::Devices(900);
        let complete = vec![
            change(5, 900, measure, 9, 1),
            change(6, 0, measure, 9, 1),
            change(6, 900, Measure::Visits, 9, 1),
            change(6, 900, measure, 1, -1),
            change(6, 900, measure, 2, 1),
        ];
        Taken { complete, open: Vec::new() }.hand_over(&mut board, measure, 900, 5);
        assert_eq!(board.look(), [], "two of three");
        let complete = vec![change(7, 900, measure, 2, -1), change(7, 900, measure, 3, 1)];
        Taken { complete, open: Vec::new() }.hand_over(&mut board, measure, 900, 5);
        assert_eq!(board.look().iter().map(|c| c.number).collect::<Vec<_>>(), [Some(3)]);
    }
}
