//! `DROP TABLE … PURGE`: a table goes with all of its files, and with nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iceberg::spec::StatisticsFile;
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{NamespaceIdent, TableIdent};
use inshore_lake::config::LakeConfig;
use inshore_testkit::{Cluster, Lake};

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    cluster
        .rows(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

/// All files below a folder, sorted; links are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn folder_of(table: &Table) -> PathBuf {
    PathBuf::from(table.metadata().location().trim_start_matches("file://"))
}

async fn add_statistics(lake: &Lake, table: &Table) -> PathBuf {
    let path = folder_of(table).join("metadata/statistics.puffin");
    fs::write(&path, "PFA1").unwrap();
    let statistics = StatisticsFile {
        snapshot_id: table.metadata().current_snapshot_id().unwrap(),
        statistics_path: format!("file://{}", path.display()),
        file_size_in_bytes: 4,
        file_footer_size_in_bytes: 4,
        key_metadata: None,
        blob_metadata: vec![],
    };
    let transaction = Transaction::new(table);
    let action = transaction.update_statistics().set_statistics(statistics);
    let transaction = action.apply(transaction).unwrap();
    let catalogs = lake.catalogs();
    let writer = catalogs.writer(catalogs.default_name().unwrap()).await;
    transaction.commit(writer.unwrap().as_ref()).await.unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_with_all_of_its_files() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        let at = lake.folder().join(format!("in{version}"));
        let create = format!(
            "CREATE TABLE s.t (id bigint, k int) PARTITIONED BY (k) TBLPROPERTIES \
             ('format-version' = '{version}', 'commit.manifest.min-count-to-merge' = '3')"
        );
        run(&cluster, &create).await;
        for turn in 0..4 {
            run(
                &cluster,
                &format!("INSERT INTO s.t VALUES ({turn}, 1), ({turn}, 2)"),
            )
            .await;
        }
        run(&cluster, "INSERT OVERWRITE s.t VALUES (9, 2)").await;
        run(&cluster, "TRUNCATE TABLE s.t").await;
        // Taken over from elsewhere: it belongs to the table.
        let copy = format!(
            "COPY (SELECT CAST(1 AS bigint) AS id, CAST(7 AS int) AS k) TO '{}/x.parquet'",
            at.display()
        );
        run(&cluster, &copy).await;
        let call = format!("CALL system.add_files('s.t', '{}/x.parquet')", at.display());
        run(&cluster, &call).await;
        run(&cluster, "ALTER TABLE s.t ADD COLUMN note varchar").await;
        let table = lake.table("s", "t").await.unwrap();
        add_statistics(&lake, &table).await;
        let folder = folder_of(&table);
        assert!(files(&folder).len() > 20, "{:?}", files(&folder));
        let foreign = folder.join("data/foreign.parquet");
        fs::write(&foreign, "not the table's").unwrap();
        run(&cluster, "CREATE TABLE s.other AS SELECT 1 AS a").await;

        assert!(run(&cluster, "DROP TABLE s.t PURGE").await.is_empty());
        assert_eq!(
            files(&folder),
            std::slice::from_ref(&foreign),
            "version {version}"
        );
        assert!(files(&at).is_empty(), "{:?}", files(&at));
        fails(&cluster, "SELECT * FROM s.t", &["s.t"]).await;
        assert_eq!(run(&cluster, "SELECT a FROM s.other").await, ["1"]);
        fails(&cluster, "DROP TABLE s.t PURGE", &["s.t not found"]).await;
        run(&cluster, "DROP TABLE IF EXISTS s.t PURGE").await;
        run(&cluster, "DROP TABLE s.other PURGE").await;
        fs::remove_file(foreign).unwrap();
    }
    // Several at once, embedded.
    for name in ["a", "b"] {
        run(&cluster, &format!("CREATE TABLE s.{name} AS SELECT 1 AS x")).await;
    }
    let purge = "DROP TABLE s.a, s.b PURGE";
    lake.rows_embedded(purge).await.unwrap();
    assert!(files(&lake.folder().join("warehouse/s")).is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_files_of_every_kind_go_too() {
    let tables = [
        "pyiceberg/warehouse/mor/position_deletes",
        "pyiceberg/warehouse/mor/position_deletes_partitioned",
        "pyiceberg/warehouse/mor/equality_deletes",
        "pyiceberg/warehouse/mor/equality_deletes_evolved",
        "pyiceberg/warehouse/mor/position_and_equality",
        "pyiceberg/warehouse/files/v1_plain",
        "duckdb/data/persistent/equality_deletes/warehouse/mydb/mytable",
        "impala_v3/iceberg_v3_deletion_vectors",
    ];
    let Some(lake) = Lake::of_copies("c", &tables).await.unwrap() else {
        return;
    };
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    for table in tables {
        let name = table.rsplit('/').next().unwrap();
        let folder = lake.folder().join("copies").join(table);
        let before = files(&folder).len();
        assert!(before > 3, "{table}: {before}");
        run(&cluster, &format!("SELECT count(*) FROM c.{name}")).await;
        let known = lake.table("c", name).await.unwrap();
        let snapshots = known.metadata().snapshots();
        let lists: Vec<String> = snapshots.map(|s| s.manifest_list().to_owned()).collect();
        run(&cluster, &format!("DROP TABLE c.{name} PURGE")).await;
        // What no metadata refers to: a hint for others, metadata that fell out of the log, and
        // lists of commits that failed.
        let left: Vec<PathBuf> = files(&folder)
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                let is_list = name.starts_with("snap-");
                let is_other = name == "version-hint.text" || name.ends_with(".metadata.json");
                !is_other && (!is_list || lists.iter().any(|list| list.ends_with(&*name)))
            })
            .collect();
        assert!(left.is_empty(), "{table}: {left:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_purged_is_refused_before_anything_is_done() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(&cluster, "CREATE TABLE s.free AS SELECT 1 AS a").await;
    for value in ["false", "no"] {
        let create = format!(
            "CREATE TABLE s.kept TBLPROPERTIES ('gc.enabled' = '{value}') AS SELECT 1 AS a"
        );
        run(&cluster, &create).await;
        let before = files(lake.folder());
        fails(
            &cluster,
            "DROP TABLE s.kept PURGE",
            &["lake.s.kept", "must not be deleted", "gc.enabled is false"],
        )
        .await;
        assert_eq!(run(&cluster, "SELECT a FROM s.kept").await, ["1"]);
        assert_eq!(files(lake.folder()), before);
        // Without PURGE it may go.
        run(&cluster, "DROP TABLE s.kept").await;
    }
    for (sql, parts) in [
        (
            "DROP SCHEMA s PURGE",
            ["PURGE belongs to DROP TABLE", "schema"],
        ),
        (
            "DROP VIEW s.v PURGE",
            ["PURGE belongs to DROP TABLE", "view"],
        ),
        ("DROP TABLE none.s.t PURGE", ["none", "not found"]),
    ] {
        fails(&cluster, sql, &parts).await;
    }
    // Views and tables opened by their files are a session's own.
    let session = cluster.coordinator().session();
    let table = lake.table("s", "free").await.unwrap();
    let location = table.metadata_location().unwrap();
    for sql in [
        "CREATE VIEW s.v AS SELECT 1 AS a".to_owned(),
        format!("CREATE EXTERNAL TABLE opened STORED AS ICEBERG LOCATION '{location}'"),
    ] {
        session.execute(&sql).await.unwrap();
    }
    for (sql, part) in [
        ("DROP TABLE s.free, s.v PURGE", "s.v is a view"),
        ("DROP TABLE s.free, opened PURGE", "opened by its files"),
    ] {
        let error = session.execute(sql).await.err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(run(&cluster, "SELECT a FROM s.free").await, ["1"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_lakes_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("lake"), folder.path().join("other"));
    for folder in [&inside, &outside] {
        fs::create_dir_all(folder).unwrap();
    }
    let wide = Lake::new().await.unwrap();
    run_embedded(&wide, "CREATE SCHEMA s").await;
    for sql in [
        format!(
            "CREATE TABLE s.t LOCATION 'file://{}/t' AS SELECT CAST(1 AS bigint) AS a",
            inside.display()
        ),
        format!(
            "COPY (SELECT CAST(2 AS bigint) AS a) TO '{}/x.parquet'",
            outside.display()
        ),
        format!(
            "CALL system.add_files('s.t', '{}/x.parquet')",
            outside.display()
        ),
    ] {
        run_embedded(&wide, &sql).await;
    }
    let table = wide.table("s", "t").await.unwrap();
    // The data of the first row now lies behind a link that leads out.
    let data = folder_of(&table).join("data");
    fs::rename(&data, outside.join("data")).unwrap();
    std::os::unix::fs::symlink(outside.join("data"), &data).unwrap();
    let kept = files(&outside);
    assert_eq!(kept.len(), 2, "{kept:?}");

    let config = LakeConfig::new(format!("file://{}", inside.display()));
    let lake = Lake::over(&BTreeMap::from([("files".to_owned(), config)]))
        .await
        .unwrap();
    run_embedded(&lake, "CREATE SCHEMA s").await;
    let catalogs = lake.catalogs();
    let writer = catalogs.writer(catalogs.default_name().unwrap()).await;
    let ident = TableIdent::new(NamespaceIdent::new("s".to_owned()), "t".to_owned());
    let location = table.metadata_location().unwrap().to_owned();
    writer
        .unwrap()
        .register_table(&ident, location)
        .await
        .unwrap();
    run_embedded(&lake, "DROP TABLE s.t PURGE").await;
    assert_eq!(files(&outside), kept);
    assert_eq!(files(&inside), [data]);
}

async fn run_embedded(lake: &Lake, sql: &str) {
    lake.rows_embedded(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_meanwhile_lose_nothing_and_leave_nothing() {
    let lake = Lake::new().await.unwrap();
    let cluster = Arc::new(Cluster::start(&lake, 1).await.unwrap());
    run(&cluster, "CREATE SCHEMA s").await;
    run(&cluster, "CREATE TABLE s.t (a bigint)").await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let cluster = Arc::clone(&cluster);
        writers.spawn(async move {
            loop {
                let insert = cluster.rows("INSERT INTO s.t VALUES (1), (2)").await;
                if let Err(error) = insert {
                    let error = error.to_string();
                    if error.contains("not found") {
                        return;
                    }
                    // Its part of the table is as it should be.
                    assert!(error.contains("other writers"), "{error}");
                }
            }
        });
    }
    let mut purged = false;
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        // All rows are readable for as long as the table is there.
        let rows = run(&cluster, "SELECT count(*) % 2 FROM s.t").await;
        assert_eq!(rows, ["0"]);
        match cluster.rows("DROP TABLE s.t PURGE").await {
            Ok(_) => {
                purged = true;
                break;
            }
            Err(error) => assert!(error.to_string().contains("other writers"), "{error}"),
        }
    }
    assert!(purged);
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let left = files(&lake.folder().join("warehouse/s/t"));
    assert!(left.is_empty(), "{left:?}");
}
