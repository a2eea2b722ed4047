//! Events and dead letters as Arrow record batches, and back.
//!
//! A column that holds nothing but its default (no page, value 0, not late …) is left out; an absent column reads as the
//! default everywhere. The columns of [`EventExtra`] are null for an event that has none and are present or absent
//! together; so are those of a WiFi session, of which `end` may be null by itself (an open session). Column names and types are part of the storage format: a block with a column that this version does not know
//! is refused, because dropping it would change what a row says.
//!
//! Budget: 150 ns of CPU per event of a file for encoding, and as much for decoding; the test `speed` prints what it takes.

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
    new_null_array,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use desireline_records::{DeadLetter, DeadLetterKind, Event, EventExtra, EventId, Fixed4, Movement, Stay};
use ecow::EcoString;
use std::sync::Arc;

/// Rows of one Arrow block, at most.
pub const BLOCK_ROWS_MAX: usize = 65_536;
/// Text of one Arrow block; a block is closed when it has reached this (offsets are 32 bits wide).
pub const BLOCK_TEXT_BYTES: usize = 32 << 20;

const ID: DataType = DataType::FixedSizeBinary(16);
/// Every column an events block may have, in this order. Nullable are those of the rare fields.
const EVENT_COLUMNS: [(&str, DataType, bool); 18] = [
    ("source", DataType::UInt32, false),
    ("movement", DataType::UInt8, false),
    ("late", DataType::Boolean, false),
    ("time", DataType::Int64, false),
    ("id", ID, false),
    ("value", DataType::Int64, false),
    ("user", DataType::Utf8, false),
    ("event_type", DataType::Utf8, false),
    ("page", DataType::Utf8, false),
    ("item", DataType::Utf8, false),
    ("event_id", DataType::Utf8, true),
    ("client_id", DataType::Utf8, true),
    ("session_id", DataType::Utf8, true),
    ("transaction_id", DataType::Utf8, true),
    ("properties", DataType::Utf8, true),
    ("space", DataType::Int32, true),
    ("end", DataType::Int64, true),
    ("randomized", DataType::Boolean, true),
];
/// Where the columns of rare fields begin, and those of WiFi sessions.
const EXTRA: usize = 10;
const STAY: usize = 15;
const LETTER_COLUMNS: [(&str, DataType, bool); 9] = [
    ("source", DataType::UInt32, false),
    ("kind", DataType::UInt8, false),
    ("at", DataType::Int64, false),
    ("user", DataType::Utf8, false),
    ("field", DataType::Utf8, false),
    ("detail", DataType::Utf8, false),
    ("origin", DataType::Utf8, false),
    ("format", DataType::Utf8, false),
    ("payload", DataType::Utf8, false),
];

/// How many of the leading rows fit into one block.
pub fn block_len<T>(rows: &[T], text_len: impl Fn(&T) -> usize) -> usize {
    let mut text = 0;
    for (count, row) in rows.iter().enumerate() {
        if count == BLOCK_ROWS_MAX || text >= BLOCK_TEXT_BYTES {
            return count;
        }
        text += text_len(row);
    }
    rows.len()
}

pub fn event_text_len(event: &Event) -> usize {
    let extra = event
        .extra
        .as_deref()
        .map_or(0, |x| x.event_id.len() + x.client_id.len() + x.session_id.len() + x.transaction_id.len() + x.properties.len());
    event.user.len() + event.event_type.len() + event.page.len() + event.item.len() + extra
}

pub fn letter_text_len(letter: &DeadLetter) -> usize {
    letter.user.len() + letter.field.len() + letter.detail.len() + letter.origin.len() + letter.format.len() + letter.payload.len()
}

fn text_column<T>(rows: &[T], text: impl Fn(&T) -> &str) -> Option<ArrayRef> {
    let bytes: usize = rows.iter().map(|row| text(row).len()).sum();
    if bytes == 0 {
        return None;
    }
    let mut builder = StringBuilder::with_capacity(rows.len(), bytes);
    rows.iter().for_each(|row| builder.append_value(text(row)));
    Some(Arc::new(builder.finish()))
}

fn extra_column(events: &[Event], text: impl Fn(&EventExtra) -> &str) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(events.len(), 0);
    events.iter().for_each(|event| builder.append_option(event.extra.as_deref().map(&text)));
    Arc::new(builder.finish())
}

fn assemble(columns: Vec<(&'static str, Option<ArrayRef>)>) -> Result<RecordBatch, ArrowError> {
    let present = columns.into_iter().filter_map(|(name, array)| array.map(|array| (name, array)));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = present
        .map(|(name, array)| {
            let nullable = EVENT_COLUMNS[EXTRA..].iter().any(|(known, ..)| *known == name);
            (Field::new(name, array.data_type().clone(), nullable), array)
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// The events of one block; at most [`block_len`] of them.
pub fn events_to_batch(events: &[Event]) -> Result<RecordBatch, ArrowError> {
    let mut ids = Vec::with_capacity(events.len() * 16);
    let mut late = BooleanBufferBuilder::new(0);
    if events.iter().any(|event| event.late) {
        events.iter().for_each(|event| late.append(event.late));
    }
    for event in events {
        ids.extend_from_slice(&event.id.to_bytes());
    }
    let movement = events.iter().any(|e| e.movement != Movement::None);
    let value = events.iter().any(|e| e.value != Fixed4(0));
    let extra = events.iter().any(|e| e.extra.is_some());
    let stays = events.iter().any(|e| e.stay.is_some());
    let stay = || events.iter().map(|e| e.stay);
    let number = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
    let rare = |text: fn(&EventExtra) -> &str| extra.then(|| extra_column(events, text));
    assemble(vec![
        ("source", Some(Arc::new(UInt32Array::from_iter_values(events.iter().map(|e| e.source))))),
        ("movement", movement.then(|| Arc::new(UInt8Array::from_iter_values(events.iter().map(|e| e.movement as u8))) as _)),
        ("late", (!late.is_empty()).then(|| Arc::new(BooleanArray::new(late.finish(), None)) as _)),
        ("time", Some(number(events.iter().map(|e| e.time).collect()))),
        ("id", Some(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(ids), None)?))),
        ("value", value.then(|| number(events.iter().map(|e| e.value.0).collect()))),
        ("user", text_column(events, |e| &e.user)),
        ("event_type", text_column(events, |e| &e.event_type)),
        ("page", text_column(events, |e| &e.page)),
        ("item", text_column(events, |e| &e.item)),
        ("event_id", rare(|x| &x.event_id)),
        ("client_id", rare(|x| &x.client_id)),
        ("session_id", rare(|x| &x.session_id)),
        ("transaction_id", rare(|x| &x.transaction_id)),
        ("properties", rare(|x| &x.properties)),
        ("space", stays.then(|| Arc::new(Int32Array::from_iter(stay().map(|stay| stay.map(|s| s.space)))) as _)),
        ("end", stays.then(|| Arc::new(Int64Array::from_iter(stay().map(|stay| stay.and_then(|s| s.end)))) as _)),
        ("randomized", stays.then(|| Arc::new(BooleanArray::from_iter(stay().map(|stay| stay.map(|s| s.randomized)))) as _)),
    ])
}

pub fn letters_to_batch(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    assemble(vec![
        ("source", Some(Arc::new(UInt32Array::from_iter_values(letters.iter().map(|l| l.source))))),
        ("kind", Some(Arc::new(UInt8Array::from_iter_values(letters.iter().map(|l| l.kind as u8))))),
        ("at", Some(Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.at))))),
        ("user", text_column(letters, |l| &l.user)),
        ("field", text_column(letters, |l| &l.field)),
        ("detail", text_column(letters, |l| &l.detail)),
        ("origin", text_column(letters, |l| &l.origin)),
        ("format", text_column(letters, |l| &l.format)),
        ("payload", text_column(letters, |l| &l.payload)),
    ])
}

/// One block as an Arrow IPC stream.
pub fn batch_to_bytes(batch: &RecordBatch, compress: bool) -> Result<Vec<u8>, ArrowError> {
    let compression = compress.then_some(CompressionType::ZSTD);
    let options = IpcWriteOptions::try_new(8, false, arrow_ipc::MetadataVersion::V5)?.try_with_compression(compression)?;
    let mut bytes = Vec::with_capacity(1_024 + if compress { 0 } else { batch.get_array_memory_size() });
    let mut writer = StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options)?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// Reads one block; its checksum has been verified before.
pub fn batch_from_bytes(bytes: bytes::Bytes) -> Result<RecordBatch, String> {
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut found = None;
    while !buffer.is_empty() {
        if let Some(batch) = decoder.decode(&mut buffer).map_err(|error| error.to_string())?
            && found.replace(batch).is_some()
        {
            return Err("more than one record batch".to_owned());
        }
    }
    decoder.finish().map_err(|error| error.to_string())?;
    found.ok_or_else(|| "no record batch".to_owned())
}

/// Checks names, types and nulls; answers the known columns in their order, absent ones as `None`.
fn columns<const N: usize>(batch: &RecordBatch, known: &[(&str, DataType, bool); N]) -> Result<[Option<ArrayRef>; N], String> {
    let mut found = [const { None }; N];
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(index) = known.iter().position(|(name, ..)| name == field.name()) else {
            return Err(format!("unknown column `{}`", field.name()));
        };
        if *field.data_type() != known[index].1 {
            return Err(format!("column `{}` is of type {}", field.name(), field.data_type()));
        }
        if !known[index].2 && array.null_count() > 0 {
            return Err(format!("column `{}` has nulls", field.name()));
        }
        found[index] = Some(array.clone());
    }
    Ok(found)
}

fn need(column: &Option<ArrayRef>, name: &str) -> Result<ArrayRef, String> {
    column.clone().ok_or_else(|| format!("no column `{name}`"))
}

/// Text that is empty where the column is absent.
#[derive(Debug)]
pub struct TextColumn(Option<StringArray>);

impl TextColumn {
    fn of(column: &Option<ArrayRef>) -> Self {
        Self(column.as_ref().map(|array| array.as_string::<i32>().clone()))
    }

    #[inline]
    pub fn get(&self, row: usize) -> &str {
        match &self.0 {
            Some(array) => array.value(row),
            None => "",
        }
    }

    fn own(&self, row: usize) -> EcoString {
        EcoString::from(self.get(row))
    }

    fn has(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|array| array.is_valid(row))
    }
}

/// A typed view of an events block: rows are made only when asked for.
#[derive(Debug)]
pub struct EventColumns {
    len: usize,
    source: UInt32Array,
    movement: Option<UInt8Array>,
    late: Option<BooleanArray>,
    time: Int64Array,
    id: FixedSizeBinaryArray,
    value: Option<Int64Array>,
    pub user: TextColumn,
    event_type: TextColumn,
    page: TextColumn,
    item: TextColumn,
    extra: [TextColumn; 5],
    stay: Option<StayColumns>,
}

/// The columns of WiFi sessions.
#[derive(Debug)]
struct StayColumns {
    space: Int32Array,
    end: Int64Array,
    randomized: BooleanArray,
}

impl StayColumns {
    fn stay(&self, row: usize) -> Option<Stay> {
        self.space.is_valid(row).then(|| Stay {
            space: self.space.value(row),
            end: self.end.is_valid(row).then(|| self.end.value(row)),
            randomized: self.randomized.value(row),
        })
    }
}

impl EventColumns {
    pub fn of(batch: &RecordBatch) -> Result<Self, String> {
        let found = columns(batch, &EVENT_COLUMNS)?;
        let movement = found[1].as_ref().map(|array| array.as_primitive::<UInt8Type>().clone());
        if let Some(code) = movement.iter().flat_map(|array| array.values()).find(|code| Movement::from_code(**code).is_none()) {
            return Err(format!("unknown movement {code}"));
        }
        for together in [EXTRA..STAY, STAY..found.len()] {
            if found[together.clone()].iter().any(|column| column.is_some() != found[together.start].is_some()) {
                return Err("the rare columns are not complete".to_owned());
            }
        }
        let stay = match &found[STAY..] {
            [Some(space), Some(end), Some(randomized)] => Some(StayColumns {
                space: space.as_primitive::<Int32Type>().clone(),
                end: end.as_primitive::<Int64Type>().clone(),
                randomized: randomized.as_boolean().clone(),
            }),
            _ => None,
        };
        Ok(Self {
            len: batch.num_rows(),
            source: need(&found[0], "source")?.as_primitive::<UInt32Type>().clone(),
            movement,
            late: found[2].as_ref().map(|array| array.as_boolean().clone()),
            time: need(&found[3], "time")?.as_primitive::<Int64Type>().clone(),
            id: need(&found[4], "id")?.as_fixed_size_binary().clone(),
            value: found[5].as_ref().map(|array| array.as_primitive::<Int64Type>().clone()),
            user: TextColumn::of(&found[6]),
            event_type: TextColumn::of(&found[7]),
            page: TextColumn::of(&found[8]),
            item: TextColumn::of(&found[9]),
            extra: [10, 11, 12, 13, 14].map(|index| TextColumn::of(&found[index])),
            stay,
        })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn source(&self, row: usize) -> u32 {
        self.source.value(row)
    }

    pub fn time(&self, row: usize) -> i64 {
        self.time.value(row)
    }

    #[inline]
    pub fn late(&self, row: usize) -> bool {
        self.late.as_ref().is_some_and(|late| late.value(row))
    }

    pub fn late_count(&self) -> usize {
        self.late.as_ref().map_or(0, BooleanArray::true_count)
    }

    #[inline]
    pub fn event(&self, row: usize) -> Event {
        let mut id = [0; 16];
        id.copy_from_slice(self.id.value(row));
        let code = self.movement.as_ref().map_or(0, |movement| movement.value(row));
        let [event_id, client_id, session_id, transaction_id, properties] = &self.extra;
        Event {
            source: self.source.value(row),
            movement: Movement::from_code(code).unwrap_or_default(),
            late: self.late(row),
            time: self.time.value(row),
            id: EventId::from_bytes(id),
            value: Fixed4(self.value.as_ref().map_or(0, |value| value.value(row))),
            user: self.user.own(row),
            event_type: self.event_type.own(row),
            page: self.page.own(row),
            item: self.item.own(row),
            extra: event_id.has(row).then(|| {
                Box::new(EventExtra {
                    event_id: event_id.own(row),
                    client_id: client_id.own(row),
                    session_id: session_id.own(row),
                    transaction_id: transaction_id.own(row),
                    properties: properties.own(row),
                })
            }),
            stay: self.stay.as_ref().and_then(|columns| columns.stay(row)),
        }
    }
}

/// A typed view of a dead letters block.
#[derive(Debug)]
pub struct LetterColumns {
    len: usize,
    source: UInt32Array,
    kind: UInt8Array,
    at: Int64Array,
    pub user: TextColumn,
    text: [TextColumn; 5],
}

impl LetterColumns {
    pub fn of(batch: &RecordBatch) -> Result<Self, String> {
        let found = columns(batch, &LETTER_COLUMNS)?;
        let kind = need(&found[1], "kind")?.as_primitive::<UInt8Type>().clone();
        if let Some(code) = kind.values().iter().find(|code| DeadLetterKind::from_code(**code).is_none()) {
            return Err(format!("unknown kind {code}"));
        }
        Ok(Self {
            len: batch.num_rows(),
            source: need(&found[0], "source")?.as_primitive::<UInt32Type>().clone(),
            kind,
            at: need(&found[2], "at")?.as_primitive::<Int64Type>().clone(),
            user: TextColumn::of(&found[3]),
            text: [4, 5, 6, 7, 8].map(|index| TextColumn::of(&found[index])),
        })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn source(&self, row: usize) -> u32 {
        self.source.value(row)
    }

    pub fn kind(&self, row: usize) -> DeadLetterKind {
        DeadLetterKind::from_code(self.kind.value(row)).expect("codes were checked when the block was opened")
    }

    pub fn letter(&self, row: usize) -> DeadLetter {
        let [field, detail, origin, format, payload] = &self.text;
        DeadLetter {
            source: self.source(row),
            kind: self.kind(row),
            at: self.at.value(row),
            user: self.user.own(row),
            field: field.own(row),
            detail: detail.own(row),
            origin: origin.own(row),
            format: format.own(row),
            payload: payload.own(row),
        }
    }
}

/// Several blocks of the same kind as one, absent columns filled with their defaults where another block has them.
pub fn concat(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    if let [one] = batches {
        return Ok(one.clone());
    }
    let letters = batches.iter().any(|batch| batch.column_by_name("kind").is_some());
    let known: &[(&str, DataType, bool)] = if letters { &LETTER_COLUMNS } else { &EVENT_COLUMNS };
    let mut united = Vec::new();
    for (name, data_type, nullable) in known {
        if batches.iter().all(|batch| batch.column_by_name(name).is_none()) {
            continue;
        }
        let parts: Vec<ArrayRef> = batches
            .iter()
            .map(|batch| batch.column_by_name(name).cloned().unwrap_or_else(|| default_array(data_type, *nullable, batch.num_rows())))
            .collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        united.push((*name, Some(arrow_select::concat::concat(&parts)?)));
    }
    assemble(united)
}

fn default_array(data_type: &DataType, nullable: bool, rows: usize) -> ArrayRef {
    match data_type {
        _ if nullable => new_null_array(data_type, rows),
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", rows))),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::UInt8 => Arc::new(UInt8Array::from_value(0, rows)),
        DataType::UInt32 => Arc::new(UInt32Array::from_value(0, rows)),
        _ => Arc::new(Int64Array::from_value(0, rows)),
    }
}
