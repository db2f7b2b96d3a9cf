//! Tables written by other systems, with the results they must give: every query, embedded and on a
//! coordinator with two workers, as a user sends it.
//!
//! The tables lie beside the repository. `LAKE_TABLE=name` runs those whose name contains it, and
//! `LAKE_VERBOSE=1` prints a line for each case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../lake/tests/scan_suite/expected.rs"]
mod expected;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use expected::{Case, Row, cases, difference, rows};
use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Session, Topology};
use inshore_lake::config::LakeConfig;
use inshore_testkit::{Cluster, Lake, cluster};
use serde_json::Value;

/// Cases that cannot pass, by the beginning of `table/case`, and why. One that passes, and any other
/// that fails, fails the test.
const KNOWN: &[(&str, &str)] = &[];

fn known(id: &str) -> Option<&'static str> {
    let entry = KNOWN.iter().find(|(prefix, _)| id.starts_with(prefix));
    entry.map(|(_, why)| *why)
}

/// The lakes' directory; none, with a printed reason, where it is absent.
fn directory() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/lakes");
    match directory.join("expected/index.json").canonicalize() {
        Ok(index) => Some(index.parent()?.parent()?.to_path_buf()),
        Err(_) => {
            println!("skipped: {} is not there", directory.display());
            None
        }
    }
}

/// The local file system, with the places that the tables' metadata names.
fn config(directory: &Path) -> BTreeMap<String, LakeConfig> {
    let below = |path: &str| format!("file://{}/{path}", directory.display());
    let map = [
        ("data/persistent/", below("duckdb/data/persistent/")),
        ("file://data/persistent/", below("duckdb/data/persistent/")),
        (
            "lineitem_iceberg/",
            below("duckdb/data/persistent/iceberg/lineitem_iceberg/"),
        ),
        (
            "hdfs://localhost:20500/test-warehouse/",
            below("impala_v3/"),
        ),
        ("file:///tmp/inshore-lakes/", below("")),
    ];
    let lake = LakeConfig {
        map: map.map(|(from, to)| (from.to_owned(), to)).into(),
        ..LakeConfig::new("file:///")
    };
    BTreeMap::from([("lakes".to_owned(), lake)])
}

async fn query(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let execution = session.execute(sql).await.map_err(|e| e.to_string())?;
    let batches: Result<_, _> = execution.stream.try_collect().await;
    batches.map_err(|error| format!("{error}"))
}

/// The statement of a case over the session's table `t`.
fn statement(case: &Case) -> String {
    let version = if let Some(id) = case.key("snapshot_id") {
        format!(" FOR VERSION AS OF {id}")
    } else if let Some(name) = case.key("ref") {
        format!(" FOR VERSION AS OF '{name}'")
    } else if let Some(ms) = case.key("as_of_ms") {
        let time = chrono::DateTime::from_timestamp_millis(ms.parse().unwrap()).unwrap();
        format!(
            " FOR TIMESTAMP AS OF TIMESTAMP '{}'",
            time.format("%Y-%m-%d %H:%M:%S%.3f")
        )
    } else {
        String::new()
    };
    case.sql.replace("{table}", &format!("t{version}"))
}

/// What is wrong with a result, if anything.
fn problem(case: &Case, found: Result<Vec<Row>, String>) -> Option<String> {
    match (case.key("expect"), found) {
        (Some("error"), Ok(rows)) => Some(format!("{} rows instead of an error", rows.len())),
        (Some("error" | "rows_or_error"), Err(_)) => None,
        (_, Err(error)) => Some(error),
        (_, Ok(rows)) => difference(case, rows),
    }
}

/// What came of all cases on one topology.
#[derive(Default)]
struct Report {
    passed: usize,
    listed: Vec<String>,
    wrong: Vec<String>,
}

async fn run(topology: &str, coordinator: &Arc<Coordinator>, directory: &Path) -> Report {
    let index = std::fs::read_to_string(directory.join("expected/index.json")).unwrap();
    let index: Vec<Value> = serde_json::from_str(&index).unwrap();
    let only = std::env::var("LAKE_TABLE").ok();
    let verbose = std::env::var("LAKE_VERBOSE").is_ok();
    let mut report = Report::default();
    for entry in &index {
        let text = |key: &str| entry[key].as_str().unwrap();
        let table = text("table");
        if only.as_ref().is_some_and(|only| !table.contains(only)) {
            continue;
        }
        let read = |path: &str| std::fs::read_to_string(directory.join(path)).unwrap();
        let session = coordinator.session();
        let open = format!(
            "CREATE EXTERNAL TABLE t STORED AS ICEBERG LOCATION 'file://{}/{}'",
            directory.display(),
            text("metadata")
        );
        let opened = query(&session, &open).await;
        for case in cases(&read(text("sql")), &read(text("csv"))) {
            let id = format!("{table}/{}", case.name);
            let sql = statement(&case);
            let found = match &opened {
                Ok(_) => query(&session, &sql).await.map(|batches| rows(&batches)),
                Err(error) => Err(error.clone()),
            };
            let outcome = match (problem(&case, found), known(&id)) {
                (None, None) => {
                    report.passed += 1;
                    "ok".to_owned()
                }
                (Some(_), Some(why)) => {
                    report.listed.push(format!("{id}: {why}"));
                    format!("listed: {why}")
                }
                (None, Some(why)) => {
                    report
                        .wrong
                        .push(format!("{id}: passes, but is listed: {why}"));
                    "passes, but is listed".to_owned()
                }
                (Some(problem), None) => {
                    report.wrong.push(format!("{id}: {sql}\n  {problem}"));
                    "WRONG".to_owned()
                }
            };
            if verbose {
                println!("{topology} {id}: {outcome}");
            }
        }
    }
    println!(
        "{topology}: {} passed, {} listed, {} wrong",
        report.passed,
        report.listed.len(),
        report.wrong.len()
    );
    for listed in &report.listed {
        println!("  listed: {listed}");
    }
    report
}

fn check(report: &Report) {
    assert!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
    if std::env::var("LAKE_TABLE").is_err() {
        let all = report.passed + report.listed.len();
        assert!(all >= 984, "only {all} cases: did the set change?");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    let Some(directory) = directory() else {
        return;
    };
    let lake = Lake::over(&config(&directory)).await.unwrap();
    let options = cluster::options(&lake, cluster::forced(), Topology::Embedded);
    let coordinator = Coordinator::new(options).unwrap();
    check(&run("embedded", &coordinator, &directory).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers() {
    let Some(directory) = directory() else {
        return;
    };
    let lake = Lake::over(&config(&directory)).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    check(&run("two workers", cluster.coordinator(), &directory).await);
    cluster.stop().await;
}
