//! What `SHOW CREATE TABLE` prints makes an equal table: sort orders, partitions and types.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use iceberg::spec::{NullOrder, SortDirection, Transform};
use iceberg::table::Table;
use inshore_testkit::Lake;
use serde_json::{Value, json};

const COLUMNS: &str = "id bigint NOT NULL, name varchar, \"Odd Name\" varchar, price decimal(9, 2), \
     dt date, ts timestamp, tz timestamp with time zone, body varbinary, \
     s STRUCT<a: int, \"B c\": timestamp_ntz>";

/// Fields of partitions and orders, and their transforms.
const FIELDS: [(&str, Transform); 14] = [
    ("id", Transform::Identity),
    ("\"Odd Name\"", Transform::Identity),
    ("ts", Transform::Identity),
    ("s.a", Transform::Identity),
    ("bucket(16, id)", Transform::Bucket(16)),
    ("bucket(3, \"Odd Name\")", Transform::Bucket(3)),
    ("truncate(4, name)", Transform::Truncate(4)),
    ("truncate(10, price)", Transform::Truncate(10)),
    ("year(dt)", Transform::Year),
    ("month(tz)", Transform::Month),
    ("day(ts)", Transform::Day),
    ("hour(tz)", Transform::Hour),
    ("day(s.\"B c\")", Transform::Day),
    ("truncate(2, body)", Transform::Truncate(2)),
];

async fn run(lake: &Lake, sql: &str) -> Vec<String> {
    lake.rows_embedded(sql).await.expect(sql)
}

async fn fails(lake: &Lake, sql: &str, parts: &[&str]) {
    let error = lake.rows_embedded(sql).await.expect_err(sql).to_string();
    for part in parts {
        assert!(error.contains(part), "{sql}: {part} is missing in {error}");
    }
}

async fn shown(lake: &Lake, table: &str) -> String {
    let shown = run(lake, &format!("SHOW CREATE TABLE {table}")).await;
    let (_, statement) = shown[0].split_once("CREATE TABLE").unwrap();
    format!("CREATE TABLE{statement}")
}

/// Makes the table of `create` and once more what is shown of it.
async fn twice(lake: &Lake, create: &str) -> Table {
    run(lake, create).await;
    let first = lake.table("s", "t").await.unwrap();
    let statement = shown(lake, "s.t").await;
    run(lake, "DROP TABLE s.t").await;
    run(lake, &statement).await;
    assert_eq!(shown(lake, "s.t").await, statement);
    let second = lake.table("s", "t").await.unwrap();
    run(lake, "DROP TABLE s.t").await;
    let (a, b) = (first.metadata(), second.metadata());
    assert_ne!(a.uuid(), b.uuid());
    assert_eq!(
        a.current_schema().as_struct(),
        b.current_schema().as_struct(),
        "{statement}"
    );
    let (spec, again) = (a.default_partition_spec(), b.default_partition_spec());
    assert_eq!(spec.fields(), again.fields(), "{statement}");
    let (order, again) = (a.default_sort_order(), b.default_sort_order());
    assert_eq!(order.fields, again.fields, "{statement}");
    assert_eq!(a.properties(), b.properties(), "{statement}");
    assert_eq!(a.location(), b.location());
    assert_eq!(a.format_version(), b.format_version());
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_order_is_shown_and_taken() {
    let lake = Lake::new().await.unwrap();
    run(&lake, "CREATE SCHEMA s").await;
    let directions = [
        (
            " ASC NULLS FIRST",
            SortDirection::Ascending,
            NullOrder::First,
        ),
        (" ASC NULLS LAST", SortDirection::Ascending, NullOrder::Last),
        (
            " DESC NULLS FIRST",
            SortDirection::Descending,
            NullOrder::First,
        ),
        (
            " DESC NULLS LAST",
            SortDirection::Descending,
            NullOrder::Last,
        ),
        ("", SortDirection::Ascending, NullOrder::First),
        (" DESC", SortDirection::Descending, NullOrder::Last),
    ];
    let clauses = ["ORDER BY (", "SORTED BY (", "WRITE ORDERED BY "];
    let mut number = 0_usize;
    for length in 1..4 {
        for first in 0..FIELDS.len() {
            number += 1;
            let places = (0..length).map(|place| (first + place * 5) % FIELDS.len());
            let keys: Vec<_> = places
                .map(|place| {
                    (
                        FIELDS[place],
                        directions[(place * 7 + number) % directions.len()],
                    )
                })
                .collect();
            let texts = keys
                .iter()
                .map(|((field, _), (suffix, ..))| format!("{field}{suffix}"));
            let texts: Vec<String> = texts.collect();
            let clause = clauses[number % clauses.len()];
            let close = if clause.ends_with('(') { ")" } else { "" };
            let parted = match number % 4 {
                0 => format!("PARTITIONED BY ({})", FIELDS[number % FIELDS.len()].0),
                _ => String::new(),
            };
            let version = number % 3 + 1;
            let create = format!(
                "CREATE TABLE s.t ({COLUMNS}) {parted} {clause}{}{close} \
                 TBLPROPERTIES ('format-version' = '{version}')",
                texts.join(", ")
            );
            let table = twice(&lake, &create).await;
            let order = &table.metadata().default_sort_order().fields;
            assert_eq!(order.len(), keys.len(), "{create}");
            for (found, ((_, transform), (_, direction, nulls))) in order.iter().zip(&keys) {
                let found = (found.transform, found.direction, found.null_order);
                assert_eq!(found, (*transform, *direction, *nulls), "{create}");
            }
            let mode = &table.metadata().properties()["write.distribution-mode"];
            assert_eq!(mode, "range");
        }
    }
    for (sql, parts) in [
        (
            "CREATE TABLE s.t (a int) ORDER BY (b)",
            &["no column b"][..],
        ),
        (
            "CREATE TABLE s.t (a int) ORDER BY (day(a))",
            &["cannot be sorted by day"],
        ),
        (
            "CREATE TABLE s.t (a int) ORDER BY (a + 1)",
            &["ORDER BY a + 1"],
        ),
        (
            "CREATE TABLE s.t (a int) ORDER BY a SORTED BY a",
            &["one sort order", "line 1, column 37"],
        ),
        (
            "CREATE TABLE s.t (a ARRAY<int>) ORDER BY (a)",
            &["cannot be sorted"],
        ),
        ("CREATE TABLE s.t (a int) ORDER BY ()", &["line 1"]),
    ] {
        fails(&lake, sql, parts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_new_table_are_sorted() {
    let lake = Lake::new().await.unwrap();
    run(&lake, "CREATE SCHEMA s").await;
    let source = "SELECT value AS id, value % 7 AS k FROM generate_series(1, 500) AS g(value)";
    for (create, insert) in [
        (
            format!("CREATE TABLE s.t ORDER BY (k DESC, id) AS {source} ORDER BY id"),
            String::new(),
        ),
        (
            format!("CREATE OR REPLACE TABLE s.t SORTED BY (k DESC, id) AS {source}"),
            String::new(),
        ),
        (
            "CREATE OR REPLACE TABLE s.t (id bigint, k bigint) WITH (sorted_by = \
             ARRAY['k DESC', 'id ASC NULLS FIRST'], format_version = 2, format = 'PARQUET')"
                .to_owned(),
            format!("INSERT INTO s.t {source}"),
        ),
    ] {
        run(&lake, &create).await;
        if !insert.is_empty() {
            run(&lake, &insert).await;
        }
        let rows = run(
            &lake,
            "SELECT _file, lpad(CAST(_pos AS varchar), 5, '0'), k, id FROM s.t",
        )
        .await;
        assert_eq!(rows.len(), 500);
        let mut keys = rows.iter().map(|row| {
            let parts: Vec<&str> = row.split('|').collect();
            let key: (i64, i64) = (-parts[2].parse::<i64>().unwrap(), parts[3].parse().unwrap());
            (parts[0].to_owned(), key)
        });
        assert!(keys.by_ref().is_sorted(), "{create}");
        let ids = "SELECT DISTINCT sort_order_id FROM s.\"t$files\"";
        assert_ne!(run(&lake, ids).await, ["0"], "{create}");
    }
    // A definition without an order has none.
    run(&lake, "CREATE OR REPLACE TABLE s.t (id bigint, k bigint)").await;
    let table = lake.table("s", "t").await.unwrap();
    assert!(table.metadata().default_sort_order().fields.is_empty());
    let location = format!("file://{}/elsewhere", lake.folder().display());
    let trino = format!(
        "CREATE TABLE s.trino (id bigint, ts timestamp(6)) WITH (partitioning = \
         ARRAY['day(ts)', 'bucket(id, 4)'], sorted_by = ARRAY['id'], format_version = 3, \
         location = '{location}', \"write.distribution-mode\" = 'none')"
    );
    run(&lake, &trino).await;
    let shown = shown(&lake, "s.trino").await;
    for part in [
        "PARTITIONED BY (day(ts), bucket(4, id))\nORDER BY (id ASC NULLS FIRST)",
        &format!("LOCATION '{location}'"),
        "'format-version' = '3'",
        "'write.distribution-mode' = 'none'",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    for (with, part) in [
        ("sorted_by = 'id'", "sorted_by needs an array"),
        (
            "partitioning = ARRAY['day(ts) x']",
            "\"day(ts) x\" is no field",
        ),
        ("partitioning = ARRAY[1]", "partitioning needs an array"),
        ("location = 1", "location needs a text"),
        ("format = 'ORC'", "write.format.default"),
    ] {
        let sql = format!("CREATE TABLE s.x WITH ({with}) AS SELECT 1 AS id");
        fails(&lake, &sql, &[part]).await;
    }
    let both = "CREATE TABLE s.x (id int) PARTITIONED BY (id) WITH (partitioning = ARRAY['id'])";
    fails(&lake, both, &["partitioning says what another clause"]).await;
}

/// The Iceberg type of a column that is declared so.
async fn declared(lake: &Lake, ty: &str) -> Value {
    let create = format!("CREATE TABLE s.t (c {ty}) TBLPROPERTIES ('format-version' = '3')");
    let table = twice(lake, &create).await;
    let field = &table.metadata().current_schema().as_struct().fields()[0];
    serde_json::to_value(&field.field_type).unwrap()
}

fn field(id: i32, name: &str, required: bool, ty: &Value) -> Value {
    json!({"id": id, "name": name, "required": required, "type": ty})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_its_words() {
    let lake = Lake::new().await.unwrap();
    run(&lake, "CREATE SCHEMA s").await;
    for (words, ty) in [
        (&["boolean", "bool"][..], "boolean"),
        (
            &["tinyint", "smallint", "int", "INTEGER", "byte", "short"],
            "int",
        ),
        (&["bigint", "long"], "long"),
        (&["real", "float"], "float"),
        (&["double", "double precision"], "double"),
        (
            &["decimal(9, 2)", "numeric(9, 2)", "DEC(9,2)"],
            "decimal(9, 2)",
        ),
        (&["date"], "date"),
        (&["time", "time(6)", "time without time zone"], "time"),
        (
            &[
                "timestamp",
                "timestamp(6)",
                "timestamp without time zone",
                "timestamp_ntz",
            ],
            "timestamp",
        ),
        (
            &[
                "timestamp with time zone",
                "timestamp(6) with time zone",
                "timestamptz",
                "timestamp_ltz",
            ],
            "timestamptz",
        ),
        (&["timestamp(9)", "timestamp_ns"], "timestamp_ns"),
        (
            &["timestamp(9) with time zone", "timestamptz_ns"],
            "timestamptz_ns",
        ),
        (&["varchar", "varchar(10)", "string", "text"], "string"),
        (&["uuid"], "uuid"),
        (&["fixed(12)", "binary(12)"], "fixed[12]"),
        (&["binary", "varbinary", "bytea"], "binary"),
    ] {
        for word in words {
            assert_eq!(declared(&lake, word).await, json!(ty), "{word}");
            let list = declared(&lake, &format!("ARRAY<{word}>")).await;
            assert_eq!(list["element"], json!(ty), "{word}");
            assert_eq!(list["element-required"], json!(false), "{word}");
        }
    }
    let row = json!({"type": "struct", "fields": [
        field(2, "a", false, &json!("int")),
        field(3, "b", false, &json!("string")),
    ]});
    for form in [
        "STRUCT<a: int, b: string>",
        "struct<a int, b varchar(5)>",
        "ROW(a int, b varchar)",
        "STRUCT(A int, B varchar)",
    ] {
        assert_eq!(declared(&lake, form).await, row, "{form}");
    }
    for form in ["MAP<string, int>", "MAP(varchar, int)", "map<string,int>"] {
        let map = declared(&lake, form).await;
        let kinds = [&map["key"], &map["value"], &map["value-required"]];
        assert_eq!(
            kinds,
            [&json!("string"), &json!("int"), &json!(false)],
            "{form}"
        );
    }
    for form in ["ARRAY<int>", "array(int)", "int[]"] {
        let list = declared(&lake, form).await;
        assert_eq!(list["element"], json!("int"), "{form}");
    }
    // As deep as one likes, and what is said of fields is kept.
    let deep = "MAP<string, ARRAY<STRUCT<\"A b\": int NOT NULL COMMENT 'it''s', \
                c: MAP<int, ARRAY<ARRAY<ROW(d timestamp(9))>>> COMMENT 'deep'>>>";
    let found = declared(&lake, deep).await;
    let inner = &found["value"]["element"]["fields"];
    assert_eq!(inner[0]["name"], json!("A b"));
    assert_eq!(inner[0]["required"], json!(true));
    assert_eq!(inner[0]["doc"], json!("it's"));
    assert_eq!(inner[1]["doc"], json!("deep"));
    let last = &inner[1]["type"]["value"]["element"]["element"]["fields"][0]["type"];
    assert_eq!(last, &json!("timestamp_ns"));
    let required = declared(&lake, "ARRAY<MAP<int, int NOT NULL> NOT NULL>").await;
    assert_eq!(required["element-required"], json!(true));
    assert_eq!(required["element"]["value-required"], json!(true));
    let create = "CREATE TABLE s.t (a int, m MAP<string, STRUCT<x: int>>, l ARRAY<int> NOT NULL)";
    run(&lake, create).await;
    run(
        &lake,
        "ALTER TABLE s.t ADD COLUMN r ROW(x int, y ARRAY<MAP<int, string>>)",
    )
    .await;
    let shown = shown(&lake, "s.t").await;
    for part in [
        "m MAP(varchar, STRUCT<x int>)",
        "l ARRAY<int> NOT NULL",
        "r STRUCT<x int, y ARRAY<MAP(int, varchar)>>",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    for (ty, parts) in [
        ("STRUCT<a>", &["a name and a type"][..]),
        ("STRUCT<a: int b: int>", &["line 1", "Expected"]),
        ("MAP<string>", &["line 1", "Expected"]),
        ("ARRAY<char(3)>", &["CHAR(3)"]),
        ("STRUCT<a: json>", &["JSON"]),
        ("ROW(a timestamp(9))", &["'format-version' = '3'"]),
        ("fixed(0)", &["no length"]),
        ("timestamp(3)", &["timestamp(6)"]),
    ] {
        fails(&lake, &format!("CREATE TABLE s.x (c {ty})"), parts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_have_properties_and_a_place() {
    let lake = Lake::new().await.unwrap();
    let place = format!("file://{}/warehouse/its/place", lake.folder().display());
    for sql in [
        "CREATE NAMESPACE a",
        "CREATE NAMESPACE IF NOT EXISTS a",
        "CREATE DATABASE lake.a.b COMMENT 'it''s' WITH DBPROPERTIES ('owner' = 'me', 'n' = 1)",
        &format!("CREATE SCHEMA placed LOCATION '{place}/'"),
        &format!("CREATE SCHEMA trino WITH (location = '{place}')"),
        "CREATE TABLE placed.t AS SELECT 1 AS id",
        "CREATE TABLE a.b.t (id int)",
    ] {
        run(&lake, sql).await;
    }
    let table = lake.table("placed", "t").await.unwrap();
    assert_eq!(table.metadata().location(), format!("{place}/t"));
    let catalog = lake.catalogs().writer("lake").await.unwrap();
    let ident = iceberg::NamespaceIdent::from_strs(["a", "b"]).unwrap();
    let found = catalog.get_namespace(&ident).await.unwrap();
    let properties = found.properties();
    for (key, value) in [("comment", "it's"), ("owner", "me"), ("n", "1")] {
        assert_eq!(properties[key], value);
    }
    let shown = run(&lake, "SHOW NAMESPACES LIKE 'a%'").await;
    assert_eq!(shown, ["a", "a.b"]);
    for (sql, parts) in [
        ("CREATE NAMESPACE a", &["schema lake.a exists already"][..]),
        (
            "CREATE SCHEMA x AUTHORIZATION joe",
            &["AUTHORIZATION", "not supported"],
        ),
        (
            "CREATE SCHEMA AUTHORIZATION joe",
            &["AUTHORIZATION", "not supported"],
        ),
        (
            "CREATE SCHEMA x COMMENT 'a' COMMENT 'b'",
            &["comment is given twice"],
        ),
        (
            "CREATE SCHEMA x LOCATION 's3://elsewhere/x'",
            &["outside the configured lakes"],
        ),
        (
            "CREATE SCHEMA x WITH PROPERTIES ('a' = b)",
            &["property a needs a text"],
        ),
        ("DROP NAMESPACE a.b CASCADE", &["CASCADE", "not supported"]),
        ("DROP NAMESPACE a.b", &["not empty"]),
        ("DROP DATABASE nowhere", &["nowhere not found"]),
    ] {
        fails(&lake, sql, parts).await;
    }
    for sql in [
        "DROP TABLE a.b.t",
        "DROP NAMESPACE a.b",
        "DROP DATABASE IF EXISTS a.b",
        "DROP NAMESPACE IF EXISTS nowhere",
        "DROP SCHEMA a",
    ] {
        run(&lake, sql).await;
    }
}
