//! Methods of texts.

use crate::ir::Expr;
use crate::ir::{Line, Scalar, StrMethod};
use crate::kernels::{Computed, each, ints};
use crate::mask::Mask;
use crate::python::{Trouble, whitespace};
use crate::vector::{Texts, Vector};
use std::borrow::Cow;

/// One text that the compiled tier makes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

pub fn too_long() -> Trouble {
    Trouble::raises("MemoryError: a text of more than 1 MiB")
}

/// The constant texts of an argument: one, or each of a tuple.
fn texts(argument: Option<&Line<Expr>>) -> Vec<&str> {
    match argument.map(|argument| &argument.of) {
        Some(Expr::Const(Scalar::Str(text))) => vec![text],
        Some(Expr::Const(Scalar::Sequence(_, items))) => {
            items.iter().filter_map(|item| if let Scalar::Str(text) = item { Some(&**text) } else { None }).collect()
        }
        _ => Vec::new(),
    }
}

/// Texts that a batch may make in all; rows beyond are the other tier's, whose memory is a worker's.
pub const MADE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `left` is what may still be made.
pub fn method<'a>(
    method: StrMethod,
    subjects: &Texts<'a>,
    arguments: &[Line<Expr>],
    rows: &Mask,
    len: usize,
    left: &mut usize,
) -> Computed<'a> {
    let first = texts(arguments.first());
    let only = first.first().copied().unwrap_or_default();
    let test = |test: &dyn Fn(&str) -> bool| {
        let mut mask = Mask::EMPTY;
        rows.rows().filter(|&row| test(subjects.at(row))).for_each(|row| mask.insert(row));
        Computed::of(Vector::Bool(mask))
    };
    match method {
        StrMethod::StartsWith => test(&|subject| first.iter().any(|prefix| subject.starts_with(prefix))),
        StrMethod::EndsWith => test(&|subject| first.iter().any(|suffix| subject.ends_with(suffix))),
        // Digits and letters of other alphabets: the other tier has tables of its own.
        StrMethod::IsDigit => of_ascii(rows, subjects, |subject| !subject.is_empty() && subject.bytes().all(|byte| byte.is_ascii_digit())),
        StrMethod::IsAlpha => {
            of_ascii(rows, subjects, |subject| !subject.is_empty() && subject.bytes().all(|byte| byte.is_ascii_alphabetic()))
        }
        StrMethod::Count => each(rows, len, |row| Ok(count(subjects.at(row), only)), ints),
        StrMethod::Find => each(rows, len, |row| Ok(find(subjects.at(row), only)), ints),
        StrMethod::Lower => strings(rows, subjects, len, left, |subject| Ok(lower(subject))),
        StrMethod::Upper => strings(rows, subjects, len, left, |subject| Ok(upper(subject))),
        StrMethod::Strip => strip(rows, subjects, len, left, (&first, true, true)),
        StrMethod::LStrip => strip(rows, subjects, len, left, (&first, true, false)),
        StrMethod::RStrip => strip(rows, subjects, len, left, (&first, false, true)),
        StrMethod::Replace => {
            let with = texts(arguments.get(1)).first().copied().unwrap_or_default();
            strings(rows, subjects, len, left, |subject| {
                if !subject.contains(only) {
                    return Ok(subject);
                }
                let longer = subject.matches(only).count().saturating_mul(with.len());
                if subject.len().saturating_add(longer) > TEXT_BYTES_MAX {
                    return Err(too_long());
                }
                Ok(Cow::Owned(subject.replace(only, with)))
            })
        }
    }
}

fn of_ascii<'a>(rows: &Mask, subjects: &Texts<'_>, test: impl Fn(&str) -> bool) -> Computed<'a> {
    let mut holds = Mask::EMPTY;
    let mut elsewhere = Mask::EMPTY;
    for row in rows.rows() {
        let subject = subjects.at(row);
        if !subject.is_ascii() {
            elsewhere.insert(row);
        } else if test(subject) {
            holds.insert(row);
        }
    }
    Computed { elsewhere, ..Computed::of(Vector::Bool(holds)) }
}

/// Occurrences that do not overlap; of nothing, one between any two letters and at both ends.
fn count(subject: &str, of: &str) -> i64 {
    let count = if of.is_empty() { subject.chars().count() + 1 } else { subject.matches(of).count() };
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// In letters from the beginning.
fn find(subject: &str, what: &str) -> i64 {
    subject.find(what).map_or(-1, |at| i64::try_from(subject[..at].chars().count()).unwrap_or(i64::MAX))
}

fn lower(subject: Cow<'_, str>) -> Cow<'_, str> {
    let same = subject.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if same { subject } else { Cow::Owned(subject.to_lowercase()) }
}

fn upper(subject: Cow<'_, str>) -> Cow<'_, str> {
    let same = subject.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase());
    if same { subject } else { Cow::Owned(subject.to_uppercase()) }
}

/// Whether a text of this length may be made, taken off what is left.
pub fn made(bytes: usize, left: &mut usize) -> Result<(), Trouble> {
    if bytes > TEXT_BYTES_MAX {
        return Err(too_long());
    }
    *left = left.checked_sub(bytes).ok_or(Trouble::Elsewhere)?;
    Ok(())
}

fn strings<'a>(
    rows: &Mask,
    subjects: &Texts<'a>,
    len: usize,
    left: &mut usize,
    mut map: impl FnMut(Cow<'a, str>) -> Result<Cow<'a, str>, Trouble>,
) -> Computed<'a> {
    let mapped = |row| {
        let text = map(subjects.to_cow(row))?;
        if let Cow::Owned(text) = &text {
            made(text.len(), left)?;
        }
        Ok(text)
    };
    each(rows, len, mapped, |values| Vector::Str(values.into()))
}

fn strip<'a>(rows: &Mask, subjects: &Texts<'a>, len: usize, left: &mut usize, how: (&[&str], bool, bool)) -> Computed<'a> {
    let (letters, start, end) = how;
    let taken = |letter: char| match letters.first() {
        Some(letters) => letters.contains(letter),
        None => whitespace(letter),
    };
    let cut = |text: &str| -> std::ops::Range<usize> {
        let from = if start { text.len() - text.trim_start_matches(taken).len() } else { 0 };
        let rest = &text[from..];
        let rest = if end { rest.trim_end_matches(taken) } else { rest };
        from..from + rest.len()
    };
    strings(rows, subjects, len, left, |subject| {
        Ok(match subject {
            Cow::Borrowed(text) => Cow::Borrowed(&text[cut(text)]),
            Cow::Owned(text) => Cow::Owned(text[cut(&text)].to_owned()),
        })
    })
}

/// Length in letters.
pub fn length(subject: &str) -> i64 {
    let letters = if subject.is_ascii() { subject.len() } else { subject.chars().count() };
    i64::try_from(letters).unwrap_or(i64::MAX)
}
