//! The statements that bring what is staged into the tables: for each table one that puts and one that takes away.
//!
//! They stand in an order in which what is referred to exists first and goes last, and run as one text, in one round trip. A table
//! with nothing staged has no statement.
//!
//! Staging tables are emptied in the transaction that filled them. `TRUNCATE` (and `ON COMMIT DELETE ROWS`, which is the same for every
//! staging table at every commit) takes milliseconds, `DELETE` leaves dead rows behind: so rows are deleted until enough of them lie
//! dead.

use super::schema::Names;
use super::stage::{STAGES, Stage, Staged};
use desireline_records::SourceId;
use std::collections::HashMap;
use std::sync::Mutex;

/// Dead rows of a staging table that are worth a `TRUNCATE`.
const DEAD_ROWS_MAX: u64 = 2_000;
const LOOSE_STAGE: &str = "s_loose";

/// The row of `users` is taken away by a change of its own.
const ERASE: &str = "
DELETE FROM {sessions} t USING pg_temp.s_erased e WHERE t.source_id = e.source_id AND t.user_id = e.user_id;
DELETE FROM {events} t USING pg_temp.s_erased e WHERE t.source_id = e.source_id AND t.visitorid = e.number;
DELETE FROM {user_journey} t USING pg_temp.s_erased e WHERE t.source_id = e.source_id AND t.user_id = e.number;
WITH gone AS (
    DELETE FROM {interaction_logs} t USING pg_temp.s_erased e WHERE t.source_id = e.source_id AND t.user_id = e.number
    RETURNING t.asin, t.user_id
) INSERT INTO pg_temp.s_loose (asin, user_id) SELECT DISTINCT asin, user_id FROM gone;
DELETE FROM {refused_rows} r USING pg_temp.s_erased e WHERE r.source_id = e.source_id AND r.user_id = e.shown;";

const KEYS: &str = "
DELETE FROM {refused_rows} r USING pg_temp.s_keys k WHERE r.key = k.key;";

const CLUSTERS: &str = "
INSERT INTO {cluster} (source_id, cluster_id, centroid)
    SELECT source_id, cluster_id, ARRAY[f1, f2, f3, f4, f5, f6]::real[]{as_vec6} FROM pg_temp.s_clusters WHERE kind = 0
    ON CONFLICT (source_id, cluster_id) DO UPDATE SET centroid = excluded.centroid;";

const CLUSTERS_GONE: &str = "
DELETE FROM {cluster} c USING pg_temp.s_clusters s WHERE s.kind = 2 AND c.source_id = s.source_id AND c.cluster_id = s.cluster_id;";

const PRODUCTS: &str = "
INSERT INTO {products} AS p
    (parent_asin, title, store, main_category, avg_rating, rating_number, primary_image, raw_metadata, brand, known)
    SELECT parent_asin, title, store, main_category, avg_rating, rating_number, primary_image, raw_metadata, brand, true
        FROM pg_temp.s_products WHERE kind = 0
    ON CONFLICT (parent_asin) DO UPDATE SET title = excluded.title, store = excluded.store, main_category = excluded.main_category,
        avg_rating = excluded.avg_rating, rating_number = excluded.rating_number, primary_image = excluded.primary_image,
        raw_metadata = excluded.raw_metadata, brand = excluded.brand, known = true;
UPDATE {products} p SET title = '', store = NULL, main_category = NULL, avg_rating = NULL, rating_number = NULL, primary_image = NULL,
        raw_metadata = NULL, brand = NULL, known = false
    FROM pg_temp.s_products s WHERE s.kind = 2 AND p.parent_asin = s.parent_asin;
INSERT INTO pg_temp.s_loose (parent_asin) SELECT parent_asin FROM pg_temp.s_products WHERE kind = 2;";

const ITEMS: &str = "
INSERT INTO {products} (parent_asin, title, known)
    SELECT DISTINCT s.parent_asin, '', false FROM pg_temp.s_items s WHERE s.kind = 0 ON CONFLICT (parent_asin) DO NOTHING;
INSERT INTO pg_temp.s_loose (parent_asin)
    SELECT DISTINCT i.parent_asin FROM {items} i JOIN pg_temp.s_items s USING (asin) WHERE i.parent_asin IS DISTINCT FROM s.parent_asin;
INSERT INTO {items} (asin, parent_asin, variant, primary_image, category, known)
    SELECT asin, parent_asin, variant, primary_image, category, true FROM pg_temp.s_items WHERE kind = 0
    ON CONFLICT (asin) DO UPDATE SET parent_asin = excluded.parent_asin, variant = excluded.variant,
        primary_image = excluded.primary_image, category = excluded.category, known = true;
UPDATE {items} i SET parent_asin = NULL, variant = NULL, primary_image = NULL, category = NULL, known = false
    FROM pg_temp.s_items s WHERE s.kind = 2 AND i.asin = s.asin;
INSERT INTO pg_temp.s_loose (asin) SELECT asin FROM pg_temp.s_items WHERE kind = 2;";

const PEOPLE: &str = "
INSERT INTO {users} (id, username, known) SELECT id, username, true FROM pg_temp.s_people WHERE kind = 0
    ON CONFLICT (id) DO UPDATE SET username = excluded.username, known = true;
UPDATE {users} u SET username = NULL, known = false FROM pg_temp.s_people s WHERE s.kind = 2 AND u.id = s.id;
INSERT INTO pg_temp.s_loose (user_id) SELECT id FROM pg_temp.s_people WHERE kind = 2;";

const SESSIONS: &str = "
DELETE FROM {sessions} t USING pg_temp.s_sessions s
    WHERE s.kind = 2 AND t.source_id = s.source_id AND t.user_id = s.user_id AND t.start = s.start;
INSERT INTO {sessions}
    (source_id, user_id, start, session_number, \"end\", event_count, views, carts, transactions, value, first_event)
    SELECT source_id, user_id, start, session_number, \"end\", event_count, views, carts, transactions, value, first_event
        FROM pg_temp.s_sessions WHERE kind = 0
    ON CONFLICT (source_id, user_id, start) DO UPDATE SET session_number = excluded.session_number, \"end\" = excluded.\"end\",
        event_count = excluded.event_count, views = excluded.views, carts = excluded.carts, transactions = excluded.transactions,
        value = excluded.value, first_event = excluded.first_event;";

const JOURNEYS: &str = "
DELETE FROM {user_journey} j USING pg_temp.s_journeys s WHERE s.kind = 2 AND j.source_id = s.source_id AND j.user_id = s.user_id;
INSERT INTO {user_journey} (user_id, source_id, state, paths, cluster_id)
    SELECT s.user_id, s.source_id,
        ARRAY[s.views, s.carts, CASE WHEN k.transaction_value THEN s.value::float8 ELSE s.transactions END]::real[]{as_vec3},
        p.paths, s.cluster_id
    FROM pg_temp.s_journeys s JOIN {sources} k USING (source_id), LATERAL (
        SELECT coalesce(array_agg(
            ARRAY[t.views, t.carts, CASE WHEN k.transaction_value THEN t.value::float8 ELSE t.transactions END]::real[]{as_vec3}
            ORDER BY t.start), '{}') AS paths
        FROM {sessions} t WHERE t.source_id = s.source_id AND t.user_id = s.user_id::text) p
    WHERE s.kind = 0
    ON CONFLICT (source_id, user_id) DO UPDATE SET state = excluded.state, paths = excluded.paths, cluster_id = excluded.cluster_id;
UPDATE {user_journey} j SET paths = p.paths
    FROM pg_temp.s_journeys s JOIN {sources} k USING (source_id), LATERAL (
        SELECT coalesce(array_agg(
            ARRAY[t.views, t.carts, CASE WHEN k.transaction_value THEN t.value::float8 ELSE t.transactions END]::real[]{as_vec3}
            ORDER BY t.start), '{}') AS paths
        FROM {sessions} t WHERE t.source_id = s.source_id AND t.user_id = s.user_id::text) p
    WHERE s.kind = 1 AND j.source_id = s.source_id AND j.user_id = s.user_id AND j.paths IS DISTINCT FROM p.paths;";

const EVENTS: &str = "
DELETE FROM {events} t USING pg_temp.s_events s WHERE s.kind = 2
    AND t.source_id = s.source_id AND t.visitorid = s.visitorid AND t.event_time = s.event_time AND t.event_id = s.event_id;
UPDATE {events} t SET sessionnumber = s.sessionnumber FROM pg_temp.s_events s WHERE s.kind = 1
    AND t.source_id = s.source_id AND t.visitorid = s.visitorid AND t.event_time = s.event_time AND t.event_id = s.event_id;
INSERT INTO {events} (\"timestamp\", visitorid, event, source_id, itemid, transactionid, sessionnumber, event_time, event_id)
    SELECT \"timestamp\", visitorid, event, source_id, itemid, transactionid, sessionnumber, event_time, event_id
        FROM pg_temp.s_events WHERE kind = 0
    ON CONFLICT (source_id, visitorid, event_time, event_id) DO UPDATE SET event = excluded.event, itemid = excluded.itemid,
        transactionid = excluded.transactionid, sessionnumber = excluded.sessionnumber;";

/// What the catalog says of an item, and what a client itself said under the same names.
const INTERACTIONS: &str = "
WITH gone AS (
    DELETE FROM {interaction_logs} t USING pg_temp.s_interactions s WHERE s.kind = 2
        AND t.source_id = s.source_id AND t.user_id = s.user_id AND t.ts = s.ts AND t.event_id = s.event_id
    RETURNING t.asin, t.user_id
) INSERT INTO pg_temp.s_loose (asin, user_id) SELECT DISTINCT asin, user_id FROM gone;
INSERT INTO {users} (id, known) SELECT DISTINCT user_id, false FROM pg_temp.s_interactions WHERE kind = 0 ON CONFLICT (id) DO NOTHING;
INSERT INTO {items} (asin, known) SELECT DISTINCT asin, false FROM pg_temp.s_interactions WHERE kind = 0 ON CONFLICT (asin) DO NOTHING;
INSERT INTO {interaction_logs} (user_id, asin, event_type, ts, metadata, source_id, event_id, client_metadata)
    SELECT s.user_id, s.asin, s.event_type::{event_type_enum}, s.ts,
        nullif(s.properties || jsonb_strip_nulls(jsonb_build_object('category', coalesce(p.main_category, i.category), 'brand', p.brand)), '{}'),
        s.source_id, s.event_id,
        CASE WHEN s.properties ?| ARRAY['category', 'brand'] THEN
            (SELECT jsonb_object_agg(key, value) FROM jsonb_each(s.properties) WHERE key IN ('category', 'brand')) END
    FROM pg_temp.s_interactions s LEFT JOIN {items} i ON i.asin = s.asin LEFT JOIN {products} p ON p.parent_asin = i.parent_asin
    WHERE s.kind = 0
    ON CONFLICT (source_id, user_id, ts, event_id) DO UPDATE SET asin = excluded.asin, event_type = excluded.event_type,
        metadata = excluded.metadata, client_metadata = excluded.client_metadata;";

/// Interactions of items of which the catalog says something else now.
const ENRICH: &str = "
UPDATE {interaction_logs} l SET metadata = n.metadata FROM (
    SELECT o.id, nullif(((coalesce(o.metadata, '{}') - 'category' - 'brand') || coalesce(o.client_metadata, '{}'))
        || jsonb_strip_nulls(jsonb_build_object('category', coalesce(p.main_category, i.category), 'brand', p.brand)), '{}') AS metadata
    FROM {interaction_logs} o JOIN {items} i USING (asin) LEFT JOIN {products} p ON p.parent_asin = i.parent_asin
    WHERE o.asin IN (SELECT asin FROM pg_temp.s_items
        UNION SELECT x.asin FROM {items} x JOIN pg_temp.s_products USING (parent_asin))
) n WHERE l.id = n.id AND l.metadata IS DISTINCT FROM n.metadata;";

const MINUTES: &str = "
DELETE FROM {aggregates_minute} a USING pg_temp.s_minutes s WHERE s.kind = 2
    AND a.source_id = s.source_id AND a.window_start = s.window_start AND a.page = s.page AND a.event_type = s.event_type;
INSERT INTO {aggregates_minute} (source_id, window_start, window_end, page, event_type, count, revenue)
    SELECT source_id, window_start, window_start + interval '1 minute', page, event_type, count, revenue
        FROM pg_temp.s_minutes WHERE kind = 0
    ON CONFLICT (source_id, window_start, page, event_type) DO UPDATE
        SET count = excluded.count, revenue = excluded.revenue, updated_at = now();
INSERT INTO {aggregates_minute} AS a (source_id, window_start, window_end, page, event_type, count, revenue)
    SELECT source_id, window_start, window_start + interval '1 minute', page, event_type, count, revenue
        FROM pg_temp.s_minutes WHERE kind = 1
    ON CONFLICT (source_id, window_start, page, event_type) DO UPDATE
        SET count = a.count + excluded.count, revenue = a.revenue + excluded.revenue, updated_at = now();
DELETE FROM {aggregates_minute} a USING pg_temp.s_minutes s WHERE s.kind = 1 AND a.count = 0 AND a.revenue = 0
    AND a.source_id = s.source_id AND a.window_start = s.window_start AND a.page = s.page AND a.event_type = s.event_type;";

/// Stubs to which nothing refers any more.
const LOOSE: &str = "
DELETE FROM {items} i USING pg_temp.s_loose g
    WHERE i.asin = g.asin AND NOT i.known AND NOT EXISTS (SELECT FROM {interaction_logs} l WHERE l.asin = i.asin);
DELETE FROM {users} u USING pg_temp.s_loose g
    WHERE u.id = g.user_id AND NOT u.known AND NOT EXISTS (SELECT FROM {interaction_logs} l WHERE l.user_id = u.id);
DELETE FROM {products} p USING pg_temp.s_loose g
    WHERE p.parent_asin = g.parent_asin AND NOT p.known AND NOT EXISTS (SELECT FROM {items} i WHERE i.parent_asin = p.parent_asin);";

const REFUSED: &str = "
INSERT INTO {refused_rows} (table_name, key, source_id, user_id, row, error)
    SELECT DISTINCT ON (table_name, key) table_name, key, source_id, user_id, row, error FROM pg_temp.s_refused
    ON CONFLICT (table_name, key) DO UPDATE SET source_id = excluded.source_id, user_id = excluded.user_id, row = excluded.row,
        error = excluded.error, at = now();";

/// A source's transactions count by their value from now on, or no longer do.
const REVALUE: &str = "
UPDATE {user_journey} j SET state = n.state, paths = n.paths FROM (
    SELECT t.user_id,
        ARRAY[sum(t.views), sum(t.carts), CASE WHEN k.transaction_value THEN sum(t.value)::float8 ELSE sum(t.transactions) END]::real[]{as_vec3}
            AS state,
        array_agg(ARRAY[t.views, t.carts, CASE WHEN k.transaction_value THEN t.value::float8 ELSE t.transactions END]::real[]{as_vec3}
            ORDER BY t.start) AS paths
    FROM {sessions} t JOIN {sources} k USING (source_id) WHERE t.source_id = ";
const REVALUE_END: &str = " GROUP BY t.user_id, k.transaction_value
) n WHERE n.user_id = j.user_id::text AND j.source_id = ";

/// Everything that brings `staged` into the tables.
pub fn statements(staged: &Staged, names: &Names) -> String {
    let enrich = staged.has(Stage::Items) || staged.has(Stage::Products);
    let parts = [
        (staged.has(Stage::Erased), ERASE),
        (staged.has(Stage::Keys), KEYS),
        (staged.has(Stage::Clusters), CLUSTERS),
        (staged.has(Stage::Products), PRODUCTS),
        (staged.has(Stage::Items), ITEMS),
        (staged.has(Stage::People), PEOPLE),
        (staged.has(Stage::Sessions), SESSIONS),
        (staged.has(Stage::Journeys), JOURNEYS),
        (staged.has(Stage::Events), EVENTS),
        (staged.has(Stage::Interactions), INTERACTIONS),
        (enrich, ENRICH),
        (staged.has(Stage::Minutes), MINUTES),
        (staged.has(Stage::Clusters), CLUSTERS_GONE),
        (enrich || staged.has(Stage::Erased) || staged.has(Stage::People) || staged.has(Stage::Interactions), LOOSE),
        (staged.has(Stage::Refused), REFUSED),
    ];
    let mut text: String = parts.into_iter().filter(|(needed, _)| *needed).map(|(_, template)| names.fill(template)).collect();
    // What is to be checked at the end is checked while its statement can still be told from the commit.
    text.push_str("\nSET CONSTRAINTS ALL IMMEDIATE;");
    text
}

/// The journeys of a source anew, after `transaction_value` has changed.
pub fn revalue(source: SourceId, names: &Names) -> String {
    format!("{}{source}{}{source};", names.fill(REVALUE), names.fill(REVALUE_END))
}

/// The staging tables of a session.
pub fn create_stages() -> String {
    let table = |name: &str, columns: &str| format!("CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}); ");
    let mut text: String = STAGES.iter().map(|(name, columns)| table(name, columns)).collect();
    text.push_str(&table(LOOSE_STAGE, "asin text, user_id bigint, parent_asin text"));
    text
}

/// Dead rows of each staging table, about.
#[derive(Default)]
pub struct Dead(Mutex<HashMap<&'static str, u64>>);

impl Dead {
    /// The statements that empty staging tables with so many rows.
    pub fn empty(&self, used: &[(&'static str, u64)]) -> String {
        let mut dead = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all: u64 = used.iter().map(|(_, rows)| rows).sum();
        let empty = |(name, rows): (&'static str, u64)| {
            let dead = dead.entry(name).or_default();
            *dead += rows;
            if *dead <= DEAD_ROWS_MAX {
                return format!("DELETE FROM pg_temp.{name}; ");
            }
            *dead = 0;
            format!("TRUNCATE pg_temp.{name}; ")
        };
        used.iter().copied().chain([(LOOSE_STAGE, all)]).map(empty).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_rows_of_a_stage_are_bounded() {
        let dead = Dead::default();
        for _ in 0..DEAD_ROWS_MAX / 100 {
            assert_eq!(dead.empty(&[("s_items", 100)]), "DELETE FROM pg_temp.s_items; DELETE FROM pg_temp.s_loose; ");
        }
        assert_eq!(dead.empty(&[("s_items", 1)]), "TRUNCATE pg_temp.s_items; TRUNCATE pg_temp.s_loose; ");
        assert!(dead.empty(&[("s_items", 1)]).starts_with("DELETE"));
    }
}
