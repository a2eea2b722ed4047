//! Columns of every kind, what functions return, and constants, in both tiers.

mod support;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray, Float32Array, Int8Array, Int64Array,
    LargeStringArray, RecordBatch, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
    UInt64Array,
};
use desireline_labelling::{Fault, FaultKind, Function, Module, Outcome, Source, Tier, constant_name};
use std::process::ExitCode;
use std::sync::Arc;
use support::{Test, function, rows, runtime, source};

fn main() -> ExitCode {
    support::main(TESTS)
}

const TESTS: &[Test] = &[
    ("columns_of_every_kind_are_read", columns_of_every_kind_are_read),
    ("values_that_cannot_be_read_are_faults_of_their_rows", values_that_cannot_be_read_are_faults_of_their_rows),
    ("only_declared_integers_are_votes", only_declared_integers_are_votes),
    ("names_of_values_mean_their_ids", names_of_values_mean_their_ids),
    ("faults_are_counted_over_batches", faults_are_counted_over_batches),
    ("a_variable_may_have_many_types", a_variable_may_have_many_types),
    ("no_rows_give_no_votes", no_rows_give_no_votes),
    ("columns_are_told", columns_are_told),
];

fn columns() -> RecordBatch {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
    let decimal = Decimal128Array::from(vec![Some(12_345), None, Some(-1)]).with_precision_and_scale(20, 4).expect("a decimal");
    rows(vec![
        ("i8", Arc::new(Int8Array::from(vec![Some(-128), None, Some(1)])) as ArrayRef),
        ("u32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(1)]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(1)]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(0.5), None, Some(0.1)]))),
        ("dec", Arc::new(decimal)),
        ("dict", Arc::new(dictionary)),
        ("large", Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("b")]))),
        ("view", Arc::new(StringViewArray::from(vec![Some("a"), None, Some("a text that is longer than twelve bytes")]))),
        ("sec", Arc::new(TimestampSecondArray::from(vec![Some(0), None, Some(86_399)]))),
        ("milli", Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), None, Some(-1)]).with_timezone("UTC"))),
        ("nano", Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), None, Some(-1)]))),
        ("d32", Arc::new(Date32Array::from(vec![Some(0), None, Some(-1)]))),
        ("d64", Arc::new(Date64Array::from(vec![Some(86_400_000), None, Some(0)]))),
    ])
}

/// An expression, and what it is in three rows: a vote of 1 or 2, or -1 for an exception.
const READ: &[(&str, [i64; 3])] = &[
    ("row['i8'] == -128", [1, 2, 2]),
    ("row['u32'] == 4294967295", [1, 2, 2]),
    ("row['u64'] > 9223372036854775807", [1, -1, 2]),
    ("row['u64'] is None or row['u64'] + 1 == 2", [2, 1, 1]),
    ("row['f32'] == 0.5", [1, 2, 2]),
    ("row['f32'] == 0.10000000149011612", [2, 2, 1]),
    ("row['dec'] == 1.2345", [1, 2, 2]),
    ("row['dec'] == -0.0001", [2, 2, 1]),
    ("row['dict'] == 'a'", [1, 2, 2]),
    ("row['dict'] is None", [2, 1, 2]),
    ("row['large'] < 'b'", [1, -1, 2]),
    ("len(row['view']) > 12", [2, -1, 1]),
    ("row['sec'].hour == 23", [2, -1, 1]),
    ("row['sec'] == datetime.datetime(1970, 1, 1)", [1, 2, 2]),
    ("row['milli'].microsecond == 500000", [1, -1, 2]),
    ("row['milli'] < datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)", [2, -1, 1]),
    ("row['nano'].microsecond == 1", [1, -1, 2]),
    ("row['nano'].year == 1969", [2, -1, 1]),
    ("row['d32'] == datetime.date(1969, 12, 31)", [2, 2, 1]),
    ("row['d64'].day == 2", [1, -1, 2]),
];

fn both(function: &Function, rows: &RecordBatch) -> [Outcome; 2] {
    let runtime = runtime();
    assert_eq!(*function.tier(), Tier::Compiled);
    [runtime.evaluate(function, rows).expect("votes"), runtime.evaluate_interpreted(function, rows).expect("votes")]
}

fn columns_of_every_kind_are_read() {
    for (expression, expected) in READ {
        let code = format!("import datetime\ndef labeling_function(row):\n    return YES if {expression} else NO\n");
        let function = function(&code).unwrap_or_else(|refusal| panic!("{refusal}\n{code}"));
        for outcome in both(&function, &columns()) {
            assert_eq!(outcome.votes, expected, "{expression}: {:?}", outcome.faults);
        }
    }
}

fn values_that_cannot_be_read_are_faults_of_their_rows() {
    let rows = rows(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("blob", Arc::new(BinaryArray::from(vec![Some(b"x".as_slice()), None, Some(b"y".as_slice())]))),
        ("far", Arc::new(TimestampSecondArray::from(vec![Some(i64::MAX), Some(0), None]))),
    ]);
    let of = |column: &str| {
        function(&format!(
            "def labeling_function(row):\n    if row['id'] == 3:\n        return NO\n    return YES if row['{column}'] is None else NO\n"
        ))
        .expect("a function")
    };
    let [compiled, interpreted] = both(&of("blob"), &rows);
    assert_eq!(compiled.votes, [-1, 1, 2]);
    assert_eq!((compiled.faults[0].kind, compiled.faults[0].line, compiled.faults[0].rows), (FaultKind::Limit, Some(4), 1));
    assert_eq!(compiled.faults[0].message, "column 'blob' has the type Binary, which labelling functions cannot read");
    // The interpreter is given whole rows: the third one, too, has a value that nobody can read.
    assert_eq!(interpreted.votes, [-1, 1, -1]);
    let [compiled, interpreted] = both(&of("far"), &rows);
    assert_eq!((compiled.votes.as_slice(), interpreted.votes.as_slice()), ([-1, 2, 2].as_slice(), [-1, 2, 2].as_slice()));
    assert_eq!(compiled.faults[0].message, "column 'far' has a date outside of the years 1 to 9999");
    assert_eq!(interpreted.faults[0].message, compiled.faults[0].message);
}

const RETURNED: &[(&str, i64, Option<FaultKind>)] = &[
    ("1", 1, None),
    ("-1", -1, None),
    ("2.0", 2, None),
    ("-1.0", -1, None),
    ("row['x'] - 4", 3, None),
    ("row['x'] / 7", 1, None),
    ("row['x'] / 2", -1, Some(FaultKind::NotAnInteger)),
    ("99", -1, Some(FaultKind::Undeclared)),
    ("row['x']", -1, Some(FaultKind::Undeclared)),
    ("0", -1, Some(FaultKind::Undeclared)),
    ("9223372036854775807 + row['x']", -1, Some(FaultKind::Undeclared)),
    ("1e300", -1, Some(FaultKind::NotAnInteger)),
    ("True", -1, Some(FaultKind::NotAnInteger)),
    ("row['x'] > 3", -1, Some(FaultKind::NotAnInteger)),
    ("'1'", -1, Some(FaultKind::NotAnInteger)),
    ("None", -1, Some(FaultKind::None_)),
    ("row['x'] // 0", -1, Some(FaultKind::Exception)),
];

fn only_declared_integers_are_votes() {
    let rows = rows(vec![("x", Arc::new(Int64Array::from(vec![7])) as ArrayRef)]);
    for (returned, vote, kind) in RETURNED {
        let function = function(&format!("def labeling_function(row):\n    return {returned}\n")).expect("a function");
        for outcome in both(&function, &rows) {
            assert_eq!(outcome.votes, [*vote], "{returned}");
            assert_eq!(outcome.faults.first().map(|fault| fault.kind), *kind, "{returned}: {:?}", outcome.faults);
            let exception = *kind == Some(FaultKind::Exception);
            assert!(outcome.faults.iter().all(|fault| fault.rows == 1 && (fault.line == Some(2)) == exception), "{:?}", outcome.faults);
        }
    }
}

fn names_of_values_mean_their_ids() {
    let rows = rows(vec![("x", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)]);
    let code = "STATIC = 1\nSMART_PHONE = 2\nABSTAIN = 7\nOTHER = SMART_PHONE\ndef labeling_function(row):\n    if row['x'] == 1:\n        return SMART_PHONE\n    if row['x'] == 2:\n        return ABSTAIN\n    return OTHER\n";
    let constants = vec![("STATIC".to_owned(), 5), (constant_name("Smart phone"), 6)];
    let source = Source { code: code.to_owned(), constants, applicable: vec![2, 5, 6], ..Source::default() };
    for outcome in both(&Function::new(source).expect("a function"), &rows) {
        // What was computed from a name before the call has what the code assigned.
        assert_eq!((outcome.votes.as_slice(), outcome.faults.as_slice()), ([6, -1, 2].as_slice(), [].as_slice()));
    }
}

fn faults_are_counted_over_batches() {
    let count = 20_000i64;
    let rows = rows(vec![("x", Arc::new((0..count).map(|x| (x % 3 != 0).then_some(x)).collect::<Int64Array>()) as ArrayRef)]);
    let code = "def labeling_function(row):\n    if row['x'] == 16000:\n        return 17\n    y = 1\n    return YES if row['x'] + y > 10000 else NO\n";
    for outcome in both(&function(code).expect("a function"), &rows) {
        let expected = (0..count).map(|x| match x {
            16_000 => -1,
            x if x % 3 == 0 => -1,
            x => {
                if x >= 10_000 {
                    1
                } else {
                    2
                }
            }
        });
        assert!(outcome.votes.iter().copied().eq(expected));
        let told: Vec<_> = outcome.faults.iter().map(|fault: &Fault| (fault.kind, fault.line, fault.rows, fault.first_row)).collect();
        let nulls = count.unsigned_abs().div_ceil(3);
        assert_eq!(told, [(FaultKind::Exception, Some(5), nulls, 0), (FaultKind::Undeclared, None, 1, 16_000)]);
    }
}

fn a_variable_may_have_many_types() {
    let rows = rows(vec![
        ("x", Arc::new((0..40).collect::<Int64Array>()) as ArrayRef),
        ("s", Arc::new(LargeStringArray::from((0..40).map(|x| format!("s{x}")).collect::<Vec<_>>()))),
        ("f", Arc::new((0..40).map(|x| Some(f64::from(x) / 2.0)).collect::<arrow_array::Float64Array>())),
    ]);
    let values = [
        "row['x']",
        "row['f']",
        "row['s']",
        "None",
        "True",
        "row['x'] > 8",
        "'t'",
        "2.5",
        "7",
        "row['s'] + '!'",
        "datetime.date(2024, 1, 1)",
        "datetime.timedelta(1)",
        "row['f'] + 1",
        "row['x'] + 1",
        "datetime.datetime(2024, 1, 1)",
        "False",
        "1.0",
        "3",
    ];
    let branches: String =
        values.iter().enumerate().map(|(at, value)| format!("    elif row['x'] == {at}:\n        v = {value}\n")).collect();
    let body = format!(
        "import datetime\ndef labeling_function(row):\n    if row['x'] > 100:\n        v = 0\n{branches}    else:\n        v = row['x']\n"
    );
    for (test, least) in
        [("str(v) == 's2' or v == 3 or v == 's9!'", 3), ("v is True or v is None", 2), ("v in (1, 1.0, 't', 2.5, 7)", 6), ("not v", 3)]
    {
        let function = function(&format!("{body}    return YES if {test} else NO\n")).expect("a function");
        let [compiled, interpreted] = both(&function, &rows);
        assert_eq!(compiled.votes, interpreted.votes, "{test}");
        assert_eq!(compiled.faults.len(), interpreted.faults.len(), "{test}: {:?} {:?}", compiled.faults, interpreted.faults);
        assert!(compiled.votes.iter().filter(|&&vote| vote == 1).count() >= least, "{test}: {:?}", compiled.votes);
    }
}

fn no_rows_give_no_votes() {
    let rows = rows(vec![("x", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef)]);
    for outcome in both(&function("def labeling_function(row):\n    return row['x']\n").expect("a function"), &rows) {
        assert_eq!((outcome.votes.len(), outcome.faults.len()), (0, 0));
    }
}

fn columns_are_told() {
    let told = |code: &str| function(code).expect("a function").columns();
    assert_eq!(told("def labeling_function(r):\n    return r['b'] if r.a > 1 or 'd' in r else r.get('c', r['a'])\n"), ["a", "b", "c", "d"]);
    assert_eq!(told("def labeling_function(row):\n    return len(row)\n"), Vec::<String>::new());
    // Words that are builtins, too, are names like others.
    let words = "def labeling_function(row):\n    id = row['x']\n    type = 'a'\n    return 1 if id == 3 and type == 'a' else 2\n";
    assert_eq!((told(words), function(words).map(|function| function.tier().clone())), (vec!["x".to_owned()], Ok(Tier::Compiled)));
    let none = Source {
        allowed_imports: [Module::Re].into_iter().collect(),
        ..source("import math\ndef labeling_function(row):\n    return 1\n")
    };
    let refusal = Function::new(none).expect_err("math is not allowed");
    assert_eq!(
        (refusal.code, refusal.line, refusal.message.as_str()),
        ("lf_import", Some(1), "Module 'math' is not in allowed imports list")
    );
}
