//! Synthetic card transactions, 2 % of them fraudulent in one of four patterns.
//!
//! A row has the 13 fields `transaction_id, timestamp, customer_id, customer_email, customer_location, product_id, product_name,
//! category, quantity, unit_price, total_amount, is_fraud, fraud_pattern`.
//!
//! Customers live in one of twelve cities and buy seven times in ten from a category they have bought from before; 500 products
//! in ten categories have prices uniform in their category's range. The patterns:
//! * `high_amount`: a product above 500 in quantities of 5 to 20;
//! * `rapid_transactions`: the customer of the transaction just before, within a minute of it;
//! * `unusual_location`: from a city that is not the customer's;
//! * `odd_hours`: between 1 and 5 h of the same day, so the row's time may lie behind its arrival.

use super::disturb::Arriving;
use super::random::{Random, mix};
use super::{Endpoint, Format, Generated};
use desireline_records::Micros;
use desireline_records::time::{DAY, HOUR, SECOND, format_rfc3339};

pub const FRAUD_SHARE: f64 = 0.02;
const PRODUCTS: u64 = 500;

/// Name and price range in whole units.
const CATEGORIES: [(&str, u64, u64); 10] = [
    ("Electronics", 50, 2_000),
    ("Clothing", 20, 300),
    ("Home & Garden", 15, 500),
    ("Books", 10, 50),
    ("Sports", 25, 400),
    ("Toys", 10, 150),
    ("Food & Beverage", 5, 100),
    ("Health & Beauty", 10, 200),
    ("Automotive", 20, 1_000),
    ("Office Supplies", 5, 200),
];

const CITIES: [&str; 12] = [
    "New York, NY",
    "Los Angeles, CA",
    "Chicago, IL",
    "Houston, TX",
    "Phoenix, AZ",
    "Philadelphia, PA",
    "San Antonio, TX",
    "San Diego, CA",
    "Dallas, TX",
    "Austin, TX",
    "Seattle, WA",
    "Boston, MA",
];

const FIRST_NAMES: [&str; 12] = ["ada", "ben", "carla", "dmitri", "elif", "femi", "grace", "hugo", "ines", "jonas", "kim", "lena"];
const LAST_NAMES: [&str; 12] =
    ["adler", "brown", "costa", "duval", "evans", "fischer", "garcia", "huang", "ivanova", "jensen", "khan", "lopez"];

/// Why a transaction is fraudulent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FraudPattern {
    HighAmount,
    RapidTransactions,
    UnusualLocation,
    OddHours,
}

impl FraudPattern {
    pub fn word(self) -> &'static str {
        match self {
            Self::HighAmount => "high_amount",
            Self::RapidTransactions => "rapid_transactions",
            Self::UnusualLocation => "unusual_location",
            Self::OddHours => "odd_hours",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Printed as a version 4 UUID.
    pub id: u128,
    pub time: Micros,
    pub arrival: Micros,
    pub customer: u32,
    pub city: u8,
    pub product: u16,
    pub quantity: u32,
    pub fraud: Option<FraudPattern>,
    pub duplicate: bool,
}

impl Transaction {
    pub fn transaction_id(&self) -> String {
        let id = format!("{:032x}", self.id);
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
    }

    pub fn customer_id(&self) -> String {
        format!("CUST{:08}", self.customer)
    }

    pub fn customer_email(&self) -> String {
        let bits = mix(u64::from(self.customer));
        let (first, last) = (FIRST_NAMES[(bits % 12) as usize], LAST_NAMES[(bits / 12 % 12) as usize]);
        format!("{first}.{last}{}@example.com", self.customer)
    }

    pub fn product_id(&self) -> String {
        format!("PROD{:06}", self.product)
    }

    pub fn category(&self) -> &'static str {
        CATEGORIES[category_of(self.product)].0
    }

    pub fn unit_price_cents(&self) -> u64 {
        price_cents(self.product)
    }

    pub fn total_cents(&self) -> u64 {
        self.unit_price_cents() * u64::from(self.quantity)
    }

    /// Field names and values, in order; the values as JSON.
    fn fields(&self) -> [(&'static str, String); 13] {
        let quoted = |text: &str| format!("\"{text}\"");
        let money = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        [
            ("transaction_id", quoted(&self.transaction_id())),
            ("timestamp", quoted(&format_rfc3339(self.time))),
            ("customer_id", quoted(&self.customer_id())),
            ("customer_email", quoted(&self.customer_email())),
            ("customer_location", quoted(CITIES[usize::from(self.city)])),
            ("product_id", quoted(&self.product_id())),
            ("product_name", quoted(&format!("{} {}", self.category(), self.product))),
            ("category", quoted(self.category())),
            ("quantity", self.quantity.to_string()),
            ("unit_price", money(self.unit_price_cents())),
            ("total_amount", money(self.total_cents())),
            ("is_fraud", self.fraud.is_some().to_string()),
            ("fraud_pattern", self.fraud.map_or("null".into(), |pattern| quoted(pattern.word()))),
        ]
    }
}

impl Arriving for Transaction {
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

impl Generated for Transaction {
    const CSV_HEADER: &'static str = "transaction_id,timestamp,customer_id,customer_email,customer_location,product_id,product_name,\
                                      category,quantity,unit_price,total_amount,is_fraud,fraud_pattern";
    const ENDPOINT: Option<Endpoint> = None;

    /// Quotes as JSON has them are quotes of CSV too, since no text holds a quote; null is an empty field.
    fn csv(&self, out: &mut String) {
        let values = self.fields().map(|(_, value)| match value.as_str() {
            "null" => String::new(),
            text if text.contains(',') => value,
            text => text.trim_matches('"').to_string(),
        });
        out.push_str(&values.join(","));
        out.push('\n');
    }

    fn json(&self, _: Format, out: &mut String) {
        let fields = self.fields().map(|(name, value)| format!("\"{name}\":{value}"));
        out.push('{');
        out.push_str(&fields.join(","));
        out.push('}');
    }

    fn key(&self) -> String {
        self.customer_id()
    }
}

/// Transactions without end, by arrival. Memory: 2 bytes per customer.
pub struct Market {
    random: Random,
    next: f64,
    pause_mean: f64,
    customers: u32,
    /// One bit per category the customer has bought from.
    bought: Vec<u16>,
    dear: Vec<u16>,
    last: Option<(Micros, u32)>,
}

impl Market {
    /// `rate` is in transactions per second of the market's own time.
    pub fn new(seed: u64, customers: u32, start: Micros, rate: f64) -> Self {
        let customers = customers.max(1);
        Self {
            random: Random::new(seed, 0x7A5A),
            next: start as f64,
            pause_mean: SECOND as f64 / rate.clamp(1e-3, 1e7),
            customers,
            bought: vec![0; customers as usize],
            dear: (0..PRODUCTS as u16).filter(|p| price_cents(*p) > 50_000).collect(),
            last: None,
        }
    }

    fn product(&mut self, customer: u32) -> u16 {
        let bought = self.bought[customer as usize];
        let per_category = PRODUCTS / CATEGORIES.len() as u64;
        let category = if bought != 0 && self.random.chance(0.7) {
            let wanted = self.random.below(u64::from(bought.count_ones()));
            (0..16u64).filter(|bit| bought & (1 << bit) != 0).nth(wanted as usize).unwrap_or(0)
        } else {
            self.random.below(CATEGORIES.len() as u64)
        };
        (category * per_category + self.random.below(per_category)) as u16
    }

    /// Makes an ordinary transaction a fraudulent one.
    fn forge(&mut self, transaction: &mut Transaction) {
        let patterns = [FraudPattern::HighAmount, FraudPattern::RapidTransactions, FraudPattern::UnusualLocation, FraudPattern::OddHours];
        let pattern = *self.random.pick(&patterns);
        transaction.fraud = Some(pattern);
        match pattern {
            FraudPattern::HighAmount => {
                transaction.product = *self.random.pick(&self.dear);
                transaction.quantity = self.random.between(5, 20) as u32;
            }
            FraudPattern::RapidTransactions => {
                if let Some((time, customer)) = self.last {
                    transaction.customer = customer;
                    transaction.city = city_of(customer);
                    transaction.time = transaction.time.min(time + 60 * SECOND);
                }
            }
            FraudPattern::UnusualLocation => {
                transaction.city = (transaction.city + self.random.between(1, 11) as u8) % CITIES.len() as u8;
            }
            FraudPattern::OddHours => {
                let day = transaction.time.div_euclid(DAY) * DAY;
                transaction.time = day + HOUR + self.random.between(0, 4 * HOUR / 1_000 - 1) * 1_000;
            }
        }
    }
}

impl Iterator for Market {
    type Item = Transaction;

    fn next(&mut self) -> Option<Transaction> {
        let time = self.next as Micros / 1_000 * 1_000;
        self.next += 2.0 * self.pause_mean * self.random.unit();
        let customer = self.random.below(u64::from(self.customers)) as u32;
        let bits = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits());
        let mut transaction = Transaction {
            // Version 4, variant 1.
            id: bits & !(0xF << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62),
            time,
            arrival: time,
            customer,
            city: city_of(customer),
            product: self.product(customer),
            quantity: 1 + self.random.weighted(&[50, 30, 15, 4, 1]) as u32,
            fraud: None,
            duplicate: false,
        };
        if self.random.chance(FRAUD_SHARE) {
            self.forge(&mut transaction);
        } else {
            self.bought[customer as usize] |= 1 << category_of(transaction.product);
            self.last = Some((time, customer));
        }
        Some(transaction)
    }
}

fn category_of(product: u16) -> usize {
    usize::from(product) * CATEGORIES.len() / PRODUCTS as usize
}

fn price_cents(product: u16) -> u64 {
    let (_, low, high) = CATEGORIES[category_of(product)];
    low * 100 + mix(u64::from(product) ^ 0x5EED) % ((high - low) * 100 + 1)
}

fn city_of(customer: u32) -> u8 {
    (mix(u64::from(customer) ^ 0xC17) % CITIES.len() as u64) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::START_DEFAULT;
    use std::collections::{HashMap, HashSet};

    fn some(n: usize) -> Vec<Transaction> {
        Market::new(24, 10_000, START_DEFAULT, 10.0).take(n).collect()
    }

    #[test]
    fn two_percent_are_fraud_in_four_equal_patterns() {
        let rows = some(50_000);
        let mut patterns: HashMap<FraudPattern, u32> = HashMap::new();
        for row in &rows {
            if let Some(pattern) = row.fraud {
                *patterns.entry(pattern).or_default() += 1;
            }
        }
        assert_eq!(patterns.len(), 4);
        assert!(patterns.values().all(|n| (200..300).contains(n)), "{patterns:?}");
    }

    #[test]
    fn patterns_can_be_seen_in_the_rows() {
        let mut last: Option<Transaction> = None;
        for row in some(50_000) {
            assert!((1..=5).contains(&row.quantity) || row.fraud == Some(FraudPattern::HighAmount));
            match row.fraud {
                Some(FraudPattern::HighAmount) => assert!(row.unit_price_cents() > 50_000 && (5..=20).contains(&row.quantity)),
                Some(FraudPattern::RapidTransactions) => {
                    let last = last.as_ref().expect("something came before");
                    assert!(row.customer == last.customer && row.time - last.time <= 60 * SECOND);
                }
                Some(FraudPattern::UnusualLocation) => assert_ne!(row.city, city_of(row.customer)),
                Some(FraudPattern::OddHours) => assert!((1..5).contains(&(row.time.rem_euclid(DAY) / HOUR))),
                None => assert_eq!(row.city, city_of(row.customer)),
            }
            if row.fraud.is_none() {
                last = Some(row);
            }
        }
    }

    #[test]
    fn ids_are_unique_uuids_and_prices_in_range() {
        let rows = some(20_000);
        let ids: HashSet<String> = rows.iter().map(Transaction::transaction_id).collect();
        assert_eq!(ids.len(), rows.len());
        assert!(ids.iter().all(|id| id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20])));
        for row in &rows {
            let (_, low, high) = CATEGORIES[category_of(row.product)];
            assert!((low * 100..=high * 100).contains(&row.unit_price_cents()), "{row:?}");
        }
    }

    #[test]
    fn json_has_thirteen_fields_and_csv_the_same() {
        for row in some(2_000) {
            let mut json = String::new();
            row.json(Format::Desireline, &mut json);
            let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).expect("JSON");
            assert_eq!(value.len(), 13);
            assert_eq!(value["is_fraud"], row.fraud.is_some());
            let total = value["total_amount"].as_f64().expect("a number");
            assert!((total - value["unit_price"].as_f64().expect("a number") * f64::from(row.quantity)).abs() < 0.005);

            let mut line = String::new();
            row.csv(&mut line);
            // The location is the one quoted field.
            let parts: Vec<&str> = line.trim_end().split('"').collect();
            assert_eq!(parts.len(), 3, "{line}");
            assert_eq!(value["customer_location"], parts[1]);
            assert_eq!(parts[0].matches(',').count() + parts[2].matches(',').count() + 1, 13);
        }
    }
}
