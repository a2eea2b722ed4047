//! What surrounds every route: errors, access, limits, headers, and the description of it all.

use super::fake::{Answer, Mood, Site, request};
use crate::http::config::{AccessToken, CorsConfig, HttpConfig, Scope};
use crate::runs::{Job, RunContext, RunError};
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn site() -> Site {
    Site::new(HttpConfig::default())
}

fn assert_error(answer: &Answer, status: u16, code: &str) {
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    assert!(!body["detail"].as_str().expect("a detail").is_empty());
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn what_the_router_refuses_has_the_form_of_all_errors() {
    let site = site();
    assert_error(&site.get("/nothing/here").await, 404, "not_found");
    let answer = site.send(request(Method::PUT, "/view").body(Body::empty()).expect("a request")).await;
    assert_error(&answer, 405, "method_not_allowed");
    assert!(answer.header("allow").contains("GET"), "{}", answer.header("allow"));
    let form = request(Method::POST, "/api/ingest").header("content-type", "text/plain").body("{}".into()).expect("a request");
    assert_error(&site.send(form).await, 415, "unsupported_media_type");
    let form = request(Method::POST, "/dagster/runs/x/cancel").header("content-type", "application/x-www-form-urlencoded");
    assert_error(&site.send(form.body(Body::empty()).expect("a request")).await, 415, "unsupported_media_type");
    let head = site.send(request(Method::HEAD, "/view").body(Body::empty()).expect("a request")).await;
    assert_eq!((head.status.as_u16(), head.bytes.len()), (400, 0));
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let site = site();
    let with_id = |id: &str| request(Method::GET, "/health").header("x-request-id", id).body(Body::empty()).expect("a request");
    assert_eq!(site.send(with_id("trace-7")).await.header("x-request-id"), "trace-7");
    let made = site.send(with_id("not sane")).await.header("x-request-id").to_owned();
    assert_eq!(made.len(), 24);
    assert_ne!(site.get("/health").await.header("x-request-id"), made);
}

#[tokio::test]
async fn the_validation_status_can_be_that_of_older_services() {
    let site = Site::new(HttpConfig { validation_status: 422, ..HttpConfig::default() });
    assert_error(&site.get("/view").await, 422, "invalid");
    assert_error(&site.get("/nowhere").await, 404, "not_found");
    let document = site.get("/openapi.json").await.json();
    let responses = document["paths"]["/view"]["get"]["responses"].as_object().expect("responses").clone();
    assert!(responses.contains_key("422") && !responses.contains_key("400"));
}

#[tokio::test]
async fn names_and_origins_are_checked_before_anything_else() {
    let site = site();
    let foreign = Request::builder().uri("/api/status").header("host", "evil.example").body(Body::empty()).expect("a request");
    assert_error(&site.send(foreign).await, 403, "host_refused");
    let bare = Request::builder().uri("/health").body(Body::empty()).expect("a request");
    assert_error(&site.send(bare).await, 400, "host_missing");
    let page = request(Method::POST, "/api/ingest").header("origin", "http://evil.example").header("content-type", "application/json");
    assert_error(&site.send(page.body(r#"{"user_id":"u"}"#.into()).expect("a request")).await, 403, "origin_refused");
    assert!(site.fake.events.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn each_route_demands_its_scope_and_probes_demand_none() {
    let token = |name: &str, scope| AccessToken { name: name.into(), hash: AccessToken::hash_of(name), scopes: vec![scope] };
    let mut config = HttpConfig::default();
    config.access.tokens = vec![token("i", Scope::Ingest), token("r", Scope::Read), token("a", Scope::Admin)];
    let site = Site::new(config);
    let document = site.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Some(scope) = operation["security"][1]["bearer"][0].as_str() else {
                assert!(["/health", "/api/health", "/ready"].contains(&path.as_str()), "{path} is open");
                continue;
            };
            let uri = path.replace("{source_id}", "1").replace(['{', '}'], "");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let ask = |secret: Option<&str>| {
                let builder = request(method.clone(), &uri).header("content-type", "application/json");
                let builder = if let Some(secret) = secret { builder.header("authorization", format!("Bearer {secret}")) } else { builder };
                site.send(builder.body("nothing".into()).expect("a request"))
            };
            assert_error(&ask(None).await, 401, "unauthenticated");
            for (secret, held) in [("i", "ingest"), ("r", "read"), ("a", "admin")] {
                if uri == "/api/live" && held != "ingest" {
                    continue;
                }
                let status = ask(Some(secret)).await.status.as_u16();
                let is_permitted = held == scope || held == "admin";
                assert_eq!(status == 403, !is_permitted, "{method} {uri} with {held}: {status}");
                assert_ne!(status, 401, "{method} {uri} with {held}");
            }
        }
    }
    assert_eq!(site.get("/view?source_id=1").await.header("www-authenticate"), "Bearer");
    for path in ["/health", "/api/health", "/ready", "/openapi.json", "/docs/", "/redoc", "/dashboard"] {
        assert_eq!(site.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_an_error_of_ours_and_the_next_request_is_served() {
    let site = site();
    site.fake.feel(Mood::Panics);
    assert_error(&site.get("/view?source_id=1").await, 500, "internal");
    site.fake.feel(Mood::Broken);
    let answer = site.get("/view?source_id=1").await;
    assert_error(&answer, 500, "internal");
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("secret"));
    site.fake.feel(Mood::Well);
    assert_eq!(site.get("/view?source_id=1").await.status, 200);
    let metrics = site.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("desireline_http_panics_total 1"));
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let site = Site::new(HttpConfig { request_timeout: Duration::from_millis(30), ..HttpConfig::default() });
    site.fake.feel(Mood::Hangs);
    let answer = site.get("/view?source_id=1").await;
    assert_error(&answer, 503, "timeout");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused_but_probes_are_not() {
    let site = Site::new(HttpConfig { requests_max: 1, request_timeout: Duration::from_millis(300), ..HttpConfig::default() });
    site.fake.feel(Mood::Hangs);
    let slow = site.get("/view?source_id=1");
    tokio::pin!(slow);
    assert!(futures::poll!(&mut slow).is_pending());
    let answer = site.get("/view?source_id=1").await;
    assert_error(&answer, 429, "too_many_requests");
    assert_eq!(site.get("/health").await.status, 200);
    assert_error(&slow.await, 503, "timeout");
    site.fake.feel(Mood::Well);
    assert_eq!(site.get("/view?source_id=1").await.status, 200);
}

#[tokio::test]
async fn bodies_above_their_limits_are_refused() {
    let site = Site::new(HttpConfig { body_bytes_max: 100, ..HttpConfig::default() });
    let answer = site.post("/api/ingest", &format!("{{\"user_id\":\"{}\"}}", "x".repeat(100))).await;
    assert_error(&answer, 413, "too_large");
}

#[tokio::test]
async fn other_pages_read_answers_only_where_the_setting_names_them() {
    let preflight = || {
        let builder = request(Method::OPTIONS, "/api/ingest").header("origin", "https://shop.example");
        builder.header("access-control-request-method", "POST").body(Body::empty()).expect("a request")
    };
    assert_eq!(site().send(preflight()).await.header("access-control-allow-origin"), "");
    let config = HttpConfig { cors: CorsConfig { origins: vec!["https://shop.example".into()] }, ..HttpConfig::default() };
    let site = Site::new(config);
    assert_eq!(site.send(preflight()).await.header("access-control-allow-origin"), "https://shop.example");
    let post = request(Method::POST, "/api/ingest").header("origin", "https://shop.example").header("content-type", "application/json");
    let answer = site.send(post.body("{broken".into()).expect("a request")).await;
    assert_error(&answer, 400, "malformed");
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example", "errors can be read, too");
}

#[tokio::test]
async fn every_answer_is_hardened_and_the_pages_load_nothing_from_elsewhere() {
    let site = site();
    for path in ["/view?source_id=1", "/nowhere", "/openapi.json"] {
        let answer = site.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    for path in ["/redoc", "/redoc/redoc.js", "/redoc/start.js", "/docs/", "/docs/swagger-ui-bundle.js", "/docs/swagger-initializer.js"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        let text = String::from_utf8_lossy(&answer.bytes);
        if answer.header("content-type").starts_with("text/html") {
            assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
            assert!(!text.contains("<script>"), "{path} has an inline script, which the policy forbids");
        }
    }
    assert!(String::from_utf8_lossy(&site.get("/docs/swagger-initializer.js").await.bytes).contains("/openapi.json"));
    assert!(site.get("/dashboard").await.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'"));
    assert_eq!(site.get("/").await.header("location"), "/dashboard");
}

/// Every `$ref` within a document.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_is_complete_in_itself() {
    let document = site().get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let paths = document["paths"].as_object().expect("paths");
    for path in [
        "/view",
        "/health",
        "/ready",
        "/metrics",
        "/trigger",
        "/api/health",
        "/api/ingest",
        "/api/ingest-batch",
        "/api/wifi-sessions",
        "/api/macs/{mac}",
        "/api/event",
        "/api/items",
        "/api/items/{asin}",
        "/api/products",
        "/api/products/{parent_asin}",
        "/api/users",
        "/api/users/{id}",
        "/api/context/{user_id}",
        "/api/rerank",
        "/api/projections",
        "/api/projections/{name}/rebuild",
        "/api/projections/{name}/pause",
        "/api/projections/{name}/resume",
        "/api/sessions",
        "/api/journeys",
        "/api/clusters",
        "/api/metrics/aggregates",
        "/api/status",
        "/api/live",
        "/api/dead-letters",
        "/api/dead-letters/{id}/replay",
        "/api/events/{source_id}/{event_id}",
        "/api/users/{source_id}/{user_id}",
        "/dagster/runs",
        "/dagster/runs/{run_id}",
        "/dagster/runs/{run_id}/logs",
        "/dagster/runs/{run_id}/cancel",
        "/dagster/assets",
        "/dagster/health",
        "/database-connections",
        "/database-connections/{conn_id}",
        "/concepts",
        "/concepts/{c_id}",
        "/concepts/{c_id}/values",
        "/concepts/{c_id}/values/{cv_id}",
        "/concepts/{c_id}/indexes",
        "/concepts/{c_id}/indexes/{index_id}",
        "/concepts/{c_id}/rules",
        "/concepts/{c_id}/rules/{r_id}",
        "/concepts/{c_id}/features",
        "/concepts/{c_id}/features/{feature_id}",
        "/concepts/{c_id}/catalog",
        "/concepts/{c_id}/catalog/materialized",
        "/concepts/{c_id}/catalog/stats",
    ] {
        assert!(paths.contains_key(path), "{path} is not described");
    }
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let responses = operation["responses"].as_object().expect("responses");
            for status in ["400", "403", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{method} {path} lacks {status}");
            }
            let has_success = responses.keys().any(|status| status.starts_with('2'));
            assert!(
                has_success
                    && operation["operationId"].is_string()
                    && operation["description"].is_string() | operation["summary"].is_string()
            );
        }
    }
}

#[tokio::test]
async fn every_described_parameter_is_read_and_checked() {
    let site = site();
    let document = site.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let Some(parameters) = item["get"]["parameters"].as_array() else { continue };
        for parameter in parameters.iter().filter(|p| p["in"] == "query") {
            let name = parameter["name"].as_str().expect("a name");
            // Free text has no wrong values but overlong ones.
            let wrong = if ["cursor", "user_id", "search"].contains(&name) { "x".repeat(5_000) } else { "%21wrong".to_owned() };
            let uri = format!("{}?{name}={wrong}", path.replace(['{', '}'], ""));
            let answer = site.get(&uri).await;
            assert_eq!(answer.status, 400, "{uri}");
            let body = answer.json();
            let fields: Vec<_> = body["errors"].as_array().expect("fields").iter().filter_map(|e| e["field"].as_str()).collect();
            assert!(fields.contains(&name), "{uri}: {body}");
        }
    }
}

struct Nothing;

#[async_trait]
impl Job for Nothing {
    async fn run(&self, _ctx: RunContext, params: &Value) -> Result<Value, RunError> {
        Ok(params.clone())
    }
}

#[tokio::test]
async fn a_trigger_answers_at_once_and_names_its_run() {
    let site = site();
    site.runs.register(crate::trigger::JOB_NAME, Arc::new(Nothing));
    let answer = site.post("/trigger", r#"{"source_id":1,"events_path":"events.csv","is_initial_flow":true}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"detail": "started"})));
    let id = answer.header("x-desireline-run-id").to_owned();
    site.runs.wait(&id.as_str().into()).await.expect("it ends");
    let run = site.get(&format!("/dagster/runs/{id}")).await.json();
    assert_eq!((&run["run_id"], &run["status"], &run["error_message"]), (&json!(id), &json!("SUCCESS"), &Value::Null));
    assert_eq!(run["result"]["events_path"], "events.csv");
    assert_eq!(site.get("/dagster/runs?status_filter=SUCCESS").await.json()["runs"][0]["job_name"], crate::trigger::JOB_NAME);
    assert_eq!(site.get("/dagster/runs?status_filter=FAILURE").await.json(), json!({"runs": []}));
    let logs = site.get(&format!("/dagster/runs/{id}/logs")).await.json();
    assert!(logs["logs"].as_array().expect("lines").iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
    let cancel = request(Method::POST, &format!("/dagster/runs/{id}/cancel")).body(Body::empty()).expect("a request");
    let answer = site.send(cancel).await;
    assert_error(&answer, 400, "run_not_cancellable");
    assert_eq!(answer.json()["detail"], "Cannot cancel run with status SUCCESS");
    assert_error(&site.post("/trigger", r#"{"source_id":"x"}"#).await, 400, "invalid");
}
