//! A data scientist tells kinds of devices apart without a notebook: sampled and described by SQL, labelled by Python functions, classified.
//!
//! Every test starts the real binary, beside a real PostgreSQL, MariaDB and object store where the data are somebody else's. The 300 devices
//! are of three kinds, and what each step has to find is written down by hand.
#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod client;
mod database;
mod devices;
mod edges;
mod external;
mod hostile;
mod live;
mod restarts;
mod steps;
#[path = "../support/mod.rs"]
mod support;
