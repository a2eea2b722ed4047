//! What the tables must hold: plain loops over the rows of the slow reference.

use desireline_dataflows::changes::{Content, RowKey, ViewRow};
use desireline_dataflows::reference::Reference;
use desireline_records::{EventId, Item, Product, SourceId, SourceSettings, UserIdType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub type Rows = BTreeSet<Vec<String>>;
/// By the name of the table.
pub type Tables = BTreeMap<&'static str, Rows>;

pub const NULL: &str = "∅";

pub struct Model {
    rows: BTreeMap<RowKey, ViewRow>,
    sources: BTreeMap<SourceId, SourceSettings>,
}

impl Model {
    /// From the slow reference of all views.
    pub fn of(reference: &Reference) -> Self {
        let mut rows: BTreeMap<_, _> = reference.rows().into_iter().map(|row| (row.key(), row)).collect();
        for (event, _) in reference.events() {
            let key = RowKey::Event(event.source, event.user.clone(), event.time, event.id);
            if let Some(ViewRow::Event { content, .. }) = rows.get_mut(&key) {
                *content = Content(Some(Arc::new(event)));
            }
        }
        let sources = reference.sources().map(|(source, settings, _)| (source, settings.clone())).collect();
        Self { rows, sources }
    }

    fn int(&self, source: SourceId) -> bool {
        self.sources.get(&source).is_some_and(|settings| settings.user_id_type == UserIdType::Int)
    }

    fn item(&self, asin: &str) -> Option<&Arc<Item>> {
        let row = self.rows.get(&RowKey::Item(asin.into()))?;
        if let ViewRow::Item(item) = row { Some(item) } else { None }
    }

    fn product(&self, asin: &str) -> Option<&Arc<Product>> {
        let row = self.rows.get(&RowKey::Product(self.item(asin)?.parent_asin.clone()))?;
        if let ViewRow::Product(product) = row { Some(product) } else { None }
    }

    /// Every table, row by row.
    pub fn tables(&self) -> Tables {
        let mut tables: Tables = super::tables::NAMES.iter().map(|name| (*name, Rows::new())).collect();
        for row in self.rows.values() {
            match row {
                ViewRow::Session { source, user, number, first_event, start, end, events, views, carts, transactions, value } => {
                    let row = format!("{source}|{user}|{number}|{start}|{end}|{events}|{views}|{carts}|{transactions}");
                    let mut row: Vec<String> = row.split('|').map(str::to_owned).collect();
                    row.extend([decimal(*value), hex(*first_event)]);
                    put(&mut tables, "sessions", row);
                }
                ViewRow::Journey { source, user, cluster, journey } if self.int(*source) => {
                    let by_value = self.sources[source].transaction_value;
                    let cluster = cluster.map_or_else(|| NULL.to_owned(), |cluster| cluster.to_string());
                    let state = vector(&journey.state(by_value));
                    put(&mut tables, "user_journey", vec![source.to_string(), user.to_string(), state, self.paths(*source, user), cluster]);
                }
                ViewRow::Cluster { source, cluster, centroid } => {
                    put(&mut tables, "cluster", vec![source.to_string(), cluster.to_string(), vector(&centroid.values())]);
                }
                ViewRow::Minute { source, minute, page, event_type, count, revenue } => {
                    let end = minute + 60_000_000;
                    let row = [source.to_string(), minute.to_string(), end.to_string(), page.to_string(), event_type.to_string()];
                    let mut row = row.to_vec();
                    row.extend([count.to_string(), decimal(*revenue)]);
                    put(&mut tables, "aggregates_minute", row);
                }
                ViewRow::Event { .. } => self.event(row, &mut tables),
                ViewRow::Item(item) => {
                    let optional = [&item.variant, &item.primary_image, &item.category].map(|t| text(t.as_deref()));
                    let [variant, image, category] = optional;
                    let row = vec![item.asin.to_string(), item.parent_asin.to_string(), variant, image, category, "t".to_owned()];
                    put(&mut tables, "items", row);
                    if !self.rows.contains_key(&RowKey::Product(item.parent_asin.clone())) {
                        put(&mut tables, "products", stub(&item.parent_asin, 10));
                    }
                }
                ViewRow::Product(product) => put(&mut tables, "products", product_row(product)),
                ViewRow::Person(person) => {
                    put(&mut tables, "users", vec![person.id.to_string(), text(person.username.as_deref()), "t".to_owned()]);
                }
                _ => {}
            }
        }
        tables
    }

    fn paths(&self, source: SourceId, user: &str) -> String {
        let by_value = self.sources[&source].transaction_value;
        let mut paths = Vec::new();
        for (key, row) in &self.rows {
            if let (RowKey::Session(of, whose, start), ViewRow::Session { views, carts, transactions, value, .. }) = (key, row)
                && (*of, whose.as_str()) == (source, user)
            {
                let third = if by_value { *value as f64 / 10_000.0 } else { f64::from(*transactions) };
                paths.push((*start, vector(&[f64::from(*views), f64::from(*carts), third])));
            }
        }
        paths.sort();
        paths.into_iter().map(|(_, path)| path).collect::<Vec<_>>().join(" ")
    }

    fn event(&self, row: &ViewRow, tables: &mut Tables) {
        let ViewRow::Event { source, user, id, time, session, content } = row else { return };
        let Some(event) = &content.0 else { panic!("an event without its content: {row:?}") };
        let number = |text: &str| text.parse::<i64>().map_or_else(|_| NULL.to_owned(), |n| n.to_string());
        if self.int(*source) && self.sources.get(source).is_some_and(|settings| settings.context.is_some()) {
            let properties = event.extra.as_ref().map_or("", |extra| &extra.properties);
            let row = vec![
                source.to_string(),
                user.to_string(),
                time.to_string(),
                hex(*id),
                event.item.to_string(),
                event.event_type.to_string(),
                self.metadata(&event.item, properties),
            ];
            put(tables, "interaction_logs", row);
            if !self.rows.contains_key(&RowKey::Item(event.item.clone())) {
                put(tables, "items", stub(&event.item, 6));
            }
            if !self.rows.contains_key(&RowKey::Person(user.parse().unwrap())) {
                put(tables, "users", stub(user, 3));
            }
        } else if self.int(*source) {
            let transaction = event.extra.as_ref().map_or("", |extra| &extra.transaction_id);
            let row = vec![
                source.to_string(),
                user.to_string(),
                time.to_string(),
                hex(*id),
                time.div_euclid(1_000).to_string(),
                event.event_type.to_string(),
                number(&event.item),
                number(transaction),
                session.to_string(),
            ];
            put(tables, "events", row);
        }
    }

    fn metadata(&self, asin: &str, properties: &str) -> String {
        let mut metadata: Value = serde_json::from_str(if properties.is_empty() { "{}" } else { properties }).unwrap();
        let fields = metadata.as_object_mut().unwrap();
        let product = self.product(asin);
        let category = product.and_then(|product| product.main_category.clone()).or_else(|| self.item(asin)?.category.clone());
        if let Some(category) = category {
            fields.insert("category".to_owned(), category.as_str().into());
        }
        if let Some(brand) = product.and_then(|product| product.brand()) {
            fields.insert("brand".to_owned(), brand.into());
        }
        if fields.is_empty() { NULL.to_owned() } else { canonical(&metadata) }
    }
}

fn put(tables: &mut Tables, table: &'static str, row: Vec<String>) {
    tables.get_mut(table).expect("the table is one of ours").insert(row);
}

/// A row of which only the key is known.
fn stub(key: &str, columns: usize) -> Vec<String> {
    let mut row = vec![NULL.to_owned(); columns];
    row[0] = key.to_owned();
    if columns == 10 {
        row[1] = String::new();
    }
    row[columns - 1] = "f".to_owned();
    row
}

fn product_row(product: &Product) -> Vec<String> {
    let metadata = product.raw_metadata.as_deref().map(|text| canonical(&serde_json::from_str(text).unwrap()));
    vec![
        product.parent_asin.to_string(),
        product.title.to_string(),
        text(product.store.as_deref()),
        text(product.main_category.as_deref()),
        product.avg_rating.map_or_else(|| NULL.to_owned(), |rating| format!("{}.{:02}", rating / 100, rating % 100)),
        product.rating_number.map_or_else(|| NULL.to_owned(), |n| n.to_string()),
        text(product.primary_image.as_deref()),
        text(metadata.as_deref()),
        text(product.brand().as_deref()),
        "t".to_owned(),
    ]
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or(NULL).to_owned()
}

fn decimal(units: i128) -> String {
    format!("{}{}.{:04}", if units < 0 { "-" } else { "" }, units.unsigned_abs() / 10_000, units.unsigned_abs() % 10_000)
}

pub fn hex(id: EventId) -> String {
    format!("{:016x}{:016x}", id.0[0], id.0[1])
}

/// As 32-bit floats, printed by Rust.
pub fn vector(values: &[f64]) -> String {
    values.iter().map(|value| (*value as f32).to_string()).collect::<Vec<_>>().join(",")
}

/// JSON with its keys in order.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(key, value)| (key, canonical(value))).collect();
            format!("{fields:?}")
        }
        Value::Array(values) => format!("{:?}", values.iter().map(canonical).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}
