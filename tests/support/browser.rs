//! A real browser: headless Chromium, driven over its DevTools protocol.
//!
//! The protocol runs over two pipes (`--remote-debugging-pipe`): JSON messages, each ended by a zero byte, on the browser's
//! descriptors 3 and 4, which a shell connects to our ends of stdin and stdout. No port, no WebSocket, no extra dependency.
//!
//! A [`Page`] keeps what matters for a test: console errors, uncaught exceptions, and the address of every request, so that a test
//! can demand that a page talks to its own server alone. Names other than the loopback address do not resolve in this browser.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::services;
use super::wait::{DEADLINE, eventually_true};

/// The programs that are Chromium, in the order in which they are tried.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A running browser. Dropping it ends it.
pub struct Browser {
    child: Child,
    input: Mutex<ChildStdin>,
    shared: Arc<Shared>,
    _profile: TempDir,
}

#[derive(Default)]
struct Shared {
    next: Mutex<u64>,
    waiting: Mutex<HashMap<u64, Sender<Value>>>,
    events: Mutex<Vec<Value>>,
}

/// What a page looks like: size in CSS pixels and colour scheme.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub mobile: bool,
}

impl Look {
    pub const DESKTOP: Look = Look { width: 1280, height: 900, dark: false, mobile: false };
    pub const DESKTOP_DARK: Look = Look { dark: true, ..Look::DESKTOP };
    pub const PHONE: Look = Look { width: 390, height: 844, dark: false, mobile: true };
}

/// One open page.
pub struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

impl Browser {
    /// Start the browser; `None` after reporting the test as skipped when there is none.
    #[track_caller]
    pub fn start() -> Option<Browser> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = PROGRAMS.iter().find(|program| std::env::split_paths(&paths).any(|folder| folder.join(program).is_file()));
        let Some(program) = found else {
            services::skip("chromium");
            return None;
        };
        let profile = TempDir::with_prefix("desireline-browser-").expect("a temporary folder can be made");
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$BROWSER_LOG""#, program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-pipe", "--no-proxy-server"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .env("BROWSER_LOG", profile.path().join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the browser can be started");
        let input = Mutex::new(child.stdin.take().expect("stdin is a pipe"));
        let output = child.stdout.take().expect("stdout is a pipe");
        let shared = Arc::new(Shared::default());
        let readers = Arc::clone(&shared);
        std::thread::spawn(move || readers.read(BufReader::new(output)));
        Some(Browser { child, input, shared, _profile: profile })
    }

    /// Open an address in a new page and wait until it has loaded.
    #[track_caller]
    pub fn open(&self, url: &str, look: Look) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let attached = self.call(None, "Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a session has an id").to_owned();
        let page = Page { browser: self, session };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.look(look);
        let answer = page.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url} could not be opened: {}", answer["errorText"]);
        page.wait_for("document.readyState === 'complete'");
        page
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = {
            let mut next = self.shared.next.lock().unwrap();
            *next += 1;
            *next
        };
        let (sender, receiver): (Sender<Value>, Receiver<Value>) = channel();
        self.shared.waiting.lock().unwrap().insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.lock().unwrap().write_all(&bytes).expect("the browser listens");
        let answer = receiver.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{method}: no answer from the browser ({error})"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].clone()
    }
}

impl Shared {
    /// Sort the browser's messages into answers and events, until it ends.
    fn read(&self, mut output: impl BufRead) {
        let mut message = Vec::new();
        while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
            message.pop();
            if let Ok(value) = serde_json::from_slice::<Value>(&message) {
                match value["id"].as_u64() {
                    Some(id) => {
                        if let Some(sender) = self.waiting.lock().unwrap().remove(&id) {
                            let _ = sender.send(value);
                        }
                    }
                    None => self.events.lock().unwrap().push(value),
                }
            }
            message.clear();
        }
        // Nobody will be answered any more: let those who wait know at once.
        self.waiting.lock().unwrap().clear();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page<'_> {
    fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters)
    }

    /// Change size and colour scheme.
    pub fn look(&self, look: Look) {
        let metrics = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.mobile });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The value of a JavaScript expression; promises are awaited, an exception fails the test.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Wait until an expression is true.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        self.wait_for_within(expression, DEADLINE);
    }

    /// Wait until an expression is true, at most for the given time.
    #[track_caller]
    pub fn wait_for_within(&self, expression: &str, deadline: Duration) {
        eventually_true(expression, deadline, || self.eval(&format!("Boolean({expression})")) == json!(true));
    }

    /// The document as it is now.
    #[track_caller]
    pub fn html(&self) -> String {
        self.eval("document.documentElement.outerHTML").as_str().unwrap_or_default().to_owned()
    }

    /// The visible text of the first element that a CSS selector finds; fails when there is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText ?? null", json!(selector)));
        text.as_str().unwrap_or_else(|| panic!("no element {selector}")).to_owned()
    }

    /// Click the first element that a CSS selector finds.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = self.eval(&format!("(e => (e?.click(), e !== null))(document.querySelector({}))", json!(selector)));
        assert_eq!(found, json!(true), "no element {selector}");
    }

    /// Whether the page can be scrolled sideways, which a page on a phone must not.
    #[track_caller]
    pub fn overflows_sideways(&self) -> bool {
        self.eval("document.documentElement.scrollWidth > document.documentElement.clientWidth") == json!(true)
    }

    /// Write a PNG of the page: what is visible, or the full height.
    #[track_caller]
    pub fn screenshot(&self, file: &Path, full: bool) {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": full }));
        let text = answer["data"].as_str().expect("a screenshot has data");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("the browser writes base64");
        std::fs::write(file, bytes).expect("the screenshot can be written");
    }

    /// The addresses of all requests so far, in order.
    pub fn requests(&self) -> Vec<String> {
        let events = self.events("Network.requestWillBeSent");
        events.iter().filter_map(|event| event["request"]["url"].as_str().map(str::to_owned)).collect()
    }

    /// Requests that went anywhere but to `base`; `data:` and `blob:` addresses leave nothing.
    pub fn foreign_requests(&self, base: &str) -> Vec<String> {
        let own = |url: &String| url.starts_with(base) || url.starts_with("data:") || url.starts_with("blob:");
        self.requests().into_iter().filter(|url| !own(url)).collect()
    }

    /// Console errors and warnings, uncaught exceptions, and errors that the browser itself reports (a missing file, a blocked request).
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for event in self.events("Runtime.consoleAPICalled") {
            if event["type"] == "error" || event["type"] == "warning" {
                errors.push(format!("console: {}", event["args"]));
            }
        }
        for event in self.events("Runtime.exceptionThrown") {
            errors.push(format!("exception: {}", event["exceptionDetails"]));
        }
        for event in self.events("Log.entryAdded") {
            if event["entry"]["level"] == "error" {
                errors.push(format!("log: {} {}", event["entry"]["text"], event["entry"]["url"]));
            }
        }
        errors
    }

    fn events(&self, method: &str) -> Vec<Value> {
        let events = self.browser.shared.events.lock().unwrap();
        let own = events.iter().filter(|event| event["sessionId"] == self.session.as_str() && event["method"] == method);
        own.map(|event| event["params"].clone()).collect()
    }
}
