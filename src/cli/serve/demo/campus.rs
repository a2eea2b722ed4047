//! The campus of the demonstration: its space tree, and the WiFi sessions of its people.
//!
//! At the first start it brings the sessions of the last two weeks, so that there is something to compare today with; then sessions come as
//! they are told: a third of them when they begin, all of them when they end. People keep working hours (weekdays, UTC). After a restart it
//! goes on where it stopped; sessions that were open then are never closed. Where spaces stand already that it has not brought, it does nothing.

use super::{CHUNK, EVERY, PARTITION, commit};
use crate::config::schema::Demo;
use crate::config::values::micros;
use crate::generate::{Campus, WifiSession, spaces};
use crate::service::{Service, ServiceError};
use desireline_records::time::now_micros;
use desireline_records::validate::Validator;
use desireline_records::{Event, Micros, Position, Progress, RawDevice, RawStay, SourceId, Space, SpaceId};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Sessions that are also told when they begin.
const OPENING: f64 = 0.3;

pub async fn run(demo: Demo, source: SourceId, service: Service, stop: CancellationToken) {
    let position = service.position(source, PARTITION);
    let own = position.is_some() || service.with_tree(|tree| tree.is_empty());
    if demo.people == 0 || !own {
        return;
    }
    if let Err(error) = bring_spaces(&service).await {
        tracing::warn!(%error, "the demonstration has no campus");
        return;
    }
    let mut feed = Feed::new(&demo, source, position, now_micros());
    loop {
        let now = now_micros();
        let told = feed.told(now);
        let full = told.len() == CHUNK;
        if !told.is_empty() && !commit(&service, feed.progress(&told, &service.validator(), now), &stop).await {
            return;
        }
        let pause = if full { Duration::ZERO } else { EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn bring_spaces(service: &Service) -> Result<(), ServiceError> {
    let space = |space: crate::generate::Space| Space {
        space_id: space.space_id as SpaceId,
        space_name: Some(space.name.into()),
        parent_space_id: space.parent_space_id.map(|id| id as SpaceId),
        building_room: space.building_room.map(Into::into),
        capacity: space.capacity,
    };
    let missing = |space: &Space| service.with_tree(|tree| !tree.contains(space.space_id));
    let missing: Vec<Space> = spaces().into_iter().map(space).filter(missing).collect();
    if missing.is_empty() { Ok(()) } else { service.put_spaces(missing).await.map(drop) }
}

/// The campus and how far it has come.
struct Feed {
    campus: std::iter::Peekable<Campus>,
    source: SourceId,
    after: i64,
    max_time: Option<Micros>,
}

impl Feed {
    fn new(demo: &Demo, source: SourceId, position: Option<Position>, now: Micros) -> Self {
        let earliest = now - micros(demo.campus_history);
        let last = position.as_ref().and_then(|position| position.max_time);
        let start = last.map_or(earliest, |last| last.clamp(earliest, now));
        Self {
            campus: Campus::new(demo.seed, demo.people, start).opening(OPENING).peekable(),
            source,
            after: position.as_ref().map_or(0, |position| position.after),
            max_time: last,
        }
    }

    /// What has been told by now, some of it.
    fn told(&mut self, now: Micros) -> Vec<WifiSession> {
        let mut told = Vec::new();
        while told.len() < CHUNK
            && let Some(session) = self.campus.next_if(|session| session.arrival <= now)
        {
            told.push(session);
        }
        told
    }

    /// Validated rows and the position behind them.
    fn progress(&mut self, told: &[WifiSession], validator: &Validator, now: Micros) -> Progress {
        let event = |session: &WifiSession| -> Option<Event> {
            let raw = RawStay {
                device: RawDevice::Id(session.mac_address().into()),
                space: Some(session.space_id.into()),
                sensor: session.sensor_id().into(),
                start: Some(session.start),
                end: session.end,
            };
            validator.validate_stay(self.source, &raw, now).ok()
        };
        let events: Vec<Event> = told.iter().filter_map(event).collect();
        let before = self.after;
        self.after += told.len() as i64;
        self.max_time = self.max_time.max(events.iter().map(|event| event.time).max());
        let position = Position { source: self.source, partition: PARTITION.into(), before, after: self.after, max_time: self.max_time };
        Progress { events, positions: vec![position], ..Progress::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader;
    use desireline_records::time::{DAY, HOUR, SECOND};
    use desireline_records::validate::WifiRules;
    use std::collections::HashSet;

    /// A Wednesday at noon.
    const NOW: Micros = 1_790_164_800 * SECOND;

    fn progress(position: Option<Position>) -> Progress {
        let wifi = WifiRules { source: 2_000, max_session: 31 * DAY, strict_mac: true, pseudonyms: None };
        let validator = Validator { wifi: Some(wifi), ..Validator::default() };
        let mut feed = Feed::new(&Demo { people: 60, ..reader::defaults() }, 2_000, position, NOW);
        let told = feed.told(NOW);
        assert!(told.len() < CHUNK, "all of it at once");
        feed.progress(&told, &validator, NOW)
    }

    #[test]
    fn the_first_start_has_two_weeks_of_people() {
        let progress = progress(None);
        let days: HashSet<i64> = progress.events.iter().map(|event| event.time / DAY).collect();
        assert!(days.len() >= 13, "{}", days.len());
        let open = progress.events.iter().filter(|event| event.stay.is_some_and(|stay| stay.end.is_none())).count();
        assert!(open * 10 > progress.events.len(), "some are told when they begin: {open} of {}", progress.events.len());
        assert!(progress.events.iter().all(|event| event.time <= NOW && event.source == 2_000));
        assert_eq!(progress.positions[0].before, 0);
        assert!(progress.positions[0].max_time.is_some_and(|last| NOW - last < HOUR));
    }

    #[test]
    fn a_restart_goes_on_where_it_stopped() {
        let last = NOW - 3 * HOUR;
        let position = Position { source: 2_000, partition: PARTITION.into(), before: 0, after: 500, max_time: Some(last) };
        let progress = progress(Some(position));
        assert!(!progress.events.is_empty() && progress.events.iter().all(|event| event.time >= last));
        assert_eq!(progress.positions[0].before, 500);
    }
}
