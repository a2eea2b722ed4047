//! `math`, with the C library that Python itself calls, and its errors.

use crate::ir::{MathFunction, Scalar};
use crate::kernels::{Computed, Number, Side, each, floats, ints};
use crate::mask::Mask;
use crate::python::{self, Trouble};
use crate::vector::Vector;

fn domain() -> Trouble {
    Trouble::raises("ValueError: math domain error")
}

fn range() -> Trouble {
    Trouble::raises("OverflowError: math range error")
}

pub fn evaluate<'a>(function: MathFunction, mut arguments: Vec<Number<'a>>, rows: &Mask, len: usize) -> Computed<'a> {
    let second = arguments.pop();
    let (first, second) = match (arguments.pop(), second) {
        (Some(first), second) => (first, second.map(Number::floats)),
        (None, Some(first)) => (first, None),
        (None, None) => return Computed::of(crate::vector::NONE),
    };
    match (function, first) {
        // Of an integer, it is that integer.
        (MathFunction::Ceil | MathFunction::Floor | MathFunction::Trunc, Number::Int(side)) => Computed::of(match side {
            Side::Each(values) => Vector::Int(values),
            Side::One(value) => Vector::Const(Scalar::Int(value)),
        }),
        (MathFunction::Ceil, first) => whole(first, rows, len, f64::ceil),
        (MathFunction::Floor, first) => whole(first, rows, len, f64::floor),
        (MathFunction::Trunc, first) => whole(first, rows, len, f64::trunc),
        (MathFunction::IsNan, first) => test(&first.floats(), len, f64::is_nan),
        (MathFunction::IsInf, first) => test(&first.floats(), len, f64::is_infinite),
        (MathFunction::IsFinite, first) => test(&first.floats(), len, f64::is_finite),
        (function, first) => {
            let first = first.floats();
            match second {
                Some(second) => each(rows, len, |row| of_two(function, first.at(row), second.at(row)), floats),
                None => each(rows, len, |row| of_one(function, first.at(row)), floats),
            }
        }
    }
}

fn test<'a>(side: &Side<'_, f64>, len: usize, test: fn(f64) -> bool) -> Computed<'a> {
    Computed::of(Vector::Bool(Mask::collect(len, |row| test(side.at(row)))))
}

fn whole<'a>(number: Number<'a>, rows: &Mask, len: usize, to: fn(f64) -> f64) -> Computed<'a> {
    let side = number.floats();
    each(rows, len, |row| python::to_int(to(side.at(row))), ints)
}

fn of_one(function: MathFunction, value: f64) -> Result<f64, Trouble> {
    let result = match function {
        MathFunction::Log | MathFunction::Log2 | MathFunction::Log10 => {
            // The logarithm of nan is nan.
            if value <= 0.0 {
                return Err(domain());
            }
            match function {
                MathFunction::Log => value.ln(),
                MathFunction::Log2 => value.log2(),
                _ => value.log10(),
            }
        }
        MathFunction::Log1p if value <= -1.0 => return Err(domain()),
        MathFunction::Log1p => value.ln_1p(),
        MathFunction::Sqrt if value < 0.0 => return Err(domain()),
        MathFunction::Sqrt => value.sqrt(),
        MathFunction::Sin | MathFunction::Cos | MathFunction::Tan if value.is_infinite() => return Err(domain()),
        MathFunction::Sin => value.sin(),
        MathFunction::Cos => value.cos(),
        MathFunction::Tan => value.tan(),
        MathFunction::Tanh => value.tanh(),
        MathFunction::Atan => value.atan(),
        MathFunction::Exp => value.exp(),
        MathFunction::Fabs => value.abs(),
        MathFunction::Degrees => value * (180.0 / std::f64::consts::PI),
        MathFunction::Radians => value * (std::f64::consts::PI / 180.0),
        _ => value,
    };
    if result.is_infinite() && value.is_finite() && function == MathFunction::Exp { Err(range()) } else { Ok(result) }
}

fn of_two(function: MathFunction, left: f64, right: f64) -> Result<f64, Trouble> {
    match function {
        MathFunction::Atan2 => Ok(left.atan2(right)),
        MathFunction::CopySign => Ok(left.copysign(right)),
        MathFunction::Fmod if left.is_infinite() && !right.is_nan() => Err(domain()),
        MathFunction::Fmod if right == 0.0 && !left.is_nan() => Err(domain()),
        MathFunction::Fmod => Ok(left % right),
        _ => {
            let power = left.powf(right);
            if !left.is_finite() || !right.is_finite() || power.is_finite() {
                return Ok(power);
            }
            // A root of a negative number, a negative power of zero, or too much.
            if power.is_nan() || left == 0.0 { Err(domain()) } else { Err(range()) }
        }
    }
}
