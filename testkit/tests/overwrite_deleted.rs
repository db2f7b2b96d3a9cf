//! `INSERT OVERWRITE` and `TRUNCATE` of tables with deleted rows: none of them comes back, none of
//! the new rows is taken for one, and the snapshots' summaries are true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/deletes.rs"]
mod deletes;

use std::collections::{BTreeMap, HashSet};

use iceberg::spec::{DataContentType, DataFile};
use iceberg::table::Table;
use inshore_testkit::{Cluster, Lake};

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    cluster
        .rows(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The rows, in a cluster and embedded.
async fn check(lake: &Lake, cluster: &Cluster, sql: &str, expected: &[&str]) {
    assert_eq!(run(cluster, sql).await, expected, "{sql}");
    assert_eq!(lake.rows_embedded(sql).await.unwrap(), expected, "{sql}");
}

/// The live files of the current snapshot.
async fn live(table: &Table) -> Vec<DataFile> {
    let Some(snapshot) = table.metadata().current_snapshot() else {
        return vec![];
    };
    let list = table.manifest_list_reader(snapshot).load().await.unwrap();
    let mut files = vec![];
    for manifest in list.entries() {
        let manifest = manifest.load_manifest(table.file_io()).await.unwrap();
        let live = manifest.entries().iter().filter(|entry| entry.is_alive());
        files.extend(live.map(|entry| entry.data_file().clone()));
    }
    files
}

/// What of the totals of the current snapshot is missing or not what its manifests say, and the
/// number of delete files. Deletes of one data file must not outlive it.
async fn wrong_totals(lake: &Lake, namespace: &str, name: &str) -> (Vec<String>, u64) {
    let table = lake.table(namespace, name).await.unwrap();
    let files = live(&table).await;
    let of = |content: DataContentType| files.iter().filter(move |f| f.content_type() == content);
    let rows = |content| of(content).map(DataFile::record_count).sum::<u64>();
    let data = of(DataContentType::Data).count() as u64;
    let delete_files = files.len() as u64 - data;
    let expected = [
        ("total-data-files", data),
        ("total-records", rows(DataContentType::Data)),
        (
            "total-files-size",
            files.iter().map(deletes::size_bytes).sum(),
        ),
        ("total-delete-files", delete_files),
        (
            "total-position-deletes",
            rows(DataContentType::PositionDeletes),
        ),
        (
            "total-equality-deletes",
            rows(DataContentType::EqualityDeletes),
        ),
    ];
    let summary = table.metadata().current_snapshot().unwrap().summary();
    let said = |key: &str| summary.additional_properties.get(key).cloned();
    let wrong = expected.into_iter().filter_map(|(key, number)| {
        let said = said(key).unwrap_or_default();
        (said != number.to_string()).then(|| format!("{key} is {number}, not {said:?}"))
    });
    let paths: HashSet<&str> = of(DataContentType::Data).map(DataFile::file_path).collect();
    for file in &files {
        if let Some(path) = file.referenced_data_file() {
            assert!(
                paths.contains(path.as_str()),
                "{} dangles",
                file.file_path()
            );
        }
    }
    (wrong.collect(), delete_files)
}

/// Checks that all totals are there and true; gives the number of delete files.
async fn check_totals(lake: &Lake, namespace: &str, name: &str) -> u64 {
    let (wrong, delete_files) = wrong_totals(lake, namespace, name).await;
    assert!(wrong.is_empty(), "{name}: {wrong:?}");
    delete_files
}

/// Where the rows of table `s.t` are: file and position by id.
async fn places(cluster: &Cluster) -> BTreeMap<i64, (String, i64)> {
    let rows = run(cluster, "SELECT id, _file, _pos FROM s.t").await;
    let place = |row: &String| {
        let parts: Vec<&str> = row.split('|').collect();
        let number = |at: usize| parts[at].parse::<i64>().unwrap();
        (number(0), (parts[1].to_owned(), number(2)))
    };
    rows.iter().map(place).collect()
}

/// Deletes some rows of `s.t` by their positions, file by file and all of a partition together; in
/// format version 3 by vectors.
async fn delete_positions(lake: &Lake, cluster: &Cluster, ids: &[i64]) {
    let table = lake.table("s", "t").await.unwrap();
    let places = places(cluster).await;
    let data = live(&table).await;
    let mut by_file = BTreeMap::<String, Vec<i64>>::new();
    for id in ids {
        let (file, at) = &places[id];
        by_file.entry(file.clone()).or_default().push(*at);
    }
    let file_of = |path: &str| data.iter().find(|file| file.file_path() == path).unwrap();
    let is_v3 = table.metadata().format_version() == iceberg::spec::FormatVersion::V3;
    if is_v3 {
        let rows: Vec<_> = by_file
            .iter()
            .map(|(path, at)| (file_of(path), at.as_slice()))
            .collect();
        deletes::commit(lake, "t", deletes::vectors(&table, "vectors.puffin", &rows)).await;
        return;
    }
    let mut files = vec![];
    let mut by_partition = BTreeMap::<String, Vec<(String, i64)>>::new();
    for (n, (path, at)) in by_file.iter().enumerate() {
        let rows: Vec<_> = at.iter().map(|at| (path.clone(), *at)).collect();
        let partition = format!("{:?}", file_of(path).partition());
        by_partition
            .entry(partition)
            .or_default()
            .extend(rows.clone());
        let name = format!("of-file-{n}.parquet");
        files.push(deletes::positions(&table, &name, file_of(path), &rows));
    }
    // Once more, as other writers do.
    for (n, rows) in by_partition.into_values().enumerate() {
        let name = format!("of-partition-{n}.parquet");
        files.push(deletes::positions(
            &table,
            &name,
            file_of(&rows[0].0),
            &rows,
        ));
    }
    deletes::commit(lake, "t", files).await;
}

/// Deletes rows of `s.t` by id, in the partitions of all data files.
async fn delete_ids(lake: &Lake, ids: &[i64]) {
    let table = lake.table("s", "t").await.unwrap();
    let mut partitions = HashSet::new();
    let mut files = vec![];
    for file in live(&table).await {
        if partitions.insert(file.partition().clone()) {
            let name = format!("ids-{}.parquet", files.len());
            files.push(deletes::ids(&table, &name, &file, ids));
        }
    }
    deletes::commit(lake, "t", files).await;
}

/// Table `s.t` of rows 1 to 8, `k` 1 for odd ids and 2 for even ones, in two files per partition.
/// Rows 1, 2 and 5 are deleted by position, 3 and 4 by id.
async fn table(lake: &Lake, cluster: &Cluster, version: u8, partitioned: bool) {
    let by = match partitioned {
        true => "PARTITIONED BY (k)",
        false => "",
    };
    let create = format!(
        "CREATE TABLE s.t (id bigint, k int) {by} TBLPROPERTIES ('format-version' = '{version}')"
    );
    run(cluster, &create).await;
    run(
        cluster,
        "INSERT INTO s.t VALUES (1, 1), (2, 2), (3, 1), (4, 2)",
    )
    .await;
    run(
        cluster,
        "INSERT INTO s.t VALUES (5, 1), (6, 2), (7, 1), (8, 2)",
    )
    .await;
    delete_positions(lake, cluster, &[1, 2, 5]).await;
    delete_ids(lake, &[3, 4]).await;
    check(
        lake,
        cluster,
        "SELECT id, k FROM s.t",
        &["6|2", "7|1", "8|2"],
    )
    .await;
    assert!(check_totals(lake, "s", "t").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_with_deleted_rows_is_replaced() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [2, 3] {
        table(&lake, &cluster, version, false).await;
        let before = lake.table("s", "t").await.unwrap();
        let before = before.metadata().current_snapshot_id().unwrap();
        // Ids that are deleted come again: they are new rows.
        run(
            &cluster,
            "INSERT OVERWRITE s.t VALUES (1, 1), (3, 1), (8, 2)",
        )
        .await;
        let sql = "SELECT id, k FROM s.t";
        check(&lake, &cluster, sql, &["1|1", "3|1", "8|2"]).await;
        assert_eq!(check_totals(&lake, "s", "t").await, 0);
        let old = format!("SELECT id FROM s.t FOR VERSION AS OF {before}");
        check(&lake, &cluster, &old, &["6", "7", "8"]).await;

        // The rows that are left, of a table with deletes, in their own place.
        delete_ids(&lake, &[3]).await;
        delete_positions(&lake, &cluster, &[8]).await;
        run(&cluster, "INSERT OVERWRITE s.t SELECT * FROM s.t").await;
        check(&lake, &cluster, sql, &["1|1"]).await;
        assert_eq!(check_totals(&lake, "s", "t").await, 0);
        run(&cluster, "INSERT INTO s.t VALUES (3, 1), (4, 2)").await;
        check(&lake, &cluster, sql, &["1|1", "3|1", "4|2"]).await;
        if version == 3 {
            let ids = "SELECT count(DISTINCT _row_id), count(*) FROM s.t";
            check(&lake, &cluster, ids, &["3|3"]).await;
        }
        check_totals(&lake, "s", "t").await;
        run(&cluster, "DROP TABLE s.t PURGE").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_with_deleted_rows_are_replaced() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    let sql = "SELECT id, k FROM s.t";
    for version in [2, 3] {
        table(&lake, &cluster, version, true).await;
        // The other partition stays as it is, with its deletes.
        let overwrite = "INSERT OVERWRITE s.t VALUES (1, 1), (3, 1), (5, 1)";
        run(&cluster, overwrite).await;
        check(&lake, &cluster, sql, &["1|1", "3|1", "5|1", "6|2", "8|2"]).await;
        assert!(check_totals(&lake, "s", "t").await > 0);
        // Manifests of data files are merged; what is deleted stays so.
        run(
            &cluster,
            "ALTER TABLE s.t SET TBLPROPERTIES ('commit.manifest.min-count-to-merge' = '2')",
        )
        .await;
        run(&cluster, "INSERT INTO s.t VALUES (2, 2), (4, 2), (9, 3)").await;
        let all = ["1|1", "2|2", "3|1", "4|2", "5|1", "6|2", "8|2", "9|3"];
        check(&lake, &cluster, sql, &all).await;
        check_totals(&lake, "s", "t").await;
        // Again, over new deletes of new rows.
        delete_positions(&lake, &cluster, &[3, 9]).await;
        delete_ids(&lake, &[5, 6]).await;
        check(&lake, &cluster, sql, &["1|1", "2|2", "4|2", "8|2"]).await;
        run(
            &cluster,
            "INSERT OVERWRITE s.t VALUES (3, 1), (6, 2), (10, 4)",
        )
        .await;
        check(&lake, &cluster, sql, &["10|4", "3|1", "6|2"]).await;
        check_totals(&lake, "s", "t").await;
        if version == 3 {
            let ids = "SELECT count(DISTINCT _row_id), count(*) FROM s.t";
            check(&lake, &cluster, ids, &["3|3"]).await;
        }
        run(&cluster, "DROP TABLE s.t PURGE").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_deleted_rows_are_emptied() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for (version, partitioned) in [(2, false), (2, true), (3, false), (3, true)] {
        table(&lake, &cluster, version, partitioned).await;
        // The metadata does not tell how many of the rows were left.
        assert_eq!(
            run(&cluster, "TRUNCATE TABLE s.t").await,
            Vec::<String>::new()
        );
        check(&lake, &cluster, "SELECT count(*) FROM s.t", &["0"]).await;
        assert_eq!(check_totals(&lake, "s", "t").await, 0);
        run(&cluster, "INSERT INTO s.t VALUES (1, 1), (3, 1), (6, 2)").await;
        check(&lake, &cluster, "SELECT id FROM s.t", &["1", "3", "6"]).await;
        check_totals(&lake, "s", "t").await;
        assert_eq!(run(&cluster, "TRUNCATE TABLE s.t").await, ["3"]);
        run(&cluster, "DROP TABLE s.t PURGE").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_the_same_after_its_column_got_a_wider_type() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(
        &cluster,
        "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k)",
    )
    .await;
    run(&cluster, "INSERT INTO s.t VALUES (1, 1), (2, 2)").await;
    run(&cluster, "ALTER TABLE s.t ALTER COLUMN k TYPE bigint").await;
    run(&cluster, "INSERT OVERWRITE s.t VALUES (3, 1)").await;
    check(&lake, &cluster, "SELECT id, k FROM s.t", &["2|2", "3|1"]).await;
    check_totals(&lake, "s", "t").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_writers_keep_their_rows() {
    let tables = [
        "pyiceberg/warehouse/mor/position_deletes",
        "pyiceberg/warehouse/mor/equality_deletes",
        "pyiceberg/warehouse/mor/equality_deletes_evolved",
        "pyiceberg/warehouse/mor/position_and_equality",
        "duckdb/data/persistent/equality_deletes/warehouse/mydb/mytable",
        "impala_v3/iceberg_v3_deletion_vectors",
    ];
    let Some(lake) = Lake::of_copies("c", &tables).await.unwrap() else {
        return;
    };
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    for table in tables {
        let name = table.rsplit('/').next().unwrap();
        let sql = format!("SELECT * FROM c.{name}");
        let rows = run(&cluster, &sql).await;
        assert!(!rows.is_empty(), "{table}");
        let (before, _) = wrong_totals(&lake, "c", name).await;
        run(
            &cluster,
            &format!("INSERT OVERWRITE c.{name} SELECT * FROM c.{name}"),
        )
        .await;
        assert_eq!(run(&cluster, &sql).await, rows, "{table}");
        // What another writer counted wrong stays wrong until all is removed.
        let (wrong, _) = wrong_totals(&lake, "c", name).await;
        assert!(wrong.is_empty() || !before.is_empty(), "{table}: {wrong:?}");
        run(&cluster, &format!("TRUNCATE TABLE c.{name}")).await;
        assert!(run(&cluster, &sql).await.is_empty(), "{table}");
        assert_eq!(check_totals(&lake, "c", name).await, 0, "{table}");
    }
    cluster.stop().await;
}
