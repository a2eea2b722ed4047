//! The router over the real service, on a temporary folder: read your writes, duplicates, deletion, erasure.

use crate::concepts::{Concepts, ConceptsConfig};
use crate::config::{Inputs, load, mapping};
use crate::http::config::HttpConfig;
use crate::http::{AppState, router};
use crate::labels::{LabelsConfig, LiveLabels};
use crate::live::LiveConnection;
use crate::metrics::Metrics;
use crate::occupancy;
use crate::projections::Projections;
use crate::runs::{Runs, RunsConfig};
use crate::service::Service;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use desireline_connectors::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;

pub(super) struct Real {
    pub(super) service: Service,
    pub(super) router: Router,
    pub(super) state: AppState,
    pub(super) concepts: Concepts,
    /// Where objects of concepts lie.
    pub(super) store: Store,
    _folder: TempDir,
}

impl Real {
    pub(super) async fn new() -> Self {
        Self::with(HttpConfig::default()).await
    }

    pub(super) async fn with(http: HttpConfig) -> Self {
        Self::set(http, &[]).await
    }

    /// With some settings, by their paths.
    pub(super) async fn set(http: HttpConfig, settings: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut inputs = Inputs::default();
        settings.iter().for_each(|(path, value)| inputs.flag(path, "--set", Some(*value)));
        inputs.flag("data.dir", "--data", Some(folder.path().display()));
        let config = load(&inputs).expect("the defaults are valid");
        let service = Service::start(mapping::service(&config)).await.expect("an empty log");
        tokio::time::timeout(Duration::from_secs(20), service.wait_ready()).await.expect("in time").expect("ready");
        let runs = Runs::new(RunsConfig::default(), Arc::new(service.clone()));
        let store = occupancy::config::store(&config).expect("a folder");
        let concepts = Concepts::new(ConceptsConfig::of(&config), store.clone(), runs.clone(), Arc::new(service.clone()));
        let live = LiveConnection::new(service.clone(), &config.live);
        concepts.set_live(Arc::clone(live.tables()), live.limits().clone());
        let labels = LabelsConfig::of(&config, live.limits());
        let labels = LiveLabels::new(labels, service.clone(), concepts.clone(), runs.clone(), live.tables());
        concepts.begin(|kind| service.documents(kind));
        runs.restore(service.recorded_runs());
        labels.begin();
        let state = AppState::new(http, Arc::new(service.clone()), runs, Projections::none(), Arc::new(Metrics::default()));
        let state = state.with_concepts(concepts.clone()).with_labels(labels);
        Self { service, router: router(state.clone()), state, concepts, store, _folder: folder }
    }

    pub(super) async fn ask(&self, method: Method, uri: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(uri).header("host", "localhost").header("content-type", "application/json");
        let response =
            self.router.clone().oneshot(request.body(Body::from(body.to_owned())).expect("a request")).await.expect("infallible");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    pub(super) async fn get(&self, uri: &str) -> Value {
        let (status, body) = self.ask(Method::GET, uri, "").await;
        assert_eq!(status, 200, "{uri}: {body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_read_counted_once_deleted_and_erased() {
    let real = Real::new().await;
    let events = json!({"events": [
        {"source_id": 4, "user_id": "ann", "event_type": "view", "page": "/p", "event_id": "e1", "timestamp": 1_700_000_000},
        {"source_id": 4, "user_id": "ann", "event_type": "purchase", "value": 12.5, "event_id": "e2", "timestamp": 1_700_000_060},
        {"source_id": 4, "user_id": "bob", "event_type": "addtocart", "event_id": "e3", "timestamp": "2023-11-14T22:13:20Z"},
        {"source_id": 4, "user_id": "eve", "timestamp": "tomorrow"}]});
    let (status, reply) = real.ask(Method::POST, "/api/ingest-batch", &events.to_string()).await;
    assert_eq!((status, &reply["inserted"], &reply["ids"]), (200, &json!(3), &json!(["e1", "e2", "e3"])));
    let token = reply["token"].as_str().expect("a token").to_owned();

    let sessions = real.get(&format!("/api/sessions?source_id=4&user_id=ann&at_least={token}")).await;
    assert_eq!((&sessions["sessions"][0]["event_count"], &sessions["sessions"][0]["value"]), (&json!(2), &json!(12.5)));
    let journeys = real.get(&format!("/api/journeys?source_id=4&user_id=ann&at_least={token}")).await;
    assert_eq!(journeys["journeys"][0]["state"], json!([1.0, 0.0, 1.0]));

    let again = real.ask(
        Method::POST,
        "/api/ingest",
        r#"{"source_id":4,"user_id":"ann","event_type":"view","page":"/p","event_id":"e1","timestamp":1700000000}"#,
    );
    assert_eq!(again.await.0, 200);
    let status = real.get("/api/status").await;
    let source = status["sources"].as_array().expect("sources").iter().find(|s| s["source_id"] == 4).expect("source 4").clone();
    let counters = &source["counters"];
    assert_eq!((&counters["received"], &counters["applied"], &counters["duplicate"]), (&json!(5), &json!(3), &json!(1)));
    assert_eq!(counters["rejected"], 1, "a malformed event is counted under the source it names");
    assert_eq!(source["balanced"], true);

    let (status, reply) = real.ask(Method::DELETE, "/api/events/4/e2", "").await;
    assert_eq!(status, 200, "{reply}");
    let token = reply["token"].as_str().expect("a token").to_owned();
    let sessions = real.get(&format!("/api/sessions?source_id=4&user_id=ann&at_least={token}")).await;
    assert_eq!(sessions["sessions"][0]["event_count"], 1);
    assert_eq!(real.ask(Method::DELETE, "/api/events/4/e2", "").await.0, 404);

    let (status, reply) = real.ask(Method::DELETE, "/api/users/4/ann", "").await;
    assert_eq!(status, 202, "{reply}");
    let token = reply["token"].as_str().expect("a token").to_owned();
    let journeys = real.get(&format!("/api/journeys?source_id=4&at_least={token}")).await;
    let users: Vec<&Value> = journeys["journeys"].as_array().expect("journeys").iter().map(|j| &j["user_id"]).collect();
    assert_eq!(users, [&json!("bob")]);
    real.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_their_cursor_and_a_bad_one_is_refused() {
    let real = Real::new().await;
    let events: Vec<Value> = (0..25).map(|n| json!({"user_id": format!("u{n}"), "timestamp": 1_700_000_000 + n})).collect();
    let (_, reply) = real.ask(Method::POST, "/api/ingest-batch", &json!({"events": events}).to_string()).await;
    let token = reply["token"].as_str().expect("a token").to_owned();
    let mut users = Vec::new();
    let mut uri = format!("/api/sessions?limit=10&at_least={token}");
    loop {
        let page = real.get(&uri).await;
        users.extend(page["sessions"].as_array().expect("rows").iter().map(|s| s["user_id"].as_str().expect("text").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        uri = format!("/api/sessions?limit=10&cursor={cursor}");
    }
    let distinct: std::collections::BTreeSet<&String> = users.iter().collect();
    assert_eq!((users.len(), distinct.len()), (25, 25));
    assert_eq!(real.ask(Method::GET, "/api/sessions?cursor=nonsense", "").await.0, 400);
    let far = format!("/api/sessions?at_least=d1-0-{:x}", u64::MAX / 2);
    let (status, body) = real.ask(Method::GET, &far, "").await;
    assert_eq!((status, body["code"].as_str()), (503, Some("not_ready")));
    real.service.stop().await;
}
