//! Tables are altered in SQL, by several at once, and read right afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use iceberg::spec::Transform;
use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_follow_their_columns() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, CAST(value AS int) AS small, CAST(value AS varchar) AS name, \
                 CAST(value AS decimal(9, 2)) AS price FROM generate_series(1, 3) AS s(value)";
    lake.create_table("s", "t", query, 2).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for sql in [
        "ALTER TABLE s.t ADD COLUMN note varchar COMMENT 'free text'",
        "ALTER TABLE s.t ADD COLUMN place STRUCT<lat double, tags ARRAY<varchar>> FIRST",
        "ALTER TABLE s.t ADD COLUMN \"After\" date AFTER small",
        "ALTER TABLE s.t ADD COLUMN IF NOT EXISTS note int",
        "ALTER TABLE s.t RENAME COLUMN name TO title",
        "ALTER TABLE s.t ALTER COLUMN small TYPE bigint",
        "ALTER TABLE s.t ALTER COLUMN price SET DATA TYPE decimal(12, 2)",
        "ALTER TABLE s.t ADD COLUMN gone int, ADD COLUMN name int",
        "ALTER TABLE s.t DROP COLUMN gone",
        "ALTER TABLE s.t DROP COLUMN IF EXISTS gone",
        "ALTER TABLE s.t SET TBLPROPERTIES ('owner' = 'me', 'format-version' = '3')",
        "COMMENT ON TABLE s.t IS 'three rows'",
        "COMMENT ON COLUMN s.t.title IS 'once name'",
        "ALTER TABLE IF EXISTS s.nothing DROP COLUMN a",
    ] {
        let done = cluster.rows(sql).await;
        assert!(done.expect(sql).is_empty());
    }
    let expected: Vec<String> = (1..4)
        .map(|n| format!("NULL|{n}|{n}|NULL|{n}|{n}.00|NULL|NULL"))
        .collect();
    let all = "SELECT * FROM s.t";
    assert_eq!(cluster.rows(all).await.unwrap(), expected);
    assert_eq!(lake.rows_embedded(all).await.unwrap(), expected);
    let shown = cluster
        .rows("SHOW CREATE TABLE s.t")
        .await
        .unwrap()
        .join("\n");
    for part in [
        "place STRUCT<lat double, tags ARRAY<varchar>>,\n  id bigint,\n  small bigint,\n  \"After\" date,\n  title varchar COMMENT 'once name',\n  price decimal(12, 2),\n  note varchar COMMENT 'free text',\n  name int\n)",
        "'comment' = 'three rows'",
        "'owner' = 'me'",
        "'format-version' = '3'",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    // The state before keeps its own columns.
    let before = "SELECT * FROM s.t FOR VERSION AS OF ";
    let snapshot = "SELECT max(snapshot_id) FROM s.\"t$snapshots\"";
    let snapshot = cluster.rows(snapshot).await.unwrap().remove(0);
    let before = cluster.rows(&format!("{before}{snapshot}")).await.unwrap();
    assert_eq!(before, ["1|1|1|1.00", "2|2|2|2.00", "3|3|3|3.00"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_break_a_table_is_refused() {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, arrow_cast(to_timestamp(value), 'Timestamp(µs)') AS ts \
                 FROM generate_series(1, 3) AS s(value)";
    lake.create_partitioned_table("s", "t", query, ("ts", Transform::Month))
        .await
        .unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    for (sql, parts) in [
        ("ALTER TABLE s.t DROP COLUMN ts", &["partitioned by it"][..]),
        (
            "ALTER TABLE s.t DROP COLUMN idd",
            &["no column idd", "did you mean id"],
        ),
        (
            "ALTER TABLE s.t ADD COLUMN id int",
            &["column id exists already"],
        ),
        ("ALTER TABLE s.t ADD COLUMN n int NOT NULL", &["allow NULL"]),
        (
            "ALTER TABLE s.t ALTER COLUMN id TYPE int",
            &["cannot get type int"],
        ),
        (
            "ALTER TABLE s.t ALTER COLUMN id SET NOT NULL",
            &["cannot be NOT NULL", "earlier snapshot"],
        ),
        (
            "ALTER TABLE s.t RENAME COLUMN id TO ts",
            &["column ts exists already"],
        ),
        (
            "ALTER TABLE s.t ADD COLUMN a int, DROP COLUMN b",
            &["no column b"],
        ),
        (
            "ALTER TABLE s.t SET TBLPROPERTIES ('format-version' = 1)",
            &["s.t cannot be changed"],
        ),
        (
            "ALTER TABLE s.nothing DROP COLUMN a",
            &["lake.s.nothing not found"],
        ),
        ("COMMENT ON COLUMN s.t.x IS 'x'", &["no column x"]),
    ] {
        fails(&cluster, sql, parts).await;
    }
    assert_eq!(
        cluster.rows("SELECT id FROM s.t").await.unwrap(),
        ["1", "2", "3"]
    );
    let columns = cluster.rows("DESCRIBE s.t").await.unwrap();
    assert_eq!(columns, ["id|bigint|YES", "ts|timestamp(6)|YES"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_all_get_their_change() {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "t", "SELECT 1 AS id", 1)
        .await
        .unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster
        .rows(
            "ALTER TABLE s.t SET TBLPROPERTIES ('commit.retry.num-retries' = '60', \
               'commit.retry.min-wait-ms' = '5', 'commit.retry.max-wait-ms' = '200')",
        )
        .await
        .unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let session = cluster.coordinator().session();
        writers.spawn(async move {
            for turn in 0..5 {
                let sql = format!("ALTER TABLE s.t ADD COLUMN c{writer}_{turn} int");
                session.execute(&sql).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let columns = cluster.rows("DESCRIBE s.t").await.unwrap();
    assert_eq!(columns.len(), 41, "{columns:?}");
    let ids = "SELECT count(*) FROM s.t WHERE c0_0 IS NULL AND c7_4 IS NULL";
    assert_eq!(cluster.rows(ids).await.unwrap(), ["1"]);
    // Every change has its metadata file, and those of late attempts are gone.
    let folder = lake.folder().join("warehouse/s/t/metadata");
    let files = std::fs::read_dir(folder).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".metadata.json")
    });
    let log = "SELECT count(*) FROM s.\"t$metadata_log_entries\"";
    let log = cluster.rows(log).await.unwrap();
    assert_eq!(files.count().to_string(), log[0]);
    cluster.stop().await;
}
