//! Labelling functions: Python of users that votes on rows.
//!
//! A [`Function`] is text that was checked once; a [`Runtime`] gives the votes of a function for the rows of an Arrow batch, with the
//! faults of rows that abstain for another reason than their function's word. What a function means is Python's meaning, exactly; where
//! that cannot be had, the function is refused when it is made, or the row is a fault of kind [`FaultKind::Limit`]. It is never another
//! vote.
//!
//! # Two tiers
//!
//! * **Compiled**: the tree is lowered to a program (`lower`, `ir`) that a machine runs for 4,096 rows at a time on whole columns
//!   (`machine`, `vector`, `kernels`). Comparisons and boolean logic take 2 to 3 ns a row, `math` and `datetime` about 10, `re` 25 to 30.
//! * **Interpreted**: everything else that is supported runs in a Python interpreter in a worker process (`worker`, `pool`), at about a
//!   microsecond a row. The interpreter is given a text in which what it does otherwise than Python is put right (`rewrite`, `prelude`).
//!
//! A row of a compiled function whose next step would not be exact is interpreted from its beginning; functions have no effects but their
//! vote, so nothing is done twice that matters.
//!
//! # What is trusted
//!
//! Nobody's code. It is parsed within limits on a stack of its own (`parse`), names that reach out of a function are refused (`check`),
//! compiled programs have no loops, a deadline, and bounds on depth and on what they allocate, and workers are locked down and believed
//! nothing. `tests/hostile.rs` has the cases.
//!
//! # Known limitations
//!
//! * A deadline is the clock's, so a slow machine may fail an evaluation that a fast one completes. It never changes a vote: the whole
//!   evaluation fails.
//! * Memory of a worker is bounded by its address space; a function that exceeds it ends its worker, and its evaluation fails.
//! * Workers need Linux on `x86_64` or `aarch64`.
//! * Texts follow the Unicode version of this build.
//!
//! `docs/labelling-functions.md` is the users' side, and its table of constructs is checked by a test.

mod check;
mod columns;
mod evaluate;
mod facts;
mod ir;
mod kernels;
mod lower;
mod machine;
mod mask;
mod mathematics;
mod parse;
mod pattern;
mod pool;
mod prelude;
mod python;
mod refusal;
mod rewrite;
mod source;
mod temporal;
mod text;
mod vector;
mod worker;

pub use evaluate::{EvaluateError, Function, Outcome, Runtime, RuntimeConfig, Tier};
pub use refusal::Refusal;
pub use source::{ABSTAIN, Module, Source, constant_name, template};
pub use worker::main::worker_main;
pub use worker::protocol::{Fault, FaultKind};
