//! What goes wrong for a query stays with that query, and its error says what and where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::{Cluster, Lake, rows};

const SUM: &str = "SELECT k, sum(id) FROM t.big GROUP BY k ORDER BY k";

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    for name in ["big", "bad"] {
        lake.create_table(
            "t",
            name,
            "SELECT value AS id, value % 3 AS k FROM generate_series(1, 9000) AS s(value)",
            3,
        )
        .await
        .unwrap();
    }
    lake
}

fn data_files(lake: &Lake, table: &str) -> Vec<PathBuf> {
    let folder = lake.folder().join("warehouse/t").join(table).join("data");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

async fn fails_naming(cluster: &Cluster, sql: &str, file: &str, code: &str) {
    let error = cluster.rows(sql).await.unwrap_err().to_string();
    assert!(error.contains(file), "{file} is not named: {error}");
    assert!(error.contains(code), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_corrupt_data_file_fails_its_query_only() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let good = cluster.rows(SUM).await.unwrap();
    let sum = "SELECT sum(id) FROM t.bad";
    let files = data_files(&lake, "bad");
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();

    let whole = fs::read(&files[1]).unwrap();
    fs::write(&files[1], &whole[..whole.len() / 2]).unwrap();
    fails_naming(&cluster, sum, &name(&files[1]), "corrupt").await;
    fs::write(&files[1], &whole).unwrap();

    fs::remove_file(&files[2]).unwrap();
    fails_naming(&cluster, sum, &name(&files[2]), "not found").await;

    assert_eq!(cluster.rows(SUM).await.unwrap(), good);
    cluster.wait_for_workers(2).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_manifest_or_metadata_file_is_named() {
    let lake = lake().await;
    let metadata = lake.folder().join("warehouse/t/bad/metadata");
    let with_suffix = |suffix: &str| {
        let mut found: Vec<_> = fs::read_dir(&metadata)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(suffix))
            .collect();
        found.sort();
        found.pop().unwrap()
    };
    for suffix in [".metadata.json", "-m0.avro"] {
        let file = with_suffix(suffix);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 3]).unwrap();
        let error = lake
            .rows_embedded("SELECT sum(id) FROM t.bad")
            .await
            .unwrap_err()
            .to_string();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.contains(&name), "{name} is not named: {error}");
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(
        lake.rows_embedded("SELECT count(*) FROM t.big")
            .await
            .unwrap(),
        ["9000"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_a_query_waits_and_then_says_so() {
    let lake = lake().await;
    let mut settings = options(&lake, forced(), inshore_coordinator::Topology::Cluster);
    settings.worker_wait = Duration::from_secs(1);
    let session = inshore_coordinator::Coordinator::new(settings)
        .unwrap()
        .session();
    let began = Instant::now();
    let Err(error) = session.execute(SUM).await else {
        panic!("a query ran without workers");
    };
    assert!(
        error.to_string().contains("no worker is available"),
        "{error}"
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
    // What reads no lake needs no worker.
    let execution = session.execute("SELECT 1 + 1").await.unwrap();
    let batches: Vec<_> = execution.stream.try_collect().await.unwrap();
    assert_eq!(rows::sorted(&batches).unwrap(), ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_runs_as_soon_as_a_worker_appears() {
    let lake = lake().await;
    let mut cluster = Cluster::start(&lake, 0).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let waiting = tokio::spawn(async move {
        let info = client.execute(SUM.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let stream = client.do_get(ticket).await.unwrap();
        stream.try_collect::<Vec<_>>().await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    cluster.add_worker(&lake).await.unwrap();
    let batches = tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("the query did not start")
        .unwrap();
    assert_eq!(rows::in_order(&batches).unwrap().len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_go_on_when_a_worker_leaves() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let before = cluster.rows(SUM).await.unwrap();
    cluster.workers()[0].shutdown.cancel();
    cluster.wait_for_workers(1).await.unwrap();
    assert_eq!(cluster.rows(SUM).await.unwrap(), before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_runs_again_and_sees_new_rows() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let mut prepared = client
        .prepare("SELECT count(*) FROM t.big".to_owned(), None)
        .await
        .unwrap();
    for _ in 0..3 {
        let info = prepared.execute().await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut fetcher = cluster.client().await.unwrap();
        let stream = fetcher.do_get(ticket.clone()).await.unwrap();
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(rows::sorted(&batches).unwrap(), ["9000"]);
        // A result is handed out once.
        assert!(fetcher.do_get(ticket).await.is_err());
    }
    prepared.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_cancels_the_query_everywhere() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let sql = "SELECT a.id FROM t.big a, t.big b WHERE a.id + b.id > 5";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    drop(stream);
    drop(client);
    let tasks = "SELECT coalesce(sum(running_tasks), 0) FROM system.workers";
    let began = Instant::now();
    while cluster.rows(tasks).await.unwrap() != ["0"] {
        assert!(began.elapsed() < Duration::from_secs(10), "tasks go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let state = format!("SELECT state FROM system.queries WHERE sql = '{sql}'");
    assert_eq!(cluster.rows(&state).await.unwrap(), ["CANCELLED"]);
    cluster.stop().await;
}
