//! Every target against the real service behind it: what it has at a time is what the views have.

#[path = "../support/mod.rs"]
mod support;

mod kafka;
mod parquet;
mod postgres;
mod redis;
