//! The page's files and how they are served. What the page does in a browser is tested end to end elsewhere; its pure
//! modules are tested by `modules.test.mjs`, run here when Node is installed.

use super::*;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use std::collections::BTreeSet;
use tower::ServiceExt;

async fn ask(path: &str, if_none_match: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path);
    if let Some(tag) = if_none_match {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let answer = router::<()>().oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible");
    let (parts, body) = answer.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.expect("a body").to_vec())
}

fn files() -> Vec<(String, String)> {
    Assets::iter()
        .map(|name| {
            let file = Assets::get(&name).expect("listed, therefore there");
            (name.to_string(), String::from_utf8(file.data.into_owned()).expect("UTF-8"))
        })
        .collect()
}

/// The names in quotes that a file refers to: `from "./x.js"`, `href="dashboard/x.css"`.
fn references(text: &str) -> BTreeSet<String> {
    text.split(['"', '\''])
        .filter(|word| word.ends_with(".js") || word.ends_with(".css") || word.ends_with(".svg"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_file_that_is_referred_to_is_embedded_and_every_embedded_file_is_used() {
    let names: BTreeSet<String> = files().into_iter().map(|(name, _)| name).collect();
    let mut used = BTreeSet::from(["index.html".to_owned()]);
    for (name, text) in files() {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for reference in references(&text) {
            let target = if let Some(rest) = reference.strip_prefix("dashboard/") {
                rest.to_owned()
            } else if let Some(rest) = reference.strip_prefix("../") {
                let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
                format!("{above}/{rest}")
            } else {
                format!("{folder}/{}", reference.trim_start_matches("./"))
            };
            assert!(names.contains(&target), "{name} refers to {reference}, which is not there");
            used.insert(target);
        }
    }
    assert_eq!(used, names);
}

#[test]
fn all_files_together_are_small() {
    assert!(SERVED.keys().map(String::as_str).eq(files().iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>()));
    let total: usize = SERVED.values().map(|file| file.bytes.len()).sum();
    assert!((40_000..ASSETS_BYTES_MAX).contains(&total), "{total} bytes");
    println!("{total} bytes served");
}

#[test]
fn nothing_points_outside_and_nothing_becomes_markup() {
    let refused = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "createContextualFragment",
        "DOMParser",
        "srcdoc",
        "setHTML",
        "javascript:",
        "import(",
    ];
    for (name, text) in files() {
        for word in refused {
            assert!(!text.contains(word), "{name} contains {word}");
        }
        let outside = text.matches("//").count();
        let namespaces = text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(text.matches("http://").count(), namespaces, "{name} has a foreign address");
        assert!(!text.contains("https://"), "{name} has a foreign address");
        assert!(name.ends_with(".js") || outside == namespaces, "{name} has an address without a scheme");
        assert!(!text.contains("style=\""), "{name} has an inline style, which the policy refuses");
    }
    let page = files().into_iter().find(|(name, _)| name == "index.html").expect("the page").1;
    assert!(!page.contains("<script>") && !page.contains("<style") && !page.contains(" onclick"), "inline code, which the policy refuses");
}

#[tokio::test]
async fn the_page_comes_with_its_policy_type_and_tag() {
    let (status, headers, body) = ask("/dashboard", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("ascii");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy} lacks {part}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("  "));
    assert_eq!(headers[CACHE_CONTROL], "no-cache");
    assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(String::from_utf8(body).expect("UTF-8").starts_with("<!doctype html>"));
}

#[tokio::test]
async fn a_known_tag_is_not_sent_again() {
    for path in ["/dashboard", "/dashboard/js/app.js", "/dashboard/css/tokens.css", "/dashboard/icon.svg"] {
        let (status, headers, body) = ask(path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.is_empty());
        let tag = headers[ETAG].to_str().expect("ascii").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let (status, headers, body) = ask(path, Some(&known)).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{path} {known}");
            assert_eq!(headers[ETAG], tag.as_str());
        }
        assert_eq!(ask(path, Some("\"other\"")).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn modules_have_the_type_that_browsers_demand() {
    for (path, expected) in [
        ("/dashboard/js/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/css/layout.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        assert_eq!(ask(path, None).await.1[CONTENT_TYPE], expected);
    }
}

#[tokio::test]
async fn what_is_not_a_file_of_the_page_is_not_found() {
    for path in
        ["/dashboard/nothing.js", "/dashboard/../Cargo.toml", "/dashboard/..%2f..%2f..%2fCargo.toml", "/dashboard/js", "/dashboard/%00"]
    {
        assert_eq!(ask(path, None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, headers, _) = ask("/dashboard/", None).await;
    assert_eq!((status, headers[LOCATION].as_bytes()), (StatusCode::PERMANENT_REDIRECT, b"../dashboard".as_slice()));
}

/// What is served, written to a folder beside a note that says that its scripts are modules.
fn served_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(folder.path().join("package.json"), r#"{ "type": "module" }"#).expect("a file can be written");
    for (name, file) in SERVED.iter() {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
        std::fs::write(path, &file.bytes).expect("a file can be written");
    }
    folder
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard");

#[test]
fn the_pure_modules_keep_their_promises_as_written_and_as_served() {
    let script = format!("{FOLDER}/modules.test.mjs");
    crate::testing::node(&[&script]);
    let served = served_folder();
    crate::testing::node(&[&script, served.path().to_str().expect("a path in UTF-8")]);
}

#[test]
fn what_is_served_has_the_syntax_of_what_is_written() {
    let served = served_folder();
    let script = format!("{FOLDER}/served.test.mjs");
    let path = served.path().to_str().expect("a path in UTF-8");
    crate::testing::node(&["--expose-internals", "--experimental-vm-modules", "--no-warnings", &script, path]);
}
