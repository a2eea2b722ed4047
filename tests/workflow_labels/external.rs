//! The whole workflow on databases of others: PostgreSQL and MariaDB, with the tables on an S3-compatible store.

use crate::client::Client;
use crate::database::{Database, Kind, Objects, unique};
use crate::steps;
use crate::support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

/// The files in a folder and below whose bytes contain a text.
pub fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Connection 1 to the database, of which the password stands nowhere; tested, broken, mended.
pub fn connect(client: Client<'_>, server: &Server, database: &Database) {
    let secret = unique("secret");
    let new = database.connection("tippers_db", &secret);
    let made = client.make("/database-connections", &new);
    assert_eq!(made["conn_id"], 1);
    assert!(made.get("password").is_none() && made["user"] == new["user"], "{made}");
    client.refused(400, Method::POST, "/database-connections", &new);

    let test = || client.post("/database-connections/1/test", &Value::Null);
    let works = json!({"status": "success", "message": "Connection successful"});
    assert_eq!(test(), works);
    client.patch("/database-connections/1", &json!({"port": 1}));
    let failed = test();
    let (class, text) = failed["message"].as_str().unwrap().split_once(": ").unwrap();
    assert!(failed["status"] == "failed" && !class.contains(' ') && !text.is_empty(), "{failed}");
    client.patch("/database-connections/1", &json!({"port": new["port"], "password": secret}));
    client.post("/database-connections/1/test", &Value::Null);
    client.patch("/database-connections/1", &json!({"password": new["password"]}));
    assert_eq!(test(), works);

    let shown = format!("{}{}", client.get("/database-connections"), client.get("/database-connections/1"));
    assert!(!shown.contains(&secret) && !shown.contains("password"), "{shown}");
    assert_eq!(holding(server.folder(), &secret), Vec::<String>::new(), "the data folder, the configuration and the log");
}

fn whole(kind: Kind) {
    let (Some(database), Some(objects)) = (Database::new(kind), Objects::s3()) else { return };
    let server = Server::new().config(objects.config()).start();
    let (client, dialect) = (Client(&server.http), kind.into());
    connect(client, &server, &database);
    steps::concept(client);
    steps::indexes(client, dialect, 1, Some(&objects));
    steps::rules(client, dialect, Some(&objects));
    steps::functions(client);
    steps::catalog(client);
    steps::first_label_model(client, Some(&objects));
    steps::more_functions(client);
    let job = steps::label_model(client);
    steps::features(client, dialect, job);
    steps::classifiers(client, job);

    client.delete("/concepts/1");
    for path in ["", "/values", "/indexes", "/indexes/1", "/rules/1", "/features/1", "/labeling-functions/4", "/catalog"] {
        client.refused(404, Method::GET, &format!("/concepts/1{path}"), &Value::Null);
    }
    for path in ["/snorkel/jobs/1/results", "/classifiers/jobs/1"] {
        client.refused(404, Method::GET, &format!("/concepts/1{path}"), &Value::Null);
    }
    crate::support::wait::eventually("the objects to go", crate::support::wait::DEADLINE, || {
        let names = objects.names();
        if names.is_empty() { Ok(()) } else { Err(names.join(", ")) }
    });
    client.delete("/database-connections/1");
    let logs = server.logs();
    assert!(!logs.contains("panicked"), "{logs}");
}

#[test]
fn the_whole_workflow_on_postgresql() {
    whole(Kind::Postgres);
}

#[test]
fn the_whole_workflow_on_mariadb() {
    whole(Kind::MariaDb);
}
