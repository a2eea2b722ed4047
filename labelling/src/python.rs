//! Python's ways with single values: how numbers are divided, rounded, read and written, and how moments are counted.

/// What an operation of one value gives that is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `ValueError: …`, as Python words it.
    Raises(String),
    /// The other tier has to do it.
    Elsewhere,
}

impl Trouble {
    pub fn raises(message: impl Into<String>) -> Self {
        Self::Raises(message.into())
    }
}

/// Every integer up to here is a float.
pub const EXACT: u64 = 1 << 53;

pub fn floor_div(left: i64, right: i64) -> i64 {
    let quotient = left.wrapping_div(right);
    if left.wrapping_rem(right) != 0 && (left < 0) != (right < 0) { quotient - 1 } else { quotient }
}

pub fn floor_mod(left: i64, right: i64) -> i64 {
    let rest = left.wrapping_rem(right);
    if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest }
}

/// The float nearest to the exact quotient; the divisor is not zero.
pub fn quotient(left: i64, right: i64) -> f64 {
    if left.unsigned_abs() <= EXACT && right.unsigned_abs() <= EXACT {
        // Both are exact as floats, and their division rounds once.
        return left as f64 / right as f64;
    }
    let (top, bottom) = (u128::from(left.unsigned_abs()), u128::from(right.unsigned_abs()));
    if top == 0 {
        return if right < 0 { -0.0 } else { 0.0 };
    }
    // At least 64 bits of the quotient; whether there are more is told by the last one, so that rounding to 53 sees it.
    let shift = top.leading_zeros();
    let shifted = top << shift;
    let whole = shifted / bottom;
    let sticky = u128::from(shifted % bottom != 0);
    let magnitude = (whole | sticky) as f64 * 2f64.powi(-shift.cast_signed());
    if (left < 0) == (right < 0) { magnitude } else { -magnitude }
}

/// Quotient rounded down, and a rest with the sign of the divisor, which is not zero.
pub fn float_div_mod(left: f64, right: f64) -> (f64, f64) {
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest == 0.0 {
        rest = 0f64.copysign(right);
    } else if (right < 0.0) != (rest < 0.0) {
        rest += right;
        quotient -= 1.0;
    }
    let floor = if quotient == 0.0 {
        0f64.copysign(left / right)
    } else {
        let floor = quotient.floor();
        if quotient - floor > 0.5 { floor + 1.0 } else { floor }
    };
    (floor, rest)
}

pub fn float_pow(left: f64, right: f64) -> Result<f64, Trouble> {
    if left == 0.0 && right < 0.0 {
        return Err(Trouble::raises("ZeroDivisionError: 0.0 cannot be raised to a negative power"));
    }
    if left < 0.0 && left.is_finite() && right.is_finite() && right.fract() != 0.0 {
        // A complex number, which the other tier does not have either.
        return Err(Trouble::raises("NotImplementedError: a root of a negative number is a complex number"));
    }
    let power = left.powf(right);
    if power.is_infinite() && left.is_finite() && right.is_finite() {
        return Err(Trouble::raises("OverflowError: (34, 'Numerical result out of range')"));
    }
    Ok(power)
}

pub fn int_pow(left: i64, right: i64) -> Result<i64, Trouble> {
    let exponent = u32::try_from(right).map_err(|_| Trouble::Elsewhere)?;
    left.checked_pow(exponent).ok_or(Trouble::Elsewhere)
}

/// `int()` of a float, without its fraction.
pub fn to_int(value: f64) -> Result<i64, Trouble> {
    if value.is_nan() {
        return Err(Trouble::raises("ValueError: cannot convert float NaN to integer"));
    }
    if value.is_infinite() {
        return Err(Trouble::raises("OverflowError: cannot convert float infinity to integer"));
    }
    let whole = value.trunc();
    // 2^63 is a float, the largest 64-bit integer is none.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole) { Ok(whole as i64) } else { Err(Trouble::Elsewhere) }
}

/// To that many digits after the point: the decimal nearest to the exact value, and of two the even one.
pub fn round_to(value: f64, digits: usize) -> f64 {
    if !value.is_finite() {
        return value;
    }
    format!("{value:.digits$}").parse().unwrap_or(value)
}

pub fn whitespace(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// How a text is quoted in an error; of a long one the beginning.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    if shown.contains('\'') && !shown.contains('"') { format!("\"{shown}\"") } else { format!("'{}'", shown.replace('\'', "\\'")) }
}

pub fn parse_int(text: &str) -> Result<i64, Trouble> {
    let trimmed = text.trim_matches(whitespace);
    if !trimmed.is_ascii() || trimmed.contains('_') || trimmed.len() > 18 {
        return Err(Trouble::Elsewhere);
    }
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Trouble::Raises(format!("ValueError: invalid literal for int() with base 10: {}", quoted(text))));
    }
    trimmed.strip_prefix('+').unwrap_or(trimmed).parse().map_err(|_| Trouble::Elsewhere)
}

pub fn parse_float(text: &str) -> Result<f64, Trouble> {
    let trimmed = text.trim_matches(whitespace);
    if !trimmed.is_ascii() || trimmed.contains('_') {
        return Err(Trouble::Elsewhere);
    }
    let invalid = || Trouble::Raises(format!("ValueError: could not convert string to float: {}", quoted(text)));
    let (negative, rest) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let sign = |value: f64| if negative { -value } else { value };
    match rest.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => return Ok(sign(f64::INFINITY)),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let plain = rest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let starts = rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || !starts {
        return Err(invalid());
    }
    rest.parse().map(sign).map_err(|_| invalid())
}

/// `str()` of a float: the shortest decimal that reads back the same.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Of the years 1 to 9999.
pub const MICROS: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
pub const DAYS: std::ops::Range<i64> = -719_162..2_932_897;
/// 999,999,999 days, and so many to the past.
pub const DELTA_DAYS_MAX: i64 = 999_999_999;

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is a year's last; an era is 400 of them.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let (year, month, day) = (i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?);
    let date = chrono::NaiveDate::from_ymd_opt(year, month, day).filter(|_| (1..=9999).contains(&year))?;
    Some(date.signed_duration_since(chrono::NaiveDate::default()).num_days())
}

/// Arguments by place and by name into one list.
fn arguments(names: &[&str], positional: &[i64], named: &[(&str, i64)]) -> Option<Vec<Option<i64>>> {
    let mut values: Vec<_> = positional.iter().map(|&value| Some(value)).collect();
    if values.len() > names.len() {
        return None;
    }
    values.resize(names.len(), None);
    for (name, value) in named {
        let at = names.iter().position(|known| known == name)?;
        if values[at].replace(*value).is_some() {
            return None;
        }
    }
    Some(values)
}

/// Microseconds of `datetime(…)`.
pub fn moment(positional: &[i64], named: &[(&str, i64)]) -> Option<i64> {
    let values = arguments(&["year", "month", "day", "hour", "minute", "second", "microsecond"], positional, named)?;
    let days = days_of(values[0]?, values[1]?, values[2]?)?;
    let part = |at: usize, limit: i64| Some(values[at].unwrap_or(0)).filter(|value| (0..limit).contains(value));
    let seconds = part(3, 24)? * 3600 + part(4, 60)? * 60 + part(5, 60)?;
    Some(days * MICROS_PER_DAY + seconds * 1_000_000 + part(6, 1_000_000)?)
}

/// Days of `date(…)`.
pub fn date(positional: &[i64], named: &[(&str, i64)]) -> Option<i64> {
    let values = arguments(&["year", "month", "day"], positional, named)?;
    days_of(values[0]?, values[1]?, values[2]?)
}

/// Microseconds of `timedelta(…)`, of whole numbers, within what 64 bits hold.
pub fn delta(positional: &[i64], named: &[(&str, i64)]) -> Option<i64> {
    let names = ["days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"];
    let factors = [MICROS_PER_DAY, 1_000_000, 1, 1_000, 60_000_000, 3_600_000_000, 7 * MICROS_PER_DAY];
    let values = arguments(&names, positional, named)?;
    values.iter().zip(factors).try_fold(0i64, |sum, (value, factor)| sum.checked_add(value.unwrap_or(0).checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_and_read_as_in_python() {
        let rounded = [(2.675, 2, 2.67), (0.125, 2, 0.12), (0.375, 2, 0.38), (1e22, 2, 1e22), (-0.001, 2, -0.0), (5.015, 2, 5.01)];
        for (value, digits, expected) in rounded {
            assert_eq!(round_to(value, digits).to_bits(), f64::to_bits(expected), "round({value}, {digits})");
        }
        let texts = [(1.0, "1.0"), (1e16, "1e+16"), (1e15, "1000000000000000.0"), (1.5e-5, "1.5e-05"), (0.0001, "0.0001"), (-0.0, "-0.0")];
        for (value, expected) in texts {
            assert_eq!(float_text(value), expected);
        }
        assert_eq!(parse_int(" -12\n"), Ok(-12));
        assert_eq!(parse_int("1_000"), Err(Trouble::Elsewhere));
        assert_eq!(parse_int("1.0"), Err(Trouble::raises("ValueError: invalid literal for int() with base 10: '1.0'")));
        assert_eq!(parse_float("\x1c+.5e1 "), Ok(5.0));
        assert_eq!(parse_float("-Infinity"), Ok(f64::NEG_INFINITY));
        for text in ["", ".", "1e", "--1", "1 2", "infin", "0x10"] {
            assert!(matches!(parse_float(text), Err(Trouble::Raises(_))), "{text}");
        }
    }

    #[test]
    fn quotients_of_large_integers_round_once() {
        let big = (1i64 << 53) + 1;
        for (left, right, expected) in [
            (i64::MAX, big, 1023.9999999999999),
            (7, big, 7.771561172376095e-16),
            (big, -7, -1286742750677284.8),
            (big, i64::MAX, 0.0009765625000000002),
            (i64::MIN, i64::MIN, 1.0),
            (1, i64::MIN, -1.0842021724855044e-19),
            (i64::MAX, 3, 3.0744573456182586e+18),
        ] {
            assert_eq!(quotient(left, right), expected, "{left} / {right}");
        }
    }

    #[test]
    fn division_rounds_down() {
        assert_eq!((floor_div(-7, 2), floor_mod(-7, 2)), (-4, 1));
        assert_eq!((floor_div(7, -2), floor_mod(7, -2)), (-4, -1));
        assert_eq!(float_div_mod(-7.5, 2.0), (-4.0, 0.5));
        assert_eq!(float_div_mod(1.0, 0.1), (9.0, 0.09999999999999995));
        assert_eq!(float_div_mod(-1e-20, 3.0), (-1.0, 3.0));
        assert_eq!(float_div_mod(5.0, f64::INFINITY), (0.0, 5.0));
    }

    #[test]
    fn days_have_dates() {
        for days in [DAYS.start, -1, 0, 59, 60, 18_321, 19_782, DAYS.end - 1] {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), Some(days));
        }
        assert_eq!(civil(DAYS.start), (1, 1, 1));
        assert_eq!(civil(DAYS.end - 1), (9999, 12, 31));
        assert_eq!(moment(&[2024, 2, 29], &[("hour", 1)]), Some(19_782 * MICROS_PER_DAY + 3_600_000_000));
        assert_eq!(moment(&[2023, 2, 29], &[]), None);
        assert_eq!(delta(&[1, 2], &[("weeks", -1)]), Some(-6 * MICROS_PER_DAY + 2_000_000));
    }
}
