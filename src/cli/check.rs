//! `desireline check`: is the configuration valid?

use super::failure::Failure;
use super::{ConfigArgs, out};
use crate::config::{self, Config, document, mapping};
use crate::occupancy;
use crate::projections::{self, Target};
use clap::Args;
use desireline_dataflows::changes::View;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline check
  desireline check --config /etc/desireline.toml
  desireline check --print-defaults > desireline.toml

Exit code 0: valid. 3: mistakes, all of them listed.")]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print every setting with its meaning and its default, as a file to start from, and check nothing
    #[arg(long)]
    print_defaults: bool,
}

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    if args.print_defaults {
        out(&document::toml());
        return Ok(());
    }
    let inputs = args.config.inputs();
    let config = config::load(&inputs)?;
    let targets = projections::configured(&config)?;
    occupancy::config::external(&config)?;
    let file = inputs.file.map_or("no file, built-in defaults".to_owned(), |path| path.display().to_string());
    out(&format!("The configuration is valid ({file}).\n{}", summary(&config, &targets)));
    Ok(())
}

/// What a server with this configuration would do, without secrets.
fn summary(config: &Config, targets: &[Box<dyn Target>]) -> String {
    let mut lines = vec![
        format!("listen   {}", config.server.listen),
        format!("store    {}", mapping::store_url(config)),
        format!("tokens   {}", config.access.len()),
        format!("workers  {}", config.engine.workers),
    ];
    for source in &config.source {
        let from = if source.topics.is_empty() { "HTTP and files".to_owned() } else { source.topics.join(", ") };
        lines.push(format!("source   {} ({}), {}, from {from}", source.source_id, source.name, source.format.word()));
    }
    let datasets = occupancy::config::store_url(config);
    lines.push(format!("datasets {datasets}, of {}", occupancy::config::source_word(config)));
    for target in targets {
        let views: Vec<&str> = target.views().iter().map(View::word).collect();
        lines.push(format!("target   {}, of {}", target.name(), views.join(", ")));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_sources() {
        let inputs = config::Inputs {
            env: vec![("DESIRELINE__SOURCE__0__NAME".into(), "shop".into()), ("DESIRELINE__SOURCE__0__SOURCE_ID".into(), "3".into())],
            ..Default::default()
        };
        let text = summary(&config::load(&inputs).expect("valid"), &[]);
        assert!(text.contains("source   3 (shop), desireline, from HTTP and files"), "{text}");
    }
}
