//! Items and users that nobody knows yet.

use crate::stores::Stores;
use crate::support::model::counter;
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, eventually, eventually_true};
use crate::{fill_catalog, put, send, services_stay, wait_logged};
use serde_json::{Value, json};

/// The source of interactions.
const SOURCE: u64 = 1_000;

#[test]
fn an_unknown_item_is_kept_and_filled_in_when_it_is_known() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let server = Server::new().config(stores.config()).start();
    let http = &server.http;
    fill_catalog(http);
    let reply = send(http, 77, "NEW", "view");
    assert_eq!(reply["success"], true);
    assert_eq!(stores.context(77).recent_items, ["NEW"]);
    assert!(stores.context(77).recent_categories.is_empty());
    let rows = wait_logged(&stores, 1);
    assert!(rows[0].metadata["category"].is_null() && rows[0].metadata["brand"].is_null(), "{rows:?}");
    let stub = |sql: &str| {
        let rows = stores.query(&sql.replace("{schema}", &stores.schema())).unwrap();
        rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(stub("SELECT asin, category, known FROM {schema}.items WHERE asin = 'NEW'"), [["NEW", "", "f"]]);
    assert_eq!(stub("SELECT id, username, known FROM {schema}.users WHERE id = 77"), [["77", "", "f"]]);

    put(http, "/api/items", &json!({ "items": [{ "asin": "NEW", "parent_asin": "P1" }] })).expect_status(200);
    eventually_true("the categories of the context", DEADLINE, || stores.context(77).recent_categories.contains_key("Beauty"));
    let filled = eventually("the row to be filled in", DEADLINE, || {
        let rows = stores.logged();
        if rows.iter().all(|row| row.metadata["category"] == "Beauty") { Ok(rows) } else { Err(format!("{rows:?}")) }
    });
    assert_eq!((filled.len(), &filled[0].metadata["brand"]), (1, &json!("X")));
    assert_eq!(stub("SELECT asin, parent_asin, known FROM {schema}.items WHERE asin = 'NEW'"), [["NEW", "P1", "t"]]);
}

#[test]
fn with_reject_an_unknown_item_is_a_dead_letter_that_can_be_replayed() {
    let _services = services_stay();
    let Some(stores) = Stores::new() else { return };
    let config = format!("[interactions]\nunknown = \"reject\"\n{}", stores.config());
    let server = Server::new().config(config).start();
    let http = &server.http;
    fill_catalog(http);
    let rejected = || counter(&http.get_json("/api/status"), SOURCE, "rejected");
    send(http, 1, "B1", "view");
    assert_eq!(rejected(), 0);
    let reply = send(http, 1, "NEW", "purchase");
    assert_eq!(reply["success"], true, "the client sees no difference");
    eventually_true("the rejected event to be counted", DEADLINE, || rejected() == 1);
    send(http, 1, "B2", "view");
    let asins: Vec<String> = wait_logged(&stores, 2).into_iter().map(|row| row.asin).collect();
    assert_eq!(asins, ["B1", "B2"], "the later event is there, the rejected one is not");
    assert_eq!(stores.context(1).recent_items, ["B2", "B1"]);

    let letters = http.get_json(&format!("/api/dead-letters?source_id={SOURCE}"));
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["kind"], &letter["field"]), (&json!("invalid"), &json!("asin")), "{letter}");
    put(http, "/api/items", &json!({ "items": [{ "asin": "NEW", "category": "Tea" }] })).expect_status(200);
    let replay = format!("/api/dead-letters/{}/replay", letter["id"].as_str().expect("an id"));
    http.post_json(&replay, &Value::Null).expect_status(200);
    let rows = wait_logged(&stores, 3);
    let row = rows.iter().find(|row| row.asin == "NEW").expect("the replayed event");
    assert_eq!((row.event_type.as_str(), &row.metadata["category"]), ("purchase", &json!("Tea")));
    assert_eq!(stores.context(1).recent_categories.get("Tea"), Some(&1));
}
