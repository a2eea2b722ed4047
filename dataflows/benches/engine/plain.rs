//! The limit: the same answers by a plain loop over hash maps, without a dataflow, retractions, queries or followers.

use desireline_records::time::MINUTE;
use desireline_records::{Batch, EventId, Micros, Movement};
use ecow::EcoString;
use hashbrown::HashMap;

#[derive(Clone, Copy)]
struct Row {
    time: Micros,
    id: EventId,
    value: i64,
    kind: u32,
}

#[derive(Default)]
struct User {
    /// By (time, id).
    rows: Vec<Row>,
    /// Where the second and later sessions begin.
    starts: Vec<u32>,
    moves: [i64; 3],
    value: i128,
}

#[derive(Default)]
pub struct Plain {
    users: HashMap<EcoString, User>,
    kinds: HashMap<(EcoString, EcoString), u32>,
    minutes: HashMap<(Micros, u32), (i64, i128)>,
    pub duplicates: u64,
}

const LIMIT: Micros = 20 * MINUTE;

impl Plain {
    pub fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            let user = self.users.entry_ref(&event.user).or_default();
            let order = (event.time, event.id);
            let at = match user.rows.last() {
                Some(last) if (last.time, last.id) >= order => user.rows.partition_point(|row| (row.time, row.id) < order),
                _ => user.rows.len(),
            };
            if user.rows.get(at).is_some_and(|row| row.id == event.id) {
                self.duplicates += 1;
                continue;
            }
            let kind = match self.kinds.get(&(event.page.clone(), event.event_type.clone())) {
                Some(kind) => *kind,
                None => {
                    let kind = self.kinds.len() as u32;
                    self.kinds.insert((event.page.clone(), event.event_type.clone()), kind);
                    kind
                }
            };
            let value = if event.movement == Movement::Transaction { event.value.0 } else { 0 };
            user.rows.insert(at, Row { time: event.time, id: event.id, value, kind });
            user.recut(at);
            if event.movement != Movement::None {
                user.moves[event.movement as usize - 1] += 1;
            }
            user.value += i128::from(value);
            let cell = self.minutes.entry((event.time - event.time % MINUTE, kind)).or_default();
            cell.0 += 1;
            cell.1 += i128::from(value);
        }
    }

    /// (users, events, sessions, views, revenue, cells): must equal the engine's.
    pub fn totals(&self) -> [i128; 6] {
        let mut totals = [0; 6];
        for user in self.users.values() {
            totals[0] += 1;
            totals[1] += user.rows.len() as i128;
            totals[2] += user.starts.len() as i128 + 1;
            totals[3] += i128::from(user.moves[0]);
            totals[4] += user.rows.iter().map(|row| i128::from(row.value)).sum::<i128>();
            assert_eq!(user.value, user.rows.iter().map(|row| i128::from(row.value)).sum::<i128>());
            assert!(user.rows.iter().all(|row| (row.kind as usize) < self.kinds.len()));
        }
        totals[5] = self.minutes.len() as i128;
        totals
    }
}

impl User {
    /// Cuts again from the session that the row inserted at `at` falls into until the cut is the one that was.
    fn recut(&mut self, at: usize) {
        let keep = self.starts.partition_point(|start| (*start as usize) < at);
        let mut anchor = if keep == 0 { 0 } else { self.starts[keep - 1] as usize };
        if keep == self.starts.len() {
            for next in at.max(anchor + 1)..self.rows.len() {
                if self.rows[next].time - self.rows[anchor].time > LIMIT {
                    self.starts.push(next as u32);
                    anchor = next;
                }
            }
            return;
        }
        let old = self.starts.split_off(keep);
        for next in at.max(anchor + 1)..self.rows.len() {
            if self.rows[next].time - self.rows[anchor].time > LIMIT {
                if next > at
                    && let Ok(same) = old.binary_search(&(next as u32 - 1))
                {
                    self.starts.extend(old[same..].iter().map(|start| start + 1));
                    return;
                }
                self.starts.push(next as u32);
                anchor = next;
            }
        }
    }
}
