//! Rows that clients send into tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    CommandStatementIngest, ProstMessageExt, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::{FlightData, FlightDescriptor};
use futures::{StreamExt, TryStreamExt};
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use prost::bytes::Bytes;
use tonic::transport::Endpoint;

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id FROM generate_series(1, 10) AS s(value)";
    lake.create_table("s", "numbers", query, 1).await.unwrap();
    lake
}

fn command(
    table: &str,
    if_not_exist: TableNotExistOption,
    if_exists: TableExistsOption,
) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_not_exist as i32,
            if_exists: if_exists as i32,
        }),
        table: table.to_owned(),
        schema: Some("s".to_owned()),
        ..CommandStatementIngest::default()
    }
}

fn created(table: &str) -> CommandStatementIngest {
    command(table, TableNotExistOption::Create, TableExistsOption::Fail)
}

fn appended(table: &str) -> CommandStatementIngest {
    command(table, TableNotExistOption::Fail, TableExistsOption::Append)
}

fn batch(from: i64, rows: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
    let names = (from..from + rows).map(|id| format!("n{id}"));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
}

async fn ingest(
    cluster: &Cluster,
    command: CommandStatementIngest,
    batches: Vec<RecordBatch>,
) -> Result<i64, String> {
    let mut client = cluster.client().await.unwrap();
    let stream = futures::stream::iter(batches.into_iter().map(Ok));
    let rows = client.execute_ingest(command, stream).await;
    rows.map_err(|error| error.to_string())
}

async fn one(cluster: &Cluster, sql: &str) -> String {
    cluster.rows(sql).await.unwrap().join(", ")
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_added_to_and_replaced() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let batches = (0..10).map(|n| batch(n * 1000, 1000)).collect();
    assert_eq!(
        ingest(&cluster, created("t"), batches).await.unwrap(),
        10_000
    );
    let sum = "SELECT count(*), sum(id), count(DISTINCT name) FROM s.t";
    assert_eq!(one(&cluster, sum).await, "10000|49995000|10000");
    let snapshots = "SELECT count(*) FROM s.\"t$snapshots\"";
    assert_eq!(one(&cluster, snapshots).await, "1");
    let error = ingest(&cluster, created("t"), vec![batch(0, 1)])
        .await
        .unwrap_err();
    assert!(error.contains("exists already"), "{error}");

    // By name, in another order, with other types, and with what does not come.
    cluster
        .rows("ALTER TABLE s.t ADD COLUMN note varchar")
        .await
        .unwrap();
    let names: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
    let ids: ArrayRef = Arc::new(Int32Array::from(vec![-1, -2]));
    let rows = RecordBatch::try_from_iter([("name", Arc::new(names) as ArrayRef), ("id", ids)]);
    assert_eq!(
        ingest(&cluster, appended("t"), vec![rows.unwrap()])
            .await
            .unwrap(),
        2
    );
    let found = one(&cluster, "SELECT * FROM s.t WHERE id < 0").await;
    assert_eq!(found, "-1|x|NULL, -2|y|NULL");
    assert_eq!(one(&cluster, snapshots).await, "2");

    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let wrong = RecordBatch::try_from_iter([("idd", Arc::clone(&ids))]).unwrap();
    let error = ingest(&cluster, appended("t"), vec![wrong])
        .await
        .unwrap_err();
    assert!(
        error.contains("no column idd") && error.contains("did you mean id"),
        "{error}"
    );
    let error = ingest(&cluster, appended("nowhere"), vec![batch(0, 1)])
        .await
        .unwrap_err();
    assert!(error.contains("not found"), "{error}");

    let replace = command("t", TableNotExistOption::Create, TableExistsOption::Replace);
    let other = RecordBatch::try_from_iter([("other", ids)]).unwrap();
    assert_eq!(
        ingest(&cluster, replace.clone(), vec![other])
            .await
            .unwrap(),
        1
    );
    assert_eq!(one(&cluster, "SELECT * FROM s.t").await, "1");
    assert_eq!(one(&cluster, snapshots).await, "3");
    let new = CommandStatementIngest {
        table: "new".to_owned(),
        ..replace
    };
    assert_eq!(ingest(&cluster, new, vec![batch(0, 3)]).await.unwrap(), 3);
    let either = command(
        "new",
        TableNotExistOption::Create,
        TableExistsOption::Append,
    );
    assert_eq!(
        ingest(&cluster, either, vec![batch(3, 3)]).await.unwrap(),
        3
    );
    assert_eq!(one(&cluster, "SELECT count(*) FROM s.new").await, "6");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_where_the_table_wants_them() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    for mode in ["hash", "range"] {
        let table = format!(
            "CREATE TABLE s.{mode} (id int, name varchar) PARTITIONED BY (bucket(4, id)) \
             TBLPROPERTIES ('write.distribution-mode' = '{mode}')"
        );
        cluster.rows(&table).await.unwrap();
        let order = format!("ALTER TABLE s.{mode} WRITE ORDERED BY name");
        cluster.rows(&order).await.unwrap();
        let batches = (0..4).map(|n| batch(n * 1000, 1000)).collect();
        assert_eq!(
            ingest(&cluster, appended(mode), batches).await.unwrap(),
            4000
        );
        let counts =
            format!("SELECT count(*), count(DISTINCT id) FROM s.{mode} WHERE name = 'n' || id");
        assert_eq!(one(&cluster, &counts).await, "4000|4000");
        let partitions = format!("SELECT count(*) FROM s.\"{mode}$partitions\"");
        assert_eq!(one(&cluster, &partitions).await, "4");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_heeded_is_refused() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let temporary = CommandStatementIngest {
        temporary: true,
        ..created("t")
    };
    let transaction = CommandStatementIngest {
        transaction_id: Some(Bytes::from_static(b"1")),
        ..created("t")
    };
    let options = CommandStatementIngest {
        options: [("speed".to_owned(), "high".to_owned())].into(),
        ..created("t")
    };
    let unspecified = CommandStatementIngest {
        table_definition_options: None,
        ..created("t")
    };
    let catalog = CommandStatementIngest {
        catalog: Some("nowhere".to_owned()),
        ..created("t")
    };
    for (command, part) in [
        (temporary, "temporary"),
        (transaction, "transactions"),
        (options, "speed"),
        (unspecified, "does not exist"),
        (catalog, "nowhere"),
        (created(""), "no name"),
    ] {
        let error = ingest(&cluster, command, vec![batch(0, 1)])
            .await
            .unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
    let numbers = "SELECT count(*) FROM s.numbers";
    assert_eq!(one(&cluster, numbers).await, "10");
    cluster.stop().await;
}

/// Data files below a folder, unfinished ones too.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => files(&path),
            false => usize::from(path.to_string_lossy().contains(".parquet")),
        })
        .sum()
}

async fn messages(command: &CommandStatementIngest, batches: i64) -> Vec<FlightData> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let rows = futures::stream::iter((0..batches).map(|n| Ok(batch(n * 1000, 1000))));
    FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(rows)
        .try_collect()
        .await
        .unwrap()
}

const RUNNING: &str =
    "SELECT count(*) FROM system.queries WHERE sql LIKE 'INGEST%' AND state = 'RUNNING'";

/// Waits until nothing is written any more, and nothing is left of it.
async fn ended(cluster: &Cluster, folder: &Path, before: usize) {
    for _ in 0..100 {
        if one(cluster, RUNNING).await == "0" && files(folder) == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "{} running, {} files of {before}",
        one(cluster, RUNNING).await,
        files(folder)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_leaves_nothing() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster
        .rows("CREATE TABLE s.t (id bigint, name varchar)")
        .await
        .unwrap();
    let folder = lake.folder().join("warehouse");
    let before = files(&folder);
    // Some rows come, and then the client goes away: with its request, or with its connection.
    for (command, batches) in [(appended("t"), 50), (created("u"), 50), (appended("t"), 1)] {
        for with_connection in [true, false] {
            let (written, waits) = tokio::sync::oneshot::channel();
            let sent = messages(&command, batches).await;
            let sent = futures::stream::iter(sent).chain(futures::stream::once(async move {
                // Asked for when all before has been sent.
                let _ = written.send(());
                futures::future::pending().await
            }));
            let endpoint = Endpoint::from_shared(cluster.address()).unwrap();
            let mut client = FlightServiceClient::new(endpoint.connect().await.unwrap());
            let other = client.clone();
            let request = tokio::spawn(async move { client.do_put(sent).await });
            waits.await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!request.is_finished());
            assert_eq!(one(&cluster, RUNNING).await, "1");
            match with_connection {
                true => drop(other),
                false => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        drop(other);
                    });
                }
            }
            request.abort();
            ended(&cluster, &folder, before).await;
        }
    }
    assert_eq!(one(&cluster, "SELECT count(*) FROM s.t").await, "0");
    assert_eq!(
        one(&cluster, "SELECT count(*) FROM s.\"t$snapshots\"").await,
        "0"
    );
    assert!(cluster.rows("SELECT * FROM s.u").await.is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_add_rows_at_once() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    assert_eq!(
        ingest(&cluster, created("t"), vec![batch(0, 1)])
            .await
            .unwrap(),
        1
    );
    let puts = (1..=4).map(|n| ingest(&cluster, appended("t"), vec![batch(n * 1000, 500)]));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap(), 500);
    }
    assert_eq!(
        one(&cluster, "SELECT count(*), count(DISTINCT id) FROM s.t").await,
        "2001|2001"
    );
    assert_eq!(
        one(&cluster, "SELECT count(*) FROM s.\"t$snapshots\"").await,
        "5"
    );
    // A value that does not fit stops all of its rows.
    cluster
        .rows("CREATE TABLE s.narrow (id int)")
        .await
        .unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40]));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    assert!(
        ingest(&cluster, appended("narrow"), vec![rows])
            .await
            .is_err()
    );
    assert_eq!(one(&cluster, "SELECT count(*) FROM s.narrow").await, "0");
    cluster.stop().await;
}
