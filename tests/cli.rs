//! The command line as users meet it: the real binary, its output, its exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The binary in a folder of its own, without settings from the outside.
fn desireline(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_desireline"));
    command.args(line.split_whitespace()).current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DESIRELINE_")) {
        command.env_remove(name);
    }
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn run(folder: &Path, line: &str) -> Output {
    desireline(folder, line).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = folder();
    let help = stdout(&run(folder.path(), "--help"));
    for command in ["serve", "generate", "ingest", "log", "verify", "check", "token", "version"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    assert!(help.contains("Exit codes"), "{help}");
    for command in
        ["serve", "generate", "ingest", "check", "log ls", "log verify", "log cat", "log reset", "log skip", "verify", "token new"]
    {
        let output = run(folder.path(), &format!("{command} --help"));
        let help = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(help.contains("Example") && help.contains(&format!("desireline {command}")), "{command}: {help}");
        assert!(!help.contains('\x1b'), "{command}: colour without a terminal");
    }
}

#[test]
fn the_version_is_printed() {
    let folder = folder();
    let expected = format!("desireline {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&run(folder.path(), "version")), expected);
    assert_eq!(stdout(&run(folder.path(), "--version")), expected);
}

#[test]
fn a_wrong_command_line_is_2() {
    let folder = folder();
    for line in ["", "fly", "serve --fast", "ingest", "token new", "log"] {
        assert_eq!(run(folder.path(), line).status.code(), Some(2), "{line}");
    }
}

#[test]
fn check_says_valid_or_lists_every_mistake() {
    let folder = folder();
    let output = run(folder.path(), "check");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("valid"));

    fs::write(folder.path().join("desireline.toml"), "[engine]\nworkers = 0\nworkres = 1\n").expect("written");
    let output = desireline(folder.path(), "check").env("DESIRELINE__LOGGING__LEVEL", "loud").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    for part in
        ["3 mistakes", "engine.workers = 0", "line 2", "engine.workres", "did you mean `workers`", "DESIRELINE__LOGGING__LEVEL", "hint:"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(run(folder.path(), "serve").status.code(), Some(3));
    assert!(!folder.path().join("desireline-data").exists(), "nothing is opened before the configuration is valid");
}

#[test]
fn the_printed_defaults_are_a_valid_configuration() {
    let folder = folder();
    let defaults = stdout(&run(folder.path(), "check --print-defaults"));
    fs::write(folder.path().join("d.toml"), &defaults).expect("written");
    assert_eq!(run(folder.path(), "check --config d.toml").status.code(), Some(0));
    assert_eq!(run(folder.path(), "check --config missing.toml").status.code(), Some(3));
}

#[test]
fn a_token_is_printed_once_with_its_configuration() {
    let folder = folder();
    let output = run(folder.path(), "token new --name me --scopes ingest,read");
    let text = stdout(&output);
    let (secret, block) = text.split_once('\n').expect("two parts");
    assert!(secret.starts_with("dl_") && secret.len() == 67, "{secret}");
    assert!(!block.contains(&secret[3..]));
    fs::write(folder.path().join("desireline.toml"), block).expect("written");
    assert_eq!(run(folder.path(), "check").status.code(), Some(0));
    assert_ne!(stdout(&run(folder.path(), "token new --name me --scopes read")).lines().next(), Some(secret));
}

#[test]
fn generated_rows_go_to_standard_output_and_a_reader_may_leave() {
    let folder = folder();
    let output = run(folder.path(), "generate clickstream --events 20 --users 3");
    assert_eq!(stdout(&output).lines().count(), 20);
    assert_eq!(stdout(&run(folder.path(), "generate clickstream --events 20 --users 3")), stdout(&output), "deterministic");
    let mut child =
        desireline(folder.path(), "generate clickstream --events 0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").code().is_some(), "a closed pipe ends it");
}

#[test]
fn without_a_server_or_a_folder_commands_say_so() {
    let folder = folder();
    let mut file = fs::File::create(folder.path().join("e.csv")).expect("created");
    writeln!(file, "timestamp,visitorid,event,itemid,transactionid\n1,1,view,1,").expect("written");
    let output = run(folder.path(), "ingest e.csv --source-id 1 --url http://127.0.0.1:9");
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("hint: start one with `desireline serve`"), "{}", stderr(&output));
    let output = run(folder.path(), "log ls");
    assert_eq!(output.status.code(), Some(5));
    assert!(!folder.path().join("desireline-data").exists());
}

#[test]
fn a_file_is_loaded_offline_and_counts_once() {
    let folder = folder();
    assert_eq!(run(folder.path(), "generate clickstream --events 500 --users 20 --to e.csv").status.code(), Some(0));
    let first = run(folder.path(), "ingest e.csv --source-id 3 --data d --initial");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert_eq!(stdout(&first), "500 rows: 500 new, 0 duplicates, 0 rejected\n");
    let again = run(folder.path(), "ingest e.csv --source-id 3 --data d");
    assert_eq!(stdout(&again), "500 rows: 0 new, 500 duplicates, 0 rejected\n", "{}", stderr(&again));
    assert_eq!(stdout(&run(folder.path(), "log cat --data d --source-id 3 --limit 7")).lines().count(), 7);
    let verified = run(folder.path(), "log verify --data d");
    assert!(verified.status.success() && stdout(&verified).contains("1000 events"), "{}", stdout(&verified));
    let skipped = run(folder.path(), "log skip --at 1 --row 1 --data d");
    assert!(skipped.status.success(), "{}", stderr(&skipped));
    let controls = stdout(&run(folder.path(), "log cat --data d --only controls"));
    assert!(controls.contains("skip_row"), "{controls}");
}

#[test]
fn a_folder_has_one_server_and_a_signal_stops_it_cleanly() {
    let folder = folder();
    let mut server = desireline(folder.path(), "serve --listen 127.0.0.1:0 --data d")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let banner: Vec<String> =
        BufReader::new(server.stdout.take().expect("piped")).lines().take(4).map(|line| line.expect("UTF-8")).collect();
    assert!(banner[1].contains("http://127.0.0.1:") && banner[2].ends_with("/dashboard") && banner[3].ends_with(" d"), "{banner:?}");
    for line in ["serve --listen 127.0.0.1:0 --data d", "log reset --source-id 1 --partition p --position 0 --data d"] {
        let second = run(folder.path(), line);
        assert_eq!(second.status.code(), Some(5), "{line}");
        assert!(stderr(&second).contains(&format!("(process {})", server.id())), "{}", stderr(&second));
    }
    let killed = Command::new("kill").arg("-TERM").arg(server.id().to_string()).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(server.wait().expect("it ends").code(), Some(0));
    assert_eq!(run(folder.path(), "log verify --data d").status.code(), Some(0));
}
