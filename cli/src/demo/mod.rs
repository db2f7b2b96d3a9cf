//! `inshore demo`: a lake, a cluster of real processes on loopback, and the 22 TPC-H queries
//! through Flight SQL.
//!
//! - [`lake`]: the folder, finished or to be made.
//! - [`tables`], [`generate`]: TPC-H tables, their rows generated into Parquet files.
//! - [`cluster`]: one coordinator and two workers as child processes.
//! - [`load`]: the statements that make Iceberg tables of the files.
//! - [`report`]: the queries, run and measured.

mod cluster;
mod generate;
mod lake;
mod load;
mod report;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use self::lake::{Lake, Making};
use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::signals;

/// Runs it.
///
/// # Errors
/// When the lake cannot be made, the cluster does not start, or a query fails.
pub async fn run(arguments: DemoArgs) -> Result<(), Failure> {
    let stop = signals::shutdown(false).map_err(Failure::Run)?;
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => default_dir(arguments.scale).map_err(Failure::Usage)?,
    };
    demo(&dir, &arguments, &stop).await.map_err(Failure::Run)
}

async fn demo(
    dir: &std::path::Path,
    arguments: &DemoArgs,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (lake, making) = Lake::open(dir, arguments.scale)?;
    if let Some(making) = &making {
        generate::run(making, stop).await?;
    }
    // Dropped half-way, a cluster's children end with the pipes to their stdin.
    let mut cluster = unless(stop, Cluster::start(&lake)).await?;
    let mut outcome = unless(stop, work(&cluster, making)).await;
    if outcome.is_ok() {
        outcome = report::connecting(&cluster, &lake, arguments.keep);
    }
    if outcome.is_ok() && arguments.keep {
        outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = cluster.failed() => Err(error),
        };
    }
    cluster.stop().await;
    outcome
}

/// Makes the lake unless it is there, and asks the queries.
async fn work(cluster: &Cluster, making: Option<Making>) -> anyhow::Result<()> {
    if let Some(making) = making {
        load::run(cluster.client(), &making).await?;
        making.finish()?;
    }
    report::run(cluster).await
}

/// The work's result, or an error as soon as the user wants to stop.
async fn unless<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => Err(anyhow!("interrupted")),
    }
}

/// Under the user's cache folder: the lake can always be made again.
fn default_dir(scale: f64) -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: say with --dir where the lake goes")?;
    Ok(cache
        .join("inshore")
        .join("demo")
        .join(format!("sf{scale}")))
}
