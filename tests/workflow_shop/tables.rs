//! The same job as its analysts see it: by SQL, in tables that follow the views.

use super::*;
use crate::support::services;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Schemas of one test.
struct Tables {
    client: Client,
    runtime: Runtime,
    schema: String,
    url: String,
}

static SCHEMAS: AtomicU32 = AtomicU32::new(0);

impl Tables {
    fn new() -> Option<Tables> {
        let url = services::postgres()?;
        let runtime = Runtime::new().expect("a runtime");
        let schema = format!("w{}_{}_{}", std::process::id(), SCHEMAS.fetch_add(1, Ordering::Relaxed), now_ms());
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the database answers");
            tokio::spawn(connection);
            client
        });
        Some(Tables { client, runtime, schema, url })
    }

    /// All tables in one schema, which a setting allows.
    fn config(&self) -> String {
        let (url, schema) = (&self.url, &self.schema);
        format!(
            "[projection.postgres]\nurl = {url:?}\nschema_ampelios = {schema:?}\nschema_interactions = {schema:?}\n\
             schema_clickstream = {schema:?}\nschema_desireline = {schema:?}\ngather = \"5ms\"\n"
        )
    }

    /// The rows of a query as words between blanks; `{}` stands for the schema.
    fn rows(&self, query: &str) -> Vec<String> {
        let query = query.replace("{}", &self.schema);
        let messages = self.runtime.block_on(self.client.simple_query(&query)).unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let word = |row: &tokio_postgres::SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).unwrap_or("null").to_owned()).collect::<Vec<_>>().join(" ")
        };
        messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(word(row)) } else { None }).collect()
    }

    /// Waits until the tables have whatever is durable now.
    #[track_caller]
    fn follow(&self, http: &Http) {
        let committed = http.get_json("/api/status")["committed"].as_u64().expect("a time");
        eventually("the tables to follow", DEADLINE, || {
            let answer = http.get_json("/api/projections");
            let row = &answer["projections"][0];
            if row["state"] == "live" && row["applied"].as_u64() >= Some(committed) { Ok(()) } else { Err(answer) }
        });
    }

    fn session_numbers(&self, source: u32, visitor: u32) -> Vec<String> {
        let query = "SELECT sessionnumber FROM {}.events WHERE source_id = $s AND visitorid = $v ORDER BY \"timestamp\"";
        self.rows(&query.replace("$s", &source.to_string()).replace("$v", &visitor.to_string()))
    }

    /// State and paths of a visitor, whichever of the two vector types the database has.
    fn journey(&self, source: u32, visitor: u32) -> Vec<f64> {
        let query = format!("SELECT state::text, paths::text FROM {{}}.user_journey WHERE source_id = {source} AND user_id = {visitor}");
        let rows = self.rows(&query);
        assert_eq!(rows.len(), 1, "one journey: {rows:?}");
        let numbers = rows[0].split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).filter(|word| !word.is_empty());
        numbers.map(|word| word.parse().expect("a number")).collect()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let drop_schema = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        drop(self.runtime.block_on(self.client.batch_execute(&drop_schema)));
    }
}

#[test]
fn the_tables_have_sessions_journeys_and_clusters_and_follow_kafka() {
    let (Some(tables), Some(kafka)) = (Tables::new(), Kafka::from_env()) else { return };
    let topic = kafka.create_topic("events-topic", 1);
    let config = format!(
        "{}[[source]]\nname = \"shop\"\nsource_id = 1\nkind = \"kafka\"\nformat = \"ampelios\"\nbrokers = [\"{}\"]\ntopics = [\"{topic}\"]\n\
         refresh_every = \"500ms\"\n",
        tables.config(),
        kafka.brokers()
    );
    let server = Server::new().config(config).start();
    let http = &server.http;
    let path = server.folder().join("ev1.csv");
    fs::write(&path, first_file()).expect("the file can be written");
    expect_success(&load(http, 1, &path, true));
    tables.follow(http);

    assert_eq!(tables.session_numbers(1, 1), ["1", "1", "1", "2"]);
    assert_eq!(tables.session_numbers(1, 2), ["1", "1", "2"], "exactly 20 minutes are not over");
    assert_eq!(tables.journey(1, 1), [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(tables.journey(1, 2), [3.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let labelled = "SELECT j.user_id FROM {}.user_journey j JOIN {}.cluster c USING (source_id, cluster_id) ORDER BY 1";
    assert_eq!(tables.rows(labelled), ["1", "2"], "every journey has the cluster of a centroid that is there");
    let third = format!("SELECT \"timestamp\", event, itemid, transactionid FROM {{}}.events WHERE \"timestamp\" = {}", T + 15 * MINUTE_MS);
    assert_eq!(tables.rows(&third), [format!("{} transaction 10 77", T + 15 * MINUTE_MS)]);

    // The same file again: nothing is there twice.
    expect_success(&load(http, 1, &path, true));
    tables.follow(http);
    assert_eq!(tables.rows("SELECT count(*) FROM {}.events"), ["7"]);
    assert_eq!(tables.journey(1, 1)[..3], [2.0, 1.0, 1.0]);

    // By Kafka, with one new event.
    kafka.produce(&topic, first_messages());
    eventually("all messages to be taken", DEADLINE, || {
        let received = counter(&http.get_json("/api/status"), 1, "received");
        if received == 22 { Ok(()) } else { Err(received) }
    });
    tables.follow(http);
    assert_eq!(tables.rows("SELECT count(*) FROM {}.events"), ["8"]);
    assert_eq!(tables.journey(1, 1), [3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(tables.rows(labelled), ["1", "2"]);

    // The same visitors of another source are other users; minutes and sessions are of all sources.
    expect_success(&load(http, 3, &path, true));
    tables.follow(http);
    assert_eq!(tables.journey(3, 1)[..3], [2.0, 1.0, 1.0]);
    assert_eq!(tables.rows("SELECT source_id, count(*), sum(event_count) FROM {}.sessions GROUP BY 1 ORDER BY 1"), ["1 4 8", "3 4 7"]);
    let sums = "SELECT source_id, event_type, sum(count) FROM {}.aggregates_minute GROUP BY 1, 2 ORDER BY 1, 2";
    assert_eq!(tables.rows(sums), ["1 addtocart 1", "1 transaction 1", "1 view 6", "3 addtocart 1", "3 transaction 1", "3 view 5"]);
}

/// A changed rule cuts sessions again, and so the numbers of old events change.
#[test]
fn session_numbers_follow_a_changed_rule() {
    let Some(tables) = Tables::new() else { return };
    let config = |rule: &str| {
        format!("{}[[source]]\nname = \"two\"\nsource_id = 2\nsession_rule = \"{rule}\"\nuser_id_type = \"int\"\n", tables.config())
    };
    let mut server = Server::new().config(config("from_first")).start();
    let path = server.folder().join("ev2.csv");
    fs::write(&path, file(&[(0, 5, "view", 1, ""), (15, 5, "view", 2, ""), (30, 5, "view", 3, "")])).expect("written");
    expect_success(&load(&server.http, 2, &path, true));
    tables.follow(&server.http);
    assert_eq!(tables.session_numbers(2, 5), ["1", "1", "2"]);
    for (rule, numbers) in [("gap", ["1", "1", "1"]), ("from_first", ["1", "1", "2"])] {
        assert!(server.stop().success());
        server.set_config(config(rule));
        server.start_again();
        eventually(rule, DEADLINE, || {
            let seen = tables.session_numbers(2, 5);
            if seen == numbers { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
    assert_eq!(tables.journey(2, 5), [3.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}
