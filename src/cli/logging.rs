//! The process's own log: text or JSON lines on standard error, filtered by level, and panics in it.

use crate::config::schema::Logging;
use crate::config::values::LogFormat;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Modules of dependencies that would drown ours below the level `warn`.
const QUIET: [&str; 6] = ["hyper", "hyper_util", "h2", "rustls", "reqwest", "object_store"];

/// Starts the log. Later calls change nothing, so that tests may call it.
pub fn start(logging: &Logging) {
    let filter = filter(logging, std::env::var("RUST_LOG").ok());
    let registry = tracing_subscriber::registry().with(filter);
    let started = match logging.format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init(),
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_ansi(colour).with_writer(std::io::stderr)).try_init()
        }
    };
    if started.is_ok() {
        log_panics();
    }
}

fn filter(logging: &Logging, variable: Option<String>) -> EnvFilter {
    let level = logging.level.word();
    let quiet = || QUIET.iter().map(|module| format!(",{module}=warn")).collect::<String>();
    match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => EnvFilter::builder().parse_lossy(text),
        None if ["debug", "trace"].contains(&level) => EnvFilter::builder().parse_lossy(format!("{level}{}", quiet())),
        None => EnvFilter::builder().parse_lossy(level),
    }
}

/// A panic is a defect: it is logged with its place, so that it is found where all else is found.
fn log_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("(no message)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("(unnamed)").to_owned();
        tracing::error!(place, thread, "panic: {message}");
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            print(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader;
    use crate::config::values::Level;

    #[test]
    fn the_variable_overrides_the_setting() {
        let mut logging: Logging = reader::defaults();
        assert_eq!(filter(&logging, None).to_string(), "info");
        assert_eq!(filter(&logging, Some(" ".into())).to_string(), "info");
        assert_eq!(filter(&logging, Some("warn,desireline=trace".into())).to_string(), "desireline=trace,warn");
        logging.level = Level::Debug;
        let text = filter(&logging, None).to_string();
        assert!(text.contains("debug") && text.contains("hyper=warn"), "{text}");
    }
}
