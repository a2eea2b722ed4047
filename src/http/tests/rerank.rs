//! Lists bent to a context: what goes in, what comes out.

use super::fake::Site;
use super::shop::{context, fields};
use crate::http::config::HttpConfig;
use crate::rerank::{Overrides, Profile, RerankConfig};
use serde_json::{Value, json};

fn site() -> Site {
    Site::new(HttpConfig::default())
}

const FOUR: &str = r#"[{"item_id":"B9","category":"Beauty","rank_score":0.5},{"item_id":"B1","category":"Beauty","rank_score":0.6},
    {"item_id":"B7","category":"Skin","rank_score":0.55,"rating_number":2,"raw_signals":{"mf":1}},{"item_id":"B8","category":"Other","rank_score":0.52}]"#;

#[tokio::test]
async fn a_list_is_bent_to_the_context() {
    let site = site();
    *site.fake.context.lock().expect("lock") = Some(context(100, 100));
    let body = format!(r#"{{"user_id":1,"ranked_items":{FOUR},"config":{{"diversity_rounds":0}}}}"#);
    let reply = site.post("/api/rerank", &body).await.json();
    assert_eq!((&reply["as_of"], &reply["user_id"], &reply["profile"]), (&json!(1000), &json!(1), &json!("code")));
    let items = reply["items"].as_array().expect("items");
    let order: Vec<&str> = items.iter().filter_map(|item| item["item_id"].as_str()).collect();
    assert_eq!(order, ["B9", "B8", "B7", "B1"]);
    let first = json!({"item_id": "B9", "rank_score": 0.5, "adjusted_score": 0.62, "rank_position": 1,
        "applied_rules": ["intent_boost(Beauty:+24.00%)"], "category": "Beauty", "rating_number": null});
    assert_eq!(items[0], first);
    assert_eq!(items[2]["applied_rules"], json!(["popularity_floor(rating=2)"]));
    assert_eq!(items[3]["applied_rules"], json!(["intent_boost(Beauty:+24.00%)", "recent_penalty_top5(-80%)"]));
    assert!((items[3]["adjusted_score"].as_f64().expect("a number") - 0.1488).abs() < 1e-9);

    let body = format!(r#"{{"user_id":2,"ranked_items":{FOUR},"profile":"readme","top_n":2,"config":{{"diversity_rounds":0}}}}"#);
    let reply = site.post("/api/rerank", &body).await.json();
    assert_eq!((&reply["profile"], reply["items"].as_array().map(Vec::len)), (&json!("readme"), Some(2)));
    assert_eq!(reply["items"][0]["applied_rules"], json!([]), "nobody has seen this user");
    assert_eq!(site.post("/api/rerank", r#"{"user_id":1,"ranked_items":[]}"#).await.json()["items"], json!([]));
}

#[tokio::test]
async fn ten_of_one_category_are_told_why_they_fell() {
    let site = site();
    let items: Vec<Value> = (0..20)
        .map(|n| json!({"item_id": format!("i{n}"), "rank_score": 20 - n, "category": if n < 10 { "c".into() } else { format!("c{n}") }}))
        .collect();
    let reply = site.post("/api/rerank", &json!({"user_id": 1, "ranked_items": items}).to_string()).await.json();
    let fallen = reply["items"].as_array().expect("items").iter().find(|item| item["item_id"] == "i0").expect("it is there").clone();
    let rules: Vec<&str> = fallen["applied_rules"].as_array().expect("rules").iter().filter_map(Value::as_str).collect();
    assert_eq!(rules[..2], ["diversity_penalty(50.00%)", "category_limit_exceeded(10)"]);
    assert_eq!(rules.len(), 6, "three rounds, and each counts");
}

#[tokio::test]
async fn what_a_candidate_does_not_say_comes_from_the_catalog() {
    let site = site();
    site.put("/api/items", "application/json", r#"{"items":[{"asin":"v1","parent_asin":"P"},{"asin":"v2","parent_asin":"P"}]}"#).await;
    site.put("/api/products", "application/json", r#"{"parent_asin":"P","main_category":"Beauty","rating_number":3}"#).await;
    let body = r#"{"user_id":1,"ranked_items":[{"item_id":"v1","rank_score":1},{"item_id":"v2","rank_score":2,"category":"Own"},{"item_id":"x","rank_score":0}],"config":{"diversity_rounds":0}}"#;
    let items = site.post("/api/rerank", body).await.json()["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(2), "of one parent the first stays");
    assert_eq!((&items[0]["item_id"], &items[0]["category"], &items[0]["rating_number"]), (&json!("v2"), &json!("Own"), &json!(3)));
    assert_eq!(items[0]["applied_rules"], json!(["popularity_floor(rating=3)"]));
    assert_eq!((&items[1]["category"], &items[1]["rating_number"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_setting_wins_over_the_profile_and_a_request_over_the_setting() {
    let overrides =
        Overrides { popularity_factor: Some(0.5), popularity_floor: Some(10), diversity_rounds: Some(0), ..Overrides::default() };
    let rerank = RerankConfig { profile: Profile::Readme, top_n: 1, overrides, candidates_max: 2 };
    let site = Site::new(HttpConfig { rerank, ..HttpConfig::default() });
    let ask = async |config: &str| {
        let body = format!(
            r#"{{"user_id":1,"ranked_items":[{{"item_id":"a","rank_score":1,"rating_number":7}},{{"item_id":"b","rank_score":0}}],"config":{config}}}"#
        );
        site.post("/api/rerank", &body).await.json()
    };
    let reply = ask("null").await;
    assert_eq!(
        (&reply["profile"], &reply["items"][0]["adjusted_score"], reply["items"].as_array().map(Vec::len)),
        (&json!("readme"), &json!(0.5), Some(1))
    );
    assert_eq!(ask(r#"{"popularity_factor":0.25}"#).await["items"][0]["adjusted_score"], 0.25);
    assert_eq!(ask(r#"{"popularity_floor":5}"#).await["items"][0]["adjusted_score"], 1.0);
    let three = format!(r#"{{"user_id":1,"ranked_items":{FOUR}}}"#);
    let answer = site.post("/api/rerank", &three).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (413, &json!("too_many_candidates")));
}

#[tokio::test]
async fn all_mistakes_of_a_request_to_re_rank_are_named_at_once() {
    let site = site();
    let body = r#"{"user_id":"1","top_n":0,"profile":"best","config":{"boost":1,"boost_max":-1,"cumulative":"yes","category_max":0},
        "ranked_items":[{"item_id":"a","rank_score":"1"},7,{"rank_score":1e13,"rank_position":-1,"rating_number":1.5},{"item_id":"b","rank_score":1}]}"#;
    let expected = [
        "user_id",
        "top_n",
        "profile",
        "config",
        "config.boost_max",
        "config.category_max",
        "config.cumulative",
        "ranked_items[0].rank_score",
        "ranked_items[1]",
        "ranked_items[2].item_id",
        "ranked_items[2].rank_score",
        "ranked_items[2].rank_position",
        "ranked_items[2].rating_number",
    ];
    assert_eq!(fields(&site.post("/api/rerank", body).await), expected);
    assert_eq!(fields(&site.post("/api/rerank", r#"{"user_id":1}"#).await), ["ranked_items"]);
    assert_eq!(fields(&site.post("/api/rerank", r#"{"user_id":1,"ranked_items":[],"config":[]}"#).await), ["config"]);
    let many: Vec<Value> = (0..200).map(|_| json!({})).collect();
    assert_eq!(fields(&site.post("/api/rerank", &json!({"user_id": 1, "ranked_items": many}).to_string()).await).len(), 100);
}
