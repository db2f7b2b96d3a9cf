//! `CREATE OR REPLACE TABLE`: one commit, with the identity and the history of the table kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use inshore_lake::TableName;
use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_replaced_and_its_history_stays() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let rows = async |sql: &str| cluster.rows(sql).await.unwrap();
    let table = async || {
        let name = TableName::new(lake.catalogs().default_name().unwrap(), "s", "t");
        lake.catalogs().load(&name).await.unwrap().unwrap()
    };
    rows("CREATE SCHEMA s").await;
    // Where there is none, it is made.
    let made = "CREATE OR REPLACE TABLE s.t (a bigint NOT NULL, b varchar, c STRUCT<x int>)
                PARTITIONED BY (bucket(4, a)) TBLPROPERTIES ('k' = '1', 'kept' = 'yes')";
    rows(made).await;
    rows("INSERT INTO s.t VALUES (1, 'one', NULL), (2, 'two', named_struct('x', 5))").await;
    let before = table().await;

    // Without rows.
    rows("CREATE OR REPLACE TABLE s.t (d date, b varchar, a varchar) TBLPROPERTIES ('k' = '2')")
        .await;
    assert_eq!(rows("SELECT count(*) FROM s.t").await, ["0"]);
    let now = table().await;
    let (old, new) = (before.metadata(), now.metadata());
    assert_eq!(old.uuid(), new.uuid());
    assert_eq!(old.location(), new.location());
    assert!(new.current_snapshot().is_none());
    assert!(new.default_partition_spec().fields().is_empty());
    let ids: Vec<(&str, i32)> = new
        .current_schema()
        .as_struct()
        .fields()
        .iter()
        .map(|field| (field.name.as_str(), field.id))
        .collect();
    assert_eq!(ids, [("d", 5), ("b", 2), ("a", 6)]);
    assert_eq!(new.properties()["k"], "2");
    assert_eq!(new.properties()["kept"], "yes");

    // With rows, which may be of the table itself.
    rows("INSERT INTO s.t VALUES (DATE '2024-01-02', 'x', 'y'), (NULL, 'z', NULL)").await;
    let replace = "CREATE OR REPLACE TABLE s.t PARTITIONED BY (month(d)) AS
                   SELECT d, length(b) AS n, 7 AS a FROM s.t";
    assert_eq!(rows(replace).await, ["2"]);
    let all = "SELECT d, n, a FROM s.t ORDER BY d NULLS LAST";
    let expected = ["2024-01-02|1|7", "NULL|1|7"];
    assert_eq!(rows(all).await, expected);
    assert_eq!(lake.rows_embedded(all).await.unwrap(), expected);
    let now = table().await;
    let snapshot = now.metadata().current_snapshot().unwrap();
    assert_eq!(snapshot.parent_snapshot_id(), None);
    assert_eq!(now.metadata().snapshots().len(), 3);
    let summary = "SELECT operation, summary['total-records'] FROM s.\"t$snapshots\" \
                   ORDER BY committed_at DESC LIMIT 1";
    assert_eq!(rows(summary).await, ["append|2"]);

    // All states are there still.
    let first = old.current_snapshot().unwrap().snapshot_id();
    let sql = format!("SELECT a, b, c FROM s.t FOR VERSION AS OF {first} ORDER BY a");
    assert_eq!(rows(&sql).await, ["1|one|NULL", "2|two|{x: 5}"]);
    rows("INSERT INTO s.t (a) VALUES (8)").await;
    assert_eq!(rows("SELECT sum(a) FROM s.t").await, ["22"]);

    // No rows are no snapshot.
    rows("CREATE OR REPLACE TABLE s.t AS SELECT 1 AS a WHERE 1 = 0").await;
    assert_eq!(rows("SELECT count(*) FROM s.t").await, ["0"]);
    assert!(table().await.metadata().current_snapshot().is_none());
    assert_eq!(
        rows("CREATE OR REPLACE TABLE s.new AS SELECT 1 AS a").await,
        ["1"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replaced_stays_as_it_is() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let create = "CREATE TABLE s.t (a bigint, b varchar) PARTITIONED BY (b)
                  TBLPROPERTIES ('format-version' = '1')";
    cluster.rows(create).await.unwrap();
    cluster
        .rows("INSERT INTO s.t VALUES (1, 'x')")
        .await
        .unwrap();
    fails(
        &cluster,
        "CREATE OR REPLACE TABLE IF NOT EXISTS s.t (a int)",
        &["exclude each other"],
    )
    .await;
    fails(
        &cluster,
        "CREATE OR REPLACE TABLE s.t (a bigint)",
        &["lake", "s.t cannot be replaced", "'format-version' = '2'"],
    )
    .await;
    fails(
        &cluster,
        "CREATE OR REPLACE TABLE s.t PARTITIONED BY (b) AS SELECT 1 / (a - 1) AS a, b FROM s.t",
        &["Divide by zero"],
    )
    .await;
    fails(
        &cluster,
        "CREATE OR REPLACE TABLE nowhere.t (a bigint)",
        &["nowhere not found"],
    )
    .await;
    assert_eq!(cluster.rows("SELECT * FROM s.t").await.unwrap(), ["1|x"]);
    let raised = "CREATE OR REPLACE TABLE s.t (a bigint) TBLPROPERTIES ('format-version' = '3')";
    cluster.rows(raised).await.unwrap();
    fails(
        &cluster,
        "CREATE OR REPLACE TABLE s.t (a bigint) TBLPROPERTIES ('format-version' = '2')",
        &["cannot be lowered"],
    )
    .await;
    cluster.rows("INSERT INTO s.t VALUES (5)").await.unwrap();
    assert_eq!(cluster.rows("SELECT * FROM s.t").await.unwrap(), ["5"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_meet_a_replacement_whole() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let create = "CREATE TABLE s.t TBLPROPERTIES ('commit.retry.num-retries' = '50',
                    'commit.retry.min-wait-ms' = '5', 'commit.retry.max-wait-ms' = '200') AS
                  SELECT value % 10 AS a FROM generate_series(1, 1000) AS g(value)";
    cluster.rows(create).await.unwrap();
    let replacing = async {
        for turn in 0..6 {
            let sql = format!(
                "CREATE OR REPLACE TABLE s.t AS
                 SELECT {turn} AS a FROM generate_series(1, 1000) AS g(value)"
            );
            cluster.rows(&sql).await.unwrap();
        }
    };
    let appending = async {
        for _ in 0..6 {
            cluster
                .rows("INSERT INTO s.t SELECT -1 FROM generate_series(1, 1000) AS g(value)")
                .await
                .unwrap();
        }
    };
    let reading = async {
        for _ in 0..12 {
            let rows = cluster.rows("SELECT count(*) FROM s.t").await.unwrap();
            let count: u64 = rows[0].parse().unwrap();
            assert!(count > 0 && count.is_multiple_of(1000), "{count}");
        }
    };
    tokio::join!(replacing, appending, reading);
    let last = "SELECT count(*) FROM s.t WHERE a = 5";
    assert_eq!(cluster.rows(last).await.unwrap(), ["1000"]);
    let none = "SELECT count(*) FROM s.t WHERE a BETWEEN 0 AND 4";
    assert_eq!(cluster.rows(none).await.unwrap(), ["0"]);
    cluster.stop().await;
}
