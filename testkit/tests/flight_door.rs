//! What clients ask of the door beside running statements, and statements that run exactly once
//! whichever way they come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetCatalogs, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty,
    FlightDescriptor, FlightInfo, IpcMessage, SchemaResult,
};
use futures::TryStreamExt;
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

type Raw = FlightServiceClient<Channel>;

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name FROM generate_series(1, 100) AS s(value)";
    lake.create_table("s", "numbers", query, 1).await.unwrap();
    lake
}

async fn raw(cluster: &Cluster) -> Raw {
    let endpoint = Endpoint::from_shared(cluster.address()).unwrap();
    FlightServiceClient::new(endpoint.connect().await.unwrap())
}

fn descriptor(command: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn statement(sql: &str) -> FlightDescriptor {
    descriptor(&CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    })
}

async fn info(client: &mut Raw, sql: &str) -> FlightInfo {
    let info = client.get_flight_info(statement(sql)).await;
    info.unwrap().into_inner()
}

fn names(schema: SchemaResult) -> Vec<String> {
    let schema = arrow::datatypes::Schema::try_from(&schema).unwrap();
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

async fn act(client: &mut Raw, kind: &str, body: Vec<u8>) -> Vec<u8> {
    let action = Action::new(kind, body);
    let results = client.do_action(action).await.unwrap().into_inner();
    let results: Vec<_> = results.try_collect().await.unwrap();
    results[0].body.to_vec()
}

async fn count(cluster: &Cluster, table: &str) -> String {
    let sql = format!("SELECT count(*) FROM {table}");
    cluster.rows(&sql).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_run_once_when_their_result_is_promised() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await;

    let made = info(&mut client, "CREATE TABLE s.t (id bigint)").await;
    assert_eq!(made.total_records, -1);
    // Nobody fetches these.
    let inserted = info(&mut client, "INSERT INTO s.t SELECT id FROM s.numbers").await;
    assert_eq!(inserted.total_records, 100);
    assert!(
        inserted
            .clone()
            .try_decode_schema()
            .unwrap()
            .fields()
            .is_empty()
    );
    assert_eq!(count(&cluster, "s.t").await, "100");
    // Who fetches them, once or twice, changes nothing more.
    let ticket = inserted.endpoint[0].ticket.clone().unwrap();
    let stream = client.do_get(ticket.clone()).await.unwrap().into_inner();
    assert!(stream.try_collect::<Vec<_>>().await.is_ok());
    let again = client.do_get(ticket).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    assert_eq!(count(&cluster, "s.t").await, "100");
    // Asking what it would give is no reason to run it.
    for sql in [
        "INSERT INTO s.t VALUES (1)",
        "TRUNCATE TABLE s.t",
        "DROP TABLE s.t",
    ] {
        let schema = client.get_schema(statement(sql)).await.unwrap();
        assert!(names(schema.into_inner()).is_empty(), "{sql}");
    }
    assert_eq!(count(&cluster, "s.t").await, "100");

    let failed = client.get_flight_info(statement("INSERT INTO s.t VALUES ('x')"));
    let failed = failed.await.unwrap_err();
    assert_eq!(failed.code(), Code::InvalidArgument, "{failed:?}");
    assert_eq!(count(&cluster, "s.t").await, "100");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_change_has_no_result_columns() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await;
    for (sql, columns) in [
        ("INSERT INTO s.numbers VALUES (1, 'x')", 0),
        ("CREATE TABLE s.u AS SELECT * FROM s.numbers", 0),
        ("SELECT * FROM s.numbers", 2),
    ] {
        let request = ActionCreatePreparedStatementRequest {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let body = act(
            &mut client,
            "CreatePreparedStatement",
            request.as_any().encode_to_vec(),
        )
        .await;
        let body = Any::decode(body.as_slice()).unwrap();
        let result: ActionCreatePreparedStatementResult = body.unpack().unwrap().unwrap();
        let found = match result.dataset_schema.is_empty() {
            true => 0,
            false => {
                let schema = IpcMessage(result.dataset_schema);
                let schema = arrow::datatypes::Schema::try_from(schema).unwrap();
                schema.fields().len()
            }
        };
        assert_eq!(found, columns, "{sql}");
    }
    assert_eq!(count(&cluster, "s.numbers").await, "100");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_actions_are_told() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await;
    let schema = client.get_schema(statement("SELECT id, name AS n FROM s.numbers"));
    assert_eq!(names(schema.await.unwrap().into_inner()), ["id", "n"]);
    let schema = client.get_schema(descriptor(&CommandGetCatalogs {})).await;
    assert_eq!(names(schema.unwrap().into_inner()), ["catalog_name"]);
    for (descriptor, code) in [
        (
            statement("SELECT nothing FROM s.numbers"),
            Code::InvalidArgument,
        ),
        (
            FlightDescriptor::new_cmd(vec![7, 7, 7]),
            Code::InvalidArgument,
        ),
        (
            FlightDescriptor::new_path(vec!["a".to_owned()]),
            Code::InvalidArgument,
        ),
    ] {
        let error = client.get_schema(descriptor).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
    }
    let polled = client.poll_flight_info(statement("SELECT 1")).await;
    let polled = polled.unwrap().into_inner();
    assert_eq!(polled.info.unwrap().endpoint.len(), 1);
    assert!(polled.flight_descriptor.is_none());

    let flights = client.list_flights(Criteria::default()).await.unwrap();
    assert!(
        flights
            .into_inner()
            .try_collect::<Vec<_>>()
            .await
            .unwrap()
            .is_empty()
    );
    let actions = client.list_actions(Empty {}).await.unwrap().into_inner();
    let actions: Vec<_> = actions.try_collect().await.unwrap();
    let actions: Vec<_> = actions
        .iter()
        .map(|action| action.r#type.as_str())
        .collect();
    assert!(actions.contains(&"CreatePreparedStatement"), "{actions:?}");
    assert!(!actions.contains(&"BeginTransaction"), "{actions:?}");
    cluster.stop().await;
}

/// `{ key: value }` as Flight's map of options with texts.
fn options(pairs: &[(&str, &str)]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[tag << 3 | 2, length], bytes].concat()
    };
    let pair = |(key, value): &(&str, &str)| {
        let value = field(1, value.as_bytes());
        field(1, &[field(1, key.as_bytes()), field(2, &value)].concat())
    };
    pairs.iter().flat_map(pair).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_options_of_its_own() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let (mut one, mut other) = (raw(&cluster).await, raw(&cluster).await);
    let set = options(&[("catalog", "lake"), ("schema", "s")]);
    assert!(act(&mut one, "SetSessionOptions", set).await.is_empty());
    // What cannot be set is named, with the reason: 1 is the name, 2 the value.
    for (pair, reason) in [
        (("schema", "nowhere"), 2),
        (("catalog", "nowhere"), 2),
        (("color", "blue"), 1),
        (("datafusion.execution.batch_size", "many"), 2),
    ] {
        let errors = act(&mut one, "SetSessionOptions", options(&[pair])).await;
        let name = pair.0.as_bytes();
        assert!(
            errors.windows(name.len()).any(|part| part == name),
            "{pair:?}"
        );
        assert_eq!(errors.last(), Some(&reason), "{pair:?}: {errors:?}");
    }
    let told = act(&mut one, "GetSessionOptions", vec![]).await;
    assert_eq!(
        told.len(),
        options(&[("catalog", "lake"), ("schema", "s")]).len()
    );
    assert_eq!(
        info(&mut one, "SELECT * FROM numbers").await.endpoint.len(),
        1
    );
    let error = other
        .get_flight_info(statement("SELECT * FROM numbers"))
        .await;
    assert_eq!(error.unwrap_err().code(), Code::NotFound);

    // The same session from another connection, by its cookie.
    let action = Action::new("SetSessionOptions", options(&[("schema", "s")]));
    let answer = one.do_action(action).await.unwrap();
    let cookie = answer
        .metadata()
        .get("set-cookie")
        .unwrap()
        .to_str()
        .unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let with_cookie = |sql: &str| {
        let mut request = tonic::Request::new(statement(sql));
        let value = cookie.parse().unwrap();
        request.metadata_mut().insert("cookie", value);
        request
    };
    let found = other
        .get_flight_info(with_cookie("SELECT * FROM numbers"))
        .await;
    assert!(found.is_ok(), "{found:?}");

    // 1 is "closed".
    assert_eq!(act(&mut one, "CloseSession", vec![]).await, [8, 1]);
    for request in [
        with_cookie("SELECT * FROM numbers"),
        tonic::Request::new(statement("SELECT * FROM numbers")),
    ] {
        let gone = one.get_flight_info(request).await;
        assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    }
    cluster.stop().await;
}

/// Rows without end, as far as a test is concerned.
const ENDLESS: &str = "SELECT count(*) FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e \
                       WHERE (a.id * b.id + c.id * d.id) % 7 = e.id % 5";

/// Waits until a query is in a state.
async fn becomes(cluster: &Cluster, id: &str, state: &str) {
    let sql = format!("SELECT state FROM system.queries WHERE query_id = '{id}'");
    for _ in 0..200 {
        if cluster.rows(&sql).await.unwrap() == [state] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{id} is not {state}: {:?}", cluster.rows(&sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_cancelled_from_elsewhere() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    for by_sql in [true, false] {
        let mut client = raw(&cluster).await;
        let info = info(&mut client, ENDLESS).await;
        let id = String::from_utf8(info.app_metadata.to_vec()).unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let running = tokio::spawn(async move {
            let stream = client.do_get(ticket).await?.into_inner();
            stream.try_collect::<Vec<_>>().await
        });
        becomes(&cluster, &id, "RUNNING").await;
        if by_sql {
            cluster.rows(&format!("KILL '{id}'")).await.unwrap();
        } else {
            let request = CancelFlightInfoRequest { info: Some(info) };
            let mut other = raw(&cluster).await;
            let body = act(&mut other, "CancelFlightInfo", request.encode_to_vec()).await;
            let result = CancelFlightInfoResult::decode(body.as_slice()).unwrap();
            assert_eq!(result.status, CancelStatus::Cancelled as i32);
        }
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), running).await;
        let error = ended.expect("it goes on").unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Cancelled, "{error:?}");
        becomes(&cluster, &id, "CANCELLED").await;
        // Once more is no error, and changes nothing.
        cluster.rows(&format!("KILL QUERY '{id}'")).await.unwrap();
    }
    let error = cluster
        .rows("KILL 'nothing'")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no query nothing"), "{error}");
    let sessions = "SELECT count(*) > 0, min(catalog) FROM system.sessions";
    assert_eq!(cluster.rows(sessions).await.unwrap(), ["true|lake"]);
    cluster.stop().await;
}
