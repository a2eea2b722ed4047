//! The demonstration: a synthetic shop inside the server's process, and a campus beside it ([`campus`]).
//!
//! At the first start it loads the shop's last two hours, so that every chart has something to show at once; afterwards its
//! events come as they happen, some of them late. After a restart it fills the time in between, at most two hours of it. Its
//! progress is the partition `demo` of its source.

pub mod campus;

use crate::config::Config;
use crate::config::reader;
use crate::config::schema::{Demo, Source};
use crate::config::values::micros;
use crate::generate::{GeneratedEvent, Shop, ShopSettings};
use crate::service::{Service, ServiceError};
use desireline_records::time::{HOUR, now_micros};
use desireline_records::validate::Validator;
use desireline_records::{Horizon, Micros, Position, Progress};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub const NAME: &str = "demo-shop";
const PARTITION: &str = "demo";
/// Events committed at once while history is loaded.
const CHUNK: usize = 20_000;
/// How often the shop is asked for what has happened since.
const EVERY: Duration = Duration::from_millis(100);
/// Pause after the log refused a batch.
const RETRY: Duration = Duration::from_secs(1);
/// Events that arrive twice.
const DUPLICATES: f64 = 0.002;

/// Unless the configuration has a source with that number: what a live shop wants, bounded in memory.
pub fn add_source(config: &mut Config) {
    if config.source.iter().any(|source| source.source_id == config.demo.source_id) {
        return;
    }
    config.source.push(Source {
        name: NAME.to_owned(),
        source_id: config.demo.source_id,
        horizon: Some(Horizon::After(6 * HOUR)),
        lateness: Some(Duration::from_secs(3 * 3_600)),
        ..reader::defaults()
    });
}

pub async fn run(demo: Demo, service: Service, stop: CancellationToken) {
    let position = service.position(demo.source_id, PARTITION);
    let mut feed = Feed::new(&demo, position, now_micros());
    loop {
        let now = now_micros();
        let events = feed.shop.advance(now, CHUNK);
        let full = events.len() == CHUNK;
        if !events.is_empty() && !commit(&service, feed.progress(&events, &service.validator(), now), &stop).await {
            return;
        }
        let pause = if full { Duration::ZERO } else { EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// False when the server stops. The rows of a batch that was refused are offered again: their ids make that safe.
async fn commit(service: &Service, progress: Progress, stop: &CancellationToken) -> bool {
    loop {
        let outcome = tokio::select! {
            outcome = service.commit(progress.clone()) => outcome,
            () = stop.cancelled() => return false,
        };
        match outcome {
            Ok(_) => return true,
            Err(ServiceError::Busy { .. }) => {}
            Err(error) => tracing::warn!(%error, "the demonstration waits"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return false,
        }
    }
}

/// The shop and how far it has come.
struct Feed {
    shop: Shop,
    source: u32,
    after: i64,
    max_time: Option<Micros>,
}

impl Feed {
    fn new(demo: &Demo, position: Option<Position>, now: Micros) -> Self {
        let earliest = now - micros(demo.history);
        let start = position.as_ref().and_then(|position| position.max_time).map_or(earliest, |last| last.clamp(earliest, now));
        let settings = ShopSettings {
            source: demo.source_id,
            rate: demo.rate,
            late: demo.late,
            duplicates: DUPLICATES,
            rhythm: false,
            ..ShopSettings::new(demo.seed, demo.users, start)
        };
        Self {
            shop: Shop::open(settings),
            source: demo.source_id,
            after: position.as_ref().map_or(0, |position| position.after),
            max_time: position.and_then(|position| position.max_time),
        }
    }

    /// Validated rows and the position behind them.
    fn progress(&mut self, generated: &[GeneratedEvent], validator: &Validator, now: Micros) -> Progress {
        let valid = |event: &GeneratedEvent| validator.validate(&event.to_raw(), now, Default::default);
        let events: Vec<_> = generated.iter().filter_map(|event| valid(event).ok()).collect();
        let before = self.after;
        self.after += generated.len() as i64;
        self.max_time = self.max_time.max(events.iter().map(|event| event.time).max());
        let position = Position { source: self.source, partition: PARTITION.into(), before, after: self.after, max_time: self.max_time };
        Progress { events, positions: vec![position], ..Progress::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::MINUTE;
    use std::collections::HashSet;

    const NOW: Micros = 1_790_000_000_000_000;

    fn feed(position: Option<Position>) -> (Progress, usize) {
        let demo = Demo { rate: 5.0, users: 200, ..reader::defaults() };
        let mut feed = Feed::new(&demo, position, NOW);
        let generated = feed.shop.advance(NOW, usize::MAX);
        (feed.progress(&generated, &Validator::default(), NOW), generated.len())
    }

    #[test]
    fn the_first_start_has_two_hours_of_history() {
        let (progress, generated) = feed(None);
        assert!((25_000..45_000).contains(&generated), "{generated}");
        assert!(progress.events.len() * 100 > generated * 99);
        let minutes: HashSet<_> = progress.events.iter().map(|event| event.time / MINUTE).collect();
        assert!(minutes.len() >= 115, "{}", minutes.len());
        let position = &progress.positions[0];
        assert_eq!((position.before, position.after), (0, generated as i64));
        assert!(position.max_time.is_some_and(|last| NOW - last < MINUTE && last <= NOW));
    }

    #[test]
    fn a_restart_goes_on_where_it_stopped() {
        let last = NOW - 5 * MINUTE;
        let position = Position { source: 1, partition: PARTITION.into(), before: 0, after: 1_000, max_time: Some(last) };
        let (progress, generated) = feed(Some(position));
        assert!((500..3_000).contains(&generated), "{generated}");
        assert_eq!(progress.positions[0].before, 1_000);
        let (again, _) = feed(None);
        let ids: HashSet<_> = again.events.iter().map(|event| event.id).collect();
        assert!(progress.events.iter().all(|event| !ids.contains(&event.id)), "other events, other ids");
    }

    #[test]
    fn a_configured_source_is_left_alone() {
        let mut config = Config::default();
        add_source(&mut config);
        add_source(&mut config);
        assert_eq!((config.source.len(), config.source[0].name.as_str()), (1, NAME));
    }
}
