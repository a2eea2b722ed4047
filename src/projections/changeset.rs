//! What a target has to do to come from one time to a later one: at most one change of each row, the last.

use desireline_dataflows::changes::{Change, RowKey, ViewRow};
use desireline_records::{LogicalTime, SourceId};
use ecow::EcoString;
use std::collections::{BTreeSet, HashMap};

/// Changes up to a time, consolidated by key. First everything of the erased users goes, then rows are put and taken away.
#[derive(Clone, Debug, Default)]
pub struct Changeset {
    /// The target is true at this time once it has applied the changes.
    pub time: LogicalTime,
    pub erased: BTreeSet<(SourceId, EcoString)>,
    /// The row that stands under a key now; nothing where there is none any more.
    pub rows: HashMap<RowKey, Option<ViewRow>>,
    /// Changes that went into it.
    pub changes: u64,
}

impl Changeset {
    /// Takes a change up. Changes of a key come in order.
    pub fn add(&mut self, change: Change) {
        self.changes += 1;
        let key = change.row.key();
        if let (ViewRow::MinuteShift { count, revenue, .. }, Some(Some(ViewRow::MinuteShift { count: known, revenue: sum, .. }))) =
            (&change.row, self.rows.get_mut(&key))
        {
            *known += count;
            *sum += revenue;
            return;
        }
        if let RowKey::Erased(source, user) = key {
            self.rows.retain(|key, _| key.user() != Some((source, &user)));
            self.erased.insert((source, user));
            return;
        }
        if change.diff < 0 {
            // The event behind a row stays known while only the number of its session changes.
            let row = self.rows.entry(key).or_default();
            let content = row.take().filter(|row| matches!(row, ViewRow::Event { content, .. } if content.0.is_some()));
            *row = content.map(taken);
            return;
        }
        let mut row = change.row;
        if let ViewRow::Event { content, .. } = &mut row
            && content.0.is_none()
            && let Some(Some(ViewRow::Event { content: known, .. })) = self.rows.get(&key)
        {
            *content = known.clone();
        }
        self.rows.insert(key, Some(row));
    }

    pub fn len(&self) -> usize {
        self.rows.len() + self.erased.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.erased.is_empty()
    }

    /// Every key with the row that stands under it now, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&RowKey, Option<&ViewRow>)> {
        self.rows.iter().map(|(key, row)| (key, row.as_ref().filter(|row| !is_taken(row))))
    }

    /// Rows that stand, in no order.
    pub fn put(&self) -> impl Iterator<Item = &ViewRow> {
        self.entries().filter_map(|(_, row)| row)
    }

    /// Keys under which nothing stands any more, in no order.
    pub fn taken(&self) -> impl Iterator<Item = &RowKey> {
        self.entries().filter(|(_, row)| row.is_none()).map(|(key, _)| key)
    }
}

/// Sessions are numbered from 1: 0 marks an event that is taken away, as far as it goes.
fn taken(mut row: ViewRow) -> ViewRow {
    if let ViewRow::Event { session, .. } = &mut row {
        *session = 0;
    }
    row
}

fn is_taken(row: &ViewRow) -> bool {
    matches!(row, ViewRow::Event { session: 0, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_dataflows::changes::Content;
    use desireline_records::{Event, EventId, Fixed4, Movement};
    use std::sync::Arc;

    fn content() -> Content {
        Content(Some(Arc::new(Event {
            source: 1,
            movement: Movement::View,
            late: false,
            time: 5,
            id: EventId::explicit("a"),
            value: Fixed4(0),
            user: "u".into(),
            event_type: "view".into(),
            page: "".into(),
            item: "".into(),
            extra: None,
            stay: None,
        })))
    }

    fn event(session: u32, content: Content) -> ViewRow {
        ViewRow::Event { source: 1, user: "u".into(), id: EventId::explicit("a"), time: 5, session, content }
    }

    fn add(set: &mut Changeset, row: ViewRow, diff: i64) {
        set.add(Change { time: 1, row, diff });
    }

    #[test]
    fn the_last_change_counts_and_the_event_stays_known() {
        let mut set = Changeset::default();
        add(&mut set, event(1, content()), 1);
        add(&mut set, event(1, Content::default()), -1);
        add(&mut set, event(2, Content::default()), 1);
        let rows: Vec<_> = set.put().collect();
        assert!(matches!(rows[..], [ViewRow::Event { session: 2, content: Content(Some(_)), .. }]), "{rows:?}");
        add(&mut set, event(2, Content::default()), -1);
        assert_eq!((set.put().count(), set.taken().count(), set.changes), (0, 1, 4));
    }

    #[test]
    fn an_erasure_forgets_what_came_before_it() {
        let mut set = Changeset::default();
        add(&mut set, event(1, content()), 1);
        add(&mut set, ViewRow::Erased { source: 1, user: "u".into() }, -1);
        assert_eq!((set.rows.len(), set.erased.len()), (0, 1));
        add(&mut set, event(1, content()), 1);
        assert_eq!(set.put().count(), 1, "the user may come again");
    }
}
