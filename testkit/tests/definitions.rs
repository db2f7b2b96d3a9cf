//! Schemas and tables are made, shown, renamed and dropped in SQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use inshore_testkit::{Cluster, Lake};

/// A table with every type and every transform.
const EVERYTHING: &str = "CREATE TABLE s.everything (
  id bigint NOT NULL COMMENT 'the ''key''',
  \"Two words\" varchar(20),
  flag boolean,
  small smallint,
  single real,
  big double,
  price decimal(15, 2),
  day date,
  at_time time,
  ts timestamp,
  tz timestamp with time zone,
  code uuid,
  mark fixed(4),
  body varbinary,
  place STRUCT<lat double, names ARRAY<varchar>>,
  tags ARRAY<bigint>,
  counts MAP(varchar, int)
)
PARTITIONED BY (day(ts), bucket(16, id), truncate(4, \"Two words\"), month(day), hour(tz), small)
TBLPROPERTIES ('comment' = 'all of it', 'write.format.default' = 'parquet')";

async fn fails(cluster: &Cluster, sql: &str, parts: &[&str]) {
    let found = cluster.rows(sql).await;
    let error = found.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_come_and_go() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    fails(&cluster, "CREATE SCHEMA s", &["lake.s exists already"]).await;
    cluster.rows("create schema if not exists S").await.unwrap();
    cluster.rows("CREATE SCHEMA lake.\"S\"").await.unwrap();
    cluster.rows("CREATE SCHEMA s.inner").await.unwrap();
    let schemas = cluster.rows("SHOW SCHEMAS FROM lake").await.unwrap();
    for schema in ["s", "S", "s.inner"] {
        assert!(schemas.iter().any(|s| s == schema), "{schemas:?}");
    }
    fails(&cluster, "DROP SCHEMA s", &["not empty"]).await;
    cluster.rows("DROP SCHEMA s.inner").await.unwrap();
    cluster.rows("CREATE TABLE s.t (a int)").await.unwrap();
    fails(&cluster, "DROP SCHEMA s", &["not empty"]).await;
    fails(&cluster, "DROP SCHEMA s CASCADE", &["not supported yet"]).await;
    cluster.rows("DROP TABLE s.t").await.unwrap();
    cluster.rows("DROP SCHEMA s").await.unwrap();
    fails(&cluster, "DROP SCHEMA s", &["lake.s not found"]).await;
    cluster.rows("DROP SCHEMA IF EXISTS s").await.unwrap();
    fails(&cluster, "CREATE TABLE s.t (a int)", &["lake.s not found"]).await;
    fails(
        &cluster,
        "CREATE SCHEMA \"a..b\"",
        &["a level of it is empty"],
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_as_it_is_shown() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    for version in ["1", "2", "3"] {
        let property = format!("TBLPROPERTIES ('format-version' = {version}, ");
        let create = EVERYTHING.replace("TBLPROPERTIES (", &property);
        cluster.rows(&create).await.unwrap();
        let shown = cluster
            .rows("SHOW CREATE TABLE s.everything")
            .await
            .unwrap();
        let (_, statement) = shown[0].split_once("CREATE TABLE").unwrap();
        let statement = format!("CREATE TABLE{statement}");
        for part in [
            "id bigint NOT NULL COMMENT 'the ''key'''",
            "\"Two words\" varchar",
            "PARTITIONED BY (day(ts), bucket(16, id), truncate(4, \"Two words\"), month(day), hour(tz), small)",
            &format!("'format-version' = '{version}'"),
        ] {
            assert!(statement.contains(part), "{part} is missing in {statement}");
        }
        fails(&cluster, &create, &["lake.s.everything exists already"]).await;
        cluster
            .rows("ALTER TABLE s.everything RENAME TO old")
            .await
            .unwrap();
        // What is shown makes the same table again, elsewhere.
        let elsewhere = statement.replace("/everything'", "/again'");
        cluster.rows(&elsewhere).await.unwrap();
        let again = cluster
            .rows("SHOW CREATE TABLE s.everything")
            .await
            .unwrap();
        let again = again[0].split_once("CREATE TABLE").unwrap().1;
        assert_eq!(format!("CREATE TABLE{again}"), elsewhere);
        for table in ["everything", "old"] {
            let count = format!("SELECT count(*), max(price) FROM s.{table}");
            assert_eq!(cluster.rows(&count).await.unwrap(), ["0|NULL"]);
            assert_eq!(lake.rows_embedded(&count).await.unwrap(), ["0|NULL"]);
            let rows = format!("SELECT * FROM s.{table} WHERE id > 3");
            assert!(cluster.rows(&rows).await.unwrap().is_empty());
            cluster
                .rows(&format!("DROP TABLE s.{table}"))
                .await
                .unwrap();
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_renamed_and_dropped() {
    let lake = Lake::new().await.unwrap();
    lake.create_table("s", "full", "SELECT 1 AS a", 1)
        .await
        .unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA other").await.unwrap();
    cluster
        .rows("CREATE TABLE IF NOT EXISTS s.full (b int)")
        .await
        .unwrap();
    cluster
        .rows("ALTER TABLE s.full RENAME TO other.moved")
        .await
        .unwrap();
    assert_eq!(
        cluster.rows("SELECT a FROM other.moved").await.unwrap(),
        ["1"]
    );
    fails(&cluster, "SELECT a FROM s.full", &["not found"]).await;
    cluster.rows("CREATE TABLE s.t (a int)").await.unwrap();
    fails(
        &cluster,
        "ALTER TABLE s.t RENAME TO other.moved",
        &["exists already"],
    )
    .await;
    fails(
        &cluster,
        "ALTER TABLE s.x RENAME TO y",
        &["not found", "lake.s.x"],
    )
    .await;
    cluster
        .rows("ALTER TABLE IF EXISTS s.x RENAME TO y")
        .await
        .unwrap();
    fails(
        &cluster,
        "ALTER TABLE s.t RENAME TO nowhere.t",
        &["lake.nowhere not found"],
    )
    .await;
    fails(&cluster, "DROP TABLE other.move", &["did you mean moved"]).await;
    cluster
        .rows("DROP TABLE IF EXISTS other.move")
        .await
        .unwrap();
    cluster.rows("DROP TABLE other.moved, s.t").await.unwrap();
    assert_eq!(
        cluster
            .rows("SELECT count(*) FROM information_schema.tables WHERE table_schema IN ('s', 'other')")
            .await
            .unwrap(),
        ["0"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_table_cannot_be_is_refused_before_anything_is_made() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster.rows("CREATE SCHEMA s").await.unwrap();
    for (sql, parts) in [
        ("CREATE TABLE s.t (a char(3))", &["CHAR(3)"][..]),
        ("CREATE TABLE s.t (a json)", &["JSON"]),
        ("CREATE TABLE s.t (a decimal(40, 2))", &["1 to 38 digits"]),
        ("CREATE TABLE s.t (a int, A int)", &["a"]),
        ("CREATE TABLE s.t ()", &["column"]),
        (
            "CREATE TABLE s.t (a int PRIMARY KEY)",
            &["PRIMARY KEY", "not supported"],
        ),
        (
            "CREATE TABLE s.t (a int) PARTITIONED BY (b)",
            &["no column b"],
        ),
        (
            "CREATE TABLE s.t (a int) PARTITIONED BY (day(a))",
            &["day does not apply to int"],
        ),
        (
            "CREATE TABLE s.t (a int) PARTITIONED BY (bucket(0, a))",
            &["bucket(16, column)"],
        ),
        (
            "CREATE TABLE s.t (a int) PARTITIONED BY (a, a)",
            &["PARTITIONED BY a"],
        ),
        (
            "CREATE TABLE s.t (a int) PARTITIONED BY (a int)",
            &["at line 1"],
        ),
        (
            "CREATE TABLE s.t (a int) TBLPROPERTIES ('format-version' = 4)",
            &["1, 2 or 3"],
        ),
        (
            "CREATE TABLE s.t (a timestamp(9))",
            &["'format-version' = '3'"],
        ),
        (
            "CREATE TABLE s.t (a int) LOCATION 's3://elsewhere/t'",
            &["outside the configured lakes"],
        ),
        ("SELECT 1 PARTITIONED BY (a)", &["at line 1"]),
    ] {
        fails(&cluster, sql, parts).await;
    }
    assert!(
        cluster
            .rows("SHOW TABLES FROM s")
            .await
            .map_or(true, |rows| rows.is_empty())
    );
    let made: Vec<_> = std::fs::read_dir(lake.folder().join("warehouse"))
        .unwrap()
        .collect();
    assert!(made.is_empty(), "{made:?}");
    cluster.stop().await;
}
