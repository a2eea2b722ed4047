//! Which column means what: the header read once, then every record seen through it.

use super::records::{RECORD_BYTES_MAX, Record, Records, Shape};
use crate::formats::{Format, Malformed, push_field};
use ecow::eco_format;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Columns in a file, at most.
pub(super) const COLUMNS_MAX: usize = 256;

/// What a column can mean. The order, up to [`NORMAL_ROLES`], is that of the normal form of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Role {
    Timestamp,
    User,
    EventType,
    Item,
    Transaction,
    Value,
    Session,
    Client,
    Page,
    Properties,
    EventId,
    DocumentId,
    OccurredAt,
    Space,
    End,
}

const ROLES: usize = 15;
/// What identities are made of. Never change it: a file would count again.
const NORMAL_ROLES: usize = Role::Space as usize;

type Names = &'static [(&'static str, Role)];

const AMPELIOS: Names = &[
    ("timestamp", Role::Timestamp),
    ("visitorid", Role::User),
    ("event", Role::EventType),
    ("itemid", Role::Item),
    ("transactionid", Role::Transaction),
    ("value", Role::Value),
];

const FLAT: Names = &[
    ("timestamp", Role::Timestamp),
    ("user_id", Role::User),
    ("event_type", Role::EventType),
    ("item_id", Role::Item),
    ("transaction_id", Role::Transaction),
    ("value", Role::Value),
    ("session_id", Role::Session),
    ("client_id", Role::Client),
    ("page", Role::Page),
    ("properties", Role::Properties),
    ("event_id", Role::EventId),
    ("_id", Role::DocumentId),
    ("occurred_at", Role::OccurredAt),
];

const WIFI: Names = &[
    ("mac_address", Role::User),
    ("space_id", Role::Space),
    ("sensor_id", Role::Item),
    ("start_time", Role::Timestamp),
    ("end_time", Role::End),
];

fn names(format: Format) -> Names {
    match format {
        Format::Wifi => WIFI,
        Format::Ampelios => AMPELIOS,
        Format::Clickstream | Format::Desireline => FLAT,
    }
}

/// Sets of columns of which each file must have at least one.
fn required(format: Format) -> &'static [&'static [Role]] {
    match format {
        Format::Wifi => &[&[Role::User], &[Role::Space], &[Role::Timestamp]],
        Format::Ampelios => &[&[Role::Timestamp], &[Role::User], &[Role::EventType]],
        Format::Clickstream | Format::Desireline => &[&[Role::Timestamp, Role::OccurredAt], &[Role::User, Role::Session, Role::Client]],
    }
}

#[derive(Debug)]
pub(super) struct Columns {
    /// By column of the file, up to the last one that means something.
    roles: Vec<Option<Role>>,
    /// The file has exactly the five columns of the shop format in their order: a tidy line is its own normal form.
    canonical: bool,
}

impl Columns {
    /// Reads the header; the inner error says what is wrong with it.
    pub fn read<R: Read>(records: &mut Records<R>, format: Format, renames: &BTreeMap<String, String>) -> io::Result<Result<Self, String>> {
        records.skip_bom()?;
        let Some(record) = records.advance()? else {
            return Ok(Err("the file is empty; its first line must name the columns".into()));
        };
        Ok(Self::from_header(&record, format, renames))
    }

    fn from_header(record: &Record<'_>, format: Format, renames: &BTreeMap<String, String>) -> Result<Self, String> {
        let fields = record.fields();
        if fields.is_empty() || fields.len() > COLUMNS_MAX {
            return Err(format!("the first line is no header of at most {COLUMNS_MAX} columns and {RECORD_BYTES_MAX} bytes"));
        }
        let known = names(format);
        let mut roles = Vec::with_capacity(fields.len());
        for field in fields {
            let name = String::from_utf8_lossy(field);
            let name = renames.get(name.trim()).map_or(name.trim(), String::as_str);
            let role = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, role)| *role);
            if role.is_some() && roles.contains(&role) {
                return Err(format!("the header names the column `{name}` twice"));
            }
            roles.push(role);
        }
        let name_of = |role: &Role| known.iter().find(|(_, r)| r == role).map_or("", |(name, _)| name);
        let missing: Vec<String> = required(format)
            .iter()
            .filter(|any| !any.iter().any(|role| roles.contains(&Some(*role))))
            .map(|any| any.iter().map(name_of).collect::<Vec<_>>().join(" or "))
            .collect();
        if !missing.is_empty() {
            let all: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "the first line must name the columns; missing: {} (the format {format} knows {})",
                missing.join(", "),
                all.join(", ")
            ));
        }
        let five = [Role::Timestamp, Role::User, Role::EventType, Role::Item, Role::Transaction];
        let canonical = format == Format::Ampelios && roles.iter().copied().eq(five.into_iter().map(Some));
        let used = roles.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        roles.truncate(used);
        Ok(Self { roles, canonical })
    }

    /// The cells of a record by their meaning.
    pub fn row<'a>(&self, record: &Record<'a>) -> Result<Row<'a>, Malformed> {
        let mut row = Row { cells: [""; ROLES], normal: None };
        match record.shape {
            Shape::Plain => {
                let line = utf8(record.bytes)?;
                self.plain(line, &mut row);
            }
            Shape::Quoted { text, ends } => {
                let text = utf8(text)?;
                let mut from = 0;
                for (role, to) in self.roles.iter().zip(ends) {
                    // Fields are whole characters, unless the text was cut inside one, which UTF-8 rules out.
                    let cell = text.get(from..*to).ok_or_else(|| Malformed::new("", "the row is not UTF-8"))?;
                    if let Some(role) = role {
                        row.cells[*role as usize] = cell.trim();
                    }
                    from = *to;
                }
            }
            Shape::TooLong => return Err(Malformed::new("", eco_format!("the row is longer than {RECORD_BYTES_MAX} bytes"))),
            Shape::Unclosed => {
                return Err(Malformed::new("", eco_format!("a quote is not closed within {RECORD_BYTES_MAX} bytes")));
            }
            Shape::TooWide => return Err(Malformed::new("", eco_format!("the row has more than {COLUMNS_MAX} fields"))),
        }
        Ok(row)
    }

    fn plain<'a>(&self, line: &'a str, row: &mut Row<'a>) {
        let mut from = 0;
        let mut kept = 0;
        let mut commas = memchr::memchr_iter(b',', line.as_bytes());
        for role in &self.roles {
            let comma = commas.next();
            let cell = line[from..comma.unwrap_or(line.len())].trim();
            kept += cell.len();
            if let Some(role) = role {
                row.cells[*role as usize] = cell;
            }
            match comma {
                Some(at) => from = at + 1,
                None => break,
            }
        }
        // All five fields, nothing trimmed away, nothing behind them.
        if self.canonical && kept + 4 == line.len() && commas.next().is_none() {
            row.normal = Some(line);
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| Malformed::new("", eco_format!("the row is not UTF-8 from byte {} on", error.valid_up_to())))
}

/// A record seen through the header; cells are trimmed, absent ones empty.
#[derive(Debug)]
pub(super) struct Row<'a> {
    cells: [&'a str; ROLES],
    normal: Option<&'a str>,
}

impl<'a> Row<'a> {
    pub fn cell(&self, role: Role) -> &'a str {
        self.cells[role as usize]
    }

    /// The line, when it is its own normal form.
    pub fn normal_line(&self) -> Option<&'a [u8]> {
        self.normal.map(str::as_bytes)
    }

    /// The normal form of a row that is not of the shop format: its cells, in the order of [`Role`].
    pub fn normalise(&self, out: &mut Vec<u8>) {
        for (index, cell) in self.cells[..NORMAL_ROLES].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_field(cell, out);
        }
    }

    /// The row as a message of its format, by which a dead letter can be read again.
    pub fn to_json(&self, format: Format) -> String {
        let mut out = String::from("{");
        for (name, role) in names(format) {
            let cell = self.cell(*role);
            if cell.is_empty() {
                continue;
            }
            if out.len() > 1 {
                out.push(',');
            }
            let value = serde_json::Value::from(cell);
            let inline = *role == Role::Properties && serde_json::from_str::<serde::de::IgnoredAny>(cell).is_ok();
            match inline {
                true => out.push_str(&format!("\"{name}\":{cell}")),
                false => out.push_str(&format!("\"{name}\":{value}")),
            }
        }
        out.push('}');
        out
    }
}
