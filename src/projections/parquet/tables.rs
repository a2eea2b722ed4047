//! The tables of the datasets, and views' rows as rows of them.

use desireline_connectors::dataset::{Column, Key, Kind, Row, Table, Value};
use desireline_dataflows::changes::{ContextRow, RowKey, View, ViewRow};
use desireline_dataflows::views::journeys::Journey;
use desireline_records::time::{MINUTE, format_rfc3339};
use desireline_records::{Event, EventId, Item, Micros, Person, Product, SourceId, user_hash};
use ecow::{EcoString, eco_format};

const FLOATS: Kind = Kind::List(&Kind::Float);
const TEXTS: Kind = Kind::List(&Kind::Text);

pub static EVENTS: Table = Table {
    name: "events",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("user_id", Kind::Text),
        Column::new("timestamp", Kind::Time),
        Column::distinct("event_key", Kind::Text),
        Column::new("session_number", Kind::Int),
        Column::distinct("event_id", Kind::Text),
        Column::new("event_type", Kind::Text),
        Column::optional("page", Kind::Text),
        Column::optional("item_id", Kind::Text),
        Column::new("value", Kind::Decimal),
        Column::optional("client_id", Kind::Text),
        Column::optional("session_id", Kind::Text),
        Column::optional("transaction_id", Kind::Text),
        Column::optional("properties", Kind::Text),
    ],
    key: 4,
};
const EVENT_SESSION: usize = 4;

pub static SESSIONS: Table = Table {
    name: "sessions",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("user_id", Kind::Text),
        Column::new("start", Kind::Time),
        Column::new("session_number", Kind::Int),
        Column::new("end", Kind::Time),
        Column::new("event_count", Kind::Int),
        Column::new("views", Kind::Int),
        Column::new("carts", Kind::Int),
        Column::new("transactions", Kind::Int),
        Column::new("value", Kind::Decimal),
        Column::distinct("first_event_key", Kind::Text),
    ],
    key: 3,
};

/// A session within a journey.
const PATH: Kind = Kind::Struct(&[
    Column::new("start", Kind::Time),
    Column::new("views", Kind::Int),
    Column::new("carts", Kind::Int),
    Column::new("transactions", Kind::Int),
    Column::new("value", Kind::Decimal),
]);

pub static JOURNEYS: Table = Table {
    name: "journeys",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("user_id", Kind::Text),
        Column::new("state", FLOATS),
        Column::new("paths", Kind::List(&PATH)),
        Column::new("session_count", Kind::Int),
        Column::new("features", FLOATS),
        Column::optional("cluster_id", Kind::Int),
        Column::new("views", Kind::Int),
        Column::new("carts", Kind::Int),
        Column::new("transactions", Kind::Int),
        Column::new("value", Kind::Decimal),
    ],
    key: 2,
};

pub static CLUSTERS: Table = Table {
    name: "clusters",
    columns: &[Column::new("source_id", Kind::Int), Column::new("cluster_id", Kind::Int), Column::new("centroid", FLOATS)],
    key: 2,
};

pub static MINUTES: Table = Table {
    name: "minutes",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("window_start", Kind::Time),
        Column::new("page", Kind::Text),
        Column::new("event_type", Kind::Text),
        Column::new("window_end", Kind::Time),
        Column::new("count", Kind::Int),
        Column::new("revenue", Kind::Decimal),
    ],
    key: 4,
};

pub static CONTEXT: Table = Table {
    name: "context",
    columns: &[
        Column::new("source_id", Kind::Int),
        Column::new("user_id", Kind::Text),
        Column::new("recent_items", TEXTS),
        Column::new(
            "recent_categories",
            Kind::List(&Kind::Struct(&[Column::new("category", Kind::Text), Column::new("events", Kind::Int)])),
        ),
        Column::new("last_active", Kind::Time),
        Column::new("expires_at", Kind::Time),
        Column::new("categories_expire_at", Kind::Time),
    ],
    key: 2,
};

pub static ITEMS: Table = Table {
    name: "items",
    columns: &[
        Column::new("asin", Kind::Text),
        Column::new("parent_asin", Kind::Text),
        Column::optional("variant", Kind::Text),
        Column::optional("primary_image", Kind::Text),
        Column::optional("category", Kind::Text),
    ],
    key: 1,
};

pub static PRODUCTS: Table = Table {
    name: "products",
    columns: &[
        Column::new("parent_asin", Kind::Text),
        Column::new("title", Kind::Text),
        Column::optional("store", Kind::Text),
        Column::optional("main_category", Kind::Text),
        Column::optional("brand", Kind::Text),
        Column::optional("avg_rating", Kind::Float),
        Column::optional("rating_number", Kind::Int),
        Column::optional("primary_image", Kind::Text),
        Column::optional("raw_metadata", Kind::Text),
    ],
    key: 1,
};

pub static USERS: Table =
    Table { name: "users", columns: &[Column::new("id", Kind::Int), Column::optional("username", Kind::Text)], key: 1 };

static CATALOG: [&Table; 3] = [&ITEMS, &PRODUCTS, &USERS];
static OF_VIEWS: [&Table; 6] = [&EVENTS, &SESSIONS, &JOURNEYS, &CLUSTERS, &MINUTES, &CONTEXT];

/// The datasets that a view becomes.
pub fn tables(view: View) -> &'static [&'static Table] {
    match view {
        View::Events => &OF_VIEWS[0..1],
        View::Sessions => &OF_VIEWS[1..2],
        View::Journeys => &OF_VIEWS[2..3],
        View::Clusters => &OF_VIEWS[3..4],
        View::Minutes => &OF_VIEWS[4..5],
        View::Context => &OF_VIEWS[5..6],
        View::Catalog => &CATALOG,
        View::Occupancy | View::Spaces => &[],
    }
}

/// Whether each row of a table belongs to one user, whom its key begins with.
pub fn is_of_users(table: &Table) -> bool {
    table.columns.get(1).is_some_and(|column| column.name == "user_id")
}

/// Files of a dataset without days: by the upper bits of a hash of the key.
const PARTS_BITS: u32 = 4;

fn day_file(time: Micros) -> String {
    format!("day={}/data.parquet", &format_rfc3339(time)[..10])
}

fn part_file(hash: u64) -> String {
    format!("part-{:02}.parquet", hash >> (u64::BITS - PARTS_BITS))
}

fn int(number: impl Into<i64>) -> Value {
    Value::Int(number.into())
}

fn text(text: &EcoString) -> Value {
    Value::Text(text.clone())
}

fn id(id: EventId) -> Value {
    Value::Text(eco_format!("{id}"))
}

/// The first columns of all rows of a user.
pub fn user_prefix(source: SourceId, user: &EcoString) -> Key {
    Key(vec![int(source), text(user)])
}

pub fn source_prefix(source: SourceId) -> Key {
    Key(vec![int(source)])
}

/// Where a row lies: the table, the file, and the key in it. Nothing for rows that are no rows of a dataset.
pub fn place(key: &RowKey) -> Option<(&'static Table, String, Key)> {
    let of_user = |source, user| part_file(user_hash(source, user));
    Some(match key {
        RowKey::Event(source, user, time, event) => {
            let key = vec![int(*source), text(user), Value::Time(*time), id(*event)];
            (&EVENTS, day_file(*time), Key(key))
        }
        RowKey::Session(source, user, start) => (&SESSIONS, day_file(*start), Key(vec![int(*source), text(user), Value::Time(*start)])),
        RowKey::Journey(source, user) => (&JOURNEYS, of_user(*source, user), user_prefix(*source, user)),
        RowKey::Context(source, user) => (&CONTEXT, of_user(*source, user), user_prefix(*source, user)),
        RowKey::Cluster(source, cluster) => (&CLUSTERS, part_file(0), Key(vec![int(*source), int(*cluster)])),
        RowKey::Minute(source, minute, page, event_type) | RowKey::MinuteShift(source, minute, page, event_type) => {
            let key = vec![int(*source), Value::Time(*minute), text(page), text(event_type)];
            (&MINUTES, day_file(*minute), Key(key))
        }
        RowKey::Item(asin) => (&ITEMS, part_file(user_hash(0, asin)), Key(vec![text(asin)])),
        RowKey::Product(asin) => (&PRODUCTS, part_file(user_hash(0, asin)), Key(vec![text(asin)])),
        RowKey::Person(person) => (&USERS, part_file(user_hash(0, &person.to_string())), Key(vec![int(*person)])),
        RowKey::Source(_) | RowKey::Erased(..) | RowKey::Cell(_) | RowKey::CellShift(_) | RowKey::Space(_) => return None,
    })
}

/// The columns behind the key of a row that needs nothing but itself.
pub fn plain(row: &ViewRow) -> Option<Row> {
    Some(match row {
        ViewRow::Session { number, first_event, end, events, views, carts, transactions, value, .. } => {
            let counts = [*events, *views, *carts, *transactions].map(int);
            let [events, views, carts, transactions] = counts;
            vec![int(*number), Value::Time(*end), events, views, carts, transactions, Value::Decimal(*value), id(*first_event)]
        }
        ViewRow::Cluster { centroid, .. } => vec![Value::floats(&centroid.values())],
        ViewRow::Context(row) => context(row),
        ViewRow::Item(item) => self::item(item),
        ViewRow::Product(product) => self::product(product),
        ViewRow::Person(person) => self::person(person),
        _ => return None,
    })
}

fn context(row: &ContextRow) -> Row {
    let categories = row.recent_categories.iter().map(|(name, events)| Value::List(vec![text(name), Value::Int(*events as i64)]));
    vec![
        Value::List(row.recent_items.iter().map(text).collect()),
        Value::List(categories.collect()),
        Value::Time(row.last_active),
        Value::Time(row.expires_at),
        Value::Time(row.categories_expire_at),
    ]
}

fn item(item: &Item) -> Row {
    let maybe = |text: &Option<EcoString>| Value::maybe_text(text.as_ref());
    vec![text(&item.parent_asin), maybe(&item.variant), maybe(&item.primary_image), maybe(&item.category)]
}

fn product(product: &Product) -> Row {
    let maybe = |text: &Option<EcoString>| Value::maybe_text(text.as_ref());
    vec![
        text(&product.title),
        maybe(&product.store),
        maybe(&product.main_category),
        product.brand().map_or(Value::Null, |brand| Value::Text(brand.into())),
        product.avg_rating.map_or(Value::Null, |hundredths| Value::Float(f64::from(hundredths) / 100.0)),
        product.rating_number.map_or(Value::Null, int),
        maybe(&product.primary_image),
        maybe(&product.raw_metadata),
    ]
}

fn person(person: &Person) -> Row {
    vec![Value::maybe_text(person.username.as_ref())]
}

/// The columns of an event behind its key.
pub fn event(event: &Event, session: u32) -> Row {
    let none = desireline_records::EventExtra::default();
    let extra = event.extra.as_deref().unwrap_or(&none);
    vec![
        int(session),
        Value::Text(event.reference()),
        text(&event.event_type),
        Value::text_or_null(&event.page),
        Value::text_or_null(&event.item),
        Value::Decimal(i128::from(event.value.0)),
        Value::text_or_null(&extra.client_id),
        Value::text_or_null(&extra.session_id),
        Value::text_or_null(&extra.transaction_id),
        Value::text_or_null(&extra.properties),
    ]
}

/// A known event with another session number.
pub fn renumber(mut row: Row, session: u32) -> Row {
    row[EVENT_SESSION] = int(session);
    row
}

/// The columns of a minute behind its key.
pub fn minute(minute: Micros, count: i64, revenue: i128) -> Row {
    vec![Value::Time(minute + MINUTE), Value::Int(count), Value::Decimal(revenue)]
}

/// Count and revenue of a row of minutes.
pub fn minute_cell(row: &Row) -> (i64, i128) {
    match row[5..] {
        [Value::Int(count), Value::Decimal(revenue)] => (count, revenue),
        _ => (0, 0),
    }
}

/// What a row of journeys is printed from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JourneyFacts {
    pub journey: Journey,
    pub cluster: Option<u16>,
    /// As in the column.
    pub paths: Vec<Value>,
}

impl JourneyFacts {
    pub fn of(row: &Row) -> Option<Self> {
        let [_, _, _, Value::List(paths), Value::Int(sessions), _, cluster, Value::Int(views), Value::Int(carts), rest @ ..] =
            row.as_slice()
        else {
            return None;
        };
        let [Value::Int(transactions), Value::Decimal(value)] = rest else { return None };
        let cluster = if let Value::Int(cluster) = cluster { u16::try_from(*cluster).ok() } else { None };
        Some(Self { journey: Journey::new(*views, *carts, *transactions, *sessions, *value), cluster, paths: paths.clone() })
    }

    /// The columns behind the key.
    pub fn columns(self, transaction_value: bool) -> Row {
        let Self { journey, cluster, paths } = self;
        vec![
            Value::floats(&journey.state(transaction_value)),
            Value::List(paths),
            Value::Int(journey.sessions),
            Value::floats(&journey.features(transaction_value)),
            cluster.map_or(Value::Null, int),
            Value::Int(journey.views),
            Value::Int(journey.carts),
            Value::Int(journey.transactions),
            Value::Decimal(journey.value()),
        ]
    }

    /// Puts the session that begins at a time in its place, or takes it away.
    pub fn set_path(&mut self, start: Micros, session: Option<&ViewRow>) {
        let found = self.paths.binary_search_by(|path| match path {
            Value::List(fields) => fields.first().map_or(std::cmp::Ordering::Less, |value| value.order(&Value::Time(start))),
            _ => std::cmp::Ordering::Less,
        });
        let path = match session {
            Some(ViewRow::Session { views, carts, transactions, value, .. }) => {
                Some(Value::List(vec![Value::Time(start), int(*views), int(*carts), int(*transactions), Value::Decimal(*value)]))
            }
            _ => None,
        };
        match (found, path) {
            (Ok(at), Some(path)) => self.paths[at] = path,
            (Err(at), Some(path)) => self.paths.insert(at, path),
            (Ok(at), None) => drop(self.paths.remove(at)),
            (Err(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(kind: Kind) -> String {
        match kind {
            Kind::Int => "BIGINT".to_owned(),
            Kind::Float => "DOUBLE".to_owned(),
            Kind::Text => "VARCHAR".to_owned(),
            Kind::Time => "TIMESTAMP".to_owned(),
            Kind::Decimal => "DECIMAL".to_owned(),
            Kind::List(element) => format!("{}[]", described(*element)),
            Kind::Struct(fields) => {
                let fields: Vec<String> = fields.iter().map(|field| format!("{} {}", field.name, described(field.kind))).collect();
                format!("STRUCT({})", fields.join(", "))
            }
        }
    }

    /// The documentation has a table for each dataset, with its columns in order.
    #[test]
    fn the_documentation_names_every_column() {
        let text = include_str!("../../../docs/parquet.md");
        for table in View::ALL.into_iter().flat_map(tables) {
            let section = text.split(&format!("\n### {}\n", table.name)).nth(1).expect("a section of the dataset");
            let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
            let found: Vec<(String, String)> = rows
                .map(|line| {
                    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                    (cells[1].to_owned(), cells[2].to_owned())
                })
                .collect();
            let column = |(at, column): (usize, &Column)| {
                let name = if at < table.key { format!("**`{}`**", column.name) } else { format!("`{}`", column.name) };
                (name, format!("{}{}", described(column.kind), if column.optional { "?" } else { "" }))
            };
            let expected: Vec<(String, String)> = table.columns.iter().enumerate().map(column).collect();
            assert_eq!(found, expected, "the columns of {}", table.name);
        }
    }

    #[test]
    fn a_day_is_one_of_utc_and_parts_are_sixteen() {
        assert_eq!(day_file(1_709_251_199_999_999), "day=2024-02-29/data.parquet");
        assert_eq!(day_file(1_709_251_200_000_000), "day=2024-03-01/data.parquet");
        assert_eq!((part_file(0), part_file(u64::MAX)), ("part-00.parquet".to_owned(), "part-15.parquet".to_owned()));
    }

    #[test]
    fn sessions_take_their_places_among_the_paths_of_a_journey() {
        let session = |start: Micros, views: u32| ViewRow::Session {
            source: 1,
            user: "u".into(),
            number: 1,
            first_event: EventId::default(),
            start,
            end: start,
            events: views,
            views,
            carts: 0,
            transactions: 0,
            value: 0,
        };
        let mut facts = JourneyFacts::default();
        for (start, views) in [(5, 1), (9, 1), (2, 3), (5, 4)] {
            facts.set_path(start, Some(&session(start, views)));
        }
        facts.set_path(9, None);
        facts.set_path(7, None);
        let paths: Vec<String> = facts.paths.iter().map(|path| format!("{path:?}")).collect();
        assert!(paths.len() == 2 && paths[0].contains("Time(2), Int(3)") && paths[1].contains("Time(5), Int(4)"), "{paths:?}");
    }
}
