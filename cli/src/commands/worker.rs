//! `inshore worker`.

use inshore_engine::session;
use inshore_worker::Worker;

use crate::args::WorkerArgs;
use crate::client;
use crate::config::{self, Config, Override};
use crate::failure::{Failure, say};
use crate::signals;

/// Runs it until a signal says stop, then drains it.
///
/// # Errors
/// When the configuration is wrong, the port is taken, or serving fails.
pub async fn run(arguments: WorkerArgs) -> Result<(), Failure> {
    let flag = |flag, key, text| Override { flag, key, text };
    let flags = vec![
        flag("--coordinator", "worker.coordinator", arguments.coordinator),
        flag("--listen", "worker.listen", arguments.listen),
        flag("--site", "worker.site", arguments.site),
    ];
    let config = config::load(arguments.config.as_deref(), flags).map_err(Failure::Usage)?;
    let shutdown = signals::shutdown(arguments.exit_with_parent).map_err(Failure::Run)?;
    let stores = client::stores(&config).map_err(Failure::Usage)?;
    let runtime =
        session::runtime(&config.engine, &stores).map_err(|error| Failure::Run(error.into()))?;
    let settings = worker_config(&config);
    settings
        .validate()
        .map_err(|error| Failure::Usage(error.into()))?;
    let listener = settings
        .bind()
        .await
        .map_err(|error| Failure::Run(error.into()))?;
    let sessions = session::worker_sessions(config.engine.clone());
    let mut worker = Worker::start(settings, listener, sessions, runtime)
        .map_err(|error| Failure::Run(error.into()))?;
    tokio::select! {
        () = worker.registered() => {
            say(&format!("worker {} registered with {}", worker.url(), config.worker.coordinator));
        }
        () = shutdown.cancelled() => {}
    }
    let ended = tokio::select! {
        ended = worker.ended() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => worker.drain(config.worker.drain_timeout).await,
    };
    ended.map_err(|error| Failure::Run(error.into()))
}

fn worker_config(config: &Config) -> inshore_worker::Config {
    inshore_worker::Config {
        listen: config.worker.listen,
        advertise: config.worker.advertise.clone(),
        coordinator: Some(config.worker.coordinator.clone()),
        site: config.worker.site.clone(),
        memory_limit_bytes: config.engine.memory_limit_bytes,
        drain_timeout: config.worker.drain_timeout,
        ..inshore_worker::Config::default()
    }
}
