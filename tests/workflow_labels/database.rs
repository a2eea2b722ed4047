//! Databases of others, with the devices' sessions in them, and the object store.

use crate::devices;
use crate::support::services::{self, S3};
use desireline_connectors::store::Store;
use desireline_connectors::table;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::NoTls;
use url::Url;

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("desireline_w1_{what}_{}_{number}_{}", std::process::id(), chrono::Utc::now().timestamp_millis())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// A database of a test's own. Dropped at its end.
pub struct Database {
    pub kind: Kind,
    server: Url,
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Database {
    /// Nothing, and the test reported as skipped, without a server of that kind.
    pub fn new(kind: Kind) -> Option<Self> {
        let url = match kind {
            Kind::Postgres => services::postgres()?,
            Kind::MariaDb => services::mariadb()?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = Self { kind, server: Url::parse(&url).unwrap(), name: unique("db"), runtime };
        database.run_at(&database.server, &format!("CREATE DATABASE {}", database.name));
        let types = match kind {
            Kind::Postgres => "mac_address text, space_id int, sensor_id text, start_time timestamp, end_time timestamp",
            Kind::MariaDb => "mac_address varchar(17), space_id int, sensor_id varchar(17), start_time datetime, end_time datetime",
        };
        let row = |s: &devices::Session| format!("('{}', {}, 's1', '{}', '{}')", s.mac, s.space, s.start, s.end);
        let rows: Vec<String> = devices::sessions().iter().map(row).collect();
        for table in ["user_location_trajectory", "user_ap_trajectory"] {
            database.run(&format!("CREATE TABLE {table} ({types})"));
            database.run(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        }
        Some(database)
    }

    fn own(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }

    pub fn run(&self, sql: &str) {
        self.run_at(&self.own(), sql);
    }

    #[track_caller]
    fn run_at(&self, url: &Url, sql: &str) {
        let begin: String = sql.chars().take(80).collect();
        match self.kind {
            Kind::Postgres => self.runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await.unwrap();
                let connection = tokio::spawn(connection);
                client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{begin}: {error:?}"));
                drop(client);
                drop(connection.await);
            }),
            Kind::MariaDb => self.runtime.block_on(async {
                let mut conn = mysql_async::Conn::from_url(url).await.unwrap();
                conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{begin}: {error:?}"));
                conn.disconnect().await.unwrap();
            }),
        }
    }

    /// The body of a request for a connection to it. The PostgreSQL of these tests trusts everybody, so the password may be anything there.
    pub fn connection(&self, name: &str, password: &str) -> Value {
        let url = self.own();
        let connection_type = if self.kind == Kind::Postgres { "postgresql" } else { "mysql" };
        json!({"name": name, "connection_type": connection_type, "host": url.host_str().unwrap(), "port": url.port().unwrap(),
            "database": self.name, "user": url.username(), "password": url.password().unwrap_or(password)})
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let force = if self.kind == Kind::Postgres { " WITH (FORCE)" } else { "" };
        if !std::thread::panicking() {
            self.run_at(&self.server, &format!("DROP DATABASE {}{force}", self.name));
        }
    }
}

/// Where objects lie: a prefix of a real object store.
pub struct Objects {
    pub url: String,
    options: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
}

impl Objects {
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Some(Self { url: format!("s3://{bucket}/{}", unique("objects")), options, runtime })
    }

    /// The settings of a server that writes there.
    pub fn config(&self) -> String {
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
        format!("[occupancy]\nstore_url = \"{}\"\nstore_options = {{ {} }}\n", self.url, options.join(", "))
    }

    fn store(&self) -> Store {
        Store::open(&self.url, &self.options).unwrap()
    }

    /// Columns and number of rows of a table at the address that an answer gives.
    #[track_caller]
    pub fn table(&self, storage_path: &Value) -> (Vec<String>, u64) {
        let path = storage_path.as_str().unwrap_or_else(|| panic!("{storage_path} is no address"));
        let object = path.strip_prefix(&self.url).unwrap_or_else(|| panic!("{path} lies in {}", self.url)).trim_start_matches('/');
        let store = self.store();
        let scan = self.runtime.block_on(table::Scan::open(&store, object)).unwrap();
        (scan.schema().fields().iter().map(|field| field.name().clone()).collect(), scan.rows())
    }

    pub fn names(&self) -> Vec<String> {
        let store = self.store();
        self.runtime.block_on(store.list("", None)).unwrap().into_iter().map(|object| object.name).collect()
    }
}
