//! Columns change in SQL at any depth, and rows that are there are read right afterwards.
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

const TABLE: &str = "id int, place STRUCT<lat real, tags ARRAY<int>>, \
                     items ARRAY<STRUCT<x int, y int>>, m MAP(varchar, STRUCT<v int>)";

const CHANGES: [&str; 12] = [
    "ADD COLUMN place.lon double AFTER lat",
    "ADD COLUMN items.element.z varchar",
    "ADD COLUMN m.w int FIRST",
    "RENAME COLUMN place.lat TO latitude",
    "ALTER COLUMN place.latitude TYPE double",
    "ALTER COLUMN place.tags.element TYPE bigint",
    "DROP COLUMN items.element.y",
    "ALTER COLUMN place.lon COMMENT 'degrees', ALTER COLUMN place.lon FIRST",
    "ALTER COLUMN id AFTER place",
    "ADD COLUMNS (a int COMMENT 'x' AFTER id, b varchar, place.alt int AFTER place.lon)",
    "DROP COLUMNS b, place.alt, DROP COLUMN (IF_NOT_THERE)",
    "DROP COLUMNS IF EXISTS (b, nothing, place.alt)",
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_follow_their_fields() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for version in [1, 2, 3] {
        run(
            &cluster,
            &format!("CREATE TABLE s.t ({TABLE}) TBLPROPERTIES ('format-version' = {version})"),
        )
        .await;
        run(
            &cluster,
            "INSERT INTO s.t VALUES (1, named_struct('lat', 1.5, 'tags', make_array(1, NULL)), \
             make_array(named_struct('x', 1, 'y', 2)), map(make_array('k'), make_array(named_struct('v', 7)))), \
             (2, NULL, NULL, NULL)",
        )
        .await;
        for change in CHANGES {
            let sql = format!("ALTER TABLE s.t {change}");
            match change.contains("IF_NOT_THERE") {
                true => fails(&cluster, &sql, "there is no column if_not_there").await,
                false => assert!(run(&cluster, &sql).await.is_empty()),
            }
        }
        let shown = run(&cluster, "SHOW CREATE TABLE s.t").await.join("\n");
        let columns = "place STRUCT<lon double COMMENT 'degrees', latitude double, tags ARRAY<bigint>>,\n  id int,\n  \
                       a int COMMENT 'x',\n  items ARRAY<STRUCT<x int, z varchar>>,\n  \
                       m MAP(varchar, STRUCT<w int, v int>)\n)";
        assert!(shown.contains(columns), "{shown}");
        run(
            &cluster,
            "INSERT INTO s.t VALUES (named_struct('lon', 0.25, 'latitude', 3.5, 'tags', \
             make_array(5000000000)), 3, 30, make_array(named_struct('x', 4, 'z', 'zz')), \
             map(make_array('k'), make_array(named_struct('w', 8, 'v', 9))))",
        )
        .await;
        let fields = "SELECT id, a, place['lon'], place['latitude'], place['tags'][1], items[1]['x'], \
                      items[1]['z'], m['k']['v'], m['k']['w'] FROM s.t";
        let expected = [
            "1|NULL|NULL|1.5|1|1|NULL|7|NULL",
            "2|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
            "3|30|0.25|3.5|5000000000|4|zz|9|8",
        ];
        check(&lake, &cluster, fields, &expected).await;
        let filter = "SELECT id FROM s.t WHERE place['latitude'] > 2 OR place['lon'] IS NULL";
        check(&lake, &cluster, filter, &["1", "2", "3"]).await;
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_break_a_field_is_refused() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(
        &cluster,
        &format!("CREATE TABLE s.t ({TABLE}, only STRUCT<one int>)"),
    )
    .await;
    for (clause, part) in [
        (
            "ADD COLUMN place.lat int",
            "column place.lat exists already",
        ),
        ("ADD COLUMN id.x int", "has type int, which has no fields"),
        ("ADD COLUMN plac.x int", "did you mean place"),
        ("ADD COLUMN place.x int NOT NULL", "allow NULL"),
        ("ADD COLUMN m.key.x int", "key of a map"),
        ("DROP COLUMN place.lt", "did you mean place.lat"),
        ("DROP COLUMN items.element", "a part of a list or map"),
        ("DROP COLUMN only.one", "the only field of its struct"),
        ("RENAME COLUMN m.value TO v", "a part of a list or map"),
        (
            "RENAME COLUMN place.lat TO tags",
            "column place.tags exists already",
        ),
        ("ALTER COLUMN m.key TYPE int", "key of a map"),
        (
            "ALTER COLUMN place.tags.element TYPE varchar",
            "cannot get type string",
        ),
        ("ALTER COLUMN place TYPE int", "cannot get type int"),
        ("ALTER COLUMN place.lat AFTER id", "no column id"),
        (
            "ALTER COLUMN place.lat AFTER items.x",
            "the fields of place",
        ),
        ("ALTER COLUMN id AFTER id", "behind itself"),
        (
            "ALTER COLUMN place.lat SET DEFAULT 5",
            "after ALTER COLUMN and a name",
        ),
        ("SET IDENTIFIER FIELDS id", "it may be NULL"),
        (
            "SET IDENTIFIER FIELDS items.element.x",
            "cannot identify rows",
        ),
        ("DROP IDENTIFIER FIELDS id", "not one of those"),
        ("UNSET TBLPROPERTIES ('ownr')", "no property ownr"),
        (
            "UNSET TBLPROPERTIES ('format-version')",
            "every table has one",
        ),
        ("SET PROPERTIES partitioning = 'x'", "PARTITION FIELD"),
    ] {
        fails(&cluster, &format!("ALTER TABLE s.t {clause}"), part).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_and_identifiers_are_kept() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for sql in [
        "CREATE TABLE s.t (id int, k int, note varchar)",
        "ALTER TABLE s.t ALTER COLUMN id SET NOT NULL, ALTER COLUMN k SET NOT NULL",
        "ALTER TABLE s.t SET IDENTIFIER FIELDS id, k",
        "ALTER TABLE s.t DROP IDENTIFIER FIELDS k",
        "ALTER TABLE s.t ALTER COLUMN k DROP NOT NULL",
    ] {
        run(&cluster, sql).await;
    }
    let schema = lake.table("s", "t").await.unwrap();
    let schema = schema.metadata().current_schema();
    assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [1]);
    for (clause, part) in [
        ("DROP COLUMN id", "identifies rows"),
        ("ALTER COLUMN id DROP NOT NULL", "identifies rows"),
    ] {
        fails(&cluster, &format!("ALTER TABLE s.t {clause}"), part).await;
    }
    let null = cluster.rows("INSERT INTO s.t VALUES (NULL, 1, 'x')").await;
    assert!(null.is_err());
    run(&cluster, "INSERT INTO s.t VALUES (1, NULL, 'x')").await;
    let late = "ALTER TABLE s.t ALTER COLUMN note SET NOT NULL";
    fails(&cluster, late, "rows that the table has").await;
    // What is required already may be said again.
    run(&cluster, "ALTER TABLE s.t ALTER COLUMN id SET NOT NULL").await;

    for sql in [
        "ALTER TABLE s.t SET TBLPROPERTIES ('a.b' = 'x', 'owner' = 'me', 'c' = 'y')",
        "ALTER TABLE s.t UNSET TBLPROPERTIES ('a.b')",
        "ALTER TABLE s.t UNSET TBLPROPERTIES IF EXISTS (a.b, 'nothing')",
        "ALTER TABLE s.t SET PROPERTIES format_version = 3, \"c\" = DEFAULT, owner = 'you'",
    ] {
        run(&cluster, sql).await;
    }
    let table = lake.table("s", "t").await.unwrap();
    let own = table.metadata().properties();
    let (owner, gone) = (own.get("owner").map(String::as_str), ["a.b", "c"]);
    assert_eq!(owner, Some("you"));
    assert!(gone.iter().all(|key| !own.contains_key(*key)), "{own:?}");
    let shown = run(&cluster, "SHOW CREATE TABLE s.t").await.join("\n");
    assert!(shown.contains("'format-version' = '3'"), "{shown}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_field_ids_follow_at_any_depth() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let file = lake.folder().join("in.parquet");
    let file = file.to_string_lossy();
    run(&cluster, "CREATE SCHEMA s").await;
    for sql in [
        &format!("CREATE TABLE s.t ({TABLE})"),
        &format!(
            "COPY (SELECT CAST(1 AS int) AS id, named_struct('lat', CAST(1.5 AS real), 'tags', \
             make_array(CAST(7 AS int))) AS place, make_array(named_struct('x', CAST(4 AS int), 'y', \
             CAST(5 AS int))) AS items) TO '{file}'"
        ),
        &format!("CALL system.add_files('s.t', '{file}')"),
        "ALTER TABLE s.t RENAME COLUMN place.lat TO latitude, ADD COLUMN place.lat varchar",
        "ALTER TABLE s.t DROP COLUMN items.element.y",
        "ALTER TABLE s.t ADD COLUMN items.element.y varchar, RENAME COLUMN id TO key",
        "ALTER TABLE s.t ADD COLUMN id varchar, ALTER COLUMN place.tags.element TYPE bigint",
        "INSERT INTO s.t (key, id) VALUES (2, 'two')",
    ] {
        run(&cluster, sql).await;
    }
    // Columns that took old names are new ones.
    let fields = "SELECT key, id, place['latitude'], place['lat'], place['tags'][1], items[1]['x'], \
                  items[1]['y'] FROM s.t";
    let expected = ["1|NULL|1.5|NULL|7|4|NULL", "2|two|NULL|NULL|NULL|NULL|NULL"];
    check(&lake, &cluster, fields, &expected).await;
    cluster.stop().await;
}
