//! Rows are replaced and removed in SQL, all of a statement or nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use inshore_testkit::{Cluster, Lake};

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    cluster
        .rows(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The rows, in a cluster and embedded.
async fn check(lake: &Lake, cluster: &Cluster, sql: &str, expected: &[&str]) {
    for mut rows in [
        run(cluster, sql).await,
        lake.rows_embedded(sql).await.unwrap(),
    ] {
        rows.sort();
        assert_eq!(rows, expected, "{sql}");
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_by_table_or_by_partition() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        let properties = format!("TBLPROPERTIES ('format-version' = {version})");
        run(
            &cluster,
            &format!("CREATE TABLE s.t (id bigint, k int) {properties}"),
        )
        .await;
        run(&cluster, "INSERT INTO s.t VALUES (1, 1), (2, 2)").await;
        run(&cluster, "INSERT INTO s.t VALUES (3, 3)").await;
        // It may read what it replaces.
        let sql = "INSERT OVERWRITE s.t SELECT id + 10, k FROM s.t WHERE id > 1";
        assert_eq!(run(&cluster, sql).await, ["2"]);
        check(&lake, &cluster, "SELECT id, k FROM s.t", &["12|2", "13|3"]).await;
        let summary = "SELECT operation, summary['deleted-data-files'], summary['deleted-records'], \
                       summary['added-records'], summary['total-records'], summary['engine-name'] \
                       FROM s.\"t$snapshots\" ORDER BY committed_at DESC LIMIT 1";
        assert_eq!(run(&cluster, summary).await, ["overwrite|2|3|2|2|inshore"]);
        let none = "INSERT OVERWRITE s.t SELECT id, k FROM s.t WHERE id < 0";
        assert_eq!(run(&cluster, none).await, ["0"]);
        check(&lake, &cluster, "SELECT count(*) FROM s.t", &["0"]).await;

        run(
            &cluster,
            &format!("CREATE TABLE s.p (id bigint, k int) PARTITIONED BY (k) {properties}"),
        )
        .await;
        run(
            &cluster,
            "INSERT INTO s.p VALUES (1, 1), (2, 2), (3, NULL), (4, 4)",
        )
        .await;
        let sql = "INSERT OVERWRITE s.p VALUES (10, 1), (11, 1), (30, NULL), (50, 5)";
        assert_eq!(run(&cluster, sql).await, ["4"]);
        let all = ["10|1", "11|1", "2|2", "30|NULL", "4|4", "50|5"];
        check(&lake, &cluster, "SELECT id, k FROM s.p", &all).await;
        let none = "INSERT OVERWRITE s.p SELECT id, k FROM s.p WHERE id < 0";
        assert_eq!(run(&cluster, none).await, ["0"]);
        check(&lake, &cluster, "SELECT id, k FROM s.p", &all).await;
        if version == 3 {
            let ids = "SELECT count(DISTINCT _row_id), count(*) FROM s.p";
            check(&lake, &cluster, ids, &["6|6"]).await;
        }
        for table in ["t", "p"] {
            run(&cluster, &format!("DROP TABLE s.{table}")).await;
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_emptied() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(
        &cluster,
        "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k)",
    )
    .await;
    assert_eq!(run(&cluster, "TRUNCATE TABLE s.t").await, ["0"]);
    run(&cluster, "INSERT INTO s.t VALUES (1, 1), (2, 2)").await;
    assert_eq!(run(&cluster, "TRUNCATE TABLE s.t").await, ["2"]);
    check(&lake, &cluster, "SELECT count(*) FROM s.t", &["0"]).await;
    let operations = "SELECT operation FROM s.\"t$snapshots\" ORDER BY committed_at";
    assert_eq!(run(&cluster, operations).await, ["append", "delete"]);
    run(&cluster, "INSERT INTO s.t VALUES (3, 1)").await;
    check(&lake, &cluster, "SELECT id FROM s.t", &["3"]).await;
    assert_eq!(run(&cluster, "TRUNCATE TABLE IF EXISTS s.x").await, ["0"]);
    let missing = cluster.rows("TRUNCATE TABLE s.x").await.unwrap_err();
    assert!(missing.to_string().contains("s.x not found"), "{missing}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_of_many_appends_are_merged() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        let create = format!(
            "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k) TBLPROPERTIES \
             ('format-version' = '{version}', 'commit.manifest.min-count-to-merge' = '4')"
        );
        run(&cluster, &create).await;
        for turn in 0..12 {
            run(
                &cluster,
                &format!("INSERT INTO s.t VALUES ({turn}, {})", turn % 3),
            )
            .await;
        }
        let rows = "SELECT count(*), count(DISTINCT id) FROM s.t";
        check(&lake, &cluster, rows, &["12|12"]).await;
        let manifests = "SELECT count(*) < 4 FROM s.\"t$manifests\"";
        assert_eq!(run(&cluster, manifests).await, ["true"]);
        if version == 3 {
            let ids = "SELECT count(DISTINCT _row_id) FROM s.t";
            check(&lake, &cluster, ids, &["12"]).await;
        }
        run(&cluster, "INSERT OVERWRITE s.t VALUES (100, 0)").await;
        let rows = "SELECT count(*), count(DISTINCT id) FROM s.t";
        check(&lake, &cluster, rows, &["9|9"]).await;
        // Manifests that were merged before anybody saw them are gone.
        let avro = files(&lake.folder().join("warehouse/s/t"), ".avro");
        assert!(avro.len() <= 26, "{}", avro.len());
        run(&cluster, "DROP TABLE s.t").await;
        std::fs::remove_dir_all(lake.folder().join("warehouse/s/t")).unwrap();
    }
    cluster.stop().await;
}
