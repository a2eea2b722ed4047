//! Configurations that nobody would write: whatever they are, they are read or their mistakes are named, and secrets stay hidden.
//!
//! These catch panics, mistakes that hide others, and secrets that are printed. They cannot catch a wrong meaning of a right value.

use super::document::tables;
use super::*;
use proptest::prelude::*;
use proptest::sample::select;
use std::io::Write;

fn load_text(content: &[u8], env: Vec<(String, String)>, flags: Vec<(&'static str, &'static str, String)>) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content).expect("written");
    load(&Inputs { file: Some(file.path().to_owned()), env, flags, ..Inputs::default() })
}

/// All mistakes are printed, and each says where it is.
fn check(result: &Result<Config, ConfigError>) {
    if let Err(error) = result {
        assert!(!error.mistakes.is_empty());
        let text = error.to_string();
        // A detail may itself have several lines, as a parser writes them.
        assert!(text.lines().count() > error.mistakes.len(), "{text}");
        assert!(error.mistakes.iter().all(|mistake| !mistake.detail.is_empty()));
    }
}

/// (table, setting) as declared.
fn settings() -> Vec<(&'static str, &'static str, bool)> {
    tables().iter().flat_map(|table| table.fields.iter().map(|field| (table.name, field.name, table.many))).collect()
}

/// Values of every type and of none, as TOML.
fn wild_toml() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "0",
        "-1",
        "+7",
        "0x7f",
        "0o7",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "1_000",
        "1e400",
        "-0.0",
        "nan",
        "inf",
        "true",
        "false",
        "[]",
        "[[]]",
        "[1, \"a\", {}]",
        "{}",
        "{ a = 1 }",
        "\"\"",
        "\"5s\"",
        "\"99999999999999999999d\"",
        "\"1.5h\"",
        "\"-5s\"",
        "\"64MiB\"",
        "\"99999999999999999999GiB\"",
        "\"1KiB \"",
        "\"127.0.0.1:99999\"",
        "\"[::1]:0\"",
        "\"0.0.0.0:1\"",
        "\"s3://\"",
        "\"http://a b\"",
        "\"\\u0000\"",
        "\"\\U0001F600\"",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "'''\na\n'''",
    ]);
    prop_oneof![3 => odd.prop_map(str::to_owned), 1 => any::<i64>().prop_map(|n| n.to_string()), 1 => ".{0,30}".prop_map(|text| format!("{text:?}")), 1 => any::<f64>().prop_map(|n| n.to_string())]
}

/// The same as a person's shell would give it.
fn wild_text() -> impl Strategy<Value = String> {
    prop_oneof![2 => wild_toml(), 1 => ".{0,40}", 1 => select(vec!["", " ", ",", ",,a", "a,b", "=", "true ", "0", "18446744073709551616", "1e9s"]).prop_map(str::to_owned)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_configuration_or_a_mistake(content in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&load_text(&content, vec![], vec![]));
    }

    #[test]
    fn any_arrangement_of_the_words_of_toml_is_one_or_a_mistake(
        words in prop::collection::vec(select(vec!["[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\"", "'", "'''", "\n", "#", " ", "source", "server", "access", "token",
            "properties", "listen", "a", "1", "-", "\\", "\u{feff}", "\r", "é", "0", "true"]), 0..60)
    ) {
        check(&load_text(words.concat().as_bytes(), vec![], vec![]));
    }

    /// One wrong key or value does not hide another: of every table that has one, it is named.
    #[test]
    fn every_setting_takes_any_value_or_names_it(
        values in prop::collection::vec((select(settings()), wild_toml()), 0..12),
        unknown in prop::collection::btree_set(select(tables().iter().filter(|t| !t.many).map(|t| t.name).collect::<Vec<_>>()), 0..5),
    ) {
        let mut sections: std::collections::BTreeMap<&str, std::collections::BTreeMap<String, String>> = Default::default();
        for ((table, name, many), value) in &values {
            let header = if *many { format!("[[{table}]]") } else { format!("[{table}]") };
            sections.entry(Box::leak(header.into_boxed_str())).or_default().insert((*name).to_owned(), value.clone());
        }
        for table in &unknown {
            sections.entry(Box::leak(format!("[{table}]").into_boxed_str())).or_default().insert("no_such_setting".to_owned(), "1".to_owned());
        }
        let text: String = sections.iter().map(|(header, values)| {
            format!("{header}\n{}", values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect::<String>())
        }).collect();
        let result = load_text(text.as_bytes(), vec![], vec![]);
        check(&result);
        let mistakes = result.err().map(|error| error.mistakes).unwrap_or_default();
        // A syntax error keeps the rest from being read.
        if mistakes.iter().all(|mistake| !mistake.path.is_empty()) {
            for table in &unknown {
                let path = format!("{table}.no_such_setting");
                prop_assert!(mistakes.iter().any(|mistake| mistake.path == path), "{path} is not named:\n{text}\n{mistakes:#?}");
            }
        }
    }

    #[test]
    fn any_variable_is_a_setting_or_a_mistake(
        variables in prop::collection::vec((prop::collection::vec(select(vec!["SERVER", "SOURCE", "ACCESS", "TOKEN", "0", "1", "00", "99999999999999999999", "NAME", "PROPERTIES",
            "STORE_OPTIONS", "DATA", "LISTEN", "TOPICS", "HASH", "", "_", "é", "A B", "="]), 0..5), wild_text()), 0..6),
    ) {
        let env = variables.into_iter().map(|(parts, value)| (format!("{ENV_PREFIX}{}", parts.join("__")), value)).collect();
        check(&load_text(b"", env, vec![]));
    }

    #[test]
    fn any_flag_is_a_value_or_a_mistake_that_names_it((table, name, many) in select(settings()), value in wild_text()) {
        if !many {
            let path: &'static str = Box::leak(format!("{table}.{name}").into_boxed_str());
            let result = load_text(b"", vec![], vec![(path, "--the-flag", value)]);
            check(&result);
            if let Err(error) = result {
                // A mistake between two settings names both; the flag is named where its own value is at fault.
                let text = error.to_string();
                prop_assert!(text.contains("--the-flag") || text.contains(path), "{text}");
            }
        }
    }

    #[test]
    fn a_secret_is_printed_nowhere(secret in "[a-zA-Z0-9]{12,40}", place in 0..4_usize, broken in any::<bool>()) {
        let content = match place {
            0 => format!("[[access.token]]\nname = \"a\"\nhash = \"{secret}\"\nscopes = [\"read\"]\n"),
            1 => format!("[data]\nstore_options = {{ aws_secret_access_key = \"{secret}\" }}\n"),
            2 => format!("[[source]]\nname = \"a\"\nsource_id = 1\nproperties = {{ \"sasl.password\" = \"{secret}\" }}\n"),
            _ => format!("[data]\nstore_options = \"{secret}\"\n"),
        };
        let content = if broken { format!("{content}[engine]\nworkers = 0\n") } else { content };
        let shown = match load_text(content.as_bytes(), vec![], vec![]) {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains(&secret), "{shown}");
    }
}

#[test]
fn a_tree_without_end_is_a_mistake() {
    for part in ["a", "0", "source"] {
        let deep = format!("{ENV_PREFIX}{}", vec![part; 100_000].join("__"));
        let error = load_text(b"", vec![(deep, "x".to_owned())], vec![]).expect_err("too deep");
        assert!(error.mistakes[0].detail.contains("nested"), "{}", error.mistakes[0].detail);
    }
    for content in
        [format!("a = {}", "[".repeat(100_000)), format!("{}b = 1", "a.".repeat(100_000)), format!("a = {}", "{a=".repeat(100_000))]
    {
        assert!(load_text(content.as_bytes(), vec![], vec![]).is_err());
    }
}

#[test]
fn a_variable_that_is_no_text_is_a_mistake() {
    let inputs = Inputs { env_unreadable: vec!["DESIRELINE__SERVER__LISTEN".to_owned()], ..Inputs::default() };
    let error = load(&inputs).expect_err("unreadable");
    assert!(
        error.to_string().contains("server.listen is not Unicode text (the environment variable DESIRELINE__SERVER__LISTEN)"),
        "{error}"
    );
}
