//! The open history of one user: its events in order, and where its sessions begin.
//!
//! Events are sorted by (time, id) and unique by id. The cut into sessions is a function of the events alone: it is kept,
//! not recomputed, and every change re-cuts only from the session it touches until the old and the new cut agree again.
//! Appending an event costs O(1); a late event costs the move of the events behind it plus the sessions it disturbs.

use desireline_records::{EventId, Micros, SessionRule};
use hashbrown::HashMap;

/// One open event, as small as it can be and still be retracted: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenEvent {
    pub time: Micros,
    pub id: EventId,
    /// Ten-thousandths; 0 unless the event is a transaction.
    pub value: i64,
    /// Its (page, event type, movement), see [`super::kinds`].
    pub kind: u32,
    /// Differs when a duplicate says something else.
    pub payload: u32,
}

impl OpenEvent {
    fn order(&self) -> (Micros, EventId) {
        (self.time, self.id)
    }
}

/// A session rule with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub rule: SessionRule,
    pub limit: Micros,
}

impl Cut {
    /// Whether an event opens a new session, given the first and the last event of the session before it. Strict: exactly the
    /// limit does not.
    pub fn opens(&self, first: Micros, last: Micros, time: Micros) -> bool {
        match self.rule {
            SessionRule::FromFirst => time - first > self.limit,
            SessionRule::Gap => time - last > self.limit,
        }
    }
}

/// Above this many events a user gets an index by id, so that looking for a duplicate stays O(1).
const INDEXED_ABOVE: usize = 48;

/// A place where events were added or removed, as the change of indices that it causes.
#[derive(Clone, Copy, Debug, Default)]
struct Edit {
    /// The index now of the first event that the edit can cut differently.
    at: usize,
    /// The index now of the first event behind the edit that was there before.
    behind: usize,
    /// How much further back that event, and those up to the next edit, are than before.
    shift: i64,
}

#[derive(Debug, Default)]
pub struct History {
    events: Vec<OpenEvent>,
    /// Where the second and later sessions begin; the first begins at 0.
    starts: Vec<u32>,
    index: Option<Box<HashMap<EventId, Micros>>>,
}

impl History {
    pub fn events(&self) -> &[OpenEvent] {
        &self.events
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn sessions(&self) -> usize {
        if self.events.is_empty() { 0 } else { self.starts.len() + 1 }
    }

    /// The events of a session, numbered from 0.
    pub fn session(&self, number: usize) -> &[OpenEvent] {
        let end = self.starts.get(number).map_or(self.events.len(), |s| *s as usize);
        &self.events[self.start(number)..end]
    }

    fn start(&self, number: usize) -> usize {
        if number == 0 { 0 } else { self.starts[number - 1] as usize }
    }

    /// The open event with this id.
    pub fn find(&self, id: EventId) -> Option<&OpenEvent> {
        match &self.index {
            Some(index) => {
                let time = *index.get(&id)?;
                let at = self.events.binary_search_by_key(&(time, id), OpenEvent::order).ok()?;
                self.events.get(at)
            }
            None => self.events.iter().find(|e| e.id == id),
        }
    }

    /// The number of the first session that a change at or after `time` can touch: rows before it stay as they are.
    pub fn first_touched(&self, time: Micros) -> usize {
        let at = self.events.partition_point(|e| e.time < time);
        if at == 0 { 0 } else { self.session_of(at - 1) }
    }

    fn session_of(&self, at: usize) -> usize {
        self.starts.partition_point(|s| *s as usize <= at)
    }

    /// Adds events, sorted by (time, id), whose ids are new to this history.
    pub fn insert(&mut self, new: &[OpenEvent], cut: Cut) {
        let Some(first) = new.first() else { return };
        let old_len = self.events.len();
        self.events.reserve_exact(if old_len < 4 { new.len() } else { new.len().max(old_len / 4) });
        self.events.extend_from_slice(new);
        self.note_in_index(new);
        if old_len == 0 || self.events[old_len - 1].order() < first.order() {
            let anchor = self.starts.last().map_or(0, |start| *start as usize);
            self.cut_to_end(anchor, old_len, cut);
        } else {
            let edits = self.merge_tail(old_len, new);
            self.recut(&edits, cut);
        }
    }

    /// Merges `new`, which lies behind the `old_len` sorted events, into them: block by block, from the back and in place.
    fn merge_tail(&mut self, old_len: usize, new: &[OpenEvent]) -> Vec<Edit> {
        let mut edits = vec![Edit::default(); new.len()];
        let mut end = old_len;
        for (before, event) in new.iter().enumerate().rev() {
            let place = self.events[..end].partition_point(|e| e.order() < event.order());
            self.events.copy_within(place..end, place + before + 1);
            let at = place + before;
            self.events[at] = *event;
            edits[before] = Edit { at, behind: at + 1, shift: before as i64 + 1 };
            end = place;
        }
        edits
    }

    fn note_in_index(&mut self, new: &[OpenEvent]) {
        match &mut self.index {
            Some(index) => index.extend(new.iter().map(|e| (e.id, e.time))),
            None if self.events.len() > INDEXED_ABOVE => self.index = Some(Box::new(self.events.iter().map(|e| (e.id, e.time)).collect())),
            None => {}
        }
    }

    /// Removes the events that `remove` picks and returns them.
    pub fn remove(&mut self, mut remove: impl FnMut(&OpenEvent) -> bool, cut: Cut) -> Vec<OpenEvent> {
        let mut removed = Vec::new();
        let mut edits = Vec::new();
        let mut kept = 0;
        for at in 0..self.events.len() {
            let event = self.events[at];
            if remove(&event) {
                removed.push(event);
                edits.push(Edit { at: kept, behind: kept, shift: -(removed.len() as i64) });
                if let Some(index) = &mut self.index {
                    index.remove(&event.id);
                }
            } else {
                self.events[kept] = event;
                kept += 1;
            }
        }
        self.events.truncate(kept);
        self.recut(&edits, cut);
        removed
    }

    /// Removes the first `sessions` sessions; the rest keep their cut.
    pub fn seal(&mut self, sessions: usize) -> Vec<OpenEvent> {
        let end = if sessions >= self.sessions() { self.events.len() } else { self.start(sessions) };
        let removed: Vec<OpenEvent> = self.events.drain(..end).collect();
        self.events.shrink_to_fit();
        self.starts.drain(..sessions.min(self.starts.len()));
        for start in &mut self.starts {
            *start -= end as u32;
        }
        self.starts.shrink_to_fit();
        if self.events.len() <= INDEXED_ABOVE {
            self.index = None;
        } else if let Some(index) = &mut self.index {
            removed.iter().for_each(|e| {
                index.remove(&e.id);
            });
        }
        removed
    }

    /// Cuts everything again, after a change of the rule.
    pub fn recut_all(&mut self, cut: Cut) {
        self.starts.clear();
        self.cut_to_end(0, 0, cut);
    }

    /// Re-cuts after edits, in order of their places. Behind each edit the cut is made anew until it agrees with the old one, which
    /// then holds up to the next edit.
    fn recut(&mut self, edits: &[Edit], cut: Cut) {
        let Some(first) = edits.first() else { return };
        let keep = self.starts.partition_point(|start| (*start as usize) < first.at);
        let old = self.starts.split_off(keep);
        let mut anchor = self.starts.last().map_or(0, |start| *start as usize);
        let mut at = first.at.max(anchor + 1);
        let mut edit = 0;
        while at < self.events.len() {
            while edits.get(edit + 1).is_some_and(|next| next.at <= at) {
                edit += 1;
            }
            if !cut.opens(self.events[anchor].time, self.events[at - 1].time, self.events[at].time) {
                at += 1;
                continue;
            }
            anchor = at;
            self.starts.push(at as u32);
            at += 1;
            let Edit { behind, shift, .. } = edits[edit];
            let was = u32::try_from(anchor as i64 - shift).ok().filter(|_| anchor >= behind);
            let Some(Ok(same)) = was.map(|was| old.binary_search(&was)) else { continue };
            let until = edits.get(edit + 1).map_or(usize::MAX, |next| next.at);
            let moved = old[same + 1..].iter().map(|start| (i64::from(*start) + shift) as u32);
            self.starts.extend(moved.take_while(|start| (*start as usize) < until));
            if until == usize::MAX {
                return;
            }
            anchor = self.starts.last().map_or(anchor, |start| *start as usize);
            at = until.max(anchor + 1);
        }
    }

    fn cut_to_end(&mut self, mut anchor: usize, first: usize, cut: Cut) {
        for at in first.max(anchor + 1)..self.events.len() {
            if cut.opens(self.events[anchor].time, self.events[at - 1].time, self.events[at].time) {
                self.starts.push(at as u32);
                anchor = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::MINUTE;
    use proptest::prelude::*;

    fn event(time: Micros, id: u64) -> OpenEvent {
        OpenEvent { time, id: EventId([0, id]), value: 0, kind: 0, payload: 0 }
    }

    /// The slow twin: sort, then walk.
    fn reference(events: &[OpenEvent], cut: Cut) -> Vec<Vec<OpenEvent>> {
        let mut events = events.to_vec();
        events.sort_by_key(OpenEvent::order);
        let mut sessions: Vec<Vec<OpenEvent>> = Vec::new();
        for event in events {
            match sessions.last_mut() {
                Some(s) if !cut.opens(s[0].time, s[s.len() - 1].time, event.time) => s.push(event),
                _ => sessions.push(vec![event]),
            }
        }
        sessions
    }

    fn cut_of(history: &History) -> Vec<Vec<OpenEvent>> {
        (0..history.sessions()).map(|n| history.session(n).to_vec()).collect()
    }

    const FROM_FIRST: Cut = Cut { rule: SessionRule::FromFirst, limit: 20 * MINUTE };
    const GAP: Cut = Cut { rule: SessionRule::Gap, limit: 20 * MINUTE };

    #[test]
    fn the_two_rules_differ_where_they_should() {
        let events = [event(0, 1), event(15 * MINUTE, 2), event(30 * MINUTE, 3)];
        let mut history = History::default();
        history.insert(&events, FROM_FIRST);
        assert_eq!(history.sessions(), 2);
        history.recut_all(GAP);
        assert_eq!(history.sessions(), 1);
    }

    #[test]
    fn exactly_the_limit_stays() {
        let mut history = History::default();
        history.insert(&[event(0, 1), event(20 * MINUTE, 2)], FROM_FIRST);
        assert_eq!(history.sessions(), 1);
        history.insert(&[event(20 * MINUTE + 1, 3)], FROM_FIRST);
        assert_eq!(history.sessions(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// Any sequence of disordered inserts, removals, seals and rule changes cuts like the slow twin.
        #[test]
        fn every_change_cuts_like_the_reference(
            steps in prop::collection::vec((0u8..10, prop::collection::vec((0i64..90, 0u64..400), 1..12)), 1..16),
            gap in any::<bool>(),
        ) {
            let mut cut = if gap { GAP } else { FROM_FIRST };
            let mut history = History::default();
            let mut model: Vec<OpenEvent> = Vec::new();
            let mut boundary = i64::MIN;
            for (kind, batch) in steps {
                match kind {
                    0..=6 => {
                        let mut new: Vec<OpenEvent> = Vec::new();
                        for (minute, id) in batch {
                            let known = history.find(EventId([0, id])).is_some() || new.iter().any(|e| e.id == EventId([0, id]));
                            if !known && minute * MINUTE >= boundary {
                                new.push(event(minute * MINUTE, id));
                            }
                        }
                        new.sort_by_key(OpenEvent::order);
                        history.insert(&new, cut);
                        model.extend(new);
                    }
                    7 => {
                        let gone: Vec<u64> = batch.iter().map(|b| b.1 % 60).collect();
                        let removed = history.remove(|e| gone.contains(&(e.id.0[1] % 60)), cut);
                        let before = model.len();
                        model.retain(|e| !gone.contains(&(e.id.0[1] % 60)));
                        prop_assert_eq!(removed.len(), before - model.len());
                    }
                    8 => {
                        cut = if cut == GAP { FROM_FIRST } else { GAP };
                        history.recut_all(cut);
                    }
                    _ => {
                        boundary = boundary.max(batch[0].0 * MINUTE);
                        let sealed = (0..history.sessions())
                            .take_while(|n| history.session(*n).last().is_some_and(|e| e.time + cut.limit < boundary))
                            .count();
                        let removed = history.seal(sealed);
                        model.retain(|e| !removed.contains(e));
                    }
                }
                prop_assert_eq!(cut_of(&history), reference(&model, cut));
                for e in &model {
                    prop_assert_eq!(history.find(e.id), Some(e));
                }
            }
        }
    }
}
