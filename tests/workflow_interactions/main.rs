//! A web shop's day: `POST /api/event` in, the context in Redis, rows in PostgreSQL, and lists re-ranked by the context.
//!
//! Every test starts the real binary beside a real Redis and a real PostgreSQL. Expected values are written down by hand.
//!
//! The tests that take a service away ([`outages`]) hold everybody else off meanwhile.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod catalog;
mod datasets;
mod outages;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use stores::{Logged, Stores};
use support::http::{Http, Reply};
use support::server::Server;
use support::wait::{DEADLINE, eventually, eventually_true};

/// Read by tests that need the services, written by those that take one away.
static SERVICES: RwLock<()> = RwLock::new(());

pub fn services_stay() -> RwLockReadGuard<'static, ()> {
    SERVICES.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn services_go() -> RwLockWriteGuard<'static, ()> {
    SERVICES.write().unwrap_or_else(PoisonError::into_inner)
}

pub fn put(http: &Http, path: &str, body: &Value) -> Reply {
    http.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string().into_bytes())
}

/// Users 1 and 2; B1 is Beauty by brand X, B2 is Skin, B3 has no category.
pub fn fill_catalog(http: &Http) {
    let products = json!({ "products": [
        { "parent_asin": "P1", "title": "Soap", "main_category": "Beauty", "raw_metadata": { "brand": "X" } }] });
    put(http, "/api/products", &products).expect_status(200);
    let items = json!({ "items": [{ "asin": "B1", "parent_asin": "P1" }, { "asin": "B2", "category": "Skin" }, { "asin": "B3" }] });
    put(http, "/api/items", &items).expect_status(200);
    put(http, "/api/users", &json!({ "users": [{ "id": 1, "username": "ann" }, { "id": 2 }] })).expect_status(200);
}

#[track_caller]
pub fn send(http: &Http, user: i64, asin: &str, event_type: &str) -> Value {
    let body = json!({ "user_id": user, "asin": asin, "event_type": event_type });
    http.post_json("/api/event", &body).expect_status(200).json()
}

/// Waits until the table has so many rows, and gives them.
#[track_caller]
pub fn wait_logged(stores: &Stores, count: usize) -> Vec<Logged> {
    eventually("the rows of interaction_logs", DEADLINE, || {
        let rows = stores.logged();
        if rows.len() == count { Ok(rows) } else { Err(format!("{} rows instead of {count}", rows.len())) }
    })
}

pub fn projection<'a>(reply: &'a Value, name: &str) -> &'a Value {
    let all = reply["projections"].as_array().expect("projections");
    all.iter().find(|projection| projection["name"] == name).unwrap_or_else(|| panic!("no projection {name} in {reply}"))
}

fn categories<const N: usize>(all: [(&str, u64); N]) -> std::collections::BTreeMap<String, u64> {
    all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn an_event_is_in_redis_with_its_answer_and_in_postgres_soon() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let server = Server::new().config(stores.config()).start();
    let http = &server.http;
    fill_catalog(http);

    let event = json!({ "user_id": 1, "asin": "B1", "event_type": "view", "metadata": { "page": "product_detail" } });
    let reply = http.post_json("/api/event", &event).expect_status(200).json();
    assert_eq!((&reply["success"], &reply["message"]), (&json!(true), &json!("Event logged: view")));
    let now = chrono::Utc::now().timestamp();
    let context = stores.context(1);
    assert_eq!(context.recent_items, ["B1"], "the answer has waited for Redis");
    assert_eq!(context.recent_categories, categories([("Beauty", 1)]));
    let last_active = context.last_active.expect("a time");
    assert!((now - 5..=now).contains(&last_active), "{last_active} at {now}");
    for lives in stores.lives_ms(1) {
        assert!((895_000..=900_000).contains(&lives), "keys live 15 minutes from the event: {lives} ms");
    }
    let rows = wait_logged(&stores, 1);
    let metadata = json!({ "page": "product_detail", "category": "Beauty", "brand": "X" });
    assert_eq!(rows, [Logged { user: 1, asin: "B1".into(), event_type: "view".into(), metadata }]);

    for number in 0..23 {
        send(http, 1, ["B2", "B1"][number % 2], "click");
    }
    let before = stores.context(1);
    assert_eq!(before.recent_categories, categories([("Beauty", 12), ("Skin", 12)]));
    send(http, 1, "B3", "add_to_cart");
    let context = stores.context(1);
    assert_eq!(context.recent_items.len(), 20);
    assert_eq!(context.recent_items[..4], ["B3", "B2", "B1", "B2"], "newest first");
    assert_eq!(context.recent_categories, before.recent_categories, "an item without a category changes none");
    let answer = http.get_json("/api/context/1");
    assert_eq!((&answer["recent_items"], &answer["recent_categories"]), (&json!(context.recent_items), &json!(context.recent_categories)));
    assert_eq!(stores.context(2).recent_items, [""; 0], "of nobody else");

    let refused = |body: Value, field: &str| {
        let reply = http.post_json("/api/event", &body).expect_status(400).json();
        assert_eq!((&reply["code"], &reply["errors"][0]["field"]), (&json!("invalid"), &json!(field)), "{reply}");
    };
    refused(json!({ "user_id": 1, "asin": "B1", "event_type": "like" }), "event_type");
    refused(json!({ "user_id": 1, "event_type": "view" }), "asin");
    send(http, 2, "B1", "rate");
    let rows = wait_logged(&stores, 26);
    assert_eq!(rows.iter().filter(|row| row.user == 1).count(), 25, "what was refused is nowhere");
    assert_eq!(rows[25].event_type, "rate");
}

#[test]
fn a_context_ends_when_its_time_is_over() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let config = format!("[interactions]\ncontext_ttl = \"2s\"\n{}", stores.config());
    let server = Server::new().config(config).start();
    fill_catalog(&server.http);
    send(&server.http, 1, "B1", "view");
    assert_eq!(stores.context(1).recent_items, ["B1"]);
    assert!(stores.lives_ms(1).iter().all(|lives| (1..=2_000).contains(lives)), "{:?}", stores.lives_ms(1));
    eventually_true("the keys to go", DEADLINE, || stores.lives_ms(1) == [-2; 3]);
    let answer = server.http.get_json("/api/context/1");
    assert_eq!((&answer["recent_items"], &answer["recent_categories"], &answer["last_active"]), (&json!([]), &json!({}), &Value::Null));
    send(&server.http, 1, "B2", "view");
    let context = stores.context(1);
    assert_eq!((context.recent_items.as_slice(), context.recent_categories), (&["B2".to_owned()][..], categories([("Skin", 1)])));
    wait_logged(&stores, 2);
}

fn rerank(http: &Http, body: &Value) -> Vec<Value> {
    http.post_json("/api/rerank", body).expect_status(200).json()["items"].as_array().expect("items").clone()
}

#[test]
fn a_list_is_bent_to_the_context() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let server = Server::new().config(stores.config()).start();
    let http = &server.http;
    fill_catalog(http);
    for asin in ["B1", "B1", "B1", "B3"] {
        send(http, 1, asin, "view");
    }
    let token = send(http, 1, "B3", "view")["token"].as_str().expect("a token").to_owned();
    http.get_json(&format!("/api/context/1?at_least={token}"));
    let candidates = json!([
        { "item_id": "B9", "rank_score": 0.50, "category": "Beauty" },
        { "item_id": "B1", "rank_score": 0.60, "category": "Beauty" },
        { "item_id": "B7", "rank_score": 0.55, "category": "Skin", "rating_number": 2 },
        { "item_id": "B8", "rank_score": 0.52, "category": "Other" },
    ]);
    let items = rerank(http, &json!({ "user_id": 1, "ranked_items": candidates, "config": { "diversity_rounds": 0 } }));
    let expected = [("B9", 0.62), ("B8", 0.52), ("B7", 0.495), ("B1", 0.1488)];
    for (item, (id, score)) in items.iter().zip(expected) {
        let adjusted = item["adjusted_score"].as_f64().expect("a score");
        assert!(item["item_id"] == id && (adjusted - score).abs() < 1e-9, "{id} at {score}: {item}");
    }
    assert_eq!(items.len(), 4);

    let candidates: Vec<Value> = (0..20)
        .map(|n| json!({ "item_id": format!("C{n}"), "rank_score": 1.0 - f64::from(n) / 100.0, "category": if n < 10 { "Tea".to_owned() } else { format!("Other {n}") } }))
        .collect();
    let items = rerank(http, &json!({ "user_id": 2, "ranked_items": candidates, "top_n": 20 }));
    let tea: Vec<&Value> = items.iter().filter(|item| item["category"] == "Tea").collect();
    assert_eq!(tea.len(), 10);
    for item in tea {
        let rules = item["applied_rules"].to_string();
        assert!(rules.contains("diversity_penalty(") && rules.contains("category_limit_exceeded("), "{item}");
    }
    assert!(items.iter().filter(|item| item["category"] != "Tea").all(|item| item["applied_rules"] == json!([])));
}
