//! Contradictions between settings: what no single setting can know.

use super::reader::{Mistake, Settled};
use super::schema::Source;
use super::tree::Origin;
use super::values::{SourceKind, micros};
use super::{Config, mapping};
use crate::concepts::vault;
use crate::http::config::AccessToken;
use desireline_connectors::formats::Format;
use desireline_records::Horizon;
use desireline_records::wifi::INTERVALS;
use std::collections::{BTreeMap, BTreeSet};

struct Checker<'a> {
    settled: &'a Settled,
    mistakes: &'a mut Vec<Mistake>,
}

impl Checker<'_> {
    fn refuse(&mut self, path: &str, detail: impl Into<String>, hint: Option<&str>) {
        let (origin, value) = self.settled.get(path).cloned().unwrap_or((Origin::Default, None));
        let hint = hint.map(str::to_owned);
        self.mistakes.push(Mistake { path: path.to_owned(), value, detail: detail.into(), origin, hint });
    }

    /// Settings that already have a mistake of their own are not judged again.
    fn sound(&self, path: &str) -> bool {
        self.mistakes.iter().all(|mistake| mistake.path != path)
    }
}

pub fn check(config: &Config, settled: &Settled, mistakes: &mut Vec<Mistake>) {
    let mut checker = Checker { settled, mistakes };
    server(config, &mut checker);
    tokens(config, &mut checker);
    engine(config, &mut checker);
    words(config, &mut checker);
    sources(config, &mut checker);
    store(config, &mut checker);
    projection_kafka(config, &mut checker);
    wifi(config, &mut checker);
    concepts(config, &mut checker);
}

fn concepts(config: &Config, checker: &mut Checker<'_>) {
    let path = "concepts.encryption_key";
    if let Some(Err(error)) = config.concepts.encryption_key.as_ref().map(|keys| vault::check_given(&keys.0))
        && checker.sound(path)
    {
        checker.refuse(path, error.to_string(), Some("`openssl rand -hex 32` makes one"));
    }
}

fn server(config: &Config, checker: &mut Checker<'_>) {
    let server = &config.server;
    let open = [("server.listen", Some(server.listen)), ("server.second_listen", server.second_listen)];
    for (path, address) in open {
        let exposed = address.is_some_and(|address| !address.ip().is_loopback());
        if exposed && config.access.is_empty() && !server.insecure && checker.sound(path) {
            checker.refuse(
                path,
                "is reachable from the network, but there is no access token",
                Some("make one with `desireline token new`, or answer everybody with `--insecure`"),
            );
        }
    }
    if server.second_listen == Some(server.listen) && server.listen.port() != 0 {
        checker.refuse("server.second_listen", "is the same address as server.listen", None);
    }
    if server.tls_cert.is_some() != server.tls_key.is_some() {
        let (set, missing) = if server.tls_cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
        checker.refuse(&format!("server.{set}"), format!("needs server.{missing} beside it"), None);
    }
    if config.http.decoded_body_max < config.http.body_max {
        checker.refuse("http.decoded_body_max", "must not be smaller than http.body_max", None);
    }
    for origin in config.http.cors_origins.iter().filter(|origin| *origin != "*") {
        let parsed = url::Url::parse(origin).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        if parsed.is_none_or(|url| url.origin().ascii_serialization() != *origin) {
            let detail = format!("`{origin}` is not a web origin: scheme, host and port only, without a path");
            checker.refuse("http.cors_origins", detail, Some("for example \"https://shop.example\""));
        }
    }
}

fn tokens(config: &Config, checker: &mut Checker<'_>) {
    let mut seen = BTreeMap::new();
    for (index, token) in config.access.iter().enumerate() {
        let path = |name: &str| format!("access.token[{index}].{name}");
        if AccessToken::parse_hash(&token.hash).is_none() && checker.sound(&path("hash")) {
            checker.refuse(&path("hash"), "must be 64 hexadecimal digits, a SHA-256", Some("make a token with `desireline token new`"));
        }
        if token.scopes.is_empty() && checker.sound(&path("scopes")) {
            checker.refuse(&path("scopes"), "must name at least one of \"ingest\", \"read\" and \"admin\"", None);
        }
        if let Some(first) = seen.insert(&token.name, index)
            && checker.sound(&path("name"))
        {
            checker.refuse(&path("name"), format!("is also the name of access.token[{first}]"), None);
        }
    }
}

fn engine(config: &Config, checker: &mut Checker<'_>) {
    let engine = &config.engine;
    if engine.commit_rows_max > engine.queue_rows_max {
        let detail = format!("must not exceed engine.queue_rows_max, which is {}", engine.queue_rows_max);
        checker.refuse("engine.commit_rows_max", detail, None);
    }
}

fn words(config: &Config, checker: &mut Checker<'_>) {
    let ingest = &config.ingest;
    let groups = [
        ("ingest.words_view", &ingest.words_view),
        ("ingest.words_cart", &ingest.words_cart),
        ("ingest.words_transaction", &ingest.words_transaction),
    ];
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, words) in groups {
        for word in words {
            if let Some(first) = seen.insert(word, path) {
                checker.refuse(path, format!("`{word}` already stands in {first}"), None);
            }
        }
    }
}

fn store(config: &Config, checker: &mut Checker<'_>) {
    let Some(text) = &config.data.store_url else { return };
    let known = url::Url::parse(text).is_ok_and(|url| match url.scheme() {
        "s3" => url.host_str().is_some_and(|bucket| !bucket.is_empty()) && url.password().is_none(),
        "file" => true,
        _ => false,
    });
    if !known {
        checker.refuse("data.store_url", "must be like \"s3://bucket/prefix\" or \"file:///folder\"", Some("a plain folder is data.dir"));
    }
}

fn sources(config: &Config, checker: &mut Checker<'_>) {
    if let Horizon::After(horizon) = config.sources.horizon
        && micros(config.sources.lateness) > horizon
    {
        checker.refuse("sources.lateness", "must not exceed sources.horizon", None);
    }
    let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (index, source) in config.source.iter().enumerate() {
        let path = |name: &str| format!("source[{index}].{name}");
        for (name, first) in [("source_id", ids.insert(source.source_id, index)), ("name", names.insert(&source.name, index))] {
            if let Some(first) = first
                && checker.sound(&path(name))
            {
                checker.refuse(&path(name), format!("is also that of source[{first}]"), None);
            }
        }
        kafka(source, &path, checker);
        let settings = mapping::source_settings(config, source);
        if let Horizon::After(horizon) = settings.horizon
            && settings.lateness > horizon
            && (source.lateness.is_some() || source.horizon.is_some())
        {
            let set = if source.lateness.is_some() { "lateness" } else { "horizon" };
            checker.refuse(&path(set), "the source's lateness must not exceed its horizon", None);
        }
    }
}

fn kafka(source: &Source, path: &impl Fn(&str) -> String, checker: &mut Checker<'_>) {
    let lists = [("brokers", &source.brokers), ("topics", &source.topics)];
    for (name, list) in lists {
        match source.kind {
            SourceKind::Kafka if list.is_empty() && checker.sound(&path(name)) => {
                checker.refuse(&path(name), "is required for kind = \"kafka\"", None);
            }
            SourceKind::Push if !list.is_empty() => {
                checker.refuse(&path(name), "has no effect without kind = \"kafka\"", Some("add kind = \"kafka\""));
            }
            _ => {}
        }
    }
    let mut seen = Vec::new();
    for topic in &source.topics {
        if seen.contains(&topic) {
            checker.refuse(&path("topics"), format!("names `{topic}` twice"), None);
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if topic.len() > 249 || !topic.bytes().all(legal) {
            checker.refuse(&path("topics"), format!("`{topic}` is not a name of a topic"), None);
        }
        seen.push(topic);
    }
    if source.dead_letter_topic.as_ref().is_some_and(|topic| source.topics.contains(topic)) {
        checker.refuse(&path("dead_letter_topic"), "must not be a topic that the source reads", None);
    }
    let judged = mapping::kafka_source(source).into_iter().flat_map(|topic| topic.mistakes());
    let told: BTreeSet<String> = judged.filter(|text| text.starts_with("properties")).collect();
    for text in told {
        // librdkafka repeats the value, which may be a secret.
        let values = source.properties.0.values().filter(|value| value.len() >= 4);
        let text = values.fold(text, |text, value| text.replace(value.as_str(), "(hidden)"));
        checker.refuse(&path("properties"), text.trim_start_matches("properties").trim_start_matches(':').trim_start(), None);
    }
}

/// WiFi sessions have a source of their own, and bins that days are made of.
fn wifi(config: &Config, checker: &mut Checker<'_>) {
    let wifi = &config.wifi;
    for seconds in wifi.intervals.iter().filter(|seconds| !INTERVALS.contains(seconds)) {
        let detail = format!("{seconds} is none of {}", INTERVALS.map(|seconds| seconds.to_string()).join(", "));
        checker.refuse("wifi.intervals", detail, None);
    }
    if wifi.intervals.is_empty() {
        checker.refuse("wifi.intervals", "must name at least one width", None);
    }
    if wifi.max_open > wifi.max_session {
        checker.refuse("wifi.max_open", "must not exceed wifi.max_session", None);
    }
    if wifi.source_id == config.interactions.source_id {
        checker.refuse("wifi.source_id", "is also interactions.source_id: WiFi sessions have a source of their own", None);
    }
    if config.projection.kafka.forward_source == Some(wifi.source_id) {
        checker.refuse("projection.kafka.forward_source", "is wifi.source_id: WiFi sessions are not passed on", None);
    }
    for percent in wifi.alert_percent.iter().filter(|percent| !(1..=1_000).contains(*percent)) {
        checker.refuse("wifi.alert_percent", format!("{percent} does not lie between 1 and 1000"), None);
    }
    for (index, source) in config.source.iter().enumerate() {
        let path = format!("source[{index}].format");
        if (source.format == Format::Wifi) != (source.source_id == wifi.source_id) && checker.sound(&path) {
            let detail = format!("must be \"wifi\" for the source of wifi.source_id, which is {}, and for no other", wifi.source_id);
            checker.refuse(&path, detail, None);
        }
    }
}

/// Events that are passed on must not come back as events of a source.
fn projection_kafka(config: &Config, checker: &mut Checker<'_>) {
    let out = &config.projection.kafka;
    if out.brokers.is_empty() || out.forward_source.is_none() {
        return;
    }
    for source in &config.source {
        let same_cluster = source.brokers.iter().any(|broker| out.brokers.contains(broker));
        if same_cluster && source.topics.contains(&out.forward_topic) {
            let detail = format!("is also read by the source `{}` from the same brokers: events would go round", source.name);
            checker.refuse("projection.kafka.forward_topic", detail, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load};

    #[test]
    fn wifi_sessions_have_a_source_and_bins_that_fit() {
        let wrong = |settings: &[(&str, &str)]| {
            let env = settings.iter().map(|(name, value)| (format!("DESIRELINE__{name}"), (*value).to_owned())).collect();
            let refused = load(&Inputs { env, ..Inputs::default() }).err();
            refused.map_or_else(Vec::new, |error| error.mistakes.into_iter().map(|mistake| mistake.path).collect())
        };
        let source = |id: &'static str, format: &'static str| {
            [("SOURCE__0__NAME", "s"), ("SOURCE__0__SOURCE_ID", id), ("SOURCE__0__FORMAT", format)]
        };
        for (settings, path) in [
            (&[("WIFI__INTERVALS", "900, 1000")][..], "wifi.intervals"),
            (&[("WIFI__INTERVALS", "")], "wifi.intervals"),
            (&[("WIFI__MAX_OPEN", "2d"), ("WIFI__MAX_SESSION", "1d")], "wifi.max_open"),
            (&[("WIFI__SOURCE_ID", "7"), ("INTERACTIONS__SOURCE_ID", "7")], "wifi.source_id"),
            (&[("PROJECTION__KAFKA__FORWARD_SOURCE", "2000")], "projection.kafka.forward_source"),
            (&[("WIFI__ALERT_PERCENT", "0")], "wifi.alert_percent"),
            (&[("WIFI__ALERT_PERCENT", "80, 1001")], "wifi.alert_percent"),
            (&source("7", "wifi"), "source[0].format"),
            (&source("2000", "clickstream"), "source[0].format"),
        ] {
            assert_eq!(wrong(settings), [path], "{settings:?}");
        }
        assert_eq!(wrong(&source("2000", "wifi")), Vec::<String>::new());
        assert_eq!(wrong(&[("WIFI__INTERVALS", "86400, 900"), ("WIFI__ALERT_PERCENT", "1, 1000")]), Vec::<String>::new());
    }

    #[test]
    fn events_do_not_go_round() {
        let wrong = |brokers: &str, topic: &str, forward_source: Option<&str>| {
            let source = [("NAME", "s"), ("SOURCE_ID", "1"), ("KIND", "kafka"), ("BROKERS", "a:9092, b:9092"), ("TOPICS", "clicks")];
            let source = source.map(|(name, value)| (format!("SOURCE__0__{name}"), value));
            let out = [("BROKERS", Some(brokers)), ("FORWARD_TOPIC", Some(topic)), ("FORWARD_SOURCE", forward_source)];
            let out = out.into_iter().filter_map(|(name, value)| Some((format!("PROJECTION__KAFKA__{name}"), value?)));
            let env = source.into_iter().chain(out).map(|(name, value)| (format!("DESIRELINE__{name}"), value.to_owned())).collect();
            let refused = load(&Inputs { env, ..Inputs::default() }).err();
            refused.map_or_else(Vec::new, |error| error.mistakes.into_iter().map(|mistake| mistake.path).collect())
        };
        assert_eq!(wrong("b:9092", "clicks", Some("1")), ["projection.kafka.forward_topic"]);
        for (brokers, topic, forward_source) in [
            ("c:9092", "clicks", Some("1")),
            ("b:9092", "clickstream.events", Some("1")),
            ("b:9092", "clicks", None),
            ("", "clicks", Some("1")),
        ] {
            assert_eq!(wrong(brokers, topic, forward_source), Vec::<String>::new(), "{brokers} {topic} {forward_source:?}");
        }
    }
}
