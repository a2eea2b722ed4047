//! Fixed-point values with four decimals: summed as integers, so that order never changes an answer.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A value in units of one ten-thousandth: `12.5` is `Fixed4(125_000)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fixed4(pub i64);

const SCALE: i64 = 10_000;

impl Fixed4 {
    /// The nearest fixed-point value; `None` for NaN, infinities and what does not fit.
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * SCALE as f64).round();
        (scaled.is_finite() && scaled.abs() < 9.0e18).then_some(Self(scaled as i64))
    }

    /// For rendering and learning only; sums are kept as integers.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / SCALE as f64
    }
}

/// A sum of many values renders like one value.
pub fn sum_to_f64(sum: i128) -> f64 {
    sum as f64 / SCALE as f64
}

impl fmt::Display for Fixed4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:04}", magnitude / SCALE as u64, magnitude % SCALE as u64)
    }
}

/// Decimal digits with an optional sign and fraction; more than four decimals are rounded half away from zero.
impl FromStr for Fixed4 {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(());
        }
        if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Self::from_f64(text.parse::<f64>().map_err(drop)?).ok_or(());
        }
        let mut magnitude: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(drop)? };
        let mut digits = fraction.bytes();
        for _ in 0..4 {
            let digit = digits.next().map_or(0, |b| i64::from(b - b'0'));
            magnitude = magnitude.checked_mul(10).and_then(|m| m.checked_add(digit)).ok_or(())?;
        }
        if digits.next().is_some_and(|b| b >= b'5') {
            magnitude = magnitude.checked_add(1).ok_or(())?;
        }
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_decimals() {
        for (text, units) in [("12.5", 125_000), ("-0.00015", -2), ("7", 70_000), (".5", 5_000), ("1e2", 1_000_000)] {
            assert_eq!(text.parse(), Ok(Fixed4(units)), "{text}");
        }
        assert_eq!(Fixed4(-125_001).to_string(), "-12.5001");
        assert_eq!(Fixed4(-2).to_string(), "-0.0002");
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "-", ".", "x", "1.2.3", "99999999999999999999", "nan", "inf"] {
            assert_eq!(text.parse::<Fixed4>(), Err(()), "{text}");
        }
    }
}
