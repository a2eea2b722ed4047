//! From cells to events: what a row says and which row it is.

use super::CsvOptions;
use super::columns::{Role, Row};
use super::ordinals::{BLOCK, Ordinals};
use crate::formats::{self, AmpeliosRow, Format, Malformed, Refusal};
use desireline_records::validate::Validator;
use desireline_records::{Event, EventId, Micros, RawEvent, RawStay};
use ecow::{EcoString, eco_format};
use std::ops::Range;

/// The rows since ordinals were last counted, and what is remembered of all rows before them.
#[derive(Default)]
pub(super) struct Block {
    ordinals: Ordinals,
    ids: Vec<EventId>,
    rows: Vec<Pending>,
    /// The normal forms of the rows, one after the other.
    normal: Vec<u8>,
}

/// A row whose ordinal is still to be counted.
struct Pending {
    /// Its normal form.
    normal: Range<usize>,
    /// Which event of the chunk it became, if any.
    event: Option<usize>,
}

impl Block {
    pub fn full(&self) -> bool {
        self.ids.len() >= BLOCK
    }

    /// Remembers a row without reading it any further.
    pub fn skip(&mut self, row: &Row<'_>, format: Format) {
        // A row that cannot be normalised has no ordinal; it became a dead letter when it was read first.
        let _ = self.identify(row, format);
    }

    /// Reads a row. Its identity is that of ordinal 0 until [`Block::count`]; `event` is the index it will have in the chunk.
    pub fn read(
        &mut self,
        row: &Row<'_>,
        options: &CsvOptions,
        validator: &Validator,
        now: Micros,
        event: usize,
    ) -> Result<Event, Refusal> {
        let id = self.identify(row, options.format)?;
        let mut raw = match options.format {
            Format::Ampelios => ampelios_row(row)?.into_raw(id)?,
            Format::Clickstream | Format::Desireline => flat_row(row, id)?,
            Format::Wifi => return Ok(validator.validate_stay(options.source, &wifi_row(row)?, now)?),
        };
        raw.source = i64::from(options.source);
        formats::complete(&mut raw, now);
        // The identity is derived, so no id is ever asked for.
        let read = validator.validate(&raw, now, EcoString::new)?;
        if read.id == id
            && let Some(pending) = self.rows.last_mut()
        {
            pending.event = Some(event);
        }
        Ok(read)
    }

    /// The identity of ordinal 0, the row now being one of the block.
    fn identify(&mut self, row: &Row<'_>, format: Format) -> Result<EventId, Malformed> {
        let start = self.normal.len();
        match (row.normal_line(), format) {
            (Some(line), _) => self.normal.extend_from_slice(line),
            (None, Format::Ampelios) => formats::normalise(&ampelios_row(row)?, &mut self.normal),
            (None, Format::Clickstream | Format::Desireline) => row.normalise(&mut self.normal),
            // The session says itself which one it is.
            (None, Format::Wifi) => {}
        }
        let id = EventId::row(&self.normal[start..], 0);
        self.ids.push(id);
        self.rows.push(Pending { normal: start..self.normal.len(), event: None });
        Ok(id)
    }

    /// Counts the ordinals of the block's rows, corrects the identities of repeated ones among `events`, and begins a new block.
    pub fn count(&mut self, events: &mut [Event]) {
        let ordinals = self.ordinals.count(&self.ids);
        for (row, ordinal) in self.rows.iter().zip(ordinals) {
            if let (Some(event), 1..) = (row.event, ordinal) {
                events[event].id = EventId::row(&self.normal[row.normal.clone()], ordinal);
            }
        }
        self.ids.clear();
        self.rows.clear();
        self.normal.clear();
    }
}

fn ampelios_row<'a>(row: &Row<'a>) -> Result<AmpeliosRow<'a>, Malformed> {
    Ok(AmpeliosRow {
        timestamp: row.cell(Role::Timestamp).into(),
        visitor: row.cell(Role::User).into(),
        event: row.cell(Role::EventType).into(),
        item: row.cell(Role::Item).into(),
        transaction: row.cell(Role::Transaction).into(),
        value: formats::parse_value("value", row.cell(Role::Value))?,
    })
}

fn wifi_row<'a>(row: &Row<'a>) -> Result<RawStay<'a>, Malformed> {
    formats::wifi::from_cells(
        row.cell(Role::User),
        row.cell(Role::Space),
        row.cell(Role::Item),
        [row.cell(Role::Timestamp), row.cell(Role::End)],
    )
}

fn flat_row<'a>(row: &Row<'a>, id: EventId) -> Result<RawEvent<'a>, Malformed> {
    let mut time = formats::parse_time_flexible("timestamp", row.cell(Role::Timestamp))?;
    if time.is_none() {
        time = formats::parse_time_flexible("occurred_at", row.cell(Role::OccurredAt))?;
    }
    if time.is_none() {
        return Err(Malformed::new("timestamp", "is required"));
    }
    let or = |cell: &'a str, other: &'a str| if cell.is_empty() { other } else { cell };
    let mut raw = RawEvent {
        time,
        user: row.cell(Role::User).into(),
        session_id: row.cell(Role::Session).into(),
        client_id: row.cell(Role::Client).into(),
        event_type: or(row.cell(Role::EventType), "pageview").into(),
        page: row.cell(Role::Page).into(),
        item: row.cell(Role::Item).into(),
        transaction_id: row.cell(Role::Transaction).into(),
        event_id: or(row.cell(Role::EventId), row.cell(Role::DocumentId)).into(),
        value: formats::parse_value("value", row.cell(Role::Value))?,
        properties: properties(row.cell(Role::Properties))?.into(),
        derived_id: Some(id),
        ..RawEvent::default()
    };
    formats::from_properties(&mut raw)?;
    Ok(raw)
}

/// A cell, unlike a message, has not been read as JSON yet.
fn properties(cell: &str) -> Result<&str, Malformed> {
    let text = formats::check_properties(cell)?;
    if !text.is_empty()
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text)
    {
        return Err(Malformed::new("properties", eco_format!("is not readable as JSON: {error}")));
    }
    Ok(text)
}
