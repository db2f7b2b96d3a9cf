//! Defaults of columns in SQL, and as the metadata keeps them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use inshore_testkit::{Cluster, Lake};
use serde_json::{Value, json};

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

/// The rows, in a cluster and embedded.
async fn check(lake: &Lake, cluster: &Cluster, sql: &str, expected: &[&str]) {
    let rows = run(cluster, sql).await;
    assert_eq!(rows, expected, "{sql}");
    assert_eq!(lake.rows_embedded(sql).await.unwrap(), expected, "{sql}");
}

/// The fields of the current schema, from the metadata file.
async fn fields(lake: &Lake, table: &str) -> Vec<Value> {
    let table = lake.table("s", table).await.unwrap();
    let location = table.metadata_location().unwrap();
    let text = std::fs::read(location.trim_start_matches("file://")).unwrap();
    let metadata: Value = serde_json::from_slice(&text).unwrap();
    let current = &metadata["current-schema-id"];
    let schemas = metadata["schemas"].as_array().unwrap();
    let schema = schemas
        .iter()
        .find(|schema| &schema["schema-id"] == current);
    schema.unwrap()["fields"].as_array().unwrap().clone()
}

const V3: &str = "TBLPROPERTIES ('format-version' = '3')";

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_value_get_the_default() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    let create =
        format!("CREATE TABLE s.t (a int, b int DEFAULT 5, c varchar DEFAULT 'it''s') {V3}");
    run(&cluster, &create).await;
    for sql in [
        "INSERT INTO s.t (a) VALUES (1)",
        "INSERT INTO s.t VALUES (2, DEFAULT, NULL)",
        "INSERT INTO s.t (c, a) VALUES (default, 3), ('x', 4)",
        "INSERT INTO s.t (a, b) SELECT 5, NULL",
        "INSERT INTO s.t DEFAULT VALUES",
    ] {
        run(&cluster, sql).await;
    }
    let all = "SELECT a, b, c FROM s.t";
    let first = [
        "1|5|it's",
        "2|5|NULL",
        "3|5|it's",
        "4|5|x",
        "5|NULL|it's",
        "NULL|5|it's",
    ];
    check(&lake, &cluster, all, &first).await;

    // Rows from before a column have what it was added with; later ones what is set by then.
    run(
        &cluster,
        "ALTER TABLE s.t ADD COLUMN d int NOT NULL DEFAULT 3 + 4",
    )
    .await;
    run(&cluster, "INSERT INTO s.t (a) VALUES (6)").await;
    run(&cluster, "ALTER TABLE s.t ALTER COLUMN d SET DEFAULT 8").await;
    run(&cluster, "INSERT INTO s.t (a) VALUES (7)").await;
    run(&cluster, "ALTER TABLE s.t ALTER COLUMN b DROP DEFAULT").await;
    run(&cluster, "INSERT INTO s.t (a) VALUES (8)").await;
    let rows = [
        "1|5|7", "2|5|7", "3|5|7", "4|5|7", "5|NULL|7", "6|5|7", "7|5|8", "8|NULL|8", "NULL|5|7",
    ];
    check(&lake, &cluster, "SELECT a, b, d FROM s.t", &rows).await;
    check(
        &lake,
        &cluster,
        "SELECT a FROM s.t WHERE d = 8",
        &["7", "8"],
    )
    .await;
    let fields = fields(&lake, "t").await;
    let defaults = |at: usize| {
        let of = |key: &str| fields[at].get(key).cloned().unwrap_or(Value::Null);
        (of("initial-default"), of("write-default"))
    };
    assert_eq!(defaults(0), (Value::Null, Value::Null));
    assert_eq!(defaults(1), (json!(5), Value::Null));
    assert_eq!(defaults(2), (json!("it's"), json!("it's")));
    assert_eq!(defaults(3), (json!(7), json!(8)));
    assert_eq!(fields[3]["required"], json!(true));

    // A wider type keeps its defaults, and old snapshots their rows.
    run(
        &cluster,
        "ALTER TABLE s.t ALTER COLUMN d TYPE bigint, ALTER COLUMN d SET DEFAULT 5000000000",
    )
    .await;
    run(&cluster, "INSERT INTO s.t (a) VALUES (9)").await;
    let sql = "SELECT d, count(*) FROM s.t WHERE a > 5 GROUP BY d";
    check(&lake, &cluster, sql, &["5000000000|1", "7|1", "8|2"]).await;
    fails(
        &cluster,
        "INSERT INTO s.t (a, d) SELECT 1, CAST(NULL AS bigint)",
        &["column d", "NULL"],
    )
    .await;

    let described = run(&cluster, "DESCRIBE s.t").await;
    assert_eq!(
        described,
        [
            "a|integer|YES|NULL",
            "b|integer|YES|NULL",
            "c|varchar|YES|'it''s'",
            "d|bigint|NO|5000000000",
        ]
    );
    let shown = run(&cluster, "SHOW CREATE TABLE s.t").await.join("\n");
    for part in [
        "c varchar DEFAULT 'it''s'",
        "d bigint NOT NULL DEFAULT 5000000000",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let explained = run(
        &cluster,
        "EXPLAIN INSERT INTO s.t VALUES (1, DEFAULT, DEFAULT, DEFAULT)",
    )
    .await;
    assert!(!explained.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_simple_type_has_defaults() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    let columns = [
        ("boolean", "true", json!(true), "true"),
        ("int", "-5", json!(-5), "-5"),
        (
            "bigint",
            "abs(-5000000000)",
            json!(5_000_000_000_i64),
            "5000000000",
        ),
        ("real", "1.5", json!(1.5), "1.5"),
        ("double", "CAST('1e300' AS double)", json!(1e300), "1e300"),
        ("decimal(9, 2)", "14.2", json!("14.20"), "14.20"),
        (
            "date",
            "DATE '2017-11-16'",
            json!("2017-11-16"),
            "2017-11-16",
        ),
        (
            "time",
            "'22:31:08.5'",
            json!("22:31:08.500"),
            "22:31:08.500",
        ),
        (
            "timestamp",
            "TIMESTAMP '2017-11-16 22:31:08.123456'",
            json!("2017-11-16T22:31:08.123456"),
            "2017-11-16T22:31:08.123456",
        ),
        (
            "timestamp with time zone",
            "'2017-11-16T22:31:08+01:00'",
            json!("2017-11-16T21:31:08+00:00"),
            "2017-11-16T21:31:08Z",
        ),
        ("varchar", "'a' || 'b'", json!("ab"), "ab"),
        (
            "uuid",
            "'f79c3e09-677c-4bbd-a479-3f349cb785e7'",
            json!("f79c3e09-677c-4bbd-a479-3f349cb785e7"),
            "f79c3e09-677c-4bbd-a479-3f349cb785e7",
        ),
        ("fixed(4)", "X'000102ff'", json!("000102ff"), "000102ff"),
        ("varbinary", "X'000102ff'", json!("000102ff"), "000102ff"),
    ];
    run(&cluster, &format!("CREATE TABLE s.t (id int) {V3}")).await;
    run(&cluster, "INSERT INTO s.t VALUES (1)").await;
    for (at, (ty, default, ..)) in columns.iter().enumerate() {
        run(
            &cluster,
            &format!("ALTER TABLE s.t ADD COLUMN c{at} {ty} DEFAULT {default}"),
        )
        .await;
    }
    run(&cluster, "INSERT INTO s.t (id) VALUES (2)").await;
    let all: Vec<String> = (0..columns.len()).map(|_| "DEFAULT".to_owned()).collect();
    run(
        &cluster,
        &format!("INSERT INTO s.t VALUES (3, {})", all.join(", ")),
    )
    .await;
    let fields = fields(&lake, "t").await;
    for (at, (ty, _, kept, shown)) in columns.iter().enumerate() {
        let field = &fields[at + 1];
        assert_eq!(&field["initial-default"], kept, "{ty}");
        assert_eq!(&field["write-default"], kept, "{ty}");
        let rows: Vec<String> = (1..4).map(|id| format!("{id}|{shown}")).collect();
        let sql = format!("SELECT id, c{at} FROM s.t");
        assert_eq!(run(&cluster, &sql).await, rows, "{ty}");
        assert_eq!(lake.rows_embedded(&sql).await.unwrap(), rows, "{ty}");
    }
    // What SHOW CREATE TABLE says makes the same table.
    let shown = run(&cluster, "SHOW CREATE TABLE s.t").await.join("\n");
    let create = &shown[shown.find("CREATE TABLE").unwrap()..];
    run(&cluster, "DROP TABLE s.t").await;
    run(&cluster, create).await;
    let again = self::fields(&lake, "t").await;
    for (before, after) in fields.iter().zip(&again) {
        assert_eq!(before["write-default"], after["write-default"], "{create}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_default_is_refused_by_name() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    for (column, parts) in [
        ("a int DEFAULT 'x'", ["column a", "int"]),
        ("a int DEFAULT 5000000000", ["column a", "int"]),
        ("a int DEFAULT 1.5", ["column a", "it would become 1"]),
        ("a date DEFAULT 5", ["column a", "a number is no time"]),
        ("a ARRAY<int> DEFAULT 5", ["column a", "simple types"]),
        (
            "a timestamp DEFAULT now()",
            ["DEFAULT wants a constant", "now()"],
        ),
        (
            "a double DEFAULT random()",
            ["DEFAULT wants a constant", "random()"],
        ),
        (
            "a int, b int DEFAULT a",
            ["DEFAULT wants a constant", "column a"],
        ),
        (
            "a int DEFAULT (SELECT 1)",
            ["DEFAULT wants a constant", "a query"],
        ),
        (
            "a timestamp(9) DEFAULT '2020-01-01'",
            ["column a", "cannot keep it"],
        ),
    ] {
        fails(
            &cluster,
            &format!("CREATE TABLE s.t ({column}) {V3}"),
            &parts,
        )
        .await;
    }
    for version in ["1", "2"] {
        let properties = format!("TBLPROPERTIES ('format-version' = '{version}')");
        let create = format!("CREATE TABLE s.t (a int DEFAULT 5) {properties}");
        fails(&cluster, &create, &["column a", "'format-version' = '3'"]).await;
        // No default is none in any version.
        run(
            &cluster,
            &format!("CREATE TABLE s.t (a int DEFAULT NULL) {properties}"),
        )
        .await;
        run(&cluster, "INSERT INTO s.t VALUES (DEFAULT)").await;
        for change in ["ADD COLUMN b int DEFAULT 5", "ALTER COLUMN a SET DEFAULT 5"] {
            let alter = format!("ALTER TABLE s.t {change}");
            fails(
                &cluster,
                &alter,
                &["format version 3", "'format-version' = '3'"],
            )
            .await;
        }
        fails(
            &cluster,
            "ALTER TABLE s.t ADD COLUMN b int NOT NULL",
            &["column b", "DEFAULT"],
        )
        .await;
        // Raised in the same statement.
        let alter = "ALTER TABLE s.t SET TBLPROPERTIES ('format-version' = '3')";
        run(&cluster, alter).await;
        run(&cluster, "ALTER TABLE s.t ADD COLUMN b int DEFAULT 5").await;
        check(&lake, &cluster, "SELECT a, b FROM s.t", &["NULL|5"]).await;
        fails(
            &cluster,
            "ALTER TABLE s.t ALTER COLUMN b SET DEFAULT 'y'",
            &["column b"],
        )
        .await;
        fails(
            &cluster,
            "ALTER TABLE s.t ALTER COLUMN x SET DEFAULT 1",
            &["no column x"],
        )
        .await;
        run(&cluster, "DROP TABLE s.t").await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_table_keeps_what_old_rows_have() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(&cluster, "CREATE SCHEMA s").await;
    run(&cluster, &format!("CREATE TABLE s.t (a int) {V3}")).await;
    run(&cluster, "INSERT INTO s.t VALUES (1)").await;
    run(&cluster, "ALTER TABLE s.t ADD COLUMN b int DEFAULT 5").await;
    let replace =
        format!("CREATE OR REPLACE TABLE s.t (a int, b int DEFAULT 6, c int DEFAULT 7) {V3}");
    run(&cluster, &replace).await;
    run(&cluster, "INSERT INTO s.t (a) VALUES (2)").await;
    check(&lake, &cluster, "SELECT a, b, c FROM s.t", &["2|6|7"]).await;
    let fields = fields(&lake, "t").await;
    assert_eq!(fields[1]["initial-default"], json!(5));
    assert_eq!(fields[1]["write-default"], json!(6));
    assert_eq!(fields[2]["initial-default"], json!(7));
    cluster.stop().await;
}
