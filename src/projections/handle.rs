//! What the rest of the server sees of the followers: how they stand, and orders to them.

use crate::service::{Service, ServiceError};
use desireline_dataflows::changes::Views;
use desireline_records::time::now_micros;
use desireline_records::{LogicalTime, Micros, Token};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const NO_PANIC: &str = "no code panics while it holds this lock";

/// What a follower is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowerState {
    /// Opens its target.
    #[default]
    Starting,
    /// Reads what the target has missed.
    CatchingUp,
    /// Builds the target's rows anew.
    Rebuilding,
    /// Applies changes as they come.
    Live,
    /// An operator has paused it.
    Paused,
    /// The target does not answer, or refuses; it is tried again.
    Failing,
    /// A newer server writes to the target.
    Fenced,
}

impl FollowerState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::CatchingUp => "catching_up",
            Self::Rebuilding => "rebuilding",
            Self::Live => "live",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Fenced => "fenced",
        }
    }
}

/// How a projection stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProjectionStatus {
    pub name: String,
    pub state: FollowerState,
    /// The views that it follows.
    pub views: Vec<&'static str>,
    /// The target has everything up to this logical time.
    pub applied: Option<LogicalTime>,
    /// How far that is behind the views, in milliseconds of the log's time; absent before the target was first reached.
    pub lag_ms: Option<u64>,
    /// Changes that wait in memory.
    pub lag_rows: u64,
    /// Rows put or taken away since the start of the server.
    pub rows_applied: u64,
    /// Rows that the target refused since the start of the server.
    pub rows_refused: u64,
    /// Failures since the start of the server.
    pub failures: u64,
    /// What is wrong now.
    pub error: Option<String>,
    /// Since when it is in this state.
    pub since: Micros,
}

/// Orders from operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub paused: bool,
    /// Counts the rebuilds that were asked for.
    pub rebuilds: u64,
}

/// One follower, as its task and everybody else share it.
pub(super) struct Shared {
    pub name: String,
    pub views: Views,
    status: Mutex<ProjectionStatus>,
    pub passed: watch::Sender<LogicalTime>,
    pub orders: watch::Sender<Orders>,
}

impl Shared {
    pub fn new(name: &str, views: Views) -> Self {
        let words = views.iter().map(desireline_dataflows::changes::View::word).collect();
        let status = ProjectionStatus { name: name.to_owned(), views: words, since: now_micros(), ..ProjectionStatus::default() };
        Self {
            name: name.to_owned(),
            views,
            status: Mutex::new(status),
            passed: watch::Sender::new(0),
            orders: watch::Sender::new(Orders::default()),
        }
    }

    pub fn note(&self, change: impl FnOnce(&mut ProjectionStatus)) {
        change(&mut self.status.lock().expect(NO_PANIC));
    }

    pub fn enter(&self, state: FollowerState) {
        self.note(|status| {
            if status.state != state {
                status.state = state;
                status.since = now_micros();
            }
            if state != FollowerState::Failing && state != FollowerState::Fenced {
                status.error = None;
            }
        });
    }

    pub fn state(&self) -> FollowerState {
        self.status.lock().expect(NO_PANIC).state
    }

    /// The target has everything up to this time.
    pub fn pass(&self, time: LogicalTime) {
        self.note(|status| status.applied = Some(time));
        self.passed.send_replace(time);
    }

    fn status(&self, as_of: LogicalTime) -> ProjectionStatus {
        let mut status = self.status.lock().expect(NO_PANIC).clone();
        status.lag_ms = status.applied.map(|applied| as_of.saturating_sub(applied));
        status
    }
}

/// All projections of the server. Cheap to clone.
#[derive(Clone)]
pub struct Projections {
    inner: Arc<Inner>,
}

struct Inner {
    service: Option<Service>,
    followers: BTreeMap<String, Arc<Shared>>,
}

impl Projections {
    /// A server without projections.
    pub fn none() -> Self {
        Self { inner: Arc::new(Inner { service: None, followers: BTreeMap::new() }) }
    }

    pub(super) fn new(service: Service, followers: impl IntoIterator<Item = Arc<Shared>>) -> Self {
        let followers = followers.into_iter().map(|shared| (shared.name.clone(), shared)).collect();
        Self { inner: Arc::new(Inner { service: Some(service), followers }) }
    }

    pub fn list(&self) -> Vec<ProjectionStatus> {
        let as_of = self.inner.service.as_ref().map_or(0, |service| *service.as_of().borrow());
        self.inner.followers.values().map(|follower| follower.status(as_of)).collect()
    }

    /// Has the target's rows built anew, beside the old ones.
    pub async fn rebuild(&self, name: &str) -> Result<(), ServiceError> {
        let follower = self.find(name)?;
        if follower.orders.borrow().paused {
            return Err(ServiceError::Conflict(format!("projection {name} is paused; resume it first")));
        }
        follower.orders.send_modify(|orders| orders.rebuilds += 1);
        Ok(())
    }

    /// Pauses or resumes a projection; it stays so over restarts.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<(), ServiceError> {
        let follower = self.find(name)?;
        if let Some(service) = &self.inner.service {
            service.pause_projection(name, paused).await?;
        }
        follower.orders.send_modify(|orders| orders.paused = paused);
        Ok(())
    }

    /// Waits until the target has the token's batch. Answers false at the deadline, and at once when there is no such projection or
    /// it is not live.
    pub async fn wait_passed(&self, name: &str, token: Token, deadline: Duration) -> bool {
        let Some(follower) = self.inner.followers.get(name) else { return false };
        if follower.state() != FollowerState::Live {
            return false;
        }
        let mut passed = follower.passed.subscribe();
        let passed = passed.wait_for(|time| *time >= token.time);
        matches!(tokio::time::timeout(deadline, passed).await, Ok(Ok(_)))
    }

    fn find(&self, name: &str) -> Result<&Arc<Shared>, ServiceError> {
        let names = || self.inner.followers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.inner.followers.get(name).ok_or_else(|| {
            let known = if self.inner.followers.is_empty() { "none is configured".to_owned() } else { format!("there are {}", names()) };
            ServiceError::NotFound(format!("there is no projection {name}; {known}"))
        })
    }
}
