//! Where log lines go: standard error, as JSON or for people. Requests have their own lines, see
//! [`crate::telemetry::access_log`].

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Starts logging. Later calls change nothing: a process logs in one way.
pub fn start(settings: &Log) {
    let level = match &*settings.level {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => Level::INFO,
    };
    let lines = fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    let colours = std::io::stderr().is_terminal()
        && crate::config::process_environment("NO_COLOR").is_none_or(|value| value.is_empty());
    let started = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => lines.with_ansi(colours).try_init(),
    };
    // Only tests start twice.
    drop(started);
}
