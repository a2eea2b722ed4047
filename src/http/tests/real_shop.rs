//! A shop on the real service: what its users do is in every view, and its catalog may come before or after.

use super::real::Real;
use crate::http::config::{HttpConfig, InteractionsConfig};
use crate::http::{Listener, bind, serve};
use axum::http::Method;
use desireline_records::time;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::oneshot;

impl Real {
    async fn log(&self, user: i64, asin: &str, word: &str, metadata: Value) -> (String, Value) {
        let body = json!({"user_id": user, "asin": asin, "event_type": word, "metadata": metadata});
        let (status, reply) = self.ask(Method::POST, "/api/event", &body.to_string()).await;
        assert_eq!((status, &reply["success"]), (200, &json!(true)), "{reply}");
        (reply["token"].as_str().expect("a token").to_owned(), reply)
    }

    async fn put(&self, path: &str, body: Value) -> String {
        let (status, reply) = self.ask(Method::PUT, path, &body.to_string()).await;
        assert_eq!(status, 200, "{reply}");
        reply["token"].as_str().expect("a token").to_owned()
    }

    async fn counters(&self) -> Value {
        let status = self.get("/api/status").await;
        let source = status["sources"].as_array().expect("sources").iter().find(|s| s["source_id"] == 1_000).expect("interactions").clone();
        assert_eq!(source["balanced"], true, "{source}");
        source["counters"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_does_is_in_the_context_and_in_the_views_and_bends_a_list() {
    let real = Real::new().await;
    real.put("/api/products", json!({"products": [{"parent_asin": "P1", "main_category": "Beauty", "raw_metadata": {"brand": "X"}}]}))
        .await;
    real.put("/api/items", json!({"items": [{"asin": "B1", "parent_asin": "P1"}, {"asin": "B3"}]})).await;
    real.put("/api/users", json!({"id": 1, "username": "ann"})).await;
    let before = time::now_micros() / time::SECOND;
    for (asin, word) in [("B1", "view"), ("B1", "add_to_cart"), ("B3", "click"), ("B2", "rate")] {
        real.log(1, asin, word, json!({"page": "product_detail"})).await;
    }
    let (token, _) = real.log(1, "B1", "purchase", json!({"price": 2.5, "quantity": 2})).await;

    let context = real.get(&format!("/api/context/1?at_least={token}")).await;
    assert_eq!(context["recent_items"], json!(["B1", "B2", "B3", "B1", "B1"]));
    assert_eq!(context["recent_categories"], json!({"Beauty": 3}));
    let last_active = context["last_active"].as_i64().expect("seconds");
    assert!((before..=time::now_micros() / time::SECOND).contains(&last_active));
    let expires = time::parse_time(context["expires_at"].as_str().expect("a time")).expect("RFC 3339");
    assert_eq!(expires / time::SECOND - last_active, 900);
    assert_eq!(real.get("/api/context/2").await["recent_items"], json!([]));

    let session = real.get(&format!("/api/sessions?source_id=1000&at_least={token}")).await["sessions"][0].clone();
    let counts = ["user_id", "event_count", "views", "carts", "transactions", "value"].map(|name| session[name].clone());
    assert_eq!(counts, [json!(1), json!(5), json!(1), json!(1), json!(1), json!(5.0)]);

    // A category that comes later counts in the contexts that are there.
    let token = real.put("/api/items", json!({"asin": "B2", "category": "Skin"})).await;
    assert_eq!(real.get(&format!("/api/context/1?at_least={token}")).await["recent_categories"], json!({"Beauty": 3, "Skin": 1}));
    assert_eq!(real.get("/api/items/B1").await["brand"], "X");

    let candidates = json!([{"item_id": "B9", "rank_score": 0.5, "category": "Beauty"}, {"item_id": "B1", "rank_score": 0.6}]);
    let body = json!({"user_id": 1, "ranked_items": candidates, "config": {"diversity_rounds": 0}});
    let (status, reply) = real.ask(Method::POST, "/api/rerank", &body.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply["items"][1]["applied_rules"], json!(["intent_boost(Beauty:+24.00%)", "recent_penalty_top5(-80%)"]));

    let (status, reply) = real.ask(Method::DELETE, "/api/users/1000/1", "").await;
    assert_eq!(status, 202, "{reply}");
    assert_eq!(real.get("/api/context/1").await["recent_items"], json!([]), "an erased user has no context");
    assert_eq!(real.ask(Method::GET, "/api/users/1", "").await.0, 404, "and leaves the catalog");
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_counts_once_and_the_list_is_cut_at_twenty() {
    let real = Real::new().await;
    let body = r#"{"user_id":7,"asin":"A","event_type":"view","event_id":"k1"}"#;
    for _ in 0..3 {
        assert_eq!(real.ask(Method::POST, "/api/event", body).await.0, 200);
    }
    let mut token = String::new();
    for n in 0..25 {
        (token, _) = real.log(7, &format!("B{n}"), "view", Value::Null).await;
    }
    let context = real.get(&format!("/api/context/7?at_least={token}")).await;
    let expected: Vec<String> = (5..25).rev().map(|n| format!("B{n}")).collect();
    assert_eq!(context["recent_items"], json!(expected));
    let counters = real.counters().await;
    assert_eq!((&counters["received"], &counters["applied"], &counters["duplicate"]), (&json!(28), &json!(26), &json!(2)));
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_interaction_is_counted_and_can_be_replayed() {
    let interactions = InteractionsConfig { reject_unknown: true, ..InteractionsConfig::default() };
    let real = Real::with(HttpConfig { interactions, ..HttpConfig::default() }).await;
    real.put("/api/users", json!({"id": 1})).await;
    let (token, reply) = real.log(1, "B1", "purchase", json!({"price": 3})).await;
    let letters = real.get(&format!("/api/dead-letters?source_id=1000&at_least={token}")).await;
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["kind"], &letter["field"], &letter["user_id"]), (&json!("invalid"), &json!("asin"), &json!("1")));
    assert_eq!((&real.counters().await["rejected"], real.get("/api/context/1").await["last_active"].clone()), (&json!(1), Value::Null));

    let token = real.put("/api/items", json!({"asin": "B1", "category": "Skin"})).await;
    let replay = format!("/api/dead-letters/{}/replay", letter["id"].as_str().expect("an id"));
    let (status, replayed) = real.ask(Method::POST, &replay, "").await;
    assert_eq!((status, &replayed["inserted"]), (200, &json!(1)), "{replayed}");
    assert_eq!(real.ask(Method::POST, &replay, "").await.1["duplicates"], 1);
    let session = real.get(&format!("/api/sessions?source_id=1000&at_least={token}")).await["sessions"][0].clone();
    assert_eq!((&session["transactions"], &session["value"]), (&json!(1), &json!(3.0)));
    assert_eq!(real.get("/api/context/1").await["recent_categories"], json!({"Skin": 1}));
    let id = reply["event_id"].as_str().expect("an id");
    assert_eq!(real.ask(Method::DELETE, &format!("/api/events/1000/{id}"), "").await.0, 200, "it has the id that was answered");
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_requests_have_the_documented_answers() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let real = Real::with(HttpConfig { listen, ..HttpConfig::default() }).await;
    let listeners = bind(&HttpConfig { listen, ..HttpConfig::default() }).expect("a free port");
    let address = listeners.first().map(Listener::address).expect("one listener");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listeners, real.state.clone(), async { drop(stopped.await) }));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/try-events");
    let run = |url: String| {
        let mut command = Command::new("bash");
        command.arg(&script).arg(url).stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output().expect("bash is there"));
        async { tokio::time::timeout(Duration::from_secs(60), ended).await.expect("in time").expect("no panic") }
    };
    for times in 1..=2 {
        let output = run(format!("http://{address}/")).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "run {times}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.trim_end().ends_with("10 of 10 answers are as expected"), "{text}");
    }
    assert_eq!(real.counters().await["received"], 6);
    drop(stop);
    serving.await.expect("no panic").expect("serves");
    let output = run(format!("http://{address}")).await;
    assert_eq!(output.status.code(), Some(1), "without a server nothing is as expected");
    real.service.stop().await;
}
