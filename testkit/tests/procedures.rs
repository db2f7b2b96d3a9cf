//! `CALL`: files are taken over into tables, and those that nothing refers to are removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use inshore_lake::config::LakeConfig;
use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, found),
            false => found.push(path),
        }
    }
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    collect(folder, &mut found);
    found.sort();
    found
}

/// A file of some days ago.
fn old(path: &Path, days: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if !path.exists() {
        fs::write(path, "x").unwrap();
    }
    let at = SystemTime::now() - Duration::from_secs(days * 86_400);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_that_nothing_refers_to_are_removed() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let create = "CREATE TABLE s.t PARTITIONED BY (bucket(4, a)) AS SELECT value AS a FROM generate_series(1, 100)";
    cluster.rows(create).await.unwrap();
    for value in 0..3 {
        let insert = format!("INSERT INTO s.t VALUES ({value})");
        cluster.rows(&insert).await.unwrap();
    }
    let table = lake.table("s", "t").await.unwrap();
    let folder = PathBuf::from(table.metadata().location().trim_start_matches("file://"));
    for file in files(&folder) {
        old(&file, 30);
    }
    let kept = files(&folder);
    let orphans = [
        "data/left.parquet",
        "data/a=1/b%2F c.parquet",
        // What a killed writer leaves on a local file system.
        "data/a=1/unfinished.parquet#1",
        "metadata/00009-left.metadata.json#12",
        "metadata/left-m0.avro",
        "metadata/00009-left.metadata.json",
        "other/x",
    ];
    for orphan in orphans {
        old(&folder.join(orphan), 4);
    }
    let young = ["data/young.parquet", "data/young.parquet#1"];
    for file in young {
        old(&folder.join(file), 2);
    }
    let mut expected: Vec<String> = orphans
        .iter()
        .map(|orphan| format!("{}/{orphan}", table.metadata().location()))
        .collect();
    expected.sort();
    let dry = "CALL system.remove_orphan_files(table => 's.t', dry_run => true)";
    assert_eq!(cluster.rows(dry).await.unwrap(), expected);
    assert_eq!(lake.rows_embedded(dry).await.unwrap(), expected);
    let all = files(&folder).len();
    assert_eq!(all, kept.len() + orphans.len() + young.len());
    let call = "CALL lake.system.remove_orphan_files('s.t', now() - INTERVAL '5 days')";
    assert!(cluster.rows(call).await.unwrap().is_empty());
    let call = "CALL lake.system.remove_orphan_files('s.t')";
    assert_eq!(cluster.rows(call).await.unwrap(), expected);
    assert_eq!(files(&folder).len(), kept.len() + young.len());
    for older in [
        "now()",
        "TIMESTAMP '2999-01-01 00:00:00'",
        "now() - INTERVAL '23 hours'",
    ] {
        let call = format!("CALL system.remove_orphan_files('s.t', older_than => {older})");
        fails(&cluster, &call, &["last 24 hours", "allow_recent"]).await;
    }
    let call = "CALL system.remove_orphan_files('s.t', older_than => now(), allow_recent => true)";
    assert_eq!(cluster.rows(call).await.unwrap().len(), young.len());
    assert_eq!(files(&folder), kept);
    let count = cluster.rows("SELECT count(*) FROM s.t").await.unwrap();
    assert_eq!(count, ["103"]);
    let first = table.metadata().history().first().unwrap().snapshot_id;
    let sql = format!("SELECT count(*) FROM s.t VERSION AS OF {first}");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["100"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_not_looked_for_where_other_files_may_be() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let at = lake.folder().display();
    for sql in [
        format!("CREATE TABLE s.outer LOCATION 'file://{at}/o' AS SELECT 1 AS a"),
        format!("CREATE TABLE s.inner LOCATION 'file://{at}/o/deep/i' AS SELECT 1 AS a"),
        "CREATE TABLE s.kept TBLPROPERTIES ('gc.enabled' = 'false') AS SELECT 1 AS a".to_owned(),
    ] {
        cluster.rows(&sql).await.unwrap();
    }
    let call = "CALL system.remove_orphan_files";
    fails(
        &cluster,
        &format!("{call}('s.outer')"),
        &["lake.s.inner", "inside", "o/deep/i"],
    )
    .await;
    assert!(
        cluster
            .rows(&format!("{call}('s.inner')"))
            .await
            .unwrap()
            .is_empty()
    );
    fails(&cluster, &format!("{call}('s.kept')"), &["gc.enabled"]).await;
    cluster.rows("DROP TABLE s.inner").await.unwrap();
    fails(
        &cluster,
        &format!("{call}('s.outer')"),
        &["another table", "deep/i/metadata"],
    )
    .await;
    for (arguments, parts) in [
        (
            "",
            [
                "table must be given",
                "remove_orphan_files(table [, older_than]",
            ],
        ),
        ("'s.none'", ["s.none not found", "table"]),
        (
            "'s.outer', tabel => 1",
            ["tabel => 1 is not known", "dry_run"],
        ),
        (
            "'s.outer', dry_run => 'maybe'",
            ["dry_run must be true or false", "allow_recent"],
        ),
        (
            "'s.outer', older_than => a",
            ["older_than wants a constant time", "column a"],
        ),
        ("'s.outer', table => 's.outer'", ["given twice", "table"]),
        (
            "'s..outer'",
            ["table must be the name of a table", "'schema.table'"],
        ),
    ] {
        fails(&cluster, &format!("{call}({arguments})"), &parts).await;
    }
    fails(
        &cluster,
        "CALL system.nothing()",
        &["system.nothing not found", "add_files(table"],
    )
    .await;
    fails(
        &cluster,
        "CALL none.system.add_files('s.outer', 'x')",
        &["catalog none"],
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_become_part_of_a_table() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let at = lake.folder().join("in");
    let at = at.display();
    let rows = "SELECT value AS id, 'name ' || value AS name, CAST(value AS double) / 3 AS x, \
                CAST(value - 500 AS decimal(20, 3)) AS price, DATE '2026-01-01' + CAST(value % 3 AS int) AS day, \
                CAST(to_timestamp_seconds(value * 60 - 86400) AS timestamp) AS at, \
                CASE WHEN value % 2 = 0 THEN named_struct('a', value, 'b', make_array(value, NULL)) END AS deep \
                FROM generate_series";
    for part in 0..3 {
        let copy = format!(
            "COPY ({rows}({0}, {0} + 999)) TO '{at}/{part}.parquet' (row_group_size 300)",
            part * 1000
        );
        cluster.rows(&copy).await.unwrap();
    }
    cluster.rows("CREATE TABLE s.t (id bigint, name varchar, x double, price decimal(20, 3), day date, at timestamp, deep STRUCT<a bigint, b ARRAY<bigint>>)").await.unwrap();
    let call = format!("CALL system.add_files('s.t', '{at}/[01].parquet')");
    assert_eq!(cluster.rows(&call).await.unwrap(), ["2|2000"]);
    let call = format!(
        "CALL lake.system.add_files(table => 's.t', source_table => '`parquet`.`file://{at}/2.parquet`')"
    );
    assert_eq!(cluster.rows(&call).await.unwrap(), ["1|1000"]);
    let all = format!("SELECT * FROM '{at}/*.parquet'");
    let all = cluster.rows(&all).await.unwrap();
    assert_eq!(cluster.rows("SELECT * FROM s.t").await.unwrap(), all);
    assert_eq!(lake.rows_embedded("SELECT * FROM s.t").await.unwrap(), all);
    // What pruning believes.
    for (condition, count) in [
        ("id = 1500", 1),
        ("name = 'name 77'", 1),
        ("price < -499", 1),
        ("at < TIMESTAMP '1970-01-01'", 1440),
        ("day = DATE '2026-01-01'", 1000),
        ("x > 999", 2),
        ("deep IS NULL", 1500),
        ("deep['a'] = 2500", 1),
        ("id IS NULL", 0),
    ] {
        let sql = format!("SELECT count(*) FROM s.t WHERE {condition}");
        assert_eq!(
            cluster.rows(&sql).await.unwrap(),
            [count.to_string()],
            "{sql}"
        );
    }
    let sql =
        "SELECT count(*), sum(record_count), min(file_path) LIKE 'file:///%' FROM s.\"t$files\"";
    assert_eq!(cluster.rows(sql).await.unwrap(), ["3|3000|true"]);
    let table = lake.table("s", "t").await.unwrap();
    let mapping = &table.metadata().properties()["schema.name-mapping.default"];
    assert!(mapping.contains(r#""names":["deep"]"#), "{mapping}");
    // Later writes and columns go well with them.
    cluster
        .rows("INSERT INTO s.t (id) VALUES (-1)")
        .await
        .unwrap();
    cluster
        .rows("ALTER TABLE s.t RENAME COLUMN name TO label")
        .await
        .unwrap();
    let sql = "SELECT count(label), count(*) FROM s.t";
    assert_eq!(cluster.rows(sql).await.unwrap(), ["3000|3001"]);
    let again = format!("CALL system.add_files('s.t', '{at}/*.parquet')");
    fails(
        &cluster,
        &again,
        &["belongs to table lake.s.t already", "/in/"],
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_follow_from_bounds_and_folders() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let at = lake.folder().join("in");
    let at = at.display();
    let rows = |from: i64, n: i32, kind: &str| {
        format!(
            "SELECT CAST(to_timestamp_seconds({from} + value * 3600) AS timestamp) AS at, {n} AS n, {kind} AS kind, value AS v FROM generate_series(0, 20)"
        )
    };
    for (file, query) in [
        ("a", rows(1_767_225_600, 5, "'x'")),
        ("b", rows(-172_800, 6, "CAST(NULL AS varchar)")),
        ("two_days", rows(1_767_225_600 + 43_200, 5, "'x'")),
        (
            "two_kinds",
            rows(
                1_767_225_600,
                5,
                "CASE WHEN value > 3 THEN 'x' ELSE 'y' END",
            ),
        ),
        (
            "half_null",
            rows(1_767_225_600, 5, "CASE WHEN value > 3 THEN 'x' END"),
        ),
    ] {
        cluster
            .rows(&format!("COPY ({query}) TO '{at}/{file}.parquet'"))
            .await
            .unwrap();
    }
    let create = "CREATE TABLE s.t (at timestamp, n bigint, kind varchar, v bigint) PARTITIONED BY (day(at), bucket(8, n), kind, truncate(2, kind))";
    // Two fields of one column need names of their own.
    let create = create.replace(", truncate(2, kind)", "");
    cluster.rows(&create).await.unwrap();
    let call = |file: &str| format!("CALL system.add_files('s.t', '{at}/{file}.parquet')");
    assert_eq!(cluster.rows(&call("[ab]")).await.unwrap(), ["2|42"]);
    for (condition, count) in [
        ("at < TIMESTAMP '1970-01-01'", 21),
        ("n = 5", 21),
        ("kind IS NULL", 21),
        ("kind = 'x' AND at = TIMESTAMP '2026-01-01 03:00:00'", 1),
    ] {
        let sql = format!("SELECT count(*) FROM s.t WHERE {condition}");
        assert_eq!(
            cluster.rows(&sql).await.unwrap(),
            [count.to_string()],
            "{sql}"
        );
    }
    for (file, field) in [
        ("two_days", "at_day"),
        ("two_kinds", "kind"),
        ("half_null", "kind"),
    ] {
        fails(
            &cluster,
            &call(file),
            &[file, "several partitions by", field],
        )
        .await;
    }
    // Written by an INSERT and taken over: the same partitions.
    let insert = format!("INSERT INTO s.t SELECT * FROM '{at}/[ab].parquet'");
    cluster.rows(&insert).await.unwrap();
    let sql = "SELECT count(*), sum(file_count) FROM s.\"t$partitions\"";
    assert_eq!(cluster.rows(sql).await.unwrap(), ["2|4"]);
    // Columns that stand in the names of folders.
    let copy = format!(
        "COPY (SELECT value AS v, value % 3 AS n FROM generate_series(1, 30)) TO '{at}/h' (FORMAT parquet, PARTITION_BY n)"
    );
    cluster.rows(&copy).await.unwrap();
    cluster
        .rows("CREATE TABLE s.h (n bigint, v bigint) PARTITIONED BY (n)")
        .await
        .unwrap();
    let call = format!("CALL system.add_files('s.h', '{at}/h')");
    assert_eq!(cluster.rows(&call).await.unwrap(), ["3|30"]);
    let sql = "SELECT n, count(*), sum(v) FROM s.h GROUP BY n";
    assert_eq!(
        cluster.rows(sql).await.unwrap(),
        ["0|10|165", "1|10|145", "2|10|155"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_refused() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let at = lake.folder().join("in");
    let at = at.display();
    for (file, query) in [
        ("more", "SELECT CAST(1 AS bigint) AS a, 'x' AS b, 1 AS c"),
        ("other", "SELECT 'x' AS a, 'x' AS b"),
        ("less", "SELECT 'x' AS b"),
        ("narrow", "SELECT CAST(1 AS int) AS a"),
    ] {
        cluster
            .rows(&format!("COPY ({query}) TO '{at}/{file}.parquet'"))
            .await
            .unwrap();
    }
    fs::write(
        lake.folder().join("in/broken.parquet"),
        "PAR1 is no parquet PAR1",
    )
    .unwrap();
    cluster
        .rows("CREATE TABLE s.t (a bigint NOT NULL, b varchar)")
        .await
        .unwrap();
    cluster
        .rows("CREATE TABLE s.u AS SELECT 'x' AS b, CAST(1 AS bigint) AS a")
        .await
        .unwrap();
    let other = lake
        .table("s", "u")
        .await
        .unwrap()
        .metadata()
        .location()
        .to_owned();
    for (path, parts) in [
        (
            format!("{at}/more.parquet"),
            ["more.parquet", "a column c, which table lake.s.t has not"],
        ),
        (
            format!("{at}/other.parquet"),
            ["other.parquet", "column a is"],
        ),
        (
            format!("{at}/less.parquet"),
            ["less.parquet", "required column a"],
        ),
        (
            format!("{at}/broken.parquet"),
            ["broken.parquet", "corrupt"],
        ),
        (format!("{at}/none*.parquet"), ["no file found", "none"]),
        (
            format!("{other}/data"),
            ["field id", "written for this table"],
        ),
    ] {
        fails(
            &cluster,
            &format!("CALL system.add_files('s.t', '{path}')"),
            &parts,
        )
        .await;
    }
    fails(
        &cluster,
        "CALL system.add_files('s.t', 'ftp://x/y')",
        &["outside the configured lakes"],
    )
    .await;
    assert_eq!(
        cluster.rows("SELECT count(*) FROM s.t").await.unwrap(),
        ["0"]
    );
    // A narrower type is a promotion.
    let call = format!("CALL system.add_files('s.t', '{at}/narrow.parquet')");
    assert_eq!(cluster.rows(&call).await.unwrap(), ["1|1"]);
    assert_eq!(
        cluster.rows("SELECT * FROM s.t WHERE a = 1").await.unwrap(),
        ["1|NULL"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outside_the_lakes_stay_outside() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("lake");
    fs::create_dir_all(&inside).unwrap();
    let config = LakeConfig::new(format!("file://{}", inside.display()));
    let lakes = BTreeMap::from([("files".to_owned(), config)]);
    let lake = Lake::over(&lakes).await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let own = inside.display();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    cluster
        .rows(&format!(
            "CREATE TABLE s.t (a bigint) LOCATION 'file://{own}/t'"
        ))
        .await
        .unwrap();
    cluster
        .rows(&format!(
            "COPY (SELECT CAST(1 AS bigint) AS a) TO '{own}/x.parquet'"
        ))
        .await
        .unwrap();
    let outside = folder.path().join("x.parquet");
    fs::copy(inside.join("x.parquet"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link.parquet")).unwrap();
    for path in [
        format!("{}", outside.display()),
        format!("{own}/../x.parquet"),
        format!("{own}/link.parquet"),
        format!("{own}/*.parquet"),
    ] {
        let call = format!("CALL system.add_files('s.t', '{path}')");
        fails(&cluster, &call, &["outside the configured lakes"]).await;
    }
    let call = format!("CALL system.add_files('s.t', '{own}/x.parquet')");
    assert_eq!(cluster.rows(&call).await.unwrap(), ["1|1"]);
    cluster.stop().await;
}
