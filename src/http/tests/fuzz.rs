//! Requests that no client would send, against the real service: none panics, none is answered with a mistake of the server,
//! every refusal has the form of all errors, and afterwards the counts balance.
//!
//! It cannot catch a right-looking answer that is wrong. The cases are random anew in every run; a failing one is printed as it was sent.
//! `DESIRELINE_FUZZ_TIMES=50` looks fifty times as long.

use super::real::Real;
use axum::body::Body;
use axum::http::{Method, Request};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;
use tower::ServiceExt;

struct Reply {
    status: u16,
    bytes: bytes::Bytes,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.bytes)))
    }
}

async fn send(real: &Real, method: Method, uri: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Option<Reply> {
    let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // What is no URI at all cannot be sent; a server's parser of HTTP refuses it before anything of ours.
    let request = request.body(Body::from(body)).ok()?;
    let response = real.router.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.expect("a body");
    Some(Reply { status, bytes })
}

/// What every reply must be like. True when the request was a good one.
fn check(reply: &Reply) -> Result<bool, TestCaseError> {
    let text = String::from_utf8_lossy(&reply.bytes).into_owned();
    if reply.status < 400 {
        return Ok(true);
    }
    let body = reply.json();
    let is_waiting = reply.status == 503 && body["code"] == "not_ready";
    prop_assert!(reply.status < 500 || is_waiting, "{}: {text}", reply.status);
    prop_assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()) && body["code"].is_string(), "{text}");
    prop_assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{text}");
    Ok(false)
}

/// Runs `cases` cases of one kind against one service, then asks whether it is well. Answers how many cases ended well.
fn hunt<S: Strategy>(
    cases: u32,
    strategy: S,
    one: impl Fn(&tokio::runtime::Runtime, &Real, S::Value) -> Result<bool, TestCaseError>,
) -> u32 {
    let times: u32 = std::env::var("DESIRELINE_FUZZ_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let cases = cases * times;
    let good = std::cell::Cell::new(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let real = Arc::new(runtime.block_on(Real::new()));
    runtime.block_on(async {
        let event = |n: u32| format!(r#"{{"source_id":{},"user_id":"u{}","event_id":"e{}"}}"#, n % 2, n / 2, n / 2);
        let lines = (0..20).map(event).collect::<Vec<_>>().join("\n").into_bytes();
        let reply = send(&real, Method::POST, "/api/ingest-batch", &[("content-type", "application/x-ndjson")], lines).await;
        assert_eq!(reply.expect("a reply").status, 200);
    });
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() });
    let outcome = runner.run(&strategy, |value| {
        good.set(good.get() + u32::from(one(&runtime, &real, value)?));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(async {
        let status = send(&real, Method::GET, "/api/status", &[], vec![]).await.expect("a reply").json();
        for source in status["sources"].as_array().expect("sources") {
            assert_eq!(source["balanced"], true, "{source}");
        }
        let metrics = send(&real, Method::GET, "/metrics", &[], vec![]).await.expect("a reply");
        assert!(String::from_utf8_lossy(&metrics.bytes).contains("desireline_http_panics_total 0\n"));
        let event = br#"{"user_id":"afterwards","event_id":"afterwards"}"#.to_vec();
        let reply = send(&real, Method::POST, "/api/ingest", &[("content-type", "application/json")], event).await.expect("a reply");
        assert_eq!(reply.status, 200);
        real.service.stop().await;
    });
    good.get()
}

/// Percent-encodes everything but letters and digits, and some of those, too.
fn encoded(text: &[u8]) -> String {
    text.iter().map(|b| if b.is_ascii_alphanumeric() { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn wild_value() -> impl Strategy<Value = String> {
    let known = select(vec![
        "0",
        "1",
        "-1",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
        "1e3",
        "0x10",
        "true",
        "FALSE",
        "null",
        "NaN",
        "%00",
        "%ff",
        "%",
        "%zz",
        "+",
        "d1-0-0",
        "d1-0-ffffffffffffffff",
        "d1-1-1",
        "d1-4294967295-1",
        "d1-0--1",
        "c1.0.0.-.",
        "c1.ffffffffffffffff.4294967295.18446744073709551615.ff",
        "c1.1.1.1.6",
        "c1.1.1.-.c3a9",
        "c1.-1.1.1.00",
        "1970-01-01",
        "9999-12-31T23:59:59Z",
        "-262143-01-01",
        "%2B262142-12-31T23:59:59Z",
        "0000-00-00",
        "2024-02-30",
        "2023-11-14T22:13:20%2B23:59",
        "SUCCESS",
        "late",
    ]);
    prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| encoded(&bytes)),
        1 => (1_usize..6_000).prop_map(|n| "x".repeat(n)),
        1 => "c1\\.[0-9a-f]{0,17}\\.[0-9]{0,11}\\.(-|[0-9]{0,21})\\.[0-9a-f]{0,9}",
        1 => "d1-[0-9]{0,11}-[0-9a-f]{0,17}",
        1 => "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|%2B[0-9]{2}:[0-9]{2})?)?",
    ]
}

#[test]
fn any_query_string_is_answered() {
    let paths = select(vec![
        "/view",
        "/api/sessions",
        "/api/journeys",
        "/api/clusters",
        "/api/metrics/aggregates",
        "/api/status",
        "/api/dead-letters",
        "/api/context/1",
        "/api/projections",
        "/dagster/runs",
        "/dagster/runs/x/logs",
        "/metrics",
        "/ready",
        "/nowhere",
    ]);
    let names =
        select(vec!["source_id", "user_id", "from", "to", "limit", "cursor", "minutes", "kind", "verbose", "status_filter", "x", ""]);
    let query = prop::collection::vec((names, wild_value()), 0..5);
    let good = hunt(600, (paths, query, wild_value(), 0..8_u8), |runtime, real, (path, query, at_least, asks)| {
        let mut uri = format!("{path}?{}", query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"));
        // A token of the near future makes a request wait; of the cases that name one, few are of that kind.
        if asks == 0 {
            uri += &format!("&at_least={at_least}");
        }
        match runtime.block_on(send(real, Method::GET, &uri, &[], vec![])) {
            Some(reply) => check(&reply),
            None => Ok(false),
        }
    });
    assert!(good >= 60, "the cases are too wild to reach anything: {good}");
}

#[test]
fn any_path_is_answered() {
    let route = select(vec![
        (Method::DELETE, "/api/events/{}/{}"),
        (Method::DELETE, "/api/users/{}/{}"),
        (Method::DELETE, "/api/macs/{}"),
        (Method::POST, "/api/dead-letters/{}/replay"),
        (Method::POST, "/dagster/runs/{}/cancel"),
        (Method::GET, "/dagster/runs/{}"),
        (Method::GET, "/api/context/{}"),
        (Method::GET, "/api/items/{}"),
        (Method::GET, "/api/products/{}"),
        (Method::GET, "/api/users/{}"),
        (Method::POST, "/api/projections/{}/{}"),
        (Method::GET, "/dagster/runs/{}/logs"),
        (Method::GET, "/dashboard/{}"),
        (Method::GET, "/docs/{}"),
        (Method::GET, "/redoc/{}"),
        (Method::PUT, "/{}"),
        (Method::GET, "/{}/{}"),
    ]);
    let odd = ["..", ".", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c", "a%2Fb", "%2F", "~", "*", "{id}", "0.0.0", "1-2-3"];
    let odd = || select(odd.to_vec()).prop_map(str::to_owned);
    let first = prop_oneof![2 => wild_value(), 1 => odd(), 3 => "[01]"];
    let second = prop_oneof![2 => wild_value(), 1 => odd(), 3 => "[ue][0-9]"];
    let good = hunt(400, (route, first, second), |runtime, real, ((method, route), first, second)| {
        let uri = route.replacen("{}", &first, 1).replacen("{}", &second, 1);
        match runtime.block_on(send(real, method, &uri, &[], vec![])) {
            Some(reply) if reply.status < 400 => {
                prop_assert!(!String::from_utf8_lossy(&reply.bytes).contains("root:x:"), "{uri}");
                Ok(true)
            }
            Some(reply) => check(&reply),
            None => Ok(false),
        }
    });
    assert!(good >= 1, "the cases are too wild to reach anything: {good}");
}

/// A JSON value of some event, or something that only begins like one.
fn wild_json() -> impl Strategy<Value = String> {
    let number = prop_oneof!["-?[0-9]{1,30}", "-?[0-9]{1,6}\\.[0-9]{1,20}", "-?[0-9]{1,4}[eE][+-]?[0-9]{1,5}", Just("-0".to_owned())];
    let text = prop_oneof![
        "\"[a-z0-9~ ]{0,12}\"",
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\[nt\"\\\\/]|[é😀x]){0,8}\"",
        (0_usize..3_000).prop_map(|n| format!("\"{}\"", "y".repeat(n))),
        Just("\"\\u0000\"".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("\"2023-11-14T22:13:20Z\"".to_owned()),
    ];
    let nested = (0_usize..200).prop_map(|n| format!("{}1{}", "{\"a\":[".repeat(n), "]}".repeat(n)));
    let scalar = prop_oneof![3 => number, 3 => text, 1 => nested, 1 => select(vec!["null", "true", "[]", "{}", "NaN", "Infinity", "'x'", ""]).prop_map(str::to_owned)];
    let names = select(vec![
        "event_id",
        "asin",
        "metadata",
        "id",
        "parent_asin",
        "avg_rating",
        "raw_metadata",
        "item_id",
        "rank_score",
        "source_id",
        "user_id",
        "session_id",
        "client_id",
        "event_type",
        "page",
        "item_id",
        "transaction_id",
        "value",
        "timestamp",
        "properties",
        "other",
        "events",
        "mac_address",
        "space_id",
        "start_time",
        "end_time",
        "sessions",
        "events_path",
        "is_initial_flow",
        "format",
        "\\u0065vent_id",
    ]);
    prop::collection::vec((names, scalar), 0..7).prop_map(|fields| {
        format!("{{{}}}", fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>().join(","))
    })
}

/// What happens to a body on its way.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Cut(Index),
    Byte(Index, u8),
    Twice,
    Deep(usize),
    Marked,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => Just(Damage::None),
        1 => any::<Index>().prop_map(Damage::Cut),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => Just(Damage::Twice),
        1 => (0_usize..50_000).prop_map(Damage::Deep),
        1 => Just(Damage::Marked),
    ]
}

fn damaged(mut body: Vec<u8>, damage: &Damage) -> Vec<u8> {
    match damage {
        Damage::None => {}
        Damage::Cut(at) => body.truncate(at.index(body.len() + 1)),
        Damage::Byte(at, byte) if !body.is_empty() => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Damage::Byte(..) => body.push(b'x'),
        Damage::Twice => body = [body.as_slice(), &body].concat(),
        Damage::Deep(levels) => body = [&b"[".repeat(*levels), body.as_slice()].concat(),
        Damage::Marked => body = [b"\xef\xbb\xbf", body.as_slice()].concat(),
    }
    body
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn any_body_is_answered_and_every_event_of_it_is_accounted_for() {
    let shape = select(vec![
        (Method::POST, "/api/ingest", "application/json"),
        (Method::POST, "/api/ingest-batch", "application/json"),
        (Method::POST, "/api/ingest-batch", "application/x-ndjson"),
        (Method::POST, "/api/wifi-sessions", "application/json"),
        (Method::POST, "/api/wifi-sessions", "application/x-ndjson"),
        (Method::POST, "/trigger", "application/json"),
        (Method::POST, "/api/event", "application/json"),
        (Method::POST, "/api/rerank", "application/json"),
        (Method::PUT, "/api/items", "application/x-ndjson"),
        (Method::PUT, "/api/products", "application/json"),
        (Method::PUT, "/api/users", "application/json"),
        (Method::PUT, "/api/spaces", "application/json"),
    ]);
    let events = prop::collection::vec(wild_json(), 0..6);
    let strategy = (shape, events, damage(), prop::option::of(damage()));
    let good = hunt(1_000, strategy, |runtime, real, ((method, path, kind), events, plain, zipped)| {
        let body = match (path, kind) {
            (_, "application/x-ndjson") => events.join("\n"),
            ("/api/wifi-sessions", _) if events.len() != 1 => format!("{{\"sessions\":[{}]}}", events.join(",")),
            ("/api/ingest-batch", _) => format!("{{\"events\":[{}]}}", events.join(",")),
            ("/api/rerank", _) => format!(
                "{{\"user_id\":1,\"ranked_items\":[{}],\"config\":{}}}",
                events.join(","),
                events.first().map_or("{}", String::as_str)
            ),
            ("/api/spaces", _) => format!("{{\"space_id\":5,\"other\":{}}}", events.first().map_or("{}", String::as_str)),
            ("/api/products", _) => format!("{{\"products\":[{}]}}", events.join(",")),
            _ => events.first().cloned().unwrap_or_default(),
        };
        let mut body = damaged(body.into_bytes(), &plain);
        let mut headers = vec![("content-type", kind)];
        if let Some(zipped) = &zipped {
            headers.push(("content-encoding", "gzip"));
            body = damaged(gzip(&body), zipped);
        }
        let reply = runtime.block_on(send(real, method, path, &headers, body)).expect("a plain path");
        let is_good = check(&reply)?;
        let is_whole = matches!(plain, Damage::None) && matches!(zipped, None | Some(Damage::None));
        if matches!(path, "/api/ingest-batch" | "/api/wifi-sessions") && reply.status == 200 && is_whole {
            let body = reply.json();
            let count = |name: &str| body[name].as_u64().unwrap_or_default() as usize;
            let rejected = body["rejected"].as_array().map_or(0, Vec::len);
            prop_assert_eq!(count("inserted") + count("duplicates") + rejected, events.len(), "{}", body);
            prop_assert_eq!(body["ids"].as_array().map_or(0, Vec::len) + rejected, events.len(), "{}", body);
        }
        Ok(is_good)
    });
    assert!(good >= 60, "the cases are too wild to reach anything: {good}");
}
