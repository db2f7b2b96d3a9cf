//! The log: on stderr, so that stdout carries results only.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Starts the log with the given filter, or the command's default one.
///
/// # Errors
/// When the filter cannot be parsed.
pub fn start(filter: Option<&str>, default: &str) -> anyhow::Result<()> {
    let filter = match filter {
        Some(text) => EnvFilter::try_new(text)
            .with_context(|| format!("--log/INSHORE_LOG: `{text}` is not a log filter such as `info` or `warn,inshore_engine=debug`"))?,
        None => EnvFilter::new(default),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        // Complaining about a closed stderr on stderr is a panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
