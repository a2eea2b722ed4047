//! The configuration: built-in defaults < file < environment < flags.
//!
//! It promises:
//! - **One place.** Name, type, meaning, default and bounds of a setting are declared together in [`schema`];
//!   `config/desireline.toml` and `docs/configuration.md` are written from there, and a test compares them.
//! - **Every mistake at once.** Unknown keys, ill-typed or unbounded values and contradictions between settings are collected
//!   with their key, the value as written, what is allowed and where it was set (file and line, variable or flag).
//! - **Nothing is opened before the configuration is valid**, except its own file.
//! - **Secrets are not printed**: hashes of tokens, options of the object store and properties of Kafka are hidden in mistakes
//!   and in `Debug`.
//!
//! The file is `--config FILE`, else `./desireline.toml` where there is one. A variable `DESIRELINE__SECTION__KEY` sets
//! `section.key`; entries of lists of tables are numbered (`DESIRELINE__SOURCE__0__TOPICS=clicks,carts`). An empty text
//! unsets an optional setting.
//!
//! Known limitations: the configuration is read once, at the start. Names of Kafka properties that contain an underscore
//! cannot be given by the environment, where `_` stands for `.`.

pub mod checks;
pub mod document;
pub mod mapping;
pub mod reader;
pub mod schema;
pub mod tree;
pub mod values;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use reader::{Mistake, Reader, Section, Settled};
use std::fmt;
use std::path::{Path, PathBuf};
use tree::{Kind, Node, Origin};

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "desireline.toml";
/// The prefix of variables that are settings.
pub const ENV_PREFIX: &str = "DESIRELINE__";
/// Variables without the prefix: services that this one takes the place of are told so.
const OF_OLD: [(&str, [&str; 2]); 2] =
    [("TIPPERS_DB_URL", ["occupancy", "database_url"]), ("ENCRYPTION_KEY", ["concepts", "encryption_key"])];
/// The longest way to a setting is `source.0.properties.name`; a tree without end would exhaust the stack.
const PATH_PARTS_MAX: usize = 8;
/// Larger files are refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration, complete and valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: schema::Server,
    pub http: schema::Http,
    pub access: Vec<schema::AccessToken>,
    pub data: schema::Data,
    pub engine: schema::Engine,
    pub log: schema::Log,
    pub ingest: schema::Ingest,
    pub sources: schema::Sources,
    pub source: Vec<schema::Source>,
    pub clusters: schema::Clusters,
    pub sealing: schema::Sealing,
    pub erasure: schema::Erasure,
    pub interactions: schema::Interactions,
    pub rerank: schema::Rerank,
    pub wifi: schema::Wifi,
    pub occupancy: schema::Occupancy,
    pub concepts: schema::Concepts,
    pub labelling: schema::Labelling,
    pub labels: schema::Labels,
    pub live: schema::Live,
    pub projections: schema::Projections,
    pub projection: Projection,
    pub runs: schema::Runs,
    pub logging: schema::Logging,
    pub demo: schema::Demo,
}

/// The targets of projections.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    pub postgres: schema::ProjectionPostgres,
    pub redis: schema::ProjectionRedis,
    pub kafka: schema::ProjectionKafka,
    pub parquet: schema::ProjectionParquet,
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// A file that must exist.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those without the prefix are ignored.
    pub env: Vec<(String, String)>,
    /// Names of variables with the prefix that are not Unicode text.
    pub env_unreadable: Vec<String>,
    /// (path of the setting, the flag as users write it, its text).
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Inputs {
    /// From the process's environment, and the default file when there is one.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file());
        let mut inputs = Self { file: file.or_else(default), ..Self::default() };
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => inputs.env.push((name, value)),
                (name, _) => inputs.env_unreadable.push(name.unwrap_or_else(|name| name.to_string_lossy().into_owned())),
            }
        }
        inputs.env_unreadable.retain(|name| name.starts_with(ENV_PREFIX));
        inputs
    }

    pub fn flag(&mut self, path: &'static str, flag: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.flags.push((path, flag, value.to_string()));
        }
    }
}

/// All mistakes of a configuration.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError {
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        "config"
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(f, "the configuration has 1 mistake")?,
            many => write!(f, "the configuration has {many} mistakes")?,
        }
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), &self.value) {
            ("", _) => {}
            (path, Some(value)) => write!(f, "{path} = {value}: ")?,
            (path, None) => write!(f, "{path} ")?,
        }
        write!(f, "{}", self.detail)?;
        if self.origin != Origin::Default {
            write!(f, " ({})", self.origin)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Reads and checks everything.
pub fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    let mut mistakes = Vec::new();
    let mut tree = match &inputs.file {
        Some(path) => read_file(path, &mut mistakes),
        None => Node::table(Origin::Default),
    };
    for (name, value) in inputs.env.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some((_, path)) = OF_OLD.iter().find(|(of_old, _)| of_old == name) {
            overlay(&mut tree, &path.map(str::to_owned), value, Origin::Environment(name.clone()), &mut mistakes);
        }
    }
    let mut env: Vec<_> = inputs.env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    // Numbered entries are appended in order: `…__2__…` before `…__10__…`.
    env.sort_by_key(|(name, _)| (env_path(name).iter().map(|part| (part.parse::<u64>().ok(), part.clone())).collect::<Vec<_>>(), name));
    for (name, value) in env {
        overlay(&mut tree, &env_path(name), value, Origin::Environment(name.clone()), &mut mistakes);
    }
    for name in &inputs.env_unreadable {
        let (path, detail) = (env_path(name).join("."), "is not Unicode text".to_owned());
        mistakes.push(Mistake { path, value: None, detail, origin: Origin::Environment(name.clone()), hint: None });
    }
    for (path, flag, value) in &inputs.flags {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        overlay(&mut tree, &path, value, Origin::Flag((*flag).to_owned()), &mut mistakes);
    }
    let mut settled = Settled::new();
    let config = Config::read(tree, &mut mistakes, &mut settled);
    checks::check(&config, &settled, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError { mistakes }) }
}

fn overlay(tree: &mut Node, path: &[String], value: &str, origin: Origin, mistakes: &mut Vec<Mistake>) {
    let set = match path.get(..PATH_PARTS_MAX) {
        Some(begin) if path.len() > PATH_PARTS_MAX => {
            Err((begin.join("."), format!("is nested deeper than {PATH_PARTS_MAX} levels, which no setting is")))
        }
        _ => tree.set(path, value, &origin).map_err(|detail| (path.join("."), detail)),
    };
    if let Err((path, detail)) = set {
        mistakes.push(Mistake { path, value: None, detail, origin, hint: None });
    }
}

/// `DESIRELINE__DATA__STORE_OPTIONS__AWS_REGION` is `data.store_options.aws_region`.
fn env_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = name[ENV_PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    if let [.., table, key] = &mut path[..]
        && table == "properties"
    {
        *key = key.replace('_', ".");
    }
    path
}

fn read_file(path: &Path, mistakes: &mut Vec<Mistake>) -> Node {
    let name = path.display().to_string();
    let refuse = |detail: String, line: usize, hint: Option<&str>| Mistake {
        path: String::new(),
        value: None,
        detail,
        origin: Origin::File { path: name.as_str().into(), line },
        hint: hint.map(str::to_owned),
    };
    let content = match std::fs::metadata(path).and_then(|meta| Ok((meta.len(), std::fs::read(path)?))) {
        Ok((bytes, _)) if bytes > FILE_BYTES_MAX => {
            mistakes.push(refuse(format!("the file is larger than {FILE_BYTES_MAX} bytes"), 1, None));
            return Node::table(Origin::Default);
        }
        Ok((_, content)) => content,
        Err(error) => {
            mistakes.push(refuse(format!("the file cannot be read: {error}"), 1, Some("name another with --config FILE")));
            return Node::table(Origin::Default);
        }
    };
    let Ok(content) = String::from_utf8(content) else {
        mistakes.push(refuse("the file is not UTF-8 text".to_owned(), 1, None));
        return Node::table(Origin::Default);
    };
    tree::parse(&name, content.strip_prefix('\u{feff}').unwrap_or(&content)).unwrap_or_else(|errors| {
        mistakes.extend(errors.into_iter().map(|error| refuse(format!("is not TOML: {}", error.detail), error.line, None)));
        Node::table(Origin::Default)
    })
}

impl Default for Config {
    fn default() -> Self {
        Self::read(Node::table(Origin::Default), &mut Vec::new(), &mut Settled::new())
    }
}

impl Config {
    fn read(tree: Node, mistakes: &mut Vec<Mistake>, settled: &mut Settled) -> Self {
        let mut top = Reader::new(String::new(), Some(tree), mistakes, settled);
        let names = ["server", "http", "access", "data", "engine", "log", "ingest", "sources"];
        let [server, http, access, data, engine, log, ingest, sources] = names.map(|name| top.take(name));
        let names = ["source", "clusters", "sealing", "erasure", "runs", "logging", "demo"];
        let [source, clusters, sealing, erasure, runs, logging, demo] = names.map(|name| top.take(name));
        let [interactions, rerank, projections, projection] =
            ["interactions", "rerank", "projections", "projection"].map(|name| top.take(name));
        let [wifi, occupancy, concepts, labelling] = ["wifi", "occupancy", "concepts", "labelling"].map(|name| top.take(name));
        let [labels, live] = ["labels", "live"].map(|name| top.take(name));
        top.finish(|_| None);
        let mut access = Reader::new("access".to_owned(), access, mistakes, settled);
        let tokens = access.take("token");
        access.finish(document::elsewhere);
        let mut targets = Reader::new("projection".to_owned(), projection, mistakes, settled);
        let [postgres, redis, kafka, parquet] = ["postgres", "redis", "kafka", "parquet"].map(|name| targets.take(name));
        targets.finish(document::elsewhere);
        Self {
            server: section("server", server, mistakes, settled),
            http: section("http", http, mistakes, settled),
            access: list("access.token", tokens, mistakes, settled),
            data: section("data", data, mistakes, settled),
            engine: section("engine", engine, mistakes, settled),
            log: section("log", log, mistakes, settled),
            ingest: section("ingest", ingest, mistakes, settled),
            sources: section("sources", sources, mistakes, settled),
            source: list("source", source, mistakes, settled),
            clusters: section("clusters", clusters, mistakes, settled),
            sealing: section("sealing", sealing, mistakes, settled),
            erasure: section("erasure", erasure, mistakes, settled),
            interactions: section("interactions", interactions, mistakes, settled),
            rerank: section("rerank", rerank, mistakes, settled),
            wifi: section("wifi", wifi, mistakes, settled),
            occupancy: section("occupancy", occupancy, mistakes, settled),
            concepts: section("concepts", concepts, mistakes, settled),
            labelling: section("labelling", labelling, mistakes, settled),
            labels: section("labels", labels, mistakes, settled),
            live: section("live", live, mistakes, settled),
            projections: section("projections", projections, mistakes, settled),
            projection: Projection {
                postgres: section("projection.postgres", postgres, mistakes, settled),
                redis: section("projection.redis", redis, mistakes, settled),
                kafka: section("projection.kafka", kafka, mistakes, settled),
                parquet: section("projection.parquet", parquet, mistakes, settled),
            },
            runs: section("runs", runs, mistakes, settled),
            logging: section("logging", logging, mistakes, settled),
            demo: section("demo", demo, mistakes, settled),
        }
    }
}

fn section<S: Section>(name: &str, node: Option<Node>, mistakes: &mut Vec<Mistake>, settled: &mut Settled) -> S {
    let mut reader = Reader::new(name.to_owned(), node, mistakes, settled);
    let section = S::read(&mut reader);
    reader.finish(document::elsewhere);
    section
}

fn list<S: Section>(name: &str, node: Option<Node>, mistakes: &mut Vec<Mistake>, settled: &mut Settled) -> Vec<S> {
    let items = match node {
        None => Vec::new(),
        Some(Node { kind: Kind::List(items), .. }) => items,
        Some(node) => {
            let detail = format!("must be a list of tables, each written as [[{name}]] on a line of its own");
            mistakes.push(Mistake { path: name.to_owned(), value: Some(node.shown()), detail, origin: node.origin, hint: None });
            Vec::new()
        }
    };
    let read = |(index, item)| section(&format!("{name}[{index}]"), Some(item), mistakes, settled);
    items.into_iter().enumerate().map(read).collect()
}
