//! `inshore coordinator`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use inshore_coordinator::Topology;
use tokio::net::TcpListener;

use crate::args::CoordinatorArgs;
use crate::client;
use crate::config::{self, Override};
use crate::failure::{Failure, say};
use crate::signals;

/// Runs it until a signal says stop.
///
/// # Errors
/// When the configuration is wrong, the port is taken, or serving fails.
pub async fn run(arguments: CoordinatorArgs) -> Result<(), Failure> {
    let flags = vec![Override {
        flag: "--listen",
        key: "coordinator.listen",
        text: arguments.listen,
    }];
    let config = config::load(arguments.config.as_deref(), flags).map_err(Failure::Usage)?;
    let shutdown = signals::shutdown(arguments.exit_with_parent).map_err(Failure::Run)?;
    let coordinator = client::coordinator(&config, Topology::Cluster).map_err(Failure::Usage)?;
    let listen = config.coordinator.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (coordinator.listen)"))
        .map_err(Failure::Run)?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::Run(error.into()))?;
    let serving = Arc::clone(&coordinator).serve(listener, shutdown.clone());
    say(&format!("listening on grpc://{address}"));
    bounded(
        serving,
        shutdown.cancelled(),
        config.coordinator.drain_timeout,
    )
    .await
    .map_err(Failure::Run)
}

/// Waits for a server to end; once told to stop it may take `drain` longer.
pub async fn bounded<E: Into<anyhow::Error>>(
    serving: impl Future<Output = Result<(), E>>,
    stopping: impl Future<Output = ()>,
    drain: Duration,
) -> anyhow::Result<()> {
    let deadline = async {
        stopping.await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = serving => served.map_err(Into::into),
        () = deadline => Err(anyhow!(
            "what was running did not end within {} s (drain_timeout_seconds)",
            drain.as_secs_f64()
        )),
    }
}
