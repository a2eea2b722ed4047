//! Reads the file here and sends its rows in batches.

use super::super::client::Client;
use super::super::failure::{Exit, Failure};
use super::super::progress::{self, Unit};
use super::{IngestArgs, Outcome};
use desireline_connectors::csv::{self, CsvError, CsvOptions, CsvReader};
use desireline_connectors::formats::Format;
use desireline_records::time::{format_rfc3339, now_micros};
use desireline_records::validate::{Validator, WifiRules};
use desireline_records::{Event, EventExtra, Fixed4, Micros, Stay};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Events in one request.
const BATCH_ROWS: usize = 5_000;
/// A request is also closed when its body has this many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// Chunks read ahead while a request is under way.
const CHUNKS_AHEAD: usize = 2;

/// How far a load has come: the content of `FILE.ingest-progress`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    /// The file and the target; a note of another load is not followed.
    load: String,
    rows: u64,
}

struct NoteFile {
    path: PathBuf,
    load: String,
}

impl NoteFile {
    fn new(args: &IngestArgs, file: &Path, base: &str) -> Result<Self, Failure> {
        let print = csv::fingerprint(file).map_err(|error| Failure::new(Exit::Failed, "the file cannot be read").detail(error))?;
        let mut path = file.as_os_str().to_owned();
        path.push(".ingest-progress");
        Ok(Self { path: path.into(), load: format!("{print} {} {} {base}", args.source_id, args.format) })
    }

    /// Rows that the server has acknowledged.
    fn read(&self) -> u64 {
        let note = std::fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
        note.filter(|note| note.load == self.load).map_or(0, |note| note.rows)
    }

    /// A folder that cannot be written only costs the resumption.
    fn write(&self, rows: u64) {
        let note = Note { load: self.load.clone(), rows };
        let bytes = serde_json::to_vec(&note).expect("a note has plain fields only");
        if let Err(error) = std::fs::write(&self.path, bytes) {
            tracing::debug!(%error, "the progress of the load is not kept");
        }
    }

    fn remove(&self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Default)]
struct Totals {
    rows: u64,
    inserted: u64,
    duplicates: u64,
    rejected: u64,
    reasons: Vec<String>,
}

/// Reasons that are shown, at most.
const REASONS_MAX: usize = 5;

impl Totals {
    fn reject(&mut self, reason: impl FnOnce() -> String) {
        self.rejected += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason());
        }
    }
}

pub async fn run(args: &IngestArgs, file: &Path, client: &Client) -> Result<Outcome, Failure> {
    let note = NoteFile::new(args, file, client.base())?;
    let options = CsvOptions { chunk_rows: BATCH_ROWS, ..CsvOptions::new(args.source_id, args.format) };
    let path = file.to_owned();
    let resume_at = note.read();
    let opened = tokio::task::spawn_blocking(move || {
        let mut reader = CsvReader::open(&path, options)?;
        reader.skip_rows(resume_at)?;
        Ok::<_, CsvError>(reader)
    });
    let reader = opened.await.map_err(|error| Failure::new(Exit::Failed, "reading stopped").detail(error))??;
    let read = csv::spawn_reader(reader, Arc::new(validator(args)), now_micros, CHUNKS_AHEAD);
    let mut chunks = read.map_err(|error| Failure::new(Exit::Failed, "no thread for reading").detail(error))?;
    let bar = progress::bar(Some(0), Unit::Bytes, "sending");
    let mut totals = Totals { rows: resume_at, ..Totals::default() };
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk?;
        for letter in &chunk.progress.dead_letters {
            totals.reject(|| format!("{}: {} {}", letter.origin, letter.field, letter.detail));
        }
        send(client, &chunk.progress.events, &mut totals).await?;
        totals.rows = chunk.rows;
        note.write(chunk.rows);
        bar.set_length(chunk.bytes_total);
        bar.set_position(chunk.bytes_read);
    }
    bar.finish_and_clear();
    note.remove();
    let resumed = if resume_at > 0 { format!(" ({resume_at} of them by an earlier load)") } else { String::new() };
    let Totals { rows, inserted, duplicates, rejected, reasons } = totals;
    let text = format!("{rows} rows{resumed}: {inserted} new, {duplicates} duplicates, {rejected} rejected");
    Ok(Outcome { text, rejected, reasons })
}

/// What is read here is judged by the server; ids of devices go there as they are.
fn validator(args: &IngestArgs) -> Validator {
    let wifi = WifiRules { source: args.source_id, max_session: Micros::MAX, strict_mac: false, pseudonyms: None };
    Validator { wifi: (args.format == Format::Wifi).then_some(wifi), ..Validator::default() }
}

async fn send(client: &Client, events: &[Event], totals: &mut Totals) -> Result<(), Failure> {
    let mut body = Vec::with_capacity(BATCH_BYTES / 4);
    let path = if events.iter().any(|event| event.stay.is_some()) { "/api/wifi-sessions" } else { "/api/ingest-batch" };
    for (index, event) in events.iter().enumerate() {
        let written = match &event.stay {
            Some(stay) => serde_json::to_writer(&mut body, &SentStay::of(event, stay)),
            None => serde_json::to_writer(&mut body, &Sent::of(event)),
        };
        written.expect("an event has plain fields only");
        body.push(b'\n');
        if body.len() < BATCH_BYTES && index + 1 < events.len() {
            continue;
        }
        let answer = client.post_lines(path, std::mem::take(&mut body).into()).await?;
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        totals.inserted += count("inserted");
        totals.duplicates += count("duplicates");
        for rejection in answer["rejected"].as_array().into_iter().flatten() {
            totals.reject(|| {
                format!("{} {}", rejection["field"].as_str().unwrap_or("row"), rejection["detail"].as_str().unwrap_or_default())
            });
        }
    }
    Ok(())
}

/// An event as `POST /api/ingest` takes it.
#[derive(Serialize)]
struct Sent<'a> {
    source_id: u32,
    event_id: String,
    user_id: &'a str,
    event_type: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    page: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    item_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    session_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    transaction_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Value>,
}

impl<'a> Sent<'a> {
    fn of(event: &'a Event) -> Self {
        static NONE: EventExtra = EventExtra {
            event_id: ecow::EcoString::new(),
            client_id: ecow::EcoString::new(),
            session_id: ecow::EcoString::new(),
            transaction_id: ecow::EcoString::new(),
            properties: ecow::EcoString::new(),
        };
        let extra = event.extra.as_deref().unwrap_or(&NONE);
        // A derived id is the same for the same row of the same file, but a client must not use its prefix.
        let event_id = if extra.event_id.is_empty() { event.id.to_string().replacen('~', "row-", 1) } else { extra.event_id.to_string() };
        Self {
            source_id: event.source,
            event_id,
            user_id: &event.user,
            event_type: &event.event_type,
            timestamp: format_rfc3339(event.time),
            page: &event.page,
            item_id: &event.item,
            client_id: &extra.client_id,
            session_id: &extra.session_id,
            transaction_id: &extra.transaction_id,
            value: (event.value != Fixed4(0)).then(|| event.value.to_string()),
            properties: (!extra.properties.is_empty()).then(|| raw(&extra.properties)).flatten(),
        }
    }
}

/// A WiFi session as `POST /api/wifi-sessions` takes it.
#[derive(Serialize)]
struct SentStay<'a> {
    mac_address: &'a str,
    space_id: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    sensor_id: &'a str,
    start_time: String,
    end_time: Option<String>,
}

impl<'a> SentStay<'a> {
    fn of(event: &'a Event, stay: &Stay) -> Self {
        Self {
            mac_address: &event.user,
            space_id: stay.space,
            sensor_id: &event.item,
            start_time: format_rfc3339(event.time),
            end_time: stay.end.map(format_rfc3339),
        }
    }
}

/// The validator has accepted it, so it is JSON; what is not is left out.
fn raw(properties: &str) -> Option<Value> {
    serde_json::from_str::<&RawValue>(properties).ok().and_then(|raw| serde_json::from_str(raw.get()).ok())
}

impl From<CsvError> for Failure {
    fn from(error: CsvError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}
