//! One click of the synthetic shop, and the forms in which it travels.

use super::catalog::{CATEGORIES, Product};
use crate::generate::disturb::Arriving;
use crate::generate::{Format, Generated};
use desireline_records::time::SECOND;
use desireline_records::{Fixed4, Micros, RawEvent, SourceId};
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

    pub fn page(&self) -> Cow<'static, str> {
        match &self.action {
            Action::Home { .. } => "/home".into(),
            Action::Category(index) => format!("/category/{}", CATEGORIES[usize::from(*index)].name).into(),
            Action::Search(_) => "/search".into(),
            Action::View(product) | Action::AddToCart(product, _) => format!("/product/{}", product.id()).into(),
            Action::Cart { .. } => "/cart".into(),
            Action::Purchase { .. } => "/checkout".into(),
        }
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
        let mut text = String::from("{");
        let mut put = |key: &str, value: &dyn std::fmt::Display, quoted: bool| {
            let (comma, quote) = (if text.len() > 1 { "," } else { "" }, if quoted { "\"" } else { "" });
            write!(text, "{comma}\"{key}\":{quote}{value}{quote}").expect("writing to a string never fails");
        };
        match &self.action {
            Action::Home { referrer } => put("referrer", &REFERRERS[usize::from(*referrer) % REFERRERS.len()], true),
            Action::Category(index) => put("category", &CATEGORIES[usize::from(*index)].name, true),
            Action::Search(index) => put("search_term", &CATEGORIES[usize::from(*index)].name, true),
            Action::View(product) | Action::AddToCart(product, _) => {
                put("product_id", &product.id(), true);
                put("product_name", &product.name(), true);
                put("product_category", &product.category().name, true);
                put("product_price", &Cents(product.price_cents()), false);
                if let Action::AddToCart(_, quantity) = &self.action {
                    put("quantity", quantity, false);
                }
            }
            Action::Cart { units } => put("cart_items", units, false),
            Action::Purchase { order, lines } => {
                put("order_id", &order, true);
                put("items", &lines.iter().map(|(_, n)| u32::from(*n)).sum::<u32>(), false);
                put("total_amount", &Cents(total_cents(lines)), false);
                put("payment_method", &PAYMENTS[*order as usize % PAYMENTS.len()], true);
            }
        }
        text.push('}');
        text
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
            page: self.page(),
            item: self.item().map_or(Cow::Borrowed(""), |item| item.to_string().into()),
            transaction_id: Cow::Borrowed(""),
            event_id: self.event_id().into(),
            value: self.value(),
            properties: self.properties().into(),
            derived_id: None,
            strict_words: false,
        }
    }

    fn desireline_json(&self, out: &mut Vec<u8>) {
        let mut text = format!("{{\"event_id\":\"{}\",\"source_id\":{},", self.event_id(), self.source);
        self.clickstream_fields(&mut text);
        if let Some(item) = self.item() {
            write!(text, ",\"item_id\":\"{item}\"").expect("writing to a string never fails");
        }
        if let Some(value) = self.value() {
            write!(text, ",\"value\":{value}").expect("writing to a string never fails");
        }
        text.push('}');
        out.extend_from_slice(text.as_bytes());
    }

    fn clickstream_fields(&self, text: &mut String) {
        write!(
            text,
            "\"client_id\":\"{}\",\"session_id\":\"{}\",\"user_id\":\"{}\",\"page\":\"{}\",\"event_type\":\"{}\",\"properties\":{},\
             \"timestamp\":{}.{:03}",
            self.client_id(),
            self.session_id(),
            self.user,
            self.page(),
            self.event_type(),
            self.properties(),
            self.time / SECOND,
            self.time % SECOND / 1_000,
        )
        .expect("writing to a string never fails");
    }

    fn ampelios_fields(&self) -> [String; 5] {
        let order = if let Action::Purchase { order, .. } = &self.action { order.to_string() } else { String::new() };
        let item = self.item().map(|item| item.to_string()).unwrap_or_default();
        [(self.time / 1_000).to_string(), self.user_id(), self.ampelios_word().into(), item, order]
    }

    /// As a producer makes it that reads the CSV: every field is text.
    fn ampelios_json(&self, out: &mut Vec<u8>) {
        let [timestamp, visitor, event, item, transaction] = self.ampelios_fields();
        let text = format!(
            "{{\"timestamp\":\"{timestamp}\",\"visitorid\":\"{visitor}\",\"event\":\"{event}\",\"itemid\":\"{item}\",\
             \"transactionid\":\"{transaction}\"}}"
        );
        out.extend_from_slice(text.as_bytes());
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

    fn csv(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.ampelios_fields().join(",").as_bytes());
        out.push(b'\n');
    }

    fn json(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Desireline => self.desireline_json(out),
            Format::Ampelios => self.ampelios_json(out),
            Format::Clickstream => {
                let mut text = String::from("{");
                self.clickstream_fields(&mut text);
                text.push('}');
                out.extend_from_slice(text.as_bytes());
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
