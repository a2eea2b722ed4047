//! Rows that the database refuses: found, written down, and nobody else's concern.

use super::history::{self, CLICKS, NAMES, Random, SHOP};
use super::tables::{Site, assert_same};
use super::{build, changes_of, changeset, expected, fresh};
use crate::support::services;
use desireline::projections::{Standing, Target};
use desireline_records::{Batch, CatalogEntry, Control, EraseUser, Event, EventExtra, Product};
use std::sync::Arc;

const TIME: i64 = 1_700_000_000_000_000;

fn shop(user: &str, id: &str, at: i64, event_type: &str, item: &str, properties: &str) -> Event {
    let mut event = history::event(SHOP, user, id, TIME + at);
    event.event_type = event_type.into();
    event.item = item.into();
    event.extra = Some(Box::new(EventExtra { properties: properties.into(), ..EventExtra::default() }));
    event
}

fn batch(time: u64, events: Vec<Event>) -> Batch {
    Batch { time, events, ..Batch::default() }
}

#[tokio::test]
async fn rows_that_no_table_can_hold_are_dead_letters() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let mut page = history::event(NAMES, "p", "page", TIME);
    page.page = "a\0b".into();
    let user = history::event(NAMES, "n\0", "user", TIME);
    let words = history::event(CLICKS, "007", "words", TIME);
    let bad = vec![
        page,
        user,
        words,
        shop("ann", "ann", 0, "view", "A1", "{}"),
        shop("5", "type", 1, "search", "A1", "{}"),
        shop("5", "none", 2, "view", "", "{}"),
        shop("5", "nul", 3, "view", "A1", r#"{"a":"\u0000"}"#),
        shop("5", "huge", 4, "view", "A1", r#"{"a":1e200000}"#),
    ];
    let good = vec![history::event(CLICKS, "7", "seven", TIME), shop("5", "good", 5, "view", "A1", r#"{"a":1}"#)];
    let batches = vec![history::first_batch(), batch(2, bad.into_iter().chain(good).collect())];
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes[..1], &mut Random(1)).await;
    let applied = target.apply(&changeset(&changes[1..])).await.unwrap();
    let refused = site.rows(&format!("SELECT table_name, key, error FROM {} ORDER BY key", site.table("refused_rows"))).await;
    let tables: Vec<&str> = refused.iter().map(|row| row[0].as_str()).collect();
    // In the order of their keys: five of SHOP's events and one of CLICKS, journeys of users without a number, the page, the session.
    assert_eq!(applied.refused as usize, refused.len(), "{refused:?}");
    for (table, count) in [("events", 6), ("user_journey", 2), ("aggregates_minute", 1), ("sessions", 1)] {
        assert_eq!(tables.iter().filter(|name| **name == table).count(), count, "{table}: {refused:#?}");
    }
    let error = |id: &str| {
        let key = desireline_records::EventId::explicit(id).to_string();
        refused.iter().find(|row| row[1].ends_with(&key)).unwrap_or_else(|| panic!("{id} is not refused: {refused:#?}"))[2].clone()
    };
    assert!(error("words").contains("integer") && error("type").contains("type") && error("none").contains("item"));
    assert!(error("nul").contains("22P05") && error("huge").contains("22003"), "{} {}", error("nul"), error("huge"));
    // Everything else is there.
    let logs = site.table("interaction_logs");
    assert_eq!(site.rows(&format!("SELECT user_id, asin, metadata::text FROM {logs}")).await, [["5", "A1", r#"{"a": 1}"#]]);
    assert_eq!(site.number(&format!("SELECT count(*) FROM {} WHERE visitorid = 7", site.table("events"))).await, 1);
    assert_eq!(target.open(1).await.unwrap(), Standing::At(2));
    // The owner of the rows goes, and so do they.
    let erase = |source, user: &str| {
        Control::Erase(EraseUser { source, user: user.into(), requested_at: TIME, sealed_minutes: Vec::new(), purged: None })
    };
    let controls = vec![erase(SHOP, "5"), erase(SHOP, "ann"), erase(CLICKS, "007"), erase(NAMES, "n\0"), erase(NAMES, "p")];
    let all: Vec<Batch> = batches.into_iter().chain([Batch { time: 3, controls, ..Batch::default() }]).collect();
    target.apply(&changeset(&changes_of(&all)[2..])).await.unwrap();
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.table("refused_rows"))).await, 0, "also of rows that are taken away");
    assert_same(&site.tables().await, &expected(&all), "after the erasure");
    site.drop_all().await;
}

#[tokio::test]
async fn a_constraint_of_the_owner_refuses_its_rows_only() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let row = |at: i64| {
        let mut event = history::event(CLICKS, &(at % 50).to_string(), &format!("e{at}"), TIME + at * 1_000_000);
        event.item = at.to_string().into();
        event
    };
    let batches = vec![history::first_batch(), batch(2, (0..100).map(row).collect()), batch(3, (100..700).map(row).collect())];
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes[..2], &mut Random(1)).await;
    let events = site.table("events");
    site.run(&format!("ALTER TABLE {events} ADD CONSTRAINT mine CHECK (itemid NOT IN (111, 333, 699))")).await;
    let applied = target.apply(&changeset(&changes[2..])).await.unwrap();
    assert_eq!(applied.refused, 3);
    let refused = site.rows(&format!("SELECT row->>'item', row->>'user_id', error FROM {} ORDER BY 1", site.table("refused_rows"))).await;
    let items: Vec<_> = refused.iter().map(|row| (row[0].as_str(), row[1].as_str(), row[2].contains("23514"))).collect();
    assert_eq!(items, [("111", "11", true), ("333", "33", true), ("699", "49", true)]);
    let mut expected = expected(&batches);
    let gone = ["111", "333", "699"];
    expected.get_mut("events").unwrap().retain(|row| !gone.contains(&row[6].as_str()));
    assert_same(&site.tables().await, &expected, "all others");
    // What is refused can still be deleted, and then is no dead letter any more.
    let source = CLICKS;
    let deletion = Control::DeleteEvent { source, id: desireline_records::EventId::explicit("e111") };
    let all: Vec<Batch> = batches.into_iter().chain([Batch { time: 4, controls: vec![deletion], ..Batch::default() }]).collect();
    target.open(1).await.unwrap();
    target.apply(&changeset(&changes_of(&all)[3..])).await.unwrap();
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.table("refused_rows"))).await, 2);
    // Built anew the same rows are refused again, by the constraint of the shadow.
    let mut rest = super::expected(&all);
    rest.get_mut("events").unwrap().retain(|row| !gone.contains(&row[6].as_str()));
    build(&mut target, &changes_of(&all), &mut Random(2)).await;
    assert_same(&site.tables().await, &rest, "built anew under the constraint");
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.table("refused_rows"))).await, 2);
    site.run(&format!("ALTER TABLE {events} DROP CONSTRAINT mine")).await;
    build(&mut target, &changes_of(&all), &mut Random(2)).await;
    assert_same(&site.tables().await, &super::expected(&all), "without the constraint nothing is refused");
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.table("refused_rows"))).await, 0);
    site.drop_all().await;
}

#[tokio::test]
async fn a_catalog_entry_that_is_refused_keeps_no_event_back() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let product = |raw: &str| Product {
        parent_asin: "A1".into(),
        title: "t".into(),
        store: None,
        main_category: Some("books".into()),
        avg_rating: None,
        rating_number: None,
        primary_image: None,
        raw_metadata: Some(raw.into()),
    };
    let put = |raw: &str| Control::Catalog(CatalogEntry::Product(Arc::new(product(raw))));
    let mut second = batch(2, vec![shop("5", "good", 5, "rate", "A1", "")]);
    second.controls = vec![put("no JSON")];
    let batches = vec![history::first_batch(), second, Batch { time: 3, controls: vec![put("{}")], ..Batch::default() }];
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes[..1], &mut Random(1)).await;
    assert_eq!(target.apply(&changeset(&changes[1..2])).await.unwrap().refused, 1);
    let count = format!("SELECT count(*) FROM {} WHERE table_name = 'products' AND error LIKE '%22P02%'", site.table("refused_rows"));
    assert_eq!(site.number(&count).await, 1);
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.table("interaction_logs"))).await, 1);
    // A later row of the same key is none.
    assert_eq!(target.apply(&changeset(&changes[2..])).await.unwrap().refused, 0);
    assert_eq!(site.number(&count).await, 0);
    assert_same(&site.tables().await, &expected(&batches), "after the correction");
    site.drop_all().await;
}
