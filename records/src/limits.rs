//! The bounds of one record. Whatever is inside them can never overflow or exhaust a view.

use crate::Micros;

/// 1970-01-01T00:00:00Z, inclusive.
pub const TIME_MIN: Micros = 0;
/// 2200-01-01T00:00:00Z, exclusive.
pub const TIME_MAX: Micros = 7_258_118_400_000_000;
/// The largest magnitude of a value: one trillion, in ten-thousandths.
pub const VALUE_MAX: i64 = 1_000_000_000_000 * 10_000;
/// The largest source number (fits a 32-bit signed integer, as clients' databases have it).
pub const SOURCE_MAX: i64 = i32::MAX as i64;

// Lengths in bytes.
pub const USER: usize = 256;
pub const EVENT_ID: usize = 256;
pub const EVENT_TYPE: usize = 64;
pub const PAGE: usize = 2_048;
pub const ITEM: usize = 256;
pub const CLIENT_ID: usize = 256;
pub const SESSION_ID: usize = 256;
pub const TRANSACTION_ID: usize = 256;
pub const PROPERTIES: usize = 65_536;
pub const DEAD_LETTER_PAYLOAD: usize = 4_096;
