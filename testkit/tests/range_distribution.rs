//! With `write.distribution-mode` = range, files of one statement hold ranges of the table's order
//! that do not overlap, whoever writes them, and a partition with most of the rows has several
//! writers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use inshore_testkit::{Cluster, Lake};

/// Keys in no order, some of them NULL, and texts longer than what is told apart of a key.
const SOURCE: &str = "SELECT value AS id, CASE WHEN value % 10 < 8 THEN 0 ELSE value % 10 END AS k, \
                      CASE WHEN value % 50 <> 0 THEN repeat('long ', 20) || lpad(CAST(value * 7919 % 20011 AS varchar), 5, '0') END AS name, \
                      value * 7919 % 20011 AS number \
                      FROM generate_series(1, 20000) AS s(value)";

const COLUMNS: &str = "(id bigint, k bigint, name varchar, number bigint)";

const PROPERTIES: &str = "WITH ('write.target-file-size-bytes' = '65536')";

/// The writer that a file's name tells of: `statement-writer-number.parquet`.
fn writer(file: &str) -> String {
    file.rsplit('-').nth(1).unwrap().to_owned()
}

struct File {
    path: String,
    first: Option<i64>,
    last: Option<i64>,
    /// Rows without a key.
    without: i64,
    k: i64,
}

async fn files(cluster: &Cluster, table: &str, key: &str) -> Vec<File> {
    let sql = format!(
        "SELECT _file, min({key}), max({key}), count(*) - count({key}), min(k) FROM {table} GROUP BY 1"
    );
    let rows = cluster.rows(&sql).await.unwrap();
    let file = |row: &String| {
        let parts: Vec<&str> = row.split('|').collect();
        File {
            path: parts[0].to_owned(),
            first: parts[1].parse().ok(),
            last: parts[2].parse().ok(),
            without: parts[3].parse().unwrap(),
            k: parts[4].parse().unwrap(),
        }
    };
    rows.iter().map(file).collect()
}

fn assert_apart(files: &[File]) {
    let mut ranges: Vec<_> = files.iter().filter_map(|f| f.first.zip(f.last)).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{pair:?} overlap");
    }
}

async fn assert_same(cluster: &Cluster, table: &str) {
    let same = format!(
        "SELECT count(*), count(DISTINCT a.id) FROM {table} a JOIN s.source b ON a.id = b.id
         AND a.k = b.k AND a.number = b.number AND a.name IS NOT DISTINCT FROM b.name"
    );
    assert_eq!(cluster.rows(&same).await.unwrap(), ["20000|20000"]);
    let count = format!("SELECT count(*) FROM {table}");
    assert_eq!(cluster.rows(&count).await.unwrap(), ["20000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_sorted_table_do_not_overlap() {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "source", SOURCE, 4).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for sql in [
        &format!("CREATE TABLE s.sorted {COLUMNS} {PROPERTIES}"),
        "ALTER TABLE s.sorted WRITE ORDERED BY number DESC",
        "INSERT INTO s.sorted SELECT * FROM s.source",
    ] {
        cluster.rows(sql).await.unwrap();
    }
    let written = files(&cluster, "s.sorted", "number").await;
    assert!(written.len() > 4, "{}", written.len());
    assert_apart(&written);
    let writers: BTreeSet<_> = written.iter().map(|file| writer(&file.path)).collect();
    assert!(writers.len() > 1, "{writers:?}");
    assert_same(&cluster, "s.sorted").await;

    // Embedded, the rows without a key last, and keys that are told apart by their end only.
    for sql in [
        &format!("CREATE TABLE s.named {COLUMNS} {PROPERTIES}"),
        "ALTER TABLE s.named WRITE ORDERED BY name NULLS LAST, number",
    ] {
        cluster.rows(sql).await.unwrap();
    }
    lake.rows_embedded("INSERT INTO s.named SELECT * FROM s.source")
        .await
        .unwrap();
    for without in ["NOT NULL", "NULL"] {
        let key = format!("CASE WHEN name IS {without} THEN number END");
        assert_apart(&files(&cluster, "s.named", &key).await);
    }
    assert_same(&cluster, "s.named").await;

    // Few rows are one file, and none are none.
    for (filter, count) in [("id < 10", 1), ("id < 0", 0)] {
        for sql in [
            "TRUNCATE TABLE s.sorted".to_owned(),
            format!("INSERT INTO s.sorted SELECT * FROM s.source WHERE {filter}"),
        ] {
            cluster.rows(&sql).await.unwrap();
        }
        let written = files(&cluster, "s.sorted", "number").await;
        assert_eq!(written.len(), count, "{filter}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_partition_has_several_writers() {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "source", SOURCE, 4).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for (table, order) in [
        ("parted", "WRITE ORDERED BY number"),
        (
            "loose",
            "SET TBLPROPERTIES ('write.distribution-mode' = 'range')",
        ),
    ] {
        let name = format!("s.{table}");
        for sql in [
            format!("CREATE TABLE {name} {COLUMNS} PARTITIONED BY (k) {PROPERTIES}"),
            format!("ALTER TABLE {name} {order}"),
            format!("INSERT INTO {name} SELECT * FROM s.source"),
        ] {
            cluster.rows(&sql).await.unwrap();
        }
        let written = files(&cluster, &name, "number").await;
        assert!(written.iter().all(|file| file.without == 0));
        for k in [0, 8, 9] {
            let of_k: Vec<_> = written.iter().filter(|file| file.k == k).collect();
            assert!(!of_k.is_empty());
            let writers: BTreeSet<_> = of_k.iter().map(|file| writer(&file.path)).collect();
            assert!(
                k > 0 || table == "loose" || writers.len() > 1,
                "{writers:?}"
            );
        }
        if table == "parted" {
            for k in [0, 8, 9] {
                let of_k = files(&cluster, &format!("{name} WHERE k = {k}"), "number").await;
                assert_apart(&of_k);
            }
        }
        assert_same(&cluster, &name).await;
        let plan = cluster
            .rows(&format!(
                "EXPLAIN INSERT INTO {name} SELECT * FROM s.source"
            ))
            .await
            .unwrap();
        assert!(plan.join("\n").contains("distribution=range"), "{plan:?}");
    }
    cluster.stop().await;
}
