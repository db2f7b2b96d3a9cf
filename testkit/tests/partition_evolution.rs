//! Partitionings change in SQL: rows written under each are read together, and written by the newest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use inshore_testkit::{Cluster, Lake};

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    cluster
        .rows(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn fails(cluster: &Cluster, sql: &str, part: &str) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    assert!(error.contains(part), "{sql}: {part} is missing in {error}");
}

/// The rows, in a cluster and embedded.
async fn check(lake: &Lake, cluster: &Cluster, sql: &str, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    for mut rows in [
        run(cluster, sql).await,
        lake.rows_embedded(sql).await.unwrap(),
    ] {
        rows.sort();
        assert_eq!(rows, expected, "{sql}");
    }
}

/// The fields of the table's default spec: id, name and transform.
async fn spec(lake: &Lake, table: &str) -> String {
    let table = lake.table("s", table).await.unwrap();
    let spec = table.metadata().default_partition_spec();
    let fields = spec.fields().iter();
    let fields = fields.map(|f| format!(" {}:{}:{}", f.field_id, f.name, f.transform));
    format!("{}{}", spec.spec_id(), fields.collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_partitioned_anew() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        let create = format!(
            "CREATE TABLE s.t (id bigint, ts timestamp, name varchar) PARTITIONED BY (day(ts)) \
             TBLPROPERTIES ('format-version' = {version}, 'commit.manifest.min-count-to-merge' = 3)"
        );
        run(&cluster, &create).await;
        // In version 1 dropped fields stay as void ones.
        let is_first = version == 1;
        let steps = [
            ("", "0 1000:ts_day:day", "0 1000:ts_day:day"),
            (
                "ADD PARTITION FIELD bucket(4, id) AS shard",
                "1 1000:ts_day:day 1001:shard:bucket[4]",
                "1 1000:ts_day:day 1001:shard:bucket[4]",
            ),
            (
                "REPLACE PARTITION FIELD day(ts) WITH months(ts)",
                "2 1001:shard:bucket[4] 1002:ts_month:month",
                "2 1000:ts_day:void 1001:shard:bucket[4] 1002:ts_month:month",
            ),
            (
                "DROP PARTITION FIELD shard",
                "3 1002:ts_month:month",
                "3 1000:ts_day:void 1001:shard:void 1002:ts_month:month",
            ),
        ];
        for (turn, (clause, later, first)) in steps.into_iter().enumerate() {
            if !clause.is_empty() {
                run(&cluster, &format!("ALTER TABLE s.t {clause}")).await;
            }
            assert_eq!(spec(&lake, "t").await, if is_first { first } else { later });
            let insert = format!(
                "INSERT INTO s.t VALUES ({turn}1, TIMESTAMP '2024-01-01 10:00:00', 'a'), \
                 ({turn}2, TIMESTAMP '2024-01-02 10:00:00', NULL), ({turn}3, NULL, 'c')"
            );
            run(&cluster, &insert).await;
        }
        let all = [
            "1|a", "11|a", "12|NULL", "13|c", "2|NULL", "21|a", "22|NULL", "23|c", "3|c", "31|a",
            "32|NULL", "33|c",
        ];
        check(&lake, &cluster, "SELECT id, name FROM s.t", &all).await;
        let day = "SELECT id FROM s.t WHERE ts < TIMESTAMP '2024-01-02'";
        check(&lake, &cluster, day, &["1", "11", "21", "31"]).await;
        let null = "SELECT id FROM s.t WHERE ts IS NULL AND id IN (3, 23)";
        check(&lake, &cluster, null, &["23", "3"]).await;
        let specs = "SELECT spec_id, sum(record_count) FROM s.\"t$files\" GROUP BY spec_id";
        let each = ["0|3", "1|3", "2|3", "3|3"];
        check(&lake, &cluster, specs, &each).await;
        let months = "SELECT partition['ts_month'], record_count FROM s.\"t$partitions\" \
                      WHERE spec_id = 3";
        check(&lake, &cluster, months, &["648|2", "NULL|1"]).await;
        let days = "SELECT spec_id, CAST(partition['ts_day'] AS varchar) FROM s.\"t$partitions\" \
                    WHERE spec_id IN (0, 3)";
        let expected = ["0|2024-01-01", "0|2024-01-02", "0|NULL", "3|NULL", "3|NULL"];
        check(&lake, &cluster, days, &expected).await;
        let column = "SELECT DISTINCT _spec_id, CAST(_partition['ts_day'] AS varchar) FROM s.t \
                      WHERE id IN (1, 31)";
        check(&lake, &cluster, column, &["0|2024-01-01", "3|NULL"]).await;

        // Rows of older files cannot be told apart by the new partitions.
        let overwrite = "INSERT OVERWRITE s.t VALUES (7, TIMESTAMP '2024-01-01 10:00:00', 'o')";
        fails(&cluster, overwrite, "files of an older partitioning").await;
        assert_eq!(run(&cluster, "TRUNCATE TABLE s.t").await, ["12"]);
        for insert in [
            "INSERT INTO s.t VALUES (1, TIMESTAMP '2024-01-01 10:00:00', 'a'), (2, NULL, 'b')",
            overwrite,
        ] {
            run(&cluster, insert).await;
        }
        check(&lake, &cluster, "SELECT id, name FROM s.t", &["2|b", "7|o"]).await;

        // A table without partitions is replaced as a whole.
        let drop = "ALTER TABLE s.t DROP PARTITION FIELD month(ts)";
        if is_first {
            fails(&cluster, drop, "raise the version").await;
        } else {
            run(&cluster, drop).await;
            run(&cluster, "INSERT INTO s.t VALUES (9, NULL, NULL)").await;
            check(&lake, &cluster, "SELECT id FROM s.t", &["2", "7", "9"]).await;
            run(&cluster, "INSERT OVERWRITE s.t VALUES (10, NULL, NULL)").await;
            check(&lake, &cluster, "SELECT id FROM s.t", &["10"]).await;
        }
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_version_1_loses_its_partitions() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for sql in [
        "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k) TBLPROPERTIES ('format-version' = 1)",
        "INSERT INTO s.t VALUES (1, 1), (2, 2)",
        "ALTER TABLE s.t DROP PARTITION FIELD k",
        "INSERT INTO s.t VALUES (3, 1), (4, NULL)",
    ] {
        run(&cluster, sql).await;
    }
    assert_eq!(spec(&lake, "t").await, "1 1000:k_1000:void");
    let all = ["1|1", "2|2", "3|1", "4|NULL"];
    check(&lake, &cluster, "SELECT * FROM s.t", &all).await;
    check(
        &lake,
        &cluster,
        "SELECT id FROM s.t WHERE k = 1",
        &["1", "3"],
    )
    .await;
    let files = "SELECT spec_id, partition['k'], record_count FROM s.\"t$files\"";
    check(&lake, &cluster, files, &["0|1|1", "0|2|1", "1|NULL|2"]).await;
    fails(
        &cluster,
        "ALTER TABLE s.t DROP COLUMN k",
        "format version 1 keeps",
    )
    .await;
    // The field comes back in its place, and with it the spec.
    run(&cluster, "ALTER TABLE s.t ADD PARTITION FIELD k").await;
    assert_eq!(spec(&lake, "t").await, "0 1000:k:identity");
    run(&cluster, "ALTER TABLE s.t DROP PARTITION FIELD k").await;
    run(
        &cluster,
        "INSERT OVERWRITE s.t SELECT id, k FROM s.t WHERE id > 3",
    )
    .await;
    check(&lake, &cluster, "SELECT * FROM s.t", &["4|NULL"]).await;
    for sql in [
        "ALTER TABLE s.t SET TBLPROPERTIES ('format-version' = 2), DROP PARTITION FIELD k_1000",
        "ALTER TABLE s.t DROP COLUMN k",
        "INSERT INTO s.t VALUES (5)",
    ] {
        run(&cluster, sql).await;
    }
    check(&lake, &cluster, "SELECT * FROM s.t", &["4", "5"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_goes_that_older_files_are_partitioned_by() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [2, 3] {
        for sql in [
            &format!(
                "CREATE TABLE s.t (id bigint, k int, ts timestamp) PARTITIONED BY (k, day(ts)) \
                 TBLPROPERTIES ('format-version' = {version}, 'commit.manifest.min-count-to-merge' = 2)"
            ),
            "INSERT INTO s.t VALUES (1, 1, TIMESTAMP '2024-01-01 01:00:00'), (2, 2, NULL)",
            "INSERT INTO s.t VALUES (3, 3, NULL)",
        ] {
            run(&cluster, sql).await;
        }
        fails(
            &cluster,
            "ALTER TABLE s.t DROP COLUMN k",
            "partitioned by it",
        )
        .await;
        let before = "SELECT snapshot_id FROM s.\"t$snapshots\" ORDER BY committed_at DESC LIMIT 1";
        let before = run(&cluster, before).await;
        for sql in [
            "ALTER TABLE s.t DROP PARTITION FIELD k, DROP COLUMN k",
            "INSERT INTO s.t VALUES (4, TIMESTAMP '2024-01-01 02:00:00')",
            "INSERT INTO s.t VALUES (5, NULL)",
            // Another column of that name.
            "ALTER TABLE s.t ADD COLUMN k varchar",
            "INSERT INTO s.t VALUES (6, NULL, 'new')",
        ] {
            run(&cluster, sql).await;
        }
        let all = ["1|NULL", "2|NULL", "3|NULL", "4|NULL", "5|NULL", "6|new"];
        check(&lake, &cluster, "SELECT id, k FROM s.t", &all).await;
        let day = "SELECT id FROM s.t WHERE ts >= TIMESTAMP '2024-01-01'";
        check(&lake, &cluster, day, &["1", "4"]).await;
        check(
            &lake,
            &cluster,
            "SELECT id FROM s.t WHERE k = 'new'",
            &["6"],
        )
        .await;
        let old = format!("SELECT id, k FROM s.t FOR VERSION AS OF {}", before[0]);
        check(&lake, &cluster, &old, &["1|1", "2|2", "3|3"]).await;
        let files = "SELECT spec_id, partition['k'], sum(record_count) FROM s.\"t$files\" \
                     GROUP BY spec_id, partition['k']";
        check(
            &lake,
            &cluster,
            files,
            &["0|1|1", "0|2|1", "0|3|1", "1|NULL|3"],
        )
        .await;
        let partitions = "SELECT spec_id, count(*) FROM s.\"t$partitions\" GROUP BY spec_id";
        check(&lake, &cluster, partitions, &["0|3", "1|2"]).await;
        assert_eq!(run(&cluster, "TRUNCATE TABLE s.t").await, ["6"]);
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_wider_column_are_replaced() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        for sql in [
            &format!(
                "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k) \
                 TBLPROPERTIES ('format-version' = {version})"
            ),
            "INSERT INTO s.t VALUES (1, 1), (2, 2)",
            "ALTER TABLE s.t ALTER COLUMN k TYPE bigint",
            "INSERT OVERWRITE s.t VALUES (10, 1), (50, 5000000000)",
        ] {
            run(&cluster, sql).await;
        }
        let all = ["10|1", "2|2", "50|5000000000"];
        check(&lake, &cluster, "SELECT * FROM s.t", &all).await;
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_break_partitions_is_refused() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(
        &cluster,
        "CREATE TABLE s.t (id bigint, ts timestamp, l ARRAY<int>, st STRUCT<a int>) \
         PARTITIONED BY (day(ts), bucket(8, id))",
    )
    .await;
    for (clause, part) in [
        (
            "ADD PARTITION FIELD days(ts)",
            "already: partition field ts_day",
        ),
        (
            "ADD PARTITION FIELD hour(ts)",
            "REPLACE PARTITION FIELD ts_day",
        ),
        ("ADD PARTITION FIELD idd", "did you mean id"),
        ("ADD PARTITION FIELD month(id)", "which is long"),
        (
            "ADD PARTITION FIELD l",
            "partitioned by identity of column l",
        ),
        ("ADD PARTITION FIELD l.element", "inside a list or map"),
        ("ADD PARTITION FIELD bucket(4, id) AS ts", "as a column is"),
        (
            "ADD PARTITION FIELD truncate(4, id) AS ts_day",
            "ts_day exists already",
        ),
        ("ADD PARTITION FIELD minute(ts)", "a field is a column"),
        (
            "DROP PARTITION FIELD month(ts)",
            "the table has ts_day, id_bucket",
        ),
        ("DROP PARTITION FIELD id", "there is no partition field id"),
        (
            "REPLACE PARTITION FIELD x WITH id",
            "there is no partition field x",
        ),
        ("REPLACE PARTITION FIELD ts_day", "WITH"),
        ("ADD COLUMN ts_day date", "a partition field has that name"),
        (
            "RENAME COLUMN id TO id_bucket",
            "a partition field has that name",
        ),
    ] {
        fails(&cluster, &format!("ALTER TABLE s.t {clause}"), part).await;
    }
    assert_eq!(
        spec(&lake, "t").await,
        "0 1000:ts_day:day 1001:id_bucket:bucket[8]"
    );
    for clause in [
        "ADD PARTITION FIELD st.a",
        "DROP PARTITION FIELD bucket(8, id), REPLACE PARTITION FIELD st.a WITH truncate(10, st.a)",
        "RENAME COLUMN ts TO at",
    ] {
        run(&cluster, &format!("ALTER TABLE s.t {clause}")).await;
    }
    assert_eq!(
        spec(&lake, "t").await,
        "2 1000:ts_day:day 1003:st.a_trunc_10:truncate[10]"
    );
    let insert =
        "INSERT INTO s.t VALUES (1, TIMESTAMP '2024-01-01 01:00:00', NULL, named_struct('a', 17))";
    run(&cluster, insert).await;
    let files = "SELECT CAST(partition['ts_day'] AS varchar), partition['st.a_trunc_10'] \
                 FROM s.\"t$files\"";
    check(&lake, &cluster, files, &["2024-01-01|10"]).await;
    run(
        &cluster,
        "ALTER TABLE IF EXISTS s.nothing ADD PARTITION FIELD id",
    )
    .await;
    cluster.stop().await;
}
