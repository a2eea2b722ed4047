//! `desireline serve`: the server.
//!
//! It starts in this order, so that whatever is wrong is said before anything is touched: configuration, addresses, data lock,
//! log. HTTP answers from then on (503 until the replay is over); runs, Kafka sources and the demonstration begin after it.
//! SIGTERM and SIGINT stop it in the opposite order: sources commit what they have, requests under way are answered, runs note
//! where they are, the log is closed. A second signal ends the process at once, which is as safe as a crash.

mod demo;
mod kafka;

use super::failure::{Exit, Failure};
use super::stack::Stack;
use super::{ConfigArgs, block_on, limits, logging, out};
use crate::alerts::AlertTopic;
use crate::config::{Config, mapping};
use crate::http::{self, AppState, Listener, ServeError};
use crate::metrics::Metrics;
use crate::projections;
use crate::service::Service;
use clap::Args;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  desireline serve --demo
  desireline serve --config /etc/desireline.toml
  DESIRELINE__ENGINE__WORKERS=4 desireline serve --listen 127.0.0.1:9000 --data /srv/desireline

The dashboard is at /dashboard, the API's documentation at /docs. SIGTERM and SIGINT stop the server cleanly.")]
pub struct ServeArgs {
    /// Feed the server a live synthetic shop, with some history
    #[arg(long)]
    demo: bool,
    /// Address of the HTTP interface, instead of `server.listen`
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Answer everybody on a network address, without access tokens
    #[arg(long)]
    insecure: bool,
    /// Worker threads of the dataflow, instead of `engine.workers`
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeArgs {
    fn load(&self) -> Result<Config, Failure> {
        let mut inputs = self.config.inputs();
        inputs.flag("server.listen", "--listen", self.listen.as_ref());
        inputs.flag("server.insecure", "--insecure", self.insecure.then_some(true));
        inputs.flag("engine.workers", "--workers", self.workers.as_ref());
        let mut config = crate::config::load(&inputs)?;
        if self.demo {
            demo::add_source(&mut config);
        }
        Ok(config)
    }
}

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = args.load()?;
    logging::start(&config.logging);
    let files = limits::raise_open_files();
    tracing::debug!(?files, "limit of open files");
    block_on(serve(&config, args.demo))
}

async fn serve(config: &Config, demo: bool) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let http_config = mapping::http(config);
    let listeners = http::bind(&http_config)?;
    let stack = Stack::with_targets(config, projections::configured(config)?).await?;
    out(&banner(config, &listeners));

    let (backend, metrics) = (Arc::new(stack.service.clone()), Arc::new(Metrics::default()));
    let state = AppState::new(http_config, backend, stack.runs.clone(), stack.projections.clone(), metrics);
    let state = state.with_occupancy(stack.occupancy.clone()).with_concepts(stack.concepts.clone()).with_labels(stack.labels.clone());
    let mut feeds = JoinSet::new();
    pass_alerts_on(config, &stack.service, &mut feeds, &stop)?;
    let http_stop = CancellationToken::new();
    let until = http_stop.clone().cancelled_owned();
    let failed = stop.clone();
    let serving = tokio::spawn(async move {
        let ended = http::serve(listeners, state, until).await;
        failed.cancel();
        ended
    });

    let restored = tokio::select! {
        restored = stack.restore() => restored,
        () = stop.cancelled() => Ok(()),
    };
    if restored.is_ok() && !stop.is_cancelled() {
        tracing::info!(as_of = *stack.service.as_of().borrow(), "ready");
        stack.occupancy.begin(|kind| stack.service.documents(kind));
        stack.labels.begin();
        kafka::spawn(config, &stack.service, &mut feeds, &stop);
        if demo {
            feeds.spawn(demo::run(config.demo.clone(), stack.service.clone(), stop.clone()));
            feeds.spawn(demo::campus::run(config.demo.clone(), config.wifi.source_id, stack.service.clone(), stop.clone()));
        }
        stop.cancelled().await;
    }
    stop.cancel();
    tracing::info!("stopping");
    while let Some(ended) = feeds.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a feed stopped unexpectedly");
        }
    }
    http_stop.cancel();
    let served = serving.await;
    stack.stop().await;
    tracing::info!("stopped");
    restored?;
    match served {
        Ok(ended) => Ok(ended?),
        Err(error) => Err(Failure::new(Exit::Failed, "the HTTP interface stopped unexpectedly").detail(error)),
    }
}

/// Alerts go to Kafka where brokers are named.
fn pass_alerts_on(config: &Config, service: &Service, feeds: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), Failure> {
    let brokers: Vec<String> = config.wifi.alert_brokers.iter().filter(|broker| !broker.is_empty()).cloned().collect();
    if brokers.is_empty() {
        return Ok(());
    }
    let wrong = |error| Failure::new(Exit::Config, "alerts cannot be sent to `wifi.alert_brokers`").detail(error);
    feeds.spawn(AlertTopic::open(&brokers, &config.wifi.alert_topic, service).map_err(wrong)?.run(stop.clone()));
    Ok(())
}

/// The first signal stops, the second one ends the process.
#[expect(clippy::disallowed_methods, reason = "a second signal asks for the end without any tidying up; it is as safe as a crash")]
fn stop_on_signals(stop: CancellationToken) -> Result<(), Failure> {
    let no_signals = |error| Failure::new(Exit::Failed, "signals cannot be received").detail(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(Exit::Interrupted as i32);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn banner(config: &Config, listeners: &[Listener]) -> String {
    let urls: Vec<String> = listeners.iter().map(|listener| reachable(listener.url(), listener.address())).collect();
    let url = urls.first().map(String::as_str).unwrap_or_default();
    format!(
        "Desireline {}\n  address    {}\n  dashboard  {url}/dashboard\n  data       {}\n",
        env!("CARGO_PKG_VERSION"),
        urls.join(", "),
        mapping::store_url(config),
    )
}

/// An address that stands for all of the machine's cannot be opened in a browser; loopback can.
fn reachable(url: String, address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        url.replacen(&address.ip().to_string(), "127.0.0.1", 1).replacen("[127.0.0.1]", "[::1]", 1)
    } else {
        url
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::Bind { .. } => Self::new(Exit::Unavailable, error.to_string())
                .hint("another server may be listening there; choose an address with --listen"),
            _ => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> ServeArgs {
        let line = format!("desireline serve --config /dev/null {line}");
        match Cli::try_parse_from(line.split_whitespace()).expect("parses").command {
            Command::Serve(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_and_their_mistakes_name_them() {
        let config = parse("--listen 127.0.0.1:9 --workers 3 --data /x --demo").load().expect("valid");
        assert_eq!((config.server.listen.port(), config.engine.workers), (9, 3));
        assert_eq!(mapping::store_url(&config), "/x");
        assert_eq!(config.source.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), [demo::NAME]);
        let failure = parse("--listen 0.0.0.0:9 --workers 0").load().expect_err("two mistakes");
        assert_eq!(failure.exit, Exit::Config);
        let text = failure.detail.join("\n");
        assert!(text.contains("--listen") && text.contains("--workers") && failure.detail.len() == 2, "{text}");
        assert!(parse("--listen 0.0.0.0:9 --insecure").load().is_ok());
    }

    #[test]
    fn the_address_shown_can_be_opened() {
        let shown = |url: &str, address: &str| reachable(url.to_owned(), address.parse().expect("an address"));
        assert_eq!(shown("http://0.0.0.0:80", "0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(shown("http://10.0.0.1:80", "10.0.0.1:80"), "http://10.0.0.1:80");
        assert_eq!(shown("https://[::]:80", "[::]:80"), "https://[::1]:80");
    }
}
