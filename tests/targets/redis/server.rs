//! Keys of a test's own in the Redis of the environment, and Redis servers of a test's own.

use crate::support::server::free_port;
use crate::support::services;
use crate::support::wait::{DEADLINE, eventually};
use redis::{Commands, Connection};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A prefix that nobody else uses. What stands under it is removed at the end.
pub struct Space {
    pub url: String,
    pub prefix: String,
    pub connection: Connection,
}

impl Space {
    /// In the Redis of the environment; `None` after reporting the test as skipped.
    #[track_caller]
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = services::redis()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
        // Characters of patterns, too: they stand for themselves.
        let prefix = format!("test[{}]-{now}-{}*:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self::at(&url, prefix))
    }

    fn at(url: &str, prefix: String) -> Self {
        let connection = redis::Client::open(url).expect("a good URL").get_connection().expect("Redis answers");
        Self { url: url.to_owned(), prefix, connection }
    }

    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Keys under the prefix that match a pattern, without the prefix, in order.
    pub fn keys(&mut self, pattern: &str) -> Vec<String> {
        self.found(pattern).expect("Redis answers")
    }

    fn found(&mut self, pattern: &str) -> redis::RedisResult<Vec<String>> {
        let pattern = format!("{}{pattern}", self.prefix.replace('[', "\\[").replace(']', "\\]").replace('*', "\\*"));
        let found: Vec<String> = self.connection.keys(pattern)?;
        let mut found: Vec<String> = found.iter().map(|key| key[self.prefix.len()..].to_owned()).collect();
        found.sort();
        Ok(found)
    }

    pub fn state(&mut self, field: &str) -> Option<String> {
        let key = self.key("desireline:projection");
        self.connection.hget(key, field).expect("Redis answers")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The server may be gone by now.
        for key in self.found("*").unwrap_or_default() {
            let key = self.key(&key);
            let _: u64 = self.connection.del(key).unwrap_or_default();
        }
    }
}

/// A Redis that keeps nothing, on a port of its own.
pub struct Server {
    pub url: String,
    port: u16,
    options: Vec<String>,
    child: Child,
}

impl Server {
    /// `None`, with the test reported as skipped, where there is no `redis-server`.
    #[track_caller]
    pub fn start(options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            services::skip("redis-server");
            return None;
        }
        let port = free_port();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = launch(port, &options);
        Some(Self { url: format!("redis://127.0.0.1:{port}/0"), port, options, child })
    }

    pub fn space(&self) -> Space {
        Space::at(&self.url, String::new())
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again, empty.
    pub fn again(&mut self) {
        self.child = launch(self.port, &self.options);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string()).args(options);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server starts");
    eventually("redis-server to listen", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)));
    child
}
