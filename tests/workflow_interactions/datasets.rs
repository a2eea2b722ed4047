//! The same events as datasets of Parquet: no other service is needed.

use crate::support::command::desireline;
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, eventually, eventually_true};
use crate::{fill_catalog, projection, put, send};
use desireline::projections::parquet::tables_of;
use desireline_connectors::dataset::{Row, Value, read_file};
use desireline_connectors::store::Store;
use desireline_dataflows::changes::View;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

type Datasets = BTreeMap<&'static str, Vec<Row>>;

/// All rows of all datasets, by dataset; an error while a file is being replaced.
fn read(folder: &Path) -> Result<Datasets, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.display().to_string(), &BTreeMap::new()).map_err(|error| error.to_string())?;
        let mut datasets: Datasets = BTreeMap::new();
        for table in View::ALL.into_iter().flat_map(tables_of) {
            for object in store.list(table.name, None).await.map_err(|error| error.to_string())? {
                let content = read_file(&store, table, &object.name).await.map_err(|error| error.to_string())?;
                datasets.entry(table.name).or_default().extend(content.rows);
            }
        }
        Ok(datasets)
    })
}

fn is(row: &Row, column: usize, text: &str) -> bool {
    row[column] == Value::Text(text.into())
}

#[test]
fn the_datasets_follow_restarts_rebuilds_and_erasures() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[projections]\nretry_min = \"20ms\"\ncheck_every = \"200ms\"\n\
         [projection.parquet]\nurl = \"{}\"\ngather = \"50ms\"\n\
         views = [\"events\", \"sessions\", \"journeys\", \"minutes\", \"context\", \"catalog\"]\n",
        folder.path().display()
    );
    let mut server = Server::new().config(config).start();
    fill_catalog(&server.http);
    for user in [1, 1, 2, 3] {
        send(&server.http, user, "B1", "purchase");
    }
    let wait = |what: &str, right: &dyn Fn(&Datasets) -> bool| {
        eventually(what, DEADLINE, || match read(folder.path()) {
            Ok(datasets) if right(&datasets) => Ok(datasets),
            Ok(datasets) => Err(format!("{:?}", datasets.iter().map(|(name, rows)| (*name, rows.len())).collect::<Vec<_>>())),
            Err(error) => Err(error),
        })
    };
    let events = |datasets: &Datasets, count: usize| datasets.get("events").is_some_and(|rows| rows.len() == count);
    wait("four events", &|datasets| events(datasets, 4) && datasets["journeys"].len() == 3 && datasets["items"].len() == 3);

    server.crash();
    send(&server.http, 3, "NEW", "view");
    put(&server.http, "/api/items", &json!({ "items": [{ "asin": "NEW", "category": "Tea" }] })).expect_status(200);
    let datasets = wait("the event after the crash", &|datasets| events(datasets, 5) && datasets["items"].len() == 4);
    let journey = datasets["journeys"].iter().find(|row| is(row, 1, "3")).expect("user 3");
    assert_eq!(journey[2], Value::floats(&[1.0, 0.0, 1.0]), "a view and a purchase");

    server.http.delete("/api/users/1000/3").expect_status(202);
    let datasets = wait("the user to go", &|datasets| events(datasets, 3));
    for (name, rows) in &datasets {
        assert!(["items", "products", "users", "minutes"].contains(name) || rows.iter().all(|row| !is(row, 1, "3")), "{name}");
    }

    // A file that somebody deletes comes back by itself, and so does everything when it is ordered.
    let file = std::fs::read_dir(folder.path().join("events")).unwrap().next().expect("a day").unwrap().path().join("data.parquet");
    std::fs::remove_file(&file).unwrap();
    wait("the lost file", &|again| *again == datasets);
    desireline(server.folder(), &["projection", "rebuild", "parquet", "--wait", "--url", &server.base()]).expect_code(0);
    assert_eq!(read(folder.path()).unwrap(), datasets);
    eventually_true("the projection to be well", DEADLINE, || {
        projection(&server.http.get_json("/api/projections"), "parquet")["state"] == "live"
    });
}
