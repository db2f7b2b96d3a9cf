//! Tickets, handles and polls: who may use them, how often, and for how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    PollInfo, Ticket,
};
use bytes::Bytes;
use futures::TryStreamExt;
use inshore_testkit::flight::{
    Raw, act, becomes, descriptor, fetch, info, query_id, raw, statement, ticket, with_token,
};
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(10);

/// Rows without end, as far as a test is concerned.
const ENDLESS: &str = "SELECT count(*) FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d, s.numbers e \
                       WHERE (a.id * b.id + c.id * d.id) % 7 = e.id % 5";

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name FROM generate_series(1, 100) AS s(value)";
    lake.create_table("s", "numbers", query, 2).await.unwrap();
    lake
}

fn signed(ticket: &Ticket) -> Vec<u8> {
    let any = Any::decode(&*ticket.ticket).unwrap();
    let ticket: TicketStatementQuery = any.unpack().unwrap().unwrap();
    ticket.statement_handle.to_vec()
}

fn ticket_of(handle: Vec<u8>) -> Ticket {
    let statement_handle = Bytes::from(handle);
    let ticket = TicketStatementQuery { statement_handle };
    Ticket::new(ticket.as_any().encode_to_vec())
}

async fn poll(client: &mut Raw, descriptor: FlightDescriptor) -> Result<PollInfo, Status> {
    let polled = client.poll_flight_info(descriptor).await?;
    Ok(polled.into_inner())
}

async fn count(cluster: &Cluster, table: &str) -> String {
    let sql = format!("SELECT count(*) FROM {table}");
    cluster.rows(&sql).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_was_not_given_out_is_refused() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let given = info(&mut client, "SELECT 'a secret'").await.unwrap();
    let given = ticket(&given).unwrap();
    // What the client carries does not hold the statement.
    let text = String::from_utf8_lossy(&given.ticket).into_owned();
    assert!(!text.contains("secret"), "{text}");

    let handle = signed(&given);
    let mut forged: Vec<Vec<u8>> = vec![
        vec![],
        b"SELECT 1".to_vec(),
        b"00000000-0000-0000-0000-000000000000".to_vec(),
    ];
    for at in 0..handle.len() {
        let mut changed = handle.clone();
        changed[at] ^= 1;
        forged.push(changed);
    }
    for handle in forged {
        let error = fetch(&mut client, ticket_of(handle.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{handle:?}: {error:?}");
        assert!(error.message().contains("not one of this coordinator"));
    }
    // One of another coordinator.
    let other = Cluster::start(&lake, 0).await.unwrap();
    let foreign = info(&mut raw(&other).await.unwrap(), "SELECT 1").await;
    let foreign = ticket(&foreign.unwrap()).unwrap();
    let error = fetch(&mut client, foreign).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");

    assert!(fetch(&mut client, given.clone()).await.is_ok());
    let again = fetch(&mut client, given).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    assert!(again.message().contains("run the statement again"));
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_session_cannot_use_a_ticket_or_a_handle() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut mine = raw(&cluster).await.unwrap();
    let mut other = raw(&cluster).await.unwrap();
    // The other's session exists, and that of a third one does not.
    let request = with_token(statement("SELECT 1"), "other");
    other.get_flight_info(request).await.unwrap();

    let request = with_token(statement("SELECT 1"), "mine");
    let info = mine.get_flight_info(request).await.unwrap().into_inner();
    let given = ticket(&info).unwrap();
    for token in ["other", "third"] {
        let refused = other.do_get(with_token(given.clone(), token)).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    // The same session on another connection.
    let fetched = other.do_get(with_token(given, "mine")).await;
    assert!(fetched.is_ok(), "{fetched:?}");

    let request = ActionCreatePreparedStatementRequest {
        query: "SELECT 2".to_owned(),
        transaction_id: None,
    };
    let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
    let made = mine.do_action(with_token(action, "mine")).await.unwrap();
    let made = made.into_inner().try_next().await.unwrap().unwrap();
    let made: ActionCreatePreparedStatementResult =
        Any::decode(made.body).unwrap().unpack().unwrap().unwrap();
    let prepared = CommandPreparedStatementQuery {
        prepared_statement_handle: made.prepared_statement_handle.clone(),
    };
    let refused = other
        .get_flight_info(with_token(descriptor(&prepared), "other"))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let close = ActionClosePreparedStatementRequest {
        prepared_statement_handle: made.prepared_statement_handle,
    };
    let close = Action::new("ClosePreparedStatement", close.as_any().encode_to_vec());
    let refused = other.do_action(with_token(close, "other")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let found = other
        .get_flight_info(with_token(descriptor(&prepared), "mine"))
        .await;
    assert!(found.is_ok(), "{found:?}");

    // A session takes its statements with it.
    let given = ticket(&found.unwrap().into_inner()).unwrap();
    let close = Action::new("CloseSession", vec![]);
    mine.do_action(with_token(close, "mine")).await.unwrap();
    for request in [
        other.do_get(given.clone()).await,
        other.do_get(with_token(given, "mine")).await,
    ] {
        assert!(request.is_err());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_change_runs_once() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    info(&mut client, "CREATE TABLE s.t (id bigint)")
        .await
        .unwrap();
    // Long enough for some polls.
    let insert = "INSERT INTO s.t SELECT count(*) FROM s.numbers a, s.numbers b, s.numbers c, s.numbers d \
                  WHERE (a.id * b.id + c.id) % 7 = d.id % 5 GROUP BY a.id";
    let mut polled = poll(&mut client, statement(insert)).await.unwrap();
    let first = polled.info.clone().unwrap();
    let mut polls = 1;
    let mut last = None;
    while let Some(next) = polled.flight_descriptor.clone() {
        let info = polled.info.as_ref().unwrap();
        assert!(info.endpoint.is_empty(), "{info:?}");
        assert!(polled.expiration_time.is_some());
        assert!(!String::from_utf8_lossy(&next.cmd).contains("INSERT"));
        last = Some(next.clone());
        polled = poll(&mut client, next).await.unwrap();
        polls += 1;
    }
    let ended = polled.info.unwrap();
    assert_eq!(polled.progress, Some(1.0));
    assert_eq!(ended.total_records, 100);
    assert_eq!(query_id(&ended), query_id(&first));
    assert_eq!(count(&cluster, "s.t").await, "100");
    // An answer that was lost is asked for again.
    let last = last.unwrap_or_else(|| panic!("done after {polls} poll"));
    let again = poll(&mut client, last.clone()).await.unwrap();
    assert_eq!(again.info.unwrap(), ended);
    assert!(fetch(&mut client, ticket(&ended).unwrap()).await.is_ok());
    assert_eq!(count(&cluster, "s.t").await, "100");

    // Neither forged nor of somebody else.
    let mut forged = last.clone();
    forged.cmd = forged.cmd.iter().rev().copied().collect::<Vec<_>>().into();
    let error = poll(&mut client, forged).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    let refused = client.poll_flight_info(with_token(last, "other")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);

    // A short one is done at once, and so is whatever is a query.
    let short = poll(&mut client, statement("INSERT INTO s.t VALUES (1)"));
    let short = short.await.unwrap();
    assert!(short.flight_descriptor.is_none());
    assert_eq!(short.info.unwrap().total_records, 1);
    let query = poll(&mut client, statement(ENDLESS)).await.unwrap();
    assert!(query.flight_descriptor.is_none());
    assert_eq!(query.info.unwrap().endpoint.len(), 1);
    let wrong = poll(&mut client, statement("INSERT INTO s.t VALUES ('x')")).await;
    assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_change_is_cancelled() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    info(&mut client, "CREATE TABLE s.t (id bigint)")
        .await
        .unwrap();
    let endless = format!("INSERT INTO s.t {ENDLESS}");
    let polled = poll(&mut client, statement(&endless)).await.unwrap();
    let (running, next) = (polled.info.unwrap(), polled.flight_descriptor.unwrap());
    let request = CancelFlightInfoRequest {
        info: Some(running.clone()),
    };
    let body = act(&mut client, "CancelFlightInfo", request.encode_to_vec()).await;
    let result = CancelFlightInfoResult::decode(&*body.unwrap()).unwrap();
    assert_eq!(result.status, CancelStatus::Cancelled as i32);
    let error = poll(&mut client, next).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled, "{error:?}");

    // The end of its session ends it too.
    let request = with_token(statement(&endless), "mine");
    let polled = client.poll_flight_info(request).await.unwrap().into_inner();
    let id = query_id(&polled.info.unwrap());
    let close = Action::new("CloseSession", vec![]);
    client.do_action(with_token(close, "mine")).await.unwrap();
    let state = format!("SELECT state FROM system.queries WHERE query_id = '{id}'");
    becomes(&cluster, &state, &["CANCELLED"], PATIENCE)
        .await
        .unwrap();
    assert_eq!(count(&cluster, "s.t").await, "0");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_cancelled_is_not_fetched() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let promised = info(&mut client, "SELECT 1").await.unwrap();
    let id = query_id(&promised);
    cluster.rows(&format!("KILL '{id}'")).await.unwrap();
    let state = format!("SELECT state FROM system.queries WHERE query_id = '{id}'");
    assert_eq!(cluster.rows(&state).await.unwrap(), ["CANCELLED"]);
    let error = fetch(&mut client, ticket(&promised).unwrap()).await;
    assert_eq!(error.unwrap_err().code(), Code::Cancelled);
    assert_eq!(cluster.rows(&state).await.unwrap(), ["CANCELLED"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn system_tables_tell_who_does_what() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 2).await.unwrap();
    let channel = tonic::transport::Endpoint::from_shared(cluster.address()).unwrap();
    let channel = channel.user_agent("a-driver/7").unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.handshake("ann", "a password").await.unwrap();
    let sql = "SELECT name, count(*) FROM s.numbers GROUP BY name".to_owned();
    let info = client.execute(sql, None).await.unwrap();
    let id = query_id(&info);
    let about =
        format!("SELECT user_name, state, progress FROM system.queries WHERE query_id = '{id}'");
    assert_eq!(cluster.rows(&about).await.unwrap(), ["ann|PLANNED|0.0"]);
    let stream = client.do_get(ticket(&info).unwrap()).await.unwrap();
    let rows: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(
        rows.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        100
    );
    assert_eq!(cluster.rows(&about).await.unwrap(), ["ann|FINISHED|1.0"]);

    let session = "SELECT user_name, client_address LIKE '127.0.0.1:%', client_name LIKE 'a-driver/7%' \
                   FROM system.sessions WHERE user_name IS NOT NULL";
    assert_eq!(cluster.rows(session).await.unwrap(), ["ann|true|true"]);

    // Every task with what it did: the stage that reads hands its groups on.
    let tasks = format!(
        "SELECT count(*) > 2, count(worker) = count(*) - 1, count(rows) = count(*), min(state), \
         sum(CASE WHEN stage = 0 THEN rows END) FROM system.tasks WHERE query_id = '{id}'"
    );
    becomes(&cluster, &tasks, &["true|true|true|FINISHED|100"], PATIENCE)
        .await
        .unwrap();
    let read = format!(
        "SELECT sum(t.bytes_read) = min(q.bytes_read), sum(t.bytes_read) > 0, \
         sum(t.bytes_received) = min(q.bytes_exchanged) \
         FROM system.tasks t JOIN system.queries q ON t.query_id = q.query_id WHERE t.query_id = '{id}'"
    );
    assert_eq!(cluster.rows(&read).await.unwrap(), ["true|true|true"]);
    cluster.stop().await;
}
