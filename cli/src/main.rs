//! `inshore`: SQL over Iceberg lakes, as a shell, a coordinator, a worker or a demonstration.
//!
//! - [`args`]: the command line.
//! - [`config`]: defaults, file, environment and flags, merged and validated.
//! - [`client`]: one way to run a statement, embedded or over Flight SQL.
//! - [`statements`], [`caret`]: texts cut into statements, errors shown in them.
//! - [`output`]: results in six formats.
//! - [`repl`]: the interactive shell.
//! - [`demo`]: a generated lake, a local cluster and the TPC-H queries.
//! - [`commands`]: one module per subcommand.

mod args;
mod caret;
mod client;
mod commands;
mod config;
mod demo;
mod failure;
mod logging;
mod output;
mod repl;
mod runner;
mod signals;
mod statements;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Starts the log and the runtime, and hands over to the subcommand.
fn run(arguments: Arguments) -> Result<(), Failure> {
    logging::start(arguments.log.as_deref(), arguments.command.default_log())
        .map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::Run(anyhow::Error::new(error).context("cannot start the runtime"))
        })?;
    let result = match arguments.command {
        // The shell reads its lines on this thread, outside the runtime.
        Command::Sql(sql) => commands::sql::run(sql, runtime.handle()),
        Command::Coordinator(coordinator) => {
            runtime.block_on(commands::coordinator::run(coordinator))
        }
        Command::Worker(worker) => runtime.block_on(commands::worker::run(worker)),
        Command::Demo(demo) => runtime.block_on(demo::run(demo)),
        Command::Config(config) => commands::config::run(&config),
    };
    // A statement that does not react to its cancellation must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
