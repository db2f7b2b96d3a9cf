//! Bounds of the door, and requests that no client should send. The server lives on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionCancelQueryRequest, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedSubstraitPlanRequest,
    ActionEndTransactionRequest, Any, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, Ticket,
};
use bytes::Bytes;
use futures::TryStreamExt;
use inshore_coordinator::Topology;
use inshore_testkit::cluster::{forced, options};
use inshore_testkit::flight::{Raw, act, info, query_id, raw, run, statement, with_token};
use inshore_testkit::{Cluster, Lake};
use prost::Message;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(10);

async fn lake() -> Lake {
    let lake = Lake::new().await.unwrap();
    let query = "SELECT value AS id, 'n' || value AS name FROM generate_series(1, 100) AS s(value)";
    lake.create_table("s", "numbers", query, 1).await.unwrap();
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_closed_ones_make_room() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 0).await.unwrap();
    let client = raw(&cluster).await.unwrap();
    let set = |token: String| {
        let mut client = client.clone();
        async move {
            let action = Action::new("SetSessionOptions", vec![]);
            client.do_action(with_token(action, &token)).await
        }
    };
    let opened = futures::stream::iter((0..9_999).map(|n| Ok(format!("token-{n}"))));
    let opened = opened.try_for_each_concurrent(32, |token| async { set(token).await.map(|_| ()) });
    opened.await.unwrap();
    // The last one is that of this connection.
    let mut own = client.clone();
    assert!(run(&mut own, "SELECT 1").await.is_ok());
    let full = set("one-more".to_owned()).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{full:?}");
    assert!(full.message().contains("10000 sessions"), "{full:?}");
    // Those that are open work.
    let open = with_token(statement("SELECT 1"), "token-7");
    assert!(own.get_flight_info(open).await.is_ok());
    assert!(run(&mut own, "SELECT 1").await.is_ok());

    let close = Action::new("CloseSession", vec![]);
    let closed = client.clone().do_action(with_token(close, "token-8")).await;
    assert!(closed.is_ok());
    assert!(set("one-more".to_owned()).await.is_ok());
    cluster.stop().await;
}

/// Drivers carry changes out without fetching a result.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_fetches_take_no_room() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 0).await.unwrap();
    let client = raw(&cluster).await.unwrap();
    let changes = futures::stream::iter((0..10_050).map(Ok));
    let changed = changes.try_for_each_concurrent(32, |_| {
        let mut client = client.clone();
        async move {
            let info = info(&mut client, "USE lake.s").await?;
            assert_eq!(info.endpoint.len(), 1);
            Ok::<_, Status>(())
        }
    });
    changed.await.unwrap();
    let mut own = client.clone();
    assert!(run(&mut own, "USE lake.s").await.is_ok());
    assert!(run(&mut own, "SELECT 1").await.is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_forgotten_and_used_ones_are_not() {
    let lake = lake().await;
    let mut options = options(&lake, forced(), Topology::Cluster);
    options.session_idle = Duration::from_secs(2);
    let cluster = Cluster::start_as(&lake, 1, options).await.unwrap();
    let (mut used, mut busy) = (raw(&cluster).await.unwrap(), raw(&cluster).await.unwrap());
    let mut idle = raw(&cluster).await.unwrap();
    for client in [&mut used, &mut busy, &mut idle] {
        run(client, "USE lake.s").await.unwrap();
    }
    // One statement that takes longer than a session may be idle.
    let sql = "SELECT count(*) FROM numbers a, numbers b, numbers c, numbers d, numbers e \
               WHERE (a.id * b.id + c.id * d.id) % 7 = e.id % 5";
    let long = info(&mut busy, sql).await.unwrap();
    let mut fetcher = busy.clone();
    let given = inshore_testkit::flight::ticket(&long).unwrap();
    let running =
        tokio::spawn(async move { inshore_testkit::flight::fetch(&mut fetcher, given).await });
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        run(&mut used, "SELECT count(*) FROM numbers")
            .await
            .unwrap();
    }
    assert!(run(&mut busy, "SELECT count(*) FROM numbers").await.is_ok());
    let forgotten = run(&mut idle, "SELECT count(*) FROM numbers").await;
    assert_eq!(forgotten.unwrap_err().code(), Code::NotFound);
    cluster
        .rows(&format!("KILL '{}'", query_id(&long)))
        .await
        .unwrap();
    assert!(running.await.unwrap().is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_an_error() {
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 0).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let large = vec![b'x'; (64 << 20) + 1];
    let sent = act(&mut client, "SetSessionOptions", large.clone()).await;
    let error = sent.unwrap_err();
    let codes = [Code::OutOfRange, Code::ResourceExhausted];
    assert!(codes.contains(&error.code()), "{error:?}");
    let descriptor = FlightDescriptor::new_cmd(large);
    let error = client.get_flight_info(descriptor).await.unwrap_err();
    assert!(codes.contains(&error.code()), "{error:?}");
    let mut client = raw(&cluster).await.unwrap();
    assert!(run(&mut client, "SELECT 1").await.is_ok());
    cluster.stop().await;
}

/// Random numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.roll(120);
        (0..length).map(|_| self.byte()).collect()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }

    /// Something like `message`.
    fn mutated(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len() + 1);
            match self.roll(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 => bytes.extend(self.bytes()),
                _ if at < bytes.len() => bytes[at] = self.byte(),
                _ => {}
            }
        }
        bytes
    }
}

/// Every command, in its valid form.
fn commands() -> Vec<Any> {
    let handle = Bytes::from_static(b"a handle");
    let sql = || "SELECT 1".to_owned();
    vec![
        CommandStatementQuery {
            query: sql(),
            transaction_id: None,
        }
        .as_any(),
        CommandStatementUpdate {
            query: sql(),
            transaction_id: None,
        }
        .as_any(),
        CommandPreparedStatementQuery {
            prepared_statement_handle: handle.clone(),
        }
        .as_any(),
        CommandPreparedStatementUpdate {
            prepared_statement_handle: handle.clone(),
        }
        .as_any(),
        TicketStatementQuery {
            statement_handle: handle,
        }
        .as_any(),
        CommandStatementSubstraitPlan::default().as_any(),
        CommandStatementIngest {
            table: "t".to_owned(),
            schema: Some("s".to_owned()),
            ..CommandStatementIngest::default()
        }
        .as_any(),
        CommandGetCatalogs {}.as_any(),
        CommandGetDbSchemas {
            db_schema_filter_pattern: Some("%".to_owned()),
            ..CommandGetDbSchemas::default()
        }
        .as_any(),
        CommandGetTables {
            table_name_filter_pattern: Some("n_m%".to_owned()),
            include_schema: true,
            ..CommandGetTables::default()
        }
        .as_any(),
        CommandGetTableTypes {}.as_any(),
        CommandGetSqlInfo { info: vec![0, 8] }.as_any(),
        CommandGetXdbcTypeInfo { data_type: Some(4) }.as_any(),
        CommandGetPrimaryKeys::default().as_any(),
        CommandGetExportedKeys::default().as_any(),
        CommandGetImportedKeys::default().as_any(),
        CommandGetCrossReference::default().as_any(),
    ]
}

/// Every action, with a valid body where there is one.
fn actions() -> Vec<(&'static str, Vec<u8>)> {
    let handle = Bytes::from_static(b"a handle");
    let query = "SELECT 1".to_owned();
    let info = FlightInfo::new().with_app_metadata("an id");
    let cancel = CancelFlightInfoRequest {
        info: Some(info.clone()),
    };
    let packed = |any: Any| any.encode_to_vec();
    vec![
        (
            "CreatePreparedStatement",
            packed(
                ActionCreatePreparedStatementRequest {
                    query,
                    transaction_id: None,
                }
                .as_any(),
            ),
        ),
        (
            "ClosePreparedStatement",
            packed(
                ActionClosePreparedStatementRequest {
                    prepared_statement_handle: handle,
                }
                .as_any(),
            ),
        ),
        (
            "CreatePreparedSubstraitPlan",
            packed(ActionCreatePreparedSubstraitPlanRequest::default().as_any()),
        ),
        (
            "BeginTransaction",
            packed(ActionBeginTransactionRequest {}.as_any()),
        ),
        (
            "EndTransaction",
            packed(ActionEndTransactionRequest::default().as_any()),
        ),
        (
            "CancelQuery",
            packed(
                ActionCancelQueryRequest {
                    info: Bytes::from(info.encode_to_vec()),
                }
                .as_any(),
            ),
        ),
        ("CancelFlightInfo", cancel.encode_to_vec()),
        ("RenewFlightEndpoint", vec![10, 0]),
        ("SetSessionOptions", vec![10, 5, 10, 1, b'x', 18, 0]),
        ("GetSessionOptions", vec![]),
        ("CloseSession", vec![]),
        ("inshore.register", vec![]),
        ("inshore.heartbeat", vec![]),
        ("inshore.drain", vec![]),
        ("inshore.leave", vec![]),
        ("inshore.info", vec![]),
        ("inshore.cancel-query", vec![]),
        ("nothing", vec![]),
    ]
}

/// A call's answer, whatever it is, to its last message.
async fn answer<T>(
    what: &str,
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
) -> Result<(), Status> {
    let whole = async { call.await?.into_inner().try_collect::<Vec<_>>().await };
    let whole = tokio::time::timeout(PATIENCE, whole).await;
    whole
        .unwrap_or_else(|_| panic!("{what}: no answer"))
        .map(|_| ())
}

async fn single<T>(
    what: &str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<(), Status> {
    let whole = tokio::time::timeout(PATIENCE, call).await;
    whole
        .unwrap_or_else(|_| panic!("{what}: no answer"))
        .map(|_| ())
}

/// Sends `bytes` to everything that takes a command; the answers.
async fn send(client: &mut Raw, dice: &mut Dice, bytes: &[u8]) -> Vec<Result<(), Status>> {
    let what = format!("{bytes:?}");
    let cmd = || FlightDescriptor::new_cmd(bytes.to_vec());
    let data = |descriptor, dice: &mut Dice| FlightData {
        flight_descriptor: descriptor,
        data_header: dice.bytes().into(),
        app_metadata: dice.bytes().into(),
        data_body: dice.bytes().into(),
    };
    let (first, second) = (data(Some(cmd()), dice), data(None, dice));
    let bare = FlightData {
        flight_descriptor: Some(cmd()),
        ..FlightData::default()
    };
    let ticket = Ticket::new(bytes.to_vec());
    let handshake = HandshakeRequest {
        protocol_version: 0,
        payload: bytes.to_vec().into(),
    };
    let expression = bytes.to_vec().into();
    let iter = |messages: Vec<FlightData>| futures::stream::iter(messages);
    let mut other = client.clone();
    vec![
        single(&what, client.get_flight_info(cmd())).await,
        single(&what, client.poll_flight_info(cmd())).await,
        single(&what, client.get_schema(cmd())).await,
        answer(&what, client.do_get(ticket)).await,
        answer(&what, client.do_put(iter(vec![bare]))).await,
        answer(
            &what,
            client.do_put(iter(vec![first.clone(), second.clone()])),
        )
        .await,
        answer(&what, client.do_put(iter(vec![second.clone()]))).await,
        answer(&what, client.do_put(iter(vec![]))).await,
        answer(&what, client.do_exchange(iter(vec![first, second]))).await,
        answer(&what, client.list_flights(Criteria { expression })).await,
        answer(&what, other.handshake(futures::stream::iter([handshake]))).await,
    ]
}

/// The calls that were answered with a failure of the connection, which is what a panic looks like.
fn broken(answers: &[Result<(), Status>]) -> Vec<&Status> {
    let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
    errors
        .filter(|error| {
            let text = format!("{error:?}");
            text.contains("transport") || text.contains("h2 protocol") || text.contains("panic")
        })
        .collect()
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_errors_and_the_server_lives() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let lake = lake().await;
    let cluster = Cluster::start(&lake, 1).await.unwrap();
    let mut client = raw(&cluster).await.unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);

    // What decodes to nothing at all is refused everywhere.
    for bytes in [vec![0xff; 7], vec![7, 7, 7], b"SELECT 1".to_vec()] {
        let cmd = || FlightDescriptor::new_cmd(bytes.clone());
        let refused = [
            client.get_flight_info(cmd()).await.map(|_| ()),
            client.poll_flight_info(cmd()).await.map(|_| ()),
            client.get_schema(cmd()).await.map(|_| ()),
            client.do_get(Ticket::new(bytes.clone())).await.map(|_| ()),
        ];
        for refused in refused {
            let error = refused.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bytes:?}: {error:?}");
        }
    }
    for round in 0..6 {
        for command in commands() {
            let valid = command.encode_to_vec();
            let wrong_body = Any {
                value: dice.bytes().into(),
                ..command
            };
            for bytes in [
                dice.bytes(),
                wrong_body.encode_to_vec(),
                dice.mutated(&valid),
                dice.mutated(&valid),
            ] {
                let answers = send(&mut client, &mut dice, &bytes).await;
                let broken = broken(&answers);
                assert!(broken.is_empty(), "{bytes:?}: {broken:?}");
            }
        }
        for (kind, body) in actions() {
            let random = dice.bytes();
            for body in [dice.mutated(&body), dice.mutated(&random), random, body] {
                let action = Action::new(kind, body.clone());
                let answers = [answer(kind, client.do_action(action)).await];
                let broken = broken(&answers);
                assert!(broken.is_empty(), "{kind} {body:?}: {broken:?}");
            }
        }
        assert!(run(&mut client, "SELECT 1").await.is_ok(), "round {round}");
    }
    let mut fresh = raw(&cluster).await.unwrap();
    assert!(run(&mut fresh, "SELECT 1").await.is_ok());
    let counted = cluster
        .rows("SELECT count(*) FROM s.numbers")
        .await
        .unwrap();
    assert_eq!(counted, ["100"]);
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something panicked");
    cluster.stop().await;
}
