//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// SQL over Iceberg lakes, inside your own network.
#[derive(Debug, Parser)]
#[command(
    name = "inshore",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        inshore demo                                   a lake, a cluster, the TPC-H queries\n  \
        inshore sql --lake ./lake -c 'SHOW TABLES'     embedded, no server\n  \
        inshore sql --connect grpc://127.0.0.1:32010   the shell on a running coordinator\n  \
        inshore config check                           the effective configuration\n\n\
        Exit codes: 0 success, 1 a statement failed, 2 bad arguments or configuration."
)]
pub struct Arguments {
    /// Log filter, such as `info` or `warn,inshore_coordinator=debug`; the log goes to stderr.
    #[arg(long, global = true, env = "INSHORE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run SQL: one statement, a file, or an interactive shell.
    Sql(SqlArgs),
    /// Run a coordinator: it plans queries and serves them over Flight SQL.
    Coordinator(CoordinatorArgs),
    /// Run a worker: it registers with a coordinator and reads the lake for it.
    Worker(WorkerArgs),
    /// Start a cluster, have it make a lake, and run the 22 TPC-H queries on it.
    Demo(DemoArgs),
    /// Inspect the configuration.
    Config(ConfigArgs),
}

impl Command {
    /// The log filter without `--log`: servers tell what they do, a shell only what is wrong.
    pub fn default_log(&self) -> &'static str {
        match self {
            Self::Coordinator(_) | Self::Worker(_) => "info",
            Self::Sql(_) | Self::Demo(_) | Self::Config(_) => "warn",
        }
    }
}

/// `inshore sql`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    inshore sql --lake ./lake                              shell over ./lake/catalog.db\n  \
    inshore sql --lake ./lake -c 'SELECT 1; SELECT 2'      several statements\n  \
    inshore sql --connect grpc://host:32010 -f report.sql --format csv --output report.csv\n  \
    echo 'SELECT 1' | inshore sql --lake ./lake --format json\n\n\
    Without --lake, --config and --connect: INSHORE_CONNECT if set, else embedded over the \
    configuration file (INSHORE_CONFIG, ./inshore.toml, /etc/inshore/inshore.toml).\n\
    The first statement that fails ends a -c or -f run with exit code 1.")]
pub struct SqlArgs {
    /// Embedded over the lake in DIR; `DIR/catalog.db` and `DIR/warehouse` are made when absent.
    #[arg(long, value_name = "DIR", group = "target")]
    pub lake: Option<PathBuf>,
    /// Embedded over the catalogs of a configuration file.
    #[arg(long, value_name = "FILE", group = "target")]
    pub config: Option<PathBuf>,
    /// Flight SQL to a coordinator: grpc://host:port or grpc+tls://host:port.
    #[arg(long, value_name = "URI", group = "target")]
    pub connect: Option<String>,
    /// Statements to run, separated by `;`; may be given several times.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub commands: Vec<String>,
    /// Run the statements of FILE (`-` is stdin), after those of -c.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write results to FILE instead of stdout; it appears when all statements succeeded.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// Comma-separated, with a header; NULL is an empty field, an empty text is `""`.
    Csv,
    /// One array of objects per result.
    Json,
    /// One object per line.
    Ndjson,
    /// One Arrow IPC stream.
    Arrow,
    /// One Parquet file.
    Parquet,
}

/// `inshore coordinator`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  inshore coordinator --config inshore.toml --listen 127.0.0.1:32010"
)]
pub struct CoordinatorArgs {
    /// The configuration file; else INSHORE_CONFIG, ./inshore.toml, /etc/inshore/inshore.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on (coordinator.listen).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// End when stdin ends, as it does when the parent process dies.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// `inshore worker`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  inshore worker --coordinator grpc://127.0.0.1:32010 --site dc1"
)]
pub struct WorkerArgs {
    /// The configuration file; else INSHORE_CONFIG, ./inshore.toml, /etc/inshore/inshore.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The coordinator to register with (worker.coordinator).
    #[arg(long, value_name = "URI")]
    pub coordinator: Option<String>,
    /// Address to listen on (worker.listen).
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The site this worker stands in (worker.site).
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// End when stdin ends, as it does when the parent process dies.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// `inshore demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    inshore demo                          scale 0.1, under the user's cache directory\n  \
    inshore demo --scale 1 --keep         leave the cluster running until Ctrl-C\n\n\
    The lake lies in DIR, by default $XDG_CACHE_HOME/inshore/demo/sf<N> (~/.cache/...), and is \
    used again by the next run.")]
pub struct DemoArgs {
    /// TPC-H scale factor; 1 is about 8.7 million rows and 250 MB, and 350 MB more while it is made.
    #[arg(long, value_name = "N", default_value_t = 0.1, value_parser = scale)]
    pub scale: f64,
    /// Where the lake lies.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the cluster running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
}

/// `inshore config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// `inshore config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective configuration and where each value comes from, or all its problems.
    Check {
        /// The configuration file; else INSHORE_CONFIG, ./inshore.toml, /etc/inshore/inshore.toml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// A TPC-H scale factor.
fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && (0.001..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("a number from 0.001 to 1000 is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn two_targets_are_refused() {
        let parsed = Arguments::try_parse_from([
            "inshore",
            "sql",
            "--lake",
            "a",
            "--connect",
            "grpc://localhost:1",
        ]);
        assert!(parsed.is_err());
    }
}
