//! The calls of Arrow's JDBC driver, in its order: every statement is prepared, whether it changes
//! something is told from the dataset schema, all endpoints are opened before one is read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, UInt32Type};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetSqlInfo, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, DoPutUpdateResult,
    ProstMessageExt,
};
use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use inshore_testkit::flight::{Raw, act, descriptor, raw};
use inshore_testkit::{Cluster, Lake};
use prost::Message;

/// The driver has nothing to show for it, and asks for the number of its transactions' levels.
const LEFT_OUT: u32 = 562;

async fn prepare(client: &mut Raw, sql: &str) -> ActionCreatePreparedStatementResult {
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let body = request.as_any().encode_to_vec();
    let answer = act(client, "CreatePreparedStatement", body).await.unwrap();
    let any = Any::decode(&*answer).unwrap();
    any.unpack().unwrap().unwrap()
}

/// As the driver reads it: no bytes are no columns.
fn schema_of(bytes: &[u8]) -> Schema {
    match bytes.is_empty() {
        true => Schema::empty(),
        false => try_schema_from_ipc_buffer(bytes).unwrap(),
    }
}

async fn close(client: &mut Raw, handle: Bytes) {
    let request = ActionClosePreparedStatementRequest {
        prepared_statement_handle: handle,
    };
    let body = request.as_any().encode_to_vec();
    act(client, "ClosePreparedStatement", body).await.unwrap();
}

/// Asks for a result, opens all its endpoints, and then reads them.
async fn results(client: &mut Raw, asked: FlightDescriptor) -> (Schema, Vec<RecordBatch>) {
    let info = client.get_flight_info(asked).await.unwrap().into_inner();
    let announced = schema_of(&info.schema);
    let mut opened = Vec::new();
    for endpoint in info.endpoint {
        let stream = client.do_get(endpoint.ticket.unwrap()).await.unwrap();
        opened.push(stream.into_inner());
    }
    let mut batches = Vec::new();
    for stream in opened {
        let messages = stream.map_err(|status| status.into()).boxed();
        let mut stream = FlightRecordBatchStream::new_from_flight_data(messages);
        while let Some(batch) = stream.next().await {
            batches.push(batch.unwrap());
        }
        let sent = stream.schema().expect("a stream without a schema");
        assert_eq!(sent.as_ref(), &announced);
    }
    (announced, batches)
}

/// `executeQuery`.
async fn query(client: &mut Raw, sql: &str) -> Vec<RecordBatch> {
    let prepared = prepare(client, sql).await;
    let dataset = schema_of(&prepared.dataset_schema);
    assert!(!dataset.fields().is_empty(), "{sql} was taken for a change");
    let handle = prepared.prepared_statement_handle;
    let command = CommandPreparedStatementQuery {
        prepared_statement_handle: handle.clone(),
    };
    let (announced, batches) = results(client, descriptor(&command)).await;
    assert_eq!(announced, dataset, "{sql}");
    close(client, handle).await;
    batches
}

/// `executeUpdate`: with the rows of no parameters at all, which the driver sends too.
async fn update(client: &mut Raw, sql: &str) -> i64 {
    let prepared = prepare(client, sql).await;
    let dataset = schema_of(&prepared.dataset_schema);
    assert!(dataset.fields().is_empty(), "{sql} was taken for a query");
    let handle = prepared.prepared_statement_handle;
    let command = CommandPreparedStatementUpdate {
        prepared_statement_handle: handle.clone(),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(0));
    let nothing = RecordBatch::try_new_with_options(Schema::empty().into(), vec![], &options);
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(Schema::empty().into())
        .with_flight_descriptor(Some(descriptor(&command)))
        .build(futures::stream::iter([Ok(nothing.unwrap())]));
    let messages: Vec<FlightData> = messages.try_collect().await.unwrap();
    let answers = client.do_put(futures::stream::iter(messages)).await;
    let answers: Vec<_> = answers.unwrap().into_inner().try_collect().await.unwrap();
    let result = DoPutUpdateResult::decode(answers[0].app_metadata.as_ref()).unwrap();
    close(client, handle).await;
    result.record_count
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_in_the_order_of_the_driver() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    assert_eq!(update(&mut client, "CREATE SCHEMA s").await, 0);
    let create = "CREATE TABLE s.t (id bigint NOT NULL, words varchar)";
    assert_eq!(update(&mut client, create).await, 0);
    let insert = "INSERT INTO s.t VALUES (1, 'one'), (2, NULL)";
    assert_eq!(update(&mut client, insert).await, 2);
    assert_eq!(update(&mut client, insert).await, 2);
    let rows = query(&mut client, "SELECT * FROM s.t").await;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    // Preparing alone changes nothing.
    let prepared = prepare(&mut client, insert).await;
    close(&mut client, prepared.prepared_statement_handle).await;
    assert_eq!(
        cluster.rows("SELECT count(*) FROM s.t").await.unwrap(),
        ["4"]
    );
    let nothing = query(&mut client, "SELECT id FROM s.t WHERE false").await;
    assert_eq!(nothing.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    assert_eq!(update(&mut client, "DROP TABLE s.t PURGE").await, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_driver_asks_about_the_server() {
    let lake = Lake::new().await.unwrap();
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    // All ids, those that are not ours or nobody's included, and none: which means all.
    let all: Vec<u32> = (0..=8).chain(500..=577).chain(10_000..10_003).collect();
    for info in [all, vec![]] {
        let asked = descriptor(&CommandGetSqlInfo { info });
        let (_, batches) = results(&mut client, asked).await;
        let ids = batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<UInt32Type>().values());
        let ids: Vec<u32> = ids.copied().collect();
        assert!(ids.contains(&0) && ids.contains(&500), "{ids:?}");
        assert!(!ids.contains(&LEFT_OUT));
        assert!(ids.iter().all(|id| *id < 10_000), "{ids:?}");
    }
    let command = CommandGetTables {
        include_schema: true,
        ..Default::default()
    };
    let (_, tables) = results(&mut client, descriptor(&command)).await;
    for batch in &tables {
        let schemas = batch.column_by_name("table_schema").unwrap();
        for schema in schemas.as_binary::<i32>() {
            try_schema_from_ipc_buffer(schema.unwrap()).unwrap();
        }
    }
    act(&mut client, "CloseSession", vec![]).await.unwrap();
    cluster.stop().await;
}
