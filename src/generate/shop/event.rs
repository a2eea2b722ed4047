//! One click of the synthetic shop, and the forms in which it travels.

use super::catalog::{CATEGORIES, Product};
use crate::generate::disturb::Arriving;
use crate::generate::{Endpoint, Format, Generated};
use desireline_records::time::SECOND;
use desireline_records::{Fixed4, Micros, RawEvent, SourceId};
use reqwest::Method;
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a visitor did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Home { referrer: u8 },
    Category(u8),
    Search(u8),
    View(Product),
    AddToCart(Product, u8),
    Cart { units: u32 },
    Purchase { order: u32, lines: Box<[(Product, u8)]> },
}

/// A click event, compact; its texts are made when it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedEvent {
    pub source: SourceId,
    /// When it happened; whole milliseconds.
    pub time: Micros,
    /// When it reaches the server: later than `time` for a late event and for a second copy.
    pub arrival: Micros,
    /// Names the stream (seed and start); part of the event id, so that two streams never share one.
    pub stream: u32,
    /// Counts the events of the stream.
    pub number: u64,
    pub user: u32,
    /// Counts the visits of the stream.
    pub visit: u32,
    pub action: Action,
    /// A copy of an event that has been sent before.
    pub duplicate: bool,
}

const REFERRERS: [&str; 5] = ["direct", "google", "newsletter", "instagram", "affiliate"];
const PAYMENTS: [&str; 3] = ["credit_card", "paypal", "apple_pay"];
/// The header line of the format `ampelios`.
pub const AMPELIOS_HEADER: &str = "timestamp,visitorid,event,itemid,transactionid";

/// Prints to a string, which never fails.
macro_rules! put {
    ($out:expr, $($format:tt)+) => {
        write!($out, $($format)+).expect("writing to a string never fails")
    };
}

impl GeneratedEvent {
    pub fn event_type(&self) -> &'static str {
        match &self.action {
            Action::View(_) => "product_view",
            Action::AddToCart(..) => "add_to_cart",
            Action::Purchase { .. } => "purchase",
            Action::Search(_) => "search",
            Action::Home { .. } | Action::Category(_) | Action::Cart { .. } => "pageview",
        }
    }

    /// The word of the format `ampelios`, which knows three.
    pub fn ampelios_word(&self) -> &'static str {
        match &self.action {
            Action::AddToCart(..) => "addtocart",
            Action::Purchase { .. } => "transaction",
            _ => "view",
        }
    }

    pub fn page(&self) -> String {
        let mut text = String::new();
        self.write_page(&mut text);
        text
    }

    /// The product it is about, when it is about one.
    pub fn item(&self) -> Option<u32> {
        match &self.action {
            Action::View(product) | Action::AddToCart(product, _) => Some(product.id()),
            // A purchase of several products goes under the first.
            Action::Purchase { lines, .. } => lines.first().map(|(product, _)| product.id()),
            _ => None,
        }
    }

    /// What a purchase cost in all.
    pub fn value(&self) -> Option<Fixed4> {
        match &self.action {
            Action::Purchase { lines, .. } => Some(Fixed4(total_cents(lines) as i64 * 100)),
            _ => None,
        }
    }

    pub fn user_id(&self) -> String {
        self.user.to_string()
    }

    pub fn event_id(&self) -> String {
        format!("g{:08x}-{}", self.stream, self.number)
    }

    pub fn session_id(&self) -> String {
        format!("s{:08x}-{}", self.stream, self.visit)
    }

    pub fn client_id(&self) -> String {
        format!("web-{}", self.user)
    }

    /// A JSON object.
    pub fn properties(&self) -> String {
        let mut text = String::with_capacity(128);
        self.write_properties(&mut text);
        text
    }

    fn write_properties(&self, out: &mut String) {
        match &self.action {
            Action::Home { referrer } => put!(out, "{{\"referrer\":\"{}\"}}", REFERRERS[usize::from(*referrer) % REFERRERS.len()]),
            Action::Category(index) => put!(out, "{{\"category\":\"{}\"}}", CATEGORIES[usize::from(*index)].name),
            Action::Search(index) => put!(out, "{{\"search_term\":\"{}\"}}", CATEGORIES[usize::from(*index)].name),
            Action::View(product) | Action::AddToCart(product, _) => {
                let (id, name, category) = (product.id(), product.name(), product.category().name);
                put!(out, "{{\"product_id\":\"{id}\",\"product_name\":\"{name}\",\"product_category\":\"{category}\",");
                put!(out, "\"product_price\":{}", Cents(product.price_cents()));
                if let Action::AddToCart(_, quantity) = &self.action {
                    put!(out, ",\"quantity\":{quantity}");
                }
                out.push('}');
            }
            Action::Cart { units } => put!(out, "{{\"cart_items\":{units}}}"),
            Action::Purchase { order, lines } => {
                let units: u32 = lines.iter().map(|(_, n)| u32::from(*n)).sum();
                let payment = PAYMENTS[*order as usize % PAYMENTS.len()];
                put!(out, "{{\"order_id\":\"{order}\",\"items\":{units},\"total_amount\":{},", Cents(total_cents(lines)));
                put!(out, "\"payment_method\":\"{payment}\"}}");
            }
        }
    }

    fn write_page(&self, out: &mut String) {
        match &self.action {
            Action::Home { .. } => out.push_str("/home"),
            Action::Category(index) => put!(out, "/category/{}", CATEGORIES[usize::from(*index)].name),
            Action::Search(_) => out.push_str("/search"),
            Action::View(product) | Action::AddToCart(product, _) => put!(out, "/product/{}", product.id()),
            Action::Cart { .. } => out.push_str("/cart"),
            Action::Purchase { .. } => out.push_str("/checkout"),
        }
    }

    /// For feeding a server in its own process; says the same as the JSON.
    pub fn to_raw(&self) -> RawEvent<'static> {
        RawEvent {
            source: i64::from(self.source),
            time: Some(self.time),
            user: self.user_id().into(),
            session_id: self.session_id().into(),
            client_id: self.client_id().into(),
            event_type: self.event_type().into(),
            page: self.page().into(),
            item: self.item().map_or(Cow::Borrowed(""), |item| item.to_string().into()),
            transaction_id: Cow::Borrowed(""),
            event_id: self.event_id().into(),
            value: self.value(),
            properties: self.properties().into(),
            derived_id: None,
            strict_words: false,
        }
    }

    fn write_desireline(&self, out: &mut String) {
        put!(out, "{{\"event_id\":\"g{:08x}-{}\",\"source_id\":{},", self.stream, self.number, self.source);
        self.write_clickstream(out);
        if let Some(item) = self.item() {
            put!(out, ",\"item_id\":\"{item}\"");
        }
        if let Some(value) = self.value() {
            put!(out, ",\"value\":{value}");
        }
        out.push('}');
    }

    fn write_clickstream(&self, out: &mut String) {
        let (stream, visit, user) = (self.stream, self.visit, self.user);
        put!(out, "\"client_id\":\"web-{user}\",\"session_id\":\"s{stream:08x}-{visit}\",\"user_id\":\"{user}\",\"page\":\"");
        self.write_page(out);
        put!(out, "\",\"event_type\":\"{}\",\"properties\":", self.event_type());
        self.write_properties(out);
        put!(out, ",\"timestamp\":{}.{:03}", self.time / SECOND, self.time % SECOND / 1_000);
    }

    fn order(&self) -> Option<u32> {
        if let Action::Purchase { order, .. } = &self.action { Some(*order) } else { None }
    }

    fn write_ampelios(&self, out: &mut String) {
        put!(out, "{},{},{},", self.time / 1_000, self.user, self.ampelios_word());
        if let Some(item) = self.item() {
            put!(out, "{item}");
        }
        out.push(',');
        if let Some(order) = self.order() {
            put!(out, "{order}");
        }
    }
}

impl Arriving for GeneratedEvent {
    fn arrival(&self) -> Micros {
        self.arrival
    }

    fn set_arrival(&mut self, arrival: Micros) {
        self.arrival = arrival;
    }

    fn mark_duplicate(&mut self) {
        self.duplicate = true;
    }
}

impl Generated for GeneratedEvent {
    const CSV_HEADER: &'static str = AMPELIOS_HEADER;
    const ENDPOINT: Option<Endpoint> = Some(Endpoint { method: Method::POST, path: "/api/ingest-batch", field: "events" });

    fn csv(&self, out: &mut String) {
        self.write_ampelios(out);
        out.push('\n');
    }

    fn json(&self, format: Format, out: &mut String) {
        match format {
            Format::Desireline => self.write_desireline(out),
            Format::Clickstream => {
                out.push('{');
                self.write_clickstream(out);
                out.push('}');
            }
            // As a producer makes it that reads the CSV: every field is text.
            Format::Ampelios => {
                let mut row = String::new();
                self.write_ampelios(&mut row);
                for (index, (name, value)) in AMPELIOS_HEADER.split(',').zip(row.split(',')).enumerate() {
                    put!(out, "{}\"{name}\":\"{value}\"", if index == 0 { '{' } else { ',' });
                }
                out.push('}');
            }
        }
    }

    fn key(&self) -> String {
        self.user_id()
    }
}

fn total_cents(lines: &[(Product, u8)]) -> u64 {
    lines.iter().map(|(product, quantity)| product.price_cents() * u64::from(*quantity)).sum()
}

/// Prints hundredths as a decimal number.
struct Cents(u64);

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}
