//! Dead letters and late events, as listings and by id.

use super::columns::{EventColumns, LetterColumns};
use super::error::LogError;
use super::frames::Frames;
use super::manifest::Snapshot;
use super::object::{Counts, Frame};
use super::scan::{Piece, Shared, pieces};
use desireline_records::{DeadLetter, DeadLetterKind, Event, LogicalTime, SourceId, time};
use ecow::{EcoString, eco_format};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Which dead letters are wanted; `None` means all.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterFilter {
    pub source: Option<SourceId>,
    pub kind: Option<DeadLetterKind>,
}

/// A dead letter, or a late event told as one, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedLetter {
    pub time: LogicalTime,
    /// Its number among the rows of its batch as committed: events, then dead letters, then controls.
    pub row: u32,
    pub letter: DeadLetter,
    /// The event itself when it is a late one.
    pub event: Option<Event>,
}

impl LoggedLetter {
    /// `<logical time>-<row>`: stays the same through compaction.
    pub fn id(&self) -> String {
        format!("{}-{}", self.time, self.row)
    }
}

/// Reads an id that [`LoggedLetter::id`] has made.
pub fn parse_id(id: &str) -> Option<(LogicalTime, u32)> {
    let (time, row) = id.split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (number(time) && number(row)).then(|| Some((time.parse().ok()?, row.parse().ok()?)))?
}

/// A row's place, ordered by time and number.
type Place = (LogicalTime, u32);

/// Keeps the `limit` largest places below `before`.
struct Newest {
    before: Option<Place>,
    exact: bool,
    limit: usize,
    filter: LetterFilter,
    heap: BinaryHeap<Reverse<Found>>,
}

struct Found {
    place: Place,
    row: LoggedLetter,
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}
impl Eq for Found {}
impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

impl Newest {
    fn wants(&self, place: Place, source: SourceId, kind: DeadLetterKind) -> bool {
        let in_range = match (self.exact, self.before) {
            (true, wanted) => Some(place) == wanted,
            (false, before) => before.is_none_or(|before| place < before),
        };
        let passes = self.filter.source.is_none_or(|s| s == source) && self.filter.kind.is_none_or(|k| k == kind);
        let room = self.heap.len() < self.limit || self.heap.peek().is_some_and(|Reverse(oldest)| place > oldest.place);
        in_range && passes && room
    }

    fn add(&mut self, place: Place, letter: DeadLetter, event: Option<Event>) {
        self.heap.push(Reverse(Found { place, row: LoggedLetter { time: place.0, row: place.1, letter, event } }));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn event(&mut self, frame: &Frame, number: u32, columns: &EventColumns, row: usize) {
        if !columns.late(row) {
            return;
        }
        let place = (frame.time, frame.original_row(number));
        if self.wants(place, columns.source(row), DeadLetterKind::Late) {
            let event = columns.event(row);
            self.add(place, letter_of_late(&event, frame.time), Some(event));
        }
    }

    fn letter(&mut self, frame: &Frame, number: u32, columns: &LetterColumns, row: usize) {
        let place = (frame.time, frame.original_row(number));
        if self.wants(place, columns.source(row), columns.kind(row)) {
            self.add(place, columns.letter(row), None);
        }
    }

    fn full(&self) -> bool {
        self.heap.len() >= self.limit
    }

    fn finish(self) -> Vec<LoggedLetter> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(found)| found.row).collect()
    }
}

/// A late event as the dead letter that people see; its payload is in the format `desireline`.
fn letter_of_late(event: &Event, at: LogicalTime) -> DeadLetter {
    DeadLetter {
        source: event.source,
        kind: DeadLetterKind::Late,
        at: at as i64 * 1_000,
        user: event.user.clone(),
        field: "timestamp".into(),
        detail: eco_format!("{} lies behind the horizon of its source", time::format_rfc3339(event.time)),
        origin: EcoString::new(),
        format: "desireline".into(),
        payload: payload_of(event),
    }
}

fn payload_of(event: &Event) -> EcoString {
    let extra = event.extra.as_deref().cloned().unwrap_or_default();
    let properties: serde_json::Value = serde_json::from_str(&extra.properties).unwrap_or(serde_json::Value::Null);
    let mut body = serde_json::Map::new();
    let texts = [
        ("event_id", &extra.event_id),
        ("user_id", &event.user),
        ("session_id", &extra.session_id),
        ("client_id", &extra.client_id),
        ("event_type", &event.event_type),
        ("page", &event.page),
        ("item_id", &event.item),
        ("transaction_id", &extra.transaction_id),
    ];
    body.insert("source_id".to_owned(), event.source.into());
    body.insert("timestamp".to_owned(), (event.time as f64 / 1e6).into());
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        body.insert(name.to_owned(), text.as_str().into());
    }
    if event.value.0 != 0 {
        body.insert("value".to_owned(), event.value.to_f64().into());
    }
    if !properties.is_null() {
        body.insert("properties".to_owned(), properties);
    }
    serde_json::Value::Object(body).to_string().into()
}

pub async fn newest(shared: &Shared, filter: LetterFilter, before: Option<Place>, limit: usize) -> Result<Vec<LoggedLetter>, LogError> {
    search(shared, filter, before, limit, false).await
}

pub async fn by_id(shared: &Shared, id: &str) -> Result<Option<LoggedLetter>, LogError> {
    let Some(place) = parse_id(id) else { return Ok(None) };
    Ok(search(shared, LetterFilter::default(), Some(place), 1, true).await?.pop())
}

async fn search(
    shared: &Shared,
    filter: LetterFilter,
    before: Option<Place>,
    limit: usize,
    exact: bool,
) -> Result<Vec<LoggedLetter>, LogError> {
    loop {
        let snapshot = shared.snapshot().await?;
        let newest = Newest { before, exact, limit, filter, heap: BinaryHeap::new() };
        match search_in(shared, &snapshot, newest).await {
            Err(LogError::Store(error)) if error.is_not_found() => {
                if shared.snapshot().await?.manifest.number == snapshot.manifest.number {
                    return Err(error.into());
                }
            }
            other => return other,
        }
    }
}

async fn search_in(shared: &Shared, snapshot: &Snapshot, mut newest: Newest) -> Result<Vec<LoggedLetter>, LogError> {
    for piece in pieces(snapshot).rev() {
        if newest.limit == 0 || newest.full() {
            break;
        }
        let (counts, first, last) = match &piece {
            Piece::Part(info) => (info.counts, info.time_first, info.time_last),
            Piece::Segment(live) => {
                let header = shared.header(live).await?;
                (header.counts, header.time_first, header.time_last)
            }
        };
        let beyond = newest.before.is_some_and(|(time, _)| first > time || (newest.exact && last < time));
        if beyond || !may_hold(counts, newest.filter) {
            continue;
        }
        let object = match &piece {
            Piece::Part(info) => shared.part(info).await?,
            Piece::Segment(live) => shared.segment(live).await?,
        };
        newest = super::offload(object.byte_len(), move || {
            let late = counts.late > 0 && newest.filter.kind.is_none_or(|kind| kind == DeadLetterKind::Late);
            let mut frames = Frames::of(object)?;
            while let Some(frame) = frames.peek() {
                if newest.before.is_some_and(|(time, _)| frame.time > time) {
                    break;
                }
                frames.visit_letters(&mut newest, late, Newest::event, Newest::letter)?;
            }
            Ok(newest)
        })
        .await?;
    }
    Ok(newest.finish())
}

fn may_hold(counts: Counts, filter: LetterFilter) -> bool {
    match filter.kind {
        Some(DeadLetterKind::Late) => counts.late > 0,
        Some(_) => counts.dead_letters > 0,
        None => counts.late + counts.dead_letters > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_and_nothing_else_is() {
        assert_eq!(parse_id("1700000000000-3"), Some((1_700_000_000_000, 3)));
        for id in ["", "-", "1-", "-1", "1-2-3", "+1-2", "x-1", "1-99999999999"] {
            assert_eq!(parse_id(id), None, "{id}");
        }
    }
}
