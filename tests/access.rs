//! Who gets in, seen from outside: the real binary, real sockets, and clients that do not behave.
//!
//! The router's own tests cover each rule by itself. Here the whole of it is asked: that the configuration reaches the rules, that
//! secrets stay out of logs and answers, and that a hostile client costs neither memory nor the service of others.

mod support;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::http::{Http, Reply};
use support::server::{Server, free_port};
use support::wait::{DEADLINE, eventually, eventually_true};

const JSON: (&str, &str) = ("content-type", "application/json");

fn desireline(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_desireline"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DESIRELINE_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("the binary runs")
}

/// The secret and the block of the configuration that `desireline token new` prints.
fn token(scopes: &str) -> (String, String) {
    let output = desireline(&std::env::temp_dir(), &["token", "new", "--name", scopes, "--scopes", scopes]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (secret, block) = text.split_once('\n').expect("a secret and a block");
    (secret.to_owned(), block.to_owned())
}

/// Sends bytes as they are and reads until the server closes the connection.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    // A server that refuses early may close before it has read everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn assert_error(reply: &Reply, status: u16, code: &str) {
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_str()), (status, Some(code)), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    assert_eq!(body["request_id"], reply.header("x-request-id"));
}

#[test]
fn web_pages_of_others_reach_nothing_on_a_loopback_server() {
    let server = Server::new().start();
    let event = r#"{"user_id":"u","event_id":"1"}"#;
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "10.1.2.3"] {
        for path in ["/api/status", "/api/ingest", "/dashboard", "/health", "/openapi.json"] {
            let answer = raw(server.port(), format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes());
            assert_eq!(status_of(&answer), "403", "{host}{path}: {answer}");
            assert!(answer.contains("host_refused") && !answer.contains("access-control-allow-origin"), "{answer}");
        }
    }
    let send = |headers: &[(&str, &str)]| server.http.send(Method::POST, "/api/ingest", headers, event.into());
    assert_error(&send(&[JSON, ("origin", "http://evil.example")]), 403, "origin_refused");
    assert_error(&send(&[JSON, ("origin", "null")]), 403, "origin_refused");
    // What a page may send without being asked first: forms and plain text, here even without an origin.
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain; charset=application/json"]
    {
        assert_error(&send(&[("content-type", kind)]), 415, "unsupported_media_type");
        assert_error(&send(&[("content-type", kind), ("origin", "http://evil.example")]), 403, "origin_refused");
    }
    for path in ["/trigger", "/api/ingest-batch", "/dagster/runs/x/cancel", "/api/dead-letters/x/replay"] {
        let reply = server.http.send(Method::POST, path, &[("content-type", "text/plain")], "{}".into());
        assert_error(&reply, 415, "unsupported_media_type");
    }
    let preflight = server.http.send(
        Method::OPTIONS,
        "/api/ingest",
        &[("origin", "http://evil.example"), ("access-control-request-method", "POST")],
        Vec::new(),
    );
    assert_eq!(preflight.header("access-control-allow-origin"), "");
    let status = server.http.get_json("/api/status");
    assert_eq!(status["sources"].as_array().map_or(0, Vec::len), 0, "nothing was taken: {status}");
    send(&[JSON, ("origin", &server.base())]).expect_status(200);
}

#[test]
fn a_token_opens_its_own_routes_and_leaves_no_trace() {
    let tokens: Vec<(&str, String, String)> = ["ingest", "read", "admin"]
        .map(|scope| {
            let (secret, block) = token(scope);
            (scope, secret, block)
        })
        .to_vec();
    let config: String = tokens.iter().map(|(_, _, block)| block.as_str()).collect();
    let server = Server::new().config(config).start();
    let document = server.http.get_json("/openapi.json");
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Some(scope) = operation["security"][1]["bearer"][0].as_str() else { continue };
            routes += 1;
            let uri = path.replace("{source_id}", "1").replace(['{', '}'], "");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let ask = |authorization: &str| {
                server.http.send(
                    method.clone(),
                    &uri,
                    &[("authorization", authorization), ("content-type", "application/json")],
                    "7".into(),
                )
            };
            assert_error(&server.http.send(method.clone(), &uri, &[JSON], "7".into()), 401, "unauthenticated");
            for wrong in ["Bearer ", "Bearer x", "Basic dTpw", &tokens[2].1, &format!("Bearer {}x", tokens[2].1), "Bearer dl_"] {
                let reply = ask(wrong);
                assert_error(&reply, 401, "unauthenticated");
                assert_eq!(reply.header("www-authenticate"), "Bearer");
            }
            for (held, secret, _) in &tokens {
                if uri == "/api/live" && *held != "ingest" {
                    continue;
                }
                let reply = ask(&format!("Bearer {secret}"));
                if *held == scope || *held == "admin" {
                    assert!(![401, 403].contains(&reply.status), "{method} {uri} with {held}: {}", reply.text());
                } else {
                    assert_error(&reply, 403, "forbidden");
                }
            }
        }
    }
    assert!(routes > 15, "{routes}");
    let mut said = server.logs();
    for path in ["/api/status", "/metrics", "/dagster/runs"] {
        said += &server.http.send(Method::GET, path, &[("authorization", &format!("Bearer {}", tokens[1].1))], Vec::new()).text();
    }
    for (_, secret, block) in &tokens {
        let hash = block.lines().find_map(|line| line.strip_prefix("hash = ")).expect("a hash").trim_matches('"');
        assert!(!said.contains(secret.as_str()) && !said.contains(hash), "a secret or its hash is told");
    }
}

#[test]
fn a_server_on_the_network_wants_tokens_before_it_opens_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["serve", "--listen", "0.0.0.0:0", "--data", "d"][..], &["serve", "--listen", "[::]:0", "--data", "d"]] {
        let output = desireline(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {text}");
        assert!(text.contains("server.listen") && text.contains("access token") && text.contains("token new"), "{text}");
    }
    assert!(!folder.path().join("d").exists());
    // A hash that is none is named by its place and not printed.
    std::fs::write(folder.path().join("desireline.toml"), "[[access.token]]\nname = \"a\"\nhash = \"sekretsekret\"\nscopes = [\"read\"]\n")
        .expect("written");
    let output = desireline(folder.path(), &["check"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("access.token[0].hash") && !text.contains("sekretsekret"), "{text}");
}

/// The error of a run that was asked to load a file.
fn load(server: &Server, path: &str) -> Option<String> {
    let reply = server.http.post_json("/trigger", &json!({ "source_id": 1, "events_path": path })).expect_status(200);
    let run = format!("/dagster/runs/{}", reply.header("x-desireline-run-id"));
    eventually(&run, DEADLINE, || {
        let run = server.http.get_json(&run);
        if run["end_time"].is_null() { Err(run.to_string()) } else { Ok(run["error_message"].as_str().map(str::to_owned)) }
    })
}

#[test]
fn files_outside_of_the_allowed_folders_are_neither_read_nor_betrayed() {
    let closed = tempfile::tempdir().expect("a folder");
    let rows = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,7,view,3,\n";
    std::fs::write(closed.path().join("secret.csv"), rows).expect("written");
    let mut server = Server::new().build();
    let open = server.folder().join("open");
    std::fs::create_dir(&open).expect("a folder");
    std::fs::write(open.join("events.csv"), rows).expect("written");
    std::os::unix::fs::symlink(closed.path().join("secret.csv"), open.join("link.csv")).expect("a link");
    std::os::unix::fs::symlink(closed.path(), open.join("door")).expect("a link");
    server.set_config(format!("[ingest]\nallowed_folders = [{:?}]\n", open));
    server.start_again();
    let outside = closed.path().to_str().expect("text");
    let door = open.join("door").to_str().expect("text").to_owned();
    let refused = [
        format!("{outside}/secret.csv"),
        format!("{outside}/missing.csv"),
        format!("{door}/secret.csv"),
        format!("{door}/missing.csv"),
        open.join("link.csv").to_str().expect("text").to_owned(),
        format!("open/../../{}/secret.csv", outside.trim_start_matches('/').rsplit('/').next().expect("a name")),
        "desireline.toml".to_owned(),
        "data/lock".to_owned(),
        "/etc/passwd".to_owned(),
        "/etc/no-such-file".to_owned(),
        "/proc/self/environ".to_owned(),
        "/dev/stdin".to_owned(),
        "file:///etc/passwd".to_owned(),
    ];
    for path in refused {
        let error = load(&server, &path);
        assert_eq!(error.as_deref(), Some(format!("{path} does not lie in one of the allowed folders").as_str()));
    }
    assert_eq!(load(&server, "open/events.csv"), None);
    assert_eq!(load(&server, &format!("{}/events.csv", open.display())), None);
    let sources = server.http.get_json("/api/status")["sources"].clone();
    assert_eq!(sources[0]["counters"]["applied"], 1, "{sources}");
}

fn gzip(chunk: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..times {
        encoder.write_all(chunk).expect("memory");
    }
    encoder.finish().expect("memory")
}

#[test]
fn bodies_without_end_are_cut_off_and_cost_no_memory() {
    let config = "[http]\nbody_max = \"1MiB\"\ndecoded_body_max = \"4MiB\"\nbatch_events_max = 50\n";
    let server = Server::new().config(config).start();
    let before = server.resident_bytes();
    let batch = |headers: &[(&str, &str)], body: Vec<u8>| server.http.send(Method::POST, "/api/ingest-batch", headers, body);

    let bomb = gzip(&[b' '; 1 << 16], 2_048);
    assert!(bomb.len() < 1 << 20, "128 MiB fit into the limit of what is sent: {}", bomb.len());
    for _ in 0..5 {
        assert_error(&batch(&[JSON, ("content-encoding", "gzip")], bomb.clone()), 413, "too_large");
    }
    let twice = gzip(&gzip(&[b' '; 1 << 16], 1_000), 1);
    assert_error(&batch(&[JSON, ("content-encoding", "gzip")], twice.clone()), 400, "malformed");
    assert_error(&batch(&[JSON, ("content-encoding", "gzip, gzip")], twice), 415, "unsupported_media_type");
    let nested = format!("{{\"events\":[{}", "[".repeat(900_000)).into_bytes();
    assert_error(&batch(&[JSON], nested), 400, "malformed");
    let lines = "{\"user_id\":\"u\"}\n".repeat(51).into_bytes();
    assert_error(&batch(&[("content-type", "application/x-ndjson")], lines), 413, "too_many_events");

    // A body that announces no length and never stops, and one that lies about its length.
    let mut endless = b"POST /api/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_vec();
    for _ in 0..40 {
        endless.extend_from_slice(b"10000\r\n");
        endless.resize(endless.len() + (1 << 16), b' ');
        endless.extend_from_slice(b"\r\n");
    }
    let answer = raw(server.port(), &endless);
    assert!(answer.is_empty() || status_of(&answer) == "413", "{answer}");
    let lie = "POST /api/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{}";
    assert_eq!(status_of(&raw_until_head(server.port(), lie.as_bytes())), "413");

    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{} MiB more than before", grown >> 20);
    server.http.post_json("/api/ingest", &json!({"user_id": "u"})).expect_status(200);
}

/// The head of the first answer; for requests after which the connection stays open.
fn raw_until_head(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(request).expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn what_is_no_http_harms_nobody() {
    let server = Server::new().config("[http]\nheader_timeout = \"300ms\"\n").start();
    // Connections that never finish a request are closed by the server.
    let mut slow: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(("127.0.0.1", server.port())).expect("connects")).collect();
    for stream in &mut slow {
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: loc").expect("sent");
    }
    server.http.get("/health").expect_status(200);
    for stream in &mut slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("closed in time");
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "x".repeat(500_000));
    let headers = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    let strange: [&[u8]; 9] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00",
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"POST /api/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}{}{}",
        b"POST /api/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
        long.as_bytes(),
        headers.as_bytes(),
    ];
    for request in strange {
        let answer = raw(server.port(), request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
    }
    server.http.get("/health").expect_status(200);
    assert!(server.http.get("/metrics").text().contains("desireline_http_panics_total 0"));
}

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/tests/data").join(name)
}

/// One request over TLS, by a client that trusts our certificate alone.
fn ask_tls(port: u16, path: &str) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("cert.pem")).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = rustls::ClientConnection::new(config, name).expect("a client");
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // A peer that closes without a TLS goodbye is no failure of the answer.
    drop(stream.read_to_end(&mut answer));
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn both_addresses_speak_tls_when_a_certificate_is_configured() {
    let second = free_port();
    let mut server = Server::new()
        .config(format!(
            "[server]\nsecond_listen = \"127.0.0.1:{second}\"\ntls_cert = {:?}\ntls_key = {:?}\n",
            certificate("cert.pem"),
            certificate("key.pem")
        ))
        .build();
    server.spawn();
    for port in [server.port(), second] {
        eventually_true("a secure answer", DEADLINE, || ask_tls(port, "/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")));
        let plain = raw(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        assert!(!plain.contains("200 OK"), "{plain}");
    }
    assert!(server.logs().contains("https://127.0.0.1:"), "{}", server.logs());
    assert!(server.stop().success());
}

#[test]
fn the_second_address_serves_the_same() {
    let second = free_port();
    let server = Server::new().config(format!("[server]\nsecond_listen = \"127.0.0.1:{second}\"\n")).start();
    let other = Http::new(format!("http://127.0.0.1:{second}"));
    let reply: Value = other.post_json("/api/ingest", &json!({"user_id": "u", "source_id": 4})).expect_status(200).json();
    let token = reply["token"].as_str().expect("a token");
    for http in [&server.http, &other] {
        let sessions = http.get_json(&format!("/api/sessions?source_id=4&at_least={token}"));
        assert_eq!(sessions["sessions"][0]["user_id"], "u");
        http.get("/dashboard").expect_status(200);
    }
}
