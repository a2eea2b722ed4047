//! Change streams: what followers of views consume.
//!
//! A follower subscribes to several views at once and gets every change of them `(row, time, ±1)`, in the order of times, with a mark
//! when a time is complete on every worker: what stands between two marks is true together. It begins with the rows of its views at
//! the time of its subscription, or, when it knows all up to some time already, with the first change after that time. While nobody
//! subscribes to a view its operators produce no rows at all.
//!
//! A row has a key ([`ViewRow::key`]) under which a target keeps it; a change of a row is the old row with -1 and then the new one with
//! +1, so that the last change of a key says what is there. Erasures come as [`ViewRow::Erased`]: whatever a target has of that user
//! goes, also rows of sealed sessions, which views do not hold any more.
//!
//! Streams are bounded by rows: a follower that falls behind loses its subscription ([`crate::engine::Next::Lost`]) and reads what it
//! has missed from the log, through an engine of its own.

use crate::views::journeys::Journey;
use desireline_records::{
    Cell, CellKey, Event, EventId, Item, LogicalTime, Micros, Person, Product, SourceId, SourceSettings, Space, SpaceId,
};
use ecow::EcoString;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

/// The views that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// Accepted events with the number of their session.
    Events,
    Sessions,
    Journeys,
    /// Centroids of the models in force.
    Clusters,
    Minutes,
    /// Recent items and categories of each user of sources that keep contexts.
    Context,
    /// Items, products and users.
    Catalog,
    /// What is counted of WiFi sessions, by the space that they were in; sums over the space tree are for the follower.
    Occupancy,
    /// The space tree.
    Spaces,
}

impl View {
    pub const ALL: [Self; 9] = [
        Self::Events,
        Self::Sessions,
        Self::Journeys,
        Self::Clusters,
        Self::Minutes,
        Self::Context,
        Self::Catalog,
        Self::Occupancy,
        Self::Spaces,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Sessions => "sessions",
            Self::Journeys => "journeys",
            Self::Clusters => "clusters",
            Self::Minutes => "minutes",
            Self::Context => "context",
            Self::Catalog => "catalog",
            Self::Occupancy => "occupancy",
            Self::Spaces => "spaces",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.word() == word)
    }
}

/// A set of views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Views(u16);

impl Views {
    pub fn has(self, view: View) -> bool {
        self.0 & (1 << view as u8) != 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = View> {
        View::ALL.into_iter().filter(move |view| self.has(*view))
    }
}

impl FromIterator<View> for Views {
    fn from_iter<T: IntoIterator<Item = View>>(views: T) -> Self {
        Self(views.into_iter().fold(0, |set, view| set | (1 << view as u8)))
    }
}

impl From<View> for Views {
    fn from(view: View) -> Self {
        Self::from_iter([view])
    }
}

/// The event behind a row. Comes with the change that brings the event; a later change of its session number is without it.
/// Rows are compared without it: it is a function of the row's key.
#[derive(Clone, Debug, Default)]
pub struct Content(pub Option<Arc<Event>>);

impl PartialEq for Content {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Content {}

impl PartialOrd for Content {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Content {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// Six features, told apart by their bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Features([u64; 6]);

impl Features {
    pub fn of(values: [f64; 6]) -> Self {
        Self(values.map(f64::to_bits))
    }

    pub fn values(self) -> [f64; 6] {
        self.0.map(f64::from_bits)
    }
}

/// A row of a view, as followers see it. Rows are told apart by all their fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViewRow {
    Event {
        source: SourceId,
        user: EcoString,
        id: EventId,
        time: Micros,
        /// The number of its session: 1 for the user's first.
        session: u32,
        content: Content,
    },
    Session {
        source: SourceId,
        user: EcoString,
        /// 1 for the user's first.
        number: u32,
        /// A session's identity is its first event.
        first_event: EventId,
        start: Micros,
        end: Micros,
        events: u32,
        views: u32,
        carts: u32,
        transactions: u32,
        value: i128,
    },
    Journey {
        source: SourceId,
        user: EcoString,
        journey: Journey,
        cluster: Option<u16>,
    },
    Cluster {
        source: SourceId,
        cluster: u16,
        centroid: Features,
    },
    Minute {
        source: SourceId,
        minute: Micros,
        page: EcoString,
        event_type: EcoString,
        count: i64,
        revenue: i128,
    },
    /// A correction of a minute that has left memory: to be added to what the target has of it. Only ever put.
    MinuteShift {
        source: SourceId,
        minute: Micros,
        page: EcoString,
        event_type: EcoString,
        count: i64,
        revenue: i128,
    },
    Context(Arc<ContextRow>),
    Item(Arc<Item>),
    Product(Arc<Product>),
    Person(Arc<Person>),
    Cell {
        key: CellKey,
        cell: Cell,
    },
    /// A correction of a cell that has left memory: to be added to what is known of it. Only ever put.
    CellShift {
        key: CellKey,
        cell: Cell,
    },
    Space(Arc<Space>),
    /// The settings of a source. Part of every stream, whatever views it has: rows are printed by them.
    Source(Arc<SourceSettings>),
    /// Only ever taken away: everything of this user goes, then come the rows it may have again.
    Erased {
        source: SourceId,
        user: EcoString,
    },
}

/// What a user did lately: a run of events with less than the context's time to live between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextRow {
    pub source: SourceId,
    pub user: EcoString,
    /// Newest first; an item may stand there several times.
    pub recent_items: Vec<EcoString>,
    /// Events per known category, by name.
    pub recent_categories: Vec<(EcoString, u64)>,
    pub last_active: Micros,
    /// From this time on there is no context, unless another event comes.
    pub expires_at: Micros,
    /// The same for the categories. Never later.
    pub categories_expire_at: Micros,
}

/// What a target keeps at most one row of. Source and user come first where there are any.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKey {
    Event(SourceId, EcoString, Micros, EventId),
    /// By its start.
    Session(SourceId, EcoString, Micros),
    Journey(SourceId, EcoString),
    Cluster(SourceId, u16),
    Minute(SourceId, Micros, EcoString, EcoString),
    MinuteShift(SourceId, Micros, EcoString, EcoString),
    Context(SourceId, EcoString),
    Item(EcoString),
    Product(EcoString),
    Person(i64),
    Cell(CellKey),
    CellShift(CellKey),
    Space(SpaceId),
    Source(SourceId),
    Erased(SourceId, EcoString),
}

impl RowKey {
    pub fn view(&self) -> Option<View> {
        Some(match self {
            Self::Event(..) => View::Events,
            Self::Session(..) => View::Sessions,
            Self::Journey(..) => View::Journeys,
            Self::Cluster(..) => View::Clusters,
            Self::Minute(..) | Self::MinuteShift(..) => View::Minutes,
            Self::Context(..) => View::Context,
            Self::Item(_) | Self::Product(_) | Self::Person(_) => View::Catalog,
            Self::Cell(_) | Self::CellShift(_) => View::Occupancy,
            Self::Space(_) => View::Spaces,
            Self::Source(_) | Self::Erased(..) => return None,
        })
    }

    /// Whose row it is, for rows of one user.
    pub fn user(&self) -> Option<(SourceId, &EcoString)> {
        match self {
            Self::Event(source, user, ..)
            | Self::Session(source, user, _)
            | Self::Journey(source, user)
            | Self::Context(source, user)
            | Self::Erased(source, user) => Some((*source, user)),
            Self::Cluster(..)
            | Self::Minute(..)
            | Self::MinuteShift(..)
            | Self::Item(_)
            | Self::Product(_)
            | Self::Person(_)
            | Self::Cell(_)
            | Self::CellShift(_)
            | Self::Space(_)
            | Self::Source(_) => None,
        }
    }
}

impl ViewRow {
    /// The view that it is a row of. Settings and erasures are part of every stream.
    pub fn view(&self) -> Option<View> {
        Some(match self {
            Self::Event { .. } => View::Events,
            Self::Session { .. } => View::Sessions,
            Self::Journey { .. } => View::Journeys,
            Self::Cluster { .. } => View::Clusters,
            Self::Minute { .. } | Self::MinuteShift { .. } => View::Minutes,
            Self::Context(_) => View::Context,
            Self::Item(_) | Self::Product(_) | Self::Person(_) => View::Catalog,
            Self::Cell { .. } | Self::CellShift { .. } => View::Occupancy,
            Self::Space(_) => View::Spaces,
            Self::Source(_) | Self::Erased { .. } => return None,
        })
    }

    pub fn key(&self) -> RowKey {
        match self {
            Self::Event { source, user, id, time, .. } => RowKey::Event(*source, user.clone(), *time, *id),
            Self::Session { source, user, start, .. } => RowKey::Session(*source, user.clone(), *start),
            Self::Journey { source, user, .. } => RowKey::Journey(*source, user.clone()),
            Self::Cluster { source, cluster, .. } => RowKey::Cluster(*source, *cluster),
            Self::Minute { source, minute, page, event_type, .. } => RowKey::Minute(*source, *minute, page.clone(), event_type.clone()),
            Self::MinuteShift { source, minute, page, event_type, .. } => {
                RowKey::MinuteShift(*source, *minute, page.clone(), event_type.clone())
            }
            Self::Context(row) => RowKey::Context(row.source, row.user.clone()),
            Self::Item(item) => RowKey::Item(item.asin.clone()),
            Self::Product(product) => RowKey::Product(product.parent_asin.clone()),
            Self::Person(person) => RowKey::Person(person.id),
            Self::Cell { key, .. } => RowKey::Cell(*key),
            Self::CellShift { key, .. } => RowKey::CellShift(*key),
            Self::Space(space) => RowKey::Space(space.space_id),
            Self::Source(settings) => RowKey::Source(settings.source),
            Self::Erased { source, user } => RowKey::Erased(*source, user.clone()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub time: LogicalTime,
    pub row: ViewRow,
    /// +1 or -1.
    pub diff: i64,
}

/// Where the operators of one worker put changes until the worker sends them on, at the close of each time.
#[derive(Default)]
pub struct ChangeLog {
    /// What somebody follows, at the time under way.
    followed: Views,
    pending: Vec<Pending>,
}

struct Pending {
    change: Change,
    /// For rows of events: the place in the batch of the event itself.
    batch_row: Option<u32>,
}

pub type SharedChangeLog = Rc<RefCell<ChangeLog>>;

impl ChangeLog {
    /// Sets what is noted down from now on.
    pub fn follow(&mut self, views: Views) {
        self.followed = views;
    }

    pub fn follows(&self, view: View) -> bool {
        self.followed.has(view)
    }

    /// Whether anybody follows anything.
    pub fn followed(&self) -> bool {
        !self.followed.is_empty()
    }

    pub fn push(&mut self, time: LogicalTime, row: ViewRow, diff: i64) {
        self.pending.push(Pending { change: Change { time, row, diff }, batch_row: None });
    }

    /// A new event, by its place in the batch under way.
    pub fn push_event(&mut self, time: LogicalTime, row: ViewRow, batch_row: u32) {
        self.pending.push(Pending { change: Change { time, row, diff: 1 }, batch_row: Some(batch_row) });
    }

    /// A replaced row, unless nothing is different.
    pub fn replace(&mut self, time: LogicalTime, before: Option<ViewRow>, after: Option<ViewRow>) {
        if before == after {
            return;
        }
        if let Some(row) = before {
            self.push(time, row, -1);
        }
        if let Some(row) = after {
            self.push(time, row, 1);
        }
    }

    /// What has gathered; `event` gives the events of the batch under way.
    pub fn take(&mut self, event: impl Fn(u32) -> Option<Event>) -> Vec<Change> {
        let complete = |pending: Pending| {
            let Pending { mut change, batch_row } = pending;
            if let (Some(row), ViewRow::Event { content, .. }) = (batch_row, &mut change.row) {
                *content = Content(event(row).map(Arc::new));
            }
            change
        };
        self.pending.drain(..).map(complete).collect()
    }
}
