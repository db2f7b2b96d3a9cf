//! The Flight SQL door as a client sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables, SqlInfo};
use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Topology};
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::{Cluster, Lake, rows};
use tonic::transport::Channel;

type Client = FlightSqlServiceClient<Channel>;

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name, value * 0.5 AS half \
                 FROM generate_series(1, 3000) AS s(value)";
    lake.create_table("sales", "orders", query, 2)
        .await
        .unwrap();
    lake.create_table("sales.emea", "orders", query, 1)
        .await
        .unwrap();
    lake.create_table("sales", "order_lines", query, 1)
        .await
        .unwrap();
    lake
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Vec<RecordBatch> {
    let announced = info.clone().try_decode_schema().unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    let delivered = stream.schema().expect("a stream without a schema");
    assert_eq!(&announced, delivered.as_ref());
    batches
}

async fn run(client: &mut Client, sql: &str) -> Vec<String> {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let batches = fetch(client, info).await;
    rows::sorted(&batches).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_names_catalogs_schemas_and_tables() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = cluster.client().await.unwrap();

    let info = client.get_catalogs().await.unwrap();
    assert_eq!(
        rows::sorted(&fetch(&mut client, info).await).unwrap(),
        ["lake"]
    );

    let info = client
        .get_db_schemas(CommandGetDbSchemas {
            catalog: Some("lake".to_owned()),
            db_schema_filter_pattern: Some("sales%".to_owned()),
        })
        .await
        .unwrap();
    let found = rows::sorted(&fetch(&mut client, info).await).unwrap();
    assert_eq!(found, ["lake|sales", "lake|sales.emea"]);

    let info = client
        .get_tables(CommandGetTables {
            catalog: None,
            db_schema_filter_pattern: Some("sales".to_owned()),
            table_name_filter_pattern: Some("order_".to_owned()),
            table_types: vec![],
            include_schema: true,
        })
        .await
        .unwrap();
    let found = fetch(&mut client, info).await;
    let names = found[0].column_by_name("table_name").unwrap();
    assert_eq!(
        names
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        ["orders"]
    );

    let info = client.get_table_types().await.unwrap();
    assert_eq!(
        rows::sorted(&fetch(&mut client, info).await).unwrap(),
        ["SYSTEM TABLE", "TABLE", "VIEW"]
    );

    let info = client
        .get_sql_info(vec![
            SqlInfo::FlightSqlServerName,
            SqlInfo::FlightSqlServerTransaction,
        ])
        .await
        .unwrap();
    assert_eq!(fetch(&mut client, info).await[0].num_rows(), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_announced_schema_is_the_delivered_one() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    for sql in [
        "SELECT * FROM sales.orders",
        "SELECT * FROM sales.orders WHERE id < 0",
        "SELECT count(*), sum(half), max(name), avg(id) FROM sales.emea.orders",
        "SELECT name, array_agg(id) FROM sales.orders GROUP BY name",
        "SELECT CASE WHEN id > 5 THEN name END FROM sales.orders LIMIT 3",
        "SELECT 1 AS a, NULL AS b, named_struct('x', 'y') AS c",
        "EXPLAIN SELECT * FROM sales.orders",
        "SHOW TABLES",
        "DESCRIBE sales.orders",
        "SET datafusion.execution.batch_size = 100",
    ] {
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let id = String::from_utf8(info.app_metadata.to_vec()).unwrap();
        fetch(&mut client, info).await;
        let known = format!("SELECT count(*) FROM system.queries WHERE query_id = '{id}'");
        assert_eq!(run(&mut client, &known).await, ["1"], "{sql}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_settings_to_itself() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut one = cluster.client().await.unwrap();
    let mut other = cluster.client().await.unwrap();
    run(&mut one, "USE sales").await;
    assert_eq!(run(&mut one, "SELECT count(*) FROM orders").await, ["3000"]);
    run(&mut one, "USE system").await;
    run(&mut one, "SELECT url FROM workers").await;
    run(&mut one, "USE sales.emea").await;
    assert_eq!(run(&mut one, "SELECT count(*) FROM orders").await, ["3000"]);
    let Err(error) = other
        .execute("SELECT count(*) FROM orders".to_owned(), None)
        .await
    else {
        panic!("another session's USE took effect");
    };
    assert!(error.to_string().contains("not found"), "{error}");

    let folder = lake.folder().join("warehouse/sales/orders");
    let open = format!(
        "CREATE EXTERNAL TABLE mine STORED AS ICEBERG LOCATION '{}'",
        folder.display()
    );
    run(&mut one, &open).await;
    assert_eq!(run(&mut one, "SELECT max(id) FROM mine").await, ["3000"]);
    assert!(
        other
            .execute("SELECT * FROM sales.mine".to_owned(), None)
            .await
            .is_err()
    );
    run(&mut one, "DROP TABLE mine").await;
    assert!(
        one.execute("SELECT * FROM mine".to_owned(), None)
            .await
            .is_err()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_and_where() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    for (sql, parts) in [
        (
            "SELECT * FROM sales.ordrs",
            vec!["did you mean orders?", "line 1, column 15"],
        ),
        (
            "SELECT\n  nme FROM sales.orders",
            vec!["nme", "line 2, column 3"],
        ),
        ("SELEC 1", vec!["line 1, column 1"]),
        ("SELECT 1; SELECT 2", vec!["one by one"]),
        ("DELETE FROM sales.orders", vec!["not supported yet"]),
        ("SELECT * FROM nowhere.sales.orders", vec!["nowhere"]),
    ] {
        let error = cluster.rows(sql).await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_ended() {
    let lake = lake().await;
    let mut settings = options(&lake, forced(), Topology::Embedded);
    // Planning alone takes longer, and counts.
    settings.statement_timeout = Some(Duration::from_micros(1));
    let node = Coordinator::new(settings).unwrap();
    let sql = "SELECT name, count(*) FROM sales.orders GROUP BY name";
    let Err(error) = node.session().execute(sql).await else {
        panic!("a statement took no time");
    };
    let error = error.to_string();
    assert!(error.contains("statement_timeout_seconds"), "{error}");
    let figures = node.queries().all()[0].figures();
    assert_eq!(figures.state.name(), "FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_tell_how_many_rows_they_changed() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    for (sql, changed) in [
        ("CREATE TABLE sales.t (id bigint, name varchar)", 0),
        (
            "INSERT INTO sales.t SELECT id, name FROM sales.orders",
            3000,
        ),
        ("INSERT INTO sales.t VALUES (-1, 'x'), (-2, 'y')", 2),
        (
            "CREATE TABLE sales.u AS SELECT * FROM sales.t WHERE id < 0",
            2,
        ),
        ("SELECT * FROM sales.t", -1),
    ] {
        let count = client.execute_update(sql.to_owned(), None).await.unwrap();
        assert_eq!(count, changed, "{sql}");
    }
    let insert = "INSERT INTO sales.u SELECT * FROM sales.u".to_owned();
    let mut prepared = client.prepare(insert, None).await.unwrap();
    for changed in [2, 4] {
        assert_eq!(prepared.execute_update().await.unwrap(), changed);
    }
    let wrong = client.execute_update("INSERT INTO sales.u VALUES (1)".to_owned(), None);
    let error = wrong.await.unwrap_err().to_string();
    assert!(error.contains("1 values"), "{error}");
    // A result is fetched once: a statement that changes rows does so once.
    let insert = "INSERT INTO sales.u VALUES (9, 'z')".to_owned();
    let info = client.execute(insert, None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    fetch(&mut client, info).await;
    assert!(client.do_get(ticket).await.is_err());
    let count = run(&mut client, "SELECT count(*) FROM sales.u").await;
    assert_eq!(count, ["9"]);
    cluster.stop().await;
}
