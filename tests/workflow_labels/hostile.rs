//! Functions that mean harm, sent to a running server: each is refused, abstains or is given up, while the server answers everybody else.

use crate::client::Client;
use crate::live;
use crate::support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a function in the server may take; the server answers others in far less.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

fn function(body: &str) -> String {
    let lines: Vec<String> = body.lines().map(|line| format!("    {line}")).collect();
    format!("import re\nX = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'\ndef labeling_function(row):\n{}\n", lines.join("\n"))
}

/// The eighteen kinds of harm. What must not run is refused; of the others no row may get a vote.
fn harmful() -> Vec<(&'static str, String, bool)> {
    let refused = |name, body: &str| (name, function(body), true);
    let bounded = |name, body: &str| (name, function(body), false);
    vec![
        bounded("an infinite loop", "while True:\n    pass"),
        bounded(
            "a loop that catches everything",
            "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        ),
        bounded("a list that grows", "x = []\nwhile True:\n    x.append('a' * 100000)"),
        bounded("a huge text", "for i in [1]:\n    return len('a' * 10 ** 10)"),
        bounded("a huge power", "for i in [1]:\n    return 2 ** 10 ** 9"),
        bounded("squares of squares", "x = 3\nfor i in range(100):\n    x = x * x\nreturn -1"),
        bounded("unbounded recursion", "def f(n):\n    return f(n + 1)\nreturn f(0)"),
        refused("nested parentheses", &format!("return {}1{}", "(".repeat(500), ")".repeat(500))),
        refused("a chain of sums", &format!("return {}", vec!["1"; 20_001].join(" + "))),
        bounded("a catastrophic pattern", "for i in [1]:\n    return -1 if re.match('(?=(a+)+$)(a|a)*b', X) else -1"),
        refused("an import by name", "return __import__('os').getpid()"),
        refused("a file", "return len(open('/etc/passwd').read())"),
        refused("eval", "return eval('1')"),
        refused("exec", "exec('x = 1')\nreturn 1"),
        refused("attributes by name", "return getattr(getattr(row, 'a'), 'b')"),
        refused("all classes", "return len(().__class__.__base__.__subclasses__())"),
        refused("the environment and the network", "import os, socket\nreturn 1"),
        bounded("a flood of output", "while True:\n    print('x' * 10000)"),
    ]
}

#[test]
fn functions_that_mean_harm_end_cleanly_while_the_server_answers() {
    let server = Server::new().config("[labelling]\nbatch_deadline = \"1s\"\nworker_memory = \"128MiB\"\n").start();
    let client = Client(&server.http);
    live::send_some(&server.http, 400);
    client.make("/concepts", &json!({"name": "kinds"}));
    client.make("/concepts/1/values", &json!({"name": "A"}));
    let index = json!({"name": "i", "conn_id": 0, "sql_query": "SELECT DISTINCT mac_address FROM user_location_trajectory"});
    client.make("/concepts/1/indexes", &index);
    client.materialize("/concepts/1/indexes/1");
    let sql = "SELECT mac_address, COUNT(*) AS n FROM user_location_trajectory WHERE mac_address IN (:index_values) GROUP BY mac_address";
    client.make("/concepts/1/rules", &json!({"name": "r", "index_id": 1, "index_column": "mac_address", "sql_query": sql}));
    client.materialize("/concepts/1/rules/1");

    let harmful = harmful();
    assert_eq!(harmful.len(), 18);
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let good = json!({"rule_id": 1, "applicable_cv_ids": [1], "code": "def labeling_function(row):\n    return A if row['n'] > 0 else ABSTAIN"});
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(client.get("/health")["status"], "healthy");
                assert!(begun.elapsed() < ANSWERED_WITHIN, "a question waited for {:?}", begun.elapsed());
                let (status, reply) = client.ask(Method::POST, "/concepts/1/labeling-functions/test", &good);
                // Functions that are tested have places of their own; all may be taken.
                assert!(status == 429 || (status == 200 && reply["coverage"] == json!(1.0)), "{status}: {reply}");
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (name, code, is_refused) in &harmful {
            let test = json!({"rule_id": 1, "applicable_cv_ids": [1], "code": code, "allowed_imports": ["re"]});
            let begun = Instant::now();
            let (status, reply) = loop {
                let (status, reply) = client.ask(Method::POST, "/concepts/1/labeling-functions/test", &test);
                if status != 429 {
                    break (status, reply);
                }
                assert!(begun.elapsed() < GIVEN_UP_WITHIN, "{name}: there is never a place");
            };
            assert!(begun.elapsed() < GIVEN_UP_WITHIN, "{name} took {:?}", begun.elapsed());
            match (is_refused, status) {
                (true, 400) => {
                    assert_eq!(reply["errors"][0]["field"], "code", "{name}: {reply}");
                    let made = json!({"name": name, "rule_id": 1, "applicable_cv_ids": [1], "code": code, "allowed_imports": ["re"]});
                    client.refused(400, Method::POST, "/concepts/1/labeling-functions", &made);
                }
                (false, 200) => assert_eq!(reply["votes"]["A"].as_u64().unwrap_or(0), 0, "{name}: {reply}"),
                (false, 400) => assert!(reply["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{name}: {reply}"),
                _ => panic!("{name}: {status} {reply}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answers.load(Ordering::Relaxed) > 10, "the server answered all the time");
    // Saved, approved and followed live, a function that never ends is deactivated, and the matrix goes on without it.
    let endless = json!({"name": "endless", "rule_id": 1, "applicable_cv_ids": [1], "code": function("while True:\n    pass"), "allowed_imports": ["re"]});
    for made in
        [endless, json!({"name": "good", "rule_id": 1, "applicable_cv_ids": [1], "code": "def labeling_function(row):\n    return A"})]
    {
        let lf_id = client.make("/concepts/1/labeling-functions", &made)["lf_id"].clone();
        client.post(&format!("/concepts/1/labeling-functions/{lf_id}/approve"), &Value::Null);
    }
    crate::support::wait::eventually("the matrix to go on without the function", GIVEN_UP_WITHIN, || {
        let labels = client.get("/concepts/1/labels/live");
        let functions: Vec<&Value> = labels["lfs"].as_array().unwrap().iter().map(|lf| &lf["name"]).collect();
        let done = functions == [&json!("good")] && labels["state"] == "current" && labels["totals"]["rows"].as_u64() > Some(0);
        if done { Ok(()) } else { Err(labels.to_string()) }
    });
    assert_eq!(client.get("/concepts/1/labeling-functions/1")["is_active"], false);
}
