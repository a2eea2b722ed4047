use super::super::{Cli, Command};
use super::*;
use clap::Parser;
use desireline_connectors::log::{LogConfig, LogWriter};
use desireline_records::{Batch, Event, EventId};
use std::collections::BTreeMap;
use std::path::Path;

fn parse(line: &str) -> LogArgs {
    match Cli::try_parse_from(format!("desireline log {line}").split_whitespace()).expect("parses").command {
        Command::Log(args) => args,
        other => panic!("{other:?}"),
    }
}

fn write(folder: &Path) {
    let work = async {
        let store = Store::open(&folder.display().to_string(), &BTreeMap::new())?;
        let mut writer = LogWriter::open(store, LogConfig::new(0)).await?;
        for step in 1..=3u64 {
            let user = if step == 2 { "b" } else { "a" };
            let event = Event {
                source: 1,
                movement: Default::default(),
                late: false,
                time: step as i64 * 1_000_000,
                id: EventId::row(&[step as u8], 0),
                value: Default::default(),
                user: user.into(),
                event_type: "view".into(),
                page: "/".into(),
                item: "".into(),
                extra: None,
                stay: None,
            };
            let time = writer.last_time() + step;
            writer.append(&Batch { time, events: vec![event], ..Batch::default() }).await?;
        }
        Ok(())
    };
    block_on(work).expect("written");
}

/// Every file of the log's segments.
fn objects(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_log_is_listed_printed_and_verified_and_damage_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path());
    let data = folder.path().display();
    let reader = open(&ConfigArgs { config: Some("/dev/null".into()), data: Some(folder.path().to_owned()) }).expect("opened");
    let segments = block_on(async { Ok(reader.segments().await?) }).expect("listed");
    let table = listing::table(&segments);
    assert!(table.contains("segment") && table.contains("fence") && table.contains("3 events"), "{table}");
    let lines = listing::lines(&segments);
    let events: u64 = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["events"].as_u64().expect("a number"))
        .sum();
    assert_eq!(events, 3);
    for command in ["ls", "ls --json", "verify", "cat --user a --limit 1", "cat --only events,dead-letters,controls"] {
        run(&parse(&format!("{command} --config /dev/null --data {data}"))).unwrap_or_else(|failure| panic!("{command}: {failure:?}"));
    }
    let damaged = objects(folder.path()).pop().expect("a segment");
    let mut bytes = std::fs::read(&damaged).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let failure = run(&parse(&format!("verify --config /dev/null --data {data}"))).expect_err("damaged");
    assert_eq!(failure.exit, Exit::Found);
    let name = damaged.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(failure.detail.iter().any(|line| line.contains(&name)), "{failure:?}");
}

#[test]
fn rows_are_chosen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path());
    let printed = |flags: &str| cat::printed(folder.path(), flags);
    assert_eq!(printed("").len(), 3);
    assert_eq!(printed("--user b").iter().map(|row| row["user_id"].as_str().expect("text").to_owned()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(printed("--user a --source-id 2").len(), 0);
    let between = printed("--from 1970-01-01T00:00:02Z --to 1970-01-01T00:00:03Z");
    assert_eq!((between.len(), &between[0]["timestamp"]), (1, &serde_json::json!("1970-01-01T00:00:02.000Z")));
    assert!(between[0]["event_id"].as_str().is_some_and(|id| id.starts_with('~')));
    assert_eq!(printed("--only controls").len(), 0);
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("none");
    let failure = run(&parse(&format!("ls --config /dev/null --data {}", missing.display()))).expect_err("missing");
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(!missing.exists());
}
