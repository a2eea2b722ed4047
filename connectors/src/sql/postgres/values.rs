//! Values in PostgreSQL's binary form.

use super::super::SqlError;
use super::super::columns::{Column, Target};
use std::error::Error;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio_postgres::types::{FromSql, Kind, Type};

/// Days and microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;
const MONTH_SECONDS: f64 = 30.0 * 86_400.0;
const YEAR_SECONDS: f64 = 365.25 * 86_400.0;

/// The bytes of a value, whatever it is.
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How the values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Jsonb,
    Uuid,
    Mac,
    Inet,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampUtc,
    Interval,
}

impl Decoder {
    pub fn of(column: &str, found: &Type) -> Result<Self, SqlError> {
        let by_type = [
            (Type::BOOL, Self::Bool),
            (Type::INT2, Self::Int2),
            (Type::INT4, Self::Int4),
            (Type::INT8, Self::Int8),
            (Type::OID, Self::Oid),
            (Type::FLOAT4, Self::Float4),
            (Type::FLOAT8, Self::Float8),
            (Type::NUMERIC, Self::Numeric),
            (Type::TEXT, Self::Text),
            (Type::VARCHAR, Self::Text),
            (Type::BPCHAR, Self::Text),
            (Type::NAME, Self::Text),
            (Type::CHAR, Self::Text),
            (Type::UNKNOWN, Self::Text),
            (Type::VOID, Self::Text),
            (Type::JSON, Self::Text),
            (Type::XML, Self::Text),
            (Type::JSONB, Self::Jsonb),
            (Type::UUID, Self::Uuid),
            (Type::MACADDR, Self::Mac),
            (Type::MACADDR8, Self::Mac),
            (Type::INET, Self::Inet),
            (Type::CIDR, Self::Inet),
            (Type::BYTEA, Self::Bytes),
            (Type::DATE, Self::Date),
            (Type::TIME, Self::Time),
            (Type::TIMESTAMP, Self::Timestamp),
            (Type::TIMESTAMPTZ, Self::TimestampUtc),
            (Type::INTERVAL, Self::Interval),
        ];
        if let Some((_, decoder)) = by_type.iter().find(|(known, _)| known == found) {
            return Ok(*decoder);
        }
        match found.kind() {
            Kind::Enum(_) => Ok(Self::Text),
            Kind::Domain(inner) => Self::of(column, inner),
            // Of an extension: its binary form is its text.
            Kind::Simple if found.name() == "citext" => Ok(Self::Text),
            _ => Err(SqlError::Unsupported { column: column.to_owned(), type_name: found.name().to_owned() }),
        }
    }

    pub fn target(self) -> Target {
        match self {
            Self::Bool => Target::Bool,
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid => Target::Int,
            Self::Float4 | Self::Float8 | Self::Numeric | Self::Interval => Target::Float,
            Self::Text | Self::Jsonb | Self::Uuid | Self::Mac | Self::Inet => Target::Text,
            Self::Bytes => Target::Bytes,
            Self::Date => Target::Date,
            Self::Time => Target::Time,
            Self::Timestamp => Target::Timestamp,
            Self::TimestampUtc => Target::TimestampUtc,
        }
    }

    /// Adds a value to its column; nothing, where the bytes are not of the type.
    pub fn push(self, value: &[u8], column: &mut Column) -> Option<()> {
        match self {
            Self::Bool => column.push_int(i64::from(*value.first()? != 0)),
            Self::Int2 => column.push_int(i16::from_be_bytes(value.try_into().ok()?).into()),
            Self::Int4 => column.push_int(i32::from_be_bytes(value.try_into().ok()?).into()),
            Self::Int8 | Self::Time => column.push_int(i64::from_be_bytes(value.try_into().ok()?)),
            Self::Oid => column.push_int(u32::from_be_bytes(value.try_into().ok()?).into()),
            Self::Float4 => column.push_float(shortest(f32::from_be_bytes(value.try_into().ok()?))),
            Self::Float8 => column.push_float(f64::from_be_bytes(value.try_into().ok()?)),
            Self::Numeric => column.push_float(numeric(value)?),
            Self::Text => column.push_text(std::str::from_utf8(value).ok()?),
            Self::Jsonb => column.push_text(std::str::from_utf8(value.get(1..)?).ok()?),
            Self::Uuid => column.push_text(&uuid(value.try_into().ok()?)),
            Self::Mac => column.push_text(&value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")),
            Self::Inet => column.push_text(&inet(value)?),
            Self::Bytes => column.push_bytes(value),
            Self::Date => match i32::from_be_bytes(value.try_into().ok()?) {
                i32::MAX | i32::MIN => column.push_null(),
                days => column.push_int(i64::from(days) + EPOCH_DAYS),
            },
            Self::Timestamp | Self::TimestampUtc => match i64::from_be_bytes(value.try_into().ok()?) {
                i64::MAX | i64::MIN => column.push_null(),
                micros => column.push_int(micros.checked_add(EPOCH_MICROS)?),
            },
            Self::Interval => column.push_float(interval(value)?),
        }
        Some(())
    }
}

/// The float of 64 bits that reads like one of 32.
fn shortest(value: f32) -> f64 {
    if value.is_finite() { value.to_string().parse().unwrap_or(f64::from(value)) } else { f64::from(value) }
}

fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a text takes what is written to it");
    }
    text
}

/// Family, bits, whether it is a network, length, address.
fn inet(bytes: &[u8]) -> Option<String> {
    let [family, bits, is_network, _length, address @ ..] = bytes else { return None };
    let (text, all) = match *family {
        2 => (Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(), 32),
        _ => (Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(), 128),
    };
    Some(if *bits == all && *is_network == 0 { text } else { format!("{text}/{bits}") })
}

/// Seconds, as `EXTRACT(EPOCH FROM …)` counts them.
#[expect(clippy::cast_precision_loss, reason = "an interval is seconds with a fraction")]
fn interval(bytes: &[u8]) -> Option<f64> {
    let micros = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
    let calendar = f64::from(months / 12) * YEAR_SECONDS + f64::from(months % 12) * MONTH_SECONDS + f64::from(days) * 86_400.0;
    Some(calendar + micros as f64 / 1e6)
}

/// Digits to the base of 10,000, the place of the first, the sign; the float that is nearest.
#[expect(clippy::cast_precision_loss, reason = "numbers of 15 digits are exact, and others become the float that is nearest")]
fn numeric(bytes: &[u8]) -> Option<f64> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(2 * at..2 * at + 2)?.try_into().ok()?));
    let count = usize::from(word(0)?);
    let weight = i32::from(i16::from_be_bytes(word(1)?.to_be_bytes()));
    let is_negative = match word(2)? {
        0x0000 => false,
        0x4000 => true,
        0xd000 => return Some(f64::INFINITY),
        0xf000 => return Some(f64::NEG_INFINITY),
        _ => return Some(f64::NAN),
    };
    let digits = || (0..count).map(|at| word(4 + at));
    let exponent = 4 * (weight + 1 - i32::try_from(count).ok()?);
    let mut value = None;
    if count <= 4 && (-22..=22).contains(&exponent) {
        let whole = digits().try_fold(0_u64, |sum, digit| Some(sum * 10_000 + u64::from(digit?)))?;
        if whole < 1 << 53 {
            let power = 10_f64.powi(exponent.abs());
            value = Some(if exponent < 0 { whole as f64 / power } else { whole as f64 * power });
        }
    }
    let value = match value {
        Some(value) => value,
        None => {
            let mut text = String::with_capacity(4 * count + 8);
            for digit in digits() {
                write!(text, "{:04}", digit?).ok()?;
            }
            write!(text, "e{exponent}").ok()?;
            text.parse().ok()?
        }
    };
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the database writes a number: from its decimal text.
    fn encoded(text: &str) -> Vec<u8> {
        let (sign, text) = text.strip_prefix('-').map_or((0_u16, text), |text| (0x4000, text));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
        let all = whole.clone() + &fraction;
        let mut digits: Vec<u16> = all.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap().parse().unwrap()).collect();
        let mut weight = i16::try_from(whole.len() / 4).unwrap() - 1;
        while digits.first() == Some(&0) {
            digits.remove(0);
            weight -= 1;
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, 0];
        head.iter().chain(&digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_become_the_float_that_is_nearest() {
        for text in [
            "0",
            "1",
            "-1",
            "10000",
            "0.0001",
            "0.1",
            "-0.3",
            "123456.789",
            "9007199254740993",
            "0.33333333333333333333",
            "12345678901234567890123456789.5",
            "0.00000000000000000000000000012345",
            "99999999999999999999",
            "1234567890123.4567",
        ] {
            assert_eq!(numeric(&encoded(text)), Some(text.parse::<f64>().unwrap()), "{text}");
        }
        assert!(numeric(&[0, 0, 0, 0, 0xc0, 0, 0, 0]).unwrap().is_nan());
        assert_eq!(numeric(&[0, 0, 0, 0, 0xf0, 0, 0, 0]), Some(f64::NEG_INFINITY));
        assert_eq!(numeric(&[0, 9, 0]), None);
        assert_eq!(numeric(&[0, 1, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn an_interval_is_seconds() {
        let bytes: Vec<u8> = [1_500_000_i64.to_be_bytes().to_vec(), 2_i32.to_be_bytes().to_vec(), 13_i32.to_be_bytes().to_vec()].concat();
        assert_eq!(interval(&bytes), Some(1.5 + 2.0 * 86_400.0 + 365.25 * 86_400.0 + 30.0 * 86_400.0));
    }

    #[test]
    fn addresses_are_text() {
        assert_eq!(inet(&[2, 32, 0, 4, 10, 0, 0, 1]).as_deref(), Some("10.0.0.1"));
        assert_eq!(inet(&[2, 8, 1, 4, 10, 0, 0, 0]).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(uuid([0xab; 16]), "abababab-abab-abab-abab-abababababab");
        assert_eq!(shortest(0.1), 0.1);
    }
}
