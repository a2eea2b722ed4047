//! What the end-to-end tests share: the real server, the real services, a real browser, and waiting.
//!
//! A test binary takes it with `mod support;`. Nothing here sleeps for a fixed time: every wait is for a condition, has a
//! deadline, and says on failure what it waited for and what it last saw.
//!
//! **Services.** [`services::kafka`], [`services::s3`] and so on return `None` when the service is not there, after writing one
//! line that begins with `skipped: `; the test then returns. With `DESIRELINE_TEST_SERVICES=required` (what `scripts/test` sets once
//! its services run) a missing service is a failure instead, so a test cannot be skipped by accident.
//!
//! **Ports.** Servers listen between 10000 and 19999: below the ports that the kernel gives to outgoing connections, so a server can
//! be killed and started again on its port; and apart from the range of `scripts/services`.
//!
//! Known limitations: Linux only (`/proc`, `kill`); one server per [`server::Server`], no clusters.
#![allow(dead_code, reason = "every test binary uses a part of this module")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails the test that called it")]

pub mod browser;
pub mod command;
pub mod http;
pub mod kafka;
pub mod model;
pub mod proxy;
#[path = "../../dataflows/tests/histories/random.rs"]
pub mod random;
pub mod server;
pub mod services;
pub mod wait;
