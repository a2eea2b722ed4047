//! One subscriber of the live stream, from the request to the last frame.

use super::frames::{Body, ResyncFrame};
use super::{Frame, LiveHub};
use crate::http::AppState;
use crate::http::error::ApiError;
use crate::http::params::Params;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use desireline_records::SourceId;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens, as it happens: server-sent events `status`, `minutes`, `clusters`, `occupancy`, `occupancy_change` and `resync`.
#[utoipa::path(get, path = "/api/live", tag = "views", operation_id = "live",
    params(("source_id" = Option<i32>, Query, minimum = 0, description = "all sources when absent")),
    responses((status = 200, description = "an endless stream", body = String, content_type = "text/event-stream")))]
pub(in crate::http) async fn live(State(state): State<AppState>, mut params: Params, headers: HeaderMap) -> Result<Response, ApiError> {
    let source = params.source();
    params.finish()?;
    let last_id = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let subscription = Subscription::new(&state.live, source, last_id)?;
    let stream = futures::stream::unfold(subscription, |mut subscription| async move {
        let event = subscription.next().await?;
        Some((Ok::<_, Infallible>(event), subscription))
    });
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // Proxies must not collect events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A place in the stream.
pub(super) struct Subscription {
    hub: Arc<LiveHub>,
    source: Option<SourceId>,
    receiver: Option<broadcast::Receiver<Arc<Frame>>>,
    last_id: Option<String>,
    waiting: VecDeque<(u64, Arc<Frame>)>,
    closed: watch::Receiver<bool>,
    looks: watch::Receiver<u64>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave();
    }
}

impl Subscription {
    pub fn new(hub: &Arc<LiveHub>, source: Option<SourceId>, last_id: Option<String>) -> Result<Self, ApiError> {
        let looks = hub.looks.subscribe();
        hub.join()?;
        let closed = hub.closed.subscribe();
        Ok(Self { hub: Arc::clone(hub), source, receiver: None, last_id, waiting: VecDeque::new(), closed, looks })
    }

    /// The next event; nothing more once the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let (era, frame) = self.next_frame().await?;
            if let Some(json) = frame.body.json(self.source) {
                return Some(Event::default().event(frame.body.event()).id(format!("{era:x}-{}", frame.number)).data(json));
            }
        }
    }

    pub async fn next_frame(&mut self) -> Option<(u64, Arc<Frame>)> {
        loop {
            if *self.closed.borrow() {
                return None;
            }
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            let Some(receiver) = &mut self.receiver else {
                self.enter().await?;
                continue;
            };
            let received = tokio::select! {
                received = receiver.recv() => received,
                _ = self.closed.wait_for(|closed| *closed) => return None,
            };
            match received {
                Ok(frame) => {
                    let era = self.hub.lock().era;
                    self.waiting.push_back((era, frame));
                }
                Err(RecvError::Lagged(_)) => {
                    self.hub.metrics.resynced();
                    self.take_picture(Some("slow"));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes a place behind the frame that was seen last, or behind the picture.
    async fn enter(&mut self) -> Option<()> {
        let is_fresh = |hub: &LiveHub| hub.lock().picture.looked;
        while !is_fresh(&self.hub) {
            tokio::select! {
                looked = self.looks.changed() => looked.ok()?,
                _ = self.closed.wait_for(|closed| *closed) => return None,
            }
        }
        let last_seen = self.last_id.take().and_then(|id| parse_id(&id));
        let state = self.hub.lock();
        let era = state.era;
        let resumes = last_seen.filter(|(seen_era, number)| {
            *seen_era == era && *number <= state.number && state.ring.front().is_none_or(|oldest| oldest.number <= number + 1)
        });
        match resumes {
            Some((_, number)) => {
                self.receiver = Some(self.hub.frames.subscribe());
                self.waiting = state.ring.iter().filter(|frame| frame.number > number).map(|frame| (era, Arc::clone(frame))).collect();
            }
            None => {
                drop(state);
                self.take_picture(None);
            }
        }
        Some(())
    }

    fn take_picture(&mut self, reason: Option<&'static str>) {
        let mut state = self.hub.lock();
        self.receiver = Some(self.hub.frames.subscribe());
        let (era, number, as_of) = (state.era, state.number, state.picture.as_of);
        let resync = reason.map(|reason| Body::Resync(ResyncFrame { as_of, reason }));
        let bodies = resync.into_iter().chain(state.picture.frames(self.source));
        self.waiting = bodies.map(|body| (era, Arc::new(Frame { number, body }))).collect();
    }
}

fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (era, number) = id.split_once('-')?;
    Some((u64::from_str_radix(era, 16).ok()?, number.parse().ok()?))
}
