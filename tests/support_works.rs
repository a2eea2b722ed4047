//! The helpers of the end-to-end tests, tested: what they report can be believed.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use support::browser::{Browser, Look};
use support::http::Http;
use support::kafka::{Kafka, Outgoing};
use support::server::{Server, free_port};
use support::wait::{eventually, eventually_true};
use support::{services, wait};

#[test]
fn waiting_returns_the_first_success_and_reports_the_last_failure() {
    let mut attempts = 0;
    let value = eventually("the third attempt", wait::DEADLINE, || {
        attempts += 1;
        if attempts == 3 { Ok(attempts) } else { Err(format!("attempt {attempts}")) }
    });
    assert_eq!(value, 3);

    let failure = std::panic::catch_unwind(|| eventually_true("never", Duration::from_millis(20), || false)).unwrap_err();
    let text = failure.downcast_ref::<String>().unwrap();
    assert!(text.contains("never") && text.contains("not yet"), "{text}");
}

#[test]
fn ports_are_free_distinct_and_below_the_ephemeral_range() {
    let ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
    let mut distinct = ports.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), ports.len(), "{ports:?}");
    assert!(ports.iter().all(|port| (10_000..20_000).contains(port)), "{ports:?}");
}

/// A server that gives one fixed answer to every request, for as long as the test runs.
fn fixed_answers(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut seen = Vec::new();
            let mut chunk = [0; 1024];
            while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => seen.extend_from_slice(&chunk[..length]),
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn the_http_helper_gives_status_headers_and_body_and_says_when_nobody_answers() {
    let http =
        Http::new(fixed_answers("HTTP/1.1 418 I'm a teapot\r\nX-As-Of: 7\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{\"a\":[1]}"));
    let reply = http.get("/anything");
    assert_eq!((reply.status, reply.header("x-as-of"), reply.header("absent")), (418, "7", ""));
    assert_eq!(reply.json()["a"][0], 1);
    assert!(std::panic::catch_unwind(|| reply.expect_status(200)).is_err());

    let nobody = Http::new(format!("http://127.0.0.1:{}", free_port()));
    assert!(nobody.try_send(reqwest::Method::GET, "/", &[], Vec::new()).is_err());
}

#[test]
fn kafka_topics_are_made_filled_read_cut_and_deleted() {
    let Some(kafka) = Kafka::from_env() else { return };
    let topic = kafka.create_topic("support", 3);
    let sent = kafka.send(
        &topic,
        (0..9).map(|number| Outgoing::new(format!("message {number}")).to(number % 3).key("k").at_ms(1_000 + i64::from(number))),
    );
    assert_eq!(sent, 9);

    let stored = kafka.read_all(&topic);
    assert_eq!(stored.len(), 9);
    assert_eq!((stored[4].partition, stored[4].offset, stored[4].timestamp_ms), (1, 1, Some(1_004)));
    assert_eq!((stored[4].key.as_deref(), stored[4].payload.as_slice()), (Some(&b"k"[..]), &b"message 4"[..]));

    kafka.delete_before(&topic, 1, 2);
    assert_eq!(kafka.bounds(&topic, 1), (2, 3));
    assert_eq!(kafka.read_all(&topic).len(), 7);
    kafka.grow_topic(&topic, 4);
    assert_eq!(kafka.bounds(&topic, 3), (0, 0));
    assert_eq!(kafka.committed("nobody", &topic, 0), None);

    // A topic made again under the same name begins anew.
    kafka.delete_topic(&topic);
    kafka.create_named_topic(&topic, 1, &[("cleanup.policy", "delete")]);
    assert_eq!(kafka.produce(&topic, ["again"]), 1);
    assert_eq!(kafka.read_all(&topic).len(), 1);
    kafka.delete_topic(&topic);
}

#[test]
fn the_browser_runs_scripts_takes_pictures_and_reports_errors_and_foreign_requests() {
    let Some(browser) = Browser::start() else { return };
    let base = fixed_answers(concat!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n",
        "<!doctype html><meta name=viewport content='width=device-width'><p id=p>before</p>",
        "<button onclick=\"p.textContent = 'clicked'\">b</button>",
        "<script>setTimeout(() => { p.textContent = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light' })</script>"
    ));
    let page = browser.open(&base, Look::DESKTOP_DARK);
    page.wait_for("p.textContent === 'dark'");
    page.click("button");
    assert_eq!(page.text("#p"), "clicked");
    assert!(page.html().contains("<button"));
    assert!(!page.overflows_sideways());
    assert_eq!(page.foreign_requests(&base), Vec::<String>::new());
    assert!(page.requests().iter().any(|url| url.trim_end_matches('/') == base), "{:?}", page.requests());

    page.eval("console.error('a mistake'); setTimeout(() => { throw new Error('thrown') }); null");
    page.eval("fetch('http://elsewhere.example/x').catch(() => null)");
    eventually_true("the errors to be reported", wait::DEADLINE, || {
        let errors = page.errors().join("\n");
        errors.contains("a mistake") && errors.contains("thrown")
    });
    assert_eq!(page.foreign_requests(&base), ["http://elsewhere.example/x"]);

    let folder = tempfile::tempdir().unwrap();
    page.look(Look::PHONE);
    page.wait_for("innerWidth === 390");
    let file = folder.path().join("page.png");
    page.screenshot(&file, false);
    let png = std::fs::read(&file).unwrap();
    // Width and height stand big-endian at bytes 16 to 23 of a PNG.
    assert_eq!(png[16..24], [0, 0, 390_u32.to_be_bytes()[2], 390_u32.to_be_bytes()[3], 0, 0, 3, 76], "390 by 844");
}

#[test]
fn a_server_starts_crashes_comes_back_on_its_port_and_stops_politely() {
    let mut server = Server::new().start();
    let (first, port) = (server.pid(), server.port());
    assert_eq!(server.http.get("/ready").status, 200);
    assert!(server.resident_bytes() > 1024 * 1024, "{}", server.resident_bytes());
    assert!(server.cpu_seconds() >= 0.0);

    server.crash();
    assert_ne!(server.pid(), first);
    assert_eq!((server.port(), server.http.get("/ready").status), (port, 200));

    let status = server.stop();
    assert!(status.success(), "SIGTERM ends the server with {status}:\n{}", server.logs());
    assert!(server.http.try_send(reqwest::Method::GET, "/ready", &[], Vec::new()).is_err());
    assert!(!server.logs().is_empty());
}

#[test]
fn a_server_that_cannot_start_is_reported_at_once() {
    let begin = std::time::Instant::now();
    let failure = std::panic::catch_unwind(|| {
        Server::new().config("[no_such_section]\nkey = 1\n").start();
    });
    let text = *failure.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("ended before it was ready"), "{text}");
    assert!(begin.elapsed() < wait::DEADLINE, "the end of the process is noticed, not the deadline awaited");
}

#[test]
fn the_object_store_is_named_completely() {
    let Some(s3) = services::s3() else { return };
    let bucket = Http::new(s3.endpoint).get(&format!("/{}?list-type=2", s3.bucket)).expect_status(200);
    assert!(bucket.text().contains("<Name>desireline-test</Name>"), "{}", bucket.text());
}
