//! The dashboard in a real browser against the real server: every page draws, talks to its own server alone, fits a phone,
//! shows late corrections, says when it is stale and comes back by itself.

mod labels;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::browser::{Browser, Look, Page};
use support::server::Server;
use support::wait::{DEADLINE, eventually_true};

const PAGES: [&str; 8] = ["overview", "shop", "journeys", "campus", "labels", "sources", "runs", "system"];

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// Some users who look, fill carts and buy, each a few minutes ago.
fn fill(server: &Server) {
    let now = now_s();
    let mut events: Vec<Value> = Vec::new();
    for user in 0..40_u64 {
        for step in 0..(1 + user % 7) {
            let event_type = ["view", "view", "add_to_cart", "view", "purchase", "view", "view"][step as usize];
            let mut event = json!({ "source_id": 1, "client_id": format!("c{user}"), "user_id": format!("u{user}"), "page": format!("/p/{}", user % 9),
                "event_type": event_type, "timestamp": now - 60 * (3 + user % 20) + step });
            if event_type == "purchase" {
                event["value"] = json!(12.5);
            }
            events.push(event);
        }
    }
    server.http.post_json("/api/ingest-batch", &json!({ "events": events })).expect_status(200);
}

fn rfc3339(seconds: u64) -> String {
    chrono::DateTime::from_timestamp(seconds as i64, 0).expect("a time of this century").to_rfc3339()
}

fn session(device: u64, space_id: i32, start: u64, seconds: u64) -> Value {
    json!({ "mac_address": format!("00:00:5e:00:53:{device:02x}"), "space_id": space_id, "start_time": rfc3339(start), "end_time": rfc3339(start + seconds) })
}

fn post_sessions(server: &Server, sessions: Vec<Value>) {
    server.http.post_json("/api/wifi-sessions", &json!({ "sessions": sessions })).expect_status(200);
}

/// The begin of an hour, so many hours ago.
fn hour_ago(hours: u64) -> u64 {
    (now_s() / 3_600 - hours) * 3_600
}

/// A library with two rooms, the second of which is full, and a gym whose parent nobody knows. Twelve devices spend the first half of
/// the third hour before this one in the reading room, and the rest of it in the stacks.
fn fill_campus(server: &Server) {
    let spaces = json!({ "spaces": [
        { "space_id": 1, "space_name": "Library <b>", "capacity": 40 },
        { "space_id": 2, "space_name": "Reading room", "parent_space_id": 1, "capacity": 20 },
        { "space_id": 3, "space_name": "Stacks", "parent_space_id": 1, "capacity": 10 },
        { "space_id": 9, "space_name": "Gym", "parent_space_id": 77 },
    ] });
    let json = [("content-type", "application/json")];
    server.http.send(reqwest::Method::PUT, "/api/spaces", &json, spaces.to_string().into_bytes()).expect_status(200);
    let stays = |device| [session(device, 2, hour_ago(3), 1_700), session(device, 3, hour_ago(3) + 1_800, 1_700)];
    post_sessions(server, (0..12).flat_map(stays).collect());
}

fn open<'a>(browser: &'a Browser, server: &Server, address: &str, look: Look) -> Page<'a> {
    browser.open(&format!("{}/dashboard#/{address}", server.base()), look)
}

/// No panel is loading any more, none failed, each says how fresh it is.
const DRAWN: &str = "document.querySelectorAll('.panel').length > 1 && !document.querySelector('.panel:not([hidden]) .skeleton, .panel:not([hidden]) .state .bad') \
     && [...document.querySelectorAll('.panel')].every(p => p.hidden || /as of/.test(p.querySelector('.fresh').textContent))";

/// With `DESIRELINE_SCREENSHOTS=FOLDER`, what the page looks like, for people to judge.
fn picture(page: &Page, name: &str) {
    if let Some(folder) = std::env::var_os("DESIRELINE_SCREENSHOTS") {
        page.screenshot(&std::path::Path::new(&folder).join(format!("{}.png", name.replace(' ', "-"))), true);
    }
}

fn check(page: &Page, server: &Server, name: &str) {
    page.wait_for(DRAWN);
    picture(page, name);
    assert_eq!(page.errors(), Vec::<String>::new(), "{name}");
    assert_eq!(page.foreign_requests(&server.base()), Vec::<String>::new(), "{name}");
    assert!(!page.overflows_sideways(), "{name} is wider than the window");
}

#[test]
fn every_page_draws_on_desktop_and_phone_with_data_and_without() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    for page in PAGES {
        check(&open(&browser, &server, page, Look::DESKTOP), &server, &format!("{page} of an empty server"));
    }
    let campus = open(&browser, &server, "campus", Look::PHONE);
    campus.wait_for("/No spaces yet/.test(document.body.innerText) && /curl -X PUT/.test(document.body.innerText)");
    let page = open(&browser, &server, "overview", Look::PHONE);
    page.wait_for("/No events yet/.test(document.body.innerText) && /curl -X POST/.test(document.body.innerText)");
    fill(&server);
    fill_campus(&server);
    page.wait_for("document.querySelector('svg.chart .area') && /✓ balances/.test(document.body.innerText)");
    for look in [Look::DESKTOP_DARK, Look::PHONE] {
        for name in PAGES {
            check(&open(&browser, &server, &format!("{name}?source=1"), look), &server, &format!("{name} at {} px", look.width));
        }
    }
}

#[test]
fn numbers_are_those_of_the_api() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill(&server);
    let total: i64 = server.http.get_json("/api/metrics/aggregates?minutes=60")["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["count"].as_i64().expect("a count"))
        .sum();
    assert!(total > 100);
    let shop = open(&browser, &server, "shop?source=1", Look::DESKTOP);
    shop.wait_for(&format!("/events; {total} in the last 60 min/.test(document.querySelector('.panel .unit').textContent)"));
    shop.click(".bars button");
    shop.wait_for("/page=/.test(location.hash) && document.querySelector('.chip')");
    shop.wait_for(&format!("!/events; {total} in the/.test(document.querySelector('.panel .unit').textContent)"));

    let journeys = open(&browser, &server, "journeys?source=1", Look::DESKTOP);
    journeys.wait_for("document.querySelectorAll('path.stretch').length > 3");
    journeys.eval("(e => e.dispatchEvent(new MouseEvent('click', {bubbles: true})))([...document.querySelectorAll('path.stretch')].pop())");
    journeys.wait_for("document.querySelectorAll('.users a').length === 40");
    journeys.click(".users a");
    journeys.wait_for("location.hash.startsWith('#/user?') && document.querySelector('path.line') && document.querySelector('td.num')");
    assert_eq!(journeys.errors(), Vec::<String>::new());
}

#[test]
fn a_late_event_corrects_its_minute_with_before_and_after() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill(&server);
    let page = open(&browser, &server, "overview?source=1", Look::DESKTOP);
    page.wait_for("document.querySelector('svg.chart .area')");
    let late = json!({ "source_id": 1, "client_id": "late", "page": "/late", "event_type": "view", "timestamp": now_s() - 1_500 });
    server.http.post_json("/api/ingest", &late).expect_status(200);
    page.wait_for("document.querySelector('.feed .fix')?.textContent === '0 → 1' && document.querySelector('svg.chart .mark')");
    assert!(page.text(".feed").contains("view /late"));
}

/// What a chart reads aloud when a key is pressed in it.
fn read_aloud(page: &Page, chart: &str, key: &str) -> String {
    let script = format!(
        "(e => (e.focus(), e.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }})), document.querySelector('#say').textContent))(document.querySelector('{chart}'))"
    );
    page.eval(&script).as_str().expect("words").to_owned()
}

const HEAT: &str = "svg[aria-label^=\"Bins by spaces\"]";

#[test]
fn the_campus_shows_numbers_of_the_api_and_leads_down_into_spaces() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill_campus(&server);
    let page = open(&browser, &server, "campus?space=1&range=24", Look::DESKTOP);
    page.wait_for(DRAWN);
    page.wait_for("/peak 24/.test(document.querySelector('svg.chart')?.textContent)");
    assert_eq!(page.text("h1"), "Library <b>");
    let tree = page.text(".bars");
    assert!(["Library <b>", "Reading room", "Stacks", "Gym (orphan of 77)"].iter().all(|name| tree.contains(name)), "{tree}");
    page.wait_for(
        "/1 space with a parent that is not known/.test(document.body.innerText) && /Reading room → Stacks/.test(document.body.innerText)",
    );
    // Both rooms are rows of the heat map; the stacks had two devices more than they are made for.
    page.wait_for(&format!("document.querySelector('{HEAT} path.over')?.getAttribute('d')"));
    assert!(page.text("main").contains("above capacity"));
    read_aloud(&page, HEAT, "ArrowDown");
    let mut steps = (0..5).map(|_| read_aloud(&page, HEAT, "ArrowLeft"));
    let words = steps.find(|words| words.contains("12 devices")).expect("the hour in which the stacks were full");
    assert!(words.starts_with("Stacks, ") && words.contains("120 % of 10"), "{words}");
    // Down by keyboard, by the tree, and back by the browser; the address can be shared.
    read_aloud(&page, HEAT, "Enter");
    page.wait_for(
        "/space=3/.test(location.hash) && /range=24/.test(location.hash) && document.querySelector('h1').textContent === 'Stacks'",
    );
    page.wait_for("/peak 12/.test(document.querySelector('svg.chart')?.textContent)");
    page.eval("[...document.querySelectorAll('.bars button')].find(b => /Reading/.test(b.textContent)).click()");
    page.wait_for("/space=2/.test(location.hash) && document.querySelector('h1').textContent === 'Reading room'");
    page.eval("history.back()");
    page.wait_for("document.querySelector('h1').textContent === 'Stacks'");
    page.eval("(s => (s.value = '900', s.dispatchEvent(new Event('change'))))(document.querySelector('select[aria-label=Bins]'))");
    page.wait_for("/interval=900/.test(location.hash) && /bin of 15 min/.test(document.body.innerText)");
    let link = page.eval(
        "[...document.querySelectorAll('.panel')].find(p => p.ariaLabel === 'Devices').querySelector('.foot a').getAttribute('href')",
    );
    let answer = server.http.get_json(link.as_str().expect("an address"));
    assert_eq!((&answer["space_id"], &answer["interval_seconds"]), (&json!(3), &json!(900)));
    let most = answer["rows"].as_array().expect("rows").iter().map(|row| row["number_connections"].as_i64().expect("a number")).max();
    assert_eq!(most, Some(12));
    assert_eq!(page.errors(), Vec::<String>::new());
    assert_eq!(page.eval("document.querySelectorAll('main b b, h1 b').length"), json!(0), "names are no markup");
}

#[test]
fn a_late_session_marks_the_bins_that_it_corrects() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill_campus(&server);
    let page = open(&browser, &server, "campus?space=2", Look::DESKTOP);
    page.wait_for("/peak 12/.test(document.querySelector('svg.chart')?.textContent)");
    assert_eq!(page.eval("document.querySelectorAll('.mark[d]:not([d=\"\"])').length"), json!(0));
    post_sessions(&server, vec![session(99, 2, hour_ago(3) + 60, 600)]);
    page.wait_for("/peak 13/.test(document.querySelector('svg.chart')?.textContent) && document.querySelectorAll('.mark[d]:not([d=\"\"])').length === 2");
    page.wait_for("document.querySelector('.feed .fix')?.textContent === '12 → 13'");
    assert!(page.text(".feed").contains("Reading room"));
    let words = (0..5).map(|_| read_aloud(&page, HEAT, "ArrowLeft")).find(|words| words.contains("13 devices")).expect("the corrected bin");
    assert!(words.contains("corrected: 12 before, 13 after"), "{words}");
}

#[test]
fn a_space_that_fills_up_is_told_at_once() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill_campus(&server);
    let page = open(&browser, &server, "campus?space=1", Look::DESKTOP);
    page.wait_for(DRAWN);
    page.wait_for("/no space crossed a share of its capacity/.test(document.body.innerText)");
    let open_session =
        |device: u64| json!({ "mac_address": format!("00:00:5e:00:53:{device:02x}"), "space_id": 3, "start_time": rfc3339(now_s() - 1) });
    post_sessions(&server, (100..109).map(open_session).collect());
    page.wait_for("/above 80 %: 9 \\/ 10/.test(document.querySelector('.feed')?.innerText) && /Stacks/.test(document.querySelector('.feed').innerText)");
    page.wait_for("[...document.querySelectorAll('.bars button')].some(b => /^Stacks\\s+9 \\/ 10/.test(b.innerText))");
    let lost = json!({ "mac_address": "00:00:5e:00:53:77", "space_id": 4_711, "start_time": rfc3339(now_s() - 1) });
    post_sessions(&server, vec![lost]);
    page.wait_for("/1 session in spaces that are not known/.test(document.body.innerText)");
    assert_eq!(page.errors(), Vec::<String>::new());
}

#[test]
fn the_campus_says_that_the_server_is_gone() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::new().start();
    fill_campus(&server);
    let page = open(&browser, &server, "campus", Look::PHONE);
    page.wait_for(DRAWN);
    server.kill();
    page.wait_for("[...document.querySelectorAll('.panel')].every(p => p.classList.contains('stale'))");
    assert!(page.text(".panel .fresh").starts_with("stale: as of"), "{}", page.text(".panel .fresh"));
    assert!(page.text(".bars").contains("Library <b>"), "what was known stays");
    server.start_again();
    page.wait_for("!document.querySelector('.stale')");
}

#[test]
fn a_lost_server_is_said_and_its_return_is_noticed() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::new().start();
    fill(&server);
    let page = open(&browser, &server, "overview", Look::DESKTOP);
    page.wait_for(DRAWN);
    server.kill();
    page.wait_for("document.querySelector('#conn').dataset.state === 'waiting' && [...document.querySelectorAll('.panel')].every(p => p.classList.contains('stale'))");
    assert!(page.text(".panel .fresh").contains("trying again"), "{}", page.text(".panel .fresh"));
    server.start_again();
    page.wait_for("document.querySelector('#conn').dataset.state === 'live' && !document.querySelector('.stale')");
    page.wait_for("/✓ balances/.test(document.body.innerText)");
}

#[test]
fn hostile_words_stay_words() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    let words = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>";
    let event = json!({ "source_id": 1, "client_id": words, "user_id": words, "page": words, "event_type": "view", "timestamp": now_s() });
    server.http.post_json("/api/ingest", &event).expect_status(200);
    server.http.post_json(
        "/api/ingest-batch",
        &json!({ "events": [event, { "source_id": 1, "client_id": words, "page": words, "event_type": words, "timestamp": words }] }),
    );
    let shop = open(&browser, &server, "shop", Look::DESKTOP);
    shop.wait_for("[...document.querySelectorAll('.bars .name')].some(e => e.textContent.startsWith('<img'))");
    let sources = open(&browser, &server, "sources", Look::DESKTOP);
    sources.wait_for("document.querySelector('.panel pre')");
    let user = open(&browser, &server, "user?source=1&id=%3Cimg%20src%3Dx%3E", Look::DESKTOP);
    user.wait_for("document.querySelector('h1')?.textContent === 'User <img src=x>'");
    for page in [&shop, &sources, &user] {
        assert_eq!(page.eval("[window.hurt ?? null, document.querySelectorAll('main img, main script').length]"), json!([null, 0]));
    }
}

#[test]
fn a_hidden_tab_costs_nothing_and_resumes() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    fill(&server);
    let page = open(&browser, &server, "journeys?source=1", Look::DESKTOP);
    page.wait_for(DRAWN);
    let hide = |hidden: bool| {
        page.eval(&format!("Object.defineProperty(document, 'hidden', {{ configurable: true, get: () => {hidden} }}); document.dispatchEvent(new Event('visibilitychange'))"))
    };
    hide(true);
    let asked = page.requests().len();
    let since = std::time::Instant::now();
    eventually_true("two seconds without a request", DEADLINE, || {
        assert_eq!(page.requests().len(), asked);
        since.elapsed().as_secs() >= 2
    });
    hide(false);
    page.wait_for("document.querySelector('#conn').dataset.state === 'live' && !document.querySelector('.stale')");
    assert!(page.requests().len() > asked);
}

#[test]
fn the_demonstration_moves_by_itself_in_every_look() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().arg("--demo").start();
    for (look, word) in [(Look::DESKTOP, "light"), (Look::DESKTOP_DARK, "dark"), (Look::PHONE, "phone")] {
        for name in PAGES {
            let page = open(&browser, &server, name, look);
            page.wait_for("!/No events yet/.test(document.body.innerText)");
            check(&page, &server, &format!("demo {name} {word}"));
            if look.width == Look::DESKTOP.width {
                let cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)";
                assert_eq!(page.eval(cut), json!([]), "{name}: a table is wider than its panel");
            }
        }
    }
    let page = open(&browser, &server, "overview", Look::DESKTOP);
    page.wait_for(DRAWN);
    let numbers = "[...document.querySelectorAll('.panel')].map(p => p.innerText.replace(/as of.*/g, '')).join()";
    let before = page.eval(numbers);
    page.wait_for(&format!("{numbers} !== {before}"));
    assert_eq!(page.errors(), Vec::<String>::new());
    let policy = server.http.get("/dashboard").expect_status(200).header("content-security-policy").to_owned();
    for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{part}: {policy}");
    }
}

#[test]
fn the_pages_of_the_api_render_without_a_network() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    for (path, drawn) in [
        ("/docs/", "document.querySelectorAll('.opblock').length > 20"),
        ("/redoc", "document.querySelectorAll('[data-section-id]').length > 20 && /Takes one event/.test(document.body.innerText)"),
    ] {
        let page = browser.open(&format!("{}{path}", server.base()), Look::DESKTOP);
        page.wait_for(drawn);
        picture(&page, path.trim_matches('/'));
        assert_eq!(page.errors(), Vec::<String>::new(), "{path}");
        assert_eq!(page.foreign_requests(&server.base()), Vec::<String>::new(), "{path}");
    }
    let docs = browser.open(&format!("{}/docs", server.base()), Look::DESKTOP);
    docs.wait_for("document.querySelectorAll('.opblock').length > 20");
}
