//! Data files are written where the plan's last stage runs, as the table's properties want them, in
//! bounded memory; what is not committed goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use inshore_testkit::{Cluster, Lake, cluster};

const SOURCE: &str = "SELECT value AS id, value % 13 AS k, 'name ' || (value % 1009) AS name \
                      FROM generate_series(1, 30000) AS s(value)";

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "source", SOURCE, 6).await.unwrap();
    lake
}

/// All data files below a table's folder, those on their way included.
fn files(lake: &Lake, table: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = vec![];
    collect(
        &lake.folder().join("warehouse/s").join(table).join("data"),
        &mut found,
    );
    found
}

async fn gone(lake: &Lake, table: &str) {
    for _ in 0..200 {
        if files(lake, table).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("files are left: {:?}", files(lake, table));
}

async fn one(cluster: &Cluster, sql: &str) -> String {
    let rows = cluster.rows(sql).await.unwrap();
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_write_and_each_partition_has_one_writer() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for (table, mode, spread) in [("hashed", "hash", false), ("spread", "none", true)] {
        let create = format!(
            "CREATE TABLE s.{table} (id bigint, k bigint, name varchar) PARTITIONED BY (k)
             TBLPROPERTIES ('write.distribution-mode' = '{mode}')"
        );
        cluster.rows(&create).await.unwrap();
        let insert = format!("INSERT INTO s.{table} SELECT * FROM s.source");
        let plan = cluster.rows(&format!("EXPLAIN {insert}")).await.unwrap();
        let plan = plan.join("\n");
        let write = plan.find("WriteExec").expect(&plan);
        let boundary = plan.find("NetworkCoalesceExec").expect(&plan);
        assert!(boundary < write, "the coordinator writes:\n{plan}");
        assert_eq!(plan.contains("distribution=hash"), !spread, "{plan}");
        assert_eq!(files(&lake, table), Vec::<PathBuf>::new());
        assert_eq!(cluster.rows(&insert).await.unwrap(), ["30000"]);
        let written = files(&lake, table).len();
        assert_eq!(written > 13, spread, "{written} files of {table}");
        let same = format!(
            "SELECT count(*), count(DISTINCT a.id), sum(CASE WHEN a.name = b.name THEN 1 END)
             FROM s.{table} a JOIN s.source b ON a.id = b.id AND a.k = b.k"
        );
        assert_eq!(one(&cluster, &same).await, "30000|30000|30000");
        let pruned = format!("SELECT count(*) FROM s.{table} WHERE k = 3");
        assert_eq!(one(&cluster, &pruned).await, "2308");
        assert_eq!(
            lake.rows_embedded(&same).await.unwrap(),
            ["30000|30000|30000"]
        );
    }
    let analyzed = "EXPLAIN ANALYZE INSERT INTO s.hashed SELECT * FROM s.source";
    let refused = cluster.rows(analyzed).await.unwrap_err().to_string();
    assert!(refused.contains("EXPLAIN ANALYZE"), "{refused}");
    assert_eq!(files(&lake, "hashed").len(), 13);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_as_the_properties_want_them() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let create = "CREATE TABLE s.t (id bigint, k bigint, name varchar, noise varchar) TBLPROPERTIES (
        'write.target-file-size-bytes' = '300000', 'write.parquet.row-group-size-bytes' = '100000',
        'write.parquet.compression-codec' = 'uncompressed',
        'write.parquet.bloom-filter-enabled.column.name' = 'true',
        'write.metadata.metrics.column.name' = 'truncate(6)',
        'write.metadata.metrics.column.k' = 'counts', 'write.metadata.metrics.column.noise' = 'none')";
    cluster.rows(create).await.unwrap();
    let insert = "INSERT INTO s.t SELECT id, k, name, md5(CAST(id AS varchar)) FROM s.source";
    assert_eq!(cluster.rows(insert).await.unwrap(), ["30000"]);
    let sizes = "SELECT count(*) > 3, max(file_size_in_bytes) < 600000, min(cardinality(split_offsets)) > 1,
        sum(record_count) FROM s.\"t$files\" WHERE file_size_in_bytes > 150000";
    let sizes = one(&cluster, sizes).await;
    assert!(sizes.starts_with("true|true|true|"), "{sizes}");
    let rows = "SELECT sum(record_count) FROM s.\"t$files\"";
    assert_eq!(one(&cluster, rows).await, "30000");
    let metrics = "SELECT count(*) = count(value_counts[CAST(2 AS int)]), count(lower_bounds[CAST(2 AS int)]), count(value_counts[CAST(4 AS int)]),
        count(*) = count(column_sizes[CAST(4 AS int)]), max(arrow_cast(upper_bounds[CAST(3 AS int)], 'Utf8')), min(arrow_cast(lower_bounds[CAST(3 AS int)], 'Utf8'))
        FROM s.\"t$files\"";
    assert_eq!(one(&cluster, metrics).await, "true|0|0|true|name :|name 0");
    assert_eq!(
        one(&cluster, "SELECT count(*) FROM s.t WHERE name = 'name 77'").await,
        "30"
    );
    for (property, value) in [
        ("write.format.default", "orc"),
        ("write.parquet.compression-codec", "lzo"),
        ("write.distribution-mode", "luck"),
    ] {
        let set = format!("ALTER TABLE s.t SET TBLPROPERTIES ('{property}' = '{value}')");
        cluster.rows(&set).await.unwrap();
        let error = cluster.rows(insert).await.unwrap_err().to_string();
        assert!(error.contains(property) && error.contains(value), "{error}");
        let good = match property {
            "write.format.default" => "parquet",
            "write.distribution-mode" => "none",
            _ => "zstd",
        };
        let set = format!("ALTER TABLE s.t SET TBLPROPERTIES ('{property}' = '{good}')");
        cluster.rows(&set).await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_partitions_take_little_memory() {
    let lake = lake().await;
    let engine = inshore_engine::options::EngineOptions {
        memory_limit_bytes: 96 << 20,
        ..cluster::forced()
    };
    let cluster = Cluster::start_with(&lake, 2, engine).await.unwrap();
    for mode in ["hash", "none"] {
        let made = format!(
            "CREATE TABLE s.wide_{mode} PARTITIONED BY (part)
             TBLPROPERTIES ('write.distribution-mode' = '{mode}') AS
             SELECT id, id % 1000 AS part, name, md5(CAST(id AS varchar)) AS a, md5(name) AS b, id * 0.5 AS c
             FROM s.source"
        );
        assert_eq!(cluster.rows(&made).await.unwrap(), ["30000"]);
        let check = format!(
            "SELECT count(*), count(DISTINCT id), count(DISTINCT part), sum(id), min(length(a))
             FROM s.wide_{mode} WHERE id % 1000 = part"
        );
        assert_eq!(one(&cluster, &check).await, "30000|30000|1000|450015000|32");
        let partitions =
            format!("SELECT count(DISTINCT \"partition\") FROM s.\"wide_{mode}$files\"");
        assert_eq!(one(&cluster, &partitions).await, "1000");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_goes_away() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster
        .rows("CREATE TABLE s.t (id bigint, k bigint, name varchar) PARTITIONED BY (k)")
        .await
        .unwrap();
    let many = "INSERT INTO s.t SELECT a.id, a.k, a.name FROM s.source a CROSS JOIN \
                (SELECT id FROM s.source WHERE id <= 60) b";
    // Cancelled while rows are written.
    let session = cluster.coordinator().session();
    let mut stream = session.execute(many).await.unwrap().stream;
    let begun = async {
        while files(&lake, "t").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = stream.try_next() => panic!("done before it could be cancelled: {done:?}"),
        () = begun => {}
    }
    drop(stream);
    gone(&lake, "t").await;
    // Fails in the last row, when other writers may be done.
    for divisor in ["a.id - 30000", "b.id - 60"] {
        let fails = many.replace("a.k,", &format!("a.k + 0 / ({divisor}),"));
        cluster.rows(&fails).await.unwrap_err();
        gone(&lake, "t").await;
    }
    assert_eq!(one(&cluster, "SELECT count(*) FROM s.t").await, "0");
    assert_eq!(
        cluster
            .rows("INSERT INTO s.t SELECT * FROM s.source")
            .await
            .unwrap(),
        ["30000"]
    );
    cluster.stop().await;
}
