//! Both tiers against Python, and against each other.
//!
//! `cases.txt` holds expressions with what Python makes of them; a case is added by adding a line. `generated.txt` has more of them that
//! a program made. The random test puts expressions of
//! the compiled subset together and evaluates them over rows with every awkward number: whatever the compiled tier votes, the
//! interpreter must vote, and where one finds an exception so must the other. It cannot tell what both do wrong in the same way; that is
//! what the table is for.

mod support;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, NullArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use desireline_labelling::{Fault, FaultKind, Function, Outcome, Runtime, Tier};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::process::ExitCode;
use std::sync::Arc;
use support::{Test, function, rows, runtime};

fn main() -> ExitCode {
    support::main(TESTS)
}

const TESTS: &[Test] = &[
    ("both_tiers_agree_with_python", both_tiers_agree_with_python),
    ("random_expressions_agree", random_expressions_agree),
    ("statements_agree", statements_agree),
    ("the_documentation_is_true", the_documentation_is_true),
    ("a_compiled_function_needs_no_worker", a_compiled_function_needs_no_worker),
];

/// 2024-02-29T13:45:10.123456.
const MOMENT: i64 = 1_709_214_310_123_456;

fn row() -> RecordBatch {
    let int = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let truth = |value: bool| Arc::new(BooleanArray::from(vec![value])) as ArrayRef;
    let moment = TimestampMicrosecondArray::from(vec![MOMENT]);
    rows(vec![
        ("i", int(7)),
        ("n", int(-7)),
        ("z", int(0)),
        ("big", int((1 << 53) + 1)),
        ("huge", int(i64::MAX)),
        ("low", int(i64::MIN)),
        ("f", float(2.5)),
        ("g", float(-0.0)),
        ("nan", float(f64::NAN)),
        ("inf", float(f64::INFINITY)),
        ("t", truth(true)),
        ("u", truth(false)),
        ("s", text("Hello World")),
        ("e", text("")),
        ("w", text(" \tab\n")),
        ("uni", text("Stra\u{df}e")),
        ("none", Arc::new(NullArray::new(1))),
        ("d", Arc::new(moment.clone())),
        ("a", Arc::new(moment.with_timezone("+02:00"))),
        ("day", Arc::new(Date32Array::from(vec![20_088]))),
    ])
}

struct Case {
    expression: String,
    expected: String,
    compiled: bool,
    interpreted: bool,
}

fn cases() -> Vec<Case> {
    // Other cases, such as many that were made by a program, can be tried without a place in the table.
    let named = std::env::var("DESIRELINE_LABELLING_CASES").map(|path| std::fs::read_to_string(path).expect("cases"));
    let text = named.unwrap_or_else(|_| [include_str!("semantics/cases.txt"), include_str!("semantics/generated.txt")].concat());
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &str| {
        let (expression, expected) = line.rsplit_once(" => ").expect("an expression and what it gives");
        let only = |tier| expression.strip_prefix(tier);
        let (compiled, interpreted) = (only("compiled "), only("interpreted "));
        Case {
            expression: compiled.or(interpreted).unwrap_or(expression).to_owned(),
            expected: expected.to_owned(),
            compiled: interpreted.is_none(),
            interpreted: compiled.is_none(),
        }
    };
    lines.map(case).collect()
}

fn code(expression: &str) -> String {
    format!("import re, math, datetime, statistics\ndef labeling_function(row):\n    return YES if {expression} else NO\n")
}

/// `True`, `False`, or the exception.
fn told(outcome: &Outcome) -> String {
    match (outcome.votes.as_slice(), outcome.faults.as_slice()) {
        ([1], []) => "True".to_owned(),
        ([2], []) => "False".to_owned(),
        ([-1], [fault]) if fault.kind == FaultKind::Limit => "limit".to_owned(),
        ([-1], [fault]) => {
            assert_eq!((fault.kind, fault.rows, fault.first_row, fault.line), (FaultKind::Exception, 1, 0, Some(3)), "{fault:?}");
            fault.message.split(':').next().unwrap_or_default().to_owned()
        }
        other => format!("{other:?}"),
    }
}

fn both_tiers_agree_with_python() {
    let (runtime, row) = (runtime(), row());
    let mut wrong = Vec::new();
    let mut compiled = 0;
    for case in cases() {
        let function = match function(&code(&case.expression)) {
            Ok(function) => function,
            Err(refusal) => {
                wrong.push(format!("{}: refused: {refusal}", case.expression));
                continue;
            }
        };
        if case.compiled {
            compiled += 1;
            match function.tier() {
                Tier::Compiled => match runtime.evaluate(&function, &row) {
                    Ok(outcome) if told(&outcome) == case.expected => {}
                    other => wrong.push(format!("{} compiled: {other:?}, not {}", case.expression, case.expected)),
                },
                tier => wrong.push(format!("{} is not compiled: {tier:?}", case.expression)),
            }
        }
        if case.interpreted {
            match runtime.evaluate_interpreted(&function, &row) {
                Ok(outcome) if told(&outcome) == case.expected => {}
                other => wrong.push(format!("{} interpreted: {other:?}, not {}", case.expression, case.expected)),
            }
        }
    }
    assert!(compiled > 200, "{compiled} cases for the compiled tier");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn awkward_rows() -> RecordBatch {
    let exact = 1i64 << 53;
    let ints =
        vec![Some(0), Some(1), Some(-3), Some(exact), Some(exact + 1), Some(-exact - 1), Some(i64::MAX), Some(i64::MIN), None, Some(7)];
    let others = vec![Some(2), Some(0), Some(7), Some(-1), Some(exact), Some(3), Some(1), Some(-1), Some(5), None];
    let floats = [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9007199254740992.0, 1e300, -2.5, 9.3e18];
    let texts =
        vec![Some("a"), Some(""), Some("Abc"), None, Some("12"), Some(" x "), Some("\u{e9}t\u{e9}"), Some("abc"), Some("1.5"), Some("a\n")];
    let truths = vec![Some(true), Some(false), None, Some(true), Some(true), Some(false), Some(true), Some(false), None, Some(true)];
    rows(vec![
        ("i", Arc::new(Int64Array::from(ints)) as ArrayRef),
        ("j", Arc::new(Int64Array::from(others))),
        ("f", Arc::new(Float64Array::from(floats.to_vec()))),
        ("s", Arc::new(StringArray::from(texts))),
        ("b", Arc::new(BooleanArray::from(truths))),
    ])
}

fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "row['i']",
        "row['j']",
        "row['f']",
        "row['s']",
        "row['b']",
        "row['k']",
        "row.get('k', 2)",
        "0",
        "1",
        "-2",
        "2.5",
        "None",
        "True",
        "'a'",
        "''",
        "9007199254740993",
        "1e300",
    ]);
    let leaf = leaf.prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let binary = prop::sample::select(vec!["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"]);
        let unary = prop::sample::select(vec![
            "not ",
            "-",
            "abs",
            "int",
            "float",
            "bool",
            "str",
            "len",
            "round",
            "math.floor",
            "math.sqrt",
            "math.isnan",
        ]);
        let method = prop::sample::select(vec![".lower()", ".strip()", ".isdigit()", ".startswith('a')", ".find('b')"]);
        prop_oneof![
            4 => (inner.clone(), binary, inner.clone()).prop_map(|(left, op, right)| format!("({left} {op} {right})")),
            2 => (unary, inner.clone()).prop_map(|(op, operand)| match op {
                "not " | "-" => format!("({op}{operand})"),
                call => format!("{call}({operand})"),
            }),
            1 => (inner.clone(), method).prop_map(|(subject, method)| format!("({subject}){method}")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} < {b} <= {c})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("max({a}, {b})")),
            1 => inner.clone().prop_map(|a| format!("({a} in (1, 2.5, 'a', None))")),
            1 => inner.prop_map(|a| format!("({a} is None)")),
        ]
    })
}

/// The exceptions of each fault; rows whose arithmetic only one tier does are not compared.
fn comparable(outcome: &Outcome) -> Vec<(Option<u32>, FaultKind, String, u64)> {
    let heading = |fault: &Fault| fault.message.split(':').next().unwrap_or_default().to_owned();
    let mut faults: Vec<_> = outcome.faults.iter().map(|fault| (fault.line, fault.kind, heading(fault), fault.rows)).collect();
    faults.sort();
    faults
}

fn agree(runtime: &Runtime, function: &Function, rows: &RecordBatch) -> Result<(), String> {
    let compiled = runtime.evaluate(function, rows).map_err(|error| error.to_string())?;
    let interpreted = runtime.evaluate_interpreted(function, rows).map_err(|error| error.to_string())?;
    let limited = |outcome: &Outcome| outcome.faults.iter().any(|fault| fault.kind == FaultKind::Limit);
    if limited(&compiled) || limited(&interpreted) {
        // Only where neither limit plays a part is a vote comparable.
        let rows = compiled.votes.iter().zip(&interpreted.votes).enumerate();
        let mut both = rows.filter(|(_, (left, right))| **left != -1 && **right != -1);
        return match both.find(|(_, (left, right))| left != right) {
            Some((row, (left, right))) => Err(format!("row {row}: {left} compiled, {right} interpreted")),
            None => Ok(()),
        };
    }
    if compiled.votes != interpreted.votes || comparable(&compiled) != comparable(&interpreted) {
        return Err(format!(
            "compiled {:?} {:?}\ninterpreted {:?} {:?}",
            compiled.votes, compiled.faults, interpreted.votes, interpreted.faults
        ));
    }
    Ok(())
}

fn random_expressions_agree() {
    let (runtime, rows) = (runtime(), awkward_rows());
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&expressions(), |expression| {
        let code = format!("import math\ndef labeling_function(row):\n    if {expression}:\n        return YES\n    return NO\n");
        match function(&code) {
            Ok(function) if *function.tier() == Tier::Compiled => {
                agree(&runtime, &function, &rows).map_err(|difference| TestCaseError::fail(format!("{expression}\n{difference}")))
            }
            // What is not compiled has nothing to be compared with.
            Ok(_) => Ok(()),
            Err(refusal) if refusal.code == "lf_unsupported" => Ok(()),
            Err(refusal) => Err(TestCaseError::fail(format!("{expression}: {refusal}"))),
        }
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

const STATEMENTS: &[&str] = &[
    "def labeling_function(row):\n    x = row['i']\n    if row['b']:\n        x = row['f']\n    elif row['s'] == 'Abc':\n        x = row['s']\n    y = x\n    if y == 0:\n        return YES\n    return NO if y is None else MAYBE\n",
    "def labeling_function(row):\n    if row['b']:\n        x = 1\n    if row['i'] is None:\n        return NO\n    return x\n",
    "def labeling_function(row):\n    score = 0\n    if row['i'] and row['i'] > 0:\n        score += 1\n    if row['b']:\n        score += 2.0\n    return score\n",
    "def labeling_function(row):\n    if row['s'] is None:\n        return\n    if row['f'] > 0:\n        return row['f'] == 1.5\n    return 2.0 if row['j'] else 99\n",
    "LIMIT = 60 * 60\nNAMES = ('a', 'Abc')\ndef far(x, by):\n    if x is None:\n        return False\n    return x > by\ndef labeling_function(row):\n    if far(row['i'], LIMIT) or row['s'] in NAMES:\n        return YES\n    return ABSTAIN if far(row['j'], 2) else NO\n",
    "YES = 50\nHIGH = YES + 1\ndef labeling_function(row):\n    return YES if HIGH == 51 else NO\n",
    "def labeling_function(row):\n    MAYBE = 1\n    return MAYBE\n",
    "def labeling_function(row):\n    pass\n",
    "def labeling_function(row):\n    row['i'] + 1\n    return row['s']\n",
    "import re\nP = re.compile(r'^a')\ndef labeling_function(row):\n    return YES if P.match(row['s']) else NO\n",
];

fn statements_agree() {
    let (runtime, rows) = (runtime(), awkward_rows());
    for code in STATEMENTS {
        let function = function(code).unwrap_or_else(|refusal| panic!("{refusal}\n{code}"));
        assert_eq!(*function.tier(), Tier::Compiled, "{code}");
        agree(&runtime, &function, &rows).unwrap_or_else(|difference| panic!("{code}\n{difference}"));
    }
}

fn a_compiled_function_needs_no_worker() {
    let config = desireline_labelling::RuntimeConfig { worker: Some("/nonexistent".into()), ..support::config() };
    let runtime = Runtime::new(config);
    let compiled = function("def labeling_function(row):\n    return YES if row.j > 1 else ABSTAIN\n").expect("a function");
    let outcome = runtime.evaluate(&compiled, &awkward_rows()).expect("no worker is asked for");
    assert_eq!(outcome.votes, [1, -1, 1, -1, 1, 1, -1, -1, 1, -1]);
    assert_eq!(outcome.faults.len(), 1, "{:?}", outcome.faults);
    assert_eq!((outcome.faults[0].rows, outcome.faults[0].first_row, outcome.faults[0].line), (1, 9, Some(2)));
    let interpreted = function("def labeling_function(row):\n    for x in [1]:\n        return x\n").expect("a function");
    assert_eq!(*interpreted.tier(), Tier::Interpreted { construct: "for".to_owned(), line: 2 });
    let error = runtime.evaluate(&interpreted, &awkward_rows()).expect_err("there is no worker");
    assert_eq!(error.code(), "lf_unavailable");
}

fn documented_row() -> RecordBatch {
    rows(vec![
        ("x", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
        ("s", Arc::new(StringArray::from(vec!["Hello"]))),
        ("b", Arc::new(BooleanArray::from(vec![true]))),
        ("d", Arc::new(TimestampMicrosecondArray::from(vec![MOMENT]))),
        ("n", Arc::new(NullArray::new(1))),
    ])
}

/// Each row of the table of constructs is tried: its tier, and that the example, which is true or a statement, gives a vote.
fn the_documentation_is_true() {
    let text = include_str!("../../docs/labelling-functions.md");
    let (runtime, row) = (runtime(), documented_row());
    let mut seen = std::collections::BTreeMap::new();
    for line in text.lines() {
        let Some((rest, tier)) = line.strip_suffix(" |").and_then(|line| line.rsplit_once("| ")) else { continue };
        let Some((_, example)) = rest.trim().strip_suffix('`').and_then(|rest| rest.rsplit_once("| `")) else { continue };
        if !["compiled", "interpreted", "refused"].contains(&tier) {
            continue;
        }
        *seen.entry(tier).or_insert(0) += 1;
        let statement = ["y =", "if ", "for ", "while ", "try:", "assert ", "class ", "del ", "yield ", "import "];
        let code = if statement.iter().any(|start| example.starts_with(start)) {
            format!("def labeling_function(row):\n    {}\n    return YES\n", example.replace(" \u{23ce} ", "\n    "))
        } else {
            format!("def labeling_function(row):\n    return YES if {example} else NO\n")
        };
        match (function(&code), tier) {
            (Err(refusal), "refused") => assert!(refusal.line.is_some(), "{example}: {refusal:?}"),
            (Ok(function), "compiled" | "interpreted") => {
                assert_eq!(*function.tier() == Tier::Compiled, tier == "compiled", "{example}: {:?}", function.tier());
                let outcome = runtime.evaluate(&function, &row).unwrap_or_else(|error| panic!("{example}: {error}"));
                assert_eq!((outcome.votes.as_slice(), outcome.faults.as_slice()), ([1].as_slice(), [].as_slice()), "{example}");
                assert_eq!(runtime.evaluate_interpreted(&function, &row).map(|outcome| outcome.votes), Ok(vec![1]), "{example}");
            }
            (other, tier) => panic!("{example} is not {tier}: {other:?}"),
        }
    }
    assert!(seen.values().all(|&examples| examples >= 10) && seen.len() == 3, "{seen:?}");
}
