//! A backend that answers as it is told, and the router in front of it.

use super::super::backend::{Backend, Followers};
use super::super::config::HttpConfig;
use super::super::{AppState, router};
use crate::metrics::Metrics;
use crate::projections::{FollowerState, ProjectionStatus};
use crate::runs::{RunStore, Runs, RunsConfig};
use crate::service::occupancy::{Flow, FlowsPer, Typical, VisitDay};
use crate::service::*;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use desireline_dataflows::changes::ContextRow;
use desireline_dataflows::views::catalog::Catalog;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::time::DAY;
use desireline_records::validate::{Pseudonyms, Validator, WifiRules};
use desireline_records::{
    CatalogEntry, Cell, DeadLetter, Event, EventId, LogicalTime, Micros, SourceId, Space, SpaceId, Token, UserIdType,
};
use ecow::EcoString;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast;
use tower::ServiceExt;

/// A pseudonym that the tests can read.
#[derive(Debug)]
struct Reversed;

impl Pseudonyms for Reversed {
    fn pseudonym(&self, id: &str) -> EcoString {
        id.chars().rev().collect()
    }
}

/// How the next calls end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    Busy,
    Broken,
    Panics,
    Hangs,
}

#[derive(Default)]
pub struct Fake {
    pub mood: Mutex<Mood>,
    pub not_ready: AtomicBool,
    pub events: Mutex<Vec<Event>>,
    pub letters: Mutex<Vec<DeadLetter>>,
    pub minutes: Mutex<Vec<MinuteRow>>,
    pub users: Mutex<u64>,
    pub as_of: AtomicU64,
    pub sessions: Mutex<Option<SessionsQuery>>,
    pub waited: Mutex<Vec<Token>>,
    pub status_calls: AtomicUsize,
    pub deleted: Mutex<Vec<String>>,
    pub catalog: Mutex<Catalog>,
    pub context: Mutex<Option<ContextRow>>,
    pub tree: Mutex<Tree>,
    /// Own numbers of spaces.
    pub cells: Mutex<Vec<(SpaceId, Micros, Cell)>>,
    pub visits: Mutex<Vec<VisitDay>>,
    pub flows: Mutex<Vec<Flow>>,
    pub privacy: Mutex<Privacy>,
    pub asked: Mutex<Vec<String>>,
    pub alerts: Mutex<Option<broadcast::Sender<Arc<OccupancyChange>>>>,
}

impl Fake {
    pub fn feel(&self, mood: Mood) {
        *self.mood.lock().expect("lock") = mood;
    }

    pub fn set_minutes(&self, rows: Vec<MinuteRow>) {
        *self.minutes.lock().expect("lock") = rows;
        self.as_of.fetch_add(1, Ordering::SeqCst);
    }

    async fn act(&self) -> Result<(), ServiceError> {
        let mood = *self.mood.lock().expect("lock");
        match mood {
            Mood::Well => Ok(()),
            Mood::Busy => Err(ServiceError::Busy { retry_after_s: 3 }),
            Mood::Broken => Err(ServiceError::Internal("the secret is 42".into())),
            Mood::Panics => panic!("told to"),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn at<T>(&self, value: T) -> At<T> {
        At { as_of: self.as_of.load(Ordering::SeqCst), value }
    }

    fn token(&self) -> Token {
        Token { shard: 0, time: self.as_of.load(Ordering::SeqCst) }
    }
}

pub fn status(as_of: LogicalTime, sources: &[SourceId]) -> Status {
    let counters = SourceCounters { received: 3, applied: 3, ..SourceCounters::default() };
    let source = |source_id: &SourceId| SourceStatus {
        source_id: *source_id,
        name: format!("source-{source_id}"),
        counters,
        balanced: true,
        watermark: Some(1_700_000_000_000_000),
        partitions: vec![],
        users: 2,
        open_sessions: 1,
        open_events: 3,
        sealed_sessions: 0,
        sealed_before: None,
        model_version: 1,
        cold_parts: vec![],
    };
    Status {
        as_of,
        committed: as_of,
        ready: true,
        catching_up: false,
        replay_progress: 1.0,
        started_at: 1_700_000_000_000_000,
        workers: 1,
        queue_depth: 0,
        queue_capacity: 100,
        memory_bytes: 1,
        latency_p50_ms: 1.0,
        latency_p99_ms: 2.0,
        events_per_second: 3.0,
        log: LogStatus { writable: true, ..LogStatus::default() },
        sources: sources.iter().map(source).collect(),
        erasures: vec![],
        engine: EngineStatus::default(),
        wifi: WifiStatus::default(),
        labels: LabelsStatus::default(),
    }
}

#[async_trait]
impl Backend for Fake {
    async fn ingest(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Receipt, ServiceError> {
        self.act().await?;
        let inserted = events.len() as u64;
        self.events.lock().expect("lock").extend(events);
        self.letters.lock().expect("lock").extend(dead_letters);
        Ok(Receipt { token: self.token(), inserted, duplicates: 0 })
    }

    async fn take(&self, events: Vec<Event>, dead_letters: Vec<DeadLetter>) -> Result<Token, ServiceError> {
        self.ingest(events, dead_letters).await.map(|receipt| receipt.token)
    }

    async fn put_catalog(&self, entries: Vec<CatalogEntry>) -> Result<Token, ServiceError> {
        self.act().await?;
        let mut catalog = self.catalog.lock().expect("lock");
        entries.iter().for_each(|entry| drop(catalog.put(entry)));
        Ok(self.token())
    }

    fn read_catalog(&self, read: &mut dyn FnMut(&Catalog)) {
        read(&self.catalog.lock().expect("lock"));
    }

    async fn context(&self, source: SourceId, user: EcoString, _: Option<Token>) -> Result<At<Option<ContextRow>>, ServiceError> {
        self.act().await?;
        let row = self.context.lock().expect("lock").clone();
        Ok(self.at(row.filter(|row| row.source == source && row.user == user)))
    }

    async fn put_spaces(&self, spaces: Vec<Space>) -> Result<(Token, Vec<SpaceId>), ServiceError> {
        self.act().await?;
        let mut tree = self.tree.lock().expect("lock");
        if tree.cycle(&spaces).is_some() {
            return Err(ServiceError::Invalid { field: "spaces", detail: "a cycle".into() });
        }
        spaces.into_iter().for_each(|space| drop(tree.put(space)));
        Ok((self.token(), tree.orphans().map(|space| space.space_id).collect()))
    }

    async fn remove_space(&self, id: SpaceId) -> Result<Token, ServiceError> {
        self.act().await?;
        let mut tree = self.tree.lock().expect("lock");
        if tree.children(id).next().is_some() {
            return Err(ServiceError::Conflict("it has children".into()));
        }
        tree.remove(id).map(|_| self.token()).ok_or_else(|| ServiceError::NotFound("no such space".into()))
    }

    fn read_tree(&self, read: &mut dyn FnMut(&Tree)) {
        read(&self.tree.lock().expect("lock"));
    }

    async fn series(&self, request: SeriesRequest) -> Result<At<Vec<Series>>, ServiceError> {
        self.act().await?;
        self.asked.lock().expect("lock").push(format!("{request:?}"));
        let (tree, cells) = (self.tree.lock().expect("lock"), self.cells.lock().expect("lock"));
        let series = |root: &SpaceId| {
            let subtree = tree.subtree(*root).ok_or_else(|| ServiceError::NotFound(format!("there is no space {root}")))?;
            let mut rows: std::collections::BTreeMap<Micros, Cell> = Default::default();
            for (_, time, cell) in
                cells.iter().filter(|(space, time, _)| subtree.contains(space) && (request.from..request.to).contains(time))
            {
                rows.entry(*time).or_default().add(*cell);
            }
            Ok(Series { root: *root, rows: rows.into_iter().collect() })
        };
        let series: Result<Vec<Series>, ServiceError> = request.roots.iter().map(series).collect();
        Ok(self.at(series?))
    }

    async fn occupancy_now(&self, _: Option<Token>) -> Result<At<OccupancyNow>, ServiceError> {
        self.act().await?;
        let (tree, cells) = (self.tree.lock().expect("lock"), self.cells.lock().expect("lock"));
        let begin = cells.iter().map(|(_, time, _)| *time).max().unwrap_or_default();
        let sum = |id: SpaceId, at: Micros| {
            let subtree = tree.subtree(id).unwrap_or_default();
            let mut sum = Cell::ZERO;
            let of = cells.iter().filter(|(space, time, _)| *time == at && subtree.contains(space));
            of.for_each(|(_, _, cell)| sum.add(*cell));
            sum
        };
        let now = |space: &Space| SpaceNow {
            space: space.clone(),
            running: sum(space.space_id, begin),
            last: sum(space.space_id, begin - 900_000_000),
        };
        Ok(self.at(OccupancyNow { interval_seconds: 900, begin, spaces: tree.iter().map(now).collect() }))
    }

    async fn typical(&self, space: SpaceId, weeks: u32, at_least: Option<Token>) -> Result<At<Typical>, ServiceError> {
        let to = 1_728_000_000_000_000;
        let measure = desireline_records::Measure::Devices(3_600);
        let from = to - i64::from(weeks) * 7 * desireline_records::time::DAY;
        let series = self.series(SeriesRequest { roots: vec![space], measure, from, to, at_least }).await?;
        let rows = &series.value[0].rows;
        Ok(self.at(Typical::of(rows, to, weeks, *self.privacy.lock().expect("lock"))))
    }

    async fn visits(&self, space: SpaceId, from: Micros, to: Micros, _: Option<Token>) -> Result<At<Vec<VisitDay>>, ServiceError> {
        self.act().await?;
        self.asked.lock().expect("lock").push(format!("{space} {from} {to}"));
        Ok(self.at(self.visits.lock().expect("lock").clone()))
    }

    async fn flows(
        &self,
        root: Option<SpaceId>,
        from: Micros,
        to: Micros,
        per: FlowsPer,
        _: Option<Token>,
    ) -> Result<At<Vec<Flow>>, ServiceError> {
        self.act().await?;
        self.asked.lock().expect("lock").push(format!("{root:?} {from} {to} {per:?}"));
        Ok(self.at(self.flows.lock().expect("lock").clone()))
    }

    fn privacy(&self) -> Privacy {
        *self.privacy.lock().expect("lock")
    }

    fn alerts(&self) -> broadcast::Receiver<Arc<OccupancyChange>> {
        self.alerts.lock().expect("lock").get_or_insert_with(|| broadcast::Sender::new(8)).subscribe()
    }

    async fn wait_applied(&self, token: Token, _deadline: Duration) -> Result<(), ServiceError> {
        self.waited.lock().expect("lock").push(token);
        self.act().await
    }

    async fn sessions(&self, query: SessionsQuery) -> Result<At<Page<SessionRow>>, ServiceError> {
        self.act().await?;
        *self.sessions.lock().expect("lock") = Some(query);
        let row = SessionRow {
            source: 1,
            user: "7".into(),
            user_id_type: UserIdType::Int,
            session_number: 1,
            start: 1_700_000_000_000_000,
            end: 1_700_000_060_000_000,
            event_count: 3,
            views: 1,
            carts: 1,
            transactions: 1,
            value: 125_000,
            sealed: false,
        };
        Ok(self.at(Page { rows: vec![row], next_cursor: Some("next".into()) }))
    }

    async fn journeys(&self, _query: JourneysQuery) -> Result<At<Page<JourneyRow>>, ServiceError> {
        self.act().await?;
        let row = JourneyRow {
            source: 1,
            user: "u".into(),
            user_id_type: UserIdType::String,
            state: [2.0, 1.0, 1.0],
            paths: vec![[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]],
            session_count: 2,
            features: [2.0, 1.0, 1.0, 2.0, 1.0, 0.5],
            cluster_id: None,
        };
        Ok(self.at(Page { rows: vec![row], next_cursor: None }))
    }

    async fn clusters(&self, source: SourceId, _at_least: Option<Token>) -> Result<At<Clusters<ClusterRow>>, ServiceError> {
        self.act().await?;
        let users = *self.users.lock().expect("lock");
        let row = ClusterRow { cluster_id: 2, users, centroid: [4.0, 1.0, 1.0, 2.0, 2.0, 0.25] };
        let clusters = if source == 999 { vec![] } else { vec![row] };
        Ok(self.at(Clusters { user_id_type: UserIdType::Int, model_version: 1, clusters, users }))
    }

    async fn cluster_members(&self, _source: SourceId, _at_least: Option<Token>) -> Result<At<Clusters<ClusterMembers>>, ServiceError> {
        self.act().await?;
        let users = ["10", "9", "guest"].map(Into::into).to_vec();
        let clusters = vec![ClusterMembers { cluster_id: 0, users, centroid: [0.0; 6] }];
        Ok(self.at(Clusters { user_id_type: UserIdType::Int, model_version: 1, clusters, users: 3 }))
    }

    async fn minutes(&self, source: Option<SourceId>, from: Micros, _: Option<Token>) -> Result<At<Vec<MinuteRow>>, ServiceError> {
        self.act().await?;
        let rows = self.minutes.lock().expect("lock").clone();
        let is_wanted = |row: &MinuteRow| row.window_start + 60_000_000 >= from && source.is_none_or(|s| s == row.source);
        Ok(self.at(rows.into_iter().filter(is_wanted).collect()))
    }

    async fn status(&self) -> Result<Status, ServiceError> {
        self.status_calls.fetch_add(1, Ordering::SeqCst);
        self.act().await?;
        Ok(status(self.as_of.load(Ordering::SeqCst), &[1, 2]))
    }

    async fn dead_letters(&self, query: DeadLettersQuery) -> Result<At<Page<DeadLetterRow>>, ServiceError> {
        self.act().await?;
        let letters = self.letters.lock().expect("lock").clone();
        let wanted = letters.into_iter().filter(|letter| query.kind.is_none_or(|kind| kind == letter.kind));
        let rows = wanted.enumerate().map(|(n, letter)| DeadLetterRow { id: n.to_string(), letter }).take(query.limit).collect();
        Ok(self.at(Page { rows, next_cursor: None }))
    }

    async fn replay_dead_letter(&self, id: &str) -> Result<Receipt, ServiceError> {
        self.act().await?;
        Err(ServiceError::NotFound(format!("no dead letter {id}")))
    }

    async fn delete_event(&self, source: SourceId, id: EventId) -> Result<Token, ServiceError> {
        self.act().await?;
        self.deleted.lock().expect("lock").push(format!("{source} {id}"));
        Ok(self.token())
    }

    async fn erase_user(&self, source: SourceId, user: &str) -> Result<(Token, String), ServiceError> {
        self.act().await?;
        self.deleted.lock().expect("lock").push(format!("{source} {user}"));
        Ok((self.token(), "run-1".into()))
    }

    async fn erase_mac(&self, id: &str) -> Result<(Token, Vec<String>), ServiceError> {
        self.act().await?;
        if id == "nobody" {
            return Err(ServiceError::NotFound("no WiFi session of this device is known".into()));
        }
        self.deleted.lock().expect("lock").push(id.to_owned());
        Ok((self.token(), vec!["erasure-1".into(), "erasure-2".into()]))
    }

    async fn reset_partition(&self, source: SourceId, partition: &str, position: i64) -> Result<Token, ServiceError> {
        self.act().await?;
        self.deleted.lock().expect("lock").push(format!("{source} {partition} {position}"));
        Ok(self.token())
    }

    fn validator(&self) -> Arc<Validator> {
        let wifi = WifiRules { source: 2_000, max_session: 31 * DAY, strict_mac: false, pseudonyms: Some(Arc::new(Reversed)) };
        Arc::new(Validator { wifi: Some(wifi), ..Validator::default() })
    }

    fn as_of(&self) -> LogicalTime {
        self.as_of.load(Ordering::SeqCst)
    }

    fn ready(&self) -> bool {
        !self.not_ready.load(Ordering::SeqCst)
    }
}

/// Two followers, of which Redis is slow.
#[derive(Default)]
pub struct FakeFollowers {
    pub orders: Mutex<Vec<String>>,
    pub passed: AtomicBool,
    pub waits: AtomicUsize,
}

#[async_trait]
impl Followers for Arc<FakeFollowers> {
    fn list(&self) -> Vec<ProjectionStatus> {
        let redis = ProjectionStatus {
            name: "redis".into(),
            state: FollowerState::Failing,
            views: vec!["context"],
            applied: Some(900),
            lag_ms: Some(100),
            lag_rows: 3,
            rows_applied: 7,
            failures: 1,
            error: Some("connection refused".into()),
            since: 1_700_000_000_000_000,
            ..ProjectionStatus::default()
        };
        vec![ProjectionStatus { name: "postgres".into(), ..ProjectionStatus::default() }, redis]
    }

    async fn rebuild(&self, name: &str) -> Result<(), ServiceError> {
        self.order("rebuild", name)
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<(), ServiceError> {
        self.order(if paused { "pause" } else { "resume" }, name)
    }

    async fn wait_passed(&self, _: &str, _: Token, _: Duration) -> bool {
        self.waits.fetch_add(1, Ordering::SeqCst);
        self.passed.load(Ordering::SeqCst)
    }
}

impl FakeFollowers {
    fn order(&self, order: &str, name: &str) -> Result<(), ServiceError> {
        if name != "redis" {
            return Err(ServiceError::NotFound(format!("there is no projection {name}")));
        }
        self.orders.lock().expect("lock").push(order.to_owned());
        Ok(())
    }
}

/// Runs that are recorded nowhere.
struct Nowhere;

#[async_trait]
impl RunStore for Nowhere {
    async fn record(&self, _run_id: &str, _body: Value) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// A router and what stands behind it.
pub struct Site {
    pub fake: Arc<Fake>,
    pub followers: Arc<FakeFollowers>,
    pub router: Router,
    pub runs: Runs,
    pub state: AppState,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: bytes::Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Site {
    pub fn new(config: HttpConfig) -> Self {
        let fake = Arc::new(Fake::default());
        fake.as_of.store(1_000, Ordering::SeqCst);
        *fake.users.lock().expect("lock") = 2;
        let runs = Runs::new(RunsConfig::default(), Arc::new(Nowhere));
        runs.restore(Vec::<(String, Value)>::new());
        let followers = Arc::<FakeFollowers>::default();
        let state = AppState::new(config, fake.clone(), runs.clone(), followers.clone(), Arc::new(Metrics::default()));
        Self { router: router(state.clone()), fake, followers, runs, state }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.expect("a body");
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.send(request(Method::GET, uri).body(Body::empty()).expect("a request")).await
    }

    pub async fn post(&self, uri: &str, json: &str) -> Answer {
        self.send(request(Method::POST, uri).header("content-type", "application/json").body(json.to_owned().into()).expect("a request"))
            .await
    }
}

pub fn request(method: Method, uri: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(uri).header("host", "localhost:8000")
}
