//! Building the tables anew: beside their readers, after they were dropped, and when settings put rows elsewhere.

use super::history::{self, CLICKS, NAMES, Random, SHOP};
use super::tables::{Site, assert_same};
use super::{apply_all, build, changes_of, changeset, expected, fresh};
use crate::support::services;
use desireline::projections::postgres::PostgresTarget;
use desireline::projections::{Standing, Target};
use desireline_records::{Batch, Control, SourceSettings, UserIdType};

#[tokio::test]
async fn readers_see_the_old_rows_or_the_new_ones() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let batches = history::random(21, 30);
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes[..20], &mut Random(1)).await;
    let before = site.tables().await;
    let numbers = format!("SELECT _id FROM {} WHERE event_id IN (SELECT event_id FROM {0}) ORDER BY _id", site.table("events"));
    let ids = site.rows(&numbers).await;
    // Somebody's view, index and right stay.
    let own = site.schemas.ampelios.clone();
    site.run(&format!("CREATE VIEW {own}.report AS SELECT count(*) FROM {}", site.table("events"))).await;
    // Somebody has meddled with the rows.
    site.run(&format!("DELETE FROM {} WHERE ctid IN (SELECT ctid FROM {0} LIMIT 3)", site.table("sessions"))).await;
    site.run(&format!("UPDATE {} SET count = count + 1", site.table("aggregates_minute"))).await;
    let meddled = site.tables().await;
    target.begin_rebuild().await.unwrap();
    for time in &changes[..20] {
        target.apply(&changeset(std::slice::from_ref(time))).await.unwrap();
        assert_eq!(site.tables().await["events"], meddled["events"], "nothing of the rebuild is seen");
    }
    assert_same(&site.tables().await, &meddled, "before the end");
    target.finish_rebuild(changes[19].0).await.unwrap();
    assert_same(&site.tables().await, &before, "at the end");
    assert_eq!(site.rows(&numbers).await, ids, "rows that were right are not written again");
    assert_eq!(site.number(&format!("SELECT count FROM {own}.report")).await as usize, before["events"].len());
    let shadows = format!(
        "SELECT count(*) FROM pg_class WHERE relnamespace = '\"{}\"'::regnamespace AND relname LIKE 'rebuild%'",
        site.schemas.desireline.replace('"', "\"\"")
    );
    assert_eq!(site.number(&shadows).await, 0);
    apply_all(&mut target, &changes[20..], &mut Random(2)).await;
    assert_same(&site.tables().await, &expected(&batches), "followed on");
    site.drop_all().await;
}

#[tokio::test]
async fn a_rebuild_that_ends_early_begins_again() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let batches = history::random(22, 20);
    let changes = changes_of(&batches);
    let (mut target, mut random) = (fresh(&site, 1).await, Random(3));
    // The first one, straight into the tables; then one into shadows.
    for round in 0..2 {
        target.begin_rebuild().await.unwrap();
        apply_all(&mut target, &changes[..9], &mut random).await;
        drop(target);
        target = PostgresTarget::new(site.config()).unwrap();
        assert_eq!(target.open(2 + round).await.unwrap(), Standing::Fresh, "round {round}");
    }
    build(&mut target, &changes, &mut random).await;
    assert_same(&site.tables().await, &expected(&batches), "built at last");
    assert_eq!(target.open(5).await.unwrap(), Standing::At(changes.last().unwrap().0));
    site.drop_all().await;
}

#[tokio::test]
async fn dropped_tables_are_noticed_and_built_again() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let batches = history::random(23, 25);
    let changes = changes_of(&batches);
    let (mut target, mut random) = (fresh(&site, 1).await, Random(4));
    build(&mut target, &changes[..10], &mut random).await;
    target.check().await.unwrap();
    for (table, at) in [("events", 12), ("items", 15), ("refused_rows", 18), ("projection", 21)] {
        site.run(&format!("DROP TABLE {} CASCADE", site.table(table))).await;
        assert_eq!(target.check().await.unwrap_err().code(), "lost", "{table}");
        if table != "refused_rows" {
            let error = target.apply(&changeset(&changes[10..at])).await.unwrap_err();
            assert_eq!(error.code(), "lost", "{table}: {error}");
        }
        assert_eq!(target.open(1).await.unwrap(), Standing::Fresh, "{table}");
        // Nothing is forgotten when nobody gets to building it.
        assert_eq!(target.open(1).await.unwrap(), Standing::Fresh, "{table}, opened again");
        build(&mut target, &changes[..at], &mut random).await;
        assert_same(&site.tables().await, &expected(&batches[..at]), table);
        target.check().await.unwrap();
    }
    // Whole schemas, under a connection that knows nothing of it.
    for schema in [&site.schemas.ampelios, &site.schemas.interactions, &site.schemas.desireline] {
        site.run(&format!("DROP SCHEMA \"{}\" CASCADE", schema.replace('"', "\"\""))).await;
    }
    assert_eq!(target.apply(&changeset(&changes[21..])).await.unwrap_err().code(), "lost");
    assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
    build(&mut target, &changes, &mut random).await;
    assert_same(&site.tables().await, &expected(&batches), "after the schemas");
    site.drop_all().await;
}

#[tokio::test]
async fn another_place_or_layout_is_another_target() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let batches = history::random(26, 12);
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes, &mut Random(8)).await;
    let mut config = site.config();
    config.schemas.clickstream = config.schemas.interactions.clone();
    let mut moved = PostgresTarget::new(config).unwrap();
    assert_eq!(moved.open(2).await.unwrap(), Standing::Fresh);
    build(&mut moved, &changes, &mut Random(9)).await;
    let count = |schema: &str| format!("SELECT count(*) FROM {schema}.aggregates_minute");
    let there = site.number(&count(&site.schemas.interactions)).await;
    assert_eq!((there, there > 0), (site.number(&count(&site.schemas.clickstream)).await, true));
    // What was written by a later release is not touched by this one.
    site.run(&format!("UPDATE {} SET layout = layout + 1", site.table("projection"))).await;
    let error = moved.open(3).await.unwrap_err();
    assert!(error.code() == "refused" && error.to_string().contains("layout"), "{error}");
    site.drop_all().await;
}

#[tokio::test]
async fn settings_that_put_rows_elsewhere_cost_one_rebuild() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let mut batches = history::random(24, 24);
    let last = batches.last().unwrap().time;
    // The clicks had names, later numbers; the shop had no context at first; NAMES gets and loses its numbers.
    for control in &mut batches[0].controls {
        if let Control::Settings(settings) = control {
            settings.context = None;
            settings.user_id_type = if settings.source == NAMES { UserIdType::Int } else { UserIdType::String };
        }
    }
    let only_settings = |batches: &mut [Batch]| {
        for batch in batches {
            batch.controls.retain(|control| !matches!(control, Control::Settings(_)));
        }
    };
    only_settings(&mut batches[1..]);
    let change = |time: u64, source| Batch { time, controls: vec![Control::Settings(history::settings(source))], ..Batch::default() };
    batches.insert(8, change(batches[7].time + 1, CLICKS));
    batches.insert(14, change(batches[13].time + 1, SHOP));
    batches.push(change(last + 1, NAMES));
    let by_value = SourceSettings { transaction_value: true, ..history::settings(CLICKS) };
    batches.push(Batch { time: last + 2, controls: vec![Control::Settings(by_value)], ..Batch::default() });
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    let mut rebuilds = 0;
    'again: loop {
        rebuilds += 1;
        assert!(rebuilds < 6, "every change of settings costs at most one rebuild");
        target.begin_rebuild().await.unwrap();
        for time in &changes {
            if let Err(error) = target.apply(&changeset(std::slice::from_ref(time))).await {
                assert_eq!(error.code(), "lost", "{error}");
                assert_eq!(target.open(1).await.unwrap(), Standing::Fresh);
                continue 'again;
            }
        }
        break;
    }
    assert_eq!(rebuilds, 4, "three sources moved");
    target.finish_rebuild(last + 2).await.unwrap();
    assert_same(&site.tables().await, &expected(&batches), "under the last settings");
    // Known by now: the next build needs no second try.
    build(&mut target, &changes, &mut Random(5)).await;
    assert_same(&site.tables().await, &expected(&batches), "built again");
    assert!(site.number(&format!("SELECT count(*) FROM {} WHERE source_id = {SHOP}", site.table("interaction_logs"))).await > 0);
    site.drop_all().await;
}

#[tokio::test]
async fn vectors_are_pgvectors_where_it_is() {
    let Some(url) = services::postgres() else { return };
    let site = Site::new(&url).await;
    let there = !site.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").await.is_empty();
    if !there {
        services::note_skipped("pgvector in this PostgreSQL: only vectors as real[] are tested");
    }
    let batches = history::random(25, 15);
    let changes = changes_of(&batches);
    let mut target = fresh(&site, 1).await;
    build(&mut target, &changes, &mut Random(6)).await;
    let types = format!(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE (attrelid, attname) IN (('{0}'::regclass, 'state'), \
         ('{0}'::regclass, 'paths'), ('{1}'::regclass, 'centroid')) ORDER BY attname",
        site.table("user_journey"),
        site.table("cluster")
    );
    let expected_types = if there { [["vector(6)"], ["vector(3)[]"], ["vector(3)"]] } else { [["real[]"]; 3] };
    assert_eq!(site.rows(&types).await, expected_types);
    build(&mut target, &changes, &mut Random(7)).await;
    assert_same(&site.tables().await, &expected(&batches), "in either form");
    site.drop_all().await;
}
