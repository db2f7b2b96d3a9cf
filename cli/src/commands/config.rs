//! `inshore config check`.

use std::io::Write;

use anyhow::anyhow;

use crate::args::{ConfigArgs, ConfigCommand};
use crate::client;
use crate::config::{self, Config};
use crate::failure::{Failure, say};

/// Runs it.
///
/// # Errors
/// With every problem of the configuration.
pub fn run(arguments: &ConfigArgs) -> Result<(), Failure> {
    let ConfigCommand::Check { config } = &arguments.command;
    let file = config::find_file(config.as_deref());
    let layers = config::layers(file.as_deref(), Vec::new()).map_err(Failure::Usage)?;
    if let [_, ..] = layers.problems() {
        for problem in layers.problems() {
            say(&format!("error: {problem}"));
        }
        let count = layers.problems().len();
        let noun = if count == 1 { "problem" } else { "problems" };
        return Err(Failure::Usage(anyhow!(
            "the configuration has {count} {noun}"
        )));
    }
    let config = Config::from_layers(&layers).map_err(Failure::Usage)?;
    // Roots, maps and properties of the lakes; nothing is contacted.
    client::stores(&config).map_err(Failure::Usage)?;
    let read = file.map_or("no file".to_owned(), |path| path.display().to_string());
    let text = format!("# {read}\n{}", config::effective(&layers));
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        other => other.map_err(|error| Failure::Run(error.into())),
    }
}
