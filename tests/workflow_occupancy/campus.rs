//! The campus of these tests: its tables in a schema of PostgreSQL, and a prefix of an object store.

use crate::support::services::{self, S3};
use desireline_connectors::bins::{self, Bin};
use desireline_connectors::store::Store;
use desireline_records::time::parse_time;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::NoTls;

/// `(space_id, space_name, parent_space_id)`.
pub const SPACES: [(i32, Option<&str>, Option<i32>); 8] = [
    (1, Some("Campus"), None),
    (10, Some("Engineering Hall"), Some(1)),
    (100, Some("Engineering Hall - Floor 1"), Some(10)),
    (101, Some("Engineering Hall - Floor 2"), Some(10)),
    (1000, Some("Engineering Hall - Room 1000"), Some(100)),
    (1001, Some("Engineering Hall - Room 1001"), Some(100)),
    (1010, Some("Engineering Hall - Room 1010"), Some(101)),
    (20, Some("Other building"), None),
];

/// `(space_id, mac_address, start_time, end_time)`.
pub const SESSIONS: [(i32, &str, &str, &str); 7] = [
    (1000, "aa", "2024-10-05 09:10", "2024-10-05 09:50"),
    (1000, "aa", "2024-10-05 09:55", "2024-10-05 10:05"),
    (1000, "bb", "2024-10-05 09:30", "2024-10-05 11:00"),
    (1001, "aa", "2024-10-05 09:00", "2024-10-05 10:00"),
    (1000, "cc", "2024-11-15 08:00", "2024-11-15 08:30"),
    (1000, "aa", "2024-09-20 10:00", "2024-09-20 10:30"),
    (1000, "ee", "2024-12-14 09:00", "2024-12-14 09:30"),
];

/// The room whose first session comes late.
pub const LATE_SESSION: (i32, &str, &str, &str) = (1010, "dd", "2024-12-20 08:00", "2024-12-20 08:30");

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("w2_{what}_{}_{number}_{}", std::process::id(), chrono::Utc::now().timestamp_millis())
}

/// A schema of a test's own. Dropped at its end.
pub struct Tables {
    pub url: String,
    pub schema: String,
    runtime: tokio::runtime::Runtime,
}

impl Tables {
    /// Nothing, and the test reported as skipped, without a database. With the spaces and sessions of the campus.
    pub fn new() -> Option<Self> {
        let url = services::postgres()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tables = Self { url, schema: unique("campus"), runtime };
        let schema = &tables.schema;
        tables.run(&format!("CREATE SCHEMA {schema}"));
        tables.make_sessions("user_ap_trajectory");
        tables.run(&format!(
            "CREATE TABLE {schema}.space (space_id int PRIMARY KEY, space_name varchar(200), parent_space_id int, building_room varchar(200))"
        ));
        for (id, name, parent) in SPACES {
            tables.put_space(id, name, parent);
        }
        tables.add(&SESSIONS);
        Some(tables)
    }

    pub fn make_sessions(&self, name: &str) {
        let schema = &self.schema;
        self.run(&format!(
            "CREATE TABLE {schema}.{name} (mac_address text, space_id int, sensor_id text, start_time timestamp, end_time timestamp); \
             CREATE INDEX ON {schema}.{name} (space_id); CREATE INDEX ON {schema}.{name} (start_time); CREATE INDEX ON {schema}.{name} (end_time)"
        ));
    }

    pub fn put_space(&self, id: i32, name: Option<&str>, parent: Option<i32>) {
        let text = |text: Option<String>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let parent = parent.map_or("NULL".to_owned(), |parent| parent.to_string());
        let (name, room) = (text(name.map(str::to_owned)), text((id >= 1_000).then(|| format!("EH-{id}"))));
        self.run(&format!("INSERT INTO {}.space VALUES ({id}, {name}, {parent}, {room})", self.schema));
    }

    pub fn add(&self, sessions: &[(i32, &str, &str, &str)]) {
        let row = |(space, mac, start, end): &(i32, &str, &str, &str)| format!("('{mac}', {space}, 's1', '{start}', '{end}')");
        let rows: Vec<String> = sessions.iter().map(row).collect();
        self.run(&format!("INSERT INTO {}.user_ap_trajectory VALUES {}", self.schema, rows.join(", ")));
    }

    /// Runs statements; nothing comes back.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        let ran = self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            let connection = tokio::spawn(connection);
            client.batch_execute(sql).await?;
            drop(client);
            drop(connection.await);
            Ok::<(), tokio_postgres::Error>(())
        });
        ran.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The URL by which a server finds the tables, by way of another address where one is given.
    pub fn url_by_way_of(&self, port: Option<u16>) -> String {
        let (before, rest) = self.url.split_once('@').expect("a URL with a user");
        let (address, database) = rest.split_once('/').expect("a URL with a database");
        let address = port.map_or(address.to_owned(), |port| format!("127.0.0.1:{port}"));
        format!("{before}@{address}/{database}?options=-csearch_path%3D{}&sslmode=disable", self.schema)
    }

    /// The host and port of the database.
    pub fn address(&self) -> String {
        let rest = self.url.split_once('@').expect("a URL with a user").1;
        rest.split_once('/').expect("a URL with a database").0.to_owned()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.run(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

/// Where objects lie.
pub struct Objects {
    pub url: String,
    options: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
}

impl Objects {
    /// A prefix of a real object store.
    pub fn s3() -> Option<Self> {
        let S3 { endpoint, access_key, secret_key, bucket } = services::s3()?;
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_access_key_id", &access_key),
            ("aws_secret_access_key", &secret_key),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Some(Self { url: format!("s3://{bucket}/{}", unique("objects")), options, runtime: runtime() })
    }

    pub fn folder(path: &std::path::Path) -> Self {
        Self { url: path.display().to_string(), options: BTreeMap::new(), runtime: runtime() }
    }

    /// The settings of a server that writes there, and looks at what has changed this often.
    pub fn config(&self, refresh_every: &str) -> String {
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
        let options = options.join(", ");
        format!("[occupancy]\nrefresh_every = \"{refresh_every}\"\nstore_url = \"{}\"\nstore_options = {{ {options} }}\n", self.url)
    }

    fn store(&self) -> Store {
        Store::open(&self.url, &self.options).unwrap()
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        let store = self.store();
        self.runtime.block_on(store.list("occupancy", None)).unwrap().into_iter().map(|object| object.name).collect()
    }

    pub fn bins(&self, name: &str) -> Vec<Bin> {
        let store = self.store();
        self.runtime.block_on(bins::read(&store, name)).unwrap()
    }

    /// Copies the objects of a space into a folder.
    pub fn copy(&self, space: i32, folder: &std::path::Path) {
        let (store, prefix) = (self.store(), format!("occupancy/spaces/{space}/"));
        std::fs::create_dir_all(folder).unwrap();
        for name in self.names().into_iter().filter(|name| name.starts_with(&prefix)) {
            let bytes = self.runtime.block_on(store.get(&name)).unwrap();
            std::fs::write(folder.join(name.replace('/', "_")), bytes).unwrap();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn time(text: &str) -> i64 {
    parse_time(text).expect("a time")
}
