//! Rows in the binary format of `COPY`.
//!
//! Written straight into one buffer: a header, then per row the number of its fields and each field's length and bytes in network
//! order, then a trailer. The caller promises that the fields of a row come in the order and types of the columns that are copied
//! into; the database checks both and refuses the whole copy otherwise.

use bytes::{BufMut, Bytes, BytesMut};

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01 in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Digits of a `numeric` are of this base: exactly the four decimals of a fixed-point value.
const NUMERIC_BASE: u128 = 10_000;

/// Rows to be copied.
pub struct CopyRows {
    bytes: BytesMut,
    rows: u64,
}

impl Default for CopyRows {
    fn default() -> Self {
        let mut bytes = BytesMut::with_capacity(4 << 10);
        bytes.put_slice(HEADER);
        Self { bytes, rows: 0 }
    }
}

impl CopyRows {
    pub fn len(&self) -> u64 {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Begins a row of so many fields; that many follow.
    pub fn row(&mut self, fields: i16) -> &mut Self {
        self.rows += 1;
        self.bytes.put_i16(fields);
        self
    }

    fn field(&mut self, bytes: &[u8]) -> &mut Self {
        // Far above any limit of the log's records.
        let length = i32::try_from(bytes.len()).expect("a field is shorter than 2 GiB");
        self.bytes.put_i32(length);
        self.bytes.put_slice(bytes);
        self
    }

    pub fn null(&mut self) -> &mut Self {
        self.bytes.put_i32(-1);
        self
    }

    pub fn int2(&mut self, value: i16) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub fn int4(&mut self, value: i32) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub fn int8(&mut self, value: i64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub fn int8_or_null(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int8(value),
            None => self.null(),
        }
    }

    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.field(&[u8::from(value)])
    }

    pub fn float8(&mut self, value: f64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// The database refuses text with a NUL character.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.field(value.as_bytes())
    }

    pub fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// JSON as text, for a column of type `jsonb`.
    pub fn jsonb(&mut self, value: &str) -> &mut Self {
        let length = i32::try_from(value.len() + 1).expect("a field is shorter than 2 GiB");
        self.bytes.put_i32(length);
        self.bytes.put_u8(1);
        self.bytes.put_slice(value.as_bytes());
        self
    }

    pub fn uuid(&mut self, value: [u8; 16]) -> &mut Self {
        self.field(&value)
    }

    /// Microseconds since 1970, for `timestamp` and `timestamptz`.
    pub fn timestamp(&mut self, micros: i64) -> &mut Self {
        self.int8(micros.saturating_sub(EPOCH_MICROS))
    }

    /// A `numeric` of four decimals, from ten-thousandths.
    pub fn numeric4(&mut self, units: i128) -> &mut Self {
        let mut digits = [0u16; 10];
        let (mut rest, mut count) = (units.unsigned_abs(), 0);
        while rest > 0 {
            digits[count] = (rest % NUMERIC_BASE) as u16;
            rest /= NUMERIC_BASE;
            count += 1;
        }
        self.bytes.put_i32(8 + 2 * count as i32);
        self.bytes.put_i16(count as i16);
        // The power of the base of the first digit: the last one is the fraction.
        self.bytes.put_i16(count as i16 - 2);
        self.bytes.put_u16(if units < 0 { 0x4000 } else { 0 });
        self.bytes.put_i16(4);
        digits[..count].iter().rev().for_each(|digit| self.bytes.put_u16(*digit));
        self
    }

    pub(super) fn finish(mut self) -> Bytes {
        self.bytes.put_i16(-1);
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_the_format_says() {
        let mut rows = CopyRows::default();
        rows.row(3).int4(7).null().text("ab");
        assert_eq!((rows.len(), rows.is_empty()), (1, false));
        let bytes = rows.finish();
        assert_eq!(&bytes[..HEADER.len()], HEADER);
        let row = [0, 3, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255, 0, 0, 0, 2, b'a', b'b', 255, 255];
        assert_eq!(&bytes[HEADER.len()..], row);
    }

    #[test]
    fn the_largest_sum_fits() {
        let mut rows = CopyRows::default();
        rows.row(2).numeric4(i128::MIN).numeric4(0);
        // 39 decimal digits are 10 digits of the base.
        assert_eq!(rows.finish().len(), HEADER.len() + 2 + 4 + 8 + 20 + 4 + 8 + 2);
    }
}
