//! Functions that mean harm, and workers that lie, against the real pool and the real worker.
//!
//! Each case ends in a refusal, an abstention or a clean error, while another function is evaluated as ever by the same runtime.

mod support;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use desireline_labelling::{EvaluateError, FaultKind, Function, Outcome, Runtime, RuntimeConfig, Tier};
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Test, function, rows, runtime};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("liar") {
        return lie(&arguments.next().unwrap_or_default());
    }
    support::main(TESTS)
}

const TESTS: &[Test] = &[
    ("an_ordinary_function_votes", an_ordinary_function_votes),
    ("what_runs_is_bounded", what_runs_is_bounded),
    ("what_must_not_run_is_refused", what_must_not_run_is_refused),
    ("deep_code_is_refused_by_its_depth", deep_code_is_refused_by_its_depth),
    ("a_limit_is_a_fault_of_its_rows_alone", a_limit_is_a_fault_of_its_rows_alone),
    ("votes_do_not_depend_on_the_rows_before", votes_do_not_depend_on_the_rows_before),
    ("compiled_code_is_bounded_too", compiled_code_is_bounded_too),
    ("a_worker_is_believed_nothing", a_worker_is_believed_nothing),
    ("more_functions_than_workers_wait_for_each_other", more_functions_than_workers_wait_for_each_other),
];

fn votes(runtime: &Runtime, code: &str, rows: &RecordBatch) -> Outcome {
    let function = function(code).unwrap_or_else(|refusal| panic!("{refusal}\n{code}"));
    runtime.evaluate(&function, rows).unwrap_or_else(|error| panic!("{error}\n{code}"))
}

fn small_rows() -> RecordBatch {
    let numbers = Arc::new(Int64Array::from(vec![Some(1), Some(5), None])) as ArrayRef;
    rows(vec![("x", numbers), ("s", Arc::new(StringArray::from(vec!["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"; 3])))])
}

fn an_ordinary_function_votes() {
    let code = "import statistics\nYES = 77\ndef labeling_function(row):\n    for step in range(3):\n        if row.x > step + 2 and round(2.675, 2) == 2.67:\n            return YES\n    return statistics.mean([3, 1])\n";
    let outcome = votes(&runtime(), code, &small_rows());
    assert_eq!(outcome.votes, [2, 1, -1]);
    assert_eq!(outcome.faults.len(), 1, "{:?}", outcome.faults);
    assert_eq!((outcome.faults[0].line, outcome.faults[0].first_row), (Some(5), 2));
    assert!(outcome.faults[0].message.starts_with("TypeError: '>' not supported"), "{:?}", outcome.faults);
}

fn hasty() -> Runtime {
    Runtime::new(RuntimeConfig { deadline: Duration::from_millis(700), memory_bytes_max: 160 << 20, ..RuntimeConfig::default() })
}

/// How a case may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Deadline,
    /// The worker died, or was out of time before that.
    Crashed,
    /// Every row abstains, with a fault of this kind.
    Abstains(FaultKind),
}

const HARMFUL: &[(&str, &str, &[End])] = &[
    ("an infinite loop", "    while True:\n        pass\n", &[End::Deadline]),
    (
        "a loop that catches everything",
        "    while True:\n        try:\n            while True:\n                pass\n        except BaseException:\n            pass\n",
        &[End::Deadline],
    ),
    ("a list that grows", "    x = []\n    while True:\n        x.append('a' * 100000)\n", &[End::Crashed, End::Deadline]),
    ("a huge text", "    for i in [1]:\n        return len('a' * 10 ** 10)\n", &[End::Abstains(FaultKind::Limit)]),
    ("a huge power", "    for i in [1]:\n        return 2 ** 10 ** 9\n", &[End::Abstains(FaultKind::Limit)]),
    (
        "squares of squares",
        "    x = 3\n    for i in range(100):\n        x = x * x\n    return 1\n",
        &[End::Deadline, End::Crashed, End::Abstains(FaultKind::Limit)],
    ),
    ("unbounded recursion", "    def f(n):\n        return f(n + 1)\n    return f(0)\n", &[End::Abstains(FaultKind::Exception)]),
    (
        "a catastrophic pattern",
        "    for i in [1]:\n        return 1 if re.match('(?=(a+)+$)(a|a)*b', row['s']) else 2\n",
        &[End::Deadline, End::Crashed, End::Abstains(FaultKind::Exception), End::Abstains(FaultKind::Limit)],
    ),
    ("a flood of output", "    while True:\n        print('x' * 10000)\n", &[End::Deadline]),
];

fn harmful(body: &str) -> Function {
    function(&format!("import re\ndef labeling_function(row):\n{body}")).unwrap_or_else(|refusal| panic!("{refusal}\n{body}"))
}

/// An ordinary function, over and over, until told to stop; how often it was evaluated.
fn bystander(runtime: &Runtime, stop: &AtomicBool) -> usize {
    let function = function("def labeling_function(row):\n    for limit in [3]:\n        return YES if row['x'] > limit else NO\n")
        .expect("a function");
    let mut times = 0;
    while times == 0 || !stop.load(Ordering::Relaxed) {
        let outcome = runtime.evaluate(&function, &small_rows()).expect("nothing of the other function's is felt");
        assert_eq!(outcome.votes, [2, 1, -1]);
        times += 1;
    }
    times
}

fn what_runs_is_bounded() {
    for (name, body, ends) in HARMFUL {
        let (runtime, function) = (hasty(), harmful(body));
        let stop = AtomicBool::new(false);
        let started = Instant::now();
        let ended = std::thread::scope(|scope| {
            let beside = scope.spawn(|| bystander(&runtime, &stop));
            let ended = runtime.evaluate(&function, &small_rows());
            stop.store(true, Ordering::Relaxed);
            assert!(beside.join().expect("the bystander votes") > 0);
            ended
        });
        let end = match &ended {
            Err(EvaluateError::Deadline { .. }) => End::Deadline,
            Err(EvaluateError::Crashed(_)) => End::Crashed,
            Err(EvaluateError::Unavailable(reason)) => panic!("{name}: {reason}"),
            Ok(outcome) => {
                assert_eq!(outcome.votes, [-1, -1, -1], "{name}");
                assert_eq!(outcome.faults.iter().map(|fault| fault.rows).sum::<u64>(), 3, "{name}: {:?}", outcome.faults);
                End::Abstains(outcome.faults[0].kind)
            }
        };
        assert!(ends.contains(&end), "{name}: {ended:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{name} took {:?}", started.elapsed());
        // The same runtime goes on.
        bystander(&runtime, &AtomicBool::new(true));
    }
}

const FORBIDDEN: &[(&str, &str)] = &[
    ("return __import__('os').getpid()", "Disallowed keyword '__import__' found in custom code"),
    ("return open('/etc/passwd')", "Disallowed keyword 'open(' found in custom code"),
    ("return eval('1')", "Disallowed keyword 'eval(' found in custom code"),
    ("return exec('1')", "Disallowed keyword 'exec(' found in custom code"),
    ("return compile('1', '', 'eval')", "Disallowed keyword 'compile(' found in custom code"),
    ("f = eval\n    return f('1')", "Disallowed keyword 'eval(' found in custom code"),
    ("return getattr(getattr(row, 'x'), 'y')", "Disallowed keyword 'getattr(' found in custom code"),
    ("return ().__class__.__base__.__subclasses__()", "Disallowed keyword '__subclasses__' found in custom code"),
    ("return globals()", "Disallowed keyword 'globals(' found in custom code"),
    ("import os\n    return os.environ", "Disallowed keyword 'import os' found in custom code"),
    ("from os import environ\n    return environ", "Disallowed keyword 'import os' found in custom code"),
    ("import subprocess\n    return 1", "Disallowed keyword 'import subprocess' found in custom code"),
    ("import sys\n    return 1", "Disallowed keyword 'import sys' found in custom code"),
    ("import socket\n    return 1", "Module 'socket' is not in allowed imports list"),
    ("import pathlib\n    return 1", "Module 'pathlib' is not in allowed imports list"),
    ("from asyncio import run\n    return 1", "Module 'asyncio' is not in allowed imports list"),
    ("return '{0.__class__}'.format(row)", ""),
    ("def __dl_any(a, b):\n        return 1\n    return 1", "Disallowed keyword '__dl_any' found in custom code"),
    ("return f'{().__class__}'", "Disallowed keyword '__class__' found in custom code"),
    ("return [eval for x in [1]]", "Disallowed keyword 'eval(' found in custom code"),
    ("return f'{row.x=}'", "= in an f-string is not supported in labelling functions: write the name as text"),
    (
        "return len(re.findall(r'\\s*', row['s']))",
        "a pattern that can match nothing, searched on is not supported in labelling functions: use a pattern of at least one letter",
    ),
    ("return len(re.split('(a)|(b)', row['s']))", "a split at groups is not supported in labelling functions: use (?:\u{2026})"),
    (
        "p = 'a'\n    return len(re.findall(p, row['s']))",
        "a pattern that is not written in the call is not supported in labelling functions: write it there, or use re.search",
    ),
    ("return row['s'].casefold() == 'a'", ".casefold is not supported in labelling functions: use lower()"),
    ("r = round\n    return r(2.675, 2)", "round other than called is not supported in labelling functions: call it where it is needed"),
    (
        "m = re\n    return m.match('a$', 'a')",
        "the name re for anything but the module is not supported in labelling functions: call a function of it",
    ),
    (
        "m = re.match\n    return m('a$', 'a')",
        "re.match other than called is not supported in labelling functions: call it where it is needed",
    ),
    (
        "g = (x for x in [1])\n    return 1",
        "a generator expression here is not supported in labelling functions: use a list in brackets, or a loop",
    ),
    (
        "re = 1\n    return re.match('a', 'a')",
        "the name re for anything but the module is not supported in labelling functions: call a function of it",
    ),
    ("return type(row)", "Disallowed keyword 'type(' found in custom code"),
    ("global X\n    return 1", "global is not supported in labelling functions: a vote may depend on its row only"),
    ("return datetime.datetime.now()", ".now is not supported in labelling functions: a vote may depend on the row only, not on the time"),
];

fn what_must_not_run_is_refused() {
    for (statement, expected) in FORBIDDEN {
        let code = format!("X = 1\ndef labeling_function(row):\n    {statement}\n");
        let accepted = function(&code);
        if expected.is_empty() {
            // Not refused, so it must not get anywhere.
            let outcome = accepted.map(|function| runtime().evaluate(&function, &small_rows()));
            let harmless = match &outcome {
                Err(_) => true,
                Ok(Ok(outcome)) => outcome.votes == [-1, -1, -1],
                Ok(Err(_)) => false,
            };
            assert!(harmless, "{statement}: {outcome:?}");
            continue;
        }
        let refusal = accepted.err().unwrap_or_else(|| panic!("accepted: {statement}"));
        assert_eq!(refusal.message, *expected, "{statement}");
        assert!(refusal.line.is_some_and(|line| line >= 3), "{statement}: {refusal:?}");
        assert_eq!(refusal.to_string(), format!("{expected} (line {}, column {})", refusal.line.unwrap_or(0), refusal.column.unwrap_or(0)));
    }
}

fn deep_code_is_refused_by_its_depth() {
    let returned = |expression: &str| format!("def labeling_function(row):\n    return {expression}\n");
    let deep = [
        returned(&format!("{}1{}", "(".repeat(500), ")".repeat(500))),
        returned(&vec!["1"; 20_000].join("+")),
        returned(&format!("{}1", "-".repeat(60_000))),
        returned(&format!("{}1", "not ".repeat(15_000))),
        returned(&format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000))),
        returned(&format!("row{}", ".x".repeat(30_000))),
        returned(&format!("row{}", "[0]".repeat(20_000))),
        returned(&format!("f{}", "()".repeat(30_000))),
        returned(&format!("{}1", "lambda: ".repeat(7_000))),
        returned(&format!("1{}", " if 1 else 1".repeat(5_000))),
        returned(&format!("1{}", "**1".repeat(20_000))),
    ];
    for code in &deep {
        let refusal = function(code).err().unwrap_or_else(|| panic!("accepted: {}", &code[..60]));
        assert!(refusal.message.contains("more than 100 levels deep"), "{}: {refusal}", &code[..60]);
    }
    let nested = (0..200).map(|depth| format!("{}if row:\n", " ".repeat(depth + 1))).collect::<String>();
    let code = format!("def labeling_function(row):\n{nested}{}pass\n", " ".repeat(201));
    assert!(function(&code).is_err_and(|refusal| refusal.code == "lf_too_large" || refusal.code == "lf_syntax"));
    let long = format!("def labeling_function(row):\n    return 1\n{}", "#".repeat(64 * 1024));
    assert!(function(&long).is_err_and(|refusal| refusal.code == "lf_too_large"));
    let many = format!("def labeling_function(row):\n{}    return 1\n", "    x = 1\n".repeat(5_000));
    assert!(function(&many).is_err_and(|refusal| refusal.code == "lf_too_large"));
    assert!(function("def labeling_function(row):\n    return (\n").is_err_and(|refusal| refusal.code == "lf_syntax"));
    assert!(function("def other(row):\n    return 1\n").is_err_and(|refusal| refusal.code == "lf_no_function"));
    assert!(function("def labeling_function(row, x):\n    return 1\n").is_err_and(|refusal| refusal.code == "lf_no_function"));
}

fn a_limit_is_a_fault_of_its_rows_alone() {
    let code = "def labeling_function(row):\n    for i in [1]:\n        if row['x'] == 5:\n            return len('a' * 10 ** 10)\n        return YES\n";
    let outcome = votes(&runtime(), code, &small_rows());
    assert_eq!(outcome.votes, [1, -1, 1]);
    assert_eq!((outcome.faults[0].kind, outcome.faults[0].line, outcome.faults[0].first_row), (FaultKind::Limit, Some(4), 1));
}

fn votes_do_not_depend_on_the_rows_before() {
    let code = "SEEN = []\ndef labeling_function(row):\n    SEEN.append(1)\n    return len(SEEN)\n";
    assert_eq!(votes(&runtime(), code, &small_rows()).votes, [1, 1, 1]);
    let defaults = "def labeling_function(row):\n    return count()\ndef count(seen=[]):\n    seen.append(1)\n    return len(seen)\n";
    assert_eq!(votes(&runtime(), defaults, &small_rows()).votes, [1, 1, 1]);
}

fn helpers(count: usize, call: &str) -> String {
    let chain: String = (1..=count).map(|n| format!("def f{n}(x):\n    return {}\n", call.replace("F", &format!("f{}", n - 1)))).collect();
    format!("def f0(x):\n    return x\n{chain}def labeling_function(row):\n    return YES if f{count}(row['x']) else NO\n")
}

fn compiled_code_is_bounded_too() {
    // A short text that calls for ever: 2^18 calls.
    let doubling = function(&helpers(18, "F(x) and F(x)")).expect("a function");
    assert_eq!(*doubling.tier(), Tier::Compiled);
    let quick = Runtime::new(RuntimeConfig { deadline: Duration::from_millis(20), ..RuntimeConfig::default() });
    assert!(matches!(quick.evaluate(&doubling, &small_rows()), Err(EvaluateError::Deadline { line: Some(_) })));
    // As deep as it may be, on a thread with as much stack as the service's have.
    let deep = function(&helpers(14, "(F(x) + 1) - 1")).expect("a function");
    assert_eq!(*deep.tier(), Tier::Compiled);
    let small = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || runtime().evaluate(&deep, &small_rows()).map(|outcome| outcome.votes));
    assert_eq!(small.expect("a thread").join().expect("no overflow"), Ok(vec![1, 1, -1]));
    let deeper = function(&helpers(100, "F(x) + 0")).expect("a function");
    assert!(matches!(deeper.tier(), Tier::Interpreted { .. }), "{:?}", deeper.tier());
    assert_eq!(runtime().evaluate(&deeper, &small_rows()).map(|outcome| outcome.votes), Ok(vec![1, 1, -1]));
    // More text than a batch may make: the rest is the interpreter's.
    let texts = Arc::new(StringArray::from(vec!["x".repeat(20_000); 2_500])) as ArrayRef;
    let long = function("def labeling_function(row):\n    return YES if len(row['s'] + row['s']) == 40000 else NO\n").expect("a function");
    assert_eq!(runtime().evaluate(&long, &rows(vec![("s", texts)])).map(|outcome| outcome.votes), Ok(vec![1; 2_500]));
    // A text longer than the compiled tier searches.
    let huge = Arc::new(StringArray::from(vec![format!("{}b", "a".repeat(100_000)), "b".to_owned()])) as ArrayRef;
    let search =
        function("import re\ndef labeling_function(row):\n    return YES if re.search('ab$', row['s']) else NO\n").expect("a function");
    assert_eq!(runtime().evaluate(&search, &rows(vec![("s", huge)])).map(|outcome| outcome.votes), Ok(vec![1, 2]));
}

/// A worker that is not what it says.
fn lie(how: &str) -> ExitCode {
    let frame = |tag: u8, payload: &[u8]| {
        let mut frame = Vec::from(u32::try_from(payload.len() + 1).expect("a short frame").to_le_bytes());
        frame.push(tag);
        frame.extend_from_slice(payload);
        frame
    };
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut say = |frame: &[u8]| output.write_all(frame).and_then(|()| output.flush()).is_ok();
    let mut skip = || {
        let mut length = [0; 4];
        input.read_exact(&mut length).is_ok() && input.read_exact(&mut vec![0; u32::from_le_bytes(length) as usize]).is_ok()
    };
    if how == "never starts" {
        return ExitCode::FAILURE;
    }
    say(&frame(b'S', br#"{"seccomp":true,"landlock":true}"#));
    if how == "silent" {
        // Until it is ended.
        loop {
            std::thread::park();
        }
    }
    skip();
    say(&frame(b'A', br#"{"votes":[],"faults":[],"cpu_nanos":1,"late":null,"error":null}"#));
    skip();
    match how {
        "undeclared" => say(&frame(b'A', br#"{"votes":[99,1,1],"faults":[],"cpu_nanos":1,"late":null,"error":null}"#)),
        "too few" => say(&frame(b'A', br#"{"votes":[1],"faults":[],"cpu_nanos":1,"late":null,"error":null}"#)),
        "nonsense" => say(&frame(b'A', b"{")),
        "huge" => say(&u32::MAX.to_le_bytes()),
        _ => say(b""),
    };
    ExitCode::SUCCESS
}

fn a_worker_is_believed_nothing() {
    let function = function("def labeling_function(row):\n    for x in [1]:\n        return x\n").expect("a function");
    for (how, expected) in [
        ("never starts", "lf_unavailable"),
        ("silent", "lf_deadline"),
        ("undeclared", "lf_crashed"),
        ("too few", "lf_crashed"),
        ("nonsense", "lf_crashed"),
        ("huge", "lf_crashed"),
        ("ends", "lf_crashed"),
    ] {
        let runtime = Runtime::new(RuntimeConfig {
            worker_arguments: vec!["liar".to_owned(), how.to_owned()],
            deadline: Duration::from_millis(200),
            ..RuntimeConfig::default()
        });
        let error = runtime.evaluate(&function, &small_rows()).expect_err("a lie");
        assert_eq!(error.code(), expected, "{how}: {error}");
    }
}

fn more_functions_than_workers_wait_for_each_other() {
    let runtime = Runtime::new(RuntimeConfig { workers_max: 1, ..support::config() });
    let evaluate = |id: i64| {
        let code = format!("def labeling_function(row):\n    for x in [{id}]:\n        return x\n");
        votes(&runtime, &code, &small_rows()).votes
    };
    let evaluate = &evaluate;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=3).map(|id| scope.spawn(move || evaluate(id))).collect();
        for (id, thread) in (1..=3).zip(threads) {
            assert_eq!(thread.join().expect("votes"), [id; 3]);
        }
    });
}
