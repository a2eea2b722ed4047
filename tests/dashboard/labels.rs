//! The page of a concept. What it asks about concepts is answered within the browser (`labels.js`), in the documented shapes, so that a
//! concept of any size, a failure and a refusal are at hand; the page, its policy and its stream come from the real server.

use super::support::browser::{Browser, Look, Page};
use super::support::server::Server;
use super::{check, open};
use serde_json::{Value, json};

/// A page whose questions about concepts are answered by `dashboard/labels.js`, on the given view of its concept.
fn open_labels<'a>(browser: &'a Browser, server: &Server, view: &str, look: Look, size: Value) -> Page<'a> {
    let page = open(browser, server, "system", look);
    page.eval(&format!("{}({size})", include_str!("labels.js").trim_end()));
    page.eval(&format!("location.hash = '#/labels/7{view}'"));
    page.wait_for("document.querySelector('.node')");
    page
}

fn some() -> Value {
    json!({ "size": 4, "entities": 300, "classes": 3 })
}

fn node(page: &Page, name: &str) -> Value {
    page.eval(&format!("[...document.querySelectorAll('.node')].find(n => n.innerText.includes({}))?.innerText ?? null", json!(name)))
}

fn press(page: &Page, words: &str) {
    let script =
        format!("[...document.querySelectorAll('main button')].find(b => b.textContent === {} && b.offsetParent).click()", json!(words));
    page.eval(&script);
}

#[test]
fn a_concept_is_drawn_small_and_large_in_every_look() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    for (size, word) in [(some(), "little"), (json!({ "size": 50, "entities": 100_000, "classes": 8 }), "a lot")] {
        for look in [Look::DESKTOP, Look::DESKTOP_DARK, Look::PHONE] {
            let page = open_labels(&browser, &server, "?node=rule-2", look, size.clone());
            page.wait_for(
                "document.querySelectorAll('table.matrix tbody tr').length === 50 && document.querySelectorAll('.bars li').length > 5",
            );
            check(&page, &server, &format!("labels with {word} at {} px{}", look.width, if look.dark { ", dark" } else { "" }));
            assert_eq!(page.eval("[window.hurt ?? null, document.querySelectorAll('main img, main script').length]"), json!([null, 0]));
            let lines = page.eval("[...document.querySelectorAll('.edge')].filter(e => e.getBoundingClientRect().width > 0).length");
            assert_eq!(lines.as_u64().expect("a number") > 5, look.width > 900, "{lines} lines at {} px", look.width);
        }
    }
}

#[test]
fn the_pipeline_says_how_each_step_stands_and_starts_what_is_missing() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    let page = open_labels(&browser, &server, "", Look::DESKTOP, some());
    for (name, words) in [
        ("macs", "300 rows"),
        ("older than", "stale"),
        ("never asked", "not materialised"),
        ("votes_2", "to approve"),
        ("job 1", "failed"),
        ("job 2", "trained"),
    ] {
        let text = node(&page, name);
        assert!(text.as_str().is_some_and(|text| text.contains(words)), "{name}: {text}");
    }
    page.eval("[...document.querySelectorAll('.node')].find(n => /never asked/.test(n.innerText)).click()");
    page.wait_for("/node=rule-3/.test(location.hash) && document.querySelectorAll('.edge.on').length === 1");
    press(&page, "Materialise");
    page.wait_for("/running, 25 %/.test(document.querySelector('.node[aria-pressed=true]').innerText)");
    assert_eq!(page.eval("window.sent.at(-1)"), json!(["rules/3/materialize", "application/json", {}]));
    page.eval("Object.assign(served.runs[0], { status: 'FAILURE', end_time: new Date().toISOString(), error_message: 'no such table' })");
    page.wait_for("/failed/.test(document.querySelector('.node[aria-pressed=true]').innerText) && /no such table/.test(document.querySelector('main').innerText)");
    page.eval("location.hash = '#/labels/7?node=rule-1'");
    page.wait_for("/every table reaches the key/.test(document.querySelector('main').innerText)");
    press(&page, "Train a label model");
    page.wait_for("/node=model-3/.test(location.hash) && /running/.test(document.querySelector('.node[aria-pressed=true]').innerText)");
    assert_eq!(
        page.eval("window.sent.at(-1)[2]"),
        json!({ "selectedIndex": 1, "selectedRules": [1], "selectedLFs": [1, 3, 4], "snorkel": {} })
    );
    page.eval("served.forbidden = true; location.hash = '#/labels/7?node=lf-2'");
    page.wait_for("[...document.querySelectorAll('button')].some(b => b.textContent === 'Approve')");
    press(&page, "Approve");
    page.wait_for("/needs a token with the scope admin/.test(document.querySelector('main').innerText)");
    page.eval("served.forbidden = false");
    press(&page, "Approve");
    page.wait_for("/active/.test(document.querySelector('.node[aria-pressed=true]').innerText)");
    assert_eq!(page.errors(), Vec::<String>::new());
}

#[test]
fn a_labelling_function_is_edited_tried_and_saved() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    let page = open_labels(&browser, &server, "?node=lf-3", Look::DESKTOP, some());
    page.wait_for("document.querySelector('textarea')?.value.startsWith('STATIC = 1')");
    press(&page, "Test run");
    page.wait_for("document.querySelector('.gutter .bad')?.textContent === '5'");
    let told = page.eval("document.querySelector('textarea').closest('.panel').innerText");
    let told = told.as_str().expect("words");
    for words in [
        "KeyError: 'n' (7 rows)",
        "interpreted: a generator expression, line 5",
        "33.3 %",
        "650K rows/s",
        "STATIC",
        "1 row with their votes",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    press(&page, "line 5");
    assert!(
        page.eval("(t => t.value.slice(t.selectionStart, t.selectionEnd))(document.querySelector('textarea'))")
            .as_str()
            .is_some_and(|line| line.starts_with("    return STATIC"))
    );
    // A refusal marks its line as well; what is typed is what is sent.
    let key = |key: &str| {
        page.eval(&format!("document.querySelector('textarea').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true, cancelable: true }}))"))
    };
    page.eval("(t => { t.focus(); t.value = 'import re\\nimport os\\nif x:'; t.setSelectionRange(25, 25); t.dispatchEvent(new Event('input')); })(document.querySelector('textarea'))");
    assert_eq!((key("Enter"), key("Tab")), (json!(false), json!(false)), "both are taken by the editor");
    assert_eq!(page.eval("document.querySelector('textarea').value"), json!("import re\nimport os\nif x:\n        "));
    key("Escape");
    assert_eq!(key("Tab"), json!(true), "after Escape, Tab leaves");
    press(&page, "Test run");
    page.wait_for("document.querySelector('.gutter .bad')?.textContent === '2' && /not in allowed imports/.test(document.querySelector('main').innerText)");
    let sent = page.eval("window.sent.at(-1)");
    assert_eq!(
        sent,
        json!(["labeling-functions/test", "application/json", { "rule_id": 1, "applicable_cv_ids": [11, 12], "code": "import re\nimport os\nif x:\n        ", "allowed_imports": ["re"] }])
    );
    // What is not saved is kept while another step is looked at.
    page.eval("location.hash = '#/labels/7?node=macs'");
    page.eval("location.hash = '#/labels/7?node=lf-3'");
    page.wait_for("document.querySelector('textarea').value.startsWith('import re')");
    press(&page, "Save as new version");
    page.wait_for("/node=lf-5/.test(location.hash) && /votes_3_v2/.test(document.querySelector('.node[aria-pressed=true]')?.innerText)");
    assert_eq!(page.eval("window.sent.at(-1)[0]"), json!("labeling-functions/3/versions"));
    assert_eq!(node(&page, "votes_3\n"), json!(null), "the replaced version is not shown");
    press(&page, "New labelling function");
    page.wait_for("/node=lf-new/.test(location.hash) && document.querySelector('textarea').value === '# made here\\n'");
    assert_eq!(page.errors(), Vec::<String>::new());
}

#[test]
fn labels_and_votes_move_and_conflicts_are_found() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    let page = open_labels(&browser, &server, "", Look::DESKTOP, json!({ "size": 4, "entities": 3_000, "classes": 3 }));
    page.wait_for("document.querySelectorAll('table.matrix tbody tr').length === 50");
    let cell = "document.querySelector('table.matrix tbody tr:nth-child(2)').children[3]";
    assert_eq!(page.eval(&format!("[{cell}.textContent, {cell}.classList.contains('odd')]")), json!(["LA", false]));
    page.eval("Object.assign(served, { votes: [12, 11], counts: { 11: 6, 12: 6, '-1': 2988 } })");
    page.wait_for(&format!("{cell}.classList.contains('odd')"));
    page.wait_for("[...document.querySelectorAll('.bars .fix')].map(e => e.textContent).filter(Boolean).join() === '5 →,7 →'");
    page.eval("[...document.querySelectorAll('label')].find(l => /conflicts only/.test(l.textContent)).querySelector('input').click()");
    page.wait_for("/entities 1 to 50 of those in conflict/.test(document.querySelector('main').innerText)");
    assert_eq!(
        page.eval("document.querySelectorAll('table.matrix .odd').length"),
        json!(50),
        "of three votes the second is against the label"
    );
    press(&page, "Next");
    page.wait_for("/entities 51 to 100 of those/.test(document.querySelector('main').innerText) && /entity 500/.test(document.querySelector('table.matrix').innerText)");
    press(&page, "Previous");
    page.wait_for("/entities 1 to 50/.test(document.querySelector('main').innerText)");
    assert_eq!(page.errors(), Vec::<String>::new());
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.http.post_json(path, body);
    assert!(answer.status == 200 || answer.status == 201, "{path}: {} {}", answer.status, answer.text());
    answer.json()
}

const BUYERS: &str =
    "BROWSER = 1\nBUYER = 2\nABSTAIN = -1\n\ndef labeling_function(row):\n    return BUYER if row['transactions'] > 0 else BROWSER\n";

#[test]
fn a_concept_over_the_live_tables_follows_the_events() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::new().start();
    super::fill(&server);
    post(&server, "/concepts", &json!({ "name": "shoppers", "description": "Who buys?" }));
    for name in ["BROWSER", "BUYER"] {
        post(&server, "/concepts/1/values", &json!({ "name": name }));
    }
    post(&server, "/concepts/1/indexes", &json!({ "name": "users", "conn_id": 0, "sql_query": "SELECT DISTINCT user_id FROM journeys" }));
    let page = open(&browser, &server, "labels?node=index-1", Look::DESKTOP);
    page.wait_for("/not materialised/.test(document.querySelector('.node[aria-pressed=true]')?.innerText)");
    press(&page, "Materialise");
    page.wait_for("/^●\\s+users\\s+40 rows/.test(document.querySelector('.node[aria-pressed=true]').innerText)");
    let sql = "SELECT user_id, transactions FROM journeys WHERE user_id IN (:index_values)";
    post(&server, "/concepts/1/rules", &json!({ "name": "purchases", "index_id": 1, "sql_query": sql, "index_column": "user_id" }));
    page.eval("location.hash = '#/labels?node=rule-1'");
    page.wait_for("/purchases/.test(document.querySelector('.node[aria-pressed=true]')?.innerText)");
    press(&page, "Materialise");
    page.wait_for("/^●\\s+purchases\\s+40 rows/.test(document.querySelector('.node[aria-pressed=true]').innerText)");
    // A function is written, tried, saved and approved.
    press(&page, "New labelling function");
    page.wait_for("/def labeling_function/.test(document.querySelector('textarea').value)");
    let code =
        format!("(t => {{ t.value = {}; t.dispatchEvent(new Event('input')); }})(document.querySelector('textarea'))", json!(BUYERS));
    page.eval(&code);
    page.eval("document.querySelector('input[aria-label=Name]').value = 'has bought'");
    press(&page, "Test run");
    page.wait_for("/compiled/.test(document.querySelector('textarea').closest('.panel').innerText) && /100.0 %/.test(document.querySelector('textarea').closest('.panel').innerText)");
    press(&page, "Save");
    page.wait_for("/to approve/.test(document.querySelector('.node[aria-pressed=true]')?.innerText)");
    press(&page, "Approve");
    let counts = |buyers: u64, browsers: u64| {
        let rows = "[...document.querySelectorAll('.panel[aria-label=\"Labels now\"] li')].map(li => [li.querySelector('.name').textContent, li.querySelector('.num').lastChild.textContent])";
        page.wait_for(&format!("JSON.stringify({rows}.slice(0, 2)) === '[[\"BROWSER\",\"{browsers}\"],[\"BUYER\",\"{buyers}\"]]'"));
    };
    counts(16, 24);
    check(&page, &server, "labels of the live tables");
    let event = json!({ "source_id": 1, "client_id": "c0", "user_id": "u0", "page": "/p/0", "event_type": "purchase", "value": 5.0, "timestamp": super::now_s() });
    server.http.post_json("/api/ingest", &event).expect_status(200);
    counts(17, 23);
    page.wait_for(
        "[...document.querySelectorAll('.panel[aria-label=\"Labels now\"] .fix')].slice(0, 2).map(e => e.textContent).join() === '24 →,16 →'",
    );
}
