//! Labelling functions.

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
