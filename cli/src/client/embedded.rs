//! The engine in this process: the same coordinator, without a port.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use inshore_coordinator::{Coordinator, Options, Session, Topology};
use inshore_lake::catalog::{Catalogs, embedded_config};
use inshore_lake::store::Stores;

use super::Execution;
use crate::config::Config;

/// A coordinator in this process and the session on it.
pub struct Embedded {
    session: Arc<Session>,
    description: String,
}

impl Embedded {
    /// Opens the catalogs of a configuration.
    ///
    /// # Errors
    /// When a catalog or a lake cannot be opened.
    pub fn over_config(config: &Config, name: &str) -> anyhow::Result<Self> {
        let coordinator = coordinator(config, Topology::Embedded)?;
        Ok(Self {
            session: coordinator.session(),
            description: format!("embedded over {name}"),
        })
    }

    /// Opens the lake in a folder, made when absent.
    ///
    /// # Errors
    /// When the folder cannot be made or its catalog cannot be opened.
    pub async fn over_lake(dir: &Path, mut config: Config) -> anyhow::Result<Self> {
        (config.catalogs, config.lakes) = embedded_config(dir).await?;
        Self::over_config(&config, &dir.display().to_string())
    }

    /// What the engine works on.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// When it is wrong or fails.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<Execution> {
        let execution = self.session.execute(sql).await?;
        let stream = execution
            .stream
            .map(|batch| batch.map_err(|error| inshore_coordinator::Error::from(error).into()));
        Ok(Execution {
            query_id: Some(execution.query_id),
            schema: execution.schema,
            stream: stream.boxed(),
        })
    }
}

/// A coordinator of either kind over a configuration's catalogs and lakes.
///
/// # Errors
/// When a catalog or a lake cannot be opened.
pub fn coordinator(config: &Config, topology: Topology) -> anyhow::Result<Arc<Coordinator>> {
    let stores = stores(config)?;
    let catalogs = Catalogs::open(&config.catalogs, Arc::clone(&stores))?;
    // The user's own process may do with files what the user may.
    let working_directory = match topology {
        Topology::Embedded => Some(std::env::current_dir().context("no working directory")?),
        Topology::Cluster => None,
    };
    Ok(Coordinator::new(Options {
        catalogs,
        stores,
        working_directory,
        engine: config.engine.clone(),
        topology,
        default_schema: config.default_schema.clone(),
        worker_wait: config.coordinator.worker_wait,
        heartbeat_timeout: config.coordinator.heartbeat_timeout,
        statement_timeout: config.coordinator.statement_timeout,
        session_idle: config.coordinator.session_idle,
    })?)
}

/// Where files may be read; without a configured lake, the user's file system.
///
/// # Errors
/// When a lake's root or options are wrong.
pub fn stores(config: &Config) -> anyhow::Result<Arc<Stores>> {
    Ok(if config.lakes.is_empty() {
        Stores::for_local_files()?
    } else {
        Stores::new(&config.lakes)?
    })
}
