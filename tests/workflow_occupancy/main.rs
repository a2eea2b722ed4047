//! A facilities team asks how full its buildings were: datasets of a tree of spaces, as an external database has them and as the log has them.
//!
//! Every test starts the real binary beside a real PostgreSQL and a real object store. Expected values are written down by hand.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod campus;
mod client;
mod corrections;
mod external;
mod live;
mod outages;
#[path = "../support/mod.rs"]
mod support;
