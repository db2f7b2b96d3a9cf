//! What clients may ask about the server and its tables, by raw calls, and SQL's own answers to the
//! same questions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Schema, UInt32Type};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use inshore_testkit::{Cluster, Lake};

#[path = "support/asking.rs"]
mod asking;

use asking::{Client, lines, run};

/// What a column tells under one of Flight SQL's keys.
fn told<'a>(schema: &'a Schema, column: &str, key: &str) -> Option<&'a str> {
    let field = schema.field_with_name(column).unwrap();
    let value = field.metadata().get(&format!("ARROW:FLIGHT:SQL:{key}"));
    value.map(String::as_str)
}

/// The names and types of a schema; with `!` where a value is required.
fn shape(batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| {
        let required = if field.is_nullable() { "" } else { "!" };
        format!("{} {}{required}", field.name(), field.data_type())
    });
    fields.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_announced_and_specified_schema() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = Client::of(&cluster).await;
    let text = |name: &str| format!("{name} Utf8");
    let required = |name: &str| format!("{name} Utf8!");

    let found = client.ask(&CommandGetCatalogs::default()).await;
    assert_eq!(shape(&found), [required("catalog_name")]);
    let found = client.ask(&CommandGetDbSchemas::default()).await;
    assert_eq!(
        shape(&found),
        [text("catalog_name"), required("db_schema_name")]
    );
    let found = client.ask(&CommandGetTableTypes::default()).await;
    assert_eq!(shape(&found), [required("table_type")]);
    for include_schema in [false, true] {
        let query = CommandGetTables {
            include_schema,
            ..CommandGetTables::default()
        };
        let mut expected = vec![
            text("catalog_name"),
            text("db_schema_name"),
            required("table_name"),
            required("table_type"),
        ];
        if include_schema {
            expected.push("table_schema Binary!".to_owned());
        }
        assert_eq!(shape(&client.ask(&query).await), expected);
    }
    let found = client.ask(&CommandGetPrimaryKeys::default()).await;
    let primary = [
        text("catalog_name"),
        text("db_schema_name"),
        required("table_name"),
        required("column_name"),
        text("key_name"),
        "key_sequence Int32!".to_owned(),
    ];
    assert_eq!((shape(&found), found.num_rows()), (primary.to_vec(), 0));
    let foreign = [
        text("pk_catalog_name"),
        text("pk_db_schema_name"),
        required("pk_table_name"),
        required("pk_column_name"),
        text("fk_catalog_name"),
        text("fk_db_schema_name"),
        required("fk_table_name"),
        required("fk_column_name"),
        "key_sequence Int32!".to_owned(),
        text("fk_key_name"),
        text("pk_key_name"),
        "update_rule UInt8!".to_owned(),
        "delete_rule UInt8!".to_owned(),
    ];
    for found in [
        client.ask(&CommandGetExportedKeys::default()).await,
        client.ask(&CommandGetImportedKeys::default()).await,
        client.ask(&CommandGetCrossReference::default()).await,
    ] {
        assert_eq!((shape(&found), found.num_rows()), (foreign.to_vec(), 0));
    }
    let found = client.ask(&CommandGetSqlInfo::default()).await;
    assert_eq!(found.schema().field(0).name(), "info_name");
    let found = client.ask(&CommandGetXdbcTypeInfo::default()).await;
    assert_eq!(found.num_columns(), 19);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_at_every_depth() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(
        &cluster,
        &[
            "CREATE SCHEMA s",
            "CREATE SCHEMA s.inner",
            "CREATE SCHEMA lake.\"Größe 100%\"",
            "CREATE TABLE s.a_b (x int)",
            "CREATE TABLE s.axb (x int)",
            "CREATE TABLE s.\"a%b\" (x int)",
            "CREATE TABLE s.\"Tabelle ä\" (x int)",
            "CREATE TABLE s.inner.deep (x int)",
            "CREATE TABLE lake.\"Größe 100%\".\"表\" (x int)",
        ],
    )
    .await;
    let mut client = Client::of(&cluster).await;

    let found = lines(&client.ask(&CommandGetCatalogs::default()).await);
    assert_eq!(found, ["lake"]);
    let all = [
        "lake|Größe 100%",
        "lake|information_schema",
        "lake|s",
        "lake|s.inner",
        "lake|system",
    ];
    for (catalog, pattern, expected) in [
        (None, None, all.to_vec()),
        (Some("lake"), None, all.to_vec()),
        (Some("lake"), Some("%"), all.to_vec()),
        (
            None,
            Some("s%"),
            vec!["lake|s", "lake|s.inner", "lake|system"],
        ),
        (None, Some("s"), vec!["lake|s"]),
        (None, Some("_"), vec!["lake|s"]),
        (None, Some("S"), vec![]),
        (None, Some(r"%\%"), vec!["lake|Größe 100%"]),
        (None, Some("Gr__e%"), vec!["lake|Größe 100%"]),
        (None, Some(""), vec![]),
        (Some(""), None, vec![]),
        (Some("lak%"), None, vec![]),
        (Some("other"), None, vec![]),
    ] {
        let query = CommandGetDbSchemas {
            catalog: catalog.map(str::to_owned),
            db_schema_filter_pattern: pattern.map(str::to_owned),
        };
        let found = lines(&client.ask(&query).await);
        assert_eq!(found, expected, "{catalog:?} {pattern:?}");
    }

    let of_s = [
        "lake|s|Tabelle ä|TABLE",
        "lake|s|a%b|TABLE",
        "lake|s|a_b|TABLE",
        "lake|s|axb|TABLE",
    ];
    for (schema, table, expected) in [
        ("s", "-", of_s.to_vec()),
        ("s", "%", of_s.to_vec()),
        ("s", "a_b", of_s[1..].to_vec()),
        ("s", r"a\_b", vec![of_s[2]]),
        ("s", r"a\%b", vec![of_s[1]]),
        ("s", "T______ ä", vec![of_s[0]]),
        ("s", "A%", vec![]),
        ("-", "deep", vec!["lake|s.inner|deep|TABLE"]),
        ("s.%", "-", vec!["lake|s.inner|deep|TABLE"]),
        ("-", "_", vec!["lake|Größe 100%|表|TABLE"]),
        (r"Gr%\%", "表", vec!["lake|Größe 100%|表|TABLE"]),
        ("nothing", "-", vec![]),
        ("s", "", vec![]),
        ("system", "q%", vec!["lake|system|queries|SYSTEM TABLE"]),
        (
            "information\\_schema",
            "_____s",
            vec!["lake|information_schema|tables|SYSTEM TABLE"],
        ),
    ] {
        let found = client.tables(None, schema, table).await;
        assert_eq!(found, expected, "{schema} {table}");
        assert_eq!(client.tables(Some("lake"), schema, table).await, expected);
        for other in ["", "other"] {
            assert!(client.tables(Some(other), schema, table).await.is_empty());
        }
    }
    let all = client.tables(None, "-", "-").await;
    assert_eq!(all.len(), 6 + 4 + 7);
    let mut sorted = all.clone();
    sorted.sort_by_key(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(all, sorted);

    let types = lines(&client.ask(&CommandGetTableTypes::default()).await);
    assert_eq!(types, ["SYSTEM TABLE", "TABLE", "VIEW"]);
    for (types, count) in [
        (vec!["TABLE"], 6),
        (vec!["SYSTEM TABLE"], 11),
        (vec!["VIEW"], 0),
        (vec!["VIEW", "TABLE"], 6),
        (vec!["table"], 0),
        (vec!["LOCAL TEMPORARY"], 0),
    ] {
        let query = CommandGetTables {
            table_types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..CommandGetTables::default()
        };
        assert_eq!(client.ask(&query).await.num_rows(), count, "{types:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_has_of_its_own_is_listed_for_it() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(
        &cluster,
        &[
            "CREATE SCHEMA s",
            "CREATE TABLE s.t (id int NOT NULL, note varchar)",
        ],
    )
    .await;
    let mut client = Client::of(&cluster).await;
    let folder = lake.folder().join("warehouse/s/t");
    let open = format!(
        "CREATE EXTERNAL TABLE s.opened STORED AS ICEBERG LOCATION '{}'",
        folder.display()
    );
    for sql in [
        "CREATE VIEW s.v AS SELECT note, count(*) AS n FROM s.t GROUP BY note",
        "CREATE VIEW s.broken AS SELECT * FROM s.t",
        "USE s",
        &open,
    ] {
        client.rows(sql).await;
    }
    let expected = [
        "lake|s|broken|VIEW",
        "lake|s|opened|TABLE",
        "lake|s|t|TABLE",
        "lake|s|v|VIEW",
    ];
    assert_eq!(client.tables(None, "s", "-").await, expected);
    let shown = client.rows("SHOW TABLES FROM s").await;
    let expected = expected.map(|line| line.replace("|TABLE", "|BASE TABLE"));
    assert_eq!(shown, expected);
    assert_eq!(
        client.rows("SHOW TABLES FROM lake.s LIKE '%e%'").await,
        expected[..2]
    );
    let listed = "SELECT * FROM information_schema.tables WHERE table_schema = 's'";
    assert_eq!(client.rows(listed).await, expected);
    let views = "SELECT table_name, definition FROM information_schema.views";
    assert_eq!(
        client.rows(views).await,
        [
            "broken|SELECT * FROM s.t",
            "v|SELECT note, count(*) AS n FROM s.t GROUP BY note"
        ]
    );

    let columns = client.columns("s").await;
    let of = |table: &str| -> Vec<String> {
        let fields = columns[table].fields().iter();
        fields
            .map(|f| format!("{} {}", f.name(), f.data_type()))
            .collect()
    };
    assert_eq!(of("v"), ["note Utf8", "n Int64"]);
    assert_eq!(of("opened"), ["id Int32", "note Utf8"]);
    assert_eq!(told(&columns["opened"], "id", "IS_READ_ONLY"), Some("1"));
    assert_eq!(told(&columns["v"], "n", "IS_READ_ONLY"), Some("1"));
    assert_eq!(told(&columns["v"], "n", "TABLE_NAME"), Some("v"));
    assert_eq!(
        client.rows("SHOW COLUMNS FROM v").await,
        ["lake|s|v|note|varchar|YES", "lake|s|v|n|bigint|YES"]
    );

    // A view that cannot be planned any more hides nothing.
    client.rows("ALTER TABLE s.t RENAME TO s.other").await;
    let columns = client.columns("s").await;
    assert_eq!(columns.len(), 4);
    assert!(columns["broken"].fields().is_empty());
    assert_eq!(columns["other"].fields().len(), 2);

    // Another client has none of them.
    let mut other = Client::of(&cluster).await;
    assert_eq!(other.tables(None, "s", "-").await, ["lake|s|other|TABLE"]);
    let count = "SELECT count(*) FROM information_schema.views";
    assert_eq!(other.rows(count).await, ["0"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path()).await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(
        &cluster,
        &[
            "CREATE SCHEMA s",
            "CREATE TABLE s.bad (x int)",
            "CREATE TABLE s.good (id bigint NOT NULL COMMENT 'the ''key''', \
             price decimal(12,2), name varchar DEFAULT 'it''s', \
             at timestamp, zoned timestamp with time zone, ok boolean, ids array(bigint)) \
             TBLPROPERTIES ('format-version' = '3')",
        ],
    )
    .await;
    let broken = lake.table("s", "bad").await.unwrap();
    let location = broken.metadata_location().unwrap().to_owned();
    std::fs::write(location.trim_start_matches("file://"), "{").unwrap();
    cluster.stop().await;
    // Without what is cached.
    let lake = Lake::open(folder.path()).await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = Client::of(&cluster).await;

    // Both are there, and one can be described.
    let names = ["lake|s|bad|TABLE", "lake|s|good|TABLE"];
    assert_eq!(client.tables(None, "s", "-").await, names);
    let columns = client.columns("s").await;
    assert!(columns["bad"].fields().is_empty());
    let good = &columns["good"];
    for (column, keys) in [
        (
            "id",
            vec![
                ("CATALOG_NAME", Some("lake")),
                ("SCHEMA_NAME", Some("s")),
                ("TABLE_NAME", Some("good")),
                ("TYPE_NAME", Some("bigint")),
                ("PRECISION", Some("19")),
                ("SCALE", Some("0")),
                ("IS_AUTO_INCREMENT", Some("0")),
                ("IS_CASE_SENSITIVE", Some("0")),
                ("IS_READ_ONLY", Some("0")),
                ("IS_SEARCHABLE", Some("1")),
                ("REMARKS", Some("the 'key'")),
            ],
        ),
        (
            "price",
            vec![
                ("TYPE_NAME", Some("decimal(12,2)")),
                ("PRECISION", Some("12")),
                ("SCALE", Some("2")),
                ("REMARKS", None),
            ],
        ),
        (
            "name",
            vec![("IS_CASE_SENSITIVE", Some("1")), ("SCALE", None)],
        ),
        ("at", vec![("PRECISION", Some("26")), ("SCALE", Some("6"))]),
        (
            "zoned",
            vec![("TYPE_NAME", Some("timestamp(6) with time zone"))],
        ),
        (
            "ids",
            vec![("TYPE_NAME", Some("array(bigint)")), ("PRECISION", None)],
        ),
    ] {
        for (key, value) in keys {
            assert_eq!(told(good, column, key), value, "{column} {key}");
        }
    }
    assert!(!good.field(0).is_nullable() && good.field(1).is_nullable());
    assert_eq!(good.field(2).data_type(), &DataType::Utf8);

    // SQL says the same.
    let listed = "SELECT column_name, ordinal_position, column_default, is_nullable, data_type, \
                  numeric_precision, numeric_scale, datetime_precision, comment \
                  FROM information_schema.columns WHERE table_schema = 's'";
    assert_eq!(
        client.rows(listed).await,
        [
            "id|1|NULL|NO|bigint|19|0|NULL|the 'key'",
            "price|2|NULL|YES|decimal(12,2)|12|2|NULL|NULL",
            "name|3|'it''s'|YES|varchar|NULL|NULL|NULL|NULL",
            "at|4|NULL|YES|timestamp(6)|NULL|NULL|6|NULL",
            "zoned|5|NULL|YES|timestamp(6) with time zone|NULL|NULL|6|NULL",
            "ok|6|NULL|YES|boolean|NULL|NULL|NULL|NULL",
            "ids|7|NULL|YES|array(bigint)|NULL|NULL|NULL|NULL",
        ]
    );
    let described = client.rows("DESCRIBE s.good").await;
    let shown = client.rows("SHOW COLUMNS FROM s.good").await;
    for (described, shown) in described.iter().zip(&shown) {
        let described = described.rsplit_once('|').unwrap().0;
        assert_eq!(shown, &format!("lake|s|good|{described}"));
    }
    assert_eq!(shown.len(), 7);
    assert_eq!(
        client
            .rows("SHOW COLUMNS FROM s.good LIKE 'i%'")
            .await
            .len(),
        2
    );
    assert_eq!(client.rows("SHOW FULL COLUMNS FROM s.good").await.len(), 7);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identifier_fields_are_primary_keys() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    run(
        &cluster,
        &[
            "CREATE SCHEMA s",
            "CREATE SCHEMA s.inner",
            "CREATE TABLE s.t (note varchar, k int NOT NULL, id int NOT NULL)",
            "ALTER TABLE s.t SET IDENTIFIER FIELDS id, k",
            "CREATE TABLE s.inner.t (\"Schlüssel\" int NOT NULL)",
            "ALTER TABLE s.inner.t SET IDENTIFIER FIELDS \"Schlüssel\"",
            "CREATE TABLE s.none (k int NOT NULL)",
        ],
    )
    .await;
    let mut client = Client::of(&cluster).await;
    let of_s = ["lake|s|t|k|NULL|1", "lake|s|t|id|NULL|2"];
    let inner = "lake|s.inner|t|Schlüssel|NULL|1";
    for (catalog, schema, table, expected) in [
        (Some("lake"), Some("s"), "t", of_s.to_vec()),
        (None, Some("s"), "t", of_s.to_vec()),
        (None, Some("s.inner"), "t", vec![inner]),
        (None, None, "t", vec![of_s[0], of_s[1], inner]),
        (None, Some("s"), "none", vec![]),
        (None, Some("s"), "nothing", vec![]),
        (None, Some("%"), "t", vec![]),
        (Some(""), Some("s"), "t", vec![]),
        (Some("lake"), Some(""), "t", vec![]),
        (None, None, "%", vec![]),
        (None, None, "queries", vec![]),
    ] {
        let query = CommandGetPrimaryKeys {
            catalog: catalog.map(str::to_owned),
            db_schema: schema.map(str::to_owned),
            table: table.to_owned(),
        };
        let found = lines(&client.ask(&query).await);
        assert_eq!(found, expected, "{catalog:?} {schema:?} {table}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_columns_are_told() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = Client::of(&cluster).await;
    run(&cluster, &["CREATE SCHEMA s"]).await;
    let all = client.ask(&CommandGetXdbcTypeInfo::default()).await;
    let column = |name: &str| all.column_by_name(name).unwrap().clone();
    let names = column("type_name");
    let names = names.as_string::<i32>();
    let (prefixes, suffixes) = (column("literal_prefix"), column("literal_suffix"));
    let (prefixes, suffixes) = (prefixes.as_string::<i32>(), suffixes.as_string::<i32>());
    let numbers = column("data_type");
    let numbers = numbers.as_primitive::<Int32Type>();
    assert!(numbers.values().is_sorted());
    let text_of = |name: &str| match name {
        "varchar" => "x",
        "varbinary" => "00ff",
        "date" => "2020-01-02",
        "time(6)" => "01:02:03.000004",
        name if name.ends_with("zone") => "2020-01-02 03:04:05.000006+00:00",
        _ => "2020-01-02 03:04:05.000006",
    };
    for row in 0..all.num_rows() {
        let name = names.value(row);
        let of_type = match name {
            "array" => "array(integer)",
            "map" => "map(integer, varchar)",
            "row" => "row(x integer)",
            "decimal" => "decimal(38,3)",
            other => other,
        };
        // Every one can be a column's, and the column has it.
        let create =
            format!("CREATE TABLE s.t{row} (x {of_type}) TBLPROPERTIES ('format-version' = '3')");
        run(&cluster, &[&create]).await;
        let described = client.rows(&format!("DESCRIBE s.t{row}")).await;
        assert_eq!(described, [format!("x|{of_type}|YES")]);
        // A literal is one of its values.
        if prefixes.is_valid(row) {
            let (prefix, suffix) = (prefixes.value(row), suffixes.value(row));
            let insert = format!(
                "INSERT INTO s.t{row} VALUES ({prefix}{}{suffix})",
                text_of(name)
            );
            run(&cluster, &[&insert]).await;
        }
        let query = CommandGetXdbcTypeInfo {
            data_type: Some(numbers.value(row)),
        };
        let found = client.ask(&query).await;
        assert!(lines(&found).contains(&lines(&all)[row]), "{name}");
    }
    let query = CommandGetXdbcTypeInfo {
        data_type: Some(93),
    };
    assert_eq!(client.ask(&query).await.num_rows(), 4);
    let query = CommandGetXdbcTypeInfo {
        data_type: Some(1234),
    };
    assert_eq!(client.ask(&query).await.num_rows(), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_can_do_is_true() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = Client::of(&cluster).await;
    let ids = |batch: &RecordBatch| {
        batch
            .column(0)
            .as_primitive::<UInt32Type>()
            .values()
            .to_vec()
    };
    let all = client.ask(&CommandGetSqlInfo::default()).await;
    assert!(ids(&all).is_sorted() && ids(&all).len() > 80);
    // JDBC reads it as another type than the specified one.
    assert!(!ids(&all).contains(&562));
    let mut ask = async |wanted: &[u32]| {
        let query = CommandGetSqlInfo {
            info: wanted.to_vec(),
        };
        client.ask(&query).await
    };
    assert_eq!(ids(&ask(&[8, 0, 8]).await), [0, 8]);
    assert_eq!(
        ids(&ask(&[0, 1, 2, 8, 10_000, u32::MAX]).await),
        [0, 1, 2, 8]
    );
    assert_eq!(ids(&ask(&[562, 10_000]).await), [0; 0]);
    let lines = lines(&all);
    let value = |id: SqlInfo| -> &str {
        let start = format!("{}|", id as i32);
        let line = lines.iter().find(|line| line.starts_with(&start));
        let value = line.unwrap_or_else(|| panic!("{id:?} is not told"));
        value.split_once('=').unwrap().1.trim_end_matches('}')
    };
    for (id, expected) in [
        (SqlInfo::FlightSqlServerName, "Inshore"),
        (SqlInfo::FlightSqlServerReadOnly, "false"),
        (SqlInfo::FlightSqlServerCancel, "true"),
        (SqlInfo::FlightSqlServerTransaction, "0"),
        (SqlInfo::FlightSqlServerBulkIngestion, "true"),
        (SqlInfo::SqlBatchUpdatesSupported, "true"),
        (SqlInfo::FlightSqlServerStatementTimeout, "3600000"),
        (SqlInfo::SqlDdlCatalog, "false"),
        (SqlInfo::SqlDdlSchema, "true"),
        (SqlInfo::SqlDdlTable, "true"),
        (SqlInfo::SqlIdentifierCase, "3"),
        (SqlInfo::SqlSearchStringEscape, "\\"),
        (SqlInfo::SqlNullOrdering, "0"),
        (SqlInfo::SqlNullPlusNullIsNull, "true"),
        (SqlInfo::SqlSupportedGroupBy, "3"),
        (SqlInfo::SqlSupportedSubqueries, "15"),
        (SqlInfo::SqlSupportedUnions, "3"),
        (SqlInfo::SqlOuterJoinsSupportLevel, "6"),
        (SqlInfo::SqlSupportsLikeEscapeClause, "false"),
        (SqlInfo::SqlTransactionsSupported, "false"),
    ] {
        assert_eq!(value(id), expected, "{id:?}");
    }

    // NULL is larger than every value.
    let numbers = "(VALUES (1), (NULL), (3)) AS t(x)";
    for (order, expected) in [("ASC", ["1", "3", "NULL"]), ("DESC", ["NULL", "3", "1"])] {
        let sql = format!("SELECT x FROM {numbers} ORDER BY x {order}");
        assert_eq!(client.rows(&sql).await, expected);
    }
    for (sql, expected) in [
        ("SELECT NULL || 'x'", "NULL"),
        ("SELECT 1 WHERE 1 = (SELECT 1)", "1"),
        (
            "SELECT x FROM (VALUES (1)) t(x) WHERE EXISTS (SELECT 1 FROM (VALUES (1)) u(y) WHERE y = x)",
            "1",
        ),
        (
            "SELECT x FROM (VALUES (1), (2)) t(x) WHERE x IN (SELECT 2)",
            "2",
        ),
        (
            "SELECT x FROM (VALUES (1), (2)) t(x) WHERE x > ALL (SELECT 1)",
            "2",
        ),
        (
            "SELECT x FROM (VALUES (1), (2)) t(x) WHERE x = ANY (SELECT 1)",
            "1",
        ),
        ("SELECT 1 UNION SELECT 1", "1"),
        ("SELECT count(*) FROM (SELECT 1 UNION ALL SELECT 1)", "2"),
        (
            "SELECT x FROM (VALUES (1, 5), (2, 4)) t(x, y) ORDER BY y LIMIT 1",
            "2",
        ),
        (
            "SELECT x + 0 FROM (VALUES (1), (2)) t(x) ORDER BY -x LIMIT 1",
            "2",
        ),
        (
            "SELECT count(*) FROM (VALUES (1, 5), (2, 5)) t(x, y) GROUP BY y, y + 1",
            "2",
        ),
        (
            "SELECT count(*) FROM (VALUES (1)) t(x) FULL JOIN (VALUES (2)) u(y) ON x = y",
            "2",
        ),
        ("SELECT 1 AS a#$@", "1"),
    ] {
        assert_eq!(client.rows(sql).await, [expected], "{sql}");
    }
    // Every function in the lists is known, and some that belong there are.
    let functions = "SELECT DISTINCT routine_name FROM information_schema.routines \
                     WHERE function_type = 'SCALAR'";
    let known = client.rows(functions).await;
    for (id, some) in [
        (SqlInfo::SqlNumericFunctions, vec!["abs", "round", "sqrt"]),
        (
            SqlInfo::SqlStringFunctions,
            vec!["lower", "substr", "replace"],
        ),
        (SqlInfo::SqlSystemFunctions, vec!["coalesce", "version"]),
        (
            SqlInfo::SqlDatetimeFunctions,
            vec!["now", "date_trunc", "year"],
        ),
    ] {
        let list = value(id).trim_matches(['[', ']']);
        let list: Vec<&str> = list.split(", ").collect();
        for name in some {
            assert!(list.contains(&name), "{id:?} {name}: {list:?}");
        }
        for name in list {
            assert!(known.iter().any(|known| known == name), "{id:?} {name}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_results_tell_their_type() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = Client::of(&cluster).await;
    client.rows("CREATE SCHEMA s").await;
    client
        .rows("CREATE TABLE s.t (id int, price decimal(12,2), name varchar)")
        .await;
    let query = "SELECT id, price * 2 AS double_price, name, id IS NULL AS missing FROM s.t";
    let result = client.sql(query).await;
    let schema = result.schema();
    for (column, key, value) in [
        ("id", "TYPE_NAME", Some("integer")),
        ("id", "PRECISION", Some("10")),
        ("id", "SCALE", Some("0")),
        ("id", "IS_AUTO_INCREMENT", Some("0")),
        ("double_price", "SCALE", Some("2")),
        ("name", "TYPE_NAME", Some("varchar")),
        ("name", "IS_CASE_SENSITIVE", Some("1")),
        ("missing", "TYPE_NAME", Some("boolean")),
        ("id", "TABLE_NAME", None),
    ] {
        assert_eq!(told(&schema, column, key), value, "{column} {key}");
    }
    // Other statements that give rows keep their word too.
    for sql in [
        "SHOW TABLES",
        "SHOW SCHEMAS",
        "SHOW CATALOGS",
        "SHOW COLUMNS FROM s.t",
        "SHOW datafusion.execution.batch_size",
        "SHOW FUNCTIONS LIKE 'abs'",
        "SHOW CREATE TABLE s.t",
        "DESCRIBE s.t",
        "EXPLAIN SELECT * FROM s.t",
        "SELECT * FROM information_schema.schemata",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.df_settings",
    ] {
        assert!(client.sql(sql).await.num_rows() > 0, "{sql}");
    }
    // What clients are told is not written down.
    client.rows("CREATE TABLE s.u AS SELECT * FROM s.t").await;
    let made = lake.table("s", "u").await.unwrap();
    let fields = made.metadata().current_schema().as_struct().fields();
    assert!(fields.iter().all(|field| field.doc.is_none()));
    cluster.stop().await;
}
