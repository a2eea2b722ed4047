//! Interactions, the catalog, contexts and projections: what goes in, what comes out.

use super::fake::{Answer, Mood, Site, request};
use crate::http::config::{AccessToken, CorsConfig, HttpConfig, InteractionsConfig, Scope};
use axum::body::Body;
use axum::http::Method;
use desireline_dataflows::changes::ContextRow;
use desireline_records::{DeadLetterKind, Event, Movement, time};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn site() -> Site {
    Site::new(HttpConfig::default())
}

fn with(interactions: InteractionsConfig) -> Site {
    Site::new(HttpConfig { interactions, ..HttpConfig::default() })
}

impl Site {
    pub(super) async fn put(&self, uri: &str, kind: &str, body: &str) -> Answer {
        self.send(request(Method::PUT, uri).header("content-type", kind).body(body.to_owned().into()).expect("a request")).await
    }

    fn taken(&self) -> Vec<Event> {
        self.fake.events.lock().expect("lock").clone()
    }

    async fn take(&self, body: Value) -> Event {
        let answer = self.post("/api/event", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        self.taken().pop().expect("an event")
    }
}

/// The fields at fault, in their order.
pub(super) fn fields(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["code"]), (400, &json!("invalid")), "{body}");
    body["errors"].as_array().expect("fields").iter().map(|e| e["field"].as_str().expect("a name").to_owned()).collect()
}

fn property(event: &Event) -> String {
    event.extra.as_ref().map(|extra| extra.properties.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn an_interaction_becomes_an_event_of_its_source_under_both_paths() {
    let site = site();
    let before = time::now_micros();
    for path in ["/api/event", "/api/event/"] {
        let answer = site
            .post(
                path,
                r#"{"user_id":1,"asin":"B1","event_type":"view","metadata":{"page":"product_detail","timestamp":"2024-01-01T00:00:00Z"}}"#,
            )
            .await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["success"], &body["message"]), (200, &json!(true), &json!("Event logged: view")));
        assert_eq!((body["token"].as_str(), body["event_id"].as_str().map(str::len)), (Some("d1-0-3e8"), Some(24)));
    }
    let events = site.taken();
    assert_eq!(events.len(), 2);
    let event = &events[0];
    assert_eq!((event.source, event.user.as_str(), event.item.as_str(), event.event_type.as_str()), (1_000, "1", "B1", "view"));
    assert_eq!((event.movement, event.page.as_str(), event.value.0), (Movement::View, "product_detail", 0));
    assert!(event.time >= before, "the time is the server's");
    assert_eq!(property(event), r#"{"page":"product_detail","timestamp":"2024-01-01T00:00:00Z"}"#);
    assert_ne!(events[0].id, events[1].id);
    assert_eq!(site.followers.waits.load(Ordering::SeqCst), 0, "nothing is kept in Redis, so nobody waits");
}

#[tokio::test]
async fn both_paths_demand_the_scope_to_send() {
    let mut config = HttpConfig::default();
    let token = AccessToken { name: "r".into(), hash: AccessToken::hash_of("r"), scopes: vec![Scope::Read] };
    config.access.tokens = vec![token];
    let site = Site::new(config);
    for path in ["/api/event", "/api/event/"] {
        let ask = |secret: Option<&str>| {
            let mut builder = request(Method::POST, path).header("content-type", "application/json");
            if let Some(secret) = secret {
                builder = builder.header("authorization", format!("Bearer {secret}"));
            }
            site.send(builder.body(r#"{"user_id":1,"asin":"B1","event_type":"view"}"#.into()).expect("a request"))
        };
        assert_eq!((ask(None).await.status.as_u16(), ask(Some("r")).await.status.as_u16()), (401, 403), "{path}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_keys_and_write_the_catalog() {
    let cors = CorsConfig { origins: vec!["https://shop.example".into()] };
    let site = Site::new(HttpConfig { cors, ..HttpConfig::default() });
    for (path, method, header) in [("/api/event", "POST", "content-type,idempotency-key"), ("/api/items", "PUT", "content-type")] {
        let ask = request(Method::OPTIONS, path).header("origin", "https://shop.example").header("access-control-request-method", method);
        let answer = site.send(ask.header("access-control-request-headers", header).body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example", "{path}");
        assert!(answer.header("access-control-allow-methods").contains(method), "{path}");
        let allowed = answer.header("access-control-allow-headers");
        assert!(header.split(',').all(|name| allowed.contains(name)), "{path}: {allowed}");
    }
}

#[tokio::test]
async fn each_word_moves_what_the_words_say_and_a_purchase_has_a_value() {
    let site = site();
    let one =
        async |word: &str, metadata: Value| site.take(json!({"user_id": -7, "asin": "B1", "event_type": word, "metadata": metadata})).await;
    for (word, movement) in [
        ("view", Movement::View),
        ("click", Movement::None),
        ("add_to_cart", Movement::Cart),
        ("purchase", Movement::Transaction),
        ("rate", Movement::None),
    ] {
        let event = one(word, json!({"price": 2.5, "quantity": 3})).await;
        let value = if word == "purchase" { 75_000 } else { 0 };
        assert_eq!((event.movement, event.value.0, event.user.as_str()), (movement, value, "-7"), "{word}");
    }
    for (metadata, value) in [
        (json!({"value": 19.99, "price": 1}), 199_900),
        (json!({"value": "19.99"}), 199_900),
        (json!({"price": 0.3333, "quantity": 0.5}), 1_667),
        (json!({"price": 4}), 40_000),
        (json!({"quantity": 4}), 0),
        (json!({"price": "cheap"}), 0),
        (json!({"price": 1e12, "quantity": 1e6}), 0),
        (json!({"price": [1], "value": {}}), 0),
        (json!({}), 0),
        (json!(null), 0),
    ] {
        assert_eq!(one("purchase", metadata.clone()).await.value.0, value, "{metadata}");
    }
    assert_eq!(property(&one("view", json!({})).await), "", "metadata without anything are none");
}

#[tokio::test]
async fn an_odd_page_is_no_page() {
    let site = site();
    for (page, expected) in
        [(json!("a\nb"), "a\nb"), (json!(7), ""), (json!("x".repeat(2_049)), ""), (json!("a\0"), ""), (json!(["/"]), "")]
    {
        let event = site.take(json!({"user_id": 1, "asin": "B1", "event_type": "view", "metadata": {"page": page}})).await;
        assert_eq!(event.page, expected, "{page}");
    }
}

#[tokio::test]
async fn all_mistakes_of_an_interaction_are_named_at_once() {
    let site = site();
    let wrong = r#"{"user_id":"1","asin":7,"event_type":"like","metadata":[],"event_id":"~x"}"#;
    assert_eq!(fields(&site.post("/api/event", wrong).await), ["user_id", "asin", "event_type", "metadata", "event_id"]);
    assert_eq!(fields(&site.post("/api/event", "{}").await), ["user_id", "asin", "event_type"]);
    let empty = r#"{"user_id":1.5,"asin":"","event_type":""}"#;
    assert_eq!(fields(&site.post("/api/event", empty).await), ["user_id", "asin", "event_type"]);
    let long = json!({"user_id": 1, "asin": "x".repeat(257), "event_type": "view", "metadata": {"a": "y".repeat(65_536)}});
    assert_eq!(fields(&site.post("/api/event", &long.to_string()).await), ["asin", "metadata"]);
    let deep = format!(r#"{{"user_id":1,"asin":"B1","event_type":"view","metadata":{{"a":{}{}}}}}"#, "[".repeat(64), "]".repeat(64));
    assert_eq!(fields(&site.post("/api/event", &deep).await), ["metadata"]);
    for (body, code) in [("", "malformed"), ("{", "malformed"), ("[]", "malformed"), ("null", "malformed")] {
        assert_eq!(site.post("/api/event", body).await.json()["code"], code, "{body}");
    }
    assert!(site.taken().is_empty() && site.fake.letters.lock().expect("lock").is_empty(), "what is answered with 400 leaves nothing");
    assert_eq!(site.take(json!({"user_id": 7.0, "asin": "B1", "event_type": "view"})).await.user, "7");
    assert_eq!(site.take(json!({"user_id": i64::MIN, "asin": "B1", "event_type": "view"})).await.user, i64::MIN.to_string());
}

/// One byte too long.
const LONG_KEY: &str = match std::str::from_utf8(&[b'k'; 257]) {
    Ok(key) => key,
    Err(_) => "",
};

#[tokio::test]
async fn a_key_of_the_client_is_the_id_of_the_event() {
    let site = site();
    let send = async |key: Option<&'static str>, body: Value| {
        let mut builder = request(Method::POST, "/api/event").header("content-type", "application/json");
        if let Some(key) = key {
            builder = builder.header("idempotency-key", key);
        }
        site.send(builder.body(body.to_string().into()).expect("a request")).await
    };
    let view = json!({"user_id": 1, "asin": "B1", "event_type": "view"});
    assert_eq!(send(Some("order-1"), view.clone()).await.json()["event_id"], "order-1");
    assert_eq!(
        send(None, json!({"user_id": 1, "asin": "B1", "event_type": "view", "event_id": "order-1"})).await.json()["event_id"],
        "order-1"
    );
    let ids: Vec<_> = site.taken().into_iter().map(|event| event.id).collect();
    assert_eq!(ids[0], ids[1], "the key counts, not where it stands");
    let both = json!({"user_id": 1, "asin": "B1", "event_type": "view", "event_id": "body"});
    assert_eq!(send(Some("header"), both).await.json()["event_id"], "body");
    assert_eq!(send(Some(""), view.clone()).await.json()["event_id"].as_str().map(str::len), Some(24));
    for key in ["~derived", "caf\u{e9}", "a\tb", LONG_KEY] {
        assert_eq!(fields(&send(Some(key), view.clone()).await), ["idempotency-key"], "{key}");
    }
}

#[tokio::test]
async fn the_clients_time_is_taken_only_where_a_setting_says_so_and_it_is_valid() {
    let site = with(InteractionsConfig { event_time: true, ..InteractionsConfig::default() });
    let one = async |timestamp: Value| {
        site.take(json!({"user_id": 1, "asin": "B1", "event_type": "view", "metadata": {"timestamp": timestamp}})).await.time
    };
    for given in [json!("2024-01-01T00:00:00Z"), json!(1_704_067_200), json!(1_704_067_200_000_i64), json!("1704067200")] {
        assert_eq!(one(given.clone()).await, 1_704_067_200_000_000, "{given}");
    }
    let began = time::now_micros();
    for given in [json!("soon"), json!("2199-01-01T00:00:00Z"), json!(-1), json!({}), Value::Null] {
        assert!(one(given.clone()).await >= began, "{given}");
    }
}

#[tokio::test]
async fn an_unknown_item_or_user_is_a_dead_letter_where_a_setting_says_so() {
    let site = with(InteractionsConfig { reject_unknown: true, ..InteractionsConfig::default() });
    assert_eq!(site.put("/api/items", "application/json", r#"{"asin":"B1"}"#).await.status, 200);
    let body =
        |asin: &str| json!({"user_id": 5, "asin": asin, "event_type": "purchase", "metadata": {"price": 2, "page": "/p"}}).to_string();
    for (asin, field) in [("B9", "asin"), ("B1", "user_id")] {
        let answer = site.post("/api/event", &body(asin)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (200, &json!(true)));
        let letter = site.fake.letters.lock().expect("lock").pop().expect("a dead letter");
        assert_eq!((letter.source, letter.kind, letter.field.as_str(), letter.user.as_str()), (1_000, DeadLetterKind::Invalid, field, "5"));
        assert_eq!((letter.format.as_str(), letter.origin.as_str()), ("desireline", "http"));
        let payload: Value = serde_json::from_str(&letter.payload).expect("JSON");
        assert_eq!((&payload["item_id"], &payload["value"], &payload["page"]), (&json!(asin), &json!("2.0000"), &json!("/p")));
        assert_eq!((&payload["event_id"], &payload["properties"]["price"]), (&answer.json()["event_id"], &json!(2)));
        let raw = desireline_connectors::formats::parse_with_body_source(
            desireline_connectors::formats::Format::Desireline,
            0,
            letter.payload.as_bytes(),
        );
        let raw = raw.expect("it can be replayed");
        assert_eq!((raw.source, raw.user.as_ref(), raw.item.as_ref(), raw.event_type.as_ref()), (1_000, "5", asin, "purchase"));
        assert!(raw.time.is_some_and(|at| at == letter.at), "to the microsecond");
    }
    assert!(site.taken().is_empty());
    assert_eq!(site.put("/api/users", "application/json", r#"{"id":5}"#).await.status, 200);
    assert_eq!(site.post("/api/event", &body("B1")).await.status, 200);
    assert_eq!(site.taken().len(), 1);
}

#[tokio::test]
async fn an_answer_waits_for_redis_and_a_slow_one_is_only_counted() {
    let site = with(InteractionsConfig { redis_wait: Some(Duration::from_millis(1)), ..InteractionsConfig::default() });
    let view = json!({"user_id": 1, "asin": "B1", "event_type": "view"});
    let behind = async || {
        let text = site.get("/metrics").await;
        let text = String::from_utf8_lossy(&text.bytes).into_owned();
        text.lines().find_map(|line| line.strip_prefix("desireline_interactions_redis_behind_total ")).map(str::to_owned)
    };
    site.followers.passed.store(true, Ordering::SeqCst);
    site.take(view.clone()).await;
    assert_eq!((site.followers.waits.load(Ordering::SeqCst), behind().await.as_deref()), (1, Some("0")));
    site.followers.passed.store(false, Ordering::SeqCst);
    site.take(view.clone()).await;
    assert_eq!((site.followers.waits.load(Ordering::SeqCst), behind().await.as_deref()), (2, Some("1")));
}

#[tokio::test]
async fn a_server_that_cannot_take_says_so() {
    let site = site();
    let view = r#"{"user_id":1,"asin":"B1","event_type":"view"}"#;
    site.fake.feel(Mood::Busy);
    let answer = site.post("/api/event", view).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after"), &answer.json()["code"]), (429, "3", &json!("busy")));
    site.fake.feel(Mood::Broken);
    assert_eq!(site.post("/api/event", view).await.status, 500);
    assert_eq!(site.put("/api/items", "application/json", r#"{"asin":"B1"}"#).await.status, 500);
}

#[tokio::test]
async fn the_catalog_is_written_in_three_forms_and_read_one_by_one() {
    let site = site();
    let answer = site
        .put(
            "/api/items",
            "application/json",
            r#"{"items":[{"asin":"B1","parent_asin":"P1","variant":"red"},{"asin":"B2","category":"Skin"}]}"#,
        )
        .await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"accepted": 2, "token": "d1-0-3e8"})));
    let product =
        r#"{"parent_asin":"P1","title":"Soap","main_category":"Beauty","avg_rating":4.25,"rating_number":12,"raw_metadata":{"Brand":"X"}}"#;
    assert_eq!(site.put("/api/products", "application/json", product).await.json()["accepted"], 1);
    assert_eq!(
        site.put("/api/users", "application/x-ndjson", "{\"id\":1,\"username\":\"ann\"}\n\n{\"id\":-2}\n").await.json()["accepted"],
        2
    );

    let soap = json!({"parent_asin": "P1", "title": "Soap", "store": null, "main_category": "Beauty", "avg_rating": 4.25, "rating_number": 12,
        "primary_image": null, "brand": "X", "raw_metadata": {"Brand": "X"}});
    assert_eq!(site.get("/api/products/P1").await.json(), soap);
    let item = json!({"asin": "B1", "parent_asin": "P1", "variant": "red", "primary_image": null, "category": "Beauty", "brand": "X", "product": soap});
    assert_eq!(site.get("/api/items/B1").await.json(), item);
    let lone = json!({"asin": "B2", "parent_asin": "B2", "variant": null, "primary_image": null, "category": "Skin", "brand": null, "product": null});
    assert_eq!(site.get("/api/items/B2").await.json(), lone);
    assert_eq!(site.get("/api/users/1").await.json(), json!({"id": 1, "username": "ann"}));
    assert_eq!(site.get("/api/users/-2").await.json(), json!({"id": -2, "username": null}));
    for path in ["/api/items/B3", "/api/products/B1", "/api/users/3"] {
        assert_eq!(site.get(path).await.status, 404, "{path}");
    }
    assert_eq!(fields(&site.get("/api/users/ann").await), ["id"]);
    site.fake.not_ready.store(true, Ordering::SeqCst);
    assert_eq!(site.get("/api/items/B1").await.status, 503);
}

#[tokio::test]
async fn a_list_is_taken_whole_or_not_at_all_and_every_mistake_is_named() {
    let site = site();
    let body = r#"{"items":[{"asin":"B1"},{"asin":7,"category":"x"},5,{"parent_asin":"P"}]}"#;
    let answer = site.put("/api/items", "application/json", body).await;
    let error = answer.json();
    assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!("invalid")));
    let rejected: Vec<_> = error["rejected"].as_array().expect("a list").iter().map(|r| (r["index"].clone(), r["field"].clone())).collect();
    assert_eq!(rejected, [(json!(1), json!("asin")), (json!(2), json!("")), (json!(3), json!("asin"))]);
    assert!(error["detail"].as_str().is_some_and(|detail| detail.starts_with("3 of 4")), "{error}");
    assert_eq!(site.get("/api/items/B1").await.status, 404, "nothing was taken");

    let lines = "{\"id\":1}\nnonsense\n{\"id\":\"2\"}";
    let error = site.put("/api/users", "application/x-ndjson", lines).await.json();
    assert_eq!((&error["rejected"][0]["index"], &error["rejected"][1]["field"]), (&json!(1), &json!("id")));
    let many: Vec<Value> = (0..150).map(|_| json!({})).collect();
    let error = site.put("/api/items", "application/json", &json!({"items": many}).to_string()).await.json();
    assert_eq!(error["rejected"].as_array().map(Vec::len), Some(100));

    let product = r#"{"parent_asin":"","avg_rating":101,"rating_number":-1,"raw_metadata":"x","title":false}"#;
    let wrong = fields(&site.put("/api/products", "application/json", product).await);
    assert_eq!(wrong, ["parent_asin", "title", "avg_rating", "rating_number", "raw_metadata"]);
    assert_eq!(fields(&site.put("/api/items", "application/json", r#"{"items":[]}"#).await), ["items"]);
    assert_eq!(fields(&site.put("/api/items", "application/json", r#"{"items":{}}"#).await), ["items"]);
    assert_eq!(fields(&site.put("/api/items", "application/x-ndjson", "\n").await), ["items"]);
    assert_eq!(site.put("/api/items", "application/json", "[]").await.json()["code"], "malformed");

    let site = with(InteractionsConfig { catalog_entries_max: 2, ..InteractionsConfig::default() });
    let three = "{\"asin\":\"a\"}\n{\"asin\":\"b\"}\n{\"asin\":\"c\"}";
    let answer = site.put("/api/items", "application/x-ndjson", three).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (413, &json!("too_many_entries")));
}

pub(super) fn context(ttl_s: i64, categories_ttl_s: i64) -> ContextRow {
    let now = time::now_micros();
    ContextRow {
        source: 1_000,
        user: "1".into(),
        recent_items: vec!["B2".into(), "B1".into()],
        recent_categories: vec![("Beauty".into(), 3)],
        last_active: now - 5 * time::SECOND,
        expires_at: now + ttl_s * time::SECOND,
        categories_expire_at: now + categories_ttl_s * time::SECOND,
    }
}

#[tokio::test]
async fn a_context_is_shown_until_it_expires() {
    let site = site();
    let set = |row| *site.fake.context.lock().expect("lock") = Some(row);
    let row = context(100, 100);
    let last_active = row.last_active / time::SECOND;
    set(row.clone());
    let answer = site.get("/api/context/1").await;
    assert_eq!(answer.header("x-desireline-as-of"), "1000");
    let expected = json!({"as_of": 1000, "user_id": 1, "recent_items": ["B2", "B1"], "recent_categories": {"Beauty": 3},
        "last_active": last_active, "expires_at": time::format_rfc3339(row.expires_at)});
    assert_eq!(answer.json(), expected);
    set(context(100, -1));
    assert_eq!(site.get("/api/context/1").await.json()["recent_categories"], json!({}));
    set(context(-1, -1));
    let empty = |user: i64| json!({"as_of": 1000, "user_id": user, "recent_items": [], "recent_categories": {}, "last_active": null, "expires_at": null});
    assert_eq!(site.get("/api/context/1").await.json(), empty(1));
    assert_eq!(site.get("/api/context/-9").await.json(), empty(-9));
    for wrong in ["x", "1.0", "01", "9223372036854775808", "+1"] {
        assert_eq!(fields(&site.get(&format!("/api/context/{wrong}")).await), ["user_id"], "{wrong}");
    }
}

#[tokio::test]
async fn projections_are_shown_and_take_orders() {
    let site = site();
    let all = site.get("/api/projections").await.json();
    assert_eq!(all["projections"].as_array().map(Vec::len), Some(2));
    let redis = json!({"name": "redis", "state": "failing", "views": ["context"], "applied": 900, "lag_ms": 100, "lag_rows": 3, "rows_applied": 7,
        "rows_refused": 0, "failures": 1, "error": "connection refused", "since": "2023-11-14T22:13:20.000Z"});
    assert_eq!(all["projections"][1], redis);
    assert_eq!(site.get("/api/status").await.json()["projections"], all["projections"]);
    for (order, detail) in [("rebuild", "rebuild"), ("pause", "paused"), ("resume", "resumed")] {
        let post = request(Method::POST, &format!("/api/projections/redis/{order}")).body(Body::empty()).expect("a request");
        assert_eq!(site.send(post).await.json(), json!({"detail": detail}));
        assert_eq!(site.post(&format!("/api/projections/mysql/{order}"), "").await.status, 404);
    }
    assert_eq!(*site.followers.orders.lock().expect("lock"), ["rebuild", "pause", "resume"]);
    let metrics = site.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("desireline_projection_state{projection=\"redis\",state=\"failing\"} 1.0"));
}

#[test]
fn the_documented_helper_of_pages_forgets_nothing_and_throws_nothing() {
    let page = include_str!("../../../docs/interactions.md");
    let (_, helper) = page.split_once("```js\n").expect("the helper");
    let (helper, _) = helper.split_once("```").expect("its end");
    let folder = tempfile::tempdir().expect("a folder");
    let module = folder.path().join("helper.mjs");
    std::fs::write(&module, helper).expect("written");
    let test = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/tests/data/log_event.mjs");
    crate::testing::node(&[test.as_ref(), module.as_os_str()]);
}
