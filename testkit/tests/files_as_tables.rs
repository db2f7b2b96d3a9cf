//! Files are read as tables in every topology, and only where they may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use inshore_lake::config::LakeConfig;
use inshore_testkit::{Cluster, Lake};

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let error = cluster.rows(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

/// A cluster whose one lake is the folder.
async fn over(root: &Path) -> (Lake, Cluster) {
    let config = LakeConfig::new(format!("file://{}", root.display()));
    let lakes = BTreeMap::from([("files".to_owned(), config)]);
    let lake = Lake::over(&lakes).await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    (lake, cluster)
}

async fn same(lake: &Lake, cluster: &Cluster, sql: &str, expected: &[&str]) {
    assert_eq!(lake.rows_embedded(sql).await.expect(sql), expected, "{sql}");
    assert_eq!(cluster.rows(sql).await.expect(sql), expected, "{sql}");
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(vec![], Default::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_tables() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let (lake, cluster) = over(folder.path()).await;
    for part in 0..4 {
        let sql = format!(
            "COPY (SELECT value AS id, 'n' || value AS name FROM generate_series({}, {})) \
             TO '{at}/p/part {part}%20.parquet' (row_group_size 100)",
            part * 1000,
            part * 1000 + 999
        );
        assert_eq!(cluster.rows(&sql).await.unwrap(), ["1000"]);
    }
    let rows: String = (0..5000)
        .map(|n| format!("{n};\"a\nb {n}\";{}.5\n", n % 7))
        .collect();
    fs::write(
        folder.path().join("x.csv"),
        format!("id;text;price\n{rows}"),
    )
    .unwrap();
    fs::write(
        folder.path().join("x.csv.gz"),
        gzip(&format!("id;text;price\n{rows}")),
    )
    .unwrap();
    fs::write(folder.path().join("bare.tsv"), "1\tx\n2\ty\n").unwrap();
    let lines: String = (0..3000)
        .map(|n| format!("{{\"a\": {n}, \"b\": {{\"c\": \"x\"}}}}\n"))
        .collect();
    fs::write(folder.path().join("x.ndjson"), &lines).unwrap();
    fs::write(
        folder.path().join("x.json"),
        format!("[\n{}]", lines.trim_end().replace('\n', ",\n")),
    )
    .unwrap();
    fs::write(folder.path().join("x.json.gz"), gzip(&lines)).unwrap();
    let sum = "4000|7998000|n0|n999";
    for from in [
        format!("'{at}/p'"),
        format!("'{at}/p/'"),
        format!("'{at}/p/*.parquet'"),
        format!("'file://{at}/p/part*'"),
        format!("'{at}/**/part*.parquet'"),
        format!("read_parquet('{at}/p/part ?%20.parquet')"),
        format!("read_parquet(['{at}/p/part [01]*', '{at}/p/part [23]*'])"),
    ] {
        let sql = format!("SELECT count(*), sum(id), min(name), max(name) FROM {from} t");
        same(&lake, &cluster, &sql, &[sum]).await;
    }
    let sql = format!("SELECT name FROM \"{at}/p/part 2%20.parquet\" WHERE id = 2345");
    same(&lake, &cluster, &sql, &["n2345"]).await;
    for from in [
        format!("read_csv('{at}/x.csv', delimiter => ';', header => true)"),
        format!("read_csv('{at}/x.csv.gz', sep = ';')"),
    ] {
        let sql = format!("SELECT count(*), sum(id), sum(price), max(length(text)) FROM {from}");
        same(&lake, &cluster, &sql, &["5000|12497500|17495.0|8"]).await;
    }
    let sql = format!("SELECT * FROM read_csv('{at}/bare.tsv', header => false)");
    same(&lake, &cluster, &sql, &["1|x", "2|y"]).await;
    for file in ["x.ndjson", "x.json", "x.json.gz"] {
        let sql = format!("SELECT count(*), sum(a), max(t.b['c']) FROM '{at}/{file}' t");
        same(&lake, &cluster, &sql, &["3000|4498500|x"]).await;
    }
    // A join of both kinds, with the files' columns under an alias.
    let sql = format!(
        "SELECT count(*) FROM '{at}/p' p JOIN '{at}/x.ndjson' j ON p.id = j.a WHERE p.name <> 'n5'"
    );
    same(&lake, &cluster, &sql, &["2999"]).await;
    let sql = format!("DESCRIBE '{at}/x.ndjson'");
    assert_eq!(cluster.rows(&sql).await.unwrap().len(), 2);
    let sql = format!("WITH c AS (SELECT * FROM '{at}/p') SELECT count(*) FROM c");
    same(&lake, &cluster, &sql, &["4000"]).await;
    // The scan runs on the workers.
    let sql = format!("EXPLAIN SELECT count(name) FROM '{at}/p' WHERE id > 5");
    let plan = cluster.rows(&sql).await.unwrap().join("\n");
    assert!(plan.contains("Stage"), "{plan}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_partitions_have_columns_that_prune() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let (lake, cluster) = over(folder.path()).await;
    let sql = format!(
        "COPY (SELECT value AS id, value % 3 AS part, DATE '2026-01-01' + CAST(value % 2 AS int) AS day, \
                CASE WHEN value % 5 = 0 THEN NULL ELSE 'a/b=' || (value % 5) END AS kind \
         FROM generate_series(1, 300)) TO '{at}/t' STORED AS parquet PARTITIONED BY (part, day, kind)"
    );
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["300"]);
    let sql = format!("SELECT count(*), sum(id), count(kind), max(kind), max(day) FROM '{at}/t'");
    same(&lake, &cluster, &sql, &["300|45150|240|a/b=4|2026-01-02"]).await;
    let sql = format!("SELECT count(*) FROM '{at}/t' WHERE part = 1 AND day = DATE '2026-01-02'");
    same(&lake, &cluster, &sql, &["50"]).await;
    let sql = format!("SELECT count(*) FROM '{at}/t' WHERE kind IS NULL AND part IN (0, 1)");
    same(&lake, &cluster, &sql, &["40"]).await;
    let sql = format!("SELECT count(*) FROM '{at}/t/part=1/*/*/*.parquet' WHERE id < 100");
    same(&lake, &cluster, &sql, &["33"]).await;
    // A file outside the wanted partitions is not opened.
    let broken = folder.path().join("t/part=7/day=2026-01-01/kind=x");
    fs::create_dir_all(&broken).unwrap();
    let whole = fs::read_dir(folder.path().join("t/part=1/day=2026-01-01/kind=a%2Fb%3D1"));
    let whole = whole.unwrap().next().unwrap().unwrap().path();
    fs::copy(whole, broken.join("x.parquet")).unwrap();
    let sql = format!("EXPLAIN SELECT * FROM '{at}/t' WHERE part > 6");
    let plan = cluster.rows(&sql).await.unwrap().join("\n");
    assert!(
        plan.contains("part=7") && !plan.contains("part=1"),
        "{plan}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_files_go_into_tables() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let at = lake.folder().display();
    fs::write(
        lake.folder().join("x.csv"),
        "id,name,day\n1,a,2026-01-01\n2,,2026-01-02\n",
    )
    .unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    let sql = format!("CREATE TABLE s.t AS SELECT * FROM '{at}/x.csv'");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["2"]);
    let sql = format!("INSERT INTO s.t SELECT id + 10, name, day FROM '{at}/*.csv'");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["2"]);
    let all = [
        "11|a|2026-01-01",
        "12|NULL|2026-01-02",
        "1|a|2026-01-01",
        "2|NULL|2026-01-02",
    ];
    assert_eq!(cluster.rows("SELECT * FROM s.t").await.unwrap(), all);
    let sql = format!("SELECT count(*) FROM s.t JOIN '{at}/x.csv' f ON t.id = f.id");
    assert_eq!(cluster.rows(&sql).await.unwrap(), ["2"]);
    fails(
        &cluster,
        &format!("INSERT INTO '{at}/x.csv' SELECT * FROM s.t"),
        &["no Iceberg table"],
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let (_lake, cluster) = over(folder.path()).await;
    fs::write(
        folder.path().join("broken.parquet"),
        "PAR1 is no parquet PAR1",
    )
    .unwrap();
    fs::write(folder.path().join("x.csv"), "a,b\n1,2\n").unwrap();
    fs::write(folder.path().join("x.json"), "{\"a\": 1}\n").unwrap();
    fs::write(folder.path().join("data"), "a,b\n1,2\n").unwrap();
    let cut = gzip("a,b\n1,2\n");
    fs::write(folder.path().join("cut.csv.gz"), &cut[..cut.len() - 6]).unwrap();
    for (from, parts) in [
        (
            format!("'{at}/none.parquet'"),
            ["no file found at", "none.parquet"],
        ),
        (format!("'{at}/*.orc'"), ["no file found at", "*.orc"]),
        (
            format!("'{at}/broken.parquet'"),
            ["broken.parquet", "corrupt"],
        ),
        (
            format!("'{at}/cut.csv.gz'"),
            ["cut.csv.gz", "cannot be unpacked"],
        ),
        (
            format!("'{at}/data'"),
            ["data cannot be told by its name", "read_csv('…')"],
        ),
        (format!("'{at}/x.*'"), ["different formats", "x.json"]),
        (
            format!("read_csv('{at}/x.csv', delim => ';;')"),
            ["delimiter", "one ASCII character"],
        ),
        (
            format!("read_csv('{at}/x.csv', quota => 'x')"),
            ["no option quota", "quote"],
        ),
        (
            "read_csv(header => true)".to_owned(),
            ["read_csv", "without a path"],
        ),
        (
            "\"x.parquet\"".to_owned(),
            ["x.parquet", "outside the configured lakes"],
        ),
        ("ordrs".to_owned(), ["not found", "lake.default"]),
    ] {
        fails(&cluster, &format!("SELECT * FROM {from}"), &parts).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_leads_out_of_a_lake() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("lake");
    let outside = folder.path().join("secret");
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("x.csv"), "a\n1\n").unwrap();
    fs::write(inside.join("ok.csv"), "a\n1\n").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("sub/link")).unwrap();
    std::os::unix::fs::symlink(outside.join("x.csv"), inside.join("link.csv")).unwrap();
    std::os::unix::fs::symlink(inside.join("ok.csv"), inside.join("sub/good.csv")).unwrap();
    let (lake, cluster) = over(&inside).await;
    let (at, top) = (inside.display(), folder.path().display());
    for path in [
        format!("{top}/secret/x.csv"),
        format!("file://{top}/secret/x.csv"),
        format!("{at}/../secret/x.csv"),
        format!("{at}/sub/../../secret/*.csv"),
        format!("{at}/*/../../secret/x.csv"),
        format!("{top}/*/x.csv"),
        format!("{top}/**"),
        format!("{at}2/x.csv"),
        "/etc/passwd".to_owned(),
        "ok.csv".to_owned(),
        "../secret/x.csv".to_owned(),
        "s3://elsewhere/x.csv".to_owned(),
        format!("{at}/link.csv"),
        format!("{at}/*.csv"),
        format!("{at}/sub/link/x.csv"),
        format!("{at}/sub/*/x.csv"),
        format!("{at}/**/x.csv"),
        format!("{at}/sub"),
    ] {
        for sql in [
            format!("SELECT * FROM '{path}'"),
            format!("SELECT * FROM read_csv('{path}')"),
        ] {
            fails(&cluster, &sql, &["outside the configured lakes"]).await;
            let error = lake.rows_embedded(&sql).await.expect_err(&sql).to_string();
            assert!(error.contains("outside"), "{sql}: {error}");
        }
    }
    let copy = |to: String| format!("COPY (SELECT 1 AS a) TO '{to}'");
    for path in [
        format!("{top}/secret/y.csv"),
        format!("{at}/../y.csv"),
        format!("{at}/sub/link/y.csv"),
        format!("{at}/sub/link/new/y.csv"),
    ] {
        fails(&cluster, &copy(path), &["outside the configured lakes"]).await;
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    same(
        &lake,
        &cluster,
        &format!("SELECT * FROM '{at}/ok.csv'"),
        &["1"],
    )
    .await;
    same(
        &lake,
        &cluster,
        &format!("SELECT * FROM '{at}/sub/good.csv'"),
        &["1"],
    )
    .await;
    cluster.stop().await;
}
