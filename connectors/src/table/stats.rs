//! What is told of a column beside its table.
//!
//! Numbers: `dtype`, `null_count`, `min`, `max`, `mean`, `std`. Anything else: `dtype`, `null_count`, `unique_count` and `top_values`, the
//! five most frequent with their counts. `dtype` is pandas' word for the type. `std` is that of a sample, null below two values; it and the
//! mean have 4 decimals. NaN counts as null, as in pandas; an infinite result is null, as JSON has none.
//!
//! Values are counted exactly up to [`DISTINCT_MAX`] different ones. Beyond, the rarer half is forgotten whenever the table is full: the
//! frequent ones stay, with counts that are at most a little too low; the number of different values is then an estimate within about
//! 2 %, and `approximate` says so.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat};
use hashbrown::HashMap;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// Different values that are counted exactly.
pub const DISTINCT_MAX: usize = 65_536;
/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 100;
const TOP: usize = 5;
/// Registers of the estimate.
const REGISTERS: usize = 1 << REGISTER_BITS;
const REGISTER_BITS: u32 = 12;

/// What is told of one column, while its batches come by.
pub struct Statistics {
    dtype: String,
    rows: u64,
    nulls: u64,
    kind: Kind,
}

enum Kind {
    Int(Extremes<i128>, Moments),
    Float(Extremes<f64>, Moments),
    Other(Values),
}

struct Extremes<T> {
    min_max: Option<(T, T)>,
}

impl<T: PartialOrd + Copy> Extremes<T> {
    fn add(&mut self, value: T) {
        let (min, max) = self.min_max.get_or_insert((value, value));
        if value < *min {
            *min = value;
        }
        if value > *max {
            *max = value;
        }
    }
}

/// Count, mean and the sum of squares of differences to it, of which any two can be put together.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        Self { count, mean, squares: values.iter().map(|value| (value - mean).powi(2)).sum() }
    }

    fn add(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.squares += other.squares + apart * apart * self.count * other.count / count;
        self.mean += apart * other.count / count;
        self.count = count;
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then_some(self.mean)
    }

    fn std(&self) -> Option<f64> {
        (self.count > 1.0).then(|| (self.squares / (self.count - 1.0)).sqrt())
    }
}

fn rounded(value: Option<f64>) -> Value {
    let round = |value: f64| if value.abs() < 1e11 { (value * 1e4).round() / 1e4 } else { value };
    json!(value.map(round).filter(|value| value.is_finite()))
}

/// A whole number as JSON: beyond 64 bits as a float.
fn whole(value: i128) -> Value {
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).unwrap_or_else(|_| json!(value as f64))
}

/// How often each value came.
#[derive(Default)]
struct Values {
    /// By the hash of the value: how often, and how it is shown.
    counts: HashMap<u64, (u64, Box<str>)>,
    /// Made when there are too many values to be counted one by one.
    registers: Option<Box<[u8; REGISTERS]>>,
}

impl Values {
    fn add(&mut self, bytes: &[u8], show: impl FnOnce() -> Box<str>) {
        let hash = xxh3_64(bytes);
        if let Some(registers) = &mut self.registers {
            register(registers, hash);
        }
        if let Some((count, _)) = self.counts.get_mut(&hash) {
            *count += 1;
            return;
        }
        if self.counts.len() >= DISTINCT_MAX {
            self.forget_half();
        }
        self.counts.insert(hash, (1, show()));
    }

    /// Forgets the rarer half of the values.
    fn forget_half(&mut self) {
        let registers = self.registers.get_or_insert_with(|| Box::new([0; REGISTERS]));
        let mut ranks: Vec<(u64, u64)> = self.counts.iter().map(|(hash, (count, _))| (*count, *hash)).collect();
        for (_, hash) in &ranks {
            register(registers, *hash);
        }
        let half = ranks.len() / 2;
        ranks.select_nth_unstable(half);
        for (_, hash) in &ranks[..half] {
            self.counts.remove(hash);
        }
    }

    fn unique(&self) -> u64 {
        let Some(registers) = &self.registers else { return self.counts.len() as u64 };
        let count = REGISTERS as f64;
        let sum: f64 = registers.iter().map(|register| 0.5_f64.powi(i32::from(*register))).sum();
        let empty = registers.iter().filter(|register| **register == 0).count();
        let estimate = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let estimate = if estimate < 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { estimate };
        (estimate.round() as u64).max(self.counts.len() as u64)
    }

    fn top(&self) -> Value {
        let mut all: Vec<(u64, &str)> = self.counts.values().map(|(count, shown)| (*count, shown.as_ref())).collect();
        let order = |a: &(u64, &str), b: &(u64, &str)| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1));
        if all.len() > TOP {
            all.select_nth_unstable_by(TOP, order);
            all.truncate(TOP);
        }
        all.sort_by(order);
        let mut top = Map::new();
        for (count, shown) in all {
            let count = top.get(shown).and_then(Value::as_u64).unwrap_or_default() + count;
            top.insert(shown.to_owned(), count.into());
        }
        Value::Object(top)
    }
}

/// The first bits of a hash choose a register, which keeps the longest run of zeros behind them.
fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let at = (hash >> (64 - REGISTER_BITS)) as usize;
    let zeros = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
    registers[at] = registers[at].max(zeros);
}

fn shown(text: &str) -> Box<str> {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

impl Statistics {
    pub fn new(data_type: &DataType) -> Self {
        let kind = match data_type {
            _ if data_type.is_integer() => Kind::Int(Extremes { min_max: None }, Moments::default()),
            DataType::Float32 | DataType::Float64 => Kind::Float(Extremes { min_max: None }, Moments::default()),
            _ => Kind::Other(Values::default()),
        };
        let dtype = match data_type {
            DataType::Boolean => "bool".to_owned(),
            DataType::Timestamp(unit, zone) => {
                let unit = match unit {
                    TimeUnit::Second => "s",
                    TimeUnit::Millisecond => "ms",
                    TimeUnit::Microsecond => "us",
                    TimeUnit::Nanosecond => "ns",
                };
                zone.as_ref().map_or_else(|| format!("datetime64[{unit}]"), |zone| format!("datetime64[{unit}, {zone}]"))
            }
            _ if data_type.is_integer() || data_type.is_floating() => data_type.to_string().to_lowercase(),
            _ => "object".to_owned(),
        };
        Self { dtype, rows: 0, nulls: 0, kind }
    }

    pub fn add(&mut self, column: &ArrayRef) {
        self.rows += column.len() as u64;
        self.nulls += column.null_count() as u64;
        match &mut self.kind {
            Kind::Int(extremes, moments) => add_ints(column, extremes, moments),
            Kind::Float(extremes, moments) => self.nulls += add_floats(column, extremes, moments),
            Kind::Other(values) => add_values(column, values),
        }
    }

    pub fn to_json(&self) -> Value {
        let (dtype, null_count) = (&self.dtype, self.nulls);
        let numbers = |min: Value, max: Value, moments: &Moments| {
            let (mean, std) = (rounded(moments.mean()), rounded(moments.std()));
            json!({"dtype": dtype, "null_count": null_count, "min": min, "max": max, "mean": mean, "std": std})
        };
        let finite = |value: f64| json!(Some(value).filter(|value| value.is_finite()));
        match &self.kind {
            Kind::Int(Extremes { min_max }, moments) => {
                let (min, max) = min_max.map_or((Value::Null, Value::Null), |(min, max)| (whole(min), whole(max)));
                numbers(min, max, moments)
            }
            Kind::Float(Extremes { min_max }, moments) => {
                let (min, max) = min_max.map_or((Value::Null, Value::Null), |(min, max)| (finite(min), finite(max)));
                numbers(min, max, moments)
            }
            Kind::Other(values) => {
                let mut all = json!({
                    "dtype": dtype, "null_count": null_count, "unique_count": values.unique(), "top_values": values.top(),
                });
                if values.registers.is_some() {
                    all["approximate"] = true.into();
                }
                all
            }
        }
    }
}

fn add_ints(column: &ArrayRef, extremes: &mut Extremes<i128>, moments: &mut Moments) {
    macro_rules! add {
        ($type:ty) => {{
            let mut floats = Vec::with_capacity(column.len());
            for value in column.as_primitive::<$type>().iter().flatten() {
                extremes.add(value.into());
                floats.push(value as f64);
            }
            moments.add(Moments::of(&floats));
        }};
    }
    match column.data_type() {
        DataType::Int8 => add!(Int8Type),
        DataType::Int16 => add!(Int16Type),
        DataType::Int32 => add!(Int32Type),
        DataType::Int64 => add!(Int64Type),
        DataType::UInt8 => add!(UInt8Type),
        DataType::UInt16 => add!(UInt16Type),
        DataType::UInt32 => add!(UInt32Type),
        DataType::UInt64 => add!(UInt64Type),
        _ => {}
    }
}

/// Gives how many values are no numbers.
fn add_floats(column: &ArrayRef, extremes: &mut Extremes<f64>, moments: &mut Moments) -> u64 {
    let all: Vec<f64> = match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().map(f64::from).collect(),
        _ => column.as_primitive::<Float64Type>().iter().flatten().collect(),
    };
    let numbers: Vec<f64> = all.iter().copied().filter(|value| !value.is_nan()).collect();
    numbers.iter().for_each(|value| extremes.add(*value));
    moments.add(Moments::of(&numbers));
    (all.len() - numbers.len()) as u64
}

fn add_values(column: &ArrayRef, values: &mut Values) {
    let rows = (0..column.len()).filter(|at| column.is_valid(*at));
    macro_rules! texts {
        ($array:expr) => {{
            let array = $array;
            rows.for_each(|at| values.add(array.value(at).as_bytes(), || shown(array.value(at))));
        }};
    }
    macro_rules! numbers {
        ($type:ty, $show:expr) => {{
            let array = column.as_primitive::<$type>();
            rows.for_each(|at| values.add(&array.value(at).to_le_bytes(), || $show(array.value(at))));
        }};
    }
    match column.data_type() {
        DataType::Boolean => {
            let array = column.as_boolean();
            rows.for_each(|at| values.add(&[u8::from(array.value(at))], || if array.value(at) { "true" } else { "false" }.into()));
        }
        DataType::Utf8 => texts!(column.as_string::<i32>()),
        DataType::LargeUtf8 => texts!(column.as_string::<i64>()),
        DataType::Utf8View => texts!(column.as_string_view()),
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            rows.for_each(|at| values.add(array.value(at), || shown(&String::from_utf8_lossy(array.value(at)))));
        }
        DataType::Date32 => numbers!(Date32Type, date),
        DataType::Time64(TimeUnit::Microsecond) => numbers!(Time64MicrosecondType, time),
        DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType, moment),
        // Of these there is no more to tell than that they are there.
        _ => {}
    }
}

fn date(days: i32) -> Box<str> {
    DateTime::from_timestamp(i64::from(days) * 86_400, 0).unwrap_or_default().format("%Y-%m-%d").to_string().into()
}

fn time(micros: i64) -> Box<str> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().format("%H:%M:%S%.f").to_string().into()
}

fn moment(micros: i64) -> Box<str> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}
