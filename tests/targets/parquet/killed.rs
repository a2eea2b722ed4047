//! The real server, killed again and again while events come in: in the end the datasets are what was sent.

use crate::support::http::Http;
use crate::support::model::{Click, Journey, Model, Rule, Session, difference};
use crate::support::server::Server;
use crate::support::wait::{DEADLINE, Stop, eventually, eventually_true};
use desireline::projections::parquet::tables_of;
use desireline_connectors::dataset::{Row, Value, read_file};
use desireline_connectors::store::Store;
use desireline_dataflows::changes::View;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const KILLS: usize = 6;
const BATCH: usize = 20;

/// Late and early, over four days; some users have thousands of events.
fn click(number: usize, begin_ms: i64) -> (String, Click) {
    let spread = (number * 7_919) % 5_000;
    let click = Click {
        user: format!("user-{}", if number.is_multiple_of(2) { number % 3 } else { number % 211 }),
        time_ms: begin_ms + spread as i64 * 69_000,
        event_type: ["view", "purchase", "addtocart", "search"][number % 4].to_owned(),
        page: format!("/{}", number % 5),
        value: 10_000 * (number % 17) as i64,
    };
    (format!("id-{number}"), click)
}

/// Sends batches, each until it is acknowledged, until it is told to stop. Gives what was sent.
fn feed(base: &str, stop: &Stop, acknowledged: &AtomicUsize, begin_ms: i64) -> Model {
    let http = Http::new(base);
    let mut model = Model::new(Rule::FromFirst);
    for batch in 0.. {
        let rows: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(|number| click(number, begin_ms)).collect();
        let events: Vec<_> = rows
            .iter()
            .map(|(id, click)| {
                json!({ "source_id": 1, "event_id": id, "user_id": click.user, "event_type": click.event_type, "page": click.page,
                    "timestamp": click.time_ms, "value": click.value / 10_000 })
            })
            .collect();
        let body = json!({ "events": events }).to_string().into_bytes();
        eventually("a batch to be taken", DEADLINE, || {
            let reply = http.try_send(Method::POST, "/api/ingest-batch", &[("content-type", "application/json")], body.clone());
            match reply {
                Ok(reply) if reply.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        for (id, click) in rows {
            model.add(id, click);
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
        if stop.stopped_within(Duration::from_millis(3)) {
            break;
        }
    }
    model
}

fn read(folder: &Path, view: View) -> Result<Vec<Row>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.display().to_string(), &BTreeMap::new()).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        for table in tables_of(view) {
            for object in store.list(table.name, None).await.map_err(|error| error.to_string())? {
                rows.extend(read_file(&store, table, &object.name).await.map_err(|error| error.to_string())?.rows);
            }
        }
        Ok(rows)
    })
}

fn text(value: &Value) -> String {
    if let Value::Text(text) = value { text.to_string() } else { panic!("{value:?} is no text") }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Time(micros) => micros / 1_000,
        Value::Decimal(units) => i64::try_from(*units).unwrap(),
        other => panic!("{other:?} is no number"),
    }
}

fn floats<const N: usize>(value: &Value) -> [f64; N] {
    let Value::List(values) = value else { panic!("{value:?} is no list") };
    std::array::from_fn(|at| if let Value::Float(number) = values[at] { number } else { panic!("{value:?}") })
}

fn count(value: &Value) -> u64 {
    u64::try_from(int(value)).unwrap()
}

fn sessions(rows: &[Row]) -> BTreeMap<(String, u64), Session> {
    let session = |row: &Row| Session {
        start_ms: int(&row[2]),
        end_ms: int(&row[4]),
        events: count(&row[5]),
        views: count(&row[6]),
        carts: count(&row[7]),
        transactions: count(&row[8]),
        value: int(&row[9]),
    };
    rows.iter().map(|row| ((text(&row[1]), count(&row[3])), session(row))).collect()
}

fn journeys(rows: &[Row]) -> BTreeMap<String, Journey> {
    let path = |path: &Value| {
        let Value::List(fields) = path else { panic!("{path:?} is no path") };
        [int(&fields[1]) as f64, int(&fields[2]) as f64, int(&fields[3]) as f64]
    };
    let journey = |row: &Row| {
        let Value::List(paths) = &row[3] else { panic!("{row:?} has no paths") };
        Journey { state: floats(&row[2]), paths: paths.iter().map(path).collect(), features: floats(&row[5]) }
    };
    rows.iter().map(|row| (text(&row[1]), journey(row))).collect()
}

fn minutes(rows: &[Row]) -> BTreeMap<(i64, String, String), (i64, i64)> {
    rows.iter().map(|row| ((int(&row[1]), text(&row[2]), text(&row[3])), (int(&row[5]), int(&row[6])))).collect()
}

#[test]
fn a_server_that_is_killed_again_and_again_leaves_the_datasets_right() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[projections]\nretry_min = \"10ms\"\nretry_max = \"100ms\"\ncheck_every = \"100ms\"\n\
         [projection.parquet]\nurl = \"{}\"\ngather = \"10ms\"\nviews = [\"events\", \"sessions\", \"journeys\", \"minutes\"]\n",
        folder.path().display()
    );
    let mut server = Server::new().config(config).start();
    let begin_ms = (chrono::Utc::now().timestamp_millis() - 5 * 86_400_000) / 60_000 * 60_000;
    let (base, stop, acknowledged) = (server.base(), Stop::default(), AtomicUsize::new(0));
    let model = std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&base, &stop, &acknowledged, begin_ms));
        for round in 0..KILLS {
            let before = acknowledged.load(Ordering::SeqCst);
            let more = 5 + round * 7 % 11;
            eventually_true("more events", DEADLINE, || acknowledged.load(Ordering::SeqCst) >= before + more);
            server.crash();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        eventually_true("more events", DEADLINE, || acknowledged.load(Ordering::SeqCst) >= before + 3);
        stop.stop();
        feeding.join().expect("the feed does not fail")
    });
    assert!(model.len() > 500, "{} events", model.len());
    let compared = || {
        let found = sessions(&read(folder.path(), View::Sessions)?);
        let mut text = difference("session", &model.sessions(), &found);
        text += &difference("journey", &model.journeys(), &journeys(&read(folder.path(), View::Journeys)?));
        text += &difference("minute", &model.minutes(), &minutes(&read(folder.path(), View::Minutes)?));
        let events = read(folder.path(), View::Events)?;
        if events.len() as u64 != model.len() {
            text += &format!("{} events instead of {}", events.len(), model.len());
        }
        if text.is_empty() { Ok(()) } else { Err(text) }
    };
    eventually("the datasets to be what was sent", DEADLINE, compared);
    assert!(server.stop().success());
    compared().expect("the same after the end");
}
