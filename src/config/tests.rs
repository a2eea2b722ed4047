use super::reader::Default as FieldDefault;
use super::*;
use std::time::Duration;

/// A configuration from a file's content, variables and flags.
fn load_from(content: &str, env: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("desireline.toml");
    std::fs::write(&path, content).expect("written");
    load(&Inputs {
        file: Some(path),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(path, flag, value)| (*path, *flag, (*value).to_owned())).collect(),
        ..Inputs::default()
    })
}

fn mistakes(content: &str, env: &[(&str, &str)]) -> Vec<Mistake> {
    load_from(content, env, &[]).err().map(|error| error.mistakes).unwrap_or_default()
}

fn find<'a>(mistakes: &'a [Mistake], path: &str) -> &'a Mistake {
    mistakes.iter().find(|mistake| mistake.path == path).unwrap_or_else(|| panic!("no mistake at {path}: {mistakes:#?}"))
}

#[test]
fn later_layers_win() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n[engine]\nworkers = 3\n";
    let defaults = load_from("", &[], &[]).expect("valid");
    assert_eq!((defaults.server.listen.port(), defaults.engine.workers), (8000, 2));
    let config = load_from(file, &[], &[]).expect("valid");
    assert_eq!((config.server.listen.port(), config.engine.workers), (1, 3));
    let env = [("DESIRELINE__SERVER__LISTEN", "127.0.0.1:2"), ("HOME", "/")];
    let config = load_from(file, &env, &[]).expect("valid");
    assert_eq!((config.server.listen.port(), config.engine.workers), (2, 3));
    let config = load_from(file, &env, &[("server.listen", "--listen", "127.0.0.1:4")]).expect("valid");
    assert_eq!((config.server.listen.port(), config.engine.workers), (4, 3));
}

#[test]
fn the_environment_reaches_lists_and_tables() {
    let env = [
        ("DESIRELINE__SOURCE__0__NAME", "shop"),
        ("DESIRELINE__SOURCE__0__SOURCE_ID", "7"),
        ("DESIRELINE__SOURCE__0__KIND", "kafka"),
        ("DESIRELINE__SOURCE__0__BROKERS", "a:9092, b:9092"),
        ("DESIRELINE__SOURCE__0__TOPICS", "clicks,carts"),
        ("DESIRELINE__SOURCE__0__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("DESIRELINE__DATA__STORE_OPTIONS__AWS_REGION", "eu-west-1"),
        ("DESIRELINE__INGEST__WORDS_CART", "basket"),
        ("DESIRELINE__SERVER__INSECURE", "true"),
    ];
    let config = load_from("", &env, &[]).expect("valid");
    let source = &config.source[0];
    assert_eq!((source.source_id, source.topics.len(), source.brokers[1].as_str()), (7, 2, "b:9092"));
    assert_eq!(source.properties.0["sasl.password"], "hunter2");
    assert_eq!(config.data.store_options.0["aws_region"], "eu-west-1");
    assert_eq!(config.ingest.words_cart, ["basket"]);
    assert!(config.server.insecure);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn more_than_ten_numbered_blocks_keep_their_order() {
    let mut env: Vec<(String, String)> = Vec::new();
    for index in (0..12).rev() {
        env.push((format!("DESIRELINE__SOURCE__{index}__NAME"), format!("s{index}")));
        env.push((format!("DESIRELINE__SOURCE__{index}__SOURCE_ID"), index.to_string()));
    }
    let config = load(&Inputs { env, ..Inputs::default() }).expect("valid");
    assert!(config.source.iter().enumerate().all(|(index, source)| source.source_id == index as u32));
    assert_eq!(config.source.len(), 12);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let file = "\
[server]
listne = \"127.0.0.1:1\"
second_listen = 8000
[engine]
workers = 0
commit_age_max = \"5 parsecs\"
workres = 2
max_page = 5
[sources]
session_rule = \"from_last\"
horizon = \"1h\"
[[source]]
source_id = -1
[[access.token]]
name = \"a\"
hash = \"short-and-secret\"
scopes = [\"root\"]
[nonsense]
";
    let found = mistakes(file, &[("DESIRELINE__LOGGING__LEVEL", "loud"), ("DESIRELINE__ENGINE", "x")]);
    let engine = find(&found, "engine");
    assert_eq!(engine.origin, Origin::Environment("DESIRELINE__ENGINE".into()));

    let found = mistakes(file, &[("DESIRELINE__LOGGING__LEVEL", "loud")]);
    let expect = [
        ("server.listne", "not a setting", Some(2)),
        ("server.second_listen", "an address and a port", Some(3)),
        ("engine.workers", "a whole number, from 1 to 64", Some(5)),
        ("engine.commit_age_max", "a duration", Some(6)),
        ("engine.workres", "not a setting", Some(7)),
        ("engine.max_page", "not a setting", Some(8)),
        ("sources.session_rule", "\"from_first\" or \"gap\"", Some(10)),
        ("sources.lateness", "must not exceed sources.horizon", None),
        ("source[0].name", "is required", Some(12)),
        ("source[0].source_id", "a whole number, from 0 to 2147483647", Some(13)),
        ("access.token[0].hash", "64 hexadecimal digits", Some(16)),
        ("access.token[0].scopes", "\"ingest\", \"read\" or \"admin\"", Some(17)),
        ("nonsense", "not a setting", Some(18)),
        ("logging.level", "\"error\", \"warn\"", None),
    ];
    for (path, detail, line) in expect {
        let mistake = find(&found, path);
        assert!(mistake.detail.contains(detail), "{mistake:?}");
        if let Some(line) = line {
            assert!(matches!(&mistake.origin, Origin::File { line: at, .. } if *at == line), "{mistake:?}");
        }
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    assert_eq!(find(&found, "server.listne").hint.as_deref(), Some("did you mean `listen`?"));
    assert_eq!(find(&found, "engine.max_page").hint.as_deref(), Some("did you mean `http.max_page`?"));
    let text = ConfigError { mistakes: found }.to_string();
    assert!(text.contains("the configuration has 14 mistakes") && text.contains("line 5"), "{text}");
    assert!(!text.contains("short-and-secret"), "{text}");
}

#[test]
fn contradictions_are_mistakes() {
    let source = "[[source]]\nname = \"s\"\nsource_id = 1\n";
    let kafka = "kind = \"kafka\"\nbrokers = [\"b:9092\"]\n";
    let cases = [
        ("[server]\nlisten = \"0.0.0.0:80\"\n".to_owned(), "server.listen"),
        ("[server]\nsecond_listen = \"0.0.0.0:80\"\n".to_owned(), "server.second_listen"),
        ("[server]\nsecond_listen = \"127.0.0.1:8000\"\n".to_owned(), "server.second_listen"),
        ("[server]\ntls_cert = \"a\"\n".to_owned(), "server.tls_cert"),
        ("[server]\ntls_key = \"a\"\n".to_owned(), "server.tls_key"),
        ("[http]\ncors_origins = [\"https://a.example/x\"]\n".to_owned(), "http.cors_origins"),
        ("[http]\nbody_max = \"100MiB\"\n".to_owned(), "http.decoded_body_max"),
        ("[engine]\nqueue_rows_max = 5\n".to_owned(), "engine.commit_rows_max"),
        ("[ingest]\nwords_cart = [\"view\"]\n".to_owned(), "ingest.words_cart"),
        ("[data]\nstore_url = \"ftp://x\"\n".to_owned(), "data.store_url"),
        ("[data]\nstore_url = \"s3://\"\n".to_owned(), "data.store_url"),
        (format!("{source}{source}"), "source[1].source_id"),
        (format!("{source}topics = [\"a\"]\n"), "source[0].topics"),
        (format!("{source}{kafka}"), "source[0].topics"),
        (format!("{source}{kafka}topics = [\"a\", \"a\"]\n"), "source[0].topics"),
        (format!("{source}{kafka}topics = [\"a b\"]\n"), "source[0].topics"),
        (format!("{source}{kafka}topics = [\"a\"]\ndead_letter_topic = \"a\"\n"), "source[0].dead_letter_topic"),
        (format!("{source}{kafka}topics = [\"a\"]\nproperties = {{ \"enable.auto.commit\" = \"true\" }}\n"), "source[0].properties"),
        (format!("{source}horizon = \"2h\"\n"), "source[0].horizon"),
        (format!("{source}horizon = \"2h\"\nlateness = \"3h\"\n"), "source[0].lateness"),
        ("source = 5\n".to_owned(), "source"),
        ("[access]\ntoken = { name = \"x\" }\n".to_owned(), "access.token"),
        ("server = 5\n".to_owned(), "server"),
    ];
    for (file, path) in cases {
        let found = mistakes(&file, &[]);
        find(&found, path);
        assert!(found.len() <= 2, "{file}: {found:#?}");
    }
}

#[test]
fn the_network_needs_a_token_or_insecure() {
    let open = "[server]\nlisten = \"0.0.0.0:80\"\n";
    assert_eq!(mistakes(open, &[]).len(), 1);
    assert!(load_from(open, &[("DESIRELINE__SERVER__INSECURE", "true")], &[]).is_ok());
    let hash = "ab".repeat(32);
    let token = format!("{open}[[access.token]]\nname = \"a\"\nhash = \"{hash}\"\nscopes = [\"read\"]\n");
    let config = load_from(&token, &[], &[]).expect("valid");
    let http = mapping::http(&config);
    assert_eq!((http.access.tokens.len(), http.access.tokens[0].hash), (1, [0xab; 32]));
}

#[test]
fn an_unreadable_or_ill_formed_file_is_a_mistake_and_not_a_panic() {
    let missing = Inputs { file: Some("/does/not/exist.toml".into()), ..Inputs::default() };
    let error = load(&missing).expect_err("missing");
    assert!(error.to_string().contains("/does/not/exist.toml"), "{error}");
    assert!(!mistakes("[server\nlisten = \n", &[]).is_empty());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.toml");
    std::fs::write(&path, [0xff, 0xfe]).expect("written");
    let error = load(&Inputs { file: Some(path), ..Inputs::default() }).expect_err("not text");
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn settings_of_a_source_inherit() {
    let file = "\
[sources]
clusters = 9
horizon = \"30d\"
[[source]]
name = \"a\"
source_id = 1
format = \"ampelios\"
session_limit = \"5m\"
[[source]]
name = \"b\"
source_id = 2
horizon = \"off\"
";
    let config = load_from(file, &[], &[]).expect("valid");
    let service = mapping::service(&config);
    let [(name, a), (_, b)] = &service.sources[..] else { panic!("two sources") };
    use desireline_records::{Horizon, UserIdType, time::MINUTE};
    assert_eq!((name.as_str(), a.clusters, a.session_limit, a.user_id_type), ("a", 9, 5 * MINUTE, UserIdType::Int));
    assert_eq!((b.horizon, b.session_limit, b.user_id_type), (Horizon::Off, 20 * MINUTE, UserIdType::String));
    assert_ne!(a.horizon, Horizon::Off);
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = Config::default();
    let defaults = desireline_records::SourceSettings::defaults(0);
    assert_eq!(mapping::source_defaults(&config, 0), defaults);
    assert_eq!(mapping::words(&config), desireline_records::words::Words::default());
    let validator = desireline_records::validate::Validator::default();
    assert_eq!(mapping::service(&config).max_future, validator.max_future);
    assert_eq!(mapping::runs(&config), crate::runs::RunsConfig::default());
    let compaction = desireline_connectors::log::CompactionLimits::default();
    let ours = mapping::service(&config).compaction;
    assert_eq!((ours.segments_min, ours.part_bytes_max), (compaction.segments_min, compaction.part_bytes_max));
    let trigger = crate::trigger::TriggerConfig::default();
    let ours = mapping::trigger(&config);
    assert_eq!((ours.chunk_rows, ours.rows_max), (trigger.chunk_rows, trigger.rows_max));
    let parts = crate::http::config::HttpConfig::default();
    assert_eq!(format!("{:?}", mapping::http(&config)), format!("{parts:?}"));
}

#[test]
fn each_topic_of_a_source_is_read() {
    let file = "\
[[source]]
name = \"s\"
source_id = 3
kind = \"kafka\"
brokers = [\"a:9092\", \"b:9092\"]
topics = [\"x\", \"y\"]
start = \"latest\"
properties = { \"client.id\" = \"d\" }
";
    let topics = mapping::kafka(&load_from(file, &[], &[]).expect("valid"));
    assert_eq!(topics.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    let defaults = desireline_connectors::kafka::KafkaConfig::new("a:9092,b:9092", "x", 3, topics[0].format);
    let ours = &topics[0];
    assert_eq!((ours.source, ours.brokers.as_str()), (3, "a:9092,b:9092"));
    assert_eq!(ours.start, desireline_connectors::kafka::Start::Latest);
    assert_eq!((ours.batch_rows_max, ours.batch_bytes_max), (defaults.batch_rows_max, defaults.batch_bytes_max));
    assert_eq!((ours.batch_age_max, ours.refresh_every), (defaults.batch_age_max, defaults.refresh_every));
    assert_eq!(ours.properties["client.id"], "d");
}

#[test]
fn a_property_that_kafka_does_not_know_is_a_mistake_that_hides_its_value() {
    let file = "[[source]]\nname = \"s\"\nsource_id = 1\nkind = \"kafka\"\nbrokers = [\"b:9092\"]\ntopics = [\"t\"]\n";
    let found = mistakes(&format!("{file}properties = {{ \"sasl.pasword\" = \"hunter2\" }}\n"), &[]);
    let text = ConfigError { mistakes: found.clone() }.to_string();
    assert!(find(&found, "source[0].properties").detail.contains("sasl.pasword"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn every_default_and_example_is_read_by_its_own_type() {
    assert!(load(&Inputs::default()).is_ok());
    for table in document::tables() {
        for field in table.fields {
            assert!(!field.doc.is_empty(), "{}.{} is not documented", table.name, field.name);
            let (FieldDefault::Value(text) | FieldDefault::Unset(text) | FieldDefault::Required(text)) = field.default;
            let line = format!("{} = {}", field.name, (field.toml)(text));
            assert!(tree::parse("x", &line).is_ok(), "{line}");
        }
    }
}

/// The file under the repository's root, compared with what the declarations say. `UPDATE_DOCS=1` writes it instead.
fn compare(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == expected, "{} is out of date; run the tests with UPDATE_DOCS=1", path.display());
}

#[test]
fn the_documents_say_what_the_code_does() {
    compare("config/desireline.toml", &document::toml());
    compare("docs/configuration.md", &document::markdown());
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let shipped = document::toml();
    assert_eq!(load_from(&shipped, &[], &[]).expect("valid as shipped"), Config::default());
    let is_setting = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let uncomment = |line: &str| if is_setting(line) { line[1..].to_owned() } else { line.to_owned() };
    let uncommented: Vec<String> = shipped.lines().map(uncomment).collect();
    assert!(shipped.lines().filter(|line| is_setting(line)).count() > 70);
    assert_eq!(load_from(&uncommented.join("\n"), &[], &[]).expect("valid"), Config::default());
}

#[test]
fn the_documented_examples_are_accepted() {
    let reveal = |line: &str| line.strip_prefix("#| ").or_else(|| line.strip_prefix("#|")).unwrap_or(line).to_owned();
    let all: Vec<String> = document::toml().lines().map(reveal).collect();
    // The example source is a plain one: what is for Kafka alone contradicts that.
    let all = all.join("\n").replace("second_listen = \"127.0.0.1:1032\"", "second_listen = \"127.0.0.1:1033\"");
    let config = load_from(&all, &[], &[]).expect("valid");
    assert_eq!((config.source.len(), config.access.len()), (1, 1));
    assert_eq!(config.source[0].session_limit, Some(Duration::from_secs(1_800)));
    assert_eq!(config.data.store_url.as_deref(), Some("s3://bucket/prefix"));
}

#[test]
fn the_example_files_are_valid() {
    for name in ["desireline.toml", "docker.toml", "cluster.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let result = load(&Inputs { file: Some(path), ..Inputs::default() });
        assert!(result.is_ok(), "{name}: {}", result.err().map(|error| error.to_string()).unwrap_or_default());
    }
}
