//! Real sockets: binding, TLS, the limit of connections, and stopping.

use super::fake::{Mood, Site};
use crate::http::config::{HttpConfig, TlsFiles};
use crate::http::{Listener, bind, serve};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/http/tests/data").join(name)
}

fn free() -> HttpConfig {
    HttpConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..HttpConfig::default() }
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    site: Site,
}

fn run(config: HttpConfig) -> Running {
    let listeners = bind(&config).expect("a free port");
    let address = listeners.first().map(Listener::address).expect("one listener");
    let site = Site::new(config);
    let (stop, stopped) = oneshot::channel();
    let serving = serve(listeners, site.state.clone(), async { drop(stopped.await) });
    let task = tokio::spawn(async move { serving.await.expect("serves") });
    Running { address, stop, task, site }
}

async fn ended(task: JoinHandle<()>) {
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("it stops").expect("it does not panic");
}

/// Sends one request and reads to the end of the connection.
fn ask(mut stream: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // A peer that closes without a TLS goodbye is no failure of the answer.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream
}

#[tokio::test]
async fn it_serves_and_stops_when_told() {
    let running = run(free());
    let address = running.address;
    let answer = tokio::task::spawn_blocking(move || ask(connect(address), "/health")).await.expect("asks");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // A stream that is open does not hold the shutdown up.
    let watching = tokio::task::spawn_blocking(move || ask(connect(address), "/api/live"));
    let joined = async {
        while running.site.fake.status_calls.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), joined).await.expect("the stream is open");
    running.stop.send(()).expect("it runs");
    ended(running.task).await;
    assert!(watching.await.expect("watches").contains("text/event-stream"));
    assert!(TcpStream::connect(address).is_err(), "the port is free again");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let running = run(HttpConfig { request_timeout: Duration::from_millis(200), ..free() });
    running.site.fake.feel(Mood::Hangs);
    let address = running.address;
    let asking = tokio::task::spawn_blocking(move || ask(connect(address), "/api/status"));
    let begun = async {
        while running.site.fake.status_calls.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), begun).await.expect("the request has begun");
    running.stop.send(()).expect("it runs");
    ended(running.task).await;
    assert!(asking.await.expect("asks").starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn tls_is_spoken_with_the_configured_certificate() {
    let tls = TlsFiles { cert: data("cert.pem"), key: data("key.pem") };
    let config = HttpConfig { tls: Some(tls), ..free() };
    assert!(bind(&config).expect("usable files")[0].url().starts_with("https://127.0.0.1:"));
    let running = run(config);
    let address = running.address;
    let asking = tokio::task::spawn_blocking(move || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data("cert.pem")).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = rustls::ClientConnection::new(config, name).expect("a client");
        ask(rustls::StreamOwned::new(connection, connect(address)), "/health")
    });
    let answer = asking.await.expect("asks");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.stop.send(()).expect("it runs");
    ended(running.task).await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let running = run(HttpConfig { connections_max: 1, ..free() });
    let address = running.address;
    let asking = tokio::task::spawn_blocking(move || {
        let mut first = connect(address);
        first.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
        let mut head = [0; 12];
        first.read_exact(&mut head).expect("an answer");
        let refused = ask_or_closed(connect(address));
        drop(first);
        (head, refused)
    });
    let (head, refused) = asking.await.expect("asks");
    assert_eq!((&head, refused.as_str()), (b"HTTP/1.1 200", ""));
    running.stop.send(()).expect("it runs");
    ended(running.task).await;
}

fn ask_or_closed(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    drop(stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    drop(stream.read_to_string(&mut answer));
    answer
}

#[tokio::test]
async fn what_cannot_be_bound_or_read_is_named() {
    let taken = bind(&free()).expect("a free port");
    let error = bind(&HttpConfig { listen: taken[0].address(), ..free() }).expect_err("taken");
    assert_eq!(error.code(), "bind");
    assert!(error.to_string().contains(&taken[0].address().to_string()), "{error}");
    for (cert, key) in [("none.pem", "key.pem"), ("cert.pem", "none.pem"), ("key.pem", "key.pem"), ("cert.pem", "cert.pem")] {
        let tls = TlsFiles { cert: data(cert), key: data(key) };
        let error = bind(&HttpConfig { tls: Some(tls), ..free() }).expect_err("unusable files");
        assert_eq!(error.code(), "tls", "{cert} {key}");
        assert!(error.to_string().contains(".pem"), "{error}");
    }
}
