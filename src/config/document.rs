//! Writes the documented file and the reference page from the declarations of [`schema`](mod@super::schema).

use super::reader::{Default, Field, Section};
use super::schema;
use std::fmt::Write;

/// The name, the description and the settings of a table, and whether there may be several.
pub struct Table {
    pub name: &'static str,
    pub about: &'static [&'static str],
    pub fields: &'static [Field],
    pub many: bool,
}

fn table<S: Section>(name: &'static str, many: bool) -> Table {
    Table { name, about: S::ABOUT, fields: S::FIELDS, many }
}

/// All tables, in the order of the documented file.
pub fn tables() -> Vec<Table> {
    vec![
        table::<schema::Server>("server", false),
        table::<schema::Http>("http", false),
        table::<schema::AccessToken>("access.token", true),
        table::<schema::Data>("data", false),
        table::<schema::Engine>("engine", false),
        table::<schema::Log>("log", false),
        table::<schema::Ingest>("ingest", false),
        table::<schema::Sources>("sources", false),
        table::<schema::Source>("source", true),
        table::<schema::Clusters>("clusters", false),
        table::<schema::Sealing>("sealing", false),
        table::<schema::Erasure>("erasure", false),
        table::<schema::Interactions>("interactions", false),
        table::<schema::Rerank>("rerank", false),
        table::<schema::Wifi>("wifi", false),
        table::<schema::Occupancy>("occupancy", false),
        table::<schema::Concepts>("concepts", false),
        table::<schema::Labelling>("labelling", false),
        table::<schema::Labels>("labels", false),
        table::<schema::Live>("live", false),
        table::<schema::Projections>("projections", false),
        table::<schema::ProjectionPostgres>("projection.postgres", false),
        table::<schema::ProjectionRedis>("projection.redis", false),
        table::<schema::ProjectionKafka>("projection.kafka", false),
        table::<schema::ProjectionParquet>("projection.parquet", false),
        table::<schema::Runs>("runs", false),
        table::<schema::Logging>("logging", false),
        table::<schema::Demo>("demo", false),
    ]
}

/// Where a setting of this name really is.
pub fn elsewhere(name: &str) -> Option<String> {
    let has = |table: &Table| table.fields.iter().any(|field| field.name == name);
    tables().iter().find(|table| has(table)).map(|table| format!("{}.{name}", table.name))
}

const HEAD: &str = "\
# Desireline: every setting, with its meaning and its default.
#
# A line `#key = value` shows a default: remove the `#` to change it. `#| ` marks examples of what has no default.
# Layers: built-in defaults < this file (`--config FILE`, else ./desireline.toml) < environment < flags.
# A variable of the environment is DESIRELINE__SECTION__KEY, for example DESIRELINE__SERVER__LISTEN=127.0.0.1:9000;
# blocks in double brackets are numbered: DESIRELINE__SOURCE__0__TOPICS=clicks,carts.
# `desireline check` reports every mistake at once. Unknown keys are mistakes.
# Durations: \"250ms\", \"5s\", \"20m\", \"6h\", \"7d\". Sizes: \"512KiB\", \"64MiB\", \"2GiB\".
";

/// The content of `config/desireline.toml`.
pub fn toml() -> String {
    let mut out = HEAD.to_owned();
    for table in tables() {
        out.push('\n');
        for line in table.about {
            comment(&mut out, "# ", line);
        }
        match table.many {
            false => line(&mut out, &format!("[{}]", table.name)),
            true => line(&mut out, &format!("#| [[{}]]", table.name)),
        }
        for field in table.fields {
            let indent = if table.many { "#|   # " } else { "# " };
            for line in field.doc {
                comment(&mut out, indent, line);
            }
            if !table.many {
                comment(&mut out, indent, &format!(" Allowed: {}.", field.allowed()));
            }
            let (text, note) = match field.default {
                Default::Value(text) => (text, ""),
                Default::Unset(text) => (text, "  # an example; unset by default"),
                Default::Required(text) => (text, "  # required"),
            };
            let prefix = match (table.many, field.default) {
                (true, _) => "#|   ",
                (false, Default::Unset(_)) => "#| ",
                (false, _) => "#",
            };
            line(&mut out, &format!("{prefix}{} = {}{note}", field.name, (field.toml)(text)));
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Doc lines begin with a space, as they do in source code.
fn comment(out: &mut String, prefix: &str, text: &str) {
    line(out, format!("{prefix}{}", text.trim_start()).trim_end());
}

const PAGE_HEAD: &str = "\
# Configuration

Desireline runs without any configuration: every setting has a default, except what describes your own sources and tokens.

A setting is looked for in four layers, and the last one that has it wins:

1. the built-in defaults;
2. a file: `--config FILE`, else `./desireline.toml` where there is one;
3. the environment: `DESIRELINE__SECTION__KEY`, for example `DESIRELINE__SERVER__LISTEN=127.0.0.1:9000`. Blocks in double
   brackets are numbered (`DESIRELINE__SOURCE__0__TOPICS=clicks,carts`), lists are words between commas, an empty text unsets
   an optional setting. In `properties`, `_` stands for `.`;
4. flags of the command line, such as `--listen`.

`desireline check` reads all four, opens nothing else, and reports every mistake at once: unknown keys (with a guess at what
was meant), values out of bounds, contradictions between settings; each with its key, its value, what is allowed and where it
was set. Exit code 0 means valid, 3 means mistakes. Secrets (hashes of tokens, options of the object store, properties of
Kafka) are never printed.

`config/desireline.toml` is this page as a file; `desireline check --print-defaults` prints it.
Durations are written \"250ms\", \"5s\", \"20m\", \"6h\", \"7d\"; sizes \"512KiB\", \"64MiB\", \"2GiB\". Bounds are inclusive.
";

/// The content of `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = PAGE_HEAD.to_owned();
    for table in tables() {
        let (open, close) = if table.many { ("[[", "]]") } else { ("[", "]") };
        let about = joined(table.about);
        // Writing to a String cannot fail.
        let _ =
            write!(out, "\n## `{open}{}{close}`\n\n{about}\n\n| setting | default | allowed | meaning |\n|---|---|---|---|\n", table.name);
        for field in table.fields {
            let default = match field.default {
                Default::Value(text) => format!("`{}`", (field.toml)(text)),
                Default::Unset(text) => format!("unset (for example `{}`)", (field.toml)(text)),
                Default::Required(text) => format!("required (for example `{}`)", (field.toml)(text)),
            };
            let _ = writeln!(out, "| `{}` | {default} | {} | {} |", field.name, field.allowed(), joined(field.doc));
        }
    }
    out
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
