//! Commands of the log, as they change users: settings, deletions, erasures, seals.

use super::history::OpenEvent;
use super::rows::{UserDiff, sealable, step};
use super::state::{Outcome, SessionsState};
use crate::changes::{ChangeLog, ViewRow};
use crate::views::context::ContextUpdate;
use crate::views::journeys::{Journey, UserKey};
use crate::views::minutes::MinuteUpdate;
use desireline_records::{ColdPart, Control, EraseUser, EventId, LogicalTime, Micros, Seal, SourceId, SourceSettings};
use ecow::EcoString;
use std::collections::BTreeMap;
use std::sync::Arc;

impl SessionsState {
    /// Applies the controls of one batch, in order. Deletions that follow one another share one pass over the users.
    pub fn control(&mut self, controls: &[Control], time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        let mut deletions: BTreeMap<SourceId, Vec<EventId>> = BTreeMap::new();
        for control in controls {
            if let Control::DeleteEvent { source, id } = control {
                deletions.entry(*source).or_default().push(*id);
                continue;
            }
            self.delete(std::mem::take(&mut deletions), time, changes, out);
            match control {
                Control::Settings(settings) => self.set(settings, time, changes, out),
                Control::Erase(erase) => self.erase(erase, time, changes, out),
                Control::Seal(seal) => self.seal(seal, out),
                Control::ReplaceCold { source, removed, added } => self.replace_cold(*source, removed, added),
                Control::DeleteEvent { .. }
                | Control::Model(_)
                | Control::Partition(_)
                | Control::SkipRow { .. }
                | Control::Run { .. }
                | Control::Catalog(_)
                | Control::Removed
                | Control::Space(_)
                | Control::SpaceRemoved { .. }
                | Control::SealFrom(_)
                | Control::SealStays(_)
                | Control::ReplaceStays(_)
                | Control::Reopen(_)
                | Control::Document { .. }
                | Control::Matrix(_)
                | Control::MatrixRemoved { .. }
                | Control::MatrixRows(_)
                | Control::MatrixModel(_)
                | Control::Projection { .. } => {}
            }
        }
        self.delete(deletions, time, changes, out);
    }

    fn set(&mut self, settings: &SourceSettings, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        if changes.followed() && self.worker == 0 {
            changes.push(time, ViewRow::Source(Arc::new(settings.clone())), 1);
        }
        let source = self.source(settings.source);
        let before = source.cut();
        source.settings = settings.clone();
        let cut = source.cut();
        if before == cut {
            return;
        }
        for slot in self.slots_of(settings.source) {
            let user = &mut self.users[slot as usize];
            let followed = UserDiff::before(user, &self.kinds, Micros::MIN, changes);
            let had = user.history.sessions() as i64;
            user.history.recut_all(cut);
            let sessions = user.history.sessions() as i64;
            if sessions != had {
                out.journeys.push((UserKey { source: settings.source, slot }, Journey::of_sessions(sessions - had)));
            }
            if let Some(diff) = followed {
                diff.after(user, &self.kinds, time, changes, |_| None);
            }
            let source = self.source(settings.source);
            source.open_sessions = (source.open_sessions as i64 + sessions - had) as u64;
        }
    }

    fn delete(&mut self, deletions: BTreeMap<SourceId, Vec<EventId>>, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        for (source, mut ids) in deletions {
            ids.sort_unstable();
            for slot in self.slots_of(source) {
                let hit = |e: &OpenEvent| ids.binary_search(&e.id).is_ok();
                if !self.users[slot as usize].history.events().iter().any(hit) {
                    continue;
                }
                let removed = self.take_back(slot, hit, time, changes, out);
                let deleted = self.users[slot as usize].deleted.get_or_insert_default();
                deleted.extend(removed.iter().map(|e| (e.id, e.time)));
            }
        }
    }

    fn erase(&mut self, erase: &EraseUser, time: LogicalTime, changes: &mut ChangeLog, out: &mut Outcome) {
        if erase.user.is_empty() {
            // Carried out physically: the rows are gone from the log, only their counts remain.
            if let (Some(purged), 0) = (&erase.purged, self.worker) {
                self.source(erase.source).counts.add_purged(purged);
            }
            return;
        }
        self.source(erase.source).erased.insert(erase.user.clone(), time);
        let hash = desireline_records::user_hash(erase.source, &erase.user);
        if !self.owns(hash) {
            return;
        }
        out.sealed_minutes.extend(erase.sealed_minutes.iter().map(|cell| MinuteUpdate::retracting(erase.source, cell)));
        if changes.followed() {
            changes.push(time, ViewRow::Erased { source: erase.source, user: erase.user.clone() }, -1);
        }
        let Some(slot) = self.find(hash, erase.source, &erase.user) else { return };
        if self.source(erase.source).settings.context.is_some() {
            out.contexts.push(ContextUpdate::Forgotten { source: erase.source, slot });
        }
        let sealed = self.users[slot as usize].sealed.take();
        self.users[slot as usize].deleted = None;
        let open = !self.users[slot as usize].history.is_empty();
        self.take_back(slot, |_| true, time, changes, out);
        if let Some(sealed) = sealed {
            out.journeys.push((UserKey { source: erase.source, slot }, sealed.journey.negated()));
            let source = self.source(erase.source);
            source.sealed_sessions -= sealed.journey.sessions as u64;
            source.counts.deleted += sealed.events;
            source.users -= u64::from(!open);
        }
        self.drop_if_gone(slot);
    }

    fn seal(&mut self, seal: &Seal, out: &mut Outcome) {
        let source = self.source(seal.source);
        source.boundary = Some(source.boundary.map_or(seal.boundary, |b| b.max(seal.boundary)));
        source.cold.extend(seal.parts.iter().cloned());
        let (limit, keeps_context) = (source.settings.session_limit, source.settings.context.is_some());
        for slot in self.slots_of(seal.source) {
            let user = &mut self.users[slot as usize];
            if let Some(deleted) = &mut user.deleted {
                deleted.retain(|_, time| *time + limit >= seal.boundary);
                if deleted.is_empty() {
                    user.deleted = None;
                }
            }
            let sessions = sealable(&user.history, limit, seal.boundary);
            if sessions > 0 {
                let removed = user.history.seal(sessions);
                if let (true, Some(last)) = (keeps_context, removed.last()) {
                    out.contexts.push(ContextUpdate::Sealed { source: seal.source, slot, time: last.time, id: last.id });
                }
                let sealed = user.sealed.get_or_insert_default();
                sealed.events += removed.len() as u64;
                let mut journey = Journey::of_sessions(sessions as i64);
                let mut value = 0i128;
                for event in &removed {
                    step(&mut journey, self.kinds.movement(event.kind), 1);
                    value += i128::from(event.value);
                    self.kinds.release(event.kind);
                }
                journey.set_value(value);
                sealed.journey.add(&journey);
                let source = self.source(seal.source);
                source.open_events -= removed.len() as u64;
                source.open_sessions -= sessions as u64;
                source.sealed_sessions += sessions as u64;
            }
            self.drop_if_gone(slot);
        }
    }

    fn replace_cold(&mut self, source: SourceId, removed: &[EcoString], added: &[ColdPart]) {
        let cold = &mut self.source(source).cold;
        cold.retain(|part| !removed.contains(&part.name));
        cold.extend(added.iter().cloned());
    }
}
