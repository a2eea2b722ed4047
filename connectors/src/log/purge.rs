//! Erasure and retention, carried out: which objects hold rows of the users, or rows that are too old, and what becomes of each row.

use super::columns::{EventColumns, LetterColumns};
use super::error::LogError;
use super::manifest::Snapshot;
use super::object::{Object, SectionKind};
use super::offload;
use super::scan::{Piece, Shared, pieces};
use desireline_records::{CatalogEntry, Control, EraseUser, LogicalTime, Micros, Purged, SourceId};
use ecow::EcoString;
use std::collections::HashMap;
use std::sync::Arc;

/// A user whose rows up to `until` leave the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PurgeUser {
    pub source: SourceId,
    pub user: EcoString,
    /// Inclusive: the logical time of the erase record.
    pub until: LogicalTime,
    /// What the rows since an earlier erasure had been counted as; kept in the last erase record of the user up to `until`.
    pub purged: Purged,
    /// The user is one of the shop's: entries of the catalog about it go, too.
    pub in_catalog: bool,
}

/// WiFi sessions that began before a time leave the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PurgeStays {
    pub source: SourceId,
    pub start_before: Micros,
    /// Inclusive: the logical time of the last row that may leave.
    pub until: LogicalTime,
    /// The logical time of an erase record about nobody, which takes the counts.
    pub record: LogicalTime,
    /// What the rows had been counted as.
    pub purged: Purged,
}

#[derive(Clone, Debug)]
struct Target {
    until: LogicalTime,
    purged: Purged,
    in_catalog: bool,
    /// The time of the last erase record up to `until`; it takes the counts.
    erased_at: LogicalTime,
}

#[derive(Clone, Debug, Default)]
pub struct Purge {
    /// By source and user; the targets of a user who was erased more than once, by `until`.
    users: HashMap<SourceId, HashMap<EcoString, Vec<Target>>>,
    stays: Option<PurgeStays>,
    /// Nothing later is looked at.
    last: LogicalTime,
}

impl Purge {
    pub fn of(users: &[PurgeUser]) -> Self {
        let mut purge = Self::default();
        for PurgeUser { source, user, until, purged, in_catalog } in users.iter().filter(|user| !user.user.is_empty()) {
            let target = Target { until: *until, purged: *purged, in_catalog: *in_catalog, erased_at: 0 };
            purge.users.entry(*source).or_default().entry(user.clone()).or_default().push(target);
        }
        purge.last = users.iter().map(|user| user.until).max().unwrap_or(0);
        purge.users.values_mut().flat_map(HashMap::values_mut).for_each(|targets| targets.sort_by_key(|target| target.until));
        purge
    }

    pub fn of_stays(stays: PurgeStays) -> Self {
        Self { last: stays.until.max(stays.record), stays: Some(stays), ..Self::default() }
    }

    fn target(&self, source: SourceId, user: &str, time: LogicalTime) -> Option<&Target> {
        self.users.get(&source)?.get(user)?.iter().find(|target| time <= target.until)
    }

    fn target_mut(&mut self, source: SourceId, user: &str, time: LogicalTime) -> Option<&mut Target> {
        self.users.get_mut(&source)?.get_mut(user)?.iter_mut().find(|target| time <= target.until)
    }

    /// Whether an event goes.
    pub fn hits_event(&self, columns: &EventColumns, row: usize, time: LogicalTime) -> bool {
        self.hits(columns.source(row), columns.user.get(row), time) || self.is_old(columns.source(row), columns.time(row), time)
    }

    fn is_old(&self, source: SourceId, start: Micros, time: LogicalTime) -> bool {
        self.stays.as_ref().is_some_and(|stays| source == stays.source && start < stays.start_before && time <= stays.until)
    }

    /// Whether a row goes with its user.
    pub fn hits(&self, source: SourceId, user: &str, time: LogicalTime) -> bool {
        self.target(source, user, time).is_some()
    }

    /// Takes the users out of a record.
    pub fn rewrite(&self, control: &mut Control, time: LogicalTime) {
        match control {
            Control::Erase(erase) if self.takes_counts(erase, time) => erase.purged = self.stays.as_ref().map(|stays| stays.purged),
            Control::Erase(erase) => self.blank(erase, time),
            Control::Reopen(reopen) => {
                let source = reopen.source;
                for named in &mut reopen.devices {
                    named.stays.retain(|stay| !self.is_old(source, stay.start, time));
                    if self.hits(source, &named.device, time) {
                        (named.device, named.stays) = (EcoString::new(), Vec::new());
                    }
                }
            }
            Control::MatrixRows(rows) => {
                let named: Vec<EcoString> = rows.keys.iter().chain(&rows.gone).filter(|key| self.is_thing(key, time)).cloned().collect();
                if !named.is_empty() {
                    let rows = Arc::make_mut(rows);
                    for key in &named {
                        rows.forget(key);
                    }
                }
            }
            control if self.is_about_person(control, time) => *control = Control::Removed,
            _ => {}
        }
    }

    fn is_about_person(&self, control: &Control, time: LogicalTime) -> bool {
        let Control::Catalog(CatalogEntry::Person(person)) = control else { return false };
        let name = person.id.to_string();
        let targets = self.users.values().filter_map(|users| users.get(name.as_str()));
        targets.flatten().any(|target| target.in_catalog && time <= target.until)
    }

    /// Whether a thing of a label matrix is one of the users: things of the views are users, whatever their source.
    fn is_thing(&self, key: &str, time: LogicalTime) -> bool {
        self.users.values().filter_map(|users| users.get(key)).flatten().any(|target| time <= target.until)
    }

    /// Whether the record brings back sealed sessions that leave, or says how a user was judged.
    fn is_named_in(&self, control: &Control, time: LogicalTime) -> bool {
        if let Control::MatrixRows(rows) = control {
            return rows.keys.iter().chain(&rows.gone).any(|key| self.is_thing(key, time));
        }
        let Control::Reopen(reopen) = control else { return false };
        reopen.devices.iter().any(|named| {
            self.hits(reopen.source, &named.device, time) || named.stays.iter().any(|stay| self.is_old(reopen.source, stay.start, time))
        })
    }

    fn takes_counts(&self, erase: &EraseUser, time: LogicalTime) -> bool {
        erase.user.is_empty() && self.stays.as_ref().is_some_and(|stays| stays.record == time && stays.source == erase.source)
    }

    /// Blanks an erase record of one of the users.
    fn blank(&self, erase: &mut EraseUser, time: LogicalTime) {
        let Some(target) = self.target(erase.source, &erase.user, time) else { return };
        let counted = if time == target.erased_at { target.purged } else { Purged::default() };
        erase.user = EcoString::new();
        erase.sealed_minutes = Vec::new();
        erase.purged = Some(counted);
    }

    /// Whether the object holds anything of the users; notes their erase records.
    fn touches(&mut self, object: &Object) -> Result<bool, LogError> {
        let mut touched = false;
        let times = |count: fn(&super::object::Frame) -> u32| {
            object.header.frames.iter().flat_map(move |frame| std::iter::repeat_n(frame.time, count(frame) as usize))
        };
        let mut event_times = times(|frame| frame.events);
        for section in object.sections(SectionKind::Events) {
            let columns: EventColumns = object.events(section)?;
            for (row, time) in (0..columns.len()).zip(event_times.by_ref()) {
                touched |= self.hits_event(&columns, row, time);
            }
        }
        let mut letter_times = times(|frame| frame.dead_letters);
        for section in object.sections(SectionKind::DeadLetters) {
            let columns: LetterColumns = object.letters(section)?;
            for (row, time) in (0..columns.len()).zip(letter_times.by_ref()) {
                touched |= self.hits(columns.source(row), columns.user.get(row), time);
            }
        }
        for (control, time) in object.controls()?.iter().zip(times(|frame| frame.controls)) {
            touched |= self.is_about_person(control, time) || self.is_named_in(control, time);
            touched |= matches!(control, Control::Erase(erase) if self.takes_counts(erase, time));
            if let Control::Erase(erase) = control
                && let Some(target) = self.target_mut(erase.source, &erase.user, time)
            {
                touched = true;
                target.erased_at = time;
            }
        }
        Ok(touched)
    }
}

/// The first numbers of all objects that hold something that goes, ascending.
pub async fn find(shared: &Arc<Shared>, snapshot: &Snapshot, mut purge: Purge) -> Result<(Purge, Vec<u64>), LogError> {
    let last = purge.last;
    let mut affected = Vec::new();
    for piece in pieces(snapshot) {
        let object = match &piece {
            Piece::Part(info) if info.time_first > last => break,
            Piece::Part(info) => shared.part(info).await?,
            Piece::Segment(live) => shared.segment(live).await?,
        };
        if object.header.time_first > last {
            break;
        }
        let touched;
        (purge, touched) = offload(object.byte_len(), move || {
            let touched = purge.touches(&object)?;
            Ok((purge, touched))
        })
        .await?;
        if touched {
            affected.push(piece.seq_first());
        }
    }
    Ok((purge, affected))
}
