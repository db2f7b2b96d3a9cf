//! Plans that datafusion-distributed gets wrong without the guards of `engine/src/guard.rs`, run on
//! a real cluster and compared with the embedded engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use inshore_testkit::{Cluster, Lake};

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    lake.create_table(
        "t",
        "big",
        "SELECT value AS id, value % 7 AS k, 'name ' || (value % 13) AS name \
         FROM generate_series(1, 20000) AS s(value)",
        4,
    )
    .await
    .unwrap();
    lake.create_table(
        "t",
        "small",
        "SELECT value AS id, 'x' || value AS label FROM generate_series(1, 50) AS s(value)",
        3,
    )
    .await
    .unwrap();
    lake.create_table("t", "one", "SELECT 1 AS id, 'only' AS label", 1)
        .await
        .unwrap();
    lake
}

/// Runs on a cluster that distributes everything, and embedded; both must give `expected`.
async fn agree(sql: &str, expected: &[&str]) {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 3).await.unwrap();
    for _ in 0..3 {
        let rows = tokio::time::timeout(Duration::from_secs(60), cluster.rows(sql))
            .await
            .expect("the query hangs")
            .unwrap();
        assert_eq!(rows, expected, "on the cluster: {sql}");
    }
    assert_eq!(
        lake.rows_embedded(sql).await.unwrap(),
        expected,
        "embedded: {sql}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_over_a_scan_is_not_applied_per_task() {
    // The limit lies in the stage below the shuffle that the grouping needs.
    agree(
        "SELECT sum(n) FROM (SELECT k, count(*) AS n FROM (SELECT k FROM t.big LIMIT 6000) GROUP BY k)",
        &["6000"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_a_broadcast_build_side_is_applied_once() {
    agree(
        "SELECT count(*) FROM (SELECT id FROM t.small LIMIT 3) s CROSS JOIN t.big",
        &["60000"],
    )
    .await;
    agree(
        "SELECT count(DISTINCT s.id) FROM (SELECT id, k FROM t.big WHERE k < 5 LIMIT 100) s \
         JOIN t.big b ON b.k = s.k",
        &["100"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_with_one_partition_stays_in_one_task() {
    // An aggregate without groups gives a row for no rows: one for each task.
    agree(
        "SELECT count(*) FROM (SELECT max(label) AS m FROM t.one) o \
         JOIN t.big b ON coalesce(o.m, '') <> b.name",
        &["20000"],
    )
    .await;
    agree(
        "SELECT count(*), min(n) FROM (SELECT label, count(*) AS n FROM t.one GROUP BY label) o \
         JOIN t.big b ON b.id = o.n",
        &["1|1"],
    )
    .await;
    agree(
        "SELECT sum(r) FROM (SELECT row_number() OVER (ORDER BY id) AS r FROM t.small) \
         JOIN t.big b ON b.id = r",
        &["1275"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursive_query_is_planned_on_one_node() {
    agree(
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 10) \
         SELECT k, c FROM (SELECT i % 3 AS k, count(*) AS c FROM n GROUP BY 1) x \
         JOIN (SELECT DISTINCT k AS j FROM t.big) y ON x.k = y.j",
        &["0|3", "1|4", "2|3"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_are_not_scans_can_be_joined() {
    agree(
        "SELECT count(*) FROM (VALUES (1), (2), (3)) v(i) JOIN t.big b ON b.k = v.i",
        &["8572"],
    )
    .await;
    agree(
        "SELECT count(*) FROM generate_series(1, 10) AS s(i) JOIN t.big b ON b.id = s.i",
        &["10"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn null_aware_and_outer_joins_see_all_rows() {
    agree(
        "SELECT count(*) FROM t.big WHERE id NOT IN (SELECT id FROM t.small)",
        &["19950"],
    )
    .await;
    agree(
        "SELECT count(*), count(b.id), count(s.id) FROM (SELECT * FROM t.big WHERE id > 25) b \
         FULL JOIN t.small s ON s.id = b.id",
        &["20000|19975|50"],
    )
    .await;
    agree(
        "SELECT count(*) FROM t.small s LEFT JOIN t.big b ON b.id < s.id AND b.id > 48",
        &["50"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_of_a_limit_does_not_hang() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let sql = "EXPLAIN ANALYZE SELECT * FROM t.big b JOIN t.small s ON s.id = b.k LIMIT 1";
    let rows = tokio::time::timeout(Duration::from_secs(30), cluster.rows(sql))
        .await
        .expect("EXPLAIN ANALYZE hangs")
        .unwrap();
    assert!(rows.concat().contains("Stage 1"), "{rows:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_is_read_by_the_workers() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let plan = cluster
        .rows("EXPLAIN SELECT * FROM t.big")
        .await
        .unwrap()
        .concat();
    assert!(plan.contains("Stage 1"), "{plan}");
    assert!(plan.contains("tasks=2"), "{plan}");
    cluster.stop().await;
}
