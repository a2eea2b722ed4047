//! Verification: every view, recomputed from the log by slow loops and compared.
//!
//! The expected side reads the log and answers with [`Reference`]: plain loops over collections that share no code with the
//! views. The observed side is either the views of an engine of its own, fed with the same log, plus the cold parts in the store
//! (for a stopped server), or a running server, asked over HTTP for every session, journey, minute and counter.
//!
//! Memory: the reference keeps every event it is given, so users are verified in slices by key hash; each slice is one more
//! pass over the log. About 200 bytes per event of a slice.
//!
//! Known limitations: a running server is compared at rest only; when rows arrive meanwhile the comparison starts over, a few
//! times. Over HTTP only the minutes of the last 24 hours can be asked for, and occupancy is not compared. Minutes that have left memory
//! are not compared.

mod observed;
mod occupancy;
mod remote;

pub use observed::Local;
use occupancy::{Cells, is_comparable};
pub use remote::Remote;

use desireline_connectors::log::{LogError, LogReader};
use desireline_dataflows::reference::{Reference, SessionFact};
use desireline_dataflows::views::journeys::Journey;
use desireline_dataflows::views::minutes::{KEPT, minute_of};
use desireline_dataflows::views::occupancy::query::Standing;
use desireline_records::time::format_rfc3339;
use desireline_records::{Batch, Control, LogicalTime, Micros, SourceId, user_hash};
use ecow::EcoString;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fmt::Debug;
use thiserror::Error;

/// Rows of the log decoded at once.
pub const SCAN_ROWS: usize = 32_768;

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    #[error("the views cannot be computed: {0}")]
    Engine(#[from] desireline_dataflows::EngineError),
    #[error("cold parts cannot be read: {0}")]
    Cold(String),
    #[error("the server cannot be asked: {0}")]
    Server(String),
    #[error("the server took rows during every attempt to compare; verify it at rest, or its log when it is stopped")]
    Moving,
}

/// A user, as the comparison knows it.
pub type UserKey = (SourceId, EcoString);

/// One session as it can be seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionLine {
    pub start: Micros,
    pub end: Micros,
    pub events: u64,
    pub views: u64,
    pub carts: u64,
    pub transactions: u64,
    pub value: f64,
    pub sealed: bool,
}

/// One journey as it can be seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct JourneyLine {
    pub state: [f64; 3],
    pub paths: Vec<[f64; 3]>,
    pub sessions: u64,
    pub features: [f64; 6],
    pub cluster: Option<u16>,
}

/// (source, minute, page, event type).
pub type MinuteKey = (SourceId, Micros, EcoString, EcoString);

/// What one side says about the users of one slice, and about minutes and counters when it is asked for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    pub sessions: BTreeMap<UserKey, Vec<SessionLine>>,
    pub journeys: BTreeMap<UserKey, JourneyLine>,
    pub minutes: BTreeMap<MinuteKey, (i64, f64)>,
    pub counts: BTreeMap<SourceId, Counters>,
    /// What was counted of WiFi sessions.
    pub cells: Cells,
    /// On the observed side, when it can tell cells: what they stand for.
    pub standing: Option<Standing>,
}

/// The conservation law's counts of one source.
pub use desireline_dataflows::reference::CountFacts as Counters;

/// Users whose key hash falls into slice `index` of `of`.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    pub index: u64,
    pub of: u64,
}

impl Slice {
    pub fn holds(&self, source: SourceId, user: &str) -> bool {
        user_hash(source, user) % self.of == self.index
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub as_of: LogicalTime,
    pub events: u64,
    pub users: u64,
    pub sessions: u64,
    pub minutes: u64,
    /// Cells of occupancy.
    pub cells: u64,
    pub sources: u64,
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<String>,
}

impl Report {
    fn differ(&mut self, most: usize, what: impl FnOnce() -> String) {
        self.difference_count += 1;
        if self.differences.len() < most {
            self.differences.push(what());
        }
    }

    /// Compares two maps key by key.
    fn compare<K: Ord + Debug, V: PartialEq + Debug>(
        &mut self,
        view: &str,
        expected: &BTreeMap<K, V>,
        observed: &BTreeMap<K, V>,
        most: usize,
    ) {
        for (key, wanted) in expected {
            match observed.get(key) {
                Some(got) if got == wanted => {}
                Some(got) => self.differ(most, || format!("{view} {key:?}: expected {wanted:?}, found {got:?}")),
                None => self.differ(most, || format!("{view} {key:?}: expected {wanted:?}, found nothing")),
            }
        }
        for (key, got) in observed.iter().filter(|(key, _)| !expected.contains_key(key)) {
            self.differ(most, || format!("{view} {key:?}: expected nothing, found {got:?}"));
        }
    }
}

/// The expected side: one slice of the log, recomputed.
pub struct Expected {
    pub lines: Lines,
    pub as_of: LogicalTime,
    pub events: u64,
}

/// Recomputes one slice from the log, up to a time.
pub async fn expected(reader: &LogReader, slice: Slice, until: LogicalTime) -> Result<Expected, VerifyError> {
    let mut reference = Reference::default();
    let (mut as_of, mut events) = (0, 0);
    let mut batches = reader.batches(0, SCAN_ROWS);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if batch.time > until {
            break;
        }
        as_of = batch.time;
        let part = part_of(batch, slice);
        events += part.events.len() as u64;
        reference.apply(&part);
    }
    Ok(Expected { lines: lines(&reference), as_of, events })
}

/// The rows of one slice. What is counted per batch, not per user, is counted in the first slice.
fn part_of(mut batch: Batch, slice: Slice) -> Batch {
    batch.events.retain(|event| event.user_hash() % slice.of == slice.index);
    if slice.index > 0 {
        batch.dead_letters.clear();
        for control in &mut batch.controls {
            if let Control::Erase(erase) = control {
                erase.purged = None;
            }
        }
    }
    batch
}

fn lines(reference: &Reference) -> Lines {
    let mut lines = Lines::default();
    let by_value: BTreeMap<SourceId, bool> = reference.sources().map(|(id, settings, _)| (id, settings.transaction_value)).collect();
    let labels = reference.labels();
    let journeys = reference.journeys();
    for (key, sessions) in reference.sessions() {
        let by_value = by_value[&key.0];
        let journey = &journeys[&key];
        let line = JourneyLine {
            state: journey.state(by_value),
            paths: sessions.iter().map(|s| path(s).state(by_value)).collect(),
            sessions: sessions.len() as u64,
            features: journey.features(by_value),
            cluster: labels.get(&key).copied(),
        };
        lines.journeys.insert(key.clone(), line);
        lines.sessions.insert(key, sessions.iter().map(session_line).collect());
    }
    let left: BTreeMap<SourceId, Micros> =
        reference.sources().filter_map(|(id, _, boundary)| Some((id, minute_of(boundary?.saturating_sub(KEPT))))).collect();
    for ((source, minute, page, event_type), (count, revenue)) in reference.minutes() {
        if left.get(&source).is_none_or(|before| minute >= *before) {
            lines.minutes.insert((source, minute, page, event_type), (count, desireline_records::fixed::sum_to_f64(revenue)));
        }
    }
    lines.counts = reference.counts();
    lines.cells = reference.occupancy().cells();
    lines
}

fn path(session: &SessionFact) -> Journey {
    Journey::new(session.views, session.carts, session.transactions, 1, session.value)
}

fn session_line(session: &SessionFact) -> SessionLine {
    SessionLine {
        start: session.start,
        end: session.end,
        events: session.events,
        views: session.views as u64,
        carts: session.carts as u64,
        transactions: session.transactions as u64,
        value: desireline_records::fixed::sum_to_f64(session.value),
        sealed: session.sealed,
    }
}

/// Compares a whole log with what `observed` says, slice by slice.
pub async fn verify(
    reader: &LogReader,
    observed: &mut impl Observed,
    slices: u64,
    differences_max: usize,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let until = observed.begin().await?;
    let mut minutes: BTreeMap<MinuteKey, (i64, f64)> = BTreeMap::new();
    let mut counts: BTreeMap<SourceId, Counters> = BTreeMap::new();
    let mut cells = Cells::new();
    let of = slices.max(1);
    for index in 0..of {
        let slice = Slice { index, of };
        let expected = expected(reader, slice, until).await?;
        let seen = observed.users(slice).await?;
        report.as_of = expected.as_of;
        report.events += expected.events;
        report.users += expected.lines.sessions.len() as u64;
        report.sessions += expected.lines.sessions.values().map(|s| s.len() as u64).sum::<u64>();
        report.compare("sessions", &expected.lines.sessions, &seen.sessions, differences_max);
        report.compare("journey", &expected.lines.journeys, &seen.journeys, differences_max);
        for (key, (count, revenue)) in expected.lines.minutes {
            let cell = minutes.entry(key).or_default();
            cell.0 += count;
            cell.1 += revenue;
        }
        for (key, cell) in expected.lines.cells {
            cells.entry(key).or_default().add(cell);
        }
        for (source, part) in expected.lines.counts {
            counts.entry(source).or_default().add(&part);
        }
        progress(index + 1);
    }
    let seen = observed.totals().await?;
    let (from, to) = observed.minutes_range();
    let within = |key: &MinuteKey| key.1 >= from && key.1 < to;
    minutes.retain(|key, cell| within(key) && *cell != (0, 0.0));
    let seen_minutes: BTreeMap<MinuteKey, (i64, f64)> = seen.minutes.into_iter().filter(|(key, _)| within(key)).collect();
    report.minutes = minutes.len() as u64;
    report.sources = counts.len() as u64;
    compare_minutes(&mut report, &minutes, &seen_minutes, differences_max);
    let mut seen_counts = seen.counts;
    if let Some(Standing { source: Some(source), retained_from: Some(_), .. }) = &seen.standing {
        // The log that is left cannot tell whether a late row repeats a session that is gone.
        for counts in [&mut counts, &mut seen_counts] {
            counts.entry(*source).and_modify(|counts| {
                counts.applied += std::mem::take(&mut counts.duplicate);
            });
        }
    }
    report.compare("counters of source", &counts, &seen_counts, differences_max);
    if let Some(standing) = &seen.standing {
        cells.retain(|key, _| is_comparable(key, standing));
        report.cells = cells.len() as u64;
        report.compare("occupancy", &cells, &seen.cells, differences_max);
    }
    observed.end(until).await?;
    Ok(report)
}

/// Revenue is a sum of floats over slices here, so it is compared to the fourth decimal.
fn compare_minutes(report: &mut Report, expected: &BTreeMap<MinuteKey, (i64, f64)>, seen: &BTreeMap<MinuteKey, (i64, f64)>, most: usize) {
    let rounded = |cells: &BTreeMap<MinuteKey, (i64, f64)>| -> BTreeMap<(SourceId, String, EcoString, EcoString), (i64, i128)> {
        let key = |(source, minute, page, word): &MinuteKey| (*source, format_rfc3339(*minute), page.clone(), word.clone());
        cells.iter().map(|(k, (count, revenue))| (key(k), (*count, (revenue * 1e4).round() as i128))).collect()
    };
    report.compare("minute", &rounded(expected), &rounded(seen), most);
}

/// The observed side.
pub trait Observed {
    /// Gets ready, and says up to which time of the log it will answer.
    fn begin(&mut self) -> impl Future<Output = Result<LogicalTime, VerifyError>> + Send;
    /// Sessions and journeys of the users of a slice.
    fn users(&mut self, slice: Slice) -> impl Future<Output = Result<Lines, VerifyError>> + Send;
    /// Minutes and counters.
    fn totals(&mut self) -> impl Future<Output = Result<Lines, VerifyError>> + Send;
    /// Which minutes `totals` can tell, `[from, to)`.
    fn minutes_range(&self) -> (Micros, Micros);
    /// Whether everything was answered at one state of the data.
    fn end(&mut self, until: LogicalTime) -> impl Future<Output = Result<(), VerifyError>> + Send;
}
