//! From changesets to what happens to the rows of each file.

use super::super::changeset::Changeset;
use super::tables::{self, JOURNEYS, JourneyFacts};
use desireline_connectors::dataset::{FileEdits, Key, Resolve, Row, Table, Touched, Value};
use desireline_dataflows::changes::{RowKey, View, ViewRow, Views};
use desireline_records::{Micros, SourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happened to one row of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// It is this now, or nothing.
    Row(Option<ViewRow>),
    /// Count and revenue are this now, if anything is known of it; then so much is added.
    Minute { cell: Option<(i64, i128)>, shift: (i64, i128) },
    /// The journey is this now, if anything is known of it; and so are the sessions that begin at these times.
    Journey { journey: Option<Option<ViewRow>>, sessions: BTreeMap<Micros, Option<ViewRow>> },
}

/// What of the sources' settings rows are printed by: whether transactions move journeys by their value.
pub type Settings = BTreeMap<SourceId, bool>;

type FileKey = (&'static str, String);

/// Changes of one changeset or of several on end, by file.
#[derive(Default)]
pub struct Edits {
    files: BTreeMap<FileKey, (&'static Table, BTreeMap<Key, Edit>)>,
    erased: BTreeSet<Key>,
    /// Sources whose journeys are printed differently now.
    reprinted: BTreeSet<Key>,
    rows: usize,
}

impl Edits {
    /// Takes up a changeset that follows those before it.
    pub fn add(&mut self, changes: &Changeset, views: Views, settings: &mut Settings) {
        for (source, user) in &changes.erased {
            self.erase(tables::user_prefix(*source, user));
        }
        for (key, row) in changes.entries() {
            match row {
                Some(ViewRow::Source(row)) => {
                    if settings.insert(row.source, row.transaction_value).unwrap_or_default() != row.transaction_value {
                        self.reprinted.insert(tables::source_prefix(row.source));
                    }
                }
                _ => self.add_row(key, row, views),
            }
        }
    }

    fn erase(&mut self, prefix: Key) {
        for (table, edits) in self.files.values_mut() {
            if tables::is_of_users(table) {
                let gone: Vec<Key> =
                    edits.range(&prefix..).map(|(key, _)| key).take_while(|key| key.0[..2] == prefix.0[..]).cloned().collect();
                self.rows -= gone.len();
                gone.iter().for_each(|key| drop(edits.remove(key)));
            }
        }
        self.erased.insert(prefix);
    }

    fn add_row(&mut self, key: &RowKey, row: Option<&ViewRow>, views: Views) {
        let Some(view) = key.view() else { return };
        if let (true, RowKey::Session(source, user, start)) = (views.has(View::Journeys), key) {
            let journey = RowKey::Journey(*source, user.clone());
            if let Edit::Journey { sessions, .. } = self.entry(&journey, empty_journey) {
                sessions.insert(*start, row.cloned());
            }
        }
        if !views.has(view) {
            return;
        }
        match (key, row) {
            (RowKey::Journey(..), _) => {
                if let Edit::Journey { journey, .. } = self.entry(key, empty_journey) {
                    *journey = Some(row.cloned());
                }
            }
            (RowKey::MinuteShift(..), Some(ViewRow::MinuteShift { count, revenue, .. })) => {
                if let Edit::Minute { shift, .. } = self.entry(key, empty_minute) {
                    *shift = (shift.0 + count, shift.1 + revenue);
                }
            }
            (RowKey::Minute(..), _) => {
                if let Edit::Minute { cell, .. } = self.entry(key, empty_minute) {
                    let (count, revenue) = if let Some(ViewRow::Minute { count, revenue, .. }) = row { (*count, *revenue) } else { (0, 0) };
                    *cell = Some((count, revenue));
                }
            }
            _ => {
                let edit = self.entry(key, || Edit::Row(None));
                let mut row = row.cloned();
                if let (Some(ViewRow::Event { content, .. }), Edit::Row(Some(ViewRow::Event { content: known, .. }))) = (&mut row, &*edit)
                    && content.0.is_none()
                {
                    *content = known.clone();
                }
                *edit = Edit::Row(row);
            }
        }
    }

    fn entry(&mut self, key: &RowKey, empty: impl FnOnce() -> Edit) -> &mut Edit {
        let (table, file, key) = tables::place(key).expect("only rows of views have edits");
        let (_, edits) = self.files.entry((table.name, file)).or_insert_with(|| (table, BTreeMap::new()));
        self.rows += usize::from(!edits.contains_key(&key));
        edits.entry(key).or_insert_with(empty)
    }

    /// Rows that something happens to, about.
    pub fn rows(&self) -> usize {
        self.rows + self.erased.len()
    }

    /// As files with their edits, rows that are looked at wherever they are, and the rule that decides.
    pub fn into_parts(self, all: &[&'static Table], settings: &Settings) -> (Vec<FileEdits<Edit>>, Vec<Touched>, Resolve<Edit>) {
        let files = self.files.into_iter().map(|((_, file), (table, edits))| FileEdits { table, file, edits }).collect();
        let mut touched = Vec::new();
        if !self.erased.is_empty() {
            let of_users = all.iter().filter(|table| tables::is_of_users(table));
            touched.extend(of_users.map(|table| Touched { table, prefixes: self.erased.clone() }));
        }
        if !self.reprinted.is_empty() && all.contains(&&JOURNEYS) {
            touched.push(Touched { table: &JOURNEYS, prefixes: self.reprinted });
        }
        let (erased, settings) = (self.erased, settings.clone());
        let resolve = move |table: &'static Table, key: &Key, known: Option<Row>, edit: Option<&Edit>| {
            let gone = !erased.is_empty() && tables::is_of_users(table) && erased.contains(&Key(key.0[..2].to_vec()));
            resolve(&settings, table, key, known.filter(|_| !gone), edit)
        };
        (files, touched, Arc::new(resolve))
    }
}

fn empty_journey() -> Edit {
    Edit::Journey { journey: None, sessions: BTreeMap::new() }
}

fn empty_minute() -> Edit {
    Edit::Minute { cell: None, shift: (0, 0) }
}

/// What stands under a key, by what stood there and what happened.
fn resolve(settings: &Settings, table: &'static Table, key: &Key, known: Option<Row>, edit: Option<&Edit>) -> Result<Option<Row>, String> {
    let whole = |columns: Row| -> Row { key.0.iter().cloned().chain(columns).collect() };
    match edit {
        None if *table == JOURNEYS => {
            known.map(|row| journey(settings, key, Some(&row), None, &BTreeMap::new())).transpose().map(Option::flatten)
        }
        None => Ok(known),
        Some(Edit::Row(None)) => Ok(None),
        Some(Edit::Row(Some(ViewRow::Event { session, content, .. }))) => match (&content.0, known) {
            (Some(event), _) => Ok(Some(whole(tables::event(event, *session)))),
            (None, Some(known)) => Ok(Some(tables::renumber(known, *session))),
            (None, None) => Err(format!("the event {:?} is not there, although its session has changed", key.0)),
        },
        Some(Edit::Row(Some(row))) => match tables::plain(row) {
            Some(columns) => Ok(Some(whole(columns))),
            None => Err(format!("a row of {} is of another view: {row:?}", table.name)),
        },
        Some(Edit::Minute { cell, shift }) => {
            let before = cell.unwrap_or_else(|| known.as_ref().map_or((0, 0), tables::minute_cell));
            let (count, revenue) = (before.0 + shift.0, before.1 + shift.1);
            let Some(Value::Time(minute)) = key.0.get(1) else { return Err(format!("a key of minutes is {:?}", key.0)) };
            Ok((count != 0 || revenue != 0).then(|| whole(tables::minute(*minute, count, revenue))))
        }
        Some(Edit::Journey { journey: now, sessions }) => journey(settings, key, known.as_ref(), now.as_ref(), sessions),
    }
}

fn journey(
    settings: &Settings,
    key: &Key,
    known: Option<&Row>,
    now: Option<&Option<ViewRow>>,
    sessions: &BTreeMap<Micros, Option<ViewRow>>,
) -> Result<Option<Row>, String> {
    let damaged = || format!("the journey {:?} cannot be understood", key.0);
    let mut facts = match known {
        Some(row) => JourneyFacts::of(row).ok_or_else(damaged)?,
        None => JourneyFacts::default(),
    };
    match now {
        Some(Some(ViewRow::Journey { journey, cluster, .. })) => (facts.journey, facts.cluster) = (*journey, *cluster),
        Some(_) => return Ok(None),
        None if known.is_none() => return Ok(None),
        None => {}
    }
    for (start, session) in sessions {
        facts.set_path(*start, session.as_ref());
    }
    let source = if let Some(Value::Int(source)) = key.0.first() { SourceId::try_from(*source).ok() } else { None };
    let transaction_value = source.and_then(|source| settings.get(&source)).copied().unwrap_or_default();
    Ok(Some(key.0.iter().cloned().chain(facts.columns(transaction_value)).collect()))
}
