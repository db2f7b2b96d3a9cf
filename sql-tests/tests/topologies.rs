//! Every `.slt` file on every topology. A difference is a defect: distribution never changes an
//! answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use inshore_coordinator::{Coordinator, Topology};
use inshore_sql_tests::{Connection, run_file};
use inshore_testkit::{Cluster, Lake, cluster};
use tokio_util::sync::CancellationToken;

/// The tables that the files read.
async fn lake() -> Result<Lake> {
    let lake = Lake::new().await?;
    lake.create_table(
        "t",
        "big",
        "SELECT value AS id, value % 7 AS k, 'name ' || (value % 13) AS name, \
         CASE WHEN value % 11 = 0 THEN NULL ELSE value * 1.5 END AS x, \
         date '2024-01-01' + arrow_cast(value % 366, 'Int32') AS day, \
         arrow_cast(value % 1000, 'Decimal128(12, 2)') + arrow_cast(0.25, 'Decimal128(12, 2)') AS price \
         FROM generate_series(1, 20000) AS s(value)",
        4,
    )
    .await?;
    let small = |rows: usize| {
        format!(
            "SELECT value AS id, 'x' || value AS label FROM generate_series(1, 50) AS s(value) LIMIT {rows}"
        )
    };
    lake.create_table("t", "small", &small(50), 3).await?;
    lake.create_table("t", "nothing", &small(0), 1).await?;
    Ok(lake)
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

async fn run_all(address: &str, label: &'static str) {
    let mut failures = Vec::new();
    for file in files() {
        if let Err(failure) = run_file(address, &file, label).await {
            failures.push(failure);
        }
    }
    assert!(
        failures.is_empty(),
        "on {label}:\n{}",
        failures.join("\n\n")
    );
}

async fn on_cluster(workers: usize, label: &'static str) {
    let lake = lake().await.unwrap();
    let cluster = Cluster::start(&lake, workers).await.unwrap();
    run_all(&cluster.address(), label).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker() {
    on_cluster(1, "one-worker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_everything_distributed() {
    on_cluster(3, "three-workers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    let lake = lake().await.unwrap();
    let options = cluster::options(&lake, cluster::forced(), Topology::Embedded);
    let node = Coordinator::new(options).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(Arc::clone(&node).serve(listener, shutdown.clone()));
    run_all(&address, "embedded").await;
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn no_server_is_an_error_that_names_the_address() {
    let Err(error) = Connection::open("http://127.0.0.1:1").await else {
        panic!("something answers on port 1");
    };
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
