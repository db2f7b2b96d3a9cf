//! Rows are written into files that appear whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| match entry.unwrap().path() {
            path if path.is_dir() => count(&path),
            _ => 1,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_back() {
    let lake = Lake::new().await.unwrap();
    lake.create_table(
        "s",
        "t",
        "SELECT value AS id, 'n;' || value AS name, CAST(value AS double) / 4 AS price, \
         CASE WHEN value % 3 > 0 THEN DATE '2026-01-01' END AS day FROM generate_series(1, 3000)",
        3,
    )
    .await
    .unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let at = lake.folder().join("out");
    let at = at.display();
    let all = cluster.rows("SELECT * FROM s.t").await.unwrap();
    for (to, from) in [
        ("a.parquet'", "'{at}/a.parquet'"),
        (
            "b.dat' STORED AS PARQUET OPTIONS (compression snappy)",
            "read_parquet('{at}/b.dat')",
        ),
        ("c.csv'", "'{at}/c.csv'"),
        (
            "d.csv' WITH (FORMAT csv, DELIMITER ';', HEADER false)",
            "read_csv('{at}/d.csv', delimiter => ';', header => false)",
        ),
        ("e.csv.gz'", "'{at}/e.csv.gz'"),
        (
            "f.csv' (compression zstd)",
            "read_csv('{at}/f.csv', compression => 'zstd')",
        ),
        ("g.json'", "'{at}/g.json'"),
        ("h.json' (array true)", "'{at}/h.json'"),
        ("i.ndjson.zst'", "'{at}/i.ndjson.zst'"),
        ("j/' (FORMAT json)", "'{at}/j'"),
        ("k.tsv'", "'{at}/k.tsv'"),
    ] {
        let copy = format!("COPY s.t TO '{at}/{to}");
        assert_eq!(cluster.rows(&copy).await.expect(&copy), ["3000"], "{copy}");
        let from = from.replace("{at}", &at.to_string());
        // Objects have no order of their keys.
        let columns = match from.contains("header => false") {
            true => "(id, name, price, day)",
            false => "",
        };
        let sql = format!(
            "SELECT CAST(id AS bigint), name, CAST(price AS double), CAST(day AS date) FROM {from} t{columns}"
        );
        assert_eq!(cluster.rows(&sql).await.expect(&sql), all, "{sql}");
        assert_eq!(lake.rows_embedded(&sql).await.expect(&sql), all, "{sql}");
    }
    let columns = format!("COPY s.t (name, id) TO '{at}/l.csv'");
    cluster.rows(&columns).await.unwrap();
    let text = fs::read_to_string(lake.folder().join("out/l.csv")).unwrap();
    assert!(text.starts_with("name,id\nn;"), "{text}");
    // No rows: a file all the same.
    let none = format!("COPY (SELECT id, name FROM s.t WHERE id < 0) TO '{at}/none.csv'");
    assert_eq!(cluster.rows(&none).await.unwrap(), ["0"]);
    let text = fs::read_to_string(lake.folder().join("out/none.csv")).unwrap();
    assert_eq!(text, "id,name\n");
    let none = format!("COPY (SELECT id FROM s.t WHERE id < 0) TO '{at}/none.parquet'");
    assert_eq!(cluster.rows(&none).await.unwrap(), ["0"]);
    let sql = format!("SELECT count(id) FROM '{at}/none.parquet'");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["0"]);
    // Written by one process, read by the same rows in many folders.
    let many = format!(
        "COPY (SELECT *, id % 250 AS part FROM s.t) TO '{at}/many' (FORMAT parquet, PARTITION_BY (part))"
    );
    assert_eq!(cluster.rows(&many).await.unwrap(), ["3000"]);
    let sql = format!("SELECT count(*), count(distinct part), sum(id) FROM '{at}/many'");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["3000|250|4501500"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_what_was_there() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let out = lake.folder().join("out");
    let at = out.display();
    let write = format!("COPY (SELECT 1 AS a) TO '{at}/x.csv'");
    cluster.rows(&write).await.unwrap();
    // 30 MB are sent before the failure.
    let series = "SELECT value AS a, repeat('x', 3000) AS b, 10 / (10000 - value) AS c FROM generate_series(1, 12000)";
    fails(
        &cluster,
        &format!("COPY ({series}) TO '{at}/x.csv'"),
        &["ivide by zero"],
    )
    .await;
    assert_eq!(fs::read_to_string(out.join("x.csv")).unwrap(), "a\n1\n");
    let folder = format!(
        "COPY (SELECT a % 300 AS p, b, c FROM ({series})) TO '{at}/f' (FORMAT csv, PARTITION_BY p)"
    );
    fails(&cluster, &folder, &["ivide by zero"]).await;
    for _ in 0..100 {
        if count(&out) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count(&out), 1);
    // One that was given up.
    let session = cluster.coordinator().session();
    let slow = format!(
        "COPY (SELECT a.value, repeat('x', 1000) FROM generate_series(1, 100000) a, generate_series(1, 1000) b) TO '{at}/y.csv'"
    );
    let mut execution = session.execute(&slow).await.unwrap();
    let next = futures::StreamExt::next(&mut execution.stream);
    assert!(
        tokio::time::timeout(Duration::from_millis(700), next)
            .await
            .is_err()
    );
    drop(execution);
    for _ in 0..100 {
        if count(&out) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count(&out), 1);
    // The same name again: the old file is replaced.
    cluster
        .rows(&format!("COPY (SELECT 2 AS a) TO '{at}/x.csv'"))
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(out.join("x.csv")).unwrap(), "a\n2\n");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let out = lake.folder().join("out");
    fs::create_dir_all(out.join("full")).unwrap();
    fs::write(out.join("full/x"), "x").unwrap();
    let at = out.display();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    cluster
        .rows("CREATE TABLE s.t AS SELECT 1 AS a")
        .await
        .unwrap();
    let table = lake.table("s", "t").await.unwrap();
    let location = table.metadata().location().to_owned();
    for (sql, parts) in [
        (
            format!("COPY (SELECT 1 AS a) TO '{at}/x'"),
            ["format of", "STORED AS"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{at}/x.orc'"),
            ["format of", "x.orc"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{at}/x' STORED AS orc"),
            ["orc", "parquet, csv and json"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{at}/x.csv' (headr)"),
            ["no option headr", "header"],
        ),
        (
            format!("COPY (SELECT [1] AS a) TO '{at}/x.csv'"),
            ["column a", "csv"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{at}/full/' (FORMAT csv)"),
            ["not empty", "full/x"],
        ),
        (
            format!("COPY (SELECT 1 AS a, 2 AS b) TO '{at}/p' (FORMAT csv, PARTITION_BY c)"),
            ["PARTITIONED BY c", "no such column"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{location}/data/x.parquet'"),
            ["inside the Iceberg table", "/s/t"],
        ),
        (
            format!("COPY (SELECT 1 AS a) TO '{location}/metadata/x.csv'"),
            ["inside the Iceberg table", "/s/t"],
        ),
        (
            format!("COPY s.tt TO '{at}/x.csv'"),
            ["s.tt not found", "did you mean t"],
        ),
        (
            "COPY s.t FROM '/x.csv'".to_owned(),
            ["not supported", "INSERT INTO"],
        ),
    ] {
        fails(&cluster, &sql, &parts).await;
    }
    assert_eq!(count(&out), 1);
    cluster.stop().await;
}
