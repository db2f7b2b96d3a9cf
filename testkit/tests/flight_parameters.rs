//! Prepared statements with parameters, as clients use them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, NullArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Schema};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::{FlightSqlServiceClient, PreparedStatement};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementSubstraitPlan,
    CommandStatementUpdate, DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use futures::TryStreamExt;
use inshore_testkit::{Cluster, Lake, rows};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

type Client = FlightSqlServiceClient<Channel>;
type Raw = FlightServiceClient<Channel>;

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name, value * 0.5 AS half, \
                 DATE '2024-01-01' + CAST(value % 10 AS int) AS day \
                 FROM generate_series(1, 1000) AS s(value)";
    lake.create_table("s", "t", query, 2).await.unwrap();
    lake
}

async fn raw(cluster: &Cluster) -> Raw {
    let endpoint = Endpoint::from_shared(cluster.address()).unwrap();
    FlightServiceClient::new(endpoint.connect().await.unwrap())
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let columns = columns.into_iter().enumerate();
    RecordBatch::try_from_iter_with_nullable(
        columns.map(|(place, column)| (format!("c{place}"), column, true)),
    )
    .unwrap()
}

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn types(schema: &Schema) -> Vec<(String, DataType)> {
    let fields = schema.fields().iter();
    fields
        .map(|field| {
            assert!(field.is_nullable());
            (field.name().clone(), field.data_type().clone())
        })
        .collect()
}

/// Executes with values; the rows in the order in which they come.
async fn executed(
    client: &mut Client,
    prepared: &mut PreparedStatement<Channel>,
    values: Option<RecordBatch>,
) -> Result<Vec<String>, String> {
    if let Some(values) = values {
        prepared.set_parameters(values).unwrap();
    }
    let info = prepared.execute().await.map_err(|e| e.to_string())?;
    let announced = info.clone().try_decode_schema().unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.map_err(|e| e.to_string())?;
    let mut batches = vec![];
    while let Some(batch) = stream.try_next().await.map_err(|e| e.to_string())? {
        batches.push(batch);
    }
    assert_eq!(&announced, stream.schema().unwrap().as_ref());
    Ok(rows::in_order(&batches).unwrap())
}

async fn with(
    client: &mut Client,
    sql: &str,
    values: Vec<ArrayRef>,
) -> Result<Vec<String>, String> {
    let prepared = client.prepare(sql.to_owned(), None).await;
    let mut prepared = prepared.map_err(|e| e.to_string())?;
    executed(client, &mut prepared, Some(batch(values))).await
}

async fn snapshots(cluster: &Cluster, table: &str) -> String {
    let sql = format!("SELECT count(*) FROM s.\"{table}$snapshots\"");
    cluster.rows(&sql).await.unwrap().remove(0)
}

async fn count(cluster: &Cluster, table: &str) -> String {
    let sql = format!("SELECT count(*) FROM s.{table}");
    cluster.rows(&sql).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_get_types_from_their_use() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    use DataType::{Date32, Int64, Utf8};
    for (sql, expected, columns) in [
        (
            "SELECT * FROM s.t WHERE id = ? AND name LIKE ?",
            vec![Int64, Utf8],
            4,
        ),
        (
            "SELECT id FROM s.t WHERE ? = id AND day BETWEEN ? AND ?",
            vec![Int64, Date32, Date32],
            1,
        ),
        (
            "SELECT id FROM s.t WHERE name IN (?, 'a') LIMIT ? OFFSET ?",
            vec![Utf8, Int64, Int64],
            1,
        ),
        ("SELECT ? AS x", vec![Utf8], 1),
        ("SELECT CAST(? AS date) AS x", vec![Date32], 1),
        (
            "SELECT id FROM s.t WHERE id > $1 OR id < $1",
            vec![Int64],
            1,
        ),
        // `$2` comes before `$10`, and those in between that are not used count too.
        (
            "SELECT id FROM s.t WHERE id = $10 AND name = $2",
            vec![Utf8, Utf8, Utf8, Utf8, Utf8, Utf8, Utf8, Utf8, Utf8, Int64],
            1,
        ),
        (
            "INSERT INTO s.t VALUES (?, ?, 1, ?)",
            vec![Int64, Utf8, Date32],
            0,
        ),
        (
            "INSERT INTO s.t (day, id) VALUES (?, ?)",
            vec![Date32, Int64],
            0,
        ),
        (
            "INSERT INTO s.t (id, day) SELECT ?, ?",
            vec![Int64, Date32],
            0,
        ),
        (
            "CREATE TABLE s.u AS SELECT * FROM s.t WHERE id = ?",
            vec![Int64],
            0,
        ),
        ("EXPLAIN SELECT * FROM s.t WHERE id = ?", vec![Int64], 2),
        ("SELECT '?', \"id\", 1 /* ? */ FROM s.t -- ?", vec![], 3),
    ] {
        let prepared = client.prepare(sql.to_owned(), None).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let expected = expected.into_iter().enumerate();
        let expected: Vec<_> = expected
            .map(|(place, ty)| (format!("${}", place + 1), ty))
            .collect();
        assert_eq!(
            types(prepared.parameter_schema().unwrap()),
            expected,
            "{sql}"
        );
        assert_eq!(
            prepared.dataset_schema().unwrap().fields().len(),
            columns,
            "{sql}"
        );
    }
    // What nothing is known of has some type that the statement can be planned with.
    for sql in [
        "SELECT abs(?)",
        "SELECT date_trunc('day', ?)",
        "SELECT ? + ?",
    ] {
        let prepared = client.prepare(sql.to_owned(), None).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(
            !types(prepared.parameter_schema().unwrap()).is_empty(),
            "{sql}"
        );
    }
    for (sql, part) in [
        ("SELECT ? + $1", "either all ? or all"),
        ("SELECT :name", "no parameter"),
        ("SELECT $0", "no parameter"),
        ("CREATE VIEW s.v AS SELECT ?", "parameters are supported in"),
        ("SELECT nothing FROM s.t WHERE id = ?", "nothing"),
    ] {
        let Err(error) = client.prepare(sql.to_owned(), None).await else {
            panic!("{sql} is prepared");
        };
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_arrive() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let day: ArrayRef = Arc::new(Date32Array::from(vec![19_726]));
    let found = with(
        &mut client,
        "SELECT count(*) FROM s.t WHERE day = ?",
        vec![day],
    );
    assert_eq!(found.await.unwrap(), ["100"]);
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["n7"]));
    let found = with(&mut client, "SELECT id FROM s.t WHERE name = ?", vec![view]);
    assert_eq!(found.await.unwrap(), ["7"]);
    // Texts where numbers and dates are wanted, and the other way round.
    let values = vec![texts(&["7"]), texts(&["2024-01-08"])];
    let found = with(
        &mut client,
        "SELECT name FROM s.t WHERE id = ? AND day = ?",
        values,
    );
    assert_eq!(found.await.unwrap(), ["n7"]);
    let found = with(&mut client, "SELECT 'x' || ?", vec![ints([7])]);
    assert_eq!(found.await.unwrap(), ["x7"]);
    // Limits, as narrow numbers and as texts.
    let sql = "SELECT id FROM s.t ORDER BY id LIMIT ? OFFSET ?";
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![2]));
    let found = with(&mut client, sql, vec![narrow, texts(&["3"])]).await;
    assert_eq!(found.unwrap(), ["4", "5"]);

    let decimal = Decimal128Array::from(vec![12_345]).with_precision_and_scale(10, 2);
    let zoned = TimestampMicrosecondArray::from(vec![0]).with_timezone("+02:00");
    let values: Vec<ArrayRef> = vec![
        Arc::new(decimal.unwrap()),
        Arc::new(zoned),
        Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Float64Array::from(vec![f64::NAN])),
        Arc::new(NullArray::new(1)),
    ];
    let found = with(&mut client, "SELECT ?, ?, ?, ?, ?, ?", values).await;
    assert_eq!(
        found.unwrap(),
        ["123.45|1970-01-01T02:00:00+02:00|00ff|true|NaN|NULL"]
    );
    let nothing: ArrayRef = Arc::new(NullArray::new(1));
    let values = vec![Arc::clone(&nothing), nothing];
    let found = with(
        &mut client,
        "SELECT abs(?), count(*) FROM s.t WHERE id = ? GROUP BY 1",
        values,
    );
    assert!(found.await.unwrap().is_empty());
    // One value in several places, among them a group and an order.
    let sql = "SELECT id % $1, count(*) FROM s.t WHERE id > $1 GROUP BY id % $1 ORDER BY id % $1";
    let found = with(&mut client, sql, vec![ints([500])]).await.unwrap();
    assert_eq!(found[..2], ["0|1", "1|1"]);
    let tenth: Vec<ArrayRef> = (1..=10).map(|n| ints([n])).collect();
    let found = with(&mut client, "SELECT $10, $2", tenth).await;
    assert_eq!(found.unwrap(), ["10|2"]);
    let sql = "SELECT x FROM (SELECT id AS x FROM s.t WHERE id <= ?) q WHERE x IN \
               (SELECT id FROM s.t WHERE id > ?) ORDER BY 1";
    let found = with(&mut client, sql, vec![ints([5]), ints([3])]).await;
    assert_eq!(found.unwrap(), ["4", "5"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_to_be_there_and_to_fit() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let sql = "SELECT id FROM s.t WHERE id = ? AND name = ?";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let error = executed(&mut client, &mut prepared, None)
        .await
        .unwrap_err();
    assert!(error.contains("$1, $2"), "{error}");
    let plain = client
        .execute(sql.to_owned(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(plain.contains("$1, $2"), "{plain}");
    for columns in [vec![ints([1])], vec![ints([1]), texts(&["x"]), ints([1])]] {
        let found = columns.len();
        let error = with(&mut client, sql, columns).await.unwrap_err();
        let expected = format!("2 parameters, and there are values for {found}");
        assert!(error.contains(&expected), "{error}");
    }
    let list =
        arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(vec![
            Some(vec![Some(1)]),
        ]);
    let error = with(&mut client, sql, vec![Arc::new(list), texts(&["x"])])
        .await
        .unwrap_err();
    assert!(error.contains("parameter $1 is of type"), "{error}");
    let error = with(&mut client, "SELECT 1 LIMIT ?", vec![texts(&["x"])])
        .await
        .unwrap_err();
    assert!(error.contains("parameter $1"), "{error}");
    let error = with(&mut client, "SELECT 1", vec![ints([1])])
        .await
        .unwrap_err();
    assert!(error.contains("0 parameters"), "{error}");

    // Other values for the same statement.
    let values = batch(vec![ints([5]), texts(&["n5"])]);
    assert_eq!(
        executed(&mut client, &mut prepared, Some(values))
            .await
            .unwrap(),
        ["5"]
    );
    let values = batch(vec![ints([6]), texts(&["n6"])]);
    assert_eq!(
        executed(&mut client, &mut prepared, Some(values))
            .await
            .unwrap(),
        ["6"]
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_the_rows_for_all_values() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = cluster.client().await.unwrap();
    let sql = "SELECT ? AS q, id FROM s.t WHERE id <= ? ORDER BY id";
    let values = vec![texts(&["b", "a", "c"]), ints([2, 1, 0])];
    let found = with(&mut client, sql, values).await.unwrap();
    assert_eq!(found, ["b|1", "b|2", "a|1"]);
    let none = with(&mut client, sql, vec![texts(&[]), ints([])]).await;
    assert!(none.unwrap().is_empty());
    let many = with(&mut client, "SELECT ?", vec![ints(0..1001)])
        .await
        .unwrap_err();
    assert!(many.contains("1000 rows of values"), "{many}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_values_are_one_commit() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    cluster
        .rows("CREATE TABLE s.w (id bigint, name varchar, n int)")
        .await
        .unwrap();
    let mut client = cluster.client().await.unwrap();
    let mut raw = raw(&cluster).await;

    let insert = "INSERT INTO s.w VALUES (?, upper(?), 7)";
    let handle = prepare(&mut raw, insert).await;
    let values = batch(vec![
        ints(0..5000),
        Arc::new(StringArray::from_iter_values(
            (0..5000).map(|n| format!("x{n}")),
        )),
    ]);
    assert_eq!(
        put_update(&mut raw, &handle, Some(values)).await.unwrap(),
        5000
    );
    assert_eq!(snapshots(&cluster, "w").await, "1");
    let found = cluster
        .rows("SELECT count(*), count(DISTINCT id), min(name), min(n) FROM s.w")
        .await;
    assert_eq!(found.unwrap(), ["5000|5000|X0|7"]);

    // Bound first, then run: as older clients do.
    let mut prepared = client.prepare(insert.to_owned(), None).await.unwrap();
    prepared
        .set_parameters(batch(vec![ints([-1, -2, -3]), texts(&["a", "b", "c"])]))
        .unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 3);
    assert_eq!(snapshots(&cluster, "w").await, "2");
    // As a query: ADBC and JDBC run changes so, too.
    prepared
        .set_parameters(batch(vec![ints([-4, -5]), texts(&["d", "e"])]))
        .unwrap();
    assert_eq!(prepared.execute().await.unwrap().total_records, 2);
    assert_eq!(snapshots(&cluster, "w").await, "3");
    assert_eq!(count(&cluster, "w").await, "5005");

    // Several rows in VALUES, columns that are left out, constants between.
    let handle = prepare(
        &mut raw,
        "INSERT INTO s.w (name, id) VALUES ($1, $2), ('k', -$2)",
    )
    .await;
    let values = batch(vec![texts(&["p", "q"]), ints([9001, 9002])]);
    assert_eq!(
        put_update(&mut raw, &handle, Some(values)).await.unwrap(),
        4
    );
    assert_eq!(snapshots(&cluster, "w").await, "4");
    let found = cluster
        .rows("SELECT * FROM s.w WHERE abs(id) > 9000")
        .await
        .unwrap();
    assert_eq!(
        found,
        ["-9001|k|NULL", "-9002|k|NULL", "9001|p|NULL", "9002|q|NULL"]
    );

    // One row at a time where there is more to a statement than VALUES.
    let handle = prepare(
        &mut raw,
        "INSERT INTO s.w (id) SELECT id FROM s.t WHERE id <= ?",
    )
    .await;
    let values = batch(vec![ints([1, 2])]);
    assert_eq!(
        put_update(&mut raw, &handle, Some(values)).await.unwrap(),
        3
    );
    assert_eq!(snapshots(&cluster, "w").await, "6");
    // Without parameters: once.
    let handle = prepare(&mut raw, "INSERT INTO s.w (id) VALUES (1)").await;
    assert_eq!(put_update(&mut raw, &handle, None).await.unwrap(), 1);
    assert_eq!(snapshots(&cluster, "w").await, "7");

    // For no row nothing is run.
    let handle = prepare(&mut raw, insert).await;
    let none = batch(vec![ints([]), texts(&[])]);
    assert_eq!(
        put_update(&mut raw, &handle, Some(none.clone()))
            .await
            .unwrap(),
        0
    );
    let mut prepared = client.prepare(insert.to_owned(), None).await.unwrap();
    prepared.set_parameters(none).unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 0);
    assert_eq!(snapshots(&cluster, "w").await, "7");

    // A value that does not fit leaves nothing.
    let handle = prepare(&mut raw, "INSERT INTO s.w (n) VALUES (?)").await;
    let values = batch(vec![ints([1, 1 << 40])]);
    let error = put_update(&mut raw, &handle, Some(values))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    let missing = put_update(&mut raw, &handle, None).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument, "{missing:?}");
    assert_eq!(snapshots(&cluster, "w").await, "7");

    // A table of the rows of a query with values.
    let mut prepared = client
        .prepare(
            "CREATE TABLE s.made AS SELECT id, ? AS label FROM s.t WHERE id < ?".to_owned(),
            None,
        )
        .await
        .unwrap();
    prepared
        .set_parameters(batch(vec![texts(&["l"]), ints([3])]))
        .unwrap();
    assert_eq!(prepared.execute_update().await.unwrap(), 2);
    assert_eq!(
        cluster.rows("SELECT * FROM s.made").await.unwrap(),
        ["1|l", "2|l"]
    );
    cluster.stop().await;
}

async fn prepare(client: &mut Raw, sql: &str) -> Bytes {
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let results = client.do_action(action).await.unwrap().into_inner();
    let results: Vec<_> = results.try_collect().await.unwrap();
    let any = Any::decode(&*results[0].body).unwrap();
    let result: ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    result.prepared_statement_handle
}

async fn messages(command: &impl ProstMessageExt, values: Option<RecordBatch>) -> Vec<FlightData> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    match values {
        None => vec![FlightData {
            flight_descriptor: Some(descriptor),
            ..FlightData::default()
        }],
        Some(values) => FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(descriptor))
            .build(futures::stream::iter([Ok(values)]))
            .try_collect()
            .await
            .unwrap(),
    }
}

async fn put_update(
    client: &mut Raw,
    handle: &Bytes,
    values: Option<RecordBatch>,
) -> Result<i64, tonic::Status> {
    let command = CommandPreparedStatementUpdate {
        prepared_statement_handle: handle.clone(),
    };
    let messages = messages(&command, values).await;
    let results = client.do_put(futures::stream::iter(messages)).await?;
    let results: Vec<_> = results.into_inner().try_collect().await?;
    let result = DoPutUpdateResult::decode(&*results[0].app_metadata).unwrap();
    Ok(result.record_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_handle_is_run_under_either_name() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await;
    let handle = prepare(&mut client, "SELECT name FROM s.t WHERE id = ?").await;
    let command = CommandPreparedStatementQuery {
        prepared_statement_handle: handle.clone(),
    };
    let messages = messages(&command, Some(batch(vec![ints([42])]))).await;
    let results = client
        .do_put(futures::stream::iter(messages))
        .await
        .unwrap();
    let results: Vec<_> = results.into_inner().try_collect().await.unwrap();
    let result = DoPutPreparedStatementResult::decode(&*results[0].app_metadata).unwrap();
    for handle in [handle, result.prepared_statement_handle.unwrap()] {
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle,
        };
        let command = command.as_any().encode_to_vec();
        let info = client
            .get_flight_info(FlightDescriptor::new_cmd(command.clone()))
            .await;
        let ticket = info.unwrap().into_inner().endpoint[0]
            .ticket
            .clone()
            .unwrap();
        // The command itself is a ticket as well.
        for ticket in [ticket, Ticket::new(command)] {
            let stream = client.do_get(ticket).await.unwrap().into_inner();
            let stream = stream.map_err(Into::into);
            let stream =
                arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(stream);
            let batches: Vec<_> = stream.try_collect().await.unwrap();
            assert_eq!(rows::sorted(&batches).unwrap(), ["n42"]);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_substrait_are_refused() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await;
    let transaction_id = Some(Bytes::from_static(b"1"));
    let query = CommandStatementQuery {
        query: "SELECT 1".to_owned(),
        transaction_id: transaction_id.clone(),
    };
    let descriptor = FlightDescriptor::new_cmd(query.as_any().encode_to_vec());
    let error = client.get_flight_info(descriptor).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("transactions are not supported"));
    let update = CommandStatementUpdate {
        query: "CREATE TABLE s.x (id int)".to_owned(),
        transaction_id,
    };
    let messages_of_update = messages(&update, None).await;
    let error = client
        .do_put(futures::stream::iter(messages_of_update))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let action = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
    for kind in [
        "BeginTransaction",
        "BeginSavepoint",
        "CreatePreparedSubstraitPlan",
    ] {
        let error = client
            .do_action(Action::new(kind, action.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{kind}");
        assert!(error.message().contains("not supported"), "{error:?}");
    }
    let plan = CommandStatementSubstraitPlan {
        plan: None,
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(plan.as_any().encode_to_vec());
    let error = client
        .get_flight_info(descriptor.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("Substrait"), "{error:?}");
    let messages_of_plan = messages(&plan, None).await;
    let error = client
        .do_put(futures::stream::iter(messages_of_plan))
        .await
        .unwrap_err();
    assert!(error.message().contains("Substrait"), "{error:?}");
    cluster.stop().await;
}
