//! The stream as a subscriber sees it.

use super::subscription::Subscription;
use super::{Body, Frame, LiveHub};
use crate::http::backend::Backend;
use crate::http::config::{HttpConfig, LiveConfig};
use crate::http::tests::fake::{Fake, FakeFollowers, Mood, Site, request};
use crate::metrics::Metrics;
use crate::service::{MinuteRow, OccupancyChange};
use axum::http::Method;
use desireline_records::{Cell, Space, time};
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tower::ServiceExt;

fn hub(config: LiveConfig) -> (Arc<Fake>, Arc<LiveHub>) {
    let fake = Arc::new(Fake::default());
    fake.as_of.store(1, Ordering::SeqCst);
    let backend: Arc<dyn Backend> = fake.clone();
    (fake, LiveHub::new(backend, Arc::new(Arc::<FakeFollowers>::default()), Arc::new(Metrics::default()), config))
}

fn quick() -> LiveConfig {
    LiveConfig { poll_every: Duration::from_millis(1), ..LiveConfig::default() }
}

fn row(minutes_ago: i64, count: i64) -> MinuteRow {
    let now = time::now_micros() / time::MINUTE * time::MINUTE;
    MinuteRow { source: 1, window_start: now - minutes_ago * time::MINUTE, page: "/p".into(), event_type: "view".into(), count, revenue: 0 }
}

async fn next(subscription: &mut Subscription) -> (u64, Arc<Frame>) {
    let within = tokio::time::timeout(Duration::from_secs(10), subscription.next_frame());
    within.await.expect("a frame within 10 s").expect("the stream goes on")
}

/// The next frame of the minutes.
async fn next_minutes(subscription: &mut Subscription) -> super::frames::MinutesFrame {
    loop {
        if let Body::Minutes(frame) = &next(subscription).await.1.body {
            return frame.clone();
        }
    }
}

#[tokio::test]
async fn a_subscriber_gets_the_picture_and_then_the_changes() {
    let (fake, hub) = hub(quick());
    fake.set_minutes(vec![row(5, 1), row(1, 2), row(0, 3)]);
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    let first = [next(&mut subscription).await, next(&mut subscription).await, next(&mut subscription).await];
    assert_eq!(first.each_ref().map(|(_, frame)| frame.body.event()), ["status", "minutes", "clusters"]);
    let Body::Minutes(snapshot) = &first[1].1.body else { panic!("minutes") };
    assert!(snapshot.snapshot && snapshot.cells.len() == 3);

    fake.set_minutes(vec![row(5, 4), row(1, 2), row(0, 9)]);
    let changes = next_minutes(&mut subscription).await;
    let brief: Vec<_> = changes.cells.iter().map(|cell| (cell.before, cell.count, cell.correction)).collect();
    assert_eq!((changes.snapshot, changes.corrections_per_minute), (false, 1));
    assert_eq!(brief, [(Some(1), 4, true), (Some(3), 9, false)]);
}

#[tokio::test]
async fn views_that_come_up_later_are_sent_as_a_snapshot() {
    let (fake, hub) = hub(quick());
    fake.not_ready.store(true, Ordering::SeqCst);
    fake.set_minutes(vec![row(0, 3)]);
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    assert_eq!(next(&mut subscription).await.1.body.event(), "status");
    fake.not_ready.store(false, Ordering::SeqCst);
    let snapshot = next_minutes(&mut subscription).await;
    assert!(snapshot.snapshot && snapshot.cells.len() == 1);
}

#[tokio::test]
async fn without_subscribers_nothing_is_asked() {
    let (fake, hub) = hub(quick());
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    next(&mut subscription).await;
    drop(subscription);
    let wait = async {
        while hub.lock().watching {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the hub stops");
    let calls = fake.status_calls.load(Ordering::SeqCst);
    let era = hub.lock().era;
    let mut again = Subscription::new(&hub, None, None).expect("room");
    next(&mut again).await;
    assert!(fake.status_calls.load(Ordering::SeqCst) > calls);
    assert!(hub.lock().era > era - 1, "and begins anew for the next one");
}

#[tokio::test]
async fn a_slow_subscriber_is_resynchronised() {
    let (fake, hub) = hub(LiveConfig { queue_frames: 2, ..quick() });
    fake.set_minutes(vec![row(0, 1)]);
    let mut slow = Subscription::new(&hub, None, None).expect("room");
    let mut quick = Subscription::new(&hub, None, None).expect("room");
    for _ in 0..3 {
        next(&mut slow).await;
    }
    next_minutes(&mut quick).await;
    for count in 2..8 {
        fake.set_minutes(vec![row(0, count)]);
        while next_minutes(&mut quick).await.cells[0].count != count {}
    }
    let (_, resync) = next(&mut slow).await;
    assert_eq!(resync.body.event(), "resync");
    let snapshot = next_minutes(&mut slow).await;
    assert_eq!((snapshot.snapshot, snapshot.cells[0].count), (true, 7));
}

#[tokio::test]
async fn a_reconnect_goes_on_where_it_stopped() {
    let (fake, hub) = hub(quick());
    fake.set_minutes(vec![row(0, 1)]);
    let mut first = Subscription::new(&hub, None, None).expect("room");
    let mut witness = Subscription::new(&hub, None, None).expect("room");
    let mut last = next(&mut first).await;
    while last.1.body.event() != "minutes" {
        last = next(&mut first).await;
    }
    let (era, number) = (last.0, last.1.number);
    drop(first);
    next_minutes(&mut witness).await;
    fake.set_minutes(vec![row(0, 2)]);
    next_minutes(&mut witness).await;

    let mut resumed = Subscription::new(&hub, None, Some(format!("{era:x}-{number}"))).expect("room");
    let frame = next(&mut resumed).await.1;
    assert_eq!(frame.number, number + 1);
    let mut stranger = Subscription::new(&hub, None, Some(format!("{:x}-{number}", era + 1))).expect("room");
    assert!(next_minutes(&mut stranger).await.snapshot, "the id of another era means nothing");
}

#[tokio::test]
async fn a_look_that_panics_is_made_again() {
    let (fake, hub) = hub(quick());
    fake.set_minutes(vec![row(0, 1)]);
    fake.feel(Mood::Panics);
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    fake.feel(Mood::Well);
    assert!(next_minutes(&mut subscription).await.snapshot);
}

#[tokio::test]
async fn the_streams_end_when_the_server_stops() {
    let (_, hub) = hub(quick());
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    next(&mut subscription).await;
    hub.close();
    let end = async { while subscription.next_frame().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stream ends");
}

#[tokio::test]
async fn frames_can_be_of_one_source() {
    let (fake, hub) = hub(quick());
    fake.set_minutes(vec![row(0, 1), MinuteRow { source: 2, ..row(0, 1) }]);
    let mut subscription = Subscription::new(&hub, None, None).expect("room");
    for _ in 0..3 {
        let (_, frame) = next(&mut subscription).await;
        let json: serde_json::Value = serde_json::from_str(&frame.body.json(Some(2)).expect("concerns it")).expect("JSON");
        let list = json.get("sources").or_else(|| json.get("cells")).and_then(|list| list.as_array()).expect("a list").clone();
        assert_eq!(list.len(), 1, "{json}");
        assert_eq!(list[0]["source_id"], 2);
        assert!(frame.body.event() == "status" || frame.body.json(Some(9)).is_none_or(|json| json.contains("\"cells\":[]")));
    }
}

#[tokio::test]
async fn spaces_are_shown_and_alerts_passed_on_to_subscribers_of_all_sources() {
    let (fake, hub) = hub(quick());
    let mut early = Subscription::new(&hub, None, None).expect("room");
    next(&mut early).await;
    let space = |id| Space { space_id: id, space_name: None, parent_space_id: None, building_room: None, capacity: None };
    fake.tree.lock().expect("lock").put(space(1));
    let number = |count| {
        *fake.cells.lock().expect("lock") = vec![(1, 900_000_000, Cell { count, ..Cell::ZERO })];
        fake.as_of.fetch_add(1, Ordering::SeqCst);
    };
    number(4);
    let spaces = async |subscription: &mut Subscription| loop {
        let (_, frame) = next(subscription).await;
        assert!(frame.body.event() == "status" || frame.body.json(Some(1)).is_none_or(|json| !json.contains("space_id")));
        if let Body::Occupancy(frame) = &frame.body {
            return serde_json::to_value(frame).expect("JSON");
        }
    };
    let cell = |number: i64| json!({"space_id": 1, "interval_begin_time": "1970-01-01T00:15:00.000Z", "number_connections": number});
    let first = spaces(&mut early).await;
    assert_eq!((&first["snapshot"], &first["cells"]), (&json!(true), &json!([cell(4)])), "the first space is told whole");
    let mut late = Subscription::new(&hub, None, None).expect("room");
    assert_eq!(spaces(&mut late).await["cells"], json!([cell(4)]));
    number(6);
    for subscription in [&mut early, &mut late] {
        let mut changed = cell(6);
        changed["before"] = json!(4);
        let frame = spaces(subscription).await;
        assert_eq!((&frame["snapshot"], &frame["cells"]), (&json!(false), &json!([changed])));
    }
    let alert = OccupancyChange {
        event: "occupancy_change",
        space_id: 1,
        space_name: None,
        interval_begin_time: String::new(),
        number_connections: Some(6),
        capacity: 6,
        percent: Some(100.0),
        threshold_percent: 100,
        direction: "up",
        at: String::new(),
    };
    let to = fake.alerts.lock().expect("lock").clone().expect("the hub listens");
    to.send(Arc::new(alert)).expect("the hub listens");
    while next(&mut early).await.1.body.event() != "occupancy_change" {}
}

#[tokio::test]
async fn over_http_it_is_an_event_stream_with_a_limit() {
    let site = Site::new(HttpConfig { live: LiveConfig { subscribers_max: 1, ..quick() }, ..HttpConfig::default() });
    let ask =
        || site.router.clone().oneshot(request(Method::GET, "/api/live?source_id=1").body(axum::body::Body::empty()).expect("a request"));
    let response = ask().await.expect("infallible");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().get("content-encoding").is_none());
    let mut stream = response.into_body().into_data_stream();
    let chunk = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("in time").expect("data").expect("data");
    let text = String::from_utf8(chunk.to_vec()).expect("text");
    assert!(text.starts_with("event: status\n") || text.starts_with("id: "), "{text}");
    assert!(text.contains("\ndata: {") && text.contains("corrections_per_minute") && text.ends_with("\n\n"), "{text}");
    let second = site.get("/api/live").await;
    assert_eq!((second.status.as_u16(), second.json()["code"].as_str().map(str::to_owned)), (429, Some("too_many_requests".into())));
    drop(stream);
    assert_eq!(ask().await.expect("infallible").status(), 200);
}
