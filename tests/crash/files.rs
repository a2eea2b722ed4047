//! One file, loaded over and over; before each load it grows. Its rows have an identity of their own, so each counts once,
//! however often it is read, and by however many attempts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use desireline::generate::random::Random;
use reqwest::Method;
use serde_json::{Value, json};

use crate::FILE;
use crate::feed::{Caller, Context};
use crate::support::model::{Click, HOUR_MS, Model, Rule};

const PACE: Duration = Duration::from_millis(100);
const ROWS_FIRST: u64 = 20_000;
const ROWS_MORE: u64 = 1_000;
const LOADS_MAX: u64 = 20;

pub struct Sent {
    pub model: Model,
    pub loads: u64,
    /// Rows of all loads together, the refused ones included.
    pub rows_read: u64,
    pub rejected_read: u64,
}

struct File {
    text: String,
    rows: u64,
    rejected: u64,
    /// How often each line was written.
    lines: BTreeMap<String, u32>,
}

pub fn feed(context: &Context<'_>, folder: &Path) -> Sent {
    let caller = Caller::new(context);
    let mut random = Random::new(context.seed, 3);
    let mut file =
        File { text: "timestamp,visitorid,event,itemid,transactionid\n".to_owned(), rows: 0, rejected: 0, lines: BTreeMap::new() };
    let mut sent = Sent { model: Model::new(Rule::FromFirst), loads: 0, rows_read: 0, rejected_read: 0 };
    let path = folder.join("bulk.csv");
    while sent.loads < LOADS_MAX {
        let more = if file.rows == 0 { ROWS_FIRST } else { ROWS_MORE };
        (0..more).for_each(|_| file.grow(&mut random, &mut sent.model));
        fs::write(&path, &file.text).expect("the file can be written");
        let before = runs(&caller);
        let body = json!({ "source_id": FILE, "events_path": path }).to_string();
        caller.persist(&Method::POST, "/trigger", "application/json", &body).reply.expect_status(200);
        // The file must not change under a load. A request that a crash left unanswered may have begun one more.
        let ended = loop {
            let ended = runs(&caller);
            if ended.iter().all(|run| run["status"] != "PENDING" && run["status"] != "STARTED") {
                break ended;
            }
            context.stop.stopped_within(PACE);
        };
        let loads = (ended.len() - before.len()) as u64;
        assert!(loads >= 1, "the run is forgotten");
        sent.loads += loads;
        sent.rows_read += loads * file.rows;
        sent.rejected_read += loads * file.rejected;
        if context.stop.stopped_within(PACE) {
            break;
        }
    }
    sent
}

fn runs(caller: &Caller<'_>) -> Vec<Value> {
    caller.get("/dagster/runs?limit=1000")["runs"].as_array().expect("a list").clone()
}

impl File {
    fn grow(&mut self, random: &mut Random, model: &mut Model) {
        let time_ms = Utc::now().timestamp_millis() - random.between(0, 20 * HOUR_MS);
        let (visitor, item) = (random.below(2_000), random.below(100));
        let word = *random.pick(&["view", "view", "view", "addtocart", "transaction"]);
        let word = if random.chance(0.005) { "look" } else { word };
        let line = format!("{time_ms},{visitor},{word},{item},");
        // A row that stands twice in a file is two rows.
        for _ in 0..if random.chance(0.01) { 2 } else { 1 } {
            let _ = writeln!(self.text, "{line}");
            self.rows += 1;
            if word == "look" {
                self.rejected += 1;
                continue;
            }
            let ordinal = self.lines.entry(line.clone()).or_default();
            *ordinal += 1;
            let click = Click { user: visitor.to_string(), time_ms, event_type: word.to_owned(), page: String::new(), value: 0 };
            assert!(model.add(format!("{line} {ordinal}"), click));
        }
    }
}
