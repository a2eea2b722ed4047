//! What the shop's stream promises, on a few ten thousand events.

use super::*;
use crate::generate::{Format, Generated, START_DEFAULT};
use desireline_records::time::MINUTE;
use desireline_records::validate::Validator;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

fn plain() -> ShopSettings {
    ShopSettings { late: 0.0, duplicates: 0.0, ..ShopSettings::new(24, 10_000, START_DEFAULT) }
}

fn some(n: usize, settings: ShopSettings) -> Vec<GeneratedEvent> {
    Shop::open(settings).take(n).collect()
}

fn digest(events: &[GeneratedEvent]) -> String {
    let mut text = String::new();
    for event in events {
        event.json(Format::Desireline, &mut text);
    }
    Sha256::digest(&text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_first_ten_thousand_events_of_a_seed_are_fixed() {
    let settings = ShopSettings::new(24, 10_000, START_DEFAULT);
    let events = some(10_000, settings.clone());
    assert_eq!(digest(&events), DIGEST, "the stream of a seed has changed");
    assert_eq!(digest(&events), digest(&some(10_000, settings.clone())));
    assert_ne!(digest(&events), digest(&some(10_000, ShopSettings { seed: 25, ..settings })));
}

/// Of the first 10,000 events of seed 24, as JSON.
const DIGEST: &str = "37c664e57951cd45";

#[test]
fn kinds_of_events_have_plausible_shares() {
    let events = some(50_000, plain());
    let mut shares: HashMap<&str, f64> = HashMap::new();
    for event in &events {
        *shares.entry(event.event_type()).or_default() += 100.0 / events.len() as f64;
    }
    assert!((30.0..50.0).contains(&shares["pageview"]), "{shares:?}");
    assert!((30.0..50.0).contains(&shares["product_view"]), "{shares:?}");
    assert!((5.0..15.0).contains(&shares["search"]), "{shares:?}");
    assert!((4.0..14.0).contains(&shares["add_to_cart"]), "{shares:?}");
    assert!((0.5..5.0).contains(&shares["purchase"]), "{shares:?}");
}

#[test]
fn a_visit_is_a_story() {
    let mut visits: HashMap<u32, Vec<GeneratedEvent>> = HashMap::new();
    let last = START_DEFAULT + 60 * MINUTE;
    for event in Shop::open(plain()).take_while(|e| e.time < last) {
        visits.entry(event.visit).or_default().push(event);
    }
    let mut bought = 0;
    for visit in visits.values().filter(|v| matches!(v[0].action, Action::Home { .. })) {
        assert!(visit.len() <= 11);
        assert!(visit.windows(2).all(|w| w[0].user == w[1].user && w[0].time < w[1].time));
        let (mut seen, mut cart) = (HashSet::new(), Vec::new());
        for event in visit {
            match &event.action {
                Action::View(product) => {
                    seen.insert(product.id());
                }
                Action::AddToCart(product, quantity) => {
                    assert!(seen.contains(&product.id()), "added unseen: {event:?}");
                    cart.push((*product, *quantity));
                }
                Action::Purchase { lines, .. } => {
                    assert_eq!(lines[..], cart[..]);
                    let total: u64 = cart.drain(..).map(|(p, n)| p.price_cents() * u64::from(n)).sum();
                    assert_eq!(event.value().map(|v| v.0), Some(total as i64 * 100));
                    bought += 1;
                }
                _ => {}
            }
        }
    }
    assert!(visits.len() > 10_000 && bought > 500, "{} visits, {bought} purchases", visits.len());
}

#[test]
fn the_rate_holds_over_a_day_and_follows_the_rhythm() {
    let rate = 2.0;
    let mut hours = [0u32; 24];
    for event in Shop::open(ShopSettings { rate, ..plain() }).take_while(|e| e.time < START_DEFAULT + 24 * HOUR) {
        hours[((event.time - START_DEFAULT) / HOUR) as usize] += 1;
    }
    let all: u32 = hours.iter().sum();
    assert!((f64::from(all) / (rate * 86_400.0) - 1.0).abs() < 0.05, "{all} events");
    assert!(hours[20] > 5 * hours[3], "{hours:?}");

    let steady = ShopSettings { rate: 100.0, rhythm: false, users: 1_000, ..plain() };
    let n = Shop::open(steady).take_while(|e| e.time < START_DEFAULT + 5 * MINUTE).count();
    assert!((27_000..33_000).contains(&n), "{n} in five minutes at 100 per second from the first second on");
}

#[test]
fn any_rate_can_be_had_from_few_users() {
    let fast = ShopSettings { rate: 20_000.0, users: 100, rhythm: false, ..plain() };
    let mut shop = Visits::new(fast);
    let mut last = START_DEFAULT;
    for _ in 0..20_000 {
        last = shop.next().expect("no end").time;
        assert!(shop.open.len() < 200, "{} visits are open", shop.open.len());
    }
    let seconds = (last - START_DEFAULT) as f64 / SECOND as f64;
    assert!((0.7..1.4).contains(&seconds), "{seconds}");
}

#[test]
fn the_busiest_user_has_two_percent() {
    let mut users: HashMap<u32, u32> = HashMap::new();
    for event in some(100_000, ShopSettings { users: 100_000, ..plain() }) {
        *users.entry(event.user).or_default() += 1;
    }
    let busiest = users.values().max().expect("users");
    assert!((1_500..2_600).contains(busiest), "{busiest} of 100,000");
}

#[test]
fn late_and_repeated_events_have_their_shares() {
    let events = some(50_000, ShopSettings { late: 0.1, duplicates: 0.05, ..plain() });
    let late = events.iter().filter(|e| e.arrival - e.time > MINUTE).count();
    let copies = events.iter().filter(|e| e.duplicate).count();
    assert!(events.is_sorted_by_key(|e| e.arrival));
    // The stream has just begun: many late ones are still on their way.
    assert!((200..5_500).contains(&late), "{late}");
    assert!((2_000..2_800).contains(&copies), "{copies}");
    let mut first: HashMap<u64, &GeneratedEvent> = HashMap::new();
    for event in &events {
        match first.get(&event.number) {
            None => {
                first.insert(event.number, event);
            }
            Some(other) => assert_eq!((other.to_raw(), other.duplicate != event.duplicate), (event.to_raw(), true)),
        }
    }
}

#[test]
fn a_live_shop_gives_each_event_once_and_in_time() {
    let mut live = Shop::new(7, 5_000, START_DEFAULT);
    let mut got = Vec::new();
    for second in 1..=600 {
        let now = START_DEFAULT + second * SECOND;
        loop {
            let events = live.advance(now, 100);
            assert!(events.iter().all(|e| e.arrival <= now && e.arrival > now - SECOND || second == 1));
            let full = events.len() == 100;
            got.extend(events);
            if !full {
                break;
            }
        }
        assert!(live.next_event_at() > now);
    }
    let expected: Vec<GeneratedEvent> = Shop::new(7, 5_000, START_DEFAULT).take(got.len()).collect();
    assert_eq!(got, expected);
}

#[test]
fn the_validator_takes_every_event_and_json_says_the_same() {
    let validator = Validator::default();
    for event in some(5_000, ShopSettings { source: 3, ..plain() }) {
        let raw = event.to_raw();
        let valid = validator.validate(&raw, event.time, || unreachable!("it brings its id")).expect("valid");
        assert_eq!(valid.source, 3);

        let mut text = String::new();
        event.json(Format::Desireline, &mut text);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let text_of = |key: &str| json.get(key).and_then(|v| v.as_str()).unwrap_or_default();
        assert_eq!(text_of("user_id"), raw.user);
        assert_eq!(text_of("session_id"), raw.session_id);
        assert_eq!(text_of("client_id"), raw.client_id);
        assert_eq!(text_of("event_id"), raw.event_id);
        assert_eq!(text_of("event_type"), raw.event_type);
        assert_eq!(text_of("page"), raw.page);
        assert_eq!(text_of("item_id"), raw.item);
        assert_eq!(json["source_id"], 3);
        let seconds = json["timestamp"].as_f64().expect("epoch seconds");
        assert_eq!((seconds * 1e6).round() as i64, event.time);
        let value = json.get("value").map(|v| v.as_f64().expect("a number"));
        assert_eq!(value, raw.value.map(|v| v.to_f64()));
        let properties: serde_json::Value = serde_json::from_str(&raw.properties).expect("JSON");
        assert_eq!(json["properties"], properties);

        text.clear();
        event.json(Format::Clickstream, &mut text);
        let flat: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        let mut names: Vec<&str> = flat.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["client_id", "event_type", "page", "properties", "session_id", "timestamp", "user_id"]);
    }
}

#[test]
fn ampelios_rows_read_back() {
    for event in some(5_000, plain()) {
        let mut line = String::new();
        event.csv(&mut line);
        let [time, visitor, word, item, order] = line.trim_end().split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(time.parse(), Ok(event.time / 1_000));
        assert_eq!(visitor.parse(), Ok(event.user));
        assert_eq!(item.parse().ok(), event.item());
        let movement = match event.event_type() {
            "add_to_cart" => "addtocart",
            "purchase" => "transaction",
            _ => "view",
        };
        assert_eq!(word, movement);
        assert_eq!(order.parse::<u32>().is_ok(), word == "transaction");

        let mut json = String::new();
        event.json(Format::Ampelios, &mut json);
        let json: HashMap<String, String> = serde_json::from_str(&json).expect("all fields are text");
        for (name, value) in super::event::AMPELIOS_HEADER.split(',').zip([time, visitor, word, item, order]) {
            assert_eq!(json[name], value);
        }
    }
}
