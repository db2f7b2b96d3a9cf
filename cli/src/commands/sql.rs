//! `inshore sql`.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::runtime::Handle;

use crate::args::SqlArgs;
use crate::client::{Client, Embedded, Remote};
use crate::config;
use crate::failure::Failure;
use crate::output::Output;
use crate::repl;
use crate::runner::{Manner, Runner, Stop, origin_of};
use crate::statements;

/// Texts of statements with the name of where they come from.
type Scripts = Vec<(Option<String>, String)>;

/// Runs it, on a thread outside the runtime.
///
/// # Errors
/// When arguments are wrong or a statement fails.
pub fn run(arguments: SqlArgs, runtime: &Handle) -> Result<(), Failure> {
    let scripts = scripts(&arguments).map_err(Failure::Usage)?;
    let client = Arc::new(runtime.block_on(connect(&arguments))?);
    let output =
        Output::open(arguments.output.as_deref(), arguments.format).map_err(Failure::Usage)?;
    match scripts {
        Some(scripts) => {
            let runner = Runner::new(runtime.clone()).map_err(Failure::Run)?;
            run_scripts(&client, runner, output, scripts)
        }
        None => repl::run(client, output, runtime.clone()),
    }
}

/// What to run; `None` for the shell.
fn scripts(arguments: &SqlArgs) -> anyhow::Result<Option<Scripts>> {
    let mut scripts: Scripts = arguments
        .commands
        .iter()
        .map(|text| (None, text.clone()))
        .collect();
    let stdin = Path::new("-");
    let given = !scripts.is_empty() || arguments.file.is_some();
    let file = match &arguments.file {
        Some(file) => Some(file.as_path()),
        None if !given && !std::io::stdin().is_terminal() => Some(stdin),
        None => None,
    };
    if let Some(file) = file {
        scripts.push((Some(origin_of(file)), read(file)?));
    }
    Ok((given || file.is_some()).then_some(scripts))
}

/// The text of a file, or of stdin.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read stdin")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

async fn connect(arguments: &SqlArgs) -> Result<Client, Failure> {
    let variable = std::env::var("INSHORE_CONNECT")
        .ok()
        .filter(|uri| !uri.is_empty());
    let embedded = arguments.lake.is_some() || arguments.config.is_some();
    if let Some(uri) = arguments.connect.clone().or(variable.filter(|_| !embedded)) {
        config::check_endpoint(&uri).map_err(|why| Failure::Usage(anyhow!(why)))?;
        let remote = Remote::connect(&uri).await.map_err(Failure::Run)?;
        return Ok(Client::Remote(remote));
    }
    if let Some(dir) = &arguments.lake {
        // The engine's settings still come from the environment; catalogs are the lake's alone.
        let layers = config::layers(None, Vec::new()).map_err(Failure::Usage)?;
        let config = config::Config::from_layers(&layers).map_err(Failure::Usage)?;
        let embedded = Embedded::over_lake(dir, config)
            .await
            .map_err(Failure::Usage)?;
        return Ok(Client::Embedded(embedded));
    }
    let Some(file) = config::find_file(arguments.config.as_deref()) else {
        return Err(Failure::Usage(anyhow!(
            "nothing to query: give --lake DIR (embedded over a folder), --connect \
             grpc://host:32010 (a running coordinator; also INSHORE_CONNECT) or --config FILE \
             (embedded over its catalogs; also INSHORE_CONFIG, ./inshore.toml)"
        )));
    };
    let config = config::load(Some(&file), Vec::new()).map_err(Failure::Usage)?;
    let name = file.display().to_string();
    let embedded = Embedded::over_config(&config, &name).map_err(Failure::Usage)?;
    Ok(Client::Embedded(embedded))
}

/// Runs statements up to the first that fails.
fn run_scripts(
    client: &Arc<Client>,
    mut runner: Runner,
    mut output: Output,
    scripts: Scripts,
) -> Result<(), Failure> {
    for (origin, text) in scripts {
        let manner = Manner {
            interactive: false,
            timing: true,
            origin,
        };
        for statement in statements::split(&text).all() {
            match runner.run(client, &statement, &mut output, &manner) {
                Ok(()) => {}
                Err(Stop::OutputClosed) => return Err(Failure::OutputClosed),
                Err(Stop::Failed | Stop::Cancelled) => return Err(Failure::Shown),
            }
        }
    }
    output.commit().map_err(Failure::Run)
}
