//! The real binary, started, killed, stopped and started again on one data folder and one port.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::http::Http;
use super::wait::{DEADLINE, eventually};

/// A server to be started; made by [`Server::new`].
pub struct ServerBuilder {
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data: Option<PathBuf>,
    remote: bool,
    token: Option<String>,
    ready_deadline: Duration,
}

/// A server process. Dropping it kills the process and, unless the data folder was given, removes the data. When the test is
/// failing, the end of the server's log is printed.
pub struct Server {
    folder: TempDir,
    data: PathBuf,
    port: u16,
    child: Option<Child>,
    settings: ServerBuilder,
    pub http: Http,
}

impl Server {
    /// A server with the embedded defaults; see the builder's methods for what can be changed.
    #[expect(clippy::new_ret_no_self, reason = "the server exists once it is started")]
    pub fn new() -> ServerBuilder {
        ServerBuilder {
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            data: None,
            remote: false,
            token: None,
            ready_deadline: DEADLINE,
        }
    }

    /// The address of the server, `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder of the test's own, outside the data folder, removed with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Everything that all processes of this server have written to stdout and stderr.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Start the process without waiting for anything.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let config = self.folder.path().join("desireline.toml");
        fs::write(&config, &self.settings.config).expect("the configuration can be written");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("the log can be opened");
        let mut command = Command::new(env!("CARGO_BIN_EXE_desireline"));
        command.arg("serve").arg("--config").arg(&config);
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        if self.settings.remote {
            command.env("DESIRELINE__DATA__DIR", &self.data);
        } else {
            command.arg("--data").arg(&self.data);
        }
        command.args(&self.settings.arguments).envs(self.settings.environment.iter().cloned());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
        self.child = Some(command.spawn().expect("the binary can be started"));
    }

    /// Wait until `/ready` answers 200; fails at once when the process ends before.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let deadline = self.settings.ready_deadline;
        let child = self.child.as_mut().expect("the server runs");
        let http = &self.http;
        let ended = eventually("the server to be ready", deadline, || {
            if let Some(status) = child.try_wait().expect("the process can be asked") {
                return Ok(Some(status));
            }
            match http.try_send(reqwest::Method::GET, "/ready", &[], Vec::new()) {
                Ok(reply) if reply.status == 200 => Ok(None),
                Ok(reply) => Err(format!("status {}: {}", reply.status, reply.text())),
                Err(error) => Err(format!("{error}")),
            }
        });
        if let Some(status) = ended {
            panic!("the server ended before it was ready: {status}");
        }
    }

    /// SIGKILL: no destructor runs, no buffer is flushed. Returns when the process is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("the process can be killed");
        child.wait().expect("the process can be waited for");
    }

    /// SIGTERM, then wait for the process to end by itself.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit()
    }

    /// Wait for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the server runs");
        let status = eventually("the server to end", DEADLINE, || {
            child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "still running".to_owned())
        });
        self.child = None;
        status
    }

    /// Send a signal by name (`TERM`, `INT`, `STOP`, `CONT`).
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill can be run").success(), "the signal {name} was not delivered");
    }

    /// Start again after [`Server::kill`] or [`Server::stop`]: same data, same port, same settings; returns when ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Kill and start again.
    #[track_caller]
    pub fn crash(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Replace the configuration; used by the next start.
    pub fn set_config(&mut self, config: impl Into<String>) {
        self.settings.config = config.into();
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number of kB");
        kib * 1024
    }

    /// User and system CPU time of the process so far, in seconds.
    #[track_caller]
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process runs");
        // The command's name stands in parentheses; what follows it begins with field 3, and 14 and 15 are the times in ticks.
        let (_, fields) = stat.rsplit_once(')').expect("the name ends");
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        ticks as f64 / 100.0
    }
}

impl ServerBuilder {
    /// The text of the configuration file.
    pub fn config(mut self, text: impl Into<String>) -> ServerBuilder {
        self.config = text.into();
        self
    }

    /// A further command line argument.
    pub fn arg(mut self, argument: impl Into<String>) -> ServerBuilder {
        self.arguments.push(argument.into());
        self
    }

    /// A variable of the environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> ServerBuilder {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A data folder that outlives the server.
    pub fn data(mut self, folder: impl Into<PathBuf>) -> ServerBuilder {
        self.data = Some(folder.into());
        self
    }

    /// The configuration names an object store, which the flag `--data` would override.
    pub fn remote(mut self) -> ServerBuilder {
        self.remote = true;
        self
    }

    /// The bearer token that the helper sends.
    pub fn token(mut self, token: impl Into<String>) -> ServerBuilder {
        self.token = Some(token.into());
        self
    }

    /// How long a start may take until ready.
    pub fn ready_deadline(mut self, deadline: Duration) -> ServerBuilder {
        self.ready_deadline = deadline;
        self
    }

    /// Make the folders and choose the port, start nothing.
    pub fn build(self) -> Server {
        let folder = TempDir::with_prefix("desireline-server-").expect("a temporary folder can be made");
        let data = self.data.clone().unwrap_or_else(|| folder.path().join("data"));
        let port = free_port();
        let mut http = Http::new(format!("http://127.0.0.1:{port}"));
        if let Some(token) = &self.token {
            http = http.with_token(token.clone());
        }
        Server { folder, data, port, child: None, settings: self, http }
    }

    /// Start the server and return once it is ready.
    #[track_caller]
    pub fn start(self) -> Server {
        let mut server = self.build();
        server.start_again();
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<&str> = logs.lines().collect();
            eprintln!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A port between 10000 and 19999 on which nothing listens.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Different processes begin at different places; within a process no port is handed out twice.
    let begin = std::process::id().wrapping_mul(2_654_435_761) >> 8;
    (0..10_000)
        .map(|_| 10_000 + (begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of ten thousand ports is free")
}
