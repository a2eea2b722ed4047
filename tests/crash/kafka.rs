//! Two topics: `clicks`, events of a tracker with and without ids, and `shop`, rows whose identity is what they say.

use std::time::Duration;

use chrono::Utc;
use desireline::generate::random::Random;
use serde_json::json;

use crate::feed::{Context, click_json, decimal};
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::model::{Click, HOUR_MS, MINUTE_MS, Model, Rule};

const PACE: Duration = Duration::from_millis(40);
const TEN_YEARS_MS: i64 = 3_650 * 24 * HOUR_MS;
/// Events kept for repetition.
const RECENT_MAX: usize = 500;
const MALFORMED: [&str; 6] = [
    r#"{"user_id":"k1","timestamp":"#,
    "not json",
    "[]",
    r#"{"user_id":"k1","event_type":"view","timestamp":"tomorrow"}"#,
    r#"{"user_id":"k1","event_type":"view","value":{}}"#,
    "",
];

pub struct Topics {
    pub clicks: String,
    pub shop: String,
}

/// What one topic was sent.
pub struct Topic {
    pub model: Model,
    pub messages: u64,
    pub rejected: u64,
    pub quarantined: u64,
    pub duplicates: u64,
}

pub struct Sent {
    pub clicks: Topic,
    pub shop: Topic,
}

impl Topic {
    fn new() -> Topic {
        Topic { model: Model::new(Rule::FromFirst), messages: 0, rejected: 0, quarantined: 0, duplicates: 0 }
    }

    fn take(&mut self, id: String, click: Click) {
        if !self.model.add(id, click) {
            self.duplicates += 1;
        }
    }
}

/// Produces until it is stopped. The producer is idempotent, so what it sent is in the topics once.
pub fn feed(context: &Context<'_>, kafka: &Kafka, topics: &Topics) -> Sent {
    let mut random = Random::new(context.seed, 2);
    let mut sent = Sent { clicks: Topic::new(), shop: Topic::new() };
    let mut old_rows = Vec::new();
    while !context.stop.stopped_within(PACE) {
        let clicks: Vec<Outgoing> = (0..random.below(30)).map(|_| click_message(context, &mut random, &mut sent.clicks)).collect();
        let shop: Vec<Outgoing> = (0..random.below(20)).map(|_| shop_message(&mut random, &mut sent.shop, &mut old_rows)).collect();
        sent.clicks.messages += kafka.send(&topics.clicks, clicks);
        sent.shop.messages += kafka.send(&topics.shop, shop);
    }
    sent
}

/// Mostly of the last half hour, the rest anywhere within 20 hours.
fn some_time(random: &mut Random) -> i64 {
    let back = if random.chance(0.8) { 30 * MINUTE_MS } else { 20 * HOUR_MS };
    Utc::now().timestamp_millis() - random.between(0, back)
}

fn click_message(context: &Context<'_>, random: &mut Random, topic: &mut Topic) -> Outgoing {
    let partition = random.below(3) as i32;
    let send = |payload: String| Outgoing::new(payload).to(partition);
    let number = topic.messages + topic.model.len() + topic.rejected + topic.quarantined + topic.duplicates;
    if random.chance(0.03) {
        topic.rejected += 1;
        return send((*random.pick(&MALFORMED)).to_owned());
    }
    let mut recent = context.recent.lock().expect("no feed fails while it holds this");
    if random.chance(0.06) && !recent.is_empty() {
        let (id, click) = random.pick(&recent).clone();
        let payload = click_json(0, Some(&id), &click).to_string();
        topic.take(id, click);
        return send(payload);
    }
    let mut click = Click {
        user: format!("k{}", random.below(300)),
        time_ms: some_time(random),
        event_type: (*random.pick(&["view", "pageview", "view", "addtocart", "purchase", "search"])).to_owned(),
        page: format!("/k/{}", random.below(5)),
        value: random.between(0, 2_000_000),
    };
    if random.chance(0.01) {
        click.time_ms += TEN_YEARS_MS;
        topic.quarantined += 1;
        return send(click_json(0, None, &click).to_string());
    }
    if random.chance(0.5) {
        let payload = click_json(0, None, &click).to_string();
        // Its place in the topic is its identity, and no two messages share one.
        topic.take(format!("place {number}"), click);
        return send(payload);
    }
    let id = format!("id-{number}");
    let payload = click_json(0, Some(&id), &click).to_string();
    if recent.len() < RECENT_MAX {
        recent.push((id.clone(), click.clone()));
    } else {
        let at = random.below(RECENT_MAX as u64) as usize;
        recent[at] = (id.clone(), click.clone());
    }
    topic.take(id, click);
    send(payload)
}

fn shop_message(random: &mut Random, topic: &mut Topic, old: &mut Vec<(String, Click, String)>) -> Outgoing {
    let partition = random.below(2) as i32;
    if random.chance(0.1) && !old.is_empty() {
        let (id, click, payload) = random.pick(old).clone();
        topic.take(id, click);
        return Outgoing::new(payload).to(partition);
    }
    let (time_ms, visitor, item) = (some_time(random), random.below(200), random.below(50));
    let word = *random.pick(&["view", "view", "addtocart", "transaction", "look"]);
    let value = random.between(0, 500_000);
    let payload = json!({ "timestamp": time_ms, "visitorid": visitor, "event": word, "itemid": item, "value": decimal(value) }).to_string();
    if word == "look" {
        topic.rejected += 1;
        return Outgoing::new(payload).to(partition);
    }
    let click = Click { user: visitor.to_string(), time_ms, event_type: word.to_owned(), page: String::new(), value };
    let id = format!("{time_ms},{visitor},{word},{item},{value}");
    old.push((id.clone(), click.clone(), payload.clone()));
    topic.take(id, click);
    Outgoing::new(payload).to(partition)
}
