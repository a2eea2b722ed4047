//! WiFi sessions on their way in, by every door of the real binary: topic, HTTP, file, generator. What came in is counted alike, and no
//! address gets any further than the door: not into the log, not into a dead letter, not into what the server prints.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::command::desireline;
use support::http::Http;
use support::kafka::Kafka;
use support::model::{counter, source_status};
use support::server::Server;
use support::wait::{DEADLINE, eventually};

const SOURCE: u64 = 2_000;
const MAC: &str = "00:1b:44:11:3a:b7";
/// Made up by its device.
const RANDOM: &str = "da:a1:19:00:ff:01";

fn session(mac: &str, space: u32, start: &str, end: Option<&str>) -> Value {
    json!({ "mac_address": mac, "space_id": space, "sensor_id": "ap-1", "start_time": start, "end_time": end })
}

fn counts(status: &Value) -> [u64; 5] {
    ["received", "applied", "duplicate", "quarantined", "rejected"].map(|name| counter(status, SOURCE, name))
}

#[track_caller]
fn wait_received(http: &Http, wanted: u64) -> Value {
    eventually("the sessions to be taken", DEADLINE, || {
        let status = http.get_json("/api/status");
        let known = status["sources"].as_array().is_some_and(|all| all.iter().any(|source| source["source_id"] == SOURCE));
        if known && counter(&status, SOURCE, "received") == wanted { Ok(status) } else { Err(status.to_string()) }
    })
}

#[track_caller]
fn rows_of_log(server: &Server) -> String {
    let data = server.data().display().to_string();
    desireline(server.folder(), &["log", "cat", "--only", "events,dead-letters,controls", "--data", &data]).expect_code(0).stdout
}

/// Neither what the server has stored nor what it has printed names a device.
#[track_caller]
fn assert_no_address(server: &Server, addresses: &[&str]) {
    let mut seen: Vec<(String, Vec<u8>)> = vec![("the log of the server".to_owned(), server.logs().into_bytes())];
    let mut folders = vec![server.data().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => seen.push((entry.display().to_string(), fs::read(&entry).unwrap_or_default())),
            }
        }
    }
    seen.push(("the rows of the log".to_owned(), rows_of_log(server).into_bytes()));
    for (name, bytes) in seen {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        for address in addresses {
            for spelling in [(*address).to_owned(), address.replace(':', "-"), address.replace(':', "")] {
                assert!(!text.contains(&spelling), "{name} holds {spelling}");
            }
        }
    }
}

#[test]
fn sessions_of_a_topic_are_counted_and_their_addresses_stay_outside() {
    let Some(kafka) = Kafka::from_env() else { return };
    let (topic, dead) = (kafka.create_topic("wifi-sessions", 2), kafka.create_topic("wifi-dead", 1));
    let config = format!(
        "[[source]]\nname = \"wifi\"\nsource_id = {SOURCE}\nkind = \"kafka\"\nformat = \"wifi\"\nbrokers = [\"{}\"]\ntopics = [\"{topic}\"]\n\
         dead_letter_topic = \"{dead}\"\nrefresh_every = \"300ms\"\n",
        kafka.brokers()
    );
    let mut server = Server::new().config(config).start();
    let rows = [
        session(MAC, 7, "2025-01-06T09:00:00Z", None),
        // Its end, under another spelling of the address; and the same row again.
        session("001B.4411.3AB7", 7, "2025-01-06T09:00:00Z", Some("2025-01-06T10:00:00Z")),
        session(MAC, 7, "2025-01-06T09:00:00Z", Some("2025-01-06T10:00:00Z")),
        session(RANDOM, 7, "2025-01-06T09:30:00Z", Some("2025-01-06T09:30:00Z")),
        session(MAC, 7, "2025-01-06T09:00:00Z", Some("2025-01-06T08:00:00Z")),
        json!({ "mac_address": RANDOM, "space_id": RANDOM, "start_time": 5 }),
        session(RANDOM, 7, "2199-01-06T09:30:00Z", None),
    ];
    // One device's messages have one key, so they stay in order.
    kafka.produce(&topic, rows.iter().map(Value::to_string).chain([format!("{{\"mac_address\":\"{RANDOM}\",")]));
    let status = wait_received(&server.http, 8);
    let [_, applied, duplicate, quarantined, rejected] = counts(&status);
    assert_eq!((applied + duplicate, quarantined, rejected), (4, 1, 3), "{}", source_status(&status, SOURCE));

    let letters = server.http.get_json("/api/dead-letters?source_id=2000");
    let letters = letters["dead_letters"].as_array().expect("a list");
    assert_eq!(letters.len(), 4);
    let users: std::collections::BTreeSet<&str> = letters.iter().filter_map(|letter| letter["user_id"].as_str()).collect();
    assert!(users.len() == 2 && users.iter().all(|user| user.len() == 33 && user.starts_with('p')), "{letters:#?}");
    let forwarded = eventually("the dead letters to be passed on", DEADLINE, || {
        let stored = kafka.read_all(&dead);
        if stored.len() == 4 { Ok(stored) } else { Err(format!("{} messages", stored.len())) }
    });
    for message in forwarded {
        let text = String::from_utf8_lossy(&message.payload).to_lowercase();
        assert!(!text.contains(MAC) && !text.contains(RANDOM) && !text.is_empty(), "{text}");
    }

    server.crash();
    assert_eq!(counts(&wait_received(&server.http, 8)), counts(&status), "each message once, also after a crash");
    server.stop();
    assert_no_address(&server, &[MAC, RANDOM]);
}

#[test]
fn a_quarantined_session_is_replayed_under_its_pseudonym() {
    let mut server = Server::new().config("[ingest]\nmax_future = \"1s\"\n").start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let ahead = json!({ "sessions": [
        { "mac_address": MAC, "space_id": 7, "start_time": now + 3_000 },
        { "mac_address": MAC, "space_id": 7, "start_time": "2025-01-06T09:00:00Z" },
    ] });
    let reply = server.http.post_json("/api/wifi-sessions", &ahead).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["rejected"][0]["field"]), (&json!(1), &json!("start_time")), "{reply}");
    let letter = server.http.get_json("/api/dead-letters?source_id=2000")["dead_letters"][0].clone();
    assert_eq!((&letter["kind"], &letter["format"]), (&json!("quarantined"), &json!("wifi_replaced")));
    let path = format!("/api/dead-letters/{}/replay", letter["id"].as_str().expect("an id"));
    let replay = || server.http.send(reqwest::Method::POST, &path, &[], Vec::new());
    let reply = eventually("its time to come", Duration::from_secs(20), || {
        let reply = replay();
        if reply.status == 200 { Ok(reply.json()) } else { Err(reply.text()) }
    });
    assert_eq!((&reply["inserted"], &reply["duplicates"]), (&json!(1), &json!(0)));
    assert_eq!(replay().expect_status(200).json()["duplicates"], 1, "replayed twice, counted once");
    // Both sessions are of one device: it is erased by its address.
    let erased = server.http.delete(&format!("/api/macs/{MAC}")).expect_status(202).json();
    assert_eq!(erased["run_ids"].as_array().map(Vec::len), Some(1), "{erased}");
    server.stop();
    assert_no_address(&server, &[MAC]);
}

#[test]
fn an_erasure_finds_a_device_under_every_key_and_a_lost_key_is_told() {
    let mut server = Server::new().start();
    let send = |server: &Server, start: &str| {
        let body = session(MAC, 7, start, None);
        server.http.post_json("/api/wifi-sessions", &body).expect_status(200);
    };
    send(&server, "2025-01-06T09:00:00Z");
    server.http.delete(&format!("/api/macs/{RANDOM}")).expect_status(404);
    server.stop();
    let keys = server.data().join("mac.keys");
    let data = server.data().display().to_string();
    let fingerprint = desireline(server.folder(), &["wifi", "rotate-key", "--data", &data]).expect_code(0).stdout;
    assert_eq!(fingerprint.trim().len(), 16);
    server.start_again();
    send(&server, "2025-01-06T09:00:00Z");
    assert_eq!(counter(&wait_received(&server.http, 2), SOURCE, "applied"), 2, "another device, as far as anybody can tell");

    // The older key is lost.
    server.stop();
    let both = fs::read_to_string(&keys).expect("readable");
    let newer = both.lines().next().expect("a key").to_owned();
    fs::write(&keys, format!("{newer}\n")).expect("written");
    server.start_again();
    let told = |server: &Server| {
        let status = server.http.get_json("/api/status");
        let partitions = source_status(&status, SOURCE)["partitions"].as_array().cloned().unwrap_or_default();
        partitions.iter().find(|partition| partition["partition"] == "keys").map_or(Value::Null, |partition| partition["error"].clone())
    };
    let error = eventually("the lost key to be told of", DEADLINE, || told(&server).as_str().map(str::to_owned).ok_or("nothing"));
    assert!(error.contains("put the keys back") && !error.contains(&newer), "{error}");

    server.stop();
    fs::write(&keys, both).expect("written");
    server.start_again();
    assert_eq!(told(&server), Value::Null);
    let erased = server.http.delete(&format!("/api/macs/{}", MAC.to_uppercase())).expect_status(202).json();
    assert_eq!(erased["run_ids"].as_array().map(Vec::len), Some(2), "both of its names: {erased}");
    server.http.delete("/api/macs/02:00:00:00:00:01").expect_status(404);

    // Who only knows the pseudonym can erase by it.
    let body = session(RANDOM, 8, "2025-01-06T09:00:00Z", None);
    server.http.post_json("/api/wifi-sessions", &body).expect_status(200);
    let rows = rows_of_log(&server);
    let row = rows.lines().rfind(|line| line.contains("\"space_id\":8")).expect("its row");
    let row: Value = serde_json::from_str(row).expect("JSON");
    assert_eq!((&row["randomized"], &row["end_time"]), (&json!(true), &Value::Null));
    server.http.delete(&format!("/api/macs/{}", row["user_id"].as_str().expect("a name"))).expect_status(202);
    server.stop();
    fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("permitted");
    let refused = desireline(server.folder(), &["serve", "--data", &data, "--listen", "127.0.0.1:0"]).expect_code(5);
    assert!(refused.stderr.contains("mac.keys") && refused.stderr.contains("600"), "{}", refused.stderr);
}

#[test]
fn addresses_are_kept_where_that_is_asked_for() {
    let server = Server::new().config("[wifi]\npseudonyms = \"off\"\nstrict_mac = true\n").start();
    let body = json!({ "sessions": [session(&MAC.to_uppercase(), 7, "2025-01-06T09:00:00Z", None), session("laptop", 7, "2025-01-06T09:00:00Z", None)] });
    let reply = server.http.post_json("/api/wifi-sessions", &body).expect_status(200).json();
    assert_eq!((&reply["inserted"], &reply["rejected"][0]["field"]), (&json!(1), &json!("mac_address")));
    assert!(!server.data().join("mac.keys").exists(), "no key is made that nobody needs");
    let printed = rows_of_log(&server);
    assert!(printed.contains(MAC) && printed.contains("laptop"), "{printed}");
    assert_eq!(server.http.delete(&format!("/api/macs/{MAC}")).expect_status(202).json()["detail"], "erased");
}

/// The same campus by file, by topic and by HTTP: whichever comes first counts, and the others bring nothing new.
#[test]
fn the_generated_campus_counts_once_by_whichever_way_it_comes() {
    let server = Server::new().start();
    let folder = server.folder();
    let generate = |kind: &str, to: &str| {
        let campus = ["--events", "5000", "--users", "200", "--open", "0.3", "--duplicates", "0.02", "--late", "0.05", "--to", to];
        let arguments: Vec<&str> =
            ["generate", kind].into_iter().chain(if kind == "wifi" { &campus[..] } else { &campus[10..] }.iter().copied()).collect();
        desireline(folder, &arguments).expect_code(0)
    };
    let told = generate("spaces", &server.base());
    assert!(told.stderr.contains("265 rows"), "{}", told.stderr);
    let told = generate("wifi", &server.base());
    assert!(told.stderr.contains("5000 rows") && told.stderr.contains(" 0 rejected"), "{}", told.stderr);
    let first = wait_received(&server.http, 5_000);
    let [_, applied, duplicate, quarantined, rejected] = counts(&first);
    assert!(applied > 4_500 && duplicate > 50 && quarantined + rejected == 0, "{}", source_status(&first, SOURCE));

    generate("wifi", "campus.csv");
    let path = folder.join("campus.csv").display().to_string();
    let url = server.base();
    let file = ["ingest", &path, "--format", "wifi", "--source-id", "2000", "--url", &url];
    assert_counts_nothing(folder, &file);
    assert_counts_nothing(folder, &[&file[..], &["--stream"]].concat());
    let status = wait_received(&server.http, 15_000);
    assert_eq!(counter(&status, SOURCE, "applied"), applied, "{}", source_status(&status, SOURCE));

    let wrong = desireline(folder, &["ingest", &path, "--format", "wifi", "--source-id", "7", "--url", &url]).expect_code(1);
    assert!(wrong.stderr.contains("2000"), "{}", wrong.stderr);
}

/// A live stream by topic: what the generator has told is in the server, open sessions included, and none of it lies ahead of the clock.
#[test]
fn a_generated_stream_of_a_topic_is_read_as_it_happens() {
    let Some(kafka) = Kafka::from_env() else { return };
    let topic = kafka.create_topic("wifi-live", 3);
    let config = format!(
        "[ingest]\nmax_future = \"0s\"\n[[source]]\nname = \"wifi\"\nsource_id = {SOURCE}\nkind = \"kafka\"\nformat = \"wifi\"\n\
         brokers = [\"{}\"]\ntopics = [\"{topic}\"]\nrefresh_every = \"300ms\"\n",
        kafka.brokers()
    );
    let server = Server::new().config(config).start();
    let to = format!("kafka://{}/{topic}", kafka.brokers());
    let live = ["generate", "wifi", "--rate", "500", "--users", "20000", "--events", "1000", "--open", "0.5", "--to", &to];
    desireline(server.folder(), &live).expect_code(0);
    let status = wait_received(&server.http, 1_000);
    assert_eq!(counts(&status), [1_000, 1_000, 0, 0, 0], "{}", source_status(&status, SOURCE));
    let open = rows_of_log(&server).lines().filter(|line| line.contains("\"end_time\":null")).count();
    assert!((200..500).contains(&open), "{open} rows of open sessions");
}

#[track_caller]
fn assert_counts_nothing(folder: &Path, arguments: &[&str]) {
    let told = desireline(folder, arguments).expect_code(0).stdout;
    assert!(told.starts_with("5000 rows: 0 new, 5000 duplicates, 0 rejected"), "{told}");
}

#[test]
fn a_flood_of_one_device_is_taken_or_refused_but_never_hurts() {
    let server = Server::new().start();
    let start = 1_736_154_000;
    let mut taken = 0;
    for batch in 0..10 {
        let rows: Vec<Value> = (0..10_000)
            .map(|n| json!({ "mac_address": MAC, "space_id": n % 7, "start_time": start + batch * 10_000 + n, "end_time": start + batch * 10_000 + n + 600 }))
            .collect();
        let reply = eventually("a batch to be answered", DEADLINE, || {
            let reply = server.http.post_json("/api/wifi-sessions", &json!({ "sessions": rows }));
            // Pressure is answered with the request to come again.
            if reply.status == 429 { Err(reply.text()) } else { Ok(reply) }
        });
        taken += reply.expect_status(200).json()["inserted"].as_u64().expect("a number");
    }
    assert_eq!(taken, 100_000);
    let status = wait_received(&server.http, 100_000);
    assert_eq!(counts(&status), [100_000, 100_000, 0, 0, 0]);
    let too_many = json!({ "sessions": vec![json!({}); 10_001] });
    server.http.post_json("/api/wifi-sessions", &too_many).expect_status(413);
    server.http.get("/ready").expect_status(200);
}
